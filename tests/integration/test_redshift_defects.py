"""Planted defects: which of the three checks without Redshift notices each one.

A runs the DuckDB statements and compares every table with the oracle. C runs the rendered Redshift text on PostgreSQL and
does the same. D reads the text and refuses what Redshift would take otherwise. A defect is a change of the statements' text
as somebody might have written it; where DuckDB's text needs none, it is a defect of Redshift's text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import event

from agentmodel.exceptions import WarehouseUnavailable
from agentmodel.redshift.render_sql import PROCEDURE, rendered
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_histories import corrected, told
from tests.integration.redshift_oracle import Tables, expected, held
from tests.integration.redshift_postgres import (
    LANDED,
    RefusedError,
    Server,
    created,
    landed,
    statements,
    tables,
    translated,
    warehouse_in,
)

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")
pytest.importorskip("sqlglot", reason="sqlglot parses Redshift's grammar")

from tests.integration.redshift_lint import broken

DAY = date(2025, 6, 14)
PAGE = Path(__file__).parents[2] / "docs" / "warehouse" / "proof.md"
Edit = tuple[str, str]


@dataclass(frozen=True)
class Defect:
    """A defect: what is found in the text, and what is written instead.

    Attributes:
        name: What somebody did.
        seen: The checks that notice it.
        redshift: Change of Redshift's text.
        duckdb: Change of DuckDB's text; unset means the same, None that its text stays right.
    """

    name: str
    seen: str
    redshift: Edit
    duckdb: Edit | str | None = "the same"

    @property
    def here(self) -> Edit | None:
        """The change of DuckDB's text."""
        return self.redshift if isinstance(self.duckdb, str) else self.duckdb


RATE = r"\(CAST\(agents\.successes AS DOUBLE PRECISION\) / CAST\(agents\.executions AS DOUBLE PRECISION\)\) AS success_rate"
SUPER = r"CAST\(\w+\.\"value\"\.\"CallNo\"\.\"N\" AS VARCHAR\(65535\)\)"
JSON = r"JSON_EXTRACT_STRING\(\w+\.\"value\", '\$\.\"CallNo\"\.\"N\"'\)"
FRACTION = r"CAST(CAST(\1 AS DOUBLE PRECISION) AS BIGINT)"
TERMS = r"\(SELECT max\(refresh_terms\.as_of\) AS max_\d FROM refresh_terms\)"

