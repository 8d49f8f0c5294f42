"""A user's own writes are read back at once, drained or not, and copies never hide what is newer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from agentmodel.cache import Drainer, Entry, Journal, UserCache, Valkey
from agentmodel.cache._item_codec import Item, version_of
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable

P = "USR001"
PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}
NEVER = "the copy should have answered"


def item(sk: str, version: int = 1, *, expires: int | None = None, note: str = "") -> Item:
    made: Item = {"PK": {"S": P}, "SK": {"S": sk}, "Version": {"N": str(version)}, "Note": {"S": note}}
    if expires is not None:
        made["ExpiresAt"] = {"N": str(expires)}
    return made


class FakeTable:
    """A table in memory that counts its reads."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.reads = 0

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        for one in items:
            self.items[one["PK"]["S"], one["SK"]["S"]] = one
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        key = item["PK"]["S"], item["SK"]["S"]
        if key in self.items and version_of(self.items[key]) >= version:
            return False
        self.items[key] = item
        return True

    def load(self) -> Iterable[Item]:
        self.reads += 1
        return [one for (pk, _), one in self.items.items() if pk == P]

    def load_one(self, sk: str) -> Item | None:
        self.reads += 1
        return self.items.get((P, sk))


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def journal(valkey: Valkey) -> Journal:
    return Journal(valkey)


@pytest.fixture
def user_cache(valkey: Valkey) -> UserCache:
    return UserCache(valkey)


@pytest.fixture
def table() -> FakeTable:
    return FakeTable()


@pytest.fixture
def drainer(valkey: Valkey, table: FakeTable) -> Iterator[Drainer]:
    with Drainer(valkey, table) as made:
        yield made


def record(journal: Journal, *items: Item) -> None:
    journal.append([Entry(P, one, version_of(one), immutable=False) for one in items])


def sks(items: Iterable[Item]) -> list[str]:
    return [one["SK"]["S"] for one in items]


def no_load() -> list[Item]:
    raise AssertionError(NEVER)


class TestOrder:
    def test_own_writes_at_once(self, journal: Journal, user_cache: UserCache, table: FakeTable) -> None:
        """What is in the journal is read with what is in the table, sorted by sort key."""
        table.put_many([item("B")])
        record(journal, item("C"), item("A"))

        assert ["A", "B", "C"] == sks(user_cache.partition(P, P, table.load).found)
        assert ["A", "B", "C"] == sks(user_cache.partition(P, P, table.load, cached=False).found)
        assert {"A", "C"} == set(user_cache.pending(P, P))

    def test_drained_writes_stay_near(
        self, journal: Journal, user_cache: UserCache, table: FakeTable, drainer: Drainer
    ) -> None:
        """Draining moves an item from the overlay into a copy that is complete; the table is not asked again."""
        user_cache.partition(P, P, table.load)
        record(journal, item("A"))
        drainer.drain()

        assert ["A"] == sks(user_cache.partition(P, P, no_load).found)
        assert {} == user_cache.pending(P, P)
        assert {"hit": 1, "miss": 1} == user_cache.counts

    def test_new_partition_needs_no_table(self, journal: Journal, user_cache: UserCache, drainer: Drainer) -> None:
        """A session that was just made is served from Valkey from its first item on."""
        journal.register_numbers(P, P, {}, new=True)
        record(journal, item("A"))
        drainer.drain()

        assert ["A"] == sks(user_cache.partition(P, P, no_load).found)

    def test_newer_version_wins(self, journal: Journal, user_cache: UserCache, table: FakeTable) -> None:
        """The newer version of an item is returned, wherever it lies."""
        table.put_many([item("A", 5, note="table"), item("B", 1, note="table")])
        record(journal, item("A", 4, note="journal"), item("B", 2, note="journal"))

        assert ["table", "journal"] == [one["Note"]["S"] for one in user_cache.partition(P, P, table.load).found]

    def test_code_point_order(self, journal: Journal, user_cache: UserCache) -> None:
        """The order is DynamoDB's: by UTF-8 bytes, so beyond the basic plane too."""
        record(journal, *(item(sk) for sk in ("\U0001f600", "\uff5e", "z", "한")))

        assert ["z", "한", "\uff5e", "\U0001f600"] == sks(user_cache.partition(P, P, list).found)

    def test_one_item(self, journal: Journal, user_cache: UserCache, table: FakeTable, drainer: Drainer) -> None:
        """One item is read in the same order: overlay, copy, table."""
        table.put_many([item("B", 1)])
        record(journal, item("A", 3))

        assert item("A", 3) == user_cache.item(P, P, "A", no_load).found  # type: ignore[arg-type]  # must not be called
        assert item("B", 1) == user_cache.item(P, P, "B", lambda: table.load_one("B")).found
        assert user_cache.item(P, P, "C", lambda: table.load_one("C")).found is None

        user_cache.partition(P, P, table.load)
        drainer.drain()

        assert item("A", 3) == user_cache.item(P, P, "A", no_load).found  # type: ignore[arg-type]  # must not be called
        assert user_cache.item(P, P, "C", no_load).found is None  # type: ignore[arg-type]  # a complete copy knows that too


