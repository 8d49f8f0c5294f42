"""Run SQL on Redshift through its Data API: HTTPS calls with IAM rights, where a connection needs a path into the VPC.

This is a PEP 249 driver over botocore's ``redshift-data`` client, with its SQLAlchemy dialect, so that every statement
of this package runs over it unchanged. A connection is a session of the Data API (``SessionId``): one connection to
Redshift that stays open between calls and runs its statements in order, so BEGIN and COMMIT are ordinary statements.
A batch (``BatchExecuteStatement``) is a transaction too, but it has at most 40 statements, and a refresh has more.

Only texts are sent as parameters, because the Data API takes texts only, and neither NULL nor an empty text. Numbers,
days and times are written into the statement, in forms that cannot contain a quote.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.pool import QueuePool

from agentmodel.exceptions import ConfigurationError, MissingExtraError

try:
    from sqlalchemy_redshift.dialect import RedshiftCompiler, RedshiftDialectMixin
except ImportError:
    raise MissingExtraError("redshift", "the warehouse on Redshift", "sqlalchemy_redshift") from None

__all__ = ["DataApiConnection", "DataApiDialect", "data_api_engine"]

# PEP 249
apilevel, threadsafety, paramstyle = "2.0", 1, "named"


class Error(Exception):
    """Base class of the driver's errors, which PEP 249 requires."""


class DatabaseError(Error):
    """Redshift rejected a statement."""


class OperationalError(DatabaseError):
    """The Data API did not answer or rejected the call, or the statement took too long."""


class ProgrammingError(DatabaseError):
    """The statement is wrong."""


_TEXTS: Final = ("cluster", "db_user", "endpoint", "profile", "region", "secret_arn")
_NUMBERS: Final = {"timeout": 900, "keep_alive": 300}
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.05, 2.0, 1.5  # seconds between two polls of a running statement


# -- the driver -------------------------------------------------------------------------------------------------------


