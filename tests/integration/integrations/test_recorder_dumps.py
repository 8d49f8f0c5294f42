"""Spans of frameworks that are not installed beside the tests, from the dumps that ``emit_frameworks.py`` made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentmodel.integrations.otlp import _records as records
from agentmodel.traces import BadLine, TraceRecord
from tests.integration.integrations.scenario import AGENT, REQUEST, SESSION, USER

FOLDER = Path(__file__).with_name("dumps")
PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "opentelemetry.md"

Row = tuple[str, Any, Any, str, str | None, tuple[int | None, int | None]]

CASES: Mapping[str, list[Row]] = {
    "parallel calls": [
        ("search", {"q": "a"}, "found a near park", "ok", None, (6, 3)),
        ("search", {"q": "b"}, "found b near park", "ok", None, (5, 2)),
    ],
    "failure": [
        ("flaky", {"q": "c"}, "gone", "error", "ConnectionError", (20, 4)),
        ("flaky", {"q": "c"}, "found c", "ok", None, (20, 4)),
        ("broken", {"q": "d"}, "no route to d", "error", "ValueError", (30, 4)),
    ],
    "invalid arguments": [("search", {"wrong": 1}, ..., "error", "ValidationError", (40, 4))],
    "unknown tool": [("nope", {"q": "f"}, ..., "unknown_tool", None, (50, 4))],
}
"""Tool, arguments, result (``...`` is any text of the framework's), status, error type and tokens."""


@dataclass(frozen=True)
class Emitter:
    """An emitter, and what it shows of the calls in its dump.

    Attributes:
        name: In the docs.
        without: Cases it does not show.
        errors: The type it gives errors of a case; ``*`` is every case.
        told: Agent, user, session and request; None for what it does not tell.
        tokens: Whether it tells which tokens a call took.
        own: Tools that are the framework's, recorded after the others.
        before: How it begins the text of an error.
        prefix: How it begins the name of a tool.
    """

    name: str
    without: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    told: tuple[str | None, str | None, str | None, str | None] = (AGENT, None, None, REQUEST)
    tokens: bool = True
    own: tuple[str, ...] = ()
    before: str = ""
    prefix: str = ""

    def rows(self) -> list[Row]:
        """The calls it gives."""
        return [self._row(case, row) for case, rows in CASES.items() if case not in self.without for row in rows]

    def _row(self, case: str, row: Row) -> Row:
        tool, arguments, result, status, error_type, tokens = row
        if error_type is not None and result is not ...:
            result = self.before.format(tool=tool, arguments=arguments) + result
        kind = None if error_type is None else self.errors.get(case, self.errors.get("*", error_type))
        return self.prefix + tool, arguments, result, status, kind, tokens if self.tokens else (None, None)


DUMPS = {
    "adk": Emitter("Google ADK, its own", errors={"failure": "TOOL_ERROR"}, told=(AGENT, None, SESSION, REQUEST)),
    "adk-openinference": Emitter(
        "OpenInference, Google ADK", errors={"failure": "TOOL_ERROR"}, told=(AGENT, USER, SESSION, REQUEST), tokens=False
    ),
    "agent-framework": Emitter("Microsoft Agent Framework, its own", ("invalid arguments", "unknown tool")),
    "agno": Emitter(
        "OpenInference, Agno", ("unknown tool",), {"failure": "_OTHER"}, told=(AGENT, USER, SESSION, REQUEST)
    ),
    "claude": Emitter(
        "OpenInference, Claude Agent SDK", errors={"*": "Exception"}, told=(None, None, None, REQUEST), tokens=False,
        prefix="mcp__cafes__",
    ),
    "crewai": Emitter("OpenInference, CrewAI", ("unknown tool",), {"invalid arguments": "ValueError"}, tokens=False),
    "crewai-listener": Emitter("OpenInference, CrewAI's listener", errors={"failure": "_OTHER"}, tokens=False),
    "haystack": Emitter(
        "Haystack, its own", ("unknown tool",), {"*": "_OTHER"}, told=(None, None, None, REQUEST),
        before="Failed to invoke Tool `{tool}` with parameters {arguments}. Error: ",
    ),
    "llama-index": Emitter("OpenInference, LlamaIndex", ("unknown tool",), {"invalid arguments": "TypeError"}),
    "smolagents": Emitter("OpenInference, smolagents", ("invalid arguments", "unknown tool"), own=("final_answer",)),
}  # fmt: skip


def found(name: str) -> list[TraceRecord]:
    """The calls in a dump."""
    read = list(records(FOLDER / f"{name}.json"))
    assert not [one for one in read if isinstance(one, BadLine)]
    return [one for one in read if isinstance(one, TraceRecord)]


def row_of(one: TraceRecord) -> Row:
    """A call as the cases have it."""
    status = one.status or ("ok" if one.success else "error")
    return one.tool, one.arguments, one.result, status, one.error_type, (one.input_tokens, one.output_tokens)


@pytest.mark.parametrize("name", DUMPS)
class TestDumps:
    def test_every_call_once_as_it_was(self, name: str) -> None:
        """Each call that the spans show is recorded, in the model's order, and nothing that is none."""
        emitter = DUMPS[name]
        calls = found(name)
        rows = [row_of(one) for one in calls if one.tool not in emitter.own]
        if not emitter.tokens:  # the order in which calls were asked for at once is not told either
            rows[:2] = sorted(rows[:2], key=lambda row: str(row[1]))
        wanted = emitter.rows()

        assert wanted == [
            row if want[2] is not ... else (*row[:2], ..., *row[3:]) for row, want in zip(rows, wanted, strict=True)
        ]
        assert list(emitter.own) == [one.tool for one in calls[len(rows) :]]
        assert list(range(1, len(calls) + 1)) == [one.step for one in calls]
        assert all(isinstance(one.result, str) for one in calls)

    def test_who_and_what_for(self, name: str) -> None:
        """Agent, user, session and request are as the spans tell them; the program's name stands in for the agent."""
        agent, user, session, request = DUMPS[name].told
        calls = found(name)

        assert {(agent or "cafes", user, request)} == {(one.agent, one.user, one.request) for one in calls}
        assert 1 == len({one.session for one in calls})
        assert session in (None, calls[0].session)


def test_calls_that_a_run_ended_before() -> None:
    """A call whose run ended is no failure of its tool; one that failed keeps the model's id, error and text."""
    assert [
        ("slow", {"q": "a"}, None, "interrupted", None, (6, 3)),
        ("broken", {"q": "b"}, "no route to b", "error", "ValueError", (5, 2)),
    ] == [row_of(one) for one in found("adk-abandoned")]


def test_what_people_and_callbacks_decide_in_adk() -> None:
    """A call that waits is none, one that a person rejected is that, and a result tells an error by its status.

    What a callback answers looks like the tool's own result.
    """
    calls = found("adk-decisions")

    assert [
        ("pay", {"amount": 7}, "This tool call is rejected.", "rejected", None, (60, 4)),
        ("pay", {"amount": 8}, "paid 8", "ok", None, (70, 4)),
        ("search", {"q": "a"}, "found a", "ok", None, (80, 4)),
        ("order", {"q": "a"}, {"status": "error", "error_message": "no a"}, "error", "_OTHER", (90, 4)),
    ] == [row_of(one) for one in calls]
    assert {(AGENT, SESSION)} == {(one.agent, one.session) for one in calls}


def test_dumps_are_those_that_the_program_makes() -> None:
    """Every dump has a maker, says which versions it is of, and has no path of the machine that made it."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra opentelemetry is not installed")
    from tests.integration.integrations.emit_frameworks import EMITTERS

    assert {f"{name}.json" for name in EMITTERS} == {path.name for path in FOLDER.iterdir()}
    for name, (_, packages) in EMITTERS.items():
        assert {*packages, "opentelemetry-sdk"} == versions(name).keys()
        assert "site-packages" not in FOLDER.joinpath(f"{name}.json").read_text("utf-8")


def versions(name: str) -> dict[str, str]:
    """The versions of the packages that made a dump."""
    (resource,) = json.loads(FOLDER.joinpath(f"{name}.json").read_text("utf-8"))["resourceSpans"]
    told = {one["key"]: one["value"].get("stringValue") for one in resource["resource"]["attributes"]}
    return {key.removeprefix("version."): value for key, value in told.items() if key.startswith("version.")}


def test_table_in_the_docs() -> None:
    """The docs say of each of them which versions were read, what is not shown, and what is told."""
    lines = ["| emitter | versions | does not show | shows otherwise | tells |", "|---|---|---|---|---|"]
    for name, emitter in DUMPS.items():
        made_by = ", ".join(f"{key} {value}" for key, value in versions(name).items() if key != "opentelemetry-sdk")
        otherwise = [f"every error as `{emitter.errors['*']}`"] if "*" in emitter.errors else []
        otherwise += [f"{case}: `{kind}`" for case, kind in emitter.errors.items() if case != "*"]
        otherwise += [f"`{tool}`, a tool of the framework" for tool in emitter.own]
        otherwise += [f"tools as `{emitter.prefix}NAME`"] if emitter.prefix else []
        tells = [
            what for what, value in zip(("agent", "user", "session", "request"), emitter.told, strict=True) if value
        ]
        tells += ["tokens"] if emitter.tokens else []
        without = ", ".join(emitter.without)
        lines.append(f"| {emitter.name} | {made_by} | {without} | {'; '.join(otherwise)} | {', '.join(tells)} |")

    assert "\n".join(lines) in PAGE.read_text("utf-8"), "\n".join(lines)
