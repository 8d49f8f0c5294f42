"""The eight access patterns: what is called, which request it sends, what comes back."""

from __future__ import annotations

import json

from agentmodel import Agent, AgentModel, Domain, Tool, User, UserToolMapping
from agentmodel.access.patterns import PATTERNS
from agentmodel.dynamo.table import Query


def show(query: Query) -> None:
    """Print a request as DynamoDB gets it."""
    request = query.request()
    values = {name: value["S"] for name, value in request["ExpressionAttributeValues"].items()}
    index = request.get("IndexName", "table")
    order = "ascending" if request["ScanIndexForward"] else "descending"
    print(f"   {index}: {request['KeyConditionExpression']}  {json.dumps(values, ensure_ascii=False)}  {order}")


with AgentModel.local() as model:
    repository = model.repository
    repository.put(
        Domain(domain_id="DMN001", name="store search"),
        Agent(agent_id="AGT001", domain_id="DMN001", name="map agent", score=2.5),
        Agent(agent_id="AGT002", domain_id="DMN001", name="web agent", score=10.0),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="FIND_PLACE"),
        Tool(agent_id="AGT002", tool_id="TL001", domain_id="DMN001", name="SEARCH"),
        User(user_id="USR001", name="Mina"),
        UserToolMapping(
            user_id="USR001",
            category="cafe search",
            processes={"PRC001": "locate"},
            agents={"AGT001": "map agent"},
            tools={"PRC001#AGT001#TL001": "FIND_PLACE"},
        ),
    )
    with model.session("USR001", "a café near the stadium", session_id="SESS20250614001") as session:
        with session.process("locate") as process:
            with process.call("AGT001", "TL001", values={"place": "stadium"}) as call:
                call.result = "Jamsil"
    model.drain()

    queries = {pattern.name: pattern.query for pattern in PATTERNS}

    print("1 domains")
    show(queries["domains"]())
    print("  ", [domain.name for domain in repository.domains()])

    print("2 top_agents")
    show(queries["top_agents"]("DMN001"))
    print("  ", [(agent.name, agent.score) for agent in repository.top_agents("DMN001", limit=5)])

    print("3 domain_tools")
    show(queries["domain_tools"]("DMN001"))
    print("  ", [tool.name for tool in repository.domain_tools("DMN001")])

    print("4 agent_tools")
    show(queries["agent_tools"]("AGT001"))
    print("  ", [tool.tool_id for tool in repository.agent_tools("AGT001")])

    print("5 sessions")
    show(queries["sessions"]("USR001"))
    print("  ", [session.session_id for session in repository.sessions("USR001", limit=10)])

    print("6 session_history")
    show(queries["session_history"]("USR001", "SESS20250614001"))
    history = repository.session_history("USR001", "SESS20250614001")
    print("  ", [process.name for process in history.processes], [done.result for done in history.executions])

    print("7 user_mappings")
    show(queries["user_mappings"]("USR001", narrow="cafe"))
    print("  ", [mapping.category for mapping in repository.user_mappings("USR001", "cafe")])

    print("8 mappings")
    show(queries["mappings"](0, narrow="cafe"))
    print("  ", [(mapping.user_id, mapping.category) for mapping in repository.mappings("cafe")])
