"""Recorder: sessions, processes and tool calls as context managers, and the entities as they are; the hot path.

A write goes into the journal (Valkey) and from there into the table; without Valkey it goes straight into the table.
What is kept when something fails stands in the table of guarantees in the docs. Numbers (processes of a session,
attempts of a call) are claimed with the write itself, so that two recorders never take the same one; the same call
recorded twice is one item.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agentmodel import keys
from agentmodel.access.delivery import Delivery, History, Receipt, Work
from agentmodel.access.repository import Repository
from agentmodel.config import Settings
from agentmodel.dynamo.models import Status, ToolExecution, UserSession, UserSessionProcess
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import ReviewPending, Unavailable, ValidationError
from agentmodel.ttl import expiry

if TYPE_CHECKING:
    from agentmodel.cache.journal import Journal
    from agentmodel.cache.recent import Recent

__all__ = ["CallRecorder", "ProcessRecorder", "Receipt", "Recorder", "SessionRecorder", "running"]

T_co = TypeVar("T_co", bound=History, covariant=True)
R = TypeVar("R", bound=History)
_log = logging.getLogger(__name__)

TEXT_BYTES = 65_535  # of one text: what a string inside Redshift's SUPER may hold
_NAME_CHARACTERS = 200  # of a session's name, which is an index key
_TOOL_NAMES = 10_000  # names kept at hand
_NAME_SECONDS = 60.0  # for so long
_running: ContextVar[tuple[SessionRecorder, ProcessRecorder | None] | None] = ContextVar("running", default=None)


class Recorder:
    """Writes history.

    Args:
        settings: Names durability and lifetimes.
        table: The table.
        writer: Its writer.
        repository: Names tools.
        clock: Gives versions.
        journal: The journal, or None.
        recent: The user's own near copies, or None.
        now: Gives the present time.

    Attributes:
        observers: Called with what was kept, after it was kept; they do not hold records back for long.
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
        recent: Recent | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._clock = clock
        through = journal if settings.durability != "dynamodb" else None
        self._delivery = Delivery(table, writer, journal=through, recent=recent)
        self.now = now
        self._tool_names: dict[tuple[str, str], tuple[str, float]] = {}
        self.observers: list[Callable[[Sequence[History]], None]] = []

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
    ) -> SessionRecorder:
        """A session of a user, recorded from ``with`` to the end of the block.

        Args:
            user_id: Who asks, such as ``USR001``.
            request: What is asked, in the user's words.
            category: The kind of request; plans are learnt per category.
            name: The session's name; the beginning of the request when not given.
            session_id: Continues this session, or makes it; a new one that sorts by time when not given.
            started_at: When it began; now when not given.

        Raises:
            ValidationError: An id is none, a time has no zone.
        """
        began = started_at or self.now()
        entity = UserSession(
            user_id=user_id,
            session_id=session_id or keys.new_session_id(began),
            name=_name(name or request or category or "session"),
            request=fitting(request),
            category=category,
            started_at=began,
        )
        return SessionRecorder(self, entity, new=session_id is None)

    # Entities

    def record(self, entity: R) -> Receipt[R]:
        """Write one entity of the history; what is claimed in the receipt is kept.

        A `ToolExecution` whose number of the attempt is taken by another call gets the next one; see the receipt's
        entity. Give it a ``call_id``, and recording it again is the same item.

        Raises:
            ValidationError: It is larger than DynamoDB takes, or a key cannot be made; nothing was sent.
            JournalFull: The journal is at its bound and the table does not take it either.
            HistoryUnavailable: Neither store takes it; nothing was kept.
        """
        return self.record_many([entity])[0]

    def record_many(self, entities: Sequence[R]) -> list[Receipt[R]]:
        """Write entities of the history, in one round trip to the journal when there is one."""
        expires_at = expiry(self.now(), days=self._settings.ttl_days_low)
        works = [self._work(entity, expires_at) for entity in entities]
        self._delivery.deliver(works)
        receipts = [work.receipt for work in works if work.receipt is not None]
        self._tell([receipt.entity for receipt in receipts if not receipt.repeated])
        return receipts

    def _tell(self, recorded: Sequence[History]) -> None:
        """Tell the observers what was kept; a store that does not answer them does not undo the record."""
        for observer in self.observers:
            try:
                observer(recorded)
            except Unavailable as error:
                _log.warning("%d records were kept, but not everybody learnt of them: %s", len(recorded), error)

    def tool_name(self, agent_id: str, tool_id: str) -> str:
        """The name of a tool in the catalogue; its id when the catalogue does not know it or does not answer."""
        name = self.known_tool_name(agent_id, tool_id)
        if name is None:
            try:
                tool = self._repository.tool(agent_id, tool_id)
            except Unavailable as error:
                _log.warning("the name of %s %s is not known, its id is recorded: %s", agent_id, tool_id, error)
                tool = None
            name = tool_id if tool is None else tool.name
            if len(self._tool_names) >= _TOOL_NAMES:
                self._tool_names.clear()
            self._tool_names[agent_id, tool_id] = name, monotonic() + _NAME_SECONDS
        return name

    def known_tool_name(self, agent_id: str, tool_id: str) -> str | None:
        """The name of a tool that was looked up within the last minute, or None."""
        name, until = self._tool_names.get((agent_id, tool_id), (None, 0.0))
        return name if monotonic() < until else None

    def open(self, session: UserSession, *, new: bool) -> None:
        """Let the journal know which numbers a session has given: none when it is new, else those in the table."""
        partition = keys.SESSION_ITEMS.build(session.user_id, session.session_id)
        self._delivery.open(session.user_id, partition, new=new)

    def continued(self, session: UserSession) -> tuple[UserSession, int]:
        """A session as it is stored, with what is new of it, and the highest call number it has given."""
        stored = self._repository.session(session.user_id, session.session_id)
        if stored is None:
            return session, 0
        for name in ("request", "category", "suggestion_id"):
            value = getattr(session, name)
            if value is not None:
                setattr(stored, name, value)
        history = self._repository.session_history(session.user_id, session.session_id)
        return stored, max((e.call_number or 0 for e in history.executions), default=0)

    def _work(self, entity: R, expires_at: datetime) -> Work[R]:
        values = entity.attribute_values  # what is put there is of its attribute's form, and is not checked again
        if values.get("call_id", "") is None:
            values["call_id"] = _new_call_id()
        values["version"] = version = self._clock()
        if values["expires_at"] is None:
            values["expires_at"] = expires_at
        return Work(entity, version)


