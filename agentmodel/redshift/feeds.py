"""The ways the table's items come into the laptop's warehouse, where no zero-ETL brings them.

| feed | reads | sees deletions |
|---|---|---|
| `ScanFeed` | the whole table, in parallel segments | by what is missing |
| `ExportFeed` | the files of a table export to S3 | by what is missing |
| `StreamFeed` | the changes since the last landing, by DynamoDB Streams | each one, and who deleted |
| `JournalFeed` | what a drain of this process writes | none |

Each is a `Feed`: batches of items, which `agentmodel.redshift.pipeline.Warehouse.receive` lands. They differ in how
fast and how fresh they are; the tables that come out are the same, as far as a feed can see.
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

from agentmodel.dynamo.streams import KEPT, Page, Record, Shard, Trimmed
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ValidationError

__all__ = [
    "Arrival",
    "Batch",
    "ExportFeed",
    "Feed",
    "ItemsFeed",
    "JournalFeed",
    "ScanFeed",
    "StreamFeed",
    "StreamReader",
    "Trimmed",
]

BATCH: Final = 20_000  # items of one batch: a few tens of megabytes
FILES: Final = 16  # files of an export that are read at once
MARGIN: Final = timedelta(minutes=5)  # how far clocks may differ

STREAM, READ, SINCE = "stream", "read", "since"  # the positions that are no shards
FINISHED: Final = "finished"  # the position of a closed shard that was read to its end


@dataclass(frozen=True, slots=True)
class Arrival:
    """An item that came, changed or went.

    Attributes:
        item: The item as DynamoDB JSON; of one that went, as it was.
        expired: Whether DynamoDB's TTL deleted it: it stays in the statistics.
        erased: Whether a person deleted it: it leaves them.
    """

    item: Any
    expired: bool = False
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What a feed hands over at once.

    Attributes:
        items: Items, in the order they changed in; of two with the same keys the later one counts.
        files: Files of an export: lines of ``{"Item": {…}}``, gzip allowed, which DuckDB reads itself.
        positions: How far the feed has read when this batch has landed; None leaves it as it was.
    """

    items: Sequence[Arrival] = ()
    files: Sequence[str] = ()
    positions: Mapping[str, str] | None = None


class Feed(Protocol):
    """A way for items to come into the warehouse."""

    @property
    def complete(self) -> bool:
        """Whether it brings every item of the table, so that a missing one was deleted."""
        ...

    @property
    def expected(self) -> int:
        """How many items it will bring, as far as it knows; 0 where it does not."""
        ...

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:
        """Yield what there is, from where the last landing stopped.

        Args:
            positions: The positions of the last batch that landed.
            at: The time of this landing.
        """
        ...


# -- items and scans --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemsFeed:
    """Items that are at hand.

    Attributes:
        items: As DynamoDB JSON.
        complete: Whether these are all items of the table.
        expected: How many they are, for progress.
        positions: What a later `StreamFeed` goes on from; see `StreamFeed.start`.
    """

    items: Iterable[Any]
    complete: bool = True
    expected: int = 0
    positions: Mapping[str, str] | None = None

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:  # noqa: ARG002 -- the protocol's
        """Yield them."""
        yield Batch(positions=self.positions)
        yield from _batches(self.items)


def _batches(items: Iterable[Any]) -> Iterator[Batch]:
    rest = iter(items)
    while batch := [Arrival(item) for item in islice(rest, BATCH)]:
        yield Batch(batch)


