"""A publish reads what changed since the one before, and leaves what one that reads everything would leave."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool
from agentmodel.suggest._run_check import WriteHistory, varying_tools
from agentmodel.suggest.publish import _run_writes, _warehouse_queries
from agentmodel.suggest.publish._retention import Retention
from tests.integration.suggest_world import TODAY, catalogue, days, learn, opened, run

TOOLS = ("search", "pay", "refund", "note")


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model with a catalogue of two agents, on the test's engines."""
    with opened(settings) as model:
        catalogue(model, agents=2, tools=TOOLS)
        model.repository.update(Tool.at("AGT001", "TL001"), Tool.read_only.to(True))
        yield model


def left_by_all_sessions(model: AgentModel, as_of: datetime) -> tuple[int, int]:
    """How many sessions are moved by a publish that looks at all of them, whatever the warehouse says of them."""
    everything = model.settings.model_copy(update={"ttl_score": -1.0, "ttl_days_low": 98, "ttl_days_high": 99})
    scores = _warehouse_queries.session_scores(model.warehouse, everything, as_of=as_of, now=datetime.now(UTC))
    return Retention(model.settings, model.table).apply(scores)


def of_all_runs(model: AgentModel) -> dict[tuple[str, str], dict[str, Any]]:
    """What the newest runs of each user and category wrote, read anew, the rate of the domain aside."""
    scopes = _warehouse_queries.run_digests(model.warehouse).keys()
    runs = _warehouse_queries.run_calls(model.warehouse, scopes)
    ignored = {"search"} | varying_tools(runs.values(), ignored={"search"})
    return {
        (user, category): {**WriteHistory.of(own, ignored=ignored, rate=0, whose=user).packed(), "rate": None}
        for (_, user, category), own in runs.items()
    }


def of_mappings(model: AgentModel) -> dict[tuple[str, str], dict[str, Any]]:
    """What mappings have of it."""
    found = {}
    for user in ("USR001", "USR002", "USR003"):
        for mapping in model.repository.user_mappings(user):
            assert mapping.writes is not None
            found[user, mapping.category] = {
                name: None if name == "rate" else value
                for name, value in mapping.writes.items()
                if name not in ("seen", "uses")
            }
    return found


def change(model: AgentModel, r: random.Random, known: list[tuple[str, str]]) -> None:
    """Record a few runs, and at times correct or delete one that is known."""
    for _ in range(r.randrange(1, 5)):
        user, category = r.choice(("USR001", "USR002", "USR003")), r.choice(("pay a bill", "find"))
        with model.session(user, f"please {category}", category=category) as session:
            for tool in r.sample((1, 2, 3, 4), r.randrange(1, 4)):
                values = {"text": r.randrange(99)} if tool == 4 else {"amount": r.choice((7, 7, 9))}
                agent = r.choice(("AGT001", "AGT001", "AGT002"))
                with session.process("step") as process, process.call(agent, f"TL{tool:03}", values=values) as call:
                    if r.random() < 0.2:
                        call.fail("no answer")
            (session.succeed if r.random() < 0.7 else session.fail)()
        known.append((user, session.session_id))
    model.settle()
    if r.random() < 0.5:
        user, told = r.choice(known)
        model.outcome(told, user_id=user, succeeded=r.random() < 0.5, source="event", reason="told later")
        model.settle()
    if r.random() < 0.3:
        gone = model.repository.session(*known.pop(r.randrange(len(known))))
        assert gone is not None
        model.repository.delete(gone)


@pytest.mark.parametrize("seed", range(3))
def test_any_history_is_left_as_by_reading_all_of_it(model: AgentModel, seed: int) -> None:
    """After each publish of a history, one that reads everything has nothing to change."""
    r, day, moved = random.Random(seed), TODAY, 0  # noqa: S311  # the same history again, no secret
    known: list[tuple[str, str]] = []
    for _ in range(4):
        change(model, r, known)
        day += days(r.choice((0, 0, 1, 9)))
        learn(model, as_of=day)
        published = model.publish(as_of=day)
        moved += published.extended + published.shortened

        assert (0, 0) == left_by_all_sessions(model, day)
        wanted, kept = of_all_runs(model), of_mappings(model)
        assert wanted == {scope: kept.get(scope) for scope in wanted}  # one without a success any more has gone
    assert moved > 0


