"""Routing: how many later requests find their domain by the earlier requests of all domains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentmodel.dynamo.models import Domain, Tool
from agentmodel.suggest._request_index import RequestIndex, calibrated, trigrams
from agentmodel.suggest._routing_store import Profile, newest
from agentmodel.suggest.evaluate._replay import ReplayedRun, by_domain, training_runs

__all__ = ["RouteRow", "routes"]


@dataclass(frozen=True, slots=True)
class RouteRow:
    """How many of the later requests of a domain find it.

    Attributes:
        domain: The domain.
        cases: Different later requests.
        right: How many of them are routed to the domain.
        wrong: How many are routed to another one; the others fit none, and get no domain.
    """

    domain: str
    cases: int
    right: int
    wrong: int


def routes(runs: Iterable[ReplayedRun], *, train_share: float = 0.6) -> list[RouteRow]:
    """Route the requests of the later part by those of the first part, as after a publish; by domain.

    Of the catalogue only the domains and the tools that were called are known. With one domain there is nothing to
    route, and no row.

    Args:
        runs: The runs.
        train_share: Share of each domain's runs whose requests are known.
    """
    domains = by_domain(runs)
    if len(domains) < 2:
        return []
    cuts = {domain: training_runs(own, train_share) for domain, own in domains.items()}
    shipped = newest(
        (domain, run.user, run.request) for domain, own in domains.items() for run in reversed(own[: cuts[domain]])
    )
    known = {domain: [request.text for request in own] for domain, own in shipped.items()}
    described = {domain: _described(domain, own[: cuts[domain]]) for domain, own in domains.items()}
    index = RequestIndex({domain: [*known.get(domain, ()), *own] for domain, own in described.items()})
    calibration = calibrated(known, described)
    rows = []
    for domain, own in domains.items():
        asked = {grams for run in own[cuts[domain] :] if (grams := trigrams(run.request))}
        chosen: Counter[str | None] = Counter()
        for grams in asked:
            scores = {name: score for name, score in index.scores(grams).items() if name in known}
            chosen[next(iter(calibration.fitting(scores)), None)] += 1
        if asked:
            rows.append(RouteRow(domain, len(asked), chosen[domain], len(asked) - chosen[domain] - chosen[None]))
    return rows


def _described(domain: str, runs: Sequence[ReplayedRun]) -> list[frozenset[int]]:
    names = sorted({tool for run in runs for tool in run.tools})[:100]
    tools = tuple(Tool(agent_id="AGT1", tool_id=f"TL{n}", domain_id=domain, name=name) for n, name in enumerate(names))
    return Profile(Domain(domain_id=domain, name=domain), tools).texts()
