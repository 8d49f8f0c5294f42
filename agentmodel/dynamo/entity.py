"""Entity: the typed base of the eight entities, on PynamoDB's Model.

An entity class says its kind, its attributes and the four keys made of them; constructor, codec and keys follow::

    class Domain(Entity, kind="Domain"):
        domain_id: Attr[str] = identifier("DMN")
        name: Attr[str] = text("DomainNM")

        partition = key(keys.DOMAIN, domain_id)
        sort = key(keys.METADATA)
        index_partition = key(keys.DOMAINS)
        index_sort = key(keys.TEXT, name)

Keys are made when they are asked for, from the attributes as they are then: they cannot go stale. Attributes that a
class does not know are kept and written back. The code of a class is generated: see `agentmodel.dynamo.codec`.

What is stored of an entity can change with its class: ``schema`` counts, and `upgrade` registers what to do with an
older item when it is read::

    class Domain(Entity, kind="Domain", schema=2): ...

    @upgrade(Domain, 1)
    def named(item: Item) -> Item:
        return item | {"DomainNM": item.get("DomainNM", {"S": "unnamed"})}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    dataclass_transform,
    overload,
)

from pynamodb.attributes import Attribute, UnicodeAttribute
from pynamodb.expressions.update import Action
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex
from pynamodb.models import MetaModel, Model

from agentmodel.dynamo.attributes import (
    Attr,
    Field,
    choice,
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
from agentmodel.dynamo.codec import ENTITY_TYPE, KEY_NAMES, Layout, generate, item_name
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.keys import KeyFormat

__all__ = ["KEY_NAMES", "Entity", "Item", "ItemKey", "Key", "entity_of", "item_name", "key", "lookup", "upgrade"]

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's API has it: ``{"PK": {"S": "DMN001"}, …}``."""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E", bound="Entity")
E_co = TypeVar("E_co", bound="Entity", covariant=True)
P = ParamSpec("P")

Upgrade = Callable[[Item], Item]
"""Makes an item of the next ``SchemaVer`` of an item of one; it keeps PK and SK."""

U = TypeVar("U", bound=Upgrade)

_SLOTS = dict(zip(KEY_NAMES, ("partition", "sort", "index_partition", "index_sort"), strict=True))


class Key:
    """A key of an entity: its format and the attributes it is made of."""

    def __init__(self, form: KeyFormat[Any], attributes: tuple[Any, ...]) -> None:
        self.format = form
        self.attributes: tuple[Field, ...] = attributes
        self.holds_unstored = any(not attribute.stored for attribute in attributes)

    def build(self, values: Mapping[str, Any]) -> str | None:
        """The key of these attribute values; None when one of them is not set (a sparse index)."""
        parts = [values.get(attribute.name) for attribute in self.attributes]
        return None if None in parts else self.format.build(*parts)


@overload
def key(form: KeyFormat[()], /) -> Key: ...
@overload
def key(form: KeyFormat[A], one: Attr[A], /) -> Key: ...
@overload
def key(form: KeyFormat[A], one: Attr[A | None], /) -> Key: ...
@overload
def key(form: KeyFormat[A, B], one: Attr[A], two: Attr[B], /) -> Key: ...
@overload
def key(form: KeyFormat[A, B, C, D], one: Attr[A], two: Attr[B], three: Attr[C], four: Attr[D], /) -> Key: ...
def key(form: Any, /, *attributes: Any) -> Key:
    """A key made of these attributes, in the order of the format's parts."""
    return Key(form, attributes)


class ItemKey(Generic[E_co]):
    """The primary key of one item, and the class that reads it; made by an entity's ``at``.

    Attributes:
        entity: The entity class.
        pk: Partition key.
        sk: Sort key.
    """

    __slots__ = ("entity", "pk", "sk")

    def __init__(self, entity: type[E_co], pk: str, sk: str) -> None:
        self.entity = entity
        self.pk = pk
        self.sk = sk

    def __repr__(self) -> str:
        return f"{self.entity.__name__} {self.pk} / {self.sk}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemKey) and (self.pk, self.sk) == (other.pk, other.sk)

    def __hash__(self) -> int:
        return hash((self.pk, self.sk))

    def item(self) -> Item:
        """The key as DynamoDB's API has it."""
        return {"PK": {"S": self.pk}, "SK": {"S": self.sk}}


