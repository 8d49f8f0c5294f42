"""The page "Get a plan" quotes what plans say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from agentmodel.suggest.plan import PlanSource, Reason, ReasonCode

PAGE = (Path(__file__).parents[2] / "docs" / "suggest" / "plans.md").read_text(encoding="utf-8")
MISSING: tuple[ReasonCode, ...] = (
    "no_request_yet", "no_agent_yet", "untried_agent", "highest_agent", "random_agent", "still_loading", "cached_only",
)  # fmt: skip


@pytest.mark.parametrize("code", MISSING)
def test_the_page_says_what_to_do_where_something_is_missing(code: ReasonCode) -> None:
    """Each reason that says what a plan lacks is a row of the table of what to do, word for word."""
    said = Reason(code=code, values={"agent": "…", "score": "…"}).text.replace("`…`", "…")

    assert f'| "{said}" |' in PAGE


@pytest.mark.parametrize("source", get_args(PlanSource))
def test_the_page_has_every_source(source: PlanSource) -> None:
    """The order of the lookup names each source that a plan can have."""
    assert f"`{source}`" in PAGE.partition("## How a plan is found")[2].partition("\n## ")[0]
