"""What SECURITY.md promises is shown by tests that exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Repository
from agentmodel.suggest.plan import SuggestionLog
from agentmodel.suggest.review import Reviews

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE)))


@pytest.mark.parametrize("named", NAMED)
def test_a_test_of_the_security_page_exists(named: str) -> None:
    """Each test that the page names for an attempt is there."""
    path, _, name = named.partition("::")

    assert f"\ndef {name or 'test_'}" in (ROOT / path).read_text(encoding="utf-8")


def test_every_attempt_of_the_security_page_has_a_test() -> None:
    """Each row of the table of attempts names a test."""
    rows = PAGE.partition("| attempt |")[2].partition("\n\n")[0].splitlines()[2:]

    assert 10 < len(rows)
    assert [] == [row for row in rows if not re.search(r"`tests/[\w/]+\.py", row)]


@pytest.mark.parametrize(("page", "link"), [("README.md", "(SECURITY.md)"), ("docs/security.md", '"SECURITY.md"')])
def test_the_security_page_is_found(page: str, link: str) -> None:
    """README and documentation lead to it."""
    assert link in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", ["docs/patterns.md", "docs/warehouse/reports.md", "docs/integrations/opentelemetry.md"]
)
def test_a_page_of_what_is_of_all_users_says_for_whom_it_is(page: str) -> None:
    """The pages of reads across users, reports and telemetry say that these are for operators."""
    assert "operators" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("of_all", [AgentModel.report, Repository.mappings, SuggestionLog.all, Reviews.inbox])
def test_a_function_of_all_users_says_for_whom_it_is(of_all: Callable[..., Any]) -> None:
    """The reference of a function that reads across users says that it is for operators or reviewers."""
    assert re.search("operators|reviewers", inspect.getdoc(of_all) or "")
