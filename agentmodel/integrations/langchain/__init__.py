"""LangChain and LangGraph: a callback handler that records, and a middleware that also plans and guards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.langchain._callback import AgentModelCallback
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain", "the LangChain callback handler", error.name) from error

if TYPE_CHECKING:
    from agentmodel.integrations.langchain._middleware import AgentModelMiddleware

__all__ = ["AgentModelCallback", "AgentModelMiddleware", "Tracker"]


def __getattr__(name: str) -> Any:
    """Import the middleware when it is first used: the callback handler works without the package ``langchain``."""
    if name != "AgentModelMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from agentmodel.integrations.langchain._middleware import AgentModelMiddleware
    except ModuleNotFoundError as error:
        raise MissingExtraError("langchain", "the LangChain agent middleware", error.name) from error
    return AgentModelMiddleware
