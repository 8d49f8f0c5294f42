"""An agent middleware: it puts the plan into the prompt, has a guard decide before each tool call, and records.

    guard = model.guard(review={"pay"}, domain="cafes")
    agent = create_agent(yours, tools, middleware=[AgentModelMiddleware(tracker, guard)], checkpointer=saver)
    agent.invoke({"messages": [...]}, config)["__interrupt__"]  # the question about a call of pay
    agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), config)

A tool that is failing is not called, and the model reads what to use instead; a call that a person must approve waits
in an interrupt; a cached result is returned without the call. The middleware records alone, or beside the callback
handler of the same tracker, which sees each attempt: what both report of a call is one execution.
"""

from __future__ import annotations

import asyncio
import json
import uuid
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, NotRequired, TypeAlias, TypeGuard

import pydantic
from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import ModelRequest, ModelResponse, PrivateStateAttr
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from typing_extensions import override

from agentmodel._values.text import error_text, type_name
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ConfigurationError
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.integrations.langchain._callback import AgentModelCallback
from agentmodel.integrations.langchain._interrupts import accepted_answers, with_notice
from agentmodel.integrations.langchain._messages import (
    MIDDLEWARE,
    answer_in,
    asked_for,
    report_turn,
    request_of,
    scope_of,
    text_of,
    user_of,
)
from agentmodel.suggest.guard import (
    Guard,
    InterruptAnswer,
    Resolution,
    as_content,
    inline,
    interrupt_question,
    run_inline,
)
from agentmodel.suggest.plan import Language, Plan

__all__ = ["AgentModelMiddleware", "AgentModelState"]

_ASKED = "__agentmodel_asked"  # in the config of a node's execution: the questions that it has asked
_BY_PEOPLE = "hitl_interrupt_decision"  # how HumanInTheLoopMiddleware marks what people answered instead of a tool
_EDITED_BY_PEOPLE = "hitl_edited_tool_calls"  # where it keeps the arguments that people changed

Result: TypeAlias = "ToolMessage | Command[Any]"
_Handler: TypeAlias = "Callable[[ToolCallRequest], Awaitable[Result]]"


class AgentModelState(AgentState[Any]):
    """State of a graph with the middleware.

    Attributes:
        agentmodel: Session and plan of the run.
    """

    agentmodel: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


@dataclass(frozen=True, slots=True)
class _ToolCall:
    """A call of a tool, with its run and its agent."""

    run: TrackedRun
    call_id: str
    agent: str
    tool: str
    arguments: Any
    plan: Plan | None
    config: Any

    @property
    def scope(self) -> str:
        """Return which agent of the graph makes it."""
        return scope_of(self.config.get("metadata"))

    def not_made(self, status: Status, content: Any) -> None:
        """Report a call that is not made, with what the model reads instead of its result."""
        self.run.call(
            self.call_id,
            agent=self.agent,
            tool=self.tool,
            arguments=self.arguments,
            status=status,
            result=content,
            source=MIDDLEWARE,
            scope=self.scope,
        )


