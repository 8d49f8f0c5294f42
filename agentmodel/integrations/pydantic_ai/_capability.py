"""A capability that records the tool calls of agents of Pydantic AI and, with a guard, decides before each call.

    with Tracker(model, domain="cafes") as tracker:
        ours = AgentModelCapability(tracker, guard=model.guard())
        agent = Agent("openai:gpt-5", name="finder", tools=[…], capabilities=[ours])
        agent.run_sync("find a café", conversation_id="t1", metadata={"user_id": "kim"})

The metadata of a run, or else its ``deps``, has the ``user_id``, ``session_id``, ``request`` and ``category``; without
a ``session_id`` the conversation is the session. Without a guard the capability only listens.

It is the innermost of the capabilities: it sees each attempt of one that tries again, and decides about the arguments
as the others leave them.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pydantic
from pydantic_ai import AgentRunResult, RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, SkipToolExecution
from pydantic_ai.messages import ModelResponse, ToolCallPart, ToolReturn
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import ToolDefinition
from typing_extensions import override

from agentmodel.dynamo.models import Status
from agentmodel.exceptions import Conflict
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.integrations.pydantic_ai._messages import (
    as_json,
    asked_of,
    error_of,
    is_output,
    note_in,
    noted_in,
    request_of,
    returns_of,
    told,
    with_notice,
)
from agentmodel.suggest.guard import Guard, Resolution, interrupt_question
from agentmodel.suggest.plan import Plan

__all__ = ["AgentModelCapability"]

_PLAN = "agentmodel_plan"
"""Key of the plan of a run in the metadata of its requests to the model."""

_REVIEWS = "agentmodel_reviews"
"""Key of the questions about the calls of a message of the model, by the ids of the calls, in its metadata."""


@dataclass(slots=True)
class _BegunCall:
    """A call that is about to be made.

    Attributes:
        arguments: As the tool gets them, as JSON.
        at: When it begins.
        edited: Whether a person changed the arguments that the model gave.
        resolution: What the guard decided; None without a guard.
    """

    arguments: Any
    at: datetime
    edited: bool
    resolution: Resolution | None


@dataclass(slots=True, eq=False)
class _Running:
    """A run of an agent.

    Attributes:
        tracker: Whose run it is.
        run: The session that it belongs to.
        agent: Name of the agent.
        nested: Whether another run's tool runs the agent.
        plan: The plan that it follows.
        seen: Whether its agent's revision was noted.
        settled: Calls that are recorded, or were answered before the run began.
        begun: Calls that went on to their tools.
    """

    tracker: Tracker
    run: TrackedRun
    agent: str
    nested: bool
    plan: Plan | None = None
    seen: bool = False
    settled: set[str] = field(default_factory=set)
    begun: dict[str, _BegunCall] = field(default_factory=dict)

    def call(self, call: ToolCallPart, status: Status, arguments: Any, **more: Any) -> None:
        """Report a call that is over."""
        self.settled.add(call.tool_call_id)
        self.run.call(
            call.tool_call_id,
            agent=self.agent,
            tool=call.tool_name,
            status=status,
            arguments=arguments,
            scope=self.agent,
            **more,
        )


_WITHIN: ContextVar[_Running | None] = ContextVar("agentmodel_pydantic_ai", default=None)
"""The run whose tool is running; a run that a tool makes belongs to it."""


class AgentModelCapability(AbstractCapability[Any]):
    """Records every attempt of every tool call of an agent of Pydantic AI; with a guard, decides before each call.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        guard: Plans, and decides before each call: it puts a plan into the instructions, blocks a tool that is failing,
            asks a person by a deferred call, and returns cached results. None only records.

    Raises:
        ValidationError: ``tracker`` is not a `Tracker`.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
    """

    id: str | None = "agentmodel"
    """Its name in a run, so that Pydantic AI takes one of them."""

    def __init__(self, tracker: Tracker, *, guard: Guard | None = None) -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self._enforcer = None if guard is None else RunEnforcer(guard, tracker)
        self._running: _Running | None = None

    @override
    @classmethod
    def combine(cls, capabilities: Sequence[AbstractCapability[Any]]) -> AbstractCapability[Any]:
        """Return the last one of several that an agent was given: each call is recorded once."""
        return capabilities[-1]

    @override
    def get_ordering(self) -> CapabilityOrdering:
        """Return that it is the innermost, next to the tools."""
        return CapabilityOrdering(position="innermost")

    @override
    async def for_run(self, ctx: RunContext[Any]) -> AbstractCapability[Any]:
        """Return a capability of its own for each run."""
        own = copy.copy(self)
        own._running = None  # noqa: SLF001  # its own
        return own

    @override
    def get_instructions(self) -> Any:
        """Return what gives the plan, for each request to the model."""
        return None if self._enforcer is None else self._plan_text

    def _plan_text(self, ctx: RunContext[Any]) -> str | None:  # noqa: ARG002  # Pydantic AI's
        return prompt_of(None if self._running is None else self._running.plan)

    # Runs

    @override
    async def wrap_run(self, ctx: RunContext[Any], *, handler: Any) -> AgentRunResult[Any]:
        """Record how a run ends."""
        failed = False
        try:
            result: AgentRunResult[Any] = await handler()
        except Exception:
            failed = True
            raise
        finally:
            running = self._running
            if running is not None and not running.nested:
                running.run.finish(succeeded=False if failed else None)
        return result

    @override
    async def before_run(self, ctx: RunContext[Any]) -> None:
        """Find the session of a run, and plan for a new request."""
        with FailuresCounted(self.tracker, "run"):
            self._running = running = self._opened(ctx)
            running.settled = {one.call.tool_call_id for one in returns_of(ctx.messages)}
        now = self._running
        if self._enforcer is not None and now is not None and not now.nested:
            with FailuresCounted(self.tracker, "plan"):
                now.plan = await self._plan(ctx, now, self._enforcer)
                now.run.follow(None if now.plan is None else now.plan.suggestion_id)

    def _opened(self, ctx: RunContext[Any]) -> _Running:
        outer = _WITHIN.get()
        if outer is not None and outer.tracker is not self.tracker:
            outer = None
        session = id_or_none(told(ctx, "session_id"))
        user = id_or_none(told(ctx, "user_id"))
        if outer is not None:
            session, user = session or outer.run.session, user or outer.run.user
        run = self.tracker.run(
            session or id_or_none(ctx.conversation_id) or uuid.uuid4().hex,
            user=user,
            request=told(ctx, "request") or request_of(ctx),
            category=told(ctx, "category"),
        )
        agent = None if ctx.agent is None else ctx.agent.name
        return _Running(self.tracker, run, agent or "agent", nested=outer is not None and outer.run is run)

    async def _plan(self, ctx: RunContext[Any], running: _Running, enforcer: RunEnforcer) -> Plan | None:
        """Plan for a new request; a run that goes on keeps its plan, which is in the messages."""
        if ctx.prompt is None:
            kept = next((plan for one in reversed(ctx.messages) if (plan := noted_in(one, _PLAN))), None)
            return None if kept is None else Plan.model_validate(kept)
        request, category = told(ctx, "request") or request_of(ctx), told(ctx, "category")
        return await asyncio.to_thread(enforcer.plan, running.run, request=request, category=category)

    # Turns of the model

    @override
    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Record what the model reads of calls that were not made here: denied, or answered by somebody else."""
        with FailuresCounted(self.tracker, "request"):
            if self._running is not None:
                self._see(self._running, request_context)
                await self._record_returns(ctx, self._running)
                if self._running.plan is not None and ctx.messages:
                    note_in(ctx.messages[-1], _PLAN, self._running.plan.model_dump(mode="json"))
        return request_context

    def _see(self, running: _Running, request: ModelRequestContext) -> None:
        """Note of which revision the agent is: its fixed instructions, its model and its tools."""
        if running.seen:
            return
        running.seen = True
        asked = request.model_request_parameters
        prompts = [one.content for one in asked.instruction_parts or () if not one.dynamic]
        prompts += [
            part.content
            for message in request.messages
            for part in message.parts
            if part.part_kind == "system-prompt" and part.dynamic_ref is None
        ]
        self.tracker.revisions.see(
            running.agent,
            prompt=prompts,
            model=request.model.model_name,
            tools=lambda: [[one.name, one.description, one.parameters_json_schema] for one in asked.function_tools],
        )

    async def _record_returns(self, ctx: RunContext[Any], running: _Running) -> None:
        for one in returns_of(ctx.messages):
            call = one.call
            if call.tool_call_id in running.settled or is_output(ctx, call.tool_name):
                continue
            error_type = "_OTHER" if one.status == "error" else None
            running.call(call, one.status, _arguments_of(call), result=one.content, error_type=error_type)
            if one.status == "rejected":
                await self._withdraw(ctx, call, one.content)

    async def _withdraw(self, ctx: RunContext[Any], call: ToolCallPart, reason: Any) -> None:
        """Withdraw the guard's question about a call that the application denied, so that nobody answers it."""
        asked = next((kept for one in reversed(ctx.messages) if (kept := noted_in(one, _REVIEWS))), None)
        review = None if asked is None else asked.get(call.tool_call_id)
        if self._enforcer is not None and review is not None:
            reviews = self._enforcer.guard.reviews
            try:
                await asyncio.to_thread(reviews.cancel, review, "the application", reason=str(reason))
            except Conflict:
                return  # it was answered, or its time is over

    @override
    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Report which calls the model asks for, in its order, and their tokens."""
        with FailuresCounted(self.tracker, "turn"):
            if self._running is not None:
                self._turn(ctx, self._running, response)
        return response

    def _turn(self, ctx: RunContext[Any], running: _Running, response: ModelResponse) -> None:
        calls = [one for one in response.parts if isinstance(one, ToolCallPart) and not is_output(ctx, one.tool_name)]
        if not calls:
            return
        for call in calls:  # some servers number the calls of each answer anew
            running.settled.discard(call.tool_call_id)
            running.begun.pop(call.tool_call_id, None)
        usage = response.usage
        running.run.turn(
            "model",
            calls=[call.tool_call_id for call in calls],
            input_tokens=usage.input_tokens or None,
            output_tokens=usage.output_tokens or None,
            cached_tokens=usage.cache_read_tokens or None,
            cache_write_tokens=usage.cache_write_tokens or None,
            reasoning_tokens=usage.details.get("reasoning_tokens"),
            model_name=response.model_name,
            scope=running.agent,
        )
        for call in calls:
            if is_output(ctx, call.tool_name) is None and ctx.tool_manager is not None:
                running.call(call, "unknown_tool", _arguments_of(call))

    # Calls

    @override
    async def wrap_tool_validate(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> dict[str, Any]:
        """Record a call whose arguments the tool does not take."""
        try:
            valid: dict[str, Any] = await handler(args)
        except (pydantic.ValidationError, ModelRetry) as error:
            with FailuresCounted(self.tracker, f"a call of {call.tool_name}"):
                if self._running is not None:
                    error_type, text = error_of(error)
                    self._running.call(call, "error", _arguments_of(call), result=text, error_type=error_type)
            raise
        return valid

    @override
    async def before_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        """Decide about a call, by the arguments as all others leave them."""
        running, resolution = self._running, None
        if running is None:
            if self._enforcer is not None:  # the run could not be opened, so nothing can be decided
                resolution = self._enforcer.undecided(call.tool_name, args)
                if not resolution.permits:
                    raise SkipToolExecution(resolution.content)
            return args
        arguments = as_json(args)
        if self._enforcer is not None:
            resolution = await self._resolved(ctx, running, call, arguments, self._enforcer)
            if resolution.waits and resolution.review is not None:
                raise ApprovalRequired(metadata=self._question(ctx, call, resolution))
            if not resolution.permits:
                running.call(call, resolution.status or "rejected", arguments, result=resolution.content)
                raise SkipToolExecution(resolution.content)
            if resolution.notice is not None:
                args = await self._valid(ctx, call, resolution.arguments)
                arguments = resolution.arguments
        with FailuresCounted(self.tracker, f"a call of {call.tool_name}"):
            edited = ctx.tool_call_approved and _is_edited(ctx, call)
            edited = edited or (resolution is not None and resolution.notice is not None)
            running.begun[call.tool_call_id] = _BegunCall(arguments, datetime.now(UTC), edited, resolution)
        return args

    async def _resolved(
        self, ctx: RunContext[Any], running: _Running, call: ToolCallPart, arguments: Any, enforcer: RunEnforcer
    ) -> Resolution:
        """Return what happens to a call; the metadata of an approval may be what a person decided."""
        resolution = enforcer.undecided(call.tool_name, arguments)
        with FailuresCounted(self.tracker, f"the decision about a call of {call.tool_name}"):
            resolution = await asyncio.to_thread(
                enforcer.resolve_call,
                running.run,
                running.agent,
                call.tool_name,
                arguments,
                call_id=call.tool_call_id,
                scope=running.agent,
                plan=running.plan,
                fresh=call.tool_call_id in running.settled,  # whoever tries again was not content with a cached result
            )
            given = ctx.tool_call_metadata
            if resolution.waits and isinstance(given, dict) and "decision" in given:
                resolution = await asyncio.to_thread(enforcer.answer, resolution, given)
        return resolution

    def _question(self, ctx: RunContext[Any], call: ToolCallPart, resolution: Resolution) -> dict[str, Any]:
        """Return what a person is shown, and keep in the model's message which question it is."""
        assert resolution.review is not None  # noqa: S101  # checked by the caller
        question = interrupt_question(resolution.review, call.tool_name, trouble=resolution.trouble)
        with FailuresCounted(self.tracker, "the question in the message"):
            response = next(one for one in reversed(ctx.messages) if isinstance(one, ModelResponse))
            asked = noted_in(response, _REVIEWS) or {}
            note_in(response, _REVIEWS, {**asked, call.tool_call_id: question["review"]})
        return question

    @staticmethod
    async def _valid(ctx: RunContext[Any], call: ToolCallPart, arguments: Any) -> dict[str, Any]:
        """Return the arguments that a person gave, as the tool takes them.

        Raises:
            ValidationError: The tool does not take them; the model reads why.
        """
        assert ctx.tool_manager is not None  # noqa: S101  # it is executing the call
        edited = await ctx.tool_manager.validate_tool_call(
            replace(call, args=arguments), approved=True, wrap_validation_errors=False
        )
        return dict(edited.validated_args or {})

    @override
    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Record an attempt of a call, and cache its result if the guard allows it."""
        running = self._running
        if running is None:
            return await handler(args)
        entered, within = datetime.now(UTC), _WITHIN.set(running)
        try:
            result = await handler(args)
        except (ApprovalRequired, CallDeferred, SkipToolExecution):
            raise  # it is not made now, or it was answered
        except BaseException as error:
            self._ended(running, call, entered, error=error)
            raise
        finally:
            _WITHIN.reset(within)
        begun = self._ended(running, call, entered, result=result)
        resolution = None if begun is None else begun.resolution
        if self._enforcer is None or resolution is None:
            return result
        if resolution.keeps and not isinstance(result, ToolReturn):  # whose further content is not the result
            await asyncio.to_thread(self._enforcer.keep, resolution, result)
        return with_notice(result, resolution.notice)

    def _ended(
        self,
        running: _Running,
        call: ToolCallPart,
        entered: datetime,
        *,
        result: Any = None,
        error: BaseException | None = None,
    ) -> _BegunCall | None:
        """Record how an attempt ended; None if it never began, since another capability's hook came in its way."""
        begun = running.begun.get(call.tool_call_id)
        with FailuresCounted(self.tracker, f"a call of {call.tool_name}"):
            if begun is None:
                return None
            status: Status = "edited" if begun.edited else "ok"
            error_type = None
            if isinstance(error, Exception):
                status = "error"
                error_type, result = error_of(error)
            elif error is not None:
                status = "interrupted"
            if isinstance(result, ToolReturn):
                result = result.return_value
            result = as_json(result) if error is None else result
            began = max(entered, begun.at)
            running.call(call, status, begun.arguments, result=result, error_type=error_type, began=began)
        return begun


def _arguments_of(call: ToolCallPart) -> Any:
    """Return the arguments that the model gave; text that is no JSON stays as it is."""
    try:
        return json.loads(call.args or "{}") if isinstance(call.args, str) else call.args or {}
    except ValueError:
        return call.args


def _is_edited(ctx: RunContext[Any], call: ToolCallPart) -> bool:
    """Return whether an approved call has other arguments than the model gave."""
    asked = asked_of(ctx.messages).get(call.tool_call_id)
    return asked is not None and _arguments_of(asked) != _arguments_of(call)
