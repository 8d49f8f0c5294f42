"""The warehouse as SQL for Redshift: every statement of the package, rendered from the models.

The files of `rendered` are run from top to bottom, in one session, with ``enable_case_sensitive_identifier`` on
(zero-ETL needs it: the landed names ``"PK"`` and ``"SK"`` are written in capitals). What a refresh is told, the day to
score for and the half-life of evidence, is one row of ``refresh_terms``, so that no statement holds a clock.

A refresh is one transaction, from ``10_begin.sql`` to ``19_commit.sql``; as a procedure, for a schedule, it is one too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    Double,
    Executable,
    MetaData,
    Table,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.types import TIMESTAMP

from agentmodel.exceptions import MissingExtraError
from agentmodel.redshift import _history as history
from agentmodel.redshift import _queries as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import statements
from agentmodel.redshift.dialects import CreateView, Earlier, constant_day

__all__ = ["PROCEDURE", "drift", "rendered", "write"]

LANDED: Final = 'dbagent.public."AgentTable"'
"""The landed table of the AWS sample; `rendered` takes another."""

OVERLAP: Final = timedelta(hours=1)
EXAMPLE_DAY: Final = date(2025, 6, 14)
WIDTH: Final = 110

TERMS: Final = Table("refresh_terms", MetaData(), Column("as_of", Date), Column("half_life_days", Double))

PROCEDURE: Final = "20_procedure.sql"
"""The file whose one statement holds those of a refresh."""

_PHASES: Final = {
    "11_changes.sql": ("find changes", "What changed since the watermark, and the sessions it touches."),
    "12_old_counts.sql": ("count old calls", "What the touched sessions counted so far."),
    "13_base_tables.sql": ("unload domain", "The changed rows out of the base tables, and in again as they are now."),
    "14_executions.sql": ("drop executions", "The touched sessions' executions: one row per user, session and agent."),
    "15_rollups.sql": ("count days", "New less old, added to the counts per day and per tool."),
    "16_patterns.sql": ("find users", "The touched users' patterns, and which of them are recommended."),
    "17_scores.sql": ("clear agent_score_summary", "Every agent's score and evidence, and its tool errors."),
    "18_watermark.sql": ("clear work_change", "The work tables emptied, and how far this refresh saw."),
}
"""Files of an incremental refresh: the step each begins with, and its sentence."""


def rendered(landed_table: str = LANDED) -> dict[str, str]:
    """Return the SQL folder: its files by name, in the order they are run.

    Args:
        landed_table: Where zero-ETL lands the table.

    Raises:
        MissingExtraError: sqlalchemy-redshift is not installed.
        ConfigurationError: ``landed_table`` is no name of a table.
    """
    dialect = _redshift()
    terms = _terms(landed_table)
    files = {
        "01_session.sql": _file(
            "Names written in capitals stay so; zero-ETL needs it.",
            ["SET enable_case_sensitive_identifier TO TRUE"],
        ),
        "02_tables.sql": _file("Every table, where it is missing.", _tables(dialect)),
        "03_staging_view.sql": _file(
            "The sample's staging rows, as a view.",
            [_text(CreateView(m.AgentToolAnalysisStaging.__tablename__, history.staging()), dialect)],
        ),
        "04_terms.sql": _file(
            "What the refresh is told: write the day to score for here, and the half-life of evidence in days.",
            [_text(delete(TERMS), dialect), _text(_example_terms(), dialect)],
        ),
        "10_begin.sql": _file(
            "A refresh is one transaction: if anything fails, run ROLLBACK, and nothing has changed.", ["BEGIN"]
        ),
        **_phases(terms, dialect),
        "19_commit.sql": _file("Now it counts.", ["COMMIT"]),
        PROCEDURE: _procedure(terms, dialect),
        **_reports(terms, dialect),
    }
    files["full_build.sql"] = _full(terms, dialect)
    return files


def write(folder: Path, *, landed_table: str = LANDED) -> list[str]:
    """Write the folder, and take SQL files out that it no longer has; returns the names that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    files = rendered(landed_table)
    changed = drift(folder, landed_table=landed_table)
    for name in changed:
        if name in files:
            (folder / name).write_text(files[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed


def drift(folder: Path, *, landed_table: str = LANDED) -> list[str]:
    """Return the names of files that are missing, superfluous or not what the models say."""
    files = rendered(landed_table)
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.sql")}
    return sorted(name for name in {*files, *present} if files.get(name) != present.get(name))


# -- parts of the folder ----------------------------------------------------------------------------------------------


def _redshift() -> Dialect:
    try:
        from sqlalchemy_redshift.dialect import RedshiftDialect_redshift_connector
    except ImportError:
        raise MissingExtraError("redshift", "rendering SQL for Redshift", "sqlalchemy_redshift") from None
    dialect: Dialect = RedshiftDialect_redshift_connector()
    return dialect


def _one(column: Any, table: Any) -> ColumnElement[Any]:
    return select(func.max(column)).select_from(table).scalar_subquery()


def _terms(landed_table: str) -> statements.Terms:
    """Read what a refresh is told from tables, where the program hands it in as parameters."""
    mark = m.RefreshWatermark
    day = _one(TERMS.c.as_of, TERMS)
    never = cast(constant_day(date(1900, 1, 1)), TIMESTAMP)
    return statements.Terms(
        m.landed_table(landed_table),
        as_of=day,
        half_life=_one(TERMS.c.half_life_days, TERMS),
        since=func.coalesce(Earlier(_one(mark.seen_until, mark), OVERLAP), never, type_=TIMESTAMP()),
        seen_as_of=func.coalesce(_one(mark.as_of, mark), day, type_=Date()),
    )


def _tables(dialect: Dialect) -> Iterator[str]:
    for table in [*m.Base.metadata.sorted_tables, TERMS]:
        if not table.info.get("view"):
            yield _text(CreateTable(table, if_not_exists=True), dialect)


def _example_terms() -> Executable:
    day, half_life = constant_day(EXAMPLE_DAY), cast(literal_column("30"), Double)
    rows = select(day.label("as_of"), half_life.label("half_life_days"))
    return insert(TERMS).from_select(["as_of", "half_life_days"], rows)


def _phases(terms: statements.Terms, dialect: Dialect) -> dict[str, str]:
    starts = {step: name for name, (step, _) in _PHASES.items()}
    parts: dict[str, list[str]] = {name: [] for name in _PHASES}
    here = next(iter(_PHASES))
    seen: set[str] = set()
    for step in statements.incremental_refresh(terms):
        # a table is emptied before and after: the first time belongs to the first file
        if step.name in starts and (step.name in seen or not step.name.startswith("clear work")):
            here = starts[step.name]
        seen.add(step.name)
        parts[here].append(f"-- {step.sentence}\n{_text(step.statement, dialect)}")
    return {name: _file(sentence, parts[name]) for name, (_, sentence) in _PHASES.items()}


def _procedure(terms: statements.Terms, dialect: Dialect) -> str:
    """Return the refresh as a procedure: a schedule sends at most 40 statements at once, and a refresh has more."""
    told = insert(TERMS).values(as_of=literal_column("for_day"), half_life_days=literal_column("half_life"))
    first = f"-- What the refresh is told.\n{_text(delete(TERMS), dialect)};\n\n{_text(told, dialect)}"
    steps = statements.incremental_refresh(terms)
    parts = [first, *(f"-- {step.sentence}\n{_text(step.statement, dialect)}" for step in steps)]
    body = "\n\n".join(f"{part};" for part in parts)
    head = "CREATE OR REPLACE PROCEDURE agentmodel_refresh(for_day DATE, half_life DOUBLE PRECISION) AS $$"
    sentence = "The refresh as a procedure, for a schedule: CALL agentmodel_refresh(CURRENT_DATE, 30)."
    return _file(sentence, [f"{head}\nBEGIN\n\n{body}\n\nEND;\n$$ LANGUAGE plpgsql"])


def _reports(terms: statements.Terms, dialect: Dialect) -> dict[str, str]:
    half_life = terms.half_life
    reports: dict[str, Any] = {
        "31_report_agent_ranking.sql": queries.agent_ranking(terms.as_of, half_life),
        "32_report_patterns.sql": queries.patterns(terms.as_of, [m.UserProcessPattern.recommended.is_(True)]),
        "33_report_pattern_steps.sql": queries.steps([m.UserProcessPattern.recommended.is_(True)]),
        "34_report_tool_errors.sql": queries.tool_errors(),
        "35_report_tool_failures.sql": queries.tool_failures(),
        "36_report_sessions.sql": queries.requests(),
        "37_report_executions_per_day.sql": queries.executions_per_day(),
        "38_report_tokens.sql": queries.tokens(),
    }
    sentences = {
        "31_report_agent_ranking.sql": "Agents by score, in each domain, as of the day of the terms.",
        "32_report_patterns.sql": "Recommended patterns of each user, best first.",
        "33_report_pattern_steps.sql": "The steps of recommended patterns, in order.",
        "34_report_tool_errors.sql": "Tool errors per agent, as the sample reports them.",
        "35_report_tool_failures.sql": "Calls and errors of each tool, and its last error.",
        "36_report_sessions.sql": "What each session was asked for, and how it went.",
        "37_report_executions_per_day.sql": "Executions per agent and day; 0001-01-01 stands for those without a time.",
        "38_report_tokens.sql": "Tokens per agent and tool.",
    }
    return {name: _file(sentences[name], [_text(rows, dialect)]) for name, rows in reports.items()}


def _full(terms: statements.Terms, dialect: Dialect) -> str:
    whole = statements.Terms(terms.landed, as_of=terms.as_of, half_life=terms.half_life)
    parts = [f"-- {step.sentence}\n{_text(step.statement, dialect)}" for step in statements.full_refresh(whole)]
    sentence = "Only to build everything anew, in place of 10 to 19: it needs history mode."
    return _file(sentence, ["BEGIN", *parts, "COMMIT"])


# -- text -------------------------------------------------------------------------------------------------------------


def _file(sentence: str, parts: Iterable[str]) -> str:
    return f"-- {sentence}\n\n" + "\n\n".join(f"{part};" for part in parts) + "\n"


def _text(statement: Any, dialect: Dialect) -> str:
    is_ddl = isinstance(statement, ExecutableDDLElement)
    compiled = statement.compile(dialect=dialect, compile_kwargs={} if is_ddl else {"literal_binds": True})
    # the driver's format style doubles percent signs, which a query editor would not undo
    lines = str(compiled).replace("%%", "%").strip().replace("\t", "    ").splitlines()
    return "\n".join(wrapped for line in lines for wrapped in _wrapped(line.rstrip()))


_BREAK = re.compile(r", | AND | OR | WHEN | UNION ALL | LEFT OUTER JOIN | JOIN | WHERE ")


def _wrapped(line: str) -> Iterator[str]:
    """Cut a long line before a keyword or after a comma, outside of quotes."""
    indent = ""
    while len(line) > WIDTH:
        places = [
            found.end() - (0 if found.group() == ", " else len(found.group()) - 1)
            for found in _BREAK.finditer(line)
            if line.count("'", 0, found.start()) % 2 == 0
        ]
        fitting = [place for place in places if len(indent) < place <= WIDTH]
        cut = max(fitting, default=min((place for place in places if place > WIDTH), default=0))
        if not cut or cut >= len(line):
            break
        yield line[:cut].rstrip()
        indent = "    "
        line = indent + line[cut:].lstrip()
    yield line
