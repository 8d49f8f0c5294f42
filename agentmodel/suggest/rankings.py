"""The rankings and their baselines over runs in memory, by the same formulas that the statements compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from agentmodel.redshift import score as scores
from agentmodel.suggest.runs import Run

__all__ = ["RANKINGS", "History"]

RANKINGS = ("classic", "evidence", "most used", "last success", "random")
"""Ways to order agents: both rankings, and what anybody could do without them."""


@dataclass(slots=True)
class _Counts:
    executions: int = 0
    successes: int = 0
    last: date | None = None
    last_success: int = -1
    days: dict[date | None, list[int]] = field(default_factory=dict)  # executions and successes of each day


class History:
    """What was seen of the agents of one domain.

    Args:
        half_life_days: Of an execution as evidence.
    """

    def __init__(self, *, half_life_days: float = 30.0) -> None:
        self._half_life = half_life_days
        self._agents: dict[str, _Counts] = defaultdict(_Counts)
        self._seen = 0

    def add(self, run: Run) -> None:
        """See one more run."""
        counts = self._agents[run.agent]
        self._seen += 1
        counts.executions += 1
        counts.successes += run.succeeded
        if run.day is not None:
            counts.last = max(counts.last or run.day, run.day)
        if run.succeeded:
            counts.last_success = self._seen
        day = counts.days.setdefault(run.day, [0, 0])
        day[0] += 1
        day[1] += run.succeeded

    def known(self, agent: str) -> bool:
        """Whether the agent was seen."""
        return agent in self._agents

    def success_share(self, agent: str) -> float:
        """The plain share of its runs that succeeded."""
        counts = self._agents[agent]
        return counts.successes / counts.executions

    def evidence(self, as_of: date) -> dict[str, float]:
        """The mean of each agent's posterior as of a day."""
        weighed = {agent: self._weighed(counts, as_of) for agent, counts in self._agents.items()}
        prior = scores.domain_rate(sum(s for s, _ in weighed.values()), sum(n for _, n in weighed.values()))
        return {agent: scores.evidence(s, n, prior=prior).mean for agent, (s, n) in weighed.items()}

    def _weighed(self, counts: _Counts, as_of: date) -> tuple[float, float]:
        successes = executions = 0.0
        oldest = min((day for c in self._agents.values() for day in c.days if day is not None), default=None)
        for day, (runs, good) in counts.days.items():
            weight = scores.discount(oldest if day is None else day, as_of, half_life=self._half_life)
            successes, executions = successes + weight * good, executions + weight * runs
        return successes, executions

    def classic(self, as_of: date) -> dict[str, float]:
        """The classic score of each agent as of a day; who has no time is as old as the oldest of the domain."""
        days = [counts.last for counts in self._agents.values() if counts.last is not None]
        oldest = min(days, default=None)
        return {
            agent: scores.score(counts.executions, counts.successes, last=counts.last or oldest, as_of=as_of)
            for agent, counts in self._agents.items()
        }

    def ranked(self, as_of: date) -> Mapping[str, Mapping[str, float]]:
        """A number to each agent by each of `RANKINGS` but ``random``: the highest is the choice."""
        return {
            "classic": self.classic(as_of),
            "evidence": self.evidence(as_of),
            "most used": {agent: counts.executions for agent, counts in self._agents.items()},
            "last success": {agent: counts.last_success for agent, counts in self._agents.items()},
        }


def best(numbers: Mapping[str, float], among: Iterable[str]) -> str:
    """The agent with the highest number, of equals the first by name."""
    return max(sorted(among), key=lambda agent: numbers.get(agent, 0.0))
