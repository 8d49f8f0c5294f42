"""Encode item maps as bytes that start with the item's version, and decode them.

The layout is ``<version, 20 digits><format, 1><CRC-32, 8 hex digits><JSON>``. The version is fixed-width text because
Valkey's scripts compare it as text (a Lua number loses integers above 2**53). A value is data only: decoding it runs no
code, and bytes that do not decode are treated as absent.

>>> decode(encode({"PK": {"S": "USR001"}, "Version": {"N": "7"}}, 7))
({'PK': {'S': 'USR001'}, 'Version': {'N': '7'}}, 7)
>>> decode(b"not ours") is None
True
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

from agentmodel.exceptions import ValidationError

__all__ = [
    "VERSION_DIGITS", "Item", "call_of", "decode", "decode_many", "encode", "encode_many", "expires_at", "is_intact",
    "sort_key", "version_of", "version_text",
]  # fmt: skip

Item: TypeAlias = dict[str, dict[str, Any]]
"""An item as botocore's client takes it: attribute name → ``{type: value}``."""

VERSION_DIGITS = 20
_FORMAT = b"1"
_BODY = VERSION_DIGITS + len(_FORMAT) + 8


def version_text(version: int) -> str:
    """Return a version as fixed-width text, so that text order is number order.

    Raises:
        ValidationError: The version is negative or has more than 20 digits.
    """
    if not 0 <= version < 10**VERSION_DIGITS:
        raise ValidationError("version", version, "must be a whole number from 0 to 10**20 - 1")
    return f"{version:0{VERSION_DIGITS}d}"


def encode(item: Item, version: int) -> bytes:
    """Return one item as bytes.

    Raises:
        ValidationError: The item holds something that is not DynamoDB data.

    >>> encode({"PK": {"S": "DMN001"}, "SK": {"S": "METADATA"}}, 7)
    b'00000000000000000007192bfbcf9{"PK":{"S":"DMN001"},"SK":{"S":"METADATA"}}'
    """
    return _frame(item, version)


def decode(data: bytes) -> tuple[Item, int] | None:
    """Return the item and its version; None when the bytes are not what `encode` wrote."""
    found = _unframe(data)
    if found is None or not _is_item(found[0]):
        return None
    return found[0], found[1]


def is_intact(data: bytes) -> bool:
    """Return whether the checksum of encoded items is right, which is looked at in little time."""
    head, body = data[:_BODY], data[_BODY:]
    if len(head) < _BODY or head[VERSION_DIGITS : VERSION_DIGITS + 1] != _FORMAT or not head[:VERSION_DIGITS].isdigit():
        return False
    return head[VERSION_DIGITS + 1 :] == b"%08x" % zlib.crc32(body)


def encode_many(items: Sequence[Item], version: int) -> bytes:
    """Return a list of items as bytes, under one version."""
    return _frame(list(items), version)


def decode_many(data: bytes) -> tuple[list[Item], int] | None:
    """Return the list and its version; None when the bytes are not what `encode_many` wrote."""
    found = _unframe(data)
    if found is None or not isinstance(found[0], list):
        return None
    return found[0], found[1]


def version_of(item: Item) -> int:
    """Return the ``Version`` attribute; 0 where the item has none, so that every version we write is newer."""
    return _number(item, "Version") or 0


def expires_at(item: Item) -> int | None:
    """Return the ``ExpiresAt`` attribute in epoch seconds; None where the item does not expire."""
    return _number(item, "ExpiresAt")


def sort_key(item: Item) -> str:
    """Return the ``SK`` attribute.

    Raises:
        ValidationError: The item has no text ``SK``.
    """
    value = item.get("SK", {}).get("S")
    if not isinstance(value, str):
        raise ValidationError("item", item, "must be DynamoDB JSON with a text SK")
    return value


def call_of(item: Item) -> str | None:
    """Return the ``CallID`` attribute, the id of the call that an item records; None where it has none."""
    value: str | None = item.get("CallID", {}).get("S")
    return value


def _number(item: Item, name: str) -> int | None:
    value = item.get(name, {}).get("N")
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _frame(content: Any, version: int) -> bytes:
    try:
        body = _ENCODER.encode(content).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationError("item", content, f"must be DynamoDB JSON: {error}") from None
    return b"%s%s%08x%s" % (version_text(version).encode(), _FORMAT, zlib.crc32(body), body)


def _unframe(data: bytes) -> tuple[Any, int] | None:
    if not is_intact(data):
        return None
    body = data[_BODY:]
    try:
        content = json.loads(body)
        if b'"B"' in body or b'"BS"' in body:
            content = _with_bytes(content)
    except (ValueError, TypeError, AttributeError, StopIteration, RecursionError, binascii.Error):
        return None
    return content, int(data[:VERSION_DIGITS])


def _is_item(content: Any) -> bool:
    """Return whether this is DynamoDB JSON."""
    return isinstance(content, dict) and all(type(value) is dict and len(value) == 1 for value in content.values())


def _binary(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be stored in DynamoDB")


# made once: json.dumps with these options makes an encoder at every call, which is half of its time for a record
_ENCODER = json.JSONEncoder(
    default=_binary, ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)


def _with_bytes(content: Any) -> Any:
    """Turn binary values, which JSON holds as base64, back into bytes."""
    if isinstance(content, list):
        return [_with_bytes(one) for one in content]
    return {name: _attribute(value) for name, value in content.items()}


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    kind, inner = next(iter(value.items()))
    if kind == "B":
        return {kind: base64.b64decode(inner, validate=True)}
    if kind == "BS":
        return {kind: [base64.b64decode(one, validate=True) for one in inner]}
    if kind == "M":
        return {kind: {name: _attribute(one) for name, one in inner.items()}}
    if kind == "L":
        return {kind: [_attribute(one) for one in inner]}
    return value
