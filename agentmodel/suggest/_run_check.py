"""Compare the successful write calls of a run with those of earlier runs of its user and category.

A run is the set of its successful write calls: tool and arguments. Where earlier successes repeat each other's sets, a
run with another set has probably failed; a call that only failed runs made is probably wrong. Tools that are marked
read-only do not count, nor do tools whose calls vary from success to success, such as one that takes notes: which these
are is learned from the successes of all categories of a domain (`varying_tools`).

Measured on the real runs, learning from earlier runs only, by `agentmodel evaluate`; see `docs/suggest/checks.md`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias

from agentmodel._log import logger

_log = logger(__name__)

__all__ = [
    "Call", "RunCheck", "ToolUses", "WriteHistory", "WrongStep", "success_prior", "tool_uses", "varying",
    "varying_tools",
]  # fmt: skip

_LEAST_SUCCESSES = 2  # of a category, before anything is said
_REPEATED = 0.5  # share of the successes whose set another one repeats, from which a different set is marked
_VARIES = 0.4  # share of a tool's uses in successes that another one repeats, below which the tool says nothing
_LEAST_USES = 4
_MOST_SETS, _MOST_CALLS, _MOST_FAILED = 24, 64, 128  # that are kept of a category

ToolUses: TypeAlias = Sequence[int]  # how many successes used a tool, and how many of these repeat another one's calls
Answer: TypeAlias = Literal["unexpected write", "missing write", "error", "unknown"]


class Call(Protocol):
    """A call of a run.

    Attributes:
        tool: The tool's name.
        arguments: Its arguments, as JSON with sorted names.
        succeeded: Whether it succeeded.
    """

    @property
    def tool(self) -> str: ...
    @property
    def arguments(self) -> str: ...
    @property
    def succeeded(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class WrongStep:
    """Which step of a failed run did it, as far as the record shows.

    Attributes:
        answer: ``unexpected write``: the first successful write that no success made. ``missing write``: one that all
            successes made, with the failed attempt at it if there is one. ``error``: the last failed call whose tool
            did not succeed later. Else ``unknown``.
        tool: The tool; None if it is not known.
        step: Position of the call in the run, from 1; None where no call is meant.

    >>> step = model.run_checks.wrong_step("USR001", "SESS3")
    >>> step.answer, step.tool, step.step
    ('error', 'find_on_map', 1)
    """

    answer: Answer
    tool: str | None = None
    step: int | None = None

    def __str__(self) -> str:
        """Return it as a phrase: ``step 3, unexpected write by `pay```."""
        if self.tool is None:
            return "unknown"
        where = "" if self.step is None else f"step {self.step}, "
        return f"{where}{self.answer} {'of' if self.answer == 'error' else 'by'} `{self.tool}`"


@dataclass(frozen=True, slots=True)
class RunCheck:
    """How a run compares with the earlier successes of its category.

    Attributes:
        successes: Earlier successes it was compared with.
        repeated: Share of them whose set of writes another one repeats, 0 to 1.
        differs: By how many writes the run differs from the nearest success; None where there are too few successes.
        chance: Chance that the run succeeded, 0 to 1; None likewise.
        note: What the figures say, or why they say nothing.

    >>> check = model.run_checks.check("USR001", "SESS2")
    >>> check.successes, check.suspect, check.note
    (1, False, 'not compared: 1 earlier successes of this category are known, at least 2 are needed')
    """

    successes: int
    repeated: float
    differs: int | None
    chance: float | None
    note: str = field(init=False)

    def __post_init__(self) -> None:
        """Put the note together."""
        object.__setattr__(self, "note", "".join(text.format(**values) for text, values in self.texts))

    @property
    def texts(self) -> list[tuple[str, Mapping[str, object]]]:
        """Return the parts of the note, each with names in braces and their values: what a translation needs."""
        known: Mapping[str, object] = {"known": self.successes}
        if self.differs is None:
            told = "not compared: {known} earlier successes of this category are known, at least {least} are needed"
            return [(told, {**known, "least": _LEAST_SUCCESSES})]
        texts: list[tuple[str, Mapping[str, object]]] = [
            ("its writes are those of an earlier success ({known} are known)", known)
        ]
        if self.differs:
            told = "its writes differ by {differs} from those of the nearest of {known} earlier successes"
            texts = [(told, {**known, "differs": self.differs})]
        if self.repeated < _REPEATED:
            told = "; that says little, because only {share} of them repeat another one's writes"
            texts.append((told, {"share": f"{self.repeated:.0%}"}))
        return texts

    @property
    def suspect(self) -> bool:
        """Return whether successes repeat themselves and this run differs."""
        return self.differs is not None and self.differs > 0 and self.repeated >= _REPEATED


def success_prior(rate: float, *counts: tuple[int, int], weights: Sequence[float] = (4.0, 2.0)) -> float:
    """Return the log odds of a success before a run: those of each count, pulled to the rate of the domain.

    Args:
        rate: Success rate of the domain, between 0 and 1.
        counts: Runs and successes: of the agent, of the category.
        weights: What the rate is worth in each count, in runs.

    >>> success_prior(0.5, (0, 0), (0, 0))
    0.0
    """
    rate = min(0.99, max(0.01, rate))
    odds = _logit(rate)
    for (runs, successes), weight in zip(counts, weights, strict=False):
        odds += _logit((successes + weight * rate) / (runs + weight)) - _logit(rate)
    return odds


def varying_tools(
    categories: Iterable[Iterable[tuple[bool, Iterable[Call]]]], *, ignored: Collection[str] = ()
) -> set[str]:
    """Return the tools whose calls vary from success to success.

    Args:
        categories: The runs of each category: whether each succeeded, and its calls.
        ignored: Tools that do not count, such as those that read.
    """
    return varying(map(tool_uses, categories)) - {*ignored}


def tool_uses(runs: Iterable[tuple[bool, Iterable[Call]]]) -> dict[str, ToolUses]:
    """Return for each tool how many successes of a category used it, and how many of these repeat another one's calls.

    >>> tool_uses([(True, []), (False, [])])
    {}
    """
    found: dict[str, ToolUses] = {}
    successes = [_by_tool(calls) for succeeded, calls in runs if succeeded]
    for tool in sorted({tool for run in successes for tool in run}):
        sets = Counter(frozenset(run[tool]) for run in successes if tool in run)
        if sets.total() > 1:
            found[tool] = [sets.total(), sum(count for count in sets.values() if count > 1)]
    return found


def varying(categories: Iterable[Mapping[str, ToolUses]]) -> set[str]:
    """Return the tools whose calls vary, given their uses in each category.

    >>> varying([{"note": (4, 0), "pay": (4, 4)}])
    {'note'}
    """
    uses: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    for category in categories:
        for tool, (count, repeated) in category.items():
            uses[tool] += count
            repeats[tool] += repeated
    return {tool for tool, count in uses.items() if count >= _LEAST_USES and repeats[tool] / count < _VARIES}


@dataclass(slots=True)
class WriteHistory:
    """The writes of the earlier runs of a user and a category.

    Attributes:
        good: Sets of write calls of the successes, each with how often.
        failed: Write calls of failed runs that no success made.
        ignored: Tools that say nothing.
        runs: How many runs there were, failed ones included.
        rate: Success rate of the domain.
        whose: The user, who keys the digests of arguments: equal ones of two users are not alike.
    """

    good: Counter[frozenset[str]] = field(default_factory=Counter)
    failed: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    runs: int = 0
    rate: float = 0.5
    whose: str = ""

    @classmethod
    def of(
        cls, runs: Iterable[tuple[bool, Iterable[Call]]], *, ignored: Collection[str], rate: float, whose: str = ""
    ) -> Self:
        """Return the history of these runs: whether each succeeded, and its calls."""
        found = cls(ignored=frozenset(ignored), rate=rate, whose=whose)
        failed: Counter[str] = Counter()
        for succeeded, calls in runs:
            found.runs += 1
            writes = found.writes(calls)
            if succeeded:
                found.good[frozenset(writes)] += 1
            else:
                failed.update(writes)
        made = {write for each in found.good for write in each}
        found.failed = frozenset(write for write, _ in failed.most_common() if write not in made)
        return found

    def writes(self, calls: Iterable[Call]) -> dict[str, int]:
        """Return the successful write calls, each with the position of the first."""
        found: dict[str, int] = {}
        for step, call in enumerate(calls, start=1):
            if call.succeeded and call.tool not in self.ignored:
                found.setdefault(self.digest(call.tool, call.arguments), step)
        return found

    def digest(self, tool: str, arguments: str) -> str:
        """Return the text of a call that is kept."""
        key = hashlib.blake2b(self.whose.encode(), digest_size=16).digest()
        text = hashlib.blake2b(arguments.encode(errors="replace"), key=key, digest_size=8).hexdigest()
        return f"{tool}:{text}"

    @property
    def successes(self) -> int:
        """Return how many successes there were."""
        return self.good.total()

    @property
    def tools(self) -> set[str]:
        """Return the tools that a success wrote by."""
        return {_tool(write) for each in self.good for write in each}

    @property
    def repeated(self) -> float:
        """Return the share of the successes whose set another one repeats."""
        return sum(count for count in self.good.values() if count > 1) / self.successes if self.good else 0.0

    # What is asked of it

    def check(self, calls: Iterable[Call], *, agent: tuple[int, int] = (0, 0)) -> RunCheck:
        """Compare a run with the successes.

        Args:
            calls: Its calls, in order.
            agent: Runs and successes of its agent.
        """
        known, share = self.successes, self.repeated
        if known < _LEAST_SUCCESSES:
            return RunCheck(known, share, None, None)
        writes = set(self.writes(calls))
        differs = min(len(writes ^ good) for good in self.good)
        evidence = (1.8 if not differs else -2.6) * share - 0.2 * min(differs, 3) * (1 - share)
        odds = 0.9 * success_prior(self.rate, agent, (self.runs, known)) + evidence
        chance = 1 / (1 + math.exp(-odds))
        return RunCheck(known, share, differs, chance)

    def reason(self, tool: str, arguments: str) -> str | None:
        """Return why a person should be asked before a write call; None if nothing speaks against it."""
        if self.successes < _LEAST_SUCCESSES or tool in self.ignored:
            return None
        if self.digest(tool, arguments) in self.failed:
            return f"this call of {tool} was made in failed runs of this category only"
        if tool not in self.tools:
            return f"none of the {self.successes} earlier successes of this category used {tool}"
        return None

    def wrong_step(self, calls: Sequence[Call]) -> WrongStep:
        """Return which step of a failed run did it, as far as the record shows."""
        errors = _unrecovered(calls)
        if self.successes >= _LEAST_SUCCESSES and self.repeated >= _REPEATED:
            writes = self.writes(calls)
            made = {write for each in self.good for write in each}
            for write, step in writes.items():
                if write not in made:
                    return WrongStep("unexpected write", _tool(write), step)
            always = frozenset.intersection(*self.good)
            for write in sorted(always - set(writes)):
                return WrongStep("missing write", _tool(write), errors.get(_tool(write)))
        for tool, step in errors.items():
            return WrongStep("error", tool, step)
        return WrongStep("unknown")

    # Kept in a mapping

    def packed(self) -> dict[str, Any]:
        """Return it as JSON; without the writes of the successes if these are too large to keep."""
        small = all(len(each) <= _MOST_CALLS for each in self.good)
        sets = sorted(self.good.items() if small else (), key=lambda item: (-item[1], sorted(item[0])))
        return {
            "good": [[count, sorted(calls)] for calls, count in sets[:_MOST_SETS]],
            "failed": sorted(self.failed)[:_MOST_FAILED],
            "ignored": sorted(self.ignored),
            "runs": self.runs,
            "rate": round(self.rate, 6),
        }

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any] | None, *, whose: str) -> Self:
        """Return what `packed` kept; a history without runs for None, and for what is damaged."""
        if packed is None:
            return cls(whose=whose)
        try:
            good = Counter({frozenset(map(str, calls)): int(count) for count, calls in packed["good"]})
            failed, ignored = (frozenset(map(str, packed[name])) for name in ("failed", "ignored"))
            return cls(good, failed, ignored, int(packed["runs"]), float(packed["rate"]), whose)
        except (KeyError, TypeError, ValueError):
            _log.warning("run check: what runs of %s wrote cannot be read; the next publish writes it anew", whose)
            return cls(whose=whose)


def _by_tool(calls: Iterable[Call]) -> dict[str, set[str]]:
    """Return the arguments of the successful calls of each tool."""
    found: dict[str, set[str]] = defaultdict(set)
    for call in calls:
        if call.succeeded:
            found[call.tool].add(call.arguments)
    return found


def _unrecovered(calls: Sequence[Call]) -> dict[str, int]:
    """Return the tools whose last call failed, each with the position of that call, the last one first."""
    last: dict[str, tuple[int, bool]] = defaultdict(lambda: (0, True))
    for step, call in enumerate(calls, start=1):
        last[call.tool] = step, call.succeeded
    failed = [(step, tool) for tool, (step, succeeded) in last.items() if not succeeded]
    return {tool: step for step, tool in sorted(failed, reverse=True)}


def _tool(write: str) -> str:
    return write.rpartition(":")[0]


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
