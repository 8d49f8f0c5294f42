"""The generated code of every entity against a slow codec that is written down here, one attribute at a time."""

from __future__ import annotations

import functools
import inspect
import json
import linecache
import traceback
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel import keys
from agentmodel._values.counts import MAX_COUNT
from agentmodel.dynamo import models
from agentmodel.dynamo._attribute import Attr, Field
from agentmodel.dynamo.attributes import decimal, identifier, listing, mapping, number, text
from agentmodel.dynamo.entity import Entity, key, lookup
from agentmodel.exceptions import CorruptItem, ValidationError


class Everything(Entity, kind="TestEverything"):
    """What the nine entities do not have: exact numbers, lists and maps."""

    user_id: Attr[str] = identifier("USR")
    name: Attr[str] = text("Name", reads=("OldName",))
    exact: Attr[Any] = decimal("Exact")
    steps: Attr[list[Any]] = listing("Steps", default_factory=list)
    params: Attr[dict[str, Any] | None] = mapping("Params", default=None)
    tally: Attr[int | None] = number("Tally", default=None)

    at = lookup(user_id)
    partition = key(keys.USER, user_id)
    sort = key(keys.METADATA)


ENTITIES: list[type[Entity]] = [
    *(getattr(models, name) for name in models.__all__ if inspect.isclass(getattr(models, name))),
    Everything,
]

PARTS = ("PK", "SK", "GSI1_PK", "GSI1_SK")

# Values by kind of attribute, made valid, never filtered

