"""The capability for Pydantic AI with a guard: plan, blocked calls, reviews by deferred calls, and known answers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.dynamo.models import Review
from agentmodel.exceptions import TableUnavailable
from agentmodel.suggest.plan import Plan
from tests.integration.integrations.recorders import tell
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    REQUEST,
    SCRIPT,
    Asked,
    Turn,
    expected,
    learned_that_searches_stay,
    shown,
)
from tests.integration.suggest_world import catalogue, opened, run

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic import BaseModel
from pydantic_ai import ModelRetry, ToolDenied, ToolReturn
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessagesTypeAdapter

from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker
from tests.integration.integrations.pydantic_ai_agents import (
    METADATA,
    PAYMENTS,
    Scripted,
    agent_of,
    answered,
    broken,
    flaky,
    pay,
    pending,
    search,
    told,
)

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
ASK = Turn((Asked("c1", "search", {"q": "a"}),), 3, 2)
AGAIN = Turn((Asked("c2", "search", {"q": "a"}),), 3, 2)
APPROVE = {"decision": "approve", "by": "kim"}


class Sum(BaseModel):
    """An amount of money."""

    amount: int


class Again(AbstractCapability[Any]):
    """Try again what lost its connection, and let the model read what fails."""

    async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        try:
            try:
                return await handler(args)
            except ConnectionError:
                return await handler(args)
        except ValueError as error:
            raise ModelRetry(str(error)) from error


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose catalogue has the agent's tools; searching is read-only."""
    with opened(settings) as model:
        model.repository.put(
            *[
                Tool(
                    agent_id=PLACE,
                    tool_id=keys.stable_id("TL", name),
                    domain_id=keys.stable_id("DMN", DOMAIN),
                    name=name,
                    description=described,
                    read_only=name == "search",
                )
                for name, described in (("search", "find places"), ("lookup", "find places"), ("pay", "pay for it"))
            ]
        )
        yield model


@pytest.fixture
def tracker(model: AgentModel) -> Iterator[Tracker]:
    """Writes what is recorded."""
    with Tracker(model, domain=DOMAIN) as tracker:
        yield tracker


def guarded(tracker: Tracker, **rules: Any) -> AgentModelCapability:
    """The capability with a guard of its own."""
    return AgentModelCapability(tracker, guard=tracker.model.guard(domain=DOMAIN, **rules))


def recorded(tracker: Tracker, model: AgentModel) -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in shown(model)]


def question(model: AgentModel) -> Review:
    """The one open question."""
    (review,) = model.reviews.inbox()
    return review


def down(*_: object, **__: object) -> Any:
    """A table that does not answer."""
    raise TableUnavailable("the table does not answer")


