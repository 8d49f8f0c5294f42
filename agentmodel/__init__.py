"""agentmodel: the execution-history data layer for AI agents.

It records every process and tool call of an agent. From this history it learns which agent and which sequence of tools
works for whom, and it suggests them before the next run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# The module of each name, which is imported when the name is first used. The pytest plugin, which every test run of an
# application loads, and the command line's `--version` need none of them.
_MODULES = {
    "AgentModel": "client",
    "AgentModelError": "exceptions",
    "AsyncAgentModel": "aio",
    "AsyncRecorder": "aio",
    "Recorder": "access.recorder",
    "Repository": "access.repository",
    "Settings": "config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'dynamo.models')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
