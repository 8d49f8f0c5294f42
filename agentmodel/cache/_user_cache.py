"""Cache the partitions of a user: the items that are not in the table yet, and a copy of those that are.

A read merges the overlay, the copy and, if needed, the table. The newer version of each item wins, so a user reads its
own writes back at once. The overlay holds what the journal has not drained; draining moves each item from the overlay
into the copy, in one step. A marker says that a copy holds its whole partition. While a copy is being filled it holds a
token: items that are drained meanwhile join it, and deleting the copy makes the fill void.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from agentmodel._log import logger
from agentmodel.cache._item_codec import Item, call_of, decode, encode, expires_at, is_intact, sort_key, version_of
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._lua import BEGIN_FILL, COMPLETE, END_FILL, UPDATE_COPY, Command
from agentmodel.cache._read_through import Counts
from agentmodel.cache._user_erasure import ErasedKeys, Erasing, erase_user, rewrite_files
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable, ValidationError

__all__ = ["Overlaid", "UserCache"]

_COMPLETE = COMPLETE.encode()
_FILL_SECONDS = 30  # a fill that takes longer is void
_log = logger("agentmodel.cache")
_T = TypeVar("_T")
_Versioned: TypeAlias = Mapping[str, tuple[Item, int]]
"""Items by sort key, each with its version."""
_Renumber: TypeAlias = Callable[[Item, Collection[Item]], Item | None]
_Wanted: TypeAlias = Callable[[bytes, bytes], bool]


class Overlaid(NamedTuple, Generic[_T]):
    """What a read found.

    Attributes:
        found: The items, or the item.
        complete: Whether the overlay was read; otherwise Valkey did not answer, and what is not in the table yet is
            missing.
    """

    found: _T
    complete: bool


class UserCache:
    """Read the partitions of users.

    Args:
        valkey: The connection.
        shards: How many journals there are; from the settings by default, like the prefix.
        prefix: The first part of every key.
        ttl: Seconds for which a copy is kept, ± 10 %; never beyond the first expiry of an item in it.
        max_items: The most items of a partition that is cached.
        now: Returns epoch seconds, for expiry.

    Attributes:
        counts: All reads so far, as ``hit``, ``miss`` and ``unavailable``.
        patterns: The same reads by access pattern.

    >>> with model.session("USR243", "a café", session_id="SESS1") as session:
    ...     pass
    >>> cache = UserCache(model.valkey)
    >>> sorted(cache.pending("USR243", "USR243"))
    ['SESS1']
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        shards: int | None = None,
        prefix: str | None = None,
        ttl: float = 3_600.0,
        max_items: int = 500,
        now: Callable[[], float] = time.time,
    ) -> None:
        settings = valkey.settings
        self._valkey = valkey
        self._keys = KeyNames(prefix or settings.valkey_prefix, shards or settings.shards)
        self._ttl = ttl
        self._max_items = max_items
        self._now = now
        self.counts: Counter[str] = Counter()
        self.patterns: dict[str, Counts] = {}

    def pending(self, owner: str, partition: str) -> dict[str, Item]:
        """Return the items of a partition that are not in the table yet, by sort key.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        overlay = self._keys.overlay(self._keys.shard(owner), partition)
        found = self._undrained(overlay, self._valkey.execute(("HGETALL", overlay)))
        return {name: item for name, (item, _) in self._alive(found).items()}

    def partition(
        self,
        owner: str,
        partition: str,
        load: Callable[[], Iterable[Item]],
        *,
        cached: bool = True,
        pattern: str = "partition",
        renumber: _Renumber | None = None,
        wanted: _Wanted | None = None,
    ) -> Overlaid[list[Item]]:
        """Return all items of a partition in the order of their sort keys, without expired ones.

        Args:
            owner: User id.
            partition: The PK.
            load: Reads the whole partition from the table, consistently.
            cached: Whether to use the copy, and to read only the table when Valkey does not answer. Otherwise overlay
                and table are both read.
            pattern: The access pattern to count the read under.
            renumber: Returns an undrained item, under whose key the table has another call, as a drain will write it
                beside the stored items; None if it is among them. Without it the newer of the two is returned.
            wanted: Says by an item's sort key and its bytes whether it may be asked for. Others need not be returned,
                and are not decoded, which is most of the time of a read.

        Raises:
            CacheUnavailable: Valkey does not answer, and ``cached`` is false.

        >>> read = UserCache(model.valkey).partition("USR244", "USR244", lambda: [])
        >>> read.found, read.complete
        ([], True)
        """
        shard = self._keys.shard(owner)
        overlay, copy = self._keys.overlay(shard, partition), self._keys.copy(shard, partition)
        if not cached:
            found = self._undrained(overlay, _only(wanted, self._valkey.execute(("HGETALL", overlay))))
            return Overlaid(self._sorted(_laid_over(_versioned(load()), found, renumber)), True)
        try:
            answers = self._valkey.execute_many([("HGETALL", overlay), ("HGETALL", copy)])
            undrained, stored = (_only(wanted, answer) for answer in answers)
            pending, copied = self._undrained(overlay, undrained), _read(stored)
        except CacheUnavailable:
            self._count("unavailable", pattern)
            return Overlaid(self._sorted(_versioned(load())), False)
        complete = _COMPLETE in stored
        if complete and len(copied) == _count_items(stored):
            self._count("hit", pattern)
            return Overlaid(self._sorted(_laid_over(copied, pending, renumber)), True)
        self._count("miss", pattern)
        loaded = self._load_and_fill(copy, load, damaged=complete)
        return Overlaid(self._sorted(_laid_over(loaded, pending, renumber)), True)

    def item(self, owner: str, partition: str, sk: str, load: Callable[[], Item | None]) -> Overlaid[Item | None]:
        """Return one item of a partition; None where it does not exist or has expired.

        Args:
            owner: User id.
            partition: The PK.
            sk: The SK.
            load: Reads the item from the table, consistently.

        >>> UserCache(model.valkey).item("USR244", "USR244", "SESS1", lambda: None)
        Overlaid(found=None, complete=True)
        """
        reads = self.item_reads(owner, partition, sk)
        answered = True
        try:
            pending, copied, complete = self._valkey.execute_many(reads)
            if pending is not None and not _read_item(sk, pending):
                self._rebuild(reads[0][1], [sk.encode()])
                pending = self._valkey.execute(reads[0])
        except CacheUnavailable:
            self._count("unavailable", "own_item")
            pending = copied = complete = None
            answered = False
        found = _newest(_read_item(sk, pending), _read_item(sk, copied))
        if found or (complete and copied is None):
            self._count("hit", "own_item")
        else:
            if answered:
                self._count("miss", "own_item")
            loaded = load()
            found = _versioned([] if loaded is None else [loaded])
        return Overlaid(next(iter(self._sorted(found)), None), answered)

    def item_reads(self, owner: str, partition: str, sk: str) -> list[Command]:
        """Return the commands by which `item` reads one item, to be sent ahead of it; see `Valkey.prefetched`."""
        shard = self._keys.shard(owner)
        overlay, copy = self._keys.overlay(shard, partition), self._keys.copy(shard, partition)
        return [("HGET", overlay, sk), ("HGET", copy, sk), ("HEXISTS", copy, COMPLETE)]

    def put(self, owner: str, items: Sequence[Item]) -> None:
        """Put items that were written straight to the table into the copies of their partitions.

        The attempt numbers of these partitions are deleted, and read from the table again. If Valkey does not answer,
        the copies are deleted once it is back.

        >>> cache = UserCache(model.valkey)
        >>> cache.put("USR244", [{"PK": {"S": "USR244"}, "SK": {"S": "SESS1"}, "Version": {"N": "1"}}])
        """
        shard = self._keys.shard(owner)
        by_partition: dict[str, list[Item]] = {}
        for item in items:
            by_partition.setdefault(str(item["PK"]["S"]), []).append(item)
        numbers = [self._keys.numbers(shard, partition) for partition in by_partition]
        copies = [self._keys.copy(shard, partition) for partition in by_partition]
        if not self._valkey.delete(numbers):
            self._valkey.delete(copies)
            return
        updates = [
            UPDATE_COPY.on([copy], *_arguments(group))
            for copy, group in zip(copies, by_partition.values(), strict=True)
        ]
        try:
            self._valkey.execute_many(updates)
        except CacheUnavailable:
            self._valkey.delete(copies)

    def invalidate(self, owner: str, partition: str) -> None:
        """Delete the copy and the attempt numbers of a partition that was changed by other means.

        If Valkey does not answer, they are deleted before the first command after it is back.

        >>> UserCache(model.valkey).invalidate("USR244", "USR244")
        """
        shard = self._keys.shard(owner)
        self._valkey.delete([self._keys.copy(shard, partition), self._keys.numbers(shard, partition)])

    def erase(
        self, owner: str, *, before: int, until: int, open_sessions: Collection[str], whose: str, erasing_key: str
    ) -> ErasedKeys:
        """Delete everything of a user that is older than an erasure: journal, dead letters, copies, cached results.

        Args:
            owner: User id.
            before: The version before which a record is erased.
            until: The version before which a record of an open session is erased.
            open_sessions: SHA-1 digests of the open sessions.
            whose: The digest of the user that cached results carry.
            erasing_key: The key that exists while no result of the user's calls is cached.

        Raises:
            CacheUnavailable: Valkey does not answer, or forbids SCAN.
        """
        erasing = Erasing(owner, before, until, open_sessions, whose, erasing_key)
        return erase_user(self._valkey, self._keys, erasing)

    def rewrite_files(self) -> str:
        """Have the server write its files anew without what was deleted; return why one still holds it, or nothing.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        return rewrite_files(self._valkey)

    def _undrained(self, overlay: str, fields: dict[bytes, bytes]) -> dict[str, tuple[Item, int]]:
        """Decode an overlay; one with a damaged field is made again from the journal first."""
        found = _read(fields)
        damaged = [name for name in fields if name.decode(errors="replace") not in found]
        if not damaged:
            return found
        self._rebuild(overlay, damaged)
        return _read(self._valkey.execute(("HGETALL", overlay)))

    def _rebuild(self, overlay: str, damaged: Sequence[bytes]) -> None:
        _log.warning("cache.damaged: could not decode %s; made it again from the journal", overlay)
        self._valkey.rebuild_overlay(overlay, damaged)

    def _count(self, result: Literal["hit", "miss", "unavailable"], pattern: str) -> None:
        self.counts[result] += 1
        counts = self.patterns.setdefault(pattern, Counts())
        counts.hits += result == "hit"
        counts.misses += result == "miss"
        counts.unavailable += result == "unavailable"

    def _load_and_fill(
        self, copy: str, load: Callable[[], Iterable[Item]], *, damaged: bool
    ) -> dict[str, tuple[Item, int]]:
        """Load a partition from the table and fill its copy; a damaged copy is deleted first."""
        token = secrets.token_hex(8)
        try:
            if damaged:
                _log.warning(
                    "cache.damaged: could not decode %s; deleted it, and it will be read from the table again", copy
                )
                self._valkey.execute(("UNLINK", copy))
            filling = bool(self._valkey.execute(BEGIN_FILL.on([copy], token, _FILL_SECONDS)))
        except CacheUnavailable:
            filling = False
        loaded = _versioned(load())
        alive = self._alive(loaded)
        if filling and len(alive) <= self._max_items:
            values = [part for name, (item, version) in alive.items() for part in (name, encode(item, version))]
            try:
                self._valkey.execute(END_FILL.on([copy], token, self._seconds(alive), *values))
            except CacheUnavailable:
                self.counts["unavailable"] += 1
        return loaded

    def _seconds(self, items: dict[str, tuple[Item, int]]) -> int:
        """Return how long a copy is kept: with jitter, and not beyond the first expiry of an item in it."""
        ttl = self._ttl * random.uniform(0.9, 1.1)  # noqa: S311 - spreads refreshes, keeps no secret
        ends = [end for item, _ in items.values() if (end := expires_at(item)) is not None]
        return max(1, int(min([ttl, *(end - self._now() for end in ends)])))

    def _alive(self, items: dict[str, tuple[Item, int]]) -> dict[str, tuple[Item, int]]:
        now = self._now()
        return {name: pair for name, pair in items.items() if (end := expires_at(pair[0])) is None or end > now}

    def _sorted(self, items: dict[str, tuple[Item, int]]) -> list[Item]:
        alive = self._alive(items)
        return [alive[name][0] for name in sorted(alive)]  # code points sort as DynamoDB's UTF-8 bytes do


