"""Runs one real instrumentation on scripted agents and keeps the spans it made as OTLP-JSON: golden dumps, made anew.

    python emit.py EMITTER FOLDER SCRIPT…

Each SCRIPT is a file of turns (`scenario.Turn` as JSON): what the model asks for at once, and its tokens. Its spans are
written to ``FOLDER/EMITTER-NAME.json`` when it ran in full. With ``AGENTMODEL_TABLE`` set, `AgentModelSpanProcessor`
records the last script while it runs. Instrumentations patch what they instrument, so each runs in a process of its own.

The agent `finder` has the tools ``search``, ``flaky`` (fails once), ``broken`` (always fails) and ``pay``. People
decide each payment where the framework has approvals: `DECISIONS`. What the framework lets a program do by itself is
done its way: try again, answer the call ``c9`` from a cache, let the model read an error. Session ``thread-7`` of user
``ada``, where the emitter can carry them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()
PROVIDER = TracerProvider(resource=Resource.create({"service.name": "cafes"}))
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))

AGENT, USER, SESSION, REQUEST = "finder", "ada", "thread-7", "find a café"

DECISIONS: dict[str, Any] = {"c7": None, "c8": {"amount": 5}}
"""What people say to a payment: None rejects it, arguments edit it; any other is approved as it is."""


@dataclass(frozen=True)
class Said:
    """What the model says at once: id, tool and arguments of its calls, and its tokens."""

    calls: tuple[tuple[str, str, dict[str, Any]], ...]
    tokens: tuple[int, int]


Script = list[Said]


def script_of(path: Path) -> Script:
    """A script as its file tells it."""
    return [
        Said(
            tuple((call["call_id"], call["tool"], call["arguments"]) for call in turn["calls"]),
            (turn["input_tokens"], turn["output_tokens"]),
        )
        for turn in json.loads(path.read_text("utf-8"))
    ]


def search(q: str, near: str = "park") -> str:
    """Search."""
    return f"found {q} near {near}"


def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


class Flaky:
    """Makes a tool that fails at its first call."""

    def __init__(self) -> None:
        self._failures = iter([ConnectionError("gone")])

    def tool(self) -> Callable[[str], str]:
        """The tool."""

        def flaky(q: str) -> str:
            """Fail once."""
            for failure in self._failures:
                raise failure
            return f"found {q}"

        return flaky


# LangChain


def langchain_agent(script: Script, **options: Any) -> None:
    """The scripted agent in LangChain."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolRetryMiddleware, wrap_tool_call
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    def messages() -> Iterator[AIMessage]:
        for turn in script:
            asked = [{"name": name, "args": args, "id": call_id} for call_id, name, args in turn.calls]
            read, made = turn.tokens
            usage = {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}
            yield AIMessage("", tool_calls=asked, usage_metadata=usage)
        yield AIMessage("done")

    @wrap_tool_call
    def guarded(request: Any, handler: Callable[[Any], Any]) -> Any:
        if request.tool_call["id"] == "c9":
            return ToolMessage("found a", tool_call_id="c9")
        try:
            return handler(request)
        except ValueError as error:
            return ToolMessage(str(error), tool_call_id=request.tool_call["id"], status="error")

    agent: Any = create_agent(
        Scripted(messages=messages()),
        [tool(search), tool(Flaky().tool()), tool(broken), tool(pay)],
        name=AGENT,
        checkpointer=InMemorySaver(),
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"pay": True}),
            guarded,
            ToolRetryMiddleware(max_retries=1, tools=["flaky"], initial_delay=0.0, jitter=False),
        ],
    )
    config: Any = {"configurable": {"thread_id": SESSION}, "metadata": {"user_id": USER}, **options}
    agent.invoke({"messages": [HumanMessage(REQUEST)]}, config)
    for call_id, name, _ in (call for turn in script for call in turn.calls):
        if name == "pay":
            chosen = DECISIONS[call_id]
            edited = {"type": "edit", "edited_action": {"name": "pay", "args": chosen}}
            rejected = {"type": "reject", "message": "too much"}
            agent.invoke(Command(resume={"decisions": [edited if chosen else rejected]}), config)


def openinference_langchain() -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=PROVIDER)


