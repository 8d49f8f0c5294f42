"""What the warehouse learnt, as typed rows.

Scores are computed for the day asked for, from counts that hold no clock; the order of a list is that of the clock-free
weight, so it is the same tomorrow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, func, literal_column

from agentmodel.exceptions import ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift import score, statements
from agentmodel.redshift.dialects import ListAgg, Ratio, rows_of
from agentmodel.redshift.pipeline import Warehouse, day_of

__all__ = [
    "AgentScore",
    "DayExecutions",
    "Pattern",
    "PatternStep",
    "SessionRequest",
    "ToolErrors",
    "ToolFailures",
    "ToolTokens",
    "agent_ranking",
    "executions_per_day",
    "recommended_patterns",
    "session_requests",
    "tokens_per_tool",
    "tool_errors",
    "tool_failures",
]


@dataclass(frozen=True)
class AgentScore:
    """An agent's place among the agents of its domain.

    Attributes:
        domain_id: Domain the agent works in.
        agent_id: The agent.
        agent_name: Its name.
        executions: Sessions of users it took part in.
        successes: Those that succeeded.
        failures: Those that did not.
        success_rate: ``successes / executions``.
        last_execution: Day of its last call; None where no call carries a time.
        days_since: Calendar days since then, at least 0.
        decay: ``exp(-0.1 * days)``; an agent without a time counts as old as the oldest of its domain.
        score: The classic score.
        evidence: Mean of its success rate, after evidence.
        evidence_low: Lower bound of the central 90 % interval.
        evidence_high: Upper bound.
        rank: Place in its domain, from 1; equals share a place.
    """

    domain_id: str
    agent_id: str
    agent_name: str
    executions: int
    successes: int
    failures: int
    success_rate: float
    last_execution: date | None
    days_since: int | None
    decay: float
    score: float
    evidence: float
    evidence_low: float
    evidence_high: float
    rank: int


@dataclass(frozen=True)
class PatternStep:
    """A step of a pattern: one tool in one process.

    Attributes:
        process_id: The process.
        process_name: Its name, where one was given.
        agent_id: The agent.
        tool_id: The tool.
        tool_name: Its name.
        calls: Calls made for it over all executions of the pattern; every attempt is one.
        successes: Calls that succeeded.
    """

    process_id: str
    process_name: str
    agent_id: str
    tool_id: str
    tool_name: str
    calls: int
    successes: int


@dataclass(frozen=True)
class Pattern:
    """A sequence of tools that a user's sessions took.

    Attributes:
        user_id: The user.
        category: Category of the sessions; '' where they have none.
        agent_id: The agent.
        process_pattern: Processes in order, joined by ``->``.
        tool_sequence: Tool names in order, joined by ``->``.
        executions: Sessions that took it.
        successes: Those that succeeded.
        success_rate: ``successes / executions``.
        score: The pattern's score as of the day asked for.
        first_used: First day; None where no call carries a time.
        last_used: Last day.
        recommended: Whether it is among its user's best.
        steps: Its steps in order.
    """

    user_id: str
    category: str
    agent_id: str
    process_pattern: str
    tool_sequence: str
    executions: int
    successes: int
    success_rate: float
    score: float
    first_used: date | None
    last_used: date | None
    recommended: bool
    steps: tuple[PatternStep, ...]


@dataclass(frozen=True)
class ToolErrors:
    """An agent's tool errors, as the sample reports them: every attempt is an execution of a tool."""

    agent_id: str
    agent_name: str
    errors: int
    executions: int
    error_rate: float
    failed_tools: tuple[str, ...]


@dataclass(frozen=True)
class ToolFailures:
    """Calls and errors of one tool of an agent; ``last_error_at`` is a time of the table, 14 to 20 digits."""

    domain_id: str
    agent_id: str
    agent_name: str
    tool_id: str
    tool_name: str
    calls: int
    errors: int
    error_rate: float
    last_error_at: str | None
    last_message: str | None


