"""The connection to Valkey: standalone, cluster, TLS or unix socket, behind one small typed door.

`Valkey.call` is the only way to the server. It tries twice, sends a script's text when the server has lost it (and does
a script's work by transactions where the server runs none), turns every error of redis-py into `CacheUnavailable` and
opens a circuit breaker, so that an outage costs one call its timeouts and every other call nothing.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self, cast
from urllib.parse import SplitResult, urlsplit

import redis
import redis.cluster
import redis.connection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from agentmodel.cache import plain
from agentmodel.cache.breaker import Breaker
from agentmodel.cache.held import Held
from agentmodel.cache.scripts import Command, text_of
from agentmodel.cache.server import Server, told
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

__all__ = ["Credentials", "Valkey"]

Credentials = Callable[[], tuple[str, str]]
"""Asked for (user, password) at every new connection, such as for a short-lived IAM token."""

parse_url: Callable[[str], dict[str, Any]] = redis.connection.parse_url
_log = logging.getLogger("agentmodel.cache")
# a failover may leave connections at a server that is only a replica now: a new connection finds the other one
_DOWN = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, RedisClusterException)
_FORGET_MOST = 100_000


class _Pipe(Protocol):
    def execute_command(self, *args: Any) -> Any: ...

    def execute(self, raise_on_error: bool = True) -> list[Any]: ...


class _Client(Protocol):
    """What is used of redis-py's two clients, whose own types are unions with awaitables."""

    def execute_command(self, *args: Any) -> Any: ...

    def pipeline(self, transaction: bool = False) -> _Pipe: ...

    def ping(self) -> Any: ...

    def close(self) -> None: ...


class _Asked(CredentialProvider):
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str, str]:
        return self._credentials()


