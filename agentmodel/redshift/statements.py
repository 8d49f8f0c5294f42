"""Every statement of a refresh, in order, each with its name and its sentence.

A row's way: landed item → base tables → calls that count → `agent_execution` (one row per user, session and agent)
→ rollups and patterns → scores. A full build reads what landed straight into the base tables; an incremental one reads
the changes since the watermark, takes the touched sessions' old counts off and puts their new ones on. Both are made of
the same selects, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Date,
    Double,
    Executable,
    FromClause,
    Integer,
    String,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    extract,
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
from agentmodel.redshift.dialects import (
    ListAgg,
    Matches,
    Merge,
    Ratio,
    Rows,
    SuperText,
    day_of,
    key_part,
    number_of,
    rows_of,
    super_number,
    time_of,
)

__all__ = ["Step", "Terms", "agent_scores", "calls", "full_refresh", "incremental_refresh", "staging"]

FIRST: Final = 2**62  # a call without a number comes after those that have one
LATE: Final = "99999999999999999999"  # a call without a time comes after those that have one


@dataclass(frozen=True)
class Step:
    """One statement of a refresh."""

    name: str
    sentence: str
    statement: Executable


@dataclass(frozen=True)
class Terms:
    """What a refresh is told: the landed table, the day to score for, and how evidence fades.

    Attributes:
        landed: The table of `agentmodel.redshift.models.landed_table`.
        as_of: The day scores are computed for.
        since: Versions made or deleted after this time are read; unset reads all.
        seen_as_of: ``as_of`` of the refresh before.
        half_life: Days after which an execution weighs half as evidence.
    """

    landed: Table
    as_of: ColumnElement[date]
    half_life: ColumnElement[float]
    since: ColumnElement[datetime] | None = None
    seen_as_of: ColumnElement[date] | None = None

    @property
    def history(self) -> bool:
        """Whether the landed table has zero-ETL's history columns."""
        return m.CREATED in self.landed.c


def _text(value: str) -> ColumnElement[str]:
    # CAST: a bare literal in a subquery has no type on Redshift
    quoted = value.replace("'", "''")
    return cast(literal_column(f"'{quoted}'"), String(max(1, len(value))))


def _whole(value: int) -> ColumnElement[int]:
    return literal_column(str(value), BigInteger if abs(value) > 2**31 else Integer)


ITEM: Final = ("PK", "SK", "value", "kind", "present", "loaded_at")


# -- what landed ------------------------------------------------------------------------------------------------------


def newest(terms: Terms) -> Rows | CompoundSelect[Any]:
    """Select the newest version of each landed item that changed since the watermark, and whether it counts.

    An item that DynamoDB's TTL deleted still counts; one that a person deleted does not. Which of the two it was, its
    own ``ExpiresAt`` tells: a TTL deletion never comes before it.
    """
    row = terms.landed.alias("landed")
    if not terms.history:
        return rows_of(*_item(row), _whole(1).label("present"), cast(null(), TIMESTAMP).label("loaded_at"))
    created, deleted = row.c[m.CREATED], row.c[m.DELETED]
    expires = super_number(row.c.value, "ExpiresAt", Double())
    expired = and_(expires.is_not(None), expires <= extract("epoch", deleted))
    present = case((or_(row.c[m.ACTIVE], expired), _whole(1)), else_=_whole(0)).label("present")
    if terms.since is None:
        return _newest_of_all(row, terms.landed, present)
    columns = [*_item(row), present, created.label("loaded_at"), row.c[m.ACTIVE].label("active"), deleted.label("gone")]
    recent = union_all(  # two branches: one OR is several times slower
        rows_of(*columns).where(created > terms.since),
        rows_of(*columns).where(created <= terms.since, deleted > terms.since),
    ).subquery("recent")
    place = func.row_number().over(
        partition_by=[recent.c.PK, recent.c.SK],
        order_by=[
            case((recent.c.active, 0), else_=1),
            recent.c.loaded_at.desc(),
            func.coalesce(recent.c.gone, recent.c.loaded_at).desc(),
        ],
    )
    ranked = rows_of(*recent.c, place.label("place")).subquery("ranked")
    return rows_of(*(ranked.c[name] for name in ITEM)).where(ranked.c.place == 1)


