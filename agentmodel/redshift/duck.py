"""DuckDB for SQLAlchemy: the small dialect under the laptop's warehouse.

The kept library for this, `duckdb-sqlalchemy`, admits DuckDB below 2 only, and holds every application that installs
it below 2 as well. What the warehouse needs of a dialect is little: PostgreSQL's grammar, no keys that cost
an index, and transactions. There is no reflection and no SAVEPOINT here; nothing of this package asks for them.

The engine's connections are cursors of one DuckDB database, so that `duckdb:///:memory:` is one database too, and every
connection has its own transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDDLCompiler, PGIdentifierPreparer, PGTypeCompiler
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.pool import QueuePool

from agentmodel.exceptions import ConfigurationError, MissingExtraError, WarehouseUnavailable

__all__ = ["DuckDBDialect", "duckdb_engine"]

_MEMORY = re.compile(r"^[1-9][0-9]*(\.[0-9]+)?\s*(KB|MB|GB|TB|KiB|MiB|GiB|TiB)$")


class _Cursor:
    """PEP 249's cursor over a DuckDB connection, whose own `cursor()` would be another transaction."""

    arraysize = 1

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._result: Any = None

    @property
    def description(self) -> Any:
        """Names and types of the last result's columns."""
        return self._connection.description

    @property
    def rowcount(self) -> int:
        """-1: DuckDB returns the number of changed rows as a result, which nothing here reads."""
        return -1

    def execute(self, statement: str, parameters: Any = None) -> None:
        """Run one statement."""
        self._connection.execute(statement, parameters or ())

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        """Run one statement per row: for a handful of rows only, as DuckDB is slow at it."""
        self._connection.executemany(statement, parameters)

    def fetchone(self) -> Any:
        """Return the next row."""
        return self._connection.fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        """Return the next rows."""
        return self._connection.fetchmany(size or self.arraysize)

    def fetchall(self) -> Any:
        """Return all rows that are left."""
        return self._connection.fetchall()

    def close(self) -> None:
        """Nothing to close: the connection goes on."""


class Connection:
    """PEP 249's connection over one DuckDB cursor; ``duckdb`` is the cursor itself, for Arrow."""

    def __init__(self, connection: Any) -> None:
        self.duckdb = connection

    def cursor(self) -> _Cursor:
        """Return a cursor inside this connection's transaction."""
        return _Cursor(self.duckdb)

    def begin(self) -> None:
        """Open a transaction."""
        self.duckdb.begin()

    def commit(self) -> None:
        """Commit the open transaction."""
        self.duckdb.commit()

    def rollback(self) -> None:
        """Roll the open transaction back."""
        self.duckdb.rollback()

    def close(self) -> None:
        """Close this connection; the database stays open for the others."""
        self.duckdb.close()


class _DDLCompiler(PGDDLCompiler):
    def visit_primary_key_constraint(self, constraint: Any, **kw: Any) -> str:  # noqa: ARG002 -- SQLAlchemy's signature
        """No key: Redshift does not enforce keys either, and DuckDB's index would slow every load."""
        return ""


class _Preparer(PGIdentifierPreparer):
    reserved_words = PGIdentifierPreparer.reserved_words | {"at", "pivot", "qualify", "unpivot", "lambda"}


class DuckDBDialect(DefaultDialect):
    """PostgreSQL's compilers on DuckDB's connections."""

    name = "duckdb"
    driver = "agentmodel"
    statement_compiler = PGCompiler
    ddl_compiler = _DDLCompiler
    type_compiler_cls = PGTypeCompiler
    preparer = _Preparer
    default_paramstyle = "qmark"
    supports_statement_cache = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    supports_native_boolean = True
    supports_native_decimal = True
    supports_default_values = True
    supports_multivalues_insert = True
    insert_returning = False
    cte_follows_insert = True
    div_is_floordiv = False
    max_identifier_length = 127
    # PostgreSQL's compiler asks its dialect for these
    _backslash_escapes = False
    _supports_create_index_concurrently = False

    @classmethod
    def import_dbapi(cls) -> Any:
        """Load DuckDB.

        Raises:
            MissingExtraError: It is not installed.
        """
        return _duckdb()

    def initialize(self, connection: Any) -> None:
        """Ask the server for nothing: what this dialect must know it knows."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """Open a transaction: DuckDB commits each statement by itself otherwise."""
        _driver(dbapi_connection).begin()

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll back; without an open transaction (the pool's own reset) there is nothing to do."""
        error: type[Exception] = _duckdb().TransactionException
        try:
            _driver(dbapi_connection).rollback()
        except error as problem:
            if "no transaction is active" not in str(problem):
                raise

    def get_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return the one level DuckDB has."""
        return "SERIALIZABLE"


def _driver(connection: Any) -> Connection:
    return cast("Connection", getattr(connection, "driver_connection", connection))


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("local", "the DuckDB warehouse", "duckdb") from None
    return duckdb


def duckdb_engine(url: URL, *, memory_limit: str | None = None, threads: int | None = None) -> Engine:
    """Open a DuckDB database as an engine.

    Args:
        url: ``duckdb:///file.duckdb``, or ``duckdb://`` for one in memory.
        memory_limit: The most memory DuckDB may take, such as ``512MB``; unset leaves DuckDB's own bound.
        threads: Threads DuckDB may use; unset means one per core.

    Raises:
        WarehouseUnavailable: The file is held by another process, or is no DuckDB database.
        ConfigurationError: ``memory_limit`` is no amount of memory.
        MissingExtraError: DuckDB is not installed.
    """
    duckdb = _duckdb()
    path = url.database or ":memory:"
    config: dict[str, Any] = {str(name): value for name, value in url.query.items()}
    if memory_limit is not None:
        if not _MEMORY.match(memory_limit):
            raise ConfigurationError(f"memory_limit {memory_limit!r} is no amount of memory: give one such as 512MB")
        config["memory_limit"] = memory_limit
    if threads is not None:
        config["threads"] = threads
    try:
        database = duckdb.connect(path, config=config)
    except duckdb.Error as error:
        raise WarehouseUnavailable(_why(path, str(error))) from error
    registry.register("duckdb.agentmodel", __name__, DuckDBDialect.__name__)
    engine = create_engine(
        url.set(drivername="duckdb+agentmodel"),
        creator=lambda: Connection(database.cursor()),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=14,
    )
    _close_with(engine, database)
    return engine


def _close_with(engine: Engine, database: Any) -> None:
    def closed(_engine: Engine) -> None:
        database.close()

    event.listen(engine, "engine_disposed", closed)


def _why(path: str, problem: str) -> str:
    line = problem.splitlines()[0]
    if "lock" in line.lower():
        return f"{path} is held by another process: stop it, or use another file (DuckDB files have one owner)"
    return f"{path} cannot be opened: {line}; name another file, or move this one away"
