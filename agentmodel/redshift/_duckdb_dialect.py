"""Connect SQLAlchemy to DuckDB by a small dialect, for the warehouse on a laptop.

The maintained library for this, `duckdb-sqlalchemy`, requires DuckDB below 2, and so would every application that
installs it. The warehouse needs little of a dialect: PostgreSQL's grammar, no keys that cost an index, transactions,
and reflection (`agentmodel.redshift._duckdb_reflection`). DuckDB itself has no SAVEPOINT.

The engine's connections are cursors of one DuckDB database. So `duckdb:///:memory:` is one database too, and every
connection has its own transaction.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sqlalchemy import URL, Engine, LargeBinary, create_engine, event, exc, quoted_name
from sqlalchemy import Sequence as NumberSequence
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDDLCompiler, PGIdentifierPreparer, PGTypeCompiler
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import LRUCache

from agentmodel._log import logger
from agentmodel._runtime.lease import WAIT
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.urls import copy_of
from agentmodel.exceptions import ConfigurationError, MissingExtraError, WarehouseUnavailable
from agentmodel.redshift._duckdb_reflection import Reflection

__all__ = ["DuckDBDialect", "copy_for_readers", "duckdb_engine", "has_copy", "reads_only", "rewrite_file"]

_log = logger(__name__)

_COMPILED: LRUCache[Any, Any] = LRUCache(1000)
"""Compiled statements of all engines of the process: those of a refresh took half a second for each engine."""

_PAUSE = 0.05  # seconds between two looks at a file that another process has open
_PRIVATE = 0o600  # the mode of a new file: it holds what people asked
_HOLDER = re.compile(r"held in (.+?) \(PID (\d+)\)")
_MEMORY = re.compile(r"^[1-9][0-9]*(\.[0-9]+)?\s*(KB|MB|GB|TB|KiB|MiB|GiB|TiB)$")


class _Cursor:
    """A PEP 249 cursor over a DuckDB connection, whose own `cursor()` would be another transaction."""

    arraysize = 1

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._result: Any = None

    @property
    def description(self) -> Any:
        """Return names and types of the last result's columns."""
        return self._connection.description

    @property
    def rowcount(self) -> int:
        """Return -1, for unknown: DuckDB returns the number of changed rows as a result, which nothing here reads."""
        return -1

    def execute(self, statement: str, parameters: Any = None) -> None:
        """Run one statement."""
        self._connection.execute(statement, parameters or ())

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        """Run one statement per row; use it for a few rows only, because DuckDB is slow at it."""
        self._connection.executemany(statement, parameters)

    def fetchone(self) -> Any:
        """Return the next row."""
        return self._connection.fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        """Return the next rows."""
        return self._connection.fetchmany(size or self.arraysize)

    def fetchall(self) -> Any:
        """Return all remaining rows."""
        return self._connection.fetchall()

    def close(self) -> None:
        """Do nothing: the connection stays open."""


class DuckDBConnection:
    """A PEP 249 connection over one DuckDB cursor; ``duckdb`` is the cursor itself, for Arrow."""

    def __init__(self, connection: Any, on_commit: Callable[[], object]) -> None:
        self.duckdb = connection
        self._on_commit = on_commit

    def cursor(self) -> _Cursor:
        """Return a cursor inside this connection's transaction."""
        return _Cursor(self.duckdb)

    def begin(self) -> None:
        """Open a transaction."""
        self.duckdb.begin()

    def commit(self) -> None:
        """Commit the open transaction."""
        self.duckdb.commit()
        self._on_commit()

    def rollback(self) -> None:
        """Roll the open transaction back."""
        self.duckdb.rollback()

    def close(self) -> None:
        """Close this connection; the database stays open for the others."""
        self.duckdb.close()


