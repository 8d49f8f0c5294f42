"""The laptop's zero-ETL: items into DuckDB, in bulk through Arrow.

What lands looks as zero-ETL with history mode makes it: the two keys, the item, and when its version came and went. One
version a key is kept, the newest. An item that is missing from a complete landing was deleted: by DynamoDB's TTL if it
had expired, and then it stays for the statistics; else by a person, and then nothing of it but its key and kind stays.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TIMESTAMP

from agentmodel.exceptions import MissingExtraError, ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift.dialects import Matches, ParseSuper, SuperText, number_of

__all__ = ["Landed", "create_landing", "land", "landing_table"]

BATCH: Final = 20_000  # items of one Arrow batch: a few tens of megabytes

DIGEST: Final = "digest"

_INCOMING = Table(
    "work_landing", MetaData(), Column("PK", String), Column("SK", String), Column("seq", BigInteger),
    Column("item", String), Column(DIGEST, String(32)),
)  # fmt: skip
_FRESH = Table("work_landing_fresh", MetaData(), Column("PK", String), Column("SK", String))


@dataclass(frozen=True)
class Landed:
    """What a landing changed.

    Attributes:
        items: Items that were given.
        changed: New items, and new versions of known ones.
        expired: Items missing because DynamoDB's TTL deleted them; they stay in the statistics.
        erased: Items missing because a person deleted them; they leave the statistics at the next refresh.
    """

    items: int
    changed: int
    expired: int
    erased: int


def landing_table(name: str) -> Table:
    """Return the landed table with a digest of each item, by which an unchanged one is known."""
    table = m.landed_table(name)
    table.append_column(Column(DIGEST, String(32)))
    return table


def create_landing(connection: Connection, landed: Table) -> None:
    """Create the landed table and the table a landing arrives in, where they are missing."""
    for table in (landed, _INCOMING, _FRESH):
        connection.execute(CreateTable(table, if_not_exists=True))


def land(connection: Connection, landed: Table, items: Iterable[Any], *, at: datetime, complete: bool) -> Landed:
    """Land items in the open transaction; see `agentmodel.redshift.pipeline.Warehouse.land`."""
    moment = _utc(at)
    last = connection.execute(select(func.max(func.greatest(landed.c[m.CREATED], landed.c[m.DELETED])))).scalar()
    stamp = moment if last is None else max(moment, last)  # a clock that went back must not hide changes
    connection.execute(delete(_INCOMING))
    count = _arrive(connection, items)
    _drop_repeated(connection)
    changed = _replace(connection, landed, stamp)
    expired, erased = _depart(connection, landed, moment=moment, stamp=stamp) if complete else (0, 0)
    connection.execute(delete(_INCOMING))
    return Landed(count, changed, expired, erased)


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValidationError("at", at, "give an aware datetime, such as datetime.now(UTC)")
    return at.astimezone(UTC).replace(tzinfo=None)


def _arrive(connection: Connection, items: Iterable[Any]) -> int:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("local", "landing items in DuckDB", "pyarrow") from None
    driver = _duckdb_of(connection)
    seen = 0
    source = Table("arriving", MetaData(), *(Column(name, String) for name in ("PK", "SK", "seq", "item")))
    rows = select(source.c.PK, source.c.SK, source.c.seq, source.c.item, func.md5(source.c.item))
    move = insert(_INCOMING).from_select(["PK", "SK", "seq", "item", DIGEST], rows)
    for batch in _batches(items):
        columns = list(zip(*batch, strict=True))
        sequence = range(seen, seen + len(batch))
        table = pa.table({"PK": columns[0], "SK": columns[1], "seq": sequence, "item": columns[2]})
        driver.register("arriving", table)
        try:
            connection.execute(move)
        finally:
            driver.unregister("arriving")
        seen += len(batch)
    return seen


def _duckdb_of(connection: Connection) -> Any:
    wrapped: Any = connection.connection.driver_connection
    return wrapped.duckdb


def _batches(items: Iterable[Any]) -> Iterator[list[tuple[str, str, str]]]:
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_binary).encode
    rows = iter(items)
    while batch := list(islice(rows, BATCH)):
        yield [(*_key(item), encode(item)) for item in batch]


def _key(item: Any) -> tuple[str, str]:
    try:
        return item["PK"]["S"], item["SK"]["S"]
    except (KeyError, TypeError):
        raise ValidationError("item", item, 'give DynamoDB JSON with {"PK": {"S": …}, "SK": {"S": …}}') from None


def _binary(value: Any) -> Any:
    """Encode what DynamoDB JSON may hold beside JSON's own types: binary, as base64, and sets."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise ValidationError("item", value, "give DynamoDB JSON: maps, lists, text, bytes, numbers as text")


def _drop_repeated(connection: Connection) -> None:
    """Of items given twice the later one counts."""
    row, later = _INCOMING, _INCOMING.alias("later")
    again = exists().where(later.c.PK == row.c.PK, later.c.SK == row.c.SK, later.c.seq > row.c.seq)
    connection.execute(delete(row).where(again))


def _replace(connection: Connection, landed: Table, stamp: datetime) -> int:
    row, fresh = _INCOMING, _FRESH
    same = exists().where(
        landed.c.PK == row.c.PK, landed.c.SK == row.c.SK, landed.c[DIGEST] == row.c[DIGEST], landed.c[m.ACTIVE]
    )
    connection.execute(delete(fresh))
    connection.execute(insert(fresh).from_select(["PK", "SK"], select(row.c.PK, row.c.SK).where(~same)))
    changed: int = connection.execute(select(func.count()).select_from(fresh)).scalar_one()
    if changed:
        connection.execute(delete(landed).where(landed.c.PK == fresh.c.PK, landed.c.SK == fresh.c.SK))
        values = (
            row.c.PK,
            row.c.SK,
            ParseSuper(row.c.item),
            true(),
            bindparam("stamp", stamp, TIMESTAMP),
            row.c[DIGEST],
        )
        rows = select(*values).join(fresh, and_(row.c.PK == fresh.c.PK, row.c.SK == fresh.c.SK)).order_by(row.c.seq)
        connection.execute(insert(landed).from_select(["PK", "SK", "value", m.ACTIVE, m.CREATED, DIGEST], rows))
        connection.execute(delete(fresh))
    return changed


def _depart(connection: Connection, landed: Table, *, moment: datetime, stamp: datetime) -> tuple[int, int]:
    """Mark what is missing as deleted; returns how many had expired and how many were erased."""
    row = _INCOMING
    missing = and_(landed.c[m.ACTIVE], ~exists().where(row.c.PK == landed.c.PK, row.c.SK == landed.c.SK))
    expires = number_of(SuperText(landed.c.value, "ExpiresAt", "N"), Double())
    expired = func.coalesce(expires <= _epoch(moment), false())
    gone = {m.ACTIVE: False, m.DELETED: stamp}
    kind = SuperText(landed.c.value, "EntityType", "S")
    shell = literal_column('\'{"EntityType":{"S":"\'', String).concat(kind).concat(literal_column("'\"}}'", String))
    left = case((Matches(kind, "^[A-Za-z0-9]+$"), ParseSuper(shell)), else_=null())
    counts = []
    for condition, values in ((expired, gone), (~expired, {**gone, "value": left, DIGEST: null()})):
        which = and_(missing, condition)
        count: int = connection.execute(select(func.count()).select_from(landed).where(which)).scalar_one()
        if count:
            connection.execute(update(landed).where(which).values(values))
        counts.append(count)
    return counts[0], counts[1]


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
