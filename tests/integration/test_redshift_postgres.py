"""The rendered Redshift text, run on a real PostgreSQL, against the same history in DuckDB.

PostgreSQL is Redshift's ancestor: it shares its grammar, its integer division and its strictness about types. What it
spells differently is rewritten below, in one place, and Redshift's byte lengths are checked by constraints.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, select, text

from agentmodel.redshift import models as m
from agentmodel.redshift.pipeline import Warehouse
from agentmodel.redshift.render import rendered

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")

START = datetime(2025, 6, 14, 9, tzinfo=UTC)
DAY = date(2025, 6, 14)
Run = Callable[[str], str]


def program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def known(user: str) -> bool:
    return subprocess.run(["id", user], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def psql() -> Iterator[Run]:
    """A PostgreSQL of our own, without a port: a function that runs a script and returns its output."""
    tools = [program(name) for name in ("initdb", "pg_ctl", "psql")]
    if None in tools:
        pytest.skip("PostgreSQL is not installed")
    initdb, pg_ctl, client = (str(tool) for tool in tools)
    folder = Path(tempfile.mkdtemp(prefix="am-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        if shutil.which("runuser") is None or not known("postgres"):
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"

    def call(*arguments: str) -> None:
        subprocess.run([*as_user, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    call(initdb, "-D", str(data), "-E", "UTF8", "--locale=C", "-U", "postgres", "-A", "trust")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    call(pg_ctl, "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")

    def run(script: str) -> str:
        done = subprocess.run(
            [*as_user, client, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(folder), "-U", "postgres"],
            input=script, capture_output=True, text=True, cwd=folder, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        return done.stdout

    try:
        yield run
    finally:
        call(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


# -- from Redshift's spelling to PostgreSQL's -------------------------------------------------------------------------

EMULATION = """
CREATE FUNCTION datediff_day(date, date) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $2 - $1';
CREATE FUNCTION dateadd_second(integer, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE
  AS 'SELECT $2 + $1 * INTERVAL ''1 second''';
CREATE SCHEMA dbagent;
CREATE TABLE dbagent."AgentTable" ("PK" varchar, "SK" varchar, "value" jsonb, _record_is_active boolean,
  _record_create_time timestamp, _record_delete_time timestamp);
"""


def translated(sql: str) -> str:
    """Redshift's text as PostgreSQL reads it."""
    sql = re.sub(r"SET enable_case_sensitive_identifier TO TRUE;", "", sql)
    sql = re.sub(r'"value" SUPER', '"value" JSONB', sql)
    sql = re.sub(r"\) (DISTSTYLE|DISTKEY)[^;]*;", ");", sql)
    sql = re.sub(r"DATEDIFF\(day,", "datediff_day(", sql)
    sql = re.sub(r"DATEADD\(second,", "dateadd_second(", sql)
    sql = re.sub(r'(\w+)\."value"\."(\w+)"\."(\w+)"', r"""(\1."value" #>> '{\2,\3}')""", sql)
    return listagg(sql)


def listagg(sql: str) -> str:
    """`LISTAGG(a, b) WITHIN GROUP (ORDER BY c)` as `STRING_AGG(a, b ORDER BY c)`."""
    while (start := sql.find("LISTAGG(")) >= 0:
        end = closing(sql, start + len("LISTAGG"))
        order = sql.index("(", end)
        last = closing(sql, order)
        inner = sql[start + len("LISTAGG(") : end]
        sql = f"{sql[:start]}STRING_AGG({inner} {sql[order + 1 : last]}){sql[last + 1 :]}"
    return sql


def closing(sql: str, opening: int) -> int:
    depth, quoted = 0, False
    for place in range(opening, len(sql)):
        quoted ^= sql[place] == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(sql[place], 0)
            if not depth:
                return place
    raise AssertionError(sql[opening:])


def byte_lengths() -> str:
    """Redshift counts bytes where PostgreSQL counts characters."""
    tables = [table for table in m.Base.metadata.sorted_tables if not table.info.get("view")]
    checks = [
        f'ALTER TABLE {table.name} ADD CHECK (octet_length("{column.name}") <= {column.type.length});'
        for table in tables
        for column in table.columns
        if isinstance(column.type, String)
    ]
    return "\n".join(checks)


# -- a history --------------------------------------------------------------------------------------------------------


def history(seed: int, count: int) -> list[dict[str, Any]]:
    """Items with Korean and long text, ties, retries, missing and empty attributes, and days in the future."""
    pick = random.Random(seed)  # noqa: S311 -- a history, not a secret
    items: dict[tuple[str, str], dict[str, Any]] = {}

    def add(pk: str, sk: str, kind: str, **attributes: Any) -> None:
        texts = {name: {"S": value} for name, value in attributes.items() if isinstance(value, str)}
        numbers = {name: {"N": str(value)} for name, value in attributes.items() if isinstance(value, int | float)}
        items[pk, sk] = {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **texts, **numbers}

    for number in range(1, 5):
        name = pick.choice(["검색 에이전트", None])
        add(f"AGT00{number}", "METADATA", "Agent", GSI1_PK=f"DMN00{number % 2}", AgentNM=name, Score="60")
        add(f"AGT00{number}", "TL001", "Tool", GSI1_PK="DMN001", ToolNM="찾기", ToolSpec="{}")
    add("DMN001", "METADATA", "Domain", DomainNM="매장" * 200)
    for _ in range(count):
        user, session = f"USR{pick.randrange(6)}", f"SESS{pick.randrange(8)}"
        add(user, session, "UserSession", Category=pick.choice([None, "카페#1"]), SessionSuccYN=pick.choice([None, "Y", "N"]),
            ReviewedSuccYN=pick.choice([None, None, "Y"]), UserRequest=pick.choice([None, "가까운 카페"]))  # fmt: skip
        process = f"PRC00{pick.randrange(1, 4)}"
        add(
            f"{user}#{session}",
            process,
            "UserSessionProcess",
            ProcNM="위치확인",
            ProcessDesc="확인",
            UserPrompt="어디?",
        )
        attempt = pick.choice(["", "", "#002", "#010"])
        add(
            f"{user}#{session}",
            f"{process}#AGT00{pick.randrange(1, 6)}#TL00{pick.randrange(1, 4)}{attempt}",
            "UserSessPrcToolMappHist",
            ToolNM=pick.choice(["찾기", "", None, "긴 이름 " * 60]),
            ToolValues=pick.choice(["값", "한" * 30_000]),
            ResultMsg=pick.choice(["", None, "결과"]),
            TransactDT=pick.choice(
                [None, "20250614140605", "2025061414060512", "20250701000000", "2025", "20250520235959"]
            ),
            SuccYN=pick.choice(["Y", "Y", "N", None]),
            Status=pick.choice([None, None, "ok", "error", "rejected"]),
            CallNo=pick.choice([None, 1, 2, 10]),
            DurationMs=pick.choice([None, 1500, 0.5]),
            InputTokens=pick.choice([None, 12]),
        )
    return list(items.values())


def landed(warehouse: Warehouse) -> str:
    """The landed table as a script that fills PostgreSQL's."""
    rows = warehouse.read(
        text(
            'SELECT "PK", "SK", "value"::VARCHAR, _record_is_active, _record_create_time, _record_delete_time FROM "AgentTable"'
        )
    )
    with tempfile.TemporaryFile("w+", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        file.seek(0)
        return f'TRUNCATE dbagent."AgentTable";\nCOPY dbagent."AgentTable" FROM STDIN CSV;\n{file.read()}\\.\n'


def shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    return value.isoformat() if isinstance(value, date) else value


def compare(warehouse: Warehouse, psql: Run) -> None:
    hidden = {*(model.__table__ for model in m.WORK), m.RefreshWatermark.__table__}
    for table in m.Base.metadata.sorted_tables:
        if table in hidden or table.info.get("view"):
            continue
        here = sorted((tuple(map(shown, row)) for row in warehouse.read(select(table))), key=repr)
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        answer = psql(f"SELECT coalesce(json_agg(json_build_array({names})), '[]') FROM {table.name};")
        there = sorted((tuple(map(shown, row)) for row in json.loads(answer)), key=repr)

        assert [rounded(row, table) for row in here] == [rounded(row, table) for row in there], table.name


def rounded(row: tuple[Any, ...], table: Any) -> tuple[Any, ...]:
    """A float that is whole comes as an integer from JSON."""
    kinds = [column.type.python_type for column in table.columns]
    return tuple(
        f"{float(value):.9g}" if kind is float and value is not None else value
        for kind, value in zip(kinds, row, strict=True)
    )


def test_the_rendered_text_gives_the_same_tables(psql: Run) -> None:
    """Built, brought up to date, and built anew, every table is the same as DuckDB's."""
    files = rendered('dbagent."AgentTable"')
    setup = [files[name] for name in ("02_tables.sql", "03_staging_view.sql", "04_terms.sql")]
    refresh = "".join(translated(files[name]) for name in sorted(files) if "10" <= name[:2] <= "19")
    psql(EMULATION + "".join(map(translated, setup)) + byte_lengths())
    first = history(1, 120)
    kept = [item for item in first if item["PK"]["S"] != "USR1#SESS1"]
    second = {(item["PK"]["S"], item["SK"]["S"]): item for item in [*kept, *history(2, 30)]}
    with Warehouse.open("duckdb://") as warehouse:
        warehouse.create()
        for number, items in enumerate((first, list(second.values()))):
            warehouse.land(items, at=START + timedelta(hours=number * 2))
            warehouse.refresh(as_of=DAY)
            psql(landed(warehouse) + refresh)
            compare(warehouse, psql)
        psql(translated(files["full_build.sql"]))
        compare(warehouse, psql)
        for name in sorted(files):
            if name.startswith("3"):
                psql(translated(files[name]))
