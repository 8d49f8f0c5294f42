"""Publishing by itself: which of several patterns becomes the mapping, for which day, and what is worth a write."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from agentmodel.config import Settings
from agentmodel.dynamo.models import Agent
from agentmodel.exceptions import CacheUnavailable, ValidationError
from agentmodel.redshift.reports import PatternStep, RecommendedPattern
from agentmodel.suggest.publish import _publisher
from agentmodel.suggest.publish._fencing import PublishRun
from agentmodel.suggest.publish._publisher import Publisher, _best, _day, _distinct, _midnight, _rating, _same

DAY = date(2026, 1, 1)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def pattern(
    tools: str,
    *,
    score: float = 1.0,
    successes: int = 1,
    user: str = "USR001",
    category: str = "cafe search",
    agent: str = "AGT001",
) -> RecommendedPattern:
    """A pattern of tools with names of one letter."""
    steps = tuple(
        PatternStep(f"PRC{at:03d}", "", agent, f"TL{tool}", tool, calls=1, successes=1)
        for at, tool in enumerate(tools, start=1)
    )
    return RecommendedPattern(
        user_id=user, category=category, agent_id=agent, agent_name=agent, process_pattern="", tool_sequence="->".join(tools),
        executions=max(successes, 1), successes=successes, success_rate=1.0, score=score, first_used=None,
        last_used=None, recommended=True, steps=steps,
    )  # fmt: skip


def chosen(*patterns: RecommendedPattern) -> list[tuple[str, str, str, str]]:
    return [(each.user_id, each.category, each.agent_id, each.tool_sequence) for each in _best(patterns)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([pattern("ab", score=1.0), pattern("c", score=2.0), pattern("abc", score=1.0)], "c"),
        ([pattern("ab", successes=1), pattern("c", successes=2), pattern("abc", successes=1)], "c"),
        ([pattern("ab", score=1.0000001, successes=1), pattern("c", score=1.0, successes=2)], "c"),
        ([pattern("ab", score=1.000001, successes=1), pattern("c", score=1.0, successes=2)], "a->b"),
        ([pattern("xyz"), pattern("abd"), pattern("ab", score=0.5), pattern("abc")], "a->b->c"),
        ([pattern("d"), pattern("b"), pattern("c")], "b"),
    ],
    ids=["score", "then successes", "a rounding is no difference", "a millionth is one", "then likeness", "then names"],
)
def test_the_best_pattern_of_a_category(patterns: list[RecommendedPattern], expected: str) -> None:
    """The best pattern has the highest score, of these the most successes, of these the smallest distance to all."""
    assert [("USR001", "cafe search", "AGT001", expected)] == chosen(*patterns)
    assert chosen(*patterns) == chosen(*reversed(patterns))


def test_of_equal_patterns_the_first_agent() -> None:
    """Of the same sequence of two agents, that of the agent whose id is first is chosen."""
    assert [("USR001", "cafe search", "AGT001", "a")] == chosen(pattern("a", agent="AGT002"), pattern("a"))


def test_each_user_and_category_has_its_own() -> None:
    """One pattern for each user and category, in their order; none without a category, steps or a success."""
    assert [("USR001", "a", "AGT001", "x"), ("USR001", "b", "AGT001", "y"), ("USR002", "a", "AGT001", "z")] == chosen(
        pattern("z", user="USR002", category="a"),
        pattern("y", category="b"),
        pattern("x", category="a"),
        pattern("w", category=""),
        pattern("", category="c"),
        pattern("v", category="d", successes=0),
    )


def test_the_day_of_a_run() -> None:
    """A run's day is the date as given, or that of the time in UTC; a time without a zone has none."""
    assert DAY == _day(DAY)
    assert DAY == _day(datetime(2025, 12, 31, 20, tzinfo=timezone(-timedelta(hours=5))))
    assert (AT, None) == (_midnight(DAY), _midnight(None))
    with pytest.raises(ValidationError, match=r"^as_of .*time zone"):
        _day(AT.replace(tzinfo=None))


