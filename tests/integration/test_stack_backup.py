"""A local stack is backed up into one file, also while others record, and restored as it was."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from agentmodel import AgentModel, Domain
from agentmodel.cli import main
from agentmodel.embedded._backup import _exchange, back_up, restore
from agentmodel.embedded._table_log import alone
from agentmodel.exceptions import AgentModelError, ConfigurationError

DAY = datetime(2025, 6, 14, tzinfo=UTC)


def record(model: AgentModel, request: str) -> str:
    """Record a session with a call; its id."""
    with (
        model.session("USR001", request, category="cafe") as session,
        session.process("search") as process,
        process.call("AGT001", "TL001", values={"place": "서울"}),
    ):
        pass
    return session.session_id


@pytest.fixture(scope="module")
def first_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stack: a part of its history is refreshed, a part drained, a part in the journal alone."""
    path = tmp_path_factory.mktemp("first") / "my project" / ".agentmodel"
    with AgentModel.local(path) as model:
        model.repository.put(Domain(domain_id="DMN001", name="cafés"))
        record(model, "refreshed")
        model.drain()
        model.refresh(as_of=DAY)
        model.warehouse.share()
        record(model, "drained")
        model.drain()
        record(model, "in the journal")
    return path


@pytest.fixture
def folder(first_folder: Path, tmp_path: Path) -> Path:
    """A copy of that folder: to make one takes longer than most of the tests."""
    return shutil.copytree(first_folder, tmp_path / "my project" / ".agentmodel")


def content(model: AgentModel) -> dict[str, Any]:
    """Every item of the table, key of Valkey and row of the warehouse."""
    model.settle()
    table = sorted(json.dumps(item, sort_keys=True, default=str) for item in scanned(model))
    with closing(redis.Redis.from_url(str(model.settings.valkey_url).replace("valkey:", "redis:", 1))) as client:
        names: Any = client.keys("*")
        ttl: Any = client.ttl
        lasting = (name for name in names if ttl(name) not in (-2, *range(60)))  # others end while the test compares
        valkey = {name: client.dump(name) for name in lasting}
    path = str(model.settings.warehouse_url).removeprefix("duckdb:///")
    with closing(duckdb.connect(path)) as warehouse:
        rows = {
            name: sorted(map(repr, warehouse.execute(f'SELECT * FROM "{name}"').fetchall()))
            for (name,) in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
    return {"table": table, "valkey": valkey, "warehouse": rows}


def scanned(model: AgentModel) -> list[Any]:
    found: list[Any] = model.table.call("Scan", TableName=model.table.name)["Items"]
    return found


@pytest.mark.parametrize("is_running", [False, True])
def test_everything_is_read_back(folder: Path, tmp_path: Path, is_running: bool) -> None:
    """Table, journal and warehouse are restored row for row; then the journal drains and the warehouse refreshes."""
    with AgentModel.local(folder) as model:
        expected = content(model)
        if is_running:
            done = back_up(folder, tmp_path / "b.tar.gz")
    if not is_running:
        done = back_up(folder, tmp_path / "b.tar.gz")
    found = restore(tmp_path / "b.tar.gz", tmp_path / "other")

    assert (done.files, done.size, done.made_at) == (found.files, found.size, found.made_at)
    assert expected["valkey"]
    assert expected["warehouse"]["usersession"]
    with AgentModel.local(tmp_path / "other") as model:
        assert expected == content(model)
        drained = model.drain()
        assert (True, 0, 0) == (drained.written > 0, drained.dead, drained.left)
        model.refresh(as_of=DAY)
        assert 3 == model.warehouse.counts()["usersession"]


def test_what_is_recorded_meanwhile_is_whole(folder: Path, tmp_path: Path) -> None:
    """Of others who record, drain and save during a backup it has everything from before it, and is consistent."""
    begun, stop, before = threading.Event(), threading.Event(), list[str]()

    def work(model: AgentModel) -> None:
        while not stop.is_set():
            before.append(record(model, "meanwhile"))
            model.drain()
            model._engines.save()  # type: ignore[union-attr]  # what `agentmodel up` does each minute
            begun.set()

    with AgentModel.local(folder) as model:
        worker = threading.Thread(target=work, args=(model,))
        worker.start()
        begun.wait()
        acknowledged = list(before)
        back_up(folder, tmp_path / "b.tar.gz")
        stop.set()
        worker.join()
    restore(tmp_path / "b.tar.gz", tmp_path / "other")

    with AgentModel.local(tmp_path / "other") as model:
        model.drain()
        sessions = {each.session_id for each in model.repository.sessions("USR001", 1000)}
        assert set(acknowledged) <= sessions
        assert [] == model.drainer.dead()


def test_writers_wait_while_the_tables_are_copied(folder: Path) -> None:
    """A write is acknowledged only after the backup has let go of the tables."""
    wrote = threading.Event()

    def write(model: AgentModel) -> None:
        model.repository.put(Domain(domain_id="DMN002", name="bars"))
        wrote.set()

    with AgentModel.local(folder) as model:
        with alone(folder / "tables", "change"):
            worker = threading.Thread(target=write, args=(model,))
            worker.start()
            assert not wrote.wait(0.3)
        worker.join()

    assert wrote.is_set()


def test_a_backup_is_private_and_overwrites_nothing(folder: Path, tmp_path: Path) -> None:
    """The file has mode 0600, gets a name in a folder, and a file that is there stays."""
    named = back_up(folder, tmp_path).path
    with pytest.raises(ConfigurationError, match="exists: give the backup another name"):
        back_up(folder, named)
    with pytest.raises(ConfigurationError, match="there is no stack in"):
        back_up(tmp_path / "nowhere", tmp_path / "b.tar.gz")
    restore(named, tmp_path / "other")

    assert named.name.startswith("agentmodel-20")
    assert 0o600 == stat.S_IMODE(named.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "other").rglob("*") if each.is_file()}
    assert [] == [each.name for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_a_warehouse_that_another_process_changes_is_not_copied(folder: Path, tmp_path: Path) -> None:
    """A stopped stack whose warehouse somebody has open is refused, with who has it."""
    script = f"import duckdb, sys; c = duckdb.connect({str(folder / 'warehouse.duckdb')!r}); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ConfigurationError, match=rf"warehouse.duckdb cannot be copied .*PID {process.pid}"):
            back_up(folder, tmp_path / "b.tar.gz")
        process.kill()


def test_a_backup_that_is_stopped_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """SIGTERM removes the half-written copy of everything that people asked."""
    (tmp_path / "to").mkdir()
    with alone(folder / "tables", "change"):  # for which it waits
        process = subprocess.Popen(
            [sys.executable, "-m", "agentmodel", "--dir", str(folder), "backup", str(tmp_path / "to")],
            stderr=subprocess.PIPE,
        )
        while not list((tmp_path / "to").glob("*/stack")):
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=120)

    assert [] == list((tmp_path / "to").iterdir())


