"""Makes the dumps of ``dumps/``: spans of frameworks that are not installed beside the tests, which then read the files.

    python emit_frameworks.py EMITTER…          # in an environment with the framework; `NEEDS` says which packages

The scripted model asks for what the scenario of all recorders begins with: two calls at once, one that fails and that it
asks for again, one that always fails, one with invalid arguments, and an unknown tool. No person decides and nothing is
answered from a cache, except in ``adk-decisions``. A dump is a file of OTLP-JSON whose resource says which versions made it; texts that no call
needs, such as the model's whole input at each turn, are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))  # run as a program, in an environment without the project

from tests.integration.integrations.emit import (  # the path stands before
    AGENT,
    EXPORTER,
    PROVIDER,
    REQUEST,
    SESSION,
    USER,
    Flaky,
    Said,
    any_value,
    broken,
    otlp,
    search,
)
from tests.integration.integrations.messages_api import MessagesApi

FOLDER = Path(__file__).with_name("dumps")

TURNS = (
    Said((("c1", "search", {"q": "a"}), ("c2", "search", {"q": "b"})), (11, 5)),
    Said((("c3", "flaky", {"q": "c"}),), (20, 4)),
    Said((("c3-again", "flaky", {"q": "c"}),), (20, 4)),
    Said((("c4", "broken", {"q": "d"}),), (30, 4)),
    Said((("c5", "search", {"wrong": 1}),), (40, 4)),
    Said((("c6", "nope", {"q": "f"}),), (50, 4)),
)

LONGEST = 800
"""Characters of a text that a dump keeps."""

LEFT_OUT = (
    "exception.stacktrace", "gen_ai.tool.definitions", "tool.description", "tool.parameters", "llm.tools",
    "haystack.agent.tools", "haystack.agent.state_schema", "haystack.tool.description", "haystack.agent.step.llm.input",
    "haystack.agent.output", "llm.invocation_parameters",
)  # fmt: skip
"""Attributes that describe no call, or that name files of the machine."""


def openai_calls(said: Said) -> list[dict[str, Any]]:
    """What a model asks for at once, as OpenAI's answers have it."""
    return [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for call_id, name, arguments in said.calls
    ]


def turns() -> Iterator[Said]:
    """What the model says; at the end, nothing more."""
    yield from TURNS
    while True:
        yield Said((), (5, 1))


# Agno


def agno() -> None:
    """Agno, by OpenInference."""
    from agno.agent import Agent
    from agno.metrics import MessageMetrics
    from agno.models import base
    from agno.models.response import ModelResponse
    from openinference.instrumentation.agno import AgnoInstrumentor

    said = turns()

    class Scripted(base.Model):
        def answer(self) -> Any:
            turn = next(said)
            answer = ModelResponse(role="assistant", content=None if turn.calls else "done")
            answer.tool_calls = openai_calls(turn)
            read, made = turn.tokens
            answer.response_usage = MessageMetrics(input_tokens=read, output_tokens=made, total_tokens=read + made)
            return answer

        def invoke(self, *args: Any, **kwargs: Any) -> Any:
            return self.answer()

        async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
            return self.answer()

        def invoke_stream(self, *args: Any, **kwargs: Any) -> Any:
            yield self.answer()

        async def ainvoke_stream(self, *args: Any, **kwargs: Any) -> Any:
            yield self.answer()

        def _parse_provider_response(self, response: Any, **kwargs: Any) -> Any:
            return response

        def _parse_provider_response_delta(self, response: Any) -> Any:
            return response

    base.Scripted = Scripted  # the instrumentation patches the models that it finds in agno's own modules
    AgnoInstrumentor().instrument(tracer_provider=PROVIDER)
    tools: list[Any] = [search, Flaky().tool(), broken]
    agent = Agent(name=AGENT, model=Scripted(id="scripted"), tools=tools, telemetry=False)
    agent.run(REQUEST, user_id=USER, session_id=SESSION)


# LlamaIndex


