"""agentmodel: the execution-history data layer for AI agents.

Every process and tool call of an agent is recorded; the history says which agent and which sequence of tools works,
for whom; that knowledge goes back in before the next run.
"""

from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.aio import AsyncAgentModel, AsyncRecorder
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
from agentmodel.exceptions import AgentModelError

__all__ = [
    "Agent",
    "AgentModel",
    "AgentModelError",
    "AsyncAgentModel",
    "AsyncRecorder",
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
