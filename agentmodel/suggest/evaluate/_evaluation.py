"""Evaluation by replay: measure how good the choices would have been. The history is replayed in time order.

The first part of each domain's runs is only learned from; then each further run is judged by what was known before it,
and learned from in turn. Rankings are judged by their regret: how much lower the success rate of the agent that they
choose is than that of the best one, both measured in the runs still to come. Baselines that need no learning are judged
likewise.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentmodel.suggest._chance import RunCounts, chance_of_success
from agentmodel.suggest._sequences import (
    SEQUENCES_OF_A_CATEGORY,
    SEQUENCES_OF_A_DOMAIN,
    Followers,
    common_sequences,
    distance,
    likely_next,
)
from agentmodel.suggest.evaluate._answers import AnswerRow, answers
from agentmodel.suggest.evaluate._baselines import RANKINGS, AgentHistory, best
from agentmodel.suggest.evaluate._checks import CheckRow, checks
from agentmodel.suggest.evaluate._regimes import RegimeRow, regimes
from agentmodel.suggest.evaluate._replay import ReplayedRun, by_domain, planned, task_of, training_runs
from agentmodel.suggest.evaluate._requests import RequestRow, requests
from agentmodel.suggest.evaluate._routes import RouteRow, routes

__all__ = [
    "CalibrationRow", "ChanceRow", "Evaluation", "NextToolRow", "PlanRow", "RankingRow", "calibration",
    "calibration_error", "chances", "evaluate", "next_tools", "plans", "ranking_regret",
]  # fmt: skip

Tools = tuple[str, ...]
_Scope = tuple[str, ...]  # a category, or a category and an agent
_PUBLISH_SHARE = 0.02  # of a domain's runs, after which it counts as published anew
_OTHERS = 200  # histories with other tasks, for the interval of a regret
_Z90 = 1.6448536269514722  # standard deviations of a central 90 % interval
_FLAGGED = 0.15  # of the runs, those with the lowest predictions
_MIN_FUTURE_RUNS = 3  # of an agent, to measure its success rate


@dataclass(frozen=True, slots=True)
class RankingRow:
    """How well a ranking chooses agents.

    Attributes:
        ranking: One of `RANKINGS`.
        regret: How much lower the success rate of the chosen agent was than that of the best one, on average.
        low: Lower bound of the 90 % interval of ``regret``: over histories with other tasks of the same kind.
        high: Upper bound of the interval.
        hits: Share of the cases in which the best agent was chosen, 0 to 1.
        cases: Choices between at least two agents.
    """

    ranking: str
    regret: float
    low: float
    high: float
    hits: float
    cases: int


@dataclass(frozen=True, slots=True)
class PlanRow:
    """How close plans come to later runs that succeeded.

    Attributes:
        domain: The domain.
        scope: What is compared. ``category``: the plan of each category with the closest later run of it.
            ``category and agent``: the plan of a category and an agent with each later run of both. ``every run``: the
            plan of a category with each later run of it. All are runs that succeeded.
        cases: Comparisons that were made.
        equal: Share with the same sequence of tools, 0 to 1.
        distance: Mean normalised edit distance, 0 to 1.
        first_step: Share with the same first tool, 0 to 1.
        best_equal: The highest possible ``equal``, had each plan been chosen in hindsight among the sequences that had
            succeeded before.
        best_distance: The lowest possible ``distance``, likewise.
    """

    domain: str
    scope: str
    cases: int
    equal: float
    distance: float
    first_step: float
    best_equal: float
    best_distance: float


@dataclass(frozen=True, slots=True)
class NextToolRow:
    """How often the next tool was predicted, in categories that had runs before.

    Attributes:
        domain: The domain.
        cases: Predictions that were made.
        top1: Share in which the first predicted tool was called, 0 to 1.
        top3: Share in which one of the first three was.
    """

    domain: str
    cases: int
    top1: float
    top3: float


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """How often runs succeeded whose predicted success rate was in a range.

    Attributes:
        predictor: ``chance``, the chance of success of a plan; ``evidence``; or ``success share``, the plain share of
            the agent's successful runs so far.
        low: The range, from.
        high: The range, to.
        predicted: Mean of the predicted success rates, 0 to 1.
        observed: Share of the runs that succeeded, 0 to 1.
        cases: Runs.
    """

    predictor: str
    low: float
    high: float
    predicted: float
    observed: float
    cases: int


@dataclass(frozen=True, slots=True)
class ChanceRow:
    """How well a predicted success rate tells the runs that fail.

    Attributes:
        predictor: As in `CalibrationRow`.
        error: Mean difference of predicted and observed success rates, over ten ranges, weighted by runs (the expected
            calibration error); 0 is best.
        auc: The probability that a run that succeeded had a higher prediction than one that failed (the area under the
            ROC curve): 0.5 by chance, 1 at best; None where all runs ended alike.
        failures: Share of the runs that failed among the 15 % with the lowest predictions.
        cases: Runs.

    >>> row = model.evaluate(train_share=0.5).chances[0]
    >>> row.predictor, row.auc, row.cases
    ('chance', 1.0, 3)
    >>> f"{row.failures:.0%} of the runs with the lowest predictions failed"
    '100% of the runs with the lowest predictions failed'
    """

    predictor: str
    error: float
    auc: float | None
    failures: float
    cases: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a replay of the history measured.

    Attributes:
        runs: How many runs were replayed.
        training_runs: How many of them were only learned from, before the first was judged.
        rankings: How well each ranking chooses agents.
        regimes: The same where use and work are spread over the agents in a known way.
        plans: How close plans come to later runs that succeeded.
        requests: How often requests find the right plan, with their categories and without.
        next_tools: How often the next tool is predicted.
        calibration: How predicted success rates compare with observed ones.
        chances: How well they tell the runs that fail.
        answers: What the response cache would have answered; empty where no tool is known to be read-only.
        routes: How many requests find their domain; empty where there is one domain.
        checks: How well failed runs would have been marked when they ended, and whether their wrong step is known.

    >>> evaluation = model.evaluate(train_share=0.5)
    >>> evaluation.runs, evaluation.training_runs
    (6, 3)
    >>> [(row.predictor, row.cases) for row in evaluation.chances]
    [('chance', 3), ('evidence', 3), ('success share', 3)]
    """

    runs: int
    training_runs: int
    rankings: tuple[RankingRow, ...]
    regimes: tuple[RegimeRow, ...]
    plans: tuple[PlanRow, ...]
    requests: tuple[RequestRow, ...]
    next_tools: tuple[NextToolRow, ...]
    calibration: tuple[CalibrationRow, ...]
    chances: tuple[ChanceRow, ...]
    answers: tuple[AnswerRow, ...] = ()
    routes: tuple[RouteRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()


def evaluate(
    runs: Sequence[ReplayedRun],
    *,
    train_share: float = 0.6,
    half_life_days: float = 30.0,
    uses: Sequence[int] = (20,),
    seed: int = 0,
    read_only: Collection[str] = (),
) -> Evaluation:
    """Measure rankings, plans, predictions, calibration and cached results on these runs.

    Args:
        runs: The runs, of `runs_from_traces` or `runs_from_warehouse`.
        train_share: Share of each domain's runs that is only learned from, before the first is judged; between 0 and 1.
        half_life_days: Half-life of an execution in the `evidence` ranking, in days.
        uses: Mean numbers of runs of an agent in `regimes`.
        seed: Seed of the worlds of `regimes`, and of the intervals.
        read_only: Names of the tools that only read, for `answers` and `checks`; ``*`` stands for any letters.

    Raises:
        ValidationError: ``train_share`` is not between 0 and 1, or one of ``uses`` is below 1.

    >>> from agentmodel.suggest.evaluate import runs_from_warehouse
    >>> found = evaluate(runs_from_warehouse(model.warehouse), train_share=0.5, read_only=["read_reviews"])
    >>> [(row.scope, row.cases, row.equal) for row in found.plans]
    [('category', 1, 1.0), ('category and agent', 2, 1.0), ('every run', 2, 1.0)]
    """
    domains = by_domain(runs)
    predictions = _predictions(runs, train_share, half_life_days)
    return Evaluation(
        runs=len(runs),
        training_runs=sum(training_runs(each, train_share) for each in domains.values()),
        rankings=tuple(ranking_regret(runs, train_share=train_share, half_life_days=half_life_days, seed=seed)),
        regimes=tuple(regimes(runs, train_share=train_share, uses=uses, seed=seed)),
        plans=tuple(plans(runs, train_share=train_share)),
        requests=tuple(requests(runs, train_share=train_share)),
        next_tools=tuple(next_tools(runs, train_share=train_share)),
        calibration=tuple(_calibration(predictions, 10)),
        chances=tuple(_chances(predictions)),
        answers=tuple(answers(runs, read_only=read_only, train_share=train_share)),
        routes=tuple(routes(runs, train_share=train_share)),
        checks=tuple(checks(runs, read_only=read_only, train_share=train_share)),
    )


# Choosing the agent


def ranking_regret(
    runs: Iterable[ReplayedRun], *, train_share: float = 0.6, half_life_days: float = 30.0, seed: int = 0
) -> list[RankingRow]:
    """Measure the regret of each ranking, which chooses anew before every run that is judged.

    The interval is that of histories with other tasks, drawn from those of the judged runs with replacement: choices
    one after another are judged by nearly the same later runs, so their number says little of the error.
    """
    made = []
    for domain in by_domain(runs).values():
        start = training_runs(domain, train_share)
        made.append((domain, start, list(_choices(domain, start, half_life_days))))
    choices = [choice for _, _, own in made for choice in own]
    if not choices:
        return []
    regrets = _regrets(made, [[1] * len(domain) for domain, _, _ in made])
    draw = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    others = [_regrets(made, [_other_tasks(domain, start, draw) for domain, start, _ in made]) for _ in range(_OTHERS)]
    rows = []
    for ranking in RANKINGS:
        spread = _Z90 * statistics.pstdev(other[ranking] for other in others)
        hits = sum(choice.hits(ranking) for choice in choices) / len(choices)
        low, high = max(0.0, regrets[ranking] - spread), regrets[ranking] + spread
        rows.append(RankingRow(ranking, regrets[ranking], low, high, hits, len(choices)))
    return rows


@dataclass(frozen=True, slots=True)
class _JudgedChoice:
    """What each ranking chose before a run, and the future success rate of each agent that could be chosen."""

    at: int
    values: Mapping[str, float]
    chosen: Mapping[str, str]

    def value(self, ranking: str, values: Mapping[str, float]) -> float:
        """Return the value of what a ranking chose; of a choice at random, the mean of all."""
        return sum(values.values()) / len(values) if ranking == "random" else values[self.chosen[ranking]]

    def hits(self, ranking: str) -> float:
        """Return whether a best agent was chosen; of a choice at random, how likely it is."""
        top = max(self.values.values())
        return self.value(ranking, {agent: float(value == top) for agent, value in self.values.items()})


_Replayed = tuple[
    Sequence[ReplayedRun], int, Sequence[_JudgedChoice]
]  # runs of a domain, the first that is judged, choices


def _choices(runs: Sequence[ReplayedRun], start: int, half_life_days: float) -> Iterator[_JudgedChoice]:
    """Yield what is chosen before each run to be judged."""
    history = AgentHistory(half_life_days=half_life_days)
    remaining: Counter[str] = Counter(run.agent for run in runs[start:])
    successes: Counter[str] = Counter(run.agent for run in runs[start:] if run.succeeded)
    for at, run in enumerate(runs):
        if at >= start:
            values = {
                agent: successes[agent] / count
                for agent, count in remaining.items()
                if count >= _MIN_FUTURE_RUNS and history.has_run(agent)
            }
            if len(values) > 1:
                chosen = {ranking: best(numbers, values) for ranking, numbers in history.ranked().items()}
                yield _JudgedChoice(at, values, chosen)
            remaining[run.agent] -= 1
            successes[run.agent] -= run.succeeded
        history.add(run)


def _other_tasks(runs: Sequence[ReplayedRun], start: int, draw: random.Random) -> list[int]:
    """Return how often each run is part of a history with other tasks."""
    tasks = [task_of(run, at) for at, run in enumerate(runs)]
    own = sorted(set(tasks[start:]))
    drawn = Counter(draw.choices(own, k=len(own)) if own else ())
    return [drawn[task] for task in tasks]


def _regrets(made: Iterable[_Replayed], weights: Iterable[Sequence[int]]) -> dict[str, float]:
    """Return the mean regret of each ranking, where each run counts so often."""
    sums: dict[str, float] = dict.fromkeys(RANKINGS, 0.0)
    count = 0
    for (runs, start, choices), weight in zip(made, weights, strict=True):
        remaining: Counter[str] = Counter()
        successes: Counter[str] = Counter()
        judged = {choice.at: choice for choice in choices}
        for at in range(len(runs) - 1, start - 1, -1):
            remaining[runs[at].agent] += weight[at]
            successes[runs[at].agent] += weight[at] * runs[at].succeeded
            choice = judged.get(at)
            if choice is not None and weight[at]:
                values = {
                    agent: successes[agent] / remaining[agent] if remaining[agent] else value
                    for agent, value in choice.values.items()
                }
                top = max(values.values())
                for ranking in RANKINGS:
                    sums[ranking] += weight[at] * (top - choice.value(ranking, values))
                count += weight[at]
    return {ranking: total / max(count, 1) for ranking, total in sums.items()}


# Choosing the steps


def plans(runs: Iterable[ReplayedRun], *, train_share: float = 0.6) -> list[PlanRow]:
    """Measure how close the plans of the first part come to the runs after it; nothing is learned in between."""
    rows = []
    for domain, own in by_domain(runs).items():
        cut = training_runs(own, train_share)
        categories: dict[_Scope, list[ReplayedRun]] = defaultdict(list)
        for run in own[:cut]:
            if run.category:
                categories[run.category,].append(run)
                categories[run.category, run.agent].append(run)
        known = {
            scope: _Candidates(plan, history) for scope, history in categories.items() if (plan := planned(history))
        }
        later = [run for run in own[cut:] if run.succeeded]
        by_category = _tools_by_scope(known, [((run.category,), run) for run in later])
        by_agent = _tools_by_scope(known, [((run.category, run.agent), run) for run in later])
        if by_category:
            rows.append(_plan_row(domain, "category", known, by_category, nearest=True))
        if by_agent:
            rows.append(_plan_row(domain, "category and agent", known, by_agent, nearest=False))
        if by_category:
            rows.append(_plan_row(domain, "every run", known, by_category, nearest=False))
    return rows


def _tools_by_scope(
    known: Mapping[_Scope, _Candidates], runs: Sequence[tuple[_Scope, ReplayedRun]]
) -> dict[_Scope, list[Tools]]:
    """Return the tools of the runs in each scope that has a plan."""
    found: dict[_Scope, list[Tools]] = defaultdict(list)
    for scope, run in runs:
        if scope in known:
            found[scope].append(run.tools)
    return found


class _Candidates:
    """The plan of a scope, and the sequences that could have been suggested.

    Args:
        plan: The sequence that is suggested.
        history: The runs before.
    """

    def __init__(self, plan: Tools, history: Sequence[ReplayedRun]) -> None:
        self.plan = plan
        self.others = sorted({run.tools for run in history if run.succeeded})


def _plan_row(
    domain: str, scope: str, known: Mapping[_Scope, _Candidates], later: Mapping[_Scope, list[Tools]], *, nearest: bool
) -> PlanRow:
    """Compare the plan of each scope with each of its later runs, or with the nearest of them."""

    def compared(plan: Tools, tools: Sequence[Tools]) -> Sequence[Tools]:
        return [min(tools, key=lambda one: (distance(plan, one), one))] if nearest else tools

    def distances(plan: Tools, tools: Sequence[Tools]) -> list[float]:
        return [distance(plan, one) for one in compared(plan, tools)]

    made: list[float] = []
    first = same = 0
    least = 0.0
    for scope_key, tools in later.items():
        plan = known[scope_key].plan
        made += distances(plan, tools)
        first += sum(plan[:1] == one[:1] for one in compared(plan, tools))
        others = [distances(other, tools) for other in known[scope_key].others]
        same += max(each.count(0.0) for each in others)
        least += min(sum(each) for each in others)
    cases = len(made)
    return PlanRow(
        domain,
        scope,
        cases,
        equal=made.count(0.0) / cases,
        distance=sum(made) / cases,
        first_step=first / cases,
        best_equal=same / cases,
        best_distance=least / cases,
    )


def next_tools(runs: Iterable[ReplayedRun], *, train_share: float = 0.6) -> list[NextToolRow]:
    """Measure how often `AgentModel.next_tools` predicts the next tool, in categories that had runs before.

    What it predicts from is published anew after every 2 % of the runs.
    """
    rows = []
    for domain, own in by_domain(runs).items():
        cut = training_runs(own, train_share)
        every = max(1, round(len(own) * _PUBLISH_SHARE))
        published = _PublishedSequences(())
        known = {run.category for run in own[:cut]}
        first = third = cases = 0
        for at, run in enumerate(own[cut:], start=cut):
            if (at - cut) % every == 0:
                published = _PublishedSequences(own[:at])
            if run.category in known:
                scopes = published.scopes(run)
                for position, tool in enumerate(run.tools):
                    likely = list(likely_next(run.tools[:position], scopes))
                    cases += 1
                    first += likely[:1] == [tool]
                    third += tool in likely[:3]
            known.add(run.category)
        if cases:
            rows.append(NextToolRow(domain, cases, first / cases, third / cases))
    return rows


class _PublishedSequences:
    """What a publish after these runs of a domain would leave to predict next tools from."""

    def __init__(self, runs: Sequence[ReplayedRun]) -> None:
        self._domain = Followers(common_sequences((run.tools for run in runs), SEQUENCES_OF_A_DOMAIN))
        self._users: dict[str, dict[str, list[ReplayedRun]]] = defaultdict(lambda: defaultdict(list))
        for run in runs:
            if run.category:
                self._users[run.category][run.user].append(run)

    def scopes(self, run: ReplayedRun) -> list[Followers]:
        """Return the counts for a run: of the domain, and of the user's own category, else of all users'."""
        mapped = {
            user: [one.tools for one in runs]
            for user, runs in self._users.get(run.category, {}).items()
            if any(one.succeeded for one in runs)
        }
        wanted = [mapped[run.user]] if run.user in mapped else list(mapped.values())
        sequences = [each for runs in wanted for each in common_sequences(runs, SEQUENCES_OF_A_CATEGORY)]
        return [self._domain, Followers(sequences)]


# Predicted success rates


_Predictions = dict[str, list[tuple[float, bool]]]  # by predictor, with the outcome of each run


def calibration(
    runs: Iterable[ReplayedRun], *, train_share: float = 0.6, half_life_days: float = 30.0, bins: int = 10
) -> list[CalibrationRow]:
    """Compare the success rate that was predicted for each run, from the runs before, with the outcome."""
    return _calibration(_predictions(runs, train_share, half_life_days), bins)


def chances(runs: Iterable[ReplayedRun], *, train_share: float = 0.6, half_life_days: float = 30.0) -> list[ChanceRow]:
    """Measure how well predicted success rates tell the runs that fail."""
    return _chances(_predictions(runs, train_share, half_life_days))


def _predictions(runs: Iterable[ReplayedRun], train_share: float, half_life_days: float) -> _Predictions:
    found: _Predictions = {"chance": [], "evidence": [], "success share": []}
    for own in by_domain(runs).values():
        cut = training_runs(own, train_share)
        history = AgentHistory(half_life_days=half_life_days)
        seen: dict[tuple[str, str], RunCounts] = defaultdict(RunCounts)  # by agent, by category, and of the domain
        for at, run in enumerate(own):
            of_agent, of_category = ("agent", run.agent), ("category", run.category)
            if at >= cut and history.has_run(run.agent):
                category = seen[of_category] if run.category else RunCounts()
                chance = chance_of_success(seen[of_agent], category, seen["", ""])
                found["chance"].append((chance, run.succeeded))
                found["evidence"].append((history.evidence()[run.agent], run.succeeded))
                found["success share"].append((history.success_share(run.agent), run.succeeded))
            history.add(run)
            for scope in (of_agent, of_category, ("", "")):
                seen[scope] = RunCounts(seen[scope].successes + run.succeeded, seen[scope].runs + 1)
    return found


def _calibration(predictions: _Predictions, bins: int) -> list[CalibrationRow]:
    ranges: dict[tuple[str, int], list[tuple[float, bool]]] = defaultdict(list)
    for predictor, rows in predictions.items():
        for predicted, succeeded in rows:
            ranges[predictor, min(bins - 1, int(predicted * bins))].append((predicted, succeeded))
    return [
        CalibrationRow(
            predictor,
            low=number / bins,
            high=(number + 1) / bins,
            predicted=sum(predicted for predicted, _ in found) / len(found),
            observed=sum(succeeded for _, succeeded in found) / len(found),
            cases=len(found),
        )
        for (predictor, number), found in sorted(ranges.items())
    ]


def _chances(predictions: _Predictions) -> list[ChanceRow]:
    calibrated = _calibration(predictions, 10)
    rows = []
    for predictor, found in predictions.items():
        if found:
            lowest = sorted(found)[: max(1, round(_FLAGGED * len(found)))]
            rows.append(
                ChanceRow(
                    predictor,
                    error=calibration_error(calibrated, predictor),
                    auc=_area(found),
                    failures=sum(not succeeded for _, succeeded in lowest) / len(lowest),
                    cases=len(found),
                )
            )
    return rows


def _area(found: Sequence[tuple[float, bool]]) -> float | None:
    """Return the area under the ROC curve, by ranks; None where all outcomes are alike."""
    failed = sorted(predicted for predicted, succeeded in found if not succeeded)
    good = [predicted for predicted, succeeded in found if succeeded]
    if not (failed and good):
        return None
    above = sum(bisect_left(failed, each) + bisect_right(failed, each) for each in good)
    return above / (2 * len(failed) * len(good))


def calibration_error(rows: Iterable[CalibrationRow], predictor: str) -> float:
    """Return the mean difference of predicted and observed success rates, weighted by cases; NaN without cases.

    >>> from agentmodel.suggest.evaluate import runs_from_warehouse
    >>> found = evaluate(runs_from_warehouse(model.warehouse), train_share=0.5)
    >>> 0 <= calibration_error(found.calibration, "chance") <= 1
    True
    """
    own = [row for row in rows if row.predictor == predictor]
    total = sum(row.cases for row in own)
    return sum(abs(row.predicted - row.observed) * row.cases for row in own) / total if total else math.nan
