"""Land items in DuckDB as zero-ETL does in Redshift: in bulk through Arrow, or straight from the files of an export.

A landed row is what zero-ETL with history mode makes: the two keys, the item, and when its version was made and
deleted. Only the newest version of each key is kept. An item that is missing from a complete landing was deleted. If it
had expired, DynamoDB's TTL deleted it, and it stays for the statistics. Otherwise a person did, and only its key and
kind stay. If a feed says who deleted an item, that decides. Whatever it says, an item with a mark of its deletion was
deleted by a person.

Items come in batches (`add_to_inbox`) and stay in an inbox until they are compared with what landed before
(`apply_inbox`): one comparison however many batches there are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TIMESTAMP, UserDefinedType

from agentmodel.exceptions import MissingExtraError, ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift._base_tables_sql import deletion_mark, erased_rows, is_deletion_mark, table_of, version_of
from agentmodel.redshift._constructs import Matches, ParseSuper, Super, SuperText, constant, key_part, number_of
from agentmodel.redshift._feeds import FeedBatch, FeedItem

__all__ = [
    "Landed", "add_to_inbox", "apply_inbox", "create_landing", "erase_landed", "landing_table", "newest_time",
    "read_positions",
]  # fmt: skip

DIGEST: Final = "digest"

PRESENT, EXPIRED, ERASED = 0, 1, 2
"""The state of an item in the inbox: it is in the table, TTL deleted it, or a person did."""

_INBOX = Table(
    "landing_inbox", MetaData(), Column("PK", String), Column("SK", String), Column("seq", BigInteger),
    Column("gone", Integer), Column("item", String), Column(DIGEST, String(32)),
)  # fmt: skip
_FRESH = Table("work_landing_fresh", MetaData(), Column("PK", String), Column("SK", String))
_POSITION = Table("landing_position", MetaData(), Column("part", String), Column("place", String))
_NAMES: Final = [name.name for name in _INBOX.c]
_ARRIVING = Table("arriving", MetaData(), *(Column(name, String) for name in ("PK", "SK", "seq", "gone", "item")))


@dataclass(frozen=True)
class Landed:
    """What a landing changed.

    Attributes:
        items: Items that the feed brought.
        changed: New items, and new versions of known ones.
        expired: Items that DynamoDB's TTL deleted; they stay in the statistics.
        erased: Items that a person deleted; they leave the statistics at the next refresh.
        fallback_reason: Why the whole table was read instead of the chosen feed; empty if the chosen feed was read.
    """

    items: int
    changed: int
    expired: int
    erased: int
    fallback_reason: str = ""


class _Attributes(UserDefinedType[Any]):
    """DuckDB's map of an item's attributes, which can be sorted: JSON texts of one item may differ in their order."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "MAP(VARCHAR, JSON)"


@cache
def landing_table(name: str) -> Table:
    """Return the landed table, with a digest of each item by which an unchanged item is recognized.

    There is one of each name in a process, since SQLAlchemy finds a compiled statement by the tables that it names.
    """
    table = m.landed_table(name)
    table.append_column(Column(DIGEST, String(32)))
    return table


def create_landing(connection: Connection, landed: Table) -> None:
    """Create the landed table and the other tables of a landing, where they are missing."""
    for table in (landed, _INBOX, _FRESH, _POSITION):
        connection.execute(CreateTable(table, if_not_exists=True))


def newest_time(connection: Connection, landed: Table) -> datetime | None:
    """Return when the newest version landed or was deleted, in UTC; None when nothing has landed."""
    newest: datetime | None = connection.execute(
        select(func.max(func.greatest(landed.c[m.CREATED], landed.c[m.DELETED])))
    ).scalar()
    return newest


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValidationError("at", at, "must have a time zone, as datetime.now(UTC) has")
    return at.astimezone(UTC).replace(tzinfo=None)


# -- into the inbox ---------------------------------------------------------------------------------------------------


def read_positions(connection: Connection) -> dict[str, str]:
    """Return how far a feed had read when it last landed: a position by the name of its part."""
    rows = connection.execute(select(_POSITION.c.part, _POSITION.c.place)).all()
    return {row.part: row.place for row in rows}


