"""Results of the MCP server's tools, as pydantic models: clients get a schema and structured content.

Names and short texts are on one line, without control characters, bidi marks and ANSI sequences: names are cut to 200
characters, others to 1000. Arguments and results of the caller's own calls are given as they were recorded, and cut
where they are long.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from agentmodel._values.text import one_line

__all__ = [
    "AgentEntry",
    "AgentList",
    "CallView",
    "DomainEntry",
    "DomainList",
    "LikelyNext",
    "NextToolList",
    "OpenReviews",
    "OutcomeResult",
    "ProcessList",
    "ProcessScore",
    "Question",
    "RankedAgent",
    "Ranking",
    "RecordResult",
    "Route",
    "RoutedDomain",
    "Saved",
    "Savings",
    "SessionList",
    "SessionRow",
    "TextPart",
    "ToolCatalogue",
    "ToolEntry",
    "ToolHealthView",
    "ToolList",
]  # fmt: skip

_Name = Annotated[str, AfterValidator(one_line)]
_Line = Annotated[str, AfterValidator(partial(one_line, longest=1000))]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class TextPart(_Result):
    """A part of a text that was cut: ``characters`` is the length of the whole; go on with ``next_offset``."""

    name: str
    offset: int
    content: str
    characters: int
    next_offset: int | None


class DomainEntry(_Result):
    """A domain of the catalogue, with requests that it is for (``examples``)."""

    domain_id: str
    name: _Name
    description: _Line | None = None
    examples: tuple[_Name, ...] = ()


class DomainList(_Result):
    """The domains of the catalogue, by name."""

    domains: tuple[DomainEntry, ...]
    cursor: str | None = None


class AgentEntry(_Result):
    """An agent of the catalogue."""

    agent_id: str
    name: _Name
    description: _Line | None = None


class AgentList(_Result):
    """The agents of a domain, best first."""

    domain_id: str
    agents: tuple[AgentEntry, ...]
    cursor: str | None = None


class ToolEntry(_Result):
    """A tool of an agent; ``spec`` is JSON."""

    tool_id: str
    name: _Name
    description: _Line | None
    spec: str | None
    read_only: bool
    needs_review: bool


class ToolCatalogue(_Result):
    """The tools of an agent, or one spec that was cut."""

    agent_id: str
    tools: tuple[ToolEntry, ...] = ()
    cursor: str | None = None
    text: TextPart | None = None


class RoutedDomain(_Result):
    """A domain that fits a request; ``likelihood`` is 0 to 1."""

    domain_id: str
    name: _Name
    likelihood: float
    basis: Literal["requests", "descriptions", "router"]
    reason: _Line


class LikelyNext(_Result):
    """A tool that is likely to be called next; where it may fail, ``warning`` and what to use instead."""

    tool_id: str
    tool: _Name
    probability: float
    success_share: float | None
    warning: _Line | None
    fallback: _Line | None


class NextToolList(_Result):
    """The tools that an agent is likely to call next, the most likely first, after those that are ``done``."""

    agent_id: str
    done: tuple[_Name, ...]
    tools: tuple[LikelyNext, ...]
    withheld: bool


class Route(_Result):
    """The domains that fit a request, best first; none where none fits."""

    domains: tuple[RoutedDomain, ...]


class RankedAgent(_Result):
    """An agent, with the score that was last published."""

    agent_id: str
    name: _Name
    score: float
    executions: int | None = None
    successes: int | None = None


class Ranking(_Result):
    """The agents of a domain, best first."""

    domain_id: str
    agents: tuple[RankedAgent, ...]
    cursor: str | None = None


class ProcessScore(_Result):
    """The best known process for a category of a user's requests, with the score that was last published.

    A ``category`` that begins with ``~`` was derived from the user's requests; nobody typed it.
    ``more_steps`` counts steps that are left out; `recommend_process` with the category and ``first_step`` has them.
    """

    category: _Line
    score: float | None
    executions: int | None
    successes: int | None
    processes: dict[str, _Name]
    agents: dict[str, _Name]
    tools: dict[str, _Name]
    more_steps: int = 0


class ProcessList(_Result):
    """The best known processes for a user's requests, best first."""

    user_id: str
    processes: tuple[ProcessScore, ...]
    cursor: str | None = None


class ToolHealthView(_Result):
    """Whether a tool is failing now.

    ``state`` is closed (it works), open (it is failing) or half-open (it may be tried again). ``failure_share`` is the
    share of its calls that failed, 0 to 1.
    """

    agent_id: str
    tool_id: str
    tool: _Name
    state: Literal["closed", "open", "half-open"]
    calls: int
    failure_share: float | None
    since: datetime | None
    until: datetime | None
    note: _Line


class ToolList(_Result):
    """The tools of a domain; those that are failing now come first."""

    domain_id: str
    tools: tuple[ToolHealthView, ...]
    cursor: str | None = None


class SessionRow(_Result):
    """A session of a user."""

    session_id: str
    name: _Name
    request: str | None
    category: _Line | None
    started_at: datetime | None
    succeeded: bool | None


class CallView(_Result):
    """A recorded call of a tool; ``call`` names it in its session."""

    call: str
    process_id: str
    agent_id: str
    tool_id: str
    tool_name: _Name
    values: str | None
    result: str | None
    succeeded: bool
    status: str | None
    duration_ms: int | None


class SessionList(_Result):
    """Sessions of a user, newest first, or the calls of one of them, or one text that was cut.

    If ``complete`` is false, records of the last moments may be missing: ask again later.
    """

    user_id: str
    sessions: tuple[SessionRow, ...] = ()
    calls: tuple[CallView, ...] = ()
    cursor: str | None = None
    text: TextPart | None = None
    complete: bool = True


class RecordResult(_Result):
    """What was recorded; pass ``session_id`` with the next call of the same session."""

    user_id: str
    session_id: str
    process_id: str
    call_id: str


class OutcomeResult(_Result):
    """The outcome that was recorded; the next refresh counts the most trusted one of the run."""

    user_id: str
    session_id: str
    agent_id: str | None
    source: Literal["person", "event", "evaluator"]
    succeeded: bool
    score: float | None


class Question(_Result):
    """A question to a person, and its status."""

    review: str
    question: str
    phase: Literal["pre", "post"]
    status: str
    agent_id: str | None
    tool_id: str | None
    arguments: Any
    reason: str | None
    allowed: tuple[str, ...]
    answer_until: datetime | None
    decision: str | None
    verdict: str | None
    outcome: bool | None
    decided_by: _Name | None
    note: _Line | None = None


class OpenReviews(_Result):
    """The open questions of a queue, or one text that was cut."""

    reviews: tuple[Question, ...] = ()
    cursor: str | None = None
    text: TextPart | None = None


class Saved(_Result):
    """What cached results saved in a category: ``hits`` calls, and time and tokens of the last equal calls."""

    category: _Line
    hits: int
    sessions: int
    timed: int
    seconds: float
    metered: int
    tokens: int
    priced: int
    cost: float | None


class Savings(_Result):
    """What cached results saved, by category, as of the last refresh."""

    rows: tuple[Saved, ...]
    cursor: str | None = None
