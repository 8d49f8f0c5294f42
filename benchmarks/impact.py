"""Measure how often impact is wrong, and after how many runs it finds what plans change.

    python benchmarks/impact.py [--worlds N] [--each N]

Installations are made up (`tests/impact_worlds.py`) and looked at after every run. False alarms: plans change nothing,
20 to 20,000 runs, shares .05 to .5, success rates .1 to .95. Found: plans add or take 10 points.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from agentmodel.suggest.evaluate import runs_to_find
from tests.impact_worlds import KINDS, first_look, runs

SHARES, RATES = (0.05, 0.1, 0.2, 0.5), (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)


def without_effect(number: int) -> tuple[str, float | None]:
    """Look at one world in which plans change nothing; its kind, and the difference of a false alarm."""
    draw = random.Random(number)  # noqa: S311  # a simulation
    kind = KINDS[number % len(KINDS)]
    count = int(math.exp(draw.uniform(math.log(20), math.log(20_000))))
    world = runs(count, share=draw.choice(SHARES), rate=draw.choice(RATES), kind=kind, draw=draw)
    found = first_look(world)
    return kind, None if found is None else found[1]


def found_after(number: int, *, change: float, rate: float, share: float) -> float:
    """Return after how many runs a change is found; infinite where it is not within six times those of theory."""
    most = int(6 * runs_to_find(change, success_rate=rate, share=share))
    draw = random.Random(f"{number} {change} {rate} {share}")  # noqa: S311  # a simulation
    found = first_look(runs(most, share=share, rate=rate, change=change, draw=draw))
    return math.inf if found is None else found[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=2000, help="worlds without an effect")
    parser.add_argument("--each", type=int, default=200, help="worlds with each effect")
    given = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        worlds = list(pool.map(without_effect, range(given.worlds), chunksize=20))
        alarms = Counter(kind for kind, found in worlds if found is not None)
        harm = sum(found is not None and found < 0 for _, found in worlds)
        of_kind = Counter(kind for kind, _ in worlds)
        print(f"{given.worlds} worlds in which plans change nothing, looked at after every run\n")
        print(f"| false alarms | {' | '.join(KINDS)} | stops |\n|---|{'---|' * (len(KINDS) + 1)}")
        shares = (f"{alarms[kind] / of_kind[kind]:.3f}" for kind in KINDS)
        print(f"| **{alarms.total() / given.worlds:.3f}** | {' | '.join(shares)} | {harm / given.worlds:.4f} |")
        print(f"\nruns until a change is found, in half of {given.each} worlds\n")
        print("| plans change | success without | share | theory | found | ratio | in 80 % |")
        print("|---|---|---|---|---|---|---|")
        for change in (0.1, -0.1):
            for rate in (0.3, 0.5, 0.8):
                for share in (0.1, 0.2, 0.5):
                    count = partial(found_after, change=change, rate=rate, share=share)
                    after = sorted(pool.map(count, range(given.each), chunksize=5))
                    theory = runs_to_find(change, success_rate=rate, share=share)
                    middle, most = statistics.median(after), after[int(0.8 * len(after))]
                    points = f"{100 * change:+.0f} points"
                    print(
                        f"| {points} | {rate} | {share} | {theory:,.0f} | {middle:,.0f} | {middle / theory:.2f} "
                        f"| {most:,.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
