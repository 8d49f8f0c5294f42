"""The eight entities of the table, and Review and Suggestion: every key and every attribute on one page.

The stored names are exactly those of the AWS sample; the Python names are agentmodel's. Attributes that the sample does
not have are marked "ours"; readers of the sample do not see them.

>>> VERDICTS
('correct', 'partly', 'wrong', 'harmful')
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from agentmodel import keys
from agentmodel._values.outcomes import OUTCOME_SOURCES, OutcomeSource
from agentmodel.dynamo._attribute import Attr
from agentmodel.dynamo.attributes import (
    Shape,
    choice,
    count,
    epoch,
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
    """A field of work, such as store search. Every agent and tool belongs to one.

    >>> domain = Domain(domain_id="DMN001", name="Store search")
    >>> domain.pk, domain.sk, domain.gsi1_pk, domain.gsi1_sk
    ('DMN001', 'METADATA', 'Domain', 'Store search')
    """

    domain_id: Attr[str] = identifier("DMN")
    """The domain itself, by id or name."""
    name: Attr[str] = text("DomainNM")
    """What people call it; domains are listed by it."""
    description: Attr[str | None] = text("Description", default=None)
    """What belongs to it, in a sentence; requests are routed by it."""
    examples: Attr[list[str] | None] = json("ExampleList", default=None, shape=_TEXTS)
    """Requests that it is for, which others are routed by. Ours."""
    sequences: Attr[dict[str, Any] | None] = json("SequenceList", default=None, redact="text")
    """The sequences of tools that its agents ran most often, as of the last publish. Ours."""
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    """When the numbers of the last publish were computed. Ours."""
    success_counts: Attr[dict[str, list[int]] | None] = json(
        "SuccessCounts", default=None, redact="none", shape=_COUNTS
    )
    """Successes and runs of the domain (under the empty name), and of categories by digests of their names. Ours."""
    review_below: Attr[float | None] = rating("ReviewBelow", default=None)
    """The chance of success below which a plan asks for a person, where a share of runs was set. Ours."""
    plans_stopped_at: Attr[datetime | None] = moment("PlansStoppedDT", default=None)
    """Since when no plans are given, because they did harm. Ours."""
    plans_resumed_at: Attr[datetime | None] = moment("PlansResumedDT", default=None)
    """When a person let plans be given again. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(domain_id)
    partition = key(keys.DOMAIN, domain_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAINS)
    index_sort = key(keys.TEXT, name)


