"""Signatures of requests, and the snapshot in which the nearest are found, with and without numpy."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel import UserToolMapping
from agentmodel._values.text import words_of
from agentmodel.exceptions import ValidationError
from agentmodel.suggest._request_rows import LoadedRow, checked, request_row, row_name
from agentmodel.suggest._signatures import BYTES, letters_of, sign
from agentmodel.suggest.plan import EmbeddingSimilarity, TextSimilarity, _similarity, _snapshot
from agentmodel.suggest.plan._snapshot import Snapshot

WORDS = [
    "잠실",
    "강남",
    "카페",
    "맛집",
    "찾아",
    "줘",
    "예약",
    "quiet",
    "café",
    "near",
    "the",
    "stadium",
    "book",
    "train",
    "hotel",
    "tomorrow",
    "for",
    "two",
]


@pytest.fixture(params=["numpy", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With numpy, and as if it were not installed."""
    if request.param == "plain":
        for module in (_similarity, _snapshot):
            monkeypatch.setattr(module, "numpy", lambda: None)
    return str(request.param)


def mapping(user: str, *requests: str, successes: int = 1) -> UserToolMapping:
    return UserToolMapping(
        user_id=user, category="any", processes={}, agents={}, tools={}, executions=4, successes=successes,
        requests=list(requests),
    )  # fmt: skip


def rows(*mappings: UserToolMapping) -> dict[str, LoadedRow | None]:
    return {row_name(each): checked(row_name(each), request_row(each)) for each in mappings}


def texts(count: int) -> Iterator[str]:
    r = random.Random(7)  # noqa: S311 - the same texts in every run
    return (" ".join(r.choices(WORDS, k=9)) + f" {number}" for number in range(count))


@given(st.text())
def test_words_are_those_of_the_whole_text(text: str) -> None:
    """Folding letter by letter gives the words that folding the whole text does."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    folded = unicodedata.normalize("NFC", bare).casefold()

    assert "".join(char if char.isalnum() else " " for char in folded).split() == words_of(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_signature_depends_on_the_letters_alone(text: str, other: str) -> None:
    """A signature has one length, and is that of the letters whatever was signed before."""
    signature = sign(letters_of(text))
    sign(letters_of(other))

    assert BYTES == len(signature)
    assert signature == sign(letters_of(text.replace(" ", "")))


def test_similar_letters_have_similar_signatures() -> None:
    """A request in other words differs in fewer bits than another request does."""
    request, similar, other = (
        int.from_bytes(sign(letters_of(text)))
        for text in (
            "잠실종합운동장 근처 조용한 카페 찾아 줘",
            "잠실 종합운동장 주변의 조용한 카페 찾아줘",
            "내일 부산 가는 기차표 두 장 예매",
        )
    )

    assert (request ^ similar).bit_count() < 150 < (request ^ other).bit_count()


def test_the_best_of_all_is_found(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more requests than are compared, the one that the measure takes for the most similar is found."""
    monkeypatch.setattr(_snapshot, "KEPT", 20)
    known = list(texts(300))
    snapshot = Snapshot(TextSimilarity()).changed(rows(*(mapping(f"USR{at}", text) for at, text in enumerate(known))))
    asked = [" ".join(text.split()[1:]) for text in known[::30]]
    best = [max(TextSimilarity().scores(text, known)) for text in asked]

    assert best == [max(match.similarity for match in snapshot.nearest(text)) for text in asked]


def test_rows_change(either: str) -> None:
    """A changed row replaces the old one, a row that is taken back is gone, and the others stay as they were."""
    first = Snapshot(TextSimilarity()).changed(
        rows(
            mapping("USRa", "find a café", "book a train"), mapping("USRb", "make coffee"), mapping("USRc", "잠실 맛집")
        )
    )
    second = first.changed(rows(mapping("USRa", "order flowers", successes=3)) | {"USRb\nany": None})
    found = [second.nearest(text) for text in ("order flowers", "make coffee", "잠실맛집", "find a café")]

    assert [("order flowers", "USRa", 3), ("잠실 맛집", "USRc", 1)] == [
        (match.request, match.user_id, match.successes) for matches in found for match in matches
    ]
    assert ["USRa"] == [match.user_id for match in first.nearest("find a café")]  # an old snapshot is as it was
    assert {"USRa\nany": (["order flowers"], 4, 3), "USRc\nany": (["잠실 맛집"], 4, 1)} == second.contents


