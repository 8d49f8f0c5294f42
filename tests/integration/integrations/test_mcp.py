"""The MCP server, driven by the official client: both transports, both protocol modes, real engines."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra")

import httpx2
import uvicorn
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, TextResourceContents
from pydantic import BaseModel

from agentmodel import AgentModel, Review, Settings
from agentmodel.callers import ROLES, Caller, Role, Tokens
from agentmodel.embedded import Engines
from agentmodel.embedded._ports import free_port
from agentmodel.exceptions import ConfigurationError, TableUnavailable
from agentmodel.integrations.mcp import http_security, mcp_server
from agentmodel.integrations.mcp._schemas import (
    AgentList,
    DomainList,
    NextToolList,
    OpenReviews,
    OutcomeResult,
    Question,
    Ranking,
    RecordResult,
    Route,
    Saved,
    Savings,
    SessionList,
    ToolCatalogue,
    ToolList,
)
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import Reviews
from tests.forks import forking
from tests.integration.suggest_world import TODAY, catalogue, learn, run

USER, OTHER, JUDGE = "USR001", "USR002", "USR003"
ALLOWED: dict[str, set[str]] = {
    "list_domains": {"reader", "operator"},
    "list_agents": {"reader", "operator"},
    "list_tools": {"reader", "operator"},
    "route_request": {"reader", "operator"},
    "recommend_process": {"reader", "operator"},
    "next_tools": {"reader", "operator"},
    "agent_ranking": {"reader", "operator"},
    "tool_health": {"reader", "operator"},
    "session_history": {"reader", "operator"},
    "record_execution": {"recorder", "operator"},
    "record_outcome": {"recorder", "operator"},
    "list_reviews": {"reviewer"},
    "decide_review": {"reviewer"},
    "savings_report": {"operator"},
    "agentmodel://domains/DMN001/agents": {"reader", "operator"},
    "agentmodel://users/USR001/processes": {"reader", "operator"},
}
GIVES: dict[str, type[BaseModel]] = {
    "list_domains": DomainList,
    "list_agents": AgentList,
    "list_tools": ToolCatalogue,
    "route_request": Route,
    "recommend_process": Plan,
    "next_tools": NextToolList,
    "agent_ranking": Ranking,
    "tool_health": ToolList,
    "session_history": SessionList,
    "record_execution": RecordResult,
    "record_outcome": OutcomeResult,
    "list_reviews": OpenReviews,
    "decide_review": Question,
    "savings_report": Savings,
}
LIBRARIES = (
    "botocore.session",
    "mcp.server.auth.provider",
    "mcp.server.elicitation",
    "mcp.server.mcpserver",
    "opentelemetry.trace",
    "pydantic_settings",
    "redis",
    "typer",
)
"""What the command of the server loads besides agentmodel."""
MODES = ["auto", "legacy"]
TRANSPORTS = ["stdio", "http"]
CALL = {"agent_id": "AGT001", "tool_id": "TL001", "arguments": {"near": "park"}, "result": "found", "succeeded": True}


@dataclass
class World:
    """A running stack with a learnt history, and an HTTP server that knows a token for every user and role."""

    folder: Path
    model: AgentModel
    url: str
    saved: Savings
    fork: list[str]
    """What runs the command in a fork; the tests of how the command starts and ends start a real one."""

    def ask(self, user_id: str = USER) -> str:
        """A question about a session of a user."""
        asked = self.model.reviews.ask(
            user_id, "SESS1", "Cancel the order?", arguments={"order": "W1"}, agent_id="AGT001", tool_id="TL002"
        )
        return Reviews.reference(asked)

    def ask_how(self, user_id: str = USER) -> str:
        """A question how a run of a user went, which succeeded as far as anybody knows."""
        session = run(self.model, user_id, failing=[2])
        return Reviews.reference(self.model.reviews.ask(user_id, session, "Was it what they wanted?", phase="post"))

    def review(self, which: str) -> Review:
        return self.model.reviews.get(which)


def token(user: str, *roles: str) -> str:
    return "-".join(("secret", user, *sorted(roles)))


def entry(user: str, *roles: str) -> dict[str, Any]:
    """A line of the token file."""
    return {"sha256": hashlib.sha256(token(user, *roles).encode()).hexdigest(), "user_id": user, "roles": roles}


@contextmanager
def served(app: Any, port: int) -> Iterator[None]:
    """An HTTP server in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        answering(f"http://127.0.0.1:{port}/", thread.is_alive)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def answering(url: str, alive: Callable[[], bool]) -> None:
    """Wait until something answers there."""
    until = time.monotonic() + 60
    with httpx2.Client(trust_env=False) as client:
        while True:
            try:
                client.get(url)
            except httpx2.TransportError:
                assert alive(), "the server ended"
                assert time.monotonic() < until, "the server does not answer"
                threading.Event().wait(0.02)
            else:
                return


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The stack, learnt, and served."""
    folder = tmp_path_factory.mktemp("mcp") / ".agentmodel"
    plain = Settings(endpoint=None, valkey_url=None, warehouse_url=None)
    with Engines(folder, settings=plain.model_copy()) as engines:
        with AgentModel.from_settings(engines.settings) as model:
            model.table.create()
            catalogue(model)
            run(model, USER)
            run(model, OTHER, failing=[2], succeeded=False)
            learn(model)
            model.publish(as_of=TODAY)
            saved = Savings(rows=tuple(Saved.model_validate(row) for row in model.savings()))
        users = [(user, (role,)) for user in (USER, OTHER, JUDGE) for role in ROLES]
        path = folder.parent / "tokens.json"
        path.write_text(json.dumps([entry(user, *roles) for user, roles in [*users, (USER, ())]]), encoding="utf-8")
        port = free_port()
        with AgentModel.from_settings(engines.settings) as model:
            server = mcp_server(model, verifier=Tokens.of_file(path))
            security = http_security("127.0.0.1", port, verified=True)
            with served(server.streamable_http_app(transport_security=security), port), forking(*LIBRARIES) as fork:
                yield World(folder, model, f"http://127.0.0.1:{port}/mcp", saved, fork)


def over_stdio(world: World, user: str, *roles: str, mode: str, elicited: ElicitationFnT | None = None) -> Client:
    named = [part for role in roles for part in ("--role", role)]
    command, *before = world.fork
    args = [*before, "-m", "agentmodel", "--dir", str(world.folder), "mcp", "--user", user, *named]
    server = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    return Client(server, mode=mode, elicitation_callback=elicited)


@asynccontextmanager
async def over_http(
    url: str, bearer: str | None, *, mode: str, elicited: ElicitationFnT | None = None
) -> AsyncIterator[Client]:
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, elicitation_callback=elicited) as client,
    ):
        yield client


@pytest.fixture(params=[(transport, mode) for transport in TRANSPORTS for mode in MODES], ids="-".join)
def connect(request: pytest.FixtureRequest, world: World) -> Callable[..., Any]:
    """A client of a user with a role, over each transport in each protocol mode."""
    transport, mode = request.param

    def connected(user: str, role: str, elicited: ElicitationFnT | None = None) -> Any:
        if transport == "stdio":
            return over_stdio(world, user, role, mode=mode, elicited=elicited)
        return over_http(world.url, token(user, role), mode=mode, elicited=elicited)

    return connected


def given(result: CallToolResult) -> dict[str, Any]:
    """The structured content of an answer that is no error."""
    assert not result.is_error, told(result)
    assert result.structured_content is not None
    return result.structured_content


def told(result: CallToolResult) -> str:
    """The text of an answer."""
    return "".join(getattr(block, "text", "") for block in result.content)


def answering_form(action: Any, **content: Any) -> tuple[ElicitationFnT, list[str]]:
    """A person who answers every form so, and the questions asked."""
    asked: list[str] = []

    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action=action, content=content or None)

    return answer, asked


def test_tools_have_schemas(connect: Callable[..., Any]) -> None:
    """Eight tools and two resources are offered, each tool with the schema of the model of what it gives."""

    async def scenario() -> None:
        async with connect(USER, "reader") as client:
            tools = (await client.list_tools()).tools
            templates = (await client.list_resource_templates()).resource_templates

            assert {name for name in ALLOWED if "://" not in name} == {tool.name for tool in tools}
            assert all(tool.output_schema and tool.description for tool in tools)
            assert {name: model.model_json_schema(mode="serialization") for name, model in GIVES.items()} == {
                tool.name: tool.output_schema for tool in tools
            }
            assert [
                "agentmodel://domains/{domain_id}/agents{?cursor}",
                "agentmodel://users/{user_id}/processes{?cursor}",
            ] == [each.uri_template for each in templates]
            assert not any("ctx" in tool.input_schema["properties"] for tool in tools if tool.input_schema)

    asyncio.run(scenario())


def test_reads_what_is_known(connect: Callable[..., Any]) -> None:
    """A plan, a ranking, the health of tools and sessions come back as data."""

    async def scenario() -> None:
        async with connect(USER, "reader") as client:
            plan = given(await client.call_tool("recommend_process", {"category": "cafe search"}))
            ranking = given(await client.call_tool("agent_ranking", {"domain_id": "DMN001"}))
            health = given(await client.call_tool("tool_health", {"domain_id": "DMN001"}))
            sessions = given(await client.call_tool("session_history", {}))
            first = sessions["sessions"][-1]["session_id"]
            calls = given(await client.call_tool("session_history", {"session_id": first}))
            read = await client.read_resource("agentmodel://domains/DMN001/agents")

            assert "AGT001" == plan["agent_id"]
            assert "AGT001" == ranking["agents"][0]["agent_id"]
            assert "DMN001" == health["domain_id"]
            assert USER == sessions["user_id"]
            assert ["TL001", "TL002", "TL003"] == [call["tool_id"] for call in calls["calls"]]
            assert isinstance(read.contents[0], TextResourceContents)
            assert ranking == json.loads(read.contents[0].text)
            best = await client.read_resource(f"agentmodel://users/{USER}/processes")
            assert isinstance(best.contents[0], TextResourceContents)
            (process,) = json.loads(best.contents[0].text)["processes"]
            assert ("cafe search", True) == (process["category"], process["score"] > 0)
            assert Plan.model_validate(plan).agent_id == plan["agent_id"]

    asyncio.run(scenario())


def test_no_id_has_to_be_known(connect: Callable[..., Any]) -> None:
    """A client finds domain, agents and tools from nothing but a request."""

    async def scenario() -> None:
        async with connect(USER, "reader") as client:
            (domain,) = given(await client.call_tool("list_domains", {}))["domains"]
            (match,) = given(await client.call_tool("route_request", {"request": "store search"}))["domains"]
            agents = given(await client.call_tool("list_agents", {"domain_id": domain["domain_id"]}))["agents"]
            tools = given(await client.call_tool("list_tools", {"agent_id": agents[0]["agent_id"]}))["tools"]

            assert domain["domain_id"] == match["domain_id"]
            assert ("store search", "descriptions") == (match["name"], match["basis"])
            assert "AGT001" == agents[0]["agent_id"]
            assert ["format", "locate", "search"] == sorted(tool["name"] for tool in tools)

    asyncio.run(scenario())


def test_the_next_tool_is_told(connect: Callable[..., Any], world: World) -> None:
    """In a recorded session, and by the tools called so far, the likely tools are those that the model predicts."""
    session = run(world.model, USER, tools=(1,))
    world.model.drain()
    expected = world.model.planner.next_tools(USER, agent_id="AGT001", done=["locate"], category="cafe search")

    async def scenario() -> None:
        async with connect(USER, "reader") as client:
            recorded = given(await client.call_tool("next_tools", {"session_id": session}))
            arguments = {"agent_id": "AGT001", "done": ["TL001"], "category": "cafe search", "limit": 1}
            found = given(await client.call_tool("next_tools", arguments))
            refused = [
                await client.call_tool("next_tools", wrong)
                for wrong in ({}, arguments | {"session_id": session}, {"session_id": "SESSnone"})
            ]

            assert (["locate"], "search") == (recorded["done"], recorded["tools"][0]["tool"])
            assert ["search"] == [each["tool"] for each in found["tools"]]
            assert expected.tools[0].probability == found["tools"][0]["probability"]
            assert all(each.is_error for each in refused)
            assert "must be given where no session_id is" in told(refused[0])
            assert "cannot be combined" in told(refused[1])

    asyncio.run(scenario())


def test_operators_read_what_was_saved(connect: Callable[..., Any], world: World) -> None:
    """The savings of all categories come back as the installation has them."""

    async def scenario() -> dict[str, Any]:
        async with connect(USER, "operator") as client:
            return given(await client.call_tool("savings_report", {}))

    assert world.saved == Savings.model_validate(asyncio.run(scenario()))


def test_bad_arguments_are_told(connect: Callable[..., Any]) -> None:
    """An argument that is missing, out of range or no id is named, with what would be right."""
    wrong: list[dict[str, Any]] = [{}, {"domain_id": "DMN001", "limit": 1000}, {"domain_id": "AGT001"}]

    async def scenario() -> list[str]:
        async with connect(USER, "reader") as client:
            results = [await client.call_tool("agent_ranking", each) for each in wrong]
            assert all(result.is_error for result in results)
            return [told(result) for result in results]

    missing, many, no_id = asyncio.run(scenario())

    assert "domain_id\n  Field required" in missing
    assert "limit\n  Input should be less than or equal to 100" in many
    assert "must be the id or the name of a domain" in no_id


def test_records_for_the_caller(connect: Callable[..., Any], world: World) -> None:
    """A recorded call stands in the caller's own session; with its id it is recorded once however often it is sent."""

    async def scenario() -> tuple[dict[str, Any], dict[str, Any]]:
        async with connect(OTHER, "recorder") as client:
            first = given(await client.call_tool("record_execution", CALL | {"category": "by mcp"}))
            same = {"session_id": first["session_id"], "call_id": "call-2", "succeeded": False, "error_type": "Timeout"}
            await client.call_tool("record_execution", CALL | same)
            return first, given(await client.call_tool("record_execution", CALL | same))

    first, again = asyncio.run(scenario())
    history = world.model.repository.session_history(OTHER, first["session_id"])

    assert (OTHER, OTHER) == (first["user_id"], again["user_id"])
    assert [(True, None), (False, "Timeout")] == [(call.succeeded, call.error_type) for call in history.executions]


