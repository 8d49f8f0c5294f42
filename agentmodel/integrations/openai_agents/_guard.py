"""A guard's decisions, carried out by the OpenAI Agents SDK's own means: approvals, guardrails, a filter of the input.

A question about a call is kept in the history, so a run that waits for a person can go on in another process.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from agents import (
    FunctionTool,
    RunState,
    Tool,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    ToolOutputGuardrail,
    ToolOutputGuardrailData,
)
from agents.items import ToolApprovalItem
from agents.run_config import CallModelData, ModelInputData
from agents.run_context import RunContextWrapper
from agents.tool_context import ToolContext

from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.messages import last_request
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.integrations.openai_agents._messages import (
    Node,
    RequestedCall,
    Task,
    arguments_of,
    failure_of,
    last_turn,
    plain,
)
from agentmodel.integrations.openai_agents._runs import Runs
from agentmodel.suggest.guard import Go, Guard, Resolution, as_content
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import canonical

__all__ = ["AgentModelGuard"]


class _Recorder(Protocol):
    """What the guard needs of a recorder."""

    tracker: Tracker
    runs: Runs


class AgentModelGuard:
    """Carries out a guard's decisions about the calls of agents that a recorder listens to.

    The recorder must be both trace processor and hooks of their runs.

    Args:
        recorder: Records the calls.
        guard: Decides about each call; made by `AgentModel.guard`.
    """

    def __init__(self, recorder: _Recorder, guard: Guard) -> None:
        self._tracker = recorder.tracker
        self._enforcer = RunEnforcer(guard, recorder.tracker)
        self._runs = recorder.runs
        self._names: set[str] = set()
        self._granted: weakref.WeakKeyDictionary[TrackedRun, set[str]] = weakref.WeakKeyDictionary()
        self._plans: weakref.WeakKeyDictionary[TrackedRun, Plan] = weakref.WeakKeyDictionary()

    def tools(self, *tools: FunctionTool) -> list[Tool]:
        """Return copies of tools whose calls are guarded: by approvals, and by guardrails before and after each call.

        Raises:
            ValidationError: A tool has its own rule for approvals.
        """
        return [self._guarded(tool) for tool in tools]

    def _guarded(self, tool: FunctionTool) -> FunctionTool:
        # Where nobody may be asked, the SDK should not stop for arguments that it cannot check.
        asks = self._enforcer.guard.may_ask(tool.name)
        if asks and tool.needs_approval is not False:
            rule = f"must be unset for {tool.name}: the guard's `review` rule decides which calls need approval"
            raise ValidationError("needs_approval", tool.needs_approval, rule)
        if asks:
            self._names.add(tool.name)

        async def needs_approval(context: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
            return await self._needs_approval(context, tool.name, arguments, call_id)

        async def keep(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
            if failure_of(tool, data.output) is None:
                await self._keep(data)
            return ToolGuardrailFunctionOutput.allow()

        before: ToolInputGuardrail[Any] = ToolInputGuardrail(guardrail_function=self._check, name="agentmodel")
        after: ToolOutputGuardrail[Any] = ToolOutputGuardrail(guardrail_function=keep, name="agentmodel")
        return replace(
            tool,
            needs_approval=needs_approval if asks else tool.needs_approval,
            tool_input_guardrails=[*(tool.tool_input_guardrails or ()), before],
            tool_output_guardrails=[*(tool.tool_output_guardrails or ()), after],
        )

    # Plan

    async def plan(self, data: CallModelData[Any]) -> ModelInputData:
        """Put the plan after the instructions, for this call of the model: the ``call_model_input_filter`` of a run."""
        given = data.model_data
        with FailuresCounted(self._tracker, "plan"):
            with self._runs.lock:
                node = self._runs.current()
            text = prompt_of(None if node is None else await self._plan(node.task, given.input))
            if text is not None:
                return ModelInputData(given.input, f"{given.instructions}\n\n{text}" if given.instructions else text)
        return given

    async def _plan(self, task: Task, items: list[Any]) -> Plan | None:
        """Plan for a new request; one that goes on after an approval keeps its plan, if this process made it."""
        if task.outermost is not None:
            return None  # an agent used as a tool does a part of what the plan is for
        run = self._run(task)
        if not task.planned:
            task.planned = True
            if not last_turn(items)[1]:
                request = task.metadata.get("request") or last_request(items)
                plan = await asyncio.to_thread(self._enforcer.plan, run, request=request, category=run.category)
                self._plans.pop(run, None)
                if plan is not None:
                    self._plans[run] = plan
                    run.follow(plan.suggestion_id)
        return self._plans.get(run)

    # Calls

    async def _needs_approval(self, context: RunContextWrapper[Any], tool: str, arguments: Any, call_id: str) -> bool:
        """Return whether the run must stop for a person."""
        with FailuresCounted(self._tracker, f"the decision about a call of {tool}"):
            task, node = self._located(context)
            agent = task.agent if node is None else node.agent
            resolution = await self._resolved(self._run(task), agent, tool, arguments=arguments, call_id=call_id)
            task.resolutions[call_id] = resolution
            return resolution.waits
        return False  # the guardrail decides again

    async def _check(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Let a call be made, or give the model something instead of its result."""
        context, agent = data.context, data.agent.name
        tool, arguments = context.tool_name, arguments_of(context.tool_arguments)
        resolution = self._enforcer.undecided(tool, arguments)
        with FailuresCounted(self._tracker, f"the decision about a call of {tool}"):
            resolution = await self._checked(context, agent, arguments)
        instead = self._instead(resolution)
        if instead is None:
            return ToolGuardrailFunctionOutput.allow()
        with FailuresCounted(self._tracker, f"a call of {tool} that is not made"), self._runs.lock:
            task, node = self._runs.locate(context)
            requested = RequestedCall(agent, context.qualified_tool_name, context.tool_arguments, known=True)
            self._runs.not_made(task, context.tool_call_id, requested, *instead)
            if node is not None:
                node.settled = True
        return ToolGuardrailFunctionOutput.reject_content(instead[1])

    async def _checked(self, context: ToolContext[Any], agent: str, arguments: Any) -> Resolution:
        """Return what happens to a call that the SDK is about to make."""
        task, _ = self._located(context)
        run, call_id = self._run(task), context.tool_call_id
        resolution = task.resolutions.pop(call_id, None)
        if resolution is None:
            resolution = await self._resolved(run, agent, context.tool_name, arguments=arguments, call_id=call_id)
        elif resolution.waits:
            resolution = await asyncio.to_thread(self._enforcer.answer, resolution)
        self._grant(run, resolution)
        if resolution.permits:
            task.resolutions[call_id] = resolution
        return resolution

    async def _resolved(self, run: TrackedRun, agent: str, tool: str, *, arguments: Any, call_id: str) -> Resolution:
        granted = self._granted.get(run, set())
        key = canonical([tool, arguments])
        if key in granted:
            granted.discard(key)
            run.edited(call_id, scope=agent)
            return Resolution.of(tool, arguments, Go())
        resolve = partial(self._enforcer.resolve_call, call_id=call_id, scope=agent, plan=self._plans.get(run))
        return await asyncio.to_thread(resolve, run, agent, tool, arguments)

    def _grant(self, run: TrackedRun, resolution: Resolution) -> None:
        """Permit the call that the model is asked to make after a person edited one."""
        if resolution.call_again is not None:
            self._granted.setdefault(run, set()).add(canonical([resolution.tool, resolution.arguments]))

    @staticmethod
    def _instead(resolution: Resolution) -> tuple[Status, str] | None:
        """Return the status of a call that is not made, and what the model reads; None if the call is made.

        The SDK cannot change the arguments of a call, so the model is asked to make an edited one itself.
        """
        if resolution.call_again is not None:
            return "rejected", resolution.call_again
        return None if resolution.permits else (resolution.status or "rejected", as_content(resolution.content))

    def _located(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        with self._runs.lock:
            return self._runs.locate(context)

    def _run(self, task: Task) -> TrackedRun:
        with self._runs.lock:
            return self._runs.run(task)

    async def _keep(self, data: ToolOutputGuardrailData) -> None:
        """Cache the result of a call that succeeded, if the guard allows it."""
        with FailuresCounted(self._tracker, f"the result of a call of {data.context.tool_name} to cache"):
            task, node = self._located(data.context)
            resolution = task.resolutions.pop(data.context.tool_call_id, None)
            succeeded = node is not None and node.failure is None and node.span.error is None
            if resolution is not None and resolution.keeps and succeeded:
                await asyncio.to_thread(self._enforcer.keep, resolution, plain(data.output))

    async def answered(
        self, state: RunState[Any, Any], *, session: str, user: str | None = None
    ) -> list[ToolApprovalItem]:
        """Put what people decided about the calls of an interrupted run into its state, so that it can be resumed.

        Args:
            state: State of the run.
            session: Its session, as the run had it.
            user: Its user.

        Returns:
            The approvals that nobody has decided yet, or whose decision cannot be read, or that are not the guard's.
        """
        run = self._tracker.run(session, user=user)
        still_open = []
        for item in state.get_interruptions():
            tool, call_id, arguments = str(item.name), item.call_id, str(item.arguments or "")
            if tool not in self._names or call_id is None:
                still_open.append(item)
                continue
            resolution = await self._resolved(
                run, item.agent.name, tool, arguments=arguments_of(arguments), call_id=call_id
            )
            if resolution.waits:
                still_open.append(item)
                continue
            self._grant(run, resolution)
            instead = self._instead(resolution)
            if instead is None or resolution.review is None:
                state.approve(item)  # the guardrail decides again before the call is made
            else:
                name = item.qualified_name or tool
                requested = RequestedCall(item.agent.name, name, arguments, known=True, status=instead[0])
                with self._runs.lock:
                    self._runs.requested(run)[call_id] = requested
                state.reject(item, rejection_message=instead[1])
        return still_open
