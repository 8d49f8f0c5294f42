"""The Korean edition: no page is behind its English page, and links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "ko").glob("*.md"))
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("ko_*.py"))


class _NoText(ast.NodeTransformer):
    """Leave the words out of a program: texts, and texts with values in them."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant("")


def _code(path: Path) -> list[str]:
    """The lines of a program without its words, and without those that print a plan's words in a language."""
    lines = ast.unparse(_NoText().visit(ast.parse(path.read_text(encoding="utf-8")))).splitlines()
    return [line for line in lines if "as_prompt(" not in line and "plan.reasons" not in line]


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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_the_english_one_with_korean_data(path: Path) -> None:
    """A Korean example has the code of the English one; its texts are Korean."""
    english = path.with_name(path.name.removeprefix("ko_"))

    assert _code(english) == _code(path)
    assert re.search("[가-힣]", path.read_text(encoding="utf-8")) is not None


def test_pages_show_korean_examples() -> None:
    """No Korean page shows an example with English data."""
    shown = {name for page in PAGES for name in re.findall(r'--8<-- "(\w+)\.', page.read_text(encoding="utf-8"))}

    assert {path.stem for path in EXAMPLES} == shown


def test_the_table_page_has_every_stored_attribute() -> None:
    """The Korean page of the table names each attribute of each entity, as it is in code and as it is stored."""
    english = (ROOT / "docs" / "table.md").read_text(encoding="utf-8").partition("## The entities")[2]
    korean = (ROOT / "docs" / "ko" / "table.md").read_text(encoding="utf-8").partition("## 엔터티")[2]
    lacking = []
    for section in re.split(r"\n### ", english.partition("\n## ")[0])[1:]:
        entity = section.partition("\n")[0]
        told = re.search(rf"\n### {entity}\n(.*?)(?=\n##)", korean, flags=re.DOTALL)
        names = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)?", section, flags=re.MULTILINE)
        lacking += [
            f"{entity}: {name}" for pair in names for name in pair if name and (not told or f"`{name}`" not in told[1])
        ]

    assert "### Suggestion" in korean
    assert [] == lacking
