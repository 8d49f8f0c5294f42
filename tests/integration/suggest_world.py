"""A small installation for the tests of what goes back: catalogue, recorded sessions, and counted writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, User
from agentmodel.dynamo.table import Table

WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
TODAY = datetime.now(UTC)


def opened(settings: Settings) -> AgentModel:
    """A model on the test's engines with its table made; the caller closes it."""
    model = AgentModel(settings)
    model.table.create()
    return model


def catalogue(model: AgentModel, *, agents: int = 2, tools: Sequence[str] = ("locate", "search", "format")) -> None:
    """One domain with agents AGT001…, each with the same tools TL001…, and users USR001 to USR003."""
    model.repository.put(
        Domain(domain_id="DMN001", name="store search"),
        *[Agent(agent_id=f"AGT{n:03d}", domain_id="DMN001", name=f"agent {n}") for n in range(1, agents + 1)],
        *[
            Tool(agent_id=f"AGT{n:03d}", tool_id=f"TL{t:03d}", domain_id="DMN001", name=name)
            for n in range(1, agents + 1)
            for t, name in enumerate(tools, start=1)
        ],
        *[User(user_id=f"USR{n:03d}", name=f"user {n}") for n in range(1, 4)],
    )


def run(
    model: AgentModel,
    user_id: str = "USR001",
    agent_id: str = "AGT001",
    *,
    request: str = "find a café near the stadium",
    category: str | None = "cafe search",
    tools: Sequence[int] = (1, 2, 3),
    succeeded: bool = True,
    failing: Sequence[int] = (),
) -> str:
    """Record one session that calls these tools in order; its id."""
    with model.session(user_id, request, category=category) as session:
        for tool in tools:
            with session.process(f"step {tool}") as process, process.call(agent_id, f"TL{tool:03d}") as call:
                if tool in failing:
                    call.fail("no answer")
        if succeeded:
            session.succeed()
        else:
            session.fail()
    return session.session_id


def learn(model: AgentModel, *, as_of: datetime | None = None) -> None:
    """Drain what was recorded and refresh the warehouse."""
    model.drain()
    model.refresh(as_of=as_of or TODAY)


@contextmanager
def counted(table: Table) -> Iterator[Counter[str]]:
    """Counts the calls of DynamoDB's API by operation while the block runs."""
    calls: Counter[str] = Counter()
    original = table.call

    def call(operation: str, **request: Any) -> dict[str, Any]:
        calls[operation] += 1
        return original(operation, **request)

    table.call = call  # type: ignore[method-assign]  # a counter around the one door to DynamoDB
    try:
        yield calls
    finally:
        table.call = original  # type: ignore[method-assign]  # as it was


def writes(calls: Counter[str]) -> int:
    """How many of the counted calls wrote."""
    return sum(count for operation, count in calls.items() if operation in WRITES)


def days(count: float) -> timedelta:
    """Days."""
    return timedelta(days=count)
