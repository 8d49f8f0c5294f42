"""Turn conditions of PynamoDB on a key, or on the attributes that it is made of, into what DynamoDB takes.

DynamoDB takes one condition on a sort key. Every condition here is a range of texts: that of the entity class, those of
attributes (``Tool.tool_id.startswith("TLfind")``) and those of the key itself (``Tool.sk >= "TL5"``). Their
intersection is the one condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import And, Condition
from pynamodb.expressions.operand import Path, Value

from agentmodel.dynamo._attribute import Field
from agentmodel.dynamo._layout import Key
from agentmodel.exceptions import ValidationError
from agentmodel.keys import last_text, text_after, text_before

__all__ = ["KeyRange", "partition_of", "refuse_key_parts", "sort_range"]

_LOWEST = text_after("")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The sort keys from ``low`` to ``high``, both included."""

    low: str = _LOWEST
    high: str = last_text("")

    def __and__(self, other: KeyRange) -> KeyRange:
        return KeyRange(max(self.low, other.low), min(self.high, other.high))

    def condition(self, stored: str) -> Condition | None:
        """Return the condition on the sort key that is stored under this name; None for every key."""
        path = Path(stored)
        if self == KeyRange():
            return None
        if self.low > self.high:
            return path == _LOWEST  # which no item has: DynamoDB takes no empty range
        if self.low == self.high:
            return path == self.low
        if self.high == last_text(self.low):
            return path.startswith(self.low)
        return path.between(self.low, self.high)


def partition_of(key: Key, given: Any) -> str:
    """Return the text of a partition key: ``given`` itself, or made of conditions ``attribute = value``.

    Raises:
        ValidationError: ``given`` is no key of this format, or does not give each of its attributes one value.
    """
    if not isinstance(given, Condition):
        return key.format.of_text(given)
    values: dict[str, Any] = {}
    for term in _terms(given):
        field = _part_of(key, term)
        if field is None or term.operator != "=" or field.name in values:
            raise ValidationError("hash_key", str(given), f"must be {_equals(key)}, each once")
        values[field.name] = _value(field, term.values[1])
    if len(values) < len(key.attributes):
        raise ValidationError("hash_key", str(given), f"must be {_equals(key)}")
    return key.format.build(*(values[field.name] for field in key.attributes))


def sort_range(key: Key, stored: str, given: Condition | None) -> KeyRange:
    """Return the sort keys that an entity class can have and that meet a condition.

    Args:
        key: The sort key of the class.
        stored: Its stored name.
        given: Conditions, joined by ``&``, on the key or on the attributes that it is made of.

    Raises:
        ValidationError: A condition is on something else, or on an attribute after one that has no ``=``.
    """
    found = KeyRange() & KeyRange(*key.format.span())
    terms: dict[str, list[Condition]] = {}
    for term in () if given is None else _terms(given):
        field = _part_of(key, term)
        if field is not None:
            terms.setdefault(field.name, []).append(term)
        elif getattr(term.values[0], "path", None) == [stored]:
            found &= _range_of(term, "range_key_condition", lambda operand: (_text(operand),) * 2, KeyRange())
        else:
            raise ValidationError(
                "range_key_condition", str(term), f"must be on the sort key {stored} or its attributes: "
                "use filter_condition for others",
            )  # fmt: skip
    values: list[Any] = []
    for field in key.attributes:
        own = terms.pop(field.name, [])
        if not own:
            break
        found &= _on_attribute(key, field, own, values)
        if [term.operator for term in own] != ["="]:
            break
        values.append(_value(field, own[0].values[1]))
    if terms:
        missing = key.attributes[len(values)].name
        raise ValidationError(
            "range_key_condition", str(given), f"must have a condition {missing} = … before one on "
            f"{next(iter(terms))}, because the key begins with it",
        )  # fmt: skip
    return found


def refuse_key_parts(name: str, condition: Condition) -> None:
    """Raise if a condition is on an attribute that is stored in keys only, where DynamoDB does not see it.

    Raises:
        ValidationError: It is; the message names the attribute and what to use.
    """
    operands: list[Any] = list(condition.values)
    while operands:
        operand = operands.pop()
        field = getattr(operand, "attribute", None)
        if isinstance(field, Field) and not field.stored:
            raise ValidationError(
                name, str(condition), f"cannot be on {field.name}, because that is stored as a part of keys only: "
                "use it in hash_key or range_key_condition, or compare pk, sk, gsi1_pk or gsi1_sk",
            )  # fmt: skip
        if not isinstance(operand, Value):
            operands += [each for each in operand.values if not isinstance(each, list)]  # a Path holds a list of names


def _terms(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions that ``&`` joins."""
    if isinstance(condition, And):
        for each in condition.values:
            yield from _terms(each)
    else:
        yield condition


def _part_of(key: Key, term: Condition) -> Field | None:
    """Return the attribute that a condition is on, if the key is made of it."""
    attribute = getattr(term.values[0], "attribute", None)
    return next((field for field in key.attributes if field is attribute), None)


def _equals(key: Key) -> str:
    names = " & ".join(f"{field.name} = …" for field in key.attributes)
    return f"a condition {names}" if names else "a text, because the key is not made of attributes"


def _value(field: Field, operand: Any) -> Any:
    """Return the checked value with which an attribute is compared."""
    if not isinstance(operand, Value):
        raise ValidationError(field.name, str(operand), "must be compared with a value, not with another attribute")
    ((kind, stored),) = operand.value.items()
    return field.accept(None if kind == "NULL" else field.deserialize(stored))


def _text(operand: Any) -> str:
    if not isinstance(operand, Value) or not isinstance(operand.value.get("S"), str) or not operand.value["S"]:
        raise ValidationError("range_key_condition", str(operand), "must compare a key with a text that is not empty")
    return str(operand.value["S"])


def _on_attribute(key: Key, field: Field, terms: list[Condition], values: list[Any]) -> KeyRange:
    """Return the range of conditions on one attribute of a key, where those before it have these values."""

    def span(operand: Any) -> tuple[str, str]:
        return key.format.span(*values, _value(field, operand))

    found = KeyRange(*key.format.span(*values))
    for term in terms:
        if term.operator == "begins_with":
            prefix = key.format.prefix(*values, partial=_text(term.values[1]))
            found &= KeyRange(prefix, last_text(prefix))
        else:
            found &= _range_of(term, field.name, span, found)
    return found


def _range_of(term: Condition, name: str, span: Any, around: KeyRange) -> KeyRange:
    """Return the range of one condition; ``span`` gives the lowest and highest key of an operand."""
    operator, operands = term.operator, term.values[1:]
    if operator == "begins_with":
        return KeyRange(_text(operands[0]), last_text(_text(operands[0])))
    if operator not in ("=", "<", "<=", ">", ">=", "BETWEEN"):
        raise ValidationError(name, str(term), "must be =, <, <=, >, >=, between or startswith, as DynamoDB takes it")
    low, high = span(operands[0])
    if operator == "<":
        return KeyRange(around.low, text_before(low))
    if operator == "<=":
        return KeyRange(around.low, high)
    if operator == ">":
        return KeyRange(text_after(high), around.high)
    if operator == ">=":
        return KeyRange(low, around.high)
    return KeyRange(low, span(operands[-1])[1])
