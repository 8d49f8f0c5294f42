"""The entry points for AWS Lambda: what they do, and that they open the installation that everybody else opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentmodel import AgentModel, Settings
from agentmodel._monitoring.metrics import METRICS
from agentmodel.aws import handlers
from agentmodel.cache import Drainer
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.redshift.warehouse import Refreshed
from agentmodel.suggest.publish import Published
from tests.integration.suggest_world import TODAY, catalogue, opened, run

SECRETS = ("secret_access_key", "mcp_state_key", "redact_key", "review_webhook_url", "review_webhook_secret")


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def put_into_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variable of every setting that is not None."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            plain = value.get_secret_value() if name in SECRETS else value
            monkeypatch.setenv(f"AGENTMODEL_{name.upper()}", str(plain))


def test_learn_refreshes_and_publishes(model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point lands, refreshes, publishes and returns counts that JSON takes; a second call changes nothing."""
    run(model)
    model.drain()
    put_into_environment(settings, monkeypatch)

    first = handlers.learn({"as_of": TODAY.isoformat(), "source": "aws.events"}, None)
    second = handlers.learn({"as_of": TODAY.isoformat()}, None)

    assert (2, 3, 1, 1) == (first["agents"], first["tools"], first["mappings"], first["rankings"])
    assert (0, 0, 0, 0) == (second["agents"], second["tools"], second["mappings"], second["rankings"])
    assert TODAY.isoformat() == json.loads(json.dumps(second))["as_of"]


SCHEDULED = {
    "version": "0", "id": "9d5c8d3f-41a1-4d0e-a7a0-2d8b8b0f5a11", "detail-type": "Scheduled Event",
    "source": "aws.scheduler", "account": "111122223333", "time": "2025-06-14T09:00:00Z", "region": "eu-west-1",
    "resources": ["arn:aws:scheduler:eu-west-1:111122223333:schedule/default/agentmodel-drain"], "detail": "{}",
}  # fmt: skip
"""What a schedule of EventBridge sends that has no input of its own."""


class Context:
    """What Lambda tells about a call: each look at the clock takes the next of these seconds, and then the last."""

    aws_request_id = "8f5cd1a0-c1f3-4d6c-9a0e-0b4f3f3c2a11"

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def get_remaining_time_in_millis(self) -> int:
        """Return how much time is left."""
        left = self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        return int(left * 1000)


def figures(output: str) -> dict[str, Any]:
    """The figures of the one line that a call wrote; the line has the form that CloudWatch asks for."""
    (line,) = [json.loads(line) for line in output.splitlines()]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    names = [metric["Name"] for metric in directive["Metrics"]]

    assert ("agentmodel", [["Table"]]) == (directive["Namespace"], directive["Dimensions"])
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert {"Name": names[0], "Unit": METRICS[names[0]].unit} == directive["Metrics"][0]
    assert line.keys() == {"_aws", "Table", *names} | (line.keys() & {"request_id", "trace_id"})
    return {name: line[name] for name in [*names, *(line.keys() & {"request_id", "trace_id", "Table"})]}


