"""The typed base class of all entities, built on PynamoDB's Model.

An entity class declares its kind, its attributes and the up to four keys that are made of them. Constructor, codec and
keys are generated from that (see `agentmodel.dynamo._codegen`).

>>> from agentmodel import keys
>>> from agentmodel.dynamo.attributes import identifier, text
>>> class Region(Entity, kind="ExampleRegion"):
...     domain_id: Attr[str] = identifier("DMN")
...     name: Attr[str] = text("RegionNM")
...     partition = key(keys.DOMAIN, domain_id)
...     sort = key(keys.METADATA)
>>> Region(domain_id="DMN001", name="Seoul").to_item()["PK"]
{'S': 'DMN001'}

Keys are computed from the attributes each time they are read, so they cannot go stale. Attributes that a class does not
know are kept and written back.

The stored form of an entity can change with its class. ``schema`` counts the forms, and `upgrade` registers a function
that converts an older item when it is read.

>>> class Town(Entity, kind="ExampleTown", schema=2):
...     domain_id: Attr[str] = identifier("DMN")
...     name: Attr[str] = text("TownNM")
...     partition = key(keys.DOMAIN, domain_id)
...     sort = key(keys.METADATA)
>>> @upgrade(Town, 1)
... def named(item):
...     return item | {"TownNM": item.get("TownNM", {"S": "unnamed"})}
>>> stored = Town(domain_id="DMN001", name="Suwon").to_item() | {"SchemaVer": {"N": "1"}}
>>> del stored["TownNM"]
>>> Town.from_item(stored).name
'unnamed'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Self, TypeVar, dataclass_transform, overload

from pynamodb.attributes import Attribute, UnicodeAttribute
from pynamodb.models import MetaModel

from agentmodel.dynamo._attribute import Attr, Change, Comparable, Field
from agentmodel.dynamo._codegen import generate
from agentmodel.dynamo._layout import ENTITY_TYPE, KINDS, ItemKey, Key, Layout
from agentmodel.dynamo._layout import KEY_NAMES as KEY_NAMES  # noqa: PLC0414  # other folders import it from here
from agentmodel.dynamo._layout import item_name as item_name  # noqa: PLC0414  # likewise
from agentmodel.dynamo._pynamo_methods import EntityIndex, PynamoMethods, TableMeta
from agentmodel.dynamo._round_trip import RoundTrip
from agentmodel.dynamo.attributes import (
    choice,
    count,
    decimal,
    epoch,
    flag,
    identifier,
    json,
    key_count,
    key_text,
    listing,
    mapping,
    moment,
    number,
    rating,
    text,
)
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.keys import KeyFormat

if TYPE_CHECKING:
    from agentmodel.dynamo._attribute import KeyAttr

__all__ = ["Attr", "Change", "Entity", "ItemKey", "Key", "key", "upgrade"]

Item = dict[str, dict[str, Any]]
"""An item in the form of DynamoDB's API: ``{"PK": {"S": "DMN001"}, …}``."""

_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")
_E = TypeVar("_E", bound="Entity")
_P = ParamSpec("_P")

_Upgrade = Callable[[Item], Item]
"""Converts an item of one ``SchemaVer`` into an item of the next; it must keep PK and SK."""

_U = TypeVar("_U", bound=_Upgrade)

_KEY_ATTRIBUTES = dict(zip(KEY_NAMES, ("partition", "sort", "index_partition", "index_sort"), strict=True))


@overload
def key(form: KeyFormat[()], /) -> Key: ...
@overload
def key(form: KeyFormat[_A], one: Attr[_A], /) -> Key: ...
@overload
def key(form: KeyFormat[_A], one: Attr[_A | None], /) -> Key: ...
@overload
def key(form: KeyFormat[_A, _B], one: Attr[_A], two: Attr[_B], /) -> Key: ...
@overload
def key(form: KeyFormat[_A, _B, _C, _D], one: Attr[_A], two: Attr[_B], three: Attr[_C], four: Attr[_D], /) -> Key: ...
def key(form: Any, /, *attributes: Any) -> Key:
    """Declare a key that is made of these attributes, in the order of the format's parts."""
    return Key(form, attributes)


