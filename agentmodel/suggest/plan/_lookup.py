"""Lookup: the published mappings that could be the plan for a request, in the order in which they are looked for.

The user's own mapping of the category comes first, then the user's own mapping of a similar request, the best mappings
of the category among all users, and those of similar requests among all users. Where there is no mapping of exactly the
category, those count whose category begins with it, the shortest category first. The anonymous user is many people, so
it has no mappings of its own.

A derived category is made of its user's words: it is found by its whole name or by the request only, and its name is
not shown to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from agentmodel._values.categories import is_derived, kept_text
from agentmodel.access.pagination import every
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.config import Ranking
from agentmodel.dynamo.entity import ItemKey
from agentmodel.dynamo.models import Agent, Domain, UserToolMapping
from agentmodel.exceptions import TableUnavailable
from agentmodel.keys import EXECUTION
from agentmodel.suggest._sequences import total_distances
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.plan._plan import Confidence, Plan, PlanSource, confidence_of
from agentmodel.suggest.plan._similar_requests import SimilarRequests
from agentmodel.suggest.plan._similarity import Similarity
from agentmodel.suggest.plan._snapshot import Match

__all__ = ["ALTERNATIVES", "Candidate", "Lookup", "Reads", "ToolUse", "best_of_category"]

_T = TypeVar("_T")

ALTERNATIVES = 3  # the most in a plan
_BEST = ALTERNATIVES + 2  # mappings of a category that are kept: one of them may be of the user who asks
_MAX_COMPARED = 200  # mappings of a category: with more, equal ones are not ordered by their distances
_READ = 8  # mappings of similar requests that are read from the table
_USERS_OF_A_SHOWN_CATEGORY = 3  # who have to have a category before its name is shown to others


class Reads:
    """The reads of one request: what the table does not answer is left out, and counted.

    Attributes:
        unanswered: Errors of the table.
        loading: Whether the requests of all users were wanted and are not loaded yet.
    """

    def __init__(self) -> None:
        self.unanswered: list[TableUnavailable] = []
        self.loading = False

    def __call__(self, read: Callable[..., _T], *args: Any, **named: Any) -> _T | None:
        """Return what the repository has; None if that is not cached and the table does not answer."""
        try:
            return read(*args, **named)
        except TableUnavailable as error:
            self.unanswered.append(error)
            return None


class ToolUse(NamedTuple):
    """One use of a tool in a mapping: its process, the tool, its name, and the key that its calls are counted under."""

    process: str
    tool_ref: ToolRef
    name: str
    key: str


@dataclass(slots=True)
class Candidate:
    """A mapping that could be the plan, and how it was found."""

    mapping: UserToolMapping
    source: PlanSource
    similar_to: str | None = None
    similarity: float | None = None
    category_shown: bool = False
    prefix: str | None = None  # by which the category was found
    agent: Agent | None = None
    uses: list[ToolUse] = field(default_factory=list)

    @property
    def own(self) -> bool:
        """Whether it is a mapping of the user who asks."""
        return self.source in ("own mapping", "own similar request")

    @property
    def agent_id(self) -> str | None:
        return self.uses[0].tool_ref[0] if self.uses else next(iter(self.mapping.agents), None)

    @property
    def confidence(self) -> Confidence:
        prior = 0.5 if self.agent is None or self.agent.evidence is None else self.agent.evidence
        return confidence_of(self.mapping.successes or 0, self.mapping.executions or 0, prior=prior)


class Lookup:
    """Looks for mappings.

    Args:
        repository: Reads what was published.
        similarity: Measures how similar requests are.
        ranking: The number that orders mappings of several users: their score, or the expected success rate.
    """

    def __init__(self, repository: Repository, similarity: Similarity, ranking: Ranking) -> None:
        self._repository = repository
        self._similarity = similarity
        self._ranking: Ranking = ranking
        self.index = SimilarRequests(repository, similarity)

    def prefetched(self, asked: Plan) -> AbstractContextManager[None]:
        """Read what every request asks for in one round trip; the reads within the block are answered by it."""
        keys: list[ItemKey[Any]] = [] if asked.domain_id is None else [Domain.at(asked.domain_id)]
        if asked.category and asked.user_id != ANONYMOUS:
            keys.append(UserToolMapping.at(asked.user_id, asked.category))
        return self._repository.prefetched(keys, best=(asked.category, self._ranking) if asked.category else None)

    def candidates(self, asked: Plan, read: Reads) -> list[Candidate]:
        """Return the mappings that could be the plan, in the order of the lookup, each once; without their agents."""
        return _once(self._own_or_same_category(asked, read)) or self.of_other_users(asked, read)

    def of_other_users(self, asked: Plan, read: Reads) -> list[Candidate]:
        """Return the mappings of other users' similar requests, likewise; none where there is no request."""
        return _once(self._of_all_users(asked.request, asked.user_id, read)) if asked.request else []

    def with_agents(self, found: Sequence[Candidate], asked: Plan, read: Reads) -> list[Candidate]:
        """Read the agents of candidates; return those whose agent is of the domain that is asked for, if any is."""
        known: dict[str, Agent | None] = {}
        for each in found:
            if each.agent_id is not None:
                if each.agent_id not in known:
                    known[each.agent_id] = read(self._repository.agent, each.agent_id)
                each.agent = known[each.agent_id]
        if asked.domain_id is None:
            return list(found)
        return [each for each in found if each.agent is not None and each.agent.domain_id == asked.domain_id]

    def _own_or_same_category(self, asked: Plan, read: Reads) -> Iterator[Candidate]:
        anonymous = asked.user_id == ANONYMOUS
        if asked.category and not anonymous:
            key = UserToolMapping.at(asked.user_id, asked.category)
            own = read(self._repository.own_mappings, asked.user_id, asked.category) or []
            for mapping in sorted(own, key=lambda one: (len(one.category), one.category))[: ALTERNATIVES + 1]:
                if mapping.key == key:
                    yield Candidate(mapping, "own mapping")
                elif not is_derived(asked.category):
                    yield Candidate(mapping, "own mapping", prefix=asked.category)
        if asked.request and not anonymous:
            yield from self._similar(
                kept_text(asked.request),
                every(partial(read, self._repository.user_mappings, asked.user_id)),
                "own similar request",
            )
        if asked.category:
            yield from self._of_category(asked.category, read, user_id=None if anonymous else asked.user_id)

    def _of_category(self, category: str, read: Reads, *, user_id: str | None) -> Iterator[Candidate]:
        """Yield other users' mappings of the category, else those of the shortest one that begins with it."""
        best = read(self._repository.best_mappings, category, self._ranking, best_of_category) or ()
        prefix = None
        if not is_derived(category) and all(mapping.user_id == user_id for mapping in best):
            longer: dict[str, list[UserToolMapping]] = {}
            for mapping in read(self._repository.mappings, category) or ():
                longer.setdefault(mapping.category, []).append(mapping)
            others = {name for name, having in longer.items() if any(each.user_id != user_id for each in having)}
            if others:
                prefix = min(others, key=lambda name: (len(name), name))
                best = best_of_category(longer[prefix], self._ranking)
        users = len({mapping.user_id for mapping in best} - {ANONYMOUS})
        shown = users >= _USERS_OF_A_SHOWN_CATEGORY and not is_derived(category)
        for mapping in [mapping for mapping in best if mapping.user_id != user_id][: ALTERNATIVES + 1]:
            yield Candidate(mapping, "similar users", category_shown=shown, prefix=prefix and category)

    def _of_all_users(self, request: str, user_id: str, read: Reads) -> list[Candidate]:
        """Return the mappings of similar requests of other users; the nearest of the index are read from the table."""
        matches = self.index.nearest(kept_text(request))
        if matches is None:
            read.loading = True
            return []
        own = None if user_id == ANONYMOUS else user_id
        matches.sort(
            key=lambda match: (round(match.similarity, 2), confidence_of(match.successes, match.executions)),
            reverse=True,
        )
        nearest: dict[ItemKey[UserToolMapping], Match] = {}
        for match in matches:
            if match.user_id != own:
                nearest.setdefault(UserToolMapping.at(match.user_id, match.category), match)
        keys = list(nearest)[:_READ]
        found = [
            Candidate(mapping, "similar requests of all users", match.request, match.similarity)
            for key, mapping in zip(keys, read(self._repository.mappings_at, keys) or (), strict=False)
            if mapping is not None and (match := nearest[key]).request in (mapping.requests or ())  # not changed since
        ]
        return self._best_first(found)

    def _similar(self, request: str, mappings: Iterable[UserToolMapping], source: PlanSource) -> list[Candidate]:
        """Return the mappings of similar requests, the most similar first; of equals, the better one first."""
        texts = [(text, mapping) for mapping in mappings for text in (mapping.requests or ())]
        scores = self._similarity.scores(request, [text for text, _ in texts])
        close = [
            Candidate(mapping, source, text, similarity)
            for similarity, (text, mapping) in zip(scores, texts, strict=True)
            if similarity >= self._similarity.threshold
        ]
        return self._best_first(close)

    def _best_first(self, found: list[Candidate]) -> list[Candidate]:
        found.sort(key=lambda each: (round(each.similarity or 0.0, 2), self.rank(each.mapping)), reverse=True)
        return found[: ALTERNATIVES + 1]

    def rank(self, mapping: UserToolMapping) -> tuple[float, int]:
        """Return what orders mappings; the greatest is the best."""
        return _rank(mapping, self._ranking)


