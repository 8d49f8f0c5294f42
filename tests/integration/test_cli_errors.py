from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentmodel.cli import main
from agentmodel.client import AgentModel
from agentmodel.config import Settings

LINE = {"domain": "d", "agent": "a", "session": "s", "step": 1, "tool": "t", "success": True}


def run(*arguments: str, program: str = "-m agentmodel", **environment: str) -> tuple[int, str]:
    """A command in a process of its own: its exit code and what it says on stderr."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTMODEL_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, *program.split(maxsplit=1), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=bare | environment,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr.strip()


@pytest.fixture
def reached(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings in the environment that reach the engines; the table exists."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    return settings


def environment(settings: Settings) -> dict[str, str]:
    assert settings.secret_access_key is not None
    return {
        "AGENTMODEL_TABLE": settings.table,
        "AGENTMODEL_ENDPOINT": str(settings.endpoint),
        "AGENTMODEL_ACCESS_KEY_ID": str(settings.access_key_id),
        "AGENTMODEL_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
        "AGENTMODEL_VALKEY_URL": str(settings.valkey_url),
        "AGENTMODEL_WAREHOUSE_URL": str(settings.warehouse_url),
    }


WRONG_USE = {
    "an id with a number sign": (["suggest", "USR#1", "--category", "c"], "USER", "'#'"),
    "an id with a blank": (["sessions", "--user", "USR 1"], "--user", "' '"),
    "a name with a line end": (["session", "SESS1", "--user", "mina\n"], "--user", "control characters"),
    "an id with a line end": (["erase", "--yes", "USR1\n"], "USER", "U+000A"),
    "a session that is no session": (["session", "S#1"], "ID", "SESS"),
    "nothing to plan for": (["suggest", "USR001"], "category", "must be given, or a request"),
    "a domain that is no domain": (["agents", "--domain", "AGT001"], "--domain", "the name of a domain"),
    "a naive time": (["refresh", "--as-of", "2025-06-14T10:00:00"], "--as-of", "no offset"),
    "no time": (["publish", "--as-of", "yesterday"], "--as-of", "2025-06-14"),
    "a missing file": (["import", "nowhere.jsonl"], "nowhere.jsonl", "No such file"),
    "an unknown time zone": (["import", "calls.jsonl", "--timezone", "Mars"], "Mars", "Asia/Seoul"),
    "a cursor of nothing": (["sessions", "--user", "USR001", "--cursor", "x"], "cursor", "cursor of a page"),
    "an option that is none": (["agents", "--top"], "--top", "--help"),
    "a command that is none": (["agent"], "agent", "--help"),
    "a limit of nothing": (["agents", "--limit", "0"], "--limit", "1"),
    "a missing argument": (["suggest"], "USER", "--help"),
    "traces without files": (["demo", "--traces"], "--traces", "file"),
    "files without traces": (["demo", "calls.jsonl"], "--traces", "file"),
    "a seed for traces": (["demo", "--traces", "calls.jsonl", "--seed", "1"], "--seed", "trace"),
    "no sessions": (["demo", "--sessions", "0"], "--sessions", "1"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use_is_one_line_and_exit_2(
    case: str, reached: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong in the command is named together with what would be right."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.jsonl").write_text(json.dumps(LINE), encoding="utf-8")
    arguments, named, mend = WRONG_USE[case]
    code = main(arguments)
    out, err = capsys.readouterr()

    assert (2, "") == (code, out)
    assert err.startswith("error: ")
    assert 1 == err.count("\n")
    assert named in err
    assert mend in err


def test_a_file_that_is_not_gzip_is_named(
    reached: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Import and demo refuse it alike, the demo before any engine starts."""
    path = tmp_path / "calls.jsonl.gz"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    for command in (["import", str(path)], ["demo", "--traces", str(path)]):
        assert 2 == main(command)
        assert "must be gzip, because its name ends in .gz" in capsys.readouterr().err


