"""The same decision gives the model the same text, whatever makes the call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.exceptions import NotCalled, ReviewPending, TableUnavailable
from agentmodel.suggest.guard import Blocked, Guard
from tests.integration.integrations.scenario import AGENT, DOMAIN, REQUEST, USER, Asked, Turn
from tests.integration.suggest_world import opened

AGENT_ID = keys.stable_id("AGT", DOMAIN, AGENT)
PAY = ("pay", {"amount": 7})
SEARCH = ("search", {"q": "a"})

Decide: TypeAlias = "Callable[[], object]"
Call: TypeAlias = "tuple[str, dict[str, Any]]"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose catalogue says that searching is read-only."""
    with opened(settings) as model:
        model.repository.put(
            *[
                Tool(
                    agent_id=AGENT_ID,
                    tool_id=keys.stable_id("TL", name),
                    domain_id=keys.stable_id("DMN", DOMAIN),
                    name=name,
                    read_only=name.endswith("search"),
                )
                for name in ("search", "pay", "mcp__cafes__search", "mcp__cafes__pay")  # as Claude's SDK calls them
            ]
        )
        yield model


# How each framework makes calls one after the other, and what its model reads of the last one


def python(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """`model.tool`: what a call returns, or the text of its error."""

    def pay(amount: int) -> str:
        return f"paid {amount}"

    def search(q: str) -> str:
        return f"found {q}"

    tools: dict[str, Callable[..., Any]] = {
        "pay": model.tool(agent=AGENT, domain=DOMAIN, **rules)(pay),
        "search": model.tool(agent=AGENT, domain=DOMAIN, cache="user", **rules)(search),
    }
    read: Any = None
    with model.session(f"USR{USER}", REQUEST):
        for name, arguments in calls:
            try:
                try:
                    read = tools[name](**arguments)
                except ReviewPending:
                    decide()
                    read = tools[name](**arguments)
            except NotCalled as error:
                read = str(error)
    return read


def langchain(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """LangChain's middleware."""
    pytest.importorskip("langchain", reason="the extra langchain is not installed")
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage, ToolMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    from agentmodel.integrations.langchain import AgentModelMiddleware, Tracker
    from tests.integration.integrations.scripted_langchain import ASKED, CONFIG, Scripted, pay, search

    turns = [
        AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"c{n}"}])
        for n, (name, arguments) in enumerate(calls)
    ]
    with Tracker(model, domain=DOMAIN) as tracker:
        agent: Any = create_agent(
            Scripted(messages=iter([*turns, AIMessage("done")])),
            [search, pay],
            name=AGENT,
            checkpointer=InMemorySaver(),
            middleware=[AgentModelMiddleware(tracker, model.guard(domain=DOMAIN, **rules))],
        )
        state = agent.invoke(ASKED, CONFIG)
        if "__interrupt__" in state:
            decide()
            state = agent.invoke(Command(resume=True), CONFIG)
    return next(message.text for message in reversed(state["messages"]) if isinstance(message, ToolMessage))


def strands(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """Strands' hooks."""
    pytest.importorskip("strands", reason="the extra strands is not installed")
    from strands import Agent

    from agentmodel.integrations.strands import AgentModelHooks, Tracker
    from tests.integration.integrations.strands_agents import STATE, Scripted, pay, pending, said, search

    scripted = Scripted([Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)])
    with Tracker(model, domain=DOMAIN) as tracker:
        hooks = AgentModelHooks(tracker, guard=model.guard(domain=DOMAIN, **rules))
        agent = Agent(model=scripted, tools=[search, pay], name=AGENT, callback_handler=None, hooks=[hooks])
        result = agent(REQUEST, invocation_state=dict(STATE))
        if result.interrupts:
            decide()
            agent(said(pending(result), {}), invocation_state=dict(STATE))
    return scripted.results[f"c{len(calls) - 1}"][1][0]["text"]


