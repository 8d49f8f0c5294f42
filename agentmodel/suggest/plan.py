"""Plan: what is suggested for a request, how sure that is, and the same as a short text for a model's context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from agentmodel.exceptions import ValidationError

__all__ = ["Alternative", "Avoid", "Language", "Plan", "Source", "Step", "Sure", "sureness"]

Source = Literal[
    "own mapping",
    "own similar request",
    "similar users",
    "similar requests of all users",
    "best agent of the domain",
    "nothing known",
]
"""Where a plan comes from, in the order in which it is looked for."""

Language = Literal["en", "ko"]
"""Languages a plan is put in words in."""

_Z90 = 1.6448536269514722
_PRIOR_RUNS = 4.0  # runs the prior is worth, as in the `evidence` ranking


class Sure(NamedTuple):
    """How likely a plan is to succeed: mean and central 90 % interval, 0 to 1."""

    mean: float
    low: float
    high: float


def sureness(successes: float, runs: float, *, prior: float = 0.5) -> Sure:
    """How likely what succeeded this often succeeds again: a Beta posterior, as in the `evidence` ranking.

    Args:
        successes: Runs that succeeded.
        runs: All runs.
        prior: What is expected without a run, such as the agent's own success rate; worth four runs.

    >>> [round(value, 2) for value in sureness(0, 0)], [round(value, 2) for value in sureness(9, 10, prior=0.8)]
    ([0.5, 0.13, 0.87], [0.87, 0.73, 1.0])
    """
    total = runs + _PRIOR_RUNS
    mean = (successes + _PRIOR_RUNS * prior) / total
    spread = _Z90 * math.sqrt(mean * (1.0 - mean) / (total + 1.0))
    return Sure(mean, max(0.0, mean - spread), min(1.0, mean + spread))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Step(_Frozen):
    """One step of a plan.

    Attributes:
        process: What the step does.
        agent_id: The agent that takes it.
        tool_id: The tool it calls.
        tool: The tool's name.
        calls: Calls that were seen: in this sequence, else of the tool by this agent; None where nobody counted.
        success_share: Share of them that succeeded, 0 to 1.
    """

    process: str
    agent_id: str
    tool_id: str
    tool: str
    calls: int | None = None
    success_share: float | None = None


class Alternative(_Frozen):
    """What else could be done.

    Attributes:
        agent_id: The agent to take.
        agent: Its name.
        tools: The tools it calls, in order; empty where only the agent is known.
        runs: How often it was run.
        sure: How likely it succeeds.
        source: Where it comes from.
    """

    agent_id: str
    agent: str
    tools: tuple[str, ...] = ()
    runs: int | None = None
    sure: Sure
    source: Source


class Avoid(_Frozen):
    """A tool to avoid, and why.

    Attributes:
        agent_id: Whose tool it is.
        tool_id: The tool.
        tool: Its name.
        reason: What was seen.
        since: When it began to fail, or last failed; None where no time is known.
        now: Whether it fails at present, rather than often.
    """

    agent_id: str
    tool_id: str
    tool: str
    reason: str
    since: datetime | None = None
    now: bool = False


class Plan(_Frozen):
    """What to do for a request.

    Attributes:
        user_id: Who asks.
        category: The kind of request, if it was given.
        request: What was asked, if it was given.
        domain_id: The domain of the agent, if one is known.
        agent_id: The agent to take, if one is known.
        agent: Its name.
        steps: What to do, in order; empty where only an agent is known.
        alternatives: What else could be done, best first.
        avoid: Tools that fail, of the agent and of those in the alternatives.
        source: Where the plan comes from.
        runs: How often it was run; None where nobody counted.
        sure: How likely it succeeds; None where nothing is known.
        similar_to: The user's own request that this one is like, where the plan was found by that; what others
            asked is not shown.
        likeness: How alike they are, 0 to 1.
        needs_review: Whether a person should look first.
        review_reasons: Why.
        reasons: How the plan was found, for people, a sentence each.
        suggestion_id: Under which it was recorded; hand it to the session that follows it.
    """

    user_id: str
    category: str | None = None
    request: str | None = None
    domain_id: str | None = None
    agent_id: str | None = None
    agent: str | None = None
    steps: tuple[Step, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    avoid: tuple[Avoid, ...] = ()
    source: Source = "nothing known"
    runs: int | None = None
    sure: Sure | None = None
    similar_to: str | None = None
    likeness: float | None = None
    needs_review: bool = False
    review_reasons: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    suggestion_id: str | None = None

    def as_prompt(self, *, language: Language = "en") -> str:
        """The plan as a short text for a model's context.

        Args:
            language: ``en`` or ``ko``.

        Raises:
            ValidationError: The language is another.
        """
        if language not in get_args(Language):
            raise ValidationError("language", language, "one of " + ", ".join(get_args(Language)))
        words = _WORDS[language]
        lines = [words[self.source], *self._sure_line(words), *self._step_lines(words)]
        if self.avoid:
            lines.append(words["avoid"])
            lines += [f"- {each.tool} ({each.agent_id}): {_one_line(each.reason)}" for each in self._avoided()]
        if self.needs_review:
            lines.append(words["review"])
        return "\n".join(lines)

    def _sure_line(self, words: dict[str, str]) -> list[str]:
        if self.sure is None:
            return []
        mean, low, high = (round(100 * share) for share in self.sure)
        runs = words["runs"].format(runs=self.runs) if self.runs is not None else ""
        return [words["sure"].format(mean=mean, low=low, high=high, runs=runs)]

    def _step_lines(self, words: dict[str, str]) -> list[str]:
        if not self.steps:
            return [] if self.agent is None else [words["agent"].format(agent=self.agent, id=self.agent_id)]
        lines = [words["steps"].format(agent=self.agent, id=self.agent_id)]
        for number, step in enumerate(self.steps, start=1):
            seen = ""
            if step.calls and step.success_share is not None:
                seen = words["seen"].format(share=round(100 * step.success_share), calls=step.calls)
            lines.append(f"{number}. {_one_line(step.process)}: {step.tool}{seen}")
        return lines

    def _avoided(self) -> Sequence[Avoid]:
        """Those that matter to whoever follows the plan: the agent's own tools, then those that fail now."""
        mine = [each for each in self.avoid if each.agent_id == self.agent_id]
        return (mine + [each for each in self.avoid if each.now and each not in mine])[:5] or self.avoid[:5]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "own mapping": "This worked before for this user's requests of this kind.",
        "own similar request": "This worked before for a similar request of this user.",
        "similar users": "This worked for other users' requests of this kind.",
        "similar requests of all users": "This worked for similar requests of other users.",
        "best agent of the domain": "No sequence is known for this; this agent does best in its field.",
        "nothing known": "Nothing is known about requests of this kind.",
        "sure": "It is expected to succeed in {mean} % of cases ({low} to {high} %{runs}).",
        "runs": ", {runs} runs seen",
        "agent": "Agent: {agent} ({id})",
        "steps": "Steps of {agent} ({id}):",
        "seen": " ({share} % of {calls} calls succeeded)",
        "avoid": "Avoid these tools, they fail:",
        "review": "Ask a person before the first step.",
    },
    "ko": {
        "own mapping": "이 사용자의 같은 종류 요청에서 성공했던 방법입니다.",
        "own similar request": "이 사용자의 비슷한 요청에서 성공했던 방법입니다.",
        "similar users": "다른 사용자의 같은 종류 요청에서 성공했던 방법입니다.",
        "similar requests of all users": "다른 사용자의 비슷한 요청에서 성공했던 방법입니다.",
        "best agent of the domain": "알려진 순서는 없으며, 이 분야에서 가장 성과가 좋은 에이전트입니다.",
        "nothing known": "이런 종류의 요청에 대해 알려진 것이 없습니다.",
        "sure": "예상 성공률은 {mean} %입니다({low}~{high} %{runs}).",
        "runs": ", 실행 {runs}회",
        "agent": "에이전트: {agent} ({id})",
        "steps": "{agent} ({id})의 단계:",
        "seen": " (호출 {calls}회 중 {share} % 성공)",
        "avoid": "다음 도구는 실패하고 있으니 피하십시오:",
        "review": "첫 단계 전에 사람에게 확인을 받으십시오.",
    },
}
