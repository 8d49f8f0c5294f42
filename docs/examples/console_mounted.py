from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from agentmodel import AgentModel
from agentmodel.console import console

with AgentModel.local() as model:
    with model.session("USR001", "find a café near the stadium") as session:
        with session.process("locate") as process, process.call("AGT001", "TL001") as call:
            call.fail("no answer")

    app = Starlette(routes=[Mount("/agents", console(model))])  # yours, which any ASGI server runs
    browser = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    page = browser.get(f"/agents/sessions/USR001/{session.session_id}")
    print(page.status_code, "no answer" in page.text)
