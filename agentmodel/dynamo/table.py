"""The one table: its client, its creation, and the reads that everything else is made of.

A `Table` is bound to its settings, not to the classes: two tables, regions or endpoints live in one process. All
entities share its one botocore client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from types import TracebackType
from typing import Any, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from pynamodb.connection.base import MetaTable
from pynamodb.connection.table import TableConnection

from agentmodel.config import Settings
from agentmodel.dynamo.backoff import Backoff
from agentmodel.dynamo.entity import BOUND, Entity, Item, ItemKey
from agentmodel.dynamo.wire import UNREADABLE, SharedConnection
from agentmodel.exceptions import (
    BatchIncomplete,
    ConfigurationError,
    Conflict,
    Rejected,
    TableNotFound,
    TableUnavailable,
)
from agentmodel.ttl import EXPIRES_AT, is_expired

__all__ = ["INDEX", "Found", "Query", "Table"]

E = TypeVar("E", bound=Entity)

INDEX = "GSI1"
GET_KEYS = 100  # DynamoDB's limit of keys in one BatchGetItem

_KEYS = (("PK", "SK"), ("GSI1_PK", "GSI1_SK"))
_REFUSED = ("ValidationException", "ItemCollectionSizeLimitExceededException")


@dataclass(frozen=True, slots=True)
class Query:
    """One Query request: a partition, a condition on the sort key, an order.

    Attributes:
        partition: The partition key.
        index: ``"GSI1"``, or None for the table.
        prefix: The sort key begins with it; empty for all.
        between: Or it lies between these two, both included.
        newest_first: Descending order of the sort key.
    """

    partition: str
    index: str | None = None
    prefix: str = ""
    between: tuple[str, str] | None = None
    newest_first: bool = False

    def request(self) -> dict[str, Any]:
        """The request as DynamoDB's API has it, without table name, limit and start."""
        pk, sk = _KEYS[self.index is not None]
        condition, values = f"{pk} = :pk", {":pk": {"S": self.partition}}
        if self.between is not None:
            condition += f" AND {sk} BETWEEN :low AND :high"
            values |= {":low": {"S": self.between[0]}, ":high": {"S": self.between[1]}}
        elif self.prefix:
            condition += f" AND begins_with({sk}, :sk)"
            values[":sk"] = {"S": self.prefix}
        request: dict[str, Any] = {
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ScanIndexForward": not self.newest_first,
        }
        if self.index is not None:
            request["IndexName"] = self.index
        return request


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found: its items, where it stopped (None at the end), and how many items DynamoDB read for it."""

    items: list[Item] = field(default_factory=list)
    last: Item | None = None
    scanned: int = 0


class Table:
    """The table of an installation.

    Args:
        settings: Names the table, region, endpoint and credentials.

    Example:
        >>> with Table(Settings(table="History", endpoint="http://127.0.0.1:8000")) as table:
        ...     table.name
        'History'
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.table
        self.where = settings.endpoint or f"DynamoDB in {settings.region}"
        secret = settings.secret_access_key
        self._connection = SharedConnection(
            region=settings.region,
            host=settings.endpoint,
            read_timeout_seconds=settings.dynamodb_timeout,
            connect_timeout_seconds=min(1.0, settings.dynamodb_timeout),
            retry_configuration={"total_max_attempts": settings.dynamodb_attempts, "mode": "standard"},
            max_pool_connections=32,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        )

    @property
    def client(self) -> Any:
        """The one botocore client, made when it is first needed."""
        return self._connection.client

    def close(self) -> None:
        """Close the client's connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """One call of DynamoDB's API, with its errors as ours.

        Raises:
            TableNotFound: The table does not exist.
            Conflict: A condition was not met.
            Rejected: DynamoDB refuses the request for good.
            TableUnavailable: It does not answer, throttles, or fails, after botocore's retries.
            ConfigurationError: No credentials.
        """
        try:
            answer: dict[str, Any] = self.client._make_api_call(operation, request)  # noqa: SLF001  # as PynamoDB calls it: by name
        except ClientError as error:
            raise self._meant(operation, error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigurationError(
                f"no AWS credentials for {self.where}: give AGENTMODEL_ACCESS_KEY_ID and AGENTMODEL_SECRET_ACCESS_KEY, "
                f"or any source that botocore knows ({error})"
            ) from error
        except BotoCoreError as error:
            raise TableUnavailable(
                f"{self.where} does not answer {operation} (AGENTMODEL_ENDPOINT): {error}"
            ) from error
        if UNREADABLE in answer:
            raise TableUnavailable(f"{self.where} answers {operation} with what is no JSON (AGENTMODEL_ENDPOINT)")
        return answer

    def _meant(self, operation: str, error: ClientError) -> Exception:
        code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
        if code == "ResourceNotFoundException":
            return TableNotFound(self.name, self.where)
        if code == "ConditionalCheckFailedException":
            return Conflict(f"{operation}: the condition was not met")
        if code == "TransactionCanceledException":
            return Conflict(f"{operation}: the transaction was cancelled, nothing was written: {message}")
        if code in _REFUSED:
            return Rejected(f"{operation}: {self.where} refuses the request: {message}")
        return TableUnavailable(f"{self.where} answers {operation} with {code}: {message}")

    # The table itself

    def create(self) -> bool:
        """Create the table with its index and TTL; False when it is there already.

        Raises:
            TableUnavailable: DynamoDB does not answer, or the table is not active after 60 s.
        """
        if self.exists():
            return False
        attributes = [name for pair in _KEYS for name in pair]
        self.call(
            "CreateTable",
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in attributes],
            KeySchema=_schema(*_KEYS[0]),
            GlobalSecondaryIndexes=[
                {"IndexName": INDEX, "KeySchema": _schema(*_KEYS[1]), "Projection": {"ProjectionType": "ALL"}}
            ],
        )
        self._wait_until_active()
        self.call(
            "UpdateTimeToLive",
            TableName=self.name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRES_AT},
        )
        return True

    def switch_stream_on(self) -> bool:
        """Switch the table's stream on, with new and old images; False when it is on already.

        Raises:
            TableNotFound: There is no such table.
            TableUnavailable: DynamoDB does not answer, or the table is not active after 60 s.
        """
        if self.describe().get("StreamSpecification", {}).get("StreamEnabled"):
            return False
        wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        self.call("UpdateTable", TableName=self.name, StreamSpecification=wanted)
        self._wait_until_active()
        return True

    def _wait_until_active(self) -> None:
        for attempt in Backoff(seconds=60, first=0.05, most=2.0):
            if self.describe().get("TableStatus") == "ACTIVE":
                break
            attempt.wait(f"table {self.name} is not active after 60 s")

    def exists(self) -> bool:
        """Whether the table is there."""
        try:
            self.describe()
        except TableNotFound:
            return False
        return True

    def delete(self) -> None:
        """Delete the table and all it holds."""
        self.call("DeleteTable", TableName=self.name)

    def describe(self) -> dict[str, Any]:
        """The live table, as DescribeTable has it.

        Raises:
            TableNotFound: There is no such table.
        """
        answer: dict[str, Any] = self.call("DescribeTable", TableName=self.name)["Table"]
        return answer

    def differences(self) -> list[tuple[str, str, str]]:
        """What the live table lacks of the design: code, reason and remedy of each difference.

        Raises:
            TableNotFound: There is no such table.
        """
        live = self.describe()
        found = []
        if _keys_of(live) != _KEYS[0]:
            reason = f"its keys are {', '.join(_keys_of(live))}, not PK and SK"
            found.append(("T201", reason, "create another table: keys cannot be changed"))
        index = next((i for i in live.get("GlobalSecondaryIndexes", ()) if i["IndexName"] == INDEX), None)
        if index is None:
            found.append(("T202", f"it has no index {INDEX}", "add one with keys GSI1_PK and GSI1_SK, projection ALL"))
        elif _keys_of(index) != _KEYS[1] or index["Projection"]["ProjectionType"] != "ALL":
            reason = f"its index {INDEX} is not GSI1_PK and GSI1_SK with projection ALL"
            found.append(("T202", reason, "delete the index and make it anew"))
        ttl = self.call("DescribeTimeToLive", TableName=self.name)["TimeToLiveDescription"]
        if ttl.get("AttributeName") != EXPIRES_AT or ttl.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
            found.append(("T203", f"its TTL is not on {EXPIRES_AT}", "switch it on, or nothing ever expires"))
        return found

    def verify(self) -> list[str]:
        """What the live table lacks of the design: one line a difference, none when it fits.

        Raises:
            TableNotFound: There is no such table.
        """
        return [f"{reason}: {remedy}" for _, reason, remedy in self.differences()]

    @contextlib.contextmanager
    def bound(self) -> Iterator[Self]:
        """Let PynamoDB's own methods of the entities (``Agent.query``, ``agent.save``) work on this table.

        The binding holds for the current context (thread or task) and ends with the block.
        """
        connection = TableConnection(self.name, meta_table=MetaTable({
            "TableName": self.name,
            "KeySchema": _schema(*_KEYS[0]),
            "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for pair in _KEYS for n in pair],
            "GlobalSecondaryIndexes": [{"IndexName": INDEX, "KeySchema": _schema(*_KEYS[1])}],
        }))  # fmt: skip
        self._connection._tables.update(connection.connection._tables)  # noqa: SLF001  # PynamoDB offers no other way
        connection.connection = self._connection
        token = BOUND.set(connection)
        try:
            yield self
        finally:
            BOUND.reset(token)

    # Reads

    def get(self, key: ItemKey[E], *, consistent: bool = False) -> E | None:
        """The entity under a key, or None when there is none or it has expired.

        Raises:
            CorruptItem: The stored item cannot be read as its class.
        """
        item = self.get_item(key, consistent=consistent)
        return None if item is None else key.entity.from_item(item)

    def get_item(self, key: ItemKey[Any], *, consistent: bool = False) -> Item | None:
        """The stored item under a key, or None when there is none or it has expired."""
        answer = self.call("GetItem", TableName=self.name, Key=key.item(), ConsistentRead=consistent)
        item: Item | None = answer.get("Item")
        return None if item is None or is_expired(item, time()) else item

    def get_many(self, keys: Sequence[ItemKey[E]], *, consistent: bool = False) -> list[E | None]:
        """The entities under many keys, in the order asked; None where there is none.

        Raises:
            BatchIncomplete: DynamoDB left keys unprocessed until the deadline; they are in its ``left``.
        """
        stored = self.get_items([key.item() for key in dict.fromkeys(keys)], consistent=consistent)
        found = {(item["PK"]["S"], item["SK"]["S"]): item for item in stored}
        now = time()
        items = [found.get((key.pk, key.sk)) for key in keys]
        return [
            None if item is None or is_expired(item, now) else key.entity.from_item(item)
            for key, item in zip(keys, items, strict=True)
        ]

    def get_items(self, keys: Sequence[Item], *, consistent: bool = False) -> Iterator[Item]:
        """The stored items under different keys, expired ones too, in any order.

        Raises:
            BatchIncomplete: DynamoDB left keys unprocessed until the deadline; they are in its ``left``.
        """
        for start in range(0, len(keys), GET_KEYS):
            yield from self._get_batch(list(keys[start : start + GET_KEYS]), consistent)

    def _get_batch(self, keys: list[Item], consistent: bool) -> Iterator[Item]:
        for attempt in Backoff(seconds=self.settings.batch_deadline):
            asked = {self.name: {"Keys": keys, "ConsistentRead": consistent}}
            answer = self.call("BatchGetItem", RequestItems=asked)
            yield from answer["Responses"].get(self.name, ())
            keys = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not keys:
                return
            attempt.wait(BatchIncomplete(keys, self.settings.batch_deadline))

    def query(
        self, query: Query, *, limit: int | None = None, start: Item | None = None, consistent: bool = False
    ) -> Found:
        """The items of a query, up to ``limit`` that have not expired (all when None), from after ``start``.

        ``last`` of the answer continues it. The index cannot be read consistently.
        """
        items: list[Item] = []
        scanned = 0
        request = query.request() | {"TableName": self.name}
        if query.index is None:
            request["ConsistentRead"] = consistent
        while True:
            if start is not None:
                request["ExclusiveStartKey"] = start
            if limit is not None:
                request["Limit"] = limit - len(items)
            answer = self.call("Query", **request)
            now = time()
            items += [item for item in answer["Items"] if not is_expired(item, now)]
            scanned += answer.get("ScannedCount", 0)
            start = answer.get("LastEvaluatedKey")
            if start is None or (limit is not None and len(items) >= limit):
                return Found(items, start, scanned)

    def scan(self, *, start: Item | None = None) -> Iterator[Item]:
        """Every stored item, expired ones too (the warehouse asks what expired), from after the key ``start``."""
        for page in self.scan_pages(start=start):
            yield from page

    def scan_pages(self, *, start: Item | None = None, segment: int = 0, segments: int = 1) -> Iterator[list[Item]]:
        """Every stored item, a list for each answer; with ``segments``, those of one of so many parts of the table."""
        request: dict[str, Any] = {"TableName": self.name}
        if segments > 1:
            request |= {"Segment": segment, "TotalSegments": segments}
        if start is not None:
            request["ExclusiveStartKey"] = start
        while True:
            answer = self.call("Scan", **request)
            yield answer["Items"]
            if answer.get("LastEvaluatedKey") is None:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _keys_of(description: Mapping[str, Any]) -> tuple[str, ...]:
    schema: Iterable[Mapping[str, str]] = description["KeySchema"]
    return tuple(part["AttributeName"] for part in sorted(schema, key=lambda part: part["KeyType"]))