def pydantic_ai(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """Pydantic AI's capability."""
    pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")
    from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker
    from tests.integration.integrations.pydantic_ai_agents import (
        Scripted,
        agent_of,
        answered,
        pay,
        pending,
        search,
        told,
    )

    scripted = Scripted([Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)])
    with Tracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCapability(tracker, guard=model.guard(domain=DOMAIN, **rules))
        agent = agent_of(scripted, [search, pay], ours)
        result = told(agent, REQUEST)
        if pending(result):
            decide()
            answered(agent, result, {})
    return scripted.results[f"c{len(calls) - 1}"]


def google_adk(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """Google ADK's plugin: the text in what its model reads."""
    pytest.importorskip("google.adk", reason="the extra google-adk is not installed")
    from agentmodel.integrations.google_adk import AgentModelPlugin, Tracker
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of, pay, search

    scripted = Scripted([Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)])
    with Tracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelPlugin(tracker, guard=model.guard(domain=DOMAIN, **rules))
        talk = Conversation(agent_of(scripted, [search, pay]), ours)
        talk.tell(REQUEST)
        if talk.waits:
            decide()
            talk.answer({})
    (text,) = scripted.results[f"c{len(calls) - 1}"].values()
    return text


def claude_agent_sdk(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """The client of the Claude Agent SDK: the text in what its model reads, after what the SDK calls a denied call."""
    pytest.importorskip("claude_agent_sdk", reason="the extra claude-agent-sdk is not installed")
    from agentmodel.integrations.claude_agent_sdk import Tracker
    from tests.integration.integrations.claude_agents import PROGRAM, ClaudeTalk, named

    if not PROGRAM:
        pytest.skip("the program of the Claude Agent SDK is not installed")
    turns = [Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)]
    if "review" in rules and isinstance(rules["review"], list):
        rules["review"] = [named(tool) for tool in rules["review"]]
    with Tracker(model, domain=DOMAIN) as tracker:
        talk = ClaudeTalk(tracker, turns, guard=model.guard(domain=DOMAIN, **rules))
        talk.tell(REQUEST)
        if talk.question is not None:
            decide()
            talk.go_on()
    denied = f"PreToolUse:{named(calls[-1][0])} hook error: "
    return talk.results[f"c{len(calls) - 1}"].removeprefix(denied).replace(named(""), "")


def crewai(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """CrewAI's hooks; a call that was decided about is made when the model asks again."""
    pytest.importorskip("crewai", reason="the extra crewai has an environment of its own: make test-crewai")
    from agentmodel.integrations.crewai import AgentModelCrewHooks, Tracker
    from tests.integration.integrations.crewai_agents import agent_of, crew_of, pay, scripted, search

    turns = [Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)]
    with Tracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCrewHooks(tracker, guard=model.guard(domain=DOMAIN, **rules))

        def run(*turns: Turn) -> Any:
            said = scripted(turns)
            with ours.session("thread-7", user=USER, request=REQUEST):
                crew_of(agent_of(said, [search, pay])).kickoff()
            return said.results[turns[-1].calls[0].call_id]

        read = run(*turns)
        if model.reviews.inbox().items:
            decide()
            read = run(turns[-1])
    return read


def openai_agents(model: AgentModel, calls: list[Call], decide: Decide, **rules: Any) -> Any:
    """The guard of OpenAI Agents."""
    pytest.importorskip("agents", reason="the extra openai-agents is not installed")
    from agents import add_trace_processor, set_trace_processors

    from agentmodel.integrations.openai_agents import AgentModelRecorder, Tracker
    from tests.integration.integrations.openai_agents_script import search
    from tests.integration.integrations.test_recorder_openai_agents_guard import World, pay

    turns = [Turn((Asked(f"c{n}", *call),), 3, 2) for n, call in enumerate(calls)]
    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        set_trace_processors([])
        add_trace_processor(recorder)
        world = World(recorder, model.guard(domain=DOMAIN, **rules), *turns, tools=[search, pay])

        async def run() -> None:
            result = await world.go()
            if result.interruptions:
                decide()
                await world.resumed(result)

        asyncio.run(run())
        set_trace_processors([])
    return world.outputs()[f"c{len(calls) - 1}"]


FRAMEWORKS = pytest.mark.parametrize(
    "framework",
    [python, langchain, strands, openai_agents, pydantic_ai, google_adk, claude_agent_sdk, crewai],
    ids=lambda run: run.__name__,
)


