"""The Strands hook provider, driven by a real agent with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel
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
    Turn,
    expected,
    shown,
)

pytest.importorskip("strands", reason="the extra strands is not installed")

from strands import Agent, ToolContext, tool
from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent, HookProvider, HookRegistry
from strands.middleware import ExecuteToolStage
from strands.types._events import ToolResultEvent

from agentmodel.integrations.strands import AgentModelHooks, Tracker
from tests.integration.integrations.strands_agents import Scripted, broken, flaky, pay, search

RECORDER = "Strands, hook provider"
LOOKS = RECORDERS[RECORDER].looks
STATE = {"user_id": USER, "session_id": SESSION, "category": CATEGORY}


class People(HookProvider):
    """Ask a person before each payment, and try again what lost its connection."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Listen."""
        registry.add_callback(BeforeToolCallEvent, self.ask)
        registry.add_callback(AfterToolCallEvent, self.again)

    def ask(self, event: BeforeToolCallEvent) -> None:
        """Reject or edit, as the person says."""
        if event.tool_use["name"] == "pay":
            answer = event.interrupt("pay")
            if answer == "no":
                event.cancel_tool = "too much"
            else:
                event.tool_use["input"]["amount"] = answer

    def again(self, event: AfterToolCallEvent) -> None:
        """Retry."""
        event.retry = isinstance(event.exception, ConnectionError)


async def cached(context: Any, following: Any) -> Any:
    """Answer c9 from a cache."""
    if context.tool_use["toolUseId"] == "c9":
        yield ToolResultEvent({"toolUseId": "c9", "status": "success", "content": [{"text": "found a"}]})
        return
    async for event in following(context):
        yield event


def agent_of(turns: Sequence[Turn], tools: list[Any], tracker: Tracker) -> Agent:
    """An agent that is recorded, and has people who decide."""
    return Agent(
        model=Scripted(turns),
        tools=tools,
        name=AGENT,
        callback_handler=None,
        hooks=[AgentModelHooks(tracker), People()],
    )


def answer(agent: Agent, result: Any, said: Any) -> Any:
    """Go on with what a person said."""
    asked = [{"interruptResponse": {"interruptId": one.id, "response": said}} for one in result.interrupts]
    return agent(asked, invocation_state=dict(STATE))  # type: ignore[arg-type]  # a list of plain dicts is one


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


def test_scenario(model: AgentModel) -> None:
    """The whole scenario is recorded; only an answer that a middleware gave instead of the tool looks like a call."""
    with Tracker(model, domain=DOMAIN) as tracker:
        agent = agent_of(SCRIPT, [search, flaky(), broken, pay], tracker)
        agent.add_middleware(ExecuteToolStage, cached)
        result = agent(REQUEST, invocation_state=dict(STATE))
        result = answer(agent, result, "no")
        answer(agent, result, 5)

    assert expected(looks=LOOKS) == shown(model)
    tell(RECORDER, shown(model))
    assert tracker.errors == 0
    (session,) = list(model.repository.sessions("USRada"))
    assert (session.request, session.category) == (REQUEST, CATEGORY)


def test_interrupt_inside_a_tool(model: AgentModel) -> None:
    """A tool that waits for a person is interrupted, which is no failure; resumed, it is a second attempt."""

    @tool(context=True)
    def ask(q: str, tool_context: ToolContext) -> str:
        """Ask a person."""
        return str(tool_context.interrupt("ask", reason=q))

    with Tracker(model, domain=DOMAIN) as tracker:
        agent = agent_of([Turn((Asked("c1", "ask", {"q": "a"}),), 3, 2)], [ask], tracker)
        answer(agent, agent(REQUEST, invocation_state=dict(STATE)), "yes")

    assert [("interrupted", 1), ("ok", 2)] == [(call.status, call.attempt) for call in shown(model)]


def test_an_error_with_a_cause(model: AgentModel) -> None:
    """A tool's own error counts, whatever it was raised from."""

    @tool
    def lookup(q: str) -> str:
        """Fail."""
        raise LookupError(q) from KeyError(q)

    with Tracker(model, domain=DOMAIN) as tracker:
        agent = agent_of([Turn((Asked("c1", "lookup", {"q": "a"}),), 3, 2)], [lookup], tracker)
        agent(REQUEST, invocation_state=dict(STATE))

    assert ["LookupError"] == [call.error_type for call in shown(model)]


def test_without_a_session(model: AgentModel) -> None:
    """An agent whose invocations name no session has one of its own, of the anonymous user."""
    with Tracker(model, domain=DOMAIN) as tracker:
        turns = [Turn((Asked(f"c{n}", "search", {"q": "a"}),), 3, 2) for n in (1, 2)]
        agent = agent_of(turns, [search], tracker)
        agent(REQUEST)

    (session,) = list(model.repository.sessions("USR~anonymous"))
    assert REQUEST == session.request
    assert ["ok", "ok"] == [call.status for call in shown(model, user_id="USR~anonymous")]