class Agent(Entity, kind="Agent"):
    """An agent of a domain; the index orders the agents of a domain by score.

    ``score`` is written by each publish. A score that somebody typed in becomes ``rating``, which breaks ties only.

    >>> agent = Agent(agent_id="AGT001", domain_id="DMN001", name="map agent", score=2.5)
    >>> agent.pk, agent.sk, agent.gsi1_pk, agent.gsi1_sk
    ('AGT001', 'METADATA', 'DMN001', 'AGTSCORE#00000002.500000')
    """

    agent_id: Attr[str] = identifier("AGT", within="domain_id")
    """The agent itself, by id or name; a name is one within the domain."""
    domain_id: Attr[str] = identifier("DMN")
    """The domain that it belongs to, by id or name."""
    name: Attr[str] = text("AgentNM")
    """What people call it."""
    score: Attr[float] = rating("Score", default=0.0)
    """What the agents of a domain are ordered by, highest first; written by each publish."""
    description: Attr[str | None] = text("Description", default=None)
    """What it can do, in a sentence."""
    evidence: Attr[float | None] = rating("EvidenceScore", default=None)
    """Its expected success rate, from 0 to 1. Ours."""
    evidence_low: Attr[float | None] = rating("EvidenceLow", default=None)
    """The lower bound of `evidence`. Ours."""
    evidence_high: Attr[float | None] = rating("EvidenceHigh", default=None)
    """The upper bound of `evidence`. Ours."""
    executions: Attr[int | None] = number("Executions", default=None)
    """In how many sessions it worked. Ours."""
    successes: Attr[int | None] = number("Successes", default=None)
    """How many of these `executions` succeeded. Ours."""
    last_run_at: Attr[datetime | None] = moment("LastRunDT", default=None)
    """When it last worked. Ours."""
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    """When the numbers of the last publish were computed. Ours."""
    revision: Attr[str | None] = text("AgentVer", default=None, redact="none")
    """Its version, by hand: results of another one are not answered from the cache. Ours."""
    rating: Attr[float | None] = rating("AgentRating", default=None)
    """A score that somebody typed in, which breaks ties only. Ours."""
    ranked_revision: Attr[str | None] = text("RankedVer", default=None, redact="none")
    """The revision of its newest execution: of its prompt, model and tools. Ours."""
    revision_executions: Attr[int | None] = number("VerExecutions", default=None)
    """How many of its `executions` were of that revision. Ours."""
    revision_successes: Attr[int | None] = number("VerSuccesses", default=None)
    """How many of these succeeded. Ours."""
    health: Attr[str | None] = text("HealthState", default=None, redact="none")
    """`regressed` where that revision is worse than the ones before. Ours."""
    health_note: Attr[str | None] = text("HealthNote", default=None, redact="none")
    """The counts that say so. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(agent_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.AGENT_SCORE, score)


class Tool(Entity, kind="Tool"):
    """A tool of an agent; the index orders the tools of a domain by name.

    >>> tool = Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find_on_map", read_only=True)
    >>> tool.pk, tool.sk, tool.gsi1_pk, tool.gsi1_sk
    ('AGT001', 'TL001', 'DMN001', 'TL#find_on_map')
    """

    agent_id: Attr[str] = identifier("AGT", within="domain_id")
    """The agent that it belongs to, by id or name; a name is one within the domain."""
    tool_id: Attr[str] = identifier("TL")
    """The tool itself, by id or name."""
    domain_id: Attr[str] = identifier("DMN")
    """The domain of its agent, by id or name."""
    name: Attr[str] = text("ToolNM")
    """What models call it."""
    spec: Attr[dict[str, Any] | None] = json("ToolSpec", default=None, redact="schema")
    """Its arguments as a JSON schema, as frameworks describe tools."""
    description: Attr[str | None] = text("Description", default=None)
    """What it does, in a sentence."""
    read_only: Attr[bool | None] = flag("ReadOnlyYN", default=None)
    """Whether it changes nothing, so that its results may be cached. Ours."""
    calls: Attr[int | None] = number("Calls", default=None)
    """How often it was called, as of the last publish. Ours."""
    errors: Attr[int | None] = number("Errors", default=None)
    """How many of these `calls` failed. Ours."""
    last_error_at: Attr[datetime | None] = moment("LastErrorDT", default=None)
    """When it last failed. Ours."""
    last_error: Attr[str | None] = text("LastErrorMsg", default=None)
    """The text of its last error; some user's, so it is for operators: no plan, prompt or message has it. Ours."""
    last_error_by: Attr[str | None] = text("LastErrorBy", default=None)
    """The digest of the user whose call it was, for an erasure. Ours."""
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    """When the numbers of the last publish were computed. Ours."""
    revision: Attr[str | None] = text("ToolVer", default=None, redact="none")
    """Its version, by hand: results of another one are not answered from the cache. Ours."""
    needs_review: Attr[bool | None] = flag("ReviewYN", default=None)
    """Whether a person must approve each call. Ours."""
    health: Attr[str | None] = text("HealthState", default=None, redact="none")
    """Whether it works: `closed`, or `open` while it is failing. Ours."""
    health_since: Attr[datetime | None] = moment("HealthSinceDT", default=None)
    """Since when it is failing. Ours."""
    health_until: Attr[datetime | None] = moment("HealthUntilDT", default=None)
    """Until when it is not called. Ours."""
    health_note: Attr[str | None] = text("HealthNote", default=None)
    """The numbers that its health was decided by. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(agent_id, tool_id)
    partition = key(keys.AGENT, agent_id)
    sort = key(keys.TOOL, tool_id)
    index_partition = key(keys.DOMAIN, domain_id)
    index_sort = key(keys.TOOL_NAME, name)


class User(Entity, kind="UserInfo", reads=("User",)):
    """A person for whom agents work.

    >>> user = User(user_id="mina", name="Mina")
    >>> user.user_id, user.pk, user.sk
    ('USRmina', 'USRmina', 'METADATA')
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name; a UUID is a name."""
    name: Attr[str] = text("UserNM")
    """What people call the user."""
    profile: Attr[dict[str, Any] | None] = json("UserProfile", default=None)
    """What the application knows of the user, as JSON."""
    last_login_at: Attr[datetime | None] = moment("LastLoginDT", default=None)
    """When the user last logged in."""
    created_at: Attr[datetime | None] = moment("CreationDT", default=None)
    """When the user was first known."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)


