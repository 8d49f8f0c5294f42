"""The prose of the pages is checked, and the check notices what it is for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
OPENING = "# Title\n\nFor engineers who test. It gives figures.\n\n"


@pytest.fixture(scope="module")
def prose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose", ROOT / "scripts" / "prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_reads_well(prose: ModuleType) -> None:
    """Each page says first who needs it and what it gives, and has no word or sentence that the check refuses."""
    pages = prose.pages()

    assert len(pages) > 60
    assert [] == [finding for page in pages for finding in prose.findings(page)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# Title\n\n## First section\n\nFor engineers.\n", "does not begin with a paragraph"),
        ("# Title\n\n```console\nmake\n```\n\nFor engineers.\n", "does not begin with a paragraph"),
        ("# Title\n\n- for engineers\n", "does not begin with a paragraph"),
        ("# Title\n\nThe history is kept in one table.\n", "begins without its reader"),
        (OPENING + "Some of it is kept near.\n", "“kept near”: write cached"),
        (OPENING + "| a | in order to b |\n", "“in order to”: write to"),
        (OPENING + "- One.\n- Two of them, " + "very " * 40 + "long.\n", "page.md:6: a sentence of"),
        (OPENING + "Half of a sentence\n" + "and more " * 20 + ".\n", "page.md:5: a sentence of"),
    ],
)
def test_a_fault_is_found(
    text: str, found: str, prose: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening without a reader, a word with a better one, and a long sentence are told with file and line."""
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    [finding] = prose.findings(page)

    assert found in finding


def test_code_is_no_prose(prose: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in code, in a fence or as the address of a link is not looked at."""
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        OPENING + "`kept near` is [here](kept-near/kept near.md).\n\n```text\nkept near\n```\n", encoding="utf-8"
    )

    assert [] == list(prose.findings(page))
