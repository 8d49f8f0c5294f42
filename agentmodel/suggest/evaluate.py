"""Evaluate: would the learnt choices have been good ones? A replay of history in time order, never shuffled.

The first part of each domain's runs is learnt from; then each further run is judged by what was known before it, and
learnt from in turn. Rankings are judged by regret: how much lower the success rate of the agent they choose is than
that of the best one, both measured in the runs still to come. Baselines that need no learning stand beside them.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from agentmodel.suggest.rankings import RANKINGS, History, best
from agentmodel.suggest.runs import Run, by_domain, split
from agentmodel.suggest.sequences import NextTool, central, distance

__all__ = [
    "CalibrationRow",
    "Evaluation",
    "NextToolRow",
    "PlanRow",
    "RankingRow",
    "UseRow",
    "calibration",
    "evaluate",
    "next_tools",
    "plans",
    "ranking_regret",
    "regret_by_use",
]

Tools = tuple[str, ...]
_Place = tuple[str, ...]  # a category, or a category and an agent
_Z90 = 1.6448536269514722
_FUTURE = 3  # runs to come that an agent needs, so that its success rate can be told
_POOL = 8  # runs an agent needs for the comparison by use


@dataclass(frozen=True, slots=True)
class RankingRow:
    """How well a ranking chooses agents.

    Attributes:
        ranking: One of `RANKINGS`.
        regret: Mean difference of success rate to the best agent.
        low: Lower bound of its 90 % interval.
        high: Upper bound.
        hits: Share of the cases in which it chose a best agent.
        cases: Choices between at least two agents.
    """

    ranking: str
    regret: float
    low: float
    high: float
    hits: float
    cases: int


@dataclass(frozen=True, slots=True)
class UseRow:
    """Regret where use and quality are unrelated, at a mean number of runs an agent."""

    use: int
    ranking: str
    regret: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True, slots=True)
class PlanRow:
    """How near plans come to later runs that succeeded.

    Attributes:
        domain: The domain.
        scope: ``category``: the plan of each known category, against the nearest of the later successful runs of it.
            ``category and agent``: the same for each later successful run, by the plan of its own agent.
            ``every run``: the plan of the category for each later successful run, whoever made it.
        cases: Plans that were compared.
        equal: Share whose sequence of tools is the same.
        distance: Mean normalised edit distance.
        first_step: Share whose first tool is the same.
        best_equal: The most that ``equal`` could have been: each plan chosen in hindsight among the sequences that had
            succeeded before.
        best_distance: The least that ``distance`` could have been, chosen likewise.
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
    """How often the next tool of a known category was foretold, first and among the first three."""

    domain: str
    cases: int
    top1: float
    top3: float


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """How often runs succeeded that were given a chance in this range.

    Attributes:
        predictor: ``evidence``, or ``success share``: the plain share so far.
        low: The range of chances, from.
        high: And to.
        predicted: Their mean.
        observed: The share that did succeed.
        cases: Runs.
    """

    predictor: str
    low: float
    high: float
    predicted: float
    observed: float
    cases: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured."""

    runs: int
    learnt: int
    rankings: tuple[RankingRow, ...]
    uses: tuple[UseRow, ...]
    plans: tuple[PlanRow, ...]
    next_tools: tuple[NextToolRow, ...]
    calibration: tuple[CalibrationRow, ...]


def evaluate(
    runs: Sequence[Run],
    *,
    learn: float = 0.6,
    half_life_days: float = 30.0,
    uses: Sequence[int] = (5, 10, 20, 30, 50),
    seed: int = 0,
) -> Evaluation:
    """Measure everything on these runs.

    Args:
        runs: From `runs_of_traces` or `runs_of_warehouse`.
        learn: Share of each domain's runs that is learnt from before the first is judged.
        half_life_days: Of an execution as evidence.
        uses: Mean numbers of runs an agent for `regret_by_use`.
        seed: Of its draws.

    Raises:
        ValidationError: ``learn`` is no share.
    """
    domains = by_domain(runs)
    return Evaluation(
        runs=len(runs),
        learnt=sum(split(each, learn) for each in domains.values()),
        rankings=tuple(ranking_regret(runs, learn=learn, half_life_days=half_life_days)),
        uses=tuple(regret_by_use(runs, learn=learn, uses=uses, seed=seed)),
        plans=tuple(plans(runs, learn=learn)),
        next_tools=tuple(next_tools(runs, learn=learn)),
        calibration=tuple(calibration(runs, learn=learn, half_life_days=half_life_days)),
    )


# Which agent


def ranking_regret(runs: Iterable[Run], *, learn: float = 0.6, half_life_days: float = 30.0) -> list[RankingRow]:
    """The regret of each ranking, choosing anew before every run that is judged."""
    regrets: dict[str, list[float]] = {ranking: [] for ranking in RANKINGS}
    hits: Counter[str] = Counter()
    for domain in by_domain(runs).values():
        for history, as_of, values in _choices(domain, split(domain, learn), half_life_days):
            top = max(values.values())
            for ranking, numbers in history.ranked(as_of).items():
                value = values[best(numbers, values)]
                regrets[ranking].append(top - value)
                hits[ranking] += value == top
            regrets["random"].append(top - sum(values.values()) / len(values))
            hits["random"] += sum(value == top for value in values.values()) / len(values)  # type: ignore[assignment]  # a Counter adds up shares too
    rows = []
    for ranking, found in regrets.items():
        if found:
            mean, low, high = _interval(found)
            rows.append(RankingRow(ranking, mean, low, high, hits[ranking] / len(found), len(found)))
    return rows


def _choices(
    runs: Sequence[Run], start: int, half_life_days: float
) -> Iterator[tuple[History, date, dict[str, float]]]:
    """Before each run to be judged: what was seen, the day, and what each agent that was seen is worth from now on."""
    history = History(half_life_days=half_life_days)
    left: Counter[str] = Counter(run.agent for run in runs[start:])
    good: Counter[str] = Counter(run.agent for run in runs[start:] if run.succeeded)
    day = _first_day(runs)
    for at, run in enumerate(runs):
        day = max(day, run.day or day)
        if at >= start:
            values = {
                agent: good[agent] / count for agent, count in left.items() if count >= _FUTURE and history.known(agent)
            }
            if len(values) > 1:
                yield history, day, values
            left[run.agent] -= 1
            good[run.agent] -= run.succeeded
        history.add(run)


def _first_day(runs: Sequence[Run]) -> date:
    return min((run.day for run in runs if run.day is not None), default=datetime.now(UTC).date())


def regret_by_use(
    runs: Iterable[Run],
    *,
    learn: float = 0.6,
    uses: Sequence[int] = (5, 10, 20, 30, 50),
    trials: int = 400,
    seed: int = 0,
) -> list[UseRow]:
    """Regret where how often an agent was used says nothing about how good it is.

    Real use follows quality or fashion. Here each agent's number of runs is drawn (exponentially, with the given mean)
    and that many are drawn from the first part of its own runs; its worth is its success rate in the rest.
    Every ranking chooses from the same draws, all made on one day.
    """
    draw = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    pools = [pool for domain in by_domain(runs).values() if len(pool := _pool(domain, learn)) > 1]
    rows = []
    for use in uses if pools else ():
        regrets: dict[str, list[float]] = {ranking: [] for ranking in RANKINGS}
        for _ in range(trials):
            for pool in pools:
                history, values = _drawn(pool, use, draw)
                top = max(values.values())
                for ranking, numbers in history.ranked(date(2000, 1, 1)).items():
                    regrets[ranking].append(top - values[best(numbers, values)])
                regrets["random"].append(top - sum(values.values()) / len(values))
        rows += [UseRow(use, ranking, *_interval(found), len(found)) for ranking, found in regrets.items()]
    return rows


def _pool(runs: Sequence[Run], learn: float) -> dict[str, tuple[list[Run], float]]:
    """The agents with enough runs: those to learn from, and the success rate of the rest."""
    agents: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        agents[run.agent].append(run)
    pool = {}
    for agent, own in agents.items():
        cut = split(own, learn)
        rest = own[cut:]
        if len(own) >= _POOL:
            pool[agent] = (own[:cut], sum(run.succeeded for run in rest) / len(rest))
    return pool


def _drawn(pool: dict[str, tuple[list[Run], float]], use: int, draw: random.Random) -> tuple[History, dict[str, float]]:
    history = History()
    made: list[Run] = []
    for agent in sorted(pool):
        count = max(1, round(draw.expovariate(1 / use)))
        made += [_undated(run) for run in draw.choices(pool[agent][0], k=count)]
    draw.shuffle(made)  # which agent came last is unrelated too
    for run in made:
        history.add(run)
    return history, {agent: value for agent, (_, value) in pool.items()}


def _undated(run: Run) -> Run:
    return Run(run.domain, run.agent, run.user, run.category, None, run.tools, run.succeeded)


# Which steps


def planned(history: Sequence[Run]) -> tuple[str, ...] | None:
    """The sequence to suggest after these runs of a category: the highest pattern score, of equals the most central.

    Most sequences are run once; of those, the one that is nearest to all that succeeded stands best for them.
    """
    good = [run.tools for run in history if run.succeeded]
    if not good:
        return None
    ran = Counter(run.tools for run in history)
    worked = Counter(good)
    scores = {tools: ran[tools] * (count / ran[tools]) ** 2 for tools, count in worked.items()}
    top = max(scores.values())
    equals = sorted(tools for tools, score in scores.items() if score == top)
    apart = central(equals, good)
    return min(zip(apart, equals, strict=True))[1]


def plans(runs: Iterable[Run], *, learn: float = 0.6) -> list[PlanRow]:
    """How near the plans of the learnt part come to the runs after it; nothing is learnt in between."""
    rows = []
    for domain, own in by_domain(runs).items():
        cut = split(own, learn)
        categories: dict[_Place, list[Run]] = defaultdict(list)
        for run in own[:cut]:
            if run.category:
                categories[run.category,].append(run)
                categories[run.category, run.agent].append(run)
        known = {place: _Known(plan, history) for place, history in categories.items() if (plan := planned(history))}
        later = [run for run in own[cut:] if run.succeeded]
        by_category = _places(known, [((run.category,), run) for run in later])
        by_agent = _places(known, [((run.category, run.agent), run) for run in later])
        if by_category:
            rows.append(_plan_row(domain, "category", known, by_category, nearest=True))
        if by_agent:
            rows.append(_plan_row(domain, "category and agent", known, by_agent, nearest=False))
        if by_category:
            rows.append(_plan_row(domain, "every run", known, by_category, nearest=False))
    return rows


def _places(known: Mapping[_Place, _Known], runs: Sequence[tuple[_Place, Run]]) -> dict[_Place, list[Tools]]:
    """The tools of the runs in each place that has a plan."""
    found: dict[_Place, list[Tools]] = defaultdict(list)
    for place, run in runs:
        if place in known:
            found[place].append(run.tools)
    return found


class _Known:
    """The plan of a place, and all that could have been it.

    Args:
        plan: What is suggested.
        history: The runs before.
    """

    def __init__(self, plan: Tools, history: Sequence[Run]) -> None:
        self.plan = plan
        self.others = sorted({run.tools for run in history if run.succeeded})


def _plan_row(
    domain: str, scope: str, known: Mapping[_Place, _Known], later: Mapping[_Place, list[Tools]], *, nearest: bool
) -> PlanRow:
    """One row: each place's plan against each of its later runs, or against the nearest of them."""

    def against(plan: Tools, tools: Sequence[Tools]) -> Sequence[Tools]:
        return [min(tools, key=lambda one: (distance(plan, one), one))] if nearest else tools

    def apart(plan: Tools, tools: Sequence[Tools]) -> list[float]:
        return [distance(plan, one) for one in against(plan, tools)]

    made: list[float] = []
    first = same = 0
    least = 0.0
    for place, tools in later.items():
        plan = known[place].plan
        made += apart(plan, tools)
        first += sum(plan[:1] == one[:1] for one in against(plan, tools))
        others = [apart(other, tools) for other in known[place].others]
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


