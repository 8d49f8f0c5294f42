"""The scripts as transactions, for a server without Lua: one that has not loaded the module, or an ACL that forbids it.

Each function does what the script of the same name in `agentmodel.cache.scripts` does, with the same keys, arguments
and answer: it watches what it reads, and writes in one MULTI; when somebody writes in between it is begun again. It
takes some round trips where the script takes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import WatchError

from agentmodel.cache import scripts
from agentmodel.cache.scripts import KNOWN, Command
from agentmodel.exceptions import CacheUnavailable

__all__ = ["Try", "run"]

_TRIES = 200
_DAY_MS = 86_400_000
_KNOWN = KNOWN.encode()


class Try:
    """One try: reads at once, writes in one transaction at the end; a field that was set reads as it was set."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._fields: dict[tuple[str, bytes], bytes | None] = {}
        self._writes: list[Command] = []

    def watch(self, *keys: str) -> None:
        """From now on nobody else may change these."""
        self._pipe.watch(*keys)

    def ask(self, *command: Any, **options: Any) -> Any:
        """The answer to a command now; ``options`` are redis-py's for its answer."""
        return self._pipe.immediate_execute_command(*command, **options)

    def load(self, key: str, fields: Iterable[bytes]) -> None:
        """Reads fields that will be asked for, in one round trip."""
        wanted = [name for name in dict.fromkeys(fields) if (key, name) not in self._fields]
        if wanted:
            for name, value in zip(wanted, self.ask("HMGET", key, *wanted), strict=True):
                self._fields[key, name] = value

    def field(self, key: str, name: bytes) -> bytes | None:
        """A field of a hash."""
        self.load(key, [name])
        return self._fields[key, name]

    def set(self, key: str, name: bytes, value: bytes) -> None:
        """Sets a field of a hash."""
        self._fields[key, name] = value
        self.do("HSET", key, name, value)

    def do(self, *command: Any) -> None:
        """A write, at the end."""
        self._writes.append(command)

    def commit(self) -> None:
        """Does all writes, or none when something that is watched has changed."""
        if self._writes:
            self._pipe.multi()
            for command in self._writes:
                self._pipe.execute_command(*command)
            self._pipe.execute()


def run(client: Any, command: Command) -> Any:
    """The answer to a script's call, without its script.

    Args:
        client: A client of redis-py of the one server that holds the keys.
        command: As `agentmodel.cache.scripts.Script.on` makes it.

    Raises:
        CacheUnavailable: Others change the same keys all the time.
    """
    _, sha, count, *rest = command
    keys, values = list(rest[:count]), [one if isinstance(one, bytes) else str(one).encode() for one in rest[count:]]
    twin = _TWINS.get(sha) or scripts.plain_of(sha)
    if twin is None:
        raise CacheUnavailable(f"a script on {keys[0]} cannot be done without Lua")
    for _ in range(_TRIES):
        with client.pipeline(transaction=True) as pipe:
            one = Try(pipe)
            try:
                answer = twin(one, keys, values)
                one.commit()
            except WatchError:
                continue
            return answer
    raise CacheUnavailable(f"{keys[0]} was changed by others {_TRIES} times while it was written")


def _record(go: Try, keys: list[str], argv: list[bytes]) -> list[int]:
    parts = len(keys) // 2
    names, groups = argv[2 : 2 + parts], []
    for values in _groups(argv, 2 + parts, 8):
        place = int(values[0])
        groups.append((values, keys[place * 2 - 1], keys[place * 2]))
    go.watch(*keys[1:])  # not the journal, to which all users of the shard write: the bound is met within a few entries
    for name in dict.fromkeys(keys[1:]):
        go.load(name, _record_reads(name, groups))
    depth, out = int(go.ask("XLEN", keys[0])), [0]
    for values, overlay, numbers in groups:
        code, free = _claimed(go, numbers, values) if values[7] else (0, 0)
        if values[7]:
            go.do("EXPIRE", numbers, argv[1])
        if code == 0:
            held = go.field(overlay, values[1])
            if held is not None and held[:20] >= values[4][:20]:
                code = 1
            elif depth >= int(argv[0]):
                code = 5
            else:
                part, sort, fixed, expires, data = values[:5]
                go.do("XADD", keys[0], "*", "k", names[int(part) - 1], "m", sort, "i", fixed, "x", expires, "d", data)
                go.set(overlay, sort, data)
                depth += 1
            if values[7]:
                go.set(numbers, _mine(values), values[7] + (b"?" if code == 5 else b""))
        out += [code, free]
    return [depth, *out[1:]] if any(out[1::2]) else [depth]


def _groups(argv: list[bytes], start: int, size: int) -> list[list[bytes]]:
    """The arguments of each entry."""
    return [argv[at : at + size] for at in range(start, len(argv), size)]


def _record_reads(name: str, groups: Sequence[tuple[list[bytes], str, str]]) -> Iterable[bytes]:
    for values, overlay, numbers in groups:
        if overlay == name:
            yield values[1]
        if numbers == name and values[7]:
            yield from (_KNOWN, _mine(values), b"m" + values[5], b"n" + values[5] + b"\0" + values[7])


