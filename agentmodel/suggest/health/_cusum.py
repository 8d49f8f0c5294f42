"""Change detector for one tool of one agent: CUSUM on its calls, against the tool's usual failure rate.

Each failure adds to a sum, each success subtracts from it, never below zero; when the sum reaches its threshold the
tool has begun to fail. How much is added and subtracted, and the threshold, depend on how often the tool fails in good
health (`agentmodel.suggest.health._cusum_table`): 4 to 5 of 10,000 healthy calls end in a false alarm, whatever that
rate is. Where at most 28 % of healthy calls fail, a fall of the success rate to a quarter is noticed within 10 calls on
average. Where more do it takes longer (18 calls at 50 %), and no rule with as few false alarms is faster by a call.

Until 20 calls in good health are known, 20 failures in a row are an alarm: so a tool that never worked is failing, too.

While a tool is open, its usual failure rate is not updated. After a while it is half-open: a few calls that succeed
close it, failures open it again for twice as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agentmodel.suggest.health._cusum_table import CusumLimits, limits_for

__all__ = ["Cusum", "HealthState"]

HealthState = Literal["closed", "open", "half-open"]
"""Whether a tool works (closed), is failing (open), or may be tried again (half-open), as of a circuit breaker."""

_WARM_UP_CALLS = 20  # in good health, from which on the baseline decides; before, a run of failures, ended by a success
_WARM_UP = CusumLimits(baseline=1.0, failure=1, success=20, threshold=20)
_HALVING_CALLS = 2000  # of the baseline, from which on older ones count half
_PRIOR_CALLS, _PRIOR_FAILURES = 10.0, 0.5
_TRIALS = 3  # successful calls in a row that close a half-open tool
_COOL_DOWN = timedelta(minutes=15)  # from open to half-open, doubled each time it opens again
_MAX_COOL_DOWN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Cusum:
    """The state of the detector for one tool of one agent.

    Attributes:
        calls: Calls in good health, which the baseline is computed from.
        failures: Those of them that failed.
        sum: The sum of the detector; 0 while all is well.
        run_calls: Calls since the sum left zero.
        run_failures: Those of them that failed.
        began: Epoch seconds of the first of them.
        opened: How often the tool opened without closing in between; 0 while it is closed.
        until: Epoch seconds from which on it is half-open.
        trial: The sum of the trial calls while it is half-open.
        share: In the state of one user: what the user's failures added to the sum of all users.
        own: Whether this is the state of the tool for one user alone.
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
    share: int = 0
    own: bool = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Cusum:
        """Return the state that `as_dict` returned."""
        return cls(**data)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON takes it, without the values that are as in a new one."""
        return {name: value for name, first in _NEW.items() if (value := getattr(self, name)) != first}

    @property
    def baseline(self) -> float:
        """Return the share of calls that fail in good health, rounded up while few calls are known."""
        total = self.calls + _PRIOR_CALLS
        mean = (self.failures + _PRIOR_FAILURES) / total
        return min(1.0, mean + math.sqrt(mean * (1.0 - mean) / (total + 1.0)))

    def state(self, now: datetime) -> HealthState:
        """Return whether the tool works at a time."""
        if not self.opened:
            return "closed"
        return "half-open" if self.until is not None and now.timestamp() >= self.until else "open"

    @property
    def since(self) -> datetime | None:
        """Return when it began to fail; None while it is closed."""
        return None if not self.opened or self.began is None else datetime.fromtimestamp(self.began, UTC)

    @property
    def half_open_at(self) -> datetime | None:
        """Return when it may be tried again; None while it is closed."""
        return None if not self.opened or self.until is None else datetime.fromtimestamp(self.until, UTC)

    @property
    def usual_share(self) -> float | None:
        """Return the share of calls that failed in good health; None without any."""
        return self.failures / self.calls if self.calls else None

    @property
    def note(self) -> str:
        """Return what was seen, for people and models."""
        if not self.run_calls:  # the state is from the table, which does not have the counts
            return "its last calls failed"
        whose = " for this user" if self.own else ""
        usual = "it never worked" if self.run_failures == self.run_calls else "its usual failure rate is not known"
        if self.usual_share is not None:
            usual = f"its usual failure rate is {round(100 * self.usual_share)} %"
        return f"{self.run_failures} of its last {self.run_calls} calls{whose} failed; {usual}"

    @property
    def limits(self) -> CusumLimits:
        """Return what a call adds to the sum, and when the sum is an alarm."""
        return _WARM_UP if self.calls < _WARM_UP_CALLS else limits_for(self.baseline)

    @property
    def next_failure(self) -> int:
        """Return what one more failure adds to the sum."""
        return self.limits.failure

    @property
    def alarm(self) -> int:
        """Return the sum from which on it is an alarm; of the trial calls, while it is open."""
        threshold = self.limits.threshold
        return threshold // 3 if self.opened else threshold

    def after(self, *, failed: bool, at: datetime, added: int | None = None) -> Cusum:
        """Return the state after one more call.

        Args:
            failed: Whether it failed.
            at: When it was made.
            added: What a failure adds; as the table of limits says when not given.
        """
        if self.opened:
            return self._after_trial(failed=failed, at=at, added=added)
        step = self.limits
        failure = step.failure if added is None else added
        total = max(0, self.sum + (failure if failed else -step.success))
        if total == 0:
            return _calm(self, self.run_calls + 1, self.run_failures + failed)
        grown = replace(
            self,
            sum=total,
            run_calls=self.run_calls + 1,
            run_failures=self.run_failures + failed,
            began=self.began if self.began is not None else at.timestamp(),
        )
        return grown if total < step.threshold else _opened(grown, at)

    def _after_trial(self, *, failed: bool, at: datetime, added: int | None) -> Cusum:
        seen = replace(self, run_calls=self.run_calls + 1, run_failures=self.run_failures + failed)
        if self.state(at) == "open":
            return seen
        step = self.limits
        failure = step.failure if added is None else added
        trial = self.trial + (-failure if failed else step.success)
        if trial >= _TRIALS * step.success:
            return Cusum(calls=self.calls, failures=self.failures)
        if trial <= -self.alarm:
            return _opened(seen, at)
        return replace(seen, trial=trial)


_NEW = {one.name: one.default for one in fields(Cusum)}


def _calm(health: Cusum, calls: int, failures: int) -> Cusum:
    """Return the state with a sum of zero, after these calls went into its baseline."""
    share = 0.5 if health.calls >= _HALVING_CALLS else 1.0
    return replace(
        health,
        calls=health.calls * share + calls,
        failures=health.failures * share + failures,
        sum=0,
        run_calls=0,
        run_failures=0,
        began=None,
    )


def _opened(health: Cusum, at: datetime) -> Cusum:
    cool_down = min(_COOL_DOWN * 2 ** min(health.opened, 10), _MAX_COOL_DOWN)
    return replace(health, sum=0, opened=health.opened + 1, until=(at + cool_down).timestamp(), trial=0)