def next_tools(runs: Iterable[Run], *, learn: float = 0.6) -> list[NextToolRow]:
    """How often the next tool is foretold, in categories that were seen before."""
    rows = []
    for domain, own in by_domain(runs).items():
        cut = split(own, learn)
        model = NextTool()
        known: set[str] = set()
        first = third = cases = 0
        for at, run in enumerate(own):
            scopes = ["domain", f"category {run.category}", f"category {run.category} agent {run.agent}"]
            if at >= cut and run.category in known:
                for place, tool in enumerate(run.tools):
                    likely = model.next(run.tools[:place], scopes=scopes)
                    cases += 1
                    first += likely[:1] == [tool]
                    third += tool in likely
            if run.category:
                known.add(run.category)
            model.learn(run.tools, scopes=scopes)
        if cases:
            rows.append(NextToolRow(domain, cases, first / cases, third / cases))
    return rows


# How sure


def calibration(
    runs: Iterable[Run], *, learn: float = 0.6, half_life_days: float = 30.0, bins: int = 10
) -> list[CalibrationRow]:
    """What runs were given as a chance before them, by the agent that made them, and how they went."""
    seen: dict[tuple[str, int], list[tuple[float, bool]]] = defaultdict(list)
    for own in by_domain(runs).values():
        cut = split(own, learn)
        history = History(half_life_days=half_life_days)
        day = _first_day(own)
        for at, run in enumerate(own):
            day = max(day, run.day or day)
            if at >= cut and history.known(run.agent):
                chances = {
                    "evidence": history.evidence(day)[run.agent],
                    "success share": history.success_share(run.agent),
                }
                for predictor, chance in chances.items():
                    seen[predictor, min(bins - 1, int(chance * bins))].append((chance, run.succeeded))
            history.add(run)
    return [
        CalibrationRow(
            predictor,
            low=place / bins,
            high=(place + 1) / bins,
            predicted=sum(chance for chance, _ in found) / len(found),
            observed=sum(succeeded for _, succeeded in found) / len(found),
            cases=len(found),
        )
        for (predictor, place), found in sorted(seen.items())
    ]


def calibration_error(rows: Iterable[CalibrationRow], predictor: str) -> float:
    """Mean difference of what was predicted and what was observed, each range by its cases."""
    own = [row for row in rows if row.predictor == predictor]
    total = sum(row.cases for row in own)
    return sum(abs(row.predicted - row.observed) * row.cases for row in own) / total if total else math.nan


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and normal 90 % interval."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, mean, mean
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    spread = _Z90 * deviation / math.sqrt(len(values))
    return mean, mean - spread, mean + spread
