"""Append writes to the journal in Valkey, which keeps each of them until it is in the table.

One script, in one round trip, appends an entry to its shard's stream, puts its item into the overlay from which its
user reads it back, and claims its attempt number. A `JournalReceipt` says how durable the entry is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

from agentmodel._log import logger
from agentmodel.cache._item_codec import Item, encode, sort_key
from agentmodel.cache._key_names import GROUP, KeyNames
from agentmodel.cache._lua import APPEND, REGISTER_NUMBERS, Command
from agentmodel.cache._server_info import LEVELS, ServerInfo
from agentmodel.cache._valkey import Valkey
from agentmodel.config import Durability
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, JournalFull, ValidationError

__all__ = ["Journal", "JournalStats", "encode"]

_log = logger("agentmodel.cache")

_NUMBERS_TTL = 86_400
"""Seconds for which attempt numbers are kept after their last use; after that, `NumbersUnknown` is returned."""

_COPY_TTL = 3_600
_CHUNK = 32  # entries of one script call: the server works on one call while the next one is packed
_OLDEST_SERVER = (7, 2)


@dataclass(frozen=True, slots=True)
class NumberClaim:
    """The attempt number that a call asks for; once claimed it belongs to that call for ever.

    Attributes:
        family: What is numbered, such as one tool of one agent in one process.
        call_id: The call; recorded again it keeps its number.
        number: The number to record it under, from 1.
    """

    family: str
    call_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One item to write.

    Attributes:
        owner: User id; decides the shard.
        item: DynamoDB JSON with PK and SK.
        version: Version of the item; of two versions of an item the newer one is kept.
        immutable: Whether the item is written once and never changes, so that it may go to the table in batches.
        expires_at: Epoch second from which the item is no longer returned; None when it does not expire.
        number_claim: The attempt number it asks for; None when it has none.
        data: The item as `agentmodel.cache._item_codec.encode` returns it, when the caller has it already.
    """

    owner: str
    item: Item
    version: int
    immutable: bool
    expires_at: int | None = None
    number_claim: NumberClaim | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class JournalReceipt:
    """How an entry was kept.

    Attributes:
        level: The durability that was reached.
        version: Version of the item.
        depth: Undrained entries of its shard; None when the entry did not go through the journal.
        repeated: Whether this very call or version was there already, so that nothing was written again.
    """

    level: Durability
    version: int
    depth: int | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class NumberTaken:
    """Nothing was written, because the number belongs to another call or the call has another number.

    Attributes:
        number: The number to use instead.
        already_claimed: Whether ``number`` is the one that the call has already; otherwise it is the next free one.
    """

    number: int
    already_claimed: bool


@dataclass(frozen=True, slots=True)
class NumbersUnknown:
    """Nothing was written, because Valkey lacks the partition's numbers: call `Journal.register_numbers`, try again."""


_AppendResult: TypeAlias = JournalReceipt | NumberTaken | NumbersUnknown


@dataclass(frozen=True, slots=True)
class JournalStats:
    """The state of the journal.

    Attributes:
        depth: Undrained entries of all shards.
        oldest_seconds: Age of the oldest one in seconds; 0 when there is none.
        pending: Entries that a drainer has read and not acknowledged.
        dead: Dead letters.
        level: The durability that an acknowledgement means.
        breaker: ``closed`` or ``open``.
        full_shards: Shards whose journal is full.

    >>> stats = model.journal.stats()
    >>> stats.level, stats.dead, stats.full_shards
    ('valkey', 0, ())
    """

    depth: int
    oldest_seconds: float
    pending: int
    dead: int
    level: Durability
    breaker: str
    full_shards: tuple[int, ...]


