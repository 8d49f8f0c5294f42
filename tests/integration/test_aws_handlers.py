"""The entry points for AWS Lambda: what they do, and that they open the installation that everybody else opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest
from sqlalchemy import text

from agentmodel import AgentModel, Settings
from agentmodel.aws import handlers
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.redshift.warehouse import Refreshed
from agentmodel.suggest.publish import Published
from tests.integration.suggest_world import TODAY, catalogue, opened, run

SECRETS = ("secret_access_key", "mcp_state_key", "redact_key")


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
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every setting, each with a value of its own, reaches the model that Lambda opens as it does `from_settings`."""
    others: dict[str, Any] = {
        "region": "eu-west-1", "dynamodb_attempts": 3, "batch_deadline": 11.0, "mapping_partitions": 3,
        "valkey_prefix": "other", "shards": 7, "journal_limit": 99, "journal_wait": 0.5,
        "durability": "dynamodb", "landed_table": "Landed", "feed": "stream", "warehouse_memory": "123.0 MiB",
        "ranking": "evidence", "half_life_days": 12.0, "ttl_days_high": 50, "ttl_days_low": 20, "ttl_score": 2.0,
        "mcp_user": "USR009", "mcp_roles": "reader", "mcp_self_review": True, "mcp_state_key": "k" * 32,
        "mcp_answer_characters": 50_000, "mcp_calls_per_minute": 7, "guard_timeout": 1.5, "redact": "token",
        "redact_key": "s" * 32, "route_by_descriptions": True,
    }  # fmt: skip
    wanted = Settings.load(**(settings.model_dump() | others))
    same = [name for name, each in Settings.model_fields.items() if getattr(wanted, name) == each.default]
    put_into_environment(wanted, monkeypatch)
    monkeypatch.setattr(Watched, "seen", [], raising=False)
    with AgentModel.from_settings() as here:
        expected = reached(here)
    monkeypatch.setattr(handlers, "AgentModel", Watched)
    handlers.learn({}, None)

    assert [] == same, "give each setting a value that is not its default"
    assert [expected] == Watched.seen
    assert wanted == expected["settings"]
    assert "123.0 MiB" == expected["memory"]