def _mine(values: list[bytes]) -> bytes:
    return b"c" + values[5] + b"\0" + values[6]


def _claimed(go: Try, numbers: str, values: list[bytes]) -> tuple[int, int]:
    """The code and the free number of an entry that asks for a number."""
    family, number = values[5], values[7]
    place = b"n" + family + b"\0" + number
    if go.field(numbers, _KNOWN) is None:
        return 4, 0
    had, most = go.field(numbers, _mine(values)), int(go.field(numbers, b"m" + family) or b"0")
    if had is not None:
        own = had.removesuffix(b"?")
        if own != number:
            return 3, int(own)
        return (1 if values[2] == b"1" and not had.endswith(b"?") else 0), 0
    if go.field(numbers, place) is not None:
        return 2, most + 1
    go.set(numbers, place, b"1")
    if int(number) > most:
        go.set(numbers, b"m" + family, number)
    return 0, 0


def _open(go: Try, keys: list[str], argv: list[bytes]) -> int:
    numbers, copy = keys
    go.watch(numbers, copy)
    for at in range(2, len(argv), 3):
        family, call, number = argv[at : at + 3]
        if int(number) > int(go.field(numbers, b"m" + family) or b"0"):
            go.set(numbers, b"m" + family, number)
        go.do("HSETNX", numbers, b"c" + family + b"\0" + call, number)
        go.do("HSET", numbers, b"n" + family + b"\0" + number, "1")
    go.do("HSET", numbers, _KNOWN, "1")
    go.do("EXPIRE", numbers, argv[0])
    if argv[1] and not go.ask("EXISTS", copy):
        go.do("HSET", copy, _KNOWN, "1")
        go.do("EXPIRE", copy, argv[1])
    return 1


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def _waiting(go: Try, key: str, group: bytes, idle: bytes, count: int) -> list[tuple[bytes, int]]:
    """Entries taken and not acknowledged for that long, with their deliveries."""
    found = go.ask("XPENDING", key, group, "IDLE", idle, "-", "+", count, parse_detail=True)
    return [(one["message_id"], int(one["times_delivered"])) for one in found]


def _take(go: Try, keys: list[str], argv: list[bytes]) -> list[Any]:
    group, consumer, count, idle, suspect = argv[0], argv[1], int(argv[2]), argv[3], int(argv[4])
    if not go.ask("XLEN", keys[0]):
        return [0]
    if not any(one["name"] == group for one in go.ask("XINFO GROUPS", keys[0])):
        go.ask("XGROUP", "CREATE", keys[0], group, "0")
    waiting = _waiting(go, keys[0], group, idle, count)
    out: list[Any] = [sum(deliveries >= suspect for _, deliveries in waiting)]
    for entry, deliveries in waiting:
        if deliveries < suspect:
            claimed = go.ask("XCLAIM", keys[0], group, consumer, idle, entry)
            out += [[entry, deliveries + 1, _flat(fields)] for _, fields in claimed if fields]
    room = count - (len(out) - 1)
    if room > 0:
        fresh = go.ask("XREADGROUP", "GROUP", group, consumer, "COUNT", room, "STREAMS", keys[0], ">") or []
        out += [[entry, 1, _flat(fields)] for _, entries in fresh for entry, fields in entries]
    return out


def _adopt(go: Try, keys: list[str], argv: list[bytes]) -> list[Any]:
    for entry, deliveries in _waiting(go, keys[0], argv[0], argv[2], 1000):
        if deliveries >= int(argv[3]):
            for _, fields in go.ask("XCLAIM", keys[0], argv[0], argv[1], argv[2], entry):
                if fields:
                    return [entry, deliveries + 1, _flat(fields)]
    return []


def _release(go: Try, keys: list[str], argv: list[bytes]) -> int:
    for entry, deliveries in zip(argv[2::2], argv[3::2], strict=True):
        claim = ("XCLAIM", keys[0], argv[0], argv[1], 0, entry, "IDLE", _DAY_MS, "RETRYCOUNT", deliveries, "JUSTID")
        go.ask(*claim, parse_justid=True)
    return 1


