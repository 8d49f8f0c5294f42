"""SimilarRequests: the requests of all users, loaded into this process in the background, and kept up to date.

A request waits for none of it: it is answered by the snapshot that is there, or without one. At most every
`CHECK_SECONDS` a request has the background worker look for changes. What a publish shipped to Valkey is read as far as
it was not read yet (`agentmodel.cache.ChangeLog`). Where nothing was shipped, such as without Valkey, the mappings are
read from the table every `TABLE_SECONDS`, and signatures are made of those that changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.access.pagination import every
from agentmodel.access.repository import Repository
from agentmodel.exceptions import CacheUnavailable
from agentmodel.suggest._request_rows import LoadedRow, checked, content_of, request_row, row_name
from agentmodel.suggest.plan._similarity import Similarity
from agentmodel.suggest.plan._snapshot import Match, Snapshot

if TYPE_CHECKING:
    from agentmodel.cache import ChangeLog, Position

__all__ = ["CHECK_SECONDS", "TABLE_SECONDS", "SimilarRequests"]

CHECK_SECONDS = 5.0
"""Seconds after which a request has the background worker look for changes again."""

TABLE_SECONDS = 300.0
"""Seconds after which the mappings are read from the table again."""

_log = logger(__name__)


class SimilarRequests:
    """Finds the mappings of similar requests among those of all users.

    Args:
        repository: Reads mappings from the table, and has the log of what publishes shipped.
        similarity: Measures how similar requests are.
    """

    def __init__(self, repository: Repository, similarity: Similarity) -> None:
        self._repository = repository
        self._similarity = similarity
        self._snapshot: Snapshot | None = None
        self._position: Position | None = None  # in the log; None where the snapshot is not from it
        self._check_at = self._table_at = 0.0
        self._stopped = False
        self._lock = ForkSafeLock()  # one load at a time
        self._worker = BackgroundWorker("requests", linger=0.0, before_exit=self._stop)

    def nearest(self, request: str) -> list[Match] | None:
        """Return the mappings of similar requests; None while nothing is loaded yet."""
        now = time.monotonic()
        if now >= self._check_at and not self._worker.waiting:
            self._check_at = now + CHECK_SECONDS
            self._worker.put(lambda _: self.load(again=False), (None,))
        return None if self._snapshot is None else self._snapshot.nearest(request)

    def load(self, *, again: bool = True) -> None:
        """Load what changed, and wait for it.

        Args:
            again: Whether to read the table although it was read within `TABLE_SECONDS`; it is not where Valkey has
                what is needed.

        Raises:
            TableUnavailable: The table does not answer, and Valkey does not have what is needed.
        """
        with self._lock:
            try:
                logged = self._repository.request_log is not None and self._load_log(self._repository.request_log)
            except CacheUnavailable as error:
                _log.warning("similar.not_read: could not read the requests of all users from Valkey: %s", error)
                logged = self._position is not None  # go on with what was read before
            if not logged and (again or self._snapshot is None or time.monotonic() >= self._table_at):
                self._load_table()

    def close(self) -> None:
        """End the background worker; a load that is under way is given up."""
        self._stop()
        self._worker.close()

    def _stop(self) -> None:
        self._stopped = True

    def _load_log(self, log: ChangeLog) -> bool:
        """Read what was shipped; return whether there is anything shipped."""
        snapshot, position = self._snapshot, None
        rows: dict[str, LoadedRow | None] = {}
        for changes in log.read(self._position):
            if self._stopped:
                return True
            if changes.anew:
                snapshot, rows = None, {}
            position = changes.position
            try:
                rows.update((name, None if row is None else checked(name, row)) for name, row in changes.rows.items())
            except ValueError as error:
                log.drop(error)
                position = None
                break
        if position is not None and (rows or snapshot is None):
            self._snapshot = (snapshot or Snapshot(self._similarity)).changed(rows)
        self._position = position
        return position is not None

    def _load_table(self) -> None:
        """Read all mappings from the table."""
        known = {} if self._snapshot is None else self._snapshot.contents
        rows: dict[str, LoadedRow | None] = dict.fromkeys(known)  # those that are not found are gone
        for mapping in every(self._repository.mappings, limit=1000):
            if self._stopped:
                return
            name = row_name(mapping)
            if known.get(name) == content_of(mapping):
                del rows[name]
            else:
                rows[name] = checked(name, request_row(mapping))
        self._snapshot = (self._snapshot or Snapshot(self._similarity)).changed(rows)
        self._table_at = time.monotonic() + TABLE_SECONDS
