"""What of one user reaches another: canaries in everything that one user records, looked for in all that others get."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Repository, Tool, integrations
from agentmodel.access.recorder import CallRecorder, ProcessRecorder, Recorder, SessionRecorder
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.entity import Entity
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import CursorError, NotFound
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.suggest.guard import Ask, Blocked, Guard, ResponseCache, interrupt_question
from agentmodel.suggest.health import HealthMonitor
from agentmodel.suggest.plan import Plan, Planner, SuggestionLog, ToolRef
from agentmodel.suggest.review import Reviews, RunChecks
from tests.integration import other_users_world as world
from tests.integration.canaries import MARK, NO_TEXTS, TEXTS, assert_no_canary, canary, leaks, planted_by, takes_texts
from tests.integration.kept import Kept, keep, kept_settings, plain_client, put_back
from tests.integration.other_users_world import (
    ALICE,
    ASKED,
    DOMAIN,
    MADE_UP,
    NOWHERE,
    RECORDERS,
    SESSION,
    SHARED,
    installed,
)
from tests.integration.suggest_world import opened

BOB = "USRbob"
BOBS = {"user_id": "bob", "category": SHARED}


@pytest.fixture(scope="module")
def learnt(
    dynamodb_endpoint: str, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AgentModel, Kept]]:
    """A model that has learned from one user, whose every text is a canary, and what its stores held then."""
    folder = tmp_path_factory.mktemp("learnt")
    with plain_client(valkey_server.url) as client:
        client.flushall()
    with opened(kept_settings(dynamodb_endpoint, valkey_server.url, folder)) as model:
        world.recorded_by_alice(model, folder)
        yield model, keep(model.table, valkey_server.url)


@pytest.fixture
def model(learnt: tuple[AgentModel, Kept], valkey_server: ValkeyServer) -> AgentModel:
    """The very model that has learned from one user, with all that it keeps in memory; nothing is stored of another."""
    model, kept = learnt
    model.settle()
    put_back(kept, model.table, valkey_server.url)
    return model


# Everything is planted

NOT_RECORDED = {
    "Recorder.agent_revision", "Recorder.cached_tool_name", "Recorder.known_history", "Recorder.next_process_id", "Recorder.put_missing",
    "Recorder.record_later", "Recorder.tool_name", "Recorder.wait_for", "TrackedRun.asked",
    "Reviews.about", "Reviews.id_of", "Reviews.inbox", "Reviews.needed", "Reviews.sweep",
    "Tracker.enqueue", "Tracker.failed", "RunIdentity.agent_id", "RunIdentity.tool_id",
    "ResponseCache.look", "ResponseCache.forget", "ResponseCache.keep", "ResponseCache.begins",
    "ResponseCache.marks",
}  # fmt: skip
"""Functions that take a text and keep none of it in the history; a cached result is planted by `ResponseCache.call`."""


def test_every_recording_function_is_planted(model: AgentModel) -> None:
    """Every text that a recording function takes holds a canary: a new function or argument fails here first."""
    model.settle()
    writers = (Recorder, SessionRecorder, ProcessRecorder, CallRecorder, Reviews, ResponseCache, Tracker, TrackedRun)
    takes = {"AgentModel.session", "AgentModel.outcome", *takes_texts(*writers)}

    assert takes == planted_by | NOT_RECORDED


def test_every_integration_records() -> None:
    """Every integration is among those that the planting user records through."""
    packages = {name for _, name, _ in pkgutil.iter_modules(integrations.__path__) if not name.startswith("_")}

    assert packages == set(RECORDERS)


def test_every_kind_of_attribute_is_known() -> None:
    """Every entity class has only attributes of which is known whether they take any text."""
    kinds = {type(field).__name__ for kind in _kinds() for field in kind.get_attributes().values()}

    assert kinds <= TEXTS | NO_TEXTS


def _kinds() -> list[type[Entity]]:
    return [kind for kind in Entity.__subclasses__() if kind.__module__ == "agentmodel.dynamo.models"]


def test_every_text_of_a_user_is_in_the_table(model: AgentModel) -> None:
    """The table holds a canary in each attribute that takes a text, of each class: what is looked for was there."""
    stored = json.dumps(list(model.table.scan()))
    texts = {
        f"{kind.__name__}.{name}"
        for kind in _kinds()
        for name, attribute in kind.get_attributes().items()
        if type(attribute).__name__ in TEXTS and name not in _NAMES.get(kind.__name__, ())
    }

    assert set() == {text for text in texts if text not in stored}


_NAMES = {
    "Domain": {"name"}, "Agent": {"name"}, "Tool": {"name", "health"},
    "UserToolMapping": {"category", "processes", "agents", "tools", "counts", "requests"},
    "Review": {"review_id", "allowed", "trail"}, "Suggestion": {"suggestion_id", "candidates", "steps"},
}  # fmt: skip
"""Names of the catalogue, which travel, and attributes that hold the mark in a form of their own."""


# Everything is read


def plans_of(model: AgentModel, user_id: str) -> dict[str, Any]:
    """Every kind of plan that another user can get, as JSON, as prompts and as a guard gives it."""
    asked: dict[str, dict[str, Any]] = {
        "category": {"category": SHARED},
        "request": {"request": ASKED},
        "domain": {"domain_id": "DMN001"},
        "made up": {"category": MADE_UP},
        "nothing": {"category": "never heard of"},
        "all": {"category": "another", "request": ASKED, "domain_id": "DMN001"},
    }
    found: dict[str, Any] = {}
    for name, question in asked.items():
        plan = model.suggest(user_id, **question)
        guarded = model.guard().plan(user_id, **question)
        found[name] = [
            plan.source, plan.model_dump_json(), repr(plan), plan.as_prompt(), plan.as_prompt(language="ko"),
            None if guarded is None else guarded.model_dump_json(),
        ]  # fmt: skip
    return found


def decisions_of(model: AgentModel, user_id: str) -> dict[str, Any]:
    """What a guard says about calls of each tool of another user, and what an interrupt shows."""
    found: dict[str, Any] = {}
    for rule in ("never", "policy", "always"):
        guard = model.guard(review=rule, cache="user")
        for tool_id in ("TL001", "TL002", "TL003"):
            plan = model.suggest(user_id, category=SHARED)
            decision = guard.before(
                agent_id="AGT001", tool_id=tool_id, user_id=user_id, session_id="SESSbob", plan=plan,
                arguments={MARK: MARK} if tool_id == "TL002" else {"of": rule}, call_id=f"{rule}{tool_id}",
            )  # fmt: skip
            asked = interrupt_question(decision.review, tool_id) if isinstance(decision, Ask) else None
            if tool_id == "TL002" and asked is not None:
                asked["arguments"] = None  # his own, with which he tries to get the cached answer of the other
                found[f"{rule} {tool_id}"] = [type(decision).__name__, asked]
            else:
                found[f"{rule} {tool_id}"] = [repr(decision), asked]
    return found


def cached_of(model: AgentModel, user_id: str) -> Any:
    """What the response cache has for a call that another user has made."""
    found = model.response_cache.look("AGT001", "TL002", {MARK: MARK}, user_id=user_id)
    assert not found.hit
    with model.session(user_id, "mine") as session, session.process("mine") as process:
        return model.response_cache.call(process, "AGT001", "TL002", lambda: "made", arguments={MARK: MARK})


def repository_of(model: AgentModel, user_id: str) -> dict[str, Any]:
    """What each read of one user's items gives, for sessions of his own and for ids of another user's."""
    found: dict[str, Any] = {}
    for session_id in ("SESSbob", SESSION, f"SESS{MARK}x0"):
        told = {
            "user_id": user_id, "session_id": session_id, "process_id": "PRC001", "agent_id": "AGT001",
            "tool_id": "TL002", "category": SHARED, "source_id": canary("UserSession.source_id"),
        }  # fmt: skip
        for name in _of_a_user(Repository):
            read = getattr(model.repository, name.partition(".")[2])
            wanted = inspect.signature(read).parameters
            answer = read(**{key: value for key, value in told.items() if key in wanted})
            shown = getattr(answer, "items", answer)
            found[f"{name} {session_id}"] = repr(shown).replace(session_id, "")  # the id that he asked with
    return found


def next_tools_of(model: AgentModel, user_id: str) -> dict[str, Any]:
    """What is likely to be called next, for requests of this user and in sessions with ids of another user's."""
    asked: list[dict[str, Any]] = [{}, {"category": SHARED}, {"request": ASKED}, {"category": MADE_UP}]
    found = [
        model.planner.next_tools(user_id, agent_id="AGT001", done=done, limit=9, **question)
        for question in asked
        for done in ([], ["TL001"])
    ]
    for session_id in ("SESSbob", SESSION, f"SESS{MARK}x0"):
        with contextlib.suppress(NotFound):
            found.append(model.next_tools(session_id, user_id=user_id, agent_id="AGT001", limit=9))
    return {
        str(at): [each.model_dump_json(), each.as_prompt(), each.as_prompt(language="ko")]
        for at, each in enumerate(found)
    }