class AgentModelMiddleware(AgentMiddleware[AgentModelState, Any, Any]):
    """Gives an agent its plan, guards its tool calls, and records them.

    The first middleware of an agent is the outermost: put this one after `HumanInTheLoopMiddleware` and before
    `ToolRetryMiddleware`.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        guard: Plans, and decides before each call; made by `AgentModel.guard`. None only records.
        agent: Name for agents that have none (``create_agent(name=…)`` gives one).
        language: Language of the plan in the prompt.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
        state_schema: What the middleware keeps in the agent's state.
    """

    state_schema = AgentModelState

    def __init__(
        self, tracker: Tracker, guard: Guard | None = None, *, agent: str = "agent", language: Language = "en"
    ) -> None:
        super().__init__()
        check_tracker(tracker)
        self.tracker = tracker
        self._enforcer = None if guard is None else RunEnforcer(guard, tracker)
        self._agent = agent
        self._language: Language = language
        self._reported: weakref.WeakKeyDictionary[TrackedRun, set[str]] = weakref.WeakKeyDictionary()

    # The run

    def _run(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> TrackedRun:
        """Return the run of a config: that of the callback handler, if there is one, or that of the thread."""
        metadata = config.get("metadata") or {}
        parent = getattr(config.get("callbacks"), "parent_run_id", None)
        listener = self._listener(config)
        known = None if listener is None or parent is None else listener.run_of(parent)
        if known is not None:
            return known
        session = (state.get("agentmodel") or {}).get("session")
        return self.tracker.run(
            str(metadata.get("thread_id") or session or parent or uuid.uuid4().hex),
            user=user_of(config),
            request=lambda: asked_for(metadata) or request_of(state),
            category=text_of(metadata.get("category")),
        )

    def _listener(self, config: Mapping[str, Any]) -> AgentModelCallback | None:
        """Return the callback handler of the same tracker that listens to the run."""
        for each in getattr(config.get("callbacks"), "handlers", ()):
            if isinstance(each, AgentModelCallback) and each.tracker is self.tracker:
                return each
        return None

    def _check_trackers(self, config: Mapping[str, Any]) -> None:
        """Check that no callback handler would record the calls of the run a second time.

        Raises:
            ConfigurationError: One of another tracker listens.
        """
        for each in getattr(config.get("callbacks"), "handlers", ()):
            other = each.tracker if isinstance(each, AgentModelCallback) else self.tracker
            if other is not self.tracker and other.model is self.tracker.model:
                raise ConfigurationError(
                    "the middleware and the callback handler of this run have two trackers, which would record each "
                    "call twice: make both with the same Tracker"
                )

    @override
    def before_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Plan for a new request; a run that is resumed does not come here, and keeps its plan."""
        return self._begun(state, get_config())

    @override
    async def abefore_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Do the same as `before_agent`, in a thread, because it waits for the stores."""
        return await asyncio.to_thread(self._begun, state, get_config())

    def _begun(self, state: AgentModelState, config: Mapping[str, Any]) -> dict[str, Any]:
        self._check_trackers(config)
        kept: dict[str, Any] = {}
        with FailuresCounted(self.tracker, "plan"):
            run = self._run(config, state)
            kept["session"] = run.session
            metadata = config.get("metadata") or {}
            plan = None
            if self._enforcer is not None:
                plan = self._enforcer.plan(
                    run,
                    request=asked_for(metadata) or request_of(state),
                    category=text_of(metadata.get("category")),
                    domain_id=run.domain_id,
                )
            if plan is not None:
                run.follow(plan.suggestion_id)
                kept["plan"] = plan.model_dump_json()
        return {"agentmodel": kept}

    @override
    def after_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> None:
        """End the run, unless the callback handler does."""
        with FailuresCounted(self.tracker, "end of the run"):
            config = get_config()
            if self._listener(config) is None:
                # calls that run are of other agents: of one that called this one, or of another branch
                self._run(config, state).finish(running=True)

    @override
    async def aafter_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> None:
        """Do the same as `after_agent`, which does not wait."""
        self.after_agent(state, runtime)

    # Turns of the model

    @override
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Give the model the plan, and report which calls it requests."""
        self._see_revision(request)
        self._report_answers_of_people(request)
        response = handler(self._with_plan(request))
        self._report_turn(request, response)
        return response

    @override
    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do the same as `wrap_model_call`; nothing in it waits for a store."""
        self._see_revision(request)
        self._report_answers_of_people(request)
        response = await handler(self._with_plan(request))
        self._report_turn(request, response)
        return response

    def _see_revision(self, request: ModelRequest[Any]) -> None:
        with FailuresCounted(self.tracker, "revision"):
            agent = text_of((get_config().get("metadata") or {}).get("lc_agent_name")) or self._agent
            model: Any = request.model
            self.tracker.revisions.see(
                agent,
                prompt=None if request.system_message is None else request.system_message.content,
                model=getattr(model, "model_name", None) or getattr(model, "model", None) or type(model).__name__,
                tools=lambda: [
                    one if isinstance(one, dict) else [one.name, one.description, one.args] for one in request.tools
                ],
            )

    def _with_plan(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """Return the request with the plan after the system prompt: the same in each turn, and not in the state."""
        with FailuresCounted(self.tracker, "plan"):
            text, prompt = _prompt_of(request.state, self._language), request.system_message
            if text is None:
                return request
            if prompt is None:
                return request.override(system_message=SystemMessage(text))
            content: Any = f"{prompt.content}\n\n{text}"
            if not isinstance(prompt.content, str):
                content = [*prompt.content, {"type": "text", "text": text}]
            return request.override(system_message=prompt.model_copy(update={"content": content}))
        return request

    def _report_turn(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> None:
        with FailuresCounted(self.tracker, "turn"):
            config = get_config()
            if self._listener(config) is not None:
                return
            run, metadata = self._run(config, request.state), config.get("metadata") or {}
            for message in response.result:
                if isinstance(message, AIMessage) and message.tool_calls:
                    report_turn(run, str(metadata.get("langgraph_node") or "model"), message, scope=scope_of(metadata))

    def _report_answers_of_people(self, request: ModelRequest[Any]) -> None:
        """Report calls that `HumanInTheLoopMiddleware` answered instead of the tool: nothing else sees them."""
        with FailuresCounted(self.tracker, "answers of people"):
            messages = request.messages
            numbers = range(len(messages) - 1, -1, -1)  # the last one is near the end, however long the run is
            last = next((n for n in numbers if isinstance(messages[n], AIMessage)), 0)
            answers = {message.tool_call_id: message for message in messages[last:] if _is_by_people(message)}
            requesting = messages[last]
            if not answers or not isinstance(requesting, AIMessage):
                return
            config = get_config()
            run = self._run(config, request.state)
            reported = self._reported.setdefault(run, set())
            for call in requesting.tool_calls:
                message = answers.get(str(call["id"]))
                if message is not None and message.tool_call_id not in reported:
                    reported.add(message.tool_call_id)
                    self._of(run, dict(call), request.state, config).not_made("rejected", message.content)

    # Calls of tools

    @override
    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Make a call if the guard permits it, or return what the model reads instead."""
        return run_inline(self._guarded(request, partial(inline, handler), inline))

    @override
    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """Do the same as `wrap_tool_call`; a thread waits for the stores."""
        return await self._guarded(request, handler, asyncio.to_thread)

    async def _guarded(self, request: ToolCallRequest, handler: _Handler, in_thread: Callable[..., Any]) -> Result:
        call = self._call(request)
        enforcer = None if request.tool is None else self._enforcer
        if enforcer is None:
            return await (handler(request) if call is None else self._made(call, request, handler))
        if call is None:  # it cannot be recorded
            resolution = enforcer.undecided(request.tool_call["name"], request.tool_call["args"])
            return await handler(request) if resolution.permits else _message(request, resolution)
        resolution = await in_thread(
            enforcer.resolve_call,
            call.run,
            call.agent,
            call.tool,
            call.arguments,
            call_id=call.call_id,
            scope=call.scope,
            plan=call.plan,
        )
        given = _interrupted(call, resolution)
        if resolution.waits:
            resolution = await in_thread(enforcer.answer, resolution, given)
        if not resolution.permits:
            call.not_made(resolution.status or "rejected", resolution.content)
            return _message(request, resolution)
        if resolution.notice is not None:
            call.run.edited(call.call_id, resolution.arguments, scope=call.scope)
            request = request.override(tool_call={**request.tool_call, "args": resolution.arguments})
        result = await self._made(call, request, handler)
        if (
            resolution.keeps
            and isinstance(result, ToolMessage)
            and result.status != "error"
            and result.artifact is None
        ):
            await in_thread(enforcer.keep, resolution, result.content)
        if resolution.notice is not None:
            return with_notice(result, call.call_id, resolution.notice)
        return result

    def _call(self, request: ToolCallRequest) -> _ToolCall | None:
        with FailuresCounted(self.tracker, "call"):
            config, state = request.runtime.config, request.state
            call = self._of(self._run(config, state), request.tool_call, state, config)
            edited = (state.get(_EDITED_BY_PEOPLE) or {}).get(call.call_id)
            if edited is not None:
                call.run.edited(call.call_id, edited["args"], scope=call.scope)
            return call
        return None

    def _of(
        self, run: TrackedRun, call: Mapping[str, Any], state: Mapping[str, Any], config: Mapping[str, Any]
    ) -> _ToolCall:
        agent = text_of((config.get("metadata") or {}).get("lc_agent_name")) or self._agent
        return _ToolCall(run, str(call["id"]), agent, call["name"], call["args"], _plan_of(state), config)

    async def _made(self, call: _ToolCall, request: ToolCallRequest, handler: _Handler) -> Result:
        """Make a call, and report how it ends."""
        run, call_id = call.run, call.call_id
        attempt = run.start(
            call_id,
            agent=call.agent,
            tool=call.tool,
            arguments=request.tool_call["args"],
            source=MIDDLEWARE,
            scope=call.scope,
        )

        def ended(status: Status, result: Any, error_type: str | None = None) -> None:
            run.end(call_id, attempt, status=status, result=result, error_type=error_type, source=MIDDLEWARE)

        try:
            result = await handler(request)
        except BaseException as error:
            waits = isinstance(error, GraphBubbleUp) or not isinstance(error, Exception)
            ended("interrupted" if waits else "error", error_text(error), type_name(error))
            raise
        answer = answer_in(result, call_id)
        if answer is None:
            ended("ok", result)
        elif _is_by_people(answer):
            ended("rejected", answer.content)
        elif answer.status != "error":
            ended("ok", answer.content)
        elif request.tool is None:
            ended("unknown_tool", answer.content)
        else:
            ended("error", answer.content, _error_type(request))
        return result


def _interrupted(call: _ToolCall, resolution: Resolution) -> InterruptAnswer | None:
    """Interrupt the graph at a question; return what it was resumed with when the node runs again.

    LangGraph knows what a node was resumed with by the order of its interrupts. So each execution of the node
    interrupts once for a question, whether or not it has been decided; a retry of the call does not.
    """
    review = resolution.review
    asked: set[str] = call.config.setdefault("configurable", {}).setdefault(_ASKED, set())
    if review is None or review.review_id in asked:
        return None
    given: InterruptAnswer | None = None
    try:
        question = interrupt_question(review, call.tool, trouble=resolution.trouble)
        given = interrupt(question, response_schema=accepted_answers(resolution))
    except GraphInterrupt:
        if resolution.waits:
            raise
    asked.add(review.review_id)
    return given


def _message(request: ToolCallRequest, resolution: Resolution) -> ToolMessage:
    """Return what the model reads instead of a result."""
    content = resolution.content
    return ToolMessage(
        content if isinstance(content, list) else as_content(content),
        name=request.tool_call["name"],
        tool_call_id=request.tool_call["id"],
        status="error" if resolution.is_error else "success",
    )


def _plan_of(state: Mapping[str, Any]) -> Plan | None:
    kept = _kept_plan(state)
    return None if kept is None else _read_plan(kept)


def _prompt_of(state: Mapping[str, Any], language: Language) -> str | None:
    kept = _kept_plan(state)
    return None if kept is None else _read_prompt(kept, language)


def _kept_plan(state: Mapping[str, Any]) -> str | None:
    kept = (state.get("agentmodel") or {}).get("plan")
    return json.dumps(kept) if isinstance(kept, dict) else kept  # version 0.1.0 kept a map


@lru_cache(maxsize=256)
def _read_plan(kept: str) -> Plan:
    """Return a plan that is kept in a state, which each turn and each call of a run reads."""
    return Plan.model_validate_json(kept)


@lru_cache(maxsize=256)
def _read_prompt(kept: str, language: Language) -> str | None:
    return prompt_of(_read_plan(kept), language=language)


def _is_by_people(message: Any) -> TypeGuard[ToolMessage]:
    return isinstance(message, ToolMessage) and message.additional_kwargs.get("lc_source") == _BY_PEOPLE


def _error_type(request: ToolCallRequest) -> str:
    """Return the name of the error of a failed call; a tool node reports refused arguments as an error message."""
    schema = None if request.tool is None else request.tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        try:
            schema.model_validate(request.tool_call["args"])
        except pydantic.ValidationError as error:
            return type(error).__qualname__
    return "_OTHER"
