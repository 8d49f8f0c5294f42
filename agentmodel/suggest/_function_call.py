"""One call of a function that is a tool, from before it is decided until it is recorded."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentmodel import keys
from agentmodel.access.importing import ANONYMOUS
from agentmodel.access.recorder import ProcessRecorder, SessionRecorder, running
from agentmodel.dynamo.models import Review, Status, ToolExecution, UserSessionProcess
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
from agentmodel.suggest.advise import Place
from agentmodel.suggest.answers import Answer, canonical
from agentmodel.suggest.bound import Bound, bind, said, unbound
from agentmodel.suggest.guard import Ask, Blocked, Decided, Go, Guard, Known

if TYPE_CHECKING:
    from agentmodel.suggest.functions import Functions

__all__ = ["Call", "FunctionTool", "Made"]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A decorated function."""

    function: Callable[..., Any]
    signature: inspect.Signature
    name: str
    agent: str
    domain: str
    place: Place
    read_only: bool
    guard: Guard
    asks: bool
    wait: bool | float


@dataclass(frozen=True, slots=True)
class _Again:
    """A call that failed; made again, it is another attempt of it."""

    identity: str
    process_id: str
    attempts: int
    number: int


Which = tuple[str | None, Place, str]  # the process of the block, the tool, and the digest of the arguments