def suggestions_of(model: AgentModel, user_id: str) -> Any:
    """The log of what was suggested to a user."""
    return [each.to_simple_dict() for each in model.suggestions.of_user(user_id)]


def reviews_of(model: AgentModel, user_id: str) -> Any:
    """Whether a question that another user's call has is found by the same call of this user."""
    return model.reviews.about(user_id, f"SESS{MARK}x0", f"{MARK}0", arguments={MARK: MARK})


def session_of(model: AgentModel, user_id: str) -> Any:
    """What a session of a user is continued with that has the id of another user's."""
    with model.session(user_id, "mine", session_id=f"SESS{MARK}x0") as session:
        return repr(session.entity).replace(f"SESS{MARK}x0", "")


def health_of(model: AgentModel, user_id: str) -> Any:
    """What holds of tools for a user, among them one that another user's calls made fail."""
    refs = [ToolRef("AGT001", f"TL00{number}") for number in (1, 2, 3)]
    return [
        model.health.tools("DMN001", user_id=user_id),
        list(model.health.health(refs, {}, user_id=user_id).items()),
        list(model.health.health_by_failures(refs, {}, user_id=user_id).items()),
        list(model.health.failing(refs, {}, user_id=user_id).items()),
    ]


def history_of(model: AgentModel, user_id: str) -> Any:
    """What is known of a session of a user that has the id of another user's."""
    return repr(model.recorder.known_history(user_id, f"SESS{MARK}x0")).replace(f"SESS{MARK}x0", "")


