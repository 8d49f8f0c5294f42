"""Connect to Redshift by a URL, whose query holds the options of redshift_connector.

An example is
``redshift+redshift_connector://@/dev?iam=true&is_serverless=true&serverless_work_group=agents&region=eu-west-1``.
A URL such as ``redshift+data://agents/dev`` uses the Data API instead, which needs no network path into a VPC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, exc

from agentmodel.exceptions import ConfigurationError, MissingExtraError

__all__ = ["checked_schema", "opening", "redshift_engine", "split_url"]

FLAGS: Final = frozenset(
    {
        "allow_db_user_override", "auto_create", "database_metadata_current_db_only", "enable_table_types",
        "force_lowercase", "group_federation", "iam", "iam_disable_cache", "is_serverless", "numeric_to_float", "ssl",
        "ssl_insecure", "tcp_keepalive",
    }
)  # fmt: skip
NUMBERS: Final = frozenset(
    {
        "client_protocol_version", "idp_response_timeout", "listen_port", "max_prepared_statements",
        "tcp_keepalive_count", "tcp_keepalive_idle", "tcp_keepalive_interval", "timeout",
    }
)  # fmt: skip
LISTS: Final = frozenset({"db_groups"})
TEXTS: Final = frozenset(
    {
        "access_key_id", "app_id", "app_name", "application_name", "auth_profile", "client_id",
        "client_secret", "cluster_identifier", "credentials_provider", "db_user", "endpoint_url",
        "idc_client_display_name", "idc_region", "identity_namespace", "idp_host", "idp_partition",
        "idp_tenant", "issuer_url", "login_to_rp", "login_url", "partner_sp_id", "preferred_role",
        "principal_arn", "profile", "provider_name", "region", "role_arn", "role_session_name", "scope",
        "secret_access_key", "serverless_acct_id", "serverless_work_group", "session_token",
        "source_address", "sslmode", "token", "token_type", "unix_sock", "web_identity_token",
    }
)  # fmt: skip
"""Every option of redshift_connector beyond user, password, host, port and database, by its type."""

SCHEMA_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,126}$")

SESSION: Final = "SET enable_case_sensitive_identifier TO TRUE"  # zero-ETL's "PK" and "SK" are in capitals


def split_url(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return the URL without its query, and the query as typed options of redshift_connector.

    Raises:
        ConfigurationError: An option is unknown to redshift_connector, or the value of a flag or a number is not valid.
    """
    options: dict[str, Any] = {}
    for name, value in url.query.items():
        options[name] = _typed(name, value if isinstance(value, str) else value[-1])
    if options.get("is_serverless") and not options.get("iam"):
        raise ConfigurationError(
            "the warehouse URL has is_serverless without iam=true: add iam=true, because Redshift Serverless logs in "
            "by IAM"
        )
    return url.set(drivername="redshift+redshift_connector", query={}), options


def _typed(name: str, value: str) -> Any:
    if name in FLAGS:
        if value.lower() not in ("true", "false"):
            raise ConfigurationError(
                f"the warehouse URL has {name}={value}, which is neither true nor false: write one of them"
            )
        return value.lower() == "true"
    if name in NUMBERS:
        if not value.isdecimal():
            raise ConfigurationError(
                f"the warehouse URL has {name}={value}, which is not a whole number: write one such as 10"
            )
        return int(value)
    if name in LISTS:
        return value.split(",")
    if name not in TEXTS:
        raise ConfigurationError(
            f"the warehouse URL has {name}, which is not an option of redshift_connector: remove it"
        )
    return value


def redshift_engine(url: URL, *, schema: str | None = None) -> Engine:
    """Return an engine on Redshift; its connections keep capitals in names, and the pool tests them before each use.

    A URL ``redshift+data://…`` uses the Data API; see `agentmodel.redshift._data_api`.

    Args:
        url: The URL.
        schema: The schema of tables that are named without one.

    Raises:
        ConfigurationError: An option of the URL is not valid.
        MissingExtraError: The packages of the extra ``redshift`` are not installed.
    """
    if url.drivername == "redshift+data":
        from agentmodel.redshift._data_api import data_api_engine

        return data_api_engine(url, opening=opening(schema))
    bare, options = split_url(url)
    try:
        engine = create_engine(bare, connect_args=options, pool_pre_ping=True)
    except (ImportError, exc.NoSuchModuleError):
        raise MissingExtraError("redshift", "the warehouse on Redshift") from None
    engine.dialect.cte_follows_insert = True  # Redshift has no WITH before INSERT
    # before SQLAlchemy asks the first connection for its schema
    event.listen(engine, "connect", prepare(schema), insert=True)
    return engine


def checked_schema(name: str | None) -> str | None:
    """Return the name of a schema, or None for none.

    Raises:
        ConfigurationError: It is not a name that needs no escaping.
    """
    if name is not None and not SCHEMA_NAME.match(name):
        raise ConfigurationError(
            f"the warehouse's schema is {name!r}, which is not a name of a schema: give one of letters, digits and _, "
            "or set AGENTMODEL_WAREHOUSE_SCHEMA to one"
        )
    return name


def opening(schema: str | None) -> list[str]:
    """Return the statements that a session begins with."""
    return [SESSION] if schema is None else [SESSION, f'SET search_path TO "{schema}"']


def prepare(schema: str | None) -> Callable[[Any, Any], None]:
    """Return a function that sets up a new connection, in a transaction of its own."""

    def prepared(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for statement in opening(schema):
            cursor.execute(statement)
        connection.commit()
        cursor.close()

    return prepared
