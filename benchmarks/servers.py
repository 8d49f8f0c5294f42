"""Start DynamoDB engines in a process of their own, so that a benchmark measures the client only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

DYNOXIDE = "DYNOXIDE"
"""Environment variable with the path of the dynoxide program."""


@contextmanager
def serving(engine: str) -> Iterator[str]:
    """Start an engine (``moto`` or ``dynoxide``), give its URL, and stop it when the block ends."""
    port = _free_port()
    if engine == "moto":
        command = [sys.executable, "-c", _MOTO.format(port=port)]
    else:
        command = [os.environ.get(DYNOXIDE, "dynoxide"), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


_MOTO = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", {port}, verbose=False)
server.start()
server._thread.join()
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"error: the DynamoDB engine does not answer on port {port}")
