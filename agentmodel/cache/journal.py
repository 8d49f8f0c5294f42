"""The write-behind journal: what is appended is kept until it is in the table.

One script, one round trip, puts an entry into its shard's stream, into the overlay from which its user reads it back,
and claims its attempt number. A `Receipt` says how far it came.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, encode, sort_key
from agentmodel.cache.keyspace import GROUP, Keyspace
from agentmodel.cache.scripts import OPEN, RECORD, Command
from agentmodel.cache.server import LEVELS, Server
from agentmodel.config import Durability
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, JournalFull, ValidationError

__all__ = ["Answer", "Entry", "Journal", "JournalStats", "Receipt", "Slot", "Taken", "Unknown"]

_log = logging.getLogger("agentmodel.cache")

NUMBERS_TTL = 86_400
"""Seconds attempt numbers are known after their last use; when they are lost, `Unknown` is the answer."""

_COPY_TTL = 3_600
_CHUNK = 32  # entries of one script call: the server works at one while the next is made ready
_OLDEST_SERVER = (7, 2)


@dataclass(frozen=True, slots=True)
class Slot:
    """An attempt number: it belongs to one call for ever.

    Attributes:
        family: What is numbered, such as one tool of one agent in one process.
        call_id: The call; recorded again it keeps its number.
        number: The number it is recorded under, from 1.
    """

    family: str
    call_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One item to be kept.

    Attributes:
        owner: User id; decides the shard.
        item: DynamoDB JSON with PK and SK.
        version: Of the item; a newer one wins.
        immutable: It is written once and never changed, so that it may go to the table in batches.
        expires_at: Epoch second from which it is no longer returned.
        slot: Its attempt number.
        data: The item as `agentmodel.cache.codec.encode` makes it, for who has made it already.
    """

    owner: str
    item: Item
    version: int
    immutable: bool
    expires_at: int | None = None
    slot: Slot | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an entry.

    Attributes:
        level: What was reached.
        version: Of the item.
        depth: Undrained entries of its shard; None when it did not go through the journal.
        repeated: The very call or version was there already; nothing was written again.
    """

    level: Durability
    version: int
    depth: int | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Nothing was written: the number is not this call's.

    Attributes:
        number: The number to use instead.
        mine: The call already has that number; otherwise it is the next free one.
    """

    number: int
    mine: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing was written: Valkey does not know the partition's numbers; tell them by `Journal.open`."""


Answer: TypeAlias = Receipt | Taken | Unknown


@dataclass(frozen=True, slots=True)
class JournalStats:
    """The state of the journal.

    Attributes:
        depth: Undrained entries of all shards.
        oldest_seconds: Age of the oldest; 0 when there is none.
        pending: Entries a drainer has taken and not acknowledged.
        dead: Dead letters.
        level: What an acknowledgement means.
        breaker: ``closed`` or ``open``.
        full_shards: Shards at their bound.
    """

    depth: int
    oldest_seconds: float
    pending: int
    dead: int
    level: Durability
    breaker: str
    full_shards: tuple[int, ...]


