"""Record sessions, processes and tool calls, by context managers or as entities. This is the hot path.

A write goes into the journal (Valkey) and from there into the table; without Valkey it goes straight into the table.
The table of guarantees in the docs says what is kept when something fails. Numbers (processes of a session, attempts of
a call) are claimed by the write itself, so two recorders never take the same one. A call that is recorded twice is one
item.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import wraps
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.background import FLUSH_TIMEOUT, works_in_background
from agentmodel._runtime.deadline import half_of_what_is_left
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._ttl import expiry
from agentmodel._values.counts import Usage
from agentmodel._values.names import takes_names
from agentmodel._values.outcomes import check_outcome
from agentmodel._values.text import NAME_BYTES, error_text, error_type, storable_text, type_name
from agentmodel.access._attempt_numbers import claimed_number
from agentmodel.access._history_writer import HistoryWriter, PendingWrite
from agentmodel.access._journal_sink import HistorySink
from agentmodel.access._late_records import Failed, LateRecord, LateRecords
from agentmodel.access._receipt import HistoryEntity, Receipt
from agentmodel.access.pagination import split_readable
from agentmodel.access.repository import Repository, SessionHistory
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity, Item
from agentmodel.dynamo.models import OutcomeSource, Review, Status, ToolExecution, UserSession, UserSessionProcess
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer, deferred
from agentmodel.exceptions import (
    CacheUnavailable,
    ConfigurationError,
    ReviewPending,
    TableUnavailable,
    Unavailable,
    ValidationError,
)

if TYPE_CHECKING:
    from agentmodel.cache import Journal, SharedSink, UserCache

__all__ = ["CallRecorder", "HistoryEntity", "ProcessRecorder", "Receipt", "Recorder", "SessionRecorder"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_R = TypeVar("_R", bound=HistoryEntity)
_log = logger(__name__)

_NAME_CHARACTERS = 200  # longest name of a session; it is an index key
_MAX_TOOL_NAMES = 10_000  # tool names that are cached in this process
_TOOL_NAME_SECONDS = 60.0  # how long each of them is used
_TABLE_WRITERS = 8  # threads that write what is recorded later where there is no journal, which takes many at once
_running: ContextVar[tuple[SessionRecorder, ProcessRecorder | None] | None] = ContextVar("running", default=None)


class Recorder:
    """Writes history.

    Args:
        settings: Sets the durability, and how many days history is kept.
        table: The table.
        writer: Writes into the table.
        repository: Looks up the names of tools and continued sessions.
        clock: Returns the next version number.
        journal: The journal, or None.
        user_cache: The users' cached partitions, or None.
        now: Returns the current time, with a time zone.
        on_direct_write: Called with the items that were written straight into the table.

    Attributes:
        observers: Functions that are called with the recorded entities once these are kept. Each delays `record`, so
            it must return soon.
        on_late: Functions that are called with each entity that `record_later` takes, as soon as it waits, in the
            thread that gave it. Each must return soon, too.

    >>> from agentmodel import UserSession
    >>> recorder = Recorder(
    ...     model.settings, model.table, writer=model.writer, repository=model.repository, clock=lambda: 1
    ... )
    >>> recorder.record(UserSession(user_id="USR213", session_id="SESS1", name="a café")).level  # it has no journal
    'dynamodb'
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        *,
        writer: Writer,
        repository: Repository,
        clock: Callable[[], int],
        journal: Journal | None = None,
        user_cache: UserCache | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_direct_write: Callable[[Sequence[Item]], object] | None = None,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._clock = clock
        self._table = table
        self._writer = writer
        usable_journal = journal if settings.durability != "dynamodb" else None
        self._has_journal = usable_journal is not None
        self._history_writer = HistoryWriter(
            table, writer, journal=usable_journal, user_cache=user_cache, on_direct_write=on_direct_write
        )
        self.now = now
        self._tool_names: dict[tuple[str, str], tuple[str, float]] = {}
        self._revisions: dict[str, tuple[str | None, float]] = {}
        self.observers: list[Callable[[Sequence[HistoryEntity]], None]] = []
        self._open_blocks: WeakKeyDictionary[SessionRecorder, int] = WeakKeyDictionary()  # and the thread of each
        self._blocks_lock = ForkSafeLock()
        self.on_late: list[Callable[[Sequence[HistoryEntity]], object]] = []
        writers = 1 if self._has_journal else _TABLE_WRITERS
        self._late = [LateRecords(self._begin, self.record_each) for _ in range(writers)]  # by the session's id

    # Context managers

    def session(
        self,
        user_id: str,
        request: str | None = None,
        *,
        category: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        started_at: datetime | None = None,
        revision: str | None = None,
    ) -> SessionRecorder:
        """Return a session of a user that is recorded while its ``with`` block runs.

        Args:
            user_id: The user who asks, such as ``USR001``.
            request: The request in the user's words.
            category: The kind of request. Plans are learnt for each category. Without one, or with one that begins with
                ``~``, a category is derived from the request.
            name: The session's name. By default it is the beginning of the request.
            session_id: The session to continue, or to create under this id. By default a new session gets an id that
                sorts by its start.
            started_at: When the session began, with a time zone. By default it is now.
            revision: The revision of the agent (of its prompt, model and tools) that makes the calls. By default it is
                what the catalogue says (`Agent.revision`).

        Raises:
            ValidationError: An id has the wrong form, or the time has no zone.

        >>> with model.recorder.session("USR213", "a café", category="cafe search") as session:
        ...     session.succeed("found one")
        >>> model.repository.session("USR213", session.session_id).summary
        'found one'
        """
        if isinstance(name, str) and name and not name.strip():
            raise ValidationError("name", name, "must not be blank: leave it out to name the session by its request")
        began = started_at or self.now()
        redacted = map(self._table.redaction.optional, (name, request, category))  # a cut find is none any more
        entity = UserSession(
            user_id=user_id,
            session_id=session_id or keys.new_session_id(began),
            name=_name(*redacted, "session"),
            request=storable_text(request),
            category=storable_text(category),
            started_at=began,
        )
        return SessionRecorder(self, entity, new=session_id is None, revision=revision)

    # Entities

    def record(self, entity: _R) -> Receipt[_R]:
        """Write one entity of the history. When this returns, the entity is kept as the receipt says.

        If another call has the attempt number of a `ToolExecution`, it gets the next free one; the receipt's entity has
        it. An execution with a ``call_id`` can be recorded again: it stays one item.

        Raises:
            ValidationError: The entity is larger than DynamoDB takes, or a key cannot be made. Nothing was sent.
            JournalFull: The journal is full and the table does not take the write either.
            HistoryUnavailable: Neither store takes the write; nothing was kept.

        >>> from agentmodel import ToolExecution
        >>> call = ToolExecution(
        ...     user_id="USR213", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
        ...     tool_name="find_on_map", succeeded=True,
        ... )
        >>> model.recorder.record(call).entity.attempt, model.recorder.record(call).entity.attempt
        (1, 1)
        """
        return self.record_many([entity])[0]

    def record_many(self, entities: Sequence[_R]) -> list[Receipt[_R]]:
        """Write entities of the history, in one round trip to the journal when there is one; see `record`.

        >>> from agentmodel import UserSession
        >>> sessions = [UserSession(user_id="USR214", session_id=f"SESS{number}", name="a café") for number in (1, 2)]
        >>> [receipt.entity.session_id for receipt in model.recorder.record_many(sessions)]
        ['SESS1', 'SESS2']
        """
        return self._record(entities, [self._clock() for _ in entities])

    def _record(self, entities: Sequence[_R], versions: Sequence[int]) -> list[Receipt[_R]]:
        writes = self._pending_writes(entities, versions)
        self._write(writes)
        return [write.receipt for write in writes if write.receipt is not None]

    def record_each(
        self, entities: Sequence[_R], versions: Sequence[int] | None = None
    ) -> list[Receipt[_R] | Exception]:
        """Write entities as `record_many` does, and return an error for each that cannot be written.

        Args:
            entities: The entities.
            versions: The version of each, which says when it was told; by default it is told now.
        """
        told = versions or [self._clock() for _ in entities]
        writes: list[PendingWrite[_R]] = []
        if len(entities) > 1:
            try:
                writes = self._pending_writes(entities, told)
                self._write(writes)
            except Exception as error:  # noqa: BLE001  # returned below, for the records that it is about
                _log.info("records.one_by_one: writing %d records one by one, because %s", len(entities), error)
        kept = [write.receipt for write in writes] or [None] * len(entities)
        written: list[Receipt[_R] | Exception] = []
        for entity, version, receipt in zip(entities, told, kept, strict=True):
            try:
                written.append(receipt or self._record([entity], [version])[0])
            except Exception as error:  # noqa: BLE001  # likewise
                written.append(error)
        return written

    def record_later(
        self, entity: HistoryEntity, *, failed: Failed, what: str, process: ProcessRecorder | None = None
    ) -> None:
        """Write an entity of the history in the background, about 0.1 seconds later and together with others.

        What is read or recorded of the same user waits for it, and so do the end of its session's block, `settle`,
        `close` and the end of the process. Where the settings demand a durability, this waits until it is kept.

        Args:
            entity: The entity. A session without an end is a new one.
            failed: Called with ``what`` and the error if it cannot be written, in the thread that writes.
            what: What it is called in the log.
            process: The process of a call, which is written with the first call in it.
        """
        late = self._late[hash(entity.session_id) % len(self._late)]
        late.put(LateRecord(what, entity, process, failed, self._clock()))
        for told in self.on_late:
            try:
                told((entity,))
            except Exception:  # noqa: BLE001  # it must not cost the call
                _log.exception("records.not_told: an observer of %s failed; it is recorded all the same", what)
        if "durability" in self._settings.model_fields_set:
            self._flush([late])

    @property
    def waiting(self) -> int:
        """Return how many entities `record_later` was given that are not written yet."""
        return sum([late.waiting for late in self._late])

    @property
    def dropped(self) -> int:
        """Return how many entities `record_later` could not keep, because too many waited for too long."""
        return sum(late.dropped for late in self._late)

    def wait_for(self, *user_ids: str) -> None:
        """Wait until what `record_later` was given of these users is written, for 30 seconds at most."""
        if late := [each for each in self._late if each.has_of(user_ids)]:
            self._flush(late)

    def settle(self) -> bool:
        """Wait, for 30 seconds at most, until what `record_later` was given is written; return whether it is."""
        return self._flush(self._late)

    def _flush(self, wanted: Sequence[LateRecords]) -> bool:
        """Wait until what waits is written, no longer than half of a deadline allows; return whether it is.

        Work in the background does not wait: it is about what was written before, and the writing may wait for it.
        """
        if works_in_background():
            return not any(late.waiting for late in wanted)
        until = monotonic() + half_of_what_is_left(FLUSH_TIMEOUT)
        written = [late.flush(max(0.0, until - monotonic())) for late in wanted]
        return all(written)

    def close(self) -> None:
        """Write what `record_later` was given, within 30 seconds."""
        until = monotonic() + FLUSH_TIMEOUT
        for late in self._late:
            late.close(max(0.0, until - monotonic()))

    def _begin(self, session: HistoryEntity) -> None:
        if isinstance(session, UserSession):
            self.open(session, new=True)

    def outcome(
        self,
        session: SessionRecorder | UserSession | str,
        *,
        user_id: str | None = None,
        succeeded: bool | None = None,
        score: float | None = None,
        source: OutcomeSource = "person",
        by: str | None = None,
        reason: str | None = None,
        agent_id: str | None = None,
        at: datetime | None = None,
    ) -> Receipt[Review]:
        """Record how a run went, as somebody outside of it says, such as hours later. See `AgentModel.outcome`.

        >>> model.recorder.outcome("SESS1", user_id="USR213", score=0.9, source="evaluator", by="judge").entity.outcome
        True
        """
        return self.record(
            self.outcome_of(
                session,
                user_id=user_id,
                succeeded=succeeded,
                score=score,
                source=source,
                by=by,
                reason=reason,
                agent_id=agent_id,
                at=at,
            )
        )

    def outcome_of(
        self,
        session: SessionRecorder | UserSession | str,
        *,
        user_id: str | None = None,
        succeeded: bool | None = None,
        score: float | None = None,
        source: OutcomeSource = "person",
        by: str | None = None,
        reason: str | None = None,
        agent_id: str | None = None,
        at: datetime | None = None,
    ) -> Review:
        """Return the entity that `outcome` records. Reads no store, so it works for a session that is still to come.

        >>> model.recorder.outcome_of("SESS1", user_id="USR213", succeeded=True, by="mina").source
        'person'
        """
        passed, number = check_outcome(succeeded, score, source=source, at=at)
        if isinstance(session, str):
            if user_id is None:
                raise ValidationError("user_id", user_id, "must be given with the id of a session")
            owner, session_id = keys.id_of("USR", user_id, field="user_id"), keys.check_id("session", session, "SESS")
        elif isinstance(session, SessionRecorder | UserSession):
            owner, session_id = session.user_id, session.session_id
        else:
            raise ValidationError("session", session, "must be a session or the id of one")
        agent = None if agent_id is None else keys.id_of("AGT", agent_id, field="agent_id")
        who = self._table.redaction.optional(storable_text(by, limit=NAME_BYTES)) or ""
        said = at or self.now()
        return Review(
            user_id=owner,
            session_id=session_id,
            review_id="outcome-" + hashlib.sha256(json.dumps([source, agent, who]).encode()).hexdigest()[:32],
            question="How did it go?",
            phase="post",
            status="completed",
            agent_id=agent,
            outcome=passed,
            score=number,
            source=source,
            decided_by=who or None,
            decided_at=said,
            decision_reason=storable_text(reason),
            trail=[{"at": keys.format_time("at", said), "what": "outcome", "by": who}] if who else None,
        )

    def stored_outcomes(self, wanted: Sequence[Review]) -> list[Review | None]:
        """Return, for each outcome, the one that the table has under its key; None too while it does not answer."""
        try:
            return self._table.get_many([entity.key for entity in wanted])
        except TableUnavailable as error:
            _log.warning("could not look up %d outcomes; recording them anew: %s", len(wanted), error)
            return [None] * len(wanted)

    def _notify(self, recorded: Sequence[HistoryEntity]) -> None:
        """Pass the recorded entities to the observers; an observer that fails to reach its store undoes nothing."""
        for observer in self.observers:
            try:
                observer(recorded)
            except Unavailable as error:
                _log.warning("stored %d records; notifying an observer failed: %s", len(recorded), error)

    @takes_names
    def tool_name(self, agent_id: str, tool_id: str) -> str:
        """Return the name of a tool in the catalogue; its id when the catalogue lacks the tool or does not answer.

        >>> model.recorder.tool_name("AGT001", "TL001")
        'find_on_map'
        """
        name = self.cached_tool_name(agent_id, tool_id)
        if name is None:
            try:
                tool = self._repository.tool(agent_id, tool_id)
            except Unavailable as error:
                _log.warning("could not read the name of tool %s of %s; recording its id: %s", tool_id, agent_id, error)
                tool = None
            name = keys.name_of("TL", tool_id) if tool is None else tool.name
            if len(self._tool_names) >= _MAX_TOOL_NAMES:
                self._tool_names.clear()
            self._tool_names[agent_id, tool_id] = name, monotonic() + _TOOL_NAME_SECONDS
        return name

    @takes_names
    def agent_revision(self, agent_id: str) -> str | None:
        """Return the revision of an agent in the catalogue, at most a minute old; None where it has none.

        >>> from agentmodel import Agent
        >>> model.repository.put(Agent(agent_id="AGT900", domain_id="DMN900", name="seller", revision="v2"))
        >>> model.recorder.agent_revision("AGT900")
        'v2'
        """
        revision, until = self._revisions.get(agent_id, (None, 0.0))
        if monotonic() < until:
            return revision
        try:
            agent = self._repository.agent(agent_id)
        except Unavailable as error:
            _log.warning("could not read the revision of %s; recording its calls without one: %s", agent_id, error)
            agent = None
        revision = None if agent is None else agent.revision
        if len(self._revisions) >= _MAX_TOOL_NAMES:
            self._revisions.clear()
        self._revisions[agent_id] = revision, monotonic() + _TOOL_NAME_SECONDS
        return revision

    @takes_names
    def cached_tool_name(self, agent_id: str, tool_id: str) -> str | None:
        """Return the name of a tool that was looked up within the last minute, or None."""
        name, until = self._tool_names.get((agent_id, tool_id), (None, 0.0))
        return name if monotonic() < until else None

    def opened(self, session: SessionRecorder) -> None:
        """Note that this thread begins the block of a session."""
        with self._blocks_lock:
            self._open_blocks[session] = get_ident()

    def left(self, session: SessionRecorder) -> None:
        """Note that the block of a session has ended."""
        with self._blocks_lock:
            self._open_blocks.pop(session, None)

    def has_session_elsewhere(self, thread: int) -> bool:
        """Return whether another thread than this one is in the block of a session."""
        with self._blocks_lock:
            return any(other != thread for other in self._open_blocks.values())

    def open(self, session: UserSession, *, new: bool) -> None:
        """Register a session's taken numbers in the journal: none when it is new, else those in the table."""
        partition = keys.SESSION_ITEMS.build(session.user_id, session.session_id)
        self._history_writer.open(session.user_id, partition, new=new)

    def next_process_id(self, session: UserSession, call_id: str | None, *, new: bool) -> str:
        """Return the id that the next process of a session should claim; see `HistoryWriter.next_process`."""
        partition = keys.SESSION_ITEMS.build(session.user_id, session.session_id)
        return keys.process_id(1 if new else self._history_writer.next_process(partition, call_id))

    def continued(self, session: UserSession) -> UserSession | None:
        """Return the stored session with the request, category and suggestion of the given one; None if there is none.

        While the table does not answer and Valkey lacks the session, it is the given one, which is put together with
        the stored one when it is written to the table.
        """
        try:
            stored = self._repository.session(session.user_id, session.session_id)
        except CacheUnavailable:
            return None  # recording goes on in an outage of Valkey; what waits there is not known
        except TableUnavailable as error:
            if not self._has_journal:
                raise
            _log.warning("could not look up session %s; it is looked up when written: %s", session.session_id, error)
            session.extra |= deferred("continue")
            return session
        if stored is not None:
            for name in ("request", "category", "suggestion_id"):
                value = getattr(session, name)
                if value is not None:
                    setattr(stored, name, value)
        return stored

    def resume(self, session: UserSession) -> tuple[UserSession, int, int]:
        """Return the session to go on with, see `continued`, and its numbers.

        While the table does not answer, and Valkey has no copy, the numbers go on at the seconds since 1970.

        Returns:
            The session, the highest number among its calls, and the highest among its processes; 0 for none.
        """
        stored = self.continued(session)
        if stored is None:
            return session, 0, 0
        history, is_whole = self.known_history(session.user_id, session.session_id)
        processes = (claimed_number(process) for process in history.processes)
        before = 0 if is_whole else int(self.now().timestamp())
        return (
            stored,
            max((call.call_number or 0 for call in history.executions), default=before),
            max((one.number - 1 for one in processes if one is not None), default=before),
        )

    @takes_names
    def known_history(self, user_id: str, session_id: str) -> tuple[SessionHistory, bool]:
        """Return the history of a session, and whether it is all of it.

        While the table does not answer and Valkey has no copy, it is what waits in the journal.

        Raises:
            TableUnavailable: The table does not answer, and there is no journal that does.
        """
        try:
            return self._repository.session_history(user_id, session_id), True
        except TableUnavailable as error:
            try:
                found = self._history_writer.pending(user_id, keys.SESSION_ITEMS.build(user_id, session_id))
            except CacheUnavailable:
                raise error from None
        entities, unreadable = split_readable(found, UserSessionProcess, ToolExecution)
        processes = tuple(one for one in entities if isinstance(one, UserSessionProcess))
        executions = tuple(one for one in entities if isinstance(one, ToolExecution))
        return SessionHistory(processes, executions, (), unreadable=tuple(unreadable)), False

    def put_missing(self, owner: str, entities: Iterable[Entity]) -> list[Entity]:
        """Put entities into the catalogue that it lacks, and return these; those that are there stay as they are.

        While the table does not answer, the journal takes them all, and the drainer looks up which are missing.

        Args:
            owner: The user whose record needs them.
            entities: Domains, agents, tools and users.

        Raises:
            TableUnavailable: The table does not answer, and there is no journal that does.
        """
        wanted = list(entities)
        try:
            stored = self._table.get_many([entity.key for entity in wanted])
            missing = [entity for entity, found in zip(wanted, stored, strict=True) if found is None]
            self._repository.put(*missing)
        except TableUnavailable as error:
            try:
                self._history_writer.add_later(owner, wanted, self._clock())
            except CacheUnavailable:
                raise error from None
            return wanted
        return missing

    def journal_sink(self) -> SharedSink:
        """Return the sink for the journal's drainer, which keeps what others write into the table."""
        return HistorySink(self._table, self._writer)

    def _pending_writes(self, entities: Sequence[_R], versions: Sequence[int]) -> list[PendingWrite[_R]]:
        if self.waiting:
            self.wait_for(*{entity.user_id for entity in entities})
        expires_at = expiry(self.now(), days=self._settings.ttl_days_low)
        return [
            self._pending_write(entity, version, expires_at) for entity, version in zip(entities, versions, strict=True)
        ]

    def _write(self, writes: Sequence[PendingWrite[Any]]) -> None:
        """Write, and tell the observers what is kept, also where an error says that not everything is."""
        try:
            self._history_writer.write(writes)
        finally:
            receipts = [write.receipt for write in writes if write.receipt is not None]
            self._notify([receipt.entity for receipt in receipts if not receipt.repeated])

    def _pending_write(self, entity: _R, version: int, expires_at: datetime) -> PendingWrite[_R]:
        self._table.redaction.entity(entity)
        values = entity.attribute_values  # set directly: these values need no check
        if values.get("call_id", "") is None:
            values["call_id"] = _new_call_id()
        if values.get("error_type") is not None:
            values["error_type"] = error_type(values["error_type"])
        if isinstance(entity, ToolExecution) and entity.status is None:
            values["status"] = "ok" if entity.succeeded else "error"
        values["version"] = version
        if values["expires_at"] is None:
            values["expires_at"] = expires_at
        return PendingWrite(entity, version)


