"""Measure what a planner loses while it finds out how good the agents of a new domain are, for each way of exploring.

    python benchmarks/exploring.py [--domain NAME] [--worlds N] FILE…

The files are trace files. The worlds are made up, so that their truth is known: agents and categories have the success
rates that those of the files are expected to have, as in `python benchmarks/regimes.py --known`. A world begins without
any run and has 500 sessions. A `Planner` chooses the agent of each, by the ranking of the last publish. The loss of a
session is how much lower the worth of its agent is than that of the best; the worth is the mean success rate over the
categories.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from regimes import rates_of

from agentmodel import Agent, AgentModel, Settings
from agentmodel.redshift import score as scores
from agentmodel.suggest.evaluate import ReplayedRun, runs_from_traces
from agentmodel.suggest.evaluate._replay import by_domain
from agentmodel.suggest.plan import Planner
from agentmodel.suggest.plan._lookup import ALTERNATIVES
from agentmodel.suggest.plan._planner import _MAX_AGENTS

Explore = float | Literal["upper-bound"]
Cells = Mapping[tuple[str, str], tuple[float, float]]

SESSIONS = 500
EXPLORE: tuple[Explore, ...] = (0.0, 0.05, 0.2, "upper-bound")
PUBLISHED = (1, 10, 50)


def lost(runs: Sequence[ReplayedRun], explore: Explore, every: int, seed: int) -> float:
    """Return the mean loss of a session in one world."""
    draw = random.Random(seed)  # noqa: S311  # a simulation
    rates = dict(rates_of(runs, draw))
    agents, categories = (sorted(set(names)) for names in zip(*rates, strict=True))
    draw.shuffle(agents)  # before anything has run, the first one is chosen
    worths = {agent: statistics.fmean(rates[agent, category] for category in categories) for agent in agents}
    planner = Planner(AgentModel(Settings()).repository, explore=explore, random_number=draw.random)
    cells: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    losses = []
    for session in range(SESSIONS):
        if session % every == 0:
            by_bound = explore == "upper-bound"
            top = published(agents, cells, intervals=by_bound)[: _MAX_AGENTS if by_bound else ALTERNATIVES + 1]
        agent = planner._chosen(top)[0].name
        category = draw.choice(categories)
        good, made = cells[agent, category]
        cells[agent, category] = good + (draw.random() < rates[agent, category]), made + 1
        losses.append(max(worths.values()) - worths[agent])
    return statistics.fmean(losses)


def published(agents: Sequence[str], cells: Cells, *, intervals: bool) -> list[Agent]:
    """Return the agents as a publish would leave them, with the best by `evidence` first."""
    rate, means = scores.two_way(cells)
    made: dict[str, float] = defaultdict(float)
    for (name, _), (_, count) in cells.items():
        made[name] += count
    found = []
    for number, name in enumerate(agents):
        mean = means.get(name, rate)
        agent = Agent(agent_id=f"AGT{number}", domain_id="DMN1", name=name, score=round(mean, 6))
        if intervals:  # they take most of the time
            agent.evidence, agent.evidence_low, agent.evidence_high = scores.evidence(mean, made[name], rate=rate)
        found.append(agent)
    return sorted(found, key=lambda agent: -agent.score)


def rows(runs: Sequence[ReplayedRun], worlds: int) -> Iterator[tuple[Explore, list[float], list[float]]]:
    """Yield each way of exploring, its mean loss for each number of sessions between publishes, and the errors."""
    for explore in EXPLORE:
        every = [[lost(runs, explore, sessions, seed) for seed in range(worlds)] for sessions in PUBLISHED]
        yield explore, [*map(statistics.fmean, every)], [statistics.stdev(own) / worlds**0.5 for own in every]


def main() -> None:
    """Measure and print a table for each domain with two agents or more."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="trace files")
    parser.add_argument("--domain", help="only this domain")
    parser.add_argument("--worlds", type=int, default=40, help="how many worlds are made up (40)")
    given = parser.parse_args()
    for domain, runs in by_domain(runs_from_traces(given.files)).items():
        agents = {run.agent for run in runs}
        if given.domain not in (None, domain) or len(agents) < 2:
            continue
        print(f"\n{domain}: {len(agents)} agents, {SESSIONS} sessions, {given.worlds} worlds\n")
        print("| explore | published after every session |" + "".join(f" every {n} |" for n in PUBLISHED[1:]))
        print("|---|" + "---|" * len(PUBLISHED))
        for explore, means, errors in rows(runs, given.worlds):
            cells = (f"{mean:.3f} ± {error:.3f}" for mean, error in zip(means, errors, strict=True))
            print(f"| {explore or 'none'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
