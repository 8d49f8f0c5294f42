"""A table of an earlier version, brought up to this one beside recorders, and a table of a newer version, refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agentmodel import AgentModel, Settings, UserSession, keys
from agentmodel._values.categories import derived_name
from agentmodel.cli import main
from agentmodel.dynamo import _table_migration as migration
from agentmodel.dynamo._attribute import Attr
from agentmodel.dynamo._layout import KINDS
from agentmodel.dynamo.attributes import identifier, text
from agentmodel.dynamo.entity import Entity, Item, key, lookup, upgrade
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ConfigurationError, Conflict, LeaseHeld, NewerData
from tests.integration import stored

DERIVED = derived_name("find a café")
USER = "USRolder"
MARK = ("PUBLISH", "METADATA")
"""The key of the item that has the number of the format."""


def session(number: int, category: str) -> Item:
    """A session as 0.1.0 wrote it."""
    texts = {
        "PK": USER, "SK": f"SESS{number:03d}", "EntityType": "UserSession", "GSI1_PK": USER, "GSI1_SK": "a session",
        "UserSessionNM": "a session", "SessionStartDT": f"202506010000{number % 60:02d}000000", "Category": category,
        "LoyaltyTier": "the application's own",
    }  # fmt: skip
    numbers = {"SchemaVer": "1", "Version": str(number), "ExpiresAt": "4904010050"}
    return {name: {"S": each} for name, each in texts.items()} | {name: {"N": each} for name, each in numbers.items()}


OLDER = [session(1, "~ cafés"), session(2, DERIVED), session(3, "typed"), session(4, "~")]


@pytest.fixture(params=["few items"])
def table(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Table]:
    """A table as 0.1.0 left it, and sessions whose categories begin with the character that now marks derived ones."""
    items = stored.table_items()
    if request.param != "all items":
        items = [item for item in items if item["PK"]["S"] in ("OUTAGE", "PUBLISH", "DMN001", "AGT001")]
    stored.fill_table(settings.table, str(settings.endpoint), stored=[*items, *OLDER])
    with Table(settings.model_copy(update={"valkey_url": None})) as made:
        yield made
        made.delete()


def stop_at(table: Table, pk: str) -> None:
    """Leave the table as a migration to another format that was stopped at an item does."""
    reached = {"M": {name: {"S": value} for name, value in zip(("PK", "SK"), (pk, "SESS004"), strict=True)}}
    table.call("UpdateItem", TableName=table.name, Key=migration.FORMAT_KEY,
               UpdateExpression="SET MigratingTo = :t, MigratedKey = :r",
               ExpressionAttributeValues={":t": {"M": {"FormatNo": {"N": "1"}}}, ":r": reached})  # fmt: skip


def held(table: Table) -> dict[tuple[str, str], Item]:
    """Everything in the table, by key."""
    items = stored.all_items(table.name, table.where)
    return {(item["PK"]["S"], item["SK"]["S"]): item for item in items}


def differing(before: dict[tuple[str, str], Item], after: dict[tuple[str, str], Item]) -> dict[Any, set[str]]:
    """The attributes in which items differ, by key; of one that is not in both, none."""
    return {
        one: {name for name in {**before[one], **after[one]} if before[one].get(name) != after[one].get(name)}
        if one in before and one in after
        else set()
        for one in before.keys() | after.keys()
        if before.get(one) != after.get(one)
    }  # fmt: skip


def number_of(items: dict[tuple[str, str], Item]) -> str | None:
    found: str | None = items[MARK].get("FormatNo", {}).get("N")
    return found


@pytest.mark.parametrize("table", ["all items"], indirect=True)
class TestWhatAnEarlierVersionStored:
    def test_is_shown_first_and_then_brought_up(self, table: Table) -> None:
        """Showing writes nothing; applying changes what was shown and nothing else; then nothing is left to do."""
        before = held(table)
        shown = table.migration()

        assert before == held(table)
        assert [
            (table.name, "marks of drainers of 0.1.0, which nobody reads any more, are deleted: 1"),
            (table.name, "typed categories that begin with ~, as only derived ones do now, lose it: 2"),
        ] == [(each.table, each.text) for each in shown]
        assert shown == table.migrate()
        after = held(table)
        assert {
            (USER, "SESS001"): {"Category", "Version"},
            (USER, "SESS004"): {"Category", "Version"},
            ("OUTAGE", "DRAINERS"): set(),
            MARK: {"FormatNo", "SchemaVers"},
        } == differing(before, after)
        assert ["cafés", DERIVED, "typed", None] == [
            UserSession.from_item(after[USER, f"SESS{number:03d}"]).category for number in range(1, 5)
        ]
        assert [] == table.migration() == table.migrate()
        assert after == held(table)

    def test_the_same_command_brings_the_warehouse_up(
        self, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`agentmodel migrate` shows and makes both; `agentmodel warehouse migrate` asks for no table."""
        bind(monkeypatch, tmp_path, table, stored.warehouse_url(tmp_path))
        before = held(table)

        def changes(*words: str) -> tuple[bool, list[str]]:
            assert 0 == main([*words, "--json"])
            answer = json.loads(capsys.readouterr().out)
            return answer["applied"], [change["table"] for change in answer["changes"]]

        applied, both = changes("migrate")
        assert (False, 2) == (applied, both.count(table.name))
        assert (False, [each for each in both if each != table.name]) == changes("warehouse", "migrate")
        assert before == held(table)
        assert (True, both) == changes("migrate", "--apply")
        assert (False, []) == changes("migrate")
        assert "2" == number_of(held(table))
        assert 0 == main(["migrate"])
        assert "Everything is up to date" in capsys.readouterr().out

    def test_the_next_publish_fills_in_what_it_computes(self, table: Table, settings: Settings, tmp_path: Path) -> None:
        """What 0.1.0 did not store of agents and tools needs no migration: a publish writes all of it."""
        url = stored.warehouse_url(tmp_path)
        with AgentModel.from_settings(settings.model_copy(update={"warehouse_url": url, "valkey_url": None})) as model:
            model.migrate(apply=True)
            model.refresh(as_of=date(2025, 6, 21))
            model.publish(as_of=date(2025, 6, 21))
        after = held(table).values()
        tools = [item for item in after if item["EntityType"]["S"] == "Tool" and "LastErrorMsg" in item]

        assert [] == [item["SK"] for item in tools if "LastErrorBy" not in item]
        assert [] == [item["PK"] for item in after if item["EntityType"]["S"] == "Domain" and "SuccessCounts" not in item
                      and item["PK"]["S"] != "DMN002"]  # fmt: skip
        assert "2" == number_of(held(table))  # the run item keeps it


