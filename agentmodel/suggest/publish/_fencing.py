"""Publish runs: an older run never writes after a newer one has begun.

A run is the day that recency is counted to, and how far its refresh had seen. One small item of the table, the run
item, names the newest run that has begun to publish. A run that finds a newer one in it writes nothing. A newer run
puts itself in, also where it changes nothing else, which costs one write.

A run that is already under way must notice too, wherever it was stopped. Before its first write a publisher adds an
entry of its own to the run item, on the condition that the item still names its run, and at its end it removes the
entry. A newer run that finds an entry of an older one, which is still writing or was killed, fences it off: it also
writes the items that it finds unchanged, so each of them has another version than the older run has read, and the
older run's late writes are refused. The newer run removes the older entries at its end, so where it is killed before,
the next one fences again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from agentmodel import keys
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import AgentModelError, Conflict

__all__ = ["OutOfTime", "PublishLease", "PublishRun", "Superseded", "scores_seen"]

_KEY: Item = {"PK": {"S": keys.PUBLISH.build()}, "SK": {"S": keys.METADATA.build()}}
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Superseded(AgentModelError):
    """A newer run has begun to publish, so this one writes nothing more."""


class OutOfTime(AgentModelError):
    """The time of a publish is over; it stops between two writes, and the next one goes on. `progress` raises it.

    >>> def stop(what: str, done: int, of: int) -> None:
    ...     raise OutOfTime("the time of this call is over")
    >>> model.publish(progress=stop)
    Traceback (most recent call last):
        ...
    agentmodel.suggest.publish._fencing.OutOfTime: the time of this call is over
    """


@dataclass(frozen=True, slots=True, order=True)
class PublishRun:
    """What is published. Two runs of the same day and history publish the same.

    Attributes:
        day: The day that recency is counted to.
        seen: How far the refresh had seen; the year 1 when nothing had landed.
    """

    day: date
    seen: datetime = _NEVER

    @property
    def at(self) -> datetime:
        """Return the beginning of the day, as items have it."""
        return datetime.combine(self.day, time(), UTC)

    @property
    def text(self) -> str:
        """Return the run as the run item has it; text order is the order of runs."""
        return f"{keys.format_time('as_of', self.at)} {keys.format_time('seen', self.seen)}"

    @property
    def number(self) -> int:
        """Return the run as a ranking in Valkey has it: 20 digits, to the second."""
        return max(0, int(self.at.timestamp())) * 10**10 + max(0, int(self.seen.timestamp()))


@dataclass(slots=True)
class PublishLease:
    """The right of one publisher to write, until a newer run begins; made by `begin`.

    Attributes:
        table: The table.
        run: The run that is published.
        older: Entries of older runs, which are fenced off.
        entry: The publisher's own entry in the run item; None before its first write.
        before_entry: Called once, before the first write: it waits for another publisher of the same or another run.
    """

    table: Table
    run: PublishRun
    older: frozenset[str] = frozenset()
    entry: str | None = field(default=None)
    before_entry: Callable[[], object] = bool

    @classmethod
    def begin(cls, table: Table, run: PublishRun) -> PublishLease:
        """Put the run into the run item, unless it is there.

        Raises:
            Superseded: A newer run has begun.
        """
        while True:
            item = _run_item(table)
            newest = item.get("RunID", {}).get("S", "")
            if newest == run.text:
                return cls(table, run, _older(item, run))
            if newest > run.text:
                raise Superseded(f"a newer run than {run.text} has begun to publish")
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
                continue  # another run has begun: read the item again
            return cls(table, run, _older(answer["Attributes"], run))

    @property
    def fencing(self) -> bool:
        """Return whether unchanged items have to be written too."""
        return bool(self.older)

    def enter(self) -> None:
        """Add the entry of this publisher, before its first write; later calls do nothing.

        Raises:
            Superseded: A newer run has begun.
        """
        if self.entry is not None:
            return
        self.before_entry()
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
            raise Superseded(f"a newer run than {self.run.text} has begun to publish") from None
        self.entry = entry

    def check(self) -> None:
        """Check that this run is still the newest.

        Raises:
            Superseded: A newer run has begun.
        """
        if _run_item(self.table).get("RunID") != {"S": self.run.text}:
            raise Superseded(f"a newer run than {self.run.text} has begun to publish")

    def end(self) -> None:
        """Remove the own entry, and those that were fenced off."""
        self._remove(self.older | ({self.entry} if self.entry is not None else set()))

    def give_up(self) -> None:
        """Remove the own entry alone: the run ends early, and none of its writes is on the way."""
        self._remove({self.entry} if self.entry is not None else set())

    def _remove(self, entries: Iterable[str]) -> None:
        removed = sorted(entries)
        if removed:
            self.table.call(
                "UpdateItem",
                TableName=self.table.name,
                Key=_KEY,
                UpdateExpression="DELETE Writing :removed",
                ExpressionAttributeValues={":removed": {"SS": removed}},
            )


def scores_seen(table: Table) -> datetime | None:
    """Return until when the refresh had seen the table whose scores were published last; None before the first.

    Raises:
        TableUnavailable: The table does not answer.

    >>> scores_seen(model.table).tzinfo
    datetime.timezone.utc
    """
    seen = _run_item(table).get("RunID", {}).get("S", "").rpartition(" ")[2]
    when = keys.parse_time(seen, field="seen") if seen else _NEVER
    return None if when == _NEVER else when


def _run_item(table: Table) -> Item:
    found: Item = table.call("GetItem", TableName=table.name, Key=_KEY, ConsistentRead=True).get("Item", {})
    return found


def _older(item: Item, run: PublishRun) -> frozenset[str]:
    entries = item.get("Writing", {}).get("SS", [])
    return frozenset(entry for entry in entries if entry.rpartition(" ")[0] < run.text)
