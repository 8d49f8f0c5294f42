"""Export history, scores and patterns from the warehouse as Parquet, for other programs to read.

A table of history has a folder for each month, such as ``calls/month=2026-03/``, and the others have one file set.
``manifest.json`` says what is there. An export writes the months anew whose rows have changed since the one before,
those of erased users among them, so at its end the files have the rows of the warehouse, each once. The columns are in
`COLUMNS`: a version of the format never loses or changes one.

>>> COLUMNS["agents"], FORMAT
({'agent_id': 'string', 'domain_id': 'string', 'name': 'string', 'score': 'double', 'description':
'string'}, 1)
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import ColumnElement, String, case, cast, func, inspect, literal_column, null, or_

from agentmodel import keys
from agentmodel._redaction import Redaction
from agentmodel._version import installed_version
from agentmodel.config import Settings
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
)
from agentmodel.exceptions import MissingExtraError, ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift._export_target import ExportTarget, target_of

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["COLUMNS", "FORMAT", "ExportReport", "export"]

FORMAT: Final = 1
"""Version of the format; it is raised when a column is added."""

_MANIFEST: Final = "manifest.json"
_PART_ROWS, _PART_BYTES = 1_000_000, 1 << 30  # of a file; S3 takes 5 GB in one request
_GROUP_ROWS, _GROUP_BYTES = 50_000, 64 << 20  # that are in memory at once
_FETCHED: Final = 1_000
_MONTH: Final = re.compile(r"[0-9]{4}(0[1-9]|1[0-2])")
_UNDATED: Final = "undated"
_Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Exported:
    """A table of the export.

    Attributes:
        model: The class of the warehouse that it is read from.
        columns: Name in the export, and how the value is stored: ``=name`` where the class has another name for it.
        entity: Whose attributes say what is redacted in a text of the same name.
        month: Attribute of the time whose month a row is filed under; '' for a table without months.
        loads: Whether its rows are loaded, and say when; otherwise each refresh computes them anew.
        named: Attributes of the entity that have another name than in the export.
    """

    model: Any
    columns: str
    entity: Any = None
    month: str = ""
    loads: bool = True
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def parsed(self) -> list[tuple[str, str, str]]:
        """Return name, attribute of the class and kind of each column."""
        found = []
        for word in self.columns.split():
            name, _, kind = word.partition(":")
            kind, _, attribute = kind.partition("=")
            found.append((name, attribute or name, kind or "text"))
        return found


_TABLES: Final[Mapping[str, _Exported]] = {
    "domains": _Exported(m.DomainRow, "domain_id name description", Domain),
    "agents": _Exported(m.AgentRow, "agent_id domain_id name score:float description", Agent),
    "tools": _Exported(m.ToolRow, "agent_id tool_id domain_id name spec description", Tool),
    "users": _Exported(m.UserInfo, "user_id name profile created_at:time=created last_login_at:time=last_login", User),
    "sessions": _Exported(
        m.UserSessionRow,
        "user_id session_id name summary request category started_at:time=started ended_at:time=ended "
        "succeeded:flag corrected:flag=reviewed detail_location:text=file",
        UserSession, month="started",
    ),
    "steps": _Exported(
        m.UserSessionProcessRow, "user_id session_id process_id name description prompt started_at:time=time",
        UserSessionProcess, month="time",
    ),
    "calls": _Exported(
        m.UserToolMappingHist,
        "user_id session_id process_id agent_id tool_id attempt:int call_number:int tool_name values result "
        "succeeded:flag status error_type executed_at:time=time duration_ms:float input_tokens:int output_tokens:int "
        "revision",
        ToolExecution, month="time",
    ),
    "outcomes": _Exported(
        m.SessionOutcome,
        "user_id session_id outcome_id source agent_id succeeded:flag score:float by reason said_at:time=time",
        Review, month="time", named={"by": "decided_by"},
    ),
    "agent_scores": _Exported(
        m.AgentScoreSummary,
        "domain_id agent_id name executions:int successes:int failures:int success_rate:float last_day:day "
        "calculated_score:float evidence:float evidence_executions:float domain_rate:float revision "
        "revision_executions:int revision_successes:int counted_executions:float counted_successes:float "
        "updated_at:moment",
        Agent, loads=False,
    ),
    "patterns": _Exported(
        m.UserProcessPattern,
        "user_id category agent_id pattern_key process_pattern tool_sequence executions:int successes:int "
        "seconds:float pattern_score:float first_day:day last_day:day recommended:bool",
        UserSession, loads=False, named={"tool_sequence": "summary"},
    ),
}  # fmt: skip

_OURS: Final = re.compile(
    rf"({'|'.join(_TABLES)})/(month=([0-9]{{4}}-[0-9]{{2}}|{_UNDATED})/)?"
    r"(part-[0-9]{4,}\.parquet|\.part-[0-9]{4,}\.parquet\.unfinished)"
)
"""Names that an export gives its files; what is named otherwise is somebody else's."""

