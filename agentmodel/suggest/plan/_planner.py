"""Planner: which agent, which steps and which tools to avoid for a request, from what the last publish wrote.

Plans are looked for in this order, and the first that is found is suggested: the user's own mapping of the category,
the user's own mapping of a similar request, the best mapping of the category among all users, that of a similar request
among all users, the best agent of the domain. A sequence with a tool that is failing now gives way to the next one. The
warehouse is not asked.

Of what other users did, a plan has the agents and tools, by their names in the catalogue, and numbers. Their requests
and processes, who they are, and how similar the requests are, are not in it; nor is the name of a category that fewer
than three users have. The anonymous user is many people, so it has no mappings of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Protocol

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._values.categories import is_derived
from agentmodel._values.names import takes_names
from agentmodel._values.text import one_line
from agentmodel.access.pagination import every
from agentmodel.access.repository import Repository
from agentmodel.config import Ranking
from agentmodel.dynamo.models import Agent, Domain, Tool
from agentmodel.exceptions import NotFound, TableUnavailable, ValidationError
from agentmodel.keys import SESSION_ITEMS
from agentmodel.suggest._chance import RunCounts, chance_of_success, runs_of
from agentmodel.suggest._sequences import Followers, likely_next, unpacked_sequences
from agentmodel.suggest._types import HealthReads, HealthSource, ToolRef
from agentmodel.suggest.plan._failing_tools import FailingTools, KnownTools, step_reason
from agentmodel.suggest.plan._fallbacks import Fallbacks
from agentmodel.suggest.plan._holdout import ALL_GIVEN, Assignment, held_out
from agentmodel.suggest.plan._lookup import ALTERNATIVES, Candidate, Lookup, Reads, ToolUse
from agentmodel.suggest.plan._next_tools import LikelyTool, NextTools
from agentmodel.suggest.plan._plan import Alternative, Confidence, Fallback, Plan, PlanSource, PlanStep, confidence_of
from agentmodel.suggest.plan._routing import Routing
from agentmodel.suggest.plan._similarity import Similarity, TextSimilarity
from agentmodel.suggest.plan._suggestion_log import new_suggestion_id
from agentmodel.suggest.plan._texts import Reason, ReasonCode, expected_percent

__all__ = ["PlanLog", "Planner"]

_log = logger(__name__)

_MAX_AGENTS = 50  # of a domain, among which the one with the highest upper bound is looked for
_MAX_SEEN = 10_000  # agents whose tools are remembered


class PlanLog(Protocol):
    """Keeps suggestions; a `SuggestionLog` is one."""

    def keep(
        self, plan: Plan, *, candidates: Mapping[str, float], propensity: float, assignment: Assignment
    ) -> str | None:
        """Keep a suggestion, and return its id, or None where it was not kept."""


class Planner:
    """Makes plans for requests.

    Args:
        repository: Reads what was published.
        health: Knows which tools are failing now; without it no tool counts as failing now.
        log: Keeps every suggestion; without it none is kept.
        similarity: Measures how similar requests are; `TextSimilarity` when not given.
        routing: Finds the domain of a request for which none is given; without it, only the one domain there is.
        route_by_descriptions: Whether a domain counts as found that only descriptions were compared with.
        ranking: The number that orders mappings of several users: their score, or the expected success rate.
        review_below: A plan needs a review when its chance of success is below this, or below what a publish found for
            the share ``AGENTMODEL_REVIEW_SHARE``. Where no runs of its domain were published, the lower bound of its
            confidence decides.
        holdout: Share of the plans that are withheld, at least 0 and below 1.
        explore: How the other agents of a domain get a chance to show how good they are. A number is the share of the
            choices among the best ones that are made at random, 0 to 1; they also show what another policy would have
            been worth (`agentmodel.suggest.evaluate.off_policy`). ``upper-bound`` chooses the one that could be the
            best: whose 90 % interval reaches highest, among the first 50 of the domain. The choice is the same until
            the next publish, so publish often; and it is certain, so it says nothing of other policies.
        random_number: Returns random numbers from 0 up to, but not including, 1.

    Raises:
        ValidationError: ``explore`` is neither a number from 0 to 1 nor ``upper-bound``, or ``holdout`` is not at
            least 0 and below 1.

    >>> from agentmodel.suggest.plan import TextSimilarity
    >>> planner = Planner(model.repository, similarity=TextSimilarity(threshold=0.9), explore="upper-bound")
    >>> planner.suggest("USR002", request="a quiet café at the lake", domain_id="DMN001").source
    'own similar request'
    >>> planner.close()
    """

    def __init__(
        self,
        repository: Repository,
        *,
        health: HealthSource | None = None,
        log: PlanLog | None = None,
        similarity: Similarity | None = None,
        routing: Routing | None = None,
        route_by_descriptions: bool = False,
        ranking: Ranking = "classic",
        review_below: float = 0.3,
        holdout: float = 0.0,
        explore: float | Literal["upper-bound"] = 0.0,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        if not (explore == "upper-bound" if isinstance(explore, str) else 0 <= explore <= 1):
            raise ValidationError("explore", explore, "must be a number from 0 to 1, or upper-bound")
        if not 0 <= holdout < 1:
            raise ValidationError("holdout", holdout, "must be a number from 0 to below 1")
        self._repository = repository
        self._health = health
        self._log = log
        self._holdout = holdout
        similarity = similarity if similarity is not None else TextSimilarity()
        self._lookup = Lookup(repository, similarity, ranking)
        self._routing = routing
        self._route_by_descriptions = route_by_descriptions
        self._followers: dict[str, tuple[object, Followers]] = {}
        self._worker = BackgroundWorker("plans", linger=0.0)
        self._failing_tools = FailingTools(repository, health, self._worker)
        self._fallbacks = Fallbacks(repository, health, similarity=similarity)
        self._review_below = review_below
        self._explore = explore
        self._random_number = random_number
        self._seen_tools: dict[str, list[ToolRef]] = {}  # by agent, as far as this process has seen them

    def load(self) -> None:
        """Load what changed in the requests of all users, and wait for it; drop what is cached of the last publish.

        `suggest` loads it in the background. Call this where its first plan has to know them already, or where a
        publish of another process has to be seen at once.

        Raises:
            TableUnavailable: The table does not answer, and Valkey does not have what is needed.

        >>> model.planner.load()  # what another process published is seen from now on
        """
        self._lookup.index.load()
        self._failing_tools.forget()
        if self._routing is not None:
            self._routing.load(again=True)

    def close(self) -> None:
        """End the background work of this planner."""
        self._lookup.index.close()
        self._worker.close()

    @takes_names
    def suggest(
        self,
        user_id: str,
        *,
        category: str | None = None,
        request: str | None = None,
        domain_id: str | None = None,
        session_id: str | None = None,
    ) -> Plan:
        """Return a plan for a user's request.

        While the table does not answer, the plan is made of what is cached, and its reasons say so.

        The share ``holdout`` of the plans is withheld, and every plan of a domain in which plans did harm
        (see `AgentModel.impact`): the plan is made and recorded, and what is returned has the source ``withheld``.

        Args:
            user_id: Who asks.
            category: The kind of request.
            request: What is asked, in the user's words.
            domain_id: The domain to choose an agent of; may be left out where the installation has only one, or where
                the request says which (see `AgentModel.route`).
            session_id: The session that the plan is for, if it has begun: all plans of a session are given, or all are
                withheld.

        Raises:
            ValidationError: Neither a category nor a request nor a domain is given, or an id is not valid.
            NotFound: The domain does not exist.
            TableUnavailable: The table does not answer, and nothing that is cached makes a plan.

        >>> model.planner.suggest("USR002", category="cafe search").agent
        'review agent'
        """
        if not (category or request or domain_id):
            raise ValidationError(
                "category", category, "must be given, or a request or a domain_id: a plan is for one of them"
            )
        asked = self._asked(user_id, category, request, domain_id)
        read = Reads()
        with self._lookup.prefetched(asked):
            if domain_id is not None and read(self._repository.domain, domain_id) is None and not read.unanswered:
                raise NotFound("domain", domain_id)
            found = self._lookup.candidates(asked, read)
        with self._prefetched_catalogue({use.tool_ref for each in found for use in each.uses}):
            found = self._lookup.with_agents(found, asked, read)
            if not found and domain_id is not None:  # what the user did was of other domains
                found = self._lookup.with_agents(self._lookup.of_other_users(asked, read), asked, read)
            tools = self._tools((use.tool_ref[0] for each in found for use in each.uses), read)
            found = [each for each in found if each.own or _in_catalogue(each, tools)]
            plan, scores, domain = self._from_mappings(asked, found, tools, read) if found else (None, {}, None)
        propensity = 1.0
        if plan is None:
            plan, scores, propensity, domain = self._from_domain(asked, read)
        if read.unanswered:
            if plan.agent_id is None:
                raise read.unanswered[0]
            plan = plan.model_copy(update={"reasons": (*plan.reasons, Reason(code="cached_only"))})
        if read.loading:
            plan = plan.model_copy(update={"reasons": (*plan.reasons, Reason(code="still_loading"))})
        plan = plan.model_copy(update={"suggestion_id": new_suggestion_id(datetime.now(UTC))})
        assignment, why = self._assigned(plan, domain, session_id)
        kept = None
        if self._log is not None:
            kept = self._log.keep(plan, candidates=scores, propensity=propensity, assignment=assignment)
        if assignment.withheld:
            plan = asked.model_copy(update={"source": "withheld", "reasons": why})
        return plan.model_copy(update={"suggestion_id": kept})

    def _asked(self, user_id: str, category: str | None, request: str | None, domain_id: str | None) -> Plan:
        """Return what a plan is made for, as the recorder keeps it, so that it is found."""
        category, request = map(self._repository.redaction.optional, (category, request))
        return Plan(user_id=user_id, category=category, request=request, domain_id=domain_id)

    def _assigned(
        self, plan: Plan, domain: Domain | None, session_id: str | None
    ) -> tuple[Assignment, tuple[Reason, ...]]:
        """Return whether a plan is given or withheld, and the reasons to withhold it.

        A request for which nothing is known is not in the comparison: there is nothing to withhold.
        """
        if plan.agent_id is None:
            return ALL_GIVEN, ()
        if domain is not None and domain.plans_stopped_at is not None:
            name = {"domain": one_line(domain.name)}
            return Assignment(withheld=True), (Reason(code="plans_stopped", values=name, at=domain.plans_stopped_at),)
        if not self._holdout:
            return ALL_GIVEN, ()
        key = plan.suggestion_id if session_id is None else SESSION_ITEMS.build(plan.user_id, session_id)
        withheld = held_out(str(key), self._holdout)
        why = (Reason(code="held_out", values={"share": round(100 * self._holdout, 1)}),) if withheld else ()
        return Assignment(withheld, self._holdout, None if domain is None else domain.plans_resumed_at), why

    @takes_names
    def next_tools(
        self,
        user_id: str,
        *,
        agent_id: str,
        done: Sequence[str] = (),
        category: str | None = None,
        request: str | None = None,
        limit: int = 3,
    ) -> NextTools:
        """Return the tools of an agent that are usually called next.

        They are predicted from the sequences that the last publish kept: those of the user's mapping that a plan for
        this category or request would be made of, else of the other users' mappings, and those of the agent's domain.

        Args:
            user_id: The user for whom the agent works.
            agent_id: The agent.
            done: The names or ids of the tools that it called so far, in order.
            category: The kind of request.
            request: What is asked, in the user's words.
            limit: The most tools to return.

        Raises:
            ValidationError: An id is not valid, or ``limit`` is below 1.
            NotFound: The agent does not exist.
            TableUnavailable: The table does not answer, and nothing that is cached says anything.

        >>> likely = model.planner.next_tools("USR002", agent_id="AGT002", done=["book_table"], category="cafe search")
        >>> [tool.tool for tool in likely.tools]
        ['read_reviews']
        """
        if not isinstance(limit, int) or limit < 1:
            raise ValidationError("limit", limit, "must be a whole number of at least 1")
        read = Reads()
        agent = read(self._repository.agent, agent_id)
        if agent is None:
            raise read.unanswered[0] if read.unanswered else NotFound("agent", agent_id)
        asked = self._asked(user_id, category, request, agent.domain_id)
        own_tools = self._tools([agent_id], read)
        names = {ref.tool_id: tool.name for ref, tool in own_tools.items()}
        called = tuple(names.get(each, each) for each in done)
        scopes = [self._followers_of_domain(agent.domain_id, read), self._followers_of_kind(asked, read)]
        by_name = {tool.name: tool for tool in reversed(own_tools.values())}
        likely = {name: share for name, share in likely_next(called, scopes).items() if name in by_name}
        shown = [by_name[name] for name in list(likely)[:limit]]
        used = {ToolRef(tool.agent_id, tool.tool_id) for tool in shown}
        known = self._failing_tools.look(agent.domain_id, own_tools, used, user_id=user_id, read=read)
        total = sum(likely.values())
        return NextTools(
            user_id=user_id,
            agent_id=agent_id,
            done=tuple(map(one_line, called)),
            tools=tuple(self._likely(tool, likely[tool.name] / total, known, user_id) for tool in shown),
        )

    def _followers_of_domain(self, domain_id: str, read: Reads) -> Followers:
        domain = read(self._repository.domain, domain_id)
        packed = None if domain is None else domain.sequences
        cached = self._followers.get(domain_id)
        if cached is None or cached[0] != packed:
            cached = self._followers[domain_id] = packed, Followers(unpacked_sequences(packed))
        return cached[1]

    def _followers_of_kind(self, asked: Plan, read: Reads) -> Followers:
        if not (asked.category or asked.request):
            return Followers()
        with self._lookup.prefetched(asked):
            found = self._lookup.with_agents(self._lookup.candidates(asked, read), asked, read)
        if found and found[0].own:
            found = found[:1]
        return Followers(each for one in found for each in unpacked_sequences(one.mapping.sequences))

    def _likely(self, tool: Tool, probability: float, known: KnownTools, user_id: str) -> LikelyTool:
        ref = ToolRef(tool.agent_id, tool.tool_id)
        warning = known.reason(ref)
        fallback = None if warning is None else self._fallback(ref, tool.name, known, user_id=user_id)
        return LikelyTool(
            agent_id=tool.agent_id,
            tool_id=tool.tool_id,
            tool=one_line(tool.name),
            probability=probability,
            calls=tool.calls,
            success_share=1 - (tool.errors or 0) / tool.calls if tool.calls else None,
            warning=warning,
            fallback=fallback,
        )

    # What becomes of them

    def _from_mappings(
        self, asked: Plan, found: Sequence[Candidate], tools: Mapping[ToolRef, Tool], read: Reads
    ) -> tuple[Plan, dict[str, float], Domain | None]:
        used = {use.tool_ref for each in found for use in each.uses}
        domains = [each.agent.domain_id for each in found if each.agent is not None]
        domain_id = asked.domain_id or next(iter(domains), None)
        domain, known = self._domain_and_tools(asked, domain_id, tools, used, read)
        working = [each for each in found if not any(use.tool_ref in known.failing for use in each.uses)]
        chosen = (working or found)[0]
        agent, mapping = chosen.agent, chosen.mapping
        domain_id = asked.domain_id if agent is None else agent.domain_id
        if domain_id is None:
            domain = None
        elif domain is None or domain.domain_id != domain_id:
            domain = read(self._repository.domain, domain_id)
        chance = _chance(agent, mapping.category, domain)
        others = [
            _alternative(each, each.agent_id, tools)
            for each in found
            if each is not chosen and each.agent_id is not None
        ]
        refs = {use.tool_ref for use in chosen.uses}
        plan = asked.model_copy(
            update={
                "domain_id": domain_id,
                "agent_id": chosen.agent_id,
                "agent": next(iter(mapping.agents.values()), None) if agent is None else one_line(agent.name),
                "alternatives": tuple(others[:ALTERNATIVES]),
                "avoid": known.avoid(chosen.agent_id, refs, agents=(each.agent for each in found)),
                "source": chosen.source,
                "runs": mapping.executions,
                "successes": mapping.successes,
                "confidence": _expected(chosen.confidence, chance),
                "similar_to": chosen.similar_to if chosen.own else None,
                "similarity": chosen.similarity if chosen.own else None,
                "reasons": tuple(_reasons(chosen, passed_over=bool(working) and chosen is not found[0])),
            }
        )
        fallbacks: dict[ToolRef, Fallback | None] = {}
        steps = tuple(self._step(use, chosen, known, plan, fallbacks) for use in chosen.uses)
        scores: dict[str, float] = {}
        for each in found:
            if each.agent_id is not None:
                scores[each.agent_id] = max(
                    scores.get(each.agent_id, 0.0), round(self._lookup.rank(each.mapping)[0], 6)
                )
        plan = self._reviewed(plan.model_copy(update={"steps": steps}), known, agent, chance, domain)
        return plan, scores, domain

    def _domain_and_tools(
        self, asked: Plan, domain_id: str | None, tools: Mapping[ToolRef, Tool], used: set[ToolRef], read: Reads
    ) -> tuple[Domain | None, KnownTools]:
        """Return a domain and what is known of its tools; where these are not cached, one round trip reads both."""
        unread, domain = self._failing_tools.to_read(domain_id), None
        with self._repository.prefetched(map(Domain.at, unread), tools_in=unread) if unread else nullcontext():
            if domain_id is not None:
                domain = read(self._repository.domain, domain_id)
            known = self._failing_tools.look(domain_id, tools, used, user_id=asked.user_id, read=read)
        return domain, known

    def _step(
        self,
        use: ToolUse,
        chosen: Candidate,
        known: KnownTools,
        plan: Plan,
        fallbacks: dict[ToolRef, Fallback | None],  # of the steps before
    ) -> PlanStep:
        tool = known.tools.get(use.tool_ref)
        counted = (chosen.mapping.counts or {}).get(use.key, [])
        calls: int | None = None
        share: float | None = None
        if len(counted) == 2 and counted[0]:  # calls and successes
            calls, share = counted[0], counted[1] / counted[0]
        elif tool is not None and tool.calls:
            calls, share = tool.calls, 1 - (tool.errors or 0) / tool.calls
        name = one_line(use.name if tool is None else tool.name)
        warning = known.reason(use.tool_ref) or step_reason(calls, share)
        if warning is not None and use.tool_ref not in fallbacks:
            fallbacks[use.tool_ref] = self._fallback(use.tool_ref, name, known, plan, user_id=plan.user_id)
        return PlanStep(
            process=one_line(use.process) if chosen.own else None,
            agent_id=use.tool_ref.agent_id,
            tool_id=use.tool_ref.tool_id,
            tool=name,
            calls=calls,
            success_share=share,
            warning=warning,
            fallback=None if warning is None else fallbacks[use.tool_ref],
        )

    def _fallback(
        self, ref: ToolRef, name: str, known: KnownTools, plan: Plan | None = None, *, user_id: str
    ) -> Fallback | None:
        found = self._fallbacks.of(ref, name, known.tools.get(ref), plan, user_id=user_id, known=known)
        return next(iter(found), None)

    def _from_domain(self, asked: Plan, read: Reads) -> tuple[Plan, dict[str, float], float, Domain | None]:
        domain_id, routed = (asked.domain_id, ()) if asked.domain_id is not None else self._found_domain(asked, read)
        most = _MAX_AGENTS if self._explore == "upper-bound" else ALTERNATIVES + 1
        ranked = read(self._repository.top_agents, domain_id, limit=most) if domain_id else None
        top = () if ranked is None else ranked.items
        if not top:
            why = Reason(code="no_agent_yet" if domain_id is not None else "no_request_yet")
            plan = asked.model_copy(update={"domain_id": domain_id, "reasons": (*routed, why)})
            return self._reviewed(plan, KnownTools({}, {}, {}), None), {}, 1.0, None
        best, propensity = self._chosen(top)
        domain = None if domain_id is None else read(self._repository.domain, domain_id)
        chance = _chance(best, asked.category, domain)
        shown = dict.fromkeys((best.agent_id, *(agent.agent_id for agent in top[: ALTERNATIVES + 1])))
        with self._repository.prefetched(tools_of=shown):
            tools = self._tools(shown, read)
        known = self._failing_tools.look(domain_id, tools, set(), user_id=asked.user_id, read=read)
        others = [agent for agent in top if agent is not best]
        plan = asked.model_copy(
            update={
                "domain_id": domain_id,
                "agent_id": best.agent_id,
                "agent": one_line(best.name),
                "alternatives": tuple(_agent_alternative(agent) for agent in others[:ALTERNATIVES]),
                "avoid": known.avoid(best.agent_id, agents=top),
                "source": _source(best, top),
                "runs": best.executions,
                "successes": best.successes,
                "confidence": _expected(_agent_confidence(best), chance),
                "reasons": (*routed, *_agent_reasons(best, top, drawn=propensity < 1)),
            }
        )
        scores = {agent.agent_id: agent.score for agent in top}
        return self._reviewed(plan, known, best, chance, domain), scores, propensity, domain

    def _chosen(self, top: Sequence[Agent]) -> tuple[Agent, float]:
        """Return the best agent, or, in the share `explore` of cases, any; and the probability of that choice.

        With ``upper-bound`` it is the first of those whose interval reaches highest.
        """
        if not self._explore or len(top) == 1:
            return top[0], 1.0
        if isinstance(self._explore, str):
            return max(top, key=lambda agent: _agent_confidence(agent).high), 1.0
        index = int(self._random_number() * len(top)) if self._random_number() < self._explore else 0
        probability = self._explore / len(top) + (1 - self._explore if index == 0 else 0)
        return top[index], probability

    def _found_domain(self, asked: Plan, read: Reads) -> tuple[str | None, tuple[Reason, ...]]:
        """Return the only domain, or the one that the request belongs to, with the reasons for it."""
        domains = read(self._repository.domains, limit=2)
        if domains is not None and len(domains) == 1:
            return domains[0].domain_id, ()
        if self._routing is None or not asked.request:
            return None, ()
        if self._routing.due():
            self._worker.put(self._load_routing, (self._routing,))
        matches = read(self._routing.matches, asked.request, wait=False)
        read.loading |= matches is None and not read.unanswered
        if not matches or (matches[0].basis == "descriptions" and not self._route_by_descriptions):
            return None, ()
        best = matches[0]
        why = Reason(code="routed", values={"domain": best.name, "likelihood": round(100 * best.likelihood)})
        return best.domain_id, (why, best.reason)

    @staticmethod
    def _load_routing(routings: Iterable[Routing]) -> None:
        for routing in routings:
            try:
                routing.load()
            except TableUnavailable as error:
                _log.warning("routing.not_read: could not read what requests are routed by: %s", error)

    def _reviewed(
        self,
        plan: Plan,
        known: KnownTools,
        agent: Agent | None,
        chance: float | None = None,
        domain: Domain | None = None,
    ) -> Plan:
        reasons = []
        least = self._review_below if domain is None or domain.review_below is None else domain.review_below
        low = plan.confidence.low if chance is None and plan.confidence is not None else chance
        if plan.agent_id is None:
            reasons.append(Reason(code="no_agent"))
        elif low is not None and low < least:
            code: ReasonCode = "low_bound" if chance is None else "low_chance"
            reasons.append(Reason(code=code, values={"low": expected_percent(low)}))
        if agent is not None and agent.health is not None:
            values: dict[str, str | int | float] = {
                "agent": one_line(agent.name),
                "successes": agent.revision_successes or 0,
                "runs": agent.revision_executions or 0,
            }
            reasons.append(Reason(code="agent_worse", values=values))
        for ref, name in sorted({(ToolRef(step.agent_id, step.tool_id), step.tool) for step in plan.steps}):
            tool = known.tools.get(ref)
            if ref in known.failing:
                reasons.append(Reason(code="step_fails", values={"tool": name}))
            if tool is not None and tool.needs_review:
                reasons.append(Reason(code="needs_approval", values={"tool": name}))
        return plan.model_copy(update={"needs_review": bool(reasons), "review_reasons": tuple(reasons)})

    # Tools

    def _prefetched_catalogue(self, used: set[ToolRef]) -> AbstractContextManager[None]:
        """Read agents, their tools and the health of these in one round trip.

        The agents' other tools are those that were seen last; where one is new, its health is read by itself.
        """
        agent_ids = {agent_id for agent_id, _ in used}
        known = used.union(
            self._failing_tools.watched(agent_ids), *(self._seen_tools.get(agent_id, ()) for agent_id in agent_ids)
        )
        health: object = self._health
        reads = health.reads(known) if isinstance(health, HealthReads) and known else ()
        wanted = [*map(Agent.at, agent_ids), *map(Domain.at, self._failing_tools.domains_of(agent_ids))]
        return self._repository.prefetched(wanted, tools_of=agent_ids, others=reads)

    def _tools(self, agent_ids: Iterable[str], read: Reads) -> dict[ToolRef, Tool]:
        """Return the tools of these agents; for each agent a cached page is read."""
        found: dict[ToolRef, Tool] = {}
        for agent_id in sorted(set(agent_ids)):
            tools = every(partial(read, self._repository.agent_tools, agent_id))
            found.update({ToolRef(tool.agent_id, tool.tool_id): tool for tool in tools})
        if len(self._seen_tools) > _MAX_SEEN:
            self._seen_tools.clear()
        for agent_id in {tool_ref.agent_id for tool_ref in found}:
            self._seen_tools[agent_id] = [tool_ref for tool_ref in found if tool_ref.agent_id == agent_id]
        return found


def _in_catalogue(found: Candidate, tools: Mapping[ToolRef, Tool]) -> bool:
    """Return whether agent and tools are in the catalogue: nothing else of what others recorded is shown."""
    return found.agent is not None and all(use.tool_ref in tools for use in found.uses)


def _alternative(found: Candidate, agent_id: str, tools: Mapping[ToolRef, Tool]) -> Alternative:
    named = ((tools[use.tool_ref].name if use.tool_ref in tools else use.name) for use in found.uses)
    return Alternative(
        agent_id=agent_id,
        agent=one_line(found.mapping.agents.get(agent_id, agent_id) if found.agent is None else found.agent.name),
        tools=tuple(map(one_line, named)),
        runs=found.mapping.executions,
        confidence=found.confidence,
        source=found.source,
    )


def _source(agent: Agent, top: Sequence[Agent]) -> PlanSource:
    return "best agent of the domain" if agent is top[0] and agent.executions else "agent of the domain"


def _agent_reasons(agent: Agent, top: Sequence[Agent], *, drawn: bool) -> Iterator[Reason]:
    code: ReasonCode = "random_agent" if drawn else "promising_agent"
    if agent is top[0]:
        code = "highest_agent" if agent.executions else "untried_agent"
    yield _agent_reason(code, agent)
    if agent.executions:
        yield _counted(agent.successes, agent.executions)
    following = next((other for other in top if other is not agent and other.executions), None)
    if following is not None and code == "highest_agent":
        yield _agent_reason("next_agent", following)


def _agent_reason(code: ReasonCode, agent: Agent) -> Reason:
    number: dict[str, str | int | float] = {"score": agent.score} if code in ("highest_agent", "next_agent") else {}
    if code == "promising_agent":
        number = {"high": expected_percent(_agent_confidence(agent).high)}
    return Reason(code=code, values={"agent": one_line(agent.name), **number})


def _counted(successes: int | None, runs: int) -> Reason:
    return Reason(code="counted", values={"successes": successes or 0, "runs": runs})


def _chance(agent: Agent | None, category: str | None, domain: Domain | None) -> float | None:
    """Return the chance of success of an agent's run for a category; None without published runs of its domain."""
    known = None if agent is None or domain is None else runs_of(domain.success_counts, category)
    if known is None or agent is None:
        return None
    return chance_of_success(RunCounts(agent.successes or 0, agent.executions or 0), *known)


