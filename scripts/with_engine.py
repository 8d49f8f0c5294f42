"""Start a DynamoDB engine, run a command with its URL in AGENTMODEL_TEST_ENDPOINT, and stop the engine.

python scripts/with_engine.py ENGINE -- COMMAND...
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time


def free_port() -> int:
    """Return a port on which no program listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(engine: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the engine accepts connections.

    Raises:
        SystemExit: The engine ended, or accepted no connection within ten seconds.
    """
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if engine.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"error: the engine does not answer on port {port}")


def main() -> int:
    """Run the command and return its exit code."""
    path, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit(__doc__)
    port = free_port()
    with subprocess.Popen([path, "--port", str(port)], stdout=subprocess.DEVNULL) as engine:  # noqa: S603  # that is the job
        try:
            wait_for(engine, port)
            endpoint = {"AGENTMODEL_TEST_ENDPOINT": f"http://127.0.0.1:{port}"}
            return subprocess.run(command, env=os.environ | endpoint, check=False).returncode  # noqa: S603  # likewise
        finally:
            engine.terminate()


if __name__ == "__main__":
    sys.exit(main())
