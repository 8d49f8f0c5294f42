"""Erase a person: everything of the user leaves every store, while others record, drain and read."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import redis

from agentmodel import Agent, AgentModel, Domain, Review, Tool, User, erasure
from agentmodel._erasure_marks import ErasureMarks, delete_unless_newer, session_key, user_key
from agentmodel.access._journal_sink import HistorySink
from agentmodel.aio import AsyncAgentModel
from agentmodel.cache import Entry, UserCache, Valkey
from agentmodel.cli import main
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity, Item
from agentmodel.dynamo.models import Suggestion
from agentmodel.erasure import Erasure
from agentmodel.exceptions import ValidationError
from agentmodel.redshift._feeds import FeedBatch, FeedItem
from agentmodel.redshift._refresh_sql import OF_USERS
from agentmodel.redshift.session_list import active_users
from agentmodel.redshift.warehouse import Warehouse
from agentmodel.suggest._routing_store import RoutingStore

SECRET = "zzsecretzz"
"""Is in every text of the erased user."""

MINA, OTHER = "USRmina", "USRmin"
"""The user who is erased, and one whose id is the beginning of hers."""

PATIENT: Any = {"valkey_timeout": 60.0, "valkey_connect_timeout": 10.0, "dynamodb_timeout": 60.0}
"""However busy the machine is, no store counts as away."""

STEPS = ("mark", "journal", "warehouse", "table", "caches", "files")


@contextlib.contextmanager
def local(folder: Path) -> Iterator[AgentModel]:
    """A model on embedded engines that keep their files. All users share one journal, whose bytes are not compressed."""
    with AgentModel.local(folder, shards=1, **PATIENT) as model:
        with valkey(model) as client:
            client.config_set("rdbcompression", "no")
        yield model


@pytest.fixture
def model(tmp_path: Path) -> Iterator[AgentModel]:
    """An empty one."""
    with local(tmp_path / "stack") as model:
        yield model


@pytest.fixture(scope="module")
def learnt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one in which two users worked, which was learned from."""
    folder = tmp_path_factory.mktemp("learnt") / "stack"
    with local(folder) as model:
        catalogue(model)
        for user, text in ((MINA, SECRET), (OTHER, "plain")):
            work(model, user, text)
        learn(model)
    return folder


@pytest.fixture
def learnt(learnt_folder: Path, tmp_path: Path) -> Iterator[AgentModel]:
    """One in which two users worked, opened from a copy of its files: to work takes longer than most of the tests."""
    shutil.copytree(learnt_folder, tmp_path / "stack")
    with local(tmp_path / "stack") as model:
        yield model


@contextlib.contextmanager
def valkey(model: AgentModel) -> Iterator[Any]:
    """A plain client of the model's Valkey."""
    with plain_client(str(model.settings.valkey_url)) as client:
        yield client


@contextlib.contextmanager
def plain_client(url: str) -> Iterator[Any]:
    """A client of redis-py."""
    with closing(redis.Redis.from_url(url.replace("valkey:", "redis:", 1))) as client:
        yield client


def catalogue(model: AgentModel) -> None:
    model.repository.put(
        Domain(domain_id="DMN001", name="support"),
        Domain(domain_id="DMN002", name="sales"),  # so that requests are routed
        Agent(agent_id="AGT001", domain_id="DMN001", name="finder"),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search", read_only=True),
        Tool(agent_id="AGT001", tool_id="TL002", domain_id="DMN001", name="fetch", read_only=True),
        User(user_id=MINA, name=f"Mina {SECRET}", profile={"note": SECRET}),
        User(user_id=OTHER, name="Min"),
    )


