"""Requests of all users: shipped by a publish, loaded in the background, and what a plan waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool
from agentmodel.access.repository import Repository
from agentmodel.cache import ChangeLog
from agentmodel.exceptions import CacheUnavailable
from agentmodel.suggest._request_rows import request_row
from agentmodel.suggest.plan import Plan, best_of_category
from agentmodel.suggest.publish import _shipping
from tests.integration.suggest_world import TODAY, catalogue, learn, opened, run
from tests.integration.test_suggest_advise import mapping

CAFE = "find a café near the stadium"
LOADING = "The requests of other users were not compared: this process is still loading them."


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def publish(model: AgentModel) -> None:
    learn(model)
    model.publish(as_of=TODAY)


def noted(call: Callable[..., Any], note: Callable[..., object]) -> Callable[..., Any]:
    """A function that does the same, and notes each call first."""

    def wrapper(*args: Any, **named: Any) -> Any:
        note(*args, **named)
        return call(*args, **named)

    return wrapper


def shipped(model: AgentModel) -> dict[str, Any]:
    """The rows that the log of requests has."""
    log = model.repository.request_log
    assert log is not None
    rows = {name: row for changes in log.read() for name, row in changes.rows.items()}
    return {name: row for name, row in rows.items() if row is not None}


def test_a_request_waits_for_nothing_of_the_index(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the requests of all users are loaded a plan does without and says so; they are read in the background."""
    run(model, "USR002")
    publish(model)
    readers = set[str]()

    def note(*_: Any, **__: Any) -> None:
        readers.add(threading.current_thread().name)

    monkeypatch.setattr(ChangeLog, "read", noted(ChangeLog.read, note))
    monkeypatch.setattr(Repository, "mappings", noted(Repository.mappings, note))
    with AgentModel(settings) as other:
        first = other.suggest("USR001", request=CAFE)
        assert other.planner._lookup.index._worker.flush()
        second = other.suggest("USR001", request=CAFE)

    assert ("similar requests of all users" != first.source, LOADING) == (True, str(first.reasons[-1]))
    assert "similar requests of all users" == second.source
    assert LOADING not in map(str, second.reasons)
    assert {"agentmodel-requests"} == readers


def test_own_requests_need_no_index(model: AgentModel, settings: Settings) -> None:
    """A user's own similar request is found at once, and the index is not asked for."""
    run(model)
    publish(model)
    with AgentModel(settings) as other:
        plan = other.suggest("USR001", request="near the stadium find a cafe")

        assert "own similar request" == plan.source
        assert 0 == other.planner._lookup.index._worker.waiting


def test_what_was_done_in_another_domain_hides_nothing(model: AgentModel) -> None:
    """With a domain, the user's own similar request of another one does not keep other users' ways from the plan."""
    model.repository.put(
        Domain(domain_id="DMN002", name="travel"),
        Agent(agent_id="AGT009", domain_id="DMN002", name="traveller"),
        Tool(agent_id="AGT009", tool_id="TL001", domain_id="DMN002", name="map"),
    )
    run(model, "USR001")
    run(model, "USR002", "AGT009", tools=(1,))
    publish(model)

    plan = model.suggest("USR001", request=CAFE, domain_id="DMN002")

    assert ("similar requests of all users", "AGT009", ["map"]) == (
        plan.source, plan.agent_id, [step.tool for step in plan.steps],
    )  # fmt: skip


def test_a_process_reads_what_a_publish_changed(model: AgentModel, settings: Settings) -> None:
    """A second publish appends the rows that changed, and another process reads these alone."""
    run(model, "USR002")
    run(model, "USR003", request="order flowers", category="flowers")
    publish(model)
    with AgentModel(settings) as other:
        other.planner.load()
        index, log = other.planner._lookup.index, other.repository.request_log
        assert log is not None
        run(model, "USR003", request="order a lot of flowers", category="flowers")
        publish(model)
        unread = [changes.rows for changes in log.read(index._position)]
        other.planner.load()
        again = [changes.rows for changes in log.read(index._position)]
        found = index.nearest("order a lot of flowers")

    assert [["USR003\nflowers"]] == [list(rows) for rows in unread]
    assert [{}] == again
    assert "order a lot of flowers" in {match.request for match in found or ()}