class Journal:
    """Append entries, and report how durable they are.

    Args:
        valkey: The connection.
        shards: How many journals there are; from the settings by default, like the other values.
        limit: The most undrained entries of one shard.
        prefix: The first part of every key.
        durability: The weakest level a receipt may have.
        full_wait: Seconds for which `append` waits for room before it raises `JournalFull`.
        verify: Whether to verify the server before the first entry, and again after every outage. An unsuitable server
            raises `ConfigurationError` before the first entry. After an outage an error is logged instead, and the
            records go to the table.
        now: Returns epoch seconds.
        pause: Waits for some seconds.

    >>> journal = Journal(model.valkey)
    >>> journal.stats().level, journal.stats().breaker
    ('valkey', 'closed')
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        shards: int | None = None,
        limit: int | None = None,
        prefix: str | None = None,
        durability: Durability | None = None,
        full_wait: float | None = None,
        verify: bool = False,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        settings = valkey.settings
        self._valkey = valkey
        self._keys = KeyNames(prefix or settings.valkey_prefix, shards or settings.shards)
        self._limit = limit or settings.journal_limit
        self._required: Durability = durability or settings.durability
        self._durability_is_set = durability is not None or "durability" in settings.model_fields_set
        self._full_wait = settings.journal_wait if full_wait is None else full_wait
        self._verify = verify
        self._now = now
        self._pause = pause
        self._checked: ServerInfo | None = None  # the server that the next two attributes describe
        self._level: Durability = "valkey"
        self._suffices = False
        self._rejected: ServerInfo | None = None  # the server whose rejection was logged

    def verify(self) -> ServerInfo:
        """Check that the server may hold a journal and has the durability that the settings require.

        Raises:
            ConfigurationError: The server is too old, evicts journals, is less durable than AGENTMODEL_DURABILITY, or
                the installation was started with another number of shards.
            CacheUnavailable: Valkey does not answer.

        >>> model.journal.verify().level
        'valkey'
        """
        server = self._valkey.server_info(fresh=True)
        self._check_server(server)
        return server

    def check_shard_count(self) -> None:
        """Check that the installation was started with the same number of shards; the first caller sets it.

        Raises:
            ConfigurationError: The installation was started with another number.
            CacheUnavailable: Valkey does not answer.

        >>> model.journal.check_shard_count()
        """
        shards, key = str(self._keys.shards), self._keys.layout()
        _, found = self._valkey.execute_many([("SET", key, shards, "NX"), ("GET", key)])
        if found is not None and not found.isdigit():
            _log.warning("cache.damaged: %s is no number of shards; set it to AGENTMODEL_SHARDS, %s", key, shards)
            self._valkey.execute(("SET", key, shards))
        elif found is not None and found.decode() != shards:
            raise ConfigurationError(
                f"AGENTMODEL_SHARDS is {shards}, but Valkey at {self._valkey.address} was started with "
                f"{found.decode()}: set it to {found.decode()}; it is fixed for the life of an installation"
            )

    def append(self, entries: Sequence[Entry]) -> list[_AppendResult]:
        """Append entries to the journal in one round trip.

        Returns:
            A result for each entry, in order. Appending the same entries again is safe.

        Raises:
            ValidationError: An item or a number is not valid; nothing was sent.
            JournalFull: The journal of a shard is full; ``answers`` has None for each entry that found no room. The
                number of such an entry is claimed for its call, so it may be written straight to the table.
            CacheUnavailable: Valkey does not answer, rejects the write, or is less durable than required.

        >>> item = {"PK": {"S": "USR242"}, "SK": {"S": "SESS1"}, "EntityType": {"S": "UserSession"}}
        >>> item |= {"UserSessionNM": {"S": "a café"}, "GSI1_PK": {"S": "USR242"}, "GSI1_SK": {"S": "a café"}}
        >>> (receipt,) = model.journal.append([Entry("USR242", item, version=1, immutable=False)])
        >>> receipt.level
        'valkey'
        """
        commands = self._commands(entries)
        deadline, wait = None, 0.01
        while True:
            results = self._send(entries, commands)
            if None not in results:
                return cast("list[_AppendResult]", results)
            deadline = deadline or self._now() + self._full_wait
            if self._now() + wait > deadline:
                shards = sorted({self._keys.shard(e.owner) for e, r in zip(entries, results, strict=True) if r is None})
                raise JournalFull(
                    f"the journal of shard {', '.join(map(str, shards))} is full: it holds {self._limit} undrained "
                    "entries; run `agentmodel drain`, or raise AGENTMODEL_JOURNAL_LIMIT",
                    results,
                )
            self._pause(wait)
            wait = min(wait * 2, 0.25)

    def register_numbers(
        self,
        owner: str,
        partition: str,
        numbers: Mapping[str, Mapping[str, int]],
        *,
        new: bool = False,
        floor: str = "",
    ) -> None:
        """Register the attempt numbers of a partition; numbers that are known already stay.

        Args:
            owner: User id.
            partition: The PK.
            numbers: Family → call → number; empty for a partition without numbers.
            new: Whether the partition was just made, so that its cached copy is complete and empty.
            floor: A process id above those that the partition may have, when it is not known which numbers are taken:
                the numbers given from now on are above the number in it, but for calls of later processes.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        shard = self._keys.shard(owner)
        flat = [part for family, calls in numbers.items() for call in calls.items() for part in (family, *call)]
        keys = [self._keys.numbers(shard, partition), self._keys.copy(shard, partition)]
        copy_ttl = _COPY_TTL if new else ""
        chunks = [flat[at : at + 3 * _CHUNK] for at in range(0, len(flat), 3 * _CHUNK)] or [[]]
        self._valkey.execute_many(
            [REGISTER_NUMBERS.on(keys, _NUMBERS_TTL, copy_ttl, floor, *chunk) for chunk in chunks]
        )

    def stats(self) -> JournalStats:
        """Return depth, age, pending entries and dead letters.

        Raises:
            CacheUnavailable: Valkey does not answer.

        >>> model.journal.stats().full_shards
        ()
        """
        shards = range(self._keys.shards)
        lengths = self._valkey.execute_many(
            [("XLEN", self._keys.journal(shard)) for shard in shards]
            + [("XLEN", self._keys.dead_letters(shard)) for shard in shards]
        )
        depths, dead = lengths[: len(shards)], lengths[len(shards) :]
        filled = [shard for shard in shards if depths[shard]]
        firsts = self._valkey.execute_many(
            [("XRANGE", self._keys.journal(shard), "-", "+", "COUNT", 1) for shard in filled]
        )
        pending = self._valkey.try_many([("XPENDING", self._keys.journal(shard), GROUP) for shard in filled])
        oldest = min((int(first[0][0].split(b"-")[0]) for first in firsts if first), default=None)
        return JournalStats(
            depth=sum(depths),
            oldest_seconds=0.0 if oldest is None else max(0.0, self._now() - oldest / 1000),
            pending=sum(int(answer["pending"]) for answer in pending if isinstance(answer, dict)),
            dead=sum(dead),
            level=self._level_of(self._valkey.server_info()),
            breaker=self._valkey.breaker.state,
            full_shards=tuple(shard for shard in shards if depths[shard] >= self._limit),
        )

    def _commands(self, entries: Sequence[Entry]) -> list[_AppendCommand]:
        """Return the commands that append the entries, each for one shard and a chunk of entries."""
        by_shard: dict[int, list[int]] = {}
        shards = {owner: self._keys.shard(owner) for owner in {entry.owner for entry in entries}}
        for at, entry in enumerate(entries):
            by_shard.setdefault(shards[entry.owner], []).append(at)
        commands = []
        for shard, positions in by_shard.items():
            for start in range(0, len(positions), _CHUNK):
                chunk = positions[start : start + _CHUNK]
                keys, args = [self._keys.journal(shard)], list[Any]()
                partitions: dict[str, int] = {}  # partition → its index in the script's keys, from 1
                for at in chunk:
                    partition = _partition(entries[at])
                    index = partitions.get(partition)
                    if index is None:
                        index = partitions[partition] = len(partitions) + 1
                        keys += [self._keys.overlay(shard, partition), self._keys.numbers(shard, partition)]
                    args += _arguments(entries[at], index)
                command = APPEND.on(keys, self._limit, _NUMBERS_TTL, *partitions, *args)
                commands.append(_AppendCommand(chunk, command, keys[0]))
        return commands

    def _send(self, entries: Sequence[Entry], commands: Sequence[_AppendCommand]) -> list[_AppendResult | None]:
        """Send the commands; the result of an entry that found no room is None."""
        level = self._check_level()
        if self._suffices:
            replies = self._valkey.execute_many([each.command for each in commands])
        elif self._required == "valkey-replicated":
            replies = [self._send_replicated(each) for each in commands]
            level = "valkey-replicated"
        else:
            raise CacheUnavailable(
                f"Valkey at {self._valkey.address} has durability {level}, but AGENTMODEL_DURABILITY requires "
                f"{self._required}: raise it there, or lower AGENTMODEL_DURABILITY"
            )
        results: list[_AppendResult | None] = [None] * len(entries)
        for each, reply in zip(commands, replies, strict=True):
            depth, *pairs = reply
            if not pairs:  # all were appended
                pairs = [0, 0] * len(each.positions)
            for at, code, number in zip(each.positions, pairs[::2], pairs[1::2], strict=True):
                results[at] = _result(code, number, entries[at].version, level, depth)
        return results

    def _check_level(self) -> Durability:
        """Return the server's level. The server is checked before the first entry and again after every outage."""
        server = self._valkey.server_info()
        if server is not self._checked:
            if self._verify:
                self._verify_server(server)
            self._checked, self._level = server, self._level_of(server)
            self._suffices = self._required == "dynamodb" or _rank(self._level) >= _rank(self._required)
        return self._level

    def _verify_server(self, server: ServerInfo) -> None:
        """Check a server; after an outage, log the problem once instead of raising `ConfigurationError`."""
        try:
            self._check_server(server)
        except ConfigurationError as error:
            if not server.outage:
                raise
            if server is not self._rejected:
                _log.error("valkey.refused: %s; records go to the table", error)
                self._rejected = server
            raise CacheUnavailable(str(error)) from error

    def _send_replicated(self, append: _AppendCommand) -> Any:
        reply, replicas = self._valkey.execute_and_wait(append.command, append.journal, 1)
        if replicas < 1:
            raise CacheUnavailable(
                f"no replica of Valkey at {self._valkey.address} confirmed the write in time: check its replicas"
            )
        return reply

    def _level_of(self, server: ServerInfo) -> Durability:
        """Return a server's level, or the level in the settings where the server hides its configuration."""
        if server.config_hidden and self._durability_is_set and self._required != "dynamodb":
            return self._required
        return server.level

    def _check_server(self, server: ServerInfo) -> None:
        number = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
        if number < _OLDEST_SERVER:
            raise ConfigurationError(
                f"Valkey at {self._valkey.address} has version {server.version}, which is too old: "
                "use version 7.2 or newer"
            )
        if server.eviction_policy.startswith("allkeys"):
            raise ConfigurationError(
                f"Valkey at {self._valkey.address} has maxmemory-policy {server.eviction_policy}, which may evict "
                "undrained writes: set noeviction or volatile-lru"
            )
        self._check_durability(server)
        self.check_shard_count()

    def _check_durability(self, server: ServerInfo) -> None:
        level, required = self._level_of(server), self._required
        if required == "dynamodb" or _rank(level) >= _rank(required):
            return
        if required == "valkey-replicated" and server.replicas:
            return
        fix = {
            "valkey-durable": "set `appendonly yes` and `appendfsync always` there",
            "valkey-replicated": "attach a replica",
        }[required]
        raise ConfigurationError(
            f"AGENTMODEL_DURABILITY is {required}, but Valkey at {self._valkey.address} has durability {level}: "
            f"{fix}, or set AGENTMODEL_DURABILITY={level}"
        )


