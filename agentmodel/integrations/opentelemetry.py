"""A span processor that records the tool calls of any program whose spans follow the GenAI conventions.

    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model))

Which emitters and dialects are read stands in the docs; `agentmodel.integrations.otlp` reads the same from files. A
call's agent, session and user may stand in spans that end after it, so the spans of a trace are kept until its local
root has ended, within a bound, and go into history from a thread of the processor's own: the program never waits.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from agentmodel.access.importing import ANONYMOUS, TraceImport
from agentmodel.client import AgentModel
from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._dialects import Event, Span
from agentmodel.integrations._spans import Asked, calls
from agentmodel.integrations.otlp import DEFAULT_DOMAIN, session_records
from agentmodel.keys import stable_id
from agentmodel.traces import TraceRecord

try:
    from opentelemetry import baggage
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace import Span as LiveSpan
    from opentelemetry.trace import StatusCode
except ModuleNotFoundError as error:
    raise MissingExtraError("opentelemetry", "the span processor", error.name) from error

__all__ = ["AgentModelSpanProcessor", "span_of"]

_log = logging.getLogger(__name__)

BAGGAGE = ("user.id", "session.id", "gen_ai.conversation.id")
"""Entries of the baggage that become attributes of every span, so that calls know whom they work for."""

_LONG = ("gen_ai.input.messages", "gen_ai.system_instructions", "llm.input_messages.", "pydantic_ai.all_messages")
"""Attributes that repeat the whole conversation at each of the model's answers: they tell no call."""


@dataclass
class _Trace:
    """A trace that has not ended: its spans that have, and how many of its local roots have not."""

    spans: list[Span] = field(default_factory=list)
    roots: int = 0


