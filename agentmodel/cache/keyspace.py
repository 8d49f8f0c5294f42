"""Names of every Valkey key, and the shard a user's keys live in.

Journal, copies, pending overlay and attempt numbers of one user share the hash tag of the user's shard, such as
``{07}``: one script changes them together, on a cluster too.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from agentmodel.exceptions import ConfigurationError

__all__ = ["GROUP", "Keyspace"]

GROUP = "drain"
"""Name of the consumer group on every shard's journal."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """Key names under one prefix.

    Attributes:
        prefix: First part of every key.
        shards: How many journals there are; fixed for the life of an installation.

    >>> keys = Keyspace("am", 64)
    >>> keys.shard("USR001"), keys.pending(keys.shard("USR001"), "USR001")
    (36, 'am:{36}:p:USR001')
    """

    prefix: str
    shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 100:
            raise ConfigurationError(f"AGENTMODEL_SHARDS is {self.shards}: give 1 to 100")

    def shard(self, owner: str) -> int:
        """The shard that holds everything of one owner (CRC-16/XMODEM, as Valkey hashes slots)."""
        return binascii.crc_hqx(owner.encode(), 0) % self.shards

    def journal(self, shard: int) -> str:
        """The stream of undrained entries of a shard."""
        return f"{self.prefix}:{{{shard:02d}}}:j"

    def dead(self, shard: int) -> str:
        """The stream of a shard's dead letters."""
        return f"{self.prefix}:{{{shard:02d}}}:dead"

    def pending(self, shard: int, partition: str) -> str:
        """The overlay of a partition: sort key → item that is not in the table yet. It has no TTL."""
        return f"{self.prefix}:{{{shard:02d}}}:p:{partition}"

    def copy(self, shard: int, partition: str) -> str:
        """The near copy of a partition: sort key → item, with a marker once it holds all of it."""
        return f"{self.prefix}:{{{shard:02d}}}:c:{partition}"

    def numbers(self, shard: int, partition: str) -> str:
        """The attempt numbers that are taken in a partition."""
        return f"{self.prefix}:{{{shard:02d}}}:n:{partition}"

    def layout(self) -> str:
        """Holds the number of shards the installation was started with."""
        return f"{self.prefix}:layout"

    def near(self, name: str) -> str:
        """A read-through value; its refresh lock is this name with ``:lock``, in the same slot."""
        tag = name.replace("%", "%25").replace("}", "%7D")
        return f"{self.prefix}:r:{{{tag}}}"

    def ranking(self, domain: str) -> str:
        """The sorted set of a domain's agents."""
        return f"{self.prefix}:lb:{{{domain}}}"
