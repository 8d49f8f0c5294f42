"""Tool calls of CrewAI, put together from its hooks and its events.

The hooks say when a call begins and what the model reads of it; only the events say whether the tool raised, and how
often it was tried. They are handled later, in other threads and in any order, but in a copy of the context in which
they were emitted: there `CURRENT` is the call.
"""

# CrewAI has an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pydantic
from crewai.tools.tool_failure import ToolFailure, ToolFailureReason

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import copy_or_text, error_text, type_name
from agentmodel.dynamo.models import Status
from agentmodel.integrations._tracking.tracker import TrackedRun
from agentmodel.suggest.guard import Resolution

__all__ = ["CURRENT", "CrewCall", "current_call", "error_of"]

_STATUSES: dict[ToolFailureReason, Status] = {
    ToolFailureReason.USAGE_LIMIT: "blocked",
    ToolFailureReason.UNKNOWN_TOOL: "unknown_tool",
}
"""How a call ended whose tool did not run; every other failure is an error."""


class CrewCall:
    """A tool call.

    Args:
        run: The session that it belongs to; None if that could not be opened.
        agent: Role of the agent.
        tool: Name of the tool.
        given: The arguments; the object that CrewAI hands to every hook of the call.
        outer: The call whose tool runs the agent.

    Attributes:
        run: The same.
        agent: The same.
        tool: The same.
        given: The same.
        outer: The same.
        resolution: What the guard decided; None without a guard.
        cached: Whether CrewAI's own cache answers it.
        over: Whether CrewAI went on with what the model reads of it.
        kept: The tool's own result, if it succeeded and may be cached.
    """

    def __init__(self, run: TrackedRun | None, agent: str, tool: str, given: Any, *, outer: CrewCall | None) -> None:
        self.run, self.agent, self.tool, self.given, self.outer = run, agent, tool, given, outer
        self.resolution: Resolution | None = None
        self.cached = self.over = False
        self._id = uuid.uuid4().hex
        self._began = datetime.now(UTC)
        self._arguments = copy_or_text(given)
        self._lock = ForkSafeLock()
        self._attempts: list[int] = []  # that began
        self._ended: set[int] = set()
        self._returned: tuple[datetime, Any] | None = None  # what the tool returned
        self._succeeded: int | None = None  # the attempt of which CrewAI says so

    @property
    def settled(self) -> bool:
        """Return whether its end is recorded, or CrewAI still has to tell it of an attempt that began."""
        with self._lock:
            return len(self._ended) == len(self._attempts)

    def begin(self) -> None:
        """Report that it goes on to its tool."""
        with self._lock:
            self._arguments, self._began = copy_or_text(self.given), datetime.now(UTC)
            self._begin(1, self._began)

    def answered(self, status: Status, result: Any, *, error_type: str | None = None) -> None:
        """Report that it ends without its tool; whatever CrewAI tells of it then adds nothing."""
        with self._lock:
            if self._attempts:
                self._end(1, status, result, datetime.now(UTC), error_type)
            elif self.run is not None:
                self._attempts.append(
                    self.run.call(
                        self._id,
                        agent=self.agent,
                        tool=self.tool,
                        status=status,
                        arguments=self._arguments,
                        result=result,
                        error_type=error_type,
                        began=self._began,
                    )
                )
                self._ended.add(1)

    def raised(self, number: int, error: Any, at: datetime) -> None:
        """Report that an attempt raised."""
        error_type, text = error_of(error)
        with self._lock:
            self._begin(number, at)
            self._end(number, "error", text, at, error_type)

    def returned(self, result: Any) -> bool:
        """Note what the tool returned; whether it is known by now that it succeeded."""
        with self._lock:
            self._returned = datetime.now(UTC), result
            return self._finish()

    def finished(self, number: int, failure: ToolFailure | None, at: datetime) -> bool:
        """Note that an attempt finished; whether its result is known by now, and it succeeded."""
        with self._lock:
            self._begin(number, at)
            if failure is not None:
                status = _STATUSES.get(failure.reason, "error")
                self._end(number, status, failure.message, at, "tool_error" if status == "error" else None)
                return False
            self._succeeded = number
            return self._finish()

    @property
    def result(self) -> Any:
        """Return what the tool returned."""
        return None if self._returned is None else self._returned[1]

    def _finish(self) -> bool:
        """Report a success when both its result and its success are known."""
        if self._returned is None or self._succeeded is None or self._succeeded in self._ended:
            return False
        at, result = self._returned
        edited = self.resolution is not None and self.resolution.notice is not None
        self._end(self._succeeded, "edited" if edited else "ok", result, at)
        return True

    def _begin(self, number: int, at: datetime) -> None:
        """Report the start of each attempt up to this one; the first began with the call."""
        while self.run is not None and len(self._attempts) < number:
            self._attempts.append(
                self.run.start(
                    self._id,
                    agent=self.agent,
                    tool=self.tool,
                    arguments=self._arguments,
                    at=at if self._attempts else self._began,
                )
            )

    def _end(self, number: int, status: Status, result: Any, at: datetime, error_type: str | None = None) -> None:
        if self.run is not None and number not in self._ended:
            self._ended.add(number)
            attempt = self._attempts[number - 1]
            self.run.end(self._id, attempt, status=status, result=result, error_type=error_type, at=at)


CURRENT: ContextVar[CrewCall | None] = ContextVar("agentmodel_crewai_call", default=None)
"""The call that CrewAI is making, or made last, in this context."""


def current_call(tool: str | None = None) -> CrewCall | None:
    """Return the call whose tool is running; with the name of a tool, the call of it that an event is about."""
    call = CURRENT.get()
    while call is not None and (call.over if tool is None else call.tool != tool):
        call = call.outer
    return call


def error_of(error: Any) -> tuple[str, str]:
    """Return the type and the text of what a tool raised; CrewAI wraps what pydantic says of arguments."""
    if not isinstance(error, BaseException):
        return "_OTHER", str(error)
    cause = error.__cause__
    return type_name(cause if isinstance(cause, pydantic.ValidationError) else error), error_text(error)