def in_session(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return a function that is called in the blocks that this thread is in now; see `AgentModel.in_session`."""
    if _running.get() is None:
        raise ConfigurationError(
            "in_session() was called outside of a session: call it in the `with model.session(...)` block that the "
            "function is to be recorded in"
        )
    around = copy_context()

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return around.copy().run(function, *args, **kwargs)  # a copy, as no two threads may run in one context

    return call


def running() -> tuple[SessionRecorder, ProcessRecorder | None] | None:
    """Return the session, and the process if any, of the innermost block that this thread or task is in."""
    return _running.get()


class SessionRecorder:
    """Records one session while it runs; made by `Recorder.session`.

    An exception that leaves the block is recorded as the session's failure and raised again. An interruption (Ctrl-C, a
    cancelled task) is not a failure, and neither is waiting for a person (`ReviewPending`). Without an outcome (see
    `succeed` and `fail`) the session counts as successful when all its tool calls were.

    Attributes:
        entity: The session as it is written.
        revision: The revision of the agent of calls that are given none; None if unknown.
        function_calls: What tells the calls of functions in it apart; None before the first.

    >>> try:
    ...     with model.session("USR215", "a café at the lake") as session:
    ...         raise LookupError("no café")
    ... except LookupError:
    ...     print(session.entity.succeeded, session.entity.summary)
    False LookupError: no café
    """

    def __init__(self, recorder: Recorder, entity: UserSession, *, new: bool, revision: str | None = None) -> None:
        self._recorder = recorder
        self.revision = storable_text(revision, limit=NAME_BYTES)
        self._new = new
        self._calls = self._processes = 0
        self._call_lock = ForkSafeLock()  # several threads may make calls in one session
        self._outer: tuple[SessionRecorder, ProcessRecorder | None] | None = None
        self.entity = entity
        self.function_calls: Any = None

    @property
    def recorder(self) -> Recorder:
        """The recorder that writes the session."""
        return self._recorder

    @property
    def new(self) -> bool:
        """Whether the session was created here, not continued."""
        return self._new

    @property
    def user_id(self) -> str:
        """The id of the user."""
        return self.entity.user_id

    @property
    def session_id(self) -> str:
        """The id of the session."""
        return self.entity.session_id

    def __enter__(self) -> Self:
        if not self._new:
            self.entity, self._calls, self._processes = self._recorder.resume(self.entity)
        self._recorder.open(self.entity, new=self._new)
        self._recorder.record(self.entity)
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self._recorder.record(self.ended(error))

    def begin(self) -> None:
        """Make this the session that `running` returns in this thread or task, until `leave`."""
        self._outer = _running.get()
        self._recorder.opened(self)
        _running.set((self, None))

    def leave(self) -> None:
        """Make `running` return the block around this one again."""
        self._recorder.left(self)
        _running.set(self._outer)

    def ended(self, error: BaseException | None) -> UserSession:
        """Return the session's entity as it is recorded at the end of the block."""
        pending = isinstance(error, ReviewPending)
        if isinstance(error, Exception) and not pending and self.entity.succeeded is None:
            self.fail(f"{type_name(error)}: {error_text(error)}")
        self.entity.ended_at = self._recorder.now()
        return self.entity

    def succeed(self, summary: str | None = None) -> None:
        """Record that the session did what was requested.

        >>> with model.session("USR215") as session:
        ...     session.succeed("found Cafe Onda")
        >>> session.entity.succeeded, session.entity.summary
        (True, 'found Cafe Onda')
        """
        self._end(True, summary)

    def fail(self, summary: str | None = None) -> None:
        """Record that the session did not do what was requested.

        >>> with model.session("USR215") as session:
        ...     session.fail("no café is open")
        >>> session.entity.succeeded
        False
        """
        self._end(False, summary)

    def _end(self, succeeded: bool, summary: str | None) -> None:
        self.entity.succeeded = succeeded
        if summary is not None:
            self.entity.summary = storable_text(summary)

    def process(
        self, name: str, *, description: str | None = None, prompt: str | None = None, number: int | None = None
    ) -> ProcessRecorder:
        """Return a step of the session; it is recorded when its ``with`` block begins.

        Args:
            name: What the step does, such as ``locate``.
            description: A longer description.
            prompt: The prompt for the model. By default it is the session's request.
            number: The number of the process, from 1. By default it is the next free one.

        Raises:
            ValidationError: ``number`` is not a number that a process can have.

        >>> with model.session("USR215", "a café") as session, session.process("locate", number=7) as process:
        ...     process.process_id, process.entity.prompt
        ('PRC007', 'a café')
        """
        given = keys.process_id(number) if number else None
        with self._call_lock:  # the next free one is nearly always this, and then is got by one write instead of two
            self._processes = max(self._processes + 1, number or 0)
            expected = self._processes
        entity = UserSessionProcess(
            user_id=self.user_id,
            session_id=self.session_id,
            process_id=given or keys.process_id(expected),
            name=storable_text(name) or "step",
            description=storable_text(description),
            prompt=storable_text(prompt if prompt is not None else self.entity.request),
            started_at=self._recorder.now(),
            call_id=_new_call_id(),  # now, so that it stays one item where a forked child writes it too
        )
        return ProcessRecorder(self._recorder, self, entity)

    def next_call(self) -> int:
        """Return the number of the next call of this session, from 1. The numbers are the order of the calls."""
        with self._call_lock:
            self._calls += 1
            return self._calls


