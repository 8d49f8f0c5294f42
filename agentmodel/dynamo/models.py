"""The eight entities of the table, Review and Suggestion: every key and every attribute on one page.

The stored names are those of the AWS sample, to the letter; the Python names are ours. Attributes that the sample
does not have are marked "ours": its readers do not see them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from agentmodel import keys
from agentmodel.dynamo.attributes import (
    Attr,
    choice,
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
    "PHASES",
    "REVIEW_STATUSES",
    "STATUSES",
    "VERDICTS",
    "Agent",
    "Domain",
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
"""Whether a person is asked before a step, or after a run."""

PHASES: tuple[Phase, ...] = ("pre", "post")

ReviewStatus = Literal[
    "pending", "claimed", "approved", "edited", "rejected", "responded", "expired", "cancelled", "completed"
]
"""Where a question stands: the first two are open; ``completed`` is a verdict that was given after a run."""

REVIEW_STATUSES: tuple[ReviewStatus, ...] = (
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

Verdict = Literal["correct", "partly", "wrong", "harmful"]
"""What a person says of a run."""

VERDICTS: tuple[Verdict, ...] = ("correct", "partly", "wrong", "harmful")


class Domain(Entity, kind="Domain"):
    """A field of work, such as store search; agents and tools belong to one."""

    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("DomainNM")
    description: Attr[str | None] = text("Description", default=None)

    at = lookup(domain_id)
    partition = key(keys.DOMAIN, domain_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAINS)
    index_sort = key(keys.TEXT, name)


class Agent(Entity, kind="Agent"):
    """An agent of a domain, found by its score."""

    agent_id: Attr[str] = identifier("AGT")
    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("AgentNM")
    score: Attr[float] = rating("Score", default=0.0)
    description: Attr[str | None] = text("Description", default=None)
    # ours: what the last publish knew
    evidence: Attr[float | None] = rating("EvidenceScore", default=None)
    evidence_low: Attr[float | None] = rating("EvidenceLow", default=None)
    evidence_high: Attr[float | None] = rating("EvidenceHigh", default=None)
    executions: Attr[int | None] = number("Executions", default=None)
    successes: Attr[int | None] = number("Successes", default=None)
    last_run_at: Attr[datetime | None] = moment("LastRunDT", default=None)
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    revision: Attr[str | None] = text("AgentVer", default=None)

    at = lookup(agent_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.AGENT_SCORE, score)


class Tool(Entity, kind="Tool"):
    """A tool of an agent, also found by its name in the agent's domain."""

    agent_id: Attr[str] = identifier("AGT")
    tool_id: Attr[str] = identifier("TL")
    domain_id: Attr[str] = identifier("DMN")
    name: Attr[str] = text("ToolNM")
    spec: Attr[dict[str, Any] | None] = json("ToolSpec", default=None)
    description: Attr[str | None] = text("Description", default=None)
    # ours: whether its answers may be kept, and how it fared as of the last publish
    read_only: Attr[bool | None] = flag("ReadOnlyYN", default=None)
    calls: Attr[int | None] = number("Calls", default=None)
    errors: Attr[int | None] = number("Errors", default=None)
    last_error_at: Attr[datetime | None] = moment("LastErrorDT", default=None)
    last_error: Attr[str | None] = text("LastErrorMsg", default=None)
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    # ours: its version, whether a person has to look before it is used, and whether it works at present
    revision: Attr[str | None] = text("ToolVer", default=None)
    needs_review: Attr[bool | None] = flag("ReviewYN", default=None)
    health: Attr[str | None] = text("HealthState", default=None)
    health_since: Attr[datetime | None] = moment("HealthSinceDT", default=None)
    health_until: Attr[datetime | None] = moment("HealthUntilDT", default=None)
    health_note: Attr[str | None] = text("HealthNote", default=None)

    at = lookup(agent_id, tool_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.TOOL, tool_id)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.TOOL_NAME, name)


class User(Entity, kind="UserInfo", reads=("User",)):
    """Somebody agents work for."""

    user_id: Attr[str] = identifier("USR")
    name: Attr[str] = text("UserNM")
    profile: Attr[dict[str, Any] | None] = json("UserProfile", default=None)
    last_login_at: Attr[datetime | None] = moment("LastLoginDT", default=None)
    created_at: Attr[datetime | None] = moment("CreationDT", default=None)

    at = lookup(user_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)


