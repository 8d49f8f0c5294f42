"""The response cache by itself: which calls share a result, how long and how large, and what drops it."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel._erasure_marks import erasing_key
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.cache import Valkey
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import ValidationError
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.guard._response_cache import CacheLookup, ResponseCache, _entry
from agentmodel.suggest.health._cusum import Cusum
from agentmodel.suggest.health._monitor import HealthMonitor
from agentmodel.suggest.health._tool_state import Observation
from agentmodel.suggest.review._policy import ReviewPolicy

AT = datetime(2026, 1, 1, tzinfo=UTC)
REF = ToolRef("AGT001", "TL001")
DAYS = 86_400


class World:
    """A catalogue of one tool and one agent, and a cache over it."""

    def __init__(self, table: Table, valkey: Valkey) -> None:
        self.table, self.valkey = table, valkey
        self.tool = Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search", read_only=True)
        self.agent = Agent(agent_id="AGT001", domain_id="DMN001", name="finder")
        self.writer = Writer(table, clock=itertools.count(1).__next__)
        self.repository = Repository(table, self.writer)
        self.repository.put(self.tool, self.agent)
        self.settled = 0
        self.cache = ResponseCache(self.repository, valkey=valkey, seconds=60, settle=self.settle)

    def settle(self) -> None:
        self.settled += 1

    def change(self, entity: Entity, **values: Any) -> None:
        """Change an item in the table, not in what was read before."""
        for name, value in values.items():
            setattr(entity, name, value)
        self.repository.put(entity)

    def names(self) -> list[str]:
        """The keys in Valkey, without their prefix."""
        prefix = f"{self.table.settings.valkey_prefix}:"
        return sorted(name.removeprefix(prefix) for name in self.valkey.scan(f"{prefix}*"))

    def seconds(self, name: str) -> int:
        """For how long a key is kept."""
        found: int = self.valkey.execute(("TTL", f"{self.table.settings.valkey_prefix}:{name}"))
        return found

    def look(self, arguments: Any = None, **options: Any) -> CacheLookup:
        given = {"user_id": "USR001"} | options
        return self.cache.look(*REF, {"a": 1, "b": 2} if arguments is None else arguments, **given)

    def hit(self, arguments: Any = None, **options: Any) -> bool:
        found = self.look(arguments, **options)
        assert found.result == ("found" if found.hit else None)
        return found.hit


@pytest.fixture
def empty(empty_table: Table, valkey: Valkey) -> World:
    """A cache without results."""
    return World(empty_table, valkey)


@pytest.fixture
def world(empty: World) -> World:
    """A cache that has the result of a call of USR001."""
    assert empty.cache.keep(empty.look(), "found")
    return empty


def test_the_same_call_has_the_result(world: World) -> None:
    """Equal arguments, tool, agent and user share a result; without the item of the agent they do too."""
    assert world.hit()
    assert world.hit({"b": 2, "a": 1})
    assert world.hit(tool=world.tool, agent=world.agent)
    assert 4 == world.settled
    (name,) = world.names()
    assert name.startswith("answers:{AGT001:TL001}:")
    assert 30 < world.seconds(name) <= 60


@pytest.mark.parametrize(
    "change",
    [{"spec": {"type": "object"}}, {"description": "other"}, {"name": "find"}, {"revision": "2"}, {"agent": "2"}],
)
def test_another_version_has_another_result(world: World, change: dict[str, Any]) -> None:
    """A result is of one version of tool and agent: name, description, what it takes, and both revisions."""
    if "agent" in change:
        world.change(world.agent, revision=change["agent"])
    else:
        world.change(world.tool, **change)

    assert not world.hit()


def test_whose_result_it_is(world: World) -> None:
    """Other arguments, users and scopes have no part in it; everybody's result is everybody's, and the anonymous user's."""
    assert not world.hit({"a": 1})
    assert not world.hit(user_id="USR002")
    assert not world.hit(scope="everybody")
    assert CacheLookup(hit=False) == world.look(user_id=ANONYMOUS)
    assert world.cache.keep(world.look(scope="everybody", user_id=ANONYMOUS), "found")
    assert world.hit(scope="everybody", user_id="USR002")
    assert world.hit(scope="everybody", user_id=ANONYMOUS)


