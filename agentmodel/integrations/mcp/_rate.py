"""How many requests a caller may make in a minute: a bucket of so many requests, which fills up again evenly.

The bucket is one number, the time at which it is full again. It is kept in Valkey, so that all servers share it;
without Valkey each server has its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, TextContent

from agentmodel._log import logger
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import one_line
from agentmodel.cache import Valkey
from agentmodel.callers import Caller
from agentmodel.exceptions import CacheUnavailable
from agentmodel.integrations.mcp._request import caller

__all__ = ["RateLimit"]

_log = logger("agentmodel.mcp")

_ATTEMPTS = 20  # of a write, while other servers write first
_MOST_CALLERS = 10_000  # whose bucket a server remembers
_KEPT_SECONDS = 120  # longer than a bucket takes to fill up
_FREE = frozenset({"initialize", "ping", "server/discover"})  # read nothing, and no client works without them


class RateLimit:
    """Counts the calls of each caller.

    Args:
        per_minute: The most calls of a caller in a minute; 0 for no limit.
        valkey: Shares the buckets between servers; None keeps them in this one.
        fixed: The caller of every request without a token.
        now: Returns epoch seconds.
    """

    def __init__(
        self, per_minute: int, *, valkey: Valkey | None, fixed: Caller | None, now: Callable[[], float] = time.time
    ) -> None:
        self._per_minute = per_minute
        self._valkey = valkey
        self._fixed = fixed
        self._now = now
        self._full_at: dict[str, str] = {}
        self._lock = ForkSafeLock()

    async def hold(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Count a request, and answer one too many with when to come back; a middleware of the server."""
        if not self._per_minute or ctx.request_id is None or ctx.method in _FREE:
            return await call_next(ctx)
        try:
            who = caller(ctx.request, self._fixed)
        except ToolError:
            return await call_next(ctx)  # which answers with the same error, as tools do
        token = getattr(getattr(ctx.request, "scope", {}).get("user"), "access_token", None)
        wait = await asyncio.to_thread(self.take, f"{who.user_id} {getattr(token, 'client_id', '')}")
        if not wait:
            return await call_next(ctx)
        back = datetime.fromtimestamp(self._now() + wait, UTC)
        _log.warning(
            "mcp.rate: rejected %s of %s, who has made %d calls in a minute; where that is meant to be, raise "
            "AGENTMODEL_MCP_CALLS_PER_MINUTE",
            one_line(ctx.method), who.user_id, self._per_minute,
        )  # fmt: skip
        message = (
            f"not now: {who.user_id} may make {self._per_minute} calls in a minute (AGENTMODEL_MCP_CALLS_PER_MINUTE), "
            f"and has made them; call again in {int(wait) + 1} seconds, from {back:%H:%M:%S} UTC on"
        )
        if ctx.method == "tools/call":
            return CallToolResult(content=[TextContent(text=message)], is_error=True)  # which the model reads
        raise MCPError(code=INTERNAL_ERROR, message=message)

    def take(self, name: str) -> float:
        """Take a call out of a caller's bucket; return 0, or the seconds until there is one."""
        key = hashlib.sha256(name.encode()).hexdigest()[:24]
        if self._valkey is not None:
            try:
                return self._take_shared(self._valkey, key)
            except CacheUnavailable as error:
                _log.warning(
                    "mcp.rate: Valkey does not answer; until it does, this server alone counts its callers: %s", error
                )
        with self._lock:
            wait, after = self._after(self._full_at.get(key, ""))
            self._remember(key, after)
        return wait

    def _take_shared(self, valkey: Valkey, key: str) -> float:
        """Compare and set: where another server took one first, its bucket is the one that counts."""
        name = f"{valkey.settings.valkey_prefix}:mcp-rate:{key}"
        known = self._full_at.get(key, "")
        for _ in range(_ATTEMPTS):
            wait, after = self._after(known)
            found = None if wait and known else valkey.compare_and_set(name, known, after, seconds=_KEPT_SECONDS)
            if found is None:
                self._remember(key, after)
                return wait
            known = found
        raise CacheUnavailable(f"other servers counted calls of the same caller {_ATTEMPTS} times in a row")

    def _after(self, full_at: str) -> tuple[float, str]:
        """Return how long to wait, and when the bucket is full again after this call."""
        now = self._now()
        try:
            known = float(full_at or 0)
        except ValueError:
            known = 0.0
        if not 0 <= known <= now + _KEPT_SECONDS:  # damaged: no bucket takes longer than a minute to fill up
            known = 0.0
        full = max(known, now) + 60 / self._per_minute
        wait = full - now - 60
        return (0.0, repr(full)) if wait <= 1e-9 else (wait, full_at)

    def _remember(self, key: str, full_at: str) -> None:
        if len(self._full_at) >= _MOST_CALLERS:
            self._full_at.clear()
        self._full_at[key] = full_at
