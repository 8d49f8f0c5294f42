"""PynamoDB's methods on every entity, against a table with items of all classes, beside plain PynamoDB classes.

The plain classes have a discriminator, which is the most that PynamoDB has for shared partitions. Both are called in the
same way, and must see the same items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from pynamodb.attributes import DiscriminatorAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, UpdateError
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex
from pynamodb.models import Model
from pynamodb.transactions import TransactGet, TransactWrite

from agentmodel import keys as key_formats
from agentmodel.config import Settings
from agentmodel.dynamo.attributes import identifier, rating
from agentmodel.dynamo.entity import Attr, Entity, key
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import CorruptItem, KeyFormatError, ValidationError

pytestmark = pytest.mark.table  # each test asks the engine, though not by name

_E = TypeVar("_E", bound=Entity)

NOON = datetime(2025, 6, 14, 12, tzinfo=UTC)
SESSION: dict[str, Any] = {"user_id": "USR001", "session_id": "SESS1"}
CALL: dict[str, Any] = SESSION | {"agent_id": "AGT001", "tool_id": "TL001", "tool_name": "find", "succeeded": True}


def world() -> list[Entity]:
    """Three items of each class, which share partitions of table and index as far as their keys allow it."""
    found: list[Entity] = []
    for n in (1, 2, 3):
        found += [
            Domain(domain_id=f"DMN00{n}", name=f"domain {n}", version=n),
            Agent(agent_id=f"AGT00{n}", domain_id="DMN001", name="a", score=n * 10.5, version=n),
            Tool(agent_id="AGT001", tool_id=f"TL00{n}", domain_id="DMN001", name=f"tool {n}", version=n),
            User(user_id=f"USR00{n}", name="u", version=n),
            UserSession(user_id="USR001", session_id=f"SESS{n}", name=f"session {n}", version=n),
            UserSessionProcess(**SESSION, process_id=f"PRC00{n}", name="p", version=n),
            ToolExecution(**CALL, process_id="PRC001", attempt=n, version=n),
            UserToolMapping(
                user_id="USR001", category=f"way #{n}", processes={}, agents={}, tools={}, index_number=0, version=n
            ),
            Review(**SESSION, review_id=f"r-{n}", question="?", queue="q", due_at=NOON + timedelta(n), version=n),
            Suggestion(
                user_id="USR001", suggestion_id=f"s-{n}", suggested_at=NOON, source="s", candidates={}, steps=[], version=n
            ),
        ]  # fmt: skip
    return found


WORLD = world()
KINDS: list[type[Entity]] = list(dict.fromkeys(type(entity) for entity in WORLD))
FOREIGN = [  # of no entity class, and a copy that 0.1.0 made during an outage
    {"PK": {"S": "LEASE#publish"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Lease"}},
    {"PK": {"S": "AGT001"}, "SK": {"S": "ZZZ"}, "EntityType": {"S": "SomethingElse"}},
    {"PK": {"S": "OUTAGE#USR001%23SESS1"}, "SK": {"S": "PRC001"}, "EntityType": {"S": "UserSessionProcess"}},
]


@pytest.fixture(scope="module")
def table(dynamodb_endpoint: str) -> Iterator[Table]:
    """A table with the world, which the tests only read, bound to the process."""
    with filled(Settings.load(
        table="TestPynamoMethods", endpoint=dynamodb_endpoint, access_key_id="test", secret_access_key="test", dynamodb_timeout=10.0
    )) as made:  # fmt: skip
        yield made


class filled:  # noqa: N801  # used as a function is
    """A table with the world."""

    def __init__(self, settings: Settings) -> None:
        self.table = Table(settings)

    def __enter__(self) -> Table:
        self.table.create()
        for item in [*(entity.to_item() for entity in WORLD), *FOREIGN]:
            self.table.call("PutItem", TableName=self.table.name, Item=item)
        return self.table

    def __exit__(self, *_: object) -> None:
        self.table.delete()
        self.table.close()


@pytest.fixture(autouse=True)
def bound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bind the table that the test uses."""
    name = "own_table" if "own_table" in request.fixturenames else "table"
    made: Table = request.getfixturevalue(name)
    with made.bound():
        yield


@pytest.fixture
def own_table(settings: Settings) -> Iterator[Table]:
    """A table with the world, which the test changes."""
    with filled(settings) as made:
        yield made