def _newest_of_all(row: FromClause, landed: Table, present: ColumnElement[int]) -> Rows | CompoundSelect[Any]:
    """Read active items as they are; only the few deleted ones are searched for their newest version."""
    created, deleted = row.c[m.CREATED], row.c[m.DELETED]
    living = landed.alias("living")
    active = rows_of(*_item(row), present, created.label("loaded_at")).where(row.c[m.ACTIVE])
    place = func.row_number().over(
        partition_by=[row.c.PK, row.c.SK], order_by=[created.desc(), func.coalesce(deleted, created).desc()]
    )
    again = exists().where(living.c.PK == row.c.PK, living.c.SK == row.c.SK, living.c[m.ACTIVE])
    gone = (
        rows_of(*_item(row), present, created.label("loaded_at"), place.label("place"))
        .where(~row.c[m.ACTIVE], ~again)
        .subquery("gone")
    )
    return union_all(active, rows_of(*(gone.c[name] for name in ITEM)).where(gone.c.place == 1))


def _item(row: FromClause) -> list[ColumnElement[Any]]:
    kind = SuperText(row.c.value, "EntityType", "S").label("kind")
    return [row.c.PK, row.c.SK, row.c.value, kind]


# -- base tables ------------------------------------------------------------------------------------------------------

Attributes: TypeAlias = "dict[Any, Callable[[Any], ColumnElement[Any]]]"


@dataclass(frozen=True)
class _Entity:
    model: Any
    kind: str
    keys: Attributes
    rest: Attributes


def _s(name: str, *, width: Any = None) -> Callable[[Any], ColumnElement[Any]]:
    """Text attribute, cut to what the column holds: one long value must not fail a whole refresh."""

    def read(row: Any) -> ColumnElement[Any]:
        text: ColumnElement[str] = SuperText(row.value, name, "S")
        return text if width is None else func.left(text, _whole(width), type_=String())

    return read


def _n(name: str, type_: Any) -> Callable[[Any], ColumnElement[Any]]:
    return lambda row: super_number(row.value, name, type_)


def _attempt(row: Any) -> ColumnElement[int]:
    text = func.ltrim(key_part(row.SK, 4), literal_column("'ABCDEFGHIJ'"), type_=String())
    return func.coalesce(number_of(text, Integer()), _whole(1), type_=Integer())


LONG: Final = 16_383  # characters that fit the widest VARCHAR whatever their script
_NAME = {"width": m.NAME}
_PROSE = {"width": m.PROSE}
_FLAG = {"width": 1}
_TIME = {"width": 20}
_LONG = {"width": LONG}

