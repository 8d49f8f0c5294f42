"""The warehouse's tables on one page: what zero-ETL lands, the sample's tables, and what an incremental refresh needs.

Tables and columns of the AWS sample keep their names (unquoted there, hence lower case here). Widths are in bytes on
Redshift, so they are four times the characters they are to hold; scores are DOUBLE PRECISION, as DECIMAL(10,2) turns
every score of a quiet month into 0.00. Keys are informational: Redshift does not enforce them, DuckDB gets none.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, Final

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
    Table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.hybrid import hybrid_method
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateColumn, CreateTable
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import TIMESTAMP

from agentmodel.exceptions import ConfigurationError
from agentmodel.redshift import score as scores
from agentmodel.redshift.dialects import WIDEST, Super, Varchar

__all__ = [
    "Agent",
    "AgentDaily",
    "AgentExecution",
    "AgentScoreSummary",
    "AgentTool",
    "AgentToolAnalysisStaging",
    "Base",
    "Domain",
    "RefreshWatermark",
    "Tool",
    "ToolErrorSummary",
    "UserInfo",
    "UserProcessPattern",
    "UserSession",
    "UserSessionProcess",
    "UserToolMappingHist",
    "landed_table",
]

ID: Final = 132  # characters of an id: three or four of a prefix and up to 128
NAME: Final = 255
PROSE: Final = 4_000

UNDATED: Final = date.min
"""The day of executions without a time in `AgentDaily`, where a key may not be NULL."""

ACTIVE, CREATED, DELETED = "_record_is_active", "_record_create_time", "_record_delete_time"
"""Names of zero-ETL's history-mode columns, kept in this one place."""

_PLAIN_NAME = re.compile(r"^(\"[^\"]+\"|[A-Za-z_][A-Za-z0-9_$-]*)(\.(\"[^\"]+\"|[A-Za-z_][A-Za-z0-9_$]*)){0,2}$")


def landed_table(name: str, *, history: bool = True) -> Table:
    """Return the table that zero-ETL lands: the two keys, the item as SUPER in DynamoDB JSON, and its history.

    Args:
        name: Such as ``AgentTable`` or ``dbagent.public."AgentTable"``.
        history: Whether history mode is on, which keeps deleted items and tells when each version was made.

    Raises:
        ConfigurationError: ``name`` is not the name of a table.
    """
    if not _PLAIN_NAME.match(name):
        raise ConfigurationError(f"landed table {name!r} is no table name: give one such as dbagent.public.AgentTable")
    given = quoted_name(name, quote=False) if "." in name or '"' in name else quoted_name(name, quote=True)
    columns: list[Column[Any]] = [
        Column(quoted_name("PK", quote=True), String(2_048)),
        Column(quoted_name("SK", quote=True), String(1_024)),
        Column(quoted_name("value", quote=True), Super()),
    ]
    if history:
        columns += [Column(ACTIVE, Boolean), Column(CREATED, TIMESTAMP), Column(DELETED, TIMESTAMP)]
    return Table(given, MetaData(), *columns)


def _layout(
    *, style: str | None = None, key: str | None = None, sort: str | tuple[str, ...] | None = None, view: bool = False
) -> dict[str, Any]:
    """Say how Redshift spreads and sorts a table: small tables whole on every node, the others by user."""
    layout = {"diststyle": style, "distkey": key, "sortkey": sort}
    return {"info": {"view": view, "layout": {name: value for name, value in layout.items() if value is not None}}}


@compiles(CreateTable, "redshift")
def _create_on_redshift(element: CreateTable, compiler: DDLCompiler, **kw: Any) -> str:
    # not as `redshift_distkey=…` arguments of the tables: SQLAlchemy warns of those where the dialect is not installed
    from sqlalchemy_redshift.ddl import get_table_attributes

    create: Any = compiler.visit_create_table  # untyped in SQLAlchemy
    text = create(element, **kw).rstrip()
    layout: str = get_table_attributes(compiler.preparer, **element.element.info.get("layout", {}))
    return f"{text}{layout}"


