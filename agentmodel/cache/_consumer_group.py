"""Read journal entries as one consumer of a consumer group, and acknowledge, release or dead-letter them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from agentmodel._log import logger
from agentmodel.cache._drain_writer import PendingEntry
from agentmodel.cache._item_codec import sort_key, version_text
from agentmodel.cache._key_names import GROUP, KeyNames
from agentmodel.cache._lua import ACKNOWLEDGE, CLAIM_SUSPECT, DEAD_LETTER, READ_ENTRIES, RELEASE, REMOVE_CONSUMER
from agentmodel.cache._valkey import Valkey

__all__ = ["ConsumerGroup", "EntriesRead"]

SUSPECT_FROM = 2  # deliveries without an acknowledgement from which an entry is read alone
_NEVER_IDLE = 10**12  # milliseconds that no entry is idle
_CHUNK = 200  # entries of one script call
_REASON = 500  # characters of a dead letter's reason
_T = TypeVar("_T")
_log = logger("agentmodel.cache")


class EntriesRead(NamedTuple):
    """What one read of the journals returned.

    Attributes:
        entries: The entries, now pending for this consumer.
        suspect_shards: Shards with entries that may have killed their drainers.
        depth: Entries in all journals before the read.
    """

    entries: list[PendingEntry]
    suspect_shards: list[int]
    depth: int


class ConsumerGroup:
    """One consumer of the group that drains the journals of all shards.

    Args:
        valkey: The connection.
        keys: The key names.
        consumer: The name of this consumer; each drainer has its own.
        batch: Entries of one read.
        idle_ms: Milliseconds after which pending entries of another consumer are claimed.
    """

    def __init__(self, valkey: Valkey, keys: KeyNames, *, consumer: str, batch: int, idle_ms: int) -> None:
        self._valkey = valkey
        self._keys = keys
        self._consumer = consumer
        self._batch = batch
        self._idle_ms = idle_ms
        self._first = 0

    def for_consumer(self, consumer: str) -> ConsumerGroup:
        """Return the same group for another consumer."""
        return ConsumerGroup(self._valkey, self._keys, consumer=consumer, batch=self._batch, idle_ms=self._idle_ms)

    def read(self, *, only_new: bool = False) -> EntriesRead:
        """Read entries of all shards, in two round trips.

        Args:
            only_new: Claim no idle entries: this consumer has pending entries, and must not claim its own.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        shards = range(self._keys.shards)
        depths = self._valkey.execute_many([("XLEN", self._keys.journal(shard)) for shard in shards])
        filled = [shard for shard in shards if depths[shard]]
        if not filled:
            return EntriesRead([], [], 0)
        self._first = (self._first + 1) % len(filled)  # start with a different shard each time
        filled = filled[self._first :] + filled[: self._first]
        count = max(8, self._batch // len(filled))
        idle = _NEVER_IDLE if only_new else self._idle_ms
        replies = self._valkey.execute_many(
            [
                READ_ENTRIES.on([self._keys.journal(shard)], GROUP, self._consumer, count, idle, SUSPECT_FROM)
                for shard in filled
            ]
        )
        read, suspect_shards = [], []
        for shard, (suspects, *entries) in zip(filled, replies, strict=True):
            read += [PendingEntry.from_reply(shard, entry) for entry in entries]
            if suspects:
                suspect_shards.append(shard)
        return EntriesRead(read, suspect_shards, sum(depths))

    def claim_suspect(self, shard: int) -> PendingEntry | None:
        """Claim one entry of a shard that may have killed its drainers; None when there is none.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        keys = [self._keys.journal(shard)]
        reply = self._valkey.execute(CLAIM_SUSPECT.on(keys, GROUP, self._consumer, self._idle_ms, SUSPECT_FROM))
        return PendingEntry.from_reply(shard, reply) if reply else None

    def acknowledge(self, written: Iterable[PendingEntry], stale: Iterable[PendingEntry]) -> None:
        """Delete entries from journal and overlay in one step for each shard.

        Args:
            written: Entries that are in the table; their items move from the overlay into the cached copies.
            stale: Entries of which the table has another version; the cached copies of their partitions are deleted.

        Raises:
            CacheUnavailable: Valkey does not answer; the entries may have been acknowledged.
        """
        commands = []
        marked = [(entry, 0) for entry in written] + [(entry, 1) for entry in stale]
        for shard, group in _by_shard(marked, lambda pair: pair[0].shard):
            by_partition: dict[str, list[bytes]] = {}
            for entry, is_stale in group:
                expires = entry.expires if entry.expires.isdigit() else b""
                version = version_text(entry.version).encode()
                text = b"%b %b %b %d %b" % (entry.id, version, expires, is_stale, entry.sort.encode())
                by_partition.setdefault(entry.partition, []).append(text)
            keys = [self._keys.journal(shard)]
            args: list[str | int | bytes] = [GROUP]
            for partition, texts in by_partition.items():
                keys += [self._keys.overlay(shard, partition), self._keys.copy(shard, partition)]
                args += [len(texts), *texts]
            commands.append(ACKNOWLEDGE.on(keys, *args))
        if commands:
            self._valkey.execute_many(commands)

    def dead_letter(self, rejected: Iterable[tuple[PendingEntry, str]]) -> int:
        """Move entries to the dead letters, each with its reason; return how many were moved.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        commands = []
        for entry, reason in rejected:
            _log.error(
                "drain.dead: moving entry %s of shard %d to the dead letters: %s",
                entry.id.decode(),
                entry.shard,
                reason,
            )
            keys = [self._keys.journal(entry.shard), self._keys.dead_letters(entry.shard)]
            commands.append(DEAD_LETTER.on(keys, GROUP, entry.id, reason[:_REASON], *entry.fields))
        return sum(self._valkey.execute_many(commands)) if commands else 0

    def release(self, entries: Iterable[PendingEntry]) -> None:
        """Make entries readable again at once, without counting this delivery.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        commands = []
        for shard, group in _by_shard(entries, lambda entry: entry.shard):
            pairs = [part for entry in group for part in (entry.id, entry.deliveries - 1)]
            commands.append(RELEASE.on([self._keys.journal(shard)], GROUP, self._consumer, *pairs))
        if commands:
            self._valkey.execute_many(commands)

    def forget_numbers(self, moved: Sequence[PendingEntry]) -> None:
        """Delete the attempt numbers of partitions in which a call was renumbered; the table has the new ones."""
        for entry in moved:
            _log.warning(
                "drain.renumbered: %s %s was taken in the table; wrote the call of the journal under %s",
                entry.partition,
                entry.sort,
                sort_key(entry.item or {}),
            )
        if moved:
            self._valkey.delete({self._keys.numbers(entry.shard, entry.partition) for entry in moved})

    def remove_consumer(self) -> None:
        """Remove this consumer from the groups of all shards; one with pending entries is kept.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        shards = range(self._keys.shards)
        self._valkey.try_many(
            [REMOVE_CONSUMER.on([self._keys.journal(shard)], GROUP, self._consumer) for shard in shards]
        )


def _by_shard(things: Iterable[_T], shard_of: Callable[[_T], int]) -> Iterable[tuple[int, list[_T]]]:
    """Yield the things of each shard, at most as many at a time as one script call takes."""
    groups: dict[int, list[_T]] = {}
    for thing in things:
        groups.setdefault(shard_of(thing), []).append(thing)
    for shard, group in groups.items():
        for start in range(0, len(group), _CHUNK):
            yield shard, group[start : start + _CHUNK]
