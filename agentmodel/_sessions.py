"""List and find sessions of all users, for the command line and the console.

The warehouse has them as of its last refresh. What is newer is named in a sorted set in Valkey, is read from table and
journal, and is marked.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agentmodel import keys
from agentmodel._diagnosis import failed
from agentmodel._log import logger
from agentmodel.cache.newest_sessions import NewestSession, NewestSessions
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import ToolExecution, UserSession
from agentmodel.exceptions import CacheUnavailable, CursorError, KeyFormatError, NotFound, ValidationError

if TYPE_CHECKING:
    from agentmodel.redshift.session_list import SessionFilter, SessionSummary
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["ListedSession", "SessionFinder", "SessionPage", "cursor_of"]

_log = logger(__name__)
_STEP = 100  # sessions of the sorted set that are looked at together
_STEPS = 5  # of a page
_ITEMS = 300  # of a session that is not in the warehouse: what its row is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSession:
    """A session in a list.

    Attributes:
        user_id: The user.
        user_name: Its name; its id where it has none.
        session_id: The session.
        started: When it began: 20 digits in UTC, as the table stores times, or fewer; '' where it is unknown.
        category: The category that was given; '' where there was none.
        request: The request, else the session's name.
        outcome: Whether it succeeded; None if unknown.
        calls: Calls that were made; None where they were not counted.
        failed: Calls that failed; None where they were not counted.
        agents: Names of the agents that were called, else their ids.
        is_new: Whether the warehouse does not have it yet.
    """

    user_id: str
    user_name: str
    session_id: str
    started: str
    category: str
    request: str
    outcome: bool | None
    calls: int | None = None
    failed: int | None = None
    agents: tuple[str, ...] = ()
    is_new: bool = False

    @property
    def position(self) -> tuple[str, str, str]:
        """Its place in the list."""
        return self.started, self.session_id, self.user_id


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions, newest first.

    Attributes:
        rows: The sessions.
        cursor: Where the next page begins; None where this is the last.
        complete: Whether nothing is missing: False while Valkey does not answer.
    """

    rows: tuple[ListedSession, ...]
    cursor: str | None
    complete: bool = True