@compiles(CreateColumn, "redshift")
def _column_on_redshift(element: CreateColumn, compiler: DDLCompiler, **kw: Any) -> str:
    create: Any = compiler.visit_create_column  # untyped in SQLAlchemy
    text: str = create(element, **kw)
    kind, required, rest = text.partition(" NOT NULL")
    return f"{kind} ENCODE {_encoding(element.element)}{required}{rest}"


def _encoding(column: Column[Any]) -> str:
    """Choose how Redshift compresses a column: as it does by default, but for texts.

    Those are ZSTD, which AWS names for texts of any length and JSON. Sort keys stay raw, so that blocks are skipped by
    them; fractions and flags do by default (DG *Compression encodings*). Every column is given one, since the first one
    given takes the table out of ENCODE AUTO.
    """
    sort = column.table.info.get("layout", {}).get("sortkey", ())
    if column.name in ((sort,) if isinstance(sort, str) else sort) or isinstance(column.type, Boolean | Double):
        return "RAW"
    return "ZSTD" if isinstance(column.type, String | Super) else "AZ64"


class Base(DeclarativeBase):
    """Base of every table agentmodel makes in the warehouse."""


# -- the sample's base tables -----------------------------------------------------------------------------------------


class Domain(Base):
    """A field of work."""

    __tablename__ = "domain"
    __table_args__ = _layout(style="ALL")

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("domainnm", Varchar(NAME))
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class Agent(Base):
    """An agent and the domain it works in."""

    __tablename__ = "agent"
    __table_args__ = _layout(style="ALL")

    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    score: Mapped[float | None] = mapped_column("score", Double)
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class Tool(Base):
    """A tool of an agent."""

    __tablename__ = "tool"
    __table_args__ = _layout(style="ALL", sort="agentid")

    domain_id: Mapped[str | None] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("toolnm", Varchar(NAME))
    spec: Mapped[str | None] = mapped_column("toolspec", String(WIDEST))
    description: Mapped[str | None] = mapped_column("description", Varchar(PROSE))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserInfo(Base):
    """A user."""

    __tablename__ = "userinfo"
    __table_args__ = _layout(key="userid", sort="lastlogindt")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("usernm", Varchar(NAME))
    profile: Mapped[str | None] = mapped_column("userprofile", Varchar(PROSE))
    last_login: Mapped[str | None] = mapped_column("lastlogindt", String(20))
    created: Mapped[str | None] = mapped_column("creationdt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserSession(Base):
    """A session of a user; its outcome where it was recorded or reviewed."""

    __tablename__ = "usersession"
    __table_args__ = _layout(key="userid", sort="sessionid")

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
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserSessionProcess(Base):
    """A step of a session."""

    __tablename__ = "usersessionprocess"
    __table_args__ = _layout(key="userid", sort=("sessionid", "processid"))

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    process_id: Mapped[str] = mapped_column("processid", Varchar(ID), primary_key=True)
    prompt: Mapped[str | None] = mapped_column("userprompt", String(WIDEST))
    name: Mapped[str | None] = mapped_column("procnm", Varchar(NAME))
    description: Mapped[str | None] = mapped_column("procdesc", Varchar(PROSE))
    time: Mapped[str | None] = mapped_column("procdt", String(20))
    loaded_at: Mapped[datetime | None] = mapped_column("load_timestamp", TIMESTAMP)


class UserToolMappingHist(Base):
    """A call of a tool: one row an attempt."""

    __tablename__ = "user_tool_mapping_hist"
    __table_args__ = _layout(key="userid", sort=("sessionid", "processid", "agentid", "toolid"))

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


class AgentToolAnalysisStaging(Base):
    """The sample's staging rows: a view here, so there is nothing that could double or lag."""

    __tablename__ = "agent_tool_analysis_staging"
    __table_args__ = _layout(view=True)

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


class AgentExecution(_Execution, Base):
    """The pivot of the refresh: one row per user, session and agent."""

    __tablename__ = "agent_execution"
    __table_args__ = _layout(key="userid", sort=("sessionid", "agentid"))


class _Daily:
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    day: Mapped[date] = mapped_column("execution_date", Date, primary_key=True)
    executions: Mapped[int] = mapped_column("executions", BigInteger)
    successes: Mapped[int] = mapped_column("successes", BigInteger)


class AgentDaily(_Daily, Base):
    """Executions of an agent per day of their last call; `UNDATED` where no time is known."""

    __tablename__ = "agent_daily"
    __table_args__ = _layout(style="ALL", sort=("agentid", "execution_date"))


class _ToolCounts:
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    tool_id: Mapped[str] = mapped_column("toolid", Varchar(ID), primary_key=True)
    tool_name: Mapped[str] = mapped_column("toolnm", Varchar(NAME), primary_key=True)
    calls: Mapped[int] = mapped_column("calls", BigInteger)
    errors: Mapped[int] = mapped_column("errors", BigInteger)
    input_tokens: Mapped[int] = mapped_column("inputtokens", BigInteger)
    output_tokens: Mapped[int] = mapped_column("outputtokens", BigInteger)


class AgentTool(_ToolCounts, Base):
    """Calls and errors of an agent's tools; every attempt is a call."""

    __tablename__ = "agent_tool"
    __table_args__ = _layout(style="ALL", sort=("agentid", "toolid"))


class AgentScoreSummary(Base):
    """The sample's score per agent, as of a day; `score` gives it as of any other."""

    __tablename__ = "agent_score_summary"
    __table_args__ = _layout(style="ALL", sort=("domainid", "agentid"))

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    executions: Mapped[int] = mapped_column("total_executions", BigInteger)
    successes: Mapped[int] = mapped_column("success_count", BigInteger)
    failures: Mapped[int] = mapped_column("failure_count", BigInteger)
    success_rate: Mapped[float] = mapped_column("success_rate", Double)
    last_day: Mapped[date | None] = mapped_column("last_execution_date", Date)
    decay_day: Mapped[date | None] = mapped_column("decay_date", Date)
    days_since: Mapped[int | None] = mapped_column("days_since_last_exec", Integer)
    decay: Mapped[float] = mapped_column("time_decay_factor", Double)
    calculated_score: Mapped[float] = mapped_column("calculated_score", Double)
    weight: Mapped[float] = mapped_column("score_weight", Double)
    evidence: Mapped[float] = mapped_column("evidence_score", Double)
    evidence_low: Mapped[float] = mapped_column("evidence_low", Double)
    evidence_high: Mapped[float] = mapped_column("evidence_high", Double)
    updated_at: Mapped[datetime] = mapped_column("updated_at", TIMESTAMP)

    @hybrid_method
    def score(self, as_of: date) -> float:
        """Return the score as of a day; on the class, the same as an expression."""
        return scores.score(self.executions, self.successes, last=self.decay_day, as_of=as_of)

    @score.expression
    @classmethod
    def _score_expression(cls, as_of: date) -> ColumnElement[float]:
        return scores.score_expression(cls.executions, cls.successes, last=cls.decay_day, as_of=as_of)


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
    """A sequence of tool calls that a user's sessions took, and how it fared.

    ``pattern_score`` is the score as of the user's own newest day: a number without a clock in it, which therefore
    never has to be rewritten. `score` gives it as of any day.
    """

    __tablename__ = "user_process_patterns"
    __table_args__ = _layout(key="userid", sort=("userid", "pattern_key"))

    recommended: Mapped[bool] = mapped_column("is_recommended", Boolean)

    @hybrid_method
    def score(self, as_of: date) -> float:
        """Return the pattern's score as of a day; on the class, the same as an expression."""
        return scores.pattern_score(self.executions, self.successes, last=self.decay_day, as_of=as_of)

    @score.expression
    @classmethod
    def _score_expression(cls, as_of: date) -> ColumnElement[float]:
        return scores.pattern_score_expression(cls.executions, cls.successes, last=cls.decay_day, as_of=as_of)


class ToolErrorSummary(Base):
    """The sample's error report, per agent."""

    __tablename__ = "tool_error_summary"
    __table_args__ = _layout(style="ALL", sort="agentid")

    domain_id: Mapped[str] = mapped_column("domainid", Varchar(ID))
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    name: Mapped[str | None] = mapped_column("agentnm", Varchar(NAME))
    errors: Mapped[int] = mapped_column("total_errors", BigInteger)
    calls: Mapped[int] = mapped_column("total_executions", BigInteger)
    error_rate: Mapped[float] = mapped_column("error_rate", Double)
    failed_tools: Mapped[str] = mapped_column("failed_tools", String(WIDEST))


class RefreshWatermark(Base):
    """How far the last refresh saw; one row."""

    __tablename__ = "refresh_watermark"
    __table_args__ = _layout(style="ALL")

    name: Mapped[str] = mapped_column("name", String(32), primary_key=True)
    seen_until: Mapped[datetime | None] = mapped_column("seen_until", TIMESTAMP)
    as_of: Mapped[date] = mapped_column("as_of", Date)


# -- work tables: empty between refreshes -----------------------------------------------------------------------------


class WorkChange(Base):
    """The newest version of each item that changed since the watermark."""

    __tablename__ = "work_change"
    __table_args__ = _layout(style="EVEN")

    pk: Mapped[str] = mapped_column(quoted_name("PK", quote=True), String(2_048), primary_key=True)
    sk: Mapped[str] = mapped_column(quoted_name("SK", quote=True), String(1_024), primary_key=True)
    value: Mapped[Any] = mapped_column(quoted_name("value", quote=True), Super(), nullable=True)
    kind: Mapped[str | None] = mapped_column("kind", String(64))
    present: Mapped[int] = mapped_column("present", Integer)
    loaded_at: Mapped[datetime | None] = mapped_column("loaded_at", TIMESTAMP)


class WorkSession(Base):
    """Sessions that a changed item belongs to."""

    __tablename__ = "work_session"
    __table_args__ = _layout(key="userid", sort="sessionid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)


class WorkExecution(Base):
    """Executions of the touched sessions: as they were (change -1) and as they are (change 1)."""

    __tablename__ = "work_execution"
    __table_args__ = _layout(key="userid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)
    session_id: Mapped[str] = mapped_column("sessionid", Varchar(ID), primary_key=True)
    agent_id: Mapped[str] = mapped_column("agentid", Varchar(ID), primary_key=True)
    change: Mapped[int] = mapped_column("change", Integer, primary_key=True)
    succeeded: Mapped[int] = mapped_column("success", Integer)
    last_day: Mapped[date | None] = mapped_column("execution_date", Date)
    pattern_key: Mapped[str] = mapped_column("pattern_key", String(32))


class WorkCall(_ToolCounts, Base):
    """Counts of the touched sessions' calls: as they were (negative) and as they are."""

    __tablename__ = "work_call"
    __table_args__ = _layout(style="EVEN")

    change: Mapped[int] = mapped_column("change", Integer, primary_key=True)


class WorkDaily(_Daily, Base):
    """What is to be added to `AgentDaily`."""

    __tablename__ = "work_daily"
    __table_args__ = _layout(style="ALL")


class WorkTool(_ToolCounts, Base):
    """What is to be added to `AgentTool`."""

    __tablename__ = "work_tool"
    __table_args__ = _layout(style="ALL")


class WorkUser(Base):
    """Users whose patterns are computed again."""

    __tablename__ = "work_user"
    __table_args__ = _layout(key="userid")

    user_id: Mapped[str] = mapped_column("userid", Varchar(ID), primary_key=True)


class WorkPattern(_Pattern, Base):
    """Patterns of the touched users, before their percentile is known."""

    __tablename__ = "work_pattern"
    __table_args__ = _layout(key="userid")


WORK: Final = (WorkChange, WorkSession, WorkExecution, WorkCall, WorkDaily, WorkTool, WorkUser, WorkPattern)
