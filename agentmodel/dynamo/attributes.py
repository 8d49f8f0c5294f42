"""The specifiers of attributes: they declare an entity's attributes, and each kind checks, stores and reads its values.

Each annotated line of an entity class is a constructor argument, and type checkers enforce its type. The first argument
is the name in the table. ``identifier``, ``key_text`` and ``key_count`` are parts of keys and are not stored on their
own.

>>> from datetime import UTC, datetime
>>> from decimal import Decimal
>>> from agentmodel import keys
>>> from agentmodel.dynamo.entity import Attr, Entity, key
>>> class Visit(Entity, kind="ExampleVisit"):
...     user_id: Attr[str] = identifier("USR")
...     place: Attr[str] = key_text()
...     name: Attr[str] = text("VisitNM")
...     guests: Attr[int] = number("GuestCnt")
...     calls: Attr[int | None] = count("CallCnt", default=None)
...     price: Attr[Decimal] = decimal("Price")
...     stars: Attr[float | None] = rating("Stars", default=None)
...     paid: Attr[bool] = flag("PaidYN", default=False)
...     began_at: Attr[datetime] = moment("BeganDT")
...     expires_at: Attr[datetime | None] = epoch("ExpiresAt", default=None)
...     state: Attr[str] = choice("State", "open", "closed")
...     wishes: Attr[list[str] | None] = json("WishList", default=None)
...     tags: Attr[list[str]] = listing("Tags", default_factory=list)
...     seats: Attr[dict[str, int]] = mapping("Seats", default_factory=dict)
...     partition = key(keys.USER, user_id)
...     sort = key(keys.TEXT, place)
>>> visit = Visit(user_id="mina", place="park", name="Tea", guests=2, price=Decimal("12.50"), state="open",
...               began_at=datetime(2026, 6, 14, 9, tzinfo=UTC), seats={"garden": 2})
>>> item = visit.to_item()
>>> item["PK"], item["SK"]
({'S': 'USRmina'}, {'S': 'park'})
>>> item["Price"], item["PaidYN"], item["BeganDT"], item["Seats"]
({'N': '12.5'}, {'S': 'N'}, {'S': '20260614090000000000'}, {'M': {'garden': {'N': '2'}}})
>>> visit.state = "lost"
Traceback (most recent call last):
    ...
agentmodel.exceptions.ValidationError: state ('lost') must be one of open, closed

A part of a key that is counted is left out of the key while it is its default:

>>> class Attempt(Entity, kind="ExampleAttempt"):
...     user_id: Attr[str] = identifier("USR")
...     process_id: Attr[str] = identifier("PRC")
...     agent_id: Attr[str] = identifier("AGT")
...     tool_id: Attr[str] = identifier("TL")
...     number: Attr[int] = key_count(default=1)
...     partition = key(keys.USER, user_id)
...     sort = key(keys.EXECUTION, process_id, agent_id, tool_id, number)
>>> ids = dict(user_id="USR001", process_id="PRC001", agent_id="AGT001", tool_id="TL001")
>>> Attempt(**ids).sk, Attempt(**ids, number=2).sk
('PRC001#AGT001#TL001', 'PRC001#AGT001#TL001#002')
"""

from __future__ import annotations

import json as _json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, TypeVar, overload

from agentmodel import keys
from agentmodel._values.counts import MAX_COUNT
from agentmodel._values.text import error_text
from agentmodel.dynamo import _values as plain
from agentmodel.dynamo._attribute import Attr, Change, CodeScope, Field, Redact, bind, text_of
from agentmodel.exceptions import ValidationError

__all__ = [
    "choice", "count", "decimal", "epoch", "flag", "identifier", "json", "key_count", "key_text", "listing",
    "mapping", "moment", "number", "rating", "text",
]  # fmt: skip

_L = TypeVar("_L", bound=str)


