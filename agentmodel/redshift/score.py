"""Define each score once as an SQL expression, and once in plain Python; both must give the same number.

No statement reads a clock: age is counted from the newest execution of the domain, or from the day to score for,
``as_of``, where that is earlier. So no score changes because days pass in which nobody runs anything.

The classic score is ``executions * exp(-0.1 * days since the last execution) * (successes / executions)^2``.
Evidence is the success rate that is expected of an agent on the usual work of its domain: executions are discounted by
a half-life, what is due to the difficulty of their categories is taken out (`two_way`), and a prior is worth
`AGENT_PRIOR` executions at the success rate of the domain. No engine has quantiles of a Beta distribution, so the 90 %
interval is computed in Python only.

>>> DECAY, PATTERN_DECAY
(0.1, 0.05)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ClauseElement, ColumnElement, Date, Double, bindparam, case, cast, func, literal_column

from agentmodel._rate_interval import rate_interval
from agentmodel._values.outcomes import ReportedOutcome, trusted
from agentmodel.exceptions import ValidationError
from agentmodel.redshift._constructs import DaysBetween, Expression, Ratio

__all__ = [
    "DECAY", "PATTERN_DECAY", "Evidence", "days_between", "decay", "evidence", "pattern_score", "recommended",
    "revision_weight", "score", "succeeded", "two_way",
]  # fmt: skip

DECAY: Final = 0.1
"""Decay rate per day of the score of an agent without executions."""

PATTERN_DECAY: Final = 0.05
"""Decay rate per day of the score of a pattern without executions."""

_LARGEST_EXPONENT: Final = 700.0  # exp(-700) is the least power that no engine reports as an underflow
_MOST_HALVINGS: Final = 60.0  # of a weight in evidence: an engine refuses the product of much smaller ones

AGENT_PRIOR: Final = 4.0
"""How many executions the prior of an agent's success rate counts for."""

CATEGORY_PRIOR: Final = 1.0
"""The same of a category's."""

REVISION_PRIOR: Final = 10.0
"""How many executions the predecessors of an agent's present revision count as at most; see `revision_weight`."""

SWEEPS: Final = 4
"""How often categories and agents are estimated by turns; on real runs four lie within .004 of sixteen."""

PERCENTILE: Final = 0.8
"""A pattern is recommended from this percentile of the pattern scores of its own user and category up."""

TOLERANCE: Final = 1e-9
"""Relative slack of the percentile, so that scores which are equal on paper are equal in every engine."""


class Evidence(NamedTuple):
    """The expected success rate of an agent, and the bounds of its central 90 % interval.

    Attributes:
        mean: Mean of the success rate, 0 to 1.
        low: Lower bound of the central 90 % interval.
        high: Upper bound.
    """

    mean: float
    low: float
    high: float


# -- plain Python -----------------------------------------------------------------------------------------------------


def days_between(last: date, as_of: date) -> int:
    """Return calendar days from ``last`` to ``as_of``; a day in the future counts as today.

    >>> from datetime import date
    >>> days_between(date(2025, 6, 14), date(2025, 6, 24)), days_between(date(2025, 6, 24), date(2025, 6, 14))
    (10, 0)
    """
    return max(0, (_checked_day(as_of) - last).days)


def _checked_day(as_of: Any) -> date:
    """Return the day to score for; a datetime is of another day in another time zone, and so is none."""
    if not isinstance(as_of, date) or isinstance(as_of, datetime):
        raise ValidationError("as_of", as_of, "must be a date, such as date(2025, 6, 14)")
    return as_of


def decay(last: date | None, as_of: date, *, rate: float = DECAY) -> float:
    """Return the factor by which a score has decayed since ``last``; 1 where no day is known.

    >>> from datetime import date
    >>> round(decay(date(2025, 6, 14), date(2025, 6, 24)), 6)
    0.367879
    """
    return 1.0 if last is None else math.exp(-min(rate * days_between(last, as_of), _LARGEST_EXPONENT))


def score(executions: float, successes: float, *, last: date | None, as_of: date, rate: float = DECAY) -> float:
    """Return the classic score.

    >>> from datetime import date
    >>> score(2, 1, last=date(2025, 6, 14), as_of=date(2025, 6, 14))
    0.5
    """
    return executions * decay(last, as_of, rate=rate) * (successes / executions) ** 2


def pattern_score(executions: int, successes: int, *, last: date | None, as_of: date) -> float:
    """Return the score of a pattern, which decays half as fast.

    >>> from datetime import date
    >>> round(pattern_score(3, 3, last=date(2025, 6, 14), as_of=date(2025, 6, 24)), 6)
    1.819592
    """
    return score(executions, successes, last=last, as_of=as_of, rate=PATTERN_DECAY)


