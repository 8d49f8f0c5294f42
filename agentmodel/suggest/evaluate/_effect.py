"""Effect: the difference between two arms of an experiment, with an interval that holds at every look.

Runs are compared within strata, such as a category and the share that was withheld. The difference is that of Mantel
and Haenszel: in each stratum the difference of the means, weighted by ``n1 n0 / (n1 + n0)``. Around it lies the
asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory
and asymptotic confidence sequences" (2021), with a normal mixture; it is the mixture SPRT in another form. It may be
looked at after every run: the probability that it ever leaves the truth out is at most ``alpha``.

Only sums are needed (`Sums`), so engines count them, and parts of a history are added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = [
    "ALPHA",
    "LEAST_RUNS",
    "Effect",
    "Interval",
    "Sums",
    "Terms",
    "cost_effect",
    "effect",
    "interval",
    "runs_to_find",
    "terms",
]

ALPHA: Final = 0.05
"""The probability that an interval ever leaves the truth out."""

LEAST_RUNS: Final = 30
"""Runs that each arm needs before anything is said."""

POINTS: Final = 0.10
"""The difference of success rates at which the interval is narrowest for its number of runs (``tau``)."""

LOGS: Final = 0.20
"""The same of logarithms of costs."""


_ROUNDING: Final = 1e-12  # of a sum of squares


class Sums(NamedTuple):
    """What is counted of one arm of a stratum.

    Attributes:
        runs: How many.
        total: The sum of their values.
        squares: The sum of the squares of their values; of values that are 0 or 1 it is ``total``.
    """

    runs: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Return the mean of the values; there must be some."""
        return self.total / self.runs


class Terms(NamedTuple):
    """What a stratum contributes; the terms of several strata are added up.

    Attributes:
        weight: ``n1 n0 / (n1 + n0)``.
        given: The weight times the mean with a plan.
        withheld: The weight times the mean without one.
        variance: The weight times the variance of a value, by both arms together or apart, whichever is larger.
        p: The part of Sato's variance that is multiplied by the difference; 0 for costs.
        q: The other part of it; 0 for costs.
        n1: Runs with a plan.
        s1: The sum of their values.
        n0: Runs without one.
        s0: The sum of their values.
    """

    weight: float = 0.0
    given: float = 0.0
    withheld: float = 0.0
    variance: float = 0.0
    p: float = 0.0
    q: float = 0.0
    n1: int = 0
    s1: float = 0.0
    n0: int = 0
    s0: float = 0.0

    def plus(self, other: Terms) -> Terms:
        """Return the sum of both."""
        return Terms._make(map(sum, zip(self, other, strict=True)))

    def minus(self, other: Terms) -> Terms:
        """Return what is left without the other."""
        return Terms._make(one - two for one, two in zip(self, other, strict=True))


def terms(given: Sums, withheld: Sums, *, binary: bool = True) -> Terms:
    """Return what a stratum contributes; nothing where one of its arms is empty, as it says nothing then.

    Args:
        given: Runs with a plan.
        withheld: Runs without one.
        binary: Whether values are 0 or 1.
    """
    n1, s1, _ = given
    n0, s0, _ = withheld
    if not (n1 and n0):
        return Terms()
    n, s = n1 + n0, s1 + s0
    weight = n1 * n0 / n
    p = q = 0.0
    if binary:
        variance = (s + 1) * (n - s + 1) / (n + 2) ** 2
        p = (n1 * n1 * s0 - n0 * n0 * s1 + n1 * n0 * (n0 - n1) / 2) / n**2
        q = (s1 * (n0 - s0) + s0 * (n1 - s1)) / (2 * n)
    else:
        spread1, spread0 = _spread(given), _spread(withheld)
        apart = spread1 / max(n1 - 1, 1) / n1 + spread0 / max(n0 - 1, 1) / n0
        variance = max((spread1 + spread0) / max(n - 2, 1), weight * apart)
    return Terms(
        weight, weight * given.mean, weight * withheld.mean, weight * variance, p, q, n1=n1, s1=s1, n0=n0, s0=s0
    )


def _spread(sums: Sums) -> float:
    """Return the sum of the squared distances from the mean; 0 for what is only left by rounding."""
    spread = sums.squares - sums.total**2 / sums.runs
    return spread if spread > _ROUNDING * sums.squares else 0.0


class Interval(NamedTuple):
    """A difference and the interval around it.

    Attributes:
        difference: With a plan minus without.
        low: Its lower bound at every look.
        high: Its upper bound.
    """

    difference: float
    low: float
    high: float


