"""Engines and settings for all tests: started once, empty for each test."""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from agentmodel.config import Settings
from agentmodel.embedded import DynamoServer, ValkeyServer

# Many images set this. Each of the hundreds of programs that tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Python looks for garbage each time some hundreds of objects were made, here among a million of modules and tests. That
# took a third of the time to collect the tests, and a tenth of the time to run those of the warehouse.
gc.set_threshold(10_000, 20, 5)

# No deadline: how long an example takes says nothing about a promise, and processors are shared.
hypothesis_settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# For repeated runs of what another run has searched at length: `pytest --hypothesis-profile=brief`.
hypothesis_settings.register_profile(
    "brief", hypothesis_settings.get_profile("default"), max_examples=15, derandomize=True
)
# For `scripts/mutants.py`, which runs the tests several times in one process, so that the methods have several objects.
hypothesis_settings.register_profile(
    "mutants",
    hypothesis_settings.get_profile("brief"),
    suppress_health_check=[
        *hypothesis_settings.get_profile("brief").suppress_health_check,
        HealthCheck.differing_executors,
    ],
)
# Where a run decides about a change: the same examples every time, so that it says what the last run said.
hypothesis_settings.register_profile("same", hypothesis_settings.get_profile("default"), derandomize=True)
hypothesis_settings.load_profile("default")

TEST_ENDPOINT = "AGENTMODEL_TEST_ENDPOINT"
"""URL of another DynamoDB engine to run the tests against; unset means moto's server."""


LONGEST = (
    "test_examples",
    "test_erasure",
    "test_cli_up",
    "test_process_end",
    "test_mcp_limits",
    "test_redshift_data_api",
    "test_table_away",
    "test_recorder_claude_agent_sdk",
    "test_fork",
    "test_damaged_values",
    "test_redshift_defects",
    "test_redshift_feeds",
    "test_console",
    "test_other_users",
    "test_export",
    "test_redshift_limits",
    "test_redshift_postgres",
    "test_types",
    "test_mcp",
    "test_redshift_refresh",
    "test_embedded",
)
"""Files of about 20 seconds of processor time and more in a run of all, or of one long test. They come first: a file
stays on one worker, and the one that is last would be waited for."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep our order of files; by itself xdist hands out those with the fewest tests last, which are the longest."""
    if hasattr(config.option, "loadscopereorder"):  # since xdist 3.7
        config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start one worker more than processors with `-n auto`: some tests wait for a server or for a time-out."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and mark the tests that another DynamoDB engine can answer differently: `-m table`."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    for item in items:
        if "dynamodb_endpoint" in getattr(item, "fixturenames", ()):
            item.add_marker("table")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no settings of the shell they run in."""
    for name in os.environ:
        if name.startswith(("AGENTMODEL_", "AWS_")) and name != TEST_ENDPOINT:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def dynamodb_endpoint() -> Iterator[str]:
    """URL of a DynamoDB engine."""
    given = os.environ.get(TEST_ENDPOINT)
    if given:
        yield given
        return
    server = DynamoServer().start()
    try:
        yield server.endpoint
    finally:
        server.close()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server; `valkey_url` is the one to ask for, since it comes empty."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> str:
    """URL of an empty Valkey."""
    with closing(redis.Redis.from_url(valkey_server.url.replace("valkey:", "redis:", 1))) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def settings(dynamodb_endpoint: str, valkey_url: str, tmp_path: Path) -> Settings:
    """Settings that reach the engines, with a table name and a warehouse file of the test's own."""
    return Settings.load(
        table=f"Test-{uuid.uuid4().hex[:12]}",
        endpoint=dynamodb_endpoint,
        access_key_id="test",
        secret_access_key="test",
        dynamodb_timeout=10.0,
        guard_timeout=60.0,  # a busy machine decides nothing
        valkey_url=valkey_url,
        valkey_timeout=2.0,
        valkey_connect_timeout=1.0,
        warehouse_url=f"duckdb:///{tmp_path / 'warehouse.duckdb'}",
    )
