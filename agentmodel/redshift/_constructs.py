"""Compile the few SQL constructs that Redshift, DuckDB and PostgreSQL write differently, each for all three.

Every statement is built of these and of plain SQLAlchemy expressions; none contains SQL text. PostgreSQL is included
because the tests run the rendered statements on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

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
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TIMESTAMP, TypeEngine, UserDefinedType

__all__ = [
    "CreateView", "DayOf", "DaysBetween", "DropView", "ExtractedTexts", "ListAgg", "LockTable", "Matches", "Merge",
    "ParseSuper",
    "Ratio", "SecondsBefore", "Super", "SuperText", "TimeOf", "Varchar", "ascii_text", "bounded", "constant",
    "constant_day", "constant_text",
    "count_of",
    "day_of", "key_part", "number_of", "super_number", "time_of",
    "total",
]  # fmt: skip

WIDEST: Final = 65_535
"""Bytes that the widest VARCHAR of Redshift holds."""

LARGEST_TOTAL: Final = 4 * 10**18
"""The largest sum that is kept; it is less than half of what a BIGINT holds."""

Expression: TypeAlias = "SQLColumnExpression[Any]"
"""A column of a model, or an expression."""

Rows: TypeAlias = "Select[Any]"
"""A select. The type has the columns in SQLAlchemy 2.1, and not in 2.0; nothing here reads rows by type."""


class Super(UserDefinedType[Any]):
    """Semi-structured data: SUPER on Redshift, JSON on DuckDB, JSONB on PostgreSQL.

    DuckDB has VARIANT too, which supports Redshift's own navigation. But there a path that an item lacks costs thirty
    times as much as with JSON (1.9 against 0.06 microseconds per row), and most items lack most attributes.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return Redshift's name for the type."""
        return "SUPER"


@compiles(Super, "duckdb")
def _super_duckdb(_type: Super, _compiler: Any, **_: Any) -> str:
    return "JSON"


@compiles(Super, "postgresql")
def _super_postgresql(_type: Super, _compiler: Any, **_: Any) -> str:
    return "JSONB"


def Varchar(characters: int) -> String:  # noqa: N802 -- reads as the type it makes
    """Return a VARCHAR for so many characters of any script: Redshift counts bytes, up to four per character.

    >>> Varchar(100).length
    400
    """
    return String(min(characters * 4, WIDEST))


# -- constants -------------------------------------------------------------------------------------------------------


def constant_text(value: str) -> ColumnElement[str]:
    """Return a text as a constant in the statement."""
    # CAST: a bare literal in a subquery has no type on Redshift
    quoted = value.replace("'", "''")
    return cast(literal_column(f"'{quoted}'"), Varchar(max(1, len(value))))


def constant_day(value: date) -> ColumnElement[date]:
    """Return a day as a constant in the statement."""
    return cast(literal_column(f"'{value.isoformat()}'"), Date)


def constant(value: int) -> ColumnElement[int]:
    """Return an integer as a constant in the statement."""
    return literal_column(str(value), BigInteger if abs(value) > 2**31 else Integer)


def _keyed_by(attribute: str) -> list[tuple[str, InternalTraversal]]:
    """Return what SQLAlchemy finds a compiled statement by: a function's clauses, and this attribute of its own."""
    return [*FunctionElement._traverse_internals, (attribute, InternalTraversal.dp_plain_obj)]  # noqa: SLF001 -- SQLAlchemy's way to say so


# -- SUPER navigation -------------------------------------------------------------------------------------------------


class SuperText(FunctionElement[str]):
    """The text under a path of a SUPER column; NULL where the path is missing."""

    inherit_cache = True
    _traverse_internals = _keyed_by("path")
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
    (source,) = element.clauses
    if isinstance(source.type, _TextList):
        return f"{column}[{source.type.paths.index(element.path) + 1}]"
    return f"JSON_EXTRACT_STRING({column}, {_json_path(element.path)})"


def _json_path(path: Sequence[str]) -> str:
    return "'$" + "".join(f'."{step}"' for step in path) + "'"


