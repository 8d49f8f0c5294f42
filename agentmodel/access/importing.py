"""Trace records into history and catalogue: every line one tool call, under ids that are always the same.

A trace's step becomes a process of its session, its line an execution; a second line of the same step and tool is a
second attempt. The order of calls is kept by the number of the step, in the process's id and in ``CallNo``, so a call
without a time needs none. Domains, agents, tools and users are made of the names in the trace by `keys.stable_id`;
importing again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from agentmodel import keys
from agentmodel.access.recorder import Recorder, as_text, fitting
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.dynamo.table import Table
from agentmodel.traces import BadLine, TraceRecord, read

__all__ = ["ANONYMOUS", "Imported", "TraceImport"]

ANONYMOUS = "USR~anonymous"
"""The user of traces that name none; no name gives this id."""

T = TypeVar("T")

_BATCH = 500  # records of one round trip to the journal
_NAME = 200

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        lines: Trace lines that landed as executions.
        repeated: Of these, how many were there already.
        sessions: Sessions they belong to.
        made: Catalogue entries that were made, by kind.
        bad: Lines that were refused: file, line, field and problem.
        last_at: The latest time a trace gives, if any does.
    """

    lines: int = 0
    repeated: int = 0
    sessions: int = 0
    made: Counter[str] = field(default_factory=Counter)
    bad: list[BadLine] = field(default_factory=list)
    last_at: datetime | None = None


@dataclass(slots=True)
class _Session:
    user_id: str
    source_id: str
    names: tuple[str, str]
    request: str | None
    category: str | None
    succeeded: bool | None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    session_id: str = ""


