"""What the callback handler and the middleware of LangChain read from configs, states and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from agentmodel.integrations._calls import Run

__all__ = ["CALLBACK", "MIDDLEWARE", "last_request", "request_of", "tell_turn", "text_of"]

CALLBACK, MIDDLEWARE = "callback", "middleware"
"""As which source they tell of a call."""


def text_of(value: Any) -> str | None:
    """A value of a config as text; None where there is none."""
    return None if value is None or value == "" else str(value)


def request_of(inputs: Any) -> str | None:
    """What the user asked for: the last message of the input."""
    messages = inputs.get("messages") if isinstance(inputs, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, BaseMessage):
        last = last.content
    elif isinstance(last, Mapping):
        last = last.get("content")
    elif isinstance(last, tuple):
        last = last[-1]
    return last if isinstance(last, str) and last.strip() else None


def last_request(state: Mapping[str, Any]) -> str | None:
    """What the user asked for last, in a graph's state."""
    asked = [message for message in state.get("messages") or () if isinstance(message, HumanMessage)]
    return request_of({"messages": asked[-1:]})


def tell_turn(run: Run, node: str, message: AIMessage) -> None:
    """Tell a run of the calls that a message asks for, in its order, and what they cost."""
    usage = message.usage_metadata
    run.turn(
        node,
        calls=[call["id"] for call in message.tool_calls if call["id"]],
        input_tokens=None if usage is None else usage["input_tokens"],
        output_tokens=None if usage is None else usage["output_tokens"],
    )
