"""A run that looks wrong is marked when it ends, and a person is asked by rule, before a write and after the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool
from agentmodel.cli import main
from agentmodel.exceptions import NotFound
from agentmodel.suggest.guard import Ask, Go
from agentmodel.suggest.review import WrongStep
from tests.integration.suggest_world import catalogue, learn, opened
from tests.integration.test_cli_errors import environment

TOOLS = ("search", "pay", "refund", "note")
Call = tuple[str, dict[str, Any]]
SEARCH: Call = ("TL001", {"q": "a"})
PAY: Call = ("TL002", {"amount": 7})
PAY_9: Call = ("TL002", {"amount": 9})
REFUND: Call = ("TL003", {"amount": 7})
NOTE: Call = ("TL004", {})
NO_CATEGORY: dict[str, Any] = {"category": None, "user": "USR003"}


def run(
    model: AgentModel,
    *calls: tuple[str, dict[str, Any]],
    succeeded: bool | None = True,
    failing: tuple[str, ...] = (),
    category: str | None = "pay a bill",
    user: str = "USR001",
    request: str = "pay my bill",
) -> str:
    """Record a session that makes these calls; its id."""
    with model.session(user, request, category=category) as session:
        for tool, values in calls:
            with session.process("step") as process, process.call("AGT001", tool, values=values) as call:
                if tool in failing:
                    call.fail("no answer")
        if succeeded is not None:
            (session.succeed if succeeded else session.fail)()
    model.settle()
    return session.session_id


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A history of four successes that pay 7, two failures that pay 9, notes that differ, and another user's.

    A third user has the same history, without a category.
    """
    with opened(settings.model_copy(update={"review_runs": "suspect"})) as model:
        catalogue(model, agents=1, tools=TOOLS)
        model.repository.update(Tool.at("AGT001", "TL001"), Tool.read_only.to(True))
        for kind in ({}, NO_CATEGORY):
            for n in range(4):
                run(model, SEARCH, PAY, ("TL004", {"text": f"note {n}"}), **kind)
            for _ in range(2):
                run(model, SEARCH, PAY_9, succeeded=False, **kind)
        run(model, REFUND, user="USR002")
        learn(model)
        model.publish()
        yield model


def test_a_run_is_marked_when_it_ends_and_a_person_is_asked(model: AgentModel) -> None:
    """One with other writes than the successes looks wrong; one with the same writes does not."""
    same = run(model, PAY, ("TL004", {"text": "another note"}), SEARCH, succeeded=None)
    other = run(model, SEARCH, PAY_9, succeeded=None)
    sessions = {each: model.repository.session("USR001", each) for each in (same, other)}
    asked = list(model.reviews.inbox())

    assert [(False, True), (True, False)] == [
        (each.suspect, (each.chance or 0) > 0.5) for each in sessions.values() if each is not None
    ]
    assert [(other, "post")] == [(each.session_id, each.phase) for each in asked]
    assert "differ by 2 from those of the nearest of 4 earlier successes; the chance" in (asked[0].reason or "")
    check = model.run_checks.check("USR001", other)
    assert (4, 1.0, 2, True) == (check.successes, check.repeated, check.differs, check.suspect)
    model.drain()
    stored = model.repository.session("USR001", other)
    assert stored is not None
    assert stored.chance == pytest.approx(check.chance, abs=1e-6)


def test_without_a_category_a_run_is_compared_with_those_of_its_request(model: AgentModel) -> None:
    """The category that a refresh derives from the request says which runs are alike, in other words, too."""
    found = {}
    for request in ("pay my bill", "please pay my phone bill", "cancel the hotel in Denver"):
        session_id = run(model, SEARCH, PAY_9, succeeded=None, request=request, **NO_CATEGORY)
        session = model.repository.session("USR003", session_id)
        assert session is not None
        found[request] = session.suspect, str(model.run_checks.wrong_step("USR003", session_id))
    guard = model.guard(review="history")
    with model.session("USR003", "pay my bill") as asked:
        decision = guard.before(
            agent_id="AGT001", tool_id="TL002", arguments=PAY_9[1], user_id="USR003", session_id=asked.session_id
        )

    wrong = "step 2, unexpected write by `pay`"
    assert [(True, wrong), (True, wrong), (None, "unknown")] == list(found.values())
    assert isinstance(decision, Ask)
    assert "this call of pay was made in failed runs of this category only" == decision.review.reason


def test_the_first_prompt_is_the_request_where_a_session_has_none(model: AgentModel) -> None:
    """A session that keeps its request in its first process, as the sample does, is compared by that."""
    with model.session("USR003", "") as session, session.process("step", prompt="pay my bill") as process:
        with process.call("AGT001", "TL002", values={"amount": 9}):
            pass
        with process.call("AGT001", "TL001", values={}):
            pass
    model.settle()

    assert model.run_checks.check("USR003", session.session_id).suspect


