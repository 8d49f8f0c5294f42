"""Publish: write what the warehouse computed back to where requests are answered from.

Agents get their score (and with it their place in the index), the ranking in Valkey is replaced at once, tools get
their failure rate, and each user's best recommended pattern becomes the mapping of its category. History is kept as
long as its score says. Once a newer run has begun, an older one writes nothing more (see
`agentmodel.suggest.publish._fencing`). What did not change is not written, so publishing twice writes nothing, and a
publish that was killed is finished by the next one.

It costs one write for each agent, tool, mapping and domain whose values changed (an agent's is three write units, since
its place in the index moves), one for each item of a session whose retention changes, with several domains one for each
domain and one more where their newest requests changed, and one for the run item of a newer run. Where anything is
written, two more are for the publisher's entry in that item, and two for the lease. Age is counted
from the newest execution of a domain, so a run on a new day changes the scores of all agents of its domain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from agentmodel._erasure_marks import ErasureMarks, user_key
from agentmodel._log import logger
from agentmodel._rate_interval import rate_interval
from agentmodel._ttl import expiry
from agentmodel.access.pagination import every
from agentmodel.access.repository import Caches, Repository
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.dynamo.models import Agent, Domain, Tool, UserToolMapping
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import CacheUnavailable, Conflict, CorruptItem, Rejected, ValidationError
from agentmodel.keys import EXECUTION, mapping_partition, parse_time
from agentmodel.suggest._chance import Cells, least_likely, packed_counts
from agentmodel.suggest._routing_store import RoutingStore
from agentmodel.suggest._sequences import packed_sequences, total_distances
from agentmodel.suggest.publish._fencing import OutOfTime, PublishLease, PublishRun, Superseded
from agentmodel.suggest.publish._retention import Retention
from agentmodel.suggest.publish._routing_data import newest_requests, ship
from agentmodel.suggest.publish._run_writes import run_writes
from agentmodel.suggest.publish._shipping import ship_mappings

if TYPE_CHECKING:
    from agentmodel._runtime.lease import Lease
    from agentmodel.redshift.reports import AgentScore, RecommendedPattern, ToolFailures
    from agentmodel.redshift.score import Evidence
    from agentmodel.redshift.warehouse import Warehouse
    from agentmodel.suggest._routing_store import Request
    from agentmodel.suggest.publish._warehouse_queries import SessionScore

__all__ = ["Published", "Publisher"]

S = TypeVar("S", Agent, Domain, Tool, UserToolMapping)
_Sequences = list[tuple[int, list[str]]]  # of tools, each with how often it was run
Progress = Callable[[str, int, int], None]
_Mappings: TypeAlias = dict[ItemKey[UserToolMapping], UserToolMapping]

_log = logger(__name__)
_PAGE = 1000  # more than a cached page has, so that what is compared is read from the table
_TOLD = 100  # mappings, between two calls of `progress`
_RATE_DRIFT = 0.02  # of a domain's success rate, which alone is not worth a write
_ATTEMPTS = 5  # of a write, while others write first


@dataclass(slots=True)
class Published:
    """Counts of what a publish wrote.

    Attributes:
        agents: Agents that got a new score.
        tools: Tools that got a new failure rate.
        mappings: Mappings that were created or changed.
        rankings: Domains whose ranking in Valkey was replaced; one that has these scores already is not.
        unchanged: Items that had the right values and were not written.
        stale: Items that were not written, because a newer run writes them.
        unknown: Agents, tools and domains of the history that are not in the catalogue.
        retired: Mappings whose pattern is no longer recommended, and which now expire sooner.
        extended: Sessions that are kept longer than before, because their score is high.
        shortened: Sessions that are kept shorter than before, because their score fell.
        routes: Domains whose requests are routed by; 0 where these were the same before.
        domains: Domains that got other counts of their runs, or other sequences of tools to predict next tools from.
        stopped: Domains in which plans are not given any more, because they did harm; see `AgentModel.impact`.
        refused: Items that are damaged, or do not fit into the table with what was found, such as a mapping of a
            sequence of thousands of calls.
        regressed: Agents whose present revision was found to be worse than the ones before; see `Agent.health`.

    >>> published = model.publish()
    >>> published.stale, published.refused
    (0, 0)
    """

    agents: int = 0
    tools: int = 0
    mappings: int = 0
    rankings: int = 0
    unchanged: int = 0
    stale: int = 0
    unknown: int = 0
    retired: int = 0
    extended: int = 0
    shortened: int = 0
    routes: int = 0
    domains: int = 0
    stopped: int = 0
    refused: int = 0
    regressed: int = 0


class _WarehouseResults(NamedTuple):
    ranking: Sequence[AgentScore]
    failures: Sequence[ToolFailures]
    patterns: Sequence[RecommendedPattern]
    sessions: Sequence[SessionScore]
    requests: Mapping[tuple[str, str], list[str]]
    routes: dict[str, list[Request]]
    of_domains: Mapping[str, _Sequences]
    cells: Mapping[str, Cells]
    of_categories: Mapping[tuple[str, str], _Sequences]


class Publisher:
    """Writes what the warehouse computed back into table and cache.

    Args:
        settings: Say which ranking, how long history is kept, and over how many partitions mappings are spread.
        repository: Reads entities, and drops cached copies of those that are written.
        table: The table.
        writer: Writes into the table.
        caches: The cache, or None.
        now: Returns the present time, from which the expiry of mappings is counted.

    >>> from datetime import UTC, datetime
    >>> from agentmodel.suggest.publish import Publisher
    >>> publisher = Publisher(model.settings, model.repository, table=model.table, writer=model.writer)
    >>> published = publisher.publish(model.warehouse, as_of=datetime.now(UTC), progress=lambda what, done, of: None)
    >>> published.refused, published.regressed
    (0, 0)
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        *,
        table: Table,
        writer: Writer,
        caches: Caches | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._table = table
        self._writer = writer
        self._caches = caches
        self._retention = Retention(settings, table, caches=caches)
        self._now = now

    def publish(
        self,
        warehouse: Warehouse,
        *,
        as_of: date | datetime,
        progress: Progress,
        before_writing: AbstractContextManager[Lease] | None = None,
    ) -> Published:
        """Publish the scores and patterns of the last refresh, counted to ``as_of``.

        Args:
            warehouse: A refreshed warehouse.
            as_of: The day that recency is counted to. Together with how far the refresh had seen it identifies the
                run: an older run writes nothing after a newer one has begun.
            progress: Called with how many agents, tools, mappings and sessions are done, and of how many. It may raise
                `OutOfTime`.
            before_writing: Entered before the first write, and left at the end: the lease of publishing.

        Returns:
            The counts of what was written.

        Raises:
            ValidationError: ``as_of`` is a datetime without a time zone.
            LeaseHeld: Another publish writes.
            WarehouseUnavailable: The warehouse does not answer.
            TableUnavailable: The table does not answer; what was written stays, and the next publish does the rest.
        """
        from agentmodel.suggest.publish import _warehouse_queries as queries  # loads SQLAlchemy, so not at the top

        with warehouse.snapshot():  # a refresh may commit meanwhile
            run = PublishRun(_day(as_of), queries.seen_until(warehouse))
            read_at = time_ns() // 1_000_000 << 16  # as a version, see `agentmodel._runtime.clock`
            results = self._results(warehouse, as_of)
        done = Published()
        total = sum(len(part) for part in results[:4])
        mappings: Collection[UserToolMapping] | None = None
        try:
            with ExitStack() as stack:
                lease = PublishLease.begin(self._table, run)
                lease.before_entry = lambda: before_writing and stack.enter_context(before_writing)
                mappings = self._publish(warehouse, results, lease, done, progress)
        except Superseded:
            done.stale = (
                sum(len(part) for part in results[:3])
                - done.agents
                - done.tools
                - done.mappings
                - done.unchanged
                - done.unknown
            )
        erased = self._take_back_erased(results, read_at)
        if mappings is not None:
            left = [mapping for mapping in mappings if not erased or user_key(mapping.user_id) not in erased]
            ship_mappings(self._repository, left, self._settings.ranking, lambda: self._erased_since(read_at))
        progress("publish", total, total)
        return done

    def _erased_since(self, read_at: int) -> set[str]:
        """Return the keys of the users who were erased after the results were read."""
        return {mark.user_key for mark in ErasureMarks(self._table).all() if mark.covers_learned(read_at)}

    def _take_back_erased(self, results: _WarehouseResults, read_at: int) -> set[str]:
        """Take back what was written of users who were erased after the results were read; return their keys."""
        erased = self._erased_since(read_at)
        if not erased:
            return erased
        RoutingStore(self._table).erase(erased)
        for pattern in results.patterns:
            if user_key(pattern.user_id) in erased:
                key = UserToolMapping.at(pattern.user_id, pattern.category)
                mapping = self._table.get(key, consistent=True)
                if mapping is not None:
                    self._repository.delete(mapping)
        for row in results.failures:
            tool = self._table.get(Tool.at(row.agent_id, row.tool_id), consistent=True)
            if tool is not None and tool.last_error_by in erased:
                self._repository.update(tool.key, Tool.last_error.to(None), Tool.last_error_by.to(None))
        return erased

    def _publish(
        self,
        warehouse: Warehouse,
        results: _WarehouseResults,
        lease: PublishLease,
        done: Published,
        progress: Progress,
    ) -> Collection[UserToolMapping]:
        """Write what differs, while this run holds the lease; return all mappings as they are stored then.

        Raises:
            Superseded: A newer run has begun; none of this run's writes is on the way.
            OutOfTime: `progress` says so; likewise.
        """
        counts = [len(part) for part in results[:4]]

        def further(part: int) -> Callable[[int], None]:
            return lambda number: progress("publish", sum(counts[:part]) + number, sum(counts))

        try:
            self._agents(results.ranking, lease, done)
            progress("publish", sum(counts[:1]), sum(counts))
            self._tools(results.failures, lease, done)
            progress("publish", sum(counts[:2]), sum(counts))
            self._domains(results, lease, done)
            mappings = self._mappings(warehouse, results, lease, done, further(2))
            progress("publish", sum(counts[:3]), sum(counts))
            done.routes = ship(results.routes, self._repository, self._table, lease)
            done.extended, done.shortened = self._retention.apply(results.sessions, lease, further(3))
        except (OutOfTime, Superseded):
            lease.give_up()
            raise
        lease.end()
        return mappings.values()

    def _results(self, warehouse: Warehouse, as_of: date | datetime) -> _WarehouseResults:
        from agentmodel.redshift import reports
        from agentmodel.suggest.publish import _warehouse_queries as queries

        of_domains, of_categories = queries.tool_sequences(warehouse)
        return _WarehouseResults(
            ranking=reports.agent_ranking(warehouse, as_of=as_of, ranking=self._settings.ranking),
            failures=reports.tool_failures(warehouse),
            patterns=_best(reports.recommended_patterns(warehouse, as_of=as_of)),
            sessions=queries.session_scores(warehouse, self._settings, as_of=as_of, now=self._now()),
            requests=reports.example_requests(warehouse),
            routes=newest_requests(warehouse),
            of_domains=of_domains,
            cells=queries.cells(warehouse),
            of_categories=of_categories,
        )

    def _agents(self, ranking: Sequence[AgentScore], lease: PublishLease, done: Published) -> None:
        """Write the numbers of all agents, and the ranking of each domain."""
        from agentmodel.redshift.score import domain_rate, evidence

        rows = {row.agent_id: row for row in ranking}
        rates = {row.domain_id: row.domain_rate for row in ranking}
        for domain_id, agents in self._agents_by_domain(ranking, done).items():
            rate = rates.get(domain_id, domain_rate(0, 0))
            untried = evidence(rate, 0, rate=rate)
            numbers = {agent_id: _numbers(rows.get(agent_id), untried) for agent_id in agents}
            order = "evidence" if self._settings.ranking == "evidence" else "score"
            scores = _distinct({agent_id: each[order] for agent_id, each in numbers.items()}, agents)
            for agent_id, agent in agents.items():
                values = numbers[agent_id] | {"score": scores[agent_id]}
                if agent.scored_at is None:
                    values["rating"] = _rating(agent)
                written = None
                regressed = values["health_note"] is not None and agent.health is None
                with _alone(agent, done):
                    written = self._write(agent, values, lease, done)
                done.agents += written is not None
                if regressed and written is not None:
                    done.regressed += 1
                    _log.warning("agent.regressed: %s: %s", agent_id, values["health_note"])
                scores[agent_id] = (written or agent).score
            if self._caches is not None and self._rank(self._caches, domain_id, scores, lease.run):
                done.rankings += 1
                # a process without Valkey may have written the scores, and left older copies
                self._repository.invalidate(agents.values(), rankings=False)

    def _agents_by_domain(self, ranking: Sequence[AgentScore], done: Published) -> dict[str, dict[str, Agent]]:
        """Return the agents of every domain, those without executions included, by domain and id.

        The index may lag behind, so agents with executions are read by their keys.
        """
        ran = [agent for agent, _ in self._stored([(Agent.at(row.agent_id), row) for row in ranking], done)]
        domains = {domain.domain_id for domain in every(self._repository.domains, limit=_PAGE)}
        domains |= {agent.domain_id for agent in ran}
        found: dict[str, dict[str, Agent]] = {}
        known = {row.agent_id for row in ranking}
        for domain_id in sorted(domains):
            others = every(partial(self._repository.agents_by_score, domain_id), limit=_PAGE)
            agents = [
                *(one for one in ran if one.domain_id == domain_id),
                *(one for one in others if one.agent_id not in known),
            ]
            if agents:
                found[domain_id] = {agent.agent_id: agent for agent in agents}
        return found

    def _tools(self, failures: Sequence[ToolFailures], lease: PublishLease, done: Published) -> None:
        keyed = [(Tool.at(row.agent_id, row.tool_id), row) for row in failures]
        for tool, row in self._stored(keyed, done):
            values = {
                "calls": row.calls,
                "errors": row.errors,
                "last_error_at": None if row.last_error_at is None else parse_time(row.last_error_at),
                "last_error": row.last_message,
                "last_error_by": row.last_error_by,
            }
            with _alone(tool, done):
                done.tools += self._write(tool, values, lease, done) is not None

    def _domains(self, results: _WarehouseResults, lease: PublishLease, done: Published) -> None:
        """Write how the runs of each domain went, and its sequences whose tools are all in the catalogue.

        They are shown to all users.
        """
        found, share = results.of_domains, self._settings.review_share
        for domain, sequences in self._stored([(Domain.at(each), found[each]) for each in sorted(found)], done):
            names = {tool.name for tool in every(partial(self._repository.domain_tools, domain.domain_id), limit=_PAGE)}
            shown = [each for each in sequences if names.issuperset(each[1])]
            cells = results.cells.get(domain.domain_id, {})
            values = {
                "sequences": packed_sequences(shown),
                "success_counts": packed_counts(cells),
                "review_below": None if share is None else round(least_likely(cells, share), 6),
            }
            with _alone(domain, done):
                done.domains += self._write(domain, values, lease, done) is not None

    def _mappings(
        self,
        warehouse: Warehouse,
        results: _WarehouseResults,
        lease: PublishLease,
        done: Published,
        further: Callable[[int], None],
    ) -> _Mappings:
        """Write the mappings that are recommended, let others expire; return all as they are stored then."""
        found: _Mappings = {}
        keys = [UserToolMapping.at(pattern.user_id, pattern.category) for pattern in results.patterns]
        stored = self._table.get_many(keys, consistent=True, readable=True)
        rates = {row.domain_id: row.domain_rate for row in results.ranking}
        writes = run_writes(warehouse, stored, rates=rates, read_only=self._read_only)
        wanted = [self._mapping(pattern, results, writes) for pattern in results.patterns]
        names = (
            "index_number",
            "processes",
            "agents",
            "tools",
            "score",
            "executions",
            "successes",
            "counts",
            "requests",
            "sequences",
            "writes",
        )
        for number, (mapping, current) in enumerate(zip(wanted, stored, strict=True)):
            if number % _TOLD == 0:
                further(number)
            values = {name: getattr(mapping, name) for name in (*names, "expires_at")}
            entity = mapping if current is None else current
            with _alone(entity, done):
                written = self._write(entity, values, lease, done, new=current is None)
                done.mappings += written is not None
                if latest := written or current:
                    found[latest.key] = latest
        return self._retire({mapping.key for mapping in wanted}, lease, done) | found

    def _mapping(
        self,
        pattern: RecommendedPattern,
        results: _WarehouseResults,
        writes: Mapping[tuple[str, str, str], dict[str, Any]],
    ) -> UserToolMapping:
        score = round(pattern.score, 6)
        agent = self._repository.agent(pattern.agent_id)
        scope = (agent.domain_id if agent else "", pattern.user_id, pattern.category)
        keyed = [(EXECUTION.build(s.process_id, s.agent_id, s.tool_id, 1), s) for s in pattern.steps]
        return UserToolMapping(
            user_id=pattern.user_id,
            category=pattern.category,
            index_number=mapping_partition(pattern.user_id, self._settings.mapping_partitions),
            processes={step.process_id: step.process_name or step.tool_name for step in pattern.steps},
            agents={pattern.agent_id: pattern.agent_id if agent is None else agent.name},
            tools={key: step.tool_name for key, step in keyed},
            score=score,
            executions=pattern.executions,
            successes=pattern.successes,
            counts={key: [step.calls, step.successes] for key, step in keyed},
            requests=results.requests.get((pattern.user_id, pattern.category)),
            sequences=packed_sequences(results.of_categories.get((pattern.user_id, pattern.category), [])),
            writes=writes.get(scope),
            expires_at=expiry(self._now(), days=self._retention.days(score)),
        )

    def _read_only(self, domain_id: str) -> set[str]:
        """Return the names of the tools of a domain that only read."""
        tools = every(partial(self._repository.domain_tools, domain_id), limit=_PAGE)
        return {tool.name for tool in tools if tool.read_only}

    def _retire(self, wanted: set[ItemKey[UserToolMapping]], lease: PublishLease, done: Published) -> _Mappings:
        """Let mappings that are no longer recommended expire as soon as history with a low score does; return all."""
        found: _Mappings = {}
        until = expiry(self._now(), days=self._settings.ttl_days_low)
        for mapping in every(self._repository.mappings, limit=_PAGE):
            found[mapping.key] = mapping
            published = mapping.scored_at is not None and mapping.expires_at is not None
            due = lease.fencing or not _same("expires_at", mapping.expires_at, until)
            if published and due and mapping.key not in wanted:
                shorter = min(until, mapping.expires_at or until)
                done.retired += self._write(mapping, {"expires_at": shorter}, lease, done, new=None) is not None
        return found

    def _rank(self, caches: Caches, domain_id: str, scores: Mapping[str, float], run: PublishRun) -> bool:
        """Replace the ranking of a domain by the scores of all its agents; return whether they differed.

        A ranking with the same scores is replaced too where an older run wrote it, so that it has the number of the
        newer one.
        """
        try:
            number, current = caches.leaderboard.published(domain_id)
            if current == scores and number >= run.number:
                return False
            replaced: bool = caches.leaderboard.replace(domain_id, scores, run.number)
        except CacheUnavailable:
            caches.leaderboard.drop(domain_id)  # a full Valkey deletes; readers use the index until the next publish
            return False
        return replaced and current != scores

    def _stored(self, keyed: Sequence[tuple[ItemKey[S], Any]], done: Published) -> Iterable[tuple[S, Any]]:
        found = self._table.get_many([key for key, _ in keyed], consistent=True, readable=True)
        for entity, (_, row) in zip(found, keyed, strict=True):
            if entity is None:
                done.unknown += 1
            else:
                yield entity, row

    def _write(
        self, entity: S, values: dict[str, Any], lease: PublishLease, done: Published, *, new: bool | None = False
    ) -> S | None:
        """Write an entity with these values, unless a newer run wrote it.

        Args:
            entity: The entity as it was read, or, with ``new``, as it is to be created.
            values: The attributes to write.
            lease: The lease of this run.
            done: The counts, which are updated.
            new: Whether nothing was stored. An item that was deleted meanwhile is created again only if it was new.
                None writes like False, and counts an item that has the values already as nothing.

        Returns:
            The entity as it was written, or None where it was not.

        Raises:
            Superseded: A newer run has begun.
        """
        run = lease.run
        for _ in range(_ATTEMPTS):
            if entity.scored_at is not None and entity.scored_at.date() > run.day:
                done.stale += 1
                return None
            same = not new and all(_same(name, getattr(entity, name), value) for name, value in values.items())
            if same and not lease.fencing:
                done.unchanged += new is not None
                return None
            lease.enter()
            for name, value in (values | {"scored_at": run.at}).items():
                setattr(entity, name, value)
            try:
                self._save(entity, new=bool(new))
            except Conflict:
                lease.check()  # somebody else wrote the item: a newer run, or a person
                stored = self._table.get(entity.key, consistent=True)
                if stored is None and not new:
                    done.unknown += 1  # a person deleted it, and it stays deleted
                    return None
                entity, new = (entity, new) if stored is None else (stored, False)
                continue
            self._repository.invalidate([entity], rankings=False)
            return entity
        done.stale += 1
        return None

    def _save(self, entity: Entity, *, new: bool) -> None:
        if new:
            self._writer.put_new(entity)
        else:
            self._writer.save(entity, existing=True)


