"""Any value has a text: each test is a sentence of `agentmodel._values.text`."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmodel._values.counts import MAX_COUNT, count_or_none
from agentmodel._values.text import TEXT_BYTES, error_text, error_type, json_text, storable_text
from tests.hostile import HOSTILE, NoRepr, Odd, deep, endless

# Hypothesis itself asks for the class of what it draws
hostile = st.sampled_from([what for what in HOSTILE if what != "no class"]).map(lambda what: HOSTILE[what])
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals()
keys = st.text() | st.integers() | st.floats() | st.none() | st.tuples(st.integers()) | st.builds(NoRepr)
values = st.recursive(
    plain | hostile,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.tuples(inner),
    max_leaves=12,
)


@given(values)
def test_every_value_has_a_text_that_every_store_takes(value: Any) -> None:
    """The text is Unicode, short enough for the warehouse, and None for None only."""
    text = storable_text(value)

    assert (value is None) == (text is None)
    assert text is None or len(text.encode()) <= TEXT_BYTES


@given(values)
def test_every_value_has_json(value: Any) -> None:
    """The JSON is valid: NaN and the infinities, which are no JSON, are text in it."""

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    json.loads(json_text(value), parse_constant=no_constant)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda one: st.lists(one, max_size=3))
)
def test_json_stays_as_it_is(value: Any) -> None:
    """A value that is JSON is read back as it was."""
    assert value == json.loads(json_text(value))


@pytest.mark.parametrize("what", HOSTILE)
def test_the_rest_is_told(what: str) -> None:
    """What has no text takes nothing from its neighbours."""
    told = json.loads(json_text({"before": 1, "odd": HOSTILE[what], "after": [2]}))

    assert {"before": 1, "after": [2]} == {name: told[name] for name in ("before", "after")}
    assert "odd" in told


def test_what_is_left_out_is_marked() -> None:
    """In angle brackets stands what there was."""
    assert '"<NoRepr, no text: RuntimeError>"' == storable_text(NoRepr())
    assert '{"place": "stadium", "again": "<dict, contains itself>"}' == storable_text(endless())
    assert "<list, more than 100 levels deep>" in str(storable_text(deep(100_000)))
    assert '"<int, about 5001 digits>"' == storable_text(10**5000)
    assert '"<binary, 2 bytes, sha256 2689367b205c>"' == storable_text(b"ok")


def test_an_interruption_passes() -> None:
    """Ctrl-C while a text is made is no fault of the value."""

    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storable_text(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        storable_text({"in": [Interrupted()]})


@given(st.one_of(st.decimals(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62).map(np.int64)))
def test_numbers_are_numbers(number: Any) -> None:
    """A Decimal or a number of numpy is the number that it is, to the last digit."""
    assert number == json.loads(json_text(number), parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize(
    "block",
    [
        lambda data: {"type": "image", "data": data, "mimeType": "image/png"},
        lambda data: {"type": "image", "source_type": "base64", "data": data, "mime_type": "image/png"},
        lambda data: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        lambda data: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        lambda data: {"type": "resource", "resource": {"blob": data, "mimeType": "image/png"}},
        lambda data: {"image": {"format": "image/png", "source": {"bytes": base64.b64decode(data)}}},
        lambda data: f"![chart](data:image/png;base64,{data})",
    ],
)
@pytest.mark.parametrize("size", [300, 1_000_000])
def test_media_do_not_displace_text(block: Any, size: int) -> None:
    """An image becomes its type, size and hash, and the text after it is kept."""
    image = bytes(range(256)) * (size // 256 + 1)
    text = str(storable_text([block(base64.b64encode(image).decode()), {"type": "text", "text": "the answer is 42"}]))

    assert "the answer is 42" in text
    assert f"{len(image)} bytes, sha256 {hashlib.sha256(image).hexdigest()[:12]}>" in text
    assert len(text) < 400


def test_a_long_word_is_no_image() -> None:
    """A text that could be base64 stays a text, where nothing says that it is an image."""
    word = "ACGT" * 500

    assert word in str(storable_text({"gene": word, "data": word}))
    assert word == storable_text(word)


def test_errors_without_a_text() -> None:
    """An exception whose text cannot be read is named; one without a text likewise."""
    assert "<Odd, no text: AttributeError>" == error_text(Odd())
    assert "ValueError" == error_text(ValueError())
    assert "caf?" == error_text(ValueError("caf\ud83d"))


@given(st.integers(0, MAX_COUNT))
@example(0)
def test_counts(number: int) -> None:
    """A count is taken from every type of number that has it."""
    for value in (number, Decimal(number), np.int64(number), float(number)):
        assert number == count_or_none("input_tokens", value)
    assert count_or_none("input_tokens", None) is None


@pytest.mark.parametrize(
    "value",
    [-1, 1.5, float("nan"), float("inf"), True, "12", MAX_COUNT + 1, 10**5000, np.int64(-1), NoRepr(), [1]],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_count_is_left_out(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A negative or broken count is None, and the log says which."""
    with caplog.at_level(logging.WARNING):
        taken = count_or_none("input_tokens", value)

    assert taken is None
    assert "recorded without input_tokens" in caplog.text


@given(st.text() | st.from_regex(r"[A-Za-z_ ]{1,20}[0-9]{0,20}", fullmatch=True))
@example("card 4111 of Alice")
@example("Card4111111111111111")
@example("a.<locals>.b c")
def test_an_error_type_is_a_name_or_a_code(given: str) -> None:
    """The type of an error is ASCII without blanks and long numbers, at most 100 characters, and stays what it is."""
    kind = error_type(given)

    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", kind)
    assert not re.search(r"[0-9]{6}", kind)
    assert kind == error_type(kind)
