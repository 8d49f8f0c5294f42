"""Of several that would do the same work at once one does it, and the others wait or say who does."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentmodel import Agent, AgentModel, Settings
from agentmodel._demo.world import catalogue as demo_catalogue
from agentmodel._demo.world import seed
from agentmodel._runtime.lease import Lease
from agentmodel.cli import main
from agentmodel.cli._doctor import check_items
from agentmodel.exceptions import LeaseHeld, TableUnavailable, ValidationError, WarehouseUnavailable
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_histories import START, Change, Feed, corrected, history, told
from tests.integration.redshift_oracle import expected, held
from tests.integration.standing import never_renewed, stopped
from tests.integration.suggest_world import TODAY, catalogue, counted, learn, opened, run, writes

DAY = date(2025, 6, 14)


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


# -- refreshes in one process -----------------------------------------------------------------------------------------


def counts(model: AgentModel) -> tuple[int, int, int]:
    """Landed rows of calls, calls, and executions as counted in the scores."""
    landed = 'SELECT count(*) FROM "AgentTable" WHERE "SK" LIKE \'PRC%#%\''
    queries = (landed, "SELECT count(*) FROM user_tool_mapping_hist",
               "SELECT coalesce(sum(total_executions), 0) FROM agent_score_summary")  # fmt: skip
    found = [int(model.warehouse.read(text(query))[0][0]) for query in queries]
    return found[0], found[1], found[2]


def test_refreshes_by_threads_count_each_call_once(model: AgentModel) -> None:
    """Whatever threads refresh at once, first or later, every call is landed and counted once."""
    for total in (5, 10):
        for _ in range(5):
            run(model, tools=[1])
        model.drain()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: model.refresh(as_of=TODAY), range(4)))

        assert (total, total, total) == counts(model)


def test_models_of_one_file_exclude_each_other(model: AgentModel, settings: Settings) -> None:
    """Two models of one process on one DuckDB file are two refreshers."""
    run(model, tools=[1])
    model.drain()
    with AgentModel(settings) as other, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.refresh(as_of=TODAY), (model, other)))

        assert (1, 1, 1) == counts(model)


def test_who_does_not_wait_is_told_who_works(model: AgentModel) -> None:
    """With ``wait=0`` the second refresh raises at once, and names the other, its lease and since when it works."""
    begun = datetime.now(UTC) - timedelta(seconds=1)
    with (
        stopped(lambda stand: model.refresh(as_of=TODAY, progress=stand)),
        pytest.raises(
            LeaseHeld, match=r"refresh \(process \d+ on .*\) has held the lease `refresh` since 20"
        ) as caught,
    ):
        model.refresh(as_of=TODAY, wait=0)

    assert ("refresh", "AM-307") == (caught.value.lease, caught.value.code)
    assert caught.value.since is not None
    assert begun < caught.value.since < datetime.now(UTC)
    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301  # our own


def test_who_waits_works_afterwards(model: AgentModel) -> None:
    """A refresh that waits begins when the other has ended, and counts what that one did not see."""
    with ThreadPoolExecutor(1) as pool:
        with stopped(lambda stand: model.refresh(as_of=TODAY, progress=stand), "commit") as first:
            run(model, tools=[1])
            model.drain()
            second = pool.submit(model.refresh, as_of=TODAY)
        first.result()
        second.result()

    assert (1, 1, 1) == counts(model)


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "10", True, None])
def test_a_wait_that_is_none_is_refused(model: AgentModel, wait: Any) -> None:
    """``wait`` is a number of seconds from 0 up, wherever it is given."""
    works: list[Callable[..., Any]] = [model.refresh, model.import_traces]
    for work in works:
        with pytest.raises(ValidationError, match=r"wait .* must be a number of seconds from 0 up"):
            work(wait=wait)


def test_landings_by_threads_land_each_item_once() -> None:
    """Items that are landed by several threads at once are unique by key."""
    items = history(1, 30)
    with Warehouse.open("duckdb://") as warehouse:
        warehouse.create()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: warehouse.land(items, at=START), range(4)))

        rows = warehouse.read(text('SELECT "PK", "SK" FROM "AgentTable"'))
        assert len(items) == len(rows) == len(set(rows))


# -- holders that stand still, fail or die -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["find items", "commit"])
def test_a_refresh_that_stood_still_commits_nothing(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A holder that stood still until another took its lease changes nothing, wherever it stood, and says so."""
    feed = told()
    with Warehouse.open("duckdb://", threads=1) as warehouse, ThreadPoolExecutor(1) as pool:
        warehouse.create()
        feed.show(warehouse)
        with ExitStack() as standing:
            with never_renewed(monkeypatch):
                work = stopped(lambda stand: warehouse.refresh(as_of=DAY + timedelta(1), progress=stand), at)
                late = standing.enter_context(work)
            overtaking = pool.submit(warehouse.refresh, as_of=DAY)
            while _tokens(warehouse) == [1]:
                Event().wait(0.01)
        with pytest.raises(LeaseHeld, match=r"lost the lease `refresh` to refresh \(process"):
            late.result()
        overtaking.result()

        assert expected(feed.present(), DAY) == held(warehouse)


