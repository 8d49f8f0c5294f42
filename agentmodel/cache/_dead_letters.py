"""List, retry and drop dead letters: journal entries that could not be written to the table.

Each keeps the reason. It stays until a person retries or drops it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from agentmodel.cache._item_codec import Item, decode
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._lua import DROP_DEAD_LETTER, RETRY_DEAD_LETTER
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import ValidationError

__all__ = ["DeadLetter", "DeadLetters"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that was moved out of the journal because it could not be written.

    Attributes:
        id: The id to retry or drop it by, such as ``07-1763800000000-0``.
        partition: PK of its item.
        sort: SK of its item.
        version: Version of its item; 0 when the entry does not decode.
        reason: Why it could not be written.
        at: When it was moved, in UTC.
        item: The item as DynamoDB JSON; None when the entry does not decode.
    """

    id: str
    partition: str
    sort: str
    version: int
    reason: str
    at: datetime
    item: Item | None


class DeadLetters:
    """Read and change the dead letters of all shards."""

    def __init__(self, valkey: Valkey, keys: KeyNames) -> None:
        self._valkey = valkey
        self._keys = keys

    def list(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters, at most ``limit``."""
        shards = range(self._keys.shards)
        found = self._valkey.execute_many(
            [("XRANGE", self._keys.dead_letters(shard), "-", "+", "COUNT", limit) for shard in shards]
        )
        letters = [_letter(shard, *entry) for shard, entries in zip(shards, found, strict=True) for entry in entries]
        return sorted(letters, key=lambda letter: (letter.at, letter.id))[:limit]

    def retry(self, letter_id: str) -> bool:
        """Move a dead letter back into the journal; return False when there is none with this id."""
        shard, entry = self._split(letter_id)
        keys = [self._keys.dead_letters(shard), self._keys.journal(shard)]
        return bool(self._valkey.execute(RETRY_DEAD_LETTER.on(keys, entry)))

    def drop(self, letter_id: str) -> bool:
        """Delete a dead letter and take its item out of the overlay; return False when there is none with this id."""
        shard, entry = self._split(letter_id)
        found = self._valkey.execute(("XRANGE", self._keys.dead_letters(shard), entry, entry))
        if not found:
            return False
        letter = _letter(shard, *found[0])
        keys = [self._keys.dead_letters(shard), self._keys.overlay(shard, letter.partition)]
        version = found[0][1].get(b"d", b"")[:20]
        return bool(self._valkey.execute(DROP_DEAD_LETTER.on(keys, entry, letter.sort, version)))

    def _split(self, letter_id: str) -> tuple[int, str]:
        shard, _, entry = letter_id.partition("-")
        if not re.fullmatch(r"\d{2}-\d+-\d+", letter_id, re.ASCII) or int(shard) >= self._keys.shards:
            raise ValidationError("letter", letter_id, "must be the id of a dead letter, such as 07-1763800000000-0")
        return int(shard), entry


def _letter(shard: int, entry: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    found = decode(fields.get(b"d", b""))
    item, version = found if found is not None else (None, 0)
    return DeadLetter(
        id=f"{shard:02d}-{entry.decode()}",
        partition=fields.get(b"k", b"").decode(errors="replace"),
        sort=fields.get(b"m", b"").decode(errors="replace"),
        version=version,
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        at=datetime.fromtimestamp(int(entry.split(b"-")[0]) / 1000, UTC),
        item=item,
    )