def llama_index() -> None:
    """LlamaIndex, by OpenInference."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import TextBlock, ToolCallBlock
    from llama_index.core.llms import ChatMessage, ChatResponse
    from llama_index.core.llms.callbacks import llm_chat_callback
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.llms.mock import MockFunctionCallingLLM
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    LlamaIndexInstrumentor().instrument(tracer_provider=PROVIDER)
    said = turns()

    class Scripted(MockFunctionCallingLLM):
        def answer(self) -> Any:
            turn = next(said)
            blocks = [
                ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)
                for call_id, name, arguments in turn.calls
            ]
            read, made = turn.tokens
            message = ChatMessage(role="assistant", blocks=blocks or [TextBlock(text="done")])
            usage = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
            return ChatResponse(message=message, raw={"usage": usage})

        @llm_chat_callback()
        async def achat(self, messages: Any, **kwargs: Any) -> Any:
            return self.answer()

        async def achat_with_tools(self, *args: Any, chat_history: Any = None, **kwargs: Any) -> Any:
            return await self.achat(chat_history or [])

        def get_tool_calls_from_response(self, response: Any, *args: Any, **kwargs: Any) -> Any:
            return [
                ToolSelection(tool_id=block.tool_call_id, tool_name=block.tool_name, tool_kwargs=block.tool_kwargs)
                for block in response.message.blocks
                if isinstance(block, ToolCallBlock)
            ]

    async def run() -> None:
        tools: list[Any] = [search, Flaky().tool(), broken]
        await FunctionAgent(name=AGENT, description="finds", tools=tools, llm=Scripted(), streaming=False).run(REQUEST)

    asyncio.run(run())


# smolagents


def hugging_face() -> None:
    """smolagents, by OpenInference."""
    import smolagents
    from openinference.instrumentation.smolagents import SmolagentsInstrumentor
    from smolagents import ToolCallingAgent, tool
    from smolagents.models import (
        ChatMessage,
        ChatMessageToolCall,
        ChatMessageToolCallFunction,
        MessageRole,
        Model,
    )
    from smolagents.monitoring import TokenUsage

    said = turns()

    class Scripted(Model):
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            turn = next(said)
            asked = turn.calls or (("end", "final_answer", {"answer": "done"}),)
            calls = [
                ChatMessageToolCall(
                    id=call_id, type="function", function=ChatMessageToolCallFunction(name=name, arguments=arguments)
                )
                for call_id, name, arguments in asked
            ]
            return ChatMessage(
                role=MessageRole.ASSISTANT, content="", tool_calls=calls, token_usage=TokenUsage(*turn.tokens)
            )

    smolagents.Scripted = Scripted  # the instrumentation patches the models that it finds here
    SmolagentsInstrumentor().instrument(tracer_provider=PROVIDER)
    tools = []
    for function in (search, Flaky().tool(), broken):
        function.__doc__ = f"{function.__doc__}\n\nArgs:\n    q: what\n    near: where"
        tools.append(tool(function))
    ToolCallingAgent(
        tools=tools, model=Scripted(model_id="scripted"), name=AGENT, description="d", max_steps=9, verbosity_level=0
    ).run(REQUEST)


# Microsoft Agent Framework


def agent_framework() -> None:
    """Microsoft Agent Framework, its own spans."""
    from agent_framework import (
        Agent,
        BaseChatClient,
        ChatResponse,
        Content,
        FunctionInvocationLayer,
        Message,
        observability,
    )
    from agent_framework.observability import ChatTelemetryLayer
    from opentelemetry import trace

    trace.set_tracer_provider(PROVIDER)
    observability.enable_instrumentation(enable_sensitive_data=True)
    said = turns()

    class Scripted(FunctionInvocationLayer, ChatTelemetryLayer, BaseChatClient):
        def _inner_get_response(self, *args: Any, **kwargs: Any) -> Any:
            async def answer() -> Any:
                turn = next(said)
                calls = [
                    Content.from_function_call(call_id=call_id, name=name, arguments=arguments)
                    for call_id, name, arguments in turn.calls
                ]
                read, made = turn.tokens
                return ChatResponse(
                    messages=[Message(role="assistant", contents=calls or [Content.from_text("done")])],
                    usage_details={"input_token_count": read, "output_token_count": made},
                )

            return answer()

    async def run() -> None:
        client = Scripted(function_invocation_configuration={"max_consecutive_errors_per_request": 9})
        agent = Agent(client=client, name=AGENT, instructions="find", tools=[search, Flaky().tool(), broken])
        await agent.run(REQUEST, session=agent.create_session())

    asyncio.run(run())


# Google ADK


def adk(*, openinference: bool = False, handled: bool = True) -> Callable[[], None]:
    """Google ADK, its own spans or OpenInference's; unhandled, two calls of a turn fail and end the run."""

    def run() -> None:
        os.environ["ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS"] = "true"
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
        from google.adk.agents import LlmAgent
        from google.adk.models import BaseLlm
        from google.adk.models.llm_response import LlmResponse
        from google.adk.runners import InMemoryRunner
        from google.genai import types
        from opentelemetry import trace

        if openinference:
            from openinference.instrumentation.google_adk import GoogleADKInstrumentor

            GoogleADKInstrumentor().instrument(tracer_provider=PROVIDER)
        else:
            trace.set_tracer_provider(PROVIDER)
        both = Said((("c1", "slow", {"q": "a"}), ("c2", "broken", {"q": "b"})), (11, 5))
        said = turns() if handled else iter([both])

        class Scripted(BaseLlm):
            async def generate_content_async(self, *args: Any, **kwargs: Any) -> Any:
                turn = next(said)
                parts = [
                    types.Part(function_call=types.FunctionCall(id=call_id, name=name, args=arguments))
                    for call_id, name, arguments in turn.calls
                ]
                read, made = turn.tokens
                yield LlmResponse(
                    content=types.Content(role="model", parts=parts or [types.Part(text="done")]),
                    usage_metadata=types.GenerateContentResponseUsageMetadata(
                        prompt_token_count=read, candidates_token_count=made, total_token_count=read + made
                    ),
                )

        async def slow(q: str) -> str:
            """Search for long."""
            await asyncio.sleep(60)
            return q

        async def go() -> None:
            failed: Any = (lambda **given: {"error": str(given["error"])}) if handled else None
            agent = LlmAgent(
                name=AGENT,
                model=Scripted(model="scripted"),
                instruction="find",
                tools=[search, Flaky().tool(), broken, slow],
                on_tool_error_callback=failed,
            )
            runner = InMemoryRunner(agent=agent, app_name="cafes")
            await runner.session_service.create_session(app_name="cafes", user_id=USER, session_id=SESSION)
            message = types.Content(role="user", parts=[types.Part(text=REQUEST)])
            async for _ in runner.run_async(user_id=USER, session_id=SESSION, new_message=message):
                pass

        with contextlib.nullcontext() if handled else contextlib.suppress(ValueError):
            asyncio.run(go())

    return run


