"""Read and write typed entities: one method for each access pattern, and gets and writes by id.

Reads ask the cache first and then the table. Without Valkey (none is configured, or it does not answer) the same
methods read the table: the results are the same, only slower.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._redaction import Redaction
from agentmodel._ttl import CACHE_SECONDS
from agentmodel._values.names import takes_names
from agentmodel._values.outcomes import ReportedOutcome, trusted
from agentmodel.access import patterns
from agentmodel.access._numbered_writer import renumbered
from agentmodel.access.pagination import Page, UnreadableItem, read_cursor, split_readable, write_cursor
from agentmodel.config import Ranking
from agentmodel.dynamo.entity import Change, Entity, Item, ItemKey, entity_of
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import INDEX, Query, QueryResult, Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import (
    BatchIncomplete,
    CacheUnavailable,
    CorruptItem,
    CursorError,
    TableUnavailable,
    ValidationError,
)
from agentmodel.traces import outcome

if TYPE_CHECKING:
    from agentmodel.cache import ChangeLog, Leaderboard, ReadThrough, UserCache

__all__ = ["Caches", "Repository", "SessionHistory"]

_E = TypeVar("_E", bound=Entity)
_log = logger(__name__)

_Best: TypeAlias = Callable[[Sequence[UserToolMapping], Ranking], Sequence[UserToolMapping]]

_BEST_SECONDS = 7 * 86_400  # for which what a publish chose is fresh; the next publish chooses again
_PAGE = 100  # entities of a page when the caller passes no limit
_MAX_LIMIT = 1000  # the highest limit that a caller may pass
_MAX_CACHED = 500  # items of a partition that is cached whole; a larger one is read in pages


@dataclass(frozen=True, slots=True)
class Caches:
    """The parts of the cache that the repository uses.

    Attributes:
        read: Items and pages of every user.
        user_cache: A user's own items.
        leaderboard: Agents by score.
        requests: The requests of all users, which a publish ships to every process.

    >>> from agentmodel.cache import ChangeLog, Leaderboard, ReadThrough, UserCache
    >>> valkey = model.valkey
    >>> caches = Caches(ReadThrough(valkey), UserCache(valkey), Leaderboard(valkey), ChangeLog(valkey, "requests"))
    >>> Repository(model.table, model.writer, caches=caches).agent("AGT001").name
    'map agent'
    """

    read: ReadThrough
    user_cache: UserCache
    leaderboard: Leaderboard
    requests: ChangeLog


@dataclass(frozen=True, slots=True)
class SessionHistory:
    """The history of one session: its processes, its tool calls and its reviews.

    Attributes:
        processes: The processes in the order of their numbers, or in reverse when read newest first.
        executions: The tool calls in the order in which they were made, or in reverse.
        reviews: The reviews, which are questions to people.
        cursor: Pass it to the same method to continue after the last item; None at the end.
        unreadable: Items that could not be read.
        complete: False if Valkey could not be asked for what is not in the table yet: records may be missing.

    >>> history = model.repository.session_history("USR001", "SESS2")
    >>> history.outcome(), [(call.tool_name, call.succeeded) for call in history.executions], history.complete
    (False, [('find_on_map', False)], True)
    """

    processes: tuple[UserSessionProcess, ...]
    executions: tuple[ToolExecution, ...]
    reviews: tuple[Review, ...]
    cursor: str | None = None
    unreadable: tuple[UnreadableItem, ...] = ()
    complete: bool = True

    def outcome(self, *, reviewed: bool | None = None, recorded: bool | None = None) -> bool | None:
        """Return whether the session succeeded: as reviewed, as reported, as recorded, else by its calls.

        By its calls it succeeded if the last attempt of each call did that counts. None where nothing says it, or where
        calls may be missing.

        Args:
            reviewed: `UserSession.corrected`.
            recorded: `UserSession.succeeded`.
        """
        calls = sorted(self.executions, key=_call_order)
        agents = {None, *(call.agent_id for call in calls[:1])}
        reported = trusted(
            ReportedOutcome(one.source, one.outcome, one.agent_id is not None, one.decided_at)
            for one in self.reviews
            if one.source is not None and one.outcome is not None and one.agent_id in agents
        )
        said = next((each for each in (reviewed, reported, recorded) if each is not None), None)
        if said is not None or not self.complete or self.cursor is not None:
            return said
        last = {
            (call.process_id, call.agent_id, call.tool_id): succeeded
            for call in calls
            if (succeeded := outcome(call.status, call.succeeded)) is not None
        }
        return all(last.values()) if last else None


class _PartitionTooLarge(Exception):
    """Raised when a partition is too large to be cached whole."""


@dataclass(slots=True)
class _LargePartitions:
    """Partitions that are too large to be cached. All are forgotten now and then, since history expires."""

    names: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        if len(self.names) >= 10_000:
            self.names.clear()
        self.names.add(name)


class Repository:
    """Reads and writes typed entities.

    Args:
        table: The table.
        writer: Writes into the table.
        caches: The caches, or None to read the table only.

    Attributes:
        before_reading: Called with a user's id before items of the user are read; what it waits for is read then.

    >>> repository = Repository(model.table, model.writer)  # without caches it reads the table only
    >>> [agent.name for agent in repository.top_agents("DMN001")]
    ['review agent', 'map agent']
    """

    def __init__(self, table: Table, writer: Writer, *, caches: Caches | None = None) -> None:
        self._table = table
        self._writer = writer
        self._caches = caches
        self._large_partitions = _LargePartitions()
        self.before_reading: Callable[[str], object] = lambda _: None

    @property
    def redaction(self) -> Redaction:
        """What redacts everything that is written."""
        return self._table.redaction

    @property
    def request_log(self) -> ChangeLog | None:
        """The requests of all users as the last publish shipped them; None without Valkey."""
        return None if self._caches is None else self._caches.requests

    # The eight access patterns, in the order of the design

    def domains(self, name: str = "", *, limit: int = _PAGE, cursor: str | None = None) -> Page[Domain]:
        """Return all domains by name, or those whose name begins with ``name`` (access pattern 1).

        >>> [domain.name for domain in model.repository.domains("Store")]
        ['Store search']
        """
        query = patterns.DOMAINS.query(narrow=name)
        return self._catalogue_page(Domain, ("domains", name), query, limit=limit, cursor=cursor)

    @takes_names
    def top_agents(self, domain_id: str, limit: int = 10, *, cursor: str | None = None) -> Page[Agent]:
        """Return the agents of a domain, highest score first (access pattern 2).

        >>> [(agent.name, agent.score) for agent in model.repository.top_agents("DMN001")]
        [('review agent', 3.0), ('map agent', 0.333333)]
        """
        query = patterns.TOP_AGENTS.query(domain_id)
        if cursor is None and self._caches is not None:
            ranked = self._ranked(self._caches.leaderboard, domain_id, _checked_limit(limit))
            if ranked is not None:
                return ranked
        return self._catalogue_page(Agent, ("top_agents", domain_id), query, limit=limit, cursor=cursor)

    @takes_names
    def agents_by_score(self, domain_id: str, limit: int = _PAGE, *, cursor: str | None = None) -> Page[Agent]:
        """Return the same as `top_agents`, always read from the table; a publish makes the ranking from it.

        >>> [agent.name for agent in model.repository.agents_by_score("DMN001", limit=1)]
        ['review agent']
        """
        query = patterns.TOP_AGENTS.query(domain_id)
        query_id = ("agents_by_score", domain_id)

        def page(size: int, after: str | None) -> Page[Agent]:
            found = self._table.query(query, limit=size, start=self._start(query_id, after))
            entities, unreadable = split_readable(found.items, Agent)
            return Page(tuple(entities), _cursor_after(query_id, found.last), tuple(unreadable))

        return _full_page(page, limit, cursor)

    @takes_names
    def domain_tools(self, domain_id: str, limit: int = _PAGE, *, cursor: str | None = None) -> Page[Tool]:
        """Return the tools of all agents of a domain, by tool name (access pattern 3).

        >>> [tool.name for tool in model.repository.domain_tools("DMN001")]
        ['book_table', 'find_on_map', 'read_reviews']
        """
        query = patterns.DOMAIN_TOOLS.query(domain_id)
        return self._catalogue_page(Tool, ("domain_tools", domain_id), query, limit=limit, cursor=cursor)

    @takes_names
    def agent_tools(self, agent_id: str, limit: int = _PAGE, *, cursor: str | None = None) -> Page[Tool]:
        """Return the tools of an agent, by tool id (access pattern 4).

        >>> [tool.tool_id for tool in model.repository.agent_tools("AGT002")]
        ['TL002', 'TL003']
        """
        query = patterns.AGENT_TOOLS.query(agent_id)
        return self._catalogue_page(Tool, ("agent_tools", agent_id), query, limit=limit, cursor=cursor)

    @takes_names
    def sessions(
        self, user_id: str, limit: int = _PAGE, *, newest_first: bool = True, cursor: str | None = None
    ) -> Page[UserSession]:
        """Return the sessions of a user, newest first (access pattern 5). A write is visible to its user at once.

        >>> [session.session_id for session in model.repository.sessions("USR001", limit=2)]
        ['SESS3', 'SESS2']
        """
        query = patterns.SESSIONS.query(user_id, newest_first=newest_first)
        query_id = ("sessions", user_id, newest_first)
        return self._user_page(UserSession, query_id, query, owner=user_id, limit=limit, cursor=cursor)

    @takes_names
    def session_of_source(self, user_id: str, source_id: str) -> UserSession | None:
        """Return the session of a user that was recorded for another system's session, the first one; None if none was.

        A write is visible to its user at once.

        Args:
            user_id: The user.
            source_id: What `UserSession.source_id` has.

        >>> with model.session("USR322", "a café") as session:
        ...     session.entity.source_id = "thread-1"
        >>> model.repository.session_of_source("USR322", "thread-1").session_id == session.session_id
        True
        """
        query, text = patterns.SESSIONS.query(user_id), json.dumps(source_id, ensure_ascii=False)
        wanted = text.encode(errors="replace")  # no item has what cannot be encoded
        found, _, _ = self._user_items(("sessions",), query, user_id, limit=None, cursor=None, having=wanted)
        sessions, _ = split_readable(found, UserSession)
        return next((each for each in reversed(sessions) if each.source_id == source_id), None)

    @takes_names
    def session_history(
        self,
        user_id: str,
        session_id: str,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionHistory:
        """Return processes, executions and reviews of a session, in one read (access pattern 6).

        A write is visible to its user at once.

        Args:
            user_id: The user.
            session_id: The session.
            newest_first: Whether the order is reversed.
            limit: Items of a page; None returns all of them.
            cursor: The cursor of the page before.

        >>> history = model.repository.session_history("USR001", "SESS1")
        >>> [process.name for process in history.processes], [call.values for call in history.executions]
        (['locate'], ['{"place": "park"}'])
        """
        query = patterns.SESSION_HISTORY.query(user_id, session_id, newest_first=newest_first)
        query_id = ("session_history", user_id, session_id, newest_first)
        found, after, complete = self._user_items(query_id, query, user_id, limit=limit, cursor=cursor)
        entities, unreadable = split_readable(found, UserSessionProcess, ToolExecution, Review)
        executions = sorted((e for e in entities if isinstance(e, ToolExecution)), key=_call_order)
        return SessionHistory(
            processes=tuple(e for e in entities if isinstance(e, UserSessionProcess)),
            executions=tuple(reversed(executions) if newest_first else executions),
            reviews=tuple(e for e in entities if isinstance(e, Review)),
            cursor=after,
            unreadable=tuple(unreadable),
            complete=complete,
        )

    def outcome(self, session: UserSession) -> bool | None:
        """Return whether a session succeeded; its calls are read where it says nothing itself.

        See `SessionHistory.outcome`. None where nothing says it.

        >>> session = model.repository.session("USR001", "SESS2")
        >>> model.repository.outcome(session)
        False
        """
        said = session.succeeded if session.corrected is None else session.corrected
        return self.session_history(session.user_id, session.session_id).outcome() if said is None else said

    @takes_names
    def user_mappings(
        self, user_id: str, category: str = "", *, limit: int = _PAGE, cursor: str | None = None
    ) -> Page[UserToolMapping]:
        """Return a user's best known processes, all or by the beginning of their category (access pattern 7).

        >>> [(mapping.category, mapping.successes) for mapping in model.repository.user_mappings("USR002", "cafe")]
        [('cafe search', 3)]
        """
        query = patterns.USER_MAPPINGS.query(user_id, narrow=category)
        query_id = ("user_mappings", user_id, category)
        return self._user_page(UserToolMapping, query_id, query, owner=user_id, limit=limit, cursor=cursor)

    def mappings(self, category: str = "", *, limit: int = _PAGE, cursor: str | None = None) -> Page[UserToolMapping]:
        """Return the best known processes of all users by category, or by its beginning (access pattern 8).

        For operators: they have the users' own words. `AgentModel.suggest` gives a user what it may know of others.

        >>> [mapping.user_id for mapping in model.repository.mappings("cafe search")]
        ['USR001', 'USR002']
        """
        queries = [
            patterns.MAPPINGS.query(number, narrow=category)
            for number in range(self._table.settings.mapping_partitions)
        ]
        query_id = ("mappings", category, len(queries))
        if len(queries) == 1:
            return self._catalogue_page(UserToolMapping, query_id, queries[0], limit=limit, cursor=cursor)
        return _full_page(lambda size, after: self._merged_page(query_id, queries, size, after), limit, cursor)

    # What plans are made of

    @takes_names
    def own_mappings(self, user_id: str, category: str) -> list[UserToolMapping]:
        """Return a user's mapping of exactly this category; where there is none, those whose category begins with it.

        Where the mapping is not cached, one query of the table answers both.

        >>> [mapping.category for mapping in model.repository.own_mappings("USR002", "cafe")]
        ['cafe search']
        """
        key = UserToolMapping.at(user_id, category)
        stored: list[Item] | None = None

        def load() -> Item | None:
            nonlocal stored
            query = patterns.USER_MAPPINGS.query(user_id, narrow=category)
            stored = self._table.query(query, limit=_PAGE, consistent=True).items
            return next((item for item in stored if item["SK"]["S"] == key.sk), None)

        exact = self._get_user_item(key, user_id, load)
        if exact is not None:
            return [exact]
        if stored is None:  # the cached copy is complete, and has no such item
            return list(self.user_mappings(user_id, category))
        return split_readable(stored, UserToolMapping)[0]

    def best_mappings(self, category: str, ranking: Ranking, best: _Best) -> list[UserToolMapping]:
        """Return the best mappings of exactly one category among all users.

        For the planner: they have the users' own words. They are cached, and chosen of the first 100 mappings of the
        category; a publish chooses of all of them.

        Args:
            category: The category.
            ranking: What ``best`` orders by; part of the name of the cached copy.
            best: Returns the best of some mappings, best first.
        """

        def load() -> CachedPage:
            same = [mapping for mapping in self.mappings(category) if mapping.category == category]
            return CachedPage(tuple(map(self._table.item, best(same, ranking))))

        if self._caches is None:
            same = [mapping for mapping in self.mappings(category) if mapping.category == category]
            return list(best(same, ranking))
        from agentmodel.cache import CachedPage  # imports redis; only needed with a cache

        name = _best_name(category, ranking)
        page = self._caches.read.page(name, load, pattern="mappings", ttl=CACHE_SECONDS["mappings"])
        return split_readable(page.items, UserToolMapping)[0]

    def cache_best_mappings(self, category: str, ranking: Ranking, best: Sequence[UserToolMapping]) -> None:
        """Cache the best mappings of a category until the next publish; for a publish, which has seen all of them."""
        if self._caches is not None:
            from agentmodel.cache import CachedPage  # as above

            page = CachedPage(tuple(map(self._table.item, best)))
            self._caches.read.put_page(_best_name(category, ranking), page, ttl=_BEST_SECONDS)

    def mappings_at(self, wanted: Sequence[ItemKey[UserToolMapping]]) -> list[UserToolMapping | None]:
        """Return the mappings of any users under many keys, in the order of the keys, by one request to the table.

        For the planner: they have the users' own words.
        """
        return self._table.get_many(wanted)

    @contextmanager
    def prefetched(
        self,
        wanted: Iterable[ItemKey[Any]] = (),
        *,
        tools_of: Iterable[str] = (),
        tools_in: Iterable[str] = (),
        best: tuple[str, Ranking] | None = None,
        others: Iterable[tuple[Any, ...]] = (),
    ) -> Iterator[None]:
        """Read cached copies in one round trip to Valkey; reads of them in the block and thread are answered by it.

        Args:
            wanted: Keys of domains, agents and users' mappings.
            tools_of: Ids of agents whose tools are read.
            tools_in: Ids of domains whose tools are read.
            best: Category and ranking of `best_mappings`.
            others: Further commands that read.
        """
        caches = self._caches
        names: list[str] = []
        commands = list(others)
        if caches is None:
            yield
            return
        for key in wanted:
            if key.entity is UserToolMapping:
                commands += caches.user_cache.item_reads(key.pk, key.pk, key.sk)
            else:
                names.append(_item_name(key))
        names += [_page_name("agent_tools", Agent.at(agent_id).pk) for agent_id in tools_of]
        names += [_page_name("domain_tools", Domain.at(domain_id).pk) for domain_id in tools_in]
        names += [] if best is None else [_best_name(*best)]
        with caches.read.prefetched(names, commands):
            yield

    # Gets by id

    def domain(self, domain_id: str) -> Domain | None:
        """Return a domain, or None.

        >>> model.repository.domain("DMN001").name
        'Store search'
        """
        return self._get(Domain.at(domain_id))

    def agent(self, agent_id: str) -> Agent | None:
        """Return an agent, or None.

        >>> model.repository.agent("AGT001").name, model.repository.agent("AGT999")
        ('map agent', None)
        """
        return self._get(Agent.at(agent_id))

    def tool(self, agent_id: str, tool_id: str) -> Tool | None:
        """Return a tool of an agent, or None.

        >>> model.repository.tool("AGT002", "TL003").needs_review
        True
        """
        return self._get(Tool.at(agent_id, tool_id))

    def user(self, user_id: str) -> User | None:
        """Return a user, or None.

        >>> model.repository.user("USR001").name
        'Mina'
        """
        return self._get(User.at(user_id))

    @takes_names
    def session(self, user_id: str, session_id: str) -> UserSession | None:
        """Return a session, or None. A write is visible to its user at once.

        >>> model.repository.session("USR001", "SESS1").request
        'a quiet café at the park'
        """
        return self._get_user_item(UserSession.at(user_id, session_id), user_id)

    @takes_names
    def process(self, user_id: str, session_id: str, process_id: str) -> UserSessionProcess | None:
        """Return a process of a session, or None. A write is visible to its user at once.

        >>> model.repository.process("USR001", "SESS1", "PRC001").name
        'locate'
        """
        return self._get_user_item(UserSessionProcess.at(user_id, session_id, process_id), user_id)

    @takes_names
    def execution(
        self, user_id: str, session_id: str, process_id: str, agent_id: str, tool_id: str, *, attempt: int = 1
    ) -> ToolExecution | None:
        """Return a tool call, or None. A write is visible to its user at once.

        >>> model.repository.execution("USR001", "SESS2", "PRC001", "AGT001", "TL001").error_type
        'KeyError'
        """
        return self._get_user_item(
            ToolExecution.at(user_id, session_id, process_id, agent_id, tool_id, attempt), user_id
        )

    @takes_names
    def mapping(self, user_id: str, category: str) -> UserToolMapping | None:
        """Return the best known process for exactly this category of a user, or None.

        >>> model.repository.mapping("USR002", "cafe search").executions
        3
        """
        return self._get_user_item(UserToolMapping.at(user_id, category), user_id)

    # Writes of the catalogue; `Recorder` writes the history

    def put(self, *entities: Entity) -> None:
        """Write entities, replacing what is stored, and drop the cached copies.

        >>> from agentmodel import Domain, User
        >>> model.repository.put(Domain(domain_id="DMN901", name="Hotels"), User(user_id="USR901", name="Ada"))
        >>> model.repository.user("USR901").name
        'Ada'
        """
        before = self._before([entity.key for entity in entities])
        try:
            if len(entities) == 1:
                self._writer.put(entities[0])
            else:
                with self._writer.batch() as batch:
                    for entity in entities:
                        batch.put(entity)
        except (BatchIncomplete, TableUnavailable):  # some of them may be written
            self.invalidate([*entities, *before])
            raise
        self.invalidate([*entities, *before])

    def _before(self, keys: Iterable[ItemKey[Any]]) -> list[Item]:
        """Return the agents and tools that will be replaced, since they may leave the cached pages of a domain."""
        if self._caches is None:
            return []
        return list(self._table.get_items([key.item() for key in dict.fromkeys(keys) if key.entity in (Agent, Tool)]))

    def put_new(self, entity: Entity) -> None:
        """Write an entity unless something is stored under its key.

        Raises:
            AlreadyExists: Something is stored under the key.

        >>> from agentmodel import Domain
        >>> model.repository.put_new(Domain(domain_id="DMN001", name="Hotels"))
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.AlreadyExists: Domain DMN001 / METADATA exists already; nothing was ...
        """
        self._writer.put_new(entity)
        self.invalidate([entity])

    def update(self, target: _E | ItemKey[_E], *changes: Change) -> _E:
        """Change single attributes of a stored item. Its index keys are updated and its cached copies dropped.

            repository.update(Agent.at("AGT001"), Agent.description.to("finds places"))

        Args:
            target: The entity as it was loaded, or the key of an item; see `Writer.update`.
            changes: Made by an attribute's ``to`` or ``plus``.

        Returns:
            The entity as it is stored now.

        Raises:
            NotFound: There is no such item.
            StaleVersion: A part of an index key was changed since the entity was read.
            ValidationError: A part of an index key is unknown, or a change is not possible for its attribute.

        >>> from agentmodel import Domain
        >>> domain = Domain(domain_id="DMN902", name="Hotels")
        >>> model.repository.put(domain)
        >>> model.repository.update(Domain.at("DMN902"), Domain.description.to("finds rooms")).description
        'finds rooms'
        """
        moves = any(change.field.name == "domain_id" for change in changes)
        before: list[Any] = [copy(target)] if isinstance(target, Entity) else []  # of which it may leave the pages
        if moves and isinstance(target, ItemKey):
            before = self._before([target])
        updated = self._writer.update(target, *changes)
        self.invalidate([updated, *before])
        return updated

    def delete(self, entity: Entity) -> None:
        """Delete an entity's item and drop its cached copies.

        >>> from agentmodel import Domain
        >>> domain = Domain(domain_id="DMN903", name="Hotels")
        >>> model.repository.put(domain)
        >>> model.repository.delete(domain)
        >>> model.repository.domain("DMN903")
        """
        self._writer.delete(entity.key)
        self.invalidate([entity])

    def invalidate(self, entities: Iterable[Entity | Mapping[str, Any]], *, rankings: bool = True) -> None:
        """Drop the cached copies of entities that were written or deleted around the repository.

        Args:
            entities: The entities that were written or deleted, or their items, or their keys where no more is known.
            rankings: Whether to drop the rankings of the agents' domains too; False when the caller replaces them.

        >>> from agentmodel import Agent
        >>> agent = Agent(agent_id="AGT931", domain_id="DMN931", name="booker")
        >>> model.writer.put(agent)  # around the repository
        >>> model.repository.invalidate([agent])
        """
        given = list(entities)
        written = [entity for each in given if (entity := _entity_of(each)) is not None]
        bare = [ItemKey(Entity, each["PK"]["S"], each["SK"]["S"]) for each in given if not isinstance(each, Entity)]
        self._drop(
            {name for entity in written for name in _cache_names(entity)} | {_item_name(key) for key in bare},
            {(entity.attribute_values.get("user_id"), entity.pk) for entity in written}
            | {(keys.owner_of(key.pk)[0], key.pk) for key in bare},
            {entity.domain_id for entity in written if rankings and isinstance(entity, Agent)},
        )

    def _drop(self, names: set[str], partitions: set[tuple[str | None, str]], rankings: Collection[str]) -> None:
        """Drop cached copies: those of these names, of these users' partitions, and rankings of domains."""
        if self._caches is None:
            return
        try:
            for owner, partition in partitions:
                if owner:
                    self._caches.user_cache.invalidate(owner, partition)
            for domain_id in rankings:
                self._caches.leaderboard.drop(domain_id)
            self._caches.read.invalidate(names)
        except CacheUnavailable as error:
            _log.warning("could not drop %d cached copies; they stay until they expire: %s", len(names), error)

    # Reading

    def _catalogue_page(
        self, kind: type[_E], query_id: tuple[Any, ...], query: Query, *, limit: int, cursor: str | None
    ) -> Page[_E]:
        return _full_page(
            lambda size, after: self._one_page(kind, query_id, query, limit=size, cursor=after), limit, cursor
        )

    def _one_page(
        self, kind: type[_E], query_id: tuple[Any, ...], query: Query, *, limit: int, cursor: str | None
    ) -> Page[_E]:
        start = self._start(query_id, cursor)
        cached = None if start is not None or limit > _PAGE else self._cached_page(query_id[0], query)
        if cached is not None and (cached.last is None or query == _unnarrowed(query)):
            items, after = _cut(cached.items, query_id, query, limit)
            after = after or _cursor_after(query_id, cached.last)
        else:
            found = self._table.query(query, limit=limit, start=start)
            items, after = found.items, _cursor_after(query_id, found.last)
        entities, unreadable = split_readable(items, kind)
        return Page(tuple(entities), after, tuple(unreadable))

    def _cached_page(self, pattern: str, query: Query) -> QueryResult | None:
        """Return the first page of a pattern, cached whole under one name, so that a write knows what to drop."""
        if self._caches is None:
            return None
        from agentmodel.cache import CachedPage  # imports redis; only needed with a cache

        def load() -> CachedPage:
            found = self._table.query(_unnarrowed(query), limit=_PAGE)
            return CachedPage(tuple(found.items), found.last)

        page = self._caches.read.page(
            _page_name(pattern, query.partition), load, pattern=pattern, ttl=CACHE_SECONDS[pattern]
        )
        return QueryResult(list(page.items), page.last_key)

    def _ranked(self, leaderboard: Leaderboard, domain_id: str, limit: int) -> Page[Agent] | None:
        """Return the first page of a domain's agents from the published ranking; None when there is no ranking."""
        try:
            top = leaderboard.top(domain_id, limit + 1)
        except CacheUnavailable:
            return None
        if top is None:
            return None
        try:
            ranked = [Agent.at(agent_id) for agent_id, _ in top[:limit]]
            with self.prefetched(ranked):
                agents = [self._get(key) for key in ranked]
        except ValidationError as error:  # another program has written into the ranking
            _log.warning("cache.damaged: deleted the ranking of %s, which has no id of an agent: %s", domain_id, error)
            leaderboard.drop(domain_id)
            return None
        stored = [agent for agent in agents if agent is not None]
        if len(stored) < len(agents):
            return None  # an agent was deleted since the publish, so the table is read
        more = len(top) > limit
        query_id = ("top_agents", domain_id)
        return Page(tuple(stored), write_cursor(query_id, _position(stored[-1].to_item(), INDEX)) if more else None)

    def _user_page(
        self, kind: type[_E], query_id: tuple[Any, ...], query: Query, *, owner: str, limit: int, cursor: str | None
    ) -> Page[_E]:
        def page(size: int, after: str | None) -> Page[_E]:
            items, last, complete = self._user_items(query_id, query, owner, limit=size, cursor=after)
            entities, unreadable = split_readable(items, kind)
            return Page(tuple(entities), last, tuple(unreadable), complete)

        return _full_page(page, limit, cursor)

    def _user_items(
        self,
        query_id: tuple[Any, ...],
        query: Query,
        owner: str,
        *,
        limit: int | None,
        cursor: str | None,
        having: bytes = b"",
    ) -> tuple[list[Item], str | None, bool]:
        """Return items, the cursor after them, and whether what is not in the table yet is among them.

        Where ``having`` is given, those without these bytes may be left out.
        """
        if limit is not None:
            limit = _checked_limit(limit)
        self.before_reading(owner)
        start = self._start(query_id, cursor)
        whole, complete = self._whole_partition(query_id[0], owner, query, having=having)
        if whole is not None:
            ordered = whole[::-1] if query.newest_first else whole
            return *_cut(ordered, query_id, query, limit, start=start), complete
        found = self._table.query(query, limit=limit, start=start, consistent=True)
        return found.items, _cursor_after(query_id, found.last), complete

    def _whole_partition(
        self, pattern: str, owner: str, query: Query, *, having: bytes
    ) -> tuple[list[Item] | None, bool]:
        """Return a user's partition with the writes that are not in the table yet, None to read the table instead.

        What the query does not ask for may be left out. Beside it, whether those writes are known.
        """
        partition, prefix = query.partition, query.prefix.encode()

        def wanted(name: bytes, data: bytes) -> bool:
            return name.startswith(prefix) and having in data

        if self._caches is None:
            return None, True
        if partition not in self._large_partitions.names:
            try:
                return self._caches.user_cache.partition(
                    owner, partition, lambda: self._load(partition), pattern=pattern, renumber=renumbered, wanted=wanted
                )
            except _PartitionTooLarge:
                self._large_partitions.add(partition)
        cache = self._caches.user_cache
        try:
            if not cache.pending(owner, partition):
                return None, True  # all of it is in the table, and that is read in pages
            whole = Query(partition)
            return cache.partition(
                owner,
                partition,
                lambda: self._table.query(whole, consistent=True).items,
                cached=False,
                renumber=renumbered,
            )
        except CacheUnavailable:
            return None, False

    def _load(self, partition: str) -> list[Item]:
        found = self._table.query(Query(partition), limit=_MAX_CACHED + 1, consistent=True)
        if len(found.items) > _MAX_CACHED:
            raise _PartitionTooLarge
        return found.items

    def _merged_page(
        self, query_id: tuple[Any, ...], queries: list[Query], limit: int, cursor: str | None
    ) -> Page[UserToolMapping]:
        limit = _checked_limit(limit)
        starts: list[Any] = [None] * len(queries)
        if cursor is not None:
            starts = read_cursor(query_id, cursor)
        streams = [
            self._stream(number, query, start, page_size=min(_PAGE, limit + 1))
            for number, (query, start) in enumerate(zip(queries, starts, strict=True))
        ]
        merged = heapq.merge(*streams, key=lambda each: (each[1]["GSI1_SK"]["S"], each[1]["PK"]["S"]))
        items: list[Item] = []
        for number, item in merged:
            if len(items) == limit:
                entities, unreadable = split_readable(items, UserToolMapping)
                return Page(tuple(entities), write_cursor(query_id, starts), tuple(unreadable))
            items.append(item)
            starts[number] = _position(item, INDEX)
        entities, unreadable = split_readable(items, UserToolMapping)
        return Page(tuple(entities), None, tuple(unreadable))

    def _stream(self, number: int, query: Query, start: Item | None, *, page_size: int) -> Iterator[tuple[int, Item]]:
        while True:
            found = self._table.query(query, limit=page_size, start=start)
            yield from ((number, item) for item in found.items)
            if found.last is None:
                return
            start = found.last

    @staticmethod
    def _start(query_id: tuple[Any, ...], cursor: str | None) -> Item | None:
        if cursor is None:
            return None
        position = read_cursor(query_id, cursor)
        if not isinstance(position, dict):
            raise CursorError(value=cursor)
        return position

    def _get(self, key: ItemKey[_E]) -> _E | None:
        caches = self._caches
        if caches is None:
            return self._table.get(key)

        def load() -> tuple[Item, int] | None:
            item = self._table.get_item(key)
            return None if item is None else (item, int(item.get("Version", {}).get("N", 0)))

        found = caches.read.item(_item_name(key), load, pattern="item", ttl=CACHE_SECONDS["item"])
        return None if found is None else key.entity.from_item(found[0])

    def _get_user_item(self, key: ItemKey[_E], owner: str, load: Callable[[], Item | None] | None = None) -> _E | None:
        """Return a user's own entity, or None; ``load`` reads it from the table.

        Raises:
            CacheUnavailable: The table does not have it, and Valkey, where it may wait, does not answer.
        """
        self.before_reading(owner)
        if self._caches is None:
            return self._table.get(key, consistent=True)
        item, complete = self._caches.user_cache.item(
            owner, key.pk, key.sk, load or (lambda: self._table.get_item(key, consistent=True))
        )
        if item is None:
            if complete:
                return None
            raise CacheUnavailable(
                f"could not find out whether {key.entity.__name__} {key.pk} / {key.sk} exists: the table does not have "
                "it, and Valkey, where it may wait to be written, does not answer; read it again later"
            )
        entity = key.entity.from_item(item)
        entity.complete = complete
        return entity


