"""The rendered SQL: in step with the models, and nothing in it that Redshift would take differently."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmodel.exceptions import ConfigurationError
from agentmodel.redshift import models as m
from agentmodel.redshift.render import drift, rendered, write

ROOT = Path(__file__).parents[2]

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return rendered()


def test_the_folder_is_what_the_models_say() -> None:
    """sql/ holds what is rendered today, and no other file."""
    assert [] == drift(ROOT / "sql")


def test_drift_is_named_and_mended(tmp_path: Path) -> None:
    """A changed, a missing and a superfluous file are named, and `write` puts them right."""
    write(tmp_path)
    (tmp_path / "10_begin.sql").write_text("BEGIN TRANSACTION;", "utf-8")
    (tmp_path / "19_commit.sql").unlink()
    (tmp_path / "99_old.sql").write_text("SELECT 1;", "utf-8")

    assert ["10_begin.sql", "19_commit.sql", "99_old.sql"] == drift(tmp_path)
    assert ["10_begin.sql", "19_commit.sql", "99_old.sql"] == write(tmp_path)
    assert [] == drift(tmp_path)


def test_each_file_opens_with_its_sentence(files: dict[str, str]) -> None:
    """Whoever opens a file reads first what it is for."""
    for name, text in files.items():
        assert re.match(r"-- [A-Z].*\.\n\n", text), name


def test_a_refresh_is_one_transaction(files: dict[str, str]) -> None:
    """Nothing between BEGIN and COMMIT commits by itself, as TRUNCATE and DDL would."""
    names = sorted(files)
    inside = "".join(files[name] for name in names[names.index("10_begin.sql") : names.index("19_commit.sql")])

    assert "BEGIN;" in inside
    assert not re.search(r"^(TRUNCATE|CREATE|DROP|ALTER|COMMIT)\b", inside, re.MULTILINE)


def test_another_landed_table() -> None:
    """The landed table is the one that was named; what is no name is refused."""
    assert 'FROM other.public."History" AS landed' in rendered('other.public."History"')["11_changes.sql"]
    with pytest.raises(ConfigurationError, match="is no table name"):
        rendered("a; DROP TABLE b")


def test_every_table_is_created(files: dict[str, str]) -> None:
    """The tables file creates each table of the models, and the view's file the view."""
    created = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", files["02_tables.sql"]))
    tables = {table.name for table in m.Base.metadata.sorted_tables if not table.info.get("view")}

    assert {*tables, "refresh_terms"} == created
    assert "CREATE OR REPLACE VIEW agent_tool_analysis_staging" in files["03_staging_view.sql"]


def test_tables_are_laid_out_for_redshift(files: dict[str, str]) -> None:
    """History is spread by user, small tables lie whole on every node."""
    ddl = files["02_tables.sql"]

    assert ") DISTKEY (userid) SORTKEY (sessionid, processid, agentid, toolid);" in ddl
    assert ") DISTSTYLE ALL;" in ddl


# -- lint -------------------------------------------------------------------------------------------------------------

KNOWN = {
    "avg", "cast", "coalesce", "count", "dateadd", "datediff", "exists", "exp", "extract", "greatest", "least", "left",
    "listagg", "ltrim", "max", "md5", "min", "mod", "nullif", "percentile_cont", "power", "rank", "row_number", "rpad",
    "split_part", "sqrt", "sum", "to_char", "to_date", "to_timestamp",
}  # fmt: skip
"""Functions the statements use; each is in Redshift's reference."""

KEYWORDS = {
    "all", "and", "as", "by", "case", "distinct", "else", "from", "group", "having", "in", "join", "not", "on", "or",
    "over", "select", "then", "union", "using", "values", "when", "where", "within", "int", "key", "into",
    "varchar", "distkey", "sortkey", "insert",
}  # fmt: skip


def strip(sql: str) -> str:
    return re.sub(r"'[^']*'", "''", re.sub(r"^--.*$", "", sql, flags=re.MULTILINE))


def statements(sql: str) -> Iterator[str]:
    for part in strip(sql).split(";"):
        if part.strip():
            yield part.strip()


