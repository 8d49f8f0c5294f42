"""The eight entities of the table, and Review and Suggestion: every key and every attribute on one page.

The stored names are exactly those of the AWS sample; the Python names are agentmodel's. Attributes that the sample does
not have are marked "ours"; readers of the sample do not see them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from agentmodel import keys
from agentmodel._outcomes import OUTCOME_SOURCES, OutcomeSource
from agentmodel.dynamo._attribute import Attr
from agentmodel.dynamo._specifiers import (
    Shape,
    choice,
    count,
    flag,
    identifier,
    json,
    key_count,
    key_text,
    moment,
    number,
    rating,
    text,
)
from agentmodel.dynamo.entity import Entity, key, lookup
from agentmodel.traces import STATUSES, Status

__all__ = [
    "VERDICTS",
    "Agent",
    "Domain",
    "OutcomeSource",
    "Phase",
    "Review",
    "ReviewStatus",
    "Status",
    "Suggestion",
    "Tool",
    "ToolExecution",
    "User",
    "UserSession",
    "UserSessionProcess",
    "UserToolMapping",
    "Verdict",
]

Phase = Literal["pre", "post"]
"""When a person is asked: before a step (``pre``) or after a run (``post``)."""

_PHASES: tuple[Phase, ...] = ("pre", "post")
"""Every `Phase`."""

ReviewStatus = Literal[
    "pending", "claimed", "approved", "edited", "rejected", "responded", "expired", "cancelled", "completed"
]
"""The state of a question. The first two are open; ``completed`` means that a verdict was given after a run."""

_REVIEW_STATUSES: tuple[ReviewStatus, ...] = (
    "pending",
    "claimed",
    "approved",
    "edited",
    "rejected",
    "responded",
    "expired",
    "cancelled",
    "completed",
)
"""Every `ReviewStatus`."""

_TEXTS = Shape("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))


def _are_counts(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(each, list) and all(type(one) is int for one in each) for each in lists)


_COUNTS = Shape("a map of lists of whole numbers", _are_counts)

Verdict = Literal["correct", "partly", "wrong", "harmful"]
"""A person's judgement of a run."""

VERDICTS: tuple[Verdict, ...] = ("correct", "partly", "wrong", "harmful")
"""The verdicts, from the best to the worst."""


class Domain(Entity, kind="Domain"):
    """A field of work, such as store search. Every agent and tool belongs to one."""

    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("DomainNM")
    description: Attr[str | None] = text("Description", default=None)
    examples: Attr[list[str] | None] = json("ExampleList", default=None, shape=_TEXTS)  # ours: requests for it
    # ours: the sequences of tools that its agents ran most often, as of the last publish
    sequences: Attr[dict[str, Any] | None] = json("SequenceList", default=None, redact="text")
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    # ours: since when no plans are given, because they did harm, and when a person let them be given again
    plans_stopped_at: Attr[datetime | None] = moment("PlansStoppedDT", default=None)
    plans_resumed_at: Attr[datetime | None] = moment("PlansResumedDT", default=None)

    at = lookup(domain_id)
    partition = key(keys.DOMAIN, domain_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAINS)
    index_sort = key(keys.TEXT, name)


class Agent(Entity, kind="Agent"):
    """An agent of a domain; the index orders the agents of a domain by score.

    ``score`` is written by each publish. A score that somebody typed in becomes ``rating``, which breaks ties only.
    """

    agent_id: Attr[str] = identifier("AGT")
    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("AgentNM")
    score: Attr[float] = rating("Score", default=0.0)
    description: Attr[str | None] = text("Description", default=None)
    # ours: numbers of the last publish
    evidence: Attr[float | None] = rating("EvidenceScore", default=None)
    evidence_low: Attr[float | None] = rating("EvidenceLow", default=None)
    evidence_high: Attr[float | None] = rating("EvidenceHigh", default=None)
    executions: Attr[int | None] = number("Executions", default=None)
    successes: Attr[int | None] = number("Successes", default=None)
    last_run_at: Attr[datetime | None] = moment("LastRunDT", default=None)
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    revision: Attr[str | None] = text("AgentVer", default=None, redact="none")
    rating: Attr[float | None] = rating("AgentRating", default=None)  # ours: by hand
    # ours: the revision of its newest execution, its counts, and whether it is worse than the ones before
    ranked_revision: Attr[str | None] = text("RankedVer", default=None, redact="none")
    revision_executions: Attr[int | None] = number("VerExecutions", default=None)
    revision_successes: Attr[int | None] = number("VerSuccesses", default=None)
    health: Attr[str | None] = text("HealthState", default=None, redact="none")
    health_note: Attr[str | None] = text("HealthNote", default=None, redact="none")

    at = lookup(agent_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.AGENT_SCORE, score)