_letters = st.characters(codec="utf-8", categories=["Lu", "Ll", "Lo", "Nd", "Po", "Zs", "Sc", "So"])
_tokens = st.text("abcXYZ019-_.:@+=~", min_size=1, max_size=128)
_texts = st.text(_letters, max_size=40)
_numbers = st.integers(-(10**38) + 1, 10**38 - 1)
_moments = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001  # Hypothesis adds the zone
    datetime(9998, 12, 31),  # noqa: DTZ001  # likewise
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_decimals = st.decimals(-(10**20), 10**20, places=10)
_plain = st.recursive(
    _texts | _numbers | st.floats(-1e100, 1e100).filter(lambda f: f == 0 or abs(f) > 1e-100)
    | st.booleans() | st.none() | st.sets(_texts, min_size=1, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _shaped(field: Field) -> st.SearchStrategy[Any]:
    """Draw JSON of the field's shape; without one, any object."""
    lists = {"examples": st.lists(_texts, max_size=3), "requests": st.lists(_texts, max_size=3)}
    if field.name in ("counts", "success_counts"):
        return st.dictionaries(_texts, st.lists(_numbers, max_size=3), max_size=3)
    return lists.get(field.name, st.dictionaries(st.text(max_size=5), _json, max_size=3))


def _values(field: Field) -> st.SearchStrategy[Any]:
    by_kind: dict[str, st.SearchStrategy[Any]] = {
        "_TextField": _texts,
        "_IdentifierField": _tokens.map(lambda token: f"{getattr(field, 'prefix', '')}{token}"),
        "_KeyText": st.text(_letters, min_size=1, max_size=40),
        "_KeyCount": st.integers(field.default_value or 0, 10**6),
        "_Number": _numbers,
        "_Count": st.integers(0, MAX_COUNT),
        "_Decimal": _decimals,
        "_ScoreField": st.floats(0, 10**8 - 1) | st.integers(0, 10**8 - 1),
        "_Flag": st.booleans(),
        "_Moment": _moments,
        "_Epoch": _moments,
        "_Json": _shaped(field),
        "_Choice": st.sampled_from(getattr(field, "choices", ("",))),
        "_Plain": st.lists(_plain, max_size=3)
        if field.attr_type == "L"
        else st.dictionaries(_texts, _plain, max_size=3),
    }
    kind = by_kind[type(field).__name__]
    if field.name in {"name", "queue"}:  # it is a part of an index key, where it cannot be empty
        kind = st.text(_letters, min_size=1, max_size=40)
    return kind if field.required else st.none() | kind


@functools.cache
def _arguments(entity: type[Entity]) -> st.SearchStrategy[dict[str, Any]]:
    fields = entity.layout.fields
    must = {name: _values(f) for name, f in fields.items() if f.required and f.default_value is None}
    may = {name: _values(f) for name, f in fields.items() if name not in must}
    return st.fixed_dictionaries(must, optional=may)


entities = st.sampled_from(ENTITIES).flatmap(lambda entity: st.tuples(st.just(entity), _arguments(entity)))

# The slow codec: only the attributes' own methods, no generated code


def slow_values(entity: type[Entity], given: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for name, field in entity.layout.fields.items():
        default = field.default_value() if callable(field.default_value) else field.default_value
        values[name] = field.accept(given.get(name, default))
    return values


def slow_item(entity: type[Entity], values: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {"EntityType": {"S": entity.kind}, "SchemaVer": {"N": "1"}}
    for name, made in zip(
        PARTS, (entity.partition, entity.sort, entity.index_partition, entity.index_sort), strict=True
    ):
        text_of_key = None if made is None else made.build(values)
        if text_of_key is not None:
            item[name] = {"S": text_of_key}
    for name, field in entity.layout.fields.items():
        if field.stored and values[name] is not None:
            item[field.stored] = {field.attr_type: field.serialize(values[name])}
    return item


class TestGeneratedCodeIsTheSlowCode:
    @given(entities)
    def test_the_constructor_holds_the_same_values(self, drawn: tuple[type[Entity], dict[str, Any]]) -> None:
        """A generated constructor accepts and normalises every value as the attribute itself does."""
        entity, arguments = drawn

        assert slow_values(entity, arguments) == entity(**arguments).attribute_values

    @given(entities)
    def test_the_item_is_the_same(self, drawn: tuple[type[Entity], dict[str, Any]]) -> None:
        """A generated ``to_item`` writes what the attributes and key formats write one by one."""
        entity, arguments = drawn

        assert slow_item(entity, slow_values(entity, arguments)) == entity(**arguments).to_item()

    @given(entities)
    def test_what_is_written_is_read(self, drawn: tuple[type[Entity], dict[str, Any]]) -> None:
        """``from_item(to_item(x))`` is x, also when the item went through JSON."""
        entity, arguments = drawn
        written = entity(**arguments)
        item = written.to_item()
        through = item if entity is Everything else json.loads(json.dumps(item))

        assert written == entity.from_item(through)
        assert item == entity.from_item(through).to_item()

    @given(st.lists(_decimals | _numbers | st.floats(-1e100, 1e100).filter(lambda f: f == 0 or abs(f) > 1e-100)))
    def test_no_digit_is_lost(self, numbers: list[Any]) -> None:
        """Numbers of any type in a list are written as they were read, digit for digit."""
        made = Everything(user_id="USR1", name="a", exact=_one(Everything.layout.fields["exact"]), steps=numbers)
        item = made.to_item()

        assert item == Everything.from_item(item).to_item()
        assert [Decimal(repr(n) if isinstance(n, float) else n) for n in numbers] == [
            Decimal(wire["N"]) for wire in item["Steps"]["L"]
        ]

    @given(entities)
    def test_keys_are_those_of_the_item(self, drawn: tuple[type[Entity], dict[str, Any]]) -> None:
        """``pk``, ``sk``, ``gsi1_pk`` and ``gsi1_sk`` are the keys that the item is written with."""
        entity, arguments = drawn
        made = entity(**arguments)
        item = made.to_item()

        assert [item.get(name, {}).get("S") for name in PARTS] == [made.pk, made.sk, made.gsi1_pk, made.gsi1_sk]

    @given(
        entities, st.dictionaries(st.sampled_from(["New", "ZZ", "x-y"]), st.just({"M": {"a": {"N": "1"}}}), min_size=1)
    )
    def test_unknown_attributes_survive(
        self, drawn: tuple[type[Entity], dict[str, Any]], unknown: dict[str, Any]
    ) -> None:
        """An attribute that the class does not know is written back as it was read."""
        entity, arguments = drawn
        item = entity(**arguments).to_item() | unknown

        assert item == entity.from_item(item).to_item()

    @given(entities, st.data())
    def test_a_missing_required_attribute_is_named(
        self, drawn: tuple[type[Entity], dict[str, Any]], data: st.DataObject
    ) -> None:
        """Without a required attribute an item is corrupt, and the message names item and attribute."""
        entity, arguments = drawn
        item = entity(**arguments).to_item()
        required = [
            f.stored for f in entity.layout.fields.values() if f.stored and f.required and f.default_value is None
        ]
        if not required:
            return
        gone = data.draw(st.sampled_from(required))
        del item[gone]

        with pytest.raises(CorruptItem) as caught:
            entity.from_item(item)

        assert gone == caught.value.attribute
        assert item["PK"]["S"] in str(caught.value)


class TestBadValuesAreRefused:
    BAD = (b"bytes", object(), ["list"], {"a": 1}, 3.5, float("nan"), -1, True, "", "a#b", datetime(2025, 6, 14))  # noqa: DTZ001

    @pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.__name__)
    @pytest.mark.parametrize("bad", BAD, ids=lambda bad: "object" if type(bad) is object else repr(bad))
    def test_a_constructor_refuses_what_the_attribute_refuses(self, entity: type[Entity], bad: Any) -> None:
        """For each attribute, a value is accepted or refused alike by constructor, assignment and the attribute itself."""
        valid = {name: _one(field) for name, field in entity.layout.fields.items()}
        for name, field in entity.layout.fields.items():
            within = getattr(field, "within", None)  # the domain in which an agent's name is one
            expected, refused = _accepted(field, bad, *([valid[within]] if within else []))
            if refused is None:
                assert expected == entity(**valid | {name: bad}).attribute_values[name]
                continue
            with pytest.raises(ValidationError) as caught:
                entity(**valid | {name: bad})
            assert (name, refused) == (caught.value.field, caught.value.rule)
            with pytest.raises(ValidationError):
                setattr(entity(**valid), name, bad)

    @pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.__name__)
    def test_an_unknown_argument_is_named(self, entity: type[Entity]) -> None:
        """An argument that is no attribute is refused by name."""
        with pytest.raises(ValidationError, match=r"nonsense.*has no such attribute"):
            entity(**{name: _one(f) for name, f in entity.layout.fields.items()} | {"nonsense": 1})


def _accepted(field: Any, value: Any, *within: Any) -> tuple[Any, str | None]:
    """What an attribute makes of a value, or the rule by which it refuses it."""
    try:
        return field.accept(value, *within), None
    except ValidationError as error:
        return None, error.rule


def _one(field: Field) -> Any:
    usual: dict[str, Any] = {
        "_IdentifierField": f"{getattr(field, 'prefix', '')}1", "_Number": 1, "_Count": 1, "_KeyCount": 1, "_ScoreField": 1.0,
        "_Flag": True,
        "_Moment": datetime(2025, 6, 14, tzinfo=UTC), "_Epoch": datetime(2025, 6, 14, tzinfo=UTC),
        "_Json": [] if field.name in ("examples", "requests") else {},
        "_Choice": getattr(field, "choices", ("",))[0], "_Plain": [] if field.attr_type == "L" else {},
    }  # fmt: skip
    if type(field).__name__ == "_Decimal":
        return field.deserialize("1")
    return usual.get(type(field).__name__, "text")


class TestTheCodeCanBeSeen:
    def test_inspect_shows_the_source(self) -> None:
        """The generated functions have source, as any other function."""
        assert "def to_item" in inspect.getsource(models.Agent.to_item)
        assert "domain_id" in inspect.getsource(models.Agent.__init__)

    def test_a_traceback_shows_the_line(self) -> None:
        """A traceback through generated code shows the line that raised."""
        linecache.checkcache()
        try:
            models.Domain(domain_id="DMN1", name="")  # an empty name is found when its index key is made
            models.Domain(domain_id="DMN1", name="").to_item()
        except ValidationError as error:
            lines = traceback.format_exception(error)

        assert any("'GSI1_SK'" in line for line in lines)
