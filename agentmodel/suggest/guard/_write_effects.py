"""Which calls outdate a cached result: any call of a tool that writes, unless experience says that it does not.

A call of a tool that is not marked read-only leaves marks of its user: that it began, and how it ended. A cached result
is given again if no mark is newer than it, or if each newer one is of a kind of call that is known to leave this read
as it is. A kind is the tool of the call and whether it shares a value (an order number, say) with the arguments of the
read. A kind is known to be harmless when it stood between two equal reads at least `_SEEN` times and the result never
changed because of it.

Where several kinds stood between two different results, one of them did it. The suspects are, in this order: kinds
whose call succeeded; of these, kinds that once were the only one; kinds that are not known to be harmless; kinds that
share a value. So a call that often comes with a write is not taken for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["ANY", "KindCounts", "WriteMark", "are_harmless", "kinds_between", "learned", "values_of"]

_SEEN = 2  # with 1, five stale results were given on the real runs; with 2, none
_SHORTEST = 3  # letters and digits of a value that tells things apart
_MOST_VALUES = 64  # of the arguments of a call

ANY = "*"
"""In place of a tool or a value: it may be any."""

Ended: TypeAlias = Literal["began", "ok", "failed"]
Count: TypeAlias = Literal["same", "changed", "alone"]


@dataclass(frozen=True, slots=True)
class WriteMark:
    """What a call of a tool that writes leaves.

    Attributes:
        tool: The tool, as `Tool.name` in its domain; `ANY` if it is not known what was called with what.
        values: Digests of its arguments, of `values_of`.
        ended: Whether it began, succeeded or failed. A call that failed may have written.
    """

    tool: str
    values: frozenset[str]
    ended: Ended


@dataclass(slots=True)
class KindCounts:
    """What was seen of a kind of call between two equal reads.

    Attributes:
        same: How often the result was the same, after a call that succeeded.
        changed: How often it had changed, and the kind is a suspect.
        alone: How often it had changed, and there was no other kind.
    """

    same: int = 0
    changed: int = 0
    alone: int = 0

    @property
    def harmless(self) -> bool:
        """Return whether this kind of call is known to leave the read as it is."""
        return self.same >= _SEEN and self.changed == 0


def values_of(arguments: Any) -> frozenset[str]:
    """Return digests of the values in the arguments of a call that tell things apart; `ANY` if there are too many.

    Case and punctuation do not count: ``#W12`` and ``w12`` are one value.
    """
    found = {
        text
        for value in _leaves(arguments)
        if len(text := "".join(each for each in str(value).casefold() if each.isalnum())) >= _SHORTEST
    }
    if len(found) > _MOST_VALUES:
        return frozenset({ANY})
    return frozenset(hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest() for text in found)


def _leaves(arguments: Any) -> Iterable[Any]:
    waiting = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif value is not None and not isinstance(value, bool):
            yield value


def kinds_between(marks: Iterable[WriteMark], values: Collection[str]) -> dict[str, bool]:
    """Return the kinds of calls that left these marks, seen from a read with these values; and if one succeeded."""
    kinds: dict[str, bool] = {}
    for mark in marks:
        shares = ANY in mark.values or ANY in values or not mark.values.isdisjoint(values)
        kind = ANY if mark.tool == ANY else f"{'+' if shares else '-'}{mark.tool}"
        kinds[kind] = kinds.get(kind, False) or mark.ended == "ok"
    return kinds


def are_harmless(kinds: Collection[str], counts: Mapping[str, KindCounts]) -> bool:
    """Return whether all these kinds of calls are known to leave the read as it is, by its counts."""
    return all(kind in counts and counts[kind].harmless for kind in kinds)


def learned(kinds: Mapping[str, bool], counts: Mapping[str, KindCounts], *, changed: bool) -> list[tuple[str, Count]]:
    """Return which counts of a read go up by one, after calls of these kinds stood between two equal reads.

    Args:
        kinds: The kinds, of `kinds_between`.
        counts: The counts of the read so far.
        changed: Whether the result of the second read differed from that of the first.
    """
    if ANY in kinds or not kinds:
        return []
    if not changed:
        return [(kind, "same") for kind, succeeded in kinds.items() if succeeded]
    suspects = list(kinds)
    for narrower in (
        [kind for kind in suspects if kinds[kind]],
        [kind for kind in suspects if kind in counts and counts[kind].alone],
        [kind for kind in suspects if not are_harmless([kind], counts)],
        [kind for kind in suspects if kind.startswith("+")],
    ):
        suspects = [kind for kind in suspects if kind in narrower] or suspects
    found: list[tuple[str, Count]] = [(kind, "changed") for kind in suspects]
    return [*found, (suspects[0], "alone")] if len(kinds) == 1 else found
