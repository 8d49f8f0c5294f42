"""Dead letters: entries that could not be written, with the reason, until a person retries or drops them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import Item, decode
from agentmodel.cache.keyspace import Keyspace
from agentmodel.cache.scripts import DROP, RETRY
from agentmodel.exceptions import ValidationError

__all__ = ["DeadLetter", "DeadLetters"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that was given up.

    Attributes:
        id: By which it is retried or dropped.
        partition: PK of its item.
        sort: SK of its item.
        version: Of its item; 0 when it does not decode.
        reason: Why it was given up.
        at: When.
        item: None when it does not decode.
    """

    id: str
    partition: str
    sort: str
    version: int
    reason: str
    at: datetime
    item: Item | None


class DeadLetters:
    """The dead letters of all shards."""

    def __init__(self, valkey: Valkey, keys: Keyspace) -> None:
        self._valkey = valkey
        self._keys = keys

    def list(self, limit: int) -> list[DeadLetter]:
        """The oldest ones, at most ``limit``."""
        shards = range(self._keys.shards)
        found = self._valkey.call([("XRANGE", self._keys.dead(shard), "-", "+", "COUNT", limit) for shard in shards])
        letters = [_letter(shard, *entry) for shard, some in zip(shards, found, strict=True) for entry in some]
        return sorted(letters, key=lambda one: (one.at, one.id))[:limit]

    def retry(self, letter: str) -> bool:
        """Back into the journal; False when it is not there."""
        shard, entry = self._split(letter)
        return bool(self._valkey.one(RETRY.on([self._keys.dead(shard), self._keys.journal(shard)], entry)))

    def drop(self, letter: str) -> bool:
        """Gone for good, and out of its writer's overlay; False when it is not there."""
        shard, entry = self._split(letter)
        found = self._valkey.one(("XRANGE", self._keys.dead(shard), entry, entry))
        if not found:
            return False
        gone = _letter(shard, *found[0])
        keys = [self._keys.dead(shard), self._keys.pending(shard, gone.partition)]
        return bool(self._valkey.one(DROP.on(keys, entry, gone.sort, found[0][1].get(b"d", b"")[:20])))

    def _split(self, letter: str) -> tuple[int, str]:
        shard, _, entry = letter.partition("-")
        if not re.fullmatch(r"\d{2}-\d+-\d+", letter, re.ASCII) or int(shard) >= self._keys.shards:
            raise ValidationError("letter", letter, "give the id of a dead letter, such as 07-1763800000000-0")
        return int(shard), entry


def _letter(shard: int, entry: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    found = decode(fields.get(b"d", b""))
    item, version = found if found is not None else (None, 0)
    return DeadLetter(
        id=f"{shard:02d}-{entry.decode()}",
        partition=fields.get(b"k", b"").decode(),
        sort=fields.get(b"m", b"").decode(),
        version=version,
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        at=datetime.fromtimestamp(int(entry.split(b"-")[0]) / 1000, UTC),
        item=item,
    )
