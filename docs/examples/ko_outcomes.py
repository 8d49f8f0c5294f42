"""실행의 결과를 나중에 알리기: 다음 refresh부터 반영된다."""

from __future__ import annotations

from agentmodel import Agent, AgentModel, Domain, Tool

with AgentModel.local() as model:
    model.repository.put(
        Domain(domain_id="DMN001", name="카페"),
        Agent(agent_id="AGT001", domain_id="DMN001", name="매장 안내"),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="예약"),
    )
    with model.session("USR001", request="조용한 카페 예약해 줘", category="예약") as session:
        with session.process("예약") as process, process.call("AGT001", "TL001") as call:
            call.result = "4번 자리"  # 호출이 성공했으므로 실행도 성공으로 센다

    def learn() -> str:
        model.drain()
        model.refresh()
        model.publish()
        agent = model.repository.agent("AGT001")
        return f"실행 {agent.executions}번 중 {agent.successes}번 성공" if agent else "에이전트 없음"

    print("호출로 판단:", learn())

    # 한 시간 뒤 다른 프로그램에서: 사용자와 세션의 id만 있으면 된다
    model.outcome(
        session.session_id, user_id="USR001", succeeded=False, source="event", by="취소", reason="너무 시끄러움"
    )
    print("사건으로 판단:", learn())

    model.outcome(session.session_id, user_id="USR001", score=0.9, source="evaluator", by="평가")
    print("더 믿을 만한 사건으로 그대로:", learn())
