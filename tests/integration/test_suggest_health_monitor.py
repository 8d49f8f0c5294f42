"""The health monitor by itself: what changes a state, who learns of it, and what happens while others write."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel.access.pagination import Page
from agentmodel.access.repository import Repository
from agentmodel.cache import Valkey
from agentmodel.dynamo.models import Tool, ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import CacheUnavailable, TableUnavailable
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.health._monitor import HealthMonitor
from agentmodel.suggest.health._tool_state import Observation, ToolState

AT = datetime(2026, 1, 1, tzinfo=UTC)
REF = ToolRef("AGT001", "TL001")
USERS = ("USR001", "USR002")


def tool(ref: ToolRef, name: str) -> Tool:
    """A tool with a hundred calls, of which none failed."""
    return Tool(agent_id=ref.agent_id, tool_id=ref.tool_id, domain_id="DMN001", name=name, calls=100, errors=0)


class World:
    """A catalogue of tools TL001 and so on of one agent, and a monitor over it."""

    def __init__(self, table: Table, valkey: Valkey | None, *, names: str = "a") -> None:
        self.table, self.valkey = table, valkey
        self.writer = Writer(table, clock=itertools.count(1).__next__)
        self.repository = Repository(table, self.writer)
        self.refs = [ToolRef("AGT001", f"TL{n:03d}") for n in range(1, len(names) + 1)]
        self.repository.put(*[tool(ref, name) for ref, name in zip(self.refs, names, strict=True)])
        self.monitor = self.another()
        self.told: list[tuple[ToolRef, int]] = []
        self.monitor.on_change.append(lambda ref, health: self.told.append((ref, health.opened)))

    def another(self) -> HealthMonitor:
        """The monitor of another process."""
        return HealthMonitor(
            self.table, writer=self.writer, repository=self.repository, valkey=self.valkey, now=lambda: AT
        )

    def item(self) -> Tool:
        found = self.table.get(Tool.at(*REF), consistent=True)
        assert found is not None
        return found

    def learn(self, outcomes: str, *, ref: ToolRef = REF, by: HealthMonitor | None = None, at: datetime = AT) -> None:
        """Learn from calls of two users in turn; x is a failure."""
        calls = [
            (ref, Observation(at + timedelta(seconds=n), outcome == "x", USERS[n % 2]))
            for n, outcome in enumerate(outcomes)
        ]
        (by or self.monitor).learn(calls)

    def key(self, ref: ToolRef = REF) -> str:
        return f"{self.table.settings.valkey_prefix}:health:{ref.agent_id}:{ref.tool_id}"

    def ask(self, command: str, ref: ToolRef = REF, *rest: Any) -> Any:
        assert self.valkey is not None
        return self.valkey.execute((command, self.key(ref), *rest))

    def state(self, ref: ToolRef = REF) -> ToolState:
        found = ToolState.from_text(self.ask("GET", ref).decode())
        assert found is not None
        return found


@pytest.fixture
def world(empty_table: Table, valkey: Valkey) -> World:
    return World(empty_table, valkey)


@pytest.fixture
def alone(empty_table: Table) -> World:
    """A process without Valkey."""
    return World(empty_table, None)


@pytest.fixture
def before_each_set(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Calls a function before each compare and set, as another process that writes first."""
    original = valkey.compare_and_set

    def install(first: Callable[[], None]) -> None:
        def compare_and_set(*args: str, seconds: int) -> str | None:
            first()
            return original(*args, seconds=seconds)

        monkeypatch.setattr(valkey, "compare_and_set", compare_and_set)

    return install


def test_processes_that_write_at_once_lose_nothing(
    world: World, before_each_set: Callable[[Callable[[], None]], None]
) -> None:
    """Where another process writes first, its calls are counted too, and none twice; states live sixty days."""
    other = world.another()
    others: list[str] = []

    def first() -> None:
        if others:
            world.learn(others.pop(), by=other)

    before_each_set(first)
    for _ in range(3):
        others.append(".")
        world.learn(".")

    assert 106.0 == world.state().everybody.calls
    assert 60 * 86_400 - 60 < world.ask("TTL") <= 60 * 86_400


