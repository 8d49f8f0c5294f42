"""A plugin that records the tool calls of agents of Google ADK and, with a guard, decides before each call.

    with Tracker(model, domain="cafes") as tracker:
        ours = AgentModelPlugin(tracker, guard=model.guard())
        app = App(name="cafes", root_agent=agent, plugins=[ours])
        runner = Runner(app=app, session_service=…)

The session and the user are ADK's own; the session's state may have a ``category`` and a ``request``. Put the plugin
first: the first one that answers a call ends the chain, and the others do not hear of it. Without a guard the plugin
only listens.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from typing_extensions import override

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import copy_or_text, error_text, type_name
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import Conflict
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.suggest.guard import Guard, Resolution, interrupt_question
from agentmodel.suggest.plan import Plan

__all__ = ["AgentModelPlugin"]

_INVALID = "Invoking `"
"""How ADK's answer begins in place of a tool that was given wrong arguments; it raises no error for that."""

_REJECTED = {"error": "This tool call is rejected."}
"""What ADK answers in place of a tool of its own confirmation, to which a person said no."""

_INTERNAL = frozenset({"adk_request_confirmation", "adk_request_credential", "adk_request_input", "transfer_to_agent"})
"""Tools by which ADK asks a person or passes the conversation on; they are no calls."""

_INVOCATIONS = 1000  # whose state is kept; ADK does not tell the end of a run that was cancelled


@dataclass(slots=True)
class _OpenCall:
    """A call whose end was not told yet.

    Attributes:
        arguments: As the tool gets them.
        at: When it began.
        resolution: What the guard decided; None without a guard.
        settled: Whether the plugin answered it and recorded that, or asked a person.
        around: The run whose tool was running when it began.
    """

    arguments: Any
    at: datetime
    resolution: Resolution | None = None
    settled: bool = False
    around: _Invocation | None = None


@dataclass(slots=True, eq=False)
class _Invocation:
    """One run of an agent.

    Attributes:
        tracker: Whose it is.
        run: The session that it belongs to.
        nested: Whether another run's tool runs the agent.
        calls: Its calls whose end was not told yet, by agent, tool and id.
    """

    tracker: Tracker
    run: TrackedRun
    nested: bool
    calls: dict[tuple[str, str, str], _OpenCall] = field(default_factory=dict)


_CALLING: ContextVar[_Invocation | None] = ContextVar("agentmodel_google_adk", default=None)
"""The run whose tool is running; the run of an agent inside a tool belongs to it."""


