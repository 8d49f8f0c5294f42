"""Connect to the table, create it, and read from it.

A `Table` belongs to its settings and not to the entity classes, so one process can use several tables, regions or
endpoints. All entities share the table's one botocore client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic, time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.parsers import ResponseParserError
from pynamodb.connection.base import MetaTable
from pynamodb.connection.table import TableConnection

from agentmodel._log import REWRITERS, logger
from agentmodel._redaction import Redaction, redaction_of
from agentmodel._runtime.circuit_breaker import CircuitBreaker
from agentmodel._runtime.clock import HybridClock
from agentmodel._runtime.lease import WAIT, Lease, hold
from agentmodel._runtime.retry import Backoff
from agentmodel._schema_change import SchemaChange
from agentmodel._ttl import EXPIRES_AT, is_expired
from agentmodel._values.urls import without_user
from agentmodel.config import Settings
from agentmodel.dynamo import _binding
from agentmodel.dynamo._deletion_marks import Send, mark_deletions
from agentmodel.dynamo._fast_client import NOT_JSON, SharedConnection
from agentmodel.dynamo._guarded_calls import GuardedCalls
from agentmodel.dynamo._leases import TableLeases
from agentmodel.dynamo._table_migration import FORMAT_KEY, Progress, TableMigration, change_request, check_format
from agentmodel.dynamo._written_items import OnWrite, is_write, send_and_tell
from agentmodel.dynamo.entity import Entity, Item, ItemKey
from agentmodel.exceptions import (
    BatchIncomplete,
    ConfigurationError,
    Conflict,
    CorruptItem,
    Rejected,
    TableNotFound,
    TableUnavailable,
)

if TYPE_CHECKING:
    from agentmodel.privacy import Redactor

__all__ = ["Query", "Table"]

_E = TypeVar("_E", bound=Entity)
_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logger(__name__)
INDEX = "GSI1"
_PROBES = 60  # that one thread makes, a second apart, while DynamoDB does not answer
_GET_KEYS = 100  # DynamoDB's limit of keys in one BatchGetItem

_KEYS = (("PK", "SK"), ("GSI1_PK", "GSI1_SK"))


def _silent(what: str, done: int, of: int) -> None:
    """Show no progress."""


def _schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


DEFINITION: Final[Mapping[str, Any]] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for pair in _KEYS for name in pair],
    "KeySchema": _schema(*_KEYS[0]),
    "GlobalSecondaryIndexes": [
        {"IndexName": INDEX, "KeySchema": _schema(*_KEYS[1]), "Projection": {"ProjectionType": "ALL"}}
    ],
}
"""The table as CreateTable takes it, and `AWS::DynamoDB::Table` of CloudFormation; without its name."""
TIME_TO_LIVE: Final[Mapping[str, Any]] = {"Enabled": True, "AttributeName": EXPIRES_AT}
RECOVERY: Final[Mapping[str, Any]] = {"PointInTimeRecoveryEnabled": True}
"""The TTL and the point-in-time recovery as DynamoDB's API takes them, and CloudFormation."""
_REJECTING_CODES = ("ValidationException", "ItemCollectionSizeLimitExceededException")