def test_an_agent_that_is_not_in_the_catalogue(empty: World) -> None:
    """Results are cached too for a tool whose agent has no item; they are not those of the agent with one."""
    empty.change(empty.agent, revision="1")
    empty.writer.delete(empty.agent.key)

    assert empty.cache.keep(empty.look(), "found")
    assert empty.hit()
    assert not empty.hit(agent=empty.agent)


def test_what_is_not_looked_up(world: World) -> None:
    """A tool that is not read-only or not known, no Valkey, and one that does not answer, have no results."""
    world.change(world.tool, read_only=False)
    closed = world.look()
    unknown = world.cache.look("AGT001", "TL404", {}, user_id="USR001")
    world.change(world.tool, read_only=True)
    world.valkey.close()
    without = ResponseCache(world.repository, valkey=None)

    assert [CacheLookup(hit=False)] * 4 == [
        closed, unknown, world.look(), without.look(*REF, {}, user_id="USR001"),
    ]  # fmt: skip
    assert not world.cache.keep(closed, "found")
    assert not without.keep(CacheLookup(hit=False, name="am:x"), "found")
    without.forget(*REF)


def test_a_tool_that_begins_to_fail_loses_its_results(world: World) -> None:
    """A failure begins a new epoch, for longer than any result lives; a result of a call before it is not valid after."""
    late = world.look()
    world.cache.health_changed(REF, Cusum())
    assert world.hit()
    world.cache.health_changed(REF, Cusum(opened=1))

    assert not world.hit()
    assert 90 * DAYS - 30 < world.seconds("answers:{AGT001:TL001}") <= 90 * DAYS
    assert world.cache.keep(late, "found")
    missed = world.look()
    assert not missed.hit
    assert world.cache.keep(missed, "found")
    assert world.hit()
    assert missed.epoch == world.look().epoch != late.epoch


