"""Recording sessions: what is kept, what is read back at once, and what happens when Valkey is not there."""

# ruff: noqa: PT012, SIM117 -- a session, its process and its call are nested blocks: that is what is tested
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from agentmodel import (
    AgentModel,
    AgentModelError,
    Settings,
    Tool,
    ToolExecution,
    UserSession,
)
from agentmodel.exceptions import (
    ConfigurationError,
    HistoryUnavailable,
    JournalFull,
    TableNotFound,
    TableUnavailable,
    ValidationError,
)

NOWHERE = "valkey://127.0.0.1:1/0"


def dump(model: AgentModel) -> list[dict[str, Any]]:
    """Everything the table holds."""
    return sorted(model.table.scan(), key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


@pytest.fixture(params=["valkey", "no valkey", "valkey down", "durability dynamodb"])
def model(request: pytest.FixtureRequest, settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, in every condition in which recording works."""
    changes: dict[str, dict[str, Any]] = {
        "valkey": {},
        "no valkey": {"valkey_url": None},
        "valkey down": {"valkey_url": NOWHERE},
        "durability dynamodb": {"durability": "dynamodb"},
    }
    with AgentModel.from_settings(settings.model_copy(update=changes[request.param])) as made:
        made.table.create()
        yield made
        made.table.delete()


@pytest.fixture
def journalled(settings: Settings) -> Iterator[AgentModel]:
    """A model with a journal."""
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def test_a_session_is_read_as_it_was_recorded(model: AgentModel) -> None:
    """Session, step and call come back with everything that was said of them, before anything is drained."""
    started = datetime(2025, 6, 14, 14, 5, 30, 250_000, tzinfo=UTC)
    model.repository.put(Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find_location"))
    with model.session("USR001", "find a café", category="cafe search", started_at=started) as session:
        with session.process("locate", description="where it is") as process:
            with process.call("AGT001", "TL001", values={"place": "stadium"}) as call:
                call.result = {"lat": 37.5}
                call.input_tokens, call.output_tokens = 12, 34
        session.succeed("two cafés")
    (stored,) = model.repository.sessions("USR001")
    history = model.repository.session_history("USR001", session.session_id)
    (step,), (execution,) = history.processes, history.executions

    assert stored == session.entity
    assert ("find a café", "find a café", "cafe search", started) == (
        stored.name, stored.request, stored.category, stored.started_at,
    )  # fmt: skip
    assert (True, "two cafés") == (stored.succeeded, stored.summary)
    assert stored.ended_at is not None
    assert ("PRC001", "locate", "where it is", "find a café") == (
        step.process_id, step.name, step.description, step.prompt,
    )  # fmt: skip
    assert ("find_location", '{"place": "stadium"}', '{"lat": 37.5}') == (
        execution.tool_name, execution.values, execution.result,
    )  # fmt: skip
    assert (True, 1, 12, 34, None) == (
        execution.succeeded, execution.call_number, execution.input_tokens, execution.output_tokens, execution.error_type,
    )  # fmt: skip
    assert execution.duration_ms is not None
    assert execution.executed_at is not None
    assert session.session_id.startswith("SESS20250614140530250000-")


def test_everything_expires(model: AgentModel) -> None:
    """All that is recorded has an expiry as many days from now as the settings say, and a version."""
    before = datetime.now(UTC).replace(microsecond=0)
    with model.session("USR001", "x") as session, session.process("a") as process, process.call("AGT1", "TL1"):
        pass
    history = model.repository.session_history("USR001", session.session_id)
    days = timedelta(days=model.settings.ttl_days_low)

    for entity in (session.entity, *history.processes, *history.executions):
        assert entity.expires_at is not None
        assert before + days <= entity.expires_at <= datetime.now(UTC) + days
        assert entity.version


def test_an_exception_is_recorded_and_raised_again(model: AgentModel) -> None:
    """What a tool raises is the call's failure and the session's, and reaches the caller as it was."""
    error = LookupError("no such place")
    with pytest.raises(LookupError) as caught:
        with model.session("USR001", "x", session_id="SESS1") as session, session.process("a") as process:
            with process.call("AGT001", "TL001"):
                raise error
    stored = model.repository.session("USR001", "SESS1")
    (execution,) = model.repository.session_history("USR001", "SESS1").executions

    assert error is caught.value
    assert (False, "error", "LookupError", "no such place") == (
        execution.succeeded, execution.status, execution.error_type, execution.result,
    )  # fmt: skip
    assert stored is not None
    assert (False, "LookupError: no such place") == (stored.succeeded, stored.summary)
    assert stored.ended_at is not None


def test_an_outcome_that_was_said_stays(model: AgentModel) -> None:
    """An exception after the outcome was said does not change it."""
    with pytest.raises(ZeroDivisionError):
        with model.session("USR001", "x", session_id="SESS1") as session:
            session.succeed("done")
            raise ZeroDivisionError
    stored = model.repository.session("USR001", "SESS1")

    assert stored is not None
    assert (True, "done") == (stored.succeeded, stored.summary)


def test_an_interruption_is_no_failure(model: AgentModel) -> None:
    """Ctrl-C and a cancelled task end a session without saying that it failed."""
    for number, stop in enumerate((KeyboardInterrupt, asyncio.CancelledError)):
        with pytest.raises(stop):
            with model.session("USR001", "x", session_id=f"SESS{number}"):
                raise stop
        stored = model.repository.session("USR001", f"SESS{number}")
        assert stored is not None
        assert stored.succeeded is None


def test_a_failure_without_an_exception(model: AgentModel) -> None:
    """A call can be failed with message, kind and status; a session with a summary."""
    with model.session("USR001", "x", session_id="SESS1") as session:
        with session.process("a") as process:
            with process.call("AGT001", "TL001") as call:
                call.fail("over quota", error_type="Quota", status="rejected")
        session.fail("nothing found")
    stored = model.repository.session("USR001", "SESS1")
    (execution,) = model.repository.session_history("USR001", "SESS1").executions

    assert (False, "rejected", "Quota", "over quota") == (
        execution.succeeded, execution.status, execution.error_type, execution.result,
    )  # fmt: skip
    assert stored is not None
    assert (False, "nothing found") == (stored.succeeded, stored.summary)


def test_long_text_is_cut(model: AgentModel) -> None:
    """A text that a warehouse would refuse is cut to 65,535 bytes, and its end says how long it was."""
    with model.session("USR001", "한" * 40_000, session_id="SESS1") as session, session.process("a") as process:
        with process.call("AGT001", "TL001") as call:
            call.result = "x" * 100_000
    stored = model.repository.session("USR001", "SESS1")
    (execution,) = model.repository.session_history("USR001", "SESS1").executions

    assert stored is not None
    assert stored.request is not None
    assert execution.result is not None
    assert stored.request.endswith("… [cut, 120000 bytes]")
    assert execution.result.endswith("… [cut, 100000 bytes]")
    assert 65_535 >= len(execution.result.encode()) > 65_000
    assert 200 == len(stored.name)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"user_id": "USR#1"}, "user_id"),
        ({"user_id": "AGT001"}, "user_id"),
        ({"user_id": "USR001", "session_id": "SESS 1"}, "session_id"),
        ({"user_id": "USR001", "started_at": datetime(2025, 6, 14)}, "started_at"),  # noqa: DTZ001  # the case
        ({"user_id": "USR001", "name": " "}, "name"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    journalled: AgentModel, arguments: dict[str, Any], field: str
) -> None:
    """A wrong id, time or name raises with its field, and nothing is written."""
    with pytest.raises(ValidationError) as caught, journalled.session(**arguments):
        pass
    journalled.drain()

    assert caught.value.field in (field, "started")
    assert [] == dump(journalled)


def test_the_journal_and_the_table_hold_the_same(settings: Settings) -> None:
    """What is recorded through the journal is, drained, what is recorded straight into the table."""
    dumps: list[Any] = []
    for change in ({}, {"valkey_url": None}):
        given = settings.model_copy(update={**change, "table": f"{settings.table}-{len(dumps)}"})
        with AgentModel.from_settings(given) as model:
            model.table.create()
            ticks = iter(range(1000))
            model.recorder.now = lambda ticks=ticks: datetime(2099, 1, 1, 0, 0, next(ticks), tzinfo=UTC)  # type: ignore[misc]  # a lambda's default
            model.recorder._clock = iter(range(1, 1000)).__next__
            with model.session("USR001", "x", session_id="SESS1", category="c") as session:
                for name in ("a", "b"):
                    with session.process(name) as process:
                        for n in range(2):
                            with process.call("AGT001", "TL001", call_id=f"{name}{n}", values={"n": n}) as call:
                                call.result = n
            if model.journal is not None:
                model.drain()
            dumps.append([{k: v for k, v in item.items() if k != "CallID"} for item in dump(model)])
            model.table.delete()

    assert 7 == len(dumps[0])
    assert dumps[0] == dumps[1]


def test_a_record_says_what_it_reached(settings: Settings) -> None:
    """The receipt names the journal's level with Valkey, and the table without, or when it is demanded."""
    execution: dict[str, Any] = {
        "user_id": "USR001", "session_id": "SESS1", "process_id": "PRC001", "agent_id": "AGT001", "tool_id": "TL001",
        "tool_name": "x", "succeeded": True,
    }  # fmt: skip
    levels = []
    for change in ({}, {"durability": "dynamodb"}, {"valkey_url": None}, {"valkey_url": NOWHERE}):
        with AgentModel.from_settings(settings.model_copy(update=change)) as model:
            model.table.create()
            levels.append(model.recorder.record(ToolExecution(**execution)).level)

    assert ["valkey", "dynamodb", "dynamodb", "dynamodb"] == levels


def test_nothing_is_in_the_table_before_the_drain(journalled: AgentModel) -> None:
    """A record is read back at once although the table does not have it; after the drain both have it."""
    with journalled.session("USR001", "x", session_id="SESS1") as session, session.process("a"):
        pass
    before = journalled.repository.session_history("USR001", "SESS1").processes
    far = dump(journalled)
    drained = journalled.drain()

    assert ["a"] == [process.name for process in before]
    assert [] == far
    assert (3, 0) == (drained.written + drained.stale, drained.left)
    assert 2 == len(dump(journalled))
    assert before == journalled.repository.session_history("USR001", "SESS1").processes


def test_draining_twice_changes_nothing(journalled: AgentModel) -> None:
    """A drain that finds nothing new leaves the table as it is."""
    with journalled.session("USR001", "x") as session, session.process("a") as process, process.call("AGT1", "TL1"):
        pass
    journalled.drain()
    before = dump(journalled)

    assert 0 == journalled.drain().written
    assert before == dump(journalled)


def test_a_full_journal_writes_to_the_table(settings: Settings) -> None:
    """Beyond the journal's bound a record goes straight into the table, and nothing is lost."""
    with AgentModel.from_settings(settings.model_copy(update={"journal_limit": 3})) as model:
        model.table.create()
        with model.session("USR001", "x", session_id="SESS1") as session:
            for number in range(6):
                with session.process(f"step {number}"):
                    pass
        caches = model.repository.session_history("USR001", "SESS1").processes
        model.drain()
        far = model.repository.session_history("USR001", "SESS1").processes

    assert [f"step {number}" for number in range(6)] == [process.name for process in caches]
    assert caches == far


def test_a_full_journal_without_a_table_says_so(settings: Settings) -> None:
    """At its bound, with the table not taking it, the error names the bound; what was journalled before is kept."""
    given = settings.model_copy(update={"journal_limit": 2})
    with AgentModel.from_settings(given) as model:
        with pytest.raises(JournalFull, match="AGENTMODEL_JOURNAL_LIMIT"):
            for number in range(3):
                model.recorder.record(UserSession(user_id="USR001", session_id=f"SESS{number}", name=f"{number}"))
        model.table.create()
        model.drain()

        assert ["SESS0", "SESS1"] == [item["SK"]["S"] for item in dump(model)]
        model.table.delete()


def test_both_stores_down_keeps_nothing_and_says_so(settings: Settings) -> None:
    """Without Valkey and without the table, recording raises that nothing was kept."""
    down = {"valkey_url": NOWHERE, "endpoint": "http://127.0.0.1:1", "dynamodb_attempts": 1}
    with AgentModel.from_settings(settings.model_copy(update=down)) as model:
        with pytest.raises(HistoryUnavailable, match="nothing was kept") as caught:
            model.recorder.record(UserSession(user_id="USR001", session_id="SESS1", name="x"))

        assert "\n" not in str(caught.value)


def test_no_table_without_a_cache_is_named(settings: Settings) -> None:
    """Without Valkey a table that does not exist, or an endpoint that does not answer, is the error itself."""
    for change, error in (
        ({}, TableNotFound),
        ({"endpoint": "http://127.0.0.1:1", "dynamodb_attempts": 1}, TableUnavailable),
    ):
        given = settings.model_copy(update={"valkey_url": None, **change})
        with AgentModel.from_settings(given) as model, pytest.raises(error) as caught:
            model.recorder.record(UserSession(user_id="USR001", session_id="SESS1", name="x"))
        assert isinstance(caught.value, AgentModelError)
        assert "\n" not in str(caught.value)


def test_without_valkey_there_is_nothing_to_drain(settings: Settings) -> None:
    """A drain without a journal says which setting is missing."""
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
        with pytest.raises(ConfigurationError, match="AGENTMODEL_VALKEY_URL"):
            model.drain()


def test_a_newer_session_stays(journalled: AgentModel) -> None:
    """A session recorded straight into the table is not overwritten by its older version in the journal."""
    older = UserSession(user_id="USR001", session_id="SESS1", name="older")
    journalled.recorder.record(older)
    given = journalled.settings.model_copy(update={"durability": "dynamodb"})
    with AgentModel.from_settings(given) as other:
        other.recorder.record(UserSession(user_id="USR001", session_id="SESS1", name="newer"))
        drained = journalled.drain()
        stored = other.repository.session("USR001", "SESS1")

    assert (0, 1) == (drained.written, drained.stale)
    assert stored is not None
    assert "newer" == stored.name


@pytest.mark.parametrize(("text", "named"), [("x" * 410_000, "ResultMsg"), ("\ud800", "ResultMsg")])
def test_what_cannot_be_stored_is_refused_before_anything_is_sent(model: AgentModel, text: str, named: str) -> None:
    """One record of several that DynamoDB would not take is refused by the name of its attribute, and none is kept."""
    good, bad = (
        ToolExecution(
            user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id=tool,
            tool_name="find", succeeded=True, result=result,
        )
        for tool, result in (("TL001", "fine"), ("TL002", text))
    )  # fmt: skip

    with pytest.raises(ValidationError) as caught:
        model.recorder.record_many([good, bad])

    assert named == caught.value.field
    assert () == model.repository.session_history("USR001", "SESS1").executions


@pytest.mark.parametrize("own_id", [None, "SESSmine"])
def test_valkey_at_its_memory_limit(journalled: AgentModel, own_id: str | None) -> None:
    """New sessions and continued ones are written into the table, and all of it is kept there."""
    url = str(journalled.settings.valkey_url).replace("valkey", "redis", 1)
    with closing(redis.Redis.from_url(url)) as direct:
        direct.config_set("maxmemory", 1)
        try:
            for _ in range(2):
                with journalled.session("USR001", "find", session_id=own_id) as session:
                    with session.process("locate") as process:
                        with process.call("AGT001", "TL001", tool_name="search") as call:
                            call.result = "found"
                assert call.receipt is not None
                assert "dynamodb" == call.receipt.level
        finally:
            direct.config_set("maxmemory", 0)
    kinds = [item["EntityType"]["S"] for item in dump(journalled)]

    assert 2 == kinds.count(ToolExecution.kind)
    assert 2 == kinds.count("UserSessionProcess")
