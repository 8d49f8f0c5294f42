"""Connections to Redshift: what a URL may say beyond host and password, and how each connection is set up.

All options of redshift_connector can be given as the URL's query, such as
``redshift+redshift_connector://@/dev?iam=true&is_serverless=true&serverless_work_group=agents&region=eu-west-1``.
``redshift+data://agents/dev`` goes by the Data API instead, and needs no way into a VPC.
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
    """Return the URL without its query, and the query as redshift_connector's typed options.

    Raises:
        ConfigurationError: An option is not one of redshift_connector's, or a flag or number says something else.
    """
    options: dict[str, Any] = {}
    for name, given in url.query.items():
        value = given if isinstance(given, str) else given[-1]
        options[name] = _typed(name, value)
    if options.get("is_serverless") and not options.get("iam"):
        raise ConfigurationError("is_serverless in the warehouse URL needs iam=true: serverless log-ins are IAM's")
    return url.set(drivername="redshift+redshift_connector", query={}), options


def _typed(name: str, value: str) -> Any:
    if name in FLAGS:
        if value.lower() not in ("true", "false"):
            raise ConfigurationError(f"{name}={value} in the warehouse URL is refused: give true or false")
        return value.lower() == "true"
    if name in NUMBERS:
        if not value.isdecimal():
            raise ConfigurationError(f"{name}={value} in the warehouse URL is refused: give a whole number")
        return int(value)
    if name in LISTS:
        return value.split(",")
    if name not in TEXTS:
        raise ConfigurationError(f"{name} in the warehouse URL is refused: redshift_connector has no such option")
    return value


def redshift_engine(url: URL) -> Engine:
    """Open Redshift as an engine: every connection keeps capitals in names, and is tried before it is lent again.

    A URL ``redshift+data://…`` is opened by the Data API; see `agentmodel.redshift._dataapi`.

    Raises:
        ConfigurationError: An option of the URL is not accepted.
        MissingExtraError: The packages of the extra ``redshift`` are not installed.
    """
    if url.drivername == "redshift+data":
        from agentmodel.redshift._dataapi import data_api_engine

        return data_api_engine(url, opening=SESSION)
    bare, options = split_url(url)
    try:
        engine = create_engine(bare, connect_args=options, pool_pre_ping=True)
    except (ImportError, exc.NoSuchModuleError):
        raise MissingExtraError("redshift", "the warehouse on Redshift") from None
    event.listen(engine, "connect", prepare)
    return engine


def prepare(connection: Any, _record: Any) -> None:
    """Set a new connection up, in a transaction of its own."""
    cursor = connection.cursor()
    cursor.execute(SESSION)
    connection.commit()
    cursor.close()
