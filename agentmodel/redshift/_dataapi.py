"""Redshift by its Data API: HTTPS calls with IAM's rights, where a connection would need a way into the VPC.

A PEP 249 driver over botocore's ``redshift-data`` client, and its SQLAlchemy dialect, so that every statement of this
package runs over it as it is. A connection is a session of the Data API (``SessionId``): one connection of Redshift
that is kept open between calls and runs its statements in order, so that BEGIN and COMMIT are statements like others.
A batch (``BatchExecuteStatement``) is a transaction too, but of 40 statements at most, and a refresh has more.

Of parameters only texts are sent as such: the Data API takes texts alone, and neither NULL nor an empty one. Numbers,
days and times are written into the statement, in forms that cannot hold a quote.
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

__all__ = ["Connection", "DataApiDialect", "data_api_engine"]

# PEP 249
apilevel, threadsafety, paramstyle = "2.0", 1, "named"


class Error(Exception):
    """Base of the driver's errors, as PEP 249 asks for it."""


class DatabaseError(Error):
    """Redshift refused a statement."""


class OperationalError(DatabaseError):
    """The Data API did not answer, refused the call, or the statement took too long."""


class ProgrammingError(DatabaseError):
    """The statement is wrong."""


_TEXTS: Final = ("cluster", "db_user", "endpoint", "profile", "region", "secret_arn")
_NUMBERS: Final = {"timeout": 900, "keep_alive": 300}
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.05, 2.0, 1.5  # seconds between two looks at a running statement


# -- the driver -------------------------------------------------------------------------------------------------------


