"""Cache what all users share (domains, agents, tools, mappings), and load from the table what is not cached.

A value is fresh for its TTL. Then it is stale: it is still served while one reader refreshes it in the background, and
it expires some time later. One reader at a time loads a value, of all threads and processes. It holds a token in the
value's lock, and invalidating the value deletes the token: a value that was read before an `invalidate` is not stored
after it. An older version never replaces a newer one.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._runtime.deadline import seconds_left
from agentmodel._runtime.process import renew_in_child
from agentmodel.cache._item_codec import (
    Item,
    decode,
    decode_many,
    encode,
    encode_many,
    expires_at,
    sort_key,
    version_text,
)
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._lua import PUT_IF_NEWER, STORE_LOADED, Command
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable, Unavailable, ValidationError

__all__ = ["Counts", "ReadThrough"]

_STALE_FACTOR = 4  # a value is served for at most this many TTLs while its refreshes fail
_LOCK_MS = 10_000
_KIND_AT, _BODY_AT = 20, 34  # <version, 20><kind, 1><fresh until, ms, 13><payload>
_ITEM, _NONE, _PAGE = b"P", b"N", b"L"
_log = logger("agentmodel.cache")


class CachedPage(NamedTuple):
    """One page of a query.

    Attributes:
        items: The items, in the order of the query.
        last_key: DynamoDB's ``LastEvaluatedKey``; None on the last page.
    """

    items: tuple[Item, ...]
    last_key: Item | None = None


@dataclass(slots=True)
class Counts:
    """Count the reads of one access pattern by how they went.

    Attributes:
        hits: Reads that found a fresh value, negative ones included.
        misses: Reads that had to load the value.
        stale: Reads that were served a value whose TTL had passed.
        negative: Hits whose value says that the item does not exist.
        unavailable: Reads while Valkey did not answer.

    >>> agent = model.repository.agent("AGT001")
    >>> model.stats().patterns["item"].unavailable
    0
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    negative: int = 0
    unavailable: int = 0


@dataclass(frozen=True, slots=True)
class _CachedValue:
    """A value as it is stored in Valkey; ``content`` is None for a negative one."""

    version: bytes
    content: Any
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Loader:
    """How a value is loaded and encoded, and how long it is fresh."""

    load: Callable[[], Any]
    encode: Callable[[Any, float], tuple[bytes, float]]  # content and TTL → value and seconds to live
    ttl: float


