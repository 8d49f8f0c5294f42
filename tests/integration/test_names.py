"""A user, agent, tool or domain is given by name or by id at every entry point, and both are one."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import agentmodel
from agentmodel import keys
from agentmodel.access.pagination import Page
from agentmodel.aio import AsyncAgentModel
from agentmodel.cache import Leaderboard
from agentmodel.cli import main
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.models import Agent, Domain, Tool, ToolExecution, User, UserSession, UserToolMapping
from agentmodel.embedded import Engines
from agentmodel.exceptions import KeyFormatError, ValidationError
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.redshift import reports
from agentmodel.suggest.guard import Go

TODAY = datetime(2025, 6, 14, tzinfo=UTC)


class Who(NamedTuple):
    """One spelling of everybody."""

    user: str
    agent: str
    tool: str
    domain: str


NAMES = Who("mina", "support/finder", "search", "support")
IDS = Who("USRmina", keys.stable_id("AGT", "support", "finder"), "TLsearch", "DMNsupport")
SESSION = "SESS20250614000000000000-a"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, AgentModel]]:
    """A stack that learned what one user did, all of it recorded by names."""
    folder = tmp_path_factory.mktemp("names") / ".agentmodel"
    plain = Settings(endpoint=None, valkey_url=None, warehouse_url=None)
    with Engines(folder, settings=plain.model_copy()) as engines, AgentModel.from_settings(engines.settings) as model:
        model.table.create()
        model.repository.put(
            Domain(domain_id="support", name="support"),
            Agent(agent_id="finder", domain_id="support", name="finder"),
            Tool(agent_id="finder", tool_id="search", domain_id="support", name="search", read_only=True),
            User(user_id="mina", name="Mina"),
        )
        with (
            model.session("mina", "find it", category="find", session_id=SESSION, started_at=TODAY) as session,
            session.process("locate") as process,
            process.call("support/finder", "search", values={"q": 1}) as call,
        ):
            call.result = "here"
        model.drain()
        model.refresh(as_of=TODAY)
        model.publish(as_of=TODAY)
        yield folder, model


@pytest.fixture(scope="module")
def model(stack: tuple[Path, AgentModel]) -> Iterator[AgentModel]:
    """The model, bound to the process."""
    with stack[1].bound():
        yield stack[1]


def entity(found: Any) -> Any:
    """What is compared of an entity, of a page of them, or of a result of another class."""
    if isinstance(found, Page | list):
        return [entity(each) for each in found]
    return found.to_item() if hasattr(found, "to_item") else found


def plan(found: Any) -> Any:
    """A plan, without what is new in each."""
    return found.model_dump(exclude={"suggestion_id"}) if found is not None else None


def in_asyncio(model: AgentModel, ask: Callable[[AsyncAgentModel], Any]) -> Any:
    async def scenario() -> Any:
        return await ask(AsyncAgentModel(model))

    return asyncio.run(scenario())


def mapping(who: Who) -> Any:
    return UserToolMapping(user_id=who.user, category="c", processes={}, agents={}, tools={})


def execution(who: Who) -> Any:
    return ToolExecution(
        user_id=who.user, session_id=SESSION, process_id="PRC001", agent_id=who.agent, tool_id=who.tool,
        tool_name="search", succeeded=True,
    )  # fmt: skip


def changed_domain(who: Who) -> Any:
    agent = Agent(agent_id=IDS.agent, domain_id="DMNother", name="finder")
    agent.domain_id = who.domain
    return agent


def recorded(model: AgentModel, who: Who) -> Any:
    with (
        model.session(who.user, session_id="SESSrecorded") as session,
        session.process("p") as process,
        process.call(who.agent, who.tool, call_id="one") as call,
    ):
        pass
    assert call.receipt is not None
    found = call.receipt.entity
    return found.pk, found.agent_id, found.tool_id, found.tool_name


def tracked(model: AgentModel, who: Who) -> Any:
    """What a framework's recorder has as the run of a user; its agent is one of the tracker's domain."""
    with Tracker(model, domain=who.domain) as tracker:
        run = tracker.run("conversation", user=who.user)
        agent = who.agent.rpartition("/")[2]
        attempt = run.start("c1", agent=agent, tool=who.tool)
        run.end("c1", attempt, status="ok")
    assert tracker.errors == 0
    return run.user_id, run.user, run.domain_id, run.agent_id(agent), run.tool_id(who.tool), run.session_id


def decorated(model: AgentModel, who: Who) -> Any:
    @model.tool(agent=who.agent.rpartition("/")[2], name=who.tool, domain=who.domain)
    def search() -> str:
        return "here"

    with model.session(who.user, session_id="SESSdecorated"):
        search()
    history = model.repository.session_history(who.user, "SESSdecorated")
    return {(each.agent_id, each.tool_id, each.tool_name) for each in history.executions}


def sourced(model: AgentModel, who: Who) -> Any:
    model.recorder.record(UserSession(user_id=IDS.user, session_id="SESSsourced", name="x", source_id="here"))
    found = model.repository.session_of_source(who.user, "here")
    return None if found is None else found.session_id


def asked(model: AgentModel, who: Who) -> Any:
    review = model.reviews.ask(
        who.user, SESSION, "may it?", agent_id=who.agent, tool_id=who.tool, call_id="asked", arguments={}
    )
    found = model.reviews.about(who.user, SESSION, "asked", arguments={})
    return review.key, review.agent_id, review.tool_id, None if found is None else found.review_id


def guarded(model: AgentModel, who: Who) -> Any:
    guard = model.guard(domain=who.domain, review="never")
    decision = guard.before(
        agent_id=who.agent.rpartition("/")[2],
        tool_id=who.tool,
        user_id=who.user,
        session_id=SESSION,
        arguments={"q": 1},
    )
    assert isinstance(decision, Go)
    return decision.lookup


def from_cli(stack: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["--dir", str(stack), *arguments, "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    if isinstance(found, dict):
        found.pop("suggestion_id", None)
    return found


def ranked(model: AgentModel, who: Who) -> Any:
    assert model.valkey is not None
    board = Leaderboard(model.valkey)
    board.replace(who.domain, {IDS.agent: 1.0}, run=2 * 10**18)
    return board.top(who.domain, 3), board.published(who.domain)[1]


ENTRY_POINTS: dict[str, Callable[[AgentModel, Who], Any]] = {
    "User": lambda _, w: User(user_id=w.user, name="x"),
    "Domain": lambda _, w: Domain(domain_id=w.domain, name="x"),
    "Agent": lambda _, w: Agent(agent_id=w.agent, domain_id=w.domain, name="x"),
    "Tool": lambda _, w: Tool(agent_id=w.agent, tool_id=w.tool, domain_id=w.domain, name="x"),
    "UserSession": lambda _, w: UserSession(user_id=w.user, session_id=SESSION, name="x"),
    "UserToolMapping": lambda _, w: mapping(w),
    "ToolExecution": lambda _, w: execution(w),
    "an attribute that is set": lambda _, w: changed_domain(w),
    "a change": lambda _, w: Agent.domain_id.to(w.domain).value,
    "User.at": lambda _, w: User.at(w.user),
    "Tool.at": lambda _, w: Tool.at(w.agent, w.tool),
    "User.get": lambda _, w: User.get(w.user),
    "Domain.get": lambda _, w: Domain.get(w.domain),
    "Tool.get": lambda _, w: Tool.get(w.agent, w.tool),
    "Tool.batch_get": lambda _, w: list(Tool.batch_get([(w.agent, w.tool)])),
    "Tool.query": lambda _, w: list(Tool.query(w.agent)),
    "Tool.query, conditions": lambda _, w: list(Tool.query(Tool.agent_id.eq(w.agent), Tool.tool_id.eq(w.tool))),
    "Tool.query, ==": lambda _, w: list(Tool.query(Tool.agent_id == w.agent, Tool.tool_id == w.tool)),
    "Tool.query, a beginning": lambda _, w: list(Tool.query(w.agent, Tool.tool_id.startswith(w.tool[:-2]))),
    "Agent.gsi1.query": lambda _, w: list(Agent.gsi1.query(w.domain)),
    "Tool.count": lambda _, w: Tool.count(w.agent),
    "repository.domain": lambda m, w: m.repository.domain(w.domain),
    "repository.agent": lambda m, w: m.repository.agent(w.agent),
    "repository.tool": lambda m, w: m.repository.tool(w.agent, w.tool),
    "repository.user": lambda m, w: m.repository.user(w.user),
    "repository.session": lambda m, w: m.repository.session(w.user, SESSION),
    "repository.process": lambda m, w: m.repository.process(w.user, SESSION, "PRC001"),
    "repository.execution": lambda m, w: m.repository.execution(w.user, SESSION, "PRC001", w.agent, w.tool),
    "repository.mapping": lambda m, w: m.repository.mapping(w.user, "find"),
    "repository.own_mappings": lambda m, w: m.repository.own_mappings(w.user, "find"),
    "repository.top_agents": lambda m, w: m.repository.top_agents(w.domain),
    "repository.agents_by_score": lambda m, w: m.repository.agents_by_score(w.domain),
    "repository.domain_tools": lambda m, w: m.repository.domain_tools(w.domain),
    "repository.agent_tools": lambda m, w: m.repository.agent_tools(w.agent),
    "repository.sessions": lambda m, w: [each.session_id for each in m.repository.sessions(w.user)][-1:],
    "repository.session_of_source": sourced,
    "repository.session_history": lambda m, w: list(m.repository.session_history(w.user, SESSION).executions),
    "repository.user_mappings": lambda m, w: m.repository.user_mappings(w.user),
    "repository.update": lambda m, w: m.repository.update(Agent.at(w.agent), Agent.description.to("x")).key,
    "recorder.tool_name": lambda m, w: m.recorder.tool_name(w.agent, w.tool),
    "recorder.known_history": lambda m, w: list(m.recorder.known_history(w.user, SESSION)[0].executions),
    "recording": recorded,
    "tracker": tracked,
    "model.tool": decorated,
    "model.suggest": lambda m, w: plan(m.suggest(w.user, category="find", domain_id=w.domain)),
    "model.next_tools": lambda m, w: m.next_tools(SESSION, user_id=w.user, agent_id=w.agent),
    "planner.next_tools": lambda m, w: m.planner.next_tools(w.user, agent_id=w.agent),
    "guard.plan": lambda m, w: plan(m.guard(review="never").plan(w.user, category="find", domain_id=w.domain)),
    "guard.before": guarded,
    "suggestions.of_user": lambda m, w: [each.suggestion_id for each in m.suggestions.of_user(w.user)],
    "reviews": asked,
    "reviews.needed": lambda m, w: m.reviews.needed(w.agent, w.tool) or "none",
    "health.tools": lambda m, w: m.health.tools(w.domain, user_id=w.user),
    "response_cache.look": lambda m, w: m.response_cache.look(w.agent, w.tool, {"q": 1}, user_id=w.user),
    "leaderboard": ranked,
    "reports.agent_ranking": lambda m, w: reports.agent_ranking(m.warehouse, as_of=TODAY, domain_id=w.domain),
    "reports.recommended_patterns": lambda m, w: reports.recommended_patterns(m.warehouse, as_of=TODAY, user_id=w.user),
    "reports.tool_failures": lambda m, w: reports.tool_failures(m.warehouse, w.domain),
    "reports.session_requests": lambda m, w: reports.session_requests(m.warehouse, w.user),
    "reports.executions_per_day": lambda m, w: reports.executions_per_day(m.warehouse, w.agent),
    "reports.tokens_per_tool": lambda m, w: reports.tokens_per_tool(m.warehouse, agent_id=w.agent),
    "asyncio: repository": lambda m, w: in_asyncio(m, lambda a: a.repository.agent_tools(w.agent)),
    "asyncio: suggest": lambda m, w: plan(in_asyncio(m, lambda a: a.suggest(w.user, category="find"))),
}  # fmt: skip


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_name_and_an_id_are_one(entry_point: str, model: AgentModel) -> None:
    """What an entry point does for a name, it does for the id, and it finds something."""
    by_name, by_id = (entity(ENTRY_POINTS[entry_point](model, who)) for who in (NAMES, IDS))

    assert by_name
    assert by_name == by_id


@pytest.mark.parametrize(
    ("command", "options"),
    [("suggest", ["--category", "find"]), ("sessions", []), ("agents", []), ("tools", []), ("patterns", ["--as-of", "2025-06-14"])],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_commands_take_either(
    command: str, options: list[str], stack: tuple[Path, AgentModel], capsys: pytest.CaptureFixture[str]
) -> None:
    """A command prints the same for a name and for an id."""

    def printed(who: Who) -> Any:
        given = {
            "suggest": [who.user, "--domain", who.domain],
            "sessions": ["--user", who.user],
            "patterns": ["--user", who.user],
        }.get(command, ["--domain", who.domain])
        return from_cli(stack[0], capsys, command, *given, *options)

    assert printed(IDS) == printed(NAMES)
    assert printed(NAMES)


def test_mcp_tools_take_either(model: AgentModel) -> None:
    """A tool of the MCP server answers the same for a name and for an id, the caller's own name included."""
    from mcp import Client

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    async def answers(who: Who) -> list[Any]:
        caller = Caller(user_id=who.user, roles=frozenset({"reader", "recorder"}))
        asked: dict[str, dict[str, Any]] = {
            "list_agents": {"domain_id": who.domain},
            "list_tools": {"agent_id": who.agent},
            "agent_ranking": {"domain_id": who.domain},
            "session_history": {"user_id": who.user, "session_id": SESSION},
            "record_execution": {
                "agent_id": who.agent, "tool_id": who.tool, "succeeded": True, "session_id": "SESSmcp", "call_id": "1"
            },
        }  # fmt: skip
        async with Client(mcp_server(model, caller=caller)) as client:
            found = [await client.call_tool(name, arguments) for name, arguments in asked.items()]
        assert not any(each.is_error for each in found), found
        return [each.structured_content for each in found]

    assert asyncio.run(answers(IDS)) == asyncio.run(answers(NAMES))


