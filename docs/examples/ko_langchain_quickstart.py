"""LangChain 에이전트 기록: config에 콜백 핸들러 하나."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage

from agentmodel import AgentModel
from agentmodel.integrations.langchain import AgentModelCallback, Tracker


def search(near: str) -> str:
    """카페를 찾는다."""
    return f"{near} 근처 카페"


asks = AIMessage("", tool_calls=[{"name": "search", "args": {"near": "강남역"}, "id": "c1"}])
scripted = type("Scripted", (FakeMessagesListChatModel,), {"bind_tools": lambda self, _tools, **_told: self})
yours = scripted(responses=[asks, AIMessage("여기로 가세요.")])  # 여러분의 모델을 대신한다
agent: Any = create_agent(yours, [search], name="매장 안내")
with AgentModel.local() as model:
    with Tracker(model, domain="카페") as tracker:
        config = {"callbacks": [AgentModelCallback(tracker)], "metadata": {"user_id": "kim", "thread_id": "t1"}}
        agent.invoke({"messages": [("user", "강남역 근처 카페 찾아줘")]}, config)
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
