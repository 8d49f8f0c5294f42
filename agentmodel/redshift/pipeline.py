"""The warehouse: what lands in it, and the refresh that learns from it.

On a laptop it is DuckDB and `Warehouse.land` plays zero-ETL; in production it is Redshift and DynamoDB zero-ETL lands
the table. The statements of the refresh are the same.

A refresh is one transaction: a process that dies in it changes nothing, and the next refresh does the work. What a
refresh reads twice it counts once, so the time it looks back before its watermark (``overlap``) only costs time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, Executable, exc, func, make_url, select
from sqlalchemy.schema import CreateTable

from agentmodel.exceptions import ConfigurationError, ValidationError, WarehouseUnavailable
from agentmodel.redshift import _history as history
from agentmodel.redshift import models as m
from agentmodel.redshift import statements
from agentmodel.redshift._redshift import redshift_engine
from agentmodel.redshift.dialects import CreateView
from agentmodel.redshift.duck import duckdb_engine
from agentmodel.redshift.feeds import Batch, ExportFeed, Feed, ItemsFeed
from agentmodel.redshift.landing import (
    Landed,
    arrive,
    create_landing,
    landing_table,
    newest_of,
    positions_of,
    settle,
)

__all__ = ["Landed", "Refreshed", "Warehouse"]

Progress = Callable[[str, int, int], None]
"""Called with a step's name, the number of steps done and the number of all."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        as_of: The day the scores are for.
        full: Whether everything was built anew, rather than brought up to date.
        rows: Rows of each table afterwards.
        landed: What was landed for it; None where zero-ETL lands, or `Warehouse.refresh` was called by itself.
    """

    as_of: date
    full: bool
    rows: Mapping[str, int] = field(default_factory=dict)
    landed: Landed | None = None


class Warehouse:
    """The learning side of the history, on DuckDB or Redshift; made by `Warehouse.open`."""

    def __init__(
        self, engine: Engine, *, landed_table: str, history_mode: bool, overlap: timedelta, half_life_days: float
    ) -> None:
        self.engine = engine
        self.half_life_days = half_life_days
        self._overlap = overlap
        self._local = engine.dialect.name == "duckdb"
        self._landed = (
            landing_table(landed_table) if self._local else m.landed_table(landed_table, history=history_mode)
        )

    @classmethod
    def open(
        cls,
        url: str,
        *,
        landed_table: str = "AgentTable",
        history_mode: bool = True,
        overlap: timedelta = timedelta(hours=1),
        half_life_days: float = 30.0,
        memory_limit: str | None = None,
        threads: int | None = None,
    ) -> Self:
        """Open a warehouse.

        Args:
            url: ``duckdb:///file.duckdb``, ``duckdb://`` (in memory), ``redshift+redshift_connector://…``, or
                ``redshift+data://workgroup/database``, which goes by the Data API.
            landed_table: Where zero-ETL lands the table, such as ``dbagent.public."AgentTable"``.
            history_mode: Whether zero-ETL runs in history mode; without it every refresh reads all that landed, and
                cannot see what a person deleted. DuckDB always has it.
            overlap: How far before its watermark a refresh looks for late changes; more than zero-ETL ever lags.
            half_life_days: Days after which an execution weighs half as evidence.
            memory_limit: The most memory DuckDB may take, such as ``512MB``.
            threads: Threads DuckDB may use.

        Raises:
            ConfigurationError: The URL, the table's name or another argument is not accepted.
            MissingExtraError: The engine's packages are not installed.
            WarehouseUnavailable: The engine does not answer, or another process holds the DuckDB file.
        """
        if not (math.isfinite(half_life_days) and half_life_days > 0):
            raise ConfigurationError(f"half_life_days {half_life_days} is refused: give days above 0")
        if overlap < timedelta(0):
            raise ConfigurationError(f"overlap {overlap} is refused: give a time that is not negative")
        engine = _engine(_url(url), memory_limit=memory_limit, threads=threads)
        try:
            return cls(
                engine,
                landed_table=landed_table,
                history_mode=history_mode,
                overlap=overlap,
                half_life_days=half_life_days,
            )
        except ConfigurationError:
            engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections; a DuckDB file is free for another process afterwards."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction; the engine's errors come out as `WarehouseUnavailable`.

        Raises:
            WarehouseUnavailable: The engine does not answer or refuses a statement.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except exc.DBAPIError as error:
            raise WarehouseUnavailable(_told(error)) from error

    def create(self) -> None:
        """Create the tables that are missing, and the staging view; what exists stays as it is."""
        with self.begin() as connection:
            if self._local:
                create_landing(connection, self._landed)
            for table in m.Base.metadata.sorted_tables:
                if not table.info.get("view"):
                    connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(CreateView(m.AgentToolAnalysisStaging.__tablename__, history.staging()))

    def land(self, items: Iterable[Any], *, at: datetime, complete: bool = True) -> Landed:
        """Land items in DuckDB, as zero-ETL does it in production.

        Args:
            items: Items as DynamoDB JSON; of two with the same keys the later one counts.
            at: When the items were read.
            complete: Whether these are all items of the table. Then a missing one was deleted: by DynamoDB's TTL if it
                had expired by ``at``, and it stays in the statistics; else by a person, and it leaves them.

        Raises:
            ConfigurationError: This is no DuckDB warehouse: zero-ETL lands the items there.
            ValidationError: ``at`` is naive, or an item is no DynamoDB JSON.
        """
        return self.receive(ItemsFeed(items, complete=complete), at=at)

    def receive(self, feed: Feed, *, at: datetime, progress: Progress | None = None) -> Landed:
        """Land what a feed brings; see `agentmodel.redshift.feeds`.

        A complete feed lands in one transaction: half of a table is never taken for the whole. Any other one goes on
        where it was after it was stopped.

        Args:
            feed: Where the items come from.
            at: The time of this landing.
            progress: Told the number of items so far, and of all where the feed knows it.

        Raises:
            ConfigurationError: This is no DuckDB warehouse: zero-ETL lands the items there.
            ValidationError: ``at`` is naive, an item is no DynamoDB JSON, or an export is older than what landed.
            Trimmed: A stream no longer holds everything since the last landing.
            Unavailable: The source or the warehouse does not answer.
        """
        self._demand_duckdb()
        told = _Landing(feed, progress)
        if feed.complete:
            with self.begin() as connection:
                self._not_older(connection, feed)
                settle(connection, self._landed, at=at, complete=False)  # what waited is older than what comes
                for batch in feed.batches({}, at):
                    told(arrive(connection, batch))
                if isinstance(feed, ExportFeed):
                    feed.check(told.count)
                return settle(connection, self._landed, at=at, complete=True)
        with self.begin() as connection:
            positions = positions_of(connection)
        for batch in feed.batches(positions, at):
            told(self.keep(batch))
        with self.begin() as connection:
            return settle(connection, self._landed, at=at, complete=False)

    def keep(self, batch: Batch) -> int:
        """Keep a batch until the next `receive`, in a transaction of its own; returns the number of its items.

        Raises:
            ConfigurationError: This is no DuckDB warehouse.
            WarehouseUnavailable: It does not take it.
        """
        self._demand_duckdb()
        with self.begin() as connection:
            return arrive(connection, batch)

    @property
    def lands_here(self) -> bool:
        """Whether items have to be landed by `receive`: this is DuckDB, and no zero-ETL brings them."""
        return self._local

    def has_landed(self) -> bool:
        """Whether anything has landed yet."""
        with self.begin() as connection:
            return connection.execute(select(self._landed.c.PK).limit(1)).first() is not None

    def _demand_duckdb(self) -> None:
        if not self._local:
            raise ConfigurationError(
                "landing is for DuckDB: on Redshift, set up zero-ETL and name its table by landed_table"
            )

    def _not_older(self, connection: Connection, feed: Feed) -> None:
        if isinstance(feed, ExportFeed):
            newest = newest_of(connection, self._landed)
            if newest is not None and feed.at < newest.replace(tzinfo=UTC):
                rule = f"what has landed is newer, of {newest:%Y-%m-%d %H:%M:%S} UTC: make a new export"
                raise ValidationError("export", f"{feed.at:%Y-%m-%d %H:%M:%S} UTC", rule)

    def refresh(self, *, as_of: date, progress: Progress | None = None, full: bool = False) -> Refreshed:
        """Bring every table up to date with what landed, and compute the scores as of a day.

        Args:
            as_of: The day; of an aware datetime, its day in UTC.
            progress: Told each statement's name before it runs, and in the end that all are done.
            full: Build everything anew from what landed, rather than from the changes since the last refresh.

        Raises:
            WarehouseUnavailable: The engine does not answer or refuses a statement; nothing was changed.
            ConfigurationError: ``full`` without history mode, which would forget what TTL deleted.
        """
        day = day_of(as_of)
        with self.begin() as connection:
            steps, whole = self._steps(connection, day, full=full)
            tell = progress or _silent
            for done, step in enumerate(steps):
                tell(step.name, done, len(steps))  # before it, so that a long one is named while it runs
                connection.execute(step.statement)
            tell("commit", len(steps), len(steps))
            return Refreshed(day, whole, _counts(connection))

    def _steps(self, connection: Connection, day: date, *, full: bool) -> tuple[list[statements.Step], bool]:
        history = m.CREATED in self._landed.c
        if full and not history:
            raise ConfigurationError(
                "a full build needs zero-ETL's history mode: without it, it would forget what TTL deleted"
            )
        w = m.RefreshWatermark
        mark = connection.execute(select(w.seen_until, w.as_of)).first()
        whole = history and (full or mark is None or mark.seen_until is None)
        since = None if whole or mark is None or mark.seen_until is None else mark.seen_until - self._overlap
        terms = statements.terms(
            self._landed,
            as_of=day,
            half_life_days=self.half_life_days,
            since=since,
            seen_as_of=None if mark is None else mark.as_of,
        )
        make = statements.full_refresh if whole else statements.incremental_refresh
        return list(make(terms)), whole

    def counts(self) -> dict[str, int]:
        """Return how many rows each table holds."""
        with self.begin() as connection:
            landed = connection.execute(select(func.count()).select_from(self._landed)).scalar_one()
            return {"landed": landed, **_counts(connection)}

    def read(self, statement: Executable) -> list[Any]:
        """Return the rows of a select, in a transaction of its own."""
        with self.begin() as connection:
            return list(connection.execute(statement).all())


def _silent(step: str, done: int, of: int) -> None:
    """Shows no progress."""


class _Landing:
    """Counts what arrives."""

    def __init__(self, feed: Feed, progress: Progress | None) -> None:
        self.count = 0
        self._progress = progress
        self._expected = 0 if progress is None else feed.expected
        self(0)

    def __call__(self, items: int) -> None:
        self.count += items
        if self._progress is not None:
            self._progress("land", self.count, max(self._expected, self.count))


def day_of(as_of: date) -> date:
    """Return the day of a date, or of an aware datetime in UTC.

    Raises:
        ValidationError: A naive datetime.

    >>> day_of(datetime(2025, 6, 14, 23, 30, tzinfo=UTC))
    datetime.date(2025, 6, 14)
    """
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ValidationError("as_of", as_of, "give a date, or an aware datetime")
    return as_of.astimezone(UTC).date()


def _counts(connection: Connection) -> dict[str, int]:
    hidden = {model.__table__ for model in m.WORK}
    tables = [table for table in m.Base.metadata.sorted_tables if table not in hidden and not table.info.get("view")]
    rows = connection.execute(
        select(*(select(func.count()).select_from(t).scalar_subquery().label(t.name) for t in tables))
    )
    return dict(zip((table.name for table in tables), rows.one(), strict=True))


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except exc.ArgumentError:
        raise ConfigurationError(
            "the warehouse URL cannot be read: give one such as duckdb:///history.duckdb"
        ) from None
    if url.get_backend_name() not in ("duckdb", "redshift"):
        raise ConfigurationError(
            f"warehouse {url.render_as_string()} is refused: give duckdb:///file or redshift+redshift_connector://…"
        )
    return url


def _engine(url: URL, *, memory_limit: str | None, threads: int | None) -> Engine:
    if url.get_backend_name() == "duckdb":
        return duckdb_engine(url, memory_limit=memory_limit, threads=threads)
    return redshift_engine(url)


def _told(error: exc.DBAPIError) -> str:
    problem = str(error.orig).splitlines()[0]
    if "does not exist" in problem:
        return f"the warehouse lacks a table: {problem}; call create() first"
    return f"the warehouse refused a statement: {problem}"
