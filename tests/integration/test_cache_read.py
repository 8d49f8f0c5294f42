"""Read-through: one load for many readers, nothing older or expired, and no error from a cache that is down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentmodel.cache import CachedPage, Counts, ReadThrough, Valkey
from agentmodel.cache._item_codec import Item
from agentmodel.config import Settings
from agentmodel.exceptions import TableUnavailable

PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}
NAME = "agent:AGT001"


def item(note: str = "", *, expires: int | None = None) -> Item:
    made: Item = {"PK": {"S": "AGT001"}, "SK": {"S": "METADATA"}, "Note": {"S": note}}
    if expires is not None:
        made["ExpiresAt"] = {"N": str(expires)}
    return made


def never() -> Any:
    raise AssertionError("the cache should have answered")


class Clock:
    def __init__(self, valkey: Valkey) -> None:
        self.now = float(valkey.execute(("TIME",))[0])

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def clock(valkey: Valkey) -> Clock:
    return Clock(valkey)


@pytest.fixture
def later() -> list[Callable[[], None]]:
    """Refreshes that were started; the test runs them."""
    return []


@pytest.fixture
def cache(valkey: Valkey, clock: Clock, later: list[Callable[[], None]]) -> Iterator[ReadThrough]:
    with ReadThrough(valkey, now=clock, background=later.append) as made:
        yield made


class TestItem:
    def test_loaded_once(self, cache: ReadThrough) -> None:
        """The first read loads, the second is served, with the version, and both are counted by pattern."""
        assert (item("a"), 7) == cache.item(NAME, lambda: (item("a"), 7))
        assert (item("a"), 7) == cache.item(NAME, never)
        assert {"agent": Counts(hits=1, misses=1)} == cache.counts

    def test_counted_by_pattern(self, cache: ReadThrough) -> None:
        """A read is counted under the access pattern that it is said to belong to."""
        cache.item(NAME, lambda: None, pattern="top_agents")

        assert {"top_agents": Counts(misses=1)} == cache.counts

    def test_nothing_is_remembered(self, cache: ReadThrough) -> None:
        """That there is nothing is remembered too, for a short time."""
        assert cache.item(NAME, lambda: None) is None
        assert cache.item(NAME, never) is None
        assert Counts(hits=1, misses=1, negative=1) == cache.counts["agent"]

    def test_created_item_is_seen_at_once(self, cache: ReadThrough) -> None:
        """An item written after it was found missing is read at once."""
        cache.item(NAME, lambda: None)
        cache.put(NAME, item("a"), 1)

        assert (item("a"), 1) == cache.item(NAME, never)

    def test_older_put_is_refused(self, cache: ReadThrough) -> None:
        """An older version never replaces a newer one."""
        cache.put(NAME, item("new"), 2)
        cache.put(NAME, item("old"), 1)

        assert (item("new"), 2) == cache.item(NAME, never)

    def test_load_that_was_overtaken(self, cache: ReadThrough) -> None:
        """A load that read the old version fills nothing when the new one was put meanwhile."""

        def load() -> tuple[Item, int]:
            cache.put(NAME, item("new"), 2)
            return item("old"), 1

        cache.item(NAME, load)

        assert (item("new"), 2) == cache.item(NAME, never)

    def test_nothing_that_was_overtaken(self, cache: ReadThrough) -> None:
        """A load that found nothing does not hide what was put meanwhile."""

        def load() -> None:
            cache.put(NAME, item("new"), 2)

        cache.item(NAME, load)

        assert (item("new"), 2) == cache.item(NAME, never)

    def test_invalidated_during_a_load(self, cache: ReadThrough) -> None:
        """What was read before an `invalidate` is not put back after it."""

        def load() -> tuple[Item, int]:
            cache.invalidate([NAME])
            return item("old"), 1

        cache.item(NAME, load)

        assert (item("new"), 2) == cache.item(NAME, lambda: (item("new"), 2))

    def test_failed_load_is_told_and_not_kept(self, cache: ReadThrough) -> None:
        """A load that raises is the caller's error; the next reader loads anew."""

        def load() -> None:
            raise TableUnavailable("throttled")

        with pytest.raises(TableUnavailable, match="throttled"):
            cache.item(NAME, load)

        assert (item("a"), 1) == cache.item(NAME, lambda: (item("a"), 1))

    @pytest.mark.parametrize("damage", [b"", b"x", b"0" * 34 + b"junk", b"0" * 20 + b"P" + b"9" * 13 + b"junk"])
    def test_damaged_value(self, cache: ReadThrough, valkey: Valkey, damage: bytes) -> None:
        """A value that does not decode is dropped and loaded again."""
        valkey.execute(("SET", "am:r:{agent:AGT001}", damage))

        assert (item("a"), 1) == cache.item(NAME, lambda: (item("a"), 1))
        assert (item("a"), 1) == cache.item(NAME, never)