def test_a_call_that_was_made_elsewhere_is_recorded_as_it_was(world: World) -> None:
    """Status and duration are what the caller says; a duration that nobody says is not known."""
    recorder = Caller(user_id=USER, roles=frozenset({"recorder"}))
    failed = CALL | {"succeeded": False, "status": "rejected"}
    told_of = [CALL, CALL | {"status": "edited", "duration_ms": 40}, failed]

    async def scenario() -> tuple[str, CallToolResult]:
        async with Client(mcp_server(world.model, caller=recorder)) as client:
            session: dict[str, Any] = {}
            for each in told_of:
                made = given(await client.call_tool("record_execution", each | session))
                session = {"session_id": made["session_id"]}
            return made["session_id"], await client.call_tool("record_execution", CALL | {"status": "blocked"})

    before = len(list(world.model.repository.sessions(USER, 100)))
    session_id, refused = asyncio.run(scenario())
    calls = world.model.repository.session_history(USER, session_id).executions

    assert [(True, "ok", None), (True, "edited", 40), (False, "rejected", None)] == [
        (call.succeeded, call.status, call.duration_ms) for call in calls
    ]
    assert "must be false for a call that is blocked" in told(refused)
    assert before + 1 == len(list(world.model.repository.sessions(USER, 100))), "what is refused leaves no session"


