"""Read-through for what everybody shares: domains, agents, tools, mappings.

A value is fresh for its TTL, then stale: still served while one reader refreshes it in the background, and gone after
some more time. One reader loads at a time, in this process and among all; whoever loads holds a token, and deleting a
value takes the token away, so that nothing read before an `invalidate` is put back after it. A newer version is never
replaced by an older one.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, decode, decode_many, encode, encode_many, expires_at, version_text
from agentmodel.cache.keyspace import Keyspace
from agentmodel.cache.scripts import PUT, STORE
from agentmodel.exceptions import CacheUnavailable

__all__ = ["Counts", "Page", "ReadThrough"]

_STALE_FACTOR = 4  # how many TTLs a value is served at most while its refreshes fail
_LOCK_MS = 10_000
_KIND_AT, _BODY_AT = 20, 34  # <version, 20><kind, 1><fresh until, ms, 13><payload>
_ITEM, _NONE, _PAGE = b"P", b"N", b"L"
_log = logging.getLogger("agentmodel.cache")


class Page(NamedTuple):
    """Some items of a query.

    Attributes:
        items: In the order of the query.
        last: ``LastEvaluatedKey``; None on the last page.
    """

    items: tuple[Item, ...]
    last: Item | None = None


@dataclass(slots=True)
class Counts:
    """How reads of one access pattern went.

    Attributes:
        hits: Fresh values, with those that say there is nothing.
        misses: Values that had to be loaded.
        stale: Values served although their TTL had passed.
        negative: Hits that said there is nothing.
        unavailable: Reads without Valkey.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    negative: int = 0
    unavailable: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A value as it lies in Valkey; ``content`` is None for a negative entry."""

    version: bytes
    content: Any
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of value is loaded, framed and read."""

    load: Callable[[], Any]
    frame: Callable[[Any, float], tuple[bytes, float]]
    ttl: float


