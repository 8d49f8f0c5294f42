"""The Strands hook provider with a guard: plan, blocked calls, reviews by interrupt, and known answers."""

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
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.suggest.guard import Guard
from agentmodel.suggest.plan import Plan, PlanStep
from tests.integration.integrations.recorders import tell
from tests.integration.integrations.scenario import (
    AGENT,
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

pytest.importorskip("strands", reason="the extra strands is not installed")

from strands import Agent, tool
from strands.hooks import AfterToolCallEvent, AgentInitializedEvent, BeforeToolCallEvent, HookRegistry
from strands.session.file_session_manager import FileSessionManager

from agentmodel.integrations.strands import AgentModelHooks, Tracker
from tests.integration.integrations.strands_agents import (
    PAYMENTS,
    STATE,
    Scripted,
    broken,
    flaky,
    pay,
    pending,
    said,
    search,
)

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
ASK = Turn((Asked("c1", "search", {"q": "a"}),), 3, 2)
AGAIN = Turn((Asked("c2", "search", {"q": "a"}),), 3, 2)


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


def agent_of(scripted: Scripted, tools: list[Any], tracker: Tracker, guard: Guard, **options: Any) -> Agent:
    """An agent with a guard."""
    return Agent(
        model=scripted,
        tools=tools,
        name=AGENT,
        callback_handler=None,
        hooks=[AgentModelHooks(tracker, guard=guard)],
        **options,
    )


def told(agent: Agent, given: Any) -> Any:
    """Tell an agent something."""
    return agent(given, invocation_state=dict(STATE))


def recorded(tracker: Tracker, model: AgentModel) -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in shown(model)]


def question(model: AgentModel) -> Review:
    """The one open question."""
    (review,) = model.reviews.inbox()
    return review


def fail(model: AgentModel, tool_id: str = "search") -> None:
    """Let a tool begin to fail."""
    for n in range(46):
        model.recorder.record(
            ToolExecution(
                user_id=f"USR00{2 + n % 2}",
                session_id="SESS20250614001",
                process_id="PRC001",
                agent_id=PLACE,
                tool_id=keys.stable_id("TL", tool_id),
                tool_name=tool_id,
                succeeded=n < 40,
                executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
            )
        )
    model.settle()


def down(*_: object, **__: object) -> Any:
    """A table that does not answer."""
    raise TableUnavailable("the table does not answer")


