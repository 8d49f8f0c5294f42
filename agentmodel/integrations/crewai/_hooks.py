"""Hooks that record the tool calls of agents of CrewAI and, with a guard, decide before each call.

    with Tracker(model, domain="cafes") as tracker:
        ours = AgentModelCrewHooks(tracker, guard=model.guard())
        with ours.session("t1", user="kim", request="find a café"):
            crew.kickoff()

CrewAI knows neither sessions nor users, and its hooks belong to the process. So a block says whose calls they are: what
runs outside of one is neither recorded nor decided about.

CrewAI cannot suspend a call. One that a person must decide about is blocked, and the model is told to try again later;
or the hook waits for the person.
"""

# CrewAI has an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import crewai.hooks as crewai_hooks
from crewai.events import crewai_event_bus
from crewai.events.event_bus import is_replaying
from crewai.events.types.tool_usage_events import (
    ToolFailureDetectedEvent,
    ToolUsageErrorEvent,
    ToolUsageFinishedEvent,
)
from crewai.tools.tool_failure import ToolFailure, ToolFailureReason

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.exceptions import AgentModelError, ValidationError
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.messages import last_request
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.integrations.crewai._calls import CURRENT, CrewCall, current_call
from agentmodel.suggest.guard import Guard, Resolution, as_content
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import canonical

__all__ = ["AgentModelCrewHooks"]

_BLOCKED = "Tool execution blocked by hook. Tool: "
"""How the result of a call begins that a hook refused."""

_NO_SUCH_TOOL = "don't exist"
"""Part of what CrewAI tells a model that asked, in text, for a tool that there is not."""

_FLUSH_SECONDS = 10.0  # that the end of a session waits for CrewAI's events
_CALL_SECONDS = 1.0  # that the decision about a call waits for those of the calls before it
_ASKED = 1000  # calls of a session that people were asked about, of which is known how many were made


class _Asked:
    """Which calls of a session people were asked about: CrewAI's calls have no ids, so equal ones are told by number.

    Attributes:
        lock: Held while a call is decided about: two equal ones at once are two questions.
    """

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self._calls: OrderedDict[str, tuple[int, datetime | None]] = OrderedDict()

    def number(self, key: str) -> tuple[int, datetime]:
        """Return the number of the call among equal ones, and since when the model asks for it."""
        ended, since = self._calls.get(key, (0, None))
        return ended + 1, since or datetime.now(UTC)

    def note(self, key: str, number: int, since: datetime, *, waits: bool) -> None:
        """Note that a person was asked about a call; if they have decided, the next equal call is another one."""
        self._calls[key] = (number - 1, since) if waits else (number, None)
        self._calls.move_to_end(key)
        if len(self._calls) > _ASKED:
            self._calls.popitem(last=False)


class _Session:
    """What runs in a block of `AgentModelCrewHooks.session`.

    Attributes:
        hooks: Whose block it is.
        run: The session in the history; None if it could not be opened.
        asked: What is known of the calls that people were asked about.
        calls: Calls that CrewAI is making, by the identity of their arguments.
        untold: Calls of which CrewAI did not tell yet how their tool ended.
        planned: Whether a plan was asked for.
        plan: The plan.
        seen: Agents whose revision was noted.
    """

    def __init__(self, hooks: AgentModelCrewHooks, run: TrackedRun | None, asked: _Asked) -> None:
        self.hooks, self.run, self.asked = hooks, run, asked
        self.calls: dict[int, CrewCall] = {}
        self.untold: set[CrewCall] = set()
        self.lock = ForkSafeLock()
        self.planned = False
        self.plan: Plan | None = None
        self.seen: set[int] = set()


_SESSION: ContextVar[_Session | None] = ContextVar("agentmodel_crewai", default=None)


