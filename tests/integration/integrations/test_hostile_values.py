"""Values without a text at every entry point: the application's own outcome stays, and the call is recorded."""

# ruff: noqa: SIM117 -- a session, its process and its call are nested blocks: that is what is tested
from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain", reason="the extra langchain is not installed")

from langchain.tools import tool as langchain_tool
from opentelemetry.sdk.trace import TracerProvider

from agentmodel import AgentModel, Settings, ToolExecution, User
from agentmodel._values.text import prompt_json
from agentmodel.access.recorder import CallRecorder
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.conventions import Span
from agentmodel.integrations._tracking.spans import calls as calls_of
from agentmodel.integrations.langchain import AgentModelCallback, Tracker
from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor
from agentmodel.integrations.otlp import import_otlp
from tests.hostile import HOSTILE, NoRepr, Odd, deep

TEXTS = {"half an emoji": "caf\ud83d", "blank": "   ", "empty": "", "too long": "é " * 60_000, "a line end": "a\r\nb"}

Made = Callable[[AgentModel, Any], Any]


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        yield model


def recorded(model: AgentModel) -> list[ToolExecution]:
    """Every call in the table, each readable."""
    model.drain()
    items = [item for item in model.table.scan() if item["EntityType"]["S"] == ToolExecution.kind]
    return [ToolExecution.from_item(item) for item in items]


def _result(model: AgentModel, value: Any) -> Any:
    with model.session("USR001", "find") as session, session.process("step") as step:
        with step.call("AGT001", "TL001", tool_name="search") as call:
            call.result = value
    return call.result


def _arguments(model: AgentModel, value: Any) -> Any:
    with model.session("USR001", "find") as session, session.process("step") as step:
        with step.call("AGT001", "TL001", tool_name="search", values={"given": value}):
            return value


def _failure(model: AgentModel, value: Any) -> Any:
    with model.session("USR001", "find") as session, session.process("step") as step:
        with step.call("AGT001", "TL001", tool_name="search") as call:
            call.fail(value, error_type="caf\ud83d")
    return value


def _tool(model: AgentModel, value: Any) -> Any:
    @model.tool(agent="finder")
    def search(given: Any) -> Any:
        return given

    with model.session("USR001", "find"):
        got = search(value)
    assert 0 == model.functions.errors
    return got


def _cached_tool(model: AgentModel, value: Any) -> Any:
    @model.tool(agent="finder", cache="user")
    def search(given: Any) -> Any:
        return given

    with model.session("USR001", "find"):
        got = search(value)
    assert 0 == model.functions.errors
    return got


def _tracker(model: AgentModel, value: Any) -> Any:
    with Tracker(model, domain="d") as tracker:
        run = tracker.run("thread", user="ada", request="find")
        attempt = run.start("c1", agent="finder", tool="search", arguments={"given": value})
        run.end("c1", attempt, status="ok", result=value)
        run.finish()
    assert 0 == tracker.errors
    return value


VALUES_AT: dict[str, Made] = {
    "a call's result": _result,
    "a call's arguments": _arguments,
    "a call's failure": _failure,
    "model.tool": _tool,
    "model.tool with a cache": _cached_tool,
    "a tracker": _tracker,
}


@pytest.mark.parametrize("where", VALUES_AT)
def test_every_value_is_recorded(model: AgentModel, where: str) -> None:
    """Each hostile value reaches the application as it was, and its call is in the table."""
    for value in HOSTILE.values():
        got = VALUES_AT[where](model, value)

        assert got is value

    assert len(HOSTILE) == len(recorded(model))


def _request(model: AgentModel, text: str) -> None:
    with model.session("USR001", request=text, category=text.strip() or None) as session:
        session.succeed(text)


def _names(model: AgentModel, text: str) -> None:
    with model.session("USR001", "find") as session, session.process(text, description=text, prompt=text) as step:
        with step.call("AGT001", "TL001", tool_name=text):
            pass


def _tracked_names(model: AgentModel, text: str) -> None:
    with Tracker(model, domain="d") as tracker:
        run = tracker.run(text or "thread", user=text or None, request=text, category=text.strip() or None)
        run.turn(text, calls=[text])
        attempt = run.start(text, agent=text or "a", tool=text or "t")
        run.end(text, attempt, status="error", result=text, error_type=text)
        run.finish()
    assert 0 == tracker.errors


def _question(model: AgentModel, text: str) -> None:
    with model.session("USR001", "find") as session:
        asked = model.reviews.ask("USR001", session.session_id, text, reason=text)
    model.reviews.decide(asked, "reject", "kim", reason=f"no {text}")


def _suggestion(model: AgentModel, text: str) -> None:
    model.guard().plan("USR001", request=text)