class Journal:
    """Appends entries, and says what they are worth.

    Args:
        valkey: The connection.
        shards: How many journals; from the settings by default, like the others.
        limit: Entries one shard may hold undrained.
        prefix: First part of every key.
        durability: The least a receipt may say.
        full_wait: Seconds `append` waits for room before it raises `JournalFull`; from the settings by default.
        verify: Verify the server before the first entry. One that gives too little is refused by `ConfigurationError`;
            when it is met only after an outage, the records go to the table and an error is logged.
        now: Epoch seconds.
        pause: Waits some seconds.
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
        self._keys = Keyspace(prefix or settings.valkey_prefix, shards or settings.shards)
        self._limit = limit or settings.journal_limit
        self._demanded: Durability = durability or settings.durability
        self._declared = durability is not None or "durability" in settings.model_fields_set
        self._full_wait = settings.journal_wait if full_wait is None else full_wait
        self._verify = verify
        self._now = now
        self._pause = pause
        self._known: Server | None = None  # the server of which the next two are known
        self._wanting: Server | None = None  # the one that was told to give too little
        self._given: Durability = "valkey"
        self._enough = False

    def verify(self) -> Server:
        """Checks at start that the server may carry a journal and gives what the settings demand.

        Raises:
            ConfigurationError: It evicts what it should keep, gives less than AGENTMODEL_DURABILITY, is too old, or
                the installation was started with another number of shards.
            CacheUnavailable: It does not answer.
        """
        server = self._valkey.server(fresh=True)
        self._usable(server)
        return server

    def same_layout(self) -> None:
        """Checks that the installation was started with the same number of shards; the first one to ask sets it.

        Raises:
            ConfigurationError: It was another.
            CacheUnavailable: Valkey does not answer.
        """
        wanted = str(self._keys.shards)
        _, found = self._valkey.call([("SET", self._keys.layout(), wanted, "NX"), ("GET", self._keys.layout())])
        if found is not None and found.decode() != wanted:
            raise ConfigurationError(
                f"AGENTMODEL_SHARDS is {wanted}, but Valkey at {self._valkey.where} was started with {found.decode()}: "
                f"set it to {found.decode()}; it is fixed for the life of an installation"
            )

    def append(self, entries: Sequence[Entry]) -> list[Answer]:
        """Puts entries into the journal in one round trip.

        Returns:
            An answer for each entry, in order. Sending the same entries again is safe.

        Raises:
            ValidationError: An item or a number is not usable; nothing was sent.
            JournalFull: A shard is at its bound; ``answers`` has None for each entry that found no room. The number
                of such an entry is claimed for its call, so it may be written straight to the table.
            CacheUnavailable: Valkey does not answer, refuses the write, or gives less than is demanded.
        """
        calls = self._calls(entries)
        deadline, wait = None, 0.01
        while True:
            answers = self._sent(entries, calls)
            if None not in answers:
                return cast("list[Answer]", answers)
            deadline = deadline or self._now() + self._full_wait
            if self._now() + wait > deadline:
                shards = sorted({self._keys.shard(e.owner) for e, a in zip(entries, answers, strict=True) if a is None})
                raise JournalFull(
                    f"the journal of shard {', '.join(map(str, shards))} holds {self._limit} undrained entries: "
                    "run `agentmodel drain`, or raise AGENTMODEL_JOURNAL_LIMIT",
                    answers,
                )
            self._pause(wait)
            wait = min(wait * 2, 0.25)

    def open(self, owner: str, partition: str, slots: Mapping[str, Mapping[str, int]], *, new: bool = False) -> None:
        """Says which attempt numbers a partition has: family → call → number. What is known already stays.

        Args:
            owner: User id.
            partition: The PK.
            slots: Empty for a partition without numbers.
            new: The partition was just made: its near copy is complete, and empty.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        shard = self._keys.shard(owner)
        flat = [part for family, calls in slots.items() for call in calls.items() for part in (family, *call)]
        keys = [self._keys.numbers(shard, partition), self._keys.copy(shard, partition)]
        copy_ttl = _COPY_TTL if new else ""
        chunks = [flat[at : at + 3 * _CHUNK] for at in range(0, len(flat), 3 * _CHUNK)] or [[]]
        self._valkey.call([OPEN.on(keys, NUMBERS_TTL, copy_ttl, *chunk) for chunk in chunks])

    def stats(self) -> JournalStats:
        """Depth, age, pending, dead letters.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        shards = range(self._keys.shards)
        lengths = self._valkey.call(
            [("XLEN", self._keys.journal(shard)) for shard in shards]
            + [("XLEN", self._keys.dead(shard)) for shard in shards]
        )
        depths, dead = lengths[: len(shards)], lengths[len(shards) :]
        filled = [shard for shard in shards if depths[shard]]
        firsts = self._valkey.call([("XRANGE", self._keys.journal(shard), "-", "+", "COUNT", 1) for shard in filled])
        waiting = self._valkey.attempt([("XPENDING", self._keys.journal(shard), GROUP) for shard in filled])
        oldest = min((int(first[0][0].split(b"-")[0]) for first in firsts if first), default=None)
        return JournalStats(
            depth=sum(depths),
            oldest_seconds=0.0 if oldest is None else max(0.0, self._now() - oldest / 1000),
            pending=sum(int(one["pending"]) for one in waiting if isinstance(one, dict)),
            dead=sum(dead),
            level=self._level(self._valkey.server()),
            breaker=self._valkey.breaker.state,
            full_shards=tuple(shard for shard in shards if depths[shard] >= self._limit),
        )

    def _calls(self, entries: Sequence[Entry]) -> list[tuple[list[int], Command, str]]:
        """Script calls, each with the places of its entries and its first key; one shard and some entries each."""
        by_shard: dict[int, list[int]] = {}
        for at, entry in enumerate(entries):
            by_shard.setdefault(self._keys.shard(entry.owner), []).append(at)
        calls = []
        for shard, places in by_shard.items():
            for start in range(0, len(places), _CHUNK):
                chunk = places[start : start + _CHUNK]
                keys, args = [self._keys.journal(shard)], list[Any]()
                partitions: dict[str, int] = {}
                for at in chunk:
                    partition = _partition(entries[at])
                    place = partitions.get(partition)
                    if place is None:
                        place = partitions[partition] = len(partitions) + 1
                        keys += [self._keys.pending(shard, partition), self._keys.numbers(shard, partition)]
                    args += _arguments(entries[at], place)
                calls.append((chunk, RECORD.on(keys, self._limit, NUMBERS_TTL, *partitions, *args), keys[0]))
        return calls

    def _sent(self, entries: Sequence[Entry], calls: Sequence[tuple[list[int], Command, str]]) -> list[Answer | None]:
        server = self._valkey.server()
        if server is not self._known:
            if self._verify:
                self._suits(server)
            self._known, self._given = server, self._level(server)
            self._enough = self._demanded == "dynamodb" or _rank(self._given) >= _rank(self._demanded)
        level = self._given
        if self._enough:
            replies = self._valkey.call([command for _, command, _ in calls])
        elif self._demanded == "valkey-replicated":
            replies = [self._replicated(command, key) for _, command, key in calls]
            level = "valkey-replicated"
        else:
            raise CacheUnavailable(
                f"Valkey at {self._valkey.where} gives {level}, AGENTMODEL_DURABILITY is {self._demanded}"
            )
        answers: list[Answer | None] = [None] * len(entries)
        for (places, _, _), reply in zip(calls, replies, strict=True):
            depth, *told = reply
            if not told:  # all were appended
                told = [0, 0] * len(places)
            for at, code, number in zip(places, told[::2], told[1::2], strict=True):
                answers[at] = _answer(code, number, entries[at].version, level, depth)
        return answers

    def _suits(self, server: Server) -> None:
        """Verifies a server that is met for the first time, or again after an outage."""
        try:
            self._usable(server)
        except ConfigurationError as error:
            if not server.epoch:
                raise
            if server is not self._wanting:
                _log.error("valkey.refused: %s; records go to the table", error)
                self._wanting = server
            raise CacheUnavailable(str(error)) from error

    def _replicated(self, command: Command, key: str) -> Any:
        reply, replicas = self._valkey.waited(command, key, 1)
        if replicas < 1:
            raise CacheUnavailable(f"no replica of Valkey at {self._valkey.where} confirmed the write in time")
        return reply

    def _level(self, server: Server) -> Durability:
        if server.hidden and self._declared and self._demanded != "dynamodb":
            return self._demanded
        return server.level

    def _usable(self, server: Server) -> None:
        number = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
        if number < _OLDEST_SERVER:
            raise ConfigurationError(f"Valkey at {self._valkey.where} has version {server.version}: 7.2 is needed")
        if server.policy.startswith("allkeys"):
            raise ConfigurationError(
                f"Valkey at {self._valkey.where} has maxmemory-policy {server.policy}, which throws undrained "
                "writes away: set noeviction or volatile-lru"
            )
        self._reached(server)
        self.same_layout()

    def _reached(self, server: Server) -> None:
        level = self._level(server)
        demanded = self._demanded
        if (
            demanded == "dynamodb"
            or _rank(level) >= _rank(demanded)
            or (demanded == "valkey-replicated" and server.replicas)
        ):
            return
        mend = {
            "valkey-durable": "set `appendonly yes` and `appendfsync always` there",
            "valkey-replicated": "attach a replica",
        }[demanded]
        raise ConfigurationError(
            f"AGENTMODEL_DURABILITY is {demanded}, but Valkey at {self._valkey.where} gives only {level}: "
            f"{mend}, or demand less"
        )


def _rank(level: str) -> int:
    return LEVELS.index(level)


def _partition(entry: Entry) -> str:
    partition = entry.item.get("PK", {}).get("S")
    if not isinstance(partition, str):
        raise ValidationError("item", entry.item, "give DynamoDB JSON with a text PK")
    return partition


def _arguments(entry: Entry, place: int) -> tuple[Any, ...]:
    """The eight values of an entry for the script; ``place`` is that of its partition."""
    slot, expires, data = entry.slot, entry.expires_at, entry.data
    if data is None:
        data = encode(entry.item, entry.version)
    head = place, sort_key(entry.item), int(entry.immutable), "" if expires is None else expires, data
    if slot is None:
        return *head, "", "", ""
    if slot.number < 1:
        raise ValidationError("slot.number", slot.number, "attempts are numbered from 1")
    return *head, slot.family, slot.call_id, slot.number


def _answer(code: int, number: int, version: int, level: Durability, depth: int) -> Answer | None:
    if code in (0, 1):
        return Receipt(level, version, depth, repeated=code == 1)
    if code in (2, 3):
        return Taken(number, mine=code == 3)
    return Unknown() if code == 4 else None
