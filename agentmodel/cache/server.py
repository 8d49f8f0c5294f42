"""What a Valkey server is worth: how durable its acknowledgement is, and whether it may carry a journal."""

from __future__ import annotations

from collections.abc import Callable
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
        replicas: Connected replicas; of a cluster, those of the primary that has fewest.
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


def told(ask: Callable[[Command], list[Any]], *, cluster: bool, epoch: int = 0) -> Server:
    """Asks a server, or each primary of a cluster; the weakest answer counts.

    Args:
        ask: Sends a command to every node and gives their answers; an exception is the answer of one that refuses.
        cluster: Whether the connection is one to a cluster.
        epoch: The breaker's count of outages.

    Raises:
        CacheUnavailable: One does not answer INFO.
    """
    infos = ask(("INFO",))
    for info in infos:
        if isinstance(info, Exception):
            raise CacheUnavailable(f"Valkey refuses INFO: {info}") from info
    fsyncs = ask(("CONFIG", "GET", "appendfsync"))
    hidden = any(isinstance(one, Exception) for one in fsyncs)
    always = not hidden and {_value(one) for one in fsyncs} == {"always"}
    policies = sorted(str(one.get("maxmemory_policy", "")) for one in infos)
    first = infos[0]
    return Server(
        version=str(first.get("valkey_version") or first.get("redis_version") or ""),
        level="valkey-durable" if always and all(int(one.get("aof_enabled", 0)) for one in infos) else "valkey",
        policy=policies[0],  # allkeys-* sorts first
        cluster=cluster or first.get("redis_mode") == "cluster",
        replicas=min(int(one.get("connected_slaves", 0)) for one in infos),
        hidden=hidden,
        epoch=epoch,
    )


def _value(answer: Any) -> str:
    """The value of CONFIG GET, which redis-py gives as a mapping or as name and value."""
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1:]
    value = values[0] if values else ""
    return value.decode() if isinstance(value, bytes) else str(value)
