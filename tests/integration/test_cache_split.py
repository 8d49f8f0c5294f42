"""One process is cut off from Valkey, another is not: both record into one session, and neither overwrites the other."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess, keys
from agentmodel.access.sink import Fences, HistorySink
from agentmodel.cache.client import Valkey
from agentmodel.cache.drain import Drainer
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Query
from agentmodel.dynamo.write import ITEM_BYTES
from agentmodel.exceptions import CacheUnavailable, HistoryUnavailable, TableUnavailable

TRIALS = int(os.environ.get("AGENTMODEL_TEST_TRIALS", "10"))

USER, SESSION = "USR001", "SESS20250614001"
NOWHERE = "valkey://127.0.0.1:1"


@pytest.fixture
def connected(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        yield model
        model.table.delete()


@pytest.fixture
def cut_off(connected: AgentModel, settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": NOWHERE})) as model:
        yield model


def call(call_id: str, session: str = SESSION) -> ToolExecution:
    return ToolExecution(
        user_id=USER, session_id=session, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="find",
        succeeded=True, call_number=1, call_id=call_id, result=call_id,
    )  # fmt: skip


def stored(model: AgentModel) -> dict[str, str]:
    """What the table holds of the session: call → its attempt."""
    return {
        item["CallID"]["S"]: item["SK"]["S"].removeprefix("PRC001#AGT001#TL001") or "#001"
        for item in model.table.scan()
        if "CallID" in item
    }


def both(connected: AgentModel, cut_off: AgentModel) -> None:
    """Two calls that ask for the first attempt: one waits in the journal, the other goes around it."""
    waiting, around = connected.recorder.record(call("near")), cut_off.recorder.record(call("far"))
    assert ("valkey", 1, "dynamodb", 1) == (
        waiting.level, waiting.entity.attempt, around.level, around.entity.attempt,
    )  # fmt: skip


class TestSplitView:
    def test_both_calls_are_kept(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """The call from the journal keeps its attempt, and the one in the table takes the next free one."""
        both(connected, cut_off)

        assert 1 == connected.drain().written
        assert {"near": "#001", "far": "#002"} == stored(connected)

    def test_mutant_that_does_not_look_is_caught(
        self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same two calls end as one when the drain does not look for fences."""
        monkeypatch.setattr(HistorySink, "contested", lambda _, items, **__: [False] * len(items))
        both(connected, cut_off)
        connected.drain()

        assert {"near": "#001"} == stored(connected)

    def test_processes_are_kept(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """Steps too: the one that went around the journal takes the next free number."""
        for model, name in ((connected, "near"), (cut_off, "far")):
            model.recorder.record(
                UserSessionProcess(user_id=USER, session_id=SESSION, process_id="PRC001", name=name, call_id=name)
            )
        connected.drain()
        history = connected.repository.session_history(USER, SESSION)

        assert [("PRC001", "near"), ("PRC002", "far")] == [(p.process_id, p.name) for p in history.processes]

    def test_who_reads_near_sees_both(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """After the drain a near read gives both calls, under the numbers that they have in the table."""
        connected.repository.session_history(USER, SESSION)
        both(connected, cut_off)
        connected.drain()
        history = connected.repository.session_history(USER, SESSION)

        assert {("near", 1), ("far", 2)} == {(one.call_id, one.attempt) for one in history.executions}

    def test_numbers_go_on_behind_both(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """After the drain the next call gets the third attempt, and each of the two is a repetition of itself."""
        both(connected, cut_off)
        connected.drain()
        receipts = [connected.recorder.record(call(name)) for name in ("near", "far", "next")]

        assert [(1, True), (2, True), (3, False)] == [(one.entity.attempt, one.repeated) for one in receipts]

    def test_drained_twice_is_one_item(
        self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A drain that dies between write and acknowledgement, and the one after it, leave one item of each call."""
        both(connected, cut_off)
        drainer = connected.drainer
        drainer._idle_ms = 0

        def dies(*_: Any) -> None:
            raise CacheUnavailable("the drainer died")

        with monkeypatch.context() as patch:
            patch.setattr(drainer, "_settle", dies)
            with pytest.raises(CacheUnavailable):
                drainer.drain()
        drainer.drain()

        assert {"near": "#001", "far": "#002"} == stored(connected)
        assert 0 == drainer.drain().left

    def test_ranges_that_overlap(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """Several calls on each side all end under numbers of their own."""
        names = [f"{side}{n}" for n in range(4) for side in ("near", "far")]
        for name in names:
            (connected if name.startswith("near") else cut_off).recorder.record(call(name))
        connected.drain()

        assert {f"#{n:03d}" for n in range(1, 9)} == set(stored(connected).values())
        assert set(names) == set(stored(connected))


class Killed(BaseException):
    """The process is gone."""


class Paused(HistorySink):
    """A drainer's table: it looks for fences, waits to be told, then goes on, and dies where it is told."""

    def __init__(self, model: AgentModel, *, dies: str = "", looks: bool = True) -> None:
        super().__init__(model.table, model.writer)
        self.looked, self.told = threading.Event(), threading.Event()
        self._dies, self._looks = dies, looks

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        if not before:
            if self._dies == "written":
                raise Killed
            return super().contested(items) if self._looks else [False] * len(items)
        found = super().contested(items, before=True)
        self.looked.set()
        assert self.told.wait(60)
        return found

    def put_claimed(self, item: Item) -> bool:
        moved = super().put_claimed(item)
        if self._dies == "claimed":
            raise Killed
        return moved


class Side:
    """The side of the journal: drainers that are paused, die, or come along."""

    def __init__(self, model: AgentModel, valkey: Valkey) -> None:
        self.model = model
        self.valkey = valkey

    @contextlib.contextmanager
    def paused(self, **how: Any) -> Iterator[None]:
        """A drainer that has looked for fences and writes when the block ends."""
        sink = Paused(self.model, **how)
        drainer = Drainer(self.valkey, sink, workers=1)

        def work() -> None:
            with contextlib.suppress(Killed):
                drainer.drain()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert sink.looked.wait(60)
            yield
        finally:
            sink.told.set()
            thread.join()

    def drain(self) -> None:
        """Another drainer, which takes over at once what one before it did not acknowledge."""
        with Drainer(self.valkey, HistorySink(self.model.table, self.model.writer), idle=0) as drainer:
            while drainer.drain().left:
                pass

    def calls(self, session: str = SESSION) -> dict[str, int]:
        """How many items each call of a session has in the table."""
        items = self.model.table.query(Query(f"{USER}#{session}"), consistent=True).items
        return dict(Counter(item["CallID"]["S"] for item in items if "CallID" in item))

    def clear(self, session: str) -> None:
        """Deletes a session and its fence: the engine copies its whole table for each transaction."""
        table, partition = self.model.table, f"{USER}#{session}"
        for place in (partition, keys.FENCE.build(partition)):
            for item in table.query(Query(place), consistent=True).items:
                table.call("DeleteItem", TableName=table.name, Key={"PK": item["PK"], "SK": item["SK"]})


@pytest.fixture
def side(connected: AgentModel, settings: Settings) -> Iterator[Side]:
    with Valkey(settings) as valkey:
        yield Side(connected, valkey)


ONCE = {"near": 1, "far": 1}


class TestPausedDrainer:
    """A drainer looks for fences, is paused, and writes over what was recorded around the journal meanwhile."""

    def test_both_calls_are_kept(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """It looks again after the write, and puts what it replaced under the next free attempt."""
        connected.recorder.record(call("near"))
        with side.paused():
            cut_off.recorder.record(call("far"))

        assert {"near": "#001", "far": "#002"} == stored(connected)

    def test_mutant_that_does_not_look_again_is_caught(
        self, connected: AgentModel, cut_off: AgentModel, side: Side
    ) -> None:
        """The same two calls end as one when the drainer looks before the write only."""
        connected.recorder.record(call("near"))
        with side.paused(looks=False):
            cut_off.recorder.record(call("far"))

        assert {"near": "#001"} == stored(connected)

    def test_killed_after_the_write(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """Killed before it looks again, it leaves its entries to the next drainer, which finds what was replaced."""
        connected.recorder.record(call("near"))
        with side.paused(dies="written"):
            cut_off.recorder.record(call("far"))
        lost = stored(connected)
        side.drain()

        assert {"near": "#001"} == lost
        assert {"near": "#001", "far": "#002"} == stored(connected)

    @pytest.mark.parametrize("dies", ["", "written"])
    def test_overtaken(self, connected: AgentModel, cut_off: AgentModel, side: Side, dies: str) -> None:
        """Overtaken by one that acknowledged its entries, it replaces nothing, though it be killed after the write."""
        connected.recorder.record(call("near"))
        with side.paused(dies=dies):
            cut_off.recorder.record(call("far"))
            side.drain()

        assert {"near": "#001", "far": "#002"} == stored(connected)
        assert ONCE == side.calls()

    def test_two_at_once(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """What one drainer put under a number that another one had in hand is found and moved on."""
        connected.recorder.record(call("near"))
        with side.paused():
            connected.recorder.record(call("next"))
            with side.paused():
                cut_off.recorder.record(call("far"))
        side.drain()

        assert {"near": "#001", "next": "#002", "far": "#003"} == stored(connected)

    def test_reply_lost_on_the_way_around(
        self, connected: AgentModel, cut_off: AgentModel, side: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever had no answer and records again meets the one record, wherever the drain has put it."""
        whole = Fences.claim

        def lost(*args: Any, **named: Any) -> None:
            monkeypatch.undo()
            whole(*args, **named)
            raise TableUnavailable("the reply is lost")

        monkeypatch.setattr(Fences, "claim", lost)
        connected.recorder.record(call("near"))
        with side.paused(), pytest.raises(HistoryUnavailable):
            cut_off.recorder.record(call("far"))
        again = cut_off.recorder.record(call("far"))

        assert (2, True) == (again.entity.attempt, again.repeated)
        assert ONCE == side.calls()

    def test_reply_lost_on_the_way_to_the_journal(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """A call that is in the journal and, since nobody knew, in the table under another attempt is one item."""
        connected.recorder.record(call("near"))
        cut_off.recorder.record(call("far"))
        around = cut_off.recorder.record(call("near"))
        side.drain()

        assert 2 == around.entity.attempt
        assert {"near": "#001", "far": "#002"} == stored(connected)
        assert ONCE == side.calls()

    def test_writer_that_dies_behind_its_fence(
        self, connected: AgentModel, cut_off: AgentModel, side: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fence without a record behind it changes nothing."""

        def dies(*_: Any, **__: Any) -> None:
            raise Killed

        monkeypatch.setattr(Fences, "claim", dies)
        connected.recorder.record(call("near"))
        with side.paused(), pytest.raises(Killed):
            cut_off.recorder.record(call("far"))

        assert {"near": "#001"} == stored(connected)

    def test_item_without_room_for_its_copy(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """A record that nearly fills an item is kept without a copy, and moved by a drain that knows the fence."""
        connected.recorder.record(call("near"))
        large = call("far")
        large.result = "x" * (ITEM_BYTES - 6_000)
        cut_off.recorder.record(large)
        side.drain()

        assert {"near": "#001", "far": "#002"} == stored(connected)


def split(side: Side, cut_off: AgentModel, seed: int, *, looks: bool = True) -> dict[str, int]:
    """One trial: calls on both sides of the journal, a drainer that is paused, perhaps overtaken, perhaps killed.

    Returns:
        The calls that do not have exactly one item in the end.
    """
    choose, session = random.Random(seed), f"SESS{seed}-{looks}"  # noqa: S311 - a trial that can be repeated
    near, far = side.model.recorder, cut_off.recorder
    names: set[str] = set()

    def record(recorder: Any, name: str) -> None:
        recorder.record(call(name, session))
        names.add(name)

    for number in range(choose.randint(1, 4)):
        record(near, f"near{number}")
    if choose.random() < 0.3:
        record(far, "before")
    meanwhile: list[Callable[[], None]] = [lambda n=n: record(far, f"far{n}") for n in range(choose.randint(1, 3))]  # type: ignore[misc]  # a default keeps the number
    meanwhile += [lambda: record(far, "near0"), lambda: record(near, "later"), side.drain]
    choose.shuffle(meanwhile)
    with side.paused(dies=choose.choice(["", "", "written", "claimed"]), looks=looks):
        for step in meanwhile[: choose.randint(1, len(meanwhile))]:
            step()
    if choose.random() < 0.5:
        record(far, "after")
    side.drain()
    there = side.calls(session)
    side.clear(session)
    return {name: there.get(name, 0) for name in names if there.get(name, 0) != 1}


class TestTrials:
    def test_every_call_is_there_once(self, side: Side, cut_off: AgentModel) -> None:
        """Whatever is recorded on both sides, paused, overtaken and killed: every call has one item in the end."""
        assert [{}] * TRIALS == [split(side, cut_off, seed) for seed in range(TRIALS)]

    def test_mutant_that_does_not_look_again_is_caught(self, side: Side, cut_off: AgentModel) -> None:
        """The same trials lose calls when the drainer looks for fences before the write only."""
        assert any(split(side, cut_off, seed, looks=False) for seed in range(max(10, TRIALS)))

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    def test_three_hundred(self, side: Side, cut_off: AgentModel) -> None:
        """In three hundred trials of it no call is lost, and none is there twice."""
        assert [{}] * 300 == [split(side, cut_off, seed) for seed in range(300)]


class TestFences:
    def test_batches_outside(self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the session that was written around the journal is put one by one; the others go in batches."""
        both(connected, cut_off)
        connected.recorder.record(call("other", "SESS20250614002"))
        batches: list[Sequence[Item]] = []
        whole = HistorySink.put_many

        def put_many(sink: HistorySink, items: Sequence[Item]) -> list[Item]:
            batches.append(items)
            return whole(sink, items)

        monkeypatch.setattr(HistorySink, "put_many", put_many)
        connected.drain()

        assert [["other"]] == [[item["CallID"]["S"] for item in items] for items in batches if items]

    def test_raised_once(self, connected: AgentModel) -> None:
        """A session's fence costs two writes at its first record around the journal, and none at the next."""
        fences = Fences(connected.table)
        fences.put("USR001#SESS001")
        connected.table.delete()
        fences.put("USR001#SESS001")
        connected.table.create()

        assert set() == fences.among(["USR001#SESS001"])

    def test_many(self, connected: AgentModel) -> None:
        """More sessions than one read takes are looked up."""
        fences = Fences(connected.table)
        for number in range(0, 250, 50):
            fences.put(f"P{number}")

        assert {"P0", "P50", "P100", "P150", "P200"} == fences.among(f"P{number}" for number in range(250))

    def test_they_expire(self, connected: AgentModel) -> None:
        """A fence carries the table's TTL, so that it goes by itself."""
        Fences(connected.table).put("P")

        assert all("ExpiresAt" in item for item in connected.table.scan())

    def test_no_fence_no_write(self, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the fence cannot be raised nothing is written, and the caller is told so."""

        def refused(*_: object) -> None:
            raise TableUnavailable("throttled")

        monkeypatch.setattr(Fences, "put", refused)
        with pytest.raises(HistoryUnavailable):
            cut_off.recorder.record(call("far"))

        assert {} == stored(cut_off)
