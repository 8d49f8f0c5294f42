"""Advise: which agent, which steps, what to avoid, with the reasons; from what the last publish left in the table.

Looked up in this order, the first that is found is the plan: the user's own mapping of the category, the user's own
mapping of a similar request, the best mapping of the category among all users, that of a similar request among all
users, the best agent of the domain. A sequence whose tools fail at present gives way to the next one. No warehouse is
asked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from agentmodel.access.repository import Repository
from agentmodel.config import Ranking
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.keys import EXECUTION, check_id
from agentmodel.suggest.plan import Alternative, Avoid, Plan, Source, Step, Sure, sureness
from agentmodel.suggest.sequences import central
from agentmodel.suggest.similar import Similarity, TextSimilarity

__all__ = ["Adviser", "Alternative", "Avoid", "Failing", "Log", "Plan", "Source", "Step", "Sure", "Watch"]

Place = tuple[str, str]  # an agent and its tool

_ENOUGH_CALLS = 5  # before a share of failures says anything
_FAILING = 0.3  # share of failed calls from which a tool is to be avoided
_ALTERNATIVES = 3
_COMPARED = 200  # mappings of a category of which, of equals, the most central is taken
_INDEX_SECONDS = 300.0  # for which the requests of all users are remembered
_INDEX_MOST = 20_000  # mappings whose requests are


@dataclass(frozen=True, slots=True)
class Failing:
    """A tool that does not work at present.

    Attributes:
        since: When it began.
        note: What was seen.
    """

    since: datetime | None
    note: str


class Watch(Protocol):
    """Knows which tools fail at present."""

    def failing(self, places: Iterable[Place], tools: Mapping[Place, Tool], /) -> Mapping[Place, Failing]:
        """Those of these tools that fail now; ``tools`` has the items of those that are in the catalogue."""
        ...


class Log(Protocol):
    """Keeps what was suggested."""

    def keep(self, plan: Plan, *, candidates: Mapping[str, float], propensity: float) -> str | None:
        """Keep a suggestion; the id it is kept under, or None where it could not be."""


class _Use(NamedTuple):
    """One use of a tool in a mapping: what for, whose tool, its name, and the key it is counted under."""

    process: str
    place: Place
    name: str
    key: str


@dataclass(slots=True)
class _Found:
    """A mapping that could be the plan."""

    mapping: UserToolMapping
    source: Source
    similar_to: str | None = None
    likeness: float | None = None
    agent: Agent | None = None
    uses: list[_Use] = field(default_factory=list)

    @property
    def agent_id(self) -> str | None:
        return self.uses[0].place[0] if self.uses else next(iter(self.mapping.agents), None)

    @property
    def sure(self) -> Sure:
        prior = 0.5 if self.agent is None or self.agent.evidence is None else self.agent.evidence
        return sureness(self.mapping.successes or 0, self.mapping.executions or 0, prior=prior)


class Adviser:
    """Makes plans.

    Args:
        repository: Reads what was published.
        watch: Knows which tools fail at present.
        log: Keeps every suggestion.
        similarity: Says how alike requests are.
        ranking: Which number orders mappings of several users: their score, or how likely they succeed.
        review_below: A person should look first when the lower bound of success is below this.
        explore: Share of the choices among a domain's agents that are made at random, so that the others are learnt
            about and the worth of another choice can be measured.
        draw: Gives random numbers from 0 to 1.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        watch: Watch | None = None,
        log: Log | None = None,
        similarity: Similarity | None = None,
        ranking: Ranking = "classic",
        review_below: float = 0.2,
        explore: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not 0 <= explore <= 1:
            raise ValidationError("explore", explore, "a share from 0 to 1")
        self._repository = repository
        self._watch = watch
        self._log = log
        self._similarity: Similarity = similarity if similarity is not None else TextSimilarity()
        self._ranking = ranking
        self._review_below = review_below
        self._explore = explore
        self._draw = draw
        self._index: tuple[float, list[UserToolMapping]] | None = None

    def forget(self) -> None:
        """Forget the remembered requests of all users: they were published anew."""
        self._index = None

    def suggest(
        self, user_id: str, *, category: str | None = None, request: str | None = None, domain_id: str | None = None
    ) -> Plan:
        """The plan for a user's request.

        Args:
            user_id: Who asks.
            category: The kind of request.
            request: What is asked, in the user's words.
            domain_id: The domain to choose an agent of; where the installation has one only, it is that.

        Raises:
            ValidationError: Neither a category nor a request nor a domain is given, or an id is none.
            NotFound: The domain does not exist.
        """
        check_id("user_id", user_id, "USR")
        if not (category or request or domain_id):
            raise ValidationError("category", category, "give a category, a request or a domain_id to plan for")
        if domain_id is not None and self._repository.domain(domain_id) is None:
            raise NotFound("domain", domain_id)
        plan = Plan(user_id=user_id, category=category, request=request, domain_id=domain_id)
        found = list(self._candidates(plan))
        propensity = 1.0
        if found:
            plan, scores = self._from_mappings(plan, found)
        else:
            plan, scores, propensity = self._from_domain(plan)
        if self._log is not None:
            return plan.model_copy(
                update={"suggestion_id": self._log.keep(plan, candidates=scores, propensity=propensity)}
            )
        return plan

    # Which mappings

    def _candidates(self, asked: Plan) -> Iterator[_Found]:
        """What could be the plan, in the order of the lookup; each user's way once."""
        seen = set()
        for found in self._looked_up(asked):
            mapping = found.mapping
            if mapping.key in seen:
                continue
            seen.add(mapping.key)
            found.uses = list(_uses(mapping))
            found.agent = None if found.agent_id is None else self._repository.agent(found.agent_id)
            if asked.domain_id is None or (found.agent is not None and found.agent.domain_id == asked.domain_id):
                yield found

    def _looked_up(self, asked: Plan) -> Iterator[_Found]:
        nearer = False
        for found in self._nearer(asked):
            nearer = True
            yield found
        if asked.request and not nearer:
            others = [mapping for mapping in self._of_all() if mapping.user_id != asked.user_id]
            yield from self._alike(asked.request, others, "similar requests of all users")

    def _nearer(self, asked: Plan) -> Iterator[_Found]:
        if asked.category:
            own = self._repository.mapping(asked.user_id, asked.category)
            if own is not None:
                yield _Found(own, "own mapping")
        if asked.request:
            yield from self._alike(asked.request, self._own(asked.user_id), "own similar request")
        if asked.category:
            yield from self._of_category(asked.category, but=asked.user_id)

    def _own(self, user_id: str) -> Iterator[UserToolMapping]:
        cursor = None
        while True:
            page = self._repository.user_mappings(user_id, cursor=cursor)
            yield from page
            cursor = page.cursor
            if cursor is None:
                return

    def _of_category(self, category: str, *, but: str) -> Iterator[_Found]:
        same: list[UserToolMapping] = []
        cursor = None
        while True:
            page = self._repository.mappings(category, cursor=cursor)
            same += [mapping for mapping in page if mapping.category == category and mapping.user_id != but]
            cursor = page.cursor
            if cursor is None:
                break
        ways = [list(mapping.tools.values()) for mapping in same]
        apart = central(ways, ways) if len(same) <= _COMPARED else [0.0] * len(same)
        ordered = sorted(
            zip(same, apart, strict=True), key=lambda each: (*self._worth(each[0]), -each[1]), reverse=True
        )
        for mapping, _ in ordered[: _ALTERNATIVES + 1]:
            yield _Found(mapping, "similar users")

    def _of_all(self) -> list[UserToolMapping]:
        """The mappings of all users, remembered for a while."""
        held = self._index
        if held is None or held[0] < time.monotonic():
            mappings: list[UserToolMapping] = []
            cursor = None
            while len(mappings) < _INDEX_MOST:
                page = self._repository.mappings(limit=1000, cursor=cursor)
                mappings += page
                cursor = page.cursor
                if cursor is None:
                    break
            held = self._index = (time.monotonic() + _INDEX_SECONDS, mappings)
        now = datetime.now(UTC)
        return [mapping for mapping in held[1] if mapping.expires_at is None or mapping.expires_at > now]

    def _alike(self, request: str, mappings: Iterable[UserToolMapping], source: Source) -> list[_Found]:
        """The mappings of similar requests: most alike first, of equals the better one."""
        texts = [(text, mapping) for mapping in mappings for text in (mapping.requests or ())]
        scores = self._similarity.scores(request, [text for text, _ in texts])
        close = [
            _Found(mapping, source, text, likeness)
            for likeness, (text, mapping) in zip(scores, texts, strict=True)
            if likeness >= self._similarity.threshold
        ]
        close.sort(key=lambda each: (round(each.likeness or 0.0, 2), self._worth(each.mapping)), reverse=True)
        return close[: _ALTERNATIVES + 1]

    def _worth(self, mapping: UserToolMapping) -> tuple[float, int]:
        successes = mapping.successes or 0
        if self._ranking == "evidence":
            return sureness(successes, mapping.executions or 0).mean, successes
        return mapping.score or 0.0, successes

    # What becomes of them

    def _from_mappings(self, asked: Plan, found: Sequence[_Found]) -> tuple[Plan, dict[str, float]]:
        places = {use.place for each in found for use in each.uses}
        tools = self._tools(agent_id for agent_id, _ in places)
        failing = self._failing(places | set(tools), tools)
        sound = [each for each in found if not any(use.place in failing for use in each.uses)]
        chosen = (sound or found)[0]
        agent = chosen.agent
        steps = tuple(
            _step(use, (chosen.mapping.counts or {}).get(use.key), tools.get(use.place)) for use in chosen.uses
        )
        others = [
            _alternative(each, each.agent_id) for each in found if each is not chosen and each.agent_id is not None
        ]
        plan = asked.model_copy(
            update={
                "domain_id": asked.domain_id if agent is None else agent.domain_id,
                "agent_id": chosen.agent_id,
                "agent": next(iter(chosen.mapping.agents.values()), None) if agent is None else agent.name,
                "steps": steps,
                "alternatives": tuple(others[:_ALTERNATIVES]),
                "avoid": _avoid(tools, failing),
                "source": chosen.source,
                "runs": chosen.mapping.executions,
                "sure": chosen.sure,
                "similar_to": chosen.similar_to if chosen.mapping.user_id == asked.user_id else None,
                "likeness": chosen.likeness,
                "reasons": tuple(_told(chosen, asked, passed_over=bool(sound) and chosen is not found[0])),
            }
        )
        scores: dict[str, float] = {}
        for each in found:
            if each.agent_id is not None:
                scores[each.agent_id] = max(scores.get(each.agent_id, 0.0), round(self._worth(each.mapping)[0], 6))
        return self._reviewed(plan, tools, {use.place for use in chosen.uses}, failing), scores

    def _from_domain(self, asked: Plan) -> tuple[Plan, dict[str, float], float]:
        domain_id = asked.domain_id if asked.domain_id is not None else self._only_domain()
        top = () if domain_id is None else self._repository.top_agents(domain_id, limit=_ALTERNATIVES + 1).items
        if not top:
            why = "The domain has no agent" if domain_id is not None else "No history of this category"
            plan = asked.model_copy(update={"domain_id": domain_id, "reasons": (f"{why} is known yet.",)})
            return self._reviewed(plan, {}, set(), {}), {}, 1.0
        best, propensity = self._chosen(top)
        tools = self._tools(agent.agent_id for agent in top)
        reasons = [
            f"No sequence of this category is known; {best.name} has the highest score of the domain: {best.score:g}."
            if best is top[0]
            else f"No sequence of this category is known; {best.name} was drawn to learn about it."
        ]
        if best.executions:
            reasons.append(f"It ran {best.executions} times and succeeded {best.successes} times.")
        others = [agent for agent in top if agent is not best]
        if others:
            reasons.append(f"Next best is {others[0].name} with {others[0].score:g}.")
        failing = self._failing(tools, tools)
        plan = asked.model_copy(
            update={
                "domain_id": domain_id,
                "agent_id": best.agent_id,
                "agent": best.name,
                "alternatives": tuple(_agent_alternative(agent) for agent in others[:_ALTERNATIVES]),
                "avoid": _avoid(tools, failing),
                "source": "best agent of the domain",
                "runs": best.executions,
                "sure": _agent_sure(best),
                "reasons": tuple(reasons),
            }
        )
        return self._reviewed(plan, tools, set(), {}), {agent.agent_id: agent.score for agent in top}, propensity

    def _chosen(self, top: Sequence[Agent]) -> tuple[Agent, float]:
        """The best agent, or with the share of `explore` any; and how likely that choice was."""
        if not self._explore or len(top) == 1:
            return top[0], 1.0
        place = int(self._draw() * len(top)) if self._draw() < self._explore else 0
        likely = self._explore / len(top) + (1 - self._explore if place == 0 else 0)
        return top[place], likely

    def _only_domain(self) -> str | None:
        domains = self._repository.domains(limit=2)
        return domains[0].domain_id if len(domains) == 1 else None

    def _reviewed(
        self, plan: Plan, tools: Mapping[Place, Tool], used: set[Place], failing: Mapping[Place, Failing]
    ) -> Plan:
        reasons = []
        if plan.agent_id is None:
            reasons.append("Nothing is known about requests of this kind.")
        elif plan.sure is not None and plan.sure.low < self._review_below:
            reasons.append(f"It may succeed in as few as {plan.sure.low:.0%} of cases.")
        for place in sorted(used):
            tool = tools.get(place)
            name = place[1] if tool is None else tool.name
            if place in failing:
                reasons.append(f"{name} fails at present: {failing[place].note}")
            if tool is not None and tool.needs_review:
                reasons.append(f"{name} is used only after a person agreed.")
        return plan.model_copy(update={"needs_review": bool(reasons), "review_reasons": tuple(reasons)})

    # Tools

    def _failing(self, places: Iterable[Place], tools: Mapping[Place, Tool]) -> Mapping[Place, Failing]:
        return {} if self._watch is None else self._watch.failing(set(places), tools)

    def _tools(self, agent_ids: Iterable[str]) -> dict[Place, Tool]:
        """The tools of these agents: a near page each."""
        found: dict[Place, Tool] = {}
        for agent_id in sorted(set(agent_ids)):
            cursor = None
            while True:
                page = self._repository.agent_tools(agent_id, cursor=cursor)
                found.update({(tool.agent_id, tool.tool_id): tool for tool in page})
                cursor = page.cursor
                if cursor is None:
                    break
        return found


