"""What `agentmodel check` finds and mends: declarations, the live table, items."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from time import time
from typing import Any

import pytest

from agentmodel import keys
from agentmodel.access.patterns import PATTERNS, AccessPattern
from agentmodel.cli._doctor import _ENTITIES, check_declarations, check_items, check_table, repair, summary
from agentmodel.config import Settings
from agentmodel.dynamo._attribute import Attr
from agentmodel.dynamo.attributes import identifier, number, text
from agentmodel.dynamo.entity import Entity, key
from agentmodel.dynamo.models import Agent, Domain, Tool, ToolExecution
from agentmodel.dynamo.table import Table
from agentmodel.redshift.models import UserToolMappingHist
from agentmodel.redshift.warehouse import Warehouse


def _item(pk: str, sk: str, kind: str, **attributes: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in {"PK": pk, "SK": sk, "EntityType": kind, **attributes}.items()}


def _store(table: Table, item: dict[str, Any]) -> None:
    table.call("PutItem", TableName=table.name, Item=item)


AGENT = _item("AGT001", "METADATA", "Agent", GSI1_PK="DMN001", GSI1_SK="AGTSCORE#60", AgentNM="one", Score="60")
RETRY = _item("USR001#SESS1", "PRC001#AGT001#TL001#2", "UserSessPrcToolMappHist", ToolNM="FIND", SuccYN="Y")


class TestDeclarations:
    """Classes and patterns are checked against each other."""

    def test_the_nine_entities_and_eight_patterns_fit_together(self) -> None:
        """The shipped declarations have no problem."""
        assert [] == check_declarations()

    def test_two_entities_that_could_share_a_key_are_named(self) -> None:
        """A second class with an agent's keys is found, by both names."""

        class Robot(Entity, kind="Robot"):
            robot_id: Attr[str] = identifier("AGT")
            name: Attr[str] = text("RobotNM")

            partition = key(keys.AGENT, robot_id)
            sort = key(keys.METADATA)

        (problem,) = check_declarations((Agent, Robot), patterns=())

        assert ("D101", "Agent and Robot") == (problem.code, problem.location)

    def test_a_pattern_that_reads_a_neighbour_is_named(self) -> None:
        """A pattern over a whole agent's partition says that tools and the agent itself are in it."""
        wide = AccessPattern(9, "everything", None, keys.AGENT, None, False, (Tool,), False, "page")

        problems = check_declarations(_ENTITIES, patterns=(*PATTERNS, wide))

        assert ["D102"] == [p.code for p in problems]
        assert "Agent" in problems[0].reason

    def test_an_index_partition_where_parts_of_two_types_mix_is_named(self) -> None:
        """A class that puts plain names where domains have theirs is found."""

        class Region(Entity, kind="Region"):
            region_id: Attr[str] = identifier("RGN")
            name: Attr[str] = text("RegionNM")

            partition = key(keys.KeyFormat("region", keys._IdentifierPart("region_id", "RGN"), limit=2048), region_id)
            sort = key(keys.METADATA)
            index_partition = key(keys.DOMAINS)
            index_sort = key(keys.TEXT, name)

        assert ["D103"] == [p.code for p in check_declarations((Domain, Region), patterns=())]

    def test_a_stored_name_of_two_types_is_named(self) -> None:
        """`Description` as a number beside `Description` as text is found."""

        class Sized(Entity, kind="Sized"):
            sized_id: Attr[str] = identifier("SZD")
            size: Attr[int] = number("Description")

            partition = key(keys.KeyFormat("sized", keys._IdentifierPart("sized_id", "SZD"), limit=2048), sized_id)
            sort = key(keys.METADATA)

        (problem,) = check_declarations((Domain, Sized), patterns=())

        assert ("D104", True) == (problem.code, "Description" in problem.reason)


@pytest.fixture
def table(settings: Settings) -> Any:
    with Table(settings) as made:
        made.create()
        yield made
        made.delete()


class TestTable:
    """The live table is compared with the design."""

    def test_a_table_made_by_us_lacks_recovery_only(self, table: Table) -> None:
        """Keys, index, TTL and billing are as designed; point-in-time recovery is the account owner's choice."""
        assert ["T205"] == [problem.code for problem in check_table(table)]

    def test_every_difference_has_its_code(self, settings: Settings) -> None:
        """A table without index and TTL, with provisioned capacity, is told all of it at once."""
        with Table(settings) as table:
            table.call(
                "CreateTable",
                TableName=table.name,
                ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            )
            problems = check_table(table)
            table.delete()

        assert ["T201", "T202", "T203", "T204", "T205"] == [problem.code for problem in problems]

    def test_another_projection_and_another_ttl_are_told(self, settings: Settings) -> None:
        """An index without the attributes, and a TTL on another attribute, are differences."""
        schema = [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}]
        index = [{"AttributeName": f"GSI1_{each['AttributeName']}", "KeyType": each["KeyType"]} for each in schema]
        names = [each["AttributeName"] for each in schema + index]
        with Table(settings) as table:
            table.call(
                "CreateTable",
                TableName=table.name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
                KeySchema=schema,
                GlobalSecondaryIndexes=[
                    {"IndexName": "GSI1", "KeySchema": index, "Projection": {"ProjectionType": "KEYS_ONLY"}}
                ],
            )
            table.call(
                "UpdateTimeToLive",
                TableName=table.name,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": "Expires"},
            )
            problems = check_table(table)
            table.delete()

        assert ["T202", "T203", "T205"] == [problem.code for problem in problems]


