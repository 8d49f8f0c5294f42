"""Runs one real instrumentation on a scripted agent and writes the spans it made as OTLP-JSON: a golden dump, made anew.

    python emit.py EMITTER FILE

The agent `finder` asks for two searches at once, then for a tool that raises, then (where the framework lets it) for a
tool that does not exist, and ends. Session ``s1``, user ``u1``, where the emitter can carry them. Instrumentations patch
what they instrument, so each runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()
PROVIDER = TracerProvider(resource=Resource.create({"service.name": "cafes"}))
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))

TURNS: list[list[tuple[str, str, dict[str, Any]]]] = [
    [("c1", "search", {"q": "a"}), ("c2", "search", {"q": "b", "near": "sea"})],
    [("c3", "broken", {"q": "z"})],
]


def search(q: str, near: str = "park") -> str:
    """Search."""
    return f"found {q} near {near}"


def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


# LangChain


def langchain_agent() -> None:
    """The scripted agent in LangChain."""
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_core.tools import tool

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    def messages() -> Iterator[AIMessage]:
        usage = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
        for turn in TURNS:
            asked = [{"name": name, "args": args, "id": call_id} for call_id, name, args in turn]
            yield AIMessage("", tool_calls=asked, usage_metadata=usage)
        yield AIMessage("done")

    agent = create_agent(Scripted(messages=messages()), [tool(search), tool(broken)], name="finder")
    config: Any = {"configurable": {"thread_id": "s1"}, "metadata": {"user_id": "u1"}}
    try:
        agent.invoke({"messages": [HumanMessage("find")]}, config)
    except ValueError:  # the broken tool's own
        return


def openinference_langchain() -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=PROVIDER)
    langchain_agent()


def openllmetry_langchain() -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=PROVIDER)
    langchain_agent()


def both_langchain() -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=PROVIDER)
    openinference_langchain()


def langsmith() -> None:
    names = ("LANGSMITH_TRACING", "LANGSMITH_OTEL_ENABLED", "LANGSMITH_OTEL_ONLY")
    os.environ.update(dict.fromkeys(names, "true"), LANGSMITH_API_KEY="none")
    trace.set_tracer_provider(PROVIDER)
    from langchain_core.tracers.langchain import get_client, wait_for_all_tracers

    langchain_agent()
    wait_for_all_tracers()
    get_client().flush()


# PydanticAI


def pydantic_ai(version: int | None = None) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.models.instrumented import InstrumentationSettings

    unknown = [("c4", "nope", {"q": "y"})]
    asked = [
        [ToolCallPart(name, args, call_id) for call_id, name, args in turn] for turn in (TURNS[0], unknown, TURNS[1])
    ]
    answers: Iterator[Any] = iter([*asked, [TextPart("done")]])
    chosen: dict[str, Any] = {} if version is None else {"version": version}
    settings = InstrumentationSettings(tracer_provider=PROVIDER, **chosen)
    model = FunctionModel(lambda messages, info: ModelResponse(parts=next(answers)))  # noqa: ARG005 - PydanticAI's
    agent = Agent(model, name="finder", capabilities=[Instrumentation(settings=settings)], tools=[search, broken])
    try:
        agent.run_sync("find")
    except ValueError:  # the broken tool's own
        return


# Strands


def strands(opt_in: str = "") -> None:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = opt_in
    trace.set_tracer_provider(PROVIDER)
    from strands import Agent, tool
    from strands.models.model import Model

    turns: Iterator[Any] = iter([*TURNS, [("c4", "nope", {"q": "y"})], None])

    class Scripted(Model):
        def update_config(self, **config: Any) -> None: ...

        def get_config(self) -> Any:
            return {"model_id": "scripted"}

        async def structured_output(self, *args: Any, **kwargs: Any) -> Any:
            yield {}

        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            turn = next(turns)
            yield {"messageStart": {"role": "assistant"}}
            for call_id, name, arguments in turn or ():
                yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": call_id}}}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
                yield {"contentBlockStop": {}}
            if turn is None:
                yield {"contentBlockDelta": {"delta": {"text": "done"}}}
                yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use" if turn else "end_turn"}}
            usage = {"inputTokens": 11, "outputTokens": 5, "totalTokens": 16}
            yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}

    agent = Agent(
        model=Scripted(),
        tools=[tool(search), tool(broken)],
        name="finder",
        callback_handler=None,
        trace_attributes={"session.id": "s1", "user.id": "u1"},
    )
    agent("find")


# OpenAI Agents


def openai_agents(instrumentor: Any) -> None:
    os.environ["OPENAI_API_KEY"] = "none"
    import agents

    agents.set_trace_processors([])
    instrumentor().instrument(tracer_provider=PROVIDER)
    from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    def asked(call_id: str, name: str, arguments: Any) -> Any:
        return ResponseFunctionToolCall(
            arguments=json.dumps(arguments), call_id=call_id, name=name, type="function_call", id=call_id
        )

    text = ResponseOutputText(text="done", type="output_text", annotations=[])
    end = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
    turns: Iterator[Any] = iter(
        [*([asked(*one) for one in turn] for turn in TURNS), [asked("c4", "pay", {"q": "z"})], [end]]
    )

    class Scripted(Model):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            usage = Usage(requests=1, input_tokens=11, output_tokens=5, total_tokens=16)
            return ModelResponse(output=next(turns), usage=usage, response_id=None)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(args, kwargs)

    def pay(q: str) -> str:
        """Pay."""
        return f"paid {q}"

    tools: Any = [function_tool(search), function_tool(broken), function_tool(pay, needs_approval=True)]
    agent = Agent(name="finder", model=Scripted(), tools=tools)

    async def run() -> None:
        with agents.trace("finding", group_id="s1", metadata={"user_id": "u1"}):
            result = await Runner.run(agent, "find")
            state = result.to_state()
            for one in result.interruptions:
                state.approve(one)
            await Runner.run(agent, state)

    asyncio.run(run())


def openinference_openai_agents() -> None:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    openai_agents(OpenAIAgentsInstrumentor)


def openllmetry_openai_agents() -> None:
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    openai_agents(OpenAIAgentsInstrumentor)


# MCP


def mcp_server() -> None:
    trace.set_tracer_provider(PROVIDER)
    from mcp import Client
    from mcp.server import MCPServer

    server = MCPServer("cafes")
    for tool in (search, broken):
        server.tool()(tool)

    async def run() -> None:
        async with Client(server) as client:
            for turn in TURNS:
                for _, name, arguments in turn:
                    await client.call_tool(name, arguments)

    asyncio.run(run())


EMITTERS: dict[str, Callable[[], None]] = {
    "openinference-langchain": openinference_langchain,
    "openllmetry-langchain": openllmetry_langchain,
    "langsmith": langsmith,
    "both-langchain": both_langchain,
    "pydantic-ai": pydantic_ai,
    "pydantic-ai-2": lambda: pydantic_ai(2),
    "strands": strands,
    "strands-latest": lambda: strands("gen_ai_latest_experimental"),
    "openinference-openai-agents": openinference_openai_agents,
    "openllmetry-openai-agents": openllmetry_openai_agents,
    "mcp-server": mcp_server,
}


# As OTLP-JSON


def any_value(value: Any) -> dict[str, Any]:
    """A value as OTLP-JSON has it."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [any_value(one) for one in value]}}
    return {"stringValue": str(value)}


