"""Select the scores of agents from the daily rollup; refresh and reports use this select.

Evidence is computed in sweeps, each of two grouped sums over cells of agent and category: how much a category's success
rate differs from that of its domain, given its agents, and how much an agent's does, given its categories. The same in
plain Python is `agentmodel.redshift.score.two_way`.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import CTE, ColumnElement, Date, Double, Subquery, and_, case, cast, func, literal_column

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._constructs import Ratio, Rows, constant_text, total
from agentmodel.redshift.models import agent_name, known_day, rows_of

__all__ = ["agent_scores"]


def agent_scores(as_of: ColumnElement[date], half_life: ColumnElement[float]) -> Rows:
    """Select counts, classic score and evidence as of a day, for every agent with executions, from the daily rollup.

    Age is counted from the newest execution of the agent's domain, or from the day where that is earlier: while nobody
    runs anything, no score changes. An agent whose executions have no time counts as old as the oldest dated agent of
    its domain, so that its score neither outlives the others nor decays alone. Where no agent of the domain has a time,
    no score decays.
    """
    cell = _cells(as_of, half_life)
    agent = _agents(cell)
    effect = _agent_effects(cell)
    mean: ColumnElement[float] = func.least(
        func.greatest(agent.c.domain_rate + effect.c.effect, literal_column("0")), literal_column("1"), type_=Double()
    )
    days = case((agent.c.last_day.is_not(None), score.age_expression(agent.c.last_day, as_of)))
    counts = agent.c.executions, agent.c.successes
    return rows_of(
        agent.c.domain_id,
        agent.c.agent_id,
        agent.c.name,
        *counts,
        (agent.c.executions - agent.c.successes).label("failures"),
        Ratio(agent.c.successes, agent.c.executions).label("success_rate"),
        agent.c.last_day,
        days.label("days_since"),
        score.decay_expression(agent.c.decay_day, as_of=agent.c.own_day).label("decay"),
        score.score_expression(*counts, last=agent.c.decay_day, as_of=agent.c.own_day).label("score"),
        mean.label("evidence"),
        agent.c.weighed.label("evidence_executions"),
        agent.c.domain_rate,
    ).join(effect, effect.c.agent_id == agent.c.agent_id)


def _cells(as_of: ColumnElement[date], half_life: ColumnElement[float]) -> CTE:
    """Select counts and discounted counts per agent and category.

    ``residual`` is by how many successes, discounted, the cell differs from the success rate of its domain.
    """
    d, a = m.AgentDaily, m.AgentRow
    day = known_day(d.day)
    oldest, newest = (each(day).over(partition_by=a.domain_id) for each in (func.min, func.max))
    rows = (
        rows_of(
            a.domain_id.label("domain_id"),
            a.agent_id.label("agent_id"),
            agent_name(a).label("name"),
            d.category,
            d.executions,
            d.successes,
            day.label("day"),
            func.coalesce(day, oldest).label("weigh_day"),
            func.least(newest, as_of, type_=Date()).label("own_day"),
        )
        .join(a, a.agent_id == d.agent_id)
        .where(a.domain_id.is_not(None))
        .subquery("rows_")
    )
    weight = score.discount_expression(rows.c.weigh_day, as_of=rows.c.own_day, half_life=half_life)
    key = [rows.c[name] for name in ("domain_id", "agent_id", "name", "own_day", "category")]
    sums = (
        rows_of(
            *key,
            total(rows.c.executions).label("executions"),
            total(rows.c.successes).label("successes"),
            func.max(rows.c.day).label("last_day"),
            func.sum(cast(rows.c.executions, Double) * weight, type_=Double()).label("weighed"),
            func.sum(cast(rows.c.successes, Double) * weight, type_=Double()).label("good"),
        )
        .group_by(*key)
        .subquery("sums")
    )
    good, weighed = (func.sum(column, type_=Double()).over(partition_by=sums.c.domain_id)
                     for column in (sums.c.good, sums.c.weighed))  # fmt: skip
    rate = score.domain_rate_expression(good, weighed)
    rated = rows_of(*sums.c, rate.label("domain_rate")).subquery("rated")
    residual = rated.c.good - rated.c.weighed * rated.c.domain_rate
    return rows_of(*rated.c, residual.label("residual")).cte("cell")


def _agents(cell: CTE) -> Subquery:
    """Select the counts of each agent, and the day that its score decays from."""
    key = [cell.c[name] for name in ("domain_id", "agent_id", "name", "own_day", "domain_rate")]
    last_day = func.max(cell.c.last_day)
    sums = (
        rows_of(
            *key,
            total(cell.c.executions).label("executions"),
            total(cell.c.successes).label("successes"),
            last_day.label("last_day"),
            func.sum(cell.c.weighed, type_=Double()).label("weighed"),
        )
        .group_by(*key)
        .subquery("counted")
    )
    oldest = func.min(sums.c.last_day).over(partition_by=sums.c.domain_id)
    return rows_of(*sums.c, func.coalesce(sums.c.last_day, oldest).label("decay_day")).subquery("agents")


def _agent_effects(cell: CTE) -> CTE:
    """Select by how much each agent's success rate differs from that of its domain, difficulty of the work aside."""
    effect = _sweep(cell, 1, cell.c.residual)
    for number in range(2, score.SWEEPS + 1):
        effect = _sweep(cell, number, cell.c.residual - cell.c.weighed * effect.c.effect, given=effect)
    return effect


def _sweep(cell: CTE, number: int, residual: ColumnElement[float], *, given: CTE | None = None) -> CTE:
    """Select each agent's difference, given each category's, given what the agents' differences leave of the cells."""
    known = cell if given is None else cell.join(given, given.c.agent_id == cell.c.agent_id)
    effect = case(
        (cell.c.category == constant_text(""), literal_column("0")),
        else_=_share(residual, cell.c.weighed, prior=score.CATEGORY_PRIOR),
    )
    categories = rows_of(cell.c.domain_id, cell.c.category, effect.label("effect")).select_from(known)
    category = categories.group_by(cell.c.domain_id, cell.c.category).cte(f"category_{number}")
    rest = cell.c.residual - cell.c.weighed * category.c.effect
    agents = rows_of(cell.c.agent_id, _share(rest, cell.c.weighed, prior=score.AGENT_PRIOR).label("effect"))
    same = and_(category.c.domain_id == cell.c.domain_id, category.c.category == cell.c.category)
    return agents.join(category, same).group_by(cell.c.agent_id).cte(f"agent_{number}")


def _share(part: ColumnElement[float], whole: ColumnElement[float], *, prior: float) -> ColumnElement[float]:
    above, below = (func.sum(column, type_=Double()) for column in (part, whole))
    return Ratio(above, below + cast(literal_column(repr(prior)), Double))
