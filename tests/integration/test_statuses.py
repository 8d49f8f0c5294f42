"""Every status a call can have, through warehouse, publish, health, savings and suggestions: two of them count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, ToolExecution
from agentmodel.access import patterns
from agentmodel.dynamo.models import Status
from agentmodel.redshift.reports import recommended_patterns
from agentmodel.suggest.evaluate import runs_from_traces, runs_from_warehouse
from agentmodel.suggest.health import HealthMonitor
from agentmodel.traces import STATUSES
from tests.integration.suggest_world import TODAY, opened

GOOD: dict[Status | None, bool] = {None: True, "ok": True, "error": False}
"""How a call that counts went, by its status; those that are not here do not count."""

ALL: tuple[Status | None, ...] = (None, *STATUSES)


def agent_of(status: Status | None) -> str:
    """An agent that made a call of this status only."""
    return f"AGT{status or 'none'}"


def call(
    model: AgentModel, agent_id: str, *statuses: Status | None, category: str = "cafe search", user_id: str = "USR001"
) -> None:
    """A session of calls that end so; what did not end well looks like a failure, as recorders write it."""
    with model.session(user_id, "find a café", category=category) as session:
        for status in statuses:
            with session.process("step") as process, process.call(agent_id, "TL001") as one:
                one.input_tokens = 10
                if status is not None:
                    one.fail("no", status=status)
                if status in ("ok", "edited", "cache_hit"):
                    one._entity.succeeded = True
            if status is None:
                assert one.receipt is not None
                before_statuses(model, one.receipt.entity)


def before_statuses(model: AgentModel, call: ToolExecution) -> None:
    """Make a recorded call one of 0.1.0, or of the sample, which stored no status of a success."""
    model.drain()
    call.status = None
    model.repository.put(call)
    assert [None] == [each.status for each in stored(model, call.session_id, call.user_id) if each.sk == call.sk]


def stored(model: AgentModel, session_id: str, user_id: str = "USR001") -> tuple[ToolExecution, ...]:
    """The calls of a session as the table has them."""
    model.drain()
    found = model.table.query(patterns.SESSION_HISTORY.query(user_id, session_id)).items
    return tuple(ToolExecution.from_item(item) for item in found if item["EntityType"]["S"] == ToolExecution.kind)


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose agents each made one call of one status; one made a call of each, and ended well."""
    with opened(settings) as model:
        agents = [*map(agent_of, ALL), "AGTall"]
        model.repository.put(
            Domain(domain_id="DMN001", name="store search"),
            *[Agent(agent_id=agent, domain_id="DMN001", name=agent) for agent in agents],
            *[Tool(agent_id=agent, tool_id="TL001", domain_id="DMN001", name="search") for agent in agents],
        )
        for status in ALL:
            call(model, agent_of(status), status)
        call(model, "AGTall", *(status for status in ALL if status != "error"))
        yield model


def test_scores_count_two(model: AgentModel) -> None:
    """Executions, successes, calls and errors of agents and tools are those of calls with status ok, error, or none."""
    model.drain()
    model.refresh(as_of=TODAY)
    model.publish(as_of=TODAY)

    for status in ALL:
        agent, tool = model.repository.agent(agent_of(status)), model.repository.tool(agent_of(status), "TL001")
        assert agent is not None
        assert tool is not None
        good = GOOD.get(status)
        counted = (0, 0, None, None) if good is None else (1, int(good), 1, int(not good))
        assert counted == (agent.executions, agent.successes, tool.calls, tool.errors), status
        assert (agent.score > 1e-4) == bool(good), status  # equal scores differ by millionths
    every = model.repository.agent("AGTall")
    tool = model.repository.tool("AGTall", "TL001")
    assert every is not None
    assert tool is not None
    assert (1, 1, 2, 0) == (every.executions, every.successes, tool.calls, tool.errors)


def test_runs_that_are_evaluated_are_those_that_count(model: AgentModel, tmp_path: Path) -> None:
    """Warehouse and trace files give the evaluation the same runs: of calls that count, and of no others."""
    model.drain()
    model.refresh(as_of=TODAY)
    lines: list[dict[str, Any]] = [
        {
            "domain": "DMN001", "agent": agent_of(status), "user": "kim", "session": f"s{status}", "step": 1,
            "tool": "TL001", "success": status in (None, "ok", "edited", "cache_hit"), "status": status,
        }
        for status in ALL
    ]  # fmt: skip
    traces = tmp_path / "traces.jsonl"
    traces.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    wanted = {agent_of(status): good for status, good in GOOD.items()}

    assert wanted == {run.agent: run.succeeded for run in runs_from_traces([traces])}
    assert wanted | {"AGTall": True} == {run.agent: run.succeeded for run in runs_from_warehouse(model.warehouse)}


def test_health_counts_two(model: AgentModel) -> None:
    """The health of a tool learns from calls that count, whatever the others look like."""
    noted: dict[str, list[bool]] = {}
    for session in model.repository.sessions("USR001", limit=100):
        history = model.repository.session_history("USR001", session.session_id)
        for (agent_id, _), observed in HealthMonitor.calls_in(history.executions):
            noted.setdefault(agent_id, []).append(observed.failed)

    wanted = {agent_of(status): [not good] for status, good in GOOD.items()}
    assert wanted | {"AGTall": [False, False]} == noted


