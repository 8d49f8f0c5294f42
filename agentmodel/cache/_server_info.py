"""Ask a Valkey server what its acknowledgement means and whether it may hold a journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentmodel.cache._lua import Command
from agentmodel.exceptions import CacheUnavailable

__all__ = ["LEVELS", "Level", "ServerInfo", "fetch_server_info"]

Level: TypeAlias = Literal["valkey", "valkey-replicated", "valkey-durable"]

LEVELS: tuple[str, ...] = ("valkey", "valkey-replicated", "valkey-durable", "dynamodb")
"""Levels of a receipt, weakest first."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Hold what a server reported about itself at the first call.

    Attributes:
        version: Its version, such as ``9.0.1``.
        level: What its acknowledgement means without waiting for a replica: ``valkey`` or ``valkey-durable``.
        eviction_policy: ``maxmemory-policy``; empty when the server does not report it.
        cluster: Whether it runs as a cluster.
        replicas: Connected replicas; of a cluster, those of the primary that has the fewest.
        config_hidden: Whether it forbids CONFIG, so that the fsync policy of its append-only file is unknown.
        outage: The breaker's count of outages at that time.
    """

    version: str
    level: Level
    eviction_policy: str
    cluster: bool
    replicas: int
    config_hidden: bool
    outage: int = 0


def fetch_server_info(ask: Callable[[Command], list[Any]], *, cluster: bool, outage: int = 0) -> ServerInfo:
    """Ask a server, or each primary of a cluster, and return the weakest of the answers.

    Args:
        ask: Sends a command to every node and returns their answers; an exception is the answer of a node that rejects
            the command.
        cluster: Whether the connection is to a cluster.
        outage: The breaker's count of outages.

    Raises:
        CacheUnavailable: A node rejects INFO.
    """
    infos = ask(("INFO",))
    for info in infos:
        if isinstance(info, Exception):
            raise CacheUnavailable(
                f"Valkey rejected INFO: {info}; allow it for the user in AGENTMODEL_VALKEY_URL"
            ) from info
    policies = ask(("CONFIG", "GET", "appendfsync"))
    hidden = any(isinstance(policy, Exception) for policy in policies)
    always = not hidden and {_value(policy) for policy in policies} == {"always"}
    first = infos[0]
    return ServerInfo(
        version=str(first.get("valkey_version") or first.get("redis_version") or ""),
        level="valkey-durable" if always and all(int(info.get("aof_enabled", 0)) for info in infos) else "valkey",
        eviction_policy=min(str(info.get("maxmemory_policy", "")) for info in infos),  # allkeys-* sorts first
        cluster=cluster or first.get("redis_mode") == "cluster",
        replicas=min(int(info.get("connected_slaves", 0)) for info in infos),
        config_hidden=hidden,
        outage=outage,
    )


def _value(answer: Any) -> str:
    """Return the value in an answer to CONFIG GET, which redis-py gives as a mapping or as name and value."""
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1:]
    value = values[0] if values else ""
    return value.decode() if isinstance(value, bytes) else str(value)
