"""Whatever mixture of settings, versions and outages wrote into a session, what was acknowledged stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess
from agentmodel.access._journal_sink import HistorySink
from agentmodel.access._receipt import Receipt
from agentmodel.cache import Valkey
from agentmodel.embedded import ValkeyServer

PROGRAM = Path(__file__).with_name("mixed_processes.py")
USER, SESSION = "USR001", "SESS20250614001"
NOWHERE = "valkey://127.0.0.1:1"

Open = Callable[..., AgentModel]
"""Opens a model with changed settings, on the same table."""


@pytest.fixture
def opened(settings: Settings) -> Iterator[Open]:
    """Opens models on one new table."""
    models: list[AgentModel] = []

    def open_model(**changed: Any) -> AgentModel:
        models.append(AgentModel.from_settings(settings.model_copy(update=changed)))
        return models[-1]

    open_model().table.create()
    yield open_model
    models[0].table.delete()
    for model in models:
        model.close()


def call(name: str, **values: Any) -> ToolExecution:
    """A call that asks for the first attempt; its result is its name."""
    given: dict[str, Any] = {
        "user_id": USER, "session_id": SESSION, "process_id": "PRC001", "agent_id": "AGT001", "tool_id": "TL001",
        "tool_name": "find", "succeeded": True, "call_number": 1, "call_id": name, "result": name,
    }  # fmt: skip
    return ToolExecution(**(given | values))


def step(name: str) -> UserSessionProcess:
    """A process that asks for the first number."""
    return UserSessionProcess(user_id=USER, session_id=SESSION, process_id="PRC001", name=name, call_id=name)


def record(model: AgentModel, *names: str) -> list[Receipt[Any]]:
    """Record a process and a call of each name."""
    return [model.recorder.record(one) for name in names for one in (step(f"step {name}"), call(name))]


def names(model: AgentModel) -> list[str]:
    """The names of the records that a model reads in the session, in order; each must stand for itself."""
    history = model.repository.session_history(USER, SESSION)
    for execution in history.executions:
        assert execution.call_id == execution.result
    keys = [one.sk for one in (*history.processes, *history.executions)]
    assert len(keys) == len(set(keys))
    return sorted([process.name for process in history.processes] + [str(each.result) for each in history.executions])


def expected(*written: str) -> list[str]:
    """The names of the processes and calls of these."""
    return sorted([*written, *(f"step {name}" for name in written)])


DIRECT: dict[str, dict[str, Any]] = {
    "durability dynamodb": {"durability": "dynamodb"},
    "no valkey": {"valkey_url": None},
    "valkey away": {"valkey_url": NOWHERE},
    "another prefix": {"valkey_prefix": "other"},
    "another number of shards": {"valkey_prefix": "other", "shards": 3},
}
"""Settings of the process that does not share the first one's journal."""


@pytest.fixture(params=DIRECT)
def other(request: pytest.FixtureRequest, opened: Open) -> AgentModel:
    """A model that does not share the journal of the first one."""
    return opened(**DIRECT[request.param])


def drain(*models: AgentModel) -> None:
    """Drain the journals of the models that have one."""
    for model in models:
        if model.journal is not None and model.settings.valkey_url != NOWHERE:
            model.drain()