class _DDLCompiler(PGDDLCompiler):
    """Writes DuckDB's DDL: without keys, and with a sequence where PostgreSQL has a SERIAL."""

    def visit_create_table(self, create: Any, **kw: Any) -> str:
        """Return the statement, after that of the sequence which numbers the table's rows."""
        sequence = self._numbers(create.element)
        made = str(super().visit_create_table(create, **kw))  # type: ignore[no-untyped-call]  # SQLAlchemy's
        return made if sequence is None else f"CREATE SEQUENCE IF NOT EXISTS {sequence};{made}"

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        """Return the statement, before that of the sequence."""
        sequence = self._numbers(drop.element)
        dropped = str(super().visit_drop_table(drop, **kw))  # type: ignore[no-untyped-call]  # SQLAlchemy's
        return dropped if sequence is None else f"{dropped};\nDROP SEQUENCE IF EXISTS {sequence}"

    def get_column_specification(self, column: Any, **kw: Any) -> str:
        """Return the column; one that SQLAlchemy numbers has the next number as its default."""
        sequence = self._numbers(column.table) if column is column.table.autoincrement_column else None
        if sequence is None:
            return str(super().get_column_specification(column, **kw))  # type: ignore[no-untyped-call]  # SQLAlchemy's
        kind = self.dialect.type_compiler_instance.process(column.type)
        following = sequence.replace("'", "''")
        return f"{self.preparer.format_column(column)} {kind} DEFAULT nextval('{following}') NOT NULL"

    def _numbers(self, table: Any) -> str | None:
        """Return the name of the sequence of a table whose rows SQLAlchemy numbers; None for any other."""
        column = table.autoincrement_column
        if column is None or column.default is not None or column.server_default is not None:
            return None
        name = quoted_name(f"{table.name}_{column.name}_seq", quote=None)
        schema = self.preparer.schema_for_object(table)
        return self.preparer.format_sequence(NumberSequence(name, schema=schema))

    def visit_primary_key_constraint(self, constraint: Any, **kw: Any) -> Any:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return no key: Redshift does not enforce keys either, and DuckDB's index would slow every load."""
        return None  # which SQLAlchemy leaves out

    visit_foreign_key_constraint = visit_primary_key_constraint  # it refers to a key, and there are none


class _Bytes(LargeBinary):
    def bind_processor(self, dialect: Any) -> None:
        """Change nothing: DuckDB takes bytes as they are, and has no ``Binary``."""


class _Preparer(PGIdentifierPreparer):
    reserved_words = PGIdentifierPreparer.reserved_words | {"at", "pivot", "qualify", "unpivot", "lambda"}


class DuckDBDialect(Reflection, DefaultDialect):
    """Run PostgreSQL's SQL on connections to DuckDB."""

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
    supports_native_uuid = True
    supports_default_values = True
    supports_multivalues_insert = True
    insert_returning = True
    postfetch_lastrowid = False  # the number that a sequence gave is returned by the INSERT
    colspecs: Any = {LargeBinary: _Bytes}  # noqa: RUF012 -- as SQLAlchemy declares it
    cte_follows_insert = True
    div_is_floordiv = False
    max_identifier_length = 127
    # PostgreSQL's compiler reads these from its dialect
    _backslash_escapes = False
    _supports_create_index_concurrently = False
    supports_smallserial = True

    def __eq__(self, other: object) -> bool:
        """Compare equal to every dialect of this class: they have no settings, so they compile a statement alike."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def import_dbapi(cls) -> Any:
        """Import DuckDB.

        Raises:
            MissingExtraError: DuckDB is not installed.
        """
        return _duckdb()

    def initialize(self, connection: Any) -> None:
        """Read nothing but the name of the schema that tables without one are in."""
        self.default_schema_name = self._get_default_schema_name(connection)

    def do_savepoint(self, connection: Any, name: str) -> None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Refuse a savepoint.

        Raises:
            NotSupportedError: Always, since DuckDB has no savepoints.
        """
        raise exc.NotSupportedError(
            f"SAVEPOINT {name}",
            None,
            _duckdb().NotSupportedError("DuckDB has no savepoints: use one transaction in place of begin_nested()"),
        )

    def do_begin(self, dbapi_connection: Any) -> None:
        """Open a transaction; without one, DuckDB commits each statement."""
        _driver(dbapi_connection).begin()

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll back; do nothing without an open transaction, as when the pool resets a connection."""
        transaction_error: type[Exception] = _duckdb().TransactionException
        try:
            _driver(dbapi_connection).rollback()
        except transaction_error as error:
            if "no transaction is active" not in str(error):
                raise

    def get_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return DuckDB's only isolation level."""
        return "SERIALIZABLE"


def _driver(connection: Any) -> DuckDBConnection:
    return cast("DuckDBConnection", getattr(connection, "driver_connection", connection))


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("local", "the DuckDB warehouse", "duckdb") from None
    return duckdb