def work(model: AgentModel, user: str, text: str, *, tool: str = "TL001") -> None:
    """Do everything that leaves a text of a user somewhere: plan, record, cache, ask, fail."""
    plan = model.suggest(user, category=f"category {text}", request=f"request {text}", domain_id="DMN001")
    for number in range(3):
        session_id = f"SESS{number}-{tool}-{text}"
        category = f"category {text}" if number < 2 else None
        with (
            model.session(
                user, f"request {number} {text}", category=category, plan=plan, session_id=session_id
            ) as session,
            session.process(f"process {text}", description=f"description {text}") as process,
        ):
            model.response_cache.call(process, "AGT001", tool, lambda: f"answer {text}", arguments={"near": text})
            with process.call("AGT001", "TL002", values={"near": text}) as call:
                if number:
                    call.result = f"result {text}"
                else:
                    call.fail(f"error {text}")
            session.succeed(f"summary {text}")
        model.reviews.ask(
            user, session_id, f"may it {text}?", agent_id="AGT001", tool_id=tool, arguments={"near": text}, reason=text
        )
        model.outcome(session_id, user_id=user, succeeded=True, by=f"by {text}", reason=f"reason {text}")
        model.repository.session_history(user, session_id)
    model.repository.user(user)
    list(model.repository.sessions(user))


def learn(model: AgentModel) -> None:
    model.drain()
    model.refresh()
    model.publish()
    model.refresh()


def dead_letter(model: AgentModel, user: str, text: str) -> None:
    """Make a record of a user a dead letter: the table never takes it."""
    assert model.journal is not None
    item: Item = {"PK": {"S": user}, "SK": {"S": "SESSdead"}, "SessionSummary": {"S": text}, "Version": {"N": "7"}}
    model.journal.append([Entry(user, {**item, "Wrong": {"N": "no number"}}, 7, immutable=False)])


def places(model: AgentModel, folder: Path | None, *needles: str) -> list[str]:
    """Where one of the texts is: in an item, a key of Valkey or its value, a row, or the bytes of a file."""
    found = [
        f"item {item['PK']} {item['SK']}" for item in model.table.scan() if any(one in str(item) for one in needles)
    ]
    with valkey(model) as client:
        for key in client.scan_iter(count=1000):
            data = key + (client.dump(key) or b"")
            found += [f"Valkey {key!r}"] * any(one.encode() in data for one in needles)
    log = model.repository.request_log
    shipped = "" if log is None else str([dict(changes.rows) for changes in log.read()])  # which are compressed
    found += ["requests in Valkey"] * any(one in shipped for one in needles)
    with model.warehouse.begin() as connection:
        driver = connection.connection.driver_connection.duckdb  # type: ignore[union-attr]  # it is DuckDB's
        for (table,) in driver.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            rows = str(driver.execute(f'SELECT * FROM "{table}"').fetchall())
            found += [f"warehouse {table}"] * any(one in rows for one in needles)
    for path in () if folder is None else folder.rglob("*"):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += [f"file {path.name}"] * any(one.encode() in data for one in needles)
    return found


def of_user(model: AgentModel, user: str) -> dict[tuple[str, str], Item]:
    """The items of a user by their keys."""
    own = (user, f"{user}#")
    return {
        (item["PK"]["S"], item["SK"]["S"]): item
        for item in model.table.scan()
        if item["PK"]["S"] == own[0] or item["PK"]["S"].startswith(own[1])
    }


def test_nothing_of_the_person_is_left_in_the_bytes_of_any_store(model: AgentModel, tmp_path: Path) -> None:
    """Erased in the middle of everything, no byte of the person is in a table, a key or a file, and others lose nothing."""
    catalogue(model)
    for user, text in ((MINA, SECRET), (OTHER, "plain")):
        work(model, user, text)
    learn(model)
    before = of_user(model, OTHER)
    assert model.repository.user_mappings(MINA)
    dead_letter(model, MINA, SECRET)
    model.drain()
    for user, text in ((MINA, SECRET), (OTHER, "plain")):
        work(model, user, text, tool="TL002")  # this lies in the journal, in copies and in the response cache
    stop = threading.Event()
    recorded: list[str] = []

    def record() -> None:
        while not stop.is_set():
            with model.session(OTHER, "more") as session, session.process("go on") as process:
                process.call("AGT001", "TL001").__enter__()
            recorded.append(session.session_id)

    with ThreadPoolExecutor(3) as pool:
        drained = pool.submit(model.drainer.run, stop)
        others = [pool.submit(record) for _ in range(2)]
        try:
            with model.session(MINA, f"open {SECRET}", session_id="SESSopen") as session:
                report = model.erase_user("mina")
                with session.process(f"later {SECRET}") as process, process.call("AGT001", "TL001") as call:
                    call.result = SECRET
        finally:
            stop.set()
        drained.result()
        for other in others:
            other.result()
    model.drain()
    again = model.erase_user(MINA)  # for the bytes of what the open session recorded
    model.close()

    assert {"valkey", "table", "warehouse"} == report.removed.keys()
    whose = {kind.kind for kind in Entity.__subclasses__() if kind.__module__ == "agentmodel.dynamo.models"}
    kinds = {*whose - {"Domain", "Agent", "Tool"}, "requests to route by"}
    assert kinds <= set(report.removed["table"])
    tables = {"landed", "agent_execution", "user_process_patterns", "derived_category"}
    assert tables | {rows.__tablename__ for rows in OF_USERS} <= set(report.removed["warehouse"])
    assert {"dead letters", "copies", "cached results"} <= set(report.removed["valkey"])
    assert {} == again.removed["table"]
    with AgentModel.local(tmp_path / "stack", shards=1, **PATIENT) as opened:
        assert [] == places(opened, tmp_path / "stack", SECRET, MINA)
        after = of_user(opened, OTHER)
        assert before == {key: after[key] for key in before}
        assert set(recorded) <= {sort for _, sort in after}


