"""Extracts tool calls from spans, whichever instrumentation made them; imports no OpenTelemetry package.

Emitters of GenAI spans differ in the names of attributes, in where arguments and results are (attributes, events, JSON
in JSON), and in which span has the agent, the session and the user. `calls` takes the spans of one trace and returns
the tool calls among them, each once:

- What a span does not have is looked up in its ancestors, then in the other spans of its trace.
- Several nested spans can describe one call (an agent's, its MCP client's, the server's): the outermost one counts. Of
  two that different instrumentations made of one call, one counts.
- A call id that a later message requests again, or that is used for another tool or other arguments, is a new call; a
  span that repeats id, tool and arguments is a retry.
- A span without an id of its call has that of the model's last request of the same tool and arguments.
- A span around the model's own repeats its messages, with the tokens of all of them: the inner one counts.
- Tokens of a model's message are divided over the calls it requested, also when a call is made in a later trace, after
  a person approved it. Of a call that is retried the first attempt has them.
- A call that waits for a person's approval has a span that ended: it is skipped. Where that span only lacks a result,
  as in OpenAI Agents, it waits unless its agent goes on after it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from agentmodel._values.counts import Usage
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.conventions import (
    OWN_SCOPE,
    Span,
    agent_of,
    category_of,
    evaluation_of,
    input_of,
    is_evaluation,
    is_pending,
    is_same,
    is_tool,
    may_wait,
    outcome_of,
    own_call_id,
    parsed,
    request_of,
    result_of,
    revision_of,
    session_of,
    tokens_of,
    tool_of,
    user_of,
    workflow_agent_of,
)  # fmt: skip
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.requested import SpanRequest, requested_messages

__all__ = ["RequestedCalls", "SpanCall", "SpanEvaluation", "calls", "evaluations"]

T = TypeVar("T")

_LOOK_BACK = 100
"""Messages of a model among which the request of a call is looked for, so that a long trace is read in good time."""

_NO_SPAN = Span(trace_id="", span_id="", parent_id=None, name="")  # has attributes of a resource, to look a value up


@dataclass(frozen=True, slots=True)
class SpanCall:
    """One tool call of a trace.

    Attributes:
        trace_id: The trace it was found in.
        span_id: The span.
        call_id: The model's id of the call, else the span's id.
        turn: Number of the model's message that requested it, from 1; calls of one turn were requested together.
        position: Its position among the calls of that message, from 0.
        tool: The tool's name.
        agent: The agent's name; None if no span has it.
        user: The user it works for, likewise.
        session: Its conversation, likewise.
        arguments: As an object; a bare value has the name ``input``.
        result: What the tool returned.
        status: How it ended.
        error_type: The error's type, where it failed.
        started_at: When it began.
        ended_at: When it ended.
        input_tokens: Its share of the tokens that the message took; None if they were not counted.
        output_tokens: Likewise.
        cached_tokens: Likewise; see `agentmodel._values.counts.Usage`.
        cache_write_tokens: Likewise.
        reasoning_tokens: Likewise.
        model_name: The model that wrote the message, likewise.
        request_input_tokens: Tokens that it read for all calls of the message, where there are several.
        service: The resource's ``service.name``.
        revision: The revision of the agent; None if no span has it.
        request: What the user asked for in its conversation, likewise.
        category: Of which kind that is, likewise.
    """

    trace_id: str
    span_id: str
    call_id: str
    turn: int
    position: int
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
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    model_name: str | None = None
    request_input_tokens: int | None = None
    service: str | None = None
    revision: str | None = None
    request: str | None = None
    category: str | None = None


def calls(spans: Iterable[Span], requested: RequestedCalls | None = None) -> list[SpanCall]:
    """Return the tool calls of one trace, in the order in which the model requested them; see the module.

    Args:
        spans: The spans of the trace.
        requested: What models requested in earlier traces; what they request in this one is added.
    """
    others = (span for span in spans if span.scope != OWN_SCOPE)  # our own spans describe what is recorded already
    trace = _Trace(sorted(others, key=lambda span: (span.started_ns, span.span_id)))
    requested = RequestedCalls() if requested is None else requested
    for session, message in trace.messages():
        requested.add(session, message)
    tools = [span for span in trace.spans if is_tool(span) and not trace.is_inner(span) and not trace.waits(span)]
    trace.match(tools)
    own_ids = trace.own_ids(_once(tools, trace))
    ordered = sorted((trace.ordered(span, own, requested) for span, own in own_ids), key=lambda one: one.order)
    turns: dict[object, int] = {}
    result = []
    for one in ordered:  # a message's calls are one turn; a call that no message requested is a turn by itself
        turn = turns.setdefault(one.message or one.span.span_id, len(turns) + 1)
        result.append(trace.call(one, turn, requested.tokens(one.session, one.request_id)))
    return result


@dataclass(frozen=True, slots=True)
class SpanEvaluation:
    """What an event ``gen_ai.evaluation.result`` of a trace says of a run.

    Attributes:
        trace_id: The trace.
        agent: The agent whose run it is about; None for the whole session.
        user: The user it worked for, where a span has it.
        session: Its conversation, likewise.
        said: What it says, as `agentmodel.traces.TraceOutcome` has it.
        service: The resource's ``service.name``.
    """

    trace_id: str
    agent: str | None
    user: str | None
    session: str | None
    said: dict[str, Any]
    service: str | None


def evaluations(spans: Iterable[Span]) -> Iterator[SpanEvaluation | ValidationError]:
    """Yield what the events of one trace say of its runs, or what is wrong with an event.

    An event in the span of an agent (``invoke_agent``) with another around it is about that agent's run; every other
    one is about the whole session.
    """
    trace = _Trace([span for span in spans if span.scope != OWN_SCOPE])
    for span in trace.spans:
        for event in filter(is_evaluation, span.events):
            try:
                said = evaluation_of(event)
            except ValidationError as error:
                yield error
                continue
            at = _time(event.at_ns or span.ended_ns)
            inner = any(_is_agent(outer) for outer in trace.ancestors(span))
            yield SpanEvaluation(
                trace_id=span.trace_id,
                agent=agent_of(span) if inner and _is_agent(span) else None,
                user=trace.lookup(span, user_of),
                session=trace.lookup(span, session_of),
                said=said | {"at": at},
                service=span.service,
            )


def _is_agent(span: Span) -> bool:
    return span.attributes.get("gen_ai.operation.name") == "invoke_agent"


def _runs_agent(span: Span) -> bool:
    kinds = (span.attributes.get("openinference.span.kind"), span.attributes.get("traceloop.span.kind"))
    return _is_agent(span) or "AGENT" in kinds or "agent" in kinds


class RequestedCalls:
    """The calls that models requested in conversations, over several traces, and which of them got their tokens.

    Args:
        max_calls: Calls that are remembered; of more, the oldest is forgotten, and its tokens with it.
    """

    def __init__(self, max_calls: int = 10_000) -> None:
        self._max_calls = max_calls
        self._messages: OrderedDict[tuple[str, str], _Message] = OrderedDict()
        self._without_tokens: set[tuple[str, str]] = set()

    def add(self, session: str, message: _Message) -> None:
        """Remember a message; one that a later trace repeats, without its tokens, changes nothing."""
        for call_id in message.ids:
            if message.usage.input_tokens is None and (session, call_id) in self._messages:
                continue
            self._messages[session, call_id] = message
            self._messages.move_to_end((session, call_id))
            self._without_tokens.add((session, call_id))
        while len(self._messages) > self._max_calls:
            self._without_tokens.discard(self._messages.popitem(last=False)[0])

    def message(self, session: str, call_id: str) -> _Message | None:
        """Return the message that requested a call."""
        return self._messages.get((session, call_id))

    def tokens(self, session: str, call_id: str) -> Usage:
        """Return a call's share of its message's tokens, once: they were spent on its first attempt."""
        if (session, call_id) not in self._without_tokens:
            return Usage()
        self._without_tokens.remove((session, call_id))
        message = self._messages[session, call_id]
        return message.usage.shares(len(message.ids))[message.ids.index(call_id)]


@dataclass(frozen=True, slots=True)
class _Message:
    """A model's message that requests calls; ``number`` is its position among those of its span."""

    started_ns: int
    number: int
    ids: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class _OrderedCall:
    """A call's span, and its position among the calls of its trace."""

    span: Span
    session: str
    call_id: str
    request_id: str
    message: _Message | None
    position: int
    order: tuple[int, int, int, int]


