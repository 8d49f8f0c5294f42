"""Redshift URLs: each option of the driver, typed, and each connection set up for zero-ETL's names."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import make_url

from agentmodel.exceptions import ConfigurationError, WarehouseUnavailable
from agentmodel.redshift._connection import FLAGS, LISTS, NUMBERS, TEXTS, prepare, redshift_engine, split_url
from agentmodel.redshift.warehouse import Warehouse

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift is the dialect")
redshift_connector: Any = pytest.importorskip("redshift_connector", reason="redshift-connector is the driver")


class Connection:
    """A driver's connection that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.py_types: dict[Any, Any] = {str: None}

    def cursor(self) -> Connection:
        return self

    def execute(self, statement: str, *_: Any) -> None:
        self.told.append(statement)

    def commit(self) -> None:
        self.told.append("COMMIT")

    def close(self) -> None:
        self.told.append("close")


def test_options_are_typed() -> None:
    """Flags, numbers and lists of the query reach the driver as such, everything else as text."""
    url, options = split_url(
        make_url(
            "redshift://@/dev?iam=true&is_serverless=TRUE&serverless_work_group=agents&region=eu-west-1"
            "&timeout=30&db_groups=a,b&ssl=false"
        )
    )

    assert {
        "iam": True,
        "is_serverless": True,
        "serverless_work_group": "agents",
        "region": "eu-west-1",
        "timeout": 30,
        "db_groups": ["a", "b"],
        "ssl": False,
    } == options
    assert ("redshift+redshift_connector", {}) == (url.drivername, dict(url.query))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("iam=maybe", "has iam=maybe, which is neither true nor false"),
        ("timeout=soon", "has timeout=soon, which is not a whole number"),
        ("is_sreverless=true", "has is_sreverless, which is not an option of redshift_connector"),
        ("is_serverless=true", "has is_serverless without iam=true"),
    ],
)
def test_wrong_options_are_named(query: str, message: str) -> None:
    """An option that is not of its type is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        Warehouse.open(f"redshift+redshift_connector://u:p@h/d?{query}")


def test_every_option_of_the_driver_is_known() -> None:
    """What redshift_connector takes can be said in the URL, each with its type; nothing else can."""
    known = (
        dict.fromkeys(FLAGS, bool)
        | dict.fromkeys(NUMBERS, int)
        | dict.fromkeys(LISTS, list)
        | dict.fromkeys(TEXTS, str)
    )
    parameters = inspect.signature(redshift_connector.connect).parameters.values()
    taken = {each.name: re.findall(r"bool|int|List|str", str(each.annotation))[0].lower() for each in parameters}
    for name in ("user", "password", "host", "port", "database"):
        del taken[name]
    taken.pop("replication", None)  # an older version has it, for connections that stream the log

    assert {name: kind for name, kind in taken.items() if name in known} == {
        name: kind.__name__ for name, kind in known.items() if name in taken
    }
    assert taken.keys() <= known.keys()


def test_every_connection_keeps_capitals() -> None:
    """A new connection is told to keep capitals in names, outside of any transaction of ours."""
    connection = Connection()
    prepare(None)(connection, None)

    assert ["SET enable_case_sensitive_identifier TO TRUE", "COMMIT", "close"] == connection.told


def test_the_driver_gets_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the URL says reaches the driver's connect call, verified TLS by default."""
    calls: list[dict[str, Any]] = []

    def connect(**options: Any) -> Connection:
        calls.append(options)
        raise redshift_connector.InterfaceError("nobody is there")

    monkeypatch.setattr(redshift_connector, "connect", connect)
    engine = redshift_engine(make_url("redshift+redshift_connector://me:secret@example.com:5439/dev?iam=true&region=r"))
    with pytest.raises(redshift_connector.InterfaceError):
        engine.raw_connection()

    assert [("me", "secret", "example.com", 5439, "dev", True, "r", "verify-full")] == [
        tuple(call[name] for name in ("user", "password", "host", "port", "database", "iam", "region", "sslmode"))
        for call in calls
    ]


def test_an_unreachable_warehouse_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that cannot connect comes out as one line, without the password."""

    def connect(**_: Any) -> Connection:
        raise redshift_connector.InterfaceError("nobody is there")

    monkeypatch.setattr(redshift_connector, "connect", connect)
    with (
        Warehouse.open("redshift+redshift_connector://me:secret@example.com/dev") as warehouse,
        pytest.raises(WarehouseUnavailable, match="nobody is there") as caught,
    ):
        warehouse.counts()

    assert "secret" not in str(caught.value)


def test_landing_is_zero_etls_there() -> None:
    """On Redshift nothing is landed by us."""
    with (
        Warehouse.open("redshift+redshift_connector://me:secret@example.com/dev") as warehouse,
        pytest.raises(ConfigurationError, match="set up zero-ETL"),
    ):
        warehouse.land([], at=datetime(2025, 6, 14, tzinfo=UTC))
