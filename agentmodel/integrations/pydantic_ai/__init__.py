"""Pydantic AI: a capability that records tool calls and, with a guard, decides before each."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.pydantic_ai._capability import AgentModelCapability
except ModuleNotFoundError as error:
    raise MissingExtraError("pydantic-ai", "the capability for Pydantic AI", error.name) from error

__all__ = ["AgentModelCapability", "Tracker"]
