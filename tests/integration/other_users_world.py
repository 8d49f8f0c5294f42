"""A world in which one user has recorded canaries through every recorder, and everything was learned from them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel import (
    AgentModel,
    Review,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
    keys,
)
from agentmodel._values.counts import Usage
from agentmodel.dynamo.models import Agent, Domain, Suggestion
from agentmodel.integrations._tracking import conventions
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.traces import TraceRecord
from tests.integration.canaries import MARK, NO_TEXTS, TEXTS, USER, canary, filled, planted
from tests.integration.suggest_world import catalogue

ALICE = keys.id_of("USR", USER)
SESSION = f"SESS{MARK}1"
DOMAIN = "001"  # the catalogue's, by its name for the integrations
SHARED, MADE_UP, SECRET = "cafe search", "with tools that no catalogue has", f"affair {MARK}"
ASKED = "find me a quiet café near the stadium, with a table outside"
SIMILAR = f"{ASKED} {MARK}"
TOOLS = ("locate", "search", "pay")
WHO = {"user_id": USER, "session_id": MARK, "category": SECRET}
NOWHERE = f"look-up-{MARK}"
"""A tool that a model made up of what its user said."""

Declined = type(MARK, (RuntimeError,), {})
"""An error whose class is a canary."""


def installed(name: str) -> bool:
    """Whether a framework is installed."""
    return importlib.util.find_spec(name) is not None


def mapping(category: str, requests: list[str]) -> Any:
    """A mapping whose names are all canaries."""
    key = keys.EXECUTION.build("PRC001", "AGT001", "TL002", 1)
    return planted(
        UserToolMapping, user_id=ALICE, category=category, requests=requests, score=9.0, executions=9, successes=9,
        processes={"PRC001": canary("process")}, agents={"AGT001": canary("agent")}, tools={key: canary("tool")},
        counts={key: [9, 9]},
    )  # fmt: skip


def whole_entities(model: AgentModel) -> None:
    """Put an entity of each kind that belongs to a user, and canaries into all of the catalogue but names and ids."""
    ids = {"user_id": ALICE, "session_id": SESSION}
    model.repository.put(
        planted(User, user_id=ALICE),
        planted(UserSession, **ids),
        planted(UserSessionProcess, **ids, process_id="PRC001"),
        planted(ToolExecution, **ids, process_id="PRC001", agent_id="AGT001", tool_id="TL002", succeeded=False),
        planted(Review, **ids, review_id=MARK, status="pending", allowed=["approve"], trail=None),
        planted(Suggestion, user_id=ALICE, suggestion_id=MARK, suggested_at=datetime.now(UTC), candidates={}, steps=[]),
        mapping(f"old {MARK}", [SIMILAR]),
        *map(marked, [model.repository.domain("DMN001"), model.repository.agent("AGT001")]),
        *map(marked, [model.repository.tool("AGT001", f"TL{number:03d}") for number in (1, 2, 3)]),
    )


def marked(entity: Any) -> Domain | Agent | Tool:
    """An entity of the catalogue with a canary in each attribute that takes a text, but for its name."""
    for name, attribute in type(entity).get_attributes().items():
        what = type(attribute).__name__
        assert what in TEXTS | NO_TEXTS
        if what in TEXTS and name not in ("name", "health"):
            text = canary(f"{type(entity).__name__}.{name}")
            values: Any = [text] if name == "examples" else {text: [1, 2] if name == "success_counts" else text}
            setattr(entity, name, values if what == "_Json" else text)
    return entity


def recorded_runs(model: AgentModel) -> None:
    """Record sessions with a canary in every argument of every function that records in a ``with`` block."""
    runs: list[tuple[str | None, str, str, str]] = []
    runs += [(SHARED, f"{SIMILAR} {number}", "AGT001", "TL002") for number in range(6)]
    runs += [(None, canary("request without category"), "AGT001", "TL002")] * 3
    runs += [(SECRET, canary("request"), "AGT001", "TL002"), (MADE_UP, "buy it", f"AGT{MARK}", f"TL{MARK}")]
    for number, (category, request, agent_id, tool_id) in enumerate(runs):
        plan = model.suggest(ALICE, category=category, request=request)
        told: dict[str, Any] = {"category": category, "request": request, "session_id": f"SESS{MARK}x{number}"}
        filled(model.recorder.session, user_id=ALICE, started_at=None, **told)  # `AgentModel.session` passes all on
        session = model.session(**filled(model.session, user_id=ALICE, plan=plan, started_at=None, **told))
        with session, session.process(**filled(session.process, number=None)) as process:
            made = filled(process.call, agent_id=agent_id, tool_id=tool_id, call_id=f"{MARK}{number}")
            with process.call(**made) as call:
                call.result = canary("result")
            with process.call(agent_id, "TL001") as call:
                call.fail(**filled(call.fail, status="error"))
            with pytest.raises(Declined), process.call(agent_id, "TL001"):
                raise Declined(canary("exception"))
            if category != MADE_UP:  # whose run has no tool of the catalogue
                cached = filled(model.response_cache.call, process=process, agent_id="AGT001", tool_id="TL002",
                                make=lambda: canary("answer"), arguments={MARK: MARK}, scope="user")  # fmt: skip
                model.response_cache.call(**cached)
            session.succeed(**filled(session.succeed))
            for outcome in (model.outcome, model.recorder.outcome, model.recorder.outcome_of):
                told = {
                    "user_id": ALICE,
                    "succeeded": True,
                    "score": None,
                    "source": "person",
                    "agent_id": None,
                    "at": None,
                }
                outcome(**filled(outcome, session=session, **told))
    with model.session(ALICE, canary("request"), session_id=f"SESS{MARK}failed") as session:
        session.fail(**filled(session.fail))


def asked_people(model: AgentModel) -> None:
    """Ask and answer questions with canaries."""
    reviews = model.reviews
    given = {
        "user_id": ALICE, "session_id": f"SESS{MARK}x0", "agent_id": "AGT001", "tool_id": "TL002",
        "process_id": "PRC001", "queue": "review", "allowed": ("approve", "edit", "reject", "respond"),
        "answer_within": timedelta(hours=1), "on_expiry": "reject", "escalate_after": None, "escalate_to": None,
    }  # fmt: skip
    for phase in ("pre", "post"):
        review = reviews.ask(**filled(reviews.ask, phase=phase, **given))
        if phase == "pre":
            reviews.claim(**filled(reviews.claim, which=review, minutes=1.0))
            reviews.release(**filled(reviews.release, which=review, by=canary("Reviews.claim by")))
            told = {"decision": "respond", "arguments": None, "arguments_hash": None}
            reviews.decide(**filled(reviews.decide, which=review, **told))
        else:
            reviews.verdict(**filled(reviews.verdict, which=review, verdict="correct", outcome=None))
    withdrawn = reviews.ask(**filled(reviews.ask, phase="pre", call_id=f"{MARK} withdrawn", **given))
    reviews.cancel(**filled(reviews.cancel, which=withdrawn))


def failing_tool(model: AgentModel) -> None:
    """Let the tool `pay` begin to fail by calls of two users whose texts are all canaries."""
    for number in range(46):
        at = datetime.now(UTC) + timedelta(milliseconds=number)
        model.recorder.record(
            planted(
                ToolExecution, user_id=(ALICE, f"USR{MARK}two")[number % 2], session_id=SESSION, process_id="PRC002",
                agent_id="AGT001", tool_id="TL003", succeeded=number < 40, executed_at=at, call_id=f"{MARK}{number}",
                attempt=number + 1,
            )
        )  # fmt: skip


def functions(model: AgentModel) -> None:
    """Call functions that are tools, in a session of the user and without one."""

    @model.tool(agent="agent 1", domain="store search", cache="user")
    def balance(whose: str) -> str:
        """Return a balance."""
        if whose.endswith("!"):
            raise Declined(canary("error of a function"))
        return canary("balance")

    for argument in (MARK, f"{MARK}!"):
        with suppress(RuntimeError), model.session(ALICE, canary("request"), category=SECRET):
            balance(argument)
        with suppress(RuntimeError):
            balance(argument)


TOKENS = dict.fromkeys(Usage._fields[:-2], 1)
"""What the model took for a call, without its name."""


def traces(model: AgentModel, folder: Path) -> None:
    """Import a trace file with a canary in every field, and a call of a tool that does not exist."""
    record: dict[str, Any] = {"step": 1, "success": False, "started_at": "2026-01-01T00:00:00Z", "user": USER}
    record |= {"ended_at": "2026-01-01T00:00:01Z", "session_success": True, "request_input_tokens": 1} | TOKENS
    record |= {"domain": DOMAIN, "agent": "finder", "tool": "search", "category": SHARED, "request": SIMILAR}
    for name in TraceRecord.model_fields.keys() - record.keys() - {"status"}:
        record[name] = {canary(name): canary(name)} if name in ("arguments", "result") else canary(name)
    made_up = record | {"step": 2, "tool": NOWHERE, "status": "unknown_tool", "error_type": None}
    file = folder / "traces.jsonl"
    file.write_text(f"{json.dumps(record)}\n{json.dumps(made_up)}\n", encoding="utf-8")

    assert [] == model.import_traces(file, strict=True).bad


def tracked(model: AgentModel) -> None:
    """Report events with canaries, as an integration of one's own does."""
    with Tracker(model, domain=DOMAIN) as tracker:
        run = tracker.run(**filled(tracker.run, user=USER, session=f"{MARK} tracked", suggestion_id=None))
        run.turn(**filled(run.turn, calls=[f"{MARK}1"], **TOKENS))
        named = {"agent": "agent 1", "tool": "search"}
        asked = {"call_id": f"{MARK}1", "at": None, "source": ""}
        attempt = run.start(**filled(run.start, **named, **asked))
        run.edited(**filled(run.edited, call_id=f"{MARK}1"))
        run.end(**filled(run.end, attempt=attempt, status="error", **asked))
        times = {"began": None, "at": None, "source": ""}
        run.call(**filled(run.call, status="error", **named, **times))
        run.call(f"{MARK}4", agent="agent 1", tool=NOWHERE, status="unknown_tool")
        run.follow(**filled(run.follow))
        told: dict[str, Any] = {"succeeded": True, "score": None, "source": "person", "agent": None, "at": None}
        run.outcome(**filled(run.outcome, **told))
        tracker.outcome(**filled(tracker.outcome, session=f"{MARK} tracked", user=USER, **told))
        run.finish(True)
        assert tracker.flush()
        assert 0 == tracker.errors


