"""Scores: each formula's worked example, and its expression giving the same number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from sqlalchemy import Date, Double, bindparam, cast, select
from sqlalchemy.orm import Session

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._report_sql import agent_ranking
from agentmodel.redshift.warehouse import Warehouse

DAY = date(2025, 6, 14)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse.open("duckdb://", threads=1) as opened:
        opened.create()
        yield opened


@pytest.mark.parametrize("days", [None, -3, 0, 1, 10, 400, 9000, 30_000])
@pytest.mark.parametrize(("executions", "successes"), [(1, 0), (1, 1), (8, 8), (7, 3), (123456789, 123456788)])
def test_expression_and_twin_agree(warehouse: Warehouse, days: int | None, executions: int, successes: int) -> None:
    """In SQL and in Python a score is the same number, long ago, in the future, and where no day is known."""
    last = None if days is None else DAY - timedelta(days=days)
    pattern = m.UserProcessPattern(executions=executions, successes=successes, decay_day=last)
    counted = {
        "executions": cast(bindparam("n", executions), Double),
        "successes": cast(bindparam("k", successes), Double),
    }
    day = cast(bindparam("last", last, Date), Date)
    found = warehouse.read(
        select(
            score.score_expression(counted["executions"], counted["successes"], last=day, as_of=DAY),
            score.discount_expression(day, as_of=DAY, half_life=score.half_life_expression(30.0)),
            score.domain_rate_expression(counted["successes"], counted["executions"]),
        )
    )
    # by itself: beside another score it would find that one's ``as_of``
    found_pattern = warehouse.read(
        select(score.pattern_score_expression(counted["executions"], counted["successes"], last=day, as_of=DAY))
    )
    expected = (
        score.score(executions, successes, last=last, as_of=DAY),
        score.discount(last, DAY, half_life=30.0),
        score.domain_rate(successes, executions),
    )

    assert expected == pytest.approx(tuple(found[0]), rel=1e-12, abs=1e-300)
    assert pattern.score(DAY) == pytest.approx(found_pattern[0][0], rel=1e-12, abs=1e-300)


def test_days_are_parameters_with_a_name() -> None:
    """The day to score for and the half-life can be set by their names; an expression is taken as it is."""
    column = cast(bindparam("of_a_column", DAY), Date)

    assert "CAST(:as_of AS DATE)" == str(score.as_of_expression(DAY))
    assert column is score.as_of_expression(column)
    assert "CAST(:half_life AS DOUBLE)" == str(score.half_life_expression(30.0))


@pytest.mark.parametrize(
    ("reviewed", "recorded", "last_attempts", "expected"),
    [
        ("Y", "N", [False], True),
        ("N", "Y", [True], False),
        (None, "Y", [False], True),
        (None, "N", [True], False),
        (None, None, [True, True], True),
        (None, None, [True, False], False),
        ("", "", [False], False),
    ],
)
def test_a_review_comes_before_a_record_and_a_record_before_the_calls(
    reviewed: str | None, recorded: str | None, last_attempts: list[bool], expected: bool
) -> None:
    """An execution succeeded as a person said, else as it was recorded, else if all its calls did."""
    assert expected is score.succeeded(reviewed=reviewed, recorded=recorded, last_attempts=last_attempts)


@pytest.mark.parametrize(
    ("value", "successes", "threshold", "expected"),
    [
        (1.0, 1, 1.0, True),
        (1.0 - 1e-10, 1, 1.0, True),
        (1.0 - 1e-8, 1, 1.0, False),
        (0.0, 1, 0.0, True),
        (1.0, 0, 0.0, False),
    ],
)
def test_recommended_from_the_threshold_up(value: float, successes: int, threshold: float, expected: bool) -> None:
    """A pattern that has succeeded is recommended from the threshold up, with room for rounding and no more."""
    assert expected is score.recommended(value, successes=successes, threshold=threshold)


def test_the_hybrid_is_an_expression_on_the_class(warehouse: Warehouse) -> None:
    """`UserProcessPattern.score` works on a loaded row and inside a query alike."""
    later = DAY + timedelta(days=5)
    with Session(warehouse.engine) as session:
        session.add(
            m.UserProcessPattern(
                user_id="USR001",
                category="c",
                agent_id="AGT001",
                process_pattern="p",
                tool_sequence="t",
                pattern_key="k",
                executions=4,
                successes=3,
                pattern_score=2.25,
                first_day=DAY,
                last_day=DAY,
                decay_day=DAY,
                recommended=True,
            )
        )
        session.flush()
        row = session.scalars(select(m.UserProcessPattern)).one()
        value = session.execute(select(m.UserProcessPattern.score(later))).scalar_one()

        assert value == pytest.approx(row.score(later), rel=1e-12)


def test_undated_counts_do_not_fade() -> None:
    """Where no day is known, nothing fades."""
    assert 1.0 == score.decay(None, DAY)
    assert 1.0 == score.discount(None, DAY, half_life=30.0)


def test_evidence_narrows_with_executions() -> None:
    """More executions at the same rate narrow the interval, which holds the mean, whatever the domain's rate is."""
    few, many = score.evidence(0.8, 2, rate=0.5), score.evidence(0.99, 200, rate=0.5)

    assert few.high - few.low > many.high - many.low
    for rate in (0.0, 0.1, 0.9, 1.0):
        for executions in (0.0, 0.5, 3.0):
            known = score.evidence(rate, executions, rate=rate)
            assert 0.0 <= known.low <= known.mean <= known.high <= 1.0


