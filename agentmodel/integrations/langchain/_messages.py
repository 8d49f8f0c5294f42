"""How the callback handler and the middleware of LangChain read configs, states and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Command

from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.messages import content_text, last_request
from agentmodel.integrations._tracking.tracker import TrackedRun

__all__ = [
    "CALLBACK",
    "MIDDLEWARE",
    "answer_in",
    "asked_for",
    "report_turn",
    "request_of",
    "scope_of",
    "text_of",
    "user_of",
]

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


def scope_of(metadata: Mapping[str, Any] | None) -> str:
    """Return which agent of a graph a node belongs to, by LangGraph's namespace: agents of branches run at once."""
    return str((metadata or {}).get("langgraph_checkpoint_ns") or "").rpartition("|")[0]


def request_of(inputs: Any) -> str | None:
    """Return what the user asked for: their last message in the input or the state of a graph."""
    return last_request(inputs.get("messages") if isinstance(inputs, Mapping) else None)


def asked_for(metadata: Mapping[str, Any]) -> str | None:
    """Return what the user asked for, as the metadata of a config says it."""
    return content_text(metadata.get("request"))


def answer_in(result: Any, call_id: str | None) -> ToolMessage | None:
    """Return the message by which a tool answers a call, which a tool may put into a `Command`; None if it has none."""
    for one in result if isinstance(result, list) else [result]:
        update = one.update if isinstance(one, Command) else [one]
        lists = update.values() if isinstance(update, Mapping) else [update]
        found = [
            message
            for many in lists
            for message in (many if isinstance(many, list | tuple) else [many])
            if isinstance(message, ToolMessage)
        ]
        if found:
            return next((message for message in found if message.tool_call_id == call_id), found[0])
    return None


def report_turn(run: TrackedRun, node: str, message: AIMessage, *, scope: str) -> None:
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
        scope=scope,
    )
