"""Drain the journal into the table; each entry takes effect once, whatever fails in between.

An entry is read from its stream, written to the table, and only then acknowledged. Acknowledging also deletes it from
journal and overlay, in one step. An entry of a drainer that dies in between is claimed by the next one. Writing it
again changes nothing: an item that may change is written under a condition on its version, and the other items never
differ. An entry that was delivered several times and never acknowledged may have killed its drainers. It is processed
alone, and in the end moved to the dead letters with that reason.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from typing import Self

from agentmodel._log import logger
from agentmodel._runtime.process import renew_in_child
from agentmodel.cache._consumer_group import ConsumerGroup, EntriesRead
from agentmodel.cache._dead_letters import DeadLetter, DeadLetters
from agentmodel.cache._drain_writer import DrainWriter, PendingEntry, SharedSink, Sink, WriteOutcome
from agentmodel.cache._item_codec import Item
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable, Unavailable

__all__ = ["DeadLetter", "Drained", "Drainer", "SharedSink"]

_PIPELINED = 16  # passes that overlap, the next being read while one is written; then idle entries are claimed again
_REPORT_EVERY = 60.0  # seconds between two log lines about what was done
_log = logger("agentmodel.cache")


@dataclass(frozen=True, slots=True)
class Drained:
    """Count what a drain did.

    Attributes:
        written: Entries that are in the table now.
        stale: Entries of which the table or the same pass has a newer version.
        dead: Entries that were moved to the dead letters.
        left: Entries that are still in the journal.

    >>> Drained(written=2, left=1).plus(Drained(written=3))
    Drained(written=5, stale=0, dead=0, left=1)
    """

    written: int = 0
    stale: int = 0
    dead: int = 0
    left: int = 0

    def plus(self, other: Drained) -> Drained:
        """Return the sum of the two, with this one's ``left``."""
        return Drained(self.written + other.written, self.stale + other.stale, self.dead + other.dead, self.left)

    @property
    def done(self) -> int:
        """Return how many entries are no longer in the journal.

        >>> Drained(written=2, stale=1, left=3).done
        3
        """
        return self.written + self.stale + self.dead


class _PassTotals:
    """Sum up passes, of which another thread may still acknowledge the last one."""

    def __init__(self, total: Drained, progress: Callable[[Drained], None] | None) -> None:
        self.total = total
        self._progress = progress
        self._earlier = [total.done] * 2  # entries done after the two passes before
        self._unfinished: tuple[Future[Drained], int] | None = None

    def add_later(self, acknowledged: Future[Drained], depth: int) -> None:
        """Add a pass once it is acknowledged."""
        self._unfinished = acknowledged, depth

    def wait(self) -> None:
        """Wait until the last pass is acknowledged, and add it."""
        if self._unfinished is not None:
            (acknowledged, depth), self._unfinished = self._unfinished, None
            self.add(acknowledged.result(), depth)

    def add(self, done: Drained, depth: int) -> None:
        """Add a pass; ``depth`` was read before it, and may count entries of the pass before it."""
        total = self.total.plus(done)
        self.total = replace(total, left=max(0, depth - (total.done - self._earlier[0])))
        self._earlier = [self._earlier[1], total.done]
        if self._progress is not None:
            self._progress(self.total)

    def wait_after_failure(self) -> None:
        """Wait for the last pass too when a later step failed; an outage of Valkey is logged."""
        try:
            self.wait()
        except CacheUnavailable as error:  # its entries are claimed later, and written again
            _log.debug("drain.not_acknowledged: acknowledging a pass failed: %s", error)