def division(statement: str) -> bool:
    return bool(
        re.search(r"/", re.sub(r"CAST\(.*? AS DOUBLE PRECISION\) / CAST\(", "", re.sub(r"\s+", " ", statement)))
    )


def called(statement: str) -> set[str]:
    bare = re.sub(r"INSERT INTO \S+ \(|CREATE TABLE IF NOT EXISTS \w+ \(|PRIMARY KEY \(", "", statement)
    return {name.lower() for name in re.findall(r"\b([A-Za-z_][A-Za-z0-9_]*)\s?\(", bare)}


RULES: dict[str, Callable[[str], Any]] = {
    "divides only double precision": division,
    "has no DECIMAL": lambda s: re.search(r"\b(DECIMAL|NUMERIC)\b", s, re.IGNORECASE),
    "has no TEXT, which is VARCHAR(256)": lambda s: re.search(r"\bTEXT\b", s),
    "gives every VARCHAR its bytes": lambda s: re.search(r"\bVARCHAR\b(?!\()", s),
    "holds no clock": lambda s: re.search(r"GETDATE|SYSDATE|CURRENT_|\bNOW\s*\(", s, re.IGNORECASE),
    "calls only functions of Redshift": lambda s: called(s) - KNOWN - KEYWORDS,
    "keeps the other side of DELETE": lambda s: s.startswith("DELETE") and "work_" in s and "USING" not in s and "WHERE" in s,
    "has no RETURNING, index or foreign key": lambda s: re.search(r"\b(RETURNING|INDEX|REFERENCES|SERIAL)\b", s),
    "never orders a nullable column descending bare": lambda s: re.search(r"coalesce\(\)|NULLS (FIRST|LAST)", s),
    "leaves no parameter": lambda s: re.search(r"%s|\$[0-9]|(?<!:):[a-z]", s),
    "is no INSERT behind a WITH": lambda s: s.startswith("WITH"),
    "casts no fraction to an integer": lambda s: re.search(r"CAST\([^()]*[*/][^()]*AS (INTEGER|SMALLINT)\)", s),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_lint(rule: str, files: dict[str, str]) -> None:
    """No rendered statement breaks the rule."""
    broken = [(name, one) for name, sql in files.items() for one in statements(sql) if RULES[rule](one)]

    assert [] == broken


PLANTED = {
    "SELECT successes / executions FROM t": "divides only double precision",
    "SELECT CAST(a AS DECIMAL) FROM t": "has no DECIMAL",
    "CREATE TABLE t (a TEXT)": "has no TEXT, which is VARCHAR(256)",
    "SELECT CAST(a AS VARCHAR) FROM t": "gives every VARCHAR its bytes",
    "SELECT GETDATE() FROM t": "holds no clock",
    "SELECT string_agg(a, ',') FROM t": "calls only functions of Redshift",
    "DELETE FROM t WHERE t.id = work_session.id": "keeps the other side of DELETE",
    "INSERT INTO t (a) SELECT 1 RETURNING a": "has no RETURNING, index or foreign key",
    "SELECT a FROM t ORDER BY a DESC NULLS LAST": "never orders a nullable column descending bare",
    "SELECT a FROM t WHERE a = %s": "leaves no parameter",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT 1": "is no INSERT behind a WITH",
    "SELECT CAST(a * 1.5 AS INTEGER) FROM t": "casts no fraction to an integer",
}


@pytest.mark.parametrize(("planted", "rule"), PLANTED.items())
def test_the_lint_finds_planted_defects(planted: str, rule: str) -> None:
    """Each rule finds the defect it is for."""
    assert RULES[rule](planted)


def test_redshift_can_parse_every_statement(files: dict[str, str]) -> None:
    """A parser of Redshift's grammar knows every statement; none is passed through as text it does not know."""
    sqlglot = pytest.importorskip("sqlglot", reason="sqlglot parses Redshift's grammar")
    expressions = pytest.importorskip("sqlglot.expressions")
    for name, sql in files.items():
        if name == "01_session.sql":
            continue  # SET has a grammar of its own
        for tree in sqlglot.parse(sql, read="redshift"):
            assert not isinstance(tree, expressions.Command), name
