"""One call of a function that is a tool: decided about, made and recorded."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from copy import copy
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import error_text, prompt_text, storable_text, type_name
from agentmodel.access.recorder import HistoryEntity, ProcessRecorder, SessionRecorder, running
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Status, ToolExecution
from agentmodel.exceptions import (
    CallRejected,
    ConfigurationError,
    Conflict,
    NotCalled,
    NotFound,
    ReviewPending,
    ToolBlocked,
    Unavailable,
)
from agentmodel.suggest.guard import Blocked, Resolution
from agentmodel.suggest.review import Answer, Reviews, canonical
from agentmodel.tools._arguments import BoundCall, bind, plain_arguments
from agentmodel.tools._history import FunctionHistory, FunctionTool
from agentmodel.tools._session_calls import Claim

__all__ = ["Driver", "FunctionCall"]


class Driver(NamedTuple):
    """How a call waits, in a thread or in asyncio.

    Attributes:
        in_thread: Waits for a store, by calling a function.
        call: Calls the function that is the tool.
        wait: Waits for the answer to a question.
    """

    in_thread: Callable[..., Awaitable[Any]]
    call: Callable[..., Awaitable[Any]]
    wait: Callable[..., Awaitable[Answer]]


class FunctionCall:
    """One call of a function that is a tool.

    Args:
        history: Records it.
        tool: The tool.
    """

    def __init__(self, history: FunctionHistory, tool: FunctionTool) -> None:
        self._history = history
        self._tool = tool
        self._lock = ForkSafeLock()  # a cancelled task ends the call while a thread still begins it
        self._over = False
        self._type_error: str | None = None
        self._own_session: SessionRecorder | None = None
        self._entered = False
        self._claim: Claim | None = None
        self._open = False
        self._step: ProcessRecorder | None = None
        self._resolution: Resolution | None = None
        self._answered = False
        self._result: Any = None
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, do: Driver) -> Any:
        """Decide about the call, make it, record it, and return its result.

        Args:
            args: Positional arguments, as the caller gave them.
            kwargs: Keyword arguments, likewise.
            do: How to wait for stores and people, and how to call the function.

        Raises:
            TypeError: The function does not take these arguments.
            NotCalled: The function was not called; the subclass and the message say why.
            ConfigurationError: A person may be asked, and the answer would not be found again outside of a session.
        """
        self._thread = get_ident()
        try:
            await do.in_thread(self._begin, args, kwargs)
            if self._resolution is not None and self._resolution.waits:
                await self._wait(self._resolution, do)
            if not self._answered:
                self._enter()
                self._result = await do.call(self._tool.function, *self._args, **self._kwargs)
        except (Exception, asyncio.CancelledError) as error:
            self._leave()
            await do.in_thread(self._end, error)
            raise
        except BaseException as error:  # the event loop is ending: no thread can be awaited
            self._leave()
            self._end(error)
            raise
        self._leave()
        await do.in_thread(self._end, None)
        return self._result

    # Before the function

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide about the call; when this returns, it can be made, has a result, or waits for a person."""
        with self._lock:
            if self._over:
                return
            self._args, self._kwargs = args, kwargs
            try:
                self._decide()
            except (NotCalled, ConfigurationError):
                raise
            except Exception as error:
                self._history.failed(f"the start of a call of {self._tool.name}")
                undecided = self._tool.enforcer.undecided(self._tool.name, None)
                if not undecided.permits:
                    raise NotCalled(str(undecided.content)) from error
        if self._type_error is not None:
            raise TypeError(self._type_error)

    def _decide(self) -> None:
        tool, (args, kwargs) = self._tool, (self._args, self._kwargs)
        self._join()
        self._history.ensure_in_catalogue(tool)
        try:
            self._bound = bind(tool.signature, args, kwargs)
        except TypeError as error:
            self._type_error = f"{tool.name}(): {error}"
            self._identify(plain_arguments(args, kwargs))
            self._start()
            return
        self._args, self._kwargs = self._bound.given.args, self._bound.given.kwargs
        claim = self._identify(self._bound.plain)
        self._carry_out(self._resolve(self._bound, claim))

    def _join(self) -> None:
        """Belong to the session of the block that the call is made in, or to a session of its own."""
        around, recorder = running(), self._history.recorder
        self._process: ProcessRecorder | None = None
        if around is None and recorder.has_session_elsewhere(self._thread):
            self._history.without_session(self._tool.name)
        if around is not None and around[0].recorder is recorder:
            self._session, self._process = around
            self._calls = self._history.calls(self._session)
            return
        if self._tool.asks and self._tool.wait is False:
            raise ConfigurationError(
                f"{self._tool.name} may ask a person: call it in a `with model.session(...)` block, where the answer "
                "is found again, or set `wait` to have it wait for the answer"
            )
        self._session = self._own_session = recorder.session(ANONYMOUS, name=self._tool.name)
        self._calls = self._history.calls(self._session)
        self._record(copy(self._session.entity), f"the session of {self._tool.name}")  # its end is yet to come

    def _identify(self, plain: dict[str, Any]) -> Claim:
        """Find out which call this is: another attempt of one that failed, or a new one."""
        digest = hashlib.sha256(canonical(plain).encode()).hexdigest()
        block = None if self._process is None else self._process.process_id
        self._plain = plain
        self._claim = self._calls.claim((block, self._tool.ref, digest), repeatable=self._tool.asks)
        return self._claim

    def _resolve(self, bound: BoundCall, claim: Claim) -> Resolution:
        tool, session = self._tool, self._session
        decide = partial(
            tool.enforcer.guard.before,
            agent_id=tool.ref.agent_id,
            tool_id=tool.ref.tool_id,
            tool=tool.name,
            arguments=bound.plain,
            user_id=session.user_id,
            session_id=session.session_id,
            call_id=claim.call_id if tool.asks else None,
            process_id=claim.key[0],
            fresh=not bound.exact,
        )
        return tool.enforcer.resolve(tool.name, bound.plain, decide=decide)

    async def _wait(self, resolution: Resolution, do: Driver) -> None:
        """Wait for a person."""
        waited = partial(Resolution.of, resolution.tool, resolution.requested, resolution.decision)
        try:
            answer = await do.wait(resolution.review, timeout=None if self._tool.wait is True else self._tool.wait)
        except Conflict as error:
            raise _pending(resolution) from error
        except (NotFound, Unavailable) as error:
            raise NotCalled(str(waited(trouble=str(error)).content)) from error
        await do.in_thread(self._decided, waited(answer=answer))

    def _decided(self, resolution: Resolution) -> None:
        with self._lock:
            if not self._over:
                self._carry_out(resolution)

    def _carry_out(self, resolution: Resolution) -> None:
        self._resolution = resolution
        if resolution.waits:
            if resolution.trouble:
                raise NotCalled(str(resolution.content))
            if self._tool.wait is False:
                raise _pending(resolution)
        elif resolution.permits:
            if resolution.notice is not None:
                self._edit(resolution)
            self._start()
        elif resolution.is_error:
            self._refuse(resolution)
        else:
            self._record_unmade(resolution.status or "rejected", resolution.content)
            self._answered, self._result = True, resolution.content

    def _edit(self, resolution: Resolution) -> None:
        """Take the arguments that a person gave, if the function takes them."""
        answer = resolution.answer
        try:
            edited = self._bound.edited(resolution.arguments)
        except TypeError as error:
            by = "a person" if answer is None or not answer.by else answer.by
            who = "a person" if answer is None or not answer.by else prompt_text(answer.by)
            text = (
                f"{prompt_text(self._tool.name)} was not called: it does not take the arguments that {who} gave: "
                f"{prompt_text(error)}"
            )
            self._record_unmade("rejected", text)
            raise CallRejected(text, by, None if answer is None else answer.reason) from error
        self._args, self._kwargs, self._plain = edited.args, edited.kwargs, resolution.arguments

    def _refuse(self, resolution: Resolution) -> None:
        """Record a call that is not made, and raise why."""
        decision, answer, text = resolution.decision, resolution.answer, str(resolution.content)
        unasked = isinstance(decision, Blocked) and decision.since is None
        if unasked and self._claim is not None:  # there may be a question with an answer: the next call is to find it
            self._calls.release(self._claim)
            self._claim = Claim(self._claim.key, uuid.uuid4().hex)
        self._record_unmade(resolution.status or "rejected", text)
        if answer is not None:
            raise CallRejected(text, answer.by, answer.reason)
        if unasked or not isinstance(decision, Blocked):
            raise NotCalled(text)
        raise ToolBlocked(text, decision.fallbacks)

    # Around the function

    def _enter(self) -> None:
        """Let calls inside the function belong to this call's own session, if it has one."""
        if self._own_session is not None:
            self._own_session.begin()
            self._entered = True

    def _leave(self) -> None:
        if self._own_session is not None and self._entered:
            self._own_session.leave()

    # After the function

    def _end(self, error: BaseException | None) -> None:
        """Record how the call ended, cache its result, and end a session of its own."""
        with self._lock:
            self._over = True
            try:
                if self._open:
                    self._finish(error)
                elif self._claim is not None:
                    self._calls.release(self._claim)
                if self._own_session is not None:
                    self._record(self._own_session.ended(error), f"the session of {self._tool.name}")
            except Exception:  # noqa: BLE001  # the function has been called
                self._history.failed(f"the end of a call of {self._tool.name}")

    def _finish(self, error: BaseException | None) -> None:
        resolution = self._resolution
        if error is None:
            status = None if resolution is None else resolution.status
            self._write(status or "ok", self._result)
            if resolution is not None:
                self._tool.enforcer.keep(resolution, self._result)
            return
        self._write(
            "error" if isinstance(error, Exception) else "interrupted",
            error_text(error),
            type_name(error),
        )
        if self._step is not None and self._claim is not None:
            self._calls.failed(self._claim, process=self._step, attempts=self._attempt, number=self._number)

    # Recording

    def _record_unmade(self, status: Status, result: Any) -> None:
        """Record a call that is not made."""
        self._start()
        self._write(status, result)
        self._open, self._claim = False, None

    def _start(self) -> None:
        """Give the call its place in the session."""
        self._open = True
        earlier = None if self._claim is None else self._claim.earlier
        self._attempt = 1 if earlier is None else earlier.attempts + 1
        self._number = self._session.next_call() if earlier is None else earlier.number
        try:
            self._step = self._process_of_call() if earlier is None else earlier.process
        except Exception:  # noqa: BLE001  # the function is called all the same
            self._history.failed(f"the process of a call of {self._tool.name}")
        self._began = self._history.recorder.now()

    def _process_of_call(self) -> ProcessRecorder:
        """Return the block's process for its first call of the tool; else a new one, so that it is not an attempt."""
        around = self._process
        if around is not None and self._calls.is_first(around.process_id, self._tool.ref):
            return around
        return self._session.process(
            self._tool.name if around is None else around.entity.name,
            prompt=None if around is None else around.entity.prompt,
        )

    def _write(self, status: Status, result: Any, error_type: str | None = None) -> None:
        if self._step is None or self._claim is None:
            return  # that it could not be recorded has been counted
        tool, call_id, what = self._tool, self._claim.call_id, f"a call of {self._tool.name}"
        try:
            ended = self._history.recorder.now()
            execution = ToolExecution(
                user_id=self._session.user_id,
                session_id=self._session.session_id,
                process_id=self._step.process_id,
                agent_id=tool.ref.agent_id,
                tool_id=tool.ref.tool_id,
                attempt=self._attempt,
                tool_name=tool.name,
                values=storable_text(self._plain),
                executed_at=self._began,
                succeeded=status in ("ok", "edited", "cache_hit"),
                status=status,
                result=storable_text(result),
                call_number=self._number,
                revision=tool.revision or self._session.revision,
                call_id=call_id if self._attempt == 1 else f"{call_id}-{self._attempt}",
                error_type=error_type,
                duration_ms=max(0, round((ended - self._began).total_seconds() * 1000)),
            )
            self._record(execution, what, self._step)
            if self._resolution is not None and self._resolution.review is not None:
                self._history.recorder.wait_for(self._session.user_id)  # so that what was approved is not made twice
        except Exception:  # noqa: BLE001  # the function has been called
            self._history.failed(what)

    def _record(self, entity: HistoryEntity, what: str, process: ProcessRecorder | None = None) -> None:
        self._history.recorder.record_later(entity, failed=self._history.failed, what=what, process=process)


def _pending(resolution: Resolution) -> ReviewPending:
    reference = "" if resolution.review is None else Reviews.reference(resolution.review)
    return ReviewPending(str(resolution.content), reference)
