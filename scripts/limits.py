"""ComputeCompute the table of agentmodel/suggest/health/_cusum_table.py: python scripts/limits.py [FROM TO].

The tool health detector takes its CUSUM weights and threshold from that table, by the usual failure rate of a tool.
The rows are computed from the lowest failure rate up. For the rate at which a row begins, each pair of small weights
gets the highest threshold that still gives 4 false alarms in 10,000 healthy calls. Of the pairs that detect a failure
within about one call of the shortest possible delay, the row takes the one that reaches the highest failure rate before
it gives 5 false alarms.

The shortest possible delay is that of the optimal CUSUM at 5 false alarms: its weights are the logarithms of the
likelihood ratio (Moustakides 1986: no rule has a shorter worst mean delay at its rate of false alarms). This takes some
minutes.
"""

from __future__ import annotations

import math
import sys
from functools import cache

import numpy as np

START, END = 0.005, 0.75
LEAST, MOST = 4.0, 5.0  # false alarms in 10,000 healthy calls
WITHIN_TEN = 0.28  # failure rate up to which a failure is detected within 10 calls
WEIGHTS = 64  # greatest sum of the two weights
HIGHEST = 160  # greatest threshold
SLACK = (0.35, 0.6, 0.95, 1.5)  # calls by which a delay may exceed the shortest; tried in this order


@cache
def calls(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """Return the exact mean number of calls until the alarm; ``chance`` is its probability exactly at the threshold."""
    size = threshold + 1
    steps = np.eye(size)
    for at in range(size):
        if at + failure < size:
            steps[at, at + failure] -= share * (1.0 - chance if at + failure == threshold else 1.0)
        steps[at, max(0, at - success)] -= 1.0 - share
    return float(np.linalg.solve(steps, np.ones(size))[0])


def alarms(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """Return the number of false alarms in 10,000 healthy calls."""
    return 10_000 / calls(share, failure, success, threshold, chance)


def delay(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """Return the mean number of calls until a fall of the success rate to a quarter is detected."""
    return calls(1 - (1 - share) / 4, failure, success, threshold, chance)


@cache
def shortest(share: float) -> float:
    """Return the shortest possible delay, in calls, at 5 false alarms."""
    unit = min(math.log(4), math.log((1 - (1 - share) / 4) / share)) / 12
    failure, success = round(math.log((1 - (1 - share) / 4) / share) / unit), round(math.log(4) / unit)
    threshold, beyond = 1, 2
    while alarms(share, failure, success, beyond) > MOST:
        threshold, beyond = beyond, 2 * beyond
    while beyond - threshold > 1:
        middle = (threshold + beyond) // 2
        over = alarms(share, failure, success, middle) > MOST
        threshold, beyond = (middle, beyond) if over else (threshold, middle)
    low, high = 0.0, 1.0
    for _ in range(30):
        chance = (low + high) / 2
        low, high = (low, chance) if alarms(share, failure, success, threshold, chance) > MOST else (chance, high)
    return delay(share, failure, success, threshold, low)


def weights(share: float) -> list[tuple[int, int]]:
    """Return the pairs of weights (failure, success) to try, near the optimal ratio, smallest first."""
    ratio = math.log((1 - (1 - share) / 4) / share) / math.log(4)
    widest = 6.0 if share < 0.03 else 3.0 if share < 0.15 else 1.7
    found = [
        (failure, success)
        for success in range(1, 40)
        for failure in range(1, WEIGHTS + 1 - success)
        if math.gcd(failure, success) == 1 and 0.55 < failure / success / ratio < widest
    ]
    return sorted(found, key=sum)


def row(start: float, slack: float) -> tuple[float, int, int, int] | None:
    """Return the widest row that begins at this failure rate, or None: its end, the two weights and the threshold."""
    best: tuple[float, int, int, int] | None = None
    for failure, success in weights(start):
        under, over = 1, 2
        while alarms(start, failure, success, over) >= LEAST and over < HIGHEST:
            under, over = over, 2 * over
        while over - under > 1:
            threshold = (under + over) // 2
            enough = alarms(start, failure, success, threshold) >= LEAST
            under, over = (threshold, over) if enough else (under, threshold)
        limit = failure, success, under
        if not LEAST <= alarms(start, *limit) < MOST or delay(start, *limit) > shortest(start) + slack:
            continue
        end, beyond = start, min(END + 0.1, 1.35 * start)
        for _ in range(14):
            middle = (end + beyond) / 2
            end, beyond = (middle, beyond) if alarms(middle, *limit) <= MOST else (end, middle)
        end = math.floor(end * 100_000) / 100_000
        wider = best is None or end > best[0] + 1e-6
        soon = start >= WITHIN_TEN or delay(min(end, WITHIN_TEN), *limit) <= 10.0
        if end > start and wider and soon and delay(end, *limit) <= shortest(end) + slack + 0.1:
            best = end, *limit
    return best


def main() -> None:
    """Print the rows of the table."""
    start, end = map(float, sys.argv[1:] or (START, END))
    while start < end:
        found = next((each for slack in SLACK if (each := row(start, slack))), None)
        if found is None:
            sys.exit(f"error: no weights fulfil the conditions from a failure rate of {start}")
        print(f"({found[0]:g}, {found[1]}, {found[2]}, {found[3]}),", flush=True)
        start = found[0]
        calls.cache_clear()


if __name__ == "__main__":
    main()
