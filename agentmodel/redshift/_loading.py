"""From what landed to the base tables: the newest version of each item, and each kind's attributes as columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Double,
    Executable,
    FromClause,
    Integer,
    String,
    Subquery,
    Table,
    and_,
    case,
    cast,
    delete,
    exists,
    extract,
    func,
    insert,
    literal_column,
    null,
    or_,
    union_all,
)
from sqlalchemy.sql import visitors
from sqlalchemy.types import TIMESTAMP

from agentmodel.redshift import models as m
from agentmodel.redshift.dialects import (
    Rows,
    SuperText,
    Unpacked,
    constant,
    constant_text,
    key_part,
    number_of,
    rows_of,
    super_number,
)

__all__ = ["ENTITIES", "Entity", "Terms", "load", "newest", "table_of", "unload", "unpacked"]


@dataclass(frozen=True)
class Terms:
    """What a refresh is told: the landed table, the day to score for, and how evidence fades.

    Attributes:
        landed: The table of `agentmodel.redshift.models.landed_table`.
        as_of: The day scores are computed for.
        since: Versions made or deleted after this time are read; unset reads all.
        seen_as_of: ``as_of`` of the refresh before.
        half_life: Days after which an execution weighs half as evidence.
    """

    landed: Table
    as_of: ColumnElement[date]
    half_life: ColumnElement[float]
    since: ColumnElement[datetime] | None = None
    seen_as_of: ColumnElement[date] | None = None

    @property
    def history(self) -> bool:
        """Whether the landed table has zero-ETL's history columns."""
        return m.CREATED in self.landed.c


ITEM: Final = ("PK", "SK", "value", "kind", "present", "loaded_at")


# -- what landed ------------------------------------------------------------------------------------------------------


def newest(terms: Terms) -> Rows | CompoundSelect[Any]:
    """Select the newest version of each landed item that changed since the watermark, and whether it counts.

    An item that DynamoDB's TTL deleted still counts; one that a person deleted does not. Which of the two it was, its
    own ``ExpiresAt`` tells: a TTL deletion never comes before it.
    """
    row = terms.landed.alias("landed")
    if not terms.history:
        return rows_of(*_item(row), constant(1).label("present"), cast(null(), TIMESTAMP).label("loaded_at"))
    created, deleted = row.c[m.CREATED], row.c[m.DELETED]
    expires = number_of(SuperText(row.c.value, "ExpiresAt", "N"), Double())
    expired = and_(expires.is_not(None), expires <= extract("epoch", deleted))
    present = case((or_(row.c[m.ACTIVE], expired), constant(1)), else_=constant(0)).label("present")
    if terms.since is None:
        return _newest_of_all(row, terms.landed, present)
    columns = [*_item(row), present, created.label("loaded_at"), row.c[m.ACTIVE].label("active"), deleted.label("gone")]
    recent = union_all(  # two branches: one OR is several times slower
        rows_of(*columns).where(created > terms.since),
        rows_of(*columns).where(created <= terms.since, deleted > terms.since),
    ).subquery("recent")
    place = func.row_number().over(
        partition_by=[recent.c.PK, recent.c.SK],
        order_by=[
            case((recent.c.active, 0), else_=1),
            recent.c.loaded_at.desc(),
            func.coalesce(recent.c.gone, recent.c.loaded_at).desc(),
        ],
    )
    ranked = rows_of(*recent.c, place.label("place")).subquery("ranked")
    return rows_of(*(ranked.c[name] for name in ITEM)).where(ranked.c.place == 1)


def _newest_of_all(row: FromClause, landed: Table, present: ColumnElement[int]) -> Rows | CompoundSelect[Any]:
    """Read active items as they are; only the few deleted ones are searched for their newest version."""
    created, deleted = row.c[m.CREATED], row.c[m.DELETED]
    living = landed.alias("living")
    active = rows_of(*_item(row), constant(1).label("present"), created.label("loaded_at")).where(row.c[m.ACTIVE])
    place = func.row_number().over(
        partition_by=[row.c.PK, row.c.SK], order_by=[created.desc(), func.coalesce(deleted, created).desc()]
    )
    again = exists().where(living.c.PK == row.c.PK, living.c.SK == row.c.SK, living.c[m.ACTIVE])
    gone = (
        rows_of(*_item(row), present, created.label("loaded_at"), place.label("place"))
        .where(~row.c[m.ACTIVE], ~again)
        .subquery("gone")
    )
    return union_all(active, rows_of(*(gone.c[name] for name in ITEM)).where(gone.c.place == 1))


