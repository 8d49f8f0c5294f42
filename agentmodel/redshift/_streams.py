"""Read DynamoDB Streams: the changes of the table during the last 24 hours, record by record.

A stream consists of shards. The records of one item are in one shard and its descendants, in order, so a shard is read
after its parent. DynamoDB keeps records for 24 hours. A reader that comes later has to read the table itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from agentmodel._runtime.process import renew_in_child
from agentmodel._values.urls import without_user
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import AgentModelError, ConfigurationError, TableUnavailable

__all__ = ["Stream"]

RETENTION: Final = timedelta(hours=24)
"""How long DynamoDB keeps a record."""

_STREAM_VIEW: Final = "NEW_AND_OLD_IMAGES"
"""The images that a record must have. Without the old one, an item that was written and expired between two reads would
be lost."""

_TTL: Final = "dynamodb.amazonaws.com"  # the principal of a deletion by TTL
_PAGE: Final = 1_000  # DynamoDB's limit of records in one answer
_MAX_EMPTY: Final = 10  # empty answers in a row after which an open shard counts as read to its end
_TRIMMED_CODES: Final = ("TrimmedDataAccessException", "ResourceNotFoundException", "ExpiredIteratorException")


class Trimmed(AgentModelError):
    """Raised when the stream no longer has every record since the position; read the table instead."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a stream.

    Attributes:
        id: The id of the shard.
        parent: The id of the shard that it continues; None for a first one.
        last: Its last sequence number; None while the shard is open.
    """

    id: str
    parent: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A change of one item.

    Attributes:
        item: The item after the change; for a deletion, the item before it.
        deleted: Whether the item was deleted.
        by_ttl: Whether DynamoDB's TTL deleted it, and not a request.
        sequence: The sequence number, which grows within an item's shards.
        at: When the change happened, to the second, UTC.
    """

    item: Item
    deleted: bool
    by_ttl: bool
    sequence: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One answer of a shard.

    Attributes:
        records: The records, in order.
        finished: Whether the shard is closed and no records follow.
    """

    records: Sequence[Record]
    finished: bool


class Stream:
    """The stream of a table.

    Args:
        table: The table; its stream must have new and old images.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without a client in a forked child, whose connections must not be its parent's."""
        self._cached_client: Any = None

    @property
    def _client(self) -> Any:
        if self._cached_client is None:
            settings = self._table.settings
            secret = settings.secret_access_key
            self._cached_client = Session().create_client(
                "dynamodbstreams",
                region_name=settings.region,
                endpoint_url=None if settings.endpoint is None else without_user(settings.endpoint),
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=None if secret is None else secret.get_secret_value(),
                config=Config(
                    connect_timeout=min(1.0, settings.dynamodb_timeout),
                    read_timeout=settings.dynamodb_timeout,
                    retries={"total_max_attempts": settings.dynamodb_attempts, "mode": "standard"},
                    parameter_validation=False,  # the ids are DynamoDB's own, and other engines have shorter ones
                ),
            )
        return self._cached_client

    def close(self) -> None:
        """Close the client's connections."""
        if self._cached_client is not None:
            self._cached_client.close()
            self._cached_client = None

    def arn(self) -> str:
        """Return the stream's ARN, which changes when the stream is disabled and enabled again.

        Raises:
            ConfigurationError: The table has no stream, or one without new and old images.
            TableUnavailable: DynamoDB does not answer.
        """
        live = self._table.describe()
        specification, arn = live.get("StreamSpecification", {}), live.get("LatestStreamArn")
        if not specification.get("StreamEnabled") or arn is None:
            raise ConfigurationError(
                f"table {self._table.name} has no stream: enable it with `agentmodel table create --stream`"
            )
        if specification.get("StreamViewType") != _STREAM_VIEW:
            raise ConfigurationError(
                f"the stream of table {self._table.name} holds {specification.get('StreamViewType')}, "
                f"not {_STREAM_VIEW}: disable it, and enable it again with `agentmodel table create --stream`"
            )
        return str(arn)

    def shards(self, arn: str) -> list[Shard]:
        """Return the shards, each after its parent.

        Raises:
            Trimmed: The stream no longer exists.
            TableUnavailable: DynamoDB does not answer.
        """
        found: dict[str, Shard] = {}
        request = {"StreamArn": arn}
        while True:
            with self._errors("DescribeStream"):
                description = self._client.describe_stream(**request)["StreamDescription"]
            for shard in description.get("Shards", ()):
                last = shard.get("SequenceNumberRange", {}).get("EndingSequenceNumber")
                found[shard["ShardId"]] = Shard(shard["ShardId"], shard.get("ParentShardId"), last)
            if description.get("LastEvaluatedShardId") is None:
                return _parents_first(found)
            request["ExclusiveStartShardId"] = description["LastEvaluatedShardId"]

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[RecordPage]:
        """Yield the records that a shard has now.

        Args:
            arn: The stream.
            shard: The shard.
            after: The sequence number of the last record that was read; None starts at the oldest record.

        Raises:
            Trimmed: Records after ``after`` are no longer kept.
            TableUnavailable: DynamoDB does not answer.
        """
        start = {"StreamArn": arn, "ShardId": shard.id, "ShardIteratorType": "TRIM_HORIZON"}
        if after is not None:
            start |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        with self._errors("GetShardIterator"):
            iterator = self._client.get_shard_iterator(**start).get("ShardIterator")
        empty = 0
        while iterator is not None and empty < _MAX_EMPTY:
            with self._errors("GetRecords"):
                answer = self._client.get_records(ShardIterator=iterator, Limit=_PAGE)
            iterator = answer.get("NextShardIterator")
            records = [_record(each) for each in answer.get("Records", ())]
            empty = 0 if records else empty + 1
            if records or iterator is None:
                yield RecordPage(records, iterator is None)
            if records and shard.last is not None and int(records[-1].sequence) >= int(shard.last):
                empty = _MAX_EMPTY - 1  # the last record was read; one more answer shows whether the shard is closed

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
            if code in _TRIMMED_CODES:
                raise Trimmed(
                    f"the stream of table {self._table.name} no longer has all records since the last read ({code}): "
                    "read the table instead"
                ) from error
            raise TableUnavailable(f"{self._table.where} answered {operation} with {code}: {message}") from error
        except BotoCoreError as error:
            raise TableUnavailable(f"{self._table.where} did not answer {operation}: {error}") from error


def _parents_first(shards: dict[str, Shard]) -> list[Shard]:
    ordered: dict[str, Shard] = {}
    for shard in shards.values():
        chain = []
        while shard.id not in ordered and shard not in chain:
            chain.append(shard)
            shard = shards.get(shard.parent or "", shard)  # noqa: PLW2901 -- up to the oldest one that is kept
        ordered |= {one.id: one for one in reversed(chain)}
    return list(ordered.values())


def _record(raw: dict[str, Any]) -> Record:
    change, deleted = raw["dynamodb"], raw["eventName"] == "REMOVE"
    deleted_by = raw.get("userIdentity") or {}
    by_ttl = deleted and (deleted_by.get("principalId") or deleted_by.get("PrincipalId")) == _TTL
    at = change.get("ApproximateCreationDateTime")
    return Record(
        item=change["OldImage" if deleted else "NewImage"],
        deleted=deleted,
        by_ttl=by_ttl,
        sequence=change["SequenceNumber"],
        at=datetime.now(UTC) if at is None else at.astimezone(UTC),
    )
