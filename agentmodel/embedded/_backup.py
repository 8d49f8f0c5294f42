"""Back a local stack up into one file, also while it runs, and restore it.

The file is a compressed tar archive of what a stack needs to start: the saved tables with the log of their changes,
Valkey's append-only files with the journal, and the warehouse. While it is made, nobody changes the tables and Valkey
begins no new file. So what was drained is in the tables, and what was not is in the journal. The warehouse is that of
the last refresh.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
import time
import zlib
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, cast

import redis

from agentmodel._runtime.process import exit_on_sigterm
from agentmodel._values.text import one_line
from agentmodel._values.urls import copy_of
from agentmodel._version import installed_version
from agentmodel.embedded._folder import (
    RESTORING,
    exchange,
    find_stack,
    finish_exchange,
    holds,
    holds_only_a_stack,
    locked,
    unfinished,
)
from agentmodel.embedded._table_log import alone, sync_folder
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

__all__ = ["StackBackup", "back_up", "restore"]

_FORMAT: Final = 1
_MANIFEST: Final = "backup.json"
_WAREHOUSE: Final = "warehouse.duckdb"
_TOPS: Final = {"tables", "valkey", _WAREHOUSE, f"{_WAREHOUSE}.wal"}
_LARGEST_PART: Final = 1 << 24  # bytes of a backup that are read at once; its files are read in smaller parts
_OF_CONTENT: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_PATIENCE: Final = 60.0  # seconds for which Valkey may write its file anew
_ATTEMPTS: Final = 5  # of a copy of Valkey's files, where an erasure has them written anew meanwhile


@dataclass(frozen=True, slots=True)
class StackBackup:
    """A backup of a local stack.

    Attributes:
        path: The file.
        made_at: When it was made.
        version: The agentmodel that made it; empty where it was not installed.
        files: How many files of the stack it has.
        size: Bytes of these files.
    """

    path: Path
    made_at: datetime
    version: str
    files: int
    size: int


def back_up(directory: Path, to: Path) -> StackBackup:
    """Write a backup of the stack of a folder, whether it runs or not.

    Args:
        directory: The folder of the stack.
        to: The file, which must not exist; or a folder, in which it gets a name with its time.

    Raises:
        ConfigurationError: There is no stack in the folder, the file exists or cannot be written, or another process
            has the warehouse open.
        CacheUnavailable: Valkey does not answer.
    """
    exit_on_sigterm()  # what is half written goes
    home, now = directory.resolve(), datetime.now(UTC)
    if (home / RESTORING).is_dir() and find_stack(home) is None:
        with locked(home):
            finish_exchange(home)
    if not (home / "tables").is_dir() and not (home / "valkey").is_dir():
        raise ConfigurationError(f"there is no stack in {directory}: name its folder by `agentmodel --dir DIR backup`")
    if to.is_dir():
        to = to / f"agentmodel-{now:%Y%m%d-%H%M%S}.tar.gz"
    if any((home / name) in (to.resolve(), *to.resolve().parents) for name in _TOPS):
        raise ConfigurationError(f"{to} lies among the files of the stack: choose another place")
    taken = ConfigurationError(f"{to} exists: give the backup another name, or remove that file")
    if to.exists():
        raise taken
    try:
        with unfinished(to.parent) as folder:
            copied = folder / "stack"
            _copy(home, copied)
            size = sum(path.stat().st_size for path in _files(copied))
            manifest: dict[str, Any] = {
                "format": _FORMAT,
                "agentmodel": installed_version() or "",
                "made_at": now.isoformat(),
                "size": size,
                "files": {path.relative_to(copied).as_posix(): _digest(path) for path in _files(copied)},
            }
            draft = folder / "draft"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                _pack(file, copied, manifest)
                file.flush()
                os.fsync(file.fileno())
            _publish(draft, to)
            sync_folder(to.parent)
    except FileExistsError as error:  # another backup was faster
        raise taken from error
    except OSError as error:
        raise ConfigurationError(f"{to} cannot be written ({_reason(error)}): choose another place") from error
    return StackBackup(to, now, manifest["agentmodel"], len(manifest["files"]), size)


def restore(path: Path, directory: Path, *, replace: bool = False) -> StackBackup:
    """Put the stack of a backup into a folder; everything is read and checked before the folder is touched.

    Args:
        path: The backup.
        directory: The folder, which must be empty or missing.
        replace: Whether the stack of the folder is deleted for it.

    Raises:
        ConfigurationError: The file is no whole backup, or one of a newer version; the folder has something in it; or
            its stack runs.
    """
    exit_on_sigterm()
    home = directory.resolve()
    try:
        _check_target(home, directory, replace=replace)
        is_new = not home.exists()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(home):
            finish_exchange(home)
            _check_target(home, directory, replace=replace)
            fresh = home / RESTORING / "stack"
            try:
                fresh.parent.mkdir(mode=0o700)
                found = _unpack(path, fresh)
            except BaseException:
                shutil.rmtree(home if is_new else fresh.parent, ignore_errors=True)
                raise
            exchange(home, fresh)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be restored ({_reason(error)}): choose another folder") from error
    return found


def _publish(draft: Path, to: Path) -> None:
    """Give a file its name, which nothing else may have.

    Raises:
        FileExistsError: Something has it.
    """
    try:
        os.link(draft, to)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        draft.rename(to)


def _check_target(home: Path, directory: Path, *, replace: bool) -> None:
    if find_stack(home) is not None:
        raise ConfigurationError(f"a stack runs in {directory}: stop it, or restore into another folder")
    if not home.exists() or not holds(home):
        return
    if not replace:
        raise ConfigurationError(
            f"{directory} is not empty: restore into another folder (`agentmodel --dir DIR restore`), or delete what "
            "it holds by --replace"
        )
    if not holds_only_a_stack(home):
        raise ConfigurationError(f"{directory} holds other files than a stack's: restore into another folder")


# Copy


def _copy(home: Path, to: Path) -> None:
    """Copy what belongs to a stack, as of one moment."""
    stack = find_stack(home)
    to.mkdir(mode=0o700)
    with ExitStack() as held:
        if stack is None:
            held.enter_context(locked(home))  # nobody starts it meanwhile
        if (home / "tables").is_dir():
            held.enter_context(alone(home / "tables", "save"))
            held.enter_context(alone(home / "tables", "change"))
        for attempt in range(_ATTEMPTS):
            if stack is not None and "valkey_url" in stack:
                _await_rewrite(str(stack["valkey_url"]))
            if _copy_valkey(home, to):
                break
            if attempt == _ATTEMPTS - 1:
                raise CacheUnavailable("Valkey writes its files anew again and again: try again later")
        if (home / "tables").is_dir():
            shutil.copytree(home / "tables", to / "tables", ignore=shutil.ignore_patterns("*.lock", ".*"))
        copy = copy_of(str(home / _WAREHOUSE))
        if stack is not None and copy.is_file():
            shutil.copyfile(copy, to / _WAREHOUSE)
        else:
            _copy_warehouse(home, to)


def _copy_valkey(home: Path, to: Path) -> bool:
    """Copy Valkey's append-only files; return False where they were written anew meanwhile."""
    source, target = home / "valkey" / "appendonlydir", to / "valkey" / "appendonlydir"
    if not source.is_dir():
        return True
    shutil.rmtree(target, ignore_errors=True)
    manifest = source / "appendonly.aof.manifest"
    try:
        before = manifest.read_bytes()
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("temp-*"))
        return before == manifest.read_bytes()
    except FileNotFoundError:
        return False
    except shutil.Error as error:
        if any("No such file" not in each[-1] for each in error.args[0]):
            raise  # such as where the disk takes no more
        return False  # one was replaced


