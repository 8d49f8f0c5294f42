"""Trace files hold for all input: what is written is read, and nothing that is not a record becomes one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel._values.counts import MAX_COUNT
from agentmodel.traces import BadLine, TraceRecord, read

characters = st.characters(exclude_categories=["Cs"])
text = st.text(characters)
name = st.text(characters, min_size=1)
count = st.integers(0, MAX_COUNT)
moment = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001  # Hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001  # likewise
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def records(draw: st.DrawFn) -> TraceRecord:
    """Records as a program would write them."""
    started = draw(st.none() | moment)
    lasting = draw(st.none() | st.timedeltas(timedelta(0), timedelta(days=1)))
    return TraceRecord(
        domain=draw(name),
        agent=draw(name),
        user=draw(st.none() | name),
        session=draw(name),
        step=draw(count),
        tool=draw(name),
        arguments=draw(st.dictionaries(text, json_values, max_size=3)),
        result=draw(json_values),
        success=draw(st.booleans()),
        error_type=draw(st.none() | text),
        started_at=started,
        ended_at=None if started is None or lasting is None else started + lasting,
        session_success=draw(st.none() | st.booleans()),
        request=draw(st.none() | text),
        category=draw(st.none() | text),
        input_tokens=draw(st.none() | count),
        cached_tokens=draw(st.none() | count),
        model_name=draw(st.none() | st.just("gpt-5")),
        output_tokens=draw(st.none() | count),
        request_input_tokens=draw(st.none() | count),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write every example into."""
    return tmp_path_factory.mktemp("traces") / "calls.jsonl"


class TestWhatIsWrittenIsRead:
    """A record written as JSON and read again is the same record."""

    @given(expected=st.lists(records(), max_size=3), ascii_only=st.booleans())
    def test_round_trip(self, path: Path, expected: list[TraceRecord], ascii_only: bool) -> None:
        """Escaped or not, in any number, in order, at the same moments."""
        lines = [json.dumps(record.model_dump(mode="json"), ensure_ascii=ascii_only) for record in expected]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")

        assert expected == list(read(path, timezone="Asia/Seoul"))


class TestNothingElseBecomesARecord:
    """Any bytes give records and bad lines, never an error, and one answer a line."""

    @given(
        lines=st.lists(
            st.binary(max_size=60).map(lambda line: line.translate(None, b"\n\x1f") or b"\0"), min_size=1, max_size=4
        )
    )
    def test_noise_is_bad_lines(self, path: Path, lines: list[bytes]) -> None:
        """Noise is told line by line (noise without 0x1f, so that it never begins as gzip does)."""
        path.write_bytes(b"\n".join(lines))
        spoken = [number for number, line in enumerate(lines, 1) if line.strip()]

        found = list(read(path))

        assert spoken == [bad.line for bad in found if isinstance(bad, BadLine)]

    @given(data=json_values)
    def test_json_that_is_no_record_is_a_bad_line(self, path: Path, data: object) -> None:
        """Well-formed JSON without the fields of a record is refused."""
        path.write_text(json.dumps(data), encoding="utf-8")

        (found,) = read(path)

        assert isinstance(found, BadLine)
