"""What all recorders of frameworks share: runs and calls by the framework's own ids, written into history behind it.

    tracker = Tracker(model, domain="support")
    run = tracker.run("thread-7", user="ada", request="find a café")
    run.turn("model", calls=["c1", "c2"], input_tokens=11, output_tokens=5)
    attempt = run.start("c1", agent="finder", tool="search", arguments={"q": "a"})
    run.end("c1", attempt, status="ok", result="found")
    tracker.close()

Each method puts an event into a bounded queue and returns, so it can be called from a tool's thread or from an event
loop; one thread takes them in their order and writes many at once. What fails there is counted, record by record, and
logged, and is never the agent's.
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

import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from agentmodel import keys
from agentmodel.access.importing import ANONYMOUS, TraceImport
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import Unavailable, ValidationError
from agentmodel.integrations._attempts import Attempt, Attempts, Outcome
from agentmodel.integrations._queue import EventQueue
from agentmodel.integrations._writing import Writing, told

__all__ = ["Run", "Tracker", "check_tracker"]

_log = logging.getLogger(__name__)


class Tracker:
    """Takes what frameworks tell of their calls, and writes it into history from a thread of its own.

    Args:
        model: The installation; close the tracker before the model.
        domain: Name of the domain of the agents.
        max_waiting: Events that wait to be written; of more, the newest is dropped and counted in ``errors``.
        max_sessions: Sessions kept at hand; one that was let go is read from the history again.

    Raises:
        ValidationError: The model is none, such as an `AsyncAgentModel`.

    Attributes:
        errors: Events and records that were not kept; each is logged as ``integrations.not_recorded``.
    """

    def __init__(
        self, model: AgentModel, *, domain: str = "agents", max_waiting: int = 10_000, max_sessions: int = 1000
    ) -> None:
        _check("model", model, AgentModel, "an AgentModel, for agents that are awaited too: a thread writes")
        self.model = model
        self.domain = domain
        self.errors = 0
        self._lock = threading.Lock()
        self._runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self._max_sessions = max_sessions
        self._shared: set[Run] = set()  # runs with an attempt that may have ended for one source and not for all
        self._finding = threading.Lock()
        self._import = TraceImport(model.table, model.repository, recorder=model.recorder)
        self.writing = Writing(model, domain, self.failed, max_sessions=max_sessions)
        self._queue = EventQueue(self.writing.commit, self.failed, most=max_waiting)

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
        return self._queue.flush(timeout)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._settle()
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def failed(self, what: str, error: BaseException | None = None) -> None:
        """Count and log what could not be recorded; inside ``except``, that error is logged when none is given."""
        with self._lock:
            self.errors += 1
        _log.error("integrations.not_recorded: %s", what, exc_info=error or sys.exc_info()[1])

    def tell(self, what: str, act: Callable[[], None]) -> None:
        """Have something done by the writing thread, in its turn; never raises, never waits."""
        if not self._queue.put(what, act):
            self.failed(f"{what}: too many events wait")

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
        self._tell, self._writing = tracker.tell, tracker.writing
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
            self._tell(f"suggestion {suggestion_id}", partial(self._writing.follow, self, suggestion_id))

    def turn(
        self, name: str, *, calls: Sequence[str], input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """The model asked for calls, in this order; the turn is a step, its tokens are split over its calls."""
        self._tell(f"turn {name}", partial(self._writing.turn, self, name, calls, (input_tokens, output_tokens)))

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
            self._tell(f"start {call_id}", partial(self._writing.start, self, call_id))
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
        """The run is over: what has not ended was interrupted.

        Args:
            succeeded: How it went; None leaves that to its calls. Of several runs of a session the last one says it: a
                failure that was told here before is taken back.
        """
        ended = datetime.now(UTC)
        self.settle(Outcome(ended, "interrupted"))
        self._tell("end of the run", partial(self._writing.finish, self, succeeded, ended))

    def settle(self, otherwise: Outcome | None = None) -> None:
        """Have written what waits for one source more; what has not ended for any ends ``otherwise``, if given."""
        for attempt in self._attempts.settle(otherwise):
            self._ready(attempt)

    def _ready(self, attempt: Attempt) -> None:
        self._tell(told(attempt), partial(self._write, attempt))

    def _write(self, attempt: Attempt) -> None:
        outcome = self._attempts.seal(attempt)
        if outcome is not None:
            self._writing.end(self, attempt, outcome)


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


def check_tracker(given: object) -> None:
    """Refuse what is no tracker, before an agent runs with it.

    Raises:
        ValidationError: It is none, such as the model itself.
    """
    _check("tracker", given, Tracker, "a Tracker, which is made of the model: Tracker(model)")


def _check(name: str, given: object, kind: type, rule: str) -> None:
    if not isinstance(given, kind):
        raise ValidationError(name, type(given).__name__, rule)
