"""순수 파이썬 함수가 도구가 된다: 데코레이터 하나."""

from agentmodel import AgentModel
from agentmodel.exceptions import ReviewPending

with AgentModel.local() as model:

    @model.tool(agent="매장 안내", cache="user")
    def search(near: str) -> list[str]:
        """카페를 찾는다."""
        return [f"{near} 근처 카페"]

    @model.tool(agent="매장 안내", review="always")
    def book(place: str) -> str:
        """자리를 예약한다."""
        return f"{place} 예약함"

    with model.session("USR001", "강남역 근처에 자리 예약해 줘") as session:
        found = search("강남역") + search("강남역")
        try:
            book(found[0])
        except ReviewPending as pending:
            model.reviews.decide(pending.review, "approve", "kim")  # 사람이 나중에 다른 곳에서
            book(found[0])
    for call in model.repository.session_history("USR001", session.session_id).executions:
        print(call.tool_name, call.values, call.status, call.result)
