"""Measure the regret of the rankings where use and work are spread over the agents in a known way.

    python benchmarks/regimes.py [--domain NAME] [--shuffled N | --known N] FILE…

The files are trace files. What agents do changes in time, and the earlier runs cannot tell that: --shuffled replays the
runs in N random orders in place of that in time, so that only what can be learned is measured.

A worth that is measured on some dozen runs is no truth. --known makes N histories up whose truth is known: their agents
and categories have the success rates that those of the files are expected to have, and so many runs that a
measured worth is off by .02 at most. How often the 90 % interval of an agent's evidence holds the truth
is printed, too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agentmodel.redshift import score as scores
from agentmodel.suggest._chance import RunCounts, chance_of_success
from agentmodel.suggest.evaluate import RegimeRow, ReplayedRun, runs_from_traces
from agentmodel.suggest.evaluate._regimes import regimes
from agentmodel.suggest.evaluate._replay import by_domain

USES = (10, 20, 50)
WORLDS = 250
MADE = 2_500  # runs of an agent at least where histories are made up; its worth is measured on 40 % of them
OF_ITS_OWN = 0.75  # standard deviation of an agent on a category, in logits; repeated runs of retail agree that much


def measured(runs: Sequence[ReplayedRun], shuffled: int, known: int) -> Iterator[RegimeRow]:
    """Yield the rows of the runs in time order, of each of so many random orders, or of so many known histories."""
    if not shuffled and not known:
        yield from regimes(runs, uses=USES, worlds=WORLDS)
    for seed in range(known):
        yield from regimes(made_up(runs, seed), uses=USES, worlds=max(1, WORLDS // known), seed=seed)
    for seed in range(shuffled):
        undated = [replace(run, at=None) for run in runs]
        random.Random(seed).shuffle(undated)  # noqa: S311  # an order, no secret
        yield from regimes(undated, uses=USES, worlds=max(1, WORLDS // shuffled), seed=seed)


def made_up(runs: Sequence[ReplayedRun], seed: int) -> list[ReplayedRun]:
    """Return a long history of agents and categories as good, and as hard, as those of the runs are expected to be."""
    draw = random.Random(seed)  # noqa: S311  # a simulation
    made: list[ReplayedRun] = []
    for domain, own in by_domain(runs).items():
        each = math.ceil(MADE / len({run.category for run in own}))
        for (agent, category), rate in rates_of(own, draw):
            made += [ReplayedRun(domain, agent, "", category, None, (), draw.random() < rate) for _ in range(each)]
    draw.shuffle(made)
    return made


def rates_of(runs: Sequence[ReplayedRun], draw: random.Random) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield a success rate of each agent on each category: the chance of success of both, and something of its own."""
    agents = counted((run.agent, run.succeeded) for run in runs)
    categories = counted((run.category, run.succeeded) for run in runs)
    all_runs = RunCounts(sum(run.succeeded for run in runs), len(runs))
    for agent, category in itertools.product(agents, categories):
        chance = chance_of_success(agents[agent], categories[category], all_runs)
        yield (agent, category), 1 / (1 + (1 - chance) / chance * math.exp(draw.gauss(0, OF_ITS_OWN)))


def covered(runs: Sequence[ReplayedRun], seed: int) -> Iterator[tuple[str, int, bool]]:
    """Yield how work is spread, an agent's number of runs, and whether its interval holds the truth, in known worlds.

    Where work is spread unevenly, nine of ten runs of an agent are of the harder half of the categories, or of the
    easier one, at random.
    """
    draw = random.Random(seed)  # noqa: S311  # a simulation
    rates = dict(rates_of(runs, draw))
    agents, categories = (sorted(set(names)) for names in zip(*rates, strict=True))
    truth = {agent: statistics.fmean(rates[agent, category] for category in categories) for agent in agents}
    hardest = sorted(categories, key=lambda category: sum(rates[agent, category] for agent in agents))
    for spread, tilt in (("evenly", 1), ("unevenly", 9)):
        cells: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        counts = {agent: max(1, round(draw.expovariate(1 / draw.choice(USES)))) for agent in agents}
        for agent, count in counts.items():
            weights = [1, tilt] if draw.random() < 0.5 else [tilt, 1]
            halves = [weights[2 * at >= len(hardest)] for at in range(len(hardest))]
            for category in draw.choices(hardest, halves, k=count):
                good, made = cells[agent, category]
                cells[agent, category] = good + (draw.random() < rates[agent, category]), made + 1
        rate, means = scores.two_way(cells)
        for agent, count in counts.items():
            _, low, high = scores.evidence(means[agent], count, rate=rate)
            yield spread, count, low <= truth[agent] <= high


def counted(outcomes: Iterable[tuple[str, bool]]) -> dict[str, RunCounts]:
    """Return how the runs of each name went."""
    found: dict[str, RunCounts] = defaultdict(RunCounts)
    for name, succeeded in outcomes:
        successes, runs = found[name]
        found[name] = RunCounts(successes + succeeded, runs + 1)
    return found


def main() -> None:
    """Measure and print a table for each domain: the regret at each mean number of runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="trace files")
    parser.add_argument("--domain", help="only this domain")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--shuffled", type=int, default=0, metavar="N", help="replay in N random orders")
    how.add_argument("--known", type=int, default=0, metavar="N", help="make N histories up whose truth is known")
    given = parser.parse_args()
    runs = [run for run in runs_from_traces(given.files) if given.domain in (None, run.domain)]
    regrets: dict[str, dict[tuple[str, str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    spreads: dict[str, list[float]] = defaultdict(list)
    for row in measured(runs, given.shuffled, given.known):
        regrets[row.domain][row.regime, row.ranking, row.use].append(row.regret)
        if row.ranking == "oracle":
            spreads[row.domain].append(row.high)
    for domain, own in regrets.items():
        names = [name for name in dict.fromkeys(ranking for _, ranking, _ in own) if name != "oracle"]
        print(f"\n{domain}, at {' / '.join(map(str, USES))} runs an agent; oracle: 0 to "
              f"{statistics.mean(spreads[domain]):.3f}\n")  # fmt: skip
        print(f"| use and work | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for regime in dict.fromkeys(regime for regime, _, _ in own):
            cells = (
                " ".join(f"{statistics.mean(own[regime, name, use]):.3f}".removeprefix("0") for use in USES)
                for name in names
            )
            print(f"| {regime} | {' | '.join(cells)} |")
    if given.known:
        show_covered(runs)


def show_covered(runs: Sequence[ReplayedRun]) -> None:
    """Print how often the interval of an agent holds the truth, by its runs and by how work is spread."""
    held: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for own in by_domain(runs).values():
        for spread, count, found in itertools.chain.from_iterable(covered(own, seed) for seed in range(WORLDS)):
            held[spread, "1 to 10" if count <= 10 else "11 to 30" if count <= 30 else "more"].append(found)
    print("\n| work is spread | runs | intervals | hold the truth |\n|---|---|---|---|")
    for (spread, number), holds in sorted(held.items()):
        print(f"| {spread} | {number} | {len(holds):,} | {statistics.mean(holds):.1%} |")


if __name__ == "__main__":
    main()
