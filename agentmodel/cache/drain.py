"""Draining: from the journal into the table, each effect once, whatever dies on the way.

An entry is taken, written, and only then acknowledged, in one step with its way out of overlay and journal. Who dies in
between leaves it for the next drainer; writing it again changes nothing, because what may change is written under a
condition on its version and the rest never differs. An entry that was taken and not acknowledged several times is
suspected of killing its drainers: it is taken alone, and in the end put to the dead letters with the reason.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar, runtime_checkable

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, decode, version_text
from agentmodel.cache.deadletters import DeadLetter, DeadLetters
from agentmodel.cache.keyspace import GROUP, Keyspace
from agentmodel.cache.scripts import ADOPT, BURY, RELEASE, RETIRE, SETTLE, TAKE
from agentmodel.exceptions import (
    BatchIncomplete,
    CacheUnavailable,
    Rejected,
    TableUnavailable,
    Unavailable,
    ValidationError,
)

__all__ = ["Drained", "Drainer", "GuardedSink", "Sink"]

_SUSPECT = 2  # taken twice and not acknowledged: from now on alone
_SLICE = 50  # entries one thread writes at once: two batches
_AHEAD = 16  # passes of which the next one is taken while one is written; then abandoned entries are looked for again
_NEVER = 10**12  # milliseconds that no entry is idle
_CHUNK = 200  # entries of one script call
_REASON = 500  # characters of a dead letter's reason
_T = TypeVar("_T")
_log = logging.getLogger("agentmodel.cache")


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


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did.

    Attributes:
        written: Entries that are in the table now.
        stale: Entries that were overtaken by a newer version of their item.
        dead: Entries put to the dead letters.
        left: Entries that are still in the journal.
    """

    written: int = 0
    stale: int = 0
    dead: int = 0
    left: int = 0

    def plus(self, written: int, stale: int, dead: int) -> Drained:
        """The sum."""
        return Drained(self.written + written, self.stale + stale, self.dead + dead, self.left)


@dataclass(slots=True)
class _Entry:
    """One entry that was taken."""

    shard: int
    id: bytes
    deliveries: int
    fields: list[bytes]
    partition: str = ""
    sort: str = ""
    version: int = 0
    expires: bytes = b""
    immutable: bool = False
    item: Item | None = None

    def __post_init__(self) -> None:
        named = dict(zip(self.fields[::2], self.fields[1::2], strict=False))
        self.partition, self.sort = named.get(b"k", b"").decode(), named.get(b"m", b"").decode()
        self.expires, self.immutable = named.get(b"x", b""), named.get(b"i") == b"1"
        found = decode(named.get(b"d", b""))
        if found is not None:
            self.item, self.version = found


@dataclass(slots=True)
class _Outcome:
    """What became of the entries of one pass; those in no list may have been written or not."""

    written: list[_Entry] = field(default_factory=list)
    stale: list[_Entry] = field(default_factory=list)
    overtaken: list[_Entry] = field(default_factory=list)
    moved: list[_Entry] = field(default_factory=list)
    dead: list[tuple[_Entry, str]] = field(default_factory=list)
    back: list[_Entry] = field(default_factory=list)
    outage: TableUnavailable | None = None

    def join(self, other: _Outcome) -> None:
        """Adds what became of other entries."""
        self.written += other.written
        self.moved += other.moved
        self.dead += other.dead
        self.back += other.back
        self.outage = self.outage or other.outage


