"""Tool health against real engines: fed by every recorded call, shared through Valkey, kept in the table."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution
from agentmodel.cache._lua import COMPARE_AND_SET, Command
from agentmodel.dynamo.models import Status
from agentmodel.suggest.health import HealthMonitor
from agentmodel.suggest.plan import ToolRef
from tests.integration.suggest_world import catalogue, learn, opened, run

PLACE = ("AGT001", "TL002")


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def calls(
    model: AgentModel,
    outcomes: str,
    *,
    status: Status | None = None,
    at: datetime | None = None,
    users: Sequence[str] = ("USR001", "USR002"),
) -> None:
    """Record calls of the search tool one by one, of these users in turn; x is a failure."""
    for n, outcome in enumerate(outcomes):
        model.recorder.record(
            ToolExecution(
                user_id=users[n % len(users)], session_id="SESS20250614001", process_id="PRC001", agent_id=PLACE[0],
                tool_id=PLACE[1], tool_name="search", succeeded=outcome == ".", status=status,
                executed_at=(at or datetime.now(UTC)) + timedelta(milliseconds=n),
            )
        )  # fmt: skip


def state(model: AgentModel) -> str:
    return next(row.state for row in model.health.tools("DMN001") if (row.agent_id, row.tool_id) == PLACE)


def test_recorded_failures_open_a_tool(model: AgentModel) -> None:
    """Calls that are recorded one by one open it; it stands first in the list, and the table knows."""
    calls(model, "." * 40)
    before = state(model)
    calls(model, "xxxx")
    row = model.health.tools("DMN001")[0]
    tool = model.table.get(Tool.at(*PLACE), consistent=True)

    assert "closed" == before
    assert ("AGT001", "TL002", "search", "open", 40, 0.0) == (
        row.agent_id, row.tool_id, row.tool, row.state, row.calls, row.failure_share,
    )  # fmt: skip
    assert row.since is not None
    assert row.until is not None
    assert "calls failed; its usual failure rate is 0 %" in row.note
    assert tool is not None
    assert ("open", row.since) == (tool.health, tool.health_since)


def test_calls_without_a_time_are_not_of_now(model: AgentModel) -> None:
    """History that names no times, as traces may, does not make a tool fail at the moment it is imported."""
    for n in range(1, 45):
        model.recorder.record(
            ToolExecution(
                user_id="USR001", session_id="SESS20250614001", process_id="PRC001", agent_id=PLACE[0],
                tool_id=PLACE[1], tool_name="search", succeeded=n <= 40, executed_at=None,
            )
        )  # fmt: skip

    assert "closed" == state(model)
    assert 0 == model.health.tools("DMN001")[0].calls


@pytest.mark.parametrize("status", ["rejected", "blocked", "interrupted", "expired", "cache_hit", "edited"])
def test_what_people_and_policies_stop_is_no_failure(model: AgentModel, status: Status) -> None:
    """Calls that a person rejected, or that did not take place, say nothing about the tool."""
    calls(model, "." * 40)
    calls(model, "x" * 10, status=status)

    assert "closed" == state(model)


def test_all_processes_feed_one_state(model: AgentModel, settings: Settings) -> None:
    """Failures that two processes see add up in Valkey."""
    calls(model, "." * 40)
    model.settle()
    with AgentModel(settings) as other:
        for _ in range(3):
            calls(model, "x", users=["USR001"])
            calls(other, "x", users=["USR002"])
        model.settle()
        other.settle()

        assert "open" == state(model) == state(other)


def test_the_table_survives_valkey(model: AgentModel, settings: Settings) -> None:
    """When Valkey has lost everything, a new process knows from the table what is open."""
    calls(model, "." * 40 + "xxxx")
    model.settle()
    assert model._valkey is not None
    model._valkey.execute(("FLUSHALL",))

    with AgentModel(settings) as other:
        assert "open" == state(other)
        calls(other, "x")
        assert "open" == state(other)


def test_the_stored_counts_are_the_baseline(model: AgentModel) -> None:
    """A tool that Valkey does not know is judged by the counts of the last publish, which its first calls do not end."""
    tool = model.table.get(Tool.at(*PLACE), consistent=True)
    assert tool is not None
    tool.calls, tool.errors = 1000, 400
    model.repository.put(tool)
    calls(model, "xx")
    row = next(row for row in model.health.tools("DMN001") if (row.agent_id, row.tool_id) == PLACE)

    assert ("closed", 1000, 0.4) == (row.state, row.calls, row.failure_share)


def test_a_write_whose_answer_was_lost_counts_once(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is written again, because the answer to the first write did not arrive, has each call once."""
    assert model._valkey is not None
    once = model._valkey.execute

    def again(command: Command) -> Any:
        once(command)
        return once(command)

    monkeypatch.setattr(model._valkey, "execute", again)
    calls(model, "." * 25)
    model.settle()
    row = next(row for row in model.health.tools("DMN001") if (row.agent_id, row.tool_id) == PLACE)

    assert 25 == row.calls


