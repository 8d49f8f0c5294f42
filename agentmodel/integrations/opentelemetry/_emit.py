"""Emit spans of the agents and calls that are recorded, and an event for each verdict of a person.

    emit(model, tracer_provider=provider, logger_provider=logs)

The names are those of OpenTelemetry's conventions for GenAI, which are in development there: spans
``execute_tool NAME`` with ``gen_ai.tool.*``, within spans ``invoke_agent NAME`` for each agent of a session that was
recorded from its start; ``gen_ai.conversation.id`` and ``user.id`` on both; events ``gen_ai.evaluation.result``.
Arguments and results are opt-in, as the conventions demand, since they may contain what people wrote.
`AgentModelSpanProcessor` ignores these spans, so nothing is recorded twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from opentelemetry._logs import Logger, LoggerProvider, LogRecord, get_logger
from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer,
    set_span_in_context,
)

from agentmodel._runtime.process import renew_in_child
from agentmodel.access.recorder import HistoryEntity
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Review, ToolExecution, UserSession
from agentmodel.exceptions import AgentModelError
from agentmodel.integrations._tracking.conventions import OTHER, OWN_SCOPE

__all__ = ["emit"]

SCORES = {"correct": 1.0, "partly": 0.5, "wrong": 0.0, "harmful": 0.0}
"""The score of each verdict."""

MAX_SESSIONS = 1000
"""Sessions that are kept at once; of more, the oldest is forgotten, and the spans of its agents are ended."""


def emit(
    model: AgentModel,
    *,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    content: bool = False,
) -> None:
    """Emit spans of what this model records from now on, and an event for each verdict that is given through it.

    They are of all users, so they are for operators.

    Args:
        model: The installation.
        tracer_provider: Gets the spans; the program's own when not given.
        logger_provider: Gets the events; likewise.
        content: Whether spans contain arguments and results.

    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> from agentmodel import AgentModel
    >>> provider, exporter = TracerProvider(), InMemorySpanExporter()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> with AgentModel.from_settings(model.settings) as own:
    ...     emit(own, tracer_provider=provider)
    ...     with own.session("USR321", "a café") as session, session.process("locate") as process:
    ...         with process.call("AGT001", "TL001") as call:
    ...             call.result = ["Cafe Onda"]
    >>> sorted(span.name for span in exporter.get_finished_spans())
    ['execute_tool find_on_map', 'invoke_agent map agent']
    """
    tracer = get_tracer(OWN_SCOPE, tracer_provider=tracer_provider)
    logger = get_logger(OWN_SCOPE, logger_provider=logger_provider)
    spans = _Spans(model, tracer, content=content)
    model.recorder.observers.append(spans)
    model.recorder.on_late.append(spans.begin)
    model.reviews.on_verdict.append(partial(_emit_verdict, logger))


def _emit_verdict(logger: Logger, review: Review) -> None:
    attributes: dict[str, Any] = {
        "gen_ai.evaluation.name": "review",
        "gen_ai.evaluation.score.label": review.verdict,
        "gen_ai.evaluation.score.value": SCORES.get(review.verdict or ""),
        "gen_ai.evaluation.explanation": review.decision_reason,
        "gen_ai.conversation.id": review.session_id,
        "user.id": review.user_id,
    }
    logger.emit(LogRecord(event_name="gen_ai.evaluation.result", attributes=_present(attributes)))


@dataclass
class _SessionSpan:
    """A session that is being recorded: its last state, what it began in, and the open spans of its agents."""

    entity: UserSession
    around: Context
    agents: dict[str, Span] = field(default_factory=dict)

    def end(self) -> None:
        """End the spans, since the session has ended."""
        at = self.entity.ended_at
        for span in self.agents.values():
            if self.entity.succeeded is False:
                span.set_attribute("error.type", OTHER)
                span.set_status(Status(StatusCode.ERROR, self.entity.summary))
            span.end(None if at is None else _nanoseconds(at))
        self.agents.clear()


class _Spans:
    """Makes spans of what is recorded; those of a session's agents are open until the session ends."""

    def __init__(self, model: AgentModel, tracer: Tracer, *, content: bool) -> None:
        self._model = model
        self._tracer = tracer
        self._content = content
        self._sessions: OrderedDict[tuple[str, str], _SessionSpan] = OrderedDict()
        self._names: dict[str, str] = {}
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Make the lock anew in a forked child."""
        self._lock = threading.RLock()  # re-entrant, because an exporter may record

    def begin(self, entities: Sequence[HistoryEntity]) -> None:
        """Keep sessions that begin and are recorded later, in a thread that knows nothing of the spans around them."""
        with self._lock:
            for entity in entities:
                if isinstance(entity, UserSession) and entity.ended_at is None:
                    self._keep(entity)

    def __call__(self, entities: Sequence[HistoryEntity]) -> None:
        calls = [entity for entity in entities if isinstance(entity, ToolExecution)]
        names = {call.agent_id: self._name(call.agent_id) for call in calls}
        with self._lock:
            for entity in entities:
                if isinstance(entity, UserSession):
                    self._keep(entity)
            for call in calls:
                self._emit_call(call, names[call.agent_id])
            for key in {(one.user_id, one.session_id) for one in entities}:  # an end may be recorded before the calls
                session = self._sessions.get(key)
                if session is not None and session.entity.ended_at is not None:
                    session.end()

    def _keep(self, entity: UserSession) -> None:
        key = entity.user_id, entity.session_id
        self._sessions.setdefault(key, _SessionSpan(entity, get_current())).entity = entity
        self._sessions.move_to_end(key)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)[1].end()

    def _emit_call(self, call: ToolExecution, agent: str | None) -> None:
        began = None if call.executed_at is None else _nanoseconds(call.executed_at)
        span = self._tracer.start_span(
            f"execute_tool {call.tool_name}",
            context=self._agent_context(call, agent, began),
            kind=SpanKind.INTERNAL,
            attributes=_present(_tool_attributes(call, content=self._content) | _agent_attributes(call, agent)),
            start_time=began,
        )
        if _failed(call):
            span.set_status(Status(StatusCode.ERROR, call.error_type))
        span.end(None if began is None else began + (call.duration_ms or 0) * 1_000_000)

    def _agent_context(self, call: ToolExecution, agent: str | None, began: int | None) -> Context | None:
        """Return the context of the calling agent's span; None if its session was not recorded here."""
        session = self._sessions.get((call.user_id, call.session_id))
        if session is None:
            return None
        if call.agent_id not in session.agents:
            session.agents[call.agent_id] = self._tracer.start_span(
                f"invoke_agent {agent}" if agent else "invoke_agent",
                context=session.around,
                kind=SpanKind.INTERNAL,
                attributes=_present({"gen_ai.operation.name": "invoke_agent"} | _agent_attributes(call, agent)),
                start_time=began,
            )
        return set_span_in_context(session.agents[call.agent_id])

    def _name(self, agent_id: str) -> str | None:
        """Return an agent's name in the catalogue; looked up once."""
        if agent_id not in self._names:
            try:
                agent = self._model.repository.agent(agent_id)
            except AgentModelError:
                return None  # without the catalogue the span lacks a name; the record is kept
            if agent is None:
                return None
            self._names[agent_id] = agent.name
        return self._names[agent_id]


def _agent_attributes(call: ToolExecution, agent: str | None) -> dict[str, Any]:
    return {
        "gen_ai.agent.id": call.agent_id,
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": call.session_id,
        "user.id": call.user_id,
    }


def _failed(entity: ToolExecution) -> bool:
    return not entity.succeeded and entity.status in (None, "error")


def _tool_attributes(entity: ToolExecution, *, content: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": entity.tool_name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": entity.call_id,
        "error.type": (entity.error_type or OTHER) if _failed(entity) else None,
        "agentmodel.status": None if entity.status in ("ok", "error") else entity.status,
    }
    if content:
        attributes["gen_ai.tool.call.arguments"] = entity.values
        attributes["gen_ai.tool.call.result"] = None if _failed(entity) else entity.result
    return attributes


def _present(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
