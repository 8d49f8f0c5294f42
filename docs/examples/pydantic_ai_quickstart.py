"""An agent of Pydantic AI is recorded: one capability."""

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from agentmodel import AgentModel
from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker


def search(near: str) -> str:
    """Find cafés."""
    return f"a café near the {near}"


said: Any = iter([ToolCallPart("search", {"near": "park"}), TextPart("Go.")])
yours = FunctionModel(lambda _messages, _info: ModelResponse([next(said)]))  # what your model says
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    agent = Agent(yours, name="finder", tools=[search], capabilities=[AgentModelCapability(tracker)])
    agent.run_sync("find a café near the park", conversation_id="t1", metadata={"user_id": "kim"})
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
