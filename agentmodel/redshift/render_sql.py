"""Render the warehouse as SQL for Redshift: every statement of the package, made from the models.

The files of `rendered` are run in their order, in one session, with ``enable_case_sensitive_identifier`` on: zero-ETL
needs it, and the landed names ``"PK"`` and ``"SK"`` are in capitals. The parameters of a refresh, the day to score for,
the half-life of evidence and the prior of earlier revisions, are one row of ``refresh_terms``, so that no statement
reads a clock.

A refresh is one transaction, from ``10_begin.sql`` to ``19_commit.sql``. The procedure, for a schedule, is one too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
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
from sqlalchemy.schema import CreateTable, DropTable
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.types import TIMESTAMP

from agentmodel._runtime.files import write_file
from agentmodel.exceptions import MissingExtraError
from agentmodel.redshift import _refresh_sql as statements
from agentmodel.redshift import _report_sql as queries
from agentmodel.redshift import models as m
from agentmodel.redshift._base_tables_sql import table_of
from agentmodel.redshift._connection import checked_schema, opening
from agentmodel.redshift._constructs import SecondsBefore, constant_day
from agentmodel.redshift._leases import WRITERS
from agentmodel.redshift._table_layout import is_view
from agentmodel.redshift.score import REVISION_PRIOR

__all__ = ["drift", "rendered", "write"]

LANDED: Final = 'dbagent.public."AgentTable"'
"""The landed table of the AWS sample, which `rendered` uses by default."""

_OVERLAP: Final = timedelta(hours=1)
EXAMPLE_DAY: Final = date(2025, 6, 14)
_WIDTH: Final = 110

_ALONE: Final = "-- Wait until no other refresh runs: two at once would count twice."

_TERMS: Final = Table(
    "refresh_terms",
    MetaData(),
    Column("as_of", Date),
    Column("half_life_days", Double),
    Column("revision_prior", Double),
)

PROCEDURE: Final = "20_procedure.sql"
"""The file of the procedure, which holds the statements of a refresh."""

_PHASES: Final = {
    "11_changes.sql": ("find changes", "Find the changes since the watermark, and the sessions they affect."),
    "12_old_counts.sql": ("count old calls", "Count the affected sessions as they were."),
    "13_base_tables.sql": ("delete changed domain", "Replace the changed rows of the base tables."),
    "14_executions.sql": ("drop executions", "Replace the executions of the affected sessions."),
    "15_rollups.sql": ("count days", "Add new counts minus old ones to the counts per day and per tool."),
    "16_patterns.sql": ("find users", "Compute the patterns of the affected users, and which of them are recommended."),
    "17_scores.sql": ("clear agent_score_summary", "Compute every agent's score and evidence, and its tool errors."),
    "18_watermark.sql": ("clear work_change", "Empty the work tables, and store how far this refresh has read."),
}
"""Files of an incremental refresh: the step that each begins with, and its description."""


def rendered(landed_table: str = LANDED, *, schema: str | None = None) -> dict[str, str]:
    """Return the files of the SQL folder by name, in the order in which they are run.

    Args:
        landed_table: The table that zero-ETL lands.
        schema: The schema of the other tables; None for the session's own.

    Raises:
        MissingExtraError: sqlalchemy-redshift is not installed.
        ConfigurationError: ``landed_table`` is not a table name, or ``schema`` no name of a schema.
    """
    dialect = _redshift()
    parameters = _parameters(landed_table)
    files = {
        "01_session.sql": _file("Keep capitals in names; zero-ETL needs it.", _session(schema)),
        "02_tables.sql": _file("Create every table that is missing.", _tables(dialect)),
        "03_staging_view.sql": _file(
            "Create the sample's staging rows as a view.",
            [_text(CreateTable(table_of(m.AgentToolAnalysisStaging)), dialect)],
        ),
        "04_terms.sql": _file(
            "Set the parameters of the refresh: the day to score for, the half-life of evidence in days, and how many "
            "executions earlier revisions of an agent count as at most.",
            [_text(delete(_TERMS), dialect), _text(_example_terms(), dialect)],
        ),
        "10_begin.sql": _file(
            "Begin the refresh, which is one transaction: if a statement fails, run ROLLBACK, and nothing has changed.",
            ["BEGIN", f"{_ALONE}\n{_text(WRITERS, dialect)}"],
        ),
        **_phases(parameters, dialect),
        "19_commit.sql": _file("Commit the refresh.", ["COMMIT"]),
        PROCEDURE: _procedure(parameters, dialect),
        **_reports(parameters, dialect),
    }
    files["full_build.sql"] = _full(parameters, dialect)
    return files


def write(folder: Path, *, landed_table: str = LANDED, schema: str | None = None) -> list[str]:
    """Write the files of the folder, and delete SQL files that do not belong to it; return the names that changed.

    >>> "01_session.sql" in write(folder / "redshift")
    True
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = rendered(landed_table, schema=schema)
    changed = drift(folder, landed_table=landed_table, schema=schema)
    for name in changed:
        if name in files:
            write_file(folder / name, files[name])
        else:
            (folder / name).unlink()
    return changed


