"""Measure the warehouse: a full build, a refresh after 10,000 new calls, and loading items by each feed.

Each step is a command of its own, and keeps its databases in a folder for the next step:

    python benchmarks/warehouse.py full --calls 1000000 10000000    # make histories and build everything
    python benchmarks/warehouse.py new --calls 1000000 10000000     # 10,000 new calls on top of each
    python benchmarks/warehouse.py feeds                            # items loaded per second, by feed
    python benchmarks/warehouse.py handwritten --calls 1000000      # a full build compared with hand-written SQL

Without a command, all steps run with few calls. DuckDB itself makes the items, directly in the landed table, so that
only the refresh is measured. Peak memory is that of the process; --memory limits DuckDB's part of it.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import text

from agentmodel.redshift._feeds import ExportFeed, ItemsFeed, JournalFeed, StreamFeed
from agentmodel.redshift._streams import Record, RecordPage, Shard
from agentmodel.redshift.warehouse import Warehouse

DAY = date(2025, 6, 14)
CALLS_PER_SESSION = 10
NEW = 10_000

CATALOGUE = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'AGT' || n, 'METADATA',
  ('{"EntityType":{"S":"Agent"},"GSI1_PK":{"S":"DMN' || n % 3 || '"},'
   || '"AgentNM":{"S":"검색 ' || n || '"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' FROM range(100, 140) t(n)
"""
HISTORY = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000 || '#SESS' || lpad(s::VARCHAR, 10, '0'),
  'PRC' || lpad((c % 4 + 1)::VARCHAR, 3, '0') || '#AGT' || (100 + s % 40) || '#TL' || lpad(c::VARCHAR, 3, '0'),
  ('{"EntityType":{"S":"UserSessPrcToolMappHist"},"ToolNM":{"S":"도구 ' || c || '"},"ToolValues":{"S":"값"},'
   || '"TransactDT":{"S":"' || strftime(TIMESTAMP '2025-01-01' + to_minutes(s % 200000), '%Y%m%d%H%M%S') || '000000"},'
   || '"SuccYN":{"S":"' || CASE WHEN (s * 31 + c * 7) % 23 = 0 THEN 'N' ELSE 'Y' END || '"},'
   || '"CallNo":{"N":"' || c || '"},"AgentVer":{"S":"v' || s // 30000 || '"},'
   || '"ResultMsg":{"S":"결과"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s::BIGINT * 10)
FROM range(:first, :last) sessions(s), range(1, :calls) calls(c)
WHERE c <= :calls - 1 - s % 5
ORDER BY s
"""
SESSIONS = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000, 'SESS' || lpad(s::VARCHAR, 10, '0'),
  ('{"EntityType":{"S":"UserSession"},"UserSessionNM":{"S":"질문 ' || s || '"},"Category":{"S":"분야 ' || s % 7 || '"},'
   || '"SessionSuccYN":{"S":"' || CASE WHEN s % 11 = 0 THEN 'N' ELSE 'Y' END || '"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s * 10)
FROM range(:last) sessions(s)
WHERE s % 3 > 0
"""
OUTCOMES = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000 || '#SESS' || lpad(s::VARCHAR, 10, '0'), 'REVIEW#outcome',
  ('{"EntityType":{"S":"Review"},"OutcomeSource":{"S":"evaluator"},"DecidedDT":{"S":"20250614140605"},'
   || '"OutcomeYN":{"S":"' || CASE WHEN s % 4 = 0 THEN 'N' ELSE 'Y' END || '"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s * 10)
FROM range(0, :last, 10) sessions(s)
"""
SUGGESTIONS = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000 || '#SUGGEST', lpad(s::VARCHAR, 20, '0'),
  ('{"EntityType":{"S":"Suggestion"},"UserSessionID":{"S":"SESS' || lpad(s::VARCHAR, 10, '0') || '"},'
   || '"DomainID":{"S":"DMN1"},"WithheldYN":{"S":"N"},"HoldoutShare":{"N":"0.1"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s * 10)
FROM range(0, :last, 10) sessions(s)
"""
HANDWRITTEN = Path(__file__).with_name("handwritten.sql")


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes, by the clock."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def make(warehouse: Warehouse, first: int, last: int) -> None:
    """Write the calls of the sessions from ``first`` to ``last`` into the landed table."""
    with warehouse.begin() as connection:
        connection.execute(text(HISTORY), {"first": first, "last": last, "calls": CALLS_PER_SESSION + 3})


def peak() -> str:
    """Return the peak memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"


def opened(folder: Path, name: str, memory: str) -> Warehouse:
    """Open a database of the folder and create its tables."""
    warehouse = Warehouse.open(f"duckdb:///{folder / name}.duckdb", memory_limit=memory)
    warehouse.create()
    return warehouse


def full(calls: int, folder: Path, memory: str) -> None:
    """Make a history and build everything; keep the time for `new` to compare with."""
    sessions = calls // CALLS_PER_SESSION
    path = folder / f"{calls}.duckdb"
    path.unlink(missing_ok=True)
    with opened(folder, str(calls), memory) as warehouse:
        with warehouse.begin() as connection:
            connection.execute(text(CATALOGUE))
        made = timed(lambda: make(warehouse, 0, sessions))
        seconds = timed(lambda: warehouse.refresh(as_of=DAY))
        rows = warehouse.counts()["user_tool_mapping_hist"]
    (folder / f"{calls}.json").write_text(json.dumps({"rows": rows, "seconds": seconds}))
    size = path.stat().st_size / 2**30
    print(
        f"{rows:>12,} calls: made {made:.1f} s, full build {seconds:.2f} s, file {size:.1f} GiB, peak {peak()}",
        flush=True,
    )


def new(calls: int, folder: Path, memory: str, rounds: int) -> float:
    """Refresh after 10,000 new calls, several times on a growing history; return the best time."""
    known = json.loads((folder / f"{calls}.json").read_text())
    counters = folder / f"{calls}.next"
    first = int(counters.read_text()) if counters.exists() else calls // CALLS_PER_SESSION + 400
    times = []
    with opened(folder, str(calls), memory) as warehouse:
        for _ in range(rounds):
            make(warehouse, first, first + NEW // CALLS_PER_SESSION)
            first += NEW // CALLS_PER_SESSION + 400
            counters.write_text(str(first))
            times.append(timed(lambda: warehouse.refresh(as_of=DAY)))
        idle = timed(lambda: warehouse.refresh(as_of=DAY))
    best = min(times)
    all_times = " ".join(f"{each:.2f}" for each in times)
    print(
        f"{known['rows']:>12,} calls: 10,000 new {best:.2f} s (of {all_times}), nothing new {idle:.2f} s, "
        f"{best / known['seconds']:.1%} of a full build, peak {peak()}",
        flush=True,
    )
    return best


def handwritten(calls: int, folder: Path, memory: str, rounds: int) -> float:
    """Build from the same landed rows with our statements and with hand-written ones, in turn; return the ratio."""
    sessions = calls // CALLS_PER_SESSION
    (folder / "landed.duckdb").unlink(missing_ok=True)
    with opened(folder, "landed", memory) as warehouse:
        with warehouse.begin() as connection:
            connection.execute(text(CATALOGUE))
            for items in (SESSIONS, OUTCOMES, SUGGESTIONS):
                connection.execute(text(items), {"last": sessions})
        make(warehouse, 0, sessions)
    times = [build_both(folder, memory) for _ in range(rounds)]
    one, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratio: float = one / other
    all_times = " ".join(f"{mine:.2f}/{hand:.2f}" for mine, hand in times)
    rows = same(folder)
    print(
        f"{calls:>12,} calls: full build {one:.2f} s, hand-written {other:.2f} s (medians of {all_times}), "
        f"{ratio:.2f} times; {sum(rows.values()):,} rows of {len(rows)} tables are the same",
        flush=True,
    )
    return ratio


def build_both(folder: Path, memory: str) -> tuple[float, float]:
    """Build from the rows in ``landed`` with our statements, and with hand-written ones; return the seconds of each.

    Each build starts from files without results and is timed from its first statement to its commit.
    """
    landed, ours, theirs = (folder / f"{name}.duckdb" for name in ("landed", "ours", "hand"))
    shutil.copy(landed, ours)
    theirs.unlink(missing_ok=True)
    with opened(folder, "ours", memory) as warehouse:
        mine = timed(lambda: warehouse.refresh(as_of=DAY))
        variables = {"half_life": warehouse.half_life_days, "revision_prior": warehouse.revision_prior}
    with duckdb.connect(str(landed), config={"memory_limit": memory}) as connection:
        connection.execute(f"ATTACH '{theirs}' AS hand")
        connection.execute(f"SET VARIABLE today = DATE '{DAY}'")
        for name, value in variables.items():
            connection.execute(f"SET VARIABLE {name} = {value}::DOUBLE")
        return mine, timed(lambda: connection.execute(HANDWRITTEN.read_text()))


def same(folder: Path) -> dict[str, int]:
    """Compare every table of both results in both directions, fractions to nine digits; return the rows of each.

    Sums of fractions differ in their last digits with the order in which threads add, hence the nine digits.
    """
    rows = {}
    with duckdb.connect() as connection:
        for name in ("ours", "hand"):
            connection.execute(f"ATTACH '{folder / name}.duckdb' AS {name} (READ_ONLY)")
        for (name,) in connection.execute("FROM (SHOW ALL TABLES) SELECT name WHERE database = 'hand'").fetchall():
            table = connection.table(f"ours.{name}")
            kinds = zip(table.columns, map(str, table.types), strict=True)
            columns = ", ".join(f"round({column}, 9)" if kind == "DOUBLE" else column for column, kind in kinds)
            one, other = (connection.table(f"{side}.{name}").project(columns) for side in ("ours", "hand"))
            if one.except_(other) or other.except_(one):
                raise SystemExit(f"error: table {name} differs between our build and the hand-written one")
            rows[name] = len(one)
    return rows


def items(count: int) -> Iterator[dict[str, dict[str, str]]]:
    """Make items as a table scan gives them."""
    for number in range(count):
        yield {
            "PK": {"S": f"USR{number % 999}#SESS{number // 10}"},
            "SK": {"S": f"PRC001#AGT001#TL{number % 10}"},
            "EntityType": {"S": "UserSessPrcToolMappHist"},
            "ToolNM": {"S": "FIND_LOC"},
            "ToolValues": {"S": "서울 잠실종합운동장"},
            "TransactDT": {"S": "20250614140605000000"},
            "SuccYN": {"S": "Y"},
            "ResultMsg": {"S": "ok"},
        }


class Changes:
    """A DynamoDB stream of one shard, in which every item is new."""

    def __init__(self, count: int) -> None:
        now = datetime.now(UTC)
        self.records = [Record(item, False, False, str(n), now) for n, item in enumerate(items(count), start=1)]

    def arn(self) -> str:
        """Return the name of the stream."""
        return "stream"

    def shards(self, arn: str) -> list[Shard]:  # noqa: ARG002 -- the protocol's
        """Return its only shard."""
        return [Shard("shard", None, None)]

    def read(self, arn: str, shard: Shard, *, after: str | None) -> Iterator[RecordPage]:  # noqa: ARG002 -- the protocol's
        """Yield pages of a thousand records, as DynamoDB does."""
        for first in range(0, len(self.records), 1_000):
            yield RecordPage(self.records[first : first + 1_000], finished=False)


def export(count: int, folder: Path) -> Path:
    """Write a table export of eight files."""
    home = folder / "export"
    shutil.rmtree(home, ignore_errors=True)
    (home / "data").mkdir(parents=True)
    files = [home / "data" / f"{number}.json.gz" for number in range(8)]
    rows = items(count)
    for path in files:
        with gzip.open(path, "wt", compresslevel=6, encoding="utf-8") as lines:
            for item in itertools.islice(rows, -(-count // len(files))):
                lines.write(json.dumps({"Item": item}, ensure_ascii=False, separators=(",", ":")) + "\n")
    named = (json.dumps({"dataFileS3Key": f"data/{path.name}"}) for path in files)
    (home / "manifest-files.json").write_text("\n".join(named))
    summary = {"itemCount": count, "exportTime": datetime.now(UTC).isoformat(), "outputFormat": "DYNAMODB_JSON"}
    (home / "manifest-summary.json").write_text(json.dumps(summary))
    return home


def feeds(count: int, folder: Path, memory: str) -> None:
    """Load the same items by each feed, without DynamoDB and its network."""
    now = datetime.now(UTC)
    exported = ExportFeed(export(count, folder))
    known = list(items(count))
    stream = StreamFeed(Changes(count))

    def streamed(warehouse: Warehouse) -> None:
        warehouse.land_feed(stream, at=now)

    def drained(warehouse: Warehouse) -> None:
        feed = JournalFeed(warehouse.add_to_inbox, None)  # type: ignore[arg-type]  # no item is stale, so the table is never asked
        for first in range(0, count, 500):
            feed(known[first : first + 500], [])
        warehouse.land_feed(feed, at=now)

    ways: dict[str, Callable[[Warehouse], Any]] = {
        "export": lambda warehouse: warehouse.land_feed(exported, at=exported.at),
        "items of a scan": lambda warehouse: warehouse.land_feed(ItemsFeed(known), at=now),
        "stream, 1,000 records a page": streamed,
        "journal, 500 items a pass": drained,
    }
    for name, way in ways.items():
        (folder / "land.duckdb").unlink(missing_ok=True)
        with opened(folder, "land", memory) as warehouse:
            if "stream" in name:
                warehouse.land_feed(ItemsFeed([], positions=stream.start_positions(now)), at=now)
            cpu = time.process_time()
            seconds = timed(lambda: way(warehouse))  # noqa: B023 -- called at once
            cpu = time.process_time() - cpu
            landed = warehouse.counts()["landed"]
            print(f"{name:>30}: {landed / seconds:>9,.0f} a second, {landed / cpu:>9,.0f} a CPU second", flush=True)


def main() -> None:
    """Run the step that is named, or all, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("full", "new", "feeds", "handwritten"))
    parser.add_argument("--calls", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "agentmodel-warehouse")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.step in (None, "full"):
        for calls in options.calls:
            full(calls, options.folder, options.memory)
    if options.step in (None, "new"):
        best = [new(calls, options.folder, options.memory, options.rounds) for calls in options.calls]
        print(f"a refresh of the last history takes {best[-1] / best[0]:.2f} times as long as of the first")
    if options.step in (None, "feeds"):
        feeds(options.items, options.folder, options.memory)
    if options.step in (None, "handwritten"):
        for calls in options.calls:
            handwritten(calls, options.folder, options.memory, options.rounds)


if __name__ == "__main__":
    main()