def adk_decisions() -> None:
    """Google ADK's own spans of what people decide and a callback answers; it runs where the project is installed."""
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
    from google.adk.tools.function_tool import FunctionTool
    from opentelemetry import trace

    trace.set_tracer_provider(PROVIDER)
    from tests.integration.integrations.google_adk_agents import Conversation, Scripted, agent_of, pay, search
    from tests.integration.integrations.scenario import SCRIPT, Asked, Turn

    def order(q: str) -> dict[str, str]:
        """Order something, and tell how that went as ADK's documentation has it."""
        return {"status": "error", "error_message": f"no {q}"}

    def known(tool: Any, args: dict[str, Any], tool_context: Any) -> dict[str, Any] | None:
        return {"result": "found a"} if tool_context.function_call_id == "c9" else None

    script = [*SCRIPT[-3:], Turn((Asked("c10", "order", {"q": "a"}),), 90, 4)]
    tools = [search, FunctionTool(pay, require_confirmation=True), order]
    talk = Conversation(agent_of(Scripted(script), tools, before_tool_callback=known))
    talk.tell(REQUEST)
    talk.answer({}, confirmed=False)
    talk.answer({})


# CrewAI


def crewai(*, listener: bool = False) -> Callable[[], None]:
    """CrewAI, by OpenInference: by what it patches, or by the listener of CrewAI's events."""

    def run() -> None:
        os.environ.update(
            CREWAI_DISABLE_TELEMETRY="true", CREWAI_DISABLE_TRACKING="true", CREWAI_TRACING_ENABLED="false",
            CREWAI_TESTING="true",
        )  # fmt: skip
        from crewai import Agent, Crew, Task
        from crewai.events import crewai_event_bus
        from crewai.llms.base_llm import BaseLLM
        from crewai.tools import tool
        from openinference.instrumentation.crewai import CrewAIInstrumentor

        CrewAIInstrumentor().instrument(tracer_provider=PROVIDER, use_event_listener=listener)
        said = turns()

        class Scripted(BaseLLM):
            def supports_function_calling(self) -> bool:
                return True

            def call(self, *args: Any, **kwargs: Any) -> Any:
                turn = next(said)
                return openai_calls(turn) or "done"

        tools = [tool(function.__name__)(function) for function in (search, Flaky().tool(), broken)]
        agent = Agent(
            role=AGENT, goal="find", backstory="finds", llm=Scripted(model="scripted"), tools=tools, max_iter=30,
            cache=False,
        )  # fmt: skip
        task = Task(description=REQUEST, expected_output="a café", agent=agent)
        Crew(agents=[agent], tasks=[task], cache=False, tracing=False).kickoff()
        crewai_event_bus.flush()

    return run


# Haystack