@dataclass(frozen=True)
class SessionRequest:
    """What a session was asked for, and whether it succeeded (None: nothing says so)."""

    user_id: str
    session_id: str
    category: str
    request: str
    outcome: bool | None
    agent_ids: tuple[str, ...]


@dataclass(frozen=True)
class DayExecutions:
    """Executions of an agent on a day; ``day`` is None for those without a time."""

    agent_id: str
    day: date | None
    executions: int
    successes: int


@dataclass(frozen=True)
class ToolTokens:
    """Tokens that the messages calling a tool took."""

    agent_id: str
    tool_id: str
    tool_name: str
    calls: int
    input_tokens: int
    output_tokens: int


def agent_ranking(
    warehouse: Warehouse,
    *,
    as_of: date,
    domain_id: str | None = None,
    ranking: Literal["classic", "evidence"] = "classic",
) -> list[AgentScore]:
    """Return the agents that executed anything, best first within each domain.

    Args:
        warehouse: A refreshed warehouse.
        as_of: The day to score for; of an aware datetime, its day in UTC.
        domain_id: Only this domain.
        ranking: What ``rank`` goes by: the classic score, or the mean of the evidence.

    Raises:
        ValidationError: ``ranking`` is unknown.
    """
    if ranking not in ("classic", "evidence"):
        raise ValidationError("ranking", ranking, "give classic or evidence")
    s = statements.agent_scores(score.day(day_of(as_of)), score.half_life(warehouse.half_life_days)).subquery("s")
    by = s.c.evidence if ranking == "evidence" else s.c.weight
    rank = func.rank().over(partition_by=s.c.domain_id, order_by=by.desc()).label("rank")
    shown = [column for column in s.c if column.name not in ("decay_day", "weight")]
    rows = rows_of(*shown, rank).order_by(s.c.domain_id, rank, s.c.agent_id)
    if domain_id is not None:
        rows = rows.where(s.c.domain_id == domain_id)
    return [AgentScore(*row) for row in warehouse.read(rows)]


def recommended_patterns(
    warehouse: Warehouse, *, as_of: date, user_id: str | None = None, recommended_only: bool = True
) -> list[Pattern]:
    """Return patterns of users with their steps, each user's best first.

    Args:
        warehouse: A refreshed warehouse.
        as_of: The day to score for.
        user_id: Only this user.
        recommended_only: Only patterns that are recommended.
    """
    p = m.UserProcessPattern
    rate = Ratio(p.successes, p.executions)
    value = p.score(day_of(as_of))
    columns = (
        p.user_id, p.category, p.agent_id, p.process_pattern, p.tool_sequence, p.executions, p.successes, rate, value,
        p.first_day, p.last_day, p.recommended,
    )  # fmt: skip
    condition = _chosen(user_id, recommended_only)
    rows = rows_of(p.pattern_key, *columns).where(*condition).order_by(p.user_id, p.pattern_score.desc(), p.pattern_key)
    steps = _steps(warehouse, condition)
    return [Pattern(*[*row, tuple(steps[key])]) for key, *row in warehouse.read(rows)]


def _chosen(user_id: str | None, recommended_only: bool) -> list[ColumnElement[bool]]:
    p = m.UserProcessPattern
    conditions: list[ColumnElement[bool]] = []
    if user_id is not None:
        conditions.append(p.user_id == user_id)
    if recommended_only:
        conditions.append(p.recommended.is_(True))
    return conditions