def drift(folder: Path, *, landed_table: str = LANDED, schema: str | None = None) -> list[str]:
    """Return the names of files that are missing, superfluous or different from what the models render.

    >>> drift(folder / "nothing") == list(rendered())
    True
    """
    files = rendered(landed_table, schema=schema)
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.sql")}
    return sorted(name for name in {*files, *present} if files.get(name) != present.get(name))


# -- parts of the folder ----------------------------------------------------------------------------------------------


def _redshift() -> Dialect:
    try:
        from sqlalchemy_redshift.dialect import RedshiftDialect_redshift_connector
    except ImportError:
        raise MissingExtraError("redshift", "rendering SQL for Redshift", "sqlalchemy_redshift") from None
    dialect: Dialect = RedshiftDialect_redshift_connector()
    dialect.cte_follows_insert = True  # Redshift has no WITH before INSERT
    return dialect


def _only_value(column: Any, table: Any) -> ColumnElement[Any]:
    return select(func.max(column)).select_from(table).scalar_subquery()


def _parameters(landed_table: str) -> statements.RefreshParameters:
    """Return parameters that are read from tables; the program passes them as bind parameters instead."""
    watermark = m.RefreshWatermark
    day = _only_value(_TERMS.c.as_of, _TERMS)
    never = cast(constant_day(date(1900, 1, 1)), TIMESTAMP)
    return statements.RefreshParameters(
        m.landed_table(landed_table),
        as_of=day,
        half_life=_only_value(_TERMS.c.half_life_days, _TERMS),
        revision_prior=_only_value(_TERMS.c.revision_prior, _TERMS),
        since=func.coalesce(
            SecondsBefore(_only_value(watermark.seen_until, watermark), _OVERLAP), never, type_=TIMESTAMP()
        ),
        previous_as_of=func.coalesce(_only_value(watermark.as_of, watermark), day, type_=Date()),
    )


def _session(schema: str | None) -> list[str]:
    first, *path = opening(checked_schema(schema))
    return [first, f'CREATE SCHEMA IF NOT EXISTS "{schema}"', *path] if path else [first]


def _tables(dialect: Dialect) -> Iterator[str]:
    for table in m.Base.metadata.sorted_tables:
        if not is_view(table):
            yield _text(CreateTable(table, if_not_exists=True), dialect)
    # one row, which every refresh writes; an older release made it with fewer columns
    yield _text(DropTable(_TERMS, if_exists=True), dialect)
    yield _text(CreateTable(_TERMS, if_not_exists=True), dialect)


def _example_terms() -> Executable:
    half_life, prior = (cast(literal_column(number), Double) for number in ("30", f"{REVISION_PRIOR:.0f}"))
    values = (constant_day(EXAMPLE_DAY), half_life, prior)
    columns = list(_TERMS.columns)
    rows = select(*(value.label(column.name) for value, column in zip(values, columns, strict=True)))
    return insert(_TERMS).from_select(columns, rows)


def _phases(parameters: statements.RefreshParameters, dialect: Dialect) -> dict[str, str]:
    starts = {step: name for name, (step, _) in _PHASES.items()}
    parts: dict[str, list[str]] = {name: [] for name in _PHASES}
    file = next(iter(_PHASES))
    earlier: set[str] = set()
    for step in statements.incremental_refresh(parameters):
        # a work table is emptied at the beginning and at the end: the first time belongs to the first file
        if step.name in starts and (step.name in earlier or not step.name.startswith("clear work")):
            file = starts[step.name]
        earlier.add(step.name)
        parts[file].append(f"-- {step.description}\n{_text(step.statement, dialect)}")
    return {name: _file(description, parts[name]) for name, (_, description) in _PHASES.items()}


def _procedure(parameters: statements.RefreshParameters, dialect: Dialect) -> str:
    """Return the refresh as a procedure: a schedule can send 40 statements at once, and a refresh has more."""
    given = {"as_of": "for_day", "half_life_days": "half_life", "revision_prior": "earlier_revisions"}
    values = insert(_TERMS).values({column: literal_column(argument) for column, argument in given.items()})
    alone = f"{_ALONE}\n{_text(WRITERS, dialect)}"
    first = f"-- Set the parameters of the refresh.\n{_text(delete(_TERMS), dialect)};\n\n{_text(values, dialect)}"
    steps = statements.incremental_refresh(parameters)
    parts = [alone, first, *(f"-- {step.description}\n{_text(step.statement, dialect)}" for step in steps)]
    body = "\n\n".join(f"{part};" for part in parts)
    arguments = "for_day DATE, half_life DOUBLE PRECISION, earlier_revisions DOUBLE PRECISION"
    head = f"CREATE OR REPLACE PROCEDURE agentmodel_refresh({arguments}) AS $$"
    description = "Create the refresh as a procedure, for a schedule: CALL agentmodel_refresh(CURRENT_DATE, 30, 10)."
    return _file(description, [f"{head}\nBEGIN\n\n{body}\n\nEND;\n$$ LANGUAGE plpgsql"])


