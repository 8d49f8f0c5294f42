"""Hand rows of the warehouse to Arrow, pandas or polars."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Final, TypeVar

from sqlalchemy import Executable

from agentmodel.exceptions import MissingExtraError

__all__ = ["Rows"]

_T = TypeVar("_T")

_ARROW: Final[dict[Any, str]] = {
    str: "string", int: "int64", float: "float64", bool: "bool_", date: "date32", datetime: "timestamp",
}  # fmt: skip


class Rows(list[_T]):
    """The rows of a select or a report: a list that can also be handed on as a table.

    A column of the table has the type that the select or the report declares, also where there are no rows. A column
    whose type is not declared, or that has a value of another one, has the type of its values.

    Attributes:
        columns: The names of the columns.

    >>> from agentmodel.redshift.reports import tool_errors
    >>> rows = tool_errors(model.warehouse)
    >>> rows.columns[:3], [row.agent_name for row in rows]
    (('agent_id', 'agent_name', 'errors'), ['map agent'])
    """

    def __init__(self, rows: Iterable[_T], columns: Sequence[tuple[str, Any]]) -> None:
        super().__init__(rows)
        self.columns = tuple(name for name, _ in columns)
        self._types = tuple(kind for _, kind in columns)

    def to_arrow(self) -> Any:
        """Return the rows as a ``pyarrow.Table``.

        Raises:
            MissingExtraError: pyarrow is not installed.

        >>> from agentmodel.redshift.reports import tool_errors
        >>> tool_errors(model.warehouse).to_arrow().column("errors").to_pylist()
        [2]
        """
        arrow: Any = _imported("pyarrow", "arrow", "to_arrow()")
        rows = [_plain(row) for row in self]
        columns = zip(*rows, strict=True) if rows else ((),) * len(self.columns)
        arrays = [_array(arrow, values, kind) for values, kind in zip(columns, self._types, strict=True)]
        return arrow.Table.from_arrays(arrays, names=list(self.columns))

    def to_pandas(self) -> Any:
        """Return the rows as a ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pandas or pyarrow is not installed.

        >>> from agentmodel.redshift.reports import tool_errors
        >>> tool_errors(model.warehouse).to_pandas()["error_rate"].round(2).tolist()
        [0.67]
        """
        _imported("pandas", "pandas", "to_pandas()")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return the rows as a ``polars.DataFrame``.

        Raises:
            MissingExtraError: polars or pyarrow is not installed.

        >>> from agentmodel.redshift.reports import tool_errors
        >>> tool_errors(model.warehouse).to_polars()["agent_name"].to_list()
        ['map agent']
        """
        polars: Any = _imported("polars", "polars", "to_polars()")
        return polars.from_arrow(self.to_arrow())


def of_select(rows: Iterable[Any], names: Sequence[str], statement: Executable) -> Rows[Any]:
    """Return the rows of a statement, with the names and types of its columns."""
    selected = list(getattr(statement, "selected_columns", ()))
    if len(selected) != len(names):  # such as of a text
        return Rows(rows, [(name, None) for name in names])
    return Rows(rows, [(name, _kind_of_sql(column.type)) for name, column in zip(names, selected, strict=True)])


def of_report(rows: Iterable[_T], row: type[_T]) -> Rows[_T]:
    """Return the rows of a report, with the names and types of the fields of its class of rows."""
    return Rows(rows, _members(row))


def _members(row: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(row)
    return [(each.name, _kind_of_hint(hints[each.name])) for each in fields(row)]


def _kind_of_sql(kind: Any) -> Any:
    try:
        return _ARROW.get(kind.python_type)
    except NotImplementedError:  # SQLAlchemy has no Python type for it: Arrow takes that of the values
        return None


def _kind_of_hint(hint: Any) -> Any:
    """Return an Arrow type's name, a list of one for a list, or name and kind of each member of a dataclass."""
    arguments = [each for each in typing.get_args(hint) if each not in (NoneType, Ellipsis)]
    if isinstance(hint, UnionType):
        return _kind_of_hint(arguments[0])
    if typing.get_origin(hint) is tuple:
        return [_kind_of_hint(arguments[0])]
    return tuple(_members(hint)) if is_dataclass(hint) else _ARROW[hint]


def _plain(row: Any) -> Any:
    """Return the values of a row: of a select a row, of a report an instance of a dataclass."""
    return tuple(_value(getattr(row, each.name)) for each in fields(row)) if is_dataclass(row) else tuple(row)


def _value(value: Any) -> Any:
    """Return a value as Arrow takes it: dataclasses as dicts."""
    if isinstance(value, tuple):
        return [_value(each) for each in value]
    return {each.name: _value(getattr(value, each.name)) for each in fields(value)} if is_dataclass(value) else value


def _type(arrow: Any, kind: Any) -> Any:
    if isinstance(kind, list):
        return arrow.list_(_type(arrow, kind[0]))
    if isinstance(kind, tuple):
        return arrow.struct([(name, _type(arrow, member)) for name, member in kind])
    return arrow.timestamp("us") if kind == "timestamp" else getattr(arrow, kind)()


def _array(arrow: Any, values: Sequence[Any], kind: Any) -> Any:
    if kind is None:
        return arrow.array(values)
    try:
        return arrow.array(values, type=_type(arrow, kind))
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
        return arrow.array(values)  # an engine returned another type than the select declares, such as a wider number


def _imported(module: str, extra: str, need: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise MissingExtraError(extra, need, module) from None
