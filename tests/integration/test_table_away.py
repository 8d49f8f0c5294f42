"""The table is away while Valkey is up: nobody waits for a time-out twice, and nothing that is recorded is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel._runtime.deadline import seconds_left
from agentmodel.aio import AsyncAgentModel
from agentmodel.dynamo.models import Agent, ToolExecution, UserSession
from agentmodel.exceptions import CircuitOpen, Rejected, TableUnavailable
from agentmodel.suggest.guard import Ask, Blocked, Go
from agentmodel.suggest.health._tool_state import Observation
from agentmodel.suggest.plan import ToolRef
from tests.integration.away import FAULTS, Endpoint, Fault
from tests.integration.suggest_world import catalogue, counted, run


class _Waiting(logging.Handler):
    """Waits for a log line with a word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word
        self.seen = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._word in record.getMessage():
            self.seen.set()


class TestBreaker:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_first_call_meets_the_fault_and_the_others_are_not_made(
        self, away_model: AgentModel, endpoint: Endpoint, fault: Fault
    ) -> None:
        """After one call without an answer, a hundred reads and writes fail at once and reach nobody."""
        away_model.table.breaker._start = lambda _: None  # no probes
        with endpoint.away(fault):
            with pytest.raises(TableUnavailable, match=r"127\.0\.0\.1"):
                away_model.table.get(Agent.at("AGT001"))
            asked = endpoint.asked.total()
            for number in range(100):
                with pytest.raises(CircuitOpen, match="was not asked"):
                    away_model.table.get(Agent.at(f"AGT{number}"))
                with pytest.raises(CircuitOpen):
                    away_model.repository.put(Agent(agent_id="AGT001", domain_id="DMN001", name="finder"))

        assert asked == endpoint.asked.total()
        assert asked <= {"refuses": 0, "hangs": 1}.get(fault, away_model.settings.dynamodb_attempts)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_closes_by_itself(
        self, away_model: AgentModel, endpoint: Endpoint, fault: Fault, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When DynamoDB answers again, calls go through without anybody having tried; the log has one line for each."""
        breaker = away_model.table.breaker
        record = logging.getLogger("agentmodel.dynamo")
        handler = _Waiting("dynamodb.back")
        record.addHandler(handler)
        try:
            with endpoint.away(fault), pytest.raises(TableUnavailable):
                away_model.table.get(Agent.at("AGT001"))
            assert handler.seen.wait(30)
        finally:
            record.removeHandler(handler)

        assert ("closed", "", 1) == (breaker.state, breaker.reason, breaker.outages)
        assert away_model.table.get(Agent.at("AGT001")) is None
        assert [1, 1] == [sum(word in line for line in caplog.messages) for word in ("dynamodb.down", "dynamodb.back")]

    def test_answers_do_not_open_it(self, away_model: AgentModel) -> None:
        """A rejected request and a missing table are answers: the breaker stays closed."""
        with pytest.raises(Rejected):
            away_model.table.call("GetItem", TableName=away_model.table.name, Key={"PK": {"S": "a"}})
        with pytest.raises(TableUnavailable):
            away_model.table.call("GetItem", TableName="NoSuchTable", Key={"PK": {"S": "a"}, "SK": {"S": "a"}})

        assert "closed" == away_model.table.breaker.state

    def test_pynamodbs_own_methods_go_through_it(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """A read by PynamoDB's own method fails at once too while the breaker is open."""
        away_model.table.breaker._start = lambda _: None
        with away_model.table.bound(), endpoint.away("hangs"):
            with pytest.raises(Exception, match="127"):
                Agent.get("AGT001", "METADATA")
            with pytest.raises(CircuitOpen):
                Agent.get("AGT001", "METADATA")

        assert 1 == endpoint.asked.total()

    def test_threads_at_once(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """Of eight threads that call again and again, each waits for at most one time-out."""
        away_model.table.breaker._start = lambda _: None
        begin = threading.Barrier(8)

        def calls() -> None:
            begin.wait()
            for _ in range(20):
                with pytest.raises(TableUnavailable):
                    away_model.table.get(Agent.at("AGT001"))

        threads = [threading.Thread(target=calls) for _ in range(8)]
        with endpoint.away("hangs"):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert endpoint.asked.total() <= 8


USER, SESSION = "USR001", "SESSmine"


def step(
    model: AgentModel, what: str, *tools: str, session_id: str | None = SESSION, **more: Any
) -> list[ToolExecution]:
    """Record a session with one process and its calls; the executions as the receipts have them."""
    made = []
    with (
        model.session(USER, "find a café", session_id=session_id, **more) as session,
        session.process(what) as process,
    ):
        for tool in tools:
            with process.call("AGT001", tool, values={"step": what}) as call:
                call.result = what
            assert call.receipt is not None
            made.append(call.receipt.entity)
        session.succeed("done")
    return made


def shown(model: AgentModel) -> list[tuple[str, str, int, str]]:
    """The calls of the session in order: process, tool, attempt, result."""
    history = model.repository.session_history(USER, SESSION)
    names = {process.process_id: process.name for process in history.processes}
    return [(names[e.process_id], e.tool_id, e.attempt, str(e.result)) for e in history.executions]


@pytest.fixture
def far(away_settings: Settings, settings: Settings) -> Iterator[AgentModel]:
    """A model that reads the table itself, without Valkey."""
    plain = settings.model_copy(update={"valkey_url": None})
    with AgentModel.from_settings(plain) as model:
        yield model


class TestSessionsOfTheApplication:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_new_session_under_an_own_id(
        self, away_model: AgentModel, far: AgentModel, endpoint: Endpoint, fault: Fault
    ) -> None:
        """A session under the application's own id begins and goes on while the table is away; all of it arrives."""
        with endpoint.away(fault):
            first = step(away_model, "look", "TL001", "TL001", "TL002")
            second = step(away_model, "look again", "TL001")
        drained = away_model.drain()
        expected = [("look", "TL001", 1), ("look", "TL001", 2), ("look", "TL002", 1), ("look again", "TL001", 1)]

        assert [1, 2, 1, 1] == [execution.attempt for execution in (*first, *second)]
        assert (0, 0) == (drained.dead, drained.left)
        assert [(*each, each[0]) for each in expected] == shown(far) == shown(away_model)

    @pytest.mark.parametrize("fault", ["hangs", "refuses"])
    @pytest.mark.parametrize("valkey", ["knows it", "lost it"])
    def test_a_stored_session_goes_on(
        self, away_model: AgentModel, far: AgentModel, endpoint: Endpoint, fault: Fault, valkey: str
    ) -> None:
        """A session that the table has keeps its name, start, category and calls; what comes later is added, in order."""
        step(away_model, "before", "TL001", "TL001", category="cafe search", name="mine")
        away_model.drain()
        began = far.repository.session(USER, SESSION)
        if valkey == "lost it":
            _empty(away_model)
        with endpoint.away(fault):
            step(away_model, "meanwhile", "TL001", name="another name")
            step(away_model, "meanwhile too", "TL001")
        away_model.drain()
        step(away_model, "after", "TL001")
        away_model.drain()
        ended = far.repository.session(USER, SESSION)
        expected = [("before", 1), ("before", 2), ("meanwhile", 1), ("meanwhile too", 1), ("after", 1)]

        assert began is not None
        assert ended is not None
        assert (began.name, began.started_at, "cafe search") == (ended.name, ended.started_at, ended.category)
        assert "mine" == ended.name
        assert [(name, "TL001", attempt, name) for name, attempt in expected] == shown(far)
        assert shown(far) == shown(away_model)
        assert {} == ended.extra

    def test_a_verdict_stays(self, away_model: AgentModel, far: AgentModel, endpoint: Endpoint) -> None:
        """What a person corrected of a session is not overwritten by its continuation while the table is away."""
        step(away_model, "before", "TL001")
        away_model.drain()
        far.repository.update(UserSession.at(USER, SESSION), UserSession.corrected.to(False))
        _empty(away_model)
        with endpoint.away("refuses"):
            step(away_model, "meanwhile", "TL001")
        away_model.drain()
        found = far.repository.session(USER, SESSION)

        assert found is not None
        assert (False, True) == (found.corrected, found.succeeded)

    def test_one_session_of_two_processes(
        self, away_settings: Settings, away_model: AgentModel, far: AgentModel, endpoint: Endpoint
    ) -> None:
        """Two processes that go on with one stored session while the table is away take no number twice."""
        step(away_model, "before", "TL001")
        away_model.drain()
        _empty(away_model)
        with AgentModel.from_settings(away_settings) as other, endpoint.away("refuses"):
            for number in range(3):
                step(away_model, f"one {number}", "TL001")
                step(other, f"two {number}", "TL001")
        away_model.drain()
        names = ["before", *(f"{who} {number}" for number in range(3) for who in ("one", "two"))]

        assert sorted((name, "TL001", 1, name) for name in names) == sorted(shown(far))

    def test_a_call_recorded_by_its_process_id(
        self, away_model: AgentModel, far: AgentModel, endpoint: Endpoint
    ) -> None:
        """A call that is recorded for a stored process, of which Valkey knows nothing, replaces no stored call."""
        (stored,) = step(away_model, "before", "TL001")
        away_model.drain()
        _empty(away_model)
        call = ToolExecution(
            user_id=USER, session_id=SESSION, process_id=stored.process_id, agent_id="AGT001", tool_id="TL001",
            tool_name="search", succeeded=True, result="meanwhile", call_number=2,
        )  # fmt: skip
        with endpoint.away("refuses"):
            first = away_model.recorder.record(call)
            again = away_model.recorder.record(call)
        away_model.drain()

        assert again.repeated
        assert first.entity.attempt == again.entity.attempt
        assert ["before", "meanwhile"] == [result for *_, result in shown(far)]

    def test_of_an_asyncio_model(self, away_settings: Settings, far: AgentModel, endpoint: Endpoint) -> None:
        """A session under an own id is recorded by an asyncio model too while the table is away."""

        async def record() -> None:
            async with AsyncAgentModel.from_settings(away_settings) as model:
                for _ in range(2):
                    async with (
                        model.session(USER, "find a café", session_id=SESSION) as session,
                        session.process("look") as process,
                    ):
                        for _ in range(2):
                            async with process.call("AGT001", "TL001") as call:
                                call.result = "look"

        with endpoint.away("hangs"):
            asyncio.run(record())
        with AgentModel.from_settings(away_settings) as model:
            model.drain()

        assert [("look", "TL001", attempt, "look") for attempt in (1, 2, 1, 2)] == shown(far)

    def test_nothing_to_drain_into_is_waited_for(
        self, away_model: AgentModel, far: AgentModel, endpoint: Endpoint
    ) -> None:
        """A drain while the table is away fails and keeps everything; the first one after it is back writes it all."""
        with endpoint.away("hangs"):
            step(away_model, "look", "TL001")
            with pytest.raises(TableUnavailable):
                away_model.drain()
            with pytest.raises(TableUnavailable):
                away_model.drain()
        drained = away_model.drain()

        assert (4, 0, 0) == (drained.done, drained.dead, drained.left)
        assert [("look", "TL001", 1, "look")] == shown(far)


class TestAdvice:
    @pytest.fixture
    def learnt(self, settings: Settings, away_settings: Settings) -> Iterator[AgentModel]:
        """A model whose history was learnt and published, and whose user was advised once."""
        with AgentModel.from_settings(settings) as model:
            catalogue(model)
            for _ in range(3):
                run(model, USER)
            model.drain()
            model.refresh()
            model.publish()
        with AgentModel.from_settings(away_settings) as model:
            model.suggest(USER, category="cafe search")
            yield model

    @pytest.mark.parametrize("fault", FAULTS)
    def test_plans_are_made_of_what_is_cached(self, learnt: AgentModel, endpoint: Endpoint, fault: Fault) -> None:
        """A plan that was made before is made again while the table is away; only the first requests reach it."""
        learnt.repository.user_mappings(USER)  # a copy of the user's own mappings
        before = learnt.suggest(USER, category="cafe search")
        with endpoint.away(fault):
            plans = [learnt.suggest(USER, category="cafe search") for _ in range(20)]
            asked = endpoint.asked.total()

        assert {"own mapping"} == {plan.source for plan in plans}
        assert {before.steps} == {plan.steps for plan in plans}
        assert asked <= 2 * learnt.settings.dynamodb_attempts  # the first call, and a probe or two

    def test_a_plan_says_that_the_table_is_away(self, learnt: AgentModel, endpoint: Endpoint) -> None:
        """A plan of which a part could not be looked up has a reason that says so, and is not stored."""
        learnt.repository.user_mappings(USER)
        learnt.repository.invalidate([Agent(agent_id="AGT001", domain_id="DMN001", name="agent 1")], rankings=False)
        with endpoint.away("refuses"):
            plan = learnt.suggest(USER, category="cafe search")

        assert "The table does not answer at present, so this plan is made of what is cached." in map(str, plan.reasons)
        assert plan.suggestion_id is None

    def test_nothing_cached_is_an_error(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """Where nothing is cached, a request raises the table's error, not a plan that says nothing is known."""
        with endpoint.away("refuses"):
            for _ in range(2):
                with pytest.raises(TableUnavailable):
                    away_model.suggest(USER, category="cafe search")

    @pytest.mark.parametrize("fault", FAULTS)
    def test_the_guard_decides_by_its_rule(self, away_model: AgentModel, endpoint: Endpoint, fault: Fault) -> None:
        """While the table is away, a call that needs no question is made, and one that may need one is blocked."""
        go, may_ask = away_model.guard(review="never"), away_model.guard(review="marked")
        call: Any = {"agent_id": "AGT001", "tool_id": "TL001", "user_id": USER, "session_id": SESSION, "call_id": "c1"}
        with endpoint.away(fault):
            decisions = [guard.before(**call) for _ in range(10) for guard in (go, may_ask)]
            asked = endpoint.asked.total()

        assert [Go, Blocked] * 10 == [type(decision) for decision in decisions]
        assert asked <= 2 * away_model.settings.dynamodb_attempts

    def test_the_guard_uses_the_last_known_health(self, learnt: AgentModel, endpoint: Endpoint) -> None:
        """A tool that was failing before the outage is blocked in it too."""
        at = datetime.now(UTC)
        ref = ToolRef("AGT001", "TL002")
        learnt.health.learn(
            [(ref, Observation(at + timedelta(milliseconds=number), number >= 20, None)) for number in range(40)]
        )
        with endpoint.away("hangs"):
            decision = learnt.guard(review="never").before(
                agent_id="AGT001", tool_id="TL002", user_id=USER, session_id=SESSION
            )

        assert isinstance(decision, Blocked)
        assert decision.since is not None

    def test_a_decision_does_not_wait_longer_than_it_may(self, away_settings: Settings, endpoint: Endpoint) -> None:
        """A decision gives up at `guard_timeout`, though the table's own time-out is far away."""
        slow = away_settings.model_copy(update={"dynamodb_timeout": 600.0, "guard_timeout": 0.2})
        with AgentModel.from_settings(slow) as model:
            model.table.get(Agent.at("AGT001"))
            with endpoint.away("hangs"):
                decision = model.guard(review="always", block=False).before(
                    agent_id="AGT001", tool_id="TL001", user_id=USER, session_id=SESSION, call_id="c1"
                )

        assert isinstance(decision, Blocked)

    def test_a_rule_of_the_application_takes_its_time(self, away_settings: Settings) -> None:
        """The time that the application's own rule takes does not count: its question is stored after it."""
        quick = away_settings.model_copy(update={"dynamodb_timeout": 5.0})
        left: list[float | None] = []

        def rule(_agent: str, _tool: str, _arguments: Any) -> str:
            left.append(seconds_left())
            return "it costs money"

        with AgentModel.from_settings(quick) as model:
            decision = model.guard(review=rule).before(
                agent_id="AGT001", tool_id="TL001", user_id=USER, session_id=SESSION, call_id="c1"
            )

        assert isinstance(decision, Ask)
        assert [None] == left


class TestSuggestions:
    def test_the_outcome_is_written_by_the_drain(
        self, away_settings: Settings, far: AgentModel, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
    ) -> None:
        """How a session went that ended while the table was away is in its suggestion after the drain of any process."""
        catalogue(far)
        with AgentModel.from_settings(away_settings) as model:
            plan = model.suggest(USER, domain_id="DMN001")
            with endpoint.away("refuses"):
                step(model, "look", "TL001", session_id=None, plan=plan)
                model.settle()
        before = far.suggestions.of_user(USER)
        with AgentModel.from_settings(away_settings) as model:
            model.drain()
        (after,) = far.suggestions.of_user(USER)

        assert [None] == [one.session_id for one in before]
        assert ("AGT001", True) == (after.taken, after.succeeded)
        assert after.followed is not None
        assert 1 == sum("the drain of the session writes it" in line for line in caplog.messages)

    def test_a_drain_writes_no_outcome_twice(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """An outcome that is in the suggestion is not written again; a damaged suggestion does not stop the drain."""
        catalogue(away_model)
        for damaged in (False, True):
            plan = away_model.suggest(USER, domain_id="DMN001")
            step(away_model, "look", "TL001", session_id=None, plan=plan)
            away_model.settle()
            (stored,) = (one for one in away_model.suggestions.of_user(USER) if one.suggestion_id == plan.suggestion_id)
            if damaged:
                item = stored.to_item() | {"StepList": {"S": "no JSON"}, "UserSessionID": {"S": "SESSother"}}
                away_model.table.call("PutItem", TableName=away_model.table.name, Item=item)
            with counted(away_model.table) as calls:
                drained = away_model.drain()

            assert (0, 0) == (drained.dead, drained.left)
            assert 0 == calls["UpdateItem"]


class TestHealth:
    def test_calls_in_an_outage_are_learnt_from_after_it(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """Calls of a tool that nobody knew, made while the table is away, count once it answers."""
        catalogue(away_model)
        refs = [ToolRef("AGT001", "TL001"), ToolRef("AGT001", "TL002")]
        with endpoint.away("refuses"):
            step(away_model, "meanwhile", "TL001", "TL001")
            away_model.settle()
        away_model.table.breaker.probe_now()
        step(away_model, "after", "TL002")
        health = away_model.health.health(refs, {})

        assert {refs[0]: 2, refs[1]: 1} == {ref: round(known.calls) for ref, known in health.items()}


class TestStats:
    def test_the_breaker_of_the_table_is_shown(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """`stats` says whether DynamoDB answers, why not, and how often it did not."""
        before = away_model.stats()
        with endpoint.away("refuses"):
            with pytest.raises(TableUnavailable):
                away_model.table.get(Agent.at("AGT001"))
            meanwhile = away_model.stats()

        assert before is not None
        assert meanwhile is not None
        assert ("closed", "", 0) == (before.table_breaker, before.table_reason, before.table_outages)
        assert ("open", 1) == (meanwhile.table_breaker, meanwhile.table_outages)
        assert endpoint.url in meanwhile.table_reason


def _empty(model: AgentModel) -> None:
    assert model._valkey is not None
    model._valkey.execute(("FLUSHALL",))
