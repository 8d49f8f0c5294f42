"""Load the base tables: select the newest version of each landed item, and read its attributes as columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    union_all,
)
from sqlalchemy.sql import visitors
from sqlalchemy.types import TIMESTAMP

from agentmodel import keys
from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._constructs import (
    ExtractedTexts,
    Rows,
    SuperText,
    ascii_text,
    constant,
    constant_text,
    count_of,
    key_part,
    number_of,
    super_number,
)
from agentmodel.redshift.models import rows_of

__all__ = [
    "ENTITIES", "PROGRAM", "BaseTable", "RefreshParameters", "delete_changed", "deletion_mark", "erased_rows",
    "extract_texts", "is_deletion_mark", "load", "newest_versions", "set_aside", "table_of", "version_of",
]  # fmt: skip


@dataclass(frozen=True)
class RefreshParameters:
    """The parameters of a refresh; the rendered SQL reads them from the table ``refresh_terms``.

    Attributes:
        landed: The table of `agentmodel.redshift.models.landed_table`.
        as_of: The day to compute scores for.
        half_life: Days after which an execution weighs half as evidence.
        revision_prior: See `agentmodel.redshift.score.revision_weight`.
        since: Only versions that were made or deleted after this time are read; None reads all.
        previous_as_of: ``as_of`` of the refresh before; None for the first one.
        erasures: Whether any user was erased; if not, no row is compared with `ErasedUser`, which saves a second for a
            million rows.
        refreshed_by: What is stored as the name of the watermark: `PROGRAM`, which derives categories, or ``refresh``
            for the rendered SQL, which uses those that are stored.
        finds_sessions_without_category: Whether sessions are learned again that were learned without a category, since
            the refresh before did not derive any.
    """

    landed: Table
    as_of: ColumnElement[date]
    half_life: ColumnElement[float]
    revision_prior: ColumnElement[float] = field(default_factory=lambda: score.number_expression(score.REVISION_PRIOR))
    since: ColumnElement[datetime] | None = None
    previous_as_of: ColumnElement[date] | None = None
    erasures: bool = True
    refreshed_by: str = "refresh"
    finds_sessions_without_category: bool = False

    @property
    def history(self) -> bool:
        """Return whether the landed table has zero-ETL's history columns."""
        return m.CREATED in self.landed.c


PROGRAM: Final = "refresh by agentmodel"
"""The name of the watermark after a refresh of this program."""

ITEM: Final = ("PK", "SK", "value", "kind", "present", "loaded_at")


# -- what landed ------------------------------------------------------------------------------------------------------


def newest_versions(parameters: RefreshParameters) -> Rows | CompoundSelect[Any]:
    """Select the newest version of each landed item that changed since the watermark, and whether the item counts.

    An item that DynamoDB's TTL deleted still counts; one that a person deleted does not. TTL never deletes an item
    before its ``ExpiresAt``. Of one that went later, the marks of deletions tell, which land like items; a mark that
    lands after its item was read is a change of that item.
    """
    row = parameters.landed.alias("landed")
    if not parameters.history:
        items = rows_of(*_item(row), constant(1).label("present"), cast(null(), TIMESTAMP).label("loaded_at"))
        return items.where(*_not_erased(parameters, row, None))
    created, deleted, active = row.c[m.CREATED], row.c[m.DELETED], row.c[m.ACTIVE]
    columns = [*_item(row), created.label("loaded_at"), active.label("active"), deleted.label("gone")]
    kept = _not_erased(parameters, row, created)
    if parameters.since is None:
        return _newest_of_all(row, columns, parameters)
    asked_for = _asked_for_late(parameters.landed, parameters.since)
    recent = union_all(  # branches, because one OR is several times slower
        rows_of(*columns).where(created > parameters.since, *kept),
        rows_of(*columns).where(created <= parameters.since, deleted > parameters.since, *kept),
        rows_of(*columns)
        .select_from(row.join(asked_for, and_(asked_for.c.PK == row.c.PK, asked_for.c.SK == row.c.SK)))
        .where(*kept),
    ).subquery("recent")
    return _newest(recent, parameters)


