"""The LangChain callback handler, driven by a real agent with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel
from agentmodel.access.trace_import import ANONYMOUS
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import AGENT, CATEGORY, DOMAIN, EXPECTED, REQUEST, expected, shown

pytest.importorskip("langchain", reason="the extra langchain is not installed")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolRetryMiddleware, wrap_tool_call
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker
from tests.integration.integrations.scripted_langchain import (
    ASKED,
    CONFIG,
    Scripted,
    broken,
    flaky,
    pay,
    scripted,
    search,
)

RECORDER = "LangChain, callback handler"
NOT_SHOWN, LOOKS = RECORDERS[RECORDER].without, RECORDERS[RECORDER].looks

DECISIONS = (
    {"type": "reject", "message": "too much"},
    {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 5}}},
)


@wrap_tool_call
def guarded(request: Any, handler: Callable[[Any], Any]) -> Any:
    """Answer c9 from a cache, and let the model read what fails."""
    call = request.tool_call
    if call["id"] == "c9":
        return ToolMessage("found a", tool_call_id=call["id"])
    try:
        return handler(request)
    except ValueError as error:
        return ToolMessage(str(error), tool_call_id=call["id"], status="error")


def run_scenario(handler: AgentModelCallback) -> None:
    """The scenario by a real agent, with people who reject one payment and edit the other."""
    agent: Any = create_agent(
        Scripted(messages=scripted()),
        [search, flaky(), broken, pay],
        name=AGENT,
        checkpointer=InMemorySaver(),
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"pay": True}),
            guarded,
            ToolRetryMiddleware(max_retries=1, tools=["flaky"], initial_delay=0.0, jitter=False),
        ],
    )
    config = {**CONFIG, "callbacks": [handler]}
    agent.invoke(ASKED, config)
    for decision in DECISIONS:
        agent.invoke(Command(resume={"decisions": [decision]}), config)


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


def test_scenario(model: AgentModel) -> None:
    """Everything in the scenario is recorded that callbacks show; an edited call looks like a plain one."""
    with Tracker(model, domain=DOMAIN) as tracker:
        run_scenario(AgentModelCallback(tracker))

    assert expected(without=NOT_SHOWN, looks=LOOKS) == shown(model)
    tell(RECORDER, shown(model))
    assert tracker.errors == 0
    (session,) = list(model.repository.sessions("USRada"))
    assert (session.request, session.category) == (REQUEST, CATEGORY)


@dataclass
class Context:
    """What a LangGraph program gives its runs."""

    user_id: str


@pytest.mark.parametrize("way", ["handler", "middleware", "both"])
@pytest.mark.parametrize("awaited", [False, True], ids=["called", "awaited"])
@pytest.mark.parametrize("place", ["configurable", "context"])
def test_the_user_of_a_langgraph_program(model: AgentModel, way: str, place: str, *, awaited: bool) -> None:
    """A user in `configurable` or in the run's context, where LangGraph programs put it, is the user of the session."""
    said = iter([AIMessage("", tool_calls=[{"name": "search", "args": {"q": "a"}, "id": "c1"}]), AIMessage("done")])
    with Tracker(model, domain=DOMAIN) as tracker:
        middleware = [] if way == "handler" else [AgentModelMiddleware(tracker)]
        handlers = [] if way == "middleware" else [AgentModelCallback(tracker)]
        agent: Any = create_agent(
            Scripted(messages=said), [search], name=AGENT, middleware=middleware, context_schema=Context
        )
        configurable = {"thread_id": "t1"} | ({"user_id": "ada"} if place == "configurable" else {})
        given = {
            "config": {"configurable": configurable, "callbacks": handlers},
            "context": Context("ada") if place == "context" else None,
        }
        if awaited:
            asyncio.run(agent.ainvoke(ASKED, **given))
        else:
            agent.invoke(ASKED, **given)

    (session,) = model.repository.sessions("USRada")
    assert 1 == len(model.repository.session_history("USRada", session.session_id).executions)
    assert [] == list(model.repository.sessions(ANONYMOUS))


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what handler and middleware make of it, as their tests show."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "langchain.md"
    rows = [
        f"| {case} | {_said(case)} | recorded | {_alone(case)} |" for case in dict.fromkeys(c.case for c in EXPECTED)
    ]
    table = "\n".join(["| case | callback handler | both | middleware alone |", "|---|---|---|---|", *rows])

    assert table in page.read_text(encoding="utf-8")


def _alone(case: str) -> str:
    return "recorded, if inside of what retries" if case == "retry" else "recorded"


def _said(case: str) -> str:
    if case in NOT_SHOWN:
        return "not shown"
    return f"recorded as `{LOOKS[case]}`" if case in LOOKS else "recorded"


def test_interrupt_inside_a_tool(model: AgentModel) -> None:
    """A tool that waits for a person is interrupted, which is no failure; resumed, it is a second attempt."""

    @tool
    def ask(q: str) -> str:
        """Ask a person."""
        return str(interrupt(q))

    said = iter([AIMessage("", tool_calls=[{"name": "ask", "args": {"q": "a"}, "id": "c1"}]), AIMessage("done")])
    agent: Any = create_agent(Scripted(messages=said), [ask], name=AGENT, checkpointer=InMemorySaver())
    with Tracker(model, domain=DOMAIN) as tracker:
        config = {**CONFIG, "callbacks": [AgentModelCallback(tracker)]}
        agent.invoke(ASKED, config)
        agent.invoke(Command(resume="yes"), config)

    assert [("interrupted", 1), ("ok", 2)] == [(call.status, call.attempt) for call in shown(model)]
    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is None


def test_asyncio(model: AgentModel) -> None:
    """An agent that is awaited is recorded the same; an error that leaves it is the session's failure."""
    said = iter([AIMessage("", tool_calls=[{"name": "broken", "args": {"q": "a"}, "id": "c1"}])])
    agent: Any = create_agent(Scripted(messages=said), [broken], name=AGENT)
    with Tracker(model, domain=DOMAIN) as tracker, pytest.raises(ValueError, match="no route to a"):
        asyncio.run(agent.ainvoke(ASKED, {**CONFIG, "callbacks": [AgentModelCallback(tracker)]}))

    assert [("broken", "error", "ValueError")] == [(c.tool, c.status, c.error_type) for c in shown(model)]
    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is False


def test_errors_are_counted(model: AgentModel) -> None:
    """A callback that fails is counted, and the agent does not learn of it."""
    with Tracker(model) as tracker:
        AgentModelCallback(tracker).on_tool_start({}, "", run_id="no id", inputs=None, metadata=3)  # type: ignore[arg-type]  # what no framework gives

    assert 1 == tracker.errors
