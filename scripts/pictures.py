"""Draw the pictures of docs/contributing/architecture.md: the steps of a call, of a refresh and of a request.

Each step is in the column of its station, with the file that does it. With `--check` it compares with the stored files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs" / "contributing"
COLUMNS = ("application", "access", "cache · Valkey", "dynamo · DynamoDB", "redshift", "suggest")
WIDTH, HEIGHT, GAP, TOP = 190, 58, 26, 64  # pixels: width of a column, height of a box, gap of rows, height of the head

STYLE = """<style>
.page{fill:#ffffff}.head{fill:#1f2937;font-weight:600}.lane{fill:#f3f4f6}
.box{fill:#ffffff;stroke:#4051b5;stroke-width:1.5}
.what{fill:#111827}.file{fill:#4b5563;font-size:11px;font-family:ui-monospace,monospace}
.way{fill:none;stroke:#4051b5;stroke-width:1.5}.tip{fill:#4051b5}.later{stroke-dasharray:5 4}
@media (prefers-color-scheme: dark){.page{fill:#1e2129}.head{fill:#e5e7eb}.lane{fill:#262a33}
.box{fill:#1e2129;stroke:#8c9eff}
.what{fill:#f3f4f6}.file{fill:#b6bdc9}.way{stroke:#8c9eff}.tip{fill:#8c9eff}}
</style>"""


class Step(NamedTuple):
    """A step: its column, what happens, the file that does it, and whether the caller does not wait for it."""

    column: int
    what: str
    file: str
    later: bool = False


PICTURES: dict[str, tuple[str, list[Step]]] = {
    "call": (
        "The way of one recorded call",
        [
            Step(0, "with process.call(…)", "your code"),
            Step(1, "1 entity, call id, version", "recorder.py"),
            Step(1, "2 journal entry, number", "_history_writer.py"),
            Step(2, "3 journal and overlay", "journal.py · _lua.py"),
            Step(1, "4 receipt", "_receipt.py"),
            Step(5, "5 health, suggestions", "health/ · plan/", later=True),
            Step(2, "6 a drainer takes entries", "_consumer_group.py", later=True),
            Step(1, "7 puts with conditions", "_journal_sink.py", later=True),
            Step(1, "8 next free number", "_numbered_writer.py", later=True),
            Step(2, "9 acknowledge", "_consumer_group.py", later=True),
        ],
    ),
    "refresh": (
        "The way of one refresh and publish",
        [
            Step(0, "model.refresh()", "client.py"),
            Step(4, "1 scan, stream, export", "ingest.py · _feeds.py"),
            Step(4, "2 land what is new", "_duckdb_landing.py"),
            Step(4, "3 changes, base tables", "_base_tables_sql.py"),
            Step(4, "4 executions, patterns", "_executions_sql.py"),
            Step(4, "5 scores", "score.py · _refresh_sql.py"),
            Step(0, "model.publish()", "client.py"),
            Step(4, "6 read scores and patterns", "reports.py"),
            Step(5, "7 lease: only the newest run", "publish/_fencing.py"),
            Step(3, "8 agents, tools, mappings", "writer.py"),
            Step(2, "9 replace the leaderboard", "leaderboard.py"),
            Step(5, "10 retention of history", "publish/_retention.py"),
        ],
    ),
    "request": (
        "The way of one request",
        [
            Step(0, "model.suggest(user, …)", "client.py"),
            Step(5, "1 find a mapping", "plan/_planner.py"),
            Step(1, "2 access patterns", "repository.py"),
            Step(2, "3 cached results", "read_through.py"),
            Step(3, "4 what is not cached", "table.py"),
            Step(5, "5 avoid failing tools", "health/_monitor.py"),
            Step(5, "6 keep the suggestion", "plan/_suggestion_log.py"),
            Step(0, "prompt, then a tool call", "your code"),
            Step(5, "7 go, cached, block, ask", "guard/_guard.py"),
            Step(5, "8 a person decides", "review/_reviews.py"),
            Step(5, "9 carry the decision out", "guard/_enforcer.py"),
            Step(0, "the tool runs", "tools/ · integrations/"),
        ],
    ),
}


def drawn(title: str, steps: list[Step]) -> str:
    """Return the picture of some steps as SVG."""
    columns = sorted({step.column for step in steps})
    left = {column: 10 + place * (WIDTH + 14) for place, column in enumerate(columns)}
    wide = 10 + len(columns) * (WIDTH + 14) - 4
    high = TOP + len(steps) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"',
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{title}</title>",
        STYLE,
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">',
        '<path class="tip" d="M0 0 10 5 0 10z"/></marker></defs>',
        f'<rect class="page" width="{wide}" height="{high}"/>',
    ]
    for column in columns:
        x = left[column]
        parts.append(f'<rect class="lane" x="{x}" y="10" width="{WIDTH}" height="{high - 20}" rx="8"/>')
        parts.append(f'<text class="head" x="{x + WIDTH / 2}" y="38" text-anchor="middle">{COLUMNS[column]}</text>')
    for row, step in enumerate(steps):
        x, y = left[step.column] + 6, TOP + row * (HEIGHT + GAP)
        middle = x + (WIDTH - 12) / 2
        if row:
            before = left[steps[row - 1].column] + WIDTH / 2
            dashed = " later" if step.later else ""
            bend = y - GAP / 2
            parts.append(
                f'<path class="way{dashed}" d="M{before} {y - GAP} V{bend} H{middle} V{y - 2}" marker-end="url(#tip)"/>'
            )
        dashed = " later" if step.later else ""
        parts.append(f'<rect class="box{dashed}" x="{x}" y="{y}" width="{WIDTH - 12}" height="{HEIGHT}" rx="6"/>')
        parts.append(f'<text class="what" x="{middle}" y="{y + 24}" text-anchor="middle">{step.what}</text>')
        parts.append(f'<text class="file" x="{middle}" y="{y + 43}" text-anchor="middle">{step.file}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Write the pictures, or with `--check` compare them and return 1 if one differs."""
    stale = []
    for name, (title, steps) in PICTURES.items():
        path, picture = DOCS / f"{name}.svg", drawn(title, steps)
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != picture:
                stale.append(path.name)
        else:
            path.write_text(picture, encoding="utf-8")
    if stale:
        print(f"error: out of date: {', '.join(stale)}; run `python scripts/pictures.py`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
