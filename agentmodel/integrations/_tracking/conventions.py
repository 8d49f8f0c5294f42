"""Reads one span of a GenAI program, in the dialects of its emitters; imports no OpenTelemetry package.

The conventions are those of OpenTelemetry's GenAI group (all of ``gen_ai.*`` is in development there, so the names
are written as text here), of OpenInference, of OpenLLMetry (``traceloop.*``), of LangSmith, and of PydanticAI's
versions.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentmodel._counts import Usage, count_or_none
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.foreign_ids import id_or_none

__all__ = [
    "CATEGORY",
    "OTHER",
    "OWN_SCOPE",
    "REQUEST",
    "Event",
    "Span",
    "agent_of",
    "category_of",
    "evaluation_of",
    "input_of",
    "is_evaluation",
    "is_pending",
    "is_same",
    "is_tool",
    "message_of",
    "outcome_of",
    "output_of",
    "parsed",
    "request_of",
    "requested_ids",
    "result_of",
    "revision_of",
    "session_of",
    "text_or_none",
    "tokens_of",
    "tool_of",
    "user_of",
]  # fmt: skip

OTHER = "_OTHER"
"""The error type of an error without one, as OpenTelemetry has it."""

OWN_SCOPE = "agentmodel"
"""Scope of the spans that `agentmodel.integrations.opentelemetry.emit` makes of what is recorded already."""

REQUEST, CATEGORY = "agentmodel.request", "agentmodel.category"
"""Attributes by which a program says what the user asked for, and of which kind that is."""

_AGENT = ("gen_ai.agent.name", "agent.name", "agent_name")
_REVISION = ("gen_ai.agent.version", "agent.version")
_SESSION = ("gen_ai.conversation.id", "session.id")
_USER = ("user.id", "enduser.id")
_METADATA = ("traceloop.association.properties.", "langsmith.metadata.")
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_CACHED_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens", "llm.token_count.prompt_details.cache_read",
)  # fmt: skip
_CACHE_WRITE_TOKENS = (
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens", "gen_ai.usage.details.cache_write_tokens",
    "llm.token_count.prompt_details.cache_write",
)  # fmt: skip
_REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens", "llm.token_count.completion_details.reasoning",
)  # fmt: skip
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_ARGUMENTS = ("gen_ai.tool.call.arguments", "tool_arguments", "gen_ai.prompt")
_RESULT = ("gen_ai.tool.call.result", "tool_response", "gen_ai.completion")
_INTERRUPTS = ("GraphInterrupt", "GraphBubbleUp", "InterruptException")
_CLASS = re.compile(r"(?:\w+\.)+([A-Z]\w*)")  # an exception with its module, which not every emitter writes
_EVALUATION = "gen_ai.evaluation."
_PASSED = frozenset({"pass", "passed", "success", "succeeded", "correct", "relevant", "good", "true", "yes"})
_NOT_PASSED = frozenset(
    {"fail", "failed", "failure", "incorrect", "wrong", "irrelevant", "not_relevant", "bad", "harmful", "false", "no"}
)
_MESSAGES = (
    "gen_ai.input.messages",
    "pydantic_ai.all_messages",
    "input.value",
    "traceloop.entity.input",
    "gen_ai.prompt",
)
_NUMBERED = (("llm.input_messages.", ".message.role", ".message.content"), ("gen_ai.prompt.", ".role", ".content"))
_APPROVALS = "openai_agents"  # scopes whose spans of pending approvals look like successes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span, at a time in nanoseconds since the epoch; 0 where it is not known."""

    name: str
    attributes: Mapping[str, Any]
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """One ended span.

    Attributes:
        trace_id: Of its trace, hexadecimal.
        span_id: Its own, hexadecimal.
        parent_id: Of the span around it; None if there is none.
        name: Its name.
        scope: Name of the instrumentation that made it.
        started_ns: When it began, nanoseconds since the epoch.
        ended_ns: When it ended.
        failed: Whether its status is ``ERROR``.
        description: The description of its status.
        attributes: Its attributes.
        events: Its events.
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
    """Whether a span describes a tool call."""
    attributes = span.attributes
    if kind := attributes.get("openinference.span.kind"):
        return bool(kind == "TOOL")
    return (
        attributes.get("gen_ai.operation.name") == "execute_tool"
        or attributes.get("traceloop.span.kind") == "tool"
        or attributes.get("langsmith.span.kind") == "tool"
        or attributes.get("mcp.method.name") == "tools/call"
    )


def is_evaluation(event: Event) -> bool:
    """Whether an event says how a run went, as OpenTelemetry's conventions for GenAI have it."""
    return event.name == f"{_EVALUATION}result" and event.attributes.get("error.type") is None


