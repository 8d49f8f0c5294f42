"""State of one tool: what all users' calls say of it, and what the calls of single users say.

No one user decides for all. For everybody the tool begins to fail only when the failures of at least two users say so:
the failures of one user make at most half of an alarm, or one failure where one is more than half. What one user's
calls say by themselves holds for that user alone. A failure without a user, of somebody who may speak for everybody,
counts in full.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Tool
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.health._cusum import Cusum

__all__ = ["FailingPeriod", "Observation", "ToolState", "counted_user", "failing_periods"]

_MOST_USERS = 50  # whose own failures are remembered, for each tool
_RANDOM = 12  # random characters at the beginning of the text of a state


class Observation(NamedTuple):
    """A call of a tool.

    Attributes:
        at: When it was made.
        failed: Whether it failed.
        user: Whose it was, as `counted_user` says; None if it counts for everybody.
    """

    at: datetime
    failed: bool
    user: str | None


def counted_user(user_id: str, session_id: str | None) -> str:
    """Return who counts as one user: a user, or a session of somebody who is not known.

    >>> counted_user("USR001", "SESS1"), counted_user("USR~anonymous", "SESS1")
    ('USR001', 'SESS1')
    """
    return session_id if user_id == ANONYMOUS and session_id is not None else user_id


@dataclass(frozen=True, slots=True)
class ToolState:
    """The health of one tool of one agent, for everybody and for single users.

    Attributes:
        everybody: The state for everybody.
        users: The states for single users whose calls fail, by a short digest of the user; the latest one last.
    """

    everybody: Cusum = field(default_factory=Cusum)
    users: Mapping[str, Cusum] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str) -> ToolState | None:
        """Return the state that `as_text` returned; None if the text is empty or damaged."""
        head, _, everybody = text.partition(" ")
        try:
            users: dict[str, dict[str, Any]] = json.loads(head[_RANDOM:] or "{}")
            return cls(
                _cusum(json.loads(everybody)), {user: replace(_cusum(one), own=True) for user, one in users.items()}
            )
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None

    @classmethod
    def from_table(cls, tool: Tool) -> ToolState:
        """Return a state from the table: the counts of the last publish as the baseline, and whether it was open."""
        calls, failures = tool.calls or 0, tool.errors or 0
        health = Cusum(calls=float(calls), failures=float(failures)) if failures < calls else Cusum()
        if tool.health != "open" or tool.health_until is None:
            return cls(health)
        began = None if tool.health_since is None else tool.health_since.timestamp()
        return cls(replace(health, began=began, opened=1, until=tool.health_until.timestamp()))

    def as_text(self) -> str:
        """Return the state as text: what is random, the users, and after the first blank what holds for everybody.

        The random part tells a repeated write from an equal one of another process. Version 0.1.0 reads what follows
        the first blank.
        """
        users = {user: replace(one, own=False).as_dict() for user, one in self.users.items()}
        return f"{uuid.uuid4().hex[:_RANDOM]}{_json(users) if users else ''} {_json(self.everybody.as_dict())}"

    def of(self, tool_ref: ToolRef, user: str | None, now: datetime) -> Cusum:
        """Return the state that holds for a user: that of everybody, unless only the user's own calls fail."""
        own = None if user is None else self.users.get(_digest(tool_ref, user))
        if own is None or not own.opened or self.everybody.state(now) == "open":
            return self.everybody
        return replace(own, calls=self.everybody.calls, failures=self.everybody.failures)

    def failing_users(self, now: datetime) -> int:
        """Return how many users the tool is failing for, each by their own calls alone."""
        return sum(one.state(now) == "open" for one in self.users.values())

    def after(self, tool_ref: ToolRef, call: Observation) -> ToolState:
        """Return the state after one more call."""
        before, users = self.everybody, dict(self.users)
        if not (call.failed or users or before.opened or before.sum):  # nearly every call; it changes the baseline only
            return ToolState(before.after(failed=False, at=call.at), self.users)
        if call.user is None or before.state(call.at) == "open":
            everybody = before.after(failed=call.failed, at=call.at)
        else:
            user = _digest(tool_ref, call.user)
            own = users.pop(user, Cusum(own=True))
            added = min(before.next_failure, _most(before) - own.share) if call.failed else 0
            everybody = before
            if added or not call.failed:
                everybody = before.after(failed=call.failed, at=call.at, added=added)
            share = own.share + added
            # a sum is of its usual failure rate: by another's, a success could be an alarm
            if not (own.sum or own.opened):
                own = replace(own, calls=before.calls, failures=before.failures)
            users[user] = replace(own.after(failed=call.failed, at=call.at), share=share, own=True)
        if everybody.opened > before.opened:
            users = {user: one for user, one in users.items() if one.opened}
        if everybody.opened != before.opened or not (everybody.opened or everybody.sum):
            users = {user: replace(one, share=0) if one.share else one for user, one in users.items()}
        return ToolState(everybody, _bounded({user: one for user, one in users.items() if _counts(one)}))

    def without(self, tool_ref: ToolRef, user: str) -> ToolState:
        """Return the state without what it has of one user; the counts of all users stay."""
        users, everybody = dict(self.users), self.everybody
        own = users.pop(_digest(tool_ref, user), None)
        if own is not None and own.share and not everybody.opened:  # else a second share would be possible
            left = everybody.sum - own.share
            calm = Cusum(calls=everybody.calls, failures=everybody.failures)
            everybody = replace(everybody, sum=left) if left > 0 else calm
        return ToolState(everybody, users)


