"""Ports for servers that a test starts itself."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that the system gives out: a fixed first choice is taken by the tests of another worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