class Valkey:
    """One installation's Valkey. Connects at the first call; safe to share between threads.

    Args:
        settings: ``valkey_url``, timeouts and prefix are used.
        clock: Monotonic seconds, for the breaker.
        credentials: Asked for user and password at every new connection; wins over those in the URL.
        breaker: Replaces the built-in breaker, for tests.

    Raises:
        ConfigurationError: The URL is unset or cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        credentials: Credentials | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        if not settings.valkey_url:
            raise ConfigurationError("AGENTMODEL_VALKEY_URL is unset: give a URL such as valkey://127.0.0.1:6379/0")
        self.settings = settings
        self._parts = urlsplit(settings.valkey_url)
        self.cluster = self._parts.scheme.endswith("+cluster")
        self._options = _options(settings, credentials)
        self._client: _Client | None = None
        self._lock = threading.Lock()
        self._doomed: set[str] = set()
        self._server: Server | None = None
        self._closed = False
        self._scripts = True
        self.breaker = breaker or Breaker(self._probe, clock=clock)
        if not self.cluster:
            self._client = self._standalone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back. A closed one refuses every call."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def where(self) -> str:
        """The URL without its password, for messages."""
        host = self._parts.netloc.rpartition("@")[2]
        return f"{self._parts.scheme}://{host}{self._parts.path}"

    @property
    def available(self) -> bool:
        """Whether calls go through at present; asking may start a probe."""
        return self.breaker.allows()

    def one(self, command: Command) -> Any:
        """The answer to one command.

        Raises:
            CacheUnavailable: Valkey does not answer, or refuses the command.
        """
        return self.call([command])[0]

    def call(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to some commands, in order, in one round trip (one to each node of a cluster).

        Raises:
            CacheUnavailable: Valkey does not answer, or refuses one of them.
        """
        answers = self.attempt(commands)
        for at, answer in enumerate(answers):
            if isinstance(answer, Exception):
                raise CacheUnavailable(f"Valkey at {self.where} refuses {commands[at][0]}: {said(answer)}") from answer
        return answers

    def attempt(self, commands: Sequence[Command]) -> list[Any]:
        """Like `call`, but a command that is refused has its exception as its answer.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        if self._closed:
            raise CacheUnavailable(f"the connection to Valkey at {self.where} is closed")
        if not self.breaker.allows():
            raise self._silent(self.breaker.reason)
        if self._doomed:
            self._forget_now()
        return self._twice(commands)

    def forget(self, keys: Iterable[str]) -> bool:
        """Deletes keys; where Valkey does not answer they are deleted before anything else once it is back.

        Returns:
            Whether they are gone now.
        """
        wanted = set(keys)
        try:
            self.call([("UNLINK", key) for key in sorted(wanted)])
        except CacheUnavailable:
            with self._lock:
                room = _FORGET_MOST - len(self._doomed)
                self._doomed.update(sorted(wanted)[: max(room, 0)])
            return False
        return True

    def server(self, *, fresh: bool = False) -> Server:
        """What the server says of itself; asked once, and again after every outage.

        Raises:
            CacheUnavailable: It does not answer.
        """
        known = self._server
        if known is None or fresh or known.epoch != self.breaker.opened:
            known = self._server = told(self._everywhere, cluster=self.cluster, epoch=self.breaker.opened)
        return known

    def waited(self, command: Command, key: str, replicas: int) -> tuple[Any, int]:
        """A write's answer, and how many replicas had it within the timeout (``WAIT``, on the same connection).

        Raises:
            CacheUnavailable: Valkey does not answer, or refuses the command.
        """
        timeout = max(1, int(self.settings.valkey_timeout * 800))
        answers = self._twice([command, ("WAIT", replicas, timeout)], node_of=key)
        if not self._scripts:  # the write went over another connection: wait for something written after it
            answers[1:] = self._twice([("SET", f"{key}:w", 1, "PX", 1), ("WAIT", replicas, timeout)], node_of=key)[1:]
        for answer in answers:
            if isinstance(answer, Exception):
                raise CacheUnavailable(f"Valkey at {self.where} refuses {command[0]}: {said(answer)}") from answer
        return answers[0], int(answers[1])

    def _silent(self, reason: str) -> CacheUnavailable:
        return CacheUnavailable(f"Valkey at {self.where} does not answer (AGENTMODEL_VALKEY_URL): {reason}")

    def _everywhere(self, command: Command) -> list[Any]:
        """What the server, or each primary of a cluster, answers."""
        if not self.cluster:
            return self.attempt([command])
        self.attempt([("EXISTS", "")])  # connects, and lets the breaker know when nobody answers
        cluster: Any = self._connected()
        try:
            return [_answers(cluster.get_redis_connection(node), [command])[0] for node in cluster.get_primaries()]
        except _DOWN as error:
            raise self._silent(said(error)) from error

    def _twice(self, commands: Sequence[Command], node_of: str | None = None) -> list[Any]:
        for last in (False, True):
            try:
                return self._sent(commands, node_of)
            except _DOWN as error:
                self._drop_idle()
                if last:
                    self.breaker.failed(said(error))
                    raise self._silent(said(error)) from error
            except RedisError as error:
                raise CacheUnavailable(f"Valkey at {self.where} refuses the call: {said(error)}") from error
        raise AssertionError("unreachable")  # pragma: no cover - the loop returns or raises

    def _sent(self, commands: Sequence[Command], node_of: str | None) -> list[Any]:
        client = self._connected() if node_of is None else self._node(node_of)
        if not self._scripts:
            return self._plainly(client, commands)
        answers = _answers(client, commands)
        if not any(isinstance(answer, Exception) for answer in answers):
            return answers
        lost = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if lost:  # the server has restarted: send the texts, which it then keeps
            again = _answers(client, [_with_text(commands[at]) for at in lost])
            for at, answer in zip(lost, again, strict=True):
                answers[at] = answer
        if any(_forbids_scripts(command, answer) for command, answer in zip(commands, answers, strict=True)):
            _log.warning("valkey.no_scripts: %s runs none; transactions do their work, more slowly", self.where)
            self._scripts = False
            return self._plainly(client, commands)
        for answer in answers:
            if isinstance(answer, _DOWN):
                raise answer
        return answers

    def _plainly(self, client: _Client, commands: Sequence[Command]) -> list[Any]:
        """The answers of a server without scripts."""
        if all(command[0] != "EVALSHA" for command in commands):
            answers = _answers(client, commands)
        else:
            answers = [self._plain(client, command) for command in commands]
        for answer in answers:
            if isinstance(answer, _DOWN):
                raise answer
        return answers

    def _plain(self, client: _Client, command: Command) -> Any:
        if command[0] != "EVALSHA":
            return _answers(client, [command])[0]
        try:
            return plain.run(self._node(command[3]), command)
        except ResponseError as error:
            return error

    def _forget_now(self) -> None:
        with self._lock:
            doomed, self._doomed = self._doomed, set()
        try:
            self._twice([("UNLINK", key) for key in sorted(doomed)])
        except CacheUnavailable:
            with self._lock:
                self._doomed |= doomed
            raise

    def _connected(self) -> _Client:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._clustered()
        return self._client

    def _node(self, key: str) -> _Client:
        client = self._connected()
        if not self.cluster:
            return client
        cluster: Any = client
        node = cluster.get_node_from_key(key)
        if node is None:
            raise RedisConnectionError(f"no node of the cluster holds {key}")
        return cast("_Client", cluster.get_redis_connection(node))

    def _drop_idle(self) -> None:
        """After a lost connection the pool's idle ones are lost too: the second try must not meet another of them."""
        if isinstance(self._client, Held):
            self._client.drop_idle()

    def _probe(self) -> None:
        if not self._closed:
            self._connected().ping()

    def _standalone(self) -> Held:
        try:
            return Held(redis.Redis.from_url(_for_redis_py(self._parts), **self._options))
        except ValueError as error:
            raise ConfigurationError(f"AGENTMODEL_VALKEY_URL {self.where}: {error}") from None

    def _clustered(self) -> _Client:
        options = dict(self._options)
        library: Any = redis.cluster  # parts of redis-py are not typed
        known = inspect.signature(library.RedisCluster.__init__).parameters
        if "cluster_error_retry_attempts" in known and not _retry_is_for_the_cluster():
            options["cluster_error_retry_attempts"] = 1  # redis-py 5; later `retry` says it
        nodes = [library.ClusterNode(host, port) for host, port in _nodes(self._parts)]
        url = _for_redis_py(self._parts._replace(netloc=_first(self._parts)))
        given = parse_url(url)
        named = {name: given[name] for name in given if name not in ("host", "port", "db", "connection_class")}
        if self._parts.scheme.startswith(("valkeys", "rediss")):
            named["ssl"] = True
        return cast("_Client", library.RedisCluster(startup_nodes=nodes, **{**named, **options}))


