"""From calls to executions, rollups and patterns: the selects that both refreshes are made of."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Date,
    Double,
    Executable,
    Integer,
    String,
    Subquery,
    and_,
    case,
    cast,
    func,
    insert,
    literal_column,
    or_,
)

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._loading import table_of
from agentmodel.redshift.dialects import (
    TIME,
    ListAgg,
    Matches,
    Ratio,
    Rows,
    constant,
    constant_day,
    constant_text,
    day_of,
    rows_of,
    time_of,
)

__all__ = [
    "EXECUTION",
    "PATTERN",
    "amounts_of",
    "calls",
    "counts_of",
    "daily",
    "dated",
    "executions",
    "in_work",
    "outcome",
    "patterns_kept",
    "patterns_of",
    "recommended_patterns",
    "scored_patterns",
    "staging",
    "steps_of_sessions",
    "tool_counts",
]

LONGEST: Final = 200
"""Steps of an execution that its sequences list, and `SHOWN` characters of each: LISTAGG over 65,535 bytes fails."""

SHOWN: Final = 80

FIRST: Final = 2**62  # a call without a number comes after those that have one
LATE: Final = "99999999999999999999"  # a call without a time comes after those that have one


# -- calls and executions ---------------------------------------------------------------------------------------------


def in_work(rows: Rows, user: Any, session: Any) -> Rows:
    """Keep the rows of touched sessions."""
    work = m.WorkSession
    return rows.join(work, and_(work.user_id == user, work.session_id == session))


def calls(*, touched: bool = False) -> Rows:
    """Select the calls that count, typed; with ``touched``, those of the touched sessions.

    A call counts when it was really made: its status is ``ok`` or ``error``, or it has none (then SuccYN tells). A call
    that a person rejected, or that the cache answered, says nothing about the agent.
    """
    h = m.UserToolMappingHist
    status = func.nullif(h.status, literal_column("''"), type_=String())
    ok = case(
        (status == constant_text("ok"), constant(1)),
        (status == constant_text("error"), constant(0)),
        (h.succeeded == constant_text("Y"), constant(1)),
        else_=constant(0),
    )
    rows = rows_of(
        h.user_id,
        h.session_id,
        h.process_id,
        h.agent_id,
        h.tool_id,
        h.attempt,
        h.tool_name,
        ok.label("ok"),
        day_of(h.time).label("day"),
        case((Matches(h.time, TIME), func.rpad(h.time, constant(20), literal_column("'0'")))).label("clock"),
        h.call_number,
        h.duration_ms,
        h.input_tokens,
        h.output_tokens,
        h.time,
        h.values,
        h.result,
    ).where(or_(status.is_(None), status.in_([constant_text("ok"), constant_text("error")])))
    return in_work(rows, h.user_id, h.session_id) if touched else rows


def staging() -> Rows:
    """Select the sample's staging rows: the calls that count, with the domain that their agent works in now."""
    call = calls().subquery("call")
    return rows_of(
        call.c.user_id,
        call.c.session_id,
        call.c.process_id,
        m.Agent.domain_id,
        call.c.agent_id,
        call.c.tool_id,
        call.c.attempt,
        call.c.tool_name,
        call.c.day.label("execution_date"),
        time_of(call.c.time).label("execution_datetime"),
        (call.c.ok == 1).label("success_flag"),
        call.c["values"].label("tool_values"),
        call.c.result.label("result_message"),
    ).select_from(call.outerjoin(table_of(m.Agent), m.Agent.agent_id == call.c.agent_id))


def steps_of_sessions(*, touched: bool = False) -> Subquery:
    """Select each tool's use in a process once, however often it was tried; the last attempt says how it went."""
    c = calls(touched=touched).subquery("c")
    key = [c.c.user_id, c.c.session_id, c.c.agent_id, c.c.process_id, c.c.tool_id]
    # the greatest of 2 * attempt + ok is the last attempt's, and its lowest bit is the outcome
    last = func.max(c.c.attempt * 2 + c.c.ok, type_=Integer())
    step = (
        rows_of(
            *key,
            func.mod(last, constant(2), type_=Integer()).label("ok"),
            func.coalesce(
                func.max(func.nullif(c.c.tool_name, literal_column("''"))), c.c.tool_id, type_=String()
            ).label("label"),
            func.min(func.coalesce(c.c.call_number, constant(FIRST))).label("number"),
            func.min(func.coalesce(c.c.clock, constant_text(LATE))).label("clock"),
            func.min(c.c.day).label("first_day"),
            func.max(c.c.day).label("last_day"),
            func.count().label("calls"),
            func.sum(c.c.duration_ms, type_=Double()).label("milliseconds"),
        )
        .group_by(*key)
        .subquery("uses")
    )
    place = func.row_number().over(
        partition_by=[step.c.user_id, step.c.session_id, step.c.agent_id],
        order_by=[step.c.number, step.c.clock, step.c.process_id, step.c.tool_id],
    )
    return rows_of(*step.c, place.label("place")).subquery("step")


