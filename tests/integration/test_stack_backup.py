"""A local stack is backed up into one file, also while others record, and restored as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from agentmodel import AgentModel, Domain
from agentmodel.cli import main
from agentmodel.embedded._backup import back_up, restore
from agentmodel.embedded._folder import locked, unfinished
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


def files(folder: Path) -> dict[str, bytes]:
    """The content of each file of a folder, without locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    }


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


def test_two_backups_at_once(folder: Path, tmp_path: Path) -> None:
    """Where another backup got the name meanwhile, its file stays, and this one says so."""
    with ThreadPoolExecutor(1) as pool:
        with alone(folder / "tables", "change"):  # for which it waits
            done = pool.submit(back_up, folder, tmp_path / "b.tar.gz")
            while not list(tmp_path.glob(".*/stack")):
                assert not done.done()
            (tmp_path / "b.tar.gz").write_text("the other one's")
        with pytest.raises(ConfigurationError, match="exists: give the backup another name"):
            done.result()

    assert "the other one's" == (tmp_path / "b.tar.gz").read_text()


def test_a_backup_does_not_copy_itself(folder: Path) -> None:
    """A file among those of the stack is refused: the copy of a folder would have a copy of itself in it, and so on."""
    for place in (folder / "tables", folder / "valkey" / "appendonlydir" / "b.tar.gz"):
        with pytest.raises(ConfigurationError, match="lies among the files of the stack"):
            back_up(folder, place)