def test_a_person_decides_by_a_form(connect: Callable[..., Any], world: World) -> None:
    """What the person at the client answers is the decision, in the name of the caller; the model's argument is not."""
    which = world.ask()
    person, asked = answering_form("accept", decision="reject", reason="too late")

    async def scenario() -> dict[str, Any]:
        async with connect(JUDGE, "reviewer", person) as client:
            waiting = given(await client.call_tool("list_reviews", {"limit": 100}))
            assert which in [each["review"] for each in waiting["reviews"]]
            arguments = {"review": which, "said": {"decision": "approve"}}
            return given(await client.call_tool("decide_review", arguments))

    done = asyncio.run(scenario())
    review = world.review(which)

    assert ("rejected", "reject", JUDGE) == (done["status"], done["decision"], done["decided_by"])
    assert ("reject", JUDGE, "too late") == (review.decision, review.decided_by, review.decision_reason)
    assert JUDGE == (review.trail or [])[-1]["by"]
    assert 1 == len(asked)
    assert 'TL002 of AGT001 with {"order": "W1"}' in asked[0]


def test_a_person_judges_a_run(connect: Callable[..., Any], world: World) -> None:
    """Of a run that has ended the form shows the calls and takes a verdict, which corrects the run's outcome."""
    which = world.ask_how()
    person, asked = answering_form("accept", verdict="wrong", reason="the wrong day")

    async def scenario() -> tuple[dict[str, Any], dict[str, Any]]:
        async with connect(JUDGE, "reviewer", person) as client:
            waiting = given(await client.call_tool("list_reviews", {"limit": 100}))
            (row,) = [each for each in waiting["reviews"] if each["review"] == which]
            return row, given(await client.call_tool("decide_review", {"review": which}))

    row, done = asyncio.run(scenario())
    review = world.review(which)
    session = world.model.repository.session(USER, review.session_id)

    assert ("post", ["correct", "partly", "wrong", "harmful"]) == (row["phase"], row["allowed"])
    assert "asked for: `find a café near the stadium`" in asked[0]
    assert "`locate`: ok\n`search`: error\n`format`: ok" in asked[0]
    assert ("completed", "wrong", False, JUDGE) == (
        done["status"],
        done["verdict"],
        done["outcome"],
        done["decided_by"],
    )
    assert ("wrong", JUDGE, "the wrong day") == (review.verdict, review.decided_by, review.decision_reason)
    assert session is not None
    assert (True, False) == (session.succeeded, session.corrected)


