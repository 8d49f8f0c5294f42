"""Strands: a hook provider that records tool calls and, with a guard, decides before each."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.strands._hooks import AgentModelHooks
except ModuleNotFoundError as error:
    raise MissingExtraError("strands", "the Strands hook provider", error.name) from error

__all__ = ["AgentModelHooks", "Tracker"]
