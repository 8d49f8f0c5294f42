"""Sequences of tools: how different they are, which represents several best, and which tool comes next.

`likely_next` interpolates what followed the last few tools by Witten and Bell's weights, from the domain to the
category, and from short contexts to long ones: what was seen often in the more specific history counts more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "SEQUENCES_OF_A_CATEGORY", "SEQUENCES_OF_A_DOMAIN", "Followers", "common_sequences", "distance", "likely_next",
    "packed_sequences", "total_distances", "unpacked_sequences",
]  # fmt: skip

SEQUENCES_OF_A_DOMAIN = 200
"""How many sequences of a domain a publish keeps, from which next tools are predicted."""

SEQUENCES_OF_A_CATEGORY = 20
"""How many of a user's category."""


_CONTEXT = 4  # the most tools that a prediction looks back at
_START = ""  # stands before the first tool


def distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Return the Levenshtein distance of two sequences, divided by the length of the longer one.

    Equal sequences have distance 0, sequences that have nothing in common distance 1.

    >>> distance(["locate", "search", "format"], ["locate", "format"])
    0.3333333333333333
    """
    from rapidfuzz.distance import Levenshtein  # not at the top: recording does without

    return Levenshtein.normalized_distance(one, other)


def total_distances(sequences: Sequence[Sequence[Hashable]], others: Iterable[Sequence[Hashable]]) -> list[float]:
    """Return the sum of the distances of each sequence to all of some others; the smallest represents these best.

    >>> total_distances([["a", "b"], ["x"]], [["a", "b"], ["a", "b", "c"]])
    [0.3333333333333333, 2.0]
    """
    compared = list(others)
    return [sum(distance(each, other) for other in compared) for each in sequences]


class Followers:
    """Counts which tool followed the last few tools, in the runs of one scope: a domain, or a category of requests.

    Args:
        sequences: Runs to learn from: how often each sequence of tools was run, and its tools.

    >>> domain = Followers([(3, ["locate", "search"]), (1, ["locate", "format"])])
    >>> likely = likely_next(["locate"], [domain, Followers([(1, ["locate", "format"])])])
    >>> {tool: round(share, 2) for tool, share in likely.items()}
    {'format': 0.69, 'search': 0.3, 'locate': 0.01}
    """

    def __init__(self, sequences: Iterable[tuple[int, Sequence[str]]] = ()) -> None:
        self._seen: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for times, tools in sequences:
            sequence = (_START, *tools)
            for at in range(1, len(sequence)):
                for context in _contexts(sequence[:at]):
                    self._seen[context][sequence[at]] += times

    def after(self, context: tuple[str, ...]) -> Counter[str]:
        """Return how often each tool followed these tools."""
        return self._seen.get(context, Counter())


def likely_next(tools: Sequence[str], scopes: Sequence[Followers]) -> dict[str, float]:
    """Return how likely each tool is to be the next one, provided that another is called; the most likely first.

    Args:
        tools: The tools that were called so far.
        scopes: The counts, the widest first.
    """
    likely: dict[str, float] = {}
    for context in _contexts((_START, *tools)):
        for scope in scopes:
            counts = scope.after(context)
            if counts:
                likely = _interpolated(counts, likely)
    total = sum(likely.values())
    return {tool: likely[tool] / total for tool in sorted(likely, key=lambda tool: (-likely[tool], tool))}


def common_sequences(runs: Iterable[Sequence[str]], limit: int) -> list[tuple[int, tuple[str, ...]]]:
    """Return the sequences that were run most often, each with how often; of equals, those that were run last.

    Args:
        runs: The tools of each run, the oldest run first.
        limit: The most sequences to return.

    >>> common_sequences([["a"], ["b"], ["a"], ["c"]], 2)
    [(2, ('a',)), (1, ('c',))]
    """
    times: Counter[tuple[str, ...]] = Counter()
    last: dict[tuple[str, ...], int] = {}
    for at, tools in enumerate(map(tuple, runs)):
        times[tools] += 1
        last[tools] = at
    ordered = sorted(times, key=lambda tools: (-times[tools], -last[tools]))
    return [(times[tools], tools) for tools in ordered[:limit]]


def _contexts(before: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the last 0, 1, 2 … tools of those that were called."""
    return [before[len(before) - length :] for length in range(min(_CONTEXT, len(before)) + 1)]


def _interpolated(counts: Counter[str], shorter: dict[str, float]) -> dict[str, float]:
    """Mix by Witten and Bell: the more different tools followed, the more the wider history counts."""
    different, total = len(counts), counts.total()
    mixed = {tool: different * share / (total + different) for tool, share in shorter.items()}
    for tool, count in counts.items():
        mixed[tool] = mixed.get(tool, 0.0) + count / (total + different)
    return mixed


def packed_sequences(sequences: Sequence[tuple[int, Sequence[str]]]) -> dict[str, Any] | None:
    """Return sequences as an item holds them, with each name once; None without any.

    >>> packed_sequences([(3, ["locate", "search"]), (1, ["search"])])
    {'tools': ['locate', 'search'], 'runs': [[3, 0, 1], [1, 1]]}
    """
    if not sequences:
        return None
    numbers: dict[str, int] = {}
    runs = [[times, *(numbers.setdefault(tool, len(numbers)) for tool in tools)] for times, tools in sequences]
    return {"tools": list(numbers), "runs": runs}


def unpacked_sequences(packed: Mapping[str, Any] | None) -> list[tuple[int, list[str]]]:
    """Return the sequences that were packed; none where the item is damaged.

    >>> unpacked_sequences({"tools": ["locate", "search"], "runs": [[3, 0, 1]]})
    [(3, ['locate', 'search'])]
    """
    try:
        tools = list(packed["tools"]) if packed else []
        runs = (packed or {}).get("runs", ())
        return [(int(times), [str(tools[at]) for at in run]) for times, *run in runs if times > 0]
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return []
