from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmodel.cli import main
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines

LINES = [
    {"domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": 1, "tool": "search",
     "success": True, "category": "quiet", "request": "a quiet café", "started_at": "2025-06-13T09:00:00Z"},
    {"domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": 2, "tool": "book",
     "success": False, "result": "no table", "started_at": "2025-06-13T09:01:00Z", "session_success": True},
    {"domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": 2, "tool": "book",
     "success": True, "result": "table 4", "started_at": "2025-06-13T09:02:00Z"},
]  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack in a folder, with its table made."""
    folder = tmp_path_factory.mktemp("cli") / ".agentmodel"
    plain = Settings(endpoint=None, valkey_url=None, warehouse_url=None)
    with Engines(folder, settings=plain.model_copy()) as engines:
        with AgentModel.from_settings(engines.settings) as model:
            model.table.create()
        yield folder


class Cli:
    """Runs commands on the stack and gives what they print."""

    def __init__(self, stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.stack = stack
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert code == main(["--dir", str(self.stack), *arguments]), self.capsys.readouterr().err
        return self.capsys.readouterr().out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def cli(stack: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(stack, capsys)


@pytest.fixture(scope="module")
def learnt(stack: Path) -> None:
    """The lines went once through the loop, command by command."""
    path = stack.parent / "calls.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES), encoding="utf-8")
    day = ["--as-of", "2025-06-14"]
    for command in (["import", str(path)], ["drain"], ["refresh", *day], ["publish", *day]):
        assert 0 == main(["--dir", str(stack), *command])


def test_the_table_is_there_and_fits(cli: Cli) -> None:
    """Creating it again changes nothing; it is verified against the design."""
    assert {"table": "AgentTable", "created": False, "stream_switched_on": False, "protected": False} == cli.json(
        "table", "create"
    )
    assert "set up as it should be" in cli("table", "verify")
    assert {"table": "AgentTable", "problems": []} == cli.json("table", "verify")


def test_the_loop_says_what_it_did(cli: Cli, learnt: None) -> None:
    """Each step repeated finds nothing to do, and says so as data."""
    again = cli.json("import", str(cli.stack.parent / "calls.jsonl"))
    assert (3, 3, 1, 0) == (again["lines"], again["repeated"], again["sessions"], again["refused"])
    assert 0 == cli.json("drain")["left"]
    refreshed = cli.json("refresh", "--as-of", "2025-06-14", "--full")
    assert ("2025-06-14", True, 3) == (
        refreshed["as_of"],
        refreshed["full"],
        refreshed["rows"]["user_tool_mapping_hist"],
    )
    assert 0 == cli.json("publish", "--as-of", "2025-06-14")["agents"]


def test_what_was_learnt_is_shown(cli: Cli, learnt: None) -> None:
    """Ranking, failing tools, patterns, errors and plan come out as data and as tables."""
    (agent,) = [agent for agent in cli.json("agents") if agent["name"] == "finder"]
    assert (1, 1, "DMNcafes") == (agent["executions"], agent["successes"], agent["domain_id"])
    tools = {tool["tool_name"]: (tool["calls"], tool["errors"]) for tool in cli.json("tools", "--domain", "DMNcafes")}
    assert {"search": (1, 0), "book": (2, 1)} == tools
    (pattern,) = cli.json("patterns", "--user", "USRkim", "--as-of", "2025-06-14")
    assert ("quiet", True) == (pattern["category"], pattern["recommended"])
    assert [("", "book", "finder", 1)] == [
        (each["error_type"], each["tool_name"], each["agent_name"], each["failures"]) for each in cli.json("errors")
    ]
    plan = cli.json("suggest", "USRkim", "--category", "quiet")
    assert ("own mapping", ["search", "book"]) == (plan["source"], [step["tool"] for step in plan["steps"]])

    assert "finder" in cli("agents", "--domain", "DMNcafes")
    assert "no table" in cli("tools")
    assert "search->book" in cli("patterns", "--all")
    assert "book" in cli("errors")
    assert "1. search: search" in cli("suggest", "USRkim", "--category", "quiet")


def test_a_plan_is_shown_in_korean(cli: Cli, learnt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AGENTMODEL_LANGUAGE=ko the plan, its reasons and the ranking are Korean."""
    monkeypatch.setenv("AGENTMODEL_LANGUAGE", "ko")
    plan, ranking = cli("suggest", "USRkim", "--category", "quiet"), cli("agents")

    assert "USRkim의 계획, quiet: " in plan
    assert "1. search: search" in plan
    assert "예상 성공률(90 % 구간): " in plan
    assert "이유: " in plan
    assert "why: " not in plan
    assert "의 에이전트, 좋은 순서" in ranking
    assert "성공률" in ranking
    assert " to " not in ranking
    assert "3 중 1" in cli("sessions")
    assert "정상" in cli("tools")


