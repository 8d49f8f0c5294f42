"""Errors: their messages are sentences, their codes are stable, and the reference explains each."""

from __future__ import annotations

import ast
import re
import traceback
from pathlib import Path

import pydantic
import pytest
from pydantic import SecretStr

import agentmodel
from agentmodel import AgentModel, Domain, exceptions
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import AgentModelError, ConfigurationError, TableUnavailable, ValidationError

PACKAGE = Path(agentmodel.__file__).parent

CODES = {
    "AM-100": "AgentModelError",
    # what was given
    "AM-101": "ValidationError",
    "AM-102": "KeyFormatError",
    "AM-103": "CursorError",
    "AM-111": "ConfigurationError",
    "AM-112": "MissingExtraError",
    "AM-113": "NewerData",
    # a store does not answer
    "AM-201": "Unavailable",
    "AM-202": "TableUnavailable",
    "AM-203": "TableNotFound",
    "AM-204": "BatchIncomplete",
    "AM-205": "CircuitOpen",
    "AM-211": "CacheUnavailable",
    "AM-212": "JournalFull",
    "AM-221": "WarehouseUnavailable",
    "AM-231": "HistoryUnavailable",
    # what is stored
    "AM-301": "NotFound",
    "AM-302": "Conflict",
    "AM-303": "AlreadyExists",
    "AM-304": "StaleVersion",
    "AM-305": "CorruptItem",
    "AM-306": "Rejected",
    "AM-307": "LeaseHeld",
    # who may do what
    "AM-311": "NotAllowed",
    # a guarded tool
    "AM-401": "NotCalled",
    "AM-402": "ToolBlocked",
    "AM-403": "CallRejected",
    "AM-404": "ReviewPending",
}

ERRORS: list[type[AgentModelError]] = [getattr(exceptions, name) for name in exceptions.__all__]


def test_codes_are_stable() -> None:
    """Every error keeps its code; a new error takes a free one, and a code is never given to another error."""
    assert CODES == {error.code: error.__name__ for error in sorted(ERRORS, key=lambda error: error.code)}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_says_what_to_do(error: type[AgentModelError]) -> None:
    """Every error has a code of its own, a first sentence that says when it is raised, and a section What to do."""
    told = error.__doc__ or ""

    assert "code" in vars(error)
    assert told.partition("\n\n")[0].endswith(".")
    assert "\n    What to do:\n" in told


