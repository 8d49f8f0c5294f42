"""A full disk, a killed engine, a damaged file: named in one line, and nothing that was acknowledged is lost."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, ToolExecution
from agentmodel.embedded._table_log import TableLog
from agentmodel.exceptions import (
    AgentModelError,
    CacheUnavailable,
    ConfigurationError,
    TableUnavailable,
    Unavailable,
    WarehouseUnavailable,
)

USER, SESSION = "USR001", "SESS1"
RECORDS = """
import os, signal, sys
from agentmodel import AgentModel, ToolExecution
model = AgentModel.local(sys.argv[1])
for number in range(1, 21):
    call = ToolExecution(
        user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
        tool_name="find", succeeded=True, call_number=number, call_id=f"c{number}", result=f"r{number}",
    )
    model.recorder.record(call)
    if number == 10:
        model.drain()
    print(call.call_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a stack."""
    return tmp_path / "stack"


def call(number: int, result: str = "") -> ToolExecution:
    """A call with an id and a result of its own."""
    return ToolExecution(
        user_id=USER, session_id=SESSION, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="find",
        succeeded=True, call_number=number, call_id=f"c{number}", result=result or f"r{number}",
    )  # fmt: skip


def stored(folder: Path) -> dict[str | None, str | None]:
    """What a stack of this folder has of the session, after a drain."""
    with AgentModel.local(folder) as model:
        model.drain()
        return {one.call_id: one.result for one in model.repository.session_history(USER, SESSION).executions}


def in_one_line(error: BaseException) -> str:
    """The error's text, which is one line and has a code."""
    assert isinstance(error, AgentModelError)
    assert error.code.startswith("AM-")
    assert "\n" not in str(error)
    return str(error)


class TestKilled:
    def test_the_whole_process(self, folder: Path) -> None:
        """What a killed process had recorded, drained or not, is there when the stack starts again."""
        done = subprocess.run(
            [sys.executable, "-c", RECORDS, str(folder)], capture_output=True, text=True, check=False, timeout=120
        )

        assert [f"c{number}" for number in range(1, 21)] == done.stdout.split(), done.stderr
        assert {f"c{number}": f"r{number}" for number in range(1, 21)} == stored(folder)

    def test_valkey_alone(self, folder: Path) -> None:
        """Records go on in the table, and those that waited in the killed Valkey are there after a restart."""
        with AgentModel.local(folder) as model:
            before = model.recorder.record(call(1)).level
            assert model._valkey is not None
            os.kill(int(model._valkey.execute(("INFO", "server"))["process_id"]), signal.SIGKILL)
            after = model.recorder.record(call(2)).level
            history = model.repository.session_history(USER, SESSION)
            with pytest.raises(Unavailable) as caught:
                model.drain()

        assert ("valkey-durable", "dynamodb") == (before, after)
        assert (False, ["c2"]) == (history.complete, [one.call_id for one in history.executions])
        assert "Valkey" in in_one_line(caught.value)
        assert {"c1": "r1", "c2": "r2"} == stored(folder)

    def test_changes_of_every_kind(self, folder: Path) -> None:
        """Puts, updates, deletes, batches and transactions that were not saved are loaded as they were."""
        with AgentModel.local(folder) as model:
            model.table.create()
            model.writer.put(call(1))
            model.writer.update(call(1), ToolExecution.result.to("changed"))
            with model.writer.batch() as batch:
                batch.put(_other("a"))
                batch.put(_other("b"))
            model.writer.transact(put=[_other("c")], delete=[_other("a").key])
            model.writer.delete(_other("b").key)
            before = list(model.table.scan())
            log = (folder / "tables" / "changes.jsonl").read_bytes()
        (folder / "tables" / "changes.jsonl").write_bytes(log)  # as if it had been killed before it saved
        for path in (folder / "tables").glob("*/*"):
            path.unlink()
        with AgentModel.local(folder) as model:
            after = list(model.table.scan())

        assert before == after
        assert {"changed", "rc"} == {item["ResultMsg"]["S"] for item in after if "ResultMsg" in item}

    def test_saving_shortens_the_log(self, folder: Path) -> None:
        """What is in the saved tables is not in the log any more."""
        with AgentModel.local(folder) as model:
            model.table.create()
            model.writer.put(call(1))
            assert model._engines is not None
            model._engines.save()

            assert b"" == (folder / "tables" / "changes.jsonl").read_bytes()


class TestDamaged:
    def test_the_end_of_the_log(self, folder: Path) -> None:
        """Half a line at the end was not acknowledged: it is left out."""
        with AgentModel.local(folder) as model:
            model.recorder.record(call(1))
            model.drain()
        with (folder / "tables" / "changes.jsonl").open("ab") as file:
            file.write(b'{"region": "us-ea')

        assert {"c1": "r1"} == stored(folder)

    def test_the_middle_of_the_log(self, folder: Path) -> None:
        """A line that cannot be read stops the start, is named, and stays."""
        with AgentModel.local(folder):
            pass
        path = folder / "tables" / "changes.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged\n")
        with pytest.raises(ConfigurationError, match=r"line 1 of .*changes\.jsonl cannot be read") as caught:
            AgentModel.local(folder)

        in_one_line(caught.value)
        assert b"damaged\n" == path.read_bytes()

    def test_the_journal(self, folder: Path) -> None:
        """An append-only file that Valkey cannot read stops the start, with what to do."""
        with AgentModel.local(folder) as model:
            model.recorder.record(call(1))
        for path in (folder / "valkey" / "appendonlydir").glob("*.incr.aof"):
            path.write_bytes(b"*3\r\n$damaged" * 50)
        with pytest.raises(CacheUnavailable, match=r"did not start in .* damaged: repair it with .* or move") as caught:
            AgentModel.local(folder)

        in_one_line(caught.value)

    def test_the_warehouse(self, folder: Path) -> None:
        """A DuckDB file that is none is named, with what to do; the history is not touched."""
        with AgentModel.local(folder) as model:
            model.recorder.record(call(1))
        (folder / "warehouse.duckdb").write_bytes(b"damaged" * 5000)
        with AgentModel.local(folder) as model:
            with pytest.raises(WarehouseUnavailable, match=r"warehouse\.duckdb") as caught:
                model.refresh()
            in_one_line(caught.value)

        assert {"c1": "r1"} == stored(folder)


