"""The plugin for Google ADK, driven by a real runner with a scripted model."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool, ToolExecution, keys
from agentmodel.exceptions import TableUnavailable
from agentmodel.suggest.plan import Plan
from tests.hostile import UNCOPYABLE
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

pytest.importorskip("google.adk", reason="the extra google-adk is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # ADK warns of its own experimental and deprecated parts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.openapi.models import APIKey
    from google.adk.agents import ParallelAgent
    from google.adk.auth import AuthConfig
    from google.adk.plugins.base_plugin import BasePlugin
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
    from google.adk.tools.agent_tool import AgentTool
    from google.adk.tools.function_tool import FunctionTool
    from google.adk.tools.tool_context import ToolContext

    from agentmodel.integrations.google_adk import AgentModelPlugin, Tracker
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of, broken, pay, search

PLACE = keys.stable_id("AGT", DOMAIN, AGENT)
LOOKS = RECORDERS["Google ADK, plugin"].looks
ASK = Turn((Asked("c1", "search", {"q": "a"}),), 3, 2)
PAY = Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4)
APPROVE = {"decision": "approve", "by": "kim"}


class Others(BasePlugin):  # type: ignore[misc,unused-ignore]  # Any where ADK is not installed
    """Let the model read what fails, ask about payments, and answer c9 from a cache."""

    def __init__(self, *, decides: bool = False) -> None:
        super().__init__(name="others")
        self._decides = decides

    async def on_tool_error_callback(self, *, tool: Any, tool_args: Any, tool_context: Any, error: Any) -> Any:
        return None if isinstance(error, asyncio.CancelledError) else {"error": str(error)}

    async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> Any:
        if not self._decides:
            return None
        if tool_context.function_call_id == "c8":
            tool_args["amount"] = 5
        return {"c7": {"error": "too much"}, "c9": {"result": "found a"}}.get(tool_context.function_call_id)


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

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


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose catalogue has the agent's tools; searching is read-only."""
    with opened(settings) as model:
        model.repository.put(
            *[
                Tool(
                    agent_id=PLACE,
                    tool_id=keys.stable_id("TL", name),
                    domain_id=keys.stable_id("DMN", DOMAIN),
                    name=name,
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


def guarded(tracker: Tracker, **rules: Any) -> AgentModelPlugin:
    """The plugin with a guard of its own."""
    return AgentModelPlugin(tracker, guard=tracker.model.guard(domain=DOMAIN, **rules))


def recorded(tracker: Tracker, model: AgentModel) -> list[tuple[str, str]]:
    """Tools and statuses of what was recorded; nothing failed."""
    assert tracker.flush()
    assert 0 == tracker.errors
    return [(call.tool, call.status) for call in shown(model)]


# What is recorded


def test_scenario(model: AgentModel, tracker: Tracker) -> None:
    """The plugin alone records each case; what other plugins decide looks like what the tool did."""
    agent = agent_of(Scripted(script()), [search, flaky(), broken, pay])
    Conversation(agent, AgentModelPlugin(tracker), Others(decides=True)).tell(REQUEST)
    assert tracker.flush()
    calls = shown(model)

    amounts = [
        replace(call, arguments={"amount": 8}) if call.arguments == {"amount": 5} else call for call in expected()
    ]
    seen = [replace(call, status=one.status) for call, one in zip(amounts, expected(looks=LOOKS), strict=True)]
    seen = [replace(call, error_type="tool_error") if call.arguments == {"amount": 7} else call for call in seen]
    assert wanted(seen) == calls
    tell("Google ADK, plugin", calls)
    assert 0 == tracker.errors
    (session,) = model.repository.sessions(f"USR{USER}")
    assert (REQUEST, CATEGORY, None) == (session.request, session.category, session.succeeded)
    assert session.ended_at is not None


def test_scenario_with_a_guard(model: AgentModel, tracker: Tracker) -> None:
    """The whole scenario is carried out by the guard and recorded: rejected, edited, and answered from what is known."""
    learned_that_searches_stay(model)
    agent = agent_of(Scripted(script()), [search, flaky(), broken, pay])
    talk = Conversation(agent, guarded(tracker, review=["pay"]), Others())
    talk.tell(REQUEST)
    talk.answer({"decision": "reject", "by": "kim", "reason": "too much"})
    talk.answer({"decision": "edit", "by": "kim", "arguments": {"amount": 5}})

    assert tracker.flush()
    assert wanted(expected()) == shown(model)
    tell("Google ADK, plugin with a guard", shown(model))
    assert 0 == tracker.errors


def test_an_agent_inside_a_tool(model: AgentModel, tracker: Tracker) -> None:
    """An agent that is used as a tool has a session of ADK's own; its calls belong to the outer one."""
    child = agent_of(Scripted([ASK]), [search], name="child", description="looks")
    outer = agent_of(Scripted([Turn((Asked("p1", "child", {"request": "go"}),), 3, 2)]), [AgentTool(child)])
    talk = Conversation(outer, guarded(tracker, review="never"))
    talk.tell(REQUEST)

    assert {("child", "ok"), ("search", "ok")} == set(recorded(tracker, model))
    (session,) = model.repository.sessions(f"USR{USER}")
    assert REQUEST == session.request
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert 2 == len({call.agent_id for call in calls})


def test_agents_of_one_run(model: AgentModel, tracker: Tracker) -> None:
    """Agents side by side are one session, each under its name; passing the conversation on is no call."""
    kids = [agent_of(Scripted([ASK]), [search], name=f"kid{n}") for n in (1, 2)]
    Conversation(ParallelAgent(name="both", sub_agents=kids), AgentModelPlugin(tracker)).tell(REQUEST)
    child = agent_of(Scripted([ASK]), [search], name="child", description="looks")
    pass_on = Turn((Asked("p1", "transfer_to_agent", {"agent_name": "child"}),), 3, 2)
    Conversation(agent_of(Scripted([pass_on]), [], sub_agents=[child]), AgentModelPlugin(tracker)).tell(REQUEST)

    assert {("search", "ok")} == set(recorded(tracker, model))
    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert 3 == len({call.agent_id for call in calls})


@pytest.mark.parametrize("guards", [False, True], ids=["alone", "with a guard"])
@pytest.mark.parametrize("value", UNCOPYABLE)
def test_arguments_that_cannot_be_copied(model: AgentModel, tracker: Tracker, value: Any, guards: bool) -> None:
    """A plugin of the application puts something into the arguments that has no copy: the call is recorded."""

    class Adds(BasePlugin):  # type: ignore[misc,unused-ignore]  # as above
        async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> None:
            tool_args["session"] = value

    ours = guarded(tracker, review="marked") if guards else AgentModelPlugin(tracker)
    Conversation(agent_of(Scripted([ASK]), [search]), Adds(name="adds"), ours).tell(REQUEST)

    assert [("search", "ok")] == recorded(tracker, model)
    assert 0 == tracker.errors


def test_a_tool_that_ends_the_run(model: AgentModel, tracker: Tracker) -> None:
    """An error that leaves the run is the session's failure."""
    talk = Conversation(
        agent_of(Scripted([Turn((Asked("c1", "broken", {"q": "d"}),), 3, 2)]), [broken]), AgentModelPlugin(tracker)
    )
    with pytest.raises(ValueError, match="no route"):
        talk.tell(REQUEST)

    assert [("broken", "error")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is False


def test_a_cancelled_run(model: AgentModel, tracker: Tracker) -> None:
    """A call of a run that was cancelled was interrupted, which is no failure of the session."""
    begun = asyncio.Event()

    async def waits() -> str:
        """Wait."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    talk = Conversation(
        agent_of(Scripted([Turn((Asked("c1", "waits", {}),), 3, 2)]), [waits]), AgentModelPlugin(tracker)
    )

    async def cancelled() -> None:
        from google.genai import types

        task = asyncio.create_task(talk.tell_async(types.Part(text=REQUEST)))
        await begun.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())

    assert [("waits", "interrupted")] == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    assert session.succeeded is None


def test_a_tool_that_asks_by_itself(model: AgentModel, tracker: Tracker) -> None:
    """A tool with a confirmation of its own is recorded when it is made."""
    tool = FunctionTool(pay, require_confirmation=True)
    talk = Conversation(agent_of(Scripted([PAY]), [tool]), guarded(tracker, review="never"))
    talk.tell(REQUEST)
    before = recorded(tracker, model)
    talk.answer({})

    assert [] == before
    assert [("pay", "ok")] == recorded(tracker, model)


def test_a_tool_that_asks_by_itself_and_is_rejected(model: AgentModel, tracker: Tracker) -> None:
    """What a person says no to by ADK's own means is `rejected`, with what the model reads."""
    talk = Conversation(
        agent_of(Scripted([PAY]), [FunctionTool(pay, require_confirmation=True)]), AgentModelPlugin(tracker)
    )
    talk.tell(REQUEST)
    talk.answer({}, confirmed=False)

    assert [("pay", "rejected")] == recorded(tracker, model)


def test_a_tool_that_waits_for_a_sign_in(model: AgentModel, tracker: Tracker) -> None:
    """A tool that asks for credentials is called again when it has them: until then it is no call."""

    def signed(q: str, tool_context: ToolContext) -> dict[str, bool]:
        """Ask for credentials."""
        scheme = APIKey.model_validate({"type": "apiKey", "name": "key", "in": "header"})
        tool_context.request_credential(AuthConfig(auth_scheme=scheme))
        return {"pending": True}

    talk = Conversation(
        agent_of(Scripted([Turn((Asked("c1", "signed", {"q": "a"}),), 3, 2)]), [signed]), AgentModelPlugin(tracker)
    )
    talk.tell(REQUEST)

    assert tracker.flush()
    (session,) = model.repository.sessions(f"USR{USER}")
    assert () == model.repository.session_history(f"USR{USER}", session.session_id).executions
    assert 0 == tracker.errors


FAILURES: list[tuple[dict[str, Any], Any]] = [
    ({"error": "no route"}, "no route"),
    ({"error": "no route", "at": 3}, {"error": "no route", "at": 3}),
    ({"status": "error", "error_message": "no"}, {"status": "error", "error_message": "no"}),
    ({"isError": True, "content": []}, {"isError": True, "content": []}),
]


def test_a_result_that_tells_an_error(model: AgentModel, tracker: Tracker) -> None:
    """A result with an error, by ADK's tools, by its documentation or by MCP, is the call's failure; no other one is."""
    results = [*(told for told, _ in FAILURES), {"error": None, "found": 1}, {"status": "success"}]
    said = iter(results)

    def order(q: str) -> dict[str, Any]:
        """Order."""
        return next(said)

    turns = [Turn((Asked(f"c{n}", "order", {"q": "a"}),), 3, 2) for n in range(len(results))]
    Conversation(agent_of(Scripted(turns), [order]), AgentModelPlugin(tracker)).tell(REQUEST)

    assert [("order", "error")] * 4 + [("order", "ok")] * 2 == recorded(tracker, model)
    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    failed = sorted(calls, key=lambda call: call.call_number or 0)[:4]
    assert {"tool_error"} == {call.error_type for call in failed}
    assert [as_text(told) for _, told in FAILURES] == [call.result for call in failed]


def as_text(told: Any) -> str:
    """A result as it is stored."""
    return told if isinstance(told, str) else json.dumps(told)


def test_arguments_of_a_wrong_type(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ADK answers in place of a tool with wrong arguments, where it looks at their types, is a `ValidationError`."""
    monkeypatch.setenv("ADK_ENABLE_FUNCTION_TOOL_ARG_VALIDATION", "1")
    agent = agent_of(Scripted([Turn((Asked("c1", "pay", {"amount": "much"}),), 3, 2)]), [pay])
    Conversation(agent, AgentModelPlugin(tracker)).tell(REQUEST)

    assert [("pay", "error")] == recorded(tracker, model)
    assert ["ValidationError"] == [call.error_type for call in shown(model)]


def test_revisions(model: AgentModel) -> None:
    """The digest of an agent follows its instruction and tools."""
    with Tracker(model, domain=DOMAIN, revisions="auto") as tracker:
        for prompt in ("You find.", "You find.", "You pay."):
            Conversation(agent_of(Scripted([ASK]), [search], instruction=prompt), AgentModelPlugin(tracker)).tell(
                REQUEST
            )
            assert tracker.flush()

    (session,) = model.repository.sessions(f"USR{USER}")
    calls = model.repository.session_history(f"USR{USER}", session.session_id).executions
    first, second, third = [call.revision for call in sorted(calls, key=lambda call: call.call_number or 0)]
    assert None is not first == second != third


def test_errors_are_counted(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that fails is counted, and the agent does not learn of it."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tracker, "run", down)
    scripted = Scripted([ASK])
    Conversation(agent_of(scripted, [search]), AgentModelPlugin(tracker)).tell(REQUEST)

    assert {"result": "found a"} == scripted.results["c1"]
    assert 1 == tracker.errors


# What a guard decides


def test_the_plan_is_in_the_instructions(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request reads the plan after the agent's own instructions, also after a question; an inner agent does not."""
    asked: list[str] = []

    def planned(user_id: str, *, request: str, **_: Any) -> Plan:
        asked.append(request)
        return Plan(user_id=user_id, source="own mapping", agent=f"plan {len(asked)}")

    ours = guarded(tracker, review=["pay"])
    assert ours._enforcer is not None
    monkeypatch.setattr(ours._enforcer.guard, "plan", planned)
    inner, scripted = Scripted([]), Scripted([PAY, Turn((Asked("p1", "child", {"request": "go"}),), 3, 2)])
    child = agent_of(inner, [], name="child", description="looks")
    talk = Conversation(agent_of(scripted, [pay, AgentTool(child)]), ours)
    talk.tell(REQUEST)
    talk.answer(APPROVE)
    talk.tell("something else")

    assert str(scripted.systems[0]).startswith("You find cafés.")
    assert [REQUEST, "something else"] == asked
    assert [True, True, True, False] == ["plan 1" in str(text) for text in scripted.systems]
    assert "plan 2" in str(scripted.systems[-1])
    assert "plan 1" not in str(inner.systems)
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
                tool_id=keys.stable_id("TL", "search"),
                tool_name="search",
                succeeded=n < 40,
                executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
            )
        )
    model.settle()
    scripted = Scripted([ASK])
    Conversation(agent_of(scripted, [search]), guarded(tracker, review="never")).tell(REQUEST)

    assert scripted.results["c1"]["error"].startswith("`search` was not called: it has been failing since ")
    assert scripted.results["c1"]["error"].endswith("Use `lookup` instead.")
    assert [("search", "blocked")] == recorded(tracker, model)


def test_somebody_decided_in_the_history(model: AgentModel, tracker: Tracker) -> None:
    """The question is in the history before the run stops; a decision there counts when the run goes on."""
    scripted = Scripted([PAY])
    talk = Conversation(agent_of(scripted, [pay]), guarded(tracker, review=["pay"]))
    talk.tell(REQUEST)
    asked = talk.waits["c1"].args["toolConfirmation"]["payload"]
    (review,) = model.reviews.inbox()
    before = recorded(tracker, model)
    model.reviews.decide(review, "approve", "kim")
    talk.answer({})

    assert (model.reviews.reference(review), {"amount": 7}) == (asked["review"], asked["arguments"])
    assert [] == before, "a call that waits is not made"
    assert {"result": "paid 7"} == scripted.results["c1"]
    assert [("pay", "ok")] == recorded(tracker, model)


@pytest.mark.parametrize("given", [{}, {"decision": "reject", "by": "kim"}, {"decision": "approve"}])
def test_a_confirmation_that_is_no_decision(model: AgentModel, tracker: Tracker, given: Any) -> None:
    """ADK asks once: a confirmation without a decision, or with one that is not accepted, makes no call."""
    scripted = Scripted([PAY])
    talk = Conversation(agent_of(scripted, [pay]), guarded(tracker, review=["pay"]))
    talk.tell(REQUEST)
    talk.answer(given)

    assert "a person has to approve it first" in scripted.results["c1"]["error"]
    assert [("pay", "blocked")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_two_questions_at_once(model: AgentModel, tracker: Tracker) -> None:
    """Parallel calls are asked about at once; a call beside them is made once."""
    several = Turn(
        (Asked("c1", "pay", {"amount": 7}), Asked("c3", "search", {"q": "a"}), Asked("c2", "pay", {"amount": 8})), 6, 4
    )
    scripted = Scripted([several])
    talk = Conversation(agent_of(scripted, [pay, search]), guarded(tracker, review=["pay"]))
    talk.tell(REQUEST)
    waits = list(talk.waits)
    talk.answer({"c1": {"decision": "reject", "by": "lee", "reason": "no"}, "c2": APPROVE})

    assert ["c1", "c2"] == waits
    assert {"result": "paid 8"} == scripted.results["c2"]
    assert [("pay", "rejected"), ("search", "ok"), ("pay", "ok")] == recorded(tracker, model)


def test_the_same_id_in_a_later_message(model: AgentModel, tracker: Tracker) -> None:
    """A call with the id and the arguments of an earlier one is another call: its approval is not that one's."""
    scripted = Scripted([PAY, PAY])
    talk = Conversation(agent_of(scripted, [pay]), guarded(tracker, review=["pay"]))
    talk.tell(REQUEST)
    (first,) = talk.waits.values()
    talk.answer(APPROVE)
    (second,) = talk.waits.values()

    questions = [one.args["toolConfirmation"]["payload"]["review"] for one in (first, second)]
    assert questions[0] != questions[1]
    assert [("pay", "ok")] == recorded(tracker, model)


def test_a_person_says_no_in_adks_own_dialog(model: AgentModel, tracker: Tracker) -> None:
    """A confirmation that is denied without a decision rejects the call and withdraws its question."""
    scripted = Scripted([PAY])
    talk = Conversation(agent_of(scripted, [pay]), guarded(tracker, review=["pay"]))
    talk.tell(REQUEST)
    talk.answer(None, confirmed=False)

    assert {"error": "The call of pay was rejected."} == scripted.results["c1"]
    assert [("pay", "rejected")] == recorded(tracker, model)
    assert () == model.reviews.inbox().items


def test_a_guard_that_fails_refuses(model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call about which nothing could be decided is not made, and what failed is counted."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("the table does not answer")

    ours, scripted = guarded(tracker, review=["pay"]), Scripted([PAY])
    assert ours._enforcer is not None
    monkeypatch.setattr(ours._enforcer.guard, "before", down)
    Conversation(agent_of(scripted, [pay]), ours).tell(REQUEST)

    assert "nobody can be asked" in scripted.results["c1"]["error"]
    assert 1 == tracker.errors
    assert tracker.flush()
    assert ["blocked"] == [call.status for call in shown(model)]


@pytest.mark.parametrize("known", [False, True])
def test_a_run_that_cannot_be_opened_is_guarded(
    model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Where the plugin itself fails, a call that a person may have to approve is not made; others are."""

    def down(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    ours = guarded(tracker, review=["pay"])
    if known:
        monkeypatch.setattr(ours, "_resolved", down)
    else:
        monkeypatch.setattr(tracker, "run", down)
    scripted = Scripted([PAY, replace(ASK, calls=(replace(ASK.calls[0], call_id="c2"),))])
    Conversation(agent_of(scripted, [pay, search]), ours).tell(REQUEST)

    assert "nobody can be asked" in scripted.results["c1"]["error"]
    assert {"result": "found a"} == scripted.results["c2"]
    assert tracker.errors
    assert tracker.flush()
    wanted = [("pay", "blocked"), ("search", "ok")] if known else []
    assert wanted == [(call.tool, call.status) for call in (shown(model) if known else [])]


def test_a_tool_of_mcp_that_fails(model: AgentModel, tracker: Tracker) -> None:
    """A result that says by itself that the tool failed, as those of MCP do, is an error and is not cached."""
    answers: Iterator[dict[str, Any]] = iter(
        [{"isError": True, "content": [{"type": "text", "text": "no route"}]}, {"found": "a"}]
    )

    def search(q: str) -> dict[str, Any]:
        """Search."""
        return next(answers)

    scripted = Scripted([ASK, replace(ASK, calls=(replace(ASK.calls[0], call_id="c2"),))])
    Conversation(agent_of(scripted, [search]), guarded(tracker, review="never")).tell(REQUEST)

    assert [("search", "error"), ("search", "ok")] == recorded(tracker, model)
    assert {"found": "a"} == scripted.results["c2"]


def test_resumed_by_another_runner(model: AgentModel, tmp_path: Path) -> None:
    """A stored session goes on in another runner with another tracker, and the question is found again."""
    waits: dict[str, Any] = {}
    for n, turns in enumerate(([PAY], [])):
        with Tracker(model, domain=DOMAIN) as tracker:
            scripted = Scripted(turns)
            service = SqliteSessionService(str(tmp_path / "adk.db"))
            talk = Conversation(agent_of(scripted, [pay]), guarded(tracker, review=["pay"]), service=service)
            talk.waits = waits
            if n == 0:
                talk.tell(REQUEST)
            else:
                talk.answer({"decision": "edit", "by": "lee", "arguments": {"amount": 5}})
            waits = talk.waits
            assert 0 == tracker.errors

    note = '`lee` edited this call: `pay` was called with {"amount": 5}. Its result:'
    assert {"note": note, "result": "paid 5"} == scripted.results["c1"]
    assert [("pay", "edited", {"amount": 5})] == [(call.tool, call.status, call.arguments) for call in shown(model)]


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the plugin makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "google_adk.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    rows = [
        f"| {case} | {f'recorded as `{LOOKS[case]}`' if case in LOOKS else 'recorded'} | recorded |" for case in cases
    ]

    assert "\n".join(["| case | plugin | with a guard |", "|---|---|---|", *rows]) in page.read_text(encoding="utf-8")
