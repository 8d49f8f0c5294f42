"""The client of the Claude Agent SDK: the SDK's own program, with a scripted Messages API on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.suggest.plan import Plan
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    EXPECTED,
    REQUEST,
    SCRIPT,
    USER,
    Asked,
    Shown,
    Turn,
    expected,
    learned_that_searches_stay,
    shown,
)
from tests.integration.suggest_world import opened

pytest.importorskip("claude_agent_sdk", reason="the extra claude-agent-sdk is not installed")

from claude_agent_sdk import (
    AgentDefinition,
    AssistantMessage,
    ClaudeAgentOptions,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    StreamEvent,
    create_sdk_mcp_server,
    tool,
)

from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker
from agentmodel.integrations.claude_agent_sdk._calls import CallsOfConversation
from tests.integration.integrations.claude_agents import (
    PROGRAM,
    SERVER,
    ClaudeTalk,
    broken,
    named,
    pay,
    search,
    text,
)

pytestmark = pytest.mark.skipif(not PROGRAM, reason="the program of the Claude Agent SDK is not installed")

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
ASK = Turn((Asked("c1", "search", {"q": "a"}),), 3, 2)
PAY = Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4)
LOOK = Turn((Asked("a1", "Agent", {"description": "look", "prompt": "look", "subagent_type": "looker"}),), 9, 4)
LOOKER: dict[str, Any] = {
    "agents": {"looker": AgentDefinition(description="looks", prompt="You look.", model="inherit")},
    "tools": ["Agent"],
}


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    @tool("flaky", "fail once", {"q": str})
    async def flaky(given: Any) -> dict[str, Any]:
        for failure in failures:
            raise failure
        return text(f"found {given['q']}")

    return flaky


def script() -> list[Turn]:
    """The scenario, in which the model asks again for what failed once: a second call."""
    turns = []
    for turn in SCRIPT:
        turns.append(turn)
        if turn.calls[0].tool == "flaky":
            turns.append(replace(turn, calls=(replace(turn.calls[0], call_id="c3-again"),)))
    return turns


def wanted(calls: list[Shown]) -> list[Shown]:
    """What is expected, with a second call in place of a second attempt."""
    return [replace(call, attempt=1, tokens=(20, 4)) if call.attempt == 2 else call for call in calls]


def seen(model: AgentModel) -> list[Shown]:
    """What the history holds, with the tools' own names."""
    return [replace(call, tool=call.tool.removeprefix(f"mcp__{SERVER}__")) for call in shown(model)]


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose catalogue has the agent's tools; searching is read-only."""
    with opened(settings) as model:
        model.repository.put(
            *[
                Tool(
                    agent_id=PLACE,
                    tool_id=keys.stable_id("TL", named(name)),
                    domain_id=keys.stable_id("DMN", DOMAIN),
                    name=named(name),
                    description=described,
                    read_only=name == "search",
                )
                for name, described in (("search", "find places"), ("lookup", "find places"), ("pay", "pay for it"))
            ]
        )
        yield model


@pytest.fixture
def tracker(model: AgentModel) -> Iterator[Tracker]:
    """Writes what is recorded."""
    with Tracker(model, domain=DOMAIN) as tracker:
        yield tracker


def rules(tracker: Tracker, **given: Any) -> Any:
    """A guard of its own."""
    return tracker.model.guard(domain=DOMAIN, **given)


def recorded(tracker: Tracker, model: AgentModel) -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in seen(model)]


# What is recorded


@pytest.mark.filterwarnings("ignore:can_use_tool will not be invoked")  # as is meant
def test_scenario(model: AgentModel, tracker: Tracker) -> None:
    """The client alone records each case; a result that the tool itself has cached looks like any other."""

    async def decides(_name: str, _given: Any, context: Any) -> Any:
        if context.tool_use_id == "c7":
            return PermissionResultDeny(message="too much")
        return PermissionResultAllow(updated_input={"amount": 5})

    tools = [search, flaky(), broken, pay]
    allowed = [named(one.name) for one in tools if one is not pay]
    options = {"can_use_tool": decides, "allowed_tools": allowed}
    ClaudeTalk(tracker, script(), tools=tools, options=options).tell(REQUEST)
    assert tracker.flush()
    calls = seen(model)

    assert wanted(expected(looks=RECORDERS["Claude Agent SDK, client"].looks)) == calls
    tell("Claude Agent SDK, client", calls)
    assert 0 == tracker.errors
    (session,) = model.repository.sessions(f"USR{USER}")
    assert (REQUEST, CATEGORY, None) == (session.request, session.category, session.succeeded)
    assert session.ended_at is not None


