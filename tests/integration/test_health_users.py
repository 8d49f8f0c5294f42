"""Who decides that a tool is failing: two users for everybody, one user for that user alone."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, AsyncRecorder, Settings, Tool, ToolExecution
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.suggest.guard import Blocked, Go
from agentmodel.suggest.plan import ToolRef
from tests.integration.suggest_world import catalogue, opened

REF = ToolRef("AGT001", "TL002")
USER, OTHER, THIRD = "USR001", "USR002", "USR003"


@pytest.fixture(params=["Valkey", "table alone"])
def model(request: pytest.FixtureRequest, settings: Settings) -> Iterator[AgentModel]:
    """A model whose tool has worked for forty calls, with and without Valkey."""
    plain = settings if request.param == "Valkey" else settings.model_copy(update={"valkey_url": None})
    with opened(plain) as model:
        catalogue(model)
        record(model, "." * 40, users=[THIRD], at=datetime.now(UTC) - timedelta(seconds=5))
        model.settle()
        yield model


def record(
    model: AgentModel,
    outcomes: str,
    *,
    users: Sequence[str] = (USER,),
    session: str = "SESS1",
    at: datetime | None = None,
    of: ToolRef = REF,
) -> None:
    """Record calls of these users in turn; x is a failure."""
    for n, outcome in enumerate(outcomes):
        model.recorder.record(
            ToolExecution(
                user_id=users[n % len(users)], session_id=session, process_id="PRC001", agent_id=of.agent_id,
                tool_id=of.tool_id, tool_name="search", succeeded=outcome == ".",
                executed_at=(at or datetime.now(UTC)) + timedelta(milliseconds=n),
            )
        )  # fmt: skip


def blocked(model: AgentModel, user_id: str, session_id: str = "SESSnew") -> bool:
    """Whether the guard blocks a call of this user, and whether plan, health and policy say the same."""
    decision = model.guard(review="never", cache=False).before(
        agent_id=REF.agent_id, tool_id=REF.tool_id, user_id=user_id, session_id=session_id
    )
    whose = session_id if user_id == ANONYMOUS else user_id
    rows = {(row.agent_id, row.tool_id): row.state for row in model.health.tools("DMN001", user_id=whose)}
    failing = REF in model.health.failing([REF], {}, user_id=whose)
    asked = model.guard(review="policy", block=False, cache=False).before(
        agent_id=REF.agent_id, tool_id=REF.tool_id, user_id=user_id, session_id=session_id, call_id=uuid.uuid4().hex
    )
    reason = str(getattr(getattr(asked, "review", None), "reason", ""))

    assert isinstance(decision, Blocked | Go)
    found = isinstance(decision, Blocked)
    assert (found, found, found) == (rows[REF] == "open", failing, "is failing" in reason)
    if user_id != ANONYMOUS:
        plan = model.suggest(user_id, domain_id="DMN001")
        assert found == any((each.agent_id, each.tool_id) == REF and each.failing_now for each in plan.avoid)
    return found


def test_the_failures_of_one_user_hold_for_that_user_alone(model: AgentModel) -> None:
    """However often a tool fails for one user, guard, plans and health of the others, and the table, say that it works."""
    record(model, "x" * 60)

    assert blocked(model, USER)
    assert not blocked(model, OTHER)
    assert not blocked(model, ANONYMOUS)
    everybody = next(row for row in model.health.tools("DMN001") if (row.agent_id, row.tool_id) == REF)
    tool = model.table.get(Tool.at(*REF), consistent=True)
    assert ("closed", 1) == (everybody.state, everybody.failing_users)
    assert tool is not None
    assert "open" != tool.health


def test_what_fails_for_the_user_is_no_substitute(model: AgentModel) -> None:
    """Another agent's tool that fails for this user is not named to them; it is to somebody else."""
    other_agents = ToolRef("AGT002", REF.tool_id)
    record(model, "." * 40, users=[THIRD], at=datetime.now(UTC) - timedelta(seconds=5), of=other_agents)
    for user in (USER, OTHER):
        record(model, "x" * 60, users=[user])
    record(model, "x" * 60, of=other_agents)
    call: dict[str, Any] = {"agent_id": REF.agent_id, "tool_id": REF.tool_id, "session_id": "SESSnew"}
    decisions = [model.guard(review="never").before(user_id=user, **call) for user in (USER, OTHER)]

    assert [(), (other_agents,)] == [
        tuple(ToolRef(each.agent_id, str(each.tool_id)) for each in getattr(decision, "fallbacks", [None]))
        for decision in decisions
    ]