def _item(row: FromClause) -> list[ColumnElement[Any]]:
    kind = SuperText(row.c.value, "EntityType", "S").label("kind")
    return [row.c.PK, row.c.SK, row.c.value, kind]


# -- base tables ------------------------------------------------------------------------------------------------------

Attributes: TypeAlias = "dict[Any, Callable[[Any], ColumnElement[Any]]]"


@dataclass(frozen=True)
class Entity:
    """A base table: the kind of item it holds, its key, and its other columns, each with how it is read."""

    model: Any
    kind: str
    keys: Attributes
    rest: Attributes


def _s(name: str, *, width: Any = None) -> Callable[[Any], ColumnElement[Any]]:
    """Text attribute, cut to what the column holds: one long value must not fail a whole refresh."""

    def read(row: Any) -> ColumnElement[Any]:
        text: ColumnElement[str] = SuperText(row.value, name, "S")
        return text if width is None else func.left(text, constant(width), type_=String())

    return read


def _n(name: str, type_: Any) -> Callable[[Any], ColumnElement[Any]]:
    return lambda row: number_of(SuperText(row.value, name, "N"), type_)


def _attempt(row: Any) -> ColumnElement[int]:
    text = func.ltrim(key_part(row.SK, 4), literal_column("'ABCDEFGHIJ'"), type_=String())
    return func.coalesce(number_of(text, Integer()), constant(1), type_=Integer())


LONG: Final = 16_383  # characters that fit the widest VARCHAR whatever their script
_NAME = {"width": m.NAME}
_PROSE = {"width": m.PROSE}
_FLAG = {"width": 1}
_TIME = {"width": 20}
_LONG = {"width": LONG}

