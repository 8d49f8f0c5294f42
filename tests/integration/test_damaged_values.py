"""Junk under every key in Valkey: each reader works, and gives the right answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool
from agentmodel._erasure_marks import erasing_key, user_key
from agentmodel._lookup.sessions import SessionFinder
from agentmodel.cache._item_codec import encode, encode_many
from agentmodel.dynamo.models import ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.embedded import ValkeyServer
from agentmodel.redshift.session_list import SessionFilter
from agentmodel.suggest.guard import Blocked, Cached, Go, GuardDecision
from agentmodel.suggest.health._tool_state import Observation
from agentmodel.suggest.plan import ToolRef
from tests.integration.kept import Kept, keep, kept_settings, plain_client, put_back
from tests.integration.suggest_world import catalogue, run

USER = "USR001"
CALL: dict[str, Any] = {"agent_id": "AGT001", "user_id": USER, "session_id": "SESS1"}

JUNK: dict[str, Callable[[bytes], bytes]] = {
    "another program's": lambda _: b"hello",
    "empty": lambda _: b"",
    "not UTF-8": lambda _: b"\xff\xfe\x00\x80",
    "truncated": lambda value: value[: len(value) // 2],
    "JSON of another shape": lambda _: json.dumps({"a": [1, {"b": None}]}).encode(),
    "an empty list": lambda _: b"[]",
    "an unknown version": lambda value: value[:20] + b"9" + value[21:],
    "a whole frame of another shape": lambda _: encode({"X": {"Y": {}}}, 10**19),
    "a whole list of another shape": lambda _: b"0" * 20 + b"L" + b"9" * 13 + encode_many([{}, {"X": {"S": ""}}], 0),
    "nested": lambda _: b"[" * 100_000,
    "huge": lambda _: b"x" * 2_000_000,
}

KEY_BY_KEY = ("another program's", "not UTF-8", "truncated", "a whole frame of another shape")
"""With these each key is damaged by itself; with the others, all at once."""


@pytest.fixture
def server(valkey_url: str) -> Iterator[Any]:
    with plain_client(valkey_url) as client:
        yield client


@pytest.fixture(scope="module")
def installation(
    dynamodb_endpoint: str, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Kept]:
    """One in which everything was used: recorded, drained, learnt, published, advised, guarded, cached."""
    settings = kept_settings(dynamodb_endpoint, valkey_server.url, tmp_path_factory.mktemp("lived"))
    with plain_client(valkey_server.url) as client, AgentModel.from_settings(settings) as model:
        client.flushall()
        model.table.create()
        catalogue(model)
        model.repository.put(
            Tool(agent_id="AGT001", tool_id="TL004", domain_id="DMN001", name="read", read_only=True),
        )
        for _ in range(3):
            run(model, USER)
        at = datetime.now(UTC)
        broken = ToolRef("AGT001", "TL002")
        model.health.learn(
            [(broken, Observation(at + timedelta(milliseconds=number), number >= 20, None)) for number in range(40)]
        )
        model.drain()
        model.refresh()
        model.publish()
        _read(model)
        run(model, USER)  # not drained
        _read(model)
        model.close()  # with what is written in the background
        with Table(settings) as table:
            return settings, keep(table, valkey_server.url)


@pytest.fixture
def lived(installation: tuple[Settings, Kept], server: Any) -> Settings:
    """The installation, as it was left, for the test to damage."""
    settings, kept = installation
    with Table(settings) as table:
        put_back(kept, table, str(settings.valkey_url))
    return settings


def _read(model: AgentModel) -> dict[str, Any]:
    """What every reader answers, as far as it does not depend on the time."""
    repository = model.repository
    read: dict[str, Any] = {
        "domains": [one.name for one in repository.domains()],
        "top_agents": [(one.agent_id, one.score) for one in repository.top_agents("DMN001")],
        "all agents": [one.agent_id for one in repository.top_agents("DMN001", 100)],
        "domain_tools": [one.sk for one in repository.domain_tools("DMN001")],
        "agent_tools": [one.sk for one in repository.agent_tools("AGT001")],
        "sessions": [(one.session_id, one.succeeded) for one in repository.sessions(USER)],
        "mappings": [one.sk for one in repository.mappings()],
        "user_mappings": [one.sk for one in repository.user_mappings(USER)],
        "agent": repository.agent("AGT001"),
        "tool": None if (tool := repository.tool("AGT001", "TL001")) is None else tool.name,
        "domain": repository.domain("DMN001"),
        "unknown": repository.agent("AGT999"),
        "health": [(one.tool_id, one.state) for one in model.health.tools("DMN001") if one.agent_id == "AGT001"],
    }
    for session in repository.sessions(USER):
        history = repository.session_history(USER, session.session_id)
        read[session.session_id] = [(one.sk, one.tool_id, one.succeeded) for one in history.executions]
        stored = repository.session(USER, session.session_id)
        read[f"{session.session_id} alone"] = None if stored is None else stored.name
    plan = model.suggest(USER, category="cafe search")
    read["plan"] = plan.source, [step.tool_id for step in plan.steps], [one.tool_id for one in plan.avoid]
    model.planner.load()
    read["similar"] = model.suggest("USR009", request="near the stadium find a cafe").source
    failing = model.guard(review="never").before(**CALL, tool_id="TL002")
    read["guard"] = type(failing)
    asking = model.guard(review=["nothing"])
    decision = asking.before(**CALL, tool_id="TL004", arguments={"q": 1}, call_id="c1")
    if isinstance(decision, Go):
        asking.after(decision, {"found": 1})
    read["cached"] = decision.result if isinstance(decision, Cached) else {"found": 1}
    return read


def _records(model: AgentModel) -> list[ToolExecution]:
    """Record one session under an own id, and one under a new one; what the table has of them once drained."""
    made = []
    for session_id in ("SESSmine", None):
        with (
            model.session("USR002", "go on", session_id=session_id) as session,
            session.process("step") as process,
            process.call("AGT001", "TL001") as call,
        ):
            call.result = "done"
        made.append((session.session_id, call))
    model.drain()
    stored = [model.table.get(call.receipt.entity.key, consistent=True) for _, call in made if call.receipt is not None]
    return [one for one in stored if one is not None]


def _names(server: Any) -> list[str]:
    return sorted(key.decode() for key in server.keys("*") if not key.endswith(b":lock"))


def test_every_kind_of_key_is_there(lived: Settings, server: Any) -> None:
    """The keys that the tests below damage are of every kind that exists."""
    kinds = {
        kind for kind in (b"string", b"hash", b"stream", b"zset") for key in _names(server) if server.type(key) == kind
    }
    names = " ".join(_names(server))

    assert {b"string", b"hash", b"stream", b"zset"} == kinds
    assert lived.valkey_prefix == "am"
    for part in (
        ":j",
        ":p:",
        ":c:",
        ":n:",
        ":r:",
        ":lb:",
        ":log:",
        ":r:{best:",
        ":head",
        ":layout",
        ":health:",
        ":guard:",
        ":answers:",
    ):
        assert part in names


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_every_value(lived: Settings, server: Any, junk: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is in a string or in a field of a hash, the answers are as before, and records arrive."""
    caplog.set_level("CRITICAL")
    with AgentModel.from_settings(lived) as model:
        expected = _read(model)
    assert Blocked is expected["guard"]
    for keys in [[key] for key in _names(server)] if junk in KEY_BY_KEY else [_names(server)]:
        dumped = {key: (server.dump(key), server.type(key)) for key in keys}
        kept = {key: dump for key, (dump, _) in dumped.items() if dump is not None}  # others have expired
        kinds = {key: dumped[key][1] for key in kept}
        for key in kept:
            _damage(server, key, JUNK[junk])
        with AgentModel.from_settings(lived) as model:
            assert expected == _read(model), f"{junk} in {keys}"
        for key, dump in kept.items():
            assert not server.exists(key) or kinds[key] == server.type(key)
            server.restore(key, 0, dump, replace=True)


