"""Values without a text at every entry point: the application's own outcome stays, and the call is recorded."""

# ruff: noqa: SIM117 -- a session, its process and its call are nested blocks: that is what is tested
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="the extra langchain is not installed")

from langchain.tools import tool as langchain_tool

from agentmodel import AgentModel, Settings, ToolExecution
from agentmodel.access.recorder import CallRecorder
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.conventions import Span
from agentmodel.integrations._tracking.spans import calls as calls_of
from agentmodel.integrations.langchain import AgentModelCallback, Tracker
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
