"""AgentModel: one installation, from the first record to the next suggestion.

`AgentModel.local` starts one on embedded engines, `AgentModel.from_stack` opens the one that ``agentmodel up`` runs,
`AgentModel.from_settings` the one that ``AGENTMODEL_*`` describes. This is the only module that puts the stations
together.

    with AgentModel.local() as model:
        with model.session("USR001", "find a café near the stadium", category="cafe search") as session:
            with session.process("locate") as process:
                with process.call("AGT001", "TL001", values={"place": "stadium"}) as call:
                    call.result = find_location("stadium")  # an exception is recorded as a failure and raised again
        model.drain()    # the journal (Valkey) goes into the table (DynamoDB)
        model.refresh()  # the table goes into the warehouse, which computes scores and patterns
        model.publish()  # scores and the best processes go back into table and Valkey
        plan = model.suggest("USR001", category="cafe search")
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, ParamSpec, Self, TypeVar, Unpack

from agentmodel import keys
from agentmodel._erasure_marks import ErasureMarks, erasing_key, user_key
from agentmodel._log import logger
from agentmodel._runtime.background import FLUSH_TIMEOUT, BackgroundWorker
from agentmodel._runtime.clock import HybridClock
from agentmodel._runtime.deadline import half_of_what_is_left
from agentmodel._runtime.files import write_file
from agentmodel._runtime.lease import WAIT
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.names import takes_names
from agentmodel.access.pagination import every, split_readable
from agentmodel.access.recorder import HistoryEntity, Receipt, Recorder, SessionRecorder, in_session, running
from agentmodel.access.repository import Caches, Repository
from agentmodel.access.trace_import import Imported, TraceImport
from agentmodel.config import Settings, SettingsOptions
from agentmodel.dynamo.entity import Item, entity_of
from agentmodel.dynamo.models import Domain, OutcomeSource, Review, ToolExecution, UserSession
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import (
    CacheUnavailable,
    ConfigurationError,
    MissingExtraError,
    NewerData,
    NotFound,
    TableUnavailable,
    ValidationError,
)
from agentmodel.prices import Prices

if TYPE_CHECKING:
    from agentmodel.cache import CacheStats, Credentials, Drained, Drainer, Journal, NewestSessions, Valkey
    from agentmodel.embedded import Engines
    from agentmodel.erasure import Erasure, ErasureReport
    from agentmodel.privacy import Redactor
    from agentmodel.redshift.export import ExportReport
    from agentmodel.redshift.ingest import FeedSource, ItemsFeed, JournalFeed
    from agentmodel.redshift.reports import SavingsRow
    from agentmodel.redshift.warehouse import Refreshed, SchemaChange, Warehouse
    from agentmodel.suggest.evaluate import Evaluation, Impact, WrongStepRow
    from agentmodel.suggest.guard import CacheScope, Guard, ResponseCache, ReviewRule
    from agentmodel.suggest.health import HealthMonitor
    from agentmodel.suggest.plan import (
        DomainMatch,
        NextTools,
        Plan,
        Planner,
        Router,
        Routing,
        SuggestionLog,
    )
    from agentmodel.suggest.publish import Published
    from agentmodel.suggest.review import Decision, Reviews, RunChecks
    from agentmodel.tools import FunctionTools

__all__ = ["AgentModel"]

_Progress = Callable[[str, int, int], None]
_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logger(__name__)


def _silent(what: str, done: int, of: int) -> None:
    """Show no progress."""


class AgentModel:
    """An installation of the data layer, with all its stations.

    Make one with `local`, `from_stack` or `from_settings`. Nothing connects before it is needed. Use it in a
    ``with`` block, or call `close`.

    Args:
        settings: Which table, Valkey and warehouse to use, and how.
        engines: Embedded engines, which are stopped when the model is closed.
        valkey_credentials: Called for user and password at every new connection to Valkey, such as for an IAM token.
        redact: What is redacted in every text before it is kept: ``True`` for what the built-in
            `agentmodel.privacy.PatternRedactor` finds, or a redactor; None for what ``AGENTMODEL_REDACT`` says.
        router: Chooses the domain of a request in place of `route`'s own way, such as by a model.

    Attributes:
        settings: The settings it was made with.
        table: The DynamoDB table.
        writer: Writes items into the table, each under the conditions of its entity.
        journal: The journal in Valkey that records go through; None without Valkey.
        repository: Reads and writes typed entities.
        recorder: Writes history.
        on_close: Called when the model is closed, while everything still works; the last one first.

    >>> with AgentModel.local() as own:
    ...     with own.session("mina", "a quiet café at the park", category="cafe search") as session:
    ...         with session.process("locate") as process:
    ...             with process.call("AGT001", "TL001", values={"place": "park"}) as call:
    ...                 call.result = ["Cafe Onda"]
    ...     drained, refreshed, published = own.drain(), own.refresh(), own.publish()
    ...     plan = own.suggest("mina", category="cafe search")
    >>> [(step.process, step.tool_id) for step in plan.steps]
    [('locate', 'TL001')]
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Engines | None = None,
        valkey_credentials: Credentials | None = None,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
    ) -> None:
        self.settings = settings
        self._router = router
        self._engines = engines
        self._resources = ExitStack()  # closed in the reverse order
        if engines is not None:
            self._resources.callback(engines.close)
        self._clock = clock = HybridClock()
        self.table = Table(settings, redact=redact)
        self._resources.callback(self.table.close)
        self.writer = Writer(self.table, clock=clock)
        self._valkey: Valkey | None = None
        self._caches: Caches | None = None
        self.journal: Journal | None = None
        self._newest: NewestSessions | None = None
        if settings.valkey_url is not None:
            self._connect_valkey(valkey_credentials)
        self.repository = Repository(self.table, self.writer, caches=self._caches)
        if settings.valkey_url is not None:
            self.table.on_write = self.repository.invalidate
        self.recorder = Recorder(
            settings,
            self.table,
            writer=self.writer,
            repository=self.repository,
            clock=clock,
            journal=self.journal,
            user_cache=None if self._caches is None else self._caches.user_cache,
            on_direct_write=self._check_in_background,
        )
        self.repository.before_reading = self.recorder.wait_for
        self._marks = ErasureMarks(self.table)
        self.on_close: list[Callable[[], object]] = []
        self._background = BackgroundWorker("learning", batch=1000, linger=0.02, when_full="wait")
        self._counting = ForkSafeLock()
        self._failures = self._learned_failures = 0  # recorded batches with a failure, and those learned from
        self._resources.callback(self._background.close)
        self._resources.callback(self.recorder.close)
        self.recorder.observers.append(self._learn_in_background)
        self.recorder.on_late.append(self._count_failures)

    def _connect_valkey(self, credentials: Credentials | None) -> None:
        from agentmodel.cache import ChangeLog, Journal, Leaderboard, NewestSessions, ReadThrough, UserCache, Valkey

        self._valkey = Valkey(self.settings, credentials=credentials)
        self._resources.callback(self._valkey.close)
        read = ReadThrough(self._valkey)
        self._resources.callback(read.close)
        self._caches = Caches(
            read, UserCache(self._valkey), Leaderboard(self._valkey), ChangeLog(self._valkey, "requests")
        )
        self.journal = Journal(self._valkey, verify=True)
        self._newest = NewestSessions(self._valkey)

    @property
    def valkey(self) -> Valkey | None:
        """Return the connection to Valkey; None where no Valkey is set up.

        >>> model.valkey.available
        True
        """
        return self._valkey

    # Open an installation

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        valkey_credentials: Credentials | None = None,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Open the installation that ``AGENTMODEL_*`` describes.

        Args:
            settings: Used in place of the environment.
            valkey_credentials: Called for user and password at every new connection to Valkey, such as for an IAM
                token.
            redact: What is redacted before it is kept, see `AgentModel`.
            router: Chooses the domain of a request, see `AgentModel`.
            overrides: Single settings that take precedence over both, such as ``table="History"``.

        Raises:
            ConfigurationError: A setting is not accepted.

        >>> with AgentModel.from_settings(model.settings, table="Other") as other:
        ...     other.table.name, other.table.exists()
        ('Other', False)
        """
        if settings is None:
            settings = Settings.load(**overrides)
        elif overrides:
            demanded = settings.model_fields_set | overrides.keys()
            settings = Settings.load(**{**dict(settings), **overrides})
            settings.model_fields_set.intersection_update(demanded)  # what was a default demands nothing
        return cls(settings, valkey_credentials=valkey_credentials, redact=redact, router=router)

    @classmethod
    def from_stack(
        cls,
        directory: str | Path = ".agentmodel",
        *,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Open the local stack that ``agentmodel up`` runs, so that commands and the console see what is recorded.

        Its addresses are used also where the environment names others; other settings are those of the environment.

        Args:
            directory: The folder of the stack, as in ``agentmodel up --dir``.
            redact: What is redacted before it is kept, see `AgentModel`.
            router: Chooses the domain of a request, see `AgentModel`.
            overrides: Single settings that take precedence, such as ``ranking="evidence"``.

        Raises:
            ConfigurationError: No stack runs in the folder, or a setting is not accepted.

        >>> from agentmodel.exceptions import ConfigurationError
        >>> try:
        ...     AgentModel.from_stack(folder / "no-stack")
        ... except ConfigurationError as error:
        ...     print(error.code)
        AM-111
        """
        from agentmodel.embedded import running_stack

        settings = Settings.load(**{**running_stack(directory), **overrides})
        return cls(settings, redact=redact, router=router)

    @classmethod
    def local(
        cls,
        directory: str | Path | None = None,
        *,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Start an installation on embedded engines and create its table; nothing has to be installed or configured.

        Args:
            directory: Where the data is kept; without one it is gone when the model is closed.
            redact: What is redacted before it is kept, see `AgentModel`.
            router: Chooses the domain of a request, see `AgentModel`.
            overrides: Single settings, such as ``ranking="evidence"``.

        Raises:
            MissingExtraError: The engines are not installed; the message has the pip line.

        >>> with AgentModel.local(ranking="evidence") as own:
        ...     own.settings.ranking, own.table.exists()
        ('evidence', True)
        """
        from agentmodel.embedded import Engines

        addresses = dict.fromkeys(("endpoint", "access_key_id", "secret_access_key", "valkey_url", "warehouse_url"))
        engines = Engines(directory, settings=Settings.load(**{**addresses, **overrides})).start()
        try:
            model = cls(engines.settings, engines=engines, redact=redact, router=router)
            model.table.create()
        except BaseException:
            engines.close()
            raise
        return model

    # Record and import

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
        revision: str | None = None,
    ) -> SessionRecorder:
        """Record a session of a user, from ``with`` to the end of the block; see `Recorder.session`.

        Args:
            user_id: Who asks, such as ``USR001``.
            request: What is asked, in the user's words.
            category: The kind of request; plans are learned per category. Without one, a category is derived from the
                request.
            name: The session's name; the beginning of the request when not given.
            session_id: Continues this session, or creates it; a new id that sorts by time when not given.
            started_at: When the session began; now when not given.
            plan: The plan that the session follows. When the session ends, `suggestions` records whether the plan was
                followed and how the session went.
            revision: The revision of the agent (of its prompt, model and tools) that makes the calls; what the
                catalogue says (`Agent.revision`) when not given. Scores fade what earlier revisions did.

        Raises:
            ValidationError: An id is not valid, or a time has no time zone.

        >>> with model.session("USR201", "a table for two", category="booking") as session:
        ...     with session.process("book") as process, process.call("AGT002", "TL003", values={"seats": 2}) as call:
        ...         call.result = "booked"
        >>> session.entity.succeeded, call.receipt.entity.result
        (None, 'booked')
        """
        session = self.recorder.session(
            user_id,
            request,
            category=category,
            name=name,
            session_id=session_id,
            started_at=started_at,
            revision=revision,
        )
        if plan is not None:
            session.entity.suggestion_id = plan.suggestion_id
        return session

    def outcome(
        self,
        session: SessionRecorder | UserSession | str,
        *,
        user_id: str | None = None,
        succeeded: bool | None = None,
        score: float | None = None,
        source: OutcomeSource = "person",
        by: str | None = None,
        reason: str | None = None,
        agent_id: str | None = None,
        at: datetime | None = None,
    ) -> Receipt[Review]:
        """Record how a session went, as somebody outside of it says, also long after its end.

            model.outcome(session_id, user_id="USR001", succeeded=False, source="event", by="refund", reason="refunded")

        The next refresh counts the most trusted outcome of a run: a person's verdict in a review, then a ``person``,
        an ``event``, an ``evaluator``, then what the session itself recorded, then its calls. Of two from one source
        the one about the agent counts before that about the whole session, then the later one, then a failure. It is
        written as every record is, so it survives an outage; recorded again by the same ``by``, it replaces the first.

        Args:
            session: The session, or its id.
            user_id: Name or id of the user; needed with an id only.
            succeeded: Whether the run did what was asked; by the score when not given.
            score: How good the run was, from 0 to 1; alone it means success from 0.5 up.
            source: Who says so: a ``person``, such as the user, a business ``event``, or an ``evaluator``.
            by: Name of the person, event or evaluator; each has one outcome a run.
            reason: Why.
            agent_id: The run of this agent only; the whole session when not given.
            at: When it was said; now when not given.

        Raises:
            ValidationError: Neither ``succeeded`` nor a score is given, or a value is not valid; nothing was recorded.
            HistoryUnavailable: Neither store takes the write; nothing was kept.

        >>> with model.session("USR206", "a table for two") as session:
        ...     pass
        >>> receipt = model.outcome(session, succeeded=False, source="event", by="refund", reason="refunded")
        >>> receipt.entity.source, receipt.entity.outcome
        ('event', False)
        """
        return self.recorder.outcome(
            session, user_id=user_id, succeeded=succeeded, score=score, source=source, by=by, reason=reason,
            agent_id=agent_id, at=at,
        )  # fmt: skip

    def in_session(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return a function that keeps the session and process of this block when another thread calls it.

            with model.session("USR001") as session, ThreadPoolExecutor() as pool:
                found = list(pool.map(model.in_session(search), places))

        Python takes the context along into tasks of asyncio and into `asyncio.to_thread`, but not into a thread pool.

        Args:
            function: A function that is a tool, or that calls some.

        Raises:
            ConfigurationError: There is no session here.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> @model.tool(agent="finder")
        ... def search(near: str) -> str:
        ...     return f"a café at the {near}"
        >>> with model.session("USR202") as session, ThreadPoolExecutor() as pool:
        ...     found = list(pool.map(model.in_session(search), ["park", "lake"]))
        >>> len(model.repository.session_history("USR202", session.session_id).executions)
        2
        """
        return in_session(function)

    def bind(self) -> None:
        """Let the entity classes use this model's table in the whole process, until the model is closed.

        PynamoDB's own methods need it: ``Agent.get("AGT001")``, ``agent.save()``. Threads and asyncio tasks see it.

        Raises:
            ConfigurationError: Another table is bound to the process; use `bound` for a second one.

        >>> from agentmodel import Agent
        >>> with AgentModel.local() as own:
        ...     own.bind()
        ...     saved = Agent(agent_id="AGT001", domain_id="DMN001", name="map agent").save()
        ...     Agent.get("AGT001").name
        'map agent'
        """
        self.table.bind()

    def bound(self) -> AbstractContextManager[Table]:
        """Let the entity classes use this model's table in a ``with`` block; it comes before that of `bind`.

        The binding holds in this thread or task. For one call there is ``model.table.run(Agent.get, "AGT001")``.

        >>> from agentmodel import Agent
        >>> with model.bound():
        ...     Agent.get("AGT001").name
        'map agent'
        """
        return self.table.bound()

    def import_traces(
        self,
        *paths: str | Path,
        timezone: str = "UTC",
        strict: bool = False,
        progress: _Progress = _silent,
        wait: float = WAIT,
    ) -> Imported:
        """Import trace files into history and catalogue; importing a file again changes nothing.

        Args:
            paths: Files of one JSON object a line, which may be compressed by gzip; see `agentmodel.traces`.
            timezone: The time zone of times that have none.
            strict: Stop at the first bad line; otherwise it is reported and the rest is imported.
            progress: Called with what is imported, how much is done, and of how much.
            wait: Seconds to wait for another import, seed or repair that is under way; 0 does not wait.

        Raises:
            ValidationError: A file cannot be read, or with ``strict`` a line is no trace record.
            LeaseHeld: Another takes longer than ``wait``; the message says who works since when.

        >>> import json
        >>> file = folder / "calls.jsonl"
        >>> line = {"domain": "hotels", "agent": "booker", "session": "s-1", "step": 1, "tool": "rooms"}
        >>> _ = file.write_text(json.dumps(line | {"success": True}))
        >>> imported = model.import_traces(file)
        >>> imported.lines, imported.sessions, imported.bad
        (1, 1, [])
        """
        importer = TraceImport(self.repository, recorder=self.recorder)
        with self.table.lease(doing="import", wait=wait) as lease:
            return importer.run(paths, timezone=timezone, strict=strict, progress=lease.checked(progress))

    def drain(self, *, progress: Callable[[Drained], None] | None = None) -> Drained:
        """Write everything that the journal holds into the table.

        Args:
            progress: Called after each batch with what was written so far.

        Raises:
            ConfigurationError: There is no journal, because no Valkey is set up.
            TableUnavailable: The table does not take it; it stays in the journal.
            CacheUnavailable: Valkey does not answer.

        >>> drained = model.drain()
        >>> drained.dead, drained.left
        (0, 0)
        """
        self.settle()
        return self.drainer.drain(progress=progress)

    @cached_property
    def drainer(self) -> Drainer:
        """Return the drainer, which writes the journal's entries into the table.

        Raises:
            ConfigurationError: There is no journal, or it was set up with another number of shards, some of which
                would never be drained.

        >>> model.drainer.dead()
        []
        """
        if self._valkey is None or self.journal is None:
            raise ConfigurationError(
                "there is no journal to drain, because AGENTMODEL_VALKEY_URL is not set: records are written "
                "straight into the table"
            )
        from agentmodel.cache import Drainer

        try:
            self.journal.check_shard_count()
        except CacheUnavailable as error:
            _log.warning("checking the number of shards of the journal failed; draining goes on: %s", error)
        drainer = Drainer(self._valkey, self.recorder.journal_sink(), observer=self._drain_observer())
        self._resources.callback(drainer.close)
        return drainer

    def _drain_observer(self) -> Callable[[Sequence[Item], Sequence[Item]], None]:
        """Return what learns from drained records, the log of suggestions and perhaps the warehouse."""
        feed = self._journal_feed()

        def observe(written: Sequence[Item], stale: Sequence[Item]) -> None:
            if feed is not None:
                feed(written, stale)
            ended = self.suggestions.learn_drained([*written, *stale])
            sessions, _ = split_readable([each for each in written if entity_of(each) is UserSession], UserSession)
            self._remember(sessions)  # their recorder may not have
            if feed is not None:  # suggestions go around the journal
                feed((), ended)

        return observe

    def _journal_feed(self) -> JournalFeed | None:
        """Return the feed that hands drained records to the warehouse; None unless the journal feeds the warehouse."""
        if self.settings.feed != "journal" or not (self.settings.warehouse_url or "").startswith("duckdb"):
            return None
        from agentmodel.redshift.ingest import JournalFeed

        return JournalFeed(self.warehouse.add_to_inbox, self.table)

    def _learn_in_background(self, recorded: Sequence[HistoryEntity]) -> None:
        """Queue what was recorded for what learns from it: tool health, response cache, suggestions, checks of runs."""
        self._background.put(self.health.learn, self.health.calls_in(recorded))
        if self._valkey is not None:
            self._background.put(self.response_cache.learn, self.response_cache.writes_in(recorded))
            self._background.put(self._remember, [each for each in recorded if isinstance(each, UserSession)])
        self._background.put(self.suggestions.learn, self.suggestions.ended_in(recorded))
        self._background.put(self.run_checks.learn, self.run_checks.ended_in(recorded))
        self._count_failures(recorded)  # after the put, so that who sees the count waits for what it counts

    def _count_failures(self, recorded: Sequence[HistoryEntity]) -> None:
        """Count what has a failure, so that a decision waits until that is learnt from."""
        now = datetime.now(UTC)
        if any(
            isinstance(each, ToolExecution) and not (each.succeeded and (each.executed_at or now) <= now)
            for each in recorded
        ):  # a success may end a failure where the clock of who recorded it is ahead
            with self._counting:
                self._failures += 1

    def _remember(self, sessions: Sequence[UserSession]) -> None:
        """Add sessions to the list of the newest ones, which shows what the warehouse does not have yet."""
        if self._newest is None:
            return
        try:
            self._newest.add(
                ((each.user_id, each.session_id, each.started_at) for each in sessions if each.started_at),
                erasing_key=lambda user_id: erasing_key(self.settings.valkey_prefix, user_key(user_id)),
            )
        except CacheUnavailable as error:
            _log.debug("sessions.not_listed: %d sessions are listed after the next refresh: %s", len(sessions), error)

    def _check_in_background(self, written: Sequence[Item]) -> None:
        """Take back what was written straight into the table while its user was erased."""
        self._background.put(self._take_back, written)

    def _take_back(self, written: Sequence[Item]) -> None:
        for item in self._marks.take_back(written):
            if self._caches is not None:
                partition = item["PK"]["S"]
                self._caches.user_cache.invalidate(keys.owner_of(partition)[0], partition)

    def settle(self) -> None:
        """Wait until everything that was recorded is written and learned from: health of tools, outcome of suggestions.

        That is done in threads, a moment after each call or record. The methods of this model that read it settle
        first; call this before another process reads. It waits for 30 seconds at most for each, in a guard's decision
        for half of the time that is left to it, and logs a warning when that was not enough.

        >>> model.settle()  # what was recorded counts for the health of tools now, also for another process
        """
        failures = self._failures
        written = self.recorder.settle()
        seconds = half_of_what_is_left(FLUSH_TIMEOUT)
        learned = self._background.flush(seconds)
        if learned and written:
            counted = self._failures  # some twice: as a call was made, and as it was written
            idle = not self.recorder.waiting and not self._background.waiting
            self._learned_failures = max(self._learned_failures, counted if idle else failures)
        elif not learned:
            _log.warning(
                "learning.slow: %d recorded items are not learned from yet after %.1f seconds; reading without them",
                self._background.waiting,
                seconds,
            )

    def _settle_failures(self) -> None:
        """Settle where a failed call may not be learned from yet."""
        if self._failures != self._learned_failures:
            self.settle()

    # Learn

    def refresh(
        self,
        *,
        as_of: date | datetime | None = None,
        full: bool = False,
        source: FeedSource | None = None,
        progress: _Progress = _silent,
        wait: float = WAIT,
    ) -> Refreshed:
        """Bring the table's history into the warehouse, and compute scores and patterns anew.

        On Redshift, zero-ETL brings it; on DuckDB, the table's items are copied first.

        Args:
            as_of: The day that recency is counted to; today (UTC) when not given.
            full: Build everything anew, not only what changed since the last refresh.
            source: How items come into DuckDB, or the folder of a table export; AGENTMODEL_FEED when not given.
            progress: Called with what is done, how much of it, and of how much.
            wait: Seconds to wait for another refresh that is under way; 0 does not wait.

        Raises:
            LeaseHeld: Another refresh takes longer than ``wait``; the message says who works since when.
            WarehouseUnavailable: The warehouse does not answer, or another process uses it.
            ConfigurationError: There is no warehouse; or ``source`` is given and the warehouse is not DuckDB, or the
                table has no stream to read.
            ValidationError: The export is not one, is of another table, or is older than what the warehouse has.
        """
        warehouse = self.warehouse
        self.settle()
        self.table.breaker.probe_now()
        landed = None
        with warehouse.lease(wait=wait):
            now = datetime.now(UTC)
            try:
                self.table.check_format()
                self._erasure.finish_warehouse()
            except NewerData:
                raise
            except (TableUnavailable, ConfigurationError) as error:  # a refresh of Redshift needs no table
                _log.warning("erase: could not read who was erased elsewhere; the next refresh looks again: %s", error)
            if source is not None or warehouse.needs_landing:
                from agentmodel.redshift.ingest import ingest

                feed, items = source or self.settings.feed, self._embedded_items()
                landed = ingest(warehouse, self.table, feed, full_feed=items, at=now, progress=progress)
            refreshed = warehouse.refresh(as_of=as_of or now, full=full, progress=progress)
        return replace(refreshed, landed=landed)

    def _embedded_items(self) -> ItemsFeed | None:
        """Return all items of an embedded engine, which are in this process and need no Scan."""
        from agentmodel.redshift.ingest import ItemsFeed

        items = None if self._engines is None else self._engines.items(self.table.name, self.settings.region)
        return None if items is None else ItemsFeed(items)

    @cached_property
    def prices(self) -> Prices | None:
        """Return the prices of models that `AGENTMODEL_PRICES` names; None where it names none.

        Raises:
            ValidationError: The file cannot be read, or is of no known format.

        >>> model.prices.of("gpt-5")[0].output
        1e-05
        """
        path = self.settings.prices
        return None if path is None else Prices.read(path)

    @cached_property
    def warehouse(self) -> Warehouse:
        """Return the warehouse, opened, with its tables created.

        Raises:
            ConfigurationError: No warehouse is set, or its tables are of another version: `migrate` brings those of an
                earlier one up to this one.
            MissingExtraError: Its packages are not installed; the message has the pip line.

        >>> model.warehouse.counts()["agent"]
        2
        """
        self._opened_warehouse.create()
        return self._opened_warehouse

    def migrate(
        self,
        *,
        apply: bool = False,
        only: Literal["table", "warehouse"] | None = None,
        progress: _Progress = _silent,
        wait: float = WAIT,
    ) -> list[SchemaChange]:
        """Return what brings stored data of an earlier version up to this one, and do it where ``apply`` says so.

        That of the AWS sample's own warehouse counts as an earlier version. Every row of a warehouse and every record
        of the table is kept. The table is migrated item by item, while others record.

        Args:
            apply: Whether the changes are made; otherwise they are only returned.
            only: The one of the two to look at; both when not given, the warehouse where one is set.
            progress: Called with what is looked at, how many of it, and of how many.
            wait: Seconds to wait for a refresh, or for others that change the table; 0 does not wait.

        Raises:
            NewerData: A newer agentmodel has changed the data.
            ConfigurationError: There is no warehouse, and ``only`` asks for it; or one of its tables cannot be brought
                up to this version.
            LeaseHeld: Another works for longer than ``wait``.
            TableUnavailable: The table does not answer; called again, it goes on where it was.
            WarehouseUnavailable: The warehouse does not answer or rejects a statement; nothing in it was changed.

        >>> model.migrate()  # nothing to change: this version made everything
        []
        """
        changes: list[SchemaChange] = []
        asks_warehouse = only == "warehouse" or (only is None and self.settings.warehouse_url is not None)
        warehouse = self._opened_warehouse if asks_warehouse else None
        if only != "warehouse":
            if apply and warehouse is not None:
                warehouse.migration()  # one that cannot be brought up is refused before the table is changed
            table = self.table
            changes += table.migrate(wait=wait, progress=progress) if apply else table.migration(progress=progress)
        if warehouse is not None:
            changes += warehouse.migrate(wait=wait) if apply else warehouse.migration()
        return changes

    @cached_property
    def _opened_warehouse(self) -> Warehouse:
        url = self.settings.warehouse_url
        if url is None:
            raise ConfigurationError(
                "there is no warehouse: set AGENTMODEL_WAREHOUSE_URL, such as duckdb:///history.duckdb"
            )
        try:
            from agentmodel.redshift.warehouse import Warehouse
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "local" if url.startswith("duckdb") else "redshift", "the warehouse", error.name
            ) from error
        warehouse = Warehouse.open(
            url,
            schema=self.settings.warehouse_schema,
            landed_table=self.settings.landed_table,
            half_life_days=self.settings.half_life_days,
            revision_prior=self.settings.revision_prior,
            memory_limit=self.settings.warehouse_memory,
            prices=self.prices,
        )
        self._resources.callback(warehouse.close)
        return warehouse

    def publish(
        self, *, as_of: date | datetime | None = None, progress: _Progress = _silent, wait: float = WAIT
    ) -> Published:
        """Write the scores and best processes of the last refresh back into table and Valkey.

        In a domain in which plans do harm (see `impact`), none are given from now on, with a warning.

        Args:
            as_of: The day that recency is counted to; today (UTC) when not given.
            progress: Called with what is done, how much of it, and of how much.
            wait: Seconds to wait for another publish that is writing; 0 does not wait.

        Raises:
            LeaseHeld: Another publish writes for longer than ``wait``; the message says who works since when.
            ConfigurationError: There is no warehouse.
            ValidationError: ``as_of`` is a datetime without a time zone.
            WarehouseUnavailable: The warehouse does not answer.
            TableUnavailable: The table does not answer; what was written stays, and the next publish does the rest.

        >>> published = model.publish()
        >>> published.refused, published.regressed
        (0, 0)
        """
        from agentmodel.suggest.publish import Publisher

        self.settle()
        self.table.breaker.probe_now()
        self.table.check_format()
        publisher = Publisher(self.settings, self.repository, table=self.table, writer=self.writer, caches=self._caches)
        lease = self.table.lease("publish", doing="publish", wait=wait)
        published = publisher.publish(
            self.warehouse, as_of=as_of or datetime.now(UTC), progress=progress, before_writing=lease
        )
        published.stopped = len(self._stop_harmful_plans())
        self.planner.load()
        return published

    def _stop_harmful_plans(self) -> list[str]:
        from agentmodel.suggest.evaluate import stop_harmful

        return stop_harmful(self.impact(), self.repository, now=datetime.now(UTC))

    def export(
        self, to: str | Path, *, full: bool = False, progress: _Progress = _silent, wait: float = WAIT
    ) -> ExportReport:
        """Write history, scores and patterns as Parquet into a folder or a bucket, as of the last refresh.

        Only what changed since the export before is written, and what was erased since is removed. Where this model
        redacts, the texts are redacted once more.

        Args:
            to: A folder, or a URL such as ``s3://bucket/prefix``.
            full: Write every file anew.
            progress: Called with what is written, how much of it is done, and of how much.
            wait: Seconds to wait for another export that is under way; 0 does not wait.

        Raises:
            ConfigurationError: There is no warehouse, or the folder or bucket cannot be written.
            ValidationError: ``to`` is neither, or something else than an export is there.
            LeaseHeld: Another export takes longer than ``wait``.
            Unavailable: A store or S3 does not answer; exporting again does the rest.
            MissingExtraError: pyarrow is not installed; the message has the pip line.

        >>> report = model.export(folder / "export")
        >>> sorted(path.name for path in (folder / "export").iterdir())[:4], report.rows["agents"]
        (['agent_scores', 'agents', 'calls', 'domains'], 2)
        """
        warehouse = self.warehouse  # before the import, as in `evaluate`
        from agentmodel.redshift.export import export

        with self.table.lease("export", doing="export", wait=wait) as lease:
            return export(
                warehouse, self.settings, to, redaction=self.table.redaction, full=full,
                progress=lease.checked(progress),
            )  # fmt: skip

    # Suggest

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
        """Return a plan for a user's request: which agent, which steps, which tools to avoid, and why.

        Give a category, a request or a domain, or several of them. Give the plan to the session that it is for, also
        one that is withheld (see `impact`): ``model.session(..., plan=plan)``. In the block of a session of this user
        it is the plan of that session, if that has none yet.

        Args:
            user_id: Who asks.
            category: The kind of request.
            request: What is asked, in the user's words.
            domain_id: The domain to choose an agent of; when not given, the only one, or the one that `route` finds.
            session_id: The session that the plan is for, if it has begun elsewhere: all plans of a session are given,
                or all are withheld.

        Raises:
            ValidationError: None of them is given, or an id is not valid.
            NotFound: The domain does not exist.

        >>> plan = model.suggest("USR002", request="a quiet café at the lake")
        >>> plan.agent, [step.tool for step in plan.steps], plan.source
        ('review agent', ['read_reviews'], 'own similar request')
        >>> print(plan.reasons[0])
        You made a similar request before (92 % similar): `a quiet café at the park`.
        """
        session = None
        block = running() if session_id is None else None
        if block is not None and block[0].user_id == user_id:
            session = block[0].entity
            session_id = session.session_id
        plan = self.planner.suggest(
            user_id, category=category, request=request, domain_id=domain_id, session_id=session_id
        )
        if session is not None and session.suggestion_id is None:
            session.suggestion_id = plan.suggestion_id
        return plan

    @takes_names
    def next_tools(
        self,
        session: SessionRecorder | str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        limit: int = 3,
    ) -> NextTools:
        """Return the tools that an agent is likely to call next in a session, with what to use where one may fail.

            with model.session("USR001", request, category="cafe search") as session:
                ...
                prompt = model.next_tools(session).as_prompt()  # one line for the model's context

        `Planner.next_tools` says what they are predicted from; it takes a list of tools, too. `agentmodel evaluate`
        shows how often the next tool was among them. In a session whose plan is withheld (see `impact`), they are too.

        Args:
            session: The session, or its id.
            user_id: The user; needed with an id only.
            agent_id: The agent; the one that made the last call when not given.
            limit: The most tools to return.

        Raises:
            ValidationError: An id is not valid or missing, or ``limit`` is below 1.
            NotFound: The session or the agent does not exist.
            TableUnavailable: The table does not answer, and nothing that is cached says anything.

        >>> with model.session("USR002", "a quiet café at the lake", category="cafe search") as session:
        ...     likely = model.next_tools(session, agent_id="AGT002")
        >>> [tool.tool for tool in likely.tools]
        ['read_reviews']
        >>> print(likely.as_prompt())
        Tools that are usually called next: `read_reviews` (100 %; 100 % of its calls succeeded).
        """
        if isinstance(session, str):
            if user_id is None:
                raise ValidationError("user_id", user_id, "must be given with the id of a session")
            entity = self.repository.session(user_id, keys.lenient_id_of("SESS", session))
            if entity is None:
                raise NotFound("session", session)
        elif isinstance(session, SessionRecorder):
            entity = session.entity
        else:
            raise ValidationError("session", session, "must be a session that is recorded, or the id of one")
        history = self.repository.session_history(entity.user_id, entity.session_id)
        calls = [call for call in history.executions if call.status in (None, "ok", "error", "cache_hit")]
        agent = agent_id if agent_id is not None else calls[-1].agent_id if calls else None
        if agent is None:
            raise ValidationError("agent_id", agent_id, "must be given while no call of the session was recorded")
        done = {(call.process_id, call.tool_id): call.tool_name for call in calls if call.agent_id == agent}
        found = self.planner.next_tools(
            entity.user_id,
            agent_id=agent,
            done=list(done.values()),
            category=entity.category,
            request=entity.request,
            limit=limit,
        )
        withheld = self.settings.holdout and entity.suggestion_id is not None and self.suggestions.was_withheld(entity)
        return found.model_copy(update={"tools": (), "withheld": True}) if withheld else found

    @cached_property
    def planner(self) -> Planner:
        """Return the planner; make a `Planner` of your own for another `Similarity`, or to explore.

        >>> model.planner.suggest("USR002", category="cafe search").agent
        'review agent'
        """
        from agentmodel.suggest.plan import Planner

        planner = Planner(
            self.repository,
            health=self.health,
            log=self.suggestions,
            routing=self._routing,
            route_by_descriptions=self.settings.route_by_descriptions,
            ranking=self.settings.ranking,
            review_below=self.settings.review_below,
            holdout=self.settings.holdout,
        )
        self._resources.callback(planner.close)
        return planner

    def route(self, request: str) -> tuple[DomainMatch, ...]:
        """Return the domains that fit a request, best first; none where none fits.

        They are found by earlier requests, of all users, and by names, descriptions, tools and examples of the domains,
        as of the last publish. A domain of which fewer than five requests are known is compared by descriptions alone,
        where no other domain fits; its `basis` says so, and `suggest` does not take it unless
        ``AGENTMODEL_ROUTE_BY_DESCRIPTIONS`` is set.

        Args:
            request: What is asked, in the user's words, in any script; its first 500 characters are compared.

        Raises:
            ValidationError: The request is not a text or is blank; or the application's router returned something else
                than domains of the catalogue with likelihoods.
            TableUnavailable: The table does not answer, and nothing was read before.

        >>> [(match.name, match.basis) for match in model.route("a quiet café at the lake")]
        [('Store search', 'descriptions')]
        """
        return self._routing.route(request)

    def routing_prompt(self) -> str:
        """Return the text for a model that chooses the domain of a request: the domains, as data, and what to answer.

        Each domain has its id, name, description, the names of up to 30 tools and up to 20 of its examples. Give the
        request to the model beside it, and what it answered to `route` by a `Router`.

        >>> print(model.routing_prompt().splitlines()[0])
        Choose the domain that the user's request belongs to.
        """
        return self._routing.prompt()

    @cached_property
    def _routing(self) -> Routing:
        from agentmodel.suggest.plan import Routing

        return Routing(self.repository, self.table, router=self._router)

    @cached_property
    def suggestions(self) -> SuggestionLog:
        """Return the log of suggestions: what was suggested, whether it was followed, and how that went.

        >>> plan = model.suggest("USR203", category="cafe search")
        >>> [(one.suggestion_id == plan.suggestion_id, one.choice) for one in model.suggestions.of_user("USR203")]
        [(True, 'AGT002')]
        """
        from agentmodel.suggest.plan import SuggestionLog

        return SuggestionLog(
            self.settings, self.table, writer=self.writer, repository=self.repository, settle=self.settle
        )

    @cached_property
    def health(self) -> HealthMonitor:
        """Return the health monitor, which knows which tools are failing now.

        >>> [(tool.tool, tool.state) for tool in model.health.tools("DMN001")]
        [('book_table', 'closed'), ('find_on_map', 'closed'), ('read_reviews', 'closed')]
        """
        from agentmodel.suggest.health import HealthMonitor

        monitor = HealthMonitor(
            self.table,
            writer=self.writer,
            repository=self.repository,
            valkey=self._valkey,
            settle=self.settle,
            settle_failures=self._settle_failures,
        )
        monitor.on_change.append(self.response_cache.health_changed)
        return monitor

    # Erase

    @takes_names
    def erase_user(self, user_id: str, *, progress: _Progress = _silent) -> ErasureReport:
        """Erase a person: everything of the user in table, Valkey and warehouse that was recorded until now.

        Recorders, drainers and publishes of all processes may go on meanwhile. What a session that is open now records
        within a day is erased too; later records are a new history. An erasure that was stopped is finished by calling
        it again.

        Args:
            user_id: Id of the user, or the name that the id is made of: ``USRmina`` or ``mina``.
            progress: Called with the name of each step, how many are done, and of how many.

        Returns:
            What was removed from each store, and what remains until when, such as backups.

        Raises:
            ValidationError: The id is not valid.
            Unavailable: A store does not answer; the erasure is not complete. Call it again once it answers.

        >>> with model.session("USR204", "a café") as session:
        ...     pass
        >>> model.drain().left
        0
        >>> model.erase_user("USR204").removed["table"]
        {'UserSession': 1}
        >>> model.repository.sessions("USR204").items
        ()
        """
        self.settle()
        self.table.check_format()
        report = self._erasure.erase(user_id, progress=progress)
        self.planner.load()
        return report

    @cached_property
    def _erasure(self) -> Erasure:
        from agentmodel.erasure import Erasure

        return Erasure(
            self.table,
            self.repository,
            caches=self._caches,
            warehouse=None if self.settings.warehouse_url is None else lambda: self.warehouse,
            drain=lambda: None if self.journal is None else self.drainer.drain(),
            clock=self._clock,
            forget=self.health.forget_user,
            forget_requests=self._routing.erase_user,
            save=None if self._engines is None else self._engines.save,
        )

    # Decide before a call

    def tool(
        self,
        *,
        agent: str,
        name: str | None = None,
        domain: str = "agents",
        cache: CacheScope | Literal[False] = False,
        review: ReviewRule = "never",
        block: bool = True,
        queue: str = "review",
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        wait: bool | float = False,
        revision: str | None = None,
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Make a plain function, synchronous or not, a tool of an agent: each call is decided about and recorded.

            @model.tool(agent="finder", cache="user")
            def search(near: str) -> list[str]: ...

        A call belongs to the ``with model.session(...)`` block that it is made in, and to that block's process.
        Outside of a block each call is a session of its own, of the anonymous user. At its first call the tool is added
        to the catalogue, unless it is there. In asyncio, a function that is not a coroutine function blocks the event
        loop while it runs.

        A call that is not made raises `ToolBlocked`, `CallRejected`, `ReviewPending`, or plain `NotCalled` where nobody
        could be asked.

        Args:
            agent: Name or id of the agent that the tool belongs to.
            name: The tool's name; that of the function when not given.
            domain: The domain of the agent.
            cache: Who gets a cached result of this read-only tool, ``user`` or ``everybody``; False caches none.
            review: When a person is asked before a call; see `guard`.
            block: Whether calls are blocked while the tool is failing.
            queue: The queue that reviewers look at.
            answer_within: How long reviewers have; after it the question counts as answered by ``on_expiry``.
            on_expiry: The decision when nobody answered in time.
            wait: Whether a call waits for the reviewer, or for how many seconds. Otherwise it raises `ReviewPending`,
                and is made when it is called again after the answer.
            revision: The revision of the agent (of its prompt, model and tools); the session's when not given.

        Raises:
            ValidationError: The function is a generator, or has no signature.

        >>> @model.tool(agent="finder", cache="user")
        ... def look_up(near: str) -> list[str]:
        ...     return [f"a café at the {near}"]
        >>> with model.session("USR205") as session:
        ...     look_up("park")
        ['a café at the park']
        >>> [call.tool_name for call in model.repository.session_history("USR205", session.session_id).executions]
        ['look_up']
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
            wait=wait,
            revision=revision,
        )

    @cached_property
    def functions(self) -> FunctionTools:
        """Return the maker of function tools, which `tool` uses; its ``errors`` counts calls that were not recorded.

        >>> model.functions.errors
        0
        """
        from agentmodel.tools import FunctionTools

        return FunctionTools(self.recorder, self.repository, reviews=self.reviews)

    def guard(
        self,
        *,
        review: ReviewRule = "marked",
        cache: CacheScope | Literal[False] = "user",
        block: bool | Collection[str] = True,
        queue: str = "review",
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        domain: str = "agents",
    ) -> Guard:
        """Return a guard, which decides before each call: make it, answer from the cache, block it, or ask a person.

        Args:
            review: When a person is asked: for tools ``marked`` by ``needs_review``, by ``history`` for these and for
                writes that earlier runs of the user and category speak against, by ``policy`` (`Reviews.needed`),
                ``never``, ``always``, for tools of these names, or where a function of agent id, tool id and arguments
                returns a reason.
            cache: Who gets a cached result of a read-only tool, ``user`` or ``everybody``; False uses no cache.
            block: Whether tools that are failing are blocked; or the names of those that are.
            queue: The queue that reviewers look at.
            allowed: The decisions that reviewers may make.
            answer_within: How long reviewers have; after it the question counts as answered by ``on_expiry``.
            on_expiry: The decision when nobody answered in time.
            domain: The domain of agents that are given by name.

        Raises:
            ValidationError: An argument is not accepted.

        >>> guard = model.guard(review=["book_table"])
        >>> decision = guard.before(agent_id="AGT002", tool_id="TL003", user_id="USR002", session_id="SESS3")
        >>> type(decision).__name__, decision.review.question
        ('Ask', 'May AGT002 call book_table?')
        """
        from agentmodel.suggest.guard import Guard

        return Guard(
            self.repository,
            health=self.health,
            reviews=self.reviews,
            response_cache=self.response_cache,
            planner=self.planner,
            valkey=self._valkey,
            review=review,
            cache=cache,
            block=block,
            queue=queue,
            allowed=allowed,
            answer_within=answer_within,
            on_expiry=on_expiry,
            domain=domain,
            timeout=self.settings.guard_timeout,
        )

    @cached_property
    def response_cache(self) -> ResponseCache:
        """Return the response cache, which keeps results of read-only tools.

        >>> model.response_cache.look("AGT002", "TL002", {"place": "lake"}, user_id="USR002").hit
        False
        """
        from agentmodel.suggest.guard import ResponseCache

        return ResponseCache(self.repository, valkey=self._valkey, settle=self.settle)

    @cached_property
    def reviews(self) -> Reviews:
        """Return the reviews: questions to people before a step, and verdicts on runs.

        >>> model.reviews.needed("AGT002", "TL003")
        ("book_table needs a person's approval",)
        """
        from agentmodel.suggest.review import ReviewPolicy, Reviews, ReviewWebhook

        report = None
        if self.settings.review_webhook_url is not None:
            webhook = ReviewWebhook(self.settings)
            self._resources.callback(webhook.close)
            report = webhook.report
        return Reviews(
            self.settings,
            self.table,
            writer=self.writer,
            repository=self.repository,
            recorder=self.recorder,
            policy=ReviewPolicy(self.repository, watch=self.health),
            report=report,
        )

    @cached_property
    def run_checks(self) -> RunChecks:
        """Return the checks of runs: whether one looks wrong, and which step of a failed one did it.

        >>> print(model.run_checks.check("USR002", "SESS1").note)
        its writes are those of an earlier success (3 are known)
        """
        from agentmodel.suggest.review import RunChecks

        return RunChecks(
            self.repository, recorder=self.recorder, reviews=self.reviews, review=self.settings.review_runs
        )

    # Measure and report

    def evaluate(self, *, train_share: float = 0.6) -> Evaluation:
        """Measure how good rankings, plans and predictions would have been, by replaying the history in time order.

        Args:
            train_share: Share of each domain's runs that is only learned from, before the first is judged; between 0
                and 1.

        Raises:
            ConfigurationError: There is no warehouse.
            ValidationError: ``train_share`` is not between 0 and 1.

        >>> evaluation = model.evaluate(train_share=0.5)
        >>> evaluation.runs, evaluation.training_runs
        (6, 3)
        """
        warehouse = self.warehouse  # before the import: it raises MissingExtraError where the packages are missing
        from agentmodel.suggest.evaluate import evaluate, runs_from_warehouse

        runs = runs_from_warehouse(warehouse)
        return evaluate(
            runs,
            train_share=train_share,
            half_life_days=self.settings.half_life_days,
            read_only=self._read_only_tools(),
        )

    def wrong_steps(self) -> list[WrongStepRow]:
        """Return where failed runs went wrong, by category with counts, from the history of the last refresh.

        Each failed run is compared with all other runs of its user and category; `run_checks` has it for one run.

        Raises:
            ConfigurationError: There is no warehouse.

        >>> [(row.category, row.answer, row.tool, row.runs) for row in model.wrong_steps()]
        [('cafe search', 'error', 'find_on_map', 2)]
        """
        warehouse = self.warehouse  # before the import, as in `evaluate`
        from agentmodel.suggest.evaluate import runs_from_warehouse, wrong_steps

        return wrong_steps(runs_from_warehouse(warehouse), read_only=self._read_only_tools())

    def _read_only_tools(self) -> set[str]:
        """Return the names of the tools that the catalogue marks read-only."""
        domains = every(self.repository.domains)
        tools = (tool for one in domains for tool in every(partial(self.repository.domain_tools, one.domain_id)))
        return {tool.name for tool in tools if tool.read_only}

    def impact(self) -> Impact:
        """Measure what plans change: success, calls, tokens and time of sessions with a plan and without.

        ``AGENTMODEL_HOLDOUT`` is the share of plans that are made and recorded, but withheld at random. Sessions are
        compared within domain, category and share, as of the last refresh; a session counts once its outcome is known.
        The intervals hold at every look: at most 5 of 100 installations in which plans change nothing would ever see a
        difference. A publish stops plans in a domain in which they do harm; `resume_plans` lets them be given again.

        Raises:
            ConfigurationError: There is no warehouse.
            TableUnavailable: The table does not answer.

        >>> model.impact().sentence
        '...Sessions with a plan: 1, without: 2. At least 30 of each are needed before anything is said, ...'
        """
        warehouse = self.warehouse  # before the import, as in `evaluate`
        from agentmodel.redshift.reports import plan_sums
        from agentmodel.suggest.evaluate import impact

        return impact(plan_sums(warehouse), every(self.repository.domains), share=self.settings.holdout)

    def resume_plans(self, domain_id: str) -> None:
        """Let plans be given again in a domain in which they were stopped; `impact` counts later sessions only.

        Args:
            domain_id: The domain.

        Raises:
            NotFound: The domain does not exist.
            ValidationError: Plans were not stopped in it.

        >>> model.resume_plans("DMN001")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.ValidationError: domain_id ('DMN001') must be a domain in which plans ...
        """
        domain = self.repository.domain(domain_id)
        if domain is None:
            raise NotFound("domain", domain_id)
        if domain.plans_stopped_at is None:
            raise ValidationError("domain_id", domain_id, "must be a domain in which plans were stopped")
        now = datetime.now(UTC)
        self.repository.update(domain.key, Domain.plans_stopped_at.to(None), Domain.plans_resumed_at.to(now))

    def savings(self) -> list[SavingsRow]:
        """Return what cached results saved in each category: calls, time and tokens, counted, as of the last refresh.

        Raises:
            ConfigurationError: There is no warehouse.

        >>> [(row.category, row.hits, row.sessions) for row in model.savings()]
        [('cafe search', 1, 1)]
        """
        warehouse = self.warehouse  # before the import, as in `evaluate`
        from agentmodel.redshift.reports import savings

        return savings(warehouse)

    def report(self, path: str | Path, *, as_of: date | datetime | None = None, rows: int = 500) -> Path:
        """Write the results of the last refresh into one HTML page with charts for operators, which opens offline.

        Args:
            path: The file; an existing one is replaced.
            as_of: The day to score for; today (UTC) when not given.
            rows: The most rows of each table.

        Returns:
            The path of the file.

        Raises:
            ConfigurationError: There is no warehouse.
            MissingExtraError: matplotlib or the warehouse's packages are not installed; the message has the pip line.
            ValidationError: ``rows`` is below 1.

        >>> model.report(folder / "report.html").stat().st_size > 10_000
        True
        """
        warehouse = self.warehouse  # before the import, as in `evaluate`
        from agentmodel.redshift.report_html import report

        file = Path(path)
        wrong = [(row.domain, row.category, row.answer, row.tool, row.runs) for row in self.wrong_steps()]
        page = report(warehouse, as_of=as_of or datetime.now(UTC), rows=rows, wrong_steps=wrong)
        write_file(file, page)
        return file

    def stats(self) -> CacheStats | None:
        """Return figures of Valkey: the journal, the circuit breakers, and hits and misses of each access pattern.

        Returns:
            The figures, or None where no Valkey is set up.

        >>> stats = model.stats()
        >>> stats.breaker, stats.journal.dead, stats.journal.level
        ('closed', 0, 'valkey')
        """
        if self._valkey is None or self._caches is None or self.journal is None:
            return None
        from agentmodel.cache import cache_stats

        caches = self._caches
        return cache_stats(
            self._valkey,
            self.journal,
            table_breaker=self.table.breaker,
            read_through=caches.read,
            user_cache=caches.user_cache,
            leaderboard=caches.leaderboard,
        )

    # Close

    def close(self) -> None:
        """Finish what runs in the background, close connections, and stop engines that were started for this model.

        Trackers and span processors of this model write what they still hold first, and are closed.
        """
        while self.on_close:
            self.on_close.pop()()
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
