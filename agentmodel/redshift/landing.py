"""The laptop's zero-ETL: items into DuckDB, in bulk through Arrow or straight from the files of an export.

What lands looks as zero-ETL with history mode makes it: the two keys, the item, and when its version came and went. One
version a key is kept, the newest. An item that is missing from a complete landing was deleted: by DynamoDB's TTL if it
had expired, and then it stays for the statistics; else by a person, and then nothing of it but its key and kind stays.
Where a feed says who deleted an item, that counts.

Items come in batches (`arrive`) and wait in an inbox until they are compared with what landed before (`settle`): one
comparison however many batches there are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
from agentmodel.redshift.dialects import Matches, ParseSuper, Super, SuperText, constant, number_of
from agentmodel.redshift.feeds import Arrival, Batch

__all__ = ["Landed", "arrive", "create_landing", "landing_table", "newest_of", "positions_of", "settle"]

DIGEST: Final = "digest"

HERE, EXPIRED, ERASED = 0, 1, 2
"""What became of an item that arrived: it is in the table, TTL deleted it, or a person did."""

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
        items: Items that were given.
        changed: New items, and new versions of known ones.
        expired: Items that DynamoDB's TTL deleted; they stay in the statistics.
        erased: Items that a person deleted; they leave the statistics at the next refresh.
        told: Why the feed that was asked for could not be used, and another one was; empty where it was.
    """

    items: int
    changed: int
    expired: int
    erased: int
    told: str = ""


class _Attributes(UserDefinedType[Any]):
    """An item's attributes as DuckDB's map, which can be put in order: JSON texts of one item may differ in theirs."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "MAP(VARCHAR, JSON)"


def landing_table(name: str) -> Table:
    """Return the landed table with a digest of each item, by which an unchanged one is known."""
    table = m.landed_table(name)
    table.append_column(Column(DIGEST, String(32)))
    return table


def create_landing(connection: Connection, landed: Table) -> None:
    """Create the landed table and the tables a landing needs, where they are missing."""
    for table in (landed, _INBOX, _FRESH, _POSITION):
        connection.execute(CreateTable(table, if_not_exists=True))


def newest_of(connection: Connection, landed: Table) -> datetime | None:
    """Return when the newest version landed or was deleted."""
    newest: datetime | None = connection.execute(
        select(func.max(func.greatest(landed.c[m.CREATED], landed.c[m.DELETED])))
    ).scalar()
    return newest


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValidationError("at", at, "give an aware datetime, such as datetime.now(UTC)")
    return at.astimezone(UTC).replace(tzinfo=None)


# -- into the inbox ---------------------------------------------------------------------------------------------------


def positions_of(connection: Connection) -> dict[str, str]:
    """Return how far a feed had read when it last landed."""
    rows = connection.execute(select(_POSITION.c.part, _POSITION.c.place)).all()
    return {row.part: row.place for row in rows}


def arrive(connection: Connection, batch: Batch) -> int:
    """Put a batch into the inbox, and the feed's positions beside it; returns the number of items.

    Raises:
        ValidationError: An item is no DynamoDB JSON.
        MissingExtraError: PyArrow is not installed.
    """
    count = _put_items(connection, batch.items) + _put_files(connection, batch.files)
    if batch.positions is not None:
        connection.execute(delete(_POSITION))
        connection.execute(insert(_POSITION), [{"part": part, "place": at} for part, at in batch.positions.items()])
    return count


def _waiting(connection: Connection) -> int:
    count: int = connection.execute(select(func.count()).select_from(_INBOX)).scalar_one()
    return count


def _put_items(connection: Connection, items: Sequence[Arrival]) -> int:
    if not items:
        return 0
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("local", "landing items in DuckDB", "pyarrow") from None
    first = _waiting(connection)
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_binary).encode
    keys = [_key(one.item) for one in items]
    table = pa.table(
        {
            "PK": [pk for pk, _ in keys],
            "SK": [sk for _, sk in keys],
            "seq": range(first, first + len(items)),
            "gone": [ERASED if one.erased else EXPIRED if one.expired else HERE for one in items],
            "item": [encode(one.item) for one in items],
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


def _put_files(connection: Connection, files: Sequence[str]) -> int:
    if not files:
        return 0
    first = _waiting(connection)
    lines = func.read_ndjson_objects(bindparam("files", list(files))).table_valued(column("json", Super())).alias("f")
    item = func.json_extract(lines.c.json, literal_column("'$.Item'"), type_=Super()).label("item")
    found = select(item).subquery("found")
    pk, sk = (SuperText(found.c.item, name, "S") for name in ("PK", "SK"))
    text = cast(found.c.item, String)
    rows = select(pk, sk, constant(first), constant(HERE), text, func.md5(text))
    connection.execute(insert(_INBOX).from_select(_NAMES, rows))
    lost = or_(_INBOX.c.PK.is_(None), _INBOX.c.SK.is_(None))
    wrong = connection.execute(select(_INBOX.c.item).where(lost).limit(1)).first()
    if wrong is not None:
        raise ValidationError("item", wrong.item, _RULE)
    return _waiting(connection) - first


_RULE: Final = 'give DynamoDB JSON with {"PK": {"S": …}, "SK": {"S": …}}'


def _duckdb_of(connection: Connection) -> Any:
    wrapped: Any = connection.connection.driver_connection
    return wrapped.duckdb


def _key(item: Any) -> tuple[str, str]:
    try:
        return item["PK"]["S"], item["SK"]["S"]
    except (KeyError, TypeError):
        raise ValidationError("item", item, _RULE) from None


def _binary(value: Any) -> Any:
    """Encode what DynamoDB JSON may hold beside JSON's own types: binary, as base64, and sets."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise ValidationError("item", value, "give DynamoDB JSON: maps, lists, text, bytes, numbers as text")