class _Lookup(Generic[_P]):
    """Makes the item keys of one entity class: ``Agent.at("AGT001")``."""

    def __init__(self, attributes: tuple[Field, ...]) -> None:
        self.attributes = attributes

    @overload
    def __get__(self, instance: None, owner: type[_E]) -> Callable[_P, ItemKey[_E]]: ...
    @overload
    def __get__(self, instance: _E, owner: type[_E]) -> Callable[_P, ItemKey[_E]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        def at(*values: Any) -> ItemKey[Any]:
            if len(values) != len(self.attributes):
                names = ", ".join(attribute.name for attribute in self.attributes)
                raise TypeError(f"{owner.__name__}.at() got {len(values)} arguments, but it takes {names}")
            given = {a.name: a.accept(v) for a, v in zip(self.attributes, values, strict=True)}
            return ItemKey(owner, owner.key_code["PK"](given), owner.key_code["SK"](given))

        return at


@overload
def lookup(one: Attr[_A], /) -> _Lookup[[_A]]: ...
@overload
def lookup(one: Attr[_A], two: Attr[_B], /) -> _Lookup[[_A, _B]]: ...
@overload
def lookup(one: Attr[_A], two: Attr[_B], three: Attr[_C], /) -> _Lookup[[_A, _B, _C]]: ...
@overload
def lookup(
    one: Attr[str], two: Attr[str], three: Attr[str], four: Attr[str], five: Attr[str], six: Attr[int], /
) -> _Lookup[[str, str, str, str, str, int]]: ...
def lookup(*attributes: Any) -> Any:
    """Declare the attributes that ``at`` takes to make an item key, in order."""
    return _Lookup(attributes)


class _IndexKey(Comparable, UnicodeAttribute):
    """A key in the form that PynamoDB's expressions need; its value is computed from the entity's attributes."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(attr_name=name, **options)
        self._stored = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        compute = owner.key_code.get(self._stored)
        return None if compute is None else compute(instance.attribute_values)

    def __set__(self, instance: Any, value: Any) -> None:
        raise ValidationError(
            self.attr_name, value, "cannot be set because keys are made of the entity's attributes: set those"
        )

    def __set_name__(self, owner: type[Any], name: str) -> None:
        pass  # the stored name is set already; PynamoDB would set it here


if TYPE_CHECKING:

    class _IndexOfClass:
        """The index of a class; at run time PynamoDB gives each class its own."""

        def __get__(self, instance: object, owner: type[_E]) -> EntityIndex[_E]: ...


class _Extra:
    """The entity's dictionary of attributes that its class does not know, created when it is first read."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else instance.__dict__.setdefault("extra", {})


@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        text,
        number,
        count,
        decimal,
        rating,
        flag,
        moment,
        epoch,
        json,
        listing,
        mapping,
        choice,
        identifier,
        key_text,
        key_count,
    ),
)
class _EntityMeta(MetaModel):
    """Creates entity classes: adds PynamoDB's Meta, the generated code, and the kind to the registry."""

    if not TYPE_CHECKING:  # type checkers see a plain class keyword; at run time PynamoDB needs a Meta

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_options: Any) -> Any:
            meta = {"region": None, "host": None, "billing_mode": "PAY_PER_REQUEST"}
            namespace.setdefault("Meta", TableMeta("Meta", (), meta))
            return super().__new__(mcs, name, bases, namespace)

        def __init__(
            cls,  # noqa: N805  # a class
            name: str,
            bases: tuple[type, ...],
            namespace: dict[str, Any],
            *,
            kind: str | None = None,
            reads: tuple[str, ...] = (),
            schema: int | None = None,
        ) -> None:
            super().__init__(name, bases, namespace)
            cls.kind = kind or getattr(cls, "kind", None)  # a subclass reads what its base reads
            cls.kinds = (kind, *reads) if kind else getattr(cls, "kinds", ())
            cls.schema = schema or getattr(cls, "schema", 1)
            cls.upgrades = {}
            if cls.kind is not None:
                cls._prepare()
            if kind is not None:
                for stored in cls.kinds:
                    KINDS[stored] = cls