class AgentModelPlugin(BasePlugin):  # type: ignore[misc,unused-ignore]  # Any where ADK is not installed
    """Records every tool call of the agents of a runner of Google ADK; with a guard, decides before each call.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        guard: Plans, and decides before each call: it puts a plan into the instructions, blocks a tool that is failing,
            asks a person by a tool confirmation, and returns cached results. None only records.

    Raises:
        ValidationError: ``tracker`` is not a `Tracker`.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
    """

    def __init__(self, tracker: Tracker, *, guard: Guard | None = None) -> None:
        check_tracker(tracker)
        super().__init__(name="agentmodel")
        self.tracker = tracker
        self._enforcer = None if guard is None else RunEnforcer(guard, tracker)
        self._lock = ForkSafeLock()
        self._invocations: OrderedDict[str, _Invocation] = OrderedDict()
        self._plans: weakref.WeakKeyDictionary[TrackedRun, Plan] = weakref.WeakKeyDictionary()

    # Runs

    def _invocation(self, invocation_id: str) -> _Invocation | None:
        with self._lock:
            return self._invocations.get(invocation_id)

    @override
    async def before_run_callback(self, *, invocation_context: Any) -> None:
        """Find the session of a run, and plan for a new request."""
        with FailuresCounted(self.tracker, "run"):
            invocation = self._opened(invocation_context)
            with self._lock:
                self._invocations[invocation_context.invocation_id] = invocation
                if len(self._invocations) > _INVOCATIONS:
                    self._invocations.popitem(last=False)
            request = _request_of(invocation_context)
            if self._enforcer is None or invocation.nested or request is None or _goes_on(invocation_context):
                return  # an agent inside a tool does a part of what the plan is for
            run = invocation.run
            plan = await asyncio.to_thread(self._enforcer.plan, run, request=request, category=run.category)
            self._plans.pop(run, None)
            if plan is not None:
                self._plans[run] = plan
                run.follow(plan.suggestion_id)

    def _opened(self, context: Any) -> _Invocation:
        outer = _CALLING.get()
        if outer is not None and outer.tracker is self.tracker:
            return _Invocation(self.tracker, outer.run, nested=True)
        session = context.session
        run = self.tracker.run(
            session.id, user=session.user_id, request=_request_of(context), category=_told(session.state, "category")
        )
        return _Invocation(self.tracker, run, nested=False)

    @override
    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """Record the end of a run."""
        self._over(invocation_context, None)

    @override
    async def on_run_error_callback(self, *, invocation_context: Any, error: BaseException) -> None:
        """Record that a run ended by an error."""
        self._over(invocation_context, None if isinstance(error, asyncio.CancelledError) else False)

    def _over(self, context: Any, succeeded: bool | None) -> None:
        with FailuresCounted(self.tracker, "end of a run"):
            with self._lock:
                invocation = self._invocations.pop(context.invocation_id, None)
            if invocation is None:
                return
            for place, call in invocation.calls.items():
                if not call.settled:  # it ended with the run
                    _record(invocation, place, call, status="interrupted")
            if not invocation.nested:
                invocation.run.finish(succeeded=succeeded)

    # Turns of the model

    @override
    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """Note of which revision an agent is."""
        with FailuresCounted(self.tracker, "revision"):
            self.tracker.revisions.see(
                agent.name,
                prompt=getattr(agent, "instruction", None),
                model=getattr(getattr(agent, "model", None), "model", getattr(agent, "model", None)),
                tools=lambda: [_described(tool) for tool in getattr(agent, "tools", ())],
            )

    @override
    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Put the plan after the instructions, for this request alone."""
        with FailuresCounted(self.tracker, "plan"):
            invocation = self._invocation(callback_context.invocation_id)
            if invocation is not None and not invocation.nested:
                text = prompt_of(self._plans.get(invocation.run))
                if text is not None:
                    llm_request.append_instructions([text])

    @override
    async def on_event_callback(self, *, invocation_context: Any, event: Any) -> None:
        """Report which calls the model asks for, in its order, and their tokens."""
        with FailuresCounted(self.tracker, "turn"):
            invocation = self._invocation(invocation_context.invocation_id)
            calls = [call.id for call in event.get_function_calls() if call.id and call.name not in _INTERNAL]
            if invocation is None or event.partial or not calls:
                return
            usage = event.usage_metadata
            made, thought = getattr(usage, "candidates_token_count", None), getattr(usage, "thoughts_token_count", None)
            invocation.run.turn(
                "model",
                calls=calls,
                input_tokens=getattr(usage, "prompt_token_count", None),
                output_tokens=made if made is None or thought is None else made + thought,
                cached_tokens=getattr(usage, "cached_content_token_count", None),
                reasoning_tokens=thought,
                model_name=event.model_version,
                scope=event.author,
            )

    # Calls

    @override
    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Decide about a call; without a guard, note that it begins."""
        with FailuresCounted(self.tracker, f"a call of {tool.name}"):
            invocation = self._invocation(tool_context.invocation_id)
            if invocation is not None and tool.name not in _INTERNAL:
                place = _place(tool, tool_context)
                call = _OpenCall(copy_or_text(tool_args), datetime.now(UTC), around=_CALLING.get())
                invocation.calls[place] = call
                _CALLING.set(invocation)
                if _is_unknown(tool):
                    return None
                return await self._decided(invocation, place, call, tool_args, context=tool_context)
        return self._undecided(tool, tool_args, tool_context)

    def _undecided(self, tool: BaseTool, tool_args: dict[str, Any], context: Any) -> dict[str, Any] | None:
        """Return what the model reads of a call about which nothing could be decided; None if it is made."""
        if self._enforcer is None or tool.name in _INTERNAL or _is_unknown(tool):
            return None
        resolution = self._enforcer.undecided(tool.name, tool_args)
        if resolution.permits:
            return None
        with FailuresCounted(self.tracker, f"a call of {tool.name}"):
            invocation, place = self._invocation(context.invocation_id), _place(tool, context)
            call = None if invocation is None else invocation.calls.get(place)
            if invocation is not None and call is not None:
                call.settled = True
                _record(invocation, place, call, status="blocked", result=resolution.content)
        return {"error": resolution.content}

    async def _decided(
        self,
        invocation: _Invocation,
        place: tuple[str, str, str],
        call: _OpenCall,
        tool_args: dict[str, Any],
        *,
        context: Any,
    ) -> dict[str, Any] | None:
        """Return what the model reads in place of a result; None if the call is made."""
        tool, enforcer = place[1], self._enforcer
        if enforcer is None:
            return None
        call.resolution = resolution = await self._resolved(invocation, tool, tool_args, context, enforcer)
        if resolution.permits:
            if resolution.notice is not None:
                tool_args.clear()
                tool_args.update(resolution.arguments)
            call.arguments, call.at = copy_or_text(resolution.arguments), datetime.now(UTC)
            return None
        call.settled = True
        confirmation, content = context.tool_confirmation, resolution.content
        if resolution.waits and resolution.review is not None and confirmation is None:
            question = interrupt_question(resolution.review, tool, trouble=resolution.trouble)
            context.request_confirmation(hint=question["question"], payload=question)
            context.actions.skip_summarization = True
            return {"status": content}
        if resolution.waits:  # ADK asks once about a call: nobody decided, or a person said no by ADK's own means
            await self._withdraw(enforcer, resolution)
            if confirmation is not None and not confirmation.confirmed and not resolution.trouble:
                content = f"The call of {tool} was rejected."
                _record(invocation, place, call, status="rejected", result=content)
                return {"error": content}
        _record(invocation, place, call, status=resolution.status or "rejected", result=content)
        return {"error": content} if resolution.is_error else _as_answer(content)

    async def _resolved(
        self, invocation: _Invocation, tool: str, arguments: Any, context: Any, enforcer: RunEnforcer
    ) -> Resolution:
        """Return what happens to a call; the payload of a confirmation may be what a person decided."""
        resolution = enforcer.undecided(tool, arguments)
        with FailuresCounted(self.tracker, f"the decision about a call of {tool}"):
            resolution = await asyncio.to_thread(
                enforcer.resolve_call,
                invocation.run,
                context.agent_name,
                tool,
                dict(arguments),  # it is cleared where a person edits it
                call_id=context.function_call_id,
                scope=context.agent_name,
                plan=self._plans.get(invocation.run),
            )
            given = getattr(context.tool_confirmation, "payload", None)
            if resolution.waits and isinstance(given, dict) and "decision" in given:
                resolution = await asyncio.to_thread(enforcer.answer, resolution, given)
        return resolution

    async def _withdraw(self, enforcer: RunEnforcer, resolution: Resolution) -> None:
        """Withdraw a question that waits while the run goes on, so that nobody answers it in vain."""
        with FailuresCounted(self.tracker, "the question about a denied call"):
            try:
                if resolution.review is not None:
                    await asyncio.to_thread(enforcer.guard.reviews.cancel, resolution.review, "the application")
            except Conflict:
                return  # it was answered meanwhile

    @override
    async def after_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any, result: Any
    ) -> dict[str, Any] | None:
        """Record how a call ended, and cache its result if the guard allows it."""
        with FailuresCounted(self.tracker, f"a call of {tool.name}"):
            invocation, place = self._invocation(tool_context.invocation_id), _place(tool, tool_context)
            call = None if invocation is None else self._closed(invocation, place)
            if invocation is None or call is None or call.settled:
                return None
            actions, call_id = tool_context.actions, tool_context.function_call_id
            if call_id in actions.requested_tool_confirmations or call_id in actions.requested_auth_configs:
                return None  # the tool itself asks a person, and is called again
            if tool_context.tool_confirmation is not None and result == _REJECTED:
                _record(invocation, place, call, status="rejected", result=result["error"])
                return None
            notice = None if call.resolution is None else call.resolution.notice
            failed = _failure_of(result)
            if failed is not None:
                told = result["error"] if result.keys() == {"error"} else result
                _record(invocation, place, call, status="error", result=told, error_type=failed)
            else:
                _record(invocation, place, call, status="ok" if notice is None else "edited", result=result)
            if self._enforcer is not None and call.resolution is not None:
                if failed is None and call.resolution.keeps:
                    await asyncio.to_thread(self._enforcer.keep, call.resolution, result)
                return None if notice is None else {"note": notice, **_as_answer(result)}
        return None

    @override
    async def on_tool_error_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any, error: BaseException
    ) -> None:
        """Record that a call failed, was cancelled, or that there is no such tool."""
        with FailuresCounted(self.tracker, f"a call of {tool.name}"):
            invocation, place = self._invocation(tool_context.invocation_id), _place(tool, tool_context)
            if invocation is None or tool.name in _INTERNAL:
                return
            call = self._closed(invocation, place) or _OpenCall(copy_or_text(tool_args), datetime.now(UTC))
            if isinstance(error, asyncio.CancelledError):
                _record(invocation, place, call, status="interrupted")
            elif _is_unknown(tool):
                _record(invocation, place, call, status="unknown_tool", result=error_text(error))
            else:
                _record(invocation, place, call, status="error", result=error_text(error), error_type=type_name(error))

    @staticmethod
    def _closed(invocation: _Invocation, place: tuple[str, str, str]) -> _OpenCall | None:
        """Return a call that is over; what runs next is not inside its tool."""
        call = invocation.calls.pop(place, None)
        if call is not None:
            _CALLING.set(call.around)
        return call


