"""Draining: everything arrives once, in its newest version, and what cannot arrive is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agentmodel.cache import Drained, Drainer, Entry, Journal, UserCache, Valkey
from agentmodel.cache import _drainer as drain_module
from agentmodel.cache._item_codec import Item, encode, version_of
from agentmodel.config import Settings
from agentmodel.exceptions import BatchIncomplete, CacheUnavailable, Rejected, TableUnavailable, ValidationError

PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}


def item(sk: str, version: int = 1, *, pk: str = "USR001") -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "Version": {"N": str(version)}}


class Table:
    """A table in memory that fails as it is told."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.poison: set[str] = set()
        self.down = False
        self.unprocessed: list[set[str]] = []
        self.batches: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        self.before()
        self.batches.append(len(items))
        if self.down:
            raise TableUnavailable("throttled")
        bad = [one["SK"]["S"] for one in items if one["SK"]["S"] in self.poison]
        if bad:
            raise Rejected(f"{bad[0]} is refused")
        left = self.unprocessed.pop() if self.unprocessed else set()
        for one in items:
            if one["SK"]["S"] not in left:
                self.items[one["PK"]["S"], one["SK"]["S"]] = one
        return [one for one in items if one["SK"]["S"] in left]

    def put_newer(self, item: Item, version: int) -> bool:
        self.before()
        if self.down:
            raise TableUnavailable("throttled")
        if item["SK"]["S"] in self.poison:
            raise ValidationError("item", item["SK"]["S"], "not this one")
        key = item["PK"]["S"], item["SK"]["S"]
        if key in self.items and version_of(self.items[key]) >= version:
            return False
        self.items[key] = item
        return True

    def versions(self) -> dict[str, int]:
        return {sk: version_of(one) for (_, sk), one in sorted(self.items.items())}


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def journal(valkey: Valkey) -> Journal:
    return Journal(valkey)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def drainer(valkey: Valkey, table: Table) -> Iterator[Drainer]:
    with Drainer(valkey, table) as made:
        yield made


def record(journal: Journal, *items: Item, immutable: bool = False) -> None:
    journal.append([Entry(one["PK"]["S"], one, version_of(one), immutable) for one in items])


