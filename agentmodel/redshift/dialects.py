"""The few constructs that Redshift, DuckDB and PostgreSQL spell differently, each compiled for all three.

Statements are built of these and of plain SQLAlchemy expressions; none holds SQL text. PostgreSQL is here because the
tests run the rendered statements on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias
from typing import cast as cast_type

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Double,
    FromClause,
    Integer,
    Select,
    SQLColumnExpression,
    String,
    Table,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TIMESTAMP, TypeEngine, UserDefinedType

__all__ = [
    "CreateView",
    "DayOf",
    "DaysBetween",
    "DropView",
    "Earlier",
    "ListAgg",
    "Matches",
    "Merge",
    "ParseSuper",
    "Ratio",
    "Super",
    "SuperText",
    "TimeOf",
    "Unpacked",
    "Varchar",
    "constant",
    "constant_day",
    "constant_text",
    "day_of",
    "key_part",
    "number_of",
    "rows_of",
    "super_number",
    "time_of",
]

WIDEST: Final = 65_535
"""Bytes the widest VARCHAR of Redshift holds."""

Expression: TypeAlias = "SQLColumnExpression[Any]"
"""A column of a model, or an expression."""

Rows: TypeAlias = "Select[Any]"
"""A select. SQLAlchemy 2.1 counts the columns in the type, 2.0 does not; nothing here reads rows by type."""


def rows_of(*columns: Any) -> Rows:
    """Select the columns, whatever their number."""
    rows: Any = select(*columns)
    return cast_type("Rows", rows)


class Super(UserDefinedType[Any]):
    """Semi-structured data: SUPER on Redshift, JSON on DuckDB, JSONB on PostgreSQL.

    DuckDB has VARIANT too, which takes Redshift's own navigation. But a path that an item lacks costs it thirty times
    what it costs JSON (1.9 against 0.06 microseconds a row), and most attributes are lacking in most items.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return Redshift's name of the type."""
        return "SUPER"


@compiles(Super, "duckdb")
def _super_duckdb(_type: Super, _compiler: Any, **_: Any) -> str:
    return "JSON"


@compiles(Super, "postgresql")
def _super_postgresql(_type: Super, _compiler: Any, **_: Any) -> str:
    return "JSONB"


def Varchar(characters: int) -> String:  # noqa: N802 -- reads as the type it makes
    """Make a VARCHAR wide enough for ``characters`` of any script: Redshift counts bytes, and one may take four.

    >>> Varchar(100).length
    400
    """
    return String(min(characters * 4, WIDEST))


# -- constants -------------------------------------------------------------------------------------------------------


def constant_text(value: str) -> ColumnElement[str]:
    """Return a text as a constant of the statement."""
    # CAST: a bare literal in a subquery has no type on Redshift
    quoted = value.replace("'", "''")
    return cast(literal_column(f"'{quoted}'"), Varchar(max(1, len(value))))


def constant_day(value: date) -> ColumnElement[date]:
    """Return a day as a constant of the statement."""
    return cast(literal_column(f"'{value.isoformat()}'"), Date)


def constant(value: int) -> ColumnElement[int]:
    """Return a whole number as a constant of the statement."""
    return literal_column(str(value), BigInteger if abs(value) > 2**31 else Integer)


# -- SUPER navigation -------------------------------------------------------------------------------------------------


class SuperText(FunctionElement[str]):
    """The text under a path of a SUPER column; NULL where the path is missing."""

    inherit_cache = False  # the path is no clause, so it would be missing in the key
    name = "super_text"
    type = String(WIDEST)

    def __init__(self, column: Expression, *path: str) -> None:
        self.path = path
        super().__init__(column)


@compiles(SuperText)
def _super_text(element: SuperText, compiler: SQLCompiler, **kw: Any) -> str:
    steps = ".".join(f'"{step}"' for step in element.path)
    return f"CAST({compiler.process(element.clauses, **kw)}.{steps} AS VARCHAR({WIDEST}))"


