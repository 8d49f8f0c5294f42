"""The constructs that engines spell differently: each has its rule for each engine, and statements hold nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Date, Double, Integer, MetaData, String, Table, column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.types import TIMESTAMP

from agentmodel.redshift import _constructs as d
from agentmodel.redshift import _refresh_sql as statements
from agentmodel.redshift import _report_sql as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import score, session_list
from agentmodel.redshift._duckdb_dialect import _COMPILED, DuckDBDialect
from agentmodel.redshift._duckdb_landing import landing_table
from agentmodel.redshift._staging_sql import staging
from agentmodel.redshift.warehouse import Warehouse

redshift = pytest.importorskip("sqlalchemy_redshift.dialect", reason="sqlalchemy-redshift renders the statements")

ENGINES: dict[str, Any] = {
    "redshift": redshift.RedshiftDialect_redshift_connector(),
    "duckdb": DuckDBDialect(),
    "postgresql": postgresql.dialect(),  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
}

T: Any = Table("t", MetaData(), Column("k", String), Column("n", Integer))
U: Any = Table("u", MetaData(), Column("k", String), Column("n", Integer))
TEXT, DAY, TIME, NUMBER = column("x", String), column("x", Date), column("x", TIMESTAMP), column("x", Double)

TIME_OF = (
    "CASE WHEN TO_CHAR(CAST(TO_TIMESTAMP(x, 'YYYYMMDDHH24MISS') AS TIMESTAMP), 'YYYYMMDDHH24MISS') = x"
    " THEN CAST(TO_TIMESTAMP(x, 'YYYYMMDDHH24MISS') AS TIMESTAMP) END"
)
MERGE = (
    "MERGE INTO t USING u ON t.k = u.k WHEN MATCHED THEN UPDATE SET n = t.n + u.n"
    " WHEN NOT MATCHED THEN INSERT (k, n) VALUES (u.k, u.n)"
)

SPELLINGS: dict[str, tuple[Any, ...]] = {
    "Super": (
        CreateTable(Table("t", MetaData(), Column("x", d.Super()))),
        "CREATE TABLE t ( x SUPER ENCODE ZSTD )", "CREATE TABLE t ( x JSON )", "CREATE TABLE t ( x JSONB )",
    ),
    "SuperText": (
        d.SuperText(column("x"), "A", "S"),
        'CAST(x."A"."S" AS VARCHAR(65535))', """JSON_EXTRACT_STRING(x, '$."A"."S"')""", "(x #>> '{A,S}')",
    ),
    "ExtractedTexts": (
        d.ExtractedTexts(column("x"), [("A", "S"), ("B", "N"), ("A", "S")]),
        "x", """JSON_EXTRACT_STRING(x, ['$."A"."S"', '$."B"."N"'])""", "x",
    ),
    "ParseSuper": (d.ParseSuper(TEXT), "JSON_PARSE(x)", "CAST(x AS JSON)", "CAST(x AS JSONB)"),
    "Matches": (d.Matches(TEXT, "^a'$"), "(x ~ '^a''$')", "regexp_matches(x, '^a''$')", "(x ~ '^a''$')"),
    "DayOf": (
        d.DayOf(TEXT),
        "CASE WHEN TO_CHAR(TO_DATE(x, 'YYYYMMDD'), 'YYYYMMDD') = x THEN TO_DATE(x, 'YYYYMMDD') END",
        "CAST(TRY_STRPTIME(x, '%Y%m%d') AS DATE)",
        "CASE WHEN TO_CHAR(TO_DATE(x, 'YYYYMMDD'), 'YYYYMMDD') = x THEN TO_DATE(x, 'YYYYMMDD') END",
    ),
    "TimeOf": (
        d.TimeOf(TEXT),
        TIME_OF,
        "TRY_STRPTIME(x, '%Y%m%d%H%M%S')",
        TIME_OF,
    ),
    "DaysBetween": (
        d.DaysBetween(DAY, column("y", Date)), "DATEDIFF(day, x, y)", "DATE_DIFF('day', x, y)", "(y - x)"
    ),
    "SecondsBefore": (
        d.SecondsBefore(TIME, timedelta(hours=1)),
        "DATEADD(second, -3600, x)", "(x + -3600 * INTERVAL '1 second')", "(x + -3600 * INTERVAL '1 second')",
    ),
    "Ratio": (d.Ratio(NUMBER, column("y")), *["(CAST(x AS DOUBLE PRECISION) / CAST(y AS DOUBLE PRECISION))"] * 3),
    "ListAgg": (
        d.ListAgg(TEXT, "->", order_by=[column("y")]),
        "LISTAGG(x, '->') WITHIN GROUP (ORDER BY y)",
        "STRING_AGG(x, '->' ORDER BY y)", "STRING_AGG(x, '->' ORDER BY y)",
    ),
    "Merge": (
        d.Merge(T, U, on=["k"], update={"n": T.c.n + U.c.n}, insert=["k", "n"]),
        *[MERGE] * 3,
    ),
    "CreateView": (
        d.CreateView("v", m.rows_of(T.c.k)), *["CREATE OR REPLACE VIEW v AS SELECT t.k FROM t"] * 3
    ),
    "LockTable": (d.LockTable("t"), *["LOCK TABLE t"] * 3),
    "DropView": (d.DropView("v"), *["DROP VIEW IF EXISTS v"] * 3),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SPELLINGS)
def test_each_construct_has_a_rule_for_each_engine(name: str, engine: str) -> None:
    """A construct compiles to what the engine calls it."""
    element, *expected = SPELLINGS[name]
    text = str(element.compile(dialect=ENGINES[engine])).replace("%%", "%")

    assert expected[list(ENGINES).index(engine)] == " ".join(text.split())


def test_every_construct_is_in_the_list() -> None:
    """No construct of the module is left out of the list above."""
    made = {name for name in d.__all__ if isinstance(getattr(d, name), type)}

    assert made == set(SPELLINGS)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_of_an_unpacked_column_is_a_place_in_its_list_or_a_path(engine: str) -> None:
    """DuckDB takes the text out of the list, the other engines out of the column."""
    item = m.rows_of(d.ExtractedTexts(column("x"), [("A", "S"), ("B", "N")]).label("x")).subquery("i")
    expected = {
        "redshift": 'CAST(i.x."B"."N" AS VARCHAR(65535))',
        "duckdb": "i.x[2]",
        "postgresql": "(i.x #>> '{B,N}')",
    }

    assert expected[engine] == str(d.SuperText(item.c.x, "B", "N").compile(dialect=ENGINES[engine]))


# -- no SQL text ------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?|'([^']|'')*'|TRUE|FALSE|[*]", re.IGNORECASE)
"""What a literal may be: a number, a text in quotes, a truth value, and the star of `count(*)`."""


def everything() -> Iterator[tuple[str, Any]]:
    """Every statement of the warehouse by name: refreshes with and without history, the view, the reports."""
    for with_history in (True, False):
        landed = m.landed_table("AgentTable", history=with_history)
        told = statements.refresh_parameters(
            landed,
            as_of=date(2025, 6, 14),
            half_life_days=30.0,
            since=datetime(2025, 6, 14),  # noqa: DTZ001 -- TIMESTAMP has no zone
            previous_as_of=date(2025, 6, 1),
        )
        makers = [statements.incremental_refresh, *([statements.full_refresh] if with_history else [])]
        yield from ((s.name, s.statement) for make in makers for s in make(told) if not callable(s.statement))
    yield "staging", staging(m.UserToolMappingHist, m.AgentRow)
    yield (
        "agent_ranking",
        queries.agent_ranking(score.as_of_expression(date(2025, 6, 14)), score.half_life_expression(30.0)),
    )
    yield "patterns", queries.patterns(score.as_of_expression(date(2025, 6, 14)))
    reports = (queries.steps, queries.tool_errors, queries.tool_failures, queries.requests, queries.executions_per_day)
    for make_report in (*reports, queries.tokens):
        yield make_report.__name__, make_report()
    yield "newest_calls", session_list._newest_calls("AGT001", 1000)


def elements(statement: Any) -> list[Any]:
    """Every element of a statement once, however many parts of it share one; a MERGE keeps its own apart."""
    left = [statement, *statement.update.values()] if isinstance(statement, d.Merge) else [statement]
    seen: dict[int, Any] = {}
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen[id(one)] = one  # which keeps it alive, so that no other element gets its number
            left.extend(one.get_children())
    return [*seen.values()]


def test_no_statement_holds_sql_text() -> None:
    """Statements are expressions: no text, and no literal that is more than one value."""
    found = [(name, one) for name, whole in everything() for one in elements(whole)]
    texts = [(name, one.text) for name, one in found if isinstance(one, TextClause)]
    literals = {one.name for _, one in found if isinstance(one, ColumnClause) and one.is_literal}

    assert [] == texts
    assert {"'#'", "1"} <= literals
    assert [] == [literal for literal in literals if not PLAIN.fullmatch(literal)]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_statement_compiles_for_every_engine(engine: str) -> None:
    """Each statement is one expression that each engine's compiler knows."""
    compiled = [str(statement.compile(dialect=ENGINES[engine])) for _, statement in everything()]

    assert len(compiled) > 100
    assert all(compiled)


