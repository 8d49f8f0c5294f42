"""A user's own partitions, near: what is not in the table yet, and a copy of what is.

Reads go overlay → copy → table, and the newer version of each item wins, so that a user's own writes are read back at
once. The overlay holds what the journal has not drained; draining moves each item from the overlay into the copy in one
step. A marker says that a copy holds all of its partition. While a copy is being filled a token lies in it: what is
drained meanwhile joins it, and deleting the copy makes the fill void.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, decode, encode, expires_at, sort_key, version_of
from agentmodel.cache.keyspace import Keyspace
from agentmodel.cache.read import Counts
from agentmodel.cache.scripts import CLAIM, FILL, KNOWN, NOTE
from agentmodel.exceptions import CacheUnavailable, ValidationError

__all__ = ["Recent"]

_KNOWN = KNOWN.encode()
_FILL_SECONDS = 30  # a fill that takes longer is void
_log = logging.getLogger("agentmodel.cache")


class Recent:
    """Reads partitions of one owner.

    Args:
        valkey: The connection.
        shards: From the settings by default, like the prefix.
        prefix: First part of every key.
        ttl: Seconds a copy lives, give or take a tenth; never beyond the expiry of what is in it.
        most: Partitions with more items are not kept near.
        now: Epoch seconds, for expiry.

    Attributes:
        counts: ``hit``, ``miss`` and ``unavailable`` reads in all.
        patterns: The same by access pattern.
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        shards: int | None = None,
        prefix: str | None = None,
        ttl: float = 3_600.0,
        most: int = 500,
        now: Callable[[], float] = time.time,
    ) -> None:
        settings = valkey.settings
        self._valkey = valkey
        self._keys = Keyspace(prefix or settings.valkey_prefix, shards or settings.shards)
        self._ttl = ttl
        self._most = most
        self._now = now
        self.counts: Counter[str] = Counter()
        self.patterns: dict[str, Counts] = {}

    def pending(self, owner: str, partition: str) -> dict[str, Item]:
        """The items of a partition that are not in the table yet, by sort key.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        fields = self._valkey.one(("HGETALL", self._keys.pending(self._keys.shard(owner), partition)))
        return {name: item for name, (item, _) in self._alive(_read(fields)).items()}

    def partition(
        self,
        owner: str,
        partition: str,
        load: Callable[[], Iterable[Item]],
        *,
        near: bool = True,
        pattern: str = "partition",
    ) -> list[Item]:
        """All items of a partition in the order of their sort keys, without expired ones.

        Args:
            owner: User id.
            partition: The PK.
            load: Reads the whole partition from the table, consistently.
            near: Use the copy, and do without Valkey when it is down; otherwise surely read overlay and table.
            pattern: Under what the read is counted.

        Raises:
            CacheUnavailable: Valkey does not answer, and ``near`` is false.
        """
        shard = self._keys.shard(owner)
        overlay, copy = self._keys.pending(shard, partition), self._keys.copy(shard, partition)
        if not near:
            found = _read(self._valkey.one(("HGETALL", overlay)))
            return self._sorted(_newest(found, _versioned(load())))
        try:
            waiting, kept = self._valkey.call([("HGETALL", overlay), ("HGETALL", copy)])
        except CacheUnavailable:
            self._count("unavailable", pattern)
            return self._sorted(_versioned(load()))
        pending, known = _read(waiting), _read(kept)
        if _KNOWN in kept and len(known) == _items(kept):
            self._count("hit", pattern)
            return self._sorted(_newest(pending, known))
        self._count("miss", pattern)
        damaged = _KNOWN in kept
        return self._sorted(_newest(pending, self._filled(copy, load, damaged=damaged)))

    def item(self, owner: str, partition: str, sk: str, load: Callable[[], Item | None]) -> Item | None:
        """One item of a partition; ``load`` reads it from the table, consistently."""
        shard = self._keys.shard(owner)
        keys = self._keys.pending(shard, partition), self._keys.copy(shard, partition)
        try:
            pending, kept, known = self._valkey.call(
                [("HGET", keys[0], sk), ("HGET", keys[1], sk), ("HEXISTS", keys[1], KNOWN)]
            )
        except CacheUnavailable:
            self._count("unavailable", "own_item")
            pending = kept = known = None
        found = _newest(_one(sk, pending), _one(sk, kept))
        if found or (known and kept is None):
            self._count("hit", "own_item")
        else:
            if known is not None:
                self._count("miss", "own_item")
            loaded = load()
            found = _versioned([] if loaded is None else [loaded])
        return next(iter(self._sorted(found)), None)

    def wrote(self, owner: str, items: Sequence[Item]) -> None:
        """Items were written straight to the table: copies follow now, or are dropped once Valkey is back.

        Attempt numbers of their partitions are dropped too, and so are read from the table again.
        """
        shard = self._keys.shard(owner)
        by_partition: dict[str, list[Item]] = {}
        for item in items:
            by_partition.setdefault(str(item["PK"]["S"]), []).append(item)
        numbers = [self._keys.numbers(shard, partition) for partition in by_partition]
        copies = [self._keys.copy(shard, partition) for partition in by_partition]
        if not self._valkey.forget(numbers):
            self._valkey.forget(copies)
            return
        notes = [NOTE.on([copy], *_noted(some)) for copy, some in zip(copies, by_partition.values(), strict=True)]
        try:
            self._valkey.call(notes)
        except CacheUnavailable:
            self._valkey.forget(copies)

    def forget(self, owner: str, partition: str) -> None:
        """Drops the copy and the attempt numbers of a partition that was changed by other means.

        Where Valkey does not answer, it happens before anything else once it is back.
        """
        shard = self._keys.shard(owner)
        self._valkey.forget([self._keys.copy(shard, partition), self._keys.numbers(shard, partition)])

    def _count(self, what: Literal["hit", "miss", "unavailable"], pattern: str) -> None:
        self.counts[what] += 1
        counts = self.patterns.setdefault(pattern, Counts())
        counts.hits += what == "hit"
        counts.misses += what == "miss"
        counts.unavailable += what == "unavailable"

    def _filled(self, copy: str, load: Callable[[], Iterable[Item]], *, damaged: bool) -> dict[str, tuple[Item, int]]:
        token = secrets.token_hex(8)
        try:
            if damaged:
                _log.warning("cache.damaged: %s does not decode and is read from the table again", copy)
                self._valkey.one(("UNLINK", copy))
            claimed = bool(self._valkey.one(CLAIM.on([copy], token, _FILL_SECONDS)))
        except CacheUnavailable:
            claimed = False
        loaded = _versioned(load())
        alive = self._alive(loaded)
        if claimed and len(alive) <= self._most:
            values = [part for name, (item, version) in alive.items() for part in (name, encode(item, version))]
            try:
                self._valkey.one(FILL.on([copy], token, self._seconds(alive), *values))
            except CacheUnavailable:
                self.counts["unavailable"] += 1
        return loaded

    def _seconds(self, items: dict[str, tuple[Item, int]]) -> int:
        """How long a copy lives: jittered, and not beyond the first expiry in it."""
        wanted = self._ttl * random.uniform(0.9, 1.1)  # noqa: S311 - spreads refreshes, keeps no secret
        ends = [end for item, _ in items.values() if (end := expires_at(item)) is not None]
        return max(1, int(min([wanted, *(end - self._now() for end in ends)])))

    def _alive(self, items: dict[str, tuple[Item, int]]) -> dict[str, tuple[Item, int]]:
        now = self._now()
        return {name: one for name, one in items.items() if (end := expires_at(one[0])) is None or end > now}

    def _sorted(self, items: dict[str, tuple[Item, int]]) -> list[Item]:
        alive = self._alive(items)
        return [alive[name][0] for name in sorted(alive)]  # code points sort as DynamoDB's UTF-8 bytes do


def _read(fields: dict[bytes, bytes]) -> dict[str, tuple[Item, int]]:
    """Decodes a hash; markers are left out, and so is what does not decode."""
    found = {}
    for name, value in fields.items():
        if name.startswith(b"\0"):
            continue
        one = decode(value)
        if one is not None:
            found[name.decode()] = one
    return found


def _items(fields: dict[bytes, bytes]) -> int:
    return sum(not name.startswith(b"\0") for name in fields)


def _one(name: str, value: bytes | None) -> dict[str, tuple[Item, int]]:
    found = None if value is None else decode(value)
    return {} if found is None else {name: found}


def _versioned(items: Iterable[Item]) -> dict[str, tuple[Item, int]]:
    return {sort_key(item): (item, version_of(item)) for item in items}


def _newest(first: dict[str, tuple[Item, int]], second: dict[str, tuple[Item, int]]) -> dict[str, tuple[Item, int]]:
    """Both, and the newer version of what is in both; at the same version the first."""
    merged = dict(second)
    for name, one in first.items():
        if name not in merged or one[1] >= merged[name][1]:
            merged[name] = one
    return merged


def _noted(items: Sequence[Item]) -> list[object]:
    values: list[object] = []
    for item in items:
        end = expires_at(item)
        try:
            values += [sort_key(item), encode(item, version_of(item)), "" if end is None else end]
        except ValidationError as error:
            raise ValidationError("items", item, error.rule) from None
    return values