class Connection:
    """PEP 249's connection over a session of the Data API.

    Args:
        client: botocore's ``redshift-data`` client.
        place: What names warehouse and user in the session's first call: ``WorkgroupName``, ``Database``, ….
        opening: Statement that opens the session.
        timeout: Seconds after which a statement is cancelled.
        keep_alive: Seconds the session lasts after its last statement; it cannot be closed.
        pause: Waits some seconds.
        clock: Tells seconds.
    """

    def __init__(
        self,
        client: Any,
        place: Mapping[str, str],
        *,
        opening: str,
        timeout: float,
        keep_alive: int,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._first = {**place, "SessionKeepAliveSeconds": keep_alive}
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
        """Commit, where a transaction is open."""
        if self._in_transaction:
            self._run("COMMIT", ())
            self._in_transaction = False

    def rollback(self) -> None:
        """Roll back, where a transaction is open."""
        if self._in_transaction:
            self._in_transaction = False
            self._run("ROLLBACK", ())

    def close(self) -> None:
        """Leave the session, which Redshift ends ``keep_alive`` seconds later, and an open transaction with it."""
        self._session = None
        self._in_transaction = False

    def run(self, statement: str, parameters: Sequence[Mapping[str, str]]) -> Mapping[str, Any]:
        """Run a statement inside the transaction, which begins with the first; what the Data API says of it."""
        if not self._in_transaction:
            self._begin()
            self._in_transaction = True
        return self._run(statement, parameters)

    def _begin(self) -> None:
        if self._session is not None:
            try:
                self._run("BEGIN", ())
            except OperationalError:
                self._session = None  # Redshift ends sessions that nobody uses
            else:
                return
        found = self._run(self._opening, ())
        self._session = found.get("SessionId")
        if not self._session:  # each statement would be a transaction of its own
            raise OperationalError("the Data API opened no session, so nothing was run")
        self._run("BEGIN", ())

    def _run(self, statement: str, parameters: Sequence[Mapping[str, str]]) -> Mapping[str, Any]:
        # SessionId stands in for what the first call said; the two together are refused
        where = self._first if self._session is None else {"SessionId": self._session}
        given = {"Parameters": list(parameters)} if parameters else {}
        started = self.call("execute_statement", Sql=statement, **where, **given)
        try:
            found = self._awaited(started["Id"])
        except BaseException:
            self._cancel(started["Id"])
            raise
        if found["Status"] == "FINISHED":
            return {**started, **found}
        problem = found.get("Error") or f"the statement was {found['Status'].lower()}"
        kind = ProgrammingError if found["Status"] == "FAILED" else OperationalError
        raise kind(problem.removeprefix("ERROR: "))

    def _awaited(self, statement: str) -> Mapping[str, Any]:
        pause, end = _FIRST_PAUSE, self._clock() + self._timeout
        while True:
            found: Mapping[str, Any] = self.call("describe_statement", Id=statement)
            if found["Status"] in {"FINISHED", "FAILED", "ABORTED"}:
                return found
            left = end - self._clock()
            if left <= 0:
                raise OperationalError(f"a statement took longer than {self._timeout:g} s and was cancelled")
            self._pause(min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _cancel(self, statement: str) -> None:
        try:
            self.call("cancel_statement", Id=statement)
        except OperationalError:
            return  # it ended meanwhile, or nobody answers: the error on its way says more

    def call(self, operation: str, **request: Any) -> Any:
        """Call the Data API; botocore tries again by itself, with the same ``ClientToken``, so nothing runs twice."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(**request)
        except ClientError as error:
            told = error.response.get("Error", {})
            raise OperationalError(f"{told.get('Code', 'error')}: {told.get('Message', error)}") from error
        except BotoCoreError as error:
            raise OperationalError(str(error)) from error


class Cursor:
    """PEP 249's cursor: one statement and its rows, fetched page by page as they are asked for."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement and wait for its end.

        Raises:
            ProgrammingError: Redshift refuses it.
            OperationalError: The Data API does not answer, or it took too long.
        """
        text, given = bound(statement, parameters or {})
        found = self._connection.run(text, given)
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
            types = [_READERS.get(str(column.get("typeName", "")).lower()) for column in columns]
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
        """Run a statement once for each set of parameters: for a handful, as each is a call."""
        for each in parameters:
            self.execute(statement, each)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        return list(islice(self._rows, size or self.arraysize))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())


# -- parameters and results -------------------------------------------------------------------------------------------

_PLACES = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![:\w]):([A-Za-z_]\w*)""")
"""A quoted text, a quoted name, or the place of a parameter."""


def bound(statement: str, parameters: Mapping[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """Return a statement and its parameters as the Data API takes them.

    >>> bound("SELECT :a, :b, ':a', :c", {"a": "x", "b": date(2025, 6, 14), "c": None})
    ("SELECT :a, CAST('2025-06-14' AS DATE), ':a', NULL", [{'name': 'a', 'value': 'x'}])
    """
    sent: dict[str, str] = {}

    def place(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None or name not in parameters:
            return found.group()
        value = parameters[name]
        if isinstance(value, str) and value:
            sent[name] = value
            return found.group()
        return _written(name, value)

    text = _PLACES.sub(place, statement)
    return text, [{"name": name, "value": value} for name, value in sent.items()]


def _written(name: str, value: Any) -> str:
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
    raise ProgrammingError(f"parameter {name} is a {type(value).__name__}, which no statement of this package has")


_READERS: Final[dict[str, Callable[[str], Any]]] = {
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
"""What the connector would give for a column's type, from the text that the Data API gives."""


def _value(field: Mapping[str, Any], read: Callable[[str], Any] | None) -> Any:
    if field.get("isNull"):
        return None
    (value,) = field.values()
    return read(value) if isinstance(value, str) and read is not None else value


# -- SQLAlchemy -------------------------------------------------------------------------------------------------------


class DataApiDialect(RedshiftDialectMixin, PGDialect):  # type: ignore[misc]  # sqlalchemy-redshift is untyped
    """Redshift's compilers on the Data API."""

    name = "redshift"
    driver = "data"
    statement_compiler = RedshiftCompiler
    default_paramstyle = paramstyle
    supports_statement_cache = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    insert_returning = update_returning = delete_returning = False

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return this module, which is the driver."""
        return sys.modules[__name__]

    def initialize(self, connection: Any) -> None:
        """Ask the server for nothing: what this dialect must know it knows."""


def data_api_engine(url: URL, *, opening: str) -> Engine:
    """Open Redshift by its Data API as an engine.

    Args:
        url: ``redshift+data://workgroup/database``, or ``redshift+data:///database?cluster=…&db_user=…``. Its query may
            hold ``secret_arn``, ``region``, ``profile``, ``endpoint``, ``timeout`` and ``keep_alive``, in seconds.
        opening: Statement that opens each session.

    Raises:
        ConfigurationError: The URL lacks something or says what is not accepted, or botocore is too old.
    """
    place, options = _read(url)
    client = _client(options)
    timeout, keep_alive = (int(options.get(name, default)) for name, default in _NUMBERS.items())
    registry.register("redshift.data", __name__, DataApiDialect.__name__)
    return create_engine(
        url.set(drivername="redshift+data", query={}),
        creator=lambda: Connection(client, place, opening=opening, timeout=timeout, keep_alive=keep_alive),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=14,
    )


def _read(url: URL) -> tuple[dict[str, str], dict[str, str]]:
    options = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    unknown = sorted(options.keys() - {*_TEXTS, *_NUMBERS})
    if unknown:
        known = ", ".join(sorted([*_TEXTS, *_NUMBERS]))
        raise ConfigurationError(f"{unknown[0]} in the warehouse URL is refused: the Data API takes {known}")
    for name in _NUMBERS:
        if not options.get(name, "1").isdecimal() or not int(options.get(name, "1")):
            raise ConfigurationError(f"{name}={options[name]} in the warehouse URL is refused: give whole seconds")
    if url.username or url.password:
        raise ConfigurationError("the Data API takes no user and password: leave them out, or name a secret_arn")
    if bool(url.host) == ("cluster" in options):
        raise ConfigurationError("the warehouse URL is to name a workgroup as its host, or ?cluster=…, and not both")
    if not url.database:
        raise ConfigurationError("the warehouse URL names no database: give one such as redshift+data://agents/dev")
    place = {"Database": url.database, **({"WorkgroupName": url.host} if url.host else {})}
    names = {"cluster": "ClusterIdentifier", "db_user": "DbUser", "secret_arn": "SecretArn"}
    return place | {key: options[name] for name, key in names.items() if name in options}, options


def _client(options: Mapping[str, str]) -> Any:
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session(profile=options.get("profile"))
        client = session.create_client(
            "redshift-data", region_name=options.get("region"), endpoint_url=options.get("endpoint")
        )
    except BotoCoreError as error:
        raise ConfigurationError(f"the Data API cannot be reached: {error}; name it in the warehouse URL") from error
    if "SessionId" not in client.meta.service_model.operation_model("ExecuteStatement").input_shape.members:
        raise ConfigurationError("the Data API's sessions need botocore 1.35.10 or newer: pip install -U botocore")
    return client
