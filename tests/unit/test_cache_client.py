"""The door to Valkey: which servers a URL names, and what an outage costs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentmodel._runtime.circuit_breaker import CircuitBreaker
from agentmodel.cache import Valkey
from agentmodel.cache._clients import client_options, redis_py_url, start_nodes
from agentmodel.cache._connections import DedicatedConnections
from agentmodel.cache._key_names import KeyNames
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A port that is taken and refuses connections, so that nobody else answers there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"valkey://127.0.0.1:{bound.getsockname()[1]}"


class TestUrls:
    @pytest.mark.parametrize(
        ("given", "read"),
        [
            ("valkey://h:1/2", "redis://h:1/2"),
            ("valkeys://user:pw@h:1/0", "rediss://user:pw@h:1/0"),
            ("rediss://h:1", "rediss://h:1"),
            ("unix:///run/valkey.sock?db=1", "unix:///run/valkey.sock?db=1"),
            ("valkeys+cluster://h:1", "rediss://h:1"),
        ],
    )
    def test_schemes(self, given: str, read: str) -> None:
        """Valkey's schemes are those of redis-py under their own names."""
        parts = Valkey(Settings(valkey_url=given))._parts

        assert read == redis_py_url(parts)

    def test_cluster_names_several_nodes(self) -> None:
        """A cluster URL names as many start nodes as one likes, with a default port."""
        parts = Valkey(Settings(valkey_url="valkey+cluster://u:p@one:7001,two,three:7003"))._parts

        assert [("one", 7001), ("two", 6379), ("three", 7003)] == start_nodes(parts)

    def test_bad_port_is_named(self) -> None:
        """A node that is not host:port is named by the setting that holds it."""
        parts = Valkey(Settings(valkey_url="valkey+cluster://one:x"))._parts

        with pytest.raises(
            ConfigurationError, match="AGENTMODEL_VALKEY_URL names the cluster node 'one:x', which is not"
        ):
            start_nodes(parts)

    def test_unset_url(self) -> None:
        """Without a URL there is nothing to connect to, and the error names the variable."""
        with pytest.raises(ConfigurationError, match="AGENTMODEL_VALKEY_URL is unset"):
            Valkey(Settings())

    def test_password_is_not_told(self) -> None:
        """Messages show where the server is, never its password."""
        valkey = Valkey(Settings(valkey_url="valkeys://user:secret@cache.example:6380/1"))

        assert "valkeys://cache.example:6380/1" == valkey.address

    def test_user_and_password_reach_the_connection(self) -> None:
        """An ACL user and password of the URL are those the connection logs in with, over TLS."""
        valkey = Valkey(Settings(valkey_url="valkeys://app:pa%2Fss@cache.example:6380?ssl_cert_reqs=required"))
        held = valkey._client
        assert isinstance(held, DedicatedConnections)
        pool = held.client.connection_pool
        wanted = pool.connection_kwargs

        assert ("app", "pa/ss", "required") == (wanted["username"], wanted["password"], wanted["ssl_cert_reqs"])
        assert "SSLConnection" == pool.connection_class.__name__

    def test_token_is_asked_for_at_every_connection(self) -> None:
        """A callback gives user and password anew to each connection, since tokens expire."""
        tokens = iter(["first", "second"])
        provider = client_options(Settings(), lambda: ("app", next(tokens)))["credential_provider"]

        assert [("app", "first"), ("app", "second")] == [provider.get_credentials(), provider.get_credentials()]


