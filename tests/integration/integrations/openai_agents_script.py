"""Agents of the OpenAI Agents SDK with a scripted model, and the tools of the scenario."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, Runner, Usage, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

from tests.integration.integrations.scenario import Asked, Turn


def scripted(*turns: Turn) -> ScriptedModel:
    """A model that says what it is told to, and then that it is done."""
    steps = [
        ModelStep(
            output=[function_call(call.tool, call.arguments, call_id=call.call_id) for call in turn.calls],
            usage=Usage(requests=1, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens),
        )
        for turn in turns
    ]
    return ScriptedModel([*steps, [assistant_message("done")]])


def turn(*calls: Asked) -> Turn:
    """What the model asks for at once."""
    return Turn(calls, 10 * len(calls), len(calls))


@function_tool
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


@function_tool
def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    @function_tool(name_override="flaky")
    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    return flaky


def run(agent: Agent[Any], asked: str, **given: Any) -> None:
    """Run an agent."""
    asyncio.run(Runner.run(agent, asked, **given))
