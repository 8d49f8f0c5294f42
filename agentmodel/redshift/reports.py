"""Read reports from the warehouse as typed rows. They are of all users, so they are for operators.

Scores are computed for the given day, from counts that do not depend on the day. Age is counted from the newest
execution of the domain until that day, so scores and their order are the same tomorrow if nobody runs anything.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from sqlalchemy import ColumnElement

from agentmodel._values.categories import kept_text
from agentmodel._values.names import takes_names
from agentmodel.exceptions import ValidationError
from agentmodel.redshift import _report_sql as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._rows import Rows, of_report
from agentmodel.redshift.warehouse import Warehouse, day_of

__all__ = [
    "AgentCost", "AgentScore", "CostSums", "DayExecutions", "PatternStep", "PlanSums", "RecommendedPattern",
    "SavingsRow", "SessionRequest", "ToolErrors", "ToolFailures", "ToolTokens", "agent_ranking", "costs",
    "domain_requests", "example_requests", "executions_per_day", "plan_sums", "recommended_patterns", "savings",
    "session_requests", "tokens_per_tool", "tool_errors", "tool_failures",
]  # fmt: skip

_EXAMPLES = 5  # of a category, by which similar requests find its mapping


@dataclass(frozen=True)
class AgentScore:
    """An agent's counts and scores, and its rank in its domain.

    Attributes:
        domain_id: The agent's domain.
        agent_id: The agent.
        agent_name: Its name.
        executions: Sessions of users in which it was called.
        successes: Executions that succeeded.
        failures: Executions that failed.
        success_rate: ``successes / executions``.
        last_execution: Day of its last call; None where no call has a time.
        days_since: Calendar days since then, at least 0.
        decay: ``exp(-0.1 * days)``, in days before the domain's newest execution; an agent without a time counts as old
            as the oldest of its domain.
        score: The classic score.
        evidence: The success rate that is expected of it on the usual work of its domain.
        evidence_low: Lower bound of the central 90 % interval.
        evidence_high: Upper bound.
        domain_rate: Success rate of its domain: the evidence of an agent that has not run.
        rank: Rank in its domain, from 1; agents with equal scores share a rank.
        revision: Its present revision, that of its newest execution; None where none was recorded.
        revision_executions: Executions of the present revision; those of earlier ones fade in the scores.
        revision_successes: How many of these succeeded.

    >>> from datetime import date
    >>> best = agent_ranking(model.warehouse, as_of=date(2027, 1, 1), ranking="evidence")[0]
    >>> best.agent_name, round(best.evidence, 2), round(best.evidence_low, 2), round(best.evidence_high, 2)
    ('review agent', 0.77, 0.45, 0.98)
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
    domain_rate: float
    rank: int
    revision: str | None = None
    revision_executions: int = 0
    revision_successes: int = 0


@dataclass(frozen=True)
class PatternStep:
    """A step of a pattern: one tool in one process.

    Attributes:
        process_id: The process.
        process_name: Its name; '' where it has none.
        agent_id: The agent.
        tool_id: The tool.
        tool_name: Its name.
        calls: Calls of the step over all executions of the pattern; every attempt is a call.
        successes: Calls that succeeded.

    >>> from datetime import date
    >>> (row,) = recommended_patterns(model.warehouse, as_of=date(2027, 1, 1), user_id="USR002")
    >>> [(step.process_name, step.tool_name, step.calls, step.successes) for step in row.steps]
    [('ask visitors', 'read_reviews', 3, 3)]
    """

    process_id: str
    process_name: str
    agent_id: str
    tool_id: str
    tool_name: str
    calls: int
    successes: int


