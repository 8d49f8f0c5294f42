"""Select executions, rollups and patterns from tool calls; both kinds of refresh use these selects."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from sqlalchemy import (
    CTE,
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
)

from agentmodel._values.outcomes import OUTCOME_SOURCES
from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._base_tables_sql import table_of
from agentmodel.redshift._constructs import (
    TIME,
    ListAgg,
    Matches,
    Ratio,
    Rows,
    constant,
    constant_day,
    constant_text,
    total,
)
from agentmodel.redshift._requests_sql import first_prompts, of_affected_sessions, same_request, typed_category
from agentmodel.redshift._staging_sql import counted_calls
from agentmodel.redshift.models import rows_of

__all__ = [
    "EXECUTION", "PATTERN", "best_of_session", "calls", "count_columns", "daily_counts", "executed_patterns",
    "executions",
    "insert_recommended_patterns", "insert_scored_patterns", "outcome", "reported",
    "rollup_columns", "steps_of_sessions", "tool_counts", "unchanged_patterns",
]  # fmt: skip

MAX_STEPS: Final = 200
"""The most steps in the sequences of an execution, `STEP_CHARACTERS` of each: LISTAGG over 65,535 bytes fails."""

STEP_CHARACTERS: Final = 80

NO_NUMBER: Final = 2**62  # sorts a call without a number after those that have one
NO_TIME: Final = "99999999999999999999"  # sorts a call without a time after those that have one


# -- calls and executions ---------------------------------------------------------------------------------------------


def calls(*, affected: bool = False, cached: bool = False) -> Rows:
    """Select the calls that count; with ``affected``, only those of the affected sessions. See `counted_calls`."""
    h = m.UserToolMappingHist
    rows = counted_calls(h, cached=cached)
    return of_affected_sessions(rows, h.user_id, h.session_id) if affected else rows


def steps_of_sessions(*, affected: bool = False) -> Subquery:
    """Select one row for each tool used in a process; of several attempts the last one that counts is the outcome."""
    c = calls(affected=affected, cached=True).subquery("c")
    key = [c.c.user_id, c.c.session_id, c.c.agent_id, c.c.process_id, c.c.tool_id]
    # the greatest 2 * attempt + ok belongs to the last attempt, and its lowest bit is the outcome
    last = func.max(c.c.attempt * 2 + c.c.ok, type_=Integer())
    step = (
        rows_of(
            *key,
            func.mod(last, constant(2), type_=Integer()).label("ok"),
            func.coalesce(
                func.max(func.nullif(c.c.tool_name, literal_column("''"))), c.c.tool_id, type_=String()
            ).label("label"),
            func.min(func.coalesce(c.c.call_number, constant(NO_NUMBER))).label("number"),
            func.min(func.coalesce(c.c.clock, constant_text(NO_TIME))).label("clock"),
            func.min(c.c.day).label("first_day"),
            func.max(c.c.day).label("last_day"),
            func.max(c.c.clock, type_=String()).label("last_time"),
            func.max(
                func.coalesce(c.c.clock, constant_text("0" * 20), type_=String()).concat(c.c.revision), type_=String()
            ).label("version"),
            func.count(c.c.ok).label("calls"),
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


def reported(*, affected: bool = False) -> CTE:
    """Select for each session, and for each of its agents, the most trusted outcome from outside.

    ``agent_id`` is '' for the whole session. The greatest ``best`` is that of the most trusted source; it has its rank,
    whether it is about one agent, its time, and last whether the run failed. The same in plain Python:
    `agentmodel._values.outcomes`.
    """
    o = m.SessionOutcome
    best = func.max(_trust(o), type_=String()).label("best")
    rows = rows_of(o.user_id, o.session_id, _about_agent(o).label("agent_id"), best).where(*_says(o))
    rows = of_affected_sessions(rows, o.user_id, o.session_id) if affected else rows
    return rows.group_by(o.user_id, o.session_id, _about_agent(o)).cte("reported")


def best_of_session(session: Any) -> ColumnElement[str]:
    """Return the most trusted outcome from outside of a whole session, as `reported` has it, for a few sessions."""
    o = m.SessionOutcome
    whole = _about_agent(o) == constant_text("")
    same = [o.user_id == session.user_id, o.session_id == session.session_id]
    best: Any = rows_of(func.max(_trust(o), type_=String())).where(*_says(o), whole, *same)
    return func.coalesce(best.correlate(session).scalar_subquery(), literal_column("''"), type_=String())


def _about_agent(said: Any) -> ColumnElement[str]:
    return func.coalesce(said.agent_id, literal_column("''"), type_=String())


def _says(said: Any) -> list[ColumnElement[bool]]:
    sources = [constant_text(each) for each in OUTCOME_SOURCES]
    return [said.source.in_(sources), said.succeeded.in_([constant_text("Y"), constant_text("N")])]


def _trust(said: Any) -> ColumnElement[str]:
    ranks = [
        (said.source == constant_text(source), constant_text(str(len(OUTCOME_SOURCES) - place)))
        for place, source in enumerate(OUTCOME_SOURCES)
    ]
    time = func.rpad(said.time, constant(20), literal_column("'0'"), type_=String())
    parts = (
        case(*ranks, else_=constant_text("0")),
        case((_about_agent(said) == constant_text(""), constant_text("0")), else_=constant_text("1")),
        case((Matches(said.time, TIME), time), else_=constant_text("0" * 20)),
        case((said.succeeded == constant_text("N"), constant_text("1")), else_=constant_text("0")),
    )
    text: ColumnElement[str] = parts[0]
    for part in parts[1:]:
        text = text.concat(part)
    return text


def executions(*, affected: bool = False) -> Rows:
    """Select one row per user, session and agent that made a call that counts, with outcome, days and sequences."""
    step = steps_of_sessions(affected=affected)
    is_listed = step.c.place <= constant(MAX_STEPS)
    process = case((is_listed, func.left(step.c.process_id, constant(STEP_CHARACTERS))))
    tool = case((is_listed, func.left(step.c.label, constant(STEP_CHARACTERS))))
    key = [step.c.user_id, step.c.session_id, step.c.agent_id]
    execution = (
        rows_of(
            *key,
            func.min(step.c.ok).label("ok"),
            cast(func.least(total(step.c.calls), constant(2**31 - 1)), Integer).label("calls"),
            func.min(step.c.first_day).label("first_day"),
            func.max(step.c.last_day).label("last_day"),
            func.max(step.c.last_time, type_=String()).label("last_time"),
            func.max(step.c.version, type_=String()).label("version"),
            Ratio(func.sum(step.c.milliseconds, type_=Double()), constant(1000)).label("seconds"),
            ListAgg(process, "->", order_by=[step.c.place]).label("process_pattern"),
            ListAgg(tool, "->", order_by=[step.c.place]).label("tool_sequence"),
        )
        .group_by(*key)
        .having(func.min(step.c.ok).is_not(None))
        .subquery("whole")
    )
    s, d, opening = m.UserSessionRow, m.DerivedCategory, first_prompts(affected=affected)
    said = reported(affected=affected)
    of_all, of_agent = said.alias("of_all"), said.alias("of_agent")
    best = _greater(of_all.c.best, of_agent.c.best)
    category = func.coalesce(typed_category(s), d.category, literal_column("''"), type_=String())
    return rows_of(
        *(execution.c[name] for name in ("user_id", "session_id", "agent_id")),
        category.label("category"),
        outcome(s, execution.c.ok, best).label("success"),
        *(
            execution.c[name]
            for name in ("calls", "first_day", "last_day", "seconds", "process_pattern", "tool_sequence")
        ),
        func.md5(
            _joined(
                execution.c.user_id,
                execution.c.agent_id,
                *(func.md5(text) for text in (category, execution.c.process_pattern, execution.c.tool_sequence)),
            )
        ).label("pattern_key"),
        # that of the last call: the greatest of texts that begin with the time
        func.coalesce(
            func.left(
                func.right(execution.c.version, func.length(execution.c.version) - constant(20)), constant(m.NAME)
            ),
            literal_column("''"),
            type_=String(),
        ).label("revision"),
        execution.c.last_time,
    ).select_from(
        execution.outerjoin(table_of(s), and_(s.user_id == execution.c.user_id, s.session_id == execution.c.session_id))
        .outerjoin(opening, and_(opening.c.user_id == s.user_id, opening.c.session_id == s.session_id))
        .outerjoin(table_of(d), same_request(d, s, opening))
        .outerjoin(of_all, _about(of_all, execution, constant_text("")))
        .outerjoin(of_agent, _about(of_agent, execution, execution.c.agent_id))
    )


def _about(said: Any, execution: Any, agent: ColumnElement[str]) -> ColumnElement[bool]:
    same = [said.c[name] == execution.c[name] for name in ("user_id", "session_id")]
    return and_(*same, said.c.agent_id == agent)


def _greater(*texts: ColumnElement[str]) -> ColumnElement[str]:
    known: list[ColumnElement[str]] = [func.coalesce(text, literal_column("''"), type_=String()) for text in texts]
    return func.greatest(*known, type_=String())


def outcome(session: Any, by_calls: ColumnElement[int], best: ColumnElement[str]) -> ColumnElement[int]:
    """Return 1 for success, 0 for failure: as reviewed, as reported, as recorded, else by the outcome of the calls.

    Args:
        session: The session.
        by_calls: The outcome of the calls.
        best: The most trusted outcome from outside, as `reported` has it.
    """
    yes, no = constant_text("Y"), constant_text("N")
    failed = func.right(best, constant(1), type_=String())
    return case(
        (session.reviewed == yes, constant(1)),
        (session.reviewed == no, constant(0)),
        (failed == constant_text("0"), constant(1)),
        (failed == constant_text("1"), constant(0)),
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
    m.AgentExecution.revision,
    m.AgentExecution.last_time,
]


# -- rollups ----------------------------------------------------------------------------------------------------------


def _day_or_undated(day: ColumnElement[date]) -> ColumnElement[date]:
    return func.coalesce(day, constant_day(m.UNDATED), type_=Date())


def daily_counts(source: Any, sign: ColumnElement[int]) -> Rows:
    """Count executions and successes per agent, category, revision and day."""
    day = _day_or_undated(source.last_day)
    revision = func.coalesce(source.revision, literal_column("''"), type_=String())
    return rows_of(
        source.agent_id,
        source.category,
        revision.label("revision"),
        day.label("day"),
        total(sign).label("executions"),
        total(sign * source.succeeded).label("successes"),
    ).group_by(source.agent_id, source.category, revision, day)


def tool_counts(*, affected: bool = False) -> Rows:
    """Count calls, errors and tokens per agent, tool and the tool's name."""
    c = calls(affected=affected).subquery("c")
    name = func.coalesce(c.c.tool_name, literal_column("''"), type_=String())

    return rows_of(
        c.c.agent_id,
        c.c.tool_id,
        name.label("name"),
        func.count().label("calls"),
        total(1 - c.c.ok).label("errors"),
        total(func.coalesce(c.c.input_tokens, constant(0))).label("inputs"),
        total(func.coalesce(c.c.output_tokens, constant(0))).label("outputs"),
    ).group_by(c.c.agent_id, c.c.tool_id, name)


