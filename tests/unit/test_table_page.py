"""The page about the table tells what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentmodel import keys
from agentmodel.dynamo import models
from agentmodel.dynamo.entity import Entity

PAGE = (Path(__file__).parents[2] / "docs" / "table.md").read_text("utf-8")
KINDS = [
    kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, Entity) and kind is not Entity
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_attribute_is_told(kind: type[Entity]) -> None:
    """Each entity has a section with exactly its attributes, under the names they are stored by."""
    _, _, section = PAGE.partition(f"\n### {kind.__name__}\n")
    section = section.partition("\n### ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (?:`(\w+)` \([SN]\)|in the key) \|", section, re.MULTILINE))
    common = {"version", "expires_at"}

    assert f"`{kind.kind}`" in section
    assert {name: field.stored for name, field in kind.layout.fields.items() if name not in common} == told


def test_every_kind_is_in_the_picture() -> None:
    """The picture of the item collections has every kind, and its sort keys are keys."""
    picture = (Path(__file__).parents[2] / "docs" / "assets" / "collections.svg").read_text("utf-8")
    table = picture.partition("index GSI1")[0]

    assert [] == [kind.__name__ for kind in KINDS if kind.__name__ not in table]
    assert "(assets/collections.svg)" in PAGE
    for call in re.findall(r"PRC\d+#[^<]+", table):
        assert call == keys.EXECUTION.build(*keys.EXECUTION.parse(call))
    for score in re.findall(r"AGTSCORE#[^<]+", picture):
        assert score == keys.AGENT_SCORE.build(*keys.AGENT_SCORE.parse(score))
