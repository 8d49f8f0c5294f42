"""OpenTelemetry: a span processor that records tool calls, and `emit`, which makes spans of what is recorded."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError

try:
    from agentmodel.integrations.opentelemetry._emit import emit
    from agentmodel.integrations.opentelemetry._processor import AgentModelSpanProcessor
except ModuleNotFoundError as error:
    raise MissingExtraError("opentelemetry", "the span processor", error.name) from error

__all__ = ["AgentModelSpanProcessor", "emit"]
