"""No entry point keeps a secret: each is given some in every text, and every store, log line and span is searched."""

# ruff: noqa: SIM117 -- a session, its process and its call are nested blocks: that is what is tested
from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from pynamodb.transactions import TransactWrite

from agentmodel import (
    Agent,
    AgentModel,
    AsyncAgentModel,
    Domain,
    Settings,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.models import Review, Suggestion
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.suggest.review import Reviews

MAIL, KEY, CARD, PASSWORD = (
    "canary.person@example.com",
    "sk-proj-CanaryCanary0123456789",
    "4111 1111 1111 1111",
    "hunter2",
)
TEXT = f"ask {MAIL} with {KEY} and {CARD}"
VALUES = {"password": PASSWORD, "q": TEXT, "n": 4111111111111111, "in": [{"api_key": [PASSWORD]}, TEXT]}
NEEDLES = ("canary", "hunter2", "1111 1111", "11111111")
AT = datetime(2025, 6, 14, 9, tzinfo=UTC)


class Odd(Exception):
    """An error of a tool, with secrets in its text."""


def contents(url: str) -> Iterator[bytes]:
    """Everything that Valkey has: each key, and the bytes under it."""
    with closing(redis.Redis.from_url(url.replace("valkey:", "redis:", 1))) as client:
        for key in client.scan_iter():
            kind: Any = client.type(key)
            read: dict[bytes, Callable[[Any], Any]] = {
                b"string": client.get,
                b"hash": client.hgetall,
                b"list": lambda key: client.lrange(key, 0, -1),
                b"set": client.smembers,
                b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
                b"stream": client.xrange,
            }
            yield key
            if kind != b"none":  # it expired meanwhile
                yield repr(read[kind](key)).encode()


class Searched:
    """The stores of a model, and its log lines."""

    def __init__(self, model: AgentModel, url: str, caplog: pytest.LogCaptureFixture) -> None:
        self.model = model
        self.url = url
        self.caplog = caplog

    def found(self) -> list[str]:
        """Where a needle is."""
        places = [repr(item) for item in self.model.table.scan()]
        places += [part.decode() for part in contents(self.url)]
        ours = [record for record in self.caplog.records if record.name.startswith("agentmodel")]
        places += [self.caplog.handler.format(record) for record in ours]
        return [place for place in places if any(needle in place.lower() for needle in NEEDLES)]

    def check(self) -> None:
        """Nothing is found, in the journal and then in the table; and what stands for it is."""
        assert [] == self.found()
        self.model.drain()
        self.model.settle()
        assert [] == self.found()
        stored = " ".join(json.dumps(item) for item in self.model.table.scan())
        assert {"[email]", "[api_key]", "[card]"} == {m for m in ("[email]", "[api_key]", "[card]") if m in stored}


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings, redact=True) as model:
        model.table.create()
        yield model


@pytest.fixture
def searched(model: AgentModel, valkey_url: str, caplog: pytest.LogCaptureFixture) -> Iterator[Searched]:
    with caplog.at_level(logging.DEBUG, logger="agentmodel"):
        yield Searched(model, valkey_url, caplog)


def _recorder(model: AgentModel, folder: Path) -> None:
    with suppress(Odd), model.session("USR001", TEXT, category=f"mail {MAIL} {KEY}", name=TEXT) as session:
        with session.process(TEXT, description=TEXT, prompt=TEXT) as process:
            with process.call("AGT001", "TL001", values=VALUES, tool_name=TEXT) as call:
                call.result = VALUES
            with process.call("AGT001", "TL001", values=TEXT, tool_name="a") as call:
                call.fail(TEXT, error_type=TEXT)
            with process.call("AGT001", "TL002", tool_name="b"):
                raise Odd(TEXT)
    with model.session("USR001", "word " * 39 + MAIL + " " + CARD) as session:  # cut within, for the session's name
        session.fail(TEXT)


def _async_recorder(model: AgentModel, folder: Path) -> None:
    async def record() -> None:
        ours = AsyncAgentModel(model)
        async with ours.session("USR001", TEXT, category=TEXT) as session:
            async with session.process(TEXT, prompt=TEXT) as process:
                async with process.call("AGT001", "TL001", values=VALUES, tool_name="a") as call:
                    call.result = TEXT
            session.succeed(TEXT)

    asyncio.run(record())


