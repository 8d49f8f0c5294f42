"""A LangChain agent is advised and guarded: one middleware, beside the callback handler that records."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from agentmodel import AgentModel
from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


asks = AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": 7}, "id": "c1"}])
scripted = type("Scripted", (FakeMessagesListChatModel,), {"bind_tools": lambda self, _tools, **_told: self})
yours = scripted(responses=[asks, AIMessage("Done.")])  # stands for your model
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    ours = AgentModelMiddleware(tracker, model.guard(review={"pay"}, domain="cafes"))
    agent: Any = create_agent(yours, [pay], name="payer", middleware=[ours], checkpointer=InMemorySaver())
    config = {"callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": "t1"}}
    print(agent.invoke({"messages": [("user", "pay")]}, config)["__interrupt__"][0].value["arguments"])
    print(agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), config)["messages"][-2].text)