class Killed(Exception):
    """Stands for the end of the process that erases."""


@pytest.mark.parametrize("step", STEPS)
def test_an_erasure_that_was_killed_is_finished_by_the_next_one(learnt: AgentModel, step: str) -> None:
    """Killed before any step and called again, an erasure ends as if it had not been killed."""
    work(learnt, MINA, SECRET, tool="TL002")
    before = of_user(learnt, OTHER)
    shared = ("Version", "ExpiresAt", "WriteList")  # of mappings: it holds the rate of the domain, which is another now

    def own(items: dict[tuple[str, str], Item]) -> dict[tuple[str, str], Item]:
        """What the items hold of the user's own runs."""
        mapping = {key for key, item in items.items() if item["EntityType"]["S"] == "UserPrcToolMapp"}
        return {
            key: {name: value for name, value in item.items() if key not in mapping or name not in shared}
            | ({"writes": {**json.loads(item["WriteList"]["S"]), "rate": 0}} if key in mapping else {})
            for key, item in items.items()
            if key in before
        }

    def kill(name: str, done: int, of: int) -> None:
        if name == step and done < of:
            raise Killed

    with pytest.raises(Killed):
        learnt.erase_user(MINA, progress=kill)
    learnt.drain()
    learnt.refresh()
    learnt.publish()
    learnt.erase_user(MINA)
    learnt.refresh()

    assert [] == places(learnt, None, SECRET, MINA)
    assert own(before) == own(of_user(learnt, OTHER))


def test_a_repeated_erasure_removes_nothing_more(learnt: AgentModel) -> None:
    """An erasure of somebody who is erased, or was never there, removes nothing and says so."""
    learnt.erase_user(MINA)
    again, nobody = learnt.erase_user(MINA), learnt.erase_user("nobody")

    assert [{"valkey": {}, "table": {}, "warehouse": {}}] * 2 == [dict(again.removed), dict(nobody.removed)]
    assert "USRnobody" == nobody.user_id


def test_what_remains_is_what_the_report_names(model: AgentModel, tmp_path: Path) -> None:
    """Digests remain in marks, in the table and where these landed; a page of reports has the user until written again."""
    catalogue(model)
    for user, text in ((MINA, SECRET), (OTHER, "plain")):
        work(model, user, text)
    model.drain()
    session_id = f"SESS1-TL001-{SECRET}"
    for call in model.repository.session_history(MINA, session_id).executions:
        model.repository.delete(call)
    learn(model)
    deleted = [item for item in model.table.scan() if item["EntityType"]["S"] == "Deleted"]
    digests = [user_key(MINA), *(item["PK"]["S"].partition("#")[2] for item in deleted)]
    store, page = RoutingStore(model.table), tmp_path / "report.html"
    model.report(page)
    assert MINA in page.read_text("utf-8")
    assert deleted
    assert user_key(MINA) in owners(store)

    report = model.erase_user(MINA)
    model.refresh()
    assert {"reports that were written", "exports that were written"} <= {left.where for left in report.remaining}
    model.report(page)
    assert not {one for one in (MINA, SECRET) if one in page.read_text("utf-8")}

    (marks,) = [left for left in report.remaining if left.where == "marks of erasures and deletions"]
    found = places(model, None, *digests)
    kinds = {item["EntityType"]["S"] for item in model.table.scan() if any(one in str(item) for one in digests)}
    assert all(part in marks.until for part in ("90 days", "400 days", "in Valkey a day", "in the warehouse for good"))
    assert {"Deleted", "Erased"} == kinds
    assert {"warehouse AgentTable", "warehouse erased_user"} == {one for one in found if one.startswith("warehouse")}
    assert all("erased" in one for one in found if one.startswith("Valkey"))
    assert {user_key(OTHER)} == owners(store)
    assert [] == places(model, None, SECRET, MINA)


