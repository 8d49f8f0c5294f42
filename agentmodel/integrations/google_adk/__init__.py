"""Google ADK: a plugin that records tool calls and, with a guard, decides before each."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.google_adk._plugin import AgentModelPlugin
except ModuleNotFoundError as error:
    raise MissingExtraError("google-adk", "the plugin for Google ADK", error.name) from error

__all__ = ["AgentModelPlugin", "Tracker"]