def rollup_columns(model: Any) -> list[Any]:
    """Return the columns of a rollup of tools: its key, then its counts."""
    return [model.agent_id, model.tool_id, model.tool_name, *count_columns(model)]


def count_columns(model: Any) -> list[Any]:
    """Return the columns of a rollup of tools that hold counts."""
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


def executed_patterns(*, affected: bool = False) -> Rows:
    """Group executions by pattern; with ``affected``, only those patterns that an affected execution has or had."""
    e = m.AgentExecution
    rows = rows_of(
        func.min(e.user_id).label("user_id"),
        func.min(e.category).label("category"),
        func.min(e.agent_id).label("agent_id"),
        func.min(e.process_pattern).label("process_pattern"),
        func.min(e.tool_sequence).label("tool_sequence"),
        e.pattern_key.label("pattern_key"),
        func.count().label("executions"),
        total(e.succeeded).label("successes"),
        func.avg(e.seconds, type_=Double()).label("seconds"),
        func.min(e.first_day).label("first_day"),
        func.max(e.last_day).label("last_day"),
    ).group_by(e.pattern_key)
    if not affected:
        return rows
    return rows.where(e.pattern_key.in_(rows_of(m.WorkExecution.pattern_key)))


def unchanged_patterns() -> Rows:
    """Select the other patterns of the affected users, as they are stored."""
    p = m.UserProcessPattern
    return rows_of(*(getattr(p, name).label(name) for name in PATTERN)).where(
        p.user_id.in_(rows_of(m.WorkUser.user_id)), p.pattern_key.not_in(rows_of(m.WorkExecution.pattern_key))
    )