class DataApiConnection:
    """A PEP 249 connection over a session of the Data API.

    Args:
        client: botocore's ``redshift-data`` client.
        target: The arguments of the session's first call that name warehouse and user, such as ``WorkgroupName`` and
            ``Database``.
        opening: The statements that a session begins with.
        timeout: Seconds after which a statement is cancelled.
        keep_alive: Seconds for which the session lasts after its last statement; it cannot be closed.
        pause: Waits for some seconds.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        client: Any,
        target: Mapping[str, str],
        *,
        opening: Sequence[str],
        timeout: float,
        keep_alive: int,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._first_call = {**target, "SessionKeepAliveSeconds": keep_alive}
        self._opening = opening
        self._timeout = timeout
        self._pause = pause
        self._clock = clock
        self._session: str | None = None
        self._in_transaction = False

    def cursor(self) -> Cursor:
        """Return a cursor inside this connection's transaction."""
        return Cursor(self)

    def commit(self) -> None:
        """Commit the open transaction, if there is one."""
        if self._in_transaction:
            self._run("COMMIT", ())
            self._in_transaction = False

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        if self._in_transaction:
            self._in_transaction = False
            self._run("ROLLBACK", ())

    def close(self) -> None:
        """Abandon the session; Redshift ends it and its open transaction after ``keep_alive`` seconds."""
        self._session = None
        self._in_transaction = False

    def run(self, statement: str, parameters: Sequence[Mapping[str, str]]) -> Mapping[str, Any]:
        """Run a statement in the transaction, which the first one begins; return the Data API's description of it."""
        if not self._in_transaction:
            self._begin()
            self._in_transaction = True
        return self._run(statement, parameters)

    def _begin(self) -> None:
        if self._session is not None:
            try:
                self._run("BEGIN", ())
            except OperationalError:
                self._session = None  # Redshift has ended the idle session
            else:
                return
        first, *others = self._opening
        self._session = self._run(first, ()).get("SessionId")
        if not self._session:  # each statement would be a transaction of its own
            raise OperationalError("the Data API opened no session, so nothing was run: try again")
        for statement in others:
            self._run(statement, ())
        self._run("BEGIN", ())

    def _run(self, statement: str, parameters: Sequence[Mapping[str, str]]) -> Mapping[str, Any]:
        # SessionId replaces the arguments of the first call; the Data API rejects both together
        target = self._first_call if self._session is None else {"SessionId": self._session}
        arguments = {"Parameters": list(parameters)} if parameters else {}
        started = self.call("execute_statement", Sql=statement, **target, **arguments)
        try:
            found = self._wait_for(started["Id"])
        except BaseException:
            self._cancel(started["Id"])
            raise
        if found["Status"] == "FINISHED":
            return {**started, **found}
        problem = found.get("Error") or f"the statement was {found['Status'].lower()}"
        kind = ProgrammingError if found["Status"] == "FAILED" else OperationalError
        raise kind(problem.removeprefix("ERROR: "))

    def _wait_for(self, statement: str) -> Mapping[str, Any]:
        """Poll a statement until it has ended; return its description."""
        pause, end = _FIRST_PAUSE, self._clock() + self._timeout
        while True:
            found: Mapping[str, Any] = self.call("describe_statement", Id=statement)
            if found["Status"] in {"FINISHED", "FAILED", "ABORTED"}:
                return found
            remaining = end - self._clock()
            if remaining <= 0:
                raise OperationalError(
                    f"a statement took longer than {self._timeout:g} s and was cancelled; raise timeout in the "
                    "warehouse URL"
                )
            self._pause(min(pause, remaining))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _cancel(self, statement: str) -> None:
        try:
            self.call("cancel_statement", Id=statement)
        except OperationalError:
            return  # it has ended, or the Data API does not answer: the error that is being raised says more

    def call(self, operation: str, **request: Any) -> Any:
        """Call the Data API; botocore retries with the same ``ClientToken``, so no statement runs twice."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(**request)
        except ClientError as error:
            details = error.response.get("Error", {})
            raise OperationalError(f"{details.get('Code', 'error')}: {details.get('Message', error)}") from error
        except BotoCoreError as error:
            raise OperationalError(str(error)) from error


class Cursor:
    """A PEP 249 cursor: one statement and its rows, fetched page by page when they are read."""

    arraysize = 1

    def __init__(self, connection: DataApiConnection) -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement and wait until it has ended.

        Raises:
            ProgrammingError: Redshift rejects the statement.
            OperationalError: The Data API does not answer, or the statement takes too long.
        """
        text, sent = bind(statement, parameters or {})
        found = self._connection.run(text, sent)
        self.description, self._rows = None, iter(())
        self.rowcount = int(found.get("ResultRows", -1))
        if found.get("HasResultSet"):
            first = self._connection.call("get_statement_result", Id=found["Id"])
            columns = first["ColumnMetadata"]
            self.description = [
                (column.get("label") or column.get("name"), column.get("typeName"), None, None,
                 column.get("precision"), column.get("scale"), column.get("nullable"))
                for column in columns
            ]  # fmt: skip
            types = [_PARSERS.get(str(column.get("typeName", "")).lower()) for column in columns]
            self._rows = self._pages(found["Id"], first, types)

    def _pages(
        self, statement: str, page: Mapping[str, Any], types: Sequence[Callable[[str], Any] | None]
    ) -> Iterator[tuple[Any, ...]]:
        while True:
            for record in page["Records"]:
                yield tuple(_value(field, read) for field, read in zip(record, types, strict=True))
            token = page.get("NextToken")
            if not token:
                return
            page = self._connection.call("get_statement_result", Id=statement, NextToken=token)

    def executemany(self, statement: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters; use it for a few only, because each is a call."""
        for each in parameters:
            self.execute(statement, each)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        return list(islice(self._rows, size or self.arraysize))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all remaining rows."""
        return list(self._rows)

    def close(self) -> None:
        """Drop the remaining rows."""
        self._rows = iter(())


# -- parameters and results -------------------------------------------------------------------------------------------

_PARAMETERS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![:\w]):([A-Za-z_]\w*)""")
"""Pattern of a quoted text, a quoted name, or a parameter."""


def bind(statement: str, parameters: Mapping[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """Return a statement and its parameters as the Data API takes them.

    >>> from datetime import date
    >>> bind("SELECT :a, :b, ':a', :c", {"a": "x", "b": date(2025, 6, 14), "c": None})
    ("SELECT :a, CAST('2025-06-14' AS DATE), ':a', NULL", [{'name': 'a', 'value': 'x'}])
    """
    sent: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None or name not in parameters:
            return found.group()
        value = parameters[name]
        if isinstance(value, str) and value:
            sent[name] = value
            return found.group()
        return _literal(name, value)

    text = _PARAMETERS.sub(replace, statement)
    return text, [{"name": name, "value": value} for name, value in sent.items()]


def _literal(name: str, value: Any) -> str:
    """Return a value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE PRECISION)"
    if isinstance(value, datetime):
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    if isinstance(value, date):
        return f"CAST('{value.isoformat()}' AS DATE)"
    if value == "":
        return "''"
    raise ProgrammingError(
        f"parameter {name} is a {type(value).__name__}, which cannot be sent: use text, a number or a time"
    )


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "numeric": Decimal,
    "int2": int,
    "int4": int,
    "int8": int,
    "float4": float,
    "float8": float,
    "bool": lambda text: text in {"t", "true", "1"},
}
"""Functions that turn the Data API's text of a column type into what redshift_connector returns for it."""


