"""The addresses and ports that the embedded engines listen on."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Final

from agentmodel._log import logger
from agentmodel.embedded._table_log import replace_file
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

__all__ = ["ANY", "LOOPBACK", "Ports", "free_port", "problem_of", "reached"]

_log = logger("agentmodel.embedded")

LOOPBACK: Final = "127.0.0.1"
ANY: Final = "0.0.0.0"  # noqa: S104  # only where somebody asks for it
_PORTS = range(10_000, 32_768)  # below the ports that the system hands to outgoing connections


class Ports:
    """The ports of a stack, which stay the same from start to start.

    Args:
        path: The file that keeps them.
        host: The address that the engines listen on.
        first: The port of the first engine, the next one that of the second; None for those of the file.

    Raises:
        ConfigurationError: The address is none of this machine.
    """

    def __init__(self, path: Path, host: str, first: int | None) -> None:
        self._path, self._host, self._first = path, host, first
        self._chosen: dict[str, int] = {}
        try:
            self._kept: dict[str, int] = {name: int(port) for name, port in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # there is none yet, or somebody has changed it
            self._kept = {}
        problem = problem_of(host, 0)
        if problem:
            raise ConfigurationError(f"the embedded engines cannot listen on {host} ({problem}): give another --host")

    def of(self, engine: str, number: int) -> int | None:
        """Return the port of an engine, the ``number``-th one; None for any.

        Raises:
            ConfigurationError: The port that was asked for is taken.
        """
        port = self._kept.get(engine) if self._first is None else self._first + number
        problem = "" if port is None else problem_of(self._host, port)
        if problem and self._first is not None:
            raise ConfigurationError(f"port {port} of the embedded engines ({problem}): give another --port")
        if problem:
            _log.warning("embedded.port: port %s of the last start (%s): %s gets another one", port, problem, engine)
        self._chosen[engine] = free_port(self._host) if port is None or problem else port
        return self._chosen[engine]

    def keep(self) -> None:
        """Write the ports into the file, those of engines that were not started now as they were."""
        if self._chosen.items() - self._kept.items():
            replace_file(self._path, json.dumps(self._kept | self._chosen).encode())


def reached(host: str) -> str:
    """Return the address at which this machine reaches what listens on a host."""
    return LOOPBACK if host == ANY else host


def problem_of(host: str, port: int) -> str:
    """Return why nothing can listen there; empty where something can. Port 0 is any."""
    if not host:  # which a socket takes for every address, and a URL cannot have
        return f"an address is missing; {ANY} is every one of this machine"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last start may linger
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""


def free_port(host: str = LOOPBACK) -> int:
    for port in random.SystemRandom().sample(_PORTS, 200):
        if not problem_of(host, port):
            return port
    raise CacheUnavailable(
        f"200 ports on {host}, of {_PORTS.start} to {_PORTS.stop - 1}, are all taken: end programs that listen there"
    )
