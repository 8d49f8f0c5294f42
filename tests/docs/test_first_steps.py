"""Who follows a page and nothing else, in an environment of its own, gets as far as the page says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if not page.is_relative_to(ROOT / "docs" / "reference")),
    ROOT / "README.md",
    ROOT / "README.ko.md",
]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


def brought(extra: str) -> set[str]:
    """Return an extra with the extras of this package that it brings."""
    others = [
        name for line in EXTRAS[extra] for found in re.findall(r"^agentmodel\[(.+)]", line) for name in found.split(",")
    ]
    return {extra, *(more for other in others for more in brought(other))}


def lacking(text: str) -> list[str]:
    """Return the extras that the commands of a page need, and that no installation on the page brings."""
    named = [
        name for found in re.findall(r"pip install .*agentmodel\S*\[([\w,-]+)]", text) for name in found.split(",")
    ]
    if not named:
        return []
    have = {more for name in named for more in brought(name)}
    blocks = "".join(re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL))
    need = {"cli"} if re.search(r"^ *(?:\$ )?agentmodel ", blocks, flags=re.MULTILINE) else set[str]()
    if re.search(r"agentmodel (?:up --)?console", blocks) or "`agentmodel up --console`" in text:
        need.add("console")
    return sorted(need - have)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_installs_what_its_commands_need(page: Path) -> None:
    """A page that says what to install, and shows a command, has installed the command line and what it needs."""
    assert [] == lacking(page.read_text(encoding="utf-8"))


def test_a_missing_extra_is_found() -> None:
    """The check sees a page that installs the console without the command line, or the other way round."""
    page = "```console\npip install 'agentmodel[{}]'\nagentmodel up --console\n```\n"

    assert ["cli"] == lacking(page.format("console"))
    assert ["console"] == lacking(page.format("local"))
    assert [] == lacking(page.format("local,console"))


def test_the_readme_has_every_extra() -> None:
    """The README's table names each extra that users install; the others are for work on the project."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| extra |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)`", table))

    assert set(EXTRAS) - {"docs", "browser", "dev"} <= named


@pytest.mark.parametrize(("page", "example"), [("quickstart.md", "quickstart"), ("ko/quickstart.md", "ko_quickstart")])
def test_the_quickstart_shows_all_of_its_program(page: str, example: str) -> None:
    """The blocks of the quickstart, one after the other, are its program: nothing is left to be guessed."""
    program = (ROOT / "docs" / "examples" / f"{example}.py").read_text(encoding="utf-8")
    shown = re.findall(rf'--8<-- "{example}\.py:(\w+)"', (ROOT / "docs" / page).read_text(encoding="utf-8"))
    parts = [program.split(f"[start:{name}]\n")[1].split(f"# --8<-- [end:{name}]")[0] for name in shown]
    code = [line for line in program.splitlines() if line.strip() and not line.startswith(('"""', "# --8<--"))]

    assert [line for part in parts for line in part.splitlines() if line.strip()] == [
        line for line in code if not line.startswith("from __future__")
    ]
