"""A span processor that records the tool calls of any program whose spans follow the GenAI conventions.

    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model))

The docs list the emitters and dialects that are read; `agentmodel.integrations.otlp` reads the same from files. A
call's agent, session and user may be named in spans that end after it. So the spans of a trace are kept until its local
root has ended, within a bound, and a `BackgroundWorker` records them: the program never waits.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import Span as LiveSpan
from opentelemetry.trace import StatusCode

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._runtime.process import renew_in_child
from agentmodel.access.trace_import import ANONYMOUS, TraceImport
from agentmodel.client import AgentModel
from agentmodel.integrations._tracking.conventions import CATEGORY, REQUEST, Event, Span, encodable, request_of
from agentmodel.integrations._tracking.recorded import ReportedCalls
from agentmodel.integrations._tracking.spans import RequestedCalls, SpanCall, SpanEvaluation, calls, evaluations
from agentmodel.integrations.otlp import DEFAULT_DOMAIN, session_records, trace_outcome
from agentmodel.keys import lenient_id_of
from agentmodel.traces import TraceOutcome, TraceRecord

__all__ = ["AgentModelSpanProcessor", "span_of"]

_log = logger(__name__)

BAGGAGE = ("user.id", "session.id", "gen_ai.conversation.id", REQUEST, CATEGORY)
"""Entries of the baggage that become attributes of every span, so that each call has its user, session and request."""

TOLD = ("gen_ai.agent.name", "user.id", "session.id", REQUEST, CATEGORY)
"""Attributes that the arguments of the processor stand for, where neither a span nor the resource has them."""

_LONG = ("gen_ai.input.messages", "gen_ai.system_instructions", "llm.input_messages.", "pydantic_ai.all_messages")
"""Attributes that repeat the whole conversation at each of the model's answers, and describe no call."""


@dataclass
class _OpenTrace:
    """A trace that has not ended: its spans that have ended, and the number of its local roots that have not."""

    spans: list[Span] = field(default_factory=list)
    roots: int = 0
    tells_request: bool = False


