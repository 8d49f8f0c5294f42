"""What one span of a GenAI program tells, in the dialects of its emitters; knows no OpenTelemetry package.

The conventions are those of OpenTelemetry's GenAI group (all of ``gen_ai.*`` is in development there, so the names
stand here as text), of OpenInference, of OpenLLMetry (``traceloop.*``), of LangSmith, and of PydanticAI's versions.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentmodel.dynamo.models import Status

__all__ = [
    "OTHER", "OWN_SCOPE", "Event", "Span", "agent_of", "asked_ids", "input_of", "is_pending", "is_same", "is_tool",
    "message_of", "outcome_of", "output_of", "parsed", "result_of", "session_of", "text_or_none", "tokens_of",
    "tool_of", "user_of",
]  # fmt: skip

OTHER = "_OTHER"
"""The error type where none is told, as OpenTelemetry has it."""

OWN_SCOPE = "agentmodel"
"""Scope of the spans that `agentmodel.integrations.telemetry` emits of what is recorded already."""

_AGENT = ("gen_ai.agent.name", "agent.name", "agent_name")
_SESSION = ("gen_ai.conversation.id", "session.id")
_USER = ("user.id", "enduser.id")
_METADATA = ("traceloop.association.properties.", "langsmith.metadata.")
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_ARGUMENTS = ("gen_ai.tool.call.arguments", "tool_arguments", "gen_ai.prompt")
_RESULT = ("gen_ai.tool.call.result", "tool_response", "gen_ai.completion")
_INTERRUPTS = ("GraphInterrupt", "GraphBubbleUp", "InterruptException")
_CLASS = re.compile(r"(?:\w+\.)+([A-Z]\w*)")  # an exception with its module, which not every emitter writes
_APPROVALS = "openai_agents"  # scopes whose spans of pending approvals look like successes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span."""

    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """One ended span.

    Attributes:
        trace_id: Of its trace, hexadecimal.
        span_id: Its own, hexadecimal.
        parent_id: Of the span it lies in; None where there is none.
        name: Its name.
        scope: Name of the instrumentation that made it.
        started_ns: When it began, nanoseconds since the epoch.
        ended_ns: When it ended.
        failed: Whether its status is ``ERROR``.
        description: Of that status.
        attributes: What it says of itself.
        events: What happened in it.
        service: The resource's ``service.name``.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    scope: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    failed: bool = False
    description: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Event] = ()
    service: str | None = None


def is_tool(span: Span) -> bool:
    told = span.attributes
    if kind := told.get("openinference.span.kind"):
        return bool(kind == "TOOL")
    return (
        told.get("gen_ai.operation.name") == "execute_tool"
        or told.get("traceloop.span.kind") == "tool"
        or told.get("langsmith.span.kind") == "tool"
        or told.get("mcp.method.name") == "tools/call"
    )


def is_same(outer: Span, span: Span) -> bool:
    """Whether a span inside another stands for its call: agents put the server's name before that of its tools."""
    name, around = tool_of(span), tool_of(outer)
    prefixed = around.endswith(name) and not around.removesuffix(name)[-1:].isalnum()
    return name == around or ("mcp.method.name" in span.attributes and prefixed)


def is_pending(span: Span) -> bool:
    """Whether it is a call that waits for approval: the emitters of OpenAI Agents end it well, without a result."""
    return _APPROVALS in span.scope and not span.failed and output_of(span) is None


def tool_of(span: Span) -> str:
    """The name of the tool."""
    for name in ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"):
        if value := text_or_none(span.attributes.get(name)):
            return value
    for prefix in ("execute_tool ", "tools/call "):
        if span.name.startswith(prefix):
            return span.name.removeprefix(prefix)
    return span.name.removesuffix(".tool")


def _metadata(span: Span, name: str) -> str | None:
    """A value of the program's own metadata, where instrumentations put it."""
    for prefix in _METADATA:
        if value := text_or_none(span.attributes.get(prefix + name)):
            return value
    told = parsed(span.attributes.get("metadata"))
    return text_or_none(told.get(name)) if isinstance(told, dict) else None


def _first(span: Span, names: Sequence[str], *metadata: str) -> str | None:
    for name in names:
        if value := text_or_none(span.attributes.get(name)):
            return value
    for name in metadata:
        if value := _metadata(span, name):
            return value
    return None


def agent_of(span: Span) -> str | None:
    """The name of the agent."""
    return _first(span, _AGENT, "lc_agent_name", "agent_name")


