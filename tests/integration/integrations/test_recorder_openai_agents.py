"""The recorder of the OpenAI Agents SDK, driven by real agents with a scripted model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
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
    Shown,
    Turn,
    expected,
    shown,
)

pytest.importorskip("agents", reason="the extra openai-agents is not installed")

from agents import (
    Agent,
    ModelBehaviorError,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    ToolOutputGuardrailData,
    UserError,
    add_trace_processor,
    function_tool,
    handoff,
    set_trace_processors,
    tool_input_guardrail,
    tool_output_guardrail,
    trace,
)
from agents.mcp import MCPServer
from agents.tracing import function_span, get_trace_provider
from mcp.types import CallToolResult, TextContent
from mcp.types import Tool as MCPTool

from agentmodel.integrations.openai_agents import AgentModelRecorder, Tracker
from tests.integration.integrations.openai_agents_script import broken, flaky, run, scripted, search, turn

NOT_SHOWN = {"edited": "the SDK has no edits"}
AGAIN = Turn((Asked("c3b", "flaky", {"q": "c"}),), 20, 4)
ASKED = tuple(turn for turn in SCRIPT if turn.calls[0].call_id != "c8")
TURNS = (*ASKED[:2], AGAIN, *ASKED[2:])
GUARDED = "both, with a guard"  # as `test_recorder_openai_agents_guard.py` shows
SURFACES = ("both", "hooks alone", "spans alone")
ROWS = {surface: f"OpenAI Agents, {surface.replace('both', 'hooks and spans')}" for surface in SURFACES}
LOOKS = {surface: RECORDERS[row].looks for surface, row in ROWS.items()}
META = {"user_id": USER, "category": CATEGORY}


@function_tool(failure_error_function=None)
def raising(q: str) -> str:
    """Fail, and end the run."""
    raise ValueError(f"no route to {q}")


@function_tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def cached() -> Any:
    """A search whose guardrail knows the answer to what was asked before."""
    known: set[str] = set()

    @tool_input_guardrail
    def look(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Answer in place of the tool."""
        if data.context.tool_arguments in known:
            return ToolGuardrailFunctionOutput.reject_content("found a")
        known.add(data.context.tool_arguments)
        return ToolGuardrailFunctionOutput.allow()

    return replace(search, tool_input_guardrails=[look])


def config(recorder: AgentModelRecorder, **given: Any) -> RunConfig:
    """Who is served, and what the recorder must be told of errors."""
    told: dict[str, Any] = {
        "group_id": SESSION,
        "trace_metadata": META,
        "tool_not_found_behavior": "return_error_to_model",
        "tool_error_formatter": recorder.tool_error,
    }
    return RunConfig(**told | given)


@contextlib.contextmanager
def loop() -> Iterator[None]:
    """A loop for `Runner.run_sync`, which leaves open the one that it makes."""
    ours = asyncio.new_event_loop()
    asyncio.set_event_loop(ours)
    try:
        yield
    finally:
        ours.close()
        asyncio.set_event_loop(None)


async def approving(agent: Agent[Any], hooks: Any, how: RunConfig, context: Any = None) -> Any:
    """Run an agent, and reject what it asks a person for."""
    result = await Runner.run(agent, REQUEST, hooks=hooks, run_config=how, context=context)
    while result.interruptions:
        state = result.to_state()
        for one in result.interruptions:
            state.reject(one, rejection_message="too much")
        result = await Runner.run(agent, state, hooks=hooks, run_config=how)
    return result


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


@pytest.fixture
def tracker(model: AgentModel) -> Iterator[Tracker]:
    """What writes."""
    with Tracker(model, domain=DOMAIN) as tracker:
        yield tracker


@pytest.fixture(autouse=True)
def _processors() -> Iterator[None]:
    """No trace leaves the machine, and none is told to the recorder of another test."""
    set_trace_processors([])
    yield
    set_trace_processors([])