def test_every_parameter_for_an_id_takes_names() -> None:
    """A public method with a parameter for an id is in the table above, or passes it to one that is."""
    described = " ".join(inspect.getsource(each) for each in (inspect.getmodule(test_mcp_tools_take_either),) if each)
    passes_on = {  # to what takes names
        "Recorder.session", "Recorder.cached_tool_name", "ProcessRecorder.call", "AgentModel.session", "Planner.suggest",
        "AgentModel.erase_user", "Reviews.ask", "Reviews.about", "Guard.plan", "Guard.before", "HealthMonitor.health", "HealthMonitor.health_by_failures",
        "HealthMonitor.failing", "HealthMonitor.forget_user", "ResponseCache.call", "ResponseCache.forget",
        "SuggestionLog.of_user", "AgentModel.resume_plans", "ResponseCache.begins", "ResponseCache.marks", "AgentModel.outcome", "Recorder.outcome", "Recorder.outcome_of", "Recorder.agent_revision",
    }  # fmt: skip
    model = AgentModel.from_settings(Settings(endpoint="http://localhost:1", warehouse_url=None))
    with model:
        objects = (
            model, model.repository, model.recorder, model.planner, model.health, model.suggestions, model.reviews,
            model.response_cache, model.guard(),
        )  # fmt: skip
        for each in objects:
            for name, method in inspect.getmembers(type(each), inspect.isfunction):
                ids = {"user_id", "agent_id", "tool_id", "domain_id"} & inspect.signature(method).parameters.keys()
                if ids and not name.startswith("_") and f"{type(each).__name__}.{name}" not in passes_on:
                    assert f".{name}(" in described, f"{type(each).__name__}.{name} is not tested with names"


