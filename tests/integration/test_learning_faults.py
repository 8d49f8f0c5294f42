"""What goes back (plans, guards, refresh, publish, the command line) while a store is full, away, or another process differs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from agentmodel import AgentModel, Settings, Tool
from agentmodel.dynamo.table import Table
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import TableUnavailable, WarehouseUnavailable
from agentmodel.suggest.guard import Ask, Blocked, Cached, Go
from tests.integration.away import FAULTS, Endpoint, Fault
from tests.integration.kept import Kept, keep, kept_settings, plain_client, put_back
from tests.integration.suggest_world import TODAY, catalogue, learn, run
from tests.integration.test_cli_errors import environment
from tests.integration.test_embedded_faults import in_one_line
from tests.integration.test_redshift_limits import HANGUL, HOSTILE, call, item

USER, CATEGORY = "USR001", "cafe search"
CALL: dict[str, Any] = {"agent_id": "AGT001", "user_id": USER, "session_id": "SESS1"}


@contextmanager
def full(settings: Settings) -> Iterator[None]:
    """Valkey is at its memory limit while the block runs: it reads and deletes, and writes nothing."""
    with closing(redis.Redis.from_url(str(settings.valkey_url).replace("valkey:", "redis:", 1))) as direct:
        direct.config_set("maxmemory", 1)
        try:
            yield
        finally:
            direct.config_set("maxmemory", 0)


def lived(model: AgentModel) -> None:
    """Record, refresh and publish, so that every reader of the model has something."""
    model.table.create()
    catalogue(model)
    model.repository.put(Tool(agent_id="AGT001", tool_id="TL004", domain_id="DMN001", name="read", read_only=True))
    run(model, USER)
    learn(model)
    model.publish(as_of=TODAY)


def more(model: AgentModel) -> None:
    """Record what changes the ranking, and learn it."""
    for _ in range(3):
        run(model, USER, "AGT002")
    learn(model)


def ranking(model: AgentModel) -> list[tuple[str, float]]:
    """The agents with their scores, as whoever asks for them reads them."""
    return [(agent.agent_id, agent.score) for agent in model.repository.top_agents("DMN001")]


@pytest.fixture(scope="module")
def learnt(
    dynamodb_endpoint: str, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Kept, Path]:
    """Settings of an installation that has learned, what its stores hold, and its warehouse."""
    folder = tmp_path_factory.mktemp("learnt")
    settings = kept_settings(dynamodb_endpoint, valkey_server.url, folder)
    with plain_client(valkey_server.url) as client:
        client.flushall()
    with AgentModel.from_settings(settings) as model:
        lived(model)
    with Table(settings) as table:
        return settings, keep(table, valkey_server.url), folder / "warehouse.duckdb"


@pytest.fixture
def model(learnt: tuple[Settings, Kept, Path], tmp_path: Path) -> Iterator[AgentModel]:
    """A model of that installation, as it was left."""
    settings, kept, warehouse = learnt
    own = shutil.copy(warehouse, tmp_path / "warehouse.duckdb")
    with AgentModel.from_settings(settings.model_copy(update={"warehouse_url": f"duckdb:///{own}"})) as model:
        put_back(kept, model.table, str(settings.valkey_url))
        yield model


# -- Valkey at its memory limit --------------------------------------------------------------------------------------


def test_plans_on_a_full_valkey(model: AgentModel) -> None:
    """A plan is the same, is in the log, and gets its outcome; so does one of a user whom nobody has asked for."""
    before = model.suggest(USER, category=CATEGORY)
    with full(model.settings):
        plans = [model.suggest(user, category=CATEGORY) for user in (USER, "USR002")]
        with model.session(USER, plan=plans[0]) as session, session.process("look") as process:
            process.call("AGT001", "TL001").__enter__().__exit__(None, None, None)
        followed = model.suggestions.of_user(USER)[-1]

    assert (before.source, before.steps) == (plans[0].source, plans[0].steps)
    assert None not in [plan.suggestion_id for plan in plans]
    assert (session.session_id, True) == (followed.session_id, followed.succeeded)


def test_a_guard_on_a_full_valkey(model: AgentModel) -> None:
    """Calls are decided about as ever; a result that cannot be cached is asked of the tool again."""
    guard = model.guard(review=["search"])
    with full(model.settings):
        went = [guard.before(**CALL, tool_id="TL004", call_id=f"c{number}") for number in range(2)]
        asked = guard.before(**CALL, tool_id="TL002", call_id="c3")
        assert isinstance(went[0], Go)
        guard.after(went[0], {"found": 1})
    assert isinstance(asked, Ask)
    model.reviews.decide(model.reviews.reference(asked.review), "approve", by="kim")
    same = guard.before(**CALL, tool_id="TL002", call_id="c3")
    assert isinstance(same, Ask)
    answer = guard.answer(same.review)
    again = guard.before(**CALL, tool_id="TL004", call_id="c4")
    assert isinstance(again, Go)
    guard.after(again, {"found": 1})

    assert isinstance(went[1], Go)
    assert answer is not None
    assert ("approve", "kim") == (answer.decision, answer.by)
    assert isinstance(guard.before(**CALL, tool_id="TL004", call_id="c5"), Cached)


def test_a_publish_on_a_full_valkey(model: AgentModel) -> None:
    """Everything is published, and nobody reads the older ranking, which Valkey still had."""
    before = ranking(model)
    more(model)
    with full(model.settings):
        published = model.publish(as_of=TODAY)
        meanwhile = ranking(model)
    second = model.publish(as_of=TODAY)

    assert (2, 0, 1) == (published.agents, published.rankings, second.rankings)
    assert before != meanwhile == ranking(model)
    assert "AGT002" == meanwhile[0][0]


COMMANDS = (
    ["import", "calls.jsonl"],
    ["drain"],
    ["refresh", "--as-of", "2025-06-24"],
    ["publish", "--as-of", "2025-06-24"],
    ["suggest", "USRkim", "--category", "quiet"],
    ["agents"],
    ["tools"],
    ["sessions", "--user", "USRkim"],
    ["reviews", "list"],
    ["check"],
    ["stats"],
)
LINE = {"domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": 1, "tool": "search", "success": True,
        "category": "quiet", "request": "a quiet café", "started_at": "2025-06-13T09:00:00Z"}  # fmt: skip


def commands(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run all commands; what each prints as data, without what differs from run to run."""
    from agentmodel.cli import main

    said: dict[str, Any] = {}
    for command in COMMANDS:
        code, printed = main([*command, "--json"]), capsys.readouterr()
        assert 0 == code, (command, printed.err)
        said[command[0]] = json.loads(printed.out)
    return said