def _await_rewrite(url: str) -> None:
    """Wait while Valkey writes its files anew."""
    deadline = time.monotonic() + _PATIENCE
    try:
        with closing(redis.Redis.from_url(url.replace("valkey:", "redis:", 1), socket_timeout=10.0)) as client:
            while True:
                state: Any = client.info("persistence")
                if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
                    return
                if time.monotonic() > deadline:
                    raise CacheUnavailable(
                        f"Valkey has been writing its file anew for {_PATIENCE:.0f} s: make the backup later"
                    )
                time.sleep(0.05)
    except redis.RedisError as error:
        raise CacheUnavailable(f"the Valkey of the stack does not answer: {error}") from error


def _copy_warehouse(home: Path, to: Path) -> None:
    """Copy a warehouse that nobody has open."""
    if not (home / _WAREHOUSE).is_file():
        return
    import duckdb

    try:  # refused while another process may write into it
        with closing(duckdb.connect(str(home / _WAREHOUSE), read_only=True)):
            for name in (_WAREHOUSE, f"{_WAREHOUSE}.wal"):
                if (home / name).is_file():
                    shutil.copyfile(home / name, to / name)
    except duckdb.Error as error:
        problem = str(error).splitlines()[0]
        raise ConfigurationError(f"{home / _WAREHOUSE} cannot be copied ({problem}): close it and try again") from None


