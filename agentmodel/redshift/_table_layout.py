"""Compile how each table is stored: as a view, or on Redshift with its distribution, sort key and column encodings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Double, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateTable, DropTable
from sqlalchemy.sql.compiler import DDLCompiler

from agentmodel.redshift._constructs import CreateView, DropView, Rows, Super

__all__ = ["add_view", "is_view", "layout"]


def add_view(model: Any, rows: Rows, *, of: Sequence[Any]) -> None:
    """Make a model's table a view: ``CREATE TABLE`` of it, also by ``create_all``, is compiled to ``CREATE VIEW``.

    Args:
        model: The model.
        rows: The view's select.
        of: The models that it selects from, whose tables are created before it and dropped after it.
    """
    table = model.__table__
    table.info["view"] = rows
    for source in of:
        table.add_is_dependent_on(source.__table__)


def is_view(table: Any) -> bool:
    """Return whether `add_view` has made a table a view."""
    return "view" in table.info


def layout(
    *, style: str | None = None, key: str | None = None, sort: str | tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Return the arguments of a table that hold how Redshift distributes and sorts it.

    Small tables are stored whole on every node; the others are distributed by user.

    Args:
        style: ``DISTSTYLE``; unset for Redshift's default.
        key: The column of ``DISTKEY``.
        sort: The column or columns of ``SORTKEY``.
    """
    attributes = {"diststyle": style, "distkey": key, "sortkey": sort}
    return {"info": {"layout": {name: value for name, value in attributes.items() if value is not None}}}


@compiles(CreateTable)
def _create(element: CreateTable, compiler: DDLCompiler, **kw: Any) -> str:
    table = element.element
    if is_view(table):
        return compiler.process(CreateView(table.name, table.info["view"]), **kw)
    create: Any = compiler.visit_create_table  # untyped in SQLAlchemy
    text: str = create(element, **kw)
    return text


@compiles(DropTable)
def _drop(element: DropTable, compiler: DDLCompiler, **kw: Any) -> str:
    if is_view(element.element):
        return compiler.process(DropView(element.element.name), **kw)
    drop: Any = compiler.visit_drop_table  # untyped in SQLAlchemy
    text: str = drop(element, **kw)
    return text


@compiles(CreateTable, "redshift")
def _create_on_redshift(element: CreateTable, compiler: DDLCompiler, **kw: Any) -> str:
    # not by `redshift_distkey=…` arguments of the tables: SQLAlchemy warns of them where the dialect is not installed
    from sqlalchemy_redshift.ddl import get_table_attributes

    text = _create(element, compiler, **kw).rstrip()
    if is_view(element.element):
        return text
    attributes: str = get_table_attributes(compiler.preparer, **element.element.info.get("layout", {}))
    return f"{text}{attributes}"


@compiles(CreateColumn, "redshift")
def _column_on_redshift(element: CreateColumn, compiler: DDLCompiler, **kw: Any) -> str:
    create: Any = compiler.visit_create_column  # untyped in SQLAlchemy
    text: str = create(element, **kw)
    kind, required, rest = text.partition(" NOT NULL")
    return f"{kind} ENCODE {_encoding(element.element)}{required}{rest}"


def _encoding(column: Column[Any]) -> str:
    """Return how Redshift compresses a column: by its default encoding, except for texts.

    Texts are ZSTD, which AWS recommends for texts of any length and for JSON. Sort keys stay raw, so that blocks can be
    skipped by them; DOUBLE PRECISION and BOOLEAN are raw by default (Redshift's developer guide, *Compression
    encodings*). Every column gets an encoding, because the first explicit one turns ENCODE AUTO off for the table.
    """
    sort = column.table.info.get("layout", {}).get("sortkey", ())
    if column.name in ((sort,) if isinstance(sort, str) else sort) or isinstance(column.type, Boolean | Double):
        return "RAW"
    return "ZSTD" if isinstance(column.type, String | Super) else "AZ64"
