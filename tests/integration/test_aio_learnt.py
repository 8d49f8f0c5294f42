"""What goes back, awaited: reviews, health, known answers, suggestions, as the synchronous names have them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentmodel import AgentModel, AsyncAgentModel, Settings
from agentmodel.exceptions import Conflict
from tests.integration.suggest_world import catalogue, opened


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def test_a_question_is_asked_and_answered(model: AgentModel) -> None:
    """A task waits for the answer that another one gives; a second decision is refused."""

    async def main() -> None:
        reviews = AsyncAgentModel(model).reviews
        asked = await reviews.ask("USR001", "SESS1", "Cancel?", agent_id="AGT001", tool_id="TL001", arguments={"n": 1})
        waiting = asyncio.create_task(reviews.wait(asked))
        assert [asked.review_id] == [review.review_id for review in await reviews.inbox()]
        await reviews.decide(reviews.reference(asked), "approve", "kim")
        answer = await waiting

        assert ("approve", "kim", {"n": 1}) == (answer.decision, answer.by, answer.arguments)
        with pytest.raises(Conflict, match="is already approved by kim"):
            await reviews.decide(asked, "approve", "lee")

    asyncio.run(main())


def test_repeated_calls_are_answered(model: AgentModel) -> None:
    """A read-only tool is awaited once; the second call is recorded as answered from what is known."""
    tool = model.repository.tool("AGT001", "TL001")
    assert tool is not None
    tool.read_only = True
    model.repository.put(tool)
    made = []

    async def find() -> dict[str, int]:
        made.append(1)
        return {"found": 3}

    async def main() -> None:
        twin = AsyncAgentModel(model)
        async with twin.session("USR001", "a café") as session:
            for _ in range(2):
                async with session.process("locate") as process:
                    given = await twin.response_cache.call(process, "AGT001", "TL001", find, arguments={"near": "park"})
                    assert {"found": 3} == given
        await twin.drain()
        history = await twin.repository.session_history("USR001", session.session_id)
        assert [None, "cache_hit"] == [None if call.status == "ok" else call.status for call in history.executions]

    asyncio.run(main())
    assert [1] == made


def test_plans_and_health_are_awaited(model: AgentModel) -> None:
    """A plan is kept as a suggestion, a session that begins with it tells how it went, and health is read."""

    async def main() -> None:
        twin = AsyncAgentModel(model)
        plan = await twin.suggest("USR001", domain_id="DMN001")
        async with twin.session("USR001", "a café", plan=plan) as session:
            async with session.process("locate") as process, process.call(plan.agent_id or "", "TL001"):
                pass
            session.succeed()
        (kept,) = await twin.suggestions.of_user("USR001")
        assert (plan.suggestion_id, True, True) == (kept.suggestion_id, kept.followed, kept.succeeded)
        assert [kept] == await twin.suggestions.all()
        assert {"closed"} == {row.state for row in await twin.health.tools("DMN001")}
        assert plan.agent_id == (await twin.planner.suggest("USR001", domain_id="DMN001")).agent_id

    asyncio.run(main())


def test_history_is_measured(model: AgentModel) -> None:
    """Evaluation and savings are those of the synchronous model."""

    async def main() -> None:
        twin = AsyncAgentModel(model)
        await twin.refresh(full=True)
        assert 0 == (await twin.evaluate(train_share=0.5)).runs
        assert [] == await twin.savings()

    asyncio.run(main())