ENTITIES: Final = (
    Entity(
        m.Domain,
        "Domain",
        {m.Domain.domain_id: lambda row: row.PK},
        {m.Domain.name: _s("DomainNM", **_NAME), m.Domain.description: _s("Description", **_PROSE)},
    ),
    Entity(
        m.Agent,
        "Agent",
        {m.Agent.agent_id: lambda row: row.PK},
        {
            m.Agent.domain_id: _s("GSI1_PK", width=m.ID),
            m.Agent.name: _s("AgentNM", **_NAME),
            m.Agent.score: lambda row: super_number(row.value, "Score", Double()),
            m.Agent.description: _s("Description", **_PROSE),
        },
    ),
    Entity(
        m.Tool,
        "Tool",
        {m.Tool.agent_id: lambda row: row.PK, m.Tool.tool_id: lambda row: row.SK},
        {
            m.Tool.domain_id: _s("GSI1_PK", width=m.ID),
            m.Tool.name: _s("ToolNM", **_NAME),
            m.Tool.spec: _s("ToolSpec", **_LONG),
            m.Tool.description: _s("Description", **_PROSE),
        },
    ),
    Entity(
        m.UserInfo,
        "UserInfo",
        {m.UserInfo.user_id: lambda row: row.PK},
        {
            m.UserInfo.name: _s("UserNM", **_NAME),
            m.UserInfo.profile: _s("UserProfile", **_PROSE),
            m.UserInfo.last_login: _s("LastLoginDT", **_TIME),
            m.UserInfo.created: _s("CreationDT", **_TIME),
        },
    ),
    Entity(
        m.UserSession,
        "UserSession",
        {m.UserSession.user_id: lambda row: row.PK, m.UserSession.session_id: lambda row: row.SK},
        {
            m.UserSession.name: _s("UserSessionNM", **_NAME),
            m.UserSession.summary: _s("SessionSummary", **_PROSE),
            m.UserSession.started: _s("SessionStartDT", **_TIME),
            m.UserSession.file: _s("DtlFileLoc", **_PROSE),
            m.UserSession.ended: _s("SessionEndDT", **_TIME),
            m.UserSession.succeeded: _s("SessionSuccYN", **_FLAG),
            m.UserSession.reviewed: _s("ReviewedSuccYN", **_FLAG),
            m.UserSession.category: _s("Category", **_NAME),
            m.UserSession.request: _s("UserRequest", **_LONG),
        },
    ),
    Entity(
        m.UserSessionProcess,
        "UserSessionProcess",
        {
            m.UserSessionProcess.user_id: lambda row: key_part(row.PK, 1),
            m.UserSessionProcess.session_id: lambda row: key_part(row.PK, 2),
            m.UserSessionProcess.process_id: lambda row: row.SK,
        },
        {
            m.UserSessionProcess.prompt: _s("UserPrompt", **_LONG),
            m.UserSessionProcess.name: _s("ProcNM", **_NAME),
            m.UserSessionProcess.description: lambda row: func.left(
                func.coalesce(SuperText(row.value, "ProcessDesc", "S"), SuperText(row.value, "ProcDesc", "S")),
                constant(m.PROSE),
            ),
            m.UserSessionProcess.time: _s("ProcDT", **_TIME),
        },
    ),
    Entity(
        m.UserToolMappingHist,
        "UserSessPrcToolMappHist",
        {
            m.UserToolMappingHist.user_id: lambda row: key_part(row.PK, 1),
            m.UserToolMappingHist.session_id: lambda row: key_part(row.PK, 2),
            m.UserToolMappingHist.process_id: lambda row: key_part(row.SK, 1),
            m.UserToolMappingHist.agent_id: lambda row: key_part(row.SK, 2),
            m.UserToolMappingHist.tool_id: lambda row: key_part(row.SK, 3),
            m.UserToolMappingHist.attempt: _attempt,
        },
        {
            m.UserToolMappingHist.tool_name: _s("ToolNM", **_NAME),
            m.UserToolMappingHist.values: _s("ToolValues", **_LONG),
            m.UserToolMappingHist.time: _s("TransactDT", **_TIME),
            m.UserToolMappingHist.succeeded: _s("SuccYN", **_FLAG),
            m.UserToolMappingHist.result: _s("ResultMsg", **_LONG),
            m.UserToolMappingHist.call_number: _n("CallNo", BigInteger()),
            m.UserToolMappingHist.status: _s("Status", width=16),
            m.UserToolMappingHist.error_type: _s("ErrorType", **_NAME),
            m.UserToolMappingHist.duration_ms: _n("DurationMs", Double()),
            m.UserToolMappingHist.input_tokens: _n("InputTokens", BigInteger()),
            m.UserToolMappingHist.output_tokens: _n("OutputTokens", BigInteger()),
        },
    ),
)


def unpacked(entity: Entity, source: FromClause) -> Subquery:
    """Read each item once for all attributes of its kind, where an engine would parse it again for each."""
    texts = (part for read in entity.rest.values() for part in visitors.iterate(read(source.c)))
    paths = [text.path for text in texts if isinstance(text, SuperText)]
    others = [source.c[name] for name in ITEM if name != "value"]
    value = Unpacked(source.c.value, paths).label(source.c.value.name)
    return rows_of(*others, value).subquery("unpacked")


def load(entity: Entity, source: FromClause) -> Executable:
    """Put the items of a kind into their table, unless they were erased."""
    columns = {**entity.keys, **entity.rest}
    values = [read(source.c) for read in columns.values()]
    rows = rows_of(*values, source.c.loaded_at).where(
        source.c.kind == constant_text(entity.kind), source.c.present == 1
    )
    return insert(entity.model).from_select([*columns, entity.model.loaded_at], rows)


def unload(entity: Entity) -> Executable:
    """Take the changed rows out of a base table."""
    change = table_of(m.WorkChange).c
    same = [column == read(change) for column, read in entity.keys.items()]
    return delete(entity.model).where(*same, change.kind == constant_text(entity.kind))


def table_of(model: Any) -> Table:
    """Return the table of a model."""
    table: Table = model.__table__
    return table
