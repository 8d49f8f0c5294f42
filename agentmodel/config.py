"""Read the settings of an installation from the environment variables ``AGENTMODEL_*`` into one frozen object.

>>> Settings(table="History", ranking="evidence").table
'History'
"""

from __future__ import annotations

import base64
import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypedDict
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentmodel._values.urls import misplaced_at, without_secrets
from agentmodel.exceptions import ConfigurationError, rule_of, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Durability", "FeedName", "Ranking", "Settings", "SettingsOptions"]

Durability = Literal["valkey", "valkey-replicated", "valkey-durable", "dynamodb"]
"""How durable a write is when `record` returns, weakest first."""

Language = Literal["en", "ko"]
"""Languages of the texts of a plan, and of what commands print for people."""

Ranking = Literal["classic", "evidence"]
"""Which score orders agents: `classic` is the formula of the AWS sample, `evidence` the expected success rate."""

FeedName = Literal["scan", "stream", "journal"]
"""How the items of the table come into a DuckDB warehouse; Redshift gets them by zero-ETL."""

_SECRET = (
    "access_key_id", "secret_access_key", "valkey_url", "warehouse_url", "mcp_state_key", "redact_key",
    "review_webhook_url", "review_webhook_secret",
)  # fmt: skip
_OF_OTHERS = re.compile(  # of tests, and those that Kubernetes sets for a service with the name agentmodel
    r"^AGENTMODEL_(TEST_|([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)|PORT(_\d+_[A-Z]+[A-Z_]*)?=[a-z]+://|PORT_\d+_[A-Z]+_))"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VALKEY_SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix", "valkey+cluster", "valkeys+cluster")


class _Url(str):
    """A URL that may hold a password: as text it is the URL itself, its repr has ``***`` for the password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_secrets(self))


_SecretUrl = Annotated[str, AfterValidator(_Url), PlainSerializer(without_secrets, return_type=str)]
"""A setting that is a URL: users and passwords in it are in no repr and no dump."""


class Settings(BaseSettings):
    """Everything an installation can set; each setting is also an environment variable ``AGENTMODEL_<NAME>``.

    `AgentModel.local` needs none of them. `AgentModel.from_settings` needs those that name the stores it uses.

    >>> settings = Settings(table="History", ranking="evidence", ttl_days_low=30)
    >>> settings.table, settings.ranking, settings.ttl_days_low
    ('History', 'evidence', 30)
    """

    model_config = SettingsConfigDict(
        env_prefix="AGENTMODEL_", frozen=True, extra="forbid", case_sensitive=False, hide_input_in_errors=True
    )

    # DynamoDB
    table: str = Field(
        default="AgentTable", description="Name of the DynamoDB table.", pattern=r"^[A-Za-z0-9_.\-]{3,255}$"
    )
    region: str = Field(default="us-east-1", description="AWS region of the table.", min_length=1)
    endpoint: _SecretUrl | None = Field(
        default=None, description="URL of a DynamoDB endpoint, such as http://127.0.0.1:8000. Unset: AWS in `region`."
    )
    access_key_id: str | None = Field(
        default=None,
        description="AWS access key. Unset: the credentials that botocore finds (environment, profile, role).",
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="AWS secret key of `access_key_id`; set both or neither."
    )
    dynamodb_timeout: float = Field(
        default=2.0,
        gt=0,
        description="Seconds to wait for an answer of DynamoDB. A call that gets none is not tried again, and opens "
        "the circuit breaker.",
    )
    dynamodb_attempts: int = Field(
        default=4,
        ge=1,
        description="How many times a call of DynamoDB is tried that is throttled or fails with an error of "
        "the server.",
    )
    batch_deadline: float = Field(
        default=30.0, gt=0, description="Seconds after which a batch stops and returns the items that are left."
    )
    mapping_partitions: int = Field(
        default=1,
        ge=1,
        le=999,
        description="Number of index partitions over which the mappings of all users are spread. 1 uses the key of the "
        "AWS sample; raise it when that partition gets hot.",
    )

    # Valkey
    valkey_url: _SecretUrl | None = Field(
        default=None,
        description="URL of Valkey: valkey://, valkeys:// (TLS), unix://, valkey+cluster:// or valkeys+cluster://; "
        "redis:// and rediss:// work too. Unset: no cache and no journal, and writes go straight to the table.",
    )
    valkey_timeout: float = Field(default=0.25, gt=0, description="Seconds to wait for an answer of Valkey.")
    valkey_connect_timeout: float = Field(default=0.1, gt=0, description="Seconds to wait for a connection to Valkey.")
    valkey_prefix: str = Field(
        default="am", pattern=r"^[A-Za-z0-9_.\-]{1,32}$", description="First part of every key in Valkey."
    )
    shards: int = Field(
        default=64,
        ge=1,
        le=100,
        description="Number of shards of the journal. It cannot change during the life of an installation.",
    )
    journal_limit: int = Field(
        default=100_000, ge=1, description="Entries that one shard of the journal may hold before they are drained."
    )
    journal_wait: float = Field(
        default=0.0,
        ge=0,
        description="Seconds that a record waits for room in a full journal before it goes straight to the table.",
    )
    durability: Durability = Field(
        default="valkey",
        description="The least durability that `record` may return; a server that gives less is rejected.",
    )

    # Warehouse
    warehouse_url: _SecretUrl | None = Field(
        default=None,
        description="URL of the warehouse: duckdb:///file.duckdb, redshift+redshift_connector://user:password@host/db, "
        "or redshift+data://workgroup/db for the Data API. Unset: no warehouse.",
    )
    warehouse_schema: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,126}$",
        description="Schema of the warehouse's tables. Unset: the user's own, which is public in Redshift.",
    )
    landed_table: str = Field(
        default="AgentTable",
        min_length=1,
        description='Name of the table in Redshift that zero-ETL fills, such as dbagent.public."AgentTable".',
    )
    feed: FeedName = Field(
        default="scan",
        description="How items come into a DuckDB warehouse: `scan` reads the whole table, `stream` reads DynamoDB "
        "Streams, `journal` takes what this process drains.",
    )
    warehouse_memory: str | None = Field(
        default=None, description="The most memory DuckDB may use, such as 2GB; the rest goes to disk. Unset: no limit."
    )

    # Costs
    prices: str | None = Field(
        default=None,
        min_length=1,
        description="Path of a JSON file with the prices of models, in the format of LiteLLM's "
        "model_prices_and_context_window.json or of genai-prices' data.json. Unset: costs are unknown.",
    )

    # Learning
    language: Language = Field(
        default="en", description="Language of what commands print for people: `en` or `ko`. JSON is the same in both."
    )
    ranking: Ranking = Field(default="classic", description="Which score orders agents: `classic` or `evidence`.")
    half_life_days: float = Field(
        default=30.0,
        gt=0,
        description="Days after which an execution counts half in the `evidence` ranking.",
    )
    revision_prior: float = Field(
        default=10.0,
        ge=1,
        description="Executions that earlier revisions of an agent count as at most beside its present one; half of "
        "that after as many executions of the present one.",
    )
    ttl_days_high: int = Field(
        default=60, ge=1, description="Days that history with a score of at least `ttl_score` is kept."
    )
    ttl_days_low: int = Field(default=30, ge=1, description="Days that all other history is kept.")
    ttl_score: float = Field(
        default=1.0, ge=0, description="Score from which history is kept for `ttl_days_high` days."
    )

    route_by_descriptions: bool = Field(
        default=False,
        description="Whether a plan may take a domain that was found by names, descriptions and tools alone, as long "
        "as fewer than five requests of it are known.",
    )
    holdout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of plans that are made and recorded, but withheld, so that `agentmodel impact` can measure "
        "what plans change: 0.1 is one in ten.",
    )
    review_below: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Chance of success below which a plan asks for a person's approval.",
    )
    review_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of runs, the least likely to succeed, that asks for a person's approval, such as 0.15; a "
        "publish finds the chance below which it lies in each domain. Unset: `review_below` decides.",
    )
    guard_timeout: float = Field(
        default=2.0,
        gt=0,
        description="Seconds that a guard may wait for DynamoDB to decide about a call. What it does not know by then "
        "counts as unknown: the call is made, or blocked if a person may have to be asked.",
    )

    review_runs: Literal["never", "suspect"] = Field(
        default="never",
        description="Whether a person is asked about a run that ended and looks wrong: its writes are not those of the "
        "earlier successes of its user and category, which repeat each other's (suspect).",
    )

    review_webhook_url: SecretStr | None = Field(
        default=None,
        description="Where new, escalated and expired questions to people are reported, by signed requests in the "
        "format of Standard Webhooks: an https:// URL, or http:// on this machine. Unset: nowhere.",
    )
    review_webhook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs these requests: `whsec_` and 24 to 64 bytes in base64.",
    )

    # Privacy
    redact: Literal["off", "on", "token"] = Field(
        default="off",
        description="Whether secrets and personal data in texts are redacted before they are kept: `on` puts their "
        "kind in their place, `token` a keyed token that is the same for equal values.",
    )
    redact_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Secret of at least 16 characters that makes the tokens; all programs of an installation need the "
        "same one.",
    )

    # MCP server
    mcp_user: str | None = Field(
        default=None, description="Id of the user who calls the MCP server where no token names one."
    )
    mcp_roles: str = Field(
        default="reader,recorder",
        description="Roles of `mcp_user`, joined by commas: reader, recorder, reviewer, operator, curator.",
        pattern=r"^(reader|recorder|reviewer|operator|curator)(,(reader|recorder|reviewer|operator|curator))*$",
    )
    mcp_self_review: bool = Field(
        default=False,
        description="Whether a reviewer may decide reviews of its own sessions through the MCP server or the console.",
    )
    mcp_answer_characters: int = Field(
        default=40_000,
        ge=40_000,
        description="The most characters of an answer of the MCP server: texts are cut and pages end so that it has no "
        "more.",
    )
    mcp_calls_per_minute: int = Field(
        default=300,
        ge=0,
        description="The most calls of the MCP server that a caller may make in a minute. 0: no limit.",
    )
    mcp_state_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Secret of at least 32 characters that signs open forms of the MCP server; all workers need the "
        "same one.",
    )

    @field_validator("endpoint", "valkey_url")
    @classmethod
    def _password_ends_where_it_should(cls, value: str | None) -> str | None:
        try:
            stray = value is not None and misplaced_at(value)
        except ValueError:  # its text may be a part of a password
            stray = True
        if stray:
            raise ValueError(
                "cannot be read: write @ in a password as %40, and / ? [ ] and the number sign as %2F %3F %5B %5D %23"
            )
        return value

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("must be a URL such as http://127.0.0.1:8000")
        return value

    @field_validator("valkey_url")
    @classmethod
    def _valkey_url_is_known(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in _VALKEY_SCHEMES:
            raise ValueError(
                "must be a URL such as valkey://127.0.0.1:6379/0, its scheme one of " + ", ".join(_VALKEY_SCHEMES)
            )
        return value

    @field_validator("review_webhook_url")
    @classmethod
    def _webhook_is_a_safe_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            url = urlsplit(value.get_secret_value())
            if not url.hostname or (url.scheme != "https" and (url.scheme != "http" or url.hostname not in _LOOPBACK)):
                raise ValueError("must be a URL such as https://example.com/reviews, or http://127.0.0.1:8000/reviews")
        return value

    @field_validator("review_webhook_secret")
    @classmethod
    def _webhook_secret_is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            text = value.get_secret_value()
            try:
                key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except ValueError:  # its text may be a part of the secret
                key = b""
            if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
                raise ValueError("must be whsec_ and 24 to 64 random bytes in base64")
        return value

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError(
                "AGENTMODEL_ACCESS_KEY_ID and AGENTMODEL_SECRET_ACCESS_KEY must be set together: set both or neither"
            )
        if (self.review_webhook_url is None) != (self.review_webhook_secret is None):
            raise ValueError(
                "AGENTMODEL_REVIEW_WEBHOOK_URL and AGENTMODEL_REVIEW_WEBHOOK_SECRET must be set together: set both or "
                "neither"
            )
        if self.redact == "token" and self.redact_key is None:
            raise ValueError("AGENTMODEL_REDACT_KEY must be set, because AGENTMODEL_REDACT is token")
        if self.ttl_days_low > self.ttl_days_high:
            raise ValueError(
                f"AGENTMODEL_TTL_DAYS_LOW ({self.ttl_days_low}) must not exceed AGENTMODEL_TTL_DAYS_HIGH "
                f"({self.ttl_days_high}): lower the one or raise the other"
            )
        return self

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the settings from the environment; ``overrides`` win over it.

        Raises:
            ConfigurationError: A value is not accepted, and the message names each variable, its value and the rule; or
                a variable ``AGENTMODEL_…`` is no setting, and the message names the nearest one. Those that begin with
                ``AGENTMODEL_TEST_`` are left to tests.

        >>> Settings.load(table="History").table
        'History'
        >>> Settings.load(ranking="best")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.ConfigurationError: AGENTMODEL_RANKING ('best') must be 'classic' or ...
        """
        given = [name.lower() for name, value in sorted(os.environ.items()) if not _OF_OTHERS.search(f"{name}={value}")]
        names = [name.removeprefix("agentmodel_") for name in given if name.startswith("agentmodel_")]
        if unknown := [name for name in names if name not in cls.model_fields]:
            raise ConfigurationError("; ".join(map(_not_a_setting, unknown)))
        try:
            return cls(**overrides)
        except pydantic.ValidationError as error:
            raise ConfigurationError("; ".join(map(_sentence, error.errors()))) from None


class SettingsOptions(TypedDict, total=False):
    """The settings as keyword arguments of `AgentModel.local`, which an editor completes; see `Settings`.

    ``redact`` is an argument of its own there.

    >>> options: SettingsOptions = {"table": "History", "ranking": "evidence"}
    >>> Settings.load(**options).ranking
    'evidence'
    """

    table: str
    region: str
    endpoint: str | None
    access_key_id: str | None
    secret_access_key: SecretStr | str | None
    dynamodb_timeout: float
    dynamodb_attempts: int
    batch_deadline: float
    mapping_partitions: int
    valkey_url: str | None
    valkey_timeout: float
    valkey_connect_timeout: float
    valkey_prefix: str
    shards: int
    journal_limit: int
    journal_wait: float
    durability: Durability
    warehouse_url: str | None
    warehouse_schema: str | None
    landed_table: str
    feed: FeedName
    warehouse_memory: str | None
    prices: str | None
    language: Language
    ranking: Ranking
    half_life_days: float
    revision_prior: float
    ttl_days_high: int
    ttl_days_low: int
    ttl_score: float
    route_by_descriptions: bool
    holdout: float
    review_below: float
    review_share: float | None
    review_runs: Literal["never", "suspect"]
    guard_timeout: float
    review_webhook_url: SecretStr | str | None
    review_webhook_secret: SecretStr | str | None
    redact_key: SecretStr | str | None
    mcp_user: str | None
    mcp_roles: str
    mcp_self_review: bool
    mcp_answer_characters: int
    mcp_calls_per_minute: int
    mcp_state_key: SecretStr | str | None


def _not_a_setting(name: str) -> str:
    similar = get_close_matches(name, Settings.model_fields, n=1)
    remedy = f"use AGENTMODEL_{similar[0].upper()}" if similar else "unset it"
    return f"AGENTMODEL_{name.upper()} is not a setting: {remedy}"


def _sentence(problem: ErrorDetails) -> str:
    """Say what is wrong with a setting; the value of one that may hold a secret is not shown."""
    rule = rule_of(problem["msg"])
    if not problem["loc"]:
        return rule
    name = "_".join(map(str, problem["loc"])).lower()
    variable = f"AGENTMODEL_{name.upper()}"
    if problem["type"] == "extra_forbidden":
        return _not_a_setting(name)
    given = problem["input"]
    if name == "endpoint" and isinstance(given, str):
        given = without_secrets(given)
    return f"{variable} {rule}" if name in _SECRET else f"{variable} ({shown(given)}) {rule}"