class AgentModelCrewHooks:
    """Records every tool call of the agents of CrewAI in a `session`; with a guard, decides before each call.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        guard: Plans, and decides before each call: it puts a plan into the prompt, blocks a tool that is failing, asks
            a person, and returns cached results. None only records.
        wait: How long a call waits, in its thread, for the person who was asked. By default it does not wait: it is
            blocked, and an equal one after the decision is made as decided.

    Raises:
        ValidationError: ``tracker`` is not a `Tracker`, or ``wait`` is negative or needs a guard.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
    """

    def __init__(self, tracker: Tracker, *, guard: Guard | None = None, wait: timedelta = timedelta(0)) -> None:
        check_tracker(tracker)
        if wait < timedelta(0) or (wait and guard is None):
            rule = "must not be negative" if guard else "needs a guard, which asks a person: give guard=model.guard()"
            raise ValidationError("wait", wait, rule)
        self.tracker = tracker
        self._enforcer = None if guard is None else RunEnforcer(guard, tracker)
        self._wait = wait.total_seconds()
        self._asked: weakref.WeakKeyDictionary[TrackedRun, _Asked] = weakref.WeakKeyDictionary()
        _install()

    @contextmanager
    def session(
        self,
        session: str | None = None,
        *,
        user: str | None = None,
        request: str | None = None,
        category: str | None = None,
    ) -> Iterator[None]:
        """Record, and decide about, what CrewAI runs in this block, in threads and tasks that it starts there too.

            with ours.session("thread-7", user="ada", request="find a café"):
                crew.kickoff()

        An exception that leaves the block is the session's failure. It goes on in a later block of the same name.

        Args:
            session: Name of the session; a ``SESS…`` id of the history continues that one. None begins a new one.
            user: Name or ``USR…`` id of the user; None is the anonymous user.
            request: What the user asked for; None takes the description of the first task, or what an agent that runs
                without a crew was asked.
            category: The kind of request; None has it derived from the request.
        """
        _install()
        run: TrackedRun | None = None
        with FailuresCounted(self.tracker, "session"):
            name = id_or_none(session) or uuid.uuid4().hex
            run = self.tracker.run(name, user=user, request=request, category=category)
        with _LOCK:  # blocks of one session share it
            asked = _Asked() if run is None else self._asked.setdefault(run, _Asked())
        here = _Session(self, run, asked)
        token, succeeded = _SESSION.set(here), None
        try:
            yield
        except Exception:
            succeeded = False
            raise
        finally:
            _SESSION.reset(token)
            self._close(here, succeeded)

    def _close(self, session: _Session, succeeded: bool | None) -> None:
        with FailuresCounted(self.tracker, "end of a session"):
            crewai_event_bus.flush(timeout=_FLUSH_SECONDS)
            with session.lock:
                untold = list(session.untold)
            for call in untold:
                if call.over:  # CrewAI answered by itself: it refuses, in text, a call that is repeated at once
                    call.answered("blocked", call.result)
            if session.run is not None:
                session.run.finish(succeeded=succeeded)

    # Plan

    def before_model(self, session: _Session, context: Any) -> None:
        """Put the plan into the prompt of an agent; one inside of a tool does a part of what the plan is for."""
        if context.executor is None or session.run is None or current_call() is not None:
            return
        run = session.run
        request = getattr(context.task, "description", None) or last_request(context.messages)  # an agent without crew
        if run.request is None:
            run.request = request
        self._see(session, context)
        if self._enforcer is None:
            return
        with session.lock:
            if not session.planned:
                session.planned = True
                session.plan = self._enforcer.plan(run, request=run.request or request, category=run.category)
                run.follow(None if session.plan is None else session.plan.suggestion_id)
        text = prompt_of(session.plan)
        if text is not None:
            _put(text, context.messages)

    def _see(self, session: _Session, context: Any) -> None:
        """Note of which revision an agent is: its texts, its model and its tools."""
        agent = context.agent
        if agent is None or id(agent) in session.seen:
            return
        session.seen.add(id(agent))
        self.tracker.revisions.see(
            _role(agent),
            prompt=[agent.role, agent.goal, agent.backstory],
            model=getattr(context.llm, "model", None),
            tools=lambda: [[one.name, one.description] for one in agent.tools or ()],
        )

    # Calls

    def before_tool(self, session: _Session, context: Any) -> bool | None:
        """Decide about a call; False if it is not made."""
        with FailuresCounted(self.tracker, f"a call of {context.tool_name}"):
            return self._begun(session, context)
        enforcer = self._enforcer  # nothing could be decided
        return None if enforcer is None or enforcer.undecided(context.tool_name, None).permits else False

    def _begun(self, session: _Session, context: Any) -> bool | None:
        call = CrewCall(session.run, _role(context.agent), context.tool_name, context.tool_input, outer=current_call())
        session.calls[id(context.tool_input)] = call
        CURRENT.set(call)
        what = f"a call of {call.tool}"
        if context.tool is None:
            with FailuresCounted(self.tracker, what):
                call.answered("unknown_tool", None)
            return None
        if self._enforcer is not None:
            with session.lock:
                awaited = any(one.over for one in session.untold)
            if awaited:  # of a call that succeeded the result is cached first
                crewai_event_bus.flush(timeout=_CALL_SECONDS)
            call.resolution = resolution = self._resolved(session, call, self._enforcer)
            if not resolution.permits:
                with FailuresCounted(self.tracker, what):
                    call.answered(resolution.status or "rejected", resolution.content)
                return False
            if resolution.notice is not None:
                call.given.clear()
                call.given.update(resolution.arguments)
        with FailuresCounted(self.tracker, what):
            call.cached = _is_cached(context)
            if not call.cached:
                call.begin()
                with session.lock:
                    session.untold.add(call)
        return None

    def _resolved(self, session: _Session, call: CrewCall, enforcer: RunEnforcer) -> Resolution:
        """Return what happens to a call; wait for a person if the hooks do."""
        arguments = dict(call.given)
        resolution = enforcer.undecided(call.tool, arguments)
        with FailuresCounted(self.tracker, f"the decision about a call of {call.tool}"):
            if session.run is None:
                return resolution
            asked = session.asked
            key, until = canonical([call.agent, call.tool, arguments]), time.monotonic() + self._wait
            while True:
                with asked.lock:
                    number, since = asked.number(key)
                    resolution = enforcer.resolve_call(
                        session.run,
                        call.agent,
                        call.tool,
                        arguments,
                        call_id="crewai",
                        asked=(number, since),
                        equal_calls=True,
                        plan=session.plan,
                    )
                    if resolution.review is not None:
                        asked.note(key, number, since, waits=resolution.waits)
                if resolution.review is None or not resolution.waits or time.monotonic() >= until:
                    break
                try:
                    enforcer.guard.reviews.wait(resolution.review, timeout=until - time.monotonic())
                except AgentModelError:  # nobody decided in time, or the store is away
                    break
            if resolution.waits and resolution.review is not None:
                asked_text = f"{resolution.content} A person was asked: {resolution.review.review_id}."
                resolution = replace(resolution, content=asked_text)
        return resolution

    def after_tool(self, session: _Session, context: Any) -> str | None:
        """Note what a call returned; what the model reads in place of it, if that is something else."""
        call = session.calls.pop(id(context.tool_input), None)
        raw = context.raw_tool_result
        with FailuresCounted(self.tracker, f"a call of {context.tool_name}"):
            refused = isinstance(raw, str) and raw.startswith(_BLOCKED)
            if call is None or call.given is not context.tool_input:  # a hook before ours refused it
                call = CrewCall(session.run, _role(context.agent), context.tool_name, context.tool_input, outer=None)
                call.over = True
                call.answered("rejected", context.tool_result)
                return None
            call.over = True
            CURRENT.set(call)  # what CrewAI tells next is of this call, not of one inside its tool
            resolution = call.resolution
            if resolution is not None and not resolution.permits:
                return as_content(resolution.content)
            if refused:  # by a hook after ours
                call.answered("rejected", context.tool_result)
            elif call.cached:
                call.answered("cache_hit", raw)
            elif call.returned(raw):
                self._succeeded(session, call)
            if resolution is not None and resolution.notice is not None and not refused:
                return f"{resolution.notice}\n{context.tool_result}"
        return None

    def _succeeded(self, session: _Session, call: CrewCall) -> None:
        """Cache the result of a call that is known to have succeeded, if the guard allows it."""
        with session.lock:
            session.untold.discard(call)
        if self._enforcer is not None and call.resolution is not None:
            self._enforcer.keep(call.resolution, call.result)

    # What CrewAI's events add

    def told(self, session: _Session, event: Any) -> None:
        """Record how an attempt of a call ended."""
        call = current_call(event.tool_name)
        if call is None:
            return
        number = max(1, event.run_attempts)  # 0 where CrewAI does not try again
        if isinstance(event, ToolUsageErrorEvent):
            call.raised(number, event.error, event.timestamp)
        else:
            failure = event.failure or (call.result if isinstance(call.result, ToolFailure) else None)
            if call.finished(number, failure, event.timestamp):
                self._succeeded(session, call)
        if call.settled:
            with session.lock:
                session.untold.discard(call)

    def told_of_none(self, session: _Session, event: Any) -> None:
        """Record a call that came to no hook: of no such tool, or whose arguments could not be read."""
        failure = event.failure
        if failure.reason is not ToolFailureReason.INVALID_INPUT or not isinstance(event.tool_args, str):
            return
        call = CrewCall(session.run, _role(event.agent), event.tool_name, _arguments(event.tool_args), outer=None)
        if _NO_SUCH_TOOL in failure.message:
            call.answered("unknown_tool", failure.message)
        else:
            call.answered("error", failure.message, error_type="ValidationError")


