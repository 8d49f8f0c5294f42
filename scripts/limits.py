"""Find the limits of the tool health detector, as agentmodel/suggest/limits.py holds them: python scripts/limits.py.

Row by row from the lowest baseline up: of all small weights, with the highest threshold that still gives 4 false alarms
in 10,000 healthy calls where the row begins, the ones that reach furthest before they give 5, within a call of the
shortest possible delay. That is the optimal CUSUM's, whose weights are the logarithms of the likelihood ratio, with a
threshold drawn so that it gives exactly 5 (Moustakides 1986: no rule has a shorter worst mean delay at its rate of
false alarms). Takes some minutes.
"""

from __future__ import annotations

import math
import sys
from functools import cache

import numpy as np

START, END = 0.005, 0.75
LEAST, MOST = 4.0, 5.0  # false alarms in 10,000 healthy calls
WITHIN_TEN = 0.28  # baseline up to which 10 calls are kept
WEIGHTS = 64  # of a failure and a success together
HIGHEST = 160  # threshold
SLACK = (0.35, 0.6, 0.95, 1.5)  # calls above the shortest delay, tried in this order


@cache
def calls(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """The exact mean number of calls until the sum reaches the threshold; exactly there it alarms by this chance."""
    size = threshold + 1
    steps = np.eye(size)
    for at in range(size):
        if at + failure < size:
            steps[at, at + failure] -= share * (1.0 - chance if at + failure == threshold else 1.0)
        steps[at, max(0, at - success)] -= 1.0 - share
    return float(np.linalg.solve(steps, np.ones(size))[0])


def alarms(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """False alarms in 10,000 healthy calls."""
    return 10_000 / calls(share, failure, success, threshold, chance)


def delay(share: float, failure: int, success: int, threshold: int, chance: float = 1.0) -> float:
    """Mean calls until a fall of the share of successes to a quarter is noticed."""
    return calls(1 - (1 - share) / 4, failure, success, threshold, chance)


@cache
def shortest(share: float) -> float:
    """The shortest possible delay at 5 false alarms."""
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
    """Failure and success to try, near the ratio of the optimal ones, smallest first."""
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
    """The widest row from here, or None."""
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
    """Print the rows."""
    start, end = map(float, sys.argv[1:] or (START, END))
    while start < end:
        found = next((each for slack in SLACK if (each := row(start, slack))), None)
        if found is None:
            sys.exit(f"no weights hold from {start}")
        print(f"({found[0]:g}, {found[1]}, {found[2]}, {found[3]}),", flush=True)
        start = found[0]
        calls.cache_clear()


if __name__ == "__main__":
    main()
