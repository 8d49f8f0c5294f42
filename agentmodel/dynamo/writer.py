"""Write entities and items: with conditions, in batches of any size, in transactions.

Keys, attributes and DynamoDB's limit of 400 KB are checked before anything is sent. A batch reports what it could not
write, and an update writes the index keys of the attributes that it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import time
from typing import Any, Literal, TypeAlias, TypeVar

from agentmodel._runtime.retry import Backoff
from agentmodel._ttl import is_expired
from agentmodel.dynamo._attribute import Change
from agentmodel.dynamo._item_limits import ITEM_BYTES as ITEM_BYTES  # noqa: PLC0414  # for the history writer
from agentmodel.dynamo._item_limits import checked as checked  # noqa: PLC0414  # likewise
from agentmodel.dynamo._update_expression import Update
from agentmodel.dynamo.entity import Entity, Item, ItemKey, item_name
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import (
    AlreadyExists,
    BatchIncomplete,
    Conflict,
    NotFound,
    StaleVersion,
    TableUnavailable,
    ValidationError,
)

__all__ = ["Batch", "Writer"]

_E = TypeVar("_E", bound=Entity)

_BATCH = 25  # DynamoDB's limit of requests in one BatchWriteItem
WORKERS = 4  # batches sent at once; all keys of a write differ, so their order does not matter
_TRANSACTION = 100  # DynamoDB's limit of actions in one transaction
_DEFERRED = "Deferred"  # marks an item whose look-up is still to be made; no stored item has it
_KEPT = ("UserSessionNM", "GSI1_PK", "GSI1_SK", "SessionStartDT", "SourceID")  # of a session, by whoever began it
_ATTEMPTS = 20  # of a write, while others write first

_Deferral: TypeAlias = Literal["add", "continue"]
"""What is looked up when an item is written: ``add`` writes nothing where there is an item already, ``continue`` keeps
of a stored session what its continuation does not know."""


def deferred(how: _Deferral) -> Item:
    """Return the attribute of an item that was recorded without a look at the table; see `Writer.put_newer`."""
    return {_DEFERRED: {"S": how}}


def is_deferred(item: Mapping[str, Any]) -> bool:
    """Return whether the item, as it is now, is not what will be stored."""
    return _DEFERRED in item


_IS_NEWER = "attribute_not_exists(PK) OR attribute_not_exists(#v) OR #v < :v"


class Writer:
    """Writes into a table.

    Args:
        table: The table.
        clock: Returns the version of a write, a number that grows.

    >>> from agentmodel import Domain
    >>> writer = Writer(model.table, clock=lambda: 1)
    >>> writer.put(Domain(domain_id="DMN913", name="Hotels"))
    >>> model.table.get(Domain.at("DMN913"), consistent=True).name
    'Hotels'
    """

    def __init__(self, table: Table, *, clock: Callable[[], int]) -> None:
        self.table = table
        self._clock = clock

    def put(self, entity: Entity) -> None:
        """Write an entity, replacing what is stored; use `put_new` or `save` if others may write the item too."""
        self._put(checked(self.table.item(entity)))

    def put_new(self, entity: Entity) -> None:
        """Write an entity unless something is stored under its key.

        Raises:
            AlreadyExists: Something is stored under the key; it was not changed.

        >>> from agentmodel import Domain
        >>> model.writer.put_new(Domain(domain_id="DMN001", name="Hotels"))
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.AlreadyExists: Domain DMN001 / METADATA exists already; nothing was ...
        """
        try:
            self._put(checked(self.table.item(entity)), ConditionExpression="attribute_not_exists(PK)")
        except Conflict:
            raise AlreadyExists(
                f"{entity.key} exists already; nothing was written: use it, or write under another id"
            ) from None

    def save(self, entity: Entity, *, existing: bool = False) -> None:
        """Write an entity over the version from which it was read. It then has the new version.

        Args:
            entity: The entity as it was read, with its changes.
            existing: Whether to raise `StaleVersion` for an item without a version that was deleted meanwhile. An item
                with a version is never created again.

        Raises:
            StaleVersion: The item was written since it was read; nothing was changed.

        >>> from agentmodel import User
        >>> first = User(user_id="USR911", name="Ada")
        >>> model.writer.save(first)
        >>> second = model.table.get(User.at("USR911"), consistent=True)
        >>> first.name = "Ada L."
        >>> model.writer.save(first)
        >>> model.writer.save(second)
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.StaleVersion: User USR911 / METADATA was not saved, because it was ...
        """
        before, entity.version = entity.version, self._clock()
        item = checked(self.table.item(entity))
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
            raise StaleVersion(
                f"{entity.key} was not saved, because it was written or deleted since it was read: read it again"
            ) from None
        except Exception:
            entity.version = before
            raise

    def update(self, target: _E | ItemKey[_E], *changes: Change) -> _E:
        """Change single attributes of a stored item, and in the same request the index keys that are made of them.

        If ``target`` is an entity, the other parts of an index key come from it, on the condition that the stored item
        still has them; afterwards the entity has the stored values. If ``target`` is a key, those parts must be among
        the changes. Others may write other attributes at the same time: no write is lost.

            writer.update(Agent.at("AGT001"), Agent.score.to(61.5), Agent.description.to(None))
            writer.update(agent, Agent.executions.plus(1))

        Args:
            target: The entity as it was loaded, or the key of an item.
            changes: Made by an attribute's ``to`` or ``plus``; ``to(None)`` removes an optional attribute.

        Returns:
            The entity as it is stored now.

        Raises:
            NotFound: The item does not exist.
            StaleVersion: A part of an index key was changed since the entity was read, a newer version is stored, or
                the stored item has an older schema.
            ValidationError: A part of an index key is unknown, or a change is not possible for its attribute.

        >>> from agentmodel import Agent
        >>> model.repository.put(Agent(agent_id="AGT911", domain_id="DMN911", name="booker"))
        >>> model.writer.update(Agent.at("AGT911"), Agent.description.to("finds rooms")).description
        'finds rooms'
        """
        attribute = self.table.redaction.attribute
        redacted = [each if each.adds else Change(each.field, attribute(each.field, each.value)) for each in changes]
        update = Update(target, redacted, version=self._clock())
        checked(update.written)
        try:
            answer = self.table.call("UpdateItem", **update.request(self.table.name))
        except Conflict:
            if self.table.get_item(update.key, consistent=True) is None:
                raise NotFound(update.entity.__name__, f"{update.key.pk} / {update.key.sk}") from None
            raise StaleVersion(
                f"{update.key} was not updated: it was written since it was read (read it again), or it has an older "
                "schema (read it and save it whole)"
            ) from None
        stored = update.entity.from_item(answer["Attributes"])
        if isinstance(target, Entity):
            target.attribute_values, target.extra = stored.attribute_values, stored.extra
            return target
        return stored

    def delete(self, key: ItemKey[Any]) -> None:
        """Delete the item under a key; without an item nothing happens.

        >>> from agentmodel import Domain
        >>> model.writer.delete(Domain.at("DMN999"))  # there is none: nothing happens
        """
        self.table.call_to_delete("DeleteItem", TableName=self.table.name, Key=key.item())

    def _put(self, item: Item, **condition: Any) -> None:
        item.pop(_DEFERRED, None)
        self.table.call("PutItem", TableName=self.table.name, Item=item, **condition)

    # Items, for the journal's drainer

    def put_newer(self, item: Item, version: int) -> bool | None:
        """Write an item unless a newer version of it is stored.

        Returns:
            Whether it was written; None when the table has more than the item, because it was `deferred`.

        >>> from agentmodel import User
        >>> item = model.table.item(User(user_id="USR913", name="Ada", version=5))
        >>> model.writer.put_newer(item, 5), model.writer.put_newer(item, 4)
        (True, False)
        """
        if is_deferred(item):
            return self._put_deferred(item, version)
        names, values = {"#v": "Version"}, {":v": {"N": str(version)}}
        try:
            self._put(
                checked(item), ConditionExpression=_IS_NEWER, ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )  # fmt: skip
        except Conflict:
            return False
        return True

    def _put_deferred(self, item: Item, version: int) -> bool | None:
        """Look up what is stored, and write what the two are together; again while others write."""
        key = {name: item[name] for name in ("PK", "SK")}
        adds = item[_DEFERRED]["S"] == "add"
        for _ in range(_ATTEMPTS):
            answer = self.table.call("GetItem", TableName=self.table.name, Key=key, ConsistentRead=True)
            stored: Item = answer.get("Item", {})
            known: Item = {} if is_expired(stored, time()) else stored
            before = stored.get("Version")
            if known and (adds or int((before or {"N": "0"})["N"]) >= version):
                return False
            merged = {**known, **item, **{name: known[name] for name in _KEPT if name in known}}
            condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(PK)"}
            if stored:
                condition = {"ExpressionAttributeNames": {"#v": "Version"}}
                condition["ConditionExpression"] = "attribute_not_exists(#v)" if before is None else "#v = :v"
                if before is not None:
                    condition["ExpressionAttributeValues"] = {":v": before}
            try:
                self._put(checked(merged), **condition)
            except Conflict:
                continue
            return None
        raise TableUnavailable(f"item {item_name(item)} was not written: others wrote it {_ATTEMPTS} times in a row")

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Write items in batches; return those that DynamoDB left unprocessed until the deadline.

        Raises:
            ValidationError: An item is too large; nothing was sent.
            Rejected: DynamoDB rejects an item. It is not known which of the others were written.

        >>> from agentmodel import User
        >>> model.writer.put_many([model.table.item(User(user_id="USR912", name="Ada"))])
        []
        """
        requests = [{"PutRequest": {"Item": checked(item)}} for item in _last_of_each_key(items)]
        return [request["PutRequest"]["Item"] for request in self._write_all(requests)]

    # Batches and transactions

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect any number of puts and deletes, and write them when the block ends.

        A later put or delete replaces an earlier one of the same key. If the block raises, nothing is written.

        Raises:
            BatchIncomplete: DynamoDB left requests unprocessed until the deadline; their items and keys are in
                ``left``.
        """
        batch = Batch(self.table)
        yield batch
        left = self._write_all(list(batch.requests.values()))
        if left:
            unwritten = [
                request.get("PutRequest", {}).get("Item") or request["DeleteRequest"]["Key"] for request in left
            ]
            raise BatchIncomplete(unwritten, self.table.settings.batch_deadline)

    def _write_all(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        batches = [requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH)]
        if len(batches) < 3:  # not worth threads
            return [request for batch in batches for request in self._write_batch(batch)]
        with ThreadPoolExecutor(min(WORKERS, len(batches)), thread_name_prefix="agentmodel-batch") as pool:
            try:
                pending = [pool.submit(self._write_batch, batch) for batch in batches]
            except RuntimeError:  # the interpreter is ending and starts no thread
                return [request for batch in batches for request in self._write_batch(batch)]
            try:
                return [request for done in pending for request in done.result()]
            except BaseException:  # batches that were sent end; the others are not sent
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _write_batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for attempt in Backoff(seconds=self.table.settings.batch_deadline):
            answer = self.table.call_to_delete("BatchWriteItem", RequestItems={self.table.name: requests})
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
        """Write and delete up to 100 items in one transaction: all or none.

        Raises:
            Conflict: A condition was not met, or another transaction is writing one of the items; nothing was written.
            ValidationError: More than 100 actions.

        >>> from agentmodel import Domain, User
        >>> model.writer.transact(put=[User(user_id="USR914", name="Ada")], delete=[Domain.at("DMN914")])
        >>> model.table.get(User.at("USR914"), consistent=True).name
        'Ada'
        """
        name = self.table.name
        actions: list[dict[str, Any]] = [{"Put": {"TableName": name, "Item": checked(self.table.item(e))}} for e in put]
        actions += [
            {
                "Put": {
                    "TableName": name,
                    "Item": checked(self.table.item(e)),
                    "ConditionExpression": "attribute_not_exists(PK)",
                }
            }
            for e in put_new
        ]
        actions += [{"Delete": {"TableName": name, "Key": key.item()}} for key in delete]
        if len(actions) > _TRANSACTION:
            raise ValidationError("transaction", len(actions), f"must have at most {_TRANSACTION} actions")
        if actions:
            self.table.call_to_delete("TransactWriteItems", TransactItems=actions)


class Batch:
    """The puts and deletes of one `Writer.batch` block.

    Args:
        table: The table.

    Attributes:
        table: The same.
        requests: The requests by their keys; the last one for a key wins.

    >>> from agentmodel import Domain
    >>> with model.writer.batch() as batch:
    ...     batch.put(Domain(domain_id="DMN911", name="Hotels"))
    ...     batch.put(Domain(domain_id="DMN912", name="Flights"))
    ...     batch.delete(Domain.at("DMN912"))
    >>> found = model.table.get_many([Domain.at("DMN911"), Domain.at("DMN912")], consistent=True)
    >>> [domain and domain.name for domain in found]
    ['Hotels', None]
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.requests: dict[tuple[str, str], dict[str, Any]] = {}

    def put(self, entity: Entity) -> None:
        """Write this entity when the block ends."""
        item = checked(self.table.item(entity))
        self.requests[item["PK"]["S"], item["SK"]["S"]] = {"PutRequest": {"Item": item}}

    def delete(self, key: ItemKey[Any]) -> None:
        """Delete the item under this key when the block ends."""
        self.requests[key.pk, key.sk] = {"DeleteRequest": {"Key": key.item()}}


def _last_of_each_key(items: Iterable[Item]) -> list[Item]:
    newest: dict[tuple[str, str], Item] = {}
    for item in items:
        newest[item["PK"]["S"], item["SK"]["S"]] = item
    return list(newest.values())