DEFECTS = [
    Defect("a rate as a quotient of integers", "CD", (RATE, "(agents.successes / agents.executions) AS success_rate")),
    Defect(
        "a rate cast to DECIMAL, without digits",
        "ACD",
        (RATE, "CAST(CAST(agents.successes AS DOUBLE PRECISION) / agents.executions AS DECIMAL) AS success_rate"),
    ),
    Defect(
        "SQLAlchemy's own quotient, a / CAST(b AS NUMERIC)",
        "D",
        (RATE, "(CAST(agents.successes AS DOUBLE PRECISION) / CAST(agents.executions AS NUMERIC)) AS success_rate"),
    ),
    Defect(
        "an average of integers",
        "CD",
        (r"avg\(agent_execution\.seconds\)", "avg(CAST(agent_execution.seconds * 1000 AS BIGINT)) / CAST(1000 AS DOUBLE PRECISION)"),
    ),
    Defect(
        "the newest version by a column that may be NULL, descending",
        "A",
        (r"ORDER BY CASE WHEN recent\.active THEN (?:0|\?) ELSE (?:1|\?) END, recent\.loaded_at DESC, coalesce\(recent\.gone, recent\.loaded_at\) DESC",
         "ORDER BY recent.gone DESC, recent.loaded_at DESC"),
        (r"ORDER BY CASE WHEN recent\.active THEN \? ELSE \? END, recent\.loaded_at DESC, coalesce\(recent\.gone, recent\.loaded_at\) DESC",
         "ORDER BY recent.gone DESC, recent.loaded_at DESC, CASE WHEN recent.active THEN ? ELSE ? END"),
    ),
    Defect(
        "empty texts in a LISTAGG",
        "A",
        (r"(AGG\(CASE WHEN \(per_tool\.errors > .{1,3} AND per_tool\.place <= .{1,3}\) THEN left\(per_tool\.tool, 100\)) ELSE NULL END", r"\1 ELSE '' END"),
    ),
    Defect(
        "VARCHAR(40) for 18 Hangul",
        "C",
        (r"(CREATE TABLE IF NOT EXISTS tool \(.*?toolnm VARCHAR)\(1020\)", r"\1(40)"),
    ),
    Defect("a TEXT column", "D", (r"toolspec VARCHAR\(65535\)", "toolspec TEXT")),
    Defect("another decay", "AC", (r"CAST\(0\.1 AS", "CAST(0.11 AS")),
    Defect(
        "a clock in the statement",
        "ACD",
        (TERMS, "CAST(GETDATE() AS DATE)"),
        (r"CAST\(\? AS DATE\)", "coalesce(CURRENT_DATE, CAST(? AS DATE))"),
    ),
    Defect(
        "sequences ordered by a time in whole seconds",
        "AC",
        (r"ORDER BY step\.place\) AS (process_pattern|tool_sequence)", r"ORDER BY left(step.clock, 14)) AS \1"),
    ),
    Defect(
        "STRING_AGG in Redshift's text",
        "D",
        (r"LISTAGG\((CASE WHEN \(step\.place <= 200\) THEN left\(step\.processid, 80\) END), '->'\) WITHIN GROUP \(ORDER BY step\.place\)",
         r"STRING_AGG(\1, '->' ORDER BY step.place)"),
        None,
    ),
    Defect(
        "an explicit cast to fewer digits without ROUND",
        "D",
        (rf"CAST\(({SUPER}) AS BIGINT\)", FRACTION),
        (rf"CAST\(({JSON}) AS BIGINT\)", FRACTION),
    ),
    Defect("deletion by TTL taken for deletion by a person", "AC", (r"<= EXTRACT\(epoch FROM ranked\.gone\)", "< 0")),
    Defect(
        "deletion by a person, after the expiry, taken for deletion by TTL",
        "AC",
        (r"md5\(\(?ranked\.\"PK\"", 'md5(ranked."SK" || ranked."PK"'),
    ),
    Defect(
        "a DELETE that lost its other side",
        "CD",
        (r"DELETE FROM agent_execution USING work_session WHERE", "DELETE FROM agent_execution WHERE"),
        None,
    ),
    Defect(
        "30 February rolled over into March",
        "C",
        (r"CASE WHEN TO_CHAR\((TO_DATE\(left\([\w.]+, 8\), 'YYYYMMDD'\)), 'YYYYMMDD'\) = left\([\w.]+, 8\) THEN TO_DATE\(left\([\w.]+, 8\), 'YYYYMMDD'\) END",
         r"\1"),
        None,
    ),
    Defect("the worst attempt of a call instead of its last", "AC", (r"mod\(max\(c\.attempt \* .{1,2} \+ c\.ok\), 2\)", r"(\g<0> * min(c.ok))")),
    Defect(
        "rows put in without taking the old ones out",
        "AC",
        (r"DELETE FROM agent_execution USING work_session WHERE (.*)", r"DELETE FROM agent_execution USING work_session WHERE 1 = 0 AND \1"),
    ),
]  # fmt: skip


def edited(sql: str, edit: Edit | None) -> tuple[str, int]:
    """The text on one line, with the change made; and how often."""
    line = " ".join(sql.split())
    return (line, 0) if edit is None else re.subn(*edit, line)


class Truth(NamedTuple):
    program: list[Tables]
    sql: list[Tables]


# -- the three checks -------------------------------------------------------------------------------------------------


