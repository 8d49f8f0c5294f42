"""Tool calls out of spans, whichever instrumentation made them; knows no OpenTelemetry package.

What emitters of GenAI spans send differs: names of attributes, where arguments and results stand (attributes, events,
JSON in JSON), and which span knows the agent, the session and the user. `calls` takes the spans of one trace and gives
the tool calls among them, each once:

- what a span does not know is looked for in its ancestors, then in the other spans of its trace;
- of spans inside one another that stand for one call (an agent's, its MCP client's, the server's) the outermost counts,
  and so does one of two that different instrumentations made of one call;
- a call that waits for a person's approval ends without an error and without a result in some emitters: it is none.

The conventions are those of OpenTelemetry's GenAI group (all of ``gen_ai.*`` is in development there, so the names
stand here as text), of OpenInference, of OpenLLMetry (``traceloop.*``), of LangSmith, and of PydanticAI's versions.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agentmodel.dynamo.models import Status

__all__ = ["Event", "Span", "SpanCall", "calls"]

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


@dataclass(frozen=True, slots=True)
class SpanCall:
    """One tool call that was found.

    Attributes:
        trace_id: The trace it was found in.
        span_id: The span.
        call_id: The model's id of the call, else the span's id.
        turn: Number of the model's message that asked for it, from 1; calls of one turn were asked for together.
        place: Its place among the calls of that message.
        tool: The tool's name.
        agent: The agent's name; None where no span tells it.
        user: Whom it works for, likewise.
        session: Its conversation; None where no span tells it.
        arguments: As an object; a bare value stands under ``input``.
        result: What the tool gave.
        status: How it ended.
        error_type: The error's type, where it failed.
        started_at: When it began.
        ended_at: When it ended.
        input_tokens: Its share of the tokens that the message took; None where nobody counted.
        output_tokens: Likewise.
        service: The resource's ``service.name``.
    """

    trace_id: str
    span_id: str
    call_id: str
    turn: int
    place: int
    tool: str
    agent: str | None
    user: str | None
    session: str | None
    arguments: dict[str, Any]
    result: Any
    status: Status
    error_type: str | None
    started_at: datetime
    ended_at: datetime
    input_tokens: int | None = None
    output_tokens: int | None = None
    service: str | None = None


def calls(spans: Iterable[Span]) -> list[SpanCall]:
    """The tool calls of one trace, in the order the model asked for them; see the module."""
    trace = _Trace(sorted(spans, key=lambda span: (span.started_ns, span.span_id)))
    found = [span for span in trace.spans if _is_tool(span) and not trace.is_inner(span) and not _pending(span)]
    asked = trace.messages()
    placed = sorted((trace.placed(span, asked) for span in _once(found, trace)), key=lambda one: one.order)
    turns: dict[object, int] = {}
    made = []
    for one in placed:  # a message's calls are one turn; a call no message tells of is a turn by itself
        turn = turns.setdefault(one.message or one.span.span_id, len(turns) + 1)
        made.append(trace.call(one, turn))
    return made


@dataclass(frozen=True, slots=True)
class _Message:
    """A model's answer that asks for calls."""

    started_ns: int
    ids: tuple[str, ...]
    input_tokens: int | None
    output_tokens: int | None

    def share(self, place: int) -> tuple[int | None, int | None]:
        """The tokens of one of its calls; the first takes what cannot be divided, so that sums stay exact."""

        def part(tokens: int | None) -> int | None:
            if tokens is None:
                return None
            whole, rest = divmod(tokens, len(self.ids))
            return whole + (rest if place == 0 else 0)

        return part(self.input_tokens), part(self.output_tokens)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A call's span, and where it stands."""

    span: Span
    call_id: str
    message: _Message | None
    place: int
    order: tuple[int, int, int]


