"""Impact: what plans change, by sessions whose plan was withheld at random; and a stop where plans do harm."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from agentmodel._log import logger
from agentmodel.dynamo.models import Domain
from agentmodel.keys import format_time
from agentmodel.suggest.evaluate._effect import (
    ALPHA,
    LEAST_RUNS,
    Effect,
    Sums,
    cost_effect,
    effect,
    runs_to_find,
)

if TYPE_CHECKING:
    from agentmodel.access.repository import Repository
    from agentmodel.redshift.reports import CostSums, PlanSums

__all__ = ["Impact", "ImpactRow", "Verdict", "impact", "stop_harmful"]

_log = logger(__name__)
_COSTS = ("calls", "tokens", "seconds", "money")
_FOUND = 0.10  # the difference for which the number of runs is told
_USUAL_SHARE = 0.1  # the share that the number of runs is told for where none is withheld

Verdict = Literal["helps", "harms", "no difference shown", "too few runs", "nothing withheld"]
"""What the interval says of the success of requests."""


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """What plans change in a domain, or in one category of it.

    Attributes:
        domain_id: The domain; None of all domains together.
        domain: The domain's name.
        category: The category; None of all categories together. Rows of categories are exploratory: the interval of the
            k-th category that appeared in a domain allows ``0.05 * 6 / (pi * k)**2`` of errors, so that all categories
            together allow as many as the domain does.
        verdict: What is said of success: plans ``helps`` or ``harms`` where the interval leaves 0 out.
        success: The effect on success; ``change`` is in shares of all runs.
        calls: The effect on the calls that were made; ``change`` is in shares of what runs cost without a plan.
        tokens: The same of recorded tokens.
        seconds: The same of the time from beginning to end.
        money: The same of what the model cost, in millionths of the currency of the prices, where that is known.
        runs_missing: About how many more runs are needed before anything is said; 0 where something is.
        stopped_at: Since when no plans are given in the domain, because they did harm; None where they are given.

    >>> row = next(row for row in model.impact().rows if row.domain_id == "DMN001")
    >>> row.domain, row.verdict, row.success.runs_with, row.success.runs_without
    ('Store search', 'too few runs', 1, 2)
    """

    domain_id: str | None
    domain: str | None
    category: str | None
    verdict: Verdict
    success: Effect
    calls: Effect
    tokens: Effect
    seconds: Effect
    money: Effect
    runs_missing: int
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Impact:
    """What plans change.

    Attributes:
        share: The share of plans that is withheld now.
        rows: All domains together where there are several, then each domain, followed by its categories.
        sentence: The result as one sentence.

    >>> impact = model.impact()
    >>> impact.share, {row.verdict for row in impact.rows if row.domain_id == "DMN001"}
    (0.0, {'too few runs'})
    """

    share: float
    rows: tuple[ImpactRow, ...]
    sentence: str = field(init=False)

    def __post_init__(self) -> None:
        """Put the sentence together."""
        object.__setattr__(self, "sentence", " ".join(text.format(**values) for text, values in self.texts))

    @property
    def texts(self) -> list[_Text]:
        """Return the parts of the sentence, each with names in braces and their values: what a translation needs."""
        return _texts(self.rows, self.share)


_MEASURED = (
    "With a plan {given} of 100 requests succeed, without one {withheld}; the difference lies between {low} and {high} "
    "points"
)
TEXTS: Final = {
    "nothing withheld": "No session whose plan was withheld has ended, so it cannot be said what plans change: set "
    "AGENTMODEL_HOLDOUT, such as 0.1, and give each session its plan.",
    "no outcome": "No session whose plan was withheld has an outcome yet, so it cannot be said what plans change.",
    "domain": "In {domain}:",
    "too few runs": "Sessions with a plan: {given}, without: {withheld}. At least {least} of each are needed "
    "before anything is said, about {more} sessions more.",
    "helps": _MEASURED + ": plans help.",
    "harms": _MEASURED + ": plans do harm.",
    "no difference shown": _MEASURED + ", so no effect is shown yet;",
    "needed": "one of {points} points is found after about {runs} sessions in half of all installations.",
    "often": "You may look as often as you like: in at most {errors} of 100 installations without any effect would "
    "this ever be said.",
}
"""What the sentence of an `Impact` is made of."""

_Text = tuple[str, Mapping[str, object]]
_Key = tuple[str, float]  # a category and the share that was withheld
_Strata = dict[_Key, dict[bool, "PlanSums"]]  # by whether plans were withheld


def impact(sums: Iterable[PlanSums], domains: Iterable[Domain], *, share: float) -> Impact:
    """Measure what plans change, on sessions whose plan was given or withheld at random.

    A session counts once its outcome is known, by the same rule as in the scores. Sessions are compared within domain,
    category and the share that was withheld when they began: without the last one, a share that is raised while quality
    drifts gives false alarms. Where a person let plans be given again, only later sessions count.

    Args:
        sums: What the sessions came to; see `agentmodel.redshift.reports.plan_sums`.
        domains: The domains of the catalogue.
        share: The share that is withheld now.

    >>> from agentmodel.redshift.reports import plan_sums
    >>> impact(plan_sums(model.warehouse), model.repository.domains("Store"), share=0.1).share
    0.1
    """
    known = {domain.domain_id: domain for domain in domains}
    found: dict[str, _Strata] = defaultdict(lambda: defaultdict(dict))
    for each in sums:
        if each.domain_id in known and each.since == _since(known[each.domain_id]):
            found[each.domain_id][each.category, each.share][each.withheld] = each
    rows = []
    if len(found) > 1:
        together = [arms for strata in found.values() for arms in strata.values()]
        rows.append(_row(None, None, together, share))
    for domain in sorted(known.values(), key=lambda domain: (domain.domain_id not in found, domain.name)):
        strata = found.get(domain.domain_id, {})
        rows.append(_row(domain, None, list(strata.values()), share))
        rows += _of_categories(domain, strata, share)
    return Impact(share, tuple(rows))


def _since(domain: Domain) -> str:
    return "" if domain.plans_resumed_at is None else format_time("plans_resumed_at", domain.plans_resumed_at)


def _of_categories(domain: Domain, strata: _Strata, share: float) -> list[ImpactRow]:
    """Return a row for each category, in the order in which they appeared."""
    first: dict[str, str] = {}
    for (category, _), arms in strata.items():
        began = min(each.first for each in arms.values())
        first[category] = min(first.get(category, began), began)
    rows = []
    for number, category in enumerate(sorted(first, key=lambda each: (first[each], each)), start=1):
        own = [arms for (each, _), arms in strata.items() if each == category]
        alpha = ALPHA * 6 / (math.pi * number) ** 2
        rows.append(_row(domain, category, own, share, alpha=alpha))
    return rows


def _row(
    domain: Domain | None,
    category: str | None,
    strata: Sequence[Mapping[bool, PlanSums]],
    share: float,
    *,
    alpha: float = ALPHA,
) -> ImpactRow:
    pairs = [(arms[False], arms[True]) for arms in strata if len(arms) > 1]
    success = effect(((_successes(given), _successes(withheld)) for given, withheld in pairs), alpha=alpha)
    costs = {
        name: cost_effect(
            [_costs(getattr(given, name), getattr(withheld, name)) for given, withheld in pairs], alpha=alpha
        )
        for name in _COSTS
    }
    missing = max(0, LEAST_RUNS - success.runs_without), max(0, LEAST_RUNS - success.runs_with)
    return ImpactRow(
        domain_id=None if domain is None else domain.domain_id,
        domain=None if domain is None else domain.name,
        category=category,
        verdict=_verdict(success),
        success=success,
        **costs,
        runs_missing=math.ceil(max(missing[0] / (share or _USUAL_SHARE), missing[1] / (1 - share))),
        stopped_at=None if domain is None else domain.plans_stopped_at,
    )


def _successes(sums: PlanSums) -> Sums:
    return Sums(sums.sessions, sums.successes, sums.successes)


def _costs(given: CostSums, withheld: CostSums) -> tuple[Sums, Sums, Sums, Sums]:
    return (
        Sums(given.sessions, given.total),
        Sums(withheld.sessions, withheld.total),
        Sums(given.sessions, given.logs, given.squares),
        Sums(withheld.sessions, withheld.logs, withheld.squares),
    )


def _verdict(success: Effect) -> Verdict:
    if not success.runs_without:
        return "nothing withheld"
    if success.low is None or success.high is None:
        return "too few runs"
    if success.low > 0:
        return "helps"
    return "harms" if success.high < 0 else "no difference shown"


def _texts(rows: Sequence[ImpactRow], share: float) -> list[_Text]:
    """Return the first row as texts with names in braces, each with the values of these."""
    row = rows[0] if rows else _row(None, None, [], share)
    found = row.success
    if row.verdict == "nothing withheld" or found.with_plan is None or found.without_plan is None:
        return [(TEXTS["no outcome" if share else "nothing withheld"], {})]
    several = len([one for one in rows if one.category is None]) > 1
    texts: list[_Text] = [(TEXTS["domain"], {"domain": row.domain})] if row.domain is not None and several else []
    if row.verdict == "too few runs" or found.low is None or found.high is None:
        values = {"given": found.runs_with, "withheld": found.runs_without, "least": LEAST_RUNS}
        return [*texts, (TEXTS["too few runs"], values | {"more": f"{row.runs_missing:,}"})]
    shares = {"given": found.with_plan, "withheld": found.without_plan, "low": found.low, "high": found.high}
    figures: dict[str, object] = {name: round(100 * number) for name, number in shares.items()}
    if row.verdict != "no difference shown":
        return [*texts, (TEXTS[row.verdict], figures), (TEXTS["often"], {"errors": round(100 * ALPHA)})]
    runs = runs_to_find(
        _FOUND,
        success_rate=min(max(found.without_plan, 0.05), 0.95),
        share=found.runs_without / (found.runs_with + found.runs_without),
    )
    return [
        *texts,
        (TEXTS[row.verdict], figures),
        (TEXTS["needed"], {"points": round(100 * _FOUND), "runs": f"{round(runs, -1):,.0f}"}),
    ]


def stop_harmful(found: Impact, repository: Repository, *, now: datetime) -> list[str]:
    """Give no more plans in the domains in which they do harm, until a person lets them be given again.

    Returns:
        The ids of the domains in which plans were given until now.

    >>> from datetime import UTC, datetime
    >>> stop_harmful(model.impact(), model.repository, now=datetime.now(UTC))  # in no domain do plans do harm
    []
    """
    stopped = []
    for row in found.rows:
        if row.domain_id is None or row.category is not None or row.verdict != "harms" or row.stopped_at is not None:
            continue
        repository.update(Domain.at(row.domain_id), Domain.plans_stopped_at.to(now))
        stopped.append(row.domain_id)
        _log.warning(
            "impact.plans_stopped: no plans are given in domain %s any more: with a plan %.0f of 100 requests "
            "succeeded, without one %.0f. `agentmodel impact` shows the figures; `agentmodel impact --resume %s` lets "
            "plans be given again",
            row.domain_id,
            100 * (row.success.with_plan or 0.0),
            100 * (row.success.without_plan or 0.0),
            row.domain_id,
        )
    return stopped