def test_a_stray_failure_of_another_user_does_not_join_a_flood(model: AgentModel) -> None:
    """Sixty failures of one user and one of another are not failures of everybody."""
    record(model, "x" * 60)
    record(model, "x", users=[OTHER])

    assert blocked(model, USER)
    assert not blocked(model, OTHER)
    assert not blocked(model, THIRD)


def test_the_failures_of_two_users_hold_for_everybody(model: AgentModel) -> None:
    """A tool that fails for two users is blocked for a third, and for somebody who is not known."""
    record(model, "xxxxxx", users=[USER, OTHER])

    assert blocked(model, THIRD)
    assert blocked(model, ANONYMOUS)


def test_each_anonymous_session_is_a_user_of_its_own(model: AgentModel) -> None:
    """One anonymous session decides for itself alone, two decide for everybody."""
    record(model, "x" * 20, users=[ANONYMOUS], session="SESSone")

    assert blocked(model, ANONYMOUS, "SESSone")
    assert not blocked(model, ANONYMOUS, "SESStwo")
    assert not blocked(model, USER)

    record(model, "xxx", users=[ANONYMOUS], session="SESStwo")

    assert blocked(model, USER)


def test_an_erased_user_begins_anew(model: AgentModel) -> None:
    """After an erasure a tool fails no more for that user alone, and the state for everybody has no part of it."""
    record(model, "x" * 10)
    record(model, "x", users=[THIRD])
    assert blocked(model, USER)

    report = model.erase_user(USER)
    again = model.erase_user(USER)

    assert int(model.valkey is not None) == report.removed["valkey"].get("health of tools", 0)
    assert {} == again.removed["valkey"]
    assert not blocked(model, USER)
    record(model, "x" * 10)
    assert blocked(model, USER)
    assert not blocked(model, OTHER)  # the erased user's failures would be the second half of an alarm


def test_one_with_the_right_decides_for_everybody(model: AgentModel) -> None:
    """Failures that are recorded as everybody's need no second user; after the block they do again."""
    with model.health.for_everybody():
        record(model, "xxxx")

    assert blocked(model, THIRD)

    record(model, "." * 3, users=[OTHER], at=datetime.now(UTC) + timedelta(hours=1))
    assert not blocked(model, THIRD)
    record(model, "x" * 20)
    assert not blocked(model, THIRD)


