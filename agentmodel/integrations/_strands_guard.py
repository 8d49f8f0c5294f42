"""What a guard decides, carried out by Strands' own means: middleware, cancelled and replaced calls, interrupts.

The plan of an invocation is kept in the agent's state, and what was asked about a call in the history, so an invocation
that waits for a person goes on in another process as it would in this one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from strands import Agent
from strands.hooks import (
    AgentInitializedEvent,
    BeforeInvocationEvent,
    BeforeToolCallEvent,
    HookOrder,
    HookRegistry,
)
from strands.interrupt import InterruptException
from strands.middleware import ExecuteToolContext, ExecuteToolStage, InvokeModelContext, InvokeModelStage
from strands.types.events import ToolResultEvent
from strands.types.tools import ToolUse

from agentmodel.dynamo.models import Review, Status
from agentmodel.exceptions import AgentModelError, Unavailable, ValidationError
from agentmodel.integrations._calls import Run, Tracker
from agentmodel.suggest.answers import Answer
from agentmodel.suggest.guard import Ask, Blocked, Go, Guard, Known
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import Reviews

__all__ = ["INTERRUPT", "STATE", "Fate", "Guarding", "request_of", "text_of"]

INTERRUPT = "agentmodel.review"
"""How the names of interrupts begin that ask for a review; the question's id and how often it was asked follow."""

STATE = "agentmodel_plan"
"""Where the agent's state keeps the plan of an invocation."""

_BLOCKS = {"text", "json", "image", "document", "video"}  # kinds of content that a result of Strands may have

_NOT_DECIDED = (
    "This call was not made: it could not be found out whether it may be. Go on without it, or try again later."
)


@dataclass(slots=True)
class Fate:
    """What was decided about a call.

    Attributes:
        asked: The arguments that the model asked with.
        given: Those that it is made with.
        status: What to record it as; None where it ends as it ends.
        message: What the model reads instead of a result, where the call was cancelled.
        notice: What the model reads before the result.
        instead: The content that is given back without making the call; None where it is made.
        served: Whether that was given back.
        step: What takes the answer of the call, once it is made.
    """

    asked: Any
    given: Any
    status: Status | None = None
    message: str | None = None
    notice: str | None = None
    instead: list[Any] | None = None
    served: bool = False
    step: Go | None = None


