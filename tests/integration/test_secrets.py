"""Passwords and keys of settings are in nothing that is shown: no repr, dump, error, traceback, log or command."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.cli import main
from agentmodel.exceptions import ConfigurationError
from tests.integration.canaries import encodings

SECRET = "sEcReTzz"
AT = "127.0.0.1:1"  # nothing listens there
QUICK: dict[str, Any] = {
    "endpoint": f"http://{AT}", "access_key_id": "id", "secret_access_key": "key", "dynamodb_timeout": 0.5,
    "dynamodb_attempts": 1,
}  # fmt: skip

GIVEN: dict[str, tuple[str, str]] = {
    "password of Valkey": ("valkey_url", f"valkey://app:{SECRET}@{AT}/0"),
    "user of Valkey": ("valkey_url", f"valkey://{SECRET}:app@{AT}/0"),
    "password of Valkey in the query": ("valkey_url", f"valkey://{AT}/0?password={SECRET}"),
    "password of Valkey over TLS": ("valkey_url", f"valkeys://app:{SECRET}@{AT}/0"),
    "password of a cluster": ("valkey_url", f"valkey+cluster://app:{SECRET}@{AT},{AT}"),
    "password at a socket": ("valkey_url", f"unix://app:{SECRET}@/no/such.sock"),
    "password and a port that is none": ("valkey_url", f"valkey://app:{SECRET}@127.0.0.1:99999"),
    "password and a port of letters": ("valkey_url", f"valkey+cluster://app:{SECRET}@one:x"),
    "password with a slash": ("valkey_url", f"valkey://app:{SECRET}/{SECRET}@{AT}"),
    "password with a question mark": ("valkey_url", f"valkey://app:{SECRET}?{SECRET}@{AT}"),
    "password with a number sign": ("valkey_url", f"valkey://app:{SECRET}#{SECRET}@{AT}"),
    "password with an at sign and a slash": ("valkey_url", f"valkey+cluster://app:{SECRET}@{SECRET}/{SECRET}@{AT}"),
    "password in brackets": ("valkey_url", f"valkey://app:[{SECRET}]@{AT}"),
    "password and another scheme": ("valkey_url", f"http://app:{SECRET}@{AT}"),
    "password of an endpoint": ("endpoint", f"http://app:{SECRET}@{AT}"),
    "password of an endpoint with a slash": ("endpoint", f"http://app:{SECRET}/{SECRET}@{AT}"),
    "key in the query of an endpoint": ("endpoint", f"http://{AT}?key={SECRET}"),
    "fragment of an endpoint": ("endpoint", f"http://{AT}/#{SECRET}"),
    "endpoint without a scheme": ("endpoint", f"app:{SECRET}@{AT}"),
    "secret key": ("secret_access_key", SECRET),
    "key of the MCP server": ("mcp_state_key", SECRET * 4),
    "key of the MCP server, too short": ("mcp_state_key", SECRET),
    "password of Redshift": ("warehouse_url", f"redshift+redshift_connector://app:{SECRET}@{AT}/db"),
    "password of Redshift with a slash": ("warehouse_url", f"redshift+redshift_connector://app:{SECRET}/x@{AT}/db"),
    "password of Redshift with an at sign": ("warehouse_url", f"redshift+redshift_connector://app:p@{SECRET}@{AT}/db"),
    "password of Redshift like a port": ("warehouse_url", f"redshift+redshift_connector://app:p@x:{SECRET}@{AT}/db"),
    "keys of Redshift": (
        "warehouse_url", f"redshift+redshift_connector://@{AT}/db?iam=true&secret_access_key={SECRET}&token={SECRET}",
    ),
    "secret of the Data API": (
        "warehouse_url", f"redshift+data://group/db?secret_arn={SECRET}&region=eu-west-1&endpoint=http://{AT}",
    ),
    "password of the Data API": ("warehouse_url", f"redshift+data://app:{SECRET}@group/db?region=eu-west-1"),
    "password of another warehouse": ("warehouse_url", f"mysql://app:{SECRET}@{AT}/db?password={SECRET}"),
    "key of another warehouse": ("warehouse_url", f"mysql://{AT}/db?password={SECRET}"),
    "password and no warehouse": ("warehouse_url", f"app:{SECRET}@{AT}"),
}  # fmt: skip
"""Where a secret stands, right or wrong: the setting, and its value."""


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, down to the wire."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


def said(acts: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """What each act returns, or the whole traceback of its error."""
    found = {}
    for name, act in acts.items():
        try:
            answer = act()
            found[name] = f"{answer!r} {answer}"
        except Exception as error:  # noqa: BLE001  # whatever it is, its text is looked at
            found[name] = "".join(traceback.format_exception(error)) + repr(error)
    return found


def shown_by(model: AgentModel) -> dict[str, str]:
    """What a model shows, and what its stores' outages say."""

    def record() -> None:
        with model.session("USR001", "find") as session, session.process("p") as process, process.call("AGT1", "TL1"):
            pass

    return said(
        {
            "model": lambda: (model, model.table, model.table.where, model.journal, model.repository, model.recorder),
            "stats": model.stats,
            "warehouse": lambda: model.warehouse.engine,
            "refresh": model.refresh,
            "publish": model.publish,
            "evaluate": model.evaluate,
            "record": record,
            "drain": model.drain,
            "verify": model.table.verify,
            "suggest": lambda: model.suggest("USR001", category="any"),
            "inbox": model.reviews.inbox,
            "health": lambda: model.health.tools("DMN001"),
        }
    )


