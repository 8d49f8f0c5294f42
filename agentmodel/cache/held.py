"""Connections kept at hand: a call of one command is spared the pool.

Before each command redis-py's pool asks the socket whether it was closed meanwhile. Its looks and its book-keeping are
a third of what a call costs the processor (25 of 75 µs, redis-py 8.1). A held connection is not asked: one that has
died is noticed by the call itself, and `agentmodel.cache.client.Valkey` tries every call twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from agentmodel.cache.scripts import Command

if TYPE_CHECKING:
    import redis

__all__ = ["Held"]

_ENOUGH = 8_192  # bytes that are worth sending by themselves


class Held:
    """A client of redis-py whose single commands go over held connections.

    Each serves one call at a time, so threads never share one, and there are as many as calls at the same time. One
    whose call did not end with an answer is closed: no late answer meets the next call. A forked process makes its own.

    Args:
        client: The client; it makes the connections, and is closed with this one.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client  # half of redis-py's methods are not typed
        self._idle: list[Any] = []
        self._process = os.getpid()

    def execute_command(self, *command: Any) -> Any:
        """The answer to one command; errors are redis-py's."""
        idle = self._mine()
        one = idle.pop() if idle else self.client.client()
        try:
            answer = one.execute_command(*command)
        except ResponseError:
            idle.append(one)  # a refusal is an answer
            raise
        except BaseException:
            _close(one)
            raise
        idle.append(one)
        return answer

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to some commands, in order; the answer to one that is refused is its exception.

        They are sent as they are written out, so that the server works at some while the next are made ready.
        """
        idle, answers = self._mine(), []
        one = idle.pop() if idle else self.client.client()
        try:
            _write(one.connection, commands)
            for command in commands:
                try:
                    answers.append(one.parse_response(one.connection, command[0]))
                except ResponseError as error:
                    answers.append(error)
        except BaseException:
            _close(one)
            raise
        idle.append(one)
        return answers

    def _mine(self) -> list[Any]:
        """The connections of this process that nobody uses."""
        if self._process != os.getpid():
            self._idle, self._process = [], os.getpid()
        return self._idle

    def pipeline(self, transaction: bool = False) -> Any:
        """A pipeline, over a connection of the pool."""
        return self.client.pipeline(transaction=transaction)

    def ping(self) -> Any:
        """Asks whether the server answers, over a connection of the pool, which is looked at before."""
        return self.client.ping()

    def drop_idle(self) -> None:
        """Closes what is not in use: when one connection was lost, the others are lost too."""
        idle, self._idle = self._idle, []
        for one in idle:
            _close(one)
        self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Closes all connections."""
        self.drop_idle()
        self.client.close()


def _write(connection: Any, commands: Sequence[Command]) -> None:
    ready: list[bytes] = []
    size = 0
    for command in commands:
        parts = connection.pack_command(*command)
        ready += parts
        size += sum(map(len, parts))
        if size >= _ENOUGH:
            connection.send_packed_command([b"".join(ready)])
            ready, size = [], 0
    if ready:
        connection.send_packed_command([b"".join(ready)])


def _close(one: Any) -> None:
    if one.connection is not None:
        one.connection.disconnect()
    one.close()