def running() -> tuple[SessionRecorder, ProcessRecorder | None] | None:
    """The session of the innermost block that this thread or task is in, and its process if it is in one."""
    return _running.get()


class SessionRecorder:
    """One session while it runs; made by `Recorder.session`.

    An exception that leaves the block is recorded as the session's failure and raised again; being interrupted
    (Ctrl-C, a cancelled task) is none, and neither is waiting for a person (`ReviewPending`). Without an outcome (see
    `succeed` and `fail`) the session counts as successful when all its tool calls were.
    """

    def __init__(self, recorder: Recorder, entity: UserSession, *, new: bool) -> None:
        self._recorder = recorder
        self._new = new
        self._calls = 0
        self._counting = threading.Lock()  # threads may share a session
        self._around: tuple[SessionRecorder, ProcessRecorder | None] | None = None
        self.entity = entity

    @property
    def recorder(self) -> Recorder:
        """What writes it."""
        return self._recorder

    @property
    def new(self) -> bool:
        """Whether it begins here, rather than goes on."""
        return self._new

    @property
    def user_id(self) -> str:
        """The user."""
        return self.entity.user_id

    @property
    def session_id(self) -> str:
        """The session."""
        return self.entity.session_id

    def __enter__(self) -> Self:
        if not self._new:
            self.entity, self._calls = self._recorder.continued(self.entity)
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
        """Be the session that `running` gives, in this thread or task, until `leave`."""
        self._around = _running.get()
        _running.set((self, None))

    def leave(self) -> None:
        """Give way to the block around this one."""
        _running.set(self._around)

    def ended(self, error: BaseException | None) -> UserSession:
        """The session as it is recorded at the end of the block."""
        waits = isinstance(error, ReviewPending)
        if isinstance(error, Exception) and not waits and self.entity.succeeded is None:
            self.fail(_told(error))
        self.entity.ended_at = self._recorder.now()
        return self.entity

    def succeed(self, summary: str | None = None) -> None:
        """The session reached what was asked."""
        self._end(True, summary)

    def fail(self, summary: str | None = None) -> None:
        """The session did not reach what was asked."""
        self._end(False, summary)

    def _end(self, succeeded: bool, summary: str | None) -> None:
        self.entity.succeeded = succeeded
        if summary is not None:
            self.entity.summary = fitting(summary)

    def process(
        self, name: str, *, description: str | None = None, prompt: str | None = None, number: int | None = None
    ) -> ProcessRecorder:
        """A step of the session, recorded when the block begins.

        Args:
            name: What the step does, such as ``locate``.
            description: More about it.
            prompt: What the model was asked; the session's request when not given.
            number: Its number from 1; the next free one when not given.
        """
        entity = UserSessionProcess(
            user_id=self.user_id,
            session_id=self.session_id,
            process_id=keys.process_id(number or 1),
            name=name,
            description=fitting(description),
            prompt=fitting(prompt if prompt is not None else self.entity.request),
            started_at=self._recorder.now(),
        )
        return ProcessRecorder(self._recorder, self, entity)

    def next_call(self) -> int:
        """The number of the next call of this session, from 1: the order of calls."""
        with self._counting:
            self._calls += 1
            return self._calls


