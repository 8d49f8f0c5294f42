"""Quantiles of the Beta distribution, by which a success rate is given an interval."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

__all__ = ["beta_quantile", "rate_interval"]

_STEPS: Final = 100
_PRECISION: Final = 1e-12
_TERMS: Final = 10_000  # of the continued fraction; a few of the square root of a + b are needed
_TINY: Final = 1e-300


def rate_interval(successes: float, runs: float) -> tuple[float, float]:
    """Return the central 90 % interval of a success rate: the quantiles of a Beta posterior with a uniform prior.

    It rests on these runs alone: a prior that was computed from the same runs would count them twice, and the interval
    would be too narrow.

    Args:
        successes: Runs that succeeded; discounted runs need not be whole.
        runs: All runs.

    >>> [round(bound, 3) for bound in rate_interval(9, 10)]
    [0.636, 0.967]
    >>> [round(bound, 3) for bound in rate_interval(0, 0)]
    [0.05, 0.95]
    """
    a, b = round(1.0 + successes, 6), round(1.0 + runs - successes, 6)
    return beta_quantile(0.05, a, b), beta_quantile(0.95, a, b)


@lru_cache(maxsize=4096)
def beta_quantile(share: float, a: float, b: float) -> float:
    """Return the number below which a Beta distribution has this share, 0 to 1; ``a`` and ``b`` are positive.

    >>> round(beta_quantile(0.05, 1, 1), 6)
    0.05
    """
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(_STEPS):  # Newton's, or half of what is left where that would leave it
        excess = _below(x, a, b) - share
        low, high = (low, x) if excess > 0 else (x, high)
        density = math.exp((a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x) - _log_beta(a, b))
        following = x - excess / _nonzero(density)
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) < _PRECISION:
            return following
        x = following
    return x


def _below(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function, by its continued fraction (DLMF 8.17.22) where that is fast."""
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _below(1.0 - x, b, a)
    logarithm = a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)
    numerator, denominator = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
    fraction = denominator
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            denominator = 1.0 / _nonzero(1.0 + term * denominator)
            numerator = _nonzero(1.0 + term / numerator)
            fraction *= numerator * denominator
        if abs(numerator * denominator - 1.0) < 1e-12:
            break
    return math.exp(logarithm) / a * fraction


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
