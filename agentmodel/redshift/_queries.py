"""The reports as selects: what `agentmodel.redshift.reports` reads, and what the rendered SQL folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, func, literal_column

from agentmodel.redshift import _history as history
from agentmodel.redshift import models as m
from agentmodel.redshift import score, statements
from agentmodel.redshift.dialects import ListAgg, Ratio, Rows, constant, rows_of

__all__ = [
    "agent_ranking",
    "executions_per_day",
    "patterns",
    "requests",
    "steps",
    "tokens",
    "tool_errors",
    "tool_failures",
]

EMPTY: ColumnElement[str] = literal_column("''")


def agent_ranking(as_of: ColumnElement[date], half_life: ColumnElement[float], *, evidence: bool = False) -> Rows:
    """Agents with their scores and their place in their domain."""
    s = statements.agent_scores(as_of, half_life).subquery("s")
    by = s.c.evidence if evidence else s.c.weight
    place = func.rank().over(partition_by=s.c.domain_id, order_by=by.desc()).label("score_rank")
    shown = [column for column in s.c if column.name not in ("decay_day", "weight")]
    return rows_of(*shown, place).order_by(s.c.domain_id, place, s.c.agent_id)


def patterns(as_of: ColumnElement[date], condition: Sequence[ColumnElement[bool]] = ()) -> Rows:
    """Patterns of users, each user's best first."""
    p = m.UserProcessPattern
    value = score.pattern_score_expression(p.executions, p.successes, last=p.decay_day, as_of=as_of)
    rows = rows_of(
        p.pattern_key,
        p.user_id,
        p.category,
        p.agent_id,
        p.process_pattern,
        p.tool_sequence,
        p.executions,
        p.successes,
        Ratio(p.successes, p.executions).label("success_rate"),
        value.label("score"),
        p.first_day,
        p.last_day,
        p.recommended,
    )
    return rows.where(*condition).order_by(p.user_id, p.pattern_score.desc(), p.pattern_key)


def steps(condition: Sequence[ColumnElement[bool]] = ()) -> Rows:
    """The steps of patterns, in order: how often each was called, and how often that went well."""
    e, p, process = m.AgentExecution, m.UserProcessPattern, m.UserSessionProcess
    key = ("user_id", "session_id", "agent_id", "process_id", "tool_id")
    step = history.steps_of_sessions()
    c = history.calls().subquery("c")
    one = [c.c[name] for name in key]
    tries = rows_of(*one, func.count().label("calls"), func.sum(c.c.ok).label("good")).group_by(*one).subquery("tries")
    named = and_(
        process.user_id == step.c.user_id,
        process.session_id == step.c.session_id,
        process.process_id == step.c.process_id,
    )
    of_step = [e.pattern_key, step.c.process_id, step.c.agent_id, step.c.tool_id]
    of_execution = [getattr(e, name) == step.c[name] for name in key[:3]]
    return (
        rows_of(
            e.pattern_key,
            step.c.process_id,
            func.coalesce(func.max(process.name), EMPTY).label("process_name"),
            step.c.agent_id,
            step.c.tool_id,
            func.max(step.c.label).label("tool_name"),
            cast(func.sum(tries.c.calls), BigInteger).label("calls"),
            cast(func.sum(tries.c.good), BigInteger).label("successes"),
        )
        .join(step, and_(*of_execution))
        .join(tries, and_(*(tries.c[name] == step.c[name] for name in key)))
        .outerjoin(process, named)
        .where(e.pattern_key.in_(rows_of(p.pattern_key).where(*condition)))
        .group_by(*of_step)
        .order_by(e.pattern_key, func.min(step.c.place), step.c.process_id, step.c.tool_id)
    )


def tool_errors() -> Rows:
    """Agents that had tool errors, most errors first, as the sample's report does."""
    t = m.ToolErrorSummary
    rows = rows_of(t.agent_id, t.name, t.errors, t.calls, t.error_rate, t.failed_tools)
    return rows.order_by(t.errors.desc(), t.error_rate.desc(), t.agent_id)