def interval(found: Terms, *, binary: bool = True, tau: float = POINTS, alpha: float = ALPHA) -> Interval | None:
    """Return the difference and its interval; None while an arm has fewer than 30 runs, or if no value ever differed.

    The variance is the larger of the pooled one, which is too narrow where success is rarer in the holdout, and Sato's,
    which is too narrow where the holdout is small; and it is at least that of arms with one success and one failure
    more, as all successes in a small holdout are no certainty.

    Args:
        found: The terms of all strata.
        binary: Whether values are 0 or 1.
        tau: The difference at which the interval is narrowest for its number of runs.
        alpha: The probability that it ever leaves the truth out.
    """
    if min(found.n1, found.n0) < LEAST_RUNS:
        return None
    difference = (found.given - found.withheld) / found.weight
    total = max(found.variance, difference * found.p + found.q) if binary else found.variance
    variance = total / found.weight**2
    if binary:
        n, s = found.n1 + found.n0, found.s1 + found.s0
        arms = ((found.n1, found.s1), (found.n0, found.s0))
        least = sum((good + 1) * (runs - good + 1) / ((runs + 2) ** 2 * runs) for runs, good in arms)
        flat = (s + 1) * (n - s + 1) / (n + 2) ** 2 * (1 / found.n1 + 1 / found.n0)
        explained = min(1.0, found.variance / found.weight**2 / flat)  # by the strata
        variance = max(variance, least * explained)
    if variance <= 0:
        return None
    radius = _radius(variance, tau, alpha)
    low, high = difference - radius, difference + radius
    return Interval(difference, max(-1.0, low), min(1.0, high)) if binary else Interval(difference, low, high)


def _radius(variance: float, tau: float, alpha: float) -> float:
    wider = variance + tau**2
    return math.sqrt(variance * wider / tau**2 * 2 * math.log(math.sqrt(wider / variance) / alpha))


@dataclass(frozen=True, slots=True)
class Effect:
    """What plans change in one measure, on the same mix of strata.

    Attributes:
        with_plan: Its mean with a plan; None where no stratum has runs of both kinds.
        without_plan: Its mean without one.
        runs_with: Runs with a plan.
        runs_without: Runs without one.
        change: The difference: of success in shares of all runs, such as 0.06 for 6 points; of costs as a share of what
            runs cost without a plan, such as -0.2 for a fifth less, by logarithms, so that a few very long runs do not
            decide. None while there are too few runs, or where no run differed.
        low: Its lower bound, which holds at every look.
        high: Its upper bound.

    >>> effect = Effect(0.72, 0.6, runs_with=900, runs_without=100, change=0.12, low=0.02, high=0.22)
    >>> effect.low > 0  # the interval leaves 0 out: plans help
    True
    """

    with_plan: float | None
    without_plan: float | None
    runs_with: int
    runs_without: int
    change: float | None
    low: float | None
    high: float | None


def effect(strata: Iterable[tuple[Sums, Sums]], *, alpha: float = ALPHA) -> Effect:
    """Return what plans change in success, given the sums of each stratum with a plan and without."""
    found = _summed(terms(given, withheld) for given, withheld in strata)
    return _effect(found, found, interval(found, alpha=alpha))


def cost_effect(strata: Iterable[tuple[Sums, Sums, Sums, Sums]], *, alpha: float = ALPHA) -> Effect:
    """Return what plans change in a cost.

    Args:
        strata: The sums of each stratum: of the cost with a plan and without, of ``ln(1 + cost)`` with and without.
        alpha: The probability that the interval ever leaves the truth out.
    """
    rows = list(strata)
    plain = _summed(terms(row[0], row[1], binary=False) for row in rows)
    logs = _summed(terms(row[2], row[3], binary=False) for row in rows)
    found = interval(logs, binary=False, tau=LOGS, alpha=alpha)
    return _effect(plain, logs, None if found is None else Interval(*map(math.expm1, found)))


def _summed(parts: Iterable[Terms]) -> Terms:
    found = Terms()
    for part in parts:
        found = found.plus(part)
    return found


def _effect(means: Terms, counted: Terms, found: Interval | None) -> Effect:
    weight = means.weight
    return Effect(
        with_plan=means.given / weight if weight else None,
        without_plan=means.withheld / weight if weight else None,
        runs_with=counted.n1,
        runs_without=counted.n0,
        change=None if found is None else found.difference,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
    )


_PASSAGE: Final = ((0.3, 89.58, 164.5), (0.5, 29.48, 51.5), (1.0, 7.21, 12.24), (2.0, 2.29, 3.40))
"""When Brownian motion with a drift first leaves the interval, by simulation (1,000 paths each).

Each row has the drift in units of ``tau``, and the median and the 80 % quantile of the time, in units in which the
variance is ``tau`` squared.
"""


def runs_to_find(difference: float, *, success_rate: float, share: float, certain: bool = False) -> float:
    """Return after how many runs a difference of success rates is found in half of all installations, in theory.

    Args:
        difference: The difference that plans make, such as 0.1 for 10 points.
        success_rate: The success rate without a plan, 0 to 1.
        share: The share of runs without a plan, between 0 and 1.
        certain: Count the runs after which it is found in 80 % of installations instead.

    >>> round(runs_to_find(0.1, success_rate=0.6, share=0.2))
    1054
    """
    given = min(max(success_rate + difference, 0.0), 1.0)
    mixed = share * success_rate + (1 - share) * given
    variance = max(
        success_rate * (1 - success_rate) / share + given * (1 - given) / (1 - share),
        mixed * (1 - mixed) / (share * (1 - share)),
    )
    drift = min(max(abs(difference) / POINTS, _PASSAGE[0][0]), _PASSAGE[-1][0])
    column = 2 if certain else 1
    below, above = next((a, b) for a, b in pairwise(_PASSAGE) if a[0] <= drift <= b[0])
    part = math.log(drift / below[0]) / math.log(above[0] / below[0])
    passage = math.exp((1 - part) * math.log(below[column]) + part * math.log(above[column]))
    return passage * variance / POINTS**2