def test_scenario_with_a_guard(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is carried out by the guard and recorded: rejected, edited, and answered from what is known."""
    learned_that_searches_stay(model, named=named)
    talk = ClaudeTalk(
        tracker, script(), tools=[search, flaky(), broken, pay], guard=rules(tracker, review=[named("pay")])
    )
    talk.tell(REQUEST)
    for decision in ({"decision": "reject", "reason": "too much"}, {"decision": "edit", "arguments": {"amount": 5}}):
        (review,) = model.reviews.inbox()
        model.reviews.decide(review, by="kim", **decision)
        talk.go_on()

    assert tracker.flush()
    assert wanted(expected()) == seen(model)
    tell("Claude Agent SDK, client with a guard", seen(model))
    assert 0 == tracker.errors
    assert "found a" == talk.results["c9"]


def test_a_sub_agent(model: AgentModel, tracker: Tracker) -> None:
    """Calls of a sub-agent are in the same session, under its name; that it was started is no call."""
    talk = ClaudeTalk(tracker, [LOOK], inner={"You look.": [ASK]}, options=LOOKER, guard=rules(tracker, review="never"))

    async def both() -> None:
        async with talk.client() as client:
            await client.query(REQUEST)
            async for message in client.receive_messages():
                if type(message).__name__ == "ResultMessage" and "c1" in talk.results:
                    return

    asyncio.run(both())

    assert [("search", "ok")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    (call,) = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert (REQUEST, keys.stable_id("AGT", DOMAIN, "looker")) == (session.request, call.agent_id)


def test_tools_of_the_sdk(model: AgentModel, tracker: Tracker, tmp_path: Path) -> None:
    """Tools of the SDK's program are recorded by their names, also where their arguments are not valid."""
    (tmp_path / "menu.txt").write_text("coffee")
    calls = (
        Asked("c1", "Read", {"file_path": str(tmp_path / "menu.txt")}),
        Asked("c2", "Read", {"path": "menu.txt"}),
        Asked("c3", "Read", {"file_path": str(tmp_path / "none.txt")}),
    )
    talk = ClaudeTalk(
        tracker,
        [Turn((call,), 3, 2) for call in calls],
        home=tmp_path,
        options={"tools": ["Read"], "allowed_tools": ["Read"]},
    )
    talk.tell(REQUEST)

    assert [("Read", "ok"), ("Read", "error"), ("Read", "error")] == recorded(tracker, model)
    assert [None, "ValidationError", "tool_error"] == [call.error_type for call in seen(model)]


def test_a_run_that_fails(model: AgentModel, tracker: Tracker) -> None:
    """A run that the SDK ends as an error is the session's failure."""
    talk = ClaudeTalk(tracker, [ASK, PAY], options={"max_turns": 1})
    talk.tell(REQUEST)

    assert ("search", "ok") == recorded(tracker, model)[0]
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is False


def test_an_interrupted_run(model: AgentModel, tracker: Tracker) -> None:
    """A call of a run that was interrupted is `interrupted`, which is no failure of the session."""
    begun = asyncio.Event()

    @tool("search", "wait", {"q": str})
    async def waits(given: Any) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    talk = ClaudeTalk(tracker, [ASK], tools=[waits])

    async def scenario() -> None:
        async with talk.client() as client:
            await client.query(REQUEST)
            reading = asyncio.create_task(anext_all(client))
            await begun.wait()
            await client.interrupt()
            await reading

    async def anext_all(client: Any) -> None:
        async for _ in client.receive_response():
            pass

    asyncio.run(scenario())

    assert [("search", "interrupted")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is None


def test_a_conversation_that_is_closed(model: AgentModel, tracker: Tracker) -> None:
    """A call that runs when the conversation is closed was interrupted."""
    begun = asyncio.Event()

    @tool("search", "wait", {"q": str})
    async def waits(given: Any) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    talk = ClaudeTalk(tracker, [ASK], tools=[waits])

    async def scenario() -> None:
        async with talk.client() as client:
            await client.query(REQUEST)
            await begun.wait()

    asyncio.run(scenario())

    assert [("search", "interrupted")] == recorded(tracker, model)


def test_nobody_reads_the_messages(model: AgentModel, tracker: Tracker) -> None:
    """Calls are recorded by the hooks alone where the application reads no messages, without tokens."""
    done = asyncio.Event()

    async def stopped(*_: Any) -> Any:
        done.set()
        return {}

    talk = ClaudeTalk(tracker, [ASK], options={"hooks": {"Stop": [HookMatcher(hooks=[stopped])]}})

    async def scenario() -> None:
        async with talk.client() as client:
            await client.query(REQUEST)
            await done.wait()

    asyncio.run(scenario())

    assert [("search", "ok")] == recorded(tracker, model)
    assert [(None, None)] == [call.tokens for call in seen(model)]


@pytest.mark.parametrize("asked", [False, True])
def test_parts_of_messages(tracker: Tracker, asked: bool) -> None:
    """The application gets the messages that it asked for, although the client reads more."""
    talk = ClaudeTalk(tracker, [ASK], options={"include_partial_messages": asked})
    talk.tell(REQUEST)

    assert asked == any(isinstance(one, StreamEvent) for one in talk.messages)
    assert any(isinstance(one, AssistantMessage) for one in talk.messages)


def test_revisions(model: AgentModel) -> None:
    """The digest of an agent follows its prompt and tools."""
    with Tracker(model, domain=DOMAIN, revisions="auto") as tracker:
        for prompt in ("You find.", "You find.", "You pay."):
            ClaudeTalk(tracker, [ASK], options={"system_prompt": prompt}).tell(REQUEST)
            assert tracker.flush()

    calls = [
        call
        for session in model.repository.sessions(f"USR{USER}")
        for call in model.repository.session_history(f"USR{USER}", session.session_id).executions
    ]
    first, second, third = [call.revision for call in sorted(calls, key=lambda call: str(call.executed_at))]
    assert None is not first == second != third


def test_errors_are_counted(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that fails is counted, and the agent does not learn of it."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tracker, "run", down)
    talk = ClaudeTalk(tracker, [ASK])
    talk.tell(REQUEST)

    assert "found a" == talk.results["c1"]
    assert tracker.errors


def test_options_that_do_not_fit(tracker: Tracker) -> None:
    """A server that is given twice, or in a file, is an error before anything runs; the given options stay as they are."""
    twice = ClaudeAgentOptions(mcp_servers={SERVER: create_sdk_mcp_server(SERVER)})
    with pytest.raises(ValidationError, match="must not name a server that options"):
        AgentModelClient(tracker, twice, tools={SERVER: [search]})
    with pytest.raises(ValidationError, match="must be a mapping of servers"):
        AgentModelClient(tracker, ClaudeAgentOptions(mcp_servers="servers.json"), tools={SERVER: [search]})
    given = ClaudeAgentOptions()
    AgentModelClient(tracker, given, tools={SERVER: [search]})

    assert ClaudeAgentOptions() == given


# What a guard decides


def test_the_plan_is_with_the_prompt(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model reads the plan with the user's prompt, once for each request, and still after a question."""
    asked: list[str] = []

    def planned(user_id: str, *, request: str, **_: Any) -> Plan:
        asked.append(request)
        return Plan(user_id=user_id, source="own mapping", agent=f"plan {len(asked)}")

    guard = rules(tracker, review=[named("pay")])
    monkeypatch.setattr(guard, "plan", planned)
    talk = ClaudeTalk(tracker, [PAY], guard=guard)
    talk.tell(REQUEST)
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "approve", "kim")
    talk.go_on()
    talk.tell("something else")

    assert [REQUEST, "something else"] == asked
    assert [True] * len(talk.api.asked) == [1 == said.count("plan 1") for said in talk.api.asked]
    assert [False, False, True] == ["plan 2" in said for said in talk.api.asked]
    assert 0 == tracker.errors


def test_a_failing_tool_is_blocked(model: AgentModel, tracker: Tracker) -> None:
    """The model reads what fails and what works instead; the tool is not called, and the call is `blocked`."""
    for n in range(46):
        model.recorder.record(
            ToolExecution(
                user_id=f"USR00{2 + n % 2}",
                session_id="SESS20250614001",
                process_id="PRC001",
                agent_id=PLACE,
                tool_id=keys.stable_id("TL", named("search")),
                tool_name=named("search"),
                succeeded=n < 40,
                executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
            )
        )
    model.settle()
    talk = ClaudeTalk(tracker, [ASK], guard=rules(tracker, review="never"))
    talk.tell(REQUEST)

    assert "`mcp__cafes__search` was not called: it has been failing since " in talk.results["c1"]
    assert talk.results["c1"].endswith("Use `mcp__cafes__lookup` instead.")
    assert [("search", "blocked")] == recorded(tracker, model)


def test_a_person_decides(model: AgentModel, tracker: Tracker) -> None:
    """The question is in the history before the run stops; it stops again until somebody has decided."""
    talk = ClaudeTalk(tracker, [PAY], guard=rules(tracker, review=[named("pay")]))
    talk.tell(REQUEST)
    asked, deferred = talk.question, talk.result.deferred_tool_use
    talk.go_on()
    again, before = talk.question, recorded(tracker, model)
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "approve", "kim")
    talk.go_on()

    assert asked is not None
    assert deferred is not None
    assert ("c1", {"amount": 7}) == (deferred.id, deferred.input)
    assert (model.reviews.reference(review), {"amount": 7}) == (asked["review"], asked["arguments"])
    assert asked == again
    assert [] == before, "a call that waits is not made"
    assert ("paid 7", None) == (talk.results["c1"], talk.question)
    assert [("pay", "ok")] == recorded(tracker, model)


def test_a_person_answers_in_place_of_the_tool(model: AgentModel, tracker: Tracker) -> None:
    """What a person says in place of a result is what the model reads; the tool is not called."""
    talk = ClaudeTalk(tracker, [PAY], guard=rules(tracker, review=[named("pay")]))
    talk.tell(REQUEST)
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "respond", "kim", response="It is paid already.")
    talk.go_on()

    assert "It is paid already." == talk.results["c1"]
    assert [("pay", "rejected")] == recorded(tracker, model)


@pytest.mark.parametrize("decision", ["approve", "respond"])
def test_another_hook_changes_what_a_person_decided(
    model: AgentModel, tracker: Tracker, decision: Literal["approve", "respond"]
) -> None:
    """A decision is about the arguments that the person saw: with others, the tool is not called."""
    paid: list[Any] = []

    @tool("pay", "Pay for it.", {"amount": int})
    async def paying(given: Any) -> dict[str, Any]:
        paid.append(given)
        return {"content": [{"type": "text", "text": "paid"}]}

    async def more(given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        changed = {"permissionDecision": "allow", "updatedInput": {"amount": 100 * given["tool_input"]["amount"]}}
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **changed}}

    talk = ClaudeTalk(
        tracker,
        [PAY],
        tools=[paying],
        guard=rules(tracker, review=[named("pay")]),
        options={"hooks": {"PreToolUse": [HookMatcher(hooks=[more])]}},
    )
    talk.tell(REQUEST)
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, decision, "kim", response="no" if decision == "respond" else None)
    talk.go_on()

    assert [] == paid
    assert "was not called" in talk.results["c1"]
    assert [("pay", "error")] == recorded(tracker, model)


