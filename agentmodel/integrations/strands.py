"""A hook provider that records the tool calls of Strands agents and, with a guard, decides about them before.

    with Tracker(model, domain="cafes") as tracker:
        agent = Agent(model=…, tools=[…], name="finder", hooks=[AgentModelHooks(tracker, guard=model.guard())])
        agent("find a café", invocation_state={"user_id": "kim", "session_id": "t1"})

``user_id``, ``session_id``, ``request`` and ``category`` of the invocation's state say whom and what it is for. Put it
first among the hooks, so that it sees what the others made of a call. Without a guard it only listens.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec

import pydantic
from typing_extensions import override

from agentmodel.dynamo.models import Status
from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._calls import Run, Tracker, check_tracker
from agentmodel.suggest.guard import Guard

try:
    from strands.hooks import (
        AfterInvocationEvent,
        AfterModelCallEvent,
        AfterToolCallEvent,
        BeforeInvocationEvent,
        BeforeToolCallEvent,
        HookProvider,
        HookRegistry,
    )

    from agentmodel.integrations._strands_guard import Fate, Guarding, request_of, text_of
except ModuleNotFoundError as error:
    raise MissingExtraError("strands", "the Strands hook provider", error.name) from error

__all__ = ["AgentModelHooks", "Tracker"]

P = ParamSpec("P")

_BEFORE = "v1:before_tool_call:"  # how Strands begins the ids of interrupts raised by a hook before a tool ran


@dataclass(frozen=True, slots=True)
class _Begun:
    run: Run
    agent: str
    tool: str
    arguments: Any
    at: datetime


def _guarded(method: Callable[P, None]) -> Callable[P, None]:
    """A hook that counts and logs what fails in it; Strands would let it end the agent's run."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
            hooks = args[0]
            if isinstance(hooks, AgentModelHooks):
                hooks.tracker.failed(method.__name__)

    return guarded


class AgentModelHooks(HookProvider):
    """Records every attempt of every tool call that a Strands agent makes; with a guard, decides about each before.

    Args:
        tracker: What writes; its ``domain`` is the agents' domain.
        guard: What decides: it puts a plan into the prompt, blocks a tool that fails, has a person asked by an
            interrupt, and gives known answers.

    Attributes:
        tracker: The same; its ``errors`` counts what was not recorded.
    """

    def __init__(self, tracker: Tracker, *, guard: Guard | None = None) -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self._guarding = None if guard is None else Guarding(guard, tracker, run=self._run)
        self._lock = threading.Lock()
        self._sessions: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._requests: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
        self._asked: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._begun: weakref.WeakKeyDictionary[Any, dict[str, _Begun]] = weakref.WeakKeyDictionary()
        self._around: weakref.WeakKeyDictionary[Any, BaseException | None] = weakref.WeakKeyDictionary()

    @override
    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Listen to an agent."""
        registry.add_callback(BeforeInvocationEvent, self._invoked)
        registry.add_callback(AfterModelCallEvent, self._turn)
        registry.add_callback(BeforeToolCallEvent, self._before)
        registry.add_callback(AfterToolCallEvent, self._after)
        registry.add_callback(AfterInvocationEvent, self._done)
        if self._guarding is not None:
            self._guarding.register(registry)

    def _run(self, agent: Any, state: Mapping[str, Any]) -> Run:
        with self._lock:
            own = self._sessions.setdefault(agent, uuid.uuid4().hex)
            request = self._requests.get(agent)
        return self.tracker.run(
            text_of(state.get("session_id")) or own,
            user=text_of(state.get("user_id")),
            request=text_of(state.get("request")) or request,
            category=text_of(state.get("category")),
        )

    @_guarded
    def _invoked(self, event: BeforeInvocationEvent) -> None:
        request = request_of(event.messages)
        with self._lock:
            self._around[event.agent] = sys.exception()
            if request is not None:  # an answer to an interrupt is no request
                self._requests[event.agent] = request

    @_guarded
    def _turn(self, event: AfterModelCallEvent) -> None:
        """Take the calls that the model asks for, in its order, and what they cost; a discarded answer has none."""
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
            "model",
            calls=list(asked),
            input_tokens=usage.get("inputTokens"),
            output_tokens=usage.get("outputTokens"),
        )

    @_guarded
    def _before(self, event: BeforeToolCallEvent) -> None:
        call = event.tool_use
        run = self._run(event.agent, event.invocation_state)
        begun = _Begun(run, event.agent.name, call["name"], copy.deepcopy(call["input"]), datetime.now(UTC))
        with self._lock:
            self._begun.setdefault(event.agent, {})[call["toolUseId"]] = begun

    @_guarded
    def _after(self, event: AfterToolCallEvent) -> None:
        call = event.tool_use
        call_id = call["toolUseId"]
        with self._lock:
            begun = self._begun.get(event.agent, {}).pop(call_id, None)
            # A model's turn in another process was not seen here, but the call was, before it was edited.
            asked = self._asked.get(event.agent, {}).get(call_id, call["input"] if begun is None else begun.arguments)
        fate = None if self._guarding is None else self._guarding.fate(event.agent, call)
        now = datetime.now(UTC)
        took = timedelta(seconds=event.duration or 0.0)  # a cancelled call took no time
        run = self._run(event.agent, event.invocation_state) if begun is None else begun.run
        status = _status(event, fate, edited=asked != call["input"])
        run.call(
            call_id,
            agent=event.agent.name,
            tool=call["name"],
            status=status,
            arguments=copy.deepcopy(call["input"]),
            result=_content(event.result),
            error_type=_error_type(event) if status == "error" else None,
            began=now - took,
            at=now,
        )
        if fate is not None and fate.notice is not None:  # its message still has the model's own arguments
            event.result = {**event.result, "content": [{"text": fate.notice}, *event.result["content"]]}
        if self._guarding is not None and not event.retry:
            self._guarding.forget(event.agent, call)

    @_guarded
    def _done(self, event: AfterInvocationEvent) -> None:
        """End the run; a call that waits for a person was interrupted if its tool had begun."""
        # Strands tells no error here, but calls this while it is on its way; what the caller handles is not the run's.
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
                )
        if self._guarding is not None:
            self._guarding.forget(event.agent)
        self._run(event.agent, event.invocation_state).finish(succeeded=False if failed else None)


def _status(event: AfterToolCallEvent, fate: Fate | None, *, edited: bool) -> Status:
    decided = None if fate is None else fate.status
    if event.cancel_message is not None:
        ours = fate is not None and event.cancel_message == fate.message
        return decided if ours and decided is not None else "rejected"
    if fate is not None and fate.served and decided is not None:
        return decided
    if event.exception is None and event.result["status"] != "error":
        return "edited" if edited else "ok"
    return "unknown_tool" if event.selected_tool is None else "error"


def _error_type(event: AfterToolCallEvent) -> str:
    error = event.exception
    if error is None:
        return "_OTHER"
    refused = error.__cause__  # a tool's decorator makes a ValueError of what pydantic refused
    return type(refused if isinstance(refused, pydantic.ValidationError) else error).__qualname__


def _content(result: Mapping[str, Any]) -> Any:
    """What the model reads: the text of the only block, or all blocks."""
    content = result["content"]
    return content[0]["text"] if len(content) == 1 and "text" in content[0] else content
