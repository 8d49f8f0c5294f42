"""Typed attribute specifiers: what a line of an entity class says, and how its value is checked, stored and read.

An annotated line of an entity is a constructor argument, its type is what the type checkers enforce::

    name: Attr[str] = text("DomainNM")
    description: Attr[str | None] = text("Description", default=None)

At run time a specifier is a PynamoDB attribute; to a type checker it is an `Attr`, which exists there only.
``identifier``, ``key_text`` and ``key_count`` are parts of a key: they are not stored on their own.

An attribute says twice how it is checked, written and read: as methods, for single values, and as lines of source
(``check_source``, ``encode_source``, ``decode_source``), of which `agentmodel.dynamo.codec` makes the code of a class.
"""

from __future__ import annotations

import json as _json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pynamodb.attributes import Attribute

from agentmodel import keys
from agentmodel.dynamo import plain
from agentmodel.exceptions import ValidationError

__all__ = [
    "Attr",
    "Change",
    "Field",
    "choice",
    "decimal",
    "epoch",
    "flag",
    "identifier",
    "json",
    "key_count",
    "key_text",
    "listing",
    "mapping",
    "moment",
    "number",
    "rating",
    "text",
]

T = TypeVar("T")
L = TypeVar("L", bound=str)

Scope = dict[str, Any]
"""What generated code calls, by the names it calls it by."""

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition

    class Attr(Attribute[T]):
        """What type checkers see of an attribute: its value on an entity, itself on the class."""

        @overload
        def __get__(self, instance: None, owner: Any) -> Attr[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...  # type: ignore[override]  # narrower on purpose
        # documented at `Field`, which is what these are at run time
        def eq(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def ne(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def lt(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def le(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def gt(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def ge(self, other: T) -> Condition: ...  # noqa: D102  # as said
        def to(self, value: T) -> Change: ...  # noqa: D102  # as said
        def plus(self, amount: int) -> Change: ...  # noqa: D102  # as said

else:

    class Attr(Generic[T]):
        """The annotation of an attribute; type checkers see a descriptor, at run time it is only read by people."""


class Change:
    """What an update does to one attribute; made by ``Agent.score.to(3.0)`` and ``Agent.executions.plus(1)``.

    Attributes:
        field: The attribute.
        value: Its new value, checked; None removes it. Or the amount to add.
        adds: Whether the value is added to the stored one, in one step and whatever that is.
    """

    __slots__ = ("adds", "field", "value")

    def __init__(self, field: Field, value: Any, *, adds: bool = False) -> None:
        self.field = field
        self.value = value
        self.adds = adds

    def __repr__(self) -> str:
        return f"{self.field.name}.{'plus' if self.adds else 'to'}({self.value!r})"


def bind(scope: Scope, word: str, helper: Any) -> str:
    """The name under which generated code finds ``helper``; it starts with an underscore, as no attribute does."""
    name = f"_{word}{len(scope)}"
    scope[name] = helper
    return name


class Field(Attribute[Any]):
    """An attribute at run time: the checks and codecs of one value.

    Attributes:
        required: Whether a constructor call and a stored item must have it.
        stored: Its name in the table; empty for a part of a key that is not stored on its own.
        in_primary_key: Set by the entity when the attribute is a part of PK or SK.
        known: Ids that were checked before, by themselves, where the attribute is an id.
    """

    attr_type = "S"
    known: dict[str, str] | None = None

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
        return _text_of(self.name, value)

    # Source of the same, for the generated code of a class; what is not of the usual form goes to the methods

    def check_source(self, scope: Scope) -> list[str]:
        """Statements that leave the variable of the attribute's name checked."""
        return [f"{self.name} = {bind(scope, 'accept', self.accept)}({self.name})"]

    def _unless(self, usual: str, scope: Scope) -> list[str]:
        """Statements that check the variable with `accept`, unless it is of the usual form or None where it may be."""
        present = "" if self.required else f"{self.name} is not None and "
        return [
            f"if {present}not ({usual}):",
            f"    {self.name} = {bind(scope, 'accept', self.accept)}({self.name})",
        ]

    def encode_source(self, value: str, scope: Scope) -> str:
        """Expression for the stored form of the variable ``value``, which is not None."""
        return f"{{{self.attr_type!r}: {bind(scope, 'serialize', self.serialize)}({value})}}"

    def decode_source(self, wire: str, scope: Scope) -> str:
        """Expression for the value whose stored form is the variable ``wire``; any other form raises."""
        return f"{bind(scope, 'deserialize', self.deserialize)}({wire}[{self.attr_type!r}])"

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

    # Typed changes, for `Writer.update`

    def to(self, value: Any) -> Change:
        """Set the attribute in an update; None removes it."""
        return Change(self, self.accept(value))

    def plus(self, amount: int) -> Change:
        """Add to a whole number in an update, whatever is stored; nothing stored counts as 0."""
        raise ValidationError(self.name, amount, "only whole numbers are added to")

    __hash__ = Attribute.__hash__


class _Text(Field):
    def check_source(self, scope: Scope) -> list[str]:
        return self._unless(f"_type({self.name}) is _str", scope)

    def encode_source(self, value: str, scope: Scope) -> str:  # noqa: ARG002  # text is stored as it is
        return f"{{'S': {value}}}"

    def decode_source(self, wire: str, scope: Scope) -> str:  # noqa: ARG002  # likewise
        return f"{wire}['S']"


class _Identifier(Field):
    """An id; those found to be one are remembered, so that a recorder checks its user and session once."""

    def __init__(self, prefix: str) -> None:
        super().__init__("", required=True)
        self.prefix = prefix
        self.known = self._known = _known_ids(prefix)

    def check(self, value: Any) -> Any:
        text = keys.check_id(self.name, _text_of(self.name, value) if isinstance(value, str) else value, self.prefix)
        if len(self._known) >= _KNOWN_IDS:
            self._known.clear()
        self._known[text] = text
        return text

    def check_source(self, scope: Scope) -> list[str]:
        return [
            f"try: {self.name} = {bind(scope, 'ids', self.known)}[{self.name}]",
            f"except (KeyError, TypeError): {self.name} = {bind(scope, 'accept', self.accept)}({self.name})",
        ]


_KNOWN_IDS = 8192
_SMALL = 2**30  # numbers below it are compared faster


@cache
def _known_ids(prefix: str) -> dict[str, str]:  # noqa: ARG001  # one a prefix, at most _KNOWN_IDS in it
    return {}


def _text_of(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValidationError(field, value, "it is text")
    return value if type(value) is str else str.__str__(value)  # a subclass may print as something else (an Enum does)


class _KeyText(Field):
    def check(self, value: Any) -> Any:
        text = _text_of(self.name, value)
        try:
            return keys.TEXT.parse(keys.TEXT.build(text))[0]  # in Unicode NFC, as it will be read from the key
        except ValidationError as error:
            raise ValidationError(self.name, value, error.rule) from None


class _KeyCount(Field):
    def check(self, value: Any) -> Any:
        keys.format_number(value, field=self.name)
        if value < self.fallback:
            raise ValidationError(self.name, value, f"a whole number from {self.fallback} up")
        return int(value)

    def check_source(self, scope: Scope) -> list[str]:
        return self._unless(f"_type({self.name}) is _int and {self.fallback} <= {self.name} < {_SMALL}", scope)


class _Number(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**38:
            raise ValidationError(self.name, value, "it is a whole number of at most 38 digits")
        return int(value)

    def check_source(self, scope: Scope) -> list[str]:
        small, fit = (f"{-limit} < {self.name} < {limit}" for limit in (_SMALL, 10**38))
        return self._unless(f"_type({self.name}) is _int and ({small} or {fit})", scope)

    def serialize(self, value: Any) -> Any:
        return str(value)

    def encode_source(self, value: str, scope: Scope) -> str:  # noqa: ARG002  # needs nothing else
        return f"{{'N': f\"{{{value}}}\"}}"

    def deserialize(self, value: Any) -> Any:
        return int(value)

    def decode_source(self, wire: str, scope: Scope) -> str:  # noqa: ARG002  # likewise
        return f"_int({wire}['N'])"

    def plus(self, amount: int) -> Change:
        return Change(self, self.check(amount), adds=True)


class _Decimal(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        if not isinstance(value, Decimal):
            raise ValidationError(self.name, value, "it is a Decimal")
        plain.number_text(self.name, value)
        return value

    def serialize(self, value: Any) -> Any:
        return plain.number_text(self.name, value)

    def deserialize(self, value: Any) -> Any:
        return Decimal(value)


class _Score(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        return float(keys.format_score(value, field=self.name))

    def check_source(self, scope: Scope) -> list[str]:
        accept, name = bind(scope, "accept", self.accept), self.name
        otherwise = "else" if self.required else f"elif {name} is not None"
        return [  # rounding as `format_score` does; + 0.0 makes a zero of a negative zero
            f"if _type({name}) is _float and 0.0 <= {name} < {keys.SCORE_LIMIT - 1}:",
            f"    {name} = _round({name}, {keys.SCORE_DIGITS}) + 0.0",
            f"{otherwise}:",
            f"    {name} = {accept}({name})",
        ]

    def serialize(self, value: Any) -> Any:
        return f"{value:.6f}".rstrip("0").rstrip(".")

    def deserialize(self, value: Any) -> Any:
        if not 0 <= float(value) < keys.SCORE_LIMIT:
            raise ValidationError(self.name, value, f"a score is a number from 0 to below {keys.SCORE_LIMIT}")
        return round(float(value), keys.SCORE_DIGITS) + 0.0


class _Flag(Field):
    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise ValidationError(self.name, value, "it is True or False")
        return value

    def check_source(self, scope: Scope) -> list[str]:
        return self._unless(f"{self.name} is True or {self.name} is False", scope)

    def serialize(self, value: Any) -> Any:
        return "Y" if value else "N"

    def encode_source(self, value: str, scope: Scope) -> str:  # noqa: ARG002  # needs nothing else
        return f"{{'S': 'Y' if {value} else 'N'}}"

    def deserialize(self, value: Any) -> Any:
        if value not in ("Y", "N"):
            raise ValidationError(self.name, value, "it is stored as Y or N")
        return value == "Y"

    def decode_source(self, wire: str, scope: Scope) -> str:
        return f"{bind(scope, 'flags', {'Y': True, 'N': False})}[{wire}['S']]"


class _Moment(Field):
    def check(self, value: Any) -> Any:
        keys.format_time(self.name, value)
        return value.astimezone(UTC)

    def check_source(self, scope: Scope) -> list[str]:
        return self._unless(f"_type({self.name}) is _datetime and {self.name}.tzinfo is _UTC", scope)

    def serialize(self, value: Any) -> Any:
        return keys.format_time(self.name, value)

    def deserialize(self, value: Any) -> Any:
        return keys.parse_time(value, field=self.name)


class _Epoch(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        keys.format_time(self.name, value)
        return value.astimezone(UTC).replace(microsecond=0)

    def check_source(self, scope: Scope) -> list[str]:
        name = self.name
        return self._unless(f"_type({name}) is _datetime and {name}.tzinfo is _UTC and not {name}.microsecond", scope)

    def serialize(self, value: Any) -> Any:
        return str(int(value.timestamp()))

    def deserialize(self, value: Any) -> Any:
        return datetime.fromtimestamp(int(float(value)), UTC)


_dumps = _json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_loads = _json.JSONDecoder().decode


class _Json(Field):
    def check(self, value: Any) -> Any:
        self.serialize(value)
        return value

    def check_source(self, scope: Scope) -> list[str]:
        return self._unless("False", scope)

    def serialize(self, value: Any) -> Any:
        try:
            return _dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValidationError(self.name, value, f"it is JSON: {error}") from None

    def deserialize(self, value: Any) -> Any:
        return _loads(value)


class _Choice(_Text):
    def __init__(self, stored: str, choices: tuple[str, ...], *, required: bool) -> None:
        super().__init__(stored, required=required)
        self.choices = choices

    def check(self, value: Any) -> Any:
        if value not in self.choices:
            raise ValidationError(self.name, value, "it is one of " + ", ".join(self.choices))
        return _text_of(self.name, value)

    def check_source(self, scope: Scope) -> list[str]:
        choices = bind(scope, "choices", frozenset(self.choices))
        return self._unless(f"_type({self.name}) is _str and {self.name} in {choices}", scope)


class _Plain(Field):
    """A list or map of plain values. What is in it may change at any time, so that is checked when it is written."""

    def __init__(self, stored: str, kind: type[Any], attr_type: str, *, required: bool, default: Any) -> None:
        super().__init__(stored, required=required, default=default)
        self.kind = kind
        self.attr_type = attr_type

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.kind):
            raise ValidationError(self.name, value, f"it is a {self.kind.__name__}")
        return value

    def check_source(self, scope: Scope) -> list[str]:
        return self._unless(f"_type({self.name}) is _{self.kind.__name__}", scope)

    def serialize(self, value: Any) -> Any:
        return plain.encoder(self.name)(value)[self.attr_type]

    def encode_source(self, value: str, scope: Scope) -> str:
        return f"{bind(scope, 'plain', plain.encoder(self.name))}({value})"

    def deserialize(self, value: Any) -> Any:
        return plain.decode({self.attr_type: value})

    def decode_source(self, wire: str, scope: Scope) -> str:
        within = "[{} for _e in {}]" if self.attr_type == "L" else "{{_k: {} for _k, _e in {}.items()}}"
        decode = bind(scope, "decode", plain.decode)
        return within.format(f"_e['S'] if 'S' in _e else {decode}(_e)", f"{wire}[{self.attr_type!r}]")


# The specifiers. `default=` is written in the call, because type checkers read it there


def identifier(prefix: str) -> Attr[str]:
    """An id that is a part of a key, such as ``AGT001``; see `agentmodel.keys.check_id`."""
    return _Identifier(prefix)  # type: ignore[return-value]  # a Field at run time, an Attr to type checkers


def key_text() -> Attr[str]:
    """Free text that is a part of a key and not stored on its own (a category)."""
    return _KeyText("", required=True)  # type: ignore[return-value]  # as above


def key_count(*, default: int) -> Attr[int]:
    """A number that is a part of a key and left out of it while it is ``default`` (an attempt)."""
    return _KeyCount("", required=True, default=default)  # type: ignore[return-value]  # as above


@overload
def text(stored: str, *, reads: tuple[str, ...] = ()) -> Attr[str]: ...
@overload
def text(stored: str, *, default: None, reads: tuple[str, ...] = ()) -> Attr[str | None]: ...
def text(stored: str, *, default: Any = ..., reads: tuple[str, ...] = ()) -> Any:
    """Text, stored as it is; ``reads`` names older spellings of the stored name."""
    return _Text(stored, required=default is ..., reads=reads)


@overload
def number(stored: str) -> Attr[int]: ...
@overload
def number(stored: str, *, default: None) -> Attr[int | None]: ...
def number(stored: str, *, default: Any = ...) -> Any:
    """A whole number, stored under N."""
    return _Number(stored, required=default is ...)


@overload
def decimal(stored: str) -> Attr[Decimal]: ...
@overload
def decimal(stored: str, *, default: None) -> Attr[Decimal | None]: ...
def decimal(stored: str, *, default: Any = ...) -> Any:
    """An exact number of up to 38 digits, stored under N."""
    return _Decimal(stored, required=default is ...)


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


def epoch(stored: str, *, default: None) -> Attr[datetime | None]:  # noqa: ARG001  # type checkers read it
    """An aware datetime of whole seconds, stored as epoch seconds under N (DynamoDB's TTL)."""
    return _Epoch(stored, required=False)  # type: ignore[return-value]  # as above


def json(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """A JSON value, stored as text; the declared type rules for type checkers."""
    return _Json(stored, required=default is ... or default_factory is not None, default=default_factory)


def listing(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """A list of plain values, stored as DynamoDB's list; the declared type rules for type checkers.

    Plain values are text, numbers, Decimals, bytes, True, False, None, and lists, maps and sets of them.
    """
    required = default is ... or default_factory is not None
    return _Plain(stored, list, "L", required=required, default=default_factory)


def mapping(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """A dictionary of plain values (see `listing`), stored as DynamoDB's map; the declared type rules."""
    required = default is ... or default_factory is not None
    return _Plain(stored, dict, "M", required=required, default=default_factory)


@overload
def choice(stored: str, *choices: L) -> Attr[L]: ...
@overload
def choice(stored: str, *choices: L, default: None) -> Attr[L | None]: ...
def choice(stored: str, *choices: str, default: Any = ...) -> Any:
    """One of a few words."""
    return _Choice(stored, choices, required=default is ...)