class ReadThrough:
    """Serves items and pages from Valkey and loads what is not there.

    Args:
        valkey: The connection.
        prefix: First part of every key; from the settings by default.
        item_ttl: Seconds an item is fresh, give or take a tenth.
        page_ttl: Seconds a page is fresh, likewise.
        negative_ttl: Seconds for which "there is nothing" is believed.
        patience: Seconds to wait for another process that loads the same value.
        now: Epoch seconds.
        background: Runs a refresh; two threads of its own by default.
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        prefix: str | None = None,
        item_ttl: float = 300.0,
        page_ttl: float = 60.0,
        negative_ttl: float = 5.0,
        patience: float = 0.5,
        now: Callable[[], float] = time.time,
        background: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._valkey = valkey
        self._keys = Keyspace(prefix or valkey.settings.valkey_prefix, valkey.settings.shards)
        self._item_ttl, self._page_ttl, self._negative_ttl = item_ttl, page_ttl, negative_ttl
        self._patience = patience
        self._now = now
        self._pool: ThreadPoolExecutor | None = None
        self._background = background or self._in_pool
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Any]] = {}
        self.counts: dict[str, Counts] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for refreshes that are under way."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def item(
        self,
        name: str,
        load: Callable[[], tuple[Item, int] | None],
        *,
        pattern: str | None = None,
        ttl: float | None = None,
    ) -> tuple[Item, int] | None:
        """An item with its version, or None where there is none.

        Args:
            name: Of the value; the same for every process.
            load: Reads it from the table.
            pattern: Under what it is counted; the name up to its first ``:`` by default.
            ttl: Seconds it is fresh.
        """
        kind = _Kind(load, self._framed_item, ttl or self._item_ttl)
        found: tuple[Item, int] | None = self._read(name, kind, self._count(name, pattern))
        if found is not None and self._expired(found[0]):
            return None
        return found

    def page(
        self, name: str, load: Callable[[], Page], *, pattern: str | None = None, ttl: float | None = None
    ) -> Page:
        """A page of a query, without expired items. Arguments as for `item`."""
        kind = _Kind(load, self._framed_page, ttl or self._page_ttl)
        found: Page = self._read(name, kind, self._count(name, pattern))
        return Page(tuple(item for item in found.items if not self._expired(item)), found.last)

    def put(self, name: str, item: Item, version: int) -> None:
        """An item was just written: its copy follows, unless a newer one is there.

        Where Valkey does not answer, the copy is dropped once it is back.
        """
        value, seconds = self._framed_item((item, version), self._item_ttl)
        key = self._keys.near(name)
        try:
            self._valkey.one(PUT.on([key], value, _ms(seconds)))
        except CacheUnavailable:
            self._valkey.forget([key])

    def invalidate(self, names: Iterable[str]) -> None:
        """Values that are no longer right; who is loading one of them will not put it back.

        Where Valkey does not answer, it happens before anything else once it is back.
        """
        keys = [self._keys.near(name) for name in names]
        self._valkey.forget([*keys, *(f"{key}:lock" for key in keys)])

    def _read(self, name: str, kind: _Kind, counts: Counts) -> Any:
        key = self._keys.near(name)
        try:
            held = self._held(key)
        except CacheUnavailable:
            counts.unavailable += 1
            return kind.load()
        if held is None:
            counts.misses += 1
            return self._single(key, lambda: self._cold(key, kind))
        if held.fresh:
            counts.hits += 1
            counts.negative += held.content is None
        else:
            counts.stale += 1
            self._refresh_once(key, kind, held)
        return held.content

    def _single(self, key: str, work: Callable[[], Any]) -> Any:
        """Runs ``work`` once for all threads that ask at the same time."""
        with self._lock:
            flight = self._flights.get(key)
            mine = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not mine:
            return flight.result()
        try:
            flight.set_result(work())
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return flight.result()

    def _cold(self, key: str, kind: _Kind) -> Any:
        token = secrets.token_hex(8)
        deadline, wait = self._now() + self._patience, 0.005
        try:
            while True:
                mine = self._valkey.one(("SET", f"{key}:lock", token, "NX", "PX", _LOCK_MS))
                held = self._held(key)  # who loaded between our look and our lock has filled it
                if held is not None:
                    if mine:
                        self._valkey.forget([f"{key}:lock"])
                    return held.content
                if mine:
                    break
                if self._now() > deadline:
                    return kind.load()
                time.sleep(wait)
                wait = min(wait * 2, 0.05)
        except CacheUnavailable:
            return kind.load()
        return self._loaded(key, kind, token, seen=b"")

    def _refresh_once(self, key: str, kind: _Kind, held: _Held) -> None:
        token = secrets.token_hex(8)
        try:
            mine = self._valkey.one(("SET", f"{key}:lock", token, "NX", "PX", _LOCK_MS))
        except CacheUnavailable:
            return
        if mine:
            self._background(lambda: self._refreshed(key, kind, token, held.version))

    def _refreshed(self, key: str, kind: _Kind, token: str, seen: bytes) -> None:
        try:
            self._loaded(key, kind, token, seen=seen)
        except Exception:  # noqa: BLE001 - nobody waits for this load; once the value is gone a reader meets the error
            _log.warning("cache.refresh_failed: %s", key, exc_info=True)
            self._valkey.forget([f"{key}:lock"])

    def _loaded(self, key: str, kind: _Kind, token: str, *, seen: bytes) -> Any:
        try:
            content = kind.load()
        except BaseException:
            self._valkey.forget([f"{key}:lock"])
            raise
        value, seconds = kind.frame(content, kind.ttl)
        negative = int(value[_KIND_AT : _KIND_AT + 1] == _NONE)
        try:
            self._valkey.one(STORE.on([key, f"{key}:lock"], token, value, _ms(seconds), seen, negative))
        except CacheUnavailable:
            _log.debug("cache.not_filled: %s", key)
        return content

    def _held(self, key: str) -> _Held | None:
        value = self._valkey.one(("GET", key))
        if value is None:
            return None
        kind, until, payload = value[_KIND_AT : _KIND_AT + 1], value[_KIND_AT + 1 : _BODY_AT], value[_BODY_AT:]
        content = _content(kind, payload)
        if not until.isdigit() or (content is None and kind != _NONE):
            _log.warning("cache.damaged: %s does not decode and is loaded again", key)
            self._valkey.one(("UNLINK", key))
            return None
        return _Held(value[:_KIND_AT], content, self._now() * 1000 < int(until))

    def _framed_item(self, found: tuple[Item, int] | None, ttl: float) -> tuple[bytes, float]:
        if found is None:
            return self._framed(0, _NONE, b"", self._negative_ttl), self._negative_ttl
        item, version = found
        return self._framed(version, _ITEM, encode(item, version), ttl), self._seconds([item], ttl)

    def _framed_page(self, page: Page, ttl: float) -> tuple[bytes, float]:
        payload = encode_many([page.last or {}, *page.items], 0)
        return self._framed(0, _PAGE, payload, ttl), self._seconds(page.items, ttl)

    def _framed(self, version: int, kind: bytes, payload: bytes, ttl: float) -> bytes:
        fresh = self._now() + ttl * random.uniform(0.9, 1.1)  # noqa: S311 - spreads refreshes, keeps no secret
        return b"%s%s%013d%s" % (version_text(version).encode(), kind, int(fresh * 1000), payload)

    def _seconds(self, items: Iterable[Item], ttl: float) -> float:
        """How long a value may lie there: some TTLs, and not beyond the first expiry in it."""
        ends = [
            end - self._now() for item in items if (end := expires_at(item)) is not None and not self._expired(item)
        ]
        return min([ttl * _STALE_FACTOR, *ends])

    def _expired(self, item: Item) -> bool:
        end = expires_at(item)
        return end is not None and end <= self._now()

    def _count(self, name: str, pattern: str | None) -> Counts:
        return self.counts.setdefault(pattern or name.partition(":")[0], Counts())

    def _in_pool(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(2, thread_name_prefix="agentmodel-refresh")
            self._pool.submit(work)


def _content(kind: bytes, payload: bytes) -> Any:
    if kind == _ITEM:
        return decode(payload)
    if kind != _PAGE:
        return None
    many = decode_many(payload)
    if many is None or not many[0]:
        return None
    first, *items = many[0]
    return Page(tuple(items), first or None)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
