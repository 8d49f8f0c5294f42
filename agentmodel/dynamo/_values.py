"""Convert plain Python values into DynamoDB's form and back; numbers lose no digit.

>>> encoder("steps")({"seats": 2, "names": ["a", None]})
{'M': {'seats': {'N': '2'}, 'names': {'L': [{'S': 'a'}, {'NULL': True}]}}}
>>> decode({"L": [{"N": "2.5"}, {"N": "0.1234567890123456789"}]})
[2.5, Decimal('0.1234567890123456789')]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Subnormal
from functools import partial
from typing import Any

from agentmodel.exceptions import ValidationError

__all__ = ["decode", "encoder", "number_text"]

_NUMBERS = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, InvalidOperation, Overflow, Subnormal])
"""The numbers that DynamoDB takes: 38 digits, from 1E-130 to 9.99E+125."""

_RULE = "must have at most 38 digits and a size from 1E-130 to 9.99E+125, as DynamoDB's numbers do"


def number_text(field: str, value: float | Decimal) -> str:
    """Return a number as text in DynamoDB's form.

    Raises:
        ValidationError: The number is not finite, too large or too small, or has too many digits; it names ``field``.
    """
    try:
        exact = _NUMBERS.create_decimal(repr(value) if isinstance(value, float) else value)
    except DecimalException:
        raise ValidationError(field, value, _RULE) from None
    if not exact.is_finite():
        raise ValidationError(field, value, _RULE)
    return str(exact.normalize(_NUMBERS)) if exact else "0"  # without trailing zeros, as DynamoDB returns it


def encoder(field: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function that converts a plain value into DynamoDB's form; its errors name ``field``."""
    return partial(_encode_checked, field)


def _encode_checked(field: str, value: Any) -> dict[str, Any]:
    try:
        return _encode(value)
    except (TypeError, RecursionError) as error:
        raise ValidationError(field, value, f"cannot be stored: {error}") from None
    except ValidationError as error:
        raise ValidationError(field, error.value, error.rule) from None


def _encode(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind is str:
        return {"S": value}
    if kind is dict:
        "".join(value)  # raises TypeError for a name that is not text
        return {"M": {name: {"S": each} if type(each) is str else _encode(each) for name, each in value.items()}}
    if kind is list:
        return {"L": [{"S": each} if type(each) is str else _encode(each) for each in value]}
    if kind is bool:
        return {"BOOL": value}
    if kind is int and -(10**15) < value < 10**15:
        return {"N": repr(value)}
    if value is None:
        return {"NULL": True}
    return _encode_rarer(value)


def _encode_rarer(value: Any) -> dict[str, Any]:
    if isinstance(value, int | float | Decimal):
        return {"N": number_text("number", value)}
    if isinstance(value, bytes | bytearray):
        return {"B": bytes(value)}
    if isinstance(value, set | frozenset):
        return _encode_set(value)
    if isinstance(value, str):
        return {"S": str.__str__(value)}
    if isinstance(value, dict):
        return _encode(dict(value))
    if isinstance(value, list | tuple):
        return _encode(list(value))
    raise TypeError(
        f"{kind_name(value)} has no form in DynamoDB; use text, numbers, bytes, True, False, None, and lists, maps and "
        "sets of them"
    )


def kind_name(value: object) -> str:
    """Return the name of a value's type for a message."""
    return f"a value of type {type(value).__name__}"


def _encode_set(values: set[Any] | frozenset[Any]) -> dict[str, Any]:
    if not values:
        raise TypeError("DynamoDB has no empty sets: use None or an empty list")
    parts = [_encode(value) for value in values]
    kinds = {kind for part in parts for kind in part}
    if len(kinds) > 1 or not kinds <= {"S", "N", "B"}:
        raise TypeError("a set must hold only texts, only numbers or only bytes")
    (kind,) = kinds
    return {f"{kind}S": sorted(part[kind] for part in parts)}


def decode(wire: Mapping[str, Any]) -> Any:
    """Return the plain value of DynamoDB's form. A number becomes an int, a float if that loses no digit, or a Decimal.

    Raises:
        ValueError: The type is unknown.
    """
    ((kind, inner),) = wire.items()
    if kind in ("S", "BOOL", "B"):
        return inner
    if kind == "N":
        return _number(inner)
    if kind == "M":
        return {name: decode(each) for name, each in inner.items()}
    if kind == "L":
        return [decode(each) for each in inner]
    if kind == "NULL":
        return None
    if kind in ("SS", "BS"):
        return set(inner)
    if kind == "NS":
        return {_number(each) for each in inner}
    raise ValueError(f"{kind!r} is not a DynamoDB type")


def _number(text: str) -> int | float | Decimal:
    if text.isdigit() or (text[:1] == "-" and text[1:].isdigit()):
        return int(text)
    as_float = float(text)
    exact = Decimal(text)
    return as_float if repr(as_float) == text or Decimal(repr(as_float)) == exact else exact