class _Trace:
    """The spans of one trace, and who lies in whom."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._by_id = {span.span_id: span for span in spans}

    def ancestors(self, span: Span) -> Iterator[Span]:
        """The spans around it, the nearest first."""
        seen = {span.span_id}
        parent = self._by_id.get(span.parent_id or "")
        while parent is not None and parent.span_id not in seen:
            yield parent
            seen.add(parent.span_id)
            parent = self._by_id.get(parent.parent_id or "")

    def is_inner(self, span: Span) -> bool:
        """Whether it stands for the same call as a span around it."""
        return any(_is_tool(outer) and _tool(outer) == _tool(span) for outer in self.ancestors(span))

    def known(self, span: Span, of: Callable[[Span], str | None]) -> str | None:
        """What a span, the spans around it, or any other span of the trace tell."""
        for one in (span, *self.ancestors(span), *self.spans):
            if value := of(one):
                return value
        return None

    def call_id(self, span: Span) -> str:
        """The model's id of a call, else the span's."""
        if given := _text(span.attributes.get("gen_ai.tool.call.id")):
            return given
        message = _tool_message(_output(span))
        if message is not None and (given := _text(message.get("tool_call_id"))):
            return given
        asked = self._asked(span)
        return _text(asked.get("id")) or span.span_id if asked else span.span_id

    def _asked(self, span: Span) -> Mapping[str, Any] | None:
        """The call as a LangGraph tool node was given it: the one of its name, where it is the only one."""
        for outer in self.ancestors(span):
            given = _json(outer.attributes.get("input.value") or outer.attributes.get("traceloop.entity.input"))
            if isinstance(given, dict):
                given = given.get("inputs")
            if isinstance(given, list):
                same = [one for one in given if isinstance(one, dict) and one.get("name") == _tool(span)]
                if len(same) == 1 and isinstance(same[0].get("args"), dict):
                    return same[0]
        return None

    def messages(self) -> list[_Message]:
        """What the model asked for, in time order."""
        found: dict[tuple[str, ...], _Message] = {}
        for span in self.spans:
            ids = tuple(dict.fromkeys(_asked_ids(span)))
            # spans around the model's own repeat its message, without its tokens
            if ids and (ids not in found or found[ids].input_tokens is None):
                usage = [_number(span.attributes, names) for names in (_INPUT_TOKENS, _OUTPUT_TOKENS)]
                found[ids] = _Message(span.started_ns, ids, *usage)
        return list(found.values())

    def placed(self, span: Span, asked: Sequence[_Message]) -> _Placed:
        """A call, and the message that asked for it."""
        call_id = self.call_id(span)
        message = next((one for one in asked if call_id in one.ids), None)
        if message is None:
            return _Placed(span, call_id, None, 0, (span.started_ns, 0, span.started_ns))
        place = message.ids.index(call_id)
        return _Placed(span, call_id, message, place, (message.started_ns, place, span.started_ns))

    def call(self, one: _Placed, turn: int) -> SpanCall:
        """The call that a span is."""
        span = one.span
        status, error_type = _outcome(span)
        input_tokens, output_tokens = (None, None) if one.message is None else one.message.share(one.place)
        return SpanCall(
            trace_id=span.trace_id,
            span_id=span.span_id,
            call_id=one.call_id,
            turn=turn,
            place=one.place,
            tool=_tool(span),
            agent=self.known(span, _agent),
            user=self.known(span, _user),
            session=self.known(span, _session),
            arguments=self._arguments(span),
            result=_result(span),
            status=status,
            error_type=error_type,
            started_at=_time(span.started_ns),
            ended_at=_time(max(span.started_ns, span.ended_ns)),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            service=span.service,
        )

    def _arguments(self, span: Span) -> dict[str, Any]:
        given = _input(span)
        if isinstance(given, dict):
            return given
        asked = self._asked(span)
        if asked is not None:
            return dict(asked["args"])
        return {} if given is None else {"input": given}


def _once(found: Sequence[Span], trace: _Trace) -> list[Span]:
    """Of spans that two instrumentations made of one call, the one that knows more; a retry is no such pair."""
    kept: list[Span] = []
    for span in found:
        twin = next((one for one in kept if _twins(one, span, trace)), None)
        if twin is None:
            kept.append(span)
        elif len(span.attributes) > len(twin.attributes):
            kept[kept.index(twin)] = span
    return kept


def _twins(one: Span, other: Span, trace: _Trace) -> bool:
    together = one.started_ns <= other.ended_ns and other.started_ns <= one.ended_ns
    same = trace.call_id(one) == trace.call_id(other)
    return one.scope != other.scope and together and same and _tool(one) == _tool(other)


# What one span tells


def _is_tool(span: Span) -> bool:
    told = span.attributes
    if span.scope == OWN_SCOPE:
        return False
    if kind := told.get("openinference.span.kind"):
        return bool(kind == "TOOL")
    return (
        told.get("gen_ai.operation.name") == "execute_tool"
        or told.get("traceloop.span.kind") == "tool"
        or told.get("langsmith.span.kind") == "tool"
        or told.get("mcp.method.name") == "tools/call"
    )


def _pending(span: Span) -> bool:
    """Whether it is a call that waits for approval: the emitters of OpenAI Agents end it well, without a result."""
    return _APPROVALS in span.scope and not span.failed and _output(span) is None


def _tool(span: Span) -> str:
    for name in ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"):
        if value := _text(span.attributes.get(name)):
            return value
    for prefix in ("execute_tool ", "tools/call "):
        if span.name.startswith(prefix):
            return span.name.removeprefix(prefix)
    return span.name.removesuffix(".tool")


def _metadata(span: Span, name: str) -> str | None:
    """A value of the program's own metadata, where instrumentations put it."""
    for prefix in _METADATA:
        if value := _text(span.attributes.get(prefix + name)):
            return value
    told = _json(span.attributes.get("metadata"))
    return _text(told.get(name)) if isinstance(told, dict) else None


