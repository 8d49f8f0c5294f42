"""Networks that fail, records that kill, eviction: tried many times, nothing acknowledged is lost or overwritten.

The trials are those of `tests.integration.test_cache_faults`; each has its mutant here too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentmodel.cache import Drainer, Entry, Journal, UserCache, Valkey
from agentmodel.cache._item_codec import Item, version_of
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable
from tests.integration.test_cache_faults import (
    MANY,
    POISON,
    TRIALS,
    Forker,
    SqliteTable,
    Trial,
    drained,
    item,
    settings,
)
from tests.integration.test_cache_outage import Proxy

SHORT = max(2, TRIALS // 5)
pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


def cut_off(url: str, folder: Path, seed: int, mutant: str = "") -> list[Any]:
    """One trial: resets, black holes, lost and cut replies between writer, drainer and Valkey; what is missing.

    Where Valkey does not answer, the writer puts its record into the table, as a recorder does.
    """
    table = SqliteTable(folder / f"{mutant}{seed}.db", conditional=mutant != "no_condition")
    port = urlsplit(url).port
    assert port is not None
    proxy = Proxy(port)
    quick = Settings(valkey_url=f"valkey://127.0.0.1:{proxy.port}", valkey_timeout=0.05, valkey_connect_timeout=0.05)
    with Valkey(settings(url)) as direct, Valkey(quick) as valkey, contextlib.closing(proxy):
        direct.execute(("FLUSHALL",))
        valkey.breaker._start = lambda _: None  # the trial probes itself
        trial = Trial(valkey, seed)

        def mended() -> None:
            proxy.fault("")
            valkey.breaker._run_probe()

        with Drainer(valkey, table, idle=0, shards=4, workers=1, deliveries=MANY) as drainer:
            for _ in range(40):
                if trial.random.random() < 0.3:
                    proxy.fault(trial.random.choice(("reset", "hole", "lose", "cut")))
                entry = trial.entry()
                try:
                    trial.journal.append([entry])
                except CacheUnavailable:
                    if mutant != "swallow":
                        table.put_newer(entry.item, entry.version)
                    mended()
                trial.acknowledged(entry)
                if trial.random.random() < 0.15:
                    try:
                        drainer.drain()
                    except CacheUnavailable:
                        mended()
            mended()
        drained(direct, table)
    return trial.lost(table)


class TestNetwork:
    def test_nothing_is_lost(self, valkey_url: str, tmp_path: Path) -> None:
        """Whatever the network does, what was acknowledged is in the table, and in its newest version."""
        assert [[]] * SHORT == [cut_off(valkey_url, tmp_path, seed) for seed in range(SHORT)]

    @pytest.mark.parametrize("mutant", ["swallow", "no_condition"])
    def test_mutants_are_caught(self, valkey_url: str, tmp_path: Path, mutant: str) -> None:
        """The same trials lose records of a writer that takes silence for a receipt, or when puts are unconditional."""
        assert any(cut_off(valkey_url, tmp_path, seed, mutant) for seed in range(60))

    @pytest.mark.long
    def test_sixty_trials(self, valkey_url: str, tmp_path: Path) -> None:
        """In sixty trials nothing is lost, and nothing older is left."""
        assert [[]] * 60 == [cut_off(valkey_url, tmp_path, seed) for seed in range(60)]


def poisoned(url: str, folder: Path, forker: Forker, seed: int, mutant: str = "") -> tuple[list[Any], list[str]]:
    """One trial: a record among others kills every drainer; what else is missing, and the dead letters."""
    path = folder / f"{mutant}{seed}.db"
    table = SqliteTable(path)
    with Valkey(settings(url)) as valkey:
        valkey.execute(("FLUSHALL",))
        trial = Trial(valkey, seed)
        trial.record(trial.random.randrange(5, 40))
        trial.clock += 1
        killer = item("USR1", POISON, trial.clock)
        trial.journal.append([Entry("USR1", killer, trial.clock, immutable=trial.random.random() < 0.5)])
        trial.record(trial.random.randrange(5, 40))
        for _ in range(12):
            if forker.drain(url, path, "poison", mutant=mutant) == "ended":
                break
        with Drainer(valkey, table, shards=4) as drainer:
            return trial.lost(table), [letter.sort for letter in drainer.dead()]


class TestPoison:
    def test_neighbours_arrive(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """A record that kills its drainers (kill -9) ends in the dead letters, and all others in the table."""
        assert [([], [POISON])] * SHORT == [poisoned(valkey_url, tmp_path, forker, seed) for seed in range(SHORT)]

    def test_mutant_without_isolation_is_caught(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """Were suspects not taken alone, the record would keep its neighbours from the table."""
        lost, _ = poisoned(valkey_url, tmp_path, forker, 0, "no_isolation")

        assert lost

    @pytest.mark.long
    def test_sixty_trials(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """In sixty trials nothing but the killer is missing."""
        assert [([], [POISON])] * 60 == [poisoned(valkey_url, tmp_path, forker, seed) for seed in range(60)]


class Memory:
    """A table in memory, which keeps items."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        for one in items:
            self.put_newer(one, version_of(one))
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        key = item["PK"]["S"], item["SK"]["S"]
        newer = version > version_of(self.items.get(key, {}))
        if newer:
            self.items[key] = item
        return newer

    def load(self, partition: str) -> list[Item]:
        """What it holds of a partition."""
        return [one for (pk, _), one in sorted(self.items.items()) if pk == partition]