class AgentModelSpanProcessor(SpanProcessor):
    """Records the tool calls among a program's spans.

    At the end of the process what was kept is still recorded, within 10 seconds. A forked child starts with nothing
    kept, and records the spans that it makes itself.

    Args:
        model: The installation. Shut the processor down (``provider.shutdown()``) before you close the model; closing
            the model shuts it down too.
        domain: Name of the domain of all agents; the resource's ``service.name`` when not given.
        agent: Name of the agent of calls whose spans, baggage and resource tell none; ``service.name`` when not given.
        user: Name or ``USR…`` id of the user they work for, likewise; the anonymous user when not given.
        session: Name of the conversation, likewise; each trace is a session by itself when not given.
        request: What the user asked for, likewise.
        category: Of which kind that is, likewise.
        max_traces: Traces that have not ended and are kept at once; of more, the oldest is recorded as far as it is
            known.
        max_spans: Spans of such traces that are kept at once, likewise. Also the spans of ended traces that may wait to
            be recorded: of more, the newest trace is dropped, so that memory stays bounded while the table is away.

    Attributes:
        errors: Traces that could not be recorded; each is logged as ``spans.not_recorded``.
        early: How often the spans of a trace were recorded before its root had ended, because of the bounds.
    """

    def __init__(
        self,
        model: AgentModel,
        *,
        domain: str | None = None,
        agent: str | None = None,
        user: str | None = None,
        session: str | None = None,
        request: str | None = None,
        category: str | None = None,
        max_traces: int = 1000,
        max_spans: int = 50_000,
    ) -> None:
        self._model = model
        self._reported = ReportedCalls.of(model)
        self._domain = domain
        told = dict(zip(TOLD, (agent, user, session, request, category), strict=True))
        self._told = {name: value for name, value in told.items() if value is not None}
        self._max_traces, self._max_spans = max_traces, max_spans
        self.errors = 0
        self.early = 0
        self._worker = BackgroundWorker(
            "spans", max_waiting=max_spans, when_full="drop", before_exit=self._hand_over_all
        )
        self.renew()
        renew_in_child(self)
        model.on_close.append(self.shutdown)

    def renew(self) -> None:
        """Begin anew in a forked child: spans that are kept are recorded by the parent."""
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _OpenTrace] = OrderedDict()
        self._kept = 0  # spans of open traces
        self._import = TraceImport(self._model.repository, recorder=self._model.recorder, live=True)
        self._requested = RequestedCalls()
        self._steps: OrderedDict[tuple[str | None, str], int] = OrderedDict()

    @property
    def dropped(self) -> int:
        """Return how many traces were not recorded because too much waited; logged once a minute, with their number."""
        return self._worker.dropped

    @property
    def held(self) -> int:
        """Return how many spans are kept now: at most twice ``max_spans``, or one trace that is longer."""
        with self._lock:
            return self._kept + self._worker.waiting

    # What OpenTelemetry calls

    def on_start(self, span: LiveSpan, parent_context: Context | None = None) -> None:
        """Copy user, conversation, request and category from the baggage."""
        for name in BAGGAGE:
            value = baggage.get_baggage(name, parent_context)
            if isinstance(value, str) and value:
                span.set_attribute(name, value)
        context = span.get_span_context()
        if context is not None and _is_local_root(span):
            with self._lock:
                self._trace(f"{context.trace_id:032x}").roots += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span; when it is the last local root of its trace, have the trace recorded."""
        try:
            kept = span_of(span)
            if self._told:
                kept = replace(kept, resource=self._told | dict(kept.resource))
            told = None if self._tells_request(kept.trace_id) else request_of(_whole(span, kept))
        except Exception:  # noqa: BLE001  # a span that cannot be read must not reach the program: it is counted
            self.errors += 1
            _log.exception("spans.not_read: %s", span.name)
            return
        with self._lock:
            trace = self._trace(kept.trace_id)
            if told is not None:  # the messages that it stands in are not kept
                trace.tells_request = True
                kept = replace(kept, attributes={**kept.attributes, REQUEST: told})
            trace.spans.append(kept)
            self._kept += 1
            trace.roots -= _is_local_root(span)
            # A server and its caller in one process are two roots of one trace. Some emitters write the root before or
            # after all other spans, so a span without an open root waits.
            if _is_local_root(span) and trace.roots <= 0:
                self._hand_over(self._open.pop(kept.trace_id))
            while self._kept > self._max_spans:
                oldest = next(name for name, one in self._open.items() if one.spans)
                self.early += 1
                self._hand_over(self._open[oldest])
                self._open.move_to_end(oldest)

    def _tells_request(self, trace_id: str) -> bool:
        """Return whether a span of the trace has said what the user asked for, so that others need not be read."""
        with self._lock:
            return trace_id in self._open and self._open[trace_id].tells_request

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Record every trace of which no local root is open; whether that was done in time."""
        with self._lock:
            for trace_id in [name for name, trace in self._open.items() if trace.roots <= 0]:
                self._hand_over(self._open.pop(trace_id))
        return self._worker.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Record what is kept, ended or not, and stop; what is not recorded after 30 seconds is dropped."""
        self._hand_over_all()
        self._worker.close()
        if self.shutdown in self._model.on_close:
            self._model.on_close.remove(self.shutdown)

    # Traces that have not ended

    def _trace(self, trace_id: str) -> _OpenTrace:
        """Return a trace that has not ended; a new one may push out the oldest."""
        if trace_id not in self._open:
            self._open[trace_id] = _OpenTrace()
            if len(self._open) > self._max_traces:
                _, oldest = self._open.popitem(last=False)
                self.early += bool(oldest.spans)
                self._hand_over(oldest)
        return self._open[trace_id]

    def _hand_over_all(self) -> None:
        with self._lock:
            for trace in self._open.values():
                self._hand_over(trace)
            self._open.clear()

    def _hand_over(self, trace: _OpenTrace) -> None:
        """Have the worker record the spans of a trace."""
        spans, trace.spans = trace.spans, []
        self._kept -= len(spans)
        if spans:
            self._worker.put(self._record_all, (spans,), size=len(spans))

    # The worker's thread

    def _record_all(self, traces: Sequence[Sequence[Span]]) -> None:
        for spans in traces:
            try:
                self._record(spans)
            except Exception:  # noqa: BLE001  # it must not reach the program or other traces: it is counted and logged
                self.errors += 1
                _log.exception("spans.not_recorded: trace %s with %d spans", spans[0].trace_id, len(spans))

    def _record(self, spans: Sequence[Span]) -> None:
        sessions: dict[tuple[str | None, str], list[TraceRecord]] = {}
        by_session: dict[tuple[str | None, str], list[SpanCall]] = {}
        for call in calls(spans, self._requested):
            call_id = None if call.call_id == call.span_id else call.call_id
            if self._reported.has(call_id, call.tool, call.started_at, call.ended_at):
                continue  # a recorder of its framework reported it, and knows more of it
            if not self._reported.take(call.trace_id, call.span_id, self):
                continue
            by_session.setdefault((call.user, call.session or call.trace_id), []).append(call)
        for key, made in by_session.items():
            records = list(session_records(key[1], made, self._domain, after=self._step(key, made[0].service)))
            self._steps[key] = records[-1].step
            self._steps.move_to_end(key)
            sessions[key] = records
        while len(self._steps) > self._max_traces:
            self._steps.popitem(last=False)
        sources: list[Callable[[], Iterator[TraceRecord | TraceOutcome]]]
        sources = [partial(iter, records) for records in sessions.values()]
        said = [trace_outcome(one, self._domain) for one in self._evaluations(spans)]
        if sources or said:
            done = self._import.run_sources([*sources, partial(iter, said)])
            for name in done.unknown:
                self.errors += 1
                _log.warning("spans.not_recorded: an evaluation of session %s, which the history does not have", name)

    def _evaluations(self, spans: Sequence[Span]) -> Iterator[SpanEvaluation]:
        """Yield what a trace's events say of its runs; one that cannot be read is counted and logged."""
        for one in evaluations(spans):
            if isinstance(one, SpanEvaluation):
                yield one
            else:
                self.errors += 1
                _log.warning("spans.not_recorded: an evaluation of trace %s: %s", spans[0].trace_id, one)

    def _step(self, key: tuple[str | None, str], service: str | None) -> int:
        """Return the last step of a conversation; of one that is not cached, what the history has."""
        if key in self._steps:
            return self._steps[key]
        user, name = key
        user_id = ANONYMOUS if user is None else lenient_id_of("USR", user)
        stored = self._import.stored_session(user_id, self._domain or service or DEFAULT_DOMAIN, name)
        if stored is None:
            return 0
        history, _ = self._model.recorder.known_history(user_id, stored.session_id)
        return max((execution.call_number or 0 for execution in history.executions), default=0)


