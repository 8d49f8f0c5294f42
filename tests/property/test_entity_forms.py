"""Every form of every entity gives the same entity back; a form of another class, or without a type, is refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as PydanticError

from agentmodel import Agent, Tool, User, keys
from agentmodel.dynamo._item_reader import read_projected
from agentmodel.dynamo.attributes import identifier, listing, mapping
from agentmodel.dynamo.entity import Attr, Entity, key
from agentmodel.exceptions import CorruptItem, ValidationError
from agentmodel.testing import entities


class Anything(Entity, kind="TestAnything"):
    """Has what JSON does not: bytes, sets and long decimals."""

    user_id: Attr[str] = identifier("USR")
    steps: Attr[list[Any]] = listing("Steps", default_factory=list)
    params: Attr[dict[str, Any] | None] = mapping("Params", default=None)

    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)


def through_json(form: Any) -> Any:
    return json.loads(json.dumps(form))


FORMS: dict[str, Callable[[Entity], Any]] = {
    "to_item": lambda e: type(e).from_item(e.to_item()),
    "to_item, from_dynamodb_dict": lambda e: type(e).from_dynamodb_dict(e.to_item()),
    "to_dynamodb_dict": lambda e: type(e).from_dynamodb_dict(through_json(e.to_dynamodb_dict())),
    "to_dynamodb_dict, from_item": lambda e: type(e).from_item(e.to_dynamodb_dict()),
    "to_simple_dict": lambda e: type(e).from_simple_dict(through_json(e.to_simple_dict())),
    "to_json": lambda e: type(e).from_json(e.to_json()),
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),  # noqa: S301  # just written
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pydantic, JSON": lambda e: TypeAdapter(type(e)).validate_json(TypeAdapter(type(e)).dump_json(e)),
    "pydantic, Python": lambda e: TypeAdapter(type(e)).validate_python(TypeAdapter(type(e)).dump_python(e)),
    "pydantic, mode json": lambda e: TypeAdapter(type(e)).validate_python(TypeAdapter(type(e)).dump_python(e, mode="json")),
}  # fmt: skip


@given(entities())
def test_every_form_gives_the_same_entity_back(entity: Entity) -> None:
    """Attributes, keys and unknown attributes are what they were, and the item is the same."""
    entity.extra = {"New": {"M": {"a": {"N": "1"}}}, "Old": {"S": "x"}}
    item = entity.to_item()
    for name, form in FORMS.items():
        found = form(entity)

        assert (name, type(entity), entity) == (name, type(found), found)
        assert (name, item) == (name, found.to_item())


@given(entities())
def test_an_entity_takes_the_values_of_another(entity: Entity) -> None:
    """PynamoDB's way: the method of an entity replaces its values, and leaves the dictionary alone."""
    for form, load in (
        (entity.to_dynamodb_dict(), "from_dynamodb_dict"),
        (entity.to_simple_dict(), "from_simple_dict"),
        (entity.to_json(), "from_json"),
    ):
        other = copy.copy(entity)
        other.version, other.extra = 7, {"Gone": {"S": "x"}}
        before = copy.deepcopy(form)
        getattr(other, load)(form)

        assert entity == other
        assert before == form


def test_bytes_sets_and_long_numbers() -> None:
    """What JSON cannot hold goes through DynamoDB's form; the simple form refuses it rather than change it."""
    values = [b"\x00\xff", {"a", "b"}, {1, 2}, Decimal("0.12345678901234567890123456789"), {"deep": [b"x"]}]
    entity = Anything(user_id="USR1", steps=values, params={"x": {b"1", b"2"}})
    found = Anything.from_dynamodb_dict(through_json(entity.to_dynamodb_dict()))

    assert (values[0], values[3:], values[1:3]) == (found.steps[0], found.steps[3:], found.steps[1:3])
    assert {b"1", b"2"} == (found.params or {})["x"]
    for write in (entity.to_simple_dict, entity.to_json, lambda: TypeAdapter(Anything).dump_json(entity)):
        with pytest.raises(ValueError, match=r"bytes|use to_dynamodb_dict"):
            write()
    assert ["AP8=", ["a", "b"], [1, 2], 0.12345678901234568, {"deep": ["eA=="]}] == entity.to_simple_dict(force=True)[
        "Steps"
    ]


