"""The eight access patterns as data: what is asked, by which key condition, in which order, and how it is cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agentmodel import keys
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Tool,
    ToolExecution,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import INDEX, Query

__all__ = ["PATTERNS", "Pattern"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One access pattern.

    Attributes:
        number: Its number in the design, 1 to 8.
        name: Its name, which is that of the `Repository` method.
        index: ``GSI1``, or None for the table itself.
        partition: The format of the partition key.
        sort: The format of the sort key it reads; None for everything in the partition.
        narrows: Whether the caller may give the beginning of a name or category.
        returns: The entities it gives.
        newest_first: Whether it is read in descending order unless asked otherwise.
        cached: ``page``: the answer is kept near as it is. ``leaderboard``: from the ranking of the last publish.
            ``partition``: from the user's own partition, with writes that the table does not have yet.
    """

    number: int
    name: str
    index: str | None
    partition: keys.KeyFormat[*tuple[Any, ...]]
    sort: keys.KeyFormat[*tuple[Any, ...]] | None
    narrows: bool
    returns: tuple[type[Entity], ...]
    newest_first: bool
    cached: Literal["page", "leaderboard", "partition"]

    @property
    def prefix(self) -> str:
        """What every sort key it reads begins with; empty for all of a partition."""
        return "" if self.sort is None else self.sort.prefix() or self.sort.starts

    def query(self, *values: object, narrow: str = "", newest_first: bool | None = None) -> Query:
        """The request for these values of the partition key.

        Raises:
            ValidationError: A value is not of its part's form.
        """
        prefix = self.prefix if self.sort is None or not narrow else self.sort.prefix(partial=narrow)
        descending = self.newest_first if newest_first is None else newest_first
        return Query(self.partition.build(*values), self.index, prefix=prefix, newest_first=descending)


_HISTORY = (UserSessionProcess, ToolExecution, Review)

DOMAINS = Pattern(1, "domains", INDEX, keys.DOMAINS, keys.TEXT, True, (Domain,), False, "page")
TOP_AGENTS = Pattern(2, "top_agents", INDEX, keys.DOMAIN, keys.AGENT_SCORE, False, (Agent,), True, "leaderboard")
DOMAIN_TOOLS = Pattern(3, "domain_tools", INDEX, keys.DOMAIN, keys.TOOL_NAME, False, (Tool,), False, "page")
AGENT_TOOLS = Pattern(4, "agent_tools", None, keys.AGENT, keys.TOOL, False, (Tool,), False, "page")
SESSIONS = Pattern(5, "sessions", None, keys.USER, keys.SESSION, False, (UserSession,), True, "partition")
SESSION_HISTORY = Pattern(6, "session_history", None, keys.SESSION_ITEMS, None, False, _HISTORY, False, "partition")
USER_MAPPINGS = Pattern(7, "user_mappings", None, keys.USER, keys.MAPPING, True, (UserToolMapping,), False, "partition")
MAPPINGS = Pattern(8, "mappings", INDEX, keys.MAPPINGS, keys.TEXT, True, (UserToolMapping,), False, "page")

PATTERNS: tuple[Pattern, ...] = (
    DOMAINS,
    TOP_AGENTS,
    DOMAIN_TOOLS,
    AGENT_TOOLS,
    SESSIONS,
    SESSION_HISTORY,
    USER_MAPPINGS,
    MAPPINGS,
)
"""The eight access patterns, in the order of their numbers."""
