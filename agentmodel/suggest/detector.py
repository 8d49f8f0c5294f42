"""A change detector for one tool of one agent: CUSUM on its calls, against the tool's own baseline.

Each failure adds to a sum, each success takes off, never below zero; when the sum reaches its threshold the tool has
begun to fail. What is added, taken off and reached depends on how often the tool fails in good health
(`agentmodel.suggest.limits`): 4 to 5 of 10,000 healthy calls end in a false alarm, whatever that share is. A fall of
the share of successes to a quarter is then noticed within 10 calls on average where at most 28 % of healthy calls
fail. Where more do, it takes longer (18 calls at 50 %), and no rule with as few false alarms is faster by a call.

While a tool is open, nothing is learnt about its baseline. After a while it is half-open: a few calls that succeed
close it, failures open it again for twice as long.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agentmodel.suggest.limits import limits

__all__ = ["Health", "State"]

State = Literal["closed", "open", "half-open"]
"""Whether a tool works (closed), fails (open), or may be tried again (half-open); the words are a circuit breaker's."""

_LEARN = 20  # calls of which the first baseline is made, before any alarm
_FORGET = 2000  # calls of the baseline from which older ones count half
_PRIOR_CALLS, _PRIOR_FAILURES = 10.0, 0.5
_TRIALS = 3  # calls in a row that close a half-open tool
_COOL = timedelta(minutes=15)
_COOLEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one tool of one agent.

    Attributes:
        calls: Healthy calls its baseline is made of.
        failures: Those that failed.
        sum: The sum; 0 while all is well.
        run_calls: Calls since the sum left zero, or since the tool opened.
        run_failures: Those that failed.
        began: Epoch seconds of the first of them.
        opened: How often it opened without closing in between; 0 while it is closed.
        until: Epoch seconds at which it is half-open.
        trial: The sum of the trial calls.
    """

    calls: float = 0.0
    failures: float = 0.0
    sum: int = 0
    run_calls: int = 0
    run_failures: int = 0
    began: float | None = None
    opened: int = 0
    until: float | None = None
    trial: int = 0

    @classmethod
    def of(cls, data: dict[str, Any]) -> Health:
        """What `as_dict` gave."""
        return cls(**data)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it; what is as at first is left out."""
        first = asdict(Health())
        return {name: value for name, value in asdict(self).items() if value != first[name]}

    @property
    def baseline(self) -> float:
        """Share of calls that fail in good health, on the safe side while few are known."""
        total = self.calls + _PRIOR_CALLS
        mean = (self.failures + _PRIOR_FAILURES) / total
        return min(1.0, mean + math.sqrt(mean * (1.0 - mean) / (total + 1.0)))

    def state(self, now: datetime) -> State:
        """Whether it works at a time."""
        if not self.opened:
            return "closed"
        return "half-open" if self.until is not None and now.timestamp() >= self.until else "open"

    @property
    def since(self) -> datetime | None:
        """When it began to fail; None while it is closed."""
        return None if not self.opened or self.began is None else datetime.fromtimestamp(self.began, UTC)

    @property
    def half_open_at(self) -> datetime | None:
        """When it may be tried again; None while it is closed."""
        return None if not self.opened or self.until is None else datetime.fromtimestamp(self.until, UTC)

    @property
    def note(self) -> str:
        """What was seen, as a sentence part."""
        usual = self.failures / self.calls if self.calls else 0.0
        return f"{self.run_failures} of {self.run_calls} calls failed, {usual:.0%} of them usually do"

    def after(self, *, failed: bool, at: datetime) -> Health:
        """What is known after one more call."""
        if self.opened:
            return self._tried(failed=failed, at=at)
        if self.calls < _LEARN and not self.sum:
            return _learnt(self, 1, int(failed))
        step = limits(self.baseline)
        total = max(0, self.sum + (step.failure if failed else -step.success))
        if total == 0:
            calm = replace(self, sum=0, run_calls=0, run_failures=0, began=None)
            return _learnt(calm, self.run_calls + 1, self.run_failures + failed)
        grown = replace(
            self,
            sum=total,
            run_calls=self.run_calls + 1,
            run_failures=self.run_failures + failed,
            began=self.began if self.began is not None else at.timestamp(),
        )
        return grown if total < step.threshold else _opened(grown, at)

    def _tried(self, *, failed: bool, at: datetime) -> Health:
        seen = replace(self, run_calls=self.run_calls + 1, run_failures=self.run_failures + failed)
        if self.state(at) == "open":
            return seen
        step = limits(self.baseline)
        trial = self.trial + (-step.failure if failed else step.success)
        if trial >= _TRIALS * step.success:
            return Health(calls=self.calls, failures=self.failures)
        if trial <= -(step.threshold // 3):
            return _opened(seen, at)
        return replace(seen, trial=trial)


def _learnt(health: Health, calls: int, failures: int) -> Health:
    share = 0.5 if health.calls >= _FORGET else 1.0
    return replace(health, calls=health.calls * share + calls, failures=health.failures * share + failures)


def _opened(health: Health, at: datetime) -> Health:
    cool = min(_COOL * 2 ** min(health.opened, 10), _COOLEST)
    return replace(health, sum=0, opened=health.opened + 1, until=(at + cool).timestamp(), trial=0)
