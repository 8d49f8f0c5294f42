"""Sequences of tools: how far apart they are, which stands best for several, and what comes next.

`NextTool` interpolates what followed the last few tools by Witten and Bell's weights, from the domain to the category
to the agent, and from short contexts to long ones: what was seen often in the nearer history counts more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

__all__ = ["NextTool", "central", "distance"]

_CONTEXT = 4  # tools looked back at
_START = ""  # stands before the first tool


def distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Levenshtein distance of two sequences, divided by the length of the longer one: 0 is equal, 1 nothing alike.

    >>> distance(["locate", "search", "format"], ["locate", "format"])
    0.3333333333333333
    """
    from rapidfuzz.distance import Levenshtein  # loaded where it is needed

    return Levenshtein.normalized_distance(one, other)


def central(sequences: Sequence[Sequence[Hashable]], among: Iterable[Sequence[Hashable]]) -> list[float]:
    """How far each of some sequences is from all of the others, summed: the smallest stands best for them.

    >>> central([["a", "b"], ["x"]], [["a", "b"], ["a", "b", "c"]])
    [0.3333333333333333, 2.0]
    """
    others = list(among)
    return [sum(distance(each, other) for other in others) for each in sequences]


class NextTool:
    """Learns what is called next, and foretells it.

    >>> tools = NextTool()
    >>> tools.learn(["locate", "search"], scopes=["DMN001", "cafe search"])
    >>> tools.next(["locate"], scopes=["DMN001", "cafe search"])
    ['search', 'locate']
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, tuple[str, ...]], Counter[str]] = defaultdict(Counter)

    def learn(self, tools: Sequence[str], *, scopes: Sequence[str]) -> None:
        """Learn one run's tools.

        Args:
            tools: In the order they were called.
            scopes: What the run belongs to, widest first: domain, category, category and agent.
        """
        whole = (_START, *tools)
        for at in range(1, len(whole)):
            for context in _contexts(whole[:at]):
                for scope in scopes:
                    self._seen[scope, context][whole[at]] += 1

    def next(self, tools: Sequence[str], *, scopes: Sequence[str], most: int = 3) -> list[str]:
        """What is likely called after these tools, most likely first.

        Args:
            tools: What was called so far.
            scopes: As for `learn`.
            most: How many to give.
        """
        likely: dict[str, float] = {}
        for context in _contexts((_START, *tools)):
            for scope in scopes:
                counts = self._seen.get((scope, context))
                if counts:
                    likely = _interpolated(counts, likely)
        return sorted(likely, key=lambda tool: (-likely[tool], tool))[:most]


def _contexts(before: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The last 0, 1, 2 … of what was called."""
    return [before[len(before) - length :] for length in range(min(_CONTEXT, len(before)) + 1)]


def _interpolated(counts: Counter[str], shorter: dict[str, float]) -> dict[str, float]:
    """Witten and Bell: the more different tools followed, the more the wider history is asked."""
    different, total = len(counts), counts.total()
    mixed = {tool: different * share / (total + different) for tool, share in shorter.items()}
    for tool, count in counts.items():
        mixed[tool] = mixed.get(tool, 0.0) + count / (total + different)
    return mixed