def leaks(found: dict[str, str]) -> list[str]:
    """Where the secret stands, in any encoding."""
    codes = encodings(SECRET)
    return [
        f"{place} ({name})"
        for place, text in found.items()
        for name, code in codes.items()
        if code.casefold() in text.casefold()
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("where", GIVEN)
def test_a_secret_is_shown_nowhere(where: str, logged: pytest.LogCaptureFixture) -> None:
    """A secret of a setting is in no repr, dump, error, traceback and log, whether the setting is right or wrong."""
    name, value = GIVEN[where]
    if name == "warehouse_url":
        logged.set_level(logging.INFO, "botocore")  # which shows whole requests, and so the name of a secret
    given = QUICK | {name: value}
    found = said({"load": lambda: Settings.load(**given), "make": lambda: Settings(**given)})
    with suppress(ConfigurationError):  # refused settings have said what is wrong above
        settings = Settings.load(**given)
        found |= said({"dump": settings.model_dump, "JSON": settings.model_dump_json})
        found["fields"] = repr(dict(settings))
        found |= said({"open": lambda: AgentModel.from_settings(settings).close()})
        with AgentModel.from_settings(settings) as model:
            found |= shown_by(model)
    found["log"] = logged.text

    assert [] == leaks(found)


@pytest.mark.parametrize("where", ["password of Valkey", "password with a slash", "password of an endpoint",
                                   "password of Redshift", "key of another warehouse"])  # fmt: skip
@pytest.mark.parametrize("command", ["check", "stats", "refresh", "drain", "domains"])
def test_a_secret_is_printed_by_no_command(
    where: str, command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A secret of the environment is in nothing that a command prints, whatever is wrong with it."""
    pytest.importorskip("typer", reason="the command line is an extra")
    name, value = GIVEN[where]
    for setting, text in (QUICK | {name: value}).items():
        monkeypatch.setenv(f"AGENTMODEL_{setting.upper()}", str(text))
    main([command])
    printed = capfd.readouterr()

    assert "" != printed.out + printed.err
    assert [] == leaks({"stdout": printed.out, "stderr": printed.err})


def test_a_secret_would_be_found() -> None:
    """A secret that is shown is found: as it is, in a URL, in bytes and in base64."""
    shown = {"plain": f"at {SECRET}", "bytes": repr(SECRET.encode("utf-16")), "hex": SECRET.encode().hex()}

    assert set(shown) == {leak.rpartition(" (")[0] for leak in leaks(shown)}
