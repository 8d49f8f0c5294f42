"""Take counts, such as tokens, from whoever counts them; a count that is none costs its record nothing else."""

from __future__ import annotations

import math
from typing import Any

from agentmodel._log import logger
from agentmodel._text import storable_text

__all__ = ["MAX_COUNT", "count_or_none"]

_log = logger(__name__)

MAX_COUNT = 10**12
"""Largest count that is taken: a sum of millions of them still fits the warehouse's whole numbers."""


def count_or_none(name: str, value: Any) -> int | None:
    """Return a count as a whole number; None, with a warning, if it is no number from 0 to `MAX_COUNT`.

    Numbers of numpy, `Decimal` and whole floats are taken as the numbers they are.

    Args:
        name: What is counted, for the warning.
        value: The count; None stays None.

    >>> count_or_none("input_tokens", 12.0), count_or_none("input_tokens", -1)
    (12, None)
    """
    if value is None:
        return None
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    number = _whole(value)
    if number is not None and 0 <= number <= MAX_COUNT:
        return number
    _log.warning(
        "recorded without %s: it must be a whole number from 0 to %d, not %s", name, MAX_COUNT, storable_text(value)
    )
    return None


def _whole(value: Any) -> int | None:
    try:
        item = value.item() if hasattr(value, "item") else value  # of numpy, torch and the like
        if isinstance(item, bool | str | bytes) or not math.isfinite(item):
            return None
        return int(item) if item == int(item) else None
    except Exception:  # noqa: BLE001  # code of the value may raise anything
        return None
