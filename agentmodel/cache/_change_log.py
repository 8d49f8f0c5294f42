"""Ship rows that a publish computes to every process: a log of changes in Valkey, of which each process reads the rest.

A row is a text that names it and a JSON value; None takes it back. The log is one stream. Its first entry is a header,
and each further one holds some hundred rows, compressed. A process remembers its `Position`, and later reads only what
was appended after it. When the log is written anew, it is renamed into place in one step and has another header, so
that readers begin at its start. It is a copy of something: it expires, may be evicted, and is deleted where it cannot
be decoded.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from agentmodel._log import logger
from agentmodel.cache._lua import Command
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable

__all__ = ["ChangeLog", "Changes", "Position"]

_ROWS = 250  # of an entry
_ENTRIES = 4  # of a read
_KEPT_SECONDS = 30 * 86_400  # after the last change
_DRAFT_SECONDS = 600
_log = logger("agentmodel.cache")


class Position(NamedTuple):
    """How far a process has read.

    Attributes:
        start: What the header holds, which tells whether the log was written anew.
        last: The id of the last entry that was read.

    >>> log = ChangeLog(model.valkey, "examples of positions")
    >>> log.rewrite([("DMN001", 1)])
    >>> position = [changes.position for changes in log.read()][-1]
    >>> [changes.rows for changes in log.read(position)]  # nothing new
    [{}]
    """

    start: str
    last: str


class Changes(NamedTuple):
    """A part of the log.

    Attributes:
        position: Where to go on.
        anew: Whether this is the beginning of the log: what was read before is void.
        rows: The rows; None as a value takes a row back.

    >>> log = ChangeLog(model.valkey, "examples of changes")
    >>> log.rewrite([("DMN001", 1)])
    >>> first, *rest = log.read()
    >>> first.anew, rest[-1].rows
    (True, {'DMN001': 1})
    >>> log.append({"DMN001": None})
    True
    >>> [(changes.anew, changes.rows) for changes in log.read(rest[-1].position)]
    [(False, {'DMN001': None})]
    """

    position: Position
    anew: bool
    rows: Mapping[str, Any]


class ChangeLog:
    """A log of rows in Valkey.

    Args:
        valkey: The connection.
        name: What the rows are, such as ``requests``; part of the key.

    Attributes:
        key: The key of the log in Valkey.

    >>> log = ChangeLog(model.valkey, "examples")
    >>> log.rewrite([("DMN001", {"runs": 6})])
    >>> log.append({"DMN002": {"runs": 1}})
    True
    >>> [dict(changes.rows) for changes in log.read()]
    [{}, {'DMN001': {'runs': 6}, 'DMN002': {'runs': 1}}]
    >>> log.erase(lambda name: name == "DMN002")
    1
    >>> log.drop("the examples end")
    """

    def __init__(self, valkey: Valkey, name: str) -> None:
        self._valkey = valkey
        self.key = f"{valkey.settings.valkey_prefix}:log:{{{name}}}"

    def read(self, position: Position | None = None) -> Iterator[Changes]:
        """Yield what was written after a position, from the beginning without one.

        Where there is a log, at least one part is yielded, which may have no rows; nothing means that there is none.

        Raises:
            CacheUnavailable: Valkey does not answer, or an entry could not be decoded and the log was deleted.
        """
        start, last = position or Position("", "0")
        while True:
            head, entries = self._valkey.execute_many(
                [
                    ("XRANGE", self.key, "-", "+", "COUNT", 1),
                    ("XRANGE", self.key, f"({last}", "+", "COUNT", _ENTRIES),
                ]
            )
            if not head:
                return
            ((header, fields),) = head
            if anew := (token := fields.get(b"v", header).decode("latin-1")) != start:
                start, last = token, header.decode()
                entries = []
            rows: dict[str, Any] = {}
            for entry, fields in entries:
                last = entry.decode()
                rows.update(self._decoded(fields))
            yield Changes(Position(start, last), anew, rows)
            if not anew and len(entries) < _ENTRIES:
                return

    def append(self, rows: Mapping[str, Any]) -> bool:
        """Append changes; return False where there is no log, which has to be written anew then.

        Raises:
            CacheUnavailable: Valkey does not answer, or has no memory left; some of the rows may be appended.
        """
        for data in _encoded(rows.items()):
            added, _ = self._valkey.execute_many(
                [("XADD", self.key, "NOMKSTREAM", "*", "d", data), ("EXPIRE", self.key, _KEPT_SECONDS)]
            )
            if added is None:
                return False
        return True

    def rewrite(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Write the log anew with these rows, and replace the old one in one step.

        Raises:
            CacheUnavailable: Valkey does not answer, or has no memory left; the old log stays.
        """
        draft = f"{self.key}:{secrets.token_hex(8)}"
        self._extend(
            draft, ("XADD", draft, "*", "v", secrets.token_hex(8))
        )  # ids are times: two logs may have the same
        for data in _encoded(rows):
            self._extend(draft, ("XADD", draft, "*", "d", data))
        self._valkey.execute_many([("EXPIRE", draft, _KEPT_SECONDS), ("RENAME", draft, self.key)])

    def erase(self, belongs: Callable[[str], bool]) -> int:
        """Write the log anew without the rows whose name ``belongs`` to somebody; return how many it had.

        Raises:
            CacheUnavailable: Valkey does not answer, or has no memory left.
        """
        erased = {name for changes in self.read() for name in changes.rows if belongs(name)}
        if erased:
            everything = (row for changes in self.read() for row in changes.rows.items())
            self.rewrite(row for row in everything if not belongs(row[0]))
        return len(erased)

    def _extend(self, draft: str, command: Command) -> None:
        self._valkey.execute_many([command, ("EXPIRE", draft, _DRAFT_SECONDS)])  # a draft that is left behind expires

    def _decoded(self, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
        try:
            return dict(json.loads(zlib.decompress(fields[b"d"])).items())
        except (KeyError, ValueError, AttributeError, RecursionError, zlib.error) as error:
            self.drop(error)
            raise CacheUnavailable(f"could not decode {self.key} in Valkey, so it was deleted: {error!r}") from None

    def drop(self, why: object) -> None:
        """Delete the log, because what it holds cannot be used; it is written anew by the next publish."""
        _log.warning("cache.damaged: could not decode %s; deleted it: %s", self.key, why)
        self._valkey.delete([self.key])


def _encoded(rows: Iterable[tuple[str, Any]]) -> Iterator[bytes]:
    chunk: dict[str, Any] = {}
    for name, value in rows:
        chunk[name] = value
        if len(chunk) == _ROWS:
            yield _packed(chunk)
            chunk = {}
    if chunk:
        yield _packed(chunk)


def _packed(rows: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode(), 1)