def _newest_of_all(row: FromClause, columns: list[Any], parameters: RefreshParameters) -> CompoundSelect[Any]:
    """Select all active items, and the newest version of each item that was deleted or landed twice, which are few."""
    living, kept = parameters.landed.alias("living"), _not_erased(parameters, row, row.c[m.CREATED])
    key = [living.c.PK, living.c.SK]
    known = rows_of(*key, func.count().label("times")).where(living.c[m.ACTIVE]).group_by(*key).subquery("known")
    times = func.coalesce(known.c.times, constant(0))
    joined = row.outerjoin(known, and_(known.c.PK == row.c.PK, known.c.SK == row.c.SK))
    once = [*_item(row), constant(1).label("present"), row.c[m.CREATED].label("loaded_at")]
    others = rows_of(*columns).select_from(joined).where(or_(times > constant(1), times == constant(0)), *kept)
    return union_all(
        rows_of(*once).select_from(joined).where(row.c[m.ACTIVE], times == constant(1), *kept),
        _newest(others.subquery("others"), parameters),
    )


def _newest(versions: Subquery, parameters: RefreshParameters) -> Rows:
    """Select the newest of the versions of each item, and whether it counts."""
    v, mark = versions.c, _deletion_marks(parameters.landed, "mark")
    place = func.row_number().over(
        partition_by=[v.PK, v.SK],
        order_by=[case((v.active, 0), else_=1), v.loaded_at.desc(), func.coalesce(v.gone, v.loaded_at).desc()],
    )
    ranked = rows_of(*v, place.label("place")).subquery("ranked")
    expires = number_of(SuperText(ranked.c.value, "ExpiresAt", "N"), Double())
    expired = expires <= extract("epoch", ranked.c.gone)
    asked_for = func.coalesce(version_of(ranked, ranked.c.loaded_at) <= mark.c.before, false())
    counts = or_(ranked.c.active, and_(expired, ~asked_for))
    present = case((counts, constant(1)), else_=constant(0)).label("present")
    item = [present if name == "present" else ranked.c[name] for name in ITEM]
    joined = ranked.outerjoin(mark, mark.c.name == deletion_mark(ranked))
    return rows_of(*item).select_from(joined).where(ranked.c.place == 1)


def _deletion_marks(landed: Table, name: str, *, since: ColumnElement[datetime] | None = None) -> Subquery:
    """Select the marks of deletions that landed since a time: the name of each, and the last version it counts for."""
    mark = landed.alias(name)
    before = number_of(SuperText(mark.c.value, "Version", "N"), BigInteger())
    rows = rows_of(mark.c.PK.label("name"), func.max(before).label("before")).where(is_deletion_mark(mark))
    if since is not None:
        rows = rows.where(mark.c[m.CREATED] > since)
    return rows.group_by(mark.c.PK).subquery(f"{name}s")


def _asked_for_late(landed: Table, since: ColumnElement[datetime]) -> Subquery:
    """Select the keys of deleted items that a mark names that landed since: it may have landed after its item went."""
    gone, late = landed.alias("gone"), _deletion_marks(landed, "late", since=since)
    joined = gone.join(late, late.c.name == deletion_mark(gone))
    return rows_of(gone.c.PK, gone.c.SK).select_from(joined).where(~gone.c[m.ACTIVE]).subquery("asked_for")


def is_deletion_mark(row: FromClause) -> ColumnElement[bool]:
    """Return whether a landed row is the mark of a deletion; see `agentmodel.dynamo._deletion_marks`."""
    prefix = keys.DELETED.prefix()
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    within: ColumnElement[bool] = row.c.PK.between(constant_text(prefix), constant_text(after))
    return within  # a range, by which engines pass over blocks of other rows


def deletion_mark(row: FromClause) -> ColumnElement[str]:
    """Return the name of the mark of a landed item, which is there if somebody asked for the item's deletion."""
    key = row.c.PK.concat(constant_text("#")).concat(row.c.SK)
    name: ColumnElement[str] = constant_text(keys.DELETED.prefix()).concat(func.md5(key, type_=String()))
    return name


def _not_erased(
    parameters: RefreshParameters, row: FromClause, made_at: ColumnElement[Any] | None
) -> list[ColumnElement[bool]]:
    return [~erased_rows(row, made_at=made_at)] if parameters.erasures else []


def erased_rows(row: FromClause, *, made_at: ColumnElement[Any] | None) -> ColumnElement[bool]:
    """Return whether a landed row belongs to a history that was erased.

    Args:
        row: The landed table.
        made_at: When an item without a version was made: a time, or a version; None where that is unknown, and then it
            belongs to it.
    """
    e = m.ErasedUser
    return exists().where(e.user_key == func.md5(key_part(row.c.PK, 1)), version_of(row, made_at) < e.before)


