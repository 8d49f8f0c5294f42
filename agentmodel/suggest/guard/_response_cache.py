"""Response cache: a repeated call of a read-only tool gets the result of the earlier call.

A cached result is valid for exactly the same arguments (as JSON), the same versions of agent and tool, and the same
user. Only tools that are marked read-only (``ReadOnlyYN``) are cached. Every call of another tool outdates the results
of its user, but for those that it is known to leave as they are (`_write_effects`). When a tool begins to fail, all its
cached results are dropped. The anonymous user is many people, so its calls are answered from the cache only where the
tool's results are everybody's. Results are kept in Valkey alone, for a limited time; without Valkey every call is made.
A result in which something would be redacted is not cached.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from agentmodel._erasure_marks import erasing_key, user_key
from agentmodel._log import logger
from agentmodel._values.names import takes_names
from agentmodel.access.recorder import ProcessRecorder
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Agent, Tool, ToolExecution
from agentmodel.exceptions import AgentModelError, CacheUnavailable, ValidationError
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.guard._write_effects import (
    ANY,
    Ended,
    KindCounts,
    WriteMark,
    are_harmless,
    kinds_between,
    learned,
    values_of,
)
from agentmodel.suggest.health import Cusum
from agentmodel.suggest.review import canonical

if TYPE_CHECKING:
    from agentmodel.cache import Valkey

__all__ = ["CacheLookup", "CacheScope", "ResponseCache"]

_log = logger(__name__)

CacheScope = Literal["user", "everybody"]
"""Who gets a cached result: the user whose call it was, unless nobody knows who that is, or every user (for a tool that
does not depend on the user)."""

_MAX_BYTES = 256 * 1024  # size of the largest result that is cached
_EPOCH_SECONDS = 90 * 86_400  # longer than any result is cached
_DAY = 86_400  # for which the marks of writes are kept, or for as long as results
_MOST_MARKS = 256  # of a user
_COUNTS_SECONDS = 30 * _DAY  # then it is learned anew what a tool changes
_BEGINNING = "0-0"  # before the first mark
_ANY_WRITE = WriteMark(ANY, frozenset(), "began")


@dataclass(frozen=True, slots=True)
class Write:
    """A recorded call of a tool that may write.

    Attributes:
        user_id: The user.
        ref: Agent and tool.
        values: Its arguments, as text of JSON.
        ended: How it ended.
    """

    user_id: str
    ref: ToolRef
    values: str | None
    ended: Ended


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """What the cache has for a call, and where the result of the call is to be cached.

    Attributes:
        hit: Whether the result is cached.
        result: The cached result.
        name: Key of the result in Valkey; None if this tool's results are not cached.
        epoch: Epoch of the tool's results at the lookup. A failure begins a new epoch, and the result of a call that
            was made before it is not cached after it.
        whose: Digest of the id of the user whose call it is, by which an erasure finds the result.
        at: The last mark of a write of the user at the lookup.
        outdated: The result that is cached and may be outdated by writes; None if there is none.

    >>> looked = model.response_cache.look("AGT002", "TL002", {"place": "hill"}, user_id="USR264")
    >>> looked.hit, model.response_cache.keep(looked, ["a café"])
    (False, True)
    >>> model.response_cache.look("AGT002", "TL002", {"place": "hill"}, user_id="USR264").result
    ['a café']
    """

    hit: bool
    result: Any = None
    name: str | None = None
    epoch: str = "0"
    whose: str = ""
    at: str = _BEGINNING
    outdated: Outdated | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """A cached result that is not given again because the user wrote since; the next result says what that changed.

    Attributes:
        result: The result.
        kinds: Kinds of calls since, of `kinds_between`.
        counts: Counts of the read, by kind.
        name: Key of the counts in Valkey.
    """

    result: Any
    kinds: Mapping[str, bool]
    counts: Mapping[str, KindCounts]
    name: str


class ResponseCache:
    """Caches results of read-only tools.

    Args:
        repository: The catalogue.
        valkey: Keeps the results; None caches nothing.
        seconds: How long they are kept.
        settle: Called before each lookup; when it returns, the health of tools includes every recorded call.

    >>> cache = ResponseCache(model.repository, valkey=model.valkey, seconds=60)
    >>> looked = cache.look("AGT002", "TL002", {"place": "pier"}, user_id="USR265")
    >>> cache.keep(looked, ["a café"])
    True
    >>> cache.look("AGT002", "TL002", {"place": "pier"}, user_id="USR265").hit
    True
    """

    def __init__(
        self,
        repository: Repository,
        *,
        valkey: Valkey | None,
        seconds: int = 3600,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 < seconds <= _EPOCH_SECONDS:
            raise ValidationError("seconds", seconds, f"must be a number from 1 to {_EPOCH_SECONDS}")
        self._settle = settle
        self._repository = repository
        self._valkey = valkey
        self._seconds = seconds
        self._unmarked: set[str] = set()  # users with a write that Valkey does not know of

    def call(
        self,
        process: ProcessRecorder,
        agent_id: str,
        tool_id: str,
        make: Callable[[], Any],
        *,
        arguments: Any = None,
        scope: CacheScope = "user",
    ) -> Any:
        """Return the cached result of a call, or else make the call; record it in both cases.

        A call that is answered from the cache is recorded with status ``cache_hit``, which no score counts.

        Args:
            process: The step.
            agent_id: The agent that calls.
            tool_id: The tool.
            make: Makes the call and returns its result.
            arguments: Arguments of the call; JSON.
            scope: Who gets the cached result.

        Raises:
            ValidationError: The arguments are not JSON.

        >>> cache = model.response_cache
        >>> with model.session("USR266") as session, session.process("ask visitors") as process:
        ...     first = cache.call(process, "AGT002", "TL002", lambda: ["a café"], arguments={"place": "mill"})
        ...     again = cache.call(process, "AGT002", "TL002", lambda: ["not called"], arguments={"place": "mill"})
        >>> again, [call.status for call in model.repository.session_history("USR266", session.session_id).executions]
        (['a café'], ['ok', 'cache_hit'])
        """
        user_id = process.entity.user_id
        found = self.look(agent_id, tool_id, arguments, user_id=user_id, scope=scope)
        with process.call(agent_id, tool_id, values=arguments) as call:
            if found.hit:
                call.mark("cache_hit")
                call.result = found.result
            else:
                call.result = make()
        if not found.hit:
            self.keep(found, call.result)
        return call.result

    @takes_names
    def look(
        self,
        agent_id: str,
        tool_id: str,
        arguments: Any,
        *,
        user_id: str,
        scope: CacheScope = "user",
        tool: Tool | None = None,
        agent: Agent | None = None,
    ) -> CacheLookup:
        """Look up the result of a call.

        Args:
            agent_id: The agent that calls.
            tool_id: The tool.
            arguments: Arguments of the call; JSON.
            user_id: The user of the session.
            scope: Who gets the cached result.
            tool: The tool's item; read when not given.
            agent: The agent's item; read when not given.

        Raises:
            ValidationError: The arguments are not JSON.
        """
        valkey = self._valkey
        tool = self._repository.tool(agent_id, tool_id) if tool is None else tool
        text = canonical(arguments)
        shares_none = scope == "user" and user_id == ANONYMOUS
        if valkey is None or tool is None or not tool.read_only or shares_none:
            return CacheLookup(hit=False)
        self._settle()
        agent = self._repository.agent(agent_id) if agent is None else agent
        spec = canonical([tool.spec, tool.description, tool.name])
        versions = [None if agent is None else agent.revision, tool.revision, spec]
        prefix = self._prefix(valkey, ToolRef(agent_id, tool_id))

        def name(whose: str | None) -> str:
            digest = hashlib.sha256(canonical([agent_id, tool_id, versions, whose, text]).encode()).hexdigest()
            return f"{prefix}:{digest}"

        own, whose = name(user_id), user_key(user_id)
        names = [own] if scope == "user" else [own, name(None)]
        try:
            if user_id in self._unmarked:
                self._mark(valkey, {user_id: [_ANY_WRITE]})
            marks_of = ("XRANGE", self._marks_name(valkey, user_id), "-", "+")
            epoch, stream, *stored = valkey.execute_many(
                [("GET", prefix), marks_of, *(("GET", each) for each in names)]
            )
            now = "0" if epoch is None else epoch.decode(errors="replace")
            marks = _Marks.of(stream)
            values = values_of(arguments)
            counts_name = f"{valkey.settings.valkey_prefix}:answers-effects:{_named(tool, agent_id, tool_id)}"
            looked = CacheLookup(hit=False, name=own, epoch=now, whose=whose, at=marks.last)
            if scope == "everybody":
                # What others read may be older than the user's own writes: from then on, the user has results apart.
                kinds = marks.kinds(_BEGINNING, values)
                if kinds is not None and are_harmless(kinds, self._counts(valkey, counts_name, kinds)):
                    kept = _valid(stored[1], now)
                    looked = replace(looked, name=names[1])
                    return looked if kept is None else replace(looked, hit=True, result=kept["result"])
            kept = _valid(stored[0], now)
            kinds = None if kept is None else marks.kinds(kept.get("at"), values)
            if kept is None or kinds is None:
                return looked
            counts = self._counts(valkey, counts_name, kinds)
        except CacheUnavailable:
            return CacheLookup(hit=False)
        if are_harmless(kinds, counts):
            return replace(looked, hit=True, result=kept["result"])
        return replace(looked, outdated=Outdated(kept["result"], kinds, counts, counts_name))

    def keep(self, looked: CacheLookup, result: Any) -> bool:
        """Cache the result of a call that was looked up; return whether it is cached."""
        if looked.name is None or self._valkey is None:
            return False
        try:
            entry = {"epoch": looked.epoch, "whose": looked.whose, "at": looked.at, "result": result}
            text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
            if len(text.encode()) > _MAX_BYTES or json.loads(text)["result"] != result:
                return False  # JSON does not give back the same result
            if self._repository.redaction.text(text) != text:
                return False  # redacted, it would not be the tool's result
        except Exception:  # noqa: BLE001  # not JSON; code of the result may raise anything
            return False
        try:
            erasing = erasing_key(self._valkey.settings.valkey_prefix, looked.whose)
            commands = [
                ("SET", looked.name, text, "EX", self._seconds),
                ("EXISTS", erasing),
                *_counting(looked, result),
            ]
            if not self._valkey.execute_many(commands)[1]:
                return True
            self._valkey.delete([looked.name])  # its user is being erased
        except CacheUnavailable:
            return False
        return False

    @takes_names
    def forget(self, agent_id: str, tool_id: str) -> None:
        """Drop all cached results of a tool.

        >>> model.response_cache.forget("AGT002", "TL002")
        """
        if self._valkey is None:
            return
        name = self._prefix(self._valkey, ToolRef(agent_id, tool_id))
        try:
            self._valkey.execute(("SET", name, secrets.token_hex(8), "EX", _EPOCH_SECONDS))
        except CacheUnavailable as error:
            _log.warning(
                "response cache: dropping the cached results of %s of %s failed; they stay until they expire: %s",
                tool_id,
                agent_id,
                error,
            )

    def health_changed(self, ref: ToolRef, health: Cusum) -> None:
        """Drop the cached results of a tool that begins to fail; a listener of `HealthMonitor.on_change`."""
        if health.opened:
            self.forget(*ref)

    # Writes

    @takes_names
    def begins(self, user_id: str, tool: Tool | None, ref: ToolRef, arguments: Any, *, exact: bool) -> None:
        """Note that a user's call of a tool that may write is about to be made; never raises.

        From then on, results of earlier calls of the user are given only where this call is known to change nothing.

        Args:
            user_id: The user.
            tool: The tool's item, if it has one.
            ref: Agent and tool.
            arguments: Arguments of the call; JSON.
            exact: Whether the call is made with exactly these.
        """
        mark = self._begun(tool, ref, arguments, exact=exact)
        if self._valkey is not None and mark is not None:
            self._note(self._valkey, {user_id: [mark]})

    @takes_names
    def marks(
        self, user_id: str, tool: Tool | None, ref: ToolRef, arguments: Any, *, exact: bool
    ) -> list[tuple[Any, ...]]:
        """Return the commands by which `begins` marks the call, to be sent ahead of it; see `Valkey.prefetched`."""
        mark = self._begun(tool, ref, arguments, exact=exact)
        return [] if self._valkey is None or mark is None else self._marking(self._valkey, {user_id: [mark]})

    @staticmethod
    def _begun(tool: Tool | None, ref: ToolRef, arguments: Any, *, exact: bool) -> WriteMark | None:
        """Return the mark of a call that begins; None if its tool only reads."""
        if tool is not None and tool.read_only:
            return None
        return WriteMark(_named(tool, *ref), values_of(arguments), "began") if exact else _ANY_WRITE

    @staticmethod
    def writes_in(entities: Iterable[Any]) -> list[Write]:
        """Return the calls among recorded entities that may have written, those of the last day; asks no store."""
        now = datetime.now(UTC)
        return [
            Write(
                call["user_id"],
                ToolRef(call["agent_id"], call["tool_id"]),
                call["values"],
                "ok" if call["succeeded"] else "failed",
            )
            for entity in entities
            if isinstance(entity, ToolExecution)
            and (call := entity.attribute_values)["status"] in (None, "ok", "error", "edited", "interrupted")
            and (call["executed_at"] is None or (now - call["executed_at"]).total_seconds() < _DAY)
        ]

    def learn(self, writes: Iterable[Write]) -> None:
        """Note that these calls ended; those of tools that are marked read-only are passed over. Never raises.

        Args:
            writes: The calls, of `writes_in`.
        """
        if self._valkey is None:
            return
        tools: dict[ToolRef, Tool | None] = {}
        marks: dict[str, list[WriteMark]] = defaultdict(list)
        for write in writes:
            if write.ref not in tools:
                try:
                    tools[write.ref] = self._repository.tool(*write.ref)
                except AgentModelError:  # it counts as one that writes
                    tools[write.ref] = None
            tool = tools[write.ref]
            if tool is None or not tool.read_only:
                marks[write.user_id].append(self._ended(tool, write))
        if marks:
            self._note(self._valkey, marks)

    def _ended(self, tool: Tool | None, write: Write) -> WriteMark:
        """Return the mark of a recorded call; of any write, where its arguments were cut or redacted."""
        try:
            arguments = None if write.values is None else json.loads(write.values)
        except (ValueError, RecursionError):
            return _ANY_WRITE
        if self._repository.redaction.active:
            return _ANY_WRITE
        return WriteMark(_named(tool, *write.ref), values_of(arguments), write.ended)

    def _note(self, valkey: Valkey, marks: Mapping[str, Sequence[WriteMark]]) -> None:
        try:
            self._mark(valkey, marks)
        except CacheUnavailable as error:
            self._unmarked.update(marks)
            _log.warning(
                "response cache: Valkey did not store that %d users wrote; this process gives them no cached result "
                "until it does: %s",
                len(marks),
                error,
            )

    def _mark(self, valkey: Valkey, marks: Mapping[str, Sequence[WriteMark]]) -> None:
        valkey.execute_many(self._marking(valkey, marks))
        self._unmarked.difference_update(marks)

    def _marking(self, valkey: Valkey, marks: Mapping[str, Sequence[WriteMark]]) -> list[tuple[Any, ...]]:
        commands: list[tuple[Any, ...]] = []
        for user_id, own in marks.items():
            name = self._marks_name(valkey, user_id)
            for mark in dict.fromkeys(own):
                fields = ("tool", mark.tool, "values", ",".join(sorted(mark.values)), "ended", mark.ended)
                commands.append(("XADD", name, "MAXLEN", _MOST_MARKS, "*", *fields))
            commands.append(("EXPIRE", name, max(self._seconds, _DAY)))
        return commands

    @staticmethod
    def _marks_name(valkey: Valkey, user_id: str) -> str:
        return f"{valkey.settings.valkey_prefix}:answers-writes:{user_key(user_id)}"

    @staticmethod
    def _counts(valkey: Valkey, name: str, kinds: Mapping[str, bool]) -> dict[str, KindCounts]:
        """Return what is known of these kinds of calls; Valkey is asked if there are any."""
        if not kinds:
            return {}
        fields = [(kind, count) for kind in kinds for count in ("same", "changed", "alone")]
        found = valkey.execute(("HMGET", name, *(f"{count}:{kind}" for kind, count in fields)))
        counts = {kind: KindCounts() for kind in kinds}
        try:
            for (kind, count), number in zip(fields, found, strict=True):
                setattr(counts[kind], count, 0 if number is None else int(number))
        except ValueError:  # damaged: it is counted anew
            valkey.delete([name])
            return {kind: KindCounts() for kind in kinds}
        return counts

    @staticmethod
    def _prefix(valkey: Valkey, ref: ToolRef) -> str:
        return f"{valkey.settings.valkey_prefix}:answers:{{{ref.agent_id}:{ref.tool_id}}}"


@dataclass(frozen=True, slots=True)
class _Marks:
    """The marks of a user, oldest first, each with its id in the stream."""

    marks: Sequence[tuple[str, WriteMark]]

    @classmethod
    def of(cls, stream: Any) -> _Marks:
        """Return the marks in a stream, as `ResponseCache` writes them."""
        return cls([(number.decode(), _mark_of(fields)) for number, fields in stream or ()])

    @property
    def last(self) -> str:
        """Return the id of the newest mark."""
        return self.marks[-1][0] if self.marks else _BEGINNING

    def kinds(self, after: str | None, values: frozenset[str]) -> dict[str, bool] | None:
        """Return the kinds of calls after a mark, seen from a read with these values; None if that is not known.

        It is not known where the mark is gone, because there were more marks than are kept.
        """
        ids = [number for number, _ in self.marks]
        if after == _BEGINNING:
            start = 0 if len(ids) < _MOST_MARKS else None
        else:
            start = ids.index(after) + 1 if after in ids else None
        return None if start is None else kinds_between((mark for _, mark in self.marks[start:]), values)


def _mark_of(fields: Mapping[bytes, bytes]) -> WriteMark:
    """Return the mark that an entry of the stream is; a damaged one may be any write."""
    try:
        tool, values, end = (fields[name].decode() for name in (b"tool", b"values", b"ended"))
    except (KeyError, UnicodeDecodeError):
        return _ANY_WRITE
    ended: Ended = "ok" if end == "ok" else "failed" if end == "failed" else "began"
    return WriteMark(tool, frozenset(values.split(",")) - {""}, ended)


def _named(tool: Tool | None, agent_id: str, tool_id: str) -> str:
    """Return what a tool is counted as: tools of one name in a domain are one, whoever calls them."""
    return f"{agent_id}:{tool_id}" if tool is None else f"{tool.domain_id}:{tool.name}"


def _counting(looked: CacheLookup, result: Any) -> list[tuple[Any, ...]]:
    """Return the commands that count what a new result says about the writes since the outdated one."""
    old = looked.outdated
    if old is None:
        return []
    found = learned(old.kinds, old.counts, changed=old.result != result)
    commands: list[tuple[Any, ...]] = [("HINCRBY", old.name, f"{count}:{kind}", 1) for kind, count in found]
    return [*commands, ("EXPIRE", old.name, _COUNTS_SECONDS)] if commands else []


def _valid(stored: bytes | None, epoch: str) -> dict[str, Any] | None:
    """Return a cached result with what was kept with it; None if it is of an earlier epoch."""
    kept = None if stored is None else _entry(stored)
    return kept if kept is not None and kept["epoch"] == epoch else None


def _entry(data: bytes) -> dict[str, Any] | None:
    """Return a cached result with its epoch; None if the bytes are not what `ResponseCache.keep` wrote."""
    try:
        entry = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and {"epoch", "result"} <= entry.keys() else None