class TraceImport:
    """Puts trace files into history and catalogue.

    Args:
        table: The table, for the catalogue.
        repository: Reads what is there.
        recorder: Writes history.
    """

    def __init__(self, table: Table, repository: Repository, *, recorder: Recorder) -> None:
        self._table = table
        self._repository = repository
        self._recorder = recorder

    def run(
        self,
        paths: Sequence[str | Path],
        *,
        timezone: str = "UTC",
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Imported:
        """Import files: once through to know sessions and catalogue, once more to record.

        Args:
            paths: Trace files, JSON lines, gzip or not.
            timezone: The zone of times that name none.
            strict: Stop at the first bad line, before anything is written.
            progress: Told how far it is.

        Raises:
            ValidationError: A file is not readable, the zone is unknown, or a line is bad and ``strict`` is set.
        """
        done = Imported()
        sessions: dict[tuple[str, str, str], _Session] = {}
        catalogue: dict[str, Entity] = {}
        for path in paths:
            for record in read(path, timezone=timezone, strict=strict):
                if isinstance(record, BadLine):
                    done.bad.append(record)
                else:
                    done.lines += 1
                    self._note(record, sessions, catalogue, done)
        self._make(catalogue.values(), done)
        self._begin(list(sessions.values()), done)
        self._record(paths, timezone, sessions, done, progress)
        return done

    @staticmethod
    def _note(
        record: TraceRecord,
        sessions: dict[tuple[str, str, str], _Session],
        catalogue: dict[str, Entity],
        done: Imported,
    ) -> None:
        for entity in _catalogue(record):
            catalogue.setdefault(f"{entity.pk}|{entity.sk}", entity)
        session = sessions.get(_session_key(record))
        if session is None:
            names = (record.domain, record.session)
            session = sessions[_session_key(record)] = _Session(
                user_id=_user_id(record),
                source_id=json.dumps(names, ensure_ascii=False),
                names=names,
                request=record.request,
                category=record.category,
                succeeded=record.session_success,
            )
        times = [at for at in (record.started_at, record.ended_at) if at is not None]
        if record.started_at is not None:
            session.started_at = min(session.started_at or record.started_at, record.started_at)
        if times:
            session.ended_at = max(session.ended_at or times[0], *times)
            done.last_at = max(done.last_at or session.ended_at, session.ended_at)
        if session.succeeded is None:
            session.succeeded = record.session_success

    def _make(self, entities: Iterable[Entity], done: Imported) -> None:
        """Make the catalogue entries that are not there; those that are keep their scores and descriptions."""
        wanted = list(entities)
        there = self._table.get_many([entity.key for entity in wanted])
        missing = [entity for entity, found in zip(wanted, there, strict=True) if found is None]
        self._repository.put(*missing)
        done.made.update(entity.kind for entity in missing)

    def _begin(self, sessions: list[_Session], done: Imported) -> None:
        known = {
            (session.user_id, session.source_id): session
            for user_id in sorted({session.user_id for session in sessions})
            for session in self._imported_sessions(user_id)
        }
        new: list[UserSession] = []
        for session in sessions:
            stored = known.get((session.user_id, session.source_id))
            session.session_id = (
                keys.imported_session_id(session.started_at, *session.names) if stored is None else stored.session_id
            )
            wanted = _entity(session)
            if stored is None:
                self._recorder.open(wanted, new=True)
            if stored is None or _differs(stored, wanted):
                new.append(wanted)
        for batch in _batches(new):
            self._recorder.record_many(batch)
        done.sessions = len(sessions)

    def _imported_sessions(self, user_id: str) -> Iterator[UserSession]:
        cursor = None
        while True:
            page = self._repository.sessions(user_id, limit=1000, cursor=cursor)
            yield from (session for session in page if session.source_id is not None)
            cursor = page.cursor
            if cursor is None:
                return

    def _record(
        self,
        paths: Sequence[str | Path],
        timezone: str,
        sessions: dict[tuple[str, str, str], _Session],
        done: Imported,
        progress: Progress | None,
    ) -> None:
        recorded = 0
        for path in paths:
            seen: Counter[tuple[str, ...]] = Counter()
            records = (record for record in read(path, timezone=timezone) if isinstance(record, TraceRecord))
            for batch in _batches(records):
                entities: list[UserSessionProcess | ToolExecution] = []
                for record in batch:
                    session = sessions[_session_key(record)]
                    entities += _history(record, session, seen)
                receipts = self._recorder.record_many(entities)
                done.repeated += sum(r.repeated for r in receipts if isinstance(r.entity, ToolExecution))
                recorded += len(batch)
                if progress is not None:
                    progress("record", recorded, done.lines)


def _batches(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _session_key(record: TraceRecord) -> tuple[str, str, str]:
    return record.domain, _user_id(record), record.session


def _user_id(record: TraceRecord) -> str:
    return ANONYMOUS if record.user is None else keys.stable_id("USR", record.user)


def _agent_id(record: TraceRecord) -> str:
    return keys.stable_id("AGT", record.domain, record.agent)


def _catalogue(record: TraceRecord) -> tuple[Entity, ...]:
    domain_id = keys.stable_id("DMN", record.domain)
    agent_id = _agent_id(record)
    return (
        Domain(domain_id=domain_id, name=record.domain),
        Agent(agent_id=agent_id, domain_id=domain_id, name=record.agent),
        Tool(agent_id=agent_id, tool_id=keys.stable_id("TL", record.tool), domain_id=domain_id, name=record.tool),
        User(user_id=_user_id(record), name=record.user or "anonymous"),
    )


def _entity(session: _Session) -> UserSession:
    name = " ".join((session.request or session.category or session.names[1]).split())
    return UserSession(
        user_id=session.user_id,
        session_id=session.session_id,
        name=name[:_NAME] or session.names[1],
        request=fitting(session.request),
        category=session.category,
        started_at=session.started_at,
        ended_at=session.ended_at,
        succeeded=session.succeeded,
        source_id=session.source_id,
    )


def _differs(stored: UserSession, wanted: UserSession) -> bool:
    """Whether an import knows more of a session than is stored: a later end, or an outcome."""
    later = wanted.ended_at is not None and (stored.ended_at is None or wanted.ended_at > stored.ended_at)
    return later or (wanted.succeeded is not None and wanted.succeeded != stored.succeeded)


def _history(
    record: TraceRecord, session: _Session, seen: Counter[tuple[str, ...]]
) -> tuple[UserSessionProcess, ToolExecution]:
    place = (session.source_id, session.user_id, str(record.step), record.agent, record.tool)
    seen[place] += 1
    process_id = keys.process_id(record.step)
    process = UserSessionProcess(
        user_id=session.user_id,
        session_id=session.session_id,
        process_id=process_id,
        name=record.tool,
        started_at=record.started_at,
        call_id=_digest(*place[:3]),
    )
    duration = None
    if record.started_at is not None and record.ended_at is not None:
        duration = round((record.ended_at - record.started_at).total_seconds() * 1000)
    execution = ToolExecution(
        user_id=session.user_id,
        session_id=session.session_id,
        process_id=process_id,
        agent_id=_agent_id(record),
        tool_id=keys.stable_id("TL", record.tool),
        attempt=seen[place],
        tool_name=record.tool,
        values=fitting(as_text(record.arguments)),
        executed_at=record.started_at,
        succeeded=record.success,
        result=fitting(as_text(record.result)),
        call_number=record.step,
        call_id=_digest(*place, str(seen[place]), record.model_dump_json()),
        error_type=record.error_type,
        duration_ms=duration,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
    )
    return process, execution


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
