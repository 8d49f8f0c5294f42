from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import pytest

from agentmodel._demo.world import seed
from agentmodel._values.urls import readers_url
from agentmodel.cli import main
from agentmodel.cli._model import resolve_settings
from agentmodel.cli._output import Output
from agentmodel.cli._up_learning import Learning
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines, find_stack
from agentmodel.embedded._backup import restore
from agentmodel.exceptions import ConfigurationError, WarehouseUnavailable
from agentmodel.redshift.warehouse import Warehouse
from tests.integration import stored
from tests.integration.test_table_migration import write_number


@contextmanager
def up(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A running stack that is ready; with --json, the next line of its stdout says what it serves."""
    with subprocess.Popen(
        [sys.executable, "-m", "agentmodel", "up", "--dir", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={name: value for name, value in os.environ.items() if not name.startswith("AGENTMODEL_")},
    ) as process:
        try:
            assert process.stdout is not None
            for line in () if "--json" in options else process.stdout:
                if line.startswith("Ready"):
                    break
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def opened(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a DuckDB file open, in the middle of a change, until its stdin ends."""
    script = f"import duckdb, sys; c = duckdb.connect({str(file)!r}); c.begin(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.stdin.close()


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "agentmodel", "--dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def stop(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Stop it by a signal; exit code, and what it still said."""
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_stack_runs_until_it_is_stopped_and_keeps_what_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is recorded is drained when the stack stops, by Ctrl-C or by SIGTERM, and there when it starts again."""
    folder = tmp_path / ".agentmodel"
    with up(folder) as process:
        assert 0 == main(["--dir", str(folder), "seed"])
        _second_up_is_refused(folder, process.pid, capsys)
        _its_variables_reach_it(folder, capsys)
        with AgentModel.from_settings(resolve_settings(folder)) as model, model.session("USR001", "a café") as session:
            pass
        code, out, err = stop(process, signal.SIGINT)
    assert (0, "") == (code, err)
    assert "Stopping: draining the journal" in out
    assert find_stack(folder) is None

    with up(folder) as process:
        assert 0 == main(["--dir", str(folder), "sessions", "--user", "USR001", "--json"])
        shown = capsys.readouterr().out
        assert 0 == main(["--dir", str(folder), "drain", "--json"])
        assert 0 == json.loads(capsys.readouterr().out)["written"]
        code, _, _ = stop(process, signal.SIGTERM)
    assert 0 == code
    assert session.session_id in shown


def _its_variables_reach_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `env` prints reaches the stack in every form, as `from_stack` does, whatever the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTMODEL_VALKEY_URL", "valkey://127.0.0.1:1")
        with AgentModel.from_stack(folder, ranking="evidence") as model:
            assert model.repository.domains().items
            assert "evidence" == model.settings.ranking
    capsys.readouterr()
    printed = []
    for form in (["--json"], ["--format", "shell"], ["--format", "dotenv"]):
        assert 0 == main(["--dir", str(folder), "env", *form])
        printed.append(capsys.readouterr().out)
    variables = json.loads(printed[0])
    shell = subprocess.run(
        ["sh", "-c", f"{printed[1]}\nenv"], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    lines = [line for line in shell.stdout.splitlines() if line.startswith("AGENTMODEL_")]

    assert {f"{name}={value}" for name, value in variables.items()} == set(lines)
    assert {f"{name}='{value}'" for name, value in variables.items()} == set(printed[2].splitlines())
    assert model.settings.valkey_url == variables["AGENTMODEL_VALKEY_URL"]


def _second_up_is_refused(folder: Path, pid: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says which process runs it."""
    capsys.readouterr()
    assert 1 == main(["up", "--dir", str(folder)])
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert 1 == err.count("\n")
    assert str(pid) in err


def test_a_running_stack_drains_by_itself(tmp_path: Path) -> None:
    """While the stack runs, records reach the table without anybody's help."""
    folder = tmp_path / ".agentmodel"
    with up(folder) as process:
        with AgentModel.from_settings(resolve_settings(folder)) as model:
            with model.session("USR001", "a café") as session:
                pass
            assert model.journal is not None
            while model.journal.stats().depth:  # the test's timeout ends it if nobody drains
                time.sleep(0.02)
            stored = model.table.get_item(session.entity.key, consistent=True)
        code, _, _ = stop(process, signal.SIGTERM)

    assert stored is not None
    assert 0 == code


def test_without_a_running_stack_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither `env` nor `from_stack` takes a folder in which nothing runs."""
    assert 1 == main(["--dir", str(tmp_path), "env"])
    assert f"no stack runs in {tmp_path}: run `agentmodel up" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="no stack runs in"):
        AgentModel.from_stack(tmp_path)


def test_it_learns_and_others_read_meanwhile(tmp_path: Path) -> None:
    """Soon after the first session it refreshes and publishes, one line each time; others read while one refreshes."""
    folder = tmp_path / ".agentmodel"
    with up(folder, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        served = json.loads(process.stdout.readline())
        with AgentModel.from_stack(folder) as model:
            assert (served["dynamodb"], served["table"]) == (model.settings.endpoint, model.table.name)
            seed(model)
            with (
                model.session("USR001", "a café", category="cafe") as session,
                session.process("find") as step,
                step.call("AGT001", "TL001"),
            ):
                pass
        learned = next(line for line in process.stderr if "users: 0" not in line)
        with opened(folder / "warehouse.duckdb"):  # as one that refreshes
            reads = [
                command(folder, *words, "--json")
                for words in (("sessions",), ("users",), ("errors",), ("tools",), ("report", str(tmp_path / "r.html")))
            ]
            console = command(folder, "console", "--port", "0", "--json")
            told = [each.communicate(timeout=300) for each in reads]
            page = _page_of(console)
        refreshed = command(folder, "refresh", "--json").communicate(timeout=300)
        code, _, _ = stop(process, signal.SIGTERM)

    assert "learned from" in learned
    assert "updated" in learned
    assert [(0, "")] * 5 == [(each.returncode, err) for each, (_, err) in zip(reads, told, strict=True)]
    (listed,) = json.loads(told[0][0])["sessions"]
    assert (session.session_id, False) == (listed["session_id"], listed["is_new"])
    assert session.session_id in page
    assert ("", 1) == (refreshed[1], json.loads(refreshed[0])["rows"]["usersession"])
    assert 0 == code


def _page_of(console: subprocess.Popen[str]) -> str:
    """The list of sessions that a console in a process of its own shows; the console is stopped."""
    assert console.stdout is not None
    line = console.stdout.readline()
    assert line, console.communicate()[1]
    with urllib.request.urlopen(f"{json.loads(line)['console']}sessions") as answer:  # noqa: S310  # its own address
        page: str = answer.read().decode()
    console.send_signal(signal.SIGTERM)
    assert ("", "") == console.communicate(timeout=60)
    return page


def test_who_changes_the_warehouse_waits_for_it(tmp_path: Path) -> None:
    """A warehouse whose file has a copy for readers is opened once another process has closed it."""
    file = tmp_path / "warehouse.duckdb"
    with Warehouse.open(f"duckdb:///{file}") as warehouse:
        warehouse.create()
        warehouse.share()
    waited = threading.Event()

    def opening() -> None:
        with Warehouse.open(f"duckdb:///{file}") as again:
            again.refresh(as_of=date(2025, 6, 14))
        waited.set()

    with opened(file):
        worker = threading.Thread(target=opening)
        worker.start()
        assert not waited.wait(0.3)
    worker.join()

    assert waited.is_set()
    with Warehouse.open(readers_url(f"duckdb:///{file}")) as copy:
        assert 1 == copy.counts()["refresh_watermark"]
        with pytest.raises(WarehouseUnavailable, match="read-only"):
            copy.refresh(as_of=date(2025, 6, 14))


def test_an_erased_user_leaves_the_copy_too(tmp_path: Path) -> None:
    """The copy that others read has no byte of an erased user."""
    with AgentModel.local(tmp_path / "stack") as model:
        with model.session("USR001", "a request that nobody else has made"):
            pass
        model.drain()
        model.warehouse.share()
        model.refresh()
        copy = tmp_path / "stack" / "warehouse.read.duckdb"
        before = b"nobody else has made" in copy.read_bytes()
        model.erase_user("USR001")

        assert before
        assert b"nobody else has made" not in copy.read_bytes()


def test_a_copy_that_the_disk_does_not_take_is_told(tmp_path: Path) -> None:
    """Where the copy keeps the rows of before, who rewrites the file is told so, and no half copy takes up room."""
    file, draft = tmp_path / "warehouse.duckdb", tmp_path / "warehouse.read.duckdb.new"
    with Warehouse.open(f"duckdb:///{file}") as warehouse:
        warehouse.create()
        warehouse.share()
        draft.symlink_to("/dev/full")
        problem = warehouse.rewrite()
        left = draft.is_symlink()
        again = warehouse.rewrite()

    assert "warehouse.read.duckdb could not be renewed" in problem
    assert "No space left on device" in problem
    assert not left
    assert "" == again


class Told(Output):
    """Keeps the lines that are printed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def line(self, text: str = "") -> None:
        self.lines.put(text)


def test_learning_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    """While the warehouse cannot be used it says so; then it learns, and it ends in the middle of its work."""
    out = Told()
    told = out.lines
    stopping = threading.Event()
    with AgentModel.local(tmp_path / "stack") as model:
        seed(model)
        learning = Learning(model, every=0.01, out=out)
        worker = threading.Thread(target=learning.run, args=(stopping,))
        with opened(tmp_path / "stack" / "warehouse.duckdb") as process:
            worker.start()
            failed = told.get(timeout=60)
        learned = told.get(timeout=60)
        while "learning failed" in learned:
            learned = told.get(timeout=60)
        stopping.set()
        worker.join()
        Learning(model, every=0, out=out).run(threading.Event())  # returns at once

    assert f"learning failed and is tried again in 0 seconds: process {process.pid}" in failed
    assert "learned from" in learned


class SetMeanwhile(threading.Event):
    """Is set when the work that is under way asks for the first time."""

    asked = False

    def is_set(self) -> bool:
        self.asked = True
        return True

    def wait(self, timeout: float | None = None) -> bool:
        return self.asked


def test_a_refresh_under_way_is_given_up_at_the_stop(tmp_path: Path) -> None:
    """A stop rolls back what is being learned; nothing is told."""
    out = Told()
    with AgentModel.local(tmp_path / "stack") as model:
        seed(model)
        stopping = SetMeanwhile()
        Learning(model, every=0.01, out=out).run(stopping)

        assert stopping.asked
        assert out.lines.empty()
        assert 0 == model.warehouse.counts()["refresh_watermark"]


@pytest.mark.parametrize("text", ["soon", "0h", "-1h", "9" * 400 + "d", "1.5h"])
def test_a_wrong_time_to_learn_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no span of time is refused before anything is started."""
    assert 2 == main(["up", "--dir", str(tmp_path / "stack"), f"--learn-every={text}"])
    assert "must be a span such as 30m, 1h or 1d, or 0 for never" in capsys.readouterr().err
    assert not (tmp_path / "stack").exists()


@pytest.fixture
def old_folder(tmp_path: Path) -> Path:
    """The folder of a stack with what 0.1.0 stored in it."""
    folder = tmp_path / "old"
    with Engines(folder, settings=Settings(endpoint=None, valkey_url=None, warehouse_url=None)) as engines:
        stored.fill_table(engines.settings.table, str(engines.settings.endpoint))
        stored.fill_valkey(str(engines.settings.valkey_url))
    Path(stored.warehouse_url(tmp_path).removeprefix("duckdb:///")).rename(folder / "warehouse.duckdb")
    return folder


def test_an_old_folder_is_upgraded(old_folder: Path, tmp_path: Path) -> None:
    """A folder of 0.1.0 is brought up after a backup from which it can be restored; the second start changes nothing."""
    with up(old_folder) as process:
        with AgentModel.from_stack(old_folder) as model:
            assert [] == [change for change in model.migrate() if change.alters]
            model.refresh()
            sessions = model.warehouse.counts()["usersession"]
        code, out, _ = stop(process, signal.SIGTERM)
    with up(old_folder) as process:
        assert 0 == stop(process, signal.SIGTERM)[0]
    (backup,) = tmp_path.glob("old-before-upgrade-*.tar.gz")
    restore(backup, tmp_path / "before")
    with Warehouse.open(f"duckdb:///{tmp_path / 'before' / 'warehouse.duckdb'}") as before:
        old = before.migration()

    assert 0 == code
    assert "Stopping" in out
    assert sessions > 20
    assert old


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table or a warehouse that a newer version wrote stays as it is, in words; no engine is left running."""
    folder = tmp_path / "new"
    plain = Settings(endpoint=None, valkey_url=None, warehouse_url=None)
    with Engines(folder, settings=plain) as engines, AgentModel.from_settings(engines.settings) as model:
        model.table.create()
        with contextlib.closing(model.warehouse):
            pass
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("UPDATE warehouse_version SET version = 99")
    assert 1 == main(["up", "--dir", str(folder)])
    assert "the warehouse has schema 99, which a newer agentmodel made" in capsys.readouterr().err
    with Engines(folder, settings=plain) as engines, AgentModel.from_settings(engines.settings) as model:
        write_number(model.table, 9)
    assert 1 == main(["up", "--dir", str(folder)])
    assert "has format 9, which a newer agentmodel made" in capsys.readouterr().err
    assert find_stack(folder) is None