class Lookup(Generic[P]):
    """Makes item keys of one entity: ``Agent.at("AGT001")``."""

    def __init__(self, attributes: tuple[Field, ...]) -> None:
        self.attributes = attributes

    @overload
    def __get__(self, instance: None, owner: type[E]) -> Callable[P, ItemKey[E]]: ...
    @overload
    def __get__(self, instance: E, owner: type[E]) -> Callable[P, ItemKey[E]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        def at(*values: Any) -> ItemKey[Any]:
            if len(values) != len(self.attributes):
                names = ", ".join(attribute.name for attribute in self.attributes)
                raise TypeError(f"{owner.__name__}.at() takes {names}")
            given = {a.name: a.accept(v) for a, v in zip(self.attributes, values, strict=True)}
            return ItemKey(owner, owner.key_code["PK"](given), owner.key_code["SK"](given))

        return at


@overload
def lookup(one: Attr[A], /) -> Lookup[[A]]: ...
@overload
def lookup(one: Attr[A], two: Attr[B], /) -> Lookup[[A, B]]: ...
@overload
def lookup(one: Attr[A], two: Attr[B], three: Attr[C], /) -> Lookup[[A, B, C]]: ...
@overload
def lookup(
    one: Attr[str], two: Attr[str], three: Attr[str], four: Attr[str], five: Attr[str], six: Attr[int], /
) -> Lookup[[str, str, str, str, str, int]]: ...
def lookup(*attributes: Any) -> Any:
    """The attributes an item of the class is found by, in order."""
    return Lookup(attributes)


class _IndexKey(UnicodeAttribute):
    """A key as PynamoDB's expressions need it; its value is made of the entity's attributes."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(attr_name=name, **options)
        self._stored = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        made = owner.key_code.get(self._stored)
        return None if made is None else made(instance.attribute_values)

    def __set__(self, instance: Any, value: Any) -> None:
        raise ValidationError(self.attr_name, value, "keys are made of the entity's attributes: set those")

    def __set_name__(self, owner: type[Any], name: str) -> None:
        pass  # the stored name is given; PynamoDB would keep it too


class _Extra:
    """Each entity's own dictionary of what its class does not know, made when it is first asked for."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else instance.__dict__.setdefault("extra", {})


_KINDS: dict[str, type[Any]] = {}

BOUND: ContextVar[Any] = ContextVar("agentmodel_bound_table", default=None)
"""The PynamoDB connection that PynamoDB's own methods of the entities use; set by `Table.bound`."""


@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        text,
        number,
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
class EntityMeta(MetaModel):
    """Makes entity classes: PynamoDB's Meta, the code of `agentmodel.dynamo.codec`, the registry of kinds."""

    if not TYPE_CHECKING:  # the checkers see a plain class keyword, the run time builds PynamoDB's Meta

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_options: Any) -> Any:
            namespace.setdefault("Meta", type("Meta", (), {"table_name": "AgentTable", "region": None, "host": None}))
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
            cls.schema = schema or getattr(cls, "schema", 1)
            cls.upgrades = {}
            if cls.kind is not None:
                cls._prepare()
            if kind is not None:
                for stored in (kind, *reads):
                    _KINDS[stored] = cls


class _GSI1(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]  # PynamoDB leaves __init_subclass__ untyped
    class Meta:
        index_name = "GSI1"
        projection = AllProjection()
        read_capacity_units = None
        write_capacity_units = None

    GSI1_PK = UnicodeAttribute(hash_key=True)
    GSI1_SK = UnicodeAttribute(range_key=True)