def openllmetry_langchain() -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=PROVIDER)


def both_langchain() -> None:
    openllmetry_langchain()
    openinference_langchain()


def langsmith() -> None:
    names = ("LANGSMITH_TRACING", "LANGSMITH_OTEL_ENABLED", "LANGSMITH_OTEL_ONLY")
    os.environ.update(dict.fromkeys(names, "true"), LANGSMITH_API_KEY="none")
    trace.set_tracer_provider(PROVIDER)


def langsmith_agent(script: Script) -> None:
    """The same, one tool after the other, and its exporter's queue emptied.

    Its spans start when a thread gets to its tool: of two asked for at once, the second is at times the first.
    """
    from langchain_core.tracers.langchain import get_client, wait_for_all_tracers

    langchain_agent(script, max_concurrency=1)
    wait_for_all_tracers()
    get_client().flush()


# PydanticAI


def pydantic_ai(version: int | None = None) -> Callable[[Script], None]:
    """The scripted agent in PydanticAI, instrumented as a version has it."""

    def run(script: Script) -> None:
        from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, Tool, ToolApproved, ToolDenied
        from pydantic_ai.capabilities import AbstractCapability, Instrumentation
        from pydantic_ai.exceptions import ModelRetry
        from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
        from pydantic_ai.models.function import FunctionModel
        from pydantic_ai.models.instrumented import InstrumentationSettings
        from pydantic_ai.usage import RequestUsage

        class Guard(AbstractCapability[None]):
            """Answer c9 from a cache, and let the model read what fails: it then asks for the flaky one again."""

            async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
                if call.tool_call_id == "c9":
                    return "found a"
                try:
                    return await handler(args)
                except (ValueError, ConnectionError) as error:
                    raise ModelRetry(str(error)) from error

        def answers() -> Iterator[ModelResponse]:
            for turn in script:
                again = ("", "-again") if turn.calls[0][1] == "flaky" else ("",)
                for suffix in again:
                    parts = [ToolCallPart(name, args, call_id + suffix) for call_id, name, args in turn.calls]
                    usage = RequestUsage(input_tokens=turn.tokens[0], output_tokens=turn.tokens[1])
                    yield ModelResponse(parts=parts, usage=usage)
            yield ModelResponse(parts=[TextPart("done")])

        said = answers()
        chosen: dict[str, Any] = {} if version is None else {"version": version}
        settings = InstrumentationSettings(tracer_provider=PROVIDER, **chosen)
        agent = Agent(
            FunctionModel(lambda messages, info: next(said)),  # noqa: ARG005 - PydanticAI's
            name=AGENT,
            output_type=[str, DeferredToolRequests],
            capabilities=[Instrumentation(settings=settings), Guard()],
            tools=[search, Flaky().tool(), broken, Tool(pay, requires_approval=True)],
            retries=9,
        )
        result = agent.run_sync(REQUEST, conversation_id=SESSION)
        while isinstance(result.output, DeferredToolRequests):
            answer = DeferredToolResults()
            for call in result.output.approvals:
                edited = DECISIONS[call.tool_call_id]
                answer.approvals[call.tool_call_id] = (
                    ToolApproved(override_args=edited) if edited else ToolDenied("too much")
                )
            history = result.all_messages()
            result = agent.run_sync(message_history=history, deferred_tool_results=answer, conversation_id=SESSION)

    return run


# Strands


def strands(opt_in: str = "") -> Callable[[], None]:
    """Strands' own spans, in its way or in that of the latest conventions."""

    def instrument() -> None:
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = opt_in
        trace.set_tracer_provider(PROVIDER)

    return instrument


def strands_model(script: Script) -> Any:
    """A model that says what the script tells."""
    from strands.models.model import Model

    turns = iter(script)

    class Scripted(Model):
        def update_config(self, **config: Any) -> None: ...

        def get_config(self) -> Any:
            return {"model_id": "scripted"}

        async def structured_output(self, *args: Any, **kwargs: Any) -> Any:
            yield {}

        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            turn = next(turns, Said((), (1, 1)))
            yield {"messageStart": {"role": "assistant"}}
            for call_id, name, arguments in turn.calls:
                yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": call_id}}}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
                yield {"contentBlockStop": {}}
            if not turn.calls:
                yield {"contentBlockDelta": {"delta": {"text": "done"}}}
                yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use" if turn.calls else "end_turn"}}
            read, made = turn.tokens
            usage = {"inputTokens": read, "outputTokens": made, "totalTokens": read + made}
            yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}

    return Scripted()


