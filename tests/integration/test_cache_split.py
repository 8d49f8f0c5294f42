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

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess
from agentmodel.access._journal_sink import HistorySink
from agentmodel.access._numbered_writer import NumberedWriter
from agentmodel.cache import Drainer, Valkey
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Query
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
        """The call in the table keeps its attempt, and the one from the journal takes the next free one."""
        both(connected, cut_off)

        assert 1 == connected.drain().written
        assert {"far": "#001", "near": "#002"} == stored(connected)

    def test_mutant_without_condition_is_caught(
        self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same two calls end as one when the drain writes without a condition."""
        monkeypatch.setattr(HistorySink, "put_many", lambda sink, items: sink._writer.put_many(items))
        both(connected, cut_off)
        connected.drain()

        assert {"near": "#001"} == stored(connected)

    def test_processes_are_kept(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """Steps too: the one from the journal takes the next free number."""
        for model, name in ((connected, "near"), (cut_off, "far")):
            model.recorder.record(
                UserSessionProcess(user_id=USER, session_id=SESSION, process_id="PRC001", name=name, call_id=name)
            )
        connected.drain()
        history = connected.repository.session_history(USER, SESSION)

        assert [("PRC001", "far"), ("PRC002", "near")] == [(p.process_id, p.name) for p in history.processes]

    def test_who_reads_near_sees_both(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """After the drain a near read gives both calls, under the numbers that they have in the table."""
        connected.repository.session_history(USER, SESSION)
        both(connected, cut_off)
        connected.drain()
        history = connected.repository.session_history(USER, SESSION)

        assert {("far", 1), ("near", 2)} == {(one.call_id, one.attempt) for one in history.executions}

    def test_numbers_go_on_behind_both(self, connected: AgentModel, cut_off: AgentModel) -> None:
        """After the drain the next call gets the third attempt, and each of the two is a repetition of itself."""
        both(connected, cut_off)
        connected.drain()
        receipts = [connected.recorder.record(call(name)) for name in ("near", "far", "next")]

        assert [(2, True), (1, True), (3, False)] == [(one.entity.attempt, one.repeated) for one in receipts]

    def test_drained_twice_is_one_item(
        self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A drain that dies between write and acknowledgement, and the one after it, leave one item of each call."""
        both(connected, cut_off)
        drainer = connected.drainer
        drainer._group._idle_ms = 0

        def dies(*_: Any) -> None:
            raise CacheUnavailable("the drainer died")

        with monkeypatch.context() as patch:
            patch.setattr(drainer._group, "acknowledge", dies)
            with pytest.raises(CacheUnavailable):
                drainer.drain()
        drainer.drain()

        assert {"far": "#001", "near": "#002"} == stored(connected)
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
    """A drainer's table: before a step (``put_many`` or ``put_elsewhere``) it waits to be told, and may die after it."""

    def __init__(self, model: AgentModel, *, before: str = "put_many", dies: str = "") -> None:
        super().__init__(model.table, model.writer)
        self.reached, self.told = threading.Event(), threading.Event()
        self._before, self._dies = before, dies

    def _pause(self, step: str) -> None:
        if step == self._before:
            self.reached.set()
            assert self.told.wait(60)

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        self._pause("put_many")
        left = super().put_many(items)
        if self._dies == "put_many":
            raise Killed
        return left

    def put_elsewhere(self, item: Item) -> Item:
        self._pause("put_elsewhere")
        moved = super().put_elsewhere(item)
        if self._dies == "put_elsewhere":
            raise Killed
        return moved


class Side:
    """The side of the journal: drainers that are paused, die, or come along."""

    def __init__(self, model: AgentModel, valkey: Valkey) -> None:
        self.model = model
        self.valkey = valkey

    @contextlib.contextmanager
    def paused(self, **how: Any) -> Iterator[None]:
        """A drainer that has read the journal, and goes on when the block ends."""
        sink = Paused(self.model, **how)
        drainer = Drainer(self.valkey, sink, workers=1)

        def work() -> None:
            with contextlib.suppress(Killed):
                drainer.drain()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert sink.reached.wait(60)
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


@pytest.fixture
def side(connected: AgentModel, settings: Settings) -> Iterator[Side]:
    with Valkey(settings) as valkey:
        yield Side(connected, valkey)


ONCE = {"near": 1, "far": 1}


class TestPausedDrainer:
    """A drainer that has read the journal is paused while others record into the same session without the journal."""

    def test_both_calls_are_kept(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """It finds the number taken when it goes on, and writes the journal's call under the next one."""
        connected.recorder.record(call("near"))
        with side.paused():
            cut_off.recorder.record(call("far"))

        assert {"far": "#001", "near": "#002"} == stored(connected)

    def test_number_taken_while_it_chooses_another(
        self, connected: AgentModel, cut_off: AgentModel, side: Side
    ) -> None:
        """The number that it would take next is taken meanwhile, and it takes the one after that."""
        connected.recorder.record(call("near"))
        cut_off.recorder.record(call("far"))
        with side.paused(before="put_elsewhere"):
            cut_off.recorder.record(call("later"))

        assert {"far": "#001", "later": "#002", "near": "#003"} == stored(connected)

    @pytest.mark.parametrize("dies", ["put_many", "put_elsewhere"])
    def test_killed(self, connected: AgentModel, cut_off: AgentModel, side: Side, dies: str) -> None:
        """Killed after either step, it leaves its entries to the next drainer, which writes each of them once."""
        connected.recorder.record(call("near"))
        with side.paused(dies=dies):
            cut_off.recorder.record(call("far"))
        side.drain()

        assert {"far": "#001", "near": "#002"} == stored(connected)
        assert ONCE == side.calls()

    @pytest.mark.parametrize("dies", ["", "put_many"])
    def test_overtaken(self, connected: AgentModel, cut_off: AgentModel, side: Side, dies: str) -> None:
        """Overtaken by a drainer that acknowledged its entries, it replaces nothing and writes nothing twice."""
        connected.recorder.record(call("near"))
        with side.paused(dies=dies):
            cut_off.recorder.record(call("far"))
            side.drain()

        assert {"far": "#001", "near": "#002"} == stored(connected)
        assert ONCE == side.calls()

    def test_a_newer_version_of_the_same_call_stays(self, connected: AgentModel, side: Side) -> None:
        """What a paused drainer brings late replaces no newer version of the same call."""
        receipt = connected.recorder.record(call("near"))
        newer = type(receipt.entity)(**{**receipt.entity.attribute_values, "result": "corrected"})
        newer.version = (receipt.entity.version or 0) + 1
        with side.paused():
            connected.writer.put(newer)
        found = connected.table.get(newer.key, consistent=True)

        assert found is not None
        assert "corrected" == found.result

    def test_reply_lost(
        self, connected: AgentModel, cut_off: AgentModel, side: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever had no answer and records again meets its one record."""
        whole = NumberedWriter.put_numbered

        def lost(*args: Any, **named: Any) -> None:
            monkeypatch.undo()
            whole(*args, **named)
            raise TableUnavailable("the reply is lost")

        monkeypatch.setattr(NumberedWriter, "put_numbered", lost)
        connected.recorder.record(call("near"))
        with side.paused(), pytest.raises(HistoryUnavailable):
            cut_off.recorder.record(call("far"))
        again = cut_off.recorder.record(call("far"))

        assert (1, True) == (again.entity.attempt, again.repeated)
        assert ONCE == side.calls()

    def test_the_same_call_on_both_ways(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """A call that is in the journal and, under another attempt, in the table is one item."""
        connected.recorder.record(call("near"))
        cut_off.recorder.record(call("far"))
        around = cut_off.recorder.record(call("near"))
        side.drain()

        assert 2 == around.entity.attempt
        assert {"far": "#001", "near": "#002"} == stored(connected)
        assert ONCE == side.calls()

    def test_the_same_call_under_two_numbers(self, connected: AgentModel, cut_off: AgentModel, side: Side) -> None:
        """A call that a drain finds under a lower number too gives its higher one to the call that was second there."""
        for name in ("near", "next", "both"):
            connected.recorder.record(call(name))
        for name in ("far", "both"):
            cut_off.recorder.record(call(name))
        side.drain()

        assert {"far": "#001", "both": "#002"}.items() <= stored(connected).items()
        assert dict.fromkeys(("near", "next", "both", "far"), 1) == side.calls()


def split(side: Side, cut_off: AgentModel, seed: int) -> dict[str, int]:
    """One trial: calls on both ways, a drainer that is paused, perhaps overtaken, perhaps killed.

    Returns:
        The calls that do not have exactly one item in the end.
    """
    choose, session = random.Random(seed), f"SESS{seed}"  # noqa: S311 - a trial that can be repeated
    caches, far = side.model.recorder, cut_off.recorder
    names: set[str] = set()

    def record(recorder: Any, name: str) -> None:
        recorder.record(call(name, session))
        names.add(name)

    for number in range(choose.randint(1, 4)):
        record(caches, f"near{number}")
    if choose.random() < 0.3:
        record(far, "before")
    meanwhile: list[Callable[[], None]] = [lambda n=n: record(far, f"far{n}") for n in range(choose.randint(1, 3))]  # type: ignore[misc]  # a default keeps the number
    meanwhile += [lambda: record(far, "near0"), lambda: record(caches, "later"), side.drain]
    choose.shuffle(meanwhile)
    with side.paused(dies=choose.choice(["", "", "put_many", "put_elsewhere"])):
        for step in meanwhile[: choose.randint(1, len(meanwhile))]:
            step()
    if choose.random() < 0.5:
        record(far, "after")
    side.drain()
    there = side.calls(session)
    return {name: there.get(name, 0) for name in names if there.get(name, 0) != 1}


class TestTrials:
    def test_every_call_is_there_once(self, side: Side, cut_off: AgentModel) -> None:
        """Whatever is recorded on both ways, paused, overtaken and killed: every call has one item in the end."""
        assert [{}] * TRIALS == [split(side, cut_off, seed) for seed in range(TRIALS)]

    def test_mutant_without_condition_is_caught(
        self, side: Side, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same trials lose calls when the drain writes without a condition."""
        monkeypatch.setattr(HistorySink, "put_many", lambda sink, items: sink._writer.put_many(items))

        assert any(split(side, cut_off, seed) for seed in range(max(10, TRIALS)))

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    def test_three_hundred(self, side: Side, cut_off: AgentModel) -> None:
        """In three hundred trials of it no call is lost, and none is there twice."""
        assert [{}] * 300 == [split(side, cut_off, seed) for seed in range(300)]