def test_scenario(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is carried out by the guard and recorded: rejected, edited, and answered from what is known."""
    learned_that_searches_stay(model)
    tools = [search, flaky(), broken, pay]
    agent = agent_of(Scripted(SCRIPT), tools, guarded(tracker, review=["pay"]), Again())
    first = told(agent, REQUEST)
    second = answered(agent, first, {"decision": "reject", "by": "kim", "reason": "too much"})
    third = answered(agent, second, {"decision": "edit", "by": "kim", "arguments": {"amount": 5}})

    assert (["c7"], ["c8"], "done") == (pending(first), pending(second), third.output)
    assert tracker.flush()
    assert expected() == shown(model)
    tell("Pydantic AI, capability with a guard", shown(model))
    assert 0 == tracker.errors


# The plan


def test_the_plan_is_in_the_instructions(model: AgentModel, tracker: Tracker) -> None:
    """Each request reads the same plan after the agent's own instructions."""
    catalogue(model)
    run(model, "USRada", request=REQUEST, category=CATEGORY)
    model.drain()
    model.refresh()
    model.publish()
    scripted = Scripted([ASK, AGAIN])
    told(agent_of(scripted, [search], guarded(tracker, review="never"), instructions="You find cafés."), REQUEST)
    assert tracker.flush()

    (session,) = [one for one in model.repository.sessions("USRada") if one.suggestion_id is not None]
    (suggestion,) = model.suggestions.of_user("USRada")
    assert 3 == len(scripted.systems)
    assert 1 == len(set(scripted.systems))
    assert str(scripted.systems[0]).startswith("You find cafés.")
    assert "1. `step 1`: `locate`" in str(scripted.systems[0])
    assert suggestion.suggestion_id == session.suggestion_id
    assert 0 == tracker.errors


def test_the_plan_of_a_run_that_goes_on(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a question, what is stored of the conversation has the plan; a new request has its own."""
    names = iter(["first", "second"])

    def planned(user_id: str, **_: Any) -> Plan:
        return Plan(user_id=user_id, source="own mapping", agent=next(names))

    ours = guarded(tracker, review=["pay"])
    assert ours._enforcer is not None
    monkeypatch.setattr(ours._enforcer.guard, "plan", planned)
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], ours)
    result = told(agent, REQUEST)
    kept = ModelMessagesTypeAdapter.validate_json(result.all_messages_json())
    results = result.output.build_results(approve_all=True, metadata={"c1": APPROVE})
    result = told(agent, None, message_history=kept, deferred_tool_results=results)
    told(agent, "something else", message_history=result.all_messages())

    assert [True, True, False] == ["first" in str(text) for text in scripted.systems]
    assert "second" in str(scripted.systems[-1])
    assert 0 == tracker.errors


def test_a_plan_that_cannot_be_read(model: AgentModel, tracker: Tracker) -> None:
    """What another version kept in the messages, and this one cannot read, is counted and left out."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], guarded(tracker, review=["pay"]))
    result = told(agent, REQUEST)
    result.all_messages()[0].metadata = {"agentmodel_plan": {"steps": "three"}}
    answered(agent, result, APPROVE)

    assert "paid 7" == scripted.results["c1"]
    assert 1 == tracker.errors


def test_an_agent_inside_a_tool_has_no_plan(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that a tool runs does a part of what the plan is for: it gets none, and asks for none."""
    planned: list[str] = []
    inner_ours, outer_ours = guarded(tracker, review="never"), guarded(tracker, review="never")
    for ours in (inner_ours, outer_ours):
        assert ours._enforcer is not None
        monkeypatch.setattr(ours._enforcer.guard, "plan", lambda user_id, **_: planned.append(user_id))
    inner = agent_of(Scripted([ASK]), [search], inner_ours, name="inner")

    async def ask() -> str:
        return str((await inner.run("go")).output)

    told(agent_of(Scripted([Turn((Asked("o1", "ask", {}),), 3, 2)]), [ask], outer_ours), REQUEST)

    assert ["USRada"] == planned
    assert {("search", "ok"), ("ask", "ok")} == set(recorded(tracker, model))


# Blocked calls and cached results


def test_a_failing_tool_is_blocked(model: AgentModel, tracker: Tracker) -> None:
    """The model reads what fails and what works instead; the tool is not called, and the call is `blocked`."""
    for n in range(46):
        model.recorder.record(
            ToolExecution(
                user_id=f"USR00{2 + n % 2}",
                session_id="SESS20250614001",
                process_id="PRC001",
                agent_id=PLACE,
                tool_id=keys.stable_id("TL", "search"),
                tool_name="search",
                succeeded=n < 40,
                executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
            )
        )
    model.settle()
    called = []
    scripted = Scripted([ASK])

    def watched(q: str) -> None:
        called.append(q)

    watched.__name__ = "search"
    told(agent_of(scripted, [watched], guarded(tracker, review="never")), REQUEST)

    assert scripted.results["c1"].startswith("`search` was not called: it has been failing since ")
    assert scripted.results["c1"].endswith("Use `lookup` instead.")
    assert [] == called
    assert [("search", "blocked")] == recorded(tracker, model)


@pytest.mark.parametrize(
    ("result", "cached"),
    [({"found": ["é"]}, True), (None, True), (ToolReturn("found", content="more"), False), (object, False)],
)
def test_a_known_answer(model: AgentModel, tracker: Tracker, result: Any, cached: bool) -> None:
    """A read-only tool is called once, if JSON gives its result back; the second call reads the same."""
    calls: list[str] = []

    class Found(BaseModel):
        """A result that JSON does not give back."""

        name: str = "x"

    def counted(q: str) -> Any:
        calls.append(q)
        return Found() if result is object else result

    counted.__name__ = "search"
    scripted = Scripted([ASK, AGAIN])
    told(agent_of(scripted, [counted], guarded(tracker, review="never")), REQUEST)

    assert scripted.results["c1"] == scripted.results["c2"]
    assert (1 if cached else 2) == len(calls)
    assert [("search", "ok"), ("search", "cache_hit" if cached else "ok")] == recorded(tracker, model)


def test_a_known_answer_that_is_tried_again(model: AgentModel, tracker: Tracker) -> None:
    """Whoever is not content with a known answer gets one from the tool."""

    class Twice(AbstractCapability[Any]):
        async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
            await handler(args)
            return await handler(args)

    told(agent_of(Scripted([ASK]), [search], Twice(), guarded(tracker, review="never")), REQUEST)

    assert [("search", "ok"), ("search", "ok")] == recorded(tracker, model)


def test_no_known_answer_after_a_write(model: AgentModel, tracker: Tracker) -> None:
    """A call that may write comes between: the read-only tool is called again."""
    turns = [ASK, Turn((Asked("c3", "pay", {"amount": 8}),), 6, 4), AGAIN]
    told(agent_of(Scripted(turns), [search, pay], guarded(tracker, review="never")), REQUEST)

    assert [("search", "ok"), ("pay", "ok"), ("search", "ok")] == recorded(tracker, model)


# Reviews


def test_a_question_is_kept_before_the_run_stops(model: AgentModel, tracker: Tracker) -> None:
    """The question is in the history, and the metadata of the deferred call has what a person needs to see."""
    result = told(agent_of(Scripted(PAYMENTS[:1]), [pay], guarded(tracker, review=["pay"])), REQUEST)

    review, asked = question(model), result.output.metadata["c1"]
    assert "agentmodel_review" == asked["type"]
    assert model.reviews.reference(review) == asked["review"]
    assert ({"amount": 7}, review.arguments_hash) == (asked["arguments"], asked["arguments_hash"])
    assert ["approve", "edit", "reject", "respond"] == asked["allowed"]
    json.dumps(asked)
    assert tracker.flush()
    assert [] == shown(model), "a call that waits is not made"


@pytest.mark.parametrize("metadata", ["nothing", "the question"])
def test_somebody_decided_in_the_history(model: AgentModel, tracker: Tracker, metadata: str) -> None:
    """An approval without a decision counts for nothing: the run stops again, until somebody has decided."""
    asked_for: list[str] = []

    def rule(_agent: str, tool_id: str, _arguments: Any) -> str | None:
        asked_for.append(tool_id)
        return "money"

    agent = agent_of(Scripted(PAYMENTS[:1]), [pay], guarded(tracker, review=rule))
    first = told(agent, REQUEST)
    given = first.output.metadata["c1"] if metadata == "the question" else {}
    second = answered(agent, first, given)
    waiting = model.reviews.inbox().items
    model.reviews.decide(waiting[0], "approve", "kim")
    third = answered(agent, second, given)

    assert (["c1"], ["c1"], "done") == (pending(first), pending(second), third.output)
    assert "trouble" not in second.output.metadata["c1"]
    assert 1 == len(waiting) == len(asked_for)
    assert [("pay", "ok")] == recorded(tracker, model)


def test_an_answer_that_is_not_accepted(model: AgentModel, tracker: Tracker) -> None:
    """What cannot be taken is asked again, with what was wrong; the call is not made."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], guarded(tracker, review=["pay"]))
    result, troubles = told(agent, REQUEST), []
    for wrong in ({"decision": "yes"}, {"decision": "approve"}, {"decision": "reject", "by": "kim"}):
        result = answered(agent, result, wrong)
        troubles.append(result.output.metadata["c1"]["trouble"])
    answered(agent, result, {"decision": "reject", "by": "kim", "reason": "too much"})

    assert "it must be an object with the fields decision, by, reason" in troubles[0]
    assert "the name of the person" in troubles[1]
    assert "must be given for a rejection" in troubles[2]
    assert scripted.results["c1"].startswith("`pay` was not called: `kim` rejected it. Reason: `too much`.")
    assert [("pay", "rejected")] == recorded(tracker, model)


def test_two_questions_at_once(model: AgentModel, tracker: Tracker) -> None:
    """Parallel calls are asked about at once; a call beside them is made once."""
    several = Turn(
        (Asked("c1", "pay", {"amount": 7}), Asked("c3", "search", {"q": "a"}), Asked("c2", "pay", {"amount": 8})), 6, 4
    )
    scripted = Scripted([several])
    agent = agent_of(scripted, [pay, search], guarded(tracker, review=["pay"]))
    first = told(agent, REQUEST)
    second = answered(agent, first, {"c1": {}, "c2": APPROVE})
    answered(agent, second, {"decision": "reject", "by": "lee", "reason": "no"})

    assert (["c1", "c2"], ["c1"]) == (pending(first), pending(second))
    assert "paid 8" == scripted.results["c2"]
    assert [("pay", "rejected"), ("search", "ok"), ("pay", "ok")] == recorded(tracker, model)


def test_an_edited_call(model: AgentModel, tracker: Tracker) -> None:
    """The tool gets a person's arguments as it takes them, and the model reads of the edit; others are an error."""
    paid: list[Sum] = []

    def pay_sum(due: Sum) -> str:
        paid.append(due)
        return "paid"

    scripted = Scripted([Turn((Asked(f"c{n}", "pay_sum", {"due": {"amount": 7}}),), 6, 4) for n in (1, 2)])
    agent = agent_of(scripted, [pay_sum], guarded(tracker, review=["pay_sum"]))
    result = told(agent, REQUEST)
    result = answered(agent, result, {"decision": "edit", "by": "kim", "arguments": {"due": {"amount": 5}}})
    answered(agent, result, {"decision": "edit", "by": "kim", "arguments": {"due": 5}})

    assert [Sum(amount=5)] == paid
    notice = '`kim` edited this call: `pay_sum` was called with {"due": {"amount": 5}}. Its result:'
    assert f"{notice}\npaid" == scripted.results["c1"]
    assert [("pay_sum", "edited"), ("pay_sum", "error")] == recorded(tracker, model)
    assert [{"due": {"amount": 5}}, {"due": 5}] == [call.arguments for call in shown(model)]


def test_the_application_denies(model: AgentModel, tracker: Tracker) -> None:
    """A call that the application denies by itself is `rejected`, and its question is withdrawn."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], guarded(tracker, review=["pay"]))
    result = told(agent, REQUEST)
    asked = question(model)
    denied = result.output.build_results(approvals={"c1": ToolDenied("no")})
    told(agent, None, message_history=result.all_messages(), deferred_tool_results=denied)

    assert "no" == scripted.results["c1"]
    assert [("pay", "rejected")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items
    assert "cancelled" == model.reviews.get(asked).status


def test_a_response(model: AgentModel, tracker: Tracker) -> None:
    """A person's text is read as the result; the tool is not called, and the call is `rejected`."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], guarded(tracker, review=["pay"]))
    answered(agent, told(agent, REQUEST), {"decision": "respond", "by": "kim", "response": "paid already"})

    assert "paid already" == scripted.results["c1"]
    assert [("pay", "rejected")] == recorded(tracker, model)


def test_arguments_that_another_capability_changes(model: AgentModel, tracker: Tracker) -> None:
    """The question is about the arguments that the tool would get, whoever made them."""

    class Doubling(AbstractCapability[Any]):
        async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
            return {"amount": args["amount"] * 2}

    told(agent_of(Scripted(PAYMENTS[:1]), [pay], guarded(tracker, review=["pay"]), Doubling()), REQUEST)

    assert {"amount": 14} == question(model).arguments


def test_a_call_that_is_no_call(model: AgentModel, tracker: Tracker) -> None:
    """Nobody is asked about a tool that does not exist, or about arguments that it does not take."""
    both = Turn((Asked("c1", "nope", {"q": "f"}), Asked("c2", "pay", {"wrong": 1})), 3, 2)
    told(agent_of(Scripted([both]), [pay], guarded(tracker, review="always")), REQUEST)

    assert [("nope", "unknown_tool"), ("pay", "error")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_the_same_id_in_a_later_message(model: AgentModel, tracker: Tracker) -> None:
    """An answer holds for its call alone: another message's call of the same id and arguments is asked about anew."""
    agent = agent_of(Scripted([PAYMENTS[0], PAYMENTS[0]]), [pay], guarded(tracker, review=["pay"]))
    first = told(agent, REQUEST)
    second = answered(agent, first, APPROVE)

    assert ["c1"] == pending(second)
    assert first.output.metadata["c1"]["review"] != second.output.metadata["c1"]["review"]


def test_a_decision_that_cannot_be_written(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the table is away nothing is decided: the run stops again, and the answer is taken when it is back."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], guarded(tracker, review=["pay"]))
    first = told(agent, REQUEST)
    assert tracker.flush()
    with monkeypatch.context() as away:
        away.setattr(model.reviews, "decide", down)
        second = answered(agent, first, APPROVE)
    answered(agent, second, APPROVE)

    assert "the table does not answer" in second.output.metadata["c1"]["trouble"]
    assert "paid 7" == scripted.results["c1"]


def test_a_run_that_cannot_be_opened_is_guarded(model: AgentModel, tracker: Tracker) -> None:
    """Where the user of a run cannot be read, a call that a person may have to approve is not made; others are."""

    class Deps:
        @property
        def user_id(self) -> str:
            raise LookupError("not signed in")

    scripted = Scripted([PAYMENTS[0], AGAIN])
    told(agent_of(scripted, [pay, search], guarded(tracker, review=["pay"])), REQUEST, metadata=None, deps=Deps())

    assert "nobody can be asked" in scripted.results["c1"]
    assert "found a" == scripted.results["c2"]
    assert tracker.errors


def test_the_loop_is_not_held_up(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guard waits for a store, the event loop goes on."""
    ours, scripted, reached = guarded(tracker, review="never"), Scripted([ASK]), threading.Event()
    assert ours._enforcer is not None
    guard = ours._enforcer.guard
    before = guard.before

    def slow(**call: Any) -> Any:
        loops[0].call_soon_threadsafe(reached.set)
        assert reached.wait(60)  # until the loop has run something else
        return before(**call)

    async def runs() -> None:
        loops.append(asyncio.get_running_loop())
        await agent_of(scripted, [search], ours).run(REQUEST, metadata=METADATA)

    loops: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(guard, "before", slow)
    asyncio.run(runs())

    assert "found a" == scripted.results["c1"]


# Another process


def process(settings: Settings, file: Path, turn: int, given: Any) -> Any:
    """Run the agent in a process of its own."""
    environment = {
        **os.environ,
        "AGENTMODEL_TABLE": settings.table,
        "AGENTMODEL_ENDPOINT": str(settings.endpoint),
        "AGENTMODEL_ACCESS_KEY_ID": "test",
        "AGENTMODEL_SECRET_ACCESS_KEY": "test",
        "AGENTMODEL_VALKEY_URL": str(settings.valkey_url),
        "AGENTMODEL_WAREHOUSE_URL": str(settings.warehouse_url),
    }
    told = given if isinstance(given, str) else json.dumps(given)
    command = [sys.executable, "-m", "tests.integration.integrations.pydantic_ai_agents", str(file), str(turn), told]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_resumed_in_another_process(model: AgentModel, settings: Settings, tmp_path: Path) -> None:
    """Each process ends while a person is asked; the next takes up the answer, said to it or found in the history."""
    file = tmp_path / "messages.json"
    first = process(settings, file, 0, REQUEST)
    second = process(settings, file, 1, {"c1": {"decision": "reject", "by": "kim", "reason": "no"}})
    model.reviews.decide(question(model), "edit", "lee", arguments={"amount": 5})
    third = process(settings, file, 2, {"c2": {}})

    assert [["c1"], ["c2"], []] == [one["waits"] for one in (first, second, third)]
    assert "`pay` was not called: `kim` rejected it. Reason: `no`." in second["read"]["c1"]
    notice = '`lee` edited this call: `pay` was called with {"amount": 5}. Its result:'
    assert f"{notice}\npaid 5" == third["read"]["c2"]
    assert [("pay", "rejected", {"amount": 7}), ("pay", "edited", {"amount": 5})] == [
        (call.tool, call.status, call.arguments) for call in shown(model)
    ]
    assert () == model.reviews.inbox().items