def _tools(model: AgentModel, folder: Path) -> None:
    calls = []

    @model.tool(agent="finder", cache="user")
    def search(q: Any, password: str = PASSWORD) -> Any:
        """Ask canary.person@example.com."""
        calls.append(q)
        return {"q": q, "password": password}

    @model.tool(agent="finder")
    def broken(q: Any) -> Any:
        raise Odd(q)

    @model.tool(agent="finder", cache="user")
    async def later(q: Any) -> Any:
        return q

    with model.session("USR001", TEXT) as session, session.process(TEXT):
        answers = [search(VALUES), search(VALUES)]
        with pytest.raises(Odd) as caught:
            broken(TEXT)
        assert TEXT == asyncio.run(later(TEXT)) == asyncio.run(later(TEXT))
    assert TEXT == search(TEXT)["q"]  # a session of its own

    assert [{"q": VALUES, "password": PASSWORD}] * 2 == answers  # never a cached answer with marks in it
    assert TEXT == str(caught.value)
    assert 0 == model.functions.errors


def _tracker(model: AgentModel, folder: Path) -> None:
    with Tracker(model, domain="support") as tracker:
        run = tracker.run("thread", user="ada", request=TEXT, category=TEXT)
        run.turn(TEXT, calls=["c1", "c2"])
        run.end("c1", run.start("c1", agent="finder", tool="search", arguments=VALUES), status="ok", result=VALUES)
        attempt = run.start("c2", agent="finder", tool="search", arguments=json.dumps(VALUES))
        run.end("c2", attempt, status="error", result=TEXT, error_type=TEXT)
        run.finish()
    assert 0 == tracker.errors


def _langchain(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("langchain", reason="the extra langchain is not installed")
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware
    from tests.integration.integrations.scripted_langchain import Scripted

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    said = [AIMessage("", tool_calls=[{"name": "search", "args": {"q": TEXT}, "id": "c1"}]), AIMessage("done")]
    with Tracker(model, domain="support") as tracker:
        ours = AgentModelMiddleware(tracker, model.guard())
        agent: Any = create_agent(Scripted(messages=iter(said)), [search], name="finder", middleware=[ours])
        config = {"callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": "t1", "user_id": "ada"}}
        answer = agent.invoke({"messages": [("user", TEXT)]}, config)
    assert 0 == tracker.errors
    assert TEXT == answer["messages"][-2].text  # the agent itself reads what the tool said


