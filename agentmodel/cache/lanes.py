"""How entries of the journal get into the table: those that never change in batches, the others one by one.

What may change is written under a condition on its version, so an older entry never replaces a newer item. What never
changes is written without one; its batches are halved until the one item that is refused is found, and a key that may
be another's is taken item by item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from agentmodel.cache.codec import Item, decode
from agentmodel.exceptions import BatchIncomplete, Rejected, TableUnavailable, Unavailable, ValidationError

__all__ = ["GuardedSink", "Lanes", "Outcome", "Sink", "Waiting"]

_BATCHES = 50  # entries one thread writes before it takes others: two batches
_PUTS = 20  # likewise, where each is a call of its own


class Sink(Protocol):
    """Where entries go: the table."""

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Writes items that never change, at most one of a key, and gives back those that were left unprocessed.

        Raises:
            TableUnavailable: Nothing can be written now (``BatchIncomplete``: all but its ``left``).
            Rejected: One of them can never be written (a ``ValidationError`` says the same).
        """
        ...

    def put_newer(self, item: Item, version: int) -> bool | None:
        """Writes an item unless the table has the same or a newer version; False says that it has.

        Raises:
            TableUnavailable: Nothing can be written now.
            Rejected: It can never be written.
        """
        ...


@runtime_checkable
class GuardedSink(Sink, Protocol):
    """A table to which somebody may write around the journal; the drain then loses nothing of that."""

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        """Which of some items that never change may share their key with another one.

        Asked ``before`` a batch, where some may be missed, and after it, before it is acknowledged.

        Raises:
            TableUnavailable: It cannot be known now.
        """
        ...

    def put_claimed(self, item: Item) -> bool:
        """Writes an item whose key may be another's, and that one elsewhere before; True says that it was so.

        Raises:
            TableUnavailable: Nothing can be written now.
            Rejected: It can never be written.
        """
        ...

    def rest(self) -> None:
        """Told when nothing is being written any more; `contested` is asked before anything is again."""
        ...


