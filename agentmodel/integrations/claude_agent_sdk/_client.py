"""A client of the Claude Agent SDK that records tool calls and, with a guard, decides before each call.

    with Tracker(model, domain="cafes") as tracker:
        options = ClaudeAgentOptions(allowed_tools=["mcp__cafes"])
        async with AgentModelClient(tracker, options, user="kim", tools={"cafes": [search]}) as client:
            await client.query("find a café")
            async for message in client.receive_response():
                ...

It is the SDK's client, made with options to which it adds hooks. The SDK knows of no user, so the client is given one.
Without a guard it only listens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, SdkMcpTool, StreamEvent, Transport
from typing_extensions import override

from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.tracker import Tracker, check_tracker
from agentmodel.integrations.claude_agent_sdk._hooks import ConversationHooks
from agentmodel.suggest.guard import Guard

__all__ = ["AgentModelClient"]


class AgentModelClient(ClaudeSDKClient):  # type: ignore[misc,unused-ignore]  # Any where the SDK is not installed
    """Records every tool call of a conversation of the Claude Agent SDK; with a guard, decides before each call.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        options: The SDK's options; hooks and tools are added to a copy.
        user: Name or ``USR…`` id of the user that the conversation is with; None is an anonymous user.
        agent: Name of the main agent. Sub-agents have the names under which the options define them.
        request: What the user asks for; what they say when not given.
        category: The kind of request.
        tools: Tools of this process, by the name of their server: each becomes one of the SDK's in-process servers.
            Errors of tools that are given here have a type, and their results can be cached.
        guard: Plans, and decides before each call: it adds a plan to the user's prompt, blocks a tool that is failing,
            asks a person by a deferred call, and returns cached results of ``tools``. None only records.
        transport: As `ClaudeSDKClient` takes it.

    Raises:
        ValidationError: ``tracker`` is not a `Tracker`, or ``tools`` has a server that the options have too.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
    """

    def __init__(
        self,
        tracker: Tracker,
        options: ClaudeAgentOptions | None = None,
        *,
        user: str | None = None,
        agent: str = "claude",
        request: str | None = None,
        category: str | None = None,
        tools: Mapping[str, Sequence[SdkMcpTool[Any]]] | None = None,
        guard: Guard | None = None,
        transport: Transport | None = None,
    ) -> None:
        check_tracker(tracker)
        options = options or ClaudeAgentOptions()
        self.tracker = tracker
        self._agentmodel = ConversationHooks(
            tracker, user=user, agent=agent, request=request, category=category, tools=tools or {}, guard=guard
        )
        self._wants_parts = options.include_partial_messages
        super().__init__(self._agentmodel.options(options), transport)

    @property
    def question(self) -> dict[str, Any] | None:
        """Return the question about the deferred call with which the run stopped, as JSON to show; None without one."""
        return self._agentmodel.question

    @override
    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    @override
    async def receive_messages(self) -> AsyncIterator[Any]:
        """Receive the messages, as the SDK's client does, and record what they tell of calls."""
        calls = self._agentmodel.calls
        try:
            async for message in super().receive_messages():
                with FailuresCounted(self.tracker, "a message"):
                    calls.see(message)
                if self._wants_parts or not isinstance(message, StreamEvent):
                    yield message
        except Exception:
            with FailuresCounted(self.tracker, "end of a run"):
                calls.over(succeeded=False)
            raise

    @override
    async def interrupt(self) -> None:
        """Interrupt the run: its calls that have not ended are ``interrupted``."""
        self._agentmodel.calls.interrupted = True
        await super().interrupt()

    @override
    async def disconnect(self) -> None:
        """Close the conversation, and report what is left of it."""
        try:
            await super().disconnect()
        finally:
            with FailuresCounted(self.tracker, "end of a conversation"):
                self._agentmodel.calls.over(closed=True)