class TestTheRule:
    def test_a_uuid_is_a_name(self, model: AgentModel) -> None:
        """A user whose only name is a UUID is one user, under an id that is made of it."""
        name = "7f9c24e8-3b12-4fef-91e0-56a2d5a5f0a1"
        model.repository.put(User(user_id=name, name="Kim"))

        stored = model.repository.user(f"USR{name}")

        assert stored is not None
        assert "Kim" == stored.name

    def test_an_agent_has_its_name_within_a_domain(self) -> None:
        """Agents of one name in two domains are two; without a domain it is the one that integrations use."""
        assert (
            keys.id_of("AGT", "finder") == keys.id_of("AGT", "agents/finder") == keys.id_of("AGT", "finder", "agents")
        )
        assert keys.id_of("AGT", "finder", "support") != keys.id_of("AGT", "finder", "sales")
        assert IDS.agent == Agent(agent_id="finder", domain_id="DMNsupport", name="x").agent_id
        assert (
            keys.id_of("AGT", "finder", "help desk")
            == Agent(agent_id="finder", domain_id="help desk", name="x").agent_id
        )

    @pytest.mark.parametrize("make", [
        lambda given: User(user_id=given, name="x"), User.at, lambda given: keys.id_of("USR", given, field="user_id"),
        lambda given: UserSession(user_id=given, session_id="SESS1", name="x"), User.user_id.eq,
    ])  # fmt: skip
    @pytest.mark.parametrize("given", [
        "", " ", " mina", "mina\n", "mi\tna", "USR#1", "USR a", "AGT001", "SESS1", 5, None,
    ])  # fmt: skip
    def test_what_is_neither_is_refused(self, make: Callable[[Any], Any], given: Any) -> None:
        """A slip in an id, an id of another kind, or a line of a file is no name; the error names field and value."""
        with pytest.raises(ValidationError, match=r"^user_id "):
            make(given)

    @pytest.mark.parametrize("ask", [
        lambda model: model.suggest(None, category="c"), lambda model: model.erase_user(None),
        lambda model: model.repository.sessions(None), lambda model: model.planner.suggest(user_id=None, category="c"),
    ])  # fmt: skip
    def test_a_user_who_must_be_given_is_not_none(self, model: AgentModel, ask: Callable[[AgentModel], Any]) -> None:
        """None is no user where one must be given, at every function; it stays None where that is the default."""
        with pytest.raises(ValidationError, match=r"^user_id \(None\) must be the id or the name of a user"):
            ask(model)

    def test_what_is_stored_has_ids(self, model: AgentModel) -> None:
        """A name is accepted from callers only: a stored key that is none is damaged."""
        item = User(user_id="mina", name="x").to_item() | {"PK": {"S": "mina"}}
        with pytest.raises(agentmodel.exceptions.CorruptItem, match="PK"):
            User.from_item(item)
        with pytest.raises(KeyFormatError):
            User.get("USR001#SESS1", "METADATA")
        with pytest.raises(ValidationError, match="domain is given by the id"):
            Agent(agent_id="finder", domain_id=keys.id_of("DMN", "help desk"), name="x")
