"""Describe an entity class: its kinds, attributes and keys, under the names in which they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentmodel.dynamo._attribute import Field
from agentmodel.keys import KeyFormat

__all__ = ["ENTITY_TYPE", "KEY_NAMES", "KINDS", "PRIMARY_KEY", "SCHEMA", "ItemKey", "Key", "Layout", "item_name"]

_E_co = TypeVar("_E_co", covariant=True)

PRIMARY_KEY = ("PK", "SK")
"""The stored names of the primary key."""

KEY_NAMES = (*PRIMARY_KEY, "GSI1_PK", "GSI1_SK")
"""The stored names of the keys: of the table, and of its index."""

ENTITY_TYPE = "EntityType"
SCHEMA = "SchemaVer"

KINDS: dict[str, type[Any]] = {}
"""The entity classes, by each ``EntityType`` that they read."""


class Key:
    """A key of an entity: its format and the attributes that it is made of.

    Attributes:
        format: Joins the attributes' values into the key's text, and splits it.
        attributes: The attributes, in the order of the format's parts.

    >>> from agentmodel import Agent
    >>> Agent.index_sort.format.form, Agent.index_sort.build({"score": 2.5})
    ('AGTSCORE#<score>', 'AGTSCORE#00000002.500000')
    """

    def __init__(self, form: KeyFormat[Any], attributes: tuple[Any, ...]) -> None:
        self.format = form
        self.attributes: tuple[Field, ...] = attributes

    def build(self, values: Mapping[str, Any]) -> str | None:
        """Return the key of these attribute values; None when one of them is not set (a sparse index)."""
        parts = [values.get(attribute.name) for attribute in self.attributes]
        return None if None in parts else self.format.build(*parts)

    @property
    def unstored(self) -> set[str]:
        """The names of the attributes that have no stored name of their own and can be read from keys only."""
        return {field.name for field in self.attributes if not field.stored}


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything from which the code of an entity class is generated.

    Attributes:
        name: The name of the class, for messages.
        location: The module and qualified name of the class, for the file name of the generated source.
        kinds: Its ``EntityType``, then others that it reads.
        schema: Its ``SchemaVer``.
        fields: Its attributes by name.
        keys: The keys that it has, by stored name.
    """

    name: str
    location: str
    kinds: tuple[str, ...]
    schema: int
    fields: Mapping[str, Field]
    keys: Mapping[str, Key]


def item_name(item: Mapping[str, Any]) -> str:
    """Return an item's primary key for a message, such as ``AGT001 / METADATA``."""
    return " / ".join(str(item.get(name, {}).get("S", "?")) for name in PRIMARY_KEY)


class ItemKey(Generic[_E_co]):
    """The primary key of one item, with the class that reads the item; made by an entity's ``at``.

    Attributes:
        entity: The entity class.
        pk: The partition key.
        sk: The sort key.

    >>> from agentmodel import Tool
    >>> at = Tool.at("AGT001", "TL001")
    >>> at.pk, at.sk, at.item()
    ('AGT001', 'TL001', {'PK': {'S': 'AGT001'}, 'SK': {'S': 'TL001'}})
    >>> model.table.get(at).name
    'find_on_map'
    """

    __slots__ = ("entity", "pk", "sk")

    def __init__(self, entity: type[_E_co], pk: str, sk: str) -> None:
        self.entity = entity
        self.pk = pk
        self.sk = sk

    def __repr__(self) -> str:
        return f"{self.entity.__name__} {self.pk} / {self.sk}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemKey) and (self.pk, self.sk) == (other.pk, other.sk)

    def __hash__(self) -> int:
        return hash((self.pk, self.sk))

    def item(self) -> dict[str, dict[str, Any]]:
        """Return the key in the form of DynamoDB's API."""
        return {"PK": {"S": self.pk}, "SK": {"S": self.sk}}