def test_bad_lines_of_a_file_are_no_wrong_use(
    reached: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Strict stops at the first bad line with file, line and field; nothing but bad lines is a failure."""
    path = tmp_path / "calls.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{json.dumps(LINE | {'step': -1})}\n", encoding="utf-8")
    assert 1 == main(["import", str(path), "--strict"])
    assert f"{path}, line 2: step" in capsys.readouterr().err
    assert 0 == main(["import", str(path)])
    assert f"not imported: {path}, line 2: step" in capsys.readouterr().err
    path.write_text("[]", encoding="utf-8")
    assert 1 == main(["import", str(path)])
    assert f"{path}, line 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["agents", "--domain", "DMN999"], "domain DMN999 does not exist"),
        (["tools", "--domain", "DMN999"], "domain DMN999 does not exist"),
        (["suggest", "USR001", "--domain", "DMN999"], "domain DMN999 does not exist"),
        (["sessions", "--user", "USR999"], "user USR999 does not exist"),
        (["session", "SESS1", "--user", "USR999"], "session SESS1 of USR999 does not exist"),
    ],
)
def test_what_is_not_there_is_exit_1(
    arguments: list[str], told: str, reached: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id that is one, but of nothing, is named."""
    assert 1 == main(arguments)
    assert f"error: {told} (AM-301)\n" == capsys.readouterr().err


@pytest.mark.parametrize("command", ["agents", "seed", "refresh", "stats", "table verify"])
def test_a_table_that_does_not_exist_is_named(
    command: str, reached: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that needs the table says which one is missing and how it is created."""
    monkeypatch.setenv("AGENTMODEL_TABLE", "Nowhere")
    assert 1 == main(command.split())
    err = capsys.readouterr().err
    assert "error: table Nowhere does not exist" in err
    assert "agentmodel table create" in err


def test_stores_that_do_not_answer_are_named(
    reached: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Valkey, a DynamoDB and a warehouse that cannot be reached are each named with their setting or address."""
    monkeypatch.setenv("AGENTMODEL_VALKEY_URL", "valkey://127.0.0.1:1/0")
    assert 1 == main(["drain"])
    err = capsys.readouterr().err
    assert "valkey://127.0.0.1:1/0" in err
    assert 1 == err.count("\n"), "the outage is told by the error alone"
    monkeypatch.setenv("AGENTMODEL_DYNAMODB_ATTEMPTS", "1")
    monkeypatch.setenv("AGENTMODEL_ENDPOINT", "http://127.0.0.1:1")
    assert 1 == main(["agents"])
    assert "http://127.0.0.1:1" in capsys.readouterr().err
    monkeypatch.setenv("AGENTMODEL_WAREHOUSE_URL", "duckdb:////nowhere/at/all.duckdb")
    assert 1 == main(["errors"])
    assert "/nowhere/at/all.duckdb" in capsys.readouterr().err


@pytest.mark.parametrize("store", ["VALKEY_URL", "ENDPOINT", "WAREHOUSE_URL"])
def test_stats_count_the_stores_that_answer(
    store: str, reached: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is away is named, with its breaker; the others are counted, and the exit code is 1."""
    station, address = {
        "VALKEY_URL": ("cache", "valkey://127.0.0.1:1"),
        "ENDPOINT": ("dynamo", "http://127.0.0.1:1"),
        "WAREHOUSE_URL": ("redshift", "duckdb:////nowhere.duckdb/at/all"),
    }[store]
    monkeypatch.setenv("AGENTMODEL_DYNAMODB_ATTEMPTS", "1")
    monkeypatch.setenv(f"AGENTMODEL_{store}", address)
    codes = main(["stats", "--json"]), main(["stats"])
    said = capsys.readouterr()
    counts = json.JSONDecoder().raw_decode(said.out)[0]
    counted = {
        "cache": counts["cache"].get("depth") == 0 and counts["cache"]["breaker"] == "closed",
        "dynamo": counts["dynamo"]["items"] == 0 and counts["dynamo"]["breaker"] == "closed",
        "redshift": counts["redshift"].get("landed") == 0,
    }

    assert (1, 1) == codes
    assert [station] == list(counts["failed"]) == [name for name, well in counted.items() if not well]
    assert {"cache": "open", "dynamo": "open", "redshift": None}[station] == counts[station].get("breaker")
    assert 2 == said.err.count("error: ") == said.err.count(")\n")
    assert counts["failed"][station] in said.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("VALKEY_URL", "http://here"), ("ENDPOINT", "here"), ("RANKING", "best"), ("SHARDS", "0"), ("TABLE", "a b")],
)
def test_a_setting_that_is_not_accepted_is_named(
    name: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong setting is named by its variable, whatever the command."""
    monkeypatch.setenv(f"AGENTMODEL_{name}", value)
    assert 1 == main(["agents"])
    assert capsys.readouterr().err.startswith(f"error: AGENTMODEL_{name} ")


def test_processes_end_with_the_same_codes(reached: Settings, tmp_path: Path) -> None:
    """The installed command behaves as the function does: one line, no traceback, 1 or 2."""
    here = {"AGENTMODEL_REGION": ""}
    assert (1, True) == _told(run("agents"), "run `agentmodel up`, or set AGENTMODEL_REGION")
    assert (2, True) == _told(run("suggest", "USR#1", "--category", "c"), "'#'")
    assert (1, True) == _told(run("drain", **environment(reached) | {"AGENTMODEL_VALKEY_URL": "valkey://127.0.0.1:1"}),
                              "valkey://127.0.0.1:1")  # fmt: skip
    assert (1, True) == _told(run("agents", **here), "AGENTMODEL_REGION")


def _told(done: tuple[int, str], text: str) -> tuple[int, bool]:
    code, err = done
    return code, text in err and "error: " in err


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_packages_the_command_says_the_pip_line(module: str) -> None:
    """Installed without the extra, the command says how to get it."""
    program = f"import sys; sys.modules[{module!r}] = None; from agentmodel.cli import main; sys.exit(main(['agents']))"
    code, err = run(program=f"-c {program}")

    assert (1, "error: the command line needs an optional dependency: pip install 'agentmodel[cli]'") == (code, err)


def test_without_a_warehouse_package_the_command_says_the_pip_line(reached: Settings) -> None:
    """Installed with the command line only, what needs more says what."""
    program = (
        "import sys; sys.modules['sqlalchemy'] = None; from agentmodel.cli import main; sys.exit(main(['errors']))"
    )
    code, err = run(program=f"-c {program}", **environment(reached))

    assert 1 == code
    assert "pip install 'agentmodel[local]'" in err


def test_text_that_is_none_is_refused() -> None:
    """Bytes that are not text of the terminal's encoding are refused, not stored."""
    assert 2 == main(["suggest", "USR001", "--category", "\udcff"])
