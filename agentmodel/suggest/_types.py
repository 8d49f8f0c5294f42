"""Types that several packages of `suggest` share: a reference to a tool, and which tools are failing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

from agentmodel.dynamo.models import Tool

__all__ = ["Failing", "HealthReads", "HealthSource", "ToolRef"]


class ToolRef(NamedTuple):
    """Reference to one tool of one agent; equal to the plain pair of its ids.

    Attributes:
        agent_id: The agent.
        tool_id: The tool.

    >>> ToolRef("AGT001", "TL001") == ("AGT001", "TL001")
    True
    """

    agent_id: str
    tool_id: str


@dataclass(frozen=True, slots=True)
class Failing:
    """A tool that is failing now.

    Attributes:
        since: When it began to fail; None where that is not known.
        note: What was seen, as English text for people.
        failures: How many of its last calls failed.
        calls: How many these were; 0 where that is not known.
        usual_share: Its usual failure rate, 0 to 1; None where that is not known.
        own: Whether it is failing for the user who asks alone.

    >>> failing = Failing(None, "5 of its last 6 calls failed", failures=5, calls=6, usual_share=0.02)
    >>> failing.note, failing.own
    ('5 of its last 6 calls failed', False)
    """

    since: datetime | None
    note: str
    failures: int = 0
    calls: int = 0
    usual_share: float | None = None
    own: bool = False


class HealthSource(Protocol):
    """Knows which tools are failing now; a `HealthMonitor` is one."""

    def failing(
        self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], /, *, user_id: str | None = None
    ) -> Mapping[ToolRef, Failing]:
        """Return those of these tools that are failing now.

        Args:
            tool_refs: The tools.
            tools: The items of those that are in the catalogue.
            user_id: The user they are asked for, or the session of an anonymous one; None asks for everybody.
        """
        ...


@runtime_checkable
class HealthReads(HealthSource, Protocol):
    """A `HealthSource` whose reads of Valkey may be sent ahead, together with others; a `HealthMonitor` is one."""

    def reads(self, tool_refs: Iterable[ToolRef], /) -> list[tuple[Any, ...]]:
        """Return the commands by which `HealthSource.failing` reads the health of tools."""
        ...