class Dead(Scripted):
    """A model that fails, or is waited for in vain."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__([])
        self._error = error
        self.asked = asyncio.Event()

    async def stream(self, *args: Any, **kwargs: Any) -> Any:
        """Fail, or never answer."""
        self.asked.set()
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        yield {}


@pytest.mark.parametrize("place", ["invocation", "agent", "trace"])
def test_the_user_of_a_strands_program(model: AgentModel, place: str) -> None:
    """A user in the invocation's state, the agent's state or its trace attributes is the user of the session."""
    places = ("invocation", "agent", "trace")
    users = dict.fromkeys(places[places.index(place) + 1 :], f"not {USER}") | {place: USER}  # the first one counts
    with Tracker(model, domain=DOMAIN) as tracker:
        agent = Agent(
            model=Scripted(SCRIPT[:1]),
            tools=[search],
            callback_handler=None,
            hooks=[AgentModelHooks(tracker)],
            state={"user_id": users["agent"]} if "agent" in users else None,
            trace_attributes={"user.id": users["trace"]} if "trace" in users else None,
        )
        agent(REQUEST, invocation_state={"user_id": users["invocation"]} if "invocation" in users else {})

    (session,) = model.repository.sessions(f"USR{USER}")
    assert model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert 0 == tracker.errors


async def while_handling(agent: Agent) -> None:
    """Run an agent in the handler of an error that is none of its own."""
    try:
        next(iter(()))
    except StopIteration:
        await agent.invoke_async(REQUEST, invocation_state=dict(STATE))


async def until_cancelled(agent: Agent, dead: Dead) -> None:
    """Run an agent in a task that is cancelled while it waits for the model."""
    task = asyncio.create_task(agent.invoke_async(REQUEST, invocation_state=dict(STATE)))
    await dead.asked.wait()
    task.cancel()
    await task


def test_a_failed_invocation(model: AgentModel) -> None:
    """An error that leaves the invocation is the session's failure, also where another one is being handled."""
    with Tracker(model, domain=DOMAIN) as tracker:
        agent = Agent(model=Dead(ConnectionError("gone")), callback_handler=None, hooks=[AgentModelHooks(tracker)])
        with pytest.raises(ConnectionError, match="gone"):
            asyncio.run(while_handling(agent))

    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is False
    assert session.ended_at is not None


def test_an_error_around_an_invocation(model: AgentModel) -> None:
    """An error that the caller handles meanwhile is not the session's."""
    with Tracker(model, domain=DOMAIN) as tracker:
        agent = Agent(model=Scripted([]), callback_handler=None, hooks=[AgentModelHooks(tracker)])
        asyncio.run(while_handling(agent))

    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is None
    assert session.ended_at is not None


def test_a_cancelled_invocation(model: AgentModel) -> None:
    """An invocation that was cancelled has not failed."""
    with Tracker(model, domain=DOMAIN) as tracker:
        dead = Dead(None)
        agent = Agent(model=dead, callback_handler=None, hooks=[AgentModelHooks(tracker)])
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(until_cancelled(agent, dead))

    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is None
    assert session.ended_at is not None


def test_an_agent_inside_a_call(model: AgentModel) -> None:
    """An agent that is a tool, and whose model numbers its calls alike, has calls of its own; parts are a request."""
    state = {"session_id": SESSION, "user_id": USER}

    @tool
    def find(q: str) -> str:
        """Have it found."""
        finder(q, invocation_state=dict(state))
        return f"found {q}"

    with Tracker(model, domain=DOMAIN) as tracker:
        finder, boss = (
            Agent(
                model=Scripted([Turn((Asked("call_0", name, {"q": "a"}),), 4, 2)]),
                tools=[each],
                name=agent,
                callback_handler=None,
                hooks=[AgentModelHooks(tracker)],
            )
            for agent, name, each in (("finder", "search", search), ("boss", "find", find))
        )
        parts: list[Any] = [{"text": "find"}, {"text": "a café"}]
        boss(parts, invocation_state=dict(state))

    (session,) = list(model.repository.sessions("USRada"))
    assert "find\na café" == session.request
    assert [("find", 1, (4, 2)), ("search", 1, (4, 2))] == [(one.tool, one.attempt, one.tokens) for one in shown(model)]


def test_errors_are_counted(model: AgentModel) -> None:
    """A hook that fails is counted, and the agent does not learn of it."""
    with Tracker(model) as tracker:
        agent = Agent(model=Scripted([]), callback_handler=None, hooks=[AgentModelHooks(tracker)])
        agent.hooks.invoke_callbacks(BeforeToolCallEvent(agent, None, {}, {}))  # type: ignore[typeddict-item]  # what no framework gives

    assert 1 == tracker.errors


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the provider makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "strands.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    rows = [
        f"| {case} | {f'recorded as `{LOOKS[case]}`' if case in LOOKS else 'recorded'} | recorded |" for case in cases
    ]

    assert "\n".join(["| case | hook provider | with a guard |", "|---|---|---|", *rows]) in page.read_text(
        encoding="utf-8"
    )
