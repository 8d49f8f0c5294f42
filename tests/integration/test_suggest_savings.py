"""Known answers and the ledger against real engines: what is answered, for whom, until when, and what that saved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.guard import ResponseCache
from agentmodel.suggest.health._cusum import Cusum
from agentmodel.suggest.plan import ToolRef
from tests.integration.suggest_world import TODAY, catalogue, opened, run

PLACE = {"place": "stadium", "near": [1, 2]}


class Finder:
    """A tool that counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return {"café": f"number {self.calls}"}


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        mark(model, "TL001", read_only=True)
        yield model


@pytest.fixture
def find() -> Finder:
    return Finder()


def mark(model: AgentModel, tool_id: str, **values: Any) -> None:
    tool = model.repository.tool("AGT001", tool_id)
    assert tool is not None
    for name, value in values.items():
        setattr(tool, name, value)
    model.repository.put(tool)


def asked(
    model: AgentModel, find: Callable[[], Any], arguments: Any = None, *, user: str = "USR001", tool: str = "TL001",
    **options: Any,
) -> Any:  # fmt: skip
    given = PLACE if arguments is None else arguments
    with model.session(user, "find a café", category="cafe search") as session, session.process("locate") as process:
        return model.response_cache.call(process, "AGT001", tool, find, arguments=given, **options)


def test_a_repeated_call_is_answered(model: AgentModel, find: Finder) -> None:
    """The same call of a read-only tool is made once; the second is recorded as a cache hit that no score counts."""
    first = asked(model, find)
    second = asked(model, find, {"near": [1, 2], "place": "stadium"})
    session = model.repository.sessions("USR001")[0]
    (call,) = model.repository.session_history("USR001", session.session_id).executions

    assert first == second == {"café": "number 1"}
    assert 1 == find.calls
    assert ("cache_hit", True) == (call.status, call.succeeded)


def test_everything_else_is_called(model: AgentModel, find: Finder) -> None:
    """Other arguments, another user, and a tool that is not read-only are each called."""
    asked(model, find)
    asked(model, find, {"place": "park"})
    asked(model, find, user="USR002")
    asked(model, find, tool="TL002")
    asked(model, find, tool="TL002")

    assert 5 == find.calls


def test_answers_may_hold_for_everybody(model: AgentModel, find: Finder) -> None:
    """Where the caller says so, another user gets the same answer."""
    asked(model, find, scope="everybody")
    asked(model, find, user="USR002", scope="everybody")

    assert 1 == find.calls


@pytest.mark.parametrize("change", [{"revision": "2"}, {"spec": {"type": "object"}}, {"description": "other"}])
def test_another_version_of_the_tool_is_asked_anew(model: AgentModel, find: Finder, change: dict[str, Any]) -> None:
    """What changes a tool, its version or what it takes, makes its answers others."""
    asked(model, find)
    mark(model, "TL001", **change)
    asked(model, find)

    assert 2 == find.calls


def test_another_version_of_the_agent_is_asked_anew(model: AgentModel, find: Finder) -> None:
    """So does another version of the agent."""
    asked(model, find)
    agent = model.repository.agent("AGT001")
    assert agent is not None
    agent.revision = "2"
    model.repository.put(agent)
    asked(model, find)

    assert 2 == find.calls


def test_a_failing_tool_loses_its_answers(model: AgentModel, find: Finder) -> None:
    """When the tool's health opens its answers are dropped, also one that was asked for before and comes after."""
    late = model.response_cache.look("AGT001", "TL001", PLACE, user_id="USR001")
    asked(model, find)
    model.response_cache.health_changed(ToolRef("AGT001", "TL001"), Cusum(opened=1))
    kept = model.response_cache.keep(late, {"café": "old"})

    assert kept
    assert {"café": "number 2"} == asked(model, find)


def test_the_health_of_tools_is_listened_to(model: AgentModel, find: Finder) -> None:
    """Recorded failures that open the tool drop its answers without anybody's doing."""
    asked(model, find)
    for user_id, failures in (("USR002", 0), ("USR002", 3), ("USR003", 3)):
        with model.session(user_id, "calls") as session:
            for _ in range(failures or 40):
                with session.process("locate") as process, process.call("AGT001", "TL001") as call:
                    if failures:
                        call.fail("down")
    asked(model, find)

    assert 2 == find.calls


def test_a_failure_is_not_kept(model: AgentModel) -> None:
    """A call that raises is recorded, raised and asked again."""
    calls = []

    def fail() -> None:
        calls.append(1)
        raise OSError("down")

    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            asked(model, fail)

    assert 2 == len(calls)


