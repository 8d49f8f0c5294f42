"""The core of the recorders: calls by a framework's ids become history, in order, once, and never at the agent's cost."""

from __future__ import annotations

import importlib
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from agentmodel import AgentModel, AsyncAgentModel, Settings
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Status, ToolExecution
from agentmodel.exceptions import HistoryUnavailable, TableUnavailable, ValidationError
from agentmodel.integrations._tracking.conventions import Span
from agentmodel.integrations._tracking.spans import calls as calls_of
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.keys import process_id
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    REQUEST,
    SCRIPT,
    SESSION,
    USER,
    expected,
    shown,
)

OUTCOMES: dict[str, list[dict[str, Any]]] = {
    "c3": [{"status": "error", "error_type": "ConnectionError"}, {}],
    "c4": [{"status": "error", "error_type": "ValueError"}],
    "c5": [{"status": "error", "error_type": "ValidationError"}],
    "c6": [{"status": "unknown_tool"}],
    "c7": [{"status": "rejected"}],
    "c8": [{"status": "edited", "arguments": {"amount": 5}}],
    "c9": [{"status": "cache_hit"}],
}
"""How each call of the scenario ends, one entry for each attempt; those that are not here end well."""

NOT_MADE: tuple[Status, ...] = ("blocked", "cache_hit", "rejected", "expired", "unknown_tool")


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


def executions(model: AgentModel, user_id: str = "USRada") -> list[ToolExecution]:
    """The calls of the only session of a user, in their order."""
    (session,) = list(model.repository.sessions(user_id))
    history = model.repository.session_history(user_id, session.session_id)
    return sorted(history.executions, key=lambda call: (call.call_number or 0, call.attempt))


_LONG = "𐐀" * 128  # two such ids are valid, and a key of both is longer than DynamoDB takes


def made(
    run: TrackedRun,
    call_id: str,
    tool: str,
    *,
    status: Any = "ok",
    arguments: Any = None,
    source: str = "",
    **more: Any,
) -> None:
    """A call from start to end."""
    attempt = run.start(call_id, agent=AGENT, tool=tool, arguments=arguments, source=source)
    run.end(call_id, attempt, status=status, source=source, **more)


def test_scenario(model: AgentModel) -> None:
    """The scenario, told to the core, gives every execution that is expected."""
    with Tracker(model, domain=DOMAIN) as tracker:
        run = tracker.run(SESSION, user=USER, request=REQUEST, category=CATEGORY)
        for turn in SCRIPT:
            ids = [asked.call_id for asked in turn.calls]
            run.turn("model", calls=ids, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens)
            for asked in turn.calls:
                for one in OUTCOMES.get(asked.call_id, [{}]):
                    made(run, asked.call_id, asked.tool, **({"arguments": asked.arguments} | one))
        run.finish(succeeded=True)

    assert expected() == shown(model)
    assert tracker.errors == 0
    (session,) = list(model.repository.sessions("USRada"))
    assert (session.request, session.category, session.succeeded) == (REQUEST, CATEGORY, True)
    assert session.ended_at is not None


def test_order_of_parallel_calls(model: AgentModel) -> None:
    """Parallel calls are numbered as the model asked for them, not as they ended, and none looks like a retry."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        run.turn("model", calls=["c1", "c2"], input_tokens=11)
        second = run.start("c2", agent=AGENT, tool="search", arguments={"q": "b"})
        first = run.start("c1", agent=AGENT, tool="search", arguments={"q": "a"})
        run.end("c2", second, status="ok")
        run.end("c1", first, status="error", error_type="ValueError")

    calls = executions(model)
    assert [(1, "error", 6), (2, "ok", 5)] == [(c.call_number, c.status, c.input_tokens) for c in calls]
    assert [1, 1] == [c.attempt for c in calls]
    assert len({c.process_id for c in calls}) == 2


def test_told_twice(model: AgentModel) -> None:
    """Two recorders on one run tell a turn and an end twice, and it is one execution with its tokens."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        run.turn("model", calls=["c1"], input_tokens=11)
        tracker.run(SESSION, user=USER).turn("model", calls=["c1"], input_tokens=11)
        attempt = run.start("c1", agent=AGENT, tool="search")
        run.end("c1", attempt, status="ok")
        run.end("c1", attempt, status="error")

    (call,) = executions(model)
    assert ("ok", 11) == (call.status, call.input_tokens)


