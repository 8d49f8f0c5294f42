"""The folder of a local stack: who has it, what is in it, and who may read it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentmodel.exceptions import ConfigurationError

__all__ = ["PRIVATE_FOLDER", "holds_only_a_stack", "is_locked", "locked", "make_private"]

PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_CONTENT = {
    "lock", "stack.json", "ports.json", "tables", "valkey", "warehouse.duckdb", "warehouse.duckdb.wal",
    "warehouse.duckdb.new", "warehouse.read.duckdb", "warehouse.read.duckdb.new", "appendonlydir", "valkey.conf",
    "valkey.log",
}  # fmt: skip


def holds_only_a_stack(folder: Path) -> bool:
    """Return whether a folder holds nothing but what stacks write."""
    return {path.name for path in folder.iterdir()} <= _CONTENT


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may read; close one that an earlier version made, with what it holds.

    A folder that holds other files too is the application's and stays as it is; what is made in it is private.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    content = {path.name for path in folder.iterdir()}
    if content <= _CONTENT:
        folder.chmod(PRIVATE_FOLDER)
    for path in (each for name in content & _CONTENT for each in (folder / name, *(folder / name).rglob("*"))):
        path.chmod(PRIVATE_FOLDER if path.is_dir() else _PRIVATE_FILE)


@contextmanager
def locked(home: Path) -> Iterator[dict[str, Any]]:
    """Lock the folder of a stack; give this process and the time, which the lock names to others.

    The system releases the lock when the process ends, however it ends.

    Raises:
        ConfigurationError: Another process has it.
    """
    import fcntl

    holder = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, _PRIVATE_FILE)
    with os.fdopen(descriptor, "a+", encoding="utf-8") as file:
        for attempt in range(10):  # `find_stack` of another process may hold it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 9:
                    raise ConfigurationError(_running(home, file)) from None
                time.sleep(0.02)
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield holder


def _running(home: Path, file: Any) -> str:
    file.seek(0)
    try:
        other = json.loads(file.read())
        who = f" (process {other['pid']}, since {other['since']})"
    except (ValueError, KeyError):  # it has the lock but did not write into it yet
        who = ""
    return f"a stack runs in {home} already{who}: use that one, or stop it first"


def is_locked(path: Path) -> bool:
    """Return whether a process has the lock of a folder, which is at a path."""
    import fcntl

    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
