"""Where the journal's drain writes history, and how it never writes over what was recorded around the journal.

Attempt numbers are given out by Valkey. A process that cannot reach Valkey takes them from the table, which does not
know what still waits in the journal. So it first raises a fence at the session, in the table, which every drainer looks
for before a batch: behind a fence each numbered item is put on the condition that its key is free or its own, and one
that meets another call there takes the next free number. Without fences, which is always but for an outage, a batch
costs one more read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from time import time

from agentmodel import keys
from agentmodel.access.slots import numbered, renumbered
from agentmodel.dynamo.entity import Item, entity_of
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer, checked
from agentmodel.exceptions import Conflict, CorruptItem, Rejected

__all__ = ["OUTAGE", "Fences", "HistorySink"]

OUTAGE = "OUTAGE"
"""PK of the item that says there are fences, first part of the PK of each fence, and the SK of all of them."""

_SECONDS = 7 * 86_400  # a fence outlasts every entry that may wait in the journal
_AGAIN = 3_600  # a fence that is older is raised again
_MOST = 10_000  # fences a process remembers having raised
_KEYS = 100  # DynamoDB's limit of one BatchGetItem
_ROUNDS = 1_000  # numbers tried for one item


class Fences:
    """Marks in the table: numbers of these sessions were taken while Valkey could not be asked.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._raised: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, partition: str) -> None:
        """Raise the fence of a session, before the first write around the journal.

        Raises:
            TableUnavailable: It does not stand; nothing may be written yet.
        """
        now = time()
        for name in (OUTAGE, keys.FENCE.build(partition)):
            if now - self._raised.get(name, 0.0) < _AGAIN:
                continue
            item: Item = {
                "PK": {"S": name},
                "SK": {"S": OUTAGE},
                "EntityType": {"S": OUTAGE},
                "ExpiresAt": {"N": str(int(now) + _SECONDS)},
            }
            self._table.call("PutItem", TableName=self._table.name, Item=item)
            with self._lock:
                self._raised[name] = now
                self._raised.move_to_end(OUTAGE)  # the one of all sessions is the last to be forgotten
                if len(self._raised) > _MOST:
                    self._raised.popitem(last=False)

    def among(self, partitions: Iterable[str]) -> set[str]:
        """Those of the partitions that have a fence; one read where there are no fences at all."""
        wanted = sorted(set(partitions))
        if not wanted or not self._standing([OUTAGE]):
            return set()
        fences: dict[str, str] = {keys.FENCE.build(partition): partition for partition in wanted}
        names = list(fences)
        found: set[str] = set()
        for at in range(0, len(names), _KEYS):
            found |= self._standing(names[at : at + _KEYS])
        return {fences[name] for name in found}

    def _standing(self, names: Sequence[str]) -> set[str]:
        marks = [{"PK": {"S": name}, "SK": {"S": OUTAGE}} for name in names]
        request = {self._table.name: {"Keys": marks, "ConsistentRead": True, "ProjectionExpression": "PK"}}
        answer = self._table.call("BatchGetItem", RequestItems=request)
        found = {item["PK"]["S"] for item in answer["Responses"].get(self._table.name, [])}
        # what the table did not look up counts as fenced: that costs time, the opposite could cost a record
        left = answer.get("UnprocessedKeys", {}).get(self._table.name, {}).get("Keys", [])
        return found | {key["PK"]["S"] for key in left}


class HistorySink:
    """The table, as the drain sees it.

    Args:
        table: The table.
        writer: Its writer.
    """

    def __init__(self, table: Table, writer: Writer) -> None:
        self._table = table
        self._writer = writer
        self._fences = Fences(table)

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """See `Writer.put_many`."""
        return self._writer.put_many(items)

    def put_newer(self, item: Item, version: int) -> bool:
        """See `Writer.put_newer`."""
        return self._writer.put_newer(item, version)

    def contested(self, items: Sequence[Item]) -> list[bool]:
        """Which of the items have a number that somebody may have taken around the journal."""
        fenced = self._fences.among(item["PK"]["S"] for item in items)
        return [item["PK"]["S"] in fenced for item in items]

    def put_claimed(self, item: Item) -> bool:
        """Write an item unless another call has its key; then write it under the next free number.

        Returns:
            Whether it has its own number.

        Raises:
            Rejected: It can never be written.
        """
        kind = entity_of(item)
        try:
            entity = None if kind is None else kind.from_item(item)
        except CorruptItem:
            entity = None
        number = None if entity is None else numbered(entity)
        if entity is None or number is None:
            self._writer.put_many([item])
            return True
        if self._put(item):
            return True
        for other in range(number.number + 1, number.number + _ROUNDS):
            if self._put(renumbered(entity, other).to_item()):
                return False
        raise Rejected(f"{item['PK']['S']} / {item['SK']['S']}: the {_ROUNDS} numbers from its own up are all taken")

    def _put(self, item: Item) -> bool:
        """Put an item under a key that is free, or holds the same call already."""
        call = item.get("CallID")
        condition = "attribute_not_exists(PK) OR " + ("CallID = :c" if call else "attribute_not_exists(CallID)")
        values = {"ExpressionAttributeValues": {":c": call}} if call else {}
        try:
            self._table.call(
                "PutItem", TableName=self._table.name, Item=checked(item), ConditionExpression=condition, **values
            )
        except Conflict:
            return False
        return True
