"""The feeds of the laptop's warehouse: the same history comes out of each, as far as it can see."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ConfigurationError, TableUnavailable, ValidationError, WarehouseUnavailable
from agentmodel.redshift._feeds import ExportFeed, Feed, ItemsFeed, ScanFeed, StreamFeed
from agentmodel.redshift._streams import Record, RecordPage, Shard, Stream, Trimmed
from agentmodel.redshift.warehouse import Warehouse
from agentmodel.suggest.plan import Plan
from tests.integration.redshift_histories import history
from tests.integration.redshift_oracle import expected, held

Item = dict[str, Any]
DAY = date(2025, 6, 20)
AT = datetime(2025, 6, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def key_of(item: Item) -> tuple[str, str]:
    return item["PK"]["S"], item["SK"]["S"]


class Log:
    """A stream in memory whose shards split as it grows, as DynamoDB's do.

    Attributes:
        table: What the table holds now.
        past: Items that TTL deleted.
    """

    def __init__(self) -> None:
        self.name = "stream/1"
        self.table: dict[tuple[str, str], Item] = {}
        self.past: dict[tuple[str, str], Item] = {}
        self.shards_: list[tuple[Shard, list[Record]]] = [(Shard("shard-0", None, None), [])]
        self.numbers = itertools.count(1)
        self.reads: list[tuple[str, str | None]] = []
        self.down_after: int | None = None

    def write(self, item: Item, *, at: datetime, gone: str = "") -> None:
        if gone:
            item = self.table.pop(key_of(item))
            if gone == "ttl":
                self.past[key_of(item)] = item
        else:
            self.table[key_of(item)] = item
            self.past.pop(key_of(item), None)
        number = f"{next(self.numbers):021d}"
        self.shards_[-1][1].append(Record(item, bool(gone), gone == "ttl", number, at))

    def split(self) -> None:
        """Close the open shard, whose child takes the records from now on."""
        shard, records = self.shards_[-1]
        last = records[-1].sequence if records else f"{0:021d}"
        self.shards_[-1] = Shard(shard.id, shard.parent, last), records
        self.shards_.append((Shard(f"shard-{len(self.shards_)}", shard.id, None), []))

    def arn(self) -> str:
        return self.name

    def shards(self, arn: str) -> list[Shard]:
        assert self.name == arn
        return [shard for shard, _ in self.shards_]

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[RecordPage]:
        assert self.name == arn
        self.reads.append((shard.id, after))
        records = next(records for one, records in self.shards_ if one.id == shard.id)
        rest = [record for record in records if after is None or record.sequence > after]
        for first in range(0, len(rest), 3):
            if self.down_after is not None:
                self.down_after -= 1
                if self.down_after < 0:
                    raise TableUnavailable("the stream does not answer")
            yield RecordPage(rest[first : first + 3], finished=False)
        if shard.last is not None:
            yield RecordPage([], finished=True)


def opened() -> Warehouse:
    warehouse = Warehouse.open("duckdb://")
    warehouse.create()
    return warehouse


def tables_after(warehouse: Warehouse) -> Any:
    warehouse.refresh(as_of=DAY)
    return held(warehouse)


def export(folder: Path, items: Sequence[Item], *, at: datetime, table: str = "AgentTable", **changes: Any) -> Path:
    """Write a table export as DynamoDB does: a manifest, its files, one of them empty, attributes in any order."""
    home = folder / "AWSDynamoDB" / "01693685827463-2d8752fd"
    (home / "data").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(4):
        some = [] if number == 3 else items[number::3]
        path = home / "data" / f"part{number}.json.gz"
        with gzip.open(path, "wt", encoding="utf-8") as file:
            for item in some:
                names = list(item)
                random.Random(number).shuffle(names)  # noqa: S311 -- an order, not a secret
                file.write(json.dumps({"Item": {name: item[name] for name in names}}, ensure_ascii=False) + "\n")
        key = f"exports/AWSDynamoDB/{home.name}/data/{path.name}"
        lines.append(json.dumps({"itemCount": len(some), "md5Checksum": "", "etag": "", "dataFileS3Key": key}))
    (home / "manifest-files.json").write_text("\n".join(lines), "utf-8")
    summary = {
        "version": "2020-06-30", "exportTime": at.isoformat().replace("+00:00", "Z"), "itemCount": len(items),
        "tableArn": f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}", "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT", **changes,
    }  # fmt: skip
    (home / "manifest-summary.json").write_text(json.dumps(summary), "utf-8")
    return home


def mortal(item: Item, at: datetime) -> Item:
    return {**item, "ExpiresAt": {"N": str(int(at.timestamp()))}}


@pytest.mark.parametrize("seed", range(4))
def test_every_feed_gives_the_same_tables(seed: int, tmp_path: Path) -> None:
    """A history with updates, TTL deletes and erasures, landed in steps: scan, export and stream equal the oracle."""
    pick = random.Random(seed)  # noqa: S311 -- a history, not a secret
    log, items = Log(), history(seed, 40)
    scan, exported, stream = opened(), opened(), opened()
    feed = StreamFeed(log)
    stream.land_feed(ItemsFeed([], positions=feed.start_positions(AT)), at=AT)
    now = AT
    while items:
        some, items = items[:60], items[60:]
        now, landed = now + HOUR, set(log.table)
        for item in some:
            log.write(mortal(item, now) if pick.random() < 0.3 else item, at=now)
            if pick.random() < 0.1:
                log.split()
        for key in pick.sample(sorted(log.table), k=min(6, len(log.table))):
            item, now = log.table[key], now + timedelta(minutes=1)
            match pick.choice(["update", "ttl", "person", "again"]):
                case "update":
                    log.write({**item, "Description": {"S": f"나중 {now}"}}, at=now)
                case "ttl" if "ExpiresAt" in item and key in landed:  # else no scan has ever seen it
                    log.write(item, at=now, gone="ttl")
                case "person" if "ExpiresAt" not in item:
                    log.write(item, at=now, gone="person")
                case _:
                    log.write(item, at=now)
        present = list(log.table.values())
        scan.land_feed(ItemsFeed(present), at=now)
        exported.land_feed(ExportFeed(export(tmp_path, present, at=now)), at=now)
        stream.land_feed(feed, at=now)
        wanted = expected({**log.past, **log.table}, DAY)

        assert wanted == tables_after(scan)
        assert wanted == tables_after(exported)
        assert wanted == tables_after(stream)
    for warehouse in (scan, exported, stream):
        warehouse.close()


def test_a_stream_sees_what_came_and_expired_between_two_landings() -> None:
    """The old image of a TTL delete lands an item that no scan can have seen; it stays in the statistics."""
    log, items = Log(), history(2, 10)
    feed = StreamFeed(log)
    with opened() as warehouse:
        warehouse.land_feed(ItemsFeed([], positions=feed.start_positions(AT)), at=AT)
        for item in items:
            log.write(mortal(item, AT), at=AT)
        for item in items[::2]:
            log.write(item, at=AT + HOUR, gone="ttl")
        landed = warehouse.land_feed(feed, at=AT + 2 * HOUR)
        again = warehouse.land_feed(feed, at=AT + 3 * HOUR)

        assert (len(items[::2]), 0, 0) == (landed.expired, landed.erased, again.items)
        assert expected({**log.past, **log.table}, DAY) == tables_after(warehouse)


def test_the_order_of_attributes_is_no_change(tmp_path: Path) -> None:
    """An export after a scan lands nothing anew, though it writes attributes in another order."""
    items = history(1, 20)
    with opened() as warehouse:
        warehouse.land_feed(ItemsFeed(items), at=AT)
        landed = warehouse.land_feed(ExportFeed(export(tmp_path, items, at=AT + HOUR)), at=AT + HOUR)

        assert (len(items), 0, 0, 0) == (landed.items, landed.changed, landed.expired, landed.erased)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputFormat": "ION"}, "export the table in that format"),
        ({"exportType": "INCREMENTAL_EXPORT"}, "must be FULL_EXPORT"),
        ({"table": "Another"}, "must name the table AgentTable"),
        ({"exportTime": "soon"}, "must be an ISO 8601 time"),
        ({"itemCount": 1_000}, "must have 1000 items"),
        ({"at": AT - HOUR}, "must not be older than what has landed"),
    ],
)
def test_a_wrong_export_changes_nothing(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """An export of another kind, table or time, or one that is not whole, is refused and nothing of it lands."""
    items = history(1, 5)
    with opened() as warehouse:
        warehouse.land_feed(ItemsFeed(items), at=AT)
        home = export(tmp_path, items[:3], **{"at": AT + HOUR, **changes})
        with pytest.raises(ValidationError, match=message):
            warehouse.land_feed(ExportFeed(home, table="AgentTable"), at=AT + HOUR)

        assert expected({key_of(item): item for item in items}, DAY) == tables_after(warehouse)


def test_an_export_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A data file that the manifest names and the folder lacks is named, and so is a folder without a manifest."""
    home = export(tmp_path, history(1, 5), at=AT)
    (home / "data" / "part1.json.gz").unlink()
    with pytest.raises(ValidationError, match=r"part1\.json\.gz'\) must be in .*: copy the whole export"):
        ExportFeed(home)
    with pytest.raises(ValidationError, match=r"it holds 0 files manifest-summary\.json"):
        ExportFeed(home / "data")