# The hooks and handlers of the process: they find the block that they run in.


def _install() -> None:
    """Register the hooks and handlers, if CrewAI does not have them: an application may have cleared them."""
    with _LOCK:
        for point, hook in _HOOKS.items():
            if hook not in crewai_hooks.get_hooks(point):
                crewai_hooks.register_hook(point, hook)
        for kind, handler in _HANDLERS.items():
            crewai_event_bus.on(kind)(handler)


def _before_model(context: Any) -> None:
    session = _SESSION.get()
    if session is not None:
        with FailuresCounted(session.hooks.tracker, "plan"):
            session.hooks.before_model(session, context)


def _before_tool(context: Any) -> bool | None:
    session = _SESSION.get()
    return None if session is None else session.hooks.before_tool(session, context)


def _after_tool(context: Any) -> str | None:
    session = _SESSION.get()
    return None if session is None else session.hooks.after_tool(session, context)


def _handler(act: Callable[[AgentModelCrewHooks, _Session, Any], None]) -> Callable[[Any, Any], None]:
    def handle(source: Any, event: Any) -> None:  # noqa: ARG001  # CrewAI hands the run's state to a third parameter
        session = _SESSION.get()
        if session is not None and not is_replaying():
            with FailuresCounted(session.hooks.tracker, f"a call of {event.tool_name}"):
                act(session.hooks, session, event)

    return handle


