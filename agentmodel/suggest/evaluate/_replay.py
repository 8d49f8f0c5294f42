"""Runs of agents that are replayed in time order, from trace files or from the warehouse."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmodel._values.outcomes import ReportedOutcome, check_outcome, trusted
from agentmodel.exceptions import ValidationError
from agentmodel.keys import parse_time
from agentmodel.suggest._sequences import total_distances
from agentmodel.traces import TraceOutcome, TraceRecord, outcome, read_all

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = [
    "ReplayedCall",
    "ReplayedRun",
    "by_domain",
    "planned",
    "runs_from_traces",
    "runs_from_warehouse",
    "task_of",
    "training_runs",
]

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReplayedCall:
    """One call of a run, each attempt by itself.

    Attributes:
        tool: The tool's name.
        arguments: Its arguments, as JSON with sorted names; as they were stored where that is no JSON.
        succeeded: Whether it succeeded.
        result: Digest of its result as it was recorded.

    >>> call = ReplayedCall("find_on_map", '{"place": "park"}', succeeded=True)
    >>> call.tool, call.succeeded
    ('find_on_map', True)
    """

    tool: str
    arguments: str
    succeeded: bool
    result: str = ""


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """One session of a user with one agent.

    Attributes:
        domain: The domain of the agent.
        agent: The agent.
        user: The user.
        category: The kind of request, typed or, in the warehouse, derived from the request; empty where it has none.
        at: When the run began; None where no time is known. Such runs count as earlier than all others.
        tools: The tools that were called, in order, with those that the cache answered. Retries of a call are left out,
            and so are other calls that count in no score.
        succeeded: Whether the run succeeded.
        request: What was asked for; empty where it is not known.
        session: The session.
        calls: Every call that was made or answered from the cache, in order.

    >>> run = ReplayedRun("search", "finder", "mina", "cafe search", None, ("find_on_map",), True)
    >>> run.day, run.calls
    (None, ())
    """

    domain: str
    agent: str
    user: str
    category: str
    at: datetime | None
    tools: tuple[str, ...]
    succeeded: bool
    request: str = ""
    session: str = ""
    calls: tuple[ReplayedCall, ...] = ()

    @property
    def day(self) -> date | None:
        """Return the day the run began; None where no time is known."""
        return None if self.at is None else self.at.date()


@dataclass(slots=True)
class _Collected:
    record: TraceRecord
    calls: list[TraceRecord] = field(default_factory=list)


def runs_from_traces(paths: Iterable[str | Path], *, timezone: str = "UTC") -> list[ReplayedRun]:
    """Return the runs in trace files: those with a call that counts in scores.

    Args:
        paths: The trace files; see `agentmodel.traces`.
        timezone: The time zone of times that have none.

    Raises:
        ValidationError: A file cannot be read, or a line is no trace record.

    >>> line = '{"domain": "d", "agent": "a", "session": "s-1", "step": 1, "tool": "search", "success": true}'
    >>> _ = (folder / "runs.jsonl").write_text(line)
    >>> (run,) = runs_from_traces([folder / "runs.jsonl"])
    >>> run.agent, run.tools, run.succeeded
    ('a', ('search',), True)
    """
    found: dict[tuple[str, str, str | None, str], _Collected] = {}
    said: dict[tuple[str, str | None, str], list[TraceOutcome]] = defaultdict(list)
    for path in paths:
        for record in read_all(path, timezone=timezone, strict=True):
            if isinstance(record, TraceOutcome):
                said[record.domain, record.user, record.session].append(record)
            if not isinstance(record, TraceRecord):
                continue
            if outcome(record.status, record.success) is None and record.status != "cache_hit":
                continue
            key = (record.domain, record.agent, record.user, record.session)
            found.setdefault(key, _Collected(record)).calls.append(record)
    made = ((_run(each), key) for key, each in found.items())
    return [_as_said(run, said[domain, user, session]) for run, (domain, _, user, session) in made if run is not None]


def _as_said(run: ReplayedRun, outcomes: Iterable[TraceOutcome]) -> ReplayedRun:
    """Return the run with its most trusted outcome from outside, if it has one."""
    best = trusted(
        ReportedOutcome(
            one.outcome.source,
            check_outcome(one.outcome.success, one.outcome.score, source=one.outcome.source)[0],
            one.agent is not None,
            one.outcome.at,
        )
        for one in outcomes
        if one.agent in (None, run.agent)
    )
    return run if best is None else replace(run, succeeded=best)


def _run(collected: _Collected) -> ReplayedRun | None:
    first = collected.record
    calls = sorted(collected.calls, key=lambda call: call.step)
    times = [call.started_at for call in calls if call.started_at is not None]
    last: dict[tuple[int, str], bool | None] = {}
    for call in calls:
        made = outcome(call.status, call.success)
        last[call.step, call.tool] = last.get((call.step, call.tool)) if made is None else made
    outcomes = [made for made in last.values() if made is not None]
    if not outcomes:
        return None
    outcome_of_session = next((call.session_success for call in calls if call.session_success is not None), None)
    return ReplayedRun(
        domain=first.domain,
        agent=first.agent,
        user=first.user or "",
        category=first.category or "",
        at=min(times, default=None),
        tools=tuple(tool for _, tool in last),
        succeeded=all(outcomes) if outcome_of_session is None else outcome_of_session,
        request=first.request or "",
        session=first.session,
        calls=tuple(
            ReplayedCall(call.tool, _sorted(call.arguments), call.success, _digest(call.result)) for call in calls
        ),
    )


def _sorted(arguments: Any) -> str:
    """Return arguments, or the text that was stored of them, as JSON with sorted names."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return str(arguments)
    return json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def _digest(result: Any) -> str:
    return hashlib.blake2b(str(result).encode(errors="replace"), digest_size=8).hexdigest()