@pytest.fixture(scope="module")
def plain(table: Table) -> dict[type[Entity], Any]:
    """PynamoDB's own way: a base class with a discriminator, and a class for each kind."""

    class Gsi1(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]  # PynamoDB's
        class Meta:
            index_name = "GSI1"
            projection = AllProjection()

        gsi1_pk = UnicodeAttribute(hash_key=True, attr_name="GSI1_PK")
        gsi1_sk = UnicodeAttribute(range_key=True, attr_name="GSI1_SK")

    class Base(Model):
        class Meta:
            table_name = table.name
            host = table.settings.endpoint
            region = table.settings.region
            aws_access_key_id = "test"
            aws_secret_access_key = "test"

        pk = UnicodeAttribute(hash_key=True, attr_name="PK")
        sk = UnicodeAttribute(range_key=True, attr_name="SK")
        kind = DiscriminatorAttribute(attr_name="EntityType")
        version = NumberAttribute(attr_name="Version")
        gsi1_pk = UnicodeAttribute(attr_name="GSI1_PK", null=True)
        gsi1_sk = UnicodeAttribute(attr_name="GSI1_SK", null=True)
        gsi1 = Gsi1()

    made: Any = type(Base)
    made("Else", (Base,), {}, discriminator="SomethingElse")
    return {kind: made(f"Plain{kind.__name__}", (Base,), {}, discriminator=kind.kind) for kind in KINDS}


Keys = list[tuple[str, str]]


def keys(found: Any) -> Keys:
    return [(each.pk, each.sk) for each in found]


def pages(read: Callable[..., Any], limit: int = 1) -> Keys:
    """Read a few items at a time, each time from where the last time ended."""
    found: Keys = []
    start = None
    while True:
        result = read(limit=limit, last_evaluated_key=start)
        part = keys(result)
        found += part
        start = result.last_evaluated_key
        if start is None or not part:
            return found


def transact_get(kind: Any, e: Entity) -> Keys:
    with TransactGet(connection=kind._get_connection().connection) as transaction:
        future = transaction.get(kind, e.pk, e.sk)
    return keys([future.get()])


READS: dict[str, Callable[[Any, Entity], Any]] = {
    "get": lambda kind, e: keys([kind.get(e.pk, e.sk)]),
    "get, consistent": lambda kind, e: keys([kind.get(e.pk, e.sk, consistent_read=True)]),
    "get, projected": lambda kind, e: [kind.get(e.pk, e.sk, attributes_to_get=["PK", "SK", "EntityType", "Version"]).version],
    "batch_get": lambda kind, e: sorted(keys(kind.batch_get([(e.pk, e.sk), (e.pk, e.sk)]))),
    "batch_get, projected": lambda kind, e: sorted(
        keys(kind.batch_get([(e.pk, e.sk)], attributes_to_get=["PK", "SK", "EntityType", "Version"]))
    ),
    "query": lambda kind, e: keys(kind.query(e.pk)),
    "query, consistent": lambda kind, e: keys(kind.query(e.pk, consistent_read=True)),
    "query, descending": lambda kind, e: keys(kind.query(e.pk, scan_index_forward=False)),
    "query, limit": lambda kind, e: keys(kind.query(e.pk, limit=2)),
    "query, page_size": lambda kind, e: keys(kind.query(e.pk, page_size=1)),
    "query, rate_limit": lambda kind, e: keys(kind.query(e.pk, rate_limit=1000)),
    "query, last_evaluated_key": lambda kind, e: pages(lambda **more: kind.query(e.pk, **more)),
    "query, =": lambda kind, e: keys(kind.query(e.pk, kind.sk == e.sk)),
    "query, <": lambda kind, e: keys(kind.query(e.pk, kind.sk < e.sk)),
    "query, <=": lambda kind, e: keys(kind.query(e.pk, kind.sk <= e.sk)),
    "query, >": lambda kind, e: keys(kind.query(e.pk, kind.sk > e.sk)),
    "query, >=": lambda kind, e: keys(kind.query(e.pk, kind.sk >= e.sk)),
    "query, between": lambda kind, e: keys(kind.query(e.pk, kind.sk.between("A", "V"))),
    "query, startswith": lambda kind, e: keys(kind.query(e.pk, kind.sk.startswith(e.sk[:3]))),
    "query, startswith nothing of it": lambda kind, e: keys(kind.query(e.pk, kind.sk.startswith("ZZ"))),
    "query, filter": lambda kind, e: keys(kind.query(e.pk, filter_condition=kind.version > 1)),
    "query, projected": lambda kind, e: keys(kind.query(e.pk, attributes_to_get=["PK", "SK", "EntityType", "Version"])),
    "query, projected, in pages": lambda kind, e: pages(
        lambda **more: kind.query(e.pk, attributes_to_get=["PK", "SK", "EntityType", "Version"], **more)
    ),
    "count": lambda kind, e: kind.count(e.pk),
    "count, range": lambda kind, e: kind.count(e.pk, kind.sk >= e.sk),
    "count, filter": lambda kind, e: kind.count(e.pk, filter_condition=kind.version > 1),
    "scan": lambda kind, _e: sorted(keys(kind.scan())),
    "scan, consistent": lambda kind, _e: sorted(keys(kind.scan(consistent_read=True))),
    "scan, filter": lambda kind, _e: sorted(keys(kind.scan(kind.version == 2))),
    "scan, segments": lambda kind, _e: sorted(keys([x for n in (0, 1) for x in kind.scan(segment=n, total_segments=2)])),
    "scan, last_evaluated_key": lambda kind, _e: sorted(pages(kind.scan, 2)),
    "scan, rate_limit": lambda kind, _e: sorted(keys(kind.scan(rate_limit=1000, page_size=9))),
    "scan, projected": lambda kind, _e: sorted(keys(kind.scan(attributes_to_get=["PK", "SK", "EntityType", "Version"]))),
    "transactions": transact_get,
}  # fmt: skip

