"""One writer does not stop learning for all: whatever an item holds, a refresh goes on, and the others are learnt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import ToolExecution
from agentmodel.exceptions import ValidationError
from agentmodel.redshift.render_sql import rendered
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_histories import START, Change, Feed
from tests.integration.redshift_oracle import Item, expected, held
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

DAY = START.date()
HANGUL = "가"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def item(pk: str, sk: str, kind: str, **attributes: Any) -> Item:
    typed = {name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in attributes.items()}
    return {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **typed}


def call(number: int = 1, *, tool: str = "TL001", user: str = "USR001", agent: str = "AGT001", **given: Any) -> Item:
    attributes = {"ToolNM": "find", "TransactDT": "20250613090000000000", "SuccYN": "Y"} | given
    sk = f"PRC{number:03d}#{agent}#{tool}"
    return item(f"{user}#SESS001", sk, "UserSessPrcToolMappHist", **attributes)


SOUND = [item("AGT001", "METADATA", "Agent", GSI1_PK="DMN001", AgentNM="finder"), call()]
LONG_ID = "X" * 3_00

HOSTILE: dict[str, list[Item]] = {
    "tokens without end": [call(n, InputTokens=999_999_999_999_999_999, OutputTokens=-5) for n in range(2, 14)],
    "tokens at the bound": [call(n, InputTokens=9_999_999_999_999) for n in range(2, 5)],
    "many failing tools": [
        call(n, tool=f"TL{n:04d}", ToolNM=f"{n:04d} " + HANGUL * 250, SuccYN="N") for n in range(2, 252)
    ],
    "results of full length": [call(2, ResultMsg=HANGUL * 21_845, ToolValues="x" * 65_535)],
    "other letters where a time or a flag is": [
        call(2, TransactDT=HANGUL * 20, SuccYN=HANGUL, Status=HANGUL * 9),
        item("USR001", "SESS001", "UserSession", SessionSuccYN=HANGUL, SessionStartDT=HANGUL * 14),
        item("USR001", "METADATA", "UserInfo", LastLoginDT=HANGUL * 20),
    ],
    "a kind without end": [item("USR002", "METADATA", HANGUL * 5_000)],
    "ids without end": [
        call(2, user="USR" + LONG_ID),
        call(2, agent="AGT" + LONG_ID),
        item("DMN" + LONG_ID, "METADATA", "Domain", DomainNM="x"),
        item("USR001", "SESS" + LONG_ID, "UserSession", UserSessionNM="x"),
    ],
    "a year long ago": [call(2, agent="AGT002", TransactDT="10000101000000000000"),
                        item("AGT002", "METADATA", "Agent", GSI1_PK="DMN001", AgentNM="old")],
    "a number with a fraction without end": [item("AGT003", "METADATA", "Agent", GSI1_PK="DMN001", Score="0." + "1" * 60_000)],
    "many agents in a session": [call(n, agent=f"AGT{HANGUL * 120}{n:03d}") for n in range(2, 160)],
}  # fmt: skip


def shown(items: list[Item]) -> Feed:
    feed = Feed()
    for each in items:
        feed.write(Change(each, gone=False, wait=0, lag=0))
    return feed


@pytest.mark.parametrize("name", HOSTILE)
def test_a_refresh_goes_on(server: Server, name: str) -> None:
    """First, later and in a full build, on DuckDB and by the rendered SQL, the tables are the oracle's."""
    files, schema = rendered(LANDED), f"hostile{list(HOSTILE).index(name)}"
    names = [
        [n for n in sorted(files) if "10" <= n[:2] <= "19"],
        ["full_build.sql"],
        [n for n in sorted(files) if n[0] == "3"],
    ]
    refresh, full, reports = (
        "".join(f"{translated(one)};\n" for n in part for one in statements(files[n])) for part in names
    )
    path = warehouse_in(schema)
    create = "".join(
        f"{translated(one)};\n"
        for n in ("02_tables.sql", "03_staging_view.sql", "04_terms.sql")
        for one in statements(files[n])
    )
    server.run(created(schema) + path + create)
    feed = shown(SOUND)
    with Warehouse.open("duckdb://", threads=1) as warehouse:
        warehouse.create()
        for more in ([], HOSTILE[name]):
            for each in more:
                feed.write(Change(each, gone=False, wait=0, lag=0))
            feed.show(warehouse)
            done = warehouse.refresh(as_of=DAY)
            server.run(path + landed(feed.rows()) + refresh)
            truth = expected(feed.present(), DAY)

            assert truth == held(warehouse)
            assert truth == tables(server, schema)
        full_done = warehouse.refresh(as_of=DAY, full=True)
        server.run(path + full)

        assert truth == held(warehouse)
        assert truth == tables(server, schema)
        server.run(path + reports)
        left_out = len(HOSTILE[name]) if name == "ids without end" else 0
        assert (left_out, left_out) == (done.set_aside, full_done.set_aside)


@pytest.mark.parametrize("narrow", [False, True])
def test_results_of_full_length_are_kept(server: Server, narrow: bool) -> None:
    """Results of 65,532 bytes are whole in both warehouses; a narrower column, planted here, is noticed."""
    files, schema = rendered(LANDED), f"results{narrow:d}"
    planted = {"resultmsg VARCHAR(65535)": "resultmsg VARCHAR(40)"} if narrow else {}
    scripts = []
    for numbers in ("02", "03", "04"), [f"{number}" for number in range(10, 20)]:
        text = "".join(sql for name, sql in sorted(files.items()) if name[:2] in numbers)
        for wide, narrower in planted.items():
            text = text.replace(wide, narrower)
        scripts.append("".join(f"{translated(one)};\n" for one in statements(text)))
    path, feed = warehouse_in(schema), shown([*SOUND, call(2, ResultMsg=HANGUL * 21_844)])
    server.run(created(schema) + path + scripts[0] + landed(feed.rows()))
    if narrow:
        with pytest.raises(RefusedError, match="resultmsg"):
            server.run(path + scripts[1])
        return
    server.run(path + scripts[1])
    with Warehouse.open("duckdb://", threads=1) as warehouse:
        warehouse.create()
        feed.show(warehouse)
        warehouse.refresh(as_of=DAY)
        found = [held(warehouse), tables(server, schema)]

    for each in found:
        assert any(HANGUL * 16_383 in row for row in each["user_tool_mapping_hist"])


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "duration_ms"])
def test_a_count_beyond_the_bound_is_refused(name: str) -> None:
    """An entity takes counts up to a million million; the error names the attribute, the value and the bound."""
    ids: Any = {"user_id": "USR001", "session_id": "SESS1", "process_id": "PRC001", "agent_id": "AGT001", "tool_id": "TL001",
           "tool_name": "find", "succeeded": True}  # fmt: skip
    kept: Any = {name: 10**12}
    refused: Any = {name: 10**12 + 1}

    assert 10**12 == getattr(ToolExecution(**ids, **kept), name)
    with pytest.raises(ValidationError, match=rf"{name} \(1000000000001\) must be at most 1000000000000"):
        ToolExecution(**ids, **refused)
