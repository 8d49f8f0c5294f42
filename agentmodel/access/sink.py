"""Where the journal's drain writes history, and how nothing is lost that was recorded around the journal.

Attempt numbers are given out by Valkey. A process that cannot reach Valkey takes them from the table, which does not
know what still waits in the journal; the journal's record then has the better right to the number. So that the other
one is not lost, whoever records around the journal first raises a fence at the session, and then looks which drainers
are at work. A drainer marks that in the table before it looks for fences, so one whose mark is not there has yet to
look, and will see the fence: the record is one put, on the condition that its number is free. While one is at work that
may have looked before, the record is written together with a copy of it behind the fence, in one transaction.

A drainer writes in batches, which cannot ask what they replace, and looks for fences afterwards, before anything is
acknowledged. Behind a fence that it did not know, it reads the copies of the numbers it wrote: what stood there is put
under the next free number, again with a copy. A drainer that dies in between leaves its entries to one that knows the
fence, puts each item by itself, and does the same before it writes. A paused drainer that was overtaken can only put
what is there already. Without fences, which is always but for an outage, a pass costs one more read.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from time import time
from typing import Any

from agentmodel import keys
from agentmodel.access.slots import Numbered, numbered, renumbered
from agentmodel.dynamo.backoff import Backoff
from agentmodel.dynamo.entity import Entity, Item, entity_of
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.write import ITEM_BYTES, Writer, checked, item_bytes
from agentmodel.exceptions import (
    AgentModelError,
    BatchIncomplete,
    Conflict,
    CorruptItem,
    Rejected,
    TableUnavailable,
    ValidationError,
)

__all__ = ["OUTAGE", "AtWork", "Fences", "HistorySink"]

_log = logging.getLogger(__name__)

OUTAGE = "OUTAGE"
"""PK of the item that says there are fences, first part of the PK of each fence, the SK of all, and their type."""

_SECONDS = 7 * 86_400  # a fence outlasts every entry that may wait in the journal, a mark every drainer that is paused
_AGAIN = 3_600  # a fence that is older is raised again, a mark made again
_LOOK = 1.0  # seconds between two looks whether a drainer has ended
_MARK = "AtWork"  # what the names of the drainers' marks begin with
_MOST = 10_000  # fences a process remembers having raised
_KEYS = 100  # DynamoDB's limit of one BatchGetItem
_ROOM = 8 * 1_024  # an item that fills DynamoDB's 400 KB so far has no copy: that has keys of its own
_FREE = "attribute_not_exists(PK)"
_MARKS: Item = {"PK": {"S": OUTAGE}, "SK": {"S": "DRAINERS"}}  # the item that holds the marks of all drainers
_ROUNDS = 1_000  # numbers tried for one call


class Fences:
    """Marks in the table: numbers of these sessions were taken while Valkey could not be asked.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.seen = True  # whether the last look found any fence
        self._raised: OrderedDict[str, float] = OrderedDict()
        self._busy: dict[str, tuple[frozenset[str], float]] = {}
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
            self._busy.pop(partition, None)  # who is at work is asked again, after the fence stands
            item: Item = {"PK": {"S": name}, "SK": {"S": OUTAGE}, **_mark()}
            self._table.call("PutItem", TableName=self._table.name, Item=item)
            with self._lock:
                self._raised[name] = now
                self._raised.move_to_end(OUTAGE)  # the one of all sessions is the last to be forgotten
                if len(self._raised) > _MOST:
                    self._raised.popitem(last=False)

    def quiet(self, partition: str) -> bool:
        """Whether no drainer is at work that may have looked for fences before this session's stood.

        Once it is so it stays so: whoever begins later sees the fence.

        Raises:
            TableUnavailable: It is not known.
        """
        busy, again = self._busy.get(partition, (None, 0.0))
        if busy is None:
            busy = at_work(self._table)
        elif busy and time() >= again:
            busy &= at_work(self._table)
        else:
            return not busy
        if len(self._busy) > _MOST:
            self._busy.clear()
        self._busy[partition] = busy, time() + _LOOK
        return not busy

    def claim(self, item: Item, *, over: Sequence[str | None] = (), alone: bool = False) -> Item | None:
        """Write an item and its copy behind the fence, in one step, unless another call has its key.

        Args:
            item: The item; its session's fence stands.
            over: Calls that may be replaced.
            alone: Without a copy, since it is `quiet`.

        Returns:
            What has the key, or None: the item.

        Raises:
            TableUnavailable: It is not known whether it was written.
        """
        calls = {f":c{place}": {"S": call} for place, call in enumerate(over) if call}
        put: dict[str, Any] = {
            "TableName": self._table.name,
            "Item": checked(item),
            "ConditionExpression": _FREE + (f" OR CallID IN ({', '.join(calls)})" if calls else ""),
        }
        if calls:
            put["ExpressionAttributeValues"] = calls
        puts = [{"Put": put}]
        copy = None if alone else _copy_of(item)
        if copy is not None and item_bytes(copy) <= ITEM_BYTES - _ROOM:
            puts.append({"Put": {"TableName": self._table.name, "Item": copy}})
        for attempt in Backoff(seconds=self._table.settings.batch_deadline):
            try:
                if len(puts) == 1:
                    self._table.call("PutItem", **put)
                else:
                    self._table.call("TransactWriteItems", TransactItems=puts)
            except Conflict as error:
                there = self.at(item)
                if there is not None and _call_of(there) not in over:
                    return there
                attempt.wait(TableUnavailable(str(error)))  # another transaction had it: it is free, or ours to replace
            else:
                return None
        raise AssertionError("unreachable")  # pragma: no cover - the last wait raises

    def at(self, item: Item) -> Item | None:
        """What the table has under an item's key, expired or not."""
        key = {"PK": item["PK"], "SK": item["SK"]}
        answer = self._table.call("GetItem", TableName=self._table.name, Key=key, ConsistentRead=True)
        found: Item | None = answer.get("Item")
        return found

    def held(self, entity: Entity, most: int) -> int | None:
        """The number up to ``most`` under which the table has an entity's call, if there is one."""
        own = numbered(entity)
        if own is None or most < 1:
            return None
        between = renumbered(entity, 1).sk, renumbered(entity, most).sk
        items = self._table.query(Query(entity.pk, between=between), consistent=True).items
        calls = {(one.family, one.call_id): one.number for item in items for one in Numbered.of_item(item)}
        return calls.get((own.family, own.call_id))

    def copy(self, item: Item) -> Item | None:
        """What somebody put under an item's key around the journal, wherever it is now.

        Read in a transaction: another read may see the item of a transaction, and its copy not yet.
        """
        get = {"Get": {"TableName": self._table.name, "Key": _place_of(item)}}
        for attempt in Backoff(seconds=self._table.settings.batch_deadline):
            try:
                answer = self._table.call("TransactGetItems", TransactItems=[get])
            except Conflict as error:
                attempt.wait(TableUnavailable(str(error)))
            else:
                found = answer["Responses"][0].get("Item", {}).get("Copy")
                return None if found is None else {"PK": item["PK"], "SK": item["SK"], **found["M"]}
        raise AssertionError("unreachable")  # pragma: no cover - the last wait raises

    def among(self, partitions: Iterable[str]) -> set[str]:
        """Those of the partitions that have a fence; one read where there are no fences at all."""
        wanted = sorted(set(partitions))
        if not wanted:
            return set()
        self.seen = bool(self._standing([OUTAGE]))
        if not self.seen:
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


