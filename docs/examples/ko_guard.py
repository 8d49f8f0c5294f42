"""가드는 호출마다 정한다: 호출하거나, 캐시된 결과를 쓰거나, 막거나, 사람에게 묻는다."""

import logging

from agentmodel import Agent, AgentModel, Domain, Tool
from agentmodel.suggest.guard import Ask, Blocked, Cached, Go

logging.disable(logging.WARNING)  # 고장 나기 시작한 도구는 로그에도 남는다
CATALOGUE = [
    Domain(domain_id="DMN001", name="승차권"),
    Agent(agent_id="AGT001", domain_id="DMN001", name="판매"),
    Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="조회", read_only=True),
    Tool(agent_id="AGT001", tool_id="TL002", domain_id="DMN001", name="결제"),
    Tool(agent_id="AGT001", tool_id="TL003", domain_id="DMN001", name="인쇄"),
]
CALLS = [("TL001", {"to": "부산"}), ("TL001", {"to": "부산"}), ("TL002", {"amount": 900}), ("TL003", {"pages": 2})]

with AgentModel.local() as model:
    model.repository.put(*CATALOGUE)
    guard = model.guard(review={"결제"})
    with model.session("USR001", "부산 가는 표 사 줘") as session:
        with session.process("인쇄") as process:
            for _ in range(20):  # 한 번도 된 적 없는 프린터
                with process.call("AGT001", "TL003") as call:
                    call.fail("용지 없음")
        for number, (tool, arguments) in enumerate(CALLS):
            decision = guard.before(
                agent_id="AGT001", tool_id=tool, arguments=arguments,
                user_id="USR001", session_id=session.session_id, call_id=str(number),
            )  # fmt: skip
            match decision:
                case Go():
                    guard.after(decision, "열차 두 편")  # 여기서 호출한다
                    print("호출함:", tool)
                case Cached(result):
                    print("캐시:", result)
                case Blocked(message):
                    print("막힘:", message.partition(" since ")[0])
                case Ask(review):
                    model.reviews.decide(review, "reject", "kim", reason="너무 비쌈")  # 실제로는 사람이 한다
                    answer = guard.answer(review)
                    print("물어봄:", answer.decision if answer else "아직 답이 없음")