def test_two_questions_at_once(model: AgentModel, tracker: Tracker) -> None:
    """One call can wait: the second one is blocked and its question withdrawn, and a call beside them is made once."""
    several = Turn(
        (Asked("c1", "pay", {"amount": 7}), Asked("c3", "search", {"q": "a"}), Asked("c2", "pay", {"amount": 8})), 6, 4
    )
    talk = ClaudeTalk(tracker, [several], guard=rules(tracker, review=[named("pay")]))
    talk.tell(REQUEST)
    assert talk.question is not None
    (review,) = model.reviews.inbox()
    model.reviews.decide(review, "approve", "lee")
    talk.go_on()

    waited, other = ("c1", "c2") if talk.question_of == "c1" else ("c2", "c1")
    assert talk.results[waited].startswith("paid ")
    assert "another call waits for a person" in talk.results[other]
    assert {("pay", "ok"), ("search", "ok"), ("pay", "blocked")} == set(recorded(tracker, model))
    assert 3 == len(seen(model))
    assert () == model.reviews.inbox().items


def test_the_same_id_in_a_later_message(model: AgentModel, tracker: Tracker) -> None:
    """A call with the id and the arguments of an earlier one is another call: its approval is not that one's."""
    guard = rules(tracker, review=[named("pay")])
    questions = []
    for _ in range(2):  # a conversation of its own each, whose model numbers its calls anew
        talk = ClaudeTalk(tracker, [PAY], guard=guard)
        talk.tell(REQUEST)
        assert talk.question is not None
        questions.append(talk.question["review"])
        model.reviews.decide(next(iter(model.reviews.inbox())), "approve", "kim")

    assert questions[0] != questions[1]