def duckdb_engine(
    url: URL, *, schema: str | None = None, memory_limit: str | None = None, threads: int | None = None
) -> Engine:
    """Return an engine on a DuckDB database.

    Args:
        url: ``duckdb:///file.duckdb``, or ``duckdb://`` for one in memory.
        schema: The schema of tables that are named without one; it is created where it is missing.
        memory_limit: The most memory DuckDB may use, such as ``512MB``; None for DuckDB's own limit.
        threads: The most threads DuckDB may use; None for one per core.

    Raises:
        WarehouseUnavailable: Another process has the file open, or it is not a DuckDB database. A file that has a copy
            for readers is waited for, since whoever changes such a file has it for that time only.
        ConfigurationError: ``memory_limit`` is not an amount of memory.
        MissingExtraError: DuckDB is not installed.
    """
    path = url.database or ":memory:"
    config: dict[str, Any] = {str(name): value for name, value in url.query.items()}
    if memory_limit is not None:
        if not _MEMORY.match(memory_limit):
            raise ConfigurationError(
                f"memory_limit is {memory_limit!r}, which is not an amount of memory: give one such as 512MB, or set "
                "AGENTMODEL_WAREHOUSE_MEMORY to one"
            )
        config["memory_limit"] = memory_limit
    if threads is not None:
        config["threads"] = threads
    database = _Database(path, config, schema)
    registry.register("duckdb.agentmodel", __name__, DuckDBDialect.__name__)
    engine = create_engine(
        url.set(drivername="duckdb+agentmodel"),
        creator=database.connect,
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=14,
        execution_options={"compiled_cache": _COMPILED},
    )
    event.listen(engine, "engine_disposed", database.close)
    _databases[engine] = database
    return engine


def rewrite_file(engine: Engine) -> str:
    """Write the file of an engine anew, without the bytes of deleted rows, while no connection is in use.

    DuckDB reuses the blocks of deleted rows, and neither CHECKPOINT nor VACUUM overwrites them. So the tables are
    copied into a new file, which takes the place of the old one.

    Returns:
        Why the file still holds deleted rows; empty when it does not.
    """
    database = _databases[engine]
    if not database.has_file:  # in memory: closing it would lose everything
        return ""
    engine.dispose()
    return database.rewrite()


def copy_for_readers(engine: Engine) -> str:
    """Make or renew the copy of an engine's file that other processes read, while no connection is in use.

    Afterwards the file is closed, so that others may change it. If the copy cannot be written, that is logged, and
    readers go on with the one before.

    Returns:
        Why the copy is the one before; empty when it is not.
    """
    database = _databases[engine]
    if not database.has_file or reads_only(engine):
        return ""
    engine.dispose()
    return database.copy()


def has_copy(engine: Engine) -> bool:
    """Return whether the file of an engine has a copy that other processes read."""
    return _databases[engine].has_copy


def reads_only(engine: Engine) -> bool:
    """Return whether an engine reads a copy, and can change nothing."""
    return engine.url.query.get("access_mode") == "read_only"