class ProcessRecorder:
    """Records one step of a session while it runs; made by `SessionRecorder.process`.

    Attributes:
        entity: The step as it is written.
        written: Whether a store has it.

    >>> with model.session("USR211") as session:
    ...     with session.process("locate") as first:
    ...         pass
    ...     with session.process("choose") as second:
    ...         pass
    >>> first.process_id, second.process_id, second.entity.name
    ('PRC001', 'PRC002', 'choose')
    """

    def __init__(self, recorder: Recorder, session: SessionRecorder, entity: UserSessionProcess) -> None:
        self._recorder = recorder
        self._session = session
        self._outer: tuple[SessionRecorder, ProcessRecorder | None] | None = None
        self.entity = entity
        self.written = False

    @property
    def process_id(self) -> str:
        """The id of the process."""
        return self.entity.process_id

    def __enter__(self) -> Self:
        self.entity, self.written = self._recorder.record(self.entity).entity, True
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def begin(self) -> None:
        """Make this the process that `running` returns in this thread or task, until `leave`."""
        self._outer = _running.get()
        _running.set((self._session, self))

    def leave(self) -> None:
        """Make `running` return the block around this one again."""
        _running.set(self._outer)

    def call(
        self,
        agent_id: str,
        tool_id: str,
        *,
        values: Any = None,
        tool_name: str | None = None,
        call_id: str | None = None,
        revision: str | None = None,
    ) -> CallRecorder:
        """Return a call of a tool; it is recorded when its ``with`` block ends.

        A second call of the same tool in this process is a second attempt.

        Args:
            agent_id: The agent that calls.
            tool_id: The tool that is called.
            values: The arguments. Text is stored as it is, anything else as JSON.
            tool_name: The tool's name. By default it is looked up in the catalogue.
            call_id: Identifies the call. A call that is recorded again under the same id stays one item.
            revision: The revision of the agent. By default it is that of the session, else the catalogue's.

        >>> with model.session("USR211") as session, session.process("locate") as process:
        ...     for place in ("park", "lake"):
        ...         with process.call("AGT001", "TL001", values={"place": place}) as call:
        ...             call.result = []
        >>> call.receipt.entity.tool_name, call.receipt.entity.attempt
        ('find_on_map', 2)
        """
        entity = ToolExecution(
            user_id=self._session.user_id,
            session_id=self._session.session_id,
            process_id=self.process_id,
            agent_id=agent_id,
            tool_id=tool_id,
            tool_name=storable_text(tool_name) or keys.name_of("TL", tool_id),
            values=storable_text(values),
            succeeded=True,
            call_id=storable_text(call_id) or _new_call_id(),
            call_number=self._session.next_call(),
            revision=storable_text(revision, limit=NAME_BYTES) or self._session.revision,
        )
        return CallRecorder(self._recorder, entity, named=tool_name is not None)


