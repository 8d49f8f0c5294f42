"""Tool calls out of spans, whichever instrumentation made them; knows no OpenTelemetry package.

What emitters of GenAI spans send differs: names of attributes, where arguments and results stand (attributes, events,
JSON in JSON), and which span knows the agent, the session and the user. `calls` takes the spans of one trace and gives
the tool calls among them, each once:

- what a span does not know is looked for in its ancestors, then in the other spans of its trace;
- of spans inside one another that stand for one call (an agent's, its MCP client's, the server's) the outermost counts,
  and so does one of two that different instrumentations made of one call;
- tokens of a model's message are divided over the calls it asked for, also where a call is made in a later trace, after
  a person approved it; of a call that is tried again the first attempt has them;
- a call that waits for a person's approval ends without an error and without a result in some emitters: it is none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentmodel.dynamo.models import Status
from agentmodel.integrations._dialects import (
    OWN_SCOPE,
    Span,
    agent_of,
    asked_ids,
    input_of,
    is_pending,
    is_same,
    is_tool,
    message_of,
    outcome_of,
    output_of,
    parsed,
    result_of,
    session_of,
    text_or_none,
    tokens_of,
    tool_of,
    user_of,
)  # fmt: skip

__all__ = ["Asked", "SpanCall", "calls"]


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


def calls(spans: Iterable[Span], asked: Asked | None = None) -> list[SpanCall]:
    """The tool calls of one trace, in the order the model asked for them; see the module.

    Args:
        spans: Those of the trace.
        asked: What models asked for in earlier traces; what they ask for in this one is added.
    """
    others = (span for span in spans if span.scope != OWN_SCOPE)  # ours tell what is recorded already
    trace = _Trace(sorted(others, key=lambda span: (span.started_ns, span.span_id)))
    known = Asked() if asked is None else asked
    for session, message in trace.messages():
        known.add(session, message)
    found = [span for span in trace.spans if is_tool(span) and not trace.is_inner(span) and not is_pending(span)]
    placed = sorted((trace.placed(span, known) for span in _once(found, trace)), key=lambda one: one.order)
    turns: dict[object, int] = {}
    made = []
    for one in placed:  # a message's calls are one turn; a call no message tells of is a turn by itself
        turn = turns.setdefault(one.message or one.span.span_id, len(turns) + 1)
        made.append(trace.call(one, turn, known.tokens(one.session, one.call_id)))
    return made


class Asked:
    """What models asked for in conversations, over their traces, and whose tokens are given already.

    Args:
        most: Calls that are remembered; of more, the oldest is forgotten, and its tokens with it.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._messages: OrderedDict[tuple[str, str], _Message] = OrderedDict()
        self._open: set[tuple[str, str]] = set()

    def add(self, session: str, message: _Message) -> None:
        """Remember a message; one that a later trace repeats, without its tokens, is known already."""
        for call_id in message.ids:
            if message.input_tokens is None and (session, call_id) in self._messages:
                continue
            self._messages[session, call_id] = message
            self._messages.move_to_end((session, call_id))
            self._open.add((session, call_id))
        while len(self._messages) > self._most:
            self._open.discard(self._messages.popitem(last=False)[0])

    def message(self, session: str, call_id: str) -> _Message | None:
        """The message that asked for a call."""
        return self._messages.get((session, call_id))

    def tokens(self, session: str, call_id: str) -> tuple[int | None, int | None]:
        """A call's share of its message's tokens, once: they were spent on its first attempt."""
        if (session, call_id) not in self._open:
            return None, None
        self._open.remove((session, call_id))
        message = self._messages[session, call_id]
        return message.share(message.ids.index(call_id))


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
    session: str
    call_id: str
    message: _Message | None
    place: int
    order: tuple[int, int, int]


