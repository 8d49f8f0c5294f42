"""What is recorded here as telemetry of one's own: a span for each call, an event for each verdict of a person.

    emit(model, tracer_provider=provider, logger_provider=logs)

The names are those of OpenTelemetry's conventions for GenAI, which are in development there: spans
``execute_tool NAME`` with ``gen_ai.tool.*``, ``gen_ai.conversation.id`` and ``user.id``; events
``gen_ai.evaluation.result``. Arguments and results are opt-in, as the conventions say, since they may hold what people
told. `AgentModelSpanProcessor` knows these spans and does not record them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from agentmodel.access.delivery import History
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Review, ToolExecution
from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._dialects import OTHER, OWN_SCOPE

try:
    from opentelemetry._logs import LoggerProvider, LogRecord, get_logger
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer
except ModuleNotFoundError as error:
    raise MissingExtraError("opentelemetry", "telemetry", error.name) from error

__all__ = ["emit"]

SCORES = {"correct": 1.0, "partly": 0.5, "wrong": 0.0, "harmful": 0.0}
"""What a verdict is as a number."""


def emit(
    model: AgentModel,
    *,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    content: bool = False,
) -> None:
    """Emit a span for each call that this model records from now on, and an event for each verdict given through it.

    Args:
        model: The installation.
        tracer_provider: Takes the spans; the program's own when not given.
        logger_provider: Takes the events; likewise.
        content: Whether spans hold arguments and results.
    """
    tracer = get_tracer(OWN_SCOPE, tracer_provider=tracer_provider)
    logger = get_logger(OWN_SCOPE, logger_provider=logger_provider)

    def recorded(entities: Sequence[History]) -> None:
        for entity in entities:
            if isinstance(entity, ToolExecution):
                began = entity.executed_at
                span = tracer.start_span(
                    f"execute_tool {entity.tool_name}",
                    kind=SpanKind.INTERNAL,
                    attributes=_told(entity, content=content),
                    start_time=None if began is None else _nanoseconds(began),
                )
                if _failed(entity):
                    span.set_status(Status(StatusCode.ERROR, entity.error_type))
                took = timedelta(milliseconds=entity.duration_ms or 0)
                span.end(None if began is None else _nanoseconds(began + took))

    def judged(review: Review) -> None:
        told: dict[str, Any] = {
            "gen_ai.evaluation.name": "review",
            "gen_ai.evaluation.score.label": review.verdict,
            "gen_ai.evaluation.score.value": SCORES.get(review.verdict or ""),
            "gen_ai.evaluation.explanation": review.decision_reason,
            "gen_ai.conversation.id": review.session_id,
            "user.id": review.user_id,
        }
        present = {name: value for name, value in told.items() if value is not None}
        logger.emit(LogRecord(event_name="gen_ai.evaluation.result", attributes=present))

    model.recorder.observers.append(recorded)
    model.reviews.on_verdict.append(judged)


def _failed(entity: ToolExecution) -> bool:
    return not entity.succeeded and entity.status in (None, "error")


def _told(entity: ToolExecution, *, content: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": entity.tool_name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": entity.call_id,
        "gen_ai.agent.id": entity.agent_id,
        "gen_ai.conversation.id": entity.session_id,
        "user.id": entity.user_id,
        "error.type": (entity.error_type or OTHER) if _failed(entity) else None,
        "agentmodel.status": entity.status,
    }
    if content:
        told["gen_ai.tool.call.arguments"] = entity.values
        told["gen_ai.tool.call.result"] = None if _failed(entity) else entity.result
    return {name: value for name, value in told.items() if value is not None}


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