INDEXED: dict[str, Callable[[Any, Entity], Any]] = {
    "query": lambda kind, e: keys(kind.gsi1.query(e.gsi1_pk)),
    "query, by name": lambda kind, e: keys(kind.query(e.gsi1_pk, index_name="GSI1")),
    "query, descending": lambda kind, e: keys(kind.gsi1.query(e.gsi1_pk, scan_index_forward=False)),
    "query, last_evaluated_key": lambda kind, e: pages(lambda **more: kind.gsi1.query(e.gsi1_pk, **more)),
    "query, >": lambda kind, e: keys(kind.gsi1.query(e.gsi1_pk, kind.gsi1_sk > e.gsi1_sk)),
    "query, startswith": lambda kind, e: keys(kind.gsi1.query(e.gsi1_pk, kind.gsi1_sk.startswith(str(e.gsi1_sk)[:2]))),
    "query, filter": lambda kind, e: keys(kind.gsi1.query(e.gsi1_pk, filter_condition=kind.version > 1)),
    "count": lambda kind, e: kind.gsi1.count(e.gsi1_pk),
    "scan": lambda kind, _e: sorted(keys(kind.gsi1.scan())),
}


def first(kind: type[_E]) -> _E:
    return next(entity for entity in WORLD if isinstance(entity, kind))


def seen(methods: dict[str, Callable[[Any, Entity], Any]], method: str, classes: dict[type[Entity], Any]) -> Any:
    """Return what a method gives on each class, without copies of outages, which plain PynamoDB cannot tell apart."""
    found = {kind.__name__: methods[method](classes[kind], first(kind)) for kind in classes}
    return {
        name: [key for key in each if not str(key).startswith("('OUTAGE")] if isinstance(each, list) else each
        for name, each in found.items()
    }


@pytest.mark.parametrize("method", READS)
def test_every_class_sees_its_own_items(method: str, plain: dict[type[Entity], Any]) -> None:
    """On each entity a method returns what it returns on a plain class with a discriminator."""
    assert seen(READS, method, plain) == seen(READS, method, {kind: kind for kind in KINDS})


