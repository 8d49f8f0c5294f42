"""Run the warehouse on Redshift Serverless (or any warehouse URL) and compare the results with tests/golden/.

python scripts/serverless.py URL [--schema NAME] [--keep]      create a schema, use it and drop it
python scripts/serverless.py --write                           write the expected results, computed on DuckDB

A small history is written into a plain table, so no zero-ETL is needed. It is refreshed in two stages; the second has
new sessions, a late call, a corrected outcome, an agent that changes its domain, items that TTL deleted and items that
a person erased. This runs three times: with the SQL text of sql/ as a query editor runs it, with its procedure as a
schedule calls it, and with the Python program and its bound parameters. SQL derives no categories, so it gets those
that the program derives on DuckDB. Every table and report is then compared with
tests/golden/. The exit code is 0 if all are equal.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, cast, delete, event, insert, literal, select
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TIMESTAMP

from agentmodel.exceptions import AgentModelError
from agentmodel.redshift import _report_sql as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import render_sql as render
from agentmodel.redshift import score
from agentmodel.redshift._constructs import ParseSuper
from agentmodel.redshift.warehouse import Warehouse

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
DAY, HALF_LIFE = render.EXAMPLE_DAY, 30.0
STAGES = (1, 2)
NAMES = ("first build", "brought up to date", "built anew")
LANDED = "AgentTable"

Answer = dict[str, list[list[Any]]]
"""Rows of tables and reports by name, sorted by name, as JSON values."""


# -- what is run ------------------------------------------------------------------------------------------------------


def by_program(warehouse: Warehouse) -> Iterator[Answer]:
    """Refresh by the program, with bound parameters; yield the results of each stage."""
    warehouse.create()
    for stage in STAGES:
        with warehouse.begin() as connection:
            show(connection, stage)
        warehouse.refresh(as_of=DAY)
        yield answer(warehouse)
    warehouse.refresh(as_of=DAY, full=True)
    yield answer(warehouse)


def by_text(connection: Connection, schema: str) -> Iterator[Answer]:
    """Refresh by the rendered text, file by file, in the one session it needs; yield the results of each stage."""
    files = render.rendered(f'{schema}."{LANDED}"')
    refresh = [name for name in sorted(files) if "10" <= name[:2] <= "19"]
    run(connection, files, ["01_session.sql", "02_tables.sql", "03_staging_view.sql", "04_terms.sql"])
    connection.commit()
    for stage in STAGES:
        show(connection, stage)
        assign(connection, stage)
        connection.commit()
        run(connection, files, refresh)
        yield answer_by_text(connection, files)
    run(connection, files, ["full_build.sql"])
    yield answer_by_text(connection, files)


def by_procedure(connection: Connection, schema: str) -> Iterator[Answer]:
    """Refresh by the rendered procedure, as a schedule calls it; yield the results of each stage."""
    files = render.rendered(f'{schema}."{LANDED}"')
    run(connection, files, ["01_session.sql", "02_tables.sql", "03_staging_view.sql", "04_terms.sql", render.PROCEDURE])
    connection.commit()
    for stage in STAGES:
        show(connection, stage)
        assign(connection, stage)
        connection.exec_driver_sql(
            f"CALL agentmodel_refresh(CAST('{DAY}' AS DATE), {HALF_LIFE}, {score.REVISION_PRIOR})"
        )
        connection.commit()
        yield answer_by_text(connection, files)


def show(connection: Connection, stage: int) -> None:
    """Fill the landed table with the rows that zero-ETL shows at a stage."""
    table = m.landed_table(LANDED)
    connection.execute(delete(table))
    for row in landed(stage):
        moments = {m.CREATED: row["created"], m.DELETED: row["deleted"]}
        values = {name: None if text is None else cast(text, TIMESTAMP) for name, text in moments.items()}
        item = ParseSuper(literal(json.dumps(row["item"], ensure_ascii=False)))
        known = {"PK": row["PK"], "SK": row["SK"], "value": item, m.ACTIVE: row["deleted"] is None}
        connection.execute(insert(table).values({**known, **values}))


def assign(connection: Connection, stage: int) -> None:
    """Store the derived categories of a stage."""
    connection.execute(delete(m.DerivedCategory))
    connection.execute(insert(m.DerivedCategory).values(derived()[stage - 1]))


@cache
def derived() -> list[list[dict[str, Any]]]:
    """Return the categories that the program has derived on DuckDB after each stage."""
    with Warehouse.open("duckdb://", landed_table=LANDED, half_life_days=HALF_LIFE) as warehouse:
        names = [column.key for column in m.DerivedCategory.__mapper__.column_attrs]
        rows = [warehouse.read(select(m.DerivedCategory.__table__)) for _ in by_program(warehouse)]
        return [[dict(zip(names, row, strict=True)) for row in stage] for stage in rows]


def landed(stage: int) -> list[dict[str, Any]]:
    """Return the rows that zero-ETL shows at a stage."""
    lines = (GOLDEN / f"landed_{stage}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def run(connection: Connection, files: dict[str, str], names: list[str]) -> list[Any]:
    """Run the statements of files; return the rows of the last statement, if it has any."""
    rows: list[Any] = []
    for name in names:
        for statement in statements(files[name]):
            if statement == "BEGIN":
                continue  # SQLAlchemy has begun a transaction already
            if statement == "COMMIT":
                connection.commit()
                continue
            result = connection.exec_driver_sql(statement)
            rows = list(result.all()) if result.returns_rows else []
    return rows


def statements(text: str) -> list[str]:
    r"""Return the statements of a file, without its comments.

    >>> statements("-- A sentence; really.\n\nSELECT ';';\n\nCOMMIT;\n")
    ["SELECT ';'", 'COMMIT']
    """
    bare = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
    parts = re.findall(r"(?:'(?:[^']|'')*'|\$\$.*?\$\$|[^';])+", bare, re.DOTALL)
    return [part.strip() for part in parts if part.strip()]


# -- what came out ----------------------------------------------------------------------------------------------------


def answer(warehouse: Warehouse) -> Answer:
    """Return every table and report, read by the program."""
    as_of, half_life = score.as_of_expression(DAY), score.half_life_expression(HALF_LIFE)
    recommended = [m.UserProcessPattern.recommended.is_(True)]
    reports: dict[str, Any] = {
        "30_report_savings.sql": queries.savings(),
        "31_report_agent_ranking.sql": queries.agent_ranking(as_of, half_life),
        "32_report_patterns.sql": queries.patterns(as_of, recommended, named=True),
        "33_report_pattern_steps.sql": queries.steps(recommended),
        "34_report_tool_errors.sql": queries.tool_errors(),
        "35_report_tool_failures.sql": queries.tool_failures(),
        "36_report_sessions.sql": queries.requests(),
        "37_report_executions_per_day.sql": queries.executions_per_day(),
        "38_report_costs.sql": queries.costs(),
        "38_report_tokens.sql": queries.tokens(),
        "39_report_impact.sql": queries.impact(),
    }
    with warehouse.begin() as connection:
        found = {name: list(connection.execute(rows).all()) for name, rows in reports.items()}
        return plain({**tables(connection), **found})


def answer_by_text(connection: Connection, files: dict[str, str]) -> Answer:
    """Return every table, and every report by its rendered text."""
    found = {name: run(connection, files, [name]) for name in sorted(files) if name.startswith("3")}
    answer = plain({**tables(connection), **found})
    connection.commit()
    return answer


def tables(connection: Connection) -> dict[str, list[Any]]:
    """Return the rows of every table that a refresh keeps, in no order."""
    models = (*m.WORK, m.RefreshWatermark, m.DerivedCategory, m.ErasedUser, m.ModelPriceRow)
    hidden = {m.LEASES, m.VERSION, *(model.__table__ for model in models)}
    kept = [table for table in m.Base.metadata.sorted_tables if table not in hidden]
    return {table.name: list(connection.execute(select(table)).all()) for table in kept}


def plain(found: dict[str, list[Any]]) -> Answer:
    """Return rows as the golden files hold them; tables are sorted, reports keep their order, which is tested too."""
    rows = {name: [[value_of(value) for value in row] for row in of] for name, of in found.items()}
    return {name: of if name.endswith(".sql") else sorted(of, key=json.dumps) for name, of in rows.items()}


def value_of(value: Any) -> Any:
    """Return a value for JSON; fractions have nine digits, since engines add in different orders."""
    if isinstance(value, float | Decimal):
        return float(f"{value:.9g}")
    return value.isoformat() if isinstance(value, date) else value


def differences(stage: str, expected: Answer, found: Answer) -> list[str]:
    """Return one line for each table or report that differs."""
    told = []
    for name in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(name, []), found.get(name, [])
        if wanted == got:
            continue
        pairs = [(w, g) for w, g in zip(wanted, got, strict=False) if w != g]
        first = f": first {pairs[0][0]} became {pairs[0][1]}" if pairs else ""
        told.append(f"{stage}, {name}: {len(wanted)} rows expected, {len(got)} found{first}")
    return told


# -- the program ------------------------------------------------------------------------------------------------------


def golden() -> list[Answer]:
    """Return the expected results of each stage, and of a full build after the last stage."""
    return [
        json.loads((GOLDEN / f"expected_{stage}.json").read_text(encoding="utf-8")) for stage in (*STAGES, STAGES[-1])
    ]


def written(answer: Answer) -> str:
    """Return an answer as the text of its file, with one row per line."""
    parts = []
    for name, rows in answer.items():
        lines = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in rows)
        parts.append(f"  {json.dumps(name)}: [{lines and chr(10) + '    ' + lines + chr(10) + '  '}]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def on_duckdb() -> list[Answer]:
    """Return the results on DuckDB."""
    with Warehouse.open("duckdb://", landed_table=LANDED, half_life_days=HALF_LIFE) as warehouse:
        return list(by_program(warehouse))


@contextmanager
def schema_of_its_own(engine: Engine, name: str, *, keep: bool) -> Iterator[None]:
    """Create a schema with an empty landed table, and make every transaction of the engine use it."""

    def into(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET search_path TO {name}")

    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    event.listen(engine, "begin", into)
    try:
        with engine.begin() as connection:
            connection.execute(CreateTable(m.landed_table(LANDED)))
        yield
    finally:
        event.remove(engine, "begin", into)
        if not keep:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")


def compare(url: str, schema: str, *, keep: bool = False) -> list[str]:
    """Run everything on a warehouse; return one line for each difference from the golden files."""
    if url.startswith("duckdb"):
        return list(compared("program", iter(on_duckdb())))
    told: list[str] = []
    with Warehouse.open(url, landed_table=LANDED, half_life_days=HALF_LIFE) as warehouse:
        engine = warehouse.engine
        with schema_of_its_own(engine, schema, keep=keep), engine.connect() as connection:
            told += compared("text", by_text(connection, schema))
        with schema_of_its_own(engine, f"{schema}_procedure", keep=keep), engine.connect() as connection:
            told += compared("procedure", by_procedure(connection, f"{schema}_procedure"))
        with schema_of_its_own(engine, f"{schema}_program", keep=keep):
            told += compared("program", by_program(warehouse))
    return told


def compared(way: str, answers: Iterator[Answer]) -> Iterator[str]:
    """Print how many tables and reports of each stage differ; yield one line for each."""
    for name, expected, found in zip(NAMES, golden(), answers, strict=False):
        told = differences(f"{way}, {name}", expected, found)
        print(f"{way}, {name}: {len(expected)} tables and reports, {len(told)} differ")
        yield from told


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="redshift+redshift_connector://…, redshift+data://… or duckdb://")
    parser.add_argument("--schema", default="agentmodel_golden", help="schema to create; it must not exist yet")
    parser.add_argument("--keep", action="store_true", help="do not drop the schema at the end")
    parser.add_argument("--write", action="store_true", help="write the expected results, computed on DuckDB")
    given = parser.parse_args(arguments)
    if given.write:
        for stage, answer in zip(STAGES, on_duckdb(), strict=False):
            (GOLDEN / f"expected_{stage}.json").write_text(written(answer), encoding="utf-8")
        return 0
    if given.url is None or not re.fullmatch(r"[a-z_][a-z0-9_]*", given.schema):
        parser.error("give a warehouse URL, and a schema name of lower-case letters, digits and underscores")
    try:
        told = compare(given.url, given.schema, keep=given.keep)
    except AgentModelError as error:
        sys.exit(f"error: {error}")
    for line in told:
        print(line)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
