"""Trace files: what is read, what is refused, and how it is told."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydantic
import pytest

from agentmodel.exceptions import ValidationError
from agentmodel.traces import _MAX_LINE, BadLine, TraceRecord, read

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "traces"

CALL: dict[str, Any] = {
    "domain": "cafes",
    "agent": "finder",
    "user": "mina",
    "session": "s-1",
    "step": 1,
    "tool": "search",
    "arguments": {"near": "stadium"},
    "success": True,
}


def write(folder: Path, *lines: str | bytes | dict[str, Any], name: str = "calls.jsonl") -> Path:
    """A file of these lines."""
    path = folder / name
    told = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(told) + b"\n")
    return path


def only(path: Path, **options: Any) -> TraceRecord | BadLine:
    """The one thing a file holds."""
    (found,) = read(path, **options)
    return found


def test_a_record_has_its_values(tmp_path: Path) -> None:
    """What the line says is what the record has, and what it leaves out is None."""
    record = only(write(tmp_path, CALL))

    assert TraceRecord(**CALL) == record
    assert isinstance(record, TraceRecord)
    assert (None, None, None) == (record.started_at, record.session_success, record.input_tokens)


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    """A packed file is read whatever it is called."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(gzip.compress(json.dumps(CALL).encode()))

    assert TraceRecord(**CALL) == only(path)


def test_a_name_that_lies_is_refused(tmp_path: Path) -> None:
    """A file named .gz that is not gzip is named, with the mend."""
    path = write(tmp_path, CALL, name="calls.jsonl.gz")

    with pytest.raises(ValidationError, match=r"calls\.jsonl\.gz.*must be gzip.*: pack it, or rename it"):
        list(read(path))


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    """A path that leads to no file gives one line that names it."""
    with pytest.raises(ValidationError, match="cannot be read"):
        list(read(tmp_path / name))


def test_an_unknown_zone_is_refused_before_reading() -> None:
    """A zone that does not exist is refused by name, before the file is touched."""
    with pytest.raises(ValidationError, match=r"timezone \('Mars/Olympus'\) must be a name"):
        read("does-not-matter.jsonl", timezone="Mars/Olympus")


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2025-06-14T09:00:00", "UTC", datetime(2025, 6, 14, 9, tzinfo=UTC)),
        ("2025-06-14T09:00:00", "Asia/Seoul", datetime(2025, 6, 14, 0, tzinfo=UTC)),
        ("2025-06-14T09:00:00.123456+02:00", "Asia/Seoul", datetime(2025, 6, 14, 7, 0, 0, 123456, tzinfo=UTC)),
        ("2025-06-14T09:00:00Z", "Asia/Seoul", datetime(2025, 6, 14, 9, tzinfo=UTC)),
    ],
)
def test_times_become_utc(tmp_path: Path, text: str, zone: str, expected: datetime) -> None:
    """A time without an offset is read in the given zone; one with an offset keeps its moment."""
    record = only(write(tmp_path, CALL | {"started_at": text}), timezone=zone)

    assert isinstance(record, TraceRecord)
    assert expected == record.started_at
    assert record.started_at is not None
    assert timedelta(0) == record.started_at.utcoffset()


