"""A guard for agents of the OpenAI Agents SDK: plan, blocked calls, reviews by approvals, and known answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.suggest.guard import Guard
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    REQUEST,
    SCRIPT,
    SESSION,
    USER,
    Asked,
    Turn,
    expected,
    learned_that_searches_stay,
    shown,
)
from tests.integration.suggest_world import catalogue, opened
from tests.integration.suggest_world import run as learnt

pytest.importorskip("agents", reason="the extra openai-agents is not installed")

from agents import (
    Agent,
    FunctionTool,
    RunConfig,
    Runner,
    RunState,
    add_trace_processor,
    function_tool,
    set_trace_processors,
)

from agentmodel.integrations.openai_agents import AgentModelGuard, AgentModelRecorder, Tracker
from tests.integration.integrations.openai_agents_script import broken, flaky, scripted, search, turn

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
ASK, AGAIN = turn(Asked("c1", "search", {"q": "a"})), turn(Asked("c2", "search", {"q": "a"}))
PAY = turn(Asked("c1", "pay", {"amount": 8}))
WHO = {"user_id": USER, "session_id": SESSION, "category": CATEGORY}


@function_tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


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


@pytest.fixture
def recorder(tracker: Tracker) -> Iterator[AgentModelRecorder]:
    """Listens to all runs; no trace leaves the machine."""
    recorder = AgentModelRecorder(tracker)
    set_trace_processors([])
    add_trace_processor(recorder)
    yield recorder
    set_trace_processors([])


class World:
    """An agent with a guard, as an application runs it."""

    def __init__(
        self, recorder: AgentModelRecorder, guard: Guard, *turns: Turn, tools: list[FunctionTool], **options: Any
    ) -> None:
        self.recorder = recorder
        self.guard = AgentModelGuard(recorder, guard)
        self.scripted = scripted(*turns)
        self.agent = Agent(name=AGENT, model=self.scripted, tools=self.guard.tools(*tools), **options)

    async def go(self, what: Any = REQUEST) -> Any:
        """Run it, or go on."""
        config = RunConfig(
            call_model_input_filter=self.guard.plan,
            tool_error_formatter=self.recorder.tool_error,
            tool_not_found_behavior="return_error_to_model",
        )
        context = None if isinstance(what, RunState) else WHO
        return await Runner.run(self.agent, what, context=context, hooks=self.recorder, run_config=config, max_turns=30)

    async def resumed(self, result: Any, *, waits: int = 0) -> Any:
        """Take over what was decided, after the state was stored, and go on."""
        state = await RunState.from_string(self.agent, result.to_state().to_string())
        assert waits == len(await self.guard.answered(state, session=SESSION, user=USER))
        return await self.go(state)

    def outputs(self) -> dict[str, Any]:
        """What the model read of its calls."""
        items = self.scripted.calls[-1].input
        return {item["call_id"]: item["output"] for item in items if item.get("type") == "function_call_output"}


def decide(model: AgentModel, decision: Any, **more: Any) -> None:
    """Answer the only open question."""
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, decision=decision, by="kim", **more)


def fail(model: AgentModel) -> None:
    """Let searching begin to fail."""
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


def recorded(model: AgentModel, tracker: Tracker) -> list[tuple[str, str]]:
    """Tool and status of what is recorded so far."""
    tracker.flush()
    return [(call.tool, call.status) for call in shown(model)]


def test_scenario(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """The whole scenario is carried out by the guard and recorded; what a person changes, the model asks for anew."""
    learned_that_searches_stay(model)
    turns = list(SCRIPT)
    turns.insert(2, Turn((Asked("c3b", "flaky", {"q": "c"}),), 20, 4))
    turns.insert(-1, Turn((Asked("c8b", "pay", {"amount": 5}),), 70, 4))

    async def all_of_it() -> Any:
        world = World(recorder, model.guard(review=["pay"]), *turns, tools=[search, flaky(), broken, pay])
        first = await world.go()
        decide(model, "reject", reason="too much")
        second = await world.resumed(first)
        decide(model, "edit", arguments={"amount": 5})
        return await world.resumed(second)

    result = asyncio.run(all_of_it())
    tracker.flush()

    seen = shown(model)
    asked_first = [call for call in seen if call.arguments == {"amount": 8}]
    assert "done" == result.final_output
    assert ["rejected"] == [call.status for call in asked_first]
    assert [replace(call, attempt=1, tokens=(20, 4)) if call.tool == "flaky" else call for call in expected()] == [
        call for call in seen if call not in asked_first
    ]
    assert 0 == tracker.errors


def test_the_plan_is_read(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """Each turn of the model reads the same plan after the instructions, and the session carries its id."""
    catalogue(model)
    learnt(model, "USRada", request=REQUEST, category=CATEGORY)
    model.drain()
    model.refresh()
    model.publish()
    world = World(recorder, model.guard(review="never"), ASK, AGAIN, tools=[search], instructions="You find cafés.")
    asyncio.run(world.go())
    tracker.flush()

    read = {call.system_instructions for call in world.scripted.calls}
    (suggestion,) = model.suggestions.of_user("USRada")
    (session,) = [one for one in model.repository.sessions("USRada") if one.suggestion_id is not None]
    assert 1 == len(read)
    assert str(read.pop()).startswith("You find cafés.\n\n")
    assert suggestion.suggestion_id == session.suggestion_id
    assert "You find cafés." == world.agent.instructions


def test_a_blocked_tool(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A tool that fails now is not called: the model reads since when, and it is recorded as blocked."""
    calls: list[str] = []

    @function_tool(name_override="search")
    def counted(q: str) -> str:
        """Search."""
        calls.append(q)
        return q

    fail(model)
    world = World(recorder, model.guard(review="never"), ASK, tools=[counted])
    asyncio.run(world.go())

    assert [] == calls
    assert "`search` was not called: it has been failing since" in world.outputs()["c1"]
    assert [("search", "blocked")] == recorded(model, tracker)[-1:]