class TestItems:
    """Items are compared with what their classes would write."""

    def test_the_samples_unpadded_score_is_mended(self, table: Table) -> None:
        """`AGTSCORE#60` becomes a key that sorts, and a second look finds nothing."""
        _store(table, AGENT)
        (problem,) = check_items(table)

        assert "I303" == problem.code
        assert repair(table, problem)
        assert [] == list(check_items(table))
        stored = table.get_item(Agent.at("AGT001"))
        assert stored is not None
        assert {"S": "AGTSCORE#00000060.000000"} == stored["GSI1_SK"]

    @pytest.mark.parametrize("name", ["GSI1_PK", "GSI1_SK"])
    def test_an_item_that_its_index_lacks_is_mended(self, table: Table, name: str) -> None:
        """An item without an index key is found by no pattern over the index, until it is mended."""
        item = Domain(domain_id="DMN001", name="store search").to_item()
        _store(table, {each: value for each, value in item.items() if each != name})
        (problem,) = check_items(table)

        assert ("I303", f"{name} is missing") == (problem.code, problem.reason)
        assert repair(table, problem)
        assert [item] == list(table.scan())

    def test_a_retry_with_a_plain_number_is_moved(self, table: Table) -> None:
        """`…#2` becomes `…#002` in one transaction."""
        _store(table, RETRY)
        (problem,) = check_items(table)

        assert "I305" == problem.code
        assert repair(table, problem)
        moved = table.get(ToolExecution.at("USR001", "SESS1", "PRC001", "AGT001", "TL001", 2))
        assert moved is not None
        assert 2 == moved.attempt

    def test_what_cannot_be_mended_is_told_and_left(self, table: Table) -> None:
        """An unknown kind and an unreadable item are named and stay as they are."""
        odd, broken = _item("ODD", "ODD", "Odd"), _item("USR001", "METADATA", "UserInfo")
        _store(table, odd)
        _store(table, broken)
        problems = list(check_items(table))

        assert {"I301": 1, "I302": 1} == summary(problems)
        assert [False, False] == [repair(table, problem) for problem in problems]
        assert 2 == len(list(table.scan()))

    def test_what_was_written_in_between_is_kept(self, table: Table) -> None:
        """A mend touches nothing but what it mends, and that only while it is as it was looked at."""
        _store(table, AGENT)
        (problem,) = check_items(table)
        _store(table, AGENT | {"Description": {"S": "newer"}})

        assert repair(table, problem)
        assert {"S": "newer"} == next(table.scan())["Description"]
        assert not repair(table, problem)

    def test_a_moved_item_is_not_taken_for_expired(self, table: Table) -> None:
        """Moved after a warehouse read it, and looked for once it has expired, an item counts under its new key only."""
        expiring = RETRY | {"ExpiresAt": {"N": str(int(time()) + 60)}}
        _store(table, expiring)
        with Warehouse.open("duckdb://", threads=1) as warehouse:
            warehouse.create()
            warehouse.land(list(table.scan()), at=datetime.now(UTC))
            assert all(repair(table, problem) for problem in check_items(table))
            landed = warehouse.land(list(table.scan()), at=datetime.now(UTC) + timedelta(hours=1))
            warehouse.refresh(as_of=date(2025, 6, 14))
            calls = warehouse.counts()[UserToolMappingHist.__tablename__]

        assert (1, 0) == (landed.erased, landed.expired)
        assert 1 == calls

    def test_a_moved_item_that_was_changed_in_between_stays(self, table: Table) -> None:
        """An item is moved as it was looked at, or not at all."""
        _store(table, RETRY)
        (problem,) = check_items(table)
        _store(table, RETRY | {"SuccYN": {"S": "N"}})

        assert not repair(table, problem)
        assert [RETRY["SK"]] == [item["SK"] for item in table.scan() if item["EntityType"]["S"] != "Deleted"]

    def test_looking_can_be_continued(self, table: Table) -> None:
        """The key that progress tells is where a later check goes on."""
        for place in range(5):
            _store(table, _item(f"ODD{place}", "ODD", "Odd"))
        seen: list[dict[str, Any]] = []
        first = [p.location for p in check_items(table, progress=lambda _, last: seen.append(last))]

        assert first[3:] == [problem.location for problem in check_items(table, start=seen[2])]