def test_a_verdict_where_there_are_no_forms(connect: Callable[..., Any], world: World) -> None:
    """A client without forms gives the verdict as `said`; a decision is no verdict, and the other way round."""
    which, step = world.ask_how(), world.ask()
    verdict = {"verdict": "partly", "outcome": "failed"}

    async def scenario() -> tuple[list[CallToolResult], dict[str, Any]]:
        async with connect(JUDGE, "reviewer") as client:
            wrong = [
                await client.call_tool("decide_review", {"review": which}),
                await client.call_tool("decide_review", {"review": which, "said": {"decision": "approve"}}),
                await client.call_tool("decide_review", {"review": step, "said": verdict}),
            ]
            return wrong, given(await client.call_tool("decide_review", {"review": which, "said": verdict}))

    (silent, no_verdict, no_decision), done = asyncio.run(scenario())

    assert "cannot show a form to a person" in told(silent)
    assert "an object with the fields verdict, outcome, reason" in told(no_verdict)
    assert "an object with the fields decision, reason, text" in told(no_decision)
    assert "pending" == world.review(step).status
    assert ("completed", "partly", False) == (done["status"], done["verdict"], done["outcome"])


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_who_declines_decides_nothing(connect: Callable[..., Any], world: World, action: str) -> None:
    """A form that is declined or closed leaves the question open, and says so."""
    which = world.ask()
    person, _ = answering_form(action)

    async def scenario() -> dict[str, Any]:
        async with connect(JUDGE, "reviewer", person) as client:
            return given(await client.call_tool("decide_review", {"review": which}))

    done = asyncio.run(scenario())

    assert ("pending", f"nothing was decided, because the person chose to {action}") == (done["status"], done["note"])
    assert "pending" == world.review(which).status