def test_without_successes_nothing_is_said(model: AgentModel) -> None:
    """Without two earlier successes of the user and category no run is marked, nobody is asked, and the note says so."""
    for category, user in (("another kind", "USR001"), (None, "USR001"), ("pay a bill", "USR002")):
        session_id = run(model, PAY_9, category=category, user=user)
        session = model.repository.session(user, session_id)
        check = model.run_checks.check(user, session_id)

        assert session is not None
        assert (None, None) == (session.suspect, session.chance)
        assert (None, False) == (check.chance, check.suspect)
        assert "earlier successes of this category are known, at least 2 are needed" in check.note
    with model.session("USR001", "x", category="another kind") as asked:
        decision = model.guard(review="history").before(
            agent_id="AGT001", tool_id="TL003", arguments={}, user_id="USR001", session_id=asked.session_id
        )
    assert Go() == decision
    assert [] == list(model.reviews.inbox())


def test_the_guard_asks_before_a_write_that_history_speaks_against(model: AgentModel) -> None:
    """By the rule `history`: a call of failed runs only, and a tool of no success; marked tools, too."""
    guard = model.guard(review="history")
    with model.session("USR001", "pay my bill", category="pay a bill") as session:

        def reason(call: tuple[str, dict[str, Any]]) -> str | None:
            decision = guard.before(
                agent_id="AGT001", tool_id=call[0], arguments=call[1], user_id="USR001", session_id=session.session_id
            )
            assert isinstance(decision, Ask | Go)
            return decision.review.reason if isinstance(decision, Ask) else None

        found = [reason(call) for call in (SEARCH, PAY, PAY_9, REFUND, NOTE, ("TL002", {"amount": 8}))]
        model.repository.update(Tool.at("AGT001", "TL002"), Tool.needs_review.to(True))
        marked = reason(PAY)

    assert [
        None,
        None,
        "this call of pay was made in failed runs of this category only",
        "none of the 4 earlier successes of this category used refund",
        None,
        None,
    ] == found
    assert "pay needs a person's approval" == marked


def test_the_step_that_went_wrong(model: AgentModel) -> None:
    """A write that no success made, one that is missing, an error that was not recovered, else unknown."""
    runs = [
        run(model, SEARCH, REFUND, PAY, succeeded=False),
        run(model, SEARCH, PAY, succeeded=False, failing=("TL002",)),
        run(model, SEARCH, succeeded=False),
        run(model, SEARCH, PAY, succeeded=False, failing=("TL001",)),
        run(model, PAY, succeeded=False),
    ]

    assert [
        WrongStep("unexpected write", "refund", 2),
        WrongStep("missing write", "pay", 2),
        WrongStep("missing write", "pay", None),
        WrongStep("error", "search", 1),
        WrongStep("unknown"),
    ] == [model.run_checks.wrong_step("USR001", each) for each in runs]
    with pytest.raises(NotFound):
        model.run_checks.wrong_step("USR001", "SESS404")


def test_the_command_line_shows_what_went_wrong(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`history` shows the check of a session and its wrong step, `errors --runs` and `evaluate` count."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    session_id = run(model, SEARCH, REFUND, PAY, succeeded=False)

    def shown(*arguments: str) -> str:
        assert 0 == main(list(arguments))
        return " ".join(capsys.readouterr().out.split())

    text = shown("session", session_id, "--user", "USR001")
    found = json.loads(shown("session", session_id, "--user", "USR001", "--json"))
    steps = json.loads(shown("errors", "--runs", "--json"))
    replayed = shown("evaluate", "--learn", "0.5")

    assert (
        "This run looks wrong: its writes differ by 1 from those of the nearest of 4 earlier successes. Chance" in text
    )
    assert "What went wrong, as far as the record shows: step 2, unexpected write by `refund`." in text
    assert {"answer": "unexpected write", "tool": "refund", "step": 2} == found["wrong_step"]
    categories = ("pay a bill", "~pay my bill · 931222")
    assert [(category, "unexpected write", "pay", 2) for category in categories] == [
        (row["category"], row["answer"], row["tool"], row["runs"]) for row in steps
    ]
    assert "unexpected write" in shown("errors", "--runs")
    assert "Where failed runs went wrong" in replayed


def test_publishing_again_writes_nothing(model: AgentModel) -> None:
    """What runs wrote is kept in the mapping, and the same again is no change."""
    again = model.publish()
    mapping = model.repository.mapping("USR001", "pay a bill")

    assert 0 == again.mappings
    assert mapping is not None
    assert mapping.writes is not None
    assert [4] == [count for count, _ in mapping.writes["good"]]
    assert ["note", "search"] == mapping.writes["ignored"]
