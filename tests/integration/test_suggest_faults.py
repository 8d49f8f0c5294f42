"""Faults: two publishers at once, stores that stop answering, and kills between any two steps."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import CacheUnavailable, Conflict, TableUnavailable
from agentmodel.suggest.publish import Published, Publisher
from agentmodel.suggest.publish._retention import Retention
from agentmodel.suggest.publish._warehouse_queries import SessionScore
from tests.integration.suggest_world import TODAY, catalogue, days, learn, opened, run


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model, agents=4)
        for n in range(1, 5):
            run(model, f"USR00{n}", f"AGT00{n}")
        learn(model)
        yield model


def silent(*_: object) -> None:
    """Shows no progress."""


def publisher(model: AgentModel) -> Publisher:
    return Publisher(model.settings, model.repository, table=model.table, writer=model.writer, caches=model._caches)


def at_once(model: AgentModel, *runs: datetime) -> list[Published]:
    """Publish as of each of these times, all beginning together."""
    barrier = Barrier(len(runs))

    def publish(as_of: datetime) -> Published:
        own = publisher(model)
        barrier.wait(timeout=30)
        return own.publish(model.warehouse, as_of=as_of, progress=silent)

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(publish, runs))


def shown(model: AgentModel) -> dict[str, Any]:
    """What a reader sees."""
    return {
        "ranking": [(a.agent_id, a.score, a.scored_at) for a in model.repository.top_agents("DMN001")],
        "mappings": sorted((m.user_id, m.score or 0.0) for m in model.repository.mappings()),
    }


def test_two_publishers_of_one_run(model: AgentModel) -> None:
    """Two that publish the same run at once leave what one would, and each item is written by one of them."""
    first, second = at_once(model, TODAY, TODAY)
    again = publisher(model).publish(model.warehouse, as_of=TODAY, progress=silent)

    assert 4 == first.agents + second.agents
    assert 4 == first.mappings + second.mappings
    assert (0, 0, 0, 0) == (again.agents, again.tools, again.mappings, again.rankings)
    assert [1.0] * 4 == [round(agent.score, 5) for agent in model.repository.top_agents("DMN001")]


def test_two_publishers_of_different_runs(model: AgentModel) -> None:
    """Of an older and a newer run at once the newer one's scores stay, in table and ranking."""
    for _ in range(3):
        at_once(model, TODAY, TODAY + days(10))
    publisher(model).publish(model.warehouse, as_of=TODAY + days(10), progress=silent)
    scores = [agent.score for agent in model.repository.top_agents("DMN001")]

    assert [1.0] * 4 == [round(score, 5) for score in scores]  # age is counted from the newest execution
    assert {(TODAY + days(10)).date()} == {
        agent.scored_at and agent.scored_at.date() for agent in model.repository.top_agents("DMN001")
    }


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5, 6, 11, 17, 18, 19])
def test_an_older_run_that_stood_still_writes_nothing_after_a_newer_one(model: AgentModel, step: int) -> None:
    """Wherever an older run stops, a newer one that finds all as it should be is not overwritten by what comes late."""
    publisher(model).publish(model.warehouse, as_of=TODAY, progress=silent)
    right = everything(model)
    late, newer = publisher(model), publisher(model)
    results = late._results(model.warehouse, TODAY)
    late._results = lambda *_: wrong(results)  # type: ignore[method-assign]  # another view of history
    newer._results = lambda *_: results  # type: ignore[method-assign]  # the same view, a later day
    original, left = model.table.call, [step]

    def stopping(operation: str, **request: Any) -> dict[str, Any]:
        if operation in ("PutItem", "UpdateItem"):
            left[0] -= 1
            if left[0] == -1:
                newer.publish(model.warehouse, as_of=TODAY + days(2), progress=silent)
        return original(operation, **request)

    model.table.call = stopping  # type: ignore[method-assign]  # the newer run comes before the older one's next write
    older = late.publish(model.warehouse, as_of=TODAY + days(1), progress=silent)
    model.table.call = original  # type: ignore[method-assign]  # as it was
    run_item = model.table.call(
        "GetItem", TableName=model.table.name, Key={"PK": {"S": "PUBLISH"}, "SK": {"S": "METADATA"}}
    )["Item"]

    assert left[0] < 0
    assert older.stale > 0
    assert right == everything(model)
    assert {"PK", "SK", "RunID", "EntityType"} == set(run_item)


def test_a_killed_run_is_fenced_once(model: AgentModel) -> None:
    """The run after a killed one also writes what is unchanged, the tools here; the run after that does not."""
    original, left = model.table.call, [6]

    def dying(operation: str, **request: Any) -> dict[str, Any]:
        if operation in ("PutItem", "UpdateItem"):
            left[0] -= 1
            if left[0] < 0:
                raise TableUnavailable("killed")
        return original(operation, **request)

    model.table.call = dying  # type: ignore[method-assign]  # the process dies at its seventh write
    with pytest.raises(TableUnavailable):
        model.publish(as_of=TODAY)
    model.table.call = original  # type: ignore[method-assign]  # as it was
    same = model.publish(as_of=TODAY)
    fencing, after = (model.publish(as_of=TODAY + days(n)) for n in (1, 2))

    assert same.tools > 0
    assert (12, 0) == (fencing.tools, after.tools)