TEXTS_AT: dict[str, Callable[[AgentModel, str], None]] = {
    "a request": _request,
    "names": _names,
    "a tracker's names": _tracked_names,
    "a question": _question,
    "a suggestion": _suggestion,
}


@pytest.mark.parametrize("where", TEXTS_AT)
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_recorded(model: AgentModel, where: str, text: str) -> None:
    """A text from outside is repaired where it enters; it raises nowhere."""
    TEXTS_AT[where](model, TEXTS[text])
    model.drain()

    assert [] == [item for item in model.table.scan() if "\ud83d" in str(item)]


@pytest.mark.parametrize("error", [Odd(), ValueError("caf\ud83d"), ValueError(NoRepr()), ValueError(deep(5000))])
def test_an_exception_stays_the_tools_own(model: AgentModel, error: Exception) -> None:
    """An exception whose text cannot be read reaches the application, and its call is a failure with its type."""

    @model.tool(agent="finder")
    def search() -> None:
        raise error

    @langchain_tool
    def lookup() -> None:
        """Look up."""
        raise error

    with pytest.raises(type(error)) as first, model.session("USR001", "a") as session, session.process("p") as step:
        with step.call("AGT001", "TL001", tool_name="search"):
            raise error
    with pytest.raises(type(error)) as second, model.session("USR001", "b"):
        search()
    with Tracker(model, domain="d") as tracker, pytest.raises(type(error)) as third:
        lookup.invoke({}, {"callbacks": [AgentModelCallback(tracker)]})

    assert first.value is second.value is third.value is error
    assert [("error", type(error).__name__)] * 3 == [(call.status, call.error_type) for call in recorded(model)]
    assert (0, 0) == (tracker.errors, model.functions.errors)


@pytest.mark.parametrize("count", [-1, float("nan"), 10**30, "12", NoRepr()], ids=["-1", "NaN", "10**30", "text", "?"])
def test_a_wrong_count_costs_no_call(model: AgentModel, count: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A call with tokens that are no count is recorded without them, and the log says so."""
    with caplog.at_level(logging.WARNING), model.session("USR001", "a") as session, session.process("p") as step:
        call: CallRecorder
        with step.call("AGT001", "TL001", tool_name="search") as call:
            call.input_tokens = count
            call.output_tokens = 5
    with Tracker(model, domain="d") as tracker:
        run = tracker.run("thread", user="ada")
        run.turn("model", calls=["c1"], input_tokens=count, output_tokens=5)
        run.end("c1", run.start("c1", agent="a", tool="t"), status="ok")

    assert [(None, 5)] * 2 == [(call.input_tokens, call.output_tokens) for call in recorded(model)]
    assert 2 == caplog.text.count("recorded without input_tokens")
    assert 0 == tracker.errors


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "duration_ms"])
def test_an_entity_takes_no_negative_count(name: str) -> None:
    """An entity that the application makes itself says what is wrong."""
    given: dict[str, Any] = {name: -1}

    with pytest.raises(ValidationError, match="must not be negative") as caught:
        ToolExecution(
            user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
            tool_name="search", succeeded=True, **given,
        )  # fmt: skip

    assert name == caught.value.field


@pytest.mark.parametrize("value", ["[" * 100_000, "caf\ud83d", '{"n": ' + "9" * 5000 + "}", b"\xff", float("nan")])
def test_spans_with_any_attribute_are_read(value: Any) -> None:
    """A span is a call, whatever its emitter wrote into it."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.arguments": value,
        "gen_ai.tool.call.result": value,
        "gen_ai.usage.input_tokens": value,
    }

    found = calls_of([Span("1", "2", None, "execute_tool search", attributes=attributes)])

    assert ["search"] == [call.tool for call in found]


def _suggest(model: AgentModel, value: Any) -> None:
    model.suggest("USR001", category=value, request=value)


def _outcome_score(model: AgentModel, value: Any) -> None:
    model.outcome("SESS1", user_id="USR001", score=value)


def _outcome_session(model: AgentModel, value: Any) -> None:
    model.outcome(value, succeeded=True)


def _next_tools_session(model: AgentModel, value: Any) -> None:
    model.next_tools(value)


def _guarded_user(model: AgentModel, value: Any) -> None:
    model.guard().before(agent_id="AGT001", tool_id="TL001", user_id=value, session_id="SESS1")


def _session_name(model: AgentModel, value: Any) -> None:
    with model.session("USR001", name=value):
        pass


def _edit(model: AgentModel, value: Any) -> None:
    asked = model.reviews.ask("USR001", "SESS1", "Pay?", arguments={"amount": 1})
    model.reviews.decide(asked, "edit", "kim", arguments=value)


