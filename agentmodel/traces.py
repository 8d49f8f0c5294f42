"""Trace files: one JSON object a line, one line a tool call, gzip or not.

    {"domain": "cafes", "agent": "finder", "user": null, "session": "s-1", "step": 1, "tool": "search",
     "arguments": {"near": "stadium"}, "success": true, "started_at": "2025-06-14T09:00:00Z"}

`read` gives the records, and the lines that are none. Fields that are not in `TraceRecord` are ignored, so that files
may carry more than is read here.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, get_args, overload
from zoneinfo import ZoneInfo

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from agentmodel.exceptions import ValidationError, shown

__all__ = ["MAX_LINE", "STATUSES", "BadLine", "Status", "TraceRecord", "opened", "outcome", "read"]

MAX_LINE = 8 * 1024 * 1024
"""Bytes one line may have: far more than one call leaves in the table, and a bound on the memory a file can ask for."""

Status = Literal["ok", "error", "rejected", "edited", "blocked", "cache_hit", "interrupted", "expired", "unknown_tool"]
"""How a tool call ended; only ``ok`` and ``error`` count in scores."""

STATUSES: tuple[Status, ...] = get_args(Status)


def outcome(status: Status | None, succeeded: bool) -> bool | None:
    """Whether a call went well, as scores count it; None of a call that counts in none.

    A call counts when it was really made, as the agent asked for it: its status is ``ok`` or ``error``, or it has none
    and ``succeeded`` tells.

    >>> outcome("ok", True), outcome(None, False), outcome("rejected", False), outcome("edited", True)
    (True, False, None, None)
    """
    if status is None:
        return succeeded
    return status == "ok" if status in ("ok", "error") else None


_GZIP = b"\x1f\x8b"


def _time(value: object, info: ValidationInfo) -> datetime | None:
    """A time as aware UTC; one without an offset is read in the zone of the reading, and refused without one."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("give an ISO 8601 time such as 2025-06-14T09:30:00Z, or null") from None
    if not isinstance(value, datetime):
        raise ValueError("give an ISO 8601 time as text, or null")  # noqa: TRY004  # pydantic collects ValueErrors only
    if value.tzinfo is None:
        zone: tzinfo | None = (info.context or {}).get("zone")
        if zone is None:
            raise ValueError("give a time with its offset from UTC")
        value = value.replace(tzinfo=zone)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("give a time between the years 1 and 9999 UTC") from None


_Name = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=0)]
_Time = Annotated[datetime | None, BeforeValidator(_time)]


class TraceRecord(BaseModel):
    """One tool call of a trace file.

    Attributes:
        domain: Name of the field of work.
        agent: Name of the agent that called.
        user: Whom it worked for; None is an anonymous user.
        session: Identifies the session within its user.
        step: Place of the call in its session; calls without times are ordered by it.
        tool: Name of the tool.
        arguments: What the tool was given.
        result: What it gave back.
        success: Whether the call succeeded.
        status: How it ended, where that is more than ``success`` says: a call that was rejected, blocked or answered
            from a cache counts in no score.
        error_type: Name of the error where it did not.
        started_at: When it began, UTC; None where it is not known.
        ended_at: When it ended, UTC, not before it began; None where it is not known.
        session_success: Outcome of the whole session; None where nobody recorded it.
        request: What the user asked for.
        category: Kind of request.
        input_tokens: Tokens read by the model for this call.
        output_tokens: Tokens written by the model for this call.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    domain: _Name
    agent: _Name
    user: _Name | None = None
    session: _Name
    step: _Count
    tool: _Name
    arguments: dict[str, Any] = Field(default_factory=dict)
    result: Any = None
    success: bool
    status: Status | None = None
    error_type: str | None = None
    started_at: _Time = None
    ended_at: _Time = None
    session_success: bool | None = None
    request: str | None = None
    category: str | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.started_at is not None and self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError(f"ended_at is before started_at {self.started_at.isoformat()}")
        return self


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record.

    Attributes:
        file: Path of the file.
        line: Number of the line, from 1.
        field: The field that is wrong; None where it is the line as a whole.
        problem: What is wrong with it.

    >>> print(BadLine("calls.jsonl", 3, "success", "is missing"))
    calls.jsonl, line 3: success: is missing
    """

    file: str
    line: int
    field: str | None
    problem: str

    def __str__(self) -> str:
        """The line of a report."""
        return ": ".join(filter(None, (f"{self.file}, line {self.line}", self.field, self.problem)))