def haystack() -> None:
    """Haystack, its own spans: OpenInference's have no calls of tools."""
    os.environ["HAYSTACK_CONTENT_TRACING_ENABLED"] = "true"
    from haystack import component, tracing
    from haystack.components.agents import Agent
    from haystack.dataclasses import ChatMessage, ToolCall
    from haystack.tools import create_tool_from_function
    from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer

    tracing.enable_tracing(OpenTelemetryTracer(PROVIDER.get_tracer("haystack")))
    said = turns()

    @component
    class Scripted:
        @component.output_types(replies=list[ChatMessage])
        def run(self, messages: list[ChatMessage], tools: Any = None) -> Any:
            turn = next(said)
            calls = [ToolCall(id=call_id, tool_name=name, arguments=given) for call_id, name, given in turn.calls]
            read, made = turn.tokens
            meta = {"model": "scripted", "usage": {"prompt_tokens": read, "completion_tokens": made}}
            return {"replies": [ChatMessage.from_assistant(None if calls else "done", tool_calls=calls, meta=meta)]}

    # the component looks at the types of what it is given
    Scripted.run.__annotations__.update(messages=list[ChatMessage], tools=Any)
    tools = [create_tool_from_function(function) for function in (search, Flaky().tool(), broken)]
    Agent(chat_generator=Scripted(), tools=tools, raise_on_tool_invocation_failure=False).run(
        messages=[ChatMessage.from_user(REQUEST)]
    )


# Claude Agent SDK


def claude() -> None:
    """Claude Agent SDK, by OpenInference."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, create_sdk_mcp_server, tool
    from openinference.instrumentation.claude_agent_sdk import ClaudeAgentSDKInstrumentor

    ClaudeAgentSDKInstrumentor().instrument(tracer_provider=PROVIDER)
    turns = [([(one, f"mcp__cafes__{name}", given) for one, name, given in said.calls], said.tokens) for said in TURNS]
    api = MessagesApi(turns)

    def answering(function: Callable[..., str]) -> Any:
        @tool(function.__name__, str(function.__doc__), {"q": str})
        async def answer(given: dict[str, Any]) -> dict[str, Any]:
            return {"content": [{"type": "text", "text": function(**given)}]}

        return answer

    tools = [answering(function) for function in (search, Flaky().tool(), broken)]

    async def run(home: str) -> None:
        options = ClaudeAgentOptions(
            mcp_servers={"cafes": create_sdk_mcp_server("cafes", tools=tools)},
            allowed_tools=[f"mcp__cafes__{name}" for name in ("search", "flaky", "broken")],
            model="scripted",
            setting_sources=[],
            cwd=home,
            env=api.environment(home),
        )
        async with ClaudeSDKClient(options) as client:
            await client.query(REQUEST)
            async for _ in client.receive_response():
                pass

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(run(home))


EMITTERS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "agno": (agno, ("agno", "openinference-instrumentation-agno")),
    "llama-index": (llama_index, ("llama-index-core", "openinference-instrumentation-llama-index")),
    "smolagents": (hugging_face, ("smolagents", "openinference-instrumentation-smolagents")),
    "agent-framework": (agent_framework, ("agent-framework-core",)),
    "haystack": (haystack, ("haystack-ai", "opentelemetry-haystack")),
    "adk": (adk(), ("google-adk",)),
    "adk-abandoned": (adk(handled=False), ("google-adk",)),
    "adk-decisions": (adk_decisions, ("google-adk",)),
    "adk-openinference": (adk(openinference=True), ("google-adk", "openinference-instrumentation-google-adk")),
    "claude": (claude, ("claude-agent-sdk", "openinference-instrumentation-claude-agent-sdk")),
    "crewai": (crewai(), ("crewai", "openinference-instrumentation-crewai")),
    "crewai-listener": (crewai(listener=True), ("crewai", "openinference-instrumentation-crewai")),
}
"""How each is run, and the packages that it needs beside OpenTelemetry's SDK."""


def cut(value: Any) -> Any:
    """A value of an attribute, without the end of a long text."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + "…"
    return value


def main(*emitters: str) -> None:
    """Run emitters, each in a process of its own, or one here."""
    if len(emitters) != 1:
        for emitter in emitters:
            subprocess.run([sys.executable, __file__, emitter], check=True)
        return
    (emitter,) = emitters
    run, packages = EMITTERS[emitter]
    run()
    PROVIDER.force_flush()
    spans = list(EXPORTER.get_finished_spans())
    document = otlp(spans)
    versions = {f"version.{name}": importlib.metadata.version(name) for name in (*packages, "opentelemetry-sdk")}
    (resource,) = document["resourceSpans"]
    resource["resource"]["attributes"] += [{"key": key, "value": any_value(value)} for key, value in versions.items()]
    for scope in resource["scopeSpans"]:
        for span in scope["spans"]:
            for holder in (span, *span["events"]):
                holder["attributes"] = [one for one in holder["attributes"] if one["key"] not in LEFT_OUT]
                for attribute in holder["attributes"]:
                    attribute["value"] = {kind: cut(value) for kind, value in attribute["value"].items()}
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{emitter}.json").write_text(json.dumps(document, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
