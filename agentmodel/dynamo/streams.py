"""DynamoDB Streams: what changed in the table during the last 24 hours, record by record.

A stream is made of shards. Records of one item lie in one shard and in its descendants, in order, so a shard is read
after its parent. DynamoDB keeps records for 24 hours; who comes later has to read the table itself.
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

from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import AgentModelError, ConfigurationError, TableUnavailable

__all__ = ["KEPT", "VIEW", "Page", "Record", "Shard", "Stream", "Trimmed"]

KEPT: Final = timedelta(hours=24)
"""How long DynamoDB keeps a record."""

VIEW: Final = "NEW_AND_OLD_IMAGES"
"""What a record is to hold: without the old image, an item that came and expired between two readings would be lost."""

_TTL: Final = "dynamodb.amazonaws.com"  # whose deletion a TTL deletion is
_PAGE: Final = 1_000  # DynamoDB's most records of one answer
_EMPTY: Final = 10  # empty answers in a row after which an open shard counts as read
_GONE: Final = ("TrimmedDataAccessException", "ResourceNotFoundException", "ExpiredIteratorException")


class Trimmed(AgentModelError):
    """The stream no longer holds everything since the position; read the table instead."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a stream.

    Attributes:
        id: Its id.
        parent: The shard it goes on from; None for one of the first.
        last: Its last sequence number; None while it is open.
    """

    id: str
    parent: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A change of one item.

    Attributes:
        item: The item as it is now; of one that was deleted, as it was.
        deleted: Whether it was deleted.
        by_ttl: Whether DynamoDB's TTL deleted it, and not a person.
        sequence: Its sequence number, which grows within an item's shards.
        at: When it happened, to the second.
    """

    item: Item
    deleted: bool
    by_ttl: bool
    sequence: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a shard.

    Attributes:
        records: Its records, in order.
        finished: Whether the shard is closed and nothing will follow.
    """

    records: Sequence[Record]
    finished: bool


class Stream:
    """The stream of a table.

    Args:
        table: The table; its stream has to hold new and old images.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            settings = self._table.settings
            secret = settings.secret_access_key
            self._made = Session().create_client(
                "dynamodbstreams",
                region_name=settings.region,
                endpoint_url=settings.endpoint,
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=None if secret is None else secret.get_secret_value(),
                config=Config(
                    connect_timeout=min(1.0, settings.dynamodb_timeout),
                    read_timeout=settings.dynamodb_timeout,
                    retries={"total_max_attempts": settings.dynamodb_attempts, "mode": "standard"},
                    parameter_validation=False,  # ids come from the service, and other engines make shorter ones
                ),
            )
        return self._made

    def close(self) -> None:
        """Close the client's connections."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def arn(self) -> str:
        """Return the stream's ARN, which is another one after it was switched off and on.

        Raises:
            ConfigurationError: The table has no stream, or one that does not hold new and old images.
            TableUnavailable: DynamoDB does not answer.
        """
        live = self._table.describe()
        specification, arn = live.get("StreamSpecification", {}), live.get("LatestStreamArn")
        if not specification.get("StreamEnabled") or arn is None:
            raise ConfigurationError(
                f"table {self._table.name} has no stream: switch it on with `agentmodel table create --stream`"
            )
        if specification.get("StreamViewType") != VIEW:
            raise ConfigurationError(
                f"the stream of table {self._table.name} holds {specification.get('StreamViewType')}, not {VIEW}: "
                "switch it off, and on again with `agentmodel table create --stream`"
            )
        return str(arn)

    def shards(self, arn: str) -> list[Shard]:
        """Return the shards, each after its parent.

        Raises:
            Trimmed: The stream is gone.
            TableUnavailable: DynamoDB does not answer.
        """
        found: dict[str, Shard] = {}
        request = {"StreamArn": arn}
        while True:
            with self._errors("DescribeStream"):
                told = self._client.describe_stream(**request)["StreamDescription"]
            for shard in told.get("Shards", ()):
                last = shard.get("SequenceNumberRange", {}).get("EndingSequenceNumber")
                found[shard["ShardId"]] = Shard(shard["ShardId"], shard.get("ParentShardId"), last)
            if told.get("LastEvaluatedShardId") is None:
                return _parents_first(found)
            request["ExclusiveStartShardId"] = told["LastEvaluatedShardId"]

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[Page]:
        """Yield what a shard holds, up to now.

        Args:
            arn: The stream.
            shard: The shard.
            after: The sequence number of the last record that is known; None reads from the oldest kept.

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
        while iterator is not None and empty < _EMPTY:
            with self._errors("GetRecords"):
                answer = self._client.get_records(ShardIterator=iterator, Limit=_PAGE)
            iterator = answer.get("NextShardIterator")
            records = [_record(each) for each in answer.get("Records", ())]
            empty = 0 if records else empty + 1
            if records or iterator is None:
                yield Page(records, iterator is None)
            if records and shard.last is not None and int(records[-1].sequence) >= int(shard.last):
                empty = _EMPTY - 1  # its last record: one more answer tells whether it is closed for good

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
            if code in _GONE:
                raise Trimmed(f"the stream of {self._table.name} was trimmed: {code}") from error
            raise TableUnavailable(f"{self._table.where} answers {operation} with {code}: {message}") from error
        except BotoCoreError as error:
            raise TableUnavailable(f"{self._table.where} does not answer {operation}: {error}") from error


def _parents_first(shards: dict[str, Shard]) -> list[Shard]:
    ordered: dict[str, Shard] = {}
    for shard in shards.values():
        line = []
        while shard.id not in ordered and shard not in line:
            line.append(shard)
            shard = shards.get(shard.parent or "", shard)  # noqa: PLW2901 -- up to the oldest one that is kept
        ordered |= {one.id: one for one in reversed(line)}
    return list(ordered.values())


def _record(given: dict[str, Any]) -> Record:
    change, deleted = given["dynamodb"], given["eventName"] == "REMOVE"
    who = given.get("userIdentity") or {}
    by_ttl = deleted and (who.get("principalId") or who.get("PrincipalId")) == _TTL
    at = change.get("ApproximateCreationDateTime")
    return Record(
        item=change["OldImage" if deleted else "NewImage"],
        deleted=deleted,
        by_ttl=by_ttl,
        sequence=change["SequenceNumber"],
        at=datetime.now(UTC) if at is None else at.astimezone(UTC),
    )
