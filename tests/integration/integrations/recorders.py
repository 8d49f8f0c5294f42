"""What each recorder shows of the scenario: declared here, held to by its tests, and told in the docs by their runs.

A recorder's test runs the scenario, compares what is recorded with `expected` of its `Seen`, and hands it to `tell`,
which compares it with the recorder's row in the docs. With WRITE_TABLE=1 in the environment the row is
written instead:

    WRITE_TABLE=1 python -m pytest tests/integration/integrations -k scenario
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.integrations.scenario import EXPECTED, Shown

PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "index.md"
WRITE = "WRITE_TABLE"
CASES = tuple(dict.fromkeys(call.case for call in EXPECTED))
HEAD = f"| recorder | {' | '.join(CASES)} |"


@dataclass(frozen=True)
class Seen:
    """What a recorder shows of the scenario.

    Attributes:
        without: Cases it does not show.
        looks: Cases that look like another status to it.
    """

    without: tuple[str, ...] = ()
    looks: Mapping[str, str] = field(default_factory=dict)


_LANGCHAIN_SPANS = Seen(("unknown tool", "rejected", "cache hit"), {"edited": "ok"})
_STRANDS_SPANS = Seen(("rejected", "cache hit"), {"edited": "ok"})
_OTHER_SPANS = Seen(("unknown tool", "rejected"), {"edited": "ok", "cache hit": "ok"})

RECORDERS: dict[str, Seen] = {
    "Python, `model.tool`": Seen(("unknown tool",)),
    "LangChain, callback handler": Seen(("unknown tool", "rejected", "cache hit"), {"edited": "ok"}),
    "LangChain, callback handler and middleware": Seen(),
    "LangChain, middleware inside of retries": Seen(),
    "LangChain, middleware outside of retries": Seen(),
    "Strands, hook provider": Seen(looks={"cache hit": "ok"}),
    "Strands, hook provider with a guard": Seen(),
    "OpenAI Agents, hooks and spans": Seen(("edited",), {"cache hit": "rejected"}),
    "OpenAI Agents, hooks alone": Seen(("edited",), {"cache hit": "rejected"}),
    "OpenAI Agents, spans alone": Seen(("edited",), {"cache hit": "ok", "rejected": "interrupted"}),
    "Pydantic AI, capability": Seen(looks={"cache hit": "ok"}),
    "Pydantic AI, capability with a guard": Seen(),
    "Google ADK, plugin": Seen(looks={"rejected": "error", "edited": "ok", "cache hit": "ok"}),
    "Google ADK, plugin with a guard": Seen(),
    "Claude Agent SDK, client": Seen(looks={"cache hit": "ok"}),
    "Claude Agent SDK, client with a guard": Seen(),
    "CrewAI, hooks": Seen(looks={"edited": "ok"}),
    "CrewAI, hooks, calls in text": Seen(looks={"rejected": "ok", "edited": "ok"}),
    "CrewAI, hooks with a guard": Seen(),
    "spans of Strands": _STRANDS_SPANS,
    "spans of Strands, latest conventions": _STRANDS_SPANS,
    "spans of PydanticAI, version 5": _OTHER_SPANS,
    "spans of PydanticAI, version 2": _OTHER_SPANS,
    "spans of OpenInference, LangChain": _LANGCHAIN_SPANS,
    "spans of OpenLLMetry, LangChain": _LANGCHAIN_SPANS,
    "spans of both at once": _LANGCHAIN_SPANS,
    "spans of LangSmith's exporter": _LANGCHAIN_SPANS,
    "spans of OpenInference, OpenAI Agents": _OTHER_SPANS,
    "spans of OpenLLMetry, OpenAI Agents": _OTHER_SPANS,
}
"""In the order of the page."""


def tell(recorder: str, calls: Sequence[Shown]) -> None:
    """Compare what a real run gave with the recorder's row in the docs, or write that."""
    row = row_of(recorder, calls)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    if os.environ.get(WRITE):
        rows = {name_of(line): line for line in table(lines)} | {recorder: row}
        begin = lines.index(HEAD) + 2
        lines[begin : begin + len(table(lines))] = [rows[name] for name in RECORDERS if name in rows]
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert row in lines, f"{PAGE.name} says otherwise: {row}"


def table(lines: Sequence[str]) -> list[str]:
    """The rows of the table in a page."""
    rows = list(lines[lines.index(HEAD) + 2 :])
    return rows[: next((place for place, line in enumerate(rows) if not line.startswith("|")), len(rows))]


def row_of(recorder: str, calls: Sequence[Shown]) -> str:
    """A recorder's row: for each case the statuses of its calls, in their order."""
    found: dict[str, list[str]] = {case: [] for case in CASES}
    waiting = list(calls)
    for wanted in EXPECTED:  # a recorder leaves calls out; what it gives is in the order of the scenario
        if wanted.case not in RECORDERS[recorder].without and waiting and waiting[0].tool == wanted.tool:
            found[wanted.case].append(waiting.pop(0).status)
    assert not waiting, f"calls that the scenario does not have: {waiting}"
    cells = [", ".join(f"`{one}`" for one in dict.fromkeys(statuses)) or "not shown" for statuses in found.values()]
    return f"| {recorder} | {' | '.join(cells)} |"


def name_of(row: str) -> str:
    """The recorder that a row is of."""
    return row.split(" | ", maxsplit=1)[0].removeprefix("| ")
