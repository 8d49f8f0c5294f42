"""스레드 풀의 도구: 호출은 블록의 세션에 속한다."""

from concurrent.futures import ThreadPoolExecutor

from agentmodel import AgentModel

with AgentModel.local() as model:

    @model.tool(agent="매장 안내")
    def search(near: str) -> str:
        return f"{near} 근처 카페"

    with model.session("USRkim", "카페 찾아줘") as session, ThreadPoolExecutor(2) as pool:
        print(list(pool.map(model.in_session(search), ["강남역", "잠실역"])))

    history = model.repository.session_history("USRkim", session.session_id)
    print(len(history.executions), "건 기록됨, 세션의 사용자:", session.user_id)
