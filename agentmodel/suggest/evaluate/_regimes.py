"""Regret of rankings in worlds where it is known who was used how often, and for which work.

In a real history use follows quality or fashion, and one history shows one such world. Here worlds are drawn from the
runs of the history: how many runs each agent has, and whether they are of easy or of hard work, is decided by a regime.
The rankings learn from runs of the first part of an agent's own. An agent's worth is measured in the rest: its success
rate there, less what is due to the difficulty of their categories. The best of many measured rates is partly lucky, so
a regret against it would be too large; each is therefore drawn towards the mean of all as far as it is noise. An oracle
that knows the worths has no regret; its row says how far they can be trusted.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from agentmodel.exceptions import ValidationError
from agentmodel.redshift import score as scores
from agentmodel.suggest.evaluate._baselines import RANKINGS, AgentHistory, best
from agentmodel.suggest.evaluate._replay import ReplayedRun, by_domain, task_of, training_runs

__all__ = ["REGIMES", "Regime", "RegimeRow", "regimes"]

Regime = Literal[
    "unrelated",
    "good agents used more",
    "bad agents used more",
    "difficulty unevenly spread",
    "good agents get the hard tasks",
]
"""How use and work are spread over the agents; see `RegimeRow`."""

REGIMES: Final[tuple[Regime, ...]] = get_args(Regime)
"""Every `Regime`."""

_WITHOUT_CATEGORIES = "evidence without categories"
_ORACLE = "oracle"
_MIN_RUNS = 8  # of an agent, to be compared
_MEASURED = 20  # later runs, from which on the worth of an agent counts as measured
_MEASURED_AGENTS = 3  # that a domain needs
_OF_ALL = 2  # later runs whose variance is that of all agents: an agent's own few, if alike, are no proof of none
_TILT = 9  # a run of the kind of work that an agent is given is so many times likelier than another
_RESAMPLED = 1000  # histories with other tasks, for the intervals
_Z90 = 1.6448536269514722  # standard deviations of a central 90 % interval


@dataclass(frozen=True, slots=True)
class RegimeRow:
    """The regret of a ranking in a domain, in worlds of one regime.

    Attributes:
        domain: The domain.
        regime: How use and work are spread. In each world the numbers of runs of the agents are drawn from an
            exponential distribution. ``unrelated``: nothing else is. ``good agents used more``, ``bad agents used
            more``: the largest number goes to the best agent, or to the worst, and so on. ``difficulty unevenly
            spread``: nine of ten runs of an agent are of the harder half of the work that it did, or of the easier
            half, at random. ``good agents get the hard tasks``: of the harder half for the better half of the agents,
            of the easier half for the others.
        use: Mean number of runs of an agent.
        ranking: One of `RANKINGS`; ``evidence without categories``, which takes no account of the work; or ``oracle``,
            which knows the worths.
        regret: How much lower the worth of the chosen agent is than that of the best one, on average. A worth is
            measured on later runs, and drawn towards the mean of all agents by how much of it is noise.
        low: Lower bound of the 90 % interval of ``regret``: over the worlds, and over histories with other tasks of the
            same kind, whose worths differ.
        high: Upper bound of the interval; the oracle's says how much the best by the measured worths may lose.
        agents: Agents that are compared: those with at least 8 runs.
        measured: How many of them have at least 20 later runs; see `says_little`.
        cases: Worlds that were drawn.

    >>> runs = [
    ...     ReplayedRun("search", agent, "mina", "", None, (), number % 5 < good)
    ...     for number in range(20)
    ...     for agent, good in (("map agent", 1), ("review agent", 4))
    ... ]
    >>> row = regimes(runs, worlds=5)[0]
    >>> row.regime, row.ranking, row.agents, row.cases
    ('unrelated', 'classic', 2, 5)
    >>> row.measured, row.says_little  # fewer than three agents have 20 later runs
    (0, True)
    """

    domain: str
    regime: Regime
    use: int
    ranking: str
    regret: float
    low: float
    high: float
    agents: int
    measured: int
    cases: int

    @property
    def says_little(self) -> bool:
        """Return whether fewer than three agents of the domain have at least 20 later runs."""
        return self.measured < _MEASURED_AGENTS


def regimes(
    runs: Iterable[ReplayedRun],
    *,
    train_share: float = 0.6,
    uses: Sequence[int] = (20,),
    worlds: int = 250,
    seed: int = 0,
) -> list[RegimeRow]:
    """Measure the regret of each ranking in each regime, in every domain with two agents that can be compared.

    Each world has tasks drawn from those of the domain, with replacement; a task is a category, else a request. All its
    runs are of one day.

    Args:
        runs: The runs.
        train_share: Share of each agent's runs that is learned from; its worth is measured in the others.
        uses: Mean numbers of runs of an agent.
        worlds: How many worlds are drawn of each regime and number.
        seed: Seed of the draws.

    Raises:
        ValidationError: A mean number of runs, or the number of worlds, is below 1.
    """
    for name, number in (("worlds", worlds), *(("uses", use) for use in uses)):
        if number < 1:
            raise ValidationError(name, number, "must be a number from 1 up")
    rows = []
    for domain, own in by_domain(runs).items():
        pool = _Pool(own, train_share, _draw(seed, domain))
        if len(pool.worths) > 1:
            for regime in REGIMES:
                for use in uses:
                    chosen = _chosen(pool, regime, use, worlds, _draw(seed, domain, regime, use))
                    for ranking, shares in chosen.items():
                        figures = _figures(pool, shares, worlds)
                        measured = sum(count >= _MEASURED for count in pool.later_runs.values())
                        rows.append(
                            RegimeRow(domain, regime, use, ranking, *figures, len(pool.worths), measured, worlds)
                        )
    return rows


def _draw(*seed: object) -> random.Random:
    return random.Random(repr(seed))  # noqa: S311  # a simulation, not a secret


class _Pool:
    """The agents of a domain with enough runs: what there is to learn from, and the worth of each.

    Args:
        runs: The runs of the domain, in time order.
        train_share: Share of an agent's runs that is learned from.
        draw: Draws the histories with other tasks.
    """

    def __init__(self, runs: Sequence[ReplayedRun], train_share: float, draw: random.Random) -> None:
        agents: dict[str, list[tuple[str, ReplayedRun]]] = defaultdict(list)
        for number, run in enumerate(runs):
            agents[run.agent].append((task_of(run, number), replace(run, at=None)))
        enough = {agent: own for agent, own in sorted(agents.items()) if len(own) >= _MIN_RUNS}
        cuts = {agent: max(1, training_runs(runs[: len(own)], train_share)) for agent, own in enough.items()}
        self.learned = {agent: own[: cuts[agent]] for agent, own in enough.items()}
        due = _due_to_categories(runs)
        self._later = {
            agent: [(task, run.succeeded - due[run.category]) for task, run in own[cuts[agent] :]]
            for agent, own in enough.items()
        }
        self.later_runs = {agent: len(own) for agent, own in self._later.items()}
        self.measured = {agent: sum(value for _, value in own) / len(own) for agent, own in self._later.items()}
        self.tasks = sorted({task for own in enough.values() for task, _ in own})
        self.others = [self._resampled(draw) for _ in range(_RESAMPLED)] if len(enough) > 1 else []
        self.worths = self._expected() if self.others else self.measured
        self.best_first = sorted(self.worths, key=lambda agent: (-self.worths[agent], agent))
        self.hard = self._harder_halves()

    def _harder_halves(self) -> dict[str, list[bool]]:
        """Return for each run that an agent learns from whether its task is of the harder half of that agent's work."""
        runs: Counter[str] = Counter(task for own in self.learned.values() for task, _ in own)
        good: Counter[str] = Counter(task for own in self.learned.values() for task, run in own if run.succeeded)
        halves = {}
        for agent, own in self.learned.items():
            order = sorted(range(len(own)), key=lambda at: (good[own[at][0]] / runs[own[at][0]], own[at][0]))
            harder = set(order[: len(order) // 2])
            halves[agent] = [at in harder for at in range(len(own))]
        return halves

    def _expected(self) -> dict[str, float]:
        """Return what each agent is expected to be worth, given its own measured worth and those of all others.

        This is the estimate of James and Stein for unequal variances: ``mean + (measured - mean) * t / (t + v)``, where
        v is the variance of an agent's measured worth over histories with other tasks, and t is that between agents,
        which is the variance of the measured worths less the mean of their v.
        """
        runs = self.later_runs
        of_run = {agent: runs[agent] * statistics.pvariance(other[agent] for other in self.others) for agent in runs}
        of_all = sum(runs[agent] * of_run[agent] for agent in runs) / sum(runs.values())
        noise = {
            agent: (count * of_run[agent] + _OF_ALL * of_all) / (count + _OF_ALL) / count
            for agent, count in runs.items()
        }
        between = max(0.0, statistics.variance(self.measured.values()) - statistics.fmean(noise.values()))
        if not between:
            return dict.fromkeys(runs, statistics.fmean(self.measured.values()))
        trust = {agent: between / (between + noise[agent]) for agent in runs}
        mean = sum(trust[agent] * self.measured[agent] for agent in runs) / sum(trust.values())
        return {agent: mean + trust[agent] * (self.measured[agent] - mean) for agent in runs}

    def _resampled(self, draw: random.Random) -> dict[str, float]:
        """Return the measured worths in a history with other tasks; of an agent that has none of them, its own."""
        tasks = Counter(draw.choices(self.tasks, k=len(self.tasks)))
        found = {}
        for agent, own in self._later.items():
            count = sum(tasks[task] for task, _ in own)
            found[agent] = sum(tasks[task] * value for task, value in own) / count if count else self.measured[agent]
        return found

    def world(self, regime: Regime, use: int, draw: random.Random) -> AgentHistory:
        """Return the history of a world of this regime."""
        tasks = Counter(draw.choices(self.tasks, k=len(self.tasks)))
        counts = self._counts(regime, use, draw)
        hard = self._hard_work(regime, draw)
        made: list[ReplayedRun] = []
        for agent, own in self.learned.items():
            tilts = [
                1 if hard[agent] is None else _TILT if is_hard == hard[agent] else 1 for is_hard in self.hard[agent]
            ]
            weights = [tasks[task] * tilt for (task, _), tilt in zip(own, tilts, strict=True)]
            picked = draw.choices(own, weights if any(weights) else tilts, k=counts[agent])
            made += [run for _, run in picked]
        draw.shuffle(made)  # so that which agent ran last is unrelated
        history = AgentHistory()
        for run in made:
            history.add(run)
        return history

    def _counts(self, regime: Regime, use: int, draw: random.Random) -> dict[str, int]:
        counts = [max(1, round(draw.expovariate(1 / use))) for _ in self.best_first]
        if regime == "good agents used more":
            counts.sort(reverse=True)
        elif regime == "bad agents used more":
            counts.sort()
        return dict(zip(self.best_first, counts, strict=True))

    def _hard_work(self, regime: Regime, draw: random.Random) -> Mapping[str, bool | None]:
        """Return whether an agent is given the hard work; None where it is given any."""
        if regime == "difficulty unevenly spread":
            return {agent: draw.random() < 0.5 for agent in self.best_first}
        if regime == "good agents get the hard tasks":
            return {agent: at < len(self.best_first) / 2 for at, agent in enumerate(self.best_first)}
        return dict.fromkeys(self.best_first)


def _due_to_categories(runs: Iterable[ReplayedRun]) -> dict[str, float]:
    """Return by how much the success rate of each category differs from the domain's, given the agents of its runs."""
    cells: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for run in runs:
        successes, executions = cells[run.agent, run.category]
        cells[run.agent, run.category] = successes + run.succeeded, executions + 1
    means = scores.two_way(cells)[1]
    rests: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(lambda: scores.CATEGORY_PRIOR)
    for (agent, category), (successes, executions) in cells.items():
        rests[category] += successes - executions * means[agent]
        counts[category] += executions
    return {category: rest / counts[category] if category else 0.0 for category, rest in rests.items()}


def _chosen(pool: _Pool, regime: Regime, use: int, worlds: int, draw: random.Random) -> dict[str, dict[str, float]]:
    """Return for each ranking the share of the worlds in which it chooses each agent."""
    chosen: dict[str, Counter[str]] = {
        ranking: Counter() for ranking in (*RANKINGS, _WITHOUT_CATEGORIES) if ranking != "random"
    }
    for _ in range(worlds):
        history = pool.world(regime, use, draw)
        for ranking, numbers in {**history.ranked(), _WITHOUT_CATEGORIES: history.evidence(categories=False)}.items():
            chosen[ranking][best(numbers, pool.worths)] += 1
    shares = {ranking: {agent: count / worlds for agent, count in own.items()} for ranking, own in chosen.items()}
    shares["random"] = dict.fromkeys(pool.worths, 1 / len(pool.worths))
    shares[_ORACLE] = {pool.best_first[0]: 1.0}
    return shares


def _figures(pool: _Pool, shares: Mapping[str, float], worlds: int) -> tuple[float, float, float]:
    """Return the regret of a ranking, and its 90 % interval.

    Its error has two parts: that of so many worlds, and that of the worths, measured on so few tasks.
    """
    regret, measured = _regret(pool.worths, shares), _regret(pool.measured, shares)
    top = max(pool.worths.values())
    of_worlds = sum(share * (top - pool.worths[agent] - regret) ** 2 for agent, share in shares.items()) / worlds
    of_worths = sum((_regret(other, shares) - measured) ** 2 for other in pool.others) / len(pool.others)
    spread = _Z90 * math.sqrt(of_worlds + of_worths)
    return regret, max(0.0, regret - spread), regret + spread


def _regret(worths: Mapping[str, float], shares: Mapping[str, float]) -> float:
    return max(worths.values()) - sum(share * worths[agent] for agent, share in shares.items())