def test_a_known_answer(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A read-only tool is called once; the second call reads the same and is a `cache_hit`."""
    calls: list[str] = []

    @function_tool(name_override="search")
    def counted(q: str) -> dict[str, Any]:
        """Search."""
        calls.append(q)
        return {"found": q}

    world = World(recorder, model.guard(review="never"), ASK, AGAIN, tools=[counted])
    asyncio.run(world.go())

    assert ["a"] == calls
    assert {"found": "a"} == json.loads(world.outputs()["c2"])
    assert [("search", "ok"), ("search", "cache_hit")] == recorded(model, tracker)


def test_no_known_answer_after_a_write(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A call that may write comes between: the read-only tool is called again."""
    write = turn(Asked("c3", "pay", {"amount": 8}))
    world = World(recorder, model.guard(review="never"), ASK, write, AGAIN, tools=[search, pay])
    asyncio.run(world.go())

    assert [("search", "ok"), ("pay", "ok"), ("search", "ok")] == recorded(model, tracker)


@pytest.mark.parametrize("polite", [True, False])
def test_a_failure_is_no_answer(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, polite: bool
) -> None:
    """What the model reads of a tool that failed or took too long is not given again."""

    @function_tool(name_override="search", timeout=None if polite else 0.001)
    async def failing(q: str) -> str:
        """Search."""
        if not polite:
            await asyncio.sleep(86_400)
        raise LookupError(q)

    world = World(recorder, model.guard(review="never"), ASK, AGAIN, tools=[failing])
    asyncio.run(world.go())

    assert [("search", "error"), ("search", "error")] == recorded(model, tracker)


def test_a_question_waits(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A call that a person should see is asked about once and not recorded until then; approved, it is made once."""

    async def all_of_it() -> tuple[Any, Any]:
        world = World(recorder, model.guard(review=["pay"]), PAY, tools=[pay])
        waiting = await world.go()
        still = await world.resumed(waiting, waits=1)
        before = recorded(model, tracker)
        decide(model, "approve")
        done = await World(recorder, model.guard(review=["pay"]), tools=[pay]).resumed(still)
        return before, done

    before, done = asyncio.run(all_of_it())

    assert [] == before
    assert "done" == done.final_output
    assert [("pay", "ok")] == recorded(model, tracker)


@pytest.mark.parametrize(
    ("decision", "more", "read"),
    [
        ("reject", {"reason": "too much"}, "`kim` rejected it. Reason: `too much`."),
        ("respond", {"response": "pay in cash"}, "pay in cash"),
    ],
)
def test_what_a_person_says(
    recorder: AgentModelRecorder, tracker: Tracker, decision: str, more: dict[str, Any], read: str
) -> None:
    """A rejection and a person's own answer are what the model reads; both are recorded as rejected, once."""
    model = tracker.model

    async def all_of_it() -> World:
        world = World(recorder, model.guard(review=["pay"]), PAY, tools=[pay])
        waiting = await world.go()
        decide(model, decision, **more)
        await world.resumed(waiting)
        return world

    assert read in asyncio.run(all_of_it()).outputs()["c1"]
    assert [("pay", "rejected")] == recorded(model, tracker)


def test_nobody_in_time(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A question that nobody answered in time is expired, and the call is not made."""
    guard = model.guard(review=["pay"], answer_within=timedelta(microseconds=1))
    world = World(recorder, guard, PAY, tools=[pay])
    asyncio.run(world.go())

    assert "nobody approved it before the deadline" in world.outputs()["c1"]
    assert [("pay", "expired")] == recorded(model, tracker)


def test_approved_behind_the_history(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A call that is approved in the state alone is not made: what was decided stands in the history."""

    async def all_of_it() -> World:
        world = World(recorder, model.guard(review=["pay"]), PAY, tools=[pay])
        state = (await world.go()).to_state()
        state.approve(state.get_interruptions()[0])
        await world.go(state)
        return world

    assert "has not decided yet" in asyncio.run(all_of_it()).outputs()["c1"]
    assert [("pay", "blocked")] == recorded(model, tracker)


def test_arguments_that_the_sdk_would_change(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """Where a person may be asked, the SDK stops for any arguments it would change; the guard lets them go on."""

    @function_tool(name_override="search", strict_mode=False)
    def defaulted(q: str, limit: int = 3) -> str:
        """Search."""
        return q * limit

    async def all_of_it() -> None:
        world = World(recorder, model.guard(review=lambda *_call: None), ASK, tools=[defaulted])
        waiting = await world.go()
        assert 1 == len(waiting.interruptions)
        await world.resumed(waiting)

    asyncio.run(all_of_it())

    assert [("search", "ok")] == recorded(model, tracker)


def test_a_guard_that_fails_refuses(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call about which nothing can be found out is not made, and counted; an agent without a plan goes on."""
    guard = model.guard()
    monkeypatch.setattr(guard, "before", down)
    monkeypatch.setattr(guard, "plan", down)
    world = World(recorder, guard, PAY, tools=[pay])
    result = asyncio.run(world.go())

    assert "done" == result.final_output
    assert "nobody can be asked at present" in world.outputs()["c1"]
    assert [("pay", "blocked")] == recorded(model, tracker)
    assert tracker.errors > 0


def down(*_: object, **__: object) -> Any:
    """A table that does not answer."""
    raise TableUnavailable("the table does not answer")


def test_the_loop_goes_on(model: AgentModel, recorder: AgentModelRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guard waits for a store, the event loop goes on."""
    guard = model.guard(review="never")
    before, let, asked = guard.before, threading.Event(), asyncio.Event()

    loop: list[asyncio.AbstractEventLoop] = []

    def waiting(**call: Any) -> Any:
        loop[0].call_soon_threadsafe(asked.set)
        assert let.wait(60)
        return before(**call)

    monkeypatch.setattr(guard, "before", waiting)
    world = World(recorder, guard, ASK, tools=[search])

    async def both() -> Any:
        going = asyncio.create_task(world.go())
        loop.append(asyncio.get_running_loop())
        await asked.wait()
        let.set()
        return await going

    assert "done" == asyncio.run(both()).final_output


def test_a_rule_of_its_own(model: AgentModel, recorder: AgentModelRecorder) -> None:
    """A tool that has its own rule for approvals is refused: two rules would not know of each other."""
    with pytest.raises(ValidationError, match="the guard's `review` rule decides"):
        AgentModelGuard(recorder, model.guard()).tools(replace(pay, needs_approval=True))