def _steps(warehouse: Warehouse, condition: Sequence[ColumnElement[bool]]) -> dict[str, list[PatternStep]]:
    e, p, process = m.AgentExecution, m.UserProcessPattern, m.UserSessionProcess
    c = statements.calls().subquery("c")
    use = statements.steps_of_sessions()
    place = func.row_number().over(
        partition_by=[use.c.user_id, use.c.session_id, use.c.agent_id],
        order_by=[use.c.place, use.c.clock, use.c.process_id, use.c.tool_id],
    )
    key = ("user_id", "session_id", "agent_id", "process_id", "tool_id")
    ordered = rows_of(
        *(use.c[name] for name in ("user_id", "session_id", "agent_id", "process_id", "tool_id", "label")),
        place.label("at"),
    )
    o = ordered.subquery("o")
    tries = (
        rows_of(
            c.c.user_id, c.c.session_id, c.c.agent_id, c.c.process_id, c.c.tool_id,
            func.count().label("calls"), func.sum(c.c.ok).label("good"),
        )
        .group_by(c.c.user_id, c.c.session_id, c.c.agent_id, c.c.process_id, c.c.tool_id)
        .subquery("tries")
    )  # fmt: skip
    wanted = rows_of(p.pattern_key).where(*condition)
    rows = (
        rows_of(
            e.pattern_key, o.c.process_id, func.coalesce(func.max(process.name), literal_column("''")), o.c.agent_id,
            o.c.tool_id, func.max(o.c.label), cast(func.sum(tries.c.calls), BigInteger),
            cast(func.sum(tries.c.good), BigInteger),
        )
        .join(o, and_(o.c.user_id == e.user_id, o.c.session_id == e.session_id, o.c.agent_id == e.agent_id))
        .join(tries, and_(*(tries.c[n] == o.c[n] for n in key)))
        .outerjoin(
            process,
            and_(
                process.user_id == o.c.user_id,
                process.session_id == o.c.session_id,
                process.process_id == o.c.process_id,
            ),
        )
        .where(e.pattern_key.in_(wanted))
        .group_by(e.pattern_key, o.c.process_id, o.c.agent_id, o.c.tool_id)
        .order_by(e.pattern_key, func.min(o.c.at), o.c.process_id, o.c.tool_id)
    )  # fmt: skip
    found: dict[str, list[PatternStep]] = defaultdict(list)
    for key, *step in warehouse.read(rows):
        found[key].append(PatternStep(*step))
    return found


def tool_errors(warehouse: Warehouse, agent_id: str | None = None) -> list[ToolErrors]:
    """Return the agents that had tool errors, most errors first, as the sample's report does."""
    t = m.ToolErrorSummary
    rows = rows_of(t.agent_id, t.name, t.errors, t.calls, t.error_rate, t.failed_tools)
    rows = rows.order_by(t.errors.desc(), t.error_rate.desc(), t.agent_id)
    if agent_id is not None:
        rows = rows.where(t.agent_id == agent_id)
    return [ToolErrors(*[*row, tuple(sorted(tools.split(", ")))]) for *row, tools in warehouse.read(rows)]


def tool_failures(warehouse: Warehouse, domain_id: str | None = None) -> list[ToolFailures]:
    """Return every tool that was called, per agent: calls, errors, and the last error; most errors first."""
    t, a, tool = m.AgentTool, m.Agent, m.Tool
    key = [a.domain_id, a.agent_id, a.name, t.tool_id]
    calls, errors = func.sum(t.calls), func.sum(t.errors)
    name = func.coalesce(func.max(tool.name), func.nullif(func.max(t.tool_name), literal_column("''")), t.tool_id)
    c = statements.calls().where(m.UserToolMappingHist.tool_id.is_not(None)).subquery("c")
    newest = func.row_number().over(
        partition_by=[c.c.agent_id, c.c.tool_id],
        order_by=[
            func.coalesce(c.c.clock, literal_column("''")).desc(), c.c.user_id.desc(), c.c.session_id.desc(),
            func.coalesce(c.c.call_number, 0).desc(), c.c.process_id.desc(), c.c.attempt.desc(),
        ],
    )  # fmt: skip
    failed = rows_of(c.c.agent_id, c.c.tool_id, c.c.time, c.c.result, newest.label("place")).where(c.c.ok == 0)
    f = failed.subquery("f")
    rows = (
        rows_of(
            a.domain_id, a.agent_id, func.coalesce(a.name, a.agent_id), t.tool_id, name, cast(calls, BigInteger),
            cast(errors, BigInteger), Ratio(errors, calls), func.max(f.c.time), func.max(f.c.result),
        )
        .join(a, a.agent_id == t.agent_id)
        .outerjoin(tool, and_(tool.agent_id == t.agent_id, tool.tool_id == t.tool_id))
        .outerjoin(f, and_(f.c.agent_id == t.agent_id, f.c.tool_id == t.tool_id, f.c.place == 1))
        .where(a.domain_id.is_not(None))
        .group_by(*key)
        .order_by(errors.desc(), a.agent_id, t.tool_id)
    )  # fmt: skip
    if domain_id is not None:
        rows = rows.where(a.domain_id == domain_id)
    return [ToolFailures(*row) for row in warehouse.read(rows)]


