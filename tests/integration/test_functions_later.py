"""Calls of functions that are tools are written a moment later: who reads finds them all the same, and none is lost."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution, keys
from agentmodel._runtime.deadline import deadline
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

        def record_each(*wanted: Any) -> Any:
            self.reached.set()
            assert self.go.wait(60)
            return write(*wanted)

        for late in model.recorder._late:
            monkeypatch.setattr(late, "_record_each", record_each)


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


def test_the_table_alone_is_written_to_by_several(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a journal each record is a write of its own: sessions are written at the same time, each in its order."""
    with opened(settings.model_copy(update={"valkey_url": None})) as model:
        search, write = searcher(model), model.recorder.record_each
        writing, several = Counter[str](), threading.Event()

        def record_each(entities: Any, versions: Any) -> Any:
            if entities:
                writing["now"] += 1
                if writing["now"] > 1:
                    several.set()
                several.wait(5)
                writing["now"] -= 1
            return write(entities, versions)

        for late in model.recorder._late:
            monkeypatch.setattr(late, "_record_each", record_each)
        for number in range(32):
            search(f"a{number}")  # in a session of its own
        model.settle()
        histories = [
            (one.ended_at is not None, model.repository.session_history(ANONYMOUS, one.session_id))
            for one in model.repository.sessions(ANONYMOUS, limit=100)
        ]

    assert several.is_set()
    assert [(True, 1, 1)] * 32 == [(ended, len(one.processes), len(one.executions)) for ended, one in histories]


@pytest.mark.parametrize("has_valkey", [True, False])
def test_an_erasure_elsewhere_covers_what_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, has_valkey: bool
) -> None:
    """What was told before another process erased its user goes, although it is written after; what is told later stays."""
    if not has_valkey:
        settings = settings.model_copy(update={"valkey_url": None})
    with opened(settings) as model, opened(settings) as other:
        search, held = searcher(model), Held(model, monkeypatch)
        try:
            search("a")
            assert held.reached.wait(60)
            other.erase_user(ANONYMOUS)
            search("b")
            held.go.set()
            model.settle()
        finally:
            held.go.set()
        if has_valkey:
            model.drain()
        (own,) = other.repository.sessions(ANONYMOUS)
        (call,) = other.repository.session_history(ANONYMOUS, own.session_id).executions
        kept = [
            each["SK"]["S"]
            for each in other.table.call("Scan", TableName=other.table.name)["Items"]
            if each["PK"]["S"].startswith(ANONYMOUS)
        ]

    assert '{"place": "b"}' == call.values
    assert sorted([own.session_id, "PRC001", f"PRC001#{REF.agent_id}#{REF.tool_id}"]) == sorted(kept)


@pytest.mark.parametrize("valkey", [True, False])
def test_an_observer_that_fails_costs_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture, valkey: bool
) -> None:
    """A function in `on_late` that raises is logged: the call is made and recorded, and the next one is told."""
    told = list[Any]()

    def broken(_: Any) -> None:
        raise RuntimeError("a defect")

    with opened(settings if valkey else settings.model_copy(update={"valkey_url": None})) as model:
        model.recorder.on_late[:0] = [broken]
        model.recorder.on_late.append(told.extend)
        search = searcher(model)
        assert "near a" == search("a")
        (own,) = model.repository.sessions(ANONYMOUS)
        assert 1 == len(model.repository.session_history(ANONYMOUS, own.session_id).executions)

    assert (3, 0) == (len(told), model.functions.errors)
    assert "records.not_told" in caplog.text