@dataclass(frozen=True)
class RecommendedPattern:
    """A sequence of tools in the sessions of a user.

    Attributes:
        user_id: The user.
        category: Category of the sessions. One that begins with ``~`` was derived from their requests; '' where they
            have neither a category nor a request.
        agent_id: The agent.
        agent_name: Its name.
        process_pattern: Processes in order, joined by ``->``.
        tool_sequence: Tool names in order, joined by ``->``.
        executions: Executions with this sequence.
        successes: Executions that succeeded.
        success_rate: ``successes / executions``.
        score: The pattern's score as of the given day.
        first_used: First day of use; None where no call has a time.
        last_used: Last day of use; None where no call has a time.
        recommended: Whether it is one of the best of its user and category.
        steps: Its steps in order.

    >>> from datetime import date
    >>> (row,) = recommended_patterns(model.warehouse, as_of=date(2027, 1, 1), user_id="USR002")
    >>> row.category, row.agent_name, row.process_pattern, row.recommended
    ('cafe search', 'review agent', 'PRC001', True)
    """

    user_id: str
    category: str
    agent_id: str
    agent_name: str
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
    """An agent's tool errors, as the sample reports them; ``executions`` counts every attempt of a call.

    Attributes:
        agent_id: Id of the agent.
        agent_name: Its name.
        errors: Attempts that failed.
        executions: Attempts in all.
        error_rate: Share of attempts that failed, 0 to 1.
        failed_tools: Names of the tools that failed.
    """

    agent_id: str
    agent_name: str
    errors: int
    executions: int
    error_rate: float
    failed_tools: tuple[str, ...]


@dataclass(frozen=True)
class ToolFailures:
    """Calls and errors of one tool of an agent; ``last_error_at`` is a time of the table, 14 to 20 digits.

    Attributes:
        domain_id: Id of the agent's domain.
        agent_id: Id of the agent.
        agent_name: Its name.
        tool_id: Id of the tool.
        tool_name: Its name.
        calls: Calls of the tool.
        errors: Calls that failed.
        error_rate: Share of calls that failed, 0 to 1.
        last_error_at: When a call failed last: 14 to 20 digits in UTC, as the table stores times.
        last_message: The result of that call.
        last_error_by: MD5 of the id of the user whose call it was.
    """

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
    last_error_by: str | None = None


@dataclass(frozen=True)
class SessionRequest:
    """The request and the outcome of a session; ``outcome`` is None where it is unknown.

    Attributes:
        user_id: Id of the user.
        session_id: Id of the session.
        category: Category that was given for the request; empty if there was none.
        request: The user's words.
        outcome: Whether the session succeeded; None if that is unknown.
        agent_ids: Ids of the agents that worked in it.
    """

    user_id: str
    session_id: str
    category: str
    request: str
    outcome: bool | None
    agent_ids: tuple[str, ...]


@dataclass(frozen=True)
class DayExecutions:
    """Executions of an agent on a day; ``day`` is None for executions without a time.

    Attributes:
        agent_id: Id of the agent.
        day: The day in UTC; None for executions without a time.
        executions: Executions on that day.
        successes: Those that succeeded.

    >>> (row,) = executions_per_day(model.warehouse, "AGT001")
    >>> row.agent_id, f"{row.successes / row.executions:.0%}"
    ('AGT001', '33%')
    """

    agent_id: str
    day: date | None
    executions: int
    successes: int


@dataclass(frozen=True)
class ToolTokens:
    """Tokens of the messages that called a tool.

    Attributes:
        agent_id: Id of the agent.
        tool_id: Id of the tool.
        tool_name: Its name.
        calls: Calls of the tool.
        input_tokens: Tokens that the model read for them.
        output_tokens: Tokens that the model wrote for them.
        priced: Those of the calls whose cost is known.
        cost: What these cost, in the currency of the prices; None where no cost is known.
    """

    agent_id: str
    tool_id: str
    tool_name: str
    calls: int
    input_tokens: int
    output_tokens: int
    priced: int = 0
    cost: float | None = None


@dataclass(frozen=True)
class AgentCost:
    """What a model took for an agent's calls, by the prices of `AGENTMODEL_PRICES`.

    Attributes:
        agent_id: Id of the agent.
        model_name: The model, as its provider names it; '' where nobody told it.
        calls: Calls whose tokens were told.
        input_tokens: Tokens that the model read for them.
        output_tokens: Tokens that it wrote for them.
        priced: Those of the calls whose cost is known.
        cost: What these cost, in the currency of the prices; None where no cost is known.

    >>> (row,) = costs(model.warehouse, "AGT001")
    >>> row.priced == row.calls, round(row.cost / row.calls, 6)
    (True, 0.0012)
    """

    agent_id: str
    model_name: str
    calls: int
    input_tokens: int
    output_tokens: int
    priced: int
    cost: float | None


