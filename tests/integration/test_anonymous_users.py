"""The anonymous user is many people: nothing of one of them reaches another, and they are nobody in a count of users."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, UserToolMapping, keys
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.exceptions import ConfigurationError, ReviewPending
from agentmodel.suggest.guard import Ask, Go
from tests.integration.suggest_world import catalogue, opened

CATEGORY = "divorce of the Smiths"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model with a catalogue."""
    with opened(settings) as model:
        catalogue(model)
        yield model


def mapping(user_id: str) -> UserToolMapping:
    """A process that worked for a user."""
    key = keys.EXECUTION.build("PRC001", "AGT001", "TL001", 1)
    return UserToolMapping(
        user_id=user_id, category=CATEGORY, processes={"PRC001": "mine"}, agents={"AGT001": "agent 1"},
        tools={key: "locate"}, requests=["divide the house of the Smiths"], executions=9, successes=9, score=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("users", "shown"),
    [
        (["USRa"], False),
        (["USRa", "USRb"], False),
        (["USRa", "USRb", ANONYMOUS], False),
        (["USRa", "USRb", "USRc"], True),
    ],
)
@pytest.mark.parametrize("asking", ["USRother", ANONYMOUS])
def test_a_category_is_shown_once_three_known_users_have_it(
    model: AgentModel, users: list[str], shown: bool, asking: str
) -> None:
    """The name of a category is in no reason before three users have it, of whom the anonymous user is none."""
    model.repository.put(*map(mapping, users))
    plan = model.suggest(asking, category=CATEGORY)

    assert "similar users" == plan.source
    assert shown is any(CATEGORY in str(reason) for reason in plan.reasons)


def test_a_similar_request_of_another_tells_neither_category_nor_likeness(model: AgentModel) -> None:
    """A plan that another user's similar request found has neither that request's words, its category nor a number."""
    model.repository.put(*map(mapping, ["USRa", "USRb", "USRc"]))
    model.planner.load()
    plan = model.suggest("USRother", request="divide the house of the Smith family")

    assert "similar requests of all users" == plan.source
    assert (None, None) == (plan.similar_to, plan.similarity)
    assert "This is the sequence of a similar request of another user." == str(plan.reasons[0])
    assert CATEGORY not in plan.model_dump_json()


def test_the_anonymous_user_has_no_plan_of_its_own(model: AgentModel) -> None:
    """What worked for one anonymous user is, for the next, what worked for another user: without words."""
    model.repository.put(mapping(ANONYMOUS))
    plan = model.suggest(ANONYMOUS, category=CATEGORY, request="divide the house of the Smiths")

    assert "similar users" == plan.source
    assert [None] == [step.process for step in plan.steps]


def test_an_approval_is_good_for_its_session_alone(model: AgentModel) -> None:
    """The same call in another session of the anonymous user asks anew, although a person approved the first."""
    guard = model.guard(review="always")
    told: dict[str, Any] = {
        "agent_id": "AGT001", "tool_id": "TL001", "user_id": ANONYMOUS, "arguments": {"amount": 7}, "call_id": "c1",
    }  # fmt: skip
    first = guard.before(session_id="SESSone", **told)
    assert isinstance(first, Ask)
    model.reviews.decide(first.review, "approve", "kim")
    answer = guard.answer(first.review)
    second = guard.before(session_id="SESStwo", **told)

    assert answer is not None
    assert answer.permits
    assert isinstance(second, Ask)
    assert "SESStwo" == second.review.session_id
    assert guard.answer(second.review) is None


def test_an_approval_of_a_function_is_good_for_its_session_alone(model: AgentModel) -> None:
    """A function that a person approved for one anonymous session asks anew in another, and outside of any."""

    @model.tool(agent="agent 1", review="always")
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    with pytest.raises(ReviewPending), model.session(ANONYMOUS, "pay", session_id="SESSone"):
        pay(7)
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "approve", "kim")
    with pytest.raises(ReviewPending), model.session(ANONYMOUS, "pay", session_id="SESStwo"):
        pay(7)
    with pytest.raises(ConfigurationError):
        pay(7)
    with model.session(ANONYMOUS, "pay", session_id="SESSone"):
        paid = pay(7)

    assert "paid 7" == paid


def test_answers_that_are_not_everybodys_are_made_anew(model: AgentModel) -> None:
    """Two calls of the anonymous user share an answer only where the tool's answers are everybody's."""
    tool = model.repository.tool("AGT001", "TL001")
    assert tool is not None
    tool.read_only = True
    model.repository.put(tool)
    told: dict[str, Any] = {"agent_id": "AGT001", "tool_id": "TL001", "user_id": ANONYMOUS, "arguments": {"q": "me"}}
    decisions = []
    for scope in ("user", "everybody"):
        guard = model.guard(review="never", cache=scope)
        for session_id in ("SESSone", "SESStwo"):
            decisions.append(guard.before(session_id=session_id, **told))
            guard.after(decisions[-1], "your balance")

    assert ["Go", "Go", "Go", "Cached"] == [type(each).__name__ for each in decisions]
    assert all(each.lookup is not None and each.lookup.name is None for each in decisions[:2] if isinstance(each, Go))


def test_an_anonymous_caller_of_the_mcp_server_reads_no_history(model: AgentModel) -> None:
    """A caller as the anonymous user gets plans, and no session or process of anybody; an operator reads them."""
    pytest.importorskip("mcp", reason="the MCP server is an extra")
    from mcp import Client, MCPError

    from agentmodel.callers import Caller, Role
    from agentmodel.integrations.mcp import mcp_server

    with model.session(ANONYMOUS, "my secret request", session_id="SESSone"):
        pass

    async def answers(*roles: Role) -> list[tuple[bool, str]]:
        found = []
        caller = Caller(user_id=ANONYMOUS, roles=frozenset(roles))
        async with Client(mcp_server(model, caller=caller)) as client:
            for name, told in (
                ("session_history", {}),
                ("session_history", {"session_id": "SESSone"}),
                ("recommend_process", {"category": "any"}),
            ):
                answer = await client.call_tool(name, told)
                found.append((bool(answer.is_error), answer.model_dump_json()))
            try:
                resource = await client.read_resource(f"agentmodel://users/{ANONYMOUS}/processes")
                found.append((False, resource.model_dump_json()))
            except MCPError as error:
                found.append((True, str(error)))
        return found

    refused, operator = asyncio.run(answers("reader", "recorder")), asyncio.run(answers("operator"))

    assert [True, True, False, True] == [failed for failed, _ in refused]
    assert "my secret request" not in str(refused)
    assert [False, False, False, False] == [failed for failed, _ in operator]
    assert "my secret request" in operator[0][1]
