"""One process is cut off from Valkey, another is not: both record into one session, and neither overwrites the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess
from agentmodel.access.sink import Fences, HistorySink
from agentmodel.dynamo.entity import Item
from agentmodel.exceptions import CacheUnavailable, HistoryUnavailable, TableUnavailable

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
        """The call from the journal takes the next free attempt when the table has another call under its own."""
        both(connected, cut_off)

        assert 1 == connected.drain().written
        assert {"far": "#001", "near": "#002"} == stored(connected)

    def test_mutant_that_does_not_look_is_caught(
        self, connected: AgentModel, cut_off: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same two calls end as one when the drain does not look for fences."""
        monkeypatch.setattr(HistorySink, "contested", lambda _, items: [False] * len(items))
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
        drainer._idle_ms = 0

        def dies(*_: Any) -> None:
            raise CacheUnavailable("the drainer died")

        with monkeypatch.context() as patch:
            patch.setattr(drainer, "_settle", dies)
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
