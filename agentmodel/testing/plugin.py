"""The pytest plugin: a table, or a whole model, of a test's own. Pytest finds it where agentmodel is.

The engine is moto's DynamoDB server, started when the first test asks for it (``pip install 'agentmodel[local]'``), or
any endpoint that is named::

    pytest --agentmodel-endpoint http://127.0.0.1:8000

The same can stand in ``pyproject.toml`` as ``agentmodel_endpoint``. Each test has a table of its own name, which is
deleted when the test ends. Nothing is imported before a fixture is used.
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
    """Add the option that names an endpoint."""
    what = "URL of the DynamoDB engine that the agentmodel fixtures use; moto's server when not given"
    parser.getgroup("agentmodel").addoption("--agentmodel-endpoint", metavar="URL", help=what)
    parser.addini("agentmodel_endpoint", help=what)


@pytest.fixture(scope="session")
def agentmodel_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of the DynamoDB engine: the one that is named, or moto's server, started for the whole run."""
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
    """Settings that reach the engine, with a table name of the test's own, no Valkey and no warehouse."""
    from agentmodel.config import Settings

    return Settings.load(
        table=f"Test-{uuid.uuid4().hex[:12]}",
        endpoint=agentmodel_endpoint,
        access_key_id="test",
        secret_access_key="test",  # noqa: S106  # the engines of tests take any
        dynamodb_timeout=10.0,
        valkey_url=None,
        warehouse_url=None,
    )


@pytest.fixture
def agentmodel_model(agentmodel_settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table of the test's own, which is deleted at its end; writes go straight into the table."""
    from agentmodel.client import AgentModel

    with AgentModel.from_settings(agentmodel_settings) as model:
        model.table.create()
        try:
            yield model
        finally:
            model.table.delete()


@pytest.fixture
def agentmodel_table(agentmodel_model: AgentModel) -> Table:
    """The empty table of `agentmodel_model`."""
    return agentmodel_model.table
