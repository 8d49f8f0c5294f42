"""A trace processor and run hooks in one, which record the tool calls of agents of the OpenAI Agents SDK.

    with Tracker(model, domain="cafes") as tracker:
        recorder = AgentModelRecorder(tracker)
        add_trace_processor(recorder)
        told = RunConfig(group_id="t1", trace_metadata={"user_id": "kim"}, tool_error_formatter=recorder.tool_error)
        Runner.run_sync(agent, "find a café", hooks=recorder, run_config=told)

Spans show how a call ended and no id of it; hooks show its id and not how it ended. Inside a hook the current span is
the one of the call, so both are joined exactly. Each works without the other, and then shows less.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec

from typing_extensions import override

from agentmodel.dynamo.models import Status
from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._calls import Tracker, check_tracker

try:
    from agents import Agent, Handoff, RunHooks
    from agents.items import ModelResponse
    from agents.run_config import ToolErrorFormatterArgs
    from agents.run_context import AgentHookContext, RunContextWrapper
    from agents.tool import Tool
    from agents.tool_context import ToolContext
    from agents.tracing import (
        FunctionSpanData,
        GenerationSpanData,
        ResponseSpanData,
        Span,
        TaskSpanData,
        Trace,
        TracingProcessor,
        TurnSpanData,
    )
    from openai.types.responses import ResponseFunctionToolCall

    from agentmodel.integrations._openai import (
        Asked,
        Node,
        Task,
        arguments_of,
        count,
        failed,
        failure_of,
        last_turn,
        name_of,
        plain,
        request_of,
        time_of,
        tool_of,
    )
    from agentmodel.integrations._openai_guard import AgentModelGuard
    from agentmodel.integrations._openai_runs import Runs
except ModuleNotFoundError as error:
    raise MissingExtraError("openai-agents", "the recorder of the OpenAI Agents SDK", error.name) from error

__all__ = ["AgentModelGuard", "AgentModelRecorder", "Tracker"]

P = ParamSpec("P")

_REJECTED = "was manually rejected by user"  # in the error of a call's span
_NOT_FOUND = "Tool not found"  # the error of a turn's span


def _guarded(
    method: Callable[Concatenate[AgentModelRecorder, P], None],
) -> Callable[Concatenate[AgentModelRecorder, P], None]:
    """A listener that counts and logs what fails in it; what a hook raises would end the agent's run."""

    @functools.wraps(method)
    def guarded(recorder: AgentModelRecorder, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with recorder.runs.lock:
                method(recorder, *args, **kwargs)
        except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
            recorder.tracker.failed(method.__name__)

    return guarded


class AgentModelRecorder(RunHooks[Any], TracingProcessor):
    """Records the tool calls of agents; it is both a trace processor and run hooks.

    As a trace processor (``add_trace_processor``) it sees all runs of the process, as hooks (``hooks=``) those that are
    given it. The user, the session, the request, its category and the plan's ``suggestion_id`` are read from the run's
    context (a mapping or an object with ``user_id``, ``session_id`` …) and, where that does not have them, from the
    trace's metadata; ``group_id`` is a session too.

    Args:
        tracker: What writes; its ``domain`` is the agents' domain.
        agent: Name of the agent of calls outside of any.

    Attributes:
        tracker: The same; its ``errors`` counts what was not recorded.
        runs: What it keeps of runs that go on.
    """

    def __init__(self, tracker: Tracker, *, agent: str = "agent") -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self.runs = Runs(tracker, agent)

    def tool_error(self, told: ToolErrorFormatterArgs[Any]) -> None:
        """Learn which error a tool raised, which the SDK shows nowhere else: give it as ``tool_error_formatter``.

        The message for the model stays the SDK's. A formatter of your own may call it. It is not asked about tools that
        have a ``failure_error_function`` of their own, which may call `failed`.
        """
        if told.kind == "tool_exception" and told.error is not None:
            self._failed(told.run_context, told.call_id, told.error)

    def failed(self, context: RunContextWrapper[Any], error: Exception) -> None:
        """Learn which error a tool raised; for a tool's own ``failure_error_function``, with what that is given."""
        if isinstance(context, ToolContext):
            self._failed(context, context.tool_call_id, error)

    @_guarded
    def _failed(self, context: RunContextWrapper[Any], call_id: str, error: Exception) -> None:
        task, node = self.runs.place(context)
        if node is None:
            task.errors[call_id] = name_of(error)
        else:
            node.failure = name_of(error)

    # Hooks

    def _heard(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        """Where a hook is called; the run has hooks, then."""
        task, node = self.runs.place(context)
        task.hooked = True
        return task, node

    @override
    async def on_agent_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        """Learn what the user asked for."""
        self._agent_started(context)

    @_guarded
    def _agent_started(self, context: AgentHookContext[Any]) -> None:
        task, _ = self._heard(context)
        request = request_of(context.turn_input)
        if request is not None:
            (task.outermost or task).told.setdefault("request", request)

    @override
    async def on_agent_end(self, context: AgentHookContext[Any], agent: Agent[Any], output: Any) -> None:
        """End a run that has no spans."""
        self._agent_ended(context)

    @_guarded
    def _agent_ended(self, context: AgentHookContext[Any]) -> None:
        task, node = self._heard(context)
        if node is None and not task.begun:  # else an agent ended that is used as a tool
            self.runs.forget(context)
            self.runs.run(task).finish()

    @override
    async def on_llm_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], system_prompt: str | None, input_items: list[Any]
    ) -> None:
        """See what became of the calls that were not made: the model is told so."""
        self._ask(context, agent, input_items)

    @_guarded
    def _ask(self, context: RunContextWrapper[Any], agent: Agent[Any], input_items: list[Any]) -> None:
        task, _ = self._heard(context)
        task.asks += 1
        task.agent = agent.name
        asked = self.runs.asked(self.runs.run(task))
        calls, outputs = last_turn(input_items)
        for call_id, output in outputs.items():
            call, given = asked.get(call_id), calls.get(call_id)
            if call is None and task.asks == 1 and given is not None:
                # Another process asked for it, and a person decided.
                call = Asked(agent.name, tool_of(given), str(given.get("arguments") or ""), known=True)
                if context.is_tool_approved(call.tool, call_id) is not False:
                    call = None
            if call is not None:
                missing = not call.known or output == f"Tool '{call.tool}' not found."
                self.runs.not_made(
                    task, call_id, call, call.fate or ("unknown_tool" if missing else "rejected"), output
                )

    @override
    async def on_llm_end(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        """Take the calls that the model asks for, in its order, and what they cost; a handoff is none."""
        self._turn(context, agent, response)

    @_guarded
    def _turn(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        task, _ = self._heard(context)
        handoffs = {
            each.tool_name if isinstance(each, Handoff) else Handoff.default_tool_name(each) for each in agent.handoffs
        }
        tools = {tool.name for tool in agent.tools}
        asked = {
            item.call_id: Asked(
                agent.name, tool_of(item.model_dump()), item.arguments, bool(agent.mcp_servers) or item.name in tools
            )
            for item in response.output
            if isinstance(item, ResponseFunctionToolCall) and item.name not in handoffs
        }
        if asked:
            run = self.runs.run(task)
            self.runs.asked(run).update(asked)
            usage = response.usage
            run.turn("model", calls=list(asked), input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)

    @override
    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        """A call begins."""
        self._start(context, agent, tool)

    @_guarded
    def _start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        self._begin(context, agent, tool)

    def _begin(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, at: datetime | None = None
    ) -> None:
        task, node = self._heard(context)
        run = self.runs.run(task)
        waiting = self.runs.asked(run)
        name, arguments = tool.name, ""
        if isinstance(context, ToolContext):
            name, arguments, call_id = context.qualified_tool_name, context.tool_arguments, context.tool_call_id
        else:  # a shell, a computer: the SDK does not say which call it is
            call_id = next((one for one, asked in waiting.items() if asked.tool == name), "")
            arguments = waiting[call_id].arguments if call_id else ""
            call_id = call_id or (node.span.span_id if node else "")
        waiting.pop(call_id, None)
        if node is None and not isinstance(context, ToolContext):
            return  # nothing would tell its end
        attempt = run.start(call_id, agent=agent.name, tool=name, arguments=arguments_of(arguments), at=at)
        if node is None:
            task.begun[call_id] = attempt
        else:
            node.call = call_id, attempt

    @override
    async def on_tool_end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        """A call ended, well or not: that is told by its span, or by `tool_error`."""
        self._end(context, agent, tool, result)

    @_guarded
    def _end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        task, node = self._heard(context)
        failure = failure_of(tool, result)
        if node is not None and isinstance(node.span.span_data, FunctionSpanData):
            if node.call is None:  # it goes on after an agent inside it waited for a person
                self._begin(context, agent, tool, time_of(node.span.started_at))
            node.result, node.failure = (datetime.now(UTC), result), node.failure or failure
        elif isinstance(context, ToolContext):
            call_id = context.tool_call_id
            if call_id not in task.begun:
                self._begin(context, agent, tool)
            attempt = task.begun.pop(call_id)
            failure = task.errors.pop(call_id, failure)
            self.runs.run(task).end(
                call_id,
                attempt,
                status="ok" if failure is None else "error",
                result=plain(result),
                error_type=failure,
            )

    # Spans

    @override
    def on_trace_start(self, trace: Trace) -> None:
        """Nothing: a resumed run has no such start."""

    @override
    def on_trace_end(self, trace: Trace) -> None:
        """Nothing: its runs have ended."""

    @override
    @_guarded
    def on_span_start(self, span: Span[Any]) -> None:
        """Know what belongs to what."""
        self.runs.open(span)

    @override
    @_guarded
    def on_span_end(self, span: Span[Any]) -> None:
        """See how a call, a turn or a run ended."""
        node = self.runs.close(span)
        if node is None:
            return
        data = span.span_data
        if isinstance(data, FunctionSpanData):
            if not node.within:  # a span that a tool makes itself is part of its call
                self._called(node)
        elif isinstance(data, (GenerationSpanData, ResponseSpanData)) and node.turn is not None:
            count(node.turn, data.usage)
        elif isinstance(data, TurnSpanData):
            self._turned(node)
        whole = node.owner and node.task.outermost is None
        if whole and (isinstance(data, TaskSpanData) or node.task.run is not None):
            self.runs.run(node.task).finish(succeeded=False if isinstance(node.error, Exception) else None)

    @override
    def shutdown(self) -> None:
        """Nothing: the tracker is closed by who made it."""

    @override
    def force_flush(self) -> None:
        """Nothing: `Tracker.flush` waits until all is written."""

    def _called(self, node: Node) -> None:
        if node.settled:
            return
        if node.call is not None:
            self._finish(node, *node.call)
        elif node.task.hooked:
            self._stopped(node)
        elif node.turn is None:
            self._shown(node)

    def _finish(self, node: Node, call_id: str, attempt: int) -> None:
        """A call that hooks saw begin."""
        failure = node.failure or failed(node)
        at, result = node.result or (datetime.now(UTC), node.span.span_data.output)
        status: Status = "ok"
        if node.error is not None and not isinstance(node.error, Exception):
            status = "interrupted"  # it was cancelled
        elif failure is not None:
            status = "error"
        elif node.result is None:
            status = "interrupted"  # an agent inside it waits for a person
        self.runs.run(node.task).end(
            call_id,
            attempt,
            status=status,
            result=plain(result),
            error_type=failure if status == "error" else None,
            at=at,
        )

    def _stopped(self, node: Node) -> None:
        """A call that hooks did not see begin: it was refused, or waits for a person."""
        data, told = node.span.span_data, node.span.error
        refused = isinstance(node.error, Exception) or told is not None or data.output is not None
        if not refused:
            return
        for call_id, asked in self.runs.asked(self.runs.run(node.task)).items():
            if asked.tool == data.name and data.input in (None, asked.arguments):
                message = data.output if data.output is not None else str(node.error or "") or None
                self.runs.not_made(node.task, call_id, asked, "rejected", message)
                return
        if told is None or _REJECTED not in str(told.get("data")):  # else the model's next turn tells
            self._shown(node, "rejected")

    def _turned(self, node: Node) -> None:
        """A turn ended: what its spans show is told now, when its tokens are known."""
        turn, data = node.turn, node.span.span_data
        told = node.span.error
        missing = (told.get("data") or {}).get("tool_name") if told and told["message"] == _NOT_FOUND else None
        task = node.task
        if turn is None or task.hooked:
            for call_id, asked in list(self.runs.asked(self.runs.run(task)).items()) if missing is not None else ():
                if asked.tool == missing:
                    self.runs.not_made(task, call_id, asked, "unknown_tool", f"Tool '{missing}' not found.")
            return
        if turn.read is None and not turn.inner:
            count(turn, data.usage)
        calls = [call.span.span_id for call in turn.calls]
        if missing is not None:
            calls.append(node.span.span_id)
        if calls:
            self.runs.run(task).turn("model", calls=calls, input_tokens=turn.read, output_tokens=turn.made)
        for call in turn.calls:
            self._shown(call)
        if missing is not None:
            self.runs.run(task).call(node.span.span_id, agent=node.agent, tool=str(missing), status="unknown_tool")

    def _shown(self, node: Node, known: Status | None = None) -> None:
        """A call of which there is a span only."""
        data, told = node.span.span_data, node.span.error
        if node.settled:
            return
        if data.input is None:
            return  # traces without data do not tell a call that was made from one that waits, only failures
        failure = node.failure or failed(node)
        status: Status = "ok"
        if node.error is not None and not isinstance(node.error, Exception):
            status = "interrupted"
        elif told is not None and _REJECTED in str(told.get("data")):
            status = "rejected"
        elif failure is not None:
            status = "error"
        elif data.output is None:
            status = "interrupted"  # it waits for a person
        status = known or status
        self.runs.run(node.task).call(
            node.span.span_id,
            agent=node.agent,
            tool=data.name,
            arguments=arguments_of(data.input),
            status=status,
            result=plain(data.output),
            error_type=failure if status == "error" else None,
            began=time_of(node.span.started_at),
            at=time_of(node.span.ended_at),
        )