class Entity(Model, metaclass=EntityMeta):
    """Base of every entity: keys from attributes, strict loading, unknown attributes kept.

    Attributes:
        kind: What the ``EntityType`` attribute holds.
        schema: The ``SchemaVer`` it writes.
        upgrades: What `upgrade` registered, by the ``SchemaVer`` it starts from.
        layout: What the code of the class was generated from.
        key_code: By stored name, the function that makes a key of attribute values.
        version: Set by whoever writes through the journal; a newer version is never overwritten by an older.
        expires_at: When DynamoDB may delete the item; every read drops it from then on.
    """

    kind: ClassVar[str]
    schema: ClassVar[int]
    upgrades: ClassVar[dict[int, Upgrade]]
    layout: ClassVar[Layout]
    key_code: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], str | None]]]
    partition: ClassVar[Key]
    sort: ClassVar[Key]
    index_partition: ClassVar[Key | None] = None
    index_sort: ClassVar[Key | None] = None

    version: Attr[int | None] = number("Version", default=None)
    expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)

    if TYPE_CHECKING:

        @property
        def extra(self) -> Item: ...  # noqa: D102  # what the class does not know, kept
        @extra.setter
        def extra(self, value: Item) -> None: ...
        def __init_subclass__(
            cls, *, kind: str | None = None, reads: tuple[str, ...] = (), schema: int | None = None
        ) -> None: ...
        @property
        def pk(self) -> str: ...  # noqa: D102  # PK, made of the attributes
        @property
        def sk(self) -> str: ...  # noqa: D102  # SK, likewise
        @property
        def gsi1_pk(self) -> str | None: ...  # noqa: D102  # None while one is not set
        @property
        def gsi1_sk(self) -> str | None: ...  # noqa: D102  # likewise

    else:
        pk = _IndexKey("PK", hash_key=True)
        sk = _IndexKey("SK", range_key=True)
        gsi1_pk = _IndexKey("GSI1_PK", null=True)
        gsi1_sk = _IndexKey("GSI1_SK", null=True)
        gsi1 = _GSI1()
        extra = _Extra()

        def __init_subclass__(cls, **options: Any) -> None:
            """PynamoDB keeps a registry of subclasses by discriminator; ours is by kind, made by the metaclass."""

    @classmethod
    def _prepare(cls) -> None:
        fields = {name: a for name, a in cls.get_attributes().items() if isinstance(a, Field)}
        for made in (cls.partition, cls.sort):
            for attribute in made.attributes:
                attribute.in_primary_key = True
        made_keys = {name: getattr(cls, slot) for name, slot in _SLOTS.items()}
        present = {name: made for name, made in made_keys.items() if made is not None}
        cls.layout = Layout(cls.__name__, f"{cls.__module__}.{cls.__qualname__}", cls.kind, cls.schema, fields, present)
        code = generate(cls.layout)
        cls.key_code = code.keys
        setattr(cls, "__init__", code.init)  # noqa: B010  # type checkers see the attributes as its arguments
        setattr(cls, "to_item", code.to_item)  # noqa: B010  # and the two below as they are declared here
        setattr(cls, "from_item", classmethod(code.from_item))  # noqa: B010

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
        """The primary key of this item."""
        return ItemKey(type(self), self.pk, self.sk)

    def to_item(self) -> Item:
        """The item as DynamoDB's API has it, keys made of the attributes as they are now.

        Raises:
            ValidationError: A key cannot be made of the attributes.
        """
        raise ConfigurationError(f"{type(self).__name__} has no kind: class {type(self).__name__}(Entity, kind=…)")

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """The entity of a stored item.

        Raises:
            CorruptItem: A key or attribute is missing or cannot be read; the message names the item and the attribute.
        """
        raise ConfigurationError(f"{cls.__name__} has no kind, so it reads no item such as {item_name(item)}")

    @classmethod
    def _refuse_stale_keys(cls, actions: Sequence[Action]) -> None:
        """PynamoDB's update writes what it is told and nothing else: an index key would not follow its attributes."""
        feeding = {f.stored: made for made, key in cls.layout.keys.items() for f in key.attributes if f.stored}
        for action in actions:
            stored = str(getattr(action.values[0], "path", [""])[0])
            if stored in KEY_NAMES or stored in feeding:
                what = f"{feeding[stored]} is made of it" if stored in feeding else "it is made of attributes"
                raise ValidationError(stored, str(action), f"{what}: use Writer.update, which writes both")

    if not TYPE_CHECKING:  # PynamoDB's own doors lead to the same codec

        def serialize(self, null_check: bool = True) -> Item:  # noqa: ARG002  # PynamoDB's
            """The same as `to_item`."""
            return self.to_item()

        def deserialize(self, attribute_values: Mapping[str, Any]) -> None:
            """Take the values of a stored item."""
            loaded = type(self).from_item(attribute_values)
            self.attribute_values, self.extra = loaded.attribute_values, loaded.extra

        @classmethod
        def from_raw_data(cls, data: Mapping[str, Any]) -> Self:
            """The same as `from_item`."""
            return cls.from_item(data)

        def update(self, actions: Sequence[Action], *arguments: Any, **options: Any) -> Any:
            """PynamoDB's update, of attributes that no key is made of; `Writer.update` is for all."""
            self._refuse_stale_keys(actions)
            return super().update(actions, *arguments, **options)

        @classmethod
        def _get_connection(cls) -> Any:
            connection = BOUND.get()
            if connection is None:
                raise ConfigurationError(f"{cls.__name__} is bound to no table: use `with Table(settings).bound():`")
            return connection


def entity_of(item: Mapping[str, Any]) -> type[Entity] | None:
    """The class that reads an item, by its ``EntityType``; None when no class knows the kind."""
    return _KINDS.get(item.get(ENTITY_TYPE, {}).get("S", ""))


def known_attributes(entity: type[Entity]) -> dict[str, Attribute[Any]]:
    """The attributes of an entity that are stored, by their stored names."""
    return {field.stored: field for field in entity.layout.fields.values() if field.stored}


def upgrade(entity: type[Entity], schema: int) -> Callable[[U], U]:
    """Registers what makes an item of ``schema + 1`` of a stored item of ``schema``, when it is read.

    A step that has no function changes nothing. The stored item changes when the entity is saved.

    Raises:
        ConfigurationError: The class does not go beyond ``schema``, or the step has its function already.
    """

    def register(function: U) -> U:
        if not 0 < schema < entity.schema or schema in entity.upgrades:
            raise ConfigurationError(
                f"{entity.__name__} has schema {entity.schema}: upgrades start below it, and once; not from {schema}"
            )
        entity.upgrades[schema] = function
        return function

    return register