def _strands(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("strands", reason="the extra strands is not installed")
    from strands import Agent as StrandsAgent

    from agentmodel.integrations.strands import AgentModelHooks
    from tests.integration.integrations.scenario import Asked, Turn
    from tests.integration.integrations.strands_agents import STATE, Scripted, broken, search

    turns = [Turn((Asked("c1", "search", {"q": TEXT}), Asked("c2", "broken", {"q": TEXT})), 1, 1)]
    with Tracker(model, domain="support") as tracker:
        hooks: Any = [AgentModelHooks(tracker)]
        agent = StrandsAgent(Scripted(turns), tools=[search, broken], name="finder", callback_handler=None, hooks=hooks)
        agent(TEXT, invocation_state=STATE)
    assert 0 == tracker.errors


def _pydantic_ai(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")
    from agentmodel.integrations.pydantic_ai import AgentModelCapability
    from tests.integration.integrations.pydantic_ai_agents import Scripted, agent_of, broken, search, told
    from tests.integration.integrations.scenario import Asked, Turn

    turns = [Turn((Asked(f"c{n}", name, {"q": TEXT}),), 1, 1) for n, name in enumerate(("search", "broken"))]
    with Tracker(model, domain="support") as tracker:
        agent = agent_of(Scripted(turns), [search, broken], AgentModelCapability(tracker))
        with pytest.raises(ValueError, match="no route"):
            told(agent, TEXT)
    assert 0 == tracker.errors


def _google_adk(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("google.adk", reason="the extra google-adk is not installed")
    from agentmodel.integrations.google_adk import AgentModelPlugin
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of, broken, search
    from tests.integration.integrations.scenario import Asked, Turn

    turns = [Turn((Asked(f"c{n}", name, {"q": TEXT}),), 1, 1) for n, name in enumerate(("search", "broken"))]
    with Tracker(model, domain="support") as tracker:
        with pytest.raises(ValueError, match="no route"):
            Conversation(agent_of(Scripted(turns), [search, broken]), AgentModelPlugin(tracker)).tell(TEXT)
    assert 0 == tracker.errors


def _claude_agent_sdk(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra claude-agent-sdk is not installed")
    from tests.integration.integrations.claude_agents import PROGRAM, ClaudeTalk, broken, search
    from tests.integration.integrations.scenario import Asked, Turn

    if not PROGRAM:
        pytest.skip("the program of the Claude Agent SDK is not installed")
    turns = [Turn((Asked(f"c{n}", name, {"q": TEXT}),), 1, 1) for n, name in enumerate(("search", "broken"))]
    with Tracker(model, domain="support") as tracker:
        ClaudeTalk(tracker, turns, tools=[search, broken]).tell(TEXT)
    assert 0 == tracker.errors


def _crewai(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("crewai", reason="the extra crewai has an environment of its own: make test-crewai")
    from agentmodel.integrations.crewai import AgentModelCrewHooks
    from tests.integration.integrations.crewai_agents import agent_of, broken, crew_of, scripted, search
    from tests.integration.integrations.scenario import Asked, Turn

    turns = [Turn((Asked(f"c{n}", name, {"q": TEXT}),), 1, 1) for n, name in enumerate(("search", "broken"))]
    with Tracker(model, domain="support") as tracker:
        with AgentModelCrewHooks(tracker).session("t1", user="ada"):
            crew_of(agent_of(scripted(turns), [search, broken]), description=TEXT).kickoff()
    assert 0 == tracker.errors


def _openai_agents(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("agents", reason="the extra openai-agents is not installed")
    from agents import Agent as OpenAIAgent
    from agents import RunConfig, add_trace_processor, set_trace_processors

    from agentmodel.integrations.openai_agents import AgentModelRecorder
    from tests.integration.integrations.openai_agents_script import broken, run, scripted, search, turn
    from tests.integration.integrations.scenario import Asked

    said = scripted(turn(Asked("c1", "search", {"q": TEXT})), turn(Asked("c2", "broken", {"q": TEXT})))
    with Tracker(model, domain="support") as tracker:
        recorder = AgentModelRecorder(tracker)
        set_trace_processors([])
        add_trace_processor(recorder)
        config = RunConfig(group_id="t1", trace_metadata={"user_id": "ada"}, tool_error_formatter=recorder.tool_error)
        try:
            run(OpenAIAgent(name="finder", model=said, tools=[search, broken]), TEXT, hooks=recorder, run_config=config)
        finally:
            set_trace_processors([])
    assert 0 == tracker.errors


def _spans(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
    from opentelemetry.sdk.trace import TracerProvider

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    provider = TracerProvider()
    processor = AgentModelSpanProcessor(model, domain="cafes")
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("tests")
    asked = json.dumps([{"role": "user", "parts": [{"type": "text", "content": TEXT}]}])
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "finder", "gen_ai.input.messages": asked}
    with tracer.start_as_current_span("invoke_agent finder", attributes=agent):
        call = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.arguments": json.dumps(VALUES),
            "gen_ai.tool.call.result": TEXT,
        }
        with tracer.start_as_current_span("execute_tool search", attributes=call):
            pass
        with pytest.raises(Odd), tracer.start_as_current_span("execute_tool search", attributes=call):
            raise Odd(TEXT)
    provider.shutdown()


LINE = {
    "domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": 1, "tool": "search", "success": False,
    "arguments": VALUES, "result": TEXT, "error_type": MAIL, "category": f"mail {MAIL}", "request": "word " * 39 + TEXT,
    "started_at": "2025-06-13T09:00:00Z",
}  # fmt: skip


def _traces(model: AgentModel, folder: Path) -> None:
    path = folder / "traces.jsonl"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    assert 1 == model.import_traces(path).lines
    assert 1 == model.import_traces(path).repeated


def _otlp(model: AgentModel, folder: Path) -> None:
    from agentmodel.integrations.otlp import import_otlp

    told = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.arguments": json.dumps(VALUES),
        "gen_ai.tool.call.result": TEXT,
        "error.type": MAIL,
        "user.id": "kim",
    }
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "execute_tool search",
        "startTimeUnixNano": "1749805200000000000", "endTimeUnixNano": "1749805201000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in told.items()],
    }  # fmt: skip
    path = folder / "spans.json"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}), encoding="utf-8")
    assert 1 == import_otlp(model, path, domain="cafes").lines


