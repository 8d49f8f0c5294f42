"""A program that makes one call for each of three users, forks in between, and ends without closing anything.

    python process_end.py RECORDER END

The user `before` calls before the fork, `child` in the forked process, which ends by `sys.exit`, and `after` in the
parent. ``AGENTMODEL_*`` says where the engines are. END is how the parent ends: by the end of the script, by
`sys.exit`, or by an exception.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from agentmodel import AgentModel

Run = Callable[[str], None]
"""Runs an agent for a user, which calls the tool ``search`` once."""


def plain(model: AgentModel) -> Run:
    """The recorder itself."""

    def run(user: str) -> None:
        session = model.session(f"USR{user}", "find it")
        with session, session.process("look") as process, process.call("AGTfinder", "TLsearch", values={}) as call:
            call.result = "found"

    return run


def function(model: AgentModel) -> Run:
    """A function that `model.tool` made a tool of."""

    @model.tool(agent="finder")
    def search(q: str) -> str:
        return q

    def run(user: str) -> None:
        with model.session(f"USR{user}", "find it"):
            search("a")

    return run


def langchain(model: AgentModel) -> Run:
    """The callback handler of LangChain."""
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    from agentmodel.integrations.langchain import AgentModelCallback, Tracker

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, *_: Any, **__: Any) -> Any:
            return self

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    callback = AgentModelCallback(Tracker(model))

    def run(user: str) -> None:
        said: Iterator[AIMessage] = iter(
            [AIMessage("", tool_calls=[{"name": "search", "args": {"q": "a"}, "id": "c1"}]), AIMessage("done")]
        )
        config: Any = {"configurable": {"thread_id": user}, "metadata": {"user_id": user}, "callbacks": [callback]}
        agent: Any = create_agent(Scripted(messages=said), [search], name="finder")
        agent.invoke({"messages": [("user", "find it")]}, config)

    return run


def strands(model: AgentModel) -> Run:
    """The hook provider of Strands."""
    from strands import Agent, tool
    from strands.models.model import Model

    from agentmodel.integrations.strands import AgentModelHooks, Tracker

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    hooks = AgentModelHooks(Tracker(model))

    def run(user: str) -> None:
        said = iter([{"toolUse": {"name": "search", "toolUseId": "c1"}}, {}])

        async def stream(*_: Any, **__: Any) -> Any:
            use = next(said)
            yield {"contentBlockStart": {"start": use}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"q": "a"}'}} if use else {"text": "done"}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use" if use else "end_turn"}}

        scripted = type("Scripted", (Model,), {**dict.fromkeys(Model.__abstractmethods__, dict), "stream": stream})()
        agent = Agent(scripted, tools=[search], name="finder", callback_handler=None, hooks=[hooks])
        agent("find it", invocation_state={"user_id": user, "session_id": user})

    return run


def openai_agents(model: AgentModel) -> Run:
    """The hooks and the trace processor of OpenAI Agents."""
    from agents import Agent, RunConfig, Runner, function_tool, set_trace_processors
    from agents.testing import ScriptedModel, assistant_message, function_call

    from agentmodel.integrations.openai_agents import AgentModelRecorder, Tracker

    @function_tool
    def search(q: str) -> str:
        """Search."""
        return q

    recorder = AgentModelRecorder(Tracker(model))
    set_trace_processors([recorder])

    def run(user: str) -> None:
        said = [[function_call("search", {"q": "a"}, call_id="c1")], [assistant_message("done")]]
        agent = Agent(name="finder", model=ScriptedModel(said), tools=[search])
        config = RunConfig(group_id=user, trace_metadata={"user_id": user})
        asyncio.run(Runner.run(agent, "find it", hooks=recorder, run_config=config))

    return run


def pydantic_ai(model: AgentModel) -> Run:
    """The capability for Pydantic AI."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    from agentmodel.integrations.pydantic_ai import AgentModelCapability, Tracker

    def search(q: str) -> str:
        """Search."""
        return q

    ours = AgentModelCapability(Tracker(model))

    def run(user: str) -> None:
        said: Any = iter([ToolCallPart("search", {"q": "a"}, "c1"), TextPart("done")])
        scripted = FunctionModel(lambda _messages, _info: ModelResponse([next(said)]))
        agent = Agent(scripted, tools=[search], name="finder", capabilities=[ours])
        asyncio.run(agent.run("find it", conversation_id=user, metadata={"user_id": user}))

    return run


