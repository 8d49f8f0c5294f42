"""Cache, journal and drain together against a plain dict that is assumed right.

Hypothesis records, drains, kills drainers, forgets copies, writes around the cache, loses the cache and lets time pass,
in any order; after each step every read must be what the dict says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentmodel.cache import (
    Drainer,
    Entry,
    Journal,
    JournalReceipt,
    NumberClaim,
    NumbersUnknown,
    NumberTaken,
    UserCache,
    Valkey,
)
from agentmodel.cache._item_codec import Item, version_of
from agentmodel.config import Settings
from agentmodel.exceptions import TableUnavailable

OWNERS = ("USR1", "USR2")
SORTS = ("A", "B", "C")
FAMILY = "F"


class Table:
    """The table: conditional puts, expiry by nobody."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.down = False

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        if self.down:
            raise TableUnavailable("down")
        for one in items:
            self.items[one["PK"]["S"], one["SK"]["S"]] = one
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        if self.down:
            raise TableUnavailable("down")
        key = item["PK"]["S"], item["SK"]["S"]
        if key in self.items and version_of(self.items[key]) >= version:
            return False
        self.items[key] = item
        return True

    def load(self, owner: str) -> list[Item]:
        return [one for (pk, _), one in self.items.items() if pk == owner]


class Killed(BaseException):
    """The drainer's process is gone."""


class CacheMachine(RuleBasedStateMachine):
    url = ""
    calls: Bundle[str] = Bundle("calls")

    @initialize()
    def start(self) -> None:
        self.now = 1_000_000.0
        self.table = Table()
        self.truth: dict[str, dict[str, Item]] = {owner: {} for owner in OWNERS}
        self.numbers: dict[str, int] = {}
        self.version = 0
        self.valkey = Valkey(Settings(valkey_url=self.url, valkey_timeout=5.0, valkey_connect_timeout=5.0))
        self.valkey.breaker._start = lambda _: None
        self.valkey.execute(("FLUSHALL",))
        self.journal = Journal(self.valkey, shards=2)
        self.user_cache = self.made_recent()
        self.drainer = Drainer(self.valkey, self.table, shards=2, idle=0, workers=1, deliveries=10**6)

    def made_recent(self) -> UserCache:
        return UserCache(self.valkey, shards=2, now=lambda: self.now, max_items=6)

    def made(self, owner: str, sk: str, lives: int | None) -> Item:
        self.version += 1
        one: Item = {"PK": {"S": owner}, "SK": {"S": sk}, "Version": {"N": str(self.version)}}
        if lives is not None:
            one["ExpiresAt"] = {"N": str(int(self.now) + lives)}
        return one

    def append(self, owner: str, one: Item, claim: NumberClaim | None = None) -> Any:
        end = int(one["ExpiresAt"]["N"]) if "ExpiresAt" in one else None
        return self.journal.append(
            [Entry(owner, one, self.version, immutable=False, expires_at=end, number_claim=claim)]
        )[0]

    @rule(owner=st.sampled_from(OWNERS), sk=st.sampled_from(SORTS), lives=st.sampled_from([None, None, 5, 50]))
    def record(self, owner: str, sk: str, lives: int | None) -> None:
        one = self.made(owner, sk, lives)
        if self.valkey.available:
            assert isinstance(self.append(owner, one), JournalReceipt)
        elif not self.table.down:
            self.table.put_newer(one, self.version)
            self.user_cache.put(owner, [one])
        else:
            return
        self.truth[owner][sk] = one

    @rule(owner=st.sampled_from(OWNERS), sk=st.sampled_from(SORTS))
    def late_older_version(self, owner: str, sk: str) -> None:
        there = self.truth[owner].get(sk)
        if there is not None and self.valkey.available and version_of(there) > 1:
            old: Item = {**there, "Version": {"N": "1"}, "Note": {"S": "old"}}
            self.journal.append([Entry(owner, old, 1, immutable=False)])

    @rule(target=calls, number=st.integers(1, 9))
    def new_call(self, number: int) -> str:
        return f"call{number}"

    @rule(call=calls)
    def record_numbered(self, call: str) -> None:
        if not self.valkey.available:
            return
        number, owner = self.numbers.get(call, 1), OWNERS[0]
        for _ in range(12):
            one = self.made(owner, f"N{number:02d}", None)
            one["CallID"] = {"S": call}
            answer = self.append(owner, one, NumberClaim(FAMILY, call, number))
            if isinstance(answer, JournalReceipt):
                break
            if isinstance(answer, NumberTaken):
                number = answer.number
            else:
                assert isinstance(answer, NumbersUnknown)
                held = self.user_cache.partition(owner, owner, lambda: self.table.load(owner), cached=False).found
                numbered = {one["CallID"]["S"]: int(one["SK"]["S"][1:]) for one in held if "CallID" in one}
                self.journal.register_numbers(owner, owner, {FAMILY: numbered})
        else:
            raise AssertionError(f"{call} never got a number")
        assert number == self.numbers.setdefault(call, number), "a call's number changed"
        assert len(set(self.numbers.values())) == len(self.numbers), "two calls share a number"
        self.truth[owner][f"N{number:02d}"] = one

    @rule()
    def drain(self) -> None:
        if self.valkey.available and not self.table.down:
            self.drainer.drain()
            assert 0 == self.journal.stats().depth
            assert [] == self.drainer.dead()

    @rule()
    def drainer_dies_with_entries_in_hand(self) -> None:
        if self.valkey.available:
            self.drainer._group.read()
            self.drainer = Drainer(self.valkey, self.table, shards=2, idle=0, workers=1, deliveries=10**6)

    @rule()
    def drainer_dies_before_it_acknowledges(self) -> None:
        if self.valkey.available and not self.table.down:

            def die(written: Any, stale: Any) -> None:
                raise Killed

            self.drainer._group.acknowledge = die  # type: ignore[method-assign]  # a fault
            with contextlib.suppress(Killed):
                self.drainer.drain()
            self.drainer = Drainer(self.valkey, self.table, shards=2, idle=0, workers=1, deliveries=10**6)

    @rule(down=st.booleans())
    def table_changes(self, down: bool) -> None:
        self.table.down = down
        if down and self.valkey.available:
            with contextlib.suppress(TableUnavailable):
                self.drainer.drain()

    @rule(owner=st.sampled_from(OWNERS))
    def copies_are_evicted(self, owner: str) -> None:
        shard = self.user_cache._keys.shard(owner)
        if self.valkey.available:
            self.valkey.execute(("UNLINK", self.user_cache._keys.copy(shard, owner)))

    @rule(owner=st.sampled_from(OWNERS))
    def numbers_are_evicted(self, owner: str) -> None:
        shard = self.user_cache._keys.shard(owner)
        if self.valkey.available:
            self.valkey.execute(("UNLINK", self.user_cache._keys.numbers(shard, owner)))

    @rule(owner=st.sampled_from(OWNERS), sk=st.sampled_from(SORTS))
    def written_around(self, owner: str, sk: str) -> None:
        one = self.made(owner, sk, None)
        self.table.items[owner, sk] = one
        self.user_cache.put(owner, [one])
        self.truth[owner][sk] = one

    @rule()
    def valkey_goes_away(self) -> None:
        # what is undrained cannot be read then, and is not promised: drain first
        if self.valkey.available and not self.table.down:
            self.drainer.drain()
            self.valkey.breaker.record_failure("gone")

    @rule()
    def valkey_comes_back(self) -> None:
        if self.valkey.breaker.state == "open":
            self.valkey.breaker._run_probe()

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def reads_are_right(self) -> None:
        for owner in OWNERS:
            right = [one for _, one in sorted(self.truth[owner].items()) if self.alive(one)]
            found = self.user_cache.partition(owner, owner, lambda owner=owner: self.table.load(owner)).found  # type: ignore[misc]  # binds
            assert right == found
            for sk in SORTS:
                one = self.truth[owner].get(sk)
                wanted = one if one is not None and self.alive(one) else None
                assert (
                    wanted
                    == self.user_cache.item(
                        owner,
                        owner,
                        sk,
                        lambda owner=owner, sk=sk: self.table.items.get((owner, sk)),  # type: ignore[misc]  # binds
                    ).found
                )

    def alive(self, one: Item) -> bool:
        return "ExpiresAt" not in one or int(one["ExpiresAt"]["N"]) > self.now

    def teardown(self) -> None:
        if hasattr(self, "valkey"):
            self.valkey.breaker._run_probe()
            self.table.down = False
            self.drainer.drain()
            truth = {(owner, sk): one for owner, items in self.truth.items() for sk, one in items.items()}
            there = self.table.items
            self.valkey.close()
            assert truth == there