def attributes(values: Any) -> list[dict[str, Any]]:
    """Attributes as OTLP-JSON has them."""
    return [{"key": key, "value": any_value(value)} for key, value in (values or {}).items()]


def otlp(spans: list[ReadableSpan]) -> dict[str, Any]:
    """Spans as one ``TracesData`` object."""
    scopes: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        context = span.get_span_context()
        if context is None or span.instrumentation_scope is None:
            raise RuntimeError("a span without a context or a scope")
        scopes.setdefault(span.instrumentation_scope.name, []).append(
            {
                "traceId": f"{context.trace_id:032x}",
                "spanId": f"{context.span_id:016x}",
                "parentSpanId": "" if span.parent is None else f"{span.parent.span_id:016x}",
                "name": span.name,
                "startTimeUnixNano": str(span.start_time),
                "endTimeUnixNano": str(span.end_time),
                "attributes": attributes(span.attributes),
                "events": [{"name": event.name, "attributes": attributes(event.attributes)} for event in span.events],
                "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
            }
        )
    made = [{"scope": {"name": name}, "spans": spans} for name, spans in scopes.items()]
    return {"resourceSpans": [{"resource": {"attributes": attributes({"service.name": "cafes"})}, "scopeSpans": made}]}


def main() -> None:
    """Run an emitter and write what it made."""
    EMITTERS[sys.argv[1]]()
    PROVIDER.force_flush()
    Path(sys.argv[2]).write_text(json.dumps(otlp(list(EXPORTER.get_finished_spans()))), "utf-8")


if __name__ == "__main__":
    main()
