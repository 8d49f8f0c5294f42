"""Which calls recorders of frameworks report in this process, so that the spans of the same calls add nothing.

A program may have a recorder of its framework and a processor of spans. Both see a call under the id that the model
gave it. A span without such an id is of the reported call of its tool that began while it ran; each call has one such
span. The recorder knows more of a call, and tells of it when it begins; a trace is recorded once it has ended. Two
processors see the same spans; the first one that comes to a span records it.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

from agentmodel._runtime.process import ForkSafeLock, renew_in_child
from agentmodel.client import AgentModel

__all__ = ["ReportedCalls"]

_AROUND: Final = timedelta(seconds=30)
"""How far a recorder may see the beginning of a call from its span: the id is of one conversation, or of one turn."""

_BEFORE: Final = timedelta(seconds=1)
"""How long before its span a recorder may see a call begin, where only the time says that they are one."""

_NUMBER = re.compile(r"~\d+$")  # of a call whose id came before; both number their own

_UNSEEN: Final = 1_000  # calls of a tool that wait for a span

_making = ForkSafeLock()
_of_models: WeakKeyDictionary[AgentModel, ReportedCalls] = WeakKeyDictionary()


class ReportedCalls:
    """The calls that the recorders of one installation reported in this process, the newest ones; from any thread.

    Args:
        max_calls: Ids that are remembered; of more, the oldest is forgotten.
    """

    def __init__(self, max_calls: int = 10_000) -> None:
        self._max_calls = max_calls
        self._lock = ForkSafeLock()
        self.renew()
        renew_in_child(self)

    @classmethod
    def of(cls, model: AgentModel) -> ReportedCalls:
        """Return those of an installation."""
        with _making:
            known = _of_models.get(model)
            if known is None:
                known = _of_models[model] = cls()
            return known

    def renew(self) -> None:
        """Begin with none in a forked child."""
        self._taken: OrderedDict[tuple[str, str], int] = OrderedDict()  # spans, with who records them
        self._began: OrderedDict[tuple[str, str], list[datetime]] = OrderedDict()
        self._unseen: OrderedDict[str, deque[datetime]] = OrderedDict()  # by tool: calls without a span so far

    def note(self, call_id: str, tool: str, began: datetime) -> None:
        """Note that a recorder reports an attempt of a call."""
        key = _NUMBER.sub("", call_id), tool
        with self._lock:
            times = self._began.setdefault(key, [])
            self._began.move_to_end(key)
            times[:] = [*times[-9:], began]
            if len(self._began) > self._max_calls:
                self._began.popitem(last=False)
            self._unseen.setdefault(tool, deque(maxlen=_UNSEEN)).append(began)
            if len(self._unseen) > self._max_calls:
                self._unseen.popitem(last=False)

    def has(self, call_id: str | None, tool: str, began: datetime, ended: datetime) -> bool:
        """Return whether a recorder reported the call of a span.

        Args:
            call_id: The model's id of the call; None where the span has none.
            tool: Name of the tool.
            began: When the span began.
            ended: When it ended.
        """
        around = _BEFORE if call_id is None else _AROUND
        with self._lock:
            unseen = self._unseen.get(tool, deque())
            times = unseen if call_id is None else self._began.get((_NUMBER.sub("", call_id), tool), ())
            found = [each for each in times if began - around <= each <= ended + around]
            if not found:
                return False
            nearest = min(found, key=lambda each: abs(each - began))
            if nearest in unseen:
                unseen.remove(nearest)
            return True

    def take(self, trace_id: str, span_id: str, by: object) -> bool:
        """Have a processor record a span; return whether no other one of the installation does.

        Args:
            trace_id: The trace of the span.
            span_id: The span.
            by: The processor.
        """
        with self._lock:
            first = self._taken.setdefault((trace_id, span_id), id(by))
            if len(self._taken) > self._max_calls:
                self._taken.popitem(last=False)
            return first == id(by)