@pytest.mark.parametrize("result", [(1, 2), {1: "a"}, float("nan"), object(), "x" * 300_000])
def test_what_cannot_be_given_back_as_it_is_is_not_kept(model: AgentModel, result: Any) -> None:
    """Answers that JSON would change, and very large ones, are asked for again."""
    looked = model.response_cache.look("AGT001", "TL001", PLACE, user_id="USR001")

    assert not model.response_cache.keep(looked, result)
    assert not model.response_cache.look("AGT001", "TL001", PLACE, user_id="USR001").hit


def test_without_valkey_every_call_is_made(settings: Settings, find: Finder) -> None:
    """Known answers are a saving, not a need."""
    with opened(settings.model_copy(update={"valkey_url": None})) as model:
        catalogue(model)
        mark(model, "TL001", read_only=True)
        asked(model, find)
        asked(model, find)

    assert 2 == find.calls


def test_the_time_to_keep_has_bounds(model: AgentModel) -> None:
    """Answers that are never or for ever kept are refused."""
    with pytest.raises(ValidationError, match="seconds"):
        ResponseCache(model.repository, valkey=None, seconds=0)


@dataclass
class Made:
    """What a call took when it was made last, and what its answers took off that."""

    ms: int
    tokens: int | None


def ledger(model: AgentModel, plan: list[tuple[str, str, int, int | None, Status]]) -> dict[str, tuple[Any, ...]]:
    """Record calls in order, each with its category, arguments, milliseconds, tokens and status; what they saved."""
    made: dict[str, Made] = {}
    saved: dict[str, list[tuple[str, Made | None, int, int]]] = defaultdict(list)
    for number, (category, arguments, took, tokens, status) in enumerate(plan):
        at = TODAY + timedelta(seconds=number)
        with model.session(f"USR00{number % 3 + 1}", "find a café", category=category) as session:
            pass
        execution = ToolExecution(
            user_id=session.user_id, session_id=session.session_id, process_id="PRC001", agent_id="AGT001",
            tool_id="TL001", tool_name="locate", values=arguments, succeeded=status != "error", status=status,
            executed_at=at, duration_ms=took, input_tokens=tokens,
        )  # fmt: skip
        model.recorder.record(execution)
        if status == "cache_hit":
            saved[category].append((session.session_id, made.get(arguments), took, tokens or 0))
        elif status == "ok":
            made[arguments] = Made(took, tokens)
    return {
        category: (
            len(hits), len({session for session, *_ in hits}), sum(last is not None for _, last, *_ in hits),
            sum(max(0, last.ms - took) for _, last, took, _ in hits if last is not None) / 1000,
            sum(last is not None and last.tokens is not None for _, last, *_ in hits),
            sum(max(0, (last.tokens or 0) - spent) for _, last, _, spent in hits if last is not None),
        )
        for category, hits in saved.items()
    }  # fmt: skip


def test_what_was_saved_is_counted(model: AgentModel) -> None:
    """Each answer saved one call, and what the last equal call took that was made before and succeeded; nothing else."""
    expected = ledger(
        model,
        [
            ("cafés", "a", 1200, 100, "ok"),
            ("cafés", "a", 3, None, "cache_hit"),
            ("cafés", "a", 900, 70, "error"),
            ("cafés", "a", 2, 30, "cache_hit"),
            ("trains", "a", 800, None, "ok"),
            ("cafés", "a", 5, None, "cache_hit"),
            ("trains", "b", 1, None, "cache_hit"),
            ("trains", "c", 4, 8, "ok"),
            ("trains", "c", 9, 20, "cache_hit"),
            ("long", "d", 60_000, 9000, "ok"),
        ],
    )
    model.drain()
    model.refresh(as_of=TODAY)
    found = {row.category: row for row in model.savings()}

    assert {"cafés": (3, 3, 3, 3.19, 2, 170), "trains": (2, 2, 1, 0.0, 1, 0)} == expected
    assert set(expected) == set(found)
    for category, (hits, sessions, timed, seconds, metered, tokens) in expected.items():
        row = found[category]
        assert (hits, sessions, timed, metered, tokens) == (row.hits, row.sessions, row.timed, row.metered, row.tokens)
        assert seconds == pytest.approx(row.seconds)


def test_other_runs_say_nothing_of_what_was_saved(model: AgentModel, find: Finder) -> None:
    """Long runs without answers and short ones with answers save as many calls as were answered, and no more."""
    for _ in range(3):
        run(model)
    for _ in range(3):
        asked(model, find)
    model.drain()
    model.refresh(as_of=TODAY)

    (row,) = model.savings()

    assert ("cafe search", 2, 2, 1) == (row.category, row.hits, row.sessions, find.calls)
