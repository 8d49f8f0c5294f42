"""Scripted agents of Pydantic AI for the tests, and one that runs in a process of its own.

    python -m tests.integration.integrations.pydantic_ai_agents FILE SCRIPT INPUT

takes up the conversation that FILE keeps: INPUT is what the agent is told or, as JSON, the decision about each call
that waits, by its id; SCRIPT says which of the turns of `PAYMENTS` its model takes next. It prints which calls wait, and
what its model read. The engines are those of the environment's settings.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from agentmodel import AgentModel
from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker
from tests.integration.integrations.scenario import AGENT, CATEGORY, DOMAIN, SESSION, USER, Asked, Turn

METADATA = {"user_id": USER, "category": CATEGORY}
PAYMENTS = (Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4), Turn((Asked("c2", "pay", {"amount": 8}),), 7, 4))


class Scripted:
    """A model that says what it is told to, and then that it is done.

    Attributes:
        systems: The instructions of each request.
        results: What it read of the calls, by the call's id.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = iter(turns)
        self.systems: list[str | None] = []
        self.results: dict[str, Any] = {}
        self.model = FunctionModel(self._respond, model_name="scripted")

    async def _respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.systems.append(info.instructions)
        for part in messages[-1].parts:
            if part.part_kind in ("tool-return", "retry-prompt"):
                self.results[str(part.tool_call_id)] = part.content
        turn = next(self._turns, None)
        if turn is None:
            return ModelResponse([TextPart("done")], usage=RequestUsage(input_tokens=1, output_tokens=1))
        usage = RequestUsage(input_tokens=turn.input_tokens, output_tokens=turn.output_tokens)
        return ModelResponse([ToolCallPart(one.tool, one.arguments, one.call_id) for one in turn.calls], usage=usage)


def search(q: str) -> str:
    """Search."""
    return f"found {q}"


def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    return flaky


def agent_of(scripted: Scripted, tools: Sequence[Any], *capabilities: Any, **more: Any) -> Agent[Any, Any]:
    """An agent with capabilities."""
    options: dict[str, Any] = {"name": AGENT, "output_type": [str, DeferredToolRequests], "retries": 9, **more}
    return Agent(scripted.model, tools=tools, capabilities=capabilities, **options)


def run(agent: Agent[Any, Any], prompt: Any, **options: Any) -> Any:
    """Run an agent in an event loop of its own, which is closed; ``run_sync`` leaves one open."""
    return asyncio.run(agent.run(prompt, **options))


def told(agent: Agent[Any, Any], prompt: Any, **more: Any) -> Any:
    """Tell an agent something."""
    return run(agent, prompt, conversation_id=SESSION, **{"metadata": METADATA, **more})


def answered(agent: Agent[Any, Any], result: Any, decisions: Any, **more: Any) -> Any:
    """Go on with what people decided, by the ids of the calls; with one decision it is about each call."""
    waits = [call.tool_call_id for call in result.output.approvals]
    each = decisions if waits[0] in decisions else dict.fromkeys(waits, decisions)
    results = result.output.build_results(approve_all=True, metadata=each)
    return told(agent, None, message_history=result.all_messages(), deferred_tool_results=results, **more)


def pending(result: Any) -> list[str]:
    """The ids of the calls that wait."""
    return [call.tool_call_id for call in getattr(result.output, "approvals", ())]


def main(file: str, script: str, given: str) -> None:
    """Take up a conversation."""
    scripted, kept = Scripted(PAYMENTS[int(script) :]), Path(file)
    with AgentModel.from_settings() as model, Tracker(model, domain=DOMAIN) as tracker:
        agent = agent_of(scripted, [pay], AgentModelCapability(tracker, guard=model.guard(review=["pay"])))
        if kept.exists():
            messages = ModelMessagesTypeAdapter.validate_json(kept.read_bytes())
            decisions = json.loads(given)
            results = DeferredToolRequests().build_results(metadata=decisions)
            results.approvals.update(dict.fromkeys(decisions, True))
            result = told(agent, None, message_history=messages, deferred_tool_results=results)
        else:
            result = told(agent, given)
        kept.write_bytes(result.all_messages_json())
    sys.stdout.write(json.dumps({"waits": pending(result), "read": scripted.results}))


if __name__ == "__main__":
    main(*sys.argv[1:])
