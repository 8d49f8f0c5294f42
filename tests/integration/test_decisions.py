"""Past decisions: read from what landed, narrowed, paged, and shown by command and console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="the warehouse is an extra")
pytest.importorskip("typer", reason="the command line is an extra")
pytest.importorskip("starlette", reason="the console is an extra")
pytest.importorskip("itsdangerous", reason="the console is an extra")

from agentmodel import AgentModel, Review, Settings
from agentmodel._lookup.decisions import page_of_decisions
from agentmodel._lookup.ids import Ids
from agentmodel.cli import main
from agentmodel.console import console
from agentmodel.exceptions import CursorError, NotFound, ValidationError
from agentmodel.redshift.decisions import DecisionFilter, past_decisions
from tests.integration.suggest_world import catalogue, run
from tests.integration.test_cli_errors import environment
from tests.integration.test_console import Person


def ask(model: AgentModel, question: str, user: str = "USR001", **more: Any) -> Review:
    session = model.repository.sessions(user, 1).items[0]
    told: dict[str, Any] = {"agent_id": "AGT001", "tool_id": "TL001"}
    return model.reviews.ask(user, session.session_id, question, **(told | more))


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """Decisions of two reviewers in two queues about two users and tools, a verdict, and a question that is open."""
    with AgentModel.local(dynamodb_timeout=10.0) as made:
        catalogue(made)
        run(made)
        run(made, "USR002")
        reviews = made.reviews
        reviews.decide(ask(made, "first", arguments={"n": 1}), "approve", "kim")
        reviews.decide(ask(made, "second", tool_id="TL002"), "reject", "lee", reason="too many")
        reviews.decide(ask(made, "third", "USR002", queue="night"), "approve", "lee")
        reviews.verdict(ask(made, "fourth", phase="post", tool_id=None), "wrong", "kim")
        ask(made, "open")
        made.outcome(made.repository.sessions("USR001", 1).items[0], succeeded=True, source="evaluator")
        made.drain()
        made.refresh()
        yield made


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ({}, ["fourth", "third", "second", "first"]),
        ({"by": "kim"}, ["fourth", "first"]),
        ({"queue": "night"}, ["third"]),
        ({"user": "USR002"}, ["third"]),
        ({"user": "user 2"}, ["third"]),
        ({"agent": "AGT001", "tool": "loc"}, ["third", "first"]),
        ({"tool": "TL002"}, ["second"]),
        ({"answer": "approved"}, ["third", "first"]),
        ({"answer": "wrong"}, ["fourth"]),
        ({"since": datetime.now(UTC) + timedelta(days=1)}, []),
        ({"agent": "agent 2"}, []),
    ],
)
def test_decisions_are_narrowed(model: AgentModel, narrow: dict[str, Any], expected: list[str]) -> None:
    """Neither an open question nor an outcome from outside is a decision; names and beginnings narrow as ids do."""
    rows, cursor = page_of_decisions(model, model.warehouse, **narrow)

    assert (expected, None) == ([row.question for row in rows], cursor)


def test_a_decision_says_who_and_why(model: AgentModel) -> None:
    """A row has names, the answer, the reviewer and the reason, and leads to its question."""
    (row,) = past_decisions(model.warehouse, DecisionFilter(answer="rejected"))
    review = model.reviews.get(row.reference)

    assert ("user 1", "agent 1", "search") == (row.user_name, row.agent_name, row.tool_name)
    assert ("lee", "too many", "review", "") == (row.by, row.reason, row.queue, row.verdict)
    assert (review.question, review.decided_at is not None) == (row.question, True)
    with pytest.raises(ValidationError, match="limit"):
        past_decisions(model.warehouse, limit=0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_have_each_decision_once(model: AgentModel, size: int) -> None:
    """Pages of any size have all of them in order."""
    found, cursor = list[str](), None
    while True:
        rows, cursor = page_of_decisions(model, model.warehouse, limit=size, cursor=cursor)
        found += [row.question for row in rows]
        if cursor is None:
            break

    assert ["fourth", "third", "second", "first"] == found
    with pytest.raises(CursorError):
        page_of_decisions(model, model.warehouse, cursor="eHg=")
    with pytest.raises(ValidationError, match="--answer"):
        page_of_decisions(model, model.warehouse, answer="maybe", dashes="--")


def test_decisions_of_one_moment_are_paged(settings: Settings) -> None:
    """Decisions of the same time are each on one page; those of an erased user are on none."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        for user in ("USR001", "USR002"):
            run(model, user)
            for number in range(3):
                review = ask(model, f"{user} {number}", user)
                review.decided_at, review.status, review.queue, review.due_at = at, "approved", None, None
                model.writer.save(review)
        model.drain()
        model.refresh()
        seen: list[Any] = []
        while page := past_decisions(model.warehouse, after=seen[-1].position if seen else None, limit=2):
            seen += page
        model.erase_user("USR002")
        left = past_decisions(model.warehouse)

    assert 6 == len({row.position for row in seen}) == len(seen)
    assert {"USR001"} == {row.user_id for row in left}