def checks_of(model: AgentModel, user_id: str) -> Any:
    """What is found of runs of this user, and of another user's sessions by their ids."""
    with model.session(user_id, ASKED, category=SHARED, session_id="SESSchecked") as session:
        with session.process("mine") as process, process.call("AGT001", "TL002") as call:
            call.result = "found"
        session.fail()
    model.settle()
    found: list[Any] = []
    for session_id in ("SESSchecked", SESSION, f"SESS{MARK}x0"):
        with contextlib.suppress(NotFound):
            found.append(model.run_checks.check(user_id, session_id))
        with contextlib.suppress(NotFound):
            found.append(model.run_checks.wrong_step(user_id, session_id))
    assert found
    return [repr(found), str(found)]


def outcome_of(model: AgentModel, user_id: str) -> Any:
    """What is said of a session of this user that has the id of another user's."""
    said = [
        model.recorder.outcome_of(f"SESS{MARK}x0", user_id=user_id, succeeded=True),
        model.outcome(f"SESS{MARK}x0", user_id=user_id, succeeded=True).entity,
        model.recorder.outcome(f"SESS{MARK}x0", user_id=user_id, succeeded=True).entity,
    ]
    return repr([each.to_simple_dict() for each in said]).replace(f"SESS{MARK}x0", "")


