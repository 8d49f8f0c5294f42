"""Read stored items that do not have their class's usual form: older, newer, incomplete or spelled differently.

The generated code of a class (`agentmodel.dynamo._codegen`) reads items of the usual form and passes all others to
`upgrade_item` or `read_carefully`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Protocol, cast

from agentmodel.dynamo._attribute import Field
from agentmodel.dynamo._layout import ENTITY_TYPE, KEY_NAMES, PRIMARY_KEY, SCHEMA, Key, Layout, item_name
from agentmodel.exceptions import CorruptItem, ValidationError

__all__ = ["UNREADABLE", "read_carefully", "read_projected", "upgrade_item"]

UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""The exceptions that reading an item of another form may raise."""


class EntityClass(Protocol):
    """The parts of an entity class that reading needs."""

    layout: Layout
    schema: int
    upgrades: dict[int, Callable[[dict[str, dict[str, Any]]], dict[str, dict[str, Any]]]]

    def from_item(self, item: Mapping[str, Any], /) -> Any:
        """Return the entity of a stored item."""


def upgrade_item(entity: EntityClass, item: Mapping[str, Any]) -> Any:
    """Return the entity of an item whose ``SchemaVer`` or ``EntityType`` is not the one that the class writes.

    An older item is upgraded step by step; an item without a ``SchemaVer`` has the first one. A newer item is read as
    it is: what the class does not know is kept, with the item's ``SchemaVer``.

    Raises:
        CorruptItem: The item is of another class or has no type, its ``SchemaVer`` is not a number, or an upgrade
            changed the primary key.
    """
    _check_kind(entity.layout, item)
    try:
        version = int(item.get(SCHEMA, {"N": "1"})["N"])
    except UNREADABLE:
        raise CorruptItem(item_name(item), SCHEMA, "is not a whole number") from None
    if version > entity.schema or (version == entity.schema and SCHEMA in item):
        return read_carefully(entity, item)
    new = dict(item)
    for step in range(version, entity.schema):
        upgrade = entity.upgrades.get(step)
        new = new if upgrade is None else dict(upgrade(new))
    for name in PRIMARY_KEY:
        if new.get(name) != item.get(name):
            raise CorruptItem(
                item_name(item), name, "was changed by an upgrade function: an upgrade must not change the primary key"
            )
    new[SCHEMA], new[ENTITY_TYPE] = {"N": str(entity.schema)}, {"S": entity.layout.kinds[0]}
    return entity.from_item(new)


class _Projected(dict[str, Any]):
    """The attribute values of an entity of which only some were read; to use or write another one raises."""

    def __missing__(self, name: str) -> Any:
        raise ValidationError(name, None, "cannot be used because it was not read: name it in attributes_to_get")

    def get(self, name: str, _default: Any = None, /) -> Any:
        return self[name]


def read_projected(entity: EntityClass, names: Container[str], item: Mapping[str, Any]) -> Any:
    """Return the entity of an item of which only the keys and the attributes with these names were read.

    Raises:
        CorruptItem: As `read_carefully`; also where the item is of another class.
    """
    _check_kind(entity.layout, item)
    return read_carefully(entity, item, names)


def _check_kind(layout: Layout, item: Mapping[str, Any]) -> None:
    kind = item.get(ENTITY_TYPE, {}).get("S")
    if kind not in layout.kinds:
        problem = "is missing" if kind is None else f"is {kind}"
        raise CorruptItem(item_name(item), ENTITY_TYPE, f"{problem}, so the item cannot be read as {layout.name}")


def read_carefully(entity: EntityClass, item: Mapping[str, Any], names: Container[str] | None = None) -> Any:
    """Return the entity of an item in any form that can be read.

    Args:
        entity: The class.
        item: The item.
        names: The attributes that were read, beside those in keys; None for all.

    Raises:
        CorruptItem: A key or attribute is missing or cannot be read; the message names the item and the attribute.
    """
    layout = entity.layout
    values: dict[str, Any] = {}
    rest = dict(item)
    for name in KEY_NAMES:
        stored, key = rest.pop(name, None), layout.keys.get(name)
        if key is None:
            continue
        wanted = key.unstored - values.keys()
        if name in PRIMARY_KEY or (wanted and stored is not None):
            _read_key(item, name, key, wanted, values)
    for name, field in layout.fields.items():
        if name not in values and (names is None or name in names):
            values[name] = _read_attribute(item, field, rest)
    rest.pop(ENTITY_TYPE, None)
    if rest.get(SCHEMA) == {"N": str(layout.schema)}:
        del rest[SCHEMA]
    read: Any = object.__new__(cast("type[Any]", entity))
    ordered = {name: values[name] for name in layout.fields if name in values}
    read.attribute_values = ordered if names is None else _Projected(ordered)
    if rest:
        read.extra = rest
    return read


def _read_key(item: Mapping[str, Any], name: str, key: Key, wanted: set[str], values: dict[str, Any]) -> None:
    try:
        parts: Sequence[Any] = key.format.parse(item[name]["S"])
    except (KeyError, TypeError):
        raise CorruptItem(item_name(item), name, "is missing") from None
    except ValidationError as error:
        raise CorruptItem(item_name(item), name, str(error)) from None
    named = zip((field.name for field in key.attributes), parts, strict=True)
    values.update((field, value) for field, value in named if field in wanted)


def _read_attribute(item: Mapping[str, Any], field: Field, rest: dict[str, Any]) -> Any:
    for stored in field.reads:
        wire = rest.pop(stored, None)
        if wire is None or "NULL" in wire:
            continue
        try:
            return field.deserialize(wire[field.attr_type] if field.attr_type in wire else wire["S"])
        except UNREADABLE as error:
            raise CorruptItem(item_name(item), stored, f"cannot be read: {error}") from None
    if field.required and field.default_value is None:
        raise CorruptItem(item_name(item), field.stored or field.name, "is missing, although it is required")
    return field.default_value() if callable(field.default_value) else field.default_value
