"""Any history, cut into any batches, gives what a plain-Python reading of it gives.

The oracle knows no SQL and no increments: it reads the whole history anew each time. `Feed` plays DynamoDB zero-ETL with
history mode: versions of items that become visible late, and in another order than they were written.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from agentmodel._redaction import Redaction
from agentmodel.access._receipt import Receipt
from agentmodel.access.pagination import Page
from agentmodel.access.trace_import import TraceImport
from agentmodel.dynamo.models import UserSession
from agentmodel.exceptions import ConfigurationError, WarehouseUnavailable
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift._table_layout import is_view
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_histories import START, Change, Feed, corrected, told
from tests.integration.redshift_oracle import CALL, Item, compared, expected, held

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TRACES, SAMPLE = SHARED / "traces", SHARED / "aws_sample_items.jsonl"


# -- what the warehouse holds -----------------------------------------------------------------------------------------


def stored(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the warehouse, its rows sorted; the watermark aside, which says how far the feed was seen."""
    tables = {name: table for name, table in compared().items() if not is_view(table)}
    return {name: sorted(map(rounded, warehouse.read(select(table))), key=repr) for name, table in tables.items()}


def rounded(row: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(f"{value:.9g}" if isinstance(value, float) else value for value in row)


def check(warehouse: Warehouse, items: dict[tuple[str, str], Item], as_of: date) -> None:
    """Compare every table with the oracle's, row by row."""
    assert expected(items, as_of) == held(warehouse)


# -- histories --------------------------------------------------------------------------------------------------------

USERS = ["USR001", "USR002", "USR김"]
SESSIONS = ["SESS1", "SESS2"]
AGENTS = ["AGT001", "AGT002", "AGT003"]
TIMES = [
    None, "20250614140605", "2025061414060512", "20250614140605000001", "20250612090000", "20250520235959",
    "20250630000000", "20250230101010", "2025", "", "20259999999999",
]  # fmt: skip


def texts(*values: str | None) -> st.SearchStrategy[str | None]:
    return st.sampled_from(values)


def attributes(**drawn: str | None) -> Item:
    """Attributes that are not None, numbers (names ending in #) under N."""
    return {
        name.removesuffix("_N"): {"N" if name.endswith("_N") else "S": value}
        for name, value in drawn.items()
        if value is not None
    }


@st.composite
def agents(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": draw(st.sampled_from(AGENTS[:2]))},
        "SK": {"S": "METADATA"},
        "EntityType": {"S": "Agent"},
        **attributes(
            GSI1_PK=draw(texts("DMN001", "DMN002", "DMN001")),
            AgentNM=draw(texts("검색", None)),
            Score=draw(texts("60", "x")),
        ),
    }


@st.composite
def sessions(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": draw(st.sampled_from(USERS))},
        "SK": {"S": draw(st.sampled_from(SESSIONS))},
        "EntityType": {"S": "UserSession"},
        **attributes(
            SessionSuccYN=draw(texts(None, None, "Y", "N", "")),
            ReviewedSuccYN=draw(texts(None, None, None, "Y", "N")),
            Category=draw(texts(None, None, "카페#1", "cafe", "~cafe", "")),
            UserRequest=draw(texts(None, "가까운 카페 찾아줘", "cancel my order", "?!", "")),
            ExpiresAt_N=draw(texts(None, str(int(START.timestamp()) + 3600))),
            TTLDays_N=draw(texts(None, "60", "2.5")),
        ),
    }


@st.composite
def outcomes(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": f"{draw(st.sampled_from(USERS))}#{draw(st.sampled_from(SESSIONS))}"},
        "SK": {"S": f"REVIEW#{draw(texts('outcome-1', 'outcome-2', 'asked'))}"},
        "EntityType": {"S": "Review"},
        **attributes(
            OutcomeSource=draw(texts("person", "event", "event", "evaluator", "evaluator", "oracle", None)),
            OutcomeYN=draw(texts("Y", "N", "N", None)),
            OutcomeScore_N=draw(texts(None, "0.25", "x")),
            AgentID=draw(texts(None, None, "", *AGENTS[:2])),
            DecidedBy=draw(texts(None, "환불")),
            DecidedDT=draw(texts(*TIMES)),
        ),
    }


@st.composite
def processes(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": f"{draw(st.sampled_from(USERS))}#{draw(st.sampled_from(SESSIONS))}"},
        "SK": {"S": draw(texts("PRC001", "PRC002"))},
        "EntityType": {"S": "UserSessionProcess"},
        **attributes(UserPrompt=draw(texts(None, "가까운 카페 찾아줘", "book a flight", ""))),
    }


@st.composite
def calls(draw: st.DrawFn) -> Item:
    process, tool = draw(texts("PRC001", "PRC002")), draw(texts("TL001", "TL002"))
    attempt = draw(st.sampled_from(["", "", "#002", "#003", "#A1000"]))
    return {
        "PK": {"S": f"{draw(st.sampled_from(USERS))}#{draw(st.sampled_from(SESSIONS))}"},
        "SK": {"S": f"{process}#{draw(st.sampled_from(AGENTS))}#{tool}{attempt}"},
        "EntityType": {"S": "UserSessPrcToolMappHist"},
        **attributes(
            ToolNM=draw(texts("FIND", "찾기->", "", None)),
            TransactDT=draw(texts(*TIMES)),
            SuccYN=draw(texts("Y", "Y", "Y", "N", None)),
            Status=draw(texts(None, None, None, "ok", "error", "rejected", "cache_hit", "")),
            CallNo_N=draw(texts(None, "1", "2", "10", "2.5", "999999999999999999", "9999999999999999999")),
            DurationMs_N=draw(texts(None, "1500", "0.5")),
            InputTokens_N=draw(texts(None, "120", "0.5")),
            OutputTokens_N=draw(texts(None, "7")),
            AgentVer=draw(texts(None, None, "", "v1", "v2", "v2", "판 3")),
            ExpiresAt_N=draw(texts(None, "1", str(int(START.timestamp()) + 3600))),
        ),
    }


changes = st.builds(
    Change,
    item=st.one_of(
        calls(), calls(), calls(), calls(), sessions(), sessions(), outcomes(), outcomes(), processes(), agents()
    ),
    gone=st.sampled_from([False, False, False, True]),
    wait=st.integers(1, 40),
    lag=st.integers(0, 50),
    marked=st.sampled_from([None, None, 0, 25, 50]),
)
batches = st.lists(st.lists(changes, max_size=12), min_size=1, max_size=4)
days = st.sampled_from([date(2025, 6, 14), date(2025, 6, 13), date(2025, 6, 24), date(2025, 7, 20)])


def opened() -> Warehouse:
    warehouse = Warehouse.open("duckdb://", threads=1)
    warehouse.create()
    return warehouse


class TestAnyBatches:
    """A history cut into any batches equals one full build."""

    @settings(max_examples=12)
    @given(batches, st.lists(days, min_size=4, max_size=4))
    def test_every_refresh_equals_the_oracle(self, history: list[list[Change]], as_of: list[date]) -> None:
        """After every refresh the tables are what the items shown so far say; a full build then changes nothing."""
        feed = Feed()
        with opened() as warehouse:
            for batch, day in zip(history, as_of, strict=False):
                for change in batch:
                    feed.write(change)
                feed.show(warehouse)
                warehouse.refresh(as_of=day)

                check(warehouse, feed.present(), day)
            feed.now += timedelta(hours=1)
            feed.show(warehouse)
            warehouse.refresh(as_of=as_of[0])
            incremental = stored(warehouse)
            warehouse.refresh(as_of=as_of[0], full=True)

            check(warehouse, feed.present(), as_of[0])
            assert incremental == stored(warehouse)

    @settings(max_examples=4)
    @given(batches, days)
    def test_a_second_run_changes_nothing(self, history: list[list[Change]], day: date) -> None:
        """Whatever a refresh reads again it counts once."""
        feed = Feed()
        with opened() as warehouse:
            for batch in history:
                for change in batch:
                    feed.write(change)
                feed.show(warehouse)
                warehouse.refresh(as_of=day)
            before = stored(warehouse)
            warehouse.refresh(as_of=day)

            assert before == stored(warehouse)


class TestWithoutHistoryMode:
    """Zero-ETL without history mode shows what is there now, and nothing of what is gone."""

    @settings(max_examples=6)
    @given(batches, days)
    def test_what_was_seen_stays(self, history: list[list[Change]], day: date) -> None:
        """Every table is what the newest version of each item ever shown says; a second run changes nothing."""
        feed = Feed()
        seen: dict[tuple[str, str], Item] = {}
        with Warehouse.open("duckdb://", threads=1) as warehouse:
            warehouse._landed = m.landed_table("AgentTable", history=False)
            warehouse.create()
            for batch in history:
                for change in batch:
                    feed.write(change)
                seen |= {(row["pk"], row["sk"]): json.loads(row["item"]) for row in feed.rows() if row["active"]}
                feed.show(warehouse, with_history=False)
                warehouse.refresh(as_of=day)
                check(warehouse, seen, day)
            before = stored(warehouse)
            warehouse.refresh(as_of=day)

            assert before == stored(warehouse)

    def test_a_full_build_is_refused(self) -> None:
        """It would forget what TTL deleted."""
        with Warehouse.open("duckdb://", threads=1) as warehouse:
            warehouse._landed = m.landed_table("AgentTable", history=False)
            warehouse.create()
            with pytest.raises(ConfigurationError, match="needs zero-ETL's history mode"):
                warehouse.refresh(as_of=date(2025, 6, 14), full=True)


class _Killed(Exception):
    pass


class TestInterruption:
    """A refresh is one transaction."""

    @settings(max_examples=5)
    @given(st.lists(changes, min_size=3, max_size=12), st.lists(changes, min_size=1, max_size=8), st.integers(0, 60))
    def test_a_kill_between_statements_is_mended(self, early: list[Change], late: list[Change], after: int) -> None:
        """A refresh that dies after any statement changes nothing, and the next one does its work."""
        feed, day = Feed(), date(2025, 6, 24)

        def kill(_name: str, done: int, _total: int) -> None:
            if done > after:
                raise _Killed

        with opened() as warehouse:
            for change in early:
                feed.write(change)
            feed.show(warehouse)
            warehouse.refresh(as_of=day)
            before = stored(warehouse)
            for change in late:
                feed.write(change)
            feed.now += timedelta(hours=1)
            feed.show(warehouse)
            try:
                warehouse.refresh(as_of=day, progress=kill)
            except _Killed:
                assert before == stored(warehouse)
            warehouse.refresh(as_of=day)

            check(warehouse, feed.present(), day)

    @pytest.mark.parametrize("full", [False, True], ids=["brought up to date", "built anew"])
    def test_a_kill_between_any_two_statements_is_mended(self, tmp_path: Path, *, full: bool) -> None:
        """What is on the disk between any two statements, as a killed process leaves it, opens as it was before."""
        path, feed, day = tmp_path / "live.duckdb", told(), date(2025, 6, 14)
        left: dict[str, Path] = {}
        steps = []

        def keep(name: str, _done: int, _total: int) -> None:
            """Keep a copy of the files, unless they are those of an earlier statement."""
            files = [file for file in (path, path.with_name(f"{path.name}.wal")) if file.exists()]
            digest = "".join(sha256(file.read_bytes()).hexdigest() for file in files)
            steps.append(name)
            if digest not in left:
                left[digest] = tmp_path / str(len(left))
                left[digest].mkdir()
                for file in files:
                    shutil.copy(file, left[digest])

        with Warehouse.open(f"duckdb:///{path}", threads=1) as warehouse:
            warehouse.create()
            feed.show(warehouse)
            warehouse.refresh(as_of=day)
            before = stored(warehouse)
            corrected(feed)
            feed.show(warehouse)
            warehouse.refresh(as_of=day, progress=keep, full=full)
            after = stored(warehouse)

        assert before != after
        assert len(steps) > 40
        for folder in left.values():
            with Warehouse.open(f"duckdb:///{folder / path.name}", threads=1) as killed:
                assert before == stored(killed)
                killed.refresh(as_of=day)
                assert after == stored(killed)

    def test_a_failing_statement_rolls_everything_back(self) -> None:
        """A statement that the engine refuses leaves the warehouse as it was, and says so in one line."""
        with opened() as warehouse:
            warehouse.refresh(as_of=date(2025, 6, 14))
            before = stored(warehouse)
            with warehouse.begin() as connection:
                connection.execute(text("DROP TABLE agent_tool"))
            with pytest.raises(WarehouseUnavailable, match="agent_tool"):
                warehouse.refresh(as_of=date(2025, 6, 14))
            warehouse.create()

            assert before == stored(warehouse)


class TestOrder:
    """No order changes merely because days pass."""

    @settings(max_examples=6)
    @given(st.lists(calls(), min_size=1, max_size=20), st.lists(agents(), min_size=1, max_size=3), st.integers(1, 4000))
    def test_days_change_no_order(self, history: list[Item], known: list[Item], later: int) -> None:
        """Ranks and recommendations are the same on any day from the newest one on."""
        newest = date(2025, 6, 30)
        with opened() as warehouse:
            warehouse.land([*history, *known], at=START)
            warehouse.refresh(as_of=newest)
            then = newest + timedelta(days=later)

            def ranks(day: date) -> list[tuple[str, int]]:
                return [(row.agent_id, row.rank) for row in reports.agent_ranking(warehouse, as_of=day)]

            def good(day: date) -> list[tuple[str, str]]:
                patterns = reports.recommended_patterns(warehouse, as_of=day)
                return [(row.user_id, row.tool_sequence) for row in patterns]

            before = ranks(newest), good(newest)
            assert before == (ranks(then), good(then))
            warehouse.refresh(as_of=then)
            assert before == (ranks(then), good(then))

    @settings(max_examples=6)
    @given(st.lists(calls(), min_size=1, max_size=20), st.lists(agents(), min_size=1, max_size=3), days, days)
    def test_a_report_of_any_day_equals_a_refresh_of_that_day(
        self, history: list[Item], known: list[Item], refreshed: date, asked: date
    ) -> None:
        """What is read for a day is what a refresh for that day stores."""
        with opened() as warehouse:
            warehouse.land([*history, *known], at=START)
            warehouse.refresh(as_of=refreshed)
            read = reports.agent_ranking(warehouse, as_of=asked)
            warehouse.refresh(as_of=asked)
            a = m.AgentScoreSummary
            columns = (a.agent_id, a.calculated_score, a.evidence, a.domain_rate, a.days_since)

            assert sorted(
                rounded((r.agent_id, r.score, r.evidence, r.domain_rate, r.days_since)) for r in read
            ) == sorted(map(rounded, warehouse.read(select(*columns))))


# -- real runs --------------------------------------------------------------------------------------------------------


class Nothing:
    """Table, reads and recorder of an import into nothing: no item is there, and what is written is kept as items."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.redaction = Redaction(None)

    def sessions(self, _user_id: str, **_options: Any) -> Page[UserSession]:
        return Page(())

    def open(self, _session: UserSession, *, new: bool) -> None:
        """Sessions need no opening here."""

    def put_missing(self, _owner: str, entities: Iterable[Any]) -> list[Any]:
        missing = list(entities)
        self.put(*missing)
        return missing

    def put(self, *entities: Any) -> None:
        for entity in entities:
            item = entity.to_item()
            self.items[item["PK"]["S"], item["SK"]["S"]] = item

    def record_many(self, entities: Sequence[Any]) -> list[Receipt[Any]]:
        self.put(*entities)
        return [Receipt("dynamodb", entity) for entity in entities]


def imported(path: Path) -> dict[tuple[str, str], Item]:
    """The items that importing a trace file writes."""
    nothing: Any = Nothing()
    TraceImport(nothing, recorder=nothing).run([path])
    items: dict[tuple[str, str], Item] = nothing.items
    return items


@pytest.mark.parametrize("domain", ["retail", "airline", "telecom", "medical_fhir"])
def test_real_runs(domain: str) -> None:
    """On real agents' runs, some of them without times, every table is the oracle's."""
    path = TRACES / f"{domain}.jsonl.gz"
    if not path.exists():
        pytest.skip("the trace files are not beside this checkout")
    items, day = imported(path), date(2026, 1, 1)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == sum(item["EntityType"]["S"] == CALL for item in items.values())
    with opened() as warehouse:
        half = dict(list(items.items())[: len(items) // 2])
        for at, present in enumerate((half, items)):
            warehouse.land(present.values(), at=START + timedelta(hours=at))
            warehouse.refresh(as_of=day)
            check(warehouse, present, day)


def test_the_samples_items() -> None:
    """On the AWS sample's items, on their day and later, every table is the oracle's."""
    if not SAMPLE.exists():
        pytest.skip("the AWS sample's items are not beside this checkout")
    found: list[Item] = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    items = {(item["PK"]["S"], item["SK"]["S"]): item for item in found}
    with opened() as warehouse:
        warehouse.land(items.values(), at=START)
        for day in (date(2025, 6, 14), date(2025, 6, 24)):
            warehouse.refresh(as_of=day)
            check(warehouse, items, day)