class ReadThrough:
    """Read items and pages from Valkey, and load those that are not cached.

    Args:
        valkey: The connection.
        prefix: The first part of every key; from the settings by default.
        item_ttl: Seconds for which an item is fresh, ± 10 %.
        page_ttl: Seconds for which a page is fresh, likewise.
        negative_ttl: Seconds for which it is remembered that an item does not exist.
        load_wait: Seconds to wait while another process loads the same value.
        now: Returns epoch seconds.
        background: Runs a refresh; a `BackgroundWorker` by default.

    Attributes:
        counts: The reads so far, by access pattern.

    >>> read = ReadThrough(model.valkey)
    >>> load = lambda: ({"PK": {"S": "DMN031"}, "SK": {"S": "METADATA"}}, 1)
    >>> item, version = read.item("item:DMN031", load)
    >>> item["PK"], version
    ({'S': 'DMN031'}, 1)
    >>> again = read.item("item:DMN031", load)
    >>> read.counts["item"]
    Counts(hits=1, misses=1, stale=0, negative=0, unavailable=0)
    >>> read.invalidate(["item:DMN031"])
    >>> read.close()
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        prefix: str | None = None,
        item_ttl: float = 300.0,
        page_ttl: float = 60.0,
        negative_ttl: float = 5.0,
        load_wait: float = 0.5,
        now: Callable[[], float] = time.time,
        background: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._valkey = valkey
        self._keys = KeyNames(prefix or valkey.settings.valkey_prefix, valkey.settings.shards)
        self._item_ttl, self._page_ttl, self._negative_ttl = item_ttl, page_ttl, negative_ttl
        self._load_wait = load_wait
        self._now = now
        self._worker = BackgroundWorker("refresh", max_waiting=1000, linger=0.0, when_full="drop")
        self._background = background or self._enqueue
        self.renew()
        renew_in_child(self)
        self.counts: dict[str, Counts] = {}

    def renew(self) -> None:
        """Begin anew in a forked child: what the parent loads never arrives there."""
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the refreshes that were started, 30 seconds at the most."""
        self._worker.close()

    def item(
        self,
        name: str,
        load: Callable[[], tuple[Item, int] | None],
        *,
        pattern: str | None = None,
        ttl: float | None = None,
    ) -> tuple[Item, int] | None:
        """Return an item with its version; None where it does not exist or has expired.

        Args:
            name: The name of the value; the same in every process.
            load: Reads the item from the table.
            pattern: The access pattern to count the read under; the name up to its first ``:`` by default.
            ttl: Seconds for which the item is fresh.
        """
        loader = _Loader(load, self._encode_item, ttl or self._item_ttl)
        found: tuple[Item, int] | None = self._read(name, loader, self._count(name, pattern))
        if found is not None and self._expired(found[0]):
            return None
        return found

    def page(
        self, name: str, load: Callable[[], CachedPage], *, pattern: str | None = None, ttl: float | None = None
    ) -> CachedPage:
        """Return a page of a query, without expired items. The arguments are those of `item`.

        >>> read = ReadThrough(model.valkey)
        >>> page = read.page("tools:DMN032", lambda: CachedPage((), None))
        >>> page.items, read.counts["tools"].misses
        ((), 1)
        >>> read.close()
        """
        loader = _Loader(load, self._encode_page, ttl or self._page_ttl)
        found: CachedPage = self._read(name, loader, self._count(name, pattern))
        return CachedPage(tuple(item for item in found.items if not self._expired(item)), found.last_key)

    def put(self, name: str, item: Item, version: int) -> None:
        """Cache an item that was just written, unless a newer version is cached.

        If Valkey does not answer, the cached item is deleted once it is back.

        >>> read = ReadThrough(model.valkey)
        >>> read.put("item:DMN032", {"PK": {"S": "DMN032"}, "SK": {"S": "METADATA"}}, 1)
        >>> read.item("item:DMN032", lambda: None)[1]
        1
        >>> read.close()
        """
        value, seconds = self._encode_item((item, version), self._item_ttl)
        key = self._keys.cached(name)
        try:
            self._valkey.execute(PUT_IF_NEWER.on([key], value, _ms(seconds)))
        except CacheUnavailable:
            self._valkey.delete([key])

    def put_page(self, name: str, page: CachedPage, *, ttl: float) -> None:
        """Cache a page in place of the one that is cached.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        value, seconds = self._encode_page(page, ttl)
        self._valkey.execute(("SET", self._keys.cached(name), value, "PX", _ms(seconds)))

    def prefetched(self, names: Iterable[str], others: Sequence[Command] = ()) -> AbstractContextManager[None]:
        """Read values in one round trip, with ``others``; see `Valkey.prefetched`."""
        return self._valkey.prefetched([*others, *(("GET", self._keys.cached(name)) for name in names)])

    def invalidate(self, names: Iterable[str]) -> None:
        """Delete values that are no longer right; a load that is under way does not store them again.

        If Valkey does not answer, they are deleted before the first command after it is back.
        """
        keys = [self._keys.cached(name) for name in names]
        self._valkey.delete([*keys, *(f"{key}:lock" for key in keys)])

    def _read(self, name: str, loader: _Loader, counts: Counts) -> Any:
        key = self._keys.cached(name)
        try:
            cached = self._get(key)
        except CacheUnavailable:
            counts.unavailable += 1
            return loader.load()
        if cached is None:
            counts.misses += 1
            try:
                return self._once(key, lambda: self._load_missing(key, loader))
            except TimeoutError:  # the deadline of this reader passed while another one loads
                return loader.load()
        if cached.fresh:
            counts.hits += 1
            counts.negative += cached.content is None
        else:
            counts.stale += 1
            self._start_refresh(key, loader, cached)
        return cached.content

    def _once(self, key: str, load: Callable[[], Any]) -> Any:
        """Run ``load`` once for all threads that read the same key at the same time."""
        with self._lock:
            result = self._in_flight.get(key)
            first = result is None
            if result is None:
                result = self._in_flight[key] = Future()
        if not first:
            return result.result(seconds_left())
        try:
            result.set_result(load())
        except BaseException as error:
            result.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._in_flight[key]
        return result.result()

    def _load_missing(self, key: str, loader: _Loader) -> Any:
        """Load a value that is not cached, or wait until another process has loaded it."""
        token = secrets.token_hex(8)
        left = seconds_left()
        deadline, wait = self._now() + (self._load_wait if left is None else min(self._load_wait, left)), 0.005
        try:
            while True:
                locked = self._valkey.execute(("SET", f"{key}:lock", token, "NX", "PX", _LOCK_MS))
                cached = self._get(key)  # another process may have stored it between the first look and this lock
                if cached is not None:
                    if locked:
                        self._valkey.delete([f"{key}:lock"])
                    return cached.content
                if locked:
                    break
                if self._now() > deadline:
                    return loader.load()
                time.sleep(wait)
                wait = min(wait * 2, 0.05)
        except CacheUnavailable:
            return loader.load()
        return self._load_and_store(key, loader, token, known_version=b"")

    def _start_refresh(self, key: str, loader: _Loader, cached: _CachedValue) -> None:
        """Refresh a stale value in the background, unless another reader refreshes it already."""
        token = secrets.token_hex(8)
        try:
            locked = self._valkey.execute(("SET", f"{key}:lock", token, "NX", "PX", _LOCK_MS))
        except CacheUnavailable:
            return
        if locked:
            self._background(lambda: self._refresh(key, loader, token, cached.version))

    def _refresh(self, key: str, loader: _Loader, token: str, known_version: bytes) -> None:
        try:
            self._load_and_store(key, loader, token, known_version=known_version)
        except Exception as error:  # noqa: BLE001 - no caller waits for this load; once the value has expired a reader gets the error
            unexpected = not isinstance(error, Unavailable)
            _log.warning(
                "cache.refresh_failed: refreshing %s failed; serving the stale value: %s",
                key,
                error,
                exc_info=unexpected,
            )
            self._valkey.delete([f"{key}:lock"])

    def _load_and_store(self, key: str, loader: _Loader, token: str, *, known_version: bytes) -> Any:
        """Load a value and store it, unless the lock no longer holds the token."""
        try:
            content = loader.load()
        except BaseException:
            self._valkey.delete([f"{key}:lock"])
            raise
        value, seconds = loader.encode(content, loader.ttl)
        negative = int(value[_KIND_AT : _KIND_AT + 1] == _NONE)
        try:
            self._valkey.execute(
                STORE_LOADED.on([key, f"{key}:lock"], token, value, _ms(seconds), known_version, negative)
            )
        except CacheUnavailable:
            _log.debug("cache.not_filled: storing %s failed", key)
        return content

    def _get(self, key: str) -> _CachedValue | None:
        """Return a cached value; one that does not decode is deleted."""
        value = self._valkey.execute(("GET", key))
        if value is None:
            return None
        kind, until, payload = value[_KIND_AT : _KIND_AT + 1], value[_KIND_AT + 1 : _BODY_AT], value[_BODY_AT:]
        content = _content(kind, payload)
        if not until.isdigit() or not value[:_KIND_AT].isdigit() or (content is None and kind != _NONE):
            _log.warning("cache.damaged: could not decode %s; deleted it, and it will be loaded again", key)
            self._valkey.execute(("UNLINK", key))
            return None
        return _CachedValue(value[:_KIND_AT], content, self._now() * 1000 < int(until))

    def _encode_item(self, found: tuple[Item, int] | None, ttl: float) -> tuple[bytes, float]:
        if found is None:
            return self._encode_value(0, _NONE, b"", self._negative_ttl), self._negative_ttl
        item, version = found
        return self._encode_value(version, _ITEM, encode(item, version), ttl), self._seconds_to_live([item], ttl)

    def _encode_page(self, page: CachedPage, ttl: float) -> tuple[bytes, float]:
        payload = encode_many([page.last_key or {}, *page.items], 0)
        return self._encode_value(0, _PAGE, payload, ttl), self._seconds_to_live(page.items, ttl)

    def _encode_value(self, version: int, kind: bytes, payload: bytes, ttl: float) -> bytes:
        fresh = self._now() + ttl * random.uniform(0.9, 1.1)  # noqa: S311 - spreads refreshes, keeps no secret
        return b"%s%s%013d%s" % (version_text(version).encode(), kind, int(fresh * 1000), payload)

    def _seconds_to_live(self, items: Iterable[Item], ttl: float) -> float:
        """Return how long a value may be stored: some TTLs, but not beyond the first expiry of an item in it."""
        ends = [
            end - self._now() for item in items if (end := expires_at(item)) is not None and not self._expired(item)
        ]
        return min([ttl * _STALE_FACTOR, *ends])

    def _expired(self, item: Item) -> bool:
        end = expires_at(item)
        return end is not None and end <= self._now()

    def _count(self, name: str, pattern: str | None) -> Counts:
        return self.counts.setdefault(pattern or name.partition(":")[0], Counts())

    def _enqueue(self, refresh: Callable[[], None]) -> None:
        """Have the background worker run a refresh."""
        self._worker.put(_run_all, (refresh,))


def _run_all(refreshes: Sequence[Callable[[], None]]) -> None:
    for refresh in refreshes:
        refresh()


def _content(kind: bytes, payload: bytes) -> Any:
    """Return the item or page in a value; None for a negative one, and where it does not decode."""
    if kind == _ITEM:
        return decode(payload)
    if kind != _PAGE:
        return None
    many = decode_many(payload)
    if many is None or not many[0] or not all(map(_has_keys, many[0][1:])):
        return None
    last_key, *items = many[0]
    return CachedPage(tuple(items), last_key or None)


def _has_keys(item: Any) -> bool:
    try:
        return isinstance(sort_key(item), str) and isinstance(item["PK"]["S"], str)
    except (ValidationError, AttributeError, LookupError, TypeError):
        return False


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
