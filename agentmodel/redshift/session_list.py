"""List sessions of all users by time, users, and types of errors, from the warehouse.

For operators; a user may see its own sessions.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, String, and_, case, func, or_

from agentmodel import keys
from agentmodel.exceptions import ValidationError
from agentmodel.redshift import _executions_sql as history
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import Rows, constant, total
from agentmodel.redshift._report_sql import EMPTY
from agentmodel.redshift.models import rows_of
from agentmodel.redshift.reports import DayExecutions
from agentmodel.redshift.warehouse import Warehouse

__all__ = [
    "ErrorCount", "SessionFilter", "SessionSummary", "UserActivity", "active_users", "error_types", "known_sessions",
    "newest_calls", "newest_sessions", "sessions_like", "tool_days", "users_like",
]  # fmt: skip

_MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions are listed; what is None does not narrow.

    Attributes:
        user_id: Sessions of this user.
        since: Sessions that began at this time or later, aware.
        category: Sessions of this category, as it was given.
        agent: Sessions in which this agent was called; its id or name.
        tool: Sessions in which this tool was called; its id or name.
        outcome: Sessions with this outcome: as reviewed, as reported, as recorded, else that of its calls. ``unknown``
            are those without a call that counts.
        text: Sessions whose request or name has this text; upper and lower case are one.

    >>> narrow = SessionFilter(user_id="USR001", outcome="failed")
    >>> [session.session_id for session in newest_sessions(model.warehouse, narrow)]
    ['SESS3', 'SESS2']
    """

    user_id: str | None = None
    since: datetime | None = None
    category: str | None = None
    agent: str | None = None
    tool: str | None = None
    outcome: Literal["succeeded", "failed", "unknown"] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list.

    Attributes:
        user_id: The user.
        session_id: The session.
        user_name: The user's name; its id where it has none.
        started: When it began: 14 to 20 digits in UTC, as the table stores times; '' where it is unknown.
        category: The category that was given; '' where there was none.
        request: The request, else the session's name.
        outcome: Whether it succeeded: as reviewed, as reported, as recorded, else whether all its calls did; None if
            unknown.
        calls: Calls that were made, and results of a cache.
        failed: Calls that failed.
        agents: Names of the agents that were called, else their ids.

    >>> first, second = newest_sessions(model.warehouse, SessionFilter(text="HARBOUR"))
    >>> sorted((session.user_name, session.calls, session.failed) for session in (first, second))
    [('Jun', 1, 0), ('Mina', 1, 1)]
    >>> rest = newest_sessions(model.warehouse, SessionFilter(text="HARBOUR"), after=first.position)
    >>> rest == [second]
    True
    """

    user_id: str
    session_id: str
    user_name: str
    started: str
    category: str
    request: str
    outcome: bool | None
    calls: int
    failed: int
    agents: tuple[str, ...]

    @property
    def position(self) -> tuple[str, str, str]:
        """Its place in the list, for ``after`` of `newest_sessions`."""
        return self.started, self.session_id, self.user_id


@dataclass(frozen=True, slots=True)
class UserActivity:
    """A user, and how much is known of it.

    Attributes:
        user_id: The user.
        name: Its name; its id where it has none.
        sessions: How many sessions it has.
        newest: When the newest of them began, 14 to 20 digits in UTC; '' where it is unknown.
    """

    user_id: str
    name: str
    sessions: int
    newest: str


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often calls of a tool failed with a type of error.

    Attributes:
        error_type: The type, such as ``TimeoutError``; '' where none was recorded.
        agent_id: The agent that called the tool.
        agent_name: Its name; its id where it has none.
        tool_id: The tool.
        tool_name: Its name.
        failures: Calls that failed so, every attempt one.
        sessions: Sessions in which they failed.
        newest: When the last of them failed, 14 to 20 digits in UTC; '' where it is unknown.
    """

    error_type: str
    agent_id: str
    agent_name: str
    tool_id: str
    tool_name: str
    failures: int
    sessions: int
    newest: str


