"""Name every Valkey key, and compute the shard that holds a user's keys.

The journal, the cached copies, the overlay and the attempt numbers of one user share the hash tag of the user's shard,
such as ``{07}``. So one script can change them together, on a cluster too.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from agentmodel.exceptions import ConfigurationError

__all__ = ["GROUP", "KeyNames"]

GROUP = "drain"
"""The consumer group on the journal of every shard."""


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Build key names that start with one prefix.

    Attributes:
        prefix: The first part of every key.
        shards: How many journals there are, 1 to 100; fixed for the life of an installation.

    Raises:
        ConfigurationError: ``shards`` is out of range.

    >>> keys = KeyNames("am", 64)
    >>> keys.shard("USR001"), keys.overlay(keys.shard("USR001"), "USR001")
    (36, 'am:{36}:p:USR001')
    """

    prefix: str
    shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 100:
            raise ConfigurationError(f"AGENTMODEL_SHARDS is {self.shards}; it must be from 1 to 100")

    def shard(self, owner: str) -> int:
        """Return the shard that holds all keys of an owner (CRC-16/XMODEM, as Valkey hashes slots)."""
        return binascii.crc_hqx(owner.encode(), 0) % self.shards

    def journal(self, shard: int) -> str:
        """Return the key of a shard's journal: the stream of entries that are not in the table yet."""
        return f"{self.prefix}:{{{shard:02d}}}:j"

    def dead_letters(self, shard: int) -> str:
        """Return the key of the stream of a shard's dead letters."""
        return f"{self.prefix}:{{{shard:02d}}}:dead"

    def overlay(self, shard: int, partition: str) -> str:
        """Return the key of a partition's overlay: sort key → item that is not in the table yet. It has no TTL."""
        return f"{self.prefix}:{{{shard:02d}}}:p:{partition}"

    def copy(self, shard: int, partition: str) -> str:
        """Return the key of a partition's cached copy: sort key → item, with a marker once it is complete."""
        return f"{self.prefix}:{{{shard:02d}}}:c:{partition}"

    def numbers(self, shard: int, partition: str) -> str:
        """Return the key of the attempt numbers that are taken in a partition."""
        return f"{self.prefix}:{{{shard:02d}}}:n:{partition}"

    def layout(self) -> str:
        """Return the key that holds the number of shards the installation was started with."""
        return f"{self.prefix}:layout"

    def cached(self, name: str) -> str:
        """Return the key of a read-through value; its refresh lock is this key with ``:lock``, in the same slot."""
        tag = name.replace("%", "%25").replace("}", "%7D")
        return f"{self.prefix}:r:{{{tag}}}"

    def ranking(self, domain: str) -> str:
        """Return the key of the sorted set that ranks a domain's agents."""
        return f"{self.prefix}:lb:{{{domain}}}"

    def newest(self) -> str:
        """Return the key of the sorted set of the newest sessions of all users."""
        return f"{self.prefix}:newest"
