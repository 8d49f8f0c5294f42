"""Health of tools: which are failing now, fed by every recorded call and read by every suggestion.

The state of each tool of each agent is kept in Valkey, where all processes feed it, and a change of it in the table,
where it survives Valkey. Without Valkey each process watches by itself and tells the others through the table.
Only calls that ended ``ok`` or ``error`` count: what a person rejected, a policy blocked or a cache answered says
nothing about the tool. A call without a time, as imported traces may hold, says nothing about the present.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Tool, ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import CacheUnavailable, Conflict, Unavailable
from agentmodel.suggest.advise import Failing, Place
from agentmodel.suggest.detector import Health, State
from agentmodel.traces import outcome

if TYPE_CHECKING:
    from agentmodel.cache.client import Valkey

__all__ = ["HealthBook", "ToolHealth"]

_log = logging.getLogger(__name__)

_KEPT = 60 * 86_400  # seconds a state is kept in Valkey after its last call
_TRIES = 20  # of a write that others came before

Changed = Callable[[Place, Health], None]
Call = tuple[datetime, bool]  # when, and whether it failed


@dataclass(frozen=True, slots=True)
class ToolHealth:
    """One tool of one agent, as `agentmodel tools` shows it.

    Attributes:
        agent_id: The agent.
        tool_id: The tool.
        tool: Its name.
        state: ``closed`` (it works), ``open`` (it fails) or ``half-open`` (it may be tried again).
        calls: Healthy calls its baseline is made of.
        failure_share: Share of them that failed.
        since: When it began to fail.
        until: When it may be tried again.
        note: What was seen; empty while it is closed.
    """

    agent_id: str
    tool_id: str
    tool: str
    state: State
    calls: int
    failure_share: float | None
    since: datetime | None
    until: datetime | None
    note: str


class HealthBook:
    """Knows which tools fail.

    Args:
        table: The table.
        writer: Its writer.
        repository: The tools.
        valkey: The connection, or None.
        now: Gives the present time.
        settle: Called before reading: has learnt what was noted when it returns.

    Attributes:
        on_change: Called with a tool and its health after its state has changed; in an `AgentModel` from a thread of
            its own, a moment after the call was recorded.
    """

    def __init__(
        self,
        table: Table,
        *,
        writer: Writer,
        repository: Repository,
        valkey: Valkey | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._settle = settle
        self._table = table
        self._writer = writer
        self._repository = repository
        self._valkey = valkey
        self._now = now
        self._held: dict[Place, str] = {}
        self._lock = threading.Lock()
        self.on_change: list[Changed] = []

    # Fed

    def observe(self, entities: Iterable[Any]) -> None:
        """Learn from what was recorded."""
        self.learn(self.noted(entities))

    @staticmethod
    def noted(entities: Iterable[Any]) -> list[tuple[Place, Call]]:
        """What there is to learn from entities; sends nothing."""
        return [
            ((entity.agent_id, entity.tool_id), (entity.executed_at, not well))
            for entity in entities
            if isinstance(entity, ToolExecution)
            and entity.executed_at is not None
            and (well := outcome(entity.status, entity.succeeded)) is not None
        ]

    def learn(self, noted: Iterable[tuple[Place, Call]]) -> None:
        """Learn from calls; a tool whose state cannot be read or written is left out with a warning."""
        calls: dict[Place, list[Call]] = defaultdict(list)
        for place, call in noted:
            calls[place].append(call)
        for place, made in calls.items():
            made.sort(key=lambda call: call[0])
            try:
                before, after = self._learn(place, made)
                if bool(before.opened) != bool(after.opened) or before.opened < after.opened:
                    self._tell(place, after)
            except Unavailable as error:
                _log.warning("%d calls of %s %s were kept, but not all is learnt of them: %s", len(made), *place, error)

    def _learn(self, place: Place, calls: Sequence[Call]) -> tuple[Health, Health]:
        if self._valkey is not None:
            try:
                return self._learn_together(self._valkey, place, calls)
            except CacheUnavailable as error:
                _log.warning("the health of %s %s is watched by this process alone: %s", *place, error)
        with self._lock:
            before = self._read(self._held.get(place, ""), place)
            after = self._after(before, calls)
            self._held[place] = _text(after)
            return before, after

    def _learn_together(self, valkey: Valkey, place: Place, calls: Sequence[Call]) -> tuple[Health, Health]:
        """Compare and set: what others wrote meanwhile is learnt from first."""
        from agentmodel.suggest.scripts import REPLACE

        held = self._held.get(place, "")
        for _ in range(_TRIES):
            before = self._read(held, place)
            after = self._after(before, calls)
            text = _text(after)
            answer = valkey.one(REPLACE.on([self._key(valkey, place)], held, text, _KEPT))
            if answer is None or answer.decode() == text:  # the second when the first answer was lost on its way
                self._held[place] = text
                return before, after
            held = answer.decode()
        raise CacheUnavailable(f"others changed the health of {place[0]} {place[1]} {_TRIES} times in a row")

    def _after(self, health: Health, calls: Sequence[Call]) -> Health:
        for at, failed in calls:
            health = health.after(failed=failed, at=at)
        return health

    def _read(self, text: str, place: Place) -> Health:
        """A state as it is held; where nothing is, as the table knows it."""
        if text:
            return _parsed(text)
        tool = self._repository.tool(*place)
        return Health() if tool is None else _stored(tool)

    def _tell(self, place: Place, health: Health) -> None:
        """Write a change of state into the table, and tell who listens."""
        state = health.state(self._now())
        _log.warning("tool.health: %s of %s is %s: %s", place[1], place[0], state, health.note)
        self._store(place, health)
        for listener in self.on_change:
            listener(place, health)

    def _store(self, place: Place, health: Health) -> None:
        for _ in range(_TRIES):
            tool = self._table.get(Tool.at(*place), consistent=True)
            if tool is None:
                return  # not in the catalogue: Valkey knows
            tool.health = "open" if health.opened else "closed"
            tool.health_since, tool.health_until = health.since, health.half_open_at
            tool.health_note = health.note if health.opened else None
            try:
                self._writer.save(tool, existing=True)
            except Conflict:
                continue
            self._repository.changed([tool])
            return
        _log.warning("the health of %s %s is not in the table: others wrote it %d times", *place, _TRIES)

    # Read

    def health(self, places: Iterable[Place], tools: Mapping[Place, Tool]) -> dict[Place, Health]:
        """What is known of these tools; those that nothing is known of are left out.

        Args:
            places: The tools.
            tools: Their items, where Valkey knows nothing of them.
        """
        self._settle()
        wanted = sorted(set(places))
        texts = [self._held.get(place, "") for place in wanted]
        if self._valkey is not None and wanted:
            try:
                answers = self._valkey.call([("GET", self._key(self._valkey, place)) for place in wanted])
                texts = [answer.decode() if answer is not None else "" for answer in answers]
            except CacheUnavailable as error:
                _log.warning("the health of tools is that of this process and the table: %s", error)
        found = {}
        for place, text in zip(wanted, texts, strict=True):
            if text:
                found[place] = _parsed(text)
            elif place in tools:
                found[place] = _stored(tools[place])
        return found

    def failing(self, places: Iterable[Place], tools: Mapping[Place, Tool], /) -> Mapping[Place, Failing]:
        """Those of these tools that fail now; the half-open ones may be tried."""
        now = self._now()
        return {
            place: Failing(health.since, health.note)
            for place, health in self.health(places, tools).items()
            if health.state(now) == "open"
        }

    def tools(self, domain_id: str) -> list[ToolHealth]:
        """The tools of a domain with their health, failing ones first, then by name."""
        tools: list[Tool] = []
        cursor = None
        while True:
            page = self._repository.domain_tools(domain_id, limit=1000, cursor=cursor)
            tools += page
            cursor = page.cursor
            if cursor is None:
                break
        items = {(tool.agent_id, tool.tool_id): tool for tool in tools}
        known = self.health(items, items)
        rows = [self._row(tool, known[place]) for place, tool in items.items()]
        order = ("open", "half-open", "closed")
        return sorted(rows, key=lambda row: (order.index(row.state), row.tool, row.agent_id))

    def _row(self, tool: Tool, health: Health) -> ToolHealth:
        return ToolHealth(
            agent_id=tool.agent_id,
            tool_id=tool.tool_id,
            tool=tool.name,
            state=health.state(self._now()),
            calls=round(health.calls),
            failure_share=health.failures / health.calls if health.calls else None,
            since=health.since,
            until=health.half_open_at,
            note=health.note if health.opened else "",
        )

    @staticmethod
    def _key(valkey: Valkey, place: Place) -> str:
        return f"{valkey.settings.valkey_prefix}:health:{place[0]}:{place[1]}"


def _text(health: Health) -> str:
    """A state as it is held, with a mark of who wrote it: so a repeated write is known from another's equal one."""
    return f"{uuid.uuid4().hex[:12]} {json.dumps(health.as_dict(), separators=(',', ':'))}"


def _parsed(text: str) -> Health:
    return Health.of(json.loads(text.partition(" ")[2]))


def _stored(tool: Tool) -> Health:
    """What the table knows: counts of the last publish as the baseline, and whether it was open."""
    health = Health(calls=float(tool.calls or 0), failures=float(tool.errors or 0))
    if tool.health != "open" or tool.health_until is None:
        return health
    began = None if tool.health_since is None else tool.health_since.timestamp()
    return Health(
        calls=health.calls, failures=health.failures, began=began, opened=1, until=tool.health_until.timestamp()
    )