READS: dict[str, Callable[[AgentModel, str], Any]] = {
    "AgentModel.outcome": outcome_of,
    "Recorder.outcome": outcome_of,
    "Recorder.outcome_of": outcome_of,
    "AgentModel.next_tools": next_tools_of,
    "AgentModel.suggest": plans_of,
    "Planner.next_tools": next_tools_of,
    "Planner.suggest": plans_of,
    "Guard.plan": plans_of,
    "Guard.before": decisions_of,
    "ResponseCache.begins": decisions_of,
    "ResponseCache.marks": decisions_of,
    "ResponseCache.look": cached_of,
    "SuggestionLog.of_user": suggestions_of,
    "Reviews.about": reviews_of,
    "RunChecks.check": checks_of,
    "RunChecks.wrong_step": checks_of,
    "Reviews.ask": reviews_of,
    "AgentModel.session": session_of,
    "Recorder.session": session_of,
    "Recorder.known_history": history_of,
    "HealthMonitor.tools": health_of,
    "HealthMonitor.health": health_of,
    "HealthMonitor.health_by_failures": health_of,
    "HealthMonitor.failing": health_of,
}
"""How each function is read that acts for a user; those of the repository are read by their signatures."""

ERASING = {"AgentModel.erase_user", "HealthMonitor.forget_user"}
"""What operators do to a user; it gives counts of that user alone."""

STATIONS = {
    "planner": Planner, "suggestions": SuggestionLog, "health": HealthMonitor, "response_cache": ResponseCache,
    "reviews": Reviews, "guard": Guard, "run_checks": RunChecks,
}  # fmt: skip
"""Members of a model whose own functions are looked at."""

OPERATORS = {
    "close", "drain", "drainer", "erase_user", "evaluate", "export", "from_settings", "from_stack", "impact", "import_traces", "local", "migrate",
    "prices", "publish", "refresh", "report", "resume_plans", "savings", "settle", "stats", "valkey", "warehouse", "wrong_steps",
}  # fmt: skip
"""Members of a model that operators use; what they give is of all users."""

RECORDING = {
    "bind",
    "bound",
    "functions",
    "in_session",
    "next_tools",
    "outcome",
    "route",
    "routing_prompt",
    "session",
    "suggest",
    "tool",
}
"""Members that are read by this file in a way of their own."""


def _of_a_user(*classes: type) -> list[str]:
    """The functions of classes that act for a user."""
    found = []
    for kind in classes:
        for name in dir(kind):
            function = inspect.getattr_static(kind, name)
            if inspect.isfunction(function) and not name.startswith("_"):
                found += [function.__qualname__] * ("user_id" in inspect.signature(function).parameters)
    return sorted(found)


def test_every_member_of_a_model_is_classified() -> None:
    """What a model offers is read here for another user, or is for operators: a new member fails until it is said."""
    members = {name for name in dir(AgentModel) if not name.startswith("_")}

    assert members == {*STATIONS, *OPERATORS, *RECORDING}


def test_every_function_that_acts_for_a_user_is_read() -> None:
    """Every function that takes a user is read here for another user: a new one fails until it is said how."""
    assert sorted([*READS, *ERASING]) == _of_a_user(AgentModel, Recorder, *STATIONS.values())


@pytest.mark.parametrize("user_id", [BOB, ANONYMOUS])
def test_no_word_of_one_user_reaches_another(model: AgentModel, user_id: str) -> None:
    """Every function that acts for a user gives another user, known or not, nothing that one user recorded."""
    found = repository_of(model, user_id) if user_id == BOB else {}  # before he tries with ids of the other user
    plans = plans_of(model, user_id)
    sources = {name: each[0] for name, each in plans.items()}

    assert "similar users" == sources["category"]
    assert "similar requests of all users" == sources["request"]
    assert "nothing known" == sources["made up"]

    decisions = decisions_of(model, user_id)
    assert any(Blocked.__name__ in str(each) for each in decisions.values())

    matches = model.route(ASKED)
    assert [("DMN001", "requests")] == [(each.domain_id, each.basis) for each in matches]

    found |= {"plans": plans, "decisions": decisions, "route": repr(matches)}
    found["prompt"] = _without_catalogue(model.routing_prompt())
    for name, read in READS.items():
        found[name] = read(model, user_id)
    found["health"] = [repr(each) for each in model.health.tools("DMN001")]
    found["agents"] = [(each.agent_id, each.name, each.score) for each in model.repository.top_agents("DMN001")]
    found["tools"] = [(each.tool_id, each.name) for each in model.repository.domain_tools("DMN001")]
    assert_no_canary(found)