ENTITIES: Final = (
    _Entity(
        m.Domain,
        "Domain",
        {m.Domain.domain_id: lambda row: row.PK},
        {m.Domain.name: _s("DomainNM", **_NAME), m.Domain.description: _s("Description", **_PROSE)},
    ),
    _Entity(
        m.Agent,
        "Agent",
        {m.Agent.agent_id: lambda row: row.PK},
        {
            m.Agent.domain_id: _s("GSI1_PK"),
            m.Agent.name: _s("AgentNM", **_NAME),
            m.Agent.score: _n("Score", Double()),
            m.Agent.description: _s("Description", **_PROSE),
        },
    ),
    _Entity(
        m.Tool,
        "Tool",
        {m.Tool.agent_id: lambda row: row.PK, m.Tool.tool_id: lambda row: row.SK},
        {
            m.Tool.domain_id: _s("GSI1_PK"),
            m.Tool.name: _s("ToolNM", **_NAME),
            m.Tool.spec: _s("ToolSpec", **_LONG),
            m.Tool.description: _s("Description", **_PROSE),
        },
    ),
    _Entity(
        m.UserInfo,
        "UserInfo",
        {m.UserInfo.user_id: lambda row: row.PK},
        {
            m.UserInfo.name: _s("UserNM", **_NAME),
            m.UserInfo.profile: _s("UserProfile", **_PROSE),
            m.UserInfo.last_login: _s("LastLoginDT", **_TIME),
            m.UserInfo.created: _s("CreationDT", **_TIME),
        },
    ),
    _Entity(
        m.UserSession,
        "UserSession",
        {m.UserSession.user_id: lambda row: row.PK, m.UserSession.session_id: lambda row: row.SK},
        {
            m.UserSession.name: _s("UserSessionNM", **_NAME),
            m.UserSession.summary: _s("SessionSummary", **_PROSE),
            m.UserSession.started: _s("SessionStartDT", **_TIME),
            m.UserSession.file: _s("DtlFileLoc", **_PROSE),
            m.UserSession.ended: _s("SessionEndDT", **_TIME),
            m.UserSession.succeeded: _s("SessionSuccYN", **_FLAG),
            m.UserSession.reviewed: _s("ReviewedSuccYN", **_FLAG),
            m.UserSession.category: _s("Category", **_NAME),
            m.UserSession.request: _s("UserRequest", **_LONG),
        },
    ),
    _Entity(
        m.UserSessionProcess,
        "UserSessionProcess",
        {
            m.UserSessionProcess.user_id: lambda row: key_part(row.PK, 1),
            m.UserSessionProcess.session_id: lambda row: key_part(row.PK, 2),
            m.UserSessionProcess.process_id: lambda row: row.SK,
        },
        {
            m.UserSessionProcess.prompt: _s("UserPrompt", **_LONG),
            m.UserSessionProcess.name: _s("ProcNM", **_NAME),
            m.UserSessionProcess.description: lambda row: func.left(
                func.coalesce(SuperText(row.value, "ProcessDesc", "S"), SuperText(row.value, "ProcDesc", "S")),
                _whole(m.PROSE),
            ),
            m.UserSessionProcess.time: _s("ProcDT", **_TIME),
        },
    ),
    _Entity(
        m.UserToolMappingHist,
        "UserSessPrcToolMappHist",
        {
            m.UserToolMappingHist.user_id: lambda row: key_part(row.PK, 1),
            m.UserToolMappingHist.session_id: lambda row: key_part(row.PK, 2),
            m.UserToolMappingHist.process_id: lambda row: key_part(row.SK, 1),
            m.UserToolMappingHist.agent_id: lambda row: key_part(row.SK, 2),
            m.UserToolMappingHist.tool_id: lambda row: key_part(row.SK, 3),
            m.UserToolMappingHist.attempt: _attempt,
        },
        {
            m.UserToolMappingHist.tool_name: _s("ToolNM", **_NAME),
            m.UserToolMappingHist.values: _s("ToolValues", **_LONG),
            m.UserToolMappingHist.time: _s("TransactDT", **_TIME),
            m.UserToolMappingHist.succeeded: _s("SuccYN", **_FLAG),
            m.UserToolMappingHist.result: _s("ResultMsg", **_LONG),
            m.UserToolMappingHist.call_number: _n("CallNo", BigInteger()),
            m.UserToolMappingHist.status: _s("Status", width=16),
            m.UserToolMappingHist.error_type: _s("ErrorType", **_NAME),
            m.UserToolMappingHist.duration_ms: _n("DurationMs", Double()),
            m.UserToolMappingHist.input_tokens: _n("InputTokens", BigInteger()),
            m.UserToolMappingHist.output_tokens: _n("OutputTokens", BigInteger()),
        },
    ),
)