def test_a_stopped_stream_goes_on_where_it_was() -> None:
    """What a landing read before the stream stopped answering is kept, and is not read again."""
    log, feed_items = Log(), history(2, 30)
    feed = StreamFeed(log)
    with opened() as warehouse:
        warehouse.land_feed(ItemsFeed([], positions=feed.start_positions(AT)), at=AT)
        for item in feed_items:
            log.write(item, at=AT)
        log.down_after = 5
        with pytest.raises(TableUnavailable):
            warehouse.land_feed(feed, at=AT + HOUR)
        log.down_after = None
        landed = warehouse.land_feed(feed, at=AT + HOUR)

        assert [("shard-0", None), ("shard-0", f"{15:021d}")] == log.reads
        assert len(feed_items) == landed.items
        assert expected(log.table, DAY) == tables_after(warehouse)


def test_a_trimmed_stream_is_told() -> None:
    """A stream that is new, was disabled and enabled again, or was not read for a day counts as incomplete."""
    log = Log()
    feed = StreamFeed(log)
    with opened() as warehouse:
        with pytest.raises(Trimmed, match="has not read the stream yet"):
            warehouse.land_feed(feed, at=AT)
        warehouse.land_feed(ItemsFeed([], positions=feed.start_positions(AT)), at=AT)
        with pytest.raises(Trimmed, match="more than 24 hours ago"):
            warehouse.land_feed(feed, at=AT + 24 * HOUR)
        log.name = "stream/2"
        with pytest.raises(Trimmed, match="disabled and enabled again"):
            warehouse.land_feed(feed, at=AT + HOUR)


