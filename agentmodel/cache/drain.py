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
from dataclasses import astuple, dataclass, replace
from typing import Self, TypeAlias, TypeVar

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, version_text
from agentmodel.cache.deadletters import DeadLetter, DeadLetters
from agentmodel.cache.keyspace import GROUP, Keyspace
from agentmodel.cache.lanes import GuardedSink, Lanes, Outcome, Sink, Waiting
from agentmodel.cache.scripts import ADOPT, BURY, RELEASE, RETIRE, SETTLE, TAKE
from agentmodel.exceptions import CacheUnavailable, Unavailable

__all__ = ["Drained", "Drainer", "GuardedSink", "Sink"]

_SUSPECT = 2  # taken twice and not acknowledged: from now on alone
_AHEAD = 16  # passes of which the next one is taken while one is written; then abandoned entries are looked for again
_RESTS = 60.0  # seconds without an entry after which a drainer says that it rests
_NEVER = 10**12  # milliseconds that no entry is idle
_CHUNK = 200  # entries of one script call
_REASON = 500  # characters of a dead letter's reason
_T = TypeVar("_T")
_log = logging.getLogger("agentmodel.cache")


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

    def plus(self, other: Drained) -> Drained:
        """The sum; what is left stays as it was."""
        return Drained(self.written + other.written, self.stale + other.stale, self.dead + other.dead, self.left)

    @property
    def done(self) -> int:
        """Entries that are no longer in the journal."""
        return self.written + self.stale + self.dead


_Take: TypeAlias = tuple[list[Waiting], list[int], int]
"""Entries of one pass, shards with suspects, and the depth of all shards."""


class _Count:
    """The sum of some passes, of which the last one may still be acknowledged by another thread."""

    def __init__(self, total: Drained, progress: Callable[[Drained], None] | None) -> None:
        self.total = total
        self._progress = progress
        self._before = [total.done] * 2  # sums after the two passes before
        self._waiting: tuple[Future[Drained], int] | None = None

    def later(self, waiting: Future[Drained], depth: int) -> None:
        """Counts a pass once it is acknowledged."""
        self._waiting = waiting, depth

    def finish(self) -> None:
        """Waits for the pass that is being acknowledged."""
        if self._waiting is not None:
            (waiting, depth), self._waiting = self._waiting, None
            self.add(waiting.result(), depth)

    def add(self, done: Drained, depth: int) -> None:
        """Counts a pass that was taken at a depth in which the pass before it may have been."""
        total = self.total.plus(done)
        self.total = replace(total, left=max(0, depth - (total.done - self._before[0])))
        self._before = [self._before[1], total.done]
        if self._progress is not None:
            self._progress(self.total)

    def give_up(self) -> None:
        """Waits for the pass that is being acknowledged, whatever else has gone wrong."""
        try:
            self.finish()
        except CacheUnavailable as error:
            _log.debug("drain.not_acknowledged: %s", error)  # its entries are adopted, and written again


