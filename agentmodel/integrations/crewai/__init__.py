"""CrewAI: hooks that record tool calls and, with a guard, decide before each."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.crewai._hooks import AgentModelCrewHooks
except ModuleNotFoundError as error:
    raise MissingExtraError("crewai", "the hooks for CrewAI", error.name) from error

__all__ = ["AgentModelCrewHooks", "Tracker"]
