"""Write a page of the reference for each public module that has none, and all of them into the end of mkdocs.yml.

Pages may be edited: only missing ones are written, and only those of modules that are gone are removed.
tests/docs/test_reference.py tells when to run this.
"""

from __future__ import annotations

import itertools
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
START = "  - Reference: # written by scripts/reference.py\n"


def public_modules() -> list[tuple[str, ...]]:
    """The modules below the package by the parts of their names, those of the package itself first."""
    found = [path.relative_to(ROOT / "agentmodel").with_suffix("").parts for path in ROOT.glob("agentmodel/**/*.py")]
    return sorted(
        (parts for parts in found if not any(part.startswith("_") for part in parts)), key=lambda p: (len(p), p)
    )


def main() -> None:
    """Bring pages and navigation up to the modules."""
    navigation = START
    for page in PAGES.glob("*.md"):
        if page.stem not in {".".join(parts) for parts in public_modules()}:
            page.unlink()
    for folder, modules in itertools.groupby(public_modules(), key=lambda parts: parts[:-1]):
        indent = "      "
        if folder:
            navigation += f"{indent}- {'.'.join(folder)}:\n"
            indent += "    "
        for parts in modules:
            page = PAGES / f"{'.'.join(parts)}.md"
            if not page.exists():
                page.write_text(f"::: agentmodel.{'.'.join(parts)}\n", encoding="utf-8")
            navigation += f"{indent}- {parts[-1]}: reference/{page.name}\n"
    config = ROOT / "mkdocs.yml"
    before = config.read_text(encoding="utf-8").partition(START)[0]
    config.write_text(before + navigation, encoding="utf-8")


if __name__ == "__main__":
    main()
