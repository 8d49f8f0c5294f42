"""한 바퀴를 차례로: 기록, drain, refresh, publish, suggest."""

from __future__ import annotations

# --8<-- [start:catalogue]
from agentmodel import Agent, AgentModel, Domain, Tool, User

CATALOGUE = [
    Domain(domain_id="DMN001", name="매장 검색"),
    Agent(agent_id="AGT001", domain_id="DMN001", name="지도 에이전트"),
    Agent(agent_id="AGT002", domain_id="DMN001", name="후기 에이전트"),
    Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find_on_map"),
    Tool(agent_id="AGT002", tool_id="TL002", domain_id="DMN001", name="read_reviews"),
    User(user_id="USR001", name="미나"),
]
# --8<-- [end:catalogue]


# --8<-- [start:tools]
def find_on_map(place: str) -> list[str]:
    """여러분의 도구. 이 도구는 공원 하나만 안다."""
    return {"공원": ["카페 온다"]}[place]


def read_reviews(place: str) -> list[str]:
    """어디든 아는 다른 도구."""
    return [f"{place} 근처 조용한 카페"]


# --8<-- [end:tools]


# --8<-- [start:record]
def search(model: AgentModel, place: str) -> None:
    """세션 하나: 도구의 예외는 실패한 호출로 기록되고 그대로 다시 발생한다."""
    with model.session("USR001", request=f"{place} 근처 조용한 카페 찾아줘") as session:
        with session.process("위치확인") as process:
            try:
                with process.call("AGT001", "TL001", values={"place": place}) as call:
                    call.result = find_on_map(place)
                return
            except KeyError:
                print(f"지도가 모르는 곳: {place}")
    with model.session("USR001", request=f"{place} 근처 조용한 카페 찾아줘") as session:
        with (
            session.process("후기확인") as process,
            process.call("AGT002", "TL002", values={"place": place}) as call,
        ):
            call.result = read_reviews(place)


# --8<-- [end:record]


# --8<-- [start:loop]
with AgentModel.local() as model:
    model.repository.put(*CATALOGUE)
    for place in ("공원", "항구", "역"):
        search(model, place)

    model.drain()  # 저널 → 테이블
    model.refresh()  # 테이블 → 웨어하우스: 점수와 패턴
    model.publish()  # 점수 → 에이전트, 가장 좋은 방법 → 사용자

    for agent in model.repository.top_agents("DMN001"):
        print(f"{agent.name}: {agent.executions}번 중 {agent.successes}번 성공, 점수 {agent.score:.2f}")

    plan = model.suggest("USR001", request="호수 근처 조용한 카페 찾아줘")
    for step in plan.steps:
        print(f"다음번: {step.process}, {plan.agent}의 {step.tool}")
    print(*[reason.in_language("ko") for reason in plan.reasons], sep="\n")
# --8<-- [end:loop]
