"""The hooks for CrewAI, driven by real crews with a scripted model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.suggest.plan import Plan
from tests.hostile import UNCOPYABLE
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    EXPECTED,
    REQUEST,
    SCRIPT,
    SESSION,
    USER,
    Asked,
    Shown,
    Turn,
    expected,
    learned_that_searches_stay,
    shown,
)
from tests.integration.suggest_world import opened

pytest.importorskip("crewai", reason="the extra crewai has an environment of its own: make test-crewai")

from crewai import Task  # after the check
from crewai import hooks as crewai_hooks
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool

from agentmodel.integrations.crewai import AgentModelCrewHooks, Tracker
from tests.integration.integrations.crewai_agents import (
    agent_of,
    broken,
    crew_of,
    pay,
    scripted,
    search,
)

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
ASK = Turn((Asked("c1", "search", {"q": "a"}),), 3, 2)
PAY = Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4)


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
def hooked() -> Iterator[Callable[[Any, Any], None]]:
    """Registers hooks of the application for a test."""
    registered: list[tuple[Any, Any]] = []

    def register(point: Any, hook: Any) -> None:
        registered.append((point, hook))
        crewai_hooks.register_hook(point, hook)

    yield register
    for point, hook in registered:
        crewai_hooks.unregister_hook(point, hook)


@pytest.fixture
def first() -> Iterator[Callable[[Any], None]]:
    """Registers a hook of the application that is asked before ours about a call of a tool."""
    point = crewai_hooks.InterceptionPoint.PRE_TOOL_CALL
    before = crewai_hooks.get_hooks(point)
    crewai_hooks.clear_hooks(point)
    yield lambda hook: crewai_hooks.register_hook(point, hook)
    crewai_hooks.clear_hooks(point)
    for hook in before:
        crewai_hooks.register_hook(point, hook)


def guarded(tracker: Tracker, *, wait: timedelta = timedelta(0), **rules: Any) -> AgentModelCrewHooks:
    """The hooks with a guard of their own."""
    return AgentModelCrewHooks(tracker, guard=tracker.model.guard(domain=DOMAIN, **rules), wait=wait)


def run(ours: AgentModelCrewHooks, crew: Any, *, request: str | None = REQUEST) -> None:
    """Run a crew in the session of the scenario."""
    with ours.session(SESSION, user=USER, request=request, category=CATEGORY):
        crew.kickoff()


def recorded(tracker: Tracker, model: AgentModel) -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in shown(model)]


def script(*, native: bool = True) -> list[Turn]:
    """The scenario, in which the model asks again for what failed once; in text it asks for one call a turn."""
    turns: list[Turn] = []
    for turn in SCRIPT:
        turns += [turn] if native else [replace(turn, calls=(call,)) for call in turn.calls]
        if native and turn.calls[0].tool == "flaky":
            turns.append(replace(turn, calls=(replace(turn.calls[0], call_id="c3-again"),)))
    return turns


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    @tool("flaky")
    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    return flaky


def wanted(calls: list[Shown]) -> list[Shown]:
    """What is expected: CrewAI tells no tokens of calls, and a second call in place of a second attempt."""
    return [replace(call, attempt=1, tokens=(None, None)) for call in calls]


def told(calls: list[Shown]) -> list[Shown]:
    """What was recorded, with calls that were made at once in the order of their arguments."""
    return sorted(calls[:2], key=lambda call: str(call.arguments)) + calls[2:]


def decide_each(model: AgentModel, *decisions: dict[str, Any]) -> threading.Thread:
    """Decide about the questions in their order, as soon as each is asked."""

    def decide() -> None:
        for decision in decisions:
            while not (asked := model.reviews.inbox().items):
                asking.wait(0.05)
            model.reviews.decide(asked[0], **decision)

    asking = threading.Event()
    person = threading.Thread(target=decide, daemon=True)
    person.start()
    return person


# What is recorded


def test_scenario(model: AgentModel, tracker: Tracker, hooked: Callable[[Any, Any], None]) -> None:
    """The hooks alone record each case: another hook rejects, CrewAI's own cache answers; an edit looks like none."""

    def others(context: Any) -> bool | None:
        amount = context.tool_input.get("amount")
        if amount == 8:
            context.tool_input["amount"] = 5
        return False if amount == 7 else None

    hooked(crewai_hooks.InterceptionPoint.PRE_TOOL_CALL, others)
    agent = agent_of(scripted(script()), [search, flaky(), broken, pay])
    run(AgentModelCrewHooks(tracker), crew_of(agent, cache=True))
    assert tracker.flush()
    calls = told(shown(model))

    looks = RECORDERS["CrewAI, hooks"].looks
    amounts = [
        replace(call, arguments={"amount": 8}) if call.arguments == {"amount": 5} else call
        for call in expected(looks=looks)
    ]
    assert wanted(amounts) == [
        replace(call, arguments={"amount": 8}) if call.arguments == {"amount": 5} else call for call in calls
    ]
    tell("CrewAI, hooks", calls)
    assert 0 == tracker.errors
    (session,) = model.repository.sessions(f"USR{USER}")
    assert (REQUEST, CATEGORY, None) == (session.request, session.category, session.succeeded)
    assert session.ended_at is not None


