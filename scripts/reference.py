"""Write a page of the reference for each public module that has none, and all of them into the end of mkdocs.yml.

Pages are grouped by what they are for, as the guides are. Pages may be edited: only missing ones are written, and only
those of modules that are gone are removed. tests/docs/test_reference.py tells when to run this.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program, only its own folder is searched

from scripts.public_names import ROOT, public_modules

PAGES = ROOT / "docs" / "reference"
START = "  - Reference: # written by scripts/reference.py\n"

# What each module is for, or each folder; the first that fits
GROUPS = {
    "Model and settings": ("client", "aio", "config", "privacy", "embedded", "erasure", "cli"),
    "Record and read": ("access.recorder", "access.repository", "access.patterns", "access.pagination", "tools",
                        "access.trace_import", "traces", "prices"),
    "Valkey": ("cache",),
    "Entities and keys": ("dynamo", "keys", "access"),
    "Warehouse": ("redshift",),
    "Plan, guard and review": ("suggest.plan", "suggest.health", "suggest.guard", "suggest.review", "suggest.publish",
                               "suggest.evaluate"),
    "Console and callers": ("console", "callers"),
    "Integrations": ("integrations",),
    "Testing": ("testing",),
    "AWS": ("aws",),
    "Errors": ("exceptions",),
}  # fmt: skip


def grouped() -> dict[str, list[str]]:
    """The public modules below the package, by the parts of their names, in the order of the groups.

    Raises:
        LookupError: A module fits no group.
    """
    left = [module.removeprefix("agentmodel.") for module in public_modules() if module != "agentmodel"]
    groups: dict[str, list[str]] = {}
    for group, starts in GROUPS.items():
        groups[group] = [m for start in starts for m in left if m == start or m.startswith(f"{start}.")]
        left = [module for module in left if module not in groups[group]]
    if left:
        raise LookupError(f"GROUPS of scripts/reference.py must name a group for {', '.join(left)}")
    return groups


def main() -> None:
    """Bring pages and navigation up to the modules."""
    groups = grouped()
    navigation = START
    for page in PAGES.glob("*.md"):
        if page.stem not in {module for modules in groups.values() for module in modules}:
            page.unlink()
    for group, modules in groups.items():
        navigation += f"      - {group}:\n"
        for module in modules:
            page = PAGES / f"{module}.md"
            if not page.exists():
                page.write_text(f"::: agentmodel.{module}\n", encoding="utf-8")
            navigation += f"          - {module}: reference/{page.name}\n"
    config = ROOT / "mkdocs.yml"
    before = config.read_text(encoding="utf-8").partition(START)[0]
    config.write_text(before + navigation, encoding="utf-8")


if __name__ == "__main__":
    main()