def wrong(results: Any) -> Any:
    """The same results with other numbers in them."""
    return results._replace(
        ranking=[replace(row, executions=99) for row in results.ranking],
        failures=[replace(row, calls=99) for row in results.failures],
        patterns=[replace(row, executions=99) for row in results.patterns],
    )


def everything(model: AgentModel) -> dict[str, Any]:
    """What a publish wrote, wherever it is read, but for the marks of who wrote it."""
    tools = [(t.agent_id, t.tool_id, t.calls, t.errors) for t in model.repository.domain_tools("DMN001", limit=100)]
    assert model._caches is not None
    return {
        "agents": [(a.agent_id, a.score, a.executions) for a in model.repository.top_agents("DMN001")],
        "tools": tools,
        "mappings": sorted((m.user_id, m.score or 0.0, m.executions) for m in model.repository.mappings()),
        "ranking": model._caches.leaderboard.published("DMN001")[1],
    }


def test_publishing_while_valkey_is_down(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer of Valkey the table is published, and the next publish replaces the ranking."""
    assert model._caches is not None

    def down(*args: Any, **options: Any) -> Any:
        raise CacheUnavailable("Valkey is down")

    with monkeypatch.context() as patch:
        patch.setattr(model._caches.leaderboard, "top", down)
        patch.setattr(model._caches.leaderboard, "replace", down)
        first = model.publish(as_of=TODAY)
    second = model.publish(as_of=TODAY)

    assert (4, 0) == (first.agents, first.rankings)
    assert (0, 1) == (second.agents, second.rankings)


def test_a_session_that_is_written_meanwhile_keeps_what_was_written(model: AgentModel) -> None:
    """A session whose expiry changed between reading and moving it is left to the next publish."""
    (session,) = model.repository.sessions("USR001")
    assert session.expires_at is not None
    lifetimes = Retention(model.settings, model.table, caches=model._caches)
    get_many: Any = model.table.get_many

    def raced(wanted: Any, **options: Any) -> Any:
        found = get_many(wanted, **options)
        stored = get_many(wanted, **options)[0]
        stored.expires_at += timedelta(hours=1)
        model.writer.put(stored)
        return found

    model.table.get_many = raced  # type: ignore[method-assign,assignment]  # somebody comes in between
    moved = lifetimes.apply([SessionScore("USR001", session.session_id, 2.0)])
    model.table.get_many = get_many  # type: ignore[method-assign]  # as it was
    again = lifetimes.apply([SessionScore("USR001", session.session_id, 2.0)])

    assert ((0, 0), (1, 0)) == (moved, again)


def test_lifetimes_that_were_killed_are_not_moved_twice(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any of its writes, doing it again ends where doing it once does."""
    (session,) = model.repository.sessions("USR001")
    assert session.expires_at is not None
    lifetimes = Retention(model.settings, model.table, caches=model._caches)
    original = Table.call
    kills = 0
    for allowed in range(20):
        left = [allowed]

        def dying(table: Table, operation: str, left: list[int] = left, **request: Any) -> dict[str, Any]:
            if operation == "UpdateItem":
                if not left[0]:
                    raise TableUnavailable("killed")
                left[0] -= 1
            return original(table, operation, **request)

        with monkeypatch.context() as patch:
            patch.setattr(Table, "call", dying)
            try:
                lifetimes.apply([SessionScore("USR001", session.session_id, 2.0)])
            except TableUnavailable:
                kills += 1
            else:
                break
    history = model.repository.session_history("USR001", session.session_id)
    moved = model.repository.session("USR001", session.session_id)

    assert kills > 3
    assert moved is not None
    assert {session.expires_at + timedelta(days=30)} == {
        entity.expires_at for entity in (moved, *history.processes, *history.executions)
    }


def test_recording_goes_on_when_nobody_can_watch(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A record is kept when the health of its tool cannot be updated; a warning says so."""

    def down(tool_ref: Any, calls: Any) -> None:
        raise TableUnavailable("no table")

    monkeypatch.setattr(model.health, "_update", down)
    receipt = model.recorder.record(
        ToolExecution(
            user_id="USR001", session_id="SESS20250614001", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
            tool_name="locate", succeeded=True, executed_at=datetime.now(UTC),
        )
    )  # fmt: skip

    model.settle()

    assert "valkey" in receipt.level
    assert ["updating the health of TL001 of AGT001 from 1 calls failed: no table"] == caplog.messages
    assert model.repository.execution("USR001", "SESS20250614001", "PRC001", "AGT001", "TL001") is not None


def test_a_review_under_constant_change_gives_up(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that others overtake every time ends with a conflict, and nothing of it is stored."""
    asked = model.reviews.ask("USR001", "SESS20250614001", "Go?")
    save = model.writer.save

    def overtaken(entity: Any, **options: Any) -> None:
        other = model.table.get(entity.key, consistent=True)
        assert other is not None
        save(other, **options)
        save(entity, **options)

    monkeypatch.setattr(model.writer, "save", overtaken)
    with pytest.raises(Conflict, match="by others 5 times in a row"):
        model.reviews.decide(asked, "approve", "kim")

    assert "pending" == model.reviews.status(asked)
