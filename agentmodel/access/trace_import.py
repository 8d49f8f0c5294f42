"""Import trace records into the history and the catalogue; importing the same records again changes nothing.

Every line is one tool call. A step of the trace becomes a process of its session and a line becomes an execution; a
second line with the same step and tool is a second attempt. The number of the step keeps the order of the calls, in the
process's id and in ``CallNo``, so calls without a time are in order too. The ids of domains, agents, tools and users
are made from the names in the trace by `keys.id_of`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._values.counts import MAX_COUNT, Usage
from agentmodel._values.text import NAME_BYTES, storable_text
from agentmodel.access.pagination import every
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Review, Tool, ToolExecution, User, UserSession, UserSessionProcess
from agentmodel.exceptions import TableUnavailable
from agentmodel.traces import BadLine, TraceOutcome, TraceRecord, read_all

__all__ = ["ANONYMOUS", "Imported", "TraceImport"]

ANONYMOUS = "USR~anonymous"
"""The user of trace records without a user. No user name leads to this id."""

_T = TypeVar("_T")
_log = logger(__name__)

_BATCH = 500  # records in one round trip to the journal
_NAME_CHARACTERS = 200
_MAX_SESSIONS = 10_000  # sessions that are cached in this object
_PRESERVED = (
    "request",
    "category",
    "summary",
    "detail_location",
    "succeeded",
    "corrected",
    "suggestion_id",
    "ttl_days",
)

_TraceSource: TypeAlias = Callable[[], Iterable[TraceRecord | TraceOutcome | BadLine]]
"""Returns records and bad lines, the same ones at each call."""

_Progress = Callable[[str, int, int], None]
"""Called with the name of the step, how many records are done, and how many there are."""


@dataclass(slots=True)
class Imported:
    """The result of an import.

    Attributes:
        lines: Trace lines that were recorded as executions.
        repeated: How many of them were recorded before.
        sessions: Sessions that they belong to.
        created: Catalogue entries that were created, by kind.
        outcomes: Outcomes from outside that were recorded, those that were recorded before aside.
        unknown: Sessions that an outcome names and the history does not have; such outcomes were not recorded.
        bad: Lines that were not imported: file, line, field and problem.
        last_at: The latest time in the traces; None when they have no times.

    >>> imported = Imported(lines=2, sessions=1)
    >>> imported.lines, imported.sessions, imported.bad
    (2, 1, [])
    """

    lines: int = 0
    repeated: int = 0
    sessions: int = 0
    created: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    unknown: list[str] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    last_at: datetime | None = None


@dataclass(slots=True)
class _ImportedSession:
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
    """Imports trace files into the history and the catalogue.

    Args:
        repository: Reads the sessions that are stored.
        recorder: Writes history.
        live: Whether the records come from a running program, which cannot give them again: while the table does not
            answer, their sessions are new ones. Otherwise the import fails then, and is to be run again.

    >>> import json
    >>> line = {"domain": "hotels", "agent": "booker", "session": "s-2", "step": 1, "tool": "rooms", "success": True}
    >>> file = folder / "trace.jsonl"
    >>> _ = file.write_text(json.dumps(line))
    >>> importer = TraceImport(model.repository, recorder=model.recorder)
    >>> importer.run([file]).lines, importer.run([file]).repeated
    (1, 1)
    >>> importer.stored_session(ANONYMOUS, "hotels", "s-2").session_id
    'SESS0-a0496db1b110'
    """

    def __init__(self, repository: Repository, *, recorder: Recorder, live: bool = False) -> None:
        self._live = live
        self._repository = repository
        self._recorder = recorder
        self._seen_entries: set[str] = set()  # keys of catalogue entries that exist
        self._sessions: dict[tuple[str, str], UserSession] = {}  # stored sessions, by user and source

    def run(
        self,
        paths: Sequence[str | Path],
        *,
        timezone: str = "UTC",
        strict: bool = False,
        progress: _Progress | None = None,
    ) -> Imported:
        """Import files. They are read twice: first for sessions and catalogue, then for the calls.

        Args:
            paths: Trace files: JSON lines, plain or packed by gzip.
            timezone: The zone of times without an offset.
            strict: Whether to stop at the first bad line, before anything is written.
            progress: Called after each batch with the step's name, the number of records done, and of all records.

        Raises:
            ValidationError: A file cannot be read, the zone is unknown, or a line is bad and ``strict`` is set.
        """
        files = [partial(read_all, path, timezone=timezone, strict=strict) for path in paths]
        return self.run_sources(files, progress=progress)

    def run_sources(self, sources: Sequence[_TraceSource], *, progress: _Progress | None = None) -> Imported:
        """Import records from other sources than files.

        Args:
            sources: Each is called twice and must return the same records both times. All records of a session must
                come from one source.
            progress: Called after each batch with the step's name, the number of records done, and of all records.
        """
        sources = [partial(_fitting, source) for source in sources]
        result = Imported()
        sessions: dict[tuple[str, str, str], _ImportedSession] = {}
        catalogue: dict[str, Entity] = {}
        said: list[TraceOutcome] = []
        for source in sources:
            for record in source():
                if isinstance(record, BadLine):
                    result.bad.append(record)
                elif isinstance(record, TraceOutcome):
                    said.append(record)
                else:
                    result.lines += 1
                    self._collect(record, sessions, catalogue, result)
        self._create_missing(catalogue.values(), result)
        self._create_sessions(list(sessions.values()), result)
        self._record(sources, sessions, result, progress)
        self._record_outcomes(said, sessions, result)
        return result

    def _record_outcomes(
        self, said: Sequence[TraceOutcome], sessions: dict[tuple[str, str, str], _ImportedSession], result: Imported
    ) -> None:
        wanted: dict[str, tuple[Review, bool]] = {}  # by key, with whether its time is known
        for one in said:
            user_id = _user_id(one)
            here = sessions.get((keys.name_of("DMN", one.domain), user_id, one.session))
            known = here or self.stored_session(user_id, one.domain, one.session)
            if known is None:
                result.unknown.append(one.session)
                continue
            entity = self._recorder.outcome_of(
                known.session_id,
                user_id=user_id,
                succeeded=one.outcome.success,
                score=one.outcome.score,
                source=one.outcome.source,
                by=one.outcome.by,
                reason=one.outcome.reason,
                agent_id=None if one.agent is None else keys.lenient_id_of("AGT", one.agent, one.domain),
                at=one.outcome.at or known.ended_at,
            )
            self._repository.redaction.entity(entity)  # as the stored one is, with which it is compared
            wanted[_key_text(entity)] = entity, one.outcome.at is not None
        for batch in _batches(wanted.values()):
            stored = self._recorder.stored_outcomes([entity for entity, _ in batch])
            new = [one for (one, dated), old in zip(batch, stored, strict=True) if _adds(one, old, dated=dated)]
            result.outcomes += len(self._recorder.record_many(new)) if new else 0

    def stored_session(self, user_id: str, domain: str, session: str) -> UserSession | None:
        """Return the stored session that a trace's session was imported as, or None when it was not imported before."""
        source_id = _source_id(keys.name_of("DMN", _cut(domain)), session)
        if (user_id, source_id) not in self._sessions:
            if self._live:
                return self._live_session(user_id, source_id)
            self._load_sessions(user_id)
        return self._sessions.get((user_id, source_id))

    def _live_session(self, user_id: str, source_id: str) -> UserSession | None:
        """Return one stored session; a run asks for one, and its user may have many."""
        found = None
        with self._unless_away(user_id):
            found = self._repository.session_of_source(user_id, source_id)
        return found  # noqa: RET504  # None where the block has swallowed that the table is away

    def _load_sessions(self, user_id: str) -> None:
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.clear()
        with self._unless_away(user_id):
            for stored in self._imported_sessions(user_id):
                self._sessions[user_id, stored.source_id or ""] = stored

    @contextmanager
    def _unless_away(self, user_id: str) -> Iterator[None]:
        """Go on with new sessions where the table is away while something runs; an import of files ends there."""
        try:
            yield
        except TableUnavailable as error:
            if not self._live:
                raise
            _log.warning("could not look up the sessions of %s; recording new ones: %s", user_id, error)

    @staticmethod
    def _collect(
        record: TraceRecord,
        sessions: dict[tuple[str, str, str], _ImportedSession],
        catalogue: dict[str, Entity],
        result: Imported,
    ) -> None:
        for entity in _catalogue(record):
            catalogue.setdefault(_key_text(entity), entity)
        session = sessions.get(_session_key(record))
        if session is None:
            names = (_domain(record), record.session)
            session = sessions[_session_key(record)] = _ImportedSession(
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
            result.last_at = max(result.last_at or session.ended_at, session.ended_at)
        if session.succeeded is None:
            session.succeeded = record.session_success

    def _create_missing(self, entities: Iterable[Entity], result: Imported) -> None:
        """Create the missing catalogue entries; existing ones keep their scores and descriptions."""
        wanted = [entity for entity in entities if _key_text(entity) not in self._seen_entries]
        missing = self._recorder.put_missing(ANONYMOUS, wanted)
        result.created.update(entity.kind for entity in missing)
        self._seen_entries.update(_key_text(entity) for entity in wanted)

    def _create_sessions(self, sessions: list[_ImportedSession], result: Imported) -> None:
        unseen = {session.user_id for session in sessions if (session.user_id, session.source_id) not in self._sessions}
        for user_id in sorted(unseen):
            self._load_sessions(user_id)
        new: list[UserSession] = []
        for session in sessions:
            stored = self._sessions.get((session.user_id, session.source_id))
            session.session_id = (
                keys.imported_session_id(session.started_at, *session.names) if stored is None else stored.session_id
            )
            wanted = _entity(session, self._repository.redaction.text)
            self._repository.redaction.entity(wanted)  # as the stored one is, with which it is compared
            if stored is None:
                self._recorder.open(wanted, new=True)
            else:
                _preserve(stored, wanted)
            if stored is None or _differs(stored, wanted):
                new.append(wanted)
                self._sessions[session.user_id, session.source_id] = wanted
        for batch in _batches(new):
            self._recorder.record_many(batch)
        result.sessions = len(sessions)

    def _imported_sessions(self, user_id: str) -> Iterator[UserSession]:
        sessions = every(partial(self._repository.sessions, user_id), limit=1000)
        return (session for session in sessions if session.source_id is not None)

    def _record(
        self,
        sources: Sequence[_TraceSource],
        sessions: dict[tuple[str, str, str], _ImportedSession],
        result: Imported,
        progress: _Progress | None,
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
                result.repeated += sum(r.repeated for r in receipts if isinstance(r.entity, ToolExecution))
                recorded += len(batch)
                if progress is not None:
                    progress("record", recorded, result.lines)


def _adds(wanted: Review, stored: Review | None, *, dated: bool) -> bool:
    """Return whether an outcome says something else than the stored one of its source, and nothing older."""
    if stored is None:
        return True
    same = all(getattr(wanted, name) == getattr(stored, name) for name in ("outcome", "score", "decision_reason"))
    older = dated and stored.decided_at is not None and (wanted.decided_at or stored.decided_at) < stored.decided_at
    return not same and not older


def _source_id(*names: str) -> str:
    return json.dumps(names, ensure_ascii=False)


def _key_text(entity: Entity) -> str:
    return f"{entity.pk}|{entity.sk}"


def _batches(things: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(things)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _fitting(source: _TraceSource) -> Iterator[TraceRecord | TraceOutcome | BadLine]:
    """Yield what a source has, with names of domains and tools that fit into keys, as every recorder cuts them."""
    for record in source():
        names = () if isinstance(record, BadLine) else ("domain", "tool")
        long = {name: cut for name in names if (cut := _cut(given := getattr(record, name, ""))) != given}
        yield record.model_copy(update=long) if long and not isinstance(record, BadLine) else record


def _cut(name: str) -> str:
    is_long = len(name.encode(errors="surrogatepass")) > NAME_BYTES
    return (storable_text(name, limit=NAME_BYTES) or name) if is_long else name


def _session_key(record: TraceRecord) -> tuple[str, str, str]:
    return _domain(record), _user_id(record), record.session


def _domain(record: TraceRecord) -> str:
    return keys.name_of("DMN", record.domain)


def _user_id(record: TraceRecord | TraceOutcome) -> str:
    return ANONYMOUS if record.user is None else keys.lenient_id_of("USR", record.user)


def _agent_id(record: TraceRecord) -> str:
    return keys.lenient_id_of("AGT", record.agent, record.domain)


def _catalogue(record: TraceRecord) -> tuple[Entity, ...]:
    domain_id = keys.lenient_id_of("DMN", record.domain)
    agent_id = _agent_id(record)
    tool_id, name = keys.lenient_id_of("TL", record.tool), keys.name_of("TL", record.tool)
    tool = Tool(agent_id=agent_id, tool_id=tool_id, domain_id=domain_id, name=name)
    return (
        Domain(domain_id=domain_id, name=_domain(record)),
        Agent(agent_id=agent_id, domain_id=domain_id, name=keys.name_of("AGT", record.agent)),
        *([] if record.status == "unknown_tool" else [tool]),  # its name was made up, perhaps of what the user said
        User(user_id=_user_id(record), name=keys.name_of("USR", record.user or "anonymous")),
    )


def _entity(session: _ImportedSession, redact: Callable[[str], str]) -> UserSession:
    name = " ".join(redact(session.request or session.category or session.names[1]).split())
    return UserSession(
        user_id=session.user_id,
        session_id=session.session_id,
        name=name[:_NAME_CHARACTERS] or session.names[1],
        request=storable_text(session.request),
        category=session.category,
        started_at=session.started_at,
        ended_at=session.ended_at,
        succeeded=session.succeeded,
        source_id=session.source_id,
    )


def _preserve(stored: UserSession, wanted: UserSession) -> None:
    """Keep the stored values of a session that the trace does not give again."""
    for name in _PRESERVED:
        if getattr(wanted, name) is None:
            setattr(wanted, name, getattr(stored, name))
    wanted.name = stored.name
    wanted.request = stored.request or wanted.request  # a conversation is of what it began with
    if stored.started_at is not None:
        wanted.started_at = min(stored.started_at, wanted.started_at or stored.started_at)


def _differs(stored: UserSession, wanted: UserSession) -> bool:
    """Return whether a trace adds something to a stored session: a later end, or an outcome."""
    later = wanted.ended_at is not None and (stored.ended_at is None or wanted.ended_at > stored.ended_at)
    return later or (wanted.succeeded is not None and wanted.succeeded != stored.succeeded)


def _history(
    record: TraceRecord, session: _ImportedSession, seen: Counter[tuple[str, ...]]
) -> tuple[UserSessionProcess, ToolExecution]:
    call = (session.source_id, session.user_id, str(record.step), record.agent, record.tool)
    seen[call] += 1
    process_id = keys.process_id(record.step)
    process = UserSessionProcess(
        user_id=session.user_id,
        session_id=session.session_id,
        process_id=process_id,
        name=record.tool,
        started_at=record.started_at,
        call_id=_digest(*call[:3]),
    )
    duration = None
    if record.started_at is not None and record.ended_at is not None:
        duration = min(round((record.ended_at - record.started_at).total_seconds() * 1000), MAX_COUNT)
    execution = ToolExecution(
        user_id=session.user_id,
        session_id=session.session_id,
        process_id=process_id,
        agent_id=_agent_id(record),
        tool_id=keys.lenient_id_of("TL", record.tool),
        attempt=seen[call],
        tool_name=keys.name_of("TL", record.tool),
        values=storable_text(record.arguments),
        executed_at=record.started_at,
        succeeded=record.success,
        status=record.status,
        result=storable_text(record.result),
        call_number=record.step,
        # a record without a status, revision or model has the id that it had before records could have them
        call_id=_digest(*call, str(seen[call]), record.model_dump_json(exclude=_without(record))),
        error_type=record.error_type,
        duration_ms=duration,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cached_tokens=record.cached_tokens,
        cache_write_tokens=record.cache_write_tokens,
        reasoning_tokens=record.reasoning_tokens,
        model_name=storable_text(record.model_name, limit=NAME_BYTES),
        request_input_tokens=record.request_input_tokens,
        revision=storable_text(record.revision, limit=NAME_BYTES),
    )
    return process, execution


_LATER = ("status", "revision", *Usage._fields[2:])


def _without(record: TraceRecord) -> set[str]:
    return {"request_input_tokens", *(name for name in _LATER if getattr(record, name) is None)}


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
