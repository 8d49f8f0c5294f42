"""A record around the journal is one put when no drainer is at work that may have looked for fences before.

The rule is tried in every order in which the requests of one writer and one drainer can reach the table.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution
from agentmodel.access import sink as sinks
from agentmodel.access.sink import AtWork, Fences, HistorySink, at_work
from agentmodel.cache.client import Valkey
from agentmodel.cache.drain import Drainer
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.write import ITEM_BYTES, Writer
from agentmodel.exceptions import TableUnavailable

NOWHERE = "valkey://127.0.0.1:1"
USER = "USR001"
ONCE = {"near": 1, "far": 1}
WRITER, DRAINER = 4, 6  # requests of each that are put in order; what comes after them is free
EVERY = [
    "".join("w" if place in chosen else "d" for place in range(WRITER + DRAINER))
    for chosen in itertools.combinations(range(WRITER + DRAINER), WRITER)
]
ORDERS = [
    EVERY[place * 37 % len(EVERY)] for place in range(len(EVERY))
]  # mixed, so that the first ones are some of all


class Turns:
    """Lets requests through in an order: ``w`` is the writer's next one, ``d`` the drainer's."""

    def __init__(self, order: str) -> None:
        self._order = list(order)
        self._changed = threading.Condition()

    def through(self, who: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, when it is its turn."""

        def call(*args: Any, **named: Any) -> Any:
            with self._changed:
                assert self._changed.wait_for(lambda: who not in self._order or self._order[0] == who, 60)
                mine = who in self._order
            try:
                return real(*args, **named)
            finally:
                with self._changed:
                    if mine:
                        self._order.remove(who)
                    self._changed.notify_all()

        return call

    def ended(self, who: str) -> None:
        """It makes no more requests."""
        with self._changed:
            self._order = [one for one in self._order if one != who]
            self._changed.notify_all()


@dataclass
class Stage:
    """A model that reaches Valkey, one that does not, and a drainer's own way to the table."""

    near: AgentModel
    far: AgentModel
    valkey: Valkey
    table: Table

    def sink(self, kind: type[HistorySink] = HistorySink) -> HistorySink:
        """A drainer's table."""
        return kind(self.table, Writer(self.table, clock=lambda: 1))

    def drainer(self, sink: HistorySink) -> Drainer:
        """A drainer that takes over at once what one before it did not acknowledge."""
        return Drainer(self.valkey, sink, workers=1, idle=0)

    def calls(self, session: str) -> dict[str, int]:
        """How many items each call of a session has in the table."""
        items = self.near.table.query(Query(f"{USER}#{session}"), consistent=True).items
        return dict(Counter(item["CallID"]["S"] for item in items if "CallID" in item))

    def copies(self) -> list[str]:
        """The calls of which there is a copy behind a fence."""
        return [item["Copy"]["M"]["CallID"]["S"] for item in self.near.table.scan() if "Copy" in item]

    def try_order(self, order: str, kind: type[HistorySink] = HistorySink) -> tuple[dict[str, int], bool]:
        """One call waits in the journal and is drained, one goes around it, and their requests come in this order.

        Returns:
            The items of each call in the end, and whether a copy was made.
        """
        session = f"SESS{order}"
        for item in self.near.table.scan():  # nobody has seen an outage yet
            self.near.table.call("DeleteItem", TableName=self.table.name, Key={"PK": item["PK"], "SK": item["SK"]})
        self.far.recorder._delivery._fences = Fences(self.far.table)
        self.near.recorder.record(call("near", session))
        turns, drainer = Turns(order), self.drainer(self.sink(kind))
        calls = [self.table.call, self.far.table.call]
        self.table.call = turns.through("d", self.table.call)  # type: ignore[method-assign]  # each request waits for its turn
        self.far.table.call = turns.through("w", self.far.table.call)  # type: ignore[method-assign]  # likewise

        def drain() -> None:
            drainer.drain()
            turns.ended("d")

        thread = threading.Thread(target=drain)
        thread.start()
        try:
            self.far.recorder.record(call("far", session))
        finally:
            turns.ended("w")
            thread.join()
            self.table.call, self.far.table.call = calls  # type: ignore[method-assign]  # as it was
        copied = bool(self.copies())
        self.drainer(self.sink()).drain()
        return self.calls(session), copied


@pytest.fixture
def stage(settings: Settings) -> Iterator[Stage]:
    away = settings.model_copy(update={"valkey_url": NOWHERE})
    with (
        AgentModel.from_settings(settings) as near,
        AgentModel.from_settings(away) as far,
        Valkey(settings) as valkey,
        Table(settings) as table,
    ):
        near.table.create()
        yield Stage(near, far, valkey, table)
        near.table.delete()


