"""Outcomes from outside: who is trusted, whose word counts when, and that none is lost, doubled or left after an erasure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agentmodel import AgentModel, Settings
from agentmodel.access.recorder import SessionRecorder
from agentmodel.aio import AsyncAgentModel
from agentmodel.dynamo.models import Agent, Domain, OutcomeSource, Review
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.integrations.otlp import import_otlp
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from tests.integration.away import Endpoint

USER = "USR001"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings, redact=True) as model:
        model.table.create()
        yield model


def ran(model: AgentModel, *agents: str, succeeded: bool | None = None, **of_session: Any) -> SessionRecorder:
    """A session of calls that worked."""
    with model.session(USER, "find a café", category="cafe search", **of_session) as session:
        with session.process("locate") as process:
            for agent in agents or ("AGT001",):
                with process.call(agent, "TL001", tool_name="find") as call:
                    call.result = "found"
        if succeeded is not None:
            session.entity.succeeded = succeeded
    return session


def counted(model: AgentModel) -> dict[str, bool]:
    """Whether each agent's run counts as a success after the next refresh."""
    model.drain()
    model.refresh()
    e = m.AgentExecution
    return {agent: bool(ok) for agent, ok in model.warehouse.read(select(e.agent_id, e.succeeded))}


class TestTrust:
    def test_the_order(self, model: AgentModel) -> None:
        """The word of the most trusted counts at the next refresh, in whatever order they come; each comes late."""
        session = ran(model)
        steps = [counted(model)]
        with model.session(USER, session_id=session.session_id) as again:
            again.fail()
        steps.append(counted(model))
        said: list[tuple[OutcomeSource, bool]]
        said = [("evaluator", True), ("event", False), ("person", True), ("evaluator", False)]
        for source, succeeded in said:
            model.outcome(session, succeeded=succeeded, source=source, by="x")
            steps.append(counted(model))
        review = model.reviews.ask(USER, session.session_id, "Was it right?", phase="post")
        model.reviews.verdict(review, "wrong", "USRrita")
        steps.append(counted(model))

        assert [True, False, True, False, True, True, False] == [step["AGT001"] for step in steps]
        (row,) = reports.session_requests(model.warehouse)
        assert row.outcome is False
        before = steps[-1]
        model.refresh(full=True)
        e = m.AgentExecution
        assert before == {agent: bool(ok) for agent, ok in model.warehouse.read(select(e.agent_id, e.succeeded))}

    def test_one_agent_of_a_session(self, model: AgentModel) -> None:
        """An outcome of one agent's run counts for it alone, before one of the whole session from the same source."""
        session = ran(model, "AGT001", "AGT002", succeeded=False)
        model.outcome(session, succeeded=True, source="event", agent_id="AGT001")

        assert {"AGT001": True, "AGT002": False} == counted(model)
        model.outcome(session, succeeded=False, source="event", at=datetime(2030, 1, 1, tzinfo=UTC))
        assert {"AGT001": True, "AGT002": False} == counted(model)
        model.outcome(session, score=1.0, source="person")
        assert {"AGT001": True, "AGT002": True} == counted(model)

    def test_the_later_of_two(self, model: AgentModel) -> None:
        """Of two evaluators the later one counts, whichever is written last; the same one replaces its own word."""
        session, now = ran(model), datetime(2026, 1, 1, tzinfo=UTC)
        model.outcome(session, score=0.2, source="evaluator", by="late", at=now + timedelta(hours=1))
        model.outcome(session, score=0.9, source="evaluator", by="early", at=now)

        assert {"AGT001": False} == counted(model)
        model.outcome(session, score=0.5, source="evaluator", by="late", at=now + timedelta(hours=2))
        assert {"AGT001": True} == counted(model)
        said = model.repository.session_history(USER, session.session_id).reviews
        assert {("late", 0.5), ("early", 0.9)} == {(one.decided_by, one.score) for one in said}

    def test_a_suggestion_learns_it(self, model: AgentModel) -> None:
        """The plan that a session followed knows the most trusted outcome, also when that comes after its end."""
        model.repository.put(
            Domain(domain_id="DMN001", name="d"), Agent(agent_id="AGT001", domain_id="DMN001", name="a")
        )
        plan = model.suggest(USER, domain_id="DMN001")
        session = ran(model, plan=plan)
        (before,) = model.suggestions.of_user(USER)
        model.outcome(session, succeeded=False, source="event")
        (after,) = model.suggestions.of_user(USER)

        assert (True, False) == (before.succeeded, after.succeeded)
        model.drain()
        assert [False] == [one.succeeded for one in model.suggestions.of_user(USER)]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "succeeded"),
        ({"succeeded": "yes"}, "succeeded"),
        ({"score": 1.01}, "score"),
        ({"score": float("nan")}, "score"),
        ({"score": True}, "score"),
        ({"succeeded": True, "source": "rumour"}, "source"),
        ({"succeeded": True, "at": datetime(2026, 1, 1)}, "at"),  # noqa: DTZ001  # that is what is wrong
        ({"succeeded": True, "agent_id": "AGT#1"}, "agent_id"),
        ({"succeeded": True, "user_id": None}, "user_id"),
        ({"succeeded": True, "session": "thread-7"}, "session"),
    ],
)
def test_bad_input(model: AgentModel, values: dict[str, Any], field: str) -> None:
    """A value that cannot be is named with its rule, by every way in; nothing is recorded."""
    given = {"user_id": USER} | values
    with pytest.raises(ValidationError) as found:
        model.outcome(given.pop("session", "SESS1"), **given)

    assert field == found.value.field
    assert 0 == model.drain().written


