"""What a guard decides about a call: `Go`, `Blocked`, `Cached` or `Ask`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from agentmodel.dynamo.models import Review, Status
from agentmodel.suggest.guard._response_cache import CacheLookup
from agentmodel.suggest.plan import Fallback

__all__ = ["Ask", "Blocked", "Cached", "Go", "GuardDecision"]


@dataclass(frozen=True, slots=True)
class Go:
    """Make the call, then pass this decision and the result to `Guard.after`.

    Attributes:
        lookup: Where the result is cached; None if it is not.

    >>> guard = model.guard(cache=False)
    >>> guard.before(agent_id="AGT001", tool_id="TL001", user_id="USR263", session_id="SESS1")
    Go(lookup=None)
    """

    lookup: CacheLookup | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Do not make the call.

    Attributes:
        message: Text for the model: why the call was not made, and what to use instead.
        since: When the tool began to fail; None if it does not fail, or the time is not known.
        fallbacks: What works instead, best first.

    >>> Blocked("`search` was not called: use `lookup`.").status
    'blocked'
    """

    message: str
    since: datetime | None = None
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def status(self) -> Status:
        """Status to record the call with."""
        return "blocked"


@dataclass(frozen=True, slots=True)
class Cached:
    """Do not make the call: its result is in the response cache.

    Attributes:
        result: The result.

    >>> Cached(["Cafe Onda"]).status
    'cache_hit'
    """

    result: Any

    @property
    def status(self) -> Status:
        """Status to record the call with."""
        return "cache_hit"


@dataclass(frozen=True, slots=True)
class Ask:
    """A person must decide first; `Guard.answer` returns what they decided.

    Attributes:
        review: The stored question.

    >>> decision = model.guard().before(agent_id="AGT002", tool_id="TL003", user_id="USR262", session_id="SESS1")
    >>> decision.review.reason, decision.review.queue
    ("book_table needs a person's approval", 'review')
    """

    review: Review


GuardDecision: TypeAlias = Go | Blocked | Cached | Ask
"""What a guard decides about a call, before it is made."""