@overload
def read(path: str | Path, *, timezone: str = "UTC", strict: Literal[True]) -> Iterator[TraceRecord]: ...
@overload
def read(path: str | Path, *, timezone: str = "UTC", strict: bool = False) -> Iterator[TraceRecord | BadLine]: ...
def read(path: str | Path, *, timezone: str = "UTC", strict: bool = False) -> Iterator[TraceRecord | BadLine]:
    """Read a trace file line by line, in memory of one line.

    Args:
        path: The file; whether it is gzip is told by its content.
        timezone: Zone of the times that name no offset, such as ``Asia/Seoul``; all others keep their own.
        strict: Raise at the first bad line instead of giving it.

    Returns:
        The records in the order of the file, and the bad lines between them. Blank lines are skipped.

    Raises:
        ValidationError: The zone is not known; on reading: the file cannot be opened, is named ``.gz`` but is not
            gzip, or, if ``strict``, has a bad line.
    """
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)  # UTC needs no time zone database
    except (KeyError, ValueError, OSError):
        raise ValidationError(
            "timezone", timezone, "give a name of the time zone database, such as Asia/Seoul"
        ) from None
    return _records(Path(path), zone, strict=strict)


def _records(path: Path, zone: tzinfo, *, strict: bool) -> Iterator[TraceRecord | BadLine]:
    with opened(path) as file:
        for number, line in _lines(file):
            found = _record(line, zone) if isinstance(line, bytes) else line
            if isinstance(found, TraceRecord):
                yield found
            elif found is not None:
                if strict:
                    raise found.error(path, number)
                yield BadLine(str(path), number, found.field, found.told())


@dataclass(frozen=True, slots=True)
class _Problem:
    rule: str
    field: str | None = None
    value: Any = None

    def told(self) -> str:
        return self.rule if self.value is None else f"{shown(self.value)} is refused: {self.rule}"

    def error(self, path: Path, number: int) -> ValidationError:
        where = f"{path}, line {number}"
        return ValidationError(f"{where}: {self.field}" if self.field else where, self.value, self.rule)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, unpacked if they are packed."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ValidationError("path", str(path), f"the file cannot be read: {error.strerror}") from None
    with raw:
        if raw.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        elif path.suffix == ".gz":
            raise ValidationError("path", str(path), "the file is named .gz but is not gzip: pack it, or rename it")
        else:
            yield raw


def _lines(file: io.BufferedIOBase) -> Iterator[tuple[int, bytes | _Problem]]:
    """Lines with their numbers; of a line that is too long nothing is kept, and after broken gzip nothing is read."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE + 1)
            too_long = len(line) > MAX_LINE
            while too_long and line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
        except (EOFError, OSError, zlib.error) as error:
            told = str(error) or type(error).__name__
            yield number, _Problem(f"the rest of the file cannot be read, it is cut off or damaged: {told}")
            return
        if too_long:
            yield number, _Problem(f"the line is longer than {MAX_LINE} bytes")
        elif not line:
            return
        else:
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _record(line: bytes, zone: tzinfo) -> TraceRecord | _Problem | None:
    """The record of a line, what is wrong with the line, or None for a blank one."""
    if not line.strip():
        return None
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return _Problem(f"the line is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}")
    except RecursionError:
        return _Problem("the line is nested too deeply")
    except ValueError as error:
        return _Problem(f"the line is not JSON: {error}")
    if not isinstance(values, dict):
        return _Problem("a line is a JSON object", value=values)
    try:
        if b"\\ud" in line.lower():  # escapes of surrogates, in pairs or not
            for name, value in values.items():
                _check_text(name, value)
        return TraceRecord.model_validate(values, context={"zone": zone})
    except pydantic.ValidationError as error:
        return _of_pydantic(error)
    except _Unwritable as error:
        return _Problem("the text holds half of a surrogate pair, which cannot be stored", field=str(error))


class _Unwritable(ValueError):
    """Text that JSON can escape but UTF-8 cannot write."""


def _check_text(name: str, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unwritable(name) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _of_pydantic(error: pydantic.ValidationError) -> _Problem:
    """The first problem that pydantic found, in a line."""
    problem = error.errors(include_url=False)[0]
    rule = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:  # of the record as a whole: the only such rule is about the end
        return _Problem(rule, field="ended_at")
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return _Problem("is missing", field=field)
    return _Problem("must not be null" if problem["input"] is None else rule, field=field, value=problem["input"])
