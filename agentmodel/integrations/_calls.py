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
from agentmodel.exceptions import ValidationError

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
class _Open:
    agent: str
    tool: str
    arguments: Any
    at: datetime


@dataclass(frozen=True, slots=True)
class _Outcome:
    at: datetime
    status: Status
    result: Any
    error_type: str | None


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
        self._import = TraceImport(model.table, model.repository, recorder=model.recorder)
        self._events: queue.Queue[Callable[[], None] | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._work, name="agentmodel-calls", daemon=True)
        self._thread.start()

    def run(
        self, session: str, *, user: str | None = None, request: str | None = None, category: str | None = None
    ) -> Run:
        """The run of a session; the same one for the same session, whoever asks.

        Args:
            session: The framework's thread or conversation; a ``SESS…`` id of the history continues that session.
            user: Whom it works for, by name or ``USR…`` id; None is an anonymous user.
            request: What the user asked for.
            category: The kind of request.
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
        return run

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything told so far is written; whether that was done within ``timeout`` seconds."""
        done = threading.Event()
        try:
            self._events.put(done.set, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(timeout)

    def close(self) -> None:
        """Write what waits, and stop."""
        if self._thread.is_alive():
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
        names = (self.domain, run.session)
        if _is_id("SESS", run.session):
            stored = self.model.repository.session(run.user_id, run.session)
            session_id, source_id = run.session, None
        else:
            stored = self._import.stored_session(run.user_id, *names)
            session_id = keys.imported_session_id(run.began, *names) if stored is None else stored.session_id
            source_id = json.dumps(names, ensure_ascii=False)  # as the trace import names it, so that it is found
        name = " ".join((run.request or run.category or run.session).split())[:_NAME]
        entity = UserSession(
            user_id=run.user_id,
            session_id=session_id,
            name=name or "session",
            request=fitting(run.request),
            category=run.category,
            started_at=run.began,
            source_id=source_id,
        )
        numbers = 0
        if stored is not None:
            entity, numbers = recorder.continued(entity)
        recorder.open(entity, new=stored is None)
        recorder.record(entity)
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
    """One session, as a framework runs it; made by `Tracker.run`. Its methods never raise and never wait."""

    def __init__(
        self, tracker: Tracker, user_id: str, user: str, *, session: str, request: str | None, category: str | None
    ) -> None:
        self._tracker = tracker
        self.user_id, self.user, self.session = user_id, user, session
        self.request, self.category = request, category
        self.began = datetime.now(UTC)
        self._lock = threading.Lock()
        self._attempts: dict[str, int] = {}
        self._open: dict[tuple[str, int], _Open] = {}

    def turn(
        self, name: str, *, calls: Sequence[str], input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """The model asked for calls, in this order; the turn is a step, its tokens are split over its calls."""
        self._tracker.tell(f"turn {name}", lambda: self._write_turn(name, calls, input_tokens, output_tokens))

    def start(self, call_id: str, *, agent: str, tool: str, arguments: Any = None, at: datetime | None = None) -> int:
        """A call begins.

        Args:
            call_id: The framework's id of the call; a retry has the same one.
            agent: Name of the agent that calls.
            tool: Name of the tool.
            arguments: What the tool is given.
            at: When; now when not given.

        Returns:
            The number of the attempt, for `end`.
        """
        with self._lock:
            attempt = self._attempts[call_id] = self._attempts.get(call_id, 0) + 1
            self._open[call_id, attempt] = _Open(agent, tool, arguments, at or datetime.now(UTC))
        self._tracker.tell(f"start {call_id}", lambda: self._write_start(call_id))
        return attempt

    def end(
        self,
        call_id: str,
        attempt: int,
        *,
        status: Status,
        result: Any = None,
        error_type: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """A call ended; an end that was told before, or of no call that began, changes nothing."""
        outcome = _Outcome(at or datetime.now(UTC), status, result, error_type)
        with self._lock:
            call = self._open.pop((call_id, attempt), None)
        if call is not None:
            told = f"call {call_id} of {call.tool}"
            self._tracker.tell(told, lambda: self._write(call_id, attempt, call, outcome))

    def finish(self, succeeded: bool | None = None) -> None:
        """The run is over: what has not ended was interrupted. ``succeeded`` None leaves the outcome to its calls."""
        ended = datetime.now(UTC)
        with self._lock:
            left = list(self._open)
        for call_id, attempt in left:
            self.end(call_id, attempt, status="interrupted", at=ended)
        self._tracker.tell("end of the run", lambda: self._write_finish(succeeded, ended))

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

    def _write(self, call_id: str, attempt: int, call: _Open, outcome: _Outcome) -> None:
        tracker = self._tracker
        written = tracker.written(self)
        self._write_start(call_id)
        agent_id, tool_id = _catalogue(tracker, call)
        known = written.calls[call_id]
        step = written.steps.setdefault(call_id, _Step(call.tool))
        tracker.model.recorder.record(
            ToolExecution(
                user_id=self.user_id,
                session_id=written.entity.session_id,
                process_id=self._process(written, step, (agent_id, tool_id), call_id, call.at),
                agent_id=agent_id,
                tool_id=tool_id,
                attempt=attempt,
                tool_name=call.tool,
                values=fitting(as_text(call.arguments)),
                executed_at=call.at,
                succeeded=outcome.status in _WELL,
                status=outcome.status,
                result=fitting(as_text(outcome.result)),
                call_number=known.number,
                call_id=tracker.call_id(self.user_id, self.session, call_id, str(attempt)),
                error_type=outcome.error_type,
                duration_ms=max(0, round((outcome.at - call.at).total_seconds() * 1000)),
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

    def _write_finish(self, succeeded: bool | None, ended: datetime) -> None:
        entity = self._tracker.written(self).entity
        entity.ended_at = ended
        if succeeded is not None:
            entity.succeeded = succeeded
        self._tracker.model.recorder.record(entity)


def _catalogue(tracker: Tracker, call: _Open) -> tuple[str, str]:
    domain_id = keys.stable_id("DMN", tracker.domain)
    agent_id = call.agent if _is_id("AGT", call.agent) else keys.stable_id("AGT", tracker.domain, call.agent)
    tool_id = _id("TL", call.tool)
    tracker.make(
        Domain(domain_id=domain_id, name=tracker.domain),
        Agent(agent_id=agent_id, domain_id=domain_id, name=call.agent),
        Tool(agent_id=agent_id, tool_id=tool_id, domain_id=domain_id, name=call.tool),
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