class CallRecorder:
    """Records one call of a tool while it runs; made by `ProcessRecorder.call`.

    An exception that leaves the block is recorded as the call's failure and raised again. An interruption (Ctrl-C, a
    cancelled task) is recorded too, but does not count as a failure of the tool.

    Attributes:
        result: What the tool returned. Text is stored as it is, anything else as JSON.
        input_tokens: Tokens that the model read for this call. What is no count is left out, with a warning.
        output_tokens: Tokens that the model wrote for this call, likewise.
        cached_tokens: Of the input tokens, those that were read from the provider's cache.
        cache_write_tokens: Of the input tokens, those that were written into the provider's cache.
        reasoning_tokens: Of the output tokens, those of the model's reasoning.
        model_name: The model that asked for the call, as its provider names it.
        request_input_tokens: Where the model asked for several calls at once, the tokens that it read for all of them:
            some prices depend on it.
        receipt: Where the call was stored; set when the block has ended.

    >>> with model.session("USR211") as session, session.process("locate") as process:
    ...     with process.call("AGT001", "TL001", values={"place": "park"}) as call:
    ...         call.model_name, call.input_tokens, call.output_tokens = "gpt-5", 800, 20
    ...         call.result = ["Cafe Onda"]
    >>> call.receipt.entity.succeeded, call.receipt.entity.input_tokens, call.receipt.level
    (True, 800, 'valkey')
    """

    def __init__(self, recorder: Recorder, entity: ToolExecution, *, named: bool) -> None:
        self._recorder = recorder
        self._entity = entity
        self._named = named
        self._began = recorder.now()
        self.result: Any = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.cache_write_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.model_name: str | None = None
        self.request_input_tokens: int | None = None
        self.receipt: Receipt[ToolExecution] | None = None

    @property
    def starts_at_once(self) -> bool:
        """Whether the block can begin without looking up the tool's name in the catalogue."""
        cached = self._recorder.cached_tool_name(self._entity.agent_id, self._entity.tool_id)
        return self._named or cached is not None

    def __enter__(self) -> Self:
        if not self._named:
            self._entity.tool_name = self._recorder.tool_name(self._entity.agent_id, self._entity.tool_id)
            if self._entity.revision is None:
                self._entity.revision = self._recorder.agent_revision(self._entity.agent_id)
        self._began = self._recorder.now()
        return self

    def fail(self, message: Any = None, *, error_type: str | None = None, status: Status = "error") -> None:
        """Record that the call failed without an exception, or was not made (``status`` says why).

        >>> with model.session("USR211") as session, session.process("locate") as process:
        ...     with process.call("AGT001", "TL001") as call:
        ...         call.fail("no such place", error_type="KeyError")
        >>> call.receipt.entity.succeeded, call.receipt.entity.error_type
        (False, 'KeyError')
        """
        self._entity.succeeded = False
        self._entity.status = status
        self._entity.error_type = storable_text(error_type)
        if message is not None:
            self.result = message

    def mark(self, status: Status) -> None:
        """Record that the call was not made as the agent asked for it: ``edited`` or ``cache_hit``.

        >>> with model.session("USR211") as session, session.process("locate") as process:
        ...     with process.call("AGT001", "TL001") as call:
        ...         call.mark("cache_hit")
        ...         call.result = ["Cafe Onda"]
        >>> call.receipt.entity.status
        'cache_hit'
        """
        self._entity.status = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.receipt = self._recorder.record(self.ended(error))

    def ended(self, error: BaseException | None) -> ToolExecution:
        """Return the call's entity as it is recorded at the end of the block."""
        if error is not None:
            status: Status = "error" if isinstance(error, Exception) else "interrupted"
            self.fail(error_text(error), error_type=type_name(error), status=status)
        entity = self._entity
        entity.executed_at = self._began
        entity.duration_ms = max(0, round((self._recorder.now() - self._began).total_seconds() * 1000))
        entity.result = storable_text(self.result)
        usage = Usage(*(getattr(self, name) for name in Usage._fields)).checked()
        for name, value in usage._asdict().items():
            setattr(entity, name, value)
        return entity


def _new_call_id() -> str:
    return os.urandom(16).hex()


def _name(*texts: str | None) -> str:
    """Return the beginning of the first text that is not blank, short enough for an index key."""
    first = next(first for text in texts if (first := " ".join((storable_text(text) or "").split())))
    return first if len(first) <= _NAME_CHARACTERS else first[: _NAME_CHARACTERS - 1] + "…"
