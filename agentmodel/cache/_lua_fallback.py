"""Run the scripts as transactions on a server without Lua: the module is not loaded, or an ACL forbids it.

Each function does what the script of the same name in `agentmodel.cache._lua` does, with the same keys, arguments and
answer. It watches the keys it reads and writes in one MULTI; when another client changes a watched key in between, it
starts again. It takes several round trips where the script takes one.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import WatchError

from agentmodel.cache import _lua
from agentmodel.cache._lua import COMPLETE, Command
from agentmodel.exceptions import CacheUnavailable

__all__ = ["Transaction", "run"]

_ATTEMPTS = 200
_DAY_MS = 86_400_000
_COMPLETE = COMPLETE.encode()
_LETTERS = string.ascii_letters.encode()


class Transaction:
    """Read at once, and write in one MULTI at the end; a field that was set is read back as it was set."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._fields: dict[tuple[str, bytes], bytes | None] = {}
        self._writes: list[Command] = []

    def watch(self, *keys: str) -> None:
        """Watch keys: the commit fails when another client changes one of them from now on."""
        self._pipe.watch(*keys)

    def run(self, *command: Any, **options: Any) -> Any:
        """Run a command now and return its answer; ``options`` are those of redis-py's response callback."""
        return self._pipe.immediate_execute_command(*command, **options)

    def load(self, key: str, fields: Iterable[bytes]) -> None:
        """Read fields that will be needed, in one round trip."""
        wanted = [name for name in dict.fromkeys(fields) if (key, name) not in self._fields]
        if wanted:
            for name, value in zip(wanted, self.run("HMGET", key, *wanted), strict=True):
                self._fields[key, name] = value

    def field(self, key: str, name: bytes) -> bytes | None:
        """Return a field of a hash; None where it is missing."""
        self.load(key, [name])
        return self._fields[key, name]

    def set(self, key: str, name: bytes, value: bytes) -> None:
        """Set a field of a hash when the transaction commits."""
        self._fields[key, name] = value
        self.queue("HSET", key, name, value)

    def queue(self, *command: Any) -> None:
        """Queue a write for the commit."""
        self._writes.append(command)

    def commit(self) -> None:
        """Do all queued writes, or none.

        Raises:
            WatchError: A watched key was changed.
        """
        if self._writes:
            self._pipe.multi()
            for command in self._writes:
                self._pipe.execute_command(*command)
            self._pipe.execute()


def run(client: Any, command: Command) -> Any:
    """Run a script's command without the script, and return its answer.

    Args:
        client: A redis-py client of the one server that holds the keys.
        command: The command, as `agentmodel.cache._lua.Script.on` makes it.

    Raises:
        CacheUnavailable: Other clients changed the same keys at every attempt.
    """
    _, sha, count, *args = command
    keys, values = list(args[:count]), [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args[count:]]
    function = _FUNCTIONS.get(sha)
    if function is None:
        raise CacheUnavailable(f"the script {sha} on {keys[0]} has no implementation without Lua")
    for _ in range(_ATTEMPTS):
        with client.pipeline(transaction=True) as pipe:
            transaction = Transaction(pipe)
            try:
                answer = function(transaction, keys, values)
                transaction.commit()
            except WatchError:
                continue
            return answer
    raise CacheUnavailable(
        f"writing {keys[0]} failed: other clients changed it during each of {_ATTEMPTS} attempts; try again"
    )