@pytest.mark.parametrize("method", INDEXED)
def test_every_class_sees_its_own_items_in_the_index(method: str, plain: dict[type[Entity], Any]) -> None:
    """So does a method of the index; a class without index keys refuses it."""
    indexed = {kind: kind for kind in KINDS if first(kind).gsi1_pk is not None}
    for kind in set(KINDS) - set(indexed):
        with pytest.raises(ValidationError, match="is in no index"):
            INDEXED[method](kind, first(kind))

    assert seen(INDEXED, method, {kind: plain[kind] for kind in indexed}) == seen(INDEXED, method, indexed)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestReads:
    def test_gives_whole_entities(self, kind: type[Entity]) -> None:
        """What a query, a scan and a batch return are the entities that were written."""
        mine = [entity for entity in WORLD if type(entity) is kind]
        there = [entity for entity in mine if entity.pk == mine[0].pk]

        assert there == list(kind.query(mine[0].pk))
        assert mine == sorted(kind.scan(), key=lambda entity: entity.version or 0)
        assert mine == sorted(kind.batch_get(entity.key for entity in mine), key=lambda entity: entity.version or 0)
        assert mine[1] == kind.get(mine[1].key)
        assert 3 == kind.count()

    def test_costs_no_items_of_others(self, kind: type[Entity], table: Table) -> None:
        """A query reads the items that it returns and no others, but for processes and calls, which share a range."""
        found = kind.query(first(kind).pk)
        returned = len(list(found))
        indexed = kind.gsi1.query(first(kind).gsi1_pk or "") if first(kind).gsi1_pk else None

        assert (6 if kind in {UserSessionProcess, ToolExecution} else returned) == found.page_iter.total_scanned_count
        assert indexed is None or len(list(indexed)) == indexed.page_iter.total_scanned_count

    def test_a_key_of_another_class_is_refused(self, kind: type[Entity]) -> None:
        """To get, or to query, what no item of the class can have is refused by name before anything is sent."""
        for other in KINDS:
            entity = first(other)
            if other is not kind:
                with pytest.raises(KeyFormatError):
                    kind.get(entity.pk, entity.sk)
                with pytest.raises(KeyFormatError):
                    list(kind.batch_get([(entity.pk, entity.sk)]))

    def test_a_missing_item_does_not_exist(self, kind: type[Entity]) -> None:
        """The error is that of the class, and names the key."""
        entity = first(kind)
        pk = entity.pk.replace("001", "404")
        with pytest.raises(kind.DoesNotExist, match="404"):
            kind.get(pk, entity.sk)

        assert issubclass(kind.DoesNotExist, DoesNotExist)
        assert [] == list(kind.batch_get([(pk, entity.sk)]))

    def test_a_projection_has_what_was_asked_for(self, kind: type[Entity]) -> None:
        """Attributes that were not read raise when they are used, and the entity cannot be saved over the whole one."""
        field = next(f for f in kind.layout.fields.values() if f.stored and f.name not in {"version", "expires_at"})
        entity = first(kind)
        for wanted in (field, field.name, field.stored):
            found = kind.get(entity.key, attributes_to_get=[wanted])

            assert getattr(entity, field.name) == getattr(found, field.name)
            assert (entity.pk, entity.sk) == (found.pk, found.sk)
            with pytest.raises(ValidationError, match=r"version.*attributes_to_get"):
                _ = found.version
            with pytest.raises(ValidationError, match="attributes_to_get"):
                found.save()


# Conditions on attributes

BY_ATTRIBUTES: list[tuple[str, Callable[[], Any], Keys]] = [
    ("all of an agent", lambda: Tool.query(Tool.agent_id.eq("AGT001")), [("AGT001", f"TL00{n}") for n in (1, 2, 3)]),
    ("a beginning", lambda: Tool.query(Tool.agent_id.eq("AGT001"), Tool.tool_id.startswith("TL00")),
     [("AGT001", f"TL00{n}") for n in (1, 2, 3)]),
    ("one", lambda: Tool.query(Tool.agent_id == "AGT001", Tool.tool_id == "TL002"), [("AGT001", "TL002")]),
    ("below", lambda: Tool.query(Tool.agent_id.eq("AGT001"), Tool.tool_id.lt("TL003")),
     [("AGT001", "TL001"), ("AGT001", "TL002")]),
    ("above", lambda: Tool.query(Tool.agent_id.eq("AGT001"), Tool.tool_id > "TL002"), [("AGT001", "TL003")]),
    ("from, to", lambda: Tool.query("AGT001", Tool.tool_id.ge("TL002") & Tool.tool_id.le("TL002")), [("AGT001", "TL002")]),
    ("nothing", lambda: Tool.query("AGT001", Tool.tool_id.ge("TL003") & Tool.tool_id.le("TL001")), []),
    ("with the key", lambda: Tool.query("AGT001", Tool.tool_id.ge("TL002") & (Tool.sk < "TL003")), [("AGT001", "TL002")]),
    ("calls of a step", lambda: ToolExecution.query(
        ToolExecution.user_id.eq("USR001") & ToolExecution.session_id.eq("SESS1"), ToolExecution.process_id.eq("PRC001")),
     [("USR001#SESS1", f"PRC001#AGT001#TL001{more}") for more in ("", "#002", "#003")]),
    ("later attempts", lambda: ToolExecution.query(
        "USR001#SESS1", ToolExecution.process_id.eq("PRC001") & ToolExecution.agent_id.eq("AGT001")
        & ToolExecution.tool_id.eq("TL001") & ToolExecution.attempt.ge(2)),
     [("USR001#SESS1", f"PRC001#AGT001#TL001#00{n}") for n in (2, 3)]),
    ("steps from to", lambda: UserSessionProcess.query("USR001#SESS1", UserSessionProcess.process_id.between("PRC001", "PRC002")),
     [("USR001#SESS1", "PRC001"), ("USR001#SESS1", "PRC002")]),
    ("escaped text", lambda: UserToolMapping.query("USR001", UserToolMapping.category.startswith("way #2")),
     [("USR001", "UserPrcToolMapp#way %232")]),
    ("scores", lambda: Agent.gsi1.query(Agent.domain_id.eq("DMN001"), Agent.score.ge(21)),
     [("AGT002", "METADATA"), ("AGT003", "METADATA")]),
    ("scores below", lambda: Agent.gsi1.query(Agent.domain_id.eq("DMN001"), Agent.score.lt(21)), [("AGT001", "METADATA")]),
    ("names", lambda: Tool.gsi1.query(Tool.domain_id.eq("DMN001"), Tool.name.between("tool 2", "tool 3")),
     [("AGT001", "TL002"), ("AGT001", "TL003")]),
    ("names above", lambda: UserSession.gsi1.query(UserSession.user_id.eq("USR001"), UserSession.name.gt("session 1")),
     [("USR001", "SESS2"), ("USR001", "SESS3")]),
    ("times", lambda: Review.gsi1.query(Review.queue.eq("q"), Review.due_at.gt(NOON + timedelta(1))),
     [("USR001#SESS1", "REVIEW#r-2"), ("USR001#SESS1", "REVIEW#r-3")]),
    ("a number in the partition", lambda: UserToolMapping.gsi1.query(UserToolMapping.index_number.eq(0)),
     [("USR001", f"UserPrcToolMapp#way %23{n}") for n in (1, 2, 3)]),
]  # fmt: skip


