"""Find and delete everything of a user in Valkey: journal, dead letters, overlays, copies, numbers, cached results."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from agentmodel.cache._item_codec import version_text
from agentmodel.cache._key_names import GROUP, KeyNames
from agentmodel.cache._lua import ERASE_ENTRIES
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import CacheUnavailable
from agentmodel.keys import owner_of

__all__ = ["ErasedKeys", "Erasing", "erase_user", "rewrite_files"]

_MOST = 20_000  # entries of a stream that one script writes anew
_IDLE_MS = 60_000  # after which a drainer claims the entries of another one, too
_CHUNK = 200  # overlays of one script call, and values of one read
_REWRITE_SECONDS = 600.0  # for which the rewrite of an append-only file is waited for
_POLL = 0.02
_ERASING_SECONDS = 3_600
_RESULT = re.compile(r"answers:\{.*\}:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Erasing:
    """Whose records are erased.

    Attributes:
        owner: User id.
        before: The version before which a record is erased.
        until: The version before which a record of an open session is erased.
        open_sessions: SHA-1 digests of the open sessions.
        whose: The digest of the user that cached results carry.
        erasing_key: The key that exists while no result of the user's calls is cached; it holds ``before``.
    """

    owner: str
    before: int
    until: int
    open_sessions: Collection[str]
    whose: str
    erasing_key: str


@dataclass(frozen=True, slots=True)
class ErasedKeys:
    """What was deleted.

    Attributes:
        counts: How many of what.
        held: Entries that a drainer has read and not acknowledged yet; it drops them itself.
        unwritten: Entries of the user's shard, of all its users, if they were too many to write the stream anew.
    """

    counts: Counter[str]
    held: int
    unwritten: int


def erase_user(valkey: Valkey, keys: KeyNames, erasing: Erasing) -> ErasedKeys:
    """Delete what a user has in Valkey; what is newer than the erasure stays.

    Raises:
        CacheUnavailable: Valkey does not answer, or forbids SCAN.
    """
    valkey.execute(("SET", erasing.erasing_key, erasing.before, "EX", _ERASING_SECONDS))
    counts: Counter[str] = Counter()
    found = sorted(valkey.scan(f"{keys.prefix}:*"))
    shard = keys.shard(erasing.owner)
    overlays = _of_owner(found, keys.overlay(shard, ""), erasing.owner)
    chunks = [overlays[at : at + _CHUNK] for at in range(0, len(overlays), _CHUNK)] or [[]]
    replies = [_erase_entries(valkey, keys, erasing, chunk) for chunk in chunks]
    dead = _erase_entries(valkey, keys, erasing, None)
    counts["journal entries"] = sum(reply[0] for reply in replies)
    counts["dead letters"] = dead[0]
    counts["items not drained yet"] = sum(reply[2] for reply in replies)
    for what, names in _deletable(found, keys, shard, erasing.owner).items():
        counts[what] = sum(valkey.execute_many([("UNLINK", name) for name in names])) if names else 0
    valkey.execute(("UNLINK", f"{keys.prefix}:answers-writes:{erasing.whose}"))
    counts["places in the list of newest sessions"] = _erase_newest(valkey, keys.newest(), erasing.owner)
    counts["cached results"] = _erase_results(valkey, [name for name in found if _RESULT.search(name)], erasing.whose)
    return ErasedKeys(+counts, replies[-1][1], sum(left for *_, left in (replies[-1], dead) if left > _MOST))


def _of_owner(names: Collection[str], head: str, owner: str) -> list[str]:
    """Return the names that consist of a head and a partition of the owner."""
    return [name for name in names if name.startswith(head) and owner_of(name.removeprefix(head))[0] == owner]


def _erase_entries(valkey: Valkey, keys: KeyNames, erasing: Erasing, overlays: list[str] | None) -> list[int]:
    """Erase in the journal and these overlays; in the dead letters where there are no overlays to look at."""
    shard = keys.shard(erasing.owner)
    stream, group = (keys.dead_letters(shard), "") if overlays is None else (keys.journal(shard), GROUP)
    head, overlays = keys.overlay(shard, ""), overlays or []
    terms = [erasing.owner, version_text(erasing.before), version_text(erasing.until)]
    sessions, partitions = sorted(erasing.open_sessions), [name.removeprefix(head) for name in overlays]
    arguments = [group, _IDLE_MS, _MOST, *terms, len(sessions), *sessions, *partitions]
    reply: list[int] = valkey.execute(ERASE_ENTRIES.on([stream, *overlays], *arguments))
    return reply


def _deletable(found: Collection[str], keys: KeyNames, shard: int, owner: str) -> dict[str, list[str]]:
    """Return the keys that are deleted whole, by what they are."""
    guard = f"{keys.prefix}:guard:"
    of_0_1_0 = [
        name
        for name in found
        if name.startswith(f"{guard}{owner}:SESS") and not owner_of(name.removeprefix(guard))[1]  # no session's key
    ]
    item, *mappings = (keys.cached(name).removesuffix("}") for name in ("item:", "mappings:", "best:"))
    shared = [name for name in found if name.startswith(tuple(mappings))]
    shared += [
        name
        for name in found
        if name.startswith(item) and owner_of(name.removeprefix(item).partition("|")[0])[0] == owner
    ]
    return {
        "copies": _of_owner(found, keys.copy(shard, ""), owner),
        "attempt numbers": _of_owner(found, keys.numbers(shard, ""), owner),
        "facts about calls": [*_of_owner(found, guard, owner), *of_0_1_0],
        "shared copies": shared,
    }


def _erase_newest(valkey: Valkey, key: str, owner: str) -> int:
    """Take the user's sessions out of the list of the newest ones; it is read whole, which is bounded."""
    own = [each for each in valkey.execute(("ZRANGE", key, 0, -1)) if each.startswith(f"{owner} ".encode())]
    return int(valkey.execute(("ZREM", key, *own))) if own else 0