def add_to_inbox(connection: Connection, batch: FeedBatch) -> int:
    """Add a batch to the inbox and store the feed's positions; return the number of items.

    Raises:
        ValidationError: An item is not DynamoDB JSON.
        MissingExtraError: PyArrow is not installed.
    """
    count = _add_items(connection, batch.items) + _add_files(connection, batch.files)
    if batch.positions is not None:
        connection.execute(delete(_POSITION))
        connection.execute(
            insert(_POSITION), [{"part": part, "place": position} for part, position in batch.positions.items()]
        )
    return count


def _inbox_size(connection: Connection) -> int:
    count: int = connection.execute(select(func.count()).select_from(_INBOX)).scalar_one()
    return count


def _add_items(connection: Connection, items: Sequence[FeedItem]) -> int:
    if not items:
        return 0
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("local", "landing items in DuckDB", "pyarrow") from None
    first = _inbox_size(connection)
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_binary).encode
    keys = [_key(each.item) for each in items]
    table = pa.table(
        {
            "PK": [pk for pk, _ in keys],
            "SK": [sk for _, sk in keys],
            "seq": range(first, first + len(items)),
            "gone": [ERASED if each.erased else EXPIRED if each.expired else PRESENT for each in items],
            "item": [encode(each.item) for each in items],
        }
    )
    rows = select(*_ARRIVING.c, func.md5(_ARRIVING.c.item))
    driver = _duckdb_of(connection)
    driver.register(_ARRIVING.name, table)
    try:
        connection.execute(insert(_INBOX).from_select(_NAMES, rows))
    finally:
        driver.unregister(_ARRIVING.name)
    return len(items)


def _add_files(connection: Connection, files: Sequence[str]) -> int:
    if not files:
        return 0
    first = _inbox_size(connection)
    lines = func.read_ndjson_objects(bindparam("files", list(files))).table_valued(column("json", Super())).alias("f")
    item = func.json_extract(lines.c.json, literal_column("'$.Item'"), type_=Super()).label("item")
    found = select(item).subquery("found")
    pk, sk = (SuperText(found.c.item, name, "S") for name in ("PK", "SK"))
    text = cast(found.c.item, String)
    rows = select(pk, sk, constant(first), constant(PRESENT), text, func.md5(text))
    connection.execute(insert(_INBOX).from_select(_NAMES, rows))
    without_key = or_(_INBOX.c.PK.is_(None), _INBOX.c.SK.is_(None))
    invalid = connection.execute(select(_INBOX.c.item).where(without_key).limit(1)).first()
    if invalid is not None:
        raise ValidationError("item", invalid.item, _RULE)
    return _inbox_size(connection) - first


_RULE: Final = 'must be DynamoDB JSON with {"PK": {"S": …}, "SK": {"S": …}}'


def _duckdb_of(connection: Connection) -> Any:
    wrapped: Any = connection.connection.driver_connection
    return wrapped.duckdb


def _key(item: Any) -> tuple[str, str]:
    try:
        return item["PK"]["S"], item["SK"]["S"]
    except (KeyError, TypeError):
        raise ValidationError("item", item, _RULE) from None