class TestConditionsOnAttributes:
    @pytest.mark.parametrize(
        ("find", "expected"), [each[1:] for each in BY_ATTRIBUTES], ids=[each[0] for each in BY_ATTRIBUTES]
    )
    def test_make_the_key_condition(self, find: Callable[[], Any], expected: Keys) -> None:
        """Conditions on the attributes of a key become the one key condition: nothing else is read."""
        found = find()

        assert expected == keys(found)
        assert (
            len(expected) + (3 if expected[0:1] == [("USR001#SESS1", "PRC001")] else 0)
            == found.page_iter.total_scanned_count
        )

    @pytest.mark.parametrize(
        ("find", "message"),
        [
            (lambda: Tool.query(Tool.tool_id.eq("TL001")), r"hash_key .* must be a condition agent_id = …"),
            (lambda: Tool.query(Tool.agent_id.gt("AGT001")), r"hash_key .* must be a condition agent_id = …"),
            (lambda: ToolExecution.query(ToolExecution.user_id.eq("USR001")), "user_id = … & session_id = …"),
            (lambda: ToolExecution.query("USR001#SESS1", ToolExecution.tool_id.eq("TL001")), "process_id = … before one on tool_id"),
            (lambda: ToolExecution.query("USR001#SESS1", ToolExecution.process_id.gt("PRC001") & ToolExecution.agent_id.eq("AGT1")),
             "process_id = … before one on agent_id"),
            (lambda: Tool.query("AGT001", Tool.name.eq("x")), "use filter_condition"),
            (lambda: Tool.query("AGT001", Agent.agent_id.eq("AGT001")), "use filter_condition"),
            (lambda: Tool.query("AGT001", Tool.tool_id.ne("TL001")), "as DynamoDB takes it"),
            (lambda: Tool.query("AGT001", Tool.tool_id.eq("AGT001")), "not an id of an agent"),
            (lambda: Tool.query("AGT001", Tool.tool_id == Tool.name), "not with another attribute"),
            (lambda: Tool.query("AGT001", filter_condition=Tool.tool_id.eq("TL001")), "stored as a part of keys only"),
            (lambda: Tool.scan(Tool.agent_id.eq("AGT001") | Tool.name.eq("x")), "stored as a part of keys only"),
            (lambda: Tool.query("AGT001", index_name="GSI2"), "index_name .* must be GSI1"),
            (lambda: Tool.query("DMN001"), "must start with AGT"),
            (lambda: Tool.count(range_key_condition=Tool.tool_id.eq("TL001")), "without hash_key"),
            (lambda: Agent.gsi1.query("DMN001", Agent.score.startswith("6"))  # type: ignore[misc]  # by type checkers, too
           , "is not text"),
        ],
    )  # fmt: skip
    def test_that_cannot_be_used_is_named(self, find: Callable[[], Any], message: str) -> None:
        """A condition that DynamoDB would refuse, or silently never meet, is refused with what to do."""
        with pytest.raises(ValidationError, match=message):
            list(find())