def _profile(model: AgentModel, value: Any) -> None:
    model.repository.put(User(user_id="USR001", name="mina", profile={"given": value}))


WRONG_AT: dict[str, Callable[[AgentModel, Any], None]] = {
    "a category and a request": _suggest,
    "a score": _outcome_score,
    "the session of an outcome": _outcome_session,
    "the session of next tools": _next_tools_session,
    "a guard's user": _guarded_user,
    "the name of a session": _session_name,
    "an edit": _edit,
    "a profile": _profile,
}
WRONG: dict[str, Any] = {
    "a huge number": 10**5000,
    "a list": ["finder"],
    "no repr": NoRepr(),
    "too deep": deep(100_000),
    "no number": Decimal("sNaN"),
    "members that cannot be read": HOSTILE["no items"],
}


@pytest.mark.parametrize("where", WRONG_AT)
def test_a_value_of_another_type_is_taken_or_refused(model: AgentModel, where: str) -> None:
    """What is no text, no score and no JSON raises no other error than `ValidationError`."""
    for value in WRONG.values():
        with suppress(ValidationError):
            WRONG_AT[where](model, value)


def test_an_edit_shows_what_json_cannot() -> None:
    """What a model reads of edited arguments is a text, whatever the application's own arguments hold."""
    assert '{"row": "<NoRepr, no text: RuntimeError>", "n": 1}' == prompt_json({"row": NoRepr(), "n": 1})
    assert "<int, about 5001 digits>" in prompt_json({"n": 10**5000})


WRONG_SHAPES: dict[str, Any] = {
    "a text": "caf\ud83d", "a number": 5, "a list": [None, "x", {}], "a map": {"values": 5}, "nothing": None,
    "infinity": float("inf"), "digits": "9" * 6000,
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_a_file_of_spans_of_a_wrong_shape_is_read(model: AgentModel, tmp_path: Path, wrong: Any) -> None:
    """What an emitter writes at the place of a map, list, number or text costs at most its own span, and is named."""
    times = dict.fromkeys(("startTimeUnixNano", "endTimeUnixNano"), "1750000000000000000")
    makes = {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}
    good = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "search", **times, "attributes": [makes]}
    named = {"key": "gen_ai.agent.name", "value": {"stringValue": "caf\ud83d"}}
    places = ["traceId", "spanId", "name", *times, "status", "parentSpanId", "events"]
    spans = [good | {"spanId": f"{n:016x}", name: wrong} for n, name in enumerate(places)]
    values = [{"key": "a", "value": {kind: wrong}} for kind in ("intValue", "arrayValue", "kvlistValue", "doubleValue")]
    odd = [makes, *values, named, wrong, {"key": wrong, "value": wrong}]
    spans.append(good | {"spanId": "a" * 16, "attributes": odd})
    spans.append(good | {"spanId": "b" * 16, "status": {"code": wrong, "message": wrong}})
    scopes = [{"scope": wrong, "spans": spans}, {"scope": {"name": wrong}, "spans": wrong}, wrong]
    path = tmp_path / "spans.json"
    path.write_text(json.dumps({"resourceSpans": [wrong, {"resource": wrong, "scopeSpans": scopes}]}))

    done = import_otlp(model, path)

    assert len(spans) - 1 <= done.lines + len(done.bad)  # a wrong parent may be the wrong span: then they are one call
    assert {one.field for one in done.bad} <= {"traceId", "spanId", "name", *times}


def test_names_of_live_spans_are_repaired(model: AgentModel) -> None:
    """Half an emoji in the name of a user, a session, an agent or an argument does not cost the trace."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor := AgentModelSpanProcessor(model, domain="cafes"))
    names = dict.fromkeys(("user.id", "session.id", "gen_ai.agent.name", "gen_ai.tool.name"), "caf\ud83d")
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"\\ud83d": "\\ud83d"}'}
    for _ in range(2):
        with provider.get_tracer("test").start_as_current_span("execute_tool", attributes=names | told):
            pass
    provider.shutdown()

    assert [("caf?", '{"?": "?"}')] * 2 == [(call.tool_name, call.values) for call in recorded(model)]
    assert 1 == len({call.session_id for call in recorded(model)})
    assert (0, 0) == (processor.errors, processor.dropped)


def test_a_step_that_no_key_has_is_a_bad_line(model: AgentModel, tmp_path: Path) -> None:
    """A number above every limit in a line of a trace file is named, and the other lines are imported."""
    line = {"domain": "d", "agent": "a", "session": "s", "step": 1, "tool": "search", "success": True}
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(json.dumps(line | {"step": step}) for step in (1, 10**400)))

    done = model.import_traces(path)

    assert (1, [(2, "step")]) == (done.lines, [(one.line, one.field) for one in done.bad])
