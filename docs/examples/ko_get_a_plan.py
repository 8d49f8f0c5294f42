"""말로 된 요청에서 프롬프트에 넣을 글까지, 그리고 다시: 기록, 학습, 계획, 실행."""

from agentmodel import AgentModel

with AgentModel.local() as model:
    # --8<-- [start:record]
    @model.tool(agent="매장 안내", domain="매장 검색")
    def locate(place: str) -> str:
        """장소의 위치를 돌려준다."""
        return f"{place}의 좌표"

    @model.tool(agent="매장 안내", domain="매장 검색")
    def search(near: str) -> str:
        """장소 근처의 카페를 돌려준다."""
        return f"{near} 근처의 카페"

    for place in ("잠실역", "강남역"):
        with model.session("USRmina", f"{place} 근처 조용한 카페 찾아줘"):
            search(locate(place))
    model.drain()  # 저널 → 테이블
    model.refresh()  # 테이블 → 웨어하우스: 점수와 패턴
    model.publish()  # 점수와 가장 좋은 순서 → 테이블
    # --8<-- [end:record]

    # --8<-- [start:plan]
    request = "시청역 근처에 조용한 카페 찾아줄래"
    plan = model.suggest("USRmina", request=request)
    print(plan.agent, [step.tool for step in plan.steps])
    print(*[reason.in_language("ko") for reason in plan.reasons], sep="\n")
    # --8<-- [end:plan]

    # --8<-- [start:prompt]
    print(plan.as_prompt(language="ko"))
    # --8<-- [end:prompt]

    # --8<-- [start:follow]
    with model.session("USRmina", request, plan=plan) as session:
        place = locate("시청역")
        print(model.next_tools(session).as_prompt(language="ko"))
        search(place)
    # --8<-- [end:follow]

    # --8<-- [start:category]
    for mapping in model.repository.user_mappings("USRmina"):
        print(mapping.category, mapping.executions)
    # --8<-- [end:category]