def version_of(row: FromClause, made_at: ColumnElement[Any] | None) -> ColumnElement[int]:
    """Return the version of a landed item, or of the time at which it was made; 0 where neither is known."""
    version = number_of(SuperText(row.c.value, "Version", "N"), BigInteger())
    if made_at is None:
        made_at = constant(0)
    elif isinstance(made_at.type, TIMESTAMP):
        milliseconds = func.floor(cast(extract("epoch", made_at), Double) * constant(1000))  # a cast would round up
        made_at = cast(milliseconds, BigInteger) * constant(VERSIONS_PER_MILLISECOND)
    return func.coalesce(version, made_at, constant(0), type_=BigInteger())


VERSIONS_PER_MILLISECOND: Final = 1 << 16
"""Versions of one millisecond; see `agentmodel._runtime.clock`."""


def _item(row: FromClause) -> list[ColumnElement[Any]]:
    kind = ascii_text(SuperText(row.c.value, "EntityType", "S"), 64).label("kind")
    return [row.c.PK, row.c.SK, row.c.value, kind]


# -- base tables ------------------------------------------------------------------------------------------------------

ColumnReaders: TypeAlias = "dict[Any, Callable[[Any], ColumnElement[Any]]]"


@dataclass(frozen=True)
class BaseTable:
    """A base table, and how the items of its kind are read into it.

    Attributes:
        model: The table.
        kind: The kind of item it holds, as ``EntityType`` names it.
        keys: Its key columns, each with a function that reads the column from a row of items.
        attributes: Its other columns, likewise.
        only: Without this attribute an item of the kind is not read; None reads all.
    """

    model: Any
    kind: str
    keys: ColumnReaders
    attributes: ColumnReaders
    only: str | None = None

    def is_read(self, row: Any) -> list[ColumnElement[bool]]:
        """Return the conditions for a row of items to be of this table."""
        same = [row.kind == constant_text(self.kind)] if "kind" in row else []
        return same if self.only is None else [*same, SuperText(row.value, self.only, "S").is_not(None)]


def _text(name: str, *, width: Any = None) -> Callable[[Any], ColumnElement[Any]]:
    """Read a text attribute, cut to the column's width: one long value must not fail a whole refresh."""

    def read(row: Any) -> ColumnElement[Any]:
        text: ColumnElement[str] = SuperText(row.value, name, "S")
        return text if width is None else func.left(text, constant(width), type_=String())

    return read


def _ascii(name: str, width: int) -> Callable[[Any], ColumnElement[Any]]:
    """Read a text attribute of a fixed form, such as a time; its column is as wide in bytes as in characters."""
    return lambda row: ascii_text(SuperText(row.value, name, "S"), width)


def _count(name: str) -> Callable[[Any], ColumnElement[Any]]:
    """Read a count attribute."""
    return lambda row: count_of(SuperText(row.value, name, "N"))


def _number(name: str, type_: Any) -> Callable[[Any], ColumnElement[Any]]:
    """Read a number attribute."""
    return lambda row: number_of(SuperText(row.value, name, "N"), type_)


def _attempt(row: Any) -> ColumnElement[int]:
    """Read the attempt number, the fourth part of the sort key; 1 where the key has three parts."""
    text = func.ltrim(key_part(row.SK, 4), literal_column("'ABCDEFGHIJ'"), type_=String())
    return func.coalesce(number_of(text, Integer()), constant(1), type_=Integer())


LONG: Final = 16_383  # characters of any script that fit into the widest VARCHAR
_NAME = {"width": m.NAME}
_PROSE = {"width": m.PROSE}
_LONG = {"width": LONG}