def test_tasks_that_record_at_once_keep_their_rights(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of records that several tasks make at the same time, those of the one with the right are everybody's, alone."""

    async def fails(recorder: AsyncRecorder, user_id: str, *, for_everybody: bool) -> None:
        failure = ToolExecution(
            user_id=user_id, session_id="SESS1", process_id="PRC001", agent_id=REF.agent_id, tool_id=REF.tool_id,
            tool_name="search", succeeded=False, executed_at=datetime.now(UTC),
        )  # fmt: skip
        with model.health.for_everybody() if for_everybody else nullcontext():
            await recorder.record(failure)

    async def main() -> None:
        recorder = AsyncRecorder(model.recorder)
        rights = [(USER, True), (OTHER, False)]
        await asyncio.gather(*[fails(recorder, user, for_everybody=right) for user, right in rights * 20])

    learned: list[Any] = []
    monkeypatch.setattr(model.health, "learn", learned.extend)
    asyncio.run(main())
    model.settle()

    users = Counter(call.user for _, call in learned)
    assert 20 == users[None]
    assert 2 == len(users)


def test_functions_that_one_with_the_right_calls(model: AgentModel) -> None:
    """Functions are recorded in the background: their failures are everybody's all the same, and only in the block."""

    @model.tool(agent="finder")
    def search(near: int) -> int:
        raise TimeoutError(str(near))

    def fails(user_id: str, times: int) -> str:
        caught = ""
        with model.session(user_id):
            for near in range(times):
                try:
                    search(near)
                except Exception as error:  # noqa: BLE001  # what the caller sees
                    caught = type(error).__name__
        return caught

    assert "ToolBlocked" == fails(USER, 25)
    assert "TimeoutError" == fails(OTHER, 1)
    with model.health.for_everybody():
        assert "ToolBlocked" == fails(THIRD, 25)
    assert "ToolBlocked" == fails(OTHER, 1)


def test_functions_fail_for_their_caller_alone(model: AgentModel) -> None:
    """A function that fails in the sessions of one user is blocked for that user, and called for another."""
    fails = False

    @model.tool(agent="finder")
    def search(near: int) -> int:
        if fails:
            raise TimeoutError
        return near

    def called(user_id: str) -> str:
        try:
            with model.session(user_id):
                search(1)
        except Exception as error:  # noqa: BLE001  # what the caller sees
            return type(error).__name__
        return "called"

    assert ["called"] * 25 == [called(THIRD) for _ in range(25)]
    fails = True
    seen = [called(USER) for _ in range(8)]
    fails = False

    assert ("TimeoutError", "ToolBlocked") == (seen[0], seen[-1])
    assert "called" == called(OTHER)


def test_a_user_alone_does_not_open_it_again_for_everybody(model: AgentModel) -> None:
    """Once an open tool may be tried again, failures of one user keep it from that user, and others go on trying."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    record(model, "xxxxxx", users=[USER, OTHER], at=long_ago)
    assert not blocked(model, THIRD), "it is half-open"

    record(model, "x" * 20)

    assert blocked(model, USER)
    assert not blocked(model, THIRD)

    record(model, "xx", users=[OTHER])

    assert blocked(model, THIRD)


def test_another_process_knows_whose_calls_fail(settings: Settings) -> None:
    """What fails for one user is shared in Valkey: another process blocks that user and nobody else."""
    with opened(settings) as model, AgentModel(settings) as other:
        catalogue(model)
        record(model, "." * 40, users=[THIRD], at=datetime.now(UTC) - timedelta(seconds=5))
        record(model, "x" * 10)
        model.settle()

        assert blocked(other, USER)
        assert not blocked(other, OTHER)

        record(other, "xxx", users=[OTHER])
        other.settle()

        assert blocked(model, THIRD)


def test_a_user_for_whom_it_works_again_is_let_in(model: AgentModel) -> None:
    """Calls of the user that succeed after the waiting time close it for that user."""
    record(model, "x" * 10, at=datetime.now(UTC) - timedelta(hours=1))
    record(model, "...")

    assert not blocked(model, USER)
    assert 0 == sum(row.failing_users for row in model.health.tools("DMN001"))


def test_calls_of_the_future_hold_no_tool_for_long(model: AgentModel) -> None:
    """Calls with a time years ahead, of a wrong clock or made up, hold a tool no longer than others and a day."""
    ahead = datetime.now(UTC) + timedelta(days=3650)
    record(model, "x" * 20, users=[USER, OTHER], at=ahead)
    model.settle()

    (health,) = (each for each in model.health.tools("DMN001") if (each.agent_id, each.tool_id) == REF)
    assert "open" == health.state
    assert health.until is not None
    assert health.until < datetime.now(UTC) + timedelta(days=2)
