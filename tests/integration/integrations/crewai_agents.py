"""Scripted agents of CrewAI for the tests; they need an environment of their own: `make test-crewai`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

# It sends what it sees to its makers, asks on the terminal, and keeps files in the home.
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",
    "XDG_DATA_HOME": tempfile.mkdtemp(prefix="crewai-"),
}

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool
from pydantic import Field

from tests.integration.integrations.scenario import AGENT, REQUEST, Turn


class Scripted(BaseLLM):
    """A model that says what it is told to, and then that it is done.

    Attributes:
        turns: What it says.
        native: Whether it calls functions; else it writes its calls as text, one a turn (ReAct).
        systems: The instructions of each request.
        results: What it read of the calls, by the call's id; in text, by the number of the turn.
    """

    turns: list[Any] = Field(default_factory=list)
    native: bool = True
    systems: list[Any] = Field(default_factory=list)
    results: dict[Any, Any] = Field(default_factory=dict)

    def supports_function_calling(self) -> bool:
        """Whether it calls functions."""
        return self.native

    def supports_stop_words(self) -> bool:
        """It stops by itself."""
        return True

    def get_input_tokens_count(self, *_: Any) -> int:
        """Some tokens."""
        return 9

    def call(self, messages: Any, *_: Any, **__: Any) -> Any:
        """The next turn."""
        self.systems.append("\n".join(str(each["content"]) for each in messages if each["role"] == "system"))
        for message in messages:
            if message["role"] == "tool":
                self.results[message["tool_call_id"]] = message["content"]
        seen = [str(each["content"]) for each in messages[1:] if "Observation:" in str(each["content"])]
        if not self.native and seen:
            self.results[len(self.systems) - 1] = seen[-1].rpartition("Observation:")[2].strip()
        if not self.turns:
            return "done" if self.native else "Thought: I know.\nFinal Answer: done"
        turn: Turn = self.turns.pop(0)
        if not self.native:
            (one,) = turn.calls
            return f"Thought: go on\nAction: {one.tool}\nAction Input: {json.dumps(one.arguments)}"
        return [
            {
                "id": one.call_id,
                "type": "function",
                "function": {"name": one.tool, "arguments": json.dumps(one.arguments)},
            }
            for one in turn.calls
        ]


def scripted(turns: Sequence[Turn], *, native: bool = True) -> Scripted:
    """A model."""
    return Scripted(model="scripted", turns=list(turns), native=native)


@tool("search")
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


@tool("broken")
def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


@tool("pay")
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def agent_of(model: Scripted, tools: Sequence[Any], **more: Any) -> Any:
    """An agent."""
    return Agent(
        **{
            "role": AGENT,
            "goal": "find",
            "backstory": "You find cafés.",
            "llm": model,
            "tools": list(tools),
            "max_iter": 30,
            **more,
        }
    )


def crew_of(*agents: Any, description: str = REQUEST, **more: Any) -> Any:
    """A crew with a task for its first agent."""
    task = Task(description=description, expected_output="a café", agent=agents[0])
    return Crew(agents=list(agents), tasks=[task], **more)