def _expected(confidence: Confidence, chance: float | None) -> Confidence:
    """Return a confidence with the chance of success as its mean, and an interval that holds it."""
    if chance is None:
        return confidence
    return Confidence(chance, min(confidence.low, chance), max(confidence.high, chance))


def _agent_confidence(agent: Agent) -> Confidence:
    if agent.evidence is not None and agent.evidence_low is not None and agent.evidence_high is not None:
        return Confidence(agent.evidence, agent.evidence_low, agent.evidence_high)
    return confidence_of(agent.successes or 0, agent.executions or 0)


def _agent_alternative(agent: Agent) -> Alternative:
    return Alternative(
        agent_id=agent.agent_id,
        agent=one_line(agent.name),
        runs=agent.executions,
        confidence=_agent_confidence(agent),
        source="best agent of the domain" if agent.executions else "agent of the domain",
    )


def _reasons(found: Candidate, *, passed_over: bool) -> Iterator[Reason]:
    mapping = found.mapping
    category, derived = {"category": one_line(mapping.category)}, is_derived(mapping.category)
    if found.source == "own mapping":
        yield Reason(code="own_kind") if derived else Reason(code="own_category", values=category)
    elif found.source == "own similar request":
        similarity = round(100 * (found.similarity or 0.0))
        yield Reason(
            code="own_similar", values={"similarity": similarity, "request": one_line(found.similar_to, longest=80)}
        )
        if not derived:
            yield Reason(code="in_category", values=category)
    elif found.source == "similar users" and found.category_shown:
        yield Reason(code="others_category", values=category)
    else:
        yield Reason(code="others_kind" if found.source == "similar users" else "others_similar")
    if found.prefix is not None and (found.own or found.category_shown):
        yield Reason(code="category_begins", values=category | {"given": one_line(found.prefix)})
    if mapping.executions:
        yield _counted(mapping.successes, mapping.executions)
    if passed_over:
        yield Reason(code="passed_over")
