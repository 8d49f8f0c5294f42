"""An MCP client asks for the history: here client and server are one program."""

import asyncio

from mcp import Client

from agentmodel import AgentModel
from agentmodel.callers import Caller
from agentmodel.integrations.mcp import mcp_server


async def main(model: AgentModel) -> None:
    kim = Caller(user_id="USRkim", roles=frozenset({"reader", "recorder", "curator"}))
    async with Client(mcp_server(model, caller=kim)) as client:
        call = {"agent_id": "AGTfinder", "tool_id": "TLsearch", "arguments": {"near": "park"}, "succeeded": True}
        recorded = await client.call_tool("record_execution", call)
        session = recorded.structured_content["session_id"]

        history = await client.call_tool("session_history", {"session_id": session})
        for each in history.structured_content["calls"]:
            print(each["agent_id"], each["tool_id"], each["values"], each["succeeded"])

        refused = await client.call_tool("savings_report")
        print(*(part.text for part in refused.content if part.type == "text"))


with AgentModel.local() as installation:
    asyncio.run(main(installation))