def test_a_client_without_forms_gives_the_decision(connect: Callable[..., Any], world: World) -> None:
    """Where the client cannot show a form, nothing is decided until its call says what the person answered."""
    which = world.ask()

    async def scenario() -> tuple[CallToolResult, dict[str, Any]]:
        async with connect(JUDGE, "reviewer") as client:
            open_still = await client.call_tool("decide_review", {"review": which})
            said = {"decision": "edit", "text": '{"order": "W2"}'}
            return open_still, given(await client.call_tool("decide_review", {"review": which, "said": said}))

    open_still, done = asyncio.run(scenario())
    review = world.review(which)

    assert open_still.is_error
    assert "cannot show a form to a person" in told(open_still)
    assert ("edited", JUDGE) == (done["status"], done["decided_by"])
    assert {"order": "W2"} == review.final_arguments


def test_errors_are_readable(connect: Callable[..., Any], world: World) -> None:
    """Bad input, what is not there and what is decided already are told in plain words."""
    which = world.ask()

    async def scenario() -> list[str]:
        async with connect(JUDGE, "reviewer") as client:
            reject = {"review": which, "said": {"decision": "reject"}}
            edit = {"review": which, "said": {"decision": "edit", "text": "no json"}}
            approve = {"review": which, "said": {"decision": "approve"}}
            gone = {"review": "USR001/SESS1/nothing", "said": {"decision": "approve"}}
            results = [await client.call_tool("decide_review", each) for each in (reject, edit, gone)]
            given(await client.call_tool("decide_review", approve))
            results.append(await client.call_tool("decide_review", approve))
            assert all(result.is_error for result in results)
            return [told(result) for result in results]

    reasonless, no_json, gone, late = asyncio.run(scenario())

    assert "reason" in reasonless
    assert "must be the arguments to call with, as JSON" in no_json
    assert "nothing" in gone
    assert JUDGE in late


async def read(client: Client, uri: str) -> str | None:
    """The error of reading a resource."""
    try:
        await client.read_resource(uri)
    except MCPError as error:
        return str(error)
    return None


async def allowed(client: Client, which: str, session: str) -> set[str]:
    """The tools and resources that a caller is not refused."""
    arguments: dict[str, dict[str, Any]] = {
        "recommend_process": {"category": "cafe search"},
        "list_agents": {"domain_id": "DMN001"},
        "list_tools": {"agent_id": "AGT001"},
        "route_request": {"request": "a café"},
        "next_tools": {"agent_id": "AGT001"},
        "agent_ranking": {"domain_id": "DMN001"},
        "tool_health": {"domain_id": "DMN001"},
        "record_execution": CALL,
        "record_outcome": {"session_id": session, "score": 1},
        "decide_review": {"review": which, "said": {"decision": "approve"}},
    }
    found = set()
    for name in ALLOWED:
        if "://" in name:
            refusal = await read(client, name)
        else:
            result = await client.call_tool(name, arguments.get(name, {}))
            refusal = told(result) if result.is_error else None
        if refusal is None:
            found.add(name)
        else:
            assert "not allowed: this needs the role" in refusal
    return found


def test_who_may_say_how_a_session_went(world: World) -> None:
    """A recorder evaluates; an event takes an operator, a person's word a reviewer, and never about itself."""
    own, other = run(world.model, USER), run(world.model, OTHER)

    async def scenario() -> list[CallToolResult]:
        results = []
        given_as: list[tuple[set[Role], str, dict[str, Any]]] = [
            ({"recorder"}, own, {"source": "evaluator", "by": "judge", "score": 0.25}),
            ({"recorder"}, own, {"source": "event", "succeeded": True}),
            ({"recorder"}, own, {"source": "person", "succeeded": True}),
            ({"recorder", "reviewer"}, own, {"source": "person", "succeeded": True}),
            ({"recorder"}, other, {"succeeded": True}),
            ({"recorder"}, own, {}),
            ({"operator", "reviewer"}, other, {"source": "person", "succeeded": True, "by": "x", "user_id": OTHER}),
        ]
        for roles, session, more in given_as:
            caller = Caller(user_id=USER, roles=frozenset(roles))
            async with Client(mcp_server(world.model, caller=caller)) as client:
                results.append(await client.call_tool("record_outcome", {"session_id": session} | more))
        return results

    results = asyncio.run(scenario())
    assert [False, True, True, True, True, True, False] == [bool(one.is_error) for one in results]
    assert (False, 0.25) == (given(results[0])["succeeded"], given(results[0])["score"])
    assert "must be given, or a score" in told(results[5])
    (said,) = world.model.repository.session_history(OTHER, other).reviews
    assert ("person", USER) == (said.source, said.decided_by)