@dataclass(frozen=True)
class CostSums:
    """What sessions cost.

    Attributes:
        sessions: Sessions whose cost is known.
        total: The sum of their costs.
        logs: The sum of ``ln(1 + cost)``.
        squares: The sum of the squares of ``ln(1 + cost)``.

    >>> calls = plan_sums(model.warehouse)[0].calls
    >>> calls.total / calls.sessions  # calls of a session
    1.0
    """

    sessions: int
    total: float
    logs: float
    squares: float


@dataclass(frozen=True)
class PlanSums:
    """Sessions of a domain and category whose plan was given, or withheld, at random; only those with an outcome.

    Attributes:
        domain_id: Id of the domain of the plans.
        category: Category of the sessions; '' where they have none.
        share: The share of plans that was withheld when these were made.
        since: Time (20 digits) from which a person let plans be given again; '' where nobody had to.
        withheld: Whether their plan was withheld.
        first: When the first of them began, 14 to 20 digits.
        sessions: How many.
        successes: Those that succeeded.
        calls: The calls that were made.
        tokens: The recorded tokens.
        seconds: The time from beginning to end.
        money: What the model cost, in millionths of the currency of the prices; of sessions whose cost is known.
    """

    domain_id: str
    category: str
    share: float
    since: str
    withheld: bool
    first: str
    sessions: int
    successes: int
    calls: CostSums
    tokens: CostSums
    seconds: CostSums
    money: CostSums


@dataclass(frozen=True)
class SavingsRow:
    """What answers from the cache saved in a category.

    Attributes:
        category: The category of the sessions; '' where they have none.
        hits: Calls that were answered from the cache, and so not made.
        sessions: The sessions that they belong to.
        timed: Those of them for which an equal call was timed before.
        seconds: The time that these took when they were made last, less what the answers took.
        metered: Those for which tokens of an equal call were recorded before.
        tokens: These tokens, less those that were recorded with the answers.
        priced: Those for which the cost of an equal call is known.
        cost: These costs, less those of the answers, in the currency of the prices; None where none is known.
    """

    category: str
    hits: int
    sessions: int
    timed: int
    seconds: float
    metered: int
    tokens: int
    priced: int
    cost: float | None


@takes_names
def agent_ranking(
    warehouse: Warehouse,
    *,
    as_of: date,
    domain_id: str | None = None,
    ranking: Literal["classic", "evidence"] = "classic",
) -> Rows[AgentScore]:
    """Return the agents with executions, best first within each domain.

    Args:
        warehouse: A refreshed warehouse.
        as_of: The day to score for; of an aware datetime, its day in UTC.
        domain_id: Only this domain.
        ranking: Whether ``rank`` is by the classic score or by the mean of the evidence.

    Raises:
        ValidationError: ``ranking`` is unknown.

    >>> from datetime import date
    >>> for row in agent_ranking(model.warehouse, as_of=date(2027, 1, 1), domain_id="DMN001"):
    ...     print(row.rank, row.agent_name, f"{row.successes} of {row.executions}, {row.score:.2f}")
    1 review agent 3 of 3, 3.00
    2 map agent 1 of 3, 0.33
    """
    if ranking not in ("classic", "evidence"):
        raise ValidationError("ranking", ranking, "must be classic or evidence")
    half_life = score.half_life_expression(warehouse.half_life_days)
    prior = score.revision_prior_expression(warehouse.revision_prior)
    by_evidence = ranking == "evidence"
    rows = queries.agent_ranking(score.as_of_expression(day_of(as_of)), half_life, prior, evidence=by_evidence)
    found = (_agent_score(*row) for row in warehouse.read(rows) if domain_id is None or row.domain_id == domain_id)
    return of_report(found, AgentScore)


def _agent_score(*row: Any) -> AgentScore:
    *counts, mean, executions, rate, revision, runs, good, _, _, rank = row
    bounds = score.evidence(mean, executions, rate=rate)
    return AgentScore(*[*counts, *bounds, rate, rank, revision or None, runs, good])


