"""Render the reports as one HTML page with charts, for operators; it opens offline and runs no script.

Every chart has a table beside it. The figures of both are those of `agentmodel.redshift.reports`. The page is built as
a tree of elements, so the writer escapes all data in it. It refers to no other file or host, and a content policy in
its head forbids a browser to load anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Final, TypeAlias
from xml.etree import ElementTree as ET

from sqlalchemy import select

from agentmodel.exceptions import ValidationError
from agentmodel.redshift import _charts as charts
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift.warehouse import Warehouse, day_of

__all__ = ["report"]

_CHART_ROWS: Final = 20
"""The most rows of a chart; its table has more."""

_CHART_DAYS: Final = 366

_STYLE: Final = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f7f9; --ink: #1c2230; --quiet: #586174; --line: #dde1e8;
  --one: #2a6db0; --two: #c2551d }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1a1e26; --ink: #e8ebf0; --quiet: #9da7b6;
  --line: #313845; --one: #6aabec; --two: #f09560 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 92rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 0.95rem/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", "Apple SD Gothic Neo",
  "Malgun Gothic", sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.25rem } h3 { margin: 1.25rem 0 0.5rem }
p { margin: 0.25rem 0 0.75rem; color: var(--quiet); max-width: 60rem }
dl { display: flex; flex-wrap: wrap; gap: 0.75rem; margin: 1.25rem 0 0 }
dl div { background: var(--card); border-radius: 0.5rem; padding: 0.5rem 1rem; min-width: 8rem }
dt { color: var(--quiet) } dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.pair { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 1.5rem; align-items: start }
@media (max-width: 60rem) { .pair { grid-template-columns: minmax(0, 1fr) } }
figure { margin: 0 } svg { width: 100%; height: auto; display: block } svg text { font-family: inherit }
figcaption { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; color: var(--quiet); margin-bottom: 0.5rem }
.key { display: inline-block; width: 0.75rem; height: 0.75rem; border-radius: 0.15rem; margin-right: 0.4rem }
.one { background: var(--one) } .two { background: var(--two) }
.table { overflow: auto; max-height: 28rem; border: 1px solid var(--line); border-radius: 0.5rem }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: 0.4rem 0.7rem; color: var(--quiet) }
th, td { padding: 0.3rem 0.6rem; text-align: left; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; word-break: keep-all; max-width: 22rem }
thead th { position: sticky; top: 0; background: var(--card); white-space: nowrap }
.number { text-align: right; white-space: nowrap }
"""

_WrongSteps: TypeAlias = tuple[str, str, str, str, int]
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def report(warehouse: Warehouse, *, as_of: date, rows: int = 500, wrong_steps: Sequence[_WrongSteps] = ()) -> str:
    """Return the reports as the text of one HTML page.

    Args:
        warehouse: A refreshed warehouse; an empty one gives a page without charts.
        as_of: The day to score for; of an aware datetime, its day in UTC.
        rows: The most rows of each table; the page states how many it leaves out.
        wrong_steps: Where failed runs went wrong, most first: domain, category, what is known, tool, runs.

    Raises:
        ValidationError: ``rows`` is below 1.
        MissingExtraError: matplotlib is not installed.

    >>> from datetime import date
    >>> page = report(model.warehouse, as_of=date(2026, 1, 1))
    >>> page[:15], "map agent" in page
    ('<!doctype html>', True)
    """
    if rows < 1:
        raise ValidationError("rows", rows, "must be a whole number from 1 up")
    day = day_of(as_of)
    ranking = reports.agent_ranking(warehouse, as_of=day)
    names = {row.agent_id: row.agent_name for row in ranking}
    daily = reports.executions_per_day(warehouse)
    tokens = reports.tokens_per_tool(warehouse)
    body = _element(
        "body",
        _element(
            "header",
            _element("h1", "What the agents did, and what worked"),
            _element("p", f"As of {day.isoformat()}."),
            _totals(daily, tokens),
        ),
        _element(
            "main",
            _ranking(warehouse, ranking, rows),
            _patterns(reports.recommended_patterns(warehouse, as_of=day), names, rows),
            _errors(reports.tool_errors(warehouse), rows),
            _wrong_steps(wrong_steps, rows),
            _days(daily, day, rows),
            _tokens(tokens, names, rows),
            _costs(reports.costs(warehouse), names, rows),
        ),
    )
    head = _element(
        "head",
        _element("meta", charset="utf-8"),
        _element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        _element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _element("title", f"agentmodel, as of {day.isoformat()}"),
        _element("style", _STYLE),
    )
    page = _element("html", head, body, lang="en")
    return f"<!doctype html>\n{ET.tostring(page, encoding='unicode', method='html')}\n"


