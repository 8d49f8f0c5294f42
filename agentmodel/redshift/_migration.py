"""Compare the tables of a warehouse with the models, and plan what brings those of another version up to them.

The tables may be of an earlier agentmodel, or of the AWS sample, whose tables have the same names and fewer, narrower
columns. Nothing is taken away: a column that only lacks is added; where a column's type is too narrow, or a column that
must not be NULL is missing, the table is copied into a new one, with the columns that only the old one has; a table in
the place of a view is renamed. All of it is one transaction, on DuckDB, PostgreSQL and Redshift.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateTable, DropTable
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.types import TIMESTAMP, TypeEngine, UserDefinedType

from agentmodel._schema_change import SchemaChange
from agentmodel.exceptions import ConfigurationError, NewerData
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import constant, constant_day, constant_text
from agentmodel.redshift._refresh_sql import count_days
from agentmodel.redshift._table_layout import is_view

__all__ = ["MIGRATE", "SCHEMA", "check_schema", "plan", "version_of"]

SCHEMA: Final = 2
"""The schema of this version's warehouse; that of 0.1.0, which stored none, is 1. It only ever grows."""

MIGRATE: Final = "agentmodel warehouse migrate"


# -- what there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A column as the catalogue has it; its width is None where it has none."""

    kind: str
    width: int | None = None
    precision: int | None = None
    scale: int | None = None

    @property
    def family(self) -> str | None:
        """Return which types it is alike to; None for a type that no model has."""
        return _FAMILIES.get(self.kind.lower().partition("(")[0].strip())

    @property
    def text(self) -> str:
        """Return the type as a statement has it."""
        if self.family == "text" and self.width is not None:
            return f"VARCHAR({self.width})"
        if self.family == "decimal" and "(" not in self.kind and self.precision is not None:
            return f"DECIMAL({self.precision},{self.scale or 0})"
        return self.kind.upper()


_FAMILIES: Final = {
    "character varying": "text", "varchar": "text", "text": "text", "character": "text", "bpchar": "text",
    "smallint": "int2", "integer": "int4", "bigint": "int8", "hugeint": "int8", "numeric": "decimal",
    "decimal": "decimal", "real": "real", "float": "real", "double precision": "double", "double": "double",
    "boolean": "boolean", "date": "date", "timestamp without time zone": "timestamp", "timestamp": "timestamp",
}  # fmt: skip
_NUMBERS: Final = {"int2", "int4", "int8", "decimal", "real", "double"}


def _catalogue(connection: Connection) -> tuple[dict[str, dict[str, _Found]], set[str]]:
    """Return the columns of each table and view of the current schema, and which of them are views."""
    names = ("table_name", "column_name", "data_type")
    numbers = ("character_maximum_length", "numeric_precision", "numeric_scale")
    columns = table("columns", *map(column, (*names, *numbers, "ordinal_position")), schema="information_schema")
    here = (
        column("table_schema") == func.current_schema(),
        column("table_catalog") == func.current_database(),
    )
    # the catalogue has types of its own
    texts, counts = (
        (cast(columns.c[name], String(256)) for name in names),
        (cast(columns.c[name], Integer) for name in numbers),
    )
    rows = select(*texts, *counts).select_from(columns).where(*here).order_by(columns.c.ordinal_position)
    found: dict[str, dict[str, _Found]] = {}
    answers: Any = connection.execute(rows)
    for name, own, kind, *sizes in answers:
        found.setdefault(name, {})[own] = _Found(kind, *sizes)
    tables = table("tables", column("table_name"), column("table_type"), schema="information_schema")
    views = select(cast(tables.c.table_name, String(256))).where(*here, tables.c.table_type == "VIEW")
    return found, set(connection.execute(views).scalars())


def version_of(connection: Connection) -> int | None:
    """Return the schema that the warehouse says it has; None where it says none."""
    version: int | None = connection.execute(select(func.max(m.VERSION.c.version))).scalar()
    return version


def check_schema(version: int | None) -> None:
    """Refuse a warehouse of a newer version.

    Raises:
        NewerData: A newer agentmodel has changed the warehouse.
    """
    if version is not None and version > SCHEMA:
        raise NewerData(
            f"the warehouse has schema {version}, which a newer agentmodel made; this version knows schemas up to "
            f"{SCHEMA} and would damage it: upgrade agentmodel, or set AGENTMODEL_WAREHOUSE_URL or "
            "AGENTMODEL_WAREHOUSE_SCHEMA to another warehouse"
        )


# -- what is to change ------------------------------------------------------------------------------------------------

