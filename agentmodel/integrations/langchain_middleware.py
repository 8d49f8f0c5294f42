"""An agent middleware that acts: the plan goes into the prompt, and a guard decides before each call of a tool.

    guard = model.guard(review={"pay"}, domain="cafes")
    agent = create_agent(yours, tools, middleware=[AgentModelMiddleware(tracker, guard)], checkpointer=saver)
    agent.invoke({"messages": [...]}, config)["__interrupt__"]  # the question about a call of pay
    agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), config)

A tool that fails now is not called, and the model reads what works instead; a call that a person must see first waits
in an interrupt; an answer that is known is given without the call. It records what it sees, alone or beside the
callback handler of the same tracker, which sees each attempt: what both tell of a call is one execution.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
import weakref
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypeAlias, TypeGuard, cast

import pydantic
from typing_extensions import override

from agentmodel.dynamo.models import Review, Status
from agentmodel.exceptions import Conflict, MissingExtraError
from agentmodel.integrations._calls import Run, Tracker, check_tracker
from agentmodel.suggest.answers import Answer
from agentmodel.suggest.guard import Blocked, Decided, Go, Guard, Known
from agentmodel.suggest.plan import Language, Plan

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState
    from langchain.agents.middleware.types import ModelRequest, ModelResponse, PrivateStateAttr
    from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
    from langgraph.config import get_config
    from langgraph.errors import GraphBubbleUp, GraphInterrupt
    from langgraph.prebuilt.tool_node import ToolCallRequest
    from langgraph.runtime import Runtime
    from langgraph.types import Command, interrupt

    from agentmodel.integrations._langchain import MIDDLEWARE, last_request, tell_turn, text_of
    from agentmodel.integrations._langchain_review import ReviewAnswer, answers, question, refusal, with_notice
    from agentmodel.integrations.langchain import AgentModelCallback
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain", "the LangChain agent middleware", error.name) from error

__all__ = ["AgentModelMiddleware", "AgentModelState", "ReviewAnswer"]

_ASKED = "__agentmodel_asked"  # in the config of a node's execution: the questions that it has asked
_BY_PEOPLE = "hitl_interrupt_decision"  # how HumanInTheLoopMiddleware marks what people said in place of a tool
_EDITED_BY_PEOPLE = "hitl_edited_tool_calls"  # where it keeps their arguments

Result: TypeAlias = "ToolMessage | Command[Any]"
_Flow: TypeAlias = "Generator[Callable[[], Any] | ToolCallRequest, Any, Result]"
"""A call in steps, for threads and asyncio alike: what waits for stores, and requests to make."""


class AgentModelState(AgentState[Any]):
    """What the middleware keeps in the graph's state.

    Attributes:
        agentmodel: The session and the plan of this run.
    """

    agentmodel: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a tool, and whose it is."""

    run: Run
    call_id: str
    agent: str
    tool: str
    arguments: Any
    plan: Plan | None
    config: Any

    def refused(self, status: Status, content: Any, *, failed: bool = True) -> ToolMessage:
        """Tell of a call that is not made; what the model reads in place of its result."""
        self.run.call(
            self.call_id,
            agent=self.agent,
            tool=self.tool,
            arguments=self.arguments,
            status=status,
            result=content,
            source=MIDDLEWARE,
        )
        text = content if isinstance(content, str | list) else json.dumps(content, ensure_ascii=False)
        return ToolMessage(text, name=self.tool, tool_call_id=self.call_id, status="error" if failed else "success")