def test_nothing_is_kept_of_a_person(model: AgentModel) -> None:
    """What a redactor finds is not kept of a reason or a name; an erasure leaves nothing in any store."""
    session = ran(model)
    said = model.outcome(session, succeeded=False, by="mina@example.com", reason="call me: mina@example.com").entity
    assert "mina@" not in f"{said.decision_reason} {said.decided_by} {said.trail}"
    counted(model)
    model.outcome(session, succeeded=True, source="evaluator", by="judge")  # waits in the journal
    report = model.erase_user(USER)

    assert report is not None
    assert 0 == len(model.warehouse.read(select(m.SessionOutcome.user_id)))
    assert not model.repository.session_history(USER, session.session_id).reviews
    model.drain()
    assert [] == [item for item in model.table.scan() if item["EntityType"]["S"] == Review.kind]
    assert {} == counted(model)


def test_asyncio(settings: Settings) -> None:
    """The asynchronous model records one too."""

    async def record() -> Any:
        async with AsyncAgentModel.from_settings(settings) as model:
            model.sync.table.create()
            return await model.outcome("SESS1", user_id="mina", score=0.75, source="evaluator", by="judge")

    said = asyncio.run(record()).entity
    assert ("USRmina", "SESS1", True, 0.75) == (said.user_id, said.session_id, said.outcome, said.score)


class TestOutages:
    def test_the_table_is_away(self, away_model: AgentModel, endpoint: Endpoint) -> None:
        """An outcome of a session that nobody can look up waits in the journal; it is in the table once that answers."""
        with endpoint.away("refuses"):
            receipt = away_model.outcome("SESS1", user_id=USER, succeeded=True, source="event", by="sale")
            with pytest.raises(TableUnavailable):
                away_model.drain()
        away_model.drain()

        assert receipt.level.startswith("valkey")
        (item,) = (item for item in away_model.table.scan() if item["EntityType"]["S"] == Review.kind)
        assert receipt.entity.review_id == Review.from_item(item).review_id

    def test_valkey_is_away(self, settings: Settings) -> None:
        """Without Valkey it goes straight into the table, and counts."""
        away = settings.model_copy(update={"valkey_url": "valkey://127.0.0.1:1"})
        with AgentModel.from_settings(away) as model:
            model.table.create()
            session = ran(model)
            receipt = model.outcome(session, succeeded=False)
            model.refresh()

            assert "dynamodb" == receipt.level
            assert [0] == [ok for (ok,) in model.warehouse.read(select(m.AgentExecution.succeeded))]

    def test_an_older_word_never_replaces_a_newer_one(self, model: AgentModel) -> None:
        """A drainer that delivers late changes nothing."""
        session = ran(model)
        old = model.outcome(session, succeeded=False, by="x").entity
        new = model.outcome(session, succeeded=True, by="x").entity
        assert (old.version or 0) < (new.version or 0)
        model.drain()
        assert model.writer.put_newer(model.table.item(old), old.version or 0) is False
        assert {"AGT001": True} == counted(model)


