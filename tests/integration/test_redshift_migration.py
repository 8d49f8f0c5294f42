"""The AWS sample's warehouse and that of an earlier version, brought up to this one: on DuckDB and as Redshift."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from agentmodel import AgentModel, Settings
from agentmodel.exceptions import ConfigurationError, WarehouseUnavailable
from agentmodel.redshift import _report_sql as queries
from agentmodel.redshift import models as m
from agentmodel.redshift import reports, score
from agentmodel.redshift._migration import SCHEMA
from agentmodel.redshift._table_layout import is_view
from agentmodel.redshift.warehouse import Warehouse
from tests.integration import stored
from tests.integration.redshift_data_api import DataApi
from tests.integration.redshift_postgres import LANDED, Server, landed, translated

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift is the dialect of Redshift")
psycopg: Any = pytest.importorskip("psycopg", reason="psycopg connects the double to PostgreSQL")

from agentmodel.redshift import _data_api  # noqa: E402  # it needs the dialect

DAY = date(2025, 6, 14)
AT = datetime(2025, 6, 14, 20, tzinfo=UTC)
SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "aws_sample_items.jsonl"

LOADED = "load_timestamp TIMESTAMP DEFAULT {now}"
ID = "VARCHAR(30)"
TABLES = {
    "domain": f"domainid {ID}, domainnm VARCHAR(100), description VARCHAR(500), {LOADED}",
    "agent": f"domainid {ID}, agentid {ID}, agentnm VARCHAR(100), score DECIMAL(10,2), description VARCHAR(500), {LOADED}",
    "tool": f"domainid {ID}, agentid {ID}, toolid {ID}, toolnm VARCHAR(100), toolspec VARCHAR(256), "
    f"description VARCHAR(500), {LOADED}",
    "userinfo": f"userid {ID}, usernm VARCHAR(100), userprofile VARCHAR(500), lastlogindt VARCHAR(14), "
    f"creationdt VARCHAR(14), {LOADED}",
    "usersession": f"userid {ID}, sessionid {ID}, sessionnm VARCHAR(100), sessionsummary VARCHAR(1000), "
    f"sessionstartdt VARCHAR(14), dtlfileloc VARCHAR(100), {LOADED}",
    "usersessionprocess": f"userid {ID}, sessionid {ID}, processid {ID}, userprompt VARCHAR(1000), procnm VARCHAR(100), "
    f"procdesc VARCHAR(500), procdt VARCHAR(14), {LOADED}",
    "user_tool_mapping_hist": f"userid {ID}, sessionid {ID}, processid {ID}, agentid {ID}, toolid {ID}, "
    f"toolnm VARCHAR(100), toolvalues VARCHAR(256), transactdt VARCHAR(20), succyn VARCHAR(1), resultmsg VARCHAR(256), {LOADED}",
    "agent_tool_analysis_staging": f"userid {ID}, sessionid {ID}, processid {ID}, domainid {ID}, agentid {ID}, toolid {ID}, "
    "toolnm VARCHAR(100), execution_date DATE, execution_datetime TIMESTAMP, success_flag BOOLEAN, "
    "tool_values VARCHAR(256), result_message VARCHAR(500)",
    "agent_score_summary": f"domainid {ID}, agentid {ID}, agentnm VARCHAR(100), total_executions INTEGER, "
    "success_count INTEGER, failure_count INTEGER, success_rate DECIMAL(5,4), last_execution_date DATE, "
    "days_since_last_exec INTEGER, time_decay_factor DECIMAL(10,8), calculated_score DECIMAL(10,2), updated_at TIMESTAMP",
    "user_process_patterns": f"userid {ID}, process_pattern VARCHAR(200), agent_sequence VARCHAR(200), "
    "tool_sequence VARCHAR(500), execution_count INTEGER, success_count INTEGER, avg_execution_time DECIMAL(8,2), "
    "pattern_score DECIMAL(10,2), first_used_date DATE, last_used_date DATE, is_recommended BOOLEAN",
}
"""The tables of the sample, as its statements make them; one column that somebody added is in `ADDED`."""

ADDED = ("agent", "owner", "VARCHAR(40)")

ROWS = {
    "domain": ["('DMN001', '매장검색', '매장을 찾는다')"],
    "agent": ["('DMN001', 'AGT001', '매장 검색 에이전트', 60.25, 'd')", "('DMN001', 'AGT002', NULL, NULL, NULL)"],
    "tool": ["('DMN001', 'AGT001', 'TL003', '', '{}', 'd')"],
    "userinfo": ["('USR001', '김', '{}', '20250614140605', '20250101000000')"],
    "usersession": ["('USR001', 'SESS1', 'n', 's', '20250614140605', 's3://b')"],
    "usersessionprocess": ["('USR001', 'SESS1', 'PRC001', '어디?', '위치확인', 'd', '20250614140605')"],
    # its statements insert again at each run
    "user_tool_mapping_hist": [
        "('USR001', 'SESS1', 'PRC001', 'AGT001', 'TL001', 't', '{}', '2025061414060500', 'N', 'r')"
    ]
    * 2,
    "agent_tool_analysis_staging": [
        "('USR001', 'SESS1', 'PRC001', 'DMN001', 'AGT001', 'TL001', 't', '2025-06-14', '2025-06-14 14:06:05', false, '{}', 'r')"
    ],
    "agent_score_summary": [
        "('DMN001', 'AGT001', '매장', 2, 1, 1, 0.5, '2025-06-14', 0, 1.0, 0.5, '2025-06-14 00:00:00')"
    ]
    * 2,
    "user_process_patterns": [
        "('USR001', 'PRC001', 'AGT001', 'TL001', 1, 1, NULL, 1.0, '2025-06-14', '2025-06-14', true)"
    ],
}

RANKING = """SELECT domainid, agentid, agentnm, total_executions, success_rate, calculated_score,
  RANK() OVER (PARTITION BY domainid ORDER BY calculated_score DESC) AS place FROM agent_score_summary
  ORDER BY domainid, place"""
PATTERNS = """SELECT userid, agent_sequence, pattern_score, is_recommended FROM user_process_patterns
  ORDER BY pattern_score DESC, userid"""
LIST = "LISTAGG(DISTINCT toolnm, ', ') WITHIN GROUP (ORDER BY toolnm)"
ERRORS = f"""SELECT s.agentid, s.n, e.n, e.tools FROM (SELECT agentid, COUNT(*) AS n FROM agent_tool_analysis_staging
    GROUP BY agentid) s JOIN (SELECT agentid, COUNT(*) AS n, {LIST} AS tools FROM agent_tool_analysis_staging
    WHERE success_flag = FALSE GROUP BY agentid) e ON e.agentid = s.agentid ORDER BY 1"""
"""The sample's three reports."""

