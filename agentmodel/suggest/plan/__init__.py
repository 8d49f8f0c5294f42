"""Plans: which agent, which steps and which tools to avoid for a request, and why, and the log of suggestions."""

from __future__ import annotations

from agentmodel.suggest._types import Failing, HealthSource, ToolRef
from agentmodel.suggest.plan._fallbacks import Fallbacks as Fallbacks
from agentmodel.suggest.plan._lookup import best_of_category as best_of_category
from agentmodel.suggest.plan._next_tools import LikelyTool, NextTools
from agentmodel.suggest.plan._plan import Alternative, Avoid, Confidence, Plan, PlanSource, PlanStep
from agentmodel.suggest.plan._plan import Fallback as Fallback
from agentmodel.suggest.plan._plan import confidence_of as confidence_of
from agentmodel.suggest.plan._plan import fallback_text as fallback_text
from agentmodel.suggest.plan._planner import Planner
from agentmodel.suggest.plan._routing import DomainMatch, MatchBasis, Router, Routing
from agentmodel.suggest.plan._similarity import Embedder, EmbeddingSimilarity, Similarity, TextSimilarity
from agentmodel.suggest.plan._suggestion_log import SuggestionLog
from agentmodel.suggest.plan._texts import Language, Reason, ReasonCode

__all__ = [
    "Alternative", "Avoid", "Confidence", "DomainMatch", "Embedder", "EmbeddingSimilarity", "Failing", "HealthSource",
    "Language", "LikelyTool", "MatchBasis", "NextTools", "Plan", "PlanSource", "PlanStep", "Planner", "Reason",
    "ReasonCode", "Router", "Routing", "Similarity", "SuggestionLog", "TextSimilarity", "ToolRef",
]  # fmt: skip