class Drainer:
    """Drains every shard. One at a time in a thread; any number of processes side by side.

    Args:
        valkey: The connection.
        sink: Where entries go.
        shards: From the settings by default, like the prefix.
        prefix: First part of every key.
        name: Of the consumer; one drainer, one name.
        batch: Entries of one pass.
        idle: Seconds after which another drainer's unacknowledged entries are adopted; longer than its two slowest
            passes.
        deliveries: How often an entry is taken before it is put to the dead letters.
        workers: Threads that write.
        observer: Called after each pass with the items that it wrote, and with those of which the table has the same or
            a newer version, before they are acknowledged. When it raises `Unavailable` they stay in the journal, to be
            written and shown again.
    """

    def __init__(
        self,
        valkey: Valkey,
        sink: Sink,
        *,
        shards: int | None = None,
        prefix: str | None = None,
        name: str | None = None,
        batch: int = 500,
        idle: float = 60.0,
        deliveries: int = 5,
        workers: int = 4,
        observer: Callable[[Sequence[Item], Sequence[Item]], None] | None = None,
    ) -> None:
        settings = valkey.settings
        self._valkey = valkey
        self._sink = sink
        self._observer = observer
        self._keys = Keyspace(prefix or settings.valkey_prefix, shards or settings.shards)
        self._name = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._batch = batch
        self._idle_ms = int(idle * 1000)
        self._deliveries = deliveries
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="agentmodel-drain") if workers > 1 else None
        self._turn = 0
        self._letters = DeadLetters(valkey, self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and takes the consumer's name out of the groups."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        names = [RETIRE.on([self._keys.journal(shard)], GROUP, self._name) for shard in range(self._keys.shards)]
        try:
            self._valkey.attempt(names)
        except CacheUnavailable as error:
            _log.debug("drain.not_retired: %s", error)  # the next drainer that closes takes the name out after a day

    def drain(self, *, until_empty: bool = True, progress: Callable[[Drained], None] | None = None) -> Drained:
        """Writes what is in the journal.

        Args:
            until_empty: Go on until nothing can be taken; otherwise one pass.
            progress: Called after every pass with the sum so far.

        Returns:
            The sum. ``left`` counts entries another drainer holds, or that the table left unprocessed.

        Raises:
            TableUnavailable: The table does not take writes; everything that is not in it stays in the journal.
            CacheUnavailable: Valkey does not answer; what was written and not acknowledged is written again later.
        """
        total = Drained()
        while True:
            before = total
            total = self._passes(total, progress, most=_AHEAD if until_empty else 1)
            if not until_empty or _done(total) == _done(before):
                return total

    def _passes(
        self,
        total: Drained,
        progress: Callable[[Drained], None] | None,
        *,
        most: int,
        stop: threading.Event | None = None,
    ) -> Drained:
        """Some passes; while one is written the next is taken, of what nobody had in hand yet."""
        ahead: Future[tuple[list[_Entry], list[int], int]] | None = None
        try:
            for number in range(1, most + 1):
                taken, suspects, depth = self._take() if ahead is None else ahead.result()
                ahead = None
                last = number == most or len(taken) >= depth or (stop is not None and stop.is_set())
                if self._pool is not None and not last:
                    ahead = self._pool.submit(self._take, fresh=True)
                before = _done(total)
                total = self._pass(taken, total)
                for shard in suspects:
                    total = self._alone(shard, total)
                left = max(0, depth - (_done(total) - before))
                total = Drained(total.written, total.stale, total.dead, left)
                if progress is not None:
                    progress(total)
                if ahead is None:
                    break
        finally:
            if ahead is not None:
                self._hand_back(ahead)
        return total

    def _hand_back(self, ahead: Future[tuple[list[_Entry], list[int], int]]) -> None:
        """Releases what was taken ahead of a pass that failed."""
        try:
            self._release(ahead.result()[0])
        except CacheUnavailable as error:
            _log.debug("drain.not_handed_back: %s", error)  # they are adopted once they have been idle

    def run(
        self, stop: threading.Event, *, progress: Callable[[Drained], None] | None = None, every: float = 0.05
    ) -> Drained:
        """Drains until ``stop`` is set: the pass under way is finished, the rest stays in the journal.

        Outages are logged and waited out. Once a minute a line says what was done.

        Args:
            stop: Set it to end.
            progress: Called with the sum after every pass that did something.
            every: Seconds between two looks at an empty journal.
        """
        total, told, pause = Drained(), time.monotonic(), every

        def count(sum_of_passes: Drained) -> None:
            nonlocal total
            did = _done(sum_of_passes) + _done(base) != _done(total)
            total = base.plus(sum_of_passes.written, sum_of_passes.stale, sum_of_passes.dead)
            total = Drained(total.written, total.stale, total.dead, sum_of_passes.left)
            if did and progress is not None:
                progress(total)

        while not stop.is_set():
            base = total
            try:
                self._passes(Drained(), count, most=_AHEAD, stop=stop)
            except Unavailable as error:
                pause = min(max(pause * 2, 0.1), 2.0)
                _log.warning("drain.outage: %s; next try in %.1f s", error, pause)
                stop.wait(pause)
                continue
            if time.monotonic() - told >= 60:
                _log.info("drain.minute: %d written, %d stale, %d dead, %d left", *_numbers(total))
                told = time.monotonic()
            pause = every
            if _done(total) == _done(base):
                stop.wait(every)
        return total

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        """The oldest dead letters of each shard."""
        return self._letters.list(limit)

    def retry(self, letter: str) -> bool:
        """Puts a dead letter back into the journal; False when it is not there."""
        return self._letters.retry(letter)

    def drop(self, letter: str) -> bool:
        """Gives a dead letter up, so that its writer no longer reads it back; False when it is not there."""
        return self._letters.drop(letter)

    def _take(self, *, fresh: bool = False) -> tuple[list[_Entry], list[int], int]:
        """Entries of one pass, shards with suspects, and the depth of all shards; two round trips.

        Args:
            fresh: Only what was never taken: this drainer has entries in hand, and must not adopt its own.
        """
        shards = range(self._keys.shards)
        depths = self._valkey.call([("XLEN", self._keys.journal(shard)) for shard in shards])
        filled = [shard for shard in shards if depths[shard]]
        if not filled:
            return [], [], 0
        self._turn = (self._turn + 1) % len(filled)  # a different shard comes first each time
        filled = filled[self._turn :] + filled[: self._turn]
        share = max(8, self._batch // len(filled))
        idle = _NEVER if fresh else self._idle_ms
        replies = self._valkey.call(
            [TAKE.on([self._keys.journal(shard)], GROUP, self._name, share, idle, _SUSPECT) for shard in filled]
        )
        taken, suspects = [], []
        for shard, (doubtful, *entries) in zip(filled, replies, strict=True):
            taken += [_Entry(shard, *entry) for entry in entries]
            if doubtful:
                suspects.append(shard)
        return taken, suspects, sum(depths)

    def _alone(self, shard: int, total: Drained) -> Drained:
        """Takes a shard's suspects one by one."""
        while True:
            reply = self._valkey.one(ADOPT.on([self._keys.journal(shard)], GROUP, self._name, self._idle_ms, _SUSPECT))
            if not reply:
                return total
            entry = _Entry(shard, *reply)
            if entry.deliveries > self._deliveries:
                reason = f"taken {entry.deliveries - 1} times and never acknowledged: it seems to kill its drainer"
                total = total.plus(0, 0, self._bury([(entry, reason)]))
            else:
                before, total = total, self._pass([entry], total)
                if total == before:  # the table left it unprocessed: it is next to be taken, but not in this pass
                    return total

    def _pass(self, taken: Sequence[_Entry], total: Drained) -> Drained:
        """Writes entries and acknowledges what is written."""
        if not taken:
            return total
        outcome = _Outcome()
        bulk, versioned = _lanes(taken, outcome)
        self._put_fixed(bulk, outcome)
        if outcome.outage is None:
            self._put_versioned(versioned, outcome)
        else:
            outcome.back += versioned
        dead = self._bury(outcome.dead)
        # what overtook an entry must be in the table before the entry goes
        safe = {(one.partition, one.sort) for one in (*outcome.written, *outcome.moved, *outcome.stale)}
        overtaken = [one for one in outcome.overtaken if (one.partition, one.sort) in safe]
        outcome.back += [one for one in outcome.overtaken if (one.partition, one.sort) not in safe]
        self._show(outcome)
        self._settle([*outcome.written, *overtaken], [*outcome.stale, *outcome.moved])
        self._renumbered(outcome.moved)
        self._release(outcome.back)
        if outcome.outage is not None:
            raise outcome.outage
        return total.plus(len(outcome.written) + len(outcome.moved), len(outcome.stale) + len(overtaken), dead)

    def _put_fixed(self, entries: Sequence[_Entry], outcome: _Outcome) -> None:
        """Writes entries that never change: in batches, but those whose keys may be another's one by one."""
        sink, batch = self._sink, _Outcome()
        if not isinstance(sink, GuardedSink):
            self._put_slices(entries, outcome)
            return
        self._put_slices(self._put_doubtful(sink, entries, outcome, before=True), batch)
        # somebody may have written around the journal since it was looked for, and the batches have replaced that
        batch.written = self._put_doubtful(sink, batch.written, outcome)
        outcome.join(batch)

    def _show(self, outcome: _Outcome) -> None:
        """Shows the observer what was written, and what the table had already."""
        if self._observer is None or not (outcome.written or outcome.stale):
            return
        written, stale = ([one.item for one in some if one.item] for some in (outcome.written, outcome.stale))
        try:
            self._observer(written, stale)
        except Unavailable:
            self._release([*outcome.written, *outcome.stale, *outcome.moved, *outcome.overtaken, *outcome.back])
            raise

    def _put_slices(self, entries: Sequence[_Entry], outcome: _Outcome) -> None:
        """Writes entries in batches, a slice to each thread."""
        if self._pool is None or len(entries) <= _SLICE:
            self._put_bulk(entries, outcome)
            return
        slices = [(entries[at : at + _SLICE], _Outcome()) for at in range(0, len(entries), _SLICE)]
        for (_, part), _ in zip(slices, self._pool.map(lambda one: self._put_bulk(*one), slices), strict=True):
            outcome.join(part)

    def _put_doubtful(
        self, sink: GuardedSink, entries: Sequence[_Entry], outcome: _Outcome, *, before: bool = False
    ) -> list[_Entry]:
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

    def _put_claimed(self, sink: GuardedSink, entry: _Entry, outcome: _Outcome) -> None:
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

    def _put_bulk(self, entries: Sequence[_Entry], outcome: _Outcome) -> None:
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
            (outcome.back if (one.partition, one.sort) in unprocessed else outcome.written).append(one)

    def _put_versioned(self, entries: Sequence[_Entry], outcome: _Outcome) -> None:
        """Writes entries that may change, each under the condition that it is newer."""
        run = self._pool.map if self._pool is not None and len(entries) > 1 else map
        for one, found in zip(entries, run(self._put_newer, entries), strict=True):
            if isinstance(found, TableUnavailable):
                outcome.outage = found
                outcome.back.append(one)
            elif isinstance(found, Exception):
                outcome.dead.append((one, str(found)))
            else:
                (outcome.written if found else outcome.stale).append(one)

    def _put_newer(self, entry: _Entry) -> bool | Exception:
        try:
            return self._sink.put_newer(entry.item or {}, entry.version) is not False
        except (TableUnavailable, Rejected, ValidationError) as error:
            return error

    def _settle(self, written: Iterable[_Entry], stale: Iterable[_Entry]) -> None:
        calls = []
        marked = [(one, 0) for one in written] + [(one, 1) for one in stale]
        for shard, some in _by_shard(marked, lambda one: one[0].shard):
            keys = [self._keys.journal(shard)]
            args: list[str | bytes | int] = [GROUP]
            for one, is_stale in some:
                keys += [self._keys.pending(shard, one.partition), self._keys.copy(shard, one.partition)]
                args += [one.id, one.sort, version_text(one.version), one.expires, is_stale]
            calls.append(SETTLE.on(keys, *args))
        if calls:
            self._valkey.call(calls)

    def _renumbered(self, moved: Sequence[_Entry]) -> None:
        """Calls of these entries' partitions have other numbers than Valkey thinks: it reads the table again."""
        for one in moved:
            _log.warning("drain.renumbered: what had %s %s has the next free number", one.partition, one.sort)
        if moved:
            self._valkey.forget({self._keys.numbers(one.shard, one.partition) for one in moved})

    def _bury(self, dead: Iterable[tuple[_Entry, str]]) -> int:
        calls = []
        for one, reason in dead:
            _log.error("drain.dead: shard %d entry %s: %s", one.shard, one.id.decode(), reason)
            keys = [self._keys.journal(one.shard), self._keys.dead(one.shard)]
            calls.append(BURY.on(keys, GROUP, one.id, reason[:_REASON], *one.fields))
        return sum(self._valkey.call(calls)) if calls else 0

    def _release(self, entries: Iterable[_Entry]) -> None:
        """Hands entries back: to be taken again at once, and not counted as a delivery that killed."""
        calls = []
        for shard, some in _by_shard(entries, lambda one: one.shard):
            pairs = [part for one in some for part in (one.id, one.deliveries - 1)]
            calls.append(RELEASE.on([self._keys.journal(shard)], GROUP, self._name, *pairs))
        if calls:
            self._valkey.call(calls)


def _lanes(taken: Iterable[_Entry], outcome: _Outcome) -> tuple[list[_Entry], list[_Entry]]:
    """The newest entry of each item, for batches and for conditional puts; older ones are overtaken."""
    newest: dict[tuple[str, str], _Entry] = {}
    fixed: dict[tuple[str, str], bool] = {}
    for one in taken:
        if one.item is None:
            outcome.dead.append((one, "the entry does not decode"))
            continue
        key = (one.partition, one.sort)
        fixed[key] = fixed.get(key, True) and one.immutable
        other = newest.get(key)
        if other is None or other.version < one.version:
            newest[key] = one
        if other is not None:
            outcome.overtaken.append(other if newest[key] is one else one)
    bulk = [one for key, one in newest.items() if fixed[key]]
    versioned = [one for key, one in newest.items() if not fixed[key]]
    return bulk, versioned


def _by_shard(some: Iterable[_T], shard: Callable[[_T], int]) -> Iterable[tuple[int, list[_T]]]:
    """Some things of each shard, a script call's worth at a time."""
    groups: dict[int, list[_T]] = {}
    for one in some:
        groups.setdefault(shard(one), []).append(one)
    for number, group in groups.items():
        for start in range(0, len(group), _CHUNK):
            yield number, group[start : start + _CHUNK]


def _done(total: Drained) -> int:
    return total.written + total.stale + total.dead


def _numbers(total: Drained) -> tuple[int, int, int, int]:
    return total.written, total.stale, total.dead, total.left