# -- out of the inbox -------------------------------------------------------------------------------------------------


def settle(connection: Connection, landed: Table, *, at: datetime, complete: bool) -> Landed:
    """Compare the inbox with what landed before, bring that up to date, and empty the inbox.

    Args:
        connection: The open transaction.
        landed: The landed table.
        at: The time of the landing.
        complete: Whether the inbox holds every item of the table.
    """
    moment, last = _utc(at), newest_of(connection, landed)
    stamp = moment if last is None else max(moment, last)  # a clock that went back must not hide changes
    count = _waiting(connection)
    if count:
        _drop_repeated(connection)
    changed = _replace(connection, landed, stamp) if count else 0
    expired, erased = _part(connection, landed, stamp) if count else (0, 0)
    if complete:
        missing = _depart(connection, landed, moment=moment, stamp=stamp)
        expired, erased = expired + missing[0], erased + missing[1]
    connection.execute(delete(_INBOX))
    return Landed(count, changed, expired, erased)


def _drop_repeated(connection: Connection) -> None:
    """Of items given twice the later one counts."""
    row, later = _INBOX, _INBOX.alias("later")
    again = exists().where(later.c.PK == row.c.PK, later.c.SK == row.c.SK, later.c.seq > row.c.seq)
    connection.execute(delete(row).where(again))