def _load(entity: _Entity, source: FromClause) -> Executable:
    columns = {**entity.keys, **entity.rest}
    values = [read(source.c) for read in columns.values()]
    rows = rows_of(*values, source.c.loaded_at).where(source.c.kind == _text(entity.kind), source.c.present == 1)
    return insert(entity.model).from_select([*columns, entity.model.loaded_at], rows)


def _unload(entity: _Entity) -> Executable:
    change = _table(m.WorkChange).c
    same = [column == read(change) for column, read in entity.keys.items()]
    return delete(entity.model).where(*same, change.kind == _text(entity.kind))


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


# -- calls and executions ---------------------------------------------------------------------------------------------


def _in_work(rows: Rows, user: Any, session: Any) -> Rows:
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
        (status == _text("ok"), _whole(1)),
        (status == _text("error"), _whole(0)),
        (h.succeeded == _text("Y"), _whole(1)),
        else_=_whole(0),
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
        case((Matches(h.time, "^[0-9]{14,20}$"), func.rpad(h.time, _whole(20), literal_column("'0'")))).label("clock"),
        h.call_number,
        h.duration_ms,
        h.input_tokens,
        h.output_tokens,
        h.time,
        h.values,
        h.result,
    ).where(or_(status.is_(None), status.in_([_text("ok"), _text("error")])))
    return _in_work(rows, h.user_id, h.session_id) if touched else rows


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
    ).select_from(call.outerjoin(_table(m.Agent), m.Agent.agent_id == call.c.agent_id))


def steps_of_sessions(*, touched: bool = False) -> Subquery:
    """Select each tool's use in a process once, however often it was tried; the last attempt says how it went."""
    c = calls(touched=touched).subquery("c")
    key = [c.c.user_id, c.c.session_id, c.c.agent_id, c.c.process_id, c.c.tool_id]
    # the greatest of 2 * attempt + ok is the last attempt's, and its lowest bit is the outcome
    last = func.max(c.c.attempt * 2 + c.c.ok, type_=Integer())
    return (
        rows_of(
            *key,
            func.mod(last, _whole(2), type_=Integer()).label("ok"),
            func.coalesce(
                func.max(func.nullif(c.c.tool_name, literal_column("''"))), c.c.tool_id, type_=String()
            ).label("label"),
            func.min(func.coalesce(c.c.call_number, _whole(FIRST))).label("place"),
            func.min(func.coalesce(c.c.clock, _text(LATE))).label("clock"),
            func.min(c.c.day).label("first_day"),
            func.max(c.c.day).label("last_day"),
            func.count().label("calls"),
            func.sum(c.c.duration_ms, type_=Double()).label("milliseconds"),
        )
        .group_by(*key)
        .subquery("step")
    )


def executions(*, touched: bool = False) -> Rows:
    """Select one row per user, session and agent: outcome, days and sequences."""
    step = steps_of_sessions(touched=touched)
    order = [step.c.place, step.c.clock, step.c.process_id, step.c.tool_id]
    key = [step.c.user_id, step.c.session_id, step.c.agent_id]
    whole = (
        rows_of(
            *key,
            func.min(step.c.ok).label("ok"),
            cast(func.sum(step.c.calls), Integer).label("calls"),
            func.min(step.c.first_day).label("first_day"),
            func.max(step.c.last_day).label("last_day"),
            Ratio(func.sum(step.c.milliseconds, type_=Double()), _whole(1000)).label("seconds"),
            ListAgg(step.c.process_id, "->", order_by=order).label("process_pattern"),
            ListAgg(step.c.label, "->", order_by=order).label("tool_sequence"),
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
                whole.c.user_id, whole.c.agent_id, whole.c.process_pattern, func.md5(category), whole.c.tool_sequence
            )
        ).label("pattern_key"),
    ).select_from(whole.outerjoin(_table(s), and_(s.user_id == whole.c.user_id, s.session_id == whole.c.session_id)))


