"""The folder of a local stack: who has it, what is in it, and who may read it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentmodel.config import Settings
from agentmodel.embedded._table_log import replace_file, sync_folder
from agentmodel.exceptions import ConfigurationError

__all__ = [
    "PRIVATE_FOLDER", "RESTORING", "TemporaryFolder", "announced", "clear_unfinished", "exchange", "find_stack",
    "finish_exchange", "holds", "holds_only_a_stack", "locked", "make_private", "running_stack", "unfinished",
]  # fmt: skip

PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
RESTORING = ".restoring"
"""In the folder of a stack: what a backup is unpacked into, before it takes the place of what is there."""

_CONTENT = {
    "lock", "stack.json", "ports.json", "tables", "valkey", "warehouse.duckdb", "warehouse.duckdb.wal",
    "warehouse.duckdb.new", "warehouse.read.duckdb", "warehouse.read.duckdb.new", "appendonlydir", "valkey.conf",
    "valkey.log", RESTORING,
}  # fmt: skip

_UNFINISHED = ".agentmodel-unfinished-"
_OF_UNFINISHED = {"lock", "stack", "backup.json", "draft"}


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
    holder = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with _lock_of(home) as file:
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield holder


@contextmanager
def _lock_of(home: Path) -> Iterator[Any]:
    """Lock the file that has the name of the lock now: another folder may take the place of this one meanwhile."""
    import fcntl

    for attempt in range(10):  # `find_stack` of another process may hold it for a moment
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, _PRIVATE_FILE)
        with os.fdopen(descriptor, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == 9:
                    raise ConfigurationError(_running(home, file)) from None
            else:
                if _is_at(home / "lock", file):
                    yield file
                    return
        time.sleep(0.02)
    raise ConfigurationError(f"another process keeps replacing the folder {home}: try again when its restore is over")


def _is_at(path: Path, file: Any) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _running(home: Path, file: Any) -> str:
    file.seek(0)
    try:
        other = json.loads(file.read())
        who = f" (process {other['pid']}, since {other['since']})"
    except (ValueError, KeyError):  # it has the lock but did not write into it yet
        who = ""
    return f"a stack runs in {home} already{who}: use that one, or stop it first"


def _is_locked(path: Path) -> bool:
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


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """Give a hidden folder in which a file is made, and remove it at the end.

    If this process is killed, `clear_unfinished` removes it later.
    """
    clear_unfinished(parent)
    new = Path(tempfile.mkdtemp(prefix=".agentmodel-", dir=parent))
    folder = new.with_name(f"{_UNFINISHED}{new.name.removeprefix('.agentmodel-')}")
    try:
        with _lock_of(new):  # before it has the name that is looked for
            new.rename(folder)
            yield folder
    finally:
        shutil.rmtree(folder if folder.exists() else new)


def clear_unfinished(parent: Path) -> None:
    """Remove from a folder what killed processes left unfinished."""
    for folder in parent.glob(f"{_UNFINISHED}*"):
        try:
            is_ours = not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
            only_made = is_ours and {path.name for path in folder.iterdir()} <= _OF_UNFINISHED
            if only_made and not _is_locked(folder / "lock"):
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, NotADirectoryError):
            continue  # another process removed it, or it is none of ours


def exchange(home: Path, fresh: Path) -> None:
    """Put what a folder holds in the place of what a stack's folder holds, which must be locked.

    ``fresh`` is ``RESTORING/stack`` in that folder. Where this is interrupted, `finish_exchange` ends it or undoes it.
    """
    before = fresh.with_name("before")
    before.mkdir(mode=PRIVATE_FOLDER)
    try:
        for name in holds(home):
            (home / name).rename(before / name)
        before.rename(fresh.with_name("old"))  # from now on the fresh ones are taken
    finally:
        finish_exchange(home)


def finish_exchange(home: Path) -> None:
    """End an `exchange` that was interrupted, or undo it where not everything was out of the way yet.

    The folder must be locked.
    """
    work = home / RESTORING
    if not work.is_dir():
        return
    source = work / "stack" if (work / "old").is_dir() else work / "before"
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        path.rename(home / path.name)
    sync_folder(home)
    shutil.rmtree(work)


def holds(home: Path) -> list[str]:
    """Return the names of what a stack's folder holds, without its lock and what is restored into it."""
    return sorted({path.name for path in home.iterdir()} - {"lock", RESTORING})


def find_stack(directory: str | Path = ".agentmodel") -> dict[str, Any] | None:
    """Return the settings that reach the stack running in a folder, or None when none is running.

    The file of a killed stack does not count: a stack is running only while its lock is held.
    """
    path = Path(directory) / "stack.json"
    if not path.is_file() or not _is_locked(path.with_name("lock")):
        return None
    try:
        stack = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # it stopped in this moment
        return None
    except ValueError:
        raise ConfigurationError(
            f"{path} is not a stack file: stop the running `agentmodel up` and start it again"
        ) from None
    return {name: value for name, value in stack.items() if name in Settings.model_fields}


def running_stack(directory: str | Path = ".agentmodel") -> dict[str, Any]:
    """Return the settings that reach the stack running in a folder.

    Raises:
        ConfigurationError: None is running there.
    """
    stack = find_stack(directory)
    if stack is None:
        raise ConfigurationError(
            f"no stack runs in {directory}: run `agentmodel up --dir {directory}`, or name its folder"
        )
    return stack


@contextmanager
def announced(path: Path, stack: dict[str, Any]) -> Iterator[None]:
    replace_file(path, json.dumps(stack, indent=1).encode())
    try:
        yield
    finally:
        if os.getpid() == stack["pid"]:  # a forked child closes its copy of this generator
            path.unlink(missing_ok=True)


class TemporaryFolder:
    """A folder that is removed when it is asked for, or at the end of the process that made it.

    `tempfile.TemporaryDirectory` is removed at the end of every forked child too.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="agentmodel-"))
        self._finalizer = weakref.finalize(self, _remove_folder, self.path, os.getpid())

    def remove(self) -> None:
        """Remove the folder; may be called twice."""
        self._finalizer()


def _remove_folder(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