@pytest.fixture
def machine(valkey_url: str) -> type[CacheMachine]:
    CacheMachine.url = valkey_url
    return CacheMachine


def run(machine: type[CacheMachine], *, shrink: bool = True, examples: int = 30) -> None:
    phases = tuple(phase for phase in Phase if shrink or phase is Phase.generate)
    wanted = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=wanted)


def test_cache_is_the_dict(machine: type[CacheMachine]) -> None:
    """Whatever happens in whatever order, reads are those of a plain dict, and the table holds it in the end."""
    run(machine)


class NoOverlay(CacheMachine):
    """What is pending is not read."""

    def made_recent(self) -> UserCache:
        user_cache = super().made_recent()
        whole = self.valkey.execute_many

        def call(commands: Any) -> Any:
            replies = whole(commands)
            if [command[0] for command in commands] == ["HGETALL", "HGETALL"]:
                replies[0] = {}
            return replies

        self.valkey.execute_many = call  # type: ignore[method-assign]  # the mutant
        return user_cache


class NoRecall(CacheMachine):
    """Direct writes are not told to the cache."""

    def made_recent(self) -> UserCache:
        user_cache = super().made_recent()
        user_cache.put = lambda *_: None  # type: ignore[method-assign]  # the mutant
        return user_cache


class NoExpiry(CacheMachine):
    """Expired items are returned."""

    def made_recent(self) -> UserCache:
        user_cache = super().made_recent()
        user_cache._alive = lambda items: items  # type: ignore[method-assign]  # the mutant
        return user_cache


@pytest.mark.parametrize("mutant", [NoOverlay, NoRecall, NoExpiry])
def test_mutants_are_caught(valkey_url: str, mutant: type[CacheMachine]) -> None:
    """A cache that leaves out the overlay, direct writes or expiry is found out."""
    mutant.url = valkey_url

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run(mutant, shrink=False, examples=1000)