def google_adk(model: AgentModel) -> Run:
    """The plugin for Google ADK."""
    from google.adk.agents import LlmAgent
    from google.adk.apps import App
    from google.adk.models import BaseLlm, LlmResponse  # type: ignore[attr-defined,unused-ignore]  # without a list
    from google.adk.runners import InMemoryRunner
    from google.genai.types import ModelContent, Part

    from agentmodel.integrations.google_adk import AgentModelPlugin, Tracker

    def search(q: str) -> str:
        """Search."""
        return q

    plugin = AgentModelPlugin(Tracker(model))

    def run(user: str) -> None:
        said = iter([Part.from_function_call(name="search", args={"q": "a"}), Part(text="done")])

        async def answer(*_: Any, **__: Any) -> Any:
            yield LlmResponse(content=ModelContent(next(said)))

        scripted: Any = type("Scripted", (BaseLlm,), {"generate_content_async": answer})(model="scripted")
        app = App(name="cafes", root_agent=LlmAgent(name="finder", model=scripted, tools=[search]), plugins=[plugin])
        asyncio.run(InMemoryRunner(app=app).run_debug("find it", user_id=user, session_id=user, quiet=True))

    return run


def claude_agent_sdk(model: AgentModel) -> Run:
    """The client of the Claude Agent SDK."""
    from claude_agent_sdk import ClaudeAgentOptions, tool

    from agentmodel.integrations.claude_agent_sdk import AgentModelClient, Tracker
    from tests.integration.integrations.messages_api import MessagesApi

    @tool("search", "find places", {"q": str})
    async def search(given: Any) -> Any:
        """Search."""
        return {"content": [{"type": "text", "text": given["q"]}]}

    tracker = Tracker(model)

    async def talk(user: str) -> None:
        api = MessagesApi([([("c1", "mcp__cafes__search", {"q": "a"})], (1, 1))])
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            options = ClaudeAgentOptions(allowed_tools=["mcp__cafes"], cwd=home, env=api.environment(home))
            async with AgentModelClient(tracker, options, user=user, tools={"cafes": [search]}) as client:
                await client.query("find it")
                async for _ in client.receive_response():
                    pass

    return lambda user: asyncio.run(talk(user))


def crewai(model: AgentModel) -> Run:
    """The hooks for CrewAI."""
    from agentmodel.integrations.crewai import AgentModelCrewHooks, Tracker
    from tests.integration.integrations.crewai_agents import agent_of, crew_of, scripted, search
    from tests.integration.integrations.scenario import Asked, Turn

    ours = AgentModelCrewHooks(Tracker(model))

    def run(user: str) -> None:
        said = scripted([Turn((Asked("c1", "search", {"q": "a"}),), 1, 1)])
        with ours.session(user, user=user):
            crew_of(agent_of(said, [search])).kickoff()

    return run


def spans(model: AgentModel) -> Run:
    """The span processor of OpenTelemetry, whose provider is not shut down."""
    from opentelemetry.sdk.trace import TracerProvider

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentModelSpanProcessor(model, domain="agents"))
    tracer = provider.get_tracer("agents")
    call = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.agent.name": "finder"}

    def run(user: str) -> None:
        around = {"gen_ai.conversation.id": user, "user.id": user}
        with tracer.start_as_current_span("invoke_agent", attributes=around):
            tracer.start_span("execute_tool search", attributes=call).end()

    return run


RECORDERS: dict[str, Callable[[AgentModel], Run]] = {
    "Plain Python": plain,
    "model.tool": function,
    "LangChain": langchain,
    "Strands": strands,
    "OpenAI Agents": openai_agents,
    "Pydantic AI": pydantic_ai,
    "Google ADK": google_adk,
    "Claude Agent SDK": claude_agent_sdk,
    "CrewAI": crewai,
    "OpenTelemetry": spans,
}


def main(recorder: str, end: str) -> None:
    """Run and end."""
    run = RECORDERS[recorder](AgentModel.from_settings())
    forks_first = recorder == "CrewAI"  # a child of a process that has run a crew waits for threads that it lacks
    if not forks_first:
        run("before")
    if os.fork() == 0:
        gc.freeze()  # at the end to look through all that the parent loaded takes longer than the rest; the parent does
        run("child")
        sys.exit(0)
    assert os.wait()[1] == 0  # the child ended well
    if forks_first:
        run("before")
    run("after")
    if end == "exit":
        sys.exit(3)
    if end == "exception":
        raise ValueError("the end")


if __name__ == "__main__":
    main(*sys.argv[1:])
