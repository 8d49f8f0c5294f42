"""Bytes in Valkey are data, versioned, and nothing else."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel.cache._item_codec import (
    Item,
    decode,
    decode_many,
    encode,
    encode_many,
    expires_at,
    sort_key,
    version_of,
    version_text,
)
from agentmodel.exceptions import ValidationError

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(-(10**30), 10**30).map(str)
scalars = st.one_of(
    texts.map(lambda x: {"S": x}),
    numbers.map(lambda x: {"N": x}),
    st.binary(max_size=20).map(lambda x: {"B": x}),
    st.booleans().map(lambda x: {"BOOL": x}),
    st.just({"NULL": True}),
    st.lists(texts, min_size=1, max_size=3).map(lambda x: {"SS": x}),
    st.lists(st.binary(max_size=8), min_size=1, max_size=3).map(lambda x: {"BS": x}),
)
values: st.SearchStrategy[dict[str, Any]] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda x: {"L": x}),
        st.dictionaries(texts, inner, max_size=3).map(lambda x: {"M": x}),
    ),
    max_leaves=6,
)
items: st.SearchStrategy[Item] = st.dictionaries(texts, values, max_size=5)
versions = st.integers(0, 10**20 - 1)


class TestRoundTrip:
    @given(items, versions)
    def test_item(self, item: Item, version: int) -> None:
        """What is written is read, binary values and any script included."""
        assert (item, version) == decode(encode(item, version))

    @given(st.lists(items, max_size=4), versions)
    def test_list(self, many: list[Item], version: int) -> None:
        """A list of items likewise."""
        assert (many, version) == decode_many(encode_many(many, version))


class TestVersions:
    @given(versions, versions)
    def test_text_order_is_number_order(self, one: int, other: int) -> None:
        """Versions compare as text as they do as numbers, also above 2**53."""
        assert (one < other) == (version_text(one) < version_text(other))

    @pytest.mark.parametrize("version", [-1, 10**20])
    def test_bounds(self, version: int) -> None:
        """A version that does not fit twenty digits is refused."""
        with pytest.raises(ValidationError, match="version"):
            encode({}, version)


class TestDamage:
    @given(items, versions, st.data())
    def test_any_cut_or_flipped_byte_is_found(self, item: Item, version: int, data: st.DataObject) -> None:
        """A value of which a byte of the content was cut off or changed does not decode."""
        whole = bytearray(encode(item, version))
        at = data.draw(st.integers(21, len(whole) - 1))

        assert decode(bytes(whole[:at])) is None

        whole[at] ^= data.draw(st.integers(1, 255))

        assert decode(bytes(whole)) is None

    @pytest.mark.parametrize("value", [b"", b"{}", pickle.dumps({"a": 1}), b"\xff" * 60, encode_many([], 1)])
    def test_foreign_bytes(self, value: bytes) -> None:
        """Bytes of anyone else are nothing; no pickle is ever loaded."""
        assert decode(value) is None

    def test_item_is_no_list(self) -> None:
        """One item is not read as a list."""
        assert decode_many(encode({}, 1)) is None

    @pytest.mark.parametrize("value", [{"A": {"N": object()}}, {"A": {"N": float("nan")}}])
    def test_what_is_no_data_is_refused(self, value: Any) -> None:
        """What DynamoDB could not hold is refused before it is sent."""
        with pytest.raises(ValidationError, match="DynamoDB JSON"):
            encode(value, 1)


class TestAttributes:
    def test_version_and_expiry(self) -> None:
        """Version and expiry are read from their attributes; the sample's items have neither."""
        item: Item = {"Version": {"N": "12"}, "ExpiresAt": {"N": "99"}}

        assert (12, 99, 0, None) == (version_of(item), expires_at(item), version_of({}), expires_at({}))
        assert expires_at({"ExpiresAt": {"N": "soon"}}) is None

    def test_sort_key_is_needed(self) -> None:
        """An item without a text SK is named."""
        with pytest.raises(ValidationError, match="text SK"):
            sort_key({"PK": {"S": "A"}})
