"""Erase a person: everything that the stores hold of a user, while recorders, drainers and publishes go on.

    report = model.erase_user("mina")
    for left in report.remaining:
        print(left.where, left.what, left.until)

The moment of the erasure is when it begins. What was recorded before it is erased, and so is what a session that is
open at that moment records within a day after it. What is recorded later is a new history. The steps are:

1. A mark is written into the table. Writers that were under way take back what they write after it
   (`agentmodel._erasure_marks`).
2. Valkey is searched, and the user's entries of the journal, dead letters, copies and cached results are deleted.
3. The user's rows in the warehouse are deleted, and what was computed from them is computed anew.
4. The whole table is scanned, and the user's items are deleted.
5. Valkey is searched once more for what was cached meanwhile, and the health of tools forgets the user.
6. Files are written anew where a deleted record leaves its bytes behind.

Each step may be repeated. An erasure that was stopped is finished by calling it again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentmodel import keys
from agentmodel._erasure_marks import (
    ErasureMark,
    ErasureMarks,
    delete_unless_newer,
    erasing_key,
)
from agentmodel._values.names import takes_names
from agentmodel.access.repository import Caches, Repository
from agentmodel.dynamo.entity import Item, ItemKey
from agentmodel.dynamo.models import Review, Tool
from agentmodel.dynamo.table import Query, Table
from agentmodel.exceptions import Conflict, LeaseHeld, NotFound, WarehouseUnavailable

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["Erasure", "ErasureReport", "Remaining"]

_SEGMENTS = 4  # scans that run at the same time
_ATTEMPTS = 5  # of a write, while others write first
_POLL = 0.2  # seconds between two looks at entries that a drainer holds
_HELD_SECONDS = 180.0  # for which they are waited for; after 60 another drainer would take them over
_STEPS = 6
_NEXT_REFRESH = "the next `agentmodel refresh`, or another erasure"

_Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Remaining:
    """Something that still holds what was erased.

    Attributes:
        where: The place, such as a backup.
        what: What it holds.
        until: Until when, or what has to be done.
    """

    where: str
    what: str
    until: str


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure removed, and what remains.

    Attributes:
        user_id: The user.
        erased_at: The moment of the erasure; what is recorded later is a new history.
        removed: How many of what were removed from each store: ``valkey``, ``table``, ``warehouse``. An erasure that
            is repeated counts what was still there.
        remaining: What still holds something of the user, and until when.

    >>> with model.session("USR221", "a café") as session:
    ...     pass
    >>> report = model.erase_user("USR221")
    >>> report.user_id, sorted(report.removed)
    ('USR221', ['table', 'valkey', 'warehouse'])
    >>> [left.where for left in report.remaining][:2]
    ['marks of erasures and deletions', 'memory of processes']
    """

    user_id: str
    erased_at: datetime
    removed: Mapping[str, Mapping[str, int]]
    remaining: tuple[Remaining, ...]