@dataclass(frozen=True, slots=True)
class Query:
    """One Query request: a partition, a condition on the sort key, and an order.

    Attributes:
        partition: The partition key.
        index: ``"GSI1"``, or None for the table.
        prefix: The beginning of the sort key; empty for all of the partition.
        between: The lowest and highest sort key, both included; used instead of ``prefix``.
        newest_first: Whether the order of the sort keys is descending.

    >>> Query("AGT002", prefix="TL").request()
    {'KeyConditionExpression': 'PK = :pk AND begins_with(SK, :sk)', 'ExpressionAttributeValues': {':pk':
    {'S': 'AGT002'}, ':sk': {'S': 'TL'}}, 'ScanIndexForward': True}
    >>> [item["ToolNM"]["S"] for item in model.table.query(Query("AGT002", prefix="TL")).items]
    ['read_reviews', 'book_table']
    """

    partition: str
    index: str | None = None
    prefix: str = ""
    between: tuple[str, str] | None = None
    newest_first: bool = False

    def request(self) -> dict[str, Any]:
        """Return the request in the form of DynamoDB's API, without table name, limit and start.

        >>> Query("DMN001", index="GSI1", prefix="AGTSCORE#", newest_first=True).request()["ScanIndexForward"]
        False
        """
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
class QueryResult:
    """The result of a query.

    Attributes:
        items: The items.
        last: The key to continue after; None at the end.
        scanned: How many items DynamoDB read for it.
    """

    items: list[Item] = field(default_factory=list)
    last: Item | None = None
    scanned: int = 0


