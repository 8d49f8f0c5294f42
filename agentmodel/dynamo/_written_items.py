"""Tell what PynamoDB's own methods wrote, replaced and deleted, so that no older copy of it stays in a cache.

Every write of theirs is one request to DynamoDB. A write of one item returns the item that it replaces. Before a batch
or a transaction, the items of the catalogue that it replaces are read, because cached pages are named by their
attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from agentmodel import keys
from agentmodel.dynamo._deletion_marks import Send

__all__ = ["OnWrite", "is_write", "send_and_tell"]

Item = Mapping[str, Any]

OnWrite: TypeAlias = Callable[[Sequence[Item]], object]
"""Called with items that were written, replaced or deleted; of some, only the keys are known."""

_SINGLE = {"PutItem": "Item", "DeleteItem": "Key", "UpdateItem": "Key"}
_MANY = ("BatchWriteItem", "TransactWriteItems")
_BATCH = 100  # DynamoDB's limit of keys in one BatchGetItem


def is_write(operation: str) -> bool:
    """Return whether an operation changes items."""
    return operation in _SINGLE or operation in _MANY


def send_and_tell(send: Send, operation: str, request: dict[str, Any], *, table: str, tell: OnWrite) -> dict[str, Any]:
    """Send a request that writes, and tell what it changed in a table; also when it fails, since it may have written.

    Args:
        send: Sends the request.
        operation: The operation of the request.
        request: The request.
        table: Name of the table.
        tell: Is told.
    """
    changed: list[Item] = [item for name, item in _changed(operation, request) if name == table]
    if operation in _SINGLE:
        request.setdefault("ReturnValues", "ALL_OLD")
    else:
        changed += _replaced(send, table, changed)
    try:
        answer = send(operation, request)
        changed += [answer["Attributes"]] if answer.get("Attributes") else []
    finally:
        tell(changed)
    return answer


def _changed(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, Item]]:
    """Yield table and item, or key, of each item that a request changes."""
    if operation in _SINGLE:
        yield request["TableName"], request[_SINGLE[operation]]
    elif operation == "BatchWriteItem":
        for table, parts in request["RequestItems"].items():
            for part in parts:
                yield table, part["PutRequest"]["Item"] if "PutRequest" in part else part["DeleteRequest"]["Key"]
    else:
        for part in request["TransactItems"]:
            ((kind, one),) = part.items()
            if kind != "ConditionCheck":
                yield one["TableName"], one["Item" if kind == "Put" else "Key"]


def _replaced(send: Send, table: str, changed: Sequence[Item]) -> list[Item]:
    """Return the items that are stored under the keys of these and are in pages that are cached for all users."""
    wanted = {
        (item["PK"]["S"], item["SK"]["S"]): {"PK": item["PK"], "SK": item["SK"]}
        for item in changed
        if not keys.owner_of(item["PK"]["S"])[0] or item["SK"]["S"].startswith(keys.MAPPING.starts)
    }
    found: list[Item] = []
    left = list(wanted.values())
    for start in range(0, len(left), _BATCH):
        answer = send("BatchGetItem", {"RequestItems": {table: {"Keys": left[start : start + _BATCH]}}})
        found += answer["Responses"].get(table, ())
    return found
