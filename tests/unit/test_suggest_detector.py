"""The change detector: how often it is wrong, how soon it is right, and how it recovers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from agentmodel.suggest.detector import TABLE, Health, Limits, limits

AT = datetime(2025, 6, 14, tzinfo=UTC)


def mean_calls(failing: float, step: Limits) -> float:
    """The exact mean number of calls from a sum of 0 to an alarm, solved from the chain's equations."""
    size = step.threshold
    rows = [[0.0] * size + [1.0] for _ in range(size)]
    for at in range(size):
        rows[at][at] += 1.0
        if at + step.failure < size:
            rows[at][at + step.failure] -= failing
        rows[at][max(0, at - step.success)] -= 1.0 - failing
    for pivot in range(size):
        for row in range(pivot + 1, size):
            factor = rows[row][pivot] / rows[pivot][pivot]
            if factor:
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[pivot], strict=True)]
    found = [0.0] * size
    for at in reversed(range(size)):
        rest = sum(rows[at][later] * found[later] for later in range(at + 1, size))
        found[at] = (rows[at][size] - rest) / rows[at][at]
    return found[0]


@pytest.mark.parametrize("step", TABLE, ids=lambda step: f"{step.baseline:g}")
def test_false_alarms_of_every_baseline(step: Limits) -> None:
    """At its own baseline each row gives at most 5 false alarms in 10,000 calls, and at least 3.8 but where less can be had."""
    alarms = 10_000 / mean_calls(step.baseline, step)

    assert alarms <= 5.0
    assert alarms >= 3.8 or step.baseline == 0.005


@pytest.mark.parametrize("step", [step for step in TABLE if step.baseline <= 0.28], ids=lambda s: f"{s.baseline:g}")
def test_a_fourfold_fall_is_noticed_within_ten_calls(step: Limits) -> None:
    """When the share of successes falls to a quarter, the mean delay from a clean sum is at most 10 calls."""
    assert mean_calls(1 - (1 - step.baseline) / 4, step) <= 10.0


def test_the_table_is_in_order() -> None:
    """The limits of a baseline are those of the next one up; beyond the last they are the last's."""
    assert sorted(step.baseline for step in TABLE) == [step.baseline for step in TABLE]
    assert 0.055 == limits(0.051).baseline
    assert TABLE[0] == limits(0.0)
    assert TABLE[-1] == limits(1.0)


def fed(health: Health, outcomes: str, *, at: datetime = AT) -> Health:
    """Health after calls, a second apart; x is a failure."""
    for second, outcome in enumerate(outcomes):
        health = health.after(failed=outcome == "x", at=at + timedelta(seconds=second))
    return health


HEALTHY = fed(Health(), "." * 100)


def test_a_failing_tool_opens_and_says_since_when() -> None:
    """A few failures in a row open a tool that never failed; since is the first of them."""
    health = fed(HEALTHY, "...xxx", at=AT)

    assert ("open", 1) == (health.state(AT + timedelta(seconds=6)), health.opened)
    assert AT + timedelta(seconds=3) == health.since
    assert health.note.endswith("calls failed, 0% of them usually do")


def test_one_failure_is_no_alarm() -> None:
    """A single failure of a tool that hardly ever fails does not open it."""
    assert "closed" == fed(HEALTHY, "x" + "." * 20).state(AT)


def test_a_new_tool_is_learnt_before_it_is_judged() -> None:
    """The first calls make the baseline, whatever they are."""
    assert "closed" == fed(Health(), "x" * 19).state(AT)


def test_a_tool_that_always_failed_a_lot_is_healthy_at_that() -> None:
    """Half of the calls failing is no alarm where that is usual, and its baseline says so."""
    health = fed(Health(), "x..x.xx." * 50)

    assert "closed" == health.state(AT)
    assert 0.45 < health.baseline < 0.6


def test_recovery_goes_through_half_open() -> None:
    """After its time a tool may be tried; three good calls close it, and it is as healthy as before."""
    opened = fed(HEALTHY, "xxx")
    later = AT + timedelta(minutes=16)

    assert "open" == opened.state(AT + timedelta(minutes=14))
    assert "half-open" == opened.state(later)
    closed = fed(opened, "...", at=later)
    assert "closed" == closed.state(later)
    assert (HEALTHY.calls, HEALTHY.failures) == (closed.calls, closed.failures)


def test_failing_again_waits_longer() -> None:
    """A failure while half-open opens it again, for twice as long; since stays the first failure."""
    opened = fed(HEALTHY, "xxx")
    later = AT + timedelta(minutes=16)
    again = fed(opened, "xx", at=later)

    assert 2 == again.opened
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
    assert health.half_open_at - at <= timedelta(days=1, seconds=5)


def test_calls_while_open_change_no_baseline() -> None:
    """What is called although it fails is counted in what was seen, and nowhere else."""
    opened = fed(HEALTHY, "xxx")
    more = fed(opened, "x" * 50)

    assert (opened.calls, opened.failures, opened.opened) == (more.calls, more.failures, more.opened)
    assert opened.run_calls + 50 == more.run_calls


def test_health_survives_json() -> None:
    """What is stored and read back is the same."""
    for health in (Health(), HEALTHY, fed(HEALTHY, "xxx"), fed(HEALTHY, "x")):
        assert health == Health.of(health.as_dict())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
def test_simulated_false_alarms_and_delay(share: float) -> None:
    """With the baseline estimated on the way, healthy calls rarely alarm, and a fourfold fall is noticed soon."""
    draw = random.Random(7)  # noqa: S311  # a simulation
    alarms = calls = 0
    delays = []
    for _ in range(60):
        health = Health(calls=1000.0, failures=1000.0 * share)
        for _ in range(300):
            calls += 1
            health = health.after(failed=draw.random() < share, at=AT)
            if health.opened:
                alarms += 1
                health = Health(calls=1000.0, failures=1000.0 * share)
        delay = 0
        while not health.opened:
            delay += 1
            health = health.after(failed=draw.random() < 1 - (1 - share) / 4, at=AT)
        delays.append(delay)

    assert alarms / calls <= 10 / 10_000
    assert sum(delays) / len(delays) <= 12