def test_continued_session(model: AgentModel) -> None:
    """A conversation that another process continues is the same session, and its calls follow those before."""
    for tool in ("search", "pay"):
        with Tracker(model) as tracker:
            made(tracker.run(SESSION, user=USER), "c1", tool)

    assert [(1, "search"), (2, "pay")] == [(c.call_number, c.tool_name) for c in executions(model)]


def test_session_of_the_application(model: AgentModel) -> None:
    """A session and a user that the application made by their ids are continued under these ids."""
    with model.session("USR001", REQUEST) as session:
        pass
    with Tracker(model) as tracker:
        made(tracker.run(session.session_id, user="USR001"), "c1", "search")

    (stored,) = list(model.repository.sessions("USR001"))
    assert (session.session_id, REQUEST) == (stored.session_id, stored.request)
    assert ["search"] == [c.tool_name for c in executions(model, "USR001")]


def test_anonymous_and_interrupted(model: AgentModel) -> None:
    """Without a user the run is of the anonymous one; a call that has not ended when the run does was interrupted."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION)
        run.start("c1", agent=AGENT, tool="search")
        run.finish()

    (call,) = executions(model, ANONYMOUS)
    assert ("interrupted", False) == (call.status, call.succeeded)


def test_the_last_run_says_how_a_session_went(model: AgentModel) -> None:
    """A session that failed once and went on well is no failure any more; one whose last run failed is."""
    said: list[bool | None] = []
    with Tracker(model, domain=DOMAIN) as tracker:
        for succeeded in (False, None, False):
            run = tracker.run(SESSION, user=USER)
            made(run, f"c{len(said)}", "search")
            run.finish(succeeded)
            assert tracker.flush()
            (session,) = list(model.repository.sessions("USRada"))
            said.append(session.succeeded)

    assert [False, None, False] == said


def test_errors_are_counted(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written raises nothing in the agent: it is counted and logged, and the rest is written."""
    with caplog.at_level(logging.ERROR), Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        run.call("c1", agent=f"AGT{_LONG}", tool=f"TL{_LONG}", status="ok")
        made(run, "c2", "search")

    assert 1 == tracker.errors
    assert "integrations.not_recorded" in caplog.text
    assert ["search"] == [c.tool_name for c in executions(model)]


