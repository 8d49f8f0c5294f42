"""엔터티 클래스를 PynamoDB 모델로 쓰기: 테이블에 묶고, 읽고, 찾고, 세고, 바꾸고, 넘긴다."""

from __future__ import annotations

from agentmodel import Agent, AgentModel, Tool

with AgentModel.local() as model:
    # --8<-- [start:bind]
    model.bind()  # 프로그램을 시작할 때 한 번
    Agent(agent_id="AGT001", domain_id="DMN001", name="지도 에이전트", score=60).save()
    # --8<-- [end:bind]
    Agent(agent_id="AGT002", domain_id="DMN001", name="웹 에이전트", score=35.5).save()
    for number, name in enumerate(("FIND_LOC", "FIND_ROUTE", "OPEN_HOURS"), start=1):
        Tool(agent_id="AGT001", tool_id=f"TL00{number}", domain_id="DMN001", name=name).save()

    # --8<-- [start:read]
    agent = Agent.get("AGT001")
    tool = Tool.get(Tool.at("AGT001", "TL001"))
    print(agent.name, "도구 수:", Tool.count("AGT001"), "첫 번째:", tool.name)

    found = Tool.query(Tool.agent_id.eq("AGT001"), Tool.tool_id.ge("TL002"))
    print([tool.name for tool in found])

    best = Agent.gsi1.query(Agent.domain_id.eq("DMN001"), Agent.score.ge(50), scan_index_forward=False)
    print([(agent.name, agent.score) for agent in best], "읽은 수:", best.page_iter.total_scanned_count)
    # --8<-- [end:read]

    # --8<-- [start:forms]
    text = agent.to_json()
    print(text)
    print(Agent.from_json(text) == agent)
    # --8<-- [end:forms]
