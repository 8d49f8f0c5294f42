"""Send commands over dedicated connections, which spares each call the work of redis-py's connection pool.

Before each command the pool checks whether the socket was closed meanwhile. These checks and the pool's bookkeeping are
a third of the CPU time of a call (25 of 75 µs, redis-py 8.1). A dedicated connection is not checked: the call itself
fails on one that was closed, and `agentmodel.cache._valkey.Valkey` tries every call twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from agentmodel._runtime.process import renew_in_child
from agentmodel.cache._lua import Command

if TYPE_CHECKING:
    import redis

__all__ = ["DedicatedConnections"]

_SEND_AT = 8_192  # bytes of packed commands that are sent without waiting for more


class DedicatedConnections:
    """Run a client's commands over connections that are reused without the pool's checks.

    Each connection serves one call at a time, so threads never share one; there are as many as there are calls at the
    same time. A connection whose call ended without an answer is closed, so that no late answer meets the next call.
    A forked process makes its own connections.

    Args:
        client: The client of redis-py that makes the connections; it is closed with this object.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client  # half of redis-py's methods are not typed
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without connections in a forked child; redis-py's pool does the same by itself."""
        self._idle: list[Any] = []

    def execute_command(self, *command: Any) -> Any:
        """Return the answer to one command.

        Raises:
            redis.exceptions.RedisError: As redis-py raises it.
        """
        answer = self.send([command])[0]
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to the commands, in order; the answer to a rejected command is its exception.

        Commands are sent while later ones are still being packed, so the server works on the first ones meanwhile.
        """
        idle, answers = self._idle, []
        connection = idle.pop() if idle else self.client.client()
        try:
            _write(connection.connection, commands)
            for command in commands:
                try:
                    answers.append(connection.parse_response(connection.connection, command[0]))
                except ResponseError as error:
                    answers.append(error)
        except BaseException:
            _close(connection)
            raise
        idle.append(connection)
        return answers

    def pipeline(self, transaction: bool = False) -> Any:
        """Return a pipeline over a connection of the pool."""
        return self.client.pipeline(transaction=transaction)

    def ping(self) -> Any:
        """Ping the server over a connection of the pool, which the pool checks first."""
        return self.client.ping()

    def drop_idle(self) -> None:
        """Close the idle connections: when one connection was lost, the others are lost too."""
        idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)
        self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close all connections."""
        self.drop_idle()
        self.client.close()


def _write(connection: Any, commands: Sequence[Command]) -> None:
    packed: list[bytes] = []
    size = 0
    for command in commands:
        packed.append(_packed(connection, command))
        size += len(packed[-1])
        if size >= _SEND_AT:
            connection.send_packed_command([b"".join(packed)])
            packed, size = [], 0
    if packed:
        connection.send_packed_command([b"".join(packed)])


def _packed(connection: Any, command: Command) -> bytes:
    """Return the bytes of a command; those of the usual types are made here, which takes a third of redis-py's time."""
    parts = [b"*%d\r\n" % len(command)]
    if " " in command[0]:  # it is two words, which redis-py takes apart
        return b"".join(connection.pack_command(*command))
    for value in command:
        kind = type(value)
        if kind is str:
            data = value.encode()
        elif kind is int:
            data = b"%d" % value
        elif kind is bytes:
            data = value
        else:
            return b"".join(connection.pack_command(*command))
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _close(connection: Any) -> None:
    if connection.connection is not None:
        connection.connection.disconnect()
    connection.close()
