from agentmodel import AgentModel

with AgentModel.local() as model:  # 이 컴퓨터에서 실제 엔진이 뜬다

    @model.tool(agent="매장 안내")
    def locate(place: str) -> str:
        return "37.51, 127.07"

    @model.tool(agent="매장 안내")
    def search(near: str) -> str:
        return "카페 온다"

    def agent(request: str, place: str) -> None:
        plan = model.suggest("USRmina", request=request)
        print(plan.as_prompt(language="ko"), end="\n\n")  # 모델의 프롬프트에 넣을 글
        with model.session("USRmina", request, plan=plan) as session:
            search(locate(place))  # 실제로는 언어 모델이 도구를 고른다
            session.succeed()
        history = model.repository.session_history("USRmina", session.session_id)
        for call in history.executions:
            print("기록:", call.tool_name, call.values, "→", call.result)

    agent("잠실역 근처 조용한 카페 찾아줘", "잠실역")
    model.drain()  # Valkey 저널 → DynamoDB
    model.refresh()  # DynamoDB → 웨어하우스: 점수와 패턴
    model.publish()  # 점수 → 에이전트, 가장 좋은 방법 → 사용자
    print("\n두 번째 요청:\n")
    agent("강남역 근처에 조용한 카페 찾아줄래", "강남역")