def test_only_what_changed_is_read(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish reads the sessions that move, and the runs of the categories that changed."""
    read: Counter[str] = Counter()
    scores, calls = _warehouse_queries.session_scores, _warehouse_queries.run_calls

    def counted_scores(*args: Any, **options: Any) -> Any:
        found = scores(*args, **options)
        read["sessions"] += len(found)
        return found

    def counted_calls(warehouse: Any, scopes: Any) -> Any:
        read["scopes"] += len(scopes)
        return calls(warehouse, scopes)

    monkeypatch.setattr(_warehouse_queries, "session_scores", counted_scores)
    monkeypatch.setattr(_warehouse_queries, "run_calls", counted_calls)
    counts: dict[str, list[int]] = defaultdict(list)
    for user in ("USR001", "USR002"):
        for category in ("pay a bill", "find"):
            run(model, user, category=category, tools=(2,))
    for again in (False, False, True):
        if again:
            run(model, category="find", tools=(2,))
        read.clear()
        learn(model)
        model.publish(as_of=TODAY)
        for name in ("sessions", "scopes"):
            counts[name].append(read[name])

    assert {"sessions": [4, 0, 1], "scopes": [4, 0, 1]} == counts


def test_what_later_runs_write_is_learned(model: AgentModel) -> None:
    """A mapping that exists has the writes of the runs after it was made, also where another tool varies now."""
    run(model, tools=(2,))
    learn(model)
    model.publish(as_of=TODAY)
    for _ in range(3):
        run(model, tools=(2, 3))
    learn(model)
    model.publish(as_of=TODAY)
    mapping = model.repository.mapping("USR001", "cafe search")

    assert mapping is not None
    assert mapping.writes is not None
    assert [3, 1] == [count for count, _ in mapping.writes["good"]]


def done(model: AgentModel, category: str, text: int, *, succeeded: bool = True) -> None:
    """Record a run that pays the same and notes a text."""
    with model.session("USR001", f"please {category}", category=category) as session:
        for tool, values in ((2, {"amount": 7}), (4, {"text": text})):
            with session.process("step") as process, process.call("AGT001", f"TL{tool:03}", values=values):
                pass
        (session.succeed if succeeded else session.fail)()
    model.settle()


def published(model: AgentModel) -> dict[str, Any]:
    """What the mapping of one category has of its runs after a publish."""
    learn(model)
    model.publish(as_of=TODAY)
    mapping = model.repository.mapping("USR001", "find")
    assert mapping is not None
    assert mapping.writes is not None
    return mapping.writes


def test_a_tool_that_varies_now_is_left_out_of_what_did_not_change(model: AgentModel) -> None:
    """Which tools vary is learned of a whole domain: runs of one category change what another one's mapping has."""
    done(model, "find", 1)
    before = published(model)
    for text in range(2, 12):
        done(model, "pay a bill", text)
    after = published(model)

    assert of_all_runs(model) == of_mappings(model)
    assert before["seen"] == after["seen"]
    assert before["good"] != after["good"]


def test_the_rate_of_what_did_not_change_moves(model: AgentModel) -> None:
    """The success rate of a domain is known with each of its categories, also where only another one has new runs."""
    done(model, "find", 1)
    before = published(model)
    for _ in range(10):
        done(model, "pay a bill", 1, succeeded=False)
    after = published(model)

    assert before["seen"] == after["seen"]
    assert before["rate"] - after["rate"] > 0.1


def test_damaged_writes_are_made_anew(model: AgentModel) -> None:
    """A mapping whose writes somebody changed by hand gets the right ones."""
    run(model, tools=(2,))
    learn(model)
    model.publish(as_of=TODAY)
    mapping = model.repository.mapping("USR001", "cafe search")
    assert mapping is not None
    right = mapping.writes
    assert right is not None
    mapping.writes = {_run_writes._SEEN: right[_run_writes._SEEN]}
    model.repository.put(mapping)
    model.publish(as_of=TODAY)
    again = model.repository.mapping("USR001", "cafe search")

    assert again is not None
    assert right == again.writes