def test_when_others_always_write_first_this_process_counts_for_itself(
    world: World, before_each_set: Callable[[Callable[[], None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """After twenty tries the calls count in this process, the log says so, and reads show what Valkey has."""
    tries: list[int] = []

    def first() -> None:
        tries.append(1)
        world.ask("SET", REF, ToolState().as_text())

    before_each_set(first)
    world.learn("..")

    assert 20 == len(tries)
    assert [
        "other processes changed the health of TL001 of AGT001 20 times in a row" in each for each in caplog.messages
    ] == [True]
    assert [0] == [row.calls for row in world.monitor.tools("DMN001")]


@pytest.mark.parametrize("shared", [True, False])
def test_who_learns_of_a_change(shared: bool, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> None:
    """Listeners and the table learn that a tool opens, opens again and closes, and of nothing between."""
    world: World = request.getfixturevalue("world" if shared else "alone")
    world.learn("..")
    world.learn("xxx")
    opened = world.item()
    world.learn("xxx", at=AT + timedelta(minutes=1))
    after_open = list(world.told)
    world.learn("xx", at=AT + timedelta(minutes=16))
    again = list(world.told)
    world.learn("...", at=AT + timedelta(hours=2))
    closed = world.item()

    assert [(REF, 1)] == after_open
    assert ("open", "3 of its last 3 calls failed; its usual failure rate is 0 %") == (
        opened.health, opened.health_note,
    )  # fmt: skip
    assert [(REF, 1), (REF, 2)] == again
    assert [(REF, 1), (REF, 2), (REF, 0)] == world.told
    assert ("closed", None, None, None) == (
        closed.health, closed.health_since, closed.health_until, closed.health_note,
    )  # fmt: skip
    assert (1, 3) == (opened.version, closed.version), "the table was written three times"
    began = "tool.health: TL001 of AGT001 became "
    assert ["open", "open", "closed"] == [text.removeprefix(began).partition(":")[0] for text in caplog.messages]


def test_one_user_alone_is_a_warning_and_no_change(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A tool that begins to fail for one user is logged without the user, and nobody else hears of it."""
    world.monitor.learn([(REF, Observation(AT, True, "USR001"))] * 4)

    assert ["tool.health: TL001 of AGT001 began to fail for one user alone"] == caplog.messages
    assert ([], None) == (world.told, world.item().version)
    assert [1] == [row.failing_users for row in world.monitor.tools("DMN001")]
    assert [True, False] == [world.monitor.health([REF], {}, user_id=user)[REF].own for user in USERS]
    world.learn("xxx")
    assert [False, False] == [world.monitor.health([REF], {}, user_id=user)[REF].own for user in USERS]


@pytest.fixture
def after_each_read(empty_table: Table, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Tool], None]], None]:
    """Calls a function with the tool after each consistent read of it, as another process that writes before this one."""
    original = empty_table.get

    def install(then: Callable[[Tool], None]) -> None:
        def get(key: Any, *, consistent: bool = False) -> Any:
            found = original(key, consistent=consistent)
            if consistent and found is not None:
                then(original(key, consistent=True))  # type: ignore[arg-type]  # it is there
            return found

        monkeypatch.setattr(empty_table, "get", get)

    return install


def test_a_change_that_others_overwrite_is_written_again(
    world: World,
    after_each_read: Callable[[Callable[[Tool], None]], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change of state is written until no other process comes first, so many times; then the log says so."""
    monkeypatch.setattr("agentmodel.suggest.health._monitor._ATTEMPTS", 3)
    conflicts = 2

    def overwrite(found: Tool) -> None:
        nonlocal conflicts
        if conflicts:
            conflicts -= 1
            world.writer.save(found)

    after_each_read(overwrite)
    world.learn("xxx")
    left, written = conflicts, world.repository.tool(*REF)
    conflicts = 3
    world.learn("xx", at=AT + timedelta(minutes=16))
    then = world.repository.tool(*REF)

    assert written is not None
    assert then is not None
    assert (0, "open", 0) == (left, written.health, conflicts)
    assert written.health_until == then.health_until
    assert caplog.messages[-1] == (
        "the health of TL001 of AGT001 was not written into the table: others wrote the item 3 times"
    )


def test_a_tool_that_is_deleted_meanwhile_stays_deleted(
    world: World, after_each_read: Callable[[Callable[[Tool], None]], None]
) -> None:
    """A change of state does not bring a tool back that was deleted after it was read; listeners learn of the change."""
    after_each_read(lambda found: world.writer.delete(found.key))
    world.learn("xxx")

    assert [(REF, 1)] == world.told
    assert world.repository.tool(*REF) is None


def test_a_clock_that_runs_ahead_by_more_than_a_day_is_put_back(world: World) -> None:
    """Calls of later times count as of a day from now, in the order of their times."""
    world.learn("xxx", at=AT + timedelta(days=3650))

    assert AT + timedelta(days=1, minutes=15) == world.state().everybody.half_open_at


def test_tools_of_a_domain_in_order(empty_table: Table, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages are read; failing tools come first, then those that may be tried, then by name."""
    world = World(empty_table, valkey, names="edcba")
    read = world.repository.domain_tools

    def two_at_a_time(domain_id: str, limit: int, *, cursor: str | None) -> Page[Tool]:
        return read(domain_id, 2, cursor=cursor)

    monkeypatch.setattr(world.repository, "domain_tools", two_at_a_time)
    world.learn("xxx", ref=world.refs[0])
    world.learn("xxx", ref=world.refs[2], at=AT - timedelta(hours=1))
    rows = world.monitor.tools("DMN001")

    assert [("e", "open"), ("c", "half-open"), ("a", "closed"), ("b", "closed"), ("d", "closed")] == [
        (row.tool, row.state) for row in rows
    ]
    assert ["3 of its last 3 calls failed; its usual failure rate is 0 %"] * 2 + [""] * 3 == [row.note for row in rows]
    assert [(100, 0.0, None)] * 3 == [(row.calls, row.failure_share, row.until) for row in rows[2:]]
    assert ["AGT001"] * 5 == [row.agent_id for row in rows]
    failing = Failing(AT, rows[0].note, failures=3, calls=3, usual_share=0.0, own=False)
    assert {world.refs[0]: failing} == world.monitor.failing(world.refs, {})
    assert {} == world.monitor.health([ToolRef("AGT001", "TL404")], {})


def test_what_can_be_sent_ahead(world: World, alone: World) -> None:
    """The reads of tools are one command each, in order; without Valkey there are none."""
    other = ToolRef("AGT001", "TL002")

    assert [("GET", world.key(REF)), ("GET", world.key(other))] == world.monitor.reads([other, REF, other])
    assert [] == alone.monitor.reads([REF])


def test_a_tool_without_calls_has_no_rate(world: World) -> None:
    """Of a tool that was never called no rate is known."""
    never = world.item()
    never.calls = never.errors = None
    world.repository.put(never)

    assert [(0, None)] == [(row.calls, row.failure_share) for row in world.monitor.tools("DMN001")]


def test_calls_while_the_table_is_away_count_later(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a tool whose baseline cannot be read are kept, and counted with the next ones."""
    other = ToolRef("AGT001", "TL002")

    def away(*_: Any, **__: Any) -> None:
        raise TableUnavailable("it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(alone.table, "call", away)
        alone.learn("..")
    alone.learn(".")
    with monkeypatch.context() as patch:
        patch.setattr(alone.table, "call", away)
        alone.monitor.learn([(other, Observation(AT, False, user)) for user in USERS])
        alone.monitor.forget_user("USR001")
    alone.repository.put(tool(other, "b"))
    alone.learn(".", ref=other)

    assert [103, 102] == [row.calls for row in alone.monitor.tools("DMN001")], "without the call of the erased user"


def test_so_many_calls_wait_for_the_table(empty_table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many tools have calls that are kept, and of each only so many of the latest."""
    monkeypatch.setattr("agentmodel.suggest.health._monitor._KEPT", 2)
    world = World(empty_table, None, names="abc")

    def away(*_: Any, **__: Any) -> None:
        raise TableUnavailable("it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(world.table, "call", away)
        for ref in world.refs:
            world.learn("...", ref=ref)
    world.monitor.learn([])

    assert [102, 102, 100] == [row.calls for row in world.monitor.tools("DMN001")]


def test_an_erased_user_leaves_every_state(world: World, alone: World) -> None:
    """A user goes from the states in Valkey and in this process; ids may have colons, and damaged states stay."""
    odd, damaged = ToolRef("AGT:TL1", "TL:TL2"), ToolRef("AGT001", "TL009")
    world.repository.put(tool(odd, "b"))
    world.monitor.learn([(ref, Observation(AT, True, "USR001")) for ref in (REF, odd) for _ in range(3)])
    world.ask("SET", damaged, b"damaged")

    assert 2 == world.monitor.forget_user("USR001")
    assert 0 == world.monitor.forget_user("USR001")
    assert [{}, {}] == [world.state(ref).users for ref in (REF, odd)]
    assert b"damaged" == world.ask("GET", damaged)
    alone.monitor.learn([(REF, Observation(AT, True, "USR001"))] * 3)
    assert 0 == alone.monitor.forget_user("USR001")
    assert "closed" == alone.monitor.health([REF], {}, user_id="USR001")[REF].state(AT)


def test_an_erasure_while_others_write(world: World, before_each_set: Callable[[Callable[[], None]], None]) -> None:
    """What another process learns meanwhile stays: by a failure of another user the tool is failing for everybody."""
    world.monitor.learn([(REF, Observation(AT, True, "USR001"))] * 3)
    other, others = world.another(), [(REF, Observation(AT, True, "USR002"))]
    before_each_set(lambda: other.learn([others.pop()]) if others else None)

    assert 1 == world.monitor.forget_user("USR001")
    assert (1, {}) == (world.state().everybody.opened, world.state().users)


def test_an_erasure_that_others_always_overwrite_must_be_repeated(
    world: World, before_each_set: Callable[[Callable[[], None]], None]
) -> None:
    """After twenty tries the erasure fails, and the error says what to do."""
    world.monitor.learn([(REF, Observation(AT, True, "USR001"))] * 3)
    tries: list[int] = []

    def first() -> None:
        tries.append(1)
        world.ask("APPEND", REF, " ")

    before_each_set(first)
    with pytest.raises(CacheUnavailable, match="TL001 20 times in a row: erase again"):
        world.monitor.forget_user("USR001")

    assert 20 == len(tries)


def test_an_erasure_whose_answer_was_lost_counts_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure that is sent again after its answer was lost is found to be done."""
    world.monitor.learn([(REF, Observation(AT, True, "USR001"))] * 3)
    assert world.valkey is not None
    original = world.valkey.compare_and_set

    def twice(*args: str, seconds: int) -> str | None:
        original(*args, seconds=seconds)
        return original(*args, seconds=seconds)

    monkeypatch.setattr(world.valkey, "compare_and_set", twice)

    assert 1 == world.monitor.forget_user("USR001")
    assert {} == world.state().users


def test_which_calls_say_something_of_a_tool(alone: World) -> None:
    """Calls that ended and have a time do, each for its user; in a block for everybody they have none."""
    ids: Any = {"user_id": "USR001", "session_id": "SESS1", "process_id": "PRC001", "agent_id": "AGT001", "tool_id": "TL001",
                "tool_name": "a"}  # fmt: skip
    ended = [ToolExecution(**ids, succeeded=succeeded, executed_at=AT) for succeeded in (True, False)]
    others: list[Any] = [
        ToolExecution(**ids, succeeded=False, executed_at=None),
        ToolExecution(**ids, succeeded=False, executed_at=AT, status="rejected"),
        tool(REF, "a"),
    ]
    monitor = alone.monitor

    assert [(REF, Observation(AT, failed, "USR001")) for failed in (False, True)] == monitor.calls_in([*ended, *others])
    with monitor.for_everybody():
        assert [(REF, Observation(AT, True, None))] == monitor.calls_in(ended[1:])
    assert [(REF, Observation(AT, True, "USR001"))] == monitor.calls_in(ended[1:])