def test_without_categories_evidence_is_the_posterior_mean() -> None:
    """Runs without a category tell nothing about difficulty: the mean is that of a Beta with the prior of the domain."""
    rate, means = score.two_way({("a", ""): (9, 10), ("b", ""): (1, 10)})

    assert 0.5 == rate
    assert {"a": 11 / 14, "b": 3 / 14} == pytest.approx(means)


def test_who_gets_the_easy_work_is_not_taken_for_the_better() -> None:
    """Each kind of work is done better by the agent that does more of the hard kind: it comes first."""
    cells = {("good", "hard"): (15, 30), ("good", "easy"): (5, 5), ("weak", "hard"): (1, 5), ("weak", "easy"): (24, 30)}
    _, means = score.two_way(cells)

    assert means["good"] > means["weak"]
    assert 15 + 5 < 1 + 24  # although it succeeded less often


def test_the_statement_and_its_twin_agree(warehouse: Warehouse) -> None:
    """In SQL and in Python evidence is the same number, with and without categories, of old, undated and lone runs."""
    draw = random.Random(7)  # noqa: S311 -- a history, not a secret
    days = [m.UNDATED, *(DAY - timedelta(days=ago) for ago in (-2, 0, 1, 40, 9_000))]
    cells = {(f"AGT{a}", c, day): (draw.randint(1, 9), draw.random()) for a in range(7) for c in ("", "x", "카페", "z")
             for day in days if draw.random() < 0.4}  # fmt: skip
    rows = [
        m.AgentDaily(agent_id=agent, category=category, revision="", day=day, executions=n, successes=round(n * share))
        for (agent, category, day), (n, share) in cells.items()
    ]
    dated = [day for _, _, day in cells if day != m.UNDATED]
    weighed: dict[str, dict[tuple[str, str], tuple[float, float]]] = {"DMN0": {}, "DMN1": {}}
    for row in rows:
        domain = weighed[f"DMN{int(row.agent_id[3:]) % 2}"]
        weight = score.discount(min(dated) if row.day == m.UNDATED else row.day, DAY, half_life=30.0)
        good, made = domain.get((row.agent_id, row.category), (0.0, 0.0))
        domain[row.agent_id, row.category] = good + weight * row.successes, made + weight * row.executions
    wanted: dict[str, tuple[float, float]] = {}
    for cells_of in weighed.values():
        rate, means = score.two_way(cells_of)
        wanted |= {agent: (mean, rate) for agent, mean in means.items()}
    with warehouse.begin() as connection, Session(connection) as session:
        session.add_all([*rows, *(m.AgentRow(agent_id=f"AGT{a}", domain_id=f"DMN{a % 2}") for a in range(7))])
        session.flush()
        read = agent_ranking(score.as_of_expression(DAY), score.half_life_expression(30.0))
        found = {row.agent_id: (row.evidence, row.domain_rate) for row in session.execute(read)}
        session.rollback()

    assert set(wanted) == set(found)
    for agent, numbers in wanted.items():
        assert numbers == pytest.approx(found[agent], rel=1e-9)
