"""The runs of the OpenAI Agents SDK that go on: which span or hook belongs to which, and which calls have not begun."""

from __future__ import annotations

import sys
import threading
import uuid
import weakref
from collections import OrderedDict
from typing import Any

from agents.run_context import RunContextWrapper
from agents.tracing import AgentSpanData, FunctionSpanData, Span, TaskSpanData, TurnSpanData, get_current_span

from agentmodel.dynamo.models import Status
from agentmodel.integrations._calls import Run, Tracker
from agentmodel.integrations._openai import Asked, Node, Task, Turn, arguments_of, plain, task_of, told_by

__all__ = ["Runs"]

_OPEN = 10_000  # spans and runs kept at hand; those that never end must not fill the memory


class Runs:
    """What a recorder keeps of runs that go on.

    Args:
        tracker: What writes.
        agent: Name of the agent of calls outside of any.

    Attributes:
        lock: To be held while this is used; spans and hooks are told from any thread.
    """

    def __init__(self, tracker: Tracker, agent: str) -> None:
        self.lock = threading.RLock()
        self._tracker = tracker
        self._agent = agent
        self._nodes: OrderedDict[str, Node] = OrderedDict()  # by span
        self._alone: OrderedDict[int, tuple[object, Task]] = OrderedDict()  # by a run's usage, where there are no spans
        self._waiting: weakref.WeakKeyDictionary[Run, dict[str, Asked]] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._nodes) + len(self._alone)

    # Spans

    def open(self, span: Span[Any]) -> None:
        """A span begins."""
        data = span.span_data
        above = self._nodes.get(span.parent_id or "")
        owner = above is None or isinstance(data, TaskSpanData)
        called = above is not None and (above.within or isinstance(above.span.span_data, FunctionSpanData))
        task = task_of(span, self._agent) if above is None or owner else above.task
        if above is not None and owner and (called or above.task.outermost is not None):
            task.outermost = above.task.outermost or above.task
            if above.turn is not None:
                above.turn.inner = True
        turn = Turn() if isinstance(data, TurnSpanData) else None if above is None or owner else above.turn
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
        if len(self._nodes) > _OPEN:
            self._nodes.popitem(last=False)

    def close(self, span: Span[Any]) -> Node | None:
        """A span ended; None if it was let go."""
        node = self._nodes.pop(span.span_id, None)
        if node is not None:
            # An error that goes through the span is on its way now; what the caller handles is not the span's.
            passing = sys.exception()
            node.error = None if passing is node.around else passing
        return node

    def current(self) -> Node | None:
        """The span that this is called in."""
        span = get_current_span()
        return None if span is None else self._nodes.get(span.span_id)

    # Runs

    def place(self, context: RunContextWrapper[Any]) -> tuple[Task, Node | None]:
        """The run of a hook and the span it is called in; without spans its usage tells runs apart."""
        node = self.current()
        if node is not None:
            task = node.task
        elif id(context.usage) in self._alone:
            task = self._alone[id(context.usage)][1]
        else:
            task = Task(uuid.uuid4().hex, self._agent)
            self._alone[id(context.usage)] = context.usage, task
            if len(self._alone) > _OPEN:
                self._alone.popitem(last=False)
        whole = task.outermost or task
        if not task.known and whole.run is None:
            whole.told |= told_by(context.context)
        task.known = True
        return task, node

    def forget(self, context: RunContextWrapper[Any]) -> None:
        """A run without spans is over."""
        self._alone.pop(id(context.usage), None)

    def run(self, task: Task) -> Run:
        """The run in the history; that of the outermost, of an agent used as a tool."""
        whole = task.outermost or task
        if whole.run is None:
            told = whole.told
            whole.run = self._tracker.run(
                told.get("session_id") or whole.session,
                user=told.get("user_id"),
                request=told.get("request"),
                category=told.get("category"),
                suggestion_id=told.get("suggestion_id"),
            )
        return whole.run

    # Calls that have not begun

    def asked(self, run: Run) -> dict[str, Asked]:
        """Those that the model asked for, by id."""
        return self._waiting.setdefault(run, {})

    def not_made(self, task: Task, call_id: str, asked: Asked, status: Status, message: Any) -> None:
        """One that will not begin; the model reads the message."""
        run = self.run(task)
        self.asked(run).pop(call_id, None)
        run.call(
            call_id,
            agent=asked.agent,
            tool=asked.tool,
            arguments=arguments_of(asked.arguments),
            status=status,
            result=plain(message),
        )
