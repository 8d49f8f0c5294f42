"""What both checkers see of correct code: every type as it is promised, and no noise."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any, assert_type

from agentmodel import (
    Agent,
    AgentModel,
    AsyncAgentModel,
    Domain,
    Repository,
    Review,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.access.pagination import Page
from agentmodel.dynamo.entity import ItemKey
from agentmodel.suggest.guard import Ask, Blocked, Cached, Go
from agentmodel.suggest.review import Answer


def constructors() -> None:
    """Required attributes are enough; all of them are taken."""
    Domain(domain_id="DMN1", name="x")
    Agent(agent_id="AGT1", domain_id="DMN1", name="x", score=1)
    Tool(agent_id="AGT1", tool_id="TL1", domain_id="DMN1", name="x", spec={"a": 1}, read_only=True)
    User(user_id="USR1", name="x", profile=None, created_at=datetime.now(UTC))
    UserSession(user_id="USR1", session_id="SESS1", name="x", succeeded=None, version=1)
    UserSessionProcess(user_id="USR1", session_id="SESS1", process_id="PRC1", name="x")
    ToolExecution(
        user_id="USR1",
        session_id="SESS1",
        process_id="PRC1",
        agent_id="AGT1",
        tool_id="TL1",
        attempt=2,
        tool_name="x",
        succeeded=True,
        status="ok",
    )
    UserToolMapping(user_id="USR1", category="x", processes={"PRC1": "x"}, agents={}, tools={}, index_number=1)
    Review(user_id="USR1", session_id="SESS1", review_id="R1", question="x", due_at=datetime.now(UTC))


def attributes(agent: Agent, tool: Tool, user: User, session: UserSession, execution: ToolExecution) -> None:
    """Required attributes have their type, others may be None, on every entity."""
    assert_type(agent.agent_id, str)
    assert_type(agent.score, float)
    assert_type(agent.description, str | None)
    assert_type(agent.executions, int | None)
    assert_type(agent.last_run_at, datetime | None)
    assert_type(agent.version, int | None)
    assert_type(agent.expires_at, datetime | None)
    assert_type(tool.spec, dict[str, Any] | None)
    assert_type(tool.read_only, bool | None)
    assert_type(user.created_at, datetime | None)
    assert_type(session.name, str)
    assert_type(session.succeeded, bool | None)
    assert_type(execution.succeeded, bool)
    assert_type(execution.attempt, int)
    assert_type(agent.pk, str)
    assert_type(agent.gsi1_sk, str | None)


def assignments(agent: Agent, session: UserSession, mapping: UserToolMapping) -> None:
    """Values of the type are taken, None where it may be."""
    assert_type(mapping.processes, dict[str, str])
    agent.score = 5
    agent.description = None
    session.succeeded = True
    session.succeeded = None


def keys(agent: Agent) -> None:
    """Keys know their entity."""
    assert_type(Agent.at("AGT1"), ItemKey[Agent])
    assert_type(Tool.at("AGT1", "TL1"), ItemKey[Tool])
    assert_type(ToolExecution.at("USR1", "SESS1", "PRC1", "AGT1", "TL1", 1), ItemKey[ToolExecution])
    assert_type(agent.key, ItemKey[Agent])


def conditions() -> None:
    """Comparisons take values of the attribute's type."""
    Agent.score.gt(5)
    Agent.name.eq("x")
    UserSession.succeeded.eq(True)
    ToolExecution.status.ne("error")