class TestBreaker:
    @pytest.fixture
    def parts(self) -> tuple[CircuitBreaker, Clock, list[Callable[[], None]], list[Exception]]:
        clock, started, faults = Clock(), [], []  # type: ignore[var-annotated]  # the fixture's type says it

        def probe() -> None:
            if faults:
                raise faults[0]

        return CircuitBreaker(probe, clock=clock, start=started.append), clock, started, faults

    def test_opens_at_a_failure(self, parts: tuple[CircuitBreaker, Clock, list[Any], list[Any]]) -> None:
        """After a failed call nobody else goes to the server."""
        breaker, *_ = parts
        breaker.record_failure("no route")

        assert (False, "open", "no route", 1) == (breaker.allows(), breaker.state, breaker.reason, breaker.outages)

    def test_probes_once_a_second(self, parts: tuple[CircuitBreaker, Clock, list[Any], list[Any]]) -> None:
        """One probe a second is started, and whoever starts it is refused like the others."""
        breaker, clock, started, _ = parts
        breaker.record_failure("no route")
        clock.now = 1.0

        assert [False, False] == [breaker.allows(), breaker.allows()]
        assert 1 == len(started)

    def test_closes_when_the_probe_is_answered(self, parts: tuple[CircuitBreaker, Clock, list[Any], list[Any]]) -> None:
        """It stays open while the probe fails and closes when it is answered."""
        breaker, clock, started, faults = parts
        breaker.record_failure("no route")
        faults.append(CacheUnavailable("still down"))
        clock.now = 1.0
        breaker.allows()
        started.pop()()

        assert ("open", "still down") == (breaker.state, breaker.reason)

        faults.clear()
        clock.now = 2.0
        breaker.allows()
        started.pop()()

        assert (True, "closed", "") == (breaker.allows(), breaker.state, breaker.reason)

    def test_a_forked_child_begins_closed(self, parts: tuple[CircuitBreaker, Clock, list[Any], list[Any]]) -> None:
        """What renews a forked child's state closes its breaker: the thread that would probe is the parent's."""
        breaker, *_ = parts
        breaker.record_failure("no route")
        breaker.renew()

        assert (True, "closed", "") == (breaker.allows(), breaker.state, breaker.reason)

    def test_one_thread_goes_on_probing(self) -> None:
        """With several probes one thread is started at the failure and no other by calls; it closes the breaker."""
        faults, started = [CacheUnavailable("still down")], list[Callable[[], None]]()
        clock = Clock()

        def probe() -> None:
            if faults:
                raise faults.pop()

        breaker = CircuitBreaker(probe, clock=clock, interval=0.01, probes=5, start=started.append)
        breaker.record_failure("no route")
        clock.now = 1.0
        allowed = breaker.allows()
        (watch,) = started
        watch()

        assert not allowed
        assert "closed" == breaker.state

    def test_who_cannot_wait_probes_itself(self, parts: tuple[CircuitBreaker, Clock, list[Any], list[Any]]) -> None:
        """A probe in the caller's thread closes the breaker at once; a closed one is not probed."""
        breaker, _, started, faults = parts
        breaker.probe_now()
        breaker.record_failure("no route")
        faults.append(CacheUnavailable("still down"))
        breaker.probe_now()
        during = breaker.state
        faults.clear()
        breaker.probe_now()

        assert ("open", "closed", []) == (during, breaker.state, started)


class TestOutage:
    def test_refused_port_is_told_once_and_then_refused_at_once(self, dead_url: str) -> None:
        """The first call meets the dead server; the second does not even try."""
        with Valkey(Settings(valkey_url=dead_url)) as valkey:
            told = r"Valkey at valkey://127\.0\.0\.1:\d+ does not answer \(AGENTMODEL_VALKEY_URL\): "
            with pytest.raises(CacheUnavailable, match=told):
                valkey.execute(("PING",))
            tried: list[Any] = []
            valkey._send_with_retry = lambda *given: tried.append(given) or []  # type: ignore[method-assign,func-returns-value]  # spies

            with pytest.raises(CacheUnavailable):
                valkey.execute(("PING",))

            assert [] == tried

    def test_dead_cluster(self, dead_url: str) -> None:
        """A cluster none of whose nodes answers is unavailable, not a library's error."""
        with (
            Valkey(Settings(valkey_url=dead_url.replace("valkey:", "valkey+cluster:"))) as valkey,
            pytest.raises(CacheUnavailable, match="does not answer"),
        ):
            valkey.execute(("GET", "a"))

    def test_closed(self) -> None:
        """A closed connection says so."""
        valkey = Valkey(Settings(valkey_url="valkey://127.0.0.1:1"))
        valkey.close()

        with pytest.raises(CacheUnavailable, match="is closed"):
            valkey.execute(("PING",))


class TestKeyspace:
    def test_all_keys_of_a_shard_share_a_slot(self) -> None:
        """Journal, dead letters, overlay, copy and numbers carry the shard's hash tag, and no other."""
        keys = KeyNames("am", 64)
        names = [
            keys.journal(7),
            keys.dead_letters(7),
            *(make(7, "U#{x}") for make in (keys.overlay, keys.copy, keys.numbers)),
        ]

        assert {"07"} == {name[name.index("{") + 1 : name.index("}")] for name in names}

    def test_lock_lies_beside_its_value(self) -> None:
        """A value's lock is in the value's slot even when the name holds braces."""
        name = KeyNames("am", 64).cached("}odd{name}")

        assert name.index("}") > name.index("{") + 1

    @pytest.mark.parametrize("shards", [0, 101])
    def test_bounds(self, shards: int) -> None:
        """The number of shards fits the two digits of the tag."""
        with pytest.raises(ConfigurationError, match="AGENTMODEL_SHARDS"):
            KeyNames("am", shards)
