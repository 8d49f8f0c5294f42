"""The tables that commands show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agentmodel.access.importing import Imported
from agentmodel.access.repository import SessionHistory
from agentmodel.cli._output import Output, printable
from agentmodel.cli._stations import Stations
from agentmodel.dynamo.models import Agent, UserSession
from agentmodel.exceptions import KeyFormatError
from agentmodel.keys import parse_time
from agentmodel.suggest.plan import Plan, Sure
from agentmodel.traces import BadLine

if TYPE_CHECKING:  # the reports load SQLAlchemy, which few commands need
    from agentmodel.redshift.reports import Pattern, ToolErrors, ToolFailures

__all__ = [
    "agents",
    "bad_lines",
    "errors",
    "imported",
    "moment",
    "patterns",
    "plan",
    "session",
    "sessions",
    "stations",
    "tools",
]

_BAD_LINES = 20  # that are named; the others are counted
_ROWS = 15  # of a long table


def agents(out: Output, domain: str, ranked: Sequence[Agent]) -> None:
    """The agents of a domain, best first."""
    rows = (
        (
            place, agent.agent_id, agent.name, agent.executions or 0, agent.successes or 0,
            _share(agent.successes, agent.executions), None if agent.last_run_at is None else agent.last_run_at.date(),
            agent.score, _evidence(agent),
        )
        for place, agent in enumerate(ranked, start=1)
    )  # fmt: skip
    columns = ("#>", "agent", "name", "executions>", "successes>", "rate>", "last run", "score>", "evidence (90 %)>")
    out.table(f"Agents of {printable(domain)}", columns, rows, empty="no agents yet")


def _evidence(agent: Agent) -> str | None:
    if agent.evidence is None:
        return None
    low, high = agent.evidence_low or 0.0, agent.evidence_high or 0.0
    return f"{agent.evidence:.2f} ({low:.2f} to {high:.2f})"


def _share(part: int | None, whole: int | None) -> str | None:
    return f"{(part or 0) / whole:.0%}" if whole else None


def tools(out: Output, failures: Iterable[ToolFailures]) -> None:
    """Tools that failed, most errors first."""
    failing = [each for each in failures if each.errors]
    rows = (
        (f.agent_id, f.tool_id, f.tool_name, f.calls, f.errors, f"{f.error_rate:.0%}", moment(f.last_error_at),
         f.last_message)
        for f in failing[:_ROWS]
    )  # fmt: skip
    columns = ("agent", "id", "tool", "calls>", "errors>", "rate>", "last error (UTC)", "which")
    title = "Tools that fail" + (f" (the first {_ROWS} of {len(failing)})" if len(failing) > _ROWS else "")
    out.table(title, columns, rows, empty="no tool failed")


def moment(text: str | None) -> datetime | str | None:
    """A time of the table for people; as it is stored when it is none."""
    if text is None:
        return None
    try:
        return parse_time(text)
    except KeyFormatError:
        return text


def errors(out: Output, found: Iterable[ToolErrors]) -> None:
    """Agents whose tools failed."""
    rows = ((e.agent_id, e.agent_name, e.executions, e.errors, f"{e.error_rate:.0%}", ", ".join(e.failed_tools))
            for e in found)  # fmt: skip
    columns = ("agent", "name", "calls>", "errors>", "rate>", "tools that failed")
    out.table("Tool errors by agent", columns, rows, empty="no tool failed")


def patterns(out: Output, found: Iterable[Pattern]) -> None:
    """Sequences of tools, each user's best first."""
    rows = (
        (p.user_id, p.category, p.agent_id, p.tool_sequence, p.executions, p.successes, p.score, p.last_used,
         p.recommended)
        for p in found
    )  # fmt: skip
    columns = ("user", "category", "agent", "tools", "executions>", "successes>", "score>", "last used", "recommended")
    out.table("Patterns", columns, rows, empty="no patterns yet")


def plan(out: Output, suggested: Plan) -> None:
    """What is suggested, with the reasons."""
    asked = suggested.category or suggested.request or suggested.domain_id
    agent = "no agent" if suggested.agent_id is None else f"{suggested.agent} ({suggested.agent_id})"
    out.line(printable(f"Plan for {suggested.user_id}, {asked}: {agent} [{suggested.source}]"))
    for line in _plan_lines(suggested):
        out.line(printable(line))
    out.line()


