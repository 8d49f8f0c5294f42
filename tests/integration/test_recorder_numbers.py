"""Nothing is overwritten: numbers of processes and attempts belong to one call for ever, whoever records at once."""

# ruff: noqa: SIM117 -- a session, its process and its call are nested blocks: that is what is tested
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import ValidationError
from agentmodel.keys import process_id

USER, SESSION = "USR001", "SESS20250614001"


@pytest.fixture(params=["valkey", "no valkey", "durability dynamodb"])
def stack(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings of a stack with an empty table: with Valkey, without, and with Valkey but no journal."""
    changes: dict[str, dict[str, Any]] = {
        "valkey": {},
        "no valkey": {"valkey_url": None},
        "durability dynamodb": {"durability": "dynamodb"},
    }
    given = settings.model_copy(update=changes[request.param])
    with AgentModel.from_settings(given) as model:
        model.table.create()
        yield given
        model.table.delete()


def call(number: int = 1, **values: Any) -> ToolExecution:
    """A tool call that asks for the first attempt."""
    given: dict[str, Any] = {
        "user_id": USER,
        "session_id": SESSION,
        "process_id": process_id(1),
        "agent_id": "AGT001",
        "tool_id": "TL001",
        "tool_name": "find",
        "succeeded": True,
        "call_number": number,
    }
    return ToolExecution(**(given | values))


def step(name: str, **values: Any) -> UserSessionProcess:
    """A process that asks for the first number."""
    given: dict[str, Any] = {"user_id": USER, "session_id": SESSION, "process_id": process_id(1), "name": name}
    return UserSessionProcess(**(given | values))


def record_step(model: AgentModel, name: str) -> None:
    """Go on with the session by one step with one call."""
    with model.session(USER, session_id=SESSION) as session, session.process(name) as process:
        with process.call("AGT001", "TL001") as made:
            made.result = name


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all of them in threads that start together."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.mark.parametrize("number", [-3, 2.5, "3", 10**30])
def test_a_number_that_no_process_has(stack: Settings, number: Any) -> None:
    """It is refused, and the next steps have the numbers that they had without it."""
    with AgentModel.from_settings(stack) as model, model.session(USER) as session:
        with pytest.raises(ValidationError, match=r"number \("):
            session.process("wrong", number=number)
        with session.process("right") as process:
            pass

    assert process_id(1) == process.process_id


def stored(settings: Settings) -> list[dict[str, Any]]:
    """All the table holds but the marks of drainers, the journal drained before, in the order of the keys."""
    with AgentModel.from_settings(settings) as model:
        if model.journal is not None:
            model.drain()
        return sorted(model.table.scan(), key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


def test_a_retry_is_an_attempt_of_its_own(stack: Settings) -> None:
    """Three calls of one tool in one process are three items: the sample's key, #002 and #003."""
    with AgentModel.from_settings(stack) as model:
        receipts = [model.recorder.record(call(n, result=f"answer {n}")) for n in (1, 2, 3)]

    assert [1, 2, 3] == [receipt.entity.attempt for receipt in receipts]
    assert ["PRC001#AGT001#TL001", "PRC001#AGT001#TL001#002", "PRC001#AGT001#TL001#003"] == [
        item["SK"]["S"] for item in stored(stack)
    ]
    assert ["answer 1", "answer 2", "answer 3"] == [item["ResultMsg"]["S"] for item in stored(stack)]


def test_attempts_are_counted_apart(stack: Settings) -> None:
    """Another process, agent or tool begins at the first attempt."""
    places: list[dict[str, str]] = [{}, {"process_id": "PRC002"}, {"agent_id": "AGT002"}, {"tool_id": "TL0010"}]
    with AgentModel.from_settings(stack) as model:
        receipts = model.recorder.record_many([call(n, **place) for n in (1, 2) for place in places])

    assert [1, 1, 1, 1, 2, 2, 2, 2] == [receipt.entity.attempt for receipt in receipts]
    assert 8 == len(stored(stack))


def test_two_recorders_never_take_one_number(stack: Settings) -> None:
    """Two clients in four threads each, recording at once into one session, leave every process and every attempt."""
    with AgentModel.from_settings(stack) as one, AgentModel.from_settings(stack) as other:

        def record(model: AgentModel, name: str) -> list[Any]:
            process = model.recorder.record(step(name)).entity
            return [process, *(model.recorder.record(call(n, result=f"{name}-{n}")).entity for n in (1, 2, 3))]

        works = [partial(record, model, f"thread-{n}") for n, model in enumerate([one, other] * 4)]
        written = [entity for entities in at_once(works) for entity in entities]
    items = stored(stack)

    assert 8 + 24 == len(items) == len({item["SK"]["S"] for item in items})
    assert {f"PRC{n:03d}" for n in range(1, 9)} == {e.process_id for e in written if isinstance(e, UserSessionProcess)}
    assert set(range(1, 25)) == {entity.attempt for entity in written if isinstance(entity, ToolExecution)}
    kept = {item["SK"]["S"]: item["ResultMsg" if "ResultMsg" in item else "ProcNM"]["S"] for item in items}
    assert {e.sk: e.result if isinstance(e, ToolExecution) else e.name for e in written} == kept


def test_the_same_call_is_one_item(stack: Settings) -> None:
    """A call recorded again, by another recorder and after a drain, is the same item under the same number."""
    with AgentModel.from_settings(stack) as one:
        one.recorder.record(call(1, call_id="first"))
        before = one.recorder.record(call(2, call_id="asked-twice", result="as it was"))
        again = one.recorder.record(call(2, call_id="asked-twice", result="as it was"))
    kept = stored(stack)
    with AgentModel.from_settings(stack) as other:
        later = other.recorder.record(call(2, call_id="asked-twice", result="as it was"))

    assert [(2, False), (2, True), (2, True)] == [
        (receipt.entity.attempt, receipt.repeated) for receipt in (before, again, later)
    ]
    assert 2 == len(kept)
    assert kept == stored(stack)


def test_the_same_call_at_once_is_one_item(stack: Settings) -> None:
    """Eight threads that record one call leave one item, and all of them get its number."""
    with AgentModel.from_settings(stack) as one, AgentModel.from_settings(stack) as other:
        receipts = at_once([partial(model.recorder.record, call(1, call_id="x")) for model in [one, other] * 4])

    assert ["PRC001#AGT001#TL001"] * 8 == [receipt.entity.sk for receipt in receipts]
    assert 1 == len(stored(stack))


def test_the_same_entity_recorded_twice_is_one_item(stack: Settings) -> None:
    """An entity without a call id is given one when it is recorded, so that recording it again is a repetition."""
    execution = call()
    with AgentModel.from_settings(stack) as model:
        first, second = model.recorder.record(execution), model.recorder.record(execution)

    assert execution.call_id
    assert (False, True) == (first.repeated, second.repeated)
    assert 1 == len(stored(stack))


def test_the_same_call_twice_in_one_batch_is_one_item(stack: Settings) -> None:
    """A batch that holds a call twice writes it once."""
    with AgentModel.from_settings(stack) as model:
        receipts = model.recorder.record_many([call(1, call_id="x"), call(1, call_id="y"), call(1, call_id="x")])

    assert [1, 2, 1] == [receipt.entity.attempt for receipt in receipts]
    assert 2 == len(stored(stack))


def test_a_session_is_continued_by_another_client(stack: Settings) -> None:
    """A client that goes on with a session takes the next process and call numbers, drained or not."""
    with AgentModel.from_settings(stack) as one:
        record_step(one, "a")
        with AgentModel.from_settings(stack) as other:
            record_step(other, "b")
            stored(stack)
            record_step(other, "c")
        history = one.repository.session_history(USER, SESSION)

    assert [("PRC001", "a"), ("PRC002", "b"), ("PRC003", "c")] == [(p.process_id, p.name) for p in history.processes]
    assert [1, 2, 3] == [execution.call_number for execution in history.executions]


def test_calls_of_one_session_in_threads_keep_their_numbers(stack: Settings) -> None:
    """Tools called at once in one process are attempts of their own, each with a call number of its own."""
    with AgentModel.from_settings(stack) as model, model.session(USER, session_id=SESSION) as session:
        with session.process("a") as process:

            def run(number: int) -> None:
                with process.call("AGT001", "TL001") as made:
                    made.result = number

            at_once([partial(run, number) for number in range(8)])
        history = model.repository.session_history(USER, SESSION)

    assert set(range(1, 9)) == {execution.attempt for execution in history.executions}
    assert list(range(1, 9)) == [execution.call_number for execution in history.executions]
    assert {str(n) for n in range(8)} == {execution.result for execution in history.executions}


def test_an_outage_of_valkey_in_a_session_loses_no_step(settings: Settings, tmp_path: Path) -> None:
    """Steps recorded before, while and after Valkey is down are all kept, under numbers of their own."""
    first = ValkeyServer(tmp_path / "valkey", durable=True).start()
    given = settings.model_copy(update={"valkey_url": first.url})
    with AgentModel.from_settings(given) as model:
        model.table.create()
        with model.session(USER, session_id=SESSION) as session:
            with session.process("before") as process, process.call("AGT001", "TL001") as made:
                made.result = "before"
            first.close()
            with session.process("while") as process, process.call("AGT001", "TL001") as made:
                made.result = "while"
            session.succeed()
    second = ValkeyServer(tmp_path / "valkey", durable=True).start()
    given = settings.model_copy(update={"valkey_url": second.url})
    try:
        with AgentModel.from_settings(given) as model:
            record_step(model, "after")
            model.drain()
            caches = model.repository.session_history(USER, SESSION)
        with AgentModel.from_settings(given.model_copy(update={"valkey_url": None})) as model:
            far = model.repository.session_history(USER, SESSION)
            model.table.delete()
    finally:
        second.close()

    assert ["before", "while", "after"] == [process.name for process in far.processes]
    assert {"before", "while", "after"} == {execution.result for execution in far.executions}
    assert (caches.processes, caches.executions) == (far.processes, far.executions)
