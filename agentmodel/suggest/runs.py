"""Runs of agents as the evaluation replays them, from trace files or from the warehouse, in time order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agentmodel.exceptions import ValidationError
from agentmodel.keys import parse_time
from agentmodel.traces import TraceRecord, outcome, read

if TYPE_CHECKING:
    from agentmodel.redshift.pipeline import Warehouse

__all__ = ["Run", "by_domain", "runs_of_traces", "runs_of_warehouse"]

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """One session of a user with one agent.

    Attributes:
        domain: The field of work.
        agent: The agent.
        user: Whom it worked for.
        category: The kind of request; empty where it has none.
        at: When it began; None where no time is known: such runs count as before all others.
        tools: What was called, in order; a retry of a call is not counted again, one that no score counts not at all.
        succeeded: How it went.
    """

    domain: str
    agent: str
    user: str
    category: str
    at: datetime | None
    tools: tuple[str, ...]
    succeeded: bool

    @property
    def day(self) -> date | None:
        """The day it began."""
        return None if self.at is None else self.at.date()


@dataclass(slots=True)
class _Collected:
    record: TraceRecord
    calls: list[TraceRecord] = field(default_factory=list)


def runs_of_traces(paths: Iterable[str | Path], *, timezone: str = "UTC") -> list[Run]:
    """The runs in trace files, of calls that count in scores; a bad line stops the reading.

    Raises:
        ValidationError: A file cannot be read, or a line is no record.
    """
    found: dict[tuple[str, str, str | None, str], _Collected] = {}
    for path in paths:
        for record in read(path, timezone=timezone, strict=True):
            if outcome(record.status, record.success) is None:
                continue
            key = (record.domain, record.agent, record.user, record.session)
            found.setdefault(key, _Collected(record)).calls.append(record)
    return [_run(each) for each in found.values()]


def _run(collected: _Collected) -> Run:
    first = collected.record
    calls = sorted(collected.calls, key=lambda call: call.step)
    times = [call.started_at for call in calls if call.started_at is not None]
    last = {(call.step, call.tool): outcome(call.status, call.success) for call in calls}
    told = next((call.session_success for call in calls if call.session_success is not None), None)
    return Run(
        domain=first.domain,
        agent=first.agent,
        user=first.user or "",
        category=first.category or "",
        at=min(times, default=None),
        tools=tuple(tool for _, tool in last),
        succeeded=all(last.values()) if told is None else told,
    )


def runs_of_warehouse(warehouse: Warehouse) -> list[Run]:
    """The runs a refreshed warehouse knows, those that DynamoDB's TTL deleted too."""
    from sqlalchemy import and_, func

    from agentmodel.redshift import models as m
    from agentmodel.redshift.dialects import rows_of

    e, s, h, a = m.AgentExecution, m.UserSession, m.UserToolMappingHist, m.Agent
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
    return [
        Run(
            domain=domain,
            agent=agent,
            user=user,
            category=category or "",
            at=None if not time else parse_time(time),
            tools=tuple(filter(None, (sequence or "").split("->"))),
            succeeded=succeeded == 1,
        )
        for domain, agent, user, category, time, sequence, succeeded, _ in warehouse.read(rows)
    ]


def by_domain(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each domain in time order, those without a time first, as they were given."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.domain].append(run)
    return {domain: sorted(found[domain], key=lambda run: run.at or _LONG_AGO) for domain in sorted(found)}


def split(runs: Sequence[Run], learn: float) -> int:
    """How many of these runs are learnt from before the first is judged.

    Raises:
        ValidationError: The share is not between 0 and 1.
    """
    if not 0 < learn < 1:
        raise ValidationError("learn", learn, "a share above 0 and below 1")
    return int(len(runs) * learn)