class Drainer:
    """Drains every shard; any number side by side. Threads that share one take turns.

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
        workers: Threads that write. With more than one, two others take and acknowledge meanwhile.
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
        self._observer = observer
        self._keys = Keyspace(prefix or settings.valkey_prefix, shards or settings.shards)
        self._name = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._batch = batch
        self._idle_ms = int(idle * 1000)
        self._deliveries = deliveries
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="agentmodel-drain") if workers > 1 else None
        # one takes, one acknowledges, while the pool writes
        self._beside = ThreadPoolExecutor(2, thread_name_prefix="agentmodel-journal") if workers > 1 else None
        self._lanes = Lanes(sink, self._pool)
        self._one = threading.RLock()  # who rests says so for the whole drainer: nobody else may be writing
        self._turn = 0
        self._letters = DeadLetters(valkey, self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and takes the consumer's name out of the groups."""
        for pool in (self._pool, self._beside):
            if pool is not None:
                pool.shutdown(wait=True)
        self._lanes.rest()
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
        with self._one:
            try:
                total = self._all(progress) if until_empty else self._passes(Drained(), progress, most=1)
            except Unavailable:  # after any other error something may be under way
                self._lanes.rest()
                raise
            self._lanes.rest()
            return total

    def _all(self, progress: Callable[[Drained], None] | None) -> Drained:
        """Passes until nothing can be taken."""
        total = Drained()
        while True:
            before, total = total, self._passes(total, progress, most=_AHEAD)
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
        """Some passes; while one is written, the one before is acknowledged and the next one is taken.

        The next one is of what nobody had in hand yet. Writes never overlap: a key is in one batch at a time.
        """
        count = _Count(total, progress)
        ahead: Future[_Take] | None = None
        try:
            for number in range(1, most + 1):
                taken, suspects, depth = self._take() if ahead is None else ahead.result()
                ahead = None
                last = number == most or not taken or len(taken) >= depth or (stop is not None and stop.is_set())
                if self._beside is not None and not last:
                    ahead = self._beside.submit(self._take, fresh=True)
                outcome = self._put(taken)
                count.finish()
                if outcome.outage:
                    count.add(self._acknowledge(outcome), depth)
                    raise outcome.outage
                if self._beside is None or last or suspects:
                    done = self._acknowledge(outcome)
                    for shard in suspects:
                        done = done.plus(self._alone(shard))
                    count.add(done, depth)
                else:
                    count.later(self._beside.submit(self._acknowledge, outcome), depth)
                if last:
                    break
        finally:
            if ahead is not None:
                self._hand_back(ahead)
            count.give_up()
        return count.total

    def _hand_back(self, ahead: Future[_Take]) -> None:
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
        total, told, pause, idle = Drained(), time.monotonic(), every, 0.0

        def count(sum_of_passes: Drained) -> None:
            nonlocal total
            did = sum_of_passes.done + base.done != total.done
            total = replace(base.plus(sum_of_passes), left=sum_of_passes.left)
            if did and progress is not None:
                progress(total)

        while not stop.is_set():
            base = total
            try:
                with self._one:
                    self._passes(Drained(), count, most=_AHEAD, stop=stop)
            except Unavailable as error:
                pause = min(max(pause * 2, 0.1), 2.0)
                _log.warning("drain.outage: %s; next try in %.1f s", error, pause)
                self._rest()
                stop.wait(pause)
                continue
            if time.monotonic() - told >= 60:
                _log.info("drain.minute: %d written, %d stale, %d dead, %d left", *astuple(total))
                told = time.monotonic()
            pause = every
            idle = idle + every if total.done == base.done else 0.0
            if idle >= _RESTS:
                self._rest()
            if total.done == base.done:
                stop.wait(every)
        self._rest()
        return total

    def _rest(self) -> None:
        """Says that nothing is being written any more, once it is so."""
        with self._one:
            self._lanes.rest()

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        """The oldest dead letters of each shard."""
        return self._letters.list(limit)

    def retry(self, letter: str) -> bool:
        """Puts a dead letter back into the journal; False when it is not there."""
        return self._letters.retry(letter)

    def drop(self, letter: str) -> bool:
        """Gives a dead letter up, so that its writer no longer reads it back; False when it is not there."""
        return self._letters.drop(letter)

    def _take(self, *, fresh: bool = False) -> _Take:
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
            taken += [Waiting.of(shard, entry) for entry in entries]
            if doubtful:
                suspects.append(shard)
        return taken, suspects, sum(depths)

    def _alone(self, shard: int) -> Drained:
        """Takes a shard's suspects one by one; this drainer has no other entries of the shard but fresh ones."""
        total = Drained()
        while True:
            reply = self._valkey.one(ADOPT.on([self._keys.journal(shard)], GROUP, self._name, self._idle_ms, _SUSPECT))
            if not reply:
                return total
            entry = Waiting.of(shard, reply)
            if entry.deliveries > self._deliveries:
                reason = f"taken {entry.deliveries - 1} times and never acknowledged: it seems to kill its drainer"
                total = total.plus(Drained(dead=self._bury([(entry, reason)])))
            else:
                before, total = total, total.plus(self._pass([entry]))
                if total == before:  # the table left it unprocessed: it is next to be taken, but not in this pass
                    return total

    def _pass(self, taken: Sequence[Waiting]) -> Drained:
        """Writes entries and acknowledges what is written."""
        outcome = self._put(taken)
        done = self._acknowledge(outcome)
        if outcome.outage is not None:
            raise outcome.outage
        return done

    def _put(self, taken: Sequence[Waiting]) -> Outcome:
        """Writes entries, and shows the observer what was written and what the table had already."""
        outcome = self._lanes.put(taken)
        if self._observer is not None and (outcome.written or outcome.stale):
            written, stale = ([one.item for one in some if one.item] for some in (outcome.written, outcome.stale))
            try:
                self._observer(written, stale)
            except Unavailable as error:
                outcome.refuse(error)
        return outcome

    def _acknowledge(self, outcome: Outcome) -> Drained:
        """Takes out of the journal what need not stay in it."""
        dead = self._bury(outcome.dead)
        self._settle([*outcome.written, *outcome.overtaken], [*outcome.stale, *outcome.moved])
        self._renumbered(outcome.moved)
        self._release(outcome.back)
        return Drained(len(outcome.written) + len(outcome.moved), len(outcome.stale) + len(outcome.overtaken), dead)

    def _settle(self, written: Iterable[Waiting], stale: Iterable[Waiting]) -> None:
        calls = []
        marked = [(one, 0) for one in written] + [(one, 1) for one in stale]
        for shard, some in _by_shard(marked, lambda one: one[0].shard):
            texts: dict[str, list[bytes]] = {}
            for one, is_stale in some:
                expires = one.expires if one.expires.isdigit() else b""
                version = version_text(one.version).encode()
                text = b"%b %b %b %d %b" % (one.id, version, expires, is_stale, one.sort.encode())
                texts.setdefault(one.partition, []).append(text)
            keys = [self._keys.journal(shard)]
            args: list[str | int | bytes] = [GROUP]
            for partition, entries in texts.items():
                keys += [self._keys.pending(shard, partition), self._keys.copy(shard, partition)]
                args += [len(entries), *entries]
            calls.append(SETTLE.on(keys, *args))
        if calls:
            self._valkey.call(calls)

    def _renumbered(self, moved: Sequence[Waiting]) -> None:
        """Calls of these entries' partitions have other numbers than Valkey thinks: it reads the table again."""
        for one in moved:
            _log.warning("drain.renumbered: what had %s %s has the next free number", one.partition, one.sort)
        if moved:
            self._valkey.forget({self._keys.numbers(one.shard, one.partition) for one in moved})

    def _bury(self, dead: Iterable[tuple[Waiting, str]]) -> int:
        calls = []
        for one, reason in dead:
            _log.error("drain.dead: shard %d entry %s: %s", one.shard, one.id.decode(), reason)
            keys = [self._keys.journal(one.shard), self._keys.dead(one.shard)]
            calls.append(BURY.on(keys, GROUP, one.id, reason[:_REASON], *one.fields))
        return sum(self._valkey.call(calls)) if calls else 0

    def _release(self, entries: Iterable[Waiting]) -> None:
        """Hands entries back: to be taken again at once, and not counted as a delivery that killed."""
        calls = []
        for shard, some in _by_shard(entries, lambda one: one.shard):
            pairs = [part for one in some for part in (one.id, one.deliveries - 1)]
            calls.append(RELEASE.on([self._keys.journal(shard)], GROUP, self._name, *pairs))
        if calls:
            self._valkey.call(calls)


def _by_shard(some: Iterable[_T], shard: Callable[[_T], int]) -> Iterable[tuple[int, list[_T]]]:
    """Some things of each shard, a script call's worth at a time."""
    groups: dict[int, list[_T]] = {}
    for one in some:
        groups.setdefault(shard(one), []).append(one)
    for number, group in groups.items():
        for start in range(0, len(group), _CHUNK):
            yield number, group[start : start + _CHUNK]