class TestFullDisk:
    def test_records_and_restarts(self, small_disk: Path) -> None:
        """A full disk refuses records in one line, and has all that it acknowledged once there is room again."""
        folder, ballast = small_disk / "stack", small_disk / "ballast"
        acknowledged: dict[str, str] = {}
        model = AgentModel.local(folder)
        try:
            model.recorder.record(call(1))
            model.drain()
            acknowledged["c1"] = "r1"
            free = os.statvfs(small_disk)
            ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - 1_000_000))
            with pytest.raises(Unavailable) as caught:
                _record_until_full(model, acknowledged)
        finally:
            model.close()
        ballast.unlink()

        assert "No space left" in in_one_line(caught.value)
        assert len(acknowledged) > 2
        assert acknowledged == {name: stored(folder).get(name) for name in acknowledged}

    def test_start(self, small_disk: Path) -> None:
        """A stack that cannot write its files says so, with the folder."""
        (small_disk / "stack").mkdir()
        free = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(b"x" * free.f_bavail * free.f_frsize)
        with pytest.raises((ConfigurationError, CacheUnavailable), match="free some space") as caught:
            AgentModel.local(small_disk / "stack")

        in_one_line(caught.value)

    def test_refused_change_is_kept_before_it_is_acknowledged(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change that the disk did not take is not acknowledged; recorded again, it is on the disk first."""

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with AgentModel.local(folder) as model:
            model.table.create()
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                with pytest.raises(TableUnavailable, match=r"No space left on device.*: free some space there"):
                    model.writer.put_new(call(1))
            assert "ResultMsg" not in (folder / "tables" / "changes.jsonl").read_text()
            model.writer.put_new(_other("b"))

            assert ["r1", "rb"] == [
                each["item"]["ResultMsg"]["S"]
                for each in TableLog(folder / "tables" / "changes.jsonl").read()
                if "item" in each
            ]

    def test_a_save_that_fails_is_logged(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Tables that cannot be saved at the end are loaded from the log, and one line says so."""

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with AgentModel.local(folder) as model:
            model.recorder.record(call(1))
            model.drain()
            monkeypatch.setattr("agentmodel.embedded._dynamodb.replace_file", full)
        monkeypatch.undo()

        assert ["embedded.not_saved"] == [
            record.getMessage().partition(":")[0] for record in caplog.records if record.levelno == logging.WARNING
        ]
        assert {"c1": "r1"} == stored(folder)


def _record_until_full(model: AgentModel, acknowledged: dict[str, str]) -> None:
    for number in range(2, 400):
        result = f"{number}" + "x" * 20_000
        model.recorder.record(call(number, result))
        acknowledged[f"c{number}"] = result


def _other(name: str) -> ToolExecution:
    other = call(1, f"r{name}")
    return ToolExecution(**{**other.attribute_values, "tool_id": f"TL{name}"})
