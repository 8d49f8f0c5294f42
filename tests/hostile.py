"""Values that break who expects JSON or text."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import numpy as np

from agentmodel._values.text import TEXT_BYTES

__all__ = ["HOSTILE", "UNCOPYABLE", "NoRepr", "Odd", "deep", "endless"]


class NoRepr:
    """Stands for a row of a database whose session is closed."""

    def __repr__(self) -> str:
        raise RuntimeError("not bound to a session")


class NoClass:
    """Raises where `isinstance` asks for its class."""

    @property  # type: ignore[misc]  # hostile on purpose
    def __class__(self) -> Any:
        raise KeyError("class")


class NoItems(dict[str, Any]):
    """A map whose members cannot be read."""

    def items(self) -> Any:
        raise OSError("the file is closed")


class Odd(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise AttributeError("response")


class Unhashable(str):
    """A text that is no key and has no length."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # hostile on purpose

    def __len__(self) -> int:
        raise TypeError("no length")

    def __str__(self) -> str:
        raise TypeError("no text")


def deep(levels: int) -> list[Any]:
    """A list in a list, so many times."""
    outer: list[Any] = []
    for _ in range(levels):
        outer = [outer]
    return outer


def endless() -> dict[str, Any]:
    """A map that contains itself."""
    itself: dict[str, Any] = {"place": "stadium"}
    itself["again"] = itself
    return itself


HOSTILE: dict[str, Any] = {
    "no repr": NoRepr(),
    "no class": NoClass(),
    "no items": NoItems(a=1),
    "no text, no hash": Unhashable("x"),
    "an exception without a text": Odd(),
    "half an emoji": "caf\ud83d",
    "half an emoji as a name": {"\ud83d": 1},
    "100,000 lists": deep(100_000),
    "contains itself": endless(),
    "5,000 digits": 10**5000,
    "5,000 digits as a name": {10**5000: 1},
    "NaN": float("nan"),
    "infinities": [float("inf"), float("-inf")],
    "binary": b"\xff\xfe",
    "Decimal": Decimal("1.10"),
    "Decimal NaN": Decimal("sNaN"),
    "numpy": np.float32("nan"),
    "numpy array": np.zeros((2, 2)),
    "a type": NoRepr,
    "too long": "é" * TEXT_BYTES,
}
"""Values that break who expects JSON, by what is wrong with them."""

UNCOPYABLE: list[Any] = [threading.Lock(), deep(700)]
"""Values that `copy.deepcopy` refuses."""