class _Database:
    """A DuckDB database of this process, open from the first connection until the engine is disposed of."""

    def __init__(self, path: str, config: dict[str, Any], schema: str | None) -> None:
        self._path = path
        self._schema = schema
        self._file, self._log = Path(path), Path(f"{path}.wal")  # in memory there is no file of this name
        self._config = config
        self._copy = copy_of(path)
        self._reads_only = config.get("access_mode") == "read_only"
        self._opened_by = os.getpid()
        self._lock = ForkSafeLock()
        self._database: Any = self._open(config)

    def _open(self, config: dict[str, Any]) -> Any:
        duckdb, is_new = _duckdb(), not self._file.exists()
        deadline = time.monotonic() + (WAIT if self.has_copy else 0.0)
        while True:
            try:
                database = duckdb.connect(self._path, config=config)
                break
            except duckdb.Error as error:
                if not _HOLDER.search(str(error)) or time.monotonic() > deadline:
                    raise WarehouseUnavailable(_explain(self._path, str(error))) from error
            time.sleep(_PAUSE)
        if is_new and self._file.is_file():
            self._file.chmod(_PRIVATE)
        if self._schema is not None and not self._reads_only:
            database.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
        self._protect_log()
        return database

    def _protect_log(self) -> None:
        """Let nobody read the write-ahead log who may not read the file: DuckDB leaves that to the umask."""
        with suppress(FileNotFoundError, PermissionError):  # there is none; or the file is another user's
            mode = self._file.stat().st_mode
            if self._log.stat().st_mode & ~mode & 0o777:
                self._log.chmod(mode & 0o777)

    def connect(self) -> DuckDBConnection:
        """Return a connection of its own transaction."""
        if os.getpid() != self._opened_by:
            raise WarehouseUnavailable(
                f"this process was forked after {self._path} had been opened, and one process at a time may use a "
                "DuckDB file: refresh, publish and report in the parent, or open the model after the fork, in the child"
            )
        with self._lock:
            if self._database is None:
                self._database = self._open(self._config)
            connection = self._database.cursor()
            if self._schema is not None:
                connection.execute(f"SET schema = '{self._schema}'")
            return DuckDBConnection(connection, self._protect_log)

    def close(self, _engine: Engine) -> None:
        """Close the database, in the process that opened it."""
        if os.getpid() == self._opened_by and self._database is not None:
            self._database.close()
            self._database = None

    @property
    def has_file(self) -> bool:
        """Return whether the database is in a file, and not in memory."""
        return self._file.is_file()

    @property
    def has_copy(self) -> bool:
        """Return whether there is a copy that other processes read."""
        return self._copy.is_file() and not self._reads_only

    def copy(self) -> str:
        """Copy the file, unless the copy is newer, in place of the copy before; return why that was not possible.

        Readers of the copy before go on with theirs.
        """
        if self.has_copy and self._copy.stat().st_mtime_ns > self._file.stat().st_mtime_ns and not self._log.exists():
            return ""
        duckdb, draft = _duckdb(), Path(f"{self._copy}.new")
        with self._lock:
            try:
                # opened by nobody else meanwhile: as in `rewrite`
                held = duckdb.connect(self._path, config={**self._config, "custom_user_agent": "agentmodel-copy"})
                with closing(held):
                    held.execute("CHECKPOINT")
                    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE))
                    # by a child: the lock of a file ends when the process that has it closes the file once more
                    copying = ["/bin/cp", str(self._file), str(draft)]
                    subprocess.run(copying, check=True, capture_output=True)  # noqa: S603  # both paths are ours
                    draft.replace(self._copy)
            except (duckdb.Error, OSError, subprocess.CalledProcessError) as error:
                draft.unlink(missing_ok=True)  # a full disk gets its room back
                said = getattr(error, "stderr", None)
                problem = str(error).partition("\n")[0] if said is None else said.decode(errors="replace").strip()
                _log.warning(
                    "warehouse.not_copied: %s could not be renewed, and readers see the state before: %s",
                    self._copy, problem,
                )  # fmt: skip
                return f"{self._copy} could not be renewed: {problem}"
        return ""

    def rewrite(self) -> str:
        """Copy the tables into a new file, which takes the place of the old one; return why that was not possible."""
        duckdb = _duckdb()
        draft = Path(f"{self._path}.new")
        with self._lock:
            try:
                # another configuration is refused while any other connection of this process has the file open
                old = duckdb.connect(self._path, config={**self._config, "custom_user_agent": "agentmodel-rewrite"})
            except duckdb.Error as error:
                return f"{self._path} is open elsewhere: {str(error).splitlines()[0]}"
            for leftover in (draft, Path(f"{draft}.wal")):
                leftover.unlink(missing_ok=True)
            with closing(old):
                old.execute(f"ATTACH '{_quoted(str(draft))}' AS fresh")
                draft.chmod(self._file.stat().st_mode & 0o777)
                (name,) = old.execute("SELECT current_database()").fetchone()
                old.execute(f'COPY FROM DATABASE "{name}" TO fresh')  # the name is DuckDB's own
                old.execute("DETACH fresh")
                old.execute("CHECKPOINT")
            draft.replace(self._file)
        return ""


def _quoted(text: str) -> str:
    return text.replace("'", "''")


_databases: weakref.WeakKeyDictionary[Engine, _Database] = weakref.WeakKeyDictionary()


def _explain(path: str, problem: str) -> str:
    """Return why DuckDB cannot open a file, and what to do."""
    line = problem.splitlines()[0]
    if "lock" in line.lower():
        found = _HOLDER.search(problem)
        holder = "another process" if found is None else f"process {found.group(2)} ({found.group(1)})"
        return f"{holder} has {path} open: stop it, or use another file (one process at a time may open it)"
    return f"{path} cannot be opened: {line}; use another file, or move this one away"
