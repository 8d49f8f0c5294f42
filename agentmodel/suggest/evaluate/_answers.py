"""Answers from the response cache: how many repeated calls it would have answered, and how many of those wrongly.

Each session is replayed as if its read-only tools were called through the cache. What was recorded of a repeated call
says whether the cached result was still right. What calls write is learned as the cache learns it, from the calls that
were not answered (`agentmodel.suggest.guard._write_effects`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agentmodel.suggest.evaluate._replay import ReplayedCall, ReplayedRun, by_domain, training_runs
from agentmodel.suggest.guard import KindCounts, WriteMark, are_harmless, kinds_between, learned, values_of

__all__ = ["AnswerRow", "answers"]


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What the response cache would have answered within sessions.

    Attributes:
        domain: The domain.
        repeats: Calls of read-only tools whose equal call of the same session had a result.
        answered: How many of them would have been answered.
        stale: How many of these answers would have differed from what the call returned.
        outdated: How many of the repeats returned something else than the call before.

    >>> call = ReplayedCall("find_on_map", '{"place": "park"}', succeeded=True, result="Cafe Onda")
    >>> run = ReplayedRun("search", "finder", "mina", "", None, (call.tool,) * 3, True, calls=(call, call, call))
    >>> (row,) = answers([run, run], read_only=["find_on_map"])  # the first run is only learned from
    >>> f"{row.answered} of {row.repeats} repeated calls would have been answered, {row.stale} of them wrongly"
    '2 of 2 repeated calls would have been answered, 0 of them wrongly'
    """

    domain: str
    repeats: int
    answered: int
    stale: int
    outdated: int


@dataclass(slots=True)
class _Kept:
    result: str
    since: list[WriteMark] = field(default_factory=list)


def answers(runs: Iterable[ReplayedRun], *, read_only: Collection[str], train_share: float = 0.6) -> list[AnswerRow]:
    """Measure the answers of the response cache in the later part of each domain.

    Args:
        runs: The runs.
        read_only: Names of the tools that only read; ``*`` stands for any letters.
        train_share: Share of each domain's runs that is only learned from.
    """
    rows = []
    for domain, own in by_domain(runs).items():
        reads = {
            call.tool
            for run in own
            for call in run.calls
            if any(fnmatchcase(call.tool, pattern) for pattern in read_only)
        }
        cut, replay = training_runs(own, train_share), _Replay(reads)
        judged = [found for at, run in enumerate(own) for found in replay.session(run.calls) if at >= cut]
        if judged:
            rows.append(
                AnswerRow(
                    domain,
                    repeats=len(judged),
                    answered=sum(answered for answered, _ in judged),
                    stale=sum(answered and changed for answered, changed in judged),
                    outdated=sum(changed for _, changed in judged),
                )
            )
    return rows


class _Replay:
    """The cache of a domain, and what it has learned."""

    def __init__(self, read_only: Collection[str]) -> None:
        self._read_only = read_only
        self._counts: dict[str, dict[str, KindCounts]] = defaultdict(lambda: defaultdict(KindCounts))

    def session(self, calls: Iterable[ReplayedCall]) -> Iterable[tuple[bool, bool]]:
        """Yield for each repeated read of a session whether it was answered, and whether its result had changed."""
        cached: dict[tuple[str, str], _Kept] = {}
        for call in calls:
            values = values_of(_parsed(call.arguments))
            if call.tool not in self._read_only:
                mark = WriteMark(call.tool, values, "ok" if call.succeeded else "failed")
                for kept in cached.values():
                    kept.since.append(mark)
                continue
            key, answered = (call.tool, call.arguments), False
            if (found := cached.get(key)) is not None:
                kinds, counts = kinds_between(found.since, values), self._counts[call.tool]
                answered, changed = are_harmless(kinds, counts), found.result != call.result
                for kind, count in () if answered else learned(kinds, counts, changed=changed):
                    setattr(counts[kind], count, getattr(counts[kind], count) + 1)
                yield answered, changed
            if call.succeeded and not answered:
                cached[key] = _Kept(call.result)


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
