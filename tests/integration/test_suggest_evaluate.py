"""The evaluation of what the warehouse knows is that of the history it learnt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.redshift import reports
from agentmodel.suggest.evaluate import AgentHistory, runs_from_warehouse
from tests.integration.suggest_world import catalogue, learn, opened, run


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        for n in range(6):
            run(model, agent_id="AGT001", succeeded=n % 3 != 0)
            run(model, "USR002", "AGT002", tools=[2, 3], succeeded=n % 2 == 0)
        learn(model)
        yield model


def test_runs_are_those_that_were_recorded(model: AgentModel) -> None:
    """Each session with an agent is a run: its tools by name in order, its category, and how it went."""
    runs = runs_from_warehouse(model.warehouse)

    assert 12 == len(runs)
    assert {("AGT001", ("locate", "search", "format")), ("AGT002", ("search", "format"))} == {
        (each.agent, each.tools) for each in runs
    }
    assert (4, 3) == tuple(sum(r.succeeded for r in runs if r.agent == agent) for agent in ("AGT001", "AGT002"))
    assert {("DMN001", "cafe search")} == {(each.domain, each.category) for each in runs}
    assert all(each.at is not None for each in runs)


def test_the_running_rankings_are_those_of_the_statements(model: AgentModel) -> None:
    """Counted run by run in Python or by SQL in the warehouse, both rankings give the same numbers."""
    today = datetime.now(UTC).date()
    history = AgentHistory(half_life_days=model.settings.half_life_days)
    for each in runs_from_warehouse(model.warehouse):
        history.add(each)
    rows = {row.agent_id: row for row in reports.agent_ranking(model.warehouse, as_of=today)}

    assert {agent: row.score for agent, row in rows.items()} == pytest.approx(history.classic())
    assert {agent: row.evidence for agent, row in rows.items()} == pytest.approx(history.evidence())


def test_evaluate_tells_how_many_cases_it_rests_on(model: AgentModel) -> None:
    """Every figure comes with the number of its cases."""
    found = model.evaluate(train_share=0.5)

    assert (12, 6) == (found.runs, found.training_runs)
    assert all(row.cases > 0 for part in (found.plans, found.next_tools, found.calibration) for row in part)
