"""The reference shows attributes by what is written beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentmodel
from agentmodel.config import Settings
from scripts import public_names

pytest.importorskip("griffe", reason="the documentation's tools are not installed here")
import griffe  # installed, as the line before finds

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the reference reads it."""
    extensions = griffe.load_extensions(str(ROOT / "scripts" / "griffe_fields.py"))
    loaded = griffe.load("agentmodel", search_paths=[Path(agentmodel.__file__).parents[1]], extensions=extensions)
    assert isinstance(loaded, griffe.Module)
    return loaded


def told(package: griffe.Module, path: str) -> str:
    """The docstring that the reference shows."""
    docstring = package[path].docstring
    return "" if docstring is None else str(docstring.value)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_has_its_meaning_variable_and_default(package: griffe.Module, name: str) -> None:
    """Every setting says what it means, which variable sets it, and what it is when nobody does."""
    field = Settings.model_fields[name]
    text = told(package, f"config.Settings.{name}")

    assert field.description
    assert field.description in text
    assert f"`AGENTMODEL_{name.upper()}`" in text
    assert ("Not set by default" if field.default is None else f"Default: `{field.default!r}`") in text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dynamo.models.Agent.score", "Stored as `Score`: a number from 0 to below 10⁸, rounded"),
        ("dynamo.models.Agent.agent_id", "Id that starts with `AGT`; a part of a key."),
        ("dynamo.models.Agent.index_partition", "Partition key of the index (`GSI1_PK`), made of `domain_id`"),
        ("redshift.models.AgentRow.agent_id", "Column `agentid`, `Varchar(ID)`; a part of the primary key."),
        ("exceptions.JournalFull.answers", "The result of each entry"),
        ("exceptions.JournalFull.code", "Stable code of the error"),
        ("access._receipt.Receipt.entity", "The entity as written"),
        ("keys.SESSION", "Sort key of a session"),
        ("exceptions", "| `AM-203` | [TableNotFound][agentmodel.exceptions.TableNotFound] | DynamoDB answers, but"),
    ],
)
def test_a_member_says_what_is_written_beside_it(package: griffe.Module, path: str, text: str) -> None:
    """Entities, columns, dataclasses, errors and keys are documented without a docstring of their own."""
    assert text in told(package, path)


def test_every_public_attribute_is_documented(package: griffe.Module) -> None:
    """No attribute of a public class, and no public constant, is left out of the reference."""
    untold = []
    for module, path in public_names.public_modules().items():
        if module in {"agentmodel", "agentmodel.aio"}:  # names of other modules; twins
            continue
        for name in public_names.declared(path) or ():
            member = package[f"{module}.{name}".removeprefix("agentmodel.")]
            below = [each for each in member.members.values() if each.is_attribute] if member.is_class else [member]
            untold += [each.path for each in below if not each.name.startswith("_") and not each.has_docstrings]

    assert [] == [path for path in untold if not path.endswith(".model_config")]  # pydantic's, not a field
