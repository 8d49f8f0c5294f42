"""Intervals of success rates: quantiles of the Beta distribution, and how often they hold the truth."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import pytest

from agentmodel import _rate_interval
from agentmodel._rate_interval import beta_quantile, rate_interval
from agentmodel.redshift import score
from agentmodel.suggest.plan import confidence_of

Interval = Callable[[int, int], tuple[float, float]]

RATES = [0.05 + 0.9 * (at + 0.5) / 90 for at in range(90)]  # true rates, evenly from .05 to .95


def test_examples() -> None:
    """The examples in the docstrings are true."""
    failed, tried = doctest.testmod(_rate_interval)

    assert (0, 3) == (failed, tried)


@pytest.mark.parametrize(
    ("share", "a", "b", "quantile"),
    [
        (0.05, 1.0, 1.0, 0.05),
        (0.95, 5.0, 1.0, 0.95 ** (1 / 5)),
        (0.05, 1.0, 5.0, 1.0 - 0.95 ** (1 / 5)),
        (0.05, 0.5, 0.5, math.sin(math.pi / 40) ** 2),
        (0.95, 0.5, 0.5, math.sin(math.pi * 0.95 / 2) ** 2),
        (0.5, 1e6, 1e6, 0.5),
        (0.05, 0.2, 0.2, 7.743885786452429e-06),
    ],
)
def test_quantiles(share: float, a: float, b: float, quantile: float) -> None:
    """Quantiles are those that are known in closed form, for small and for large numbers."""
    assert quantile == pytest.approx(beta_quantile(share, a, b), abs=1e-9)


def test_quantiles_are_those_of_scipy() -> None:
    """Where scipy is installed, its quantiles are the same."""
    beta = pytest.importorskip("scipy.stats", reason="scipy is not installed").beta
    for a in (0.2, 1.0, 3.7, 50.0, 4_000.0):
        for b in (0.2, 1.0, 12.5, 700.0):
            for share in (0.05, 0.5, 0.95):
                assert float(beta.ppf(share, a, b)) == pytest.approx(beta_quantile(share, a, b), abs=1e-9)


def lone_agent(successes: int, runs: int) -> tuple[float, float]:
    """The interval of the evidence of an agent that is alone in its domain."""
    rate, means = score.two_way({("agent", ""): (successes, runs)})
    return score.evidence(means["agent"], runs, rate=rate)[1:]


def of_a_plan(successes: int, runs: int) -> tuple[float, float]:
    """The interval of a plan whose runs are all that its agent did: they are in the prior, too."""
    _, means = score.two_way({("agent", ""): (successes, runs)})
    return confidence_of(successes, runs, prior=means["agent"])[1:]


@pytest.mark.parametrize(
    "interval",
    [rate_interval, lambda s, n: confidence_of(s, n)[1:], lone_agent, of_a_plan],
    ids=["rate", "plan", "agent", "plan of an agent"],
)
def test_a_90_percent_interval_covers_85_to_95_percent(interval: Interval) -> None:
    """Over true rates from .05 to .95, the interval holds the truth in 85 to 95 % of cases, for each number of runs."""
    for runs in range(1, 51):
        bounds = [interval(successes, runs) for successes in range(runs + 1)]
        held = sum(
            math.comb(runs, successes) * rate**successes * (1 - rate) ** (runs - successes)
            for rate in RATES
            for successes, (low, high) in enumerate(bounds)
            if low <= rate <= high
        )

        assert 0.85 <= held / len(RATES) <= 0.95, runs
