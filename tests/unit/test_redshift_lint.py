"""Nothing in the rendered SQL that Redshift would take differently."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
from sqlalchemy import Executable

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")
pytest.importorskip("sqlglot", reason="sqlglot parses Redshift's grammar")

from agentmodel.redshift._duckdb_dialect import DuckDBDialect
from agentmodel.redshift._refresh_sql import full_refresh, incremental_refresh, refresh_parameters
from agentmodel.redshift.models import landed_table
from agentmodel.redshift.render_sql import PROCEDURE, rendered
from tests.integration.redshift_lint import RULES, broken, unbounded_on_duckdb
from tests.integration.redshift_postgres import statements


def test_no_rendered_statement_breaks_a_rule() -> None:
    """Every statement of every file keeps every rule."""
    files = {name: sql for name, sql in rendered().items() if name != PROCEDURE}  # the same statements once more
    found = [(name, one, broken(one)) for name, sql in files.items() for one in statements(sql) if broken(one)]

    assert [] == found


def test_no_statement_for_duckdb_is_without_a_bound() -> None:
    """DuckDB's text of every statement of both refreshes bounds its lists and sums, too; a planted one is found."""
    parameters = refresh_parameters(landed_table("AgentTable"), as_of=date(2025, 6, 14), half_life_days=30,
                                    since=datetime(2025, 6, 13), previous_as_of=date(2025, 6, 13))  # fmt: skip  # noqa: DTZ001
    steps = [*full_refresh(parameters), *incremental_refresh(parameters)]
    made: list[Any] = [step.statement for step in steps if isinstance(step.statement, Executable)]
    texts = [str(one.compile(dialect=DuckDBDialect(), compile_kwargs={"literal_binds": True})) for one in made]

    assert [] == [text for text in texts if unbounded_on_duckdb(text)]
    assert 4 <= sum("STRING_AGG" in text for text in texts)
    assert unbounded_on_duckdb("SELECT STRING_AGG(t.a, ', ' ORDER BY t.a) FROM t")
    assert unbounded_on_duckdb("SELECT CAST(sum(t.a) AS BIGINT) FROM t")


PLANTED = {
    "SELECT successes / executions FROM t": "divides only double precision",
    "SELECT a / nullif(b, 0) FROM t": "divides only double precision",
    "SELECT avg(calls) FROM t": "averages only double precision",
    "SELECT CAST(a AS DECIMAL) FROM t": "has no bare DECIMAL, which has no fraction",
    "SELECT CAST(a * 1.5 AS INTEGER) FROM t": "casts no fraction to fewer digits without ROUND",
    "SELECT CAST(durationms AS DECIMAL(10, 2)) FROM t": "casts no fraction to fewer digits without ROUND",
    "CREATE TABLE t (a TEXT)": "has no TEXT, which is VARCHAR(256)",
    "SELECT CAST(a AS VARCHAR) FROM t": "gives every VARCHAR its bytes",
    "SELECT GETDATE() FROM t": "holds no clock",
    "SELECT a FROM t WHERE b > CURRENT_DATE": "holds no clock",
    "SELECT string_agg(a, ',') FROM t": "calls only functions of Redshift",
    "DELETE FROM t WHERE t.id = work_session.id": "keeps the other side of DELETE",
    "INSERT INTO t (a) SELECT 1 RETURNING a": "has no RETURNING, index, foreign key or serial",
    "CREATE INDEX i ON t (a)": "has no RETURNING, index, foreign key or serial",
    "SELECT a FROM t ORDER BY a DESC NULLS LAST": "leaves the order of NULLs to nobody",
    "SELECT a FROM t WHERE a = :a": "leaves no parameter",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT 1": "is no INSERT behind a WITH",
    "SELECT LISTAGG(a, ',') WITHIN GROUP (ORDER BY a), LISTAGG(b, ',') WITHIN GROUP (ORDER BY c) FROM t": (
        "orders the LISTAGGs of a SELECT alike"
    ),
    "SELECT x.a FROM (SELECT 'a' AS a FROM t) AS x": "gives literals of subqueries a type",
    "MERGE INTO t USING (SELECT 1 AS a) AS u ON t.a = u.a WHEN MATCHED THEN DELETE": "merges from a table, both ways",
    "VACUUM FULL t": "is known to the grammar",
    "SELECT LISTAGG(t.agentid, ',') WITHIN GROUP (ORDER BY t.agentid) FROM agent_execution AS t": (
        "lists at most as many entries as fit"
    ),
    "SELECT LISTAGG(CASE WHEN (t.n <= 900) THEN left(t.a, 80) END, ',') WITHIN GROUP (ORDER BY t.n) FROM t": (
        "lists at most as many entries as fit"
    ),
    "SELECT CAST(sum(t.inputtokens) AS BIGINT) FROM user_tool_mapping_hist AS t": (
        "keeps every sum of whole numbers in its type"
    ),
    'SELECT t."value"."ResultMsg"."S" FROM t': "reads every SUPER value as VARCHAR of a width",
    'INSERT INTO usersession (sessionstartdt) SELECT left(CAST(t."value"."A"."S" AS VARCHAR(65535)), 20) FROM t': (
        "puts no more bytes into a column than it holds"
    ),
    'INSERT INTO work_session (userid, sessionid) SELECT split_part(w."PK", \'#\', 1), left(w."SK", 132) FROM work_change AS w': (
        "puts no more bytes into a column than it holds"
    ),
}


@pytest.mark.parametrize(("planted", "rule"), PLANTED.items())
def test_each_rule_finds_what_it_is_for(planted: str, rule: str) -> None:
    """A planted defect breaks its rule."""
    assert rule in broken(planted)


def test_every_rule_was_tried() -> None:
    """No rule is without a planted defect."""
    assert set(RULES) == set(PLANTED.values())


@pytest.mark.parametrize(
    "sound",
    [
        "SELECT CAST(ROUND(durationms) AS BIGINT) FROM t",
        "DELETE FROM t USING u WHERE t.id = u.id",
        "DELETE FROM t WHERE t.id IN (SELECT u.id FROM u)",
        "SELECT CAST('GETDATE() / 2' AS VARCHAR(20)) FROM t",
    ],
)
def test_what_is_sound_is_let_through(sound: str) -> None:
    """The rules look at what a statement does, not at what it quotes or how it is spelt."""
    broken_rules = set(broken(sound)) - {"calls only functions of Redshift"}

    assert set() == broken_rules
