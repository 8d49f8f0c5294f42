"""AgentModel: the stations put together; `AgentModel.local` and `AgentModel.from_settings` make one.

with AgentModel.local() as model:
    with model.session("USR001", "find a café near the stadium", category="cafe search") as session:
        ...
    model.drain()
    model.refresh()
    model.publish()
    plan = model.suggest("USR001", category="cafe search")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar

from agentmodel.access.delivery import History
from agentmodel.access.importing import Imported, TraceImport
from agentmodel.access.recorder import Recorder, SessionRecorder
from agentmodel.access.repository import Near, Repository
from agentmodel.clock import HybridClock
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, MissingExtraError
from agentmodel.suggest.behind import Behind

if TYPE_CHECKING:
    from agentmodel.cache.client import Credentials, Valkey
    from agentmodel.cache.drain import Drained, Drainer
    from agentmodel.cache.journal import Journal
    from agentmodel.cache.stats import CacheStats
    from agentmodel.embedded import Engines
    from agentmodel.redshift.feeds import ItemsFeed, JournalFeed
    from agentmodel.redshift.intake import Source
    from agentmodel.redshift.pipeline import Refreshed, Warehouse
    from agentmodel.suggest.advise import Adviser, Plan
    from agentmodel.suggest.answers import Decision
    from agentmodel.suggest.evaluate import Evaluation
    from agentmodel.suggest.functions import Functions
    from agentmodel.suggest.guard import Guard, Rule
    from agentmodel.suggest.health import HealthBook
    from agentmodel.suggest.publish import Published
    from agentmodel.suggest.review import Reviews
    from agentmodel.suggest.savings import KnownAnswers, SavingsRow, Scope
    from agentmodel.suggest.suggestions import Suggestions

__all__ = ["AgentModel"]

Progress = Callable[[str, int, int], None]
P = ParamSpec("P")
R = TypeVar("R")
_log = logging.getLogger(__name__)


def _silent(what: str, done: int, of: int) -> None:
    """Shows no progress."""


class AgentModel:
    """The data layer of an installation, all stations together.

    Nothing connects before it is needed. Use it in a ``with`` block, or call `close`.

    Args:
        settings: Which table, Valkey and warehouse.
        engines: Embedded engines to stop when the model is closed.
        valkey_credentials: Asked for user and password at every new connection to Valkey, such as for an IAM token.

    Attributes:
        settings: The same.
        table: The table.
        repository: Reads and writes typed entities.
        recorder: Writes history.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Engines | None = None,
        valkey_credentials: Credentials | None = None,
    ) -> None:
        self.settings = settings
        self._engines = engines
        self._resources = ExitStack()
        if engines is not None:
            self._resources.callback(engines.close)
        self._clock = HybridClock()
        self.table = Table(settings)
        self._resources.callback(self.table.close)
        self.writer = Writer(self.table, clock=self._clock)
        self._near: Near | None = None
        self._valkey: Valkey | None = None
        self.journal: Journal | None = None
        if settings.valkey_url is not None:
            self._connect_valkey(valkey_credentials)
        self.repository = Repository(self.table, self.writer, near=self._near)
        self.recorder = Recorder(
            settings,
            self.table,
            writer=self.writer,
            repository=self.repository,
            clock=self._clock,
            journal=self.journal,
            recent=None if self._near is None else self._near.recent,
        )
        self._behind = Behind()
        self._resources.callback(self._behind.close)
        self.recorder.observers.append(self._observe)

    def _connect_valkey(self, credentials: Credentials | None) -> None:
        from agentmodel.cache.client import Valkey
        from agentmodel.cache.journal import Journal
        from agentmodel.cache.leaderboard import Leaderboard
        from agentmodel.cache.read import ReadThrough
        from agentmodel.cache.recent import Recent

        self._valkey = Valkey(self.settings, credentials=credentials)
        self._resources.callback(self._valkey.close)
        read = ReadThrough(self._valkey)
        self._resources.callback(read.close)
        self._near = Near(read, Recent(self._valkey), Leaderboard(self._valkey))
        self.journal = Journal(self._valkey, verify=True)

    # Made by

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        valkey_credentials: Credentials | None = None,
        **overrides: Any,
    ) -> Self:
        """The installation that ``AGENTMODEL_*`` describes.

        Args:
            settings: Used as they are, instead of the environment.
            valkey_credentials: Asked for user and password at every new connection to Valkey, such as for an IAM token.
            overrides: Single settings that win over the environment, such as ``table="History"``.

        Raises:
            ConfigurationError: A setting is not accepted.
        """
        loaded = settings if settings is not None else Settings.load(**overrides)
        return cls(loaded, valkey_credentials=valkey_credentials)

    @classmethod
    def local(cls, directory: str | Path | None = None, **overrides: Any) -> Self:
        """An installation on embedded engines, with its table made: nothing to install or configure.

        Args:
            directory: Where its data stays; None keeps nothing.
            overrides: Single settings, such as ``ranking="evidence"``.

        Raises:
            MissingExtraError: The engines are not installed; the message has the pip line.
        """
        from agentmodel.embedded import Engines

        addresses = dict.fromkeys(("endpoint", "access_key_id", "secret_access_key", "valkey_url", "warehouse_url"))
        engines = Engines(directory, settings=Settings.load(**(addresses | overrides))).start()
        try:
            model = cls(engines.settings, engines=engines)
            model.table.create()
        except BaseException:
            engines.close()
            raise
        return model

    # The loop

    def session(
        self,
        user_id: str,
        request: str | None = None,
        *,
        category: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        started_at: datetime | None = None,
        plan: Plan | None = None,
    ) -> SessionRecorder:
        """A session of a user, recorded from ``with`` to the end of the block; see `Recorder.session`.

        With ``plan``, the suggestion it came from learns whether it was followed, and how the session went.
        """
        session = self.recorder.session(
            user_id, request, category=category, name=name, session_id=session_id, started_at=started_at
        )
        if plan is not None:
            session.entity.suggestion_id = plan.suggestion_id
        return session

    def import_traces(
        self,
        *paths: str | Path,
        timezone: str = "UTC",
        strict: bool = False,
        progress: Progress = _silent,
    ) -> Imported:
        """Put trace files into history and catalogue; importing again changes nothing."""
        importer = TraceImport(self.table, self.repository, recorder=self.recorder)
        return importer.run(paths, timezone=timezone, strict=strict, progress=progress)

    def drain(self, *, progress: Callable[[Drained], None] | None = None) -> Drained:
        """Write everything that the journal holds into the table.

        Raises:
            TableUnavailable: The table does not take it; it stays in the journal.
            CacheUnavailable: Valkey does not answer.
        """
        self.settle()
        return self.drainer.drain(progress=progress)

    @cached_property
    def drainer(self) -> Drainer:
        """Brings the journal's entries into the table.

        Raises:
            ConfigurationError: There is no journal, or it has another number of shards: some would never be drained.
        """
        if self._valkey is None or self.journal is None:
            raise ConfigurationError(
                "there is no journal to drain: AGENTMODEL_VALKEY_URL is not set, writes go to the table"
            )
        from agentmodel.access.sink import HistorySink
        from agentmodel.cache.drain import Drainer

        try:
            self.journal.same_layout()
        except CacheUnavailable as error:
            _log.warning("the number of shards was not checked: %s", error)
        drainer = Drainer(self._valkey, HistorySink(self.table, self.writer), observer=self._drain_observer())
        self._resources.callback(drainer.close)
        return drainer

    def _drain_observer(self) -> JournalFeed | None:
        """Who is told what a drain wrote: the warehouse, where the journal feeds it."""
        if self.settings.feed != "journal" or not (self.settings.warehouse_url or "").startswith("duckdb"):
            return None
        from agentmodel.redshift.feeds import JournalFeed

        return JournalFeed(self.warehouse.keep, self.table)

    def refresh(
        self,
        *,
        as_of: date | datetime | None = None,
        full: bool = False,
        source: Source | None = None,
        progress: Progress = _silent,
    ) -> Refreshed:
        """Bring the table's history into the warehouse and compute scores and patterns anew.

        On Redshift zero-ETL brings it; on DuckDB the table's items are brought here first.

        Args:
            as_of: The day that recency is counted to; today (UTC) when not given.
            full: Build everything anew, not only what changed since the last refresh.
            source: How items come into DuckDB, or the folder of a table export; AGENTMODEL_FEED when not given.
            progress: Told how far it is.

        Raises:
            WarehouseUnavailable: The warehouse does not answer, or is held by another process.
            ConfigurationError: ``source`` is given and the warehouse is no DuckDB, or the table has no stream to read.
            ValidationError: The export is none, is of another table, or is older than what landed.
        """
        warehouse = self.warehouse
        self.settle()
        now = datetime.now(UTC)
        landed = None
        if source is not None or warehouse.lands_here:
            from agentmodel.redshift.intake import take_in

            feed = source or self.settings.feed
            landed = take_in(warehouse, self.table, feed, whole=self._whole(), at=now, progress=progress)
        refreshed = warehouse.refresh(as_of=as_of or now, full=full, progress=progress)
        return replace(refreshed, landed=landed)

    def _whole(self) -> ItemsFeed | None:
        """All items of an embedded engine, which need not be asked for by a Scan."""
        from agentmodel.redshift.feeds import ItemsFeed

        items = None if self._engines is None else self._engines.items(self.table.name, self.settings.region)
        return None if items is None else ItemsFeed(items)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse, opened and with its tables made.

        Raises:
            ConfigurationError: None is set.
            MissingExtraError: Its packages are not installed.
        """
        url = self.settings.warehouse_url
        if url is None:
            raise ConfigurationError(
                "there is no warehouse: set AGENTMODEL_WAREHOUSE_URL, such as duckdb:///history.duckdb"
            )
        try:
            from agentmodel.redshift.pipeline import Warehouse
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "local" if url.startswith("duckdb") else "redshift", "the warehouse", error.name
            ) from error
        warehouse = Warehouse.open(
            url,
            landed_table=self.settings.landed_table,
            half_life_days=self.settings.half_life_days,
            memory_limit=self.settings.warehouse_memory,
        )
        self._resources.callback(warehouse.close)
        warehouse.create()
        return warehouse

    def publish(self, *, as_of: date | datetime | None = None, progress: Progress = _silent) -> Published:
        """Write scores and best processes back to table and Valkey, as of a day (today when not given)."""
        from agentmodel.suggest.publish import Publisher

        self.settle()
        publisher = Publisher(self.settings, self.repository, table=self.table, writer=self.writer, near=self._near)
        published = publisher.publish(self.warehouse, as_of=as_of or datetime.now(UTC), progress=progress)
        self.adviser.forget()
        return published

    def suggest(
        self, user_id: str, *, category: str | None = None, request: str | None = None, domain_id: str | None = None
    ) -> Plan:
        """What to do for a user's request: which agent, which steps, what to avoid, and why.

        Args:
            user_id: Who asks.
            category: The kind of request.
            request: What is asked, in the user's words.
            domain_id: The domain to choose an agent of.
        """
        return self.adviser.suggest(user_id, category=category, request=request, domain_id=domain_id)

    @cached_property
    def adviser(self) -> Adviser:
        """Makes the plans; make one of your own for another `Similarity`, or to explore."""
        from agentmodel.suggest.advise import Adviser

        return Adviser(self.repository, watch=self.health, log=self.suggestions, ranking=self.settings.ranking)

    @cached_property
    def suggestions(self) -> Suggestions:
        """What was suggested, and what became of it."""
        from agentmodel.suggest.suggestions import Suggestions

        return Suggestions(
            self.settings, self.table, writer=self.writer, repository=self.repository, settle=self.settle
        )

    def evaluate(self, *, learn: float = 0.6) -> Evaluation:
        """Compare rankings, plans and chances with what happened, by replaying the refreshed history in time order.

        Args:
            learn: Share of each domain's runs that is learnt from before the first is judged.
        """
        warehouse = self.warehouse
        from agentmodel.suggest.evaluate import evaluate
        from agentmodel.suggest.runs import runs_of_warehouse

        runs = runs_of_warehouse(warehouse)
        return evaluate(runs, learn=learn, half_life_days=self.settings.half_life_days)

    @cached_property
    def health(self) -> HealthBook:
        """Which tools fail now."""
        from agentmodel.suggest.health import HealthBook

        book = HealthBook(
            self.table, writer=self.writer, repository=self.repository, valkey=self._valkey, settle=self.settle
        )
        book.on_change.append(self.known_answers.health_changed)
        return book

    @cached_property
    def known_answers(self) -> KnownAnswers:
        """Answers of read-only tools to calls that were made before."""
        from agentmodel.suggest.savings import KnownAnswers

        return KnownAnswers(self.repository, valkey=self._valkey, settle=self.settle)

    def savings(self) -> list[SavingsRow]:
        """What known answers saved in each category, as measured on the recorded runs that were refreshed."""
        warehouse = self.warehouse
        from agentmodel.suggest.savings import savings

        return savings(warehouse)

    @cached_property
    def reviews(self) -> Reviews:
        """Questions to people, before a step and after a run."""
        from agentmodel.suggest.policy import Policy
        from agentmodel.suggest.review import Reviews

        return Reviews(
            self.settings,
            self.table,
            writer=self.writer,
            repository=self.repository,
            recorder=self.recorder,
            policy=Policy(self.repository, watch=self.health),
        )

    def guard(
        self,
        *,
        review: Rule = "marked",
        cache: Scope | Literal[False] = "user",
        block: bool | Collection[str] = True,
        queue: str = "review",
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        domain: str = "agents",
    ) -> Guard:
        """What decides before each call: make it, give a known answer, block a tool that fails, or ask a person.

        Args:
            review: When a person is asked: for tools ``marked`` by ``needs_review``, by ``policy`` (`Reviews.needed`),
                ``never``, ``always``, for tools of these names, or as a function of agent id, tool id and arguments
                says by giving a reason.
            cache: Whom known answers of read-only tools hold for; False looks for none.
            block: Whether tools that fail now are blocked; or the names of those that are.
            queue: Where the people look who answer.
            allowed: What may be answered.
            answer_within: From when on a question counts as answered by ``on_expiry``.
            on_expiry: That answer.
            domain: Of the agents that are given by name.
        """
        from agentmodel.suggest.guard import Guard

        return Guard(
            self.repository,
            health=self.health,
            reviews=self.reviews,
            known=self.known_answers,
            adviser=self.adviser,
            valkey=self._valkey,
            review=review,
            cache=cache,
            block=block,
            queue=queue,
            allowed=allowed,
            answer_within=answer_within,
            on_expiry=on_expiry,
            domain=domain,
        )

    def tool(
        self,
        *,
        agent: str,
        name: str | None = None,
        domain: str = "agents",
        cache: Scope | Literal[False] = False,
        review: Rule = "never",
        block: bool = True,
        queue: str = "review",
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        wait: bool | float = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a tool of a plain function, synchronous or not: each call is decided, made, and recorded.

            @model.tool(agent="finder", cache="user")
            def search(near: str) -> list[str]: ...

        A call belongs to the ``with model.session(...)`` block it is made in, and to that block's process; outside of
        one it is a session of its own, of the anonymous user. The tool is put into the catalogue at its first call,
        where it is not there yet.

        Args:
            agent: Name or id of the agent whose tool it is.
            name: The tool's name; the function's when not given.
            domain: Of the agent.
            cache: The tool only reads, and its answers hold for this ``user`` or for ``everybody``.
            review: When a person is asked before a call; see `guard`.
            block: Whether the call is blocked while the tool fails.
            queue: Where the people look who answer.
            answer_within: From when on a question counts as answered by ``on_expiry``.
            on_expiry: That answer.
            wait: Whether a call waits for the person who is asked, or for how many seconds; otherwise it raises
                `ReviewPending`, and is made when it is called again after the answer.

        Raises:
            ValidationError: The function is a generator, or has no signature.

        A call that is not made raises `ToolBlocked`, `CallRejected`, `ReviewPending`, or plain `NotCalled` where
        nobody could be asked.
        """
        guard = self.guard(
            review=review,
            cache=cache,
            block=block,
            queue=queue,
            answer_within=answer_within,
            on_expiry=on_expiry,
            domain=domain,
        )
        return self.functions.tool(
            guard,
            agent=agent,
            name=name,
            domain=domain,
            read_only=cache is not False,
            asks=review != "never",
            wait=wait,
        )

    @cached_property
    def functions(self) -> Functions:
        """What records the functions that `tool` made tools of; its ``errors`` counts what was not recorded."""
        from agentmodel.suggest.functions import Functions

        return Functions(self.recorder, self.repository, self.table, reviews=self.reviews)

    def settle(self) -> None:
        """Have learnt from everything that was recorded: health of tools, what became of suggestions.

        That happens in a thread, a moment after each record. Whatever reads it here settles first; call this before
        another process reads.
        """
        self._behind.settle()

    def _observe(self, recorded: Sequence[History]) -> None:
        """Note what is to be learnt from what was recorded; it is learnt in a moment."""
        self._behind.put(self.health.learn, self.health.noted(recorded))
        self._behind.put(self.suggestions.learn, self.suggestions.noted(recorded))

    def report(self, path: str | Path, *, as_of: date | datetime | None = None, rows: int = 500) -> Path:
        """Write what the last refresh learnt as one HTML page with charts, which opens offline.

        Args:
            path: The file; one that is there is replaced.
            as_of: The day to score for; today (UTC) when not given.
            rows: The most rows of each table.

        Raises:
            ConfigurationError: There is no warehouse.
            MissingExtraError: matplotlib, or the warehouse's packages, are not installed.
            ValidationError: ``rows`` is below 1.
        """
        warehouse = self.warehouse
        from agentmodel.redshift.html import report

        file = Path(path)
        file.write_text(report(warehouse, as_of=as_of or datetime.now(UTC), rows=rows), encoding="utf-8")
        return file

    def stats(self) -> CacheStats | None:
        """What Valkey does for this model: the journal, the breaker, and hits and misses of each access pattern.

        None where no Valkey is set up.
        """
        if self._valkey is None or self._near is None or self.journal is None:
            return None
        from agentmodel.cache.stats import cache_stats

        near = self._near
        return cache_stats(self._valkey, self.journal, read=near.read, recent=near.recent, leaderboard=near.leaderboard)

    # Resources

    def close(self) -> None:
        """Close connections, and stop embedded engines that were started for this model."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
