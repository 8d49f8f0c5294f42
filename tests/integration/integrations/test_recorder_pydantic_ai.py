"""The capability for Pydantic AI, driven by a real agent with a scripted model."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.exceptions import ValidationError
from tests.hostile import HOSTILE
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import (
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

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic_ai import Agent, ModelRetry, RunContext, Tool, ToolApproved, ToolDenied
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import CallDeferred, UserError
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker
from tests.integration.integrations.pydantic_ai_agents import (
    METADATA,
    Scripted,
    agent_of,
    broken,
    flaky,
    pay,
    pending,
    run,
    search,
    told,
)

RECORDER = "Pydantic AI, capability"
LOOKS = RECORDERS[RECORDER].looks
ONE = (Turn((Asked("c1", "search", {"q": "a"}),), 3, 2),)
ANONYMOUS = "USR~anonymous"


class Others(AbstractCapability[Any]):
    """Answer c9 from a cache, try again what lost its connection, and let the model read what fails."""

    async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        if call.tool_call_id == "c9":
            return "found a"
        try:
            try:
                return await handler(args)
            except ConnectionError:
                return await handler(args)
        except ValueError as error:
            raise ModelRetry(str(error)) from error


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        yield model


@pytest.fixture
def tracker(model: AgentModel) -> Iterator[Tracker]:
    """Writes what is recorded."""
    with Tracker(model, domain=DOMAIN) as tracker:
        yield tracker


def recorded(tracker: Tracker, model: AgentModel, user_id: str = f"USR{USER}") -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in shown(model, user_id=user_id)]


def test_scenario(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is recorded; only an answer that another capability gave in place of the tool looks like one."""
    tools = [search, flaky(), broken, Tool(pay, requires_approval=True)]
    agent = agent_of(Scripted(SCRIPT), tools, AgentModelCapability(tracker), Others())
    result = told(agent, REQUEST)
    for answer in (ToolDenied("too much"), ToolApproved(override_args={"amount": 5})):
        approvals = result.output.build_results(approvals={pending(result)[0]: answer})
        result = told(agent, None, message_history=result.all_messages(), deferred_tool_results=approvals)

    assert tracker.flush()
    assert expected(looks=LOOKS) == shown(model)
    tell(RECORDER, shown(model))
    assert 0 == tracker.errors
    (session,) = model.repository.sessions(f"USR{USER}")
    assert (REQUEST, CATEGORY) == (session.request, session.category)
    assert session.ended_at is not None


