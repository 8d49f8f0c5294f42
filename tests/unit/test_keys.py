"""The page about keys tells what is true."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmodel import keys
from agentmodel.exceptions import ValidationError

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
        counts[keys.spread(user, 10)] += 1

    assert {0} == {keys.spread(user, 1) for user in users}
    assert [4, 0, 4] == [keys.spread(user, 10) for user in ("USR001", "USR002", "USR003")]
    assert 800 < min(counts) <= max(counts) < 1200