def _damage(server: Any, key: str, junk: Callable[[bytes], bytes]) -> None:
    kind = server.type(key)
    if kind == b"string":
        server.set(key, junk(server.get(key)))
    elif kind == b"hash":
        for field, value in server.hgetall(key).items():
            if not field.startswith(b"\0"):
                server.hset(key, field, junk(value))
        server.hset(key, junk(b"field")[:1000] or b"f", junk(b"value"))
    elif kind == b"zset":
        server.zadd(key, {junk(b"member")[:1000]: -(10.0**9)})


@pytest.mark.parametrize("kind", ["string", "hash", "stream", "zset", "list"])
def test_another_type_under_every_key(
    lived: Settings, server: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever type a key has, the answers are as before; only a journal that is gone has nothing left to drain."""
    caplog.set_level("CRITICAL")
    put: dict[str, Callable[[str], object]] = {
        "string": lambda key: server.set(key, "x"),
        "hash": lambda key: server.hset(key, "x", "y"),
        "stream": lambda key: server.xadd(key, {"x": "y"}),
        "zset": lambda key: server.zadd(key, {"x": 1}),
        "list": lambda key: server.rpush(key, "x"),
    }
    with AgentModel.from_settings(lived) as model:
        expected = _read(model)
    for key in _names(server):
        if server.type(key).decode() == kind or key.endswith(":j"):
            continue
        kept = server.dump(key)
        if kept is None:
            continue  # it has expired
        server.delete(key)
        put[kind](key)
        with AgentModel.from_settings(lived) as model:
            assert expected == _read(model), f"a {kind} at {key}"
        server.restore(key, 0, kept, replace=True)


@pytest.mark.parametrize("junk", JUNK)
def test_junk_while_recording_and_draining(
    lived: Settings, server: Any, junk: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With junk in journals, numbers and dead letters, records still arrive, and what is no entry is a dead letter."""
    caplog.set_level("CRITICAL")
    with AgentModel.from_settings(lived) as model:
        _records(model)
        for key in _names(server):
            if server.type(key) == b"hash" and ":n:" in key:
                for field in server.hgetall(key):
                    if not field.startswith(b"\0"):
                        server.hset(key, field, JUNK[junk](b"1"))
        journals = [model._caches.user_cache._keys.journal(shard) for shard in range(3)]  # type: ignore[union-attr]
        for journal in journals:
            server.xadd(
                journal, {"k": JUNK[junk](b"k"), "m": JUNK[junk](b"m"), "i": "1", "x": "", "d": JUNK[junk](b"d")}
            )
            server.xadd(journal, {"other": JUNK[junk](b"v")})
        stored = _records(model)
        dead = model.drainer.dead()
        for letter in dead:
            assert model.drainer.retry(letter.id)
        model.drain()
        again = model.drainer.dead()
        for letter in again:
            assert model.drainer.drop(letter.id)

    assert 2 == len(stored)
    assert ["done", "done"] == [one.result for one in stored]
    assert 6 == len(dead) == len(again)


@pytest.mark.parametrize("kind", ["string", "list"])
def test_another_type_in_the_place_of_a_journal(
    lived: Settings, server: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal or dead letters of another type hold up neither records nor the drain of the others."""
    caplog.set_level("CRITICAL")
    with AgentModel.from_settings(lived) as model:
        model.drain()
        keys = model._caches.user_cache._keys  # type: ignore[union-attr]
        for shard in range(lived.shards):
            for key in (keys.journal(shard), keys.dead_letters(shard)):
                server.delete(key)
                server.set(key, "x") if kind == "string" else server.rpush(key, "x")
        stored = _records(model)
        stats = model.stats()

    assert ["done", "done"] == [one.result for one in stored]
    assert stats is not None
    assert stats.journal is not None


def test_junk_in_what_is_known_of_writes(lived: Settings, server: Any) -> None:
    """A damaged mark may be any write, so what was cached before it is not given; damaged counts are counted anew."""
    with AgentModel.from_settings(lived) as model:
        guard = model.guard(review="never")

        def ask() -> GuardDecision:
            return guard.before(**CALL, tool_id="TL004", arguments={"q": "park"})

        guard.after(ask(), {"found": 1})
        run(model, USER)
        model.settle()
        guard.after(ask(), {"found": 1})  # counts that these writes changed nothing
        (marks,), (counts,) = server.keys("*:answers-writes:*"), server.keys("*:answers-effects:*")
        for number, junk in enumerate(JUNK.values()):
            _damage(server, counts, junk)
            run(model, USER)
            model.settle()
            first = ask()
            server.xadd(marks, {junk(b"tool") or b"t": junk(b"x")})
            second = ask()
            guard.after(second, {"found": number})
            third = ask()

            assert isinstance(first, Go | Cached)
            assert isinstance(second, Go)
            assert isinstance(third, Cached)
            assert {"found": number} == third.result


def test_junk_among_the_newest_sessions(lived: Settings, server: Any) -> None:
    """What names no session is passed over in the list of all sessions, and removed."""
    with AgentModel.from_settings(lived) as model:
        finder, narrow = SessionFinder(model), SessionFilter()
        expected = finder.of_all(model.warehouse, narrow, limit=50)
        (newest,) = server.keys("*:newest")
        junk = [b"", b"junk", b"\xff\xfe SESS1", b"USR001", b"USR#1 SESS1", b"x" * 100_000, b"USR001 SESS1"]
        for score in (math.inf, -math.inf, 1e300, -1e300):
            server.zadd(newest, dict.fromkeys(junk, score))

            assert expected == finder.of_all(model.warehouse, narrow, limit=50)
            assert expected.rows[0].session_id == finder.find(expected.rows[0].session_id)[1]
            assert [None] * len(junk) == [server.zscore(newest, one) for one in junk]


def test_junk_where_an_erasure_stands(lived: Settings, server: Any) -> None:
    """Of a user whose erasure cannot be read no session comes into the list, and recording goes on."""
    with AgentModel.from_settings(lived) as model:
        server.set(erasing_key(lived.valkey_prefix, user_key("USR003")), b"junk")
        with model.session("USR003", "find"):
            pass
        model.settle()
        (newest,) = server.keys("*:newest")

        assert [] == [member for member in server.zrange(newest, 0, -1) if b"USR003" in member]
        assert 1 == len(model.repository.sessions("USR003").items)
