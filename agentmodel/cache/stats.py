"""What Valkey does for an installation, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from agentmodel.cache.client import Valkey
from agentmodel.cache.journal import Journal, JournalStats
from agentmodel.cache.leaderboard import Leaderboard
from agentmodel.cache.read import Counts, ReadThrough
from agentmodel.cache.recent import Recent
from agentmodel.exceptions import CacheUnavailable

__all__ = ["CacheStats", "cache_stats"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The state of the cache.

    Attributes:
        breaker: ``closed`` while Valkey answers; ``open`` after it did not.
        reason: Why it is open; empty while it is closed.
        outages: How often it opened in this process.
        journal: The journal; None while Valkey does not answer.
        patterns: How the reads of this process went, by access pattern; ``item`` and ``own_item`` are single items.
    """

    breaker: Literal["closed", "open"]
    reason: str
    outages: int
    journal: JournalStats | None
    patterns: Mapping[str, Counts]


def cache_stats(
    valkey: Valkey, journal: Journal, *, read: ReadThrough, recent: Recent, leaderboard: Leaderboard
) -> CacheStats:
    """The state of the cache now."""
    try:
        state = journal.stats()
    except CacheUnavailable:
        state = None
    patterns = {name: replace(counts) for name, counts in (read.counts | recent.patterns).items()}
    ranked = leaderboard.counts
    if ranked != Counts():  # where there is no ranking the list is read through, and counted there
        through = patterns.get("top_agents", Counts())
        patterns["top_agents"] = replace(through, hits=through.hits + ranked.hits)
    breaker = valkey.breaker
    return CacheStats(breaker.state, breaker.reason, breaker.opened, state, dict(sorted(patterns.items())))