def _value(field: Mapping[str, Any], read: Callable[[str], Any] | None) -> Any:
    if field.get("isNull"):
        return None
    (value,) = field.values()
    return read(value) if isinstance(value, str) and read is not None else value


# -- SQLAlchemy -------------------------------------------------------------------------------------------------------


class DataApiDialect(RedshiftDialectMixin, PGDialect):  # type: ignore[misc]  # sqlalchemy-redshift is untyped
    """Run Redshift's SQL on connections over the Data API."""

    name = "redshift"
    driver = "data"
    statement_compiler = RedshiftCompiler
    default_paramstyle = paramstyle
    supports_statement_cache = True
    cte_follows_insert = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    insert_returning = update_returning = delete_returning = False

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return this module, which is the driver."""
        return sys.modules[__name__]

    def initialize(self, connection: Any) -> None:
        """Do nothing: the dialect needs no information from the server."""


def data_api_engine(url: URL, *, opening: Sequence[str]) -> Engine:
    """Return an engine on Redshift that uses the Data API.

    Args:
        url: ``redshift+data://workgroup/database``, or ``redshift+data:///database?cluster=…&db_user=…``. Its query may
            hold ``secret_arn``, ``region``, ``profile``, ``endpoint``, and in seconds ``timeout`` and ``keep_alive``.
        opening: The statements that each session begins with.

    Raises:
        ConfigurationError: A part of the URL is missing or not valid, or botocore is too old.
    """
    target, options = _read(url)
    client = _client(options)
    timeout, keep_alive = (int(options.get(name, default)) for name, default in _NUMBERS.items())
    registry.register("redshift.data", __name__, DataApiDialect.__name__)
    return create_engine(
        url.set(drivername="redshift+data", query={}),
        creator=lambda: DataApiConnection(client, target, opening=opening, timeout=timeout, keep_alive=keep_alive),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=14,
    )


def _read(url: URL) -> tuple[dict[str, str], dict[str, str]]:
    options = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    unknown = sorted(options.keys() - {*_TEXTS, *_NUMBERS})
    if unknown:
        known = ", ".join(sorted([*_TEXTS, *_NUMBERS]))
        raise ConfigurationError(
            f"the warehouse URL has {unknown[0]}, which is not an option of the Data API: remove it, or use one of "
            f"{known}"
        )
    for name in _NUMBERS:
        if not options.get(name, "1").isdecimal() or not int(options.get(name, "1")):
            raise ConfigurationError(
                f"the warehouse URL has {name}={options[name]}, which is not a whole number of seconds above 0: write "
                "one such as 300"
            )
    if url.username or url.password:
        raise ConfigurationError(
            "the warehouse URL has a user or a password, which the Data API does not take: remove them, or give "
            "secret_arn"
        )
    if bool(url.host) == ("cluster" in options):
        raise ConfigurationError(
            "the warehouse URL must name either a workgroup as its host or a cluster by ?cluster=…, and not both"
        )
    if not url.database:
        raise ConfigurationError("the warehouse URL names no database: give one, such as redshift+data://agents/dev")
    target = {"Database": url.database, **({"WorkgroupName": url.host} if url.host else {})}
    names = {"cluster": "ClusterIdentifier", "db_user": "DbUser", "secret_arn": "SecretArn"}
    return target | {key: options[name] for name, key in names.items() if name in options}, options


def _client(options: Mapping[str, str]) -> Any:
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session(profile=options.get("profile"))
        client = session.create_client(
            "redshift-data", region_name=options.get("region"), endpoint_url=options.get("endpoint")
        )
    except BotoCoreError as error:
        raise ConfigurationError(
            f"cannot create a client of the Data API: {error}; give region or profile in the warehouse URL"
        ) from error
    if "SessionId" not in client.meta.service_model.operation_model("ExecuteStatement").input_shape.members:
        raise ConfigurationError(
            "the installed botocore is too old for sessions of the Data API, which need 1.35.10 or newer: run "
            "pip install -U botocore"
        )
    return client
