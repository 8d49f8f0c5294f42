"""Updates of single attributes, with the index keys that are made of them, in one UpdateExpression.

A key is written by an update exactly when one of its attributes is. Its other attributes come from the same update,
from the primary key, or from the loaded entity; in that last case the update holds only while the stored item still
has them, which is a condition of the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from agentmodel.dynamo.attributes import Change, Field
from agentmodel.dynamo.codec import KEY_NAMES, SCHEMA, MadeOf
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.exceptions import ValidationError

__all__ = ["Update"]

E = TypeVar("E", bound=Entity)


class Update(Generic[E]):
    """The request of one update.

    Args:
        target: The entity as it was loaded, or the key of an item.
        changes: What to change, each attribute once.
        version: The version the item gets.

    Attributes:
        values: The attribute values of the entity after the update, as far as they are known before it.
        written: The item as far as the update writes it.

    Raises:
        ValidationError: An attribute is changed twice, is of another class or of the primary key, or feeds an index
            key of which another part is not known.
    """

    def __init__(self, target: E | ItemKey[E], changes: Sequence[Change], *, version: int) -> None:
        loaded = target if isinstance(target, Entity) else None
        self.entity: type[E] = target.entity if isinstance(target, ItemKey) else type(target)
        self.key: ItemKey[E] = target if isinstance(target, ItemKey) else target.key
        self._changes = {change.field.name: change for change in changes}
        self._check(changes)
        self.values = dict(self._known(loaded))
        self.values |= {name: change.value for name, change in self._changes.items() if not change.adds}
        self.written: dict[str, Any] = dict(self.key.item())
        self._sets: list[str] = []
        self._adds: list[str] = []
        self._removes: list[str] = []
        self._conditions = ["attribute_exists(#PK)"]
        self._names: dict[str, str] = {"#PK": "PK"}
        self._given: dict[str, Any] = {}
        for change in changes:
            self._write(change)
        for stored, made in self.entity.layout.keys.items():
            if stored not in KEY_NAMES[:2]:
                self._follow(stored, made, loaded)
        self._version(version)

    def request(self, table: str) -> dict[str, Any]:
        """The parameters of UpdateItem."""
        clauses = {"SET": self._sets, "ADD": self._adds, "REMOVE": self._removes}
        return {
            "TableName": table,
            "Key": self.key.item(),
            "UpdateExpression": " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items() if parts),
            "ConditionExpression": " AND ".join(self._conditions),
            "ExpressionAttributeNames": self._names,
            "ExpressionAttributeValues": self._given,
            "ReturnValues": "ALL_NEW",
        }

    def _check(self, changes: Sequence[Change]) -> None:
        if not changes:
            raise ValidationError("changes", [], f"name what to change, such as {self.entity.__name__}.….to(…)")
        fields = self.entity.layout.fields
        for change in changes:
            name = change.field.name
            if fields.get(name) is not change.field:
                raise ValidationError(name, change.value, f"{self.entity.__name__} has no such attribute")
            if change.field.in_primary_key:
                raise ValidationError(
                    name, change.value,
                    "it is a part of the primary key: make a copy under the new key and delete this item",
                )  # fmt: skip
            if name == "version":
                raise ValidationError(name, change.value, "the version is counted by the writer")
        if len(self._changes) < len(changes):
            names = [change.field.name for change in changes]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValidationError(twice, self._changes[twice].value, "an update changes an attribute once")

    def _known(self, loaded: Entity | None) -> Mapping[str, Any]:
        """Attribute values that the update may rely on: all of a loaded entity, else those of the primary key."""
        if loaded is not None:
            return loaded.attribute_values
        known: dict[str, Any] = {}
        for stored, text in zip(KEY_NAMES[:2], (self.key.pk, self.key.sk), strict=True):
            made = self.entity.layout.keys[stored]
            names = [field.name for field in made.attributes]
            known |= zip(names, made.format.parse(text), strict=True)
        return known

    def _write(self, change: Change) -> None:
        field, stored = change.field, change.field.stored
        if not stored:  # a part of an index key only: the key says it
            return
        if change.adds:
            self._adds.append(f"{self._name(stored)} {self._value({'N': str(change.value)})}")
        elif change.value is None:
            self._removes += [self._name(name) for name in field.reads]
        else:
            self.written[stored] = {field.attr_type: field.serialize(change.value)}
            self._sets.append(f"{self._name(stored)} = {self._value(self.written[stored])}")
            self._removes += [self._name(name) for name in field.reads[1:]]  # older spellings

    def _follow(self, stored: str, made: MadeOf, loaded: Entity | None) -> None:
        """Write an index key when one of its attributes is changed."""
        changed = [field for field in made.attributes if field.name in self._changes]
        if not changed:
            return
        for field in made.attributes:
            self._require(stored, field, changed, loaded)
        text = self.entity.key_code[stored](self.values)
        if text is None:
            self._removes.append(self._name(stored))
        else:
            self._sets.append(f"{self._name(stored)} = {self._value({'S': text})}")

    def _require(self, stored: str, field: Field, changed: Sequence[Field], loaded: Entity | None) -> None:
        change = self._changes.get(field.name)
        if change is not None and change.adds:
            raise ValidationError(
                field.name, change.value, f"it is a part of the index key {stored}: give its new value, by .to(…)"
            )
        if change is None and field.name not in self.values:
            raise ValidationError(
                field.name, None,
                f"it is a part of the index key {stored}, as {changed[0].name} is: give it too, or the loaded entity",
            )  # fmt: skip
        if change is None and loaded is not None and not field.in_primary_key:
            self._condition(stored, field, loaded)

    def _condition(self, stored: str, field: Field, loaded: Entity) -> None:
        """Hold only while an attribute has the loaded value, or the index key it is a part of."""
        value = loaded.attribute_values[field.name]
        if not field.stored:
            before = self.entity.key_code[stored](loaded.attribute_values)
            wire = None if before is None else {"S": before}
            self._holds(stored, wire)
        else:
            self._holds(field.stored, None if value is None else {field.attr_type: field.serialize(value)})

    def _holds(self, stored: str, wire: Mapping[str, Any] | None) -> None:
        name = self._name(stored)
        missing = f"attribute_not_exists({name})"
        self._conditions.append(missing if wire is None else f"{name} = {self._value(wire)}")

    def _version(self, version: int) -> None:
        """Raise the version, and never lower it: a newer one stays, as for every other write."""
        name, value = self._name("Version"), self._value({"N": str(version)})
        self._sets.append(f"{name} = {value}")
        self._conditions.append(f"(attribute_not_exists({name}) OR {name} < {value})")
        if self.entity.upgrades:  # an item that is still to be upgraded is read and saved, not changed in part
            schema = self._value({"N": str(self.entity.schema)})
            self._conditions.append(f"{self._name(SCHEMA)} >= {schema}")

    def _name(self, stored: str) -> str:
        placeholder = (
            f"#{stored}" if stored.replace("_", "").isalnum() and stored.isascii() else f"#n{len(self._names)}"
        )
        self._names[placeholder] = stored
        return placeholder

    def _value(self, wire: Mapping[str, Any]) -> str:
        placeholder = f":v{len(self._given)}"
        self._given[placeholder] = dict(wire)
        return placeholder
