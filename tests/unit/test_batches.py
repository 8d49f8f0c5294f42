"""Batches are written several at once: everything arrives, nothing is begun after a fault, what is left is said."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentmodel._runtime.clock import HybridClock
from agentmodel._runtime.retry import Backoff
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.models import Agent
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import _BATCH, Writer
from agentmodel.exceptions import BatchIncomplete, TableUnavailable, ValidationError


class Fake(Table):
    """A table that keeps what it is given; it can refuse from a call on, or leave keys unprocessed for ever."""

    def __init__(self, *, fails_from: int | None = None, leaves: frozenset[str] = frozenset()) -> None:
        super().__init__(Settings(table="Test", batch_deadline=0.01))
        self.stored: dict[str, Item] = {}
        self.calls = 0
        self._fails_from, self._leaves, self._lock = fails_from, leaves, threading.Lock()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        with self._lock:
            assert "BatchWriteItem" == operation
            self.calls += 1
            if self._fails_from is not None and self.calls >= self._fails_from:
                raise TableUnavailable("down")
            (requests,) = request["RequestItems"].values()
            assert len(requests) <= _BATCH
            left = []
            for each in requests:
                item = each["PutRequest"]["Item"]
                if item["PK"]["S"] in self._leaves:
                    left.append(each)
                else:
                    self.stored[item["PK"]["S"]] = item
            return {"UnprocessedItems": {"Test": left}} if left else {}


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def agents(number: int) -> list[Item]:
    return [Agent(agent_id=f"AGT{n}", domain_id="DMN1", name="a").to_item() for n in range(number)]


def writer(table: Table) -> Writer:
    return Writer(table, clock=HybridClock())


class TestBatches:
    @pytest.mark.parametrize("number", [0, 1, _BATCH, _BATCH + 1, 2 * _BATCH, 10 * _BATCH + 3])
    def test_everything_arrives(self, number: int) -> None:
        """Any number of items is written, in no more requests than are needed."""
        table = Fake()

        assert [] == writer(table).put_many(agents(number))
        assert {f"AGT{n}" for n in range(number)} == set(table.stored)
        assert -(-number // _BATCH) == table.calls

    def test_a_fault_is_raised_and_no_batch_is_begun_after_it(self) -> None:
        """The first fault is what the caller sees; batches that wait are not sent."""
        table = Fake(fails_from=2)

        with pytest.raises(TableUnavailable, match="down"):
            writer(table).put_many(agents(40 * _BATCH))

        assert table.calls < 40
        assert _BATCH == len(table.stored)

    def test_what_is_left_comes_back(self) -> None:
        """Items that stay unprocessed until the deadline come back, the others are written."""
        table = Fake(leaves=frozenset({"AGT3", "AGT60", "AGT99"}))
        left = writer(table).put_many(agents(100))

        assert {"AGT3", "AGT60", "AGT99"} == {item["PK"]["S"] for item in left}
        assert 97 == len(table.stored)

    def test_a_block_says_what_is_left(self) -> None:
        """A batch block raises with the items that were not written."""
        table = Fake(leaves=frozenset({"AGT1"}))

        def write() -> None:
            with writer(table).batch() as batch:
                for number in range(3):
                    batch.put(Agent(agent_id=f"AGT{number}", domain_id="DMN1", name="a"))

        with pytest.raises(BatchIncomplete) as caught:
            write()

        assert ["AGT1"] == [item["PK"]["S"] for item in caught.value.left]

    def test_the_last_of_a_key_is_written(self) -> None:
        """Items of one key are one request: the last one's."""
        table = Fake()
        items = [Agent(agent_id="AGT1", domain_id="DMN1", name=str(n)).to_item() for n in range(5)]
        writer(table).put_many(items)

        assert {"S": "4"} == table.stored["AGT1"]["AgentNM"]
        assert 1 == table.calls

    def test_text_that_is_no_unicode_is_named(self) -> None:
        """A lone surrogate is refused with its attribute named, before anything is sent."""
        table = Fake()

        with pytest.raises(ValidationError, match=r"Description.*surrogates"):
            writer(table).put(Agent(agent_id="AGT1", domain_id="DMN1", name="a", description="\ud800"))

        assert 0 == table.calls


class Leaving(Table):
    """A table that answers a batch get with one item at a time, and never with those it is to leave."""

    def __init__(self, *, leaves: frozenset[str] = frozenset()) -> None:
        super().__init__(Settings(table="Test", batch_deadline=0.3))
        self.asked: list[list[str]] = []
        self._leaves = leaves

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        assert "BatchGetItem" == operation
        keys = request["RequestItems"]["Test"]["Keys"]
        self.asked.append([key["PK"]["S"] for key in keys])
        given = [key for key in keys if key["PK"]["S"] not in self._leaves][:1]
        left = [key for key in keys if key not in given]
        items = [Agent(agent_id=key["PK"]["S"], domain_id="DMN1", name="a").to_item() for key in given]
        return {"Responses": {"Test": items}, "UnprocessedKeys": {"Test": {"Keys": left}} if left else {}}


class TestBatchGets:
    def test_unprocessed_keys_are_asked_again(self) -> None:
        """Keys that were left are asked for again, only they, and the answer is in the order asked."""
        table = Leaving()
        found = table.get_many([Agent.at(f"AGT{n}") for n in (2, 1, 3, 1)])

        assert ["AGT2", "AGT1", "AGT3", "AGT1"] == [agent and agent.agent_id for agent in found]
        assert [["AGT2", "AGT1", "AGT3"], ["AGT1", "AGT3"], ["AGT3"]] == table.asked

    def test_keys_that_are_always_left_end_in_an_error(self) -> None:
        """After the deadline an error carries the keys that are left."""
        table = Leaving(leaves=frozenset({"AGT2"}))

        with pytest.raises(BatchIncomplete) as caught:
            table.get_many([Agent.at(f"AGT{n}") for n in (1, 2)])

        assert [Agent.at("AGT2").item()] == caught.value.left
        assert len(table.asked) > 1


class TestBackoff:
    @pytest.fixture
    def time(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """A clock that only waiting moves."""
        clock = Clock()
        monkeypatch.setattr("agentmodel._runtime.retry.time.monotonic", lambda: clock.now)
        monkeypatch.setattr("agentmodel._runtime.retry.time.sleep", clock.sleep)
        return clock

    def test_waits_are_drawn_from_zero_to_a_doubling_bound(self, time: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Full jitter: every wait is anything between nothing and a bound that doubles up to the most."""
        drawn = []

        def uniform(low: float, high: float) -> float:
            drawn.append((low, high))
            return high

        monkeypatch.setattr("agentmodel._runtime.retry.random.uniform", uniform)
        attempts = Backoff(seconds=100, first=0.5, longest=3.0)
        for _ in range(5):
            attempts.wait("late")

        assert [(0, 0.5), (0, 1.0), (0, 2.0), (0, 3.0), (0, 3.0)] == drawn
        assert [high for _, high in drawn] == time.slept

    def test_the_deadline_is_kept(self, time: Clock) -> None:
        """No wait goes beyond the deadline; after it comes the error, and between there is one last attempt."""
        attempts = Backoff(seconds=10, first=4.0)

        def never_done() -> None:
            for attempt in attempts:
                attempt.wait("late")

        with pytest.raises(TableUnavailable, match="late"):
            never_done()

        assert 10 == pytest.approx(time.now)
        assert len(time.slept) > 2