def owners(store: RoutingStore) -> set[str]:
    """The digests of those whose requests others are routed by."""
    return {request.owner for requests in store.load().requests.values() for request in requests}


def test_what_is_recorded_later_is_a_new_history(model: AgentModel) -> None:
    """Records after the erasure are kept, learned from and suggested, and the old ones do not come back with them."""
    catalogue(model)
    work(model, MINA, SECRET)
    learn(model)
    report = model.erase_user(MINA)
    work(model, MINA, "afterwards")
    learn(model)

    plan = model.suggest(MINA, category="category afterwards", domain_id="DMN001")
    assert "own mapping" == plan.source
    assert 2 == plan.runs
    assert [] == places(model, None, SECRET)
    assert report.erased_at < datetime.now(UTC)
    assert 3 == model.warehouse.counts()["agent_execution"]


def test_what_landed_of_a_tools_last_error_is_erased_too(model: AgentModel) -> None:
    """A last error that was published, and has landed since, is deleted from the landed item of its tool."""
    catalogue(model)
    work(model, MINA, SECRET)
    learn(model)
    learn(model)

    model.erase_user(MINA)

    assert [] == places(model, None, SECRET)


def test_an_open_session_is_erased_to_its_end(model: AgentModel) -> None:
    """What a session that was open at the erasure records afterwards is dropped by the drain; its user reads nothing."""
    catalogue(model)
    with model.session(MINA, f"request {SECRET}", session_id="SESSopen") as session:
        model.erase_user(MINA)
        with session.process(SECRET) as process, process.call("AGT001", "TL001", values=SECRET):
            pass
    drained = model.drain()

    assert 0 == drained.written
    assert drained.stale
    assert {} == of_user(model, MINA)
    assert () == model.repository.session_history(MINA, "SESSopen").processes
    assert [] == list(model.repository.sessions(MINA))


def test_a_session_that_is_written_straight_into_the_table_is_erased_to_its_end(model: AgentModel) -> None:
    """Without a journal too, what an open session records after the erasure is taken back."""
    direct = Settings.load(**{**model.settings.model_dump(), "valkey_url": None, "warehouse_url": None,
                              "endpoint": model.settings.endpoint, "secret_access_key": "local"})  # fmt: skip
    with AgentModel.from_settings(direct) as writer:
        with writer.session(MINA, f"request {SECRET}", session_id="SESSopen") as session:
            report = writer.erase_user(MINA)
            with session.process(SECRET) as process, process.call("AGT001", "TL001", values=SECRET):
                pass
        writer.settle()

        assert {} == of_user(writer, MINA)
        assert {"Valkey", "warehouse"} <= {left.where for left in report.remaining}