class UserSession(Entity, kind="UserSession"):
    """One request of a user, with its outcome.

    >>> session = UserSession(user_id="USR001", session_id="SESS1", name="a quiet café", request="a quiet café")
    >>> session.pk, session.sk, session.gsi1_sk
    ('USR001', 'SESS1', 'a quiet café')
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    session_id: Attr[str] = identifier("SESS")
    """The session."""
    name: Attr[str] = text("UserSessionNM")
    """What people call it; the beginning of the request unless given."""
    summary: Attr[str | None] = text("SessionSummary", default=None)
    """How it ended, in a sentence."""
    started_at: Attr[datetime | None] = moment("SessionStartDT", default=None)
    """When it began."""
    detail_location: Attr[str | None] = text("DtlFileLoc", default=None)
    """Where more about it is stored, such as a URL."""
    request: Attr[str | None] = text("UserRequest", default=None)
    """What the user asked for. Ours."""
    category: Attr[str | None] = text("Category", default=None)
    """The kind of request, for which plans are learned; one that begins with `~` was derived. Ours."""
    ended_at: Attr[datetime | None] = moment("SessionEndDT", default=None)
    """When it ended. Ours."""
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)
    """Whether it did what was asked for. Ours."""
    corrected: Attr[bool | None] = flag("ReviewedSuccYN", default=None)
    """Whether it did so by a person's verdict, which counts in place of `succeeded`. Ours."""
    source_id: Attr[str | None] = text("SourceID", default=None, redact="none")
    """Its name where it was imported from. Ours."""
    suggestion_id: Attr[str | None] = text("SuggestionID", default=None, redact="none")
    """The plan that it followed. Ours."""
    ttl_days: Attr[int | None] = number("TTLDays", default=None)
    """For how many days it is kept, where a publish changed that. Ours."""
    suspect: Attr[bool | None] = flag("SuspectYN", default=None)
    """Whether its writes differ from those of earlier successes, which repeat each other's. Ours."""
    chance: Attr[float | None] = rating("SuccessChance", default=None)
    """The chance that it succeeded, by what it wrote, 0 to 1. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, session_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.SESSION, session_id)
    index_partition = key(keys.USER, user_id)
    index_sort = key(keys.TEXT, name)


class UserSessionProcess(Entity, kind="UserSessionProcess"):
    """One step of a session.

    >>> step = UserSessionProcess(user_id="USR001", session_id="SESS1", process_id="PRC001", name="locate")
    >>> step.pk, step.sk
    ('USR001#SESS1', 'PRC001')
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    session_id: Attr[str] = identifier("SESS")
    """The session."""
    process_id: Attr[str] = identifier("PRC")
    """The process: the number of the step in its session."""
    prompt: Attr[str | None] = text("UserPrompt", default=None)
    """What the model was given."""
    name: Attr[str] = text("ProcNM")
    """What the step does, such as `locate`."""
    description: Attr[str | None] = text("ProcessDesc", default=None, reads=("ProcDesc",))
    """A longer description."""
    started_at: Attr[datetime | None] = moment("ProcDT", default=None)
    """When it began."""
    call_id: Attr[str | None] = text("CallID", default=None, redact="none")
    """The call that claimed its number. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, session_id, process_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.PROCESS, process_id)


class ToolExecution(Entity, kind="UserSessPrcToolMappHist"):
    """One call of a tool in a process. A retry is an attempt of its own.

    >>> call = ToolExecution(
    ...     user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001",
    ...     attempt=2, tool_name="find_on_map", succeeded=True,
    ... )
    >>> call.pk, call.sk
    ('USR001#SESS1', 'PRC001#AGT001#TL001#002')
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    session_id: Attr[str] = identifier("SESS")
    """The session."""
    process_id: Attr[str] = identifier("PRC")
    """The step that the call belongs to."""
    agent_id: Attr[str] = identifier("AGT")
    """The agent, by id or name."""
    tool_id: Attr[str] = identifier("TL")
    """The tool, by id or name."""
    attempt: Attr[int] = key_count(default=1)
    """1 for the first call of this tool in the step, 2 for the second."""
    tool_name: Attr[str] = text("ToolNM")
    """The name of the tool when it was called."""
    values: Attr[str | None] = text("ToolValues", default=None)
    """The arguments, as text; JSON unless they were text."""
    executed_at: Attr[datetime | None] = moment("TransactDT", default=None)
    """When it was called."""
    succeeded: Attr[bool] = flag("SuccYN")
    """Whether it returned a result."""
    result: Attr[str | None] = text("ResultMsg", default=None)
    """The result, or the text of the error."""
    call_number: Attr[int | None] = number("CallNo", default=None)
    """The number of the call in its session, from 1. Ours."""
    call_id: Attr[str | None] = text("CallID", default=None, redact="none")
    """What tells the call from others: recorded twice, it is one item. Ours."""
    status: Attr[Status | None] = choice("Status", *STATUSES, default=None)
    """How it ended; only `ok` and `error` count in scores. Ours."""
    error_type: Attr[str | None] = text("ErrorType", default=None)
    """The name of the exception. Ours."""
    duration_ms: Attr[int | None] = count("DurationMs", default=None)
    """How long it took, in milliseconds. Ours."""
    input_tokens: Attr[int | None] = count("InputTokens", default=None)
    """Tokens that the model read for it. Ours."""
    output_tokens: Attr[int | None] = count("OutputTokens", default=None)
    """Tokens that the model wrote for it. Ours."""
    cached_tokens: Attr[int | None] = count("CachedTokens", default=None)
    """Of `input_tokens`, those that were read from the provider's cache. Ours."""
    cache_write_tokens: Attr[int | None] = count("CacheWriteTokens", default=None)
    """Of `input_tokens`, those that were written into the provider's cache. Ours."""
    reasoning_tokens: Attr[int | None] = count("ReasoningTokens", default=None)
    """Of `output_tokens`, those of the model's reasoning. Ours."""
    model_name: Attr[str | None] = text("ModelNM", default=None, redact="none")
    """The model that asked for it, as its provider names it. Ours."""
    request_input_tokens: Attr[int | None] = count("RequestInputTokens", default=None)
    """Where the model asked for several calls at once, the tokens that it read for all of them. Ours."""
    revision: Attr[str | None] = text("AgentVer", default=None, redact="none")
    """The revision of the agent: of its prompt, model and tools. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, session_id, process_id, agent_id, tool_id, attempt)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.EXECUTION, process_id, agent_id, tool_id, attempt)


class UserToolMapping(Entity, kind="UserPrcToolMapp"):
    """The best known process for a category of a user's requests.

    >>> mapping = model.repository.mapping("USR002", "cafe search")
    >>> mapping.pk, mapping.sk, mapping.gsi1_pk
    ('USR002', 'UserPrcToolMapp#cafe search', 'UserPrcToolMapp')
    >>> mapping.processes, mapping.agents, mapping.tools
    ({'PRC001': 'ask visitors'}, {'AGT002': 'review agent'}, {'PRC001#AGT002#TL002': 'read_reviews'})
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    category: Attr[str] = key_text()
    """The kind of request."""
    index_number: Attr[int] = key_count(default=0)
    """The index partition that it is in; 0 unless they are spread."""
    processes: Attr[dict[str, str]] = json("Proclist", redact="text")
    """The steps in order: number to description."""
    agents: Attr[dict[str, str]] = json("AgentList", redact="text")
    """The agents: id to name."""
    tools: Attr[dict[str, str]] = json("Toollist", redact="text")
    """The tools of the steps: number to name."""
    score: Attr[float | None] = rating("MappScore", default=None)
    """What mappings are ordered by, highest first. Ours."""
    executions: Attr[int | None] = number("Executions", default=None)
    """How often the sequence was run. Ours."""
    successes: Attr[int | None] = number("Successes", default=None)
    """How many of these `executions` succeeded. Ours."""
    scored_at: Attr[datetime | None] = moment("ScoreRunDT", default=None)
    """When the numbers of the last publish were computed. Ours."""
    counts: Attr[dict[str, list[int]] | None] = json("ToolCounts", default=None, redact="none", shape=_COUNTS)
    """Calls and successes of each tool. Ours."""
    requests: Attr[list[str] | None] = json("RequestList", default=None, shape=_TEXTS)
    """Requests of the category, which new ones are compared with. Ours."""
    sequences: Attr[dict[str, Any] | None] = json("SequenceList", default=None, redact="text")
    """The sequences of tools that were run most often. Ours."""
    writes: Attr[dict[str, Any] | None] = json("WriteList", default=None, redact="none")
    """What its runs wrote, as digests, which new runs are compared with. Ours."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, category)
    partition = key(keys.USER, user_id)
    sort = key(keys.MAPPING, category)
    index_partition = key(keys.MAPPINGS, index_number)
    index_sort = key(keys.TEXT, category)


class Review(Entity, kind="Review"):
    """A question to a person, before a step or after a run. It is in its queue's index while it is pending.

    One with a ``source`` is an outcome from outside (`AgentModel.outcome`): answered from the start, in no queue.

    >>> review = Review(user_id="USR001", session_id="SESS1", review_id="r-1", question="Book a table?")
    >>> review.pk, review.sk, review.gsi1_pk
    ('USR001#SESS1', 'REVIEW#r-1', None)
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    session_id: Attr[str] = identifier("SESS")
    """The session."""
    review_id: Attr[str] = key_text(redact="none")
    """The review in its session."""
    question: Attr[str] = text("Question")
    """What the person has to decide."""
    queue: Attr[str | None] = text("PendingQueue", default=None, redact="none")
    """The queue that it waits in; None once it is answered."""
    due_at: Attr[datetime | None] = moment("PendingDueDT", default=None)
    """When it is due; None once it is answered."""
    phase: Attr[Phase | None] = choice("Phase", *_PHASES, default=None)
    """Whether it is about a step before it (`pre`), or about a run after it (`post`)."""
    status: Attr[ReviewStatus | None] = choice("ReviewStatus", *_REVIEW_STATUSES, default=None)
    """How far it is."""
    asked_at: Attr[datetime | None] = moment("AskedDT", default=None)
    """When it was asked."""
    process_id: Attr[str | None] = text("ProcessID", default=None, redact="none")
    """The step that it is about."""
    agent_id: Attr[str | None] = text("AgentID", default=None, redact="none")
    """The agent that would make the call."""
    tool_id: Attr[str | None] = text("ToolID", default=None, redact="none")
    """The tool that would be called."""
    arguments: Attr[Any] = json("ProposedArgs", default=None)
    """What the tool would be called with."""
    arguments_hash: Attr[str | None] = text("ArgsSHA256", default=None, redact="none")
    """The SHA-256 of `arguments`: other arguments are another question."""
    reason: Attr[str | None] = text("AskReason", default=None)
    """Why a person is asked."""
    allowed: Attr[list[str] | None] = json("AllowedList", default=None, redact="none")
    """The decisions that the person may make."""
    queue_name: Attr[str | None] = text("QueueNM", default=None, redact="none")
    """The queue that it was put into, also after the answer."""
    claimed_by: Attr[str | None] = text("ClaimedBy", default=None, redact="none")
    """Who works on it."""
    claimed_until: Attr[datetime | None] = moment("ClaimedUntilDT", default=None)
    """Until when nobody else can claim it."""
    answer_until: Attr[datetime | None] = moment("AnswerUntilDT", default=None)
    """The deadline."""
    on_expiry: Attr[str | None] = text("OnExpiry", default=None, redact="none")
    """The decision that counts from the deadline on."""
    escalate_at: Attr[datetime | None] = moment("EscalateDT", default=None)
    """When it moves to another queue."""
    escalate_to: Attr[str | None] = text("EscalateTo", default=None, redact="none")
    """That queue."""
    decision: Attr[str | None] = text("Decision", default=None, redact="none")
    """What the person decided."""
    decided_by: Attr[str | None] = text("DecidedBy", default=None, redact="none")
    """Who decided."""
    decided_at: Attr[datetime | None] = moment("DecidedDT", default=None)
    """When it was decided."""
    decision_reason: Attr[str | None] = text("DecisionReason", default=None)
    """Why, in the person's words."""
    final_arguments: Attr[Any] = json("FinalArgs", default=None)
    """The arguments as the person changed them."""
    response: Attr[str | None] = text("Response", default=None)
    """The answer that the person gave in place of the tool."""
    verdict: Attr[Verdict | None] = choice("Verdict", *VERDICTS, default=None)
    """The person's judgement of the run."""
    outcome: Attr[bool | None] = flag("OutcomeYN", default=None)
    """Whether the run did what was asked for, by the verdict."""
    source: Attr[OutcomeSource | None] = choice("OutcomeSource", *OUTCOME_SOURCES, default=None)
    """Who says so, of an outcome from outside."""
    score: Attr[float | None] = rating("OutcomeScore", default=None)
    """How good the run was, from 0 to 1, of an outcome from outside."""
    trail: Attr[list[dict[str, str]] | None] = json("Trail", default=None, redact="none")
    """Every event of the question, in order; see `Reviews`."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, session_id, review_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.REVIEW, review_id)
    index_partition = key(keys.REVIEW_QUEUE, queue)
    index_sort = key(keys.REVIEW_DUE, due_at)


class Suggestion(Entity, kind="Suggestion"):
    """A suggestion to a user: its candidates, its choice, and what was done in the end.

    >>> plan = model.suggest("USR231", category="cafe search")
    >>> suggestion = model.suggestions.of_user("USR231")[-1]
    >>> suggestion.choice, sorted(suggestion.candidates), suggestion.propensity
    ('AGT002', ['AGT001', 'AGT002'], 1.0)
    """

    user_id: Attr[str] = identifier("USR")
    """The user, by id or name."""
    suggestion_id: Attr[str] = key_text(redact="none")
    """The suggestion among those of the user."""
    suggested_at: Attr[datetime] = moment("SuggestDT")
    """When it was made."""
    source: Attr[str] = text("Source", redact="none")
    """What it was made of, such as `own mapping`."""
    ranking: Attr[str | None] = text("Ranking", default=None, redact="none")
    """The score that it was ordered by."""
    category: Attr[str | None] = text("Category", default=None)
    """The kind of request."""
    request: Attr[str | None] = text("UserRequest", default=None)
    """What the user asked for."""
    domain_id: Attr[str | None] = text("DomainID", default=None, redact="none")
    """The domain that the agent was chosen of."""
    choice: Attr[str | None] = text("ChosenAgentID", default=None, redact="none")
    """The agent that was suggested."""
    propensity: Attr[float] = rating("Propensity", default=1.0)
    """The probability with which it was chosen among the candidates."""
    candidates: Attr[dict[str, float]] = json("CandidateList", redact="none")
    """The agents to choose from, with their scores."""
    steps: Attr[list[str]] = json("StepList", redact="none")
    """The tools of its steps, in order."""
    withheld: Attr[bool | None] = flag("WithheldYN", default=None)
    """Whether the plan was withheld."""
    holdout: Attr[float | None] = rating("HoldoutShare", default=None)
    """The share of plans that are withheld at random, where chance decided about this one."""
    plans_since: Attr[datetime | None] = moment("PlansSinceDT", default=None)
    """`plans_resumed_at` of the domain at that time."""
    session_id: Attr[str | None] = text("UserSessionID", default=None, redact="none")
    """The session that followed it; set when that has ended, as are the next three."""
    followed: Attr[bool | None] = flag("FollowedYN", default=None)
    """Whether the session did what was suggested."""
    taken: Attr[str | None] = text("TakenAgentID", default=None, redact="none")
    """The agent that was used."""
    succeeded: Attr[bool | None] = flag("SessionSuccYN", default=None)
    """Whether the session succeeded."""
    version: Attr[int | None] = number("Version", default=None)
    """The version of the item: an older one never overwrites a newer one. Set by every versioned write. Ours."""
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
    """When the item expires: reads leave it out from then on, and DynamoDB deletes it later. Ours."""

    at = lookup(user_id, suggestion_id)
    partition = key(keys.SUGGESTIONS, user_id)
    sort = key(keys.SUGGESTION, suggestion_id)
