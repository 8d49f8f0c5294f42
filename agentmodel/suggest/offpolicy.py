"""Off-policy values: what another way to choose would have been worth, from the suggestions that were recorded.

Only suggestions whose choice was taken, and whose outcome is known, count. Each is weighed by whether the other way
would have chosen the same, over how likely the recorded choice was (its propensity).

- SNIPS (self-normalised inverse propensity scoring) is the weighed mean of the outcomes.
- DR (doubly robust) corrects an estimate of each agent's success by the weighed errors of that estimate.
- The effective sample size says how many outcomes that is worth: with few, the values say little.

Without exploration (`Adviser(explore=…)`) the recorded choice was certain: then only where both ways agree is anything
known, and the values hold for those cases only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agentmodel.dynamo.models import Suggestion

__all__ = ["OffPolicyRow", "best_scored", "off_policy", "only", "uniform"]

Policy = Callable[[Suggestion], Mapping[str, float]]
"""How likely each candidate would be chosen; the shares add up to 1."""

_Z90 = 1.6448536269514722
_PRIOR = 4.0  # runs that the mean of all is worth in an agent's estimate


@dataclass(frozen=True, slots=True)
class OffPolicyRow:
    """The worth of a way to choose.

    Attributes:
        policy: Its name.
        snips: Success rate, self-normalised; None where it never agrees with what was chosen.
        dr: Success rate, doubly robust.
        dr_low: Lower bound of its 90 % interval.
        dr_high: Upper bound.
        ess: How many outcomes ``snips`` rests on.
        cases: Suggestions that count.
        explored: Of these, how many were not certain to be chosen.
    """

    policy: str
    snips: float | None
    dr: float
    dr_low: float
    dr_high: float
    ess: float
    cases: int
    explored: int


def best_scored(suggestion: Suggestion) -> Mapping[str, float]:
    """Choose the candidate with the highest recorded score: what is done without exploring."""
    if not suggestion.candidates:
        return {}
    return {max(sorted(suggestion.candidates), key=lambda agent: suggestion.candidates[agent]): 1.0}


def uniform(suggestion: Suggestion) -> Mapping[str, float]:
    """Choose any candidate."""
    return {agent: 1 / len(suggestion.candidates) for agent in suggestion.candidates}


def only(agent_id: str) -> Policy:
    """Choose this agent wherever it is a candidate, else the best scored."""

    def policy(suggestion: Suggestion) -> Mapping[str, float]:
        return {agent_id: 1.0} if agent_id in suggestion.candidates else best_scored(suggestion)

    return policy


def off_policy(suggestions: Iterable[Suggestion], policies: Mapping[str, Policy]) -> list[OffPolicyRow]:
    """The worth of each way to choose; empty where no suggestion counts."""
    cases = [
        each
        for each in suggestions
        if each.succeeded is not None and each.choice is not None and each.taken == each.choice and each.propensity > 0
    ]
    return [_row(name, policy, cases) for name, policy in policies.items()] if cases else []


def _row(name: str, policy: Policy, cases: Sequence[Suggestion]) -> OffPolicyRow:
    successes: dict[str | None, tuple[int, int]] = {}
    for each in cases:
        good, all_ = successes.get(each.choice, (0, 0))
        successes[each.choice] = good + bool(each.succeeded), all_ + 1
    mean = sum(bool(each.succeeded) for each in cases) / len(cases)
    weights, weighed, robust = [], 0.0, []
    for each in cases:
        shares = policy(each)
        outcome = float(bool(each.succeeded))

        def expected(agent: str | None, each: Suggestion = each) -> float:
            good, all_ = successes.get(agent, (0, 0))
            if agent == each.choice:  # an outcome does not estimate itself
                good, all_ = good - bool(each.succeeded), all_ - 1
            return (good + _PRIOR * mean) / (all_ + _PRIOR)

        weight = shares.get(each.choice or "", 0.0) / each.propensity
        weights.append(weight)
        weighed += weight * outcome
        direct = sum(share * expected(agent) for agent, share in shares.items())
        robust.append(direct + weight * (outcome - expected(each.choice)))
    total = sum(weights)
    value = sum(robust) / len(robust)
    deviation = math.sqrt(sum((each - value) ** 2 for each in robust) / max(1, len(robust) - 1))
    spread = _Z90 * deviation / math.sqrt(len(robust))
    return OffPolicyRow(
        policy=name,
        snips=weighed / total if total else None,
        dr=value,
        dr_low=value - spread,
        dr_high=value + spread,
        ess=total**2 / sum(weight**2 for weight in weights) if total else 0.0,
        cases=len(cases),
        explored=sum(each.propensity < 1 for each in cases),
    )
