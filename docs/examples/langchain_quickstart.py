"""A LangChain agent is recorded: one callback handler in its config."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage

from agentmodel import AgentModel
from agentmodel.integrations.langchain import AgentModelCallback, Tracker


def search(near: str) -> str:
    """Find cafés."""
    return f"a café near the {near}"


asks = AIMessage("", tool_calls=[{"name": "search", "args": {"near": "park"}, "id": "c1"}])
scripted = type("Scripted", (FakeMessagesListChatModel,), {"bind_tools": lambda self, _tools, **_told: self})
yours = scripted(responses=[asks, AIMessage("Go there.")])  # stands for your model
agent: Any = create_agent(yours, [search], name="finder")
with AgentModel.local() as model:
    with Tracker(model, domain="cafes") as tracker:
        config = {"callbacks": [AgentModelCallback(tracker)], "metadata": {"user_id": "kim", "thread_id": "t1"}}
        agent.invoke({"messages": [("user", "find a café near the park")]}, config)
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
