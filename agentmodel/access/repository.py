"""Repository: the access patterns, one method each, cache first, then table; and gets and writes by id.

Without Valkey (no setting, or none that answers) the same methods read the table: same results, slower.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from agentmodel import keys
from agentmodel.access import patterns
from agentmodel.access.pages import Aside, Page, read_cursor, sorted_out, write_cursor
from agentmodel.dynamo.attributes import Change
from agentmodel.dynamo.entity import Entity, Item, ItemKey
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
from agentmodel.dynamo.table import INDEX, Found, Query, Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import BatchIncomplete, CacheUnavailable, CursorError, TableUnavailable, ValidationError
from agentmodel.ttl import NEAR_SECONDS

if TYPE_CHECKING:
    from agentmodel.cache.leaderboard import Leaderboard
    from agentmodel.cache.read import ReadThrough
    from agentmodel.cache.recent import Recent

__all__ = ["Near", "Repository", "SessionHistory"]

E = TypeVar("E", bound=Entity)
_log = logging.getLogger(__name__)

PAGE = 100  # entities of a page when the caller does not say
MOST = 1000  # and the most a caller may ask for at once
_WHOLE = 500  # items of a partition that are read at once; above, it is read in pages


@dataclass(frozen=True, slots=True)
class Near:
    """The parts of the cache that reads use."""

    read: ReadThrough
    recent: Recent
    leaderboard: Leaderboard


@dataclass(frozen=True, slots=True)
class SessionHistory:
    """Everything of one session: what was done, by which tools, and what people were asked.

    Attributes:
        processes: The steps, in the order of their numbers (or the reverse, when asked newest first).
        executions: The tool calls in the order they were made (or the reverse).
        reviews: Questions to people.
        cursor: Continues after the last item; None at the end.
        aside: Items that could not be read.
    """

    processes: tuple[UserSessionProcess, ...]
    executions: tuple[ToolExecution, ...]
    reviews: tuple[Review, ...]
    cursor: str | None = None
    aside: tuple[Aside, ...] = ()


class _TooLarge(Exception):
    """A partition is too large to be read at once."""


@dataclass(slots=True)
class _Large:
    """Partitions found too large to be kept near; forgotten now and then, since history expires."""

    names: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        if len(self.names) >= 10_000:
            self.names.clear()
        self.names.add(name)


class Repository:
    """Reads and writes typed entities.

    Args:
        table: The table.
        writer: Its writer.
        near: The cache, or None.
    """

    def __init__(self, table: Table, writer: Writer, *, near: Near | None = None) -> None:
        self._table = table
        self._writer = writer
        self._near = near
        self._large = _Large()

    # The eight access patterns, in the order of the design

    def domains(self, name: str = "", *, limit: int = PAGE, cursor: str | None = None) -> Page[Domain]:
        """1: all domains by name, or those whose name begins with ``name``."""
        query = patterns.DOMAINS.query(narrow=name)
        return self._shared(Domain, ("domains", name), query, limit=limit, cursor=cursor)

    def top_agents(self, domain_id: str, limit: int = 10, *, cursor: str | None = None) -> Page[Agent]:
        """2: the agents of a domain, highest score first."""
        query = patterns.TOP_AGENTS.query(domain_id)
        if cursor is None and self._near is not None:
            ranked = self._ranked(self._near.leaderboard, domain_id, _checked_limit(limit))
            if ranked is not None:
                return ranked
        return self._shared(Agent, ("top_agents", domain_id), query, limit=limit, cursor=cursor)

    def agents_by_score(self, domain_id: str, limit: int = PAGE, *, cursor: str | None = None) -> Page[Agent]:
        """As `top_agents`, but from the table itself: what a publish makes the ranking of."""
        query = patterns.TOP_AGENTS.query(domain_id)
        asked = ("agents_by_score", domain_id)

        def page(most: int, after: str | None) -> Page[Agent]:
            found = self._table.query(query, limit=most, start=self._start(asked, after))
            entities, aside = sorted_out(found.items, Agent)
            return Page(tuple(entities), _after(asked, found.last), tuple(aside))

        return _filled(page, limit, cursor)

    def domain_tools(self, domain_id: str, limit: int = PAGE, *, cursor: str | None = None) -> Page[Tool]:
        """3: the tools of all agents of a domain, by tool name."""
        query = patterns.DOMAIN_TOOLS.query(domain_id)
        return self._shared(Tool, ("domain_tools", domain_id), query, limit=limit, cursor=cursor)

    def agent_tools(self, agent_id: str, limit: int = PAGE, *, cursor: str | None = None) -> Page[Tool]:
        """4: the tools of an agent, by tool id."""
        query = patterns.AGENT_TOOLS.query(agent_id)
        return self._shared(Tool, ("agent_tools", agent_id), query, limit=limit, cursor=cursor)

    def sessions(
        self, user_id: str, limit: int = PAGE, *, newest_first: bool = True, cursor: str | None = None
    ) -> Page[UserSession]:
        """5: the sessions of a user, newest first; the user's own writes are seen at once."""
        query = patterns.SESSIONS.query(user_id, newest_first=newest_first)
        asked = ("sessions", user_id, newest_first)
        return self._own(UserSession, asked, query, owner=user_id, limit=limit, cursor=cursor)

    def session_history(
        self,
        user_id: str,
        session_id: str,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionHistory:
        """6: processes, executions and reviews of a session, in one read; the user's own writes are seen at once.

        Args:
            user_id: The user.
            session_id: The session.
            newest_first: The last ones first.
            limit: Items a page; None for all of them.
            cursor: Continues a page.
        """
        query = patterns.SESSION_HISTORY.query(user_id, session_id, newest_first=newest_first)
        asked = ("session_history", user_id, session_id, newest_first)
        found, after = self._own_items(asked, query, user_id, limit=limit, cursor=cursor)
        entities, aside = sorted_out(found, UserSessionProcess, ToolExecution, Review)
        executions = sorted((e for e in entities if isinstance(e, ToolExecution)), key=_call_order)
        return SessionHistory(
            processes=tuple(e for e in entities if isinstance(e, UserSessionProcess)),
            executions=tuple(reversed(executions) if newest_first else executions),
            reviews=tuple(e for e in entities if isinstance(e, Review)),
            cursor=after,
            aside=tuple(aside),
        )

    def user_mappings(
        self, user_id: str, category: str = "", *, limit: int = PAGE, cursor: str | None = None
    ) -> Page[UserToolMapping]:
        """7: the best known ways for a user's requests, or for the categories that begin with ``category``."""
        query = patterns.USER_MAPPINGS.query(user_id, narrow=category)
        asked = ("user_mappings", user_id, category)
        return self._own(UserToolMapping, asked, query, owner=user_id, limit=limit, cursor=cursor)

    def mappings(self, category: str = "", *, limit: int = PAGE, cursor: str | None = None) -> Page[UserToolMapping]:
        """8: the best known ways of all users, by category, or for those that begin with ``category``."""
        queries = [
            patterns.MAPPINGS.query(number, narrow=category)
            for number in range(self._table.settings.mapping_partitions)
        ]
        asked = ("mappings", category, len(queries))
        if len(queries) == 1:
            return self._shared(UserToolMapping, asked, queries[0], limit=limit, cursor=cursor)
        return _filled(lambda most, after: self._gathered(asked, queries, most, after), limit, cursor)

    # Gets by id

    def domain(self, domain_id: str) -> Domain | None:
        """A domain, or None."""
        return self._get(Domain.at(domain_id))

    def agent(self, agent_id: str) -> Agent | None:
        """An agent, or None."""
        return self._get(Agent.at(agent_id))

    def tool(self, agent_id: str, tool_id: str) -> Tool | None:
        """A tool of an agent, or None."""
        return self._get(Tool.at(agent_id, tool_id))

    def user(self, user_id: str) -> User | None:
        """A user, or None."""
        return self._get(User.at(user_id))

    def session(self, user_id: str, session_id: str) -> UserSession | None:
        """A session, or None; the user's own writes are seen at once."""
        return self._get_own(UserSession.at(user_id, session_id), user_id)

    def process(self, user_id: str, session_id: str, process_id: str) -> UserSessionProcess | None:
        """A process of a session, or None; the user's own writes are seen at once."""
        return self._get_own(UserSessionProcess.at(user_id, session_id, process_id), user_id)

    def execution(
        self, user_id: str, session_id: str, process_id: str, agent_id: str, tool_id: str, *, attempt: int = 1
    ) -> ToolExecution | None:
        """A tool call, or None; the user's own writes are seen at once."""
        return self._get_own(ToolExecution.at(user_id, session_id, process_id, agent_id, tool_id, attempt), user_id)

    def mapping(self, user_id: str, category: str) -> UserToolMapping | None:
        """The best known way for exactly this category of a user, or None."""
        return self._get_own(UserToolMapping.at(user_id, category), user_id)

    # Writes of the catalogue (the history is written by the Recorder)

    def put(self, *entities: Entity) -> None:
        """Write entities, whatever was there; near copies follow."""
        try:
            if len(entities) == 1:
                self._writer.put(entities[0])
            else:
                with self._writer.batch() as batch:
                    for entity in entities:
                        batch.put(entity)
        except (BatchIncomplete, TableUnavailable):  # some may have been written
            self.changed(entities)
            raise
        self.changed(entities)

    def put_new(self, entity: Entity) -> None:
        """Write an entity under a key that holds nothing yet.

        Raises:
            AlreadyExists: Something is stored under the key.
        """
        self._writer.put_new(entity)
        self.changed([entity])

    def update(self, target: E | ItemKey[E], *changes: Change) -> E:
        """Change single attributes of a stored item; index keys and near copies follow.

            repository.update(Agent.at("AGT001"), Agent.description.to("finds places"))

        Args:
            target: The entity as it was loaded, or the key of an item; see `Writer.update`.
            changes: Made by an attribute's ``to`` or ``plus``.

        Returns:
            The entity as it is stored now.

        Raises:
            NotFound: There is no such item.
            StaleVersion: A part of an index key was changed since the entity was read.
            ValidationError: A part of an index key is not known, or an attribute cannot be changed so.
        """
        updated = self._writer.update(target, *changes)
        self.changed([updated])
        return updated

    def delete(self, entity: Entity) -> None:
        """Delete an entity's item; near copies follow."""
        self._writer.delete(entity.key)
        self.changed([entity])

    def changed(self, entities: Iterable[Entity], *, rankings: bool = True) -> None:
        """Drop the near copies that hold these entities, which were written or deleted by other means.

        Args:
            entities: What was written or deleted.
            rankings: Whether the rankings of the agents' domains are dropped too, rather than replaced by the caller.
        """
        if self._near is None:
            return
        written = list(entities)
        try:
            for entity in written:
                owner = entity.attribute_values.get("user_id")
                if owner is not None:
                    self._near.recent.forget(owner, entity.pk)
            for domain_id in {entity.domain_id for entity in written if rankings and isinstance(entity, Agent)}:
                self._near.leaderboard.drop(domain_id)
            self._near.read.invalidate({name for entity in written for name in _near_names(entity)})
        except CacheUnavailable as error:
            _log.warning("near copies of %d written items may be old until they expire: %s", len(written), error)

    # How it is read

    def _shared(
        self, kind: type[E], asked: tuple[Any, ...], query: Query, *, limit: int, cursor: str | None
    ) -> Page[E]:
        return _filled(
            lambda most, after: self._shared_page(kind, asked, query, limit=most, cursor=after), limit, cursor
        )

    def _shared_page(
        self, kind: type[E], asked: tuple[Any, ...], query: Query, *, limit: int, cursor: str | None
    ) -> Page[E]:
        start = self._start(asked, cursor)
        near = None if start is not None or limit > PAGE else self._near_page(asked[0], query)
        if near is not None and (near.last is None or query == _whole(query)):
            items, after = _cut(near.items, asked, query, limit)
            after = after or _after(asked, near.last)
        else:
            found = self._table.query(query, limit=limit, start=start)
            items, after = found.items, _after(asked, found.last)
        entities, aside = sorted_out(items, kind)
        return Page(tuple(entities), after, tuple(aside))

    def _near_page(self, pattern: str, query: Query) -> Found | None:
        """The first page of a whole pattern, kept near under one name, so that a write knows what to drop."""
        if self._near is None:
            return None
        from agentmodel.cache.read import Page as NearPage  # loads redis, which an installation may do without

        def load() -> NearPage:
            found = self._table.query(_whole(query), limit=PAGE)
            return NearPage(tuple(found.items), found.last)

        page = self._near.read.page(
            _page_name(pattern, query.partition), load, pattern=pattern, ttl=NEAR_SECONDS[pattern]
        )
        return Found(list(page.items), page.last)

    def _ranked(self, leaderboard: Leaderboard, domain_id: str, limit: int) -> Page[Agent] | None:
        """The first page of a domain's agents from the published ranking; None when there is none."""
        try:
            top = leaderboard.top(domain_id, limit + 1)
        except CacheUnavailable:
            return None
        if top is None:
            return None
        agents = [self._get(Agent.at(agent_id)) for agent_id, _ in top[:limit]]
        known = [agent for agent in agents if agent is not None]
        if len(known) < len(agents):
            return None  # one was deleted since the publish: the table knows
        more = len(top) > limit
        asked = ("top_agents", domain_id)
        return Page(tuple(known), write_cursor(asked, _position(known[-1].to_item(), INDEX)) if more else None)

    def _own(
        self,
        kind: type[E],
        asked: tuple[Any, ...],
        query: Query,
        *,
        owner: str,
        limit: int,
        cursor: str | None,
    ) -> Page[E]:
        def page(most: int, after: str | None) -> Page[E]:
            items, last = self._own_items(asked, query, owner, limit=most, cursor=after)
            entities, aside = sorted_out(items, kind)
            return Page(tuple(entities), last, tuple(aside))

        return _filled(page, limit, cursor)

    def _own_items(
        self, asked: tuple[Any, ...], query: Query, owner: str, *, limit: int | None, cursor: str | None
    ) -> tuple[list[Item], str | None]:
        if limit is not None:
            limit = _checked_limit(limit)
        start = self._start(asked, cursor)
        whole = self._whole_partition(asked[0], owner, query.partition)
        if whole is not None:
            ordered = whole[::-1] if query.newest_first else whole
            return _cut(ordered, asked, query, limit, start=start)
        found = self._table.query(query, limit=limit, start=start, consistent=True)
        return found.items, _after(asked, found.last)

    def _whole_partition(self, pattern: str, owner: str, partition: str) -> list[Item] | None:
        """The user's own partition with the writes that the table does not have yet; None when it is too large."""
        if self._near is None:
            return None
        if partition not in self._large.names:
            try:
                return self._near.recent.partition(owner, partition, lambda: self._load(partition), pattern=pattern)
            except _TooLarge:
                self._large.add(partition)
        try:
            pending = self._near.recent.pending(owner, partition)
        except CacheUnavailable:
            return None
        if not pending:
            return None  # all of it is in the table, which can be read in pages
        stored = {item["SK"]["S"]: item for item in self._table.query(Query(partition), consistent=True).items}
        merged = stored | pending
        return [merged[sk] for sk in sorted(merged)]

    def _load(self, partition: str) -> list[Item]:
        found = self._table.query(Query(partition), limit=_WHOLE + 1, consistent=True)
        if len(found.items) > _WHOLE:
            raise _TooLarge
        return found.items

    def _gathered(
        self, asked: tuple[Any, ...], queries: list[Query], limit: int, cursor: str | None
    ) -> Page[UserToolMapping]:
        limit = _checked_limit(limit)
        starts: list[Any] = [None] * len(queries)
        if cursor is not None:
            starts = read_cursor(asked, cursor)
        streams = [
            self._stream(number, query, start, most=min(PAGE, limit + 1))
            for number, (query, start) in enumerate(zip(queries, starts, strict=True))
        ]
        merged = heapq.merge(*streams, key=lambda each: (each[1]["GSI1_SK"]["S"], each[1]["PK"]["S"]))
        items: list[Item] = []
        for number, item in merged:
            if len(items) == limit:
                entities, aside = sorted_out(items, UserToolMapping)
                return Page(tuple(entities), write_cursor(asked, starts), tuple(aside))
            items.append(item)
            starts[number] = _position(item, INDEX)
        entities, aside = sorted_out(items, UserToolMapping)
        return Page(tuple(entities), None, tuple(aside))

    def _stream(self, number: int, query: Query, start: Item | None, *, most: int) -> Iterator[tuple[int, Item]]:
        while True:
            found = self._table.query(query, limit=most, start=start)
            yield from ((number, item) for item in found.items)
            if found.last is None:
                return
            start = found.last

    @staticmethod
    def _start(asked: tuple[Any, ...], cursor: str | None) -> Item | None:
        if cursor is None:
            return None
        position = read_cursor(asked, cursor)
        if not isinstance(position, dict):
            raise CursorError(value=cursor)
        return position

    def _get(self, key: ItemKey[E]) -> E | None:
        near = self._near
        if near is None:
            return self._table.get(key)

        def load() -> tuple[Item, int] | None:
            item = self._table.get_item(key)
            return None if item is None else (item, int(item.get("Version", {}).get("N", 0)))

        found = near.read.item(_item_name(key), load, pattern="item", ttl=NEAR_SECONDS["item"])
        return None if found is None else key.entity.from_item(found[0])

    def _get_own(self, key: ItemKey[E], owner: str) -> E | None:
        if self._near is None:
            return self._table.get(key, consistent=True)
        item = self._near.recent.item(owner, key.pk, key.sk, lambda: self._table.get_item(key, consistent=True))
        return None if item is None else key.entity.from_item(item)


def _filled(page_of: Callable[[int, str | None], Page[E]], limit: int, cursor: str | None) -> Page[E]:
    """A page of ``limit`` entities: where some of it could not be read, what follows fills it up."""
    page = page_of(_checked_limit(limit), cursor)
    while page.cursor is not None and len(page) < limit:
        more = page_of(limit - len(page), page.cursor)
        page = Page(page.items + more.items, more.cursor, page.aside + more.aside)
    return page


def _checked_limit(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise ValidationError("limit", limit, f"a whole number from 1 to {MOST}")
    return limit


def _after(asked: tuple[Any, ...], last: Item | None) -> str | None:
    return None if last is None else write_cursor(asked, last)


def _whole(query: Query) -> Query:
    """The query of a whole pattern: without the part of a name that narrows it."""
    prefix = query.prefix
    if query.partition == keys.DOMAINS.build() or query.partition.startswith(keys.MAPPINGS.build(0)):
        prefix = ""
    return replace(query, prefix=prefix)


def _position(item: Item, index: str | None) -> Item:
    names = ("PK", "SK") if index is None else ("PK", "SK", "GSI1_PK", "GSI1_SK")
    return {name: item[name] for name in names}


def _cut(
    whole: list[Item], asked: tuple[Any, ...], query: Query, limit: int | None, *, start: Item | None = None
) -> tuple[list[Item], str | None]:
    """The part of a partition, read whole and sorted, that a query asks for."""
    name = "SK" if query.index is None else "GSI1_SK"
    items = [item for item in whole if item[name]["S"].startswith(query.prefix)]
    if start is not None:
        at = start[name]["S"]
        items = [i for i in items if (i[name]["S"] < at if query.newest_first else i[name]["S"] > at)]
    if limit is None or len(items) <= limit:
        return items, None
    return items[:limit], write_cursor(asked, _position(items[limit - 1], query.index))


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


def _near_names(entity: Entity) -> Iterator[str]:
    """Names of the near copies an entity is in."""
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