def strands_agent(script: Script) -> None:
    """The scripted agent in Strands."""
    from strands import Agent, tool
    from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent
    from strands.middleware import ExecuteToolStage
    from strands.types._events import ToolResultEvent

    def ask(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "pay":
            answer = event.interrupt("pay")
            if answer == "no":
                event.cancel_tool = "too much"
            else:
                event.tool_use["input"] = answer

    def again(event: AfterToolCallEvent) -> None:
        event.retry = isinstance(event.exception, ConnectionError)

    async def cached(context: Any, following: Any) -> Any:
        if context.tool_use["toolUseId"] == "c9":
            yield ToolResultEvent({"toolUseId": "c9", "status": "success", "content": [{"text": "found a"}]})
            return
        async for event in following(context):
            yield event

    agent = Agent(
        model=strands_model(script),
        tools=[tool(search), tool(Flaky().tool()), tool(broken), tool(pay)],
        name=AGENT,
        callback_handler=None,
        trace_attributes={"session.id": SESSION, "user.id": USER},
    )
    agent.hooks.add_callback(BeforeToolCallEvent, ask)
    agent.hooks.add_callback(AfterToolCallEvent, again)
    agent.add_middleware(ExecuteToolStage, cached)
    asked: Any = REQUEST
    while asked:
        result = agent(asked)
        asked = [
            {"interruptResponse": {"interruptId": one.id, "response": DECISIONS[one.id.split(":")[2]] or "no"}}
            for one in result.interrupts or ()
        ]


# OpenAI Agents


def openai_agents(script: Script) -> None:
    """The scripted agent in OpenAI Agents: people approve or reject, and cannot edit."""
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool, trace
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    def answers() -> Iterator[ModelResponse]:
        for number, turn in enumerate(script):
            again = ("", "-again") if turn.calls[0][1] == "flaky" else ("",)
            for suffix in again:
                output: list[Any] = [
                    ResponseFunctionToolCall(
                        arguments=json.dumps(arguments), call_id=call_id + suffix, name=name, type="function_call"
                    )
                    for call_id, name, arguments in turn.calls
                ]
                read, made = turn.tokens
                usage = Usage(requests=1, input_tokens=read, output_tokens=made, total_tokens=read + made)
                yield ModelResponse(output=output, usage=usage, response_id=f"r{number}{suffix}")
        text = ResponseOutputText(text="done", type="output_text", annotations=[])
        end = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        yield ModelResponse(output=[end], usage=Usage(), response_id="end")

    turns = answers()

    class Scripted(Model):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            return next(turns)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(args, kwargs)

    tools: list[Any] = [function_tool(one) for one in (search, Flaky().tool(), broken)]
    agent = Agent(name=AGENT, model=Scripted(), tools=[*tools, function_tool(pay, needs_approval=True)])
    config = RunConfig(tool_not_found_behavior="return_error_to_model")

    async def run() -> None:
        with trace("finding", group_id=SESSION, metadata={"user_id": USER}):
            result = await Runner.run(agent, REQUEST, run_config=config, max_turns=20)
            while result.interruptions:
                state = result.to_state()
                for one in result.interruptions:
                    if DECISIONS.get(str(one.call_id), True):
                        state.approve(one)
                    else:
                        state.reject(one)
                result = await Runner.run(agent, state, run_config=config)

    asyncio.run(run())


def openinference_openai_agents() -> None:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    only(OpenAIAgentsInstrumentor)


def openllmetry_openai_agents() -> None:
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    only(OpenAIAgentsInstrumentor)


def only(instrumentor: Any) -> None:
    """Let an instrumentation be the only one that is told of OpenAI Agents' traces."""
    os.environ["OPENAI_API_KEY"] = "none"
    import agents

    agents.set_trace_processors([])
    instrumentor().instrument(tracer_provider=PROVIDER)


# MCP


def mcp_server() -> None:
    trace.set_tracer_provider(PROVIDER)


def mcp_client(script: Script) -> None:
    """The calls of the script by an MCP client in the same program: a server shows nothing else."""
    from mcp import Client
    from mcp.server import MCPServer

    server = MCPServer("cafes")
    for tool in (search, Flaky().tool(), broken, pay):
        server.tool()(tool)

    async def run() -> None:
        async with Client(server) as client:
            for call_id, name, arguments in (call for turn in script for call in turn.calls):
                edited = DECISIONS.get(call_id, arguments)
                if edited is not None and call_id != "c9":
                    result = await client.call_tool(name, edited)
                    if result.is_error and name == "flaky":
                        await client.call_tool(name, edited)

    asyncio.run(run())


def mcp_rounds(_: Script) -> None:
    """A tool that asks the user back, called twice: within an agent's span, and by a client that has none."""
    from mcp import Client
    from mcp.server import MCPServer
    from mcp.server.elicitation import ElicitationResult
    from mcp.server.mcpserver.resolve import Elicit, Resolve
    from mcp_types import ElicitResult
    from pydantic import BaseModel

    class Sure(BaseModel):
        yes: bool

    def ask() -> Any:
        return Elicit("Sure?", Sure)

    def book(table: int, sure: Any) -> str:
        """Book."""
        return f"booked {table}: {sure.action}"

    # `Sure` is a name of this function only: the annotations cannot be texts
    ask.__annotations__["return"] = Elicit[Sure]
    book.__annotations__.update(table=int, sure=Annotated[ElicitationResult[Sure], Resolve(ask)])
    server = MCPServer("cafes")
    server.tool()(book)

    async def answer(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"yes": True})

    async def run() -> None:
        async with Client(server, elicitation_callback=answer) as client:
            told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "cafes_book"}
            with trace.get_tracer("agent").start_as_current_span("execute_tool cafes_book", attributes=told):
                await client.call_tool("book", {"table": 1})
            await client.call_tool("book", {"table": 2})

    asyncio.run(run())


