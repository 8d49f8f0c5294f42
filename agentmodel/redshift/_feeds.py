"""Bring the table's items to a DuckDB warehouse, which zero-ETL does not feed.

| feed | reads | sees deletions |
|---|---|---|
| `ScanFeed` | the whole table, in parallel segments | as missing items |
| `ExportFeed` | the files of a table export to S3 | as missing items |
| `StreamFeed` | the changes since the last landing, from DynamoDB Streams | each one, and who deleted |
| `JournalFeed` | what a drain of this process writes | none |

Each is a `Feed`: batches of items, which `agentmodel.redshift.warehouse.Warehouse.land_feed` lands. Feeds differ in
speed and freshness. They give the same tables, except for the changes that a feed does not see.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, Final, Protocol

from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ValidationError
from agentmodel.redshift._streams import RETENTION, Record, RecordPage, Shard, Trimmed

__all__ = [
    "ExportFeed", "Feed", "FeedBatch", "FeedItem", "ItemsFeed", "JournalFeed", "ScanFeed", "StreamFeed", "StreamReader",
    "Trimmed",
]  # fmt: skip

BATCH: Final = 20_000  # items of one batch: a few tens of megabytes
FILES: Final = 16  # files of an export in one batch
MARGIN: Final = timedelta(minutes=5)  # how far clocks may differ

STREAM, READ, SINCE = "stream", "read", "since"  # the positions that are not those of shards
FINISHED: Final = "finished"  # the position of a closed shard that was read to its end


@dataclass(frozen=True, slots=True)
class FeedItem:
    """An item that was added, changed or deleted.

    Attributes:
        item: The item as DynamoDB JSON; a deleted item as it was before.
        expired: Whether DynamoDB's TTL deleted it, so that it stays in the statistics.
        erased: Whether a person deleted it, so that it leaves the statistics.
    """

    item: Any
    expired: bool = False
    erased: bool = False


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """Some items of a feed, and how far it has read with them.

    Attributes:
        items: Items, in the order of their changes; of two with the same keys the later one counts.
        files: Files of an export: lines of ``{"Item": {…}}``, gzip allowed, which DuckDB reads itself.
        positions: How far the feed has read once this batch has landed; None when the positions do not change.
    """

    items: Sequence[FeedItem] = ()
    files: Sequence[str] = ()
    positions: Mapping[str, str] | None = None


class Feed(Protocol):
    """A source of items for the warehouse."""

    @property
    def complete(self) -> bool:
        """Return whether the feed brings every item of the table, so that a missing item was deleted."""
        ...

    @property
    def expected(self) -> int:
        """Return about how many items the feed will bring; 0 where it does not know."""
        ...

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:
        """Yield the items from where the last landing stopped.

        Args:
            positions: The positions of the last batch that landed.
            at: The time of this landing.
        """
        ...


# -- items and scans --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemsFeed:
    """A feed of items that are in memory.

    Attributes:
        items: The items as DynamoDB JSON.
        complete: Whether these are all items of the table.
        expected: How many there are, for progress; 0 where that is unknown.
        positions: The positions that a later `StreamFeed` reads on from; see `StreamFeed.start_positions`.

    >>> from datetime import UTC, datetime
    >>> from agentmodel.redshift.warehouse import Warehouse
    >>> own = Warehouse.open("duckdb://")
    >>> own.create()
    >>> item = {"PK": {"S": "DMN001"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Domain"}}
    >>> own.land_feed(ItemsFeed([item | {"DomainNM": {"S": "Hotels"}}]), at=datetime.now(UTC))
    Landed(items=1, changed=1, expired=0, erased=0, fallback_reason='')
    >>> own.close()
    """

    items: Iterable[Any]
    complete: bool = True
    expected: int = 0
    positions: Mapping[str, str] | None = None

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:  # noqa: ARG002 -- the protocol's
        """Yield the items."""
        yield FeedBatch(positions=self.positions)
        yield from _batches(self.items)


def _batches(items: Iterable[Any]) -> Iterator[FeedBatch]:
    remaining = iter(items)
    while batch := [FeedItem(item) for item in islice(remaining, BATCH)]:
        yield FeedBatch(batch)


@dataclass(frozen=True)
class ScanFeed:
    """A feed of the whole table, read by parallel Scans.

    Attributes:
        table: The table.
        segments: How many Scans run at the same time.
        positions: The positions that a later `StreamFeed` reads on from; see `StreamFeed.start_positions`.
        complete: Whether it brings every item of the table; it does.
    """

    table: Table
    segments: int = 4
    positions: Mapping[str, str] | None = None
    complete: bool = field(default=True, init=False)

    @property
    def expected(self) -> int:
        """Return DynamoDB's count of the items, which it updates every six hours."""
        return int(self.table.describe().get("ItemCount", 0))

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:  # noqa: ARG002 -- the protocol's
        """Yield every item.

        Raises:
            TableUnavailable: The table does not answer; then no item of the scan may be kept.
        """
        yield FeedBatch(positions=self.positions)
        yield from _batches(self._items())

    def _items(self) -> Iterator[Any]:
        pages: Queue[list[Any]] = Queue(maxsize=2 * self.segments)  # a slow landing makes the scan wait
        stop = threading.Event()
        with ThreadPoolExecutor(self.segments, thread_name_prefix="agentmodel-scan") as pool:
            scans = [pool.submit(self._scan, segment, pages, stop) for segment in range(self.segments)]
            try:
                while not (all(scan.done() for scan in scans) and pages.empty()):
                    with suppress(Empty):  # a page is being read, or the last scan has just ended
                        yield from pages.get(timeout=0.05)
                    for scan in scans:
                        if scan.done():
                            scan.result()
            finally:
                stop.set()

    def _scan(self, segment: int, pages: Queue[list[Any]], stop: threading.Event) -> None:
        for page in self.table.scan_pages(segment=segment, segments=self.segments):
            while not stop.is_set():
                try:
                    pages.put(page, timeout=0.1)
                    break
                except Full:
                    continue
            if stop.is_set():
                return


# -- exports ----------------------------------------------------------------------------------------------------------


class ExportFeed:
    """A feed of a full export of the table to S3 in DynamoDB JSON, copied into a folder.

    Args:
        folder: The export's own folder, which holds ``manifest-summary.json``, or a folder above it with one export.
        table: The table that must have been exported; None accepts any.

    Attributes:
        at: The time of the exported state of the table.
        expected: How many items the export holds.

    Raises:
        ValidationError: The folder holds no such export, or some of its files are missing.
    """

    complete = True

    def __init__(self, folder: str | Path, *, table: str | None = None) -> None:
        summary = _find_summary(Path(folder))
        self._folder = summary.parent
        content = _json(summary)
        self.expected = int(content.get("itemCount", 0))
        self.at = _time(summary, content.get("exportTime"))
        if content.get("outputFormat") != "DYNAMODB_JSON":
            raise ValidationError(
                f"outputFormat of {summary}",
                content.get("outputFormat"),
                "must be DYNAMODB_JSON: export the table in that format",
            )
        if content.get("exportType", "FULL_EXPORT") != "FULL_EXPORT":
            exported_kind = content["exportType"]
            raise ValidationError(
                f"exportType of {summary}", exported_kind, "must be FULL_EXPORT: this export holds changes only"
            )
        exported = str(content.get("tableArn", "")).rpartition("table/")[2]
        if table is not None and exported != table:
            raise ValidationError(f"tableArn of {summary}", exported, f"must name the table {table}")
        self._files = self._data_files()

    def _data_files(self) -> list[str]:
        """Return the paths of the data files that the manifest lists."""
        manifest = self._folder / "manifest-files.json"
        files = []
        for line in _text(manifest).splitlines():
            name = json.loads(line)["dataFileS3Key"].rpartition("/")[2]
            path = self._folder / "data" / name
            if not path.is_file():
                raise ValidationError(
                    f"dataFileS3Key of {manifest}", name, f"must be in {path.parent}: copy the whole export"
                )
            if path.stat().st_size:  # the export of an empty partition may be an empty file
                files.append(str(path))
        return files

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:  # noqa: ARG002 -- the protocol's
        """Yield the files of the export."""
        for first in range(0, len(self._files), FILES):
            yield FeedBatch(files=self._files[first : first + FILES])

    def check_count(self, count: int) -> None:
        """Compare the number of items that were read with the manifest's.

        Raises:
            ValidationError: The numbers differ; a missing item would count as deleted.
        """
        if count != self.expected:
            raise ValidationError(
                "export", count, f"must have {self.expected} items, as in its manifest: copy the whole export"
            )


def _find_summary(folder: Path) -> Path:
    found = [path for depth in ("", "*/", "AWSDynamoDB/*/") for path in folder.glob(f"{depth}manifest-summary.json")]
    if len(found) != 1:
        raise ValidationError(
            "export",
            str(folder),
            f"must be the folder of one export, but it holds {len(found)} files manifest-summary.json",
        )
    return found[0]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError("export", str(path), f"cannot be read: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValidationError("export", str(path), "must hold a JSON object: copy the whole export")
    return content


def _time(path: Path, text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        raise ValidationError(f"exportTime of {path}", text, "must be an ISO 8601 time") from None


# -- streams ----------------------------------------------------------------------------------------------------------


class StreamReader(Protocol):
    """The methods of `agentmodel.redshift._streams.Stream` that `StreamFeed` calls."""

    def arn(self) -> str:
        """Return the ARN of the stream."""
        ...

    def shards(self, arn: str) -> list[Shard]:
        """Return the shards of the stream, each after its parent."""
        ...

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[RecordPage]:
        """Yield the records of a shard after a sequence number; all of them when it is None."""
        ...


class StreamFeed:
    """A feed of the table's changes since the last landing.

    Its positions are the last sequence number of each shard. They are stored in the warehouse, in the same transaction
    as the records before them, so a landing that was stopped goes on from there.

    Args:
        stream: The table's stream.
    """

    complete = False
    expected = 0

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream

    def start_positions(self, at: datetime) -> dict[str, str]:
        """Return the positions that a complete landing at this time must store, so that later records are read next.

        Raises:
            ConfigurationError: The table has no stream, or one that does not hold new and old images.
            TableUnavailable: DynamoDB does not answer.
        """
        return {STREAM: self._stream.arn(), READ: at.isoformat(), SINCE: (at - MARGIN).isoformat()}

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:
        """Yield the records.

        Raises:
            Trimmed: There are no positions, or later records are lost: land the whole table with `start_positions`.
            TableUnavailable: DynamoDB does not answer.
            ConfigurationError: The table has no stream, or one that does not hold new and old images.
        """
        arn = self._stream.arn()
        if positions.get(STREAM) is None:
            raise Trimmed("the warehouse has not read the stream yet")
        if positions[STREAM] != arn:
            raise Trimmed("the table's stream was disabled and enabled again after the last landing")
        if at - datetime.fromisoformat(positions[READ]) >= RETENTION - MARGIN:
            raise Trimmed("the last landing was more than 24 hours ago, and DynamoDB keeps records for 24 hours only")
        shards = self._stream.shards(arn)
        known = {shard.id for shard in shards} | {STREAM, READ, SINCE}
        current = {name: position for name, position in positions.items() if name in known}
        unread: set[str] = set()
        for shard in shards:
            if shard.parent not in unread and current.get(shard.id) != FINISHED:
                yield from self._read_shard(arn, shard, current)
            if shard.parent in unread or not _is_read(shard, current.get(shard.id)):
                unread.add(shard.id)  # the records of its children are read by the next landing
        yield FeedBatch(positions={**current, READ: at.isoformat()})

    def _read_shard(self, arn: str, shard: Shard, current: dict[str, str]) -> Iterator[FeedBatch]:
        since = datetime.fromisoformat(current[SINCE])
        for page in self._stream.read(arn, shard, after=current.get(shard.id)):
            if page.records:
                current[shard.id] = page.records[-1].sequence
            if page.finished:
                current[shard.id] = FINISHED
            yield FeedBatch(
                [_feed_item(record) for record in page.records if record.at >= since], positions=dict(current)
            )


def _is_read(shard: Shard, position: str | None) -> bool:
    """Return whether a closed shard was read to its end."""
    if position is None or shard.last is None:
        return False
    return position == FINISHED or int(position) >= int(shard.last)


def _feed_item(record: Record) -> FeedItem:
    return FeedItem(record.item, expired=record.by_ttl, erased=record.deleted and not record.by_ttl)


# -- the journal ------------------------------------------------------------------------------------------------------


class JournalFeed:
    """A feed of what a drain of this process writes to the table.

    The drain calls it with the items of each pass that are in the table, before it acknowledges them. They go into the
    warehouse's inbox, and land with the next `agentmodel.redshift.warehouse.Warehouse.land_feed`. The feed does not see
    deletions, writes around the journal, calls that the drain moved to another number, or what another process drains.

    Args:
        add_to_inbox: `agentmodel.redshift.warehouse.Warehouse.add_to_inbox`.
        table: The table.

    Attributes:
        complete: False: it brings changes only.
        expected: Unused, since it is not complete.

    >>> from datetime import UTC, datetime
    >>> feed = JournalFeed(model.warehouse.add_to_inbox, model.table)
    >>> feed.complete, list(feed.batches({}, datetime.now(UTC)))
    (False, [])
    """

    complete = False
    expected = 0

    def __init__(self, add_to_inbox: Callable[[FeedBatch], object], table: Table) -> None:
        self._add_to_inbox = add_to_inbox
        self._table = table

    def __call__(self, written: Sequence[Any], stale: Sequence[Any]) -> None:
        """Add what a drain wrote to the inbox.

        Args:
            written: Items that are in the table now.
            stale: Items of which the table has the same or a newer version. It has the same one when an earlier drain
                was stopped before it called this method; so these items are read from the table.

        Raises:
            Unavailable: They could not be stored; the drain leaves its entries in the journal.
        """
        keys = {(item["PK"]["S"], item["SK"]["S"]): {"PK": item["PK"], "SK": item["SK"]} for item in stale}
        stored = self._table.get_items(list(keys.values()), consistent=True) if keys else ()
        self._add_to_inbox(FeedBatch([FeedItem(item) for item in (*written, *stored)]))

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:  # noqa: ARG002 -- the protocol's
        """Yield nothing: the drained items are in the inbox already."""
        return iter(())
