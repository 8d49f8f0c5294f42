"""What a guard decides, carried out by the OpenAI Agents SDK's own means: approvals, guardrails, a filter of the input.

What was asked about a call is kept in the history, so a run that waits for a person goes on in another process as it
would in this one.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from dataclasses import replace
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

from agentmodel.dynamo.models import Review, Status
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._calls import Run, Tracker
from agentmodel.integrations._openai import Asked, Node, Task, arguments_of, failure_of, last_turn, plain, request_of
from agentmodel.integrations._openai_runs import Runs
from agentmodel.suggest.answers import Answer, canonical
from agentmodel.suggest.guard import Ask, Blocked, Decided, Go, Guard, Known
from agentmodel.suggest.plan import Plan

__all__ = ["AgentModelGuard"]

_NOT_DECIDED = (
    "This call was not made: it could not be found out whether it may be. Go on without it, or try again later."
)
_OPEN = "This call was not made: a person has to agree to it first, and has not decided yet."


class _Recorder(Protocol):
    """What the guard needs of a recorder."""

    tracker: Tracker
    runs: Runs


class AgentModelGuard:
    """Carries out what a guard decides about the calls of agents that a recorder listens to.

    The recorder must be both trace processor and hooks of their runs.

    Args:
        recorder: What records.
        guard: What decides, from `AgentModel.guard`.
    """

    def __init__(self, recorder: _Recorder, guard: Guard) -> None:
        self._guard = guard
        self._tracker = recorder.tracker
        self._runs = recorder.runs
        self._names: set[str] = set()
        self._granted: weakref.WeakKeyDictionary[Run, set[str]] = weakref.WeakKeyDictionary()
        self._plans: weakref.WeakKeyDictionary[Run, Plan] = weakref.WeakKeyDictionary()

    def tools(self, *tools: FunctionTool) -> list[Tool]:
        """Copies of tools whose calls are decided about: by approvals, and by guardrails before and after each.

        Raises:
            ValidationError: A tool has a rule of its own for approvals.
        """
        return [self._guarded(tool) for tool in tools]

    def _guarded(self, tool: FunctionTool) -> FunctionTool:
        asks = self._guard.may_ask(tool.name)  # where it may not, the SDK should not stop for arguments it cannot check
        if asks and tool.needs_approval is not False:
            raise ValidationError("needs_approval", tool.name, "unset: the guard's `review` takes its place")
        if asks:
            self._names.add(tool.name)

        async def needs(context: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
            return await self._needs(context, tool.name, arguments, call_id)

        async def keep(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
            if failure_of(tool, data.output) is None:
                await self._keep(data)
            return ToolGuardrailFunctionOutput.allow()

        before: ToolInputGuardrail[Any] = ToolInputGuardrail(guardrail_function=self._check, name="agentmodel")
        after: ToolOutputGuardrail[Any] = ToolOutputGuardrail(guardrail_function=keep, name="agentmodel")
        return replace(
            tool,
            needs_approval=needs if asks else tool.needs_approval,
            tool_input_guardrails=[*(tool.tool_input_guardrails or ()), before],
            tool_output_guardrails=[*(tool.tool_output_guardrails or ()), after],
        )

    # Plan

    async def plan(self, data: CallModelData[Any]) -> ModelInputData:
        """Put the plan after the instructions, for this call of the model: the ``call_model_input_filter`` of a run."""
        given = data.model_data
        try:
            with self._runs.lock:
                node = self._runs.current()
            plan = None if node is None else await self._plan(node.task, given.input)
            if plan is None or (plan.source == "nothing known" and not plan.avoid):
                return given
            text = plan.as_prompt()
        except Exception:  # noqa: BLE001  # an agent works without a plan
            self._tracker.failed("plan")
            return given
        return ModelInputData(given.input, f"{given.instructions}\n\n{text}" if given.instructions else text)

    async def _plan(self, task: Task, items: list[Any]) -> Plan | None:
        """Plan for a new request; one that goes on, after an approval, keeps its plan if this process made it."""
        if task.outermost is not None:
            return None  # an agent used as a tool does a part of what the plan is for
        run = self._run(task)
        if not task.planned:
            task.planned = True
            if not last_turn(items)[1]:
                request = task.told.get("request") or request_of(items)
                plan = await asyncio.to_thread(self._guard.plan, run.user_id, request=request, category=run.category)
                self._plans.pop(run, None)
                if plan is not None:
                    self._plans[run] = plan
                    run.follow(plan.suggestion_id)
        return self._plans.get(run)

    # Calls

    async def _needs(self, context: RunContextWrapper[Any], tool: str, arguments: Any, call_id: str) -> bool:
        """Whether the run must stop for a person."""
        try:
            task, node = self._place(context)
            agent = task.agent if node is None else node.agent
            step = task.steps[call_id] = await self._step(task, agent, tool, arguments, call_id)
            return isinstance(step, Ask) and await self._answer(step.review) is None
        except Exception:  # noqa: BLE001  # the guardrail looks again, and lets nothing through that it knows nothing of
            self._tracker.failed("decide")
            return False

    async def _check(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Let a call through, or give the model something instead of its result."""
        context, name = data.context, data.agent.name
        asked = Asked(name, context.qualified_tool_name, context.tool_arguments, known=True)
        try:
            fate = await self._fate(context, name, arguments_of(context.tool_arguments))
        except Exception:  # noqa: BLE001  # a call that nobody could decide about is not made
            self._tracker.failed("decide")
            fate = "blocked", _NOT_DECIDED
        if fate is None:
            return ToolGuardrailFunctionOutput.allow()
        self._refused(context, asked, *fate)
        return ToolGuardrailFunctionOutput.reject_content(fate[1])

    async def _fate(self, context: ToolContext[Any], agent: str, arguments: Any) -> tuple[Status, str] | None:
        """What becomes of a call that is not made, and what the model reads; None of one that is."""
        task, _ = self._place(context)
        call_id = context.tool_call_id
        step = task.steps.pop(call_id, None)
        if step is None:
            step = await self._step(task, agent, context.tool_name, arguments, call_id)
        match step:
            case Go():
                task.steps[call_id] = step
                return None
            case Known():
                return step.status, step.result if isinstance(step.result, str) else _text(step.result)
            case Blocked():
                return step.status, step.message
            case Ask():
                answer = await self._answer(step.review)
                if answer is None:
                    return "blocked", _OPEN
                return self._said(self._run(task), context.tool_name, answer)

    def _refused(self, context: ToolContext[Any], asked: Asked, status: Status, message: str) -> None:
        """Record a call that is not made."""
        try:
            with self._runs.lock:
                task, node = self._runs.place(context)
                self._runs.not_made(task, context.tool_call_id, asked, status, message)
                if node is not None:
                    node.settled = True
        except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
            self._tracker.failed("refused")

    def _place(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        with self._runs.lock:
            return self._runs.place(context)

    def _run(self, task: Task) -> Run:
        with self._runs.lock:
            return self._runs.run(task)

    async def _step(self, task: Task, agent: str, tool: str, arguments: Any, call_id: str) -> Decided:
        run = self._run(task)
        granted = self._granted.get(run, set())
        key = canonical([tool, arguments])
        if key in granted:
            granted.discard(key)
            run.edited(call_id)
            return Go()
        return await asyncio.to_thread(self._before, run, agent, tool, arguments, call_id)

    def _before(self, run: Run, agent: str, tool: str, arguments: Any, call_id: str) -> Decided:
        return self._guard.before(
            agent_id=run.agent_id(agent),
            tool_id=run.tool_id(tool),
            tool=tool,
            arguments=arguments,
            user_id=run.user_id,
            session_id=run.session_id,
            call_id=call_id,
            plan=self._plans.get(run),
        )

    async def _answer(self, review: Review) -> Answer | None:
        return await asyncio.to_thread(self._guard.answer, review)

    def _said(self, run: Run, tool: str, answer: Answer) -> tuple[Status, str] | None:
        """What an answer makes of a call, as `_fate` gives it; the SDK cannot change one, so the model is asked to."""
        status, by = answer.call_status or "rejected", answer.by or "a person"
        if answer.decision == "edit":
            self._granted.setdefault(run, set()).add(canonical([tool, answer.arguments]))
            return "rejected", (
                f"This call was not made: {by} changed it. Call {tool} again with exactly these arguments: "
                f"{_text(answer.arguments)}"
            )
        if answer.permits:
            return None
        if answer.decision == "respond" and answer.response is not None:
            return status, answer.response
        if answer.status == "expired":
            return status, "This call was not made: nobody agreed to it in time."
        reason = f": {answer.reason}" if answer.reason else ""
        return status, f"This call was not made: {by} rejected it{reason}. Do not make it again unasked."

    async def _keep(self, data: ToolOutputGuardrailData) -> None:
        """Keep the answer of a call that went well, where it may be given again."""
        try:
            task, node = self._place(data.context)
            step = task.steps.pop(data.context.tool_call_id, None)
            if isinstance(step, Go) and node is not None and node.failure is None and node.span.error is None:
                await asyncio.to_thread(self._guard.after, step, plain(data.output))
        except Exception:  # noqa: BLE001  # an answer that is not kept is asked for again
            self._tracker.failed("keep")

    async def answered(
        self, state: RunState[Any, Any], *, session: str, user: str | None = None
    ) -> list[ToolApprovalItem]:
        """Take over into the state of a run what people decided about its calls, so that it can be resumed.

        Args:
            state: Of the run that was interrupted.
            session: Its session, as the run had it.
            user: Its user.

        Returns:
            What nobody has decided yet, or is not for the guard to decide.

        Raises:
            TableUnavailable: What was decided cannot be read.
        """
        run = self._tracker.run(session, user=user)
        still_open = []
        for item in state.get_interruptions():
            tool, call_id, arguments = str(item.name), item.call_id, str(item.arguments or "")
            if tool not in self._names or call_id is None:
                still_open.append(item)
                continue
            step = await asyncio.to_thread(self._before, run, item.agent.name, tool, arguments_of(arguments), call_id)
            answer = await self._answer(step.review) if isinstance(step, Ask) else None
            if isinstance(step, Ask) and answer is None:
                still_open.append(item)
                continue
            fate = None if answer is None else self._said(run, tool, answer)
            if fate is None:
                state.approve(item)  # the guardrail looks again before it is made
            else:
                asked = Asked(item.agent.name, item.qualified_name or tool, arguments, known=True, fate=fate[0])
                with self._runs.lock:
                    self._runs.asked(run)[call_id] = asked
                state.reject(item, rejection_message=fate[1])
        return still_open


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