_RETIRED: Final = {"agent_score_summary": ("score_weight", "decay_date", "evidence_low", "evidence_high")}
"""Columns that an earlier agentmodel made and this one does not fill."""

_BEFORE: Final = {"counted_executions": "total_executions", "counted_successes": "success_count"}
"""Columns that begin with the values of others, which scores were made of before there were these."""

_MADE_ANEW: Final[dict[Any, str]] = {
    **{model.__table__: "it is empty between refreshes" for model in m.WORK},
    m.AgentDaily.__table__: "it is counted again from agent_execution",  # which no refresh does
}
"""Tables whose rows are not copied, and why."""

_FIRST_ATTEMPT: Final = m.UserToolMappingHist.attempt.name  # the sample has no attempts: each call is the first


def plan(connection: Connection) -> list[SchemaChange]:
    """Return what brings the tables of the current schema up to the models, in the order in which it is to be done.

    Raises:
        ConfigurationError: A table cannot be brought up to them, or a newer agentmodel has changed the warehouse.
    """
    found, views = _catalogue(connection)
    if m.VERSION.name in found:
        check_schema(version_of(connection))
    tables = [each for each in m.Base.metadata.sorted_tables if not is_view(each)]
    changes = [change for each in tables for change in _table(each, found.get(each.name), views)]
    if any(change.table == m.AgentDaily.__tablename__ and change.alters for change in changes):
        again = (delete(m.AgentDaily), count_days())  # last, since it reads agent_execution
        changes.append(SchemaChange(m.AgentDaily.__tablename__, "", statements=again))
    for view in (each for each in m.Base.metadata.sorted_tables if is_view(each)):
        changes = _around(view, changes, found, views)
    return changes


def _around(
    view: Table, changes: list[SchemaChange], found: dict[str, dict[str, _Found]], views: set[str]
) -> list[SchemaChange]:
    """Return changes of tables with those of a view: first it goes, since it would hold on to them, then it is made."""
    made = SchemaChange(view.name, "", alters=False, statements=(CreateTable(view),))
    if view.name not in found:
        return [*changes, replace(made, text="is made")]
    if view.name not in views:
        kept = next(name for name in _names(f"{view.name}_old") if name not in found)
        text = f"is a table: it is kept as {kept}, and a view of the same calls takes its place"
        return [SchemaChange(view.name, text, statements=(_Rename(view.name, kept),)), *changes, made]
    same = list(found[view.name]) == [each.name for each in view.columns]
    if same and not any(change.alters for change in changes):
        return [*changes, made]
    text = "" if same else "is made again"
    return [SchemaChange(view.name, text, alters=not same, statements=(DropTable(view),)), *changes, made]


def _names(first: str) -> Iterator[str]:
    yield first
    number = 2
    while True:
        yield f"{first}_{number}"
        number += 1


def _table(own: Table, found: dict[str, _Found] | None, views: set[str]) -> Iterator[SchemaChange]:
    if found is None:
        yield SchemaChange(own.name, "is made", alters=False, statements=(CreateTable(own, if_not_exists=True),))
        return
    if own.name in views:
        raise ConfigurationError(
            f"{own.name} is a view, and the warehouse needs a table of this name: rename the view, or set "
            "AGENTMODEL_WAREHOUSE_SCHEMA to another schema"
        )
    missing = [each for each in own.columns if each.name not in found]
    narrow = [each for each in own.columns if each.name in found and not _fits(each.type, found[each.name])]
    retired = [name for name in _RETIRED.get(own.name, ()) if name in found]
    if not (missing or narrow or retired):
        return
    if own in _MADE_ANEW:
        text = f"is made anew, with {_listed(each.name for each in (*missing, *narrow))}; {_MADE_ANEW[own]}"
        yield SchemaChange(own.name, text, statements=(DropTable(own), CreateTable(own)))
    elif not (narrow or retired) and all(each.nullable for each in missing):
        text = f"gets {_listed(each.name for each in missing)}"
        yield SchemaChange(own.name, text, statements=tuple(_AddColumn(own.name, each) for each in missing))
    else:
        yield _copied(own, found, missing, narrow, retired)


