"""Scores: each defined once as an SQL expression, with a plain-Python twin that must give the same number.

No statement holds a clock: the day to score for, ``as_of``, is an argument. Decay multiplies every score of a domain by
a common factor as days pass, so an order never changes by itself; what orders is the weight that is left without it.

The classic score is ``executions * exp(-0.1 * days since the last execution) * (successes / executions)^2``.
Evidence is the mean of a Beta posterior: executions are discounted by a half-life, and the prior is worth
`PRIOR_EXECUTIONS` executions at the success rate of the agent's domain. Its 90 % interval is the normal approximation,
cut to 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Date, Double, bindparam, case, cast, func, literal_column

from agentmodel.redshift.dialects import DaysBetween, Expression, Ratio

__all__ = [
    "DECAY",
    "PATTERN_DECAY",
    "Evidence",
    "days_between",
    "decay",
    "decay_expression",
    "discount",
    "discount_expression",
    "domain_rate",
    "evidence",
    "evidence_expression",
    "pattern_score",
    "pattern_score_expression",
    "recommended",
    "score",
    "score_expression",
    "succeeded",
]

DECAY: Final = 0.1
"""Share of its score that an idle agent loses per day, as a rate."""

PATTERN_DECAY: Final = 0.05
"""The same for a pattern."""

PRIOR_EXECUTIONS: Final = 4.0
"""Executions the prior of `evidence` is worth."""

PERCENTILE: Final = 0.8
"""A pattern is recommended from this percentile of its own user's scores up."""

TOLERANCE: Final = 1e-9
"""Relative slack of the percentile, so that scores which are equal on paper are equal in every engine."""

Z90: Final = 1.6448536269514722
"""Standard deviations to each side of a mean that hold 90 % of a normal distribution."""


class Evidence(NamedTuple):
    """Mean of an agent's success rate and the bounds of its central 90 % interval."""

    mean: float
    low: float
    high: float


# -- plain Python -----------------------------------------------------------------------------------------------------


def days_between(last: date, as_of: date) -> int:
    """Return calendar days from ``last`` to ``as_of``; a day in the future counts as today.

    >>> days_between(date(2025, 6, 14), date(2025, 6, 24)), days_between(date(2025, 6, 24), date(2025, 6, 14))
    (10, 0)
    """
    return max(0, (as_of - last).days)


def decay(last: date | None, as_of: date, *, rate: float = DECAY) -> float:
    """Return the factor that is left of a score after the days since ``last``; 1 where no day is known.

    >>> round(decay(date(2025, 6, 14), date(2025, 6, 24)), 6)
    0.367879
    """
    return 1.0 if last is None else math.exp(-rate * days_between(last, as_of))


def score(executions: int, successes: int, *, last: date | None, as_of: date, rate: float = DECAY) -> float:
    """Return the classic score.

    >>> score(2, 1, last=date(2025, 6, 14), as_of=date(2025, 6, 14))
    0.5
    """
    return executions * decay(last, as_of, rate=rate) * (successes / executions) ** 2


def pattern_score(executions: int, successes: int, *, last: date | None, as_of: date) -> float:
    """Return the score of a pattern, which fades half as fast.

    >>> round(pattern_score(3, 3, last=date(2025, 6, 14), as_of=date(2025, 6, 24)), 6)
    1.819592
    """
    return score(executions, successes, last=last, as_of=as_of, rate=PATTERN_DECAY)


def discount(last: date | None, as_of: date, *, half_life: float) -> float:
    """Return what an execution of that day weighs as evidence; 1 where no day is known.

    >>> discount(date(2025, 6, 1), date(2025, 7, 1), half_life=30)
    0.5
    """
    return 1.0 if last is None else 0.5 ** (days_between(last, as_of) / half_life)


def domain_rate(successes: float, executions: float) -> float:
    """Return a domain's success rate from its weighted counts, with one success and one failure added.

    >>> domain_rate(0, 0), domain_rate(3, 4)
    (0.5, 0.6666666666666666)
    """
    return (successes + 1.0) / (executions + 2.0)


def evidence(successes: float, executions: float, *, prior: float) -> Evidence:
    """Return the posterior of a success rate.

    Args:
        successes: Successful executions, each weighed by `discount`.
        executions: All executions, weighed likewise.
        prior: Success rate of the domain, by `domain_rate`.

    >>> [round(value, 3) for value in evidence(8, 8, prior=0.5)]
    [0.833, 0.663, 1.0]
    """
    alpha = successes + PRIOR_EXECUTIONS * prior
    total = executions + PRIOR_EXECUTIONS
    mean = alpha / total
    spread = Z90 * math.sqrt(mean * (1.0 - mean) / (total + 1.0))
    return Evidence(mean, max(0.0, mean - spread), min(1.0, mean + spread))