def test_the_console_shows_them(model: AgentModel) -> None:
    """The page lists them by filter, and a question has what was decided about its tool in other sessions."""
    kim = Person(console(model))
    question = model.reviews.reference(ask(model, "again", "USR002"))
    text = kim.see(f"/inbox/{question}")

    assert "rejected" in kim.see("/decisions?by=lee&tool=sea")
    assert "too many" in kim.see("/decisions?by=lee&tool=sea")
    assert "too many" not in kim.see("/decisions?by=kim")
    assert "No decisions." in kim.see("/decisions?queue=none")
    assert "answer" in kim.see("/decisions?answer=maybe", 422)
    assert "What was decided about the tool before approved 1" in text
    assert "For other users" in text
    assert "first approved user 1 · locate · agent 1 · by kim" in text
    assert "too many" not in text


def test_the_command_lists_them(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reviews list --decided` narrows and pages; its filters without it are refused."""
    for name, value in environment(model.settings).items():
        monkeypatch.setenv(name, value)
    model.warehouse.close()  # a DuckDB file is one process's at a time

    def shown(*arguments: str, code: int = 0) -> str:
        assert code == main(["reviews", "list", *arguments])
        out, err = capsys.readouterr()
        return out or err

    found = json.loads(shown("--decided", "--by", "kim", "--limit", "1", "--json"))
    rest = json.loads(shown("--decided", "--by", "kim", "--cursor", found["cursor"], "--json"))

    assert ["fourth"] == [row["question"] for row in found["decisions"]]
    assert ["first"] == [row["question"] for row in rest["decisions"]]
    assert "too many" in shown("--decided", "--tool", "search")
    assert "No decision." in shown("--decided", "--since", "2999-01-01")
    assert "add --decided" in shown("--by", "kim", code=2)


def test_the_beginning_of_a_question_of_any_queue_is_enough(settings: Settings) -> None:
    """Open ones of each queue that has landed are found, decided ones where they are asked for; several are named."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        run(model)
        asked = {name: ask(model, name, queue=name) for name in ("night", "day", "review")}
        model.reviews.decide(asked["day"], "approve", "kim")
        model.settle()
        model.refresh()
        fresh = ask(model, "fresh", queue="night")  # which the warehouse does not have, though its queue it has
        ids, user, session = Ids(model), fresh.user_id, fresh.session_id

        for each in (asked["night"], asked["review"], fresh):
            assert model.reviews.reference(each) == ids.review(each.review_id[:-3])
            assert model.reviews.reference(each) == ids.review(f"{user}/{session}/{each.review_id[:-3]}")
        decided = asked["day"].review_id[:-3]
        for text in (decided, f"{user}/{session}/{decided}"):
            assert model.reviews.reference(asked["day"]) == ids.review(text, decided=True)
        with pytest.raises(NotFound, match="open question"):
            ids.review(decided)
        assert f"{user}/{session}/{decided}" == ids.review(f"{user}/{session}/{decided}")  # which then is not there
        every = sorted(model.reviews.reference(each) for each in (*asked.values(), fresh))
        for text in ("2", f"{user}/{session}/2"):  # ids begin with the time
            with pytest.raises(ValidationError, match="must be the beginning of one only"):
                ids.review(text, decided=True)
        with pytest.raises(ValidationError, match=f"{every[0]}, .*{every[3]} begin so"):
            ids.review("2", decided=True)