class TestExpiry:
    def test_expired_items_are_never_returned(self, journal: Journal, valkey: Valkey, table: FakeTable) -> None:
        """An item whose time has come is gone from overlay, copy and table alike, to the second."""
        now = [1000.0]
        user_cache = UserCache(valkey, now=lambda: now[0])
        table.put_many([item("T", expires=1001)])
        record(journal, item("J", expires=1001), item("K", expires=1002))

        assert ["J", "K", "T"] == sks(user_cache.partition(P, P, table.load).found)

        now[0] = 1001.0

        assert ["K"] == sks(user_cache.partition(P, P, table.load).found)
        assert {"K"} == set(user_cache.pending(P, P))
        assert user_cache.item(P, P, "J", lambda: None).found is None

    def test_copy_does_not_outlive_its_items(self, user_cache: UserCache, valkey: Valkey, table: FakeTable) -> None:
        """Valkey drops a copy no later than the first expiry in it."""
        (seconds, _) = valkey.execute(("TIME",))
        table.put_many([item("A", expires=seconds + 100), item("B", expires=seconds + 9000)])
        user_cache.partition(P, P, table.load)

        assert seconds + 100 >= valkey.execute(("EXPIRETIME", "am:{36}:c:USR001"))

    def test_drained_item_shortens_the_copy(
        self, user_cache: UserCache, valkey: Valkey, table: FakeTable, journal: Journal, drainer: Drainer
    ) -> None:
        """An item that joins a copy by draining brings its expiry along."""
        (seconds, _) = valkey.execute(("TIME",))
        user_cache.partition(P, P, table.load)
        one = item("A", expires=seconds + 50)
        journal.append([Entry(P, one, 1, immutable=True, expires_at=seconds + 50)])
        drainer.drain()

        assert seconds + 50 == valkey.execute(("EXPIRETIME", "am:{36}:c:USR001"))


class TestFill:
    def test_drained_during_a_fill(
        self, journal: Journal, user_cache: UserCache, table: FakeTable, drainer: Drainer
    ) -> None:
        """What is drained after the table was read and before the copy is complete is in the copy."""
        record(journal, item("A"))

        def load() -> Iterable[Item]:
            before = list(table.load())
            drainer.drain()
            return before

        user_cache.partition(P, P, load)

        assert ["A"] == sks(user_cache.partition(P, P, no_load).found)

    def test_forgotten_during_a_fill(self, user_cache: UserCache, table: FakeTable) -> None:
        """What was read before a `forget` is not put back after it."""
        table.put_many([item("A")])

        def load() -> Iterable[Item]:
            before = list(table.load())
            table.items.clear()
            user_cache.invalidate(P, P)
            return before

        user_cache.partition(P, P, load)

        assert [] == user_cache.partition(P, P, table.load).found

    def test_two_fills_at_once(self, user_cache: UserCache, table: FakeTable) -> None:
        """Of two fills at once the older one's items do not hide the newer one's."""
        table.put_many([item("A", 1)])

        def load() -> Iterable[Item]:
            before = list(table.load())
            table.put_many([item("A", 2)])
            user_cache.partition(P, P, table.load)
            return before

        user_cache.partition(P, P, load)

        assert [item("A", 2)] == user_cache.partition(P, P, no_load).found

    def test_large_partitions_are_not_kept(self, valkey: Valkey, table: FakeTable) -> None:
        """A partition above the bound is read from the table each time, and still holds the journal's items."""
        user_cache = UserCache(valkey, max_items=3)
        table.put_many([item(f"A{n}") for n in range(4)])
        record(Journal(valkey), item("B"))

        assert [5, 5] == [len(user_cache.partition(P, P, table.load).found) for _ in range(2)]
        assert 2 == table.reads

    @pytest.mark.parametrize("damage", [b"", b"junk", b"0" * 60])
    def test_damaged_copy(self, user_cache: UserCache, table: FakeTable, valkey: Valkey, damage: bytes) -> None:
        """A copy with a value that does not decode is dropped and read again."""
        table.put_many([item("A"), item("B")])
        user_cache.partition(P, P, table.load)
        valkey.execute(("HSET", "am:{36}:c:USR001", "A", damage))

        assert ["A", "B"] == sks(user_cache.partition(P, P, table.load).found)
        assert ["A", "B"] == sks(user_cache.partition(P, P, no_load).found)