class Guarding:
    """Carries out what a guard decides about the calls of agents.

    Args:
        guard: What decides.
        tracker: What records, and counts what fails here.
        run: Gives the run of an agent's invocation.
    """

    def __init__(self, guard: Guard, tracker: Tracker, *, run: Callable[[Any, Mapping[str, Any]], Run]) -> None:
        self._guard = guard
        self._tracker = tracker
        self._run = run
        self._lock = threading.Lock()
        self._attached: weakref.WeakSet[Any] = weakref.WeakSet()
        self._fates: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], Fate]] = weakref.WeakKeyDictionary()

    def register(self, registry: HookRegistry) -> None:
        """Listen to an agent; calls are decided about last, as the other hooks leave them."""
        registry.add_callback(AgentInitializedEvent, self._attach)
        registry.add_callback(BeforeInvocationEvent, self._plan)
        registry.add_callback(BeforeToolCallEvent, self._decide, order=HookOrder.SDK_LAST)

    def fate(self, agent: Any, call: ToolUse) -> Fate | None:
        """What was decided about a call, by the arguments it is made with."""
        with self._lock:
            return self._fates.get(agent, {}).get(_key(call))

    def forget(self, agent: Any, call: ToolUse | None = None) -> None:
        """A call is over, or with none given, the invocation."""
        with self._lock:
            if call is None:
                self._fates.pop(agent, None)
            else:
                self._fates.get(agent, {}).pop(_key(call), None)

    def _attach(self, event: AgentInitializedEvent | BeforeInvocationEvent) -> None:
        agent = event.agent
        if not isinstance(agent, Agent):
            raise ValidationError("agent", type(agent).__name__, "an Agent: a guard needs its middleware")
        with self._lock:
            known = agent in self._attached
            self._attached.add(agent)
        if not known:
            agent.add_middleware(InvokeModelStage.Input, self._with_plan)
            agent.add_middleware(ExecuteToolStage, self._execute)

    # Plan

    async def _plan(self, event: BeforeInvocationEvent) -> None:
        """Plan for a new request; one that goes on, after an interrupt, keeps its plan."""
        self._attach(event)
        try:
            run = self._run(event.agent, event.invocation_state)
            if event.messages:
                state = event.invocation_state
                request = text_of(state.get("request")) or request_of(event.messages)
                category = text_of(state.get("category"))
                plan = await asyncio.to_thread(self._guard.plan, run.user_id, request=request, category=category)
                if plan is None:
                    event.agent.state.delete(STATE)
                else:
                    event.agent.state.set(STATE, plan.model_dump(mode="json"))
            else:
                plan = self._kept(event.agent)
            run.follow(None if plan is None else plan.suggestion_id)
        except Exception:  # noqa: BLE001  # an agent works without a plan
            self._tracker.failed("plan")

    def _with_plan(self, context: InvokeModelContext) -> InvokeModelContext:
        """Put the plan after the system prompt, for this call of the model alone."""
        plan, before = self._kept(context.agent), context.system_prompt
        if plan is None or (plan.source == "nothing known" and not plan.avoid):
            return context
        text = plan.as_prompt()
        if before is None or isinstance(before, str):
            return context.replace(system_prompt=f"{before}\n\n{text}" if before else text)
        return context.replace(system_prompt=[*before, {"text": text}])

    def _kept(self, agent: Any) -> Plan | None:
        """The plan in an agent's state; one of another version that cannot be read is dropped."""
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
            return  # another hook refused it, or there is no such tool
        earlier = self.fate(event.agent, event.tool_use)  # it is tried again: perhaps as a person edited it
        asked = event.tool_use["input"] if earlier is None else earlier.asked
        fate = Fate(asked, asked)
        try:
            await self._decided(event, fate, again=earlier is not None)
        except InterruptException:
            raise
        except Exception:  # noqa: BLE001  # a call that nobody could decide about is not made
            self._tracker.failed("decide")
            fate.status, fate.message = "blocked", _NOT_DECIDED
        # A copy: the message stays as the model wrote it, so that the question about it is found again.
        event.tool_use = {**event.tool_use, "input": fate.given}
        with self._lock:
            self._fates.setdefault(event.agent, {})[_key(event.tool_use)] = fate
        if fate.message is not None:
            event.cancel_tool = fate.message

    async def _decided(self, event: BeforeToolCallEvent, fate: Fate, *, again: bool) -> None:
        run = self._run(event.agent, event.invocation_state)
        name, call_id = event.tool_use["name"], _call_id(event)
        plan = self._kept(event.agent)
        step = await asyncio.to_thread(
            lambda: self._guard.before(
                agent_id=run.agent_id(event.agent.name),
                tool_id=run.tool_id(name),
                tool=name,
                arguments=fate.asked,
                user_id=run.user_id,
                session_id=run.session_id,
                call_id=call_id,
                plan=plan,
                fresh=again,  # whoever has a call tried again has seen its answer
            )
        )
        match step:
            case Go():
                fate.step = step
            case Known():
                fate.status, fate.instead = step.status, _content(step.result)
            case Blocked():
                fate.status, fate.message = step.status, step.message
            case Ask():
                _carry_out(fate, await self._answer(event, step.review), name)

    async def _answer(self, event: BeforeToolCallEvent, review: Review) -> Answer:
        """What was decided; while nobody has, the agent is interrupted here.

        What was said to an interrupt counts once it is in the history. Nothing said means that it is there already.
        """
        trouble = None
        for number in itertools.count(1):
            try:
                answer = await asyncio.to_thread(self._guard.answer, review)
            except Unavailable as error:
                answer, trouble = None, f"what was decided could not be read: {error}"
            if answer is not None:
                return answer
            # What was said to one question must not answer another, and Strands keeps it under the name.
            said = event.interrupt(
                f"{INTERRUPT}.{review.review_id}.{number}", _question(review, event.tool_use["name"], trouble)
            )
            trouble = await asyncio.to_thread(self._write, review, said)
        raise AssertionError("never counted to the end")

    def _write(self, review: Review, said: Any) -> str | None:
        """Write down what was said; what was wrong with it, if anything."""
        if not said:
            return None
        reviews = self._tracker.model.reviews
        try:
            reviews.decide(review, **_checked(said))
        except AgentModelError as error:
            return f"the last answer was not taken: {error}"
        return None

    async def _execute(self, context: ExecuteToolContext, following: Any) -> AsyncGenerator[Any, None]:
        """Give back what is given instead of a call, else make it, and keep its answer."""
        call = context.tool_use
        fate = self.fate(context.agent, call)
        if fate is not None and fate.instead is not None:
            fate.served = True
            yield ToolResultEvent({"toolUseId": call["toolUseId"], "status": "success", "content": fate.instead})
            return
        step, result = None if fate is None else fate.step, None
        async for event in following(context):
            if isinstance(event, ToolResultEvent):
                result = event.tool_result
            yield event
        if step is not None and result is not None and result["status"] == "success":
            await asyncio.to_thread(self._guard.after, step, _plain(result["content"]))


