"""The chance of success: what it is made of, how it is stored, and which share of runs asks for a person."""

from __future__ import annotations

from typing import Any

import pytest

from agentmodel.suggest._chance import Cells, RunCounts, chance_of_success, least_likely, packed_counts, runs_of

CELLS: Cells = {
    ("AGT1", "easy"): RunCounts(18, 20), ("AGT1", "hard"): RunCounts(2, 10), ("AGT2", "easy"): RunCounts(7, 10),
    ("AGT2", "hard"): RunCounts(1, 40), ("AGT2", ""): RunCounts(10, 20),
}  # fmt: skip


def test_without_runs_it_is_the_rate_of_the_domain() -> None:
    """Neither agent nor category says anything then; with no run at all it is one half."""
    assert pytest.approx(31 / 42) == chance_of_success(RunCounts(), RunCounts(), RunCounts(30, 40))
    assert pytest.approx(0.5) == chance_of_success(RunCounts(), RunCounts(), RunCounts())


def test_agent_and_category_both_count() -> None:
    """A good agent and an easy category raise it, each by itself; it stays between 0 and 1 whatever was seen."""
    usual = RunCounts(50, 100)
    both = chance_of_success(RunCounts(9, 10), RunCounts(9, 10), usual)

    assert chance_of_success(RunCounts(9, 10), RunCounts(), usual) < both < 1
    assert 0 < chance_of_success(RunCounts(0, 1000), RunCounts(0, 1000), RunCounts(0, 10_000)) < 0.01
    assert 0.99 < chance_of_success(RunCounts(1000, 1000), RunCounts(1000, 1000), RunCounts(10_000, 10_000)) < 1


def test_what_is_stored_names_no_category() -> None:
    """A domain keeps its runs and those of each category under digests; they are read by the category's name."""
    packed = packed_counts(CELLS)

    assert not any("easy" in key or "hard" in key for key in packed)
    assert (RunCounts(25, 30), RunCounts(38, 100)) == runs_of(packed, "easy")
    assert (RunCounts(), RunCounts(38, 100)) == runs_of(packed, "never asked") == runs_of(packed, None)


def test_categories_with_most_runs_are_kept() -> None:
    """However many there are, a domain's item stays small, and its own runs are whole."""
    many = {("AGT1", f"category {n}"): RunCounts(1, n + 1) for n in range(1500)}
    packed = packed_counts(many)

    assert 1001 == len(packed)
    assert (RunCounts(1, 1500), RunCounts(1500, sum(range(1501)))) == runs_of(packed, "category 1499")
    assert (RunCounts(), RunCounts(1500, sum(range(1501)))) == runs_of(packed, "category 3")


@pytest.mark.parametrize("packed", [None, {}, [], {"": "x"}, {"": [1]}, {"": ["a", "b"]}])
def test_damaged_counts_are_no_counts(packed: Any) -> None:
    """What is missing or damaged makes no plan fail."""
    assert None is runs_of(packed, "easy")


def test_a_share_of_runs_is_the_least_likely() -> None:
    """The bound leaves at most the share below it: of 100 runs the 40 of the worst cell, then those of the next."""
    bounds = [least_likely(CELLS, share) for share in (0.0, 0.39, 0.4, 0.5, 0.9)]

    assert sorted(bounds) == bounds
    assert bounds[0] == bounds[1] < bounds[2]
    assert 1.0 == least_likely(CELLS, 1.0)
    assert 1.0 == least_likely({}, 0.2)
