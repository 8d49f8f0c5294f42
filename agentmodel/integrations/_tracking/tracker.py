"""What the recorders of all frameworks share: runs and calls by the framework's ids, written into history later.

    tracker = Tracker(model, domain="support")
    run = tracker.run("thread-7", user="ada", request="find a café")
    run.turn("model", calls=["c1", "c2"], input_tokens=11, output_tokens=5)
    attempt = run.start("c1", agent="finder", tool="search", arguments={"q": "a"})
    run.end("c1", attempt, status="ok", result="found")
    tracker.close()

Each method reports an event to the tracker's `BackgroundWorker` and returns, so it can be called from a tool's thread
or from an event loop. The worker takes the events in their order and writes many in one round trip. What cannot be
written is counted and logged record by record, and the agent never sees it. Calls are numbered as the model asked for
them (`TrackedRun.turn`), whatever the order they end in.

Two recorders of one run, such as a callback and a middleware, share a tracker and give each its ``source``. The nth
start of a call is its nth attempt, whoever reports it. The attempt is one execution, written when every source that
began it has ended it. What the sources report of its end is merged: the stronger status wins
(`agentmodel.integrations._tracking.attempts.merged`).

    run.start("c1", agent="finder", tool="pay", source="middleware")   # 1
    run.start("c1", agent="finder", tool="pay", source="callback")     # 1: the same attempt
    run.end("c1", 1, status="ok", source="callback")
    run.end("c1", 1, status="edited", source="middleware")             # one execution, edited
"""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from agentmodel._log import logger
from agentmodel._runtime.background import MAX_WAITING, BackgroundWorker
from agentmodel._runtime.process import renew_in_child
from agentmodel._values.counts import Usage
from agentmodel._values.outcomes import check_outcome
from agentmodel._values.text import NAME_BYTES, storable_text
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import OutcomeSource, Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.attempts import Attempt, AttemptOutcome, Attempts
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.recorded import ReportedCalls
from agentmodel.integrations._tracking.revisions import Revisions, RevisionsGiven
from agentmodel.integrations._tracking.run_identity import RunIdentity, SessionLookup, user_id_of
from agentmodel.integrations._tracking.session_writer import SessionWriter

__all__ = ["TrackedRun", "Tracker", "check_tracker"]

_log = logger(__name__)

_YIELD_AFTER = 0.0005
"""Seconds that the worker makes an agent's thread wait for the interpreter; each change of threads costs 25 µs."""

Event: TypeAlias = tuple[str, Callable[[], None]]
"""What an event is called in the log, and what the worker does for it."""