class Erasure:
    """Erases users of one installation.

    Args:
        table: The table.
        repository: Changes tools, and drops cached copies.
        caches: The cache, or None without Valkey.
        warehouse: Returns the warehouse; None where none is set up.
        drain: Writes the journal into the table.
        clock: Returns the next version number.
        forget: Drops a user from the health of tools; returns from how many in Valkey.
        forget_requests: Deletes the requests that others are routed by, by the digest of the user's id; returns how
            many there were.
        save: Saves the tables of embedded engines; None where this process has none.

    >>> erasure = Erasure(
    ...     model.table, model.repository, caches=None, warehouse=None, drain=model.drain, clock=lambda: 1,
    ...     forget=model.health.forget_user, forget_requests=lambda digest: 0,
    ... )  # AgentModel.erase_user has one of its own
    >>> erasure.erase("USR222").removed["warehouse"]
    {}
    """

    def __init__(
        self,
        table: Table,
        repository: Repository,
        *,
        caches: Caches | None,
        warehouse: Callable[[], Warehouse] | None,
        drain: Callable[[], object],
        clock: Callable[[], int],
        forget: Callable[[str], int],
        forget_requests: Callable[[str], int],
        save: Callable[[], object] | None = None,
    ) -> None:
        self._table = table
        self._repository = repository
        self._caches = caches
        self._warehouse = warehouse
        self._drain = drain
        self._clock = clock
        self._forget = forget
        self._forget_requests = forget_requests
        self._save = save
        self._marks = ErasureMarks(table)

    @takes_names
    def erase(self, user_id: str, *, progress: _Progress = lambda *_: None) -> ErasureReport:
        """Erase a user; see the module's steps.

        Raises:
            ValidationError: The id is not valid.
            Unavailable: Table or Valkey does not answer; call it again once they do.
        """
        removed: dict[str, Counter[str]] = {"valkey": Counter(), "table": Counter(), "warehouse": Counter()}
        remaining: list[Remaining] = []
        progress("mark", 0, _STEPS)
        mark = self._marks.write(user_id, self._clock(), self._open_sessions(user_id))
        progress("journal", 1, _STEPS)
        held = self._erase_journal(user_id, mark, removed["valkey"])
        progress("warehouse", 2, _STEPS)
        warehouse: Warehouse | None = None
        if self._warehouse is not None:
            try:
                warehouse = self._warehouse()
                removed["warehouse"].update(warehouse.erase(mark.user_key, mark.before))
                self._marks.warehouse_erased(mark, self._clock())
            except (WarehouseUnavailable, LeaseHeld) as error:  # such as a DuckDB file that another process has open
                warehouse = None
                remaining.append(Remaining("warehouse", f"landed and computed rows: {error}", _NEXT_REFRESH))
        progress("table", 3, _STEPS)
        remaining += self._erase_items(user_id, mark, removed["table"])
        removed["table"] += Counter({"places of stopped migrations": self._table.forget_place(user_id)})
        removed["table"] += Counter({"requests to route by": self._forget_requests(mark.user_key)})
        progress("caches", 4, _STEPS)
        if self._caches is not None:
            removed["valkey"].update(self._erase_keys(self._caches, user_id, mark).counts)
            rows = self._caches.requests.erase(lambda name: name.startswith(f"{user_id}\n"))
            removed["valkey"] += Counter({"requests of mappings": rows})
        removed["valkey"] += Counter({"health of tools": self._forget(user_id)})
        progress("files", 5, _STEPS)
        remaining += [*self._rewrite_files(warehouse), *self._not_ours(held, warehouse)]
        progress("files", _STEPS, _STEPS)
        at = datetime.fromtimestamp((mark.before >> 16) / 1000, UTC)
        return ErasureReport(
            user_id, at, {name: dict(sorted(counts.items())) for name, counts in removed.items()}, tuple(remaining)
        )

    def finish_warehouse(self) -> int:
        """Erase in the warehouse what was erased elsewhere, by a process that has no warehouse; return of how many."""
        if self._warehouse is None:
            return 0
        warehouse, done = self._warehouse(), 0
        known = warehouse.erased_users()
        for mark in self._marks.all():
            if known.get(mark.user_key, -1) < mark.before:
                warehouse.erase(mark.user_key, mark.before)
                done += 1
            if mark.learned_at is None:
                self._marks.warehouse_erased(mark, self._clock())
        if done:
            warehouse.rewrite()
        return done

    # Valkey

    def _open_sessions(self, user_id: str) -> list[str]:
        """Return the ids of the sessions that have not ended, those that are not in the table yet included."""
        partition = keys.USER.build(user_id)
        items = {
            item["SK"]["S"]: item
            for item in self._table.query(Query(partition, prefix=keys.SESSION.starts), consistent=True).items
        }
        if self._caches is not None:
            items |= self._caches.user_cache.pending(user_id, partition)
        return [sk for sk, item in sorted(items.items()) if sk.startswith("SESS") and "SessionEndDT" not in item]

    def _erase_journal(self, user_id: str, mark: ErasureMark, counts: Counter[str]) -> int:
        """Delete the user's entries; return how many are left, which a drainer holds or which are too many."""
        if self._caches is None:
            return 0
        deadline = time.monotonic() + _HELD_SECONDS
        while True:
            found = self._erase_keys(self._caches, user_id, mark)
            counts.update(found.counts)
            if not (found.held or found.unwritten) or time.monotonic() > deadline:
                return int(found.held + found.unwritten)
            if found.unwritten:
                self._drain()  # which drops the user's entries
            time.sleep(_POLL)  # a drainer that holds entries drops them, or is taken for dead after a minute

    def _erase_keys(self, caches: Caches, user_id: str, mark: ErasureMark) -> Any:
        return caches.user_cache.erase(
            user_id,
            before=mark.before,
            until=mark.until,
            open_sessions=mark.open_sessions,
            whose=mark.user_key,
            erasing_key=erasing_key(self._table.settings.valkey_prefix, mark.user_key),
        )

    # The table

    def _erase_items(self, user_id: str, mark: ErasureMark, counts: Counter[str]) -> Iterator[Remaining]:
        """Delete the user's items and the last errors of tools that are the user's words."""
        seen: dict[tuple[str, str], int] = {}  # keys and their segments: an engine without segments gives all in each
        with ThreadPoolExecutor(_SEGMENTS, thread_name_prefix="agentmodel-erase") as pool:
            scans = [pool.submit(self._erase_segment, user_id, mark, number, seen) for number in range(_SEGMENTS)]
            found = [scan.result() for scan in scans]
        for erased, _ in found:
            counts.update(erased)
        kept = sum((one for _, one in found), Counter[str]())
        if kept["files"]:
            yield Remaining(
                "files of the application",
                f"{kept['files']} sessions named a file of details (DtlFileLoc)",
                "the application deletes them",
            )
        if kept["reviews"]:
            yield Remaining(
                "reviews of other users",
                f"the user's id, and reasons that the user gave, in {kept['reviews']} of them",
                f"they expire, at most {self._table.settings.ttl_days_high} days after they were asked",
            )

    def _erase_segment(
        self, user_id: str, mark: ErasureMark, segment: int, seen: dict[tuple[str, str], int]
    ) -> tuple[Counter[str], Counter[str]]:
        """Return what was deleted, and what is kept elsewhere: files, and reviews of other users."""
        counts, kept = Counter[str](), Counter[str]()
        for item in self._scan(user_id, segment):
            kind = item.get("EntityType", {}).get("S", "without EntityType")
            if seen.setdefault((item["PK"]["S"], item["SK"]["S"]), segment) != segment:
                continue
            if keys.owner_of(item["PK"]["S"])[0] == user_id:
                if self._erase_item(mark, item):
                    counts[kind] += 1
                    kept["files"] += "DtlFileLoc" in item
            elif kind == Review.kind:
                kept["reviews"] += 1
            elif kind == Tool.kind and item.get("LastErrorBy", {}).get("S", mark.user_key) == mark.user_key:
                counts["last errors of tools"] += self._clear_last_error(Tool.at(item["PK"]["S"], item["SK"]["S"]))
        return counts, kept

    def _erase_item(self, mark: ErasureMark, item: Item) -> bool:
        """Delete an item that the mark covers, also where it is written again meanwhile and is still covered."""
        key = {"PK": item["PK"], "SK": item["SK"]}
        for _ in range(_ATTEMPTS):
            if not mark.covers_item(item):
                return False
            if delete_unless_newer(self._table, item):
                return True
            stored = self._table.call("GetItem", TableName=self._table.name, Key=key, ConsistentRead=True).get("Item")
            if stored is None:
                return False
            item = stored
        raise Conflict(
            f"{key['PK']['S']} {key['SK']['S']} was changed by others {_ATTEMPTS} times in a row: erase again"
        )

    def _scan(self, user_id: str, segment: int) -> Iterator[Item]:
        """Yield the user's items in one segment, tools that have a last error, and reviews that name the user."""
        request: dict[str, Any] = {
            "TableName": self._table.name,
            "ConsistentRead": True,
            "Segment": segment,
            "TotalSegments": _SEGMENTS,
            "ProjectionExpression": "PK, SK, EntityType, #v, LastErrorBy, DtlFileLoc, SuggestDT, AskedDT, DecidedDT",
            "FilterExpression": "begins_with(PK, :user) OR begins_with(PK, :fence) OR attribute_exists(LastErrorMsg) "
            "OR contains(Trail, :by)",
            "ExpressionAttributeNames": {"#v": "Version"},
            "ExpressionAttributeValues": {
                ":user": {"S": user_id},
                ":by": {"S": json.dumps(user_id, ensure_ascii=False)},
                ":fence": {"S": keys.FENCE.prefix(partial=user_id)},
            },
        }
        while True:
            answer = self._table.call("Scan", **request)
            yield from answer["Items"]
            if answer.get("LastEvaluatedKey") is None:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _clear_last_error(self, key: ItemKey[Tool]) -> bool:
        for _ in range(_ATTEMPTS):
            try:
                self._repository.update(key, Tool.last_error.to(None), Tool.last_error_by.to(None))
            except NotFound:
                return False
            except Conflict:
                continue
            return True
        raise Conflict(f"{key} was changed by others {_ATTEMPTS} times in a row: erase again")

    # Files, and what is not ours

    def _rewrite_files(self, warehouse: Warehouse | None) -> Iterator[Remaining]:
        if self._save is not None:
            self._save()
        if self._caches is not None:
            problem = self._caches.user_cache.rewrite_files()
            if problem:
                yield Remaining("files of Valkey", f"what was in Valkey: {problem}", "the server writes them anew")
        if warehouse is not None:
            problem = warehouse.rewrite()
            if problem:
                until = "erase again once it is closed and the disk has room"
                yield Remaining("file of DuckDB", f"deleted rows: {problem}", until)

    def _not_ours(self, held: int, warehouse: Warehouse | None) -> Iterator[Remaining]:
        """Yield what an erasure cannot reach, and until when it remains."""
        if held:
            yield Remaining(
                "journal", f"{held} entries that a drainer holds, or too many to look through", "erase again"
            )
        if self._caches is None:
            yield Remaining(
                "Valkey", "everything, if other processes use one", "erase where AGENTMODEL_VALKEY_URL is set"
            )
        if self._warehouse is None:
            yield Remaining(
                "warehouse",
                "landed and computed rows, if there is one",
                f"{_NEXT_REFRESH}, where AGENTMODEL_WAREHOUSE_URL is set",
            )
        elif warehouse is not None and not warehouse.needs_landing:
            yield Remaining(
                "Redshift, what zero-ETL landed",
                "with history mode the deleted items; agentmodel reads them no more, and cannot delete them",
                "zero-ETL lands the table anew (turn history mode off and on), and snapshots of Redshift expire",
            )
        if self._save is None and self._table.settings.endpoint is not None:
            yield Remaining(
                "saved tables of a local stack", "the table as of its last save", "`agentmodel up` saves again"
            )
            yield Remaining("files of `agentmodel backup`", "the stack as it was", "you delete them")
        if self._table.settings.endpoint is None:
            yield Remaining("DynamoDB, point-in-time recovery", "the table as it was", "at most 35 days, if it is on")
            yield Remaining("DynamoDB, backups and exports", "the table as it was", "you delete them")
        yield Remaining(
            "marks of erasures and deletions",
            "digests (MD5) of the user's id, and of the keys of the user's items that were deleted one by one before",
            "in the table 90 days after the erasure, and 400 days after a deletion; in Valkey a day; "
            "in the warehouse for good, so that what landed before is never read again",
        )
        yield Remaining(
            "memory of processes",
            "ids of the user's guarded calls and tracked runs; in other processes, plans made from the user's mappings",
            "newer calls and runs displace the ids; the plans at most 5 minutes",
        )
        yield Remaining(
            "reports that were written",
            "the user's id and categories, in pages of `agentmodel report`",
            "you delete them, or write them again",
        )
        yield Remaining(
            "exports that were written",
            "the user's rows, in files of `agentmodel export`",
            "the next export to the same place removes them",
        )
        yield Remaining("logs", "the user's id, and texts of errors where your code logs them", "your logs are deleted")