def _tokens(warehouse: Warehouse) -> list[int]:
    return [row.token for row in warehouse.read(text("SELECT token FROM warehouse_lease"))]


def test_tokens_grow(model: AgentModel) -> None:
    """Each holder of a lease has a greater token than the one before; in the table a lease leaves no item."""
    before = list(model.table.scan())
    works: list[Callable[[], AbstractContextManager[Lease]]] = [
        model.warehouse.lease,
        lambda: model.table.lease(doing="seed"),
    ]
    for work in works:
        found = []
        for _ in range(3):
            with work() as lease:
                found.append(lease.token)

        assert sorted(set(found)) == found
    assert before == list(model.table.scan())


def test_a_lease_that_cannot_be_released_does_not_stop_its_own_process(model: AgentModel) -> None:
    """Where the store fails while work ends, the same process may go on as soon as the store answers again."""
    original = model.table.call

    def failing(operation: str, **request: Any) -> dict[str, Any]:
        raise TableUnavailable("no answer")

    with model.table.lease(doing="import") as lease:
        model.table.call = failing  # type: ignore[method-assign]  # the table is away
    model.table.call = original  # type: ignore[method-assign]  # and back
    with model.table.lease(doing="import", wait=0) as again:
        assert lease.token < again.token


HOLDER = """
import json
import sys
from agentmodel import AgentModel, Settings
from agentmodel._runtime import lease
lease.SECONDS = float(sys.argv[2])
model = AgentModel(Settings.load(valkey_url=None, **json.loads(sys.argv[1])))
with model.table.lease(sys.argv[3], doing=sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(settings: Settings, name: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lease of the table."""
    given = {"table": settings.table, "endpoint": settings.endpoint, "access_key_id": "test",
             "secret_access_key": "test"}  # fmt: skip
    arguments = [sys.executable, "-c", HOLDER, json.dumps(given), str(seconds), name]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "held\n" == process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_the_lease_of_a_killed_process_ends_by_itself(model: AgentModel, settings: Settings) -> None:
    """While another process works it is named; after it was killed, its lease is waited for and taken."""
    with holder(settings, "catalogue", 2.0) as process:
        with pytest.raises(LeaseHeld, match=rf"catalogue \(process {process.pid} on"):
            seed(model, wait=0)
        process.kill()
        process.wait()
        made = seed(model, wait=30)

    assert made["Tool"] > 0


# -- publish, seed, import and repair ----------------------------------------------------------------------------------


@pytest.mark.parametrize("work", ["import", "otlp", "seed", "check --fix"])
def test_one_at_a_time_changes_the_catalogue(  # noqa: PLR0917  # fixtures
    model: AgentModel, settings: Settings, tmp_path: Path, work: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """While one changes the catalogue, seed, import and check --fix say on one line who does, and change nothing."""
    file = tmp_path / "calls.jsonl"
    file.write_text("")
    commands = {"import": ["import", str(file)], "otlp": ["import", "--otlp", str(file)], "seed": ["seed"],
                "check --fix": ["check", "--fix"]}  # fmt: skip
    for name in ("table", "endpoint", "valkey_url", "warehouse_url", "dynamodb_timeout", "valkey_timeout"):
        monkeypatch.setenv(f"AGENTMODEL_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("AGENTMODEL_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AGENTMODEL_SECRET_ACCESS_KEY", "test")
    with holder(settings, "catalogue", 30.0) as process:
        code = main(["--dir", str(tmp_path), *commands[work], "--wait", "0"])
        printed = capsys.readouterr().err.splitlines()

    assert 1 == code
    assert 1 == len(printed)
    assert f"catalogue (process {process.pid} on" in printed[0]
    assert printed[0].startswith("error: ")
    assert printed[0].endswith("(AM-307)")


def test_two_seeds_at_once_keep_scores(model: AgentModel) -> None:
    """An agent that got its score between two seeds keeps it."""
    seed(model)
    agent = next(entity for entity in demo_catalogue() if isinstance(entity, Agent))
    stored = model.table.get(Agent.at(agent.agent_id))
    assert stored is not None
    stored.score = 7.0
    model.repository.put(stored)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: seed(model), range(3)))
    again = model.table.get(Agent.at(agent.agent_id), consistent=True)

    assert not any(made)
    assert again is not None
    assert 7.0 == again.score