class Entity(PynamoMethods, RoundTrip, metaclass=_EntityMeta):  # pyright: ignore[reportIncompatibleMethodOverride]  # keys have two parts here
    """Base class of every entity. Keys follow the attributes, loading is strict, and unknown attributes are kept.

    Attributes:
        kind: The value of the ``EntityType`` attribute.
        schema: The ``SchemaVer`` that the class writes.
        upgrades: The functions that `upgrade` registered, by the ``SchemaVer`` that they convert.
        layout: The description from which the code of the class was generated.
        key_code: By stored name, the functions that compute a key from attribute values.
        version: The version of the item, set on every versioned write; an older version never overwrites a newer one.
        expires_at: When the item expires. Reads leave it out from then on, and DynamoDB deletes it some time later.
        partition: The partition key.
        sort: The sort key.
        index_partition: The partition key of the index; None for entities that are not in it.
        index_sort: The sort key of the index.
        extra: Stored attributes that the class does not know; they are kept.
        complete: False if it was read while Valkey could not be asked whether a newer version waits there.
        pk: Text of the partition key.
        sk: Text of the sort key.
        gsi1_pk: Text of the partition key of the index; None while an attribute of it is not set.
        gsi1_sk: Text of the sort key of the index, likewise.
        gsi1: The index, for queries of PynamoDB.

    >>> from agentmodel import Agent
    >>> agent = Agent(agent_id="AGT001", domain_id="DMN001", name="map agent", score=2.5)
    >>> agent.pk, agent.sk, agent.gsi1_pk, agent.gsi1_sk
    ('AGT001', 'METADATA', 'DMN001', 'AGTSCORE#00000002.500000')
    >>> Agent.from_item(agent.to_item()) == agent
    True
    >>> Agent(agent_id="map agent", domain_id="DMN001", name="map agent")
    Agent(agent_id='AGT001-map-agent~ee0cf890ce2a', domain_id='DMN001', name='map agent', score=0.0)
    """

    kind: ClassVar[str]
    schema: ClassVar[int]
    upgrades: ClassVar[dict[int, _Upgrade]]
    layout: ClassVar[Layout]
    key_code: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], str | None]]]
    partition: ClassVar[Key]
    sort: ClassVar[Key]
    index_partition: ClassVar[Key | None] = None
    index_sort: ClassVar[Key | None] = None

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:  # that of each class has its attributes as arguments
            """Make an entity of its attributes; each says what it means where it is declared, and in an editor.

            Raises:
                ValidationError: A value is missing, or is not one of its attribute; the message names both.
            """

        @property
        def extra(self) -> Item: ...  # noqa: D102  # attributes that the class does not know
        @extra.setter
        def extra(self, value: Item) -> None: ...
        @property
        def complete(self) -> bool: ...  # noqa: D102  # False where a newer version may wait in Valkey
        @complete.setter
        def complete(self, value: bool) -> None: ...
        def __init_subclass__(
            cls, *, kind: str | None = None, reads: tuple[str, ...] = (), schema: int | None = None
        ) -> None: ...

        # not annotated, and so no arguments of the constructor; each class declares the first two itself, as its last
        version = Attr[int | None]()
        expires_at = Attr[datetime | None]()
        pk = KeyAttr[str]()
        sk = KeyAttr[str]()
        gsi1_pk = KeyAttr[str | None]()
        gsi1_sk = KeyAttr[str | None]()
        gsi1 = _IndexOfClass()

    else:
        version: Attr[int | None] = number("Version", default=None)
        expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
        pk = _IndexKey("PK", hash_key=True)
        sk = _IndexKey("SK", range_key=True)
        gsi1_pk = _IndexKey("GSI1_PK", null=True)
        gsi1_sk = _IndexKey("GSI1_SK", null=True)
        gsi1 = EntityIndex()
        extra = _Extra()
        complete = True

        def __init_subclass__(cls, **options: Any) -> None:
            """Skip PynamoDB's registry of subclasses by discriminator; the metaclass keeps one by kind."""

    @classmethod
    def _prepare(cls) -> None:
        attributes = cls.get_attributes()  # in the order of the alphabet
        declared = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
        for name in ("version", "expires_at"):  # last in signatures and texts, though the base class has them first
            declared[name] = declared.pop(name)
        fields = {name: a for name in declared if isinstance(a := attributes.get(name), Field)}
        for made in (cls.partition, cls.sort):
            for attribute in made.attributes:
                attribute.in_primary_key = True
        made_keys = {name: getattr(cls, attribute) for name, attribute in _KEY_ATTRIBUTES.items()}
        present = {name: key for name, key in made_keys.items() if key is not None}
        cls.layout = Layout(
            cls.__name__, f"{cls.__module__}.{cls.__qualname__}", cls.kinds, cls.schema, fields, present
        )
        code = generate(cls.layout)
        cls.key_code = code.keys
        setattr(cls, "__init__", code.init)  # noqa: B010  # type checkers derive its arguments from the attributes
        setattr(cls, "to_item", code.to_item)  # noqa: B010  # type checkers see the declaration below, and likewise in the next line
        setattr(cls, "from_item", classmethod(code.from_item))  # noqa: B010  # likewise

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entity):
            return NotImplemented
        if type(self) is not type(other) or self.attribute_values != other.attribute_values:
            return False
        return self.extra == other.extra

    __hash__ = None  # type: ignore[assignment]  # entities are mutable

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in self.attribute_values.items() if v is not None)
        return f"{type(self).__name__}({values})"

    @property
    def key(self) -> ItemKey[Self]:
        """The primary key of this entity's item."""
        return ItemKey(type(self), self.pk, self.sk)

    def to_item(self) -> Item:
        """Return the item in the form of DynamoDB's API, with keys that are computed from the current attributes.

        Raises:
            ValidationError: A key cannot be made of the attributes.

        >>> from agentmodel import Domain
        >>> Domain(domain_id="DMN001", name="Hotels").to_item()["DomainNM"]
        {'S': 'Hotels'}
        """
        name = type(self).__name__
        raise ConfigurationError(f"{name} has no kind: declare it as `class {name}(Entity, kind=…)`")

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Return the entity of a stored item.

        Raises:
            CorruptItem: A key or attribute is missing or cannot be read; the message names the item and the attribute.

        >>> from agentmodel import Domain
        >>> item = Domain(domain_id="DMN001", name="Hotels").to_item()
        >>> Domain.from_item(item).name
        'Hotels'
        >>> Domain.from_item(item | {"SK": {"S": "TL001"}})
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.CorruptItem: item DMN001 / TL001: attribute SK sort key of a main item ...
        """
        name = cls.__name__
        raise ConfigurationError(
            f"{name} cannot read item {item_name(item)}, because it has no kind: "
            f"declare it as `class {name}(Entity, kind=…)`"
        )

    if not TYPE_CHECKING:  # PynamoDB's own methods use the same codec

        def deserialize(self, attribute_values: Mapping[str, Any]) -> None:
            """Load the values of a stored item."""
            loaded = type(self).from_item(attribute_values)
            self.attribute_values, self.extra = loaded.attribute_values, loaded.extra

        @classmethod
        def from_raw_data(cls, data: Mapping[str, Any]) -> Self:
            """Return the same as `from_item`."""
            return cls.from_item(data)


def entity_of(item: Mapping[str, Any]) -> type[Entity] | None:
    """Return the class that reads an item, by its ``EntityType``; None when no class has that kind."""
    return KINDS.get(item.get(ENTITY_TYPE, {}).get("S", ""))


def known_attributes(entity: type[Entity]) -> dict[str, Attribute[Any]]:
    """Return the stored attributes of an entity class, by their stored names."""
    return {field.stored: field for field in entity.layout.fields.values() if field.stored}


def upgrade(entity: type[Entity], schema: int) -> Callable[[_U], _U]:
    """Register a function that converts an item of ``schema`` into one of ``schema + 1`` when it is read.

    A step without a function changes nothing. The stored item changes when the entity is saved.

    Raises:
        ConfigurationError: The class has no schema above ``schema``, or the step has a function already.
    """

    def register(function: _U) -> _U:
        if not 0 < schema < entity.schema or schema in entity.upgrades:
            raise ConfigurationError(
                f"{entity.__name__} cannot have an upgrade from schema {schema}: it has schema {entity.schema}, and "
                "each schema below that can be upgraded once"
            )
        entity.upgrades[schema] = function
        return function

    return register