class UserSession(Entity, kind="UserSession"):
    """One request of a user and all that was done for it."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    name: Attr[str] = text("UserSessionNM")
    summary: Attr[str | None] = text("SessionSummary", default=None)
    started_at: Attr[datetime | None] = moment("SessionStartDT", default=None)
    detail_location: Attr[str | None] = text("DtlFileLoc", default=None)
    # ours: what the user asked, of which kind, and how it ended
    request: Attr[str | None] = text("UserRequest", default=None)
    category: Attr[str | None] = text("Category", default=None)
    ended_at: Attr[datetime | None] = moment("SessionEndDT", default=None)
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)
    corrected: Attr[bool | None] = flag("ReviewedSuccYN", default=None)
    source_id: Attr[str | None] = text("SourceID", default=None)
    suggestion_id: Attr[str | None] = text("SuggestionID", default=None)
    kept_days: Attr[int | None] = number("TTLDays", default=None)

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
    call_id: Attr[str | None] = text("CallID", default=None)  # ours: who claimed the number

    at = lookup(user_id, session_id, process_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.PROCESS, process_id)


class ToolExecution(Entity, kind="UserSessPrcToolMappHist"):
    """One call of a tool in a process; a retry is an attempt of its own."""

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
    # ours: order in the session, identity of the call, how it ended and what it cost
    call_number: Attr[int | None] = number("CallNo", default=None)
    call_id: Attr[str | None] = text("CallID", default=None)
    status: Attr[Status | None] = choice("Status", *STATUSES, default=None)
    error_type: Attr[str | None] = text("ErrorType", default=None)
    duration_ms: Attr[int | None] = number("DurationMs", default=None)
    input_tokens: Attr[int | None] = number("InputTokens", default=None)
    output_tokens: Attr[int | None] = number("OutputTokens", default=None)

    at = lookup(user_id, session_id, process_id, agent_id, tool_id, attempt)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.EXECUTION, process_id, agent_id, tool_id, attempt)


class UserToolMapping(Entity, kind="UserPrcToolMapp"):
    """The best known way to serve a category of requests of a user."""

    user_id: Attr[str] = identifier("USR")
    category: Attr[str] = key_text()
    index_number: Attr[int] = key_count(default=0)
    processes: Attr[dict[str, str]] = json("Proclist")
    agents: Attr[dict[str, str]] = json("AgentList")
    tools: Attr[dict[str, str]] = json("Toollist")
    # ours: how good it was when it was published, calls and successes of each tool, and requests it is found by
    score: Attr[float | None] = rating("MappScore", default=None)
    executions: Attr[int | None] = number("Executions", default=None)
    successes: Attr[int | None] = number("Successes", default=None)
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    counts: Attr[dict[str, list[int]] | None] = json("ToolCounts", default=None)
    requests: Attr[list[str] | None] = json("RequestList", default=None)

    at = lookup(user_id, category)
    partition = key(keys.USER, user_id)
    sort = key(keys.MAPPING, category)
    index_partition = key(keys.MAPPINGS, index_number)
    index_sort = key(keys.TEXT, category)


class Review(Entity, kind="Review"):
    """A question to a person about a step, before it is taken or after; it is in its queue's index while pending."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    review_id: Attr[str] = key_text()
    question: Attr[str] = text("Question")
    queue: Attr[str | None] = text("PendingQueue", default=None)
    due_at: Attr[datetime | None] = moment("PendingDueDT", default=None)
    # what is asked about
    phase: Attr[Phase | None] = choice("Phase", *PHASES, default=None)
    status: Attr[ReviewStatus | None] = choice("ReviewStatus", *REVIEW_STATUSES, default=None)
    asked_at: Attr[datetime | None] = moment("AskedDT", default=None)
    process_id: Attr[str | None] = text("ProcessID", default=None)
    agent_id: Attr[str | None] = text("AgentID", default=None)
    tool_id: Attr[str | None] = text("ToolID", default=None)
    arguments: Attr[Any] = json("ProposedArgs", default=None)
    arguments_hash: Attr[str | None] = text("ArgsSHA256", default=None)
    reason: Attr[str | None] = text("AskReason", default=None)
    allowed: Attr[list[str] | None] = json("AllowedList", default=None)
    # who may answer, and until when
    queue_name: Attr[str | None] = text("QueueNM", default=None)
    claimed_by: Attr[str | None] = text("ClaimedBy", default=None)
    claimed_until: Attr[datetime | None] = moment("ClaimedUntilDT", default=None)
    answer_until: Attr[datetime | None] = moment("AnswerUntilDT", default=None)
    on_expiry: Attr[str | None] = text("OnExpiry", default=None)
    escalate_at: Attr[datetime | None] = moment("EscalateDT", default=None)
    escalate_to: Attr[str | None] = text("EscalateTo", default=None)
    # the answer, and everything that happened to the question, in order
    decision: Attr[str | None] = text("Decision", default=None)
    decided_by: Attr[str | None] = text("DecidedBy", default=None)
    decided_at: Attr[datetime | None] = moment("DecidedDT", default=None)
    decision_reason: Attr[str | None] = text("DecisionReason", default=None)
    final_arguments: Attr[Any] = json("FinalArgs", default=None)
    response: Attr[str | None] = text("Response", default=None)
    verdict: Attr[Verdict | None] = choice("Verdict", *VERDICTS, default=None)
    outcome: Attr[bool | None] = flag("OutcomeYN", default=None)
    trail: Attr[list[dict[str, str]] | None] = json("Trail", default=None)

    at = lookup(user_id, session_id, review_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.REVIEW, review_id)
    index_partition = key(keys.REVIEW_QUEUE, queue)
    index_sort = key(keys.REVIEW_DUE, due_at)


class Suggestion(Entity, kind="Suggestion"):
    """What was suggested to a user, among what, and what became of it."""

    user_id: Attr[str] = identifier("USR")
    suggestion_id: Attr[str] = key_text()
    suggested_at: Attr[datetime] = moment("SuggestDT")
    source: Attr[str] = text("Source")
    ranking: Attr[str | None] = text("Ranking", default=None)
    category: Attr[str | None] = text("Category", default=None)
    request: Attr[str | None] = text("UserRequest", default=None)
    domain_id: Attr[str | None] = text("DomainID", default=None)
    choice: Attr[str | None] = text("ChosenAgentID", default=None)
    propensity: Attr[float] = rating("Propensity", default=1.0)
    candidates: Attr[dict[str, float]] = json("CandidateList")
    steps: Attr[list[str]] = json("StepList")
    # known once the session that asked has ended
    session_id: Attr[str | None] = text("UserSessionID", default=None)
    followed: Attr[bool | None] = flag("FollowedYN", default=None)
    taken: Attr[str | None] = text("TakenAgentID", default=None)
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)

    at = lookup(user_id, suggestion_id)
    partition = key(keys.SUGGESTIONS, user_id)
    sort = key(keys.SUGGESTION, suggestion_id)