def executions(*, touched: bool = False) -> Rows:
    """Select one row per user, session and agent: outcome, days and sequences."""
    step = steps_of_sessions(touched=touched)
    early = step.c.place <= constant(LONGEST)
    process = case((early, func.left(step.c.process_id, constant(SHOWN))))
    tool = case((early, func.left(step.c.label, constant(SHOWN))))
    key = [step.c.user_id, step.c.session_id, step.c.agent_id]
    whole = (
        rows_of(
            *key,
            func.min(step.c.ok).label("ok"),
            cast(func.sum(step.c.calls), Integer).label("calls"),
            func.min(step.c.first_day).label("first_day"),
            func.max(step.c.last_day).label("last_day"),
            Ratio(func.sum(step.c.milliseconds, type_=Double()), constant(1000)).label("seconds"),
            ListAgg(process, "->", order_by=[step.c.place]).label("process_pattern"),
            ListAgg(tool, "->", order_by=[step.c.place]).label("tool_sequence"),
        )
        .group_by(*key)
        .subquery("whole")
    )
    s = m.UserSession
    category = func.coalesce(s.category, literal_column("''"), type_=String())
    return rows_of(
        *(whole.c[name] for name in ("user_id", "session_id", "agent_id")),
        category.label("category"),
        outcome(s, whole.c.ok).label("success"),
        *(whole.c[name] for name in ("calls", "first_day", "last_day", "seconds", "process_pattern", "tool_sequence")),
        func.md5(
            _joined(
                whole.c.user_id,
                whole.c.agent_id,
                *(func.md5(text) for text in (category, whole.c.process_pattern, whole.c.tool_sequence)),
            )
        ).label("pattern_key"),
    ).select_from(whole.outerjoin(table_of(s), and_(s.user_id == whole.c.user_id, s.session_id == whole.c.session_id)))


def outcome(session: Any, by_calls: ColumnElement[int]) -> ColumnElement[int]:
    """Return 1 for success, 0 for failure: by review, else as recorded, else by the calls."""
    yes, no = constant_text("Y"), constant_text("N")
    return case(
        (session.reviewed == yes, constant(1)),
        (session.reviewed == no, constant(0)),
        (session.succeeded == yes, constant(1)),
        (session.succeeded == no, constant(0)),
        else_=by_calls,
    )


def _joined(*parts: ColumnElement[Any]) -> ColumnElement[str]:
    text: ColumnElement[str] = parts[0]
    for part in parts[1:]:
        text = text.concat(literal_column("'#'", String())).concat(part)
    return text


EXECUTION: Final = [
    m.AgentExecution.user_id,
    m.AgentExecution.session_id,
    m.AgentExecution.agent_id,
    m.AgentExecution.category,
    m.AgentExecution.succeeded,
    m.AgentExecution.calls,
    m.AgentExecution.first_day,
    m.AgentExecution.last_day,
    m.AgentExecution.seconds,
    m.AgentExecution.process_pattern,
    m.AgentExecution.tool_sequence,
    m.AgentExecution.pattern_key,
]


# -- rollups ----------------------------------------------------------------------------------------------------------


def _undated(day: ColumnElement[date]) -> ColumnElement[date]:
    return func.coalesce(day, constant_day(m.UNDATED), type_=Date())


def dated(day: Any) -> ColumnElement[date]:
    """Return a day of the daily rollup; NULL where no time is known."""
    return func.nullif(day, constant_day(m.UNDATED), type_=Date())


def daily(source: Any, sign: ColumnElement[int]) -> Rows:
    """Count executions and successes per agent and day."""
    day = _undated(source.last_day)
    return rows_of(
        source.agent_id,
        day.label("day"),
        cast(func.sum(sign), BigInteger).label("executions"),
        cast(func.sum(sign * source.succeeded), BigInteger).label("successes"),
    ).group_by(source.agent_id, day)