def test_a_copy_is_changed_alone() -> None:
    """A change of a copy, or of its unknown attributes, does not change the original."""
    agent = Agent(agent_id="AGT001", domain_id="DMN001", name="a")
    agent.extra = {"X": {"S": "x"}}
    other = copy.copy(agent)
    other.name = "b"
    other.extra["Y"] = {"S": "y"}

    assert ("a", {"X": {"S": "x"}}) == (agent.name, agent.extra)


def test_a_projected_entity_stays_one() -> None:
    """A copy of what was read in part, and one through pickle, still refuse the attributes that were not read."""
    agent: Any = read_projected(Agent, {"name"}, Agent(agent_id="AGT001", domain_id="DMN001", name="a").to_item())
    for found in (copy.copy(agent), copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):  # noqa: S301  # just written
        assert "a" == found.name
        with pytest.raises(ValidationError, match="score"):
            _ = found.score


class Team(BaseModel):
    """Has entities as fields."""

    lead: Agent
    tools: list[Tool] = []
    user: User | None = None


def test_a_field_of_a_pydantic_model() -> None:
    """An entity is a field like any other: validated, dumped, in the JSON schema."""
    team = Team(
        lead=Agent(agent_id="AGT001", domain_id="DMN001", name="a", score=1.5),
        tools=[Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="t", spec={"a": [1]})],
        user=User(user_id="USR001", name="u", created_at=datetime(2025, 6, 14, tzinfo=UTC)),
    )

    assert team == Team.model_validate_json(team.model_dump_json())
    assert team == Team.model_validate(team.model_dump())
    assert team == Team.model_validate(team.model_dump(mode="json"))
    assert "Agent" == team.model_dump(mode="json")["lead"]["EntityType"]
    assert {"lead", "tools", "user"} == set(Team.model_json_schema()["properties"])


READERS: dict[str, Callable[[type[Entity], Entity], Any]] = {
    "from_item": lambda kind, e: kind.from_item(e.to_item()),
    "from_dynamodb_dict": lambda kind, e: kind.from_dynamodb_dict(e.to_dynamodb_dict()),
    "from_simple_dict": lambda kind, e: kind.from_simple_dict(e.to_simple_dict()),
    "from_json": lambda kind, e: kind.from_json(e.to_json()),
    "from_raw_data": lambda kind, e: kind.from_raw_data(e.to_item()),
    "pydantic": lambda kind, e: TypeAdapter(kind).validate_python(e.to_simple_dict()),
    "pydantic, JSON": lambda kind, e: TypeAdapter(kind).validate_json(e.to_json()),
}


@pytest.mark.parametrize("reader", READERS)
def test_another_class_is_refused_by_name(reader: str) -> None:
    """An item of another class is not read, whatever form it comes in; nor is one without a type."""
    agent = Agent(agent_id="AGT001", domain_id="DMN001", name="a")
    with pytest.raises((CorruptItem, PydanticError), match="EntityType is Agent, so the item cannot be read as Tool"):
        READERS[reader](Tool, agent)

    class Untyped:
        def to_item(self) -> Any:
            return {name: wire for name, wire in agent.to_item().items() if name != "EntityType"}

        to_dynamodb_dict = to_item

        def to_simple_dict(self) -> Any:
            return {name: value for name, value in agent.to_simple_dict().items() if name != "EntityType"}

        def to_json(self) -> str:
            return json.dumps(self.to_simple_dict())

    with pytest.raises(
        (CorruptItem, PydanticError), match="EntityType is missing, so the item cannot be read as Agent"
    ):
        READERS[reader](Agent, Untyped())  # type: ignore[arg-type]  # an item without a type


@pytest.mark.parametrize("form", [None, 5, [], "text"])
def test_what_is_no_item_is_refused(form: Any) -> None:
    """What is no dictionary of attributes is refused with what it must be."""
    with pytest.raises(ValidationError, match="must be a dictionary"):
        Agent.from_simple_dict(form)
    with pytest.raises(ValidationError, match="must be"):
        Agent.from_json(json.dumps(form) if form != "text" else form)
    with pytest.raises(PydanticError, match="must be a dictionary"):
        TypeAdapter(Agent).validate_python(form)