def _full_page(page_of: Callable[[int, str | None], Page[_E]], limit: int, cursor: str | None) -> Page[_E]:
    """Return a page of ``limit`` entities; read more items when some were unreadable."""
    page = page_of(_checked_limit(limit), cursor)
    while page.cursor is not None and len(page) < limit:
        more = page_of(limit - len(page), page.cursor)
        page = Page(
            page.items + more.items, more.cursor, page.unreadable + more.unreadable, page.complete and more.complete
        )
    return page


def _checked_limit(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MAX_LIMIT:
        raise ValidationError("limit", limit, f"must be a whole number from 1 to {_MAX_LIMIT}")
    return limit


def _cursor_after(query_id: tuple[Any, ...], last: Item | None) -> str | None:
    return None if last is None else write_cursor(query_id, last)


def _unnarrowed(query: Query) -> Query:
    """Return the query of the whole pattern, without the beginning of a name that narrows it."""
    prefix = query.prefix
    if query.partition == keys.DOMAINS.build() or query.partition.startswith(keys.MAPPINGS.build(0)):
        prefix = ""
    return replace(query, prefix=prefix)


def _position(item: Item, index: str | None) -> Item:
    names = ("PK", "SK") if index is None else ("PK", "SK", "GSI1_PK", "GSI1_SK")
    return {name: item[name] for name in names}


def _cut(
    whole: list[Item], query_id: tuple[Any, ...], query: Query, limit: int | None, *, start: Item | None = None
) -> tuple[list[Item], str | None]:
    """Return the part of a whole, sorted partition that a query asks for, and the cursor after it."""
    name = "SK" if query.index is None else "GSI1_SK"
    items = [item for item in whole if item[name]["S"].startswith(query.prefix)]
    if start is not None:
        at = start[name]["S"]
        items = [i for i in items if (i[name]["S"] < at if query.newest_first else i[name]["S"] > at)]
    if limit is None or len(items) <= limit:
        return items, None
    return items[:limit], write_cursor(query_id, _position(items[limit - 1], query.index))


def _call_order(execution: ToolExecution) -> tuple[Any, ...]:
    number = execution.call_number
    return (
        number is None,
        number or 0,
        "" if execution.executed_at is None else keys.format_time("executed_at", execution.executed_at),
        execution.sk,
    )


def _item_name(key: ItemKey[Any]) -> str:
    return f"item:{key.pk}|{key.sk}"


def _page_name(pattern: str, partition: str) -> str:
    return f"{pattern}:{partition}"


def _best_name(category: str, ranking: Ranking) -> str:
    return f"best:{ranking}:{category}"


def _entity_of(written: Entity | Mapping[str, Any]) -> Entity | None:
    """Return the entity of what was written; None of a key, and of an item that no page has, as it cannot be read."""
    if isinstance(written, Entity):
        return written
    kind = entity_of(written)
    try:
        return None if kind is None else kind.from_item(written)
    except CorruptItem:
        return None


def _cache_names(entity: Entity) -> Iterator[str]:
    """Yield the names of the cached copies that hold an entity."""
    yield _item_name(entity.key)
    if isinstance(entity, Domain):
        yield _page_name("domains", keys.DOMAINS.build())
    elif isinstance(entity, Agent):
        yield _page_name("top_agents", keys.DOMAIN.build(entity.domain_id))
    elif isinstance(entity, Tool):
        yield _page_name("domain_tools", keys.DOMAIN.build(entity.domain_id))
        yield _page_name("agent_tools", keys.AGENT.build(entity.agent_id))
    elif isinstance(entity, UserToolMapping):
        yield _page_name("mappings", keys.MAPPINGS.build(entity.index_number))
        yield from (_best_name(entity.category, ranking) for ranking in get_args(Ranking))
