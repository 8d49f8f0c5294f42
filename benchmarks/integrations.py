"""Measure what recording adds to an agent's tool call: the same scripted run with a recorder and without.

    python benchmarks/integrations.py                       # every framework that is installed
    python benchmarks/integrations.py langchain strands --pairs 200
    python benchmarks/integrations.py --thinks 20           # a model that takes 20 ms
    python benchmarks/integrations.py --count               # function calls in place of times

A run without a recorder and a run with it alternate, in one process, on embedded engines: such a pair is short, so that
what else the machine does meets both. Each run is a session of its own with some calls of a tool that does nothing. The
model is scripted. If it answers at once, an agent waits for all the work of the recorder, since both share one
interpreter. If it takes time, as models do, records are written meanwhile: the rest is what an agent waits for.

The report shows medians over the pairs of what a call takes more with the recorder: until the run returns (the agent
waits for that), until everything is written and learned from, and processor time of this process for both. A short run
returns before its last records are written, so the ratio of a pair is that of the times with the writing; its quartiles
say how much it varies. "Decides" means with a guard that asks nobody and answers no call itself: it plans once for a
run, and looks at health and catalogue before each call. A guard that may ask also reads the table once for each call;
how long one such read takes is printed first.

Times depend on the machine and on what else it does. Function calls (of Python and C) nearly do not: ``--count`` counts
what a recorder adds to a call of a tool, in the threads of the agent and in those that write and learn.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import statistics
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentmodel import AgentModel, Review
from agentmodel._runtime.background import _workers
from agentmodel._runtime.deadline import deadline
from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._tracking.tracker import Tracker

_names = itertools.count(1)

Runs = tuple[Callable[[], None], Callable[[], None], Callable[[], object]]
"""A run without the recorder, a run with it, and a function that waits until all records are written."""


class Model:
    """How long the scripted models take to answer, in seconds.

    Attributes:
        thinks: The time; 0 answers at once.
    """

    thinks = 0.0

    @classmethod
    def think(cls) -> None:
        """Take that time in a thread, which a model that is asked over the network lets others use."""
        if cls.thinks:
            time.sleep(cls.thinks)

    @classmethod
    async def think_async(cls) -> None:
        """Take that time in an event loop."""
        if cls.thinks:
            await asyncio.sleep(cls.thinks)


@dataclass(frozen=True)
class Turn:
    """Seconds until a run returned, seconds until everything was written, and seconds of processor time."""

    waits: float
    whole: float
    cpu: float


@dataclass(frozen=True)
class Line:
    """The result for one recorder; times are microseconds per call, medians over the pairs."""

    case: str
    pairs: int
    bare: float
    waits: float
    written: float
    cpu: float
    ratios: tuple[float, float, float]


def turn(run: Callable[[], None], written: Callable[[], object]) -> Turn:
    """Time a run and the writing of its records."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    returned = time.perf_counter()
    written()
    return Turn(returned - began, time.perf_counter() - began, time.process_time() - worked)