@takes_names
def recommended_patterns(
    warehouse: Warehouse,
    *,
    as_of: date,
    user_id: str | None = None,
    recommended_only: bool = True,
    most: int | None = None,
) -> Rows[RecommendedPattern]:
    """Return patterns of users with their steps, each user's best first.

    Args:
        warehouse: A refreshed warehouse.
        as_of: The day to score for; of an aware datetime, its day in UTC.
        user_id: Only this user.
        recommended_only: Only patterns that are recommended.
        most: Only so many patterns, those whose score as of the last refresh is highest. They have the sequence
            that the refresh stored, and no `steps`, which would be read from all calls.

    >>> from datetime import date
    >>> for row in recommended_patterns(model.warehouse, as_of=date(2027, 1, 1), user_id="USR002"):
    ...     print(row.tool_sequence, f"{row.successes} of {row.executions}")
    read_reviews 3 of 3
    """
    p = m.UserProcessPattern
    condition: list[ColumnElement[bool]] = []
    if user_id is not None:
        condition.append(p.user_id == user_id)
    if recommended_only:
        condition.append(p.recommended.is_(True))
    if most is not None:
        best = m.rows_of(p.pattern_key).where(*condition).order_by(p.pattern_score.desc(), p.pattern_key).limit(most)
        condition = [p.pattern_key.in_([key for (key,) in warehouse.read(best)])]
    steps: dict[str, list[PatternStep]] = defaultdict(list)
    for key, *step in warehouse.read(queries.steps(condition)) if most is None else ():
        steps[key].append(PatternStep(*step))
    rows = warehouse.read(queries.patterns(score.as_of_expression(day_of(as_of)), condition))
    found = (RecommendedPattern(*[*row, tuple(steps[key])]) for key, *row in rows)
    return of_report((_named(pattern) for pattern in found), RecommendedPattern)


def _named(pattern: RecommendedPattern) -> RecommendedPattern:
    """Return a pattern whose sequence has the names that its steps have, which are those of today."""
    names = [step.tool_name for step in pattern.steps]
    return replace(pattern, tool_sequence="->".join(names)) if names else pattern


@takes_names
def tool_errors(warehouse: Warehouse, agent_id: str | None = None) -> Rows[ToolErrors]:
    """Return the agents that had tool errors, most errors first, as the sample's report does.

    >>> tool_errors(model.warehouse, "AGT001")[0]
    ToolErrors(agent_id='AGT001', agent_name='map agent', errors=2, executions=3,
    error_rate=0.6666666666666666, failed_tools=('find_on_map',))
    """
    rows = queries.tool_errors()
    if agent_id is not None:
        rows = rows.where(m.ToolErrorSummary.agent_id == agent_id)
    failed: dict[str, set[str]] = defaultdict(set)  # not from the joined text: a name may contain its separator
    for tool in tool_failures(warehouse):
        if tool.errors:
            failed[tool.agent_id].add(tool.tool_name)
    return of_report(
        (ToolErrors(*[*row[:5], tuple(sorted(failed[row[0]]))]) for row in warehouse.read(rows)), ToolErrors
    )


@takes_names
def tool_failures(warehouse: Warehouse, domain_id: str | None = None) -> Rows[ToolFailures]:
    """Return every tool that was called, per agent: calls, errors, and the last error; most errors first.

    >>> for row in tool_failures(model.warehouse, "DMN001"):
    ...     print(row.tool_name, f"{row.errors} of {row.calls}", row.last_message)
    find_on_map 2 of 3 'station'
    read_reviews 0 of 3 None
    """
    rows = queries.tool_failures()
    if domain_id is not None:
        rows = rows.where(m.AgentRow.domain_id == domain_id)
    return of_report((ToolFailures(*row) for row in warehouse.read(rows)), ToolFailures)


@takes_names
def session_requests(warehouse: Warehouse, user_id: str | None = None) -> Rows[SessionRequest]:
    """Return the request and the outcome of each session, by user and session.

    The request is that of the session, else the prompt of its first process. The outcome is the reviewed one, else the
    recorded one, else whether all executions of the session succeeded.

    >>> session_requests(model.warehouse, "USR001")[1]
    SessionRequest(user_id='USR001', session_id='SESS2', category='cafe search', request='a quiet café
    at the harbour', outcome=False, agent_ids=('AGT001',))
    """
    rows = queries.requests()
    if user_id is not None:
        rows = rows.where(m.UserSessionRow.user_id == user_id)
    found = (
        SessionRequest(*[*row, None if outcome is None else outcome == 1, _split(agents)])
        for *row, outcome, agents in warehouse.read(rows)
    )
    return of_report(found, SessionRequest)