def _last_errors() -> Any:
    c = history.calls().subquery("c")
    newest = func.row_number().over(
        partition_by=[c.c.agent_id, c.c.tool_id],
        order_by=[
            func.coalesce(c.c.clock, EMPTY).desc(),
            c.c.user_id.desc(),
            c.c.session_id.desc(),
            func.coalesce(c.c.call_number, constant(0)).desc(),
            c.c.process_id.desc(),
            c.c.attempt.desc(),
        ],
    )
    failed = rows_of(c.c.agent_id, c.c.tool_id, c.c.time, c.c.result, newest.label("place")).where(
        c.c.ok == constant(0)
    )
    return failed.subquery("f")


def tool_failures() -> Rows:
    """Every called tool of every agent: calls, errors, and the last error; most errors first."""
    t, a, tool = m.AgentTool, m.Agent, m.Tool
    calls, errors = func.sum(t.calls), func.sum(t.errors)
    name = func.coalesce(func.max(tool.name), func.nullif(func.max(t.tool_name), EMPTY), t.tool_id)
    f = _last_errors()
    return (
        rows_of(
            a.domain_id,
            a.agent_id,
            func.coalesce(a.name, a.agent_id).label("agent_name"),
            t.tool_id,
            name.label("tool_name"),
            cast(calls, BigInteger).label("calls"),
            cast(errors, BigInteger).label("errors"),
            Ratio(errors, calls).label("error_rate"),
            func.max(f.c.time).label("last_error_at"),
            func.max(f.c.result).label("last_message"),
        )
        .join(a, a.agent_id == t.agent_id)
        .outerjoin(tool, and_(tool.agent_id == t.agent_id, tool.tool_id == t.tool_id))
        .outerjoin(f, and_(f.c.agent_id == t.agent_id, f.c.tool_id == t.tool_id, f.c.place == constant(1)))
        .where(a.domain_id.is_not(None))
        .group_by(a.domain_id, a.agent_id, a.name, t.tool_id)
        .order_by(errors.desc(), a.agent_id, t.tool_id)
    )


def requests() -> Rows:
    """What each session was asked for, and how it went: by review, else as recorded, else by its executions."""
    s, e, process = m.UserSession, m.AgentExecution, m.UserSessionProcess
    place = func.row_number().over(partition_by=[process.user_id, process.session_id], order_by=process.process_id)
    first = rows_of(process.user_id, process.session_id, process.prompt, place.label("place")).subquery("opening")
    agents = (
        rows_of(
            e.user_id,
            e.session_id,
            func.min(e.succeeded).label("ok"),
            ListAgg(e.agent_id, ",", order_by=[e.agent_id]).label("agents"),
        )
        .group_by(e.user_id, e.session_id)
        .subquery("agents")
    )
    opening = and_(first.c.user_id == s.user_id, first.c.session_id == s.session_id, first.c.place == constant(1))
    return (
        rows_of(
            s.user_id,
            s.session_id,
            func.coalesce(s.category, EMPTY).label("category"),
            func.coalesce(s.request, first.c.prompt, EMPTY).label("request"),
            history.outcome(s, agents.c.ok).label("outcome"),
            func.coalesce(agents.c.agents, EMPTY).label("agents"),
        )
        .outerjoin(agents, and_(agents.c.user_id == s.user_id, agents.c.session_id == s.session_id))
        .outerjoin(first, opening)
        .order_by(s.user_id, s.session_id)
    )


def executions_per_day() -> Rows:
    """Executions and successes per agent and day, undated ones first."""
    d = m.AgentDaily
    return rows_of(d.agent_id, d.day, d.executions, d.successes).order_by(d.agent_id, d.day)


def tokens() -> Rows:
    """Calls and tokens per agent and tool, most tokens first."""
    t = m.AgentTool
    name = case((t.tool_name == EMPTY, t.tool_id), else_=t.tool_name).label("tool_name")
    rows = rows_of(t.agent_id, t.tool_id, name, t.calls, t.input_tokens, t.output_tokens)
    return rows.order_by((t.input_tokens + t.output_tokens).desc(), t.agent_id, t.tool_id, t.tool_name)
