"""Read trace files: JSON lines, one line for each tool call, plain or packed by gzip.

    {"domain": "cafes", "agent": "finder", "user": null, "session": "s-1", "step": 1, "tool": "search",
     "arguments": {"near": "stadium"}, "success": true, "started_at": "2025-06-14T09:00:00Z"}

A line with ``outcome`` is no call: it says how a session went that this file, or an earlier one, has (`TraceOutcome`).

    {"domain": "cafes", "user": null, "session": "s-1",
     "outcome": {"success": false, "source": "event", "by": "refund"}}

`read` yields the records, and the lines that are not valid records. Fields that a record does not have are ignored, so
files may contain more than is read here.
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

from agentmodel._values.outcomes import OutcomeSource
from agentmodel.exceptions import ValidationError, rule_of

__all__ = ["BadLine", "Status", "TraceOutcome", "TraceRecord", "read"]

_MAX_LINE = 8 * 1024 * 1024
"""The most bytes of a line. It is far more than one call takes in the table, and it limits the memory for a file."""

Status = Literal["ok", "error", "rejected", "edited", "blocked", "cache_hit", "interrupted", "expired", "unknown_tool"]
"""How a tool call ended. Only ``ok`` and ``error`` count in scores."""

STATUSES: tuple[Status, ...] = get_args(Status)
"""Every `Status`."""


def outcome(status: Status | None, succeeded: bool) -> bool | None:
    """Return whether scores count a call as a success; None when they do not count it.

    A call counts if it was made as the agent asked for it: its status is ``ok`` or ``error``, or it has no status and
    ``succeeded`` says how it ended.

    >>> outcome("ok", True), outcome(None, False), outcome("rejected", False), outcome("edited", True)
    (True, False, None, None)
    """
    if status is None:
        return succeeded
    return status == "ok" if status in ("ok", "error") else None


_GZIP = b"\x1f\x8b"
_SHOWN = 40  # bytes that an error shows of a line that is too long


def _time(value: object, info: ValidationInfo) -> datetime | None:
    """Return a time in UTC. A time without an offset is in the zone that `read` was given."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be an ISO 8601 time such as 2025-06-14T09:30:00Z, or null") from None
    if not isinstance(value, datetime):
        raise ValueError("must be an ISO 8601 time as text, or null")  # noqa: TRY004  # pydantic collects ValueErrors only
    if value.tzinfo is None:
        zone: tzinfo | None = (info.context or {}).get("zone")
        if zone is None:
            raise ValueError("must have an offset from UTC")
        value = value.replace(tzinfo=zone)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


_Name = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=0, le=10**12)]
_Time = Annotated[datetime | None, BeforeValidator(_time)]


class TraceRecord(BaseModel):
    """One tool call of a trace file.

    Attributes:
        domain: The name of the agent's domain, such as ``cafes``.
        agent: The name of the agent that called.
        user: The name of the user for whom it called; None for an anonymous user.
        session: Identifies the session among those of its user.
        step: The position of the call in its session; it orders calls without times.
        tool: The name of the tool.
        arguments: The arguments of the call.
        result: What the tool returned.
        success: Whether the call succeeded.
        status: How the call ended, if that is more than ``success`` says. A call that was rejected, blocked or answered
            from a cache counts in no score.
        error_type: The name of the error of a failed call.
        started_at: When the call began, UTC; None if unknown.
        ended_at: When the call ended, UTC, not before it began; None if unknown.
        session_success: The outcome of the whole session; None if it was not recorded.
        request: The user's request.
        category: The kind of request.
        input_tokens: Tokens that the model read for this call.
        output_tokens: Tokens that the model wrote for this call.
        cached_tokens: Of the input tokens, those that were read from the provider's cache.
        cache_write_tokens: Of the input tokens, those that were written into the provider's cache.
        reasoning_tokens: Of the output tokens, those of the model's reasoning.
        model_name: The model that asked for the call, as its provider names it.
        request_input_tokens: Where the model asked for several calls at once, the tokens that it read for all of them:
            some prices depend on it.
        revision: The revision of the agent (of its prompt, model and tools); None if unknown.

    >>> record = TraceRecord(domain="cafes", agent="finder", session="s-1", step=1, tool="search", success=True)
    >>> record.user, record.arguments, record.status
    (None, {}, None)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())

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
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    model_name: str | None = None
    request_input_tokens: _Count | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.started_at is not None and self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError(f"must not be before started_at ({self.started_at.isoformat()})")
        return self


class _Said(BaseModel):
    """What is said of a run; see `TraceOutcome`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    success: bool | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    source: OutcomeSource = "evaluator"
    by: str | None = None
    reason: str | None = None
    at: _Time = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.success is None and self.score is None:
            raise ValueError("must have success, or a score from 0 to 1")
        return self


