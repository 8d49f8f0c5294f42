"""Send commands to Valkey: standalone or cluster, over TCP, TLS or a unix socket.

Every command goes through `Valkey.execute_many` or a method made of it. It tries twice. It sends a script's text when
the server no longer has it, and runs the script as a transaction where the server runs no scripts. It turns every error
of redis-py into `CacheUnavailable`, and opens a circuit breaker: in an outage one call waits for its timeouts, and the
others fail at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

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

from agentmodel._log import logger
from agentmodel._runtime.circuit_breaker import CircuitBreaker, reason_of
from agentmodel._runtime.process import ForkSafeLock, renew_in_child
from agentmodel._values.urls import without_user
from agentmodel.cache import _lua_fallback
from agentmodel.cache._clients import Credentials, client_options, cluster_client, standalone_client
from agentmodel.cache._connections import DedicatedConnections
from agentmodel.cache._lua import COMPARE_AND_SET, Command, text_of
from agentmodel.cache._repair import is_damage, rebuild_overlay, repair
from agentmodel.cache._server_info import ServerInfo, fetch_server_info
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

__all__ = ["Credentials", "Valkey"]

_log = logger("agentmodel.cache")
# ReadOnlyError: after a failover a connection may still be to the old primary, and a new one finds the new primary
_OUTAGES = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, RedisClusterException)
_MOST_DELETES = 100_000  # keys that are remembered for deletion during an outage


class _Pipe(Protocol):
    def execute_command(self, *args: Any) -> Any: ...

    def execute(self, raise_on_error: bool = True) -> list[Any]: ...


class _Client(Protocol):
    """What is used of redis-py's two clients, whose own types are unions with awaitables."""

    def execute_command(self, *args: Any) -> Any: ...

    def pipeline(self, transaction: bool = False) -> _Pipe: ...

    def ping(self) -> Any: ...

    def close(self) -> None: ...