class _AppendCommand(NamedTuple):
    """A command that appends some entries to one journal."""

    positions: list[int]  # of its entries, in the caller's list
    command: Command
    journal: str


def _rank(level: str) -> int:
    return LEVELS.index(level)


def _partition(entry: Entry) -> str:
    partition = entry.item.get("PK", {}).get("S")
    if not isinstance(partition, str):
        raise ValidationError("item", entry.item, "must be DynamoDB JSON with a text PK")
    return partition


def _arguments(entry: Entry, index: int) -> tuple[Any, ...]:
    """Return the eight values of an entry for the script; ``index`` is that of its partition."""
    claim, expires, data = entry.number_claim, entry.expires_at, entry.data
    if data is None:
        data = encode(entry.item, entry.version)
    head = index, sort_key(entry.item), int(entry.immutable), "" if expires is None else expires, data
    if claim is None:
        return *head, "", "", ""
    if claim.number < 1:
        raise ValidationError("number_claim.number", claim.number, "must be 1 or more")
    return *head, claim.family, claim.call_id, claim.number


def _result(code: int, number: int, version: int, level: Durability, depth: int) -> _AppendResult | None:
    if code in (0, 1):
        return JournalReceipt(level, version, depth, repeated=code == 1)
    if code in (2, 3):
        return NumberTaken(number, already_claimed=code == 3)
    return NumbersUnknown() if code == 4 else None
