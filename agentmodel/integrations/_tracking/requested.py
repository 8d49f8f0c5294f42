"""Reads which calls a model's span requests, in the dialects of the emitters; imports no OpenTelemetry package.

Emitters write a model's message as attributes with numbers (OpenInference, OpenLLMetry), as JSON (the conventions since
2025: ``gen_ai.output.messages``), or as events (those before: ``gen_ai.choice``; before that, ``gen_ai.completion``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agentmodel.integrations._tracking.conventions import Span, is_tool, list_of, parsed, text_or_none
from agentmodel.integrations._tracking.foreign_ids import id_or_none

__all__ = ["MESSAGE_EVENTS", "SpanRequest", "requested_messages"]

MESSAGE_EVENTS = ("gen_ai.client.inference.operation.details", "gen_ai.choice", "gen_ai.user.message")
"""Events of a model's span that have what the user said, and what the model requests."""


@dataclass(frozen=True, slots=True)
class SpanRequest:
    """A call that a model requests.

    Attributes:
        call_id: Its id.
        tool: Name of the tool; None where it is not told.
        arguments: Its arguments; None where they are not told.
    """

    call_id: str
    tool: str | None = None
    arguments: Any = None


def requested_messages(span: Span) -> Iterator[list[SpanRequest]]:
    """Yield the calls that each message of a model in a span requests, in order; a message without any is left out."""
    if is_tool(span):
        return
    for calls in _given_calls(span):
        known = [
            SpanRequest(call_id, text_or_none(tool), parsed(arguments))
            for given, tool, arguments in calls
            if (call_id := id_or_none(given)) is not None  # placeholders name no call
        ]
        if known:
            yield known


_Given: TypeAlias = "tuple[Any, Any, Any]"  # id, tool and arguments of a call, whatever stands there

_FUNCTION = ("name", "arguments")
_NUMBERED_CALLS = (
    (
        "llm.output_messages.{}.message.tool_calls.",
        "tool_call.id",
        "tool_call.function.name",
        "tool_call.function.arguments",
    ),
    ("gen_ai.completion.{}.tool_calls.", "id", "name", "arguments"),
)


def _given_calls(span: Span) -> Iterator[list[_Given]]:
    """Yield the calls of each message in a model's span, from wherever an emitter writes them."""
    attributes = span.attributes
    for pattern, call_id, name, arguments in _NUMBERED_CALLS:
        message = 0
        while found := list(_numbered_calls(attributes, pattern.format(message), (call_id, name, arguments))):
            yield found
            message += 1
    given = [attributes.get("gen_ai.output.messages")]
    replies = parsed(attributes.get("haystack.agent.step.llm.output"))
    given.append(replies.get("replies") if isinstance(replies, dict) else None)
    for event in span.events:
        given += [event.attributes.get(name) for name in ("gen_ai.output.messages", "gen_ai.completion")]
        if event.name == "gen_ai.choice":
            given.append(event.attributes.get("message", dict(event.attributes)))
    for one in given:
        messages = parsed(one)
        if isinstance(messages, list) and messages and not _is_message(messages[0]):
            messages = {"content": messages}  # Strands has the parts alone
        for message in messages if isinstance(messages, list) else [messages]:
            if isinstance(message, dict):
                yield list(_calls_in(message))


def _numbered_calls(attributes: Mapping[str, Any], before: str, names: tuple[str, str, str]) -> Iterator[_Given]:
    number = 0
    while any(f"{before}{number}.{name}" in attributes for name in names):
        call_id, name, arguments = (attributes.get(f"{before}{number}.{name}") for name in names)
        yield call_id, name, arguments
        number += 1


def _is_message(given: Any) -> bool:
    return isinstance(given, dict) and not given.keys().isdisjoint(("role", "parts", "tool_calls", "message"))


def _calls_in(message: Mapping[str, Any]) -> Iterator[_Given]:
    """Yield the calls of a model's message: in its parts, or beside its content."""
    inner = message.get("message")
    holder = inner if isinstance(inner, dict) else message
    for name in ("parts", "content", "tool_calls"):
        for part in list_of(parsed(holder.get(name))):
            if not isinstance(part, dict):
                continue
            if isinstance(use := part.get("toolUse"), dict):
                yield use.get("toolUseId"), use.get("name"), use.get("input")
            elif isinstance(function := part.get("function"), dict):
                yield part.get("id"), function.get("name"), function.get("arguments")
            elif isinstance(call := part.get("tool_call"), dict):
                yield call.get("id"), call.get("tool_name"), call.get("arguments")
            elif part.get("type") in ("tool_call", "tool_use"):
                arguments = next((part[key] for key in ("arguments", "args", "input") if key in part), None)
                yield part.get("id"), part.get("name"), arguments
