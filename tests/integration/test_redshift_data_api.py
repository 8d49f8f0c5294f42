"""Redshift by its Data API: the whole warehouse over the service's wire, with PostgreSQL behind it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, literal_column, make_url, select, text

from agentmodel import Settings
from agentmodel.aws.handlers import learn
from agentmodel.exceptions import ConfigurationError, LeaseHeld, WarehouseUnavailable
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.aws_calls import allowed, recorded
from tests.integration.redshift_data_api import PAGE, DataApi
from tests.integration.redshift_histories import history
from tests.integration.redshift_oracle import held
from tests.integration.redshift_postgres import LANDED, Server, created, landed, translated, warehouse_in
from tests.integration.standing import never_renewed, stopped
from tests.integration.suggest_world import TODAY, catalogue, opened, run

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift is the dialect")
psycopg: Any = pytest.importorskip("psycopg", reason="psycopg connects the double to PostgreSQL")
botocore_session: Any = pytest.importorskip("botocore.session")

from agentmodel.redshift import _data_api as _dataapi  # noqa: E402  # it needs the dialect

_model = botocore_session.Session().get_service_model("redshift-data")
if "SessionId" not in _model.operation_model("ExecuteStatement").input_shape.members:
    pytest.skip("this botocore does not know the Data API's sessions", allow_module_level=True)

ROOT = Path(__file__).parents[2]
AT = datetime(2025, 6, 14, 9, tzinfo=UTC)
DAY = date(2025, 6, 14)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with Server() as server:
        server.run(JSON_PARSE)
        yield server


JSON_PARSE = "CREATE FUNCTION redshift.json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1::jsonb';"


@pytest.fixture
def schema(postgres: Server, request: pytest.FixtureRequest) -> str:
    """A schema of the test's own, with an empty landed table."""
    name = f"t{abs(hash(request.node.name))}"
    postgres.run(created(name))
    return name