def large(text: str = "x" * 500_000) -> Agent:
    return Agent(agent_id="AGT001", domain_id="DMN001", name="a", description=text)


def batched(agent: Agent) -> None:
    with Agent.batch_write() as batch:
        batch.save(agent)


CALLS = ToolExecution  # short, for the table below
NOT_SENT: list[tuple[str, Callable[[], Any], str]] = [
    ("get, no sort key", lambda: Tool.get("AGT001"), r"range_key .* must be given, because it is made of tool_id: Tool\.at"),
    ("get, None", lambda: User.get(None), r"user key \(None\) must be text"),  # type: ignore[arg-type]  # the mistake
    ("get, a number", lambda: Agent.get(3), r"agent key \(3\) must be text"),  # type: ignore[arg-type]  # the mistake
    ("batch_get, one text", lambda: Agent.batch_get("AGT001"), "items .* must be a list of keys"),  # type: ignore[arg-type]  # the mistake
    ("batch_get, no sort key", lambda: Tool.batch_get(["AGT001"]), "range_key .* must be given"),  # type: ignore[list-item]  # the mistake
    ("batch_get, half a key", lambda: Tool.batch_get([("AGT001",)]), "range_key .* must be given"),  # type: ignore[list-item]  # the mistake
    ("batch_get, entities", lambda: Agent.batch_get([first(Agent)]), "must be text"),  # type: ignore[list-item]  # the mistake
    ("transaction, no sort key", lambda: Tool.get_operation_kwargs_from_class("AGT001"), "range_key .* must be given"),
    ("query, partition None", lambda: Agent.query(None), r"\(None\) must be text"),  # type: ignore[arg-type]  # the mistake
    ("query, limit", lambda: Tool.query("AGT001", limit=-1), "limit .* must be a whole number from 0"),
    ("query, page_size", lambda: Tool.query("AGT001", page_size=0), "page_size .* must be a whole number from 1"),
    ("index, page_size", lambda: Agent.gsi1.query("DMN001", page_size=0), "page_size"),
    ("index, consistent", lambda: Agent.gsi1.query("DMN001", consistent_read=True), "consistent_read .* must be False"),
    ("scan, limit", lambda: Tool.scan(limit="2"), "limit"),  # type: ignore[arg-type]  # the mistake
    ("scan of the index, consistent", lambda: Agent.gsi1.scan(consistent_read=True), "consistent_read"),
    ("count, limit", lambda: Tool.count("AGT001", limit=0), "page_size"),
    ("count of the index, consistent", lambda: Agent.gsi1.count("DMN001", consistent_read=True), "consistent_read"),
    ("filter, a number for text", lambda: Agent.scan(Agent.description == 3), r"description \(3\) must be text"),
    ("filter, text for a flag", lambda: CALLS.scan(CALLS.succeeded == "no"), "succeeded .* must be True or False"),
    ("filter, a number in a text", lambda: Agent.scan(Agent.name.contains(3)), r"name \(3\) must be text"),
    ("condition, a number for a key", lambda: first(Tool).save(condition=Tool.sk == 3), r"SK \(3\) must be text"),
    ("update, a number for text", lambda: first(Agent).update([Agent.description.set(3)]), r"description \(3\) must be text"),  # type: ignore[arg-type]  # the mistake
    ("update, not a choice", lambda: first(CALLS).update([CALLS.status.set("weird")]), "status .* must be one of"),  # type: ignore[arg-type]  # the mistake
    ("update, below zero", lambda: first(CALLS).update([CALLS.duration_ms.set(-5)]), "must not be negative"),
    ("update, no time zone", lambda: first(CALLS).update([CALLS.executed_at.set(datetime(2025, 1, 1))]), "time zone"),  # noqa: DTZ001  # the mistake
    ("update, removing what is required", lambda: first(CALLS).update([CALLS.tool_name.remove()]), "tool_name .* must be given"),
    ("update, None for what is required", lambda: first(CALLS).update([CALLS.tool_name.set(None)]), "tool_name .* must be given"),  # type: ignore[arg-type]  # the mistake
    ("update, a change of the writer's", lambda: first(Agent).update([Agent.description.to("x")]), "made by set, remove or add"),  # type: ignore[list-item]  # the mistake
    ("save, too large", lambda: large().save(), r"Description .*item AGT001 / METADATA.* must be smaller"),
    ("save, no Unicode", lambda: large("\ud800").save(), r"Description .*item AGT001 / METADATA.* lone surrogates"),
    ("batch_write, no Unicode", lambda: batched(large("\ud800")), "lone surrogates"),
    ("update, too large", lambda: first(Agent).update([Agent.description.set("x" * 500_000)]), "must be smaller"),
    ("update, no Unicode", lambda: first(Agent).update([Agent.description.set("\ud800")]), "lone surrogates"),
    ("transaction, not a choice", lambda: first(CALLS).get_update_kwargs_from_instance([CALLS.status.set("weird")]), "must be one of"),  # type: ignore[arg-type]  # the mistake
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), [each[1:] for each in NOT_SENT], ids=[each[0] for each in NOT_SENT])
def test_what_cannot_be_right_is_not_sent(
    call: Callable[[], Any], message: str, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake that DynamoDB would refuse, or take and store, is refused by name before anything is sent."""
    sent: list[str] = []
    monkeypatch.setattr(table.client, "_make_api_call", lambda operation, _: sent.append(operation))

    with pytest.raises(ValidationError, match=message):
        call()
    assert [] == sent


def test_an_update_that_sets_none_removes_the_attribute(own_table: Table) -> None:
    """Operands are left to DynamoDB; None removes what may be missing, and is stored nowhere."""
    call = next(e for e in world() if isinstance(e, ToolExecution))
    call.update([ToolExecution.duration_ms.set(5), ToolExecution.result.set("x")])
    call.update([ToolExecution.duration_ms.set(ToolExecution.duration_ms + 2), ToolExecution.result.set(None)])

    (item,) = (item for item in stored(own_table) if item["SK"]["S"] == call.sk)
    assert {"N": "7"} == item["DurationMs"]
    assert "ResultMsg" not in item
    assert (7, None) == (call.duration_ms, call.result)


def stored(table: Table) -> list[dict[str, Any]]:
    """The items but for the marks of what was deleted."""
    items = [item for item in table.scan() if not item["PK"]["S"].startswith("DELETED#")]
    return sorted(items, key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_writes(kind: type[Entity], own_table: Table) -> None:
    """Save, refresh, update, delete, batches and transactions work on one class's item and leave the others alone."""
    entity = next(e for e in world() if type(e) is kind)
    before = stored(own_table)

    with pytest.raises(PutError):
        entity.save(condition=kind.pk.does_not_exist())
    entity.save(condition=kind.sk.exists() & (kind.version == 1))
    entity.update(actions=[kind.version.set(8)], condition=kind.version.lt(8))
    assert 8 == entity.version == kind.get(entity.key).version
    with pytest.raises(UpdateError):
        entity.update(actions=[kind.version.add(1)], condition=kind.version.lt(8))
    entity.version = 5
    entity.refresh(consistent_read=True)
    assert 8 == entity.version
    with TransactWrite(connection=kind._get_connection().connection) as transaction:
        transaction.update(entity, actions=[kind.version.set(9)], condition=kind.version == 8)
    with TransactWrite(connection=kind._get_connection().connection) as transaction:
        other = next(e for e in world() if type(e) is kind and e.version == 2)
        transaction.condition_check(kind, other.pk, other.sk, condition=kind.version == 2)
        transaction.save(entity)
    entity.delete(condition=kind.version.exists())
    with pytest.raises(kind.DoesNotExist):
        entity.refresh()
    with pytest.raises(UpdateError):  # PynamoDB would write an item without a type
        entity.update(actions=[kind.version.set(1)])
    with kind.batch_write() as batch:
        batch.save(entity)
    entity.version = 1
    with kind.batch_write() as batch:
        batch.save(entity)

    assert before == stored(own_table)


def test_a_part_of_a_key_is_changed_by_the_writer_only(own_table: Table) -> None:
    """PynamoDB's update of an attribute that is stored in a key only would write an attribute that nobody reads."""
    with pytest.raises(ValidationError, match=r"Writer\.update"):
        first(Agent).update(actions=[Agent.domain_id.set("DMN002")])


@pytest.mark.parametrize("shared", [False, True], ids=["a range of its own", "a range shared with another class"])
def test_an_item_of_another_class_or_without_a_type_is_refused_by_name(
    own_table: Table, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged item is not taken for something else, nor passed over, by any read that reaches it."""
    registry = {kind.kind: kind for kind in KINDS}  # other files declare classes
    monkeypatch.setattr("agentmodel.dynamo._pynamo_methods.KINDS", registry)
    if shared:

        class Robot(Entity, kind="TestSharedRobot"):
            agent_id: Attr[str] = identifier("AGT")
            domain_id: Attr[str] = identifier("DMN")
            score: Attr[float] = rating("Score", default=0.0)

            partition = key(key_formats.AGENT, agent_id)
            sort = key(key_formats.METADATA)
            index_partition = key(key_formats.DOMAIN, domain_id)
            index_sort = key(key_formats.AGENT_SCORE, score)

        registry[Robot.kind] = Robot
        robot = Robot(agent_id="AGT009", domain_id="DMN001", score=1.0)
        own_table.call("PutItem", TableName=own_table.name, Item=robot.to_item())
        assert 3 == len(list(Agent.gsi1.query("DMN001"))) == Agent.gsi1.count("DMN001")
        assert [robot] == list(Robot.gsi1.query("DMN001"))
        assert [] == list(Agent.query("AGT009"))
    for kind in ("Tool", "Unknown", None):
        item = {name: wire for name, wire in first(Agent).to_item().items() if name != "EntityType"}
        own_table.call(
            "PutItem", TableName=own_table.name, Item=item | ({} if kind is None else {"EntityType": {"S": kind}})
        )
        problem = "EntityType is missing" if kind is None else f"EntityType is {kind}"
        reads: list[Callable[[], Any]] = [
            lambda: Agent.get("AGT001"),
            lambda: Agent.get("AGT001", attributes_to_get=["name"]),
            lambda: list(Agent.query("AGT001")),
            lambda: list(Agent.gsi1.query("DMN001")),
            lambda: list(Agent.batch_get([Agent.at("AGT001")])),
            lambda: first(Agent).refresh(),
            lambda: own_table.get(Agent.at("AGT001")),
        ]
        for read in reads:
            with pytest.raises(CorruptItem, match=f"AGT001 / METADATA: attribute {problem}, so"):
                read()


def test_the_table_is_that_of_all_classes(settings: Settings) -> None:
    """Any class creates the one table as the design has it, says whether it exists, and deletes it."""
    with Table(settings) as made, made.bound():
        assert not Review.exists()

        Review.create_table(wait=True)
        Tool.create_table()

        assert Agent.exists()
        assert [] == made.verify()
        assert "PAY_PER_REQUEST" == Domain.describe_table()["BillingModeSummary"]["BillingMode"]
        Domain.delete_table()
        assert not made.exists()


def test_unprocessed_keys_and_items_are_sent_again(own_table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is complete also when DynamoDB leaves a part unprocessed, in a table of any name."""
    send = own_table.client._make_api_call
    left: list[str] = []

    def halfway(operation: str, request: dict[str, Any]) -> Any:
        if operation == "BatchGetItem" and len(left) < 3:
            wanted = request["RequestItems"][own_table.name]["Keys"]
            left.append(operation)
            request = {"RequestItems": {own_table.name: {"Keys": wanted[:1]}}}
            return send(operation, request) | {
                "UnprocessedKeys": {own_table.name: {"Keys": wanted[1:]}} if wanted[1:] else {}
            }
        if operation == "BatchWriteItem" and len(left) < 4:
            wanted = request["RequestItems"][own_table.name]
            left.append(operation)
            return send(operation, {"RequestItems": {own_table.name: wanted[:1]}}) | {
                "UnprocessedItems": {own_table.name: wanted[1:]}
            }
        return send(operation, request)

    monkeypatch.setattr(own_table.client, "_make_api_call", halfway)
    tools = [Tool(agent_id="AGT001", tool_id=f"TL10{n}", domain_id="DMN001", name="x") for n in range(5)]
    found = sorted(keys(Tool.batch_get([("AGT001", f"TL00{n}") for n in (1, 2, 3)])))
    with Tool.batch_write() as batch:
        for tool in tools:
            batch.save(tool)

    assert [("AGT001", f"TL00{n}") for n in (1, 2, 3)] == found
    assert ["BatchGetItem"] * 3 + ["BatchWriteItem"] == left
    assert tools == list(Tool.query("AGT001", Tool.tool_id.startswith("TL1")))


def test_the_connection_is_the_tables(table: Table) -> None:
    """A transaction of PynamoDB's can be given the connection of the bound table."""
    assert isinstance(Agent._get_connection().connection, Connection)
