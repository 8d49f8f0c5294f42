"""Runs of the OpenAI Agents SDK that have not ended: their spans and hooks, and the calls that have not begun."""

from __future__ import annotations

import sys
import uuid
import weakref
from collections import OrderedDict
from typing import Any

from agents.run_context import RunContextWrapper
from agents.tracing import AgentSpanData, FunctionSpanData, Span, TaskSpanData, TurnSpanData, get_current_span

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.dynamo.models import Status
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.integrations.openai_agents._messages import (
    ModelTurn,
    Node,
    RequestedCall,
    Task,
    arguments_of,
    metadata_of,
    plain,
    task_of,
)

__all__ = ["Runs"]

_MAX_OPEN = 10_000  # spans, and runs without spans; those that never end must not fill the memory


class Runs:
    """State of the runs that have not ended.

    Args:
        tracker: Writes the history.
        agent: Name of the agent for calls outside of any agent.

    Attributes:
        lock: Must be held while this is used; the SDK reports spans and hooks from any thread.
    """

    def __init__(self, tracker: Tracker, agent: str) -> None:
        self.lock = ForkSafeLock()
        self._tracker = tracker
        self._agent = agent
        self._nodes: OrderedDict[str, Node] = OrderedDict()  # by span
        self._without_spans: OrderedDict[int, tuple[object, Task]] = (
            OrderedDict()
        )  # by a run's usage, where there are no spans
        self._requested: weakref.WeakKeyDictionary[TrackedRun, dict[str, RequestedCall]] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._nodes) + len(self._without_spans)

    # Spans

    def open(self, span: Span[Any]) -> None:
        """Register a span that begins."""
        data = span.span_data
        above = self._nodes.get(span.parent_id or "")
        owner = above is None or isinstance(data, TaskSpanData)
        called = above is not None and (above.within or isinstance(above.span.span_data, FunctionSpanData))
        task = task_of(span, self._agent) if above is None or owner else above.task
        if above is not None and owner and (called or above.task.outermost is not None):
            task.outermost = above.task.outermost or above.task
            if above.turn is not None:
                above.turn.inner = True
        turn = ModelTurn() if isinstance(data, TurnSpanData) else None if above is None or owner else above.turn
        self._nodes[span.span_id] = node = Node(
            span,
            task,
            owner,
            within=called and not owner,
            agent=data.name if isinstance(data, AgentSpanData) else self._agent if above is None else above.agent,
            turn=turn,
            around=sys.exception(),
        )
        if isinstance(data, FunctionSpanData) and turn is not None and not node.within:
            turn.calls.append(node)
        if len(self._nodes) > _MAX_OPEN:
            self._nodes.popitem(last=False)

    def close(self, span: Span[Any]) -> Node | None:
        """Return the node of a span that ends; None if it is not kept any more."""
        node = self._nodes.pop(span.span_id, None)
        if node is not None:
            # An error that the span ends with propagates now; one that the caller handles is not the span's.
            passing = sys.exception()
            node.error = None if passing is node.around else passing
        return node

    def current(self) -> Node | None:
        """Return the span that this is called in."""
        span = get_current_span()
        return None if span is None else self._nodes.get(span.span_id)

    # Runs

    def locate(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        """Return the run and the span that a hook is called in; without spans, a run is known by its usage object."""
        node = self.current()
        if node is not None:
            task = node.task
        elif id(context.usage) in self._without_spans:
            task = self._without_spans[id(context.usage)][1]
        else:
            task = Task(uuid.uuid4().hex, self._agent)
            self._without_spans[id(context.usage)] = context.usage, task
            if len(self._without_spans) > _MAX_OPEN:
                self._without_spans.popitem(last=False)
        whole = task.outermost or task
        if not task.known and whole.run is None:
            whole.metadata |= metadata_of(context.context)
        task.known = True
        return task, node

    def forget(self, context: RunContextWrapper[Any]) -> None:
        """Drop a run without spans that is over."""
        self._without_spans.pop(id(context.usage), None)

    def run(self, task: Task) -> TrackedRun:
        """Return the tracked run; for an agent used as a tool, that of the outermost run."""
        whole = task.outermost or task
        if whole.run is None:
            metadata = whole.metadata
            whole.run = self._tracker.run(
                metadata.get("session_id") or whole.session,
                user=metadata.get("user_id"),
                request=metadata.get("request"),
                category=metadata.get("category"),
                suggestion_id=metadata.get("suggestion_id"),
            )
        return whole.run

    # Calls that have not begun

    def requested(self, run: TrackedRun) -> dict[str, RequestedCall]:
        """Return the calls that the model requested and that have not begun, by id."""
        return self._requested.setdefault(run, {})

    def not_made(self, task: Task, call_id: str, requested: RequestedCall, status: Status, message: Any) -> None:
        """Report a call that will not be made, and the message that the model reads."""
        run = self.run(task)
        self.requested(run).pop(call_id, None)
        run.call(
            call_id,
            agent=requested.agent,
            tool=requested.tool,
            arguments=arguments_of(requested.arguments),
            status=status,
            result=plain(message),
            scope=requested.agent,
        )