@compiles(SuperText, "duckdb")
def _super_text_duckdb(element: SuperText, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    (of,) = element.clauses
    if isinstance(of.type, _Unpacked):
        return f"{column}[{of.type.paths.index(element.path) + 1}]"
    return f"JSON_EXTRACT_STRING({column}, {_json_path(element.path)})"


def _json_path(path: Sequence[str]) -> str:
    return "'$" + "".join(f'."{step}"' for step in path) + "'"


@compiles(SuperText, "postgresql")
def _super_text_postgresql(element: SuperText, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({compiler.process(element.clauses, **kw)} #>> '{{{','.join(element.path)}}}')"


class _Unpacked(Super):
    def __init__(self, paths: tuple[tuple[str, ...], ...]) -> None:
        self.paths = paths


class Unpacked(FunctionElement[Any]):
    """A SUPER column of which only the texts under the given paths are read, each by `SuperText`, as from the column.

    Redshift keeps SUPER parsed, so to it this is the column. DuckDB parses JSON once per look-up, so there it is the
    list of these texts, and one parse instead of one per text.
    """

    inherit_cache = False  # the paths are no clause, so they would be missing in the key
    name = "unpacked"

    def __init__(self, column: Expression, paths: Iterable[tuple[str, ...]]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self.type = _Unpacked(self.paths)
        super().__init__(column)


@compiles(Unpacked)
def _unpacked(element: Unpacked, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(Unpacked, "duckdb")
def _unpacked_duckdb(element: Unpacked, compiler: SQLCompiler, **kw: Any) -> str:
    paths = ", ".join(_json_path(path) for path in element.paths)
    return f"JSON_EXTRACT_STRING({compiler.process(element.clauses, **kw)}, [{paths}])"


class ParseSuper(FunctionElement[Any]):
    """JSON text as SUPER."""

    inherit_cache = True
    name = "parse_super"
    type = Super()


@compiles(ParseSuper)
def _parse_super(element: ParseSuper, compiler: SQLCompiler, **kw: Any) -> str:
    return f"JSON_PARSE({compiler.process(element.clauses, **kw)})"


@compiles(ParseSuper, "duckdb")
def _parse_super_duckdb(element: ParseSuper, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS JSON)"


@compiles(ParseSuper, "postgresql")
def _parse_super_postgresql(element: ParseSuper, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS JSONB)"


# -- text -------------------------------------------------------------------------------------------------------------


def key_part(key: Expression, number: int) -> ColumnElement[str]:
    """Return the ``number``-th part (from 1) of a key joined by ``#``; '' where there are fewer."""
    return func.split_part(key, literal_column("'#'"), literal_column(str(number)), type_=String())


class Matches(FunctionElement[bool]):
    """Whether a whole text matches a POSIX pattern, which is to be anchored."""

    inherit_cache = True
    name = "matches"
    type = Boolean()

    def __init__(self, text: Expression, pattern: str) -> None:
        super().__init__(text, literal_column("'" + pattern.replace("'", "''") + "'"))


@compiles(Matches)
def _matches(element: Matches, compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = element.clauses
    return f"({compiler.process(text, **kw)} ~ {compiler.process(pattern, **kw)})"


@compiles(Matches, "duckdb")
def _matches_duckdb(element: Matches, compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = element.clauses
    return f"regexp_matches({compiler.process(text, **kw)}, {compiler.process(pattern, **kw)})"


def number_of(text: Expression, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """Return a number written as text; NULL where it is none or has more digits than the type holds.

    What is to be a whole number is read as one: from a fraction Redshift would cut what the other engines round.
    """
    if isinstance(type_, Integer):
        digits = 18 if isinstance(type_, BigInteger) else 9
        return case((Matches(text, f"^-?[0-9]{{1,{digits}}}$"), cast(text, type_)), else_=null())
    return case((Matches(text, "^-?[0-9]{1,18}([.][0-9]+)?$"), cast(text, type_)), else_=null())


def super_number(column: Expression, name: str, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """Return a number attribute, stored under ``N`` or, as the sample does it, under ``S``."""
    return number_of(func.coalesce(SuperText(column, name, "N"), SuperText(column, name, "S"), type_=String()), type_)


TIME: Final = "^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$"
"""A time of the table: 14 to 20 digits. What no calendar has, TO_DATE might refuse, and fail a whole refresh."""


# -- time -------------------------------------------------------------------------------------------------------------


class DayOf(FunctionElement[date]):
    """The day that eight digits name; NULL where there is no such day."""

    inherit_cache = True
    name = "day_of"
    type = Date()


@compiles(DayOf)
def _day_of(element: DayOf, compiler: SQLCompiler, **kw: Any) -> str:
    text = compiler.process(element.clauses, **kw)
    # TO_DATE lets 20250230 roll over into March, so what it made is compared with what was given
    return f"CASE WHEN TO_CHAR(TO_DATE({text}, 'YYYYMMDD'), 'YYYYMMDD') = {text} THEN TO_DATE({text}, 'YYYYMMDD') END"


@compiles(DayOf, "duckdb")
def _day_of_duckdb(element: DayOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(TRY_STRPTIME({compiler.process(element.clauses, **kw)}, '%Y%m%d') AS DATE)"


class TimeOf(FunctionElement[datetime]):
    """The second that fourteen digits name, as a TIMESTAMP in UTC; NULL where there is no such second."""

    inherit_cache = True
    name = "time_of"
    type = TIMESTAMP()


@compiles(TimeOf)
def _time_of(element: TimeOf, compiler: SQLCompiler, **kw: Any) -> str:
    text = compiler.process(element.clauses, **kw)
    made = f"CAST(TO_TIMESTAMP({text}, 'YYYYMMDDHH24MISS') AS TIMESTAMP)"
    return f"CASE WHEN TO_CHAR({made}, 'YYYYMMDDHH24MISS') = {text} THEN {made} END"


@compiles(TimeOf, "duckdb")
def _time_of_duckdb(element: TimeOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"TRY_STRPTIME({compiler.process(element.clauses, **kw)}, '%Y%m%d%H%M%S')"


def day_of(text: Expression) -> ColumnElement[date]:
    """Return the day of a time of the table (14 to 20 digits); NULL where the text is no time."""
    return case((Matches(text, TIME), DayOf(func.left(text, literal_column("8")))), else_=null())


def time_of(text: Expression) -> ColumnElement[datetime]:
    """Return the second of a time of the table (14 to 20 digits); NULL where the text is no time."""
    return case((Matches(text, TIME), TimeOf(func.left(text, literal_column("14")))), else_=null())


class DaysBetween(FunctionElement[int]):
    """Calendar days from the first day to the second; negative where it lies before."""

    inherit_cache = True
    name = "days_between"
    type = Integer()

    def __init__(self, start: Expression, end: Expression) -> None:
        super().__init__(start, end)


@compiles(DaysBetween)
def _days_between(element: DaysBetween, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATEDIFF(day, {compiler.process(element.clauses, **kw)})"


@compiles(DaysBetween, "duckdb")
def _days_between_duckdb(element: DaysBetween, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATE_DIFF('day', {compiler.process(element.clauses, **kw)})"


@compiles(DaysBetween, "postgresql")
def _days_between_postgresql(element: DaysBetween, compiler: SQLCompiler, **kw: Any) -> str:
    start, end = element.clauses
    return f"({compiler.process(end, **kw)} - {compiler.process(start, **kw)})"


class Earlier(FunctionElement[datetime]):
    """A time some hours before another."""

    inherit_cache = True
    name = "earlier"
    type = TIMESTAMP()

    def __init__(self, time: Expression, by: timedelta) -> None:
        super().__init__(literal_column(str(-int(by.total_seconds()))), time)


@compiles(Earlier)
def _earlier(element: Earlier, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATEADD(second, {compiler.process(element.clauses, **kw)})"


@compiles(Earlier, "duckdb")
@compiles(Earlier, "postgresql")
def _earlier_interval(element: Earlier, compiler: SQLCompiler, **kw: Any) -> str:
    seconds, time = element.clauses
    return f"({compiler.process(time, **kw)} + {compiler.process(seconds, **kw)} * INTERVAL '1 second')"


# -- numbers ----------------------------------------------------------------------------------------------------------


class Ratio(FunctionElement[float]):
    """A quotient of double precision: integers would divide to an integer, DECIMALs to few digits."""

    inherit_cache = True
    name = "ratio"
    type = Double()

    def __init__(self, part: Expression, whole: Expression) -> None:
        super().__init__(cast(part, Double), cast(whole, Double))


@compiles(Ratio)
def _ratio(element: Ratio, compiler: SQLCompiler, **kw: Any) -> str:
    part, whole = element.clauses
    return f"({compiler.process(part, **kw)} / {compiler.process(whole, **kw)})"


# -- aggregation ------------------------------------------------------------------------------------------------------


class ListAgg(FunctionElement[str]):
    """Texts of a group, joined in an order that leaves no ties. Empty texts are for the caller to replace."""

    inherit_cache = False  # `only_once` is no clause, so it would be missing in the key
    name = "list_agg"
    type = String(WIDEST)

    def __init__(
        self, text: Expression, separator: str, *, order_by: Sequence[Expression], distinct: bool = False
    ) -> None:
        self.only_once = distinct
        super().__init__(text, literal_column("'" + separator.replace("'", "''") + "'"), *order_by)


def _list_agg_parts(element: ListAgg, compiler: SQLCompiler, **kw: Any) -> tuple[str, str, str]:
    text, separator, *order = element.clauses
    kept = "DISTINCT " if element.only_once else ""
    return (
        kept + compiler.process(text, **kw),
        compiler.process(separator, **kw),
        ", ".join(compiler.process(key, **kw) for key in order),
    )


@compiles(ListAgg)
def _list_agg(element: ListAgg, compiler: SQLCompiler, **kw: Any) -> str:
    text, separator, order = _list_agg_parts(element, compiler, **kw)
    return f"LISTAGG({text}, {separator}) WITHIN GROUP (ORDER BY {order})"


@compiles(ListAgg, "duckdb")
@compiles(ListAgg, "postgresql")
def _list_agg_string_agg(element: ListAgg, compiler: SQLCompiler, **kw: Any) -> str:
    text, separator, order = _list_agg_parts(element, compiler, **kw)
    return f"STRING_AGG({text}, {separator} ORDER BY {order})"


# -- MERGE ------------------------------------------------------------------------------------------------------------


class Merge(UpdateBase):
    """``MERGE``: rows of a work table update the rows of a table with the same key, or are added to it.

    Both WHEN clauses are always written, and the source is a table: Redshift asks for both.
    """

    inherit_cache = False

    def __init__(
        self,
        target: FromClause,
        source: Table,
        *,
        on: Sequence[str],
        update: Mapping[str, ColumnElement[Any]],
        insert: Sequence[str],
    ) -> None:
        self.target = target
        self.source = source
        self.on = tuple(on)
        self.update = dict(update)
        self.insert = tuple(insert)


@compiles(Merge)
def _merge(element: Merge, compiler: SQLCompiler, **kw: Any) -> str:
    target, source = element.target, element.source
    quote = compiler.preparer.quote
    on = " AND ".join(f"{compiler.process(target.c[name] == source.c[name], **kw)}" for name in element.on)
    update = ", ".join(f"{quote(name)} = {compiler.process(value, **kw)}" for name, value in element.update.items())
    names = ", ".join(quote(name) for name in element.insert)
    values = ", ".join(compiler.process(source.c[name], **kw) for name in element.insert)
    into, using = (compiler.process(table, asfrom=True, **kw) for table in (target, source))
    matched = f"WHEN MATCHED THEN UPDATE SET {update}"
    return f"MERGE INTO {into} USING {using} ON {on} {matched} WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"  # noqa: S608 -- names and expressions are the models\' own


# -- views ------------------------------------------------------------------------------------------------------------


class CreateView(ExecutableDDLElement):
    """``CREATE OR REPLACE VIEW name AS select``."""

    def __init__(self, name: str, select: Select[Any]) -> None:
        self.name = name
        self.select = select


@compiles(CreateView)
def _create_view(element: CreateView, compiler: DDLCompiler, **_: Any) -> str:
    query = compiler.sql_compiler.process(element.select, literal_binds=True)
    return f"CREATE OR REPLACE VIEW {compiler.preparer.quote(element.name)} AS {query}"


class DropView(ExecutableDDLElement):
    """``DROP VIEW IF EXISTS name``."""

    def __init__(self, name: str) -> None:
        self.name = name


@compiles(DropView)
def _drop_view(element: DropView, compiler: DDLCompiler, **_: Any) -> str:
    return f"DROP VIEW IF EXISTS {compiler.preparer.quote(element.name)}"