def _command(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("typer", reason="the command line is an extra")
    from agentmodel.cli import main

    path = folder / "traces.jsonl"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in model.settings.model_dump(exclude_unset=True).items():
            given = getattr(model.settings, name)
            secret = given.get_secret_value() if hasattr(given, "get_secret_value") else str(given)
            environment.setenv(f"AGENTMODEL_{name.upper()}", secret if value is not None else "")
        environment.setenv("AGENTMODEL_REDACT", "on")
        assert 0 == main(["import", str(path)])


def _mcp(model: AgentModel, folder: Path) -> None:
    pytest.importorskip("mcp", reason="the MCP server is an extra")
    from mcp import Client

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    async def record() -> None:
        caller = Caller(user_id="USR001", roles=frozenset({"reader", "recorder"}))
        async with Client(mcp_server(model, caller=caller)) as client:
            call = {
                "agent_id": "AGT001", "tool_id": "TL001", "arguments": VALUES, "result": TEXT, "succeeded": False,
                "error_type": MAIL, "request": TEXT, "category": f"mail {MAIL}",
            }  # fmt: skip
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            known = tools["record_execution"].input_schema["properties"]
            given = {name: value for name, value in call.items() if name in known}
            assert not (await client.call_tool("record_execution", given)).is_error

    model.repository.put(Agent(agent_id="AGT001", domain_id="DMN001", name="finder"))
    model.repository.put(Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search"))
    asyncio.run(record())


def _reviews(model: AgentModel, folder: Path) -> None:
    reviews = model.reviews
    with model.session("USR001", TEXT) as session:
        for decision, more in (("reject", {}), ("respond", {"response": TEXT}), ("approve", {})):
            asked = reviews.ask(
                "USR001", session.session_id, TEXT, arguments=VALUES, reason=TEXT, agent_id="AGT001", tool_id="TL001"
            )
            reviews.claim(asked, "kim")
            reviews.decide(asked, decision, "kim", reason=TEXT, **more)  # type: ignore[arg-type]  # one after the other
        gone = reviews.ask("USR001", session.session_id, TEXT, arguments=TEXT)
        reviews.cancel(gone, "kim", reason=TEXT)
    judged = reviews.ask("USR001", session.session_id, TEXT, phase="post", reason=TEXT)
    reviews.verdict(judged, "wrong", "kim", reason=TEXT)


def _suggestions(model: AgentModel, folder: Path) -> None:
    model.repository.put(
        Domain(domain_id="DMN001", name="cafes"), Agent(agent_id="AGT001", domain_id="DMN001", name="a")
    )
    plan = model.suggest("USR001", request="word " * 397 + TEXT, category=TEXT, domain_id="DMN001")
    model.guard().plan("USR001", request=TEXT, domain_id="DMN001")
    with model.session("USR001", TEXT, plan=plan):
        pass


def entities(suffix: str = "1") -> list[Any]:
    """An entity of every kind, with a secret in every text, and in an attribute that its class does not know."""
    user: dict[str, Any] = {"user_id": f"USR{suffix}"}
    run = {**user, "session_id": "SESS1"}
    agent: dict[str, Any] = {"agent_id": f"AGT{suffix}", "domain_id": "DMN1", "name": TEXT, "description": TEXT}
    made: list[Any] = [
        Domain(domain_id=f"DMN{suffix}", name=TEXT, description=TEXT),
        Agent(**agent),
        Tool(**agent, tool_id="TL1", spec={"properties": {"password": {"default": TEXT}}}, last_error=TEXT,
             health_note=TEXT),
        User(**user, name=TEXT, profile=VALUES),
        UserSession(**run, name=TEXT, summary=TEXT, detail_location=TEXT, request=TEXT, category=TEXT),
        UserSessionProcess(**run, process_id="PRC001", name=TEXT, prompt=TEXT, description=TEXT),
        ToolExecution(**run, process_id="PRC001", agent_id="AGT1", tool_id="TL1", tool_name=TEXT, succeeded=False,
                      values=json.dumps(VALUES), result=TEXT, error_type=TEXT),
        UserToolMapping(**user, category=f"mail {MAIL} {KEY}", processes={"1": TEXT}, agents={"1": TEXT},
                        tools={"1": TEXT}, requests=[TEXT]),
        Review(**run, review_id="r1", question=TEXT, arguments=VALUES, reason=TEXT, decision_reason=TEXT,
               final_arguments=VALUES, response=TEXT),
        Suggestion(**user, suggestion_id="s1", suggested_at=AT, source="domain", request=TEXT, category=TEXT,
                   candidates={}, steps=[]),
    ]  # fmt: skip
    for entity in made:
        entity.extra = {"Later": {"M": {"a": {"L": [{"S": TEXT}, {"N": "12345"}]}}}, "More": {"SS": [TEXT]}}
    return made


def _put(model: AgentModel, folder: Path) -> None:
    model.repository.put(*entities())
    for entity in entities("2"):
        model.repository.put(entity)
    for entity in entities("3"):
        model.repository.put_new(entity)
    model.writer.transact(put=entities("4"), put_new=entities("5"))
    for entity in entities("6"):
        model.writer.save(entity)


def _update(model: AgentModel, folder: Path) -> None:
    model.repository.put(Agent(agent_id="AGT001", domain_id="DMN001", name="finder"), User(user_id="USR001", name="a"))
    model.repository.update(Agent.at("AGT001"), Agent.description.to(TEXT))
    model.repository.update(User.at("USR001"), User.profile.to(VALUES), User.name.to(TEXT))


def _pynamodb(model: AgentModel, folder: Path) -> None:
    with model.table.bound():
        for entity in entities():
            entity.save()
        with User.batch_write() as batch:
            batch.save(User(user_id="USR002", name=TEXT, profile=VALUES))
        changes: list[Any] = [User.profile.set(VALUES)]
        User(user_id="USR002", name="a").update(changes)
        session = UserSession(user_id="USR002", session_id="SESS2", name="a")
        session.save()
        changes = [UserSession.summary.set(UserSession.detail_location | TEXT)]  # the text, if there is no location
        session.update(changes)
        connection: Any = session._get_connection().connection
        with TransactWrite(connection=connection) as transaction:
            transaction.save(UserSession(user_id="USR002", session_id="SESS3", name=TEXT, request=TEXT))
            transaction.update(session, actions=[UserSession.request.set(TEXT)])


def _history(model: AgentModel, folder: Path) -> None:
    session, process, call = entities()[4:7]
    model.recorder.record_many([session, process])
    receipt = model.recorder.record(call)
    assert TEXT not in str(receipt.entity)


ENTRY_POINTS: dict[str, Callable[[AgentModel, Path], None]] = {
    "the recorder": _recorder,
    "the recorder of asyncio": _async_recorder,
    "model.tool": _tools,
    "a tracker": _tracker,
    "LangChain": _langchain,
    "Strands": _strands,
    "OpenAI Agents": _openai_agents,
    "Pydantic AI": _pydantic_ai,
    "Google ADK": _google_adk,
    "Claude Agent SDK": _claude_agent_sdk,
    "CrewAI": _crewai,
    "spans": _spans,
    "trace files": _traces,
    "OTLP files": _otlp,
    "the command import": _command,
    "MCP": _mcp,
    "reviews": _reviews,
    "suggestions": _suggestions,
    "put": _put,
    "update": _update,
    "PynamoDB's own methods": _pynamodb,
    "entities of the history": _history,
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_no_entry_point_keeps_a_secret(searched: Searched, entry_point: str, tmp_path: Path) -> None:
    """Whatever a text comes in by, no store, cache, journal or log line has a secret of it, and the rest is kept."""
    ENTRY_POINTS[entry_point](searched.model, tmp_path)

    searched.check()


def test_without_valkey(settings: Settings, valkey_url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Writes that go straight into the table are redacted as well."""
    given = settings.model_copy(update={"valkey_url": None})
    with AgentModel.from_settings(given, redact=True) as model:
        model.table.create()
        for write in (_recorder, _tools, _reviews, _put):
            write(model, tmp_path)
        searched = Searched(model, valkey_url, caplog)

        assert [] == searched.found()
        assert "[email]" in " ".join(map(repr, model.table.scan()))


def test_what_is_published_and_reported(searched: Searched, tmp_path: Path) -> None:
    """The warehouse, and what a publish writes back, have no secret; a plan is found by the text that had one."""
    pytest.importorskip("duckdb", reason="the warehouse is an extra")
    model = searched.model
    category = f"mail {MAIL}"
    domain = Domain(domain_id="DMN001", name="cafes")
    model.repository.put(domain, Agent(agent_id="AGT001", domain_id="DMN001", name="finder"))
    model.repository.put(Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search"))
    for _ in range(3):
        with model.session("USR001", TEXT, category=category) as session, session.process(TEXT) as process:
            with process.call("AGT001", "TL001", values=VALUES) as call:
                call.result = TEXT
        with model.session("USR001", TEXT, category=category) as session, session.process(TEXT) as process:
            with process.call("AGT001", "TL001", values=VALUES) as call:
                call.fail(TEXT)
    model.drain()
    model.refresh()
    model.publish()

    searched.check()
    assert "own mapping" == model.suggest("USR001", category=category).source
    assert "own similar request" == model.suggest("USR001", request=TEXT).source
    with model.warehouse.engine.connect() as connection:
        tables = [name for (name,) in connection.exec_driver_sql("SELECT table_name FROM duckdb_tables()")]
        rows = [repr(row) for name in tables for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"')]
    assert [] == [row for row in rows if any(needle in row.lower() for needle in NEEDLES)]
    assert "[email]" in " ".join(rows)


def test_tokens_keep_equal_values_equal(settings: Settings) -> None:
    """With tokens, two sessions about one person still are about one, and learning goes on."""
    key = SecretStr("a secret of sixteen characters")
    with AgentModel.from_settings(settings.model_copy(update={"redact_key": key}), redact="token") as model:
        model.table.create()
        for to in (MAIL, MAIL.upper(), "nina@example.com"):
            with model.session("USR001", f"write to {to}") as session:
                session.succeed()
        requests = [session.request for session in model.repository.sessions("USR001", newest_first=False)]

    assert requests[0] == requests[1] != requests[2]
    assert MAIL not in str(requests)


def test_spans_have_no_secret(searched: Searched) -> None:
    """The spans and events that agentmodel emits are made of what is kept."""
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from agentmodel.integrations.opentelemetry import emit

    spans, events = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # theirs
    traced, logged = TracerProvider(), LoggerProvider()
    traced.add_span_processor(SimpleSpanProcessor(spans))
    logged.add_log_record_processor(SimpleLogRecordProcessor(events))
    emit(searched.model, tracer_provider=traced, logger_provider=logged, content=True)
    _recorder(searched.model, Path())
    _reviews(searched.model, Path())
    told = [span.to_json() for span in spans.get_finished_spans()]
    told += [str(event.log_record.attributes) for event in events.get_finished_logs()]

    assert len(told) > 3
    assert [] == [each for each in told if any(needle in each.lower() for needle in NEEDLES)]
    assert "[email]" in " ".join(told)


# People who decide


def test_an_approved_call_is_made_with_its_own_arguments(model: AgentModel) -> None:
    """Reviewers see redacted arguments; the tool gets those of the call, also where an edit left them as shown."""
    got: list[Any] = []

    @model.tool(agent="payer", review="always")
    def pay(to: str, amount: int) -> str:
        got.append((to, amount))
        return "paid"

    for amount, decide in ((7, {"decision": "approve"}), (8, {"decision": "edit", "change": {"amount": 5}})):
        with model.session("USR001", "pay", session_id=f"SESS{amount}"):
            with pytest.raises(Exception, match=r"approv|decid|person"):
                pay(MAIL, amount)
            (review,) = model.reviews.inbox()
            assert {"to": "[email]", "amount": amount} == review.arguments
            change = decide.get("change")
            edited = None if change is None else review.arguments | change
            model.reviews.decide(review, decide["decision"], "kim", arguments=edited)  # type: ignore[arg-type]  # as above
            assert "paid" == pay(MAIL, amount)

    assert [(MAIL, 7), (MAIL, 5)] == got


@pytest.mark.parametrize(
    "edited", [{"to": "nina@example.com"}, {"to": "nina and [email]"}, {"password": "new"}, {"to": {1, 2}}]
)
def test_an_edit_that_cannot_be_kept_is_refused(model: AgentModel, edited: Any) -> None:
    """Edited arguments of which a part would be redacted are refused, since the tool would get the mark."""
    with model.session("USR001", "pay") as session:
        asked = model.reviews.ask("USR001", session.session_id, "Pay?", arguments={"to": MAIL})

    with pytest.raises(ValidationError, match="arguments") as caught:
        model.reviews.decide(asked, "edit", "kim", arguments=edited)

    assert "nina@" not in str(caught.value)
    assert "pending" == model.reviews.status(Reviews.reference(asked))


def test_an_answer_is_valid_for_the_arguments_of_the_call(model: AgentModel) -> None:
    """An approval is checked against the arguments as they were before they were redacted."""
    with model.session("USR001", "pay") as session:
        asked = model.reviews.ask("USR001", session.session_id, "Pay?", arguments={"to": MAIL})
    model.reviews.decide(asked, "approve", "kim")
    answer = model.reviews.answer(asked)
    assert answer is not None

    answer.check({"to": MAIL})
    with pytest.raises(Exception, match="other arguments"):
        answer.check({"to": "[email]"})