class Tool(Entity, kind="Tool"):
    """A tool of an agent; the index orders the tools of a domain by name."""

    agent_id: Attr[str] = identifier("AGT")
    tool_id: Attr[str] = identifier("TL")
    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("ToolNM")
    spec: Attr[dict[str, Any] | None] = json("ToolSpec", default=None, redact="schema")
    description: Attr[str | None] = text("Description", default=None)
    # ours: whether its results may be cached, and its calls as of the last publish; the text of the last error is some
    # user's, so it is for operators: no plan, prompt or message has it
    read_only: Attr[bool | None] = flag("ReadOnlyYN", default=None)
    calls: Attr[int | None] = number("Calls", default=None)
    errors: Attr[int | None] = number("Errors", default=None)
    last_error_at: Attr[datetime | None] = moment("LastErrorDT", default=None)
    last_error: Attr[str | None] = text("LastErrorMsg", default=None)
    last_error_by: Attr[str | None] = text("LastErrorBy", default=None)  # the user's digest, for an erasure
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    # ours: its version, whether a person must approve each call, and whether it is failing now
    revision: Attr[str | None] = text("ToolVer", default=None, redact="none")
    needs_review: Attr[bool | None] = flag("ReviewYN", default=None)
    health: Attr[str | None] = text("HealthState", default=None, redact="none")
    health_since: Attr[datetime | None] = moment("HealthSinceDT", default=None)
    health_until: Attr[datetime | None] = moment("HealthUntilDT", default=None)
    health_note: Attr[str | None] = text("HealthNote", default=None)

    at = lookup(agent_id, tool_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.TOOL, tool_id)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.TOOL_NAME, name)


class User(Entity, kind="UserInfo", reads=("User",)):
    """A person for whom agents work."""

    user_id: Attr[str] = identifier("USR")
    name: Attr[str] = text("UserNM")
    profile: Attr[dict[str, Any] | None] = json("UserProfile", default=None)
    last_login_at: Attr[datetime | None] = moment("LastLoginDT", default=None)
    created_at: Attr[datetime | None] = moment("CreationDT", default=None)

    at = lookup(user_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)


class UserSession(Entity, kind="UserSession"):
    """One request of a user, with its outcome."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    name: Attr[str] = text("UserSessionNM")
    summary: Attr[str | None] = text("SessionSummary", default=None)
    started_at: Attr[datetime | None] = moment("SessionStartDT", default=None)
    detail_location: Attr[str | None] = text("DtlFileLoc", default=None)
    # ours: the request, its category, and how the session ended
    request: Attr[str | None] = text("UserRequest", default=None)
    category: Attr[str | None] = text("Category", default=None)
    ended_at: Attr[datetime | None] = moment("SessionEndDT", default=None)
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)
    corrected: Attr[bool | None] = flag("ReviewedSuccYN", default=None)
    source_id: Attr[str | None] = text("SourceID", default=None, redact="none")
    suggestion_id: Attr[str | None] = text("SuggestionID", default=None, redact="none")
    ttl_days: Attr[int | None] = number("TTLDays", default=None)

    at = lookup(user_id, session_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.SESSION, session_id)
    index_partition = key(keys.USER, user_id)
    index_sort = key(keys.TEXT, name)


class UserSessionProcess(Entity, kind="UserSessionProcess"):
    """One step of a session."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    process_id: Attr[str] = identifier("PRC")
    prompt: Attr[str | None] = text("UserPrompt", default=None)
    name: Attr[str] = text("ProcNM")
    description: Attr[str | None] = text("ProcessDesc", default=None, reads=("ProcDesc",))
    started_at: Attr[datetime | None] = moment("ProcDT", default=None)
    call_id: Attr[str | None] = text("CallID", default=None, redact="none")  # ours: the call that claimed the number

    at = lookup(user_id, session_id, process_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.PROCESS, process_id)


