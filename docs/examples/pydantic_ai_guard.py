"""A person decides about a call of an agent of Pydantic AI: the run stops with it, and goes on with the answer."""

from typing import Any

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from agentmodel import AgentModel
from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


said: Any = iter([ToolCallPart("pay", {"amount": 8}, "c1"), TextPart("Done.")])
yours = FunctionModel(lambda _messages, _info: ModelResponse([next(said)]))  # what your model says
about: Any = {"conversation_id": "t1", "metadata": {"user_id": "kim"}}
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    ours = AgentModelCapability(tracker, guard=model.guard(review=["pay"]))
    agent: Agent[None, Any] = Agent(
        yours, name="finder", tools=[pay], output_type=[str, DeferredToolRequests], capabilities=[ours]
    )
    result: Any = agent.run_sync("pay the bill", **about)
    asked = result.output.metadata["c1"]
    print(asked["tool"], asked["arguments"], asked["reason"])
    decision = {"decision": "edit", "by": "lee", "arguments": {"amount": 5}}
    answers = result.output.build_results(approve_all=True, metadata={"c1": decision})
    result = agent.run_sync(message_history=result.all_messages(), deferred_tool_results=answers, **about)
    print(result.output)
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(call.tool_name, call.values, call.status, call.result)
