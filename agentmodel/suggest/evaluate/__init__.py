"""Evaluate suggestions: would they have been right, what would other choices have been worth, what did caching save."""

from __future__ import annotations

from agentmodel.suggest.evaluate._answers import AnswerRow
from agentmodel.suggest.evaluate._baselines import RANKINGS, AgentHistory
from agentmodel.suggest.evaluate._evaluation import Evaluation, calibration_error, evaluate
from agentmodel.suggest.evaluate._off_policy import OffPolicyRow, best_scored, off_policy, prefer, uniform
from agentmodel.suggest.evaluate._replay import ReplayedCall, ReplayedRun, runs_from_traces, runs_from_warehouse
from agentmodel.suggest.evaluate._requests import RequestRow
from agentmodel.suggest.evaluate._savings import SavingsRow, savings

__all__ = [
    "RANKINGS", "AgentHistory", "AnswerRow", "Evaluation", "OffPolicyRow", "ReplayedCall", "ReplayedRun", "RequestRow",
    "SavingsRow", "best_scored", "calibration_error", "evaluate", "off_policy", "prefer", "runs_from_traces",
    "runs_from_warehouse", "savings", "uniform",
]  # fmt: skip