class AgentModelMiddleware(AgentMiddleware[AgentModelState, Any, Any]):
    """Advises and guards an agent, and records what it does.

    The first middleware of an agent is the outermost: put this one after `HumanInTheLoopMiddleware` and before
    `ToolRetryMiddleware`.

    Args:
        tracker: What writes; its ``domain`` is the agents' domain.
        guard: What plans, and decides before each call; made by `AgentModel.guard`. None only records.
        agent: Name of agents that have none (``create_agent(name=…)`` gives one).
        language: Of the plan in the prompt.

    Attributes:
        tracker: The same; its ``errors`` counts what was not recorded or not advised.
    """

    state_schema = AgentModelState

    def __init__(
        self, tracker: Tracker, guard: Guard | None = None, *, agent: str = "agent", language: Language = "en"
    ) -> None:
        super().__init__()
        check_tracker(tracker)
        self.tracker = tracker
        self._guard = guard
        self._agent = agent
        self._language: Language = language
        self._said: weakref.WeakKeyDictionary[Run, set[str]] = weakref.WeakKeyDictionary()

    # The run

    def _run(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> Run:
        """The run of a config: that of the callback handler, if there is one, or that of the thread."""
        told = config.get("metadata") or {}
        parent = getattr(config.get("callbacks"), "parent_run_id", None)
        listener = self._listener(config)
        known = None if listener is None or parent is None else listener.run_of(parent)
        if known is not None:
            return known
        kept = (state.get("agentmodel") or {}).get("session")
        return self.tracker.run(
            str(told.get("thread_id") or kept or parent or uuid.uuid4().hex),
            user=text_of(told.get("user_id")),
            request=text_of(told.get("request")) or last_request(state),
            category=text_of(told.get("category")),
        )

    def _listener(self, config: Mapping[str, Any]) -> AgentModelCallback | None:
        """The callback handler that listens to the same run."""
        for each in getattr(config.get("callbacks"), "handlers", ()):
            if isinstance(each, AgentModelCallback) and each.tracker is self.tracker:
                return each
        return None

    @override
    def before_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Plan for a new request; a run that is resumed does not come here, and keeps its plan."""
        return self._begun(state, get_config())

    @override
    async def abefore_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> dict[str, Any]:
        """As `before_agent`; the stores are asked in a thread."""
        return await asyncio.to_thread(self._begun, state, get_config())

    def _begun(self, state: AgentModelState, config: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        try:
            run = self._run(config, state)
            kept["session"] = run.session
            told = config.get("metadata") or {}
            plan = None
            if self._guard is not None:
                plan = self._guard.plan(
                    run.user_id,
                    request=text_of(told.get("request")) or last_request(state),
                    category=text_of(told.get("category")),
                    domain_id=run.domain_id,
                )
            if plan is not None:
                run.follow(plan.suggestion_id)
                kept["plan"] = plan.model_dump(mode="json")
        except Exception:  # noqa: BLE001  # an agent works without a plan; it is counted
            self.tracker.failed("plan")
        return {"agentmodel": kept}

    @override
    def after_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> None:
        """End the run, unless the callback handler does."""
        try:
            config = get_config()
            if self._listener(config) is None:
                self._run(config, state).finish()
        except Exception:  # noqa: BLE001  # what fails in recording is never the agent's
            self.tracker.failed("end of the run")

    @override
    async def aafter_agent(self, state: AgentModelState, runtime: Runtime[Any]) -> None:
        """As `after_agent`, which waits for nothing."""
        self.after_agent(state, runtime)

    # Turns of the model

    @override
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Give the model the plan, and tell what it asks for."""
        self._answered_by_people(request)
        response = handler(self._with_plan(request))
        self._turn(request, response)
        return response

    @override
    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """As `wrap_model_call`, which waits for no store."""
        self._answered_by_people(request)
        response = await handler(self._with_plan(request))
        self._turn(request, response)
        return response

    def _with_plan(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request with the plan after the system prompt: in each turn the same, and in no message of the state."""
        try:
            plan = _plan_of(request.state)
            if plan is None or (plan.source == "nothing known" and not plan.avoid):
                return request
            text, before = plan.as_prompt(language=self._language), request.system_message
            if before is None:
                return request.override(system_message=SystemMessage(text))
            content: Any = f"{before.content}\n\n{text}"
            if not isinstance(before.content, str):
                content = [*before.content, {"type": "text", "text": text}]
            return request.override(system_message=before.model_copy(update={"content": content}))
        except Exception:  # noqa: BLE001  # an agent works without a plan; it is counted
            self.tracker.failed("plan")
            return request

    def _turn(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> None:
        try:
            config = get_config()
            if self._listener(config) is not None:
                return
            run = self._run(config, request.state)
            for message in response.result:
                if isinstance(message, AIMessage) and message.tool_calls:
                    tell_turn(run, str((config.get("metadata") or {}).get("langgraph_node") or "model"), message)
        except Exception:  # noqa: BLE001  # what fails in recording is never the agent's
            self.tracker.failed("turn")

    def _answered_by_people(self, request: ModelRequest[Any]) -> None:
        """Tell of calls that `HumanInTheLoopMiddleware` answered in place of the tool: nobody else sees them."""
        try:
            messages = request.messages
            last = max((n for n, message in enumerate(messages) if isinstance(message, AIMessage)), default=0)
            said = {message.tool_call_id: message for message in messages[last:] if _is_by_people(message)}
            asking = messages[last]
            if not said or not isinstance(asking, AIMessage):
                return
            config = get_config()
            run = self._run(config, request.state)
            told = self._said.setdefault(run, set())
            for call in asking.tool_calls:
                message = said.get(str(call["id"]))
                if message is not None and message.tool_call_id not in told:
                    told.add(message.tool_call_id)
                    self._of(run, dict(call), request.state, config).refused("rejected", message.content)
        except Exception:  # noqa: BLE001  # what fails in recording is never the agent's
            self.tracker.failed("what people answered")

    # Calls of tools

    @override
    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Decide about a call, and make it if it may be made."""
        flow, given, failure = self._flow(request), None, None
        while True:
            try:
                step = flow.send(given) if failure is None else flow.throw(failure)
            except StopIteration as done:
                return cast("Result", done.value)
            given = failure = None
            try:
                given = handler(step) if isinstance(step, ToolCallRequest) else step()
            except BaseException as error:  # noqa: BLE001  # the flow raises it
                failure = error

    @override
    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """As `wrap_tool_call`; the stores are asked in a thread."""
        flow, given, failure = self._flow(request), None, None
        while True:
            try:
                step = flow.send(given) if failure is None else flow.throw(failure)
            except StopIteration as done:
                return cast("Result", done.value)
            given = failure = None
            try:
                given = await (handler(step) if isinstance(step, ToolCallRequest) else asyncio.to_thread(step))
            except BaseException as error:  # noqa: BLE001  # the flow raises it
                failure = error

    def _flow(self, request: ToolCallRequest) -> _Flow:
        call, guard = self._call(request), self._guard
        if call is None:
            name, call_id = request.tool_call["name"], request.tool_call["id"]
            unknown = Go() if guard is None or request.tool is None else guard.undecided(name)
            if isinstance(unknown, Blocked):
                return ToolMessage(unknown.message, name=name, tool_call_id=call_id, status="error")
            result: Result = yield request
            return result
        if guard is None or request.tool is None:
            return (yield from self._made(call, request))
        step: Decided = yield lambda: self._decided(guard, call)
        if isinstance(step, Blocked):
            return call.refused("blocked", step.message)
        if isinstance(step, Known):
            return call.refused("cache_hit", step.result, failed=False)
        if isinstance(step, Go):
            result = yield from self._made(call, request)
            if isinstance(result, ToolMessage) and result.status != "error" and result.artifact is None:
                yield lambda: self._keep(guard, step, result.content)
            return result
        return (yield from self._reviewed(guard, call, request, step.review))

    def _call(self, request: ToolCallRequest) -> _Call | None:
        try:
            config, state = request.runtime.config, request.state
            call = self._of(self._run(config, state), request.tool_call, state, config)
            edited = (state.get(_EDITED_BY_PEOPLE) or {}).get(call.call_id)
            if edited is not None:
                call.run.edited(call.call_id, edited["args"])
        except Exception:  # noqa: BLE001  # it is counted, and nothing is known of the call
            self.tracker.failed("call")
            return None
        return call

    def _of(self, run: Run, call: Mapping[str, Any], state: Mapping[str, Any], config: Mapping[str, Any]) -> _Call:
        agent = text_of((config.get("metadata") or {}).get("lc_agent_name")) or self._agent
        return _Call(run, str(call["id"]), agent, call["name"], call["args"], _plan_of(state), config)

    def _decided(self, guard: Guard, call: _Call) -> Decided:
        try:
            return guard.before(
                agent_id=call.run.agent_id(call.agent),
                tool_id=call.run.tool_id(call.tool),
                tool=call.tool,
                arguments=call.arguments,
                user_id=call.run.user_id,
                session_id=call.run.session_id,
                call_id=call.call_id,
                plan=call.plan,
            )
        except Exception:  # noqa: BLE001  # it is counted; the call is made unless a person may have to agree
            self.tracker.failed(f"advice on {call.tool}")
            return guard.undecided(call.tool)

    def _made(self, call: _Call, request: ToolCallRequest) -> _Flow:
        """Make a call, and tell how it ends."""
        run, call_id = call.run, call.call_id
        attempt = run.start(
            call_id, agent=call.agent, tool=call.tool, arguments=request.tool_call["args"], source=MIDDLEWARE
        )

        def ended(status: Status, result: Any, error_type: str | None = None) -> None:
            run.end(call_id, attempt, status=status, result=result, error_type=error_type, source=MIDDLEWARE)

        try:
            result: Result = yield request
        except BaseException as error:
            waits = isinstance(error, GraphBubbleUp) or not isinstance(error, Exception)
            ended("interrupted" if waits else "error", str(error), type(error).__qualname__)
            raise
        if not isinstance(result, ToolMessage):
            ended("ok", result)
        elif _is_by_people(result):
            ended("rejected", result.content)
        elif result.status != "error":
            ended("ok", result.content)
        elif request.tool is None:
            ended("unknown_tool", result.content)
        else:
            ended("error", result.content, _error_type(request))
        return result

    def _keep(self, guard: Guard, step: Go, content: Any) -> None:
        try:
            guard.after(step, content)
        except Exception:  # noqa: BLE001  # an answer that is not kept is asked for again
            self.tracker.failed("an answer to keep")

    # People

    def _reviewed(self, guard: Guard, call: _Call, request: ToolCallRequest, review: Review) -> _Flow:
        answer = yield from self._answer(guard, call, review)
        if answer is None:
            lost = (
                f"{call.tool} was not called: it is not known whether a person agreed. Go on without it, or try later."
            )
            return call.refused("blocked", lost)
        if not answer.permits:
            return call.refused(answer.call_status or "rejected", refusal(answer), failed=answer.decision != "respond")
        if answer.decision != "edit":
            return (yield from self._made(call, request))
        call.run.edited(call.call_id, answer.arguments)
        edited = request.override(tool_call={**request.tool_call, "args": answer.arguments})
        result = yield from self._made(call, edited)
        return result if not isinstance(result, ToolMessage) else with_notice(result, call.tool, answer)

    def _answer(
        self, guard: Guard, call: _Call, review: Review
    ) -> Generator[Callable[[], Answer | None], Answer | None, Answer | None]:
        """What a person decided; while nobody has, the graph is interrupted here, and the node runs again later.

        LangGraph knows what a node was resumed with by the order of its interrupts. So each execution of the node
        interrupts once for a question, whether or not it is answered by now; a retry of the call does not.
        """
        answer = yield lambda: self._looked_up(guard, call, review)
        asked: set[str] = call.config.setdefault("configurable", {}).setdefault(_ASKED, set())
        if review.review_id in asked:
            return answer
        given: ReviewAnswer | None = None
        try:
            given = interrupt(question(review, call.tool), response_schema=answers(review, answer))
        except GraphInterrupt:
            if answer is None:
                raise
        asked.add(review.review_id)
        if answer is None and given is not None:
            answer = yield lambda: self._put(guard, call, review, given)
        return answer

    def _looked_up(self, guard: Guard, call: _Call, review: Review) -> Answer | None:
        try:
            return guard.answer(review)
        except Exception:  # noqa: BLE001  # the question is asked again; it is counted
            self.tracker.failed(f"answer about {call.tool}")
            return None

    def _put(self, guard: Guard, call: _Call, review: Review, given: ReviewAnswer) -> Answer | None:
        """Put a decision into the reviews; None where that fails, and nothing is known."""
        try:
            with contextlib.suppress(Conflict):  # somebody came first, and theirs holds
                self.tracker.model.reviews.decide(
                    review,
                    given.decision or "reject",
                    given.by or "",
                    reason=given.reason,
                    arguments=given.arguments,
                    response=given.response,
                )
            return guard.answer(review)
        except Exception:  # noqa: BLE001  # what is not known to be permitted is not made
            self.tracker.failed(f"decision about {call.tool}")
            return None


def _plan_of(state: Mapping[str, Any]) -> Plan | None:
    kept = (state.get("agentmodel") or {}).get("plan")
    return None if kept is None else Plan.model_validate(kept)


def _is_by_people(message: Any) -> TypeGuard[ToolMessage]:
    return isinstance(message, ToolMessage) and message.additional_kwargs.get("lc_source") == _BY_PEOPLE


def _error_type(request: ToolCallRequest) -> str:
    """Why a tool said in its message that it failed; a tool node says so of arguments that its schema refuses."""
    schema = None if request.tool is None else request.tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        try:
            schema.model_validate(request.tool_call["args"])
        except pydantic.ValidationError as error:
            return type(error).__qualname__
    return "_OTHER"
