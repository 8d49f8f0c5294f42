"""LangChain 에이전트에 조언하고 지키기: 기록하는 콜백 핸들러 옆의 미들웨어 하나."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from agentmodel import AgentModel
from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker


def pay(amount: int) -> str:
    """결제한다."""
    return f"{amount}원 결제함"


asks = AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": 7}, "id": "c1"}])
scripted = type("Scripted", (FakeMessagesListChatModel,), {"bind_tools": lambda self, _tools, **_told: self})
yours = scripted(responses=[asks, AIMessage("끝났습니다.")])  # 여러분의 모델을 대신한다
with AgentModel.local() as model, Tracker(model, domain="카페") as tracker:
    ours = AgentModelMiddleware(tracker, model.guard(review={"pay"}, domain="카페"))
    agent: Any = create_agent(yours, [pay], name="결제", middleware=[ours], checkpointer=InMemorySaver())
    config = {"callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": "t1"}}
    print(agent.invoke({"messages": [("user", "결제해 줘")]}, config)["__interrupt__"][0].value["arguments"])
    print(agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), config)["messages"][-2].text)
