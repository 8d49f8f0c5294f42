"""Connect to Redshift by a URL, whose query holds the options of redshift_connector.

An example is
``redshift+redshift_connector://@/dev?iam=true&is_serverless=true&serverless_work_group=agents&region=eu-west-1``.
A URL such as ``redshift+data://agents/dev`` uses the Data API instead, which needs no network path into a VPC.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, exc

from agentmodel.exceptions import ConfigurationError, MissingExtraError

__all__ = ["redshift_engine", "split_url"]

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


def redshift_engine(url: URL) -> Engine:
    """Return an engine on Redshift; its connections keep capitals in names, and the pool tests them before each use.

    A URL ``redshift+data://…`` uses the Data API; see `agentmodel.redshift._data_api`.

    Raises:
        ConfigurationError: An option of the URL is not valid.
        MissingExtraError: The packages of the extra ``redshift`` are not installed.
    """
    if url.drivername == "redshift+data":
        from agentmodel.redshift._data_api import data_api_engine

        return data_api_engine(url, opening=SESSION)
    bare, options = split_url(url)
    try:
        engine = create_engine(bare, connect_args=options, pool_pre_ping=True)
    except (ImportError, exc.NoSuchModuleError):
        raise MissingExtraError("redshift", "the warehouse on Redshift") from None
    engine.dialect.cte_follows_insert = True  # Redshift has no WITH before INSERT
    event.listen(engine, "connect", prepare)
    return engine


def prepare(connection: Any, _record: Any) -> None:
    """Set up a new connection, in a transaction of its own."""
    cursor = connection.cursor()
    cursor.execute(SESSION)
    connection.commit()
    cursor.close()
