"""Check that DynamoDB takes an item: its size, and that its texts are Unicode. Every write passes here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentmodel.dynamo._layout import item_name
from agentmodel.exceptions import ValidationError

__all__ = ["ITEM_BYTES", "checked"]

Item = dict[str, dict[str, Any]]

ITEM_BYTES = 400 * 1024
"""DynamoDB's limit for one item, names and values in UTF-8."""


def _item_bytes(item: Mapping[str, Any]) -> int:
    """Return the size of an item as DynamoDB counts it: the UTF-8 bytes of names and values.

    >>> _item_bytes({"PK": {"S": "한"}})
    5
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, inner),) = value.items()
    if kind == "S":
        return len(inner.encode())
    if kind == "N":
        return (len(inner) + 1) // 2 + 1
    if kind == "B":
        return len(inner)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in inner.items())
    if kind == "L":
        return 3 + sum(1 + _value_bytes(each) for each in inner)
    if kind in ("SS", "NS", "BS"):
        return sum(_value_bytes({kind[0]: each}) for each in inner)
    return 1  # BOOL and NULL


def checked(item: Item) -> Item:
    """Return the item if DynamoDB takes it.

    Raises:
        ValidationError: It is too large (the error names its largest attribute), or a text is not Unicode.
    """
    try:
        if _clearly_fits(item):
            return item
        size = _item_bytes(item)
    except UnicodeEncodeError:
        rule = "must be Unicode without lone surrogates"
        raise ValidationError(_name_of_bad_text(item), f"item {item_name(item)}", rule) from None
    if size > ITEM_BYTES:
        largest = max(item, key=lambda name: _value_bytes(item[name]))
        raise ValidationError(
            largest,
            f"item {item_name(item)}",
            f"must be smaller: the item has {size} bytes, and {ITEM_BYTES} are allowed",
        )
    return item


def _clearly_fits(item: Item) -> bool:
    """Return whether a count of characters shows that the item is small enough, as it does for most items."""
    characters = 0
    for name, value in item.items():
        for kind, inner in value.items():
            if kind == "S" or kind == "N":  # noqa: PLR1714  # in a tuple it is slower
                if not inner.isascii():
                    inner.encode()  # raises for lone surrogates
                characters += len(name) + len(inner)
            elif kind != "BOOL" and kind != "NULL":  # noqa: PLR1714  # likewise
                return False
    return characters * 4 < ITEM_BYTES


def _name_of_bad_text(item: Item) -> str:
    for name, value in item.items():
        try:
            _value_bytes(value)
        except UnicodeEncodeError:
            return name
    return "item"
