"""Guard: decides what to do about a call before it is made, and carries the decision out."""

from __future__ import annotations

from agentmodel.suggest.guard._decision import Ask, Blocked, Cached, Go, GuardDecision
from agentmodel.suggest.guard._enforcer import Enforcer as Enforcer
from agentmodel.suggest.guard._enforcer import Resolution as Resolution
from agentmodel.suggest.guard._guard import Guard, ReviewRule
from agentmodel.suggest.guard._inline import inline as inline
from agentmodel.suggest.guard._inline import run_inline as run_inline
from agentmodel.suggest.guard._interrupt import InterruptAnswer
from agentmodel.suggest.guard._interrupt import interrupt_question as interrupt_question
from agentmodel.suggest.guard._response_cache import CacheLookup, CacheScope, ResponseCache
from agentmodel.suggest.guard._texts import as_content as as_content
from agentmodel.suggest.guard._write_effects import KindCounts as KindCounts
from agentmodel.suggest.guard._write_effects import WriteMark as WriteMark
from agentmodel.suggest.guard._write_effects import are_harmless as are_harmless
from agentmodel.suggest.guard._write_effects import kinds_between as kinds_between
from agentmodel.suggest.guard._write_effects import learned as learned
from agentmodel.suggest.guard._write_effects import values_of as values_of
from agentmodel.suggest.plan import Fallback

__all__ = [
    "Ask",
    "Blocked",
    "CacheLookup",
    "CacheScope",
    "Cached",
    "Fallback",
    "Go",
    "Guard",
    "GuardDecision",
    "InterruptAnswer",
    "ResponseCache",
    "ReviewRule",
]