ENTITIES: Final = (
    BaseTable(
        m.DomainRow,
        "Domain",
        {m.DomainRow.domain_id: lambda row: row.PK},
        {m.DomainRow.name: _text("DomainNM", **_NAME), m.DomainRow.description: _text("Description", **_PROSE)},
    ),
    BaseTable(
        m.AgentRow,
        "Agent",
        {m.AgentRow.agent_id: lambda row: row.PK},
        {
            m.AgentRow.domain_id: _text("GSI1_PK", width=m.ID),
            m.AgentRow.name: _text("AgentNM", **_NAME),
            m.AgentRow.score: lambda row: super_number(row.value, "Score", Double()),
            m.AgentRow.description: _text("Description", **_PROSE),
        },
    ),
    BaseTable(
        m.ToolRow,
        "Tool",
        {m.ToolRow.agent_id: lambda row: row.PK, m.ToolRow.tool_id: lambda row: row.SK},
        {
            m.ToolRow.domain_id: _text("GSI1_PK", width=m.ID),
            m.ToolRow.name: _text("ToolNM", **_NAME),
            m.ToolRow.spec: _text("ToolSpec", **_LONG),
            m.ToolRow.description: _text("Description", **_PROSE),
        },
    ),
    BaseTable(
        m.UserInfo,
        "UserInfo",
        {m.UserInfo.user_id: lambda row: row.PK},
        {
            m.UserInfo.name: _text("UserNM", **_NAME),
            m.UserInfo.profile: _text("UserProfile", **_PROSE),
            m.UserInfo.last_login: _ascii("LastLoginDT", 20),
            m.UserInfo.created: _ascii("CreationDT", 20),
        },
    ),
    BaseTable(
        m.UserSessionRow,
        "UserSession",
        {m.UserSessionRow.user_id: lambda row: row.PK, m.UserSessionRow.session_id: lambda row: row.SK},
        {
            m.UserSessionRow.name: _text("UserSessionNM", **_NAME),
            m.UserSessionRow.summary: _text("SessionSummary", **_PROSE),
            m.UserSessionRow.started: _ascii("SessionStartDT", 20),
            m.UserSessionRow.file: _text("DtlFileLoc", **_PROSE),
            m.UserSessionRow.ended: _ascii("SessionEndDT", 20),
            m.UserSessionRow.succeeded: _ascii("SessionSuccYN", 1),
            m.UserSessionRow.reviewed: _ascii("ReviewedSuccYN", 1),
            m.UserSessionRow.category: _text("Category", **_NAME),
            m.UserSessionRow.request: _text("UserRequest", **_LONG),
            m.UserSessionRow.expires: lambda row: func.coalesce(
                _number("ExpiresAt", Double())(row), literal_column("0"), type_=Double()
            ),
            m.UserSessionRow.ttl_days: _number("TTLDays", Integer()),
        },
    ),
    BaseTable(
        m.SessionOutcome,
        "Review",
        {
            m.SessionOutcome.user_id: lambda row: key_part(row.PK, 1),
            m.SessionOutcome.session_id: lambda row: key_part(row.PK, 2),
            m.SessionOutcome.outcome_id: lambda row: key_part(row.SK, 2),
        },
        {
            m.SessionOutcome.source: _ascii("OutcomeSource", 16),
            m.SessionOutcome.agent_id: _text("AgentID", width=m.ID),
            m.SessionOutcome.succeeded: _ascii("OutcomeYN", 1),
            m.SessionOutcome.score: _number("OutcomeScore", Double()),
            m.SessionOutcome.by: _text("DecidedBy", **_NAME),
            m.SessionOutcome.reason: _text("DecisionReason", **_PROSE),
            m.SessionOutcome.time: _ascii("DecidedDT", 20),
        },
        only="OutcomeSource",
    ),
    BaseTable(
        m.UserSessionProcessRow,
        "UserSessionProcess",
        {
            m.UserSessionProcessRow.user_id: lambda row: key_part(row.PK, 1),
            m.UserSessionProcessRow.session_id: lambda row: key_part(row.PK, 2),
            m.UserSessionProcessRow.process_id: lambda row: row.SK,
        },
        {
            m.UserSessionProcessRow.prompt: _text("UserPrompt", **_LONG),
            m.UserSessionProcessRow.name: _text("ProcNM", **_NAME),
            m.UserSessionProcessRow.description: lambda row: func.left(
                func.coalesce(SuperText(row.value, "ProcessDesc", "S"), SuperText(row.value, "ProcDesc", "S")),
                constant(m.PROSE),
            ),
            m.UserSessionProcessRow.time: _ascii("ProcDT", 20),
        },
    ),
    BaseTable(
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
            m.UserToolMappingHist.tool_name: _text("ToolNM", **_NAME),
            m.UserToolMappingHist.values: _text("ToolValues", **_LONG),
            m.UserToolMappingHist.time: _ascii("TransactDT", 20),
            m.UserToolMappingHist.succeeded: _ascii("SuccYN", 1),
            m.UserToolMappingHist.result: _text("ResultMsg", **_LONG),
            m.UserToolMappingHist.call_number: _number("CallNo", BigInteger()),
            m.UserToolMappingHist.status: _ascii("Status", 16),
            m.UserToolMappingHist.error_type: _text("ErrorType", **_NAME),
            m.UserToolMappingHist.duration_ms: _number("DurationMs", Double()),
            m.UserToolMappingHist.input_tokens: _count("InputTokens"),
            m.UserToolMappingHist.output_tokens: _count("OutputTokens"),
            m.UserToolMappingHist.cached_tokens: _count("CachedTokens"),
            m.UserToolMappingHist.cache_write_tokens: _count("CacheWriteTokens"),
            m.UserToolMappingHist.reasoning_tokens: _count("ReasoningTokens"),
            m.UserToolMappingHist.model_name: _text("ModelNM", **_NAME),
            m.UserToolMappingHist.request_input_tokens: _count("RequestInputTokens"),
            m.UserToolMappingHist.revision: _text("AgentVer", **_NAME),
        },
    ),
    BaseTable(
        m.SuggestionRow,
        "Suggestion",
        {m.SuggestionRow.user_id: lambda row: key_part(row.PK, 1), m.SuggestionRow.key: lambda row: row.SK},
        {
            m.SuggestionRow.session_id: _text("UserSessionID", width=m.ID),
            m.SuggestionRow.domain_id: _text("DomainID", width=m.ID),
            m.SuggestionRow.withheld: _ascii("WithheldYN", 1),
            m.SuggestionRow.share: _number("HoldoutShare", Double()),
            m.SuggestionRow.since: _ascii("PlansSinceDT", 20),
        },
    ),
)