# -- the parts --------------------------------------------------------------------------------------------------------


def _totals(daily: Sequence[reports.DayExecutions], tokens: Sequence[reports.ToolTokens]) -> ET.Element:
    executions = sum(row.executions for row in daily)
    successes = sum(row.successes for row in daily)
    figures = {
        "agents": f"{len({row.agent_id for row in daily}):,}",
        "executions": f"{executions:,}",
        "succeeded": f"{successes / executions:.0%}" if executions else "–",
        "tool calls": f"{sum(row.calls for row in tokens):,}",
    }
    return _element(
        "dl", *(_element("div", _element("dt", name), _element("dd", text)) for name, text in figures.items())
    )


def _ranking(warehouse: Warehouse, ranking: Sequence[reports.AgentScore], rows: int) -> ET.Element:
    domain_names = dict(warehouse.read(select(m.DomainRow.domain_id, m.DomainRow.name)))
    parts: list[ET.Element] = []
    for domain_id in dict.fromkeys(row.domain_id for row in ranking):
        agents = [row for row in ranking if row.domain_id == domain_id]
        name = domain_names.get(domain_id) or domain_id
        best = agents[:_CHART_ROWS]
        chart = charts.scores(
            [row.agent_name for row in best],
            [row.score for row in best],
            [row.evidence for row in best],
            [(row.evidence_low, row.evidence_high) for row in best],
            label=f"Scores of the agents of {name}, and their success rate after evidence",
        )
        legend = _legend(("score", "one"), ("success rate after evidence, 0 to 1, with its 90 % interval", "two"))
        cells = (
            (row.rank, row.agent_name, row.executions, f"{row.success_rate:.0%}", row.last_execution,
             f"{row.score:,.2f}", f"{row.evidence:.2f} ({row.evidence_low:.2f}–{row.evidence_high:.2f})")
            for row in agents[:rows]
        )  # fmt: skip
        columns = ("#>", "agent", "executions>", "succeeded>", "last on>", "score>", "evidence (90 %)>")
        table = _table(f"Agents of {name}", columns, cells, left_out=len(agents) - rows)
        parts += [_element("h3", name), _pair(chart, legend, table)]
    return _section(
        "Which agent",
        "Score = executions × exp(−0.1 × days since the last) × (share that succeeded)². It rewards volume. "
        "Beside it is the success rate after evidence, with its 90 % interval.",
        parts,
    )


def _patterns(found: Sequence[reports.RecommendedPattern], names: dict[str, str], rows: int) -> ET.Element:
    best = sorted(found, key=lambda row: -row.score)[:_CHART_ROWS]  # stable: equal scores keep the report's order
    parts = []
    if found:
        chart = charts.bars(
            [f"{row.user_id} · {row.category or '–'}" for row in best],
            [charts.Series("(score)", "one", [row.score for row in best])],
            label="The recommended sequences with the highest scores",
        )
        cells = (
            (row.user_id, row.category or "–", names.get(row.agent_id, row.agent_id),
             " → ".join(step.tool_name for step in row.steps), row.executions, f"{row.success_rate:.0%}",
             f"{row.score:,.2f}")
            for row in found[:rows]
        )  # fmt: skip
        columns = ("user", "category", "agent", "tools in order", "executions>", "succeeded>", "score>")
        table = _table("Recommended, each user's best first", columns, cells, left_out=len(found) - rows)
        parts = [_pair(chart, _legend((f"score of the best {len(best)}, by user and category", "one")), table)]
    return _section(
        "Which steps, for whom",
        "Sequences of tools that succeeded, from the 80th percentile of their own user and category up.",
        parts,
    )


