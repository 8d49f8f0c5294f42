"""The AWS sample's items through the whole warehouse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.exceptions import ConfigurationError, ValidationError, WarehouseUnavailable
from agentmodel.redshift import reports
from agentmodel.redshift.warehouse import Warehouse

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "aws_sample_items.jsonl"
FIRST = date(2025, 6, 14)
TENTH = date(2025, 6, 24)
AT = datetime(2025, 6, 14, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def items() -> list[dict[str, Any]]:
    if not SAMPLE.exists():
        pytest.skip("the AWS sample's items are not beside this checkout")
    return [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]


@pytest.fixture
def warehouse(items: list[dict[str, Any]]) -> Iterator[Warehouse]:
    with Warehouse.open("duckdb://") as opened:
        opened.create()
        opened.land(items, at=AT)
        opened.refresh(as_of=FIRST)
        yield opened


def everything(warehouse: Warehouse) -> list[Any]:
    return [
        warehouse.counts(),
        reports.agent_ranking(warehouse, as_of=FIRST),
        reports.recommended_patterns(warehouse, as_of=FIRST, recommended_only=False),
        reports.tool_errors(warehouse),
        reports.tool_failures(warehouse),
        reports.session_requests(warehouse),
        reports.executions_per_day(warehouse),
        reports.tokens_per_tool(warehouse),
    ]


def test_scores_on_the_day_itself(warehouse: Warehouse) -> None:
    """One execution is a user's session with an agent, and on its day nothing has faded."""
    ranking = reports.agent_ranking(warehouse, as_of=FIRST)

    assert [("AGT002", 1, 1, 1.0, 1), ("AGT001", 2, 1, 0.5, 2)] == [
        (row.agent_id, row.executions, row.successes, row.score, row.rank) for row in ranking
    ]
    assert [(FIRST, 0, 1.0)] * 2 == [(row.last_execution, row.days_since, row.decay) for row in ranking]


@pytest.mark.parametrize("later", [TENTH, FIRST + timedelta(days=9_000)])
def test_scores_stay_while_nobody_runs_anything(warehouse: Warehouse, later: date) -> None:
    """Days and years later every score is the same, whether the tables are refreshed or only read for that day."""
    before = reports.agent_ranking(warehouse, as_of=FIRST)
    patterns = reports.recommended_patterns(warehouse, as_of=FIRST)
    read = reports.agent_ranking(warehouse, as_of=later)
    warehouse.refresh(as_of=later)

    assert read == reports.agent_ranking(warehouse, as_of=later)
    assert before == [replace(row, days_since=0) for row in read]
    assert [(later - FIRST).days] * 2 == [row.days_since for row in read]
    assert patterns == reports.recommended_patterns(warehouse, as_of=later)


def test_a_second_refresh_changes_nothing(warehouse: Warehouse) -> None:
    """Refreshing again, from the changes or anew, gives every report again."""
    before = everything(warehouse)

    warehouse.refresh(as_of=FIRST)
    assert before == everything(warehouse)
    warehouse.refresh(as_of=FIRST, full=True)
    assert before == everything(warehouse)


def test_landing_again_changes_nothing(warehouse: Warehouse, items: list[dict[str, Any]]) -> None:
    """Items that are the same land as no change."""
    landed = warehouse.land(items, at=AT + timedelta(days=1))

    assert (39, 0, 0, 0) == (landed.items, landed.changed, landed.expired, landed.erased)


def test_patterns_and_recommendations(warehouse: Warehouse) -> None:
    """The sample's three patterns come out; those that succeeded are recommended."""
    patterns = reports.recommended_patterns(warehouse, as_of=FIRST, recommended_only=False)

    tools = "FIND_LOC->USE_SEARCH_ENGINE_API->FORMAT_RESULTS"
    assert [
        ("USR001", "AGT001", 1.0, True),
        ("USR002", "AGT001", 0.0, False),
        ("USR003", "AGT002", 1.0, True),
    ] == [(row.user_id, row.agent_id, row.score, row.recommended) for row in patterns]
    assert {("PRC001->PRC002->PRC003", tools)} == {(row.process_pattern, row.tool_sequence) for row in patterns}
    assert [
        "~잠실종합운동장 근처에 있는 N매장 근처의 최근에 생긴 카페를 찾아줘 · 136155",
        "~강남역 근처 맛집 찾아줘 · f5bd52",
        "~홍대 카페 추천해줘 · 82446d",
    ] == [row.category for row in patterns]
    assert [("PRC001", "위치확인", "TL001"), ("PRC002", "매장검색", "TL002"), ("PRC003", "결과포맷팅", "TL003")] == [
        (step.process_id, step.process_name, step.tool_id) for step in patterns[0].steps
    ]
    assert ["USR001", "USR003"] == [row.user_id for row in reports.recommended_patterns(warehouse, as_of=FIRST)]


