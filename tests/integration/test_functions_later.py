"""Calls of functions that are tools are written a moment later: who reads finds them all the same, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, keys
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.exceptions import JournalFull, ReviewPending, ToolBlocked
from agentmodel.suggest.plan import ToolRef
from tests.integration.suggest_world import opened

USER = "USR001"
REF = ToolRef(keys.id_of("AGT", "finder", "agents"), "TLsearch")


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        yield model


def searcher(model: AgentModel, agent: str = "finder") -> Any:
    """A function that is a tool."""

    @model.tool(agent=agent)
    def search(place: str) -> str:
        if place == "nowhere":
            raise LookupError(place)
        return f"near {place}"

    return search


class Held:
    """Lets the writing of calls wait."""

    def __init__(self, model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.reached = threading.Event(), threading.Event()
        write = model.recorder.record_each

        def record_each(entities: Any) -> Any:
            self.reached.set()
            assert self.go.wait(60)
            return write(entities)

        monkeypatch.setattr(model.recorder._late, "_record_each", record_each)


def kept(model: AgentModel) -> int:
    """How many records the journal has."""
    assert model.journal is not None
    return model.journal.stats().depth


def test_a_call_returns_before_it_is_written(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function's caller does not wait for a store that takes its time."""
    search, held = searcher(model), Held(model, monkeypatch)
    try:
        with model.session(USER, "find a café"):
            before = kept(model)
            assert "near a" == search("a")
            assert held.reached.wait(60)
            assert before == kept(model)
            assert 1 == model.recorder.waiting
            held.go.set()
        assert 0 == model.recorder.waiting
    finally:
        held.go.set()


def test_whoever_reads_waits_for_the_call(model: AgentModel) -> None:
    """History, session, step and call are read as if they had been written at once; so are those without a block."""
    search, read = searcher(model), model.repository
    with model.session(USER, "find a café") as session:
        for number, place in enumerate("abc", 1):
            search(place)
            history = read.session_history(USER, session.session_id)
            assert number == len(history.executions) == len(history.processes)
        search("d")
        assert read.process(USER, session.session_id, "PRC004") is not None
        search("e")
        assert read.execution(USER, session.session_id, "PRC005", *REF) is not None
    search("f")
    (own,) = read.sessions(ANONYMOUS)
    assert own.ended_at is not None
    assert 1 == len(read.session_history(ANONYMOUS, own.session_id).executions)


def test_a_reader_that_does_not_wait_is_caught(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wait before reading, the call that was just made is missing: the test above would see it."""
    search, held = searcher(model), Held(model, monkeypatch)
    monkeypatch.setattr(model.repository, "before_reading", lambda _: None)
    try:
        with model.session(USER, "find a café") as session:
            search("a")
            found = model.repository.session_history(USER, session.session_id).executions
            held.go.set()
    finally:
        held.go.set()

    assert () == found


def test_the_end_of_the_block_waits(model: AgentModel) -> None:
    """After the block of the session, every step and call is kept, however many there were."""
    search = searcher(model)
    with model.session(USER, "find a café"):
        before = kept(model)
        for number in range(250):
            search(f"a{number}")

    assert before + 501 == kept(model)  # of each call the step and itself, and the end of the session


def test_what_is_recorded_at_once_comes_after_it(model: AgentModel) -> None:
    """A call that the recorder writes itself is a second attempt of the same tool in the same step, not the first."""
    search = searcher(model)
    with model.session(USER, "find a café") as session, session.process("look") as process:
        search("a")
        with process.call(*REF, values={"place": "b"}) as call:
            call.result = "near b"

    calls = model.repository.session_history(USER, session.session_id).executions
    assert [(1, '{"place": "a"}'), (2, '{"place": "b"}')] == [(each.attempt, each.values) for each in calls]


def test_a_demanded_durability_is_waited_for(settings: Settings) -> None:
    """Where the settings demand a level, the call returns when its record has it."""
    with opened(settings.model_copy(update={"durability": "valkey"})) as model:
        search = searcher(model)
        with model.session(USER, "find a café"):
            before = kept(model)
            search("a")
            assert before + 2 == kept(model)


def test_an_approved_call_waits_for_its_record(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person approved returns when it is kept: a process that is killed later does not make it again."""

    @model.tool(agent="finder", review="always")
    def pay(amount: int) -> str:
        return f"paid {amount}"

    with model.session(USER, "pay"):
        with pytest.raises(ReviewPending):
            pay(7)
        (question,) = model.reviews.inbox()
        model.reviews.decide(question, "approve", "ada")
        held = Held(model, monkeypatch)
        with ThreadPoolExecutor(1) as pool:
            try:
                paid = pool.submit(model.in_session(pay), 7)
                assert held.reached.wait(60)
                with pytest.raises(TimeoutError):
                    paid.result(timeout=0.2)
            finally:
                held.go.set()
            assert "paid 7" == paid.result(timeout=60)


def test_a_decision_knows_the_failures_before_it(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that fails is blocked as early as if each call had been written before it returned."""

    def failures_before_the_block(search: Any) -> int:
        with model.session(USER, "find a café"):
            for made in range(50):
                try:
                    search("nowhere")
                except ToolBlocked:
                    return made
                except LookupError:
                    continue
        raise AssertionError("it is never blocked")

    found = failures_before_the_block(searcher(model))
    later = model.recorder.record_later

    def at_once(*args: Any, **more: Any) -> None:
        later(*args, **more)
        model.settle()

    monkeypatch.setattr(model.recorder, "record_later", at_once)

    assert found == failures_before_the_block(searcher(model, "seeker"))


def test_a_full_queue_lets_callers_wait(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a caller waits for room, and everything is written."""
    search = searcher(model)
    monkeypatch.setattr(model.recorder._late._worker, "_max_waiting", 5)
    with model.session(USER, "find a café") as session, ThreadPoolExecutor(4) as pool:
        list(pool.map(model.in_session(search), [f"a{number}" for number in range(60)]))

    assert 60 == len(model.repository.session_history(USER, session.session_id).executions)
    assert 0 == model.functions.errors


def test_what_is_dropped_is_counted(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that stands still drops what finds no room in time; that is counted and logged, and calls are made."""
    search, held = searcher(model), Held(model, monkeypatch)
    worker = model.recorder._late._worker
    monkeypatch.setattr(worker, "_max_waiting", 2)
    monkeypatch.setattr(worker, "_max_wait", 0.01)
    try:
        with model.session(USER, "find a café") as session:
            for number in range(5):
                assert f"near a{number}" == search(f"a{number}")
            dropped = model.functions.errors
            held.go.set()
    finally:
        held.go.set()

    assert 3 == dropped
    assert 2 == len(model.repository.session_history(USER, session.session_id).executions)
    assert "calls.dropped" in caplog.text


def test_a_refused_call_costs_no_other(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that are written together, one that no store takes is counted, and the others are kept."""
    search, write = searcher(model), model.recorder.record_many

    def refusing(entities: Any) -> Any:
        if any(getattr(each, "values", None) == '{"place": "bad"}' for each in entities):
            raise JournalFull("no room", [])
        return write(entities)

    monkeypatch.setattr(model.recorder, "record_many", refusing)
    with model.session(USER, "find a café") as session:
        for place in ("a", "bad", "c"):
            search(place)

    calls = model.repository.session_history(USER, session.session_id).executions
    assert ['{"place": "a"}', '{"place": "c"}'] == [each.values for each in calls]
    assert 1 == model.functions.errors
