"""What recording adds to a tool call of an agent: the same scripted run with a recorder and without, in one process.

    python benchmarks/integrations.py                       # every framework that is installed
    python benchmarks/integrations.py langchain strands --rounds 9

Each recorder takes turns with the same run without one, on embedded engines; a run is a session of its own, of many
calls of a tool that does nothing, by a model that says what it is told to. Told are the medians of the rounds: what the
agent waits (until its run returns), and that with the writing that goes on behind it (until everything is written).
A limit says what the agent should not wait longer; the program reports, it does not fail.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentmodel import AgentModel
from agentmodel.integrations._calls import Tracker

_names = itertools.count(1)

Runs = tuple[Callable[[], None], Callable[[], None], Callable[[], object]]
"""A run without the recorder, one with it, and what waits until all of it is written."""


@dataclass(frozen=True)
class Line:
    """One recorder; times are microseconds a call."""

    case: str
    bare: float
    waits: float
    written: float
    ratio: float


def measured(case: str, runs: Runs, *, rounds: int, calls: int) -> Line:
    """Let a run without and with the recorder take turns."""
    without, recorded, written = runs
    for warm in (without, recorded, written):
        warm()
    bare, waits, whole = [], [], []
    for number in range(rounds):
        for with_recorder in (False, True) if number % 2 else (True, False):
            began = time.perf_counter()
            (recorded if with_recorder else without)()
            returned = time.perf_counter() - began
            if with_recorder:
                written()
                waits.append(returned)
                whole.append(time.perf_counter() - began)
            else:
                bare.append(returned)
    each = 1e6 / calls
    added = [one - other for one, other in zip(waits, bare, strict=True)]
    added_whole = [one - other for one, other in zip(whole, bare, strict=True)]
    return Line(
        case,
        statistics.median(bare) * each,
        statistics.median(added) * each,
        statistics.median(added_whole) * each,
        statistics.median(one / other for one, other in zip(waits, bare, strict=True)),
    )


def langchain(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """An agent of LangChain."""
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, *_: Any, **__: Any) -> Any:
            return self

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    def said() -> Iterator[AIMessage]:
        for number in range(calls):
            yield AIMessage("", tool_calls=[{"name": "search", "args": {"q": "a"}, "id": f"c{number}"}])
        yield AIMessage("done")

    def run(**more: Any) -> None:
        agent = create_agent(Scripted(messages=said()), [search], name="finder", **more.pop("agent", {}))
        config: Any = {"configurable": {"thread_id": f"t{next(_names)}"}, "metadata": {"user_id": "kim"}}
        agent.invoke({"messages": [("user", "find it")]}, config | {"recursion_limit": 3 * calls + 10} | more)

    tracker = Tracker(model, domain="langchain")
    callback = {"callbacks": [AgentModelCallback(tracker)]}
    yield "LangChain, callback handler", (run, lambda: run(**callback), tracker.flush)
    asking, not_asking = (model.guard(review=rule, domain="langchain") for rule in ({"pay"}, "never"))
    for what, guard in (("records", None), ("guards and asks nobody", not_asking), ("guards and may ask", asking)):
        ours: Any = {"agent": {"middleware": [AgentModelMiddleware(tracker, guard)]}, **callback}
        yield f"LangChain, callback handler and middleware that {what}", (run, partial(run, **ours), tracker.flush)
    tracker.close()


def strands(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """An agent of Strands."""
    from strands import Agent, tool
    from strands.models.model import Model

    from agentmodel.integrations.strands import AgentModelHooks

    logging.getLogger("strands").setLevel(logging.ERROR)

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    def scripted() -> Any:
        said = iter(range(calls))

        async def stream(*_: Any, **__: Any) -> Any:
            number = next(said, None)
            use = {} if number is None else {"toolUse": {"name": "search", "toolUseId": f"c{number}"}}
            yield {"contentBlockStart": {"start": use}}
            yield {
                "contentBlockDelta": {
                    "delta": {"text": "done"} if number is None else {"toolUse": {"input": '{"q": "a"}'}}
                }
            }
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn" if number is None else "tool_use"}}

        return type("Scripted", (Model,), {**dict.fromkeys(Model.__abstractmethods__, dict), "stream": stream})()

    def run(**more: Any) -> None:
        agent = Agent(scripted(), tools=[search], name="finder", callback_handler=None, **more)
        agent("find it", invocation_state={"user_id": "kim", "session_id": f"t{next(_names)}"})

    tracker = Tracker(model, domain="strands")
    yield "Strands, hook provider", (run, lambda: run(hooks=[AgentModelHooks(tracker)]), tracker.flush)
    tracker.close()


def opentelemetry(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """A program that makes spans, with a processor that does nothing and with ours."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.agent.name": "finder"}

    def runs(processor: SpanProcessor) -> Callable[[], None]:
        provider = TracerProvider()
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("agents")

        def run() -> None:
            named = {"gen_ai.conversation.id": f"t{next(_names)}", "user.id": "kim"}
            with tracer.start_as_current_span("invoke_agent", attributes=named):
                for number in range(calls):
                    one = {"gen_ai.tool.call.id": f"c{number}", "gen_ai.tool.call.arguments": '{"q": "a"}'}
                    with tracer.start_as_current_span("execute_tool search", attributes=told | one):
                        pass

        return run

    ours = AgentModelSpanProcessor(model, domain="spans")
    yield "OpenTelemetry, span processor", (runs(SpanProcessor()), runs(ours), ours.force_flush)
    ours.shutdown()


def python(model: AgentModel, calls: int) -> Iterator[tuple[str, Runs]]:
    """Plain functions in a session: as they are, recorded, and decided by each part of the guard; all of it at once."""

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


FRAMEWORKS = {"langchain": langchain, "strands": strands, "opentelemetry": opentelemetry, "python": python}


def report(asked: list[str], *, rounds: int, calls: int) -> list[Line]:
    """Measure the recorders of what is installed."""
    lines = []
    for name in asked:
        with AgentModel.local() as model:
            try:
                for case, runs in FRAMEWORKS[name](model, calls):
                    lines.append(measured(case, runs, rounds=rounds, calls=calls))
            except ModuleNotFoundError as error:
                print(f"- {name} is left out: {error.name} is not installed")
    return lines


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("frameworks", nargs="*", choices=[*FRAMEWORKS, []], help="all when none is given")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=50, help="calls of one run")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    lines = report(given.frameworks or list(FRAMEWORKS), rounds=given.rounds, calls=given.calls)
    if given.json:
        print(json.dumps([line.__dict__ for line in lines], indent=2))
        return
    print("| recorder | a call without µs | added, the agent waits µs | added, with the writing µs | ratio |")
    print("|---|---|---|---|---|")
    for line in lines:
        print(f"| {line.case} | {line.bare:.0f} | {line.waits:.0f} | {line.written:.0f} | {line.ratio:.2f} |")


if __name__ == "__main__":
    main()
