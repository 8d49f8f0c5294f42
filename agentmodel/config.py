"""Settings: one frozen object, read from ``AGENTMODEL_*`` in this one place.

>>> Settings(table="History", ranking="evidence").table
'History'
"""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

import pydantic
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentmodel.exceptions import ConfigurationError

__all__ = ["Durability", "FeedName", "Ranking", "Settings"]

Durability = Literal["valkey", "valkey-replicated", "valkey-durable", "dynamodb"]
"""Where a write must have arrived before `record` returns, weakest first."""

Ranking = Literal["classic", "evidence"]
"""Which number orders agents: the score formula of the design, or the mean of a Beta posterior."""

FeedName = Literal["scan", "stream", "journal"]
"""How the table's items come into a DuckDB warehouse; to Redshift, zero-ETL brings them."""

_VALKEY_SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix", "valkey+cluster", "valkeys+cluster")


class Settings(BaseSettings):
    """What an installation can choose. Every field is also an environment variable ``AGENTMODEL_<FIELD>``.

    Nothing here has to be set for `AgentModel.local`; `AgentModel.from_settings` needs what it is to reach.
    """

    model_config = SettingsConfigDict(env_prefix="AGENTMODEL_", frozen=True, extra="forbid", case_sensitive=False)

    # DynamoDB
    table: str = Field(
        default="AgentTable", description="Name of the DynamoDB table.", pattern=r"^[A-Za-z0-9_.\-]{3,255}$"
    )
    region: str = Field(default="us-east-1", description="AWS region of the table.", min_length=1)
    endpoint: str | None = Field(default=None, description="URL of a DynamoDB endpoint; unset means AWS.")
    access_key_id: str | None = Field(default=None, description="AWS access key; unset means botocore's own search.")
    secret_access_key: SecretStr | None = Field(default=None, description="AWS secret key that belongs to it.")
    dynamodb_timeout: float = Field(default=2.0, gt=0, description="Seconds to wait for one answer of DynamoDB.")
    dynamodb_attempts: int = Field(default=4, ge=1, description="How often botocore tries a call in all.")
    batch_deadline: float = Field(
        default=30.0, gt=0, description="Seconds after which a batch gives its unprocessed items back."
    )
    mapping_partitions: int = Field(
        default=1,
        ge=1,
        le=999,
        description="Index partitions the mappings of all users are spread over; 1 is the sample's key.",
    )

    # Valkey
    valkey_url: str | None = Field(
        default=None,
        description="valkey://, valkeys:// (TLS), unix://, valkey+cluster:// or valkeys+cluster://; "
        "redis:// and rediss:// are read too. Unset means: no cache and no journal, writes go straight to the table.",
    )
    valkey_timeout: float = Field(default=0.25, gt=0, description="Seconds to wait for one answer of Valkey.")
    valkey_connect_timeout: float = Field(default=0.1, gt=0, description="Seconds to wait for a connection to Valkey.")
    valkey_prefix: str = Field(
        default="am", pattern=r"^[A-Za-z0-9_.\-]{1,32}$", description="First part of every Valkey key."
    )
    shards: int = Field(
        default=64, ge=1, le=100, description="Shards of the journal; fixed for the life of an installation."
    )
    journal_limit: int = Field(
        default=100_000, ge=1, description="Entries one shard of the journal may hold undrained."
    )
    journal_wait: float = Field(
        default=0.0,
        ge=0,
        description="Seconds a record waits for room in a journal at its bound, before it goes straight to the table.",
    )
    durability: Durability = Field(default="valkey", description="The least a receipt of `record` may say.")

    # Warehouse
    warehouse_url: str | None = Field(
        default=None,
        description="duckdb:///file.duckdb, redshift+redshift_connector://user:password@host/db, or "
        "redshift+data://workgroup/db, which goes by the Data API.",
    )
    landed_table: str = Field(
        default="AgentTable",
        min_length=1,
        description='Where zero-ETL lands the table, such as dbagent.public."AgentTable".',
    )
    feed: FeedName = Field(
        default="scan",
        description="How items come into a DuckDB warehouse: by reading the whole table, by DynamoDB Streams, or from "
        "what this process drains.",
    )
    warehouse_memory: str | None = Field(
        default=None, description="The most memory DuckDB may take, such as 2GB; what does not fit goes to disk."
    )

    # Learning
    ranking: Ranking = Field(default="classic", description="Which number orders agents.")
    half_life_days: float = Field(
        default=30.0, gt=0, description="Half-life of an execution in the `evidence` ranking, in days."
    )
    ttl_days_high: int = Field(default=60, ge=1, description="Days history is kept when its score is high.")
    ttl_days_low: int = Field(default=30, ge=1, description="Days history is kept when its score is low.")
    ttl_score: float = Field(default=1.0, ge=0, description="From this score up, history counts as high.")

    # MCP server
    mcp_user: str | None = Field(default=None, description="Who calls the MCP server where no token says it.")
    mcp_roles: str = Field(
        default="reader,recorder",
        description="What that caller may do: reader, recorder, reviewer, operator, joined by commas.",
        pattern=r"^(reader|recorder|reviewer|operator)(,(reader|recorder|reviewer|operator))*$",
    )
    mcp_self_review: bool = Field(
        default=False, description="Whether a reviewer may decide about its own sessions through the MCP server."
    )
    mcp_state_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Secret that seals open forms of the MCP server; the same for all workers, at least 32 characters.",
    )

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("give a URL such as http://127.0.0.1:8000")
        return value

    @field_validator("valkey_url")
    @classmethod
    def _valkey_url_is_known(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in _VALKEY_SCHEMES:
            raise ValueError(
                "give a URL such as valkey://127.0.0.1:6379/0, its scheme one of " + ", ".join(_VALKEY_SCHEMES)
            )
        return value

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key are given together or not at all")
        if self.ttl_days_low > self.ttl_days_high:
            raise ValueError("ttl_days_low is at most ttl_days_high")
        return self

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Settings from the environment, with ``overrides`` winning over it.

        Raises:
            ConfigurationError: A value is not accepted; the message names each variable and the rule it breaks.
        """
        try:
            return cls(**overrides)
        except pydantic.ValidationError as error:
            raise ConfigurationError(_told(error)) from None


def _told(error: pydantic.ValidationError) -> str:
    problems = []
    for problem in error.errors():
        name = "_".join(str(part) for part in problem["loc"]).upper()
        rule = problem["msg"].removeprefix("Value error, ")
        problems.append(f"AGENTMODEL_{name}: {rule}" if name else rule)
    return "; ".join(problems)