def test_progress_counts_items_as_they_come() -> None:
    """Landing tells how many items have come, and of how many where the feed knows."""
    told: list[tuple[str, int, int]] = []
    items = history(1, 10)
    with opened() as warehouse:
        feed: Feed = ItemsFeed(items, expected=len(items))
        warehouse.land_feed(feed, at=AT, progress=lambda *step: told.append(step))

    assert ("land", 0, len(items)) == told[0]
    assert ("land", len(items), len(items)) == told[-1]


# -- with a DynamoDB engine -------------------------------------------------------------------------------------------


@pytest.fixture
def table(settings: Settings) -> Iterator[Table]:
    with Table(settings) as made:
        made.create()
        yield made


def write(table: Table, items: Sequence[Item]) -> None:
    for item in items:
        table.call("PutItem", TableName=table.name, Item=item)


def test_parallel_scans_read_every_item_once(table: Table) -> None:
    """Segments together give every item of the table."""
    items = history(3, 20)
    write(table, items)
    first = table.call("Scan", TableName=table.name, Segment=0, TotalSegments=3, Select="COUNT")
    if first["Count"] == len(items):
        pytest.skip("this engine knows no segments: old versions of moto read the whole table for each")
    with opened() as warehouse:
        landed = warehouse.land_feed(ScanFeed(table, segments=3), at=AT)

        assert len(items) == landed.items == landed.changed
        assert expected({key_of(item): item for item in items}, DAY) == tables_after(warehouse)