def session_requests(warehouse: Warehouse, user_id: str | None = None) -> list[SessionRequest]:
    """Return what each session was asked for and how it went, by user and session.

    The request is the session's own, else the prompt of its first process. The outcome is the reviewed one, else the
    recorded one, else whether all its executions succeeded.
    """
    s, e, process = m.UserSession, m.AgentExecution, m.UserSessionProcess
    place = func.row_number().over(partition_by=[process.user_id, process.session_id], order_by=process.process_id)
    first = rows_of(process.user_id, process.session_id, process.prompt, place.label("place")).subquery("first")
    agents = (
        rows_of(
            e.user_id, e.session_id, func.min(e.succeeded).label("ok"),
            ListAgg(e.agent_id, ",", order_by=[e.agent_id]).label("agents"),
        )
        .group_by(e.user_id, e.session_id)
        .subquery("agents")
    )  # fmt: skip
    rows = (
        rows_of(
            s.user_id,
            s.session_id,
            func.coalesce(s.category, literal_column("''")),
            func.coalesce(s.request, first.c.prompt, literal_column("''")),
            statements.outcome(s, agents.c.ok),
            func.coalesce(agents.c.agents, literal_column("''")),
        )
        .outerjoin(agents, and_(agents.c.user_id == s.user_id, agents.c.session_id == s.session_id))
        .outerjoin(first, and_(first.c.user_id == s.user_id, first.c.session_id == s.session_id, first.c.place == 1))
        .order_by(s.user_id, s.session_id)
    )
    if user_id is not None:
        rows = rows.where(s.user_id == user_id)
    return [
        SessionRequest(*[*row, None if outcome is None else outcome == 1, _split(agents)])
        for *row, outcome, agents in warehouse.read(rows)
    ]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def executions_per_day(warehouse: Warehouse, agent_id: str | None = None) -> list[DayExecutions]:
    """Return executions and successes per agent and day, undated ones first."""
    d = m.AgentDaily
    rows = rows_of(d.agent_id, d.day, d.executions, d.successes).order_by(d.agent_id, d.day)
    if agent_id is not None:
        rows = rows.where(d.agent_id == agent_id)
    return [DayExecutions(row[0], _known(row[1]), row[2], row[3]) for row in warehouse.read(rows)]


def _known(day: Any) -> date | None:
    return None if day == m.UNDATED else day


def tokens_per_tool(warehouse: Warehouse, agent_id: str | None = None) -> list[ToolTokens]:
    """Return calls and tokens per agent and tool, most tokens first."""
    t = m.AgentTool
    name = case((t.tool_name == literal_column("''"), t.tool_id), else_=t.tool_name)
    rows = rows_of(t.agent_id, t.tool_id, name, t.calls, t.input_tokens, t.output_tokens)
    rows = rows.order_by((t.input_tokens + t.output_tokens).desc(), t.agent_id, t.tool_id, t.tool_name)
    if agent_id is not None:
        rows = rows.where(t.agent_id == agent_id)
    return [ToolTokens(*row) for row in warehouse.read(rows)]