def _append(tx: Transaction, keys: list[str], argv: list[bytes]) -> list[int]:
    parts = len(keys) // 2
    names, groups = argv[2 : 2 + parts], []
    for values in _groups(argv, 2 + parts, 8):
        part = int(values[0])
        groups.append((values, keys[part * 2 - 1], keys[part * 2]))
    # not the journal, to which all users of the shard write: its limit may be exceeded by a few entries
    tx.watch(*keys[1:])
    for name in dict.fromkeys(keys[1:]):
        tx.load(name, _fields_read(name, groups))
    depth, out = int(tx.run("XLEN", keys[0])), [0]
    for values, overlay, numbers in groups:
        code, free = _claim_number(tx, numbers, values) if values[7] else (0, 0)
        if values[7]:
            tx.queue("EXPIRE", numbers, argv[1])
        if code == 0:
            current = tx.field(overlay, values[1])
            if current is not None and values[7] and _call_of(current) != _call_of(values[4]):
                code, free = 2, _take(tx, numbers, values) + 1
            elif current is not None and current[:20] >= values[4][:20]:
                code = 1
            elif depth >= int(argv[0]):
                code = 5
            else:
                index, sort, immutable, expires, data = values[:5]
                fields = ("k", names[int(index) - 1], "m", sort, "i", immutable, "x", expires, "d", data)
                tx.queue("XADD", keys[0], "*", *fields)
                tx.set(overlay, sort, data)
                depth += 1
            if values[7] and code != 2:
                _take(tx, numbers, values)
                tx.set(numbers, _call_field(values), values[7] + (b"?" if code == 5 else b""))
        out += [code, free]
    return [depth, *out[1:]] if any(out[1::2]) else [depth]


def _groups(argv: list[bytes], start: int, size: int) -> list[list[bytes]]:
    """Split the arguments of a script into those of each entry."""
    return [argv[at : at + size] for at in range(start, len(argv), size)]


def _fields_read(name: str, groups: Sequence[tuple[list[bytes], str, str]]) -> Iterable[bytes]:
    for values, overlay, numbers in groups:
        if overlay == name:
            yield values[1]
        if numbers == name and values[7]:
            yield from (_COMPLETE, _call_field(values), b"m" + values[5], b"n" + values[5] + b"\0" + values[7], b"f")


def _call_field(values: list[bytes]) -> bytes:
    return b"c" + values[5] + b"\0" + values[6]


def _claim_number(tx: Transaction, numbers: str, values: list[bytes]) -> tuple[int, int]:
    """Claim an entry's attempt number; return the code and number that ``APPEND`` returns for it."""
    family, number = values[5], values[7]
    taken = b"n" + family + b"\0" + number
    if tx.field(numbers, _COMPLETE) is None:
        return 4, 0
    claim, highest = tx.field(numbers, _call_field(values)), int(tx.field(numbers, b"m" + family) or b"0")
    if claim is not None:
        claimed = claim.removesuffix(b"?")
        if claimed != number:
            return 3, int(claimed)
        return (1 if values[2] == b"1" and not claim.endswith(b"?") else 0), 0
    above = tx.field(numbers, b"f")
    floor = 0 if above is None or family > above else int(above.lstrip(_LETTERS))
    if tx.field(numbers, taken) is not None or int(number) <= floor:
        return 2, max(highest, floor) + 1
    return 0, 0


def _take(tx: Transaction, numbers: str, values: list[bytes]) -> int:
    """Mark an entry's number as taken, and return the highest one of its family."""
    family, number = values[5], values[7]
    highest = int(tx.field(numbers, b"m" + family) or b"0")
    tx.set(numbers, b"n" + family + b"\0" + number, b"1")
    if int(number) > highest:
        tx.set(numbers, b"m" + family, number)
    return max(highest, int(number))


def _call_of(item: bytes) -> bytes | None:
    found = re.search(rb'"CallID":{"S":"(.*?)"', item)
    return None if found is None else found[1]