def test_the_sample_gives_plans_without_any_category(items: list[dict[str, Any]]) -> None:
    """The sample's requests are prompts of processes; publishing makes mappings of them, which the requests find."""
    with AgentModel.local() as model:
        model.writer.put_many(items)
        model.refresh(as_of=AT)
        published = model.publish(as_of=AT)
        plan = model.suggest("USR003", request="홍대 카페를 추천해줘")

    assert 2 == published.mappings
    assert ("own similar request", "홍대 카페 추천해줘") == (plan.source, plan.similar_to)
    assert ["FIND_LOC", "USE_SEARCH_ENGINE_API", "FORMAT_RESULTS"] == [step.tool for step in plan.steps]
    assert "~" not in " ".join(map(str, plan.reasons))


def test_tool_errors(warehouse: Warehouse) -> None:
    """The sample's error report: one of AGT001's six calls failed, and which tool it was."""
    failures = reports.tool_failures(warehouse, "DMN001")

    assert [
        reports.ToolErrors("AGT001", "매장 검색 에이전트", 1, 6, 1 / 6, ("FORMAT_RESULTS",))
    ] == reports.tool_errors(warehouse)
    assert ("AGT001", "TL003", 2, 1, 0.5, "20250614150607", "포맷팅 실패") == (
        failures[0].agent_id,
        failures[0].tool_id,
        failures[0].calls,
        failures[0].errors,
        failures[0].error_rate,
        failures[0].last_error_at,
        failures[0].last_message,
    )


def test_erasure_takes_history_back(warehouse: Warehouse, items: list[dict[str, Any]]) -> None:
    """What a person deletes leaves the statistics, and nothing of it stays in the landed table."""
    kept = [item for item in items if not item["PK"]["S"].startswith("USR002")]
    landed = warehouse.land(kept, at=AT + timedelta(days=1))
    warehouse.refresh(as_of=FIRST)

    ranking = {row.agent_id: row.executions for row in reports.agent_ranking(warehouse, as_of=FIRST)}
    assert (0, 8) == (landed.expired, landed.erased)
    assert {"AGT001": 1, "AGT002": 1} == ranking
    assert [] == [row for row in reports.session_requests(warehouse) if row.user_id == "USR002"]


def test_expiry_keeps_statistics(items: list[dict[str, Any]]) -> None:
    """What DynamoDB's TTL deletes stays in the statistics."""
    expiry = {"ExpiresAt": {"N": str(int(AT.timestamp()) + 60)}}
    history = [{**item, **expiry} if "#" in item["PK"]["S"] else item for item in items]
    with Warehouse.open("duckdb://") as warehouse:
        warehouse.create()
        warehouse.land(history, at=AT)
        warehouse.refresh(as_of=FIRST)
        before = reports.agent_ranking(warehouse, as_of=FIRST)
        landed = warehouse.land([item for item in items if "#" not in item["PK"]["S"]], at=AT + timedelta(hours=1))
        warehouse.refresh(as_of=FIRST)

        assert (18, 0) == (landed.expired, landed.erased)
        assert before == reports.agent_ranking(warehouse, as_of=FIRST)
        warehouse.refresh(as_of=FIRST, full=True)
        assert before == reports.agent_ranking(warehouse, as_of=FIRST)


def test_items_of_unknown_kinds_do_no_harm(warehouse: Warehouse, items: list[dict[str, Any]]) -> None:
    """Items that are none of the eight kinds land, change nothing, and can be deleted."""
    before = everything(warehouse)[1:]
    strange: list[dict[str, Any]] = [
        {"PK": {"S": "X"}, "SK": {"S": "1"}},
        {
            "PK": {"S": "X"},
            "SK": {"S": "2"},
            "EntityType": {"S": '"quoted"'},
            "Blob": {"B": b"\x00"},
            "Set": {"SS": {"a"}},
        },
    ]
    for number, present in enumerate(([*items, *strange], items)):
        warehouse.land(present, at=AT + timedelta(hours=number + 1))
        warehouse.refresh(as_of=FIRST)

        assert before == everything(warehouse)[1:]


