"""Report the state of the cache: breaker, journal, and how reads went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from agentmodel._runtime.circuit_breaker import CircuitBreaker
from agentmodel.cache._journal import Journal, JournalStats
from agentmodel.cache._leaderboard import Leaderboard
from agentmodel.cache._read_through import Counts, ReadThrough
from agentmodel.cache._user_cache import UserCache
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable

__all__ = ["CacheStats", "cache_stats"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The state of the cache.

    Attributes:
        breaker: ``closed`` while Valkey answers; ``open`` after it did not.
        reason: Why the breaker is open; empty while it is closed.
        outages: How often the breaker opened in this process.
        table_breaker: ``closed`` while DynamoDB answers; ``open`` after it did not.
        table_reason: Why that one is open; empty while it is closed.
        table_outages: How often that one opened in this process.
        journal: The state of the journal; None while Valkey does not answer.
        patterns: How the reads of this process went, by access pattern; ``item`` and ``own_item`` are single items.

    >>> stats = model.stats()
    >>> stats.breaker, stats.outages, stats.table_breaker, stats.journal.dead
    ('closed', 0, 'closed', 0)
    """

    breaker: Literal["closed", "open"]
    reason: str
    outages: int
    table_breaker: Literal["closed", "open"]
    table_reason: str
    table_outages: int
    journal: JournalStats | None
    patterns: Mapping[str, Counts]


def cache_stats(
    valkey: Valkey,
    journal: Journal,
    *,
    table_breaker: CircuitBreaker,
    read_through: ReadThrough,
    user_cache: UserCache,
    leaderboard: Leaderboard,
) -> CacheStats:
    """Return the state of the cache now.

    >>> from agentmodel.cache import Leaderboard, ReadThrough, UserCache
    >>> valkey, breaker = model.valkey, model.table.breaker
    >>> stats = cache_stats(
    ...     valkey, model.journal, table_breaker=breaker,
    ...     read_through=ReadThrough(valkey), user_cache=UserCache(valkey), leaderboard=Leaderboard(valkey),
    ... )
    >>> stats.breaker, stats.table_breaker
    ('closed', 'closed')
    """
    try:
        state = journal.stats()
    except CacheUnavailable:
        state = None
    patterns = {name: replace(counts) for name, counts in (read_through.counts | user_cache.patterns).items()}
    ranked = leaderboard.counts
    if ranked != Counts():  # a read that finds no ranking goes to the read-through cache, and is counted there
        counts = patterns.get("top_agents", Counts())
        patterns["top_agents"] = replace(counts, hits=counts.hits + ranked.hits)
    breaker = valkey.breaker
    return CacheStats(
        breaker=breaker.state,
        reason=breaker.reason,
        outages=breaker.outages,
        table_breaker=table_breaker.state,
        table_reason=table_breaker.reason,
        table_outages=table_breaker.outages,
        journal=state,
        patterns=dict(sorted(patterns.items())),
    )