class SessionFinder:
    """Lists and finds sessions.

    Args:
        model: The installation.
    """

    def __init__(self, model: AgentModel) -> None:
        self._model = model
        self._newest = None if model.valkey is None else NewestSessions(model.valkey)

    def of_user(self, user_id: str, *, limit: int, cursor: str | None = None) -> SessionPage:
        """Return the sessions of a user, from table and journal."""
        page = self._model.repository.sessions(user_id, limit, cursor=cursor)
        user = self._model.repository.user(user_id)
        name = user_id if user is None else user.name
        outcome = self._model.repository.outcome
        return SessionPage(tuple(_row(each, name, outcome(each)) for each in page), page.cursor, page.complete)

    def of_all(
        self, warehouse: Warehouse, narrow: SessionFilter, *, limit: int, cursor: str | None = None
    ) -> SessionPage:
        """Return sessions of all users: those of the warehouse, and newer ones.

        Raises:
            CursorError: The cursor is not one of this list.
            WarehouseUnavailable: The warehouse does not answer.
        """
        from agentmodel.redshift.session_list import newest_sessions

        after = _position_of(cursor or "")
        rows = [_known(each) for each in newest_sessions(warehouse, narrow, after=after, limit=limit + 1)]
        complete = True
        try:
            rows += self._newer(warehouse, narrow, after, limit + 1)
        except CacheUnavailable as error:
            complete = False
            _log.debug("sessions.not_listed: what is newer than the warehouse is left out: %s", error)
        rows.sort(key=lambda row: row.position, reverse=True)
        more = len(rows) > limit
        return SessionPage(tuple(rows[:limit]), cursor_of(rows[limit - 1].position) if more else None, complete)

    def _newer(
        self, warehouse: Warehouse, narrow: SessionFilter, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedSession]:
        """Return sessions that the warehouse does not have; the sorted set is cleared of those that it has."""
        from agentmodel.redshift.session_list import known_sessions

        newest, found = self._newest, list[ListedSession]()
        if newest is None:
            return found
        until, skip = _time_of(after), 0
        for _ in range(_STEPS):
            named = newest.newest(_STEP, until=until, skip=skip)
            known = known_sessions(warehouse, [each[:2] for each in named])
            gone = [each for each in named if each[:2] in known]
            for each in named:
                if each[:2] in known or (narrow.user_id is not None and each.user_id != narrow.user_id):
                    continue
                session = self._model.repository.session(each.user_id, each.session_id)
                if session is None:
                    gone.append(each)
                    continue
                row = self._fitting(session, narrow)
                if row is not None and (after is None or row.position < after):
                    found.append(row)
                    if len(found) == limit:
                        break
            newest.remove(gone)
            skip += len(named) - len(gone)
            if len(named) < _STEP or len(found) == limit:
                break
        return found

    def _fitting(self, session: UserSession, narrow: SessionFilter) -> ListedSession | None:
        """Return the row of a session if it is one that is looked for."""
        if narrow.since is not None and (session.started_at is None or session.started_at < narrow.since):
            return None
        if narrow.category is not None and session.category != narrow.category:
            return None
        if narrow.text is not None and narrow.text.lower() not in (session.request or session.name).lower():
            return None
        read = self._model.repository
        history = read.session_history(session.user_id, session.session_id, limit=_ITEMS)
        calls, outcome = history.executions, history.outcome(reviewed=session.corrected, recorded=session.succeeded)
        agents = {each: agent.name if (agent := read.agent(each)) else each for each in {c.agent_id for c in calls}}
        if not any(
            (narrow.agent is None or narrow.agent in (call.agent_id, agents[call.agent_id]))
            and (narrow.tool is None or narrow.tool in (call.tool_id, call.tool_name))
            for call in calls
        ) and (narrow.agent is not None or narrow.tool is not None):
            return None
        user = read.user(session.user_id)
        if outcome != {None: outcome, "succeeded": True, "failed": False, "unknown": None}[narrow.outcome]:
            return None
        name = session.user_id if user is None else user.name
        return _row(session, name, outcome, calls=calls, agents=tuple(sorted(agents.values())))

    # Find one

    def find(
        self, beginning: str, *, user_id: str | None = None, warehouse: Warehouse | None = None
    ) -> tuple[str, str]:
        """Return user and session of the one session whose id begins so.

        Args:
            beginning: The id, or the beginning of it, with or without ``SESS``.
            user_id: Whose session it is; without one, the newest sessions and the warehouse are searched.
            warehouse: The warehouse; None where there is none.

        Raises:
            NotFound: No session begins so.
            ValidationError: It cannot begin an id, or begins several; the message names some.
        """
        text = keys.check_id("ID", beginning if beginning.startswith("SESS") else f"SESS{beginning}", "SESS")
        if user_id is not None and self._model.repository.session(user_id, text) is not None:
            return user_id, text
        found = dict.fromkeys(self._like(text, user_id, warehouse))
        exact = [each for each in found if each[1] == text]
        if len(exact or found) > 1:
            some = ", ".join(f"{session} of {user}" for user, session in sorted(exact or found)[:5])
            raise ValidationError(
                "ID",
                beginning, f"must be the beginning of one session's id, and {some} begin so: add characters"
                " or --user"
            )  # fmt: skip
        if not found:
            raise NotFound("session", text if user_id is None else f"{text} of {user_id}")
        return next(iter(exact or found))

    def _like(self, text: str, user_id: str | None, warehouse: Warehouse | None) -> Iterator[tuple[str, str]]:
        if user_id is not None:
            cursor = None
            while True:
                page = self._model.repository.sessions(user_id, 1000, cursor=cursor)
                yield from ((user_id, each.session_id) for each in page if each.session_id.startswith(text))
                cursor = page.cursor
                if cursor is None:
                    return
        if warehouse is not None:
            from agentmodel.redshift.session_list import sessions_like

            yield from sessions_like(warehouse, text)
        for each in self._remembered():
            if each.session_id.startswith(text) and self._model.repository.session(each.user_id, each.session_id):
                yield each.user_id, each.session_id

    def _remembered(self) -> Sequence[NewestSession]:
        try:
            return [] if self._newest is None else self._newest.newest(_STEP * _STEPS)
        except CacheUnavailable as error:
            _log.debug("sessions.not_listed: what is newer than the warehouse is not searched: %s", error)
            return []


def _row(
    session: UserSession,
    user_name: str,
    outcome: bool | None,
    *,
    calls: Sequence[ToolExecution] | None = None,
    agents: tuple[str, ...] = (),
) -> ListedSession:
    return ListedSession(
        user_id=session.user_id,
        user_name=user_name,
        session_id=session.session_id,
        started="" if session.started_at is None else keys.format_time("started_at", session.started_at),
        category=session.category or "",
        request=session.request or session.name,
        outcome=outcome,
        calls=None if calls is None else len(calls),
        failed=None if calls is None else sum(map(failed, calls)),
        agents=agents,
        is_new=calls is not None,
    )


def _time_of(position: tuple[str, str, str] | None) -> datetime | None:
    try:
        return None if position is None else keys.parse_time(position[0])
    except KeyFormatError:  # the table holds whatever was written as its time
        return None


def _known(row: SessionSummary) -> ListedSession:
    return ListedSession(
        user_id=row.user_id, user_name=row.user_name, session_id=row.session_id, started=row.started,
        category=row.category, request=row.request, outcome=row.outcome, calls=row.calls, failed=row.failed,
        agents=row.agents,
    )  # fmt: skip


def cursor_of(position: tuple[str, str, str]) -> str:
    """Return the cursor after a place in the list."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _position_of(text: str) -> tuple[str, str, str] | None:
    if not text:
        return None
    try:
        started, session_id, user_id = json.loads(base64.urlsafe_b64decode(text.encode()))
    except ValueError:
        raise CursorError(value=text) from None
    if not all(isinstance(each, str) for each in (started, session_id, user_id)):
        raise CursorError(value=text)
    return started, session_id, user_id
