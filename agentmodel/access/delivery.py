"""Delivery: how a write of history is kept, in the journal, or in the table when there is none or it does not answer.

What is kept when something fails stands in the table of guarantees in the docs. Numbers (processes of a session,
attempts of a call) are claimed with the write itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentmodel.access.sink import Fences
from agentmodel.access.slots import Given, Numbered, numbered, renumbered
from agentmodel.cache.codec import encode
from agentmodel.config import Durability
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.models import ToolExecution, UserSession, UserSessionProcess
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.write import ITEM_BYTES, Writer, checked
from agentmodel.exceptions import (
    AlreadyExists,
    CacheUnavailable,
    HistoryUnavailable,
    JournalFull,
    TableUnavailable,
    Unavailable,
    ValidationError,
)

if TYPE_CHECKING:
    from agentmodel.cache.journal import Entry, Journal
    from agentmodel.cache.recent import Recent

__all__ = ["Delivery", "History", "Receipt", "Work"]

History = UserSession | UserSessionProcess | ToolExecution
"""The entities that the Recorder writes."""

T_co = TypeVar("T_co", bound=History, covariant=True)
R = TypeVar("R", bound=History)
_log = logging.getLogger(__name__)

_ROUNDS = 100  # claims of a number that others took, before giving up


@dataclass(frozen=True, slots=True)
class Receipt(Generic[T_co]):
    """What a write reached.

    Attributes:
        level: ``dynamodb``, or the journal's: ``valkey-durable``, ``valkey-replicated``, ``valkey``.
        entity: What was written, with the numbers it was given.
        repeated: The same call was recorded before; nothing was written again.
    """

    level: Durability
    entity: T_co
    repeated: bool = False


class Work(Generic[R]):
    """One entity on its way: its item, and the number it asks for."""

    def __init__(self, entity: R, version: int) -> None:
        self.version = version
        self.receipt: Receipt[R] | None = None
        self._set(entity)

    def _set(self, entity: R) -> None:
        self.entity = entity
        self.item = entity.to_item()
        self.number = numbered(entity)

    def renumber(self, number: int) -> None:
        """Ask for another number."""
        self._set(renumbered(self.entity, number))


class Delivery:
    """Brings history into the stores.

    Args:
        table: The table.
        writer: Its writer.
        journal: The journal, or None: then everything goes straight into the table.
        recent: The users' own near copies, or None.
    """

    def __init__(
        self, table: Table, writer: Writer, *, journal: Journal | None = None, recent: Recent | None = None
    ) -> None:
        self._table = table
        self._writer = writer
        self._journal = journal
        self._recent = recent
        self._given = Given()
        self._fences = Fences(table)

    def deliver(self, works: Sequence[Work[Any]]) -> None:
        """Write, in one round trip to the journal when there is one; every work then has its receipt.

        Raises:
            JournalFull: The journal is at its bound and the table does not take it either.
            TableUnavailable: There is no journal, and the table does not take it.
            HistoryUnavailable: Neither store takes it; nothing of what has no receipt was kept.
        """
        waiting = works
        if self._journal is None:
            for work in works:
                checked(work.item)
        for _ in range(_ROUNDS):
            if self._journal is None:
                self._direct(waiting, None)
            else:
                self._journalled(self._journal, waiting)
            waiting = [work for work in waiting if work.receipt is None]
            if not waiting:
                return
        raise HistoryUnavailable(f"no free number was found in {_ROUNDS} rounds: somebody else takes every one")

    def open(self, owner: str, partition: str, *, new: bool) -> None:
        """Let the journal know which numbers a session has given: none when it is new, else those in the table."""
        if self._journal is None:
            return
        try:
            if new:
                self._journal.open(owner, partition, {}, new=True)
            else:
                self._open(self._journal, owner, partition)
        except CacheUnavailable:
            return  # the write that follows finds out, and goes to the table

    def _journalled(self, journal: Journal, works: Sequence[Work[Any]]) -> None:
        try:
            answers: Sequence[Any] = journal.append([_entry(work) for work in works])
            full = None
        except JournalFull as error:
            answers, full = error.answers, error
        except CacheUnavailable as error:
            return self._direct(works, error)
        self._take(journal, works, answers)
        if full is not None:  # what found no room goes straight into the table, under the number it claimed
            self._direct([work for work, answer in zip(works, answers, strict=True) if answer is None], full)
        return None

    def _take(self, journal: Journal, works: Sequence[Work[Any]], answers: Sequence[Any]) -> None:
        """Act on what the journal answered to each entry."""
        from agentmodel.cache.journal import Receipt as Kept
        from agentmodel.cache.journal import Taken, Unknown

        unknown: dict[str, str] = {}
        for work, answer in zip(works, answers, strict=True):
            if isinstance(answer, Kept):
                work.receipt = Receipt(answer.level, work.entity, answer.repeated)
                self._note(work)
            elif isinstance(answer, Taken):
                work.renumber(answer.number)
            elif isinstance(answer, Unknown):
                unknown[work.entity.pk] = work.entity.user_id
        for partition, owner in unknown.items():
            try:
                self._open(journal, owner, partition)
            except CacheUnavailable as error:
                _log.warning("numbers of %s are not opened, the write goes to the table: %s", partition, error)

    def _open(self, journal: Journal, owner: str, partition: str) -> None:
        """Let the journal know the numbers that a session has given, of the overlay and the table."""
        families: dict[str, dict[str, int]] = {}
        waiting = [] if self._recent is None else self._recent.pending(owner, partition).values()
        for item in (*waiting, *self._load(partition)):  # first what waits: draining moves it into the table
            for number in Numbered.of_item(item):
                families.setdefault(number.family, {})[number.call_id] = number.number
                self._given.note(partition, number)
        journal.open(owner, partition, families)

    def _load(self, partition: str) -> list[Item]:
        return self._table.query(Query(partition), consistent=True).items

    def _direct(self, works: Iterable[Work[Any]], why: Unavailable | None) -> None:
        """Write straight into the table: no journal, or it does not take the writes."""
        written: list[Work[Any]] = []
        try:
            for work in works:
                if work.number is not None and why is not None and not isinstance(why, JournalFull):
                    self._behind_fence(work, work.number)
                else:
                    self._direct_one(work)
                if work.receipt is not None:
                    written.append(work)
                    self._note(work)
        except TableUnavailable as error:
            if why is None:
                raise
            if isinstance(why, JournalFull):
                raise why from error
            raise HistoryUnavailable(f"nothing was kept: {why}; {error}") from error
        finally:
            if self._recent is not None:
                for work in written:
                    self._recent.wrote(work.entity.user_id, [work.item])

    def _note(self, work: Work[Any]) -> None:
        if self._journal is not None and work.number is not None:
            self._given.note(work.entity.pk, work.number)

    def _behind_fence(self, work: Work[Any], number: Numbered) -> None:
        """Write a work whose number the journal may have given to another: so that the drain cannot lose it."""
        self._fences.put(work.entity.pk)
        free = self._given.free(work.entity.pk, number)
        if free != number.number:
            work.renumber(free)
        taken = self._fences.claim(work.item, alone=self._fences.quiet(work.entity.pk)) is not None
        if taken:
            known = self._fences.held(work.entity, free)
            work.renumber(known or free + 1)
            if known is None:
                return
        work.receipt = Receipt("dynamodb", work.entity, repeated=taken)

    def _direct_one(self, work: Work[Any]) -> None:
        number = work.number
        if number is None:
            self._writer.put_newer(work.item, work.version)
        else:
            try:
                self._writer.put_new(work.entity)
            except AlreadyExists:
                stored = self._table.get_item(work.entity.key, consistent=True) or {}
                if not any(held.call_id == number.call_id for held in Numbered.of_item(stored)):
                    return work.renumber(number.number + 1)
                work.receipt = Receipt("dynamodb", work.entity, repeated=True)
                return None
        work.receipt = Receipt("dynamodb", work.entity)
        return None


def _encoded(item: Item, version: int) -> bytes:
    """The bytes of an item that DynamoDB takes; one takes less room there than its JSON, so most need no count."""
    try:
        data = encode(item, version)
    except ValidationError:
        checked(item)  # says more where text is not Unicode
        raise
    if len(data) > ITEM_BYTES:
        checked(item)
    return data


def _entry(work: Work[Any]) -> Entry:
    from agentmodel.cache.journal import Entry, Slot

    number, expires_at = work.number, work.entity.expires_at
    return Entry(
        owner=work.entity.user_id,
        item=work.item,
        version=work.version,
        immutable=not isinstance(work.entity, UserSession),
        expires_at=None if expires_at is None else int(expires_at.timestamp()),
        slot=None if number is None else Slot(number.family, number.call_id, number.number),
        data=_encoded(work.item, work.version),
    )
