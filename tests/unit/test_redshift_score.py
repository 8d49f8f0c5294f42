"""Scores: each formula's worked example, and its expression giving the same number."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Date, Double, bindparam, cast, select
from sqlalchemy.orm import Session

from agentmodel.redshift import dialects, pipeline, score
from agentmodel.redshift import models as m
from agentmodel.redshift.pipeline import Warehouse

DAY = date(2025, 6, 14)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse.open("duckdb://", threads=1) as opened:
        opened.create()
        yield opened


@pytest.mark.parametrize("module", [score, dialects, pipeline], ids=lambda module: module.__name__)
def test_examples(module: object) -> None:
    """The examples in the docstrings are true."""
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]  # a module, as parametrize hands it over

    assert 0 == failed
    assert 0 < tried


@pytest.mark.parametrize("days", [-3, 0, 1, 10, 400, 9000])
@pytest.mark.parametrize(("executions", "successes"), [(1, 0), (1, 1), (7, 3), (123456789, 123456788)])
def test_expression_and_twin_agree(warehouse: Warehouse, days: int, executions: int, successes: int) -> None:
    """In SQL and in Python a score is the same number, long ago and in the future too."""
    last = DAY - timedelta(days=days)
    row = m.AgentScoreSummary(executions=executions, successes=successes, decay_day=last)
    pattern = m.UserProcessPattern(executions=executions, successes=successes, decay_day=last)
    counted = {
        "executions": cast(bindparam("n", executions), Double),
        "successes": cast(bindparam("k", successes), Double),
    }
    day = cast(bindparam("last", last, Date), Date)
    found = warehouse.read(
        select(
            score.score_expression(counted["executions"], counted["successes"], last=day, as_of=DAY),
            score.pattern_score_expression(counted["executions"], counted["successes"], last=day, as_of=DAY),
            score.discount_expression(day, as_of=DAY, half_life=score.half_life(30.0)),
            *score.evidence_expression(
                counted["successes"], counted["executions"], prior=cast(bindparam("p", 0.3), Double)
            ),
        )
    )
    expected = (
        row.score(DAY),
        pattern.score(DAY),
        score.discount(last, DAY, half_life=30.0),
        *score.evidence(successes, executions, prior=0.3),
    )

    assert expected == pytest.approx(tuple(found[0]), rel=1e-12, abs=1e-300)


def test_the_hybrid_is_an_expression_on_the_class(warehouse: Warehouse) -> None:
    """`AgentScoreSummary.score` works on a loaded row and inside a query alike."""
    values = {
        "domain_id": "DMN001", "agent_id": "AGT001", "executions": 4, "successes": 3, "failures": 1, "success_rate": 0.75,
        "last_day": DAY, "decay_day": DAY, "days_since": 0, "decay": 1.0, "calculated_score": 2.25, "weight": 2.25,
        "evidence": 0.7, "evidence_low": 0.5, "evidence_high": 0.9, "updated_at": None,
    }  # fmt: skip
    later, now = DAY + timedelta(days=5), datetime.combine(DAY, datetime.min.time())
    with Session(warehouse.engine) as session:
        session.add(m.AgentScoreSummary(**{**values, "updated_at": now}))
        session.flush()
        row = session.scalars(select(m.AgentScoreSummary)).one()
        value = session.execute(select(m.AgentScoreSummary.score(later))).scalar_one()

        assert value == pytest.approx(row.score(later), rel=1e-12)


def test_undated_counts_do_not_fade() -> None:
    """Where no day is known, nothing fades."""
    assert 1.0 == score.decay(None, DAY)
    assert 1.0 == score.discount(None, DAY, half_life=30.0)


def test_evidence_narrows_with_executions() -> None:
    """More executions at the same rate move the mean from the prior to the rate, and narrow the interval."""
    few, many = score.evidence(2, 2, prior=0.5), score.evidence(200, 200, prior=0.5)

    assert 0.5 < few.mean < many.mean < 1.0
    assert few.high - few.low > many.high - many.low
    assert few.low <= few.mean <= few.high