def _register_numbers(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    numbers, copy = keys
    tx.watch(numbers, copy)
    for at in range(3, len(argv), 3):
        family, call, number = argv[at : at + 3]
        if int(number) > int(tx.field(numbers, b"m" + family) or b"0"):
            tx.set(numbers, b"m" + family, number)
        tx.queue("HSETNX", numbers, b"c" + family + b"\0" + call, number)
        tx.queue("HSET", numbers, b"n" + family + b"\0" + number, "1")
    tx.queue("HSET", numbers, _COMPLETE, "1")
    tx.queue(*(("HSET", numbers, "f", argv[2]) if argv[2] else ("HDEL", numbers, "f")))
    tx.queue("EXPIRE", numbers, argv[0])
    if argv[1] and not tx.run("EXISTS", copy):
        tx.queue("HSET", copy, _COMPLETE, "1")
        tx.queue("EXPIRE", copy, argv[1])
    return 1


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def _pending(tx: Transaction, key: str, group: bytes, idle: bytes, count: int) -> list[tuple[bytes, int]]:
    """Return the pending entries that have been idle for that long, with their delivery counts."""
    found = tx.run("XPENDING", key, group, "IDLE", idle, "-", "+", count, parse_detail=True)
    return [(entry["message_id"], int(entry["times_delivered"])) for entry in found]


def _read_entries(tx: Transaction, keys: list[str], argv: list[bytes]) -> list[Any]:
    group, consumer, count, idle, suspect = argv[0], argv[1], int(argv[2]), argv[3], int(argv[4])
    if not tx.run("XLEN", keys[0]):
        return [0]
    if not any(info["name"] == group for info in tx.run("XINFO GROUPS", keys[0])):
        tx.run("XGROUP", "CREATE", keys[0], group, "0")
    pending = _pending(tx, keys[0], group, idle, count)
    out: list[Any] = [sum(deliveries >= suspect for _, deliveries in pending)]
    for entry, deliveries in pending:
        if deliveries < suspect:
            claimed = tx.run("XCLAIM", keys[0], group, consumer, idle, entry)
            out += [[entry, deliveries + 1, _flat(fields)] for _, fields in claimed if fields]
    room = count - (len(out) - 1)
    if room > 0:
        fresh = tx.run("XREADGROUP", "GROUP", group, consumer, "COUNT", room, "STREAMS", keys[0], ">") or []
        out += [[entry, 1, _flat(fields)] for _, entries in fresh for entry, fields in entries]
    return out


def _claim_suspect(tx: Transaction, keys: list[str], argv: list[bytes]) -> list[Any]:
    for entry, deliveries in _pending(tx, keys[0], argv[0], argv[2], 1000):
        if deliveries >= int(argv[3]):
            for _, fields in tx.run("XCLAIM", keys[0], argv[0], argv[1], argv[2], entry):
                if fields:
                    return [entry, deliveries + 1, _flat(fields)]
    return []


def _release(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    for entry, deliveries in zip(argv[2::2], argv[3::2], strict=True):
        claim = ("XCLAIM", keys[0], argv[0], argv[1], 0, entry, "IDLE", _DAY_MS, "RETRYCOUNT", deliveries, "JUSTID")
        tx.run(*claim, parse_justid=True)
    return 1


def _acknowledge(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(*keys[1:])
    copy_exists: dict[str, bool] = {copy: bool(tx.run("EXISTS", copy)) for copy in dict.fromkeys(keys[2::2])}
    ids, args = [], iter(argv[1:])
    for overlay, copy in zip(keys[1::2], keys[2::2], strict=True):
        entries = [text.split(b" ", 4) for text in islice(args, int(next(args)))]
        tx.load(overlay, [sort for *_, sort in entries])
        for entry, version, expires, stale, sort in entries:
            ids.append(entry)
            item = tx.field(overlay, sort)
            if item is None or item[:20] != version:
                continue
            tx.queue("HDEL", overlay, sort)
            if stale == b"1":
                tx.queue("UNLINK", copy)
                copy_exists[copy] = False
            elif copy_exists[copy]:
                _set_if_newer(tx, copy, sort, item)
                if expires:
                    tx.queue("EXPIREAT", copy, expires, "LT")
    tx.queue("XACK", keys[0], argv[0], *ids)
    tx.queue("XDEL", keys[0], *ids)
    return len(ids)


def _set_if_newer(tx: Transaction, copy: str, name: bytes, value: bytes) -> None:
    """Set a field of a copy unless it holds that version or a newer one."""
    cached = tx.field(copy, name)
    if cached is None or cached[:20] < value[:20]:
        tx.set(copy, name, value)


def _dead_letter(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    found = tx.run("XRANGE", keys[0], argv[1], argv[1])
    tx.queue("XACK", keys[0], argv[0], argv[1])
    if not found:
        return 0
    tx.queue("XDEL", keys[0], argv[1])
    tx.queue("XADD", keys[1], "*", "reason", *argv[2:])
    return 1


def _retry_dead_letter(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    found = tx.run("XRANGE", keys[0], argv[0], argv[0])
    if not found:
        return 0
    fields = {name: value for name, value in found[0][1].items() if name != b"reason"}
    tx.queue("XADD", keys[1], "*", *_flat(fields))
    tx.queue("XDEL", keys[0], argv[0])
    return 1


def _drop_dead_letter(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(*keys)
    found = tx.run("XRANGE", keys[0], argv[0], argv[0])
    item = tx.field(keys[1], argv[1])
    if item is not None and item[:20] == argv[2]:
        tx.queue("HDEL", keys[1], argv[1])
    tx.queue("XDEL", keys[0], argv[0])
    return len(found)


def _erase_entries(tx: Transaction, keys: list[str], argv: list[bytes]) -> list[int]:
    group, idle, most, user, before, till, count, *rest = argv
    stream, overlays = keys[0], keys[1:]
    open_sessions, partitions = set(rest[: int(count)]), rest[int(count) :]
    tx.watch(*keys)

    def erased(partition: bytes, sort: bytes, data: bytes) -> bool:
        session = sort if partition == user else partition[len(user) + 1 :]
        digest = hashlib.sha1(session, usedforsecurity=False).hexdigest().encode()
        return data[:20] < before or (data[:20] < till and digest in open_sessions)

    gone = [
        (overlay, sort)
        for overlay, partition in zip(overlays, partitions, strict=True)
        for sort, data in tx.run("HGETALL", overlay).items()
        if erased(partition, sort, data)
    ]
    for overlay, sort in gone:
        tx.queue("HDEL", overlay, sort)
    length = int(tx.run("XLEN", stream))
    if not 0 < length <= int(most):
        return [0, 0, len(gone), length]
    pending = _pending_of(tx, stream, group)
    live, removed, held = [], 0, 0
    for entry, fields in tx.run("XRANGE", stream, "-", "+"):
        partition = fields.get(b"k", b"")
        own = partition == user or partition.startswith(user + b"#")
        if own and erased(partition, fields.get(b"m", b""), fields.get(b"d", b"")):
            if entry not in pending or pending[entry]["time_since_delivered"] >= int(idle):
                removed += 1
                continue
            held += 1
        live.append((entry, fields))
    _rewrite_stream(tx, stream, group, live, pending)
    return [removed, held, len(gone), len(live)]


def _pending_of(tx: Transaction, stream: str, group: bytes) -> dict[bytes, Any]:
    """Return the pending entries of a group by their ids; none where the stream has no such group."""
    if all(each["name"] != group for each in tx.run("XINFO GROUPS", stream)):
        return {}
    found = tx.run("XPENDING", stream, group, "-", "+", 1_000_000, parse_detail=True)
    return {one["message_id"]: one for one in found}


def _rewrite_stream(
    tx: Transaction,
    stream: str,
    group: bytes,
    live: Sequence[tuple[bytes, dict[bytes, bytes]]],
    pending: dict[bytes, Any],
) -> None:
    """Write a stream anew with these entries; ids, groups and pending entries stay as they are."""
    groups, last = tx.run("XINFO GROUPS", stream), tx.run("XINFO STREAM", stream)["last-generated-id"]
    tx.queue("DEL", stream)
    if not live:
        return
    for entry, fields in live:
        tx.queue("XADD", stream, entry, *_flat(fields))
    tx.queue("XSETID", stream, last)
    for each in groups:
        tx.queue("XGROUP", "CREATE", stream, each["name"], each["last-delivered-id"])
    for one in (pending[entry] for entry, _ in live if entry in pending):
        claim = ("XCLAIM", stream, group, one["consumer"], 0, one["message_id"], "IDLE", one["time_since_delivered"])
        tx.queue(*claim, "RETRYCOUNT", one["times_delivered"], "FORCE")


def _remove_consumer(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    if not tx.run("EXISTS", keys[0]) or not any(info["name"] == argv[0] for info in tx.run("XINFO GROUPS", keys[0])):
        return 0
    for consumer in tx.run("XINFO CONSUMERS", keys[0], argv[0]):
        if consumer["pending"] == 0 and (consumer["name"] == argv[1] or consumer["idle"] > _DAY_MS):
            tx.run("XGROUP", "DELCONSUMER", keys[0], argv[0], consumer["name"])
    return 1


def _begin_fill(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    if tx.field(keys[0], _COMPLETE) is not None:
        return 0
    tx.queue("HSET", keys[0], b"\0" + argv[0], "1")
    tx.queue("EXPIRE", keys[0], argv[1])
    return 1


def _end_fill(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    tx.load(keys[0], [b"\0" + argv[0], *argv[2::2]])
    if tx.field(keys[0], b"\0" + argv[0]) is None:
        return 0
    tx.queue("HDEL", keys[0], b"\0" + argv[0])
    for name, value in zip(argv[2::2], argv[3::2], strict=True):
        _set_if_newer(tx, keys[0], name, value)
    tx.queue("HSET", keys[0], _COMPLETE, "1")
    tx.queue("EXPIRE", keys[0], argv[1])
    return 1


def _update_copy(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    if not tx.run("EXISTS", keys[0]):
        return 0
    for name, value, expires in zip(argv[::3], argv[1::3], argv[2::3], strict=True):
        _set_if_newer(tx, keys[0], name, value)
        if expires:
            tx.queue("EXPIREAT", keys[0], expires, "LT")
    return 1


def _store_loaded(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    token, value, ttl_ms, known_version, negative = argv
    tx.watch(*keys)
    if tx.run("GET", keys[1]) != token:
        return 0
    tx.queue("UNLINK", keys[1])
    current = tx.run("GET", keys[0])
    keep = current is not None and (current[:20] != known_version if negative == b"1" else current[:20] > value[:20])
    if not keep:
        tx.queue("SET", keys[0], value, "PX", ttl_ms)
    return int(not keep)


def _put_if_newer(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    tx.watch(keys[0])
    current = tx.run("GET", keys[0])
    if current is not None and current[20:21] == b"P" and current[:20] > argv[0][:20]:
        return 0
    tx.queue("SET", keys[0], argv[0], "PX", argv[1])
    return 1


def _swap_ranking(tx: Transaction, keys: list[str], argv: list[bytes]) -> int:
    live, draft, best = keys
    tx.watch(live, draft)
    first = tx.run("ZRANGE", live, 0, 0)
    run = first[0][1:] if first and first[0][1:].isdigit() else None
    if run is not None and run > argv[0]:
        tx.queue("UNLINK", draft)
        return 0
    if not tx.run("EXISTS", draft):
        return int(run == argv[0])
    tx.queue("PERSIST", draft)
    tx.queue("RENAME", draft, live)
    tx.queue("SET", best, argv[1])
    return 1


def _compare_and_set(tx: Transaction, keys: list[str], argv: list[bytes]) -> bytes | None:
    expected, value, seconds = argv
    tx.watch(keys[0])
    current: bytes | None = tx.run("GET", keys[0])
    if current and current != expected:
        return current
    tx.queue("SET", keys[0], value, "EX", seconds)
    return None


_FUNCTIONS: dict[str, Callable[[Transaction, list[str], list[bytes]], Any]] = {
    _lua.APPEND.sha: _append,
    _lua.REGISTER_NUMBERS.sha: _register_numbers,
    _lua.READ_ENTRIES.sha: _read_entries,
    _lua.CLAIM_SUSPECT.sha: _claim_suspect,
    _lua.ACKNOWLEDGE.sha: _acknowledge,
    _lua.DEAD_LETTER.sha: _dead_letter,
    _lua.RETRY_DEAD_LETTER.sha: _retry_dead_letter,
    _lua.DROP_DEAD_LETTER.sha: _drop_dead_letter,
    _lua.REMOVE_CONSUMER.sha: _remove_consumer,
    _lua.BEGIN_FILL.sha: _begin_fill,
    _lua.END_FILL.sha: _end_fill,
    _lua.UPDATE_COPY.sha: _update_copy,
    _lua.STORE_LOADED.sha: _store_loaded,
    _lua.PUT_IF_NEWER.sha: _put_if_newer,
    _lua.SWAP_RANKING.sha: _swap_ranking,
    _lua.COMPARE_AND_SET.sha: _compare_and_set,
    _lua.RELEASE.sha: _release,
    _lua.ERASE_ENTRIES.sha: _erase_entries,
}
