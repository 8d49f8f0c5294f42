"""What a recorder of the OpenAI Agents SDK keeps of a run that goes on, and how it reads what the SDK hands it."""

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
from agents.tracing import Span, get_current_trace

from agentmodel.dynamo.models import Status
from agentmodel.integrations._calls import Run
from agentmodel.suggest.guard import Decided

_TOLD = ("user_id", "session_id", "request", "category", "suggestion_id")
_REFUSED = "Invalid JSON input for tool"  # how the SDK calls what pydantic refused, whose own error it hides


@dataclass(slots=True)
class Asked:
    """A call that the model asked for and that has not begun."""

    agent: str
    tool: str
    arguments: str
    known: bool  # whether the agent may have such a tool
    fate: Status | None = None  # if that is decided


@dataclass(slots=True, eq=False)
class Task:
    """One run of the SDK's runner; that of an agent used as a tool belongs to the outermost."""

    session: str
    agent: str
    told: dict[str, str] = field(default_factory=dict)
    outermost: Task | None = None
    run: Run | None = None
    hooked: bool = False
    known: bool = False  # whether the run's context has said whom it is for
    planned: bool = False
    steps: dict[str, Decided] = field(default_factory=dict)  # what a guard decided, by call
    asks: int = 0  # how often the model was asked
    begun: dict[str, int] = field(default_factory=dict)  # attempts by call, of hooks without spans
    errors: dict[str, str] = field(default_factory=dict)  # by call


@dataclass(slots=True, eq=False)
class Turn:
    """What the spans of a turn show, as far as there are no hooks."""

    calls: list[Node] = field(default_factory=list)
    read: int | None = None
    made: int | None = None
    inner: bool = False  # it has a run of another agent, whose tokens its own figure includes


@dataclass(slots=True, eq=False)
class Node:
    """A span that has not ended."""

    span: Span[Any]
    task: Task
    owner: bool  # its end is the end of the task
    within: bool  # inside a call of the same task
    agent: str
    turn: Turn | None
    around: BaseException | None  # what the caller handles meanwhile
    error: BaseException | None = None  # what went through its end
    call: tuple[str, int] | None = None  # id and attempt, when a hook told of its start
    result: tuple[datetime, Any] | None = None  # when a hook told of its end
    failure: str | None = None
    settled: bool = False  # it is recorded already


def told_by(source: Any) -> dict[str, str]:
    """Whom a run is for, and what: from a mapping or from an object's attributes."""
    get = source.get if isinstance(source, Mapping) else functools.partial(getattr, source)
    found = {name: text_of(get(name, None)) for name in _TOLD}
    return {name: text for name, text in found.items() if text is not None}


def text_of(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, uuid.UUID)) and value != "" else None


def time_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def arguments_of(arguments: str | None) -> Any:
    """What a model wrote as arguments; text that is no JSON stays text."""
    if not arguments:
        return None
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def plain(result: Any) -> Any:
    """What the model reads: the text of the only block, or all of it."""
    if isinstance(result, Mapping) and result.get("type") == "text":
        return result.get("text")
    return result


def tool_of(call: Mapping[str, Any]) -> str:
    """The name of a called tool as `ToolContext.qualified_tool_name` has it."""
    name, space = str(call.get("name") or ""), call.get("namespace")
    return name if not space or space == name else f"{space}.{name}"


def name_of(error: BaseException) -> str:
    if isinstance(error, ModelBehaviorError) and str(error).startswith(_REFUSED):
        return "ValidationError"
    return type(error).__qualname__


def failure_of(tool: Tool, result: object) -> str | None:
    """The name of the error of a call of which the SDK gave the model its own text instead of a result."""
    if not isinstance(tool, FunctionTool):
        return None
    seconds = tool.timeout_seconds
    if (
        seconds is not None
        and tool.timeout_error_function is None
        and result == default_tool_timeout_error_message(tool_name=tool.name, timeout_seconds=seconds)
    ):
        return "ToolTimeoutError"
    return "_OTHER" if result == _SDKS_TEXT else None


_SDKS_TEXT = default_tool_error_function(RunContextWrapper(None), Exception())


def last_turn(items: Sequence[Any]) -> tuple[dict[str, Mapping[str, Any]], dict[str, Any]]:
    """The calls of the model's last answer, and what it is told of them; both by call, if any."""
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


def request_of(items: Sequence[Any]) -> str | None:
    """What the user asked for: the text of their last message."""
    for item in _backwards(items):
        if item.get("role") == "user":
            content = item.get("content")
            parts = [content] if isinstance(content, str) else [part.get("text") or "" for part in content or ()]
            return "\n".join(parts).strip() or None
    return None


def task_of(span: Span[Any], agent: str) -> Task:
    trace = get_current_trace()
    group = None if trace is None or trace.trace_id != span.trace_id else getattr(trace, "group_id", None)
    return Task(
        text_of(group) or span.trace_id, agent, told_by(getattr(trace, "metadata", None) or span.trace_metadata)
    )


def failed(node: Node) -> str | None:
    """The name of the error of a call, as far as its span shows it."""
    if isinstance(node.error, Exception):
        return name_of(node.error.__cause__ or node.error)  # the runner makes a UserError of what a tool raised
    return None if node.span.error is None else "_OTHER"


def count(turn: Turn, usage: Mapping[str, Any] | None) -> None:
    for name in ("read", "made") if usage else ():
        told = (usage or {}).get("input_tokens" if name == "read" else "output_tokens")
        if isinstance(told, int):
            setattr(turn, name, (getattr(turn, name) or 0) + told)
