"""Answer from DuckDB's catalogue what SQLAlchemy asks of schemas, tables, views, columns and keys."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    Double,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Time,
    Uuid,
    exc,
)
from sqlalchemy.engine import reflection
from sqlalchemy.types import TIMESTAMP, TypeEngine, UserDefinedType

from agentmodel.redshift._constructs import Super

__all__ = ["OtherType", "Reflection"]


class OtherType(UserDefinedType[Any]):
    """A type that only DuckDB has, such as ``MAP(VARCHAR, JSON)``: it keeps DuckDB's name of it."""

    cache_ok = True

    def __init__(self, text: str) -> None:
        self.text = text

    def get_col_spec(self, **_: Any) -> str:
        """Return DuckDB's name of the type."""
        return self.text


_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    "BIGINT": BigInteger(), "BLOB": LargeBinary(), "BOOLEAN": Boolean(), "DATE": Date(), "DOUBLE": Double(),
    "FLOAT": Float(), "INTEGER": Integer(), "INTERVAL": Interval(), "JSON": Super(), "SMALLINT": SmallInteger(),
    "TIME": Time(), "TIMESTAMP": TIMESTAMP(), "TIMESTAMP WITH TIME ZONE": TIMESTAMP(timezone=True), "UUID": Uuid(),
    "VARCHAR": String(),
}  # fmt: skip
_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def type_of(text: str) -> TypeEngine[Any]:
    """Return SQLAlchemy's type of a type of DuckDB.

    >>> type_of("DECIMAL(10,2)"), type_of("VARCHAR[]").item_type, type_of("MAP(VARCHAR, JSON)").text
    (Numeric(precision=10, scale=2), String(), 'MAP(VARCHAR, JSON)')
    """
    decimal = _DECIMAL.fullmatch(text)
    if decimal is not None:
        return Numeric(int(decimal.group(1)), int(decimal.group(2)))
    if text.endswith("[]") and text[:-2] in _TYPES:
        return ARRAY(_TYPES[text[:-2]])
    return _TYPES.get(text) or OtherType(text)


class Reflection:
    """What `sqlalchemy.inspect` and ``MetaData.reflect`` ask a dialect, answered for DuckDB."""

    def _get_default_schema_name(self, connection: Any) -> str:
        name: str = connection.exec_driver_sql("SELECT current_schema()").scalar()
        return name

    def _names(self, connection: Any, source: str, column: str, schema: str | None) -> list[str]:
        text = (
            f"SELECT {column} FROM {source}() WHERE database_name = current_database() AND NOT internal "  # noqa: S608 -- names of DuckDB
            f"AND schema_name = coalesce(?, current_schema()) ORDER BY {column}"
        )
        return list(connection.exec_driver_sql(text, (schema,)).scalars())

    @reflection.cache
    def get_schema_names(self, connection: Any, **_: Any) -> list[str]:
        """Return the names of all schemas of the database."""
        text = (
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() "
            "AND NOT (internal AND schema_name <> 'main') ORDER BY schema_name"
        )
        return list(connection.exec_driver_sql(text).scalars())

    @reflection.cache
    def get_table_names(self, connection: Any, schema: str | None = None, **_: Any) -> list[str]:
        """Return the names of the tables, without views."""
        return self._names(connection, "duckdb_tables", "table_name", schema)

    @reflection.cache
    def get_view_names(self, connection: Any, schema: str | None = None, **_: Any) -> list[str]:
        """Return the names of the views."""
        return self._names(connection, "duckdb_views", "view_name", schema)

    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> bool:
        """Return whether there is a table or a view of this name."""
        sources = {"duckdb_tables": "table_name", "duckdb_views": "view_name"}
        return any(table_name in self._names(connection, source, column, schema) for source, column in sources.items())

    @reflection.cache
    def get_view_definition(self, connection: Any, view_name: str, schema: str | None = None, **_: Any) -> str:
        """Return the statement that makes a view.

        Raises:
            NoSuchTableError: There is no such view.
        """
        text = (
            "SELECT sql FROM duckdb_views() WHERE database_name = current_database() AND view_name = ? "
            "AND schema_name = coalesce(?, current_schema())"
        )
        found: str | None = connection.exec_driver_sql(text, (view_name, schema)).scalar()
        if found is None:
            raise exc.NoSuchTableError(view_name)
        return found

    @reflection.cache
    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:
        """Return the columns of a table or view, in their order.

        Raises:
            NoSuchTableError: There is no such table.
        """
        text = (
            "SELECT column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() WHERE "
            "database_name = current_database() AND table_name = ? AND schema_name = coalesce(?, current_schema()) "
            "ORDER BY column_index"
        )
        rows = connection.exec_driver_sql(text, (table_name, schema)).all()
        if not rows:
            raise exc.NoSuchTableError(table_name)
        return [
            {
                "name": name,
                "type": type_of(kind),
                "nullable": nullable,
                "default": default,
                "comment": comment,
                "autoincrement": False,
            }
            for name, kind, nullable, default, comment in rows
        ]

    def _constraints(self, connection: Any, kind: str, table_name: str, schema: str | None) -> list[Any]:
        text = (
            "SELECT constraint_name AS name, constraint_column_names AS columns, referenced_table AS other, "
            "referenced_column_names AS others, expression AS text FROM duckdb_constraints() WHERE "
            "database_name = current_database() AND constraint_type = ? AND table_name = ? AND "
            "schema_name = coalesce(?, current_schema()) ORDER BY constraint_index"
        )
        return list(connection.exec_driver_sql(text, (kind, table_name, schema)).all())

    @reflection.cache
    def get_pk_constraint(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> Any:
        """Return the primary key; the warehouse's own tables have none."""
        found = self._constraints(connection, "PRIMARY KEY", table_name, schema)
        return {
            "constrained_columns": list(found[0].columns) if found else [],
            "name": found[0].name if found else None,
        }

    @reflection.cache
    def get_foreign_keys(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:
        """Return the foreign keys; the warehouse's own tables have none."""
        return [
            {
                "name": row.name,
                "constrained_columns": list(row.columns),
                "referred_schema": schema,
                "referred_table": row.other,
                "referred_columns": list(row.others),
                "options": {},
            }
            for row in self._constraints(connection, "FOREIGN KEY", table_name, schema)
        ]

    @reflection.cache
    def get_unique_constraints(
        self, connection: Any, table_name: str, schema: str | None = None, **_: Any
    ) -> list[Any]:
        """Return the unique constraints."""
        found = self._constraints(connection, "UNIQUE", table_name, schema)
        return [{"name": row.name, "column_names": list(row.columns)} for row in found]

    @reflection.cache
    def get_check_constraints(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:
        """Return the check constraints."""
        found = self._constraints(connection, "CHECK", table_name, schema)
        return [{"name": row.name, "sqltext": row.text} for row in found]

    def get_indexes(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return no indexes: DuckDB keeps those as expressions, which no reflected table could make again."""
        return []

    def get_table_comment(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> Any:
        """Return a table's comment."""
        text = (
            "SELECT comment FROM duckdb_tables() WHERE database_name = current_database() AND table_name = ? "
            "AND schema_name = coalesce(?, current_schema())"
        )
        return {"text": connection.exec_driver_sql(text, (table_name, schema)).scalar()}