def said(error: BaseException) -> str:
    """What an error of redis-py says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _answers(client: _Client, commands: Sequence[Command]) -> list[Any]:
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]
        except ResponseError as error:
            return [error]
    if isinstance(client, Held):
        return client.send(commands)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return pipe.execute(raise_on_error=False)


def _forbids_scripts(command: Command, answer: Any) -> bool:
    """Whether a server refuses scripts for good: it has no Lua, or the user may not use it."""
    if command[0] != "EVALSHA" or not isinstance(answer, ResponseError):
        return False
    text = str(answer).lower()
    forbidden = isinstance(answer, NoPermissionError) and "'eval" in text
    return forbidden or ("unknown command" in text and "eval" in text)


def _with_text(command: Command) -> Command:
    return ("EVAL", text_of(command[1]), *command[2:])


def _options(settings: Settings, credentials: Credentials | None) -> dict[str, Any]:
    """The arguments of a client. The protocol is pinned so that answers have one shape in every redis-py."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": settings.valkey_timeout,
        "socket_connect_timeout": settings.valkey_connect_timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "agentmodel",
    }
    if credentials is not None:
        options["credential_provider"] = _Asked(credentials)
    return options


def _retry_is_for_the_cluster() -> bool:
    return int(redis.__version__.split(".", 1)[0]) >= 6


def _for_redis_py(parts: SplitResult) -> str:
    scheme = parts.scheme.removesuffix("+cluster")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{parts.netloc}{parts.path}{query}"  # urlunsplit would drop the slashes of unix:///


def _first(parts: SplitResult) -> str:
    user, at, hosts = parts.netloc.rpartition("@")
    return f"{user}{at}{hosts.split(',')[0]}"


def _nodes(parts: SplitResult) -> list[tuple[str, int]]:
    """The start nodes of ``valkey+cluster://host:port,host:port``."""
    nodes = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text}")
        try:
            nodes.append((one.hostname or "127.0.0.1", one.port or 6379))
        except ValueError:
            raise ConfigurationError(f"AGENTMODEL_VALKEY_URL: {text!r} is not host:port") from None
    return nodes