def succeeded(*, reviewed: str | None, recorded: str | None, last_attempts: Iterable[bool]) -> bool:
    """Return whether an execution succeeded: by review, else by the session's outcome, else by its calls.

    Args:
        reviewed: ``Y`` or ``N`` where a person corrected the session's outcome.
        recorded: ``Y`` or ``N`` where the session's outcome was recorded.
        last_attempts: Outcome of the last attempt of each call.

    >>> succeeded(reviewed=None, recorded="N", last_attempts=[True])
    False
    >>> succeeded(reviewed="Y", recorded="N", last_attempts=[])
    True
    """
    for outcome in (reviewed, recorded):
        if outcome in ("Y", "N"):
            return outcome == "Y"
    return all(last_attempts)


def recommended(value: float, *, successes: int, threshold: float) -> bool:
    """Return whether a pattern is recommended: it has succeeded, and is among its user's best.

    >>> recommended(1.0, successes=1, threshold=1.0), recommended(0.0, successes=0, threshold=0.0)
    (True, False)
    """
    return successes > 0 and value >= threshold * (1.0 - TOLERANCE)


# -- the same as expressions ------------------------------------------------------------------------------------------


def day(as_of: date | ColumnElement[date]) -> ColumnElement[date]:
    """Return the day to score for as an expression: a bind parameter named ``as_of``, or what was given."""
    return as_of if isinstance(as_of, ColumnElement) else cast(bindparam("as_of", as_of, Date), Date)


def half_life(days: float) -> ColumnElement[float]:
    """Return the half-life as a bind parameter named ``half_life``."""
    return cast(bindparam("half_life", days, Double), Double)


def age_expression(last: Expression, as_of: date | ColumnElement[date]) -> ColumnElement[int]:
    """Return `days_between` as an expression."""
    return func.greatest(literal_column("0"), DaysBetween(last, day(as_of)))


def decay_expression(
    last: Expression, *, as_of: date | ColumnElement[date], rate: float = DECAY
) -> ColumnElement[float]:
    """Return `decay` as an expression."""
    factor: ColumnElement[float] = func.exp(_number(-rate) * age_expression(last, as_of), type_=Double())
    return case((last.is_(None), _number(1.0)), else_=factor)


def score_expression(
    executions: Expression,
    successes: Expression,
    *,
    last: Expression,
    as_of: date | ColumnElement[date],
    rate: float = DECAY,
) -> ColumnElement[float]:
    """Return `score` as an expression."""
    fraction: ColumnElement[float] = func.power(Ratio(successes, executions), literal_column("2"), type_=Double())
    return cast(executions, Double) * decay_expression(last, as_of=as_of, rate=rate) * fraction


def pattern_score_expression(
    executions: Expression, successes: Expression, *, last: Expression, as_of: date | ColumnElement[date]
) -> ColumnElement[float]:
    """Return `pattern_score` as an expression."""
    return score_expression(executions, successes, last=last, as_of=as_of, rate=PATTERN_DECAY)


def discount_expression(
    last: Expression, *, as_of: date | ColumnElement[date], half_life: ColumnElement[float]
) -> ColumnElement[float]:
    """Return `discount` as an expression."""
    factor: ColumnElement[float] = func.power(
        _number(0.5), Ratio(age_expression(last, as_of), half_life), type_=Double()
    )
    return case((last.is_(None), _number(1.0)), else_=factor)


def evidence_expression(
    successes: ColumnElement[float], executions: ColumnElement[float], *, prior: ColumnElement[float]
) -> tuple[ColumnElement[float], ColumnElement[float], ColumnElement[float]]:
    """Return `evidence` as three expressions: mean, low, high."""
    total = executions + _number(PRIOR_EXECUTIONS)
    mean = Ratio(successes + _number(PRIOR_EXECUTIONS) * prior, total)
    spread = _number(Z90) * func.sqrt(Ratio(mean * (_number(1.0) - mean), total + _number(1.0)), type_=Double())
    low: ColumnElement[float] = func.greatest(_number(0.0), mean - spread, type_=Double())
    return mean, low, func.least(_number(1.0), mean + spread, type_=Double())


def domain_rate_expression(successes: ColumnElement[float], executions: ColumnElement[float]) -> ColumnElement[float]:
    """Return `domain_rate` as an expression."""
    return Ratio(successes + _number(1.0), executions + _number(2.0))


def _number(value: float) -> ColumnElement[float]:
    # CAST: a bare 0.1 is a DECIMAL in every engine, and would make DECIMAL arithmetic of the whole
    return cast(literal_column(repr(value)), Double)