class TestPage:
    def test_page(self, cache: ReadThrough) -> None:
        """A page comes back with its items in their order and its last key."""
        page = CachedPage((item("b"), item("a")), {"PK": {"S": "x"}})

        assert page == cache.page("agents:DMN001", lambda: page)
        assert page == cache.page("agents:DMN001", never)

    def test_empty_page(self, cache: ReadThrough) -> None:
        """A page without items is a page."""
        cache.page("agents:DMN001", lambda: CachedPage(()))

        assert CachedPage(()) == cache.page("agents:DMN001", never)

    def test_expired_items_are_left_out(self, cache: ReadThrough, clock: Clock) -> None:
        """A page never shows an item whose time has come, whether loaded or near."""
        end = int(clock.now) + 2
        page = CachedPage((item("a", expires=end), item("b"), item("old", expires=1)))

        assert CachedPage(page.items[:2]) == cache.page("p:1", lambda: page)

        clock.now += 2

        assert CachedPage(page.items[1:2]) == cache.page("p:1", lambda: page)


class TestTime:
    def test_expired_item(self, cache: ReadThrough, clock: Clock, valkey: Valkey) -> None:
        """An expired item is nothing, and Valkey does not keep it beyond its expiry."""
        end = int(clock.now) + 2
        cache.item(NAME, lambda: (item(expires=end), 1))

        assert end * 1000 >= valkey.execute(("PEXPIRETIME", "am:r:{agent:AGT001}")) - 1000

        clock.now += 2

        assert cache.item(NAME, lambda: (item(expires=end), 1)) is None

    def test_stale_value_is_served_and_refreshed_once(
        self, cache: ReadThrough, clock: Clock, later: list[Callable[[], None]]
    ) -> None:
        """After its TTL a value is still served, and one refresh is started however many read it."""
        cache.item(NAME, lambda: (item("old"), 1))
        clock.now += 400
        seen = [cache.item(NAME, lambda: (item("new"), 2)) for _ in range(3)]

        assert [(item("old"), 1)] * 3 == seen
        assert (3, 1) == (cache.counts["agent"].stale, len(later))

        later[0]()

        assert (item("new"), 2) == cache.item(NAME, never)

    def test_refreshes_are_spread(self, cache: ReadThrough, clock: Clock) -> None:
        """Values that were filled at the same moment go stale at different ones, a tenth of the TTL around it."""
        filled = clock.now
        stale = []
        for number in range(100):
            cache.item(f"agent:{number}", lambda: (item(), 1))
        for part in (0.89, 1.0, 1.11):
            clock.now = filled + 300 * part
            before = cache.counts["agent"].stale
            for number in range(100):
                cache.item(f"agent:{number}", never)
            stale.append(cache.counts["agent"].stale - before)

        assert (0, 100) == (stale[0], stale[2])
        assert 0 < stale[1] < 100

    def test_refresh_finds_it_deleted(self, cache: ReadThrough, clock: Clock, later: list[Callable[[], None]]) -> None:
        """A refresh that finds nothing takes the stale value away."""
        cache.item(NAME, lambda: (item("old"), 1))
        clock.now += 400
        cache.item(NAME, lambda: None)
        later[0]()

        assert cache.item(NAME, never) is None

    def test_failed_refresh(
        self, cache: ReadThrough, clock: Clock, later: list[Callable[[], None]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refresh that fails is logged; the stale value is served on, and the next reader tries again."""
        cache.item(NAME, lambda: (item("old"), 1))
        clock.now += 400

        def fail() -> None:
            raise TableUnavailable("throttled")

        cache.item(NAME, fail)
        later[0]()

        assert (item("old"), 1) == cache.item(NAME, fail)
        assert (2, True) == (len(later), "cache.refresh_failed" in caplog.text)

    def test_own_threads(self, valkey: Valkey, clock: Clock) -> None:
        """Without a helper of the caller's, refreshes run in threads that `close` waits for."""
        refreshed = threading.Event()

        def load() -> tuple[Item, int]:
            refreshed.set()
            return item("new"), 2

        with ReadThrough(valkey, now=clock) as cache:
            cache.put(NAME, item("old"), 1)
            clock.now += 400
            cache.item(NAME, load)

            assert refreshed.wait(10)


class TestMany:
    def test_threads_share_one_load(self, cache: ReadThrough) -> None:
        """Twelve threads that miss at once load once."""
        loads, gate = [], threading.Barrier(12)

        def load() -> tuple[Item, int]:
            loads.append(1)
            return item("a"), 1

        def read(_: int) -> Any:
            gate.wait()
            return cache.item(NAME, load)

        with ThreadPoolExecutor(12) as pool:
            seen = list(pool.map(read, range(12)))

        assert [(item("a"), 1)] * 12 == seen
        assert 1 == len(loads)

    def test_processes_share_one_load(self, valkey: Valkey, cache: ReadThrough) -> None:
        """Another process that misses meanwhile waits for the first one's load."""
        with Valkey(valkey.settings) as own, ReadThrough(own, load_wait=20) as other, ThreadPoolExecutor(1) as pool:
            waiting: list[Any] = []

            def load() -> tuple[Item, int]:
                waiting.append(pool.submit(other.item, NAME, never))
                return item("a"), 1

            cache.item(NAME, load)

            assert (item("a"), 1) == waiting[0].result(20)

    def test_nobody_waits_for_ever(self, valkey: Valkey, cache: ReadThrough) -> None:
        """Where the other process died while loading, a reader loads by itself after its patience."""
        valkey.execute(("SET", "am:r:{agent:AGT001}:lock", "a dead one's", "PX", 60_000))
        with ReadThrough(valkey, load_wait=0) as impatient:
            assert (item("a"), 1) == impatient.item(NAME, lambda: (item("a"), 1))


class TestOutage:
    def test_reads_work(self, valkey: Valkey, cache: ReadThrough) -> None:
        """With Valkey down every read is answered by the table, without an error."""
        valkey.breaker._start = lambda _: None
        valkey.breaker.record_failure("pulled the plug")

        assert (item("a"), 1) == cache.item(NAME, lambda: (item("a"), 1))
        assert CachedPage((item("a"),)) == cache.page("p:1", lambda: CachedPage((item("a"),)))
        assert [1, 1] == [counts.unavailable for counts in cache.counts.values()]

    def test_what_was_written_meanwhile_is_read_after_it(self, valkey: Valkey, cache: ReadThrough) -> None:
        """Values that were put or invalidated during an outage are gone when Valkey is back."""
        cache.put("agent:A", item("old"), 1)
        cache.put("agent:B", item("old"), 1)
        valkey.breaker._start = lambda _: None
        valkey.breaker.record_failure("pulled the plug")
        cache.put("agent:A", item("new"), 2)
        cache.invalidate(["agent:B"])
        valkey.breaker._run_probe()

        assert (item("new"), 2) == cache.item("agent:A", lambda: (item("new"), 2))
        assert (item("new"), 2) == cache.item("agent:B", lambda: (item("new"), 2))
