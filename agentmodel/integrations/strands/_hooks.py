"""A hook provider that records the tool calls of Strands agents and, with a guard, decides before each call.

    with Tracker(model, domain="cafes") as tracker:
        agent = Agent(model=…, tools=[…], name="finder", hooks=[AgentModelHooks(tracker, guard=model.guard())])
        agent("find a café", invocation_state={"user_id": "kim", "session_id": "t1"})

The invocation's state has the ``user_id``, ``session_id``, ``request`` and ``category``; the user may be in the agent's
own state, or ``user.id`` of its trace attributes, as well. Put the provider first among
the hooks, so that it sees what the others changed in a call. Without a guard it only listens.
"""

from __future__ import annotations

import copy
import sys
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeToolCallEvent,
    HookProvider,
    HookRegistry,
)
from typing_extensions import override

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.counts import Usage
from agentmodel._values.text import storable_text
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Status
from agentmodel.exceptions import ConfigurationError
from agentmodel.integrations._failures import count_failures
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.messages import content_text, last_request
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.integrations.strands._guard import GuardHooks, plain, text_of
from agentmodel.suggest.guard import Guard, Resolution

__all__ = ["AgentModelHooks"]

_listening: weakref.WeakKeyDictionary[HookRegistry, weakref.WeakSet[AgentModel]] = weakref.WeakKeyDictionary()
"""The installations that providers of an agent record for."""

_BEFORE = "v1:before_tool_call:"  # how Strands begins the ids of interrupts raised by a hook before a tool ran


def _user_of(agent: Any, state: Mapping[str, Any]) -> str | None:
    """Return the user of an invocation, from its state, the agent's state or the agent's trace attributes."""
    places = state.get("user_id"), agent.state.get("user_id"), agent.trace_attributes.get("user.id")
    return next((user for user in map(text_of, places) if user is not None), None)


@dataclass(frozen=True, slots=True)
class _Begun:
    run: TrackedRun
    agent: str
    tool: str
    arguments: Any
    at: datetime


