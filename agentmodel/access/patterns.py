"""The eight access patterns as data: what is asked, by which key condition, in which order, and how it is cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PATTERNS", "Pattern"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One access pattern.

    Attributes:
        number: Its number in the design, 1 to 8.
        name: Its name, which is that of the `Repository` method.
        index: ``GSI1``, or None for the table itself.
        partition: The partition key's form.
        sort: The condition on the sort key.
        newest_first: Whether it is read in descending order unless asked otherwise.
        cached: ``page``: the answer is kept near as it is. ``leaderboard``: from the ranking of the last publish.
            ``partition``: from the user's own partition, with writes that the table does not have yet.
    """

    number: int
    name: str
    index: str | None
    partition: str
    sort: str
    newest_first: bool
    cached: Literal["page", "leaderboard", "partition"]


PATTERNS: tuple[Pattern, ...] = (
    Pattern(1, "domains", "GSI1", "Domain", "begins with the given part of a name, if any", False, "page"),
    Pattern(2, "top_agents", "GSI1", "<domain_id>", "begins with AGTSCORE#", True, "leaderboard"),
    Pattern(3, "domain_tools", "GSI1", "<domain_id>", "begins with TL#", False, "page"),
    Pattern(4, "agent_tools", None, "<agent_id>", "begins with TL", False, "page"),
    Pattern(5, "sessions", None, "<user_id>", "begins with SESS", True, "partition"),
    Pattern(6, "session_history", None, "<user_id>#<session_id>", "all", False, "partition"),
    Pattern(7, "user_mappings", None, "<user_id>", "begins with UserPrcToolMapp#", False, "partition"),
    Pattern(8, "mappings", "GSI1", "UserPrcToolMapp", "begins with the given part of a category, if any", False, "page"),
)
