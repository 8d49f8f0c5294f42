"""Write records a moment later, many at once, while whoever made them goes on.

Calls of functions that are tools are recorded so. Their records keep their order; whoever reads or writes what belongs
to the same user waits for them first (`Recorder.wait_for`). What a store refuses is counted record by record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._runtime.process import ForkSafeLock, renew_in_child
from agentmodel.access._receipt import HistoryEntity, Receipt
from agentmodel.dynamo.models import ToolExecution, UserSession, UserSessionProcess

__all__ = ["Failed", "LateRecord", "LateRecords", "Step"]

_log = logger(__name__)

_ROOM_SECONDS = 10.0
"""Seconds that a caller waits for room at the bound; only a store that answers nothing takes so long."""

Failed: TypeAlias = Callable[[str, Exception], object]
"""Called with what could not be recorded, and why."""


class Step(Protocol):
    """A process, which is written with the first call in it unless it was written before."""

    entity: UserSessionProcess
    written: bool


@dataclass(frozen=True, slots=True)
class LateRecord:
    """What is written later.

    Attributes:
        what: What it is called in the log.
        entity: The entity.
        step: The process of a call.
        failed: Called if it cannot be written.
        version: Its version. It is that of the moment when it was told, so that an erasure that began while it waits
            covers it.
    """

    what: str
    entity: HistoryEntity
    step: Step | None
    failed: Failed
    version: int


class LateRecords:
    """Records that wait to be written.

    Args:
        begin: Prepares the stores for a new session.
        record: Writes entities with their versions, and returns a receipt or an error for each.
    """

    def __init__(
        self,
        begin: Callable[[HistoryEntity], object],
        record: Callable[[Sequence[HistoryEntity], Sequence[int]], Sequence[Receipt[HistoryEntity] | Exception]],
    ) -> None:
        self._begin = begin
        self._record_each = record
        self._worker = BackgroundWorker("calls", when_full="wait", max_wait=_ROOM_SECONDS)
        self._lock = ForkSafeLock()
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin with none in a forked child: the parent writes them."""
        self._waiting: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Return how many are not written yet."""
        return self._worker.waiting

    @property
    def dropped(self) -> int:
        """Return how many were not written, because too many waited for too long."""
        return self._worker.dropped

    def put(self, record: LateRecord) -> None:
        """Have a record written soon; never raises. Only where very many wait, it waits for room."""
        self._count(record.entity.user_id, 1)
        if not self._worker.put(self._write, (record,)):
            self._count(record.entity.user_id, -1)

    def has_of(self, user_ids: Collection[str]) -> bool:
        """Return whether something of one of these users is not written yet."""
        return bool(self._waiting) and not self._waiting.keys().isdisjoint(user_ids)

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, for so long at most; return whether it is."""
        written = self._worker.flush(seconds)
        if not written:
            _log.warning(
                "calls.slow: %d recorded calls are not written yet after %.1f seconds; going on without them",
                self._worker.waiting,
                seconds,
            )
        return written

    def close(self, seconds: float) -> None:
        """Write what waits, in so long at most; from now on each record is written before `put` returns."""
        self._worker.close(seconds)

    def _count(self, user_id: str, change: int) -> None:
        with self._lock:
            count = self._waiting.get(user_id, 0) + change
            if count > 0:
                self._waiting[user_id] = count
            else:
                self._waiting.pop(user_id, None)

    def _write(self, records: Sequence[LateRecord]) -> None:
        """Write sessions that begin, then the processes of calls, then the calls, then sessions that end."""
        try:
            begun = [each for each in records if isinstance(each.entity, UserSession) and not _ends(each)]
            for each in begun:
                self._begin(each.entity)
            self._record(begun)
            self._write_steps(records)
            self._record([each for each in records if not isinstance(each.entity, UserSession)])
            self._record([each for each in records if _ends(each)])
        except Exception as error:  # noqa: BLE001  # a defect of ours: counted for all, as nobody knows what is kept
            for each in records:
                each.failed(each.what, error)
        finally:
            for each in records:
                self._count(each.entity.user_id, -1)

    def _write_steps(self, records: Sequence[LateRecord]) -> None:
        """Write processes of calls; where that fails, the write of the call is tried all the same, and says why."""
        new: dict[int, tuple[Step, int]] = {}
        for each in records:
            if each.step is not None and not each.step.written:
                new.setdefault(id(each.step), (each.step, each.version))
        steps = [step for step, _ in new.values()]
        written = self._record_each([step.entity for step in steps], [version for _, version in new.values()])
        for step, kept in zip(steps, written, strict=True):
            if isinstance(kept, Receipt) and isinstance(kept.entity, UserSessionProcess):
                step.entity, step.written = kept.entity, True

    def _record(self, records: Sequence[LateRecord]) -> None:
        written = self._record_each([_placed(each) for each in records], [each.version for each in records])
        for record, kept in zip(records, written, strict=True):
            if isinstance(kept, Exception):
                record.failed(record.what, kept)


def _placed(record: LateRecord) -> HistoryEntity:
    """Return a call in its process, which has another number than it asked for if that was taken."""
    entity, step = record.entity, record.step
    if isinstance(entity, ToolExecution) and step is not None and entity.process_id != step.entity.process_id:
        values: dict[str, Any] = dict(entity.attribute_values)
        values["process_id"] = step.entity.process_id
        return ToolExecution(**values)
    return entity


def _ends(record: LateRecord) -> bool:
    return isinstance(record.entity, UserSession) and record.entity.ended_at is not None
