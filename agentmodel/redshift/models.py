"""Define the warehouse's tables: the landed table, the sample's tables, and those an incremental refresh needs.

Tables and columns of the AWS sample keep their names; the sample does not quote them, so they are lower case here.
Redshift counts widths in bytes, so they are four times the number of characters. Scores are DOUBLE PRECISION, because
DECIMAL(10,2) turns every score into 0.00 after a month without executions. Keys are informational: Redshift does not
enforce them, and DuckDB gets none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, cast, overload

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Double,
    Integer,
    MetaData,
    String,
    Subquery,
    Table,
    and_,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.ext.hybrid import hybrid_method
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import TIMESTAMP

from agentmodel.exceptions import ConfigurationError
from agentmodel.redshift import score as scores
from agentmodel.redshift._constructs import WIDEST, Expression, Rows, Super, Varchar, constant_day
from agentmodel.redshift._staging_sql import staging
from agentmodel.redshift._table_layout import add_view, layout

__all__ = [
    "AgentDaily", "AgentExecution", "AgentRow", "AgentScoreSummary", "AgentTool", "AgentToolAnalysisStaging",
    "DerivedCategory", "DomainRow", "ErasedUser", "ModelPriceRow", "RefreshWatermark", "SessionOutcome",
    "SuggestionRow", "ToolErrorSummary", "ToolRow",
    "UserInfo", "UserProcessPattern", "UserSessionProcessRow", "UserSessionRow", "UserToolMappingHist", "landed_table",
]  # fmt: skip

ID: Final = 132  # characters of an id: a prefix of three or four, and up to 128 others
NAME: Final = 255
PROSE: Final = 4_000

UNDATED: Final = date.min
"""The day in `AgentDaily` of executions without a time; a key must not be NULL."""

ACTIVE, CREATED, DELETED = "_record_is_active", "_record_create_time", "_record_delete_time"
"""Names of zero-ETL's history-mode columns; they are written here only."""

_PLAIN_NAME = re.compile(r"^(\"[^\"]+\"|[A-Za-z_][A-Za-z0-9_$-]*)(\.(\"[^\"]+\"|[A-Za-z_][A-Za-z0-9_$]*)){0,2}$")


def landed_table(name: str, *, history: bool = True) -> Table:
    """Return the table that zero-ETL lands: the two keys, the item as SUPER in DynamoDB JSON, and its history.

    Args:
        name: The name of the table, such as ``AgentTable`` or ``dbagent.public."AgentTable"``.
        history: Whether history mode is on, which keeps deleted items and the time each version was made.

    Raises:
        ConfigurationError: ``name`` is not a table name.

    >>> landed_table("AgentTable").columns.keys()
    ['PK', 'SK', 'value', '_record_is_active', '_record_create_time', '_record_delete_time']
    """
    if not _PLAIN_NAME.match(name):
        raise ConfigurationError(
            f"landed_table is {name!r}, which is not a table name: give one such as dbagent.public.AgentTable, or set "
            "AGENTMODEL_LANDED_TABLE to one"
        )
    given = quoted_name(name, quote=False) if "." in name or '"' in name else quoted_name(name, quote=True)
    columns: list[Column[Any]] = [
        Column(quoted_name("PK", quote=True), String(2_048)),
        Column(quoted_name("SK", quote=True), String(1_024)),
        Column(quoted_name("value", quote=True), Super()),
    ]
    if history:
        columns += [Column(ACTIVE, Boolean), Column(CREATED, TIMESTAMP), Column(DELETED, TIMESTAMP)]
    return Table(given, MetaData(), *columns)


class Base(DeclarativeBase):
    """Base class of every table that agentmodel makes in the warehouse."""


def _related(*pairs: str, many: bool = False) -> Any:
    """Return a relationship to read by; each pair is a column of the class, and the one of the other class it equals.

    No table has foreign keys: an engine would check them at each load, or not at all, as Redshift does.

    Args:
        pairs: Such as ``AgentRow.domain_id = DomainRow.domain_id``.
        many: Whether it leads to many rows.
    """
    form = "{} == remote(foreign({}))" if many else "foreign({}) == remote({})"
    equal = (form.format(*pair.split(" = ")) for pair in pairs)
    return relationship(primaryjoin=f"and_({', '.join(equal)})", viewonly=True)