def test_dropping_may_fail(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Where Valkey does not answer, results stay until they expire, and the log says so."""
    world.valkey.close()
    world.cache.forget(*REF)

    assert ["TL001 of AGT001 failed; they stay until they expire" in each.getMessage() for each in caplog.records] == [
        True
    ]
    assert not world.cache.keep(CacheLookup(hit=False, name="am:x"), "found")


def test_an_erased_users_result_is_not_kept(empty: World) -> None:
    """While a user is being erased, no result of the user stays."""
    found = empty.look()
    empty.valkey.execute(("SET", erasing_key(empty.table.settings.valkey_prefix, found.whose), "1"))
    before = empty.names()

    assert not empty.cache.keep(found, "found")
    assert before == empty.names()
    assert empty.cache.keep(empty.look(user_id="USR002"), "found")


@pytest.mark.parametrize("result", [(1,), {1: "a"}, float("nan"), object(), "\ud800"])
def test_what_json_does_not_give_back_is_not_kept(empty: World, result: Any) -> None:
    """A result that would come back as another one is not cached."""
    assert not empty.cache.keep(empty.look(), result)
    assert [] == empty.names()


def test_the_largest_result(empty: World) -> None:
    """A result of 256 KiB with its epoch and user is cached, one of a byte more is not; bytes count, not characters."""
    found = empty.look()
    rest = len(json.dumps({"epoch": found.epoch, "whose": found.whose, "at": found.at, "result": ""}).encode())
    room = 256 * 1024 - rest

    assert empty.cache.keep(found, "é" * (room // 2) + "x" * (room % 2))
    assert not empty.cache.keep(found, "é" * (room // 2) + "x" * (room % 2 + 1))


def test_what_would_be_redacted_is_not_kept(empty_table: Table, valkey: Valkey) -> None:
    """A result that the installation redacts is not the tool's any more."""
    with Table(empty_table.settings, redact=lambda text: text.replace("secret", "[x]")) as table:
        world = World(table, valkey)

        assert not world.cache.keep(world.look(), "a secret")
        assert world.cache.keep(world.look(), "found")


@pytest.mark.parametrize("data", [b"", b"{", b"1", b"[]", b'{"epoch":"0"}', b'{"result":1}', b"[" * 100_000, b"\xff"])
def test_a_damaged_result_is_none(data: bytes) -> None:
    """Bytes that are not what was written are no result."""
    assert _entry(data) is None
    assert {"epoch": "0", "result": None} == _entry(b'{"epoch":"0","result":null}')


@pytest.mark.parametrize(("seconds", "valid"), [(0, False), (1, True), (90 * DAYS, True), (90 * DAYS + 1, False)])
def test_how_long_results_may_be_kept(empty: World, seconds: int, valid: bool) -> None:
    """A result is kept from one second to ninety days; the error says so."""
    if valid:
        ResponseCache(empty.repository, valkey=None, seconds=seconds)
    else:
        with pytest.raises(ValidationError, match=f"^seconds .*{seconds}.* must be a number from 1 to {90 * DAYS}"):
            ResponseCache(empty.repository, valkey=None, seconds=seconds)


def test_a_result_is_kept_for_an_hour_by_default(empty: World) -> None:
    """Without a number of seconds, a result is kept for an hour."""
    cache = ResponseCache(empty.repository, valkey=empty.valkey)
    assert cache.keep(empty.look(), "found")
    (name,) = empty.names()

    assert 3570 < empty.seconds(name) <= 3600


# Which calls need a person


@pytest.mark.parametrize(
    ("low", "executions", "below", "expected"),
    [
        (0.2, 0, 0.2, None), (0.19, 0, 0.2, "19 %"), (None, 0, 0.2, "5 %"), (None, 100, 0.2, None),
        (0.1, 100, 0.2, "10 %"), (0.2, 0, 0.21, "20 %"),
    ],
)  # fmt: skip
def test_little_evidence_needs_a_person(
    empty: World, low: float | None, executions: int, below: float, expected: str | None
) -> None:
    """An agent whose lower bound is below the limit needs approval; what was published comes before what was counted."""
    empty.change(empty.agent, evidence_low=low, executions=executions, successes=executions)
    found = ReviewPolicy(empty.repository, evidence_below=below).reasons(*REF)

    assert (() if expected is None else (f"the success rate of finder may be as low as {expected}",)) == found
    assert (below != 0.2) or found == ReviewPolicy(empty.repository).reasons(*REF), "20 % is the default"


def test_each_reason_for_a_person(empty: World) -> None:
    """What is unknown, marked or failing needs approval, each with its reason, in this order."""
    watch = HealthMonitor(empty.table, writer=empty.writer, repository=empty.repository, now=lambda: AT)
    policy = ReviewPolicy(empty.repository, watch=watch, evidence_below=0.0)
    unknown = ToolRef("AGT001", "TL404")
    assert ("TL404 is not in the catalogue",) == policy.reasons(*unknown)
    watch.learn([(unknown, Observation(AT, True, None))] * 20)
    failing = {"health": "open", "health_since": AT, "health_until": AT + timedelta(minutes=15)}
    empty.change(empty.tool, needs_review=True, **failing)

    assert ("search needs a person's approval", "search is failing: its last calls failed") == policy.reasons(*REF)
    assert ("search needs a person's approval",) == policy.reasons(*REF, failing={})
    unmarked = Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search")
    other = Agent(agent_id="AGT001", domain_id="DMN001", name="looker", evidence_low=0.1)
    assert ("the success rate of looker may be as low as 10 %",) == ReviewPolicy(empty.repository).reasons(
        *REF, tool=unmarked, agent=other, failing={}
    )
    first, second = policy.reasons(*unknown)
    assert "TL404 is not in the catalogue" == first
    assert second.startswith("TL404 is failing: 20 of its last 20 calls failed")
    empty.change(empty.tool, needs_review=False)
    empty.writer.delete(empty.agent.key)
    assert () == policy.reasons(*REF, failing={})
    assert ("the success rate of AGT001 may be as low as 0 %",) == ReviewPolicy(empty.repository).reasons(*REF)
