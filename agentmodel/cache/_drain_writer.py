"""Write journal entries to the table: items that never change in slices, then those that may change.

An item that may change is written under a condition on its version, so an older entry never replaces a newer item. A
slice that the table rejects is halved until the one rejected item is found. An item whose key another one has is
written under another key, after all the others: it takes no key that one of them needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from agentmodel.cache._item_codec import Item, call_of, decode
from agentmodel.exceptions import BatchIncomplete, Rejected, TableUnavailable, Unavailable, ValidationError

__all__ = ["DrainWriter", "PendingEntry", "SharedSink", "Sink", "WriteOutcome"]

_Record: TypeAlias = tuple[str, str, str | None]
_SLICE = 50  # entries that a thread writes before it takes others


class Sink(Protocol):
    """Write items to the table."""

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Write items that never change, at most one of each call, and return those that were not written.

        Raises:
            TableUnavailable: Nothing can be written now (``BatchIncomplete``: all but its ``left`` were written).
            Rejected: One of the items can never be written (a ``ValidationError`` says the same).
        """
        ...

    def put_newer(self, item: Item, version: int) -> bool | None:
        """Write an item and return True; return False when the table has the same or a newer version.

        Return None when what was written is more than the item, so that no copy of the item may be kept.

        Raises:
            TableUnavailable: Nothing can be written now.
            Rejected: The item can never be written.
        """
        ...