class _LongestWait:
    """Keep the longest wait of entries in the journal, of this minute and of the one before."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._minutes: dict[int, float] = {}

    def add(self, entry_ids: Iterable[bytes]) -> None:
        """Add entries that are in the table now; their ids begin with the milliseconds of their record."""
        now = self._now()
        oldest = min((int(entry_id.split(b"-")[0]) / 1000 for entry_id in entry_ids), default=now)
        minute = int(now // 60)
        kept = {each: wait for each, wait in self._minutes.items() if each >= minute - 1}
        self._minutes = kept | {minute: max(kept.get(minute, 0.0), now - oldest)}

    def longest(self) -> float:
        """Return the longest wait in seconds."""
        earliest = int(self._now() // 60) - 1
        return max((wait for minute, wait in self._minutes.items() if minute >= earliest), default=0.0)


def _consumer_name() -> str:
    """Return a name that no other process and no other drainer has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Drainer:
    """Drain every shard. Any number of drainers may run at the same time; threads that share one wait for each other.

    Args:
        valkey: The connection.
        sink: The table.
        shards: How many journals there are; from the settings by default, like the prefix.
        prefix: The first part of every key.
        name: The name of the consumer; each drainer needs its own.
        batch: Entries of one pass.
        idle: Seconds after which pending entries of another drainer are claimed; it must be longer than the two slowest
            passes of a drainer.
        deliveries: How often an entry is delivered before it is moved to the dead letters.
        workers: Threads that write. With more than one, two other threads read and acknowledge meanwhile.
        observer: Called after each pass, before it is acknowledged, with the items that were written and the items of
            which the table has the same or a newer version. If it raises `Unavailable`, the entries stay in the
            journal, and are written and shown again.

    Attributes:
        total: What all drains of this drainer did until now.
        last_pass_at: `time.monotonic` at the begin of its last pass.

    >>> with model.session("USR241", "a café") as session:
    ...     pass
    >>> drained = model.drainer.drain()
    >>> drained.written > 0, drained.left, model.drainer.dead()
    (True, 0, [])
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
        keys = KeyNames(prefix or settings.valkey_prefix, shards or settings.shards)
        self._group = ConsumerGroup(
            valkey, keys, consumer=name or _consumer_name(), batch=batch, idle_ms=int(idle * 1000)
        )
        self._observer = observer
        self._deliveries = deliveries
        self._workers = workers
        self._writer = DrainWriter(sink, None)
        self._letters = DeadLetters(valkey, keys)
        self.total = Drained()
        self.last_pass_at = time.monotonic()
        self._waits = _LongestWait()
        self._start()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew in a forked child: what its parent has read and not acknowledged is the parent's to write."""
        self._group = self._group.for_consumer(_consumer_name())
        self._start()

    def _start(self) -> None:
        workers = self._workers
        self._write_pool = ThreadPoolExecutor(workers, thread_name_prefix="agentmodel-drain") if workers > 1 else None
        # one thread reads and one acknowledges while the write pool writes
        self._journal_pool = ThreadPoolExecutor(2, thread_name_prefix="agentmodel-journal") if workers > 1 else None
        self._writer = self._writer.with_pool(self._write_pool)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and remove this drainer's consumer from the groups."""
        for pool in (self._write_pool, self._journal_pool):
            if pool is not None:
                pool.shutdown(wait=True)
        try:
            self._group.remove_consumer()
        except CacheUnavailable as error:  # after a day, the next drainer that closes removes the consumer
            _log.debug("drain.not_retired: removing the consumer failed: %s", error)

    def drain(self, *, until_empty: bool = True, progress: Callable[[Drained], None] | None = None) -> Drained:
        """Write what is in the journal to the table.

        Args:
            until_empty: Whether to go on until no entry can be read; otherwise one pass.
            progress: Called after every pass with the sum so far.

        Returns:
            The sum. ``left`` counts entries that are pending for another drainer, or that the table left unprocessed.

        Raises:
            TableUnavailable: The table takes no writes; everything that is not in it stays in the journal.
            CacheUnavailable: Valkey does not answer; what was written and not acknowledged is written again later.
        """
        with self._lock:
            return self._drain_all(progress) if until_empty else self._passes(Drained(), progress, most=1)

    def _drain_all(self, progress: Callable[[Drained], None] | None) -> Drained:
        """Run passes until no entry can be read."""
        total = Drained()
        while True:
            before, total = total, self._passes(total, progress, most=_PIPELINED)
            if total.done == before.done:
                return total

    def _passes(
        self,
        total: Drained,
        progress: Callable[[Drained], None] | None,
        *,
        most: int,
        stop: threading.Event | None = None,
    ) -> Drained:
        """Run passes; while one is written, the one before is acknowledged and the next one is read.

        The next one is of entries that were never delivered. Writes never overlap: a key is in one batch at a time.
        """
        totals = _PassTotals(total, progress)
        next_read: Future[EntriesRead] | None = None
        try:
            for number in range(1, most + 1):
                self.last_pass_at = time.monotonic()
                read = self._group.read() if next_read is None else next_read.result()
                next_read = None
                last = self._is_last(read, number=number, most=most, stop=stop)
                if self._journal_pool is not None and not last:
                    next_read = self._journal_pool.submit(self._group.read, only_new=True)
                outcome = self._write(read.entries)
                totals.wait()
                if outcome.outage:
                    totals.add(self._acknowledge(outcome), read.depth)
                    raise outcome.outage
                if self._journal_pool is None or last or read.suspect_shards:
                    done = self._acknowledge(outcome)
                    for shard in read.suspect_shards:
                        done = done.plus(self._drain_suspects(shard))
                    totals.add(done, read.depth)
                else:
                    totals.add_later(self._journal_pool.submit(self._acknowledge, outcome), read.depth)
                if last:
                    break
        finally:
            if next_read is not None:
                self._release_read(next_read)
            totals.wait_after_failure()
        return totals.total

    def _is_last(self, read: EntriesRead, *, number: int, most: int, stop: threading.Event | None) -> bool:
        """Return whether no pass follows the one that writes these entries."""
        exhausted = not read.entries or len(read.entries) >= read.depth
        return number == most or exhausted or (stop is not None and stop.is_set())

    def _release_read(self, next_read: Future[EntriesRead]) -> None:
        """Release the entries that were read for the pass after the one that failed."""
        try:
            self._group.release(next_read.result().entries)
        except CacheUnavailable as error:  # they are claimed once they have been idle
            _log.debug("drain.not_handed_back: releasing entries failed: %s", error)

    def run(
        self, stop: threading.Event, *, progress: Callable[[Drained], None] | None = None, every: float = 0.05
    ) -> Drained:
        """Drain until ``stop`` is set; the pass under way is finished, later entries stay in the journal.

        During an outage it logs a warning and tries again. Once a minute it logs what was done.

        Args:
            stop: Set it to end.
            progress: Called with the sum after every pass that did something.
            every: Seconds between two looks at an empty journal.

        >>> import threading
        >>> stop = threading.Event()
        >>> worker = threading.Thread(target=model.drainer.run, args=[stop])
        >>> worker.start()
        >>> stop.set()
        >>> worker.join()
        """
        total, reported, pause = Drained(), time.monotonic(), every

        def add(passes: Drained) -> None:
            nonlocal total
            changed = passes.done + base.done != total.done
            total = replace(base.plus(passes), left=passes.left)
            if changed and progress is not None:
                progress(total)

        while not stop.is_set():
            base = total
            try:
                with self._lock:
                    self._passes(Drained(), add, most=_PIPELINED, stop=stop)
            except Unavailable as error:
                pause = min(max(pause * 2, 0.1), 2.0)
                _log.warning("drain.outage: a pass failed: %s; next try in %.1f s", error, pause)
                stop.wait(pause)
                continue
            if time.monotonic() - reported >= _REPORT_EVERY:
                _log.info("drain.minute: %d written, %d stale, %d dead, %d left", *astuple(total))
                reported = time.monotonic()
            pause = every
            if total.done == base.done:
                stop.wait(every)
        return total

    def longest_wait(self) -> float:
        """Return how many seconds an entry waited in the journal at most until it was in the table, lately.

        Of the entries that this drainer wrote in this minute and the one before; 0 where there were none.
        """
        return self._waits.longest()

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        """Return the oldest dead letters, at most ``limit``.

        >>> model.drainer.dead(limit=10)
        []
        """
        return self._letters.list(limit)

    def retry(self, letter_id: str) -> bool:
        """Move a dead letter back into the journal; return False when there is none with this id.

        >>> model.drainer.retry("07-1763800000000-0")  # there is no such dead letter
        False
        """
        return self._letters.retry(letter_id)

    def drop(self, letter_id: str) -> bool:
        """Delete a dead letter, so that its user no longer reads it; return False when there is none with this id.

        >>> model.drainer.drop("07-1763800000000-0")  # there is no such dead letter
        False
        """
        return self._letters.drop(letter_id)

    def _drain_suspects(self, shard: int) -> Drained:
        """Process a shard's suspect entries one by one; this drainer has no other claimed entries of the shard."""
        total = Drained()
        while True:
            entry = self._group.claim_suspect(shard)
            if entry is None:
                return total
            if entry.deliveries > self._deliveries:
                reason = (
                    f"the entry was delivered {entry.deliveries - 1} times and never acknowledged; "
                    "it seems to kill its drainer"
                )
                total = total.plus(Drained(dead=self._group.dead_letter([(entry, reason)])))
            else:
                before, total = total, total.plus(self._drain_one(entry))
                if total == before:  # the table left it unprocessed: it is read next, but not in this pass
                    return total

    def _drain_one(self, entry: PendingEntry) -> Drained:
        """Write an entry and acknowledge it.

        Raises:
            Unavailable: The table or the observer failed.
        """
        outcome = self._write([entry])
        done = self._acknowledge(outcome)
        if outcome.outage is not None:
            raise outcome.outage
        return done

    def _write(self, entries: Sequence[PendingEntry]) -> WriteOutcome:
        """Write entries, and show the observer which were written and which the table had already."""
        outcome = self._writer.put(entries)
        elsewhere = outcome.stale + outcome.merged  # the table has these in another version or form
        if self._observer is not None and (outcome.written or outcome.moved or elsewhere):
            there = [*outcome.written, *outcome.moved]
            written, stale = ([entry.item for entry in each if entry.item] for each in (there, elsewhere))
            try:
                self._observer(written, stale)
            except Unavailable as error:
                outcome.fail(error)
        return outcome

    def _acknowledge(self, outcome: WriteOutcome) -> Drained:
        """Acknowledge, dead-letter and release the entries of a pass by their outcome."""
        dead = self._group.dead_letter(outcome.rejected)
        elsewhere = [*outcome.stale, *outcome.merged, *outcome.moved]
        self._group.acknowledge([*outcome.written, *outcome.superseded], elsewhere)
        self._group.forget_numbers(outcome.moved)
        self._group.release(outcome.unwritten)
        self._waits.add(entry.id for entry in (*outcome.written, *outcome.merged, *outcome.moved))
        done = Drained(
            written=len(outcome.written) + len(outcome.merged) + len(outcome.moved),
            stale=len(outcome.stale) + len(outcome.superseded),
            dead=dead,
        )
        self.total = self.total.plus(done)  # one pass is acknowledged at a time
        return done
