"""Plans for requests: how often the plan that a request finds is what a later successful run did.

Each request of the later part is asked twice: with its category, and without any, as if no run had ever had one. The
second way derives categories from the requests of the first part, as a refresh does, and finds them as a plan does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentmodel._values.categories import Founders, compared_text, is_derived, kept_text
from agentmodel._values.text import words_of
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.suggest._sequences import distance
from agentmodel.suggest.evaluate._replay import ReplayedRun, by_domain, planned, training_runs
from agentmodel.suggest.plan import TextSimilarity

__all__ = ["RequestRow", "requests"]

_EXAMPLES = 5  # requests of a category by which it is found, as a publish keeps them

_Tools = tuple[str, ...]
_Scope = tuple[str, str]  # a user and a category


@dataclass(frozen=True, slots=True)
class RequestRow:
    """How often requests of a kind that was asked before find the right plan.

    Attributes:
        domain: The domain.
        categories: ``known``: the request is asked with its category. ``derived``: neither it nor any run before it has
            one.
        cases: Different later requests, of categories that had runs before and have a later run that succeeded.
        with_plan: Share of them that got a plan, 0 to 1.
        equal: Share of them whose plan has the same tools as such a later run, 0 to 1.
        distance: Mean normalised edit distance of the plans to the nearest of these runs, 0 to 1.

    >>> row = model.evaluate(train_share=0.5).requests[0]
    >>> row.categories, row.cases, row.with_plan
    ('known', 2, 1.0)
    """

    domain: str
    categories: Literal["known", "derived"]
    cases: int
    with_plan: float
    equal: float
    distance: float


def requests(runs: Iterable[ReplayedRun], *, train_share: float = 0.6) -> list[RequestRow]:
    """Measure the plans that the requests of the later part find in the first part, by domain."""
    rows = []
    for domain, own in by_domain(runs).items():
        cut = training_runs(own, train_share)
        past, later = own[:cut], own[cut:]
        known = {run.category for run in past if run.category and not is_derived(run.category)}
        right: dict[str, set[_Tools]] = defaultdict(set)
        for run in later:
            if run.succeeded and run.category in known:
                right[run.category].add(run.tools)
        asked = {(run.category, run.request): run for run in reversed(later) if run.request and run.category in right}
        for row in (_WithCategories(past), _WithoutCategories(past)) if asked else ():
            found = [(row.plan(run), right[run.category]) for run in asked.values()]
            far = [min(distance(plan, one) for one in those) for plan, those in found if plan is not None]
            rows.append(
                RequestRow(
                    domain, row.categories, len(found),
                    with_plan=len(far) / len(found),
                    equal=far.count(0.0) / len(found),
                    distance=sum(far) / len(far) if far else 0.0,
                )
            )  # fmt: skip
    return rows


def _plans(history: Mapping[_Scope, Sequence[ReplayedRun]]) -> dict[_Scope, _Tools]:
    return {scope: plan for scope, runs in history.items() if (plan := planned(runs)) is not None}


def _is_known(user: str) -> bool:
    return user not in ("", ANONYMOUS)


class _WithCategories:
    """Finds the user's own plan of the category, else the one of all users with the most successes."""

    categories: Literal["known"] = "known"

    def __init__(self, past: Sequence[ReplayedRun]) -> None:
        history: dict[_Scope, list[ReplayedRun]] = defaultdict(list)
        for run in past:
            history[run.user, run.category].append(run)
        self._plans = _plans(history)
        self._best: dict[str, tuple[int, _Tools]] = {}
        for (user, category), plan in self._plans.items():
            worked = sum(run.succeeded and run.tools == plan for run in history[user, category])
            self._best[category] = max(self._best.get(category, (0, ())), (worked, plan))

    def plan(self, run: ReplayedRun) -> _Tools | None:
        """Return the plan for the request of a run."""
        own = self._plans.get((run.user, run.category)) if _is_known(run.user) else None
        return self._best[run.category][1] if own is None and run.category in self._best else own


class _WithoutCategories:
    """Finds the plan of the user's most similar request, else that of the most similar one of all users."""

    categories: Literal["derived"] = "derived"

    def __init__(self, past: Sequence[ReplayedRun]) -> None:
        founders: dict[str, Founders] = defaultdict(Founders)
        assigned: dict[tuple[str, str], str] = {}
        history: dict[_Scope, list[ReplayedRun]] = defaultdict(list)
        for run in past:
            text = compared_text(run.request)
            if form := " ".join(words_of(text)):
                if (run.user, form) not in assigned:
                    own = founders[run.user]
                    assigned[run.user, form] = own.nearest(text) or own.found(text)
                history[run.user, assigned[run.user, form]].append(run)
        self._similarity = TextSimilarity()
        self._plans = _plans(history)
        self._examples: dict[str, list[tuple[str, _Scope]]] = defaultdict(list)  # by user
        for scope in self._plans:
            newest = dict.fromkeys(kept_text(run.request) for run in reversed(history[scope]))
            self._examples[scope[0]] += [(request, scope) for request in list(newest)[:_EXAMPLES]]

    def plan(self, run: ReplayedRun) -> _Tools | None:
        """Return the plan for the request of a run."""
        own = self._nearest(run.request, self._examples.get(run.user, ())) if _is_known(run.user) else None
        everybody = (example for examples in self._examples.values() for example in examples)
        return self._nearest(run.request, list(everybody)) if own is None else own

    def _nearest(self, request: str, examples: Sequence[tuple[str, _Scope]]) -> _Tools | None:
        similarities = self._similarity.scores(kept_text(request), [text for text, _ in examples])
        best = max(range(len(examples)), key=lambda index: round(similarities[index], 2), default=None)
        if best is None or similarities[best] < self._similarity.threshold:
            return None
        return self._plans[examples[best][1]]
