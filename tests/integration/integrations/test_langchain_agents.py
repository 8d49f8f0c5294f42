"""Agents inside agents, branches, hand-overs, streams and cancelled runs of LangGraph keep agent, order and outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pytest

from agentmodel import AgentModel
from agentmodel.dynamo.models import ToolExecution

pytest.importorskip("langchain", reason="the extra langchain is not installed")

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker
from tests.integration.integrations.scripted_langchain import Scripted, pay, search
from tests.integration.integrations.test_shapes import PARTS, SAID


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


def session_of(model: AgentModel) -> tuple[str | None, list[ToolExecution]]:
    """Request and calls of the only session of ada, in their order."""
    (session,) = model.repository.sessions("USRada")
    history = model.repository.session_history("USRada", session.session_id)
    return session.request, sorted(history.executions, key=lambda call: (call.call_number or 0, call.attempt))


WAYS = pytest.mark.parametrize("way", ["handler", "middleware", "both"])


def scripted_agent(
    way: str, tracker: Tracker, name: str, tools: Sequence[Any], *turns: Sequence[tuple[str, str, Any]], **more: Any
) -> Any:
    """An agent that asks for calls in turns, by id, tool and arguments."""
    said = [
        AIMessage("", tool_calls=[dict(zip(("id", "name", "args"), one, strict=True)) for one in turn])
        for turn in turns
    ]
    middleware = [] if way == "handler" else [AgentModelMiddleware(tracker)]
    return create_agent(
        Scripted(messages=iter([*said, AIMessage("done")])), tools, name=name, middleware=middleware, **more
    )


def config_of(way: str, tracker: Tracker) -> dict[str, Any]:
    """A run of ada's thread."""
    handlers = [] if way == "middleware" else [AgentModelCallback(tracker)]
    return {"configurable": {"thread_id": "t1"}, "metadata": {"user_id": "ada"}, "callbacks": handlers}


