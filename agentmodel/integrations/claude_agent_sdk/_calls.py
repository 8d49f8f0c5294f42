"""The calls of one conversation, put together from what the SDK tells of them: hooks and messages.

A hook tells when a call begins and ends, with its arguments. The stream of messages tells in which turn of the model it
was requested, what the turn took, and of calls that no hook sees: unknown tools, and calls that the SDK's permissions
denied. The two are not in step: the application reads the messages when it likes. So a call that has ended is reported
when its turn is over in the messages or, where nobody reads them, at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from claude_agent_sdk import AssistantMessage, ResultMessage, StreamEvent, ToolResultBlock, ToolUseBlock, UserMessage

from agentmodel.dynamo.models import Status
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.suggest.guard import Resolution

__all__ = ["INTERNAL", "CallsOfConversation", "OpenCall", "plain_result"]

INTERNAL = frozenset({"Agent", "Task"})
"""Tools by which an agent starts another one. They return at once, so they say nothing of it; its own calls do."""


_MAX_DONE = 1000
"""Reported calls that are remembered: messages about them may still be unread."""


@dataclass(slots=True)
class OpenCall:
    """A call that the model has no result of yet.

    Attributes:
        call_id: The model's id of it.
        agent: Name of the agent that calls.
        tool: Name of the tool.
        requested: Arguments that the model gave.
        at: When it began.
        sub_agent: The SDK's id of the sub-agent that calls: each numbers its calls by itself; None for the main agent.
        resolution: What the guard decided; None without a guard.
        served: Whether a tool of this process took it: no second one does.
        error: What that tool raised.
        deferred: Whether it waits for a person, and the run stops.
        ended: How it ended, as `TrackedRun.call` takes it; None while it runs.
    """

    call_id: str
    agent: str
    tool: str
    requested: Any
    at: datetime
    sub_agent: str | None = None
    resolution: Resolution | None = None
    served: bool = False
    error: Exception | None = None
    deferred: bool = False
    ended: dict[str, Any] | None = None

    @property
    def inner(self) -> bool:
        """Whether a sub-agent calls."""
        return self.sub_agent is not None


@dataclass(slots=True)
class _ClaudeTurn:
    """What the model says at once; each block of it is a message of its own."""

    message_id: str | None
    model: str
    usage: dict[str, Any]
    calls: list[str] = field(default_factory=list)
    complete: bool = False


class CallsOfConversation:
    """The calls of one conversation, while they run.

    Args:
        tracker: Takes what is known of a call.
        agent: Name of the main agent.
    """

    def __init__(self, tracker: Tracker, agent: str) -> None:
        self._tracker = tracker
        self._agent = agent
        self.run: TrackedRun | None = None
        self.interrupted = False
        self._reading = False
        self._calls: list[OpenCall] = []  # that are not reported yet, in their order
        self._done: OrderedDict[str, None] = OrderedDict()  # that are reported, the newest ones
        self._blocks: dict[str, ToolUseBlock] = {}  # what the model requested, until it has the results
        self._turns: dict[str | None, _ClaudeTurn] = {}  # that go on, by the call that started the sub-agent
        self._told: set[str] = set()  # calls whose turn was reported, and not yet they themselves
        self._running = False

    def opened(self, session: str, **more: Any) -> TrackedRun:
        """Return the run of a session, which begins or goes on."""
        self.run = self._tracker.run(session, **more)
        self._running = True
        return self.run

    # What hooks tell

    def begin(self, given: Any) -> OpenCall:
        """Note that a call is about to be made."""
        agent, began = given.get("agent_type") or self._agent, datetime.now(UTC)
        call = OpenCall(
            given["tool_use_id"], agent, given["tool_name"], given["tool_input"], began, sub_agent=given.get("agent_id")
        )
        self._calls.append(call)
        self._done.pop(call.call_id, None)
        return call

    def get(self, given: Any) -> OpenCall | None:
        """Return the call that has not ended which a hook tells of; of one id and agent the one of these arguments."""
        found = [
            call
            for call in self._calls
            if call.ended is None and (call.call_id, call.sub_agent) == (given["tool_use_id"], given.get("agent_id"))
        ]
        return next((call for call in found if call.requested == given["tool_input"]), found[0] if found else None)

    def serve(self, tool: str, arguments: Any) -> OpenCall | None:
        """Return the call that a tool of this process is called for: the SDK does not tell it, but its arguments."""
        for call in self._calls:
            made_with = call.requested if call.resolution is None else call.resolution.arguments
            if call.tool == tool and call.ended is None and not call.served and made_with == arguments:
                call.served = True
                return call
        return None

    def is_decided(self, tool: str) -> bool:
        """Return whether a call that no tool took yet may be made only as it was decided, or not at all."""
        waiting = (each for each in self._calls if each.tool == tool and each.ended is None)
        return any(
            each.resolution is not None and (each.resolution.answer is not None or not each.resolution.permits)
            for each in waiting
            if not each.served
        )

    def end(self, call: OpenCall, status: Status, *, took: float | None = None, **more: Any) -> None:
        """Note how a call ended.

        Args:
            call: The call.
            status: How it ended.
            took: Milliseconds that its tool took; None counts from its beginning.
            more: As `TrackedRun.call` takes it.
        """
        ended = datetime.now(UTC)
        began = call.at if took is None else max(call.at, ended - timedelta(milliseconds=took))
        call.ended = {"status": status, "arguments": call.requested, "began": began, "at": ended, **more}
        if not self._reading or call.call_id in self._told:
            self._report(call)

    # What messages tell

    def see(self, message: Any) -> None:
        """Note a message that the application reads."""
        self._reading = True
        match message:
            case AssistantMessage():
                self._requested(message)
            case StreamEvent(event={"type": "message_delta", "usage": dict(usage)}):
                turn = self._turns.get(message.parent_tool_use_id)
                if turn is not None:
                    turn.usage.update({name: count for name, count in usage.items() if count is not None})
                    turn.complete = True
                    self._turn_is_over(message.parent_tool_use_id)
            case UserMessage(content=list(blocks)):
                for block in blocks:
                    if isinstance(block, ToolResultBlock):
                        self._answered(block, inner=message.parent_tool_use_id is not None)
            case ResultMessage():
                aborted = (message.terminal_reason or "").startswith("aborted")
                self.over(succeeded=False if message.is_error and not aborted else None)

    def _requested(self, message: AssistantMessage) -> None:
        whose = message.parent_tool_use_id
        turn = self._turns.get(whose)
        if turn is None or turn.message_id != message.message_id:
            self._turn_is_over(whose)
            turn = self._turns[whose] = _ClaudeTurn(message.message_id, message.model, dict(message.usage or {}))
        for block in message.content:
            if isinstance(block, ToolUseBlock) and block.name not in INTERNAL:
                self._blocks[block.id] = block
                turn.calls.append(block.id)

    def _turn_is_over(self, whose: str | None) -> None:
        """Report a turn, and those of its calls that have ended."""
        turn = self._turns.pop(whose, None)
        if turn is None or self.run is None:
            return
        calls = [each for each in turn.calls if each not in self._done]
        if not calls:
            return
        cached, written = turn.usage.get("cache_read_input_tokens"), turn.usage.get("cache_creation_input_tokens")
        read = turn.usage.get("input_tokens")
        begun = [call for call in self._calls if call.call_id in calls and call.inner is (whose is not None)]
        self.run.turn(
            "model",
            calls=calls,
            scope=_scope(begun[0]) if begun else "",
            input_tokens=None if read is None else read + (cached or 0) + (written or 0),
            output_tokens=turn.usage.get("output_tokens") if turn.complete else None,  # of its beginning, otherwise
            cached_tokens=cached,
            cache_write_tokens=written,
            model_name=turn.model,
        )
        self._told.update(calls)
        for call in begun:
            self._report(call)

    def _answered(self, block: ToolResultBlock, *, inner: bool) -> None:
        """Note that the model has the result of a call, perhaps of one whose end no hook told."""
        call_id, requested = block.tool_use_id, self._blocks.pop(block.tool_use_id, None)
        known = [call for call in self._calls if call.call_id == call_id and call.inner is inner]
        call, text = known[0] if known else None, plain_result(block.content)
        if call is None and requested is not None and call_id not in self._done:  # no hook saw it
            call = OpenCall(call_id, self._agent, requested.name, requested.input, datetime.now(UTC))
            self._calls.append(call)
            if "No such tool available" in str(text):
                self.end(call, "unknown_tool", result=text)
            elif block.is_error:
                invalid = "InputValidationError" in str(text)
                self.end(call, "error", result=text, error_type="ValidationError" if invalid else "tool_error")
            else:
                self.end(call, "ok", result=text)
        elif call is not None and call.ended is None:  # the SDK's permissions denied it, or the run was interrupted
            status: Status = "rejected" if block.is_error else "ok"
            self.end(call, "interrupted" if self.interrupted else status, result=text)
        if call is not None and not any(call_id in turn.calls for turn in self._turns.values()):
            self._report(call)  # its turn was in an earlier run

    # The end

    def over(self, succeeded: bool | None = None, *, closed: bool = False) -> None:
        """Report what is left: the run is over.

        Args:
            succeeded: How it went; None leaves that to its calls.
            closed: Whether the conversation is closed, so that its sub-agents have stopped too.
        """
        for whose in [each for each in self._turns if closed or each is None]:
            self._turn_is_over(whose)
        for call in list(self._calls):
            if call.inner and not closed:
                continue
            if call.ended is None and not call.deferred:
                self.end(call, "interrupted")
            self._report(call)
            self._drop(call)
        self._reading = self.interrupted = False
        if closed or not self._calls:
            self._blocks.clear()
            self._told.clear()
        if self._running and self.run is not None:
            self._running = False
            self.run.finish(succeeded=succeeded, running=bool(self._calls))

    def _report(self, call: OpenCall) -> None:
        if call.ended is None or not self._drop(call) or self.run is None:
            return
        if call.call_id not in self._told:  # a call is asked for by a turn, so that one with an id again is a new one
            self.run.turn(call.tool, calls=[call.call_id], scope=_scope(call))
        self._told.discard(call.call_id)
        self._done[call.call_id] = None
        if len(self._done) > _MAX_DONE:
            self._done.popitem(last=False)
        self.run.call(call.call_id, agent=call.agent, tool=call.tool, scope=_scope(call), **call.ended)

    def _drop(self, call: OpenCall) -> bool:
        """Forget a call; return whether it was known."""
        before = len(self._calls)
        self._calls = [each for each in self._calls if each is not call]
        return len(self._calls) < before


def _scope(call: OpenCall) -> str:
    return call.sub_agent or ""


def plain_result(content: Any) -> Any:
    """Return the result of a tool: the text, where it is nothing else.

    >>> plain_result([{"type": "text", "text": "found"}])
    'found'
    """
    match content:
        case [{"type": "text", "text": str(text)}]:
            return text
    return content