EMITTERS: dict[str, tuple[Callable[[], None], Callable[[Script], None]]] = {
    "openinference-langchain": (openinference_langchain, langchain_agent),
    "openllmetry-langchain": (openllmetry_langchain, langchain_agent),
    "langsmith": (langsmith, langsmith_agent),
    "both-langchain": (both_langchain, langchain_agent),
    "pydantic-ai": (lambda: None, pydantic_ai()),
    "pydantic-ai-2": (lambda: None, pydantic_ai(2)),
    "strands": (strands(), strands_agent),
    "strands-latest": (strands("gen_ai_latest_experimental"), strands_agent),
    "openinference-openai-agents": (openinference_openai_agents, openai_agents),
    "openllmetry-openai-agents": (openllmetry_openai_agents, openai_agents),
    "mcp-server": (mcp_server, mcp_client),
    "mcp-rounds": (mcp_server, mcp_rounds),
}
"""How each is set up, and the agent it sees."""


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


def main(emitter: str, folder: str, *scripts: str) -> None:
    """Run the scripts and write what the emitter made of each."""
    instrument, run = EMITTERS[emitter]
    instrument()
    for script in scripts[:-1]:
        run_and_write(run, emitter, folder, script)
    if "AGENTMODEL_TABLE" not in os.environ:
        run_and_write(run, emitter, folder, scripts[-1])
        return
    from agentmodel import AgentModel
    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    with AgentModel.from_settings() as model:
        model.table.create()
        processor = AgentModelSpanProcessor(model, domain="support")
        PROVIDER.add_span_processor(processor)
        run_and_write(run, emitter, folder, scripts[-1])
        PROVIDER.shutdown()
        model.drain()
        if processor.errors or processor.early:
            raise RuntimeError(f"{processor.errors} traces were not recorded, {processor.early} too early")


def run_and_write(run: Callable[[Script], None], emitter: str, folder: str, script: str) -> None:
    """Run a script and write its spans."""
    run(script_of(Path(script)))
    PROVIDER.force_flush()
    spans = list(EXPORTER.get_finished_spans())
    EXPORTER.clear()
    Path(folder, f"{emitter}-{Path(script).stem}.json").write_text(json.dumps(otlp(spans)), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