def test_learn_leaves_the_publish_to_the_next_call(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With too little time after the refresh nothing is published; the next call publishes."""
    run(model)
    model.drain()
    put_into_environment(settings, monkeypatch)

    late = handlers.learn(SCHEDULED, Context(30))
    told = figures(capsys.readouterr().out)
    next_call = handlers.learn(SCHEDULED, Context(900))

    assert (False, 0) == (late["published"], late["agents"])
    assert {"RefreshSeconds", "Table", "request_id"} == told.keys()
    assert (True, 2) == (next_call["published"], next_call["agents"])
    assert {"RefreshSeconds", "PublishSeconds"} <= figures(capsys.readouterr().out).keys()

    handlers.learn(SCHEDULED, Context(900))

    assert 0 <= figures(capsys.readouterr().out)["CallToScoreSeconds"] < 3600


def test_a_publish_that_is_out_of_time_is_finished_by_the_next_calls(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped at each of its looks at the clock, a publish leaves what the next calls make whole, and no entry."""
    sessions = [run(model), run(model, "USR002")]
    model.drain()
    put_into_environment(settings, monkeypatch)
    stopped = 0
    while not handlers.learn(SCHEDULED, Context(*[900] * (stopped + 1), 5))["published"]:
        assert "PublishSeconds" not in figures(capsys.readouterr().out)
        stopped += 1
    again = handlers.learn(SCHEDULED, Context(900))
    entry = model.table.call(
        "GetItem", TableName=model.table.name, Key={"PK": {"S": "PUBLISH"}, "SK": {"S": "METADATA"}}
    )
    found = [model.repository.session(user, each) for user, each in zip(("USR001", "USR002"), sessions, strict=True)]

    assert stopped > 5
    assert (0, 0, 0, 0) == (again["agents"], again["tools"], again["mappings"], again["extended"])
    assert "Writing" not in entry["Item"]
    assert [60, 60] == [None if each is None else each.ttl_days for each in found]
    assert 2 == len(model.repository.mappings().items)


def test_drain_stops_before_its_time_is_over_and_goes_on(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call ends after the pass in which its time runs out, and the next ones do the rest; then nothing is left."""
    monkeypatch.setitem(Drainer.__init__.__kwdefaults__ or {}, "batch", 8)
    for _ in range(3):
        run(model)  # of one user, so in one shard
    model.settle()
    put_into_environment(settings, monkeypatch)

    first = handlers.drain(SCHEDULED, Context(10))
    told = figures(capsys.readouterr().out)
    rest = handlers.drain(SCHEDULED, Context(170))
    again = handlers.drain(SCHEDULED, None)

    assert 8 == first["written"] + first["stale"] == told["Drained"]
    assert 0 < told["CallToTableSeconds"] < 3600
    assert 0 < first["left"] == rest["written"] + rest["stale"]
    assert {"written": 0, "stale": 0, "dead": 0, "left": 0} == again


def test_watch_writes_the_state_of_the_journal(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of `agentmodel stats`; a Valkey that does not answer is a figure, and no error."""
    run(model)
    model.settle()
    put_into_environment(settings, monkeypatch)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793")
    depth = model.journal.stats().depth if model.journal is not None else None

    found = handlers.watch(SCHEDULED, Context(30))
    told = figures(capsys.readouterr().out)
    monkeypatch.setenv("AGENTMODEL_VALKEY_URL", "valkey://127.0.0.1:1/0")
    away = handlers.watch(SCHEDULED, Context(30))

    assert found == {name: told[name] for name in found}
    assert (depth, 0, 0) == (found["JournalDepth"], found["DeadLetters"], found["ValkeyDown"])
    assert (settings.table, Context.aws_request_id) == (told["Table"], told["request_id"])
    assert "Root=1-5759e988-bd862e3fe1be46a994272793" == told["trace_id"]
    assert {"ValkeyDown": 1} == away


def test_an_installation_without_valkey_has_nothing_to_drain_and_to_watch(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a journal both say which setting is missing."""
    put_into_environment(settings.model_copy(update={"valkey_url": None}), monkeypatch)

    for handler in (handlers.drain, handlers.watch):
        with pytest.raises(ConfigurationError, match="AGENTMODEL_VALKEY_URL"):
            handler(SCHEDULED, None)


def test_sweep_expires_and_tells_how_long_questions_are_open(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The overdue questions of every queue expire; the open ones are counted with their age; a second call is idle."""
    session_id = run(model)
    model.reviews.ask("USR001", session_id, "May it?", answer_within=timedelta(microseconds=1))
    model.reviews.ask("USR001", session_id, "May it pay?", queue="payments", answer_within=timedelta(microseconds=1))
    model.reviews.ask("USR001", session_id, "May it call?", queue="payments")
    put_into_environment(settings, monkeypatch)
    event = {"queues": ["review", "payments"]}

    first = handlers.sweep(event, Context(170))
    told = figures(capsys.readouterr().out)
    second = handlers.sweep(event, Context(170))

    assert {"expired": 2, "escalated": 0, "applied": 0, "queues": ["review", "payments"]} == first
    assert (1, 2) == (told["ReviewsOpen"], told["ReviewsExpired"])
    assert (0, 0) == (told["ReviewsOverHour"], told["ReviewsOverDay"])
    assert 0 < told["ReviewsOldestSeconds"] < 3600
    assert 0 == second["expired"]


def test_sweep_leaves_queues_to_the_next_call(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that no time is left for is not swept, and the answer does not name it."""
    put_into_environment(settings, monkeypatch)

    assert ["review"] == handlers.sweep({"queues": ["review", "payments"]}, Context(170, 10))["queues"]


@pytest.mark.parametrize("queues", ["review", [], [""], [1], {"review": 1}])
def test_queues_that_are_no_names_are_refused(queues: object) -> None:
    """What is no list of names is refused before anything is opened."""
    with pytest.raises(ValidationError, match=r"queues .* must be a list of names, such as"):
        handlers.sweep({"queues": queues}, None)


def test_a_wrong_day_is_refused() -> None:
    """An ``as_of`` that is no date is refused before anything is opened."""
    with pytest.raises(ValidationError, match=r"as_of \('yesterday'\) must be an ISO 8601 date"):
        handlers.learn({"as_of": "yesterday"}, None)


def test_an_installation_without_a_warehouse_is_refused(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without AGENTMODEL_WAREHOUSE_URL there is nothing to learn with, and the error names the setting."""
    put_into_environment(settings.model_copy(update={"warehouse_url": None}), monkeypatch)

    with pytest.raises(ConfigurationError, match="AGENTMODEL_WAREHOUSE_URL"):
        handlers.learn({}, None)


class Watched(AgentModel):
    """A model that remembers, when it publishes, what it was opened with; it refreshes nothing."""

    seen: list[dict[str, Any]]

    def refresh(self, **_: Any) -> Refreshed:
        return Refreshed(TODAY.date(), full=False)

    def publish(self, *, as_of: date | datetime | None = None, progress: Any = None, wait: float = 60) -> Published:
        self.seen.append(reached(self))
        return Published()


def reached(model: AgentModel) -> dict[str, Any]:
    """What the settings are for, read where it takes effect."""
    with model.warehouse.begin() as connection:
        memory = connection.execute(text("SELECT current_setting('memory_limit')")).scalar_one()
    valkey = model.repository._caches.read._valkey if model.repository._caches is not None else None
    return {
        "settings": model.settings,
        "table": (model.table.name, model.table.settings),
        "valkey": None if valkey is None else valkey.settings,
        "half life": model.warehouse.half_life_days,
        "memory": memory,
    }


def test_lambda_and_from_settings_open_the_same(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every setting, each with a value of its own, reaches the model that Lambda opens as it does `from_settings`."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"m": {"input_cost_per_token": 1.0, "output_cost_per_token": 1.0}}', encoding="utf-8")
    others: dict[str, Any] = {
        "region": "eu-west-1", "dynamodb_attempts": 3, "batch_deadline": 11.0, "mapping_partitions": 3,
        "valkey_prefix": "other", "shards": 7, "journal_limit": 99, "journal_wait": 0.5,
        "durability": "dynamodb", "landed_table": "Landed", "feed": "stream", "warehouse_memory": "123.0 MiB",
        "language": "ko", "ranking": "evidence", "half_life_days": 12.0, "ttl_days_high": 50, "ttl_days_low": 20, "ttl_score": 2.0,
        "mcp_user": "USR009", "mcp_roles": "reader", "mcp_self_review": True, "mcp_state_key": "k" * 32,
        "mcp_answer_characters": 50_000, "mcp_calls_per_minute": 7, "guard_timeout": 1.5, "redact": "token",
        "redact_key": "s" * 32, "route_by_descriptions": True, "holdout": 0.1, "revision_prior": 5.0, "review_below": 0.4, "review_share": 0.2,
        "review_runs": "suspect", "review_webhook_url": "https://example.com/reviews",
        "review_webhook_secret": "whsec_" + "c2Vj" * 8, "warehouse_schema": "learned", "prices": str(prices),
    }  # fmt: skip
    wanted = Settings.load(**(settings.model_dump() | others))
    same = [name for name, each in Settings.model_fields.items() if getattr(wanted, name) == each.default]
    put_into_environment(wanted, monkeypatch)
    monkeypatch.setattr(Watched, "seen", [], raising=False)
    with AgentModel.from_settings() as here:
        expected = reached(here)
    monkeypatch.setattr(handlers, "AgentModel", Watched)
    monkeypatch.setattr("agentmodel.suggest.publish.scores_seen", lambda _table: None)  # it has no table to read
    handlers.learn({}, None)

    assert [] == same, "give each setting a value that is not its default"
    assert [expected] == Watched.seen
    assert wanted == expected["settings"]
    assert "123.0 MiB" == expected["memory"]
