"""`agentmodel check` through the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmodel.cli import main
from agentmodel.cli._doctor import repair
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table


@pytest.fixture
def table(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Table]:
    """A table that the command line is told of by its settings."""
    monkeypatch.chdir(tmp_path)
    given = {
        "TABLE": settings.table,
        "ENDPOINT": settings.endpoint,
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"AGENTMODEL_{name}", str(value))
    with Table(settings) as made:
        made.create()
        yield made
        made.delete()


def _agent(number: int) -> dict[str, Any]:
    texts = {"PK": f"AGT{number:03d}", "SK": "METADATA", "EntityType": "Agent", "GSI1_PK": "DMN001"}
    texts |= {"GSI1_SK": f"AGTSCORE#{number}", "AgentNM": "one", "Score": str(number)}
    return {name: {"S": value} for name, value in texts.items()}


def _store(table: Table, *items: dict[str, Any]) -> None:
    for item in items:
        table.call("PutItem", TableName=table.name, Item=item)


def test_check_shows_and_fix_repairs(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --fix nothing is written; with it what was shown is repaired, and then nothing is left."""
    _store(table, _agent(60), _agent(40))

    assert 1 == main(["check"])
    assert 2 == capsys.readouterr().out.count("I303 item AGT0")
    assert {"S": "AGTSCORE#60"} in [item["GSI1_SK"] for item in table.scan()]
    assert 0 == main(["check", "--fix"])
    assert "repaired: 2." in capsys.readouterr().out
    assert 0 == main(["check"])


def test_what_cannot_be_repaired_keeps_the_exit_code(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreadable item makes the check fail, with --fix too; an unknown kind alone does not."""
    odd = {"PK": {"S": "ODD"}, "SK": {"S": "ODD"}, "EntityType": {"S": "Odd"}}
    _store(table, odd)

    assert 0 == main(["check", "--json"])
    assert {"I301"} <= {problem["code"] for problem in json.loads(capsys.readouterr().out)["problems"]}
    _store(table, {"PK": {"S": "USR001"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "UserInfo"}})
    assert 1 == main(["check", "--fix"])


@pytest.mark.parametrize("repaired", [0, 1, 2])
@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_a_check_goes_on_where_it_was_stopped(
    table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at_once: int, repaired: int
) -> None:
    """Stopped anywhere, a check prints how to continue; that repairs all that was left, and a changed token is wrong use."""
    fine = {"PK": {"S": "USR001"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "UserInfo"}, "UserNM": {"S": "x"}}
    _store(table, fine, *(_agent(number) for number in range(1, 4)))
    calls = []

    def interrupted(*given: Any) -> bool:
        calls.append(given)
        if len(calls) > repaired:
            raise KeyboardInterrupt
        return repair(*given)

    monkeypatch.setattr("agentmodel.cli._check._AT_ONCE", at_once)
    with monkeypatch.context() as patched:
        patched.setattr("agentmodel.cli._check.repair", interrupted)
        assert 130 == main(["check", "--fix"])
    err = capsys.readouterr().err
    token = err.split("--start ")[1].split()[0] if "--start" in err else None

    assert token is not None or "Run it again" in err
    assert 0 == main(["check", "--fix", *(["--start", token] if token else [])])
    assert f"repaired: {3 - repaired}." in capsys.readouterr().out
    assert 0 == main(["check"])
    if token is not None:
        assert 2 == main(["check", "--start", f"{token[:-1]}!"])
