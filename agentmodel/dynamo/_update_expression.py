"""Build one UpdateExpression for changes of single attributes and for the index keys that are made of them.

An index key is written exactly when one of its attributes is changed. Its other attributes come from the same update,
from the primary key or from the loaded entity. In the last case the request has the condition that the stored item
still has their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from agentmodel.dynamo._attribute import Change, Field
from agentmodel.dynamo._layout import PRIMARY_KEY, SCHEMA, Key
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.exceptions import ValidationError

__all__ = ["Update"]

E = TypeVar("E", bound=Entity)


class Update(Generic[E]):
    """The UpdateItem request of one update.

    Args:
        target: The entity as it was loaded, or the key of an item.
        changes: The changes, at most one for each attribute.
        version: The version that the item gets.

    Attributes:
        values: The attribute values of the entity after the update, as far as they are known before it.
        written: The part of the item that the update writes.

    Raises:
        ValidationError: An attribute is changed twice, is of another class, is part of the primary key, or is part of
            an index key whose other parts are not known.
    """

    def __init__(self, target: E | ItemKey[E], changes: Sequence[Change], *, version: int) -> None:
        loaded = target if isinstance(target, Entity) else None
        self.entity: type[E] = target.entity if isinstance(target, ItemKey) else type(target)
        self.key: ItemKey[E] = target if isinstance(target, ItemKey) else target.key
        self._changes = {change.field.name: change for change in changes}
        self._check(changes)
        self.values = dict(self._known_values(loaded))
        self.values |= {name: change.value for name, change in self._changes.items() if not change.adds}
        self.written: dict[str, Any] = dict(self.key.item())
        self._sets: list[str] = []
        self._adds: list[str] = []
        self._removes: list[str] = []
        self._conditions = ["attribute_exists(#PK)"]
        self._names: dict[str, str] = {"#PK": "PK"}
        self._placeholders: dict[str, Any] = {}
        for change in changes:
            self._write_attribute(change)
        for stored, key in self.entity.layout.keys.items():
            if stored not in PRIMARY_KEY:
                self._update_index_key(stored, key, loaded)
        self._set_version(version)

    def request(self, table: str) -> dict[str, Any]:
        """Return the parameters of UpdateItem."""
        clauses = {"SET": self._sets, "ADD": self._adds, "REMOVE": self._removes}
        return {
            "TableName": table,
            "Key": self.key.item(),
            "UpdateExpression": " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items() if parts),
            "ConditionExpression": " AND ".join(self._conditions),
            "ExpressionAttributeNames": self._names,
            "ExpressionAttributeValues": self._placeholders,
            "ReturnValues": "ALL_NEW",
        }

    def _check(self, changes: Sequence[Change]) -> None:
        if not changes:
            raise ValidationError("changes", [], f"must name what to change, such as {self.entity.__name__}.….to(…)")
        fields = self.entity.layout.fields
        for change in changes:
            name = change.field.name
            if fields.get(name) is not change.field:
                raise ValidationError(
                    name, change.value, f"cannot be set because {self.entity.__name__} has no such attribute"
                )
            if change.field.in_primary_key:
                raise ValidationError(
                    name, change.value,
                    "cannot be changed because it is in the primary key: copy the item to the new key and delete "
                    "this one",
                )  # fmt: skip
            if name == "version":
                raise ValidationError(name, change.value, "cannot be set because the writer sets it: leave it out")
        if len(self._changes) < len(changes):
            names = [change.field.name for change in changes]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValidationError(twice, self._changes[twice].value, "must be changed only once in an update")

    def _known_values(self, loaded: Entity | None) -> Mapping[str, Any]:
        """Return the attribute values that are known: all of a loaded entity, else those in the primary key."""
        if loaded is not None:
            return loaded.attribute_values
        known: dict[str, Any] = {}
        for stored, text in zip(PRIMARY_KEY, (self.key.pk, self.key.sk), strict=True):
            key = self.entity.layout.keys[stored]
            names = [field.name for field in key.attributes]
            known |= zip(names, key.format.parse(text), strict=True)
        return known

    def _write_attribute(self, change: Change) -> None:
        field, stored = change.field, change.field.stored
        if not stored:  # it is stored in the index key only, which is written below
            return
        if change.adds:
            self._adds.append(f"{self._name(stored)} {self._value({'N': str(change.value)})}")
        elif change.value is None:
            self._removes += [self._name(name) for name in field.reads]
        else:
            self.written[stored] = {field.attr_type: field.serialize(change.value)}
            self._sets.append(f"{self._name(stored)} = {self._value(self.written[stored])}")
            self._removes += [self._name(name) for name in field.reads[1:]]  # older spellings

    def _update_index_key(self, stored: str, key: Key, loaded: Entity | None) -> None:
        """Write an index key if one of its attributes is changed."""
        changed = [field for field in key.attributes if field.name in self._changes]
        if not changed:
            return
        for field in key.attributes:
            self._check_known(stored, field, changed, loaded)
        text = self.entity.key_code[stored](self.values)
        if text is None:
            self._removes.append(self._name(stored))
        else:
            self._sets.append(f"{self._name(stored)} = {self._value({'S': text})}")

    def _check_known(self, stored: str, field: Field, changed: Sequence[Field], loaded: Entity | None) -> None:
        change = self._changes.get(field.name)
        if change is not None and change.adds:
            raise ValidationError(
                field.name,
                change.value,
                f"cannot be added to because it is a part of the index key {stored}: set it with .to(…)",
            )
        if change is None and field.name not in self.values:
            raise ValidationError(
                field.name, None,
                f"must be given too, because it is a part of the index key {stored}, as {changed[0].name} is: change "
                "both, or pass the loaded entity",
            )  # fmt: skip
        if change is None and loaded is not None and not field.in_primary_key:
            self._require_unchanged(stored, field, loaded)

    def _require_unchanged(self, stored: str, field: Field, loaded: Entity) -> None:
        """Add the condition that an attribute, or the index key that it is a part of, is stored as it was loaded."""
        value = loaded.attribute_values[field.name]
        if not field.stored:
            before = self.entity.key_code[stored](loaded.attribute_values)
            wire = None if before is None else {"S": before}
            self._require_stored(stored, wire)
        else:
            self._require_stored(field.stored, None if value is None else {field.attr_type: field.serialize(value)})

    def _require_stored(self, stored: str, wire: Mapping[str, Any] | None) -> None:
        name = self._name(stored)
        missing = f"attribute_not_exists({name})"
        self._conditions.append(missing if wire is None else f"{name} = {self._value(wire)}")

    def _set_version(self, version: int) -> None:
        """Set the version, on the condition that no newer one is stored, as every other write does."""
        name, value = self._name("Version"), self._value({"N": str(version)})
        self._sets.append(f"{name} = {value}")
        self._conditions.append(f"(attribute_not_exists({name}) OR {name} < {value})")
        if self.entity.upgrades:  # an item of an older schema must be read and saved whole
            schema = self._value({"N": str(self.entity.schema)})
            self._conditions.append(f"{self._name(SCHEMA)} >= {schema}")

    def _name(self, stored: str) -> str:
        placeholder = (
            f"#{stored}" if stored.replace("_", "").isalnum() and stored.isascii() else f"#n{len(self._names)}"
        )
        self._names[placeholder] = stored
        return placeholder

    def _value(self, wire: Mapping[str, Any]) -> str:
        placeholder = f":v{len(self._placeholders)}"
        self._placeholders[placeholder] = dict(wire)
        return placeholder