def evaluation_of(event: Event) -> dict[str, Any]:
    """Return what an evaluation says, as `agentmodel.traces.TraceOutcome` has it.

    The label decides whether the run succeeded, where it is a word for that, such as ``pass``; else the score does.

    Raises:
        ValidationError: It has neither such a label nor a score, or its score is not from 0 to 1.
    """
    given = event.attributes
    label = str(given.get(f"{_EVALUATION}score.label") or "").strip().lower().replace(" ", "_")
    success = True if label in _PASSED else False if label in _NOT_PASSED else None
    score = given.get(f"{_EVALUATION}score.value")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        if success is None:
            rule = "must be a number from 0 to 1, or the label a word such as pass or fail"
            raise ValidationError(f"{_EVALUATION}score.value", score, rule)
        score = None  # there is none, or it is on a scale of its own beside a label that says what it means
    return {
        "success": success,
        "score": score,
        "source": "evaluator",
        "by": text_or_none(given.get(f"{_EVALUATION}name")),
        "reason": text_or_none(given.get(f"{_EVALUATION}explanation")),
    }


def is_same(outer: Span, span: Span) -> bool:
    """Whether a span inside another describes the same call.

    Agents put the name of an MCP server before the names of its tools.
    """
    name, outer_name = tool_of(span), tool_of(outer)
    prefixed = outer_name.endswith(name) and not outer_name.removesuffix(name)[-1:].isalnum()
    return name == outer_name or ("mcp.method.name" in span.attributes and prefixed)


def is_pending(span: Span) -> bool:
    """Whether a call waits for approval: the emitters of OpenAI Agents end its span without error and result."""
    return _APPROVALS in span.scope and not span.failed and output_of(span) is None


def tool_of(span: Span) -> str:
    """Return the name of the tool."""
    for name in ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"):
        if value := text_or_none(span.attributes.get(name)):
            return value
    for prefix in ("execute_tool ", "tools/call "):
        if span.name.startswith(prefix):
            return span.name.removeprefix(prefix)
    return span.name.removesuffix(".tool")


def _metadata(span: Span, name: str) -> str | None:
    """Return a value of the program's own metadata, from where instrumentations put it."""
    for prefix in _METADATA:
        if value := id_or_none(span.attributes.get(prefix + name)):
            return value
    metadata = parsed(span.attributes.get("metadata"))
    return id_or_none(metadata.get(name)) if isinstance(metadata, dict) else None


def _first(span: Span, names: Sequence[str], *metadata: str) -> str | None:
    for name in names:
        if value := id_or_none(span.attributes.get(name)):
            return value
    for name in metadata:
        if value := _metadata(span, name):
            return value
    return None


def agent_of(span: Span) -> str | None:
    """Return the name of the agent."""
    return _first(span, _AGENT, "lc_agent_name", "agent_name")


def revision_of(span: Span) -> str | None:
    """Return the revision of the agent."""
    return _first(span, _REVISION, "agent_version")


def session_of(span: Span) -> str | None:
    """Return the conversation."""
    return _first(span, _SESSION, "thread_id", "session_id")


def user_of(span: Span) -> str | None:
    """Return the user it works for."""
    return _first(span, _USER, "user_id")


def category_of(span: Span) -> str | None:
    """Return the kind of request, where the program says it."""
    return text_or_none(span.attributes.get(CATEGORY)) or _metadata(span, "category")


def request_of(span: Span) -> str | None:
    """Return what the user asked for: as the program says it, else the first message of theirs that a span repeats."""
    told = text_or_none(span.attributes.get(REQUEST)) or _metadata(span, "request")
    return told or (None if is_tool(span) else next(filter(None, _said_by_user(span)), None))


def _said_by_user(span: Span) -> Iterator[str | None]:
    """Yield what the user said first, from each place where an emitter may write it."""
    given = span.attributes
    for before, role, content in _NUMBERED:
        number = 0
        while (who := given.get(f"{before}{number}{role}")) is not None:
            yield _text(given.get(f"{before}{number}{content}")) if who == "user" else None
            number += 1
    if given.get("openinference.span.kind") == "AGENT":
        yield _text(parsed(given.get("input.value")))
    for name in _MESSAGES:
        yield _from_user(parsed(given.get(name)))
    for event in span.events:
        if event.name == "gen_ai.user.message":
            yield _text(parsed(event.attributes.get("content")))
        yield _from_user(parsed(event.attributes.get(_MESSAGES[0])))


def _from_user(messages: Any) -> str | None:
    """Return the text of the first message of a user among messages, as the emitters write them."""
    if isinstance(messages, dict):
        messages = messages.get("inputs", messages)
        messages = messages.get("messages") if isinstance(messages, dict) else None
    for one in _list(messages):
        if isinstance(one, list):  # LangChain's lists of lists, and pairs of role and text
            pair = len(one) == 2 and one[0] in ("user", "human")
            found = _text(one[1]) if pair else _from_user(one)
        else:
            message = one.get("kwargs", one) if isinstance(one, dict) else {}
            who = message.get("role") or message.get("type")
            found = _text(message.get("parts") or message.get("content")) if who in ("user", "human") else None
        if found:
            return found
    return None