@pytest.fixture
def service(postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataApi]:
    """The Data API before that schema; nobody waits between two looks at a statement."""
    monkeypatch.setattr(_dataapi, "_FIRST_PAUSE", 0.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def connect() -> Any:
        # a transaction sees one state, as on Redshift
        options = "-c default_transaction_isolation=repeatable\\ read"
        return psycopg.connect(host=str(postgres.folder), user="postgres", autocommit=True, options=options)

    def read(sql: str) -> str:
        opening = sql.startswith("SET enable_case_sensitive_identifier")
        return warehouse_in(schema).strip(";\n") if opening else translated(sql)

    service = DataApi(connect, read)
    try:
        yield service
    finally:
        service.close()


def url(service: DataApi, **options: str) -> str:
    more = "".join(f"&{name}={value}" for name, value in options.items())
    return f"redshift+data://agents/dev?region=eu-west-1&endpoint={service.endpoint}{more}"


@pytest.fixture
def warehouse(service: DataApi) -> Iterator[Warehouse]:
    with Warehouse.open(url(service), landed_table=LANDED) as warehouse:
        yield warehouse


@pytest.fixture
def land(postgres: Server, schema: str) -> Callable[[Warehouse], None]:
    """Land in PostgreSQL what DuckDB holds, as zero-ETL would."""

    def copied(duckdb: Warehouse) -> None:
        rows = duckdb.read(
            text(
                'SELECT "PK", "SK", "value"::VARCHAR, _record_is_active, _record_create_time, _record_delete_time FROM "AgentTable"'
            )
        )
        postgres.run(warehouse_in(schema) + landed(dict(row._mapping) for row in rows))

    return copied


def test_every_table_and_report_is_the_same(
    warehouse: Warehouse, service: DataApi, land: Callable[[Warehouse], None]
) -> None:
    """Created, built, brought up to date and read by the Data API, every table and report equals DuckDB's, types and all."""
    first = history(1, 60)
    second = {(item["PK"]["S"], item["SK"]["S"]): item for item in [*first[:-9], *history(2, 20)]}
    with Warehouse.open("duckdb://") as duckdb:
        for each in (duckdb, warehouse):
            each.create()
        for number, items in enumerate((first, list(second.values()))):
            duckdb.land(items, at=AT + timedelta(hours=2 * number))
            land(duckdb)
            done = [each.refresh(as_of=DAY) for each in (duckdb, warehouse)]

            assert done[0].rows == done[1].rows
            assert done[0].full == done[1].full == (number == 0)
            assert held(duckdb) == held(warehouse)
        for report in REPORTS:
            expected, found = report(duckdb), report(warehouse)
            assert [typed(row) for row in expected] == [typed(row) for row in found]
            assert [close(row) for row in expected] == [close(row) for row in found]


REPORTS: list[Callable[[Warehouse], list[Any]]] = [
    lambda warehouse: reports.agent_ranking(warehouse, as_of=DAY),
    lambda warehouse: reports.recommended_patterns(warehouse, as_of=DAY, recommended_only=False),
    reports.tool_errors,
    reports.tool_failures,
    reports.session_requests,
    reports.executions_per_day,
    reports.tokens_per_tool,
]


def typed(row: Any) -> dict[str, type]:
    return {name: type(value) for name, value in vars(row).items()}


def close(row: Any) -> list[Any]:
    """A row with nine digits of its doubles, as engines add in different orders."""
    return [f"{value:.9g}" if isinstance(value, float) else value for value in vars(row).values()]


def test_a_refresh_is_one_transaction(
    warehouse: Warehouse, service: DataApi, land: Callable[[Warehouse], None]
) -> None:
    """A statement that fails takes everything back that the refresh had done; the next refresh does the work."""
    with Warehouse.open("duckdb://") as duckdb:
        duckdb.create()
        duckdb.land(history(3, 20), at=AT)
        warehouse.create()
        land(duckdb)
    fails = Failing(service, "DELETE FROM agent_score_summary")
    with pytest.raises(WarehouseUnavailable, match="the warehouse rejected a statement: division by zero"):
        warehouse.refresh(as_of=DAY)
    counts = warehouse.counts()
    fails.mend()
    warehouse.refresh(as_of=DAY)

    assert counts["landed"] > 0
    assert {0} == {rows for name, rows in counts.items() if name != "landed"}
    assert warehouse.counts()["agent_execution"] > 0


class Failing:
    """Makes the service fail at a statement until it is mended."""

    def __init__(self, service: DataApi, start: str) -> None:
        self._service = service
        self._usual = service._translated
        service._translated = lambda sql: "SELECT 1 / 0" if sql.startswith(start) else self._usual(sql)

    def mend(self) -> None:
        self._service._translated = self._usual


def test_a_session_is_opened_once_and_named_alone(warehouse: Warehouse, service: DataApi) -> None:
    """The first call names the workgroup and the database, all others the session; each has a token of its own."""
    warehouse.read(select(literal_column("1")))
    warehouse.read(select(literal_column("2")))
    executed = [request for operation, request in service.requests if operation == "ExecuteStatement"]

    assert [
        "SET enable_case_sensitive_identifier TO TRUE",
        "BEGIN",
        "SELECT 1",
        "COMMIT",
        "BEGIN",
        "SELECT 2",
        "COMMIT",
    ] == [" ".join(sql.split()) for sql in service.sql()]
    assert ("agents", "dev", 300) == tuple(
        executed[0][name] for name in ("WorkgroupName", "Database", "SessionKeepAliveSeconds")
    )
    assert {("ClientToken", "SessionId", "Sql")} == {tuple(sorted(request)) for request in executed[1:]}
    assert len(executed) == len({request["ClientToken"] for request in executed})


def test_rows_come_back_typed(warehouse: Warehouse) -> None:
    """Every type of the tables comes back as the connector gives it, NULLs as None, over several pages."""
    rows = warehouse.read(
        text(
            "SELECT CAST(n AS BIGINT), CAST(0.1 AS DOUBLE PRECISION) AS d, DATE '2025-06-14', TIMESTAMP '2025-06-14 09:00:00.25', "
            "n = 3, CAST('카페 \\:a' AS VARCHAR(40)), CAST(12.50 AS NUMERIC(18, 2)), CAST(NULL AS DATE) "
            "FROM generate_series(1, 30) AS g(n)"
        )
    )
    expected = (0.1, date(2025, 6, 14), datetime(2025, 6, 14, 9, 0, 0, 250_000))  # noqa: DTZ001  # a TIMESTAMP has no zone

    assert [(n, *expected, n == 3, "카페 :a", Decimal("12.50"), None) for n in range(1, 31)] == [
        tuple(row) for row in rows
    ]
    assert len(rows) > 4 * PAGE


def test_texts_go_and_come_back(warehouse: Warehouse) -> None:
    """What a statement is given is stored as it was given, whatever quotes, colons or nothing it holds."""
    values = ["O'Brien", "", None, ":other", "'; DROP TABLE domain; --", "예약 %s %%", "a\\b", "null"]
    warehouse.create()
    with warehouse.begin() as connection:
        for number, value in enumerate(values):
            connection.execute(insert(m.DomainRow).values(domain_id=f"DMN{number}", name=value))
    stored = warehouse.read(select(m.DomainRow.name).order_by(m.DomainRow.domain_id))
    found = [
        [
            row[0]
            for row in warehouse.read(select(m.DomainRow.domain_id).where(m.DomainRow.name == bindparam("name", value)))
        ]
        for value in values
        if value is not None
    ]

    assert [(value,) for value in values] == [tuple(row) for row in stored]
    assert [[f"DMN{number}"] for number, value in enumerate(values) if value is not None] == found


def test_numbers_days_and_times_go_and_come_back(warehouse: Warehouse) -> None:
    """Parameters that are no texts keep their value and type, too."""
    given = {"i": -3, "f": 1e-300, "t": True, "d": DAY, "at": datetime(2025, 6, 14, 9, 0, 0, 1)}  # noqa: DTZ001  # likewise
    (row,) = warehouse.read(select(*(bindparam(name, value).label(name) for name, value in given.items())))

    assert given == dict(row._mapping)


def test_a_parameter_of_another_type_is_refused(warehouse: Warehouse) -> None:
    """What has no safe form in a statement is not sent."""
    with pytest.raises(WarehouseUnavailable, match="parameter x is a timedelta"):
        warehouse.read(text("SELECT :x").bindparams(x=timedelta(1)))


def test_a_statement_that_takes_too_long_is_cancelled(service: DataApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running statement is asked after with growing pauses, up to two seconds; after its time it is cancelled."""
    monkeypatch.setattr(_dataapi, "_FIRST_PAUSE", 0.05)
    pauses: list[float] = []
    now = [0.0]

    def pause(seconds: float) -> None:
        pauses.append(round(seconds, 3))
        now[0] += seconds

    service.never_ends = "SELECT 1"
    client = _dataapi._client({"region": "eu-west-1", "endpoint": service.endpoint})
    connection = _dataapi.DataApiConnection(client, {"Database": "dev", "WorkgroupName": "agents"}, opening=["SET a TO b"], timeout=9,
                                     keep_alive=60, pause=pause, clock=lambda: now[0])  # fmt: skip
    service._translated = lambda sql: "SELECT 0" if sql.startswith("SET") else sql
    with pytest.raises(_dataapi.OperationalError, match="took longer than 9 s and was cancelled"):
        connection.cursor().execute("SELECT 1")
    last = pauses[len(pauses) - pauses[::-1].index(0.05) - 1 :]
    connection.rollback()

    assert [0.05, 0.075, 0.113] == last[:3]
    assert 2.0 == max(last)
    assert 9.0 == pytest.approx(sum(last), abs=0.01)
    assert ["SELECT 1"] == service.cancelled
    assert "ROLLBACK" == service.sql()[-1]


def test_a_session_that_ended_is_replaced(warehouse: Warehouse, service: DataApi) -> None:
    """Redshift ends sessions that nobody used for a while: the next transaction opens another and nobody notices."""
    warehouse.read(select(literal_column("1")))
    service.end_sessions()
    (row,) = warehouse.read(select(literal_column("2")))

    assert (2,) == tuple(row)
    assert 2 == service.sql().count("SET enable_case_sensitive_identifier TO TRUE")


def test_a_session_that_ends_in_a_transaction_is_an_outage(warehouse: Warehouse, service: DataApi) -> None:
    """Inside a transaction there is nothing to go on with: one line tells, and the next one opens another session."""

    def interrupted() -> None:
        with warehouse.begin() as connection:
            connection.execute(select(literal_column("1")))
            service.end_sessions()
            connection.execute(select(literal_column("2")))

    with pytest.raises(WarehouseUnavailable, match=r"Session .* is not available"):
        interrupted()
    (row,) = warehouse.read(select(literal_column("3")))

    assert (3,) == tuple(row)


def test_nothing_runs_without_a_session(warehouse: Warehouse, service: DataApi) -> None:
    """Where no session is opened there is no transaction either, so no statement of ours is sent."""
    service.keeps_sessions = False
    with pytest.raises(WarehouseUnavailable, match="opened no session, so nothing was run"):
        warehouse.create()

    assert ["SET enable_case_sensitive_identifier TO TRUE"] == service.sql()


def test_a_missing_table_is_named(warehouse: Warehouse) -> None:
    """Redshift's refusal comes out as the connector's does."""
    with pytest.raises(WarehouseUnavailable, match=r'relation "agent_daily" does not exist; call create\(\) first'):
        reports.agent_ranking(warehouse, as_of=DAY)


def test_the_lambda_handler_goes_by_the_data_api(
    settings: Settings, service: DataApi, land: Callable[[Warehouse], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such a URL the entry point refreshes and publishes over the Data API alone, as its role on AWS allows."""
    with opened(settings) as model:
        catalogue(model)
        run(model)
        model.drain()
        with Warehouse.open("duckdb://") as duckdb:
            duckdb.create()
            duckdb.land(model.table.scan(), at=datetime.now(UTC))
            land(duckdb)
        environment = {"table": settings.table, "endpoint": settings.endpoint, "valkey_url": settings.valkey_url,
                       "access_key_id": "test", "secret_access_key": "test", "valkey_timeout": "2",
                       "warehouse_url": url(service), "landed_table": LANDED}  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(f"AGENTMODEL_{name.upper()}", str(value))
        with recorded() as calls:
            first = learn({"as_of": TODAY.isoformat()}, None)
            second = learn({"as_of": TODAY.isoformat()}, None)
        (best, *_) = model.repository.top_agents("DMN001", limit=1)

    assert (2, 3, 1, 1) == (first["agents"], first["tools"], first["mappings"], first["rankings"])
    assert (0, 0, 0, 0) == (second["agents"], second["tools"], second["mappings"], second["rankings"])
    assert ("AGT001", 1) == (best.agent_id, best.executions)
    assert set() == calls - allowed("learn")
    assert {"redshift-data:CancelStatement"} == {  # of a statement that takes too long
        action for kind, action in allowed("learn") - calls if kind in ("workgroup", "statement")
    }


# -- several that refresh at once --------------------------------------------------------------------------------------


def test_refreshes_at_once_count_each_call_once(
    service: DataApi, warehouse: Warehouse, land: Callable[[Warehouse], None]
) -> None:
    """Three that create, build and update at once, each over sessions of its own, leave what one would."""
    with Warehouse.open("duckdb://") as duckdb, ThreadPoolExecutor(3) as pool:
        others = [Warehouse.open(url(service), landed_table=LANDED) for _ in range(3)]
        duckdb.create()
        list(pool.map(Warehouse.create, others))
        for number in (1, 2):
            duckdb.land(history(number, 20), at=AT + timedelta(hours=2 * number), complete=False)
            land(duckdb)
            duckdb.refresh(as_of=DAY)
            done = list(pool.map(lambda each: each.refresh(as_of=DAY), others))

            assert 1 == len({tuple(each.rows.items()) for each in done})
            assert held(duckdb) == held(warehouse)
        for each in others:
            each.close()


@pytest.mark.parametrize("at", ["find items", "commit"])
def test_a_refresh_that_stood_still_commits_nothing(
    service: DataApi, warehouse: Warehouse, land: Callable[[Warehouse], None], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Who stood still until another took the lease is told so and changes nothing; the other then does the work."""
    with (
        Warehouse.open("duckdb://") as duckdb,
        Warehouse.open(url(service), landed_table=LANDED) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        duckdb.create()
        duckdb.land(history(1, 20), at=AT)
        duckdb.refresh(as_of=DAY)
        warehouse.create()
        land(duckdb)
        with ExitStack() as standing:
            with never_renewed(monkeypatch):
                work = stopped(lambda stand: other.refresh(as_of=DAY + timedelta(9), progress=stand), at)
                late = standing.enter_context(work)
            overtaking = pool.submit(warehouse.refresh, as_of=DAY)
            while [(1,)] == [tuple(row) for row in warehouse.read(text("SELECT token FROM warehouse_lease"))]:
                Event().wait(0.01)
        with pytest.raises(LeaseHeld, match=r"lost the lease `refresh` to refresh \(process"):
            late.result()
        overtaking.result()

        assert held(duckdb) == held(warehouse)


KILLED = """
import sys
from datetime import date
from agentmodel._runtime import lease
from agentmodel.redshift.warehouse import Warehouse
lease.SECONDS = 2.0
def stand(name, done, of):
    if done == 5:
        print("standing", flush=True)
        sys.stdin.read()
Warehouse.open(sys.argv[1], landed_table=sys.argv[2]).refresh(as_of=date(2025, 6, 14), progress=stand)
"""


def test_a_killed_refresh_is_done_by_the_next(
    service: DataApi, warehouse: Warehouse, land: Callable[[Warehouse], None]
) -> None:
    """Another process that refreshes is named; after it was killed, the next refresh waits for the end of its lease."""
    with Warehouse.open("duckdb://") as duckdb:
        duckdb.create()
        duckdb.land(history(1, 20), at=AT)
        duckdb.refresh(as_of=DAY)
        warehouse.create()
        land(duckdb)
        arguments = [sys.executable, "-c", KILLED, url(service), LANDED]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "standing\n" == process.stdout.readline()
            with pytest.raises(LeaseHeld, match=rf"refresh was not begun: refresh \(process {process.pid} on"):
                warehouse.refresh(as_of=DAY, wait=0)
            process.kill()
        service.end_sessions()  # as Redshift does it when nobody uses them
        warehouse.refresh(as_of=DAY, wait=30)

        assert held(duckdb) == held(warehouse)


def test_a_refresh_by_sql_is_waited_for(
    service: DataApi, warehouse: Warehouse, land: Callable[[Warehouse], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rendered SQL takes the same lock: while it runs the program waits, and then says what to do."""
    from agentmodel.redshift import _leases
    from agentmodel.redshift.render_sql import rendered

    monkeypatch.setattr(_leases, "WAIT", 0.2)
    warehouse.create()
    begin = "".join(rendered(LANDED)["10_begin.sql"].split("\n", 1)[1:])
    with warehouse.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.execute(text(begin.split(";")[1].rpartition("\n")[2]))
        with pytest.raises(WarehouseUnavailable, match=r"another session has been writing for 0\.2 s.*end it by"):
            warehouse.refresh(as_of=DAY)
    warehouse.refresh(as_of=DAY)

    assert "LOCK TABLE work_change" in begin


def test_a_full_build_heals_doubled_rows(
    postgres: Server, schema: str, warehouse: Warehouse, land: Callable[[Warehouse], None]
) -> None:
    """Rows that were doubled anyhow, landed ones too, are counted once after a full build."""
    with Warehouse.open("duckdb://") as duckdb:
        duckdb.create()
        duckdb.land(history(1, 20), at=AT)
        duckdb.refresh(as_of=DAY)
        warehouse.create()
        land(duckdb)
        warehouse.refresh(as_of=DAY)
        doubled = ("AgentTable", "user_tool_mapping_hist", "agent_execution", "agent_tool")
        for table in doubled:
            postgres.run(f'ALTER TABLE {schema}."{table}" DROP CONSTRAINT IF EXISTS {table.lower()}_pkey;')
            postgres.run(f'INSERT INTO {schema}."{table}" SELECT * FROM {schema}."{table}";')
        warehouse.refresh(as_of=DAY, full=True)

        assert held(duckdb) == held(warehouse)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "agents/dev?iam=true",
            "has iam, which is not an option of the Data API: remove it, or use one of cluster, db_user",
        ),
        ("agents/dev?timeout=soon", "has timeout=soon, which is not a whole number of seconds"),
        ("agents/dev?keep_alive=0", "has keep_alive=0, which is not a whole number of seconds above 0"),
        ("me:secret@agents/dev", "has a user or a password, which the Data API does not take"),
        ("agents/dev?cluster=c&region=r", "a workgroup as its host or a cluster by ?cluster=…, and not both"),
        ("/dev?region=r", "a workgroup as its host or a cluster by ?cluster=…, and not both"),
        ("agents?region=r", "names no database"),
        ("agents/dev", "cannot create a client of the Data API: You must specify a region"),
    ],
)
def test_wrong_urls_are_named(query: str, message: str) -> None:
    """A URL the Data API cannot work with is refused before anything is sent, without a password."""
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        Warehouse.open(f"redshift+data://{query}")

    assert "secret@" not in str(caught.value)