def pynamodb(model: AgentModel, agent: Agent) -> None:
    """PynamoDB's methods give entities of the class; keys are texts, or made of attributes."""
    model.bind()
    assert_type(Agent.get("AGT1"), Agent)
    assert_type(Tool.get(Tool.at("AGT1", "TL1"), attributes_to_get=[Tool.name]), Tool)
    assert_type(next(Tool.query("AGT1", Tool.sk.startswith("TL"))), Tool)
    assert_type(next(Tool.query(Tool.agent_id.eq("AGT1"), Tool.tool_id.startswith("TLa"))), Tool)
    assert_type(next(Agent.gsi1.query("DMN1", Agent.gsi1_sk.between("AGTSCORE#1", "AGTSCORE#2"))), Agent)
    assert_type(next(Agent.gsi1.query(Agent.domain_id.eq("DMN1"), Agent.score >= 5)), Agent)
    assert_type(next(Review.gsi1.query(Review.queue.eq("q"), Review.due_at.lt(datetime.now(UTC)))), Review)
    assert_type(next(User.scan(User.name.startswith("a") & User.sk.exists())), User)
    assert_type(next(Tool.batch_get([Tool.at("AGT1", "TL1"), ("AGT1", "TL2")])), Tool)
    assert_type(Tool.count("AGT1", Tool.sk > "TL1"), int)
    assert_type(Tool.gsi1.count("DMN1"), int)
    agent.save(condition=Agent.pk.does_not_exist())
    agent.update(actions=[Agent.description.set("y")], condition=Agent.score.lt(5) | Agent.sk.exists())
    with model.bound() as table, Agent.batch_write() as batch:
        batch.save(agent)
        assert_type(table.run(Agent.get, "AGT1"), Agent)


def forms(agent: Agent, texts: dict[str, Any]) -> None:
    """Each form of an entity is read by its class, or into an entity."""
    assert_type(Agent.from_simple_dict(agent.to_simple_dict()), Agent)
    assert_type(Agent.from_dynamodb_dict(agent.to_dynamodb_dict()), Agent)
    assert_type(Agent.from_json(agent.to_json()), Agent)
    agent.from_simple_dict(texts)


def queries(model: AgentModel, repository: Repository) -> None:
    """Every pattern gives its entities."""
    assert_type(repository.domains("x", limit=5), Page[Domain])
    assert_type(repository.top_agents("DMN1", 5), Page[Agent])
    assert_type(repository.domain_tools("DMN1"), Page[Tool])
    assert_type(repository.agent_tools("AGT1"), Page[Tool])
    assert_type(repository.sessions("USR1", newest_first=False), Page[UserSession])
    history = repository.session_history("USR1", "SESS1")
    assert_type(history.processes, tuple[UserSessionProcess, ...])
    assert_type(history.executions, tuple[ToolExecution, ...])
    assert_type(history.reviews, tuple[Review, ...])
    assert_type(repository.user_mappings("USR1"), Page[UserToolMapping])
    assert_type(repository.mappings(), Page[UserToolMapping])
    assert_type(repository.agent("AGT1"), Agent | None)
    assert_type(model.table.get(User.at("USR1")), User | None)
    assert_type(model.table.get_many([Tool.at("AGT1", "TL1")]), list[Tool | None])
    for agent in repository.top_agents("DMN1"):
        assert_type(agent, Agent)
    assert_type(repository.sessions("USR1")[0], UserSession)
    assert_type(repository.sessions("USR1").cursor, str | None)


def recording(model: AgentModel) -> None:
    """A receipt knows what was recorded."""
    made = UserSessionProcess(user_id="USR1", session_id="SESS1", process_id="PRC1", name="x")
    assert_type(model.recorder.record(made).entity, UserSessionProcess)
    with model.session("USR1", "x") as session, session.process("a") as process, process.call("AGT1", "TL1") as call:
        call.result = {"any": "thing"}
        assert_type(session.session_id, str)
        assert_type(process.process_id, str)


def tools(model: AgentModel, other: AsyncAgentModel) -> None:
    """A function that is a tool keeps its signature, and a coroutine function stays one."""

    @model.tool(agent="finder", cache="user")
    def search(near: str, *, most: int = 3) -> list[str]:
        """Find."""
        return [near] * most

    @other.tool(agent="finder", review={"pay"}, wait=5.0)
    async def pay(amount: int) -> str:
        """Pay."""
        return str(amount)

    async def use() -> str:
        return assert_type(await pay(1), str)

    assert_type(search("a", most=2), list[str])
    assert inspect.iscoroutinefunction(use)


def deciding(model: AgentModel) -> None:
    """Each decision has its own parts."""

    def dear(agent_id: str, tool_id: str, arguments: Any) -> str | None:
        return "it is dear" if arguments["amount"] > 100 else None

    guard = model.guard(review=dear)
    step = guard.before(agent_id="AGT1", tool_id="TL1", user_id="USR1", session_id="SESS1")
    assert_type(step, Go | Blocked | Cached | Ask)
    if isinstance(step, Ask):
        assert_type(guard.answer(step.review), Answer | None)