class _ScoreMethod(hybrid_method[[Any], float]):
    """A score as of a day: of an object a number, on its class an expression."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Callable[[date | Expression], ColumnElement[float]]: ...

        @overload
        def __get__(self, instance: object, owner: Any) -> Callable[[date], float]: ...

        def __get__(self, instance: Any, owner: Any) -> Any:
            """Return the method of an object, or of its class."""


# -- the sample's base tables -----------------------------------------------------------------------------------------


class DomainRow(Base):
    """A domain, such as hotel search.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(DomainRow.domain_id, DomainRow.name))
    [('DMN001', 'Store search')]
    """

    __tablename__ = "domain"
    __table_args__ = layout(style="ALL")

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("domainnm", Varchar(NAME))
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class AgentRow(Base):
    """An agent and the domain it works in.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(AgentRow.agent_id, AgentRow.name).order_by(AgentRow.agent_id))
    [('AGT001', 'map agent'), ('AGT002', 'review agent')]
    """

    __tablename__ = "agent"
    __table_args__ = layout(style="ALL")

    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    score: Mapped[float | None] = mapped_column("score", Double)
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)

    domain: Mapped[DomainRow | None] = _related("AgentRow.domain_id = DomainRow.domain_id")
    tools: Mapped[list[ToolRow]] = _related("AgentRow.agent_id = ToolRow.agent_id", many=True)
    score_summary: Mapped[AgentScoreSummary | None] = _related("AgentRow.agent_id = AgentScoreSummary.agent_id")


class ToolRow(Base):
    """A tool of an agent.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(ToolRow.tool_id, ToolRow.name).order_by(ToolRow.tool_id))
    [('TL001', 'find_on_map'), ('TL002', 'read_reviews'), ('TL003', 'book_table')]
    """

    __tablename__ = "tool"
    __table_args__ = layout(style="ALL", sort="agentid")

    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("toolnm", Varchar(NAME))
    spec: Mapped[str | None] = mapped_column("toolspec", String(WIDEST))
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserInfo(Base):
    """A user.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(UserInfo.user_id, UserInfo.name).order_by(UserInfo.user_id))
    [('USR001', 'Mina'), ('USR002', 'Jun')]
    """

    __tablename__ = "userinfo"
    __table_args__ = layout(key="userid", sort="lastlogindt")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("usernm", Varchar(NAME))
    profile: Mapped[str | None] = mapped_column("userprofile", Varchar(PROSE))
    last_login: Mapped[str | None] = mapped_column("lastlogindt", String(20))
    created: Mapped[str | None] = mapped_column("creationdt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserSessionRow(Base):
    """A session of a user, with its outcome where that was recorded or reviewed.

    >>> from sqlalchemy import select
    >>> sessions = select(UserSessionRow.session_id, UserSessionRow.category)
    >>> model.warehouse.read(sessions.where(UserSessionRow.user_id == "USR001").order_by(UserSessionRow.session_id))
    [('SESS1', 'cafe search'), ('SESS2', 'cafe search'), ('SESS3', 'cafe search')]
    """

    __tablename__ = "usersession"
    __table_args__ = layout(key="userid", sort="sessionid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("sessionnm", Varchar(NAME))
    summary: Mapped[str | None] = mapped_column("sessionsummary", Varchar(PROSE))
    started: Mapped[str | None] = mapped_column("sessionstartdt", String(20))
    file: Mapped[str | None] = mapped_column("dtlfileloc", Varchar(PROSE))
    ended: Mapped[str | None] = mapped_column("sessionenddt", String(20))
    succeeded: Mapped[str | None] = mapped_column("sessionsuccyn", String(1))
    reviewed: Mapped[str | None] = mapped_column("reviewedsuccyn", String(1))
    category: Mapped[str | None] = mapped_column("category", Varchar(NAME))
    request: Mapped[str | None] = mapped_column("userrequest", String(WIDEST))
    # epoch seconds, 0 where the item stays; NULL where an earlier agentmodel loaded it
    expires: Mapped[float | None] = mapped_column("expiresat", Double)
    ttl_days: Mapped[int | None] = mapped_column("ttldays", Integer)
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)

    user: Mapped[UserInfo | None] = _related("UserSessionRow.user_id = UserInfo.user_id")
    executions: Mapped[list[AgentExecution]] = _related(
        "UserSessionRow.user_id = AgentExecution.user_id",
        "UserSessionRow.session_id = AgentExecution.session_id",
        many=True,
    )


class SessionOutcome(Base):
    """An outcome from outside: what a person, an event or an evaluator said of a session, or of one agent in it.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(SessionOutcome.session_id, SessionOutcome.succeeded, SessionOutcome.by))
    [('SESS1', 'Y', 'Mina')]
    """

    __tablename__ = "session_outcome"
    __table_args__ = layout(key="userid", sort="sessionid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    outcome_id: Mapped[str] = mapped_column("outcomeid", Varchar(ID), primary_key=True)
    source: Mapped[str | None] = mapped_column("source", String(16))
    agent_id: Mapped[str | None] = mapped_column("agentid", Varchar(ID))
    succeeded: Mapped[str | None] = mapped_column("succyn", String(1))
    score: Mapped[float | None] = mapped_column("score", Double)
    by: Mapped[str | None] = mapped_column("reportedby", Varchar(NAME))
    reason: Mapped[str | None] = mapped_column("reason", Varchar(PROSE))
    time: Mapped[str | None] = mapped_column("reporteddt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserSessionProcessRow(Base):
    """A process, which is a step of a session.

    >>> from sqlalchemy import select
    >>> steps = select(UserSessionProcessRow.name).where(UserSessionProcessRow.user_id == "USR001")
    >>> model.warehouse.read(steps.distinct())
    [('locate',)]
    """

    __tablename__ = "usersessionprocess"
    __table_args__ = layout(key="userid", sort=("sessionid", "processid"))

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    process_id: Mapped[str] = mapped_column("processid", Varchar(ID), primary_key=True)
    prompt: Mapped[str | None] = mapped_column("userprompt", String(WIDEST))
    name: Mapped[str | None] = mapped_column("procnm", Varchar(NAME))
    description: Mapped[str | None] = mapped_column("procdesc", Varchar(PROSE))
    time: Mapped[str | None] = mapped_column("procdt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserToolMappingHist(Base):
    """A tool call; each attempt is a row.

    >>> from sqlalchemy import select
    >>> calls = select(UserToolMappingHist.tool_name, UserToolMappingHist.succeeded, UserToolMappingHist.error_type)
    >>> of_one = calls.where(UserToolMappingHist.user_id == "USR001", UserToolMappingHist.session_id == "SESS2")
    >>> model.warehouse.read(of_one)
    [('find_on_map', 'N', 'KeyError')]
    """

    __tablename__ = "user_tool_mapping_hist"
    __table_args__ = layout(key="userid", sort=("sessionid", "processid", "agentid", "toolid"))

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    process_id: Mapped[str] = mapped_column("processid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    attempt: Mapped[int] = mapped_column("attempt", Integer, primary_key=True)
    tool_name: Mapped[str | None] = mapped_column("toolnm", Varchar(NAME))
    values: Mapped[str | None] = mapped_column("toolvalues", String(WIDEST))
    time: Mapped[str | None] = mapped_column("transactdt", String(20))
    succeeded: Mapped[str | None] = mapped_column("succyn", String(1))
    result: Mapped[str | None] = mapped_column("resultmsg", String(WIDEST))
    call_number: Mapped[int | None] = mapped_column("callno", BigInteger)
    status: Mapped[str | None] = mapped_column("status", String(16))
    error_type: Mapped[str | None] = mapped_column("errortype", Varchar(NAME))
    duration_ms: Mapped[float | None] = mapped_column("durationms", Double)
    input_tokens: Mapped[int | None] = mapped_column("inputtokens", BigInteger)
    output_tokens: Mapped[int | None] = mapped_column("outputtokens", BigInteger)
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)
    cached_tokens: Mapped[int | None] = mapped_column("cachedtokens", BigInteger)
    cache_write_tokens: Mapped[int | None] = mapped_column("cachewritetokens", BigInteger)
    reasoning_tokens: Mapped[int | None] = mapped_column("reasoningtokens", BigInteger)
    model_name: Mapped[str | None] = mapped_column("modelnm", Varchar(NAME))
    request_input_tokens: Mapped[int | None] = mapped_column("requestinputtokens", BigInteger)
    revision: Mapped[str | None] = mapped_column("agentver", Varchar(NAME))


class SuggestionRow(Base):
    """A plan that was made, whether it was withheld, and the session that it was for once that has ended.

    >>> from sqlalchemy import select
    >>> plans = select(SuggestionRow.session_id, SuggestionRow.withheld)
    >>> model.warehouse.read(plans.order_by(SuggestionRow.session_id))
    [('SESS1', 'Y'), ('SESS2', 'Y'), ('SESS3', 'N')]
    """

    __tablename__ = "suggestion"
    __table_args__ = layout(key="userid", sort="suggestionkey")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    key: Mapped[str] = mapped_column("suggestionkey", Varchar(ID), primary_key=True)
    session_id: Mapped[str | None] = mapped_column("sessionid", Varchar(ID))
    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    withheld: Mapped[str | None] = mapped_column("withheldyn", String(1))
    share: Mapped[float | None] = mapped_column("holdoutshare", Double)
    since: Mapped[str | None] = mapped_column("planssincedt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class AgentToolAnalysisStaging(Base):
    """The sample's staging rows; here a view, so that rows can neither double nor lag behind.

    >>> from sqlalchemy import select
    >>> rows = select(AgentToolAnalysisStaging.agent_id, AgentToolAnalysisStaging.tool_id).distinct()
    >>> sorted(map(tuple, model.warehouse.read(rows)))
    [('AGT001', 'TL001'), ('AGT002', 'TL002')]
    """

    __tablename__ = "agent_tool_analysis_staging"
    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    process_id: Mapped[str] = mapped_column("processid", Varchar(ID), primary_key=True)
    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    attempt: Mapped[int] = mapped_column("attempt", Integer, primary_key=True)
    tool_name: Mapped[str | None] = mapped_column("toolnm", Varchar(NAME))
    day: Mapped[date | None] = mapped_column("execution_date", Date)
    time: Mapped[datetime | None] = mapped_column("execution_datetime", TIMESTAMP)
    succeeded: Mapped[bool] = mapped_column("success_flag", Boolean)
    values: Mapped[str | None] = mapped_column("tool_values", String(WIDEST))
    result: Mapped[str | None] = mapped_column("result_message", String(WIDEST))

    agent: Mapped[AgentRow | None] = _related("AgentToolAnalysisStaging.agent_id = AgentRow.agent_id")
    tool: Mapped[ToolRow | None] = _related(
        "AgentToolAnalysisStaging.agent_id = ToolRow.agent_id", "AgentToolAnalysisStaging.tool_id = ToolRow.tool_id"
    )


add_view(AgentToolAnalysisStaging, staging(UserToolMappingHist, AgentRow), of=(UserToolMappingHist, AgentRow))


# -- what a refresh computes ------------------------------------------------------------------------------------------


class _Execution:
    """Columns of an execution, shared by the table and its work table."""

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    category: Mapped[str] = mapped_column("category", Varchar(NAME))
    succeeded: Mapped[int] = mapped_column("success", Integer)
    calls: Mapped[int] = mapped_column("calls", Integer)
    first_day: Mapped[date | None] = mapped_column("first_date", Date)
    last_day: Mapped[date | None] = mapped_column("execution_date", Date)
    seconds: Mapped[float | None] = mapped_column("seconds", Double)
    process_pattern: Mapped[str] = mapped_column("process_pattern", String(WIDEST))
    tool_sequence: Mapped[str] = mapped_column("tool_sequence", String(WIDEST))
    pattern_key: Mapped[str] = mapped_column("pattern_key", String(32))
    # of the agent, '' where it is not known, and when that was last called
    revision: Mapped[str | None] = mapped_column("agentver", Varchar(NAME))
    last_time: Mapped[str | None] = mapped_column("last_time", String(20))


class AgentExecution(_Execution, Base):
    """The executions: one row per user, session and agent. Rollups and patterns are computed from them.

    >>> from sqlalchemy import select
    >>> outcomes = select(AgentExecution.session_id, AgentExecution.succeeded)
    >>> model.warehouse.read(outcomes.where(AgentExecution.user_id == "USR001").order_by(AgentExecution.session_id))
    [('SESS1', 1), ('SESS2', 0), ('SESS3', 0)]
    """

    __tablename__ = "agent_execution"
    __table_args__ = layout(key="userid", sort=("sessionid", "agentid"))

    agent: Mapped[AgentRow | None] = _related("AgentExecution.agent_id = AgentRow.agent_id")
    user: Mapped[UserInfo | None] = _related("AgentExecution.user_id = UserInfo.user_id")
    session: Mapped[UserSessionRow | None] = _related(
        "AgentExecution.user_id = UserSessionRow.user_id", "AgentExecution.session_id = UserSessionRow.session_id"
    )


class _Daily:
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    category: Mapped[str] = mapped_column("category", Varchar(NAME), primary_key=True)
    revision: Mapped[str] = mapped_column("agentver", Varchar(NAME), primary_key=True)
    day: Mapped[date] = mapped_column("execution_date", Date, primary_key=True)
    executions: Mapped[int] = mapped_column("executions", BigInteger)
    successes: Mapped[int] = mapped_column("successes", BigInteger)


class AgentDaily(_Daily, Base):
    """Executions of an agent per category, revision and day of their last call; `UNDATED` where no time is known.

    >>> from sqlalchemy import func, select
    >>> per_agent = select(AgentDaily.agent_id, func.sum(AgentDaily.executions)).group_by(AgentDaily.agent_id)
    >>> model.warehouse.read(per_agent.order_by(AgentDaily.agent_id))
    [('AGT001', 3), ('AGT002', 3)]
    """

    __tablename__ = "agent_daily"
    __table_args__ = layout(style="ALL", sort=("agentid", "execution_date"))

    agent: Mapped[AgentRow | None] = _related("AgentDaily.agent_id = AgentRow.agent_id")


class _ToolCounts:
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    tool_name: Mapped[str] = mapped_column("toolnm", Varchar(NAME), primary_key=True)
    calls: Mapped[int] = mapped_column("calls", BigInteger)
    errors: Mapped[int] = mapped_column("errors", BigInteger)
    input_tokens: Mapped[int] = mapped_column("inputtokens", BigInteger)
    output_tokens: Mapped[int] = mapped_column("outputtokens", BigInteger)


class AgentTool(_ToolCounts, Base):
    """Calls, errors and tokens of an agent's tools; every attempt is a call.

    >>> from sqlalchemy import select
    >>> counts = select(AgentTool.tool_id, AgentTool.calls, AgentTool.errors)
    >>> model.warehouse.read(counts.order_by(AgentTool.tool_id))
    [('TL001', 3, 2), ('TL002', 3, 0)]
    """

    __tablename__ = "agent_tool"
    __table_args__ = layout(style="ALL", sort=("agentid", "toolid"))

    agent: Mapped[AgentRow | None] = _related("AgentTool.agent_id = AgentRow.agent_id")
    tool: Mapped[ToolRow | None] = _related(
        "AgentTool.agent_id = ToolRow.agent_id", "AgentTool.tool_id = ToolRow.tool_id"
    )


class AgentScoreSummary(Base):
    """The sample's score per agent, as of a day: age is counted from the domain's newest execution until then.

    >>> from sqlalchemy import select
    >>> from datetime import date
    >>> best_first = select(AgentScoreSummary.agent_id).order_by(AgentScoreSummary.score(date(2027, 1, 1)).desc())
    >>> model.warehouse.read(best_first)
    [('AGT002',), ('AGT001',)]
    """

    __tablename__ = "agent_score_summary"
    __table_args__ = layout(style="ALL", sort=("domainid", "agentid"))

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    executions: Mapped[int] = mapped_column("total_executions", BigInteger)
    successes: Mapped[int] = mapped_column("success_count", BigInteger)
    failures: Mapped[int] = mapped_column("failure_count", BigInteger)
    success_rate: Mapped[float] = mapped_column("success_rate", Double)
    last_day: Mapped[date | None] = mapped_column("last_execution_date", Date)
    days_since: Mapped[int | None] = mapped_column("days_since_last_exec", Integer)
    decay: Mapped[float] = mapped_column("time_decay_factor", Double)
    calculated_score: Mapped[float] = mapped_column("calculated_score", Double)
    evidence: Mapped[float] = mapped_column("evidence_score", Double)
    evidence_executions: Mapped[float] = mapped_column("evidence_executions", Double)
    domain_rate: Mapped[float] = mapped_column("domain_rate", Double)
    revision: Mapped[str] = mapped_column("agentver", Varchar(NAME))
    revision_executions: Mapped[int] = mapped_column("revision_executions", BigInteger)
    revision_successes: Mapped[int] = mapped_column("revision_successes", BigInteger)
    # as the scores count them: those of earlier revisions fade
    counted_executions: Mapped[float] = mapped_column("counted_executions", Double)
    counted_successes: Mapped[float] = mapped_column("counted_successes", Double)
    updated_at: Mapped[datetime] = mapped_column("updated_at", TIMESTAMP)

    agent: Mapped[AgentRow | None] = _related("AgentScoreSummary.agent_id = AgentRow.agent_id")
    domain: Mapped[DomainRow | None] = _related("AgentScoreSummary.domain_id = DomainRow.domain_id")

    @_ScoreMethod
    def score(self, as_of: date) -> float:
        """Return the classic score as of a day: age is counted from there; on the class, the expression of it.

        ``calculated_score`` is this number as of the newest execution of the agent's domain.
        """
        return scores.score(self.counted_executions, self.counted_successes, last=self.last_day, as_of=as_of)

    @score.expression
    @classmethod
    def _score_expression(cls, as_of: date | Expression) -> ColumnElement[float]:
        return scores.score_expression(cls.counted_executions, cls.counted_successes, last=cls.last_day, as_of=as_of)


class _Pattern:
    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    category: Mapped[str] = mapped_column("category", Varchar(NAME))
    agent_id: Mapped[str] = mapped_column("agent_sequence", Varchar(ID))
    process_pattern: Mapped[str] = mapped_column("process_pattern", String(WIDEST))
    tool_sequence: Mapped[str] = mapped_column("tool_sequence", String(WIDEST))
    pattern_key: Mapped[str] = mapped_column("pattern_key", String(32), primary_key=True)
    executions: Mapped[int] = mapped_column("execution_count", BigInteger)
    successes: Mapped[int] = mapped_column("success_count", BigInteger)
    seconds: Mapped[float | None] = mapped_column("avg_execution_time", Double)
    pattern_score: Mapped[float] = mapped_column("pattern_score", Double)
    first_day: Mapped[date | None] = mapped_column("first_used_date", Date)
    last_day: Mapped[date | None] = mapped_column("last_used_date", Date)
    decay_day: Mapped[date | None] = mapped_column("decay_date", Date)


class UserProcessPattern(_Pattern, Base):
    """A sequence of tool calls in a user's sessions, and how often it succeeded.

    ``pattern_score`` is the score as of the user's own newest day. It does not change as days pass, so it is not
    rewritten every day. `score` computes it as of any day.

    >>> from sqlalchemy import select
    >>> best = select(UserProcessPattern.user_id, UserProcessPattern.executions)
    >>> model.warehouse.read(best.where(UserProcessPattern.recommended).order_by(UserProcessPattern.user_id))
    [('USR001', 3), ('USR002', 3)]
    """

    __tablename__ = "user_process_patterns"
    __table_args__ = layout(key="userid", sort=("userid", "pattern_key"))

    recommended: Mapped[bool] = mapped_column("is_recommended", Boolean)

    agent: Mapped[AgentRow | None] = _related("UserProcessPattern.agent_id = AgentRow.agent_id")
    user: Mapped[UserInfo | None] = _related("UserProcessPattern.user_id = UserInfo.user_id")

    @_ScoreMethod
    def score(self, as_of: date) -> float:
        """Return the pattern's score as of a day; on the class, the expression of it."""
        return scores.pattern_score(self.executions, self.successes, last=self.decay_day, as_of=as_of)

    @score.expression
    @classmethod
    def _score_expression(cls, as_of: date | Expression) -> ColumnElement[float]:
        return scores.pattern_score_expression(cls.executions, cls.successes, last=cls.decay_day, as_of=as_of)