class _Trace:
    """The spans of one trace, and who lies in whom."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._by_id = {span.span_id: span for span in spans}
        self._anywhere: dict[Callable[[Span], str | None], str | None] = {}
        self._asked_of: dict[str, list[Any]] = {}

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
        return any(is_tool(outer) and is_same(outer, span) for outer in self.ancestors(span))

    def known(self, span: Span, of: Callable[[Span], str | None]) -> str | None:
        """What a span, the spans around it, or any other span of the trace tell."""
        for one in (span, *self.ancestors(span)):
            if value := of(one):
                return value
        if of not in self._anywhere:  # once for a trace: it may have many thousand spans
            self._anywhere[of] = next((value for one in self.spans if (value := of(one))), None)
        return self._anywhere[of]

    def call_id(self, span: Span) -> str:
        """The model's id of a call, else the span's."""
        if given := text_or_none(span.attributes.get("gen_ai.tool.call.id")):
            return given
        message = message_of(output_of(span))
        if message is not None and (given := text_or_none(message.get("tool_call_id"))):
            return given
        asked = self._asked(span)
        return text_or_none(asked.get("id")) or span.span_id if asked else span.span_id

    def _asked(self, span: Span) -> Mapping[str, Any] | None:
        """The call as a LangGraph tool node was given it: the one of its name, where it is the only one."""
        for outer in self.ancestors(span):
            same = [one for one in self._inputs(outer) if isinstance(one, dict) and one.get("name") == tool_of(span)]
            if len(same) == 1 and isinstance(same[0].get("args"), dict):
                return same[0]
        return None

    def _inputs(self, span: Span) -> list[Any]:
        """The list that a span was given, if it was given one; read once."""
        if span.span_id not in self._asked_of:
            given = parsed(span.attributes.get("input.value") or span.attributes.get("traceloop.entity.input"))
            if isinstance(given, dict):
                given = given.get("inputs")
            self._asked_of[span.span_id] = given if isinstance(given, list) else []
        return self._asked_of[span.span_id]

    def session(self, span: Span) -> str:
        """The conversation of a span; the trace, where nothing tells one."""
        return self.known(span, session_of) or span.trace_id

    def messages(self) -> list[tuple[str, _Message]]:
        """What models asked for and in which conversation, in time order."""
        found: dict[tuple[str, ...], tuple[str, _Message]] = {}
        for span in self.spans:
            ids = tuple(dict.fromkeys(asked_ids(span)))
            # spans around the model's own repeat its message, without its tokens
            if ids and (ids not in found or found[ids][1].input_tokens is None):
                found[ids] = self.session(span), _Message(span.started_ns, ids, *tokens_of(span))
        return list(found.values())

    def placed(self, span: Span, asked: Asked) -> _Placed:
        """A call, and the message that asked for it."""
        session, call_id = self.session(span), self.call_id(span)
        message = asked.message(session, call_id)
        if message is None:
            return _Placed(span, session, call_id, None, 0, (span.started_ns, 0, span.started_ns))
        place = message.ids.index(call_id)
        return _Placed(span, session, call_id, message, place, (message.started_ns, place, span.started_ns))

    def call(self, one: _Placed, turn: int, tokens: tuple[int | None, int | None]) -> SpanCall:
        """The call that a span is."""
        span = one.span
        status, error_type = outcome_of(span)
        return SpanCall(
            trace_id=span.trace_id,
            span_id=span.span_id,
            call_id=one.call_id,
            turn=turn,
            place=one.place,
            tool=tool_of(span),
            agent=self.known(span, agent_of),
            user=self.known(span, user_of),
            session=self.known(span, session_of),
            arguments=self._arguments(span),
            result=result_of(span),
            status=status,
            error_type=error_type,
            started_at=_time(span.started_ns),
            ended_at=_time(max(span.started_ns, span.ended_ns)),
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            service=span.service,
        )

    def _arguments(self, span: Span) -> dict[str, Any]:
        given = input_of(span)
        if isinstance(given, dict):
            return given
        asked = self._asked(span)
        if asked is not None:
            return dict(asked["args"])
        return {} if given is None else {"input": given}


def _once(found: Sequence[Span], trace: _Trace) -> list[Span]:
    """Of spans that two instrumentations made of one call, the one that knows more; a retry is no such pair."""
    same: dict[tuple[str, str], list[Span]] = {}
    for span in found:
        kept = same.setdefault((tool_of(span), trace.call_id(span)), [])
        twin = next((one for one in kept if _twins(one, span)), None)
        if twin is None:
            kept.append(span)
        elif len(span.attributes) > len(twin.attributes):
            kept[kept.index(twin)] = span
    return [span for kept in same.values() for span in kept]


def _twins(one: Span, other: Span) -> bool:
    return one.scope != other.scope and one.started_ns <= other.ended_ns and other.started_ns <= one.ended_ns


def _time(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