class ToolExecution(Entity, kind="UserSessPrcToolMappHist"):
    """One call of a tool in a process. A retry is an attempt of its own."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    process_id: Attr[str] = identifier("PRC")
    agent_id: Attr[str] = identifier("AGT")
    tool_id: Attr[str] = identifier("TL")
    attempt: Attr[int] = key_count(default=1)
    tool_name: Attr[str] = text("ToolNM")
    values: Attr[str | None] = text("ToolValues", default=None)
    executed_at: Attr[datetime | None] = moment("TransactDT", default=None)
    succeeded: Attr[bool] = flag("SuccYN")
    result: Attr[str | None] = text("ResultMsg", default=None)
    # ours: order in the session, identity of the call, how it ended, and its cost
    call_number: Attr[int | None] = number("CallNo", default=None)
    call_id: Attr[str | None] = text("CallID", default=None, redact="none")
    status: Attr[Status | None] = choice("Status", *STATUSES, default=None)
    error_type: Attr[str | None] = text("ErrorType", default=None)
    duration_ms: Attr[int | None] = count("DurationMs", default=None)
    input_tokens: Attr[int | None] = count("InputTokens", default=None)
    output_tokens: Attr[int | None] = count("OutputTokens", default=None)
    revision: Attr[str | None] = text("AgentVer", default=None, redact="none")  # of the agent

    at = lookup(user_id, session_id, process_id, agent_id, tool_id, attempt)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.EXECUTION, process_id, agent_id, tool_id, attempt)


class UserToolMapping(Entity, kind="UserPrcToolMapp"):
    """The best known process for a category of a user's requests."""

    user_id: Attr[str] = identifier("USR")
    category: Attr[str] = key_text()
    index_number: Attr[int] = key_count(default=0)
    processes: Attr[dict[str, str]] = json("Proclist", redact="text")
    agents: Attr[dict[str, str]] = json("AgentList", redact="text")
    tools: Attr[dict[str, str]] = json("Toollist", redact="text")
    # ours: its numbers as of the publish, calls and successes of each tool, requests to compare new ones with, and the
    # sequences of tools that were run most often
    score: Attr[float | None] = rating("MappScore", default=None)
    executions: Attr[int | None] = number("Executions", default=None)
    successes: Attr[int | None] = number("Successes", default=None)
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    counts: Attr[dict[str, list[int]] | None] = json("ToolCounts", default=None, redact="none", shape=_COUNTS)
    requests: Attr[list[str] | None] = json("RequestList", default=None, shape=_TEXTS)
    sequences: Attr[dict[str, Any] | None] = json(
        "SequenceList", default=None, redact="text"
    )  # that were run most often

    at = lookup(user_id, category)
    partition = key(keys.USER, user_id)
    sort = key(keys.MAPPING, category)
    index_partition = key(keys.MAPPINGS, index_number)
    index_sort = key(keys.TEXT, category)