def test_scenario_in_text(model: AgentModel, tracker: Tracker) -> None:
    """Of calls that a model writes as text each try is an attempt; CrewAI hides one that works at the second."""
    agent = agent_of(scripted(script(native=False), native=False), [search, flaky(), broken, pay])
    run(AgentModelCrewHooks(tracker), crew_of(agent, cache=True))
    assert tracker.flush()
    calls = shown(model)

    tries = [(call.tool, call.attempt, call.error_type) for call in calls if call.status == "error"]
    assert [
        *[("broken", number, "ValueError") for number in (1, 2, 3)],
        *[("search", number, "ValidationError") for number in (1, 2, 3)],
    ] == tries
    last = [call for call in calls if call.status != "error" or call.attempt == 3]
    tell("CrewAI, hooks, calls in text", last)
    assert 0 == tracker.errors


def test_scenario_with_a_guard(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is carried out by the guard and recorded: rejected, edited, and answered from what is known."""
    learned_that_searches_stay(model)
    agent = agent_of(scripted(script()), [search, flaky(), broken, pay])
    person = decide_each(
        model,
        {"decision": "reject", "by": "kim", "reason": "too much"},
        {"decision": "edit", "by": "kim", "arguments": {"amount": 5}},
    )
    run(guarded(tracker, review=["pay"], wait=timedelta(seconds=60)), crew_of(agent))
    person.join(60)

    assert tracker.flush()
    assert wanted(expected()) == told(shown(model))
    tell("CrewAI, hooks with a guard", told(shown(model)))
    assert 0 == tracker.errors


def test_a_hook_that_came_first_rejects(model: AgentModel, tracker: Tracker, first: Callable[[Any], None]) -> None:
    """A call that a hook of the application refused before ours saw it is `rejected`."""
    first(lambda _: False)
    run(AgentModelCrewHooks(tracker), crew_of(agent_of(scripted([ASK]), [search])))

    assert [("search", "rejected")] == recorded(tracker, model)


@pytest.mark.parametrize(("value", "status"), zip(UNCOPYABLE, ("interrupted", "ok"), strict=True))
def test_arguments_that_cannot_be_copied(
    model: AgentModel, tracker: Tracker, first: Callable[[Any], None], value: Any, status: str
) -> None:
    """What a hook of the application puts into the arguments has no copy: the call is recorded.

    CrewAI itself ends a call whose arguments are no JSON.
    """
    first(lambda context: context.tool_input.update(session=value))
    run(AgentModelCrewHooks(tracker), crew_of(agent_of(scripted([ASK]), [search])))

    assert [("search", status)] == recorded(tracker, model)
    assert 0 == tracker.errors


def test_what_runs_outside_of_a_session(model: AgentModel, tracker: Tracker) -> None:
    """The hooks are of the process: a crew that was not given to them is neither recorded nor decided about."""
    mine, other = scripted([PAY]), scripted([PAY])
    ours = guarded(tracker, review=["pay"])
    crew_of(agent_of(other, [pay])).kickoff()
    run(ours, crew_of(agent_of(mine, [pay])))
    crew_of(agent_of(scripted([PAY]), [pay])).kickoff()

    assert "paid 7" == other.results["c1"]
    assert "a person has to approve it first" in mine.results["c1"]
    assert [("pay", "blocked")] == recorded(tracker, model)


def test_a_coworker(model: AgentModel, tracker: Tracker) -> None:
    """Work that an agent delegates is in the same session, under the coworker's role; the plan is not for it."""
    worker = agent_of(scripted([ASK]), [search], role="worker\n")
    delegated = Asked("d1", "delegate_work_to_coworker", {"task": "look", "context": "c", "coworker": "worker"})
    boss = agent_of(scripted([Turn((delegated,), 3, 2)]), [], role="boss", allow_delegation=True)
    run(AgentModelCrewHooks(tracker), crew_of(boss, worker))

    assert [("delegate_work_to_coworker", "ok"), ("search", "ok")] == sorted(recorded(tracker, model))
    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert {keys.stable_id("AGT", DOMAIN, name) for name in ("boss", "worker")} == {call.agent_id for call in calls}


def test_asyncio(model: AgentModel, tracker: Tracker) -> None:
    """Crews that are awaited at once are each recorded in their own session."""

    async def go(user: str, name: str) -> None:
        with ours.session(f"thread of {user}", user=user):
            await crew_of(agent_of(scripted([ASK]), [search], role=name)).akickoff()

    async def both() -> None:
        await asyncio.gather(go(USER, "first"), go("bob", "second"))

    ours = guarded(tracker, review="never")
    asyncio.run(both())
    assert tracker.flush()

    for user in (USER, "bob"):
        (call,) = shown(model, user_id=f"USR{user}")
        assert ("search", "ok") == (call.tool, call.status)
        (session,) = model.repository.sessions(f"USR{user}")
        assert REQUEST == session.request, "the description of the task, where none is given"
    assert 0 == tracker.errors


class Walk(Flow[Any]):  # type: ignore[misc]  # CrewAI has an environment of its own
    """Two steps, each of which runs a crew."""

    @start()
    def first(self) -> Any:
        """Run a crew and wait."""
        return crew_of(agent_of(scripted([ASK]), [search])).kickoff().raw

    @listen(first)
    async def second(self, _: Any) -> Any:
        """Await a crew."""
        return (await crew_of(agent_of(scripted([PAY]), [pay])).akickoff()).raw


def streamed(crew: Any) -> None:
    """Run a crew whose words are read as they come."""
    crew.stream = True
    for _ in crew.kickoff():
        pass


def in_a_thread(crew: Any) -> None:
    """Run a crew whose first task has a thread of its own."""
    crew.tasks[0].async_execution = True
    crew.tasks.append(Task(description="then", expected_output="done", agent=agent_of(scripted([]), [], role="next")))
    crew.kickoff()


STARTS: dict[str, Callable[[Any], Any]] = {
    "kickoff_async": lambda crew: asyncio.run(crew.kickoff_async()),
    "kickoff_for_each": lambda crew: crew.kickoff_for_each([{"city": "Seoul"}]),
    "kickoff_for_each_async": lambda crew: asyncio.run(crew.kickoff_for_each_async([{"city": "Seoul"}])),
    "stream": streamed,
    "a thread of its own": in_a_thread,
    "an agent alone": lambda crew: crew.agents[0].kickoff(REQUEST),
    "an agent alone, awaited": lambda crew: asyncio.run(crew.agents[0].kickoff_async(REQUEST)),
}


@pytest.mark.parametrize("start_it", STARTS.values(), ids=STARTS)
def test_every_way_to_start(model: AgentModel, tracker: Tracker, start_it: Callable[[Any], Any]) -> None:
    """However CrewAI is started, its calls are in the session of the block, and the request is known."""
    with guarded(tracker, review="never").session(SESSION, user=USER):
        start_it(crew_of(agent_of(scripted([ASK]), [search])))

    assert [("search", "ok")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert REQUEST in (session.request or "")


@pytest.mark.parametrize(
    "start_it", [Walk.kickoff, lambda flow: asyncio.run(flow.kickoff_async())], ids=["sync", "async"]
)
def test_a_flow(model: AgentModel, tracker: Tracker, start_it: Callable[[Any], Any]) -> None:
    """The crews of a flow, each in a task of its own, are in the session of the block."""
    with guarded(tracker, review=["pay"]).session(SESSION, user=USER):
        start_it(Walk())

    assert [("search", "ok"), ("pay", "blocked")] == recorded(tracker, model)


def test_a_run_that_fails(model: AgentModel, tracker: Tracker) -> None:
    """An exception that leaves the block is the session's failure, and is raised."""

    def fails() -> None:
        with AgentModelCrewHooks(tracker).session(SESSION, user=USER):
            crew_of(agent_of(scripted([ASK]), [search])).kickoff()
            raise LookupError("no café")

    with pytest.raises(LookupError):
        fails()

    assert [("search", "ok")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is False


def test_a_tool_that_says_it_failed(model: AgentModel, tracker: Tracker) -> None:
    """A result that says by itself that the tool failed is an error and is not cached."""
    from crewai.tools.tool_failure import ToolFailure

    answers: Iterator[Any] = iter([ToolFailure(message="no route"), "found a"])

    @tool("search")
    def search(q: str) -> Any:
        """Search."""
        return next(answers)

    turns = [ASK, replace(ASK, calls=(replace(ASK.calls[0], call_id="c2"),))]
    run(guarded(tracker, review="never"), crew_of(agent_of(scripted(turns), [search])))

    assert [("search", "error"), ("search", "ok")] == recorded(tracker, model)
    assert ["tool_error", None] == [call.error_type for call in shown(model)]


@pytest.mark.parametrize("native", [True, False], ids=["native", "text"])
def test_calls_that_crewai_refuses(model: AgentModel, tracker: Tracker, native: bool) -> None:
    """A tool whose number of uses is spent, and in text a call that is repeated at once, are not called: `blocked`."""

    @tool("once")
    def once(q: str) -> str:
        """Search once."""
        return f"found {q}"

    once.max_usage_count = 1
    calls = [("once", "a"), ("once", "b"), ("search", "c"), ("search", "c")]
    turns = [Turn((Asked(f"c{n}", name, {"q": q}),), 1, 1) for n, (name, q) in enumerate(calls)]
    run(AgentModelCrewHooks(tracker), crew_of(agent_of(scripted(turns, native=native), [once, search])))

    repeated = "ok" if native else "blocked"
    assert [("once", "ok"), ("once", "blocked"), ("search", "ok"), ("search", repeated)] == recorded(tracker, model)


def test_revisions(model: AgentModel) -> None:
    """The digest of an agent follows its texts and tools."""
    with Tracker(model, domain=DOMAIN, revisions="auto") as tracker:
        for goal in ("find", "find", "pay"):
            run(AgentModelCrewHooks(tracker), crew_of(agent_of(scripted([ASK]), [search], goal=goal)))
            assert tracker.flush()

    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    first, second, third = [call.revision for call in sorted(calls, key=lambda call: call.call_number or 0)]
    assert None is not first == second != third


def test_errors_are_counted(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that fails is counted, and the agent does not learn of it."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tracker, "run", down)
    said = scripted([ASK])
    run(AgentModelCrewHooks(tracker), crew_of(agent_of(said, [search])))

    assert "found a" == said.results["c1"]
    assert 1 == tracker.errors


# What a guard decides


def test_the_plan_is_in_the_instructions(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request reads the plan once, after the agent's own instructions; a coworker's does not."""
    asked: list[str] = []

    def planned(user_id: str, *, request: str, **_: Any) -> Plan:
        asked.append(request)
        return Plan(user_id=user_id, source="own mapping", agent=f"plan {len(asked)}")

    ours = guarded(tracker, review="never")
    assert ours._enforcer is not None
    monkeypatch.setattr(ours._enforcer.guard, "plan", planned)
    inner = scripted([])
    delegated = Asked("d1", "delegate_work_to_coworker", {"task": "look", "context": "c", "coworker": "worker"})
    said = scripted([ASK, Turn((delegated,), 3, 2)])
    boss = agent_of(said, [search], role="boss", allow_delegation=True)
    run(ours, crew_of(boss, agent_of(inner, [], role="worker")))
    run(ours, crew_of(agent_of(second := scripted([]), [])), request=None)

    assert [REQUEST, REQUEST] == asked
    assert [1, 1, 1] == [text.count("plan 1") for text in said.systems]
    assert "You find cafés." in said.systems[0].partition("plan 1")[0]
    assert ["plan 2" in text for text in second.systems] == [True]
    assert [False] == ["plan" in text for text in inner.systems]
    assert 0 == tracker.errors


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
    said = scripted([ASK])
    run(guarded(tracker, review="never"), crew_of(agent_of(said, [search])))

    assert said.results["c1"].startswith("`search` was not called: it has been failing since ")
    assert said.results["c1"].endswith("Use `lookup` instead.")
    assert [("search", "blocked")] == recorded(tracker, model)


@pytest.mark.parametrize("native", [True, False], ids=["native", "text"])
def test_a_person_decides_later(model: AgentModel, settings: Settings, native: bool) -> None:
    """A call is blocked with its question's number; decided, an equal one of the session is made, also elsewhere."""
    results: list[Any] = []
    for n in range(3):
        with AgentModel(settings) as elsewhere, Tracker(elsewhere, domain=DOMAIN) as tracker:
            said = scripted([PAY], native=native)
            run(guarded(tracker, review=["pay"]), crew_of(agent_of(said, [pay])))
            assert tracker.flush()
            assert 0 == tracker.errors
        results += said.results.values()
        if n == 0:
            (review,) = model.reviews.inbox()
            model.reviews.decide(review, "edit", "lee", arguments={"amount": 5})

    assert results[0].endswith(f"try again later. A person was asked: {review.review_id}.")
    assert '`lee` edited this call: `pay` was called with {"amount": 5}. Its result:\npaid 5' == results[1]
    assert "a person has to approve it first" in results[2], "an answer is good for one call"
    assert 1 == len(model.reviews.inbox().items)
    assert ["blocked", "edited", "blocked"] == [call.status for call in shown(model)]


def test_equal_calls_in_one_session(model: AgentModel, tracker: Tracker) -> None:
    """Two equal calls at once share a question while it is open; its answer makes one of them."""
    both = Turn((Asked("c1", "pay", {"amount": 7}), Asked("c2", "pay", {"amount": 7})), 6, 4)
    ours = guarded(tracker, review=["pay"])
    run(ours, crew_of(agent_of(scripted([both]), [pay])))
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "approve", "kim")
    run(ours, crew_of(agent_of(scripted([both]), [pay])))

    assert ["blocked", "blocked", "blocked", "ok"] == sorted(status for _, status in recorded(tracker, model))
    assert 1 == len(model.reviews.inbox().items)


def test_nobody_decides_while_the_hook_waits(model: AgentModel, tracker: Tracker) -> None:
    """A hook waits as long as it was told to; then the call is blocked, and the question stays open."""
    said = scripted([PAY])
    run(guarded(tracker, review=["pay"], wait=timedelta(seconds=0.3)), crew_of(agent_of(said, [pay])))

    assert "has not decided yet" in said.results["c1"]
    assert [("pay", "blocked")] == recorded(tracker, model)
    assert 1 == len(model.reviews.inbox().items)


@pytest.mark.parametrize("fails", ["the guard", "the session", "the hook"])
def test_what_fails_makes_no_call_that_may_need_a_person(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Where nothing can be decided, a call that a person may have to approve is not made; others are."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("the table does not answer")

    ours = guarded(tracker, review=["pay"])
    assert ours._enforcer is not None
    if fails == "the guard":
        monkeypatch.setattr(ours._enforcer.guard, "before", down)
    elif fails == "the session":
        monkeypatch.setattr(tracker, "run", down)
    else:
        monkeypatch.setattr(ours, "_begun", down)
    said = scripted([PAY, replace(ASK, calls=(replace(ASK.calls[0], call_id="c2"),))])
    run(ours, crew_of(agent_of(said, [pay, search])))

    assert "paid 7" != said.results["c1"]
    assert "found a" == said.results["c2"]
    assert tracker.errors


@pytest.mark.parametrize(("wait", "guard"), [(-1, True), (1, False)])
def test_waits_that_are_refused(tracker: Tracker, wait: int, guard: bool) -> None:
    """Waiting needs a guard that asks, and a time that is not negative."""
    with pytest.raises(ValidationError, match=r"must not be negative|needs a guard"):
        AgentModelCrewHooks(tracker, guard=tracker.model.guard() if guard else None, wait=timedelta(seconds=wait))


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the hooks make of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "crewai.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    looks = RECORDERS["CrewAI, hooks"].looks
    rows = [
        f"| {case} | {f'recorded as `{looks[case]}`' if case in looks else 'recorded'} | recorded |" for case in cases
    ]

    assert "\n".join(["| case | hooks | with a guard |", "|---|---|---|", *rows]) in page.read_text(encoding="utf-8")