class FailingPeriod(NamedTuple):
    """A time in which a tool was failing for everybody.

    Attributes:
        since: When it began to fail.
        until: When it worked again; None if it did not.
        calls: Calls in this time.
        failures: Those of them that failed.

    >>> from datetime import UTC, datetime
    >>> period = FailingPeriod(datetime(2026, 1, 1, tzinfo=UTC), None, calls=5, failures=4)
    >>> "failing still" if period.until is None else "works again"
    'failing still'
    """

    since: datetime
    until: datetime | None
    calls: int
    failures: int


def failing_periods(tool_ref: ToolRef, calls: Sequence[Observation]) -> list[FailingPeriod]:
    """Return when a tool was failing for everybody, newest first, by its calls alone.

    Args:
        tool_ref: The tool.
        calls: Its calls, oldest first.

    >>> from agentmodel.suggest.plan import ToolRef
    >>> from datetime import UTC, datetime, timedelta
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> calls = [Observation(start + timedelta(minutes=n), failed=40 <= n < 60, user=f"USR{n}") for n in range(100)]
    >>> (period,) = failing_periods(ToolRef("AGT001", "TL001"), calls)
    >>> period.failures, period.since < period.until
    (20, True)
    """
    state, first = ToolState(), None
    periods: list[FailingPeriod] = []
    for number, call in enumerate(calls):
        was_open, state = bool(state.everybody.opened), state.after(tool_ref, call)
        if state.everybody.opened and not was_open:
            first = bisect_left(calls, state.everybody.since or call.at, key=lambda each: each.at)
        elif was_open and not state.everybody.opened and first is not None:
            periods.append(_period(calls[first : number + 1], call.at))
            first = None
    if first is not None:
        periods.append(_period(calls[first:], None))
    return periods[::-1]


def _period(calls: Sequence[Observation], until: datetime | None) -> FailingPeriod:
    return FailingPeriod(calls[0].at, until, len(calls), sum(call.failed for call in calls))


def _most(health: Cusum) -> int:
    """Return how much of an alarm for everybody the failures of one user can make."""
    half = (health.alarm + 1) // 2
    return half if health.opened else max(half, health.next_failure)


def _cusum(values: dict[str, Any]) -> Cusum:
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values.values()):
        raise ValueError(values)
    return Cusum.from_dict(values)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def _counts(own: Cusum) -> bool:
    return bool(own.opened or own.sum or own.share)


def _bounded(users: dict[str, Cusum]) -> dict[str, Cusum]:
    """Return the states of as many users as are remembered: first those that are open, then the latest."""
    while len(users) > _MOST_USERS:
        del users[next((user for user, one in users.items() if not one.opened), next(iter(users)))]
    return users


def _digest(tool_ref: ToolRef, user: str) -> str:
    """Return what a user is told apart by; too short to tell who it is, and another one for each tool."""
    return hashlib.sha256("\n".join([*tool_ref, user]).encode()).hexdigest()[:10]
