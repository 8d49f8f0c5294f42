"""A Strands agent is recorded: one hook provider."""

from typing import Any

from strands import Agent, tool
from strands.models.model import Model

from agentmodel import AgentModel
from agentmodel.integrations.strands import AgentModelHooks, Tracker


async def said(*_told: Any, **_named: Any) -> Any:  # what your model says
    call = next(calls, None)
    yield {"contentBlockStart": {"start": {"toolUse": call} if call else {}}}
    yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"near": "park"}'}} if call else {"text": "Go."}}}
    yield {"contentBlockStop": {}}
    yield {"messageStop": {"stopReason": "tool_use" if call else "end_turn"}}


calls = iter([{"name": "search", "toolUseId": "c1"}])
yours = type("Scripted", (Model,), {**dict.fromkeys(Model.__abstractmethods__, dict), "stream": said})()
search = tool(name="search", description="Find cafés.")(lambda near: f"a café near the {near}")
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    agent = Agent(yours, tools=[search], name="finder", callback_handler=None, hooks=[AgentModelHooks(tracker)])
    agent("find a café near the park", invocation_state={"user_id": "kim", "session_id": "t1"})
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
