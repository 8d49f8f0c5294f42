"""Scripted Strands agents for the tests, and one that runs in a process of its own.

    python -m tests.integration.integrations.strands_agents FOLDER SCRIPT INPUT

takes up the conversation that FOLDER keeps: INPUT is what the agent is told or, as JSON, what is said to the interrupt
that it waits for; SCRIPT names the turns that its model then takes. It prints its stop reason, the ids of its
interrupts, and what its model read. The engines are those of the environment's settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from strands import Agent, tool
from strands.models.model import Model
from strands.session.file_session_manager import FileSessionManager

from agentmodel import AgentModel
from agentmodel.integrations.strands import AgentModelHooks, Tracker
from tests.integration.integrations.scenario import AGENT, CATEGORY, DOMAIN, SESSION, USER, Asked, Turn

STATE = {"user_id": USER, "session_id": SESSION, "category": CATEGORY}
PAYMENTS = (Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4), Turn((Asked("c2", "pay", {"amount": 8}),), 7, 4))


class Scripted(Model):
    """A model that says what it is told to, and then that it is done.

    Attributes:
        systems: The system prompt of each turn.
        results: What it read of the calls, by the call's id.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns: Iterator[Turn] = iter(turns)
        self.systems: list[str | None] = []
        self.results: dict[str, tuple[str, Any]] = {}

    def update_config(self, **config: Any) -> None:
        """Has none."""

    def get_config(self) -> Any:
        """Its name."""
        return {"model_id": "scripted"}

    async def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        """Nobody asks for it."""
        yield {}

    async def stream(
        self, messages: Any, tool_specs: Any = None, system_prompt: str | None = None, **kwargs: Any
    ) -> Any:
        """The next turn."""
        self.systems.append(system_prompt)
        for block in [block for message in messages for block in message["content"] if "toolResult" in block]:
            result = block["toolResult"]
            self.results[result["toolUseId"]] = result["status"], result["content"]
        turn = next(self._turns, None)
        yield {"messageStart": {"role": "assistant"}}
        for call in turn.calls if turn else ():
            yield {"contentBlockStart": {"start": {"toolUse": {"name": call.tool, "toolUseId": call.call_id}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(call.arguments)}}}}
            yield {"contentBlockStop": {}}
        if turn is None:
            yield {"contentBlockDelta": {"delta": {"text": "done"}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if turn else "end_turn"}}
        read, made = (turn.input_tokens, turn.output_tokens) if turn else (1, 1)
        usage = {"inputTokens": read, "outputTokens": made, "totalTokens": read + made}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}


@tool
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


@tool
def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    @tool(name="flaky")
    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    return flaky


def pending(result: Any) -> list[str]:
    """The ids of the interrupts that an agent waits for."""
    return [one.id for one in result.interrupts or ()]


def said(ids: Sequence[str], response: Any) -> Any:
    """An answer to interrupts."""
    return [{"interruptResponse": {"interruptId": one, "response": response}} for one in ids]


def main(folder: str, script: str, told: str) -> None:
    """Take up a conversation."""
    scripted = Scripted(PAYMENTS[int(script) :])
    with AgentModel.from_settings() as model, Tracker(model, domain=DOMAIN) as tracker:
        agent = Agent(
            model=scripted,
            tools=[pay],
            name=AGENT,
            agent_id=AGENT,
            callback_handler=None,
            session_manager=FileSessionManager(session_id=SESSION, storage_dir=folder),
            hooks=[AgentModelHooks(tracker, guard=model.guard(review=["pay"]))],
        )
        given = json.loads(told)
        result = agent(given, invocation_state=dict(STATE))
    sys.stdout.write(json.dumps({"stop": result.stop_reason, "waits": pending(result), "read": scripted.results}))


if __name__ == "__main__":
    main(*sys.argv[1:])