def _copied(
    own: Table,
    found: dict[str, _Found],
    missing: list[Column[Any]],
    narrow: list[Column[Any]],
    retired: list[str],
) -> SchemaChange:
    """Return how a table is copied into one with the models' columns, and with those that only the old one has."""
    for each in narrow:
        if not _castable(each.type, found[each.name]):
            raise ConfigurationError(
                f"{own.name}.{each.name} is {found[each.name].text}, and the warehouse needs {each.type}: rename the "
                "table, or set AGENTMODEL_WAREHOUSE_SCHEMA to another schema"
            )
    extra = {name: kind for name, kind in found.items() if name not in own.columns and name not in retired}
    # without a key: the sample's rows may double, and Redshift would rely on a key that is none
    columns = [Column(each.name, each.type, nullable=each.nullable) for each in own.columns]
    others = [Column(name, _Other(kind.text)) for name, kind in extra.items()]
    new = Table(f"{own.name}_migrating", MetaData(), *columns, *others, info=own.info)
    old = table(own.name, *(column(name) for name in found))
    sources = [each.name if each.name in found else _BEFORE.get(each.name, "") for each in own.columns]
    values = [_value(each, old.c.get(source)) for each, source in zip(own.columns, sources, strict=True)]
    rows: Any = select(*values, *(old.c[name] for name in extra)).select_from(old)
    parts = [
        f"gets {_listed(each.name for each in missing)}" if missing else "",
        f"has {_listed(f'{each.name} as {_kind(each)}' for each in narrow)}" if narrow else "",
        f"loses {_listed(retired)}, which this version does not compute" if retired else "",
    ]
    text = f"is copied: it {', '.join(part for part in parts if part)}; every row stays"
    steps = (CreateTable(new), insert(new).from_select(list(new.columns), rows), DropTable(own))
    return SchemaChange(own.name, text, statements=(*steps, _Rename(new.name, own.name)))


def _kind(of: Column[Any]) -> str:
    return f"VARCHAR({of.type.length})" if isinstance(of.type, String) else str(of.type)


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _family(kind: TypeEngine[Any]) -> str | None:
    families: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
        (String, "text"), (BigInteger, "int8"), (Integer, "int4"), (Float, "double"), (Boolean, "boolean"),
        (Date, "date"), (TIMESTAMP, "timestamp"),
    )  # fmt: skip
    return next((family for type_, family in families if isinstance(kind, type_)), None)


def _fits(wanted: TypeEngine[Any], found: _Found) -> bool:
    """Return whether a column of the warehouse holds what a column of a model does."""
    family = _family(wanted)
    if family is None or (family, found.family) == ("int4", "int8"):
        return True
    width = wanted.length if isinstance(wanted, String) else None
    return family == found.family and (width is None or found.width is None or found.width >= width)


def _castable(wanted: TypeEngine[Any], found: _Found) -> bool:
    family = _family(wanted)
    return (
        family == found.family or (family, found.family) == ("timestamp", "date") or {family, found.family} <= _NUMBERS
    )


def _value(of: Column[Any], old: ColumnElement[Any] | None) -> ColumnElement[Any]:
    """Return what a column of the new table gets: the old value, or where it must not be NULL a value for none."""
    if old is None:
        return cast(literal_column("NULL"), of.type) if of.nullable else _filling(of)
    value: ColumnElement[Any] = cast(old, of.type)
    return value if of.nullable else func.coalesce(value, _filling(of), type_=of.type)


def _filling(of: Column[Any]) -> ColumnElement[Any]:
    if isinstance(of.type, Integer):
        return constant(1 if of.name == _FIRST_ATTEMPT else 0)
    if isinstance(of.type, Float):
        return cast(literal_column("0"), of.type)
    if isinstance(of.type, Boolean):
        return literal_column("FALSE")
    if isinstance(of.type, String):
        return constant_text("")
    return cast(constant_day(m.UNDATED), of.type)


# -- statements -------------------------------------------------------------------------------------------------------


class _Other(UserDefinedType[Any]):
    """A type as the catalogue names it."""

    cache_ok = True

    def __init__(self, text: str) -> None:
        self.text = text

    def get_col_spec(self, **_: Any) -> str:
        return self.text


class _Rename(ExecutableDDLElement):
    """``ALTER TABLE name RENAME TO other``."""

    def __init__(self, name: str, other: str) -> None:
        self.name = name
        self.other = other


@compiles(_Rename)
def _rename(element: _Rename, compiler: DDLCompiler, **_: Any) -> str:
    name, other = map(compiler.preparer.quote, (element.name, element.other))
    return f"ALTER TABLE {name} RENAME TO {other}"


class _AddColumn(ExecutableDDLElement):
    """``ALTER TABLE name ADD COLUMN column``: one of each, since Redshift adds one at a time."""

    def __init__(self, name: str, own: Column[Any]) -> None:
        self.name = name
        self.own = own


@compiles(_AddColumn)
def _add_column(element: _AddColumn, compiler: DDLCompiler, **_: Any) -> str:
    own = compiler.process(CreateColumn(element.own))
    return f"ALTER TABLE {compiler.preparer.quote(element.name)} ADD COLUMN {own}"
