"""Rankings of agents and their baselines over runs in memory, by the formulas that the warehouse computes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from agentmodel.redshift import score as scores
from agentmodel.suggest.evaluate._replay import ReplayedRun

__all__ = ["RANKINGS", "AgentHistory", "best"]

RANKINGS = ("classic", "evidence", "most used", "last success", "random")
"""Ways to order agents: both rankings, and baselines that need no warehouse."""


@dataclass(slots=True)
class _Counts:
    executions: int = 0
    successes: int = 0
    last: date | None = None
    last_success: int = -1
    # executions and successes of each category and day
    days: dict[tuple[str, date | None], list[int]] = field(default_factory=dict)


class AgentHistory:
    """Counts of the runs of the agents of one domain; age is counted from the newest of them.

    Args:
        half_life_days: Half-life of an execution in the `evidence` ranking, in days.

    >>> from agentmodel.suggest.evaluate import runs_from_warehouse
    >>> history = AgentHistory()
    >>> for run in runs_from_warehouse(model.warehouse):
    ...     history.add(run)
    >>> history.has_run("AGT001"), round(history.success_share("AGT001"), 2)
    (True, 0.33)
    >>> {agent: round(score, 2) for agent, score in sorted(history.classic().items())}
    {'AGT001': 0.33, 'AGT002': 3.0}
    >>> {agent: round(rate, 2) for agent, rate in sorted(history.evidence().items())}
    {'AGT001': 0.49, 'AGT002': 0.77}
    >>> sorted(history.ranked())
    ['classic', 'evidence', 'last success', 'most used']
    """

    def __init__(self, *, half_life_days: float = 30.0) -> None:
        self._half_life = half_life_days
        self._agents: dict[str, _Counts] = defaultdict(_Counts)
        self._runs = 0

    def add(self, run: ReplayedRun) -> None:
        """Count one more run."""
        counts = self._agents[run.agent]
        self._runs += 1
        counts.executions += 1
        counts.successes += run.succeeded
        if run.day is not None:
            counts.last = max(counts.last or run.day, run.day)
        if run.succeeded:
            counts.last_success = self._runs
        day = counts.days.setdefault((run.category, run.day), [0, 0])
        day[0] += 1
        day[1] += run.succeeded

    def has_run(self, agent: str) -> bool:
        """Return whether a run of the agent was counted."""
        return agent in self._agents

    def success_share(self, agent: str) -> float:
        """Return the share of an agent's runs that succeeded, 0 to 1."""
        counts = self._agents[agent]
        return counts.successes / counts.executions

    def evidence(self, *, categories: bool = True) -> dict[str, float]:
        """Return the success rate that is expected of each agent on the usual work of the domain.

        Args:
            categories: Whether the difficulty of categories is taken out.
        """
        return scores.two_way(self._cells(categories=categories))[1]

    def _cells(self, *, categories: bool) -> dict[tuple[str, str], tuple[float, float]]:
        days = [day for counts in self._agents.values() for _, day in counts.days if day is not None]
        oldest, newest = min(days, default=None), max(days, default=date.min)
        weights = {day: scores.discount(day or oldest, newest, half_life=self._half_life) for day in {None, *days}}
        cells: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for agent, counts in self._agents.items():
            for (category, day), (runs, good) in counts.days.items():
                cell = (agent, category if categories else "")
                successes, executions = cells[cell]
                cells[cell] = successes + weights[day] * good, executions + weights[day] * runs
        return cells

    def classic(self) -> dict[str, float]:
        """Return the classic score of each agent; runs without a time count as the oldest of the domain."""
        days = [counts.last for counts in self._agents.values() if counts.last is not None]
        oldest, newest = min(days, default=None), max(days, default=date.min)
        return {
            agent: scores.score(counts.executions, counts.successes, last=counts.last or oldest, as_of=newest)
            for agent, counts in self._agents.items()
        }

    def ranked(self) -> Mapping[str, Mapping[str, float]]:
        """Return each agent's number by each of `RANKINGS` but ``random``; the agent with the highest one is chosen."""
        return {
            "classic": self.classic(),
            "evidence": self.evidence(),
            "most used": {agent: counts.executions for agent, counts in self._agents.items()},
            "last success": {agent: counts.last_success for agent, counts in self._agents.items()},
        }


def best(numbers: Mapping[str, float], among: Iterable[str]) -> str:
    """Return the agent with the highest number; of equals, the first by name."""
    return max(sorted(among), key=lambda agent: numbers.get(agent, 0.0))