def test_only_errors_open_a_tool(model: AgentModel) -> None:
    """After forty good calls, ten of a status by two users open the tool if it is ``error``, and only then."""
    good: list[Status | None] = ["ok"] * 40
    for status in STATUSES:
        call(model, agent_of(status), *good)
        for user_id in ("USR001", "USR002"):
            call(model, agent_of(status), *([status] * 5), user_id=user_id)

    states = {row.agent_id: row.state for row in model.health.tools("DMN001")}
    assert [agent_of("error")] == [agent for agent, state in states.items() if state != "closed"]


def test_savings_count_answers_from_the_cache(model: AgentModel) -> None:
    """A call that was answered saved one call; whatever else was not made saved none."""
    for status in STATUSES:
        call(model, "AGTall", status, category=status)
    model.drain()
    model.refresh(as_of=TODAY)

    saved = {row.category: row.hits for row in model.savings()}
    assert {"cache_hit": 1} == {status: hits for status, hits in saved.items() if status in STATUSES}


def test_suggestions_learn_from_calls_that_count(model: AgentModel) -> None:
    """A session without an outcome of its own went as its calls that count went; with none of them it is not known."""
    wanted = {}
    for status in STATUSES:
        plan = model.suggest("USR001", category="cafe search")
        with (
            model.session("USR001", "find a café", plan=plan) as session,
            session.process("step") as process,
            process.call("AGTall", "TL001", tool_name="search") as one,
        ):
            one.fail("no", status=status)
            one._entity.succeeded = status in ("ok", "edited", "cache_hit")
        wanted[plan.suggestion_id] = session.session_id, GOOD.get(status)

    assert wanted == {
        each.suggestion_id: (each.session_id, each.succeeded) for each in model.suggestions.of_user("USR001")
    }


def test_a_cached_call_stays_a_step(model: AgentModel) -> None:
    """A call that the cache answered keeps its place in the sequence that is learned; its calls are those made."""
    for again in range(3):
        with model.session("USR002", "plan a picnic", category="picnic") as session:
            for agent_id, status in (("AGTok", "cache_hit" if again else None), ("AGTok", None)):
                with session.process(f"step {status is None}") as process, process.call(agent_id, "TL001") as one:
                    if status == "cache_hit":
                        one.mark("cache_hit")
    model.drain()
    model.refresh(as_of=TODAY)

    patterns = recommended_patterns(model.warehouse, as_of=TODAY, user_id="USR002", recommended_only=False)
    assert [["search", "search"]] == [[step.tool_name for step in pattern.steps] for pattern in patterns]
    assert [[(1, 1), (3, 3)]] == [[(step.calls, step.successes) for step in p.steps] for p in patterns]
    assert [3] == [pattern.executions for pattern in patterns]


def test_every_recorder_stores_a_status(settings: Settings, tmp_path: Path) -> None:
    """Blocks, entities, functions, trace files and spans store how each call ended, where nobody says more: ok, error.

    The recorders of the frameworks are held to it by the scenario, which reads what is stored.
    """
    with opened(settings) as model:
        lookup = model.tool(agent="finder", domain="cafes")(lambda: "found")
        with model.session("USR001", "find a café") as session, session.process("step") as process:
            with process.call("AGT001", "TL001"):
                pass
            with suppress(ValueError), process.call("AGT001", "TL002"):
                raise ValueError("no")
            for number, succeeded in enumerate((True, False), start=3):
                model.recorder.record(
                    ToolExecution(
                        user_id="USR001", session_id=session.session_id, process_id=process.process_id,
                        agent_id="AGT001", tool_id=f"TL00{number}", tool_name="find", succeeded=succeeded,
                    )
                )  # fmt: skip
            lookup()
        traces = tmp_path / "traces.jsonl"
        line = {"domain": "cafes", "agent": "finder", "user": "USR002", "session": "t", "tool": "find"}
        lines = [line | {"step": step, "success": step == 1} for step in (1, 2)]
        traces.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
        model.import_traces(traces)

        (imported,) = model.repository.sessions("USR002")
        found = [call.status for call in stored(model, session.session_id)]
        assert ["error", "error", "ok", "ok", "ok"] == sorted(str(each) for each in found)
        assert ["ok", "error"] == [call.status for call in stored(model, imported.session_id, "USR002")]


def test_a_session_is_shown_as_its_calls_went(settings: Settings) -> None:
    """Where nobody said how a session went, its calls say it: the last attempt of each that counts."""
    with opened(settings) as model:
        good, bad, made_good, nothing = (
            session_of(model, *statuses) for statuses in (("ok", "rejected"), ("ok", "error"), ("error", "ok"), ())
        )
        outcomes = {one.session_id: model.repository.outcome(one) for one in model.repository.sessions("USR001")}
        assert {good: True, bad: False, made_good: True, nothing: None} == outcomes
        model.outcome(bad, user_id="USR001", succeeded=True)
        history = model.repository.session_history("USR001", bad, newest_first=True)
        assert (True, False) == (history.outcome(), history.outcome(reviewed=False))


def session_of(model: AgentModel, *statuses: Status) -> str:
    """A session whose calls of one tool in one process ended so; its id."""
    with model.session("USR001", "find a café") as session, session.process("step") as process:
        for status in statuses:
            with process.call("AGT001", "TL001") as one:
                one._entity.succeeded = status == "ok"
                one.mark(status)
    return session.session_id