class _TextField(Field):
    redact: Redact = "values"

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless(f"_type({self.name}) is _str", scope)

    def encode_source(self, value: str, scope: CodeScope) -> str:  # noqa: ARG002  # text is stored as it is
        return f"{{'S': {value}}}"

    def decode_source(self, wire: str, scope: CodeScope) -> str:  # noqa: ARG002  # likewise
        return f"{wire}['S']"


class _IdentifierField(Field):
    """An id, or the name it is made of. Checked ids are remembered: a recorder checks its user and session once."""

    def __init__(self, prefix: str, within: str | None) -> None:
        super().__init__("", required=True)
        self.prefix = prefix
        self.within = within
        self.checked_ids = self._checked_ids = _checked_ids(prefix)

    def accept(self, value: Any, *within: Any) -> Any:
        text = super().accept(value)
        if self.prefix not in keys.NAMED or (text.startswith(self.prefix) and text != self.prefix):
            return self.check_stored(text)
        return keys.id_of(self.prefix, text, *(each for each in within if isinstance(each, str)), field=self.name)

    def check_stored(self, value: Any) -> Any:
        text = keys.check_id(self.name, value, self.prefix)
        if len(self._checked_ids) >= _MAX_CHECKED_IDS:
            self._checked_ids.clear()
        self._checked_ids[text] = text
        return text

    def startswith(self, prefix: Any) -> Any:
        text = text_of(self.name, prefix)
        if self.prefix in keys.NAMED and not self.prefix.startswith(text[: len(self.prefix)]):
            text = self.prefix + text  # the beginning of a name
        return super().startswith(text)

    def check_source(self, scope: CodeScope) -> list[str]:
        accept = f"{bind(scope, 'accept', self.accept)}({', '.join(filter(None, (self.name, self.within)))})"
        return [
            f"try: {self.name} = {bind(scope, 'ids', self.checked_ids)}[{self.name}]",
            f"except (KeyError, TypeError): {self.name} = {accept}",
        ]


_MAX_CHECKED_IDS = 8192
_SMALL = 2**30  # Python compares numbers below this faster; larger ones go to `accept`


@cache
def _checked_ids(prefix: str) -> dict[str, str]:  # noqa: ARG001  # one dictionary for each prefix
    return {}


class _KeyText(Field):
    redact: Redact = "text"

    def check(self, value: Any) -> Any:
        text = text_of(self.name, value)
        try:
            return keys.TEXT.parse(keys.TEXT.build(text))[0]  # in Unicode NFC, as it is read from the key
        except ValidationError as error:
            raise ValidationError(self.name, value, error.rule) from None


class _KeyCount(Field):
    def check(self, value: Any) -> Any:
        keys.format_number(value, field=self.name)
        if value < self.default_value:
            raise ValidationError(self.name, value, f"must be a whole number from {self.default_value} up")
        return int(value)

    def serialize(self, value: Any) -> Any:
        return self.check(value)

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless(f"_type({self.name}) is _int and {self.default_value} <= {self.name} < {_SMALL}", scope)


