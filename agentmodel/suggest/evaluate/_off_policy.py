"""Off-policy evaluation: what another policy of choosing agents would have been worth, from logged suggestions.

Only suggestions that were followed and whose outcome is known count. Each is weighted by the probability that the other
policy makes the same choice, divided by the probability of the logged choice (its propensity).

- SNIPS (self-normalised inverse propensity scoring) is the weighted mean of the outcomes.
- DR (doubly robust) corrects an estimate of each agent's success by the weighted errors of that estimate.
- The effective sample size says how many outcomes the result rests on; with few, it says little.

Without exploration (`Planner(explore=…)`) the logged choice was certain. Then only the cases in which both policies
agree say anything, and the values hold for these cases only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agentmodel.dynamo.models import Suggestion

__all__ = ["OffPolicyRow", "best_scored", "off_policy", "prefer", "uniform"]

ChoicePolicy = Callable[[Suggestion], Mapping[str, float]]
"""Returns the probability of each candidate of a suggestion; they add up to 1."""

_Z90 = 1.6448536269514722  # standard deviations of a central 90 % interval
_PRIOR = 4.0  # the weight of the mean of all agents in the estimate of one, in runs


@dataclass(frozen=True, slots=True)
class OffPolicyRow:
    """The estimated success rate of a policy.

    Attributes:
        policy: The name of the policy.
        snips: The success rate by SNIPS; None where the policy never makes a logged choice.
        dr: The success rate by DR.
        dr_low: Lower bound of the 90 % interval of ``dr``.
        dr_high: Upper bound of the interval.
        ess: The effective sample size of ``snips``.
        cases: Suggestions that count.
        explored: Those of them whose choice was not certain (a propensity below 1).

    >>> (row,) = off_policy(model.suggestions.of_user("USR002"), {"any agent": uniform})
    >>> row.policy, row.dr, row.cases, row.explored
    ('any agent', 1.0, 1, 0)
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
    """Choose the candidate with the highest logged score, as the planner does without exploring.

    >>> plan = model.suggest("USR252", category="cafe search")
    >>> (suggestion,) = model.suggestions.of_user("USR252")
    >>> best_scored(suggestion)
    {'AGT002': 1.0}
    """
    if not suggestion.candidates:
        return {}
    return {max(sorted(suggestion.candidates), key=lambda agent: suggestion.candidates[agent]): 1.0}


def uniform(suggestion: Suggestion) -> Mapping[str, float]:
    """Choose each candidate with the same probability.

    >>> plan = model.suggest("USR253", category="cafe search")
    >>> (suggestion,) = model.suggestions.of_user("USR253")
    >>> sorted(uniform(suggestion).items())
    [('AGT001', 0.5), ('AGT002', 0.5)]
    """
    return {agent: 1 / len(suggestion.candidates) for agent in suggestion.candidates}


def prefer(agent_id: str) -> ChoicePolicy:
    """Return a policy that chooses this agent wherever it is a candidate, else the one with the highest score.

    >>> plan = model.suggest("USR254", category="cafe search")
    >>> (suggestion,) = model.suggestions.of_user("USR254")
    >>> prefer("AGT001")(suggestion)
    {'AGT001': 1.0}
    """

    def policy(suggestion: Suggestion) -> Mapping[str, float]:
        return {agent_id: 1.0} if agent_id in suggestion.candidates else best_scored(suggestion)

    return policy


def off_policy(suggestions: Iterable[Suggestion], policies: Mapping[str, ChoicePolicy]) -> list[OffPolicyRow]:
    """Estimate the success rate of policies from logged suggestions.

    Args:
        suggestions: The suggestions, such as `SuggestionLog.all` yields.
        policies: The policies, by name.

    Returns:
        A row for each policy; none where no suggestion counts.

    >>> plan = model.suggest("USR251", category="cafe search")
    >>> with model.session("USR251", category="cafe search", plan=plan) as session, session.process("ask") as process:
    ...     with process.call(plan.agent_id, "TL002") as call:
    ...         call.result = ["quiet café at the lake"]
    >>> model.settle()
    >>> policies = {"today": best_scored, "any": uniform, "the map": prefer("AGT001")}
    >>> [(row.policy, row.cases, row.dr) for row in off_policy(model.suggestions.of_user("USR251"), policies)]
    [('today', 1, 1.0), ('any', 1, 1.0), ('the map', 1, 1.0)]
    """
    cases = [
        each
        for each in suggestions
        if each.succeeded is not None
        and each.choice is not None
        and each.taken == each.choice
        and each.propensity > 0
        and not each.withheld  # who took the agent then was not told to
    ]
    return [_row(name, policy, cases) for name, policy in policies.items()] if cases else []


def _row(name: str, policy: ChoicePolicy, cases: Sequence[Suggestion]) -> OffPolicyRow:
    successes: dict[str | None, tuple[int, int]] = {}
    for each in cases:
        good, all_ = successes.get(each.choice, (0, 0))
        successes[each.choice] = good + bool(each.succeeded), all_ + 1
    mean = sum(bool(each.succeeded) for each in cases) / len(cases)
    weights, weighted, robust = [], 0.0, []
    for each in cases:
        shares = policy(each)
        outcome = float(bool(each.succeeded))

        def expected(agent: str | None, each: Suggestion = each) -> float:
            good, all_ = successes.get(agent, (0, 0))
            if agent == each.choice:  # leave the outcome itself out of its estimate
                good, all_ = good - bool(each.succeeded), all_ - 1
            return (good + _PRIOR * mean) / (all_ + _PRIOR)

        weight = shares.get(each.choice or "", 0.0) / each.propensity
        weights.append(weight)
        weighted += weight * outcome
        direct = sum(share * expected(agent) for agent, share in shares.items())
        robust.append(direct + weight * (outcome - expected(each.choice)))
    total = sum(weights)
    value = sum(robust) / len(robust)
    deviation = math.sqrt(sum((each - value) ** 2 for each in robust) / max(1, len(robust) - 1))
    spread = _Z90 * deviation / math.sqrt(len(robust))
    return OffPolicyRow(
        policy=name,
        snips=weighted / total if total else None,
        dr=value,
        dr_low=value - spread,
        dr_high=value + spread,
        ess=total**2 / sum(weight**2 for weight in weights) if total else 0.0,
        cases=len(cases),
        explored=sum(each.propensity < 1 for each in cases),
    )
