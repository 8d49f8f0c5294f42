"""Create a warehouse, land items in it, and refresh its tables and scores.

On a laptop the warehouse is DuckDB, and `Warehouse.land` does what zero-ETL does in production: there the warehouse is
Redshift, and DynamoDB zero-ETL lands the table. The statements of a refresh are the same on both.

A refresh is one transaction: a process that dies in it changes nothing, and the next refresh does the work. One
transaction at a time writes; of two refreshes one works, and the other waits or says who does.

A refresh looks back some time before its watermark (``overlap``). An item that it reads again is counted once, so a
longer overlap only costs time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    Table,
    column,
    delete,
    exc,
    func,
    insert,
    make_url,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.schema import CreateSchema

from agentmodel._runtime.lease import WAIT, Lease, hold
from agentmodel._runtime.process import ForkSafeLock, never_collect, renew_in_child
from agentmodel._schema_change import SchemaChange
from agentmodel._values.urls import without_secrets
from agentmodel.exceptions import ConfigurationError, ValidationError, WarehouseUnavailable
from agentmodel.prices import Prices
from agentmodel.redshift import _refresh_sql as statements
from agentmodel.redshift import models as m
from agentmodel.redshift._connection import checked_schema, redshift_engine
from agentmodel.redshift._constructs import key_part
from agentmodel.redshift._costs_sql import load_prices
from agentmodel.redshift._duckdb_dialect import copy_for_readers, duckdb_engine, has_copy, reads_only, rewrite_file
from agentmodel.redshift._duckdb_landing import (
    Landed,
    add_to_inbox,
    apply_inbox,
    create_landing,
    erase_landed,
    landing_table,
    newest_time,
    read_positions,
)
from agentmodel.redshift._feeds import ExportFeed, Feed, FeedBatch, ItemsFeed
from agentmodel.redshift._gate import Gate
from agentmodel.redshift._leases import WarehouseLeases, lock_writers, only_writer
from agentmodel.redshift._migration import MIGRATE, SCHEMA, check_schema, plan, version_of
from agentmodel.redshift._rows import Rows, of_select
from agentmodel.redshift._table_layout import is_view
from agentmodel.redshift.score import REVISION_PRIOR

__all__ = ["Landed", "Refreshed", "Rows", "SchemaChange", "Warehouse"]

Progress = Callable[[str, int, int], None]
"""Called with a step's name, the number of steps done and the number of all steps."""


