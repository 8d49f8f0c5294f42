"""Response cache: a repeated call of a read-only tool gets the result of the earlier call.

A cached result is valid for exactly the same arguments (as JSON), the same versions of agent and tool, and the same
user. Only tools that are marked read-only (``ReadOnlyYN``) are cached. When a tool begins to fail, all its cached
results are dropped. The anonymous user is many people, so its calls are answered from the cache only where the tool's
results are everybody's. Results are kept in Valkey alone, for a limited time; without Valkey every call is made. A
result in which something would be redacted is not cached.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentmodel._erasure_marks import erasing_key, user_key
from agentmodel._log import logger
from agentmodel._names import takes_names
from agentmodel.access.recorder import ProcessRecorder
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.exceptions import CacheUnavailable, ValidationError
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.health import Cusum
from agentmodel.suggest.review import canonical

if TYPE_CHECKING:
    from agentmodel.cache.valkey import Valkey

__all__ = ["CacheLookup", "CacheScope", "ResponseCache"]

_log = logger(__name__)

CacheScope = Literal["user", "everybody"]
"""Who gets a cached result: the user whose call it was, unless nobody knows who that is, or every user (for a tool that
does not depend on the user)."""

_MAX_BYTES = 256 * 1024  # size of the largest result that is cached
_EPOCH_SECONDS = 90 * 86_400  # longer than any result is cached


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
    """

    hit: bool
    result: Any = None
    name: str | None = None
    epoch: str = "0"
    whose: str = ""


class ResponseCache:
    """Caches results of read-only tools.

    Args:
        repository: The catalogue.
        valkey: Keeps the results; None caches nothing.
        seconds: How long they are kept.
        settle: Called before each lookup; when it returns, the health of tools includes every recorded call.
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
        whose = user_id if scope == "user" else None
        digest = hashlib.sha256(canonical([agent_id, tool_id, versions, whose, text]).encode()).hexdigest()
        prefix = self._prefix(valkey, ToolRef(agent_id, tool_id))
        name = f"{prefix}:{digest}"
        try:
            epoch, stored = valkey.execute_many([("GET", prefix), ("GET", name)])
        except CacheUnavailable:
            return CacheLookup(hit=False)
        now = "0" if epoch is None else epoch.decode(errors="replace")
        kept = None if stored is None else _entry(stored)
        if kept is not None and kept["epoch"] == now:
            return CacheLookup(hit=True, result=kept["result"], name=name, epoch=now)
        return CacheLookup(hit=False, name=name, epoch=now, whose=user_key(user_id))

    def keep(self, looked: CacheLookup, result: Any) -> bool:
        """Cache the result of a call that was looked up; return whether it is cached."""
        if looked.name is None or self._valkey is None:
            return False
        try:
            entry = {"epoch": looked.epoch, "whose": looked.whose, "result": result}
            text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
            if len(text.encode()) > _MAX_BYTES or json.loads(text)["result"] != result:
                return False  # JSON does not give back the same result
            if self._repository.redaction.text(text) != text:
                return False  # redacted, it would not be the tool's result
        except Exception:  # noqa: BLE001  # not JSON; code of the result may raise anything
            return False
        try:
            erasing = erasing_key(self._valkey.settings.valkey_prefix, looked.whose)
            commands = [("SET", looked.name, text, "EX", self._seconds), ("EXISTS", erasing)]
            if not self._valkey.execute_many(commands)[1]:
                return True
            self._valkey.delete([looked.name])  # its user is being erased
        except CacheUnavailable:
            return False
        return False

    @takes_names
    def forget(self, agent_id: str, tool_id: str) -> None:
        """Drop all cached results of a tool."""
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

    @staticmethod
    def _prefix(valkey: Valkey, ref: ToolRef) -> str:
        return f"{valkey.settings.valkey_prefix}:answers:{{{ref.agent_id}:{ref.tool_id}}}"


def _entry(data: bytes) -> dict[str, Any] | None:
    """Return a cached result with its epoch; None if the bytes are not what `ResponseCache.keep` wrote."""
    try:
        entry = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and {"epoch", "result"} <= entry.keys() else None
