"""Whole entities as dictionaries, JSON and copies, and back: by PynamoDB's names, pydantic's, and ``copy``."""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from pynamodb.models import Model

from agentmodel.dynamo._values import decode, encoder
from agentmodel.exceptions import CorruptItem, ValidationError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["RoundTrip"]

_E = TypeVar("_E")
_F = TypeVar("_F")

Item = dict[str, dict[str, Any]]


class _FormReader(Generic[_F]):
    """A method that reads an item: on a class it returns an entity, on an entity it replaces all its values."""

    def __init__(self, item_of: Callable[[_F], Mapping[str, Any]]) -> None:
        self._item_of = item_of
        self.__doc__ = item_of.__doc__

    @overload
    def __get__(self, instance: None, owner: type[_E]) -> Callable[[_F], _E]: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> Callable[[_F], None]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        def load(form: _F) -> Any:
            item = self._item_of(form)
            return owner.from_item(item) if instance is None else instance.deserialize(item)

        load.__doc__ = self.__doc__
        return load


def _of_dynamodb_dict(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what `to_dynamodb_dict` or `to_item` returned: ``Agent.from_dynamodb_dict(form)`` is a new entity.

    Raises:
        CorruptItem: It is of another class or without an ``EntityType``, or cannot be read.
        ValidationError: It is not in DynamoDB's form.
    """
    if not isinstance(form, Mapping) or not all(isinstance(wire, Mapping) and len(wire) == 1 for wire in form.values()):
        raise ValidationError(
            "form", form, "must have values such as {'S': 'text'} by stored names: from_simple_dict takes plain values"
        )
    return {name: _map_bytes(wire, lambda value: b64decode(value) if isinstance(value, str) else value)
            for name, wire in form.items()}  # fmt: skip


def _of_simple_dict(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what `to_simple_dict` returned: ``Agent.from_simple_dict(form)`` is a new entity.

    Raises:
        CorruptItem: It is of another class or without an ``EntityType``, or cannot be read.
        ValidationError: It is no dictionary, or has a value that DynamoDB does not take.
    """
    if not isinstance(form, Mapping):
        raise ValidationError("form", form, "must be a dictionary of attributes by their stored names")
    return {name: _wire(name, value) for name, value in form.items()}


def _wire(name: str, value: Any) -> dict[str, Any]:
    if type(value) is int and abs(value) < 10**38:  # all digits, as attributes that are whole numbers read them
        return {"N": str(value)}
    return encoder(name)(value)


def _of_json(form: str | bytes) -> Mapping[str, Any]:
    """Read what `to_json` returned: ``Agent.from_json(text)`` is a new entity.

    Raises:
        CorruptItem: It is of another class or without an ``EntityType``, or cannot be read.
        ValidationError: It is no JSON object.
    """
    try:
        return _of_simple_dict(json.loads(form))
    except ValueError as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError("form", form, f"must be JSON: {error}") from None


class RoundTrip(Model):
    """The forms of an entity. Each holds the whole item, with its keys and its ``EntityType``."""

    if TYPE_CHECKING:
        extra: Any

        def to_item(self) -> Item: ...  # generated

    def to_dynamodb_dict(self) -> Item:
        """Return the item as `to_item` does, in a form that JSON takes: bytes are base64 text."""
        return {
            name: _map_bytes(wire, lambda value: b64encode(value).decode()) for name, wire in self.to_item().items()
        }

    def to_simple_dict(self, *, force: bool = False) -> dict[str, Any]:
        """Return the item as plain values by stored names, as JSON takes them.

        Args:
            force: Whether to return bytes, sets and long decimals too, as base64 text, lists and shorter numbers; they
                cannot be read back as what they were.

        Raises:
            ValueError: There are such values, and ``force`` is not set.
        """
        return {name: _simple(decode(wire), force) for name, wire in self.to_item().items()}

    def to_json(self) -> str:
        """Return `to_simple_dict` as JSON."""
        return json.dumps(self.to_simple_dict(), ensure_ascii=False)

    from_dynamodb_dict: ClassVar[_FormReader[Mapping[str, Any]]] = _FormReader(_of_dynamodb_dict)  # type: ignore[assignment]  # PynamoDB's is on entities only
    from_simple_dict: ClassVar[_FormReader[Mapping[str, Any]]] = _FormReader(_of_simple_dict)  # type: ignore[assignment]  # likewise
    from_json: ClassVar[_FormReader[str | bytes]] = _FormReader(_of_json)

    def __copy__(self) -> Self:
        """Return an entity with the same values, which can be changed without changing this one."""
        new = object.__new__(type(self))
        vars(new).update({name: copy.copy(value) for name, value in vars(self).items()})
        return new

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic take entities, and what `to_simple_dict` returned; in JSON an entity is that dictionary."""
        from pydantic_core import core_schema

        def load(form: Any) -> Any:
            if isinstance(form, cls):
                return form
            try:
                return cls.from_simple_dict(form)
            except CorruptItem as error:  # pydantic takes a ValueError as the reason
                raise ValueError(str(error)) from error

        form = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(load, form),
            python_schema=core_schema.no_info_plain_validator_function(load),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.to_simple_dict, when_used="json", return_schema=form
            ),
        )


def _map_bytes(wire: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of a value in DynamoDB's form with its bytes changed."""
    ((kind, value),) = wire.items()
    if kind == "B":
        return {kind: change(value)}
    if kind == "BS":
        return {kind: [change(each) for each in value]}
    if kind == "M":
        return {kind: {name: _map_bytes(each, change) for name, each in value.items()}}
    if kind == "L":
        return {kind: [_map_bytes(each, change) for each in value]}
    return {kind: list(value) if isinstance(value, list) else value}


def _simple(value: Any, force: bool) -> Any:
    """Return a plain value as JSON takes it."""
    if isinstance(value, dict):
        return {name: _simple(each, force) for name, each in value.items()}
    if isinstance(value, list):
        return [_simple(each, force) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if not force:
        raise ValueError(f"{type(value).__name__} has no form in JSON that can be read back: use to_dynamodb_dict")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, set):
        return sorted(_simple(each, force) for each in value)
    return float(value)