class ProcessRecorder:
    """One step of a session while it runs; made by `SessionRecorder.process`."""

    def __init__(self, recorder: Recorder, session: SessionRecorder, entity: UserSessionProcess) -> None:
        self._recorder = recorder
        self._session = session
        self._around: tuple[SessionRecorder, ProcessRecorder | None] | None = None
        self.entity = entity

    @property
    def process_id(self) -> str:
        """The step's id."""
        return self.entity.process_id

    def __enter__(self) -> Self:
        self.entity = self._recorder.record(self.entity).entity
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def begin(self) -> None:
        """Be the process that `running` gives, in this thread or task, until `leave`."""
        self._around = _running.get()
        _running.set((self._session, self))

    def leave(self) -> None:
        """Give way to the block around this one."""
        _running.set(self._around)

    def call(
        self,
        agent_id: str,
        tool_id: str,
        *,
        values: Any = None,
        tool_name: str | None = None,
        call_id: str | None = None,
    ) -> CallRecorder:
        """One call of a tool, recorded when the block ends; a second one of the same tool is a second attempt.

        Args:
            agent_id: The agent that calls.
            tool_id: The tool that is called.
            values: Its arguments; anything but text is stored as JSON.
            tool_name: The tool's name; that of the catalogue when not given.
            call_id: Identity of the call: recorded again, it is the same item.
        """
        entity = ToolExecution(
            user_id=self._session.user_id,
            session_id=self._session.session_id,
            process_id=self.process_id,
            agent_id=agent_id,
            tool_id=tool_id,
            tool_name=tool_name or tool_id,
            values=fitting(as_text(values)),
            succeeded=True,
            call_id=call_id or _new_call_id(),
            call_number=self._session.next_call(),
        )
        return CallRecorder(self._recorder, entity, named=tool_name is not None)


class CallRecorder:
    """One call of a tool while it runs; made by `ProcessRecorder.call`.

    An exception that leaves the block is recorded as the call's failure and raised again; being interrupted (Ctrl-C, a
    cancelled task) is recorded too, but it is no failure of the tool.

    Attributes:
        result: What the tool gave; anything but text is stored as JSON.
        input_tokens: Tokens that asked for the call.
        output_tokens: Tokens it took to make.
        receipt: What the record reached, after the block.
    """

    def __init__(self, recorder: Recorder, entity: ToolExecution, *, named: bool) -> None:
        self._recorder = recorder
        self._entity = entity
        self._named = named
        self._began = recorder.now()
        self.result: Any = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.receipt: Receipt[ToolExecution] | None = None

    @property
    def starts_at_once(self) -> bool:
        """Whether the block begins without asking the catalogue for the tool's name."""
        known = self._recorder.known_tool_name(self._entity.agent_id, self._entity.tool_id)
        return self._named or known is not None

    def __enter__(self) -> Self:
        if not self._named:
            self._entity.tool_name = self._recorder.tool_name(self._entity.agent_id, self._entity.tool_id)
        self._began = self._recorder.now()
        return self

    def fail(self, message: Any = None, *, error_type: str | None = None, status: Status = "error") -> None:
        """The call failed without raising, or did not take place (``status``)."""
        self._entity.succeeded = False
        self._entity.status = status
        self._entity.error_type = error_type
        if message is not None:
            self.result = message

    def mark(self, status: Status) -> None:
        """Say how the call came about where it was not made as asked: ``edited``, ``cache_hit``."""
        self._entity.status = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.receipt = self._recorder.record(self.ended(error))

    def ended(self, error: BaseException | None) -> ToolExecution:
        """The call as it is recorded at the end of the block."""
        if error is not None:
            status: Status = "error" if isinstance(error, Exception) else "interrupted"
            self.fail(str(error) or type(error).__name__, error_type=type(error).__qualname__, status=status)
        entity = self._entity
        entity.executed_at = self._began
        entity.duration_ms = max(0, round((self._recorder.now() - self._began).total_seconds() * 1000))
        entity.result = fitting(as_text(self.result))
        entity.input_tokens = self.input_tokens
        entity.output_tokens = self.output_tokens
        return entity


def _new_call_id() -> str:
    return os.urandom(16).hex()


def _told(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"


def as_text(value: Any) -> str | None:
    """Arguments or a result as they are stored: text as it is, anything else as JSON, or as its repr where it is none.

    >>> as_text({"place": "stadium"}), as_text({1, 2}), as_text({(1, 2): 3})
    ('{"place": "stadium"}', '"{1, 2}"', '{(1, 2): 3}')
    """
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that are no text, or a value that holds itself
        return repr(value)


def fitting(text: str | None) -> str | None:
    r"""The text as the stores take it: cut at what Redshift takes (the end says so), lone surrogates replaced.

    >>> fitting("caf\ud800")
    'caf?'
    """
    if text is None or (text.isascii() and len(text) <= TEXT_BYTES):
        return text
    data = text.encode(errors="replace")
    if len(data) <= TEXT_BYTES:
        return data.decode()
    note = f"… [cut, {len(data)} bytes]"
    return data[: TEXT_BYTES - len(note.encode())].decode(errors="ignore") + note


def _name(text: str) -> str:
    """The beginning of a text, as a name fits an index key."""
    if not text.strip():
        raise ValidationError("name", text, "a session's name is not blank")
    first = " ".join(text.split())
    return first if len(first) <= _NAME_CHARACTERS else first[: _NAME_CHARACTERS - 1] + "…"