def insert_scored_patterns(rows: Rows | CompoundSelect[Any], as_of: ColumnElement[date]) -> Executable:
    """Insert patterns into the work table, with their scores as of their user's own newest day."""
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


def insert_recommended_patterns() -> Executable:
    """Insert the patterns of the work table into their table, and mark the best of each user and category.

    Over all of a user's categories, the busiest one would take the plans from the others.
    """
    w = m.WorkPattern
    best = (
        rows_of(
            w.user_id,
            w.category,
            func.percentile_cont(literal_column(str(score.PERCENTILE)))
            .within_group(w.pattern_score)
            .label("threshold"),
        )
        .group_by(w.user_id, w.category)
        .subquery("best")
    )
    slack = cast(literal_column(repr(1.0 - score.TOLERANCE)), Double)
    good = and_(w.successes > 0, w.pattern_score >= best.c.threshold * slack)
    names = [*PATTERN, "decay_day", "pattern_score"]
    flag = case((good, literal_column("TRUE")), else_=literal_column("FALSE"))
    return insert(m.UserProcessPattern).from_select(
        [*(getattr(m.UserProcessPattern, name) for name in names), m.UserProcessPattern.recommended],
        rows_of(*(getattr(w, name) for name in names), flag).join(
            best, and_(best.c.user_id == w.user_id, best.c.category == w.category)
        ),
    )
