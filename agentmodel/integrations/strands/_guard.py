"""A guard's decisions, carried out by Strands' own means: middleware, cancelled calls, interrupts.

The plan of an invocation is kept in the agent's state, and a question about a call in the history, so an invocation
that waits for a person can go on in another process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pydantic
from strands import Agent
from strands.hooks import AgentInitializedEvent, BeforeInvocationEvent, BeforeToolCallEvent, HookOrder, HookRegistry
from strands.interrupt import InterruptException
from strands.middleware import ExecuteToolContext, ExecuteToolStage, InvokeModelContext, InvokeModelStage
from strands.types.events import ToolResultEvent
from strands.types.tools import ToolResultStatus, ToolUse

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.messages import content_text, last_request
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.suggest.guard import Guard, Resolution, as_content, interrupt_question
from agentmodel.suggest.plan import Plan

__all__ = ["INTERRUPT", "STATE", "GuardHooks", "plain", "text_of"]

INTERRUPT = "agentmodel.review"
"""Start of the names of interrupts that ask for a review; the question's id and a number follow."""

STATE = "agentmodel_plan"
"""Key of the plan of an invocation in the agent's state."""

_BLOCKS = {"text", "json", "image", "document", "video"}  # kinds of content that a result of Strands may have


class GuardHooks:
    """Hooks and middleware that carry out a guard's decisions about the calls of agents.

    Args:
        guard: Decides about each call.
        tracker: Records, and counts what fails.
        run: Returns the tracked run of an agent's invocation.
    """

    def __init__(self, guard: Guard, tracker: Tracker, *, run: Callable[[Any, Mapping[str, Any]], TrackedRun]) -> None:
        self._enforcer = RunEnforcer(guard, tracker)
        self._tracker = tracker
        self._run = run
        self._lock = ForkSafeLock()
        self._attached: weakref.WeakSet[Any] = weakref.WeakSet()
        self._calls: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], Resolution]] = weakref.WeakKeyDictionary()

    def register(self, registry: HookRegistry) -> None:
        """Listen to an agent; decide about its calls after all other hooks, as they leave the arguments."""
        registry.add_callback(AgentInitializedEvent, self._attach)
        registry.add_callback(BeforeInvocationEvent, self._plan)
        registry.add_callback(BeforeToolCallEvent, self._decide, order=HookOrder.SDK_LAST)

    def resolution(self, agent: Any, call: ToolUse) -> Resolution | None:
        """Return what happens to a call, by the arguments it is made with."""
        with self._lock:
            return self._calls.get(agent, {}).get(_key(call))

    def forget(self, agent: Any, call: ToolUse | None = None) -> None:
        """Drop what happens to a call that is over; without a call, of all calls of an invocation that is over."""
        with self._lock:
            if call is None:
                self._calls.pop(agent, None)
            else:
                self._calls.get(agent, {}).pop(_key(call), None)

    def _attach(self, event: AgentInitializedEvent | BeforeInvocationEvent) -> None:
        agent = event.agent
        if not isinstance(agent, Agent):
            raise ValidationError("agent", type(agent).__name__, "must be an Agent: a guard needs its middleware")
        with self._lock:
            known = agent in self._attached
            self._attached.add(agent)
        if not known:
            agent.add_middleware(InvokeModelStage.Input, self._with_plan)
            agent.add_middleware(ExecuteToolStage, self._execute)

    # Plan

    async def _plan(self, event: BeforeInvocationEvent) -> None:
        """Plan for a new request; one that goes on after an interrupt keeps its plan."""
        self._attach(event)
        with FailuresCounted(self._tracker, "plan"):
            run = self._run(event.agent, event.invocation_state)
            if event.messages:
                state = event.invocation_state
                request = content_text(state.get("request")) or last_request(event.messages)
                category = text_of(state.get("category"))
                plan = await asyncio.to_thread(self._enforcer.plan, run, request=request, category=category)
                if plan is None:
                    event.agent.state.delete(STATE)
                else:
                    event.agent.state.set(STATE, plan.model_dump(mode="json"))
            else:
                plan = self._kept(event.agent)
            run.follow(None if plan is None else plan.suggestion_id)

    def _with_plan(self, context: InvokeModelContext) -> InvokeModelContext:
        """Put the plan after the system prompt, for this call of the model alone."""
        text, prompt = prompt_of(self._kept(context.agent)), context.system_prompt
        if text is None:
            return context
        if prompt is None or isinstance(prompt, str):
            return context.replace(system_prompt=f"{prompt}\n\n{text}" if prompt else text)
        return context.replace(system_prompt=[*prompt, {"text": text}])

    def _kept(self, agent: Any) -> Plan | None:
        """Return the plan in an agent's state; drop one that another version wrote and that cannot be read."""
        kept = agent.state.get(STATE)
        try:
            return None if kept is None else Plan.model_validate(kept)
        except pydantic.ValidationError:
            agent.state.delete(STATE)
            self._tracker.failed("plan")
            return None

    # Calls

    async def _decide(self, event: BeforeToolCallEvent) -> None:
        if event.cancel_tool or event.selected_tool is None:
            return  # another hook refused the call, or there is no such tool
        earlier = self.resolution(event.agent, event.tool_use)  # it is tried again, perhaps edited
        tool = event.tool_use["name"]
        arguments = event.tool_use["input"] if earlier is None else earlier.requested
        try:
            resolution = await self._resolved(event, tool, arguments, again=earlier is not None)
        except InterruptException:
            raise
        except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted and logged
            self._tracker.failed(f"the decision about a call of {tool}")
            resolution = self._enforcer.undecided(tool, arguments)
        # A copy: the message stays as the model wrote it, so that the question about it is found again.
        event.tool_use = {**event.tool_use, "input": resolution.arguments}
        with self._lock:
            self._calls.setdefault(event.agent, {})[_key(event.tool_use)] = resolution
        if resolution.is_error:
            event.cancel_tool = str(resolution.content)

    async def _resolved(self, event: BeforeToolCallEvent, tool: str, arguments: Any, *, again: bool) -> Resolution:
        """Return what happens to a call; interrupt the agent while a person must decide.

        What an interrupt is resumed with counts once it is in the history. ``{}`` means that it is there already.
        """
        resolution = await asyncio.to_thread(
            self._enforcer.resolve_call,
            self._run(event.agent, event.invocation_state),
            event.agent.name,
            tool,
            arguments,
            call_id=_call_id(event),
            scope=event.agent.name,
            plan=self._kept(event.agent),
            fresh=again,  # whoever has a call tried again was not content with a cached result
        )
        for number in itertools.count(1):
            review = resolution.review
            if review is None or not resolution.waits:
                break
            # An answer to one question must not answer another, and Strands keeps it under the name.
            name = f"{INTERRUPT}.{review.review_id}.{number}"
            given = event.interrupt(name, interrupt_question(review, tool, trouble=resolution.trouble))
            resolution = await asyncio.to_thread(self._enforcer.answer, resolution, given)
        return resolution

    async def _execute(self, context: ExecuteToolContext, following: Any) -> AsyncGenerator[Any, None]:
        """Return the content of a call that has a result already; else make the call and keep its result."""
        call = context.tool_use
        resolution = self.resolution(context.agent, call)
        if resolution is not None and not resolution.permits:
            status: ToolResultStatus = "error" if resolution.is_error else "success"
            content = _content(resolution.content)
            yield ToolResultEvent({"toolUseId": call["toolUseId"], "status": status, "content": content})
            return
        result = None
        async for event in following(context):
            if isinstance(event, ToolResultEvent):
                result = event.tool_result
            yield event
        if resolution is not None and resolution.keeps and result is not None and result["status"] == "success":
            await asyncio.to_thread(self._enforcer.keep, resolution, plain(result["content"]))


def _key(call: ToolUse) -> tuple[str, str]:
    return call["toolUseId"], json.dumps(call["input"], sort_keys=True, default=repr)


def _call_id(event: BeforeToolCallEvent) -> str:
    """Return the identity of a call in its session: some models use an id again in a later message."""
    messages = event.agent.messages
    return f"{messages[-1].get('tracking_id', '') if messages else ''}/{event.tool_use['toolUseId']}"


def plain(content: Any) -> Any:
    """Return what the model reads of a result: the text of its only block, or all blocks."""
    return content[0]["text"] if len(content) == 1 and set(content[0]) == {"text"} else content


def _content(result: Any) -> list[Any]:
    """Return a cached result as Strands' content, also if another framework cached it."""
    if isinstance(result, list) and all(isinstance(block, dict) and set(block) <= _BLOCKS for block in result):
        return result
    return [{"text": as_content(result)}]


def text_of(value: Any) -> str | None:
    """Return a value of the invocation's state as text; None if it is missing or empty."""
    return None if value is None or value == "" else str(value)