def test_bound(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """An event for which there is no place is dropped and counted; the agent does not wait for the writer."""
    held, holds = threading.Event(), threading.Event()

    def hold() -> None:
        holds.set()
        held.wait()

    with caplog.at_level(logging.ERROR), Tracker(model, max_waiting=2) as tracker:
        tracker.enqueue("held", hold)
        holds.wait()
        tracker.enqueue("waits", lambda: None)
        tracker.enqueue("dropped", lambda: None)
        held.set()

    assert 1 == tracker.errors
    assert "tracker.dropped: dropped 1 items" in caplog.text


def test_two_sources_are_one_execution(model: AgentModel) -> None:
    """What two recorders tell of one attempt is one execution, with the status that says more and all arguments."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        outer = run.start("c1", agent=AGENT, tool="pay", source="outer")
        inner = run.start("c1", agent=AGENT, tool="pay", arguments={"amount": 5}, source="inner")
        run.end("c1", inner, status="ok", result="paid 5", source="inner")
        run.end("c1", outer, status="edited", source="outer")

    (call,) = executions(model)
    assert (1, 1) == (outer, inner)
    assert ("edited", '{"amount": 5}', "paid 5", 1) == (call.status, call.values, call.result, call.attempt)


def test_retry_inside_an_outer_source(model: AgentModel) -> None:
    """A recorder around the retries sees one call, the one inside sees both: two attempts, each as it went."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        outer = run.start("c1", agent=AGENT, tool="flaky", source="outer")
        made(run, "c1", "flaky", status="error", error_type="ConnectionError", source="inner")
        made(run, "c1", "flaky", source="inner")
        run.end("c1", outer, status="ok", source="outer")

    assert [(1, "error"), (2, "ok")] == [(call.attempt, call.status) for call in executions(model)]


def test_calls_that_were_not_made(model: AgentModel) -> None:
    """A call that never reached its tool is told at once; a source that takes it for a failure changes nothing."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for number, status in enumerate(NOT_MADE):
            run.start(f"c{number}", agent=AGENT, tool="pay", source="outer")
            attempt = run.call(
                f"c{number}", agent=AGENT, tool="pay", status=status, arguments={}, result="no", source="inner"
            )
            run.end(f"c{number}", attempt, status="error", error_type="ToolError", source="outer")

    assert [
        ("blocked", False, None),
        ("cache_hit", True, None),
        ("rejected", False, None),
        ("expired", False, None),
        ("unknown_tool", False, None),
    ] == [(call.status, call.succeeded, call.error_type) for call in executions(model)]


def test_edited_calls(model: AgentModel) -> None:
    """A call that a person edited is edited when it ends well, with their arguments; a failure of it stays one."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        first = run.start("c1", agent=AGENT, tool="pay", arguments={"amount": 8})
        run.edited("c1", {"amount": 5})
        run.end("c1", first, status="error", error_type="ConnectionError")
        tracker.flush()
        made(run, "c1", "pay", arguments={"amount": 8})

    assert [("error", '{"amount": 8}'), ("edited", '{"amount": 5}')] == [
        (c.status, c.values) for c in executions(model)
    ]


def test_flush_does_not_wait_for_a_second_source(model: AgentModel) -> None:
    """A flush writes what has ended for one of two sources; the other's end, told later, changes nothing."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for source in ("outer", "inner"):
            run.start("c1", agent=AGENT, tool="search", source=source)
        run.end("c1", 1, status="ok", source="inner")
        tracker.flush()
        before = [call.status for call in executions(model)]
        run.end("c1", 1, status="error", source="outer")
        run.start("c1", agent=AGENT, tool="search", source="late")
        run.end("c1", 1, status="error", source="late")

    assert ["ok"] == before
    assert ["ok"] == [call.status for call in executions(model)]


def test_threads_of_two_sources(model: AgentModel) -> None:
    """Calls that two recorders tell from many threads at once are each one execution, none lost."""
    calls = [f"c{number}" for number in range(40)]
    with Tracker(model) as tracker, ThreadPoolExecutor(8) as pool:
        run = tracker.run(SESSION, user=USER)
        run.turn("model", calls=calls)
        for _ in pool.map(
            lambda told: made(run, told[0], "search", source=told[1]),
            [(call, source) for call in calls for source in ("outer", "inner")],
        ):
            pass

    assert [(number, 1, "ok") for number in range(1, 41)] == [
        (call.call_number, call.attempt, call.status) for call in executions(model)
    ]


def test_ids_before_anything_is_written(model: AgentModel) -> None:
    """The ids that a run gives before it is written are those it is written under, also when it continues."""
    asked = []
    for _ in range(2):
        with Tracker(model, domain=DOMAIN) as tracker:
            run = tracker.run(SESSION, user=USER)
            asked.append((run.user_id, run.session_id, run.domain_id, run.agent_id(AGENT), run.tool_id("search")))
            made(run, "c1", "search")

    first, second = executions(model)
    assert asked[0] == asked[1]
    assert asked[0] == (first.user_id, first.session_id, run.domain_id, first.agent_id, first.tool_id)
    assert first.session_id == second.session_id
    assert model.repository.tool(first.agent_id, first.tool_id) is not None
    assert [DOMAIN] == [domain.name for domain in model.repository.domains()]


def test_session_id_without_history(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the history does not answer, a run has an id of its own and keeps it, and is written under it later."""

    def down(*_: Any) -> None:
        raise TableUnavailable("down")

    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        with monkeypatch.context() as patched:
            patched.setattr(tracker.lookup, "locate", down)
            own = run.session_id
        made(run, "c1", "search")

    assert own == run.session_id
    assert [own] == [call.session_id for call in executions(model)]


def test_suggestion_that_a_run_follows(model: AgentModel) -> None:
    """The session carries the plan that its run follows, told before or after the first call; no plan is none."""
    with Tracker(model) as tracker:
        made(tracker.run(SESSION, user=USER, suggestion_id="one"), "c1", "search")
        late = tracker.run("late", user="bo")
        made(late, "c1", "search")
        late.follow("two")
        late.follow(None)

    assert [["one"], ["two"]] == [
        [session.suggestion_id for session in model.repository.sessions(user)] for user in ("USRada", "USRbo")
    ]


def continued(settings: Settings, name: str) -> int:
    """Calls that another process makes in a session, told by two sources; what it could not record."""
    with AgentModel.from_settings(settings) as model, Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for number in range(10):
            for source in ("outer", "inner"):
                made(run, f"{name}{number}", "search", arguments=[name, number], source=source)
    return tracker.errors


def test_processes(model: AgentModel) -> None:
    """Two processes that go on with one session at once each record their calls once, under its id."""
    with Tracker(model) as tracker:
        made(tracker.run(SESSION, user=USER), "c0", "search", arguments=["", 0])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        errors = list(pool.map(continued, [model.settings] * 2, ["a", "b"]))

    calls = executions(model)
    assert [0, 0] == errors
    assert sorted([["", 0], *([name, number] for name in "ab" for number in range(10))]) == sorted(
        json.loads(call.values or "") for call in calls
    )
    assert {1} == {call.attempt for call in calls}
    assert len(calls) == len({call.process_id for call in calls})


def test_a_bad_record_loses_no_neighbour(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Of many calls that are written at once, the one that no table would take is counted, and all others are kept."""
    with caplog.at_level(logging.ERROR), Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for number in range(9):
            if number == 4:
                run.call("c4", agent=f"AGT{_LONG}", tool=f"TL{_LONG}", status="ok")
            else:
                made(run, f"c{number}", "search")

    assert 1 == tracker.errors
    assert "integrations.not_recorded: call c4 of TL" in caplog.text
    assert [1, 2, 3, 4, 6, 7, 8, 9] == [call.call_number for call in executions(model)]


def test_many_steps_of_a_continued_session(model: AgentModel) -> None:
    """A session with many steps that goes on gets its next numbers at once, each of its own, in the order of calls."""
    for _ in range(2):
        with Tracker(model) as tracker:
            run = tracker.run(SESSION, user=USER)
            for number in range(130):
                made(run, f"c{number}", "search")

    calls = executions(model)
    assert 0 == tracker.errors
    assert list(range(1, 261)) == [call.call_number for call in calls]
    assert [process_id(number) for number in range(1, 261)] == [call.process_id for call in calls]


def test_store_that_comes_back(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that no store took is written with what comes next; what was lost meanwhile is counted."""

    def down(*_: Any) -> None:
        raise HistoryUnavailable("down")

    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER, request=REQUEST)
        with monkeypatch.context() as patched:
            patched.setattr(model.recorder._history_writer, "write", down)
            made(run, "c1", "search")
            tracker.flush()
        made(run, "c2", "search")

    assert 3 == tracker.errors  # the session, its step, and the call
    assert [(2, 1)] == [(call.call_number, call.attempt) for call in executions(model)]
    assert [REQUEST] == [session.request for session in model.repository.sessions("USRada")]


def test_numbers_that_another_recorder_took(model: AgentModel) -> None:
    """Two trackers that go on with one session in turns give each call a step of its own, and lose none."""
    with Tracker(model) as first, Tracker(model) as second:
        for round_ in range(3):
            for tracker in (first, second):
                for number in range(5):
                    made(tracker.run(SESSION, user=USER), f"c{round_}{number}", "search")
                tracker.flush()

    calls = executions(model)
    assert (0, 0) == (first.errors, second.errors)
    assert 30 == len(calls)
    assert {process_id(number) for number in range(1, 31)} == {call.process_id for call in calls}


def test_a_model_that_is_awaited_is_refused(model: AgentModel) -> None:
    """A tracker writes from a thread, and says so to who gives it a model for asyncio."""
    wrong: Any = AsyncAgentModel(model)

    with pytest.raises(ValidationError, match=r"'AsyncAgentModel'\) must be an AgentModel"):
        Tracker(wrong)


@pytest.mark.parametrize(
    ("package", "module", "name"),
    [
        ("langchain", "langchain", "AgentModelCallback"),
        ("langchain", "langchain", "AgentModelMiddleware"),
        ("strands", "strands", "AgentModelHooks"),
        ("agents", "openai_agents", "AgentModelRecorder"),
        ("pydantic_ai", "pydantic_ai", "AgentModelCapability"),
        ("google.adk", "google_adk", "AgentModelPlugin"),
        ("claude_agent_sdk", "claude_agent_sdk", "AgentModelClient"),
        ("crewai", "crewai", "AgentModelCrewHooks"),
    ],
)
def test_what_is_no_tracker_is_refused(model: AgentModel, package: str, module: str, name: str) -> None:
    """A recorder that is given the model in place of its tracker says so before an agent runs with it."""
    pytest.importorskip(package, reason="the framework is an extra")
    recorders = importlib.import_module(f"agentmodel.integrations.{module}")

    with pytest.raises(ValidationError, match=r"'AgentModel'\) must be a Tracker.*Tracker\(model\)"):
        getattr(recorders, name)(model)


@pytest.mark.parametrize("sources", [("",), ("callback", "middleware")])
def test_a_reused_id_is_a_new_call(model: AgentModel, sources: tuple[str, ...]) -> None:
    """A server that numbers the calls of each answer anew: each turn has its own call, attempts and tokens."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for tool in ("search", "search", "book"):
            for _ in sources:
                run.turn("model", calls=["call_0"], input_tokens=100, output_tokens=10)
            begun = [(source, run.start("call_0", agent=AGENT, tool=tool, source=source)) for source in sources]
            for source, attempt in begun:
                run.end("call_0", attempt, status="ok", source=source)

    found = [(c.call_number, c.attempt, c.tool_name, c.input_tokens, c.output_tokens) for c in executions(model)]
    assert [(1, 1, "search", 100, 10), (2, 1, "search", 100, 10), (3, 1, "book", 100, 10)] == sorted(found)
    assert 0 == tracker.errors


@pytest.mark.parametrize("asked", [True, False], ids=["with turns", "without turns"])
@pytest.mark.parametrize("sources", [("",), ("inner", "outer")])
def test_an_id_in_two_scopes_is_two_calls(model: AgentModel, sources: tuple[str, ...], asked: bool) -> None:
    """Agents that run at once may number their calls alike: each keeps its call, with its retries, tokens and edit."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for scope in ("left", "right") if asked else ():
            run.turn("model", calls=["call_0"], input_tokens=4, scope=scope)
        for fails in (True, False):
            begun = [
                (
                    run.start("call_0", agent=scope, tool="pay", arguments={"by": scope}, source=source, scope=scope),
                    source,
                )
                for source in sources
                for scope in ("left", "right")
            ]
            if not fails:
                run.edited("call_0", scope="right")
            for attempt, source in reversed(begun):
                run.end("call_0", attempt, status="error" if fails else "ok", source=source)
        run.finish()

    tokens = 4 if asked else None
    assert [
        (1, 1, '{"by": "left"}', "error", tokens), (1, 2, '{"by": "left"}', "ok", None),
        (2, 1, '{"by": "right"}', "error", tokens), (2, 2, '{"by": "right"}', "edited", None),
    ] == [(c.call_number, c.attempt, c.values, c.status, c.input_tokens) for c in executions(model)]  # fmt: skip
    assert 0 == tracker.errors


def test_one_of_several_agents_is_done(model: AgentModel) -> None:
    """The end of one agent leaves the calls of the others alone: they end as they end."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        around = run.start("c1", agent="boss", tool="find")
        made(run, "k1", "search")
        run.finish(running=True)
        run.end("c1", around, status="ok", result="found")
        run.finish()

    assert [("find", "ok", "found"), ("search", "ok", None)] == [
        (c.tool_name, c.status, c.result) for c in executions(model)
    ]


def test_a_retry_of_a_reused_id(model: AgentModel) -> None:
    """A retry starts before the model's next turn: it stays an attempt of the same call, without tokens."""
    with Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        for _ in range(2):
            run.turn("model", calls=["call_0"], input_tokens=100)
            made(run, "call_0", "search", status="error")
            made(run, "call_0", "search")

    found = [(c.call_number, c.attempt, c.input_tokens) for c in executions(model)]
    assert [(1, 1, 100), (1, 2, None), (2, 1, 100), (2, 2, None)] == sorted(found, key=lambda one: one[:2])


@pytest.mark.parametrize("given", ["<not specified>", "", "None", "null"])
def test_a_placeholder_is_no_user(model: AgentModel, given: str) -> None:
    """What a framework writes where it has no user names nobody: the run is anonymous."""
    with Tracker(model) as tracker:
        assert ANONYMOUS == tracker.run(SESSION, user=given).user_id


@pytest.mark.parametrize("given", ["<not specified>", "", "None", "null"])
def test_a_placeholder_in_a_span_is_no_id(given: str) -> None:
    """Spans with a placeholder for the call's id are two calls, of no session, user or agent of that name."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": given,
        "gen_ai.conversation.id": given,
        "gen_ai.agent.name": given,
        "user.id": given,
    }
    spans = [Span("1", one, None, "execute_tool search", attributes=attributes) for one in ("2", "3")]

    found = [(one.call_id, one.session, one.agent, one.user) for one in calls_of(spans)]
    assert [("2", None, None, None), ("3", None, None, None)] == found