def session_of(span: Span) -> str | None:
    """The conversation."""
    return _first(span, _SESSION, "thread_id", "session_id")


def user_of(span: Span) -> str | None:
    """Whom it works for."""
    return _first(span, _USER, "user_id")


def input_of(span: Span) -> Any:
    """The arguments, as far as the span itself tells them."""
    told = span.attributes
    if "openinference.span.kind" in told:  # its gen_ai.tool.call.arguments may be the tool's schema
        return parsed(told.get("input.value"))
    for name in _ARGUMENTS:
        if name in told:
            return _unwrapped(parsed(told[name]))
    for event in span.events:
        if event.name in ("gen_ai.tool.message", "gen_ai.tool.message.content"):
            return parsed(event.attributes.get("content"))
    return None


def _unwrapped(given: Any) -> Any:
    """OpenLLMetry's LangChain spans hold the repr of the arguments in an object of its own."""
    if isinstance(given, dict) and isinstance(given.get("input_str"), str) and "metadata" in given:
        try:
            return ast.literal_eval(given["input_str"])
        except (ValueError, SyntaxError):
            return given["input_str"]
    return given


def output_of(span: Span) -> Any:
    """The result as it stands in the span, JSON read."""
    told = span.attributes
    if "openinference.span.kind" in told:
        return parsed(told.get("output.value"))
    for name in _RESULT:
        if name in told:
            return parsed(told[name])
    for event in span.events:
        if event.name == "gen_ai.choice":
            return parsed(event.attributes.get("message"))
    return None


def message_of(output: Any) -> Mapping[str, Any] | None:
    """The fields of LangChain's tool message, in the three ways in which it is written."""
    if isinstance(output, dict) and isinstance(output.get("output"), dict):
        output = output["output"]
    if isinstance(output, dict):
        for inner in ("data", "kwargs"):
            if output.get("type") in ("tool", "constructor") and isinstance(output.get(inner), dict):
                return dict(output[inner])
        if "tool_call_id" in output:
            return output
    return None


def result_of(span: Span) -> Any:
    """What the tool gave."""
    output = output_of(span)
    message = message_of(output)
    if message is not None:
        return message.get("content")
    if isinstance(output, list) and output and all(isinstance(one, dict) and set(one) == {"text"} for one in output):
        return "\n".join(one["text"] for one in output)  # content blocks
    return output


def outcome_of(span: Span) -> tuple[Status, str | None]:
    """How the call ended, and its error's type where it failed."""
    told = span.attributes
    message = message_of(output_of(span)) or {}
    error_type = text_or_none(told.get("error.type")) or _exception(span)
    if error_type is not None and (named := _CLASS.fullmatch(error_type)):
        error_type = named[1]
    if error_type in _INTERRUPTS:
        return "interrupted", None
    failed = span.failed or error_type is not None
    if not failed and told.get("gen_ai.tool.status") != "error" and message.get("status") != "error":
        return "ok", None
    if span.description.startswith("Unknown tool: "):
        return "unknown_tool", None
    return "error", error_type or OTHER


def _exception(span: Span) -> str | None:
    for event in reversed(span.events):
        if event.name == "exception" and (name := text_or_none(event.attributes.get("exception.type"))):
            return name
    return None


def asked_ids(span: Span) -> Iterator[str]:
    """Ids of the calls that a model's span asks for, in order."""
    if is_tool(span):
        return
    told = span.attributes
    number = 0
    while f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id" in told:
        yield str(told[f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id"])
        number += 1
    texts = [told.get("gen_ai.output.messages")]
    texts += [event.attributes.get("gen_ai.output.messages") for event in span.events]
    for message in (one for text in texts for one in _list(parsed(text))):
        for part in _list(message.get("parts") if isinstance(message, dict) else None):
            if isinstance(part, dict) and part.get("type") == "tool_call" and part.get("id"):
                yield str(part["id"])
    for event in span.events:
        if event.name == "gen_ai.choice":
            for block in _list(parsed(event.attributes.get("message"))):
                if isinstance(block, dict) and isinstance(block.get("toolUse"), dict):
                    yield str(block["toolUse"].get("toolUseId"))


def tokens_of(span: Span) -> tuple[int | None, int | None]:
    """What the model's message took, read and made."""
    return _number(span.attributes, _INPUT_TOKENS), _number(span.attributes, _OUTPUT_TOKENS)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def parsed(value: Any) -> Any:
    """Text that is JSON as what it says, anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def text_or_none(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def _number(told: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        if isinstance(told.get(name), int):
            return int(told[name])
    return None
