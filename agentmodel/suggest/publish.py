"""Publish: what the warehouse learnt goes back to where requests are answered from.

Agents get their score (and with it their place in the index), the ranking in Valkey is replaced at once, tools get
their share of failures, and each user's best recommended pattern becomes the mapping of its category; history lives as
long as its score says. Runs take turns (`agentmodel.suggest.turns`): once a newer one has begun, an older one writes
nothing any more. What did not change is not written: publishing twice writes nothing, and a publish that was killed is
finished by the next one.

It costs one write for each agent, tool and mapping whose values changed (an agent's is three write units, since its
place in the index moves), one for each item of a session that changes between long and short life, one for the mark of
a newer run, and two to enter and leave it where anything is written. A classic score falls with every day, so a publish
as of another day changes every agent that ever ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agentmodel.access.repository import Near, Repository
from agentmodel.clock import HybridClock
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, Conflict, MissingExtraError, ValidationError
from agentmodel.keys import EXECUTION, parse_time, spread
from agentmodel.suggest.lifetimes import Lifetimes
from agentmodel.suggest.sequences import central
from agentmodel.suggest.turns import Overtaken, Run, Turn
from agentmodel.ttl import expiry

if TYPE_CHECKING:
    from agentmodel.redshift.pipeline import Warehouse
    from agentmodel.redshift.reports import AgentScore, Pattern, ToolFailures
    from agentmodel.suggest.learnt import SessionScore

__all__ = ["Published", "Publisher", "handler", "refresh_and_publish"]

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
        rankings: Domains whose ranking in Valkey was replaced; one that holds these scores already is not.
        unchanged: Items that were as they should be and were not written.
        stale: Items that were left to a newer run.
        unknown: Agents and tools of the history that the catalogue does not have (any more).
        faded: Mappings whose pattern is not recommended any more; they expire sooner.
        extended: Sessions that are kept longer, since their score is high.
        shortened: Sessions that are kept less long, since it fell.
    """

    agents: int = 0
    tools: int = 0
    mappings: int = 0
    rankings: int = 0
    unchanged: int = 0
    stale: int = 0
    unknown: int = 0
    faded: int = 0
    extended: int = 0
    shortened: int = 0


class _Work(NamedTuple):
    ranking: Sequence[AgentScore]
    failures: Sequence[ToolFailures]
    patterns: Sequence[Pattern]
    sessions: Sequence[SessionScore]
    requests: Mapping[tuple[str, str], list[str]]