STRING_AGG = "STRING_AGG(DISTINCT toolnm, ', ' ORDER BY toolnm)"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with Server() as server:
        yield server


Make = Callable[[], Warehouse]


@pytest.fixture(params=["duckdb", "redshift"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Opens a warehouse in a schema of the test's own: on DuckDB, or by Redshift's dialect and text on PostgreSQL."""
    schema = f"s{abs(hash(request.node.name))}"
    if request.param == "duckdb":
        yield lambda: Warehouse.open(f"duckdb:///{tmp_path / 'w.duckdb'}", schema=schema)
        return
    postgres: Server = request.getfixturevalue("postgres")
    monkeypatch.setattr(_data_api, "_FIRST_PAUSE", 0.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def read(sql: str) -> str:
        if sql.startswith("SET enable"):
            return "SELECT 1"
        path = re.fullmatch(r'SET search_path TO ("\w+")', sql)
        if path:
            return f"SET search_path TO {path[1]}, redshift, pg_catalog"
        if sql.startswith("CREATE TABLE") and "ENCODE" not in sql:
            return sql  # the sample's: with widths that the catalogue tells
        return translated(sql.replace(LIST, STRING_AGG))

    service = DataApi(lambda: psycopg.connect(host=str(postgres.folder), user="postgres", autocommit=True), read)
    url = f"redshift+data://agents/dev?region=eu-west-1&endpoint={service.endpoint}"
    yield lambda: Warehouse.open(url, schema=schema, landed_table=LANDED, history_mode=False)
    service.close()


def run(warehouse: Warehouse, *statements: str) -> list[Any]:
    with warehouse.begin() as connection:
        results = [connection.exec_driver_sql(each) for each in statements]
        return [tuple(row) for row in results[-1].all()] if results[-1].returns_rows else []


@pytest.fixture
def sample(make: Make) -> Iterator[Warehouse]:
    """A warehouse as somebody has it who ran the sample's statements, and added a column."""
    with make() as warehouse:
        now = "now()" if warehouse.needs_landing else "GETDATE()"
        with warehouse.begin() as connection:
            warehouse._create_schema(connection)
        for name, columns in TABLES.items():
            named = ", ".join(
                part.split()[0] for part in re.split(r", (?=[a-z])", columns) if "load_timestamp" not in part
            )
            rows = ", ".join(ROWS[name])
            run(warehouse, f"CREATE TABLE {name} ({columns.format(now=now)})")
            run(warehouse, f"INSERT INTO {name} ({named}) VALUES {rows}")
        table, column, kind = ADDED
        run(warehouse, f"ALTER TABLE {table} ADD COLUMN {column} {kind}", f"UPDATE {table} SET {column} = 'team a'")
        yield warehouse


def everything(warehouse: Warehouse, renamed: dict[str, str] | None = None) -> dict[str, list[str]]:
    """Every row of the sample's columns, of each of its tables; doubles and decimals alike."""
    found = {}
    for name, columns in TABLES.items():
        names = [part.split()[0] for part in re.split(r", (?=[a-z])", columns)] + [ADDED[1]] * (name == ADDED[0])
        rows = run(warehouse, f"SELECT {', '.join(names)} FROM {(renamed or {}).get(name, name)}")
        found[name] = sorted(str([float(v) if is_number(v) else v for v in row]) for row in rows)
    return found


def is_number(value: Any) -> bool:
    return not isinstance(value, str | bool | date | datetime | None)


KEPT = {"agent_tool_analysis_staging": "agent_tool_analysis_staging_old"}


def test_the_samples_tables_are_brought_up(sample: Warehouse) -> None:
    """It is shown first, then what is missing is added and every row stays; afterwards there is nothing to do."""
    before = everything(sample)
    shown = sample.migration()
    with pytest.raises(ConfigurationError, match="agentmodel warehouse migrate, which shows them"):
        sample.create()

    assert before == everything(sample)
    # on DuckDB a text has no width
    narrow = set() if sample.needs_landing else {"domain", "tool", "userinfo", "usersessionprocess"}
    assert {*TABLES} - {"domain", "tool", "userinfo", "usersessionprocess"} | narrow == {
        change.table for change in shown if change.alters
    }
    assert not any("owner" in change.text for change in shown)
    assert any("is kept as agent_tool_analysis_staging_old" in change.text for change in shown)
    assert [str(change) for change in shown] == [str(change) for change in sample.migrate()]
    assert before == everything(sample, KEPT)
    assert [] == sample.migration() == sample.migrate()
    sample.create()
    for table in m.Base.metadata.sorted_tables:
        rows = sample.read(select(table))
        assert [column.name for column in table.columns] == list(rows.columns), table.name
    assert SCHEMA == sample.read(select(m.VERSION.c.version))[0][0]


def test_the_samples_agents_have_scores_before_a_refresh(sample: Warehouse) -> None:
    """A score of the models counts what the sample counted, where no refresh has weighted it yet."""
    sample.migrate()
    agent, day = m.AgentScoreSummary, date(2025, 6, 24)
    with Session(sample.engine) as session:
        found = session.execute(select(agent, agent.score(day))).all()

    assert found
    for row, number in found:
        expected = score.score(row.executions, row.successes, last=row.last_day, as_of=day)
        assert expected == pytest.approx(number) == pytest.approx(row.score(day))


def test_the_samples_reports_run_on_it(sample: Warehouse, request: pytest.FixtureRequest) -> None:
    """After a refresh, the sample's three queries give this version's scores, patterns and errors; DuckDB lists otherwise."""
    if not SAMPLE.exists():
        pytest.skip("the AWS sample's items are not beside this checkout")
    items = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    sample.migrate()
    sample.create()
    if sample.needs_landing:
        sample.land(items, at=AT)
    else:
        rows = [{"PK": each["PK"]["S"], "SK": each["SK"]["S"], "value": json.dumps(each)} for each in items]
        run(sample, 'CREATE TABLE "AgentTable" ("PK" VARCHAR(2048), "SK" VARCHAR(1024), "value" JSONB)')
        script = f'SET search_path = "{sample._schema}";' + landed(rows)
        request.getfixturevalue("postgres").run(script)
    refreshed = sample.refresh(as_of=DAY)

    third = ERRORS.replace(LIST, STRING_AGG) if sample.needs_landing else ERRORS
    ranked = [(row[1], row[3], round(float(row[5]), 6), row[6]) for row in run(sample, RANKING)]
    patterns = {(row[0], row[1], round(float(row[2]), 6), row[3]) for row in run(sample, PATTERNS)}
    assert 2 == refreshed.rows["agent_score_summary"]
    assert [("AGT002", 1, 1.0, 1), ("AGT001", 2, 0.5, 2)] == ranked
    assert {
        ("USR001", "AGT001", 1.0, True),
        ("USR002", "AGT001", 0.0, False),
        ("USR003", "AGT002", 1.0, True),
    } == patterns
    assert [("AGT001", "FORMAT_RESULTS")] == [(row[0], row[3].split(", ")[0]) for row in run(sample, third)]


def test_a_table_that_cannot_be_brought_up_is_named(make: Make) -> None:
    """A column of a type that cannot become ours, or a view in a table's place, is refused in words; nothing changes."""
    with make() as warehouse:
        warehouse.create()
        run(
            warehouse,
            "DROP TABLE tool_error_summary",
            "CREATE TABLE tool_error_summary (agentid VARCHAR(9), error_rate DATE)",
        )
        with pytest.raises(ConfigurationError, match=r"tool_error_summary.error_rate is DATE.*rename the table"):
            warehouse.migrate()
        run(warehouse, "DROP TABLE tool_error_summary", "CREATE VIEW tool_error_summary AS SELECT 1 AS one")
        with pytest.raises(ConfigurationError, match="tool_error_summary is a view"):
            warehouse.migration()


def test_a_statement_that_fails_changes_nothing(sample: Warehouse) -> None:
    """Where one change fails, such as for a view of somebody's own, none is made, and the next try makes all."""
    before = everything(sample)
    if sample.needs_landing:
        run(sample, "CREATE TABLE user_tool_mapping_hist_migrating (a INTEGER)")
        mend = "DROP TABLE user_tool_mapping_hist_migrating"
    else:
        run(sample, "CREATE VIEW own_report AS SELECT count(*) AS n FROM user_tool_mapping_hist")
        mend = "DROP VIEW own_report"
    with pytest.raises(WarehouseUnavailable, match="user_tool_mapping_hist"):
        sample.migrate()

    assert before == everything(sample)
    run(sample, mend)
    sample.migrate()
    assert before == everything(sample, KEPT)


def test_a_newer_warehouse_is_refused_in_words(make: Make) -> None:
    """Nothing is created, landed, refreshed or brought up in a warehouse that a newer version has changed."""
    with make() as warehouse:
        warehouse.create()
        with warehouse.begin() as connection:
            connection.execute(delete(m.VERSION))
            connection.execute(insert(m.VERSION).values(version=SCHEMA + 1))
        for use in (
            warehouse.create, warehouse.migration, warehouse.migrate, lambda: warehouse.refresh(as_of=DAY),
            lambda: warehouse.erase("digest", 1),
        ):  # fmt: skip
            with pytest.raises(
                ConfigurationError, match=f"has schema {SCHEMA + 1}, which a newer agentmodel made.*upgrade"
            ):
                use()


def test_schemas_are_apart(tmp_path: Path) -> None:
    """Two schemas of one database are two warehouses; a name that is none is refused."""
    url = f"duckdb:///{tmp_path / 'two.duckdb'}"
    for schema in ("one", "two"):
        with AgentModel(Settings(warehouse_url=url, warehouse_schema=schema)) as model:
            assert 0 == model.warehouse.counts()["agent"]
            with model.warehouse.begin() as connection:
                connection.execute(insert(m.AgentRow).values(agent_id="AGT001"))
            assert 1 == model.warehouse.counts()["agent"]
            assert [(schema,)] == [tuple(row) for row in model.warehouse.read(text("SELECT current_schema()"))]
    with pytest.raises(ConfigurationError, match="is not a name of a schema"):
        Warehouse.open("duckdb://", schema="a; drop")


# -- version 0.1.0 ----------------------------------------------------------------------------------------------------


def test_what_0_1_0_stored_is_brought_up(tmp_path: Path) -> None:
    """It is refused until it is brought up; then every row is there, each day's counts are those of its executions."""
    url = stored.warehouse_url(tmp_path)
    tables = [table for table in m.Base.metadata.sorted_tables if not is_view(table)]
    with AgentModel(Settings(warehouse_url=url)) as model:
        with pytest.raises(ConfigurationError, match="run agentmodel warehouse migrate"):
            model.refresh()
        shown = model.migrate(only="warehouse")
        assert {"agent_daily", "agent_score_summary"} <= {change.table for change in shown}
        names = {table.name for table in tables} - {change.table for change in shown}
        before = {table.name: sorted(map(str, opened_rows(model, table))) for table in tables if table.name in names}
        scores = opened_count(model, "agent_score_summary")

        assert shown == model.migrate(apply=True, only="warehouse")
        assert [] == model.migrate(only="warehouse")
        assert before == {
            table.name: sorted(map(str, opened_rows(model, table))) for table in tables if table.name in names
        }
        assert scores == opened_count(model, "agent_score_summary") > 0
        days = model.warehouse.read(select(m.AgentDaily.executions))
        assert model.warehouse.counts()["agent_execution"] == sum(row[0] for row in days) > 0


def opened_rows(model: AgentModel, table: Any) -> list[Any]:
    rows: list[Any] = model._opened_warehouse.read(select(table))
    return rows


def opened_count(model: AgentModel, name: str) -> int:
    count: int = model._opened_warehouse.read(text(f"SELECT count(*) FROM {name}"))[0][0]
    return count


# -- reports ----------------------------------------------------------------------------------------------------------


def test_reports_spell_their_columns_alike() -> None:
    """Every column of a report has the name of a field of its typed rows, so ids are `agent_id` in all of them."""
    day, half_life = score.as_of_expression(DAY), score.half_life_expression(30.0)
    selects: dict[Any, Any] = {
        reports.AgentScore: queries.agent_ranking(day, half_life), reports.RecommendedPattern: queries.patterns(day, named=True),
        reports.PatternStep: queries.steps(), reports.ToolErrors: queries.tool_errors(),
        reports.ToolFailures: queries.tool_failures(), reports.SessionRequest: queries.requests(),
        reports.DayExecutions: queries.executions_per_day(), reports.ToolTokens: queries.tokens(),
    }  # fmt: skip
    # a join's key, an order, of an interval, and counts with their weights
    others = {"pattern_key", "score_rank", "evidence_executions", "counted", "counted_good"}

    for row, statement in selects.items():
        names = {column.name for column in statement.selected_columns}
        assert names - others <= {*row.__dataclass_fields__}, row.__name__


@pytest.mark.parametrize(
    ("catalogue", "shown"), [("In the catalogue", "In the catalogue"), ("", "recorded"), (None, "recorded")]
)
def test_every_report_names_a_tool_alike(catalogue: str | None, shown: str) -> None:
    """A tool has one name in all reports: that of the catalogue, else the recorded one."""

    def item(pk: str, sk: str, kind: str, **texts: str | None) -> dict[str, Any]:
        found = {name: {"S": value} for name, value in texts.items() if value is not None}
        return {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **found}

    call = {"SuccYN": "N", "TransactDT": "20250614140605"}
    items = [
        item("AGT001", "METADATA", "Agent", GSI1_PK="DMN001", AgentNM=""),
        item("AGT001", "TL001", "Tool", GSI1_PK="DMN001", ToolNM=catalogue),
        item("USR001#SESS1", "PRC001#AGT001#TL001", "UserSessPrcToolMappHist", ToolNM="recorded", **call),
        item("USR001#SESS2", "PRC001#AGT001#TL001", "UserSessPrcToolMappHist", ToolNM="", **call),
    ]
    with Warehouse.open("duckdb://") as warehouse:
        warehouse.create()
        warehouse.land(items, at=AT)
        warehouse.refresh(as_of=DAY)
        patterns = reports.recommended_patterns(warehouse, as_of=DAY, recommended_only=False)

        assert {shown} == {row.tool_name for row in reports.tool_failures(warehouse)}
        assert [(shown, 2)] == [(row.tool_name, row.calls) for row in reports.tokens_per_tool(warehouse)]
        assert {(shown,)} == {row.failed_tools for row in reports.tool_errors(warehouse)}
        assert [(shown,)] == [tuple(row) for row in warehouse.read(select(m.ToolErrorSummary.failed_tools))]
        assert {shown} == {step.tool_name for row in patterns for step in row.steps}
        assert {shown} == {row.tool_sequence for row in patterns}
        named = queries.patterns(score.as_of_expression(DAY), named=True)
        assert {(shown, "AGT001")} == {(row.tool_sequence, row.agent_name) for row in warehouse.read(named)}
        assert {"AGT001"} == {row.agent_name for row in patterns}
        assert {"AGT001"} == {row.agent_name for row in reports.tool_failures(warehouse)}
        assert {"AGT001"} == {row.agent_name for row in reports.agent_ranking(warehouse, as_of=DAY)}