def discount(last: date | None, as_of: date, *, half_life: float) -> float:
    """Return the weight of an execution on that day as evidence; 1 where no day is known.

    >>> from datetime import date
    >>> discount(date(2025, 6, 1), date(2025, 7, 1), half_life=30)
    0.5
    """
    return 1.0 if last is None else 0.5 ** min(days_between(last, as_of) / half_life, _MOST_HALVINGS)


def revision_weight(own: float, others: float, *, prior: float = REVISION_PRIOR) -> float:
    """Return the weight of each execution of an agent's earlier revisions, beside one of its present revision.

    They are a prior: together they count as at most ``prior`` executions, and half of that after as many executions of
    the present revision: ``min(1, prior / others) * 0.5 ** (own / prior)``.

    Args:
        own: Executions of the present revision.
        others: Executions of earlier revisions, and of an unknown one.
        prior: At least 1.

    >>> revision_weight(0, 5), revision_weight(0, 1000), revision_weight(10, 1000)
    (1.0, 0.01, 0.005)
    """
    fading: float = 0.5 ** min(own / prior, _MOST_HALVINGS)
    return min(1.0, prior / max(others, 1.0)) * fading


def domain_rate(successes: float, executions: float) -> float:
    """Return a domain's success rate from its weighted counts, with one success and one failure added.

    >>> domain_rate(0, 0), domain_rate(3, 4)
    (0.5, 0.6666666666666666)
    """
    return (successes + 1.0) / (executions + 2.0)


def two_way(cells: Mapping[tuple[str, str], tuple[float, float]]) -> tuple[float, dict[str, float]]:
    """Return the success rate of a domain, and of each agent what it is expected to be on the domain's usual work.

    An agent that is given the easy work looks good. Therefore by turns each category's difference from the domain is
    estimated, given the agents, and each agent's, given the categories. Runs without a category are of the usual work.

    Args:
        cells: Successes and executions, each weighed by `discount`, by agent and category ('' for none).

    >>> rate, means = two_way({("good", "hard"): (15, 30), ("good", "easy"): (5, 5),
    ...                        ("weak", "hard"): (1, 5), ("weak", "easy"): (24, 30)})
    >>> round(rate, 3), {agent: round(mean, 3) for agent, mean in means.items()}
    (0.639, {'good': 0.729, 'weak': 0.55})
    """
    rate = domain_rate(sum(good for good, _ in cells.values()), sum(count for _, count in cells.values()))
    of_agent: dict[str, float] = dict.fromkeys((agent for agent, _ in cells), 0.0)
    weights = [(agent, category, good - count * rate, count) for (agent, category), (good, count) in cells.items()]
    for _ in range(SWEEPS):
        rests = ((category, rest - count * of_agent[agent], count) for agent, category, rest, count in weights)
        of_category = _shares(rests, prior=CATEGORY_PRIOR) | {"": 0.0}
        rests = ((agent, rest - count * of_category[category], count) for agent, category, rest, count in weights)
        of_agent = _shares(rests, prior=AGENT_PRIOR)
    return rate, {agent: min(max(rate + effect, 0.0), 1.0) for agent, effect in of_agent.items()}


def _shares(parts: Iterable[tuple[str, float, float]], *, prior: float) -> dict[str, float]:
    above: dict[str, float] = defaultdict(float)
    below: dict[str, float] = defaultdict(lambda: prior)
    for name, part, count in parts:
        above[name] += part
        below[name] += count
    return {name: part / below[name] for name, part in above.items()}


def evidence(mean: float, executions: float, *, rate: float) -> Evidence:
    """Return an agent's evidence, with its interval.

    The interval rests on the agent's own executions alone (see `agentmodel._rate_interval.rate_interval`), the
    successes being those that it would have had on the usual work of its domain.

    Args:
        mean: What is expected of it, by `two_way`.
        executions: Its executions, each weighed by `discount`.
        rate: Success rate of the domain, by `two_way`.

    >>> [round(value, 3) for value in evidence(0.9, 8, rate=0.8)]
    [0.9, 0.654, 0.984]
    """
    successes = min(max(mean * (executions + AGENT_PRIOR) - AGENT_PRIOR * rate, 0.0), executions)
    low, high = rate_interval(successes, executions)
    return Evidence(mean, min(low, mean), max(high, mean))


def succeeded(
    *,
    reviewed: str | None,
    recorded: str | None,
    last_attempts: Iterable[bool],
    outcomes: Iterable[ReportedOutcome] = (),
) -> bool:
    """Return whether an execution succeeded: as reviewed, as reported, as recorded, else by the outcome of its calls.

    Args:
        reviewed: ``Y`` or ``N`` where a person corrected the session's outcome.
        recorded: ``Y`` or ``N`` where the session's outcome was recorded.
        last_attempts: Outcome of the last attempt of each call.
        outcomes: Outcomes from outside, of the session or of the agent.

    >>> succeeded(reviewed=None, recorded="N", last_attempts=[True])
    False
    >>> succeeded(reviewed="Y", recorded="N", last_attempts=[])
    True
    """
    if reviewed in ("Y", "N"):
        return reviewed == "Y"
    reported = trusted(outcomes)
    if reported is not None:
        return reported
    return recorded == "Y" if recorded in ("Y", "N") else all(last_attempts)