def _numbers(row: AgentScore | None, untried: Evidence) -> dict[str, Any]:
    """Return the numbers of an agent to be written; without executions its evidence is the prior of its domain."""
    mean, low, high = untried if row is None else (row.evidence, row.evidence_low, row.evidence_high)
    worse = None if row is None else _regression(row)
    return {
        "score": 0.0 if row is None else round(row.score, 6),
        "evidence": round(mean, 6),
        "evidence_low": round(low, 6),
        "evidence_high": round(high, 6),
        "executions": 0 if row is None else row.executions,
        "successes": 0 if row is None else row.successes,
        "last_run_at": None if row is None else _midnight(row.last_execution),
        "ranked_revision": None if row is None else row.revision,
        "revision_executions": None if row is None or row.revision is None else row.revision_executions,
        "revision_successes": None if row is None or row.revision is None else row.revision_successes,
        "health": None if worse is None else "regressed",
        "health_note": worse,
    }


def _regression(row: AgentScore) -> str | None:
    """Return how much worse an agent's present revision is than the ones before, if their 90 % intervals part."""
    before = row.executions - row.revision_executions
    if row.revision is None or not before:
        return None
    good = row.successes - row.revision_successes
    if rate_interval(row.revision_successes, row.revision_executions)[1] >= rate_interval(good, before)[0]:
        return None
    return (
        f"revision {row.revision} succeeded in {row.revision_successes} of {row.revision_executions} runs, earlier "
        f"revisions in {good} of {before}"
    )


