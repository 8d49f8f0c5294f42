"""Which user, session, agents and tools of the history a run of a framework belongs to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import NamedTuple

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.process import renew_in_child
from agentmodel.access.trace_import import ANONYMOUS, TraceImport
from agentmodel.client import AgentModel
from agentmodel.exceptions import CacheUnavailable, TableUnavailable, Unavailable

__all__ = ["LocatedSession", "RunIdentity", "SessionLookup", "user_id_of"]

_log = logger(__name__)


class LocatedSession(NamedTuple):
    """The session of a run.

    Attributes:
        session_id: Its id in the history.
        is_new: The history does not have it yet.
    """

    session_id: str
    is_new: bool


class SessionLookup:
    """Finds the sessions that the history has for runs.

    Args:
        model: The installation.
        domain: Name or id of the domain of the agents.
    """

    def __init__(self, model: AgentModel, domain: str) -> None:
        self.domain = keys.name_of("DMN", domain)
        self._repository = model.repository
        self._import = TraceImport(model.repository, recorder=model.recorder, live=True)
        self._lock = threading.Lock()  # the import may be used by one thread at a time
        renew_in_child(self)

    def renew(self) -> None:
        """Make the lock anew in a forked child."""
        self._lock = threading.Lock()

    def locate(self, user_id: str, session: str, began: datetime) -> LocatedSession:
        """Return the id of a session, and whether it is new to the history.

        While the table does not answer and Valkey lacks the session, a name of the framework gets a new id. An id of
        the history is not taken for new: what is stored of it is looked up when the session is written to the table.

        Args:
            user_id: The user.
            session: The framework's name of the session, or a ``SESS…`` id.
            began: When this process first saw it; part of the id of a new session.

        Raises:
            Unavailable: The history does not answer, and there is no journal.
        """
        if session.startswith("SESS") and keys.lenient_id_of("SESS", session) == session:
            try:
                return LocatedSession(session, is_new=self._repository.session(user_id, session) is None)
            except CacheUnavailable:  # recording goes on in an outage of Valkey; what waits there is not known
                return LocatedSession(session, is_new=True)
            except TableUnavailable:
                return LocatedSession(session, is_new=False)
        with self._lock:
            stored = self._import.stored_session(user_id, self.domain, session)
        if stored is not None:
            return LocatedSession(stored.session_id, is_new=False)
        return LocatedSession(keys.imported_session_id(began, self.domain, session), is_new=True)


class RunIdentity:
    """One session as a framework runs it, and its ids in the history.

    Args:
        lookup: Finds the session in the history.
        user: Name or ``USR…`` id of the user; None is the anonymous user.
        session: The framework's thread or conversation, or a ``SESS…`` id.
        request: What the user asked for.
        category: The kind of request.

    Attributes:
        user_id: The user's id in the history.
        user: The user's name.
        began: When this process first saw the run.
        suggestion_id: The plan that it follows, if any.
    """

    def __init__(
        self, lookup: SessionLookup, user: str | None, *, session: str, request: str | None, category: str | None
    ) -> None:
        self._lookup = lookup
        self.user_id, self.user = user_id_of(user), keys.name_of("USR", user or "anonymous")
        self.session, self.request, self.category = session, request, category
        self.suggestion_id: str | None = None
        self.began = datetime.now(UTC)
        self._locating = threading.Lock()
        self._located: LocatedSession | None = None
        renew_in_child(self)

    def renew(self) -> None:
        """Forget in a forked child where the session is: the parent may be writing it at this moment."""
        self._locating = threading.Lock()
        self._located = None

    @property
    def session_id(self) -> str:
        """Return the session's id in the history.

        The first time, this asks the history whether it has the session, since a session that continues keeps its id.
        That waits for the stores, so call it in a thread when you are in an event loop. If the stores do not answer,
        the run gets a new id and keeps it.
        """
        try:
            return self.locate().session_id
        except Unavailable as error:
            _log.warning("integrations.session_not_found: %s gets a new session id: %s", self.session, error)
        with self._locating:
            if self._located is None:
                new_id = keys.imported_session_id(self.began, self._lookup.domain, self.session)
                self._located = LocatedSession(new_id, is_new=True)
            return self._located.session_id

    @property
    def domain_id(self) -> str:
        """Return the domain's id in the history."""
        return keys.lenient_id_of("DMN", self._lookup.domain)

    def agent_id(self, agent: str) -> str:
        """Return the id in the history of an agent, by its name; an ``AGT…`` id stays as it is."""
        return keys.lenient_id_of("AGT", agent, self._lookup.domain)

    def tool_id(self, tool: str) -> str:
        """Return the id in the history of a tool, by its name; a ``TL…`` id stays as it is."""
        return keys.lenient_id_of("TL", tool)

    def locate(self) -> LocatedSession:
        """Return the session's id, and whether it is new to the history; looked up once.

        Raises:
            Unavailable: The history does not answer.
        """
        with self._locating:
            if self._located is None:
                self._located = self._lookup.locate(self.user_id, self.session, self.began)
            return self._located

    def forget(self) -> None:
        """Look the session up again the next time, since another process may record it meanwhile."""
        with self._locating:
            self._located = None

    def mark_stored(self) -> None:
        """Note that the history has the session now."""
        with self._locating:
            if self._located is not None:
                self._located = self._located._replace(is_new=False)


def user_id_of(user: str | None) -> str:
    """Return the id in the history of a user, by name or ``USR…`` id; None is the anonymous user."""
    return ANONYMOUS if user is None else keys.lenient_id_of("USR", user)