@pytest.mark.parametrize("role", [*ROLES, None])
@pytest.mark.parametrize("way", ["token", "caller"])
def test_each_role_may_what_the_table_says(world: World, role: Role | None, way: str) -> None:
    """Every tool is open to the roles of its row and refused to all others, for tokens as for a named caller."""
    which, session = world.ask(OTHER), run(world.model, USER)
    roles = () if role is None else (role,)

    async def scenario() -> set[str]:
        if way == "token":
            async with over_http(world.url, token(USER, *roles), mode="auto") as client:
                return await allowed(client, which, session)
        async with Client(mcp_server(world.model, caller=Caller(user_id=USER, roles=frozenset(roles)))) as client:
            return await allowed(client, which, session)

    assert {name for name, who in ALLOWED.items() if role in who} == asyncio.run(scenario())


@pytest.mark.parametrize("name", ["recommend_process", "session_history", "record_execution"])
def test_only_operators_name_another_user(world: World, name: str) -> None:
    """A caller gets its own user's sessions and plans only, whatever its arguments say; an operator those of all."""
    rest: dict[str, dict[str, Any]] = {"record_execution": CALL, "recommend_process": {"category": "cafe search"}}
    arguments = rest.get(name, {}) | {"user_id": OTHER}

    async def scenario(role: str) -> CallToolResult:
        async with over_http(world.url, token(USER, role), mode="auto") as client:
            return await client.call_tool(name, arguments)

    own = asyncio.run(scenario("recorder" if name == "record_execution" else "reader"))

    assert own.is_error
    assert "see and record the sessions of" in told(own)
    assert OTHER == given(asyncio.run(scenario("operator"))).get("user_id", OTHER)


def test_a_session_of_another_user_is_not_reached(world: World) -> None:
    """The id of another user's session opens nothing: it is looked for under the caller's own user."""
    session = run(world.model, OTHER)

    async def scenario() -> CallToolResult:
        async with over_http(world.url, token(USER, "reader"), mode="auto") as client:
            return await client.call_tool("session_history", {"session_id": session})

    result = asyncio.run(scenario())

    assert result.is_error or not given(result)["calls"]


@pytest.mark.parametrize(
    ("phase", "said", "status"),
    [("pre", {"decision": "approve"}, "approved"), ("post", {"verdict": "correct"}, "completed")],
)
def test_nobody_decides_about_their_own_session(world: World, phase: str, said: dict[str, str], status: str) -> None:
    """A reviewer is refused about its own sessions, before and after, unless the installation allows it."""
    which = world.ask(USER) if phase == "pre" else world.ask_how(USER)
    reviewer = Caller(user_id=USER, roles=frozenset({"reviewer"}))

    async def scenario(*, self_review: bool) -> CallToolResult:
        async with Client(mcp_server(world.model, caller=reviewer, self_review=self_review)) as client:
            return await client.call_tool("decide_review", {"review": which, "said": said})

    refused = asyncio.run(scenario(self_review=False))

    assert "another reviewer must answer it" in told(refused)
    assert status == given(asyncio.run(scenario(self_review=True)))["status"]