@pytest.fixture
def recorder(tracker: Tracker) -> AgentModelRecorder:
    """Listens to the spans of all runs."""
    recorder = AgentModelRecorder(tracker)
    add_trace_processor(recorder)
    return recorder


@pytest.mark.parametrize("surface", SURFACES)
def test_scenario(model: AgentModel, surface: str) -> None:
    """The whole scenario is recorded, as far as the SDK has it; hooks or spans alone show less of it."""
    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        if surface != "hooks alone":
            add_trace_processor(recorder)
        agent = Agent(name=AGENT, model=scripted(*TURNS), tools=[cached(), flaky(), broken, pay])
        hooks = None if surface == "spans alone" else recorder
        asyncio.run(
            approving(agent, hooks, config(recorder), None if hooks is None else META | {"session_id": SESSION})
        )

    assert of_surface(surface) == shown(model)
    tell(ROWS[surface], shown(model))
    assert tracker.errors == 0
    (session,) = list(model.repository.sessions("USRada"))
    assert session.category == CATEGORY
    assert session.request == (None if surface == "spans alone" else REQUEST)


def of_surface(surface: str) -> list[Shown]:
    """What a surface shows: the model tries again, as the SDK does not; a span of an unknown tool has no arguments."""
    seen = expected(without=NOT_SHOWN, looks=LOOKS[surface])
    return [
        replace(
            call,
            attempt=1,
            tokens=(20, 4) if call.tool == "flaky" else call.tokens,
            arguments=None if call.tool == "nope" and surface == "spans alone" else call.arguments,
        )
        for call in seen
    ]


def calls(model: AgentModel, tracker: Tracker, user_id: str = "USRada") -> list[Shown]:
    """What is recorded so far."""
    tracker.flush()
    return shown(model, user_id=user_id)


def test_approved_elsewhere(model: AgentModel) -> None:
    """A call that waits for a person is not recorded; approved and resumed by another process, it is made once."""
    agent = Agent(name=AGENT, model=scripted(turn(Asked("c1", "pay", {"amount": 7}))), tools=[pay])

    async def first(recorder: AgentModelRecorder) -> str:
        result = await Runner.run(agent, REQUEST, hooks=recorder, run_config=config(recorder))
        return result.to_state().to_string()

    async def second(recorder: AgentModelRecorder, stored: str) -> None:
        state = await RunState.from_string(agent, stored)
        state.approve(state.get_interruptions()[0])
        await Runner.run(agent, state, hooks=recorder)

    with Tracker(model, domain=DOMAIN) as tracker:
        add_trace_processor(recorder := AgentModelRecorder(tracker))
        stored = asyncio.run(first(recorder))
        waiting = calls(model, tracker)
    set_trace_processors([])
    with Tracker(model, domain=DOMAIN) as tracker:
        add_trace_processor(recorder := AgentModelRecorder(tracker))
        asyncio.run(second(recorder, stored))

    assert [] == waiting
    assert [("pay", "ok", 1, {"amount": 7})] == [(c.tool, c.status, c.attempt, c.arguments) for c in shown(model)]


@pytest.mark.parametrize("spans", [True, False])
def test_rejected_elsewhere(model: AgentModel, spans: bool) -> None:
    """A call that a person rejects while another process has the run is rejected, and its neighbours stay as they were."""
    asked = turn(Asked("c1", "pay", {"amount": 7}), Asked("c2", "search", {"q": "a"}))
    agent = Agent(name=AGENT, model=scripted(asked), tools=[pay, search])
    told = META | {"session_id": SESSION}

    async def first(recorder: AgentModelRecorder) -> str:
        result = await Runner.run(agent, REQUEST, context=told, hooks=recorder, run_config=config(recorder))
        return result.to_state().to_string()

    async def second(recorder: AgentModelRecorder, stored: str) -> None:
        state = await RunState.from_string(agent, stored)
        state.reject(state.get_interruptions()[0])
        await Runner.run(agent, state, hooks=recorder)

    stored = ""
    for again in (False, True):
        set_trace_processors([])
        with Tracker(model, domain=DOMAIN) as tracker:
            recorder = AgentModelRecorder(tracker)
            if spans:
                add_trace_processor(recorder)
            if again:
                asyncio.run(second(recorder, stored))
            else:
                stored = asyncio.run(first(recorder))

    assert [("search", "ok"), ("pay", "rejected")] == [(call.tool, call.status) for call in shown(model)]


