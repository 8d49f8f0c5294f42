"""What the model took for a call: its name and tokens, as each entry point is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("langchain_core", reason="LangChain is an extra")
pytest.importorskip("strands", reason="Strands is an extra")

from langchain_core.messages import AIMessage

from agentmodel import AgentModel
from agentmodel._values.counts import Usage
from agentmodel.integrations._tracking.conventions import Span, tokens_of
from agentmodel.integrations._tracking.spans import calls
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.integrations.langchain._messages import report_turn
from agentmodel.integrations.strands._hooks import _usage

ALL = Usage(100, 40, 60, 20, 30, "gpt-5")
"""What is told everywhere."""

TOLD = {name: value for name, value in ALL._asdict().items() if value is not None}


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """One installation for all."""
    with AgentModel.local() as model:
        yield model


def usage_of(model: AgentModel, user_id: str) -> list[Usage]:
    """What the table holds of a user's only session, call by call."""
    model.drain()
    (session,) = model.repository.sessions(user_id)
    history = model.repository.session_history(user_id, session.session_id)
    return [Usage(*(getattr(call, name) for name in Usage._fields)) for call in history.executions]


def test_a_block_tells_it(model: AgentModel) -> None:
    """What is set in a block is kept with the call; what is no count or no name is left out."""
    with model.session("USRblock", "find") as session, session.process("step") as process:
        with process.call("AGT001", "TL001") as call:
            for name, value in ALL._asdict().items():
                setattr(call, name, value)
        with process.call("AGT001", "TL002") as call:
            call.cached_tokens, call.reasoning_tokens, call.model_name = -1, 7, ""

    assert [ALL, Usage(reasoning_tokens=7)] == usage_of(model, "USRblock")


def test_frameworks_tell_it(model: AgentModel) -> None:
    """A turn is divided over its calls, sums exact; a retry took nothing; a message of LangChain says all of it."""
    with Tracker(model) as tracker:
        run = tracker.run("t", user="turns")
        run.turn("model", calls=["c1", "c2", "c3"], **TOLD)
        for call_id in ("c1", "c2", "c3", "c1"):
            attempt = run.start(call_id, agent="finder", tool="search")
            run.end(call_id, attempt, status="ok")
        message = AIMessage(
            "",
            tool_calls=[{"name": "search", "args": {}, "id": "c1"}],
            usage_metadata={
                "input_tokens": 100, "output_tokens": 40, "total_tokens": 140,
                "input_token_details": {"cache_read": 60, "cache_creation": 20},
                "output_token_details": {"reasoning": 30},
            },
            response_metadata={"model_name": "gpt-5"},
        )  # fmt: skip
        lang = tracker.run("t", user="langchain")
        report_turn(lang, "model", message, scope="")
        lang.call("c1", agent="finder", tool="search", status="ok")

    first, retry, second, third = sorted(usage_of(model, "USRturns"), key=lambda one: -(one.input_tokens or 34))
    assert Usage(34, 14, 20, 8, 10, "gpt-5", 100) in (first, retry)
    assert Usage() in (first, retry)
    assert [Usage(33, 13, 20, 6, 10, "gpt-5", 100)] * 2 == [second, third]
    assert [ALL] == usage_of(model, "USRlangchain")


def test_a_provider_that_counts_cached_tokens_beside_the_input() -> None:
    """Strands tells cached tokens as the provider does, within the input or beside it; the input has them either way."""
    agent = SimpleNamespace(model=SimpleNamespace(get_config=lambda: {"model_id": "claude"}))
    cache = {"cacheReadInputTokens": 60, "cacheWriteInputTokens": 20}
    within = {"inputTokens": 100, "outputTokens": 40, "totalTokens": 140, **cache}
    beside = {"inputTokens": 20, "outputTokens": 40, "totalTokens": 140, **cache}

    wanted = Usage(100, 40, 60, 20, None, "claude")
    assert [wanted, wanted] == [Usage(**_usage(agent, told)) for told in (within, beside)]
    assert Usage(model_name="claude") == Usage(**_usage(agent, {}))


DIALECTS: dict[str, tuple[str, ...]] = {
    "conventions": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.reasoning.output_tokens", "gen_ai.response.model",
    ),
    "PydanticAI": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cache_write_tokens", "gen_ai.usage.details.reasoning_tokens", "gen_ai.request.model",
    ),
    "OpenInference": (
        "llm.token_count.prompt", "llm.token_count.completion", "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_write", "llm.token_count.completion_details.reasoning", "llm.model_name",
    ),
    "OpenLLMetry": (
        "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.reasoning_tokens", "gen_ai.response.model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_spans_tell_it(dialect: str) -> None:
    """The span of a model's message tells it in each dialect, and its calls share it."""
    told = dict(zip(DIALECTS[dialect], TOLD.values(), strict=True))
    parts = [{"type": "tool_call", "id": call_id, "name": "search"} for call_id in ("c1", "c2")]
    told |= {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": parts}])}
    beside = {name: 20 if value == 100 else value for name, value in told.items()}
    spans = [Span("t", "m", None, "chat", started_ns=1, ended_ns=2, attributes=told)]
    for number in (1, 2):
        given = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "s", "gen_ai.tool.call.id": f"c{number}"}
        spans.append(Span("t", f"s{number}", None, "tool", started_ns=3, ended_ns=4, attributes=given))

    assert ALL == tokens_of(spans[0])
    for total in ({}, {"gen_ai.usage.total_tokens": 140}):  # a provider that counts cached tokens beside the input
        assert ALL == tokens_of(replace(spans[0], attributes=beside | total))
    half = Usage(50, 20, 30, 10, 15, "gpt-5", 100)
    assert [half, half] == [Usage(*(getattr(call, name) for name in Usage._fields)) for call in calls(spans)]


def test_trace_files_tell_it(model: AgentModel, tmp_path: Path) -> None:
    """A record may have it; one without it is the record that it was, so that a file is not imported twice."""
    line = {"domain": "cafes", "agent": "finder", "session": "s", "step": 1, "tool": "search", "success": True}
    path = tmp_path / "calls.jsonl"
    path.write_text(json.dumps(line | {"user": "traces"} | ALL._asdict()) + "\n", encoding="utf-8")
    model.import_traces(path)

    assert [ALL] == usage_of(model, "USRtraces")
    again = model.import_traces(path)
    assert 1 == again.repeated
