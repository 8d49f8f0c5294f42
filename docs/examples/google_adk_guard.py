"""A person decides about a call of an agent of Google ADK: the run stops with it, and goes on with the answer."""

import asyncio
from typing import Any

from google.adk import Agent
from google.adk.apps import App
from google.adk.models import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

from agentmodel import AgentModel
from agentmodel.integrations.google_adk import AgentModelPlugin, Tracker


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


async def said(*_told: Any, **_named: Any) -> Any:  # what your model says
    yield LlmResponse(content=types.ModelContent(next(parts)), usage_metadata=usage)


async def talk() -> None:
    events: list[Any] = await runner.run_debug("pay the bill", user_id="kim", session_id="t1", quiet=True)
    calls = [call for event in events for call in event.get_function_calls()]
    (asked,) = [call for call in calls if call.name == "adk_request_confirmation"]
    question = asked.args["toolConfirmation"]["payload"]
    print(question["tool"], question["arguments"], question["reason"])
    decision = {"decision": "edit", "by": "lee", "arguments": {"amount": 5}}
    response = {"confirmed": True, "payload": decision}
    answer = types.FunctionResponse(id=asked.id, name=asked.name, response=response)
    message = types.UserContent(types.Part(function_response=answer))
    after: Any = runner.run_async(user_id="kim", session_id="t1", new_message=message)
    async for event in after:
        print([part.text or part.function_response.response for part in event.content.parts])


usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=9, candidates_token_count=2)
parts = iter([types.Part.from_function_call(name="pay", args={"amount": 8}), types.Part(text="Done.")])
yours: Any = type("Scripted", (BaseLlm,), {"generate_content_async": said})(model="scripted")
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    ours = AgentModelPlugin(tracker, guard=model.guard(review=["pay"]))
    agent = Agent(name="finder", model=yours, tools=[pay])
    runner = InMemoryRunner(app=App(name="cafes", root_agent=agent, plugins=[ours]))
    asyncio.run(talk())
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(call.tool_name, call.values, call.status, call.result)
