"""Makes history of the events that recorders report: entities, many of which are written in one round trip.

Events only note what has to be written; `SessionWriter.commit` writes it: new sessions and processes first, since
processes get their numbers when they are written, then the calls, then changes of sessions. A batch that a store
refuses is written one by one, so that one bad record does not lose the others; each that fails is counted.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.process import renew_in_child
from agentmodel._values.counts import Usage
from agentmodel._values.text import storable_text
from agentmodel.access.recorder import HistoryEntity, Receipt
from agentmodel.client import AgentModel
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Status, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.exceptions import NotFound
from agentmodel.integrations._tracking.attempts import MAX_CALLS, Attempt, AttemptOutcome
from agentmodel.integrations._tracking.revisions import Revisions
from agentmodel.integrations._tracking.run_identity import RunIdentity

__all__ = ["SessionWriter"]

_log = logger(__name__)

_MAX_STORED = 100_000  # keys that are remembered, one for each user: of more, all are looked up again
_NAME = 200  # characters of a session's name, which is an index key
_SUCCEEDED: tuple[Status, ...] = ("ok", "edited", "cache_hit")


@dataclass(slots=True)
class _CallState:
    number: int
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class _ProcessState:
    """A process, and which call uses which tool of which agent in it."""

    entity: UserSessionProcess
    calls: dict[tuple[str, str], str]
    written: bool = False


@dataclass(slots=True)
class _StepState:
    """A turn of the model: it has one process, and another one for each further call of one and the same tool."""

    name: str
    processes: list[_ProcessState] = field(default_factory=list)


@dataclass(slots=True)
class _SessionState:
    """A session that is cached.

    Attributes:
        entity: The session.
        call_count: Calls so far.
        process_count: Processes so far.
        written: Whether a store has it.
        change: What changed since it was written, for the log.
        failed: Its last run failed, so the next one has to say how it went.
        calls: Its calls by the framework's id.
        steps: The step of each call, likewise.
    """

    entity: UserSession
    call_count: int
    process_count: int
    written: bool = False
    change: str | None = None
    failed: bool = False
    calls: dict[str, _CallState] = field(default_factory=dict)
    steps: dict[str, _StepState] = field(default_factory=dict)

    def add(self, call_id: str, call: _CallState) -> None:
        """Remember a call; of too many, the oldest is forgotten."""
        self.calls[call_id] = call
        while len(self.calls) > MAX_CALLS:
            oldest = next(iter(self.calls))
            del self.calls[oldest]
            self.steps.pop(oldest, None)


class SessionWriter:
    """Makes history of events; used by the thread of one worker.

    Args:
        model: The installation.
        domain: Name or id of the domain of the agents.
        failed: Called with what could not be written, and why.
        revisions: The revisions of the agents.
        max_sessions: Sessions that are cached; a session that was dropped from the cache is read from the history.
    """

    def __init__(
        self,
        model: AgentModel,
        domain: str,
        failed: Callable[[str, Exception | None], None],
        revisions: Revisions,
        *,
        max_sessions: int,
    ) -> None:
        self._model = model
        self._domain = keys.name_of("DMN", domain)
        self._failed = failed
        self._revisions = revisions
        self._max_sessions = max_sessions
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew in a forked child: the parent may be in the middle of a commit."""
        self._token = uuid.uuid4().hex
        self._stored_keys: set[str] = set()  # of the catalogue
        self._tool_refs: dict[tuple[str, str], tuple[str, str]] = {}  # ids by names of agent and tool
        self._sessions: OrderedDict[tuple[str, str], _SessionState] = OrderedDict()
        self._touched: dict[tuple[str, str], tuple[RunIdentity, _SessionState]] = {}
        self._processes: list[tuple[_StepState, _ProcessState]] = []
        self._calls: list[tuple[str, _ProcessState, ToolExecution]] = []
        self._outcomes: list[tuple[str, HistoryEntity]] = []

    # Events

    def turn(self, run: RunIdentity, name: str, calls: Sequence[str], usage: Usage) -> None:
        """Number the calls that the model asked for; a turn that a second recorder reports again is ignored."""
        session = self._session(run)
        step = _StepState(name)
        for call_id, share in zip(calls, usage.checked().shares(len(calls)), strict=True):
            if call_id not in session.calls:
                session.call_count += 1
                session.add(call_id, _CallState(session.call_count, share))
                session.steps[call_id] = step

    def start(self, run: RunIdentity, call_id: str) -> None:
        """Give a call that begins the next number, if no turn gave it one."""
        session = self._session(run)
        if call_id not in session.calls:
            session.call_count += 1
            session.add(call_id, _CallState(session.call_count))

    def end(self, run: RunIdentity, attempt: Attempt, outcome: AttemptOutcome) -> None:
        """Note the execution of an attempt that ended."""
        call_id = attempt.call_id
        self.start(run, call_id)
        session = self._session(run)
        agent_id, tool_id = self._tool_ref(run, attempt, exists=outcome.status != "unknown_tool")
        call = session.calls[call_id]
        first = attempt.number == 1  # the model did not ask for a retry, so that cost no tokens, whichever ends first
        process = self._process(run, session, attempt, (agent_id, tool_id))
        execution = ToolExecution(
            user_id=run.user_id,
            session_id=session.entity.session_id,
            process_id=process.entity.process_id,
            agent_id=agent_id,
            tool_id=tool_id,
            attempt=attempt.number,
            tool_name=keys.name_of("TL", attempt.tool),
            values=storable_text(attempt.arguments),
            executed_at=attempt.at,
            succeeded=outcome.status in _SUCCEEDED,
            status=outcome.status,
            result=storable_text(outcome.result),
            call_number=call.number,
            call_id=self._call_id(run.user_id, run.session, call_id, str(attempt.number)),
            error_type=storable_text(outcome.error_type),
            duration_ms=max(0, round((outcome.at - attempt.at).total_seconds() * 1000)),
            **(call.usage if first else Usage())._asdict(),
            revision=self._revisions.of(attempt.agent),
        )
        self._calls.append((attempt.label, process, execution))

    def follow(self, run: RunIdentity, suggestion_id: str) -> None:
        """Note that the run follows a plan."""
        session = self._session(run)
        if session.entity.suggestion_id != suggestion_id:
            session.entity.suggestion_id = suggestion_id
            session.change = f"suggestion {suggestion_id}"

    def finish(self, run: RunIdentity, succeeded: bool | None, ended: datetime) -> None:
        """Note that the run is over."""
        session = self._session(run)
        session.entity.ended_at = ended
        if succeeded is not None or session.failed:
            session.entity.succeeded = succeeded
        session.failed = succeeded is False
        session.change = "end of the run"

    def outcome(self, run: RunIdentity, **said: Any) -> None:
        """Note what somebody outside of the run says of it.

        Args:
            run: The run.
            said: As `Recorder.outcome_of` takes it.

        Raises:
            NotFound: The history has no such session.
        """
        if (run.user_id, run.session) not in self._sessions and run.locate().is_new:
            run.forget()
            raise NotFound("session", f"{run.session} of {run.user_id}")
        entity = self._model.recorder.outcome_of(run.locate().session_id, user_id=run.user_id, **said)
        self._outcomes.append((f"outcome of {run.session}", entity))

    # Sessions, processes and the catalogue

    def _session(self, run: RunIdentity) -> _SessionState:
        """Return the session of a run: cached, stored, or made now."""
        key = run.user_id, run.session
        if key not in self._sessions:
            self._sessions[key] = self._open_session(run)
        self._sessions.move_to_end(key)
        self._touched[key] = run, self._sessions[key]
        return self._sessions[key]

    def _open_session(self, run: RunIdentity) -> _SessionState:
        recorder = self._model.recorder
        self._put_missing(run, User(user_id=run.user_id, name=run.user))
        session_id, new = run.locate()
        begun_by = self._model.table.redaction.text(run.request or run.category or run.session)
        name = " ".join(begun_by.split())[:_NAME]
        entity = UserSession(
            user_id=run.user_id,
            session_id=session_id,
            name=name or "session",
            request=run.request,
            category=run.category,
            suggestion_id=run.suggestion_id,
            started_at=run.began,
            # as the trace import names it, so that it is found
            source_id=None
            if session_id == run.session
            else json.dumps((self._domain, run.session), ensure_ascii=False),
        )
        call_count = process_count = 0
        if not new:
            entity, call_count, process_count = recorder.resume(entity)
        recorder.open(entity, new=new)
        return _SessionState(entity, call_count, process_count)

    def _process(
        self, run: RunIdentity, session: _SessionState, attempt: Attempt, tool_ref: tuple[str, str]
    ) -> _ProcessState:
        """Return the process of a call; a second call of the same tool has another one, so it looks like no retry."""
        step = session.steps.setdefault(attempt.call_id, _StepState(attempt.tool))
        for process in step.processes:
            if process.calls.setdefault(tool_ref, attempt.call_id) == attempt.call_id:
                return process
        session.process_count += 1
        entity = UserSessionProcess(
            user_id=run.user_id,
            session_id=session.entity.session_id,
            process_id=keys.process_id(session.process_count),
            name=step.name,
            prompt=run.request,
            started_at=attempt.at,
        )
        process = _ProcessState(entity, {tool_ref: attempt.call_id})
        step.processes.append(process)
        self._processes.append((step, process))
        return process

    def _tool_ref(self, run: RunIdentity, attempt: Attempt, *, exists: bool) -> tuple[str, str]:
        """Return the ids of agent and tool, after putting both into the catalogue where they are missing.

        A tool that does not exist is not put there: a model made its name up, perhaps of what its user said, and the
        catalogue is everybody's.
        """
        tool_ref = self._tool_refs.get((attempt.agent, attempt.tool))
        if tool_ref is None:
            agent_id, tool_id, domain_id = run.agent_id(attempt.agent), run.tool_id(attempt.tool), run.domain_id
            tool = Tool(agent_id=agent_id, tool_id=tool_id, domain_id=domain_id, name=keys.name_of("TL", attempt.tool))
            self._put_missing(
                run,
                Domain(domain_id=domain_id, name=self._domain),
                Agent(agent_id=agent_id, domain_id=domain_id, name=keys.name_of("AGT", attempt.agent)),
                *([tool] if exists else []),
            )
            tool_ref = agent_id, tool_id
            if exists:
                self._tool_refs[attempt.agent, attempt.tool] = tool_ref
        return tool_ref

    def _put_missing(self, run: RunIdentity, *entities: Entity) -> None:
        """Put entities that the catalogue lacks; each is looked up once, while it is not forgotten."""
        unchecked = [entity for entity in entities if f"{entity.pk}|{entity.sk}" not in self._stored_keys]
        if unchecked:
            self._model.recorder.put_missing(run.user_id, unchecked)
            if len(self._stored_keys) >= _MAX_STORED:
                self._stored_keys.clear()
            self._stored_keys.update(f"{entity.pk}|{entity.sk}" for entity in unchecked)

    def _call_id(self, *parts: str) -> str:
        """Return the identity of one attempt of a call: reported twice in this process, it is one item."""
        return hashlib.sha256(json.dumps([self._token, *parts]).encode()).hexdigest()[:32]

    # Writing

    def commit(self) -> None:
        """Write what the events since the last commit noted."""
        touched, self._touched = list(self._touched.values()), {}
        processes, self._processes = self._processes, []
        calls, self._calls = self._calls, []
        outcomes, self._outcomes = self._outcomes, []
        new = [(run, session) for run, session in touched if not session.written]
        wanted: list[tuple[str, HistoryEntity]] = [(f"session {run.session}", session.entity) for run, session in new]
        wanted += [(f"step {step.name}", process.entity) for step, process in processes]
        receipts = self._record(wanted)
        for (run, session), receipt in zip(new, receipts, strict=False):
            session.written = receipt is not None
            run.mark_stored()
        for (step, process), receipt in zip(processes, receipts[len(new) :], strict=True):
            if receipt is not None and isinstance(receipt.entity, UserSessionProcess):
                process.entity, process.written = receipt.entity, True
            else:  # the next call of the step tries again
                step.processes.remove(process)
        self._record_calls(calls)
        changed = [session for _, session in touched if session.change is not None]
        self._record([*((session.change or "", session.entity) for session in changed), *outcomes])
        for session in changed:
            session.change = None
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)

    def _record_calls(self, calls: Sequence[tuple[str, _ProcessState, ToolExecution]]) -> None:
        wanted: list[tuple[str, HistoryEntity]] = []
        for what, process, execution in calls:
            if not process.written:
                self._failed(what, None)
                continue
            wanted.append((what, _with_process(execution, process.entity.process_id)))
        self._record(wanted)

    def _record(self, wanted: Sequence[tuple[str, HistoryEntity]]) -> list[Receipt[HistoryEntity] | None]:
        """Write entities in one round trip, and return a receipt for each; None for one that could not be written."""
        receipts: list[Receipt[HistoryEntity] | None] = []
        written = self._model.recorder.record_each([entity for _, entity in wanted])
        for (what, _), kept in zip(wanted, written, strict=True):
            if isinstance(kept, Exception):  # it must not reach the agent: it is counted and logged
                self._failed(what, kept)
            receipts.append(None if isinstance(kept, Exception) else kept)
        return receipts


def _with_process(execution: ToolExecution, process_id: str) -> ToolExecution:
    """Return the execution in its process, which has another number than asked for if another recorder took that."""
    if execution.process_id == process_id:
        return execution
    attributes: dict[str, Any] = dict(execution.attribute_values)
    attributes["process_id"] = process_id
    return ToolExecution(**attributes)