@pytest.mark.parametrize(
    "at_once",
    [[{}, {}], [{}, {"agent_id": "x"}], [{"agent_id": "x"}, {"agent_id": "y"}]],
    ids=["one agent", "an agent and its sub-agent", "two sub-agents"],
)
def test_one_id_of_calls_at_once(model: AgentModel, tracker: Tracker, at_once: list[dict[str, str]]) -> None:
    """Models behind a server that numbers the calls of each answer anew: every call is kept, with its own result."""
    conversation = CallsOfConversation(tracker, AGENT)
    conversation.opened("thread", user=USER)
    told: list[dict[str, Any]] = [
        {"tool_use_id": "call_0", "tool_name": "search", "tool_input": {"q": n}} | at_once[n] for n in (0, 1)
    ]
    for given in (*told, *told):  # and in the next answer again
        conversation.begin(given)
        if given is told[1]:
            for ended in reversed(told):
                call = conversation.get(ended)
                assert call is not None
                conversation.end(call, "ok", result=f"found {ended['tool_input']['q']}")
    conversation.over(closed=True)
    tracker.flush()

    (session,) = model.repository.sessions(f"USR{USER}").items
    calls = model.repository.session_history(session.user_id, session.session_id).executions
    assert [("found 0", 1)] * 2 + [("found 1", 1)] * 2 == sorted((call.result, call.attempt) for call in calls)
    assert all(str(call.result)[-1] in str(call.values) for call in calls)


