"""The rendered SQL: in step with the models, one transaction, laid out for Redshift."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentmodel.exceptions import ConfigurationError
from agentmodel.redshift import models as m
from agentmodel.redshift._table_layout import is_view
from agentmodel.redshift.render_sql import PROCEDURE, drift, rendered, write

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


def test_the_procedure_is_the_refresh(files: dict[str, str]) -> None:
    """What a schedule calls runs the statements of the files, in their order, and before them its lock and its terms."""
    names = sorted(files)
    whole = "".join(files[name] for name in names[names.index("11_changes.sql") : names.index("19_commit.sql")])
    inside = files[PROCEDURE].split("$$")[1].partition("BEGIN")[2].rpartition("END;")[0]

    def statements(text: str) -> list[str]:
        return [" ".join(part.split()) for part in re.sub(r"^--.*$", "", text, flags=re.MULTILINE).split(";")]

    terms = [
        "LOCK TABLE work_change",
        "DELETE FROM refresh_terms",
        "INSERT INTO refresh_terms (as_of, half_life_days, revision_prior) VALUES (for_day, half_life, earlier_revisions)",
    ]
    assert [*terms, *statements(whole)] == statements(inside)


def test_another_landed_table() -> None:
    """The landed table is the one that was named; what is no name is refused."""
    assert 'FROM other.public."History" AS landed' in rendered('other.public."History"')["11_changes.sql"]
    with pytest.raises(ConfigurationError, match="which is not a table name"):
        rendered("a; DROP TABLE b")


def test_every_table_is_created(files: dict[str, str]) -> None:
    """The tables file creates each table of the models, and the view's file the view."""
    created = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", files["02_tables.sql"]))
    tables = {table.name for table in m.Base.metadata.sorted_tables if not is_view(table)}

    assert {*tables, "refresh_terms"} == created
    assert "CREATE OR REPLACE VIEW agent_tool_analysis_staging" in files["03_staging_view.sql"]


def test_tables_are_laid_out_for_redshift(files: dict[str, str]) -> None:
    """History is spread by user, small tables lie whole on every node."""
    ddl = files["02_tables.sql"]

    assert ") DISTKEY (userid) SORTKEY (sessionid, processid, agentid, toolid);" in ddl
    assert ") DISTSTYLE ALL;" in ddl


def test_every_column_has_its_encoding(files: dict[str, str]) -> None:
    """Sort keys and what has no better stay raw, numbers and days are AZ64, texts and SUPER ZSTD."""
    columns = re.findall(r"^ +(\S+) ([A-Z].*?) ENCODE (\w+)( NOT NULL)?,?$", files["02_tables.sql"], re.MULTILINE)
    tables = [table for table in m.Base.metadata.sorted_tables if not is_view(table)]
    chosen = {(kind.split("(")[0], encoding) for _, kind, encoding, _ in columns}

    assert sum(len(table.columns) for table in tables) + 3 == len(columns)  # those of refresh_terms
    assert {
        ("VARCHAR", "RAW"), ("VARCHAR", "ZSTD"), ("SUPER", "ZSTD"), ("BOOLEAN", "RAW"), ("DOUBLE PRECISION", "RAW"),
        ("INTEGER", "AZ64"), ("BIGINT", "AZ64"), ("DATE", "AZ64"), ("DATE", "RAW"),
        ("TIMESTAMP WITHOUT TIME ZONE", "AZ64"),
    } == chosen  # fmt: skip


def test_every_refresh_locks_first(files: dict[str, str]) -> None:
    """Whatever way a refresh is run by SQL, it first waits for every other one."""
    for name in ("10_begin.sql", "full_build.sql", PROCEDURE):
        body = re.sub(r"^--.*$", "", files[name], flags=re.MULTILINE)
        first = body.partition("BEGIN")[2].lstrip("; \n").partition(";")[0]

        assert "LOCK TABLE work_change" == first, name


def test_a_schema_is_made_and_comes_first() -> None:
    """A schema of its own is created, and the only one that the session looks into; a name that is none is refused."""
    session = rendered(schema="stats")["01_session.sql"]

    assert session.endswith('CREATE SCHEMA IF NOT EXISTS "stats";\n\nSET search_path TO "stats";\n')
    with pytest.raises(ConfigurationError, match="is not a name of a schema"):
        rendered(schema="a; DROP TABLE b")