@tool
def book(q: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
    """Book."""
    return Command(update={"messages": [ToolMessage(f"no table at {q}", tool_call_id=tool_call_id, status="error")]})


@tool
def hand_over(tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
    """Hand over."""
    asked = AIMessage("", tool_calls=[{"id": tool_call_id, "name": "hand_over", "args": {}}])
    answer = ToolMessage("handed over", tool_call_id=tool_call_id)
    return Command(goto="payer", graph=Command.PARENT, update={"messages": [asked, answer]})


@tool
def ask(q: str) -> str:
    """Ask a person."""
    return str(interrupt(q))


@WAYS
def test_an_error_in_a_command(model: AgentModel, way: str) -> None:
    """A tool that answers by a `Command` has failed if its message says so, and its text is the result."""
    with Tracker(model, domain="cafes") as tracker:
        agent = scripted_agent(way, tracker, "finder", [book], [("c1", "book", {"q": "a"})])
        agent.invoke({"messages": [{"role": "user", "content": PARTS}]}, config_of(way, tracker))

    request, (call,) = session_of(model)
    assert (SAID, "error", "no table at a", 0) == (request, call.status, call.result, tracker.errors)


@WAYS
def test_an_agent_inside_a_call(model: AgentModel, way: str) -> None:
    """The calls of an agent that is a tool are its own, and the call around them ends as it ended."""
    with Tracker(model, domain="cafes") as tracker:
        inner = scripted_agent(
            way, tracker, "finder", [search], [("k1", "search", {"q": "a"}), ("k2", "search", {"q": "b"})]
        )

        @tool
        def find(q: str) -> str:
            """Have it found."""
            return str(inner.invoke({"messages": [("user", q)]})["messages"][-1].content)

        outer = scripted_agent(
            way, tracker, "boss", [find, pay], [("c1", "find", {"q": "x"})], [("c2", "pay", {"amount": 1})]
        )
        outer.invoke({"messages": [("user", "a café")]}, config_of(way, tracker))

    request, made = session_of(model)
    assert "a café" == request
    assert [
        ("boss", "find", "ok", "done"), ("finder", "search", "ok", "found a"), ("finder", "search", "ok", "found b"),
        ("boss", "pay", "ok", "paid 1"),
    ] == [(one.agent_id.partition("-")[2].partition("~")[0], one.tool_name, one.status, one.result) for one in made]  # fmt: skip


@WAYS
def test_branches_at_once_that_number_their_calls_alike(model: AgentModel, way: str) -> None:
    """Two agents whose model calls each first call `call_0` make two calls, with their agents; none is a retry."""
    with Tracker(model, domain="cafes") as tracker:
        graph: Any = StateGraph(MessagesState)
        for name in ("left", "right"):
            turns = [[("call_0", "search", {"q": name})], [("call_1", "search", {"q": f"{name} again"})]]
            graph.add_node(name, scripted_agent(way, tracker, name, [search], *turns))
            graph.add_edge(START, name)
        graph.compile().invoke({"messages": [("user", "a café")]}, config_of(way, tracker))

    _, made = session_of(model)
    found = [
        (
            one.agent_id.partition("-")[2].partition("~")[0],
            json.loads(one.values or "")["q"],
            one.attempt,
            one.status,
        )
        for one in made
    ]
    assert [1, 2, 3, 4] == [one.call_number for one in made]
    for name in ("left", "right"):
        assert [(name, name, 1, "ok"), (name, f"{name} again", 1, "ok")] == [one for one in found if one[0] == name]


@WAYS
def test_a_hand_over(model: AgentModel, way: str) -> None:
    """A call that hands over succeeds, and the calls after it are the other agent's."""
    with Tracker(model, domain="cafes") as tracker:
        tools = [search, hand_over]
        graph: Any = StateGraph(MessagesState)
        graph.add_node(
            "finder",
            scripted_agent(way, tracker, "finder", tools, [("c1", "search", {"q": "a"})], [("c2", "hand_over", {})]),
        )
        graph.add_node("payer", scripted_agent(way, tracker, "payer", [pay], [("c3", "pay", {"amount": 1})]))
        graph.add_edge(START, "finder")
        graph.compile().invoke({"messages": [("user", "a café")]}, config_of(way, tracker))

    _, made = session_of(model)
    assert [
        ("finder", "search", "found a"),
        ("finder", "hand_over", "handed over"),
        ("payer", "pay", "paid 1"),
    ] == [(one.agent_id.partition("-")[2].partition("~")[0], one.tool_name, one.result) for one in made]
    assert {"ok"} == {one.status for one in made}


@WAYS
def test_a_branch_that_waits_and_goes_on(model: AgentModel, way: str) -> None:
    """A call in a branch that waits for a person, streamed and resumed, is one call with two attempts."""
    with Tracker(model, domain="cafes") as tracker:
        graph: Any = StateGraph(MessagesState)
        graph.add_node("left", scripted_agent(way, tracker, "left", [search], [("call_0", "search", {"q": "a"})]))
        graph.add_node("right", scripted_agent(way, tracker, "right", [ask], [("call_0", "ask", {"q": "sure?"})]))
        graph.add_edge(START, "left")
        graph.add_edge(START, "right")
        compiled = graph.compile(checkpointer=InMemorySaver())
        config = config_of(way, tracker)
        inputs: tuple[Any, ...] = ({"messages": [("user", "a café")]}, Command(resume="yes"))
        for one in inputs:
            list(compiled.stream(one, config, stream_mode="updates", subgraphs=True))

    _, made = session_of(model)
    found = [(one.tool_name, one.attempt, one.status) for one in made]
    assert [("search", 1, "ok")] == [one for one in found if one[0] == "search"]
    assert [("ask", 1, "interrupted"), ("ask", 2, "ok")] == [one for one in found if one[0] == "ask"]


@WAYS
def test_a_run_that_is_cancelled(model: AgentModel, way: str) -> None:
    """A task that is cancelled interrupts its call; what had ended stays as it was."""

    async def run(tracker: Tracker) -> None:
        started = asyncio.Event()

        @tool
        async def slow(q: str) -> str:
            """Take long."""
            started.set()
            await asyncio.sleep(600)
            return q

        agent = scripted_agent(
            way, tracker, "finder", [search, slow], [("c1", "search", {"q": "a"})], [("c2", "slow", {"q": "b"})]
        )
        task = asyncio.create_task(agent.ainvoke({"messages": [("user", "a café")]}, config_of(way, tracker)))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Tracker(model, domain="cafes") as tracker:
        asyncio.run(run(tracker))

    _, made = session_of(model)
    assert [("search", "ok"), ("slow", "interrupted")] == [(one.tool_name, one.status) for one in made]