def test_names_of_the_landed_table_stand_in_one_place() -> None:
    """History mode's columns are there when it is on, under the names that models.py gives them, and else not."""
    keys = ["PK", "SK", "value"]

    assert [*keys, m.ACTIVE, m.CREATED, m.DELETED] == [one.name for one in m.landed_table("AgentTable").columns]
    assert keys == [one.name for one in m.landed_table("AgentTable", history=False).columns]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (d.SuperText(TEXT, "A", "S"), d.SuperText(TEXT, "A", "N")),
        (d.ExtractedTexts(TEXT, [("A", "S")]), d.ExtractedTexts(TEXT, [("A", "N")])),
        (d.ListAgg(TEXT, "->", order_by=[TEXT]), d.ListAgg(TEXT, "->", order_by=[TEXT], distinct=True)),
        (d.SuperText(column("x", d.ExtractedTexts(TEXT, [("A", "S")]).type), "A", "S"), d.SuperText(TEXT, "A", "S")),
    ],
    ids=["path", "paths", "distinct", "kind of column"],
)
def test_statements_that_differ_in_a_construct_are_compiled_apart(one: Any, other: Any) -> None:
    """What a construct has besides its clauses tells two statements apart where compiled ones are kept, and is kept."""
    keys = [select(each)._generate_cache_key() for each in (one, other)]

    assert all(key is not None for key in keys)
    assert keys[0] != keys[1]
    assert keys[0] == select(one)._generate_cache_key()


def test_all_duckdb_engines_share_compiled_statements() -> None:
    """A statement that one warehouse compiled is not compiled again by another, which gets its own rows."""
    pytest.importorskip("duckdb", reason="the engine is an extra")
    landed = landing_table("AgentTable")
    compiled = []
    for day in (date(2025, 6, 14), date(2025, 6, 15)):
        with Warehouse.open("duckdb://", threads=1) as warehouse:
            warehouse.create()
            warehouse.refresh(as_of=day)
            rows = warehouse.read(select(m.RefreshWatermark.as_of))
        compiled.append(len(_COMPILED))

        assert [(day,)] == [tuple(row) for row in rows]
    assert landed is landing_table("AgentTable")
    assert compiled[0] == compiled[1]
