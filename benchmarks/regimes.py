"""Measure the regret of the rankings where use and work are spread over the agents in a known way.

    python benchmarks/regimes.py [--domain NAME] [--shuffled N] FILE…

The files are trace files. What agents do changes in time, and the earlier runs cannot tell that: --shuffled replays the
runs in N random orders in place of that in time, so that only what can be learned is measured.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agentmodel.suggest.evaluate import RegimeRow, ReplayedRun, runs_from_traces
from agentmodel.suggest.evaluate._regimes import regimes

USES = (10, 20, 50)
WORLDS = 250


def measured(runs: Sequence[ReplayedRun], shuffled: int) -> Iterator[RegimeRow]:
    """Yield the rows of the runs in time order, or of each of so many random orders."""
    if not shuffled:
        yield from regimes(runs, uses=USES, worlds=WORLDS)
    for seed in range(shuffled):
        undated = [replace(run, at=None) for run in runs]
        random.Random(seed).shuffle(undated)  # noqa: S311  # an order, no secret
        yield from regimes(undated, uses=USES, worlds=max(1, WORLDS // shuffled), seed=seed)


def main() -> None:
    """Measure and print a table for each domain: the regret at each mean number of runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="trace files")
    parser.add_argument("--domain", help="only this domain")
    parser.add_argument("--shuffled", type=int, default=0, metavar="N", help="replay in N random orders")
    given = parser.parse_args()
    runs = [run for run in runs_from_traces(given.files) if given.domain in (None, run.domain)]
    regrets: dict[str, dict[tuple[str, str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    spreads: dict[str, list[float]] = defaultdict(list)
    for row in measured(runs, given.shuffled):
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


if __name__ == "__main__":
    main()