def test_scenario(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is carried out by the guard and recorded: rejected, edited, and answered from what is known."""
    learned_that_searches_stay(model)

    def again(event: AfterToolCallEvent) -> None:
        event.retry = isinstance(event.exception, ConnectionError)

    agent = agent_of(Scripted(SCRIPT), [search, flaky(), broken, pay], tracker, model.guard(review=["pay"]))
    agent.add_hook(again, AfterToolCallEvent)
    first = told(agent, REQUEST)
    second = told(agent, said(pending(first), {"decision": "reject", "by": "kim", "reason": "too much"}))
    third = told(agent, said(pending(second), {"decision": "edit", "by": "kim", "arguments": {"amount": 5}}))

    assert ["interrupt", "interrupt", "end_turn"] == [one.stop_reason for one in (first, second, third)]
    assert tracker.flush()
    assert expected() == shown(model)
    tell("Strands, hook provider with a guard", shown(model))
    assert 0 == tracker.errors


# The plan


def test_the_plan_is_in_the_prompt(model: AgentModel, tracker: Tracker) -> None:
    """Each turn of the model reads the same plan after the system prompt, the agent's own prompt stays as it is."""
    catalogue(model)
    run(model, "USRada", request=REQUEST, category=STATE["category"])
    model.drain()
    model.refresh()
    model.publish()
    scripted = Scripted([ASK, AGAIN])
    agent = agent_of(scripted, [search], tracker, model.guard(review="never"), system_prompt="You find cafés.")
    told(agent, REQUEST)
    assert tracker.flush()

    (session,) = [one for one in model.repository.sessions("USRada") if one.suggestion_id is not None]
    (suggestion,) = model.suggestions.of_user("USRada")
    assert 3 == len(scripted.systems)
    assert 1 == len(set(scripted.systems))
    assert str(scripted.systems[0]).startswith("You find cafés.\nThis plan worked before")
    assert "1. `step 1`: `locate`" in str(scripted.systems[0])
    assert "You find cafés." == agent.system_prompt
    assert suggestion.suggestion_id == session.suggestion_id
    assert 0 == tracker.errors


def test_the_plan_of_an_invocation_that_goes_on(
    model: AgentModel, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interrupt a new agent on the same conversation reads the plan that was made; a new request has its own."""
    guard = model.guard(review=["pay"])
    tools = ["format", "locate"]

    def planned(user_id: str, **_: Any) -> Plan:
        step = PlanStep(process="go", agent_id="AGT001", tool_id="TL001", tool=tools.pop())
        return Plan(user_id=user_id, steps=(step,), source="own mapping", agent_id="AGT001", agent="one")

    def taken_up(*turns: Turn) -> tuple[Scripted, Agent]:
        scripted = Scripted(turns)
        kept = FileSessionManager(session_id="t", storage_dir=str(tmp_path))
        return scripted, agent_of(scripted, [pay], tracker, guard, session_manager=kept, agent_id=AGENT)

    monkeypatch.setattr(guard, "plan", planned)
    result = told(taken_up(PAYMENTS[0])[1], REQUEST)
    scripted, agent = taken_up()
    told(agent, said(pending(result), {"decision": "approve", "by": "kim"}))
    told(agent, "something else")

    assert ["1. `go`: `locate`", "1. `go`: `format`"] == [str(text).splitlines()[-1] for text in scripted.systems]


@pytest.mark.parametrize(
    "mine", [None, "You find cafés.", [{"text": "You find cafés."}, {"cachePoint": {"type": "default"}}]]
)
def test_the_plan_comes_after_any_prompt(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, mine: Any
) -> None:
    """Without a prompt the plan is the prompt; what is marked to be cached stays before it."""
    guard = model.guard()
    monkeypatch.setattr(guard, "plan", lambda user_id, **_: Plan(user_id=user_id, source="own mapping", agent="one"))
    scripted = Scripted([])
    agent = agent_of(scripted, [search], tracker, guard, system_prompt=mine)
    told(agent, REQUEST)

    before = "You find cafés.\n" if mine else ""
    assert [f"{before}{Plan(user_id='USRada', source='own mapping', agent='one').as_prompt()}"] == scripted.systems


def test_a_plan_that_cannot_be_read(model: AgentModel, tracker: Tracker) -> None:
    """What another version kept in the agent's state, and this one cannot read, is counted and left out."""
    scripted = Scripted([])
    agent = agent_of(scripted, [search], tracker, model.guard(), system_prompt="You find cafés.")
    agent.messages.append({"role": "user", "content": [{"text": REQUEST}]})
    agent.state.set("agentmodel_plan", {"steps": "three"})
    told(agent, None)

    assert ["You find cafés."] == scripted.systems
    assert 1 == tracker.errors


def test_no_plan(model: AgentModel, tracker: Tracker) -> None:
    """Where nothing is known the prompt stays as it is."""
    scripted = Scripted([])
    told(agent_of(scripted, [search], tracker, model.guard(), system_prompt="You find cafés."), REQUEST)

    assert ["You find cafés."] == scripted.systems


# Blocked calls


def test_a_failing_tool_is_blocked(model: AgentModel, tracker: Tracker) -> None:
    """The model reads what fails and what works instead; the tool is not called, and the call is `blocked`."""
    fail(model)
    called = threading.Event()

    @tool(name="search")
    def watched(q: str) -> str:
        """Search."""
        called.set()
        return q

    scripted = Scripted([ASK])
    told(agent_of(scripted, [watched], tracker, model.guard(review="never")), REQUEST)

    status, content = scripted.results["c1"]
    assert "error" == status
    assert content[0]["text"].startswith("`search` was not called: it has been failing since ")
    assert content[0]["text"].endswith("Use `lookup` instead.")
    assert not called.is_set()
    assert [("search", "blocked")] == recorded(tracker, model)


def test_another_hook_that_cancels(model: AgentModel, tracker: Tracker) -> None:
    """A call that another hook cancels is `rejected`, and nobody is asked about it."""

    def refuse(event: BeforeToolCallEvent) -> None:
        event.cancel_tool = "no"

    agent = agent_of(Scripted([ASK]), [search], tracker, model.guard(review="always"))
    agent.add_hook(refuse, BeforeToolCallEvent)
    told(agent, REQUEST)

    assert [("search", "rejected")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_an_unknown_tool(model: AgentModel, tracker: Tracker) -> None:
    """Nobody is asked about a tool that does not exist."""
    scripted = Scripted([Turn((Asked("c1", "nope", {"q": "f"}),), 3, 2)])
    told(agent_of(scripted, [search], tracker, model.guard(review="always")), REQUEST)

    assert [("nope", "unknown_tool")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


# Known answers


def test_a_known_answer(model: AgentModel, tracker: Tracker) -> None:
    """A read-only tool is called once; the second call reads the same and is a `cache_hit`."""
    calls: list[str] = []

    @tool(name="search")
    def counted(q: str) -> Any:
        """Search."""
        calls.append(q)
        return {"status": "success", "content": [{"json": {"found": q}}, {"text": "one"}]}

    scripted = Scripted([ASK, AGAIN])
    told(agent_of(scripted, [counted], tracker, model.guard(review="never")), REQUEST)

    assert ["a"] == calls
    assert ("success", [{"json": {"found": "a"}}, {"text": "one"}]) == scripted.results["c1"] == scripted.results["c2"]
    assert [("search", "ok"), ("search", "cache_hit")] == recorded(tracker, model)


def test_no_known_answer_after_a_write(model: AgentModel, tracker: Tracker) -> None:
    """A call that may write comes between: the read-only tool is called again."""
    scripted = Scripted([ASK, Turn((Asked("c3", "pay", {"amount": 8}),), 6, 4), AGAIN])
    told(agent_of(scripted, [search, pay], tracker, model.guard(review="never")), REQUEST)

    assert [("search", "ok"), ("pay", "ok"), ("search", "ok")] == recorded(tracker, model)


def test_a_known_answer_that_is_tried_again(model: AgentModel, tracker: Tracker) -> None:
    """Whoever is not content with a known answer gets one from the tool."""
    guard = model.guard(review="never")
    retries = [True, False]

    def again(event: AfterToolCallEvent) -> None:
        event.retry = event.tool_use["toolUseId"] == "c2" and retries.pop(0)

    agent = agent_of(Scripted([ASK, AGAIN]), [search], tracker, guard)
    agent.add_hook(again, AfterToolCallEvent)
    told(agent, REQUEST)

    assert [("search", "ok"), ("search", "cache_hit"), ("search", "ok")] == recorded(tracker, model)


def test_an_error_is_not_kept(model: AgentModel, tracker: Tracker) -> None:
    """A read-only tool that failed is called again with the same arguments."""
    guard, failures = model.guard(review="never"), [ConnectionError("gone")]

    @tool(name="search")
    def once(q: str) -> str:
        """Fail once."""
        if failures:
            raise failures.pop()
        return q

    told(agent_of(Scripted([ASK, AGAIN]), [once], tracker, guard), REQUEST)

    assert [("search", "error"), ("search", "ok")] == recorded(tracker, model)


def test_an_answer_of_another_framework(model: AgentModel, tracker: Tracker) -> None:
    """A known answer that is no content of Strands is read as JSON."""
    guard = model.guard(review="never")
    tool_id = keys.stable_id("TL", "search")
    step = guard.before(agent_id=PLACE, tool_id=tool_id, user_id="USRada", session_id="t", arguments={"q": "a"})
    guard.after(step, [{"found": "é"}])
    scripted = Scripted([ASK])
    told(agent_of(scripted, [search], tracker, guard), REQUEST)

    assert ("success", [{"text": '[{"found": "é"}]'}]) == scripted.results["c1"]


def test_two_calls_with_one_id(model: AgentModel, tracker: Tracker) -> None:
    """Where a model gives the same id to two calls at once, each is answered for its own arguments."""
    guard = model.guard(review="never")
    told(agent_of(Scripted([ASK]), [search], tracker, guard), REQUEST)
    both = Turn((Asked("c", "search", {"q": "a"}), Asked("c", "search", {"q": "b"})), 3, 2)
    agent = agent_of(Scripted([both]), [search], tracker, guard)
    decided = asyncio.Barrier(2)

    async def together(event: BeforeToolCallEvent) -> None:
        assert not event.cancel_tool
        await decided.wait()

    agent.hooks.add_callback(BeforeToolCallEvent, together, order=200)
    told(agent, REQUEST)

    results: Any = agent.messages[2]["content"]
    assert ["found a", "found b"] == sorted(one["toolResult"]["content"][0]["text"] for one in results)
    assert tracker.flush()
    assert ["ok", "cache_hit", "ok"] == [call.status for call in shown(model)]


# Reviews


def test_a_question_is_kept_before_the_interrupt(model: AgentModel, tracker: Tracker) -> None:
    """Who is interrupted finds the question in the history, and what the person needs to see in the interrupt."""
    agent = agent_of(Scripted(PAYMENTS[:1]), [pay], tracker, model.guard(review=["pay"]))
    (interrupt,) = told(agent, REQUEST).interrupts

    review = question(model)
    assert f"agentmodel.review.{review.review_id}.1" == interrupt.name
    assert "agentmodel_review" == interrupt.reason["type"]
    assert model.reviews.reference(review) == interrupt.reason["review"]
    assert ({"amount": 7}, review.arguments_hash) == (interrupt.reason["arguments"], interrupt.reason["arguments_hash"])
    assert ["approve", "edit", "reject", "respond"] == interrupt.reason["allowed"]
    json.dumps(interrupt.reason)


def test_somebody_decided_in_the_history(model: AgentModel, tracker: Tracker) -> None:
    """With nothing said the agent waits on, until somebody has decided in the history."""
    asked_for: list[str] = []

    def rule(_agent: str, tool_id: str, _arguments: Any) -> str | None:
        asked_for.append(tool_id)
        return "money"

    agent = agent_of(Scripted(PAYMENTS[:1]), [pay], tracker, model.guard(review=rule))
    first = told(agent, REQUEST)
    second = told(agent, said(pending(first), {}))
    waiting = model.reviews.inbox().items
    model.reviews.decide(waiting[0], "approve", "kim")
    third = told(agent, said(pending(second), {}))

    assert ["interrupt", "interrupt", "end_turn"] == [one.stop_reason for one in (first, second, third)]
    assert pending(first) != pending(second)
    assert 1 == len(waiting) == len(asked_for)
    assert [("pay", "ok")] == recorded(tracker, model)


def test_an_answer_that_is_not_accepted(model: AgentModel, tracker: Tracker) -> None:
    """What cannot be taken is asked again, with what was wrong; the call is not made."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], tracker, model.guard(review=["pay"]))
    result = told(agent, REQUEST)
    troubles = []
    for wrong in ("yes", {"decision": "approve"}, {"decision": "reject", "by": "kim"}):
        result = told(agent, said(pending(result), wrong))
        troubles.append(result.interrupts[0].reason["trouble"])
    right = {"decision": "reject", "by": "kim", "reason": "too much"}
    result = told(agent, said(pending(result), right))

    assert "it must be an object with the fields decision, by, reason" in troubles[0]
    assert "the name of the person" in troubles[1]
    assert "must be given for a rejection" in troubles[2]
    assert (
        "`pay` was not called: `kim` rejected it. Reason: `too much`. Do not repeat this call unless you are asked to."
        == scripted.results["c1"][1][0]["text"]
    )
    assert [("pay", "rejected")] == recorded(tracker, model)


def test_two_questions_at_once(model: AgentModel, tracker: Tracker) -> None:
    """Parallel calls are asked about at once, and each is answered for itself, also one after the other."""
    both = Turn((Asked("c1", "pay", {"amount": 7}), Asked("c2", "pay", {"amount": 8})), 6, 4)
    scripted = Scripted([both])
    agent = agent_of(scripted, [pay], tracker, model.guard(review=["pay"]))
    first = told(agent, REQUEST)
    of = {one.reason["arguments"]["amount"]: [one.id] for one in first.interrupts}
    second = told(agent, said(of[8], {"decision": "approve", "by": "kim"}))
    told(agent, said(pending(second), {"decision": "reject", "by": "lee", "reason": "no"}))

    assert [7, 8] == sorted(of)
    assert of[7] == pending(second)
    assert ("error", "success") == (scripted.results["c1"][0], scripted.results["c2"][0])
    assert [("pay", "rejected"), ("pay", "ok")] == recorded(tracker, model)


def test_a_direct_call(model: AgentModel, tracker: Tracker) -> None:
    """A tool that the application calls itself is decided about too; Strands lets no person be asked there."""
    guard = model.guard(review=["pay"])
    agent = agent_of(Scripted([]), [pay, search], tracker, guard)
    found = [agent.tool.search(q="a"), agent.tool.search(q="a")]
    with pytest.raises(RuntimeError, match="cannot raise interrupt in direct tool call"):
        agent.tool.pay(amount=7)

    assert [[{"text": "found a"}]] * 2 == [one["content"] for one in found]
    assert tracker.flush()
    assert ["ok", "ok"] == [call.status for call in shown(model, user_id="USR~anonymous")], (
        "nothing is cached for nobody"
    )


def test_a_response(model: AgentModel, tracker: Tracker) -> None:
    """A person's text is read as the result; the tool is not called, and the call is `rejected`."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], tracker, model.guard(review=["pay"]))
    told(agent, said(pending(told(agent, REQUEST)), {"decision": "respond", "by": "kim", "response": "paid already"}))

    assert ("success", [{"text": "paid already"}]) == scripted.results["c1"]
    assert [("pay", "rejected")] == recorded(tracker, model)


def test_nobody_answers_in_time(model: AgentModel, tracker: Tracker) -> None:
    """A question that ran out refuses the call, which is `expired`."""
    scripted = Scripted(PAYMENTS[:1])
    guard = model.guard(review=["pay"], answer_within=timedelta(microseconds=1))
    told(agent_of(scripted, [pay], tracker, guard), REQUEST)

    assert (
        "`pay` was not called: nobody approved it before the deadline of the question."
        == scripted.results["c1"][1][0]["text"]
    )
    assert [("pay", "expired")] == recorded(tracker, model)


def test_a_retry_is_not_asked_about_again(model: AgentModel, tracker: Tracker) -> None:
    """An edited call that is tried again keeps the arguments that the person gave, and nobody is asked twice."""
    amounts: list[int] = []

    @tool(name="pay")
    def pay_later(amount: int) -> str:
        """Pay, the second time."""
        amounts.append(amount)
        if len(amounts) == 1:
            raise ConnectionError
        return f"paid {amount}"

    def again(event: AfterToolCallEvent) -> None:
        event.retry = isinstance(event.exception, ConnectionError)

    agent = agent_of(Scripted(PAYMENTS[:1]), [pay_later], tracker, model.guard(review=["pay"]))
    agent.add_hook(again, AfterToolCallEvent)
    told(agent, said(pending(told(agent, REQUEST)), {"decision": "edit", "by": "kim", "arguments": {"amount": 5}}))

    assert [5, 5] == amounts
    assert [("pay", "error"), ("pay", "edited")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_the_same_id_in_a_later_message(model: AgentModel, tracker: Tracker) -> None:
    """An answer holds for its call alone: another message's call of the same id and arguments is asked about anew."""
    agent = agent_of(Scripted([PAYMENTS[0], PAYMENTS[0]]), [pay], tracker, model.guard(review=["pay"]))
    first = told(agent, REQUEST)
    second = told(agent, said(pending(first), {"decision": "approve", "by": "kim"}))

    assert "interrupt" == second.stop_reason
    assert {"amount": 7} == question(model).arguments


def test_what_a_person_made_of_another_call(model: AgentModel, tracker: Tracker) -> None:
    """A later call of the same id that looks like the edited one is asked about as the model made it."""
    later = Turn((Asked("c1", "pay", {"amount": 5}),), 6, 4)
    agent = agent_of(Scripted([PAYMENTS[0], later]), [pay], tracker, model.guard(review=["pay"]))
    first = told(agent, REQUEST)
    told(agent, said(pending(first), {"decision": "edit", "by": "kim", "arguments": {"amount": 5}}))

    assert {"amount": 5} == question(model).arguments


def test_a_decision_that_cannot_be_written(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the table is away nothing is decided: the agent waits on, and the answer is taken when it is back."""
    scripted = Scripted(PAYMENTS[:1])
    agent = agent_of(scripted, [pay], tracker, model.guard(review=["pay"]))
    first = told(agent, REQUEST)
    assert tracker.flush()
    with monkeypatch.context() as away:
        away.setattr(model.reviews, "decide", down)
        second = told(agent, said(pending(first), {"decision": "approve", "by": "kim"}))
    third = told(agent, said(pending(second), {}))

    assert "the table does not answer" in second.interrupts[0].reason["trouble"]
    assert "end_turn" == third.stop_reason
    assert ("success", [{"text": "paid 7"}]) == scripted.results["c1"]


def test_a_decision_that_cannot_be_read(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it cannot be read whether somebody decided, the agent waits on; the call is not made meanwhile."""
    scripted = Scripted(PAYMENTS[:1])
    guard = model.guard(review=["pay"])
    agent = agent_of(scripted, [pay], tracker, guard)
    with monkeypatch.context() as away:
        away.setattr(guard, "answer", down)
        first = told(agent, REQUEST)
    model.reviews.decide(question(model), "approve", "kim")
    told(agent, said(pending(first), {}))

    assert "could not be read: the table does not answer" in first.interrupts[0].reason["trouble"]
    assert ("success", [{"text": "paid 7"}]) == scripted.results["c1"]


def test_an_agent_without_middleware(model: AgentModel, tracker: Tracker) -> None:
    """A guard that could not give known answers and plans says so when the agent is made."""
    registry = HookRegistry()
    AgentModelHooks(tracker, guard=model.guard()).register_hooks(registry)
    with pytest.raises(ValidationError, match="an Agent: a guard needs its middleware"):
        registry.invoke_callbacks(AgentInitializedEvent(agent=object()))  # type: ignore[type-var]  # as of a bidirectional agent


def test_a_guard_that_fails_refuses(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call about which nothing could be decided is not made, and what failed is counted."""
    guard = model.guard()
    monkeypatch.setattr(guard, "before", down)
    scripted = Scripted(PAYMENTS[:1])
    told(agent_of(scripted, [pay], tracker, guard), REQUEST)

    assert "error" == scripted.results["c1"][0]
    assert "a person may have to approve it first, and nobody can be asked" in scripted.results["c1"][1][0]["text"]
    assert 1 == tracker.errors
    assert tracker.flush()
    assert ["blocked"] == [call.status for call in shown(model)]


def test_the_loop_is_not_held_up(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guard waits for a store, the event loop goes on."""
    guard = model.guard(review="never")
    before, reached = guard.before, threading.Event()

    def slow(**call: Any) -> Any:
        assert reached.wait(30)  # until the loop has run something else
        return before(**call)

    async def both() -> None:
        running = asyncio.create_task(agent.invoke_async(REQUEST, invocation_state=dict(STATE)))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, reached.set)
        await running

    monkeypatch.setattr(guard, "before", slow)
    scripted = Scripted([ASK])
    agent = agent_of(scripted, [search], tracker, guard)
    asyncio.run(both())

    assert ("success", [{"text": "found a"}]) == scripted.results["c1"]


# Another process


def process(settings: Settings, folder: Path, turn: int, given: Any) -> Any:
    """Run the agent in a process of its own."""
    told = json.dumps(given)
    environment = {
        **os.environ,
        "AGENTMODEL_TABLE": settings.table,
        "AGENTMODEL_ENDPOINT": str(settings.endpoint),
        "AGENTMODEL_ACCESS_KEY_ID": "test",
        "AGENTMODEL_SECRET_ACCESS_KEY": "test",
        "AGENTMODEL_VALKEY_URL": str(settings.valkey_url),
        "AGENTMODEL_WAREHOUSE_URL": str(settings.warehouse_url),
    }
    command = [sys.executable, "-m", "tests.integration.integrations.strands_agents", str(folder), str(turn), told]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_resumed_in_another_process(model: AgentModel, settings: Settings, tmp_path: Path) -> None:
    """Each process ends while a person is asked; the next takes up the answer, said to it or found in the history."""
    first = process(settings, tmp_path, 0, REQUEST)
    second = process(settings, tmp_path, 1, said(first["waits"], {"decision": "reject", "by": "kim", "reason": "no"}))
    model.reviews.decide(question(model), "edit", "lee", arguments={"amount": 5})
    third = process(settings, tmp_path, 2, said(second["waits"], {}))

    assert ["interrupt", "interrupt", "end_turn"] == [one["stop"] for one in (first, second, third)]
    assert "`pay` was not called: `kim` rejected it. Reason: `no`." in second["read"]["c1"][1][0]["text"]
    notice = '`lee` edited this call: `pay` was called with {"amount": 5}. Its result:'
    assert ["success", [{"text": notice}, {"text": "paid 5"}]] == third["read"]["c2"]
    assert [("pay", "rejected", {"amount": 7}), ("pay", "edited", {"amount": 5})] == [
        (call.tool, call.status, call.arguments) for call in shown(model)
    ]
    assert () == model.reviews.inbox().items
