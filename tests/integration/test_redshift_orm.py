"""The warehouse's models as SQLAlchemy's users work with them, on three dialects; Redshift's goes over its Data API."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    JSON,
    DateTime,
    Engine,
    ForeignKey,
    MetaData,
    Numeric,
    create_engine,
    create_mock_engine,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import NotSupportedError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from agentmodel.exceptions import MissingExtraError, ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift._rows import Rows
from agentmodel.redshift.render_sql import rendered
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_data_api import DataApi
from tests.integration.redshift_histories import history
from tests.integration.redshift_postgres import Server, translated, warehouse_in

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift is one of the dialects")
psycopg: Any = pytest.importorskip("psycopg", reason="psycopg connects to PostgreSQL")

from agentmodel.redshift import _data_api  # noqa: E402  # it needs the dialect

AT = datetime(2025, 6, 14, 9, tzinfo=UTC)
DAY = date(2025, 6, 14)
DIALECTS = ("duckdb", "postgresql", "redshift")
ROOT = Path(__file__).parents[2]
DOMAIN = {"PK": {"S": "DMN000"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Domain"}, "DomainNM": {"S": "other"}}


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    """A DuckDB warehouse with a history."""
    with Warehouse.open("duckdb://") as made:
        made.create()
        made.land([*history(1, 40), DOMAIN], at=AT)
        made.refresh(as_of=DAY)
        yield made


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with Server() as server:
        server.run("CREATE SCHEMA plain; CREATE SCHEMA behind;")
        yield server


@pytest.fixture(scope="module")
def engines(postgres: Server, warehouse: Warehouse) -> Iterator[dict[str, Engine]]:
    """An engine of each dialect, on the same rows: those of DuckDB, copied through the models."""

    def connect() -> Any:
        return psycopg.connect(host=str(postgres.folder), user="postgres", autocommit=True)

    service = DataApi(connect, lambda sql: warehouse_in("behind").strip(";\n") if sql == "OPEN" else translated(sql))
    path = "postgresql+psycopg://postgres@/postgres"
    options = {"host": str(postgres.folder), "options": "-c search_path=plain,redshift"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_data_api, "_FIRST_PAUSE", 0.0)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        url = make_url(f"redshift+data://agents/dev?region=eu-west-1&endpoint={service.endpoint}")
        made = {
            "duckdb": warehouse.engine,
            "postgresql": create_engine(path, connect_args=options),
            "redshift": _data_api.data_api_engine(url, opening=["OPEN"]),
        }
        try:
            for name in ("postgresql", "redshift"):
                m.Base.metadata.create_all(made[name], checkfirst=name == "postgresql")
                with made[name].begin() as target:
                    for table in KEPT:
                        rows = [dict(row._mapping) for row in warehouse.read(select(table))]
                        if rows:
                            target.execute(insert(table), rows)
            yield made
        finally:
            for name in ("postgresql", "redshift"):
                made[name].dispose()
            service.close()


VIEW: Any = m.AgentToolAnalysisStaging.__table__
KEPT = [table for table in m.Base.metadata.sorted_tables if table is not VIEW and not table.name.startswith("work")]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The program of the page "Your own report"."""
    spec = importlib.util.spec_from_file_location("own_report", ROOT / "docs" / "examples" / "own_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def columns(engine: Engine) -> dict[str, list[tuple[str, str, bool]]]:
    """Name, type and nullability of every column of the models' tables, as the engine has them."""
    found = inspect(engine)
    names = {table.name for table in m.Base.metadata.sorted_tables}
    return {
        name: [(one["name"], one["type"].compile(engine.dialect), one["nullable"]) for one in found.get_columns(name)]
        for name in sorted(names & {*found.get_table_names(), *found.get_view_names()})
    }


# -- tables -----------------------------------------------------------------------------------------------------------


def test_create_all_makes_what_create_makes() -> None:
    """On DuckDB, `create_all` makes the tables and the view that `create` makes, `drop_all` drops them, and both repeat."""
    with Warehouse.open("duckdb://") as created, Warehouse.open("duckdb://") as made:
        created.create()
        for _ in range(2):
            m.Base.metadata.create_all(made.engine)
            assert columns(created.engine) == columns(made.engine)
            assert ["agent_tool_analysis_staging"] == inspect(made.engine).get_view_names()
        made.create()
        made.land(history(1, 5), at=AT)
        made.refresh(as_of=DAY)
        assert made.read(select(func.count()).select_from(m.AgentToolAnalysisStaging))[0][0] > 0
        for _ in range(2):
            m.Base.metadata.drop_all(made.engine)
            assert {} == columns(made.engine)


def test_create_all_sends_redshift_the_rendered_statements() -> None:
    """For Redshift, `create_all` sends the statements of the SQL folder, the view among them."""
    sent: list[str] = []
    files = rendered()
    engine: Any = create_mock_engine(
        "redshift+redshift_connector://", lambda sql, *_, **__: sent.append(str(sql.compile(dialect=engine.dialect)))
    )
    m.Base.metadata.create_all(engine, checkfirst=False)

    expected = "".join(files[name] for name in ("02_tables.sql", "03_staging_view.sql")).replace("IF NOT EXISTS ", "")
    missing = [text for text in sent if "".join(text.split()).replace("%%", "%") not in "".join(expected.split())]
    assert [] == missing
    assert len(m.Base.metadata.tables) == len(sent)


@pytest.mark.parametrize("dialect", ["duckdb", "postgresql"])
def test_the_engine_tells_what_it_has(engines: dict[str, Engine], dialect: str) -> None:
    """`inspect` and `reflect` see every table, the view as a view, and each column with its type."""
    engine = engines[dialect]
    found, reflected = inspect(engine), MetaData()
    reflected.reflect(engine, views=True)
    own = {table.name: table for table in m.Base.metadata.sorted_tables}

    assert {*own} - {VIEW.name} <= {*found.get_table_names()}
    assert VIEW.name in found.get_view_names()
    assert "user_tool_mapping_hist" in (found.get_view_definition(VIEW.name) or "")
    for name, table in own.items():
        assert [each.name for each in table.columns] == [each.name for each in reflected.tables[name].columns]
        for column in table.columns:
            kind = reflected.tables[name].columns[column.name].type
            if column.name != "value":  # JSON, JSONB
                assert column.type.python_type is kind.python_type, (name, column.name)
    with engine.connect() as connection:
        rows = [connection.execute(select(table)).all() for table in (reflected.tables["agent"], m.AgentRow.__table__)]
    assert rows[0] == rows[1]


def test_duckdb_tells_keys_and_types_of_other_tables(warehouse: Warehouse) -> None:
    """Keys, checks, defaults, comments and DuckDB's own types of tables that others made are told, and made again."""
    with warehouse.engine.begin() as connection:
        for text in (
            "CREATE SCHEMA other",
            "CREATE TABLE other.parent (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE)",
            """CREATE TABLE other.child (id INTEGER DEFAULT 7 CHECK (id > 0), parent INTEGER REFERENCES other.parent(id),
              price DECIMAL(10,2), tags VARCHAR[], more MAP(VARCHAR, JSON), made_at TIMESTAMPTZ)""",
            "COMMENT ON TABLE other.child IS 'a child'",
        ):
            connection.exec_driver_sql(text)
    found = inspect(warehouse.engine)
    kinds = {
        each["name"]: each["type"].compile(warehouse.engine.dialect) for each in found.get_columns("child", "other")
    }

    assert {"main", "other"} <= {*found.get_schema_names()}
    assert ["id"] == found.get_pk_constraint("parent", "other")["constrained_columns"]
    assert [["code"]] == [each["column_names"] for each in found.get_unique_constraints("parent", "other")]
    assert "(id > 0)" in found.get_check_constraints("child", "other")[0]["sqltext"]
    (foreign,) = found.get_foreign_keys("child", "other")
    assert (["parent"], "parent", ["id"]) == (
        foreign["constrained_columns"], foreign["referred_table"], foreign["referred_columns"],
    )  # fmt: skip
    assert "a child" == found.get_table_comment("child", "other")["text"]
    assert {
        "id": "INTEGER", "parent": "INTEGER", "price": "NUMERIC(10, 2)", "tags": "VARCHAR[]",
        "more": "MAP(VARCHAR, JSON)", "made_at": "TIMESTAMP WITH TIME ZONE",
    } == kinds  # fmt: skip
    reflected = MetaData()
    reflected.reflect(warehouse.engine, schema="other")
    with Warehouse.open("duckdb://") as second:
        with second.engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA other")
        reflected.create_all(second.engine)
        assert ["child", "parent"] == inspect(second.engine).get_table_names("other")


# -- sessions and selects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_session_adds_changes_and_deletes(engines: dict[str, Engine], dialect: str) -> None:
    """Objects are added, found again, changed and deleted in a session; what is rolled back was never there."""
    with Session(engines[dialect]) as session:
        session.add(m.UserInfo(user_id="USRnew", name="처음"))
        session.flush()
        session.rollback()
        assert session.get(m.UserInfo, "USRnew") is None
        session.add_all([m.UserInfo(user_id="USRnew", name="처음"), m.UserInfo(user_id="USRother", name="b")])
        session.commit()
        found = session.scalars(select(m.UserInfo).where(m.UserInfo.user_id == "USRnew")).one()
        assert "처음" == found.name
        found.name = "second"
        session.commit()
        assert "second" == session.scalar(select(m.UserInfo.name).where(m.UserInfo.user_id == "USRnew"))
        for user_id in ("USRnew", "USRother"):
            session.delete(session.get_one(m.UserInfo, user_id))
        session.commit()
        assert session.get(m.UserInfo, "USRnew") is None


class Own(DeclarativeBase):
    """Tables of an application, beside those of the warehouse."""


class Memo(Own):
    __tablename__ = "memo's list"  # to be quoted

    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[UUID] = mapped_column(default=uuid4)
    agent_id: Mapped[str]
    told: Mapped[dict[str, Any]] = mapped_column(JSON)
    picture: Mapped[bytes | None]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    remarks: Mapped[list[Remark]] = relationship(back_populates="memo")


class Remark(Own):
    __tablename__ = "remark"

    number: Mapped[int] = mapped_column(primary_key=True)
    memo_number: Mapped[int] = mapped_column(ForeignKey(Memo.number))
    memo: Mapped[Memo] = relationship(back_populates="remarks")


@pytest.mark.parametrize("dialect", ["duckdb", "postgresql"])
def test_an_application_has_tables_of_its_own(engines: dict[str, Engine], dialect: str) -> None:
    """SQLAlchemy numbers the rows of a model and relates them, and values of every usual type come back."""
    engine, key = engines[dialect], uuid4()
    for _ in range(2):  # a second time, as if for the first
        Own.metadata.create_all(engine)
        Own.metadata.create_all(engine)
        try:
            with Session(engine) as session:
                memo = Memo(key=key, agent_id="AGT001", told={"a": [1, None]}, picture=b"\x00x", price=Decimal("1.50"))
                memo.remarks = [Remark(), Remark()]
                session.add(memo)
                session.flush()
                assert 1 == memo.number
                session.add_all(
                    Memo(agent_id=f"AGT00{n}", told={}, picture=None, price=Decimal(n)) for n in range(2, 5)
                )
                session.commit()
                session.expire_all()
                found = session.scalars(select(Memo).where(Memo.key == key).options(selectinload(Memo.remarks))).one()

                assert ({"a": [1, None]}, b"\x00x", Decimal("1.50")) == (found.told, found.picture, found.price)
                assert [1, 2] == [remark.number for remark in found.remarks]
                assert found.at.tzinfo is not None
                assert [1, 2, 3, 4] == session.scalars(select(Memo.number).order_by(Memo.number)).all()
        finally:
            Own.metadata.drop_all(engine)
        assert not inspect(engine).has_table(Memo.__tablename__)


def test_duckdb_refuses_a_savepoint_in_words(engines: dict[str, Engine]) -> None:
    """A savepoint, which DuckDB does not have, is refused with what to do instead."""
    with Session(engines["duckdb"]) as session:
        session.begin_nested()
        with pytest.raises(NotSupportedError, match="use one transaction in place"):
            session.connection()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_related_rows_are_read_with_an_object(engines: dict[str, Engine], dialect: str) -> None:
    """Relationships lead from scores, patterns, executions and staging rows to what they are about, and back."""
    with Session(engines[dialect]) as session:
        for score in session.scalars(select(m.AgentScoreSummary)).all():
            assert score.agent is not None
            assert score.domain is not None
            assert (score.agent_id, score.domain_id) == (score.agent.agent_id, score.domain.domain_id)
            assert score.agent.score_summary is score
            assert score.agent.domain is score.domain
            assert {score.agent_id} >= {tool.agent_id for tool in score.agent.tools}
        of_session = selectinload(m.AgentExecution.session)
        runs = session.scalars(select(m.AgentExecution).options(of_session, selectinload(m.AgentExecution.agent))).all()
        assert {(run.user_id, run.session_id) for run in runs if run.session} == {
            (run.session.user_id, run.session.session_id) for run in runs if run.session
        }
        assert all(run in run.session.executions for run in runs if run.session)
        pattern = session.scalars(select(m.UserProcessPattern).limit(1)).one()
        assert pattern.agent is not None
        assert pattern.agent_id == pattern.agent.agent_id
        call = session.scalars(select(m.AgentToolAnalysisStaging).join(m.AgentToolAnalysisStaging.tool).limit(1)).one()
        assert call.tool is not None
        assert (call.agent_id, call.tool_id) == (call.tool.agent_id, call.tool.tool_id)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("model", [m.AgentScoreSummary, m.UserProcessPattern], ids=lambda model: str(model.__name__))
def test_the_score_is_an_expression(engines: dict[str, Engine], dialect: str, model: Any) -> None:
    """The score of a day may be selected, ordered and filtered by, summed up and ranked; an object computes the same."""
    value = model.score(DAY)
    place = func.row_number().over(partition_by=model.agent_id, order_by=value.desc())
    with Session(engines[dialect]) as session:
        rows = session.execute(select(model, value.label("value"), place.label("place")).order_by(value.desc())).all()
        total, most, count = session.execute(
            select(func.sum(value), func.max(value), func.count()).where(value >= 0)
        ).one()

        assert rows
        assert pytest.approx([row[0].score(DAY) for row in rows]) == [row.value for row in rows]
        assert sorted((row.value for row in rows), reverse=True) == [row.value for row in rows]
        assert pytest.approx((sum(row.value for row in rows), rows[0].value, len(rows))) == (total, most, count)
        assert 1 in {row.place for row in rows}


@pytest.mark.parametrize("day", ["2025-06-14", AT, None, 45])
@pytest.mark.parametrize("model", [m.AgentScoreSummary, m.UserProcessPattern])
def test_a_score_is_as_of_a_date(warehouse: Warehouse, model: Any, day: Any) -> None:
    """Anything but a date is refused alike on a class and on an object: a datetime is of another day elsewhere."""
    with Session(warehouse.engine) as session:
        found: Any = session.scalars(select(model)).first()

        for asked in (model, found):
            with pytest.raises(ValidationError, match=r"as_of .* must be a date"):
                asked.score(day)


def test_a_score_as_of_the_domains_newest_day_is_the_stored_one(engines: dict[str, Engine]) -> None:
    """The day may be an expression too: as of the newest execution of the domain, the score is the calculated one."""
    s = m.AgentScoreSummary
    newest = func.max(s.last_day).over(partition_by=s.domain_id)
    ranked = select(s.agent_id, s.calculated_score, s.score(newest).label("value")).where(s.last_day.is_not(None))
    with Session(engines["duckdb"]) as session:
        rows = session.execute(ranked).all()

    assert rows
    assert pytest.approx([row.calculated_score for row in rows]) == [row.value for row in rows]


def test_every_report_of_the_page_is_the_same_everywhere(engines: dict[str, Engine], example: ModuleType) -> None:
    """Each of the five reports of the page gives the same rows on every dialect."""
    for report in example.REPORTS:
        answers = []
        for engine in engines.values():
            with engine.connect() as connection:
                rows = connection.execute(report()).all()
            texts = [tuple(f"{float(value):.9g}" if number(value) else value for value in row) for row in rows]
            answers.append(sorted(texts, key=repr))  # engines put rows without a name first or last
        assert answers[0], report.__name__
        assert [answers[0]] * 3 == answers, report.__name__
    names = []
    for engine in engines.values():
        with Session(engine) as session:
            found = session.scalars(example.recommended()).all()
            names.append([(each.user_id, each.agent and each.agent.name, each.pattern_key) for each in found])
    assert names[0]
    assert [names[0]] * 3 == names


def number(value: Any) -> bool:
    return not isinstance(value, str | date | None)


# -- tables of other libraries ----------------------------------------------------------------------------------------


def test_rows_become_tables(warehouse: Warehouse) -> None:
    """Rows of a select and of a report are lists, and become Arrow tables with the declared types, rows or none."""
    arrow: Any = pytest.importorskip("pyarrow", reason="the extra arrow")
    selected = warehouse.read(select(m.AgentScoreSummary))
    none = warehouse.read(select(m.AgentScoreSummary).where(m.AgentScoreSummary.agent_id == "nobody"))
    ranking = reports.agent_ranking(warehouse, as_of=DAY)

    assert isinstance(selected, list)
    assert selected.to_arrow().schema == none.to_arrow().schema
    assert len(selected) == selected.to_arrow().num_rows
    assert [row.agentid for row in selected] == selected.to_arrow().column("agentid").to_pylist()
    assert arrow.date32() == none.to_arrow().schema.field("last_execution_date").type
    assert arrow.timestamp("us") == none.to_arrow().schema.field("updated_at").type
    assert [vars(row) for row in ranking] == ranking.to_arrow().to_pylist()
    patterns = reports.recommended_patterns(warehouse, as_of=DAY)
    steps = patterns.to_arrow().column("steps").to_pylist()
    assert [[vars(step) for step in row.steps] for row in patterns] == steps
    assert Rows([], [("a", "string")]).to_arrow().schema.names == ["a"]


@pytest.mark.parametrize(
    "report",
    [
        lambda warehouse: reports.agent_ranking(warehouse, as_of=DAY),
        lambda warehouse: reports.recommended_patterns(warehouse, as_of=DAY),
        reports.tool_errors,
        reports.tool_failures,
        reports.session_requests,
        reports.executions_per_day,
        reports.tokens_per_tool,
    ],
)
def test_every_report_is_a_table(warehouse: Warehouse, report: Any) -> None:
    """Every report becomes a table of one column for each field of its rows, of one type with and without rows."""
    pytest.importorskip("pyarrow", reason="the extra arrow")
    found = report(warehouse)
    with Warehouse.open("duckdb://") as empty:
        empty.create()
        nothing = report(empty)

    assert found
    assert [*vars(found[0])] == found.to_arrow().schema.names
    assert found.to_arrow().schema == nothing.to_arrow().schema


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_rows_become_data_frames(warehouse: Warehouse, library: str, method: str) -> None:
    """A data frame has the names and values of the rows; without the library, the error is the pip line."""
    rows = reports.executions_per_day(warehouse)
    if importlib.util.find_spec(library) is None:
        with pytest.raises(MissingExtraError, match=rf"pip install 'agentmodel\[{library}\]'"):
            getattr(rows, method)()
        return
    frame = getattr(rows, method)()

    assert ["agent_id", "day", "executions", "successes"] == list(frame.columns)
    assert [row.executions for row in rows] == list(frame["executions"])
