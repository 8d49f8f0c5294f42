"""Spans of real instrumentations become executions: read from files, and while the program runs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.access.importing import ANONYMOUS
from agentmodel.dynamo.models import ToolExecution
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._spans import Event, Span, calls
from agentmodel.integrations.otlp import import_otlp, read, records
from agentmodel.traces import BadLine, TraceRecord

EMIT = Path(__file__).with_name("emit.py")

FOUND = [
    ("search", {"q": "a"}, "found a near park", True, None),
    ("search", {"q": "b", "near": "sea"}, "found b near sea", True, None),
]
TOLD = ("finder", "u1", "s1")
TOKENS = [(6, 3), (5, 2), (11, 5)]

# What each emitter shows: agent, user and session; whether tokens; the failed call's result and error type; what follows.
EMITTERS: dict[str, dict[str, Any]] = {
    "openinference-langchain": {"needs": "openinference.instrumentation.langchain", "told": TOLD, "tokens": TOKENS},
    "openllmetry-langchain": {"needs": "opentelemetry.instrumentation.langchain", "told": TOLD, "tokens": TOKENS},
    "both-langchain": {"needs": "opentelemetry.instrumentation.langchain", "told": TOLD, "tokens": TOKENS},
    "langsmith": {"needs": "langchain", "told": TOLD, "result": {}, "error": "Exception"},
    "pydantic-ai": {"needs": "pydantic_ai", "told": ("finder", None, "*"), "tokens": "*"},
    "pydantic-ai-2": {"needs": "pydantic_ai", "told": ("finder", None, "*"), "tokens": "*"},
    "strands": {
        "needs": "strands", "told": TOLD, "tokens": TOKENS, "result": "Error: no route to z",
        "then": [("nope", {"q": "y"}, "Unknown tool: nope", False, "unknown_tool")],
    },
    "strands-latest": {
        "needs": "strands", "told": TOLD, "tokens": TOKENS,
        "then": [("nope", {"q": "y"}, None, False, "unknown_tool")],
    },
    "openinference-openai-agents": {
        "needs": "openinference.instrumentation.openai_agents", "told": ("finder", None, "*"),
        "result": "An error occurred while running the tool. Please try again.", "error": "_OTHER",
        "then": [("pay", {"q": "z"}, "paid z", True, None)],
    },
    "openllmetry-openai-agents": {
        "needs": "opentelemetry.instrumentation.openai_agents", "told": ("finder", None, "*"),
        "result": "An error occurred while running the tool. Please try again.", "error": "_OTHER",
        "then": [("pay", {"q": "z"}, "paid z", True, None)],
    },
}  # fmt: skip


def is_there(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Runs an emitter once and gives the file of its spans."""
    folder = tmp_path_factory.mktemp("spans")

    def made(emitter: str, needs: str) -> Path:
        if not is_there(needs) or not is_there("opentelemetry.sdk"):
            pytest.skip(f"{needs} is not installed")
        path = folder / f"{emitter}.json"
        if not path.exists():
            subprocess.run([sys.executable, "-W", "ignore", str(EMIT), emitter, str(path)], check=True, timeout=120)
        return path

    return made


class TestEmitters:
    @pytest.mark.parametrize("emitter", EMITTERS)
    def test_every_call_once_with_what_the_emitter_shows(self, emitter: str, dump: Callable[[str, str], Path]) -> None:
        """Calls, arguments, results, outcomes, agent, user, session and tokens come out as the emitter shows them."""
        shows = EMITTERS[emitter]
        got = [one for one in records(dump(emitter, shows["needs"])) if isinstance(one, TraceRecord)]

        failed = ("broken", {"q": "z"}, shows.get("result"), False, None)
        assert [*FOUND, failed, *shows.get("then", [])] == [
            (one.tool, one.arguments, one.result, one.success, one.status) for one in got
        ]
        assert shows.get("error", "ValueError") == got[2].error_type
        assert [1, 2, 3, 4][: len(got)] == [one.step for one in got]
        agent, user, session = shows["told"]
        assert {(agent, user)} == {(one.agent, one.user) for one in got}
        assert len({one.session for one in got}) == 1
        assert session in ("*", got[0].session)
        tokens = [(one.input_tokens, one.output_tokens) for one in got]
        wanted = shows.get("tokens", [(None, None)] * 3)
        assert tokens[:3] == (tokens[:3] if wanted == "*" else wanted)
        assert wanted != "*" or None not in tokens[0]

    def test_mcp_server_spans_are_calls_where_nothing_better_is_there(self, dump: Callable[[str, str], Path]) -> None:
        """A server that is seen alone shows names and outcomes, and no more."""
        got = [one for one in records(dump("mcp-server", "mcp")) if isinstance(one, TraceRecord)]

        assert [("search", True, None), ("search", True, None), ("broken", False, "tool_error")] == [
            (one.tool, one.success, one.error_type) for one in got
        ]


