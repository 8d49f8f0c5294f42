"""Queries of a publish beside the reports: how far the last refresh saw, and which sessions to keep for other days.

Both are single selects over tables that a refresh keeps, the same on Redshift and DuckDB.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Double,
    String,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
)

from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.config import Settings
from agentmodel.redshift import models as m
from agentmodel.redshift.models import newest_days, rows_of
from agentmodel.redshift.score import as_of_expression, number_expression, pattern_score_expression
from agentmodel.redshift.warehouse import day_of
from agentmodel.suggest._chance import RunCounts
from agentmodel.suggest._sequences import SEQUENCES_OF_A_CATEGORY, SEQUENCES_OF_A_DOMAIN
from agentmodel.suggest.review import MadeCall, sorted_arguments

_RUNS_OF_A_CATEGORY = 40  # whose writes are compared
_USERS, _CHUNKS = 100, 10  # that are named in a select, and selects at most; beyond it one select reads all

Scope: TypeAlias = tuple[str, str, str]
"""A domain, a user and a category."""

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = [
    "Scope", "SessionScore", "cells", "run_calls", "run_digests", "seen_until", "session_scores", "tool_sequences",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SessionScore:
    """The score of a session: that of the best pattern that its agents took.

    Attributes:
        user_id: The user.
        session_id: The session.
        score: The pattern score.
    """

    user_id: str
    session_id: str
    score: float


def seen_until(warehouse: Warehouse) -> datetime:
    """Return how far the last refresh saw; the year 1 where nothing had landed, or zero-ETL keeps no history."""
    watermarks = warehouse.read(select(m.RefreshWatermark.seen_until))
    seen: datetime | None = max((watermark for (watermark,) in watermarks if watermark is not None), default=None)
    return datetime(1, 1, 1, tzinfo=UTC) if seen is None else seen.replace(tzinfo=UTC)


def session_scores(warehouse: Warehouse, settings: Settings, *, as_of: date, now: datetime) -> list[SessionScore]:
    """Return the score of each session that is kept for other days than its score says.

    For how long it is kept is what its item said when it landed. So where nothing changed, no session is returned, and
    what a publish did not finish is returned again. A session whose item landed before the warehouse had this column is
    returned as long as the table may have it.

    Args:
        warehouse: A refreshed warehouse.
        settings: Say how many days a high and a low score are kept, and which scores are high.
        as_of: The day that recency is counted to.
        now: Sessions that expired before have left the table, and are not returned.
    """
    e, p, s, newest = m.AgentExecution, m.UserProcessPattern, m.UserSessionRow, newest_days()
    since = (now - timedelta(days=settings.ttl_days_high + 1)).replace(tzinfo=None)
    own_day = func.least(newest.c.day, as_of_expression(day_of(as_of)), type_=Date())
    value = pattern_score_expression(p.executions, p.successes, last=p.decay_day, as_of=own_day)
    score = func.max(value, type_=Double())
    low: ColumnElement[int] = literal_column(str(settings.ttl_days_low))
    high: ColumnElement[int] = literal_column(str(settings.ttl_days_high))
    wanted = case((score >= number_expression(settings.ttl_score), high), else_=low)
    unknown = and_(s.expires.is_(None), or_(s.loaded_at.is_(None), s.loaded_at >= since))
    kept = func.coalesce(func.nullif(func.max(s.ttl_days), literal_column("0")), low)
    rows = (
        rows_of(e.user_id, e.session_id, score)
        .join(p, and_(p.user_id == e.user_id, p.pattern_key == e.pattern_key))
        .join(s, and_(s.user_id == e.user_id, s.session_id == e.session_id))
        .outerjoin(newest, newest.c.agent_id == e.agent_id)
        .where(or_(unknown, s.expires > number_expression(now.timestamp())))
        .group_by(e.user_id, e.session_id)
        .having(or_(func.max(s.expires).is_(None), kept != wanted))
        .order_by(e.user_id, e.session_id)
    )
    return [SessionScore(*row) for row in warehouse.read(rows)]


def tool_sequences(
    warehouse: Warehouse,
) -> tuple[dict[str, list[tuple[int, list[str]]]], dict[tuple[str, str], list[tuple[int, list[str]]]]]:
    """Return the sequences of tools that were run most often, each with how often; of equals, the newest.

    Returns:
        Those of each domain, and those of each user and category.
    """
    p, a = m.UserProcessPattern, m.AgentRow
    domains: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    of_domains = _most_run([a.domain_id], SEQUENCES_OF_A_DOMAIN)
    for domain_id, times, sequence in warehouse.read(of_domains):
        domains[domain_id].append((times, sequence.split("->")))
    users: dict[tuple[str, str], list[tuple[int, list[str]]]] = defaultdict(list)
    for user_id, category, times, sequence in warehouse.read(
        _most_run([p.user_id, p.category], SEQUENCES_OF_A_CATEGORY)
    ):
        users[user_id, category].append((times, sequence.split("->")))
    return domains, users


def cells(warehouse: Warehouse) -> dict[str, dict[tuple[str, str], RunCounts]]:
    """Return the runs of each domain by agent and category."""
    d, a = m.AgentDaily, m.AgentRow
    counts = (cast(func.sum(each), BigInteger) for each in (d.successes, d.executions))
    rows = (
        rows_of(a.domain_id, d.agent_id, d.category, *counts)
        .join(a, a.agent_id == d.agent_id)
        .where(a.domain_id.is_not(None))
        .group_by(a.domain_id, d.agent_id, d.category)
    )
    found: dict[str, dict[tuple[str, str], RunCounts]] = defaultdict(dict)
    for domain_id, agent_id, category, successes, runs in warehouse.read(rows):
        found[domain_id][agent_id, category] = RunCounts(successes, runs)
    return found


def run_digests(warehouse: Warehouse) -> dict[Scope, str]:
    """Return a digest of the newest runs of each domain, user and category that had a success.

    It is another one when the runs, their success or their successful calls are others.
    """
    runs = _newest_runs()
    row, h, joined = _with_calls(runs)
    digest = m.digest_of([runs.c.session_id, runs.c.succeeded, *row])
    of_scope = [runs.c.domain_id, runs.c.user_id, runs.c.category]
    called = rows_of(*of_scope, runs.c.succeeded, digest.label("digest")).outerjoin(h, joined).subquery("called")
    scope = [called.c[name.name] for name in of_scope]
    rows = rows_of(*scope, func.count(), *m.digest_counts(called.c.digest)).select_from(called)
    rows = rows.group_by(*scope).having(func.max(called.c.succeeded) == literal_column("1"))
    return {
        (domain, user, category): hashlib.blake2b(repr((domain, *counts)).encode(), digest_size=8).hexdigest()
        for domain, user, category, *counts in warehouse.read(rows)
    }


def run_calls(warehouse: Warehouse, scopes: Collection[Scope]) -> dict[Scope, list[tuple[bool, list[MadeCall]]]]:
    """Return the newest runs of some domains, users and categories: whether each succeeded, and its successful calls.

    Only runs with a category count, and not those of the anonymous user, who is many people.
    """
    users = sorted({user for _, user, _ in scopes})
    chunks = [users[at : at + _USERS] for at in range(0, len(users), _USERS)]
    found: dict[Scope, dict[str, tuple[bool, list[MadeCall]]]] = {scope: {} for scope in scopes}
    for chunk in chunks if len(chunks) <= _CHUNKS else [None]:
        runs = _newest_runs(chunk)
        row, h, joined = _with_calls(runs)
        rows = rows_of(runs.c.domain_id, runs.c.user_id, runs.c.category, runs.c.session_id, runs.c.succeeded, *row)
        rows = rows.outerjoin(h, joined).order_by(runs.c.user_id, runs.c.category, runs.c.session_id)
        for domain, user, category, session, succeeded, tool, values in warehouse.read(rows):
            own = found.get((domain, user, category))
            if own is None:
                continue
            _, calls = own.setdefault(session, (succeeded == 1, []))
            if tool is not None:
                calls.append(MadeCall(tool, sorted_arguments(values), succeeded=True))
    return {scope: list(sessions.values()) for scope, sessions in found.items()}


def _newest_runs(users: Sequence[str] | None = None) -> Subquery:
    """Select the newest runs of each user and category, of some users or of all."""
    e, a = m.AgentExecution, m.AgentRow
    newest: list[Any] = [func.max(e.last_day).desc(), e.session_id.desc()]
    runs = (
        rows_of(
            func.min(a.domain_id).label("domain_id"),
            e.user_id.label("user_id"),
            e.session_id.label("session_id"),
            e.category.label("category"),
            func.min(e.succeeded).label("succeeded"),
            func.row_number().over(partition_by=[e.user_id, e.category], order_by=newest).label("place"),
        )
        .join(a, a.agent_id == e.agent_id)
        .where(
            a.domain_id.is_not(None), e.category != literal_column("''"), e.user_id != literal_column(f"'{ANONYMOUS}'")
        )
        .group_by(e.user_id, e.session_id, e.category)
    )
    placed = (runs if users is None else runs.where(e.user_id.in_(users))).subquery("placed")
    columns = [column for column in placed.c if column.name != "place"]
    return rows_of(*columns).where(placed.c.place <= literal_column(str(_RUNS_OF_A_CATEGORY))).subquery("runs")


def _with_calls(runs: Subquery) -> tuple[list[Any], Any, ColumnElement[bool]]:
    """Return tool and arguments of a successful call of a run, the table of calls, and how it is joined."""
    h = m.UserToolMappingHist
    made: list[ColumnElement[str]] = [literal_column(f"'{status}'") for status in ("", "ok", "error", "edited")]
    joined = and_(
        h.user_id == runs.c.user_id,
        h.session_id == runs.c.session_id,
        h.succeeded == literal_column("'Y'"),
        func.coalesce(h.status, literal_column("''")).in_(made),
    )
    return [func.coalesce(h.tool_name, h.tool_id, type_=String()), h.values], h, joined


def _most_run(scope: Sequence[Any], limit: int) -> Any:
    p, a = m.UserProcessPattern, m.AgentRow
    times = cast(func.sum(p.executions), BigInteger)
    order: list[Any] = [times.desc(), func.max(p.last_day).desc(), p.tool_sequence]
    place = func.row_number().over(partition_by=scope, order_by=order).label("place")
    counted = (
        rows_of(*scope, times.label("times"), p.tool_sequence.label("tool_sequence"), place)
        .join(a, a.agent_id == p.agent_id)
        .where(a.domain_id.is_not(None))
        .group_by(*scope, p.tool_sequence)
        .subquery("counted")
    )
    columns = [column for column in counted.c if column.name != "place"]
    return (
        rows_of(*columns).where(counted.c.place <= literal_column(str(limit))).order_by(*columns[:-2], counted.c.place)
    )
