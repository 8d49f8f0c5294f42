"""What all recorders of frameworks share: runs and calls by the framework's own ids, written into history behind it.

    tracker = Tracker(model, domain="support")
    run = tracker.run("thread-7", user="ada", request="find a café")
    run.turn("model", calls=["c1", "c2"], input_tokens=11, output_tokens=5)
    attempt = run.start("c1", agent="finder", tool="search", arguments={"q": "a"})
    run.end("c1", attempt, status="ok", result="found")
    tracker.close()

Each method puts an event into a bounded queue and returns, so it can be called from a tool's thread or from an event
loop; one thread writes in the order of the events. What fails there is counted and logged, and never the agent's.
Calls are numbered as the model asked for them (`Run.turn`), whatever the order they end in.

Two recorders of one run, say a callback and a middleware, share a tracker and give each its ``source``. The nth start
of a call is its nth attempt, whoever tells it: one execution, written when every source that began it has ended it.
What they say of its end is put together: a status that says more wins over one that says less
(`agentmodel.integrations._attempts.merged`).

    run.start("c1", agent="finder", tool="pay", source="middleware")   # 1
    run.start("c1", agent="finder", tool="pay", source="callback")     # 1: the same attempt
    run.end("c1", 1, status="ok", source="callback")
    run.end("c1", 1, status="edited", source="middleware")             # one execution, edited
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from agentmodel import keys
from agentmodel.access.importing import ANONYMOUS, TraceImport
from agentmodel.access.recorder import as_text, fitting
from agentmodel.client import AgentModel
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Status, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.exceptions import Unavailable, ValidationError
from agentmodel.integrations._attempts import Attempt, Attempts, Outcome

__all__ = ["Run", "Tracker", "split"]

_log = logging.getLogger(__name__)

_NAME = 200  # characters of a session's name, which is an index key
_WELL: tuple[Status, ...] = ("ok", "edited", "cache_hit")


def split(total: int | None, parts: int) -> list[int | None]:
    """Tokens of one message over its calls: the sum stays exact, the remainder goes to the first.

    >>> split(11, 3), split(None, 2), split(5, 0)
    ([5, 3, 3], [None, None], [])
    """
    if total is None or parts == 0:
        return [None] * parts
    share = total // parts
    return [total - share * (parts - 1), *[share] * (parts - 1)]


@dataclass(slots=True)
class _Call:
    number: int
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(slots=True)
class _Step:
    """A turn of the model: a process of its own for each further call of one and the same tool."""

    name: str
    processes: list[tuple[str, dict[tuple[str, str], str]]] = field(default_factory=list)


@dataclass(slots=True)
class _Written:
    """What the writing thread knows of a session."""

    entity: UserSession
    numbers: int
    calls: dict[str, _Call] = field(default_factory=dict)
    steps: dict[str, _Step] = field(default_factory=dict)  # by call


class Tracker:
    """Takes what frameworks tell of their calls, and writes it into history from a thread of its own.

    Args:
        model: The installation; close the tracker before the model.
        domain: Name of the domain of the agents.
        max_waiting: Events that wait to be written; of more, the newest is dropped and counted in ``errors``.
        max_sessions: Sessions kept at hand; one that was let go is read from the history again.

    Attributes:
        errors: Events that were not recorded; each is logged as ``integrations.not_recorded``.
    """

    def __init__(
        self, model: AgentModel, *, domain: str = "agents", max_waiting: int = 10_000, max_sessions: int = 1000
    ) -> None:
        self.model = model
        self.domain = domain
        self.errors = 0
        self._token = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self._written: OrderedDict[tuple[str, str], _Written] = OrderedDict()
        self._max_sessions = max_sessions
        self._there: set[str] = set()
        self._shared: set[Run] = set()  # runs with an attempt that may have ended for one source and not for all
        self._finding = threading.Lock()
        self._import = TraceImport(model.table, model.repository, recorder=model.recorder)
        self._events: queue.Queue[Callable[[], None] | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._work, name="agentmodel-calls", daemon=True)
        self._thread.start()

    def run(
        self,
        session: str,
        *,
        user: str | None = None,
        request: str | None = None,
        category: str | None = None,
        suggestion_id: str | None = None,
    ) -> Run:
        """The run of a session; the same one for the same session, whoever asks.

        Args:
            session: The framework's thread or conversation; a ``SESS…`` id of the history continues that session.
            user: Whom it works for, by name or ``USR…`` id; None is an anonymous user.
            request: What the user asked for.
            category: The kind of request.
            suggestion_id: The plan it follows; see `Run.follow`.
        """
        user_id = ANONYMOUS if user is None else _id("USR", user)
        with self._lock:
            run = self._runs.get((user_id, session))
            if run is None:
                run = self._runs[user_id, session] = Run(
                    self, user_id, user or "anonymous", session=session, request=request, category=category
                )
                if len(self._runs) > self._max_sessions:
                    self._runs.popitem(last=False)
            self._runs.move_to_end((user_id, session))
        run.follow(suggestion_id)
        return run

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything told so far is written; whether that was done within ``timeout`` seconds.

        An attempt that has ended for one source is written as it is, without waiting for the others.
        """
        self._settle()
        done = threading.Event()
        try:
            self._events.put(done.set, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(timeout)

    def close(self) -> None:
        """Write what waits, and stop."""
        if self._thread.is_alive():
            self._settle()
            self._events.put(None)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def failed(self, what: str) -> None:
        """Count and log what could not be recorded; called inside ``except``."""
        with self._lock:
            self.errors += 1
        _log.exception("integrations.not_recorded: %s", what)

    def tell(self, what: str, write: Callable[[], None]) -> None:
        """Have something written, in its turn; never raises, never waits."""

        def guarded() -> None:
            try:
                write()
            except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
                self.failed(what)

        try:
            self._events.put_nowait(guarded)
        except queue.Full:
            self.failed(what)

    def shared(self, run: Run) -> None:
        """Keep in mind that an attempt of a run may wait for a second source."""
        with self._lock:
            self._shared.add(run)

    def _settle(self) -> None:
        with self._lock:
            shared, self._shared = self._shared, set()
        for run in shared:
            run.settle()

    def find(self, run: Run) -> tuple[str, bool]:
        """The id of a run's session, and whether the history does not have it yet.

        Raises:
            Unavailable: The history does not answer.
        """
        names = (self.domain, run.session)
        if _is_id("SESS", run.session):
            return run.session, self.model.repository.session(run.user_id, run.session) is None
        with self._finding:
            stored = self._import.stored_session(run.user_id, *names)
        if stored is not None:
            return stored.session_id, False
        return keys.imported_session_id(run.began, *names), True

    # The thread

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            event()

    def written(self, run: Run) -> _Written:
        """The session of a run: at hand, stored, or made now."""
        place = (run.user_id, run.session)
        if place not in self._written:
            self._written[place] = self._begin(run)
            if len(self._written) > self._max_sessions:
                self._written.popitem(last=False)
        self._written.move_to_end(place)
        return self._written[place]

    def _begin(self, run: Run) -> _Written:
        recorder = self.model.recorder
        self.make(User(user_id=run.user_id, name=run.user))
        session_id, new = run.place()
        name = " ".join((run.request or run.category or run.session).split())[:_NAME]
        entity = UserSession(
            user_id=run.user_id,
            session_id=session_id,
            name=name or "session",
            request=fitting(run.request),
            category=run.category,
            suggestion_id=run.suggestion_id,
            started_at=run.began,
            # as the trace import names it, so that it is found
            source_id=None if session_id == run.session else json.dumps((self.domain, run.session), ensure_ascii=False),
        )
        numbers = 0
        if not new:
            entity, numbers = recorder.continued(entity)
        recorder.open(entity, new=new)
        recorder.record(entity)
        run.stored()
        return _Written(entity, numbers)

    def make(self, *entities: Entity) -> None:
        """Put what the catalogue does not have; each is looked up once in a process's life."""
        wanted = [entity for entity in entities if f"{entity.pk}|{entity.sk}" not in self._there]
        if wanted:
            found = self.model.table.get_many([entity.key for entity in wanted])
            self.model.repository.put(*[e for e, there in zip(wanted, found, strict=True) if there is None])
            self._there.update(f"{entity.pk}|{entity.sk}" for entity in wanted)

    def call_id(self, *parts: str) -> str:
        """Identity of one attempt of a call: told twice in this process, it is one item."""
        return hashlib.sha256(json.dumps([self._token, *parts]).encode()).hexdigest()[:32]


class Run:
    """One session, as a framework runs it; made by `Tracker.run`. Its methods never raise, and do not wait.

    Attributes:
        user_id: The user, as the history knows them.
        began: When this process met it.
        suggestion_id: The plan it follows, if any.
    """

    def __init__(
        self, tracker: Tracker, user_id: str, user: str, *, session: str, request: str | None, category: str | None
    ) -> None:
        self._tracker = tracker
        self.user_id, self.user, self.session = user_id, user, session
        self.request, self.category = request, category
        self.suggestion_id: str | None = None
        self.began = datetime.now(UTC)
        self._attempts = Attempts()
        self._finding = threading.Lock()
        self._found: tuple[str, bool] | None = None

    # Its ids in the history

    @property
    def session_id(self) -> str:
        """The session's id in the history.

        The first time, the history is asked whether it has the session: one that continues keeps its id. That waits for
        the stores, so from an event loop ask for it in a thread. Where they do not answer, the run gets an id of its
        own, and keeps it.
        """
        try:
            return self.place()[0]
        except Unavailable as error:
            _log.warning("integrations.session_unknown: %s gets a session of its own: %s", self.session, error)
        with self._finding:
            if self._found is None:
                own = keys.imported_session_id(self.began, self._tracker.domain, self.session)
                self._found = own, True
            return self._found[0]

    @property
    def domain_id(self) -> str:
        """The domain's id in the history."""
        return keys.stable_id("DMN", self._tracker.domain)

    def agent_id(self, agent: str) -> str:
        """The id in the history of an agent of that name; an ``AGT…`` id stays as it is."""
        return agent if _is_id("AGT", agent) else keys.stable_id("AGT", self._tracker.domain, agent)

    def tool_id(self, tool: str) -> str:
        """The id in the history of a tool of that name; a ``TL…`` id stays as it is."""
        return _id("TL", tool)

    def place(self) -> tuple[str, bool]:
        """The session's id, and whether it is new to the history; found out once.

        Raises:
            Unavailable: The history does not answer.
        """
        with self._finding:
            if self._found is None:
                self._found = self._tracker.find(self)
            return self._found

    def stored(self) -> None:
        """The history has the session now."""
        with self._finding:
            if self._found is not None:
                self._found = self._found[0], False

    # What is told

    def follow(self, suggestion_id: str | None) -> None:
        """The run follows a plan, which learns from the session how it went; None, of a plan not kept, is nothing."""
        if suggestion_id is not None and suggestion_id != self.suggestion_id:
            self.suggestion_id = suggestion_id
            self._tracker.tell(f"suggestion {suggestion_id}", self._write_suggestion)

    def turn(
        self, name: str, *, calls: Sequence[str], input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """The model asked for calls, in this order; the turn is a step, its tokens are split over its calls."""
        self._tracker.tell(f"turn {name}", lambda: self._write_turn(name, calls, input_tokens, output_tokens))

    def start(
        self,
        call_id: str,
        *,
        agent: str,
        tool: str,
        arguments: Any = None,
        at: datetime | None = None,
        source: str = "",
    ) -> int:
        """An attempt of a call begins.

        Tell only what goes on to the tool: a call that waits for a person first begins when it may be made, and one
        that is never made is told by `call`.

        Args:
            call_id: The framework's id of the call; a retry has the same one.
            agent: Name of the agent that calls.
            tool: Name of the tool.
            arguments: What the tool is given.
            at: When; now when not given.
            source: Who tells it, where several recorders listen to one run: each counts its own starts.

        Returns:
            The number of the attempt, for `end`: the nth start that this source tells is the nth attempt.
        """
        began = at or datetime.now(UTC)
        number, first = self._attempts.start(call_id, source, agent=agent, tool=tool, arguments=arguments, at=began)
        if first:
            self._tracker.tell(f"start {call_id}", lambda: self._write_start(call_id))
        else:
            self._tracker.shared(self)
        return number

    def edited(self, call_id: str, arguments: Any = None) -> None:
        """A person changed a call before it was made: its attempts that end well from now on are ``edited``.

        Tell it before the attempt ends. One that fails is an ``error`` all the same.

        Args:
            call_id: The call.
            arguments: What it is made with, if the recorders do not see that themselves.
        """
        self._attempts.edited(call_id, arguments)

    def end(
        self,
        call_id: str,
        attempt: int,
        *,
        status: Status,
        result: Any = None,
        error_type: str | None = None,
        at: datetime | None = None,
        source: str = "",
    ) -> None:
        """An attempt ended; an end that this source told before, or of no attempt that it began, changes nothing.

        It is written when every source that began it has ended it, or the run is over. What they say is put together as
        long as it is not written.

        Args:
            call_id: The framework's id of the call.
            attempt: What `start` gave.
            status: How it ended, as this source saw it.
            result: What the tool gave, or what the model reads instead.
            error_type: Name of the error, of an ``error``.
            at: When; now when not given.
            source: As in `start`.
        """
        known = self._attempts.end(
            call_id, attempt, source, Outcome(at or datetime.now(UTC), status, result, error_type)
        )
        if known is not None and not known.running:
            self._ready(known)

    def call(
        self,
        call_id: str,
        *,
        agent: str,
        tool: str,
        status: Status,
        arguments: Any = None,
        result: Any = None,
        error_type: str | None = None,
        began: datetime | None = None,
        at: datetime | None = None,
        source: str = "",
    ) -> int:
        """A whole attempt at once: one that never reached its tool, or one that was seen when it was over.

        Args:
            call_id: The framework's id of the call.
            agent: Name of the agent that calls.
            tool: Name of the tool.
            status: ``blocked``, ``cache_hit``, ``rejected``, ``expired``, ``unknown_tool``, or how it ended.
            arguments: What the tool would have been given.
            result: What the model reads instead of a result.
            error_type: Name of the error, of an ``error``.
            began: When it began; ``at`` when not given.
            at: When it ended; now when not given.
            source: As in `start`.

        Returns:
            The number of the attempt.
        """
        ended = at or datetime.now(UTC)
        attempt = self.start(call_id, agent=agent, tool=tool, arguments=arguments, at=began or ended, source=source)
        self.end(call_id, attempt, status=status, result=result, error_type=error_type, at=ended, source=source)
        return attempt

    def finish(self, succeeded: bool | None = None) -> None:
        """The run is over: what has not ended was interrupted. ``succeeded`` None leaves the outcome to its calls."""
        ended = datetime.now(UTC)
        self.settle(Outcome(ended, "interrupted"))
        self._tracker.tell("end of the run", lambda: self._write_finish(succeeded, ended))

    def settle(self, otherwise: Outcome | None = None) -> None:
        """Have written what waits for one source more; what has not ended for any ends ``otherwise``, if given."""
        for attempt in self._attempts.settle(otherwise):
            self._ready(attempt)

    def _ready(self, attempt: Attempt) -> None:
        self._tracker.tell(f"call {attempt.call_id} of {attempt.tool}", lambda: self._write(attempt))

    # In the thread

    def _write_turn(self, name: str, calls: Sequence[str], input_tokens: int | None, output_tokens: int | None) -> None:
        written = self._tracker.written(self)
        step = _Step(name)
        shares = zip(calls, split(input_tokens, len(calls)), split(output_tokens, len(calls)), strict=True)
        for call_id, read, made in shares:
            if call_id not in written.calls:  # a turn told again, by a second recorder
                written.numbers += 1
                written.calls[call_id] = _Call(written.numbers, read, made)
                written.steps[call_id] = step

    def _write_start(self, call_id: str) -> None:
        written = self._tracker.written(self)
        if call_id not in written.calls:
            written.numbers += 1
            written.calls[call_id] = _Call(written.numbers)

    def _write(self, attempt: Attempt) -> None:
        outcome = self._attempts.seal(attempt)
        if outcome is None:
            return
        tracker, call_id = self._tracker, attempt.call_id
        written = tracker.written(self)
        self._write_start(call_id)
        agent_id, tool_id = self._catalogue(attempt)
        known = written.calls[call_id]
        step = written.steps.setdefault(call_id, _Step(attempt.tool))
        tracker.model.recorder.record(
            ToolExecution(
                user_id=self.user_id,
                session_id=written.entity.session_id,
                process_id=self._process(written, step, (agent_id, tool_id), call_id, attempt.at),
                agent_id=agent_id,
                tool_id=tool_id,
                attempt=attempt.number,
                tool_name=attempt.tool,
                values=fitting(as_text(attempt.arguments)),
                executed_at=attempt.at,
                succeeded=outcome.status in _WELL,
                status=outcome.status,
                result=fitting(as_text(outcome.result)),
                call_number=known.number,
                call_id=tracker.call_id(self.user_id, self.session, call_id, str(attempt.number)),
                error_type=outcome.error_type,
                duration_ms=max(0, round((outcome.at - attempt.at).total_seconds() * 1000)),
                input_tokens=known.input_tokens,
                output_tokens=known.output_tokens,
            )
        )
        known.input_tokens = known.output_tokens = None  # a retry was not asked for by the model: it cost no tokens

    def _process(self, written: _Written, step: _Step, place: tuple[str, str], call_id: str, at: datetime) -> str:
        """The process of a call; a second call of the same tool has another one, so that it looks like no retry."""
        for process_id, taken in step.processes:
            if taken.setdefault(place, call_id) == call_id:
                return process_id
        process = UserSessionProcess(
            user_id=self.user_id,
            session_id=written.entity.session_id,
            process_id=keys.process_id(1),
            name=step.name,
            prompt=fitting(self.request),
            started_at=at,
        )
        process_id = self._tracker.model.recorder.record(process).entity.process_id
        step.processes.append((process_id, {place: call_id}))
        return process_id

    def _write_suggestion(self) -> None:
        entity = self._tracker.written(self).entity
        if entity.suggestion_id != self.suggestion_id:
            entity.suggestion_id = self.suggestion_id
            self._tracker.model.recorder.record(entity)

    def _write_finish(self, succeeded: bool | None, ended: datetime) -> None:
        entity = self._tracker.written(self).entity
        entity.ended_at = ended
        if succeeded is not None:
            entity.succeeded = succeeded
        self._tracker.model.recorder.record(entity)

    def _catalogue(self, attempt: Attempt) -> tuple[str, str]:
        agent_id, tool_id, domain_id = self.agent_id(attempt.agent), self.tool_id(attempt.tool), self.domain_id
        self._tracker.make(
            Domain(domain_id=domain_id, name=self._tracker.domain),
            Agent(agent_id=agent_id, domain_id=domain_id, name=attempt.agent),
            Tool(agent_id=agent_id, tool_id=tool_id, domain_id=domain_id, name=attempt.tool),
        )
        return agent_id, tool_id


def _is_id(prefix: str, text: str) -> bool:
    if not text.startswith(prefix) or len(text) == len(prefix):
        return False
    try:
        keys.check_id("id", text, prefix)
    except ValidationError:
        return False
    return True


def _id(prefix: str, name: str) -> str:
    """The id that a name gives; an id stays as it is."""
    return name if _is_id(prefix, name) else keys.stable_id(prefix, name)