@dataclass(slots=True)
class Made:
    """What is known of the calls of a session; ``used`` are the identities of those that people may be asked about."""

    used: set[str] | None = None
    failed: dict[Which, _Again] = field(default_factory=dict)
    taken: set[tuple[str, Place]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Call:
    """One call of a tool, from before it is decided until it is recorded.

    Attributes:
        asked: The question that is waited for.
        answered: Whether there is a result without calling the function.
        result: What the function gave, or what is given in its place.
        args: What the function is called with, by place.
        kwargs: Likewise, by name.
    """

    def __init__(self, functions: Functions, tool: FunctionTool) -> None:
        self._functions = functions
        self._tool = tool
        self._turn = threading.Lock()  # a task that is cancelled ends the call while a thread begins it
        self._over = False
        self._unfit: str | None = None
        self._own: SessionRecorder | None = None
        self._inside = False
        self._claimed = False
        self._open = False
        self._status: Status | None = None
        self._step: Decided = Go()
        self._process_id: str | None = None
        self._again: _Again | None = None
        self.asked: Review | None = None
        self.answered = False
        self.result: Any = None
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    @property
    def patience(self) -> float | None:
        """Seconds to wait for a person; None waits until the question's deadline."""
        return None if self._tool.wait is True else float(self._tool.wait)

    # Before

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide about the call; on return it can be made, or is answered, or waits for a person.

        Raises:
            TypeError: The function does not take these arguments.
            NotCalled: It is not to be called; the kind of the error says why.
            ConfigurationError: A person may be asked, and outside of a session the answer would not be found again.
        """
        with self._turn:
            if self._over:
                return
            self.args, self.kwargs = args, kwargs
            try:
                self._begin()
            except (NotCalled, ConfigurationError):
                raise
            except Exception as error:
                self._functions.failed(f"the begin of a call of {self._tool.name}")
                if self._tool.asks:
                    raise NotCalled(
                        f"{self._tool.name} was not called: whether a person must agree is not known"
                    ) from error
        if self._unfit is not None:
            raise TypeError(self._unfit)

    def _begin(self) -> None:
        tool, (args, kwargs) = self._tool, (self.args, self.kwargs)
        self._join()
        self._functions.catalogue(tool)
        try:
            bound = bind(tool.signature, args, kwargs)
        except TypeError as error:
            self._unfit = f"{tool.name}(): {error}"
            self._claim(unbound(args, kwargs))
            self._start()
            return
        self._bound = bound
        self.args, self.kwargs = bound.given.args, bound.given.kwargs
        self._claim(bound.plain)
        self._take(self._decide(bound))

    def _join(self) -> None:
        """Belong to the session of the block, or to one of its own."""
        around, recorder = running(), self._functions.recorder
        self._process: ProcessRecorder | None = None
        if around is not None and around[0].recorder is recorder:
            self._session, self._process = around
            return
        if self._tool.asks and self._tool.wait is False:
            raise ConfigurationError(
                f"{self._tool.name} may ask a person: call it in a `with model.session(...)` block, where the answer "
                "is found again, or let it wait for the answer"
            )
        self._session = self._own = recorder.session(ANONYMOUS, name=self._tool.name)
        try:
            recorder.open(self._own.entity, new=True)
            recorder.record(self._own.entity)
        except Exception:  # noqa: BLE001  # the function is called all the same
            self._functions.failed(f"the session of {self._tool.name}")

    def _claim(self, plain: dict[str, Any]) -> None:
        """Find out which call this is: another attempt of one that failed, or the next of its kind."""
        tool, state = self._tool, self._functions.state(self._session)
        digest = hashlib.sha256(canonical(plain).encode()).hexdigest()
        block = None if self._process is None else self._process.process_id
        self._plain, self._which = plain, (block, tool.place, digest)
        with state.lock:
            self._again = state.failed.pop(self._which, None)
            if self._again is not None:
                self._identity = self._again.identity
            elif not tool.asks:
                self._identity = uuid.uuid4().hex
            else:
                if state.used is None:
                    state.used = self._used()
                names = (_identity(self._session, tool.place, digest, n) for n in itertools.count(1))
                self._identity = next(name for name in names if name not in state.used)
                state.used.add(self._identity)
        self._claimed = True

    def _used(self) -> set[str]:
        try:
            return self._functions.used(self._session)
        except Exception as error:
            raise NotCalled(
                f"{self._tool.name} was not called: a person may have to agree, and what they said of it before cannot "
                "be read at present"
            ) from error

    def _decide(self, bound: Bound) -> Decided:
        tool, session = self._tool, self._session
        try:
            return tool.guard.before(
                agent_id=tool.place[0],
                tool_id=tool.place[1],
                tool=tool.name,
                arguments=bound.plain,
                user_id=session.user_id,
                session_id=session.session_id,
                call_id=self._identity if tool.asks else None,
                process_id=self._which[0],
                fresh=not bound.exact,
            )
        except Exception as error:
            self._functions.failed(f"what to do about {tool.name}")
            if tool.asks:
                raise NotCalled(f"{tool.name} was not called: whether a person must agree is not known") from error
            return Go()

    def _take(self, step: Decided) -> None:
        self._step = step
        if isinstance(step, Go):
            self._start()
        elif isinstance(step, Known):
            self._settle(step.status, step.result)
            self.answered, self.result = True, step.result
        elif isinstance(step, Blocked):
            if step.since is None:  # a question of it, and its answer, may be there: the next call is to find them
                self._release()
                self._identity, self._again = uuid.uuid4().hex, None
                self._settle(step.status, step.message)
                raise NotCalled(step.message)
            self._settle(step.status, step.message)
            raise ToolBlocked(step.message, step.instead)
        else:
            self._ask(step)

    def _ask(self, step: Ask) -> None:
        with self.waiting():
            answer = self._tool.guard.answer(step.review)
        if answer is not None:
            self._follow(answer)
        elif self._tool.wait is False:
            raise self._pending(step.review)
        else:
            self.asked = step.review

    def _pending(self, review: Review) -> ReviewPending:
        return ReviewPending(
            f"{self._tool.name} was not called: a person has to agree first", self._functions.reviews.reference(review)
        )

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise what becomes of waiting for a person as what it means for the call."""
        try:
            yield
        except Conflict as error:
            if self.asked is None:
                raise
            raise self._pending(self.asked) from error
        except (NotFound, Unavailable) as error:
            raise NotCalled(f"{self._tool.name} was not called: the answer of a person cannot be read") from error

    def decided(self, answer: Answer) -> None:
        """Do as a person said.

        Raises:
            CallRejected: Not to make the call.
        """
        with self._turn:
            if not self._over:
                self._follow(answer)

    def _follow(self, answer: Answer) -> None:
        name = self._tool.name
        if answer.permits:
            try:
                if answer.decision == "edit":
                    edited = self._bound.edited(answer.arguments)
                    self.args, self.kwargs = edited.args, edited.kwargs
                    self._status, self._plain = "edited", answer.arguments
                answer.check(self._plain)
            except (TypeError, Conflict) as error:
                self._settle("rejected", str(error))
                raise CallRejected(f"{name} was not called: {error}", answer.by, answer.reason) from error
            self._start()
            return
        status = answer.call_status or "rejected"
        if answer.decision == "respond":
            self._settle(status, answer.response)
            self.answered, self.result = True, answer.response
            return
        self._settle(status, answer.reason)
        who = answer.by or "nobody answered in time"
        why = "" if not answer.reason or not answer.by else f": {answer.reason}"
        raise CallRejected(f"{name} was not called: {status} by {who}{why}", answer.by, answer.reason)

    def enter(self) -> None:
        """Let what the function calls belong to the session, where it is the call's own."""
        if self._own is not None:
            self._own.begin()
            self._inside = True

    # After

    def leave(self) -> None:
        """The function has ended."""
        if self._own is not None and self._inside:
            self._own.leave()

    def end(self, error: BaseException | None) -> None:
        """Record how it went, keep its answer where it may be given again, and end a session of its own."""
        with self._turn:
            self._over = True
            try:
                if self._open:
                    self._finish(error)
                elif self._claimed:
                    self._release()
                if self._own is not None:
                    self._functions.recorder.record(self._own.ended(error))
            except Exception:  # noqa: BLE001  # the function has been called
                self._functions.failed(f"the end of a call of {self._tool.name}")

    def _finish(self, error: BaseException | None) -> None:
        if error is None:
            self._write(self._status or "ok", self.result)
            self._tool.guard.after(self._step, self.result)
            return
        status: Status = "error" if isinstance(error, Exception) else "interrupted"
        self._write(status, str(error) or type(error).__name__, type(error).__qualname__)
        if self._process_id is not None:
            state = self._functions.state(self._session)
            with state.lock:
                state.failed[self._which] = _Again(self._identity, self._process_id, self._attempt, self._number)

    def _release(self) -> None:
        """It was not made and not decided: the next one is the same call."""
        state = self._functions.state(self._session)
        with state.lock:
            if self._again is not None:
                state.failed[self._which] = self._again
            elif state.used is not None:
                state.used.discard(self._identity)

    # Recording

    def _settle(self, status: Status, result: Any) -> None:
        """Record a call that is not made."""
        self._start()
        self._write(status, result)
        self._open = self._claimed = False

    def _start(self) -> None:
        """The call begins: it has its place in the session."""
        self._open = True
        self._attempt = 1 if self._again is None else self._again.attempts + 1
        self._number = self._session.next_call() if self._again is None else self._again.number
        try:
            self._process_id = self._place() if self._again is None else self._again.process_id
        except Exception:  # noqa: BLE001  # the function is called all the same
            self._functions.failed(f"the step of {self._tool.name}")
        self._began = self._functions.recorder.now()

    def _place(self) -> str:
        """The block's process, for its first call of the tool; else one of its own, so that it looks like no retry."""
        around, state = self._process, self._functions.state(self._session)
        if around is not None:
            with state.lock:
                free = (around.process_id, self._tool.place) not in state.taken
                state.taken.add((around.process_id, self._tool.place))
            if free:
                return around.process_id
        step = UserSessionProcess(
            user_id=self._session.user_id,
            session_id=self._session.session_id,
            process_id=keys.process_id(1),
            name=self._tool.name if around is None else around.entity.name,
            prompt=self._session.entity.request if around is None else around.entity.prompt,
            started_at=self._functions.recorder.now(),
        )
        return self._functions.recorder.record(step).entity.process_id

    def _write(self, status: Status, result: Any, error_type: str | None = None) -> None:
        if self._process_id is None:
            return  # that it has no place in the session was counted
        recorder, tool = self._functions.recorder, self._tool
        try:
            recorder.record(
                ToolExecution(
                    user_id=self._session.user_id,
                    session_id=self._session.session_id,
                    process_id=self._process_id,
                    agent_id=tool.place[0],
                    tool_id=tool.place[1],
                    attempt=self._attempt,
                    tool_name=tool.name,
                    values=said(self._plain),
                    executed_at=self._began,
                    succeeded=status in ("ok", "edited", "cache_hit"),
                    status=status,
                    result=said(result),
                    call_number=self._number,
                    call_id=self._identity if self._attempt == 1 else f"{self._identity}-{self._attempt}",
                    error_type=error_type,
                    duration_ms=max(0, round((recorder.now() - self._began).total_seconds() * 1000)),
                )
            )
        except Exception:  # noqa: BLE001  # the function has been called
            self._functions.failed(f"a call of {tool.name}")


def _identity(session: SessionRecorder, place: Place, digest: str, number: int) -> str:
    """Of a call of a tool: the first, second and so on with the same arguments in a session."""
    parts = [session.user_id, session.session_id, *place, digest, number]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]
