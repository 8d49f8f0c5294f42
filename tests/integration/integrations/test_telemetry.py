"""What is recorded as telemetry of one's own: spans and events, read as they were exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentmodel import Agent, AgentModel, Settings, ToolExecution
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor, emit
from agentmodel.integrations.opentelemetry import _emit as telemetry


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, with one agent that has a name."""
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        made.repository.put(Agent(agent_id="AGT001", domain_id="DMN001", name="finder"))
        yield made
        made.table.delete()


Emitted = Callable[[], list[ReadableSpan]]


@pytest.fixture
def emitted(model: AgentModel) -> Emitted:
    """The spans that were exported since the model emits them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    emit(model, tracer_provider=provider, logger_provider=LoggerProvider())
    return lambda: list(exporter.get_finished_spans())


def record(model: AgentModel, *, fails: bool = True) -> str:
    """A session with a call that works, one that fails unless told otherwise, and one that is rejected; its id."""
    with model.session("USR001", "find") as session, session.process("search") as process:
        with process.call("AGT001", "TL001", values={"q": "a"}, tool_name="search", call_id="c1") as call:
            call.result = "found"
        with process.call("AGT001", "TL002", values={"q": "b"}, tool_name="book") as call:
            call.result = "no table"
            if fails:
                call.fail("no table", error_type="Full")
        with process.call("AGT002", "TL003", tool_name="pay") as call:
            call.fail(status="rejected")
    return session.session_id


def told(span: ReadableSpan) -> dict[str, Any]:
    """What a span says of itself."""
    return dict(span.attributes or {})


def test_calls(model: AgentModel, emitted: Emitted) -> None:
    """A call is an internal span `execute_tool NAME` with the attributes of the conventions, and its own times."""
    session_id = record(model)
    search, book, pay = [span for span in emitted() if span.name.startswith("execute_tool")]

    assert ["execute_tool search", "execute_tool book", "execute_tool pay"] == [one.name for one in (search, book, pay)]
    assert {"INTERNAL"} == {one.kind.name for one in (search, book, pay)}
    assert told(search) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.agent.id": "AGT001",
        "gen_ai.agent.name": "finder",
        "gen_ai.conversation.id": session_id,
        "user.id": "USR001",
    }
    assert ("ERROR", "Full", "Full") == (
        book.status.status_code.name,
        told(book)["error.type"],
        book.status.description,
    )
    assert ("UNSET", "rejected") == (pay.status.status_code.name, told(pay)["agentmodel.status"])
    assert "error.type" not in told(pay)
    history = model.repository.session_history("USR001", session_id).executions
    assert [one.executed_at.timestamp() for one in history if one.executed_at] == [
        pytest.approx((span.start_time or 0) / 1e9, abs=1e-6) for span in (search, book, pay)
    ]
    assert [one.duration_ms for one in history] == [
        ((span.end_time or 0) - (span.start_time or 0)) // 1_000_000 for span in (search, book, pay)
    ]


def test_agents(model: AgentModel, emitted: Emitted) -> None:
    """Each agent of a session is a span `invoke_agent NAME` around its calls, from the first to the session's end."""
    session_id = record(model, fails=False)
    spans = emitted()
    finder, other = [span for span in spans if span.name.startswith("invoke_agent")]

    assert ["invoke_agent finder", "invoke_agent"] == [finder.name, other.name]
    assert {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": "AGT001",
        "gen_ai.agent.name": "finder",
        "gen_ai.conversation.id": session_id,
        "user.id": "USR001",
    } == told(finder)
    around = {span.context.span_id: span.name for span in (finder, other) if span.context}
    assert {"search": "invoke_agent finder", "book": "invoke_agent finder", "pay": "invoke_agent"} == {
        str(told(span)["gen_ai.tool.name"]): around[span.parent.span_id] for span in spans if span.parent
    }
    session = model.repository.session("USR001", session_id)
    assert session is not None
    assert session.ended_at is not None
    assert pytest.approx(session.ended_at.timestamp(), abs=1e-6) == (finder.end_time or 0) / 1e9


def test_agents_that_a_recorder_recorded(model: AgentModel, emitted: Emitted) -> None:
    """What a framework's recorder writes, many at once and behind the agent, has the same spans."""
    with Tracker(model, domain="cafes") as tracker:
        run = tracker.run(user="kim", session="t1", request="find")
        for number in range(3):
            attempt = run.start(f"c{number}", agent="finder", tool="search", arguments={"q": number})
            run.end(f"c{number}", attempt, status="ok", result="found")
        run.finish()
    (agent,) = [span for span in emitted() if span.name == "invoke_agent finder"]

    assert agent.context is not None
    assert [agent.context.span_id] * 3 == [span.parent.span_id for span in emitted() if span.parent]