def newest_sessions(
    warehouse: Warehouse,
    narrow: SessionFilter | None = None,
    *,
    after: tuple[str, str, str] | None = None,
    limit: int = 50,
    oldest_first: bool = False,
) -> list[SessionSummary]:
    """Return sessions, newest first unless told otherwise, as of the last refresh.

    Args:
        warehouse: A refreshed warehouse.
        narrow: Which sessions; all of them when not given.
        after: The `SessionSummary.position` of the last session of the page before.
        limit: The most sessions, 1 to 1,000.
        oldest_first: Whether the oldest come first; those without a time are the oldest.

    Raises:
        ValidationError: ``limit`` is out of range, or ``since`` has no time zone.
        WarehouseUnavailable: The engine does not answer.

    >>> for session in newest_sessions(model.warehouse, limit=2):
    ...     print(session.user_name, session.request, session.outcome)
    Jun a quiet café at the park None
    Jun a quiet café at the station True
    """
    if not 1 <= limit <= _MAX_LIMIT:
        raise ValidationError("limit", limit, f"must be a whole number from 1 to {_MAX_LIMIT}")
    rows = _listed(narrow or SessionFilter(), after, oldest_first=oldest_first).limit(limit)
    with warehouse.snapshot():
        found = warehouse.read(rows)
        if not found:
            return []
        users, sessions = sorted({row.user_id for row in found}), sorted({row.session_id for row in found})
        counts = {(u, s): (calls, failed) for u, s, calls, failed in warehouse.read(_counts(users, sessions))}
        agents: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for user, session, name, succeeded in warehouse.read(_agents(users, sessions)):
            agents.setdefault((user, session), []).append((name, succeeded))
    return [_summary(row, counts, agents) for row in found]