class Tracker:
    """Takes what frameworks report of their calls, and writes it into history in the background.

    Close it before the model; closing the model closes it too. At the end of the process everything that was reported
    is still written, within 10 seconds. A forked child starts with nothing that waits, and reports what it does itself.

    Args:
        model: The installation.
        domain: Name or id of the domain of the agents.
        max_waiting: Events that may wait to be written; of more, the newest is dropped and counted in ``errors``.
        max_sessions: Sessions that are cached; a session that was dropped from the cache is read from the history.
        revisions: The revision of each agent by its name, such as ``{"finder": "v3"}``: scores fade what earlier ones
            did. ``auto`` for a digest of the prompt, model and tools that the framework shows; then a prompt must not
            change from run to run, as one with the day in it does. None records none.

    Raises:
        ValidationError: ``model`` is not an `AgentModel`, such as an `AsyncAgentModel`, or ``revisions`` is not valid.

    Attributes:
        model: The installation.
        domain: Name or id of the domain of the agents.
        lookup: Finds the sessions of runs in the history.
        writer: Writes the sessions.
        revisions: The revisions of the agents.
        reported: The calls that recorders reported, whose spans are left out.

    >>> with Tracker(model, domain="cafes") as tracker:
    ...     run = tracker.run("thread-1", user="kim", request="a café near the park")
    ...     tracker.flush(), tracker.errors
    (True, 0)
    """

    def __init__(
        self,
        model: AgentModel,
        *,
        domain: str = "agents",
        max_waiting: int = MAX_WAITING,
        max_sessions: int = 1000,
        revisions: RevisionsGiven = None,
    ) -> None:
        _check("model", model, AgentModel, "must be an AgentModel, for agents that are awaited too: a thread writes")
        self.model = model
        self.domain = domain
        self.lookup = SessionLookup(model, domain)
        self.reported = ReportedCalls.of(model)
        self.revisions = Revisions(revisions)
        self.writer = SessionWriter(model, domain, self.failed, self.revisions, max_sessions=max_sessions)
        self._failures = 0
        self._max_sessions = max_sessions
        self._runs: OrderedDict[tuple[str, str], TrackedRun] = OrderedDict()
        self._worker = BackgroundWorker(
            "tracker", max_waiting=max_waiting, when_full="drop", before_exit=self._settle_runs
        )
        self.renew()
        renew_in_child(self)
        model.on_close.append(self.close)

    def renew(self) -> None:
        """Begin anew in a forked child: attempts that run are reported by the parent."""
        self._lock = threading.Lock()
        self._half_ended: set[TrackedRun] = set()  # runs with an attempt that ended for one source and not for all

    @property
    def errors(self) -> int:
        """Return how many events and records were not kept.

        Each that cannot be written is logged as ``integrations.not_recorded``; events that are dropped because too
        many wait are logged once a minute, with their number, as ``tracker.dropped``.
        """
        return self._failures + self._worker.dropped

    def run(
        self,
        session: str,
        *,
        user: str | None = None,
        request: str | Callable[[], str | None] | None = None,
        category: str | None = None,
        suggestion_id: str | None = None,
    ) -> TrackedRun:
        """Return the run of a session; the same one for the same session, whoever asks.

        Args:
            session: The framework's thread or conversation; a ``SESS…`` id of the history continues that session.
            user: Name or ``USR…`` id of the user it works for; None is an anonymous user.
            request: What the user asked for, or a function that returns it, which is called for a run that is new.
            category: The kind of request.
            suggestion_id: The plan it follows; see `TrackedRun.follow`.
        """
        user, session = id_or_none(storable_text(user, limit=NAME_BYTES)), storable_text(session) or ""
        key = user_id_of(user), session
        with self._lock:
            run = self._runs.get(key)
        if run is None:
            asked = storable_text(request() if callable(request) else request)
            category = storable_text(category, limit=NAME_BYTES)
            run = TrackedRun(self, user, session=session, request=asked, category=category)
        with self._lock:
            run = self._runs.setdefault(key, run)
            self._runs.move_to_end(key)
            if len(self._runs) > self._max_sessions:
                self._runs.popitem(last=False)
        run.follow(suggestion_id)
        return run

    def outcome(
        self,
        session: str,
        *,
        user: str | None = None,
        succeeded: bool | None = None,
        score: float | None = None,
        source: OutcomeSource = "person",
        by: str | None = None,
        reason: str | None = None,
        agent: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Report how a session went, as somebody outside of it says, by the framework's name of the session.

            tracker.outcome("thread-7", user="ada", succeeded=False, by="ada", reason="wrong café")

        It works for every framework, whether the session is still under way or ended last week; see
        `TrackedRun.outcome`.

        Args:
            session: The framework's thread or conversation, or a ``SESS…`` id, as `run` takes it.
            user: Name or ``USR…`` id of the user it worked for; None is the anonymous user.
            succeeded: Whether it did what was asked; by the score when not given.
            score: How good it was, from 0 to 1.
            source: Who says so: a ``person``, an ``event`` or an ``evaluator``.
            by: Name of the person, event or evaluator.
            reason: Why.
            agent: Name of the agent whose run this is about; the whole session when not given.
            at: When it was said; now when not given.

        Raises:
            ValidationError: A value is not valid.
        """
        self.run(session, user=user).outcome(
            succeeded=succeeded, score=score, source=source, by=by, reason=reason, agent=agent, at=at
        )

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything reported so far is written; whether that was done within ``timeout`` seconds.

        An attempt that has ended for one source is written as it is, without waiting for the others.
        """
        self._settle_runs()
        return self._worker.flush(timeout)

    def close(self) -> None:
        """Write what waits and stop; what is not written after 30 seconds is dropped and counted in ``errors``."""
        self._settle_runs()
        self._worker.close()
        if self.close in self.model.on_close:
            self.model.on_close.remove(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def failed(self, what: str, error: BaseException | None = None) -> None:
        """Count and log what could not be recorded.

        Args:
            what: The event or record.
            error: Why; inside ``except`` the error that is handled, when not given.
        """
        with self._lock:
            self._failures += 1
        _log.error("integrations.not_recorded: %s", what, exc_info=error or sys.exc_info()[1])

    def enqueue(self, what: str, act: Callable[[], None]) -> None:
        """Have the worker do something after what was reported before; never raises, never waits.

        Args:
            what: What it is called in the log.
            act: Does it.
        """
        self._worker.put(self._handle, ((what, act),))

    def remember_half_ended(self, run: TrackedRun) -> None:
        """Note that an attempt of a run may wait for a second source."""
        with self._lock:
            self._half_ended.add(run)

    def _settle_runs(self) -> None:
        with self._lock:
            runs, self._half_ended = self._half_ended, set()
        for run in runs:
            run.settle()

    def _handle(self, events: Sequence[Event]) -> None:
        yielded = time.monotonic()
        for what, act in events:
            try:
                act()
            except Exception:  # noqa: BLE001  # it must not reach the agent or the other events: it is counted and logged
                self.failed(what)
            if time.monotonic() - yielded > _YIELD_AFTER:
                time.sleep(0)  # lets threads of the agent run first that wait for the interpreter
                yielded = time.monotonic()
        try:
            self.writer.commit()
        except Exception:  # noqa: BLE001  # likewise
            self.failed(f"{len(events)} events")


class TrackedRun(RunIdentity):
    """One session, as a framework runs it; made by `Tracker.run`. Its methods never raise and do not wait."""

    def __init__(
        self, tracker: Tracker, user: str | None, *, session: str, request: str | None, category: str | None
    ) -> None:
        super().__init__(tracker.lookup, user, session=session, request=request, category=category)
        self._tracker = tracker
        self._report, self._writer, self._reported = tracker.enqueue, tracker.writer, tracker.reported
        self._attempts = Attempts()

    def renew(self) -> None:
        """Begin anew in a forked child: attempts that run are reported by the parent."""
        super().renew()
        self._attempts = Attempts()

    def follow(self, suggestion_id: str | None) -> None:
        """Report that the run follows a plan, so that the plan's suggestion learns how the session went.

        Args:
            suggestion_id: The plan's suggestion; None, of a plan that was not kept, changes nothing.
        """
        if suggestion_id is not None and suggestion_id != self.suggestion_id:
            self.suggestion_id = suggestion_id
            self._report(f"suggestion {suggestion_id}", partial(self._writer.follow, self, suggestion_id))

    def turn(
        self,
        name: str,
        *,
        calls: Sequence[str],
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        model_name: str | None = None,
        scope: str = "",
    ) -> None:
        """Report that the model asked for calls, in this order.

        The turn is a step of the session, and its tokens are divided over its calls. An id whose call has ended is
        asked for as a new call: some servers number the calls of each answer anew.

        Args:
            name: Name of the step.
            calls: The framework's ids of the calls.
            input_tokens: Tokens that the model read, those of its provider's cache included.
            output_tokens: Tokens that it wrote, those of its reasoning included.
            cached_tokens: Of the input tokens, those that were read from the provider's cache.
            cache_write_tokens: Of the input tokens, those that were written into it.
            reasoning_tokens: Of the output tokens, those of its reasoning.
            model_name: The model, as its provider names it.
            scope: Which of several agents that run at once asks for them, where each may number its calls by itself:
                the same id in another scope is another call. Report starts and edits of its calls with the same scope.
        """
        name = storable_text(name, limit=NAME_BYTES) or "model"
        own = [self._attempts.ask(call_id, scope) for call_id in calls]
        usage = Usage(input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, model_name)
        self._report(f"turn {name}", partial(self._writer.turn, self, name, own, usage))

    def asked(self, call_id: str, *, scope: str = "") -> tuple[int, datetime | None]:
        """Return how many calls of this id the model asked for in this process, and when it asked for the last one."""
        return self._attempts.asked(call_id, scope)

    def start(
        self,
        call_id: str,
        *,
        agent: str,
        tool: str,
        arguments: Any = None,
        at: datetime | None = None,
        source: str = "",
        scope: str = "",
    ) -> int:
        """Report that an attempt of a call begins.

        Report only what goes on to the tool: a call that waits for a person first begins when it may be made, and one
        that is never made is reported by `call`.

        Args:
            call_id: The framework's id of the call; a retry has the same one.
            agent: Name of the agent that calls.
            tool: Name of the tool.
            arguments: What the tool is given.
            at: When; now when not given.
            source: Who reports it, where several recorders listen to one run: each counts its own starts.
            scope: Which of several agents that run at once makes it; see `turn`.

        Returns:
            The number of the attempt, for `end`: the nth start that this source reports is the nth attempt.
        """
        began = at or datetime.now(UTC)
        agent = storable_text(agent, limit=NAME_BYTES) or "agent"
        tool = storable_text(tool, limit=NAME_BYTES) or "tool"
        self._reported.note(call_id, tool, began)
        number, first, asked = self._attempts.start(
            call_id, source, agent=agent, tool=tool, arguments=arguments, at=began, scope=scope
        )
        if not first:
            self._tracker.remember_half_ended(self)
        elif not asked:  # else the turn has numbered it
            self._report(f"start {call_id}", partial(self._writer.start, self, number.call_id))
        return number

    def edited(self, call_id: str, arguments: Any = None, *, scope: str = "") -> None:
        """Report that a person changed a call before it was made.

        Its attempts that succeed from now on are ``edited``; one that fails is an ``error`` all the same. Report it
        before the attempt ends.

        Args:
            call_id: The call.
            arguments: What it is made with, if the recorders do not see that themselves.
            scope: As in `start`.
        """
        self._attempts.edited(call_id, arguments, scope)

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
        """Report that an attempt ended.

        It is written when every source that began it has ended it, or the run is over; until then what the sources
        report is merged. An end that this source reported before, or of an attempt that it did not begin, is ignored.

        Args:
            call_id: The framework's id of the call.
            attempt: What `start` returned.
            status: How it ended, as this source saw it.
            result: What the tool returned, or what the model reads in its place.
            error_type: Name of the error, of an ``error``.
            at: When; now when not given.
            source: As in `start`.
        """
        ended = self._attempts.end(
            call_id, attempt, source, AttemptOutcome(at or datetime.now(UTC), status, result, error_type)
        )
        if ended is not None and not ended.running:
            self._report_ended(ended)

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
        scope: str = "",
    ) -> int:
        """Report a whole attempt at once: one that never reached its tool, or one that was seen when it was over.

        Args:
            call_id: The framework's id of the call.
            agent: Name of the agent that calls.
            tool: Name of the tool.
            status: ``blocked``, ``cache_hit``, ``rejected``, ``expired``, ``unknown_tool``, or how it ended.
            arguments: What the tool would have been given.
            result: What the model reads in place of a result.
            error_type: Name of the error, of an ``error``.
            began: When it began; ``at`` when not given.
            at: When it ended; now when not given.
            source: As in `start`.
            scope: As in `start`.

        Returns:
            The number of the attempt.
        """
        ended = at or datetime.now(UTC)
        attempt = self.start(
            call_id, agent=agent, tool=tool, arguments=arguments, at=began or ended, source=source, scope=scope
        )
        self.end(call_id, attempt, status=status, result=result, error_type=error_type, at=ended, source=source)
        return attempt

    def outcome(
        self,
        *,
        succeeded: bool | None = None,
        score: float | None = None,
        source: OutcomeSource = "person",
        by: str | None = None,
        reason: str | None = None,
        agent: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Report how the run went, as somebody outside of it says, also long after its end.

        See `AgentModel.outcome`. Nothing is recorded for a session that the history does not have, such as under
        another user: that is counted in the tracker's ``errors`` and logged.

        Args:
            succeeded: Whether the run did what was asked; by the score when not given.
            score: How good the run was, from 0 to 1.
            source: Who says so: a ``person``, an ``event`` or an ``evaluator``.
            by: Name of the person, event or evaluator.
            reason: Why.
            agent: Name of the agent whose run this is about; the whole session when not given.
            at: When it was said; now when not given.

        Raises:
            ValidationError: A value is not valid.
        """
        check_outcome(succeeded, score, source=source, at=at)
        self._report(
            f"outcome of {self.session}",
            partial(
                self._writer.outcome,
                self,
                succeeded=succeeded,
                score=score,
                source=source,
                by=by,
                reason=reason,
                agent_id=None if agent is None else self.agent_id(storable_text(agent, limit=NAME_BYTES) or "agent"),
                at=at or datetime.now(UTC),
            ),
        )

    def finish(self, succeeded: bool | None = None, *, running: bool = False) -> None:
        """Report that the run is over: attempts that have not ended were interrupted.

        Args:
            succeeded: How it went; None leaves that to its calls. Of several runs of a session the last one decides: a
                failure that was reported here before is taken back.
            running: Attempts that have not ended go on: one of several agents is done, and others of the same run are
                not, such as the one that called it.
        """
        ended = datetime.now(UTC)
        if not running:
            self.settle(AttemptOutcome(ended, "interrupted"))
        self._report("end of the run", partial(self._writer.finish, self, succeeded, ended))

    def settle(self, default: AttemptOutcome | None = None) -> None:
        """Write attempts that wait for one source more.

        Args:
            default: The end of attempts that no source has ended; None leaves them running.
        """
        for attempt in self._attempts.settle(default):
            self._report_ended(attempt)

    def _report_ended(self, attempt: Attempt) -> None:
        self._report(attempt.label, partial(self._write, attempt))

    def _write(self, attempt: Attempt) -> None:
        outcome = self._attempts.seal(attempt)
        if outcome is not None:
            self._writer.end(self, attempt, outcome)


def check_tracker(given: object) -> None:
    """Check that something is a tracker, before an agent runs with it.

    Raises:
        ValidationError: It is not, such as the model itself.
    """
    _check("tracker", given, Tracker, "must be a Tracker, which is made of the model: Tracker(model)")


def _check(name: str, given: object, kind: type, rule: str) -> None:
    if not isinstance(given, kind):
        raise ValidationError(name, type(given).__name__, rule)