def _only(wanted: _Wanted | None, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the markers of a hash, those of its items that are wanted, and damaged ones: they may be wanted, too."""
    if wanted is None:
        return fields
    return {
        name: value
        for name, value in fields.items()
        if name.startswith(b"\0") or wanted(name, value) or not is_intact(value)
    }


def _read(fields: dict[bytes, bytes]) -> dict[str, tuple[Item, int]]:
    """Decode a hash, without its markers and the values that do not decode."""
    found: dict[str, tuple[Item, int]] = {}
    for name, value in fields.items():
        if name.startswith(b"\0"):
            continue
        found.update(_read_item(name.decode(errors="replace"), value))
    return found


def _count_items(fields: dict[bytes, bytes]) -> int:
    return sum(not name.startswith(b"\0") for name in fields)


def _read_item(name: str, value: bytes | None) -> dict[str, tuple[Item, int]]:
    found = None if value is None else decode(value)
    return {} if found is None or found[0].get("SK") != {"S": name} else {name: found}


def _versioned(items: Iterable[Item]) -> dict[str, tuple[Item, int]]:
    return {sort_key(item): (item, version_of(item)) for item in items}


def _newest(first: _Versioned, second: _Versioned) -> dict[str, tuple[Item, int]]:
    """Merge two sets of items; the newer version of an item wins, and the first one where the versions are equal."""
    merged = dict(second)
    for name, pair in first.items():
        if name not in merged or pair[1] >= merged[name][1]:
            merged[name] = pair
    return merged


def _laid_over(stored: _Versioned, pending: _Versioned, renumber: _Renumber | None) -> dict[str, tuple[Item, int]]:
    """Merge undrained items with the stored ones; one whose key another call has there comes under another key."""
    if renumber is None:
        return _newest(pending, stored)
    others = {
        name: pair for name, pair in pending.items() if name in stored and call_of(stored[name][0]) != call_of(pair[0])
    }
    merged = _newest({name: pair for name, pair in pending.items() if name not in others}, stored)
    for item, version in others.values():
        moved = renumber(item, [other for other, _ in merged.values()])
        if moved is not None:
            merged[sort_key(moved)] = moved, version
    return merged


def _arguments(items: Sequence[Item]) -> list[object]:
    """Return the arguments of ``UPDATE_COPY`` for these items."""
    values: list[object] = []
    for item in items:
        end = expires_at(item)
        try:
            values += [sort_key(item), encode(item, version_of(item)), "" if end is None else end]
        except ValidationError as error:
            raise ValidationError("items", item, error.rule) from None
    return values