def example_requests(warehouse: Warehouse) -> dict[tuple[str, str], list[str]]:
    """Return the newest different requests of each user and category, at most five of 500 characters, newest first.

    >>> example_requests(model.warehouse)["USR001", "cafe search"]
    ['a quiet café at the station', 'a quiet café at the harbour', 'a quiet café at the park']
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user_id, category, request in warehouse.read(queries.example_requests()):
        text = kept_text(request)
        known = found[user_id, category]
        if text and text not in known and len(known) < _EXAMPLES:
            known.append(text)
    return {key: texts for key, texts in found.items() if texts}


def domain_requests(warehouse: Warehouse) -> list[tuple[str, str, str]]:
    """Return the first 500 characters of the requests of the newest 1,000 sessions of each domain, newest first.

    Returns:
        The domain, the user and the request of each.

    >>> domain_requests(model.warehouse)[0]
    ('DMN001', 'USR001', 'a quiet café at the station')
    """
    return [(domain_id, user_id, request) for domain_id, user_id, request in warehouse.read(queries.domain_requests())]


def plan_sums(warehouse: Warehouse) -> Rows[PlanSums]:
    """Return what sessions whose plan was given or withheld at random came to, by domain, category and share.

    >>> [(sums.share, sums.withheld, sums.sessions, sums.successes) for sums in plan_sums(model.warehouse)]
    [(0.5, False, 1, 1), (0.5, True, 2, 2)]
    """
    found = []
    for row in warehouse.read(queries.impact()):
        *key, withheld, first, sessions, successes = row[:8]
        costs = (CostSums(*row[at : at + 4]) for at in range(8, 24, 4))
        found.append(PlanSums(*[*key, withheld == "Y", first, sessions, successes, *costs]))
    return of_report(found, PlanSums)


def savings(warehouse: Warehouse) -> Rows[SavingsRow]:
    """Return what answers from the cache saved in each category that has some, by category.

    It is counted, not estimated: an answer saved one call, and the time, tokens and cost of the last equal call that
    was made and succeeded (same agent, tool and arguments), whoever made it. What a plan saves is measured by
    `AgentModel.impact`.

    >>> [(row.category, row.hits, row.sessions, row.timed) for row in savings(model.warehouse)]
    [('cafe search', 1, 1, 1)]
    """
    return of_report((SavingsRow(*row) for row in warehouse.read(queries.savings())), SavingsRow)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


@takes_names
def executions_per_day(warehouse: Warehouse, agent_id: str | None = None) -> Rows[DayExecutions]:
    """Return executions and successes per agent and day, undated ones first.

    >>> [(row.executions, row.successes) for row in executions_per_day(model.warehouse, "AGT001")]
    [(3, 1)]
    """
    rows = queries.executions_per_day()
    if agent_id is not None:
        rows = rows.where(m.AgentDaily.agent_id == agent_id)
    found = (DayExecutions(row[0], _known_day(row[1]), row[2], row[3]) for row in warehouse.read(rows))
    return of_report(found, DayExecutions)


def _known_day(day: date) -> date | None:
    return None if day == m.UNDATED else day


@takes_names
def tokens_per_tool(warehouse: Warehouse, agent_id: str | None = None) -> Rows[ToolTokens]:
    """Return calls and tokens per agent and tool, most tokens first.

    >>> tokens_per_tool(model.warehouse, "AGT002")[0]
    ToolTokens(agent_id='AGT002', tool_id='TL002', tool_name='read_reviews', calls=3, input_tokens=0,
    output_tokens=0, priced=0, cost=None)
    """
    rows = queries.tokens()
    if agent_id is not None:
        rows = rows.where(m.AgentTool.agent_id == agent_id)
    return of_report((ToolTokens(*row) for row in warehouse.read(rows)), ToolTokens)


@takes_names
def costs(warehouse: Warehouse, agent_id: str | None = None) -> Rows[AgentCost]:
    """Return what models cost per agent and model, dearest first, by the prices as of the last refresh.

    What has no price is unknown, never zero: ``priced`` says of how many calls ``cost`` is.

    >>> for row in costs(model.warehouse, "AGT001"):
    ...     print(row.model_name, row.calls, row.input_tokens, row.output_tokens, round(row.cost, 6))
    gpt-5 3 2400 60 0.0036
    """
    rows = queries.costs(() if agent_id is None else [m.UserToolMappingHist.agent_id == agent_id])
    return of_report((AgentCost(*row) for row in warehouse.read(rows)), AgentCost)