class TestDrain:
    def test_everything_arrives(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """Entries of many users are written in few batches, and the journal is empty afterwards."""
        record(journal, *(item("A", pk=f"USR{n}") for n in range(1200)), immutable=True)
        seen: list[Drained] = []

        assert Drained(written=1200) == drainer.drain(progress=seen.append)
        assert (1200, 0) == (len(table.items), journal.stats().depth)
        assert 30 >= len(table.batches)
        assert 1200 == seen[-1].written

    def test_nothing_to_drain(self, drainer: Drainer) -> None:
        """An empty journal is drained."""
        assert Drained() == drainer.drain()

    def test_one_pass(self, journal: Journal, valkey: Valkey, table: Table) -> None:
        """A single pass takes a batch and says what is left."""
        record(journal, *(item(f"A{n:02d}") for n in range(30)), immutable=True)
        with Drainer(valkey, table, batch=20) as drainer:
            assert Drained(written=20, left=10) == drainer.drain(until_empty=False)

    def test_newest_version_arrives(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """Of several versions in the journal the newest is written; the others count as stale."""
        record(journal, item("A", 1), item("A", 2), item("A", 3))

        assert Drained(written=1, stale=2) == drainer.drain()
        assert {"A": 3} == table.versions()

    def test_older_entry_never_overwrites(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """An entry older than what the table has is acknowledged and changes nothing."""
        table.put_newer(item("A", 9), 9)
        record(journal, item("A", 3))

        assert Drained(stale=1) == drainer.drain()
        assert {"A": 9} == table.versions()

    def test_newer_record_during_the_drain_stays_pending(
        self, journal: Journal, drainer: Drainer, table: Table, valkey: Valkey
    ) -> None:
        """What is recorded while its older version is being drained is still read from the overlay."""
        record(journal, item("A", 1))
        table.before = lambda: record(journal, item("A", 2))
        drainer.drain(until_empty=False)

        assert {"A": item("A", 2)} == UserCache(valkey).pending("USR001", "USR001")

    @pytest.mark.parametrize("sk", ["A B", "A\0B", "", "한글 №1", "A\n 00000000000000000009 1 B"])
    @pytest.mark.parametrize("immutable", [False, True])
    def test_any_key(self, journal: Journal, drainer: Drainer, table: Table, sk: str, immutable: bool) -> None:
        """Spaces, control characters and other scripts in a key do not keep an entry from the table."""
        record(journal, item(sk), item("Z"), immutable=immutable)

        assert Drained(written=2) == drainer.drain()
        assert {sk: 1, "Z": 1} == table.versions()
        assert 0 == journal.stats().depth

    def test_foreign_expiry(self, drainer: Drainer, table: Table, valkey: Valkey) -> None:
        """An expiry that is none does not keep an entry in the journal."""
        fields = {"k": "USR001", "m": "A", "i": "1", "x": "quite soon", "d": encode(item("A"), 1)}
        valkey.execute(("XADD", "am:{36}:j", "*", *(part for pair in fields.items() for part in pair)))

        assert Drained(written=1) == drainer.drain()
        assert {"A": 1} == table.versions()


class TestSideBySide:
    """While one pass is written, the one before is acknowledged and the next one is taken."""

    def test_acknowledged_while_the_next_is_written(
        self, journal: Journal, table: Table, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first pass is acknowledged while the second one is written, and the sum is that of all."""
        record(journal, *(item(f"A{n:02d}") for n in range(24)), immutable=True)
        writing, met = threading.Event(), []

        def second() -> None:
            if len(table.batches) == 1:
                writing.set()

        with Drainer(valkey, table, batch=8) as drainer:
            settle = drainer._group.acknowledge

            def settling(written: Any, stale: Any) -> None:
                met.append(writing.wait(20))
                settle(written, stale)

            monkeypatch.setattr(drainer._group, "acknowledge", settling)
            table.before = second
            seen: list[Drained] = []

            assert Drained(written=24) == drainer.drain(progress=seen.append)

        assert [True] * len(met) == met
        assert [8, 16, 24] == sorted({one.written for one in seen})
        assert 0 == journal.stats().depth

    def test_writes_of_one_item_never_overlap(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """However many versions of an item are drained at once, one is written at a time, and the newest stays."""
        for version in range(1, 61):
            record(journal, item("A", version), item("B", version))
        in_flight: set[str] = set()
        overlaps = []
        whole = table.put_newer

        def put_newer(item: Item, version: int) -> bool:
            name = item["SK"]["S"]
            overlaps.append(name in in_flight)
            in_flight.add(name)
            written = whole(item, version)
            in_flight.discard(name)
            return written

        table.put_newer = put_newer  # type: ignore[method-assign]  # watched
        with Drainer(valkey, table, batch=8) as drainer:
            assert 120 == drainer.drain().done

        assert [False] * len(overlaps) == overlaps
        assert {"A": 60, "B": 60} == table.versions()

    def test_acknowledgement_that_fails(
        self, journal: Journal, table: Table, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When Valkey does not take an acknowledgement the caller is told, and another drainer acknowledges it all."""
        record(journal, *(item(f"A{n:02d}") for n in range(24)), immutable=True)

        def away(*_: Any) -> None:
            raise CacheUnavailable("away")

        with Drainer(valkey, table, batch=8) as drainer, monkeypatch.context() as patch:
            patch.setattr(drainer._group, "acknowledge", away)
            with pytest.raises(CacheUnavailable, match="away"):
                drainer.drain()

        assert 24 == journal.stats().depth
        with Drainer(valkey, table, idle=0) as other:
            assert Drained(written=24) == other.drain()

    def test_outage_of_the_second_pass(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """When the table fails in the second pass, the first one is acknowledged and counted all the same."""
        record(journal, *(item(f"A{n:02d}") for n in range(24)), immutable=True)

        def second() -> None:
            table.down = len(table.batches) == 1

        table.before = second
        seen: list[Drained] = []
        with Drainer(valkey, table, batch=8) as drainer:
            with pytest.raises(TableUnavailable):
                drainer.drain(progress=seen.append)

            assert (8, 16) == (seen[-1].written, journal.stats().depth)
            assert Drained(written=16) == drainer.drain()


class TestOutage:
    def test_table_down(self, journal: Journal, drainer: Drainer, table: Table, valkey: Valkey) -> None:
        """While the table is down everything stays, is read back, and arrives afterwards, however often it was tried."""
        record(journal, item("A"), item("B"))
        record(journal, item("C"), immutable=True)
        table.down = True
        for _ in range(8):
            with pytest.raises(TableUnavailable, match="throttled"):
                drainer.drain()

        assert 3 == journal.stats().depth
        assert {"A", "B", "C"} == set(UserCache(valkey).pending("USR001", "USR001"))

        table.down = False

        assert Drained(written=3) == drainer.drain()

    def test_outage_is_not_tried_for_each(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """A table that is down is not asked again for every entry that may change."""
        record(journal, *(item(f"A{n:02d}") for n in range(40)))
        table.down, tried = True, []
        table.before = lambda: tried.append(1)
        with Drainer(valkey, table, workers=1) as drainer, pytest.raises(TableUnavailable):
            drainer.drain()

        assert 2 >= len(tried)
        assert 40 == journal.stats().depth

    def test_unprocessed_items(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """What the table leaves unprocessed is written by the next pass."""
        record(journal, *(item(sk) for sk in "ABCD"), immutable=True)
        table.unprocessed = [{"B", "C"}]

        assert Drained(written=4) == drainer.drain()
        assert [4, 2] == table.batches

    def test_table_that_never_processes(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """A drain that gets nowhere ends and says what is left."""
        record(journal, item("A"), immutable=True)
        table.unprocessed = [{"A"}] * 3

        assert Drained(left=1) == drainer.drain()

    def test_suspect_that_is_never_processed(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """A drain also ends when the table leaves an entry unprocessed that is taken alone."""
        record(journal, item("A"), immutable=True)
        with Drainer(valkey, table, idle=0) as drainer:
            for _ in range(3):
                drainer._group.read()
            table.unprocessed = [{"A"}] * 3

            assert Drained(left=1) == drainer.drain()

    def test_incomplete_batch(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """A batch that was cut short by its deadline keeps what was written."""
        record(journal, item("A"), item("B"), immutable=True)
        whole = table.put_many

        def put_many(items: Sequence[Item]) -> list[Item]:
            table.put_many = whole  # type: ignore[method-assign]  # once
            whole(items[:1])
            raise BatchIncomplete(list(items[1:]), 1.0)

        table.put_many = put_many  # type: ignore[method-assign]  # a fault

        assert Drained(written=2) == drainer.drain()

    def test_sink_that_breaks(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """An error nobody foresaw is the caller's to see; nothing is acknowledged."""
        record(journal, item("A"))

        def broken() -> None:
            raise RuntimeError("a bug")

        table.before = broken
        with pytest.raises(RuntimeError, match="a bug"):
            drainer.drain()

        assert 1 == journal.stats().depth


class TestDeadDrainers:
    def test_adopted(self, journal: Journal, drainer: Drainer, table: Table, valkey: Valkey) -> None:
        """What a drainer took and never acknowledged is drained by another once it has been idle."""
        record(journal, *(item(sk) for sk in "ABC"))
        drainer._group.read()  # and dies here

        with Drainer(valkey, table, idle=60) as patient:
            assert Drained(left=3) == patient.drain()
        with Drainer(valkey, table, idle=0) as other:
            assert Drained(written=3) == other.drain()

    def test_own_entries_are_not_adopted(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """What is in flight here is not taken a second time."""
        record(journal, item("A"))
        taken, _, _ = drainer._group.read()

        assert (1, []) == (len(taken), drainer._group.read()[0])

    def test_killer_is_isolated(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """One record that kills every drainer goes to the dead letters; its neighbours all arrive."""
        record(journal, *(item(f"A{n:02d}", pk="USR001") for n in range(60)))
        killers = {"A30"}

        class Killed(BaseException):
            """The process is gone."""

        def put_newer(item: Item, version: int) -> bool:
            if item["SK"]["S"] in killers:
                raise Killed
            return plain(item, version)

        plain, table.put_newer = table.put_newer, put_newer  # type: ignore[method-assign]  # a fault
        total, deaths = Drained(), 0
        while journal.stats().depth and deaths < 20:
            drainer = Drainer(valkey, table, idle=0, workers=1, batch=1000)
            try:
                total = drainer.drain()
            except Killed:
                deaths += 1

        assert (59, 5) == (len(table.items), deaths)
        assert ["A30"] == [letter.sort for letter in drainer.dead()]
        assert "never acknowledged" in drainer.dead()[0].reason
        assert 1 == total.dead

    def test_zombie_acknowledges_late(self, journal: Journal, table: Table, valkey: Valkey, drainer: Drainer) -> None:
        """A drainer that was paused and overtaken neither takes a newer entry away nor writes over it."""
        record(journal, item("A", 1))

        def overtake() -> None:
            table.before = lambda: None
            with Drainer(valkey, table, idle=0) as other:
                other.drain()
            record(journal, item("A", 2))

        table.before = overtake
        drainer.drain(until_empty=False)

        assert {"A": item("A", 2)} == UserCache(valkey).pending("USR001", "USR001")
        assert Drained(written=1) == drainer.drain()
        assert {"A": 2} == table.versions()

    def test_closed_drainer_leaves_no_name(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """A drainer that ends takes its name out of the group, unless entries are still under it."""
        record(journal, item("A"), item("B"))
        with Drainer(valkey, table, name="busy", batch=8) as busy:
            busy._group.read()
        with Drainer(valkey, table, name="done", idle=60) as done:
            done.drain()
        consumers: Any = valkey.execute(("XINFO", "CONSUMERS", "am:{36}:j", "drain"))

        assert [b"busy"] == [one[1] for one in consumers]


class TestDeadLetters:
    def test_rejected_record(
        self, journal: Journal, drainer: Drainer, table: Table, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A record the table refuses is found in its batch, put aside with the reason and logged; the others arrive."""
        record(journal, *(item(f"A{n:02d}") for n in range(25)), immutable=True)
        record(journal, item("B1"), item("B2"))
        table.poison = {"A07", "B1"}

        assert Drained(written=25, dead=2) == drainer.drain()

        letters = {letter.sort: letter for letter in drainer.dead()}

        assert {"A07", "B1"} == set(letters)
        assert "A07 is refused" == letters["A07"].reason
        assert (item("B1"), "USR001", 1) == (letters["B1"].item, letters["B1"].partition, letters["B1"].version)
        assert 2 == journal.stats().dead == caplog.text.count("drain.dead")

    def test_retry(self, journal: Journal, drainer: Drainer, table: Table) -> None:
        """A dead letter that is retried is an entry again."""
        record(journal, item("A"))
        table.poison = {"A"}
        drainer.drain()
        (letter,) = drainer.dead()
        table.poison = set()

        assert drainer.retry(letter.id)
        assert not drainer.retry(letter.id)
        assert Drained(written=1) == drainer.drain()
        assert [] == drainer.dead()

    def test_drop(self, journal: Journal, drainer: Drainer, table: Table, valkey: Valkey) -> None:
        """Until it is dropped its writer reads a dead letter back; then it is gone everywhere."""
        record(journal, item("A"))
        table.poison = {"A"}
        drainer.drain()
        (letter,) = drainer.dead()

        assert {"A"} == set(UserCache(valkey).pending("USR001", "USR001"))
        assert drainer.drop(letter.id)
        assert not drainer.drop(letter.id)
        assert {} == UserCache(valkey).pending("USR001", "USR001")

    def test_entry_that_does_not_decode(self, drainer: Drainer, valkey: Valkey) -> None:
        """Bytes that are no entry go to the dead letters, not in circles."""
        valkey.execute(("XADD", "am:{36}:j", "*", "k", "USR001", "m", "A", "d", "junk"))
        valkey.execute(("XADD", "am:{36}:j", "*", "what", "ever"))

        assert Drained(dead=2) == drainer.drain()
        assert ["the entry does not decode"] * 2 == [letter.reason for letter in drainer.dead()]
        assert [None, None] == [letter.item for letter in drainer.dead()]

    @pytest.mark.parametrize("letter", ["", "7", "07-1", "99-1-1", "07-1-x", "aa-1-1"])
    def test_wrong_id(self, drainer: Drainer, letter: str) -> None:
        """An id that is none is named with an example of a right one."""
        with pytest.raises(ValidationError, match="such as 07-1763800000000-0"):
            drainer.retry(letter)


class TestRun:
    def test_runs_until_told(
        self, journal: Journal, drainer: Drainer, table: Table, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The long run drains what comes, waits out an outage with a warning, and ends when it is told."""
        stop, all_there, warned = threading.Event(), threading.Event(), threading.Event()

        class Watch(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "drain.outage" in record.getMessage():
                    warned.set()

        watch, log = Watch(), logging.getLogger("agentmodel.cache")
        log.addHandler(watch)
        table.down = True
        record(journal, item("A"))
        runner = threading.Thread(
            target=drainer.run,
            args=(stop,),
            kwargs={"progress": lambda one: all_there.set() if one.written == 2 else None, "every": 0.001},
        )
        runner.start()
        try:
            assert warned.wait(20)

            table.down = False
            record(journal, item("B"))

            assert all_there.wait(20)
        finally:
            stop.set()
            runner.join()
            log.removeHandler(watch)

        assert {"A": 1, "B": 1} == table.versions()

    def test_what_is_taken_alone_counts(self, journal: Journal, table: Table, valkey: Valkey) -> None:
        """The long run counts what it took alone: here an entry that five drainers did not acknowledge."""
        record(journal, item("A"), item("B"))
        stop, told = threading.Event(), []

        def progress(total: Drained) -> None:
            told.append(total)
            stop.set()

        with Drainer(valkey, table, idle=0, deliveries=2) as drainer:
            for _ in range(2):
                drainer._group.read()
            drainer.run(stop, progress=progress)

        assert Drained(dead=2) == told[-1]

    def test_one_line_a_minute(
        self, journal: Journal, drainer: Drainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A long run says once a minute what it has done so far."""
        caplog.set_level(logging.INFO, "agentmodel.cache")
        record(journal, item("A"))

        class TenLooks(threading.Event):
            looks: int = 0  # twenty seconds from one to the next

            def is_set(self) -> bool:
                TenLooks.looks += 1
                return TenLooks.looks > 10

            def wait(self, timeout: float | None = None) -> bool:
                return False

        monkeypatch.setattr(drain_module, "time", SimpleNamespace(monotonic=lambda: 20.0 * TenLooks.looks))
        drainer.run(TenLooks())

        lines = [line for line in caplog.messages if line.startswith("drain.minute")]
        assert ["drain.minute: 1 written, 0 stale, 0 dead, 0 left"] * 3 == lines