def _rules() -> list[tuple[str, str]]:
    """The texts of rules that are written where a ValidationError is raised, each with its place."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or len(node.args) < 3:
                continue
            if not isinstance(node.func, ast.Name) or node.func.id not in {"ValidationError", "KeyFormatError"}:
                continue
            rule = node.args[2]
            while isinstance(rule, ast.BinOp):
                rule = rule.left
            start = rule.values[0] if isinstance(rule, ast.JoinedStr) else rule
            if isinstance(start, ast.Constant) and isinstance(start.value, str):
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", start.value))
    return found


def test_every_rule_says_must_or_cannot() -> None:
    """The message is a sentence, `field (value) must …` or `cannot …`; the bare rule is never told as if it were so."""
    rules = _rules()

    assert len(rules) > 100
    assert [] == [(place, text) for place, text in rules if not text.startswith(("must ", "cannot "))]


def test_a_message_names_field_value_and_rule() -> None:
    """The message of bad input shows the field, the value and what would be accepted; a long value is cut."""
    error = ValidationError("name", "x" * 200, "must have at most 64 characters")

    assert str(error) == f"name ('{'x' * 119}… (202 characters)) must have at most 64 characters"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shards": 200}, "AGENTMODEL_SHARDS (200) must be less than or equal to 100"),
        ({"endpoint": "here"}, "AGENTMODEL_ENDPOINT ('here') must be a URL such as http://127.0.0.1:8000"),
        ({"ranking": "best"}, "AGENTMODEL_RANKING ('best') must be 'classic' or 'evidence'"),
        ({"rankin": "classic"}, "AGENTMODEL_RANKIN is not a setting: use AGENTMODEL_RANKING"),
        (
            {"ttl_days_low": 100, "ttl_days_high": 1},
            "AGENTMODEL_TTL_DAYS_LOW (100) must not exceed AGENTMODEL_TTL_DAYS_HIGH (1): lower the one or raise the other",
        ),
        (
            {"access_key_id": "A"},
            "AGENTMODEL_ACCESS_KEY_ID and AGENTMODEL_SECRET_ACCESS_KEY must be set together: set both or neither",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_remedy(given: dict[str, object], message: str) -> None:
    """What is wrong with a setting is told by its variable, its value and what would be accepted."""
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Settings.load(**given)


def test_single_settings_win_over_given_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting beside given settings is used and checked, and the environment is not asked for the others."""
    given = Settings.load(table="Given")
    monkeypatch.setenv("AGENTMODEL_REGION", "eu-central-1")
    with AgentModel.from_settings(given, holdout=0.25) as model:
        used = model.settings

    assert ("Given", given.region, 0.25) == (used.table, used.region, used.holdout)
    assert {"table", "holdout"} == used.model_fields_set, "a default demands nothing, such as a durability"
    with pytest.raises(ConfigurationError, match="AGENTMODEL_HOLDOUT"):
        AgentModel.from_settings(given, holdout=2)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("AGENTMODEL_VALKEY_URI", "AGENTMODEL_VALKEY_URI is not a setting: use AGENTMODEL_VALKEY_URL"),
        ("agentmodel_tabel", "AGENTMODEL_TABEL is not a setting: use AGENTMODEL_TABLE"),
        ("AGENTMODEL_XYZZY", "AGENTMODEL_XYZZY is not a setting: unset it"),
    ],
)
def test_a_misspelt_variable_is_refused(variable: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no setting has would be ignored in silence, so it is refused with the nearest name."""
    monkeypatch.setenv(variable, "secret")

    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Settings.load()
    with pytest.raises(ConfigurationError):
        AgentModel.from_settings()
    monkeypatch.delenv(variable)
    for name, value in {
        "AGENTMODEL_TEST_ANYTHING": "1", "AGENTMODEL_SERVICE_HOST": "10.0.0.1", "AGENTMODEL_PORT": "tcp://10.0.0.1:80",
        "AGENTMODEL_CONSOLE_SERVICE_PORT_HTTP": "80", "AGENTMODEL_CONSOLE_PORT_80_TCP_ADDR": "10.0.0.1",
        "AGENTMODEL_PORT_80_TCP": "tcp://10.0.0.1:80",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    Settings.load()
    monkeypatch.setenv("AGENTMODEL_PORT", "80")
    with pytest.raises(ConfigurationError, match="AGENTMODEL_PORT is not a setting"):
        Settings.load()


@pytest.mark.parametrize(
    "given",
    [
        {"valkey_url": "http://me:secret@host"},
        {"endpoint": "ftp://me:secret@host"},
        {"endpoint": "me:secret@host"},
        {"mcp_state_key": "secret"},
        {"secret_access_key": ["secret"]},
    ],
)
def test_a_secret_is_in_no_message(given: dict[str, object]) -> None:
    """A setting that may hold a secret is named without its value."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(**given)

    assert "secret" not in str(caught.value)


SECRETS: dict[str, str] = {
    "endpoint": "http://me:secret@127.0.0.1:1",
    "valkey_url": "valkeys://me:se%2Fc%40ret:secret@127.0.0.1:1/0?password=secret",
    "warehouse_url": "redshift+redshift_connector://me:secret@127.0.0.1:1/db?token=secret",
}


def test_secrets_of_urls_are_in_no_repr_and_no_dump() -> None:
    """Settings show where a store is, and never with which password; the code that connects gets the whole URL."""
    settings = Settings.load(**SECRETS)
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]

    assert [] == [text for text in shown if "secret@" in text or "=secret" in text or "ret:" in text]
    assert all("127.0.0.1:1" in text for text in shown)
    assert SECRETS == {name: f"{getattr(settings, name)}" for name in SECRETS}


def test_a_refused_setting_is_shown_by_no_validation_error() -> None:
    """The error that pydantic raises of a setting does not have the value in its text."""
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(valkey_url="valky://me:secret@host")

    assert "secret" not in str(caught.value)


def test_a_password_in_an_endpoint_is_in_no_error_of_the_table(caplog: pytest.LogCaptureFixture) -> None:
    """The endpoint is called without user and password, which DynamoDB does not take, so that no error names them."""
    caplog.set_level("DEBUG")
    settings = Settings(
        endpoint=SECRETS["endpoint"], access_key_id="A", secret_access_key=SecretStr("key"), dynamodb_attempts=1
    )
    with Table(settings) as table, pytest.raises(TableUnavailable) as caught:
        table.get(Domain.at("DMN001"))

    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "http://127.0.0.1:1" in told
    assert "me:secret" not in told
