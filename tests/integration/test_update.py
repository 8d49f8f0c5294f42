"""Updates of single attributes: index keys follow, nothing else is touched, nothing goes stale."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from agentmodel import keys
from agentmodel._runtime.clock import HybridClock
from agentmodel.config import Settings
from agentmodel.dynamo import models
from agentmodel.dynamo._attribute import Attr, Change, Field
from agentmodel.dynamo.attributes import identifier, number, rating, text
from agentmodel.dynamo.entity import Entity, key, lookup
from agentmodel.dynamo.models import Agent, Domain, Review, ToolExecution, User, UserSessionProcess
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import NotFound, StaleVersion, ValidationError


class Ticket(Entity, kind="TestTicket"):
    """Its index key has two parts, one of which may be absent."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    title: Attr[str] = text("Title")
    team: Attr[str | None] = text("Team", default=None)
    rank: Attr[float] = rating("Rank", default=0.0)
    tally: Attr[int | None] = number("Tally", default=None)

    at = lookup(user_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.SESSION_ITEMS, user_id, session_id)
    index_sort = key(keys.TEXT, team)


class Pair(Entity, kind="TestPair"):
    """Its index partition is made of two attributes that are in no other key."""

    domain_id: Attr[str] = identifier("DMN")
    owner_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    note: Attr[str | None] = text("Note", default=None)

    at = lookup(domain_id)
    partition = key(keys.DOMAIN, domain_id)
    sort = key(keys.METADATA)
    index_partition = key(keys.SESSION_ITEMS, owner_id, session_id)
    index_sort = key(keys.TEXT, note)


ENTITIES: list[type[Entity]] = [
    *(
        kind
        for kind in vars(models).values()
        if isinstance(kind, type) and issubclass(kind, Entity) and kind is not Entity
    ),
    Ticket,
    Pair,
]

FEEDING = [
    pytest.param(entity, field, id=f"{entity.__name__}.{field.name}")
    for entity in ENTITIES
    for stored, made in entity.layout.keys.items()
    for field in made.attributes
    if stored.startswith("GSI1") and not field.in_primary_key
]

STORED = [
    pytest.param(entity, field, id=f"{entity.__name__}.{field.name}")
    for entity in ENTITIES
    for field in entity.layout.fields.values()
    if field.stored and field.name != "version"
]

PRIMARY = [
    pytest.param(entity, field, id=f"{entity.__name__}.{field.name}")
    for entity in ENTITIES
    for field in entity.layout.fields.values()
    if field.in_primary_key
]


@pytest.fixture(scope="module")
def one_table(dynamodb_endpoint: str) -> Iterator[Table]:
    """One table and one client for all tests here; `writer` empties it."""
    settings = Settings(
        table=f"Test-{uuid.uuid4().hex[:12]}", endpoint=dynamodb_endpoint, access_key_id="test",
        secret_access_key=SecretStr("test"),
        dynamodb_timeout=10.0,
    )  # fmt: skip
    with Table(settings) as table:
        table.create()
        yield table
        table.delete()


@pytest.fixture
def writer(one_table: Table) -> Writer:
    writer = Writer(one_table, clock=HybridClock())
    for item in list(one_table.scan()):
        one_table.call("DeleteItem", TableName=one_table.name, Key={name: item[name] for name in ("PK", "SK")})
    return writer


def value_of(field: Field, number: int) -> Any:
    """One of several values an attribute takes."""
    kind = type(field).__name__
    moment = datetime(2030, 6, number, tzinfo=UTC)
    if kind == "_IdentifierField":
        return f"{getattr(field, 'prefix', '')}{number}"
    choices = getattr(field, "choices", ("",))
    shape = getattr(field, "shape", None)
    if shape is not None:  # an attribute of JSON that takes nothing else
        return next(value for value in ([f"text {number}"], {"n": [number]}) if shape.fits(value))
    by_kind: dict[str, Any] = {
        "_Number": number, "_Count": number, "_KeyCount": number, "_ScoreField": float(number), "_Flag": number % 2 == 0, "_Moment": moment,
        "_Epoch": moment, "_Json": {"n": str(number)}, "_Choice": choices[number % len(choices)],
    }  # fmt: skip
    return by_kind.get(kind, f"text {number}")