def _without_catalogue(text: str) -> str:
    """A text without what the application itself wrote into the catalogue, which is shown to everybody."""
    texts = rf"{MARK}.{{1,20}}?(Domain|Agent|Tool)\.(description|examples|spec).{{1,20}}?sk-live-{MARK}"
    found, count = re.subn(texts, "", text, flags=re.DOTALL)
    assert count
    return found


def test_a_cursor_of_one_user_is_no_good_for_another(model: AgentModel) -> None:
    """The cursor of a page of one user's sessions is refused for another user."""
    cursor = model.repository.sessions(ALICE, 1).cursor

    assert cursor is not None
    with pytest.raises(CursorError):
        model.repository.sessions(BOB, cursor=cursor)


def test_a_tool_that_a_model_made_up_is_nobody_elses(model: AgentModel) -> None:
    """The name of a tool that does not exist is kept with the call, and is not put into the catalogue."""
    stored = [item for item in model.table.scan() if NOWHERE in json.dumps(item)]

    assert {"UserSessPrcToolMappHist"} <= {item["EntityType"]["S"] for item in stored}
    assert not {"Tool"} & {item["EntityType"]["S"] for item in stored}


def test_an_error_type_is_never_free_text(model: AgentModel) -> None:
    """Through every recorder, the type of an error is the name of a class or a code, whatever was given for it."""
    recorded = [item for item in model.table.scan() if item["SK"]["S"] != "PRC001#AGT001#TL002"]
    types = {item["ErrorType"]["S"] for item in recorded if "ErrorType" in item}

    assert {"_OTHER", MARK} <= types  # a text, and the name of the class `Declined`
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]*", each) for each in types)


# What models and clients of another user get


def _langchain(model: AgentModel) -> Any:
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage, BaseMessage

    from agentmodel.integrations.langchain import AgentModelMiddleware
    from agentmodel.integrations.langchain import Tracker as LangChainTracker
    from tests.integration.integrations.scripted_langchain import Scripted, pay, search

    read: list[str] = []

    class Listening(Scripted):
        def _generate(self, messages: list[BaseMessage], *more: Any, **options: Any) -> Any:
            read.extend(str(message.content) for message in messages)
            return super()._generate(messages, *more, **options)

    with LangChainTracker(model, domain=DOMAIN) as tracker:
        for category in (SHARED, None):
            turns = [
                AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": 7}, "id": f"{category}"}]),
                AIMessage("done"),
            ]
            guard = model.guard(review="never", domain=DOMAIN)
            agent: Any = create_agent(
                Listening(messages=iter(turns)), [search, pay], middleware=[AgentModelMiddleware(tracker, guard)]
            )
            metadata = {"user_id": "bob"} | ({} if category is None else {"category": category})
            agent.invoke({"messages": [("user", ASKED)]}, {"metadata": metadata})
        assert 0 == tracker.errors
    return read


def _strands(model: AgentModel) -> Any:
    from strands import Agent as StrandsAgent

    from agentmodel.integrations.strands import AgentModelHooks
    from agentmodel.integrations.strands import Tracker as StrandsTracker
    from tests.integration.integrations.scenario import Asked, Turn
    from tests.integration.integrations.strands_agents import Scripted, pay, search

    scripted = Scripted([Turn((Asked("c1", "pay", {"amount": 7}),), 1, 1)])
    with StrandsTracker(model, domain=DOMAIN) as tracker:
        hooks = AgentModelHooks(tracker, guard=model.guard(review="never", domain=DOMAIN))
        agent = StrandsAgent(
            model=scripted, tools=[search, pay], name="agent 1", callback_handler=None, hooks=[hooks]
        )  # fmt: skip
        agent(ASKED, invocation_state={**BOBS, "session_id": "thread of bob"})
        state = agent.state.get()
        assert 0 == tracker.errors
    return [scripted.systems, scripted.results, state]


