"""What the recorders' thread knows of sessions, and how events become entities: many are written in one round trip.

Events only note what is to be written; `Writing.commit` writes it: new sessions and processes first, since processes
get their numbers with the write, then the calls, then what changed of sessions. A batch that a store refuses is written
one by one, so that one bad record loses no other; each that fails is counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmodel import keys
from agentmodel.access.delivery import History, Receipt
from agentmodel.access.recorder import as_text, fitting
from agentmodel.access.slots import numbered
from agentmodel.client import AgentModel
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Status, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.integrations._attempts import Attempt, Outcome

if TYPE_CHECKING:
    from agentmodel.integrations._calls import Run

__all__ = ["Writing", "split", "told"]

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
class _Process:
    """A process, and which call has which tool in it."""

    entity: UserSessionProcess
    calls: dict[tuple[str, str], str]
    written: bool = False


@dataclass(slots=True)
class _Step:
    """A turn of the model: a process of its own for each further call of one and the same tool."""

    name: str
    processes: list[_Process] = field(default_factory=list)


@dataclass(slots=True)
class _Session:
    entity: UserSession
    numbers: int  # of calls, so far
    processes: int  # likewise
    written: bool = False
    changed: str | None = None  # by what, since it was written
    failed: bool = False  # as its last run said: the next one says otherwise
    calls: dict[str, _Call] = field(default_factory=dict)
    steps: dict[str, _Step] = field(default_factory=dict)  # by call


class Writing:
    """Makes history of events; used by one thread.

    Args:
        model: The installation.
        domain: Name of the domain of the agents.
        failed: Told what could not be written, and why.
        max_sessions: Sessions kept at hand; one that was let go is read from the history again.
    """

    def __init__(
        self, model: AgentModel, domain: str, failed: Callable[[str, Exception | None], None], *, max_sessions: int
    ) -> None:
        self._model = model
        self._domain = domain
        self._failed = failed
        self._max_sessions = max_sessions
        self._token = uuid.uuid4().hex
        self._there: set[str] = set()
        self._catalogued: dict[tuple[str, str], tuple[str, str]] = {}
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._touched: dict[tuple[str, str], tuple[Run, _Session]] = {}
        self._processes: list[tuple[_Step, _Process]] = []
        self._calls: list[tuple[str, _Process, ToolExecution]] = []

    # Events

    def turn(self, run: Run, name: str, calls: Sequence[str], tokens: tuple[int | None, int | None]) -> None:
        """The model asked for calls; a turn that is told again, by a second recorder, changes nothing."""
        session = self._session(run)
        step = _Step(name)
        read, made = (split(total, len(calls)) for total in tokens)
        for call_id, *shares in zip(calls, read, made, strict=True):
            if call_id not in session.calls:
                session.numbers += 1
                session.calls[call_id] = _Call(session.numbers, *shares)
                session.steps[call_id] = step

    def start(self, run: Run, call_id: str) -> None:
        """A call began; its number is the next, if no turn gave it one."""
        session = self._session(run)
        if call_id not in session.calls:
            session.numbers += 1
            session.calls[call_id] = _Call(session.numbers)

    def end(self, run: Run, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt ended."""
        call_id = attempt.call_id
        self.start(run, call_id)
        session = self._session(run)
        agent_id, tool_id = self._catalogue(run, attempt)
        known = session.calls[call_id]
        asked = attempt.number == 1  # a retry was not asked for by the model: it cost no tokens, whichever ends first
        process = self._process(run, session, attempt, (agent_id, tool_id))
        execution = ToolExecution(
            user_id=run.user_id,
            session_id=session.entity.session_id,
            process_id=process.entity.process_id,
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
            call_id=self._call_id(run.user_id, run.session, call_id, str(attempt.number)),
            error_type=outcome.error_type,
            duration_ms=max(0, round((outcome.at - attempt.at).total_seconds() * 1000)),
            input_tokens=known.input_tokens if asked else None,
            output_tokens=known.output_tokens if asked else None,
        )
        self._calls.append((told(attempt), process, execution))

    def follow(self, run: Run, suggestion_id: str) -> None:
        """The run follows a plan."""
        session = self._session(run)
        if session.entity.suggestion_id != suggestion_id:
            session.entity.suggestion_id = suggestion_id
            session.changed = f"suggestion {suggestion_id}"

    def finish(self, run: Run, succeeded: bool | None, ended: datetime) -> None:
        """The run is over."""
        session = self._session(run)
        session.entity.ended_at = ended
        if succeeded is not None or session.failed:
            session.entity.succeeded = succeeded
        session.failed = succeeded is False
        session.changed = "end of the run"

    # Sessions, processes and the catalogue

    def _session(self, run: Run) -> _Session:
        """The session of a run: at hand, stored, or made now."""
        place = run.user_id, run.session
        if place not in self._sessions:
            self._sessions[place] = self._begin(run)
        self._sessions.move_to_end(place)
        self._touched[place] = run, self._sessions[place]
        return self._sessions[place]

    def _begin(self, run: Run) -> _Session:
        recorder = self._model.recorder
        self._make(User(user_id=run.user_id, name=run.user))
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
            source_id=None
            if session_id == run.session
            else json.dumps((self._domain, run.session), ensure_ascii=False),
        )
        numbers = processes = 0
        if not new:
            entity, numbers = recorder.continued(entity)
            history = self._model.repository.session_history(run.user_id, session_id)
            claimed = [numbered(process) for process in history.processes]
            processes = max((one.number - 1 for one in claimed if one is not None), default=0)
        recorder.open(entity, new=new)
        return _Session(entity, numbers, processes)

    def _process(self, run: Run, session: _Session, attempt: Attempt, place: tuple[str, str]) -> _Process:
        """The process of a call; a second call of the same tool has another one, so that it looks like no retry."""
        step = session.steps.setdefault(attempt.call_id, _Step(attempt.tool))
        for process in step.processes:
            if process.calls.setdefault(place, attempt.call_id) == attempt.call_id:
                return process
        session.processes += 1
        entity = UserSessionProcess(
            user_id=run.user_id,
            session_id=session.entity.session_id,
            process_id=keys.process_id(session.processes),
            name=step.name,
            prompt=fitting(run.request),
            started_at=attempt.at,
        )
        process = _Process(entity, {place: attempt.call_id})
        step.processes.append(process)
        self._processes.append((step, process))
        return process

    def _catalogue(self, run: Run, attempt: Attempt) -> tuple[str, str]:
        known = self._catalogued.get((attempt.agent, attempt.tool))
        if known is None:
            agent_id, tool_id, domain_id = run.agent_id(attempt.agent), run.tool_id(attempt.tool), run.domain_id
            self._make(
                Domain(domain_id=domain_id, name=self._domain),
                Agent(agent_id=agent_id, domain_id=domain_id, name=attempt.agent),
                Tool(agent_id=agent_id, tool_id=tool_id, domain_id=domain_id, name=attempt.tool),
            )
            known = self._catalogued[attempt.agent, attempt.tool] = agent_id, tool_id
        return known

    def _make(self, *entities: Entity) -> None:
        """Put what the catalogue does not have; each is looked up once in a process's life."""
        wanted = [entity for entity in entities if f"{entity.pk}|{entity.sk}" not in self._there]
        if wanted:
            found = self._model.table.get_many([entity.key for entity in wanted])
            self._model.repository.put(*[e for e, there in zip(wanted, found, strict=True) if there is None])
            self._there.update(f"{entity.pk}|{entity.sk}" for entity in wanted)

    def _call_id(self, *parts: str) -> str:
        """Identity of one attempt of a call: told twice in this process, it is one item."""
        return hashlib.sha256(json.dumps([self._token, *parts]).encode()).hexdigest()[:32]

    # Writing

    def commit(self) -> None:
        """Write what the events since the last time gave."""
        touched, self._touched = list(self._touched.values()), {}
        processes, self._processes = self._processes, []
        calls, self._calls = self._calls, []
        new = [(run, session) for run, session in touched if not session.written]
        wanted: list[tuple[str, History]] = [(f"session {run.session}", session.entity) for run, session in new]
        wanted += [(f"step {step.name}", process.entity) for step, process in processes]
        receipts = self._record(wanted)
        for (run, session), receipt in zip(new, receipts, strict=False):
            session.written = receipt is not None
            run.stored()
        for (step, process), receipt in zip(processes, receipts[len(new) :], strict=True):
            if receipt is not None and isinstance(receipt.entity, UserSessionProcess):
                process.entity, process.written = receipt.entity, True
            else:  # the next call of the step tries again
                step.processes.remove(process)
        self._record_calls(calls)
        changed = [session for _, session in touched if session.changed is not None]
        self._record([(session.changed or "", session.entity) for session in changed])
        for session in changed:
            session.changed = None
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)

    def _record_calls(self, calls: Sequence[tuple[str, _Process, ToolExecution]]) -> None:
        wanted: list[tuple[str, History]] = []
        for what, process, execution in calls:
            if not process.written:
                self._failed(what, None)
                continue
            wanted.append((what, _moved(execution, process.entity.process_id)))
        self._record(wanted)

    def _record(self, wanted: Sequence[tuple[str, History]]) -> list[Receipt[History] | None]:
        """Write entities in one round trip; None for each that could not be written."""
        if len(wanted) > 1:
            try:
                return list(self._model.recorder.record_many([entity for _, entity in wanted]))
            except Exception as error:  # noqa: BLE001  # told below, of the records that it is about
                _log.info("integrations.one_by_one: %d records, because %s", len(wanted), error)
        receipts: list[Receipt[History] | None] = []
        for what, entity in wanted:
            try:
                receipts.append(self._model.recorder.record(entity))
            except Exception as error:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
                self._failed(what, error)
                receipts.append(None)
        return receipts


def told(attempt: Attempt) -> str:
    """What an attempt is called in the log."""
    return f"call {attempt.call_id} of {attempt.tool}"


def _moved(execution: ToolExecution, process_id: str) -> ToolExecution:
    """The execution in its process, which another recorder may have let have another number than it asked for."""
    if execution.process_id == process_id:
        return execution
    attributes: dict[str, Any] = dict(execution.attribute_values)
    attributes["process_id"] = process_id
    return ToolExecution(**attributes)