def extract_texts(entity: BaseTable, source: FromClause) -> Subquery:
    """Select items with the texts of a kind extracted, so that an engine parses each item once, not per text."""
    texts = (part for read in entity.attributes.values() for part in visitors.iterate(read(source.c)))
    paths = [text.path for text in texts if isinstance(text, SuperText)]
    others = [source.c[name] for name in ITEM if name != "value"]
    value = ExtractedTexts(source.c.value, paths).label(source.c.value.name)
    return rows_of(*others, value).subquery("unpacked")


def _key_texts(entity: BaseTable, row: Any) -> list[ColumnElement[str]]:
    """Return the ids that a row's key consists of."""
    return [read(row) for column, read in entity.keys.items() if isinstance(column.type, String)]


def set_aside(parameters: RefreshParameters) -> Rows:
    """Count the items that landed and cannot be loaded, since an id in their key is longer than any column for ids."""
    row = parameters.landed.alias("landed")
    kind = SuperText(row.c.value, "EntityType", "S")
    longer = [
        and_(
            kind == constant_text(entity.kind),
            *entity.is_read(row.c),
            or_(*(func.length(id_) > m.ID for id_ in _key_texts(entity, row.c))),
        )
        for entity in ENTITIES
    ]
    rows = rows_of(func.count()).select_from(row)
    rows = rows.where(or_(func.length(row.c.PK) > m.ID, func.length(row.c.SK) > m.ID), or_(*longer))
    if not parameters.history:
        return rows
    return rows.where(row.c[m.ACTIVE], *(() if parameters.since is None else (row.c[m.CREATED] > parameters.since,)))


def load(entity: BaseTable, source: FromClause) -> Executable:
    """Insert the items of a kind into their base table, except those that a person deleted, and those set aside."""
    columns = {**entity.keys, **entity.attributes}
    ids = _key_texts(entity, source.c)
    keys = [func.left(id_, constant(m.ID), type_=String()) for id_ in ids]
    values = [*keys, *(read(source.c) for read in list(columns.values())[len(keys) :])]
    rows = rows_of(*values, source.c.loaded_at).where(
        *entity.is_read(source.c),
        source.c.present == 1,
        *(func.length(id_) <= constant(m.ID) for id_ in ids),
    )
    return insert(entity.model).from_select([*columns, entity.model.loaded_at], rows)


def delete_changed(entity: BaseTable) -> Executable:
    """Delete the rows of changed items from a base table."""
    change = table_of(m.WorkChange).c
    same = [column == read(change) for column, read in entity.keys.items()]
    return delete(entity.model).where(*same, change.kind == constant_text(entity.kind))


def table_of(model: Any) -> Table:
    """Return the table of a model."""
    table: Table = model.__table__
    return table