class TraceOutcome(BaseModel):
    """How a session of a trace went, as somebody outside of it says; see `AgentModel.outcome`.

    Attributes:
        domain: The name of the domain of the session's agents.
        user: The name of the user; None for an anonymous user.
        session: Identifies the session among those of its user; it was imported before, or is in the same import.
        agent: The name of the agent whose run this is about; None for the whole session.
        outcome: ``success`` or a ``score`` from 0 to 1 or both, the ``source`` (``evaluator`` when not given), ``by``
            whom, the ``reason``, and when it was said (``at``).

    >>> outcome = TraceOutcome(domain="cafes", session="s-1", outcome={"success": False, "by": "refund"})
    >>> outcome.outcome.by, outcome.agent
    ('refund', None)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    domain: _Name
    user: _Name | None = None
    session: _Name
    agent: _Name | None = None
    outcome: _Said


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a valid record.

    Attributes:
        file: The path of the file.
        line: The number of the line, from 1.
        field: The field that is wrong; ``line`` if it is the line as a whole.
        problem: What is wrong, as a sentence.

    >>> print(BadLine("calls.jsonl", 3, "success", "success (1) must be a valid boolean"))
    calls.jsonl, line 3: success (1) must be a valid boolean
    """

    file: str
    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        """Return the file, the line, the field and the problem as one line."""
        return f"{self.file}, line {self.line}: {self.problem}"

    @classmethod
    def of(cls, path: Path, line: int, error: ValidationError, *, strict: bool) -> BadLine:
        """Report an error at its line, or raise it if ``strict``.

        Raises:
            ValidationError: The error, with the file and the line in its ``field``.

        >>> from agentmodel.exceptions import ValidationError
        >>> from pathlib import Path
        >>> error = ValidationError("success", 1, "must be a valid boolean")
        >>> bad = BadLine.of(Path("calls.jsonl"), 3, error, strict=False)
        >>> bad.line, bad.field
        (3, 'success')
        """
        if strict:
            raise ValidationError(f"{path}, line {line}: {error.field}", error.value, error.rule)
        return cls(str(path), line, error.field, str(error))


@overload
def read(path: str | Path, *, timezone: str = "UTC", strict: Literal[True]) -> Iterator[TraceRecord]: ...
@overload
def read(path: str | Path, *, timezone: str = "UTC", strict: bool = False) -> Iterator[TraceRecord | BadLine]: ...
def read(path: str | Path, *, timezone: str = "UTC", strict: bool = False) -> Iterator[TraceRecord | BadLine]:
    r"""Read a trace file line by line; only one line is in memory at a time.

    Args:
        path: The file. Its content shows whether it is packed by gzip.
        timezone: The zone of times without an offset, such as ``Asia/Seoul``. Times with an offset keep it.
        strict: Whether to raise at the first bad line instead of yielding it.

    Returns:
        The records in the order of the file, and the bad lines between them. Blank lines and outcomes are skipped.

    Raises:
        ValidationError: The zone is unknown. While reading: the file cannot be opened, its name ends in ``.gz`` but it
            is not packed by gzip, or it has a bad line and ``strict`` is set.

    >>> file = folder / "lines.jsonl"
    >>> good = '{"domain": "d", "agent": "a", "session": "s-1", "step": 1, "tool": "search", "success": true}'
    >>> _ = file.write_text(f"{good}\n{{}}\n")
    >>> record, bad = read(file)
    >>> record.tool, bad.line, bad.field
    ('search', 2, 'domain')
    """
    found = read_all(path, timezone=timezone, strict=strict)
    return (one for one in found if not isinstance(one, TraceOutcome))