class _Trace:
    """The spans of one trace, and their nesting."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._by_id = {span.span_id: span for span in spans}
        self._steps = [(span, name) for span in spans if (name := workflow_agent_of(span)) is not None]
        self._values: dict[Callable[[Span], str | None], str | None] = {}
        self._inputs_of: dict[str, list[Any]] = {}
        self._requests_of: dict[str, str] | None = None
        self._requests: dict[str, list[list[Span]]] = {}  # by call id: each request, with the spans that tell of it
        self._asked: dict[str, list[tuple[Span, list[SpanRequest]]]] = {}  # by tool: messages that request it
        self._agents: dict[str, str | None] = {}  # by span
        self._matched: dict[str, str] = {}  # by span: the id of the request, of calls whose spans have none

    def ancestors(self, span: Span) -> Iterator[Span]:
        """Yield the spans around a span, the innermost first."""
        seen = {span.span_id}
        parent = self._by_id.get(span.parent_id or "")
        while parent is not None and parent.span_id not in seen:
            yield parent
            seen.add(parent.span_id)
            parent = self._by_id.get(parent.parent_id or "")

    def is_inner(self, span: Span) -> bool:
        """Whether a span describes the same call as a span around it."""
        return any(is_tool(outer) and is_same(outer, span) for outer in self.ancestors(span))

    def waits(self, span: Span) -> bool:
        """Whether a call waits for a person: its span says so, or has no result, and its agent did not go on."""
        if is_pending(span) or not may_wait(span):
            return is_pending(span)
        agent = next((outer for outer in self.ancestors(span) if _runs_agent(outer)), None)
        later = (one for one in self.spans if one.started_ns >= span.ended_ns and not is_tool(one))
        return not any(agent is not None and self._is_step(one, agent) for one in later)

    def _is_step(self, span: Span, agent: Span) -> bool:
        """Whether a span is of an agent's own run, not of what one of its tools does."""
        for outer in self.ancestors(span):
            if is_tool(outer) or outer is agent:
                return outer is agent
        return False

    def lookup(self, span: Span, of: Callable[[Span], str | None]) -> str | None:
        """Return a value of a span, of the spans around it, of any other span of the trace, or of its resource."""
        for one in (span, *self.ancestors(span)):
            if value := of(one):
                return value
        if of not in self._values:  # once for a trace: it may have many thousand spans
            self._values[of] = next((value for one in self.spans if (value := of(one))), None)
        return self._values[of] or of(replace(_NO_SPAN, attributes=span.resource))

    def _around(self, span: Span) -> Iterator[Span]:
        """Yield a span, those around it, and what its resource has."""
        yield span
        yield from self.ancestors(span)
        yield replace(_NO_SPAN, attributes=span.resource)

    def agent(self, span: Span) -> str | None:
        """Return the agent that made a call: that of its span or of one around it, else of the workflow's last step."""
        if span.span_id not in self._agents:
            self._agents[span.span_id] = self._agent(span)
        return self._agents[span.span_id]

    def _agent(self, span: Span) -> str | None:
        around = (agent_of(one) for one in (span, *self.ancestors(span)))
        if found := next(filter(None, around), None):
            return found
        outer = {one.span_id for one in self.ancestors(span)}
        steps = reversed(self._steps)
        before = (name for one, name in steps if one.started_ns <= span.started_ns and one.span_id not in outer)
        return next(before, None) or self.lookup(span, agent_of)

    def call_id(self, span: Span) -> str:
        """Return the model's id of a call; the span's id if the model gave none."""
        return self._own_id(span) or self._matched.get(span.span_id) or span.span_id

    def _own_id(self, span: Span) -> str | None:
        if given := own_call_id(span):
            return given
        requested = self._requested(span)
        return id_or_none(requested.get("id")) if requested else None

    def match(self, tools: Sequence[Span]) -> None:
        """Find the requests of calls whose spans have no id: the last one of the same tool and arguments.

        A request is of one call, or of one for each instrumentation; of a call that is tried again, of each attempt.
        """
        taken: dict[tuple[str, str], Span] = {}  # by scope and id
        without = []
        for span in tools:
            given = self._own_id(span)
            if given is None:
                without.append(span)
            else:
                taken[span.scope, given] = span
        for span in without:
            tool, arguments = tool_of(span), self._arguments(span)
            before = _before(span, self._asked.get(tool, ()), lambda one: one[0])
            for _, asked in reversed(before[-_LOOK_BACK:]):
                same_tool = [one for one in asked if one.tool == tool]
                if (found := self._match(span, arguments, same_tool, taken)) is not None:
                    self._matched[span.span_id] = found
                    taken[span.scope, found] = span
                    break

    def _match(
        self, span: Span, arguments: Any, same_tool: list[SpanRequest], taken: Mapping[tuple[str, str], Span]
    ) -> str | None:
        same = [one for one in same_tool if one.arguments is None or one.arguments == arguments]
        free = [one for one in same if (span.scope, one.call_id) not in taken]
        if not same and len(same_tool) == 1 and (span.scope, same_tool[0].call_id) not in taken:
            free = same_tool  # a person changed its arguments, or its span does not tell them
        if free:
            return free[0].call_id
        ended = (one for one in same if taken[span.scope, one.call_id].ended_ns <= span.started_ns)
        return next((one.call_id for one in ended), None)  # it is tried again

    def _requested(self, span: Span) -> Mapping[str, Any] | None:
        """Return the call as a LangGraph tool node was given it, if it is the only one of its name."""
        for outer in self.ancestors(span):
            same = [one for one in self._inputs(outer) if isinstance(one, dict) and one.get("name") == tool_of(span)]
            if len(same) == 1 and isinstance(same[0].get("args"), dict):
                return same[0]
        return None

    def _inputs(self, span: Span) -> list[Any]:
        """Return the list that a span has as its input, if that is a list; parsed once."""
        if span.span_id not in self._inputs_of:
            given = parsed(span.attributes.get("input.value") or span.attributes.get("traceloop.entity.input"))
            if isinstance(given, dict):
                given = given.get("inputs")
            self._inputs_of[span.span_id] = given if isinstance(given, list) else []
        return self._inputs_of[span.span_id]

    def session(self, span: Span) -> str:
        """Return the conversation of a span; its trace id if no span has a conversation."""
        return self.lookup(span, session_of) or span.trace_id

    def request(self, session: str) -> str | None:
        """Return what the user asked for in a conversation: the earliest that a span of it tells."""
        if self._requests_of is None:
            self._requests_of = {}
            for of_resource in (False, True):
                for span in self.spans:
                    own = self.session(span)
                    told = replace(_NO_SPAN, attributes=span.resource) if of_resource else span
                    if own not in self._requests_of and (asked := request_of(told)):
                        self._requests_of[own] = asked
        return self._requests_of.get(session)

    def messages(self) -> list[tuple[str, _Message]]:
        """Return what models requested, and in which conversation, in time order."""
        told = [(span, list(requested_messages(span))) for span in self.spans]
        inner = {
            (outer.span_id, one.call_id)
            for span, asked in told
            for outer in (self.ancestors(span) if asked else ())
            for calls in asked
            for one in calls
        }
        messages: dict[tuple[str, ...], tuple[str, _Message]] = {}
        for span, asked in told:
            own = [[one for one in calls if (span.span_id, one.call_id) not in inner] for calls in asked]
            own = [calls for calls in own if calls]
            for number, calls in enumerate(own):
                for tool in {one.tool for one in calls if one.tool is not None}:
                    self._asked.setdefault(tool, []).append((span, calls))
                ids = tuple(self._request_id(given, span) for given in dict.fromkeys(one.call_id for one in calls))
                # the tokens of a span with several messages are those of all, and of answers that request no call
                tokens = tokens_of(span) if len(asked) == 1 else Usage()
                # two instrumentations tell one message, at times one of them without its tokens
                if ids not in messages or messages[ids][1].usage.input_tokens is None:
                    messages[ids] = self.session(span), _Message(span.started_ns, number, ids, tokens)
        return list(messages.values())

    def _request_id(self, call_id: str, span: Span) -> str:
        """Note that a model's span requests a call; return the id of the request, which a later message has anew."""
        requests = self._requests.setdefault(call_id, [])
        for number in range(len(requests), max(0, len(requests) - _LOOK_BACK), -1):
            known = requests[number - 1]
            # agents that run at once may number their calls alike
            if any(_overlap(span, one) for one in known) and self.agent(known[0]) == self.agent(span):
                known.append(span)
                return _numbered(call_id, number)
        requests.append([span])
        return _numbered(call_id, len(requests))

    def _answered(self, call_id: str, span: Span) -> int:
        """Return which request of its id a call answers: the last one before it, of its own agent if that has one."""
        before = _before(span, self._requests.get(call_id, ()), lambda known: known[0])
        for number in range(len(before), max(0, len(before) - _LOOK_BACK), -1):
            if self.agent(before[number - 1][0]) == self.agent(span):
                return number
        return len(before)

    def own_ids(self, tools: Sequence[Span]) -> list[tuple[Span, tuple[str, str]]]:
        """Return each tool span with the id of its call and the id of its request; a retry has both of the first."""
        known: dict[str, list[tuple[int, str, str | None, str]]] = {}
        result = []
        for span in sorted(tools, key=lambda one: (one.started_ns, one.span_id)):
            call_id = self.call_id(span)
            request = self._answered(call_id, span)
            arguments = json.dumps(self._arguments(span), sort_keys=True, default=str)
            what = request, tool_of(span), self.agent(span), arguments
            same_id = known.setdefault(call_id, [])
            if what not in same_id:
                same_id.append(what)
            own = _numbered(call_id, same_id.index(what) + 1)
            result.append((span, (own, _numbered(call_id, request))))
        return result

    def ordered(self, span: Span, ids: tuple[str, str], requested: RequestedCalls) -> _OrderedCall:
        """Return a call with the message that requested it."""
        session, (call_id, request_id) = self.session(span), ids
        message = requested.message(session, request_id)
        if message is None:
            order = span.started_ns, 0, 0, span.started_ns
            return _OrderedCall(span, session, call_id, request_id, None, 0, order)
        position = message.ids.index(request_id)
        order = message.started_ns, message.number, position, span.started_ns
        return _OrderedCall(span, session, call_id, request_id, message, position, order)

    def call(self, one: _OrderedCall, turn: int, usage: Usage) -> SpanCall:
        """Return the call that a span describes."""
        span = one.span
        status, error_type = outcome_of(span)
        return SpanCall(
            trace_id=span.trace_id,
            span_id=span.span_id,
            call_id=one.call_id,
            turn=turn,
            position=one.position,
            tool=tool_of(span),
            agent=self.agent(span),
            user=self.lookup(span, user_of),
            session=self.lookup(span, session_of),
            arguments=self._arguments(span),
            result=result_of(span),
            status=status,
            error_type=error_type,
            started_at=_time(span.started_ns),
            ended_at=_time(max(span.started_ns, span.ended_ns)),
            **usage._asdict(),
            service=span.service,
            revision=next(filter(None, map(revision_of, self._around(span))), None),
            request=self.request(one.session),
            category=self.lookup(span, category_of),
        )

    def _arguments(self, span: Span) -> dict[str, Any]:
        given = input_of(span)
        if isinstance(given, dict):
            return given
        requested = self._requested(span)
        if requested is not None:
            return dict(requested["args"])
        return {} if given is None else {"input": given}


def _once(spans: Sequence[Span], trace: _Trace) -> list[Span]:
    """Keep one of two spans that two instrumentations made of one call: the one with more attributes.

    A retry is not such a pair: both its spans are of one instrumentation.
    """
    same: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        kept = same.setdefault((tool_of(span), trace.call_id(span)), [])
        twin = next((one for one in kept if _twins(one, span)), None)
        if twin is None:
            kept.append(span)
        elif len(span.attributes) > len(twin.attributes):
            kept[kept.index(twin)] = span
    return [span for kept in same.values() for span in kept]


def _twins(one: Span, other: Span) -> bool:
    return one.scope != other.scope and _overlap(one, other)


def _before(span: Span, given: Sequence[T], of: Callable[[T], Span]) -> Sequence[T]:
    """Return those, in time order, that began before a span."""
    return given[: bisect_right(given, span.started_ns, key=lambda one: of(one).started_ns)]


def _overlap(one: Span, other: Span) -> bool:
    return one.started_ns <= other.ended_ns and other.started_ns <= one.ended_ns


def _numbered(call_id: str, number: int) -> str:
    """Return an id that differs from the one that was sent, for each call but the first."""
    return call_id if number <= 1 else f"{call_id}~{number}"


def _time(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