class Review(Entity, kind="Review"):
    """A question to a person, before a step or after a run. It is in its queue's index while it is pending.

    One with a ``source`` is an outcome from outside (`AgentModel.outcome`): answered from the start, in no queue.
    """

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    review_id: Attr[str] = key_text(redact="none")
    question: Attr[str] = text("Question")
    queue: Attr[str | None] = text("PendingQueue", default=None, redact="none")
    due_at: Attr[datetime | None] = moment("PendingDueDT", default=None)
    # the subject of the question
    phase: Attr[Phase | None] = choice("Phase", *_PHASES, default=None)
    status: Attr[ReviewStatus | None] = choice("ReviewStatus", *_REVIEW_STATUSES, default=None)
    asked_at: Attr[datetime | None] = moment("AskedDT", default=None)
    process_id: Attr[str | None] = text("ProcessID", default=None, redact="none")
    agent_id: Attr[str | None] = text("AgentID", default=None, redact="none")
    tool_id: Attr[str | None] = text("ToolID", default=None, redact="none")
    arguments: Attr[Any] = json("ProposedArgs", default=None)
    arguments_hash: Attr[str | None] = text("ArgsSHA256", default=None, redact="none")
    reason: Attr[str | None] = text("AskReason", default=None)
    allowed: Attr[list[str] | None] = json("AllowedList", default=None, redact="none")
    # who answers, and until when
    queue_name: Attr[str | None] = text("QueueNM", default=None, redact="none")
    claimed_by: Attr[str | None] = text("ClaimedBy", default=None, redact="none")
    claimed_until: Attr[datetime | None] = moment("ClaimedUntilDT", default=None)
    answer_until: Attr[datetime | None] = moment("AnswerUntilDT", default=None)
    on_expiry: Attr[str | None] = text("OnExpiry", default=None, redact="none")
    escalate_at: Attr[datetime | None] = moment("EscalateDT", default=None)
    escalate_to: Attr[str | None] = text("EscalateTo", default=None, redact="none")
    # the answer, and every event of the question in order
    decision: Attr[str | None] = text("Decision", default=None, redact="none")
    decided_by: Attr[str | None] = text("DecidedBy", default=None, redact="none")
    decided_at: Attr[datetime | None] = moment("DecidedDT", default=None)
    decision_reason: Attr[str | None] = text("DecisionReason", default=None)
    final_arguments: Attr[Any] = json("FinalArgs", default=None)
    response: Attr[str | None] = text("Response", default=None)
    verdict: Attr[Verdict | None] = choice("Verdict", *VERDICTS, default=None)
    outcome: Attr[bool | None] = flag("OutcomeYN", default=None)
    source: Attr[OutcomeSource | None] = choice("OutcomeSource", *OUTCOME_SOURCES, default=None)
    score: Attr[float | None] = rating("OutcomeScore", default=None)  # 0 to 1
    trail: Attr[list[dict[str, str]] | None] = json("Trail", default=None, redact="none")  # see `Reviews`

    at = lookup(user_id, session_id, review_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.REVIEW, review_id)
    index_partition = key(keys.REVIEW_QUEUE, queue)
    index_sort = key(keys.REVIEW_DUE, due_at)


class Suggestion(Entity, kind="Suggestion"):
    """A suggestion to a user: its candidates, its choice, and what was done in the end."""

    user_id: Attr[str] = identifier("USR")
    suggestion_id: Attr[str] = key_text(redact="none")
    suggested_at: Attr[datetime] = moment("SuggestDT")
    source: Attr[str] = text("Source", redact="none")
    ranking: Attr[str | None] = text("Ranking", default=None, redact="none")
    category: Attr[str | None] = text("Category", default=None)
    request: Attr[str | None] = text("UserRequest", default=None)
    domain_id: Attr[str | None] = text("DomainID", default=None, redact="none")
    choice: Attr[str | None] = text("ChosenAgentID", default=None, redact="none")
    propensity: Attr[float] = rating("Propensity", default=1.0)
    candidates: Attr[dict[str, float]] = json("CandidateList", redact="none")
    steps: Attr[list[str]] = json("StepList", redact="none")
    # whether the plan was withheld; the share that was at random, where chance decided; the domain's `plans_resumed_at`
    withheld: Attr[bool | None] = flag("WithheldYN", default=None)
    holdout: Attr[float | None] = rating("HoldoutShare", default=None)
    plans_since: Attr[datetime | None] = moment("PlansSinceDT", default=None)
    # set when the session that asked for the suggestion has ended
    session_id: Attr[str | None] = text("UserSessionID", default=None, redact="none")
    followed: Attr[bool | None] = flag("FollowedYN", default=None)
    taken: Attr[str | None] = text("TakenAgentID", default=None, redact="none")
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)

    at = lookup(user_id, suggestion_id)
    partition = key(keys.SUGGESTIONS, user_id)
    sort = key(keys.SUGGESTION, suggestion_id)
