"""Write numbered records into the table: the processes of a session, and the attempts of a tool in a process.

Valkey numbers what goes through a journal. A process that records without the journal (another durability, no Valkey,
an outage, another prefix, a full journal) takes numbers from the table, which does not know what still waits in a
journal. So two calls can have one number, and one of the two is written second, whoever writes it.

The table decides then. Each record is a put on the condition that its key is free, or has an older version of the very
same call. What is stored keeps its number, and a call that comes second gets the next free one. Nothing depends on what
a writer knows of the others: a drainer that was paused, killed or overtaken cannot replace another call either.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from agentmodel import keys
from agentmodel._runtime.retry import Backoff
from agentmodel.access._attempt_numbers import ClaimedNumber, claimed_number, with_number
from agentmodel.dynamo.entity import Entity, Item, entity_of, item_name
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.writer import checked
from agentmodel.exceptions import Conflict, CorruptItem, Rejected, TableUnavailable

__all__ = ["NumberedWriter", "entity_or_none", "renumbered", "same_call"]

N = TypeVar("N", bound=Entity)

_KEY_IS_FREE = "attribute_not_exists(PK)"
_ATTEMPTS = 1_000  # numbers that are tried for one call
_HIGHEST = 10**9  # above every number in use
_NONE: Mapping[int, str] = MappingProxyType({})


class NumberedWriter:
    """Writes processes and calls, each under a number that no other one has in the table.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, item: Item, *, newer: bool = False, replaces: str | None = None) -> Item | None:
        """Write an item if its key is free.

        Args:
            item: The item.
            newer: Whether to replace an older version of the same call.
            replaces: Id of a call whose item may be replaced.

        Returns:
            None if the item was written, else the item that has the key.

        Raises:
            Rejected: The item can never be written.
            TableUnavailable: It is not known whether the item was written.
        """
        condition, values = _KEY_IS_FREE, Item()
        if newer and "CallID" in item and "Version" in item:
            condition += " OR (CallID = :call AND #v < :version)"
            values |= {":call": item["CallID"], ":version": item["Version"]}
        if replaces is not None:
            condition += " OR CallID = :replaced"
            values[":replaced"] = {"S": replaces}
        request = {"TableName": self._table.name, "Item": checked(item), "ConditionExpression": condition}
        if values:
            request["ExpressionAttributeValues"] = values
        if ":version" in values:
            request["ExpressionAttributeNames"] = {"#v": "Version"}
        for attempt in Backoff(seconds=self._table.settings.batch_deadline):
            try:
                self._table.call("PutItem", **request)
            except Conflict as error:
                key = {"PK": item["PK"], "SK": item["SK"]}
                answer = self._table.call("GetItem", TableName=self._table.name, Key=key, ConsistentRead=True)
                stored: Item | None = answer.get("Item")
                if stored is not None:
                    return stored
                attempt.wait(TableUnavailable(str(error)))  # it was deleted meanwhile
            else:
                return None
        raise AssertionError("unreachable")  # pragma: no cover - the last wait raises

    def put_numbered(self, entity: N, *, known: Mapping[int, str] = _NONE) -> tuple[N, bool]:
        """Write an entity under its number or, if another call has that, under the next free one.

        Args:
            entity: A process or a call.
            known: Numbers of its family that are taken in the journal, each with its call.

        Returns:
            The entity as it is stored, and whether the table had this call already; then nothing was written.

        Raises:
            Rejected: The entity can never be written.
            TableUnavailable: It is not known whether the entity was written.
        """
        own = _claimed(entity)
        wanted = next((number for number, call in known.items() if call == own.call_id), None)
        if wanted is None:
            wanted = _first_free(own.number, known)
        placed = entity if wanted == own.number else with_number(entity, wanted)
        stored = self.put(placed.to_item())
        if stored is None:
            return placed, False
        return (placed, True) if same_call(stored, placed.to_item()) else self.renumber(placed, known=known)

    def renumber(self, entity: N, *, known: Mapping[int, str] = _NONE) -> tuple[N, bool]:
        """Write an entity whose number another call has under the next free number; see `put_numbered`.

        Drainers that renumber the same call try the same number first, so that it stays one item.
        """
        own = _claimed(entity)
        taken = {number for number, call in known.items() if call != own.call_id}
        for _ in range(_ATTEMPTS):
            holders = self._holders(entity, own)
            lowest = _lowest(holders)
            if own.call_id in lowest:
                return with_number(entity, lowest[own.call_id]), True
            # a call that was recorded on two ways may have two numbers: the higher one is free
            number = _first_free(own.number, taken | set(lowest.values()))
            moved = with_number(entity, number)
            stored = self.put(moved.to_item(), replaces=holders.get(number))
            if stored is None:
                return moved, False
            if same_call(stored, moved.to_item()):
                return moved, True
            taken.add(number)  # by an item that the query left out, or just now
        raise Rejected(
            f"item {item_name(entity.to_item())} got no number: other writers took {_ATTEMPTS} numbers first; "
            "delete the attempts that nobody needs, and record it again or retry its dead letter"
        )

    def _holders(self, entity: Entity, own: ClaimedNumber) -> Mapping[int, str]:
        """Return the numbers that are taken in the family of an entity, each with its call."""
        between = with_number(entity, 1).sk, with_number(entity, _HIGHEST).sk
        items = self._table.query(Query(entity.pk, between=between), consistent=True).items
        return _holders(items, own)

    def overwritten(self, item: Item) -> Entity | None:
        """Return the call that a drainer of 0.1.0 replaced by this item and had no time to write again.

        Such a drainer wrote without a condition. During an outage writers left a copy for it, with a TTL of a week.
        """
        key = {"PK": {"S": keys.FENCE.build(item["PK"]["S"])}, "SK": item["SK"]}
        answer = self._table.call("GetItem", TableName=self._table.name, Key=key, ConsistentRead=True)
        copy = answer.get("Item", {}).get("Copy", {}).get("M")
        if copy is None or same_call(copy, item):
            return None
        return entity_or_none({**copy, "PK": item["PK"], "SK": item["SK"]})