def test_nothing_internal_leaks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is told without addresses, and a mistake of ours without its text."""
    reader = Caller(user_id=USER, roles=frozenset({"reader"}))

    async def scenario(error: Exception) -> str:
        def fails(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(world.model.repository, "top_agents", fails)
        async with Client(mcp_server(world.model, caller=reader)) as client:
            result = await client.call_tool("agent_ranking", {"domain_id": "DMN001"})
            assert result.is_error
            return told(result)

    outage = asyncio.run(scenario(TableUnavailable("no answer from http://10.0.0.7:8000")))
    mistake = asyncio.run(scenario(RuntimeError("password hunter2")))

    assert "the history cannot be reached or read now" in outage
    assert "10.0.0.7" not in outage
    assert "Error executing tool agent_ranking" == mistake


@pytest.mark.parametrize("bearer", [None, "wrong", token(USER, "reader") + "x", token("USR009", "reader")])
def test_without_a_known_token_nothing_is_served(world: World, bearer: str | None) -> None:
    """A missing or unknown token is answered by 401, before anything is read."""
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    with httpx2.Client(trust_env=False) as client:
        answer = client.post(world.url, json=body, headers=headers)

    assert 401 == answer.status_code
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "resource_metadata" not in answer.headers["WWW-Authenticate"], "no OAuth server gives these tokens"


@pytest.mark.parametrize("mode", MODES)
def test_workers_that_keep_nothing_share_a_form(world: World, mode: str) -> None:
    """One worker opens the form that another with the same key sealed; an older client has no forms there."""
    which = world.ask()
    person, asked = answering_form("accept", decision="approve")
    path = world.folder.parent / "tokens.json"
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}/mcp" for port in ports]

    def worker(port: int) -> Any:
        server = mcp_server(world.model, verifier=Tokens.of_file(path), state_keys=["k" * 32])
        security = http_security("127.0.0.1", port, verified=True)
        return served(
            server.streamable_http_app(stateless_http=True, json_response=True, transport_security=security), port
        )

    async def scenario() -> CallToolResult:
        bearer, arguments = token(JUDGE, "reviewer"), {"review": which}
        async with (
            over_http(urls[0], bearer, mode=mode, elicited=person) as one,
            over_http(urls[1], bearer, mode=mode, elicited=person) as two,
        ):
            first = await one.session.call_tool("decide_review", arguments, allow_input_required=True)
            if isinstance(first, CallToolResult):
                return first
            answer = ElicitResult(action="accept", content={"decision": "approve"})
            responses: Any = dict.fromkeys(first.input_requests or {}, answer)
            return await two.call_tool(
                "decide_review", arguments, input_responses=responses, request_state=first.request_state
            )

    with worker(ports[0]), worker(ports[1]):
        result = asyncio.run(scenario())

    assert [] == asked, "the test answers the form by itself"
    if mode == "auto":
        assert ("approved", JUDGE) == (given(result)["status"], world.review(which).decided_by)
    else:
        assert "cannot show a form to a person" in told(result)


def test_an_oauth_server_is_told_where_there_is_one(world: World) -> None:
    """With an issuer, a client without a token is told where tokens are given."""
    port = free_port()
    url, issuer = f"http://127.0.0.1:{port}/mcp", "https://login.example"
    server = mcp_server(world.model, verifier=Tokens([]), url=url, issuer=issuer)
    with (
        served(server.streamable_http_app(transport_security=http_security("127.0.0.1", port, verified=True)), port),
        httpx2.Client(trust_env=False) as client,
    ):
        refused = client.post(url, json={})
        told_by = client.get(f"http://127.0.0.1:{port}/.well-known/oauth-protected-resource/mcp").json()

    assert 401 == refused.status_code
    assert "resource_metadata" in refused.headers["WWW-Authenticate"]
    assert (url, [issuer]) == (told_by["resource"], told_by["authorization_servers"])


def test_another_host_header_is_refused(world: World) -> None:
    """A page of another site that a browser resolves to this machine reaches nothing."""
    headers = {"Host": "evil.example", "Authorization": f"Bearer {token(USER, 'reader')}", "Accept": "application/json"}
    with httpx2.Client(trust_env=False) as client:
        answer = client.post(world.url, json={}, headers=headers)

    assert 421 == answer.status_code


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])  # noqa: S104  # what is refused
def test_without_tokens_only_loopback(host: str) -> None:
    """Where nobody verifies tokens, another address than loopback is refused with what would allow it."""
    with pytest.raises(ConfigurationError, match="give a token file"):
        http_security(host, 8000, verified=False)
    for own in ("127.0.0.1", "::1", "localhost"):
        assert f"{'[::1]' if own == '::1' else own}:8000" in http_security(own, 8000, verified=False).allowed_hosts


def test_a_programs_own_server_binds_to_loopback_only(world: World) -> None:
    """Without tokens a server of one's own refuses another address, and calls that come from elsewhere all the same."""
    server = mcp_server(world.model, caller=Caller(user_id=USER, roles=frozenset(ROLES)))
    with pytest.raises(ConfigurationError, match="give a token file"):
        asyncio.run(server.run_streamable_http_async(host="0.0.0.0"))  # noqa: S104  # what is refused
    app = server.streamable_http_app(stateless_http=True, json_response=True)
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "session_history", "arguments": {}},
    }  # fmt: skip
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}

    async def call(address: str) -> str:
        transport = httpx2.ASGITransport(app=app, client=(address, 4711))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return (await client.post("/mcp", json=body, headers=headers)).text

    async def scenario() -> list[str]:
        async with app.router.lifespan_context(app):
            return [await call(each) for each in ("10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::ffff:127.0.0.1")]

    away, mapped_away, here, mapped_here = asyncio.run(scenario())

    assert all("answers calls from its own machine only" in each for each in (away, mapped_away))
    assert all('"isError":false' in each for each in (here, mapped_here))