def test_without_valkey_a_process_watches_by_itself(settings: Settings) -> None:
    """With the table alone, a process opens what fails, and others read it there."""
    plain = settings.model_copy(update={"valkey_url": None})
    with opened(plain) as model, AgentModel(plain) as other:
        catalogue(model)
        calls(model, "." * 40 + "xxxx")

        assert "open" == state(model) == state(other)


def test_a_tool_recovers(model: AgentModel) -> None:
    """After its time an open tool is half-open; calls that succeed then close it, in the table too."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    calls(model, "." * 40 + "xxxx", at=long_ago)
    before = state(model)
    calls(model, "...")
    model.settle()
    tool = model.table.get(Tool.at(*PLACE), consistent=True)

    assert ("half-open", "closed") == (before, state(model))
    assert tool is not None
    assert ("closed", None, None) == (tool.health, tool.health_since, tool.health_note)


def test_plans_avoid_what_fails_now(model: AgentModel) -> None:
    """A suggestion made after the failures names the tool, and takes another agent's sequence."""
    run(model)
    run(model, "USR002", "AGT002")
    calls(model, "." * 40)
    learn(model)
    model.publish()
    before = model.suggest("USR001", category="cafe search")
    calls(model, "xxxxx")

    after = model.suggest("USR001", category="cafe search")

    assert ("AGT001", ()) == (before.agent_id, before.avoid)
    assert "AGT002" == after.agent_id
    assert [(*PLACE, True)] == [(each.agent_id, each.tool_id, each.failing_now) for each in after.avoid]


def test_listeners_learn_of_changes_only(model: AgentModel) -> None:
    """Who listens is told when a tool opens, once."""
    told: list[tuple[str, str]] = []
    model.health.on_change.append(lambda place, _: told.append(place))
    calls(model, "." * 40 + "xxxxxxx")
    model.settle()

    assert [PLACE] == told


def test_a_batch_counts_as_its_calls_in_order(model: AgentModel) -> None:
    """Calls that are recorded together are learnt in the order of their times."""
    at = datetime.now(UTC)
    made = [
        ToolExecution(
            user_id=f"USR00{n % 2 + 1}", session_id="SESS20250614001", process_id=f"PRC{n:03d}", agent_id=PLACE[0],
            tool_id=PLACE[1], tool_name="search", succeeded=n <= 40, executed_at=at + timedelta(milliseconds=n),
        )
        for n in range(1, 45)
    ]  # fmt: skip
    model.recorder.record_many(list(reversed(made)))

    assert "open" == state(model)


def test_a_record_does_not_wait_for_the_watch(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt from records is sent to Valkey by another thread, for many of them at once."""
    assert model._valkey is not None
    model._background._linger = 3600.0  # nothing is learnt before somebody asks
    calls(model, ".")
    model.settle()
    ours: list[Any] = []
    others: list[Any] = []
    original, me = model._valkey.try_many, threading.get_ident()

    def noted(commands: Sequence[Command]) -> list[Any]:
        (ours if threading.get_ident() == me else others).extend(command[1] for command in commands)
        return original(commands)

    monkeypatch.setattr(model._valkey, "try_many", noted)
    calls(model, "." * 20)
    model.close()

    assert COMPARE_AND_SET.sha not in ours
    assert 1 == others.count(COMPARE_AND_SET.sha)


def test_what_was_recorded_last_is_learnt_at_the_end(settings: Settings) -> None:
    """A model that is closed right after a record has learnt from it."""
    with opened(settings) as model:
        catalogue(model)
        calls(model, "." * 40 + "xxxx")

    with AgentModel(settings) as other:
        assert "open" == state(other)


def test_reading_needs_one_round_trip(model: AgentModel) -> None:
    """The health of many tools is asked in one call to Valkey."""
    assert model._valkey is not None
    asked = []
    original = model._valkey.try_many
    model._valkey.try_many = lambda commands: asked.append(len(commands)) or original(commands)  # type: ignore[method-assign,func-returns-value]  # counts
    book = HealthMonitor(model.table, writer=model.writer, repository=model.repository, valkey=model._valkey)

    book.failing([ToolRef("AGT001", f"TL{n:03d}") for n in range(50)], {})

    assert [50] == asked
