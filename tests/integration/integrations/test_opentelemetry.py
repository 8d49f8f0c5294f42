"""Spans of real instrumentations become executions: read from files, and while the program runs."""

from __future__ import annotations

import gzip
import json
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import ToolExecution
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.conventions import Event, Span
from agentmodel.integrations._tracking.spans import RequestedCalls, calls
from agentmodel.integrations.otlp import _read as read
from agentmodel.integrations.otlp import _records as records
from agentmodel.integrations.otlp import session_records
from agentmodel.keys import stable_id
from agentmodel.traces import BadLine, TraceRecord


def span(number: int, name: str = "execute_tool search", parent: int | None = None, **values: Any) -> Span:
    """A tool span that lasts a second."""
    attributes = {"gen_ai.operation.name": "execute_tool", **values.pop("attributes", {})}
    return Span(
        trace_id="t", span_id=str(number), parent_id=None if parent is None else str(parent), name=name,
        started_ns=number * 10**9, ended_ns=(number + 1) * 10**9, attributes=attributes, **values,
    )  # fmt: skip


USER_SAYS = "find a café near the park"
MESSAGES: dict[str, dict[str, Any]] = {
    "conventions": {
        "gen_ai.input.messages": json.dumps(
            [
                {"role": "system", "parts": [{"type": "text", "content": "You help."}]},
                {"role": "user", "parts": [{"type": "text", "content": USER_SAYS}, {"type": "blob", "data": "…"}]},
                {"role": "user", "parts": [{"type": "text", "content": "and a bar"}]},
            ]
        )
    },
    "OpenInference": {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "You help.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": USER_SAYS,
    },
    "OpenInference's agent": {"openinference.span.kind": "AGENT", "input.value": USER_SAYS},
    "OpenLLMetry": {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": USER_SAYS},
    "LangChain": {"input.value": json.dumps({"messages": [[{"kwargs": {"type": "human", "content": USER_SAYS}}]]})},
    "pairs": {"traceloop.entity.input": json.dumps({"inputs": {"messages": [["user", USER_SAYS]]}})},
    "metadata": {"metadata": json.dumps({"request": USER_SAYS})},
    "the program": {"agentmodel.request": USER_SAYS, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "x"},
}


@pytest.mark.parametrize("attributes", MESSAGES.values(), ids=MESSAGES)
def test_the_request_is_what_the_user_said_first(attributes: dict[str, Any]) -> None:
    """In each dialect, the first message of the user is the request of the session; the program's own word wins."""
    model_span = span(1, "chat", attributes={"gen_ai.operation.name": "chat", **attributes})
    (call,) = calls([model_span, span(2)])

    assert USER_SAYS == call.request
    assert USER_SAYS == next(session_records("s", [call])).request


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.input.messages": "not JSON"},
        {"gen_ai.input.messages": '[1, null, [], {}, {"role": "user"}, {"role": "user", "parts": 7}]'},
        {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": 7},
        {"input.value": json.dumps({"inputs": [{"role": "assistant", "content": "x"}]})},
    ],
)
def test_a_message_that_cannot_be_read_is_no_request(attributes: dict[str, Any]) -> None:
    """Whatever an emitter writes where messages stand, the call is recorded, without a request."""
    (call,) = calls([span(1, "chat", attributes={"gen_ai.operation.name": "chat", **attributes}), span(2)])

    assert (None, "search") == (call.request, call.tool)


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

    @pytest.mark.parametrize(("name", "status"), [("isError", "error"), ("is_error", "error"), ("error", "ok")])
    def test_a_result_that_says_error(self, name: str, status: str) -> None:
        """A span that ends well with a result of MCP that says the tool failed is a failure."""
        result = json.dumps({"content": [{"type": "text", "text": "no route"}], name: True})

        (one,) = calls([span(1, attributes={"gen_ai.tool.name": "search", "gen_ai.tool.call.result": result})])

        assert status == one.status

    def test_ancestors_that_end_later_tell_agent_and_user(self) -> None:
        """What stands on a span around the call counts, whatever ended first."""
        around = Span("t", "9", None, "invoke_agent", attributes={"gen_ai.agent.name": "finder", "user.id": "u1"})

        (one,) = calls([span(1, parent=9), around])

        assert ("finder", "u1") == (one.agent, one.user)

    def test_an_agents_name_for_a_servers_tool(self) -> None:
        """A server's span is its agent's call also where the agent puts the server's name before the tool's."""
        inner = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "book"}

        def names(around: str) -> list[str]:
            outer = span(1, attributes={"gen_ai.tool.name": around})
            return [one.tool for one in calls([outer, span(2, parent=1, attributes=inner)])]

        assert ["cafes_book"] == names("cafes_book")
        assert ["rebook", "book"] == names("rebook")

    @pytest.mark.parametrize(
        "scope", ["openinference.instrumentation.openai_agents", "opentelemetry.instrumentation.openai_agents"]
    )
    def test_a_call_that_waits_for_approval_is_none(self, scope: str) -> None:
        """A span that ends well and without a result, because a person is asked first, is no success."""
        told = {"gen_ai.tool.name": "pay", "gen_ai.tool.call.arguments": "{}"}
        done = {**told, "gen_ai.tool.call.result": "paid"}

        assert [("ok", "paid")] == [
            (one.status, one.result)
            for one in calls([span(1, scope=scope, attributes=told), span(2, scope=scope, attributes=done)])
        ]

    @pytest.mark.parametrize(
        ("attributes", "events", "error_type"),
        [
            ({"error.type": "timeout"}, ["KeyError"], "timeout"),
            ({"error.type": "httpx.ReadTimeout"}, [], "ReadTimeout"),
            ({}, ["ValueError", "my.package.KeyError"], "KeyError"),
            ({}, [], "_OTHER"),
        ],
    )
    def test_error_types(self, attributes: dict[str, str], events: list[str], error_type: str) -> None:
        """An error's type is the attribute, else the last exception's, without its module; else unknown."""
        raised = [Event("exception", {"exception.type": name}) for name in events]

        assert [("error", error_type)] == [
            (one.status, one.error_type) for one in calls([span(1, attributes=attributes, events=raised, failed=True)])
        ]

    def test_tokens_are_given_once(self) -> None:
        """A message's tokens go to the first attempt of its call, also where that is made in a later trace."""
        asks = json.dumps([{"parts": [{"type": "tool_call", "id": "c1", "name": "search"}]}])
        usage = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}
        talk = {"session.id": "s1"}
        chat = Span("t1", "c", None, "chat", attributes={"gen_ai.output.messages": asks, **usage, **talk})
        again = replace(chat, trace_id="t2", attributes={"gen_ai.output.messages": asks, **talk})  # without tokens
        told = {"gen_ai.tool.call.id": "c1", **talk}
        attempts = [replace(span(number, attributes=told), trace_id="t2") for number in (3, 5)]
        asked = RequestedCalls()

        assert [] == calls([chat], asked)
        assert [(7, 3), (None, None)] == [
            (one.input_tokens, one.output_tokens) for one in calls([again, *attempts], asked)
        ]

    def test_what_was_asked_for_is_remembered_within_a_bound(self) -> None:
        """Of more messages the oldest is forgotten: its call has no tokens then, and no others."""
        asked = RequestedCalls(max_calls=2)
        for number in range(4):
            message = json.dumps([{"parts": [{"type": "tool_call", "id": f"c{number}", "name": "search"}]}])
            told = {"gen_ai.output.messages": message, "gen_ai.usage.input_tokens": number, "session.id": "s1"}
            calls([Span(f"t{number}", "c", None, "chat", attributes=told)], asked)

        assert [None, None, 2, 3] == [asked.tokens("s1", f"c{number}")[0] for number in range(4)]

    def test_retry_under_one_id_is_two_attempts(self) -> None:
        """Two spans of one call id that follow each other are a retry, not twins."""
        told = {"gen_ai.tool.call.id": "c1"}
        first = span(1, attributes=told, failed=True, events=[Event("exception", {"exception.type": "Timeout"})])

        assert [("error", "Timeout"), ("ok", None)] == [
            (one.status, one.error_type) for one in calls([first, span(3, attributes=told, scope="other")])
        ]

    def test_an_id_that_every_turn_repeats_is_a_call_of_each(self) -> None:
        """Two messages that request `call_0` request two calls, each with its own tokens; a retry is none."""

        def chat(number: int, tokens: int) -> Span:
            asks = json.dumps([{"parts": [{"type": "tool_call", "id": "call_0", "name": "search"}]}])
            told = {"gen_ai.output.messages": asks, "gen_ai.usage.input_tokens": tokens}
            return replace(span(number, "chat"), attributes=told)

        told = {"gen_ai.tool.call.id": "call_0", "gen_ai.tool.call.arguments": "{}"}
        tools = [span(number, attributes=told) for number in (3, 5, 9)]
        made = calls([chat(1, 7), *tools, chat(7, 4)])

        assert [("call_0", 1, 7), ("call_0", 1, None), ("call_0~2", 2, 4)] == [
            (one.call_id, one.turn, one.input_tokens) for one in made
        ]
        assert [1, 1, 2] == [one.step for one in session_records("s", made)]

    @pytest.mark.parametrize("changed", [{"gen_ai.tool.call.arguments": '{"q": 2}'}, {"gen_ai.tool.name": "book"}])
    def test_an_id_of_another_tool_or_other_arguments_is_another_call(self, changed: dict[str, str]) -> None:
        """Spans that repeat an id for something else are separate calls, also where no message is seen."""
        told = {"gen_ai.tool.call.id": "call_0", "gen_ai.tool.name": "search", "gen_ai.tool.call.arguments": '{"q": 1}'}
        made = calls([span(1, attributes=told), span(3, attributes={**told, **changed})])

        assert ["call_0", "call_0~2"] == [one.call_id for one in made]
        assert [1, 2] == [one.step for one in session_records("s", made)]

    @pytest.mark.parametrize("placeholder", ["<not specified>", "None", "null", ""])
    def test_placeholders_are_no_ids(self, placeholder: str) -> None:
        """What an emitter writes where it has no id makes two calls of two spans."""
        told = {"gen_ai.tool.call.id": placeholder, "gen_ai.tool.call.arguments": "{}"}
        made = calls([span(1, attributes=told), span(3, attributes=told)])

        assert 2 == len({one.call_id for one in made})

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

        assert ["line", "startTimeUnixNano", "spanId"] == [one.field for one in found if isinstance(one, BadLine)]
        assert [2, 3, 4] == [one.line for one in found if isinstance(one, BadLine)]
        assert 1 == sum(isinstance(one, Span) for one in found)

    def test_one_document_over_many_lines(self, tmp_path: Path) -> None:
        """A file may be one JSON object, laid out as one likes."""
        path = tmp_path / "spans.json"
        path.write_text(json.dumps(traces_data(), indent=2), "utf-8")

        assert ["search"] == [one.tool for one in records(path) if isinstance(one, TraceRecord)]

    def test_a_broken_document_over_many_lines_is_told_once(self, tmp_path: Path) -> None:
        """Not once for each of its lines."""
        path = tmp_path / "spans.json"
        path.write_text(json.dumps(traces_data(), indent=2)[:-1], "utf-8")

        (bad,) = read(path)

        assert isinstance(bad, BadLine)
        assert "each of its lines" in bad.problem

    @pytest.mark.parametrize("damage", ["cut off", "garbled"])
    def test_damaged_gzip_ends_the_reading_with_a_word(self, tmp_path: Path, damage: str) -> None:
        """The whole lines before the damage are read, and the damage is told as a bad line."""
        lines = [json.dumps(traces_data(spanId=secrets.token_hex(8))).encode() + b"\n" for _ in range(2_000)]
        packed = gzip.compress(b"".join(lines))
        path = tmp_path / "spans.jsonl.gz"
        path.write_bytes(packed[:-2_000] if damage == "cut off" else packed[:-8] + b"\0" * 8)

        *spans, bad = read(path)

        assert spans
        assert all(isinstance(one, Span) for one in spans)
        assert isinstance(bad, BadLine)
        assert (len(spans) + 1, "line") == (bad.line, bad.field)
        assert "cut off or damaged" in bad.problem

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
                told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": f'{{"n": {number}}}'}
                with tracer.start_as_current_span("execute_tool search", attributes=told):
                    pass
                assert processor.force_flush()
                assert number - 1 == len(executions(model, "USRkim"))
                root.set_attribute("gen_ai.agent.name", "finder")  # after the call has ended
            assert processor.force_flush()
        provider.shutdown()

        found = executions(model, "USRkim")
        assert ['{"n": 1}', '{"n": 2}'] == [one.values for one in found]
        assert [1, 2] == [one.call_number for one in found]
        assert 1 == len({one.session_id for one in found})
        assert {stable_id("AGT", "cafes", "finder")} == {one.agent_id for one in found}
        assert (0, 0) == (processor.errors, processor.early)

    def test_threads_of_two_processors(self, model: AgentModel) -> None:
        """Traces of one conversation that end in many threads, before two processors, keep every call once."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        providers = [sdk.TracerProvider() for _ in range(2)]
        processors = [AgentModelSpanProcessor(model, domain="cafes") for _ in providers]
        for provider, processor in zip(providers, processors, strict=True):
            provider.add_span_processor(processor)
        around = {"gen_ai.conversation.id": "talk", "user.id": "kim", "gen_ai.agent.name": "finder"}

        def traced(number: int) -> None:
            tracer = providers[number % 2].get_tracer("test")
            told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": f'{{"n": {number}}}'}
            with tracer.start_as_current_span("invoke_agent", attributes=around):
                tracer.start_span("execute_tool search", attributes=told).end()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(traced, range(40)))
        for provider in providers:
            provider.shutdown()

        found = executions(model, "USRkim")
        assert sorted(f'{{"n": {number}}}' for number in range(40)) == sorted(str(one.values) for one in found)
        assert 40 == len({one.call_id for one in found})
        assert [(0, 0)] * 2 == [(processor.errors, processor.early) for processor in processors]

    def test_several_local_roots_of_one_trace(self, model: AgentModel) -> None:
        """A server that is called from its own process ends before its caller: both stay one trace, and one call."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        provider = sdk.TracerProvider()
        processor = AgentModelSpanProcessor(model, domain="cafes")
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "book"}
        with tracer.start_as_current_span("invoke_agent") as root:
            with tracer.start_as_current_span("execute_tool book", attributes=told) as call:
                context = call.get_span_context()
                sent = SpanContext(context.trace_id, context.span_id, is_remote=True, trace_flags=TraceFlags(1))
                around = set_span_in_context(NonRecordingSpan(sent))  # as it comes over the wire
                server = {**told, "mcp.method.name": "tools/call"}
                tracer.start_span("tools/call book", context=around, attributes=server).end()
            assert processor.force_flush()
            assert [] == executions(model, ANONYMOUS)
            root.set_attribute("gen_ai.agent.name", "finder")
        provider.shutdown()

        (one,) = executions(model, ANONYMOUS)
        assert stable_id("AGT", "cafes", "finder") == one.agent_id
        assert 0 == processor.held

    def test_spans_around_their_root(self, model: AgentModel) -> None:
        """A span that ends before its root begins waits for it; one that ends after its root waits for a flush."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from opentelemetry.trace import set_span_in_context

        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        elsewhere, provider = sdk.TracerProvider(), sdk.TracerProvider()
        processor = AgentModelSpanProcessor(model, domain="cafes")
        told = {"gen_ai.operation.name": "execute_tool", "session.id": "s1"}
        root = elsewhere.get_tracer("test").start_span("run")  # as an emitter that writes a run down afterwards
        around = set_span_in_context(root)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        tracer.start_span("execute_tool search", context=around, attributes=told).end()
        before = processor.held
        processor.on_start(root)
        late = tracer.start_span("execute_tool book", context=around, attributes=told)
        root.end()
        processor.on_end(root)
        late.end()
        assert processor.force_flush()
        after = len(executions(model, ANONYMOUS))
        provider.shutdown()

        assert (1, 2, 0, 0) == (before, after, processor.held, processor.early)

    def test_a_span_that_cannot_be_read_is_not_the_programs(
        self, model: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What goes wrong while a span ends is counted, and the program goes on."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry import _processor as opentelemetry

        def unreadable(_: object) -> Span:
            raise ValueError("no context")

        monkeypatch.setattr(opentelemetry, "span_of", unreadable)
        provider = sdk.TracerProvider()
        processor = opentelemetry.AgentModelSpanProcessor(model)
        provider.add_span_processor(processor)
        provider.get_tracer("test").start_span("execute_tool search").end()
        provider.shutdown()

        assert 1 == processor.errors

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

    def test_memory_is_bounded(self, model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
        """While nothing can be recorded no more spans are held than the bounds say; what is dropped is told."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        back = threading.Event()

        class Stalled(AgentModelSpanProcessor):
            def _record(self, spans: Sequence[Span]) -> None:
                assert back.wait(60)
                super()._record(spans)

        provider = sdk.TracerProvider()
        processor = Stalled(model, max_traces=5, max_spans=20)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("test")
        held = []
        for number in range(60):
            root = tracer.start_span("root", context=Context())
            for name in ("execute_tool search", "chat", "chat"):
                told = {"gen_ai.operation.name": name.partition(" ")[0], "session.id": "s1"}
                tracer.start_span(name, context=set_span_in_context(root), attributes=told).end()
                held.append(processor.held)
            if number % 2:  # the others never end
                root.end()
        back.set()
        provider.shutdown()

        assert max(held) <= 2 * 20
        assert processor.early > 0
        assert processor.dropped > 0
        assert processor.dropped == sum(int(n) for n in re.findall(r"spans.dropped: dropped (\d+) items", caplog.text))
        assert 60 - processor.dropped == len(executions(model, ANONYMOUS))
        assert 0 == processor.held

    def test_a_conversations_texts_are_not_kept(self) -> None:
        """What repeats the conversation at each answer is not kept; what tells of calls is."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry._processor import span_of

        told = {"gen_ai.input.messages": "long", "llm.input_messages.0.message.content": "long", "session.id": "s1"}
        made = sdk.TracerProvider().get_tracer("test").start_span("chat", attributes=told)
        made.end()

        assert {"session.id": "s1"} == span_of(made).attributes

    def test_errors_are_counted_and_never_the_programs(
        self, model: AgentModel, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A trace that cannot be recorded, as there is no journal, is logged and counted; the next one is recorded."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as recording:
            provider = sdk.TracerProvider()
            processor = AgentModelSpanProcessor(recording)
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
