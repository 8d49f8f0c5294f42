"""The asynchronous names: the same results, and round trips shared by those who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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


def test_every_public_name_has_its_awaited_twin() -> None:
    """What the synchronous classes offer, the asynchronous ones do, so that code can be moved by adding `await`."""
    from agentmodel import Recorder, Repository
    from agentmodel.aio import AsyncRepository

    own = {
        "Recorder": {"open", "continued", "tool_name", "known_tool_name"},
        "Repository": {"agents_by_score", "changed"},
    }
    own["AgentModel"] = {"drainer", "warehouse"}

    for sync, awaited in ((AgentModel, AsyncAgentModel), (Recorder, AsyncRecorder), (Repository, AsyncRepository)):
        names = {name for name in vars(sync) if not name.startswith("_")}

        assert set() == names - set(vars(awaited)) - own[sync.__name__]