def outcome(session: Any, by_calls: ColumnElement[int]) -> ColumnElement[int]:
    """Return 1 for success, 0 for failure: by review, else as recorded, else by the calls."""
    yes, no = _text("Y"), _text("N")
    return case(
        (session.reviewed == yes, _whole(1)),
        (session.reviewed == no, _whole(0)),
        (session.succeeded == yes, _whole(1)),
        (session.succeeded == no, _whole(0)),
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
    return func.coalesce(day, cast(_text(m.UNDATED.isoformat()), Date), type_=Date())


def _dated(day: Any) -> ColumnElement[date]:
    return func.nullif(day, cast(_text(m.UNDATED.isoformat()), Date), type_=Date())


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
        return cast(func.sum(func.coalesce(value, _whole(0))), BigInteger)

    return rows_of(
        c.c.agent_id,
        c.c.tool_id,
        name.label("name"),
        func.count().label("calls"),
        total(1 - c.c.ok).label("errors"),
        total(c.c.input_tokens).label("inputs"),
        total(c.c.output_tokens).label("outputs"),
    ).group_by(c.c.agent_id, c.c.tool_id, name)


def _counts_of(model: Any) -> list[Any]:
    return [model.agent_id, model.tool_id, model.tool_name, *_amounts(model)]


def _amounts(model: Any) -> list[Any]:
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


def _scored_patterns(rows: Rows | CompoundSelect[Any], as_of: ColumnElement[date]) -> Executable:
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


def _recommended_patterns() -> Executable:
    w = m.WorkPattern
    best = (
        rows_of(
            w.user_id,
            func.percentile_cont(literal_column(str(score.PERCENTILE))).within_group(w.pattern_score).label("least"),
        )
        .group_by(w.user_id)
        .subquery("best")
    )
    slack = cast(literal_column(repr(1.0 - score.TOLERANCE)), Double)
    good = and_(w.successes > 0, w.pattern_score >= best.c.least * slack)
    names = [*PATTERN, "decay_day", "pattern_score"]
    flag = case((good, literal_column("TRUE")), else_=literal_column("FALSE"))
    return insert(m.UserProcessPattern).from_select(
        [*(getattr(m.UserProcessPattern, name) for name in names), m.UserProcessPattern.recommended],
        rows_of(*(getattr(w, name) for name in names), flag).join(best, best.c.user_id == w.user_id),
    )


# -- scores -----------------------------------------------------------------------------------------------------------


def agent_scores(as_of: ColumnElement[date], half_life: ColumnElement[float]) -> Rows:
    """Select every executed agent's counts, classic score and evidence as of a day, from the daily rollup.

    An agent whose executions carry no time counts as old as the oldest dated agent of its domain, so that it neither
    outlives the others nor fades alone; where no agent of the domain has a time, nothing fades.
    """
    d, a = m.AgentDaily, m.Agent
    day = _dated(d.day)
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
    named = func.coalesce(func.nullif(t.tool_name, literal_column("''")), tool.name, t.tool_id, type_=String())
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
    failed = case((per_tool.c.errors > 0, func.left(per_tool.c.tool, _whole(100))), else_=null())
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
    columns = [w.name, w.as_of]
    if not terms.history:
        return insert(w).from_select(columns, rows_of(_text("refresh"), terms.as_of))
    seen = func.max(func.greatest(terms.landed.c[m.CREATED], terms.landed.c[m.DELETED]))
    return insert(w).from_select([*columns, w.seen_until], rows_of(_text("refresh"), terms.as_of, seen))


# -- the two refreshes ------------------------------------------------------------------------------------------------


def _clear(models: Sequence[Any]) -> Iterator[Step]:
    for model in models:
        name = model.__tablename__
        yield Step(f"clear {name}", f"Empty {name}; DELETE, not TRUNCATE, which would commit.", delete(model))


def full_refresh(terms: Terms) -> Iterator[Step]:
    """Yield the statements of a build from everything that landed; needs history mode."""
    yield from _clear([entity.model for entity in ENTITIES])
    for entity in ENTITIES:
        name = entity.model.__tablename__
        source = newest(terms).subquery("item")
        yield Step(f"load {name}", f"Read the items of kind {entity.kind} into {name}.", _load(entity, source))
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
        insert(d).from_select([d.agent_id, d.day, d.executions, d.successes], daily(m.AgentExecution, _whole(1))),
    )
    yield Step(
        "roll up tools",
        "Calls, errors and tokens per agent and tool.",
        insert(m.AgentTool).from_select(_counts_of(m.AgentTool), tool_counts()),
    )
    yield from _clear([m.WorkPattern])
    yield Step(
        "score patterns", "Every user's patterns and their scores.", _scored_patterns(patterns_of(), terms.as_of)
    )
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
    columns = [w.pk, w.sk, w.value, w.kind, w.present, w.loaded_at]
    yield Step(
        "find changes", "The newest version of each item that changed.", insert(w).from_select(columns, newest(terms))
    )
    change = _table(w).c
    sessions = union(
        rows_of(key_part(change.PK, 1), key_part(change.PK, 2)).where(change.kind == _text("UserSessPrcToolMappHist")),
        rows_of(change.PK, change.SK).where(change.kind == _text("UserSession")),
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
        yield Step(f"unload {name}", f"Take the changed rows out of {name}.", _unload(entity))
        load = _load(entity, _table(w))
        yield Step(f"load {name}", f"Put them into {name} as they are now, unless they were erased.", load)


def _count_calls(sign: int) -> Executable:
    rows = tool_counts(touched=True).subquery("counted")
    amounts = [rows.c[name] * _whole(sign) for name in ("calls", "errors", "inputs", "outputs")]
    return insert(m.WorkCall).from_select(
        [*_counts_of(m.WorkCall), m.WorkCall.change],
        rows_of(rows.c.agent_id, rows.c.tool_id, rows.c.name, *amounts, _whole(sign)),
    )


def _keep_executions(sign: int) -> Executable:
    w, e = m.WorkExecution, m.AgentExecution
    rows = rows_of(e.user_id, e.session_id, e.agent_id, _whole(sign), e.succeeded, e.last_day, e.pattern_key)
    columns = [w.user_id, w.session_id, w.agent_id, w.change, w.succeeded, w.last_day, w.pattern_key]
    return insert(w).from_select(columns, _in_work(rows, e.user_id, e.session_id))


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
    rows = daily(m.WorkExecution, _table(m.WorkExecution).c.change).subquery("changed")
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
    sums = [cast(func.sum(column), BigInteger).label(f"n{place}") for place, column in enumerate(_amounts(call))]
    keys = [call.agent_id, call.tool_id, call.tool_name]
    total = rows_of(*keys, *sums).group_by(*keys).subquery("total")
    counts = [total.c[column.key] for column in sums]
    yield Step(
        "count tools",
        "What changed per agent and tool: new less old.",
        insert(tool).from_select(_counts_of(tool), rows_of(*total.c).where(or_(*(count != 0 for count in counts)))),
    )
    names = ("calls", "errors", "inputtokens", "outputtokens")
    yield Step(
        "merge tools", "Add it to the rollup of tools.", _add(m.AgentTool, tool, ("agentid", "toolid", "toolnm"), names)
    )
    yield Step(
        "drop unused tools", "A tool without calls is no row.", delete(m.AgentTool).where(m.AgentTool.calls == 0)
    )


def _add(target: Any, source: Any, on: Sequence[str], amounts: Sequence[str]) -> Merge:
    to, of = _table(target), _table(source)
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
    yield Step("score patterns", "Those users' patterns and their scores.", _scored_patterns(rows, terms.as_of))
    yield Step("drop patterns", "Take those users' patterns out.", delete(p).where(p.user_id == w.user_id))


def _finish(terms: Terms) -> Iterator[Step]:
    yield Step(
        "recommend patterns",
        "Put the patterns in; from the 80th percentile of their user up they are recommended.",
        _recommended_patterns(),
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
