"""The page about keys tells what is true."""

from __future__ import annotations

import doctest
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmodel import keys
from agentmodel.exceptions import KeyFormatError, ValidationError

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_hold() -> None:
    """Every example of docs/keys.md prints what the page says."""
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    text = "\n".join(blocks)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(doctest.DocTestParser().get_doctest(text, {}, "docs/keys.md", str(PAGE), 0))

    assert 0 == result.failed
    assert 20 < result.attempted


def test_the_page_has_every_format() -> None:
    """The table of docs/keys.md has each format once, in the order of the module."""
    formats = [name for name, value in vars(keys).items() if isinstance(value, keys.KeyFormat)]
    told = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(formats) == sorted(told)


def test_the_examples_of_the_table_are_keys() -> None:
    """Each example key of the page is parsed by its format."""
    for name, examples in re.findall(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|", PAGE.read_text("utf-8"), re.MULTILINE):
        for example in re.findall(r"`([^`]+)`", examples):
            key_format = getattr(keys, name)
            assert example == key_format.build(*key_format.parse(example))


@pytest.mark.parametrize(
    ("build", "value", "field"),
    [
        (keys.AGENT.build, 1, "agent_id"),
        (keys.AGENT.build, None, "agent_id"),
        (keys.MAPPING.build, b"x", "category"),
        (keys.MAPPING.build, "", "category"),
        (keys.REVIEW_DUE.build, "20250614", "due"),
        (keys.new_session_id, "now", "started"),
    ],
)
def test_values_of_another_type_are_refused(build: Callable[[Any], str], value: Any, field: str) -> None:
    """An id, a text or a time that is something else raises with its field."""
    with pytest.raises(ValidationError) as caught:
        build(value)

    assert field == caught.value.field


def test_spreading_is_stable_and_even() -> None:
    """A user's mappings always lie in the same partition, and partitions fill evenly."""
    users = [f"USR{number:05d}" for number in range(10_000)]
    counts = [0] * 10
    for user in users:
        counts[keys.mapping_partition(user, 10)] += 1

    assert {0} == {keys.mapping_partition(user, 1) for user in users}
    assert [4, 0, 4] == [keys.mapping_partition(user, 10) for user in ("USR001", "USR002", "USR003")]
    assert 800 < min(counts) <= max(counts) < 1200


def test_the_id_of_a_name() -> None:
    """An id is returned as it is; a name becomes one; what is neither is refused under the name of the value."""
    assert ["USR001", "USRada", "USRUSR"] == [keys.id_of("USR", name) for name in ("USR001", "ada", "USR")]
    assert keys.id_of("USR", "a longer name").startswith("USRa-longer-name~")
    assert "AGTsupport-finder~86eb13052ef8" == keys.id_of("AGT", "finder", "support")
    assert keys.stable_id("TL", "a~b").startswith("TLa-b~")
    for name in ("", " ", 5, None, " mina", "mina\n", "mi\tna", "USR a", "AGT001"):
        with pytest.raises(ValidationError, match=r"^user "):
            keys.id_of("USR", name, field="user")


def test_the_id_of_a_name_that_a_framework_gives() -> None:
    """It is the same, and one that only begins like an id is a name too, because a run must not end of it."""
    for name in ("USR001", "ada", "USR", "a longer name"):
        assert keys.id_of("USR", name) == keys.lenient_id_of("USR", name)
    assert keys.lenient_id_of("USR", "USR a b") == keys.stable_id("USR", "USR a b")


def test_the_id_of_an_imported_session() -> None:
    """It is that of all the names there, and sorts by the start."""
    names = [("retail", "0247"), ("retail", "0248"), ("0247", "retail")]

    assert "SESS0-001197babf00" == keys.imported_session_id(None, "retail", "0247")
    assert 3 == len({keys.imported_session_id(None, *each) for each in names})
    assert "SESS20250614000000000000-001197babf00" == keys.imported_session_id(
        datetime(2025, 6, 14, tzinfo=UTC), "retail", "0247"
    )


def test_whose_a_partition_is() -> None:
    """A partition of a user has the user and the rest, also where an outage's copy is about it."""
    assert [("USR001", "SESS1"), ("USR001", "SESS1"), ("USR001", ""), ("", ""), ("", "")] == [
        keys.owner_of(partition)
        for partition in ("USR001#SESS1", "OUTAGE#USR001%23SESS1", "USR001", "AGT001", "AGT001#SESS1")
    ]
    assert hashlib.md5(b"USR001#METADATA", usedforsecurity=False).hexdigest() == keys.item_digest("USR001", "METADATA")


def test_an_attempt_without_padding() -> None:
    """It is read from 1 up to nine digits; anything else is refused."""
    assert ("PRC001", "AGT001", "TL001", 2) == keys.parse_unpadded_attempt("PRC001#AGT001#TL001#2")
    for attempt in ("0", "", "x", "1234567890", "-1"):
        with pytest.raises(KeyFormatError, match="must end in an attempt number from 1 up"):
            keys.parse_unpadded_attempt(f"PRC001#AGT001#TL001#{attempt}")


def test_the_bounds_of_values_and_keys() -> None:
    """A score of minus zero is that of zero; keys are read up to their whole length; errors name the value."""
    long = "x" * 1000

    assert "00000000.000000" == keys.format_score(-0.0)
    assert (long,) == keys.TEXT.parse(keys.TEXT.build(long))
    with pytest.raises(ValidationError, match=r"^number "):
        keys.format_number(-1)
    with pytest.raises(ValidationError, match=r"^score "):
        keys.format_score(-1.0)
    with pytest.raises(KeyFormatError, match=r"^time "):
        keys.parse_time("x")
