"""여덟 가지 접근 패턴: 부르는 메서드, 보내는 요청, 돌아오는 답."""

from __future__ import annotations

import json

from agentmodel import Agent, AgentModel, Domain, Tool, User, UserToolMapping
from agentmodel.access.patterns import PATTERNS
from agentmodel.dynamo.table import Query


def show(query: Query) -> None:
    """요청을 DynamoDB가 받는 그대로 출력한다."""
    request = query.request()
    values = {name: value["S"] for name, value in request["ExpressionAttributeValues"].items()}
    index = request.get("IndexName", "테이블")
    order = "오름차순" if request["ScanIndexForward"] else "내림차순"
    print(f"   {index}: {request['KeyConditionExpression']}  {json.dumps(values, ensure_ascii=False)}  {order}")


with AgentModel.local() as model:
    repository = model.repository
    repository.put(
        Domain(domain_id="DMN001", name="매장 검색"),
        Agent(agent_id="AGT001", domain_id="DMN001", name="지도 에이전트", score=2.5),
        Agent(agent_id="AGT002", domain_id="DMN001", name="웹 에이전트", score=10.0),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="FIND_PLACE"),
        Tool(agent_id="AGT002", tool_id="TL001", domain_id="DMN001", name="SEARCH"),
        User(user_id="USR001", name="미나"),
        UserToolMapping(
            user_id="USR001",
            category="매장검색:카페",
            processes={"PRC001": "위치확인"},
            agents={"AGT001": "지도 에이전트"},
            tools={"PRC001#AGT001#TL001": "FIND_PLACE"},
        ),
    )
    with model.session("USR001", "잠실역 근처 카페", session_id="SESS20250614001") as session:
        with session.process("위치확인") as process:
            with process.call("AGT001", "TL001", values={"place": "잠실역"}) as call:
                call.result = "잠실"
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
    show(queries["user_mappings"]("USR001", narrow="매장검색"))
    print("  ", [mapping.category for mapping in repository.user_mappings("USR001", "매장검색")])

    print("8 mappings")
    show(queries["mappings"](0, narrow="매장검색"))
    print("  ", [(mapping.user_id, mapping.category) for mapping in repository.mappings("매장검색")])
