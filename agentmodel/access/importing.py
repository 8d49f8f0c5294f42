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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from agentmodel import keys
from agentmodel.access.recorder import Recorder, as_text, fitting
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.dynamo.table import Table
from agentmodel.traces import BadLine, TraceRecord, read

__all__ = ["ANONYMOUS", "Imported", "Source", "TraceImport"]

ANONYMOUS = "USR~anonymous"
"""The user of traces that name none; no name gives this id."""

T = TypeVar("T")

_BATCH = 500  # records of one round trip to the journal
_NAME = 200
_MOST = 10_000  # sessions kept at hand
_KEPT = ("request", "category", "summary", "detail_location", "succeeded", "corrected", "suggestion_id", "kept_days")

Source: TypeAlias = Callable[[], Iterable[TraceRecord | BadLine]]
"""Gives records, and what is none, the same at each call."""

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
        self._there: set[str] = set()  # catalogue entries that were seen
        self._sessions: dict[tuple[str, str], UserSession] = {}  # those that were seen, by user and source

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
        files = [partial(read, path, timezone=timezone, strict=strict) for path in paths]
        return self.run_sources(files, progress=progress)

    def run_sources(self, sources: Sequence[Source], *, progress: Progress | None = None) -> Imported:
        """Import records, wherever they come from.

        Args:
            sources: Each is called twice and gives the same records both times; a session lies in one of them.
            progress: Told how far it is.
        """
        done = Imported()
        sessions: dict[tuple[str, str, str], _Session] = {}
        catalogue: dict[str, Entity] = {}
        for source in sources:
            for record in source():
                if isinstance(record, BadLine):
                    done.bad.append(record)
                else:
                    done.lines += 1
                    self._note(record, sessions, catalogue, done)
        self._make(catalogue.values(), done)
        self._begin(list(sessions.values()), done)
        self._record(sources, sessions, done, progress)
        return done

    def stored_session(self, user_id: str, domain: str, session: str) -> UserSession | None:
        """The session that a trace's session became, if it was imported before."""
        source_id = _source_id(domain, session)
        if (user_id, source_id) not in self._sessions:
            self._load_sessions(user_id)
        return self._sessions.get((user_id, source_id))

    def _load_sessions(self, user_id: str) -> None:
        if len(self._sessions) > _MOST:
            self._sessions.clear()
        for stored in self._imported_sessions(user_id):
            self._sessions[user_id, stored.source_id or ""] = stored

    @staticmethod
    def _note(
        record: TraceRecord,
        sessions: dict[tuple[str, str, str], _Session],
        catalogue: dict[str, Entity],
        done: Imported,
    ) -> None:
        for entity in _catalogue(record):
            catalogue.setdefault(_place(entity), entity)
        session = sessions.get(_session_key(record))
        if session is None:
            names = (record.domain, record.session)
            session = sessions[_session_key(record)] = _Session(
                user_id=_user_id(record),
                source_id=_source_id(*names),
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
        wanted = [entity for entity in entities if _place(entity) not in self._there]
        there = self._table.get_many([entity.key for entity in wanted])
        missing = [entity for entity, found in zip(wanted, there, strict=True) if found is None]
        self._repository.put(*missing)
        done.made.update(entity.kind for entity in missing)
        self._there.update(_place(entity) for entity in wanted)

    def _begin(self, sessions: list[_Session], done: Imported) -> None:
        unseen = {session.user_id for session in sessions if (session.user_id, session.source_id) not in self._sessions}
        for user_id in sorted(unseen):
            self._load_sessions(user_id)
        new: list[UserSession] = []
        for session in sessions:
            stored = self._sessions.get((session.user_id, session.source_id))
            session.session_id = (
                keys.imported_session_id(session.started_at, *session.names) if stored is None else stored.session_id
            )
            wanted = _entity(session)
            if stored is None:
                self._recorder.open(wanted, new=True)
            else:
                _keep(stored, wanted)
            if stored is None or _differs(stored, wanted):
                new.append(wanted)
                self._sessions[session.user_id, session.source_id] = wanted
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
        sources: Sequence[Source],
        sessions: dict[tuple[str, str, str], _Session],
        done: Imported,
        progress: Progress | None,
    ) -> None:
        recorded = 0
        for source in sources:
            seen: Counter[tuple[str, ...]] = Counter()
            records = (record for record in source() if isinstance(record, TraceRecord))
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


def _source_id(*names: str) -> str:
    return json.dumps(names, ensure_ascii=False)


def _place(entity: Entity) -> str:
    return f"{entity.pk}|{entity.sk}"


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


def _keep(stored: UserSession, wanted: UserSession) -> None:
    """Let a session keep what is stored of it and not told anew."""
    for name in _KEPT:
        if getattr(wanted, name) is None:
            setattr(wanted, name, getattr(stored, name))
    wanted.name = stored.name
    if stored.started_at is not None:
        wanted.started_at = min(stored.started_at, wanted.started_at or stored.started_at)


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
        status=record.status,
        result=fitting(as_text(record.result)),
        call_number=record.step,
        call_id=_digest(
            *place, str(seen[place]), record.model_dump_json(exclude=None if record.status else {"status"})
        ),
        error_type=record.error_type,
        duration_ms=duration,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
    )
    return process, execution


def _text(record: TraceRecord) -> str:
    """A record as its call id is made of it: as it was before records had a status, where it has none."""
    return record.model_dump_json(exclude=None if record.status else {"status"})


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