def _same_key(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(one.c.PK == other.c.PK, one.c.SK == other.c.SK)


def _replace(connection: Connection, landed: Table, stamp: datetime) -> int:
    """Let new items and new versions take the place of what is there."""
    row, fresh = _INBOX, _FRESH
    known = exists().where(_same_key(landed, row), landed.c[DIGEST] == row.c[DIGEST], landed.c[m.ACTIVE])
    connection.execute(delete(fresh))
    rows = select(row.c.PK, row.c.SK).where(row.c.gone == constant(HERE), ~known)
    connection.execute(insert(fresh).from_select(["PK", "SK"], rows))
    if _count(connection, fresh):
        connection.execute(delete(fresh).where(_only_in_another_order(landed)))
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
        arrived = select(*values).join(fresh, _same_key(row, fresh)).order_by(row.c.seq)
        names = ["PK", "SK", "value", m.ACTIVE, m.CREATED, DIGEST]
        connection.execute(insert(landed).from_select(names, arrived))
        connection.execute(delete(fresh))
    return changed


def _only_in_another_order(landed: Table) -> ColumnElement[bool]:
    """Whether an item is there with the same attributes: one feed writes them in another order than the next."""

    def ordered(item: Any) -> Any:
        return func.list_sort(func.map_entries(cast(item, _Attributes())))

    row = _INBOX
    same = ordered(landed.c.value) == ordered(ParseSuper(row.c.item))
    return exists().where(_same_key(row, _FRESH), _same_key(landed, row), landed.c[m.ACTIVE], same)


def _part(connection: Connection, landed: Table, stamp: datetime) -> tuple[int, int]:
    """Mark as deleted what a feed saw deleted; returns how many had expired and how many were erased."""
    row, time = _INBOX, bindparam("stamp", stamp, TIMESTAMP)
    there = exists().where(_same_key(row, landed), row.c.gone == constant(ERASED))
    erased = _erase(connection, landed, and_(there, landed.c[DIGEST].is_not(None)), stamp)
    before = exists().where(_same_key(landed, row), landed.c[DIGEST] == row.c[DIGEST], ~landed.c[m.ACTIVE])
    gone = and_(row.c.gone == constant(EXPIRED), ~before)
    expired: int = connection.execute(select(func.count()).select_from(row).where(gone)).scalar_one()
    if expired:
        connection.execute(delete(row).where(row.c.gone == constant(EXPIRED), before))
        connection.execute(
            delete(landed).where(exists().where(_same_key(row, landed), row.c.gone == constant(EXPIRED)))
        )
        values = [row.c.PK, row.c.SK, ParseSuper(row.c.item), false(), time, time, row.c[DIGEST]]
        rows = select(*values).where(row.c.gone == constant(EXPIRED))
        names = ["PK", "SK", "value", m.ACTIVE, m.CREATED, m.DELETED, DIGEST]
        connection.execute(insert(landed).from_select(names, rows))
    return expired, erased


def _depart(connection: Connection, landed: Table, *, moment: datetime, stamp: datetime) -> tuple[int, int]:
    """Mark what is missing as deleted; returns how many had expired and how many were erased."""
    missing = and_(landed.c[m.ACTIVE], ~exists().where(_same_key(_INBOX, landed)))
    expires = number_of(SuperText(landed.c.value, "ExpiresAt", "N"), Double())
    expired = func.coalesce(expires <= _epoch(moment), false())
    which = and_(missing, expired)
    count = _count(connection, landed, which)
    if count:
        connection.execute(update(landed).where(which).values({m.ACTIVE: False, m.DELETED: stamp}))
    return count, _erase(connection, landed, and_(missing, ~expired), stamp)


def _erase(connection: Connection, landed: Table, which: ColumnElement[bool], stamp: datetime) -> int:
    """Leave nothing of items but their keys and kind."""
    kind = SuperText(landed.c.value, "EntityType", "S")
    shell = literal_column('\'{"EntityType":{"S":"\'', String).concat(kind).concat(literal_column("'\"}}'", String))
    left = case((Matches(kind, "^[A-Za-z0-9]+$"), ParseSuper(shell)), else_=null())
    count = _count(connection, landed, which)
    if count:
        values = {m.ACTIVE: False, m.DELETED: stamp, "value": left, DIGEST: null()}
        connection.execute(update(landed).where(which).values(values))
    return count


def _count(connection: Connection, table: Table, which: ColumnElement[bool] | None = None) -> int:
    rows = select(func.count()).select_from(table)
    count: int = connection.execute(rows if which is None else rows.where(which)).scalar_one()
    return count


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
