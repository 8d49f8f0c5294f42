"""The Korean edition: no page is behind its English page, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "ko").glob("*.md"))


@pytest.fixture(scope="module")
def korean() -> ModuleType:
    spec = importlib.util.spec_from_file_location("korean", ROOT / "scripts" / "korean.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_was_compared_with_its_english_page(page: Path, korean: ModuleType) -> None:
    """Whoever changes an English page looks at the Korean one, and says so with `scripts/korean.py --seen`."""
    assert None is korean.not_seen(page)


def test_a_changed_english_page_is_noticed(korean: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more line in an English page makes its Korean page one that was not looked at."""
    shutil.copytree(ROOT / "docs" / "ko", tmp_path / "ko")
    shutil.copy(ROOT / "docs" / "quickstart.md", tmp_path)
    monkeypatch.setattr(korean, "DOCS", tmp_path)
    before = korean.not_seen(tmp_path / "ko" / "quickstart.md")
    with (tmp_path / "quickstart.md").open("a", encoding="utf-8") as file:
        file.write("\nOne more line.\n")
    after = korean.not_seen(tmp_path / "ko" / "quickstart.md")

    assert None is before
    assert "compare both" in str(after)
    assert "does not exist" in str(korean.not_seen(tmp_path / "ko" / "plans.md"))


def test_every_page_is_in_the_navigation() -> None:
    """Each Korean page can be reached, and is Korean."""
    navigation = (ROOT / "mkdocs.ko.yml").read_text(encoding="utf-8")

    assert [] == [page.name for page in PAGES if f": {page.name}\n" not in navigation]
    assert [] == [page.name for page in PAGES if len(re.findall("[가-힣]", page.read_text(encoding="utf-8"))) < 300]
