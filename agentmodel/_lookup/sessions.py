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
from typing import TYPE_CHECKING, cast

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._lookup.diagnosis import failed
from agentmodel.cache import MOST_SESSIONS, NewestSession, NewestSessions
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import ToolExecution, UserSession
from agentmodel.exceptions import CacheUnavailable, CursorError, KeyFormatError, NotFound, ValidationError

if TYPE_CHECKING:
    from agentmodel.redshift.session_list import SessionFilter, SessionSummary
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["ListedSession", "SessionFinder", "SessionPage", "cursor_of", "position_of"]

_log = logger(__name__)
_STEP = 100  # sessions of the sorted set that are looked at together
_LOOKED_AT = 500  # of them that a page reads; the next page goes on from there
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
        rows: The sessions; a page may have few or none, and a cursor.
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
        self,
        warehouse: Warehouse,
        narrow: SessionFilter,
        *,
        limit: int,
        cursor: str | None = None,
        oldest_first: bool = False,
    ) -> SessionPage:
        """Return sessions of all users: those of the warehouse, and newer ones unless the oldest come first.

        Raises:
            CursorError: The cursor is not one of this list.
            WarehouseUnavailable: The warehouse does not answer.
        """
        from agentmodel.redshift.session_list import newest_sessions

        after = cast("tuple[str, str, str] | None", position_of(cursor or "", 3))
        found = newest_sessions(warehouse, narrow, after=after, limit=limit + 1, oldest_first=oldest_first)
        rows = [_known(each) for each in found]
        if oldest_first:
            more = len(rows) > limit
            return SessionPage(tuple(rows[:limit]), cursor_of(rows[limit - 1].position) if more else None)
        complete, end = True, None
        try:
            newer, end = self._newer(warehouse, narrow, after, limit + 1)
            rows += newer
        except CacheUnavailable as error:
            complete = False
            _log.debug("sessions.not_listed: what is newer than the warehouse is left out: %s", error)
        rows = sorted((row for row in rows if end is None or row.position > end), key=_position, reverse=True)
        if len(rows) > limit:
            end = rows[limit - 1].position
        return SessionPage(tuple(rows[:limit]), None if end is None else cursor_of(end), complete)

    def _newer(
        self, warehouse: Warehouse, narrow: SessionFilter, after: tuple[str, str, str] | None, limit: int
    ) -> tuple[list[ListedSession], tuple[str, str, str] | None]:
        """Return sessions that the warehouse does not have, and where the page ends if too many had to be looked at.

        The sorted set is cleared of those that the warehouse has. Sessions that began at the same time are looked at
        together, since the set has them in another order than the list.
        """
        from agentmodel.redshift.session_list import known_sessions

        newest, found = self._newest, list[ListedSession]()
        if newest is None:
            return found, None
        until, skip, looked_at, last = _time_of(after), 0, 0, None
        while True:
            named = newest.newest(_STEP, until=until, skip=skip)
            own = [each for each in named if narrow.user_id in (None, each.user_id)]
            known = known_sessions(warehouse, [each[:2] for each in own])
            gone = [each for each in own if each[:2] in known]
            for each in own:
                if each[:2] in known or (after is not None and _place(each) >= after):
                    continue
                if last is not None and each.started_at != last and (len(found) >= limit or looked_at >= _LOOKED_AT):
                    newest.remove(gone)
                    return found, None if len(found) >= limit else (keys.format_time("started_at", last), "", "")
                last, looked_at = each.started_at, looked_at + 1
                session = self._model.repository.session(each.user_id, each.session_id)
                if session is None:
                    gone.append(each)
                    continue
                row = self._fitting(session, narrow)
                if row is not None and (after is None or row.position < after):
                    found.append(row)
            newest.remove(gone)
            skip += len(named) - len(gone)
            if len(named) < _STEP:
                return found, None

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
        self, beginning: str, *, user_id: str | None = None, warehouse: Warehouse | None = None, field: str = "ID"
    ) -> tuple[str, str]:
        """Return user and session of the one session whose id begins so.

        Args:
            beginning: The id, or the beginning of it, with or without ``SESS``.
            user_id: Whose session it is; without one, the newest sessions and the warehouse are searched.
            warehouse: The warehouse; None where there is none.
            field: What the id is called in an error.

        Raises:
            NotFound: No session begins so.
            ValidationError: It cannot begin an id, or begins several; the message names some.
        """
        text = keys.check_id(field, beginning if beginning.startswith("SESS") else f"SESS{beginning}", "SESS")
        if user_id is not None and self._model.repository.session(user_id, text) is not None:
            return user_id, text
        found = dict.fromkeys(self._like(text, user_id, warehouse))
        exact = [each for each in found if each[1] == text]
        if len(exact or found) > 1:
            some = ", ".join(f"{session} of {user}" for user, session in sorted(exact or found)[:5])
            raise ValidationError(
                field,
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
            return [] if self._newest is None else self._newest.newest(MOST_SESSIONS)
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


def _position(row: ListedSession) -> tuple[str, str, str]:
    return row.position


def _place(named: NewestSession) -> tuple[str, str, str]:
    return keys.format_time("started_at", named.started_at), named.session_id, named.user_id


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


def cursor_of(position: tuple[str, ...]) -> str:
    """Return the cursor after a place in the list."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def position_of(text: str, parts: int) -> tuple[str, ...] | None:
    """Return the place in a list that a cursor names; None for none.

    Args:
        text: The cursor; '' for none.
        parts: Of how many texts a place is made.

    Raises:
        CursorError: It is not one of this list.
    """
    if not text:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, RecursionError):
        raise CursorError(value=text) from None
    if isinstance(place, list) and len(place) == parts and all(isinstance(each, str) for each in place):
        return tuple(place)
    raise CursorError(value=text)