class TestAMigrationThatIsStopped:
    def test_goes_on_where_it_was(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """Killed after any page, it goes on after that page, and the result is that of an undisturbed one."""
        in_pages(table, monkeypatch, 2)
        before = held(table)
        starts: list[Any] = []
        watch(table, monkeypatch, lambda _, request: starts.append(request.get("ExclusiveStartKey")), "Scan")
        stopped = 0
        while True:
            seen = 0

            def stop(_: str, done: int, __: int) -> None:
                nonlocal seen
                seen += 1
                if seen == 2:  # the page before it is stored
                    raise KeyboardInterrupt

            first = len(starts)
            try:
                table.migrate(progress=stop)
                break
            except KeyboardInterrupt:
                stopped += 1
                assert None not in starts[first + 1 :]

        assert stopped > 1
        assert 1 == starts.count(None)
        assert {"Category", "Version"} == differing(before, held(table))[USER, "SESS001"]
        assert not {"MigratingTo", "MigratedKey"} & held(table)[MARK].keys()
        assert "2" == number_of(held(table))

    def test_of_another_version_is_begun_anew(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a migration to another format was stopped, this one looks at all items."""
        stop_at(table, USER)
        table.migrate()

        assert {"S": "cafés"} == held(table)[USER, "SESS001"]["Category"]

    @pytest.mark.parametrize(("pk", "named"), [(USER, False), (f"{USER}#SESS004", False), ("USRother", True)])
    def test_names_no_erased_user(self, table: Table, settings: Settings, pk: str, *, named: bool) -> None:
        """Where it stopped at an item of a user who is erased then, the place goes; at that of another one it stays."""
        stop_at(table, pk)
        with AgentModel(settings) as model:
            report = model.erase_user(USER)

        assert named == ("MigratedKey" in held(table)[MARK])
        assert named != report.removed["table"].get("places of stopped migrations", False)


class TestBesideRecorders:
    def test_no_write_is_lost(self, table: Table, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is written between the read of an item and its change stays, and is migrated too."""
        writes = iter(range(100))

        def write_first(_: str, request: dict[str, Any]) -> None:
            if request["Key"]["SK"] == {"S": "SESS001"} and next(writes) < 2:
                table.client.update_item(
                    TableName=table.name, Key=request["Key"], UpdateExpression="SET SessionSummary = :s ADD Version :one",
                    ExpressionAttributeValues={":s": {"S": "written meanwhile"}, ":one": {"N": "1"}},
                )  # fmt: skip

        watch(table, monkeypatch, write_first, "UpdateItem")
        table.migrate()
        after = held(table)[USER, "SESS001"]

        assert ("cafés", "written meanwhile") == (after["Category"]["S"], after["SessionSummary"]["S"])

    def test_what_is_deleted_meanwhile_stays_deleted(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """An item that is gone when it is changed is not written again."""

        def delete_first(_: str, request: dict[str, Any]) -> None:
            if request["Key"]["SK"] == {"S": "SESS001"}:
                table.client.delete_item(TableName=table.name, Key=request["Key"])

        watch(table, monkeypatch, delete_first, "UpdateItem")
        table.migrate()

        assert (USER, "SESS001") not in held(table)

    def test_an_item_that_never_rests_is_named(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where others write an item each time, it gives up with the item's key, and the table is not marked."""

        def conflict(before: Item, after: Item | None) -> None:
            raise Conflict("changed")

        monkeypatch.setattr(table, "change_item", conflict)
        with pytest.raises(Conflict, match="20 times in a row: migrate again"):
            table.migrate()

        assert None is number_of(held(table))

    def test_copies_in_valkey_are_dropped(self, table: Table, settings: Settings) -> None:
        """What is read afterwards is what was written, although it was cached before."""
        with AgentModel.from_settings(settings) as model:
            before = [each.category for each in model.repository.sessions(USER)]
            model.migrate(apply=True, only="table")
            after = [each.category for each in model.repository.sessions(USER)]

        assert ("~ cafés", "cafés") == (before[-1], after[-1])

    def test_older_copies_on_their_way_are_refused(self, table: Table, settings: Settings) -> None:
        """A copy that a journal of before the migration still holds does not replace the migrated item."""
        with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
            model.migrate(apply=True, only="table")
            written = model.writer.put_newer(session(1, "~ cafés"), 1)

        assert False is written

    def test_two_at_once(self, table: Table, settings: Settings) -> None:
        """One works, the other waits for it and then finds nothing to do; without waiting it says who works."""
        with table.lease(doing="seed"), pytest.raises(LeaseHeld, match="seed"):
            table.migrate(wait=0)
        done: list[int] = []
        threads = [threading.Thread(target=lambda: done.append(len(table.migrate()))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert [0, 2] == sorted(done)


def uses(model: AgentModel) -> dict[str, Callable[[], object]]:
    """Everything that changes or counts many stored items."""
    return {
        "migrate": model.migrate,
        "apply": lambda: model.migrate(apply=True),
        "table": lambda: model.migrate(only="table"),
        "publish": model.publish,
        "refresh": model.refresh,
        "erase": lambda: model.erase_user("mina"),
        "import": lambda: model.import_traces("none.jsonl"),
        "lease": lambda: model.table.lease(doing="a change of mine").__enter__(),
    }


class TestANewerTable:
    def test_is_refused_in_words(self, table: Table, settings: Settings, tmp_path: Path) -> None:
        """Nothing of it is changed, learned from or erased; the message says what to do, with its code."""
        write_number(table, migration.FORMAT + 1)
        before = held(table)
        with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
            for name, use in uses(model).items():
                with pytest.raises(NewerData, match=r"has format 3, which a newer agentmodel made.*upgrade") as raised:
                    use()
                assert ("AM-113", True) == (raised.value.code, isinstance(raised.value, ConfigurationError)), name

        leases = {one for one in held(table) if one[0].startswith("LEASE#")}
        assert before == {one: item for one, item in held(table).items() if one not in leases}

    def test_stays_where_the_warehouse_is_newer(self, table: Table, settings: Settings, tmp_path: Path) -> None:
        """Beside a warehouse of a newer version, which is refused, an older table is not changed either."""
        url = stored.warehouse_url(tmp_path)
        with duckdb.connect(url.removeprefix("duckdb:///")) as connection:
            connection.execute("CREATE TABLE warehouse_version AS SELECT 9 AS version")
        before = held(table)
        with (
            AgentModel.from_settings(settings.model_copy(update={"warehouse_url": url, "valkey_url": None})) as model,
            pytest.raises(NewerData, match="the warehouse has schema 9"),
        ):
            model.migrate(apply=True)

        assert before == held(table)

    def test_commands_exit_with_the_code(
        self, table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """A command ends with the message and the code, and repairs nothing."""
        write_number(table, migration.FORMAT + 1)
        bind(monkeypatch, tmp_path, table, "duckdb://")
        for words in (["check"], ["check", "--fix"], ["migrate"], ["refresh"], ["erase", "mina", "--yes"]):
            assert 0 != main(words), words
            assert "(AM-113)" in capsys.readouterr().err, words

    def test_can_still_be_recorded_into(self, table: Table, settings: Settings) -> None:
        """Records are kept, since their items say which version wrote them: nothing that happens is lost."""
        write_number(table, migration.FORMAT + 1)
        with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
            with model.session(USER, session_id="SESSnew") as running, running.process("look"):
                pass
            assert model.repository.session(USER, "SESSnew") is not None


class TestUpgradesOfClasses:
    def test_older_items_are_written_back(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """Items of an older SchemaVer of a class, an application's own too, get the form of today, once."""

        class Note(Entity, kind="MigratedNote", schema=2):
            user_id: Attr[str] = identifier("USR")
            title: Attr[str] = text("Title")
            at = lookup(user_id)
            partition = key(keys.USER, user_id)
            sort = key(keys.METADATA)

        @upgrade(Note, 1)
        def in_capitals(old: Item) -> Item:
            return {**old, "Title": {"S": old["Title"]["S"].upper()}} if "Title" in old else old

        monkeypatch.setitem(KINDS, "MigratedNote", Note)
        older = [
            {"PK": {"S": f"USRnote{number}"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "MigratedNote"}} | rest
            for number, rest in enumerate([{"Title": {"S": "old"}}, {}])
        ]
        for item in older:
            table.call("PutItem", TableName=table.name, Item=item)
        shown = table.migration()

        assert "items in an older form of their class are written in the present one: 1" in str(shown)
        assert shown == table.migrate()
        assert [("OLD", "2")] == [
            (item["Title"]["S"], item["SchemaVer"]["N"]) for one, item in held(table).items() if one[0] == "USRnote0"
        ]
        assert older[1] == held(table)["USRnote1", "METADATA"]  # it cannot be read: `agentmodel check` names it
        assert [] == table.migration()
        monkeypatch.delitem(KINDS, "MigratedNote")
        assert [] == table.migrate()  # a program that does not know the class forgets nothing
        monkeypatch.setitem(KINDS, "MigratedNote", Note)
        assert [] == table.migration()


def bind(monkeypatch: pytest.MonkeyPatch, folder: Path, table: Table, warehouse_url: str) -> None:
    """Tell the command line of the table by its settings."""
    monkeypatch.chdir(folder)
    given = {
        "TABLE": table.name, "ENDPOINT": table.where, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test",
        "WAREHOUSE_URL": warehouse_url,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"AGENTMODEL_{name}", value)


def write_number(table: Table, number: int) -> None:
    table.call("UpdateItem", TableName=table.name, Key=migration.FORMAT_KEY, UpdateExpression="SET FormatNo = :n",
               ExpressionAttributeValues={":n": {"N": str(number)}})  # fmt: skip


def watch(
    table: Table, monkeypatch: pytest.MonkeyPatch, told: Callable[[str, dict[str, Any]], object], operation: str
) -> None:
    """Tell of each request of one operation before it is sent."""
    send = table.call

    def call(name: str, **request: Any) -> dict[str, Any]:
        if name == operation:
            told(name, request)
        return send(name, **request)

    monkeypatch.setattr(table, "call", call)


def in_pages(table: Table, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let each Scan look at few items."""
    send = table.call

    def call(name: str, **request: Any) -> dict[str, Any]:
        return send(name, **(request | {"Limit": limit} if name == "Scan" else request))

    monkeypatch.setattr(table, "call", call)
