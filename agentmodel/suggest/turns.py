"""Turns: which run publishes, so that an older one never writes after a newer one has begun.

A run is a day that recency is counted to, and how far its refresh had seen. One small item of the table, the mark,
names the newest run that began to publish. A run that meets a newer mark writes nothing; one that finds its own does
not write it again. So a newer run leaves its mark even where it changes nothing, and it costs one write.

A run that is already under way has to notice too, whenever it was stopped. Before its first write it enters itself in
the mark, on the condition that the mark is its own; at its end it strikes itself out. A newer run that finds an entry
of an older one, which is still writing or was killed, fences: it also writes the items that it finds unchanged, so
that each of them has another version than the older one read, and whatever that one still sends is refused. A fence
that was killed is built again by the next run, since the entry is struck out at the end of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from agentmodel import keys
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import AgentModelError, Conflict

__all__ = ["Overtaken", "Run", "Turn"]

_KEY: Item = {"PK": {"S": keys.PUBLISH.build()}, "SK": {"S": keys.METADATA.build()}}
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Overtaken(AgentModelError):
    """A newer run has begun to publish."""


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """What is published: two with the same day and history publish the same.

    Attributes:
        day: What recency is counted to; scores are counted in days.
        seen: How far the refresh had seen; the year 1 when nothing had landed.
    """

    day: date
    seen: datetime = _NEVER

    @property
    def at(self) -> datetime:
        """The beginning of the day, as items hold it."""
        return datetime.combine(self.day, time(), UTC)

    @property
    def text(self) -> str:
        """As the mark holds it; text order is the order of runs."""
        return f"{keys.format_time('as_of', self.at)} {keys.format_time('seen', self.seen)}"

    @property
    def number(self) -> int:
        """As a ranking in Valkey holds it: 20 digits, to the second."""
        return max(0, int(self.at.timestamp())) * 10**10 + max(0, int(self.seen.timestamp()))


@dataclass(slots=True)
class Turn:
    """The turn of one publisher; made by `begin`.

    Attributes:
        table: The table.
        run: The run.
        older: Entries of older runs, which are fenced.
        entry: The own entry, once it stands.
    """

    table: Table
    run: Run
    older: frozenset[str] = frozenset()
    entry: str | None = field(default=None)

    @classmethod
    def begin(cls, table: Table, run: Run) -> Turn:
        """Put the run into the mark, unless it stands there.

        Raises:
            Overtaken: A newer run is there.
        """
        while True:
            mark = _mark(table)
            there = mark.get("RunID", {}).get("S", "")
            if there == run.text:
                return cls(table, run, _older(mark, run))
            if there > run.text:
                raise Overtaken("a newer run has begun")
            try:
                answer = table.call(
                    "UpdateItem",
                    TableName=table.name,
                    Key=_KEY,
                    UpdateExpression="SET RunID = :run, EntityType = :kind",
                    ConditionExpression="attribute_not_exists(RunID) OR RunID < :run",
                    ExpressionAttributeValues={":run": {"S": run.text}, ":kind": {"S": "PublishRun"}},
                    ReturnValues="ALL_NEW",
                )
            except Conflict:
                continue  # somebody else began: look again
            return cls(table, run, _older(answer["Attributes"], run))

    @property
    def fencing(self) -> bool:
        """Whether what is unchanged has to be written too."""
        return bool(self.older)

    def enter(self) -> None:
        """Enter this publisher before its first write.

        Raises:
            Overtaken: A newer run has begun.
        """
        if self.entry is not None:
            return
        entry = f"{self.run.text} {secrets.token_hex(6)}"
        try:
            self.table.call(
                "UpdateItem",
                TableName=self.table.name,
                Key=_KEY,
                UpdateExpression="ADD Writing :entry",
                ConditionExpression="RunID = :run",
                ExpressionAttributeValues={":entry": {"SS": [entry]}, ":run": {"S": self.run.text}},
            )
        except Conflict:
            raise Overtaken("a newer run has begun") from None
        self.entry = entry

    def check(self) -> None:
        """See that the mark is still this run's.

        Raises:
            Overtaken: A newer run has begun.
        """
        if _mark(self.table).get("RunID") != {"S": self.run.text}:
            raise Overtaken("a newer run has begun")

    def end(self) -> None:
        """Strike out the own entry, and those that were fenced."""
        self._strike(self.older | ({self.entry} if self.entry is not None else set()))

    def leave(self) -> None:
        """Strike out the own entry alone: overtaken, and with nothing on its way."""
        self._strike({self.entry} if self.entry is not None else set())

    def _strike(self, entries: Iterable[str]) -> None:
        gone = sorted(entries)
        if gone:
            self.table.call(
                "UpdateItem",
                TableName=self.table.name,
                Key=_KEY,
                UpdateExpression="DELETE Writing :gone",
                ExpressionAttributeValues={":gone": {"SS": gone}},
            )


def _mark(table: Table) -> Item:
    found: Item = table.call("GetItem", TableName=table.name, Key=_KEY, ConsistentRead=True).get("Item", {})
    return found


def _older(mark: Item, run: Run) -> frozenset[str]:
    entries = mark.get("Writing", {}).get("SS", [])
    return frozenset(entry for entry in entries if entry.rpartition(" ")[0] < run.text)
