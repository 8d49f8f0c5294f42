"""The client of the Claude Agent SDK where hooks and messages come in another order than usual: by a scripted transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from tests.integration.integrations.scenario import AGENT, DOMAIN, USER, shown
from tests.integration.suggest_world import opened

pytest.importorskip("claude_agent_sdk", reason="the extra claude-agent-sdk is not installed")

from claude_agent_sdk import Message, Transport

from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker

FIRST, SECOND = ("c1", {"q": "a"}), ("c2", {"q": "b"})
RESULT = {
    "type": "result", "subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1,
    "session_id": "S-1", "result": "done",
}  # fmt: skip


class ScriptedTransport(Transport):  # type: ignore[misc,unused-ignore]  # Any where the SDK is not installed
    """The protocol as the SDK's program speaks it.

    Args:
        events: What it tells: messages as they are, hooks as pairs of an event and its input.

    Attributes:
        told: Set when all are told, and the hooks answered.
    """

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._hooks: dict[str, Any] = {}
        self.told = asyncio.Event()

    async def connect(self) -> None:
        """Nothing to start."""

    def is_ready(self) -> bool:
        """It always is."""
        return True

    async def end_input(self) -> None:
        """Nothing to end."""

    async def close(self) -> None:
        """End the messages."""
        await self._queue.put(None)

    async def write(self, data: str) -> None:
        """Take what the SDK says."""
        said = json.loads(data)
        if said["type"] == "control_request":
            self._hooks = said["request"].get("hooks") or self._hooks
            response = {
                "subtype": "success",
                "request_id": said["request_id"],
                "response": {"hook_on_failure_supported": True},
            }
            await self._queue.put({"type": "control_response", "response": response})
        elif said["type"] == "control_response":
            self._answered.set()
        elif said["type"] == "user":
            self._playing = asyncio.create_task(self._play())

    async def _play(self) -> None:
        for number, event in enumerate(self._events):
            if isinstance(event, dict):
                await self._queue.put(event)
                continue
            name, given = event
            self._answered.clear()
            asked = {
                "subtype": "hook_callback",
                "callback_id": self._hooks[name][0]["hookCallbackIds"][0],
                "tool_use_id": given.get("tool_use_id"),
                "input": {"hook_event_name": name, "session_id": "S-1", "transcript_path": "", "cwd": "/", **given},
            }
            await self._queue.put({"type": "control_request", "request_id": f"r{number}", "request": asked})
            await self._answered.wait()
        self.told.set()

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the program says."""
        while (said := await self._queue.get()) is not None:
            yield said


def hook(name: str, call: tuple[str, Any], **more: Any) -> tuple[str, Any]:
    """What a hook is told of a call."""
    return name, {"tool_use_id": call[0], "tool_name": "search", "tool_input": call[1], **more}


def block(call: tuple[str, Any]) -> dict[str, Any]:
    """The message that a call is requested by: one of the blocks of a turn."""
    content = [{"type": "tool_use", "id": call[0], "name": "search", "input": call[1]}]
    message = {"id": "m1", "model": "claude", "content": content, "usage": {"input_tokens": 11, "output_tokens": 0}}
    return {"type": "assistant", "session_id": "S-1", "parent_tool_use_id": None, "message": message}


def answer(call: tuple[str, Any], said: str, *, error: bool = False) -> dict[str, Any]:
    """The message with the result of a call."""
    content = [{"type": "tool_result", "tool_use_id": call[0], "content": said, "is_error": error}]
    return {"type": "user", "session_id": "S-1", "parent_tool_use_id": None, "message": {"content": content}}


def parts_end() -> dict[str, Any]:
    """The part of a turn that tells what it took."""
    event = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5, "cache_read_input_tokens": 4}}
    return {"type": "stream_event", "uuid": "u", "session_id": "S-1", "parent_tool_use_id": None, "event": event}


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model."""
    with opened(settings) as model:
        yield model


def played(model: AgentModel, events: list[Any], *, late: bool = False) -> list[Message]:
    """Let the transport tell its events, and read the messages, at once or when all are told."""
    messages: list[Message] = []

    async def scenario(tracker: Tracker) -> None:
        transport = ScriptedTransport(events)
        async with AgentModelClient(tracker, user=USER, agent=AGENT, transport=transport) as client:
            await client.query("find it")
            if late:
                await transport.told.wait()
            messages.extend([message async for message in client.receive_response()])

    with Tracker(model, domain=DOMAIN) as tracker:
        asyncio.run(scenario(tracker))
        assert tracker.flush()
        assert 0 == tracker.errors
    return messages


def test_a_second_call_is_requested_while_the_first_one_runs(model: AgentModel) -> None:
    """Calls of one turn share its tokens, though the first has ended before the model asks for the second."""
    played(
        model,
        [
            ("UserPromptSubmit", {"prompt": "find it"}),
            block(FIRST),
            hook("PreToolUse", FIRST),
            hook("PostToolUse", FIRST, tool_response="found a"),
            answer(FIRST, "found a"),
            block(SECOND),
            parts_end(),
            hook("PreToolUse", SECOND),
            hook("PostToolUse", SECOND, tool_response="found b"),
            answer(SECOND, "found b"),
            RESULT,
        ],
    )

    assert [({"q": "a"}, "ok", (8, 3)), ({"q": "b"}, "ok", (7, 2))] == [
        (call.arguments, call.status, call.tokens) for call in shown(model)
    ]


def test_messages_are_read_late(model: AgentModel) -> None:
    """A call that the hooks told before anybody read its messages is recorded once; one that no hook saw, then."""
    messages = played(
        model,
        [
            ("UserPromptSubmit", {"prompt": "find it"}),
            block(FIRST),
            block(SECOND),
            parts_end(),
            hook("PreToolUse", FIRST),
            hook("PostToolUse", FIRST, tool_response="found a"),
            answer(FIRST, "found a"),
            answer(SECOND, "No such tool available: search", error=True),
            RESULT,
        ],
        late=True,
    )

    assert [({"q": "a"}, "ok", (None, None)), ({"q": "b"}, "unknown_tool", (15, 5))] == [
        (call.arguments, call.status, call.tokens) for call in shown(model)
    ]
    assert "StreamEvent" not in {type(one).__name__ for one in messages}


def test_a_prompt_of_the_sdk_is_no_request(model: AgentModel) -> None:
    """What the SDK itself says, such as that a sub-agent is done, is not what the user asked for."""
    played(
        model,
        [
            ("UserPromptSubmit", {"prompt": "<task-notification>\n<task-id>t1</task-id>"}),
            block(FIRST),
            hook("PreToolUse", FIRST),
            hook("PostToolUseFailure", FIRST, error="no route", is_interrupt=True),
            answer(FIRST, "no route", error=True),
            RESULT,
        ],
    )

    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.request is None
    assert ["interrupted"] == [call.status for call in shown(model)]