def _first(span: Span, names: Sequence[str], *metadata: str) -> str | None:
    for name in names:
        if value := _text(span.attributes.get(name)):
            return value
    for name in metadata:
        if value := _metadata(span, name):
            return value
    return None


def _agent(span: Span) -> str | None:
    return _first(span, _AGENT, "lc_agent_name", "agent_name")


def _session(span: Span) -> str | None:
    return _first(span, _SESSION, "thread_id", "session_id")


def _user(span: Span) -> str | None:
    return _first(span, _USER, "user_id")


def _input(span: Span) -> Any:
    """The arguments, as far as the span itself tells them."""
    told = span.attributes
    if "openinference.span.kind" in told:  # its gen_ai.tool.call.arguments may be the tool's schema
        return _json(told.get("input.value"))
    for name in _ARGUMENTS:
        if name in told:
            return _unwrapped(_json(told[name]))
    for event in span.events:
        if event.name in ("gen_ai.tool.message", "gen_ai.tool.message.content"):
            return _json(event.attributes.get("content"))
    return None


def _unwrapped(given: Any) -> Any:
    """OpenLLMetry's LangChain spans hold the repr of the arguments in an object of its own."""
    if isinstance(given, dict) and isinstance(given.get("input_str"), str) and "metadata" in given:
        try:
            return ast.literal_eval(given["input_str"])
        except (ValueError, SyntaxError):
            return given["input_str"]
    return given


def _output(span: Span) -> Any:
    """The result as it stands in the span, JSON read."""
    told = span.attributes
    if "openinference.span.kind" in told:
        return _json(told.get("output.value"))
    for name in _RESULT:
        if name in told:
            return _json(told[name])
    for event in span.events:
        if event.name == "gen_ai.choice":
            return _json(event.attributes.get("message"))
    return None


def _tool_message(output: Any) -> Mapping[str, Any] | None:
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


def _result(span: Span) -> Any:
    output = _output(span)
    message = _tool_message(output)
    if message is not None:
        return message.get("content")
    if isinstance(output, list) and output and all(isinstance(one, dict) and set(one) == {"text"} for one in output):
        return "\n".join(one["text"] for one in output)  # content blocks
    return output


def _outcome(span: Span) -> tuple[Status, str | None]:
    told = span.attributes
    message = _tool_message(_output(span)) or {}
    error_type = _text(told.get("error.type")) or _exception(span)
    if error_type is not None and error_type.rpartition(".")[2] in _INTERRUPTS:
        return "interrupted", None
    failed = span.failed or error_type is not None
    if not failed and told.get("gen_ai.tool.status") != "error" and message.get("status") != "error":
        return "ok", None
    if span.description.startswith("Unknown tool: "):
        return "unknown_tool", None
    return "error", error_type or OTHER


def _exception(span: Span) -> str | None:
    for event in reversed(span.events):
        if event.name == "exception" and (name := _text(event.attributes.get("exception.type"))):
            return name
    return None


def _asked_ids(span: Span) -> Iterator[str]:
    """Ids of the calls that a model's span asks for, in order."""
    if _is_tool(span):
        return
    told = span.attributes
    number = 0
    while f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id" in told:
        yield str(told[f"llm.output_messages.0.message.tool_calls.{number}.tool_call.id"])
        number += 1
    texts = [told.get("gen_ai.output.messages")]
    texts += [event.attributes.get("gen_ai.output.messages") for event in span.events]
    for message in (one for text in texts for one in _list(_json(text))):
        for part in _list(message.get("parts") if isinstance(message, dict) else None):
            if isinstance(part, dict) and part.get("type") == "tool_call" and part.get("id"):
                yield str(part["id"])
    for event in span.events:
        if event.name == "gen_ai.choice":
            for block in _list(_json(event.attributes.get("message"))):
                if isinstance(block, dict) and isinstance(block.get("toolUse"), dict):
                    yield str(block["toolUse"].get("toolUseId"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(value: Any) -> Any:
    """Text that is JSON as what it says, anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(told: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        if isinstance(told.get(name), int):
            return int(told[name])
    return None


def _time(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
