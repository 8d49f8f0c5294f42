"""One run that two recorders see, one of its framework and one of spans, is recorded once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel
from agentmodel.exceptions import ConfigurationError
from agentmodel.integrations._enforcer import RunEnforcer
from agentmodel.integrations._tracking.recorded import ReportedCalls
from tests.integration.integrations.scenario import DOMAIN, SESSION, USER, Asked, Shown, Turn, shown

pytest.importorskip("strands", reason="the extra strands is not installed")
pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from strands import Agent
from strands.telemetry import tracer as strands_tracer

from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor
from agentmodel.integrations.strands import AgentModelHooks, Tracker
from tests.integration.integrations.strands_agents import Scripted, broken, flaky, search

SCRIPT = (
    Turn((Asked("c1", "search", {"q": "a"}), Asked("c2", "search", {"q": "b"})), 11, 5),
    Turn((Asked("c3", "flaky", {"q": "c"}),), 20, 4),
    Turn((Asked("c4", "broken", {"q": "d"}),), 30, 4),
)


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


@pytest.fixture
def provider(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """The provider of the spans that Strands makes, with our processor."""
    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model, domain=DOMAIN))
    tracer = strands_tracer.Tracer()
    tracer.tracer = provider.get_tracer("strands-agents")
    monkeypatch.setattr(strands_tracer, "_tracer_instance", tracer)
    yield provider
    provider.shutdown()


def run(tracker: Tracker | None) -> None:
    """Run a Strands agent, with a recorder or without."""
    agent = Agent(
        model=Scripted(SCRIPT),
        tools=[search, flaky(), broken],
        name="finder",
        callback_handler=None,
        hooks=[] if tracker is None else [AgentModelHooks(tracker)],
        trace_attributes={"user.id": USER, "session.id": SESSION},
    )
    agent("find a café", invocation_state={"user_id": USER, "session_id": SESSION})


def test_hooks_and_spans_of_strands(model: AgentModel, provider: TracerProvider) -> None:
    """A run of Strands with its hooks and its spans gives each call once, in one session, with what the hooks know."""
    with Tracker(model, domain=DOMAIN) as tracker:
        run(tracker)
    provider.force_flush()
    model.drain()

    wanted = [("search", "ok"), ("search", "ok"), ("flaky", "error"), ("broken", "error")]
    assert wanted == [(call.tool, call.status) for call in shown(model)]


def test_two_processors(model: AgentModel, provider: TracerProvider) -> None:
    """Two processors of one installation record each call once."""
    provider.add_span_processor(AgentModelSpanProcessor(model, domain=DOMAIN))
    run(None)
    provider.force_flush()
    model.drain()

    assert ["search", "search", "flaky", "broken"] == [call.tool for call in shown(model)]


def test_two_providers_of_hooks(model: AgentModel) -> None:
    """A second provider of hooks, with the same tracker or another one, is refused when the agent is made."""
    with Tracker(model, domain=DOMAIN) as first, Tracker(model, domain=DOMAIN) as second:
        for other in (first, second):
            with pytest.raises(ConfigurationError, match="listen to one agent"):
                Agent(model=Scripted(SCRIPT), hooks=[AgentModelHooks(first), AgentModelHooks(other)])
        Agent(model=Scripted(SCRIPT), hooks=[AgentModelHooks(second)])


def test_a_question_of_a_guard_is_no_call(model: AgentModel) -> None:
    """While a person decides, the span of the call has ended; neither recorder has it until the call is made."""
    pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")
    from pydantic_ai.models.instrumented import InstrumentationSettings

    from agentmodel.integrations.pydantic_ai import AgentModelCapability
    from tests.integration.integrations import pydantic_ai_agents as agents

    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model, domain=DOMAIN))
    scripted = agents.Scripted([Turn((Asked("c1", "pay", {"amount": 7}),), 6, 4)])
    with Tracker(model, domain=DOMAIN) as tracker:
        ours = AgentModelCapability(tracker, guard=model.guard(domain=DOMAIN, review=["pay"]))
        agent = agents.agent_of(scripted, [agents.pay], ours)
        agent.instrument = InstrumentationSettings(tracer_provider=provider)
        asked = agents.told(agent, "find a café")
        provider.force_flush()
        assert tracker.flush()
        model.drain()
        before = shown(model)
        agents.answered(agent, asked, {"decision": "approve", "by": "kim"})
    provider.force_flush()
    model.drain()

    assert [] == before
    assert [("pay", "ok")] == [(call.tool, call.status) for call in shown(model)]
    provider.shutdown()


def test_the_span_of_a_question_is_known(model: AgentModel, provider: TracerProvider) -> None:
    """A guard that asks a person about a call tells of it, so that a span that says nothing of it is left out."""
    with Tracker(model, domain=DOMAIN) as tracker:
        enforcer = RunEnforcer(model.guard(domain=DOMAIN, review=["pay"]), tracker)
        run_of_it = tracker.run(SESSION, user=USER)
        waits = enforcer.resolve_call(run_of_it, "finder", "pay", {"amount": 7}, call_id="c1")
        attributes = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "c1",
            "user.id": "kim", "session.id": SESSION,
        }  # fmt: skip
        with provider.get_tracer("agents").start_as_current_span("execute_tool pay", attributes=attributes):
            pass
        provider.force_flush()
        model.drain()

    assert waits.waits
    assert [] == list(model.repository.sessions("USRkim"))


def test_two_trackers_in_langchain(model: AgentModel) -> None:
    """A middleware and a callback handler of two trackers are refused when the run begins; of one they are not."""
    pytest.importorskip("langchain", reason="the extra langchain is not installed")
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableConfig

    from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware
    from tests.integration.integrations.scripted_langchain import ASKED
    from tests.integration.integrations.scripted_langchain import Scripted as ScriptedChat

    with Tracker(model, domain=DOMAIN) as first, Tracker(model, domain=DOMAIN) as second:
        chat = ScriptedChat(messages=iter([AIMessage("done")]))
        agent: Any = create_agent(chat, [], middleware=[AgentModelMiddleware(first)])
        with pytest.raises(ConfigurationError, match="two trackers"):
            agent.invoke(ASKED, RunnableConfig(callbacks=[AgentModelCallback(second)]))
        agent.invoke(ASKED, RunnableConfig(callbacks=[AgentModelCallback(first)]))


def test_spans_alone_are_recorded(model: AgentModel, provider: TracerProvider) -> None:
    """The spans of a run that no recorder reports are recorded, beside a tracker that reports another one."""
    with Tracker(model, domain=DOMAIN) as tracker:
        other = tracker.run("other", user="kim")
        other.call("c9", agent="finder", tool="search", status="ok")
        run(None)
    provider.force_flush()
    model.drain()

    assert 4 == len(shown(model))
    assert 1 == len(shown(model, user_id="USRkim"))


def test_another_call_of_the_same_id_is_another_call(model: AgentModel, provider: TracerProvider) -> None:
    """Ids of calls come again: a span of another tool, or of another hour, is recorded."""
    reported, now = ReportedCalls.of(model), datetime.now(UTC)
    reported.note("c1", "search", now)
    reported.note("c2", "search", now - timedelta(hours=1))
    tracer = provider.get_tracer("agents")
    for call_id, tool in (("c1", "search"), ("c1", "pay"), ("c2", "search")):
        attributes = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": call_id,
            "user.id": USER, "session.id": SESSION,
        }  # fmt: skip
        with tracer.start_as_current_span(f"execute_tool {tool}", kind=SpanKind.INTERNAL, attributes=attributes):
            pass
    provider.force_flush()
    model.drain()

    assert ["pay", "search"] == sorted(call.tool for call in shown(model))


def test_spans_without_ids_are_known_by_tool_and_time(model: AgentModel, provider: TracerProvider) -> None:
    """Where spans have no id of the model's, each reported call has one span of its tool and time; others are recorded."""
    tracer = provider.get_tracer("agents")

    def made(tool: str, **more: str) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "user.id": "kim", "session.id": SESSION,
        }  # fmt: skip
        with tracer.start_as_current_span(f"execute_tool {tool}", attributes=attributes | more):
            pass

    with Tracker(model, domain=DOMAIN) as tracker:
        run = tracker.run(SESSION, user=USER)
        for call_id in ("c1", "c2", "c3"):
            run.call(call_id, agent="finder", tool="search", status="ok")
        made("search", **{"gen_ai.tool.call.id": "c3"})  # by its id
        for tool in ("search", "search", "search", "pay"):  # the third is somebody else's
            made(tool)
        provider.force_flush()
        ReportedCalls.of(model).note("c4", "search", datetime.now(UTC) - timedelta(seconds=5))
        made("search")
    provider.force_flush()
    model.drain()

    assert 3 == len(shown(model))
    assert ["pay", "search", "search"] == sorted(call.tool for call in every(model, "USRkim"))


def every(model: AgentModel, user_id: str) -> list[Shown]:
    """What a user's sessions hold; none where there are none."""
    return shown(model, user_id=user_id) if model.repository.sessions(user_id) else []


def test_what_is_remembered_is_bounded() -> None:
    """The oldest id is forgotten, and of one id the oldest attempts; a call's own number makes no difference."""
    reported, now = ReportedCalls(max_calls=2), datetime.now(UTC)
    for number in range(20):
        reported.note(f"c{number % 3}~{number}", "search", now + timedelta(minutes=number))

    until = now + timedelta(minutes=20)
    assert [True, True, False] == [reported.has(f"c{number}", "search", now, until) for number in range(3)]
    assert not reported.has("c1", "search", now - timedelta(hours=2), now - timedelta(hours=1))
