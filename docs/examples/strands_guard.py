"""A person decides about a Strands agent's call: the agent is interrupted, and goes on with the answer."""

from typing import Any

from strands import Agent, tool
from strands.models.model import Model

from agentmodel import AgentModel
from agentmodel.integrations.strands import AgentModelHooks, Tracker


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


async def said(*_told: Any, **_named: Any) -> Any:  # what your model says
    call = next(calls, None)
    yield {"contentBlockStart": {"start": {"toolUse": call} if call else {}}}
    yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"amount": 8}'}} if call else {"text": "Done."}}}
    yield {"contentBlockStop": {}}
    yield {"messageStop": {"stopReason": "tool_use" if call else "end_turn"}}


calls = iter([{"name": "pay", "toolUseId": "c1"}])
yours = type("Scripted", (Model,), {**dict.fromkeys(Model.__abstractmethods__, dict), "stream": said})()
state: dict[str, Any] = {"user_id": "kim", "session_id": "t1"}
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    hooks = AgentModelHooks(tracker, guard=model.guard(review=["pay"]))
    agent = Agent(yours, tools=[pay], name="finder", callback_handler=None, hooks=[hooks])
    result = agent("pay the bill", invocation_state=state)
    waits = next(iter(result.interrupts or ()))
    print(result.stop_reason, waits.reason["tool"], waits.reason["arguments"], waits.reason["reason"])
    decision = {"decision": "edit", "by": "lee", "arguments": {"amount": 5}}
    answers: Any = [{"interruptResponse": {"interruptId": waits.id, "response": decision}}]
    result = agent(answers, invocation_state=state)
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(result.stop_reason, call.tool_name, call.values, call.status, call.result)