def test_what_is_worth_a_write() -> None:
    """An expiry that moves by less than a day is not worth a write; every other difference is, and any of other values."""
    day, second = timedelta(days=1), timedelta(seconds=1)

    assert [True, True, False, False] == [
        _same("expires_at", AT, AT + moved) for moved in (day - second, second - day, day, -day)
    ]
    assert [False, False, True] == [_same("expires_at", *pair) for pair in ((None, AT), (AT, None), (None, None))]
    assert [True, False, False] == [_same("score", 1.0, other) for other in (1.0, 1.000001, None)]
    assert not _same("last_run_at", AT, AT + second)


class Board:
    """A ranking that knows how often it was replaced."""

    def __init__(self, number: int, scores: dict[str, float]) -> None:
        self.number, self.scores, self.calls, self.full = number, scores, list[str](), False

    def published(self, domain_id: str) -> tuple[int, dict[str, float]]:
        return self.number, self.scores

    def replace(self, domain_id: str, scores: dict[str, float], number: int) -> bool:
        if self.full:
            raise CacheUnavailable("it is full")
        self.calls.append("replace")
        self.number, self.scores = number, scores
        return True

    def drop(self, domain_id: str) -> None:
        self.calls.append("drop")


def ranked(board: Board, scores: dict[str, float], run: PublishRun) -> bool:
    """Rank a domain whose agents have these scores."""
    unused: Any = None
    publisher = Publisher(Settings.load(), unused, table=unused, writer=unused)
    caches: Any = SimpleNamespace(leaderboard=board)
    return publisher._rank(caches, "DMN001", scores, run)


def test_a_ranking_is_replaced_by_the_scores_of_a_publish() -> None:
    """The ranking has the scores, and the number of the run."""
    board, run = Board(0, {}), PublishRun(DAY, AT)

    assert ranked(board, {"AGT001": 7.0}, run)
    assert (run.number, {"AGT001": 7.0}) == (board.number, board.scores)


def test_a_ranking_that_is_right_is_left() -> None:
    """One with these scores is written only where an older run wrote it, and then counts as unchanged."""
    run, scores = PublishRun(DAY, AT), {"AGT001": 1.0, "AGT002": 2.0}
    same, older = Board(run.number, scores), Board(run.number - 1, scores)

    assert [False, False] == [ranked(board, scores, run) for board in (same, older)]
    assert ([], ["replace"], run.number) == (same.calls, older.calls, older.number)


def test_no_two_scores_of_a_domain_are_equal() -> None:
    """Of equal scores the higher rating comes first, else the first id; a raised score never passes a higher one."""
    agents = {
        f"AGT{n}": Agent(agent_id=f"AGT{n}", domain_id="DMN001", name="a", rating=rating)
        for n, rating in enumerate((None, 5.0, None, 7.0, None))
    }
    scores = dict(zip(agents, (0.0, 0.0, 0.0, 0.0, 0.000001), strict=True))

    assert {"AGT2": 0.0, "AGT0": 1e-6, "AGT1": 2e-6, "AGT3": 3e-6, "AGT4": 4e-6} == _distinct(scores, agents)


def test_a_typed_score_is_a_rating() -> None:
    """Before the first publish a score is a rating by hand; a rating that was given stays."""
    typed, rated, published = (
        Agent(agent_id="AGT001", domain_id="DMN001", name="a", **values)
        for values in ({"score": 60.0}, {"score": 60.0, "rating": 3.0}, {"score": 60.0, "scored_at": AT})
    )

    assert [60.0, 3.0, None] == [_rating(agent) for agent in (typed, rated, published)]


def test_a_ranking_that_cannot_be_written_goes() -> None:
    """Where Valkey is full the old ranking is dropped, so that readers use the index."""
    board = Board(0, {"AGT001": 9.0})
    board.full = True

    assert not ranked(board, {"AGT001": 1.0}, PublishRun(DAY, AT))
    assert ["drop"] == board.calls


def test_what_runs_write_is_compared_whole() -> None:
    """A mapping is written again where its writes differ or its rate moved far, and not for a rate that moved little."""
    stored = {"rate": 0.5, "good": [[1, ["a"]]]}

    assert _publisher._same("writes", stored, stored | {"rate": 0.5 + _publisher._RATE_DRIFT / 2})
    assert not _publisher._same("writes", stored, stored | {"rate": 0.5 + 2 * _publisher._RATE_DRIFT})
    assert not _publisher._same("writes", stored, stored | {"good": [[2, ["a"]]]})
