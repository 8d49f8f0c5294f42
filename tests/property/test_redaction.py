"""Redaction: what it must never find, what it must always find, and what it must never break."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentmodel import keys
from agentmodel._redaction import Redaction, restored
from agentmodel.privacy import PatternRedactor
from tests.secret_texts import FORMS

REDACTION = Redaction(PatternRedactor())
times = st.datetimes(min_value=datetime(2001, 9, 10), max_value=datetime(2033, 5, 17), timezones=st.just(UTC))  # noqa: DTZ001  # `timezones` gives the zone
ordinary = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda one: one.hex),
    times.map(datetime.isoformat),
    times.map(lambda at: keys.format_time("at", at)),
    times.map(lambda at: f"{at:%Y%m%d%H%M%S}"),
    times.map(lambda at: str(int(at.timestamp()))),
    times.map(lambda at: str(int(at.timestamp() * 1000))),
    times.map(lambda at: str(int(at.timestamp() * 1_000_000))),
    times.map(lambda at: str(int(at.timestamp()) * 10**9)),
    times.map(keys.new_session_id),
    st.integers(-(10**9), 10**9).map(str),
    st.floats(-1e6, 1e6).map(repr),
    st.binary(min_size=20, max_size=32).map(bytes.hex),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(lambda place: f"{place[0]:.6f}, {place[1]:.6f}"),
)
"""What programs write everywhere."""

secrets = st.sampled_from([secret for _, secret in FORMS.values()])
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_", max_size=5), inner, max_size=3),
    max_leaves=8,
)


def planted(secret: str) -> st.SearchStrategy[Any]:
    """JSON with a secret in some of its texts."""
    texts = st.sampled_from([secret, f"a {secret} b", json.dumps({"in": secret}), f"\n{secret}"])
    return st.recursive(
        texts,
        lambda inner: st.lists(inner | plain_values, min_size=1, max_size=3) | st.fixed_dictionaries({"a": inner}),
    )


def shape(value: Any) -> Any:
    """A value of JSON without its texts."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return "text" if isinstance(value, str) else value


@given(ordinary, st.sampled_from(["{}", "id {} is", '{{"id": "{}"}}', "[{}]", "at={}&x", "저장 {}에"]))
def test_what_programs_write_is_no_find(text: str, written: str) -> None:
    """Ids, times, hashes and measured numbers stay as they are."""
    assert written.format(text) == REDACTION.text(written.format(text))


@given(st.data())
def test_json_stays_json_of_the_same_shape(data: st.DataObject) -> None:
    """Nothing of a secret is left in any JSON; it stays valid, and redacting it again changes nothing."""
    secret = data.draw(secrets)
    value = data.draw(planted(secret))
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))

    redacted = REDACTION.text(text)

    assert shape(value) == shape(json.loads(redacted))
    assert json.dumps(secret)[1:-1] not in redacted
    assert redacted == REDACTION.text(redacted)


@given(plain_values)
def test_json_without_a_find_stays_to_the_letter(value: Any) -> None:
    """A value in which nothing is found is the same object."""
    if json.dumps(value) == REDACTION.text(json.dumps(value)):
        assert value is REDACTION.value(value)


@given(st.text(max_size=200))
def test_any_text_can_be_redacted(text: str) -> None:
    """No text makes it fail, and to redact twice is to redact once."""
    once = REDACTION.text(text)

    assert once == REDACTION.text(once)


@given(st.data())
def test_what_was_not_edited_is_restored(data: st.DataObject) -> None:
    """A person who changes nothing gives back the arguments of the call."""
    original = data.draw(planted(data.draw(secrets)))
    shown = REDACTION.value(original)

    assert original == restored(shown, shown=shown, original=original)
    assert {"a": original, "b": 2} == restored(
        {"a": shown, "b": 2}, shown={"a": shown, "b": 1}, original={"a": original, "b": 1}
    )