_ARROW: Final = {
    "text": "string", "int": "int64", "float": "double", "bool": "bool", "flag": "bool", "day": "date32[day]",
    "time": "timestamp[us, tz=UTC]", "moment": "timestamp[us, tz=UTC]",
}  # fmt: skip
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    table: {name: _ARROW[kind] for name, _, kind in exported.parsed} for table, exported in _TABLES.items()
}
"""The columns of each table with their Arrow types, in their order."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        to: The folder or URL.
        seen_until: How far the last refresh had read the table; None before the first.
        rows: Rows of each table that the files have now.
        written: Rows of each table that were written; the other ones had not changed.
        removed: Files that were removed.

    >>> report = export(model.warehouse, model.settings, folder / "of-today")
    >>> report.rows["agents"], report.removed
    (2, 0)
    """

    to: str
    seen_until: datetime | None
    rows: Mapping[str, int]
    written: Mapping[str, int]
    removed: int


def export(
    warehouse: Warehouse,
    settings: Settings,
    to: str | Path,
    *,
    redaction: Redaction | None = None,
    full: bool = False,
    progress: _Progress = lambda _what, _done, _of: None,
) -> ExportReport:
    """Write what changed since the export before, and remove what is no longer in the warehouse.

    Only one export at a time may write to a target; `AgentModel.export` sees to it.

    Args:
        warehouse: The warehouse.
        settings: Have the region and the credentials for S3.
        to: A folder, or a URL such as ``s3://bucket/prefix``. Other files there stay.
        redaction: Redacts the texts again, those among them that were recorded before there was a redactor.
        full: Write every file anew.
        progress: Called with the name of a table or month, how many of them are done, and of how many.

    Raises:
        ValidationError: ``to`` is neither a folder nor a URL of S3; or what is there is no export, or one of a newer
            version.
        ConfigurationError: The folder or the bucket cannot be written.
        Unavailable: The warehouse or S3 does not answer; exporting again does the rest.
        MissingExtraError: pyarrow is not installed.

    >>> report = export(model.warehouse, model.settings, folder / "parquet")
    >>> report.written["agents"], export(model.warehouse, model.settings, folder / "parquet").written["agents"]
    (2, 0)
    """
    _arrow_writer()
    target = target_of(to, settings)
    before = _read_manifest(target, str(to))
    redaction = redaction or Redaction(None)
    anew = full or before.get("redacted") != redaction.active or before.get("redaction") != redaction.rules
    old: Mapping[str, Any] = {} if anew else before.get("files", {})
    with warehouse.snapshot():  # one state of all tables, while a refresh commits another
        marks = warehouse.read(m.rows_of(m.RefreshWatermark.seen_until, m.RefreshWatermark.as_of))
        seen, as_of = marks[0] if marks else (None, None)
        sets = {each.name: each for each in _file_sets(warehouse)}
        there = {name for table in _TABLES for name in target.names(f"{table}/")}
        changed = [name for name, each in sets.items() if not _is_there(old.get(name, {}), each.signature, there)]
        files = {name: old[name] for name in sets if name not in changed}
        for done, name in enumerate(changed):
            progress(name, done, len(changed))
            files[name] = _written(warehouse, target, sets[name], redaction)
    expected = {part for each in files.values() for part in each["parts"]}
    stray = sorted(name for name in there - expected if _OURS.fullmatch(name))
    target.remove(stray)
    seen_until = None if seen is None else seen.replace(tzinfo=UTC)
    manifest = {
        "agentmodel": installed_version(),
        "format": FORMAT,
        "redacted": redaction.active,
        "redaction": redaction.rules,
        "seen_until": None if seen_until is None else seen_until.isoformat(),
        "as_of": None if as_of is None else str(as_of),
        "columns": COLUMNS,
        "files": dict(sorted(files.items())),
    }
    _put(target, _MANIFEST, lambda file: file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8"))
    progress(_MANIFEST, len(changed), len(changed))
    rows, written = dict.fromkeys(_TABLES, 0), dict.fromkeys(_TABLES, 0)
    for name, each in files.items():
        rows[sets[name].table] += each["rows"]
        written[sets[name].table] += each["rows"] if name in changed else 0
    return ExportReport(str(to), seen_until, rows, written, len(stray))


def _read_manifest(target: ExportTarget, to: str) -> dict[str, Any]:
    found = target.read(_MANIFEST)
    if found is None:
        return {}
    manifest: dict[str, Any] = {}
    try:
        manifest = json.loads(found)
        version, is_one = manifest["format"], isinstance(manifest.get("files", {}), dict)
    except (ValueError, TypeError, KeyError):
        version, is_one = None, False
    if not (is_one and isinstance(version, int)):
        raise ValidationError("to", to, f"must be an empty place or an export, and its {_MANIFEST} is of none")
    if version > FORMAT:
        rule = f"must have format {FORMAT} or an older one, and has {version}, of a newer agentmodel: upgrade this one"
        raise ValidationError("to", to, rule)
    return manifest if version == FORMAT else {}


def _is_there(entry: Mapping[str, Any], signature: str, there: AbstractSet[str]) -> bool:
    """Return whether the files of an entry of the manifest have the rows of the warehouse, and none is missing."""
    return entry.get("signature") == signature and there >= set(entry["parts"])


def _put(target: ExportTarget, name: str, make: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="agentmodel-export-") as folder:
        file = Path(folder) / "file"
        make(file)
        target.write(name, file)


# What is there


@dataclass(frozen=True, slots=True)
class _FileSet:
    """A table, or a month of one.

    Attributes:
        table: The table.
        name: Name of its folder.
        months: First six digits of the times of its rows, None for rows without a time; () for all rows.
        signature: Is another one when its rows are others.
    """

    table: str
    name: str
    months: tuple[str | None, ...]
    signature: str


def _file_sets(warehouse: Warehouse) -> Iterator[_FileSet]:
    for table, exported in _TABLES.items():
        found: dict[str, list[tuple[Any, ...]]] = {}
        for row in warehouse.read(_signatures(exported)):
            if row.rows:
                found.setdefault(_folder(table, exported, row.month), []).append(tuple(row))
        for name, rows in sorted(found.items()):
            signature = hashlib.sha256("\n".join(sorted(map(str, rows))).encode()).hexdigest()
            yield _FileSet(table, name, tuple(row[0] for row in rows) if exported.month else (), signature)


def _folder(table: str, exported: _Exported, month: str | None) -> str:
    if not exported.month:
        return table
    dated = month is not None and _MONTH.fullmatch(month)
    return f"{table}/month={f'{month[:4]}-{month[4:]}' if month and dated else _UNDATED}"


def _signatures(exported: _Exported) -> Any:
    """Select for each month how many rows there are, and for each place of their digests, how many have a high digit.

    A row has the digest of its key and of when it was loaded, or of all its values where nothing says when, and where
    a refresh computes them anew.
    """
    model = exported.model
    all_values: list[Any] = [
        case((getattr(model, attribute), literal_column("1")), else_=literal_column("0"))
        if kind == "bool"
        else getattr(model, attribute)
        for _, attribute, kind in exported.parsed
    ]
    digest = m.digest_of(all_values)
    if exported.loads:  # without history mode of zero-ETL nothing says when
        digest = case(
            (model.loaded_at.is_(None), digest), else_=m.digest_of([*inspect(model).primary_key, model.loaded_at])
        )
    month = _month(exported) if exported.month else cast(null(), String(6))
    row = m.rows_of(month.label("month"), digest.label("digest")).select_from(model).subquery("row_")
    counted = m.rows_of(row.c.month, func.count().label("rows"), *m.digest_counts(row.c.digest)).select_from(row)
    return counted.group_by(row.c.month)


def _month(exported: _Exported) -> ColumnElement[str]:
    month: ColumnElement[str] = func.left(getattr(exported.model, exported.month), _number(6))
    return month


def _number(value: int) -> ColumnElement[int]:
    """Return a number that is no parameter, so that a select and its grouping are the same text."""
    return literal_column(str(value))


# Write


def _written(warehouse: Warehouse, target: ExportTarget, files: _FileSet, redaction: Redaction) -> dict[str, Any]:
    """Write the parts of a set, and return its entry of the manifest."""
    parts: list[str] = []
    count = in_part = 0
    with tempfile.TemporaryDirectory(prefix="agentmodel-export-") as folder:
        file, writer = Path(folder) / "part", None

        def put() -> None:
            name = f"{files.name}/part-{len(parts):04}.parquet"
            target.write(name, file)
            parts.append(name)

        for group in _groups(warehouse, files, redaction):
            if writer is not None and (in_part >= _PART_ROWS or file.stat().st_size >= _PART_BYTES):
                writer.close()
                put()
                writer = None
            if writer is None:
                writer, in_part = _arrow_writer()(file, group.schema), 0
            writer.write_table(group)
            count, in_part = count + group.num_rows, in_part + group.num_rows
        if writer is not None:
            writer.close()
            put()
    return {"rows": count, "signature": files.signature, "parts": parts}


def _groups(warehouse: Warehouse, files: _FileSet, redaction: Redaction) -> Iterator[Any]:
    """Yield the rows of a set as tables of Arrow, so many that they fit into memory."""
    exported = _TABLES[files.table]
    turn = _Turn(exported, redaction)
    waiting: list[Sequence[Any]] = []
    size = 0
    with warehouse.begin() as connection:
        result = connection.execute(_select(exported, files.months))
        for some in result.partitions(_FETCHED):
            waiting += some
            size += sum(len(value) for row in some for value in row if isinstance(value, str))
            if len(waiting) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield turn.table(waiting)
                waiting, size = [], 0
    if waiting:
        yield turn.table(waiting)


def _select(exported: _Exported, months: Sequence[str | None]) -> Any:
    model = exported.model
    rows = m.rows_of(*(getattr(model, attribute) for _, attribute, _ in exported.parsed))
    if months:
        month = _month(exported)
        rows = rows.where(or_(*(month.is_(None) if each is None else month == each for each in months)))
    return rows.order_by(*inspect(model).primary_key)


class _Turn:
    """Turns rows of the warehouse into a table of Arrow with the columns of the export."""

    def __init__(self, exported: _Exported, redaction: Redaction) -> None:
        import pyarrow as pa

        self._arrow: Any = pa
        types = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "day": pa.date32()}
        types |= dict.fromkeys(("bool", "flag"), pa.bool_())
        types |= dict.fromkeys(("time", "moment"), pa.timestamp("us", tz="UTC"))
        columns = exported.parsed
        self._schema = pa.schema([(name, types[kind]) for name, _, kind in columns])
        self._turns = [self._turn(exported, name, kind, redaction) for name, _, kind in columns]

    @staticmethod
    def _turn(exported: _Exported, name: str, kind: str, redaction: Redaction) -> Callable[[Any], Any] | None:
        if kind != "text":
            turns: dict[str, Callable[[Any], Any]] = {
                "time": _moment,
                "flag": "Y".__eq__,
                "bool": bool,
                "moment": _in_utc,
            }
            return turns.get(kind)
        fields = {} if exported.entity is None else exported.entity.layout.fields
        attribute = fields.get(exported.named.get(name, name))
        if not redaction.active or attribute is None or attribute.redact == "none":
            return None
        members: Any = {"text": "none", "plain": "values"}.get(attribute.redact, attribute.redact)
        return lambda text: redaction.text(text, fields=members)

    def table(self, rows: Sequence[Sequence[Any]]) -> Any:
        """Return rows as a table."""
        arrays = [
            self._arrow.array(
                values if turn is None else [None if each is None else turn(each) for each in values], type=field.type
            )
            for values, turn, field in zip(zip(*rows, strict=True), self._turns, self._schema, strict=True)
        ]
        return self._arrow.Table.from_arrays(arrays, schema=self._schema)


def _moment(text: str) -> datetime | None:
    """Return a stored time; None for a text that is none."""
    try:
        return keys.parse_time(text)
    except ValidationError:
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _arrow_writer() -> Any:
    """Return pyarrow's writer of Parquet.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        from pyarrow.parquet import ParquetWriter
    except ModuleNotFoundError as error:
        raise MissingExtraError("arrow", "an export", error.name) from None
    return ParquetWriter