def _plan_lines(suggested: Plan) -> Iterator[str]:
    """The steps, how sure they are, why, what to avoid, what else."""
    for number, step in enumerate(suggested.steps, start=1):
        seen = "" if step.success_share is None else f", {step.success_share:.0%} of {step.calls} calls succeeded"
        yield f"{number}. {step.process}: {step.tool} ({step.agent_id}, {step.tool_id}){seen}"
    if suggested.sure is not None:
        yield f"sure: {_sure(suggested.sure)}"
    yield from (f"why: {reason}" for reason in suggested.reasons)
    for avoid in suggested.avoid:
        yield f"avoid: {avoid.tool} of {avoid.agent_id}: {avoid.reason}"
    for other in suggested.alternatives:
        way = f", {' -> '.join(other.tools)}" if other.tools else ""
        yield f"or: {other.agent} ({other.agent_id}){way}: {_sure(other.sure)} [{other.source}]"
    yield from (f"ask a person first: {reason}" for reason in suggested.review_reasons)


def _sure(sure: Sure) -> str:
    return f"{sure.mean:.0%} ({sure.low:.0%} to {sure.high:.0%})"


def sessions(out: Output, user_id: str, found: Iterable[UserSession], cursor: str | None) -> None:
    """The sessions of a user, newest first."""
    rows = (
        (s.session_id, s.started_at, s.category, s.request or s.name,
         s.succeeded if s.corrected is None else s.corrected)
        for s in found
    )  # fmt: skip
    columns = ("session", "started (UTC)", "category", "request", "succeeded")
    out.table(f"Sessions of {user_id}, newest first", columns, rows, empty="no sessions yet")
    if cursor is not None:
        out.line(f"more: --cursor {cursor}")


def session(out: Output, session_id: str, history: SessionHistory) -> None:
    """The steps and calls of a session."""
    names = {process.process_id: process.name for process in history.processes}
    rows = (
        (e.call_number, e.process_id, names.get(e.process_id), e.agent_id, e.tool_name, e.attempt, e.succeeded,
         e.duration_ms, e.executed_at, e.result)
        for e in history.executions
    )  # fmt: skip
    columns = ("call>", "process", "step", "agent", "tool", "attempt>", "succeeded", "ms>", "at (UTC)", "result")
    out.table(f"Calls of {session_id}", columns, rows, empty="no calls yet")


def stations(out: Output, counts: Stations) -> None:
    """Where each thing lies."""
    rows: list[tuple[str, str, object]] = []
    for name, value in (counts.cache or {"no journal": "AGENTMODEL_VALKEY_URL is not set"}).items():
        rows.append(("cache (Valkey)", f"journal: {name}" if counts.cache else name, _number(value)))
    rows.append(("dynamo (DynamoDB)", "items", _number(counts.dynamo["items"])))
    rows += [
        ("dynamo (DynamoDB)", f"  {kind}", _number(items)) for kind, items in (counts.dynamo["entities"] or {}).items()
    ]
    for name, value in (counts.redshift or {}).items():
        rows.append(("redshift (warehouse)", name, _number(value)))
    if counts.redshift is None:
        rows.append(("redshift (warehouse)", "none", "AGENTMODEL_WAREHOUSE_URL is not set"))
    rows += [("suggest (published)", name, _number(value)) for name, value in counts.suggest.items()]
    out.table("Where everything lies", ("station", "what", "how many>"), _once(rows))


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def _once(rows: Iterable[tuple[str, str, object]]) -> Iterable[tuple[str, str, object]]:
    """The station's name in its first row only."""
    before = ""
    for station, what, value in rows:
        yield (" " if station == before else station), what, value
        before = station


def bad_lines(out: Output, bad: Sequence[BadLine]) -> None:
    """Lines that were refused, on stderr."""
    for line in bad[:_BAD_LINES]:
        out.note(f"refused: {printable(line)}")
    if len(bad) > _BAD_LINES:
        out.note(f"refused: {len(bad) - _BAD_LINES} more lines")


def imported(out: Output, done: Imported) -> None:
    """What an import did."""
    again = f", {done.repeated} of them were there already" if done.repeated else ""
    out.line(f"imported {done.lines} calls of {done.sessions} sessions{again}")
    if done.made:
        made = ", ".join(f"{number} {kind}" for kind, number in sorted(done.made.items()))
        out.line(f"made in the catalogue: {made}")
    if done.bad:
        out.line(f"refused {len(done.bad)} lines")
