"""The configuration of the site: its version, and its links to the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_says_its_version() -> None:
    """The footer has the version of the package."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert f"\ncopyright: agentmodel {version} " in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("repository", ["", "https://git.example.org/team/agentmodel"])
def test_pages_link_to_their_source_where_the_address_is_set(repository: str, tmp_path: Path) -> None:
    """With DOCS_REPOSITORY, `make docs` builds pages that link to the repository and to their file there."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    [_, build] = re.findall(
        r"SITE_URL=.*?--strict.*?\n",
        subprocess.run(
            ["make", "-n", "docs", f"DOCS_REPOSITORY={repository}", f"VENV={tmp_path}", "PYTHON=true", "MAKEFLAGS="],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.replace("\\\n", ""),
        flags=re.DOTALL,
    )  # fmt: skip
    told = dict(re.findall(r"(\w+)='(.*?)'", build))
    site = tmp_path / "site"
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "mkdocs.ko.yml", "-d", str(site)],
        cwd=ROOT, env={**os.environ, **told}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    page = (site / "quickstart" / "index.html").read_text(encoding="utf-8")

    assert 0 == made.returncode, made.stderr
    assert (f'"{repository}/edit/main/docs/ko/quickstart.md"' in page) == bool(repository)
    assert ('rel="edit"' in page) == bool(repository)
