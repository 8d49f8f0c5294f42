import asyncio
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, tool

from agentmodel import AgentModel
from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker


@tool("search", "find places", {"near": str})
async def search(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"a café near the {given['near']}"}]}


async def talk() -> None:
    options = ClaudeAgentOptions(allowed_tools=["mcp__cafes"])
    async with AgentModelClient(tracker, options, user="kim", tools={"cafes": [search]}) as client:
        await client.query("find a café")
        async for message in client.receive_response():
            if isinstance(message, ResultMessage):
                print(message.result)


with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    asyncio.run(talk())
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
