"""The change detector: how often it is wrong, how soon it is right, and how it recovers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from agentmodel.suggest.health._cusum import Cusum
from agentmodel.suggest.health._cusum_table import LOWEST, TABLE, UNWATCHED, CusumLimits, limits_for

AT = datetime(2025, 6, 14, tzinfo=UTC)


def mean_calls(failing: float, step: CusumLimits, *, chance: float = 1.0) -> float:
    """The exact mean number of calls from a sum of 0 to an alarm, solved from the chain's equations.

    A sum that hits the threshold exactly is an alarm by this chance. Each row of the equations has only the places from
    ``success`` before to ``failure`` behind its own.
    """
    size = step.threshold + 1
    rows = [[0.0] * size + [1.0] for _ in range(size)]
    for at in range(size):
        rows[at][at] += 1.0
        if at + step.failure < size:
            rows[at][at + step.failure] -= failing * (1.0 - chance if at + step.failure == step.threshold else 1.0)
        rows[at][max(0, at - step.success)] -= 1.0 - failing
    for pivot in range(size):
        for row in rows[pivot + 1 : pivot + step.success + 1]:
            factor = row[pivot] / rows[pivot][pivot]
            if factor:
                for at in (*range(pivot, min(size, pivot + step.failure + 1)), size):
                    row[at] -= factor * rows[pivot][at]
    found = [0.0] * size
    for at in reversed(range(size)):
        rest = sum(rows[at][later] * found[later] for later in range(at + 1, min(size, at + step.failure + 1)))
        found[at] = (rows[at][size] - rest) / rows[at][at]
    return found[0]


def alarms(baseline: float, step: CusumLimits, *, chance: float = 1.0) -> float:
    """False alarms in 10,000 healthy calls."""
    return 10_000 / mean_calls(baseline, step, chance=chance)


def delay(baseline: float, step: CusumLimits, *, chance: float = 1.0) -> float:
    """Mean calls until a fall of the share of successes to a quarter is noticed, from a clean sum."""
    return mean_calls(1 - (1 - baseline) / 4, step, chance=chance)


def shortest(failure: int, success: int) -> tuple[float, float]:
    """The baseline at which these are the optimal weights, and the shortest delay of any rule there.

    CUSUM with the logarithms of the likelihood ratio as its weights has the shortest worst mean delay of all rules that
    give no more false alarms, if its threshold is drawn so that it gives exactly those, here 5 in 10,000 (Moustakides
    1986). A success weighs the logarithm of 4; at this baseline a failure weighs a simple fraction of that, so the sum
    is one of whole numbers and the mean exact.
    """
    baseline = 0.75 / (4 ** (failure / success) - 0.25)
    threshold = 1
    while alarms(baseline, CusumLimits(baseline, failure, success, threshold + 1)) > 5.0:
        threshold += 1
    step = CusumLimits(baseline, failure, success, threshold)
    low, high = 0.0, 1.0
    for _ in range(40):
        chance = (low + high) / 2
        low, high = (low, chance) if alarms(baseline, step, chance=chance) > 5.0 else (chance, high)
    return baseline, delay(baseline, step, chance=low)


OPTIMAL = [(5, 2), (2, 1), (3, 2), (1, 1), (4, 5), (7, 9), (3, 4), (2, 3), (1, 2), (2, 5), (1, 3), (1, 4), (1, 6)]
"""Weights of a failure and a success that are optimal at baselines from 2.4 % to 74 %."""


def test_false_alarms_at_any_baseline() -> None:
    """Every row gives 4 to 5 false alarms in 10,000 healthy calls where it begins and where it ends, so between them too."""
    begins = [LOWEST, *(step.baseline for step in TABLE)]
    found = [(alarms(begin, step), alarms(step.baseline, step)) for begin, step in zip(begins, TABLE, strict=False)]

    assert min(low for low, _ in found) >= 4.0
    assert max(high for _, high in found) <= 5.0
    assert all(low < high for low, high in found)
    assert (0.005, 0.75) == (LOWEST, min(0.75, TABLE[-1].baseline))


def test_below_the_table_false_alarms_are_rarer() -> None:
    """A tool that fails in less than a half of a percent has fewer, by the square."""
    assert alarms(0.001, limits_for(0.001)) < 0.2


@pytest.mark.parametrize("baseline", [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.28])
def test_a_fourfold_fall_is_noticed_within_ten_calls(baseline: float) -> None:
    """Where at most 28 % of healthy calls fail, the mean delay from a clean sum is at most 10 calls."""
    assert delay(baseline, limits_for(baseline)) <= 10.0


@pytest.mark.parametrize(("failure", "success"), OPTIMAL)
def test_no_rule_is_faster_by_more_than_a_call(failure: int, success: int) -> None:
    """At each baseline the delay is within a call of the shortest that is possible at 5 false alarms in 10,000."""
    baseline, least = shortest(failure, success)

    assert least - 1e-6 <= delay(baseline, limits_for(baseline)) <= least + 1.0


def test_ten_calls_cannot_be_had_where_many_fail() -> None:
    """From 29 % of healthy calls that fail no rule notices a fourfold fall within 10 calls; at 50 % it needs 18."""
    shortest_of = dict(shortest(*weights) for weights in OPTIMAL)

    assert [29, 33, 43, 50, 56, 64, 74] == [round(100 * share) for share, calls in shortest_of.items() if calls > 10.0]
    assert 18 == round(shortest_of[shortest(2, 5)[0]])


def test_the_table_is_in_order() -> None:
    """The limits of a baseline are those of the next one up; beyond the last a tool is not watched."""
    assert sorted({step.baseline for step in TABLE}) == [step.baseline for step in TABLE]
    assert TABLE[0] == limits_for(0.0)
    assert TABLE[1] == limits_for(TABLE[0].baseline + 1e-9)
    assert UNWATCHED == limits_for(0.95)


def test_a_tool_that_nearly_always_fails_never_alarms() -> None:
    """Where more than three of four calls fail in good health there is nothing left to fall by."""
    health = fed(Cusum(calls=1000.0, failures=900.0), "x" * 500)

    assert "closed" == health.state(AT)
    assert (1500.0, 1400.0) == (health.calls, health.failures)


def fed(health: Cusum, outcomes: str, *, at: datetime = AT) -> Cusum:
    """Health after calls, a second apart; x is a failure."""
    for second, outcome in enumerate(outcomes):
        health = health.after(failed=outcome == "x", at=at + timedelta(seconds=second))
    return health


HEALTHY = fed(Cusum(), "." * 100)


def test_a_failing_tool_opens_and_says_since_when() -> None:
    """A few failures in a row open a tool that never failed; since is the first of them."""
    health = fed(HEALTHY, "...xxx", at=AT)

    assert ("open", 1) == (health.state(AT + timedelta(seconds=6)), health.opened)
    assert AT + timedelta(seconds=3) == health.since
    assert health.note == "3 of its last 3 calls failed; its usual failure rate is 0 %"
    assert AT + timedelta(seconds=4, minutes=15) == health.half_open_at
    assert (None, None) == ((begun := fed(HEALTHY, "x")).since, begun.half_open_at)


def test_the_baseline_is_rounded_up_while_few_calls_are_known() -> None:
    """It is the mean with half a failure in ten calls added, and one standard deviation of it."""
    assert 0.05 + (0.05 * 0.95 / 11) ** 0.5 == pytest.approx(Cusum().baseline)
    assert 0.1 + (0.1 * 0.9 / 101) ** 0.5 == pytest.approx(Cusum(calls=90.0, failures=9.5).baseline)


def test_one_failure_is_no_alarm() -> None:
    """A single failure of a tool that hardly ever fails does not open it, and is forgotten after enough successes."""
    assert "closed" == fed(HEALTHY, "x" + "." * 20).state(AT)
    assert Cusum(calls=161.0, failures=1.0) == fed(HEALTHY, "x" + "." * 60)


def test_a_sum_that_reaches_the_threshold_is_an_alarm() -> None:
    """Failures that add up to exactly the threshold open a tool."""
    share = next(step.baseline for step in TABLE if step.threshold == 2 * step.failure)
    healthy = Cusum(calls=1e9, failures=1e9 * share - 1e5)
    assert healthy.alarm == 2 * healthy.next_failure

    assert (0, 1) == (fed(healthy, "x").opened, fed(healthy, "xx").opened)


def test_a_new_tool_is_learnt_before_it_is_judged() -> None:
    """The first calls make the baseline, unless twenty in a row fail; from twenty on a failure weighs by the baseline."""
    assert [0, 1] == [fed(Cusum(), "x" * calls).opened for calls in (19, 20)]
    assert Cusum(calls=20.0, failures=19.0) == fed(Cusum(), "x" * 19 + ".")
    assert [True, False] == [fed(Cusum(), "." * calls + "x").sum == 1 for calls in (19, 20)]


def test_a_tool_that_always_failed_a_lot_is_healthy_at_that() -> None:
    """Half of the calls failing is no alarm where that is usual, and its baseline says so."""
    health = fed(Cusum(), "x..x.xx." * 50)

    assert "closed" == health.state(AT)
    assert 0.45 < health.baseline < 0.6


def test_recovery_goes_through_half_open() -> None:
    """After its time a tool may be tried; three good calls close it and not two, and it is as healthy as before."""
    healthy = fed(Cusum(calls=100.0, failures=2.0), "x.....")
    opened = fed(healthy, "x" * 10)
    later = AT + timedelta(minutes=16)

    assert "open" == opened.state(AT + timedelta(minutes=14))
    assert opened.half_open_at is not None
    assert "half-open" == opened.state(opened.half_open_at)
    assert "half-open" == opened.state(later)
    assert "half-open" == fed(opened, "..", at=later).state(later)
    closed = fed(opened, "...", at=later)
    assert "closed" == closed.state(later)
    assert Cusum(calls=healthy.calls, failures=healthy.failures) == closed


def test_failing_again_waits_longer() -> None:
    """A failure while half-open opens it again, for twice as long; since stays the first failure."""
    opened = fed(HEALTHY, "xxx")
    later = AT + timedelta(minutes=16)
    again = fed(opened, "xx", at=later)

    assert (2, 0, 0) == (again.opened, again.sum, again.trial)
    assert opened.since == again.since
    assert "open" == again.state(later + timedelta(minutes=29))
    assert "half-open" == again.state(later + timedelta(minutes=31))


def test_the_wait_has_an_end() -> None:
    """However often it fails again, it may be tried after a day at most."""
    health = fed(HEALTHY, "xxx")
    at = AT
    for _ in range(30):
        at += timedelta(days=1, seconds=1)
        health = fed(health, "xxxxx", at=at)

    assert health.half_open_at is not None
    assert timedelta(days=1) <= health.half_open_at - at <= timedelta(days=1, seconds=5)


def test_calls_while_open_change_no_baseline() -> None:
    """What is called although it fails is counted in what was seen, and nowhere else."""
    opened = fed(HEALTHY, "xxx")
    more = fed(opened, "x" * 50 + "." * 7)

    assert (opened.calls, opened.failures, opened.opened) == (more.calls, more.failures, more.opened)
    assert (opened.run_calls + 57, opened.run_failures + 50) == (more.run_calls, more.run_failures)


def test_a_trial_that_reaches_the_limit_ends() -> None:
    """A half-open tool opens again when the failures of its trial are exactly a third of an alarm."""
    share = next(step.baseline for step in TABLE if step.threshold // 3 == 2 * step.failure)
    opened = Cusum(calls=1e9, failures=1e9 * share - 1e6, opened=1, until=AT.timestamp())
    assert opened.alarm == 2 * opened.next_failure

    once, twice = fed(opened, "x"), fed(opened, "xx")
    assert (1, -opened.next_failure) == (once.opened, once.trial)
    assert (2, 0) == (twice.opened, twice.trial)


def test_what_a_failure_adds_can_be_given() -> None:
    """A failure that adds nothing is counted, and neither alarms nor ends a trial."""
    half_open = Cusum(calls=100.0, opened=1, until=AT.timestamp())
    silent = half_open.after(failed=True, at=AT, added=0)

    assert (0, 1, 1) == (silent.trial, silent.opened, silent.run_failures)
    assert 2 == half_open.after(failed=True, at=AT).opened
    assert 3 == HEALTHY.after(failed=True, at=AT, added=3).sum


def test_old_calls_fade_from_the_baseline() -> None:
    """From 2,000 calls on, those that were counted before weigh a half."""
    assert Cusum(calls=1001.0, failures=50.0) == fed(Cusum(calls=2000.0, failures=100.0), ".")
    assert Cusum(calls=2000.0, failures=100.0) == fed(Cusum(calls=1999.0, failures=100.0), ".")


def test_health_survives_json() -> None:
    """What is stored and read back is the same."""
    for health in (Cusum(), HEALTHY, fed(HEALTHY, "xxx"), fed(HEALTHY, "x")):
        assert health == Cusum.from_dict(health.as_dict())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
def test_simulated_false_alarms_and_delay(share: float) -> None:
    """With the baseline estimated on the way, healthy calls rarely alarm, and a fourfold fall is noticed soon."""
    draw = random.Random(7)  # noqa: S311  # a simulation
    alarms = calls = 0
    delays = []
    for _ in range(60):
        health = Cusum(calls=1000.0, failures=1000.0 * share)
        for _ in range(300):
            calls += 1
            health = health.after(failed=draw.random() < share, at=AT)
            if health.opened:
                alarms += 1
                health = Cusum(calls=1000.0, failures=1000.0 * share)
        delay = 0
        while not health.opened:
            delay += 1
            health = health.after(failed=draw.random() < 1 - (1 - share) / 4, at=AT)
        delays.append(delay)

    assert alarms / calls <= 10 / 10_000
    assert sum(delays) / len(delays) <= 12