def _avoid(tools: Mapping[Place, Tool], failing: Mapping[Place, Failing]) -> tuple[Avoid, ...]:
    """Tools that fail now, then those that often fail."""
    now = [
        Avoid(
            agent_id=place[0],
            tool_id=place[1],
            tool=tools[place].name if place in tools else place[1],
            reason=each.note,
            since=each.since,
            now=True,
        )
        for place, each in sorted(failing.items())
    ]
    return (*now, *(_avoided(tool) for place, tool in tools.items() if _is_failing(tool) and place not in failing))


def _uses(mapping: UserToolMapping) -> Iterator[_Use]:
    for key, name in mapping.tools.items():
        process_id, agent_id, tool_id, _ = EXECUTION.parse(key)
        yield _Use(mapping.processes.get(process_id, name), (agent_id, tool_id), name, key)


def _step(use: _Use, counted: Sequence[int] | None, tool: Tool | None) -> Step:
    calls: int | None = None
    share: float | None = None
    if counted is not None and counted[0]:
        calls, share = counted[0], counted[1] / counted[0]
    elif tool is not None and tool.calls:
        calls, share = tool.calls, 1 - (tool.errors or 0) / tool.calls
    return Step(
        process=use.process,
        agent_id=use.place[0],
        tool_id=use.place[1],
        tool=use.name if tool is None else tool.name,
        calls=calls,
        success_share=share,
    )