def test_clusters_and_secrets() -> None:
    """A provisioned cluster, its user or a secret are named in the URL's query."""
    place, _ = _dataapi._read(make_url("redshift+data:///dev?cluster=history&db_user=learner&secret_arn=arn:aws:x"))

    assert {"Database": "dev", "ClusterIdentifier": "history", "DbUser": "learner", "SecretArn": "arn:aws:x"} == place


def test_the_golden_run_is_met(postgres: Server, service: DataApi, capsys: pytest.CaptureFixture[str]) -> None:
    """The script for a run on Serverless, over the Data API: rendered text and program give what must come out."""
    spec = importlib.util.spec_from_file_location("serverless", ROOT / "scripts" / "serverless.py")
    assert spec is not None
    assert spec.loader is not None
    serverless = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serverless)

    def read(sql: str) -> str:
        if sql.startswith("SET enable_case_sensitive_identifier"):
            return "SET TIME ZONE 'UTC'"
        schema = sql.removeprefix("SET search_path TO ")
        return translated(sql) if schema == sql else f"SET search_path = {schema}, redshift, pg_catalog"

    service._translated = read
    code = serverless.main([url(service)])
    told = capsys.readouterr().out.splitlines()
    left = postgres.run("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'agentmodel_golden%';")

    ways = [(way, name) for way in ("text", "procedure", "program") for name in serverless.NAMES]

    assert [
        f"{way}, {name}: 27 tables and reports, 0 differ"
        for way, name in ways
        if (way, name) != ("procedure", "built anew")
    ] == told
    assert 0 == code
    assert "0" == left.strip()