class TestTrackers:
    def test_by_the_frameworks_name(self, model: AgentModel) -> None:
        """Every framework's recorder has a tracker; its outcome is that of the thread, under way or ended long ago."""
        with Tracker(model, domain="support") as tracker:
            run = tracker.run("thread-7", user="ada", request="find a café")
            run.call("c1", agent="finder", tool="search", status="ok")
            run.outcome(score=0.1, source="evaluator", by="judge", agent="finder")
            run.finish()
        with Tracker(model, domain="support") as tracker:
            tracker.outcome("thread-7", user="ada", succeeded=True, by="ada", reason="that is it")
            tracker.outcome("thread-8", user="ada", succeeded=True)
            tracker.outcome("thread-7", user="eve", succeeded=True)
            tracker.flush()

            assert 2 == tracker.errors  # a thread that the history does not have, and one of another user
            with pytest.raises(ValidationError, match="score"):
                tracker.outcome("thread-7", user="ada", score=5)
        (session,) = model.repository.sessions("USRada")
        said = model.repository.session_history("USRada", session.session_id).reviews
        assert {"judge": run.agent_id("finder"), "ada": None} == {one.decided_by: one.agent_id for one in said}
        assert [True] == list(counted(model).values())


CALL = {"domain": "support", "agent": "finder", "user": "ada", "session": "s-1", "step": 1, "tool": "search",
        "success": True, "started_at": "2026-01-01T09:00:00Z", "ended_at": "2026-01-01T09:00:01Z"}  # fmt: skip
SAID = {"domain": "support", "user": "ada", "session": "s-1",
        "outcome": {"success": False, "source": "event", "by": "refund", "at": "2026-01-02T09:00:00Z"}}  # fmt: skip


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