class TestWrittenAround:
    def test_direct_write_joins_the_copy(self, user_cache: UserCache, table: FakeTable) -> None:
        """A write that went straight to the table is in the copy at once, an older one is not."""
        user_cache.partition(P, P, table.load)
        user_cache.put(P, [item("A", 5), item("A", 4)])

        assert [item("A", 5)] == user_cache.partition(P, P, no_load).found

    def test_numbers_are_read_again(self, user_cache: UserCache, journal: Journal, valkey: Valkey) -> None:
        """After a direct write Valkey no longer claims to know the partition's numbers."""
        journal.register_numbers(P, P, {})
        user_cache.put(P, [item("A", 5)])

        assert 0 == valkey.execute(("EXISTS", "am:{36}:n:USR001"))

    def test_outage(self, valkey: Valkey, user_cache: UserCache, table: FakeTable) -> None:
        """Reads work through an outage, and what was written in it is read once Valkey is back."""
        user_cache.partition(P, P, table.load)
        asked: list[Any] = []
        valkey.breaker._start = asked.append  # the probe runs when the test says so
        valkey.breaker.record_failure("pulled the plug")
        table.put_many([item("A", 5)])
        user_cache.put(P, [item("A", 5)])

        assert [item("A", 5)] == user_cache.partition(P, P, table.load).found
        assert item("A", 5) == user_cache.item(P, P, "A", lambda: table.load_one("A")).found
        assert 2 == user_cache.counts["unavailable"]
        with pytest.raises(CacheUnavailable, match="pulled the plug"):
            user_cache.partition(P, P, table.load, cached=False)
        with pytest.raises(CacheUnavailable):
            user_cache.pending(P, P)

        valkey.breaker._run_probe()

        assert [item("A", 5)] == user_cache.partition(P, P, table.load).found

    def test_stale_drain_drops_the_copy(
        self, journal: Journal, user_cache: UserCache, table: FakeTable, drainer: Drainer
    ) -> None:
        """An entry that meets a newer version in the table does not enter the copy."""
        user_cache.partition(P, P, table.load)
        record(journal, item("A", 3))
        table.put_many([item("A", 9)])
        drainer.drain()

        assert [item("A", 9)] == user_cache.partition(P, P, table.load).found


class TestRace:
    def test_reader_writer_and_drainer_at_once(self, valkey: Valkey, journal: Journal, table: FakeTable) -> None:
        """Whatever was acknowledged before a read began is in it, while a drainer drains and copies come and go."""
        user_cache, done, missed = UserCache(valkey), threading.Event(), []

        def drain() -> None:
            with Drainer(valkey, table, workers=1) as drainer:
                while not done.is_set():
                    drainer.drain()

        def evict() -> None:
            while not done.is_set():
                valkey.execute(("UNLINK", "am:{36}:c:USR001"))

        threads = [threading.Thread(target=work) for work in (drain, evict)]
        for thread in threads:
            thread.start()
        try:
            for n in range(150):
                record(journal, item(f"A{n:03d}"))
                seen = user_cache.partition(P, P, lambda: list(table.items.copy().values())).found
                if len(seen) != n + 1:
                    missed.append((n, len(seen)))
        finally:
            done.set()
            for thread in threads:
                thread.join()

        assert [] == missed
