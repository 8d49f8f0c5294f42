"""Take counts, such as tokens, from whoever counts them; a count that is none costs its record nothing else."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from agentmodel._log import logger
from agentmodel._values.text import NAME_BYTES, storable_text

__all__ = ["MAX_COUNT", "Usage", "count_or_none"]

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


class Usage(NamedTuple):
    """What a model took for a message that requests calls, or for one of these calls.

    Attributes:
        input_tokens: Tokens that it read, those of its provider's cache included.
        output_tokens: Tokens that it wrote, those of its reasoning included.
        cached_tokens: Of ``input_tokens``, those that were read from the provider's cache.
        cache_write_tokens: Of ``input_tokens``, those that were written into the provider's cache.
        reasoning_tokens: Of ``output_tokens``, those of its reasoning.
        model_name: Its name, as its provider has it.
        request_input_tokens: Of a share, ``input_tokens`` of the whole message: prices depend on it; None where the
            message is not divided.
    """

    input_tokens: Any = None
    output_tokens: Any = None
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    reasoning_tokens: Any = None
    model_name: Any = None
    request_input_tokens: Any = None

    def checked(self) -> Usage:
        """Return it with counts that are counts, and a name that is a name; see `count_or_none`."""
        counts = {name: count_or_none(name, value) for name, value in self._asdict().items() if name != "model_name"}
        name = self.model_name
        return Usage(
            **counts, model_name=storable_text(name, limit=NAME_BYTES) if isinstance(name, str) and name else None
        )

    def with_cached(self, total: Any) -> Usage:
        """Return it with cached tokens in the input, where its provider counts them beside it.

        Args:
            total: All tokens of the message, by which that is seen; None where they are not told.

        >>> Usage(20, 40, 60, 20).with_cached(140).input_tokens, Usage(100, 40, 60, 20).with_cached(140).input_tokens
        (100, 100)
        """
        usage, total = self.checked(), count_or_none("total_tokens", total)
        cached = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
        if usage.input_tokens is None or not cached:
            return usage
        counted = usage.input_tokens + (usage.output_tokens or 0)
        beside = cached > usage.input_tokens if total is None else total == counted + cached
        return usage._replace(input_tokens=usage.input_tokens + cached) if beside else usage

    def shares(self, parts: int) -> list[Usage]:
        """Divide it over the calls of its message: sums stay exact, the remainder goes to the first call.

        >>> [(share.input_tokens, share.output_tokens) for share in Usage(11, None).shares(3)]
        [(5, None), (3, None), (3, None)]
        """
        if parts < 2:
            return [self] * parts
        whole = self.input_tokens if self.request_input_tokens is None else self.request_input_tokens
        counts = self[: self._fields.index("model_name")]
        rest = [None if count is None else count // parts for count in counts]
        first = [None if count is None else count - count // parts * (parts - 1) for count in counts]
        return [Usage._make((*share, self.model_name, whole)) for share in (first, *[rest] * (parts - 1))]
