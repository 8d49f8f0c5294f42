"""What both checkers see of the asynchronous names: the synchronous types, awaited, and no noise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, assert_type

from agentmodel import (
    Agent,
    AsyncAgentModel,
    AsyncRecorder,
    Domain,
    Repository,
    Review,
    Tool,
    ToolExecution,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.access.pagination import Page
from agentmodel.access.recorder import HistoryEntity, Receipt
from agentmodel.access.repository import SessionHistory
from agentmodel.access.trace_import import Imported
from agentmodel.aio import (
    AsyncCallRecorder,
    AsyncGuard,
    AsyncHealthMonitor,
    AsyncPlanner,
    AsyncProcessRecorder,
    AsyncRepository,
    AsyncResponseCache,
    AsyncReviews,
    AsyncSessionRecorder,
    AsyncSuggestionLog,
)
from agentmodel.cache import CacheStats, Drained
from agentmodel.dynamo.models import ReviewStatus, Suggestion
from agentmodel.redshift.reports import SavingsRow
from agentmodel.redshift.warehouse import Refreshed
from agentmodel.suggest.evaluate import Evaluation
from agentmodel.suggest.guard import Ask, Blocked, Cached, CacheLookup, Go
from agentmodel.suggest.health import Cusum, ToolHealth
from agentmodel.suggest.plan import Failing, Plan, ToolRef
from agentmodel.suggest.publish import Published
from agentmodel.suggest.review import Answer


async def reading(repository: AsyncRepository) -> None:
    """Every access pattern gives its entities, with the same parameters, positional or by keyword."""
    assert_type(repository.sync, Repository)
    assert_type(await repository.domains("x", limit=5), Page[Domain])
    assert_type(await repository.top_agents(domain_id="DMN001", limit=5, cursor=None), Page[Agent])
    assert_type(await repository.domain_tools("DMN001", 5), Page[Tool])
    assert_type(await repository.agent_tools("AGT001"), Page[Tool])
    assert_type(await repository.sessions("USR001", newest_first=False), Page[UserSession])
    assert_type(await repository.session_history("USR001", "SESS1", limit=5), SessionHistory)
    assert_type(await repository.user_mappings("USR001", category="x"), Page[UserToolMapping])
    assert_type(await repository.mappings(), Page[UserToolMapping])
    assert_type(await repository.agent(agent_id="AGT001"), Agent | None)
    assert_type(await repository.execution("USR1", "SESS1", "PRC1", "AGT1", "TL1", attempt=2), ToolExecution | None)


async def writing(repository: AsyncRepository, agent: Agent, domain: Domain) -> None:
    """A changed entity keeps its type, by key and by entity."""
    assert_type(await repository.update(Agent.at("AGT001"), Agent.description.to("finds")), Agent)
    assert_type(await repository.update(domain, Domain.description.to(None)), Domain)
    await repository.put(agent, domain)
    await repository.put_new(entity=agent)
    await repository.delete(agent)


async def recording(recorder: AsyncRecorder, made: UserSessionProcess, call: ToolExecution) -> None:
    """A receipt knows what was recorded."""
    assert_type(await recorder.record(made), Receipt[UserSessionProcess])
    assert_type((await recorder.record(call)).entity, ToolExecution)
    assert_type(await recorder.record_many([made]), list[Receipt[UserSessionProcess]])
    both: list[HistoryEntity] = [made, call]
    assert_type(await recorder.record_many(both), list[Receipt[HistoryEntity]])


async def sessions(model: AsyncAgentModel, plan: Plan) -> None:
    """Blocks give the asynchronous recorders."""
    assert_type(model.recorder.session("USR001", name="x"), AsyncSessionRecorder)
    async with model.session("USR001", "a café", category="cafes", plan=plan) as session:
        assert_type(session, AsyncSessionRecorder)
        assert_type(session.session_id, str)
        async with session.process("locate", number=1) as process:
            assert_type(process, AsyncProcessRecorder)
            async with process.call("AGT001", "TL001", values={"a": 1}) as call:
                assert_type(call, AsyncCallRecorder)
                call.result = {"any": "thing"}
                call.mark("edited")
            assert_type(call.receipt, Receipt[ToolExecution] | None)
        session.succeed(summary="found")


async def the_loop(model: AsyncAgentModel) -> None:
    """Each step of the loop gives what the synchronous one gives."""
    assert_type(await model.import_traces("a.jsonl", Path("b.jsonl"), strict=True), Imported)
    assert_type(await model.drain(), Drained)
    assert_type(await model.refresh(full=True, source="scan"), Refreshed)
    assert_type(await model.publish(), Published)
    assert_type(await model.suggest("USR001", category="cafes"), Plan)
    assert_type(await model.evaluate(train_share=0.5), Evaluation)
    assert_type(await model.savings(), list[SavingsRow])
    assert_type(await model.report("report.html", rows=5), Path)
    assert_type(await model.stats(), CacheStats | None)
    await model.settle()


async def what_goes_back(model: AsyncAgentModel, plan: Plan, tools: Mapping[ToolRef, Tool]) -> None:
    """Plans, suggestions and health are typed as they are without asyncio."""
    assert_type(model.planner, AsyncPlanner)
    assert_type(await model.planner.suggest("USR001", request="a café"), Plan)
    assert_type(model.suggestions, AsyncSuggestionLog)
    assert_type(await model.suggestions.of_user("USR001"), list[Suggestion])
    assert_type(await model.suggestions.all(), list[Suggestion])
    assert_type(await model.suggestions.keep(plan, candidates={}, propensity=1.0), str | None)
    assert_type(model.health, AsyncHealthMonitor)
    assert_type(await model.health.tools("DMN001"), list[ToolHealth])
    assert_type(await model.health.health(tools, tools), dict[ToolRef, Cusum])
    assert_type(await model.health.failing(tools, tools), Mapping[ToolRef, Failing])


async def deciding(model: AsyncAgentModel) -> None:
    """A guard is made with the same parameters, and each decision has its own parts."""
    guard = model.guard(review={"pay"}, cache=False, on_expiry="reject")
    assert_type(guard, AsyncGuard)
    step = await guard.before(agent_id="AGT001", tool_id="TL001", user_id="USR001", session_id="SESS1")
    assert_type(step, Go | Blocked | Cached | Ask)
    assert_type(guard.may_ask("pay"), bool)
    assert_type(guard.undecided(tool="pay"), Go | Blocked)
    await guard.after(step, {"any": "thing"})
    if isinstance(step, Ask):
        assert_type(await guard.answer(step.review), Answer | None)


async def reviewing(model: AsyncAgentModel) -> None:
    """Questions and answers are awaited."""
    reviews = model.reviews
    assert_type(reviews, AsyncReviews)
    asked = await reviews.ask("USR001", "SESS1", "Cancel?", agent_id="AGT001", arguments={"n": 1})
    assert_type(asked, Review)
    assert_type(reviews.reference(asked), str)
    assert_type(await reviews.inbox(limit=5), Page[Review])
    assert_type(await reviews.decide(asked, "approve", by="kim"), Review)
    assert_type(await reviews.status(asked), ReviewStatus)
    assert_type(await reviews.wait(asked, timeout=5.0), Answer)


async def answering(cache: AsyncResponseCache, process: AsyncProcessRecorder) -> None:
    """A tool is awaited where its answer is not cached."""

    async def find() -> dict[str, int]:
        return {"found": 1}

    await cache.call(process, "AGT001", "TL001", find, arguments={}, scope="everybody")
    looked = await cache.look("AGT001", "TL001", {}, user_id="USR001")
    assert_type(looked, CacheLookup)
    assert_type(await cache.keep(looked, {"found": 1}), bool)


async def tasks(model: AsyncAgentModel) -> Callable[[], Coroutine[Any, Any, Drained]]:
    """What is awaited is a coroutine, which a task can be made of, and a method is one that can be handed on."""
    task = asyncio.create_task(model.suggest("USR001", category="x"))
    assert_type(await task, Plan)
    return model.drain
