"""Claude Agent SDK: a client that records tool calls and, with a guard, decides before each call."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

try:
    from agentmodel.integrations.claude_agent_sdk._client import AgentModelClient
except ModuleNotFoundError as error:
    raise MissingExtraError("claude-agent-sdk", "the client of the Claude Agent SDK", error.name) from error

__all__ = ["AgentModelClient", "Tracker"]