def tool_counts(*, touched: bool = False) -> Rows:
    """Count calls, errors and tokens per agent, tool and the tool's name."""
    c = calls(touched=touched).subquery("c")
    name = func.coalesce(c.c.tool_name, literal_column("''"), type_=String())

    def total(value: ColumnElement[Any]) -> ColumnElement[int]:
        return cast(func.sum(func.coalesce(value, constant(0))), BigInteger)

    return rows_of(
        c.c.agent_id,
        c.c.tool_id,
        name.label("name"),
        func.count().label("calls"),
        total(1 - c.c.ok).label("errors"),
        total(c.c.input_tokens).label("inputs"),
        total(c.c.output_tokens).label("outputs"),
    ).group_by(c.c.agent_id, c.c.tool_id, name)


def counts_of(model: Any) -> list[Any]:
    """Return the columns of a rollup of tools."""
    return [model.agent_id, model.tool_id, model.tool_name, *amounts_of(model)]


def amounts_of(model: Any) -> list[Any]:
    """Return its columns that add up."""
    return [model.calls, model.errors, model.input_tokens, model.output_tokens]


# -- patterns ---------------------------------------------------------------------------------------------------------

PATTERN: Final = (
    "user_id",
    "category",
    "agent_id",
    "process_pattern",
    "tool_sequence",
    "pattern_key",
    "executions",
    "successes",
    "seconds",
    "first_day",
    "last_day",
)


def patterns_of(*, touched: bool = False) -> Rows:
    """Group executions by their pattern; with ``touched``, only patterns that a touched execution has or had."""
    e = m.AgentExecution
    rows = rows_of(
        func.min(e.user_id).label("user_id"),
        func.min(e.category).label("category"),
        func.min(e.agent_id).label("agent_id"),
        func.min(e.process_pattern).label("process_pattern"),
        func.min(e.tool_sequence).label("tool_sequence"),
        e.pattern_key.label("pattern_key"),
        func.count().label("executions"),
        cast(func.sum(e.succeeded), BigInteger).label("successes"),
        func.avg(e.seconds, type_=Double()).label("seconds"),
        func.min(e.first_day).label("first_day"),
        func.max(e.last_day).label("last_day"),
    ).group_by(e.pattern_key)
    if not touched:
        return rows
    return rows.where(e.pattern_key.in_(rows_of(m.WorkExecution.pattern_key)))


def patterns_kept() -> Rows:
    """Select the touched users' other patterns as they are stored."""
    p = m.UserProcessPattern
    return rows_of(*(getattr(p, name).label(name) for name in PATTERN)).where(
        p.user_id.in_(rows_of(m.WorkUser.user_id)), p.pattern_key.not_in(rows_of(m.WorkExecution.pattern_key))
    )


def scored_patterns(rows: Rows | CompoundSelect[Any], as_of: ColumnElement[date]) -> Executable:
    """Put patterns into the work table, with their scores as of their user's own newest day."""
    p = rows.subquery("p")
    oldest = func.min(p.c.last_day).over(partition_by=p.c.user_id)
    newest_day = func.max(p.c.last_day).over(partition_by=p.c.user_id)
    q = rows_of(*p.c, func.coalesce(p.c.last_day, oldest).label("decay_day"), newest_day.label("newest")).subquery("q")
    own_day = func.least(q.c.newest, as_of, type_=Date())
    value = score.pattern_score_expression(q.c.executions, q.c.successes, last=q.c.decay_day, as_of=own_day)
    columns = [getattr(m.WorkPattern, name) for name in PATTERN]
    return insert(m.WorkPattern).from_select(
        [*columns, m.WorkPattern.decay_day, m.WorkPattern.pattern_score],
        rows_of(*(q.c[name] for name in PATTERN), q.c.decay_day, value),
    )


def recommended_patterns() -> Executable:
    """Put the work table's patterns into the table, each user's best recommended."""
    w = m.WorkPattern
    best = (
        rows_of(
            w.user_id,
            func.percentile_cont(literal_column(str(score.PERCENTILE)))
            .within_group(w.pattern_score)
            .label("threshold"),
        )
        .group_by(w.user_id)
        .subquery("best")
    )
    slack = cast(literal_column(repr(1.0 - score.TOLERANCE)), Double)
    good = and_(w.successes > 0, w.pattern_score >= best.c.threshold * slack)
    names = [*PATTERN, "decay_day", "pattern_score"]
    flag = case((good, literal_column("TRUE")), else_=literal_column("FALSE"))
    return insert(m.UserProcessPattern).from_select(
        [*(getattr(m.UserProcessPattern, name) for name in names), m.UserProcessPattern.recommended],
        rows_of(*(getattr(w, name) for name in names), flag).join(best, best.c.user_id == w.user_id),
    )
