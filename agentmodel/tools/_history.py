"""What all functions that are tools share: the history that they are recorded in, and the catalogue."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import storable_text
from agentmodel.access.recorder import Recorder, SessionRecorder
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Agent, Domain, Tool, User
from agentmodel.suggest.guard import Enforcer
from agentmodel.suggest.plan import ToolRef
from agentmodel.tools._arguments import schema_of
from agentmodel.tools._session_calls import SessionCalls

__all__ = ["FunctionHistory", "FunctionTool"]

_log = logger(__name__)

_RETRY_AFTER = 30.0  # seconds, when the catalogue did not answer


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that is a tool."""

    function: Callable[..., Any]
    signature: inspect.Signature
    name: str
    agent: str
    domain: str
    ref: ToolRef
    read_only: bool
    enforcer: Enforcer
    wait: bool | float
    revision: str | None = None

    @property
    def asks(self) -> bool:
        """Whether a person may be asked about its calls."""
        return self.enforcer.guard.may_ask(self.name)


class FunctionHistory:
    """Records calls of functions, and puts their tools into the catalogue.

    Args:
        recorder: Writes the history.
        repository: The catalogue.

    Attributes:
        recorder: The same.
    """

    def __init__(self, recorder: Recorder, repository: Repository) -> None:
        self.recorder = recorder
        self._failures = 0
        self._repository = repository
        self._lock = ForkSafeLock()
        self._in_catalogue: set[ToolRef] = set()
        self._try_at = 0.0
        self._warned = False

    @property
    def errors(self) -> int:
        """Return how many calls, or parts of them, could not be recorded."""
        return self._failures + self.recorder.dropped

    def failed(self, what: str, error: Exception | None = None) -> None:
        """Count and log what failed.

        Args:
            what: What failed.
            error: Why; inside ``except`` the error that is handled, when not given.
        """
        with self._lock:
            self._failures += 1
        _log.error("functions.not_recorded: %s", what, exc_info=error or sys.exc_info()[1])

    def without_session(self, name: str) -> None:
        """Warn, once, that a call lost the session that another thread is in."""
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            _log.warning(
                "functions.no_session: %s was called in a thread without a session, while another thread is in one; it "
                "is recorded for the anonymous user. To keep the session, give the thread model.in_session(%s), made "
                "in the `with model.session(...)` block",
                name,
                name,
            )

    def calls(self, session: SessionRecorder) -> SessionCalls:
        """Return what tells the calls of a session apart."""
        user_id, session_id, new = session.user_id, session.session_id, session.new

        def recorded() -> set[str]:
            if new:
                return set()
            history, _ = self.recorder.known_history(user_id, session_id)
            return {call.call_id for call in history.executions if call.call_id is not None}

        with self._lock:
            if session.function_calls is None:
                session.function_calls = SessionCalls((user_id, session_id), recorded)
            calls: SessionCalls = session.function_calls
        return calls

    def ensure_in_catalogue(self, tool: FunctionTool) -> None:
        """Put domain, agent and tool into the catalogue if they are missing; looked up once by each process."""
        if tool.ref in self._in_catalogue or time.monotonic() < self._try_at:
            return
        domain_id = keys.id_of("DMN", tool.domain)
        described = inspect.getdoc(tool.function)
        wanted = [
            User(user_id=ANONYMOUS, name="anonymous"),
            Domain(domain_id=domain_id, name=keys.name_of("DMN", tool.domain)),
            Agent(agent_id=tool.ref.agent_id, domain_id=domain_id, name=keys.name_of("AGT", tool.agent)),
            Tool(
                agent_id=tool.ref.agent_id,
                tool_id=tool.ref.tool_id,
                domain_id=domain_id,
                name=tool.name,
                description=None if described is None else storable_text(described.split("\n\n")[0]),
                spec=schema_of(tool.function),
                read_only=True if tool.read_only else None,
            ),
        ]
        try:
            *_, own = wanted
            if own not in self.recorder.put_missing(ANONYMOUS, wanted) and tool.read_only:
                stored = self._repository.tool(*tool.ref)
                if stored is not None and stored.read_only is None:
                    self._repository.update(Tool.at(*tool.ref), Tool.read_only.to(True))
        except Exception:  # noqa: BLE001  # the function is called all the same
            self._try_at = time.monotonic() + _RETRY_AFTER
            self.failed(f"the catalogue entry of {tool.name}")
            return
        self._in_catalogue.add(tool.ref)
