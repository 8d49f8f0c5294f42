"""Made-up installations whose plans change success by a known amount, for the tests of impact and its benchmark.

Each kind is a way in which real runs are not alike and independent: users differ, the mix of categories shifts, or the
share that is withheld is raised halfway while the quality drifts.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from agentmodel.suggest.evaluate._effect import Interval, Sums, Terms, interval, terms

KINDS = ("alike", "users differ", "the mix shifts", "both", "the share is raised")

_CATEGORIES = (-1.6, -0.8, 0.0, 0.8, 1.6)  # how much easier each is, as a logit


class Run(NamedTuple):
    """A run: its category and the share in force, whether its plan was given, and how it went."""

    stratum: tuple[int, float]
    given: bool
    succeeded: bool


def runs(
    count: int, *, share: float, rate: float, kind: str = "alike", change: float = 0.0, draw: random.Random
) -> Iterator[Run]:
    """Yield the runs of a world in order.

    Args:
        count: How many.
        share: The share without a plan; in the kind ``the share is raised`` that of the first half.
        rate: The success rate without a plan, before users and categories differ.
        kind: One of `KINDS`.
        change: What a plan adds to the success rate.
        draw: Draws everything.
    """
    base, mixed = math.log(rate / (1 - rate)), kind in ("the mix shifts", "both")
    users = _users(max(3, count // draw.choice((5, 20, 100))), draw) if kind in ("users differ", "both") else None
    for at in range(count):
        logit, category, present = base, draw.randrange(len(_CATEGORIES)), share
        if mixed:
            lean = 2.4 * at / count - 1.2
            category = draw.choices(range(5), [math.exp(lean * (each - 2)) for each in range(5)])[0]
            logit += _CATEGORIES[category]
        if users is not None:
            logit += users[1][min(bisect(users[0], draw.random() * users[0][-1]), len(users[1]) - 1)]
        if kind == "the share is raised":
            later = 2 * at >= count
            logit += 0.8 if later else -0.8
            present = min(0.5, 4 * share) if later else share
        given = draw.random() >= present
        succeeds = 1 / (1 + math.exp(-logit)) + change * given
        yield Run((category, present), given, draw.random() < succeeds)


def _users(count: int, draw: random.Random) -> tuple[list[float], list[float]]:
    """Return how much of the runs each user makes, added up, and how much easier their requests are."""
    return list(accumulate((n + 1) ** -0.8 for n in range(count))), [draw.gauss(0, 1.5) for _ in range(count)]


def looks(world: Iterator[Run]) -> Iterator[Interval | None]:
    """Yield what the package says after each run."""
    arms: dict[tuple[int, float], dict[bool, Sums]] = defaultdict(lambda: {True: Sums(), False: Sums()})
    parts: dict[tuple[int, float], Terms] = defaultdict(Terms)
    together = Terms()
    for run in world:
        own, good = arms[run.stratum], float(run.succeeded)
        before = own[run.given]
        own[run.given] = Sums(before.runs + 1, before.total + good, before.squares + good)
        now = terms(own[True], own[False])
        together = together.minus(parts[run.stratum]).plus(now)
        parts[run.stratum] = now
        yield interval(together)


def first_look(world: Iterator[Run], truth: float = 0.0) -> tuple[int, float] | None:
    """Return after how many runs the interval first leaves a difference out, and the difference it found; else None."""
    for number, found in enumerate(looks(world), start=1):
        if found is not None and not found.low <= truth <= found.high:
            return number, found.difference
    return None
