"""Publish: what the warehouse learnt goes back to where requests are answered from.

Agents get their score (and with it their place in the index), the ranking in Valkey is replaced at once, tools get
their share of failures, and each user's best recommended pattern becomes the mapping of its category. Every write
asks whether a newer run was there first, and what did not change is not written: publishing twice writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, TypeVar

from agentmodel.access.repository import Near, Repository
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import CacheUnavailable, Conflict
from agentmodel.keys import EXECUTION, parse_time, spread
from agentmodel.redshift import reports
from agentmodel.ttl import expiry

if TYPE_CHECKING:
    from agentmodel.redshift.pipeline import Warehouse

__all__ = ["Published", "Publisher"]

S = TypeVar("S", Agent, Tool, UserToolMapping)
Progress = Callable[[str, int, int], None]

_TRIES = 5  # of a write that somebody else came before


@dataclass(slots=True)
class Published:
    """What a publish wrote.

    Attributes:
        agents: Agents that got a new score.
        tools: Tools that got a new share of failures.
        mappings: Mappings that were made or changed.
        rankings: Domains whose ranking in Valkey was replaced.
        unchanged: Items that were as they should be and were not written.
        stale: Items that a newer run had written.
        unknown: Agents and tools of the history that the catalogue does not have.
    """

    agents: int = 0
    tools: int = 0
    mappings: int = 0
    rankings: int = 0
    unchanged: int = 0
    stale: int = 0
    unknown: int = 0


class Publisher:
    """Writes back what the warehouse learnt.

    Args:
        settings: Names the ranking, the lifetimes and the number of mapping partitions.
        repository: The entities.
        table: The table.
        writer: Its writer.
        near: The cache, or None.
    """

    def __init__(
        self, settings: Settings, repository: Repository, *, table: Table, writer: Writer, near: Near | None = None
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._table = table
        self._writer = writer
        self._near = near

    def publish(self, warehouse: Warehouse, *, as_of: date | datetime, progress: Progress) -> Published:
        """Publish the scores and patterns of the last refresh, counted to ``as_of``."""
        run = as_of if isinstance(as_of, datetime) else datetime.combine(as_of, time(), UTC)
        done = Published()
        ranking = reports.agent_ranking(warehouse, as_of=as_of, ranking=self._settings.ranking)
        failures = reports.tool_failures(warehouse)
        patterns = _best(reports.recommended_patterns(warehouse, as_of=as_of))
        total = len(ranking) + len(failures) + len(patterns)
        scored = self._agents(ranking, run, done)
        progress("publish", len(ranking), total)
        self._tools(failures, run, done)
        progress("publish", len(ranking) + len(failures), total)
        self._mappings(patterns, run, done)
        progress("publish", total, total)
        self._rankings(scored, run, done)
        return done

    def _agents(
        self, ranking: Sequence[reports.AgentScore], run: datetime, done: Published
    ) -> dict[str, dict[str, float]]:
        """Score the agents; the scores they have now, by domain."""
        scored: dict[str, dict[str, float]] = {}
        rows = {row.agent_id: row for row in ranking}
        for agent, row in self._stored([(Agent.at(row.agent_id), row) for row in rows.values()], done):
            evidence = self._settings.ranking == "evidence"
            values = {
                "score": round(row.evidence if evidence else row.score, 6),
                "evidence": round(row.evidence, 6),
                "evidence_low": round(row.evidence_low, 6),
                "evidence_high": round(row.evidence_high, 6),
                "executions": row.executions,
                "successes": row.successes,
                "last_run_at": _midnight(row.last_execution),
            }
            done.agents += self._write(agent, values, run, done)
            scored.setdefault(agent.domain_id, {})[agent.agent_id] = agent.score
        return scored

    def _tools(self, failures: Sequence[reports.ToolFailures], run: datetime, done: Published) -> None:
        keyed = [(Tool.at(row.agent_id, row.tool_id), row) for row in failures]
        for tool, row in self._stored(keyed, done):
            values = {
                "calls": row.calls,
                "errors": row.errors,
                "last_error_at": None if row.last_error_at is None else parse_time(row.last_error_at),
                "last_error": row.last_message,
            }
            done.tools += self._write(tool, values, run, done)

    def _mappings(self, patterns: Sequence[reports.Pattern], run: datetime, done: Published) -> None:
        wanted = [self._mapping(pattern) for pattern in patterns]
        stored = self._table.get_many([mapping.key for mapping in wanted], consistent=True)
        for mapping, there in zip(wanted, stored, strict=True):
            values = {
                name: getattr(mapping, name)
                for name in ("processes", "agents", "tools", "score", "executions", "successes", "expires_at")
            }
            done.mappings += self._write(mapping if there is None else there, values, run, done, new=there is None)

    def _mapping(self, pattern: reports.Pattern) -> UserToolMapping:
        score = round(pattern.score, 6)
        days = self._settings.ttl_days_high if score >= self._settings.ttl_score else self._settings.ttl_days_low
        last = _midnight(pattern.last_used)
        names = self._repository.agent(pattern.agent_id)
        return UserToolMapping(
            user_id=pattern.user_id,
            category=pattern.category,
            index_number=spread(pattern.user_id, self._settings.mapping_partitions),
            processes={step.process_id: step.process_name or step.tool_name for step in pattern.steps},
            agents={pattern.agent_id: pattern.agent_id if names is None else names.name},
            tools={
                EXECUTION.build(step.process_id, step.agent_id, step.tool_id, 1): step.tool_name
                for step in pattern.steps
            },
            score=score,
            executions=pattern.executions,
            successes=pattern.successes,
            expires_at=None if last is None else expiry(max(last, datetime.now(UTC)), days=days),
        )

    def _rankings(self, scored: Mapping[str, Mapping[str, float]], run: datetime, done: Published) -> None:
        """Replace the ranking of each domain: all its agents, also those that were not scored now.

        The index may lag behind the writes of this publish, so what was written counts before what it says.
        """
        for domain_id in sorted(scored):
            scores: dict[str, float] = {}
            cursor = None
            while True:
                page = self._repository.agents_by_score(domain_id, cursor=cursor)
                scores.update({agent.agent_id: agent.score for agent in page})
                cursor = page.cursor
                if cursor is None:
                    break
            scores.update(scored[domain_id])
            if self._near is not None:
                done.rankings += self._replace(domain_id, scores, run)

    def _replace(self, domain_id: str, scores: dict[str, float], run: datetime) -> bool:
        assert self._near is not None
        try:
            replaced: bool = self._near.leaderboard.replace(domain_id, scores, int(run.timestamp() * 1000))
        except CacheUnavailable:
            return False  # reads go to the index, which has the scores; the next publish replaces the ranking
        return replaced

    def _stored(self, keyed: Sequence[tuple[ItemKey[S], Any]], done: Published) -> Iterable[tuple[S, Any]]:
        found = self._table.get_many([key for key, _ in keyed], consistent=True)
        for entity, (_, row) in zip(found, keyed, strict=True):
            if entity is None:
                done.unknown += 1
            else:
                yield entity, row

    def _write(
        self, entity: S, values: dict[str, Any], run: datetime, done: Published, *, new: bool = False
    ) -> bool:
        """Write an entity with these values, unless a newer run wrote it; whether it was written."""
        for _ in range(_TRIES):
            if entity.scored_at is not None and entity.scored_at > run:
                done.stale += 1
                return False
            if not new and all(_same(name, getattr(entity, name), value) for name, value in values.items()):
                done.unchanged += 1
                return False
            for name, value in (values | {"scored_at": run}).items():
                setattr(entity, name, value)
            try:
                self._save(entity, new=new)
            except Conflict:
                there = self._table.get(entity.key, consistent=True)
                if there is None:
                    new = True
                else:
                    entity, new = there, False
                continue
            self._repository.changed([entity])
            return True
        done.stale += 1
        return False

    def _save(self, entity: Entity, *, new: bool) -> None:
        if new:
            self._writer.put_new(entity)
        else:
            self._writer.save(entity)


def _same(name: str, stored: Any, wanted: Any) -> bool:
    if name == "expires_at" and stored is not None and wanted is not None:
        return abs((stored - wanted).total_seconds()) < 86_400  # a day's drift of an expiry is not worth a write
    return bool(stored == wanted)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _best(patterns: Iterable[reports.Pattern]) -> list[reports.Pattern]:
    """The best recommended pattern of each user and category; patterns without a category have no mapping."""
    best: dict[tuple[str, str], reports.Pattern] = {}
    for pattern in patterns:
        place = (pattern.user_id, pattern.category)
        if pattern.category and pattern.steps and pattern.successes and _better(pattern, best.get(place)):
            best[place] = pattern
    return [best[place] for place in sorted(best)]


def _better(one: reports.Pattern, other: reports.Pattern | None) -> bool:
    return other is None or (one.score, one.successes, one.tool_sequence) > (other.score, other.successes, other.tool_sequence)
