"""What a plan says agrees with itself, and is in one language, whatever the history was."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmodel import Agent, AgentModel, Domain, Settings, Tool
from agentmodel.suggest.plan import Language, Plan, Reason, ReasonCode
from agentmodel.suggest.plan._texts import _REASONS
from tests.integration.suggest_world import TODAY, opened

NAMES = ("locate", "search", "format", "가격 비교")
KINDS = ("cafe search", "가게 찾기", None)
REQUEST = "find a café near the stadium"


@dataclass(frozen=True)
class Run:
    """A session: who asks an agent for what kind, and which tools fail or are answered from the cache."""

    user: int
    agent: int
    kind: str | None
    tools: Sequence[int]
    failing: frozenset[int]
    cached: frozenset[int]
    times: int


tools = st.integers(0, len(NAMES) - 1)
runs = st.builds(
    Run,
    user=st.integers(0, 1),
    agent=st.integers(0, 1),
    kind=st.sampled_from(KINDS),
    tools=st.lists(tools, min_size=1, max_size=3, unique=True),
    failing=st.frozensets(tools, max_size=2),
    cached=st.frozensets(tools, max_size=1),
    times=st.sampled_from([1, 2, 6]),
)
histories = st.lists(st.lists(runs, max_size=4), min_size=10, max_size=10)


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        yield model


class World:
    """Several histories in one installation, each in a domain of its own, of users of its own."""

    made = 0

    def __init__(self, model: AgentModel, found: Sequence[Sequence[Run]]) -> None:
        World.made += 1
        self.model = model
        self.domains = [f"DMN{World.made}-{number}" for number, _ in enumerate(found)]
        for domain, history in zip(self.domains, found, strict=True):
            self._record(domain, history)
        model.drain()
        model.refresh(as_of=TODAY)
        model.publish(as_of=TODAY)

    def user(self, domain: str, number: int) -> str:
        return f"USR{domain.removeprefix('DMN')}-{number}"

    def _record(self, domain: str, history: Sequence[Run]) -> None:
        agents = [f"AGT{domain.removeprefix('DMN')}-{number}" for number in range(3)]  # the last one never runs
        self.model.repository.put(
            Domain(domain_id=domain, name=domain),
            *[
                Agent(agent_id=agent, domain_id=domain, name=agent, score=float(place * 5))
                for place, agent in enumerate(agents)
            ],
            *[
                Tool(agent_id=agent, tool_id=f"TL{number}", domain_id=domain, name=name)
                for agent in agents
                for number, name in enumerate(NAMES)
            ],
        )
        for run in history:
            for _ in range(run.times):
                self._run(self.user(domain, run.user), agents[run.agent], run)

    def _run(self, user: str, agent: str, run: Run) -> None:
        category = None if run.kind is None else f"{run.kind} {user}"
        with self.model.session(user, REQUEST, category=category) as session:
            for tool in run.tools:
                with session.process("step") as process, process.call(agent, f"TL{tool}") as call:
                    if tool in run.cached:
                        call.mark("cache_hit")
                    elif tool in run.failing:
                        call.fail("no answer")

    def plans(self) -> Iterator[Plan]:
        """Plans for everybody, for each kind of request and for none."""
        for domain in self.domains:
            for number in range(2):
                user = self.user(domain, number)
                yield self.model.suggest(user, domain_id=domain)
                for kind in KINDS:
                    category = None if kind is None else f"{kind} {user}"
                    yield self.model.suggest(user, category=category, request=REQUEST, domain_id=domain)


def texts(plan: Plan, language: Language) -> list[str]:
    """Every text of a plan."""
    reasons = [*plan.reasons, *plan.review_reasons, *(each.reason for each in plan.avoid)]
    reasons += [step.warning for step in plan.steps if step.warning is not None]
    return [plan.as_prompt(language=language), *(reason.in_language(language) for reason in reasons)]


def check_language(text: str, language: Language) -> None:
    """Fail where a text has words of another language outside of backticks."""
    plain = re.sub(r"`[^`\n]*`", "", text)
    if language == "en":
        assert not re.search("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]", plain), text
    else:
        assert not re.search("[A-Za-z]", plain.replace(" UTC", "")), text


def check(plan: Plan, executions: Mapping[str, int]) -> None:
    """Fail where a plan contradicts itself, or is in two languages."""
    steps = {(step.agent_id, step.tool_id) for step in plan.steps}
    assert not steps & {(each.agent_id, each.tool_id) for each in plan.avoid}
    for step in plan.steps:
        often = (step.calls or 0) >= 5 and (step.success_share or 0) < 0.65
        assert step.warning is not None or not often
        assert (
            step.fallback is None
            or (step.warning is not None and step.fallback.tool_id != step.tool_id)
            or (step.fallback.agent_id != step.agent_id)
        )
    opening = plan.as_prompt().split("\n")[0]
    mean = 100 if plan.confidence is None else round(100 * plan.confidence.mean)
    assert ("worked before" in opening) <= (mean >= 50 and bool(plan.successes))
    assert (mean < 50 and plan.source not in ("agent of the domain", "nothing known")) == ("fail more often" in opening)
    languages: tuple[Language, ...] = get_args(Language)
    for language in languages:
        for text in texts(plan, language):
            check_language(text, language)
    if plan.agent_id is not None and not executions.get(plan.agent_id) and not plan.steps:
        told = " ".join([plan.source, *texts(plan, "en"), *texts(plan, "ko")])
        assert not re.search("best|highest|worked|가장", told), told


@settings(max_examples=1)
@given(histories)
def test_a_plan_agrees_with_itself(model: AgentModel, found: list[list[Run]]) -> None:
    """No step is to be avoided; the first sentence agrees with the number; a text has one language; what never ran is not best."""
    world = World(model, found)
    executions = {
        agent.agent_id: agent.executions or 0
        for domain in world.domains
        for agent in model.repository.top_agents(domain, limit=10).items
    }
    plans = list(world.plans())

    assert {"agent of the domain"} <= {plan.source for plan in plans}
    for plan in plans:
        check(plan, executions)


@given(st.sampled_from(get_args(ReasonCode)), st.text(), st.integers(0, 10**9))
def test_every_reason_is_in_one_language(code: ReasonCode, name: str, number: int) -> None:
    """Whatever its names and numbers are, a reason is one line in one language, and stays the same through JSON."""
    names = re.findall(r"{(\w+)}", _REASONS["en"][code])
    of_text = {"category", "given", "request", "agent", "tool"}
    reason = Reason(code=code, values={each: name if each in of_text else number for each in names})

    languages: tuple[Language, ...] = get_args(Language)
    for language in languages:
        text = reason.in_language(language)
        check_language(text, language)
        assert "\n" not in text
    assert reason == Reason.model_validate_json(reason.model_dump_json())