@pytest.mark.parametrize("how", ["iter", "run_stream", "run_stream_events"])
def test_every_way_to_run_an_agent(model: AgentModel, tracker: Tracker, how: str) -> None:
    """A run that is iterated or streamed gives the same history."""

    async def said(messages: Any, _info: Any) -> Any:
        if any(isinstance(one, ModelResponse) for one in messages):
            yield "done"
        else:
            from pydantic_ai.models.function import DeltaToolCall

            yield {0: DeltaToolCall("search", '{"q": "a"}', tool_call_id="c1")}

    async def runs() -> None:
        agent: Agent[Any, Any] = Agent(
            FunctionModel(Scripted(ONE)._respond, stream_function=said),
            tools=[search],
            capabilities=[AgentModelCapability(tracker)],
        )
        how_told: dict[str, Any] = {"conversation_id": SESSION, "metadata": METADATA}
        if how == "iter":
            async with agent.iter(REQUEST, **how_told) as running:
                async for _ in running:
                    pass
        elif how == "run_stream":
            async with agent.run_stream(REQUEST, **how_told) as streamed:
                await streamed.get_output()
        else:
            async with agent.run_stream_events(REQUEST, **how_told) as events:
                async for _ in events:
                    pass

    asyncio.run(runs())

    assert [("search", "ok")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.ended_at is not None


@pytest.mark.parametrize("place", ["metadata", "a mapping", "an object"])
def test_the_user_of_a_run(model: AgentModel, tracker: Tracker, place: str) -> None:
    """A user and a session in the metadata count, else those of ``deps``; what is no text or id there does not."""
    agent = agent_of(Scripted(ONE), [search], AgentModelCapability(tracker))
    deps = {"user_id": USER, "session_id": "t9", "request": object()}
    if place == "metadata":
        run(agent, REQUEST, metadata={"user_id": USER, "session_id": "t9"}, deps={"user_id": "somebody else"})
    else:
        run(agent, REQUEST, deps=deps if place == "a mapping" else SimpleNamespace(**deps))

    assert [("search", "ok")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert REQUEST == session.request
    assert "t9" in str(session.source_id)


def test_a_conversation_is_a_session(model: AgentModel, tracker: Tracker) -> None:
    """Runs of one history are one session, also without a name; the user is then the anonymous one."""
    turns = [Turn((Asked(f"c{n}", "search", {"q": "a"}),), 3, 2) for n in (1, 2)]
    agent = agent_of(Scripted(turns[:1]), [search], AgentModelCapability(tracker))
    history = run(agent, REQUEST).all_messages()
    run(agent_of(Scripted(turns[1:]), [search], AgentModelCapability(tracker)), "more", message_history=history)

    assert [("search", "ok"), ("search", "ok")] == recorded(tracker, model, ANONYMOUS)


@pytest.mark.parametrize("sync", [True, False])
def test_an_agent_inside_a_tool(model: AgentModel, tracker: Tracker, sync: bool) -> None:
    """The calls of an agent that a tool runs belong to the session of the outer run, under the inner agent's name."""
    inner = agent_of(Scripted(ONE), [search], AgentModelCapability(tracker), name="inner")

    def ask() -> str:
        return str(asyncio.run(inner.run("go")).output)

    async def ask_later() -> str:
        return str((await inner.run("go")).output)

    outer = agent_of(
        Scripted([Turn((Asked("o1", "ask", {}),), 3, 2)]),
        [Tool(ask if sync else ask_later, name="ask")],
        AgentModelCapability(tracker),
    )
    told(outer, REQUEST)

    assert {("search", "ok"), ("ask", "ok")} == set(recorded(tracker, model))
    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert 2 == len({call.agent_id for call in calls})
    assert REQUEST == session.request


def test_how_a_tool_fails(model: AgentModel, tracker: Tracker) -> None:
    """The type of an error is the tool's own, not that of what the framework wraps it in."""

    def asks_again() -> str:
        raise ModelRetry("again")

    def with_cause() -> str:
        raise ModelRetry("no route") from TimeoutError("late")

    turns = [Turn((Asked(f"c{n}", name, {}),), 3, 2) for n, name in enumerate(("asks_again", "with_cause"))]
    told(agent_of(Scripted(turns), [asks_again, with_cause], AgentModelCapability(tracker)), REQUEST)

    assert [("asks_again", "error"), ("with_cause", "error")] == recorded(tracker, model)
    assert ["ModelRetry", "TimeoutError"] == [call.error_type for call in shown(model)]
    (session,) = model.repository.sessions(f"USR{USER}")
    results = [call.result for call in model.repository.session_history(f"USR{USER}", session.session_id).executions]
    assert ["again", "no route"] == results


def test_values_without_json(model: AgentModel, tracker: Tracker) -> None:
    """The application gets its own arguments and results, whatever they are, and each call is recorded."""
    values = {name: value for name, value in HOSTILE.items() if name != "no class"}  # Pydantic AI asks for it itself
    got: list[bool] = []

    class Changed(AbstractCapability[Any]):
        async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
            return {"q": values[call.tool_call_id]}

        async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
            got.append(await handler(args) is values[call.tool_call_id])
            return "found"

    def search(q: Any) -> Any:
        return q

    turns = [Turn((Asked(name, "search", {"q": "a"}),), 3, 2) for name in values]
    told(agent_of(Scripted(turns), [search], Changed(), AgentModelCapability(tracker)), REQUEST)

    assert [True] * len(values) == got
    assert tracker.flush()
    assert 0 == tracker.errors
    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert ["ok"] * len(values) == [call.status for call in calls]


def test_a_result_that_is_read_once(model: AgentModel, tracker: Tracker) -> None:
    """A generator that a tool returns is left to whoever reads it."""

    class Read(AbstractCapability[Any]):
        async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
            return list(await handler(args))

    def search(q: str) -> Any:
        return iter([q])

    scripted = Scripted(ONE)
    told(agent_of(scripted, [search], Read(), AgentModelCapability(tracker)), REQUEST)

    assert ["a"] == scripted.results["c1"]
    assert [("search", "ok")] == recorded(tracker, model)


def test_a_tool_that_ends_the_run(model: AgentModel, tracker: Tracker) -> None:
    """An error that leaves the run is the session's failure; what ran beside it was interrupted."""
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def fails() -> None:
        await begun.wait()
        raise ValueError("no")

    both = Turn((Asked("c1", "waits", {}), Asked("c2", "fails", {})), 3, 2)
    agent = agent_of(Scripted([both]), [waits, fails], AgentModelCapability(tracker))
    with pytest.raises(ValueError, match="no"):
        told(agent, REQUEST)

    assert [("waits", "interrupted"), ("fails", "error")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is False


def test_a_cancelled_run(model: AgentModel, tracker: Tracker) -> None:
    """A run that was cancelled has not failed; its call was interrupted."""
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    agent = agent_of(Scripted([Turn((Asked("c1", "waits", {}),), 3, 2)]), [waits], AgentModelCapability(tracker))

    async def cancelled() -> None:
        task = asyncio.create_task(agent.run(REQUEST, conversation_id=SESSION, metadata=METADATA))
        await begun.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())

    assert [("waits", "interrupted")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert (None, True) == (session.succeeded, session.ended_at is not None)


def test_a_call_that_is_made_elsewhere(model: AgentModel, tracker: Tracker) -> None:
    """A call that the application makes outside of the run is recorded when the model reads its result, once."""

    def job(n: int) -> str:
        raise CallDeferred

    both = Turn((Asked("c1", "job", {"n": 1}), Asked("c2", "search", {"q": "a"})), 3, 2)
    agent = agent_of(Scripted([both]), [job, search], AgentModelCapability(tracker))
    result = told(agent, REQUEST)
    before = recorded(tracker, model)
    results = result.output.build_results(calls={"c1": "done"})
    told(agent, None, message_history=result.all_messages(), deferred_tool_results=results)

    assert [("search", "ok")] == before
    assert [("job", "ok"), ("search", "ok")] == recorded(tracker, model)


def test_the_answer_of_the_model_is_no_call(model: AgentModel, tracker: Tracker) -> None:
    """The tool by which the model gives its output is not recorded, and costs no call its tokens."""
    both = Turn((Asked("c1", "search", {"q": "a"}),), 6, 4)
    done = Turn((Asked("c2", "final_result", {"response": 7}),), 6, 4)
    told(agent_of(Scripted([both, done]), [search], AgentModelCapability(tracker), output_type=int), REQUEST)

    assert [("search", "ok")] == recorded(tracker, model)
    assert [(6, 4)] == [call.tokens for call in shown(model)]


def test_ids_that_come_again(model: AgentModel, tracker: Tracker) -> None:
    """Each call of a server that numbers the calls of each answer anew is a call of its own."""
    turns = [Turn((Asked("call_0", "search", {"q": q}),), 3, 2) for q in "ab"]
    told(agent_of(Scripted(turns), [search], AgentModelCapability(tracker)), REQUEST)

    assert [("search", "ok"), ("search", "ok")] == recorded(tracker, model)
    assert [({"q": "a"}, 1), ({"q": "b"}, 1)] == [(call.arguments, call.attempt) for call in shown(model)]


def test_given_twice(model: AgentModel, tracker: Tracker) -> None:
    """An agent that is given the capability a second time is recorded once, or says so when it is run."""
    agent = agent_of(Scripted(ONE), [search], AgentModelCapability(tracker))
    try:
        told(agent, REQUEST, capabilities=[AgentModelCapability(tracker)])
    except UserError as error:  # the first versions take no second one
        assert "agentmodel" in str(error)  # noqa: PT017  # newer ones do not raise
    else:
        assert [("search", "ok")] == recorded(tracker, model)


def test_revisions(model: AgentModel) -> None:
    """The digest of an agent follows its fixed instructions and tools, and no text that is made for each run."""
    with Tracker(model, domain=DOMAIN, revisions="auto") as tracker:
        days = itertools.count()

        def today(_ctx: RunContext[Any]) -> str:
            return f"It is day {next(days)}."

        for prompt in ("You find.", "You find.", "You pay."):
            instructions: Any = [prompt, today] if prompt == "You find." else prompt
            told(agent_of(Scripted(ONE), [search], AgentModelCapability(tracker), instructions=instructions), REQUEST)
            assert tracker.flush()

    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    first, second, third = [call.revision for call in sorted(calls, key=lambda call: call.call_number or 0)]
    assert None is not first == second != third


def test_a_model_object_is_no_tracker(model: AgentModel) -> None:
    """Who gives the model in place of a tracker reads how to make one."""
    with pytest.raises(ValidationError, match=r"Tracker\(model\)"):
        AgentModelCapability(model)  # type: ignore[arg-type]  # the mistake that is tested


def test_errors_are_counted(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A tracker that fails is counted, and the agent does not learn of it."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tracker, "run", down)
    with caplog.at_level(logging.CRITICAL):
        result = told(agent_of(Scripted(ONE), [search], AgentModelCapability(tracker)), REQUEST)

    assert "done" == result.output
    assert 1 == tracker.errors


def test_arguments_that_are_no_json(model: AgentModel, tracker: Tracker) -> None:
    """Arguments that cannot be read are recorded as the model sent them."""
    said = iter([ModelResponse([ToolCallPart("search", '{"q": ', "c1")]), ModelResponse([TextPart("done")])])
    agent: Agent[Any, Any] = Agent(
        FunctionModel(lambda _messages, _info: next(said)), tools=[search], capabilities=[AgentModelCapability(tracker)]
    )
    told(agent, REQUEST)

    assert tracker.flush()
    (session,) = model.repository.sessions(f"USR{USER}")
    (call,) = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert ("ValidationError", '{"q": ') == (call.error_type, call.values)


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the capability makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "pydantic_ai.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    rows = [
        f"| {case} | {f'recorded as `{LOOKS[case]}`' if case in LOOKS else 'recorded'} | recorded |" for case in cases
    ]

    assert "\n".join(["| case | capability | with a guard |", "|---|---|---|", *rows]) in page.read_text(
        encoding="utf-8"
    )
