"""Typed attribute specifiers: what a line of an entity class says, and how its value is checked, stored and read.

An annotated line of an entity is a constructor argument, its type is what the type checkers enforce::

    name: Attr[str] = text("DomainNM")
    description: Attr[str | None] = text("Description", default=None)

At run time a specifier is a PynamoDB attribute; to a type checker it is an `Attr`, which exists there only.
``identifier``, ``key_text`` and ``key_count`` are parts of a key: they are not stored on their own.
"""

from __future__ import annotations

import json as _json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pynamodb.attributes import Attribute

from agentmodel import keys
from agentmodel.exceptions import ValidationError

__all__ = [
    "Attr",
    "Field",
    "choice",
    "epoch",
    "flag",
    "identifier",
    "json",
    "key_count",
    "key_text",
    "moment",
    "number",
    "rating",
    "text",
]

T = TypeVar("T")
L = TypeVar("L", bound=str)

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition
    from pynamodb.expressions.update import Action

    class Attr(Attribute[T]):
        """What type checkers see of an attribute: its value on an entity, itself on the class."""

        @overload
        def __get__(self, instance: None, owner: Any) -> Attr[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...  # type: ignore[override]  # narrower on purpose
        def eq(self, other: T) -> Condition: ...
        def ne(self, other: T) -> Condition: ...
        def lt(self, other: T) -> Condition: ...
        def le(self, other: T) -> Condition: ...
        def gt(self, other: T) -> Condition: ...
        def ge(self, other: T) -> Condition: ...
        def to(self, value: T) -> Action: ...

else:

    class Attr(Generic[T]):
        """The annotation of an attribute; type checkers see a descriptor, at run time it is only read by people."""


class Field(Attribute[Any]):
    """An attribute at run time: the checks and codecs of one value.

    Attributes:
        required: Whether a constructor call and a stored item must have it.
        stored: Its name in the table; empty for a part of a key that is not stored on its own.
        in_primary_key: Set by the entity when the attribute is a part of PK or SK.
    """

    attr_type = "S"

    def __init__(self, stored: str, *, required: bool, default: Any = None, reads: tuple[str, ...] = ()) -> None:
        super().__init__(null=not required, attr_name=stored or None)
        self.required = required
        self.stored = stored
        self.reads = (stored, *reads) if stored else ()
        self.fallback = default
        self.name = ""
        self.in_primary_key = False

    def __set_name__(self, owner: type[Any], name: str) -> None:
        super().__set_name__(owner, name)
        self.name = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        return instance.attribute_values.get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        accepted = self.accept(value)
        if self.in_primary_key and instance.attribute_values.get(self.name) != accepted:
            raise ValidationError(
                self.name, value, "it is a part of the primary key: make a copy under the new key and delete this item"
            )
        instance.attribute_values[self.name] = accepted

    def accept(self, value: Any) -> Any:
        """The value as an entity holds it, checked.

        Raises:
            ValidationError: It is None although required, or not of the attribute's type or form.
        """
        if value is None:
            if self.required:
                raise ValidationError(self.name, None, "it is required")
            return None
        return self.check(value)

    def check(self, value: Any) -> Any:
        """The value, which is not None, checked and normalised."""
        if not isinstance(value, str):
            raise ValidationError(self.name, value, "it is text")
        return value

    # Typed comparisons; `==` on the class cannot be checked by a type checker, these can

    def eq(self, other: Any) -> Any:
        """``attribute = value``, as a condition."""
        return self == self.accept(other)

    def ne(self, other: Any) -> Any:
        """``attribute <> value``, as a condition."""
        return self != self.accept(other)

    def lt(self, other: Any) -> Any:
        """``attribute < value``, as a condition."""
        return self < self.accept(other)

    def le(self, other: Any) -> Any:
        """``attribute <= value``, as a condition."""
        return self <= self.accept(other)

    def gt(self, other: Any) -> Any:
        """``attribute > value``, as a condition."""
        return self > self.accept(other)

    def ge(self, other: Any) -> Any:
        """``attribute >= value``, as a condition."""
        return self >= self.accept(other)

    def to(self, value: Any) -> Any:
        """Set the attribute, as an action of an update; None removes it."""
        accepted = self.accept(value)
        return self.remove() if accepted is None else self.set(accepted)

    __hash__ = Attribute.__hash__


class _Identifier(Field):
    def __init__(self, prefix: str) -> None:
        super().__init__("", required=True)
        self.prefix = prefix

    def check(self, value: Any) -> Any:
        return _checked_id(self.name, value, self.prefix) if isinstance(value, str) else self._refuse(value)

    def _refuse(self, value: Any) -> str:
        return keys.check_id(self.name, value, self.prefix)


@lru_cache(maxsize=8192)
def _checked_id(field: str, value: str, prefix: str) -> str:
    return keys.check_id(field, value, prefix)


class _KeyText(Field):
    def check(self, value: Any) -> Any:
        keys.TEXT.build(value)
        return value


class _KeyCount(Field):
    def check(self, value: Any) -> Any:
        keys.format_number(value, field=self.name)
        if value < self.fallback:
            raise ValidationError(self.name, value, f"a whole number from {self.fallback} up")
        return value


class _Number(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**38:
            raise ValidationError(self.name, value, "it is a whole number of at most 38 digits")
        return value

    def serialize(self, value: Any) -> Any:
        return str(value)

    def deserialize(self, value: Any) -> Any:
        return int(value)


class _Score(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        return float(keys.format_score(value, field=self.name))

    def serialize(self, value: Any) -> Any:
        return f"{value:.6f}".rstrip("0").rstrip(".")

    def deserialize(self, value: Any) -> Any:
        return keys.parse_score(value) if isinstance(value, str) else float(value)


class _Flag(Field):
    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise ValidationError(self.name, value, "it is True or False")
        return value

    def serialize(self, value: Any) -> Any:
        return "Y" if value else "N"

    def deserialize(self, value: Any) -> Any:
        if value not in ("Y", "N"):
            raise ValidationError(self.name, value, "it is stored as Y or N")
        return value == "Y"


class _Moment(Field):
    def check(self, value: Any) -> Any:
        keys.format_time(self.name, value)
        return value.astimezone(UTC)

    def serialize(self, value: Any) -> Any:
        return keys.format_time(self.name, value)

    def deserialize(self, value: Any) -> Any:
        return keys.parse_time(value, field=self.name)


class _Epoch(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        keys.format_time(self.name, value)
        return value.astimezone(UTC).replace(microsecond=0)

    def serialize(self, value: Any) -> Any:
        return str(int(value.timestamp()))

    def deserialize(self, value: Any) -> Any:
        return datetime.fromtimestamp(int(float(value)), UTC)


class _Json(Field):
    def check(self, value: Any) -> Any:
        self.serialize(value)
        return value

    def serialize(self, value: Any) -> Any:
        try:
            return _json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValidationError(self.name, value, f"it is JSON: {error}") from None

    def deserialize(self, value: Any) -> Any:
        return _json.loads(value)


class _Choice(Field):
    def __init__(self, stored: str, choices: tuple[str, ...], *, required: bool) -> None:
        super().__init__(stored, required=required)
        self.choices = choices

    def check(self, value: Any) -> Any:
        if value not in self.choices:
            raise ValidationError(self.name, value, "it is one of " + ", ".join(self.choices))
        return value


# The specifiers. `default=` is written in the call, because type checkers read it there


def identifier(prefix: str) -> Attr[str]:
    """An id that is a part of a key, such as ``AGT001``; see `agentmodel.keys.check_id`."""
    return _Identifier(prefix)  # type: ignore[return-value]  # a Field at run time, an Attr to type checkers


def key_text() -> Attr[str]:
    """Free text that is a part of a key and not stored on its own (a category)."""
    return _KeyText("", required=True)  # type: ignore[return-value]  # as above


def key_count(*, default: int) -> Attr[int]:
    """A number that is a part of a key and left out of it while it is ``default`` (an attempt)."""
    return _KeyCount("", required=False, default=default)  # type: ignore[return-value]  # as above


@overload
def text(stored: str, *, reads: tuple[str, ...] = ()) -> Attr[str]: ...
@overload
def text(stored: str, *, default: None, reads: tuple[str, ...] = ()) -> Attr[str | None]: ...
def text(stored: str, *, default: Any = ..., reads: tuple[str, ...] = ()) -> Any:
    """Text, stored as it is; ``reads`` names older spellings of the stored name."""
    return Field(stored, required=default is ..., reads=reads)


@overload
def number(stored: str) -> Attr[int]: ...
@overload
def number(stored: str, *, default: None) -> Attr[int | None]: ...
def number(stored: str, *, default: Any = ...) -> Any:
    """A whole number, stored under N."""
    return _Number(stored, required=default is ...)


@overload
def rating(stored: str, *, default: float) -> Attr[float]: ...
@overload
def rating(stored: str, *, default: None) -> Attr[float | None]: ...
def rating(stored: str, *, default: Any) -> Any:
    """A number from 0 to below 10⁸, rounded to six decimals, stored under N and read from S too."""
    return _Score(stored, required=default is not None, default=default)


@overload
def flag(stored: str) -> Attr[bool]: ...
@overload
def flag(stored: str, *, default: bool) -> Attr[bool]: ...
@overload
def flag(stored: str, *, default: None) -> Attr[bool | None]: ...
def flag(stored: str, *, default: Any = ...) -> Any:
    """True or False, stored as Y or N."""
    return _Flag(stored, required=default is not None, default=None if default is ... else default)


@overload
def moment(stored: str) -> Attr[datetime]: ...
@overload
def moment(stored: str, *, default: None) -> Attr[datetime | None]: ...
def moment(stored: str, *, default: Any = ...) -> Any:
    """An aware datetime, stored as 20 digits of UTC; 14 to 20 digits are read."""
    return _Moment(stored, required=default is ...)


def epoch(stored: str, *, default: None) -> Attr[datetime | None]:
    """An aware datetime of whole seconds, stored as epoch seconds under N (DynamoDB's TTL)."""
    return _Epoch(stored, required=False)  # type: ignore[return-value]  # as above


def json(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """A JSON value, stored as text; the declared type rules for type checkers."""
    return _Json(stored, required=default is ... or default_factory is not None, default=default_factory)


@overload
def choice(stored: str, *choices: L) -> Attr[L]: ...
@overload
def choice(stored: str, *choices: L, default: None) -> Attr[L | None]: ...
def choice(stored: str, *choices: str, default: Any = ...) -> Any:
    """One of a few words."""
    return _Choice(stored, choices, required=default is ...)
