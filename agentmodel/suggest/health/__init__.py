"""Health of tools: which are failing now, noticed from the calls that are recorded."""

from __future__ import annotations

from agentmodel.suggest.health._cusum import Cusum as Cusum
from agentmodel.suggest.health._cusum import HealthState
from agentmodel.suggest.health._monitor import Changed, HealthMonitor, ToolHealth
from agentmodel.suggest.health._tool_state import FailingPeriod, failing_periods
from agentmodel.suggest.health._tool_state import Observation as Observation
from agentmodel.suggest.health._tool_state import counted_user as counted_user

__all__ = [
    "Changed",
    "FailingPeriod",
    "HealthMonitor",
    "HealthState",
    "ToolHealth",
    "failing_periods",
]