class TestTwoProcesses:
    def test_journal_then_direct(self, opened: Open, other: AgentModel) -> None:
        """What waits in the journal gets numbers of its own beside what was recorded after it without that journal."""
        model = opened()
        record(model, "a", "b")
        receipts = record(other, "c")
        drain(other, model)
        plain = opened(valkey_url=None)

        assert expected("a", "b", "c") == names(plain)
        if receipts[1].level == "dynamodb":
            found = plain.table.get(receipts[1].entity.key, consistent=True)
            assert found is not None
            assert "c" == found.result

    def test_direct_then_journal(self, opened: Open, other: AgentModel) -> None:
        """A process that knew the session's numbers before another one wrote without the journal overwrites nothing."""
        model = opened()
        model.recorder.open(model.session(USER, session_id=SESSION).entity, new=False)
        record(other, "c", "d")
        record(model, "a", "b")
        drain(other, model)

        assert expected("a", "b", "c", "d") == names(opened(valkey_url=None))

    def test_in_turns(self, opened: Open, other: AgentModel) -> None:
        """Records of both in turns, with drains between them, are all there."""
        model = opened()
        for number in range(3):
            record(model, f"a{number}")
            record(other, f"b{number}")
            if number == 1:
                drain(model)
        drain(other, model)

        assert expected(*(f"{side}{number}" for side in "ab" for number in range(3))) == names(opened(valkey_url=None))

    def test_read_before_the_drain(self, opened: Open, other: AgentModel) -> None:
        """Who reads through the journal sees both before it is drained, each under a number of its own."""
        model = opened()
        record(model, "a", "b")
        record(other, "c")
        drain(other)
        model.repository.invalidate([call("c")])  # who has no Valkey cannot drop the copies in it
        before = names(model)
        drain(model)

        assert expected("a", "b", "c") == before
        assert before == names(model)

    def test_a_page_at_a_time(self, opened: Open, other: AgentModel) -> None:
        """Pages of one item show each record once, before and after the drain."""
        model = opened()
        record(model, "a", "b")
        record(other, "c")
        drain(other)

        def pages() -> list[str]:
            found, cursor = [], None
            while True:
                page = model.repository.session_history(USER, SESSION, limit=1, cursor=cursor)
                found += [one.name for one in page.processes] + [str(one.result) for one in page.executions]
                if (cursor := page.cursor) is None:
                    return sorted(found)

        model.repository.invalidate([call("c")])
        before = pages()
        drain(model)

        assert expected("a", "b", "c") == before == pages()

    def test_mutant_without_condition_is_caught(
        self, opened: Open, other: AgentModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same records are not all there when the drain writes without a condition."""
        monkeypatch.setattr(HistorySink, "put_many", lambda sink, items: sink._writer.put_many(items))
        model = opened()
        record(model, "a", "b")
        record(other, "c")
        drain(other, model)

        assert expected("a", "b", "c") != names(opened(valkey_url=None))


class TestOneProcess:
    def test_reconnects(self, opened: Open, tmp_path: Path) -> None:
        """A session whose Valkey ends and comes back keeps what was recorded before, meanwhile and after."""
        with closing(ValkeyServer(tmp_path / "valkey", durable=True)) as server:
            model = opened(valkey_url=server.start().url)
            record(model, "a", "b")
        record(model, "away")
        assert expected("away") == names(opened(valkey_url=None))

        with closing(ValkeyServer(tmp_path / "valkey", durable=True)) as server:
            later = opened(valkey_url=server.start().url)
            record(later, "later")
            drain(later)

            assert expected("a", "b", "away", "later") == names(opened(valkey_url=None))

    def test_numbers_that_valkey_lost(self, opened: Open) -> None:
        """Where Valkey lost the numbers of a session, and an old reading of them comes late, no call is replaced."""
        model = opened()
        record(model, "a")
        assert model.journal is not None
        partition = call("a").pk
        with Valkey(model.settings) as valkey:
            for key in valkey.execute(("KEYS", f"am:*:n:{partition}")):
                valkey.execute(("UNLINK", key))
        model.journal.register_numbers(USER, partition, {})  # as read before "a" was recorded
        receipts = record(model, "b")

        assert expected("a", "b") == names(model)
        assert [2, False] == [receipts[1].entity.attempt, receipts[1].repeated]
        drain(model)
        assert expected("a", "b") == names(opened(valkey_url=None))

    def test_full_journal(self, opened: Open) -> None:
        """Records that find no room in the journal go to the table, and those that wait lose nothing to them."""
        model = opened(journal_limit=2, journal_wait=0.0)
        record(model, "a", "b", "c")
        drain(model)

        assert expected("a", "b", "c") == names(opened(valkey_url=None))


class TestOthers:
    def test_saved_by_the_application(self, opened: Open) -> None:
        """A call that the application wrote itself, by whatever means, is not replaced by a drain."""
        model = opened()
        record(model, "a")
        model.repository.put_new(call("mine"))
        drain(model)

        assert sorted([*expected("a"), "mine"]) == names(opened(valkey_url=None))

    def test_items_without_ids_of_calls(self, opened: Open) -> None:
        """An item of the published sample has no id of its call, and is not replaced."""
        model = opened()
        record(model, "a")
        sample = call("x").to_item()
        for name in ("CallID", "Version"):
            sample.pop(name, None)
        model.table.call("PutItem", TableName=model.table.name, Item=sample)
        drain(model)
        history = opened(valkey_url=None).repository.session_history(USER, SESSION)

        assert [(1, None), (2, "a")] == [(each.attempt, each.call_id) for each in history.executions]

    def test_item_that_cannot_be_read(self, opened: Open) -> None:
        """A damaged item under the number keeps it: nothing replaces what nobody can read."""
        model = opened()
        record(model, "a")
        damaged = call("x").to_item() | {"TransactDT": {"S": "yesterday"}}
        model.table.call("PutItem", TableName=model.table.name, Item=damaged)
        drain(model)
        history = opened(valkey_url=None).repository.session_history(USER, SESSION)

        assert [(2, "a")] == [(each.attempt, each.call_id) for each in history.executions]
        assert [damaged] == [each.item for each in history.unreadable]

    def test_process_with_an_id_of_its_own(self, opened: Open) -> None:
        """A process whose id is no number is one item; the newer of two versions stays."""
        model, direct = opened(), opened(valkey_url=None)
        plan: dict[str, Any] = {"user_id": USER, "session_id": SESSION, "process_id": "PRCplan"}
        model.recorder.record(UserSessionProcess(**plan, name="older"))
        direct.recorder.record(UserSessionProcess(**plan, name="newer"))
        drain(model)

        assert ["newer"] == [each.name for each in direct.repository.session_history(USER, SESSION).processes]

    def test_replaced_by_a_drainer_of_0_1_0(self, opened: Open) -> None:
        """What a drainer of 0.1.0 replaced before it was killed is written again from the copy that its writer left."""
        model = opened()
        receipt = model.recorder.record(call("near"))
        lost = call("far")
        lost.version = (receipt.entity.version or 0) - 1
        copy = {name: value for name, value in lost.to_item().items() if name not in ("PK", "SK")}
        fence = {"S": f"OUTAGE#{USER}%23{SESSION}"}
        put = {"EntityType": {"S": "OUTAGE"}, "PK": fence, "SK": lost.to_item()["SK"], "Copy": {"M": copy}}
        model.table.call("PutItem", TableName=model.table.name, Item=put)
        model.writer.put(receipt.entity)  # it wrote without a condition, and acknowledged nothing
        drain(model)
        history = opened(valkey_url=None).repository.session_history(USER, SESSION)

        assert [(1, "near"), (2, "far")] == [(each.attempt, each.call_id) for each in history.executions]

    def test_more_attempts_than_a_writer_tries(self, opened: Open) -> None:
        """A process without the journal finds its number behind hundreds of attempts."""
        model, direct = opened(), opened(valkey_url=None)
        model.recorder.record_many([call(f"a{number}") for number in range(150)])
        drain(model)

        assert 151 == direct.recorder.record(call("next")).entity.attempt

    def test_dead_letter_of_an_unreadable_entry(self, opened: Open) -> None:
        """An entry that cannot be numbered, and whose key is taken, becomes a dead letter: it is kept with its reason."""
        from agentmodel.cache import Entry

        model, direct = opened(), opened(valkey_url=None)
        assert model.journal is not None
        unknown = {**call("a").to_item(), "EntityType": {"S": "OfTomorrow"}}
        model.journal.append([Entry(USER, unknown, 1, immutable=True)])
        record(direct, "b")
        drain(model)

        assert expected("b") == names(direct)
        assert ["cannot be read" in letter.reason for letter in model.drainer.dead()] == [True]


def fuzz(settings: Settings, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Run eight processes; return what was acknowledged and is not stored as it was, and all the program says."""
    named = ("table", "endpoint", "access_key_id", "valkey_url", "dynamodb_timeout", "valkey_timeout")
    told = {name: str(getattr(settings, name)) for name in named} | {"secret_access_key": "test"}
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        # warnings: from 3.12 on Python warns of every fork of a process with threads
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(PROGRAM), str(seed)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | {f"AGENTMODEL_{name.upper()}": value for name, value in told.items()},
        )
        model.table.delete()
    assert 0 == done.returncode, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return [one for one in result["acknowledged"] if result["stored"].count(one) != 1], result


def runs(settings: Settings, seeds: range) -> None:
    """Run the eight processes with each seed, each time on a table of its own."""
    for seed in seeds:
        missing, result = fuzz(settings.model_copy(update={"table": f"{settings.table}-{seed}"}), seed)

        assert [] == missing
        assert 8 * 3 * (3 + 5) == len(result["acknowledged"]) == len(result["stored"])
        assert 0 == result["failed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
class TestEightProcesses:
    """Eight processes with mixed settings go on with one session, drainers take over from each other, all are paused."""

    def test_some_runs(self, settings: Settings) -> None:
        """In two runs every acknowledged record is stored once, with its own content."""
        runs(settings, range(2))

    @pytest.mark.long
    @pytest.mark.timeout(3600)
    def test_fifty_runs(self, settings: Settings) -> None:
        """In fifty runs every acknowledged record is stored once, with its own content."""
        runs(settings, range(100, 150))
