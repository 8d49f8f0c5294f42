"""How the callback handler and the middleware of LangChain read configs, states and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.tracker import TrackedRun

__all__ = ["CALLBACK", "MIDDLEWARE", "last_request", "report_turn", "request_of", "text_of", "user_of"]

CALLBACK, MIDDLEWARE = "callback", "middleware"
"""Names under which the two report a call, as the ``source`` of `TrackedRun.start`."""

_RUNTIME = "__pregel_runtime"  # where `langgraph.runtime.get_runtime` finds what `invoke(..., context=…)` was given


def text_of(value: Any) -> str | None:
    """Return a value of a config as text; None if it is missing or empty."""
    return None if value is None or value == "" else str(value)


def user_of(config: Mapping[str, Any]) -> str | None:
    """Return the user of a config: ``user_id`` of its metadata, its ``configurable`` or the context of its run."""
    configurable = config.get("configurable") or {}
    context = getattr(configurable.get(_RUNTIME), "context", None)
    for source in (config.get("metadata"), configurable, context):
        user = source.get("user_id") if isinstance(source, Mapping) else getattr(source, "user_id", None)
        if text_of(user) is not None:
            return str(user)
    return None


def request_of(inputs: Any) -> str | None:
    """Return what the user asked for: the text of the last message of the input."""
    messages = inputs.get("messages") if isinstance(inputs, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, BaseMessage):
        last = last.content
    elif isinstance(last, Mapping):
        last = last.get("content")
    elif isinstance(last, tuple):
        last = last[-1]
    if isinstance(last, list):  # text beside images and the like
        blocks = (one.get("text") if isinstance(one, Mapping) else one for one in last)
        last = "\n".join(one for one in blocks if isinstance(one, str))
    return last if isinstance(last, str) and last.strip() else None


def last_request(state: Mapping[str, Any]) -> str | None:
    """Return what the user asked for last, from a graph's state."""
    asked = [message for message in state.get("messages") or () if isinstance(message, HumanMessage)]
    return request_of({"messages": asked[-1:]})


def report_turn(run: TrackedRun, node: str, message: AIMessage) -> None:
    """Report to a run which calls a message requests, in its order, and how many tokens it took."""
    usage: Mapping[str, Any] = message.usage_metadata or {}
    read, written = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    made_by = message.response_metadata
    run.turn(
        node,
        calls=[call_id for call in message.tool_calls if (call_id := id_or_none(call["id"]))],
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        cached_tokens=read.get("cache_read"),
        cache_write_tokens=read.get("cache_creation"),
        reasoning_tokens=written.get("reasoning"),
        model_name=made_by.get("model_name") or made_by.get("model") or made_by.get("model_id"),
    )