class AgentModelSpanProcessor(SpanProcessor):
    """Records the tool calls among a program's spans.

    Args:
        model: The installation; close the processor (``provider.shutdown()``) before the model.
        domain: Name of the domain of all agents; the resource's ``service.name`` when not given.
        max_traces: Traces kept at once that have not ended; of more, the oldest is recorded with what is known of it.
        max_spans: Spans kept at once of such traces, likewise; and of traces that have ended and wait to be recorded:
            of more, a trace is dropped, so that a table that is away costs no memory without end.

    Attributes:
        errors: Traces that could not be recorded; each is logged.
        early: How often the spans of a trace were recorded before its root had ended, because of the bounds.
        dropped: Traces that were not recorded, because too much waited already; each is logged.
    """

    def __init__(
        self, model: AgentModel, *, domain: str | None = None, max_traces: int = 1000, max_spans: int = 50_000
    ) -> None:
        self._model = model
        self._domain = domain
        self._max_traces, self._max_spans = max_traces, max_spans
        self._open: OrderedDict[str, _Trace] = OrderedDict()
        self._kept = 0  # spans of open traces
        self._waiting = 0  # spans of ended ones
        self._lock = threading.Lock()
        self._ended: queue.SimpleQueue[list[Span] | threading.Event | None] = queue.SimpleQueue()
        self._import = TraceImport(model.table, model.repository, recorder=model.recorder)
        self._asked = Asked()
        self._steps: OrderedDict[tuple[str | None, str], int] = OrderedDict()
        self.errors = 0
        self.early = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="agentmodel-spans", daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """Spans that are kept now: at most twice ``max_spans``, or one trace that is longer."""
        with self._lock:
            return self._kept + self._waiting

    # What OpenTelemetry calls

    def on_start(self, span: LiveSpan, parent_context: Context | None = None) -> None:
        """Copy what the baggage tells of user and conversation."""
        for name in BAGGAGE:
            value = baggage.get_baggage(name, parent_context)
            if isinstance(value, str) and value:
                span.set_attribute(name, value)
        context = span.get_span_context()
        if context is not None and _is_local_root(span):
            with self._lock:
                self._trace(f"{context.trace_id:032x}").roots += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span; with the last local root of its trace, hand that over."""
        try:
            kept = span_of(span)
        except Exception:  # noqa: BLE001  # the program does not learn of a span that cannot be read
            self.errors += 1
            _log.exception("spans.not_read: %s", span.name)
            return
        with self._lock:
            trace = self._trace(kept.trace_id)
            trace.spans.append(kept)
            self._kept += 1
            trace.roots -= _is_local_root(span)
            # a server and its caller in one process are two roots of one trace; some emitters write the root first or
            # last of all, so what belongs to no root waits
            if _is_local_root(span) and trace.roots <= 0:
                self._hand_over(self._open.pop(kept.trace_id))
            while self._kept > self._max_spans:
                oldest = next(name for name, one in self._open.items() if one.spans)
                self.early += 1
                self._hand_over(self._open[oldest])
                self._open.move_to_end(oldest)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Record every trace of which no local root is open; whether that was done in time."""
        done = threading.Event()
        with self._lock:
            for trace_id in [name for name, trace in self._open.items() if trace.roots <= 0]:
                self._hand_over(self._open.pop(trace_id))
        self._ended.put(done)
        return done.wait(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Record what is kept, ended or not, and stop."""
        if not self._thread.is_alive():
            return
        with self._lock:
            for trace in self._open.values():
                self._hand_over(trace)
            self._open.clear()
        self._ended.put(None)
        self._thread.join()

    # The thread

    def _trace(self, trace_id: str) -> _Trace:
        """A trace that has not ended; for another one the oldest may have to go."""
        if trace_id not in self._open:
            self._open[trace_id] = _Trace()
            if len(self._open) > self._max_traces:
                _, oldest = self._open.popitem(last=False)
                self.early += bool(oldest.spans)
                self._hand_over(oldest)
        return self._open[trace_id]

    def _hand_over(self, trace: _Trace) -> None:
        """Let the thread record the spans of a trace."""
        spans, trace.spans = trace.spans, []
        self._kept -= len(spans)
        if not spans:
            return
        if self._waiting and self._waiting + len(spans) > self._max_spans:
            self.dropped += 1
            _log.error("spans.dropped: trace %s with %d spans: %d wait", spans[0].trace_id, len(spans), self._waiting)
            return
        self._waiting += len(spans)
        self._ended.put(spans)

    def _work(self) -> None:
        while (work := self._ended.get()) is not None:
            if isinstance(work, threading.Event):
                work.set()
                continue
            try:
                self._record(work)
            except Exception:  # noqa: BLE001  # what fails here is never the program's: it is counted, and told
                self.errors += 1
                _log.exception("spans.not_recorded: trace %s with %d spans", work[0].trace_id, len(work))
            finally:
                with self._lock:
                    self._waiting -= len(work)

    def _record(self, spans: Sequence[Span]) -> None:
        sessions: dict[tuple[str | None, str], list[TraceRecord]] = {}
        found = calls(spans, self._asked)
        for key in dict.fromkeys((call.user, call.session or call.trace_id) for call in found):
            made = [call for call in found if (call.user, call.session or call.trace_id) == key]
            records = list(session_records(key[1], made, self._domain, after=self._step(key, made[0].service)))
            self._steps[key] = records[-1].step
            self._steps.move_to_end(key)
            sessions[key] = records
        while len(self._steps) > self._max_traces:
            self._steps.popitem(last=False)
        if sessions:
            self._import.run_sources([partial(iter, records) for records in sessions.values()])

    def _step(self, key: tuple[str | None, str], service: str | None) -> int:
        """The last step that a conversation has; of one that is not at hand, what the history says."""
        if key in self._steps:
            return self._steps[key]
        user, name = key
        user_id = ANONYMOUS if user is None else stable_id("USR", user)
        stored = self._import.stored_session(user_id, self._domain or service or DEFAULT_DOMAIN, name)
        if stored is None:
            return 0
        history = self._model.repository.session_history(user_id, stored.session_id)
        return max((execution.call_number or 0 for execution in history.executions), default=0)


def _is_local_root(span: ReadableSpan) -> bool:
    """Whether nothing in this process is around a span."""
    return span.parent is None or span.parent.is_remote


def span_of(span: ReadableSpan) -> Span:
    """What is kept of an ended span."""
    context = span.get_span_context()
    if context is None:
        raise ValueError("the span has no context")
    service = span.resource.attributes.get("service.name")
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        name=span.name,
        scope="" if span.instrumentation_scope is None else span.instrumentation_scope.name,
        started_ns=span.start_time or time.time_ns(),
        ended_ns=span.end_time or time.time_ns(),
        failed=span.status.status_code is StatusCode.ERROR,
        description=span.status.description or "",
        attributes={name: value for name, value in (span.attributes or {}).items() if not name.startswith(_LONG)},
        events=[Event(event.name, dict(event.attributes or {})) for event in span.events],
        service=service if isinstance(service, str) and not service.startswith("unknown_service") else None,
    )