def _settle(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(*keys[1:])
    there: dict[str, bool] = {copy: bool(go.ask("EXISTS", copy)) for copy in dict.fromkeys(keys[2::2])}
    ids, rest = [], iter(argv[1:])
    for overlay, copy in zip(keys[1::2], keys[2::2], strict=True):
        entries = [one.split(b" ", 4) for one in islice(rest, int(next(rest)))]
        go.load(overlay, [sort for *_, sort in entries])
        for entry, version, expires, stale, sort in entries:
            ids.append(entry)
            held = go.field(overlay, sort)
            if held is None or held[:20] != version:
                continue
            go.do("HDEL", overlay, sort)
            if stale == b"1":
                go.do("UNLINK", copy)
                there[copy] = False
            elif there[copy]:
                _join(go, copy, sort, held)
                if expires:
                    go.do("EXPIREAT", copy, expires, "LT")
    go.do("XACK", keys[0], argv[0], *ids)
    go.do("XDEL", keys[0], *ids)
    return len(ids)


def _join(go: Try, copy: str, name: bytes, value: bytes) -> None:
    """Sets a field of a copy unless it holds that version or a newer one."""
    had = go.field(copy, name)
    if had is None or had[:20] < value[:20]:
        go.set(copy, name, value)


def _bury(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    found = go.ask("XRANGE", keys[0], argv[1], argv[1])
    go.do("XACK", keys[0], argv[0], argv[1])
    if not found:
        return 0
    go.do("XDEL", keys[0], argv[1])
    go.do("XADD", keys[1], "*", "reason", *argv[2:])
    return 1


def _retry(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    found = go.ask("XRANGE", keys[0], argv[0], argv[0])
    if not found:
        return 0
    fields = {name: value for name, value in found[0][1].items() if name != b"reason"}
    go.do("XADD", keys[1], "*", *_flat(fields))
    go.do("XDEL", keys[0], argv[0])
    return 1


def _drop(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(*keys)
    found = go.ask("XRANGE", keys[0], argv[0], argv[0])
    held = go.field(keys[1], argv[1])
    if held is not None and held[:20] == argv[2]:
        go.do("HDEL", keys[1], argv[1])
    go.do("XDEL", keys[0], argv[0])
    return len(found)


def _retire(go: Try, keys: list[str], argv: list[bytes]) -> int:
    if not go.ask("EXISTS", keys[0]) or not any(one["name"] == argv[0] for one in go.ask("XINFO GROUPS", keys[0])):
        return 0
    for one in go.ask("XINFO CONSUMERS", keys[0], argv[0]):
        if one["pending"] == 0 and (one["name"] == argv[1] or one["idle"] > _DAY_MS):
            go.ask("XGROUP", "DELCONSUMER", keys[0], argv[0], one["name"])
    return 1


def _claim(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    if go.field(keys[0], _KNOWN) is not None:
        return 0
    go.do("HSET", keys[0], b"\0" + argv[0], "1")
    go.do("EXPIRE", keys[0], argv[1])
    return 1


def _fill(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    go.load(keys[0], [b"\0" + argv[0], *argv[2::2]])
    if go.field(keys[0], b"\0" + argv[0]) is None:
        return 0
    go.do("HDEL", keys[0], b"\0" + argv[0])
    for name, value in zip(argv[2::2], argv[3::2], strict=True):
        _join(go, keys[0], name, value)
    go.do("HSET", keys[0], _KNOWN, "1")
    go.do("EXPIRE", keys[0], argv[1])
    return 1


def _note(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    if not go.ask("EXISTS", keys[0]):
        return 0
    for name, value, expires in zip(argv[::3], argv[1::3], argv[2::3], strict=True):
        _join(go, keys[0], name, value)
        if expires:
            go.do("EXPIREAT", keys[0], expires, "LT")
    return 1


def _store(go: Try, keys: list[str], argv: list[bytes]) -> int:
    token, value, life, seen, negative = argv
    go.watch(*keys)
    if go.ask("GET", keys[1]) != token:
        return 0
    go.do("UNLINK", keys[1])
    had = go.ask("GET", keys[0])
    refused = had is not None and (had[:20] != seen if negative == b"1" else had[:20] > value[:20])
    if not refused:
        go.do("SET", keys[0], value, "PX", life)
    return int(not refused)


def _put(go: Try, keys: list[str], argv: list[bytes]) -> int:
    go.watch(keys[0])
    had = go.ask("GET", keys[0])
    if had is not None and had[20:21] == b"P" and had[:20] > argv[0][:20]:
        return 0
    go.do("SET", keys[0], argv[0], "PX", argv[1])
    return 1


def _swap(go: Try, keys: list[str], argv: list[bytes]) -> int:
    live, draft, head = keys
    go.watch(live, draft)
    first = go.ask("ZRANGE", live, 0, 0)
    run_there = first[0][1:] if first else None
    if run_there is not None and run_there > argv[0]:
        go.do("UNLINK", draft)
        return 0
    if not go.ask("EXISTS", draft):
        return int(run_there == argv[0])
    go.do("PERSIST", draft)
    go.do("RENAME", draft, live)
    go.do("SET", head, argv[1])
    return 1


_TWINS: dict[str, scripts.Plain] = {
    scripts.RECORD.sha: _record, scripts.OPEN.sha: _open, scripts.TAKE.sha: _take, scripts.ADOPT.sha: _adopt,
    scripts.RELEASE.sha: _release, scripts.SETTLE.sha: _settle, scripts.BURY.sha: _bury, scripts.RETRY.sha: _retry,
    scripts.DROP.sha: _drop, scripts.RETIRE.sha: _retire, scripts.CLAIM.sha: _claim, scripts.FILL.sha: _fill,
    scripts.NOTE.sha: _note, scripts.STORE.sha: _store, scripts.PUT.sha: _put, scripts.SWAP.sha: _swap,
}  # fmt: skip