def _carry_out(fate: Fate, answer: Answer, name: str) -> None:
    fate.status = answer.call_status
    if answer.permits:
        if answer.decision == "edit":
            arguments = json.dumps(answer.arguments, ensure_ascii=False)
            by = answer.by or "A person"
            fate.given = answer.arguments
            fate.notice = f"{by} changed this call before it was made, to {name} with {arguments}. Its result:"
    elif answer.decision == "respond" and answer.response is not None:
        fate.instead = [{"text": answer.response}]
    elif answer.status == "expired":
        fate.message = "This call was not made: nobody agreed to it in time."
    else:
        reason = f": {answer.reason}" if answer.reason else ""
        fate.message = (
            f"This call was not made: {answer.by or 'a person'} rejected it{reason}. Do not make it again unasked."
        )


def _question(review: Review, tool: str, trouble: str | None) -> dict[str, Any]:
    """What an application shows the person: JSON, for Strands keeps it with the session."""
    question = {
        "type": "agentmodel_review",
        "review": Reviews.reference(review),
        "question": review.question,
        "reason": review.reason,
        "tool": tool,
        "arguments": review.arguments,
        "arguments_hash": review.arguments_hash,
        "allowed": list(review.allowed or ()),
        "answer_until": None if review.answer_until is None else review.answer_until.isoformat(),
    }
    return question if trouble is None else {**question, "trouble": trouble}


def _checked(said: Any) -> dict[str, Any]:
    """What was said to an interrupt, as arguments of `Reviews.decide`."""
    known = ("decision", "by", "reason", "arguments", "response", "arguments_hash")
    if not isinstance(said, Mapping) or not {"decision", "by"} <= set(said) <= set(known):
        raise ValidationError("response", said, "a dict with decision and by, and where needed " + ", ".join(known[2:]))
    return dict(said)


def _key(call: ToolUse) -> tuple[str, str]:
    return call["toolUseId"], json.dumps(call["input"], sort_keys=True, default=repr)


def _call_id(event: BeforeToolCallEvent) -> str:
    """Identity of a call in its session: some models give the same id to calls of several messages."""
    messages = event.agent.messages
    return f"{messages[-1].get('tracking_id', '') if messages else ''}/{event.tool_use['toolUseId']}"


def _plain(content: Any) -> Any:
    """What a model reads of a result: the text of the only block, or all blocks."""
    return content[0]["text"] if len(content) == 1 and set(content[0]) == {"text"} else content


def _content(result: Any) -> list[Any]:
    """A known answer as Strands' content, also where it is another framework's."""
    if isinstance(result, str):
        return [{"text": result}]
    if isinstance(result, list) and all(isinstance(block, dict) and set(block) <= _BLOCKS for block in result):
        return result
    return [{"text": json.dumps(result, ensure_ascii=False)}]


def request_of(messages: Any) -> str | None:
    """What the user asked for: the text of the last message of the input."""
    blocks = messages[-1]["content"] if messages else []
    return "\n".join(block["text"] for block in blocks if "text" in block).strip() or None


def text_of(value: Any) -> str | None:
    """A text of the invocation's state, if it has one."""
    return None if value is None or value == "" else str(value)
