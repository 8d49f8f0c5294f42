"""What the warehouse learnt, as typed rows.

Scores are computed for the day asked for, from counts that hold no clock; the order of a list is that of the clock-free
weight, so it is the same tomorrow.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sqlalchemy import ColumnElement

from agentmodel.exceptions import ValidationError
from agentmodel.redshift import _queries as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import score
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
    half_life = score.half_life(warehouse.half_life_days)
    rows = queries.agent_ranking(score.day(day_of(as_of)), half_life, evidence=ranking == "evidence")
    found = [AgentScore(*row) for row in warehouse.read(rows)]
    return [row for row in found if domain_id is None or row.domain_id == domain_id]


def recommended_patterns(
    warehouse: Warehouse, *, as_of: date, user_id: str | None = None, recommended_only: bool = True
) -> list[Pattern]:
    """Return patterns of users with their steps, each user's best first.

    Args:
        warehouse: A refreshed warehouse.
        as_of: The day to score for; of an aware datetime, its day in UTC.
        user_id: Only this user.
        recommended_only: Only patterns that are recommended.
    """
    p = m.UserProcessPattern
    condition: list[ColumnElement[bool]] = []
    if user_id is not None:
        condition.append(p.user_id == user_id)
    if recommended_only:
        condition.append(p.recommended.is_(True))
    steps: dict[str, list[PatternStep]] = defaultdict(list)
    for key, *step in warehouse.read(queries.steps(condition)):
        steps[key].append(PatternStep(*step))
    rows = warehouse.read(queries.patterns(score.day(day_of(as_of)), condition))
    return [Pattern(*[*row, tuple(steps[key])]) for key, *row in rows]


def tool_errors(warehouse: Warehouse, agent_id: str | None = None) -> list[ToolErrors]:
    """Return the agents that had tool errors, most errors first, as the sample's report does."""
    rows = queries.tool_errors()
    if agent_id is not None:
        rows = rows.where(m.ToolErrorSummary.agent_id == agent_id)
    failed: dict[str, set[str]] = defaultdict(set)  # not from the joined text: a name may hold its separator
    for tool in tool_failures(warehouse):
        if tool.errors:
            failed[tool.agent_id].add(tool.tool_name)
    return [ToolErrors(*[*row[:5], tuple(sorted(failed[row[0]]))]) for row in warehouse.read(rows)]


def tool_failures(warehouse: Warehouse, domain_id: str | None = None) -> list[ToolFailures]:
    """Return every tool that was called, per agent: calls, errors, and the last error; most errors first."""
    rows = queries.tool_failures()
    if domain_id is not None:
        rows = rows.where(m.Agent.domain_id == domain_id)
    return [ToolFailures(*row) for row in warehouse.read(rows)]


def session_requests(warehouse: Warehouse, user_id: str | None = None) -> list[SessionRequest]:
    """Return what each session was asked for and how it went, by user and session.

    The request is the session's own, else the prompt of its first process. The outcome is the reviewed one, else the
    recorded one, else whether all its executions succeeded.
    """
    rows = queries.requests()
    if user_id is not None:
        rows = rows.where(m.UserSession.user_id == user_id)
    return [
        SessionRequest(*[*row, None if outcome is None else outcome == 1, _split(agents)])
        for *row, outcome, agents in warehouse.read(rows)
    ]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def executions_per_day(warehouse: Warehouse, agent_id: str | None = None) -> list[DayExecutions]:
    """Return executions and successes per agent and day, undated ones first."""
    rows = queries.executions_per_day()
    if agent_id is not None:
        rows = rows.where(m.AgentDaily.agent_id == agent_id)
    return [DayExecutions(row[0], _known(row[1]), row[2], row[3]) for row in warehouse.read(rows)]


def _known(day: date) -> date | None:
    return None if day == m.UNDATED else day


def tokens_per_tool(warehouse: Warehouse, agent_id: str | None = None) -> list[ToolTokens]:
    """Return calls and tokens per agent and tool, most tokens first."""
    rows = queries.tokens()
    if agent_id is not None:
        rows = rows.where(m.AgentTool.agent_id == agent_id)
    return [ToolTokens(*row) for row in warehouse.read(rows)]