def test_a_full_queue_lets_callers_wait(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a caller waits for room, and everything is written."""
    search = searcher(model)
    monkeypatch.setattr(model.recorder._late[0]._worker, "_max_waiting", 5)
    with model.session(USER, "find a café") as session, ThreadPoolExecutor(4) as pool:
        list(pool.map(model.in_session(search), [f"a{number}" for number in range(60)]))

    assert 60 == len(model.repository.session_history(USER, session.session_id).executions)
    assert 0 == model.functions.errors


def test_what_is_dropped_is_counted(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that stands still drops what finds no room in time; that is counted and logged, and calls are made."""
    search, held = searcher(model), Held(model, monkeypatch)
    worker = model.recorder._late[0]._worker
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


def refuse(model: AgentModel, monkeypatch: pytest.MonkeyPatch, place: str, *, after: int = 0) -> None:
    """Let no store take the call about a place; of those written with it, only the first ``after`` are taken."""
    write = model.recorder._history_writer.write

    def refusing(writes: Any) -> None:
        others = [each for each in writes if getattr(each.entity, "values", None) != f'{{"place": "{place}"}}']
        if len(others) < len(writes):
            write(others[:after])
            raise JournalFull("no room", [])
        write(writes)

    monkeypatch.setattr(model.recorder._history_writer, "write", refusing)


def test_a_refused_call_costs_no_other(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that are written together, one that no store takes is counted, and the others are kept."""
    search = searcher(model)
    refuse(model, monkeypatch, "bad")
    with model.session(USER, "find a café") as session:
        for place in ("a", "bad", "c"):
            search(place)

    calls = model.repository.session_history(USER, session.session_id).executions
    assert ['{"place": "a"}', '{"place": "c"}'] == [each.values for each in calls]
    assert 1 == model.functions.errors


def test_what_is_kept_before_an_error_is_learned_from_once(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a store stops in the middle of a write, the part that is kept is no error, and its observers see it."""
    search, observed = searcher(model), list[Any]()
    model.recorder.observers.append(lambda kept: observed.extend(each for each in kept if hasattr(each, "values")))
    refuse(model, monkeypatch, "bad", after=1)
    with model.session(USER, "find a café"):
        for place in ("a", "bad", "c"):
            search(place)

    assert ['{"place": "a"}', '{"place": "c"}'] == [each.values for each in observed]
    assert 1 == model.functions.errors


def test_a_defect_is_counted(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost by an error that no store raises is counted, too, and what comes later is written."""
    search = searcher(model)

    def broken(_: Any) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(model.recorder._late[0], "_begin", broken)
        patched.setattr(model.recorder._late[0]._worker, "_linger", 60.0)  # all three are written together
        assert "near a" == search("a")
        model.settle()
    assert 3 == model.functions.errors  # the beginning of the session, the call and the end of the session
    search("b")

    (own,) = model.repository.sessions(ANONYMOUS)
    assert 1 == len(model.repository.session_history(ANONYMOUS, own.session_id).executions)
    assert 3 == model.functions.errors


def test_a_call_without_a_step_is_written_too(model: AgentModel) -> None:
    """`Recorder.record_later` takes a call whose process somebody else records."""
    with model.session(USER, "find a café") as session:
        entity = ToolExecution(
            user_id=USER, session_id=session.session_id, process_id="PRC001", agent_id=REF.agent_id,
            tool_id=REF.tool_id, tool_name="search", succeeded=True,
        )  # fmt: skip
        model.recorder.record_later(entity, failed=model.functions.history.failed, what="a call")

    assert 1 == len(model.repository.session_history(USER, session.session_id).executions)


def test_a_failure_that_is_not_written_yet_is_not_taken_for_learned(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a decision has no time to wait for a failed call, the next decision waits for it."""
    search, held = searcher(model), Held(model, monkeypatch)
    try:
        with model.session(USER, "find a café"):
            with pytest.raises(LookupError):
                search("nowhere")
            assert held.reached.wait(60)
            with deadline(0.02):
                model.settle()
            assert model._failures != model._learned_failures
            held.go.set()
            model.settle()
            assert model._failures == model._learned_failures
    finally:
        held.go.set()


def test_learning_does_not_wait_for_what_waits_for_it(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What learns reads the user's history while more calls of the user are written, whose learning finds no room."""
    search, held = searcher(model), Held(model, monkeypatch)
    monkeypatch.setattr(model._background, "_max_waiting", 1)
    monkeypatch.setattr(model._background, "_max_wait", 5.0)
    learns, found = threading.Event(), list[Any]()

    def learn(sessions: Any) -> None:
        learns.set()
        assert held.go.wait(60)
        found.append(model.repository.session(USER, sessions[0]))

    try:
        with model.session(USER, "find a café") as session:
            model._background.put(learn, [session.session_id])
            assert learns.wait(60)
            search("a")
            assert held.reached.wait(60)
            held.go.set()
    finally:
        held.go.set()
    model.settle()

    assert [session.session_id] == [each.session_id for each in found]
    assert 0 == model._background.dropped


def test_a_session_with_a_failed_call_is_forgotten(model: AgentModel) -> None:
    """What is known of the calls of a session ends with it, also where the last call failed and was not tried again."""
    search, sessions = searcher(model), list[Any]()
    for _ in range(3):
        with model.session(USER, "find a café") as session, pytest.raises(LookupError):
            search("nowhere")
        sessions.append(weakref.ref(session))
    del session
    with pytest.raises(LookupError):
        search("nowhere")  # the context of this thread has another session than the last one now
    model.settle()
    gc.collect()

    assert [None] * 3 == [each() for each in sessions]