def crowded(valkey: Valkey, seed: int, *, overlay_with_ttl: bool = False) -> tuple[list[Any], int, int]:
    """One trial at the server's limit of memory: what is missing, reads that missed something, and keys evicted."""
    valkey.execute(("FLUSHALL",))
    trial, table, user_cache, missed = Trial(valkey, seed), Memory(), UserCache(valkey, shards=4), 0
    for number in range(300):
        valkey.execute(("SET", f"filler:{number}", "x" * 1000, "EX", 10_000))
    used, evicted = (int(valkey.execute(("INFO",))[name]) for name in ("used_memory", "evicted_keys"))
    policy = trial.random.choice(("volatile-lru", "volatile-random", "volatile-ttl"))
    valkey.execute_many([("CONFIG", "SET", "maxmemory-policy", policy), ("CONFIG", "SET", "maxmemory", used)])
    with Drainer(valkey, table, idle=0, shards=4, workers=1) as drainer:
        for _ in range(150):
            entry = trial.entry()
            entry.item["ResultMsg"] = {"S": "y" * 2000}
            try:
                trial.journal.append([entry])
            except CacheUnavailable:  # nothing is left to evict: straight to the table, as a recorder does
                table.put_newer(entry.item, entry.version)
                user_cache.put(entry.owner, [entry.item])
            trial.acknowledged(entry)
            if overlay_with_ttl:
                for key in valkey.execute(("KEYS", "am:*:p:*")):
                    valkey.execute(("EXPIRE", key, 1000))
            if trial.random.random() < 0.05:
                drainer.drain()
            owner = f"USR{trial.random.randrange(8)}"
            read = {
                one["SK"]["S"]: version_of(one)
                for one in user_cache.partition(owner, owner, partial(table.load, owner)).found
            }
            missed += read != {sk: version for (pk, sk), version in trial.acked.items() if pk == owner}
        while drainer.drain().written:
            pass
    gone = int(valkey.execute(("INFO",))["evicted_keys"]) - evicted
    valkey.execute_many([("CONFIG", "SET", "maxmemory", 0), ("CONFIG", "SET", "maxmemory-policy", "noeviction")])
    there = {key: version_of(one) for key, one in table.items.items()}
    return [key for key, version in trial.acked.items() if there.get(key) != version], missed, gone


class TestEviction:
    @pytest.fixture
    def valkey(self, valkey_url: str) -> Iterator[Valkey]:
        with Valkey(settings(valkey_url)) as made:
            yield made
            made.execute_many([("CONFIG", "SET", "maxmemory", 0), ("CONFIG", "SET", "maxmemory-policy", "noeviction")])

    def test_nothing_is_lost(self, valkey: Valkey) -> None:
        """A server that evicts all it may loses no record, and no read misses one."""
        for seed in range(SHORT):
            lost, missed, gone = crowded(valkey, seed)

            assert ([], 0) == (lost, missed)
            assert gone > 0

    def test_mutant_whose_overlay_may_be_evicted_is_caught(self, valkey: Valkey) -> None:
        """The same trial misses records when the overlay has a TTL."""
        assert any(crowded(valkey, seed, overlay_with_ttl=True)[1] for seed in range(10))

    @pytest.mark.long
    def test_sixty_trials(self, valkey: Valkey) -> None:
        """In sixty trials of it nothing is lost, and no read misses anything."""
        assert [([], 0)] * 60 == [crowded(valkey, seed)[:2] for seed in range(60)]


class TestReadYourWrites:
    def missed(self, url: str, recent_of: Callable[[Valkey], UserCache]) -> int:
        """How many reads lack something that was acknowledged before they began, while a drainer drains."""
        with Valkey(settings(url)) as valkey:
            journal, user_cache, there, missed = Journal(valkey), recent_of(valkey), {}, 0

            class Memory:
                def put_many(self, items: Sequence[Item]) -> list[Item]:
                    there.update({one["SK"]["S"]: one for one in items})
                    return []

                def put_newer(self, item: Item, version: int) -> bool:
                    there[item["SK"]["S"]] = item
                    return True

            with Drainer(valkey, Memory(), workers=1) as drainer:
                for number in range(60):
                    journal.append([Entry("USR1", item("USR1", f"A{number:02d}", 1), 1, immutable=True)])
                    if number % 7 == 3:
                        drainer.drain()
                    if number % 11 == 5:
                        user_cache.invalidate("USR1", "USR1")
                    missed += (
                        len(user_cache.partition("USR1", "USR1", lambda: list(there.values())).found) != number + 1
                    )
            return missed

    def test_own_writes_are_read(self, valkey_url: str) -> None:
        """Every read holds all that was acknowledged before it."""
        assert 0 == self.missed(valkey_url, UserCache)

    def test_mutant_without_overlay_is_caught(self, valkey_url: str) -> None:
        """The same reads lack records when the overlay is left out."""

        def blind(valkey: Valkey) -> UserCache:
            made = UserCache(valkey)
            whole = valkey.execute_many

            def call(commands: Any) -> Any:
                replies = whole(commands)
                if [command[0] for command in commands] == ["HGETALL", "HGETALL"]:
                    replies[0] = {}
                return replies

            valkey.execute_many = call  # type: ignore[method-assign]  # the mutant
            return made

        assert self.missed(valkey_url, blind)