def made(entity: type[Entity]) -> Any:
    return entity(**{name: value_of(field, 1) for name, field in entity.layout.fields.items() if name != "version"})


Way = Callable[[Writer, Any, Field, Any], Any]


def by_entity(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    writer.update(entity, field.to(value))


def by_key(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    writer.update(entity.key, field.to(value), *others(entity, field))


def by_save(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    setattr(entity, field.name, value)
    writer.save(entity)


def by_put(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    setattr(entity, field.name, value)
    writer.put(entity)


def by_batch(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    setattr(entity, field.name, value)
    with writer.batch() as batch:
        batch.put(entity)


def by_transaction(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    setattr(entity, field.name, value)
    writer.transact(put=[entity])


def by_pynamodb_save(writer: Writer, entity: Any, field: Field, value: Any) -> None:
    setattr(entity, field.name, value)
    with writer.table.bound():
        entity.save()


WAYS = [by_entity, by_key, by_save, by_put, by_batch, by_transaction, by_pynamodb_save]


def others(entity: Any, field: Field) -> list[Change]:
    """Changes that name the other parts of the index keys an attribute feeds, as an update by key has to."""
    parts = {
        part.name: part
        for stored, made in type(entity).layout.keys.items()
        if stored.startswith("GSI1") and field.name in [each.name for each in made.attributes]
        for part in made.attributes
        if part.name != field.name and not part.in_primary_key
    }
    return [part.to(getattr(entity, name)) for name, part in parts.items()]


class TestIndexKeysFollow:
    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
    @pytest.mark.parametrize(("entity", "field"), FEEDING)
    def test_every_feeding_attribute_in_every_way(
        self, writer: Writer, entity: type[Entity], field: Field, way: Way
    ) -> None:
        """After any write of an attribute that feeds an index key, the stored keys are those of the stored attributes."""
        subject = made(entity)
        writer.save(subject)
        way(writer, subject, field, value_of(field, 2))
        stored = writer.table.get_item(subject.key)

        assert stored is not None
        assert value_of(field, 2) == getattr(entity.from_item(stored), field.name)
        assert entity.from_item(stored).to_item() == stored

    @pytest.mark.parametrize(("entity", "field"), [p for p in FEEDING if not p.values[1].required])  # type: ignore[union-attr]  # a Field
    def test_a_removed_part_takes_its_key_along(self, writer: Writer, entity: type[Entity], field: Field) -> None:
        """None removes an attribute, and with it the index key, so that the item leaves the index."""
        subject = made(entity)
        writer.put(subject)
        writer.update(subject, field.to(None))
        stored = writer.table.get_item(subject.key)

        assert stored is not None
        assert field.stored not in stored
        assert entity.from_item(stored).to_item() == stored

    def test_the_index_finds_it_under_the_new_key(self, writer: Writer) -> None:
        """An agent is found by its new score, in order, at once after the update."""
        for place in (1, 2):
            writer.put(Agent(agent_id=f"AGT{place}", domain_id="DMN1", name="a", score=place * 10.0))
        writer.update(Agent.at("AGT1"), Agent.score.to(30.0))

        with writer.table.bound():
            found = [agent.agent_id for agent in Agent.gsi1.query("DMN1", scan_index_forward=False)]

        assert ["AGT1", "AGT2"] == found


class TestOtherParts:
    def test_by_key_an_unknown_part_is_named(self, writer: Writer) -> None:
        """An update by key that leaves a part of an index key open names the part and sends nothing."""
        writer.put(made(Pair))

        with pytest.raises(ValidationError, match=r"session_id.*is a part of the index key GSI1_PK"):
            writer.update(Pair.at("DMN1"), Pair.owner_id.to("USR2"))

    def test_by_key_a_part_of_the_primary_key_is_known(self, writer: Writer) -> None:
        """What the primary key says need not be said again."""
        writer.put(made(Ticket))
        after = writer.update(Ticket.at("USR1"), Ticket.session_id.to("SESS2"))

        assert "USR1#SESS2" == after.gsi1_pk
        assert after == writer.table.get(Ticket.at("USR1"))

    def test_by_entity_a_changed_other_part_is_a_conflict(self, writer: Writer) -> None:
        """When somebody changed the other part since the entity was read, nothing is written."""
        loaded = made(Pair)
        writer.put(loaded)
        writer.update(Pair.at("DMN1"), Pair.session_id.to("SESS9"), Pair.owner_id.to("USR1"))
        before = writer.table.get_item(loaded.key)

        with pytest.raises(StaleVersion):
            writer.update(loaded, Pair.owner_id.to("USR2"))

        assert before == writer.table.get_item(loaded.key)

    def test_unrelated_writes_do_not_conflict(self, writer: Writer) -> None:
        """Two updates of different attributes from the same reading both stay."""
        writer.put(made(Agent))
        one, two = writer.table.get(Agent.at("AGT1")), writer.table.get(Agent.at("AGT1"))
        assert one is not None
        assert two is not None
        writer.update(one, Agent.description.to("new"))
        writer.update(two, Agent.score.to(7.0))
        after = writer.table.get(Agent.at("AGT1"))

        assert after is not None
        assert ("new", 7.0) == (after.description, after.score)
        assert after == two


class TestEveryAttribute:
    @pytest.mark.parametrize(("entity", "field"), STORED)
    def test_is_set_and_removed(self, writer: Writer, entity: type[Entity], field: Field) -> None:
        """Each stored attribute can be set, and removed where it may be absent; the rest of the item stays."""
        subject = made(entity)
        writer.put(subject)
        expected = made(entity)
        if not field.in_primary_key:
            setattr(expected, field.name, value_of(field, 2))
            writer.update(subject, field.to(value_of(field, 2)))
            expected.version = subject.version
            assert expected.to_item() == writer.table.get_item(subject.key)
        if not field.required:
            setattr(expected, field.name, None)
            expected.version = writer.update(subject, field.to(None)).version
            assert expected.to_item() == writer.table.get_item(subject.key)

    @pytest.mark.parametrize(("entity", "field"), PRIMARY)
    def test_a_part_of_the_primary_key_is_refused(self, writer: Writer, entity: type[Entity], field: Field) -> None:
        """A part of the primary key cannot be updated: the message says to copy and delete."""
        with pytest.raises(ValidationError, match=r"copy the item to the new key and delete this one"):
            writer.update(made(entity), field.to(value_of(field, 2)))

    def test_none_for_a_required_attribute_is_refused(self) -> None:
        """None removes only what may be absent."""
        with pytest.raises(ValidationError, match=r"name.*must be given"):
            Domain.name.to(None)  # type: ignore[arg-type]  # the mistake

    def test_an_older_spelling_goes(self, writer: Writer) -> None:
        """Updating an attribute removes its older spelling, so that a removed value does not come back."""
        item = made(UserSessionProcess).to_item()
        item["ProcDesc"] = item.pop("ProcessDesc")
        writer.table.call("PutItem", TableName=writer.table.name, Item=item)
        after = writer.update(UserSessionProcess.at("USR1", "SESS1", "PRC1"), UserSessionProcess.description.to(None))

        assert after.description is None
        assert "ProcDesc" not in (writer.table.get_item(after.key) or {})

    def test_unknown_attributes_stay(self, writer: Writer) -> None:
        """What the class does not know is not touched, and is on the entity afterwards."""
        writer.table.call("PutItem", TableName=writer.table.name, Item=made(User).to_item() | {"New": {"S": "x"}})
        after = writer.update(User.at("USR1"), User.name.to("b"))

        assert {"New": {"S": "x"}} == after.extra


class TestVersionAndCounting:
    def test_the_version_goes_up(self, writer: Writer) -> None:
        """Every update raises the version, so a save of what was read before is refused."""
        stale = made(Agent)
        writer.save(stale)
        before = stale.version
        after = writer.update(stale.key, Agent.score.to(5.0))

        assert before is not None
        assert after.version is not None
        assert after.version > before
        with pytest.raises(StaleVersion):
            writer.save(stale)

    def test_a_newer_version_stays(self, writer: Writer) -> None:
        """An update whose clock is behind the stored version changes nothing."""
        writer.put(Agent(agent_id="AGT1", domain_id="DMN1", name="a", version=10**30))

        with pytest.raises(StaleVersion):
            writer.update(Agent.at("AGT1"), Agent.score.to(5.0))

    def test_plus_adds_to_what_is_stored(self, writer: Writer) -> None:
        """Counting needs no reading: each ``plus`` adds, and nothing stored counts as 0."""
        writer.put(Agent(agent_id="AGT1", domain_id="DMN1", name="a"))
        for _ in range(3):
            after = writer.update(Agent.at("AGT1"), Agent.executions.plus(2))

        assert 6 == after.executions

    def test_plus_is_for_whole_numbers(self) -> None:
        """Adding to anything else is refused by name."""
        with pytest.raises(ValidationError, match="score"):
            Agent.score.plus(1)


class TestMistakes:
    def test_a_missing_item_is_not_made(self, writer: Writer) -> None:
        """Updating what is not there raises NotFound and creates nothing."""
        with pytest.raises(NotFound, match="AGT9"):
            writer.update(Agent.at("AGT9"), Agent.score.to(1.0))

        assert writer.table.get_item(Agent.at("AGT9")) is None

    def test_what_is_too_large_or_no_unicode_is_refused_before_it_is_sent(
        self, writer: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change that no item can hold is refused with its attribute named."""
        monkeypatch.setattr(writer.table, "call", None)

        with pytest.raises(ValidationError, match=r"Description.*409600"):
            writer.update(Agent.at("AGT1"), Agent.description.to("한" * 140_000))
        with pytest.raises(ValidationError, match=r"Description.*surrogates"):
            writer.update(Agent.at("AGT1"), Agent.description.to("\ud800"))

    def test_an_attribute_of_another_class_is_refused(self, writer: Writer) -> None:
        """A change made by another class's attribute is refused, even under the same name."""
        with pytest.raises(ValidationError, match="Agent has no such attribute"):
            writer.update(Agent.at("AGT1"), Domain.name.to("b"))

    def test_twice_the_same_attribute_is_refused(self, writer: Writer) -> None:
        """An update that says two things of one attribute is refused."""
        with pytest.raises(ValidationError, match="once"):
            writer.update(Agent.at("AGT1"), Agent.name.to("b"), Agent.name.to("c"))

    def test_no_change_is_refused(self, writer: Writer) -> None:
        """An update needs something to do."""
        with pytest.raises(ValidationError, match="changes"):
            writer.update(Agent.at("AGT1"))

    def test_the_version_is_not_the_callers(self, writer: Writer) -> None:
        """The version is counted, not set."""
        with pytest.raises(ValidationError, match="version"):
            writer.update(Agent.at("AGT1"), Agent.version.to(1))


class TestPynamodbsOwnUpdate:
    def test_an_attribute_that_feeds_an_index_is_refused(self, writer: Writer) -> None:
        """PynamoDB's update cannot keep index keys, so it is refused where one would go stale; the mend is named."""
        agent = made(Agent)
        writer.put(agent)
        with writer.table.bound(), pytest.raises(ValidationError, match=r"Writer\.update"):
            agent.update(actions=[Agent.score.set(5.0)])

        assert agent == writer.table.get(agent.key)

    def test_an_index_key_itself_is_refused(self, writer: Writer) -> None:
        """Index keys are not set by hand either."""
        review = made(Review)
        writer.put(review)
        with writer.table.bound(), pytest.raises(ValidationError, match=r"Writer\.update"):
            review.update(actions=[Review.gsi1_pk.remove()])

    def test_other_attributes_pass(self, writer: Writer) -> None:
        """Any other attribute may be updated in PynamoDB's way."""
        call = made(ToolExecution)
        writer.put(call)
        with writer.table.bound():
            call.update(actions=[ToolExecution.result.set("done")])

        assert "done" == call.result