def _record(
    invocation: _Invocation, place: tuple[str, str, str], call: _OpenCall, *, status: Status, **more: Any
) -> None:
    """Report a call that is over."""
    agent, tool, call_id = place
    arguments, began = call.arguments, call.at
    invocation.run.call(
        call_id, agent=agent, tool=tool, status=status, arguments=arguments, began=began, scope=agent, **more
    )


def _place(tool: BaseTool, context: Any) -> tuple[str, str, str]:
    """Return the agent, the tool and the id of a call."""
    return context.agent_name, tool.name, context.function_call_id or ""


def _is_unknown(tool: BaseTool) -> bool:
    """Return whether there is no such tool: ADK then shows one that is nothing but a name."""
    return type(tool) is BaseTool


def _failure_of(result: Any) -> str | None:
    """Return the type of the error that a result tells; None if it tells none.

    ADK's tools tell an error by ``error``, as its own telemetry reads it, or by ``status``, as its documentation has it
    for functions; MCP does by ``isError``.
    """
    if not isinstance(result, dict):
        return None
    if str(result.get("error")).startswith(_INVALID):
        return "ValidationError"
    told = result.get("error") or result.get("status") == "error"
    return "tool_error" if told or True in (result.get("isError"), result.get("is_error")) else None


def _as_answer(result: Any) -> dict[str, Any]:
    """Return a result as ADK gives it to the model."""
    return result if isinstance(result, dict) else {"result": result}


def _told(state: Any, name: str) -> str | None:
    value = state.get(name)
    return value if isinstance(value, str) and value else None


def _request_of(context: Any) -> str | None:
    """Return what the user asked for: the text of the message; None for an answer to a question."""
    parts: Iterable[Any] = getattr(context.user_content, "parts", None) or ()
    text = "\n".join(part.text for part in parts if part.text and not part.thought).strip()
    return (_told(context.session.state, "request") or text) if text else None


def _goes_on(context: Any) -> bool:
    """Return whether a run continues one that waited for a person: its message is then still the first one's."""
    run = context.invocation_id
    return any(event.invocation_id == run and event.author != "user" for event in context.session.events)


def _described(tool: Any) -> Any:
    """Return the name and description of a tool, or of a function that becomes one."""
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
    return [name or type_name(tool), getattr(tool, "description", None) or getattr(tool, "__doc__", None)]