class AtWork:
    """A drainer's mark that it is at work: it stands before the drainer looks for fences, until its last batch ended.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._name: str | None = None
        self._since = 0.0
        self._open = 0.0
        self._gone: set[str] = set()  # marks that count as gone, and may still be there

    def begin(self) -> bool:
        """Make the mark, or make it again before it expires; whether it was not there.

        Raises:
            TableUnavailable: It is not known whether it stands; nothing may be written yet.
        """
        now, new = time(), self._since == 0.0
        if not new and now - self._since < _AGAIN:
            return False
        self._name = self._name or f"{_MARK}{secrets.token_hex(8)}"  # one for each time: whoever saw it sees it gone
        answer = self._table.call(
            "UpdateItem", TableName=self._table.name, Key=_MARKS, UpdateExpression="SET #m = :now, EntityType = :type",
            ExpressionAttributeNames={"#m": self._name}, ReturnValues="ALL_NEW",
            ExpressionAttributeValues={":now": {"N": str(int(now))}, ":type": {"S": OUTAGE}},
        )  # fmt: skip
        self._since = now
        self._gone.update(_marks_of(answer["Attributes"], until=now - _SECONDS))  # of drainers that were killed
        self._sweep()
        return new

    def unsure(self) -> None:
        """A batch had no answer: it may still be on its way, for minutes at most, until its signature has expired."""
        self._open = time()

    def end(self) -> None:
        """Take the mark away, unless a batch may still be on its way.

        When the table does not answer it may be gone, be there, or go later: the next one has another name.
        """
        if time() - self._open < _AGAIN:
            return
        if self._name is not None and self._since:
            self._gone.add(self._name)
            self._name, self._since = None, 0.0
        self._sweep()

    def _sweep(self) -> None:
        for name in sorted(self._gone):
            try:
                self._remove(name)
            except AgentModelError as error:
                _log.debug("drain.still_marked: %s", error)  # records around the journal have copies until then
                return
            self._gone.discard(name)

    def _remove(self, name: str) -> None:
        self._table.call(
            "UpdateItem", TableName=self._table.name, Key=_MARKS, UpdateExpression="REMOVE #m",
            ConditionExpression="attribute_exists(PK)", ExpressionAttributeNames={"#m": name},
        )  # fmt: skip


def at_work(table: Table) -> frozenset[str]:
    """The marks of the drainers that are at work, or were killed at it within a week.

    Raises:
        TableUnavailable: The table does not answer.
    """
    answer = table.call("GetItem", TableName=table.name, Key=_MARKS, ConsistentRead=True)
    item: Item = answer.get("Item", {})
    return frozenset(_marks_of(item)) - frozenset(_marks_of(item, until=time() - _SECONDS))


def _marks_of(item: Item, *, until: float = float("inf")) -> list[str]:
    return [name for name, value in item.items() if name.startswith(_MARK) and int(value["N"]) <= until]


class HistorySink:
    """The table, as one drainer sees it.

    Args:
        table: The table.
        writer: Its writer.
    """

    def __init__(self, table: Table, writer: Writer) -> None:
        self._table = table
        self._writer = writer
        self._fences = Fences(table)
        self._mark = AtWork(table)

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """See `Writer.put_many`."""
        try:
            return self._writer.put_many(items)
        except (BatchIncomplete, Rejected, ValidationError):
            raise  # that is an answer
        except BaseException:
            self._mark.unsure()
            raise

    def rest(self) -> None:
        """Nothing is being written any more, and fences will be looked for before anything is again."""
        self._mark.end()

    def put_newer(self, item: Item, version: int) -> bool:
        """See `Writer.put_newer`."""
        return self._writer.put_newer(item, version)

    def contested(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        """Which of the items have a number that somebody may have taken around the journal.

        Args:
            items: The items.
            before: They are not written yet, so a fence may be missed: without a read when the last one found none.
        """
        if before and self._mark.begin():
            self._fences.seen = True  # the first look must be one
        if before and not self._fences.seen:
            return [False] * len(items)
        fenced = self._fences.among(item["PK"]["S"] for item in items)
        return [item["PK"]["S"] in fenced for item in items]

    def put_claimed(self, item: Item) -> bool:
        """Write an item to its key, after what another call has there is safe under the next free number.

        Returns:
            Whether there was such a call.

        Raises:
            Rejected: One of them can never be written.
        """
        try:
            self._table.call(
                "PutItem", TableName=self._table.name, Item=checked(item),
                ConditionExpression=_FREE
            )  # fmt: skip
        except Conflict:
            there = self._fences.at(item)
            if there is None:  # it expired just now
                return self.put_claimed(item)
            copy = self._fences.copy(item)
            others = {_call_of(one): one for one in (copy, there) if one is not None}
            others.pop(_call_of(item), None)
            moved = [self._move(other, _call_of(item)) for other in others.values()]
            if _call_of(there) != _call_of(item):
                self._table.call("PutItem", TableName=self._table.name, Item=item)
            return any(moved)
        return False

    def _move(self, other: Item, own: str | None) -> bool:
        """Put a call under the next free number, or where a second item of ``own`` is; False when it has no number."""
        entity = _readable(other)
        number = None if entity is None else numbered(entity)
        if entity is None or number is None:
            return False
        if self._fences.held(entity, number.number - 1) is not None:
            return True  # the journal had it too, and it is under that number
        for free in range(number.number + 1, number.number + _ROUNDS):
            if self._fences.claim(renumbered(entity, free).to_item(), over=(_call_of(other), own)) is None:
                return True
        raise Rejected(f"{other['PK']['S']} / {other['SK']['S']}: the next {_ROUNDS} numbers are all taken")


def _call_of(item: Item) -> str | None:
    """The call an item records."""
    call: str | None = item.get("CallID", {}).get("S")
    return call


def _place_of(item: Item) -> Item:
    """Key of the copy of what somebody put under an item's key around the journal."""
    return {"PK": {"S": keys.FENCE.build(item["PK"]["S"])}, "SK": item["SK"]}


def _copy_of(item: Item) -> Item:
    rest = {name: value for name, value in item.items() if name not in ("PK", "SK")}
    return {**_place_of(item), **_mark(), "Copy": {"M": rest}}


def _mark() -> Item:
    return {"EntityType": {"S": OUTAGE}, "ExpiresAt": {"N": str(int(time()) + _SECONDS)}}


def _readable(item: Item) -> Entity | None:
    kind = entity_of(item)
    try:
        return None if kind is None else kind.from_item(item)
    except CorruptItem:
        return None