# The file


def _reason(error: OSError) -> str:
    """Return why a file could not be written; a copy of a folder has a reason for each file."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(file: IO[bytes], folder: Path, manifest: dict[str, Any]) -> None:
    described = folder.with_name(_MANIFEST)
    described.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
        archive.add(described, _MANIFEST)
        for path in _files(folder):
            archive.add(path, path.relative_to(folder).as_posix())


def _unpack(path: Path, folder: Path) -> StackBackup:
    """Write the files of a backup into a new folder, and check that all are there as they were."""
    folder.mkdir(mode=0o700)
    try:
        with _Unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            manifest = _manifest(archive, path)
            missing, size = dict(manifest["files"]), 0
            left = int(manifest.get("size", sys.maxsize))  # which early versions did not write
            if "size" in manifest:
                _check_room(folder, left)
            while (member := archive.next()) is not None:
                _check(member.name in missing, f"{member.name!r} is no file of it")
                size += member.size
                _check(member.isreg() and size <= left, f"{member.name!r} is damaged")
                _write(folder, member.name, archive.extractfile(member), expected=missing.pop(member.name))
            _check(not missing, f"{min(missing, default='')!r} is missing")
            _check(not unpacked.read(tarfile.RECORDSIZE).strip(b"\0"), "something follows its end")
            _check(not unpacked.read(1), "something follows its end")  # at the end, gzip checks the sum
            for path_of_folder in (folder, *folder.rglob("*")):
                if path_of_folder.is_dir():
                    sync_folder(path_of_folder)
            made_at = datetime.fromisoformat(manifest["made_at"])
            return StackBackup(path, made_at, manifest["agentmodel"], len(manifest["files"]), size)
    except FileNotFoundError as error:
        if str(error.filename) != str(path):
            raise
        raise ConfigurationError(f"there is no file {path}: give the path of a backup") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, *_OF_CONTENT) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and str(error.filename) != str(path):
            raise  # of the folder, such as where the disk takes no more
        raise ConfigurationError(
            f"{path} is no whole backup of a stack ({error}): give a file that `agentmodel backup` wrote"
        ) from None


def _check_room(folder: Path, size: int) -> None:
    if size > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: it needs {size / 1e6:,.0f} MB")


class _Unpacked(gzip.GzipFile):
    """The content of a backup, of which no header can claim so much that reading it fills the memory."""

    def read(self, size: int | None = -1) -> bytes:
        """Return some bytes."""
        _check(size is not None and 0 <= size <= _LARGEST_PART, "a header is too large")
        return super().read(size)


def _write(folder: Path, name: str, content: IO[bytes] | None, *, expected: str) -> None:
    """Write a file of a backup, and check that it is the one that was put there."""
    parts = name.split("/")
    _check(parts[0] in _TOPS and not {"", ".", ".."} & set(parts), f"{name!r} is no file of a stack")
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(cast("IO[bytes]", content), file)
        file.flush()
        os.fsync(file.fileno())
    _check(expected == _digest(target), f"{name!r} is damaged")


def _check(is_right: bool, problem: str) -> None:
    if not is_right:
        raise ValueError(problem)


def _manifest(archive: tarfile.TarFile, path: Path) -> dict[str, Any]:
    first = archive.next()
    content = None if first is None or first.name != _MANIFEST else archive.extractfile(first)
    if first is None or content is None:
        raise ValueError(f"it does not begin with {_MANIFEST}")
    _check(first.size <= _LARGEST_PART, f"{_MANIFEST} is too large")
    manifest: dict[str, Any] = json.loads(content.read())
    version = manifest["agentmodel"]
    _check(isinstance(version, str) and manifest["format"] >= 1, f"{_MANIFEST} is damaged")
    if manifest["format"] > _FORMAT:
        raise ConfigurationError(
            f"{path} was made by agentmodel {one_line(version) or 'of a newer version'}, and this one reads "
            f"backups up to format {_FORMAT}: upgrade agentmodel"
        )
    return manifest