def _claimed(entity: Entity) -> ClaimedNumber:
    own = claimed_number(entity)
    if own is None:
        raise Rejected(f"item {item_name(entity.to_item())} has no number, and another one has its key")
    return own


def _holders(items: Iterable[Item], own: ClaimedNumber) -> dict[int, str]:
    claimed = (one for item in items for one in ClaimedNumber.of_item(item))
    return {one.number: one.call_id for one in claimed if one.family == own.family}


def _lowest(holders: Mapping[int, str]) -> dict[str, int]:
    """Return the calls that have a number, each with its lowest one."""
    return {holders[number]: number for number in sorted(holders, reverse=True)}


def renumbered(item: Item, stored: Iterable[Item]) -> Item | None:
    """Return an item as `NumberedWriter.renumber` would write it beside the stored items; None if they have its call.

    An item without a number stays as it is.
    """
    entity = entity_or_none(item)
    own = None if entity is None else claimed_number(entity)
    if entity is None or own is None:
        return item
    lowest = _lowest(_holders(stored, own))
    if own.call_id in lowest:
        return None
    return with_number(entity, _first_free(own.number, set(lowest.values()))).to_item()


def _first_free(number: int, taken: Container[int]) -> int:
    while number in taken:
        number += 1
    return number


def same_call(one: Item, other: Item) -> bool:
    """Return whether two items of one key record the same call; without ids of calls they do."""
    return one.get("CallID") == other.get("CallID")


def entity_or_none(item: Item) -> Entity | None:
    """Return an item as its entity; None if it is of no known kind, or damaged."""
    kind = entity_of(item)
    try:
        return None if kind is None else kind.from_item(item)
    except CorruptItem:
        return None