_LOCK = ForkSafeLock()
_HOOKS: dict[Any, Callable[[Any], Any]] = {
    crewai_hooks.InterceptionPoint.PRE_MODEL_CALL: _before_model,
    crewai_hooks.InterceptionPoint.PRE_TOOL_CALL: _before_tool,
    crewai_hooks.InterceptionPoint.POST_TOOL_CALL: _after_tool,
}
_HANDLERS: dict[Any, Callable[[Any, Any], None]] = {
    ToolUsageErrorEvent: _handler(AgentModelCrewHooks.told),
    ToolUsageFinishedEvent: _handler(AgentModelCrewHooks.told),
    ToolFailureDetectedEvent: _handler(AgentModelCrewHooks.told_of_none),
}


def _role(agent: Any) -> str:
    """Return the name of an agent: its role, without the line breaks of YAML."""
    return " ".join(str(getattr(agent, "role", None) or "agent").split())


def _put(text: str, messages: list[Any]) -> None:
    """Put a plan after the agent's own instructions; CrewAI keeps the messages of a run, so once."""
    if any(text in str(message.get("content")) for message in messages):
        return
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        first["content"] = f"{first['content']}\n\n{text}"
    else:
        messages.insert(0, {"role": "system", "content": text})


def _is_cached(context: Any) -> bool:
    """Return whether CrewAI's own cache answers a call, so that its tool does not run; CrewAI does not tell."""
    cache = getattr(getattr(context.agent, "tools_handler", None), "cache", None)
    if cache is None:
        return False
    try:
        arguments = json.dumps(context.tool_input) if context.tool_input else ""
    except (TypeError, ValueError, RecursionError):  # no JSON: CrewAI caches no call with these
        return False
    return cache.read(tool=context.tool_name, input=arguments) is not None


def _arguments(text: str) -> Any:
    """Return arguments that a model wrote; text that is no JSON stays as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