@pytest.mark.parametrize("is_running", [False, True])
def test_a_full_disk_is_named(folder: Path, tmp_path: Path, small_disk: Path, is_running: bool) -> None:
    """Neither a backup nor a restore takes a full disk for something else; a copy that fails leaves nothing."""
    path = back_up(folder, tmp_path).path
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 8192))
    told = r"b.tar.gz cannot be written .*No space left on device"
    with AgentModel.local(folder) if is_running else nullcontext(), pytest.raises(ConfigurationError, match=told):
        back_up(folder, small_disk / "b.tar.gz")
    with pytest.raises(ConfigurationError, match=r"stack cannot be restored .*No space left on device"):
        restore(path, small_disk / "stack")

    assert ["ballast"] == [each.name for each in small_disk.iterdir()]


class TestWhereItIsRestored:
    def test_or_the_one_before_is_there_again(self, folder: Path, tmp_path: Path) -> None:
        """Where the new folder cannot take the place of the old one, nothing of the old one is lost."""
        before = sorted(folder.rglob("*"))
        with pytest.raises(FileNotFoundError):
            _exchange(folder, tmp_path / "missing", tmp_path / "before")

        assert before == sorted(folder.rglob("*"))

    def test_only_an_empty_folder(self, folder: Path, tmp_path: Path) -> None:
        """What a folder holds is kept, unless it is a stack that is to be replaced and does not run."""
        path = back_up(folder, tmp_path).path
        (tmp_path / "used").mkdir()
        (tmp_path / "used" / "thesis.txt").write_text("words")
        with pytest.raises(ConfigurationError, match="is not empty: restore into another folder"):
            restore(path, folder)
        with pytest.raises(ConfigurationError, match="holds other files than a stack's"):
            restore(path, tmp_path / "used", replace=True)
        with AgentModel.local(folder) as model:
            record(model, "after the backup")
            model.drain()
            count = len(scanned(model))
            with pytest.raises(ConfigurationError, match="a stack runs in"):
                restore(path, folder, replace=True)
        restore(path, folder, replace=True)

        assert "words" == (tmp_path / "used" / "thesis.txt").read_text()
        with AgentModel.local(folder) as model:
            model.drain()
            assert count > len(scanned(model))

    def test_by_a_command(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`backup` and `restore` work on the folder of --dir, and say that erased people are back."""
        assert 0 == main(["--dir", str(folder), "backup", str(tmp_path / "b.tar.gz"), "--json"])
        done = json.loads(capsys.readouterr().out)
        assert 0 == main(["--dir", str(tmp_path / "other"), "restore", str(tmp_path / "b.tar.gz")])
        told = capsys.readouterr().out
        assert 1 == main(["--dir", str(tmp_path / "other"), "restore", str(tmp_path / "b.tar.gz")])
        assert 2 == main(["--dir", str(tmp_path / "other"), "restore", "--replace", str(tmp_path / "b.tar.gz")])
        assert "--yes" in capsys.readouterr().err
        again = ["--dir", str(tmp_path / "other"), "restore", "--replace", "--yes", str(tmp_path / "b.tar.gz")]
        assert 0 == main([*again, "--json"])
        assert "Whoever was erased after that time is back" in capsys.readouterr().err

        assert done["files"] > 4
        assert "Whoever was erased after that time is back" in told


def repacked(path: Path, change: Any) -> Path:
    """A copy of a backup in which ``change`` has changed the files by name."""
    with tarfile.open(path) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    change(files)
    with tarfile.open(path.with_name("changed.tar.gz"), "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.with_name("changed.tar.gz")


def manifest(**values: object) -> Any:
    def change(files: dict[str, bytes]) -> None:
        files["backup.json"] = json.dumps(json.loads(files["backup.json"]) | values).encode()

    return change


def smuggled(files: dict[str, bytes]) -> None:
    told = json.loads(files["backup.json"])
    told["files"]["tables/../../evil"] = ""
    files["backup.json"] = json.dumps(told).encode()
    files["tables/../../evil"] = b""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (manifest(format=2, agentmodel="9.0"), "was made by agentmodel 9.0.*upgrade agentmodel"),
        (lambda files: files.pop("warehouse.duckdb"), "warehouse.duckdb is missing"),
        (lambda files: files.update({"warehouse.duckdb": b"damaged"}), "warehouse.duckdb is damaged"),
        (lambda files: files.update({"more": b""}), "is no whole backup"),
        (lambda files: files.pop("backup.json"), "does not begin with backup.json"),
        (smuggled, "is no file of a stack"),
    ],
)
def test_a_changed_file_is_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    """A backup that is not whole, of a newer version or not ours changes nothing, and says what is wrong."""
    path = repacked(back_up(folder, tmp_path).path, change)

    with pytest.raises(ConfigurationError, match=message):
        restore(path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", gzip.compress(b"no archive", mtime=0)])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file that is no backup, one that was cut off and one that is not there say so."""
    (tmp_path / "b.tar.gz").write_bytes(data)
    with pytest.raises(ConfigurationError, match="is no whole backup of a stack"):
        restore(tmp_path / "b.tar.gz", tmp_path / "other")
    with pytest.raises(ConfigurationError, match="there is no file"):
        restore(tmp_path / "c.tar.gz", tmp_path / "other")


def test_a_cut_off_backup_is_refused(folder: Path, tmp_path: Path) -> None:
    """Wherever a copy of a backup ended too early, nothing is restored."""
    data = back_up(folder, tmp_path).path.read_bytes()
    for end in range(100, len(data), len(data) // 7):
        (tmp_path / "cut.tar.gz").write_bytes(data[:end])
        with pytest.raises(AgentModelError, match="is no whole backup of a stack"):
            restore(tmp_path / "cut.tar.gz", tmp_path / "other")
    assert not (tmp_path / "other").exists()