_creating = ForkSafeLock()


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        as_of: The day the scores are computed for.
        full: Whether every table was built from scratch rather than updated.
        rows: Rows of each table after the refresh.
        set_aside: Items that landed since the refresh before, in a full build ever, and count nowhere, because an id
            in their key has more than 132 characters.
        landed: What was landed before it; None where zero-ETL lands the items, or `Warehouse.refresh` was called
            directly.

    >>> from datetime import date
    >>> own = Warehouse.open("duckdb://")
    >>> own.create()
    >>> refreshed = own.refresh(as_of=date(2027, 1, 1))
    >>> refreshed.as_of, refreshed.full, refreshed.rows["agent"]
    (datetime.date(2027, 1, 1), True, 0)
    >>> own.close()
    """

    as_of: date
    full: bool
    rows: Mapping[str, int] = field(default_factory=dict)
    landed: Landed | None = None
    set_aside: int = 0


class Warehouse:
    """The warehouse of one installation, on DuckDB or Redshift; made by `Warehouse.open`.

    Attributes:
        engine: The SQLAlchemy engine.
        half_life_days: Days after which an execution counts half in the `evidence` ranking.
        revision_prior: Executions that earlier revisions of an agent count as at most, see `score.revision_weight`.
        prices: The prices of models, which a refresh stores; None leaves those that are stored.

    >>> from datetime import UTC, date, datetime
    >>> own = Warehouse.open("duckdb://", landed_table=model.table.name)
    >>> own.create()
    >>> landed = own.land(model.table.scan(), at=datetime.now(UTC))
    >>> own.refresh(as_of=date(2027, 1, 1)).rows["agent"] >= 2, own.has_landed()
    (True, True)
    >>> own.close()
    """

    def __init__(
        self,
        engine: Engine,
        *,
        schema: str | None,
        landed_table: str,
        history_mode: bool,
        overlap: timedelta,
        half_life_days: float,
        revision_prior: float = REVISION_PRIOR,
        prices: Prices | None = None,
    ) -> None:
        self.engine = engine
        self.prices = prices
        self.revision_prior = revision_prior
        self._schema = schema
        self.half_life_days = half_life_days
        self._overlap = overlap
        self._local = engine.dialect.name == "duckdb"
        self._landed = (
            landing_table(landed_table) if self._local else m.landed_table(landed_table, history=history_mode)
        )
        self._thread = threading.local()  # the lease and the snapshot of a thread
        self._gate = Gate()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without connections in a forked child; those of its parent are dropped and not closed."""
        self._thread = threading.local()
        never_collect(self.engine.pool)
        self.engine.dispose(close=False)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        schema: str | None = None,
        landed_table: str = "AgentTable",
        history_mode: bool = True,
        overlap: timedelta = timedelta(hours=1),
        half_life_days: float = 30.0,
        revision_prior: float = REVISION_PRIOR,
        memory_limit: str | None = None,
        threads: int | None = None,
        prices: Prices | None = None,
    ) -> Self:
        """Open a warehouse.

        Args:
            url: ``duckdb:///file.duckdb``, ``duckdb://`` (in memory), ``redshift+redshift_connector://…``, or
                ``redshift+data://workgroup/database``, which uses the Data API.
            schema: The schema of the tables; None for the user's own, which is ``public`` or, on DuckDB, ``main``.
            landed_table: The table that zero-ETL lands, such as ``dbagent.public."AgentTable"``.
            history_mode: Whether zero-ETL runs in history mode. Without it every refresh reads all that landed, and
                does not notice what a person deleted. On DuckDB it is always on.
            overlap: How far before its watermark a refresh looks for late changes; it must be longer than zero-ETL's
                longest lag.
            half_life_days: Days after which an execution weighs half as evidence.
            revision_prior: Executions that earlier revisions of an agent count as at most, from 1.
            memory_limit: The most memory DuckDB may use, such as ``512MB``.
            threads: The most threads DuckDB may use.
            prices: The prices of models, by which a refresh tells what calls cost.

        Raises:
            ConfigurationError: The URL, the table's name or another argument is not valid.
            MissingExtraError: The engine's packages are not installed.
            WarehouseUnavailable: The engine does not answer, or another process has the DuckDB file open.

        >>> own = Warehouse.open("duckdb://", half_life_days=14)
        >>> own.half_life_days, own.needs_landing
        (14, True)
        >>> own.close()
        """
        if not (math.isfinite(half_life_days) and half_life_days > 0):
            raise ConfigurationError(f"half_life_days is {half_life_days}; it must be a number above 0")
        if not (math.isfinite(revision_prior) and revision_prior >= 1):
            raise ConfigurationError(f"revision_prior is {revision_prior}; it must be a number from 1 up")
        if overlap < timedelta(0):
            raise ConfigurationError(f"overlap is {overlap}; it must not be negative")
        engine = _engine(_url(url), schema=checked_schema(schema), memory_limit=memory_limit, threads=threads)
        try:
            return cls(
                engine,
                schema=schema,
                landed_table=landed_table,
                history_mode=history_mode,
                overlap=overlap,
                half_life_days=half_life_days,
                revision_prior=revision_prior,
                prices=prices,
            )
        except ConfigurationError:
            engine.dispose()
            raise

    @property
    def landed(self) -> Table:
        """Return the table that zero-ETL lands, see `agentmodel.redshift.models.landed_table`.

        >>> model.warehouse.landed.columns.keys()
        ['PK', 'SK', 'value', '_record_is_active', '_record_create_time', '_record_delete_time', 'digest']
        """
        return self._landed

    def close(self) -> None:
        """Close all connections; afterwards another process may open a DuckDB file."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction; errors of the engine are raised as `WarehouseUnavailable`.

        Raises:
            WarehouseUnavailable: The engine does not answer or rejects a statement.

        >>> from sqlalchemy import text
        >>> with model.warehouse.begin() as connection:
        ...     connection.execute(text("SELECT count(*) FROM agent")).scalar()
        2
        """
        snapshot: Connection | None = getattr(self._thread, "snapshot", None)
        if snapshot is not None:
            yield snapshot
            return
        try:
            with self._gate.shared(), self.engine.begin() as connection:
                yield connection
        except exc.DBAPIError as error:
            raise WarehouseUnavailable(_explain(error)) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read in one transaction what this thread reads in the block: one state, while a refresh commits another.

        Raises:
            WarehouseUnavailable: The engine does not answer or rejects a statement.

        >>> with model.warehouse.snapshot():
        ...     model.warehouse.counts()["agent"]
        2
        """
        with self.begin() as connection:
            self._thread.snapshot = connection
            try:
                yield
            finally:
                del self._thread.snapshot

    @contextmanager
    def lease(self, *, wait: float = WAIT) -> Iterator[Lease]:
        """Let only this thread land and refresh, to the end of the block; landings and refreshes in it hold the lease.

        At its end the copy of a DuckDB file that other processes read is renewed, where there is one.

        Args:
            wait: Seconds to wait for another holder; 0 does not wait.

        Raises:
            ValidationError: ``wait`` is no number from 0 up.
            LeaseHeld: Another holds it for longer.
            WarehouseUnavailable: The engine does not answer.

        >>> with model.warehouse.lease():
        ...     pass  # nobody else lands or refreshes meanwhile
        """
        held: Lease | None = getattr(self._thread, "lease", None)
        if held is not None:
            yield held
            return
        leases = WarehouseLeases(self.begin, local=self._local)
        with ExitStack() as afterwards, hold(leases, "refresh", doing="refresh", wait=wait) as lease:
            afterwards.callback(self.share, first=False)
            self._thread.lease = lease
            try:
                yield lease
            finally:
                del self._thread.lease

    @contextmanager
    def _writing(self, lease: Lease) -> Iterator[Connection]:
        """Open the one transaction that writes; it is rolled back where the lease was lost before its commit."""
        with only_writer(self.engine), self.begin() as connection:
            lock_writers(connection)
            check_schema(version_of(connection))  # another process may have brought it to a newer one meanwhile
            yield connection
            lease.check()

    def create(self) -> None:
        """Create the tables that are missing, the staging view, and the schema that they are in.

        Raises:
            ConfigurationError: Tables are there that another version of agentmodel, or the AWS sample, has made:
                `migrate` brings those of an earlier one up to this one; or they are of a newer version.
            WarehouseUnavailable: The engine does not answer or rejects a statement.
        """
        with _creating:
            try:
                self._create()
            except WarehouseUnavailable as error:
                if isinstance(error.__cause__, exc.OperationalError):
                    raise
                self._create()  # another process may have created the same table at the same moment

    def _create(self, *, changes_follow: bool = False) -> None:
        """Create what is missing; refuse where what is there must change, unless those changes follow."""
        with self.begin() as connection:
            if reads_only(self.engine):
                check_schema(version_of(connection))
                return
            self._create_schema(connection)
            if self._local:
                create_landing(connection, self._landed)
            changes = plan(connection)
            altered = [change for change in changes if change.alters]
            if altered and not changes_follow:
                raise ConfigurationError(
                    f"{len(altered)} changes bring the warehouse up to this version of agentmodel, such as: "
                    f"{altered[0].table} {altered[0].text}; run {MIGRATE}, which shows them before it makes them"
                )
            for change in changes:
                if not (change.alters or (altered and change.table in _VIEWS)):
                    _run(connection, change)
            if not altered and version_of(connection) != SCHEMA:
                _set_version(connection)

    def _create_schema(self, connection: Connection) -> None:
        if self._schema is not None:
            schemas = sql_table("pg_namespace", column("nspname"))
            known = select(schemas.c.nspname).where(schemas.c.nspname == self._schema)
            if connection.execute(known).first() is None:  # a user may use a schema and not create any
                connection.execute(CreateSchema(self._schema))

    def migration(self) -> list[SchemaChange]:
        """Return what `migrate` would do, and change nothing.

        Raises:
            ConfigurationError: A table cannot be brought up to this version, or a newer agentmodel made it.
            WarehouseUnavailable: The engine does not answer or rejects a statement.

        >>> [change.text for change in model.warehouse.migration()]
        []
        """
        with self.begin() as connection:
            return [change for change in plan(connection) if change.text]

    def migrate(self, *, wait: float = WAIT) -> list[SchemaChange]:
        """Bring tables that the AWS sample or an earlier agentmodel made up to this version; keep every row.

        It is one transaction: if a statement fails, nothing has changed. Run a refresh afterwards, which computes the
        scores anew.

        Args:
            wait: Seconds to wait for a refresh that is under way; 0 does not wait.

        Returns:
            What was done.

        Raises:
            ConfigurationError: A table cannot be brought up to this version, or a newer agentmodel made it.
            LeaseHeld: A refresh takes longer than ``wait``.
            WarehouseUnavailable: The engine does not answer or rejects a statement, such as where a view that is not
                agentmodel's depends on a table.

        >>> own = Warehouse.open("duckdb://")
        >>> own.create()
        >>> own.migrate()  # this version made it: nothing is to be done
        []
        >>> own.close()
        """
        with _creating:
            done = self.migration()
            self._create(changes_follow=True)  # what a lease needs
        with self.lease(wait=wait) as lease, self._writing(lease) as connection:
            for change in plan(connection):
                _run(connection, change)
            _set_version(connection)
        return done

    def land(self, items: Iterable[Any], *, at: datetime, complete: bool = True) -> Landed:
        """Land items in DuckDB, as zero-ETL does in production.

        Args:
            items: Items as DynamoDB JSON; of two with the same keys the later one counts.
            at: When the items were read.
            complete: Whether these are all items of the table. If so, a missing item was deleted: by DynamoDB's TTL if
                it had expired by ``at``, and it stays in the statistics; otherwise by a person, and it leaves them.

        Raises:
            ConfigurationError: The warehouse is Redshift, where zero-ETL lands the items.
            ValidationError: ``at`` is naive, or an item is not DynamoDB JSON.
        """
        return self.land_feed(ItemsFeed(items, complete=complete), at=at)

    def land_feed(self, feed: Feed, *, at: datetime, progress: Progress | None = None) -> Landed:
        """Land the items of a feed; see `agentmodel.redshift._feeds`.

        A complete feed lands in one transaction, so that a part of the table never counts as the whole table. Any other
        feed, stopped half-way, goes on from there the next time.

        Args:
            feed: The source of the items.
            at: The time of this landing.
            progress: Called with the number of items so far, and of all items where the feed knows it.

        Raises:
            ConfigurationError: The warehouse is Redshift, where zero-ETL lands the items.
            ValidationError: ``at`` is naive, an item is not DynamoDB JSON, or an export is older than what landed.
            Trimmed: A stream no longer holds every change since the last landing.
            LeaseHeld: Another thread lands or refreshes for longer than a minute.
            Unavailable: The source or the warehouse does not answer.

        >>> from datetime import UTC, datetime
        >>> from agentmodel.redshift.ingest import ItemsFeed
        >>> own = Warehouse.open("duckdb://", landed_table=model.table.name)
        >>> own.create()
        >>> own.land_feed(ItemsFeed(model.table.scan()), at=datetime.now(UTC)).fallback_reason
        ''
        >>> own.close()
        """
        self._check_duckdb()
        with self.lease() as lease:
            return self._land_feed(feed, lease, at, progress)

    def _land_feed(self, feed: Feed, lease: Lease, at: datetime, progress: Progress | None) -> Landed:
        landing = _LandingProgress(feed, progress)
        if feed.complete:
            with self._writing(lease) as connection:
                self._check_export_time(connection, feed)
                # items that are in the inbox already are older than those of this feed
                apply_inbox(connection, self._landed, at=at, complete=False)
                for batch in feed.batches({}, at):
                    landing.add(add_to_inbox(connection, batch))
                if isinstance(feed, ExportFeed):
                    feed.check_count(landing.count)
                return apply_inbox(connection, self._landed, at=at, complete=True)
        with self.begin() as connection:
            positions = read_positions(connection)
        for batch in feed.batches(positions, at):
            with self._writing(lease) as connection:
                landing.add(add_to_inbox(connection, batch))
        with self._writing(lease) as connection:
            return apply_inbox(connection, self._landed, at=at, complete=False)

    def add_to_inbox(self, batch: FeedBatch) -> int:
        """Store a batch until the next `land_feed`, in a transaction of its own; return the number of its items.

        Raises:
            ConfigurationError: The warehouse is Redshift, where zero-ETL lands the items.
            WarehouseUnavailable: The engine does not answer or rejects a statement.
        """
        self._check_duckdb()
        with self.begin() as connection:
            return add_to_inbox(connection, batch)

    @property
    def needs_landing(self) -> bool:
        """Return whether items must be landed by `land_feed`: on DuckDB, which zero-ETL does not feed."""
        return self._local

    def has_landed(self) -> bool:
        """Return whether any item has landed yet."""
        with self.begin() as connection:
            return connection.execute(select(self._landed.c.PK).limit(1)).first() is not None

    def _check_duckdb(self) -> None:
        if not self._local:
            raise ConfigurationError(
                "items cannot be landed in Redshift by agentmodel: set up zero-ETL, and set AGENTMODEL_LANDED_TABLE to "
                "the table that it lands"
            )

    def _check_export_time(self, connection: Connection, feed: Feed) -> None:
        """Raise `ValidationError` for an export that is older than what landed."""
        if isinstance(feed, ExportFeed):
            newest = newest_time(connection, self._landed)
            if newest is not None and feed.at < newest.replace(tzinfo=UTC):
                rule = f"must not be older than what has landed, {newest:%Y-%m-%d %H:%M:%S} UTC: make a new export"
                raise ValidationError("export", f"{feed.at:%Y-%m-%d %H:%M:%S} UTC", rule)

    def refresh(
        self, *, as_of: date, progress: Progress | None = None, full: bool = False, wait: float = WAIT
    ) -> Refreshed:
        """Bring every table up to date with what landed, and compute the scores as of a day.

        Args:
            as_of: The day; of an aware datetime, its day in UTC.
            progress: Called with each statement's name before it runs, and in the end with ``commit``.
            full: Whether to build every table from scratch from what landed, not from the changes since the last
                refresh.
            wait: Seconds to wait for another refresh that is under way; 0 does not wait.

        Raises:
            LeaseHeld: Another refresh takes longer than ``wait``, or this one stood still and another took its place;
                nothing was changed.
            WarehouseUnavailable: The engine does not answer or rejects a statement; nothing was changed.
            ConfigurationError: ``full`` without history mode, which would lose what TTL deleted.
        """
        day = day_of(as_of)
        with self.lease(wait=wait) as lease, self._writing(lease) as connection:
            steps, is_full, set_aside = self._steps(connection, day, full=full)
            report = progress or _no_progress
            for done, step in enumerate(steps):
                report(step.name, done, len(steps))  # before it runs, so that the name of a long statement is shown
                step.run(connection)
            if self.prices is not None:
                load_prices(connection, self.prices)
            report("commit", len(steps), len(steps))
            return Refreshed(day, is_full, _counts(connection), set_aside=set_aside)

    def erase(self, user_key: str, before: int) -> dict[str, int]:
        """Delete a user's history: what landed in DuckDB, and on either engine what was computed from it.

        What lands late and is older is not read any more. In Redshift, agentmodel cannot delete what zero-ETL landed.

        Args:
            user_key: The MD5 of the user's id.
            before: The version before which a record is erased.

        Returns:
            How many rows each table has less of the user.

        Raises:
            WarehouseUnavailable: The engine does not answer or rejects a statement; nothing was changed.
        """
        erased = m.ErasedUser
        with self.lease() as lease, self._writing(lease) as connection:
            rows = self._rows_of(connection, user_key)
            connection.execute(delete(erased).where(erased.user_key == user_key, erased.before <= before))
            known = connection.execute(select(erased.before).where(erased.user_key == user_key)).first()
            if known is None:
                connection.execute(insert(erased).values(user_key=user_key, before=before))
            if self._local:
                erase_landed(connection, self._landed, user_key)
            w = m.RefreshWatermark
            as_of = connection.execute(select(w.as_of)).scalar()
            if as_of is not None:  # scores stay as of the last refresh
                parameters = statements.refresh_parameters(
                    self._landed,
                    as_of=as_of,
                    half_life_days=self.half_life_days,
                    revision_prior=self.revision_prior,
                    previous_as_of=as_of,
                )
                for step in statements.erase_user(parameters, user_key):
                    step.run(connection)
            left = self._rows_of(connection, user_key)
            return {name: count - left[name] for name, count in rows.items() if count > left[name]}

    def erased_users(self) -> dict[str, int]:
        """Return whose history was erased here, each with the version before which it was.

        >>> "nobody" in model.warehouse.erased_users()
        False
        """
        return dict(map(tuple, self.read(select(m.ErasedUser.user_key, m.ErasedUser.before))))

    def _rows_of(self, connection: Connection, user_key: str) -> dict[str, int]:
        """Return how many rows of a user each table has."""
        owners: dict[str, Any] = {
            model.__tablename__: model.user_id
            for model in (*statements.OF_USERS, m.DerivedCategory, m.AgentExecution, m.UserProcessPattern)
        }
        if self._local:
            owners["landed"] = key_part(self._landed.c.PK, 1)
        counts = [
            select(func.count()).where(func.md5(owner) == user_key).scalar_subquery().label(name)
            for name, owner in owners.items()
        ]
        return dict(zip(owners, connection.execute(select(*counts)).one(), strict=True))

    def rewrite(self) -> str:
        """Write a DuckDB file anew without the bytes of deleted rows, between two transactions of this process.

        Returns:
            Why the file, or its copy for readers, still holds deleted rows; empty when none does, or the warehouse is
            Redshift.
        """
        if not self._local:
            return ""
        if self._gate.is_inside:
            return "this thread is reading the warehouse: call it again afterwards"
        with only_writer(self.engine), self._gate.alone():
            problem = rewrite_file(self.engine)
            stale = copy_for_readers(self.engine) if has_copy(self.engine) else ""
            return problem or stale

    def share(self, *, first: bool = True) -> None:
        """Let other processes read a DuckDB file: by a copy, which each landing, refresh, erasure and migration renews.

        The file is closed then, until this process uses it again, so that another one can change it. Nothing is done
        for a database in memory and for Redshift, nor while this thread reads.

        Args:
            first: Whether to make a copy where there is none yet.

        >>> model.warehouse.share(first=False)
        """
        if self._local and not self._gate.is_inside and (first or has_copy(self.engine)):
            with only_writer(self.engine), self._gate.alone():
                copy_for_readers(self.engine)

    def _steps(
        self, connection: Connection, day: date, *, full: bool
    ) -> tuple[list[statements.RefreshStep], bool, int]:
        """Return the statements of a refresh, whether it is a full one (the first is), and what it sets aside."""
        has_history = m.CREATED in self._landed.c
        if full and not has_history:
            raise ConfigurationError(
                "a full build needs zero-ETL's history mode: without it the build would lose what TTL deleted; turn "
                "history mode on, or refresh without full"
            )
        w = m.RefreshWatermark
        watermark = connection.execute(select(w.seen_until, w.as_of, w.name)).first()
        seen_until = None if watermark is None else watermark.seen_until
        is_full = has_history and (full or seen_until is None)
        parameters = statements.refresh_parameters(
            self._landed,
            as_of=day,
            half_life_days=self.half_life_days,
            revision_prior=self.revision_prior,
            since=None if is_full or seen_until is None else seen_until - self._overlap,
            previous_as_of=None if watermark is None else watermark.as_of,
            erasures=connection.execute(select(m.ErasedUser.user_key).limit(1)).first() is not None,
            finds_sessions_without_category=watermark is not None and watermark.name != statements.PROGRAM,
        )
        make = statements.full_refresh if is_full else statements.incremental_refresh
        left_out: int = connection.execute(statements.set_aside(parameters)).scalar_one()
        return list(make(parameters)), is_full, left_out

    def counts(self) -> dict[str, int]:
        """Return how many rows each table holds.

        >>> counts = model.warehouse.counts()
        >>> counts["agent"], counts["agent_execution"]
        (2, 6)
        """
        with self.begin() as connection:
            landed = connection.execute(select(func.count()).select_from(self._landed)).scalar_one()
            return {"landed": landed, **_counts(connection)}

    def read(self, statement: Executable) -> Rows[Any]:
        """Return the rows of a select, in a transaction of its own.

        Raises:
            WarehouseUnavailable: The engine does not answer or rejects the statement.

        >>> from sqlalchemy import select
        >>> from agentmodel.redshift.models import AgentRow
        >>> model.warehouse.read(select(AgentRow.name).order_by(AgentRow.name))
        [('map agent',), ('review agent',)]
        """
        with self.begin() as connection:
            result = connection.execute(statement)
            return of_select(result.all(), list(result.keys()), statement)


_VIEWS = {table.name for table in m.Base.metadata.sorted_tables if is_view(table)}


def _set_version(connection: Connection) -> None:
    connection.execute(delete(m.VERSION))
    now = datetime.now(UTC).replace(tzinfo=None)
    connection.execute(insert(m.VERSION).values(version=SCHEMA, changed_at=now))


def _run(connection: Connection, change: SchemaChange) -> None:
    for statement in change.statements:
        connection.execute(statement)


def _no_progress(step: str, done: int, total: int) -> None:
    """Report nothing."""


class _LandingProgress:
    """Count the items of a landing, and report the count."""

    def __init__(self, feed: Feed, progress: Progress | None) -> None:
        self.count = 0
        self._progress = progress
        self._expected = 0 if progress is None else feed.expected
        self.add(0)

    def add(self, items: int) -> None:
        """Add items to the count."""
        self.count += items
        if self._progress is not None:
            self._progress("land", self.count, max(self._expected, self.count))


def day_of(as_of: date) -> date:
    """Return the day of a date, or of an aware datetime in UTC.

    Raises:
        ValidationError: ``as_of`` is a naive datetime.

    >>> from datetime import UTC, datetime
    >>> day_of(datetime(2025, 6, 14, 23, 30, tzinfo=UTC))
    datetime.date(2025, 6, 14)
    """
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ValidationError("as_of", as_of, "must be a date, or a datetime with a time zone")
    return as_of.astimezone(UTC).date()


def _counts(connection: Connection) -> dict[str, int]:
    hidden = {m.LEASES, m.VERSION, *(model.__table__ for model in (*m.WORK, m.ErasedUser))}
    tables = [table for table in m.Base.metadata.sorted_tables if table not in hidden and not is_view(table)]
    rows = connection.execute(
        select(*(select(func.count()).select_from(t).scalar_subquery().label(t.name) for t in tables))
    )
    return dict(zip((table.name for table in tables), rows.one(), strict=True))


_PORT = (
    "cannot be read after its user: the port must be a number, and in a password @ must be written as %40; correct "
    "AGENTMODEL_WAREHOUSE_URL"
)


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except exc.ArgumentError:
        raise ConfigurationError(
            "the warehouse URL is not a URL: set AGENTMODEL_WAREHOUSE_URL, such as to duckdb:///history.duckdb"
        ) from None
    except ValueError:  # of the port; its text may be the end of a password
        raise ConfigurationError(f"the warehouse URL {_PORT}") from None
    if "@" in (url.host or ""):
        raise ConfigurationError(f"the warehouse URL {_PORT}")
    if url.get_backend_name() not in ("duckdb", "redshift"):
        raise ConfigurationError(
            f"the warehouse URL {without_secrets(text)} names neither DuckDB nor Redshift: give duckdb:///file, "
            "redshift+redshift_connector://… or redshift+data://…"
        )
    return url


def _engine(url: URL, *, schema: str | None, memory_limit: str | None, threads: int | None) -> Engine:
    if url.get_backend_name() == "duckdb":
        return duckdb_engine(url, schema=schema, memory_limit=memory_limit, threads=threads)
    return redshift_engine(url, schema=schema)


def _explain(error: exc.DBAPIError) -> str:
    """Return the first line of an engine's error, and what to do about a missing table."""
    problem = str(error.orig).splitlines()[0]
    if "does not exist" in problem:
        return f"a table of the warehouse is missing: {problem}; call create() first"
    return f"the warehouse rejected a statement: {problem}"