@dataclass(frozen=True)
class ScanFeed:
    """The whole table, read by parallel Scans.

    Attributes:
        table: The table.
        segments: How many Scans read at the same time.
        positions: What a later `StreamFeed` goes on from; see `StreamFeed.start`.
    """

    table: Table
    segments: int = 4
    positions: Mapping[str, str] | None = None
    complete: bool = field(default=True, init=False)

    @property
    def expected(self) -> int:
        """The table's own count of its items, which DynamoDB brings up to date every six hours."""
        return int(self.table.describe().get("ItemCount", 0))

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:  # noqa: ARG002 -- the protocol's
        """Yield every item.

        Raises:
            TableUnavailable: The table does not answer; nothing of the scan may be kept then.
        """
        yield Batch(positions=self.positions)
        yield from _batches(self._items())

    def _items(self) -> Iterator[Any]:
        pages: Queue[list[Any]] = Queue(maxsize=2 * self.segments)  # a slow landing makes the scan wait
        stop = threading.Event()
        with ThreadPoolExecutor(self.segments, thread_name_prefix="agentmodel-scan") as pool:
            scans = [pool.submit(self._scan, segment, pages, stop) for segment in range(self.segments)]
            try:
                while not (all(scan.done() for scan in scans) and pages.empty()):
                    with suppress(Empty):  # a page is still on its way, or the last scan has just ended
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
    """A full export of the table to S3 in DynamoDB JSON, copied into a folder.

    Args:
        folder: The export's own folder, with ``manifest-summary.json`` in it, or one above it that holds one export.
        table: The table that the export has to be of; None takes any.

    Raises:
        ValidationError: The folder holds no such export, or files of it are missing.

    Attributes:
        at: The moment the export shows.
    """

    complete = True

    def __init__(self, folder: str | Path, *, table: str | None = None) -> None:
        summary = _found(Path(folder))
        self._home = summary.parent
        told = _json(summary)
        self.expected = int(told.get("itemCount", 0))
        self.at = _moment(summary, told.get("exportTime"))
        if told.get("outputFormat") != "DYNAMODB_JSON":
            raise ValidationError(str(summary), told.get("outputFormat"), "export the table as DYNAMODB_JSON")
        if told.get("exportType", "FULL_EXPORT") != "FULL_EXPORT":
            raise ValidationError(str(summary), told["exportType"], "make a full export: this one holds changes only")
        exported = str(told.get("tableArn", "")).rpartition("table/")[2]
        if table is not None and exported != table:
            raise ValidationError(str(summary), exported, f"this is no export of table {table}")
        self._files = self._named()

    def _named(self) -> list[str]:
        manifest = self._home / "manifest-files.json"
        files = []
        for line in _text(manifest).splitlines():
            name = json.loads(line)["dataFileS3Key"].rpartition("/")[2]
            path = self._home / "data" / name
            if not path.is_file():
                raise ValidationError(str(manifest), name, f"{path} is missing: copy the whole export")
            if path.stat().st_size:  # the export of an empty partition may be an empty file
                files.append(str(path))
        return files

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:  # noqa: ARG002 -- the protocol's
        """Yield the files."""
        for first in range(0, len(self._files), FILES):
            yield Batch(files=self._files[first : first + FILES])

    def check(self, count: int) -> None:
        """Compare the number of items that were read with the manifest's.

        Raises:
            ValidationError: They differ: what is missing would be taken for deleted.
        """
        if count != self.expected:
            raise ValidationError("export", count, f"its manifest says {self.expected} items: copy the whole export")


