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

from agentmodel._values.counts import Usage, count_or_none
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.messages import content_text, user_texts

__all__ = [
    "CATEGORY",
    "OTHER",
    "OWN_SCOPE",
    "REQUEST",
    "Event",
    "Span",
    "agent_of",
    "category_of",
    "encodable",
    "evaluation_of",
    "input_of",
    "is_evaluation",
    "is_pending",
    "is_same",
    "is_tool",
    "json_of",
    "list_of",
    "may_wait",
    "message_of",
    "outcome_of",
    "output_of",
    "own_call_id",
    "parsed",
    "request_of",
    "result_of",
    "revision_of",
    "session_of",
    "text_or_none",
    "tokens_of",
    "tool_of",
    "user_of",
    "workflow_agent_of",
]  # fmt: skip

OTHER = "_OTHER"
"""The error type of an error without one, as OpenTelemetry has it."""

OWN_SCOPE = "agentmodel"
"""Scope of the spans that `agentmodel.integrations.opentelemetry.emit` makes of what is recorded already."""

REQUEST, CATEGORY = "agentmodel.request", "agentmodel.category"
"""Attributes by which a program says what the user asked for, and of which kind that is."""

_AGENT = ("gen_ai.agent.name", "agent.name", "agent_name", "tool.agent_role")
_NODE = ("graph.node.name", "graph.node.id")  # of OpenInference's agents that have no name of their own
_CALL_ID = ("gen_ai.tool.call.id", "tool.id", "tool_call.id")
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
_TOTAL_TOKENS = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_HAYSTACK = "haystack.agent.step"
_ARGUMENTS = ("gen_ai.tool.call.arguments", "tool_arguments", "gen_ai.prompt", f"{_HAYSTACK}.tool.input")
_RESULT = ("gen_ai.tool.call.result", "tool_response", "gen_ai.completion", f"{_HAYSTACK}.tool.output")
_INTERRUPTS = ("GraphInterrupt", "GraphBubbleUp", "InterruptException")
_ABANDONED = (*_INTERRUPTS, "CancelledError", "Cancelled", "GeneratorExit", "KeyboardInterrupt")
"""Exceptions that end a call from outside: they are no failure of its tool."""

_CLASS = re.compile(r"(?:\w+\.)+([A-Z]\w*)")  # an exception with its module
_NAMED = re.compile(r"((?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout))(?::|\(|$)")
_INVALID = re.compile(r"\b\d+ validation errors? for \w")  # pydantic's message, without the name of its exception
_EVALUATION = "gen_ai.evaluation."
_PASSED = frozenset({"pass", "passed", "success", "succeeded", "correct", "relevant", "good", "true", "yes"})
_NOT_PASSED = frozenset(
    {"fail", "failed", "failure", "incorrect", "wrong", "irrelevant", "not_relevant", "bad", "harmful", "false", "no"}
)
_WRAPPING = ("llama_index", "smolagents")  # scopes whose arguments are those of a Python call: ``args``, ``kwargs``
_WORKFLOW_AGENT = re.compile(r"\bcurrent_agent_name=['\"]([^'\"]+)['\"]")
_ADK = ("gcp.vertex.agent", "openinference.instrumentation.google_adk")
_ADK_MERGED = "(merged tools)"  # the name of a span for the answers to all calls of a turn, which is no call
_ADK_EVENT = "gcp.vertex.agent.event_id"
_ADK_ASKS = "This tool call requires confirmation, please approve or reject."
_ADK_REJECTED = "This tool call is rejected."
_ADK_INVALID = "Invoking `"  # how its answer begins in place of a tool that was given wrong arguments
_NOT_FOUND = ("Tool not found", "<tool_use_error>Error: No such tool available")
"""How the result of an unknown tool begins in spans of CrewAI's listener, and in those of Claude's SDK."""