class TestFiles:
    def test_a_file_of_outcomes(self, model: AgentModel, tmp_path: Path) -> None:
        """Outcomes come with their calls or in a later file; importing them again changes nothing."""
        model.import_traces(lines(tmp_path / "calls.jsonl", CALL))
        model.drain()
        unknown, other = SAID | {"session": "s-2"}, SAID | {"outcome": {"score": 1, "by": "judge"}, "agent": "finder"}
        path = lines(tmp_path / "said.jsonl", SAID, unknown, other)
        first = model.import_traces(path)
        model.drain()
        second = model.import_traces(path)

        assert (2, ["s-2"], 0) == (first.outcomes, first.unknown, first.lines)
        assert (0, 0) == (second.outcomes, model.drain().written)
        assert [False] == list(counted(model).values())
        older = SAID | {"outcome": {"success": True, "source": "event", "by": "refund", "at": "2026-01-01T10:00:00Z"}}
        assert 0 == model.import_traces(lines(tmp_path / "older.jsonl", older)).outcomes

    def test_calls_and_outcomes_in_one_file(self, model: AgentModel, tmp_path: Path) -> None:
        """The order of the lines does not matter; a bad outcome is a bad line."""
        bad = [SAID | {"outcome": one} for one in ({}, {"score": 2}, {"success": True, "source": "rumour"}, 1)]
        done = model.import_traces(lines(tmp_path / "t.jsonl", SAID, CALL, *bad))

        assert (1, 1, []) == (done.outcomes, done.lines, done.unknown)
        assert [3, 4, 5, 6] == [one.line for one in done.bad]
        assert ["outcome", "outcome.score", "outcome.source", "outcome"] == [one.field for one in done.bad]
        assert [False] == list(counted(model).values())

    def test_evaluations_of_otlp(self, model: AgentModel, tmp_path: Path) -> None:
        """Events gen_ai.evaluation.result count, in spans and in logs; the span of an inner agent is about its run."""

        def attributes(**values: Any) -> list[dict[str, Any]]:
            kinds: dict[type, str] = {str: "stringValue", float: "doubleValue"}
            return [{"key": name.replace("__", "."), "value": {kinds[type(one)]: one}} for name, one in values.items()]

        def span(number: int, name: str, parent: int | None = None, *events: Any, **values: Any) -> dict[str, Any]:
            return {
                "traceId": "t1", "spanId": str(number), "parentSpanId": None if parent is None else str(parent),
                "name": name, "startTimeUnixNano": str(number * 10**9), "endTimeUnixNano": str((number + 1) * 10**9),
                "attributes": attributes(**values), "events": list(events),
            }  # fmt: skip

        def result(**values: Any) -> dict[str, Any]:
            said = attributes(**{f"gen_ai__evaluation__{name}": one for name, one in values.items()})
            return {"name": "gen_ai.evaluation.result", "timeUnixNano": "5000000000", "attributes": said}

        agent: dict[str, Any] = {"gen_ai__operation__name": "invoke_agent"}
        spans = [
            span(1, "chat", user__id="ada", gen_ai__conversation__id="c-1", **agent, gen_ai__agent__name="lead"),
            span(2, "find", 1, result(name="Found", score__value=0.2), **agent, gen_ai__agent__name="finder"),
            span(3, "pay", 1, result(name="Paid", score__value=5.0), **agent, gen_ai__agent__name="payer"),
            span(4, "execute_tool search", 2, gen_ai__operation__name="execute_tool", gen_ai__tool__name="search"),
            span(5, "execute_tool pay", 3, gen_ai__operation__name="execute_tool", gen_ai__tool__name="pay"),
        ]
        logged = result(name="Helpful", score__label="Pass") | {"traceId": "t1", "spanId": "1"}
        logged["eventName"] = logged.pop("name")
        document = {
            "resourceSpans": [{"scopeSpans": [{"spans": spans}]}],
            "resourceLogs": [{"scopeLogs": [{"logRecords": [logged]}]}],
        }
        path = lines(tmp_path / "spans.json", document)
        done = import_otlp(model, path, domain="support")

        assert (2, ["gen_ai.evaluation.score.value"]) == (done.outcomes, [one.field for one in done.bad])
        found = counted(model)
        assert 0 == import_otlp(model, path, domain="support").outcomes
        finder = [ok for agent, ok in found.items() if "finder" in agent]
        assert ([False], 2) == (finder, len(found))
        assert [True] == [ok for agent, ok in found.items() if "payer" in agent]

    def test_evaluations_of_a_running_program(self, model: AgentModel) -> None:
        """The span processor records them with the calls of their trace; one that cannot be read is counted."""
        trace = pytest.importorskip("opentelemetry.sdk.trace", reason="it records the program's spans")
        from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

        processor = AgentModelSpanProcessor(model, domain="support")
        provider = trace.TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("tests")
        name = {"gen_ai.evaluation.name": "Found"}
        with tracer.start_as_current_span("chat", attributes={"user.id": "ada", "session.id": "s-9"}) as root:
            with tracer.start_as_current_span(
                "execute_tool search", attributes={"gen_ai.operation.name": "execute_tool"}
            ):
                pass
            root.add_event("gen_ai.evaluation.result", name | {"gen_ai.evaluation.score.label": "fail"})
            root.add_event("gen_ai.evaluation.result", name | {"gen_ai.evaluation.score.value": 7.5})
        provider.shutdown()

        assert 1 == processor.errors
        assert [False] == list(counted(model).values())