def test_a_question_in_a_sub_agent(model: AgentModel, tracker: Tracker) -> None:
    """The SDK cannot defer a call of a sub-agent: it is blocked, and its question withdrawn."""
    guard = rules(tracker, review=[named("pay")])
    talk = ClaudeTalk(tracker, [LOOK], inner={"You look.": [PAY]}, options=LOOKER, guard=guard)

    async def both() -> None:
        async with talk.client() as client:
            await client.query(REQUEST)
            async for message in client.receive_messages():
                if type(message).__name__ == "ResultMessage" and "c1" in talk.results:
                    return

    asyncio.run(both())

    assert "a person has to approve it first" in talk.results["c1"]
    assert [("pay", "blocked")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_a_guard_that_fails_refuses(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call about which nothing could be decided is not made, and what failed is counted."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("the table does not answer")

    guard = rules(tracker, review=[named("pay")])
    monkeypatch.setattr(guard, "before", down)
    talk = ClaudeTalk(tracker, [PAY], guard=guard)
    talk.tell(REQUEST)

    assert "nobody can be asked" in talk.results["c1"]
    assert 1 == tracker.errors
    assert tracker.flush()
    assert ["blocked"] == [call.status for call in seen(model)]


def test_a_run_that_cannot_be_opened_is_guarded(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the client itself fails, a call that a person may have to approve is not made; others are."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tracker, "run", down)
    turns = [PAY, replace(ASK, calls=(replace(ASK.calls[0], call_id="c2"),))]
    talk = ClaudeTalk(tracker, turns, guard=rules(tracker, review=[named("pay")]))
    talk.tell(REQUEST)

    assert "nobody can be asked" in talk.results["c1"]
    assert "found a" == talk.results["c2"]
    assert tracker.errors


def test_the_sdks_own_rules_stay(model: AgentModel, tracker: Tracker) -> None:
    """A guard that lets a call pass does not allow it: the SDK's rules and the application's callback decide."""
    talk = ClaudeTalk(tracker, [ASK], options={"allowed_tools": []}, guard=rules(tracker, review="never"))
    talk.tell(REQUEST)

    assert "found a" != talk.results["c1"]
    assert [("search", "rejected")] == recorded(tracker, model)


def test_resumed_by_another_tracker(model: AgentModel, tmp_path: Path) -> None:
    """A conversation goes on with another client and tracker, and the question is found again."""
    options: Any = {}
    for n in range(2):
        with Tracker(model, domain=DOMAIN) as tracker:
            talk = ClaudeTalk(
                tracker, [PAY], home=tmp_path, options=options, guard=rules(tracker, review=[named("pay")])
            )
            if n == 0:
                talk.tell(REQUEST)
                options = {"resume": talk.result.session_id}
                (review,) = model.reviews.inbox()
                model.reviews.decide(review, "edit", "lee", arguments={"amount": 5})
            else:
                talk.go_on()
            assert 0 == tracker.errors
            results = talk.results

    note = '`lee` edited this call: `mcp__cafes__pay` was called with {"amount": 5}. Its result:'
    assert f"{note}\npaid 5" == results["c1"]
    assert [("pay", "edited", {"amount": 5})] == [(call.tool, call.status, call.arguments) for call in seen(model)]


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the client makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "claude_agent_sdk.md"
    looks = RECORDERS["Claude Agent SDK, client"].looks
    cases = dict.fromkeys(call.case for call in EXPECTED)
    rows = [
        f"| {case} | {f'recorded as `{looks[case]}`' if case in looks else 'recorded'} | recorded |" for case in cases
    ]

    assert "\n".join(["| case | client | with a guard |", "|---|---|---|", *rows]) in page.read_text(encoding="utf-8")