def spans() -> list[dict[str, Any]]:
    """A call as each dialect of spans tells it: every attribute that is read of it is a canary, but for names."""
    names = {text for value in vars(conventions).values() if isinstance(value, tuple) for text in value}
    told = {name: canary(name) for name in names if isinstance(name, str) and "." in name and "usage" not in name}
    told |= dict.fromkeys(("user.id", "enduser.id"), USER)
    told |= dict.fromkeys(("gen_ai.agent.name", "agent.name", "agent_name"), "agent 1")
    told |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "tool.name": "search"}
    gone = told | {"gen_ai.tool.name": NOWHERE, "tool.name": NOWHERE, "gone": "yes"}
    return [told | {"error.type": canary("error type")}, gone]


def span_file(model: AgentModel, folder: Path) -> None:
    """Import a file of spans."""
    from agentmodel.integrations.otlp import import_otlp

    made = [
        {
            "traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "name": "execute_tool search",
            "startTimeUnixNano": "1767225600000000000", "endTimeUnixNano": "1767225601000000000",
            "status": {"code": 2, "message": f"Unknown tool: {NOWHERE}" if "gone" in told else canary("status")},
            "attributes": [
                {"key": key, "value": {"stringValue": text}}
                for key, text in told.items() if "gone" not in told or key != "error.type"
            ],
        }
        for number, told in enumerate(spans())
    ]  # fmt: skip
    file = folder / "spans.json"
    file.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}), encoding="utf-8")

    assert 2 == import_otlp(model, file, domain=DOMAIN).lines