def measured(case: str, runs: Runs, *, pairs: int, calls: int) -> Line:
    """Time runs without and with the recorder in turn; what is added is the median of the pairs' differences."""
    without, recorded, written = runs
    for warm in (without, recorded):
        turn(warm, written)
    found = []
    for number in range(pairs):
        order = (recorded, without) if number % 2 else (without, recorded)
        turns = {run: turn(run, written) for run in order}
        found.append((turns[recorded], turns[without]))
    each = 1e6 / calls
    return Line(
        case,
        pairs,
        statistics.median(bare.waits for _, bare in found) * each,
        statistics.median(ours.waits - bare.waits for ours, bare in found) * each,
        statistics.median(ours.whole - bare.waits for ours, bare in found) * each,
        statistics.median(ours.cpu - bare.cpu for ours, bare in found) * each,
        _quartiles([ours.whole / bare.waits for ours, bare in found]),
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


class FunctionCalls:
    """Counts the function calls of this thread and of each one that begins later, also those of C."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._counts: dict[bool, int] = {}
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)

    def _seen(self, _frame: Any, event: str, _argument: Any) -> None:
        background = getattr(self._own, "background", None)
        if background is None:
            background = self._own.background = threading.current_thread().name.startswith("agentmodel-")
        if event in ("call", "c_call"):
            self._counts[background] = self._counts.get(background, 0) + 1

    def of(self, run: Callable[[], None], written: Callable[[], object]) -> tuple[int, int]:
        """Return how many the agent's threads make for a run, and how many the threads in the background."""
        self._counts.clear()
        run()
        written()
        return self._counts.get(False, 0), self._counts.get(True, 0)


def counted(case: str, runs: Runs, functions: FunctionCalls, *, calls: int) -> str:
    """Return a row of the table of function calls."""
    without, recorded, written = runs
    for warm in (without, recorded):
        functions.of(warm, written)
    for worker in _workers:
        worker._linger = 60.0  # the records of a run are one batch, however slow the counting makes the run
    bare, ours = functions.of(without, written), functions.of(recorded, written)
    columns = (bare[0], ours[0] - bare[0], ours[1] - bare[1])
    return f"| {case} | {' | '.join(f'{round(number / calls)}' for number in columns)} |"


def langchain(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with an agent of LangChain."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware

    class Idle(BaseCallbackHandler):
        """A handler that does nothing, to see what LangChain itself does for any handler."""

        run_inline = True
        on_chat_model_start = BaseCallbackHandler.on_llm_start  # type: ignore[assignment]  # does nothing

    class IdleMiddleware(AgentMiddleware[Any, Any, Any]):
        """A middleware that does nothing at the places where ours is called, likewise."""

        def before_agent(self, state: Any, runtime: Any) -> None:
            pass

        def after_agent(self, state: Any, runtime: Any) -> None:
            pass

        def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
            return handler(request)

        wrap_tool_call = wrap_model_call

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, *_: Any, **__: Any) -> Any:
            return self

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    def scripted() -> Iterator[AIMessage]:
        for number in range(calls):
            Model.think()
            yield AIMessage("", tool_calls=[{"name": "search", "args": {"q": "a"}, "id": f"c{number}"}])
        Model.think()
        yield AIMessage("done")

    def run(**more: Any) -> None:
        agent = create_agent(Scripted(messages=scripted()), [search], name="finder", **more.pop("agent", {}))
        config: Any = {"configurable": {"thread_id": f"t{next(_names)}"}, "metadata": {"user_id": "kim"}}
        agent.invoke({"messages": [("user", "find it")]}, config | {"recursion_limit": 3 * calls + 10} | more)

    tracker = Tracker(model, domain="langchain")
    idle, callback = {"callbacks": [Idle()]}, {"callbacks": [AgentModelCallback(tracker)]}
    passing = {"agent": {"middleware": [IdleMiddleware()]}}
    recording = {"agent": {"middleware": [AgentModelMiddleware(tracker)]}}
    deciding = {"agent": {"middleware": [AgentModelMiddleware(tracker, model.guard(review="never", cache=False))]}}
    yield "LangChain, a callback handler that does nothing", (run, lambda: run(**idle), tracker.flush)
    yield "LangChain, callback handler", (run, lambda: run(**callback), tracker.flush)
    yield "LangChain, a middleware that does nothing", (run, lambda: run(**passing), tracker.flush)
    yield "LangChain, middleware", (run, lambda: run(**recording), tracker.flush)
    yield "LangChain, middleware that decides", (run, lambda: run(**deciding), tracker.flush)
    asking, not_asking = (model.guard(review=rule, domain="langchain") for rule in ({"pay"}, "never"))
    for what, guard in (("records", None), ("guards and asks nobody", not_asking), ("guards and may ask", asking)):
        ours: Any = {"agent": {"middleware": [AgentModelMiddleware(tracker, guard)]}, **callback}
        yield f"LangChain, callback handler and middleware that {what}", (run, partial(run, **ours), tracker.flush)
    tracker.close()


def strands(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with an agent of Strands."""
    from strands import Agent, tool
    from strands.models.model import Model as StrandsModel

    from agentmodel.integrations.strands import AgentModelHooks

    logging.getLogger("strands").setLevel(logging.ERROR)

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    def scripted() -> Any:
        numbers = iter(range(calls))

        async def stream(*_: Any, **__: Any) -> Any:
            await Model.think_async()
            number = next(numbers, None)
            use = {} if number is None else {"toolUse": {"name": "search", "toolUseId": f"c{number}"}}
            yield {"contentBlockStart": {"start": use}}
            yield {
                "contentBlockDelta": {
                    "delta": {"text": "done"} if number is None else {"toolUse": {"input": '{"q": "a"}'}}
                }
            }
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn" if number is None else "tool_use"}}

        made: dict[str, Any] = {**dict.fromkeys(StrandsModel.__abstractmethods__, dict), "stream": stream}
        return type("Scripted", (StrandsModel,), made)()

    def run(**more: Any) -> None:
        agent = Agent(scripted(), tools=[search], name="finder", callback_handler=None, **more)
        agent("find it", invocation_state={"user_id": "kim", "session_id": f"t{next(_names)}"})

    tracker = Tracker(model, domain="strands")
    guard = model.guard(review="never", cache=False)
    yield "Strands, hook provider", (run, lambda: run(hooks=[AgentModelHooks(tracker)]), tracker.flush)
    deciding = lambda: run(hooks=[AgentModelHooks(tracker, guard=guard)])  # noqa: E731  # written like the case above
    yield "Strands, hook provider that decides", (run, deciding, tracker.flush)
    tracker.close()


def openai_agents(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with an agent of the OpenAI Agents SDK, which makes spans in all runs."""
    from agents import Agent, RunConfig, Runner, function_tool, set_trace_processors
    from agents.testing import ScriptedModel, assistant_message, function_call
    from agents.tracing import TracingProcessor

    from agentmodel.integrations.openai_agents import AgentModelRecorder

    @function_tool
    def search(q: str) -> str:
        """Search."""
        return q

    class Thinking(ScriptedModel):  # type: ignore[misc,unused-ignore]  # Any where the SDK is not installed
        async def get_response(self, *given: Any, **more: Any) -> Any:
            await Model.think_async()
            return await super().get_response(*given, **more)

    class Idle(TracingProcessor):
        """Makes the SDK create its spans."""

        def on_trace_start(self, trace: Any) -> None:
            pass

        on_trace_end = on_span_start = on_span_end = on_trace_start

        def shutdown(self) -> None:
            pass

        force_flush = shutdown

    tracker = Tracker(model, domain="openai")
    recorder = AgentModelRecorder(tracker)

    def run(processor: TracingProcessor, hooks: Any, **more: Any) -> None:
        set_trace_processors([processor])
        asked = [[function_call("search", {"q": "a"}, call_id=f"c{number}")] for number in range(calls)]
        agent = Agent(name="finder", model=Thinking([*asked, [assistant_message("done")]]), tools=[search])
        config = RunConfig(group_id=f"t{next(_names)}", trace_metadata={"user_id": "kim"}, **more)
        asyncio.run(Runner.run(agent, "find it", hooks=hooks, run_config=config, max_turns=calls + 2))

    without = lambda: run(Idle(), None)  # noqa: E731  # written like the next line
    recorded = lambda: run(recorder, recorder, tool_error_formatter=recorder.tool_error)  # noqa: E731  # likewise
    yield "OpenAI Agents, hooks and spans", (without, recorded, tracker.flush)
    set_trace_processors([])
    tracker.close()


def pydantic_ai(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with an agent of Pydantic AI."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import UsageLimits

    from agentmodel.integrations.pydantic_ai import AgentModelCapability

    def search(q: str) -> str:
        """Search."""
        return q

    def run(*capabilities: Any) -> None:
        numbers = iter(range(calls))

        async def said(*_: Any) -> ModelResponse:
            await Model.think_async()
            number = next(numbers, None)
            part = TextPart("done") if number is None else ToolCallPart("search", {"q": "a"}, f"c{number}")
            return ModelResponse([part])

        agent = Agent(FunctionModel(said), tools=[search], name="finder", capabilities=capabilities)
        about = {"user_id": "kim", "session_id": f"t{next(_names)}"}
        agent.run_sync("find it", metadata=about, usage_limits=UsageLimits(request_limit=None))

    tracker = Tracker(model, domain="pydantic_ai")
    guard = model.guard(review="never", cache=False)
    yield "Pydantic AI, capability", (run, lambda: run(AgentModelCapability(tracker)), tracker.flush)
    deciding = lambda: run(AgentModelCapability(tracker, guard=guard))  # noqa: E731  # written like the case above
    yield "Pydantic AI, capability that decides", (run, deciding, tracker.flush)
    tracker.close()


def google_adk(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with an agent of Google ADK."""
    from google.adk.agents import LlmAgent, RunConfig
    from google.adk.apps import App
    from google.adk.models import BaseLlm
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import Runner
    from google.adk.sessions import InMemorySessionService
    from google.genai.types import Content, FunctionCall, GenerateContentResponseUsageMetadata, Part

    from agentmodel.integrations.google_adk import AgentModelPlugin

    def search(q: str) -> str:
        """Search."""
        return q

    class Scripted(BaseLlm):  # type: ignore[misc,unused-ignore]  # Any where ADK is not installed
        model: str = "scripted"
        asked: int = 0

        async def generate_content_async(self, *_: Any, **__: Any) -> AsyncGenerator[LlmResponse, None]:
            await Model.think_async()
            number, self.asked = self.asked, self.asked + 1
            call = FunctionCall(id=f"c{number}", name="search", args={"q": "a"})
            part = Part(text="done") if number == calls else Part(function_call=call)
            usage = GenerateContentResponseUsageMetadata(prompt_token_count=11, candidates_token_count=5)
            yield LlmResponse(content=Content(role="model", parts=[part]), usage_metadata=usage)

    async def conversation(plugins: list[Any]) -> None:
        service, session = InMemorySessionService(), f"t{next(_names)}"
        agent = LlmAgent(name="finder", model=Scripted(), tools=[search])
        runner = Runner(app=App(name="cafes", root_agent=agent, plugins=plugins), session_service=service)
        await service.create_session(app_name="cafes", user_id="kim", session_id=session)
        message, config = Content(role="user", parts=[Part(text="find it")]), RunConfig(max_llm_calls=0)
        async for _ in runner.run_async(user_id="kim", session_id=session, new_message=message, run_config=config):
            pass

    def run(*plugins: Any) -> None:
        asyncio.run(conversation(list(plugins)))

    tracker = Tracker(model, domain="google_adk")
    guard = model.guard(review="never", cache=False)
    yield "Google ADK, plugin", (run, lambda: run(AgentModelPlugin(tracker)), tracker.flush)
    deciding = lambda: run(AgentModelPlugin(tracker, guard=guard))  # noqa: E731  # written like the case above
    yield "Google ADK, plugin that decides", (run, deciding, tracker.flush)
    tracker.close()


def opentelemetry(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with a program that makes spans: a span processor that does nothing, and ours."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.agent.name": "finder"}

    def runs(processor: SpanProcessor) -> Callable[[], None]:
        provider = TracerProvider()
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("agents")

        def run() -> None:
            named = {"gen_ai.conversation.id": f"t{next(_names)}", "user.id": "kim"}
            with tracer.start_as_current_span("invoke_agent", attributes=named):
                for number in range(calls):
                    one = {"gen_ai.tool.call.id": f"c{number}", "gen_ai.tool.call.arguments": '{"q": "a"}'}
                    with tracer.start_as_current_span("execute_tool search", attributes=attributes | one):
                        pass

        return run

    ours = AgentModelSpanProcessor(model, domain="spans")
    yield "OpenTelemetry, span processor", (runs(SpanProcessor()), runs(ours), ours.force_flush)
    ours.shutdown()


def python(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases with plain functions in a session: recorded, and with one part of the guard after the other."""

    def search(q: str) -> str:
        """Search."""
        return q

    def run(function: Callable[[str], str]) -> Callable[[], None]:
        def run() -> None:
            with model.session("USRkim", "find it"):
                for number in range(calls):
                    function(f"a{number}")

        return run

    for case, options in {
        "recorded": {"block": False},
        "recorded, blocked while it fails": {},
        "and asked about by a rule that says no": {"review": lambda *_: None},
    }.items():
        recorded = model.tool(agent="finder", name=f"search{len(case)}", **options)(search)
        yield f"Plain Python, {case}", (run(search), run(recorded), model.settle)


FRAMEWORKS = {
    "langchain": langchain,
    "strands": strands,
    "openai": openai_agents,
    "pydantic_ai": pydantic_ai,
    "google_adk": google_adk,
    "opentelemetry": opentelemetry,
    "python": python,
}


def table_read(model: AgentModel, *, times: int = 200) -> float:
    """Return the microseconds of one consistent read of the table as a guard that may ask reads it, a median."""
    seconds = []
    for number in range(times):
        began = time.perf_counter()
        with deadline(2.0):
            model.table.get(Review.at("USRkim", "SESS1", f"r{number}"), consistent=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e6


def _settle(model: AgentModel, written: Callable[[], object]) -> None:
    """Wait until all records are written and learned from, so that no work is left for the next run."""
    written()
    model.settle()


def each_case(asked: list[str], calls: int) -> Iterator[tuple[str, Runs]]:
    """Yield the cases of the frameworks that are installed."""
    for name in asked:
        with AgentModel.local() as model:
            try:
                for case, (without, recorded, written) in FRAMEWORKS[name](model, calls):
                    yield case, (without, recorded, partial(_settle, model, written))
            except (ModuleNotFoundError, MissingExtraError) as error:
                print(f"- {name} is left out: {error}")


def main() -> None:
    """Measure the frameworks that are named, or all, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "frameworks", nargs="*", choices=[*FRAMEWORKS, []], help="frameworks to measure; all when none is given"
    )
    options.add_argument("--pairs", type=int, default=40, help="pairs of runs of each recorder, 2 or more")
    options.add_argument("--calls", type=int, default=50, help="tool calls in a run")
    options.add_argument("--thinks", type=float, default=0.0, help="milliseconds that the model takes for an answer")
    options.add_argument("--count", action="store_true", help="count function calls in place of times")
    options.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = options.parse_args()
    asked = given.frameworks or list(FRAMEWORKS)
    Model.thinks = given.thinks / 1000
    if given.count:
        functions = FunctionCalls()
        print("| recorder | a call without | added: by the agent's threads | in the background |")
        print("|---|---|---|---|")
        for case, runs in each_case(asked, given.calls):
            print(counted(case, runs, functions, calls=given.calls), flush=True)
        return
    cases = each_case(asked, given.calls)
    lines = (measured(case, runs, pairs=given.pairs, calls=given.calls) for case, runs in cases)
    if given.json:
        print(json.dumps([line.__dict__ for line in lines], indent=2))
        return
    with AgentModel.local() as model:
        print(f"One consistent read of the embedded table takes {table_read(model):.0f} µs.")
    print(f"Medians of {given.pairs} pairs of runs, with a model that takes {given.thinks:g} ms.\n")
    print("| recorder | a call without | added: the agent waits | with the writing | processor time | ratio |")
    print("|---|---|---|---|---|---|")
    for line in lines:
        times = " | ".join(f"{value:.0f} µs" for value in (line.bare, line.waits, line.written, line.cpu))
        first, median, third = line.ratios
        print(f"| {line.case} | {times} | {median:.2f} ({first:.2f} to {third:.2f}) |", flush=True)


if __name__ == "__main__":
    main()