def _found(folder: Path) -> Path:
    found = [path for depth in ("", "*/", "AWSDynamoDB/*/") for path in folder.glob(f"{depth}manifest-summary.json")]
    if len(found) != 1:
        raise ValidationError(
            "export", str(folder), f"give the folder of one export: {len(found)} manifest-summary.json are in it"
        )
    return found[0]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError("export", str(path), f"it cannot be read: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(_text(path))
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ValidationError("export", str(path), "it is no JSON object")
    return told


def _moment(path: Path, text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        raise ValidationError("export", str(path), f"its exportTime {text!r} is no time") from None


# -- streams ----------------------------------------------------------------------------------------------------------


class StreamReader(Protocol):
    """A stream as `StreamFeed` reads it: `agentmodel.dynamo.streams.Stream`."""

    def arn(self) -> str:
        """Which stream it is."""
        ...

    def shards(self, arn: str) -> list[Shard]:
        """Its shards, each after its parent."""
        ...

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[Page]:
        """What a shard holds after a sequence number."""
        ...


class StreamFeed:
    """The table's changes since the last landing.

    Its positions are the last sequence number of each shard. They are kept in the warehouse, in the same transaction as
    the records before them, so a landing that is stopped goes on where it was.

    Args:
        stream: The table's stream.
    """

    complete = False
    expected = 0

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream

    def start(self, at: datetime) -> dict[str, str]:
        """Return the positions a complete landing at this time is to set: records from now on are read after it.

        Raises:
            ConfigurationError: The table has no stream, or one that does not hold new and old images.
            TableUnavailable: DynamoDB does not answer.
        """
        return {STREAM: self._stream.arn(), READ: at.isoformat(), SINCE: (at - MARGIN).isoformat()}

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:
        """Yield the records.

        Raises:
            Trimmed: There are no positions, or records since then are lost; land the whole table, from `start`.
            TableUnavailable: DynamoDB does not answer.
            ConfigurationError: The table has no stream, or one that does not hold new and old images.
        """
        arn = self._stream.arn()
        if positions.get(STREAM) is None:
            raise Trimmed("the warehouse has read nothing of the stream yet")
        if positions[STREAM] != arn:
            raise Trimmed("the table's stream was switched off and on since the last landing")
        if at - datetime.fromisoformat(positions[READ]) >= KEPT - MARGIN:
            raise Trimmed("the last landing was more than 24 hours ago, and DynamoDB keeps no record longer")
        shards = self._stream.shards(arn)
        known = {shard.id for shard in shards} | {STREAM, READ, SINCE}
        now = {name: place for name, place in positions.items() if name in known}
        unread: set[str] = set()
        for shard in shards:
            if shard.parent not in unread and now.get(shard.id) != FINISHED:
                yield from self._shard(arn, shard, now)
            if shard.parent in unread or not _is_read(shard, now.get(shard.id)):
                unread.add(shard.id)  # what follows in its children comes with the next landing
        yield Batch(positions={**now, READ: at.isoformat()})

    def _shard(self, arn: str, shard: Shard, now: dict[str, str]) -> Iterator[Batch]:
        since = datetime.fromisoformat(now[SINCE])
        for page in self._stream.read(arn, shard, after=now.get(shard.id)):
            if page.records:
                now[shard.id] = page.records[-1].sequence
            if page.finished:
                now[shard.id] = FINISHED
            yield Batch([_arrival(record) for record in page.records if record.at >= since], positions=dict(now))


def _is_read(shard: Shard, place: str | None) -> bool:
    if place is None or shard.last is None:
        return False
    return place == FINISHED or int(place) >= int(shard.last)


def _arrival(record: Record) -> Arrival:
    return Arrival(record.item, expired=record.by_ttl, erased=record.deleted and not record.by_ttl)


# -- the journal ------------------------------------------------------------------------------------------------------


class JournalFeed:
    """What a drain of this process writes into the table.

    The drain calls it with the items of a pass that are in the table, before it acknowledges them. They are kept in the
    warehouse and land with the next `agentmodel.redshift.pipeline.Warehouse.receive`. It sees no deletions, nothing
    that was written around the journal, no call that the drain had to give another number, and nothing that another
    process drains.

    Args:
        keep: `agentmodel.redshift.pipeline.Warehouse.keep`.
        table: The table.
    """

    complete = False
    expected = 0

    def __init__(self, keep: Callable[[Batch], object], table: Table) -> None:
        self._keep = keep
        self._table = table

    def __call__(self, written: Sequence[Any], stale: Sequence[Any]) -> None:
        """Keep what a drain wrote.

        Args:
            written: Items that are in the table now.
            stale: Items of which the table has the same or a newer version. The same it has after a drain that was
                stopped before it called here; so these are read from the table.

        Raises:
            Unavailable: They could not be kept; the drain leaves its entries in the journal.
        """
        keys = {(item["PK"]["S"], item["SK"]["S"]): {"PK": item["PK"], "SK": item["SK"]} for item in stale}
        stored = self._table.get_items(list(keys.values()), consistent=True) if keys else ()
        self._keep(Batch([Arrival(item) for item in (*written, *stored)]))

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[Batch]:  # noqa: ARG002 -- the protocol's
        """Yield nothing: what was drained is in the warehouse already."""
        return iter(())