def runs_from_warehouse(warehouse: Warehouse) -> list[ReplayedRun]:
    """Return the runs in a refreshed warehouse, also those that DynamoDB's TTL has deleted from the table.

    >>> runs = runs_from_warehouse(model.warehouse)
    >>> [(run.agent, run.tools, run.succeeded) for run in runs if run.user == "USR001"]
    [('AGT001', ('find_on_map',), True), ('AGT001', ('find_on_map',), False), ('AGT001',
    ('find_on_map',), False)]
    """
    from sqlalchemy import and_, func

    from agentmodel.redshift import models as m
    from agentmodel.redshift import reports
    from agentmodel.redshift.models import rows_of

    e, s, h, a = m.AgentExecution, m.UserSessionRow, m.UserToolMappingHist, m.AgentRow
    began = (
        rows_of(h.user_id, h.session_id, h.agent_id, func.min(h.time).label("time"))
        .group_by(h.user_id, h.session_id, h.agent_id)
        .subquery("began")
    )
    rows = (
        rows_of(
            a.domain_id, e.agent_id, e.user_id, e.category, func.coalesce(began.c.time, s.started), e.tool_sequence,
            e.succeeded, e.session_id,
        )
        .join(a, a.agent_id == e.agent_id)
        .outerjoin(s, and_(s.user_id == e.user_id, s.session_id == e.session_id))
        .outerjoin(
            began,
            and_(began.c.user_id == e.user_id, began.c.session_id == e.session_id, began.c.agent_id == e.agent_id),
        )
        .where(a.domain_id.is_not(None))
        .order_by(e.session_id, e.user_id, e.agent_id)
    )  # fmt: skip
    calls = _calls(warehouse)
    requests = {(each.user_id, each.session_id): each.request for each in reports.session_requests(warehouse)}
    return [
        ReplayedRun(
            domain=domain,
            agent=agent,
            user=user,
            category=category or "",
            at=None if not time else parse_time(time),
            tools=tuple(filter(None, (sequence or "").split("->"))),
            succeeded=succeeded == 1,
            request=requests.get((user, session), ""),
            session=session,
            calls=tuple(calls.get((user, session, agent), ())),
        )
        for domain, agent, user, category, time, sequence, succeeded, session in warehouse.read(rows)
    ]


def _calls(warehouse: Warehouse) -> dict[tuple[str, str, str], list[ReplayedCall]]:
    """Return the calls of each run, by user, session and agent."""
    from sqlalchemy import ColumnElement, func, literal_column

    from agentmodel.redshift import models as m
    from agentmodel.redshift.models import rows_of

    h = m.UserToolMappingHist
    made: list[ColumnElement[str]] = [literal_column(f"'{status}'") for status in ("", "ok", "error", "cache_hit")]
    rows = (
        rows_of(
            h.user_id, h.session_id, h.agent_id, func.coalesce(h.tool_name, h.tool_id), h.values, h.succeeded, h.result
        )
        .where(func.coalesce(h.status, literal_column("''")).in_(made))
        .order_by(h.user_id, h.session_id, h.time, h.call_number, h.process_id, h.attempt)
    )
    found: dict[tuple[str, str, str], list[ReplayedCall]] = defaultdict(list)
    for user, session, agent, tool, values, succeeded, result in warehouse.read(rows):
        found[user, session, agent].append(
            ReplayedCall(tool, _sorted(values or "null"), succeeded == "Y", _digest(result))
        )
    return found


def by_domain(runs: Iterable[ReplayedRun]) -> dict[str, list[ReplayedRun]]:
    """Return the runs of each domain in time order; those without a time come first, in the order they were given."""
    found: dict[str, list[ReplayedRun]] = defaultdict(list)
    for run in runs:
        found[run.domain].append(run)
    return {domain: sorted(found[domain], key=lambda run: run.at or _LONG_AGO) for domain in sorted(found)}


def task_of(run: ReplayedRun, number: int) -> str:
    """Return what a run is about: its category, else its request; of a run with neither, something of its own."""
    return run.category or run.request or run.session or str(number)


def training_runs(runs: Sequence[ReplayedRun], train_share: float) -> int:
    """Return how many of these runs are only learned from, before the first is judged.

    Raises:
        ValidationError: ``train_share`` is not between 0 and 1.
    """
    if not 0 < train_share < 1:
        raise ValidationError("train_share", train_share, "must be above 0 and below 1")
    return int(len(runs) * train_share)


def planned(history: Sequence[ReplayedRun]) -> tuple[str, ...] | None:
    """Return the sequence to suggest after these runs of a category: the one with the highest pattern score.

    Most sequences are run once, so many are equal; of these, the one with the smallest distance to all successful runs
    is returned.
    """
    successful = [run.tools for run in history if run.succeeded]
    if not successful:
        return None
    ran = Counter(run.tools for run in history)
    worked = Counter(successful)
    scores = {tools: ran[tools] * (count / ran[tools]) ** 2 for tools, count in worked.items()}
    top = max(scores.values())
    equals = sorted(tools for tools, score in scores.items() if score == top)
    distances = total_distances(equals, successful)
    return min(zip(distances, equals, strict=True))[1]