class _Number(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**38:
            raise ValidationError(self.name, value, "must be a whole number of at most 38 digits")
        return int(value)

    def check_source(self, scope: CodeScope) -> list[str]:
        fits = f"({-_SMALL} < {self.name} if {self.name} < {_SMALL} else {self.name} < {10**38})"
        return self._unless(f"_type({self.name}) is _int and {fits}", scope)

    def serialize(self, value: Any) -> Any:
        return str(value)

    def encode_source(self, value: str, scope: CodeScope) -> str:  # noqa: ARG002  # needs nothing else
        return f"{{'N': f\"{{{value}}}\"}}"

    def deserialize(self, value: Any) -> Any:
        return int(value)

    def decode_source(self, wire: str, scope: CodeScope) -> str:  # noqa: ARG002  # likewise
        return f"_int({wire}['N'])"

    def plus(self, amount: int) -> Change:
        return Change(self, self.check(amount), adds=True)


class _Count(_Number):
    def check(self, value: Any) -> Any:
        if super().check(value) < 0:
            raise ValidationError(self.name, value, "must not be negative, because it is a count")
        if value > MAX_COUNT:
            raise ValidationError(self.name, value, f"must be at most {MAX_COUNT}, so that sums fit the warehouse")
        return int(value)

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless(f"_type({self.name}) is _int and 0 <= {self.name} < {_SMALL}", scope)


class _Decimal(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        if not isinstance(value, Decimal):
            raise ValidationError(self.name, value, "must be a Decimal")
        plain.number_text(self.name, value)
        return value

    def serialize(self, value: Any) -> Any:
        return plain.number_text(self.name, value)

    def deserialize(self, value: Any) -> Any:
        return Decimal(value)


class _ScoreField(Field):
    attr_type = "N"

    def check(self, value: Any) -> Any:
        return float(keys.format_score(value, field=self.name))

    def check_source(self, scope: CodeScope) -> list[str]:
        accept, name = bind(scope, "accept", self.accept), self.name
        return [  # rounds as `format_score` does; + 0.0 turns a negative zero into zero
            f"if _type({name}) is _float and 0.0 <= {name} < {keys.SCORE_LIMIT - 1}:",
            f"    {name} = _round({name}, {keys.SCORE_DIGITS}) + 0.0",
            "else:",
            f"    {name} = {accept}({name})",
        ]

    def serialize(self, value: Any) -> Any:
        return f"{value:.6f}".rstrip("0").rstrip(".")

    def deserialize(self, value: Any) -> Any:
        if not 0 <= float(value) < keys.SCORE_LIMIT:
            raise ValidationError(self.name, value, f"must be a number from 0 to below {keys.SCORE_LIMIT}")
        return round(float(value), keys.SCORE_DIGITS) + 0.0


class _Flag(Field):
    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise ValidationError(self.name, value, "must be True or False")
        return value

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless(f"{self.name} is True or {self.name} is False", scope)

    def serialize(self, value: Any) -> Any:
        return "Y" if self.check(value) else "N"

    def encode_source(self, value: str, scope: CodeScope) -> str:  # noqa: ARG002  # needs nothing else
        return f"{{'S': 'Y' if {value} else 'N'}}"

    def deserialize(self, value: Any) -> Any:
        if value not in ("Y", "N"):
            raise ValidationError(self.name, value, "must be stored as Y or N")
        return value == "Y"

    def decode_source(self, wire: str, scope: CodeScope) -> str:
        return f"{bind(scope, 'flags', {'Y': True, 'N': False})}[{wire}['S']]"


class _Moment(Field):
    def check(self, value: Any) -> Any:
        keys.format_time(self.name, value)
        return value.astimezone(UTC)

    def check_source(self, scope: CodeScope) -> list[str]:
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

    def check_source(self, scope: CodeScope) -> list[str]:
        name = self.name
        return self._unless(f"_type({name}) is _datetime and {name}.tzinfo is _UTC and not {name}.microsecond", scope)

    def serialize(self, value: Any) -> Any:
        return str(int(value.timestamp()))

    def deserialize(self, value: Any) -> Any:
        return datetime.fromtimestamp(int(float(value)), UTC)


_dumps = _json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_loads = _json.JSONDecoder().decode


class Shape(NamedTuple):
    """What a JSON value has to be: its name in messages, and whether a value fits."""

    name: str
    fits: Callable[[Any], bool]


class _Json(Field):
    redact: Redact = "values"
    holds_json = True
    shape: Shape | None = None

    def check(self, value: Any) -> Any:
        self.serialize(value)
        if self.shape is not None and not self.shape.fits(value):
            raise ValidationError(self.name, value, f"must be {self.shape.name}")
        return value

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless("False", scope)

    def serialize(self, value: Any) -> Any:
        try:
            return _dumps(value)
        except Exception as error:  # noqa: BLE001  # code of the value may raise anything
            raise ValidationError(self.name, value, f"must be JSON: {error_text(error)}") from None

    def deserialize(self, value: Any) -> Any:
        found = _loads(value)
        if self.shape is None or found is None or self.shape.fits(found):
            return found
        raise ValueError(f"it is not {self.shape.name}")


class _Choice(_TextField):
    redact: Redact = "none"

    def __init__(self, stored: str, choices: tuple[str, ...], *, required: bool) -> None:
        super().__init__(stored, required=required)
        self.choices = choices

    def check(self, value: Any) -> Any:
        if value not in self.choices:
            raise ValidationError(self.name, value, "must be one of " + ", ".join(self.choices))
        return text_of(self.name, value)

    def check_source(self, scope: CodeScope) -> list[str]:
        choices = bind(scope, "choices", frozenset(self.choices))
        return self._unless(f"_type({self.name}) is _str and {self.name} in {choices}", scope)


class _Plain(Field):
    """A list or map of plain values. Its contents can change at any time, so they are checked when it is written."""

    redact: Redact = "plain"

    def __init__(self, stored: str, kind: type[Any], attr_type: str, *, required: bool, default: Any) -> None:
        super().__init__(stored, required=required, default=default)
        self.kind = kind
        self.attr_type = attr_type

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.kind):
            raise ValidationError(self.name, value, f"must be a {self.kind.__name__}")
        return value

    def check_source(self, scope: CodeScope) -> list[str]:
        return self._unless(f"_type({self.name}) is _{self.kind.__name__}", scope)

    def serialize(self, value: Any) -> Any:
        return plain.encoder(self.name)(value)[self.attr_type]

    def encode_source(self, value: str, scope: CodeScope) -> str:
        return f"{bind(scope, 'plain', plain.encoder(self.name))}({value})"

    def deserialize(self, value: Any) -> Any:
        return plain.decode({self.attr_type: value})

    def decode_source(self, wire: str, scope: CodeScope) -> str:
        within = "[{} for _e in {}]" if self.attr_type == "L" else "{{_k: {} for _k, _e in {}.items()}}"
        decode = bind(scope, "decode", plain.decode)
        return within.format(f"_e['S'] if 'S' in _e else {decode}(_e)", f"{wire}[{self.attr_type!r}]")


# The specifiers. `default=` must be written in the call, because type checkers read it there


def identifier(prefix: str, *, within: str | None = None) -> Attr[str]:
    """Declare an id that is a part of a key, such as ``AGT001``; a name is accepted too, see `agentmodel.keys.id_of`.

    ``within`` is the attribute of the domain that a name given to the constructor is one in.
    """
    return _IdentifierField(prefix, within)  # type: ignore[return-value]  # a Field at run time, an Attr to type checkers


def key_text(*, redact: Redact = "text") -> Attr[str]:
    """Declare free text that is a part of a key and not stored on its own, such as a category."""
    return _redacted(_KeyText("", required=True), redact)  # type: ignore[return-value]  # as above


def key_count(*, default: int) -> Attr[int]:
    """Declare a number that is a part of a key and left out of it while it is ``default``, such as an attempt."""
    return _KeyCount("", required=True, default=default)  # type: ignore[return-value]  # as above


@overload
def text(stored: str, *, reads: tuple[str, ...] = (), redact: Redact = "values") -> Attr[str]: ...
@overload
def text(stored: str, *, default: None, reads: tuple[str, ...] = (), redact: Redact = "values") -> Attr[str | None]: ...
def text(stored: str, *, default: Any = ..., reads: tuple[str, ...] = (), redact: Redact = "values") -> Any:
    """Declare text, stored as it is.

    Args:
        stored: Its name in the table.
        default: None for text that may be missing.
        reads: Older spellings of the stored name.
        redact: ``none`` for an id or a code; it is kept as it is.
    """
    return _redacted(_TextField(stored, required=default is ..., reads=reads), redact)


def _redacted(field: Field, redact: Redact) -> Field:
    field.redact = redact
    return field


@overload
def number(stored: str) -> Attr[int]: ...
@overload
def number(stored: str, *, default: None) -> Attr[int | None]: ...
def number(stored: str, *, default: Any = ...) -> Any:
    """Declare a whole number, stored as DynamoDB type N."""
    return _Number(stored, required=default is ...)


def count(stored: str, *, default: None) -> Attr[int | None]:  # noqa: ARG001  # type checkers read it
    """Declare a whole number from 0 to `MAX_COUNT`, stored as DynamoDB type N."""
    return _Count(stored, required=False)  # type: ignore[return-value]  # a Field at run time, an Attr to type checkers


@overload
def decimal(stored: str) -> Attr[Decimal]: ...
@overload
def decimal(stored: str, *, default: None) -> Attr[Decimal | None]: ...
def decimal(stored: str, *, default: Any = ...) -> Any:
    """Declare an exact number of up to 38 digits, stored as DynamoDB type N."""
    return _Decimal(stored, required=default is ...)


@overload
def rating(stored: str, *, default: float) -> Attr[float]: ...
@overload
def rating(stored: str, *, default: None) -> Attr[float | None]: ...
def rating(stored: str, *, default: Any) -> Any:
    """Declare a number from 0 to below 10⁸, rounded to six decimals; stored as type N, read from S too."""
    return _ScoreField(stored, required=default is not None, default=default)


@overload
def flag(stored: str) -> Attr[bool]: ...
@overload
def flag(stored: str, *, default: bool) -> Attr[bool]: ...
@overload
def flag(stored: str, *, default: None) -> Attr[bool | None]: ...
def flag(stored: str, *, default: Any = ...) -> Any:
    """Declare True or False, stored as Y or N."""
    return _Flag(stored, required=default is not None, default=None if default is ... else default)


@overload
def moment(stored: str) -> Attr[datetime]: ...
@overload
def moment(stored: str, *, default: None) -> Attr[datetime | None]: ...
def moment(stored: str, *, default: Any = ...) -> Any:
    """Declare a datetime with a time zone, stored as 20 digits in UTC; 14 to 20 digits are read."""
    return _Moment(stored, required=default is ...)


def epoch(stored: str, *, default: None) -> Attr[datetime | None]:  # noqa: ARG001  # type checkers read it
    """Declare a datetime with a time zone, in whole seconds; stored as epoch seconds, type N (DynamoDB's TTL)."""
    return _Epoch(stored, required=False)  # type: ignore[return-value]  # as above


def json(
    stored: str,
    *,
    default: Any = ...,
    default_factory: Callable[[], Any] | None = None,
    redact: Redact = "values",
    shape: Shape | None = None,
) -> Any:
    """Declare a JSON value, stored as text; type checkers use the annotated type. See `text` for ``redact``.

    A value that has not the ``shape`` is refused; an item that has one cannot be read.
    """
    required = default is ... or default_factory is not None
    field = _Json(stored, required=required, default=default_factory)
    field.shape = shape
    return _redacted(field, redact)


def listing(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """Declare a list of plain values, stored as DynamoDB's list; type checkers use the annotated type.

    Plain values are text, numbers, Decimals, bytes, True, False, None, and lists, maps and sets of them.
    """
    required = default is ... or default_factory is not None
    return _Plain(stored, list, "L", required=required, default=default_factory)


def mapping(stored: str, *, default: Any = ..., default_factory: Callable[[], Any] | None = None) -> Any:
    """Declare a dictionary of plain values (see `listing`), stored as DynamoDB's map."""
    required = default is ... or default_factory is not None
    return _Plain(stored, dict, "M", required=required, default=default_factory)


@overload
def choice(stored: str, *choices: _L) -> Attr[_L]: ...
@overload
def choice(stored: str, *choices: _L, default: None) -> Attr[_L | None]: ...
def choice(stored: str, *choices: str, default: Any = ...) -> Any:
    """Declare text that is one of ``choices``."""
    return _Choice(stored, choices, required=default is ...)