def recommended(value: float, *, successes: int, threshold: float) -> bool:
    """Return whether a pattern is recommended: it has succeeded, and is among the best of its user and category.

    >>> recommended(1.0, successes=1, threshold=1.0), recommended(0.0, successes=0, threshold=0.0)
    (True, False)
    """
    return successes > 0 and value >= threshold * (1.0 - TOLERANCE)


# -- the same as SQL expressions --------------------------------------------------------------------------------------


def as_of_expression(as_of: date | Expression) -> ColumnElement[date]:
    """Return the day to score for as a bind parameter named ``as_of``; an expression is returned as it is."""
    given: Any = as_of
    if isinstance(as_of, ClauseElement) or hasattr(as_of, "__clause_element__"):
        expression: ColumnElement[date] = given
        return expression
    return cast(bindparam("as_of", _checked_day(given), Date), Date)


def half_life_expression(days: float) -> ColumnElement[float]:
    """Return the half-life as a bind parameter named ``half_life``."""
    return cast(bindparam("half_life", days, Double), Double)


def revision_prior_expression(executions: float) -> ColumnElement[float]:
    """Return the prior of `revision_weight` as a bind parameter named ``revision_prior``."""
    return cast(bindparam("revision_prior", executions, Double), Double)


def revision_weight_expression(
    own: Expression, others: Expression, *, prior: ColumnElement[float]
) -> ColumnElement[float]:
    """Return `revision_weight` as an expression."""
    share: ColumnElement[float] = func.least(
        _number(1.0), Ratio(prior, func.greatest(others, literal_column("1"), type_=Double())), type_=Double()
    )
    halvings: ColumnElement[float] = func.least(Ratio(own, prior), _number(_MOST_HALVINGS), type_=Double())
    fading: ColumnElement[float] = func.power(_number(0.5), halvings, type_=Double())
    return share * fading


def age_expression(last: Expression, as_of: date | Expression) -> ColumnElement[int]:
    """Return `days_between` as an expression."""
    return func.greatest(literal_column("0"), DaysBetween(last, as_of_expression(as_of)))


def decay_expression(last: Expression, *, as_of: date | Expression, rate: float = DECAY) -> ColumnElement[float]:
    """Return `decay` as an expression."""
    age: ColumnElement[float] = func.least(
        _number(rate) * age_expression(last, as_of), _number(_LARGEST_EXPONENT), type_=Double()
    )
    factor: ColumnElement[float] = func.exp(-age, type_=Double())
    return case((last.is_(None), _number(1.0)), else_=factor)


def score_expression(
    executions: Expression,
    successes: Expression,
    *,
    last: Expression,
    as_of: date | Expression,
    rate: float = DECAY,
) -> ColumnElement[float]:
    """Return `score` as an expression."""
    fraction: ColumnElement[float] = func.power(Ratio(successes, executions), literal_column("2"), type_=Double())
    return cast(executions, Double) * decay_expression(last, as_of=as_of, rate=rate) * fraction


def pattern_score_expression(
    executions: Expression, successes: Expression, *, last: Expression, as_of: date | Expression
) -> ColumnElement[float]:
    """Return `pattern_score` as an expression."""
    return score_expression(executions, successes, last=last, as_of=as_of, rate=PATTERN_DECAY)


def discount_expression(
    last: Expression, *, as_of: date | Expression, half_life: ColumnElement[float]
) -> ColumnElement[float]:
    """Return `discount` as an expression."""
    halvings: ColumnElement[float] = func.least(
        Ratio(age_expression(last, as_of), half_life), _number(_MOST_HALVINGS), type_=Double()
    )
    factor: ColumnElement[float] = func.power(_number(0.5), halvings, type_=Double())
    return case((last.is_(None), _number(1.0)), else_=factor)


def domain_rate_expression(successes: ColumnElement[float], executions: ColumnElement[float]) -> ColumnElement[float]:
    """Return `domain_rate` as an expression."""
    return Ratio(successes + _number(1.0), executions + _number(2.0))


def number_expression(value: float) -> ColumnElement[float]:
    """Return a number in double precision."""
    return _number(value)


def _number(value: float) -> ColumnElement[float]:
    # CAST: a bare 0.1 is a DECIMAL in every engine, and would make the whole expression DECIMAL arithmetic
    return cast(literal_column(repr(value)), Double)
