"""A trace processor and run hooks in one that record the tool calls of agents of the OpenAI Agents SDK.

    with Tracker(model, domain="cafes") as tracker:
        recorder = AgentModelRecorder(tracker)
        add_trace_processor(recorder)
        config = RunConfig(group_id="t1", trace_metadata={"user_id": "kim"}, tool_error_formatter=recorder.tool_error)
        Runner.run_sync(agent, "find a café", hooks=recorder, run_config=config)

Spans show how a call ended, but not its id; hooks show its id, but not how it ended. Inside a hook the current span is
the one of the call, so both are joined exactly. Each also works without the other, and then records less.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec

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
from typing_extensions import override

from agentmodel._values.text import error_text
from agentmodel.dynamo.models import Status
from agentmodel.integrations._failures import count_failures
from agentmodel.integrations._tracking.messages import last_request
from agentmodel.integrations._tracking.tracker import Tracker, check_tracker
from agentmodel.integrations.openai_agents._messages import (
    TOKENS,
    Node,
    RequestedCall,
    Task,
    add_tokens,
    arguments_of,
    failed,
    failure_of,
    last_turn,
    model_of,
    name_of,
    plain,
    time_of,
    tool_of,
)
from agentmodel.integrations.openai_agents._runs import Runs

__all__ = ["AgentModelRecorder"]

P = ParamSpec("P")

_REJECTED = "was manually rejected by user"  # in the error of a call's span
_NOT_FOUND = "Tool not found"  # the error of a turn's span


def _listens(
    method: Callable[Concatenate[AgentModelRecorder, P], None],
) -> Callable[Concatenate[AgentModelRecorder, P], None]:
    """Make a method a listener: it holds the lock, and what fails in it is counted and logged."""

    @functools.wraps(method)
    def locked(recorder: AgentModelRecorder, /, *args: P.args, **kwargs: P.kwargs) -> None:
        with recorder.runs.lock:
            method(recorder, *args, **kwargs)

    return count_failures(locked)


class AgentModelRecorder(RunHooks[Any], TracingProcessor):
    """Records the tool calls of agents; it is both a trace processor and run hooks.

    As a trace processor (``add_trace_processor``) it sees all runs of the process, as hooks (``hooks=``) the runs that
    it is passed to. The user, the session, the request, its category and the plan's ``suggestion_id`` are read from the
    run's context (a mapping or an object with ``user_id``, ``session_id`` …) or else from the trace's metadata; a
    ``group_id`` is a session, too.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        agent: Name of the agent for calls outside of any agent.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded.
        runs: State of the runs that have not ended.
    """

    def __init__(self, tracker: Tracker, *, agent: str = "agent") -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self.runs = Runs(tracker, agent)

    def tool_error(self, failure: ToolErrorFormatterArgs[Any]) -> None:
        """Record which error a tool raised, which the SDK shows nowhere else: pass it as ``tool_error_formatter``.

        The message for the model stays the SDK's. Your own formatter can call this method. The SDK does not call it for
        tools that have their own ``failure_error_function``, which can call `failed`.
        """
        if failure.kind == "tool_exception" and failure.error is not None:
            self._failed(failure.run_context, failure.call_id, failure.error)

    def failed(self, context: RunContextWrapper[Any], error: Exception) -> None:
        """Record which error a tool raised; call it in a tool's own ``failure_error_function``, with its arguments."""
        if isinstance(context, ToolContext):
            self._failed(context, context.tool_call_id, error)

    @_listens
    def _failed(self, context: RunContextWrapper[Any], call_id: str, error: Exception) -> None:
        task, node = self.runs.locate(context)
        if node is None:
            task.errors[call_id] = name_of(error)
        else:
            node.failure = name_of(error)

    # Hooks

    def _hook_context(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        """Return the run and the span that a hook is called in, and note that the run has hooks."""
        task, node = self.runs.locate(context)
        task.hooked = True
        return task, node

    @override
    async def on_agent_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        """Record what the user asked for, and of which revision the agent is."""
        self._agent_started(context, agent)

    @_listens
    def _agent_started(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        self.tracker.revisions.see(
            agent.name,
            prompt=agent.instructions,
            model=getattr(agent.model, "model", agent.model),
            tools=lambda: [
                [one.name, getattr(one, "description", None), getattr(one, "params_json_schema", None)]
                for one in agent.tools
            ],
        )
        task, _ = self._hook_context(context)
        request = last_request(context.turn_input)
        if request is not None:
            (task.outermost or task).metadata.setdefault("request", request)

    @override
    async def on_agent_end(self, context: AgentHookContext[Any], agent: Agent[Any], output: Any) -> None:
        """End a run that has no spans."""
        self._agent_ended(context)

    @_listens
    def _agent_ended(self, context: AgentHookContext[Any]) -> None:
        task, node = self._hook_context(context)
        if node is None and not task.begun:  # else the agent is used as a tool
            self.runs.forget(context)
            self.runs.run(task).finish()

    @override
    async def on_llm_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], system_prompt: str | None, input_items: list[Any]
    ) -> None:
        """Record the calls of the last turn that were not made, which the model's input shows."""
        self._report_not_made(context, agent, input_items)

    @_listens
    def _report_not_made(self, context: RunContextWrapper[Any], agent: Agent[Any], input_items: list[Any]) -> None:
        task, _ = self._hook_context(context)
        task.asks += 1
        task.agent = agent.name
        asked = self.runs.requested(self.runs.run(task))
        calls, outputs = last_turn(input_items)
        for call_id, output in outputs.items():
            call, given = asked.get(call_id), calls.get(call_id)
            if call is None and task.asks == 1 and given is not None:
                # Another process requested it, and a person decided.
                call = RequestedCall(agent.name, tool_of(given), str(given.get("arguments") or ""), known=True)
                if context.is_tool_approved(call.tool, call_id) is not False:
                    call = None
            if call is not None:
                missing = not call.known or output == f"Tool '{call.tool}' not found."
                self.runs.not_made(
                    task, call_id, call, call.status or ("unknown_tool" if missing else "rejected"), output
                )

    @override
    async def on_llm_end(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        """Report which calls the model requests, in its order, and their tokens; a handoff is not a call."""
        self._turn(context, agent, response)

    @_listens
    def _turn(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        task, _ = self._hook_context(context)
        handoffs = {
            each.tool_name if isinstance(each, Handoff) else Handoff.default_tool_name(each) for each in agent.handoffs
        }
        tools = {tool.name for tool in agent.tools}
        asked = {
            item.call_id: RequestedCall(
                agent.name, tool_of(item.model_dump()), item.arguments, bool(agent.mcp_servers) or item.name in tools
            )
            for item in response.output
            if isinstance(item, ResponseFunctionToolCall) and item.name not in handoffs
        }
        if asked:
            run = self.runs.run(task)
            self.runs.requested(run).update(asked)
            usage = response.usage
            read, made = usage.input_tokens_details, usage.output_tokens_details
            run.turn(
                "model",
                calls=list(asked),
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                scope=agent.name,
                cached_tokens=read.cached_tokens,
                cache_write_tokens=getattr(read, "cache_write_tokens", None),  # of newer versions
                reasoning_tokens=made.reasoning_tokens,
                # a run's configuration may set another model than its agent has; the span tells which it was
                model_name=task.model_name or (agent.model if isinstance(agent.model, str) else None),
            )

    @override
    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        """Report the start of a call."""
        self._start(context, agent, tool)

    @_listens
    def _start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        self._begin(context, agent, tool)

    def _begin(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, at: datetime | None = None
    ) -> None:
        task, node = self._hook_context(context)
        run = self.runs.run(task)
        waiting = self.runs.requested(run)
        name, arguments = tool.name, ""
        if isinstance(context, ToolContext):
            name, arguments, call_id = context.qualified_tool_name, context.tool_arguments, context.tool_call_id
        else:  # a shell, a computer: the SDK does not say which call it is of
            call_id = next((one for one, asked in waiting.items() if asked.tool == name), "")
            arguments = waiting[call_id].arguments if call_id else ""
            call_id = call_id or (node.span.span_id if node else "")
        waiting.pop(call_id, None)
        if node is None and not isinstance(context, ToolContext):
            return  # its end would not be seen
        attempt = run.start(
            call_id, agent=agent.name, tool=name, arguments=arguments_of(arguments), at=at, scope=agent.name
        )
        if node is None:
            task.begun[call_id] = attempt
        else:
            node.call = call_id, attempt

    @override
    async def on_tool_end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        """Report the end of a call; its span, or `tool_error`, says whether it failed."""
        self._end(context, agent, tool, result)

    @_listens
    def _end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        task, node = self._hook_context(context)
        failure = failure_of(tool, result)
        if node is not None and isinstance(node.span.span_data, FunctionSpanData):
            if node.call is None:  # it continues after an agent inside it waited for a person
                self._begin(context, agent, tool, time_of(node.span.started_at))
            node.result, node.failure = (datetime.now(UTC), result), node.failure or failure
        elif isinstance(context, ToolContext):
            call_id = context.tool_call_id
            if call_id not in task.begun:
                self._begin(context, agent, tool)
            attempt = task.begun.pop(call_id)
            failure = task.errors.pop(call_id, failure)
            self.runs.run(task).end(
                call_id, attempt, status="ok" if failure is None else "error", result=plain(result), error_type=failure
            )

    # Spans

    @override
    def on_trace_start(self, trace: Trace) -> None:
        """Do nothing: a resumed run has no such start."""

    @override
    def on_trace_end(self, trace: Trace) -> None:
        """Do nothing: the runs of the trace have ended."""

    @override
    @_listens
    def on_span_start(self, span: Span[Any]) -> None:
        """Register a span under the one it is part of."""
        self.runs.open(span)

    @override
    @_listens
    def on_span_end(self, span: Span[Any]) -> None:
        """Report how a call, a turn or a run ended."""
        node = self.runs.close(span)
        if node is None:
            return
        data = span.span_data
        if isinstance(data, FunctionSpanData):
            if not node.within:  # a span that a tool opens itself is part of its call
                self._call_ended(node)
        elif isinstance(data, (GenerationSpanData, ResponseSpanData)):
            node.task.model_name = model_of(data)
            if node.turn is not None:
                add_tokens(node.turn, data.usage)
        elif isinstance(data, TurnSpanData):
            self._turn_ended(node)
        whole = node.owner and node.task.outermost is None
        if whole and (isinstance(data, TaskSpanData) or node.task.run is not None):
            self.runs.run(node.task).finish(succeeded=False if isinstance(node.error, Exception) else None)

    @override
    def shutdown(self) -> None:
        """Do nothing: the application closes the tracker."""

    @override
    def force_flush(self) -> None:
        """Do nothing: `Tracker.flush` waits until everything is written."""

    def _call_ended(self, node: Node) -> None:
        if node.settled:
            return
        if node.call is not None:
            self._finish(node, *node.call)
        elif node.task.hooked:
            self._report_refused(node)
        elif node.turn is None:
            self._report_from_span(node)

    def _finish(self, node: Node, call_id: str, attempt: int) -> None:
        """Report the end of a call whose start a hook reported."""
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

    def _report_refused(self, node: Node) -> None:
        """Report a call whose start no hook reported, if it was refused; it may also wait for a person."""
        data, error = node.span.span_data, node.span.error
        refused = isinstance(node.error, Exception) or error is not None or data.output is not None
        if not refused:
            return
        for call_id, asked in self.runs.requested(self.runs.run(node.task)).items():
            if asked.tool == data.name and data.input in (None, asked.arguments):
                message = data.output
                if message is None and node.error is not None:
                    message = error_text(node.error)
                self.runs.not_made(node.task, call_id, asked, "rejected", message)
                return
        if error is None or _REJECTED not in str(error.get("data")):  # else the next turn's input says it
            self._report_from_span(node, "rejected")

    def _turn_ended(self, node: Node) -> None:
        """Report what the spans of a turn show, now that its tokens are known."""
        turn, data = node.turn, node.span.span_data
        error = node.span.error
        missing = (error.get("data") or {}).get("tool_name") if error and error["message"] == _NOT_FOUND else None
        task = node.task
        if turn is None or task.hooked:
            for call_id, asked in list(self.runs.requested(self.runs.run(task)).items()) if missing is not None else ():
                if asked.tool == missing:
                    self.runs.not_made(task, call_id, asked, "unknown_tool", f"Tool '{missing}' not found.")
            return
        if turn.input_tokens is None and not turn.inner:
            add_tokens(turn, data.usage)
        calls = [call.span.span_id for call in turn.calls]
        if missing is not None:
            calls.append(node.span.span_id)
        if calls:
            usage = {name: getattr(turn, name) for name in TOKENS}
            self.runs.run(task).turn("model", calls=calls, **usage, model_name=task.model_name)
        for call in turn.calls:
            self._report_from_span(call)
        if missing is not None:
            self.runs.run(task).call(node.span.span_id, agent=node.agent, tool=str(missing), status="unknown_tool")

    def _report_from_span(self, node: Node, known: Status | None = None) -> None:
        """Report a call that only a span shows."""
        data, error = node.span.span_data, node.span.error
        if node.settled:
            return
        if data.input is None:
            return  # without its data, a span does not show whether the call was made or waits
        failure = node.failure or failed(node)
        status: Status = "ok"
        if node.error is not None and not isinstance(node.error, Exception):
            status = "interrupted"
        elif error is not None and _REJECTED in str(error.get("data")):
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
