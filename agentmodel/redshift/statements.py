"""Every statement of a refresh, in order, each with its name and its sentence.

A row's way: landed item → base tables → calls that count → `agent_execution` (one row per user, session and agent)
→ rollups and patterns → scores. A full build reads what landed straight into the base tables; an incremental one reads
the changes since the watermark, takes the touched sessions' old counts off and puts their new ones on. Both are made of
the same selects, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Double,
    Executable,
    String,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    union,
    union_all,
)
from sqlalchemy.types import TIMESTAMP

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._history import (
    EXECUTION,
    amounts_of,
    counts_of,
    daily,
    dated,
    executions,
    in_work,
    patterns_kept,
    patterns_of,
    recommended_patterns,
    scored_patterns,
    tool_counts,
)
from agentmodel.redshift._loading import ENTITIES, ITEM, Terms, load, newest, table_of, unload, unpacked
from agentmodel.redshift.dialects import (
    ListAgg,
    Merge,
    Ratio,
    Rows,
    constant,
    constant_text,
    key_part,
    rows_of,
)

__all__ = ["Step", "Terms", "agent_scores", "full_refresh", "incremental_refresh", "terms"]


@dataclass(frozen=True)
class Step:
    """One statement of a refresh."""

    name: str
    sentence: str
    statement: Executable


# -- scores -----------------------------------------------------------------------------------------------------------


def agent_scores(as_of: ColumnElement[date], half_life: ColumnElement[float]) -> Rows:
    """Select every executed agent's counts, classic score and evidence as of a day, from the daily rollup.

    An agent whose executions carry no time counts as old as the oldest dated agent of its domain, so that it neither
    outlives the others nor fades alone; where no agent of the domain has a time, nothing fades.
    """
    d, a = m.AgentDaily, m.Agent
    day = dated(d.day)
    rows = (
        rows_of(
            a.domain_id.label("domain_id"),
            a.agent_id.label("agent_id"),
            func.coalesce(a.name, a.agent_id).label("name"),
            d.executions,
            d.successes,
            day.label("day"),
            func.coalesce(day, func.min(day).over(partition_by=a.domain_id)).label("weigh_day"),
        )
        .join(a, a.agent_id == d.agent_id)
        .where(a.domain_id.is_not(None))
        .subquery("rows_")
    )
    weight = score.discount_expression(rows.c.weigh_day, as_of=as_of, half_life=half_life)
    key = [rows.c.domain_id, rows.c.agent_id, rows.c.name]
    sums = (
        rows_of(
            *key,
            cast(func.sum(rows.c.executions), BigInteger).label("executions"),
            cast(func.sum(rows.c.successes), BigInteger).label("successes"),
            func.max(rows.c.day).label("last_day"),
            func.sum(cast(rows.c.executions, Double) * weight, type_=Double()).label("weighed"),
            func.sum(cast(rows.c.successes, Double) * weight, type_=Double()).label("good"),
        )
        .group_by(*key)
        .subquery("sums")
    )
    return _scored(_with_domain(sums), as_of)


def _with_domain(sums: Subquery) -> Subquery:
    domain = sums.c.domain_id
    prior = score.domain_rate_expression(
        func.sum(sums.c.good, type_=Double()).over(partition_by=domain),
        func.sum(sums.c.weighed, type_=Double()).over(partition_by=domain),
    )
    oldest = func.min(sums.c.last_day).over(partition_by=domain)
    newest_day = func.max(sums.c.last_day).over(partition_by=domain)
    return rows_of(
        *sums.c,
        prior.label("prior"),
        func.coalesce(sums.c.last_day, oldest).label("decay_day"),
        newest_day.label("newest"),
    ).subquery("agents")


def _scored(t: Subquery, as_of: ColumnElement[date]) -> Rows:
    own_day = func.least(t.c.newest, as_of, type_=Date())
    mean, low, high = score.evidence_expression(t.c.good, t.c.weighed, prior=t.c.prior)
    days = case((t.c.last_day.is_not(None), score.age_expression(t.c.last_day, as_of)))
    s = score.score_expression
    return rows_of(
        t.c.domain_id,
        t.c.agent_id,
        t.c.name,
        t.c.executions,
        t.c.successes,
        (t.c.executions - t.c.successes).label("failures"),
        Ratio(t.c.successes, t.c.executions).label("success_rate"),
        t.c.last_day,
        t.c.decay_day,
        days.label("days_since"),
        score.decay_expression(t.c.decay_day, as_of=as_of).label("decay"),
        s(t.c.executions, t.c.successes, last=t.c.decay_day, as_of=as_of).label("score"),
        s(t.c.executions, t.c.successes, last=t.c.decay_day, as_of=own_day).label("weight"),
        mean.label("evidence"),
        low.label("evidence_low"),
        high.label("evidence_high"),
    )


def _write_scores(terms: Terms) -> Executable:
    t = m.AgentScoreSummary
    rows = agent_scores(terms.as_of, terms.half_life).subquery("scored")
    columns = [
        t.domain_id, t.agent_id, t.name, t.executions, t.successes, t.failures, t.success_rate, t.last_day, t.decay_day,
        t.days_since, t.decay, t.calculated_score, t.weight, t.evidence, t.evidence_low, t.evidence_high, t.updated_at,
    ]  # fmt: skip
    return insert(t).from_select(columns, rows_of(*rows.c, cast(terms.as_of, TIMESTAMP)))


def _write_tool_errors() -> Executable:
    t, a, tool = m.AgentTool, m.Agent, m.Tool
    empty: ColumnElement[str] = literal_column("''")
    names = [func.nullif(t.tool_name, empty), func.nullif(tool.name, empty), t.tool_id]
    named = func.coalesce(*names, type_=String())
    rows = (
        rows_of(
            a.domain_id,
            a.agent_id,
            func.coalesce(a.name, a.agent_id).label("name"),
            t.calls,
            t.errors,
            named.label("tool"),
        )
        .join(a, a.agent_id == t.agent_id)
        .outerjoin(tool, and_(tool.agent_id == t.agent_id, tool.tool_id == t.tool_id))
        .where(a.domain_id.is_not(None))
        .subquery("rows_")
    )
    key = [rows.c.domain_id, rows.c.agent_id, rows.c.name]
    errors, total = func.sum(rows.c.errors), func.sum(rows.c.calls)
    per_tool = (
        rows_of(*key, rows.c.tool, errors.label("errors"), total.label("calls"))
        .group_by(*key, rows.c.tool)
        .subquery("per_tool")
    )
    key = [per_tool.c.domain_id, per_tool.c.agent_id, per_tool.c.name]
    failed = case((per_tool.c.errors > 0, func.left(per_tool.c.tool, constant(100))), else_=null())
    errors, total = func.sum(per_tool.c.errors), func.sum(per_tool.c.calls)
    target = m.ToolErrorSummary
    columns = [
        target.domain_id,
        target.agent_id,
        target.name,
        target.errors,
        target.calls,
        target.error_rate,
        target.failed_tools,
    ]
    return insert(target).from_select(
        columns,
        rows_of(
            *key,
            cast(errors, BigInteger),
            cast(total, BigInteger),
            Ratio(errors, total),
            ListAgg(failed, ", ", order_by=[failed]),
        )
        .group_by(*key)
        .having(errors > 0),
    )


def _watermark(terms: Terms) -> Executable:
    w = m.RefreshWatermark
    columns, told = [w.name, w.as_of], [constant_text("refresh").label("name"), terms.as_of.label("as_of")]
    if not terms.history:
        return insert(w).from_select(columns, rows_of(*told))
    row = terms.landed.alias("landed")
    seen = func.max(func.greatest(row.c[m.CREATED], row.c[m.DELETED]))
    return insert(w).from_select([*columns, w.seen_until], rows_of(*told, seen.label("seen_until")))


CALL: Final = "UserSessPrcToolMappHist"
CHANGE: Final = [getattr(m.WorkChange, name) for name in ("pk", "sk", "value", "kind", "present", "loaded_at")]


# -- the two refreshes ------------------------------------------------------------------------------------------------


def _clear(models: Sequence[Any]) -> Iterator[Step]:
    for model in models:
        name = model.__tablename__
        yield Step(f"clear {name}", f"Empty {name}; DELETE, not TRUNCATE, which would commit.", delete(model))


def full_refresh(terms: Terms) -> Iterator[Step]:
    """Yield the statements of a build from everything that landed; needs history mode."""
    yield from _clear([*m.WORK, *(entity.model for entity in ENTITIES)])
    item = newest(terms).subquery("item")
    few = rows_of(*(item.c[name] for name in ITEM)).where(item.c.kind != constant_text(CALL))
    yield Step(
        "find items",
        "All items but the calls, which are most of them: so each item's kind is looked at twice, not seven times.",
        insert(m.WorkChange).from_select(CHANGE, few),
    )
    for entity in ENTITIES:
        name = entity.model.__tablename__
        source = unpacked(entity, item) if entity.kind == CALL else table_of(m.WorkChange)
        yield Step(f"load {name}", f"Read the items of kind {entity.kind} into {name}.", load(entity, source))
    yield from _clear([m.AgentExecution, m.AgentDaily, m.AgentTool, m.UserProcessPattern])
    order: list[ColumnElement[Any]] = [literal_column("2"), literal_column("1")]
    yield Step(
        "execute",
        "One row per user, session and agent, in the order of sessions, so that later look-ups by session stay near.",
        insert(m.AgentExecution).from_select(EXECUTION, executions().order_by(*order)),
    )
    d = m.AgentDaily
    yield Step(
        "roll up days",
        "Executions and successes per agent and day.",
        insert(d).from_select([d.agent_id, d.day, d.executions, d.successes], daily(m.AgentExecution, constant(1))),
    )
    yield Step(
        "roll up tools",
        "Calls, errors and tokens per agent and tool.",
        insert(m.AgentTool).from_select(counts_of(m.AgentTool), tool_counts()),
    )
    yield from _clear([m.WorkPattern])
    yield Step("score patterns", "Every user's patterns and their scores.", scored_patterns(patterns_of(), terms.as_of))
    yield from _finish(terms)


def incremental_refresh(terms: Terms) -> Iterator[Step]:
    """Yield the statements that bring every table up to date with the changes since the watermark."""
    yield from _clear(m.WORK)
    yield from _take_changes(terms)
    yield from _replace_executions()
    yield from _update_rollups()
    yield from _update_patterns(terms)
    yield from _finish(terms)


def _take_changes(terms: Terms) -> Iterator[Step]:
    w = m.WorkChange
    changed = insert(w).from_select(CHANGE, newest(terms))
    yield Step("find changes", "The newest version of each item that changed.", changed)
    change = table_of(w).c
    sessions = union(
        rows_of(key_part(change.PK, 1), key_part(change.PK, 2)).where(change.kind == constant_text(CALL)),
        rows_of(change.PK, change.SK).where(change.kind == constant_text("UserSession")),
    )
    yield Step(
        "find sessions",
        "The sessions those items belong to: everything about them is computed again.",
        insert(m.WorkSession).from_select([m.WorkSession.user_id, m.WorkSession.session_id], sessions),
    )
    yield Step("count old calls", "What the touched sessions' calls counted so far.", _count_calls(-1))
    yield Step("keep old executions", "The touched sessions' executions as they were.", _keep_executions(-1))
    for entity in ENTITIES:
        name = entity.model.__tablename__
        yield Step(f"unload {name}", f"Take the changed rows out of {name}.", unload(entity))
        again = load(entity, table_of(w))
        yield Step(f"load {name}", f"Put them into {name} as they are now, unless they were erased.", again)


def _count_calls(sign: int) -> Executable:
    rows = tool_counts(touched=True).subquery("counted")
    amounts = [rows.c[name] * constant(sign) for name in ("calls", "errors", "inputs", "outputs")]
    return insert(m.WorkCall).from_select(
        [*counts_of(m.WorkCall), m.WorkCall.change],
        rows_of(rows.c.agent_id, rows.c.tool_id, rows.c.name, *amounts, constant(sign)),
    )


def _keep_executions(sign: int) -> Executable:
    w, e = m.WorkExecution, m.AgentExecution
    rows = rows_of(e.user_id, e.session_id, e.agent_id, constant(sign), e.succeeded, e.last_day, e.pattern_key)
    columns = [w.user_id, w.session_id, w.agent_id, w.change, w.succeeded, w.last_day, w.pattern_key]
    return insert(w).from_select(columns, in_work(rows, e.user_id, e.session_id))


def _replace_executions() -> Iterator[Step]:
    e, w = m.AgentExecution, m.WorkSession
    yield Step(
        "drop executions",
        "Take the touched sessions' executions out.",
        delete(e).where(e.user_id == w.user_id, e.session_id == w.session_id),
    )
    order: list[ColumnElement[Any]] = [literal_column("2"), literal_column("1")]
    yield Step(
        "execute",
        "Put them in as they are now.",
        insert(e).from_select(EXECUTION, executions(touched=True).order_by(*order)),
    )
    yield Step("count new calls", "What the touched sessions' calls count now.", _count_calls(1))
    yield Step("keep new executions", "The touched sessions' executions as they are.", _keep_executions(1))


def _update_rollups() -> Iterator[Step]:
    w, d = m.WorkDaily, m.AgentDaily
    rows = daily(m.WorkExecution, table_of(m.WorkExecution).c.change).subquery("changed")
    changed = rows_of(*rows.c).where(or_(rows.c.executions != 0, rows.c.successes != 0))
    yield Step(
        "count days",
        "What changed per agent and day: new less old.",
        insert(w).from_select([w.agent_id, w.day, w.executions, w.successes], changed),
    )
    yield Step(
        "merge days",
        "Add it to the daily rollup.",
        _add(d, w, ("agentid", "execution_date"), ("executions", "successes")),
    )
    yield Step("drop empty days", "A day without executions is no row.", delete(d).where(d.executions == 0))
    call, tool = m.WorkCall, m.WorkTool
    sums = [cast(func.sum(column), BigInteger).label(f"n{place}") for place, column in enumerate(amounts_of(call))]
    keys = [call.agent_id, call.tool_id, call.tool_name]
    total = rows_of(*keys, *sums).group_by(*keys).subquery("total")
    counts = [total.c[column.key] for column in sums]
    yield Step(
        "count tools",
        "What changed per agent and tool: new less old.",
        insert(tool).from_select(counts_of(tool), rows_of(*total.c).where(or_(*(count != 0 for count in counts)))),
    )
    names = ("calls", "errors", "inputtokens", "outputtokens")
    yield Step(
        "merge tools", "Add it to the rollup of tools.", _add(m.AgentTool, tool, ("agentid", "toolid", "toolnm"), names)
    )
    yield Step(
        "drop unused tools", "A tool without calls is no row.", delete(m.AgentTool).where(m.AgentTool.calls == 0)
    )


def _add(target: Any, source: Any, on: Sequence[str], amounts: Sequence[str]) -> Merge:
    to, of = table_of(target), table_of(source)
    return Merge(to, of, on=on, update={name: to.c[name] + of.c[name] for name in amounts}, insert=[*on, *amounts])


def _update_patterns(terms: Terms) -> Iterator[Step]:
    p, w = m.UserProcessPattern, m.WorkUser
    users: list[Rows] = [rows_of(m.WorkExecution.user_id)]
    if terms.seen_as_of is not None:
        # a day in the future counts as today, so its weight changes until that day has come
        ahead = func.least(terms.seen_as_of, terms.as_of, type_=Date())
        users.append(rows_of(p.user_id).where(p.last_day > ahead))
    yield Step(
        "find users",
        "Users whose patterns changed, or have a day that lay in the future.",
        insert(w).from_select([w.user_id], union(*users)),
    )
    rows = union_all(patterns_of(touched=True), patterns_kept())
    yield Step("score patterns", "Those users' patterns and their scores.", scored_patterns(rows, terms.as_of))
    yield Step("drop patterns", "Take those users' patterns out.", delete(p).where(p.user_id == w.user_id))


def _finish(terms: Terms) -> Iterator[Step]:
    yield Step(
        "recommend patterns",
        "Put the patterns in; from the 80th percentile of their user up they are recommended.",
        recommended_patterns(),
    )
    yield from _clear([m.AgentScoreSummary])
    yield Step("score agents", "Every agent's score and evidence as of the day.", _write_scores(terms))
    yield from _clear([m.ToolErrorSummary])
    yield Step("sum up tool errors", "Errors per agent, and which tools failed.", _write_tool_errors())
    yield from _clear([*m.WORK, m.RefreshWatermark])
    yield Step("set watermark", "How far this refresh saw.", _watermark(terms))


def terms(
    landed: Table,
    *,
    as_of: date,
    half_life_days: float,
    since: datetime | None = None,
    seen_as_of: date | None = None,
) -> Terms:
    """Return the terms of a refresh with its values as bind parameters."""
    return Terms(
        landed,
        as_of=score.day(as_of),
        half_life=score.half_life(half_life_days),
        since=None if since is None else bindparam("since", since, TIMESTAMP),
        seen_as_of=None if seen_as_of is None else cast(bindparam("seen_as_of", seen_as_of, Date), Date),
    )
