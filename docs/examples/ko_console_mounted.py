from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from agentmodel import AgentModel
from agentmodel.console import console

with AgentModel.local() as model:
    with model.session("USR001", "잠실역 근처 카페 찾아줘") as session:
        with session.process("위치확인") as process, process.call("AGT001", "TL001") as call:
            call.fail("응답 없음")

    app = Starlette(routes=[Mount("/agents", console(model))])  # 여러분의 앱. 어떤 ASGI 서버든 실행할 수 있다
    browser = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    page = browser.get(f"/agents/sessions/USR001/{session.session_id}")
    print(page.status_code, "응답 없음" in page.text)
