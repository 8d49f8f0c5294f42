"""A change that brings stored data of an earlier version up to this one; table and warehouse have the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SchemaChange"]


@dataclass(frozen=True)
class SchemaChange:
    """A change that brings stored data up to this version.

    Attributes:
        table: The table that changes: one of the warehouse, or DynamoDB's.
        text: What changes, to be read after the table's name; empty where nobody needs to know.
        alters: Whether a table that exists changes; what is missing is created without being asked for.
        statements: What is run in a warehouse, in order.

    >>> from agentmodel.redshift.warehouse import Warehouse
    >>> own = Warehouse.open("duckdb://")
    >>> [change.table for change in own.migration()][:2]
    ['agent', 'agent_daily']
    >>> own.close()
    """

    table: str
    text: str
    alters: bool = True
    statements: tuple[Any, ...] = field(default=(), repr=False, compare=False)
