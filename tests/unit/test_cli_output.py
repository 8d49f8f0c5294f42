from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from agentmodel import Agent
from agentmodel.cli import _model
from agentmodel.cli._model import parse_as_of, resolve_settings
from agentmodel.cli._output import Output, plain, printable
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.traces import BadLine


def test_entities_and_dataclasses_are_plain_json() -> None:
    """What is printed as JSON is made of objects, lists, texts and numbers; what is not known is left out."""
    agent = Agent(agent_id="AGT001", domain_id="DMN001", name="지도", last_run_at=datetime(2025, 6, 14, tzinfo=UTC))
    found = json.loads(
        json.dumps(plain({"agent": agent, "bad": BadLine("f", 1, "line", "p"), "day": date(2025, 6, 14)}))
    )

    assert {
        "agent": {
            "agent_id": "AGT001",
            "domain_id": "DMN001",
            "last_run_at": "2025-06-14T00:00:00+00:00",
            "name": "지도",
            "score": 0.0,
        },
        "bad": {"field": "line", "file": "f", "line": 1, "problem": "p"},
        "day": "2025-06-14",
    } == found


@pytest.mark.parametrize(
    ("shown", "value"),
    [
        ("–", None),
        ("–", ""),
        ("yes", True),
        ("0.33", 1 / 3),
        ("2025-06-14 09:30", datetime(2025, 6, 14, 9, 30, tzinfo=UTC)),
        ("two lines", "two\nlines"),
        ("�[31mred", "\x1b[31mred"),
    ],
)
def test_a_cell_is_one_line_that_a_terminal_does_not_obey(shown: str, value: object) -> None:
    """Whatever a tool answered, its cell of a table is one line without control characters."""
    assert shown == printable(value)


def test_a_table_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like markup is text like any other."""
    Output().table("[bold]title", ("[red]column",), [("[link]cell",)])
    out = capsys.readouterr().out

    assert "[bold]title" in out
    assert "[red]column" in out
    assert "[link]cell" in out


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody watches, progress prints nothing."""
    with Output().progress("work") as told:
        told("work", 1, 2)

    assert ("", "") == capsys.readouterr()


def test_as_of_is_a_day_or_a_time_with_its_offset() -> None:
    """A day stays a day, a time becomes UTC, nothing means now."""
    assert date(2025, 6, 14) == parse_as_of("2025-06-14")
    assert datetime(2025, 6, 13, 15, 30, tzinfo=UTC) == parse_as_of("2025-06-14T00:30:00+09:00")
    now = parse_as_of(None)
    assert isinstance(now, datetime)
    assert UTC is now.tzinfo


@pytest.mark.parametrize("text", ["2025-06-14T10:00:00", "tomorrow", "", "0001-01-01T00:00:00+09:00"])
def test_any_other_as_of_is_refused(text: str) -> None:
    """A naive time, or what is no time at all, is refused with an example."""
    with pytest.raises(ValidationError, match=r"2025-06-14T09:00:00\+09:00"):
        parse_as_of(text)


STACK = {
    "table": "AgentTable",
    "region": "us-east-1",
    "endpoint": "http://127.0.0.1:5000",
    "access_key_id": "local",
    "secret_access_key": "local",
    "valkey_url": "valkey://127.0.0.1:11111/0",
    "warehouse_url": "duckdb:///stack.duckdb",
}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack runs."""
    monkeypatch.setattr(_model, "find_stack", lambda _: dict(STACK))


def test_the_stack_gives_what_the_environment_leaves_unset(stack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the environment win field by field; all others are the stack's."""
    monkeypatch.setenv("AGENTMODEL_VALKEY_URL", "valkey://10.0.0.1:6379/0")
    found = resolve_settings(Path("anywhere"))

    assert "valkey://10.0.0.1:6379/0" == found.valkey_url
    assert (STACK["endpoint"], STACK["warehouse_url"], "local") == (
        found.endpoint,
        found.warehouse_url,
        found.access_key_id,
    )


def test_the_stacks_credentials_stay_with_its_endpoint(stack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of the environment is not shown the stack's credentials."""
    monkeypatch.setenv("AGENTMODEL_ENDPOINT", "https://dynamodb.example")
    found = resolve_settings(Path("anywhere"))

    assert ("https://dynamodb.example", None, None) == (found.endpoint, found.access_key_id, found.secret_access_key)


def test_no_stack_and_no_settings_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that nobody told where to go does not go to AWS; one setting that names a store is enough."""
    with pytest.raises(ConfigurationError, match="run `agentmodel up`, or set AGENTMODEL_REGION"):
        resolve_settings(tmp_path)

    monkeypatch.setenv("AGENTMODEL_REGION", "ap-northeast-2")
    assert "ap-northeast-2" == resolve_settings(tmp_path).region