def test_a_publish_ships_what_is_missing(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Valkey took no rows the publish is done all the same, and the next one ships them."""
    run(model, "USR002")
    learn(model)

    def full(*_: object) -> None:
        raise CacheUnavailable("OOM")

    monkeypatch.setattr(ChangeLog, "rewrite", full)
    published = model.publish(as_of=TODAY)
    missing = shipped(model)
    monkeypatch.undo()
    model.publish(as_of=TODAY)

    assert 1 == published.mappings
    assert "requests of all users were not shipped" in caplog.text
    assert {} == missing
    assert {"USR002\ncafe search"} == shipped(model).keys()


def test_a_log_is_written_anew_when_most_of_it_was_replaced(model: AgentModel) -> None:
    """Rows that nobody has any more are taken back, and the log does not grow beyond twice its rows and a thousand."""
    log = model.repository.request_log
    assert log is not None
    _shipping.ship_mappings(
        model.repository, [mapping(f"USR{at}", "a", requests=[f"text {at}"]) for at in range(1200)], "classic", list
    )
    start = next(changes.position.start for changes in log.read())
    _shipping.ship_mappings(model.repository, [mapping("USR1", "a", requests=["text 1"])], "classic", list)
    anew = next(changes.position.start for changes in log.read())

    assert start != anew
    assert {"USR1\na"} == shipped(model).keys()


@pytest.mark.parametrize("rows", [{"USR002\nx": ["not a row"]}, {"x": None, "y": 7}])
def test_a_damaged_log_is_read_from_the_table_instead(model: AgentModel, rows: dict[str, Any]) -> None:
    """Rows of another shape are dropped with their log, and the mappings are read from the table."""
    run(model, "USR002")
    publish(model)
    log = model.repository.request_log
    assert log is not None
    log.append(rows)
    model.planner.load()
    plan = model.suggest("USR001", request=CAFE)

    assert "similar requests of all users" == plan.source
    assert [] == list(log.read())


def test_without_valkey_the_table_is_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Valkey a process makes the signatures itself, and later those of changed mappings only."""
    signed = list[str]()
    row = noted(request_row, lambda each: signed.append(each.user_id))
    monkeypatch.setattr("agentmodel.suggest.plan._similar_requests.request_row", row)
    with opened(settings.model_copy(update={"valkey_url": None})) as model:
        catalogue(model)
        first, second = mapping("USR002", "cafe search", requests=[CAFE]), mapping("USR003", "x", requests=["y"])
        model.repository.put(first, second)
        model.planner.load()
        found = model.suggest("USR001", request=CAFE)
        model.repository.put(mapping("USR003", "x", requests=["z"]))
        model.repository.delete(first)
        model.planner.load()
        gone = model.planner._lookup.index.nearest(CAFE)

    assert "similar requests of all users" == found.source
    assert ["USR002", "USR003", "USR003"] == signed
    assert [] == gone


@pytest.mark.parametrize("damage", [("RequestList", '["a", 5]'), ("RequestList", "7"), ("ToolCounts", '{"a": 1}')])
def test_a_damaged_mapping_stops_nobody_elses(settings: Settings, damage: tuple[str, str]) -> None:
    """An item whose requests or counts have another shape is left out when they are loaded and compared."""
    with opened(settings.model_copy(update={"valkey_url": None})) as model:
        catalogue(model)
        broken, whole = mapping("USR002", "a", requests=[CAFE]), mapping("USR003", "b", requests=[CAFE])
        model.repository.put(whole)
        name, text = damage
        model.table.call("PutItem", TableName=model.table.name, Item=model.table.item(broken) | {name: {"S": text}})
        model.planner.load()
        sources = [model.suggest(user_id, request=CAFE).source for user_id in ("USR001", "USR002")]
        found = model.planner._lookup.index.nearest(CAFE)

    assert ["similar requests of all users"] * 2 == sources
    assert ["USR003"] == [match.user_id for match in found or ()]


def test_who_was_erased_is_dropped_by_every_process(model: AgentModel, settings: Settings) -> None:
    """After an erasure the log has no row of the user, and a process that has loaded it drops the user's requests."""
    run(model, "USR002")
    run(model, "USR003")
    publish(model)
    with AgentModel(settings) as other:
        other.planner.load()
        report = model.erase_user("USR002")
        other.planner.load()
        found = other.planner._lookup.index.nearest(CAFE)

    assert 1 == report.removed["valkey"]["requests of mappings"]
    assert {"USR003\ncafe search"} == shipped(model).keys()
    assert ["USR003"] == [match.user_id for match in found or ()]


def test_a_publish_that_was_overtaken_by_an_erasure_ships_nothing_of_the_user(model: AgentModel) -> None:
    """Rows that were appended after the erasure had deleted the user's are taken back."""
    from agentmodel._erasure_marks import user_key

    rows = [mapping("USR002", "a", requests=["secret"]), mapping("USR003", "a", requests=["plain"])]
    _shipping.ship_mappings(model.repository, rows, "classic", lambda: {user_key("USR002")})

    assert {"USR003\na"} == shipped(model).keys()


@pytest.mark.parametrize("overtaken", [False, True])
def test_the_best_of_a_large_category_have_nothing_of_who_was_erased(model: AgentModel, overtaken: bool) -> None:
    """A copy of the best mappings that a publish chose goes with the user, also if it was written after the erasure."""
    from agentmodel._erasure_marks import user_key

    users = [mapping(f"USR1{at:03d}", "cafe search", score=float(at)) for at in range(150)]
    model.repository.put(*users)
    if overtaken:
        model.erase_user("USR1149")
    erased = {user_key("USR1149")} if overtaken else set[str]()
    _shipping.ship_mappings(model.repository, users, "classic", lambda: erased)
    if not overtaken:
        model.erase_user("USR1149")
    best = model.repository.best_mappings("cafe search", "classic", best_of_category)

    assert "USR1149" not in {each.user_id for each in best}
    assert best


def test_round_trips_by_category(model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 users the best are found, and a plan by category waits for at most four round trips, the log's included.

    The first plan of a process also waits for the domain's tools and their health; they are read again in the
    background.
    """
    users = [mapping(f"USR1{at:03d}", "cafe search", score=float(at)) for at in range(150)]
    model.repository.put(*users)
    _shipping.ship_mappings(model.repository, users, "classic", list)
    model.suggest("USR001", category="cafe search")
    with AgentModel(settings) as other:
        asked: list[str] = []
        me = threading.get_ident()

        def note(what: str) -> None:
            if threading.get_ident() == me:
                asked.append(what)

        def waited(user_id: str) -> list[str]:
            asked.clear()
            plans.append(other.suggest(user_id, category="cafe search"))
            return list(asked)

        valkey = other.valkey
        assert valkey is not None
        plans: list[Plan] = []
        other.repository.agent("AGT001")  # connects
        monkeypatch.setattr(valkey, "try_many", noted(valkey.try_many, lambda _: note("Valkey")))
        monkeypatch.setattr(other.table, "call", noted(other.table.call, lambda operation, **_: note(operation)))
        first, of_another, own = waited("USR001"), waited("USR001"), waited("USR1007")
        failing = other.planner._failing_tools
        outdated = {domain_id: (0.0, tools) for domain_id, (_, tools) in failing._cached.items()}
        failing._cached = dict(outdated)
        later = waited("USR001")
        assert other.planner._worker.flush()
        best = other.repository.best_mappings("cafe search", "classic", lambda *_: [])

    assert ["similar users", "similar users", "own mapping", "similar users"] == [plan.source for plan in plans]
    assert 4 == plans[1].runs
    assert "`cafe search`" in str(plans[1].reasons[0])
    # own and category, the own mapping in the table, the catalogue and its health, the log
    assert ["Valkey", "Query", "Valkey", "PutItem"] == of_another == later
    assert len(own) <= 4
    # the same, and the domain with its tools, and their health
    assert ["Valkey", "Query", "Valkey", "Valkey", "Valkey", "PutItem"] == first
    assert all(tools is not outdated[domain_id][1] for domain_id, (_, tools) in failing._cached.items())
    assert ["USR1149", "USR1148"] == [each.user_id for each in best][:2]
