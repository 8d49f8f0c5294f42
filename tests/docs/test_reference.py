"""The reference has every public module, and the navigation every page."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import agentmodel

ROOT = Path(__file__).parents[2]


def test_every_public_module_has_a_page() -> None:
    """Each module of the package, but packages that only hold others, is documented on a page that is in the navigation."""
    modules = {
        module.name
        for module in pkgutil.walk_packages(agentmodel.__path__, "agentmodel.")
        if not module.ispkg and not module.name.rpartition(".")[2].startswith("_")
    }
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}
    told = {name for text in pages.values() for name in re.findall(r"^::: (agentmodel\.[\w.]+)", text, re.MULTILINE)}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    assert set() == modules ^ told, "run: python scripts/reference.py"
    assert [] == [path.name for path in pages if f"reference/{path.name}" not in navigation]


def test_every_page_is_in_the_navigation() -> None:
    """A page that the navigation lacks breaks the strict build, which is slower to say so."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))]

    assert pages
    assert [] == [page for page in pages if f": {page}\n" not in navigation]
