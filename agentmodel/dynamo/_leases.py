"""Keep leases as items of the table, each in a partition of its own; every change is a conditional write.

A lease that is released leaves no item, so what changes nothing else leaves the table as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import time_ns
from typing import Any, Final

from agentmodel import keys
from agentmodel._runtime.lease import LeaseState
from agentmodel.dynamo.entity import Item
from agentmodel.exceptions import Conflict

__all__ = ["TableLeases"]

_KIND: Final = "Lease"  # the items' EntityType


class TableLeases:
    """The leases of a table; the store of `Table.lease`.

    Args:
        call: Calls an operation of DynamoDB, as `Table.call` does.
        table: Name of the table.
    """

    def __init__(self, call: Callable[..., dict[str, Any]], table: str) -> None:
        self._call = call
        self._table = table

    def take(self, name: str, wanted: LeaseState) -> LeaseState:
        """Store ``wanted`` with the next token, unless another holds the lease."""
        while True:
            found = self._read(name)
            if found is not None and not found.is_free:
                return found
            token = time_ns() // 1000  # it grows from holder to holder though a released lease leaves no item
            condition, values = "attribute_not_exists(PK)", {}
            if found is not None:
                token = max(token, found.token + 1)
                condition, values = "TokenNo = :seen", {":seen": {"N": str(found.token)}}
            values |= {":token": {"N": str(token)}, ":kind": {"S": _KIND}}
            values |= {":holder": {"S": wanted.holder}, ":since": {"S": keys.format_time("since", wanted.since)}}
            sets = "TokenNo = :token, EntityType = :kind, HolderNM = :holder, SinceDT = :since"
            stored = self._update(name, wanted, sets, condition, values)
            if stored is not None:
                return stored

    def renew(self, name: str, held: LeaseState) -> LeaseState:
        """Store ``held.until``, unless the lease has another token."""
        stored = self._update(name, held, "", "TokenNo = :seen", {":seen": {"N": str(held.token)}})
        return stored or self._read(name) or LeaseState(0, "", "nobody", held.since, held.until)

    def release(self, name: str, held: LeaseState) -> None:
        """Delete the item, unless the lease has another token."""
        with suppress(Conflict):  # another has taken it
            self._call(
                "DeleteItem",
                TableName=self._table,
                Key=_key(name),
                ConditionExpression="TokenNo = :seen",
                ExpressionAttributeValues={":seen": {"N": str(held.token)}},
            )

    def _update(self, name: str, state: LeaseState, sets: str, condition: str, values: Item) -> LeaseState | None:
        """Return the lease as it is stored now; None where the condition was not met."""
        until = keys.format_time("until", state.until)
        try:
            answer = self._call(
                "UpdateItem",
                TableName=self._table,
                Key=_key(name),
                UpdateExpression="SET OwnerID = :owner, UntilDT = :until" + (sets and f", {sets}"),
                ConditionExpression=condition,
                ExpressionAttributeValues={**values, ":owner": {"S": state.owner}, ":until": {"S": until}},
                ReturnValues="ALL_NEW",
            )
        except Conflict:
            return None
        return _state(answer["Attributes"])

    def _read(self, name: str) -> LeaseState | None:
        answer = self._call("GetItem", TableName=self._table, Key=_key(name), ConsistentRead=True)
        return _state(answer["Item"]) if "Item" in answer else None


def _key(name: str) -> Item:
    return {"PK": {"S": keys.LEASE.build(name)}, "SK": {"S": keys.METADATA.build()}}


def _state(item: dict[str, Any]) -> LeaseState:
    times = (keys.parse_time(item[name]["S"]) for name in ("SinceDT", "UntilDT"))
    return LeaseState(int(item["TokenNo"]["N"]), item["OwnerID"]["S"], item["HolderNM"]["S"], *times)
