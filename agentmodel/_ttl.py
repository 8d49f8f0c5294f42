"""Define how long items are kept in DynamoDB (``ExpiresAt``), and how long cached copies are kept in Valkey.

DynamoDB deletes expired items late, typically within days, so every read checks `is_expired` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["CACHE_SECONDS", "EXPIRES_AT", "expiry", "is_expired"]

EXPIRES_AT = "ExpiresAt"
"""The table's TTL attribute: epoch seconds, under DynamoDB's type N."""

CACHE_SECONDS: Mapping[str, int] = {
    "domains": 3600,
    "top_agents": 300,
    "domain_tools": 3600,
    "agent_tools": 3600,
    "sessions": 900,
    "session_history": 900,
    "user_mappings": 900,
    "mappings": 300,
    "item": 900,
}
"""Seconds for which the cached result of an access pattern may be served from Valkey."""


def expiry(recorded: datetime, *, days: int) -> datetime:
    """Return when something recorded now expires: ``days`` later, in whole seconds, as ``ExpiresAt`` holds them.

    The time counts from the recording, not from the event, so that an import of last year's runs is kept too.

    >>> from datetime import UTC, datetime
    >>> expiry(datetime(2025, 6, 14, 12, 0, 0, 5, tzinfo=UTC), days=30).isoformat()
    '2025-07-14T12:00:00+00:00'
    """
    return (recorded.astimezone(UTC) + timedelta(days=days)).replace(microsecond=0)


def is_expired(item: Mapping[str, Any], now: float) -> bool:
    """Return whether an item (DynamoDB JSON) has expired by ``now`` (epoch seconds).

    >>> is_expired({"ExpiresAt": {"N": "100"}}, now=100.0)
    True
    >>> is_expired({"PK": {"S": "USR001"}}, now=100.0)
    False
    """
    stored = item.get(EXPIRES_AT)
    if stored is None or "N" not in stored:
        return False
    return float(stored["N"]) <= now
