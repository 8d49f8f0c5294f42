"""A person decides about a call of the Claude Agent SDK: the run stops with it, and another client goes on."""

import asyncio
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, tool

from agentmodel import AgentModel
from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker


@tool("pay", "pay for it", {"amount": int})
async def pay(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"paid {given['amount']}"}]}


async def talk(prompt: str | None = None, resume: str | None = None) -> tuple[str, dict[str, Any]]:
    options = ClaudeAgentOptions(allowed_tools=["mcp__cafes"], resume=resume)
    guard = model.guard(review=["mcp__cafes__pay"])
    async with AgentModelClient(tracker, options, user="kim", tools={"cafes": [pay]}, guard=guard) as client:
        if prompt is not None:
            await client.query(prompt)
        async for message in client.receive_response():
            if isinstance(message, ResultMessage):
                resume = message.session_id
                print(message.terminal_reason)
    return resume or "", client.question or {}


with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    session_id, question = asyncio.run(talk("pay the bill"))
    print(question["tool"], question["arguments"], question["reason"])
    model.reviews.decide(question["review"], "edit", by="lee", arguments={"amount": 5})
    asyncio.run(talk(resume=session_id))
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(call.tool_name, call.values, call.status, call.result)