class ToolErrorSummary(Base):
    """The sample's error report: errors and failed tools per agent.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(ToolErrorSummary.name, ToolErrorSummary.errors, ToolErrorSummary.failed_tools))
    [('map agent', 2, 'find_on_map')]
    """

    __tablename__ = "tool_error_summary"
    __table_args__ = layout(style="ALL", sort="agentid")

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    errors: Mapped[int] = mapped_column("total_errors", BigInteger)
    calls: Mapped[int] = mapped_column("total_executions", BigInteger)
    error_rate: Mapped[float] = mapped_column("error_rate", Double)
    failed_tools: Mapped[str] = mapped_column("failed_tools", String(WIDEST))

    agent: Mapped[AgentRow | None] = _related("ToolErrorSummary.agent_id = AgentRow.agent_id")


class RefreshWatermark(Base):
    """How far the last refresh has read; one row.

    >>> from sqlalchemy import select
    >>> (row,) = model.warehouse.read(select(RefreshWatermark.name, RefreshWatermark.seen_until))
    >>> type(row.seen_until).__name__
    'datetime'
    """

    __tablename__ = "refresh_watermark"
    __table_args__ = layout(style="ALL")

    name: Mapped[str] = mapped_column("name", String(32), primary_key=True)
    seen_until: Mapped[datetime | None] = mapped_column("seen_until", TIMESTAMP)
    as_of: Mapped[date] = mapped_column("as_of", Date)


