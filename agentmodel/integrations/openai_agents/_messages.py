"""State of a run of the OpenAI Agents SDK that has not ended, and functions that read the SDK's objects."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents import ModelBehaviorError, default_tool_error_function
from agents.run_context import RunContextWrapper
from agents.tool import FunctionTool, Tool, default_tool_timeout_error_message
from agents.tracing import GenerationSpanData, ResponseSpanData, Span, get_current_trace

from agentmodel._values.text import error_text, type_name
from agentmodel.dynamo.models import Status
from agentmodel.integrations._tracking.messages import content_text
from agentmodel.integrations._tracking.tracker import TrackedRun
from agentmodel.suggest.guard import Resolution

TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_METADATA = ("user_id", "session_id", "request", "category", "suggestion_id")
_INVALID_INPUT = "Invalid JSON input for tool"  # the SDK's message for pydantic's error, which it hides


@dataclass(slots=True)
class RequestedCall:
    """A call that the model requested and that has not begun."""

    agent: str
    tool: str
    arguments: str
    known: bool  # whether the agent may have such a tool
    status: Status | None = None  # if the call is not to be made


@dataclass(slots=True, eq=False)
class Task:
    """One run of the SDK's runner; the run of an agent used as a tool belongs to the outermost run."""

    session: str
    agent: str
    metadata: dict[str, str] = field(default_factory=dict)
    outermost: Task | None = None
    run: TrackedRun | None = None
    hooked: bool = False
    known: bool = False  # whether the run's context was read
    planned: bool = False
    resolutions: dict[str, Resolution] = field(default_factory=dict)  # what happens to calls, by id
    asks: int = 0  # calls of the model
    begun: dict[str, int] = field(default_factory=dict)  # attempts by call, of hooks without spans
    errors: dict[str, str] = field(default_factory=dict)  # by call
    model_name: str | None = None  # that answered last, where a span tells it


@dataclass(slots=True, eq=False)
class ModelTurn:
    """What the spans of a turn show, for runs without hooks."""

    calls: list[Node] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    inner: bool = False  # it includes a run of another agent, and that run's tokens


@dataclass(slots=True, eq=False)
class Node:
    """A span that has not ended."""

    span: Span[Any]
    task: Task
    owner: bool  # the end of the span is the end of the task
    within: bool  # the span is inside a call of the same task
    agent: str
    turn: ModelTurn | None
    around: BaseException | None  # exception that the caller was handling when the span began
    error: BaseException | None = None  # exception that propagated when the span ended
    call: tuple[str, int] | None = None  # id and attempt, once a hook reported its start
    result: tuple[datetime, Any] | None = None  # once a hook reported its end
    failure: str | None = None
    settled: bool = False  # whether it is recorded already


def metadata_of(source: Any) -> dict[str, str]:
    """Return user, session, request, category and plan of a run, from a mapping or an object's attributes."""
    get = source.get if isinstance(source, Mapping) else functools.partial(getattr, source)
    found = {name: (content_text if name == "request" else text_of)(get(name, None)) for name in _METADATA}
    return {name: text for name, text in found.items() if text is not None}


def text_of(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, uuid.UUID)) and value != "" else None


def time_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def arguments_of(arguments: str | None) -> Any:
    """Return a call's arguments as JSON; text that is not JSON stays text."""
    if not arguments:
        return None
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def plain(result: Any) -> Any:
    """Return what the model reads of a result: the text of its only block, or all of it."""
    if isinstance(result, Mapping) and result.get("type") == "text":
        return result.get("text")
    return result


def tool_of(call: Mapping[str, Any]) -> str:
    """Return the name of a called tool, as `ToolContext.qualified_tool_name` has it."""
    name, space = str(call.get("name") or ""), call.get("namespace")
    return name if not space or space == name else f"{space}.{name}"


def name_of(error: BaseException) -> str:
    if isinstance(error, ModelBehaviorError) and error_text(error).startswith(_INVALID_INPUT):
        return "ValidationError"
    return type_name(error)


def failure_of(tool: Tool, result: object) -> str | None:
    """Return the name of the error of a call if the SDK gave the model its own error text instead of a result."""
    if not isinstance(tool, FunctionTool):
        return None
    seconds = tool.timeout_seconds
    if (
        seconds is not None
        and tool.timeout_error_function is None
        and result == default_tool_timeout_error_message(tool_name=tool.name, timeout_seconds=seconds)
    ):
        return "ToolTimeoutError"
    return "_OTHER" if result == _SDK_ERROR_TEXT else None


_SDK_ERROR_TEXT = default_tool_error_function(RunContextWrapper(None), Exception())


def last_turn(items: Sequence[Any]) -> tuple[dict[str, Mapping[str, Any]], dict[str, Any]]:
    """Return the calls of the model's last answer, and their outputs; both by call id."""
    calls: dict[str, Mapping[str, Any]] = {}
    outputs: dict[str, Any] = {}
    for item in _backwards(items):
        kind, call_id = item.get("type"), str(item.get("call_id"))
        if kind == "function_call_output" and not calls:
            outputs[call_id] = item.get("output")
        elif kind == "function_call":
            calls[call_id] = item
        elif kind != "reasoning":
            break
    return calls, dict(reversed(outputs.items()))


def _backwards(items: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    return (item for item in reversed(items) if isinstance(item, Mapping))


def task_of(span: Span[Any], agent: str) -> Task:
    trace = get_current_trace()
    group = None if trace is None or trace.trace_id != span.trace_id else getattr(trace, "group_id", None)
    return Task(
        text_of(group) or span.trace_id, agent, metadata_of(getattr(trace, "metadata", None) or span.trace_metadata)
    )


def failed(node: Node) -> str | None:
    """Return the name of the error of a call, as far as its span shows it; None if it did not fail."""
    if isinstance(node.error, Exception):
        return name_of(node.error.__cause__ or node.error)  # the runner makes a UserError of what a tool raised
    return None if node.span.error is None else "_OTHER"


def add_tokens(turn: ModelTurn, usage: Mapping[str, Any] | None) -> None:
    """Add the tokens of a call of the model to its turn."""
    usage = usage or {}
    details = [usage.get(f"{name}_tokens_details") or {} for name in ("input", "output")]
    told = dict(usage) | {name: value for each in details for name, value in dict(each).items()}
    for name in TOKENS:
        tokens = told.get(name)
        if isinstance(tokens, int):
            setattr(turn, name, (getattr(turn, name) or 0) + tokens)


def model_of(data: GenerationSpanData | ResponseSpanData) -> str | None:
    """Return the model that a span is about."""
    name = data.model if isinstance(data, GenerationSpanData) else getattr(data.response, "model", None)
    return name if isinstance(name, str) else None