class Valkey:
    """A connection to one installation's Valkey. It connects at the first command; threads may share it.

    Args:
        settings: Its ``valkey_url`` and timeouts are used.
        clock: Returns monotonic seconds, for the breaker.
        credentials: Returns user and password for every new connection; it takes precedence over those in the URL.
        breaker: Replaces the built-in breaker, for tests.

    Attributes:
        settings: The settings.
        cluster: Whether the URL is that of a cluster.
        breaker: The circuit breaker.

    Raises:
        ConfigurationError: The URL is unset or cannot be read.

    >>> own = Valkey(model.settings)
    >>> own.execute(("SET", "example", "1")), own.execute(("GET", "example")), own.cluster
    (True, b'1', False)
    >>> own.close()
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        credentials: Credentials | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        if not settings.valkey_url:
            raise ConfigurationError("AGENTMODEL_VALKEY_URL is unset: set it, such as to valkey://127.0.0.1:6379/0")
        self.settings = settings
        self._parts = urlsplit(settings.valkey_url)
        self.cluster = self._parts.scheme.endswith("+cluster")
        self._options = client_options(settings, credentials)
        self._client: _Client | None = None
        self._lock = ForkSafeLock()
        self._ahead = threading.local()  # answers to commands that were sent ahead
        self._to_delete: set[str] = set()  # keys to delete before the next command
        self._server: ServerInfo | None = None
        self._closed = False
        self._runs_scripts = True
        self.breaker = breaker or CircuitBreaker(self._probe, clock=clock)
        if not self.cluster:
            self._client = self._standalone()
        renew_in_child(self)

    def renew(self) -> None:
        """Find a cluster's nodes anew in a forked child; the client of one server makes new connections by itself."""
        if self.cluster:
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; every later call raises `CacheUnavailable`."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def address(self) -> str:
        """Return the URL without user, password and options, for messages.

        >>> model.valkey.address.startswith("valkey://127.0.0.1:")
        True
        """
        return without_user(self.settings.valkey_url or "")

    @property
    def available(self) -> bool:
        """Return whether calls go through now; this may start a probe."""
        return self.breaker.allows()

    def execute(self, command: Command) -> Any:
        """Return the answer to one command.

        Raises:
            CacheUnavailable: Valkey does not answer, or rejects the command.

        >>> model.valkey.execute(("PING",))
        True
        """
        return self.execute_many([command])[0]

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to several commands, in order, in one round trip (one to each node of a cluster).

        Raises:
            CacheUnavailable: Valkey does not answer, or rejects one of them.

        >>> model.valkey.execute_many([("SET", "example", "2"), ("GET", "example")])
        [True, b'2']
        """
        ahead: dict[Command, Any] = getattr(self._ahead, "answers", {})
        if ahead and all(command in ahead for command in commands):
            answers = [ahead.pop(command) for command in commands]
        else:
            answers = self.try_many(commands)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Exception):
                raise self._rejected(command, answer) from answer
        return answers

    def try_many(self, commands: Sequence[Command]) -> list[Any]:
        """Return the same as `execute_many`, but with an exception as the answer to a command that Valkey rejects.

        Raises:
            CacheUnavailable: Valkey does not answer.

        >>> answers = model.valkey.try_many([("SET", "example", "2"), ("LPUSH", "example", "1")])
        >>> [type(answer).__name__ for answer in answers]
        ['bool', 'ResponseError']
        """
        if self._closed:
            raise CacheUnavailable(f"the connection to Valkey at {self.address} is closed: open a new one")
        if not self.breaker.allows():
            raise self._unreachable(self.breaker.reason)
        if self._to_delete:
            self._delete_remembered()
        answers = self._send_with_retry(commands)
        if any(map(is_damage, answers)) and repair(self._send_with_retry, commands, answers):
            again = [at for at, answer in enumerate(answers) if is_damage(answer)]
            for at, answer in zip(again, self._send_with_retry([commands[at] for at in again]), strict=True):
                answers[at] = answer
        return answers

    @contextmanager
    def prefetched(self, commands: Iterable[Command]) -> Iterator[None]:
        """Send commands that read now, in one round trip.

        Within the block, the first call in this thread that sends one of them gets the answer that is there already.
        Where Valkey does not answer, those calls find out by themselves.

        >>> model.valkey.execute(("SET", "example", "3"))
        True
        >>> with model.valkey.prefetched([("GET", "example")]):
        ...     model.valkey.execute(("GET", "example"))
        b'3'
        """
        wanted = list(dict.fromkeys(commands))
        try:
            self._ahead.answers = dict(zip(wanted, self.try_many(wanted), strict=True)) if wanted else {}
        except CacheUnavailable:
            self._ahead.answers = {}
        try:
            yield
        finally:
            self._ahead.answers = {}

    def rebuild_overlay(self, key: str, damaged: Iterable[bytes]) -> None:
        """Delete the damaged fields of an overlay, and put its items there again from the journal.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        rebuild_overlay(self._send_with_retry, key, damaged)

    def compare_and_set(self, key: str, expected: str, value: str, *, seconds: int) -> str | None:
        """Set a text if the key holds the expected one, or none.

        Args:
            key: The key.
            expected: The text it must hold; empty for none.
            value: The new text.
            seconds: How long it is kept.

        Returns:
            The text that the key holds instead, empty if that was damaged; None when the value was set.

        Raises:
            CacheUnavailable: Valkey does not answer; the value may have been set.

        >>> model.valkey.compare_and_set("example of a lock", "", "mine", seconds=60)
        >>> model.valkey.compare_and_set("example of a lock", "", "yours", seconds=60)
        'mine'
        >>> model.valkey.delete(["example of a lock"])
        True
        """
        current: bytes | None = self.execute(COMPARE_AND_SET.on([key], expected, value, seconds))
        try:
            return None if current is None else current.decode()
        except UnicodeDecodeError:
            self.delete([key])
            return ""

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete keys; if Valkey does not answer, delete them before the first command after it is back.

        Returns:
            Whether they are deleted now.

        >>> model.valkey.delete(["example"])
        True
        """
        wanted = set(keys)
        try:
            self.execute_many([("UNLINK", key) for key in sorted(wanted)])
        except CacheUnavailable:
            with self._lock:
                room = _MOST_DELETES - len(self._to_delete)
                self._to_delete.update(sorted(wanted)[: max(room, 0)])
            return False
        return True

    def server_info(self, *, fresh: bool = False) -> ServerInfo:
        """Return what the server reports about itself; it is asked once, and again after every outage.

        Args:
            fresh: Whether to ask again in any case.

        Raises:
            CacheUnavailable: The server does not answer, or rejects INFO.

        >>> info = model.valkey.server_info()
        >>> info.level, info.replicas, info.cluster
        ('valkey', 0, False)
        """
        known, outage = self._server, self.breaker.outages
        if known is None or fresh or known.outage != outage:
            known = self._server = fetch_server_info(self.ask_primaries, cluster=self.cluster, outage=outage)
        return known

    def execute_and_wait(self, command: Command, key: str, replicas: int) -> tuple[Any, int]:
        """Return a write's answer and how many replicas confirmed it in time (``WAIT`` on the same connection).

        Args:
            command: The write.
            key: The key it writes, which decides the node of a cluster.
            replicas: How many replicas to wait for.

        Raises:
            CacheUnavailable: Valkey does not answer, or rejects the command.

        >>> model.valkey.execute_and_wait(("SET", "example", "3"), "example", 0)
        (True, 0)
        """
        timeout = max(1, int(self.settings.valkey_timeout * 800))
        wait: Command = ("WAIT", replicas, timeout)
        answers = self._send_with_retry([command, wait], node_of=key)
        if not self._runs_scripts:  # the write went over another connection: wait for a key that is written after it
            answers[1:] = self._send_with_retry([("SET", f"{key}:w", 1, "PX", 1), wait], node_of=key)[1:]
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._rejected(command, answer) from answer
        return answers[0], int(answers[1])

    def _unreachable(self, reason: str) -> CacheUnavailable:
        return CacheUnavailable(f"Valkey at {self.address} does not answer (AGENTMODEL_VALKEY_URL): {reason}")

    def _rejected(self, command: Command, error: Exception) -> CacheUnavailable:
        return CacheUnavailable(f"Valkey at {self.address} rejected {command[0]}: {reason_of(error)}")

    def ask_primaries(self, command: Command) -> list[Any]:
        """Return the answer of the server, or of each primary of a cluster; an exception where it rejects the command.

        Raises:
            CacheUnavailable: Valkey does not answer.

        >>> len(model.valkey.ask_primaries(("DBSIZE",)))
        1
        """
        if not self.cluster:
            return self.try_many([command])
        self.try_many([("EXISTS", "")])  # connects, and opens the breaker when no node answers
        try:
            return [_answers(node, [command])[0] for node in self._primaries()]
        except _OUTAGES as error:
            raise self._unreachable(reason_of(error)) from error

    def scan(self, pattern: str) -> set[str]:
        """Return the names of all keys that match a glob pattern, of each primary of a cluster.

        Raises:
            CacheUnavailable: Valkey does not answer, or forbids SCAN.

        >>> model.valkey.execute(("SET", "example", "4"))
        True
        >>> model.valkey.scan("exampl*e")
        {'example'}
        """
        self.try_many([("EXISTS", "")])  # as above
        found: set[str] = set()
        for node in self._primaries():
            cursor = 0
            while True:
                scan: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                try:
                    answer = _answers(node, [scan])[0]
                except _OUTAGES as error:
                    raise self._unreachable(reason_of(error)) from error
                if isinstance(answer, Exception):
                    raise self._rejected(scan, answer) from answer
                cursor, names = answer
                found.update(name.decode(errors="replace") for name in names)
                if cursor == 0:
                    break
        return found

    def _primaries(self) -> list[_Client]:
        client: Any = self._connected()
        return [client.get_redis_connection(node) for node in client.get_primaries()] if self.cluster else [client]

    def _send_with_retry(self, commands: Sequence[Command], node_of: str | None = None) -> list[Any]:
        """Send commands at most twice; open the breaker after the second failure."""
        for last in (False, True):
            try:
                return self._send(commands, node_of)
            except _OUTAGES as error:
                self._drop_idle()
                if last:
                    self.breaker.record_failure(reason_of(error))
                    raise self._unreachable(reason_of(error)) from error
            except RedisError as error:
                raise CacheUnavailable(f"Valkey at {self.address} rejected the call: {reason_of(error)}") from error
        raise AssertionError("unreachable")  # pragma: no cover - the loop returns or raises

    def _send(self, commands: Sequence[Command], node_of: str | None) -> list[Any]:
        """Send commands once; send the texts of scripts that the server does not have, and do without scripts."""
        client = self._connected() if node_of is None else self._node(node_of)
        if not self._runs_scripts:
            return self._send_without_scripts(client, commands)
        answers = _answers(client, commands)
        if not any(isinstance(answer, Exception) for answer in answers):
            return answers
        lost = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if lost:  # the server has restarted: send the texts, which it then keeps
            again = _answers(client, [_with_text(commands[at]) for at in lost])
            for at, answer in zip(lost, again, strict=True):
                answers[at] = answer
        if any(_forbids_scripts(command, answer) for command, answer in zip(commands, answers, strict=True)):
            _log.warning(
                "valkey.no_scripts: %s runs no Lua scripts; using transactions instead, which are slower", self.address
            )
            self._runs_scripts = False
            return self._send_without_scripts(client, commands)
        for answer in answers:
            if isinstance(answer, _OUTAGES):
                raise answer
        return answers

    def _send_without_scripts(self, client: _Client, commands: Sequence[Command]) -> list[Any]:
        """Send commands to a server that runs no scripts; each script is run as a transaction."""
        if all(command[0] != "EVALSHA" for command in commands):
            answers = _answers(client, commands)
        else:
            answers = [self._send_as_transaction(client, command) for command in commands]
        for answer in answers:
            if isinstance(answer, _OUTAGES):
                raise answer
        return answers

    def _send_as_transaction(self, client: _Client, command: Command) -> Any:
        if command[0] != "EVALSHA":
            return _answers(client, [command])[0]
        try:
            return _lua_fallback.run(self._node(command[3]), command)
        except ResponseError as error:
            return error
        except ValueError as error:  # a field that must be a number is none
            return ResponseError(f"user_script: {error}")

    def _delete_remembered(self) -> None:
        """Delete the keys that could not be deleted during an outage."""
        with self._lock:
            keys, self._to_delete = self._to_delete, set()
        try:
            self._send_with_retry([("UNLINK", key) for key in sorted(keys)])
        except CacheUnavailable:
            with self._lock:
                self._to_delete |= keys
            raise

    def _connected(self) -> _Client:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = cast("_Client", cluster_client(self._parts, self._options))
        return self._client

    def _node(self, key: str) -> _Client:
        """Return a client of the node that holds a key."""
        client = self._connected()
        if not self.cluster:
            return client
        cluster: Any = client
        node = cluster.get_node_from_key(key)
        if node is None:
            raise RedisConnectionError(f"no node of the cluster holds {key}")
        return cast("_Client", cluster.get_redis_connection(node))

    def _drop_idle(self) -> None:
        """Close the idle connections, which are lost too: the second try must not use one of them."""
        if isinstance(self._client, DedicatedConnections):
            self._client.drop_idle()

    def _probe(self) -> None:
        if not self._closed:
            self._connected().ping()

    def _standalone(self) -> DedicatedConnections:
        try:
            return DedicatedConnections(standalone_client(self._parts, self._options))
        except ValueError as error:
            raise ConfigurationError(f"AGENTMODEL_VALKEY_URL {self.address} cannot be read: {error}") from None


def _answers(client: _Client, commands: Sequence[Command]) -> list[Any]:
    """Send commands to one client; the answer to a rejected command is its exception."""
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]
        except ResponseError as error:
            return [error]
    if isinstance(client, DedicatedConnections):
        return client.send(commands)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return pipe.execute(raise_on_error=False)


def _forbids_scripts(command: Command, answer: Any) -> bool:
    """Return whether a server rejects scripts for good: it has no Lua, or the user may not run scripts."""
    if command[0] != "EVALSHA" or not isinstance(answer, ResponseError):
        return False
    text = str(answer).lower()
    forbidden = isinstance(answer, NoPermissionError) and "'eval" in text
    return forbidden or ("unknown command" in text and "eval" in text)


def _with_text(command: Command) -> Command:
    """Return the EVAL command of an EVALSHA command."""
    return ("EVAL", text_of(command[1]), *command[2:])