def read_all(
    path: str | Path, *, timezone: str = "UTC", strict: bool = False
) -> Iterator[TraceRecord | TraceOutcome | BadLine]:
    """Read a trace file as `read` does, with its outcomes."""
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)  # UTC needs no time zone database
    except (KeyError, ValueError, OSError):
        raise ValidationError(
            "timezone", timezone, "must be a name of the time zone database, such as Asia/Seoul"
        ) from None
    return _records(Path(path), zone, strict=strict)


def _records(path: Path, zone: tzinfo, *, strict: bool) -> Iterator[TraceRecord | TraceOutcome | BadLine]:
    with open_unpacked(path) as file:
        for number, line in _lines(file):
            found = _record(line, zone) if isinstance(line, bytes) else line
            if isinstance(found, TraceRecord | TraceOutcome):
                yield found
            elif found is not None:
                yield BadLine.of(path, number, found, strict=strict)


@contextmanager
def open_unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading bytes, and unpack it if it is packed by gzip.

    Raises:
        ValidationError: The file cannot be read, or its name ends in ``.gz`` but it is not packed by gzip.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ValidationError("path", str(path), f"cannot be read: {error.strerror}") from None
    with raw:
        if raw.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        elif path.suffix == ".gz":
            raise ValidationError(
                "path", str(path), "must be gzip, because its name ends in .gz: pack it, or rename it"
            )
        else:
            yield raw


def _lines(file: io.BufferedIOBase) -> Iterator[tuple[int, bytes | ValidationError]]:
    """Yield lines with their numbers. A line that is too long is skipped; a damaged file is read up to the damage."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(_MAX_LINE + 1)
            start, too_long = line[:_SHOWN], len(line) > _MAX_LINE
            while too_long and line and not line.endswith(b"\n"):
                line = file.readline(_MAX_LINE)
        except (EOFError, OSError, zlib.error) as error:
            reason = str(error) or type(error).__name__
            yield number, ValidationError("line", reason, "cannot be read because the file is cut off or damaged here")
            return
        if too_long:
            yield number, ValidationError("line", start, f"must have at most {_MAX_LINE} bytes")
        elif not line:
            return
        else:
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _record(line: bytes, zone: tzinfo) -> TraceRecord | TraceOutcome | ValidationError | None:
    """Return the record of a line, the problem of a bad line, or None for a blank one."""
    if not line.strip():
        return None
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        rule = f"must be UTF-8, but byte {error.start + 1} is 0x{line[error.start]:02x}"
        return ValidationError("line", line, rule)
    except RecursionError:
        return ValidationError("line", line, "must not be nested so deeply")
    except ValueError as error:
        return ValidationError("line", line.decode(), f"must be JSON: {error}")
    if not isinstance(values, dict):
        return ValidationError("line", values, "must be a JSON object")
    try:
        if b"\\ud" in line.lower():  # escapes of surrogates, in pairs or not
            for name, value in values.items():
                _check_text(name, value)
        kind = TraceOutcome if "outcome" in values and "tool" not in values else TraceRecord
        return kind.model_validate(values, context={"zone": zone})
    except pydantic.ValidationError as error:
        return _of_pydantic(error)
    except ValidationError as error:
        return error


def _check_text(name: str, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError(name, value, "cannot be stored because it holds half of a surrogate pair") from None


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _of_pydantic(error: pydantic.ValidationError) -> ValidationError:
    """Return the first problem that pydantic found."""
    problem = error.errors(include_url=False)[0]
    rule = rule_of(problem["msg"])
    if problem["loc"] == ("outcome",) and isinstance(problem["input"], dict):
        return ValidationError("outcome", json.dumps(problem["input"], default=str), rule)
    if not problem["loc"]:  # a problem of the whole record; the only one is an end before the start
        return ValidationError("ended_at", problem["input"]["ended_at"], rule)
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return ValidationError(field, None, rule)
    return ValidationError(field, problem["input"], "must not be null" if problem["input"] is None else rule)