def _alternative(found: _Found, agent_id: str) -> Alternative:
    return Alternative(
        agent_id=agent_id,
        agent=found.mapping.agents.get(agent_id, agent_id) if found.agent is None else found.agent.name,
        tools=tuple(use.name for use in found.uses),
        runs=found.mapping.executions,
        sure=found.sure,
        source=found.source,
    )


def _agent_sure(agent: Agent) -> Sure:
    if agent.evidence is not None and agent.evidence_low is not None and agent.evidence_high is not None:
        return Sure(agent.evidence, agent.evidence_low, agent.evidence_high)
    return sureness(agent.successes or 0, agent.executions or 0)


def _agent_alternative(agent: Agent) -> Alternative:
    return Alternative(
        agent_id=agent.agent_id,
        agent=agent.name,
        runs=agent.executions,
        sure=_agent_sure(agent),
        source="best agent of the domain",
    )


def _told(found: _Found, asked: Plan, *, passed_over: bool) -> Iterator[str]:
    mapping = found.mapping
    own = mapping.user_id == asked.user_id
    whose = "your own history" if own else f"{mapping.user_id}, the best of all users in it"
    if found.similar_to is None:
        yield f"In category {mapping.category!r} this sequence worked: it comes from {whose}."
    elif own:
        text = found.similar_to if len(found.similar_to) <= 80 else found.similar_to[:79] + "…"
        yield f"You asked alike ({found.likeness:.0%}) before: {text!r}, in category {mapping.category!r}."
    else:  # what others asked, in their words, is theirs
        yield f"Another user asked alike ({found.likeness:.0%}) in category {mapping.category!r}."
    if mapping.executions:
        yield f"It was run {mapping.executions} times and succeeded {mapping.successes} times."
    if passed_over:
        yield "What would have come first uses a tool that fails at present."


def _is_failing(tool: Tool) -> bool:
    return (tool.calls or 0) >= _ENOUGH_CALLS and (tool.errors or 0) / (tool.calls or 1) >= _FAILING


def _avoided(tool: Tool) -> Avoid:
    reason = f"{tool.errors} of {tool.calls} calls failed"
    if tool.last_error_at is not None:
        reason += f", last on {tool.last_error_at:%Y-%m-%d %H:%M} UTC"
    if tool.last_error:
        reason += f": {tool.last_error[:200]}"
    return Avoid(agent_id=tool.agent_id, tool_id=tool.tool_id, tool=tool.name, reason=reason, since=tool.last_error_at)