@dataclass(slots=True)
class Waiting:
    """One entry that was taken and waits for the table.

    Attributes:
        shard: Where it was taken.
        id: Its id in the shard's stream.
        deliveries: How often it was taken, this time included.
        fields: Name, value, name, value …, as the stream has them.
        partition: The item's PK.
        sort: Its SK.
        expires: Epoch second in which the item ends, or empty.
        immutable: The item is written once and never changes.
        item: What is to be written; None when the entry does not decode.
        version: Of the item.
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
    def of(cls, shard: int, taken: bytes | list[Any]) -> Waiting:
        """An entry as the scripts ``TAKE`` and ``ADOPT`` answer it."""
        if isinstance(taken, bytes):
            name, deliveries, *values = taken.split(b"\0", 6)
            partition, sort, immutable, expires, data = values
            fields = [b"k", partition, b"m", sort, b"i", immutable, b"x", expires, b"d", data]
        else:
            name, deliveries, fields = taken
            named = dict(zip(fields[::2], fields[1::2], strict=False))
            partition, sort, immutable, expires, data = (named.get(one, b"") for one in (b"k", b"m", b"i", b"x", b"d"))
        item, version = decode(data) or (None, 0)
        return cls(
            shard, name, int(deliveries), fields, partition.decode(), sort.decode(), expires, immutable == b"1", item,
            version
        )  # fmt: skip

    @property
    def key(self) -> tuple[str, str]:
        """The key of its item."""
        return self.partition, self.sort


@dataclass(slots=True)
class Outcome:
    """What became of the entries of one pass; those in no list may have been written or not.

    Attributes:
        written: They are in the table.
        stale: The table has the same or a newer version.
        overtaken: A newer entry of the same item was taken with them.
        moved: They are in the table, and what had their key has another one now.
        dead: They can never be written, with the reason.
        back: They were not written.
        outage: Why nothing more can be written now.
    """

    written: list[Waiting] = field(default_factory=list)
    stale: list[Waiting] = field(default_factory=list)
    overtaken: list[Waiting] = field(default_factory=list)
    moved: list[Waiting] = field(default_factory=list)
    dead: list[tuple[Waiting, str]] = field(default_factory=list)
    back: list[Waiting] = field(default_factory=list)
    outage: Unavailable | None = None

    def join(self, other: Outcome) -> None:
        """Adds what became of other entries."""
        self.written += other.written
        self.stale += other.stale
        self.moved += other.moved
        self.dead += other.dead
        self.back += other.back
        self.outage = self.outage or other.outage

    def keep_unsafe(self) -> None:
        """Hands back what was overtaken by an entry that is not in the table: that must be there before it goes."""
        safe = {one.key for some in (self.written, self.moved, self.stale) for one in some}
        self.back += [one for one in self.overtaken if one.key not in safe]
        self.overtaken = [one for one in self.overtaken if one.key in safe]

    def refuse(self, error: Unavailable) -> None:
        """Hands back all that is not dead."""
        for some in (self.written, self.stale, self.overtaken, self.moved):
            self.back += some
            some.clear()
        self.outage = error


class Lanes:
    """The ways into the table.

    Args:
        sink: The table.
        pool: Threads that write.
    """

    def __init__(self, sink: Sink, pool: ThreadPoolExecutor | None) -> None:
        self._sink = sink
        self._pool = pool

    def put(self, taken: Sequence[Waiting]) -> Outcome:
        """Writes entries; an outage is part of what became of them."""
        outcome = Outcome()
        bulk, versioned = _lanes(taken, outcome)
        self._put_fixed(bulk, outcome)
        if outcome.outage is None:
            self._in_slices(self._put_newer, versioned, _PUTS, outcome)
        else:
            outcome.back += versioned
        outcome.keep_unsafe()
        return outcome

    def rest(self) -> None:
        """Says that nothing is being written any more, to a table that asks for it."""
        if isinstance(self._sink, GuardedSink):
            self._sink.rest()

    def _put_fixed(self, entries: Sequence[Waiting], outcome: Outcome) -> None:
        """Writes entries that never change: in batches, but those whose keys may be another's one by one."""
        sink, batch = self._sink, Outcome()
        if not isinstance(sink, GuardedSink):
            self._in_slices(self._put_bulk, entries, _BATCHES, outcome)
            return
        free = self._put_doubtful(sink, entries, outcome, before=True)
        self._in_slices(self._put_bulk, free, _BATCHES, batch)
        # somebody may have written around the journal since it was looked for, and the batches have replaced that
        batch.written = self._put_doubtful(sink, batch.written, outcome)
        outcome.join(batch)

    def _in_slices(
        self, put: Callable[[Sequence[Waiting], Outcome], None], entries: Sequence[Waiting], size: int, outcome: Outcome
    ) -> None:
        """Writes entries some at a time, each slice by one thread."""
        slices = [(entries[at : at + size], Outcome()) for at in range(0, len(entries), size)]
        run = self._pool.map if self._pool is not None and len(slices) > 1 else map
        for (_, part), _ in zip(slices, run(lambda one: put(*one), slices), strict=True):
            outcome.join(part)

    def _put_doubtful(
        self, sink: GuardedSink, entries: Sequence[Waiting], outcome: Outcome, *, before: bool = False
    ) -> list[Waiting]:
        """Writes those whose keys may be another's, one by one, and gives back the others."""
        if not entries:
            return []
        try:
            contested = sink.contested([one.item or {} for one in entries], before=before)
        except TableUnavailable as error:
            outcome.outage = error
            outcome.back += entries
            return []
        free = []
        for one, doubtful in zip(entries, contested, strict=True):
            if doubtful:
                self._put_claimed(sink, one, outcome)
            else:
                free.append(one)
        return free

    def _put_claimed(self, sink: GuardedSink, entry: Waiting, outcome: Outcome) -> None:
        """Writes an entry whose key may be another's."""
        if outcome.outage is not None:
            outcome.back.append(entry)
            return
        try:
            moved = sink.put_claimed(entry.item or {})
        except TableUnavailable as error:
            outcome.outage = error
            outcome.back.append(entry)
        except (Rejected, ValidationError) as error:
            outcome.dead.append((entry, str(error)))
        else:
            (outcome.moved if moved else outcome.written).append(entry)

    def _put_bulk(self, entries: Sequence[Waiting], outcome: Outcome) -> None:
        """Writes entries that never change; halves a batch that is rejected until the one item is found."""
        if not entries:
            return
        if outcome.outage is not None:
            outcome.back += entries
            return
        try:
            left = self._sink.put_many([one.item for one in entries if one.item is not None])
        except BatchIncomplete as error:
            left = error.left
        except TableUnavailable as error:
            outcome.outage = error
            outcome.back += entries
            return
        except (Rejected, ValidationError) as error:
            if len(entries) == 1:
                outcome.dead.append((entries[0], str(error)))
                return
            half = len(entries) // 2
            self._put_bulk(entries[:half], outcome)
            self._put_bulk(entries[half:], outcome)
            return
        unprocessed = {(item["PK"]["S"], item["SK"]["S"]) for item in left}
        for one in entries:
            (outcome.back if one.key in unprocessed else outcome.written).append(one)

    def _put_newer(self, entries: Sequence[Waiting], outcome: Outcome) -> None:
        """Writes entries that may change, each under the condition that it is newer, until the table fails."""
        for at, one in enumerate(entries):
            try:
                found = self._sink.put_newer(one.item or {}, one.version)
            except TableUnavailable as error:
                outcome.outage = error
                outcome.back += entries[at:]
                return
            except (Rejected, ValidationError) as error:
                outcome.dead.append((one, str(error)))
            else:
                (outcome.stale if found is False else outcome.written).append(one)


def _lanes(taken: Iterable[Waiting], outcome: Outcome) -> tuple[list[Waiting], list[Waiting]]:
    """The newest entry of each item, for batches and for conditional puts; older ones are overtaken."""
    newest: dict[tuple[str, str], Waiting] = {}
    fixed: dict[tuple[str, str], bool] = {}
    for one in taken:
        if one.item is None:
            outcome.dead.append((one, "the entry does not decode"))
            continue
        key = one.key
        fixed[key] = fixed.get(key, True) and one.immutable
        other = newest.get(key)
        if other is None or other.version < one.version:
            newest[key] = one
        if other is not None:
            outcome.overtaken.append(other if newest[key] is one else one)
    bulk = [one for key, one in newest.items() if fixed[key]]
    versioned = [one for key, one in newest.items() if not fixed[key]]
    return bulk, versioned
