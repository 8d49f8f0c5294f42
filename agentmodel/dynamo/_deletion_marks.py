"""Mark in the table what is deleted, so that no late scan takes it for expired.

A scan sees that an item is missing, and not who deleted it: once the item's ``ExpiresAt`` has passed, it may have been
DynamoDB's TTL. So each way of ours to delete an item writes a mark first: the writer, its batches and transactions, and
PynamoDB's own methods. What is asked for leaves the statistics, also where the program ends between the mark and the
deletion, or DynamoDB refuses the deletion and the item expires later.

A mark holds a digest of the item's key. It counts for what was written before it, and is kept for `_KEPT_DAYS` days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from agentmodel import keys
from agentmodel._runtime.retry import Backoff
from agentmodel._ttl import EXPIRES_AT

__all__ = ["Send", "mark_deletions"]

Send: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls an operation of DynamoDB's API with a request."""

_KEPT_DAYS = 400  # a landing once a year still finds it
_CLOCKS = 300  # seconds by which the clocks of programs may differ
_BATCH = 25  # DynamoDB's limit of requests in one BatchWriteItem


def mark_deletions(send: Send, operation: str, request: Mapping[str, Any], *, table: str, seconds: float) -> None:
    """Write a mark of each user's item that a request will delete from a table; the catalogue does not expire.

    Args:
        send: Sends the marks.
        operation: The operation of the request.
        request: The request.
        table: Name of the table; what is deleted from others is not marked.
        seconds: How long DynamoDB may leave marks unprocessed.

    Raises:
        TableUnavailable: DynamoDB left marks unprocessed for longer; nothing was deleted.
    """
    deleted = [key for name, key in _deleted(operation, request) if name == table]
    marks = [_mark(key) for key in deleted if keys.owner_of(key["PK"]["S"])[0]]
    for first in range(0, len(marks), _BATCH):
        left = [{"PutRequest": {"Item": mark}} for mark in marks[first : first + _BATCH]]
        for attempt in Backoff(seconds=seconds):
            left = send("BatchWriteItem", {"RequestItems": {table: left}}).get("UnprocessedItems", {}).get(table, [])
            if not left:
                break
            attempt.wait(f"{len(left)} deletions were not marked, so nothing was deleted: try again")


def _deleted(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield table and key of each item that a request deletes."""
    if operation == "DeleteItem":
        yield request["TableName"], request["Key"]
    elif operation == "BatchWriteItem":
        for table, parts in request["RequestItems"].items():
            yield from ((table, part["DeleteRequest"]["Key"]) for part in parts if "DeleteRequest" in part)
    elif operation == "TransactWriteItems":
        deletes = (part["Delete"] for part in request["TransactItems"] if "Delete" in part)
        yield from ((each["TableName"], each["Key"]) for each in deletes)


def _mark(key: Mapping[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    return {
        "PK": {"S": keys.DELETED.build(keys.item_digest(key["PK"]["S"], key["SK"]["S"]))},
        "SK": {"S": keys.METADATA.build()},
        "EntityType": {"S": "Deleted"},
        "Version": {"N": str((now + _CLOCKS) * 1000 << 16)},
        EXPIRES_AT: {"N": str(now + _KEPT_DAYS * 86_400)},
    }
