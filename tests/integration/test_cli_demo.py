from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmodel._demo.simulation import Simulation
from agentmodel._demo.world import seed
from agentmodel.cli import main
from agentmodel.client import AgentModel
from agentmodel.redshift import reports

SESSIONS = "80"


def demo(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    """What the demo prints as JSON, and on stderr."""
    assert 0 == main(["demo", "--json", *options]), capsys.readouterr().err
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_the_same_seed_does_the_same_and_another_seed_ranks_by_what_it_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twice the same seed prints the same to the letter; the ranking is that of the recorded outcomes."""
    first, _ = demo(capsys, "--seed", "3", "--sessions", SESSIONS)
    again, _ = demo(capsys, "--seed", "3", "--sessions", SESSIONS)
    other, _ = demo(capsys, "--seed", "4", "--sessions", SESSIONS)

    assert first == again
    assert [agent["agent_id"] for agent in first["agents"]] != [agent["agent_id"] for agent in other["agents"]]
    for found in (first, other):
        _is_whole(found)


def _is_whole(found: dict[str, Any]) -> None:
    """The demo's data says what is promised, and its numbers fit each other."""
    recorded, stations = found["recorded"], found["stations"]
    scores = [agent["score"] for agent in found["agents"]]
    assert scores == sorted(scores, reverse=True)
    assert recorded["sessions"] == sum(agent["executions"] for agent in found["agents"]) == int(SESSIONS)
    assert recorded["failures"] == sum(tool["errors"] for tool in found["tools"]) > 0
    assert recorded["retries"] > 0
    assert recorded["broken_tool"] in {tool["tool_name"] for tool in found["tools"]}
    assert all(agent["last_run"] < found["as_of"] for agent in found["agents"])
    assert found["plan"]["reasons"]
    assert found["plan"]["agent_id"] in {agent["agent_id"] for agent in found["agents"]}
    entities = stations["dynamo"]["entities"]
    assert (0, 0) == (stations["cache"]["depth"], stations["cache"]["dead"])
    assert (recorded["sessions"], recorded["calls"]) == (entities["UserSession"], entities["ToolExecution"])
    assert sum(entities.values()) == stations["dynamo"]["items"]
    assert recorded["calls"] == stations["redshift"]["user_tool_mapping_hist"]
    assert (4, 12) == (stations["suggest"]["agents"], entities["Tool"])


def test_the_demo_shows_the_same_to_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Ranking, failing tools, plan and counts are tables; the kept data is what the other commands then see."""
    keep = tmp_path / "kept data"
    assert 0 == main(["demo", "--seed", "5", "--sessions", "20", "--keep", str(keep)])
    printed = capsys.readouterr()

    for title in (
        "Recorded 20 simulated sessions",
        "Agents of 매장 검색",
        "Tools that failed",
        "Plan for USR",
        "expected success rate (and 90 % interval): ",
        "why: ",
        "What each store holds",
    ):
        assert title in printed.out
    assert "agentmodel up --dir" in printed.err
    assert 2 == main(["demo", "--keep", str(keep)])
    assert "holds a stack already" in capsys.readouterr().err
    with AgentModel.local(keep) as model:
        assert 20 == sum(agent.executions or 0 for agent in model.repository.top_agents("DMN001"))


def test_the_simulation_records_through_the_recorder() -> None:
    """Second attempts are items of their own, a tool that broke fails from halfway on, and time is real again after."""
    day = datetime.now(UTC).date()
    with AgentModel.local() as model:
        seed(model)
        assert not seed(model)
        recorded = Simulation(seed=11, sessions=90, as_of=day).run(model)
        assert (datetime.now(UTC) - model.recorder.now()).total_seconds() < 5
        model.drain()
        model.refresh(as_of=day)
        broken = [f for f in reports.tool_failures(model.warehouse) if f.tool_name == recorded.broken_tool]
        users = model.repository.sessions("USR001", limit=100)
        calls = [
            execution
            for session in users
            for execution in model.repository.session_history("USR001", session.session_id).executions
        ]

    assert broken[0].error_rate > 0.3
    assert calls
    assert all(call.executed_at is not None and call.executed_at.date() < day for call in calls)
    assert all(call.duration_ms for call in calls)
    assert [] == [call for call in calls if not call.succeeded and not call.error_type]


LINE = {
    "domain": "cafes",
    "agent": "finder",
    "user": "kim",
    "session": "s-1",
    "step": 1,
    "tool": "search",
    "success": True,
    "category": "quiet",
    "started_at": "2025-06-14T09:00:00",
}


def test_traces_run_through_the_same_loop(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A demo of trace files is counted to their latest time, in the given zone, and names the lines that are bad."""
    lines = [json.dumps(LINE), "{", json.dumps(LINE | {"session": "s-2"}), *["[]"] * 24]
    packed, bare = tmp_path / "one.jsonl.gz", tmp_path / "two.jsonl"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    bare.write_text(json.dumps(LINE | {"agent": "guide", "session": "s-3", "success": False}), encoding="utf-8")
    found, err = demo(capsys, "--traces", str(packed), str(bare), "--timezone", "Asia/Seoul")

    assert ("2025-06-14T00:00:00+00:00", "traces") == (found["as_of"], found["as_of_from"])
    assert (3, 25) == (found["imported"]["lines"], len(found["imported"]["bad"]))
    assert [("finder", 2, 2), ("guide", 1, 0)] == [
        (a["name"], a["executions"], a["successes"]) for a in found["agents"]
    ]
    assert [("search", 1)] == [(tool["tool_name"], tool["errors"]) for tool in found["tools"]]
    assert "own mapping" == found["plan"]["source"]
    assert f"not imported: {packed}, line 2: line (" in err
    assert "not imported: 5 more lines" in err
    assert 21 == err.count("not imported: ")