def _text(content: Any) -> str | None:
    """Return the text of a message's content: a text, or parts of which some are texts."""
    if isinstance(content, list):
        parts = [part.get("text") or part.get("content") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content.strip() or None if isinstance(content, str) else None


def input_of(span: Span) -> Any:
    """Return the arguments, as far as the span itself has them."""
    attributes = span.attributes
    if "openinference.span.kind" in attributes:  # its gen_ai.tool.call.arguments may be the tool's schema
        return parsed(attributes.get("input.value"))
    for name in _ARGUMENTS:
        if name in attributes:
            return _unwrapped(parsed(attributes[name]))
    for event in span.events:
        if event.name in ("gen_ai.tool.message", "gen_ai.tool.message.content"):
            return parsed(event.attributes.get("content"))
    return None


def _unwrapped(given: Any) -> Any:
    """Unwrap the arguments of OpenLLMetry's LangChain spans: a repr inside an object."""
    if isinstance(given, dict) and isinstance(given.get("input_str"), str) and "metadata" in given:
        try:
            return ast.literal_eval(given["input_str"])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return given["input_str"]
    return given


def output_of(span: Span) -> Any:
    """Return the result as it is in the span, with JSON parsed."""
    attributes = span.attributes
    if "openinference.span.kind" in attributes:
        return parsed(attributes.get("output.value"))
    for name in _RESULT:
        if name in attributes:
            return parsed(attributes[name])
    for event in span.events:
        if event.name == "gen_ai.choice":
            return parsed(event.attributes.get("message"))
    return None


def message_of(output: Any) -> Mapping[str, Any] | None:
    """Return the fields of LangChain's tool message, which is written in three ways."""
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
    """Return what the tool returned."""
    output = output_of(span)
    message = message_of(output)
    if message is not None:
        return message.get("content")
    if isinstance(output, list) and output and all(isinstance(one, dict) and set(one) == {"text"} for one in output):
        return "\n".join(one["text"] for one in output)  # content blocks
    return output


def outcome_of(span: Span) -> tuple[Status, str | None]:
    """Return how the call ended, and the error's type if it failed."""
    attributes = span.attributes
    message = message_of(output_of(span)) or {}
    error_type = text_or_none(attributes.get("error.type")) or _exception(span)
    if error_type is not None and (named := _CLASS.fullmatch(error_type)):
        error_type = named[1]
    if error_type in _INTERRUPTS:
        return "interrupted", None
    failed = span.failed or error_type is not None
    if not failed and attributes.get("gen_ai.tool.status") != "error" and message.get("status") != "error":
        return "ok", None
    if span.description.startswith("Unknown tool: "):
        return "unknown_tool", None
    return "error", error_type or OTHER


def _exception(span: Span) -> str | None:
    for event in reversed(span.events):
        if event.name == "exception" and (name := text_or_none(event.attributes.get("exception.type"))):
            return name
    return None


def requested_ids(span: Span) -> Iterator[str]:
    """Yield the ids of the calls that a model's span requests, in order."""
    if not is_tool(span):
        yield from (call_id for given in _given_ids(span) if (call_id := id_or_none(given)))


def _given_ids(span: Span) -> Iterator[Any]:
    """Yield what a model's span has as ids of calls, placeholders too."""
    attributes = span.attributes
    number = 0
    while f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id" in attributes:
        yield attributes[f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id"]
        number += 1
    texts = [attributes.get("gen_ai.output.messages")]
    texts += [event.attributes.get("gen_ai.output.messages") for event in span.events]
    for message in (one for text in texts for one in _list(parsed(text))):
        for part in _list(message.get("parts") if isinstance(message, dict) else None):
            if isinstance(part, dict) and part.get("type") == "tool_call":
                yield part.get("id")
    for event in span.events:
        if event.name == "gen_ai.choice":
            for block in _list(parsed(event.attributes.get("message"))):
                if isinstance(block, dict) and isinstance(block.get("toolUse"), dict):
                    yield block["toolUse"].get("toolUseId")


def tokens_of(span: Span) -> Usage:
    """Return the tokens of the model's message, and the model."""
    counts = (
        _number(span.attributes, names)
        for names in (_INPUT_TOKENS, _OUTPUT_TOKENS, _CACHED_TOKENS, _CACHE_WRITE_TOKENS, _REASONING_TOKENS)
    )
    return Usage._make((*counts, _first(span, _MODEL, "ls_model_name")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def parsed(value: Any) -> Any:
    """Parse text that is JSON; return anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def text_or_none(value: Any) -> str | None:
    """Return a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def _number(attributes: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        if (tokens := count_or_none(name, attributes.get(name))) is not None:
            return tokens
    return None