def test_the_span_around_a_session(model: AgentModel, emitted: Emitted) -> None:
    """The spans of a session are in the span that it began in, also where its calls are written in the background."""

    @model.tool(agent="finder", domain="cafes")
    def search(q: str) -> str:
        return q

    requests = TracerProvider().get_tracer("application")
    with requests.start_as_current_span("request") as request, model.session("USR001", "find"):
        search("a")
        with requests.start_as_current_span("of the model"):
            search("b")
    with requests.start_as_current_span("another request") as another:
        search("c")
    model.settle()
    agents = [span for span in emitted() if span.name == "invoke_agent finder"]

    assert [each.get_span_context().span_id for each in (request, another)] == [
        span.parent.span_id for span in agents if span.parent
    ]
    assert 3 == sum(span.name == "execute_tool search" for span in emitted())


def test_a_session_that_failed(model: AgentModel, emitted: Emitted) -> None:
    """The spans of the agents of a session that failed are errors; what it failed of is not known."""
    with model.session("USR001", "find") as session, session.process("search") as process:
        with process.call("AGT001", "TL001", tool_name="search"):
            pass
        session.fail("nothing near")
    (agent,) = [span for span in emitted() if span.name == "invoke_agent finder"]

    assert ("ERROR", "nothing near", "_OTHER") == (
        agent.status.status_code.name, agent.status.description, told(agent)["error.type"]
    )  # fmt: skip


def test_content_is_opt_in(model: AgentModel) -> None:
    """Arguments and results leave only where that was asked for; a call that failed has no result."""
    seen = {}
    for content in (False, True):
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with AgentModel.from_settings(model.settings) as own:
            emit(own, tracer_provider=provider, logger_provider=LoggerProvider(), content=content)
            record(own)
        seen[content] = [told(span) for span in exporter.get_finished_spans()]

    names = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
    assert not any(name in one for one in seen[False] for name in names)
    assert [('{"q": "a"}', "found"), ('{"q": "b"}', None)] == [
        tuple(one.get(name) for name in names) for one in seen[True][:2]
    ]


def test_a_call_of_no_session_that_began_here(model: AgentModel, emitted: Emitted) -> None:
    """A call that is recorded by itself is a span by itself."""
    at: dict[str, Any] = {"user_id": "USR001", "session_id": "SESS1", "process_id": "PRC001", "agent_id": "AGT001"}
    model.recorder.record(ToolExecution(**at, tool_id="TL001", tool_name="search", succeeded=True))
    (alone,) = emitted()

    assert ("execute_tool search", None) == (alone.name, alone.parent)


def test_open_sessions_are_bounded(model: AgentModel, emitted: Emitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more sessions than may be open at once, the spans of the oldest are ended."""
    monkeypatch.setattr(telemetry, "MAX_SESSIONS", 2)
    sessions = [model.session("USR001", f"find {number}") for number in range(4)]
    for session in sessions:
        session.__enter__()
        with session.process("search") as process, process.call("AGT001", "TL001", tool_name="search"):
            pass
    open_still = [span.name for span in emitted()].count("invoke_agent finder")
    for session in reversed(sessions):
        session.__exit__(None, None, None)

    assert 2 == open_still
    assert 4 == [span.name for span in emitted()].count("invoke_agent finder")


def test_the_processor_leaves_them_alone(model: AgentModel) -> None:
    """The span processor records none of these spans again, and takes no name from them."""
    provider = TracerProvider()
    processor = AgentModelSpanProcessor(model, domain="cafes")
    provider.add_span_processor(processor)
    emit(model, tracer_provider=provider, logger_provider=LoggerProvider())
    with provider.get_tracer("program").start_as_current_span("run"):
        session_id = record(model)
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "fetch"}
        provider.get_tracer("program").start_span("execute_tool fetch", attributes=attributes).end()
    provider.shutdown()
    model.drain()

    assert 3 == len(model.repository.session_history("USR001", session_id).executions)
    (fetched,) = model.repository.sessions(ANONYMOUS)
    (call,) = model.repository.session_history(ANONYMOUS, fetched.session_id).executions
    assert "fetch" == call.tool_name
    assert "finder" not in call.agent_id


@pytest.mark.parametrize(("verdict", "score"), [("correct", 1.0), ("partly", 0.5), ("wrong", 0.0), ("harmful", 0.0)])
def test_verdicts(model: AgentModel, verdict: Any, score: float) -> None:
    """A verdict of a person is an event `gen_ai.evaluation.result` with label, score and explanation."""
    exported = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # it has no types
    logs = LoggerProvider()
    logs.add_log_record_processor(SimpleLogRecordProcessor(exported))
    emit(model, tracer_provider=TracerProvider(), logger_provider=logs)
    session_id = record(model)
    review = model.reviews.ask("USR001", session_id, "How did it go?", phase="post")
    model.reviews.verdict(review, verdict, "kim@example.org", reason="the wrong day")
    (event,) = [one.log_record for one in exported.get_finished_logs()]

    assert "gen_ai.evaluation.result" == event.event_name
    assert {
        "gen_ai.evaluation.name": "review",
        "gen_ai.evaluation.score.label": verdict,
        "gen_ai.evaluation.score.value": score,
        "gen_ai.evaluation.explanation": "the wrong day",
        "gen_ai.conversation.id": session_id,
        "user.id": "USR001",
    } == dict(event.attributes or {})
