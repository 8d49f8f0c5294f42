"""Held connections: an answer belongs to the call that asked, whatever becomes of connections, threads and processes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agentmodel.cache import Valkey
from agentmodel.cache._connections import DedicatedConnections, _packed
from agentmodel.config import Settings


@pytest.fixture
def held(valkey_url: str) -> Iterator[DedicatedConnections]:
    """Held connections to the test's server, which wait for a fifth of a second."""
    made = DedicatedConnections(
        redis.Redis.from_url(valkey_url.replace("valkey://", "redis://"), protocol=2, socket_timeout=0.2)
    )
    yield made
    made.close()


FORKS = """
import os, sys, redis
from agentmodel.cache._connections import DedicatedConnections
held = DedicatedConnections(redis.Redis.from_url(sys.argv[1], protocol=2, socket_timeout=5))
mine = held.execute_command("CLIENT", "ID")
child = os.fork()
if child == 0:
    os._exit(held.execute_command("CLIENT", "ID") == mine)
print(os.waitpid(child, 0)[1], held.execute_command("CLIENT", "ID") - mine)
"""


def number(held: DedicatedConnections) -> int:
    """The server's number of the connection that answers."""
    return int(held.execute_command("CLIENT", "ID"))


def test_a_connection_serves_one_call_after_another(held: DedicatedConnections) -> None:
    """Calls that follow each other go over one connection, refused ones too."""
    first = number(held)
    with pytest.raises(ResponseError, match="unknown command"):
        held.execute_command("NOSUCH")

    assert [first, first] == [number(held), number(held)]


def test_threads_never_share_one(held: DedicatedConnections) -> None:
    """Calls of several threads at once each get their own answer."""
    asked = threading.Barrier(8)

    def echoes(thread: int) -> bool:
        asked.wait()
        return all(f"{thread}:{n}".encode() == held.execute_command("ECHO", f"{thread}:{n}") for n in range(200))

    with ThreadPoolExecutor(8) as threads:
        assert [True] * 8 == list(threads.map(echoes, range(8)))


def test_a_late_answer_meets_nobody(held: DedicatedConnections) -> None:
    """The answer to a call that was given up is not taken for that of the next one."""
    first = number(held)
    with pytest.raises(RedisTimeoutError):
        held.execute_command("BLPOP", "nothing", 0.3)

    assert b"mine" == held.execute_command("ECHO", "mine")
    assert first != number(held)


def test_a_fork_makes_its_own(valkey_url: str) -> None:
    """A forked process never speaks on its parent's connections, and leaves them open."""
    url = valkey_url.replace("valkey://", "redis://")
    done = subprocess.run([sys.executable, "-c", FORKS, url], capture_output=True, text=True, timeout=30, check=False)

    assert ("0 0\n", "") == (done.stdout, done.stderr)


def test_connections_that_the_server_closed_cost_a_second_try(valkey_url: str) -> None:
    """When a server has closed its connections the next call is answered over a new one, and no breaker opens."""
    with (
        Valkey(Settings(valkey_url=valkey_url)) as valkey,
        redis.Redis.from_url(valkey_url.replace("valkey://", "redis://"), protocol=2) as other,
    ):
        first = valkey.execute(("CLIENT", "ID"))
        other.execute_command("CLIENT", "KILL", "ID", first)

        assert first != valkey.execute(("CLIENT", "ID"))
        assert "closed" == valkey.breaker.state


def test_a_server_that_never_answered_is_left_alone() -> None:
    """An outage at the first call leaves nothing behind that `close` stumbles over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = DedicatedConnections(redis.Redis(port=listener.getsockname()[1], socket_timeout=0.05, protocol=2))
        with pytest.raises(RedisTimeoutError):
            held.execute_command("PING")
        held.close()

        assert [] == held._idle


def test_many_commands_are_answered_in_order(held: DedicatedConnections) -> None:
    """Commands that are sent together, more than fit into one send, are answered in order, a refusal by its error."""
    first = number(held)
    commands = [("ECHO", f"{n}" * 3_000) for n in range(10)]
    answers = held.send([*commands, ("NOSUCH",), ("CLIENT", "ID")])

    assert [text.encode() for _, text in commands] == answers[:10]
    assert isinstance(answers[10], ResponseError)
    assert first == answers[11]


def test_late_answers_to_many_meet_nobody(held: DedicatedConnections) -> None:
    """When the answers to commands that were sent together do not all come, the connection is given up."""
    first = number(held)
    with pytest.raises(RedisTimeoutError):
        held.send([("ECHO", "one"), ("BLPOP", "nothing", 0.3), ("ECHO", "two")])

    assert [b"mine"] == held.send([("ECHO", "mine")])
    assert first != number(held)


def redis_connection() -> Any:
    """A connection of redis-py, which is not opened; half of its methods are not typed."""
    made: Any = redis.Connection
    return made()


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("SET", "café", b"\x00\r\n", "PX", 1),
        ("SET", "number", -7),
        ("BLPOP", "nothing", 0.3),
        ("CONFIG GET", "maxmemory"),
        ("SET", "view", memoryview(b"seen")),
    ],
)
def test_commands_are_packed_as_redis_py_packs_them(command: tuple[Any, ...]) -> None:
    """The same bytes are sent, whatever the types of a command's parts are."""
    connection = redis_connection()

    assert b"".join(connection.pack_command(*command)) == _packed(connection, command)


def test_what_redis_py_refuses_is_refused() -> None:
    """A part that has no bytes raises redis-py's own error."""
    connection = redis_connection()

    with pytest.raises(redis.DataError):
        _packed(connection, ("SET", "k", None))
