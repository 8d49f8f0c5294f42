"""Keep the changes of the embedded tables on disk: each is written through before it is acknowledged.

moto's server has its tables in memory, and saves them at intervals. The log has what was changed since: a line for
each item, as it was after the change. Loading puts the lines over the saved tables, so a killed process loses nothing
that it acknowledged. To put a line twice changes nothing.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from agentmodel.exceptions import ConfigurationError

__all__ = ["TableLog", "alone", "changed_keys", "json_line", "region_of", "replace_file", "sync_folder"]

_REGION = re.compile(r"Credential=[^/]*/\d+/([^/]+)/")


class TableLog:
    """A file of changes, one JSON object a line.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = b""  # changes that were made in memory, and could not be written

    def append(self, changes: list[dict[str, Any]]) -> None:
        """Write changes through to the disk, after those that could not be written before.

        Raises:
            OSError: The disk takes no more. The changes are written by the next call.
        """
        for change in changes:
            self._waiting += json_line(change)
        if not self._waiting:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path, "ab", opener=_private) as file:  # Path.open has no opener
            size = file.tell()
            try:
                file.write(self._waiting)
                file.flush()
                os.fsync(file.fileno())
                if not size:
                    sync_folder(self.path.parent)  # the file is new
            except OSError:
                os.ftruncate(file.fileno(), size)  # half a line must not stay before the next one
                raise
        self._waiting = b""

    def size(self) -> int:
        """Return the size of the file in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Remove the first bytes of the file, whose changes are in the saved tables now."""
        if not size:
            return
        replace_file(self.path, self.path.read_bytes()[size:])

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the changes. A last line without an end was not acknowledged, and is left out.

        Raises:
            ConfigurationError: A line cannot be read.
        """
        if not self.path.exists():
            return
        *lines, rest = self.path.read_bytes().split(b"\n")
        if rest:  # the next line must not join it
            os.truncate(self.path, self.size() - len(rest))
        for number, line in enumerate(lines, 1):
            try:
                change = json.loads(line)
                yield {"region": change["region"], "table": change["table"], **change}
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(
                    f"line {number} of {self.path} cannot be read ({type(error).__name__}): delete this line to lose "
                    "its change only, or move the file away to start with the tables as they were last saved"
                ) from None


@contextmanager
def alone(folder: Path, doing: Literal["change", "save"]) -> Iterator[None]:
    """Let nobody else, of whatever process, change the tables of a folder, or save them, meanwhile.

    Who wants both, such as for a backup, begins with ``save``.
    """
    import fcntl

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / f"{doing}.lock", "ab", opener=_private) as file:  # Path.open has no opener
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that its owner may read, through to the disk: it is there as before or completely."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Write the names in a folder through to the disk: without that, a loss of power can undo new and changed ones."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def changed_keys(operation: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield table and key, or the item with its key, of each item that a request of DynamoDB's API may change."""
    if operation == "BatchWriteItem":
        for table, requests in body["RequestItems"].items():
            for request in requests:
                yield (
                    table,
                    request["PutRequest"]["Item"] if "PutRequest" in request else request["DeleteRequest"]["Key"],
                )
    elif operation == "TransactWriteItems":
        for action in body["TransactItems"]:
            [(kind, one)] = action.items()
            if kind != "ConditionCheck":
                yield one["TableName"], one["Item"] if kind == "Put" else one["Key"]
    elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
        yield body["TableName"], body["Item"] if operation == "PutItem" else body["Key"]


def region_of(environ: Mapping[str, Any]) -> str:
    """Return the region that a request was signed for."""
    found = _REGION.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    return "us-east-1" if found is None else found[1]


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, whatever the umask: it holds what people asked."""
    return os.open(path, flags, 0o600)


def json_line(value: Mapping[str, Any]) -> bytes:
    """Return a line of a file, with binary attributes as DynamoDB JSON has them."""
    return json.dumps(value, ensure_ascii=False, default=_base64).encode() + b"\n"


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()
