"""Select the scores of agents from the daily rollup; refresh and reports use this select.

Evidence is computed in sweeps, each of two grouped sums over cells of agent and category: how much a category's success
rate differs from that of its domain, given its agents, and how much an agent's does, given its categories. The same in
plain Python is `agentmodel.redshift.score.two_way`.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Date,
    Double,
    String,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal_column,
)

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._constructs import Ratio, Rows, constant, constant_day, constant_text, total
from agentmodel.redshift.models import agent_name, known_day, rows_of

__all__ = ["agent_scores"]

REVISION: Final = ("revision", "revision_executions", "revision_successes")
"""Columns of an agent's present revision."""


def agent_scores(
    as_of: ColumnElement[date], half_life: ColumnElement[float], revision_prior: ColumnElement[float] | None = None
) -> Rows:
    """Select counts, classic score and evidence as of a day, for every agent with executions, from the daily rollup.

    Age is counted from the newest execution of the agent's domain, or from the day where that is earlier: while nobody
    runs anything, no score changes. An agent whose executions have no time counts as old as the oldest dated agent of
    its domain, so that its score neither outlives the others nor decays alone. Where no agent of the domain has a time,
    no score decays.

    The counts are of all revisions; in the scores an execution of an earlier revision than the present one counts as
    `score.revision_weight` says.
    """
    prior = score.number_expression(score.REVISION_PRIOR) if revision_prior is None else revision_prior
    cell = _cells(as_of, half_life, _revisions(prior))
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
        score.score_expression(
            agent.c.counted, agent.c.counted_good, last=agent.c.decay_day, as_of=agent.c.own_day
        ).label("score"),
        mean.label("evidence"),
        agent.c.weighed.label("evidence_executions"),
        agent.c.domain_rate,
        agent.c.revision,
        agent.c.revision_executions,
        agent.c.revision_successes,
        agent.c.counted,
        agent.c.counted_good,
    ).join(effect, effect.c.agent_id == agent.c.agent_id)


def _revisions(prior: ColumnElement[float]) -> CTE:
    """Select the present revision of each agent that has any, its counts, and the weight of all others.

    It is that of the newest execution: of the newest day, and where several were run on that day, of the last call.
    """
    d, e = m.AgentDaily, m.AgentExecution
    empty = literal_column("''", String())
    undated = constant_day(m.UNDATED)
    all_runs = rows_of(d.agent_id, total(d.executions).label("executions")).group_by(d.agent_id).subquery("all_runs")
    newest = func.rank().over(partition_by=d.agent_id, order_by=func.max(d.day).desc())
    runs = (
        rows_of(
            d.agent_id,
            d.revision,
            total(d.executions).label("executions"),
            total(d.successes).label("successes"),
            func.max(d.day).label("day"),
            newest.label("age"),
        )
        .where(d.revision != empty)
        .group_by(d.agent_id, d.revision)
        .subquery("runs")
    )
    last = func.coalesce(func.max(e.last_time), empty, type_=String())
    order = func.row_number().over(partition_by=runs.c.agent_id, order_by=[last.desc(), runs.c.revision.desc()])
    names = [runs.c[name] for name in ("agent_id", "revision", "executions", "successes")]
    same = [e.agent_id == runs.c.agent_id, e.revision == runs.c.revision]
    timed = (
        rows_of(*names, order.label("place"))
        .outerjoin(e, and_(*same, func.coalesce(e.last_day, undated, type_=Date()) == runs.c.day))
        .where(runs.c.age == constant(1))
        .group_by(*names)
        .subquery("timed")
    )
    weight = score.revision_weight_expression(
        timed.c.executions, all_runs.c.executions - timed.c.executions, prior=prior
    )
    columns = [timed.c[name] for name in ("agent_id", "revision", "executions", "successes")]
    rows = rows_of(*columns, weight.label("weight")).join(all_runs, all_runs.c.agent_id == timed.c.agent_id)
    return rows.where(timed.c.place == constant(1)).cte("present")


def _cells(as_of: ColumnElement[date], half_life: ColumnElement[float], present: CTE) -> CTE:
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
            case(
                (func.coalesce(present.c.revision, d.revision) == d.revision, score.number_expression(1.0)),
                else_=present.c.weight,
            ).label("share"),
            func.coalesce(present.c.revision, literal_column("''"), type_=String()).label("revision"),
            func.coalesce(present.c.executions, constant(0), type_=BigInteger()).label("revision_executions"),
            func.coalesce(present.c.successes, constant(0), type_=BigInteger()).label("revision_successes"),
            day.label("day"),
            func.coalesce(day, oldest).label("weigh_day"),
            func.least(newest, as_of, type_=Date()).label("own_day"),
        )
        .join(a, a.agent_id == d.agent_id)
        .outerjoin(present, present.c.agent_id == d.agent_id)
        .where(a.domain_id.is_not(None))
        .subquery("rows_")
    )
    weight = rows.c.share * score.discount_expression(rows.c.weigh_day, as_of=rows.c.own_day, half_life=half_life)
    key = [rows.c[name] for name in ("domain_id", "agent_id", "name", "own_day", "category", *REVISION)]
    sums = (
        rows_of(
            *key,
            total(rows.c.executions).label("executions"),
            total(rows.c.successes).label("successes"),
            func.max(rows.c.day).label("last_day"),
            func.sum(cast(rows.c.executions, Double) * rows.c.share, type_=Double()).label("counted"),
            func.sum(cast(rows.c.successes, Double) * rows.c.share, type_=Double()).label("counted_good"),
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
    key = [cell.c[name] for name in ("domain_id", "agent_id", "name", "own_day", "domain_rate", *REVISION)]
    last_day = func.max(cell.c.last_day)
    sums = (
        rows_of(
            *key,
            total(cell.c.executions).label("executions"),
            total(cell.c.successes).label("successes"),
            last_day.label("last_day"),
            func.sum(cell.c.counted, type_=Double()).label("counted"),
            func.sum(cell.c.counted_good, type_=Double()).label("counted_good"),
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
