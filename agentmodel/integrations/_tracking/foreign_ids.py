"""Ids of models, servers and frameworks: which of them name something."""

from __future__ import annotations

from typing import Any

__all__ = ["id_or_none"]

_PLACEHOLDERS = frozenset({"", "none", "null", "undefined", "<not specified>", "not specified", "n/a"})


def id_or_none(value: Any) -> str | None:
    """Return an id as it was given; None if it is no text, or a placeholder that emitters write where they have none.

    >>> id_or_none("call_0"), id_or_none("<not specified>"), id_or_none("None"), id_or_none("")
    ('call_0', None, None, None)
    """
    return value if isinstance(value, str) and value.strip().lower() not in _PLACEHOLDERS else None