@runtime_checkable
class SharedSink(Sink, Protocol):
    """Write items to a table that others write to as well: `put_many` returns the items whose keys others have.

    >>> sink = model.recorder.journal_sink()
    >>> sink.erased([{"PK": {"S": "USR001"}, "SK": {"S": "SESS1"}}])
    [False]
    """

    def put_elsewhere(self, item: Item) -> Item:
        """Write an item whose key another one has under another key, and return it as it is stored.

        Raises:
            TableUnavailable: Nothing can be written now.
            Rejected: The item can never be written.
        """
        ...

    def erased(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        """Return, for each item, whether it belongs to a history that was erased, so that it must not be written.

        Args:
            items: The items.
            before: Whether they are not written yet. Then an erased one may be missed, because this method is called
                again after the write, before it is acknowledged.

        Raises:
            TableUnavailable: The table does not answer.
        """
        ...

    def take_back(self, item: Item) -> None:
        """Delete an item that was written although its history was erased meanwhile.

        Raises:
            TableUnavailable: The table does not answer.
        """
        ...


@dataclass(slots=True)
class PendingEntry:
    """A journal entry that was delivered to this drainer and is not acknowledged yet.

    Attributes:
        shard: The shard of its stream.
        id: Its id in the stream.
        deliveries: How often it was delivered, this time included.
        fields: Its fields as name, value, name, value …, as the stream has them.
        partition: PK of its item.
        sort: SK of its item.
        expires: Epoch second in which the item expires, as text; empty when it does not.
        immutable: Whether the item is written once and never changes.
        item: The item to write; None when the entry does not decode.
        version: Version of the item.
    """

    shard: int
    id: bytes
    deliveries: int
    fields: list[bytes]
    partition: str
    sort: str
    expires: bytes
    immutable: bool
    item: Item | None
    version: int

    @classmethod
    def from_reply(cls, shard: int, reply: bytes | list[Any]) -> PendingEntry:
        """Return an entry as the scripts ``READ_ENTRIES`` and ``CLAIM_SUSPECT`` answer it."""
        if isinstance(reply, bytes):
            entry_id, deliveries, *values = reply.split(b"\0", 6)
            partition, sort, immutable, expires, data = values
            fields = [b"k", partition, b"m", sort, b"i", immutable, b"x", expires, b"d", data]
        else:
            entry_id, deliveries, fields = reply
            named = dict(zip(fields[::2], fields[1::2], strict=False))
            partition, sort, immutable, expires, data = (
                named.get(name, b"") for name in (b"k", b"m", b"i", b"x", b"d")
            )
        item, version = decode(data) or (None, 0)
        pk: Any = partition.decode(errors="replace")
        sk: Any = sort.decode(errors="replace")
        if item is not None:  # it has a checksum, these two have none
            own: tuple[Any, Any] = item.get("PK", {}).get("S"), item.get("SK", {}).get("S")
            if isinstance(own[0], str) and isinstance(own[1], str):
                pk, sk = own
            else:
                item = None
        return cls(
            shard, entry_id, int(deliveries), fields, pk, sk, expires, immutable == b"1", item, version
        )  # fmt: skip

    @property
    def record(self) -> _Record:
        """Return what the entry records: PK, SK and id of the call."""
        return self.partition, self.sort, call_of(self.item or {})


@dataclass(slots=True)
class WriteOutcome:
    """What happened to the entries of one pass; an entry in no list may have been written or not.

    Attributes:
        written: Entries that are in the table.
        stale: Entries of which the table has the same or a newer version, or whose history was erased.
        merged: Entries that are in the table together with what was stored there.
        superseded: Entries of which the same pass has a newer version.
        taken: Entries whose keys others have, as long as they are not written under another key.
        moved: Entries that are in the table under another key.
        rejected: Entries that can never be written, each with the reason.
        unwritten: Entries that were not written.
        outage: Why nothing more can be written now.
    """

    written: list[PendingEntry] = field(default_factory=list)
    stale: list[PendingEntry] = field(default_factory=list)
    merged: list[PendingEntry] = field(default_factory=list)
    superseded: list[PendingEntry] = field(default_factory=list)
    taken: list[PendingEntry] = field(default_factory=list)
    moved: list[PendingEntry] = field(default_factory=list)
    rejected: list[tuple[PendingEntry, str]] = field(default_factory=list)
    unwritten: list[PendingEntry] = field(default_factory=list)
    outage: Unavailable | None = None

    def join(self, other: WriteOutcome) -> None:
        """Add the outcome of other entries."""
        self.written += other.written
        self.stale += other.stale
        self.merged += other.merged
        self.taken += other.taken
        self.rejected += other.rejected
        self.unwritten += other.unwritten
        self.outage = self.outage or other.outage

    def keep_unsafe(self) -> None:
        """Keep a superseded entry in the journal unless the table has the entry that supersedes it."""
        safe = {entry.record for entries in (self.written, self.moved, self.stale, self.merged) for entry in entries}
        self.unwritten += [entry for entry in self.superseded if entry.record not in safe]
        self.superseded = [entry for entry in self.superseded if entry.record in safe]

    def fail(self, error: Unavailable) -> None:
        """Count every entry as unwritten, except the rejected ones."""
        for entries in (self.written, self.stale, self.merged, self.superseded, self.moved):
            self.unwritten += entries
            entries.clear()
        self.outage = error


class DrainWriter:
    """Write the entries of a pass to the table.

    Args:
        sink: The table.
        pool: The threads that write; None to write in the calling thread.
    """

    def __init__(self, sink: Sink, pool: ThreadPoolExecutor | None) -> None:
        self._sink = sink
        self._pool = pool

    def with_pool(self, pool: ThreadPoolExecutor | None) -> DrainWriter:
        """Return a writer into the same table that uses other threads."""
        return DrainWriter(self._sink, pool)

    def put(self, entries: Sequence[PendingEntry]) -> WriteOutcome:
        """Write entries and return what happened to each; an outage is returned too, not raised."""
        outcome = WriteOutcome()
        immutable, versioned = _newest_entries(self._drop_erased(entries, outcome, before=True), outcome)
        self._in_slices(self._put_slice, immutable, _SLICE, outcome)
        self._put_elsewhere(outcome)
        if outcome.outage is None:
            self._in_slices(self._put_versioned, versioned, _SLICE, outcome)
        else:
            outcome.unwritten += versioned
        outcome.keep_unsafe()
        outcome.written = self._drop_erased(outcome.written, outcome)
        outcome.moved = self._drop_erased(outcome.moved, outcome)
        outcome.merged = self._drop_erased(outcome.merged, outcome)
        return outcome

    def _drop_erased(
        self, entries: Sequence[PendingEntry], outcome: WriteOutcome, *, before: bool = False
    ) -> list[PendingEntry]:
        """Count the entries whose history was erased as stale, after taking back what was written; return the others.

        An erasure may begin while a pass is written, so the entries are looked at again after it.
        """
        sink, readable = self._sink, [entry for entry in entries if entry.item is not None]
        if not readable or not isinstance(sink, SharedSink):
            return list(entries)
        try:
            erased = sink.erased([entry.item or {} for entry in readable], before=before)
            gone = {id(entry): entry for entry, is_erased in zip(readable, erased, strict=True) if is_erased}
            for entry in () if before else gone.values():
                sink.take_back(entry.item or {})
        except TableUnavailable as error:
            outcome.outage = outcome.outage or error
            outcome.unwritten += entries
            return []
        outcome.stale += gone.values()
        return [entry for entry in entries if id(entry) not in gone]

    def _in_slices(
        self,
        put: Callable[[Sequence[PendingEntry], WriteOutcome], None],
        entries: Sequence[PendingEntry],
        size: int,
        outcome: WriteOutcome,
    ) -> None:
        """Write entries in slices, each in one thread."""
        slices = [(entries[at : at + size], WriteOutcome()) for at in range(0, len(entries), size)]
        run = self._pool.map if self._pool is not None and len(slices) > 1 else map
        for (_, part), _ in zip(slices, run(lambda arguments: put(*arguments), slices), strict=True):
            outcome.join(part)

    def _put_elsewhere(self, outcome: WriteOutcome) -> None:
        """Write the entries whose keys others have under other keys."""
        sink, (taken, outcome.taken) = self._sink, (outcome.taken, [])
        for entry in taken:
            if outcome.outage is not None or not isinstance(sink, SharedSink):
                outcome.unwritten.append(entry)
                continue
            try:
                entry.item = sink.put_elsewhere(entry.item or {})
            except TableUnavailable as error:
                outcome.outage = error
                outcome.unwritten.append(entry)
            except (Rejected, ValidationError) as error:
                outcome.rejected.append((entry, str(error)))
            else:
                outcome.moved.append(entry)

    def _put_slice(self, entries: Sequence[PendingEntry], outcome: WriteOutcome) -> None:
        """Write entries that never change; halve a rejected slice until the one rejected item is found."""
        if not entries:
            return
        if outcome.outage is not None:
            outcome.unwritten += entries
            return
        others = outcome.taken if isinstance(self._sink, SharedSink) else outcome.unwritten
        try:
            left = self._sink.put_many([entry.item for entry in entries if entry.item is not None])
        except BatchIncomplete as error:
            left, others = error.left, outcome.unwritten
        except TableUnavailable as error:
            outcome.outage = error
            outcome.unwritten += entries
            return
        except (Rejected, ValidationError) as error:
            if len(entries) == 1:
                outcome.rejected.append((entries[0], str(error)))
                return
            half = len(entries) // 2
            self._put_slice(entries[:half], outcome)
            self._put_slice(entries[half:], outcome)
            return
        unprocessed = {(item["PK"]["S"], item["SK"]["S"], call_of(item)) for item in left}
        for entry in entries:
            (others if entry.record in unprocessed else outcome.written).append(entry)

    def _put_versioned(self, entries: Sequence[PendingEntry], outcome: WriteOutcome) -> None:
        """Write entries that may change, each under the condition that it is newer, until the table fails."""
        for at, entry in enumerate(entries):
            try:
                written = self._sink.put_newer(entry.item or {}, entry.version)
            except TableUnavailable as error:
                outcome.outage = error
                outcome.unwritten += entries[at:]
                return
            except (Rejected, ValidationError) as error:
                outcome.rejected.append((entry, str(error)))
            else:
                if written is None:
                    outcome.merged.append(entry)
                else:
                    (outcome.written if written else outcome.stale).append(entry)


def _newest_entries(
    entries: Iterable[PendingEntry], outcome: WriteOutcome
) -> tuple[list[PendingEntry], list[PendingEntry]]:
    """Return the newest entry of each item, immutable ones and versioned ones; the older ones are superseded."""
    newest: dict[_Record, PendingEntry] = {}
    immutable: dict[_Record, bool] = {}
    for entry in entries:
        if entry.item is None:
            outcome.rejected.append((entry, "the entry does not decode"))
            continue
        record = entry.record
        immutable[record] = immutable.get(record, True) and entry.immutable
        other = newest.get(record)
        if other is None or other.version < entry.version:
            newest[record] = entry
        if other is not None:
            outcome.superseded.append(other if newest[record] is entry else entry)
    return (
        [entry for record, entry in newest.items() if immutable[record]],
        [entry for record, entry in newest.items() if not immutable[record]],
    )
