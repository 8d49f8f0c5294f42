"""Mistakes with the asynchronous names: every line is an error to both checkers, by the rule it names."""

from __future__ import annotations

from agentmodel import AgentModel, AsyncAgentModel, Domain
from agentmodel.aio import AsyncRecorder, AsyncRepository


async def parameters(model: AsyncAgentModel, repository: AsyncRepository) -> None:
    """Parameters are those of the synchronous methods: their types, their names, and whether they must be given."""
    await repository.domains(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.domains(nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.top_agents()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.top_agents("DMN001", 5, "cursor")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.put("DMN001")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await model.suggest(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await model.suggest("USR001", categry="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await model.refresh(source="stream!")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await model.reviews.decide("a/b/c", "maybe", by="kim")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await model.health.tools(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def made_of_others(model: AsyncAgentModel) -> None:
    """So are those of what gives another asynchronous object, or is not awaited."""
    model.session(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model.session("USR001", plam=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    model.guard(cache="nobody")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model.guard().may_ask(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model.tool(agent=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session = model.session("USR001")
    session.process(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.succeed(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def entities(recorder: AsyncRecorder, repository: AsyncRepository, domain: Domain) -> None:
    """Only history is recorded, only entities are changed, and what comes back has its type."""
    await recorder.record(domain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    await repository.update("DMN001")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (await repository.update(domain)).score  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018  # only looked at
    (await repository.domain("DMN001")).name  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # noqa: B018  # only looked at


async def awaiting(model: AsyncAgentModel, sync: AgentModel) -> None:
    """What is not awaited does nothing, and a twin is made of its own class."""
    model.drain()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    len(model.savings())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncRepository(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
