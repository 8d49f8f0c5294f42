"""Repair what another program left under our keys: values of another type, and fields that make a script fail.

Everything in Valkey but the journal is a copy of something, so what cannot be used is deleted and made again: copies
and numbers from the table, an overlay from its journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentmodel._log import logger
from agentmodel.cache._item_codec import decode, version_text
from agentmodel.cache._lua import Command

__all__ = ["is_damage", "rebuild_overlay", "repair"]

_Send = Callable[[Sequence[Command]], list[Any]]
"""Sends commands; the answer to a rejected one is its exception."""

_log = logger("agentmodel.cache")

# the type of a key by what follows the prefix; every other key is a string
_TYPES = (
    (re.compile(r":\{\d\d\}:(j|dead)$"), b"stream"),
    (re.compile(r":\{\d\d\}:[pcn]:"), b"hash"),
    (re.compile(r":log:\{[^}]*\}(:[0-9a-f]{16})?$"), b"stream"),
    (re.compile(r":guard:"), b"hash"),
    (re.compile(r":lb:\{[^}]*\}(:[0-9a-f]{16})?$"), b"zset"),
)
_NUMBERS = re.compile(r":\{\d\d\}:n:")
_OVERLAY = re.compile(r"(.*:\{\d\d\}:)p:(.*)", re.DOTALL)


def is_damage(answer: Any) -> bool:
    """Return whether a command was rejected because of what its keys hold."""
    text = str(answer)
    return isinstance(answer, Exception) and ("WRONGTYPE" in text or "user_script" in text or "not an integer" in text)


def repair(send: _Send, commands: Iterable[Command], answers: Iterable[Any]) -> bool:
    """Delete what the rejected commands cannot use, and make overlays again; return whether anything was repaired."""
    repaired = False
    for command, answer in zip(commands, answers, strict=True):
        if not is_damage(answer):
            continue
        keys = command[3 : 3 + command[2]] if command[0] in ("EVAL", "EVALSHA") else command[1:2]
        types = send([("TYPE", key) for key in keys])
        failed_script = "WRONGTYPE" not in str(answer)
        for key, kind in zip(keys, types, strict=True):
            if kind not in (b"none", _type_of(key)) or (failed_script and _NUMBERS.search(key)):
                _log.error("cache.damaged: %s holds something else (%s); deleted it", key, kind.decode())
                send([("UNLINK", key)])
                rebuild_overlay(send, key)
                repaired = True
    return repaired


def rebuild_overlay(send: _Send, overlay: str, damaged: Iterable[bytes] = ()) -> None:
    """Put the entries of the journal into an overlay again; first delete its damaged fields."""
    parts = _OVERLAY.fullmatch(overlay)
    if parts is None:
        return
    journal, partition = f"{parts[1]}j", parts[2].encode()
    (entries,) = send([("XRANGE", journal, "-", "+")])
    newest: dict[str, tuple[str, bytes]] = {}
    for _, fields in [] if isinstance(entries, Exception) else entries:
        data = fields.get(b"d", b"")
        found = decode(data) if fields.get(b"k") == partition else None
        if found is not None and found[0].get("PK") == {"S": partition.decode()}:
            sort, version = found[0]["SK"]["S"], version_text(found[1])
            newest[sort] = max(newest.get(sort, ("", b"")), (version, data))
    commands: list[Command] = [("HDEL", overlay, name) for name in damaged]
    commands += [("HSET", overlay, sort, data) for sort, (_, data) in newest.items()]
    if commands:
        send(commands)


def _type_of(key: str) -> bytes:
    return next((kind for pattern, kind in _TYPES if pattern.search(key)), b"string")
