"""Agents by score: whole rankings only, newest run only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel.cache import Leaderboard, Valkey
from agentmodel.config import Settings
from agentmodel.exceptions import ValidationError

PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}
D = "DMN001"


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def board(valkey: Valkey) -> Leaderboard:
    return Leaderboard(valkey)


def test_best_first_then_by_id(board: Leaderboard) -> None:
    """Agents come by score, equal ones by id, as many as asked for."""
    board.replace(D, {"AGT003": 1.5, "AGT002": 2.0, "AGT001": 1.5, "AGT004": -1.0}, 1)

    assert [("AGT002", 2.0), ("AGT001", 1.5), ("AGT003", 1.5)] == board.top(D, 3)


def test_scores_come_back_exactly(board: Leaderboard) -> None:
    """A score is the same number after the way through Valkey."""
    scores = {"A": 0.1 + 0.2, "B": 1e-9, "C": 0.0, "D": 12345678.123456}
    board.replace(D, scores, 1)

    assert scores == dict(board.top(D, 9) or [])


@pytest.mark.parametrize("limit", [1, 25, 26, 60, 99])
def test_any_limit(board: Leaderboard, limit: int) -> None:
    """The head of a ranking and the whole of it agree."""
    board.replace(D, {f"AGT{n:03d}": float(n % 7) for n in range(60)}, 1)
    right = sorted(((f"AGT{n:03d}", float(n % 7)) for n in range(60)), key=lambda one: (-one[1], one[0]))

    assert right[:limit] == board.top(D, limit)


def test_unknown_is_not_empty(board: Leaderboard) -> None:
    """Nothing published is None, so that the table is asked; published without agents is empty."""
    assert board.top(D, 3) is None

    board.replace(D, {}, 1)

    assert [] == board.top(D, 3)

    board.drop(D)

    assert board.top(D, 3) is None


def test_older_run_is_refused(board: Leaderboard, valkey: Valkey) -> None:
    """An older analysis that publishes late changes nothing and leaves nothing behind."""
    board.replace(D, {"A": 1.0}, 10)

    assert not board.replace(D, {"B": 2.0}, 9)
    assert [("A", 1.0)] == board.top(D, 3)
    assert 2 == valkey.execute(("DBSIZE",))


def test_same_run_again(board: Leaderboard, valkey: Valkey) -> None:
    """Publishing the same run again is fine, and the ranking does not vanish by itself."""
    board.replace(D, {"A": 1.0}, 10)

    assert board.replace(D, {"A": 1.0}, 10)
    assert -1 == valkey.execute(("TTL", "am:lb:{DMN001}"))


def test_no_reader_sees_half(valkey: Valkey, board: Leaderboard) -> None:
    """Readers see the old ranking or the new one, whole, while large ones replace each other."""
    rankings = [{f"AGT{n:04d}": float(run) for n in range(1200)} for run in range(2)]
    board.replace(D, rankings[0], 0)
    done, torn = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            seen = board.top(D, 1200)
            if seen is None or len(seen) != 1200 or len({score for _, score in seen}) != 1:
                torn.append(seen and len(seen))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for run in range(1, 15):
        board.replace(D, rankings[run % 2], run)
    done.set()
    for reader in readers:
        reader.join()

    assert [] == torn


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_score_is_finite(board: Leaderboard, score: float) -> None:
    """A score that is no number is named by its agent."""
    with pytest.raises(ValidationError, match=r"scores\[A\]"):
        board.replace(D, {"A": score}, 1)


def test_limit(board: Leaderboard) -> None:
    """A limit below 1 is refused."""
    with pytest.raises(ValidationError, match="limit"):
        board.top(D, 0)
