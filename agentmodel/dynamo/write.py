"""Writes that finish: conditional, in batches of any size, in transactions; nothing is lost, nothing goes stale.

Everything is checked before anything is sent: keys, attributes, and DynamoDB's 400 KB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from agentmodel.dynamo.attributes import Change
from agentmodel.dynamo.backoff import Backoff
from agentmodel.dynamo.entity import Entity, Item, ItemKey, item_name
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.update import Update
from agentmodel.exceptions import AlreadyExists, BatchIncomplete, Conflict, NotFound, StaleVersion, ValidationError

__all__ = ["ITEM_BYTES", "Batch", "Writer", "checked", "item_bytes"]

E = TypeVar("E", bound=Entity)

ITEM_BYTES = 400 * 1024
"""DynamoDB's limit for one item, names and values in UTF-8."""

BATCH = 25  # DynamoDB's limit of requests in one BatchWriteItem
WORKERS = 4  # batches under way at once; the keys of a write are all different, so their order is free
TRANSACTION = 100  # and of actions in one transaction
_NEWER = "attribute_not_exists(PK) OR attribute_not_exists(#v) OR #v < :v"


class Writer:
    """Writes into one table.

    Args:
        table: The table.
        clock: Gives the version of a save: a number that grows.
    """

    def __init__(self, table: Table, *, clock: Callable[[], int]) -> None:
        self.table = table
        self._clock = clock

    def put(self, entity: Entity) -> None:
        """Write an entity, whatever was there; use `put_new` or `save` where somebody else may write too."""
        self._put(checked(entity.to_item()))

    def put_new(self, entity: Entity) -> None:
        """Write an entity under a key that holds nothing yet.

        Raises:
            AlreadyExists: Something is stored under the key; it was not touched.
        """
        try:
            self._put(checked(entity.to_item()), ConditionExpression="attribute_not_exists(PK)")
        except Conflict:
            raise AlreadyExists(f"{entity.key} exists already") from None

    def save(self, entity: Entity, *, existing: bool = False) -> None:
        """Write an entity over the version it was read from; it then carries the new version.

        Args:
            entity: As it was read, changed.
            existing: Refuse to make it again when it was deleted meanwhile, also where it never had a version.

        Raises:
            StaleVersion: Somebody wrote it since it was read; nothing was changed.
        """
        before, entity.version = entity.version, self._clock()
        item = checked(entity.to_item())
        try:
            if before is None:
                self._put(
                    item,
                    ConditionExpression=("attribute_exists(PK) AND " if existing else "") + "attribute_not_exists(#v)",
                    ExpressionAttributeNames={"#v": "Version"},
                )
            else:
                self._put(
                    item,
                    ConditionExpression="#v = :v",
                    ExpressionAttributeNames={"#v": "Version"},
                    ExpressionAttributeValues={":v": {"N": str(before)}},
                )
        except Conflict:
            entity.version = before
            raise StaleVersion(f"{entity.key} was written since it was read: read it again") from None
        except Exception:
            entity.version = before
            raise

    def update(self, target: E | ItemKey[E], *changes: Change) -> E:
        """Change single attributes of a stored item; index keys made of them follow in the same request.

        Given an entity, an index key's other parts are taken from it, on the condition that they are still so; it then
        carries what is stored. Given a key, they have to be among the changes. Attributes that are not named may be
        written by others at the same time: neither is lost.

            writer.update(Agent.at("AGT001"), Agent.score.to(61.5), Agent.description.to(None))
            writer.update(agent, Agent.executions.plus(1))

        Args:
            target: The entity as it was loaded, or the key of an item.
            changes: Made by an attribute's ``to`` (None removes one that may be absent) or ``plus``.

        Returns:
            The entity as it is stored now.

        Raises:
            NotFound: There is no such item.
            StaleVersion: A part of an index key was changed since the entity was read, or a newer version is stored.
            ValidationError: A part of an index key is not known, or an attribute cannot be changed so.
        """
        update = Update(target, changes, version=self._clock())
        checked(update.written)
        try:
            answer = self.table.call("UpdateItem", **update.request(self.table.name))
        except Conflict:
            if self.table.get_item(update.key, consistent=True) is None:
                raise NotFound(update.entity.__name__, f"{update.key.pk} / {update.key.sk}") from None
            raise StaleVersion(
                f"{update.key} was written since it was read, or waits for an upgrade: read it again, or save it whole"
            ) from None
        stored = update.entity.from_item(answer["Attributes"])
        if isinstance(target, Entity):
            target.attribute_values, target.extra = stored.attribute_values, stored.extra
            return target
        return stored

    def delete(self, key: ItemKey[Any]) -> None:
        """Delete the item under a key; nothing happens when there is none."""
        self.table.call("DeleteItem", TableName=self.table.name, Key=key.item())

    def _put(self, item: Item, **condition: Any) -> None:
        self.table.call("PutItem", TableName=self.table.name, Item=item, **condition)

    # For the journal's drain: plain items

    def put_newer(self, item: Item, version: int) -> bool:
        """Write an item unless a newer version of it is stored; whether it was written."""
        names, values = {"#v": "Version"}, {":v": {"N": str(version)}}
        try:
            self._put(
                checked(item), ConditionExpression=_NEWER, ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )  # fmt: skip
        except Conflict:
            return False
        return True

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Write items in batches; those that DynamoDB left unprocessed until the deadline come back.

        Raises:
            ValidationError: An item is too large; nothing was sent.
            Rejected: DynamoDB refuses an item for good; which of the others were written is not known.
        """
        requests = [{"PutRequest": {"Item": checked(item)}} for item in _coalesced(items)]
        return [request["PutRequest"]["Item"] for request in self._write_all(requests)]

    # Batches and transactions

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect puts and deletes of any number and kind; they are written when the block ends.

        A later put or delete of a key replaces an earlier one. When the block raises, nothing is written.

        Raises:
            BatchIncomplete: DynamoDB left requests unprocessed until the deadline; the items and keys are in ``left``.
        """
        batch = Batch()
        yield batch
        left = self._write_all(list(batch.requests.values()))
        if left:
            undone = [request.get("PutRequest", {}).get("Item") or request["DeleteRequest"]["Key"] for request in left]
            raise BatchIncomplete(undone, self.table.settings.batch_deadline)

    def _write_all(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
        if len(batches) < 3:  # not worth threads
            return [request for batch in batches for request in self._write_batch(batch)]
        with ThreadPoolExecutor(min(WORKERS, len(batches)), thread_name_prefix="agentmodel-batch") as pool:
            waiting = [pool.submit(self._write_batch, batch) for batch in batches]
            try:
                return [request for done in waiting for request in done.result()]
            except BaseException:  # those under way end; the others are not begun
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _write_batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for attempt in Backoff(seconds=self.table.settings.batch_deadline):
            answer = self.table.call("BatchWriteItem", RequestItems={self.table.name: requests})
            requests = answer.get("UnprocessedItems", {}).get(self.table.name, [])
            if not requests:
                return []
            try:
                attempt.wait(BatchIncomplete(requests, self.table.settings.batch_deadline))
            except BatchIncomplete:
                return requests
        return requests

    def transact(
        self, *, put: Iterable[Entity] = (), put_new: Iterable[Entity] = (), delete: Iterable[ItemKey[Any]] = ()
    ) -> None:
        """Write and delete up to 100 items, all or none.

        Raises:
            Conflict: A condition was not met, or another transaction holds an item; nothing was written.
            ValidationError: More than 100 actions.
        """
        name = self.table.name
        actions: list[dict[str, Any]] = [{"Put": {"TableName": name, "Item": checked(e.to_item())}} for e in put]
        actions += [
            {
                "Put": {
                    "TableName": name,
                    "Item": checked(e.to_item()),
                    "ConditionExpression": "attribute_not_exists(PK)",
                }
            }
            for e in put_new
        ]
        actions += [{"Delete": {"TableName": name, "Key": key.item()}} for key in delete]
        if len(actions) > TRANSACTION:
            raise ValidationError("transaction", len(actions), f"DynamoDB takes at most {TRANSACTION} actions at once")
        if actions:
            self.table.call("TransactWriteItems", TransactItems=actions)


class Batch:
    """The puts and deletes of one `Writer.batch` block."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], dict[str, Any]] = {}

    def put(self, entity: Entity) -> None:
        """Write this entity when the block ends."""
        item = checked(entity.to_item())
        self.requests[item["PK"]["S"], item["SK"]["S"]] = {"PutRequest": {"Item": item}}

    def delete(self, key: ItemKey[Any]) -> None:
        """Delete the item under this key when the block ends."""
        self.requests[key.pk, key.sk] = {"DeleteRequest": {"Key": key.item()}}


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB counts it: UTF-8 bytes of names and values.

    >>> item_bytes({"PK": {"S": "한"}})
    5
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, inner),) = value.items()
    if kind == "S":
        return len(inner.encode())
    if kind == "N":
        return (len(inner) + 1) // 2 + 1
    if kind == "B":
        return len(inner)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in inner.items())
    if kind == "L":
        return 3 + sum(1 + _value_bytes(each) for each in inner)
    if kind in ("SS", "NS", "BS"):
        return sum(_value_bytes({kind[0]: each}) for each in inner)
    return 1  # BOOL and NULL


def checked(item: Item) -> Item:
    """The item, unless it is larger than DynamoDB takes (a `ValidationError` that names its largest attribute)."""
    try:
        if _surely_fits(item):
            return item
        size = item_bytes(item)
    except UnicodeEncodeError:
        rule = "text is Unicode without lone surrogates"
        raise ValidationError(_not_unicode(item), f"item {item_name(item)}", rule) from None
    if size > ITEM_BYTES:
        largest = max(item, key=lambda name: _value_bytes(item[name]))
        raise ValidationError(
            largest, f"item {item_name(item)}", f"an item takes at most {ITEM_BYTES} bytes, this one has {size}"
        )
    return item


def _surely_fits(item: Item) -> bool:
    """Whether a count of characters shows already that the item is not too large; most items end here."""
    characters = 0
    for name, value in item.items():
        for kind, inner in value.items():
            if kind == "S" or kind == "N":  # noqa: PLR1714  # in a tuple it is slower
                if not inner.isascii():
                    inner.encode()  # may raise
                characters += len(name) + len(inner)
            elif kind != "BOOL" and kind != "NULL":  # noqa: PLR1714  # likewise
                return False
    return characters * 4 < ITEM_BYTES


def _not_unicode(item: Item) -> str:
    for name, value in item.items():
        try:
            _value_bytes(value)
        except UnicodeEncodeError:
            return name
    return "item"


def _coalesced(items: Iterable[Item]) -> list[Item]:
    newest: dict[tuple[str, str], Item] = {}
    for item in items:
        newest[item["PK"]["S"], item["SK"]["S"]] = item
    return list(newest.values())
