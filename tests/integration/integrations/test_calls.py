"""The core of the recorders: calls by a framework's ids become history, in order, once, and never at the agent's cost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import AgentModel
from agentmodel.access.importing import ANONYMOUS
from agentmodel.dynamo.models import ToolExecution
from agentmodel.integrations._calls import Run, Tracker
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


def made(run: Run, call_id: str, tool: str, *, status: Any = "ok", arguments: Any = None, **more: Any) -> None:
    """A call from start to end."""
    attempt = run.start(call_id, agent=AGENT, tool=tool, arguments=arguments)
    run.end(call_id, attempt, status=status, **more)


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


def test_errors_are_counted(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written raises nothing in the agent: it is counted and logged, and the rest is written."""
    with caplog.at_level(logging.ERROR), Tracker(model) as tracker:
        run = tracker.run(SESSION, user=USER)
        made(run, "c1", "")
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

    with caplog.at_level(logging.ERROR), Tracker(model, max_waiting=1) as tracker:
        tracker.tell("held", hold)
        holds.wait()
        tracker.tell("waits", lambda: None)
        tracker.tell("dropped", lambda: None)
        held.set()

    assert 1 == tracker.errors
    assert "integrations.not_recorded: dropped" in caplog.text
