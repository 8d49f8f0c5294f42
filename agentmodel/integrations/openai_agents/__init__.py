"""OpenAI Agents SDK: a recorder of its runs, and a guard of their tool calls."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.openai_agents._guard import AgentModelGuard
    from agentmodel.integrations.openai_agents._recorder import AgentModelRecorder
except ModuleNotFoundError as error:
    raise MissingExtraError("openai-agents", "the recorder of the OpenAI Agents SDK", error.name) from error

__all__ = ["AgentModelGuard", "AgentModelRecorder", "Tracker"]