class Table:
    """The table of an installation.

    Args:
        settings: Has the table's name, region, endpoint and credentials.
        redact: What is redacted in everything that is written; None for what the settings say.

    Attributes:
        name: Name of the table.
        where: Region or endpoint, as errors name it.
        breaker: The circuit breaker of all calls. A call without an answer opens it; while it is open, calls raise
            `CircuitOpen` at once. It closes by itself, a second after DynamoDB answers again.
        redaction: Redacts what is written.
        on_write: Called with what PynamoDB's own methods and `change_item` wrote, replaced or deleted; set by
            `AgentModel`, whose caches have copies of it.

    Example:
        >>> from agentmodel import Settings
        >>> with Table(Settings(table="History", endpoint="http://127.0.0.1:8000")) as table:
        ...     table.name
        'History'
    """

    def __init__(self, settings: Settings, *, redact: bool | str | Redactor | None = None) -> None:
        self.settings = settings
        self._warned_of_copies = False
        self.on_write: OnWrite | None = None
        self.redaction: Redaction = redaction_of(settings, redact)
        if self.redaction.active:
            REWRITERS.append(self.redaction.log_line)
        self.name = settings.table
        endpoint = None if settings.endpoint is None else without_user(settings.endpoint)
        self.where = endpoint or f"DynamoDB in {settings.region}"
        secret = settings.secret_access_key
        self.breaker = CircuitBreaker(
            self._probe,
            clock=monotonic,
            store="DynamoDB",
            meanwhile="records wait in the journal, and reads are answered from Valkey as far as it has them",
            probes=_PROBES,
        )
        self._connection = SharedConnection(
            prepare=self._guard,
            sender=self._send_own,
            region=settings.region,
            host=endpoint,
            read_timeout_seconds=settings.dynamodb_timeout,
            connect_timeout_seconds=min(1.0, settings.dynamodb_timeout),
            retry_configuration={"total_max_attempts": settings.dynamodb_attempts, "mode": "standard"},
            max_pool_connections=32,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        )
        self._connection.redaction = self.redaction

    @property
    def client(self) -> Any:
        """The one botocore client, created when it is first needed."""
        return self._connection.client

    def close(self) -> None:
        """Close the client's connections, and end a binding of the process to this table."""
        _binding.unbind(self._bindable)
        self.breaker.close()
        if self.redaction.log_line in REWRITERS:
            REWRITERS.remove(self.redaction.log_line)
        self._connection.close()

    def _guard(self, client: Any) -> None:
        self._calls = GuardedCalls(client, self.breaker, where=self.where, seconds=self.settings.dynamodb_timeout)

    def _probe(self) -> None:
        """Read a key that no item has."""
        _ = self.client  # creates it after a fork
        self._calls.probe("GetItem", {"TableName": self.name, "Key": {"PK": {"S": "PROBE"}, "SK": {"S": "PROBE"}}})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Call an operation of DynamoDB's API and translate its errors.

        Raises:
            TableNotFound: The table does not exist.
            Conflict: A condition was not met, or a transaction was cancelled.
            Rejected: DynamoDB rejects the request; trying it again changes nothing.
            TableUnavailable: DynamoDB does not answer, throttles or fails, after botocore's retries; it was not asked
                because it does not answer at present (`CircuitOpen`).
            ConfigurationError: There are no credentials.

        >>> model.table.call("DescribeTable", TableName=model.table.name)["Table"]["TableStatus"]
        'ACTIVE'
        """
        try:
            answer: dict[str, Any] = self.client._make_api_call(operation, request)  # noqa: SLF001  # as PynamoDB calls it: by name
        except ClientError as error:
            raise self._translated(operation, error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigurationError(
                f"no AWS credentials for {self.where}: set AGENTMODEL_ACCESS_KEY_ID and AGENTMODEL_SECRET_ACCESS_KEY, "
                f"or use any other source that botocore reads ({error})"
            ) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise TableUnavailable(
                f"{self.where} did not answer {operation}; if the address is wrong, set AGENTMODEL_ENDPOINT: {error}"
            ) from error
        if NOT_JSON in answer:
            raise TableUnavailable(
                f"{self.where} answered {operation} with a text that is not JSON: "
                "set AGENTMODEL_ENDPOINT to the address of DynamoDB"
            )
        return answer

    def call_to_delete(self, operation: str, **request: Any) -> dict[str, Any]:
        """Call an operation that deletes items, after a mark was written of each, so that none is taken for expired.

        Raises:
            TableUnavailable: The marks could not be written; nothing was deleted.
        """
        self._mark_deletions(lambda name, marks: self.call(name, **marks), operation, request)
        return self.call(operation, **request)

    def _mark_deletions(self, send: Send, operation: str, request: Mapping[str, Any]) -> None:
        mark_deletions(send, operation, request, table=self.name, seconds=self.settings.batch_deadline)

    def _send_own(self, send: Send, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request of PynamoDB's own methods."""
        self._mark_deletions(send, operation, request)
        if is_write(operation):
            if self.on_write is not None:
                return send_and_tell(send, operation, request, table=self.name, tell=self.on_write)
            if self.settings.valkey_url is not None and not self._warned_of_copies:
                self._warned_of_copies = True
                _log.warning(
                    "table.copies_left: PynamoDB's own methods wrote into %s, which is bound without its model: copies "
                    "in Valkey stay until they expire. Bind the model: call `model.bind()`, or work in `with "
                    "model.bound():`", self.name,
                )  # fmt: skip
        return send(operation, request)

    def _translated(self, operation: str, error: ClientError) -> Exception:
        code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
        if code == "ResourceNotFoundException":
            return TableNotFound(self.name, self.where)
        if code == "ConditionalCheckFailedException":
            return Conflict(f"{operation}: the condition was not met, nothing was written")
        if code == "TransactionCanceledException":
            return Conflict(f"{operation}: the transaction was cancelled, nothing was written: {message}")
        if code in _REJECTING_CODES:
            return Rejected(f"{self.where} rejected {operation}: {message}")
        return TableUnavailable(f"{self.where} answered {operation} with {code}: {message}")

    # The table itself

    def create(self) -> bool:
        """Create the table with its index and TTL.

        Returns:
            Whether it was created; False when it exists already.

        Raises:
            TableUnavailable: DynamoDB does not answer, or the table is not active after 60 s.

        >>> model.table.create()  # it exists already
        False
        """
        if self.exists():
            return False
        self.call("CreateTable", TableName=self.name, **DEFINITION)
        self._wait_until_active()
        self.call("UpdateTimeToLive", TableName=self.name, TimeToLiveSpecification=TIME_TO_LIVE)
        return True

    def protect(self) -> bool:
        """Enable point-in-time recovery and deletion protection, as the template for AWS does.

        Returns:
            Whether anything was enabled; False when both were.

        Raises:
            TableNotFound: The table does not exist.
            TableUnavailable: DynamoDB does not answer, or the table is not active after 60 s.

        >>> from agentmodel import AgentModel
        >>> with AgentModel.from_settings(model.settings, table="Protected", valkey_url=None) as own:
        ...     created = own.table.create()
        ...     own.table.protect(), own.table.protect()
        (True, False)
        """
        backups = self.call("DescribeContinuousBackups", TableName=self.name)["ContinuousBackupsDescription"]
        recovers = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"
        if not recovers:
            self.call("UpdateContinuousBackups", TableName=self.name, PointInTimeRecoverySpecification=RECOVERY)
        protected = self.describe().get("DeletionProtectionEnabled", False)
        if not protected:
            self.call("UpdateTable", TableName=self.name, DeletionProtectionEnabled=True)
            self._wait_until_active()
        return not (recovers and protected)

    def enable_stream(self) -> bool:
        """Enable the table's stream, with new and old images.

        Returns:
            Whether it was enabled; False when it is enabled already.

        Raises:
            TableNotFound: The table does not exist.
            TableUnavailable: DynamoDB does not answer, or the table is not active after 60 s.

        >>> from agentmodel import AgentModel
        >>> with AgentModel.from_settings(model.settings, table="Streamed", valkey_url=None) as own:
        ...     created = own.table.create()
        ...     own.table.enable_stream(), own.table.enable_stream()
        (True, False)
        """
        if self.describe().get("StreamSpecification", {}).get("StreamEnabled"):
            return False
        wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        self.call("UpdateTable", TableName=self.name, StreamSpecification=wanted)
        self._wait_until_active()
        return True

    def _wait_until_active(self) -> None:
        for attempt in Backoff(seconds=60, first=0.05, longest=2.0):
            if self.describe().get("TableStatus") == "ACTIVE":
                break
            attempt.wait(f"table {self.name} is not active after 60 s: wait until it is, and try again")

    def exists(self) -> bool:
        """Return whether the table exists.

        >>> model.table.exists()
        True
        """
        try:
            self.describe()
        except TableNotFound:
            return False
        return True

    def delete(self) -> None:
        """Delete the table with all its items.

        >>> from agentmodel import AgentModel
        >>> with AgentModel.from_settings(model.settings, table="Scratch", valkey_url=None) as own:
        ...     created = own.table.create()
        ...     own.table.delete()
        ...     own.table.exists()
        False
        """
        self.call("DeleteTable", TableName=self.name)

    def describe(self) -> dict[str, Any]:
        """Return the description of the live table, as DescribeTable gives it.

        Raises:
            TableNotFound: The table does not exist.

        >>> [index["IndexName"] for index in model.table.describe()["GlobalSecondaryIndexes"]]
        ['GSI1']
        """
        answer: dict[str, Any] = self.call("DescribeTable", TableName=self.name)["Table"]
        return answer

    def differences(self) -> list[tuple[str, str, str]]:
        """Return the differences between the live table and the design: code, reason and remedy of each.

        Raises:
            TableNotFound: The table does not exist.

        >>> [code for code, reason, remedy in model.table.differences()]
        []
        """
        live = self.describe()
        found = []
        if _keys_of(live) != _KEYS[0]:
            reason = f"its keys are {', '.join(_keys_of(live))}, not PK and SK"
            found.append(("T201", reason, "create another table, because keys cannot be changed"))
        index = next((i for i in live.get("GlobalSecondaryIndexes", ()) if i["IndexName"] == INDEX), None)
        if index is None:
            found.append(("T202", f"it has no index {INDEX}", "add one with keys GSI1_PK and GSI1_SK, projection ALL"))
        elif _keys_of(index) != _KEYS[1] or index["Projection"]["ProjectionType"] != "ALL":
            reason = f"its index {INDEX} is not GSI1_PK and GSI1_SK with projection ALL"
            found.append(("T202", reason, "delete the index and create it again"))
        ttl = self.call("DescribeTimeToLive", TableName=self.name)["TimeToLiveDescription"]
        if ttl.get("AttributeName") != EXPIRES_AT or ttl.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
            found.append(
                ("T203", f"its TTL is not enabled on {EXPIRES_AT}", "enable it, or expired items are never deleted")
            )
        return found

    def verify(self) -> list[str]:
        """Return the differences between the live table and the design, one line each.

        Raises:
            TableNotFound: The table does not exist.

        >>> model.table.verify()
        []
        """
        return [f"{reason}: {remedy}" for _, reason, remedy in self.differences()]

    # Data of other versions

    def check_format(self) -> None:
        """Refuse a table whose items a newer version has changed; one read, for work on many items.

        Raises:
            NewerData: This version is too old for the table.

        >>> model.table.check_format()  # it raises NewerData where a newer version has changed the table
        """
        check_format(self.call("GetItem", TableName=self.name, Key=FORMAT_KEY).get("Item", {}))

    def migration(self, *, progress: Progress = _silent) -> list[SchemaChange]:
        """Return what `migrate` would do, and change nothing. The table is read once, unless it is up to date.

        Raises:
            NewerData: A newer version has changed the table.
            TableNotFound: The table does not exist.

        >>> [change.text for change in model.table.migration()]
        []
        """
        return self._migration.changes(progress)

    def migrate(self, *, wait: float = WAIT, progress: Progress = _silent) -> list[SchemaChange]:
        """Bring the items that an earlier version wrote up to this one, beside whoever records meanwhile.

        A migration that was stopped goes on where it was.

        Args:
            wait: Seconds to wait for an import, seed or repair that is under way; 0 does not wait.
            progress: Called with ``items``, how many were looked at, and about how many there are.

        Returns:
            What was done.

        Raises:
            NewerData: A newer version has changed the table.
            LeaseHeld: Another works on the table for longer than ``wait``.
            TableNotFound: The table does not exist.

        >>> model.table.migrate()  # this version made it: nothing is to be done
        []
        """
        with self.lease(doing="migrate", wait=wait) as lease:
            return self._migration.migrate(lease.checked(progress))

    def forget_place(self, owner: str) -> int:
        """Remove the place where a migration was stopped if it is the key of a user's item; the next one begins anew.

        Args:
            owner: The user's id.

        Returns:
            1 if it was removed, else 0.
        """
        return self._migration.forget_place(owner)

    @property
    def _migration(self) -> TableMigration:
        return TableMigration(self.call, self.name, change=self.change_item, clock=HybridClock())

    def change_item(self, before: Item, after: Item | None) -> None:
        """Write the attributes in which an item differs, unless it was changed since it was read.

        Args:
            before: The item as it was read.
            after: The item as it should be, also under another key; None to delete it.

        Raises:
            Conflict: It was changed, or something is stored under its new key; nothing was written.

        >>> from agentmodel import Domain
        >>> domain = Domain(domain_id="DMN932", name="Hotels")
        >>> model.repository.put(domain)
        >>> before = model.table.get_item(domain.key, consistent=True)
        >>> model.table.change_item(before, before | {"Description": {"S": "finds rooms"}})
        >>> model.table.get_item(domain.key, consistent=True)["Description"]
        {'S': 'finds rooms'}
        """
        operation, request = change_request(self.name, before, after)
        self.call_to_delete(operation, **request)
        if self.on_write is not None:
            self.on_write([before, *([] if after is None else [after])])

    @contextlib.contextmanager
    def bound(self) -> Iterator[Self]:
        """Let PynamoDB's own methods on the entities (``Agent.query``, ``agent.save``) use this table in a block.

        The binding holds for the current context (thread or task), before that of `bind`, and ends with the block.

        >>> from agentmodel import Agent
        >>> with model.table.bound():
        ...     [agent.name for agent in Agent.query("AGT001")]
        ['map agent']
        """
        with _binding.bound_to(self._bindable):
            yield self

    def bind(self) -> None:
        """Let PynamoDB's own methods on the entities use this table in the whole process, until `close`.

        Raises:
            ConfigurationError: Another table is bound to the process.

        >>> from agentmodel import Agent
        >>> with Table(model.settings) as own:
        ...     own.bind()
        ...     Agent.get("AGT001").name
        'map agent'
        """
        _binding.bind(self._bindable)

    def run(self, function: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
        """Call one of PynamoDB's own methods with this table bound: ``table.run(Agent.get, "AGT001")``.

        >>> from agentmodel import Agent
        >>> model.table.run(Agent.get, "AGT001").name
        'map agent'
        """
        with self.bound():
            return function(*arguments, **options)

    @cached_property
    def _bindable(self) -> TableConnection:
        """PynamoDB's connection to this table, which uses the one client."""
        connection = TableConnection(self.name, meta_table=MetaTable({
            "TableName": self.name,
            "KeySchema": _schema(*_KEYS[0]),
            "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for pair in _KEYS for n in pair],
            "GlobalSecondaryIndexes": [{"IndexName": INDEX, "KeySchema": _schema(*_KEYS[1])}],
        }))  # fmt: skip
        self._connection._tables.update(connection.connection._tables)  # noqa: SLF001  # PynamoDB offers no other way
        connection.connection = self._connection
        return connection

    @contextlib.contextmanager
    def lease(self, name: str = "catalogue", *, doing: str, wait: float = WAIT) -> Iterator[Lease]:
        """Let only one process or thread at a time do something with the table, from ``with`` to the end of the block.

        Args:
            name: Name of the lease; those who use the same one exclude each other.
            doing: What is done, for whoever has to wait.
            wait: Seconds to wait for another holder; 0 does not wait.

        Raises:
            ValidationError: ``wait`` is no number from 0 up.
            LeaseHeld: Another holds it for longer.
            NewerData: A newer version has changed the table.
            TableUnavailable: DynamoDB does not answer.

        >>> with model.table.lease(doing="a repair"):
        ...     pass  # nobody else imports, seeds or repairs meanwhile
        """
        with hold(TableLeases(self.call, self.name), name, doing=doing, wait=wait) as lease:
            self.check_format()
            yield lease

    def item(self, entity: Entity) -> Item:
        """Redact an entity, and return the item that is written of it.

        Raises:
            ValidationError: A key cannot be made of the attributes.

        >>> from agentmodel import Domain
        >>> model.table.item(Domain(domain_id="DMN001", name="Hotels"))["PK"]
        {'S': 'DMN001'}
        """
        self.redaction.entity(entity)
        return entity.to_item()

    # Reads

    def get(self, key: ItemKey[_E], *, consistent: bool = False) -> _E | None:
        """Return the entity under a key, or None when there is none or it has expired.

        Raises:
            CorruptItem: The stored item cannot be read as its class.

        >>> from agentmodel import Agent
        >>> model.table.get(Agent.at("AGT001")).name
        'map agent'
        """
        item = self.get_item(key, consistent=consistent)
        return None if item is None else key.entity.from_item(item)

    def get_item(self, key: ItemKey[Any], *, consistent: bool = False) -> Item | None:
        """Return the stored item under a key, or None when there is none or it has expired.

        >>> from agentmodel import Agent
        >>> model.table.get_item(Agent.at("AGT001"))["AgentNM"]
        {'S': 'map agent'}
        """
        answer = self.call("GetItem", TableName=self.name, Key=key.item(), ConsistentRead=consistent)
        item: Item | None = answer.get("Item")
        return None if item is None or is_expired(item, time()) else item

    def get_many(
        self, keys: Sequence[ItemKey[_E]], *, consistent: bool = False, readable: bool = False
    ) -> list[_E | None]:
        """Return the entities under many keys, in the order of the keys; None for a key without one.

        Args:
            keys: The keys.
            consistent: Whether to read what was written last.
            readable: Return None for an item that cannot be read, too, and log it.

        Raises:
            CorruptItem: An item cannot be read, and ``readable`` is False.
            BatchIncomplete: DynamoDB left keys unprocessed until the deadline; the error has them in ``left``.

        >>> from agentmodel import Agent
        >>> found = model.table.get_many([Agent.at("AGT001"), Agent.at("AGT999")])
        >>> [agent and agent.name for agent in found]
        ['map agent', None]
        """

        def entity(key: ItemKey[_E], item: Item | None) -> _E | None:
            try:
                return None if item is None or is_expired(item, now) else key.entity.from_item(item)
            except CorruptItem as error:
                if not readable:
                    raise
                _log.warning(
                    "table.damaged: left out an item of kind %s, because its attribute %s cannot be read; "
                    "`agentmodel check` says which item it is",
                    key.entity.kind, error.attribute,
                )  # fmt: skip
                return None

        stored = self.get_items([key.item() for key in dict.fromkeys(keys)], consistent=consistent)
        found = {(item["PK"]["S"], item["SK"]["S"]): item for item in stored}
        now = time()
        return [entity(key, found.get((key.pk, key.sk))) for key in keys]

    def get_items(self, keys: Sequence[Item], *, consistent: bool = False) -> Iterator[Item]:
        """Yield the stored items under different keys, in any order. Expired ones are included.

        Raises:
            BatchIncomplete: DynamoDB left keys unprocessed until the deadline; the error has them in ``left``.

        >>> from agentmodel import Agent
        >>> [item["AgentNM"]["S"] for item in model.table.get_items([Agent.at("AGT001").item()])]
        ['map agent']
        """
        for start in range(0, len(keys), _GET_KEYS):
            yield from self._get_batch(list(keys[start : start + _GET_KEYS]), consistent)

    def _get_batch(self, keys: list[Item], consistent: bool) -> Iterator[Item]:
        for attempt in Backoff(seconds=self.settings.batch_deadline):
            request = {self.name: {"Keys": keys, "ConsistentRead": consistent}}
            answer = self.call("BatchGetItem", RequestItems=request)
            yield from answer["Responses"].get(self.name, ())
            keys = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not keys:
                return
            attempt.wait(BatchIncomplete(keys, self.settings.batch_deadline))

    def query(
        self, query: Query, *, limit: int | None = None, start: Item | None = None, consistent: bool = False
    ) -> QueryResult:
        """Return the items of a query that have not expired.

        Args:
            query: The query.
            limit: The most items to return; None returns all.
            start: The key to continue after: ``last`` of an earlier result.
            consistent: Whether to see every write that has ended; has no effect on the index.

        >>> result = model.table.query(Query("DMN001", index="GSI1", prefix="TL#"), limit=2)
        >>> [item["ToolNM"]["S"] for item in result.items], result.last is not None
        (['book_table', 'find_on_map'], True)
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
                return QueryResult(items, start, scanned)

    def scan(self, *, start: Item | None = None) -> Iterator[Item]:
        """Yield every stored item after the key ``start``. Expired ones are included: the warehouse needs them.

        >>> "Agent" in {item["EntityType"]["S"] for item in model.table.scan() if "EntityType" in item}
        True
        """
        for page in self.scan_pages(start=start):
            yield from page

    def scan_pages(self, *, start: Item | None = None, segment: int = 0, segments: int = 1) -> Iterator[list[Item]]:
        """Yield every stored item, one list for each answer; with ``segments``, only those of one parallel segment.

        >>> sum(len(page) for page in model.table.scan_pages()) > 20
        True
        """
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


def _keys_of(description: Mapping[str, Any]) -> tuple[str, ...]:
    schema: Iterable[Mapping[str, str]] = description["KeySchema"]
    return tuple(part["AttributeName"] for part in sorted(schema, key=lambda part: part["KeyType"]))