def _erase_results(valkey: Valkey, names: list[str], whose: str) -> int:
    """Delete the cached results of a user's calls, and those that do not say whose they are."""
    erased = 0
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        values = valkey.execute_many([("GET", name) for name in chunk])
        own = [name for name, value in zip(chunk, values, strict=True) if value is not None and _is_own(value, whose)]
        erased += sum(valkey.execute_many([("UNLINK", name) for name in own])) if own else 0
    return erased


def _is_own(value: bytes, whose: str) -> bool:
    try:
        entry = json.loads(value)
    except (ValueError, RecursionError):
        return True  # damaged
    return not isinstance(entry, dict) or entry.get("whose", whose) == whose


def rewrite_files(valkey: Valkey, *, pause: Callable[[float], object] = time.sleep) -> str:
    """Have the server write its append-only file, and a snapshot if it makes any, anew without what was deleted.

    Returns:
        Why a file still holds what was deleted; empty when none does.

    Raises:
        CacheUnavailable: Valkey does not answer.
    """
    enabled = any(int(info.get("aof_enabled", 0)) for info in _persistence(valkey))
    schedules = valkey.ask_primaries(("CONFIG", "GET", "save"))
    problem = ""
    if enabled:
        problem = _run(valkey, "BGREWRITEAOF", "aof_rewrite_in_progress", "aof_rewrite_scheduled", pause=pause)
    if any(isinstance(schedule, Exception) or _has_schedule(schedule) for schedule in schedules):
        problem = problem or _run(valkey, "BGSAVE", "rdb_bgsave_in_progress", pause=pause)
    return problem


def _has_schedule(answer: object) -> bool:
    values = list(answer.values()) if isinstance(answer, dict) else list(answer or ())[1:]  # type: ignore[call-overload]  # redis-py gives one of the two
    return any(values)


def _run(valkey: Valkey, command: str, *busy: str, pause: Callable[[float], object]) -> str:
    """Run a background job of every primary and wait for its end; return why that was not possible."""
    deadline = time.monotonic() + _REWRITE_SECONDS
    while time.monotonic() < deadline:
        _wait_until_idle(valkey, busy, deadline, pause)
        errors = [answer for answer in valkey.ask_primaries((command,)) if isinstance(answer, Exception)]
        if not errors:
            _wait_until_idle(valkey, busy, deadline, pause)
            return ""
        if "progress" not in str(errors[0]).lower():
            return f"the server rejects {command}: {str(errors[0]).splitlines()[0]}"
        pause(_POLL)
    return f"{command} did not end within {_REWRITE_SECONDS:.0f} seconds"


def _wait_until_idle(valkey: Valkey, busy: Collection[str], deadline: float, pause: Callable[[float], object]) -> None:
    while time.monotonic() < deadline:
        if not any(int(info.get(name, 0)) for info in _persistence(valkey) for name in busy):
            return
        pause(_POLL)


def _persistence(valkey: Valkey) -> list[dict[str, Any]]:
    infos = valkey.ask_primaries(("INFO", "persistence"))
    for info in infos:
        if isinstance(info, Exception):
            raise CacheUnavailable(f"Valkey at {valkey.address} rejected INFO: {info}") from info
    return infos