def test_a_real_stream_brings_changes_and_erasures(table: Table) -> None:
    """What DynamoDB Streams tells of writes and deletions lands as a scan of the same table would."""
    with pytest.raises(ConfigurationError, match="has no stream: enable it"):
        Stream(table).arn()
    assert table.enable_stream()
    assert not table.enable_stream()
    items, now = history(3, 10), datetime.now(UTC)
    stream = Stream(table)
    feed = StreamFeed(stream)
    with opened() as warehouse:
        warehouse.land_feed(ScanFeed(table, positions=feed.start_positions(now)), at=now)
        write(table, items)
        gone = items[len(items) // 2]
        table.call("DeleteItem", TableName=table.name, Key={"PK": gone["PK"], "SK": gone["SK"]})
        landed = warehouse.land_feed(feed, at=now)
        left = {key_of(item): item for item in items if item is not gone}

        assert len(items) + 1 == landed.items
        assert expected(left, DAY) == tables_after(warehouse)
    stream.close()


def test_a_refresh_goes_on_with_the_stream(settings: Settings, table: Table) -> None:
    """The first refresh by stream reads the whole table and says so; the next one reads only what changed."""
    table.enable_stream()
    items = history(3, 10)
    write(table, items)
    with AgentModel(settings) as model:
        first = model.refresh(source="stream")
        if table.describe()["TableArn"].split(":")[3] != "dynoxide":
            pytest.skip("moto adds 1 to a sequence number that is text, so its streams cannot be gone on with")
        write(table, [{**items[0], "Description": {"S": "새로"}}])
        second = model.refresh(source="stream")
        third = model.refresh(source="stream")

    assert first.landed is not None
    assert "the whole table was read: the warehouse has not read the stream yet" == first.landed.fallback_reason
    assert second.landed is not None
    assert third.landed is not None
    assert ("", 1, "", 0) == (
        second.landed.fallback_reason,
        second.landed.changed,
        third.landed.fallback_reason,
        third.landed.items,
    )


def record(model: AgentModel, number: int, plan: Plan | None = None) -> None:
    with (
        model.session("USR001", f"café {number}", category="cafe search", plan=plan) as session,
        session.process("locate") as process,
        process.call("AGT001", "TL001", values={"place": "stadium"}) as call,
    ):
        call.result = "found"


def test_the_journal_feeds_the_warehouse(settings: Settings, table: Table, tmp_path: Path) -> None:
    """With the journal as feed, a refresh after a drain equals one after a scan, and reads no table."""
    own = settings.model_copy(update={"feed": "journal"})
    other = settings.model_copy(update={"warehouse_url": f"duckdb:///{tmp_path / 'other.duckdb'}"})
    with AgentModel(own) as model, AgentModel(other) as scanned:
        record(model, 1)
        model.drain()
        first = model.refresh(as_of=DAY)
        record(model, 2, plan=model.suggest("USR001", category="cafe search"))  # a suggestion goes around the journal
        model.drain()
        second = model.refresh(as_of=DAY)
        scanned.refresh(as_of=DAY)

        assert first.landed is not None
        assert second.landed is not None
        assert "" == second.landed.fallback_reason
        assert 0 < second.landed.items < first.landed.items + second.landed.items
        assert 1 == model.warehouse.counts()["suggestion"]
        assert held(scanned.warehouse) == held(model.warehouse)


def test_a_drain_that_cannot_show_keeps_its_entries(settings: Settings, table: Table) -> None:
    """When the warehouse does not take what was drained, it is drained and shown again, though the table has it."""
    own = settings.model_copy(update={"feed": "journal"})
    with AgentModel(own) as model:
        model.refresh(as_of=DAY)
        record(model, 1)
        keep, held_up = model.warehouse.add_to_inbox, [1]

        def failing(batch: Any) -> int:
            if held_up:
                held_up.pop()
                raise WarehouseUnavailable("the disk is full")
            return keep(batch)

        model.warehouse.add_to_inbox = failing  # type: ignore[method-assign]  # the fault under test
        with pytest.raises(WarehouseUnavailable):
            model.drain()
        model.drain()
        model.refresh(as_of=DAY)
        shown = held(model.warehouse)
        model.refresh(as_of=DAY, source="scan")

        assert 1 == model.warehouse.counts()["agent_execution"]
        assert shown == held(model.warehouse)
