from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmodel.cli import main
from agentmodel.cli._model import resolve_settings
from agentmodel.client import AgentModel
from agentmodel.embedded import find_stack
from agentmodel.exceptions import ConfigurationError


@contextmanager
def up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A running stack that is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "agentmodel", "up", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={name: value for name, value in os.environ.items() if not name.startswith("AGENTMODEL_")},
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Ready"):
                    break
            yield process
        finally:
            if process.poll() is None:
                process.kill()


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
                pass
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