def _openai_agents(model: AgentModel) -> Any:
    from agents import Agent as OpenAIAgent
    from agents import RunConfig, Runner, set_trace_processors

    from agentmodel.integrations.openai_agents import AgentModelGuard, AgentModelRecorder
    from agentmodel.integrations.openai_agents import Tracker as OpenAITracker
    from tests.integration.integrations.openai_agents_script import broken, scripted, search, turn
    from tests.integration.integrations.scenario import Asked

    said = scripted(turn(Asked("c1", "search", {"q": "a"})))
    with OpenAITracker(model, domain=DOMAIN) as tracker:
        recorder = AgentModelRecorder(tracker)
        set_trace_processors([recorder])
        guard = AgentModelGuard(recorder, model.guard(review="never", domain=DOMAIN))
        agent = OpenAIAgent(name="agent 1", model=said, tools=guard.tools(search, broken))
        how = RunConfig(call_model_input_filter=guard.plan)
        context = {**BOBS, "session_id": "thread of bob"}
        asyncio.run(Runner.run(agent, ASKED, context=context, hooks=recorder, run_config=how))
        set_trace_processors([])
        assert 0 == tracker.errors
    return [repr(call.system_instructions) + repr(call.input) for call in said.calls]


def _pydantic_ai(model: AgentModel) -> Any:
    from agentmodel.integrations.pydantic_ai import AgentModelCapability
    from agentmodel.integrations.pydantic_ai import Tracker as PydanticTracker
    from tests.integration.integrations.pydantic_ai_agents import Scripted, agent_of, pay, run, search
    from tests.integration.integrations.scenario import Asked, Turn

    scripted = Scripted([Turn((Asked("c1", "pay", {"amount": 7}),), 1, 1)])
    with PydanticTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCapability(tracker, guard=model.guard(review="never", domain=DOMAIN))
        agent = agent_of(scripted, [search, pay], ours, name="agent 1")
        result = run(agent, ASKED, metadata={**BOBS, "session_id": "thread of bob"})
        assert 0 == tracker.errors
    return [scripted.systems, scripted.results, result.all_messages_json().decode()]


def _google_adk(model: AgentModel) -> Any:
    from agentmodel.integrations.google_adk import AgentModelPlugin
    from agentmodel.integrations.google_adk import Tracker as AdkTracker
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of, pay, search
    from tests.integration.integrations.scenario import Asked, Turn

    scripted = Scripted([Turn((Asked("c1", "pay", {"amount": 7}),), 1, 1)])
    with AdkTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelPlugin(tracker, guard=model.guard(review="never", domain=DOMAIN))
        Conversation(agent_of(scripted, [search, pay], name="agent_1"), ours, user="bob").tell(ASKED)
        assert 0 == tracker.errors
    return [scripted.systems, scripted.results]


def _claude_agent_sdk(model: AgentModel) -> Any:
    from agentmodel.integrations.claude_agent_sdk import Tracker as ClaudeTracker
    from tests.integration.integrations.claude_agents import ClaudeTalk
    from tests.integration.integrations.scenario import Asked, Turn

    with ClaudeTracker(model, domain=DOMAIN) as tracker:
        guard = model.guard(review="never", domain=DOMAIN)
        turns = [Turn((Asked("c1", "pay", {"amount": 7}),), 1, 1)]
        talk = ClaudeTalk(tracker, turns, user="bob", agent="agent 1", category=None, guard=guard)
        talk.tell(ASKED)
        assert 0 == tracker.errors
    return [talk.api.asked, talk.results]


