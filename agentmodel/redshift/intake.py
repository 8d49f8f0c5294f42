"""Which feed a refresh takes, and what it does where that one cannot go on."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from agentmodel.config import FeedName
from agentmodel.dynamo.streams import Stream, Trimmed
from agentmodel.dynamo.table import Table
from agentmodel.redshift.feeds import ExportFeed, ItemsFeed, JournalFeed, ScanFeed, StreamFeed
from agentmodel.redshift.landing import Landed
from agentmodel.redshift.pipeline import Progress, Warehouse

__all__ = ["Source", "take_in"]

Source = FeedName | Path
"""The name of a feed, or the folder of an export."""

_log = logging.getLogger("agentmodel.redshift")


def take_in(
    warehouse: Warehouse,
    table: Table,
    source: Source = "scan",
    *,
    whole: ScanFeed | ItemsFeed | None = None,
    at: datetime | None = None,
    progress: Progress | None = None,
) -> Landed:
    """Bring the table's items into a DuckDB warehouse.

    ``stream`` and ``journal`` bring changes only. The first time, and where a stream no longer holds everything since
    the last time, the whole table is read instead; `Landed.told` says so.

    Args:
        warehouse: The warehouse.
        table: The table.
        source: The feed, or the folder of an export.
        whole: How the whole table is read; by a `ScanFeed` by default.
        at: The time of the landing; now by default.
        progress: Told how many items have come.

    Raises:
        ConfigurationError: The warehouse is no DuckDB, or the table has no stream to read.
        ValidationError: The export is none, is of another table, or is older than what landed.
        Unavailable: A store does not answer.
    """
    now = at or datetime.now(UTC)
    whole = whole or ScanFeed(table)
    if isinstance(source, Path):
        export = ExportFeed(source, table=table.name)
        return warehouse.receive(export, at=export.at, progress=progress)
    if source == "stream":
        with closing(Stream(table)) as stream:
            return _streamed(warehouse, StreamFeed(stream), whole, now, progress)
    if source == "journal" and warehouse.has_landed():
        return warehouse.receive(JournalFeed(warehouse.keep, table), at=now, progress=progress)
    landed = warehouse.receive(whole, at=now, progress=progress)
    return landed if source == "scan" else _said(landed, "nothing has landed yet")


def _streamed(
    warehouse: Warehouse, feed: StreamFeed, whole: ScanFeed | ItemsFeed, now: datetime, progress: Progress | None
) -> Landed:
    try:
        return warehouse.receive(feed, at=now, progress=progress)
    except Trimmed as trimmed:
        start = feed.start(now)  # before the table is read, so that no change falls between the two
        return _said(warehouse.receive(replace(whole, positions=start), at=now, progress=progress), str(trimmed))


def _said(landed: Landed, why: str) -> Landed:
    _log.warning("warehouse.whole_table: the whole table was read: %s", why)
    return replace(landed, told=f"the whole table was read: {why}")
