"""Keep leases as rows of the warehouse, and let one transaction at a time write.

A lease says who works, so that others can wait and name it. What keeps two writers apart, whatever wrote them, is a
lock that a writing transaction holds from its beginning to its end: on Redshift ``LOCK TABLE``, which the rendered SQL
takes too, on DuckDB a lock of the process, since one process has the file. The transaction checks its lease before it
commits, so that a holder that stood still and was overtaken changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, exc, insert, select, text, update

from agentmodel._runtime.lease import WAIT, LeaseState, is_of_this_process
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.exceptions import WarehouseUnavailable
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import LockTable

__all__ = ["WRITERS", "WarehouseLeases", "lock_writers", "only_writer"]

WRITERS: Final = LockTable(m.WorkChange.__tablename__)
"""The first statement of every transaction that writes on Redshift. No reader uses this table, so readers go on."""

_duckdb_rows = ForkSafeLock()  # guards the rows of leases, for a moment
_duckdb_writers: dict[str, ForkSafeLock] = {}  # by file: guards everything else, for a whole transaction


class WarehouseLeases:
    """The leases of a warehouse; see `agentmodel._runtime.lease.LeaseStore`.

    Args:
        begin: Opens a transaction of its own.
        local: Whether the warehouse is DuckDB, where the holder of another process is gone: it had the file.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]], *, local: bool) -> None:
        self._begin = begin
        self._local = local

    def take(self, name: str, wanted: LeaseState) -> LeaseState:
        """Store ``wanted`` with the next token, unless another holds the lease."""
        with self._alone() as connection:
            found = _read(connection, name)
            if found is not None and not (found.is_free or (self._local and not is_of_this_process(found.owner))):
                return found
            state = replace(wanted, token=1 if found is None else found.token + 1)
            written: Any = insert(m.LEASES) if found is None else update(m.LEASES).where(m.LEASES.c.name == name)
            connection.execute(written.values(name=name, **_columns(state)))
            return state

    def renew(self, name: str, held: LeaseState) -> LeaseState:
        """Store ``held.until``, and ``held.owner``, unless the lease has another token."""
        with self._alone() as connection:
            found = _read(connection, name)
            if found is None or found.token != held.token:
                return found or replace(held, token=0, holder="nobody")
            connection.execute(update(m.LEASES).where(m.LEASES.c.name == name).values(**_columns(held)))
            return held

    def release(self, name: str, held: LeaseState) -> None:
        """Let others take the lease, unless it has another token."""
        self.renew(name, replace(held, owner=""))

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        with _duckdb_rows if self._local else nullcontext(), self._begin() as connection:
            if not self._local:
                connection.execute(LockTable(m.LEASES.name))
            yield connection


def _read(connection: Connection, name: str) -> LeaseState | None:
    c = m.LEASES.c
    rows: Executable = select(c.token, c.ownerid, c.holder, c.held_since, c.held_until).where(c.name == name)
    row = connection.execute(rows).first()
    if row is None:
        return None
    since, until = (at.replace(tzinfo=UTC) for at in (row.held_since, row.held_until))
    return LeaseState(row.token, row.ownerid or "", row.holder, since, until)


def _columns(state: LeaseState) -> dict[str, Any]:
    return {
        "token": state.token,
        "ownerid": state.owner,
        "holder": state.holder,
        "held_since": _naive(state.since),
        "held_until": _naive(state.until),
    }


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def only_writer(engine: Engine) -> AbstractContextManager[Any]:
    """Return what a writing transaction on DuckDB holds around itself; it comes before the transaction's snapshot."""
    if engine.dialect.name != "duckdb":
        return nullcontext()
    database = engine.url.database or ""
    name = f"{database} {id(engine)}" if database in ("", ":memory:") else database
    return _duckdb_writers.setdefault(name, ForkSafeLock())


def lock_writers(connection: Connection) -> None:
    """Wait until no other transaction writes, as the first statement of one that does; on DuckDB do nothing.

    Raises:
        WarehouseUnavailable: Another still writes after `WAIT` seconds.
    """
    if connection.dialect.name == "duckdb":
        return
    try:
        connection.execute(text(f"SET LOCAL statement_timeout TO {int(WAIT * 1000)}"))
        connection.execute(WRITERS)
        connection.execute(text("SET LOCAL statement_timeout TO DEFAULT"))
    except exc.DBAPIError as error:
        raise WarehouseUnavailable(
            f"another session has been writing for {WAIT:g} s, a refresh by SQL, or one whose process stood still "
            f"({str(error.orig).splitlines()[0]}): wait until it has ended, or end it by pg_terminate_backend"
        ) from error