def _crewai(model: AgentModel) -> Any:
    from agentmodel.integrations.crewai import AgentModelCrewHooks
    from agentmodel.integrations.crewai import Tracker as CrewTracker
    from tests.integration.integrations.crewai_agents import agent_of, crew_of, pay, scripted, search
    from tests.integration.integrations.scenario import Asked, Turn

    said = scripted([Turn((Asked("c1", "pay", {"amount": 7}),), 1, 1)])
    with CrewTracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCrewHooks(tracker, guard=model.guard(review="never", domain=DOMAIN))
        with ours.session("thread of bob", user="bob", request=ASKED):
            crew_of(agent_of(said, [search, pay], role="agent 1")).kickoff()
        assert 0 == tracker.errors
    return [said.systems, said.results]


def _mcp(model: AgentModel) -> Any:
    """Everything that the MCP server says to a caller who is no operator."""
    from mcp import Client, MCPError

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    told: dict[str, list[dict[str, Any]]] = {
        "recommend_process": [
            {"category": SHARED}, {"request": ASKED}, {"domain_id": "DMN001"}, {"category": MADE_UP},
        ],
        "list_domains": [{}],
        "list_agents": [{"domain_id": "DMN001"}],
        "list_tools": [{"agent_id": "AGT001"}, {"agent_id": "AGT001", "text": "TL002/spec"}],
        "route_request": [{"request": ASKED}],
        "next_tools": [{"session_id": "SESSmine"}, {"agent_id": "AGT001", "category": SHARED}],
        "agent_ranking": [{"domain_id": "DMN001"}],
        "tool_health": [{"domain_id": "DMN001"}],
        "session_history": [{}, {"session_id": "SESSmine"}],
        "record_execution": [{"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True}],
        "record_outcome": [{"session_id": "SESSmine", "succeeded": True}, {"session_id": "SESSnone", "succeeded": True}],
        "savings_report": [{}],
        "list_reviews": [{}],
        "decide_review": [{"review": "USRnobody/SESS1/1"}],
    }  # fmt: skip

    async def scenario() -> list[str]:
        caller = Caller(user_id=BOB, roles=frozenset({"reader", "recorder"}))
        answers = []
        async with Client(mcp_server(model, caller=caller)) as client:
            tools = await client.list_tools()
            templates = (await client.list_resource_templates()).resource_templates
            assert told.keys() == {tool.name for tool in tools.tools}, "say how the new tool is read"
            answers += [tools.model_dump_json(), (await client.list_resources()).model_dump_json()]
            answers += [
                (await client.list_prompts()).model_dump_json(),
                *(each.model_dump_json() for each in templates),
            ]
            for name, questions in told.items():
                for arguments in questions:
                    answer = (await client.call_tool(name, arguments)).model_dump_json()
                    shown = ("list_domains", "list_agents", "list_tools")
                    answers.append(_without_catalogue(answer) if name in shown else answer)
            for name in ("recommend_process", "session_history", "record_execution"):
                other = told[name][0] | {"user_id": ALICE}
                refused = await client.call_tool(name, other)
                assert refused.is_error
                answers.append(refused.model_dump_json().replace(ALICE, ""))  # the id that he asked with
            for template in templates:
                address = template.uri_template.replace("{domain_id}", "DMN001").replace("{?cursor}", "")
                assert "{" not in address.replace("{user_id}", ""), "say how the new resource is read"
                answers.append((await client.read_resource(address.replace("{user_id}", BOB))).model_dump_json())
                if "{user_id}" in address:
                    with pytest.raises(MCPError) as error:
                        await client.read_resource(address.replace("{user_id}", ALICE))
                    answers.append(str(error.value).replace(ALICE, ""))
        return answers

    return asyncio.run(scenario())


READERS: dict[str, tuple[str, Callable[[AgentModel], Any]]] = {
    "claude_agent_sdk": ("claude_agent_sdk", _claude_agent_sdk),
    "crewai": ("crewai", _crewai),
    "google_adk": ("google.adk", _google_adk),
    "langchain": ("langchain", _langchain),
    "mcp": ("mcp.client.client", _mcp),  # from mcp 2 on
    "openai_agents": ("agents", _openai_agents),
    "pydantic_ai": ("pydantic_ai", _pydantic_ai),
    "strands": ("strands", _strands),
}
"""What a model or a client of another user gets through each integration, and what must be installed for it."""


@pytest.mark.parametrize("name", READERS)
def test_no_word_of_one_user_reaches_a_model_or_client_of_another(model: AgentModel, name: str) -> None:
    """A model that works for another user reads the plan and the guard's messages, and nothing of the first user."""
    needs, read = READERS[name]
    if not installed(needs):
        pytest.skip(f"{needs} is not installed")
    found = read(model)

    assert "other users" in str(found)
    assert_no_canary({name: found})


def test_a_function_of_another_user_gets_no_cached_answer(model: AgentModel) -> None:
    """A function that is a tool answers another user, and the anonymous one, anew."""

    @model.tool(agent="agent 1", domain="store search", cache="user")
    def balance(whose: str) -> str:
        """Return a balance."""
        return f"made for {len(whose)}"

    with model.session(BOB, "mine"):
        assert_no_canary({"of bob": balance(MARK)})
    assert_no_canary({"of nobody": balance(MARK)})


def test_the_text_of_the_last_error_is_kept_for_operators(model: AgentModel) -> None:
    """A publish keeps the text of a tool's last error at the tool, where operators read it."""
    tool = model.repository.tool("AGT001", "TL001")

    assert isinstance(tool, Tool)
    assert MARK in str(tool.last_error)


# The look-out works


def _told_the_last_error(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a tool's last error, as a reason to avoid it."""
    from agentmodel.suggest.plan import Reason, ToolRef, _failing_tools

    def often(tools: Iterable[Tool]) -> dict[ToolRef, Reason]:
        return {
            ToolRef(tool.agent_id, tool.tool_id): Reason(code="own_category", values={"category": str(tool.last_error)})
            for tool in tools
        }

    monkeypatch.setattr(_failing_tools, "often_failing", often)


def _told_the_request(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of another user, as what the plan was found by."""
    from agentmodel.suggest.plan import _lookup

    monkeypatch.setattr(_lookup.Candidate, "own", True)


def _shared_answers(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are looked up as those of the first user, whoever asks."""
    look = model.response_cache.look
    monkeypatch.setattr(
        model.response_cache, "look", lambda *given, **named: look(*given, **named | {"user_id": ALICE})
    )
    with model.session(ALICE, "mine") as session, session.process("mine") as process:
        model.response_cache.call(process, "AGT001", "TL002", lambda: canary("answer"), arguments={MARK: MARK})


@pytest.mark.parametrize("mutant", [_told_the_last_error, _told_the_request, _shared_answers])
def test_a_leak_is_found(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[AgentModel, pytest.MonkeyPatch], None]
) -> None:
    """Where the code is changed so that a text of one user gets out, it is found in what another user gets."""
    mutant(model, monkeypatch)
    plans = plans_of(model, BOB)
    decisions = decisions_of(model, BOB)

    assert [] != leaks({"plans": plans, "decisions": decisions})


def test_a_canary_is_found_in_every_encoding() -> None:
    """A canary is found as it is, coded, escaped, reversed, and in capitals."""
    import base64
    from urllib.parse import quote

    coded: dict[str, Any] = {
        "plain": f"a {MARK} b",
        "capitals": MARK.upper(),
        "reversed": MARK[::-1].lower(),
        "base64": base64.b64encode(f"some {MARK} text".encode()).decode(),
        "base64 of UTF-16": base64.b64encode(f"{MARK}s".encode("utf-16")).decode(),
        "hex": f"x{MARK}".encode().hex(),
        "percent": quote(f"# {MARK}"),
        "JSON": {"of": [json.dumps(MARK)]},
        "UTF-16": MARK.encode("utf-16").decode("latin-1"),
        "bytes of UTF-16": MARK.encode("utf-16"),
        "key": {MARK: 1},
        "model": Plan(user_id=ALICE),
    }

    assert set(coded) == {leak.rpartition(" (")[0] for leak in leaks(coded)}
