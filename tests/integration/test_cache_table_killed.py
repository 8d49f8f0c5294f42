"""Real kill -9 of a DynamoDB engine that keeps its table in a file: what was acknowledged arrives all the same.

The engine is the one that ``make test-engine`` fetches, or the program that AGENTMODEL_TEST_ENGINE names.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agentmodel._runtime.clock import HybridClock
from agentmodel.access._journal_sink import HistorySink
from agentmodel.cache import Drainer, Entry, Journal, JournalReceipt, Valkey
from agentmodel.cache._item_codec import Item, version_of
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import TableUnavailable

FETCHED = Path(__file__).parents[2] / ".venv" / "dynoxide" / "package" / "dynoxide"
ENGINE = Path(os.environ.get("AGENTMODEL_TEST_ENGINE", FETCHED))
TRIALS = int(os.environ.get("AGENTMODEL_TEST_TRIALS", "10"))
T = TypeVar("T")
MANY = 1000  # deliveries: these trials kill more often than a record that kills could
pytestmark = pytest.mark.skipif(not ENGINE.exists(), reason="no engine with a file: `make test-engine` fetches one")


class Engine:
    """A DynamoDB server with its table in a file, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "table.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Starts it unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = subprocess.Popen(
            [str(ENGINE), "--port", str(self.port), "--db-path", str(self._file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
        raise AssertionError("the engine did not start")

    def kill(self) -> None:
        """Kills it by -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.kills += 1

    def table(self) -> Table:
        """A new connection to the table."""
        return Table(
            Settings.load(
                endpoint=f"http://127.0.0.1:{self.port}",
                access_key_id="test",
                secret_access_key="test",
                dynamodb_attempts=1,
            )
        )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    yield made
    made.kill()


class Killing(HistorySink):
    """The table, whose engine dies before, amid or after some of the writes."""

    def __init__(self, engine: Engine, table: Table, *, choose: random.Random, gullible: bool = False) -> None:
        super().__init__(table, Writer(table, clock=HybridClock()))
        self._engine, self._choose, self._gullible = engine, choose, gullible

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        return self._dying(lambda: super(Killing, self).put_many(items), [])

    def put_newer(self, item: Item, version: int) -> bool | None:
        done: bool | None = True
        return self._dying(lambda: super(Killing, self).put_newer(item, version), done)

    def erased(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        try:
            return super().erased(items, before=before)
        except TableUnavailable:
            if self._gullible:
                return [False] * len(items)
            raise

    def _dying(self, write: Callable[[], T], done: T) -> T:
        when = self._choose.choice(["before", "amid", "after", *["never"] * 6])
        amid = threading.Thread(target=self._engine.kill)
        if when == "before":
            self._engine.kill()
        if when == "amid":
            amid.start()
        try:
            answer = write()
        except TableUnavailable:
            if self._gullible:  # the mutant takes a write that failed for one that was done
                return done
            raise
        finally:
            if when == "amid":
                amid.join()
        if when == "after":
            self._engine.kill()
            raise TableUnavailable("the engine died after the write")
        return answer


def lost(valkey: Valkey, engine: Engine, seed: int, **how: Any) -> list[Any]:
    """One trial: records with repeated updates, drained by threads while the engine is killed; what is missing."""
    choose = random.Random(seed)  # noqa: S311 - a trial that can be repeated, not a secret
    valkey.execute(("FLUSHALL",))
    engine.start()
    journal, acked = Journal(valkey, shards=4), {}
    with engine.table() as table:
        table.create()
        with Drainer(
            valkey, Killing(engine, table, choose=choose, **how), idle=0, shards=4, deliveries=MANY, batch=40
        ) as drainer:
            for number in range(1, 121):
                owner, changing = f"USR{choose.randrange(8)}", choose.random() < 0.4
                sort = f"S{choose.randrange(3)}" if changing else f"E{seed}-{number}"
                version = seed * 1000 + number
                item = {"PK": {"S": owner}, "SK": {"S": sort}, "Version": {"N": str(version)}}
                entry = Entry(owner, item, version, immutable=not changing)
                assert isinstance(journal.append([entry])[0], JournalReceipt)
                acked[owner, sort] = version
                if number % 30 == 0:
                    drain(drainer, engine)
            while journal.stats().depth:
                drain(drainer, engine)
            assert [] == drainer.dead()
        engine.start()
        table.breaker.probe_now()
        there = {(one["PK"]["S"], one["SK"]["S"]): version_of(one) for one in table.scan()}
    return [(key, version, there.get(key)) for key, version in acked.items() if there.get(key) != version]


def drain(drainer: Drainer, engine: Engine) -> None:
    """Drains as far as the engine lives, and starts it again."""
    with contextlib.suppress(TableUnavailable):
        drainer.drain()
    engine.start()


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=valkey_url, valkey_timeout=5.0, valkey_connect_timeout=5.0)) as made:
        yield made


def test_nothing_is_lost(valkey: Valkey, engine: Engine) -> None:
    """An engine killed before, amid and after writes gets every acknowledged record, none of them in an older version."""
    assert [[]] * max(1, TRIALS // 5) == [lost(valkey, engine, seed) for seed in range(max(1, TRIALS // 5))]
    assert engine.kills > 0


def test_mutant_that_believes_is_caught(valkey: Valkey, engine: Engine) -> None:
    """The same trials lose records when a write that failed is taken for done."""
    assert any(lost(valkey, engine, seed, gullible=True) for seed in range(10))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_sixty_trials(valkey: Valkey, engine: Engine) -> None:
    """In sixty trials of it nothing is lost, and nothing older is left."""
    assert [[]] * 60 == [lost(valkey, engine, seed) for seed in range(60)]