def by_duckdb(edit: Edit | None, truth: list[Tables]) -> tuple[bool, int]:
    """A: whether a table differs from the oracle's, built or brought up to date; and how often the text was changed."""
    changed = 0

    def rewrite(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> tuple[str, Any]:
        nonlocal changed
        text, count = edited(statement, edit)
        changed += count
        return text, parameters

    with Warehouse.open("duckdb://", threads=1) as warehouse:
        event.listen(warehouse.engine, "before_cursor_execute", rewrite, retval=True)
        feed, wrong = told(), False
        try:
            warehouse.create()
            feed.show(warehouse)
            warehouse.refresh(as_of=DAY)
            wrong = truth[0] != held(warehouse)
            if not wrong:
                corrected(feed)
                feed.show(warehouse)
                warehouse.refresh(as_of=DAY)
                wrong = truth[1] != held(warehouse)
        except WarehouseUnavailable:
            return True, changed
        return wrong, changed


def by_postgres(server: Server, schema: str, files: dict[str, list[str]], truth: list[Tables]) -> bool:
    """C: whether PostgreSQL refuses the text, or a table differs from the oracle's."""

    def script(*names: str) -> str:
        return "".join(f"{translated(one)};\n" for name in names for one in files[name])

    refresh = script(*(name for name in sorted(files) if "10" <= name[:2] <= "19"))
    path, feed = warehouse_in(schema), told()
    try:
        server.run(created(schema) + path + script("02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
        server.run(path + landed(feed.rows()) + refresh)
        if truth[0] != tables(server, schema):
            return True
        corrected(feed)
        server.run(path + landed(feed.rows()) + refresh)
        return truth[1] != tables(server, schema)
    except RefusedError:
        return True


def by_lint(files: dict[str, list[str]]) -> bool:
    """D: whether a statement breaks a rule."""
    return any(broken(one) for texts in files.values() for one in texts)


# -- the matrix -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(scope="module")
def truth() -> Truth:
    """What the tables are: by the program, which derives categories, and by the rendered SQL, which does not."""
    feed = told()
    first = [expected(feed.present(), DAY, derived=derived) for derived in (True, False)]
    corrected(feed)
    last = [expected(feed.present(), DAY, derived=derived) for derived in (True, False)]
    return Truth(*([before, after] for before, after in zip(first, last, strict=True)))


@pytest.fixture(scope="module")
def files() -> dict[str, list[str]]:
    return {name: list(statements(sql)) for name, sql in rendered(LANDED).items() if name != PROCEDURE}


def notices(
    server: Server, schema: str, files: dict[str, list[str]], truth: Truth, defect: Defect | None
) -> tuple[str, int, int]:
    """The checks that notice a defect, and how often it was planted in DuckDB's text and in Redshift's."""
    here, there = (None, None) if defect is None else (defect.here, defect.redshift)
    pairs = {name: [edited(one, there) for one in texts] for name, texts in files.items()}
    planted = {name: [text for text, _ in found] for name, found in pairs.items()}
    by_a, count = by_duckdb(here, truth.program)
    seen = {"A": by_a, "C": by_postgres(server, schema, planted, truth.sql), "D": by_lint(planted)}
    return (
        "".join(check for check, found in seen.items() if found),
        count,
        sum(times for found in pairs.values() for _, times in found),
    )


def test_nothing_is_noticed_where_nothing_is_planted(server: Server, files: dict[str, list[str]], truth: Truth) -> None:
    """The three checks find no fault with the statements as they are."""
    assert ("", 0, 0) == notices(server, "sound", files, truth, None)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_planted_defect_is_noticed(defect: Defect, server: Server, files: dict[str, list[str]], truth: Truth) -> None:
    """Each defect is noticed by exactly the checks that the table names."""
    seen, here, there = notices(server, f"defect{DEFECTS.index(defect)}", files, truth, defect)

    assert there > 0
    assert (here > 0) == (defect.here is not None)
    assert defect.seen == seen


def test_no_check_can_be_left_out() -> None:
    """Of 14 defects and more the checks together notice each, and each check some that no other notices."""
    assert 14 <= len(DEFECTS)
    assert all(defect.seen for defect in DEFECTS)
    assert {"A", "C", "D"} <= {defect.seen for defect in DEFECTS}


def test_the_page_shows_the_table() -> None:
    """The documentation holds the table of defects as this file has it."""
    rows = [[defect.name, *("yes" if check in defect.seen else "–" for check in "ACD")] for defect in DEFECTS]
    sums = [f"{sum(check in defect.seen for defect in DEFECTS)}" for check in "ACD"]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [*rows, [f"of {len(DEFECTS)}", *sums]])

    assert table in PAGE.read_text("utf-8")
