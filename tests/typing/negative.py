"""Ten mistakes with each of the nine entities: every line is an error to both checkers, by the rule it names.

In this order: a value of a wrong type, a misspelt name and missing arguments in a constructor; using what may be None;
None for what is required, a wrong type and an unknown attribute in an assignment; a wrong type in a key, in a condition
and in a query. An ignore that is no longer needed fails the check.
"""

# ruff: noqa: B018 -- an expression that is only looked at
from __future__ import annotations

from agentmodel import (
    Agent,
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


def domain(repository: Repository, domain: Domain) -> None:
    """Domain."""
    Domain(name="x", domain_id=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Domain(domain_id="DMN1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Domain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(domain.description)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    domain.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    domain.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    domain.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Domain.at(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Domain.name.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.domains(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def agent(repository: Repository, agent: Agent) -> None:
    """Agent."""
    Agent(agent_id="AGT1", domain_id="DMN1", name="x", score="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent(agent_id="AGT1", domain_id="DMN1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Agent()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(agent.description)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    agent.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    agent.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    agent.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Agent.at(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.score.gt("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.top_agents(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tool(repository: Repository, tool: Tool) -> None:
    """Tool."""
    Tool(agent_id="AGT1", tool_id="TL1", domain_id="DMN1", name=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool(agent_id="AGT1", tool_id="TL1", domain_id="DMN1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Tool()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(tool.description)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tool.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    tool.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    tool.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Tool.at("AGT1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.name.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.agent_tools(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def user(repository: Repository, user: User) -> None:
    """User."""
    User(user_id="USR1", name="x", created_at="2025")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    User(user_id="USR1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    User()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    user.profile.keys()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    user.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    User.at(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    User.name.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.user(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def user_session(repository: Repository, user_session: UserSession) -> None:
    """UserSession."""
    UserSession(user_id="USR1", session_id="SESS1", name="x", succeeded="Y")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserSession(user_id="USR1", session_id="SESS1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    UserSession()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(user_session.summary)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    user_session.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_session.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_session.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    UserSession.at("USR1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserSession.succeeded.eq("Y")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.sessions(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def user_session_process(repository: Repository, user_session_process: UserSessionProcess) -> None:
    """UserSessionProcess."""
    UserSessionProcess(user_id="USR1", session_id="SESS1", process_id="PRC1", name="x", prompt=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserSessionProcess(user_id="USR1", session_id="SESS1", process_id="PRC1", name="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    UserSessionProcess()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(user_session_process.prompt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    user_session_process.name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_session_process.name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_session_process.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    UserSessionProcess.at("USR1", "SESS1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserSessionProcess.name.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.session_history("USR1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tool_execution(repository: Repository, tool_execution: ToolExecution) -> None:
    """ToolExecution."""
    ToolExecution(
        user_id="USR1",
        session_id="SESS1",
        process_id="PRC1",
        agent_id="AGT1",
        tool_id="TL1",
        tool_name="x",
        succeeded=True,
        attempt="2",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    ToolExecution(  # type: ignore[call-arg]
        user_id="USR1",
        session_id="SESS1",
        process_id="PRC1",
        agent_id="AGT1",
        tool_id="TL1",
        tool_name="x",
        succeeded=True,
        nmae="x",  # pyright: ignore[reportCallIssue]
    )
    ToolExecution()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(tool_execution.result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tool_execution.tool_name = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    tool_execution.tool_name = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    tool_execution.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ToolExecution.at("USR1", "SESS1", "PRC1", "AGT1", "TL1", "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ToolExecution.status.eq("fine")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.execution("USR1", "SESS1", "PRC1", "AGT1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def user_tool_mapping(repository: Repository, user_tool_mapping: UserToolMapping) -> None:
    """UserToolMapping."""
    UserToolMapping(user_id="USR1", category="x", agents={}, tools={}, processes=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserToolMapping(user_id="USR1", category="x", processes={}, agents={}, tools={}, nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    UserToolMapping()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    user_tool_mapping.scored_at.year  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    user_tool_mapping.processes = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_tool_mapping.processes = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    user_tool_mapping.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    UserToolMapping.at("USR1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    UserToolMapping.score.lt("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.user_mappings("USR1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def review(repository: Repository, review: Review) -> None:
    """Review."""
    Review(user_id="USR1", session_id="SESS1", review_id="R1", question="x", due_at="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Review(user_id="USR1", session_id="SESS1", review_id="R1", question="x", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Review()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    len(review.queue)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    review.question = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    review.question = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    review.nmae = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Review.at("USR1", "SESS1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Review.question.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.delete(Review.at("USR1", "SESS1", "R1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