def span(number: int, name: str = "execute_tool search", parent: int | None = None, **values: Any) -> Span:
    """A tool span that lasts a second."""
    attributes = {"gen_ai.operation.name": "execute_tool", **values.pop("attributes", {})}
    return Span(
        trace_id="t", span_id=str(number), parent_id=None if parent is None else str(parent), name=name,
        started_ns=number * 10**9, ended_ns=(number + 1) * 10**9, attributes=attributes, **values,
    )  # fmt: skip


class TestTraps:
    def test_nested_spans_of_one_call_are_one(self) -> None:
        """An agent's span, its MCP client's and the server's are one call: the agent's."""
        told = {"gen_ai.tool.name": "search"}
        server = {"mcp.method.name": "tools/call", **told}
        outer = span(1, attributes={**told, "gen_ai.tool.call.id": "c1"})

        assert ["c1"] == [
            one.call_id
            for one in calls(
                [span(3, "tools/call search", 2, attributes=server), span(2, parent=1, attributes=told), outer]
            )
        ]

    def test_a_tool_that_calls_another_tool_is_two(self) -> None:
        """A span inside another counts where it is another tool's."""
        inner = span(2, "execute_tool fetch", 1)

        assert ["search", "fetch"] == [one.tool for one in calls([inner, span(1)])]

    def test_ancestors_that_end_later_tell_agent_and_user(self) -> None:
        """What stands on a span around the call counts, whatever ended first."""
        around = Span("t", "9", None, "invoke_agent", attributes={"gen_ai.agent.name": "finder", "user.id": "u1"})

        (one,) = calls([span(1, parent=9), around])

        assert ("finder", "u1") == (one.agent, one.user)

    def test_retry_under_one_id_is_two_attempts(self) -> None:
        """Two spans of one call id that follow each other are a retry, not twins."""
        told = {"gen_ai.tool.call.id": "c1"}
        first = span(1, attributes=told, failed=True, events=[Event("exception", {"exception.type": "Timeout"})])

        assert [("error", "Timeout"), ("ok", None)] == [
            (one.status, one.error_type) for one in calls([first, span(3, attributes=told, scope="other")])
        ]

    def test_interrupt_is_no_failure(self) -> None:
        """A graph that waits for a person ends its tool's span by an exception that is none."""
        raised = [Event("exception", {"exception.type": "langgraph.errors.GraphInterrupt"})]

        assert ["interrupted"] == [one.status for one in calls([span(1, failed=True, events=raised)])]

    def test_spans_in_a_circle_end(self) -> None:
        """Spans that name each other as parents are read all the same."""
        assert 2 == len(calls([span(1, "execute_tool a", 2), span(2, "execute_tool b", 1)]))


def spans_file(path: Path, *documents: object) -> Path:
    """A file of these documents, one a line."""
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in documents), "utf-8")
    return path


def traces_data(**values: Any) -> dict[str, Any]:
    """One exported tool span."""
    exported = {
        "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "execute_tool search",
        "startTimeUnixNano": "1750000000000000000", "endTimeUnixNano": "1750000001000000000",
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}], **values,
    }  # fmt: skip
    return {"resourceSpans": [{"scopeSpans": [{"spans": [exported]}]}]}


