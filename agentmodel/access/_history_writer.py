"""Write history into the journal, or into the table when there is no journal or it does not answer.

The table of guarantees in the docs says what is kept when something fails. Numbers (processes of a session, attempts of
a call) are claimed by the write itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentmodel import keys
from agentmodel._log import logger
from agentmodel.access._attempt_numbers import PROCESSES, AttemptNumbers, ClaimedNumber, claimed_number, with_number
from agentmodel.access._numbered_writer import NumberedWriter
from agentmodel.access._receipt import HistoryEntity, Receipt
from agentmodel.dynamo.entity import Entity, Item
from agentmodel.dynamo.models import Review, UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.writer import ITEM_BYTES, Writer, checked, deferred, is_deferred
from agentmodel.exceptions import (
    CacheUnavailable,
    HistoryUnavailable,
    JournalFull,
    TableUnavailable,
    Unavailable,
    ValidationError,
)

if TYPE_CHECKING:
    from agentmodel.cache import Entry, Journal, UserCache

__all__ = ["HistoryWriter", "PendingWrite"]


R = TypeVar("R", bound=HistoryEntity)
_log = logger(__name__)

_MAX_CLAIMS = 100  # numbers that a write claims and does not get, before it gives up
_NEWEST = 20  # items of a session that are read to find its highest process


class PendingWrite(Generic[R]):
    """One entity that is being written: its item, the number it claims and, at the end, its receipt."""

    def __init__(self, entity: R, version: int) -> None:
        self.version = version
        self.receipt: Receipt[R] | None = None
        self._set(entity)

    def _set(self, entity: R) -> None:
        self.entity = entity
        self.item = entity.to_item()
        self.number = claimed_number(entity)

    def renumber(self, number: int) -> None:
        """Claim another number."""
        self._set(with_number(self.entity, number))

    def stored(self, entity: R, *, repeated: bool = False) -> None:
        """Take the receipt of a write to the table, under the number that it got there."""
        if entity is not self.entity:
            self._set(entity)
        self.receipt = Receipt("dynamodb", entity, repeated=repeated)


class HistoryWriter:
    """Writes history into the stores.

    Args:
        table: The table.
        writer: Writes into the table.
        journal: The journal, or None to write everything straight into the table.
        user_cache: The users' cached partitions, or None.
        on_direct_write: Called with the items that were written straight into the table.
    """

    def __init__(
        self,
        table: Table,
        writer: Writer,
        *,
        journal: Journal | None = None,
        user_cache: UserCache | None = None,
        on_direct_write: Callable[[Sequence[Item]], object] | None = None,
    ) -> None:
        self._table = table
        self._writer = writer
        self._journal = journal
        self._user_cache = user_cache
        self._on_direct_write = on_direct_write
        self._taken_numbers = AttemptNumbers()
        self._numbers = NumberedWriter(table)

    def write(self, writes: Sequence[PendingWrite[Any]]) -> None:
        """Write entities, in one round trip to the journal when there is one; afterwards each has its receipt.

        Raises:
            JournalFull: The journal is full and the table does not take the write either.
            TableUnavailable: There is no journal, and the table does not take the write.
            HistoryUnavailable: Neither store takes it; nothing that has no receipt was kept.
        """
        unwritten = writes
        if self._journal is None:
            for write in writes:
                checked(write.item)
            return self._write_to_table(writes, None)
        for _ in range(_MAX_CLAIMS):
            self._write_to_journal(self._journal, unwritten)
            unwritten = [write for write in unwritten if write.receipt is None]
            if not unwritten:
                return None
        raise HistoryUnavailable(
            f"{len(unwritten)} records were not kept: other writers took the number each of them claimed, "
            f"{_MAX_CLAIMS} times in a row; record them again"
        )

    def next_process(self, partition: str, call_id: str | None) -> int:
        """Return the number that a process should claim: that of its call, or the one after the highest known.

        It reads at most the newest items of the session, so it costs the same in a long one. With a journal it reads
        nothing, as the journal answers a number that is taken with the next free one.

        Args:
            partition: The PK of the session's items.
            call_id: The call that the process is recorded for.
        """
        first = 2  # of claimed numbers, which are one more than the number in the id
        if self._journal is None:
            query = Query(partition, prefix=PROCESSES, newest_first=True)
            for item in self._table.query(query, limit=_NEWEST, consistent=True).items:
                for claimed in ClaimedNumber.of_item(item):
                    if claimed.family == PROCESSES and claimed.call_id == call_id:
                        return claimed.number - 1
                    first = max(first, claimed.number + 1) if claimed.family == PROCESSES else first
        taken = self._taken_numbers.of_family(partition, PROCESSES)
        own = next((number for number, call in taken.items() if call == call_id), None)
        return (own or next(number for number in count(first) if number not in taken)) - 1

    def open(self, owner: str, partition: str, *, new: bool) -> None:
        """Register a session's taken numbers in the journal: none when it is new, else those in the table."""
        if self._journal is None:
            return
        try:
            if new:
                self._journal.register_numbers(owner, partition, {}, new=True)
            else:
                self._open(self._journal, owner, partition)
        except Unavailable:
            return  # without Valkey the write that follows goes to the table; without the table Valkey may know them

    def pending(self, owner: str, partition: str) -> list[Item]:
        """Return the items of a partition that wait in the journal.

        Raises:
            CacheUnavailable: There is no journal, or it does not answer.
        """
        if self._user_cache is None or self._journal is None:
            raise CacheUnavailable("there is no journal: AGENTMODEL_VALKEY_URL is not set")
        return list(self._user_cache.pending(owner, partition).values())

    def add_later(self, owner: str, entities: Iterable[Entity], version: int) -> None:
        """Have the journal write entities that are looked up in the table then, and left as they are if it has them.

        Raises:
            CacheUnavailable: There is no journal, or it does not take them.
        """
        from agentmodel.cache import Entry

        if self._journal is None:
            raise CacheUnavailable("there is no journal: AGENTMODEL_VALKEY_URL is not set")
        items = [self._table.item(entity) | deferred("add") for entity in entities]
        self._journal.append([Entry(owner, item, version, immutable=False) for item in items])

    def _write_to_journal(self, journal: Journal, writes: Sequence[PendingWrite[Any]]) -> None:
        try:
            answers: Sequence[Any] = journal.append(_entries(writes))
            full = None
        except JournalFull as error:
            answers, full = error.answers, error
        except CacheUnavailable as error:
            return self._write_to_table(writes, error)
        self._apply_answers(journal, writes, answers)
        if full is not None:  # entries without room go straight into the table, with the number they claimed
            self._write_to_table([write for write, answer in zip(writes, answers, strict=True) if answer is None], full)
        return None

    def _apply_answers(self, journal: Journal, writes: Sequence[PendingWrite[Any]], answers: Sequence[Any]) -> None:
        """Give each write its receipt or its next number, as the journal answered."""
        from agentmodel.cache import JournalReceipt, NumbersUnknown, NumberTaken

        unknown: dict[tuple[str, str], list[PendingWrite[Any]]] = {}
        given: Counter[tuple[str, str]] = Counter()  # calls of a family that ask again
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, JournalReceipt):
                write.receipt = Receipt(answer.level, write.entity, answer.repeated)
                self._remember_number(write)
            elif isinstance(answer, NumberTaken) and write.number is not None:
                family = write.entity.pk, write.number.family  # all of it were told the same next number
                write.renumber(answer.number + (0 if answer.already_claimed else given[family]))
                given[family] += not answer.already_claimed
            elif isinstance(answer, NumbersUnknown):
                unknown.setdefault((write.entity.user_id, write.entity.pk), []).append(write)
        for (owner, partition), without_numbers in unknown.items():
            try:
                self._open(journal, owner, partition, anyway=True)
            except CacheUnavailable as error:  # as at its memory limit: asking again would get the same answer
                _log.warning(
                    "could not register the numbers of %s in the journal; writing to the table: %s", partition, error
                )
                self._write_to_table(without_numbers, error)

    def _open(self, journal: Journal, owner: str, partition: str, *, anyway: bool = False) -> None:
        """Register a session's taken numbers in the journal, those of pending writes and those in the table.

        Args:
            journal: The journal.
            owner: The user.
            partition: The session's partition.
            anyway: Whether to go on while the table does not answer, when nobody knows which numbers it has: the
                session goes on far above them, at the seconds since 1970.
        """
        families: dict[str, dict[str, int]] = {}
        floor = ""
        pending = [] if self._user_cache is None else self._user_cache.pending(owner, partition).values()
        try:
            stored = self._load(partition)
        except TableUnavailable as error:
            if not anyway:
                raise
            stored, floor = [], keys.process_id(int(time()))
            _log.warning(
                "could not read the numbers of %s; going on above %s, which loses nothing, until DynamoDB answers: %s",
                partition, floor, error,
            )  # fmt: skip
        for item in (*pending, *stored):  # pending ones first: draining moves them into the table
            for number in ClaimedNumber.of_item(item):
                families.setdefault(number.family, {})[number.call_id] = number.number
                self._taken_numbers.remember(partition, number)
        journal.register_numbers(owner, partition, families, floor=floor)

    def _load(self, partition: str) -> list[Item]:
        return self._table.query(Query(partition), consistent=True).items

    def _write_to_table(self, writes: Iterable[PendingWrite[Any]], why: Unavailable | None) -> None:
        """Write straight into the table, because there is no journal or because of the error ``why``."""
        written: list[PendingWrite[Any]] = []
        try:
            for write in writes:
                self._write_one(write)
                written.append(write)
        except TableUnavailable as error:
            if why is None:
                raise
            if isinstance(why, JournalFull):
                raise why from error
            raise HistoryUnavailable(
                f"nothing was kept: {why}; {error}; record again once one of the two answers"
            ) from error
        finally:
            if self._user_cache is not None:
                for write in written:
                    if is_deferred(write.item):
                        self._user_cache.invalidate(write.entity.user_id, write.entity.pk)
                    else:
                        self._user_cache.put(write.entity.user_id, [write.item])
            if self._on_direct_write is not None:
                self._on_direct_write([write.item for write in written])

    def _remember_number(self, write: PendingWrite[Any]) -> None:
        if write.number is not None:
            self._taken_numbers.remember(write.entity.pk, write.number)

    def _write_one(self, write: PendingWrite[Any]) -> None:
        number = write.number
        if number is None:
            self._writer.put_newer(write.item, write.version)
            write.stored(write.entity)
        else:
            known = self._taken_numbers.of_family(write.entity.pk, number.family)
            entity, repeated = self._numbers.put_numbered(write.entity, known=known)
            write.stored(entity, repeated=repeated)
            self._remember_number(write)


def _entries(writes: Sequence[PendingWrite[Any]]) -> list[Entry]:
    """Return the journal's entries of some writes, each of which must fit DynamoDB.

    An item takes less room in DynamoDB than its JSON here, so only the few that are large as JSON are counted exactly.
    """
    from agentmodel.cache import Entry, NumberClaim, encode

    entries = []
    for write in writes:
        entity, number = write.entity, write.number
        expires_at = entity.expires_at
        try:
            data = encode(write.item, write.version)
        except ValidationError:
            checked(write.item)  # its message names the attribute whose text is not Unicode
            raise
        if len(data) > ITEM_BYTES:
            checked(write.item)
        entries.append(
            Entry(
                owner=entity.user_id,
                item=write.item,
                version=write.version,
                immutable=not isinstance(entity, UserSession | Review),
                expires_at=None if expires_at is None else int(expires_at.timestamp()),
                number_claim=None if number is None else NumberClaim(number.family, number.call_id, number.number),
                data=data,
            )
        )
    return entries
