import asyncio
from typing import Any

from google.adk import Agent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse  # type: ignore[attr-defined,unused-ignore]  # without a list
from google.adk.runners import InMemoryRunner
from google.genai.types import ModelContent, Part

from agentmodel import AgentModel
from agentmodel.integrations.google_adk import AgentModelPlugin, Tracker

with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:

    async def answer(*_told: Any, **_named: Any) -> Any:  # what your model says
        yield LlmResponse.model_validate({"content": next(said), "usage_metadata": {"prompt_token_count": 9}})

    def search(near: str) -> str:
        return f"a café near the {near}"

    said = iter([ModelContent(Part.from_function_call(name="search", args={"near": "park"})), ModelContent("Go.")])
    yours: Any = type("Scripted", (BaseLlm,), {"generate_content_async": answer})(model="scripted")
    agent = Agent(name="finder", model=yours, tools=[search])
    app = App(name="cafes", root_agent=agent, plugins=[AgentModelPlugin(tracker)])
    asyncio.run(InMemoryRunner(app=app).run_debug("find a café", user_id="kim", session_id="t1", quiet=True))
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
