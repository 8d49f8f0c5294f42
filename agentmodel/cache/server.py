"""What a Valkey server is worth: how durable its acknowledgement is, and whether it may carry a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentmodel.cache.scripts import Command
from agentmodel.exceptions import CacheUnavailable

__all__ = ["LEVELS", "Level", "Server", "told"]

Level: TypeAlias = Literal["valkey", "valkey-replicated", "valkey-durable"]

LEVELS: tuple[str, ...] = ("valkey", "valkey-replicated", "valkey-durable", "dynamodb")
"""Levels of a receipt, weakest first."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said at the first call.

    Attributes:
        version: Its version text.
        level: What its acknowledgement means by itself: ``valkey`` or ``valkey-durable``.
        policy: ``maxmemory-policy``; empty when it would not say.
        cluster: Whether it runs as a cluster.
        replicas: Connected replicas of the node that was asked.
        hidden: It forbids CONFIG, so that the append-only file's fsync cannot be known.
        epoch: The breaker's count of outages at that time.
    """

    version: str
    level: Level
    policy: str
    cluster: bool
    replicas: int
    hidden: bool
    epoch: int = 0


def told(ask: Callable[[Sequence[Command]], list[Any]], *, cluster: bool, epoch: int = 0) -> Server:
    """Asks a server (each primary of a cluster; the weakest answer counts).

    Raises:
        CacheUnavailable: It does not answer INFO.
    """
    info, fsync = (ask([command])[0] for command in (("INFO",), ("CONFIG", "GET", "appendfsync")))
    if isinstance(info, Exception):
        raise CacheUnavailable(f"Valkey refuses INFO: {info}") from info
    nodes = _per_node(info)
    hidden = isinstance(fsync, Exception)
    durable = not hidden and _fsync(fsync) == "always" and all(int(one.get("aof_enabled", 0)) for one in nodes)
    first = nodes[0]
    return Server(
        version=str(first.get("valkey_version") or first.get("redis_version") or ""),
        level="valkey-durable" if durable else "valkey",
        policy=_policy(nodes),
        cluster=cluster or first.get("redis_mode") == "cluster",
        replicas=min(int(one.get("connected_slaves", 0)) for one in nodes),
        hidden=hidden,
        epoch=epoch,
    )


def _per_node(info: dict[Any, Any]) -> list[dict[str, Any]]:
    """INFO of a cluster comes as node → answer where redis-py asks several nodes."""
    if info and all(isinstance(one, dict) and "redis_version" in one for one in info.values()):
        return list(info.values())
    return [info]


def _policy(nodes: list[dict[str, Any]]) -> str:
    policies = {str(one.get("maxmemory_policy", "")) for one in nodes}
    return next((one for one in sorted(policies) if one.startswith("allkeys")), min(policies))


def _fsync(answer: Any) -> str:
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1:]
    value = values[0] if values else ""
    return value.decode() if isinstance(value, bytes) else str(value)
