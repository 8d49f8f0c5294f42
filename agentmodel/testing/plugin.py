"""Pytest plugin that gives each test its own table, or a model on it. Pytest loads it where agentmodel is installed.

The engine is moto's DynamoDB server, started when the first test needs it (``pip install 'agentmodel[local]'``), or the
endpoint that is given::

    pytest --agentmodel-endpoint http://127.0.0.1:8000

The endpoint can also be set in ``pyproject.toml`` as ``agentmodel_endpoint``. Each test gets a table with a name of its
own, which is deleted when the test ends. Nothing is imported before a fixture is used.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentmodel.client import AgentModel
    from agentmodel.config import Settings
    from agentmodel.dynamo.table import Table

__all__ = ["agentmodel_endpoint", "agentmodel_model", "agentmodel_settings", "agentmodel_table"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--agentmodel-endpoint`` and the setting of the same name."""
    what = "URL of the DynamoDB engine for the agentmodel fixtures; when not given, they start moto's server"
    parser.getgroup("agentmodel").addoption("--agentmodel-endpoint", metavar="URL", help=what)
    parser.addini("agentmodel_endpoint", help=what)


@pytest.fixture(scope="session")
def agentmodel_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of the DynamoDB engine: the endpoint of the option, or moto's server, started once per test run."""
    given = request.config.getoption("--agentmodel-endpoint") or request.config.getini("agentmodel_endpoint")
    if given:
        yield str(given)
        return
    from agentmodel.embedded import DynamoServer

    server = DynamoServer().start()
    try:
        yield server.endpoint
    finally:
        server.close()


@pytest.fixture
def agentmodel_settings(agentmodel_endpoint: str) -> Settings:
    """Return settings for the engine, with a new table name, without Valkey and without a warehouse."""
    from agentmodel.config import Settings

    return Settings.load(
        table=f"Test-{uuid.uuid4().hex[:12]}",
        endpoint=agentmodel_endpoint,
        access_key_id="test",
        secret_access_key="test",  # noqa: S106  # local engines accept any
        dynamodb_timeout=10.0,
        valkey_url=None,
        warehouse_url=None,
    )


@pytest.fixture
def agentmodel_model(agentmodel_settings: Settings) -> Iterator[AgentModel]:
    """Give a model on a new empty table; it writes directly into the table, which is deleted when the test ends."""
    from agentmodel.client import AgentModel

    with AgentModel.from_settings(agentmodel_settings) as model:
        model.table.create()
        try:
            yield model
        finally:
            model.table.delete()


@pytest.fixture
def agentmodel_table(agentmodel_model: AgentModel) -> Table:
    """Return the empty table of `agentmodel_model`."""
    return agentmodel_model.table
