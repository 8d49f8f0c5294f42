"""Land the table's items in a DuckDB warehouse by the chosen feed, or the whole table where that feed cannot go on.

>>> source: FeedSource = "scan"  # or "stream", "journal", or the folder of an export
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from agentmodel._log import logger
from agentmodel.config import FeedName
from agentmodel.dynamo.table import Table
from agentmodel.redshift._duckdb_landing import Landed
from agentmodel.redshift._feeds import ExportFeed, ItemsFeed, JournalFeed, ScanFeed, StreamFeed
from agentmodel.redshift._streams import Stream, Trimmed
from agentmodel.redshift.warehouse import Progress, Warehouse

__all__ = ["FeedSource", "ItemsFeed", "JournalFeed", "ingest"]

FeedSource = FeedName | Path
"""The name of a feed, or the folder of an export."""

_log = logger("agentmodel.redshift")


def ingest(
    warehouse: Warehouse,
    table: Table,
    source: FeedSource = "scan",
    *,
    full_feed: ScanFeed | ItemsFeed | None = None,
    at: datetime | None = None,
    progress: Progress | None = None,
) -> Landed:
    """Land the table's items in a DuckDB warehouse.

    ``stream`` and ``journal`` bring changes only. The first time, and when a stream no longer holds every change since
    the last landing, the whole table is read instead, and `Landed.fallback_reason` says why.

    Args:
        warehouse: The warehouse.
        table: The table.
        source: The feed, or the folder of an export.
        full_feed: The feed that reads the whole table; a `ScanFeed` by default.
        at: The time of the landing; now by default.
        progress: Called with the number of items so far.

    Raises:
        ConfigurationError: The warehouse is not DuckDB, or the table has no stream that can be read.
        ValidationError: The folder holds no export, an export of another table, or one that is older than what landed.
        Unavailable: The table or the warehouse does not answer.

    >>> from agentmodel.redshift.warehouse import Warehouse
    >>> own = Warehouse.open("duckdb://", landed_table=model.table.name)
    >>> own.create()
    >>> landed = ingest(own, model.table)
    >>> landed.items > 20, landed.fallback_reason
    (True, '')
    >>> own.close()
    """
    now = at or datetime.now(UTC)
    full_feed = full_feed or ScanFeed(table)
    if isinstance(source, Path):
        export = ExportFeed(source, table=table.name)
        return warehouse.land_feed(export, at=export.at, progress=progress)
    if source == "stream":
        with closing(Stream(table)) as stream:
            return _land_stream(warehouse, StreamFeed(stream), full_feed, now, progress)
    if source == "journal" and warehouse.has_landed():
        return warehouse.land_feed(JournalFeed(warehouse.add_to_inbox, table), at=now, progress=progress)
    landed = warehouse.land_feed(full_feed, at=now, progress=progress)
    return landed if source == "scan" else _with_fallback_reason(landed, "nothing has landed yet")


def _land_stream(
    warehouse: Warehouse, feed: StreamFeed, full_feed: ScanFeed | ItemsFeed, now: datetime, progress: Progress | None
) -> Landed:
    """Land a stream, or the whole table when records of the stream are lost."""
    try:
        return warehouse.land_feed(feed, at=now, progress=progress)
    except Trimmed as trimmed:
        positions = feed.start_positions(now)  # before the table is read, so that no change falls between the two
        landed = warehouse.land_feed(replace(full_feed, positions=positions), at=now, progress=progress)
        return _with_fallback_reason(landed, str(trimmed))


def _with_fallback_reason(landed: Landed, reason: str) -> Landed:
    _log.warning("warehouse.whole_table: read the whole table: %s", reason)
    return replace(landed, fallback_reason=f"the whole table was read: {reason}")