def call(call_id: str, session: str = "SESS1", result: str = "") -> ToolExecution:
    return ToolExecution(
        user_id=USER, session_id=session, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="find",
        succeeded=True, call_number=1, call_id=call_id, result=result or call_id,
    )  # fmt: skip


class Unmarked(HistorySink):
    """A mutant: a drainer that does not say that it is at work."""

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        fenced = self._fences.among(item["PK"]["S"] for item in items) if before or self._fences.seen else set()
        return super().contested(items) if not before else [item["PK"]["S"] in fenced for item in items]


class LateMark(HistorySink):
    """A mutant: a drainer that looks for fences first, and then says that it is at work."""

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        found = super().contested(items)
        if before:
            self._mark.begin()
        return found


class Trusting(HistorySink):
    """A mutant: a drainer that begins without a look, as one does that goes on."""

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        if before:
            self._mark.begin()
            return [False] * len(items)
        return super().contested(items)


class TestEveryOrder:
    def test_some(self, stage: Stage) -> None:
        """In thirty orders of the requests both calls are kept; in some with a copy, in some without."""
        outcomes = [stage.try_order(order) for order in ORDERS[:30]]

        assert [ONCE] * len(outcomes) == [calls for calls, _ in outcomes]
        assert {True, False} == {copied for _, copied in outcomes}

    @pytest.mark.long
    @pytest.mark.timeout(600)
    def test_all(self, stage: Stage) -> None:
        """In every order of the requests both calls are kept."""
        assert {} == {order: calls for order in ORDERS if ONCE != (calls := stage.try_order(order)[0])}

    @pytest.mark.parametrize("mutant", [Unmarked, LateMark, Trusting])
    def test_mutant_of_the_drainer_is_caught(self, stage: Stage, mutant: type[HistorySink]) -> None:
        """A drainer that leaves a step out, or takes two in the other order, loses a call in one of these orders."""
        assert any(ONCE != stage.try_order(order, mutant)[0] for order in ORDERS)

    def test_mutant_of_the_writer_is_caught(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A writer that looks who is at work before its fence stands loses a call in one of these orders."""
        whole = Fences.put

        def put(fences: Fences, partition: str) -> None:
            busy = at_work(fences._table)
            whole(fences, partition)
            fences._busy[partition] = busy, float("inf")

        monkeypatch.setattr(Fences, "put", put)

        assert any(ONCE != stage.try_order(order)[0] for order in ORDERS)


class TestCopies:
    def test_none_when_nobody_drains(self, stage: Stage) -> None:
        """While no drainer is at work a record around the journal is one put, without a copy, however large it is."""
        stage.near.recorder.record(call("near"))
        stage.near.drain()
        requests: list[str] = []
        real = stage.far.table.call
        stage.far.recorder.record(call("first"))
        stage.far.table.call = lambda name, **named: requests.append(name) or real(name, **named)  # type: ignore[method-assign,func-returns-value]  # counts the requests
        stage.far.recorder.record(call("second", result="x" * (ITEM_BYTES - 6_000)))

        assert [] == stage.copies()
        assert {"PutItem"} == {name for name in requests if "Write" in name or "Put" in name}

    def test_while_a_drainer_is_at_work(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drainer that was at work before the fence costs each record a copy, until it rests."""
        monkeypatch.setattr(sinks, "_LOOK", 0.0)
        sink = stage.sink()
        sink.contested([{"PK": {"S": "P"}}], before=True)
        stage.far.recorder.record(call("one"))
        sink.rest()
        stage.far.recorder.record(call("two"))

        assert ["one"] == stage.copies()

    def test_drainer_that_begins_later(self, stage: Stage) -> None:
        """A drainer that begins when the fence stands costs nothing: it has to look first."""
        stage.far.recorder.record(call("one"))
        stage.sink().contested([{"PK": {"S": "P"}}], before=True)
        stage.far.recorder.record(call("two"))

        assert [] == stage.copies()


class TestMarks:
    def test_gone_after_a_drain(self, stage: Stage) -> None:
        """A drain leaves no mark, nor does one of which the table left everything unprocessed."""
        stage.near.recorder.record(call("near"))
        stage.near.drain()
        first = at_work(stage.table)
        stage.near.recorder.record(call("next"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Writer, "put_many", lambda _, items: list(items))
            left = stage.near.drain().left

        assert (1, frozenset(), frozenset()) == (left, first, at_work(stage.table))

    def test_stands_while_a_batch_may_be_under_way(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drainer whose batch had no answer stays marked: the batch may still arrive."""
        stage.near.recorder.record(call("near"))
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "put_many", _raises(TableUnavailable("no answer")))
            with pytest.raises(TableUnavailable):
                stage.near.drain()
        before = at_work(stage.table)
        monkeypatch.setattr(sinks, "_AGAIN", 0)
        stage.near.drain()

        assert (1, 0) == (len(before), len(at_work(stage.table)))

    def test_of_a_killed_drainer(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The mark of a drainer that was killed counts for a week; the next drainer then takes it away."""
        killed, mark = AtWork(stage.table), AtWork(stage.table)
        killed.begin()
        counts = at_work(stage.table)
        monkeypatch.setattr(sinks, "_SECONDS", -1)
        expired = at_work(stage.table)
        mark.begin()
        monkeypatch.undo()

        assert (1, 0) == (len(counts), len(expired))
        assert not counts & at_work(stage.table)

    def test_a_mark_is_a_new_one_each_time(self, stage: Stage) -> None:
        """Whoever saw a drainer at work sees that it ended, though it began again."""
        mark = AtWork(stage.table)
        seen = []
        for _ in range(2):
            assert mark.begin()
            assert not mark.begin()
            seen.append(at_work(stage.table))
            mark.end()

        assert [1, 1] == [len(one) for one in seen]
        assert not seen[0] & seen[1]

    def test_a_running_drainer_rests_after_a_while(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drainer that runs and finds nothing for a minute takes its mark away, and goes on running."""
        monkeypatch.setattr("agentmodel.cache.drain._RESTS", 1.0)
        stage.near.recorder.record(call("near"))
        looks: list[int] = []

        class Looks(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                looks.append(len(at_work(stage.table)))
                return False

            def is_set(self) -> bool:
                return len(looks) == 3

        stage.drainer(stage.sink()).run(Looks(), every=0.5)

        assert [1, 0, 0] == looks

    @pytest.mark.parametrize("late", [False, True])
    def test_answer_lost_when_it_goes(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
        """A drainer that does not know whether its mark is gone, or whether it goes later, makes a new one and looks."""
        sink, real, sent = stage.sink(), stage.table.call, list[Callable[[], Any]]()

        def lost(name: str, **named: Any) -> Any:
            if named.get("UpdateExpression", "").startswith("REMOVE"):
                sent.append(lambda: real(name, **named))
                if not late:
                    sent.pop()()
                raise TableUnavailable("the answer is lost")
            return real(name, **named)

        sink.contested([{"PK": {"S": "P"}}], before=True)
        with monkeypatch.context() as patch:
            patch.setattr(stage.table, "call", lost)
            sink.rest()
        stage.near.recorder.record(call("near"))
        if not late:
            stage.far.recorder.record(call("far"))
        with monkeypatch.context() as patch:
            whole = Writer.put_many

            def put_many(writer: Writer, items: Sequence[Item]) -> list[Item]:
                for one in sent:  # the request that takes the old mark away arrives
                    one()
                if late:
                    stage.far.recorder.record(call("far"))
                return whole(writer, items)

            patch.setattr(Writer, "put_many", put_many)
            stage.drainer(sink).drain()

        assert ONCE == stage.calls("SESS1")
        assert frozenset() == at_work(stage.table)

    def test_killed_drainers_mark_that_stays(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drainer that cannot take another's old mark away is at work all the same, and looks for fences."""
        AtWork(stage.table).begin()
        sink, real = stage.sink(), stage.table.call
        sink._fences.seen = False

        def refuses(name: str, **named: Any) -> Any:
            if named.get("UpdateExpression", "").startswith("REMOVE"):
                raise TableUnavailable("throttled")
            return real(name, **named)

        Fences(stage.table).put("P")
        monkeypatch.setattr(sinks, "_SECONDS", -1)
        monkeypatch.setattr(stage.table, "call", refuses)

        assert [True] == sink.contested([{"PK": {"S": "P"}}], before=True)

    def test_threads_that_share_a_drainer(self, stage: Stage) -> None:
        """A thread that has nothing to drain does not take the mark of another one away that is amid its batch."""
        looked, told = threading.Event(), threading.Event()

        class Pauses(HistorySink):
            def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
                found = super().contested(items, before=before)
                if before:
                    looked.set()
                    assert told.wait(60)
                return found

        stage.near.recorder.record(call("near"))
        with Drainer(stage.valkey, stage.sink(Pauses), workers=1) as drainer:
            first, second = (threading.Thread(target=drainer.drain) for _ in range(2))
            first.start()
            assert looked.wait(60)
            second.start()
            second.join(0.5)  # it waits for the first one; a mutant that does not wait ends here
            stage.far.recorder.record(call("far"))
            told.set()
            for one in (first, second):
                one.join()

        assert ONCE == stage.calls("SESS1")

    def test_without_an_answer_it_stays(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mark that could not be taken away is taken away at the next rest."""
        mark = AtWork(stage.table)
        mark.begin()
        with monkeypatch.context() as patch:
            patch.setattr(stage.table, "call", _raises(TableUnavailable("away")))
            mark.end()
        stands = at_work(stage.table)
        mark.end()

        assert (1, 0) == (len(stands), len(at_work(stage.table)))


def _raises(error: Exception) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    return raises