def _is_local_root(span: ReadableSpan) -> bool:
    """Whether the span's parent, if it has one, is in another process."""
    return span.parent is None or span.parent.is_remote


def _whole(span: ReadableSpan, kept: Span) -> Span:
    """Return a span with the attributes that are not kept."""
    return replace(kept, attributes=_encodable(span.attributes or {}))


def _encodable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {encodable(name): encodable(value) for name, value in attributes.items()}


def span_of(span: ReadableSpan) -> Span:
    """Return what is kept of an ended span.

    Raises:
        ValueError: The span has no context.
    """
    context = span.get_span_context()
    if context is None:
        raise ValueError("the span has no context")
    service = encodable(span.resource.attributes.get("service.name"))
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        name=encodable(span.name),
        scope="" if span.instrumentation_scope is None else span.instrumentation_scope.name,
        started_ns=span.start_time or time.time_ns(),
        ended_ns=span.end_time or time.time_ns(),
        failed=span.status.status_code is StatusCode.ERROR,
        description=span.status.description or "",
        attributes=_encodable(
            {name: value for name, value in (span.attributes or {}).items() if not name.startswith(_LONG)}
        ),
        events=[Event(event.name, _encodable(event.attributes or {}), event.timestamp or 0) for event in span.events],
        service=service if isinstance(service, str) and not service.startswith("unknown_service") else None,
        resource=_encodable(span.resource.attributes),
    )