def _binary(value: Any) -> Any:
    """Encode what DynamoDB JSON may hold besides JSON's own types: binary, as base64, and sets."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise ValidationError("item", value, "must be DynamoDB JSON: maps, lists, text, bytes, numbers as text")


# -- out of the inbox -------------------------------------------------------------------------------------------------


def apply_inbox(connection: Connection, landed: Table, *, at: datetime, complete: bool) -> Landed:
    """Compare the inbox with what landed before, update the landed table, and empty the inbox.

    Args:
        connection: The open transaction.
        landed: The landed table.
        at: The time of the landing.
        complete: Whether the inbox holds every item of the table.
    """
    moment, last = _utc(at), newest_time(connection, landed)
    stamp = moment if last is None else max(moment, last)  # a clock that was set back must not hide changes
    count = _inbox_size(connection)
    if count:
        _drop_repeated(connection)
        _drop_erased(connection, moment)
    changed = _upsert(connection, landed, stamp) if count else 0
    expired, erased = _apply_deletions(connection, landed, stamp) if count else (0, 0)
    if complete:
        missing = _delete_missing(connection, landed, moment=moment, stamp=stamp)
        expired, erased = expired + missing[0], erased + missing[1]
    marked = _erase_marked(connection, landed, stamp)
    expired, erased = expired - marked[0], erased + marked[1]
    connection.execute(delete(_INBOX))
    return Landed(count, changed, expired, erased)


def _drop_repeated(connection: Connection) -> None:
    """Keep only the latest of several items with the same keys; two drainers may give theirs the same numbers."""
    row, later = _INBOX, _INBOX.alias("later")
    place = [literal_column(f"{name}.rowid", BigInteger) for name in (row.name, later.name)]
    is_later = or_(later.c.seq > row.c.seq, and_(later.c.seq == row.c.seq, place[1] > place[0]))
    has_later = exists().where(later.c.PK == row.c.PK, later.c.SK == row.c.SK, is_later)
    connection.execute(delete(row).where(has_later))


def _drop_erased(connection: Connection, moment: datetime) -> None:
    """Drop what belongs to an erased history: a record that came late, or that the feed read before the erasure."""
    if not _count(connection, table_of(m.ErasedUser)):
        return
    row = select(_INBOX.c.PK, _INBOX.c.SK, _INBOX.c.gone, ParseSuper(_INBOX.c.item).label("value")).subquery("row_")
    now = constant(int(_epoch(moment) * 1000) << 16)
    erased = erased_rows(row, made_at=case((row.c.gone == constant(PRESENT), now), else_=constant(0)))
    late = select(row.c.PK, row.c.SK).where(erased).subquery("late")
    connection.execute(delete(_INBOX).where(exists().where(_same_key(late, _INBOX))))


def erase_landed(connection: Connection, landed: Table, user_key: str) -> None:
    """Delete the landed rows of a user that belong to an erased history, also those that wait in the inbox.

    Of a tool whose last error is in the user's words, these words are deleted.
    """
    mine = func.md5(key_part(landed.c.PK, 1)) == user_key
    connection.execute(delete(landed).where(mine, erased_rows(landed, made_at=landed.c[m.CREATED])))
    for table, item in ((landed, landed.c.value), (_INBOX, _INBOX.c.item)):
        error, by = (SuperText(cast(item, Super), name, "S") for name in ("LastErrorMsg", "LastErrorBy"))
        without = func.json_merge_patch(item, '{"LastErrorMsg": null, "LastErrorBy": null}')
        theirs = (error.is_not(None), func.coalesce(by, user_key) == user_key)
        connection.execute(update(table).where(*theirs).values({item: without}))
    _drop_erased(connection, datetime(1970, 1, 1))  # noqa: DTZ001  # as `_utc` returns times


def _same_key(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(one.c.PK == other.c.PK, one.c.SK == other.c.SK)


def _upsert(connection: Connection, landed: Table, stamp: datetime) -> int:
    """Insert new items, and replace old versions by new ones; return how many items changed."""
    row, fresh = _INBOX, _FRESH
    known = exists().where(_same_key(landed, row), landed.c[DIGEST] == row.c[DIGEST], landed.c[m.ACTIVE])
    connection.execute(delete(fresh))
    rows = select(row.c.PK, row.c.SK).where(row.c.gone == constant(PRESENT), ~known)
    connection.execute(insert(fresh).from_select(["PK", "SK"], rows))
    if _count(connection, fresh):
        connection.execute(delete(fresh).where(_same_attributes(landed)))
    changed = _count(connection, fresh)
    if changed:
        connection.execute(delete(landed).where(_same_key(landed, fresh)))
        values = [
            row.c.PK,
            row.c.SK,
            ParseSuper(row.c.item),
            true(),
            bindparam("stamp", stamp, TIMESTAMP),
            row.c[DIGEST],
        ]
        changed_rows = select(*values).join(fresh, _same_key(row, fresh)).order_by(row.c.seq)
        names = ["PK", "SK", "value", m.ACTIVE, m.CREATED, DIGEST]
        connection.execute(insert(landed).from_select(names, changed_rows))
        connection.execute(delete(fresh))
    return changed


def _same_attributes(landed: Table) -> ColumnElement[bool]:
    """Return whether an item landed with the same attributes in another order: feeds differ in the order."""

    def ordered(item: Any) -> Any:
        return func.list_sort(func.map_entries(cast(item, _Attributes())))

    row = _INBOX
    same = ordered(landed.c.value) == ordered(ParseSuper(row.c.item))
    return exists().where(_same_key(row, _FRESH), _same_key(landed, row), landed.c[m.ACTIVE], same)


def _apply_deletions(connection: Connection, landed: Table, stamp: datetime) -> tuple[int, int]:
    """Mark the items as deleted that a feed reported so; return how many had expired and how many were erased."""
    row, time = _INBOX, bindparam("stamp", stamp, TIMESTAMP)
    is_landed = exists().where(_same_key(row, landed), row.c.gone == constant(ERASED))
    erased = _erase(connection, landed, and_(is_landed, landed.c[DIGEST].is_not(None)), stamp)
    is_deleted = exists().where(_same_key(landed, row), landed.c[DIGEST] == row.c[DIGEST], ~landed.c[m.ACTIVE])
    newly_expired = and_(row.c.gone == constant(EXPIRED), ~is_deleted)
    expired: int = connection.execute(select(func.count()).select_from(row).where(newly_expired)).scalar_one()
    if expired:
        connection.execute(delete(row).where(row.c.gone == constant(EXPIRED), is_deleted))
        connection.execute(
            delete(landed).where(exists().where(_same_key(row, landed), row.c.gone == constant(EXPIRED)))
        )
        values = [row.c.PK, row.c.SK, ParseSuper(row.c.item), false(), time, time, row.c[DIGEST]]
        rows = select(*values).where(row.c.gone == constant(EXPIRED))
        names = ["PK", "SK", "value", m.ACTIVE, m.CREATED, m.DELETED, DIGEST]
        connection.execute(insert(landed).from_select(names, rows))
    return expired, erased


def _delete_missing(connection: Connection, landed: Table, *, moment: datetime, stamp: datetime) -> tuple[int, int]:
    """Mark the items as deleted that the inbox lacks; return how many had expired and how many were erased."""
    missing = ~exists().where(_same_key(_INBOX, landed))
    expires = number_of(SuperText(landed.c.value, "ExpiresAt", "N"), Double())
    expired = func.coalesce(expires <= _epoch(moment), false())
    erased = _erase(connection, landed, and_(landed.c[m.ACTIVE], missing, ~expired), stamp)
    gone = and_(landed.c[m.ACTIVE], missing)
    count = _count(connection, landed, gone)
    if count:
        connection.execute(update(landed).where(gone).values({m.ACTIVE: False, m.DELETED: stamp}))
    return count, erased


def _erase_marked(connection: Connection, landed: Table, stamp: datetime) -> tuple[int, int]:
    """Erase what had expired although its deletion was asked for; return how many expired now, and how many in all."""
    mark = landed.alias("mark")
    before = number_of(SuperText(mark.c.value, "Version", "N"), BigInteger())
    asked_for = exists().where(
        is_deletion_mark(mark), deletion_mark(landed) == mark.c.PK, version_of(landed, landed.c[m.CREATED]) <= before
    )
    marked = and_(~landed.c[m.ACTIVE], landed.c[DIGEST].is_not(None), asked_for)
    now = _count(connection, landed, and_(marked, landed.c[m.DELETED] == stamp))
    return now, _erase(connection, landed, marked, stamp)


def _erase(connection: Connection, landed: Table, which: ColumnElement[bool], stamp: datetime) -> int:
    """Delete everything of some items except their keys and kind; return how many items."""
    kind = SuperText(landed.c.value, "EntityType", "S")
    only_kind = literal_column('\'{"EntityType":{"S":"\'', String).concat(kind).concat(literal_column("'\"}}'", String))
    remaining = case((Matches(kind, "^[A-Za-z0-9]+$"), ParseSuper(only_kind)), else_=null())
    count = _count(connection, landed, which)
    if count:
        values = {m.ACTIVE: False, m.DELETED: stamp, "value": remaining, DIGEST: null()}
        connection.execute(update(landed).where(which).values(values))
    return count


def _count(connection: Connection, table: Table, which: ColumnElement[bool] | None = None) -> int:
    rows = select(func.count()).select_from(table)
    count: int = connection.execute(rows if which is None else rows.where(which)).scalar_one()
    return count


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