class AgentModelHooks(HookProvider):
    """Records every attempt of every tool call of a Strands agent; with a guard, decides before each call.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        guard: Plans, and decides before each call: it puts a plan into the prompt, blocks a tool that is failing, asks
            a person by an interrupt, and returns cached results. None only records.

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded, planned or decided.
    """

    def __init__(self, tracker: Tracker, *, guard: Guard | None = None) -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self._guard = None if guard is None else GuardHooks(guard, tracker, run=self._run)
        self._lock = ForkSafeLock()
        self._sessions: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._requests: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
        self._asked: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._begun: weakref.WeakKeyDictionary[Any, dict[str, _Begun]] = weakref.WeakKeyDictionary()
        self._around: weakref.WeakKeyDictionary[Any, BaseException | None] = weakref.WeakKeyDictionary()

    @override
    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Listen to an agent.

        Raises:
            ConfigurationError: Another provider of the same installation listens to it already.
        """
        installations = _listening.setdefault(registry, weakref.WeakSet())
        if self.tracker.model in installations:
            raise ConfigurationError(
                "two providers of AgentModelHooks listen to one agent, which would record each call twice: give it one"
            )
        installations.add(self.tracker.model)
        registry.add_callback(BeforeInvocationEvent, self._invoked)
        registry.add_callback(AfterModelCallEvent, self._turn)
        registry.add_callback(BeforeToolCallEvent, self._before)
        registry.add_callback(AfterToolCallEvent, self._after)
        registry.add_callback(AfterInvocationEvent, self._done)
        if self._guard is not None:
            self._guard.register(registry)

    def _run(self, agent: Any, state: Mapping[str, Any]) -> TrackedRun:
        with self._lock:
            own = self._sessions.setdefault(agent, uuid.uuid4().hex)
            request = self._requests.get(agent)
        return self.tracker.run(
            id_or_none(text_of(state.get("session_id"))) or own,
            user=_user_of(agent, state),
            request=content_text(state.get("request")) or request,
            category=text_of(state.get("category")),
        )

    @count_failures
    def _invoked(self, event: BeforeInvocationEvent) -> None:
        agent: Any = event.agent
        self.tracker.revisions.see(
            agent.name,
            prompt=agent.system_prompt,
            model=agent.model.get_config(),
            tools=agent.tool_registry.get_all_tool_specs,
        )
        request = last_request(event.messages)
        with self._lock:
            self._around[event.agent] = sys.exception()
            if request is not None:  # an answer to an interrupt is not a request
                self._requests[event.agent] = request

    @count_failures
    def _turn(self, event: AfterModelCallEvent) -> None:
        """Report which calls the model requests, and its tokens; an answer that is discarded requests none."""
        if event.stop_response is None or event.retry:
            return
        message = event.stop_response.message
        calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        if not calls:
            return
        # Hooks edit a call in place, which changes the message too.
        asked = {call["toolUseId"]: copy.deepcopy(call["input"]) for call in calls}
        with self._lock:
            self._asked[event.agent] = asked
        usage: Mapping[str, Any] = dict((message.get("metadata") or {}).get("usage") or {})
        self._run(event.agent, event.invocation_state).turn(
            "model", calls=list(asked), **_usage(event.agent, usage), scope=event.agent.name
        )

    @count_failures
    def _before(self, event: BeforeToolCallEvent) -> None:
        call = event.tool_use
        run = self._run(event.agent, event.invocation_state)
        begun = _Begun(run, event.agent.name, call["name"], copy.deepcopy(call["input"]), datetime.now(UTC))
        with self._lock:
            self._begun.setdefault(event.agent, {})[call["toolUseId"]] = begun

    @count_failures
    def _after(self, event: AfterToolCallEvent) -> None:
        call = event.tool_use
        call_id = call["toolUseId"]
        with self._lock:
            begun = self._begun.get(event.agent, {}).pop(call_id, None)
            # The model's turn may have been in another process; the call was seen here before it was edited.
            asked = self._asked.get(event.agent, {}).get(call_id, call["input"] if begun is None else begun.arguments)
        resolution = None if self._guard is None else self._guard.resolution(event.agent, call)
        now = datetime.now(UTC)
        took = timedelta(seconds=event.duration or 0.0)  # a cancelled call took no time
        run = self._run(event.agent, event.invocation_state) if begun is None else begun.run
        status = _status(event, resolution, edited=asked != call["input"])
        run.call(
            call_id,
            agent=event.agent.name,
            tool=call["name"],
            status=status,
            arguments=storable_text(call["input"]),  # as it is now: it is written later
            result=plain(event.result["content"]),
            error_type=_error_type(event) if status == "error" else None,
            began=now - took,
            at=now,
            scope=event.agent.name,
        )
        notice = None if resolution is None else resolution.notice
        if notice is not None:  # the model's own message still has its arguments
            event.result = {**event.result, "content": [{"text": notice}, *event.result["content"]]}
        if self._guard is not None and not event.retry:
            self._guard.forget(event.agent, call)

    @count_failures
    def _done(self, event: AfterInvocationEvent) -> None:
        """End the run; a call that waits for a person is `interrupted` if its tool had begun."""
        # Strands passes no error, but calls this while one propagates; one that the caller handles is not the run's.
        error = sys.exception()
        with self._lock:
            left = self._begun.pop(event.agent, {})
            failed = isinstance(error, Exception) and error is not self._around.pop(event.agent, None)
        waits = event.result.interrupts if event.result is not None else None
        asked_before = {one.id[len(_BEFORE) :].rpartition(":")[0] for one in waits or () if one.id.startswith(_BEFORE)}
        for call_id, begun in left.items():
            if call_id not in asked_before:
                begun.run.call(
                    call_id,
                    agent=begun.agent,
                    tool=begun.tool,
                    status="interrupted",
                    arguments=begun.arguments,
                    began=begun.at,
                    scope=begun.agent,
                )
        if self._guard is not None:
            self._guard.forget(event.agent)
        self._run(event.agent, event.invocation_state).finish(succeeded=False if failed else None)


def _usage(agent: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tokens of a message, and the model. Some providers count cached tokens beside the input."""
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    usage = Usage(*map(told.get, names)).with_cached(told.get("totalTokens"))
    config = agent.model.get_config()
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "model_name": config.get("model_id") if isinstance(config, Mapping) else None,
    }


def _status(event: AfterToolCallEvent, resolution: Resolution | None, *, edited: bool) -> Status:
    instead = None if resolution is None or resolution.permits else resolution
    if event.cancel_message is not None:
        ours = instead is not None and event.cancel_message == instead.content
        return instead.status or "rejected" if instead is not None and ours else "rejected"
    if instead is not None and event.exception is None:
        return instead.status or "rejected"
    if event.exception is None and event.result["status"] != "error":
        return "edited" if edited else "ok"
    return "unknown_tool" if event.selected_tool is None else "error"


def _error_type(event: AfterToolCallEvent) -> str:
    error = event.exception
    if error is None:
        return "_OTHER"
    refused = error.__cause__  # a tool's decorator raises a ValueError from pydantic's error
    return type(refused if isinstance(refused, pydantic.ValidationError) else error).__qualname__