def _errors(found: Sequence[reports.ToolErrors], rows: int) -> ET.Element:
    parts = []
    if found:
        worst = found[:_CHART_ROWS]
        chart = charts.bars(
            [row.agent_name for row in worst],
            [
                charts.Series("failed", "two", [row.errors for row in worst]),
                charts.Series("successful", "one", [row.executions - row.errors for row in worst]),
            ],
            label="Failed and successful tool calls, by agent",
        )
        cells = (
            (row.agent_name, row.errors, row.executions, f"{row.error_rate:.1%}", ", ".join(row.failed_tools))
            for row in found[:rows]
        )
        columns = ("agent", "failed>", "calls>", "rate>", "tools that failed")
        table = _table("Most errors first", columns, cells, left_out=len(found) - rows)
        parts = [_pair(chart, _legend(("failed calls", "two"), ("successful calls", "one")), table)]
    return _section("Which tools fail", "Calls of each agent's tools; every attempt is a call.", parts)


def _wrong_steps(found: Sequence[_WrongSteps], rows: int) -> ET.Element:
    cells = (
        (domain, category or "–", answer, tool or "–", runs) for domain, category, answer, tool, runs in found[:rows]
    )
    columns = ("domain", "category", "what is known", "tool", "runs>")
    table = _table("Most runs first in each domain", columns, cells, left_out=len(found) - rows)
    return _section(
        "Where failed runs went wrong",
        "Each failed run is compared with the successes of its user and category: the first write that none of them "
        "made, else a write that all of them made and it did not, else the last call that failed for good.",
        [table] if found else [],
    )


def _days(daily: Sequence[reports.DayExecutions], as_of: date, rows: int) -> ET.Element:
    executions: Counter[date | None] = Counter()
    successes: Counter[date | None] = Counter()
    for row in daily:
        executions[row.day] += row.executions
        successes[row.day] += row.successes
    dated = sorted(day for day in executions if day is not None)
    parts: list[ET.Element] = []
    if executions:
        newest: list[date | None] = [*reversed(dated), *([None] if None in executions else [])]
        cells = (
            (day or "without a time", executions[day], successes[day], f"{successes[day] / executions[day]:.0%}")
            for day in newest[:rows]
        )
        columns = ("day", "executions>", "succeeded>", "share>")
        table = _table("Newest first", columns, cells, left_out=len(newest) - rows)
        parts = [
            _pair(_year(dated, as_of, executions, successes), _legend(("succeeded", "one"), ("did not", "two")), table)
        ]
    return _section(
        "Executions per day",
        "An execution is one agent in one session of a user; its day is that of its last call. The chart shows the "
        "year up to the day of this report.",
        parts,
    )


def _year(
    dated: Sequence[date], as_of: date, executions: Counter[date | None], successes: Counter[date | None]
) -> ET.Element | None:
    """Draw the year up to the day of the report: a wrong date may lie in any year, and would stretch the chart."""
    within = [day for day in dated if timedelta(0) <= as_of - day < timedelta(_CHART_DAYS)]
    if not within:
        return None
    every = [within[0] + timedelta(days=number) for number in range((within[-1] - within[0]).days + 1)]
    return charts.days(
        every[0],
        [
            charts.Series("succeeded", "one", [successes[day] for day in every]),
            charts.Series("did not", "two", [executions[day] - successes[day] for day in every]),
        ],
        label=f"Executions per day from {every[0]} to {every[-1]}",
    )