def test_rejected_for_good(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A call of a tool that a person has rejected for good is rejected too, without being asked about."""
    turns = [turn(Asked(f"c{n}", "pay", {"amount": 7})) for n in (1, 2)]
    agent = Agent(name=AGENT, model=scripted(*turns), tools=[pay])

    async def going() -> None:
        result = await Runner.run(agent, REQUEST, hooks=recorder, run_config=config(recorder))
        state = result.to_state()
        state.reject(result.interruptions[0], always_reject=True)
        await Runner.run(agent, state, hooks=recorder, run_config=config(recorder))

    asyncio.run(going())

    assert [("rejected", 1), ("rejected", 1)] == [(call.status, call.attempt) for call in calls(model, tracker)]


@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_that_leaves_the_run(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, streamed: bool
) -> None:
    """A tool's error that ends the run is known by its name without a formatter, and is the session's failure."""
    agent = Agent(name=AGENT, model=scripted(turn(Asked("c1", "raising", {"q": "a"}))), tools=[raising])
    how = config(recorder, tool_error_formatter=None)

    async def going() -> None:
        if streamed:
            result = Runner.run_streamed(agent, REQUEST, hooks=recorder, run_config=how)
            async for _ in result.stream_events():
                pass
        else:
            await Runner.run(agent, REQUEST, hooks=recorder, run_config=how)

    with pytest.raises(UserError, match="no route to a"):
        asyncio.run(going())

    assert [("raising", "error", "ValueError")] == [(c.tool, c.status, c.error_type) for c in calls(model, tracker)]
    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is False


def test_streamed_while_something_else_is_handled(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder
) -> None:
    """A run that is streamed is recorded the same; an error that its caller handles meanwhile is none of its."""
    agent = Agent(name=AGENT, model=scripted(*SCRIPT[:1]), tools=[search])

    async def going() -> None:
        result = Runner.run_streamed(agent, REQUEST, hooks=recorder, run_config=config(recorder))
        async for _ in result.stream_events():
            pass

    try:
        raise OSError("of the caller")  # noqa: TRY301  # what is handled while the run goes on
    except OSError:
        asyncio.run(going())

    assert [replace(call, case="") for call in EXPECTED[:2]] == calls(model, tracker)
    (session,) = list(model.repository.sessions("USRada"))
    assert session.succeeded is None


def test_synchronous(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A run that is waited for is recorded the same; who is served can stand in the run's context object."""

    class Mine:
        """The application's own."""

        user_id = "ada"
        session_id = SESSION
        request = "find a café, please"

    agent = Agent[Mine](name=AGENT, model=scripted(*SCRIPT[:1]), tools=[search])
    with loop():
        Runner.run_sync(agent, REQUEST, context=Mine(), hooks=recorder)

    assert [replace(call, case="") for call in EXPECTED[:2]] == calls(model, tracker)
    (session,) = list(model.repository.sessions("USRada"))
    assert session.request == "find a café, please"


@pytest.mark.parametrize("hooked", [True, False])
def test_unknown_tool_that_ends_the_run(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, hooked: bool
) -> None:
    """A run that an unknown tool ends, as it does if nothing else is said, shows that tool."""
    agent = Agent(name=AGENT, model=scripted(turn(Asked("c1", "nope", {"q": "a"}))), tools=[search])
    how = RunConfig(group_id=SESSION, trace_metadata=META)
    with pytest.raises(ModelBehaviorError):
        run(agent, REQUEST, hooks=recorder if hooked else None, run_config=how)

    assert [("nope", "unknown_tool", (10, 1))] == [(c.tool, c.status, c.tokens) for c in calls(model, tracker)]


@pytest.mark.parametrize("ids", [("c1", "c2", "n1"), ("call_0", "call_1", "call_0")], ids=["own", "alike"])
@pytest.mark.parametrize("hooked", [False, True])
def test_agents_as_tools_and_handoffs(
    model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, ids: tuple[str, ...], hooked: bool
) -> None:
    """A handoff is no call; an agent used as a tool is one, and its own calls are its own, also where ids are alike."""
    c1, c2, n1 = ids
    inner = Agent(name="inner", model=scripted(turn(Asked(n1, "search", {"q": "n"}))), tools=[search])
    other = Agent(name="other", model=scripted(turn(Asked("o1", "search", {"q": "o"}))), tools=[search])
    turns = [
        turn(Asked(c1, "ask_inner", {"input": "x"}), Asked(c2, "search", {"q": "c"})),
        turn(Asked("c3", "over", {})),
    ]
    agent = Agent(
        name=AGENT,
        model=scripted(*turns),
        tools=[inner.as_tool("ask_inner", "Ask.", hooks=recorder if hooked else None), search],
        handoffs=[handoff(other, tool_name_override="over")],
    )
    run(agent, REQUEST, hooks=recorder, run_config=config(recorder))
    tracker.flush()

    (session,) = list(model.repository.sessions("USRada"))
    executions = model.repository.session_history("USRada", session.session_id).executions
    names = {each.agent_id: each.name for each in model.repository.top_agents(domain(model))}
    assert {
        (AGENT, "ask_inner", "ok", 10),
        (AGENT, "search", "ok", 10),
        ("inner", "search", "ok", 10),
        ("other", "search", "ok", 10),
    } == {(names[call.agent_id], call.tool_name, call.status, call.input_tokens) for call in executions}
    assert [1] * 4 == [call.attempt for call in executions]


def domain(model: AgentModel) -> str:
    """The id of the only domain."""
    (only,) = model.repository.domains()
    return only.domain_id


def test_an_agent_inside_a_call_that_waits(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """An agent used as a tool that waits for a person is interrupted, which is no failure; resumed, it goes on."""
    inner = Agent(name="inner", model=scripted(turn(Asked("n1", "pay", {"amount": 7}))), tools=[pay])
    agent = Agent(
        name=AGENT,
        model=scripted(turn(Asked("c1", "ask_inner", {"input": "x"}))),
        tools=[inner.as_tool("ask_inner", "Ask.", hooks=recorder)],
    )

    async def going() -> None:
        result = await Runner.run(agent, REQUEST, hooks=recorder, run_config=config(recorder))
        state = result.to_state()
        state.approve(result.interruptions[0])
        await Runner.run(agent, state, hooks=recorder, run_config=config(recorder))

    asyncio.run(going())

    assert [("ask_inner", "interrupted", 1), ("ask_inner", "ok", 2), ("pay", "ok", 1)] == [
        (call.tool, call.status, call.attempt) for call in calls(model, tracker)
    ]


@pytest.mark.parametrize("spans", [True, False])
def test_runs_at_once(model: AgentModel, spans: bool) -> None:
    """Runs that go on at once in one process, with the same ids of calls, do not mix."""
    users = ("ada", "kim", "lee")

    async def one(recorder: AgentModelRecorder, user: str) -> None:
        agent = Agent(name=AGENT, model=scripted(turn(Asked("c1", "search", {"q": user}))), tools=[search])
        await Runner.run(agent, REQUEST, context={"user_id": user, "session_id": "same"}, hooks=recorder)

    async def going(recorder: AgentModelRecorder) -> None:
        await asyncio.gather(*[one(recorder, user) for user in users])

    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        if spans:
            add_trace_processor(recorder)
        asyncio.run(going(recorder))

    assert {user: [{"q": user}] for user in users} == {
        user: [call.arguments for call in shown(model, user_id=f"USR{user}")] for user in users
    }


def test_guardrails(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A guardrail before a tool that ends the run is a rejection; one after it, an error of a call that was made."""

    @tool_input_guardrail
    def before(_data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """End it."""
        return ToolGuardrailFunctionOutput.raise_exception()

    @tool_output_guardrail
    def after(_data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        """End it."""
        return ToolGuardrailFunctionOutput.raise_exception()

    for number, tool in enumerate(
        (replace(search, tool_input_guardrails=[before]), replace(search, tool_output_guardrails=[after])), start=1
    ):
        agent = Agent(name=AGENT, model=scripted(turn(Asked(f"c{number}", "search", {"q": "a"}))), tools=[tool])
        with pytest.raises(Exception, match="guardrail"):
            run(agent, REQUEST, hooks=recorder, run_config=config(recorder))

    assert [("rejected", None), ("error", "ToolOutputGuardrailTripwireTriggered")] == [
        (call.status, call.error_type) for call in calls(model, tracker)
    ]


@pytest.mark.parametrize("surface", SURFACES)
def test_failures_told_in_words(model: AgentModel, surface: str) -> None:
    """A tool that took too long failed, if the model is told so in the SDK's words; another's error it tells itself."""

    @function_tool(timeout=0.001)
    async def slow(q: str) -> str:
        """Take a day."""
        await asyncio.sleep(86_400)
        return q

    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        if surface != "hooks alone":
            add_trace_processor(recorder)

        def sorry(context: RunContextWrapper[Any], error: Exception) -> str:
            recorder.failed(context, error)
            return f"sorry: {error}"

        @function_tool(failure_error_function=sorry)
        def polite(q: str) -> str:
            """Fail."""
            raise LookupError(q)

        turns = (turn(Asked("c1", "slow", {"q": "a"})), turn(Asked("c2", "polite", {"q": "a"})))
        agent = Agent(name=AGENT, model=scripted(*turns), tools=[slow, polite])
        hooks = None if surface == "spans alone" else recorder
        run(agent, REQUEST, context=META, hooks=hooks, run_config=config(recorder))

    late = ("ok", None) if surface == "spans alone" else ("error", "ToolTimeoutError")
    assert [late, ("error", "LookupError")] == [(call.status, call.error_type) for call in shown(model)]


@pytest.mark.parametrize("surface", SURFACES)
def test_without_a_formatter(model: AgentModel, surface: str) -> None:
    """An error that nobody names is an error all the same."""
    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        if surface != "hooks alone":
            add_trace_processor(recorder)
        agent = Agent(name=AGENT, model=scripted(turn(Asked("c1", "broken", {"q": "a"}))), tools=[broken])
        how = RunConfig(group_id=SESSION, trace_metadata=META)
        hooks = None if surface == "spans alone" else recorder
        run(agent, REQUEST, context=META, hooks=hooks, run_config=how)

    assert [("error", "_OTHER")] == [(call.status, call.error_type) for call in shown(model)]


@pytest.mark.parametrize("hooked", [True, False])
def test_traces_without_data(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder, hooked: bool) -> None:
    """Traces that hold no data do not keep hooks from recording; by themselves they do not tell what was made."""
    asked = turn(Asked("c1", "search", {"q": "a"}), Asked("c2", "pay", {"amount": 7}))
    agent = Agent(name=AGENT, model=scripted(asked), tools=[search, pay])
    how = config(recorder, trace_include_sensitive_data=False)
    run(agent, REQUEST, hooks=recorder if hooked else None, run_config=how)

    told = [("search", "ok", {"q": "a"})] if hooked else []
    assert told == [(call.tool, call.status, call.arguments) for call in calls(model, tracker)]


class Shelf(MCPServer):
    """An MCP server without a process of its own."""

    name = "shelf"

    async def connect(self) -> None:
        """Is here."""

    async def cleanup(self) -> None:
        """Leaves nothing."""

    async def list_tools(self, *_told: Any, **_named: Any) -> list[MCPTool]:
        """The only one."""
        return [MCPTool(name="fetch", input_schema={"type": "object", "properties": {"q": {"type": "string"}}})]

    async def call_tool(self, *_told: Any, **_named: Any) -> CallToolResult:
        """Answer."""
        return CallToolResult(content=[TextContent(type="text", text="here")])

    async def list_prompts(self) -> Any:
        """None."""

    async def get_prompt(self, *_told: Any, **_named: Any) -> Any:
        """None."""


@pytest.mark.parametrize("surface", SURFACES)
def test_tools_of_an_mcp_server(model: AgentModel, surface: str) -> None:
    """A call of an MCP server's tool is a call like any other; one that no server has is unknown."""
    asked = turn(Asked("c1", "fetch", {"q": "a"}), Asked("c2", "nope", {"q": "a"}))
    with Tracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        if surface != "hooks alone":
            add_trace_processor(recorder)
        agent = Agent(name=AGENT, model=scripted(asked), mcp_servers=[Shelf()])
        hooks = None if surface == "spans alone" else recorder
        run(agent, REQUEST, context=META, hooks=hooks, run_config=config(recorder))
        (session,) = (tracker.flush(), *model.repository.sessions("USRada"))[1:]

    executions = model.repository.session_history("USRada", session.session_id).executions
    results = {call.tool_name: (call.status or "ok", call.result) for call in executions}
    told = None if surface == "spans alone" else "Tool 'nope' not found."
    assert {"fetch": ("ok", "here"), "nope": ("unknown_tool", told)} == results


def test_one_trace_is_one_session(model: AgentModel, tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """Runs of one trace that name no session are one; a span that a tool makes itself is part of its call."""

    @function_tool
    def nosy(q: str) -> str:
        """Trace itself."""
        with function_span("inside", input=q, output=q):
            return q

    with trace("finding"):
        for number in (1, 2):
            agent = Agent(name=AGENT, model=scripted(turn(Asked(f"c{number}", "nosy", {"q": "a"}))), tools=[nosy])
            run(agent, REQUEST, hooks=recorder if number == 1 else None)

    assert [("nosy", "ok"), ("nosy", "ok")] == [
        (call.tool, call.status) for call in calls(model, tracker, "USR~anonymous")
    ]


def test_errors_are_counted(tracker: Tracker, recorder: AgentModelRecorder) -> None:
    """A listener that fails is counted, and the agent does not learn of it."""
    get_trace_provider()
    recorder.on_span_start(None)  # type: ignore[arg-type]  # what no framework gives
    asyncio.run(recorder.on_agent_start(None, None))  # type: ignore[arg-type]  # likewise

    assert 2 == tracker.errors


def test_spans_that_never_end(tracker: Tracker, recorder: AgentModelRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and runs that never end do not fill the memory."""
    monkeypatch.setattr("agentmodel.integrations.openai_agents._runs._MAX_OPEN", 3)
    with trace("finding"):
        for _ in range(9):
            function_span("search").start()

    assert 3 == len(recorder.runs)
    assert tracker.errors == 0


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what each surface makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "openai_agents.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    columns = (*SURFACES, GUARDED)
    rows = [f"| {case} | {' | '.join(_said(case, surface) for surface in columns)} |" for case in cases]
    head = f"| case | {' | '.join(columns)} |\n|---|---|---|---|---|"

    assert "\n".join([head, *rows]) in page.read_text(encoding="utf-8")


def _said(case: str, surface: str) -> str:
    if surface == GUARDED and case == "edited":
        return "recorded as two calls"
    if case in NOT_SHOWN:
        return NOT_SHOWN[case]
    if case == "retry":
        return "recorded as two calls"
    if case in LOOKS.get(surface, {}):
        return f"recorded as `{LOOKS[surface][case]}`"
    return "recorded without arguments" if case == "unknown tool" and surface == "spans alone" else "recorded"