def test_a_token_is_withdrawn_without_a_restart(world: World, tmp_path: Path) -> None:
    """What the token file says now counts: a token that was taken out is refused, one that was put in is taken."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([entry(USER, "reader")]), encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    server = mcp_server(world.model, verifier=Tokens.of_file(path))

    def status(user: str) -> int:
        headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token(user, 'reader')}"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        with httpx2.Client(trust_env=False) as client:
            return client.post(url, json=body, headers=headers).status_code

    security = http_security("127.0.0.1", port, verified=True)
    with served(server.streamable_http_app(transport_security=security), port):
        before = [status(user) == 401 for user in (USER, OTHER)]
        path.write_text(json.dumps([entry(OTHER, "reader")]), encoding="utf-8")
        after = [status(user) == 401 for user in (USER, OTHER)]
        path.unlink()
        without = [status(user) == 401 for user in (USER, OTHER)]

    assert ([False, True], [True, False], [True, True]) == (before, after, without)


def test_a_server_needs_to_know_who_calls(world: World) -> None:
    """Neither a caller nor a verifier, or both, is refused."""
    with pytest.raises(ConfigurationError, match="either a caller or a verifier"):
        mcp_server(world.model)
    with pytest.raises(ConfigurationError, match="both were given"):
        mcp_server(world.model, caller=Caller(user_id=USER, roles=frozenset()), verifier=Tokens([]))


# The command


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agentmodel", *arguments]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --user"),
        (["--user", "AGT001"], "('AGT001') must be the id or the name of a user"),
        (["--user", USER, "--role", "king"], "reader, recorder, reviewer, operator, curator"),
        (["--user", USER, "--transport", "http", "--host", "0.0.0.0"], "give a token file"),  # noqa: S104  # is refused
        (["--user", USER, "--json"], "--json can be used with --transport http only"),
        (["--tokens", "none.json"], "--tokens can be used with --transport http only"),
        (["--transport", "http", "--tokens", "none.json"], "none.json cannot be used"),
    ],
)
def test_wrong_starts_end_in_one_line(world: World, arguments: list[str], message: str) -> None:
    """What cannot be served is told in one line on stderr, and nothing on stdout."""
    run = subprocess.run(
        [*world.fork, "-m", "agentmodel", "--dir", str(world.folder), "mcp", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode in (1, 2)
    assert "" == run.stdout
    assert 1 == run.stderr.count("\n")
    assert message in run.stderr


def test_without_mcp_the_command_says_what_to_install(world: World) -> None:
    """Where mcp is not installed, the pip line is printed."""
    program = (
        "import sys; sys.modules['mcp'] = None; from agentmodel.cli import main; "
        f"sys.exit(main(['--dir', {str(world.folder)!r}, 'mcp', '--user', 'u']))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert 1 == run.returncode
    assert "pip install 'agentmodel[mcp]'" in run.stderr


@pytest.mark.parametrize("ended", ["closed", "interrupted"])
def test_stdout_has_only_the_protocol(world: World, ended: str) -> None:
    """On stdio every line of stdout is JSON-RPC, of a refused call too; closing stdin or Ctrl-C ends the server."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    lines: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "savings_report", "arguments": {}}},
    ]
    with subprocess.Popen(
        command("--dir", str(world.folder), "mcp", "--user", USER),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        seen = []
        for line in lines:
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
            if "id" in line:
                seen.append(json.loads(process.stdout.readline()))
        if ended == "interrupted":
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)  # while stdin is open
        rest, _ = process.communicate(timeout=60)

    assert [("2.0", 1), ("2.0", 2)] == [(each["jsonrpc"], each["id"]) for each in seen]
    assert "" == rest
    assert (0 if ended == "closed" else -signal.SIGINT) == process.returncode


@pytest.mark.parametrize("stateless", [False, True])
def test_the_command_serves_http_until_it_is_stopped(world: World, tmp_path: Path, *, stateless: bool) -> None:
    """A token file serves who has a token, and refuses others; --json says where; Ctrl-C ends it."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([entry(USER, "reader")]), encoding="utf-8")
    port = free_port()
    arguments = [
        "--transport",
        "http",
        "--tokens",
        str(path),
        "--port",
        str(port),
        *["--stateless", "--json"][: 2 * stateless],
    ]
    url = f"http://127.0.0.1:{port}/mcp"

    async def scenario() -> dict[str, Any]:
        async with over_http(url, token(USER, "reader"), mode="auto") as client:
            return given(await client.call_tool("session_history", {}))

    with subprocess.Popen(
        command("--dir", str(world.folder), "mcp", *arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            answering(url, lambda: process.poll() is None)
            history = asyncio.run(scenario())
            with httpx2.Client(trust_env=False) as client:
                refused = client.post(url, json={}).status_code
        finally:
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=60)

    assert USER == history["user_id"]
    assert 401 == refused
    assert ([json.dumps({"mcp": url})] if stateless else []) == out.splitlines()
    assert "Traceback" not in errors
