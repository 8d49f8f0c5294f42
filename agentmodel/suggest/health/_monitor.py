"""Health of tools: fed by every recorded call, read by every suggestion and before every guarded call.

The state of each tool of each agent is kept in Valkey, where all processes update it, and each change of state is
written into the table, where it outlives Valkey. Without Valkey each process has its own states, and the others see
their changes in the table.

No one user decides for all (see `agentmodel.suggest.health._tool_state`). Each session of the anonymous user counts
as a user of its own. What is failing for one user alone is kept in Valkey, or else in this process.

Only calls that ended ``ok`` or ``error`` count: a call that a person rejected, a guard blocked or a cache answered says
nothing about the tool. Neither does a call without a time, as imported traces may have: it may be old.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from agentmodel._log import logger
from agentmodel._runtime.background import CARRIED
from agentmodel._runtime.process import renew_in_child
from agentmodel._values.names import takes_names
from agentmodel.access.pagination import every
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Tool, ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import CacheUnavailable, Conflict, Unavailable
from agentmodel.keys import id_of
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.health._cusum import Cusum, HealthState
from agentmodel.suggest.health._tool_state import Observation, ToolState, counted_user
from agentmodel.traces import outcome

if TYPE_CHECKING:
    from agentmodel.cache import Valkey

__all__ = ["Changed", "HealthMonitor", "ToolHealth"]

_log = logger(__name__)

_STATE_SECONDS = 60 * 86_400  # for which a state is kept in Valkey after its last call
_KEPT = 200  # calls of a tool that are tried again, and tools of which some are
_ATTEMPTS = 20  # of a write, while others write first
_AHEAD = timedelta(days=1)  # of the clock of whoever records: calls of later times hold a tool no longer than this
_for_everybody: ContextVar[bool] = ContextVar("for_everybody", default=False)
CARRIED.append(_for_everybody)  # recorders write, and health learns, in other threads

Changed = Callable[[ToolRef, Cusum], None]
"""Called with a tool and its health after its state has changed for everybody."""


@dataclass(frozen=True, slots=True)
class ToolHealth:
    """The health of one tool of one agent, as `agentmodel tools` shows it.

    Attributes:
        agent_id: The agent.
        tool_id: The tool.
        tool: The tool's name.
        state: ``closed`` (it works), ``open`` (it is failing) or ``half-open`` (it may be tried again).
        calls: Calls in good health, which its usual failure rate is computed from.
        failure_share: Share of them that failed, 0 to 1; None without any.
        since: When it began to fail; None while it is closed.
        until: When it may be tried again; None while it is closed.
        note: What was seen; empty while it is closed.
        failing_users: How many users it is failing for by their own calls alone, while it works for the others.

    >>> tool = model.health.tools("DMN001", user_id="USR001")[0]
    >>> tool.tool, tool.state, tool.calls, tool.note
    ('book_table', 'closed', 1, '')
    """

    agent_id: str
    tool_id: str
    tool: str
    state: HealthState
    calls: int
    failure_share: float | None
    since: datetime | None
    until: datetime | None
    note: str
    failing_users: int = 0


class HealthMonitor:
    """Notices tools that begin to fail, and knows which are failing now.

    Args:
        table: The table.
        writer: Writes into the table.
        repository: Reads the tools.
        valkey: The connection that states are shared over; None keeps them in this process.
        now: Returns the present time.
        settle: Called before states are read; when it returns, what was recorded is learned from.
        settle_failures: Called before it is read which tools are failing, which only failures can change.

    Attributes:
        on_change: Functions that are called with a tool and its health after its state has changed for everybody. In an
            `AgentModel` a background thread calls them, a moment after the call was recorded.

    >>> [(tool.tool, tool.state) for tool in model.health.tools("DMN001")]
    [('book_table', 'closed'), ('find_on_map', 'closed'), ('read_reviews', 'closed')]
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
        settle_failures: Callable[[], None] | None = None,
    ) -> None:
        self._settle = settle
        self._settle_failures = settle_failures or settle
        self._table = table
        self._writer = writer
        self._repository = repository
        self._valkey = valkey
        self._now = now
        self._states: dict[ToolRef, str] = {}
        self.on_change: list[Changed] = []
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Make the lock anew in a forked child, and leave to the parent what it keeps."""
        self._lock = threading.Lock()
        self._kept: dict[ToolRef, list[Observation]] = {}  # calls of tools whose state could not be updated

    # Learn

    @contextmanager
    def for_everybody(self) -> Iterator[None]:
        """Let calls that are recorded in this block count for everybody; else failures of one user never do alone.

            with model.health.for_everybody(), model.session("USRmonitor") as session:
                check_every_tool(session)

        Use it for calls of an operator, such as those of a health check. It holds for what this thread or task
        records, also in the background.

        >>> from agentmodel import Agent, Domain, Tool
        >>> domain = Domain(domain_id="DMN921", name="Weather")
        >>> agent = Agent(agent_id="AGT921", domain_id="DMN921", name="sky")
        >>> tool = Tool(agent_id="AGT921", tool_id="TL1", domain_id="DMN921", name="forecast")
        >>> model.repository.put(domain, agent, tool)
        >>> with model.health.for_everybody(), model.session("USRmonitor") as session:
        ...     with session.process("check") as process:
        ...         for _ in range(20):
        ...             with process.call("AGT921", "TL1") as call:
        ...                 call.fail("503", error_type="HTTPError")
        >>> [(tool.tool, tool.state) for tool in model.health.tools("DMN921")]
        [('forecast', 'open')]
        """
        outer = _for_everybody.set(True)
        try:
            yield
        finally:
            _for_everybody.reset(outer)

    @staticmethod
    def calls_in(entities: Iterable[Any]) -> list[tuple[ToolRef, Observation]]:
        """Return the calls among recorded entities that say something about a tool's health; asks no store."""
        everybody = _for_everybody.get()
        return [
            (
                ToolRef(call["agent_id"], call["tool_id"]),
                Observation(
                    call["executed_at"],
                    not succeeded,
                    None if everybody else counted_user(call["user_id"], call["session_id"]),
                ),
            )
            for entity in entities
            if isinstance(entity, ToolExecution)
            and (call := entity.attribute_values)["executed_at"] is not None
            and (succeeded := outcome(call["status"], call["succeeded"])) is not None
        ]

    def learn(self, calls: Iterable[tuple[ToolRef, Observation]]) -> None:
        """Update the states of tools by their calls.

        A tool whose state cannot be read or written is left as it is, with a warning. This process keeps its last
        `_KEPT` calls, and tries them again with the next ones of any tool.

        Args:
            calls: The tools, each with a call as `calls_in` returns it.

        >>> from datetime import UTC, datetime
        >>> from agentmodel import ToolExecution
        >>> call = ToolExecution(
        ...     user_id="USR323", session_id="SESS1", process_id="PRC001", agent_id="AGT923", tool_id="TL1",
        ...     tool_name="fares", succeeded=True, status="ok", executed_at=datetime.now(UTC),
        ... )
        >>> model.health.learn(model.health.calls_in([call]))  # what an AgentModel does by itself with what is recorded
        """
        with self._lock:
            kept, self._kept = self._kept, {}
        by_tool: dict[ToolRef, list[Observation]] = defaultdict(list, kept)
        latest = self._now() + _AHEAD
        for tool_ref, call in calls:
            by_tool[tool_ref].append(call._replace(at=min(call.at, latest)))
        for tool_ref, observed in by_tool.items():
            observed.sort(key=lambda call: call.at)
            updated = False
            try:
                before, after = self._update(tool_ref, observed)
                updated = True
                old, new = before.everybody, after.everybody
                if bool(old.opened) != bool(new.opened) or old.opened < new.opened:
                    self._state_changed(tool_ref, new)
                elif sum(one.opened for one in before.users.values()) < sum(one.opened for one in after.users.values()):
                    _log.warning("tool.health: %s of %s began to fail for one user alone", tool_ref[1], tool_ref[0])
            except Unavailable as error:
                if not updated and len(self._kept) < _KEPT:
                    with self._lock:
                        self._kept[tool_ref] = observed[-_KEPT:]
                if updated or tool_ref not in kept:  # of the others it was logged
                    _log.warning(
                        "updating the health of %s of %s from %d calls failed: %s",
                        tool_ref[1],
                        tool_ref[0],
                        len(observed),
                        error,
                    )

    def _update(self, tool_ref: ToolRef, calls: Sequence[Observation]) -> tuple[ToolState, ToolState]:
        """Update a state, in Valkey or else in this process; the state before and after."""
        if self._valkey is not None:
            try:
                return self._update_shared(self._valkey, tool_ref, calls)
            except CacheUnavailable as error:
                _log.warning(
                    "Valkey does not answer; this process alone keeps the health of %s of %s: %s",
                    tool_ref[1],
                    tool_ref[0],
                    error,
                )
        with self._lock:
            before = self._read(self._states.get(tool_ref, ""), tool_ref)
            after = _after(before, tool_ref, calls)
            self._states[tool_ref] = after.as_text()
            return before, after

    def _update_shared(
        self, valkey: Valkey, tool_ref: ToolRef, calls: Sequence[Observation]
    ) -> tuple[ToolState, ToolState]:
        """Compare and set: where another process wrote first, its state is the one that is updated."""
        known = self._states.get(tool_ref) or self._shared_texts(valkey, [tool_ref])[0]
        for _ in range(_ATTEMPTS):
            before = self._read(known, tool_ref)
            after = _after(before, tool_ref, calls)
            text = after.as_text()
            answer = valkey.compare_and_set(self._key(valkey, tool_ref), known, text, seconds=_STATE_SECONDS)
            if answer is None or answer == text:  # the latter where the first answer was lost and the write repeated
                self._states[tool_ref] = text
                return before, after
            known = answer
        raise CacheUnavailable(
            f"other processes changed the health of {tool_ref[1]} of {tool_ref[0]} {_ATTEMPTS} times in a row"
        )

    def _read(self, text: str, tool_ref: ToolRef) -> ToolState:
        """Return a state from its text, or as the table has it where there is no text."""
        known = ToolState.from_text(text)
        if known is not None:
            return known
        tool = self._repository.tool(*tool_ref)
        return ToolState() if tool is None else ToolState.from_table(tool)

    def _state_changed(self, tool_ref: ToolRef, health: Cusum) -> None:
        """Call the listeners, and write a change of state into the table, which may not answer."""
        state = health.state(self._now())
        _log.warning("tool.health: %s of %s became %s: %s", tool_ref[1], tool_ref[0], state, health.note)
        for listener in self.on_change:
            listener(tool_ref, health)
        self._store(tool_ref, health)

    def _store(self, tool_ref: ToolRef, health: Cusum) -> None:
        for _ in range(_ATTEMPTS):
            tool = self._table.get(Tool.at(*tool_ref), consistent=True)
            if tool is None:
                return  # it is not in the catalogue; Valkey has its state
            tool.health = "open" if health.opened else "closed"
            tool.health_since, tool.health_until = health.since, health.half_open_at
            tool.health_note = health.note if health.opened else None
            try:
                self._writer.save(tool, existing=True)
            except Conflict:
                continue
            self._repository.invalidate([tool])
            return
        _log.warning(
            "the health of %s of %s was not written into the table: others wrote the item %d times",
            tool_ref[1],
            tool_ref[0],
            _ATTEMPTS,
        )

    # Erase

    @takes_names
    def forget_user(self, user_id: str) -> int:
        """Drop what the states have of one user, in Valkey and in this process; the counts of all users stay.

        Returns:
            How many states in Valkey had something of the user.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        with self._lock:
            for tool_ref, text in list(self._states.items()):
                self._states[tool_ref] = _without(text, [tool_ref], user_id) or text
            for tool_ref, calls in self._kept.items():
                self._kept[tool_ref] = [call for call in calls if call.user != user_id]
        valkey = self._valkey
        if valkey is None:
            return 0
        prefix = self._key(valkey, ToolRef("", "")).removesuffix(":")
        return sum(self._forget_shared(valkey, name, prefix, user_id) for name in sorted(valkey.scan(f"{prefix}*")))

    @staticmethod
    def _forget_shared(valkey: Valkey, name: str, prefix: str, user_id: str) -> bool:
        """Drop a user from one state, by compare and set; return whether it had something of the user."""
        ids = name.removeprefix(prefix)  # ids may have colons too
        refs = [ToolRef(ids[: each.start()], ids[each.start() + 1 :]) for each in re.finditer(":TL", ids)]
        found = valkey.execute(("GET", name))
        text = "" if found is None else found.decode(errors="replace")
        for _ in range(_ATTEMPTS):
            wanted = _without(text, refs, user_id)
            if wanted is None:
                return False
            answer = valkey.compare_and_set(name, text, wanted, seconds=_STATE_SECONDS)
            if answer is None or answer == wanted:
                return True
            text = answer
        raise CacheUnavailable(f"other processes changed {name} {_ATTEMPTS} times in a row: erase again")

    # Read

    def health(
        self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], *, user_id: str | None = None
    ) -> dict[ToolRef, Cusum]:
        """Return the states of tools; a tool without calls, of which there is no item, is left out.

        Args:
            tool_refs: The tools.
            tools: Their items, which are used where Valkey has no state.
            user_id: The user they are asked for, or the session of an anonymous one; without it, the states for
                everybody are returned.

        >>> tool = model.repository.tool("AGT001", "TL001")
        >>> ref = ToolRef("AGT001", "TL001")
        >>> [state.opened for state in model.health.health([ref], {ref: tool}).values()]  # it never began to fail
        [0]
        """
        self._settle()
        return self._states_for(tool_refs, tools, user_id)

    def health_by_failures(
        self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], *, user_id: str | None = None
    ) -> dict[ToolRef, Cusum]:
        """Return the same as `health`, for who asks whether a tool is failing: it waits for recorded failures only.

        No success makes a tool fail. One has a tool tried again only once its time has come, which ends the waiting
        anyway; where the clock of who recorded it is ahead, it is waited for, too.

        >>> ref = ToolRef("AGT002", "TL002")
        >>> [state.opened for state in model.health.health_by_failures([ref], {}).values()]
        [0]
        """
        self._settle_failures()
        return self._states_for(tool_refs, tools, user_id)

    def _states_for(
        self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], user_id: str | None
    ) -> dict[ToolRef, Cusum]:
        now, user = self._now(), _whose(user_id)
        states = self._read_states(tool_refs, tools)
        return {tool_ref: state.of(tool_ref, user, now) for tool_ref, state in states.items()}

    def _read_states(self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool]) -> dict[ToolRef, ToolState]:
        wanted = sorted(set(tool_refs))
        texts = [self._states.get(tool_ref, "") for tool_ref in wanted]
        if self._valkey is not None and wanted:
            try:
                texts = self._shared_texts(self._valkey, wanted)
            except CacheUnavailable as error:
                _log.warning(
                    "Valkey does not answer; the health of tools was read from this process and the table: %s", error
                )
        found = {}
        for tool_ref, text in zip(wanted, texts, strict=True):
            known = ToolState.from_text(text)
            if known is not None:
                found[tool_ref] = known
            elif tool_ref in tools:
                found[tool_ref] = ToolState.from_table(tools[tool_ref])
        return found

    def failing(
        self, tool_refs: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], /, *, user_id: str | None = None
    ) -> Mapping[ToolRef, Failing]:
        """Return those of these tools that are failing now; half-open ones may be tried, and are left out.

        Args:
            tool_refs: The tools.
            tools: Their items, which are used where Valkey has no state.
            user_id: The user they are asked for, as for `health`.

        >>> tool = model.repository.tool("AGT001", "TL001")
        >>> ref = ToolRef("AGT001", "TL001")
        >>> model.health.failing([ref], {ref: tool})
        {}
        """
        now = self._now()
        return {
            tool_ref: Failing(
                health.since, health.note, health.run_failures, health.run_calls, health.usual_share, health.own
            )
            for tool_ref, health in self.health_by_failures(tool_refs, tools, user_id=user_id).items()
            if health.state(now) == "open"
        }

    def tools(self, domain_id: str, *, user_id: str | None = None) -> list[ToolHealth]:
        """Return the tools of a domain with their health, failing ones first, then by name.

        Args:
            domain_id: The domain.
            user_id: The user they are asked for, as for `health`.

        >>> [(tool.tool, tool.state) for tool in model.health.tools("DMN001", user_id="USR001")]
        [('book_table', 'closed'), ('find_on_map', 'closed'), ('read_reviews', 'closed')]
        """
        self._settle()
        tools = every(partial(self._repository.domain_tools, domain_id), limit=1000)
        items = {ToolRef(tool.agent_id, tool.tool_id): tool for tool in tools}
        now, states, user = self._now(), self._read_states(items, items), _whose(user_id)
        rows = [
            self._row(tool, states[ref].of(ref, user, now), states[ref].failing_users(now))
            for ref, tool in items.items()
        ]
        order = ("open", "half-open", "closed")
        return sorted(rows, key=lambda row: (order.index(row.state), row.tool, row.agent_id))

    def _row(self, tool: Tool, health: Cusum, failing_users: int) -> ToolHealth:
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
            failing_users=failing_users,
        )

    def _shared_texts(self, valkey: Valkey, tool_refs: Sequence[ToolRef]) -> list[str]:
        """Return what Valkey has of the tools; a text that is no state is a state that nobody knows."""
        answers = valkey.execute_many(self._gets(valkey, tool_refs))
        return ["" if answer is None else answer.decode(errors="replace") for answer in answers]

    def reads(self, tool_refs: Iterable[ToolRef]) -> list[tuple[Any, ...]]:
        """Return the commands by which `failing` reads Valkey, to be sent ahead of it; see `HealthReads`."""
        self._settle_failures()
        return [] if self._valkey is None else self._gets(self._valkey, sorted(set(tool_refs)))

    def _gets(self, valkey: Valkey, tool_refs: Iterable[ToolRef]) -> list[tuple[Any, ...]]:
        return [("GET", self._key(valkey, tool_ref)) for tool_ref in tool_refs]

    @staticmethod
    def _key(valkey: Valkey, tool_ref: ToolRef) -> str:
        return f"{valkey.settings.valkey_prefix}:health:{tool_ref[0]}:{tool_ref[1]}"


def _whose(user_id: str | None) -> str | None:
    """Return the id of a user who is given by id or name; the session of an anonymous one stays."""
    return user_id if user_id is None or user_id.startswith("SESS") else id_of("USR", user_id, field="user_id")


def _without(text: str, tool_refs: Iterable[ToolRef], user_id: str) -> str | None:
    """Return the text of a state without one user; None if it has nothing of the user."""
    before = state = ToolState.from_text(text)
    for tool_ref in tool_refs:
        state = None if state is None else state.without(tool_ref, user_id)
    return None if state is None or state == before else state.as_text()


def _after(state: ToolState, tool_ref: ToolRef, calls: Sequence[Observation]) -> ToolState:
    for call in calls:
        state = state.after(tool_ref, call)
    return state