def _reports(parameters: statements.RefreshParameters, dialect: Dialect) -> dict[str, str]:
    half_life, recommended = parameters.half_life, [m.UserProcessPattern.recommended.is_(True)]
    reports: dict[str, Any] = {
        "30_report_savings.sql": queries.savings(),
        "31_report_agent_ranking.sql": queries.agent_ranking(
            parameters.as_of, half_life, revision_prior=parameters.revision_prior
        ),
        "32_report_patterns.sql": queries.patterns(parameters.as_of, recommended, named=True),
        "33_report_pattern_steps.sql": queries.steps(recommended),
        "34_report_tool_errors.sql": queries.tool_errors(),
        "35_report_tool_failures.sql": queries.tool_failures(),
        "36_report_sessions.sql": queries.requests(),
        "37_report_executions_per_day.sql": queries.executions_per_day(),
        "38_report_costs.sql": queries.costs(),
        "38_report_tokens.sql": queries.tokens(),
        "39_report_impact.sql": queries.impact(),
    }
    descriptions = {
        "30_report_savings.sql": "Count the calls, time and tokens that answers from the cache saved.",
        "31_report_agent_ranking.sql": "List agents by score, in each domain, as of the day in refresh_terms.",
        "32_report_patterns.sql": "List the recommended patterns of each user, best first.",
        "33_report_pattern_steps.sql": "List the steps of recommended patterns, in order.",
        "34_report_tool_errors.sql": "List tool errors per agent, as the sample reports them.",
        "35_report_tool_failures.sql": "List calls and errors of each tool, and its last error.",
        "36_report_sessions.sql": "List the request and the outcome of each session.",
        "37_report_executions_per_day.sql": "List executions per agent and day; without a time the day is 0001-01-01.",
        "38_report_costs.sql": "List what models cost per agent, by the prices in model_price.",
        "38_report_tokens.sql": "List tokens per agent and tool.",
        "39_report_impact.sql": "Count sessions whose plan was given or withheld at random, and sum up their costs.",
    }
    return {name: _file(descriptions[name], [_text(rows, dialect)]) for name, rows in reports.items()}


def _full(parameters: statements.RefreshParameters, dialect: Dialect) -> str:
    full = replace(parameters, since=None, previous_as_of=None)
    parts = [f"-- {step.description}\n{_text(step.statement, dialect)}" for step in statements.full_refresh(full)]
    description = "Build every table from scratch, instead of 10 to 19; this needs history mode."
    return _file(description, ["BEGIN", f"{_ALONE}\n{_text(WRITERS, dialect)}", *parts, "COMMIT"])


# -- text -------------------------------------------------------------------------------------------------------------


def _file(description: str, parts: Iterable[str]) -> str:
    return f"-- {description}\n\n" + "\n\n".join(f"{part};" for part in parts) + "\n"


def _text(statement: Any, dialect: Dialect) -> str:
    is_ddl = isinstance(statement, ExecutableDDLElement)
    compiled = statement.compile(dialect=dialect, compile_kwargs={} if is_ddl else {"literal_binds": True})
    # the driver's format style doubles percent signs, which a query editor would keep
    lines = str(compiled).replace("%%", "%").strip().replace("\t", "    ").splitlines()
    return "\n".join(wrapped for line in lines for wrapped in _wrapped(line.rstrip()))


_BREAK = re.compile(r", | AND | OR | WHEN | UNION ALL | LEFT OUTER JOIN | JOIN | WHERE ")


def _wrapped(line: str) -> Iterator[str]:
    """Yield the parts of a long line, cut before a keyword or after a comma, outside of quotes."""
    indent = ""
    while len(line) > _WIDTH:
        places = [
            found.end() - (0 if found.group() == ", " else len(found.group()) - 1)
            for found in _BREAK.finditer(line)
            if line.count("'", 0, found.start()) % 2 == 0
        ]
        fitting = [place for place in places if len(indent) < place <= _WIDTH]
        cut = max(fitting, default=min((place for place in places if place > _WIDTH), default=0))
        if not cut or cut >= len(line):
            break
        yield line[:cut].rstrip()
        indent = "    "
        line = indent + line[cut:].lstrip()
    yield line
