"""Checks of runs against earlier ones: would failed runs have been marked, and is known which step did it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.suggest._run_check import Answer, WriteHistory, varying_tools
from agentmodel.suggest.evaluate._replay import ReplayedCall, ReplayedRun, by_domain, training_runs

__all__ = ["CheckRow", "WrongStepRow", "checks", "wrong_steps"]

_RUNS_OF_A_CATEGORY = 40  # as a publish keeps them
_PUBLISH_SHARE = 0.02  # of a domain's runs, after which it counts as published anew
_Scope = tuple[str, str]  # a user and a category


@dataclass(frozen=True, slots=True)
class CheckRow:
    """How well runs are told from failed ones when they end, and what is known of their wrong steps.

    Attributes:
        domain: The domain.
        runs: Later runs.
        compared: How many of them had two earlier successes of their user and category.
        failed: How many of the compared ones failed.
        marked: How many of them were marked: successes repeat themselves, and this run differs.
        right: How many of the marked ones failed.
        false_alarms: Share of the compared successes that were marked, 0 to 1.
        auc: How well the stated chance orders failed and successful ones: area under the ROC curve; None without both.
        asked: Compared runs in which a person would have been asked before a write.
        asked_right: How many of these failed.
        wrong_steps: For the later failed runs, how often each answer of `WrongStep` was given.

    >>> (row,) = model.evaluate(train_share=0.5).checks
    >>> row.domain, row.runs, row.compared, row.marked
    ('DMN001', 3, 1, 0)
    """

    domain: str
    runs: int
    compared: int
    failed: int
    marked: int
    right: int
    false_alarms: float
    auc: float | None
    asked: int
    asked_right: int
    wrong_steps: Mapping[str, int]


def checks(runs: Iterable[ReplayedRun], *, read_only: Collection[str] = (), train_share: float = 0.6) -> list[CheckRow]:
    """Measure the check of runs on the later part of each domain, each run by what was known before it.

    Which tools vary from success to success is learned anew after every 2 % of the runs, as by a publish.

    Args:
        runs: The runs.
        read_only: Names of the tools that only read; ``*`` stands for any letters.
        train_share: Share of each domain's runs that is only learned from.
    """
    return [
        _row(domain, own, training_runs(own, train_share), read_only)
        for domain, own in by_domain(runs).items()
        if any(run.calls for run in own)
    ]


@dataclass(frozen=True, slots=True)
class WrongStepRow:
    """How many failed runs of a category went wrong at the same tool in the same way.

    Attributes:
        domain: The domain.
        category: The kind of request; empty where it has none.
        answer: What is known of the step, see `WrongStep`.
        tool: The tool; empty where it is not known.
        runs: How many runs.
    """

    domain: str
    category: str
    answer: Answer
    tool: str
    runs: int


def wrong_steps(runs: Iterable[ReplayedRun], *, read_only: Collection[str] = ()) -> list[WrongStepRow]:
    """Return where failed runs went wrong, each compared with all other runs of its user and category; most first.

    Args:
        runs: The runs.
        read_only: Names of the tools that only read; ``*`` stands for any letters.

    >>> from agentmodel.suggest.evaluate import runs_from_warehouse
    >>> wrong_steps(runs_from_warehouse(model.warehouse), read_only=["find_on_map", "read_reviews"])
    [WrongStepRow(domain='DMN001', category='cafe search', answer='error', tool='find_on_map', runs=2)]
    """
    counts: Counter[tuple[str, str, Answer, str]] = Counter()
    for domain, own in by_domain(runs).items():
        by_scope: dict[_Scope, list[ReplayedRun]] = defaultdict(list)
        for run in own:
            by_scope[run.user, run.category].append(run)
        scopes = {scope: [(run.succeeded, run.calls) for run in those] for scope, those in by_scope.items()}
        reads = _reads(own, read_only)
        ignored = reads | varying_tools(scopes.values(), ignored=reads)
        rate = (sum(run.succeeded for run in own) + 1) / (len(own) + 2)
        for scope, those in scopes.items():
            history = WriteHistory.of(those if _is_known(*scope) else (), ignored=ignored, rate=rate)
            for succeeded, calls in those:
                if not succeeded:
                    found = history.wrong_step(calls)
                    counts[domain, scope[1], found.answer, found.tool or ""] += 1
    order = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return [WrongStepRow(*key, runs=count) for key, count in order]


def _is_known(user: str, category: str) -> bool:
    """Return whether runs of this scope are of one user and one kind; the anonymous user is many people."""
    return category != "" and user not in ("", ANONYMOUS)


def _compared(past: Sequence[ReplayedRun]) -> list[tuple[bool, Sequence[ReplayedCall]]]:
    """Return the runs that a publish would keep for a later run of their user and category."""
    newest = past[-_RUNS_OF_A_CATEGORY:]
    return [(one.succeeded, one.calls) for one in newest if _is_known(one.user, one.category)]


def _reads(runs: Iterable[ReplayedRun], read_only: Collection[str]) -> set[str]:
    tools = {call.tool for run in runs for call in run.calls}
    return {tool for tool in tools if any(fnmatchcase(tool, pattern) for pattern in read_only)}


def _row(domain: str, runs: Sequence[ReplayedRun], cut: int, read_only: Collection[str]) -> CheckRow:
    reads = _reads(runs, read_only)
    every = max(1, round(len(runs) * _PUBLISH_SHARE))
    past: dict[_Scope, list[ReplayedRun]] = defaultdict(list)
    agents: dict[str, list[bool]] = defaultdict(list)
    ignored: set[str] = reads
    judged: list[tuple[float, bool, bool, bool]] = []  # chance, marked, asked, succeeded
    wrong: Counter[str] = Counter()
    succeeded = 0
    for at, run in enumerate(runs):
        if at >= cut:
            if (at - cut) % every == 0:
                known = [
                    [(one.succeeded, one.calls) for one in own] for scope, own in past.items() if _is_known(*scope)
                ]
                ignored = reads | varying_tools(known, ignored=reads)
            history = WriteHistory.of(
                _compared(past[run.user, run.category]),
                ignored=ignored,
                rate=(succeeded + 1) / (at + 2),
            )
            check = history.check(run.calls, agent=(len(agents[run.agent]), sum(agents[run.agent])))
            if check.chance is not None:
                asked = any(history.reason(call.tool, call.arguments) for call in run.calls if call.succeeded)
                judged.append((check.chance, check.suspect, asked, run.succeeded))
            if not run.succeeded:
                wrong[history.wrong_step(run.calls).answer] += 1
        past[run.user, run.category].append(run)
        agents[run.agent].append(run.succeeded)
        succeeded += run.succeeded
    good = [chance for chance, _, _, fine in judged if fine]
    return CheckRow(
        domain,
        runs=len(runs) - cut,
        compared=len(judged),
        failed=len(judged) - len(good),
        marked=sum(marked for _, marked, _, _ in judged),
        right=sum(marked and not fine for _, marked, _, fine in judged),
        false_alarms=sum(marked and fine for _, marked, _, fine in judged) / max(1, len(good)),
        auc=_area([chance for chance, _, _, fine in judged if not fine], good),
        asked=sum(asked for _, _, asked, _ in judged),
        asked_right=sum(asked and not fine for _, _, asked, fine in judged),
        wrong_steps=dict(wrong.most_common()),
    )


def _area(failed: Sequence[float], good: Sequence[float]) -> float | None:
    """Return the share of pairs of a failed and a successful run whose chances are in the right order."""
    if not failed or not good:
        return None
    order = sorted(good)
    above = sum(2 * len(order) - bisect_left(order, each) - bisect_right(order, each) for each in failed)
    return above / 2 / len(failed) / len(order)
