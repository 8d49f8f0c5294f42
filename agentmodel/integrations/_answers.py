"""What the MCP server's tools give: pydantic models, so that clients get a schema and structured content."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AgentScore", "Call", "Health", "ProcessList", "ProcessScore", "Question", "Ranking", "Recorded", "Saved",
    "Savings", "SessionList", "SessionRow", "ToolList", "Waiting",
]  # fmt: skip


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class AgentScore(_Answer):
    """An agent, with the score that was last published."""

    agent_id: str
    name: str
    score: float
    executions: int | None = None
    successes: int | None = None


class Ranking(_Answer):
    """The agents of a domain, best first."""

    domain_id: str
    agents: tuple[AgentScore, ...]


class ProcessScore(_Answer):
    """The best known way to serve a category of a user's requests, with the score that was last published."""

    category: str
    score: float | None
    executions: int | None
    successes: int | None
    processes: dict[str, str]
    agents: dict[str, str]
    tools: dict[str, str]


class ProcessList(_Answer):
    """The best known ways for a user's requests, the best first."""

    user_id: str
    processes: tuple[ProcessScore, ...]


class Health(_Answer):
    """Whether a tool fails now; ``failure_share`` is 0 to 1."""

    agent_id: str
    tool_id: str
    tool: str
    state: Literal["closed", "open", "half-open"]
    calls: int
    failure_share: float | None
    since: datetime | None
    until: datetime | None
    note: str


class ToolList(_Answer):
    """The tools of a domain, failing ones first."""

    domain_id: str
    tools: tuple[Health, ...]


class SessionRow(_Answer):
    """A session of a user."""

    session_id: str
    name: str
    request: str | None
    category: str | None
    started_at: datetime | None
    succeeded: bool | None


class Call(_Answer):
    """A recorded call of a tool."""

    process_id: str
    agent_id: str
    tool_id: str
    tool_name: str
    values: str | None
    result: str | None
    succeeded: bool
    status: str | None
    duration_ms: int | None


class SessionList(_Answer):
    """Sessions of a user, newest first, or the calls of one of them."""

    user_id: str
    sessions: tuple[SessionRow, ...] = ()
    calls: tuple[Call, ...] = ()
    cursor: str | None = None


class Recorded(_Answer):
    """What was recorded; give ``session_id`` with the next call of the same session."""

    user_id: str
    session_id: str
    process_id: str
    call_id: str


class Question(_Answer):
    """A question to people, and where it stands."""

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
    decided_by: str | None
    note: str | None = None


class Waiting(_Answer):
    """The open questions of a queue."""

    reviews: tuple[Question, ...]
    cursor: str | None = None


class Saved(_Answer):
    """What known answers saved in a category; the unit is calls or tokens of one run."""

    category: str
    unit: Literal["calls", "tokens"]
    hits: int
    runs_with: int
    runs_without: int
    saved: float | None
    low: float | None
    high: float | None


class Savings(_Answer):
    """What known answers saved, by category, as of the last refresh."""

    rows: tuple[Saved, ...]
