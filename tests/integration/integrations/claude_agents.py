"""Conversations of the Claude Agent SDK for the tests: its own program, which asks a scripted Messages API on loopback."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, Message, ResultMessage, SdkMcpTool, tool

from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker
from tests.integration.integrations.messages_api import MessagesApi
from tests.integration.integrations.scenario import AGENT, CATEGORY, USER, Turn

SERVER = "cafes"
PROGRAM = any(Path(claude_agent_sdk.__file__).parent.glob("_bundled/claude*")) or shutil.which("claude") is not None
"""Whether the SDK's program is there: it is in the wheels of most platforms."""


def named(name: str) -> str:
    """A tool as the model knows it."""
    return f"mcp__{SERVER}__{name}"


def text(said: str) -> dict[str, Any]:
    """What a tool returns."""
    return {"content": [{"type": "text", "text": said}]}


@tool("search", "find places", {"q": str})
async def search(given: Any) -> dict[str, Any]:
    """Search."""
    return text(f"found {given['q']}")


@tool("broken", "fail", {"q": str})
async def broken(given: Any) -> dict[str, Any]:
    """Fail."""
    raise ValueError(f"no route to {given['q']}")


@tool("pay", "pay for it", {"amount": int})
async def pay(given: Any) -> dict[str, Any]:
    """Pay."""
    return text(f"paid {given['amount']}")


class ClaudeTalk:
    """A conversation that goes on from client to client, as one does that stopped for a person.

    Args:
        turns: What the model says.
        home: Where the SDK's program keeps conversations; a folder of its own when not given.
        tools: In-process tools.
        inner: What the model says in sub-agents, by a part of their prompts.
        options: More of the SDK's options.
        more: More that the client takes.
    """

    def __init__(
        self,
        tracker: Tracker,
        turns: Sequence[Turn],
        *,
        home: Path | None = None,
        tools: Sequence[SdkMcpTool[Any]] = (search, pay),
        inner: Mapping[str, Sequence[Turn]] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.api = MessagesApi(_said(turns), {name: _said(given) for name, given in (inner or {}).items()})
        weakref.finalize(self, self.api.close)
        if home is None:
            home = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        self.tracker, self.tools = tracker, tools
        given: dict[str, Any] = {
            "allowed_tools": [f"mcp__{SERVER}"],
            "tools": [],
            "system_prompt": "You find cafés.",
            "model": "claude-sonnet-4-5",
            "setting_sources": [],
            "cwd": home,
            "env": self.api.environment(home),
            **(options or {}),
        }
        self.options = ClaudeAgentOptions(**given)
        self.more = {"user": USER, "agent": AGENT, "category": CATEGORY, **more}
        self.question: dict[str, Any] | None = None
        self.question_of: str | None = None
        self.messages: list[Message] = []

    @property
    def results(self) -> dict[str, str]:
        """What the model read of calls, by their ids."""
        return self.api.results

    @property
    def result(self) -> ResultMessage:
        """The last message of the last run."""
        last = self.messages[-1]
        assert isinstance(last, ResultMessage)
        return last

    def client(self) -> AgentModelClient:
        """A client, not yet connected."""
        return AgentModelClient(self.tracker, self.options, tools={SERVER: self.tools}, **self.more)

    async def run(self, prompt: str | None = None, *, during: Callable[[Any, Any], Any] | None = None) -> None:
        """Say something, or go on with what stopped; ``during`` gets the client and each message."""
        async with self.client() as client:
            if prompt is not None:
                await client.query(prompt)
            async for message in client.receive_response():
                self.messages.append(message)
                if during is not None:
                    await during(client, message)
            self.question = client.question
        deferred = self.result.deferred_tool_use
        self.question_of = self.question_of if deferred is None else deferred.id
        self.options = replace(self.options, resume=self.result.session_id)

    def tell(self, prompt: str) -> None:
        """Say something."""
        asyncio.run(self.run(prompt))

    def go_on(self) -> None:
        """Go on with the deferred call, in another client."""
        asyncio.run(self.run())


def _said(turns: Sequence[Turn]) -> Any:
    def name(called: str) -> str:
        return called if called[0].isupper() else named(called)

    return [
        ([(one.call_id, name(one.tool), one.arguments) for one in turn.calls], (turn.input_tokens, turn.output_tokens))
        for turn in turns
    ]