@pytest.mark.parametrize("fault", ["full", "without Valkey"])
def test_commands_where_valkey_does_not_help(
    settings: Settings, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands on a full Valkey, or beside processes with another setting, do and show what all others see."""
    pytest.importorskip("typer")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.jsonl").write_text(json.dumps(LINE), encoding="utf-8")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with AgentModel.from_settings(settings) as model:
        model.table.create()
    if fault == "full":
        with full(settings):
            said = commands(capsys)
    else:
        monkeypatch.delenv("AGENTMODEL_VALKEY_URL")
        monkeypatch.setattr(f"{__name__}.COMMANDS", tuple(each for each in COMMANDS if each != ["drain"]))
        said = commands(capsys)
        monkeypatch.setenv("AGENTMODEL_VALKEY_URL", str(settings.valkey_url))
    again = commands(capsys)
    with AgentModel.from_settings(settings) as model:
        seen = [one.session_id for one in model.repository.sessions("USRkim")]

    assert (1, 0, 1) == (said["import"]["lines"], said["import"]["repeated"], again["import"]["repeated"])
    assert 1 == said["refresh"]["rows"]["user_tool_mapping_hist"] == again["refresh"]["rows"]["user_tool_mapping_hist"]
    assert 1 == said["publish"]["agents"]
    assert "own mapping" == said["suggest"]["source"] == again["suggest"]["source"]
    assert said["sessions"] == again["sessions"]
    assert said["tools"] == again["tools"]
    assert seen == [one["session_id"] for one in said["sessions"]["sessions"]]


# -- processes with other settings, and several at once --------------------------------------------------------------


def test_plans_of_processes_with_other_settings(model: AgentModel) -> None:
    """With and without Valkey a plan is the same, and what one process suggested gets its outcome by another."""
    with AgentModel.from_settings(model.settings.model_copy(update={"valkey_url": None})) as far:
        plans = [one.suggest(USER, category=CATEGORY) for one in (model, far)]
        for other, plan in zip((far, model), plans, strict=True):
            with other.session(USER, plan=plan) as session, session.process("look") as process:
                process.call("AGT001", "TL001").__enter__().__exit__(None, None, None)
            other.settle()
        found = {one.suggestion_id: one.succeeded for one in far.suggestions.of_user(USER)}

    assert plans[0].steps == plans[1].steps
    assert [True, True] == [found[str(plan.suggestion_id)] for plan in plans]


def test_a_publish_of_a_process_without_valkey(model: AgentModel) -> None:
    """It publishes all that there is; the next one with Valkey writes nothing but the ranking that others read."""
    more(model)
    with AgentModel.from_settings(model.settings.model_copy(update={"valkey_url": None})) as far:
        published = far.publish(as_of=TODAY)
        expected = ranking(far)
    again = model.publish(as_of=TODAY)

    assert (2, 0) == (published.agents, published.rankings)
    assert (0, 0, 0, 1) == (again.agents, again.tools, again.mappings, again.rankings)
    assert expected == ranking(model)


def test_plans_at_once(model: AgentModel) -> None:
    """Threads that ask at once each get a plan of their own user, and each is in the log once."""
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda n: model.suggest(f"USR{n % 4:03d}", category=CATEGORY), range(40)))
    logged = {one.suggestion_id: one.user_id for n in range(4) for one in model.suggestions.of_user(f"USR{n:03d}")}

    assert {str(plan.suggestion_id): plan.user_id for plan in plans} == logged
    assert 40 == len(logged)


# -- the table away, a full disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_learning_goes_on_when_the_table_is_back(away_settings: Settings, endpoint: Endpoint, fault: Fault) -> None:
    """Refresh and publish fail with the table's error and change nothing; the next ones do all of it."""
    with AgentModel.from_settings(away_settings) as model:
        lived(model)
        before = model.warehouse.counts(), ranking(model)
        for _ in range(3):
            run(model, USER, "AGT002")
        model.drain()
        with endpoint.away(fault):
            for work in (model.refresh, model.publish):
                with pytest.raises(TableUnavailable):
                    work(as_of=TODAY)
            meanwhile = model.warehouse.counts()
        refreshed = model.refresh(as_of=TODAY)
        published = model.publish(as_of=TODAY)

        assert before[0] == meanwhile
        assert 4 == refreshed.rows["usersession"]
        assert 2 == published.agents
        assert before[1] != ranking(model)


def test_what_goes_into_the_table_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is made without an entry in the log, a question is not asked, a publish fails; with room all of it is done."""

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with AgentModel.local(tmp_path / "stack") as model:
        lived(model)
        more(model)
        guard = model.guard(review="always")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_room)
            plan = model.suggest(USER, category=CATEGORY)
            blocked = guard.before(**CALL, tool_id="TL001", call_id="c1")
            with pytest.raises(TableUnavailable, match="No space left"):
                model.publish(as_of=TODAY)
        published = model.publish(as_of=TODAY)
        asked = guard.before(**CALL, tool_id="TL001", call_id="c1")

        assert ("own mapping", None) == (plan.source, plan.suggestion_id)
        assert (Blocked, Ask) == (type(blocked), type(asked))
        assert 2 == published.agents
        assert model.suggest(USER, category=CATEGORY).suggestion_id is not None


def test_a_refresh_on_a_full_disk(settings: Settings, small_disk: Path) -> None:
    """A warehouse that finds no room says so in one line and keeps what it had; with room it learns all of it."""
    ballast, url = small_disk / "ballast", f"duckdb:///{small_disk / 'warehouse.duckdb'}"
    with AgentModel.from_settings(settings.model_copy(update={"warehouse_url": url})) as model:
        lived(model)
        for _ in range(5):
            run(model, USER)
        model.drain()
        before, free = model.warehouse.counts(), os.statvfs(small_disk)
        ballast.write_bytes(b"x" * free.f_bavail * free.f_frsize)
        with pytest.raises(WarehouseUnavailable) as caught:
            model.refresh(as_of=TODAY)
        meanwhile = model.warehouse.counts()
        ballast.unlink()
        refreshed = model.refresh(as_of=TODAY)

    assert "No space left" in in_one_line(caught.value)
    assert before == meanwhile
    assert 6 == refreshed.rows["usersession"]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_no_history_stops_a_publish(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Items that other programs wrote, and a sequence too long for an item, leave the others' publish alone."""
    endless = [
        call(n, user="USR002", tool=f"TL{n}{HANGUL * 115}", ToolNM=HANGUL * 250, TransactDT=f"202506{n:014d}")
        for n in range(1, 280)
    ]
    ended = {"SessionSuccYN": "Y", "Category": "too long", "SessionStartDT": "20250613090000000000"}
    others = [HOSTILE[name] for name in HOSTILE if name not in ("many agents in a session", "a kind without end")]
    written = [item("USR002", "SESS001", "UserSession", **ended), *endless, *(one for items in others for one in items)]
    unique = list({(one["PK"]["S"], one["SK"]["S"]): {"PutRequest": {"Item": one}} for one in written}.values())
    for first in range(0, len(unique), 25):
        model.table.call("BatchWriteItem", RequestItems={model.table.name: unique[first : first + 25]})
    more(model)
    published = model.publish(as_of=TODAY)

    assert (2, 1) == (published.agents, published.refused)
    assert "AGT002" == ranking(model)[0][0]
    assert ["publish.refused: a UserPrcToolMapp was not written: Toollist"] == [
        line.partition(" must")[0] for line in caplog.messages if "publish.refused" in line
    ]
    assert "own mapping" == model.suggest(USER, category=CATEGORY).source
