"""The hand-written build, with which the benchmark compares ours, does the same work: every table, row by row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentmodel.redshift import models as m
from agentmodel.redshift.warehouse import Warehouse

pytest.importorskip("benchmarks.warehouse", reason="another package has the name of our benchmarks")

from benchmarks.warehouse import build_both, handwritten, same
from tests.integration.redshift_histories import Change, Feed, corrected, history
from tests.integration.redshift_oracle import Item, compared

BUILT = {*compared(), m.RefreshWatermark.__tablename__} - {m.AgentToolAnalysisStaging.__tablename__}
"""The tables that a build fills; the staging rows are a view, and no SQL derives categories."""


def typed(item: Item) -> Item:
    """An item whose texts fit their columns, and that says nothing which a category could be derived from."""
    kept = {name: value for name, value in item.items() if name not in ("UserRequest", "UserPrompt")}
    return {name: {"S": value["S"][:200]} if "S" in value else value for name, value in kept.items()}


def answered(item: Item) -> Item:
    """A call as one that the cache answered, where it has no status and no time."""
    return item if {"Status", "TransactDT"} & item.keys() else item | {"Status": {"S": "cache_hit"}}


def landed() -> Feed:
    """Everything that a history has: corrections, deletions, outcomes, revisions, plans, answers from the cache."""
    feed = Feed()
    for item in history(1, 160):
        is_call = item["EntityType"]["S"] == "UserSessPrcToolMappHist"
        feed.write(Change(answered(item) if is_call else item, gone=False, wait=0, lag=0))
    for number in range(5):
        plan = {"PK": {"S": f"USR{number}#SUGGEST"}, "SK": {"S": f"{number:020d}"}, "EntityType": {"S": "Suggestion"},
                "UserSessionID": {"S": "SESS1"}, "WithheldYN": {"S": "Y"}, "HoldoutShare": {"N": "0.25"}}  # fmt: skip
        feed.write(Change(plan, gone=False, wait=0, lag=0))
    corrected(feed)
    for versions in feed.versions.values():
        for version in versions:
            version.item = typed(version.item)
    return feed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of both builds."""
    folder = tmp_path_factory.mktemp("handwritten")
    with Warehouse.open(f"duckdb:///{folder / 'landed.duckdb'}") as warehouse:
        warehouse.create()
        landed().show(warehouse)
    build_both(folder, "1GB")
    return folder


def test_it_builds_every_table_alike(folder: Path) -> None:
    """From a history with everything in it, both builds give the same rows of every table, and some of each."""
    rows = same(folder)

    assert BUILT == rows.keys()
    assert all(rows.values()), rows


def test_a_difference_is_found(folder: Path, tmp_path: Path) -> None:
    """The comparison is no formality: one row more on one side ends it."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with Warehouse.open(f"duckdb:///{tmp_path / 'ours.duckdb'}") as warehouse, warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO agent_daily SELECT * FROM agent_daily LIMIT 1")

    with pytest.raises(SystemExit, match="agent_daily differs"):
        same(tmp_path)


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the documentation, with few calls: it ends with how many rows are the same."""
    handwritten(600, tmp_path, "1GB", 1)

    assert f"rows of {len(BUILT)} tables are the same" in capsys.readouterr().out
