"""The asynchronous names: the same results, and round trips shared by those who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentmodel import AgentModel, AsyncAgentModel, AsyncRecorder, Settings, Tool, ToolExecution
from agentmodel.access.recorder import Recorder
from agentmodel.exceptions import ValidationError


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def run(promise: Callable[[AsyncAgentModel], Awaitable[None]], model: AgentModel) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncAgentModel]:
        yield AsyncAgentModel(model)  # the fixture closes it

    async def main() -> None:
        async with opened() as made:
            await promise(made)

    asyncio.run(main())


def execution(number: int, *, result: str | None = None) -> ToolExecution:
    return ToolExecution(
        user_id="USR001",
        session_id="SESS1",
        process_id="PRC001",
        agent_id="AGT001",
        tool_id=f"TL{number:03d}",
        tool_name="FIND",
        succeeded=True,
        result=result,
    )


def test_the_loop_reads_the_same_with_await(model: AgentModel) -> None:
    """Sessions, processes and calls are context managers to await, and what they record is what the sync ones do."""

    async def promise(made: AsyncAgentModel) -> None:
        await made.repository.put(Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="FIND_PLACE"))
        async with made.session("USR001", "a café", category="cafe search") as session:
            async with session.process("locate") as process:
                with pytest.raises(TimeoutError):
                    async with process.call("AGT001", "TL001", values={"place": "stadium"}):
                        raise TimeoutError("map server")
                async with process.call("AGT001", "TL001") as call:
                    call.result, call.input_tokens = {"found": 1}, 7
            session.succeed()
        await made.drain()
        history = await made.repository.session_history("USR001", session.session_id)
        stored = await made.repository.session("USR001", session.session_id)

        assert [(1, False, "TimeoutError"), (2, True, None)] == [
            (each.attempt, each.succeeded, each.error_type) for each in history.executions
        ]
        assert ["FIND_PLACE"] == sorted({each.tool_name for each in history.executions})
        assert '{"found": 1}' == history.executions[1].result
        assert 7 == history.executions[1].input_tokens
        assert stored is not None
        assert stored.succeeded

    run(promise, model)


class Counting:
    """A recorder that counts its round trips, and holds the first until it is let go."""

    def __init__(self, inner: Recorder) -> None:
        self.inner = inner
        self.groups: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()

    def record_many(self, entities: list[Any]) -> list[Any]:
        self.groups.append(len(entities))
        self.began.set()
        self.go.wait(30)
        return self.inner.record_many(entities)

    def record(self, entity: Any) -> Any:
        return self.inner.record(entity)


def test_records_that_wait_go_together(model: AgentModel) -> None:
    """While one write is under way, all records that come in wait for it and share the next round trip."""

    async def main() -> None:
        counting = Counting(model.recorder)
        recorder = AsyncRecorder(counting)  # type: ignore[arg-type]  # a double that counts
        tasks = [asyncio.create_task(recorder.record(execution(0)))]
        await asyncio.to_thread(counting.began.wait, 30)
        tasks += [asyncio.create_task(recorder.record(execution(number))) for number in range(1, 64)]
        await asyncio.sleep(0)
        counting.go.set()
        receipts = await asyncio.gather(*tasks)

        assert [1, 63] == counting.groups
        assert [f"TL{number:03d}" for number in range(64)] == [receipt.entity.tool_id for receipt in receipts]

    asyncio.run(main())


def test_a_bad_record_fails_alone(model: AgentModel) -> None:
    """A record that is refused does not take those of its group with it."""

    async def promise(made: AsyncAgentModel) -> None:
        too_large = execution(2, result="x" * 410_000)
        outcomes = await asyncio.gather(
            *(made.recorder.record(each) for each in (execution(1), too_large, execution(3))), return_exceptions=True
        )

        assert [False, True, False] == [isinstance(each, ValidationError) for each in outcomes]
        await made.drain()
        history = await made.repository.session_history("USR001", "SESS1")
        assert ["TL001", "TL003"] == [each.tool_id for each in history.executions]

    run(promise, model)


def test_a_cancelled_task_leaves_the_others_alone(model: AgentModel) -> None:
    """Whoever is cancelled while waiting neither stops nor breaks the write of the others."""

    async def promise(made: AsyncAgentModel) -> None:
        tasks = [asyncio.create_task(made.recorder.record(execution(number))) for number in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

        assert [3] == [place for place, each in enumerate(outcomes) if isinstance(each, asyncio.CancelledError)]
        assert 9 == sum(not isinstance(each, BaseException) for each in outcomes)

    run(promise, model)


def test_each_event_loop_writes_its_own_records(model: AgentModel) -> None:
    """A recorder that one loop left in the middle of a write records in the next loop, and in two at once."""
    counting = Counting(model.recorder)
    recorder = AsyncRecorder(counting)  # type: ignore[arg-type]  # a double that counts

    async def leave() -> None:
        abandoned = asyncio.create_task(recorder.record(execution(0)))
        await asyncio.to_thread(counting.began.wait, 30)
        abandoned.cancel()
        counting.go.set()

    async def record(number: int) -> str:
        return (await recorder.record(execution(number))).entity.tool_id

    asyncio.run(leave())
    with ThreadPoolExecutor(2) as loops:
        recorded = list(loops.map(lambda number: asyncio.run(record(number)), (1, 2, 3, 4)))

    assert ["TL001", "TL002", "TL003", "TL004"] == recorded


def test_one_model_is_used_from_several_loops_at_once(model: AgentModel) -> None:
    """Sessions, guarded tools, questions and plans of one model in four loops at once: each finishes with its own."""
    shared = AsyncAgentModel(model)

    @shared.tool(agent="finder")
    async def search(q: str) -> str:
        return q

    async def use(name: str) -> tuple[str, str, str]:
        async with shared.session(f"USR{name}", "find it", category="search") as session:
            found = await asyncio.gather(*(search(name) for _ in range(20)))
            asked = await shared.reviews.ask(session.user_id, session.session_id, name)
            which = shared.reviews.reference(asked)
            waiting = asyncio.create_task(shared.reviews.wait(which, timeout=60))
            await shared.reviews.decide(which, "approve", by="ada")
            await waiting
        plan = await shared.suggest(f"USR{name}", category="search")
        return found[-1], (await shared.reviews.get(which)).question, plan.user_id

    with ThreadPoolExecutor(4) as loops:
        outcomes = list(loops.map(lambda name: asyncio.run(asyncio.wait_for(use(name), 120)), "abcd"))
    model.drain()
    kept = [
        len(model.repository.session_history(f"USR{name}", session.session_id).executions)
        for name in "abcd"
        for session in model.repository.sessions(f"USR{name}")
    ]

    assert [(name, name, f"USR{name}") for name in "abcd"] == outcomes
    assert [20, 20, 20, 20] == kept