def test_progress_names_each_step(warehouse: Warehouse) -> None:
    """Progress names every statement before it runs, so that a long one is named, and ends at the number of all."""
    told: list[tuple[str, int, int]] = []
    warehouse.refresh(as_of=FIRST, progress=lambda name, done, total: told.append((name, done, total)))

    assert "score agents" in {name for name, _, _ in told}
    assert list(range(len(told))) == [done for _, done, _ in told]
    assert {len(told) - 1} == {total for _, _, total in told}


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    """A DuckDB file that another process holds is refused in one line that says what to do."""
    path = tmp_path / "held.duckdb"
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert "held\n" == owner.stdout.readline()
        with pytest.raises(WarehouseUnavailable, match=r"process \d+ .* has .* open: stop it"):
            Warehouse.open(f"duckdb:///{path}")
        owner.stdin.close()

    with Warehouse.open(f"duckdb:///{path}", memory_limit="256MB", threads=1) as warehouse:
        warehouse.create()
        assert 0 == warehouse.counts()["agent"]


def test_the_memory_setting_bounds_duckdb(tmp_path: Path) -> None:
    """AGENTMODEL_WAREHOUSE_MEMORY reaches DuckDB, and what does not fit has a folder beside the file."""
    path = tmp_path / "small.duckdb"
    settings = Settings(warehouse_url=f"duckdb:///{path}", warehouse_memory="200MB")
    shown = select(func.current_setting("memory_limit"), func.current_setting("temp_directory"))
    with AgentModel(settings) as model:
        assert [("190.7 MiB", f"{path}.tmp")] == [tuple(row) for row in model.warehouse.read(shown)]


def test_the_landed_table_setting_names_it(tmp_path: Path, items: list[dict[str, Any]]) -> None:
    """AGENTMODEL_LANDED_TABLE names the table that a refresh reads."""
    url = f"duckdb:///{tmp_path / 'named.duckdb'}"
    with AgentModel(Settings(warehouse_url=url, landed_table="main.landed_here")) as model:
        model.warehouse.land(items, at=AT)
        model.warehouse.refresh(as_of=FIRST)

        assert 39 == model.warehouse.read(text('SELECT count(*) FROM "main"."landed_here"'))[0][0]
        assert 3 == model.warehouse.counts()["agent_execution"]


def test_a_closed_file_is_free(tmp_path: Path, items: list[dict[str, Any]]) -> None:
    """After `close` the file can be opened again, and what was refreshed is there."""
    url = f"duckdb:///{tmp_path / 'history.duckdb'}"
    for _ in range(2):
        with Warehouse.open(url) as warehouse:
            warehouse.create()
            warehouse.land(items, at=AT)
            warehouse.refresh(as_of=FIRST)

            assert 3 == warehouse.counts()["agent_execution"]


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("no url", {}, "the warehouse URL is not a URL"),
        ("mysql://u:secret@h/d", {}, "names neither DuckDB nor Redshift: give duckdb:///file"),
        ("duckdb://", {"memory_limit": "much"}, "memory_limit is 'much', which is not an amount of memory"),
        ("duckdb://", {"landed_table": "a; drop table b"}, "is not a table name"),
        ("duckdb://", {"half_life_days": 0}, "half_life_days is 0; it must be"),
        ("duckdb://", {"overlap": timedelta(hours=-1)}, "overlap is -1 day, 23:00:00; it must not be"),
    ],
)
def test_wrong_settings_are_named(url: str, options: dict[str, Any], message: str) -> None:
    """A setting the warehouse cannot work with is refused in one line that names it and hides passwords."""
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        Warehouse.open(url, **options)

    assert "secret" not in str(caught.value)


def test_bad_landings_are_named(warehouse: Warehouse) -> None:
    """A naive time and an item without keys are refused, and nothing lands."""
    with pytest.raises(ValidationError, match=r"at \(.*\) must have a time zone"):
        warehouse.land([], at=datetime(2025, 6, 14))  # noqa: DTZ001 -- the mistake under test
    with pytest.raises(ValidationError, match=r"item \(.*DynamoDB JSON"):
        warehouse.land([{"PK": "USR001"}], at=AT)

    assert 39 == warehouse.counts()["landed"]


def test_tables_that_were_not_created_are_named() -> None:
    """Refreshing before `create` says that it is missing."""
    with Warehouse.open("duckdb://") as warehouse, pytest.raises(WarehouseUnavailable, match=r"call create\(\) first"):
        warehouse.refresh(as_of=FIRST)
