"""What a model finds out of its Valkey before the first record: refused at start, told later, never a lost record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from agentmodel import AgentModel, Settings, UserSession
from agentmodel.exceptions import ConfigurationError


@pytest.fixture
def server(valkey_url: str) -> Iterator[Any]:
    """The server itself, with its policy as it was before at the end."""
    with closing(redis.Redis.from_url(valkey_url.replace("valkey:", "redis:", 1))) as client:
        yield client
        client.config_set("maxmemory-policy", "noeviction")


def level(model: AgentModel, number: int = 1) -> str:
    """What a record of a session reaches."""
    return model.recorder.record(UserSession(user_id="USR001", session_id=f"SESS{number}", name="x")).level


def test_a_server_that_evicts_the_journal_is_refused(settings: Settings, server: Any) -> None:
    """The first record says which policy throws writes away, each time, until it is mended."""
    server.config_set("maxmemory-policy", "allkeys-lru")
    with AgentModel(settings) as model:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="allkeys-lru, which may evict undrained writes"):
                level(model)
        server.config_set("maxmemory-policy", "volatile-lru")

        with AgentModel(settings) as mended:
            assert "valkey" == level(mended)


def test_a_server_that_gives_too_little_is_refused(settings: Settings) -> None:
    """A level that is demanded and not given is refused at the first record, with what would mend it."""
    demanding = settings.model_copy(update={"durability": "valkey-durable"})
    with (
        AgentModel(demanding) as model,
        pytest.raises(ConfigurationError, match="set `appendonly yes` and `appendfsync always`"),
    ):
        level(model)


def test_another_number_of_shards_is_refused(settings: Settings) -> None:
    """Neither records nor a drain go on with another number of shards than the installation was started with."""
    other = settings.model_copy(update={"shards": 9})
    with AgentModel(settings) as model, AgentModel(other) as stranger:
        level(model)

        with pytest.raises(ConfigurationError, match=r"AGENTMODEL_SHARDS is 9, but .* was started with 64"):
            level(stranger)
        with pytest.raises(ConfigurationError, match="AGENTMODEL_SHARDS is 9"):
            stranger.drain()


def test_a_server_met_after_an_outage_loses_no_record(
    settings: Settings, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that records already is not stopped: its records go to the table, and the log says why, once."""
    with AgentModel(settings) as model:
        model.table.create()
        before = level(model)
        assert model._valkey is not None
        model._valkey.breaker.record_failure("it restarts, with another configuration")
        server.config_set("maxmemory-policy", "allkeys-lru")
        model._valkey.breaker._run_probe()
        meanwhile = [level(model, 2), level(model, 3)]
        model._valkey.breaker.record_failure("it restarts again")
        server.config_set("maxmemory-policy", "noeviction")
        model._valkey.breaker._run_probe()

        assert ("valkey", ["dynamodb", "dynamodb"], "valkey") == (before, meanwhile, level(model, 4))
        assert 1 == sum(message.startswith("valkey.refused: ") for message in caplog.messages)
        model.table.delete()


def test_waiting_for_room_is_a_setting(settings: Settings) -> None:
    """With a wait set, a record at the journal's bound waits for the drain instead of going to the table."""
    waiting = settings.model_copy(update={"journal_limit": 1, "journal_wait": 30.0})
    with AgentModel(waiting) as model:
        model.table.create()
        assert model.journal is not None
        model.journal._pause = lambda _: model.drain()

        assert ["valkey", "valkey"] == [level(model, 1), level(model, 2)]
        model.table.delete()


def test_a_model_asks_for_its_token(settings: Settings, server: Any) -> None:
    """User and password of a callback, such as an IAM token, are those a model's connections log in with."""
    server.execute_command("ACL", "SETUSER", "app", "on", ">token", "~*", "&*", "+@all")
    with AgentModel.from_settings(settings, valkey_credentials=lambda: ("app", "token")) as model:
        assert model._valkey is not None

        assert "valkey" == level(model)
        assert b"app" == model._valkey.execute(("ACL", "WHOAMI"))
    server.execute_command("ACL", "DELUSER", "app")