def test_a_publish_says_who_publishes(model: AgentModel, settings: Settings) -> None:
    """A publish that has something to write waits for another one, or says who it is; nothing is written."""
    run(model)
    learn(model)
    with holder(settings, "publish", 8.0) as process, counted(model.table) as calls:
        with pytest.raises(LeaseHeld, match=rf"publish was not begun: publish \(process {process.pid} on"):
            model.publish(as_of=TODAY, wait=0)
        assert 0 == calls["PutItem"]
    published = model.publish(as_of=TODAY, wait=60)

    assert (2, 1) == (published.agents, published.mappings)


def test_publishes_at_once_leave_what_one_would(model: AgentModel) -> None:
    """Threads that publish at once write each item once, and leave no lease behind."""
    run(model)
    learn(model)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: model.publish(as_of=TODAY), range(3)))
    with counted(model.table) as calls:
        model.publish(as_of=TODAY, wait=0)

    assert (2, 1) == (sum(each.agents for each in done), sum(each.mappings for each in done))
    assert 0 == writes(calls)


def test_a_publish_reads_one_state(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh that commits while a publish reads is published by the next publish, never half of it by this one."""
    from agentmodel.redshift import reports

    run(model)
    learn(model)
    original = reports.recommended_patterns

    def committed_first(warehouse: Warehouse, **options: Any) -> Any:
        monkeypatch.setattr(reports, "recommended_patterns", original)
        run(model)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(learn, model).result()
        return original(warehouse, **options)

    monkeypatch.setattr(reports, "recommended_patterns", committed_first)
    model.publish(as_of=TODAY)
    early = model.repository.mapping("USR001", "cafe search"), model.table.get(Agent.at("AGT001"), consistent=True)
    model.publish(as_of=TODAY)
    late = model.repository.mapping("USR001", "cafe search"), model.table.get(Agent.at("AGT001"), consistent=True)

    assert (1, 1) == tuple(each and each.executions for each in early)
    assert (2, 2) == tuple(each and each.executions for each in late)


def test_a_check_finds_nothing_wrong_with_leases(model: AgentModel) -> None:
    """The items of leases are known to `agentmodel check`."""
    with model.table.lease(doing="seed"):
        assert [] == list(check_items(model.table))


# -- a full build heals, and any number of refreshers give the oracle's tables -----------------------------------------


def test_a_full_build_heals_doubled_rows() -> None:
    """Rows that were doubled anyhow, landed ones too, are counted once after a full build."""
    feed = told()
    with Warehouse.open("duckdb://", threads=1) as warehouse:
        warehouse.create()
        feed.show(warehouse)
        warehouse.refresh(as_of=DAY)
        corrected(feed)
        feed.show(warehouse)
        with warehouse.begin() as connection:
            for table in ("AgentTable", "user_tool_mapping_hist", "agent_execution", "agent_tool", "agent_daily"):
                connection.execute(text(f'INSERT INTO "{table}" SELECT * FROM "{table}"'))  # fixed names
        warehouse.refresh(as_of=DAY, full=True)

        assert expected(feed.present(), DAY) == held(warehouse)


@hypothesis_settings(max_examples=4)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(2, 4), st.booleans())
def test_any_refreshers_give_the_oracles_tables(seeds: list[int], refreshers: int, full: bool) -> None:
    """However many refresh at once, over a history in any parts, every table is the oracle's afterwards."""
    feed = Feed()
    with Warehouse.open("duckdb://", threads=1) as warehouse, ThreadPoolExecutor(refreshers) as pool:
        warehouse.create()
        for number in seeds:
            for item in history(number, 5):
                feed.write(Change(item, gone=False, wait=0, lag=0))
            feed.now += timedelta(minutes=1)
            feed.show(warehouse)
            fulls = [full and not refresher for refresher in range(refreshers)]
            list(pool.map(lambda whole: warehouse.refresh(as_of=DAY, full=whole), fulls))

        assert expected(feed.present(), DAY) == held(warehouse)


def test_another_process_with_the_file_is_named(tmp_path: Path) -> None:
    """A DuckDB file belongs to one process; another is told which one has it."""
    file = tmp_path / "w.duckdb"
    script = f"import duckdb, sys; c = duckdb.connect({str(file)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "open\n" == process.stdout.readline()
        with pytest.raises(WarehouseUnavailable, match=rf"process {process.pid} \(.*\) has {file} open: stop it"):
            Warehouse.open(f"duckdb:///{file}")
        process.kill()
