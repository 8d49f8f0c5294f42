"""Make redis-py clients from the Valkey URL: standalone, cluster, TLS or unix socket."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urlsplit

import redis
import redis.cluster
import redis.connection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from agentmodel.config import Settings
from agentmodel.exceptions import ConfigurationError

__all__ = ["Credentials", "client_options", "cluster_client", "standalone_client"]

Credentials: TypeAlias = Callable[[], tuple[str, str]]
"""Returns (user, password); called at every new connection, such as for a short-lived IAM token."""

parse_url: Callable[[str], dict[str, Any]] = redis.connection.parse_url


class _CallbackCredentials(CredentialProvider):
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str, str]:
        return self._credentials()


def client_options(settings: Settings, credentials: Credentials | None) -> dict[str, Any]:
    """Return a client's arguments. The protocol is pinned, so that answers have one shape in every redis-py."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": settings.valkey_timeout,
        "socket_connect_timeout": settings.valkey_connect_timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "agentmodel",
    }
    if credentials is not None:
        options["credential_provider"] = _CallbackCredentials(credentials)
    return options


def standalone_client(parts: SplitResult, options: dict[str, Any]) -> redis.Redis:
    """Return a client of one server; it connects at the first command.

    Raises:
        ValueError: redis-py does not accept the URL.
    """
    return redis.Redis.from_url(redis_py_url(parts), **options)


def cluster_client(parts: SplitResult, options: dict[str, Any]) -> Any:
    """Return a client of a cluster; it connects now.

    Raises:
        ConfigurationError: A node in the URL is not ``host:port``.
        redis.exceptions.RedisError: No node answers.
    """
    library: Any = redis.cluster  # parts of redis-py are not typed
    known = inspect.signature(library.RedisCluster.__init__).parameters
    named: dict[str, Any] = {}
    if "cluster_error_retry_attempts" in known and not _retry_is_for_the_cluster():
        named["cluster_error_retry_attempts"] = 1  # redis-py 5; later versions take `retry` for it
    nodes = [library.ClusterNode(host, port) for host, port in start_nodes(parts)]
    from_url = parse_url(redis_py_url(parts._replace(netloc=_first_netloc(parts))))
    named |= {name: value for name, value in from_url.items() if name not in ("host", "port", "db", "connection_class")}
    if parts.scheme.startswith(("valkeys", "rediss")):
        named["ssl"] = True
    return library.RedisCluster(startup_nodes=nodes, **{**named, **options})


def _retry_is_for_the_cluster() -> bool:
    return int(redis.__version__.split(".", 1)[0]) >= 6


def redis_py_url(parts: SplitResult) -> str:
    """Return the URL with the scheme that redis-py knows it by."""
    scheme = parts.scheme.removesuffix("+cluster")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{parts.netloc}{parts.path}{query}"  # urlunsplit would drop the slashes of unix:///


def _first_netloc(parts: SplitResult) -> str:
    user, at, hosts = parts.netloc.rpartition("@")
    return f"{user}{at}{hosts.split(',')[0]}"


def start_nodes(parts: SplitResult) -> list[tuple[str, int]]:
    """Return the start nodes of ``valkey+cluster://host:port,host:port``.

    Raises:
        ConfigurationError: One of them is not ``host:port``.
    """
    nodes = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        node = urlsplit(f"//{text}")
        try:
            nodes.append((node.hostname or "127.0.0.1", node.port or 6379))
        except ValueError:
            raise ConfigurationError(
                f"AGENTMODEL_VALKEY_URL names the cluster node {text!r}, which is not host:port: name nodes such as "
                "127.0.0.1:6379"
            ) from None
    return nodes