@compiles(SuperText, "postgresql")
def _super_text_postgresql(element: SuperText, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({compiler.process(element.clauses, **kw)} #>> '{{{','.join(element.path)}}}')"


class _TextList(Super):
    cache_ok = True  # not inherited; the paths are a part of the key

    def __init__(self, paths: tuple[tuple[str, ...], ...]) -> None:
        self.paths = paths


class ExtractedTexts(FunctionElement[Any]):
    """The texts under some paths of a SUPER column; `SuperText` reads each of them as from the column itself.

    On Redshift this is the column, because Redshift stores SUPER parsed. DuckDB parses JSON at every look-up; there it
    is the list of the texts, which takes one parse instead of one per text.
    """

    inherit_cache = True
    _traverse_internals = _keyed_by("paths")
    name = "extracted_texts"

    def __init__(self, column: Expression, paths: Iterable[tuple[str, ...]]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self.type = _TextList(self.paths)
        super().__init__(column)


@compiles(ExtractedTexts)
def _extracted_texts(element: ExtractedTexts, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(ExtractedTexts, "duckdb")
def _extracted_texts_duckdb(element: ExtractedTexts, compiler: SQLCompiler, **kw: Any) -> str:
    paths = ", ".join(_json_path(path) for path in element.paths)
    return f"JSON_EXTRACT_STRING({compiler.process(element.clauses, **kw)}, [{paths}])"


class ParseSuper(FunctionElement[Any]):
    """A JSON text as a SUPER value."""

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
    """Return the ``number``-th part (from 1) of a key joined by ``#``; '' where it has fewer parts."""
    return func.split_part(key, literal_column("'#'"), literal_column(str(number)), type_=String())


class Matches(FunctionElement[bool]):
    """Whether a text matches a POSIX pattern; the pattern must be anchored to match the whole text."""

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
    """Return a number that is written as text; NULL where the text is no number or has too many digits for the type.

    For an integer type, a text with a fraction is no number: Redshift would truncate it, the other engines round it.
    """
    if isinstance(type_, Integer):
        digits = 18 if isinstance(type_, BigInteger) else 9
        return case((Matches(text, f"^-?[0-9]{{1,{digits}}}$"), cast(text, type_)), else_=null())
    return case((Matches(text, "^-?[0-9]{1,18}([.][0-9]{1,38})?$"), cast(text, type_)), else_=null())


def count_of(text: Expression) -> ColumnElement[int]:
    """Return a count that is written as text; NULL where the text is no number from 0 to 13 digits."""
    return case((Matches(text, "^[0-9]{1,13}$"), cast(text, BigInteger)), else_=null())


def bounded(number: Expression) -> ColumnElement[int]:
    """Return a whole number, and the nearest one that fits where it is too large; the sum of two fits a BIGINT."""
    least = func.least(func.greatest(number, constant(-LARGEST_TOTAL)), constant(LARGEST_TOTAL))
    return cast(least, BigInteger)


def total(number: Expression) -> ColumnElement[int]:
    """Return the sum of whole numbers; one that is too large is `bounded`, where a cast alone would fail."""
    return bounded(func.sum(cast(number, BigInteger)))


def ascii_text(text: Expression, width: int) -> ColumnElement[str]:
    """Return a text of so many characters and bytes; NULL where it has other characters than printable ASCII."""
    return case((Matches(text, "^[ -~]*$"), func.left(text, constant(width), type_=String())), else_=null())


def super_number(column: Expression, name: str, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """Return a number attribute, stored under ``N`` or, as in the sample, under ``S``."""
    return number_of(func.coalesce(SuperText(column, name, "N"), SuperText(column, name, "S"), type_=String()), type_)


TIME: Final = "^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$"
"""Pattern of a time of the table, 14 to 20 digits; TO_DATE could fail a whole refresh on a month 13 or a day 40."""


# -- time -------------------------------------------------------------------------------------------------------------


class DayOf(FunctionElement[date]):
    """The date in a text of eight digits; NULL where there is no such date."""

    inherit_cache = True
    name = "day_of"
    type = Date()


@compiles(DayOf)
def _day_of(element: DayOf, compiler: SQLCompiler, **kw: Any) -> str:
    text = compiler.process(element.clauses, **kw)
    # TO_DATE turns 20250230 into a day of March, so its result is compared with the text
    return f"CASE WHEN TO_CHAR(TO_DATE({text}, 'YYYYMMDD'), 'YYYYMMDD') = {text} THEN TO_DATE({text}, 'YYYYMMDD') END"


@compiles(DayOf, "duckdb")
def _day_of_duckdb(element: DayOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(TRY_STRPTIME({compiler.process(element.clauses, **kw)}, '%Y%m%d') AS DATE)"


class TimeOf(FunctionElement[datetime]):
    """The TIMESTAMP in a text of fourteen digits, in UTC; NULL where there is no such time."""

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
    """Return a time of the table (14 to 20 digits) as a TIMESTAMP in seconds; NULL where the text is no time."""
    return case((Matches(text, TIME), TimeOf(func.left(text, literal_column("14")))), else_=null())


class DaysBetween(FunctionElement[int]):
    """Calendar days from the first day to the second; negative where the second is earlier."""

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


class SecondsBefore(FunctionElement[datetime]):
    """The time that lies a timedelta, in whole seconds, before another time."""

    inherit_cache = True
    name = "seconds_before"
    type = TIMESTAMP()

    def __init__(self, time: Expression, by: timedelta) -> None:
        super().__init__(literal_column(str(-int(by.total_seconds()))), time)


@compiles(SecondsBefore)
def _seconds_before(element: SecondsBefore, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATEADD(second, {compiler.process(element.clauses, **kw)})"


@compiles(SecondsBefore, "duckdb")
@compiles(SecondsBefore, "postgresql")
def _seconds_before_interval(element: SecondsBefore, compiler: SQLCompiler, **kw: Any) -> str:
    seconds, time = element.clauses
    return f"({compiler.process(time, **kw)} + {compiler.process(seconds, **kw)} * INTERVAL '1 second')"


# -- numbers ----------------------------------------------------------------------------------------------------------


class Ratio(FunctionElement[float]):
    """A quotient in double precision; integers would give an integer, and DECIMALs few digits."""

    inherit_cache = True
    name = "ratio"
    type = Double()

    def __init__(self, numerator: Expression, denominator: Expression) -> None:
        super().__init__(cast(numerator, Double), cast(denominator, Double))


@compiles(Ratio)
def _ratio(element: Ratio, compiler: SQLCompiler, **kw: Any) -> str:
    numerator, denominator = element.clauses
    return f"({compiler.process(numerator, **kw)} / {compiler.process(denominator, **kw)})"


# -- aggregation ------------------------------------------------------------------------------------------------------


class ListAgg(FunctionElement[str]):
    """The texts of a group, joined in an order without ties; the caller replaces empty texts."""

    inherit_cache = True
    _traverse_internals = _keyed_by("is_distinct")
    name = "list_agg"
    type = String(WIDEST)

    def __init__(
        self, text: Expression, separator: str, *, order_by: Sequence[Expression], distinct: bool = False
    ) -> None:
        self.is_distinct = distinct
        super().__init__(text, literal_column("'" + separator.replace("'", "''") + "'"), *order_by)


def _list_agg_parts(element: ListAgg, compiler: SQLCompiler, **kw: Any) -> tuple[str, str, str]:
    text, separator, *order = element.clauses
    distinct = "DISTINCT " if element.is_distinct else ""
    return (
        distinct + compiler.process(text, **kw),
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
    """``MERGE``: the rows of a work table update the rows of a table with the same key, or are inserted into it.

    Both WHEN clauses are always written, and the source is always a table: Redshift requires that.
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
    return f"MERGE INTO {into} USING {using} ON {on} {matched} WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"  # noqa: S608 -- all names and expressions are those of the models


class LockTable(ExecutableDDLElement):
    """``LOCK TABLE name``: wait for all who use the table, and keep others from it until the transaction ends.

    It takes no snapshot of the data. So where it is the first statement of a transaction, the transaction sees what the
    one before it committed.
    """

    def __init__(self, name: str) -> None:
        self.name = name


@compiles(LockTable)
def _lock_table(element: LockTable, compiler: DDLCompiler, **_: Any) -> str:
    return f"LOCK TABLE {compiler.preparer.quote(element.name)}"


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