class DerivedCategory(Base):
    """The derived category of a request; once it is stored, it stays, and a full build keeps it.

    A row with a ``founder`` is that of the request that founded the category. Spellings of one request, which differ in
    no letter (``form_key``), have rows of their own.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(DerivedCategory.category))  # every session has a category of its own
    []
    """

    __tablename__ = "derived_category"
    __table_args__ = layout(key="userid", sort=("userid", "requestkey"))

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    request_key: Mapped[str] = mapped_column("requestkey", String(32), primary_key=True)
    form_key: Mapped[str] = mapped_column("formkey", String(32))
    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID))
    category: Mapped[str] = mapped_column("category", Varchar(NAME))
    founder: Mapped[str | None] = mapped_column("founder", Varchar(PROSE))
    number: Mapped[int] = mapped_column("number", Integer)


class ModelPriceRow(Base):
    """What a token of a model costs from a day on, in requests of a length, for every model that calls name.

    A refresh fills it from `AGENTMODEL_PRICES`; see `agentmodel.prices.ModelPrice`. Without that setting it is yours.

    >>> from sqlalchemy import select
    >>> model.warehouse.read(select(ModelPriceRow.model_name, ModelPriceRow.input, ModelPriceRow.output))
    [('gpt-5', 1.25e-06, 1e-05)]
    """

    __tablename__ = "model_price"
    __table_args__ = layout(style="ALL")

    model_name: Mapped[str] = mapped_column("modelnm", Varchar(NAME), primary_key=True)
    since: Mapped[date] = mapped_column("validfrom", Date, primary_key=True)
    until: Mapped[date] = mapped_column("validuntil", Date)
    input: Mapped[float] = mapped_column("inputprice", Double)
    output: Mapped[float] = mapped_column("outputprice", Double)
    cache_read: Mapped[float | None] = mapped_column("cachereadprice", Double)
    cache_write: Mapped[float | None] = mapped_column("cachewriteprice", Double)
    reasoning: Mapped[float | None] = mapped_column("reasoningprice", Double)
    above_input: Mapped[int] = mapped_column("aboveinput", BigInteger, primary_key=True)
    most_input: Mapped[int | None] = mapped_column("mostinput", BigInteger)