def test_a_drainer_takes_back_what_it_wrote_while_the_user_was_erased(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drainer that holds records of the user while the table is erased leaves nothing of them behind."""
    catalogue(model)
    work(model, MINA, SECRET)
    model.settle()
    put_many = HistorySink.put_many
    erased: list[object] = []

    def erase_then_write(sink: HistorySink, items: Any) -> Any:
        if not erased:  # the mark comes while the drainer has the records in its memory
            erased.append(ErasureMarks(model.table).write(MINA, model._clock(), []))
        return put_many(sink, items)

    monkeypatch.setattr(HistorySink, "put_many", erase_then_write)
    drained = model.drain()

    kinds = {item["EntityType"]["S"] for item in of_user(model, MINA).values()}
    assert erased
    assert drained.stale
    assert {"UserInfo", "Review", "Suggestion"} == kinds  # those were written by nobody who is on the way
    model.erase_user(MINA)
    assert [] == places(model, None, SECRET)


@pytest.mark.parametrize("moment", ["before the scan", "before the delete"])
def test_an_outcome_or_a_decision_that_comes_while_the_user_is_erased_keeps_nothing(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """An older item that is written again after the mark has a newer version, and is erased with its history."""
    catalogue(model)
    work(model, MINA, SECRET)
    model.drain()
    model.settle()
    written: list[str] = []

    def write() -> None:
        """Write into each suggestion and question of the user once, as a drainer or a reviewer does."""
        for item in list(of_user(model, MINA).values()):
            if item["EntityType"]["S"] in {"Suggestion", "Review"} and item["SK"]["S"] not in written:
                written.append(item["SK"]["S"])
                suggested = item["EntityType"]["S"] == "Suggestion"
                model.writer.save(Suggestion.from_item(item) if suggested else Review.from_item(item), existing=True)

    erase_items, delete = Erasure._erase_items, delete_unless_newer

    def write_and_erase(*given: Any) -> Any:
        write()
        return erase_items(*given)

    def write_and_delete(*given: Any) -> bool:
        write()
        return delete(*given)

    if moment == "before the scan":
        monkeypatch.setattr(Erasure, "_erase_items", write_and_erase)
    else:
        monkeypatch.setattr(erasure, "delete_unless_newer", write_and_delete)
    model.erase_user(MINA)

    assert len(written) > 3
    assert {} == of_user(model, MINA)
    assert [] == places(model, None, SECRET)


def test_a_question_that_is_asked_after_the_erasure_stays(model: AgentModel) -> None:
    """What a user asks for after an erasure is theirs again, and stays."""
    catalogue(model)
    work(model, MINA, SECRET)
    model.erase_user(MINA)
    model.suggest(MINA, category="newer", request="newer", domain_id="DMN001")
    review = model.reviews.ask(MINA, "SESSnew", "may it?", agent_id="AGT001", tool_id="TL001", arguments={}, reason="")
    model.erase_user("USRother")
    model.drain()

    kinds = {item["EntityType"]["S"] for item in of_user(model, MINA).values()}
    assert {"Review", "Suggestion"} <= kinds
    assert review.asked_at is not None


def test_entries_of_a_dead_drainer_are_erased_too(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that a drainer has read and never acknowledged are erased once another drainer might take them over."""
    monkeypatch.setattr("agentmodel.cache._user_erasure._IDLE_MS", 1)
    catalogue(model)
    for user, text in ((MINA, SECRET), (OTHER, "plain")):
        work(model, user, text)
    with valkey(model) as client:
        client.xgroup_create("am:{00}:j", "drain", "0")
        client.xreadgroup("drain", "dead", {"am:{00}:j": ">"})

        report = model.erase_user(MINA)

        left = client.xrange("am:{00}:j")
        pending = client.xpending_range("am:{00}:j", "drain", "-", "+", 1000)
    assert report.removed["valkey"]["journal entries"]
    assert left
    assert [entry for entry, _ in left] == [one["message_id"] for one in pending]
    assert {b"dead"} == {one["consumer"] for one in pending}
    assert [] == places(model, None, SECRET)


def test_a_publish_that_has_read_the_warehouse_brings_nothing_back(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish that writes what it read before the erasure takes mapping and last error back, and nobody else's."""
    catalogue(model)
    work(model, MINA, SECRET)
    with model.session(OTHER, "buy", category="orders") as session, session.process("look") as process:
        with process.call("AGT001", "TL001") as call:
            call.fail("closed")
        session.succeed()
    model.drain()
    model.refresh()
    snapshot = Warehouse.snapshot

    @contextmanager
    def read_then_erase(warehouse: Warehouse) -> Iterator[None]:
        with snapshot(warehouse):
            yield
        model.erase_user(MINA)

    monkeypatch.setattr(Warehouse, "snapshot", read_then_erase)
    model.publish()

    tool = model.repository.tool("AGT001", "TL001")

    assert [] == places(model, None, SECRET, MINA)
    assert tool is not None
    assert "closed" == tool.last_error
    assert model.repository.mapping(OTHER, "orders") is not None


def test_a_file_that_the_same_thread_reads_is_not_rewritten(model: AgentModel) -> None:
    """A rewrite inside of a read of the same thread does not wait for itself: it says why it was not done."""
    learn(model)
    with model.warehouse.snapshot():
        assert "this thread" in model.warehouse.rewrite()

    assert "" == model.warehouse.rewrite()


def test_the_last_error_of_another_user_stays(model: AgentModel) -> None:
    """Only the last error that is in the erased user's words is cleared from a tool."""
    catalogue(model)
    work(model, OTHER, "plain")
    learn(model)

    model.erase_user(MINA)

    tool = model.repository.tool("AGT001", "TL002")
    assert tool is not None
    assert ("error plain", user_key(OTHER)) == (tool.last_error, tool.last_error_by)


def test_what_a_reviewer_said_of_others_is_counted(model: AgentModel) -> None:
    """A review of another user keeps the name of the erased reviewer, and the report says so; nobody else is counted."""
    catalogue(model)
    for by in (MINA, OTHER, "mina"):
        asked = model.reviews.ask(
            "USRjun", "SESS1", "may it?", agent_id="AGT001", tool_id="TL001", arguments={"by": by}
        )
        model.reviews.decide(asked, "reject", by, reason="no", arguments_hash=asked.arguments_hash)

    report, nobody = model.erase_user(MINA), model.erase_user("nobody")

    assert ["the user's id, and reasons that the user gave, in 1 of them"] == [
        left.what for left in report.remaining if left.where == "reviews of other users"
    ]
    assert "reviews of other users" not in {left.where for left in nobody.remaining}
    assert {MINA, OTHER, "mina"} == {
        item["DecidedBy"]["S"] for item in model.table.scan() if item["EntityType"]["S"] == "Review"
    }


def test_a_warehouse_that_another_process_has_open_stops_no_erasure(learnt: AgentModel, tmp_path: Path) -> None:
    """Table and Valkey are erased all the same, the report says what is left, and the next refresh erases that."""
    path = tmp_path / "held.duckdb"
    hold = "import duckdb, sys\nheld = duckdb.connect(sys.argv[1])\nprint('held', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert "held\n" == owner.stdout.readline()
        elsewhere = learnt.settings.model_copy(update={"warehouse_url": f"duckdb:///{path}"})
        with AgentModel.from_settings(elsewhere) as application:
            report = application.erase_user(MINA)
        owner.communicate()

    assert "warehouse" in {left.where for left in report.remaining}
    assert {} == of_user(learnt, MINA)
    learnt.refresh()
    assert [] == places(learnt, None, SECRET, MINA)


def test_a_refresh_erases_what_a_process_without_the_warehouse_erased(learnt: AgentModel) -> None:
    """The process that has the warehouse erases it at its next refresh, and mappings do not come back before."""
    elsewhere = learnt.settings.model_copy(update={"warehouse_url": None})
    with AgentModel.from_settings(elsewhere) as application:
        report = application.erase_user(MINA)

    assert "warehouse" in {left.where for left in report.remaining}
    learnt.publish()
    assert {} == of_user(learnt, MINA)
    learnt.refresh()
    learnt.publish()
    assert [] == places(learnt, None, SECRET, MINA)


def test_what_the_feed_brings_late_is_not_landed(model: AgentModel) -> None:
    """What a feed read before the erasure, or finds expired after it, leaves no text in the warehouse, built anew or not."""
    catalogue(model)
    work(model, MINA, SECRET)
    model.drain()
    old, read_at = list(model.table.scan()), datetime.now(UTC)
    model.erase_user(MINA)
    warehouse, later = model.warehouse, datetime.now(UTC) + timedelta(days=400)
    warehouse.land(old, at=read_at, complete=False)
    assert [] == places(model, None, SECRET, MINA)
    warehouse.add_to_inbox(FeedBatch([FeedItem(item, expired=True) for item in old if "ExpiresAt" in item]))
    warehouse.land([], at=later, complete=False)
    warehouse.refresh(as_of=later, full=True)

    assert [] == places(model, None, SECRET, MINA)


def test_an_erased_record_is_no_expired_one(model: AgentModel) -> None:
    """A record that was erased shortly before its expiry leaves the statistics, although the next scan comes after it."""
    catalogue(model)
    work(model, MINA, SECRET)
    work(model, OTHER, "plain")
    model.drain()
    model.refresh()
    model.erase_user(MINA)
    later = datetime.now(UTC) + timedelta(days=400)  # everything has expired by then
    model.warehouse.land([], at=later)
    model.warehouse.refresh(as_of=later)

    assert 3 == model.warehouse.counts()["agent_execution"]
    assert [] == places(model, None, SECRET, MINA)


def test_what_landed_shortly_before_the_erasure_is_erased(model: AgentModel) -> None:
    """A row without a version goes if it landed a millisecond before the erasure, and stays if it landed after it."""
    landed_at = datetime(2026, 11, 30, 12, 0, 0, 700_000, tzinfo=UTC)
    key = md5(MINA.encode(), usedforsecurity=False).hexdigest()
    item: Item = {"PK": {"S": f"{MINA}#SESS1"}, "SK": {"S": "REVIEW#1"}, "EntityType": {"S": "Review"}}
    model.warehouse.land([item], at=landed_at)

    def erased(before: datetime) -> int:
        return model.warehouse.erase(key, int(before.timestamp() * 1000) << 16).get("landed", 0)

    assert 0 == erased(landed_at - timedelta(milliseconds=1))
    assert 1 == erased(landed_at + timedelta(milliseconds=1))


def test_the_asyncio_model_erases_too(model: AgentModel) -> None:
    """`AsyncAgentModel.erase_user` does the same."""
    catalogue(model)
    work(model, MINA, SECRET)

    report = asyncio.run(AsyncAgentModel(model).erase_user("mina"))

    assert MINA == report.user_id
    assert [] == places(model, None, SECRET)


def test_a_warehouse_in_memory_keeps_what_is_of_others(settings: Settings) -> None:
    """A warehouse that is in no file loses the erased user alone; nothing has to be written anew."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        for user in (MINA, OTHER):
            work(model, user, "plain")
        learn(model)
        model.erase_user(MINA)

        assert [OTHER] == [row.user_id for row in active_users(model.warehouse)]


def test_a_wrong_id_is_refused_before_anything_is_read(model: AgentModel) -> None:
    """An id that no user has, and no name at all, is an error that names it."""
    erasure = Erasure(
        model.table,
        model.repository,
        caches=None,
        warehouse=None,
        drain=list,
        clock=lambda: 1,
        forget=len,
        forget_requests=len,
    )

    with pytest.raises(ValidationError, match="user_id"):
        erasure.erase("AGT001")
    wrong: list[Any] = [" ", "", None, 7, b"USR001", "USR1\n", "USR 1", "mina\n", "mi\x00na", " mina"]
    for user_id in wrong:
        with pytest.raises(ValidationError, match="user_id"):
            model.erase_user(user_id)


def test_other_plans_of_this_process_are_made_anew(model: AgentModel) -> None:
    """The planner drops the requests of the erased user, so that nobody is suggested that user's way."""
    catalogue(model)
    work(model, MINA, SECRET)
    learn(model)
    index = model.planner._lookup.index
    before = index.nearest(f"request {SECRET}")

    model.erase_user(MINA)

    assert {MINA} == {match.user_id for match in before or ()}
    assert [] == index.nearest(f"request {SECRET}")


@pytest.mark.parametrize("given", [(), ("--yes",)])
def test_the_command_asks_first(
    model: AgentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
) -> None:  # fmt: skip
    """Without a terminal the command erases only with --yes, and reports what it removed and what remains."""
    catalogue(model)
    work(model, MINA, SECRET)
    model.drain()
    model.warehouse.close()
    monkeypatch.setattr("sys.stdin", io.StringIO())

    code = main(["--dir", str(tmp_path / "stack"), "erase", "mina", "--json", *given])

    printed = capsys.readouterr()
    if given:
        assert 0 == code
        report = json.loads(printed.out)
        assert MINA == report["user_id"]
        assert 3 == report["removed"]["table"]["UserSession"]
        assert "saved tables of a local stack" in {left["where"] for left in report["remaining"]}
    else:
        assert 2 == code
        assert "--yes" in printed.err
    assert bool(given) == (of_user(model, MINA) == {})


@pytest.mark.parametrize("answer", ["n", "y"])
def test_the_question_names_what_the_user_has(
    learnt: AgentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    """At a terminal the command asks with the counts of sessions and mappings, and does nothing after a no."""
    learnt.warehouse.close()
    terminal = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)

    code = main(["--dir", str(tmp_path / "stack"), "erase", MINA])

    printed = capsys.readouterr()
    assert "3 sessions and 2 learned mappings" in printed.err
    assert (answer == "y") == (code == 0) == (of_user(learnt, MINA) == {})
    assert (answer == "y") == ("Removed" in printed.out)


def test_a_stream_is_written_anew_with_and_without_scripts(either_url: str, settings: Settings) -> None:
    """What is left of a stream keeps its ids, its group's position and its pending entries; only the user's are gone."""
    key = "am:{00}:j"
    own = settings.model_copy(update={"valkey_url": either_url, "shards": 1})
    with Valkey(own) as connection, plain_client(either_url) as client:
        owners = [MINA, OTHER, f"{MINA}#SESS1", f"{OTHER}#SESS1", MINA, f"{MINA}#SESSopen", f"{MINA}#SESSnew"]
        versions = [5, 5, 5, 5, 15, 15, 15]
        fields = [
            {"k": owner, "m": "PRC001", "i": "1", "x": "", "d": f"{version:020d}"}
            for owner, version in zip(owners, versions, strict=True)
        ]
        ids = [client.xadd(key, each) for each in fields]
        client.hset(f"am:{{00}}:p:{MINA}#SESS1", mapping={"PRC001": f"{5:020d}", "PRC002": f"{15:020d}"})
        client.xgroup_create(key, "drain", "0")
        client.xreadgroup("drain", "alive", {key: ">"}, count=4)
        client.xclaim(key, "drain", "dead", 0, [ids[0]], idle=90_000, retrycount=3)
        client.xclaim(key, "drain", "dead", 0, [ids[3]], idle=90_000, retrycount=3)
        erased = UserCache(connection).erase(
            MINA, before=10, until=20, open_sessions=[session_key("SESSopen")], whose="", erasing_key="am:erased:x"
        )

        left = [entry for entry, _ in client.xrange(key)]
        pending = {one["message_id"]: one for one in client.xpending_range(key, "drain", "-", "+", 10)}
        (group,) = client.xinfo_groups(key)
        # the user's third entry is held by a drainer that lives; the fifth and the last are newer than the erasure
        assert [ids[number] for number in (1, 2, 3, 4, 6)] == left
        assert {ids[1]: b"alive", ids[2]: b"alive", ids[3]: b"dead"} == {
            entry: one["consumer"] for entry, one in pending.items()
        }
        assert (3, True) == (pending[ids[3]]["times_delivered"], pending[ids[3]]["time_since_delivered"] >= 90_000)
        assert ids[3] == group["last-delivered-id"]
        assert ids[6] == client.xinfo_stream(key)["last-generated-id"]
        assert {b"PRC002"} == set(client.hkeys(f"am:{{00}}:p:{MINA}#SESS1"))
        assert (2, 1, 1) == (erased.counts["journal entries"], erased.counts["items not drained yet"], erased.held)


def test_every_engine_of_the_table_takes_an_erasure(settings: Settings) -> None:
    """Marks, conditional deletions and the filtered scan are understood by every DynamoDB; a later erasure counts."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        catalogue(model)
        work(model, MINA, SECRET)
        work(model, OTHER, "plain")
        learn(model)
        before = of_user(model, OTHER)
        with model.session(MINA, f"request {SECRET}", session_id="SESSopen"):
            first = model.erase_user(MINA)
            marks = ErasureMarks(model.table)
            (mark,) = marks.all()
            assert {session_key("SESSopen")} == mark.open_sessions
            assert mark.learned_at is not None
            marks.write(MINA, 1, [])  # an older one changes nothing
            assert [mark] == marks.all()
            model.erase_user(MINA)
        model.drain()
        (later,) = marks.all()

        assert later.before > mark.before
        assert mark.open_sessions == later.open_sessions
        assert first.removed["table"]["Suggestion"]
        assert {} == of_user(model, MINA)
        assert before == of_user(model, OTHER)
        model.table.delete()
