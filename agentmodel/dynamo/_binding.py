"""The table that PynamoDB's own methods of the entity classes use: that of the block, else that of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.exceptions import ConfigurationError

__all__ = ["bind", "bound_connection", "bound_to", "connection_of", "unbind"]

_BLOCK: ContextVar[Any] = ContextVar("agentmodel_bound_table", default=None)
_PROCESS: list[Any] = []  # the connection of the process, or none
_lock = ForkSafeLock()


def bound_connection() -> Any:
    """Return PynamoDB's connection to the bound table, or None."""
    connection = _BLOCK.get()
    if connection is None and _PROCESS:
        return _PROCESS[0]
    return connection


def connection_of(entity: str) -> Any:
    """Return PynamoDB's connection to the bound table; ``entity`` names the class in the error.

    Raises:
        ConfigurationError: No table is bound.
    """
    connection = bound_connection()
    if connection is None:
        raise ConfigurationError(
            f"{entity} is not bound to a table.\n"
            "Call `model.bind()` once when the program starts, or work in a block `with model.bound():`."
        )
    return connection


@contextmanager
def bound_to(connection: Any) -> Iterator[None]:
    """Bind a table in the current context (thread or task) until the block ends."""
    token = _BLOCK.set(connection)
    try:
        yield
    finally:
        _BLOCK.reset(token)


def bind(connection: Any) -> None:
    """Bind a table for the process.

    Raises:
        ConfigurationError: Another table is bound.
    """
    with _lock:
        if _PROCESS and _PROCESS[0] is not connection:
            raise ConfigurationError(
                f"table {connection.table_name} cannot be bound, because the process is bound to another connection "
                f"(table {_PROCESS[0].table_name}): close its model first, or use a block `with model.bound():`"
            )
        _PROCESS[:] = [connection]


def unbind(connection: Any) -> None:
    """End the process's binding to a table, if it is bound to this one."""
    with _lock:
        if _PROCESS and _PROCESS[0] is connection:
            _PROCESS.clear()