class Publisher:
    """Writes back what the warehouse learnt.

    Args:
        settings: Names the ranking, the lifetimes and the number of mapping partitions.
        repository: The entities.
        table: The table.
        writer: Its writer.
        near: The cache, or None.
        now: Gives the present time, from which lifetimes count.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        *,
        table: Table,
        writer: Writer,
        near: Near | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._table = table
        self._writer = writer
        self._near = near
        self._now = now

    def publish(self, warehouse: Warehouse, *, as_of: date | datetime, progress: Progress) -> Published:
        """Publish the scores and patterns of the last refresh, counted to ``as_of``.

        Args:
            warehouse: A refreshed warehouse.
            as_of: The day that recency is counted to. With how far the refresh had seen it is the run's number: an
                older run writes nothing after a newer one has begun.
            progress: Told how many agents, tools, mappings and sessions are done.

        Raises:
            ValidationError: ``as_of`` is a datetime without a time zone.
            WarehouseUnavailable: The warehouse does not answer.
            TableUnavailable: The table does not answer; what was written stays, the next publish does the rest.
        """
        from agentmodel.suggest import learnt  # loads SQLAlchemy, which suggesting does without

        run = Run(
            _day(as_of), learnt.seen_until(warehouse)
        )  # before what is published: newer data may wear an older number
        work = self._work(warehouse, as_of)
        done = Published()
        total = sum(len(part) for part in work[:4])
        try:
            turn = Turn.begin(self._table, run)
            self._publish(work, turn, done, progress)
        except Overtaken:
            done.stale = (
                sum(len(part) for part in work[:3])
                - done.agents
                - done.tools
                - done.mappings
                - done.unchanged
                - done.unknown
            )
        progress("publish", total, total)
        return done

    def _publish(self, work: _Work, turn: Turn, done: Published, progress: Progress) -> None:
        """Write what differs, in the turn of this run.

        Raises:
            Overtaken: A newer run has begun; nothing of this one is on its way.
        """
        lifetimes = Lifetimes(self._settings, self._table, near=self._near)
        counts = [len(part) for part in work[:4]]
        try:
            self._agents(work.ranking, turn, done)
            progress("publish", sum(counts[:1]), sum(counts))
            self._tools(work.failures, turn, done)
            progress("publish", sum(counts[:2]), sum(counts))
            self._mappings([self._mapping(p, work.requests, lifetimes) for p in work.patterns], turn, done)
            progress("publish", sum(counts[:3]), sum(counts))
            done.extended, done.shortened = lifetimes.apply(work.sessions, turn)
        except Overtaken:
            turn.leave()
            raise
        turn.end()

    def _work(self, warehouse: Warehouse, as_of: date | datetime) -> _Work:
        from agentmodel.redshift import reports
        from agentmodel.suggest import learnt

        since = self._now() - timedelta(days=self._settings.ttl_days_high + 1)
        return _Work(
            ranking=reports.agent_ranking(warehouse, as_of=as_of, ranking=self._settings.ranking),
            failures=reports.tool_failures(warehouse),
            patterns=_best(reports.recommended_patterns(warehouse, as_of=as_of)),
            sessions=learnt.session_scores(warehouse, as_of=as_of, loaded_since=since),
            requests=learnt.example_requests(warehouse),
        )

    def _agents(self, ranking: Sequence[AgentScore], turn: Turn, done: Published) -> None:
        scored: dict[str, dict[str, float]] = {}
        by_evidence = self._settings.ranking == "evidence"
        for agent, row in self._stored([(Agent.at(row.agent_id), row) for row in ranking], done):
            values = {
                "score": round(row.evidence if by_evidence else row.score, 6),
                "evidence": round(row.evidence, 6),
                "evidence_low": round(row.evidence_low, 6),
                "evidence_high": round(row.evidence_high, 6),
                "executions": row.executions,
                "successes": row.successes,
                "last_run_at": _midnight(row.last_execution),
            }
            written = self._write(agent, values, turn, done)
            done.agents += written is not None
            now = written or agent
            scored.setdefault(now.domain_id, {})[now.agent_id] = now.score
        if self._near is not None:
            for domain_id in sorted(scored):
                done.rankings += self._rank(self._near, domain_id, scored[domain_id], turn.run)

    def _tools(self, failures: Sequence[ToolFailures], turn: Turn, done: Published) -> None:
        keyed = [(Tool.at(row.agent_id, row.tool_id), row) for row in failures]
        for tool, row in self._stored(keyed, done):
            values = {
                "calls": row.calls,
                "errors": row.errors,
                "last_error_at": None if row.last_error_at is None else parse_time(row.last_error_at),
                "last_error": row.last_message,
            }
            done.tools += self._write(tool, values, turn, done) is not None

    def _mappings(self, wanted: Sequence[UserToolMapping], turn: Turn, done: Published) -> None:
        stored = self._table.get_many([mapping.key for mapping in wanted], consistent=True)
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
        )
        for mapping, there in zip(wanted, stored, strict=True):
            values = {name: getattr(mapping, name) for name in (*names, "expires_at")}
            new = there is None
            done.mappings += self._write(mapping if there is None else there, values, turn, done, new=new) is not None
        self._fade({mapping.key for mapping in wanted}, turn, done)

    def _mapping(
        self, pattern: Pattern, requests: Mapping[tuple[str, str], list[str]], lifetimes: Any
    ) -> UserToolMapping:
        score = round(pattern.score, 6)
        agent = self._repository.agent(pattern.agent_id)
        keyed = [(EXECUTION.build(s.process_id, s.agent_id, s.tool_id, 1), s) for s in pattern.steps]
        return UserToolMapping(
            user_id=pattern.user_id,
            category=pattern.category,
            index_number=spread(pattern.user_id, self._settings.mapping_partitions),
            processes={step.process_id: step.process_name or step.tool_name for step in pattern.steps},
            agents={pattern.agent_id: pattern.agent_id if agent is None else agent.name},
            tools={key: step.tool_name for key, step in keyed},
            score=score,
            executions=pattern.executions,
            successes=pattern.successes,
            counts={key: [step.calls, step.successes] for key, step in keyed},
            requests=requests.get((pattern.user_id, pattern.category)),
            expires_at=expiry(self._now(), days=lifetimes.days(score)),
        )

    def _fade(self, wanted: set[ItemKey[UserToolMapping]], turn: Turn, done: Published) -> None:
        """Let the mappings that are not recommended any more expire as what scores low does."""
        until = expiry(self._now(), days=self._settings.ttl_days_low)
        cursor = None
        while True:
            page = self._repository.mappings(limit=1000, cursor=cursor)  # more than a near page: from the table
            for mapping in page:
                published = mapping.scored_at is not None and mapping.expires_at is not None
                due = turn.fencing or not _same("expires_at", mapping.expires_at, until)
                if published and due and mapping.key not in wanted:
                    shorter = min(until, mapping.expires_at or until)
                    done.faded += self._write(mapping, {"expires_at": shorter}, turn, done, new=None) is not None
            cursor = page.cursor
            if cursor is None:
                return

    def _rank(self, near: Near, domain_id: str, scored: Mapping[str, float], run: Run) -> bool:
        """Replace the ranking of a domain: all its agents, also those that were not scored now; whether it differed.

        One that does not differ is replaced too where an older run left it: so it carries the mark of the newer one.
        The index may lag behind the writes of this publish, so what was written counts before what it says.
        """
        scores: dict[str, float] = {}
        cursor = None
        while True:
            page = self._repository.agents_by_score(domain_id, cursor=cursor)
            scores.update({agent.agent_id: agent.score for agent in page})
            cursor = page.cursor
            if cursor is None:
                break
        scores.update(scored)
        try:
            number, held = near.leaderboard.published(domain_id)
            if held == scores and number >= run.number:
                return False
            replaced: bool = near.leaderboard.replace(domain_id, scores, run.number)
        except CacheUnavailable:
            return False  # reads go to the index, which has the scores; the next publish replaces the ranking
        return replaced and held != scores

    def _stored(self, keyed: Sequence[tuple[ItemKey[S], Any]], done: Published) -> Iterable[tuple[S, Any]]:
        found = self._table.get_many([key for key, _ in keyed], consistent=True)
        for entity, (_, row) in zip(found, keyed, strict=True):
            if entity is None:
                done.unknown += 1
            else:
                yield entity, row

    def _write(
        self, entity: S, values: dict[str, Any], turn: Turn, done: Published, *, new: bool | None = False
    ) -> S | None:
        """Write an entity with these values, unless a newer run wrote it; the entity as it was written.

        Args:
            entity: As it was read, or, where ``new``, as it is to be.
            values: What is to be written of it.
            turn: The turn of this run.
            done: What is counted.
            new: Nothing was stored; what somebody deletes meanwhile is made again only if it was new.

        Raises:
            Overtaken: A newer run has begun.
        """
        run = turn.run
        for _ in range(_TRIES):
            if entity.scored_at is not None and entity.scored_at.date() > run.day:
                done.stale += 1
                return None
            same = not new and all(_same(name, getattr(entity, name), value) for name, value in values.items())
            if same and not turn.fencing:
                done.unchanged += new is not None
                return None
            turn.enter()
            for name, value in (values | {"scored_at": run.at}).items():
                setattr(entity, name, value)
            try:
                self._save(entity, new=bool(new))
            except Conflict:
                turn.check()  # somebody else wrote it: a newer run, or a person
                there = self._table.get(entity.key, consistent=True)
                if there is None and not new:
                    done.unknown += 1  # somebody deleted it: it stays deleted
                    return None
                entity, new = (entity, new) if there is None else (there, False)
                continue
            self._repository.changed([entity], rankings=False)
            return entity
        done.stale += 1
        return None

    def _save(self, entity: Entity, *, new: bool) -> None:
        if new:
            self._writer.put_new(entity)
        else:
            self._writer.save(entity, existing=True)


def _day(as_of: date | datetime) -> date:
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ValidationError("as_of", as_of, "give a date, or an aware datetime")
    return as_of.astimezone(UTC).date()


def _same(name: str, stored: Any, wanted: Any) -> bool:
    if name == "expires_at" and stored is not None and wanted is not None:
        drift: float = abs((stored - wanted).total_seconds())
        return drift < 86_400  # a day's drift of an expiry is not worth a write
    return bool(stored == wanted)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _best(patterns: Iterable[Pattern]) -> list[Pattern]:
    """The best recommended pattern of each user and category; patterns without a category have no mapping.

    Of equals the most central: most sequences are run once, and the one that is nearest to all stands best for them.
    """
    places: dict[tuple[str, str], list[Pattern]] = {}
    for pattern in patterns:
        if pattern.category and pattern.steps and pattern.successes:
            places.setdefault((pattern.user_id, pattern.category), []).append(pattern)
    return [_best_of(places[place]) for place in sorted(places)]


def _best_of(patterns: Sequence[Pattern]) -> Pattern:
    top = max((round(pattern.score, 6), pattern.successes) for pattern in patterns)
    equals = [pattern for pattern in patterns if (round(pattern.score, 6), pattern.successes) == top]
    if len(equals) == 1:
        return equals[0]
    apart = central([_tools(each) for each in equals], [_tools(each) for each in patterns])
    return min(zip(apart, equals, strict=True), key=lambda pair: (pair[0], _tools(pair[1]), pair[1].agent_id))[1]


def _tools(pattern: Pattern) -> list[str]:
    return [step.tool_name for step in pattern.steps]


# Where nobody holds the stations in hand: a schedule, AWS Lambda


def refresh_and_publish(
    settings: Settings, *, as_of: date | datetime | None = None, progress: Progress | None = None
) -> Published:
    """Refresh the warehouse of an installation and publish what it learnt.

    Args:
        settings: The installation.
        as_of: The day that recency is counted to; today (UTC) when not given.
        progress: Told how far it is.

    Raises:
        ConfigurationError: No warehouse is set.
        MissingExtraError: Its packages are not installed.
        Unavailable: A store does not answer; running it again does the rest.
    """
    when = as_of if as_of is not None else datetime.now(UTC)
    with _stations(settings) as (publisher, warehouse, table):
        if warehouse.lands_here:
            from agentmodel.redshift.intake import take_in

            take_in(warehouse, table, settings.feed, progress=progress)
        warehouse.refresh(as_of=when, progress=progress)
        return publisher.publish(warehouse, as_of=when, progress=progress or _silent)


def _silent(what: str, done: int, of: int) -> None:
    """Shows no progress."""


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001  # Lambda passes both
    """AWS Lambda's entry point: refresh and publish, as ``AGENTMODEL_*`` says.

    Args:
        event: ``as_of``, an ISO 8601 date or time, is read; anything else is ignored, so that any schedule can call.
        context: Lambda's; not used.

    Returns:
        The counts of `Published`, and ``as_of``.

    Raises:
        ValidationError: ``as_of`` is no date.
    """
    when = _asked(event.get("as_of"))
    published = refresh_and_publish(Settings.load(), as_of=when)
    return {"as_of": when.isoformat(), **asdict(published)}


def _asked(text: object) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValidationError("as_of", text, "an ISO 8601 date or time, such as 2025-06-14") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


@contextmanager
def _stations(settings: Settings) -> Iterator[tuple[Publisher, Warehouse, Table]]:
    if settings.warehouse_url is None:
        raise ConfigurationError(
            "there is no warehouse: set AGENTMODEL_WAREHOUSE_URL, such as duckdb:///history.duckdb"
        )
    try:
        from agentmodel.redshift.pipeline import Warehouse
    except ModuleNotFoundError as error:
        extra = "local" if settings.warehouse_url.startswith("duckdb") else "redshift"
        raise MissingExtraError(extra, "the warehouse", error.name) from error
    with ExitStack() as stack:
        table = stack.enter_context(Table(settings))
        writer = Writer(table, clock=HybridClock())
        near = None if settings.valkey_url is None else _near(settings, stack)
        warehouse = stack.enter_context(
            Warehouse.open(
                settings.warehouse_url, landed_table=settings.landed_table, half_life_days=settings.half_life_days
            )
        )
        warehouse.create()
        repository = Repository(table, writer, near=near)
        yield Publisher(settings, repository, table=table, writer=writer, near=near), warehouse, table


def _near(settings: Settings, stack: ExitStack) -> Near:
    from agentmodel.cache.client import Valkey
    from agentmodel.cache.leaderboard import Leaderboard
    from agentmodel.cache.read import ReadThrough
    from agentmodel.cache.recent import Recent

    valkey = stack.enter_context(Valkey(settings))
    read = ReadThrough(valkey)
    stack.callback(read.close)
    return Near(read, Recent(valkey), Leaderboard(valkey))
