"""How long items live: far (DynamoDB's ``ExpiresAt``) and near (copies in Valkey).

DynamoDB deletes expired items late, typically within days, so every read asks `is_expired` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["EXPIRES_AT", "NEAR_SECONDS", "expiry", "is_expired", "near_seconds"]

EXPIRES_AT = "ExpiresAt"
"""The table's TTL attribute: epoch seconds, under DynamoDB's type N."""

NEAR_SECONDS: Mapping[str, int] = {
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
"""Seconds a copy of what an access pattern returned may be served from Valkey."""


def expiry(recorded: datetime, *, days: int) -> datetime:
    """When something recorded now expires: ``days`` later, on the whole second that ``ExpiresAt`` holds.

    The clock starts when the history is recorded, not when it happened: an import of last year's runs is kept too.

    >>> expiry(datetime(2025, 6, 14, 12, 0, 0, 5, tzinfo=UTC), days=30).isoformat()
    '2025-07-14T12:00:00+00:00'
    """
    return (recorded.astimezone(UTC) + timedelta(days=days)).replace(microsecond=0)


def is_expired(item: Mapping[str, Any], now: float) -> bool:
    """Whether an item (DynamoDB JSON) has outlived its ``ExpiresAt`` at ``now`` (epoch seconds).

    >>> is_expired({"ExpiresAt": {"N": "100"}}, now=100.0)
    True
    >>> is_expired({"PK": {"S": "USR001"}}, now=100.0)
    False
    """
    stored = item.get(EXPIRES_AT)
    if stored is None or "N" not in stored:
        return False
    return float(stored["N"]) <= now


def near_seconds(seconds: int, expires_at: float | None, now: float) -> int:
    """Seconds a near copy may live: never beyond the item's own expiry.

    >>> near_seconds(900, expires_at=150.0, now=100.0)
    50
    """
    if expires_at is None:
        return seconds
    return max(0, min(seconds, int(expires_at - now)))