class ErasedUser(Base):
    """Whose history was erased: rows of theirs that landed before, or that land late, are not read any more.

    >>> from hashlib import md5
    >>> from sqlalchemy import select
    >>> key = md5(b"USR301").hexdigest()
    >>> removed = model.warehouse.erase(key, before=20261201)  # as `AgentModel.erase_user` does
    >>> model.warehouse.read(select(ErasedUser.before).where(ErasedUser.user_key == key))
    [(20261201,)]
    """

    __tablename__ = "erased_user"
    __table_args__ = layout(style="ALL")

    user_key: Mapped[str] = mapped_column("userkey", String(32), primary_key=True)
    before: Mapped[int] = mapped_column("erased_before", BigInteger)


LEASES: Final = Table(
    "warehouse_lease",
    Base.metadata,
    Column("name", String(32)),
    Column("token", BigInteger),
    Column("ownerid", String(64)),
    Column("holder", String(1_020)),
    Column("held_since", TIMESTAMP),
    Column("held_until", TIMESTAMP),
)
"""Who works in the warehouse; see `agentmodel.redshift._leases`."""

VERSION: Final = Table("warehouse_version", Base.metadata, Column("version", Integer), Column("changed_at", TIMESTAMP))
"""Which schema the tables have; see `agentmodel.redshift._migration`."""


