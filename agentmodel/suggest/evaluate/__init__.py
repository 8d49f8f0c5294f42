"""Evaluate suggestions: would they have been right, what would other choices have been worth, what did caching save.

>>> RANKINGS
('classic', 'evidence', 'most used', 'last success', 'random')
"""

from __future__ import annotations

from agentmodel.suggest.evaluate._answers import AnswerRow
from agentmodel.suggest.evaluate._baselines import RANKINGS, AgentHistory
from agentmodel.suggest.evaluate._checks import CheckRow, WrongStepRow, wrong_steps
from agentmodel.suggest.evaluate._effect import Effect, runs_to_find
from agentmodel.suggest.evaluate._evaluation import ChanceRow, Evaluation, calibration_error, evaluate
from agentmodel.suggest.evaluate._impact import Impact, ImpactRow, Verdict, impact, stop_harmful
from agentmodel.suggest.evaluate._off_policy import OffPolicyRow, best_scored, off_policy, prefer, uniform
from agentmodel.suggest.evaluate._regimes import RegimeRow
from agentmodel.suggest.evaluate._replay import ReplayedCall, ReplayedRun, runs_from_traces, runs_from_warehouse
from agentmodel.suggest.evaluate._requests import RequestRow

__all__ = [
    "RANKINGS", "AgentHistory", "AnswerRow", "ChanceRow", "CheckRow", "Effect", "Evaluation", "Impact", "ImpactRow",
    "OffPolicyRow", "RegimeRow", "ReplayedCall", "ReplayedRun", "RequestRow", "Verdict", "WrongStepRow", "best_scored",
    "calibration_error", "evaluate", "impact", "off_policy", "prefer", "runs_from_traces", "runs_from_warehouse",
    "runs_to_find", "stop_harmful", "uniform", "wrong_steps",
]  # fmt: skip