def test_a_record_made_in_python_takes_no_naive_time() -> None:
    """Outside of a file there is no zone to read a naive time in, so it is refused."""
    with pytest.raises(pydantic.ValidationError, match="must have an offset from UTC"):
        TraceRecord(**CALL, started_at=datetime(2025, 6, 14))  # noqa: DTZ001  # that is the point


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        (b"\xff\xfe", "line", "must be UTF-8, but byte 1 is 0xff"),
        ("{", "line", "must be JSON: "),
        ('{"step": NaN}', "line", "NaN is not a JSON number"),
        ("[" * 100_000, "line", "must not be nested"),
        ("[1]", "line", "([1]) must be a JSON object"),
        ({k: v for k, v in CALL.items() if k != "tool"}, "tool", "must be given"),
        (CALL | {"success": "yes"}, "success", "('yes') must be"),
        (CALL | {"success": 1}, "success", "(1) must be"),
        (CALL | {"success": None}, "success", "must not be null"),
        (CALL | {"agent": ""}, "agent", "('') must have"),
        (CALL | {"user": ""}, "user", "('') must have"),
        (CALL | {"step": -1}, "step", "(-1) must be"),
        (CALL | {"step": "1"}, "step", "('1') must be"),
        (CALL | {"step": True}, "step", "(True) must be"),
        (CALL | {"input_tokens": 1.5}, "input_tokens", "(1.5) must be"),
        (CALL | {"arguments": [1]}, "arguments", "must be"),
        (CALL | {"started_at": "yesterday"}, "started_at", "ISO 8601"),
        (CALL | {"started_at": 1749891600}, "started_at", "ISO 8601"),
        (CALL | {"ended_at": "0001-01-01T00:00:00+14:00"}, "ended_at", "between the years"),
        (
            CALL | {"started_at": "2025-06-14T09:00:01Z", "ended_at": "2025-06-14T09:00:00Z"},
            "ended_at",
            "before started_at",
        ),
        (json.dumps(CALL).replace("stadium", "\\ud800"), "arguments", "surrogate"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(
    tmp_path: Path, line: str | bytes | dict[str, Any], field: str, problem: str
) -> None:
    """A bad line is told with file, line, field and problem; its neighbours are read."""
    path = write(tmp_path, CALL, line, CALL)

    before, bad, after = read(path)

    assert TraceRecord(**CALL) == before == after
    assert isinstance(bad, BadLine)
    assert (str(path), 2, field) == (bad.file, bad.line, bad.field)
    assert problem in bad.problem
    assert "\n" not in str(bad)


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    """A strict reading raises the error that names file, line and field, after the records before it."""
    path = write(tmp_path, CALL, CALL | {"success": "yes"})
    records = read(path, strict=True)

    assert TraceRecord(**CALL) == next(records)
    with pytest.raises(ValidationError, match=r"calls\.jsonl, line 2: success \('yes'\) must be"):
        next(records)


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    """Blank lines give nothing, and the numbers of the others stay those of an editor."""
    (bad,) = read(write(tmp_path, "", "  ", "{"))

    assert isinstance(bad, BadLine)
    assert 3 == bad.line


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    """A file saved by an editor on Windows is a trace file too."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CALL).encode() + b"\r\n")

    assert TraceRecord(**CALL) == only(path)


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    """A file may carry more than is read."""
    assert TraceRecord(**CALL) == only(write(tmp_path, CALL | {"temperature": 0.2}))


def test_surrogate_pairs_are_text(tmp_path: Path) -> None:
    """An escaped character outside the basic plane is that character."""
    record = only(write(tmp_path, json.dumps(CALL | {"request": "☕😀"})))

    assert isinstance(record, TraceRecord)
    assert "☕😀" == record.request


def test_a_line_has_a_bound(tmp_path: Path) -> None:
    """A line beyond the bound is told and passed over without being kept in memory."""
    path = write(tmp_path, b'{"result": "' + b"x" * _MAX_LINE + b'"}', CALL)

    bad, record = read(path)

    assert isinstance(bad, BadLine)
    assert f"must have at most {_MAX_LINE} bytes" in bad.problem
    assert TraceRecord(**CALL) == record


@pytest.mark.parametrize("damage", ["cut off", "garbled"])
def test_damaged_gzip_ends_the_reading_with_a_word(tmp_path: Path, damage: str) -> None:
    """What can be read before the damage is read, and the damage is told as a bad line."""
    path = tmp_path / "calls.jsonl.gz"
    packed = gzip.compress(b"".join(json.dumps(CALL | {"step": n}).encode() + b"\n" for n in range(2_000)))
    path.write_bytes(packed[:-20] if damage == "cut off" else packed[:-8] + b"\0" * 8)

    *records, bad = read(path)

    assert records
    assert all(isinstance(record, TraceRecord) for record in records)
    assert isinstance(bad, BadLine)
    assert "cut off or damaged" in bad.problem


@pytest.mark.parametrize(
    ("name", "lines"), [("retail", 15_675), ("airline", 3_605), ("telecom", 1_213), ("medical_fhir", 214)]
)
def test_real_traces_are_read_whole(name: str, lines: int) -> None:
    """Every line of the files of real runs is a record."""
    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the traces of real runs are not at {path.parent}")

    records = list(read(path, strict=True))

    assert lines == len(records)
    assert {name} == {record.domain for record in records}