def _rating(agent: Agent) -> float | None:
    """Return the rating by hand; before the first publish a score is one, too."""
    typed = agent.score if agent.scored_at is None and agent.score else None
    return typed if agent.rating is None else agent.rating


def _distinct(scores: Mapping[str, float], agents: Mapping[str, Agent]) -> dict[str, float]:
    """Return scores of which no two are equal, so that the index and the ranking in Valkey have one order.

    Of equal scores, that of the agent with the higher rating is raised by a millionth; else that of the first by id.
    """
    found: dict[str, float] = {}
    above = 0.0
    for agent_id in sorted(sorted(scores, reverse=True), key=lambda each: (scores[each], _rating(agents[each]) or 0.0)):
        found[agent_id] = round(max(scores[agent_id], above), 6)
        above = found[agent_id] + 1e-6
    return found


@contextmanager
def _alone(entity: Entity, done: Published) -> Iterator[None]:
    """Let an item that cannot be written, or that is stored and damaged, stop no other one."""
    try:
        yield
    except (ValidationError, Rejected, CorruptItem) as error:
        # without the item's key, which has a user's category
        why = f"{error.field} {error.rule}" if isinstance(error, ValidationError) else error.code
        _log.warning("publish.refused: a %s was not written: %s", entity.kind, why)
        done.refused += 1