def test_history_is_shown(cli: Cli, learnt: None) -> None:
    """A user's sessions, and the calls of one in their order, every attempt one."""
    (session,) = cli.json("sessions", "--user", "USRkim")["sessions"]
    found = cli.json("session", session["session_id"])

    assert "a quiet café" == found["session"]["request"]
    assert [(1, "search", 1), (2, "book", 1), (2, "book", 2)] == [
        (call["call_number"], call["tool_name"], call["attempt"]) for call in found["executions"]
    ]
    assert session["session_id"] in cli("sessions", "--user", "kim", "--ids")  # the name that the id is made of
    assert "table 4" in cli("session", session["session_id"])


def test_an_outcome_is_recorded(cli: Cli, learnt: None) -> None:
    """It is shown with the session's calls; a session that is not there, and a value that cannot be, are refused."""
    (session,) = cli.json("sessions", "--user", "USRkim")["sessions"]
    said = ["outcome", "kim", session["session_id"], "--source", "event", "--by", "refund"]
    assert "failed, by event refund" in cli(*said, "--failed", "--reason", "wrong table")
    told = cli.json(*said, "--score", "0.75")
    found = cli.json("session", session["session_id"])
    agent = found["executions"][0]["agent_id"]

    assert (True, 0.75, "event") == (told["outcome"], told["score"], told["source"])
    assert [("refund", True)] == [(one["decided_by"], one["outcome"]) for one in found["reviews"]]
    assert "Outcomes from outside" in cli("session", session["session_id"], "--user", "kim")
    assert "failed, by event refund" in cli("outcome", "kim", session["session_id"][4:-1], *said[3:], "--failed")
    of_agent = cli.json(*said[:-1], "agents", "--failed", "--agent", agent[:-1])
    assert agent == of_agent["agent_id"]
    cli("outcome", "kim", "SESS0", "--failed", code=1)
    cli(*said, "--score", "2", code=2)
    cli("drain")


def test_stations_are_counted(cli: Cli, learnt: None) -> None:
    """The journal is empty, the items are in the table by kind, the rows in the warehouse."""
    counts = cli.json("stats")
    assert (0, 0) == (counts["cache"]["depth"], counts["cache"]["pending"])
    assert 3 == counts["dynamo"]["entities"]["ToolExecution"]
    assert counts["dynamo"]["items"] == cli.json("stats", "--no-scan")["dynamo"]["items"]
    assert 3 == counts["redshift"]["user_tool_mapping_hist"]
    assert {"agents": 1, "tools": 2, "mappings": 1} == counts["suggest"]
    assert "journal: entries not in the table yet" in cli("stats")


def test_the_demo_catalogue_can_be_put_in(cli: Cli, learnt: None) -> None:
    """Seeding twice makes everything once, and leaves what other agents scored alone."""
    before = cli.json("agents", "--domain", "DMNcafes")
    assert {"Domain": 1, "Agent": 4, "Tool": 12, "UserInfo": 12} == cli.json("seed")["made"]
    assert "exist already" in cli("seed")
    assert before == cli.json("agents", "--domain", "DMNcafes")


def test_sql_is_written_and_checked(cli: Cli, tmp_path: Path) -> None:
    """The files are printed, written, checked, and found different when one was changed; files of others stay."""
    pytest.importorskip("sqlalchemy_redshift", reason="it spells SQL for Redshift")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    written = cli.json("sql", "--to", str(tmp_path))["written"]
    texts = {name: (tmp_path / name).read_text(encoding="utf-8") for name in written}
    assert texts == cli.json("sql")
    assert "\n".join(f"-- {name}\n{text}" for name, text in texts.items()) == cli("sql")
    assert len(written) > 10
    assert [] == cli.json("sql", "--check", "--to", str(tmp_path))["differing"]
    (tmp_path / written[0]).write_text("select 1", encoding="utf-8")

    assert "" == cli("sql", "--check", "--to", str(tmp_path), code=1)
    assert (tmp_path / "notes.txt").exists()


def test_spans_are_imported(cli: Cli, tmp_path: Path) -> None:
    """`import --otlp` takes exported spans into the domain that is named, and tells lines that are none."""
    span = {
        "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "execute_tool search",
        "startTimeUnixNano": "1750000000000000000", "endTimeUnixNano": "1750000001000000000",
        "attributes": [{"key": name, "value": {"stringValue": value}} for name, value in
                       {"gen_ai.operation.name": "execute_tool", "user.id": "spans"}.items()],
    }  # fmt: skip
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n{\n", encoding="utf-8")

    told = cli.json("import", "--otlp", "--domain", "exported", str(path))

    assert (1, 0, 1) == (told["lines"], told["repeated"], told["refused"])
    cli("drain")
    (session,) = cli.json("sessions", "--user", "USRspans")["sessions"]
    assert ["search"] == [
        call["tool_name"] for call in cli.json("session", session["session_id"][4:], "--user", "spans")["executions"]
    ]