def _tokens(found: Sequence[reports.ToolTokens], names: dict[str, str], rows: int) -> ET.Element:
    parts = []
    if found:
        most = [row for row in found if row.input_tokens + row.output_tokens][:_CHART_ROWS]
        chart = None
        if most:
            chart = charts.bars(
                [f"{row.tool_name} · {names.get(row.agent_id, row.agent_id)}" for row in most],
                [
                    charts.Series("tokens in", "one", [row.input_tokens for row in most]),
                    charts.Series("tokens out", "two", [row.output_tokens for row in most]),
                ],
                label="Tokens by tool and agent",
            )
        cells = (
            (names.get(row.agent_id, row.agent_id), row.tool_name, row.calls, f"{row.input_tokens:,}",
             f"{row.output_tokens:,}", row.priced, _money(row.cost))
            for row in found[:rows]
        )  # fmt: skip
        columns = ("agent", "tool", "calls>", "tokens in>", "tokens out>", "of known cost>", "cost>")
        table = _table("Most tokens first", columns, cells, left_out=len(found) - rows)
        parts = [_pair(chart, _legend(("tokens in", "one"), ("tokens out", "two")), table)]
    return _section("Tokens", "Tokens of the messages that called a tool, where they were recorded.", parts)


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:,.6f}"


def _costs(found: Sequence[reports.AgentCost], names: dict[str, str], rows: int) -> ET.Element:
    parts = []
    if any(row.priced for row in found):
        cells = (
            (names.get(row.agent_id, row.agent_id), row.model_name or "not told", row.calls, row.priced,
             _money(row.cost))
            for row in found[:rows]
        )  # fmt: skip
        columns = ("agent", "model", "calls>", "of known cost>", "cost>")
        parts = [_table("Dearest first", columns, cells, left_out=len(found) - rows)]
    return _section("Costs", "What models cost, by the prices as of the last refresh, where they are known.", parts)


# -- elements ---------------------------------------------------------------------------------------------------------


def _element(tag: str, *children: ET.Element | str, **attributes: str) -> ET.Element:
    element = ET.Element(tag, {name.rstrip("_").replace("_", "-"): _clean(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + _clean(child)
        else:
            element.text = (element.text or "") + _clean(child)
    return element


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _clean(text: str) -> str:
    """Replace the characters that an HTML page must not contain."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _section(title: str, sentence: str, parts: Sequence[ET.Element]) -> ET.Element:
    shown = list(parts) or [_element("p", "No data yet.")]
    return _element("section", _element("h2", title), _element("p", sentence), *shown)


def _pair(chart: ET.Element | None, legend: ET.Element, table: ET.Element) -> ET.Element:
    """Put a chart with its legend beside a table."""
    figure = _element("p", "No data to draw.") if chart is None else _element("figure", legend, chart)
    return _element("div", figure, table, class_="pair")


def _legend(*entries: tuple[str, str]) -> ET.Element:
    shown = (_element("span", _element("span", class_=f"key {colour}"), text) for text, colour in entries)
    return _element("figcaption", *shown)


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left_out: int) -> ET.Element:
    """Return a table; a column whose name ends in ``>`` holds numbers, and is aligned to the right."""
    numbers = [column.endswith(">") for column in columns]
    titles = (_cell("th", column.rstrip(">"), number) for column, number in zip(columns, numbers, strict=True))
    head = _element("tr", *titles)
    for cell in head:
        cell.set("scope", "col")
    body = (
        _element("tr", *(_cell("td", value, number) for value, number in zip(row, numbers, strict=True)))
        for row in rows
    )
    text = f"{caption} (without the last {left_out:,})" if left_out > 0 else caption
    table = _element("table", _element("caption", text), _element("thead", head), _element("tbody", *body))
    return _element("div", table, class_="table", tabindex="0", role="region", aria_label=caption)


def _cell(tag: str, value: Any, number: bool) -> ET.Element:
    text = "–" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)
    return _element(tag, text, **({"class_": "number"} if number else {}))