def test_without_numpy_there_is_a_bound(
    either: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without numpy only so many requests are compared, and a warning says how many mappings are left out, and why."""
    monkeypatch.setattr(_snapshot, "PLAIN_REQUESTS", 3)
    snapshot = Snapshot(TextSimilarity()).changed(rows(*(mapping(f"USR{at}", f"request {at}") for at in range(5))))

    assert (5 if either == "numpy" else 3) == len(snapshot)
    assert (either == "plain") == ("requests of 2 mappings are not compared" in caplog.text)


class Meanings:
    """Embeds by what a text is about, and counts the texts."""

    def __init__(self) -> None:
        self.asked = 0

    def embed(self, texts: Sequence[str], /) -> list[list[float]]:
        self.asked += len(texts)
        return [[2.0, 0.0] if "맛집" in text or "restaurant" in text else [0.0, 0.5] for text in texts]


def test_embeddings_are_a_matrix_of_their_own(either: str) -> None:
    """Stored requests are embedded once; every request is compared with all of them, also with those in other letters."""
    embedder = Meanings()
    snapshot = Snapshot(EmbeddingSimilarity(embedder)).changed(
        rows(mapping("USRa", "find a restaurant", "book a train"), mapping("USRb", "make coffee"))
    )
    asked = [snapshot.nearest("맛집 찾아 줘") for _ in range(2)]
    changed = snapshot.changed({"USRa\nany": None})

    assert [["find a restaurant"]] * 2 == [[match.request for match in matches] for matches in asked]
    assert [] == changed.nearest("맛집 찾아 줘")
    assert 3 + 3 == embedder.asked


def test_scores_of_embeddings(either: str) -> None:
    """A cosine is from 0 to 1; a vector of another length than the others is refused."""

    class Odd:
        def embed(self, texts: Sequence[str], /) -> list[list[float]]:
            return [[1.0, 0.0], [0.0, -3.0], [-1.0, 0.0], [1.0, 1.0]][: len(texts)] if len(texts) > 1 else [[1.0]]

    similarity = EmbeddingSimilarity(Odd())

    assert [0.0, 0.0, 0.7071] == [round(score, 4) for score in similarity.scores("a", ["b", "c", "d"])]
    with pytest.raises(ValidationError, match="one length"):
        similarity.scores("x", ["b"])


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        7,
        [["a"], 1, 1, ""],
        [["a"], 1, 1, "AAAA"],
        [[1], 1, 1, "A" * 88],
        [[], -1, -1, ""],
        [[], 2**40, 1, ""],
        [["a"], "1", 1, "x"],
        {"a": 1},
    ],
)
def test_a_row_that_is_none_of_ours_is_refused(row: Any) -> None:
    """A row from Valkey of another shape, or without a signature for each request, raises."""
    good = request_row(mapping("USRa", "a"))

    assert ["a"] == checked("USRa\nany", good).requests
    for name in ("x", "USRa", "USRa\n"):
        with pytest.raises(ValueError, match="not a row"):
            checked(name, good)
    with pytest.raises(ValueError, match=r"not a row|padding|base64"):
        checked("USRa\nany", row)


def test_known_signatures_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose numbers changed and whose requests did not is not signed anew."""
    known = request_row(mapping("USRa", "a", "b"))
    monkeypatch.setattr("agentmodel.suggest._request_rows.sign", None)

    assert [["a", "b"], 4, 9, known[3]] == request_row(mapping("USRa", "a", "b", successes=9), known)