def span_processor(model: AgentModel, _: Path) -> None:
    """Record spans while the program runs."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Status, StatusCode

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model, domain=DOMAIN))
    tracer = provider.get_tracer("the program")
    for told in spans():
        with tracer.start_as_current_span("execute_tool search", attributes=told) as span:
            if "gone" not in told:
                span.record_exception(Declined(canary("exception")))
            what = f"Unknown tool: {NOWHERE}" if "gone" in told else canary("status")
            span.set_status(Status(StatusCode.ERROR, what))
    provider.shutdown()


def langchain(model: AgentModel, _: Path) -> None:
    """Run an agent of LangChain with callback handler and middleware."""
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware
    from agentmodel.integrations.langchain import Tracker as LangChainTracker
    from tests.integration.integrations.scripted_langchain import Scripted

    @tool
    def search(q: str) -> str:
        """Search."""
        return canary("result")

    @tool
    def pay(amount: str) -> str:
        """Pay."""
        raise Declined(canary("exception"))

    with LangChainTracker(model, domain=DOMAIN) as tracker:
        for name in ("search", NOWHERE, "pay"):
            called = {"name": name, "args": {"q": canary("q"), "amount": MARK}, "id": f"{MARK} {name}"}
            turns = [AIMessage(canary("turn"), tool_calls=[called]), AIMessage(canary("answer"))]
            agent: Any = create_agent(
                Scripted(messages=iter(turns)), [search, pay], name="agent 1",
                middleware=[AgentModelMiddleware(tracker, model.guard(review="never", domain=DOMAIN))],
            )  # fmt: skip
            config = {"metadata": WHO, "callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": MARK}}
            with suppress(Declined):
                agent.invoke({"messages": [("user", canary("request"))]}, config)
        assert 0 == tracker.errors


def strands(model: AgentModel, _: Path) -> None:
    """Run an agent of Strands with the hook provider."""
    from strands import Agent as StrandsAgent
    from strands import tool

    from agentmodel.integrations.strands import AgentModelHooks
    from agentmodel.integrations.strands import Tracker as StrandsTracker
    from tests.integration.integrations.scenario import Asked, Turn
    from tests.integration.integrations.strands_agents import Scripted

    @tool
    def search(q: str) -> str:
        """Search."""
        return canary("result")

    @tool
    def pay(q: str) -> str:
        """Pay."""
        raise Declined(canary("exception"))

    calls = tuple(Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay"))
    with StrandsTracker(model, domain=DOMAIN) as tracker:
        agent = StrandsAgent(
            model=Scripted([Turn(calls, 1, 1)]), tools=[search, pay], name="agent 1", callback_handler=None,
            hooks=[AgentModelHooks(tracker, guard=model.guard(review="never", domain=DOMAIN))],
        )  # fmt: skip
        agent(canary("request"), invocation_state=dict(WHO))
        assert tracker.flush()
        assert 0 == tracker.errors


def openai_agents(model: AgentModel, _: Path) -> None:
    """Run an agent of the OpenAI Agents SDK with the recorder's hooks."""
    from agents import Agent as OpenAIAgent
    from agents import RunConfig, Runner, function_tool, set_trace_processors

    from agentmodel.integrations.openai_agents import AgentModelRecorder
    from agentmodel.integrations.openai_agents import Tracker as OpenAITracker
    from tests.integration.integrations.openai_agents_script import scripted, turn
    from tests.integration.integrations.scenario import Asked

    @function_tool
    def search(q: str) -> str:
        """Search."""
        return canary("result")

    @function_tool
    def pay(q: str) -> str:
        """Pay."""
        raise Declined(canary("exception"))

    calls = [Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay")]
    with OpenAITracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        set_trace_processors([recorder])
        agent = OpenAIAgent(name="agent 1", model=scripted(turn(*calls)), tools=[search, pay])
        how = RunConfig(
            tool_error_formatter=recorder.tool_error, tool_not_found_behavior="return_error_to_model",
        )  # fmt: skip
        asyncio.run(Runner.run(agent, canary("request"), context=WHO, hooks=recorder, run_config=how))
        set_trace_processors([])
        assert tracker.flush()
        assert 0 == tracker.errors


def pydantic_ai(model: AgentModel, _: Path) -> None:
    """Run an agent of Pydantic AI with the capability."""
    from pydantic_ai import Tool as PydanticTool

    from agentmodel.integrations.pydantic_ai import AgentModelCapability
    from agentmodel.integrations.pydantic_ai import Tracker as PydanticTracker
    from tests.integration.integrations.pydantic_ai_agents import Scripted, agent_of, run
    from tests.integration.integrations.scenario import Asked, Turn

    def search(q: str) -> str:
        return canary("result")

    def pay(q: str) -> str:
        raise Declined(canary("exception"))

    calls = [Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay")]
    with PydanticTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCapability(tracker, guard=model.guard(review="never", domain=DOMAIN))
        for call in calls:
            scripted = Scripted([Turn((call,), 1, 1)])
            agent = agent_of(scripted, [PydanticTool(search), PydanticTool(pay)], ours, name="agent 1")
            with suppress(Declined):
                run(agent, canary("request"), metadata=WHO)
        assert tracker.flush()
        assert 0 == tracker.errors


def google_adk(model: AgentModel, _: Path) -> None:
    """Run an agent of Google ADK with the plugin."""
    from agentmodel.integrations.google_adk import AgentModelPlugin
    from agentmodel.integrations.google_adk import Tracker as AdkTracker
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of
    from tests.integration.integrations.scenario import Asked, Turn

    def search(q: str) -> str:
        """Search."""
        return canary("result")

    def pay(q: str) -> str:
        """Pay."""
        raise Declined(canary("exception"))

    calls = [Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay")]
    with AdkTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelPlugin(tracker, guard=model.guard(review="never", domain=DOMAIN))
        for call in calls:
            agent = agent_of(Scripted([Turn((call,), 1, 1)]), [search, pay], name="agent_1")
            with suppress(Declined):
                Conversation(agent, ours, user=str(WHO["user_id"])).tell(canary("request"))
        assert tracker.flush()
        assert 0 == tracker.errors


def claude_agent_sdk(model: AgentModel, _: Path) -> None:
    """Run conversations of the Claude Agent SDK with the client."""
    from claude_agent_sdk import tool

    from agentmodel.integrations.claude_agent_sdk import Tracker as ClaudeTracker
    from tests.integration.integrations.claude_agents import ClaudeTalk, text
    from tests.integration.integrations.scenario import Asked, Turn

    @tool("search", "find places", {"q": str})
    async def search(given: Any) -> dict[str, Any]:
        return text(canary("result"))

    @tool("pay", "pay for it", {"q": str})
    async def pay(given: Any) -> dict[str, Any]:
        raise Declined(canary("exception"))

    calls = [Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay")]
    with ClaudeTracker(model, domain=DOMAIN) as tracker:
        guard = model.guard(review="never", domain=DOMAIN)
        user = str(WHO["user_id"])
        turns = [Turn((call,), 1, 1) for call in calls]
        ClaudeTalk(tracker, turns, tools=[search, pay], agent="agent 1", user=user, guard=guard).tell(canary("request"))
        assert tracker.flush()
        assert 0 == tracker.errors


def crewai(model: AgentModel, _: Path) -> None:
    """Run agents of CrewAI with the hooks."""
    from crewai.tools import tool

    from agentmodel.integrations.crewai import AgentModelCrewHooks
    from agentmodel.integrations.crewai import Tracker as CrewTracker
    from tests.integration.integrations.crewai_agents import agent_of, crew_of, scripted
    from tests.integration.integrations.scenario import Asked, Turn

    @tool("search")
    def search(q: str) -> str:
        """Search."""
        return canary("result")

    @tool("pay")
    def pay(q: str) -> str:
        """Pay."""
        raise Declined(canary("exception"))

    calls = [Asked(f"{MARK}{name}", name, {"q": canary("q")}) for name in ("search", NOWHERE, "pay")]
    with CrewTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCrewHooks(tracker, guard=model.guard(review="never", domain=DOMAIN))
        with ours.session(user=str(WHO["user_id"]), request=canary("request")):
            crew_of(
                agent_of(scripted([Turn((call,), 1, 1) for call in calls]), [search, pay], role="agent 1")
            ).kickoff()
        assert tracker.flush()
        assert 0 == tracker.errors


def mcp(model: AgentModel, _: Path) -> None:
    """Record calls through the MCP server, with a canary in every argument that takes one."""
    from mcp import Client

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    async def scenario() -> None:
        caller = Caller(user_id=ALICE, roles=frozenset({"reader", "recorder"}))
        async with Client(mcp_server(model, caller=caller)) as client:
            (tool,) = [each for each in (await client.list_tools()).tools if each.name == "record_execution"]
            fixed = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": False, "session_id": f"SESS{MARK}mcp"}
            unread = {"user_id", "status", "duration_ms"}
            told = {name: canary(name) for name in tool.input_schema["properties"].keys() - fixed.keys() - unread}
            answer = await client.call_tool("record_execution", fixed | told)
            assert not answer.is_error

    asyncio.run(scenario())


RECORDERS: dict[str, tuple[str, Callable[[AgentModel, Path], None]]] = {
    "claude_agent_sdk": ("claude_agent_sdk", claude_agent_sdk),
    "crewai": ("crewai", crewai),
    "google_adk": ("google.adk", google_adk),
    "langchain": ("langchain", langchain),
    "mcp": ("mcp.client.client", mcp),  # from mcp 2 on
    "openai_agents": ("agents", openai_agents),
    "opentelemetry": ("opentelemetry.sdk", span_processor),
    "otlp": ("json", span_file),
    "pydantic_ai": ("pydantic_ai", pydantic_ai),
    "strands": ("strands", strands),
}
"""What records through each integration, and what must be installed for it."""


def recorded_by_alice(model: AgentModel, folder: Path) -> None:
    """Record canaries of one user through everything that is installed, and learn from them."""
    catalogue(model, tools=TOOLS)
    model.repository.put(Domain(domain_id="DMN002", name="train tickets"))  # so that requests are routed
    search = model.repository.tool("AGT001", "TL002")
    assert search is not None
    search.read_only = True
    model.repository.put(search)
    whole_entities(model)
    recorded_runs(model)
    asked_people(model)
    functions(model)
    traces(model, folder)
    tracked(model)
    for needs, record in RECORDERS.values():
        if installed(needs.partition(".")[0]) and installed(needs):
            record(model, folder)
    failing_tool(model)
    model.drain()
    model.refresh()
    model.publish()
    whole_entities(model)
    model.planner.load()
    model.settle()
