"""Chance of success: how likely a run of an agent for a category is to succeed, from how runs of both went."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Cells", "RunCounts", "chance_of_success", "least_likely", "packed_counts", "runs_of"]

_AGENT_PRIOR: Final = 4.0  # the weight of the domain's rate beside an agent's own runs, in runs
_CATEGORY_PRIOR: Final = 2.0  # the same beside a category's runs
_MOST: Final = 1_000  # categories of a domain whose runs are kept
_DOMAIN: Final = ""  # the key of the domain's own runs


class RunCounts(NamedTuple):
    """How runs went.

    Attributes:
        successes: How many succeeded.
        runs: How many there were.
    """

    successes: int = 0
    runs: int = 0


def chance_of_success(agent: RunCounts, category: RunCounts, domain: RunCounts) -> float:
    """Return how likely a run is to succeed, 0 to 1.

    ``logit p = logit p_agent + logit p_category - logit mu``, where each rate is drawn towards that of the domain, mu.
    An agent or a category without runs changes nothing.

    Args:
        agent: The runs of the agent.
        category: The runs of the domain in the category of the request, by any agent.
        domain: All runs of the domain.

    >>> round(chance_of_success(RunCounts(8, 10), RunCounts(), RunCounts(50, 100)), 2)
    0.71
    >>> round(chance_of_success(RunCounts(8, 10), RunCounts(1, 10), RunCounts(50, 100)), 2)
    0.33
    """
    mu = (domain.successes + 1) / (domain.runs + 2)
    of_agent = (agent.successes + _AGENT_PRIOR * mu) / (agent.runs + _AGENT_PRIOR)
    of_category = (category.successes + _CATEGORY_PRIOR * mu) / (category.runs + _CATEGORY_PRIOR)
    logit = _logit(of_agent) + _logit(of_category) - _logit(mu)
    return 1 / (1 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


Cells = Mapping[tuple[str, str], RunCounts]
"""Runs of a domain by agent and category."""


def packed_counts(cells: Cells) -> dict[str, list[int]]:
    """Return the runs of a domain, and of each of its categories, as they are stored with the domain.

    Categories stand for the digests of their names, since names are their users'; only those with most runs are kept.
    """
    successes: dict[str, int] = defaultdict(int)
    runs: dict[str, int] = defaultdict(int)
    for (_, category), one in cells.items():
        for key in {_DOMAIN, _key(category)}:
            successes[key] += one.successes
            runs[key] += one.runs
    kept = sorted(runs, key=lambda key: (key != _DOMAIN, -runs[key], key))[: _MOST + 1]
    return {key: [successes[key], runs[key]] for key in sorted(kept)}


def runs_of(packed: Any, category: str | None) -> tuple[RunCounts, RunCounts] | None:
    """Return the runs of a category and of its domain from stored counts; None where there are none or damaged ones."""
    try:
        successes, runs = map(int, packed[_DOMAIN])
        good, all_ = map(int, packed.get(_key(category), (0, 0)) if category else (0, 0))
        return RunCounts(good, all_), RunCounts(successes, runs)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def least_likely(cells: Cells, share: float) -> float:
    """Return the chance of success below which the least likely share of the runs of a domain lies."""
    domain = RunCounts()
    agents: dict[str, RunCounts] = defaultdict(RunCounts)
    categories: dict[str, RunCounts] = defaultdict(RunCounts)
    for (agent, category), one in cells.items():
        domain = _added(domain, one)
        agents[agent], categories[category] = _added(agents[agent], one), _added(categories[category], one)
    chances = sorted(
        (chance_of_success(agents[agent], categories[category] if category else RunCounts(), domain), one.runs)
        for (agent, category), one in cells.items()
    )
    below = 0
    for chance, runs in chances:
        below += runs
        if below > share * domain.runs:
            return chance
    return 1.0


def _added(one: RunCounts, other: RunCounts) -> RunCounts:
    return RunCounts(one.successes + other.successes, one.runs + other.runs)


def _key(category: str) -> str:
    return hashlib.sha256(category.encode()).hexdigest()[:12] if category else _DOMAIN