# -- work tables: empty between refreshes -----------------------------------------------------------------------------


class WorkChange(Base):
    """The newest version of each item that changed since the watermark."""

    __tablename__ = "work_change"
    __table_args__ = layout(style="EVEN")

    pk: Mapped[str] = mapped_column(quoted_name("PK", quote=True), String(2_048), primary_key=True)
    sk: Mapped[str] = mapped_column(quoted_name("SK", quote=True), String(1_024), primary_key=True)
    value: Mapped[Any] = mapped_column(quoted_name("value", quote=True), Super(), nullable=True)
    kind: Mapped[str | None] = mapped_column("kind", String(64))
    present: Mapped[int] = mapped_column("present", Integer)
    loaded_at: Mapped[datetime | None] = mapped_column("loaded_at", TIMESTAMP)


class WorkSession(Base):
    """The affected sessions: those that a changed item belongs to."""

    __tablename__ = "work_session"
    __table_args__ = layout(key="userid", sort="sessionid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)


class WorkExecution(Base):
    """Executions of the affected sessions: as they were (``change`` -1) and as they are now (``change`` 1)."""

    __tablename__ = "work_execution"
    __table_args__ = layout(key="userid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    change: Mapped[int] = mapped_column("change", Integer, primary_key=True)
    category: Mapped[str] = mapped_column("category", Varchar(NAME))
    revision: Mapped[str | None] = mapped_column("agentver", Varchar(NAME))
    succeeded: Mapped[int] = mapped_column("success", Integer)
    last_day: Mapped[date | None] = mapped_column("execution_date", Date)
    pattern_key: Mapped[str] = mapped_column("pattern_key", String(32))


class WorkCall(_ToolCounts, Base):
    """Counts of the calls of the affected sessions: as they were (negative) and as they are now."""

    __tablename__ = "work_call"
    __table_args__ = layout(style="EVEN")

    change: Mapped[int] = mapped_column("change", Integer, primary_key=True)


class WorkDaily(_Daily, Base):
    """The changes to add to `AgentDaily`."""

    __tablename__ = "work_daily"
    __table_args__ = layout(style="ALL")


class WorkTool(_ToolCounts, Base):
    """The changes to add to `AgentTool`."""

    __tablename__ = "work_tool"
    __table_args__ = layout(style="ALL")


class WorkUser(Base):
    """Users whose patterns are computed again."""

    __tablename__ = "work_user"
    __table_args__ = layout(key="userid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)


class WorkPattern(_Pattern, Base):
    """Patterns of the affected users, before those to recommend are known."""

    __tablename__ = "work_pattern"
    __table_args__ = layout(key="userid")


WORK: Final = (WorkChange, WorkSession, WorkExecution, WorkCall, WorkDaily, WorkTool, WorkUser, WorkPattern)


def rows_of(*columns: Any) -> Rows:
    """Return a select of any number of columns."""
    rows: Any = select(*columns)
    return cast("Rows", rows)


def digest_of(values: Sequence[Any]) -> ColumnElement[str]:
    """Return the digest of some values of a row, NULL among them: 32 digits."""
    empty = literal_column("''", String)
    key: ColumnElement[str] = empty
    for value in values:
        key = key.concat(func.md5(func.coalesce(cast_to(value, String(WIDEST)), empty)))
    return func.md5(key, type_=String())


def digest_counts(digest: Any) -> list[ColumnElement[int]]:
    """Count for each place of the digests of some rows how many have a high digit.

    Other rows have other counts: that all 32 stay the same by chance is as rare as one in 2^32.
    """
    places: list[ColumnElement[int]] = [literal_column(str(place)) for place in range(1, 33)]
    digits = [func.right(func.left(digest, place), literal_column("1")) for place in places]
    return [func.count(case((digit >= literal_column("'8'"), literal_column("1")))) for digit in digits]


def known_day(day: Any) -> ColumnElement[date]:
    """Return a day of the daily rollup, and NULL for the day that stands for an unknown time."""
    return func.nullif(day, constant_day(UNDATED), type_=Date())


def newest_days() -> Subquery:
    """Select for each agent the newest day on which an agent of its domain was run; no domain counts as a domain."""
    d, a = AgentDaily, AgentRow
    newest = func.max(known_day(d.day)).over(partition_by=func.coalesce(a.domain_id, literal_column("''")))
    rows = rows_of(d.agent_id, newest.label("day")).outerjoin(a, a.agent_id == d.agent_id)
    return rows.distinct().subquery("newest")


def agent_name(agent: Any) -> ColumnElement[str]:
    """Return the name that is shown for an agent: that of the catalogue, else its id."""
    return func.coalesce(func.nullif(agent.name, literal_column("''")), agent.agent_id, type_=String())


def tool_names() -> Subquery:
    """Select the one name that is shown for each tool that was called: that of the catalogue, else a recorded one.

    A tool without either is shown by its id.
    """
    t, tool = AgentTool, ToolRow
    empty: ColumnElement[str] = literal_column("''")
    names = (func.nullif(func.max(tool.name), empty), func.nullif(func.max(t.tool_name), empty), t.tool_id)
    rows = rows_of(t.agent_id, t.tool_id, func.coalesce(*names, type_=String()).label("tool_name"))
    same = and_(tool.agent_id == t.agent_id, tool.tool_id == t.tool_id)
    return rows.outerjoin(tool, same).group_by(t.agent_id, t.tool_id).subquery("named")