def _day(as_of: date | datetime) -> date:
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ValidationError("as_of", as_of, "must be a date or a datetime with a time zone")
    return as_of.astimezone(UTC).date()


def _same(name: str, stored: Any, wanted: Any) -> bool:
    if name == "expires_at" and stored is not None and wanted is not None:
        drift: float = abs((stored - wanted).total_seconds())
        return drift < 86_400  # to move an expiry by less than a day is not worth a write
    if name == "writes" and stored and wanted:  # a prior, which every run of the domain moves a little
        near = abs(stored.get("rate", 0.0) - wanted["rate"]) < _RATE_DRIFT
        return near and {**stored, "rate": 0} == {**wanted, "rate": 0}
    return bool(stored == wanted)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _best(patterns: Iterable[RecommendedPattern]) -> list[RecommendedPattern]:
    """Return the best recommended pattern of each user and category; one without a category becomes no mapping.

    Most sequences are run once, so many are equal; of these, the one with the smallest distance to all is returned.
    """
    by_category: dict[tuple[str, str], list[RecommendedPattern]] = {}
    for pattern in patterns:
        if pattern.category and pattern.steps and pattern.successes:
            by_category.setdefault((pattern.user_id, pattern.category), []).append(pattern)
    return [_best_of(by_category[key]) for key in sorted(by_category)]


def _best_of(patterns: Sequence[RecommendedPattern]) -> RecommendedPattern:
    top = max((round(pattern.score, 6), pattern.successes) for pattern in patterns)
    equals = [pattern for pattern in patterns if (round(pattern.score, 6), pattern.successes) == top]
    if len(equals) == 1:
        return equals[0]
    distances = total_distances([_tools(each) for each in equals], [_tools(each) for each in patterns])
    return min(zip(distances, equals, strict=True), key=lambda pair: (pair[0], _tools(pair[1]), pair[1].agent_id))[1]


def _tools(pattern: RecommendedPattern) -> list[str]:
    return [step.tool_name for step in pattern.steps]
