"""The eight access patterns as data: key condition, order, returned entities and caching of each.

>>> [pattern.name for pattern in PATTERNS]
['domains', 'top_agents', 'domain_tools', 'agent_tools', 'sessions', 'session_history',
'user_mappings', 'mappings']
"""

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

__all__ = ["PATTERNS", "AccessPattern"]


@dataclass(frozen=True, slots=True)
class AccessPattern:
    """One access pattern.

    Attributes:
        number: Its number in the design, 1 to 8.
        name: Its name, which is also the name of the `Repository` method.
        index: ``GSI1``, or None for the table itself.
        partition: The format of the partition key.
        sort: The format of the sort keys it reads; None when it reads everything in the partition.
        narrows: Whether the caller may pass the beginning of a name or category.
        returns: The entity classes it returns.
        newest_first: Whether the default order is descending.
        cached: Where the result is cached. ``page``: the result itself, in Valkey. ``leaderboard``: the ranking of the
            last publish. ``partition``: the user's own partition, with writes that are not in the table yet.

    >>> TOP_AGENTS.name, TOP_AGENTS.index, TOP_AGENTS.prefix, [entity.__name__ for entity in TOP_AGENTS.returns]
    ('top_agents', 'GSI1', 'AGTSCORE#', ['Agent'])
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
        """Return the text with which every sort key that it reads begins; empty when it reads the whole partition."""
        return "" if self.sort is None else self.sort.prefix() or self.sort.starts

    def query(self, *values: object, narrow: str = "", newest_first: bool | None = None) -> Query:
        """Return the query for these values of the partition key.

        Raises:
            ValidationError: A value does not have the form of its part of the key.

        >>> TOP_AGENTS.query("DMN001")
        Query(partition='DMN001', index='GSI1', prefix='AGTSCORE#', between=None, newest_first=True)
        """
        prefix = self.prefix if self.sort is None or not narrow else self.sort.prefix(partial=narrow)
        descending = self.newest_first if newest_first is None else newest_first
        return Query(self.partition.build(*values), self.index, prefix=prefix, newest_first=descending)


_HISTORY = (UserSessionProcess, ToolExecution, Review)

DOMAINS = AccessPattern(1, "domains", INDEX, keys.DOMAINS, keys.TEXT, True, (Domain,), False, "page")
TOP_AGENTS = AccessPattern(2, "top_agents", INDEX, keys.DOMAIN, keys.AGENT_SCORE, False, (Agent,), True, "leaderboard")
DOMAIN_TOOLS = AccessPattern(3, "domain_tools", INDEX, keys.DOMAIN, keys.TOOL_NAME, False, (Tool,), False, "page")
AGENT_TOOLS = AccessPattern(4, "agent_tools", None, keys.AGENT, keys.TOOL, False, (Tool,), False, "page")
SESSIONS = AccessPattern(5, "sessions", None, keys.USER, keys.SESSION, False, (UserSession,), True, "partition")
SESSION_HISTORY = AccessPattern(
    6, "session_history", None, keys.SESSION_ITEMS, None, False, _HISTORY, False, "partition"
)
USER_MAPPINGS = AccessPattern(
    7, "user_mappings", None, keys.USER, keys.MAPPING, True, (UserToolMapping,), False, "partition"
)
MAPPINGS = AccessPattern(8, "mappings", INDEX, keys.MAPPINGS, keys.TEXT, True, (UserToolMapping,), False, "page")

PATTERNS: tuple[AccessPattern, ...] = (
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