_MESSAGES = (
    "gen_ai.input.messages",
    "pydantic_ai.all_messages",
    "input.value",
    "traceloop.entity.input",
    "gen_ai.prompt",
    "haystack.agent.input",
)
_NUMBERED = (("llm.input_messages.", ".message.role", ".message.content"), ("gen_ai.prompt.", ".role", ".content"))
_DEFERRED = "pydantic_ai.tool.deferral.name"
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
        resource: The attributes of its resource, and what the program told the span processor: they are of all spans,
            and hold where no span says otherwise.
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
    resource: Mapping[str, Any] = field(default_factory=dict)


def is_tool(span: Span) -> bool:
    """Whether a span describes a tool call."""
    attributes = span.attributes
    if kind := attributes.get("openinference.span.kind"):
        return bool(kind == "TOOL")
    return attributes.get("gen_ai.tool.name") != _ADK_MERGED and (
        attributes.get("gen_ai.operation.name") == "execute_tool"
        or attributes.get("traceloop.span.kind") == "tool"
        or attributes.get("langsmith.span.kind") == "tool"
        or attributes.get("mcp.method.name") == "tools/call"
        or span.name == f"{_HAYSTACK}.tool"
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
    """Whether a span says that its call waits for a person, or is made elsewhere.

    It has the question for a result in ADK, and a word for it in PydanticAI; that one has failed, too, by the older
    conventions.
    """
    return _DEFERRED in span.attributes or _adk_answer(span).get("error") == _ADK_ASKS


def may_wait(span: Span) -> bool:
    """Whether a call has arguments and neither error nor result: in OpenAI Agents it waits, or it returned None."""
    ended = not span.failed and output_of(span) is None
    return _APPROVALS in span.scope and ended and input_of(span) is not None


def _adk_answer(span: Span) -> Mapping[str, Any]:
    """Return what ADK gave the model for a call; nothing of other emitters."""
    output = output_of(span) if span.scope in _ADK else None
    if isinstance(output, dict) and "response" in output and output.keys() <= {"id", "name", "response"}:
        output = output["response"]
    return output if isinstance(output, dict) else {}


def tool_of(span: Span) -> str:
    """Return the name of the tool."""
    for name in ("gen_ai.tool.name", "tool.name", "traceloop.entity.name", "haystack.tool.name"):
        if value := text_or_none(span.attributes.get(name)):
            return value.partition("\n")[0].removeprefix("Tool Name: ")  # CrewAI's spans have its description there
    for prefix in ("execute_tool ", "tools/call "):
        if span.name.startswith(prefix):
            return span.name.removeprefix(prefix)
    return span.name.removesuffix(".tool")


def own_call_id(span: Span) -> str | None:
    """Return the model's id of a call, where its span has it."""
    if given := _first(span, _CALL_ID):
        return given
    message = message_of(output_of(span))
    return None if message is None else id_or_none(message.get("tool_call_id"))


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
    if given := _first(span, _AGENT, "lc_agent_name", "agent_name"):
        return given
    if span.attributes.get("openinference.span.kind") != "AGENT":
        return None
    return _first(span, _NODE) or (span.name.removesuffix(".run") if "smolagents" in span.scope else None)


def workflow_agent_of(span: Span) -> str | None:
    """Return which agent a step of a LlamaIndex workflow is of; the spans of its tool calls are not inside that."""
    if "llama_index" not in span.scope:
        return None
    found = (_WORKFLOW_AGENT.search(str(span.attributes.get(name))) for name in ("output.value", "input.value"))
    return next((one[1] for one in found if one), None)


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
            yield content_text(given.get(f"{before}{number}{content}")) if who == "user" else None
            number += 1
    if given.get("openinference.span.kind") == "AGENT":
        asked = parsed(given.get("input.value"))
        yield content_text(asked.get("task") if isinstance(asked, dict) else asked)  # smolagents has a task
    for name in _MESSAGES:
        yield _from_user(parsed(given.get(name)))
    for task in list_of(parsed(given.get("crew_tasks"))):
        yield text_or_none(task.get("description")) if isinstance(task, dict) else None
    for event in span.events:
        if event.name == "gen_ai.user.message":
            yield content_text(parsed(event.attributes.get("content")))
        for name in (_MESSAGES[0], "gen_ai.prompt"):
            yield _from_user(parsed(event.attributes.get(name)))


def _from_user(messages: Any) -> str | None:
    """Return the text of the first message of a user among messages, as the emitters write them."""
    if isinstance(messages, dict):
        messages = messages.get("inputs", messages)
        messages = (messages.get("messages") or messages.get("new_message")) if isinstance(messages, dict) else None
    given = messages if isinstance(messages, list) else [messages]
    return next(user_texts([one for one in given if not isinstance(one, str)]), None)


def input_of(span: Span) -> Any:
    """Return the arguments, as far as the span itself has them."""
    attributes = span.attributes
    if "openinference.span.kind" in attributes:  # its gen_ai.tool.call.arguments may be the tool's schema
        given = parsed(attributes.get("input.value"))
        return _python_call(given) if any(one in span.scope for one in _WRAPPING) else given
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


def _python_call(given: Any) -> Any:
    """Unwrap the arguments of a Python call; those without a name stay in ``args``."""
    if not isinstance(given, dict) or not isinstance(given.get("kwargs"), dict):
        return given
    return ({"args": given["args"]} if given.get("args") else {}) | given["kwargs"]


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
    """Return the fields of LangChain's tool message, which is written in three ways, also inside `Command`s."""
    if isinstance(output, dict) and isinstance(output.get("output"), dict | list):
        output = output["output"]
    if isinstance(output, list):
        return next((found for one in output if (found := _answer_in(one)) is not None), None)
    return _answer_in(output)


def _answer_in(output: Any) -> Mapping[str, Any] | None:
    if not isinstance(output, dict):
        return None
    if "goto" not in output or "update" not in output:
        return _tool_message(output)
    update = output["update"]
    lists = [list_of(one) for one in update.values()] if isinstance(update, dict) else [list_of(update)]
    return next((found for many in lists for one in many if (found := _tool_message(one)) is not None), None)


def _tool_message(message: Any) -> Mapping[str, Any] | None:
    if not isinstance(message, dict):
        return None
    for inner in ("data", "kwargs"):
        if message.get("type") in ("tool", "constructor") and isinstance(message.get(inner), dict):
            message = message[inner]
    return message if "tool_call_id" in message else None


def result_of(span: Span) -> Any:
    """Return what the tool returned, or, of a call that failed and has no result, the error's text."""
    output = output_of(span)
    message = message_of(output)
    if message is not None:
        return message.get("content")
    if output is None and outcome_of(span)[0] != "ok":
        texts = (_exception(span, "exception.message"), span.description)
        return next((text for text in texts if text), None)
    if isinstance(output, dict) and (span.scope in _ADK or span.name.startswith(_HAYSTACK)):
        output = _adk_answer(span) or output
        only = {"error"} if outcome_of(span)[0] != "ok" else {"result"}  # how they wrap what is no object
        return next(iter(output.values())) if output.keys() == only else output
    if isinstance(output, dict) and "llama_index" in span.scope and isinstance(output.get("blocks"), list):
        output = output["blocks"]
    return _text_of_blocks(output)


def _text_of_blocks(output: Any) -> Any:
    """Return the text of content blocks, if all of them are texts; anything else as it is."""
    for one in list_of(output):
        if (
            not isinstance(one, dict)
            or not {"text"} <= set(one) <= {"text", "type"}
            or one.get("type", "text") != "text"
        ):
            return output
    return "\n".join(str(one["text"]) for one in output) if isinstance(output, list) and output else output


def outcome_of(span: Span) -> tuple[Status, str | None]:
    """Return how the call ended, and the error's type if it failed."""
    error_type = _error_type(span)
    failed = span.failed or error_type is not None or _says_error(span)
    if error_type in _ABANDONED or (not failed and _is_left(span)):
        return "interrupted", None
    if _is_unknown(span, failed=failed):
        return "unknown_tool", None
    if _adk_answer(span).get("error") == _ADK_REJECTED:
        return "rejected", None
    return ("error", error_type or OTHER) if failed else ("ok", None)


def _error_type(span: Span) -> str | None:
    """Return the error's type, without its module, which not every emitter writes."""
    given = text_or_none(span.attributes.get("error.type")) or _exception(span, "exception.type")
    if given is None and span.failed:
        given = _type_in(span.description)
    if str(_adk_answer(span).get("error")).startswith(_ADK_INVALID):
        given = "ValidationError"
    named = _CLASS.fullmatch(given) if given is not None else None
    return named[1] if named else given


def _says_error(span: Span) -> bool:
    """Whether a span that ended well says otherwise, in an attribute or in its result."""
    output, answer = output_of(span), _adk_answer(span)
    in_result = any(
        True in (one.get("is_error"), one.get("isError")) for one in (output, answer) if isinstance(one, dict)
    )
    status = (message_of(output) or {}).get("status")
    told = span.attributes.get("haystack.tool.error") is True or span.attributes.get("gen_ai.tool.status") == "error"
    return told or in_result or bool(answer.get("error")) or "error" in (status, answer.get("status"))


def _is_left(span: Span) -> bool:
    """Whether a run ended before its call did: ADK's span has neither error nor answer then."""
    return span.scope in _ADK and _ADK_EVENT not in span.attributes and own_call_id(span) is None


def _is_unknown(span: Span, *, failed: bool) -> bool:
    if any(one in span.scope for one in ("crewai", "claude_agent_sdk")):
        return str(output_of(span) or span.description).startswith(_NOT_FOUND)
    adk = span.scope in _ADK and span.attributes.get("gen_ai.tool.type") == "BaseTool"
    return failed and (adk or span.description.startswith("Unknown tool: "))


def _exception(span: Span, name: str) -> str | None:
    for event in reversed(span.events):
        if event.name == "exception" and (value := text_or_none(event.attributes.get(name))):
            return value
    return None


def _type_in(description: str) -> str | None:
    """Return the name of an exception that the description of a status begins with."""
    named = _NAMED.match(description)
    return named[1] if named else "ValidationError" if _INVALID.search(description) else None


def tokens_of(span: Span) -> Usage:
    """Return the tokens of the model's message, and the model."""
    counts, model_name = span.attributes, _first(span, _MODEL, "ls_model_name")
    replies = parsed(counts.get(f"{_HAYSTACK}.llm.output"))
    for reply in list_of(replies.get("replies")) if isinstance(replies, dict) else ():
        meta = reply.get("meta") if isinstance(reply, dict) else None
        usage = meta.get("usage") if isinstance(meta, dict) else None
        counts = {f"gen_ai.usage.{name}": count for name, count in usage.items()} if isinstance(usage, dict) else counts
        model_name = model_name or (text_or_none(meta.get("model")) if isinstance(meta, dict) else None)
    kinds = (_INPUT_TOKENS, _OUTPUT_TOKENS, _CACHED_TOKENS, _CACHE_WRITE_TOKENS, _REASONING_TOKENS)
    usage = Usage(*(_number(counts, names) for names in kinds))._replace(model_name=model_name)
    return usage.with_cached(_number(counts, _TOTAL_TOKENS))


def list_of(value: Any) -> list[Any]:
    """Return a value that should be a list; an empty list where it is none."""
    return value if isinstance(value, list) else []


def parsed(value: Any) -> Any:
    """Parse text that is JSON; return anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json_of(value)
    except (ValueError, RecursionError):
        return value


def json_of(text: str | bytes) -> Any:
    r"""Parse JSON; half a surrogate pair in it, which no store takes, becomes ``?``.

    >>> json_of(r'["caf\ud83d"]')
    ['caf?']

    Raises:
        ValueError: It is no JSON, or has a number of thousands of digits.
        RecursionError: It is nested too deeply.
    """
    found = json.loads(text)
    if b"\\ud" in text.lower() if isinstance(text, bytes) else "\\ud" in text.lower():
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found


def encodable(value: Any) -> Any:
    """Return a text, or a list of texts, with ``?`` for half a surrogate pair; anything else as it is."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    return [encodable(one) for one in value] if isinstance(value, list | tuple) else value


def text_or_none(value: Any) -> str | None:
    """Return a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def _number(attributes: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        if (tokens := count_or_none(name, attributes.get(name))) is not None:
            return tokens
    return None