def _once(found: Iterable[Candidate]) -> list[Candidate]:
    first: dict[ItemKey[UserToolMapping], Candidate] = {}
    for each in found:
        each.uses = list(_uses(each.mapping))
        first.setdefault(each.mapping.key, each)
    return list(first.values())


def best_of_category(mappings: Sequence[UserToolMapping], ranking: Ranking) -> list[UserToolMapping]:
    """Return the best mappings of one category, the best first; of equals, the one with the smallest distances."""
    sequences = [list(mapping.tools.values()) for mapping in mappings]
    distances = total_distances(sequences, sequences) if len(mappings) <= _MAX_COMPARED else [0.0] * len(mappings)
    ordered = sorted(
        zip(mappings, distances, strict=True), key=lambda each: (*_rank(each[0], ranking), -each[1]), reverse=True
    )
    return [mapping for mapping, _ in ordered[:_BEST]]


def _rank(mapping: UserToolMapping, ranking: Ranking) -> tuple[float, int]:
    successes = mapping.successes or 0
    if ranking == "evidence":
        return confidence_of(successes, mapping.executions or 0).mean, successes
    return mapping.score or 0.0, successes


def _uses(mapping: UserToolMapping) -> Iterator[ToolUse]:
    for key, name in mapping.tools.items():
        process_id, agent_id, tool_id, _ = EXECUTION.parse(key)
        yield ToolUse(mapping.processes.get(process_id, name), ToolRef(agent_id, tool_id), name, key)