def unasked() -> None:
    """Nobody is to be asked."""
    raise AssertionError("a person was asked")


@FRAMEWORKS
@pytest.mark.parametrize(
    ("decision", "more", "text"),
    [
        (
            "reject",
            {"reason": "too much"},
            "`pay` was not called: `kim` rejected it. Reason: `too much`. Do not repeat this call unless you are asked to.",
        ),
        ("respond", {"response": "It is paid already."}, "It is paid already."),
        (
            "cancel",
            {"reason": "the user left"},
            (
                "`pay` was not called: `kim` withdrew the question about it. Reason: `the user left`. "
                "Do not repeat this call unless you are asked to."
            ),
        ),
        ("approve", {}, "paid 7"),
    ],
    ids=["reject", "respond", "cancel", "approve"],
)
def test_what_a_person_decides(
    model: AgentModel, framework: Callable[..., Any], decision: Any, more: dict[str, str], text: str
) -> None:
    """What the model reads after a person has decided."""

    def decide() -> None:
        (review,) = model.reviews.inbox()
        if decision == "cancel":
            model.reviews.cancel(review, "kim", **more)
        else:
            model.reviews.decide(review, decision, "kim", **more)

    assert text == framework(model, [PAY], decide, review=["pay"])


@FRAMEWORKS
def test_nobody_decides(model: AgentModel, framework: Callable[..., Any]) -> None:
    """What the model reads of a question that passed its deadline."""
    hasty = {"review": ["pay"], "answer_within": timedelta(microseconds=1)}

    assert "`pay` was not called: nobody approved it before the deadline of the question." == framework(
        model, [PAY], unasked, **hasty
    )


@FRAMEWORKS
@pytest.mark.parametrize("fails", ["the guard", "the question"])
def test_nobody_can_be_asked(
    model: AgentModel, framework: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """What the model reads where a person may have to be asked, and the guard or the store of questions fails."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("the table does not answer")

    if fails == "the guard":
        monkeypatch.setattr(Guard, "before", down)
    else:
        monkeypatch.setattr(model.reviews, "ask", down)

    assert (
        "`pay` was not called: a person may have to approve it first, and nobody can be asked at present. "
        "Continue without it, or try again later." == framework(model, [PAY], unasked, review=["pay"])
    )


@FRAMEWORKS
def test_a_guard_that_fails_where_nobody_is_asked(
    model: AgentModel, framework: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is made: plan, health and cache are help, not permission."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("the table does not answer")

    monkeypatch.setattr(Guard, "before", down)

    assert "paid 7" == framework(model, [PAY], unasked, review="never")


@FRAMEWORKS
def test_a_failing_tool(model: AgentModel, framework: Callable[..., Any]) -> None:
    """What the model reads of a tool that is failing is the guard's own message."""
    for n, name in itertools.product(range(46), ("pay", "mcp__cafes__pay")):
        model.recorder.record(
            ToolExecution(
                user_id=f"USR00{2 + n % 2}",
                session_id="SESS20250614001",
                process_id="PRC001",
                agent_id=AGENT_ID,
                tool_id=keys.stable_id("TL", name),
                tool_name=name,
                succeeded=n < 40,
                executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
            )
        )
    model.settle()
    decision = model.guard(review="never").before(
        agent_id=AGENT_ID, tool_id="pay", tool="pay", user_id=USER, session_id="t", arguments=PAY[1]
    )
    assert isinstance(decision, Blocked)

    assert decision.message == framework(model, [PAY], unasked, review="never")


@FRAMEWORKS
def test_a_cached_result(model: AgentModel, framework: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model reads of a repeated call is the first call's result."""
    kept: list[Any] = []
    keep = model.response_cache.keep

    def noted(lookup: Any, result: Any) -> bool:
        kept.append(result)
        return keep(lookup, result)

    monkeypatch.setattr(model.response_cache, "keep", noted)

    assert "found a" == framework(model, [SEARCH, SEARCH], unasked, review="never")
    assert ["found a"] == kept
