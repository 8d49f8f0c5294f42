"""Fixtures of the integration tests."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from agentmodel import AgentModel, Settings
from agentmodel.cache import Valkey
from agentmodel.dynamo.table import Table
from tests.integration.away import Endpoint

AWAY_SECONDS = 3.0
"""Time-out of a table that is taken away: long enough for an engine on a busy machine, short enough to wait for."""

NO_SCRIPTS = ["-eval", "-evalsha", "-eval_ro", "-evalsha_ro", "-@scripting"]


@pytest.fixture
def url_without_scripts(valkey_url: str) -> str:
    """URL of the empty Valkey for a user who may not run scripts."""
    with closing(redis.Redis.from_url(valkey_url.replace("valkey:", "redis:", 1))) as client:
        client.execute_command(  # type: ignore[no-untyped-call,unused-ignore]  # typed in some versions of redis-py
            "ACL", "SETUSER", "plain", "reset", "on", ">pw", "~*", "&*", "+@all", *NO_SCRIPTS
        )
    return valkey_url.replace("//", "//plain:pw@", 1)


@pytest.fixture(params=["scripts", "no scripts"])
def either_url(request: pytest.FixtureRequest, valkey_url: str) -> str:
    """URL of an empty Valkey: once with scripts, once without."""
    if request.param == "scripts":
        return valkey_url
    url: str = request.getfixturevalue("url_without_scripts")
    return url


@pytest.fixture
def valkey(settings: Settings) -> Iterator[Valkey]:
    """A connection to the empty Valkey."""
    with Valkey(settings) as valkey:
        yield valkey


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="module")
def file_table(dynamodb_endpoint: str) -> Iterator[Table]:
    """A table that all tests of a file share; `empty_table` is the one to ask for, since it comes empty."""
    name = f"Test-{uuid.uuid4().hex[:12]}"
    settings = Settings(
        table=name,
        endpoint=dynamodb_endpoint,
        access_key_id="test",
        secret_access_key=SecretStr("test"),
        dynamodb_timeout=10.0,
    )
    with Table(settings) as table:
        table.create()
        yield table


@pytest.fixture
def empty_table(file_table: Table) -> Table:
    """An empty table, for tests of a few items: to make a table and its client takes longer than such a test."""
    for item in list(file_table.scan()):
        file_table.call("DeleteItem", TableName=file_table.name, Key={name: item[name] for name in ("PK", "SK")})
    return file_table


@pytest.fixture
def endpoint(dynamodb_endpoint: str) -> Iterator[Endpoint]:
    """An endpoint in front of the engine that can be taken away."""
    made = Endpoint(dynamodb_endpoint)
    yield made
    made.close()


@pytest.fixture
def away_settings(settings: Settings, endpoint: Endpoint) -> Settings:
    """Settings of a table, created, that can be taken away."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
    return settings.model_copy(update={"endpoint": endpoint.url, "dynamodb_timeout": AWAY_SECONDS})


@pytest.fixture
def away_model(away_settings: Settings) -> Iterator[AgentModel]:
    """A model whose table can be taken away."""
    with AgentModel.from_settings(away_settings) as model:
        yield model


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long runs out unless they are asked for by their mark."""
    if "long" in str(config.getoption("-m")):
        return
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.skip(reason="a long run: ask for it with `pytest -m long`"))