def known_sessions(warehouse: Warehouse, sessions: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of some sessions, each a user and a session, that the warehouse has.

    >>> known_sessions(model.warehouse, [("USR001", "SESS1"), ("USR001", "SESS9")])
    {('USR001', 'SESS1')}
    """
    wanted = set(sessions)
    if not wanted:
        return set()
    s = m.UserSessionRow
    rows = rows_of(s.user_id, s.session_id).where(
        s.user_id.in_(sorted({user for user, _ in wanted})), s.session_id.in_(sorted({each for _, each in wanted}))
    )
    return {(user, session) for user, session in warehouse.read(rows)} & wanted


def sessions_like(warehouse: Warehouse, beginning: str, *, limit: int = 10) -> list[tuple[str, str]]:
    """Return the sessions whose id begins so, each as its user and its id, by id.

    >>> sessions_like(model.warehouse, "SESS4")
    [('USR002', 'SESS4')]
    """
    s = m.UserSessionRow
    rows = rows_of(s.user_id, s.session_id).where(s.session_id.startswith(beginning, autoescape=True))
    return [(user, session) for user, session in warehouse.read(rows.order_by(s.session_id, s.user_id).limit(limit))]


def users_like(warehouse: Warehouse, beginning: str, *, name: str | None = None, limit: int = 10) -> list[str]:
    """Return the ids of users with sessions, in order, whose id begins so, or whose name does.

    Args:
        warehouse: A refreshed warehouse.
        beginning: The beginning of an id.
        name: The beginning of a name, in upper or lower case; None looks at ids only.
        limit: The most users.

    >>> users_like(model.warehouse, "USR00", name="mi"), users_like(model.warehouse, "ju", name="ju")
    (['USR001', 'USR002'], ['USR002'])
    """
    s, u = m.UserSessionRow, m.UserInfo
    fits = s.user_id.startswith(beginning, autoescape=True)
    if name is not None:
        named = rows_of(u.user_id).where(func.lower(u.name).startswith(name.lower(), autoescape=True))
        fits = or_(fits, s.user_id.in_(named))
    rows = rows_of(s.user_id).distinct().where(fits)
    return [user for (user,) in warehouse.read(rows.order_by(s.user_id).limit(limit))]


def active_users(warehouse: Warehouse, *, limit: int = 50) -> list[UserActivity]:
    """Return users with their number of sessions, the one with the newest session first, as of the last refresh.

    >>> [(user.name, user.sessions) for user in active_users(model.warehouse)]
    [('Jun', 4), ('Mina', 3)]
    """
    s, u = m.UserSessionRow, m.UserInfo
    newest = func.max(func.coalesce(s.started, EMPTY), type_=String())
    rows = (
        rows_of(s.user_id, func.max(_user_name(u, s), type_=String()), func.count(), newest)
        .outerjoin(u, u.user_id == s.user_id)
        .group_by(s.user_id)
        .order_by(newest.desc(), s.user_id)
        .limit(limit)
    )
    return [UserActivity(*row) for row in warehouse.read(rows)]


def error_types(
    warehouse: Warehouse,
    *,
    since: datetime | None = None,
    agent: str | None = None,
    tool: str | None = None,
    limit: int = 100,
) -> list[ErrorCount]:
    """Return the types of errors by tool and agent, the most frequent first, as of the last refresh.

    Args:
        warehouse: A refreshed warehouse.
        since: Only calls that were made at this time or later, aware.
        agent: Only calls of this agent; its id or name.
        tool: Only calls of this tool; its id or name.
        limit: The most rows.

    Raises:
        ValidationError: ``since`` has no time zone.
        WarehouseUnavailable: The engine does not answer.

    >>> for row in error_types(model.warehouse):
    ...     print(row.error_type, row.tool_name, row.failures, row.sessions)
    KeyError find_on_map 2 2
    """
    h, a = m.UserToolMappingHist, m.AgentRow
    status = func.nullif(h.status, EMPTY, type_=String())
    kind = func.coalesce(h.error_type, EMPTY, type_=String())
    name = func.coalesce(func.nullif(a.name, EMPTY), h.agent_id, type_=String())
    label = func.coalesce(func.max(func.nullif(h.tool_name, EMPTY)), h.tool_id, type_=String())
    session = h.user_id.concat("/").concat(h.session_id)
    failures = func.count()
    rows = (
        rows_of(
            kind,
            h.agent_id,
            func.max(name, type_=String()),
            h.tool_id,
            label,
            failures,
            func.count(session.distinct()),
            func.max(func.coalesce(h.time, EMPTY), type_=String()),
        )
        .outerjoin(a, a.agent_id == h.agent_id)
        .where(or_(status == "error", and_(status.is_(None), func.coalesce(h.succeeded, EMPTY) != "Y")))
        .group_by(kind, h.agent_id, h.tool_id)
        .order_by(failures.desc(), kind, h.agent_id, h.tool_id)
        .limit(limit)
    )
    if since is not None:
        rows = rows.where(h.time >= keys.format_time("since", since))
    if agent is not None:
        rows = rows.where(or_(h.agent_id == agent, a.name == agent))
    if tool is not None:
        rows = rows.where(or_(h.tool_id == tool, h.tool_name == tool))
    return [ErrorCount(*row) for row in warehouse.read(rows)]


def tool_days(warehouse: Warehouse, agent_id: str) -> dict[str, list[DayExecutions]]:
    """Return the calls of each tool of an agent by day, as of the last refresh; every attempt counts as an execution.

    Args:
        warehouse: A refreshed warehouse.
        agent_id: The agent.

    >>> [(day.executions, day.successes) for day in tool_days(model.warehouse, "AGT001")["TL001"]]
    [(3, 1)]
    """
    c = history.calls().subquery("c")
    rows = (
        rows_of(c.c.tool_id, c.c.day, func.count(), total(c.c.ok))
        .where(c.c.agent_id == agent_id)
        .group_by(c.c.tool_id, c.c.day)
        .order_by(c.c.tool_id, c.c.day)
    )
    found: dict[str, list[DayExecutions]] = {}
    for tool_id, day, calls, good in warehouse.read(rows):
        found.setdefault(tool_id, []).append(DayExecutions(agent_id, day, calls, good))
    return found


def newest_calls(
    warehouse: Warehouse, agent_id: str, *, limit: int = 1000, total_limit: int = 3000
) -> dict[str, list[tuple[datetime, bool, str, str]]]:
    """Return the newest calls of each tool of an agent, oldest first, as of the last refresh.

    Calls without a time are left out.

    Args:
        warehouse: A refreshed warehouse.
        agent_id: The agent.
        limit: The most calls of a tool.
        total_limit: The most calls of all its tools; tools with many calls give up the older ones first.

    Returns:
        The calls by tool, each as its time, whether it failed, its user and its session.

    >>> calls = newest_calls(model.warehouse, "AGT001")
    >>> [(failed, user, session) for at, failed, user, session in calls["TL001"]]
    [(False, 'USR001', 'SESS1'), (True, 'USR001', 'SESS2'), (True, 'USR001', 'SESS3')]
    """
    rows = _newest_calls(agent_id, limit).limit(total_limit)
    found: dict[str, list[tuple[datetime, bool, str, str]]] = {}
    for tool_id, clock, ok, user_id, session_id in warehouse.read(rows):
        found.setdefault(tool_id, []).append((keys.parse_time(clock), ok == 0, user_id, session_id))
    return {tool_id: calls[::-1] for tool_id, calls in found.items()}


def _newest_calls(agent_id: str, limit: int) -> Rows:
    """Select the newest calls of each tool, the newest of every tool first."""
    c = history.calls().subquery("c")
    order = [c.c.clock, c.c.user_id, c.c.session_id, func.coalesce(c.c.call_number, constant(0)), c.c.process_id]
    place = func.row_number().over(
        partition_by=c.c.tool_id, order_by=[*(each.desc() for each in order), c.c.attempt.desc()]
    )
    columns = ("tool_id", "clock", "ok", "user_id", "session_id")
    # a text that looks like a time can have no day, as of 31 February
    timed = [c.c.clock.is_not(None), c.c.day.is_not(None)]
    n = rows_of(*(c.c[name] for name in columns), place.label("place")).where(c.c.agent_id == agent_id, *timed)
    numbered = n.subquery("n")
    rows = rows_of(*(numbered.c[name] for name in columns)).where(numbered.c.place <= limit)
    return rows.order_by(numbered.c.place, numbered.c.tool_id)


def _user_name(user: Any, session: Any) -> ColumnElement[str]:
    return func.coalesce(func.nullif(user.name, EMPTY), session.user_id, type_=String())


def _summary(row: Any, counts: dict[Any, Any], agents: dict[Any, list[tuple[str, int]]]) -> SessionSummary:
    key = row.user_id, row.session_id
    ran = agents.get(key, [])
    by_calls = min((succeeded for _, succeeded in ran), default=None)
    outcome = by_calls if row.told is None else row.told
    return SessionSummary(
        *key,
        user_name=row.user_name,
        started=row.started,
        category=row.category,
        request=row.request,
        outcome=None if outcome is None else outcome == 1,
        calls=counts.get(key, (0, 0))[0],
        failed=counts.get(key, (0, 0))[1],
        agents=tuple(name for name, _ in ran),
    )


def _listed(narrow: SessionFilter, after: tuple[str, str, str] | None, *, oldest_first: bool) -> Rows:
    s, u = m.UserSessionRow, m.UserInfo
    started = func.coalesce(s.started, EMPTY)
    request = func.coalesce(func.nullif(s.request, EMPTY), s.name, EMPTY)
    told = history.outcome(s, constant(-1), history.best_of_session(s))
    rows = rows_of(
        s.user_id.label("user_id"),
        s.session_id.label("session_id"),
        _user_name(u, s).label("user_name"),
        started.label("started"),
        func.coalesce(s.category, EMPTY).label("category"),
        request.label("request"),
        func.nullif(told, constant(-1)).label("told"),
    )
    where: list[ColumnElement[bool]] = []
    if narrow.user_id is not None:
        where.append(s.user_id == narrow.user_id)
    if narrow.since is not None:
        where.append(started >= keys.format_time("since", narrow.since))
    if narrow.category is not None:
        where.append(s.category == narrow.category)
    if narrow.text is not None:
        where.append(func.lower(request).contains(narrow.text.lower(), autoescape=True))
    if after is not None:  # times are not unique
        at, session_id, user_id = after
        beyond = operator.gt if oldest_first else operator.lt
        same = or_(beyond(s.session_id, session_id), and_(s.session_id == session_id, beyond(s.user_id, user_id)))
        where += [started >= at if oldest_first else started <= at, or_(beyond(started, at), same)]
    rows = _called(rows.outerjoin(u, u.user_id == s.user_id), narrow)
    if narrow.outcome is not None:
        rows, condition = _ended(rows, narrow.outcome)
        where.append(condition)
    order = (started, s.session_id, s.user_id)
    return rows.where(*where).order_by(*(order if oldest_first else (each.desc() for each in order)))


def _called(rows: Rows, narrow: SessionFilter) -> Rows:
    """Keep only sessions in which the agent and the tool were called."""
    s, h, a = m.UserSessionRow, m.UserToolMappingHist, m.AgentRow
    if narrow.agent is None and narrow.tool is None:
        return rows
    made = rows_of(h.user_id, h.session_id)
    if narrow.agent is not None:
        named = rows_of(a.agent_id).where(a.name == narrow.agent)
        made = made.where(or_(h.agent_id == narrow.agent, h.agent_id.in_(named)))
    if narrow.tool is not None:
        made = made.where(or_(h.tool_id == narrow.tool, h.tool_name == narrow.tool))
    called = made.distinct().subquery("called")
    return rows.join(called, and_(called.c.user_id == s.user_id, called.c.session_id == s.session_id))


def _ended(rows: Rows, outcome: str) -> tuple[Rows, ColumnElement[bool]]:
    s, e = m.UserSessionRow, m.AgentExecution
    runs = (
        rows_of(e.user_id, e.session_id, func.min(e.succeeded).label("ok"))
        .group_by(e.user_id, e.session_id)
        .subquery("runs")
    )
    rows = rows.outerjoin(runs, and_(runs.c.user_id == s.user_id, runs.c.session_id == s.session_id))
    ended = history.outcome(s, runs.c.ok, history.best_of_session(s))
    return rows, ended.is_(None) if outcome == "unknown" else ended == constant(int(outcome == "succeeded"))


def _counts(users: Sequence[str], sessions: Sequence[str]) -> Rows:
    c = history.calls(cached=True).subquery("c")
    failed = total(case((c.c.ok == constant(0), constant(1)), else_=constant(0)))
    rows = rows_of(c.c.user_id, c.c.session_id, func.count().label("calls"), failed.label("failed"))
    return rows.where(c.c.user_id.in_(users), c.c.session_id.in_(sessions)).group_by(c.c.user_id, c.c.session_id)


def _agents(users: Sequence[str], sessions: Sequence[str]) -> Rows:
    e, a = m.AgentExecution, m.AgentRow
    name = func.coalesce(func.nullif(a.name, EMPTY), e.agent_id)
    rows = rows_of(e.user_id, e.session_id, name.label("agent"), e.succeeded).outerjoin(a, a.agent_id == e.agent_id)
    return rows.where(e.user_id.in_(users), e.session_id.in_(sessions)).order_by(e.user_id, e.session_id, name)
