"""agentmodel: the execution-history data layer for AI agents.

What is here is the surface for applications. Settings are in `agentmodel.config`, errors in `agentmodel.exceptions`,
key formats in `agentmodel.keys`; nothing of it loads an optional dependency.
"""

from __future__ import annotations

from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)

__all__ = [
    "Agent",
    "AgentModel",
    "Domain",
    "Recorder",
    "Repository",
    "Review",
    "Settings",
    "Tool",
    "ToolExecution",
    "User",
    "UserSession",
    "UserSessionProcess",
    "UserToolMapping",
]