def test_what_a_killed_backup_left_is_removed(folder: Path, tmp_path: Path) -> None:
    """A hidden copy of what people asked stays until the next backup or start there; one that works now stays."""
    with unfinished(tmp_path) as killed:
        left = shutil.copytree(killed, killed.with_name(f"{killed.name}-killed"))
        (left / "stack").mkdir()
        (theirs := tmp_path / ".agentmodel-unfinished-theirs").mkdir()
        (theirs / "thesis.txt").write_text("words")
        back_up(folder, tmp_path)
        assert killed.is_dir()
        assert not left.exists()
        shutil.copytree(killed, left)
        with AgentModel.local(tmp_path / "new"):
            assert not left.exists()
    assert [theirs] == list(tmp_path.glob(".*"))


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
    def test_or_the_one_before_is_there_again(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever a restore is killed, the next start has one stack or the other, whole."""
        path = back_up(folder, tmp_path).path
        restore(path, tmp_path / "fresh")
        (folder / "valkey.log").write_text("of before")
        old, new, found = files(folder), files(tmp_path / "fresh"), list[dict[str, bytes]]()
        rename = Path.rename
        while not found or found[-1] != new or len(found) < 6:  # each move is the last one once
            home = shutil.copytree(folder, tmp_path / str(len(found)))
            moves = iter(range(len(found)))

            def killed(self: Path, target: Path, moves: Iterator[int] = moves) -> Path:
                if next(moves, None) is None:
                    raise KeyboardInterrupt
                return rename(self, target)

            with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
                patched.setattr(Path, "rename", killed)
                restore(path, home, replace=True)
            back_up(home, tmp_path / f"{len(found)}.tar.gz")  # which begins as a start does
            found.append(files(home))
        assert old in found
        assert [] == [each for each in found if each not in (old, new)]

    def test_two_restores_at_once(self, folder: Path, tmp_path: Path) -> None:
        """One works, and the other says that it has to wait; a lock of a folder that was removed counts for none."""
        path = back_up(folder, tmp_path).path
        with locked(folder), pytest.raises(ConfigurationError, match=f"already \\(process {os.getpid()}, since"):
            restore(path, folder, replace=True)
        (tmp_path / "other").mkdir()
        with locked(tmp_path / "other"):
            (tmp_path / "other" / "lock").unlink()
            with locked(tmp_path / "other"):
                pass

    def test_a_file_in_its_place(self, folder: Path, tmp_path: Path) -> None:
        """It is named in one line, and stays."""
        path = back_up(folder, tmp_path).path
        with pytest.raises(ConfigurationError, match=r"gz cannot be restored \(Not a directory\)"):
            restore(path, path)
        assert path.stat().st_size

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


def smuggled(name: str) -> Any:
    """A file that the manifest has, too, under a name that no backup has."""

    def change(files: dict[str, bytes]) -> None:
        told = json.loads(files["backup.json"])
        told["files"][name] = hashlib.sha256(b"").hexdigest()
        files["backup.json"] = json.dumps(told).encode()
        files[name] = b""

    return change


def text(content: str) -> Any:
    return lambda files: files.update({"backup.json": content.encode()})


def larger(files: dict[str, bytes]) -> None:
    files["warehouse.duckdb"] += b"\0" * 100_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (manifest(format=2, agentmodel="9.0\x1b[31m\n"), r"was made by agentmodel 9\.0, and this.*upgrade agentmodel"),
        (manifest(format=0), "backup.json is damaged"),
        (manifest(agentmodel=None), "backup.json is damaged"),
        (text("[" * 100_000), "recursion"),
        (text(" " * (1 << 24) + "{}"), "backup.json is too large"),
        (lambda files: files.pop("warehouse.duckdb"), "'warehouse.duckdb' is missing"),
        (lambda files: files.update({"warehouse.duckdb": b"damaged"}), "'warehouse.duckdb' is damaged"),
        (lambda files: files.update({"more\n": b""}), r"'more\\n' is no file of it"),
        (lambda files: files.pop("backup.json"), "does not begin with backup.json"),
        (larger, "'warehouse.duckdb' is damaged"),
        (
            manifest(size=1 << 60),
            r"other cannot be restored \(No space left on device: it needs 1,152,921,504,607 MB\)",
        ),
        *[
            (smuggled(name), "is no file of a stack")
            for name in ("tables/../../evil", "../evil", "/evil", ".", "tables//evil", "evil")
        ],
    ],
)
def test_a_changed_file_is_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    """A backup that is not whole, of a newer version or not ours changes nothing, and says what is wrong."""
    path = repacked(back_up(folder, tmp_path).path, change)

    with pytest.raises(ConfigurationError, match=message) as caught:
        restore(path, tmp_path / "other")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, 0) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)]
    + [(tarfile.GNUTYPE_LONGNAME, 1 << 25), (tarfile.XHDTYPE, 1 << 25)],
)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    """No link is followed, also to a file that has what is expected; no device is made, no huge header is read."""
    digest = hashlib.sha256(b"").hexdigest()
    described = {"format": 1, "agentmodel": "", "made_at": "2025-06-14T00:00:00+00:00"}
    described["files"] = {"tables/file": digest, "tables/link": digest}
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name, content in (("backup.json", json.dumps(described).encode()), ("tables/file", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("tables/link")
        member.type, member.linkname, member.size = kind, "tables/file", size
        archive.addfile(member, io.BytesIO(bytes(size)))
    with pytest.raises(ConfigurationError, match=r"'tables/link' is damaged|a header is too large"):
        restore(tmp_path / "b.tar.gz", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", gzip.compress(b"no archive", mtime=0)])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file that is no backup, a folder, one that was cut off and one that is not there say so."""
    with pytest.raises(ConfigurationError, match=r"is no whole backup of a stack .*Is a directory"):
        restore(tmp_path, tmp_path / "other")
    (tmp_path / "b.tar.gz").write_bytes(data)
    with pytest.raises(ConfigurationError, match="is no whole backup of a stack"):
        restore(tmp_path / "b.tar.gz", tmp_path / "other")
    with pytest.raises(ConfigurationError, match="there is no file"):
        restore(tmp_path / "c.tar.gz", tmp_path / "other")


def test_a_damaged_backup_is_refused(folder: Path, tmp_path: Path) -> None:
    """Wherever a copy of a backup ended too early, or has a changed byte or more than it had, nothing wrong is restored."""
    path = back_up(folder, tmp_path).path
    data = path.read_bytes()
    for more in (b"more", gzip.compress(b"more"), gzip.compress(b"")[:-1]):
        (tmp_path / "more.tar.gz").write_bytes(data + more)
        with pytest.raises(AgentModelError, match="is no whole backup of a stack"):
            restore(tmp_path / "more.tar.gz", tmp_path / "other")
    restore(path, tmp_path / "whole")
    for place in (*range(100, len(data), len(data) // 20), len(data) - 7):
        (tmp_path / "flipped.tar.gz").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with suppress(ConfigurationError):
            restore(tmp_path / "flipped.tar.gz", tmp_path / "other")
            assert files(tmp_path / "whole") == files(tmp_path / "other")  # such as where two codes mean the same
            shutil.rmtree(tmp_path / "other")
    for end in range(100, len(data), len(data) // 7):
        (tmp_path / "cut.tar.gz").write_bytes(data[:end])
        with pytest.raises(AgentModelError, match="is no whole backup of a stack"):
            restore(tmp_path / "cut.tar.gz", tmp_path / "other")
    assert not (tmp_path / "other").exists()