class TestFiles:
    def test_bad_spans_are_named_and_the_rest_is_read(self, tmp_path: Path) -> None:
        """A line that is none and a span without a time are told with file, line and field."""
        path = spans_file(
            tmp_path / "spans.jsonl", traces_data(), "{", traces_data(startTimeUnixNano="soon"), traces_data(spanId="")
        )

        found = list(read(path))

        assert [None, "startTimeUnixNano", "spanId"] == [one.field for one in found if isinstance(one, BadLine)]
        assert [2, 3, 4] == [one.line for one in found if isinstance(one, BadLine)]
        assert 1 == sum(isinstance(one, Span) for one in found)

    def test_one_document_over_many_lines(self, tmp_path: Path) -> None:
        """A file may be one JSON object, laid out as one likes."""
        path = tmp_path / "spans.json"
        path.write_text(json.dumps(traces_data(), indent=2), "utf-8")

        assert ["search"] == [one.tool for one in records(path) if isinstance(one, TraceRecord)]

    def test_strict_stops_before_anything_is_written(self, tmp_path: Path) -> None:
        """With ``strict`` the first bad span ends it."""
        path = spans_file(tmp_path / "spans.jsonl", traces_data(), "{")

        with pytest.raises(ValidationError, match="line 2"):
            list(records(path, strict=True))


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table."""
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def executions(model: AgentModel, user_id: str) -> list[ToolExecution]:
    """What is recorded of a user, in order."""
    model.drain()
    return [
        execution
        for session in model.repository.sessions(user_id)
        for execution in model.repository.session_history(user_id, session.session_id).executions
    ]


class TestImport:
    def test_importing_again_changes_nothing(self, model: AgentModel, dump: Callable[[str, str], Path]) -> None:
        """The calls of a dump land once, with their statuses, under ids that are always the same."""
        path = dump("strands", "strands")

        first, second = import_otlp(model, path), import_otlp(model, path)

        assert (4, 0, 4) == (first.lines, first.repeated, second.repeated)
        assert [(True, None), (True, None), (False, None), (False, "unknown_tool")] == [
            (one.succeeded, one.status) for one in executions(model, "USRu1")
        ]


class TestProcessor:
    def test_calls_are_recorded_when_the_root_ends(self, model: AgentModel) -> None:
        """Baggage tells the user; a second trace of the conversation goes on in its session, with the next steps."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from opentelemetry import baggage
        from opentelemetry.context import Context

        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        provider = sdk.TracerProvider()
        processor = AgentModelSpanProcessor(model, domain="cafes")
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        context = baggage.set_baggage("user.id", "kim", Context())
        context = baggage.set_baggage("gen_ai.conversation.id", "talk", context)
        for number in (1, 2):
            with tracer.start_as_current_span("invoke_agent", context=context) as root:
                root.set_attribute("gen_ai.agent.name", "finder")
                told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": f'{{"n": {number}}}'}
                with tracer.start_as_current_span("execute_tool search", attributes=told):
                    pass
                assert processor.force_flush()
                assert number - 1 == len(executions(model, "USRkim"))
            assert processor.force_flush()
        provider.shutdown()

        found = executions(model, "USRkim")
        assert ['{"n": 1}', '{"n": 2}'] == [one.values for one in found]
        assert [1, 2] == [one.call_number for one in found]
        assert 1 == len({one.session_id for one in found})
        assert (0, 0) == (processor.errors, processor.early)

    def test_bounds_lose_nothing(self, model: AgentModel) -> None:
        """Traces beyond the bound are recorded early, and what is open at the end is recorded by the shutdown."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        provider = sdk.TracerProvider()
        processor = AgentModelSpanProcessor(model, max_traces=1)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        roots = [tracer.start_span("root", context=Context()) for _ in range(3)]
        for root in roots:
            told = {"gen_ai.operation.name": "execute_tool"}
            tracer.start_span("execute_tool search", context=set_span_in_context(root), attributes=told).end()
        provider.shutdown()

        assert 2 == processor.early
        assert 3 == len(executions(model, ANONYMOUS))

    def test_errors_are_counted_and_never_the_programs(
        self, model: AgentModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A trace that cannot be recorded is logged and counted; the next one is recorded."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        provider = sdk.TracerProvider()
        processor = AgentModelSpanProcessor(model)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
        model.table.delete()
        tracer.start_span("execute_tool", attributes=told).end()
        assert processor.force_flush()
        model.table.create()
        tracer.start_span("execute_tool", attributes=told).end()
        provider.shutdown()

        assert 1 == processor.errors
        assert "spans.not_recorded" in caplog.text
        assert 1 == len(executions(model, ANONYMOUS))


class TestTelemetry:
    def test_a_span_for_each_call_and_an_event_for_each_verdict(self, model: AgentModel) -> None:
        """Names, outcome and times follow the conventions; the processor does not record these spans again."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor
        from agentmodel.integrations.telemetry import emit

        exporter = InMemorySpanExporter()
        exported = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # it has no types
        provider, logs = sdk.TracerProvider(), LoggerProvider()
        processor = AgentModelSpanProcessor(model)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.add_span_processor(processor)
        logs.add_log_record_processor(SimpleLogRecordProcessor(exported))
        emit(model, tracer_provider=provider, logger_provider=logs)

        with model.session("USR001", "find") as session, session.process("search") as process:
            with process.call("AGT001", "TL001", values={"q": "a"}, tool_name="search") as call:
                call.result = "found"
            with process.call("AGT001", "TL002", tool_name="book") as call:
                call.fail("no table", error_type="Full")
            with process.call("AGT001", "TL003", tool_name="pay") as call:
                call.fail(status="rejected")
        review = model.reviews.ask("USR001", session.session_id, "How did it go?", phase="post")
        model.reviews.verdict(review, "wrong", "kim@example.org", reason="the wrong day")
        assert processor.force_flush()
        provider.shutdown()

        spans = exporter.get_finished_spans()
        told = [dict(one.attributes or {}) for one in spans]
        assert ["execute_tool search", "execute_tool book", "execute_tool pay"] == [one.name for one in spans]
        assert [None, "Full", None] == [one.get("error.type") for one in told]
        assert ["UNSET", "ERROR", "UNSET"] == [one.status.status_code.name for one in spans]
        assert {session.session_id} == {one["gen_ai.conversation.id"] for one in told}
        assert all("gen_ai.tool.call.arguments" not in one for one in told)
        (event,) = [one.log_record for one in exported.get_finished_logs()]
        judged = dict(event.attributes or {})
        assert ("gen_ai.evaluation.result", "wrong", 0.0, "the wrong day") == (
            event.event_name,
            judged["gen_ai.evaluation.score.label"],
            judged["gen_ai.evaluation.score.value"],
            judged["gen_ai.evaluation.explanation"],
        )
        assert 3 == len(executions(model, "USR001"))
        assert [] == executions(model, ANONYMOUS)
