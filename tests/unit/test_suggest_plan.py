"""What a plan says, and how alike requests are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentmodel.exceptions import ValidationError
from agentmodel.suggest.advise import Adviser
from agentmodel.suggest.plan import Avoid, Plan, Step, Sure
from agentmodel.suggest.similar import EmbeddingSimilarity, TextSimilarity

PLAN = Plan(
    user_id="USR001",
    category="cafe search",
    agent_id="AGT001",
    agent="map agent",
    steps=(
        Step(process="locate", agent_id="AGT001", tool_id="TL001", tool="FIND_LOC", calls=4, success_share=0.75),
        Step(process="search\nwide", agent_id="AGT001", tool_id="TL002", tool="SEARCH"),
    ),
    avoid=(
        Avoid(agent_id="AGT002", tool_id="TL009", tool="OFTEN", reason="5 of 9 calls failed"),
        Avoid(agent_id="AGT001", tool_id="TL003", tool="FORMAT", reason="9 of 10 calls failed:\ntimeout", now=True),
    ),
    source="own mapping",
    runs=4,
    sure=Sure(0.8, 0.55, 1.0),
    needs_review=True,
)


def test_a_plan_in_english() -> None:
    """The text for a model names source, certainty, steps with what was seen, what to avoid, and the person to ask."""
    assert (
        "This worked before for this user's requests of this kind.\n"
        "It is expected to succeed in 80 % of cases (55 to 100 %, 4 runs seen).\n"
        "Steps of map agent (AGT001):\n"
        "1. locate: FIND_LOC (75 % of 4 calls succeeded)\n"
        "2. search wide: SEARCH\n"
        "Avoid these tools, they fail:\n"
        "- FORMAT (AGT001): 9 of 10 calls failed: timeout\n"
        "Ask a person before the first step."
    ) == PLAN.as_prompt()


def test_a_plan_in_korean() -> None:
    """The same in Korean."""
    assert (
        "이 사용자의 같은 종류 요청에서 성공했던 방법입니다.\n"
        "예상 성공률은 80 %입니다(55~100 %, 실행 4회).\n"
        "map agent (AGT001)의 단계:\n"
        "1. locate: FIND_LOC (호출 4회 중 75 % 성공)\n"
        "2. search wide: SEARCH\n"
        "다음 도구는 실패하고 있으니 피하십시오:\n"
        "- FORMAT (AGT001): 9 of 10 calls failed: timeout\n"
        "첫 단계 전에 사람에게 확인을 받으십시오."
    ) == PLAN.as_prompt(language="ko")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_only_an_agent(language: Any) -> None:
    """Where no sequence is known the text names the agent, and nothing that is not known."""
    plan = Plan(user_id="USR001", agent_id="AGT001", agent="map agent", source="best agent of the domain")

    assert 2 == len(plan.as_prompt(language=language).splitlines())
    assert "map agent (AGT001)" in plan.as_prompt(language=language)


def test_another_language_is_refused() -> None:
    """Languages that there are no words for are refused."""
    with pytest.raises(ValidationError, match="one of en, ko"):
        PLAN.as_prompt(language="fr")  # type: ignore[arg-type]  # that is the test


def test_a_plan_survives_json() -> None:
    """A plan can be stored and read back, whole."""
    assert PLAN == Plan.model_validate_json(PLAN.model_dump_json())


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("find a café near the stadium", "Find a CAFE near the stadium!"),
        ("cancel my order, please", "please cancel my order"),
        ("잠실종합운동장 맛집", "잠실 종합 운동장 맛집"),
        ("한글", "한글"),
        ("ＡＢＣ search", "abc search"),
    ],
)
def test_the_same_in_another_spelling_is_alike(text: str, other: str) -> None:
    """Case, accents, punctuation, order of words, spacing and Unicode's spelling do not count."""
    assert [1.0] == TextSimilarity().scores(text, [other])


def test_other_scripts_are_not_alike() -> None:
    """Letters of another script have nothing in common: translations need an embedder."""
    assert [0.0] == TextSimilarity().scores("restaurant", ["맛집"])


@pytest.mark.parametrize("threshold", [0, 1.1])
def test_a_threshold_is_a_share(threshold: float) -> None:
    """A threshold that everything or nothing passes is refused."""
    with pytest.raises(ValidationError, match="threshold"):
        TextSimilarity(threshold)


class Lengths:
    """Embeds a text by its number of letters, and counts how many it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def embed(self, texts: Sequence[str], /) -> list[list[float]]:
        self.asked += len(texts)
        return [[float(len(text)), 1.0] for text in texts]


def test_embeddings_of_known_requests_are_remembered() -> None:
    """Stored requests are embedded once; the request itself each time."""
    embedder = Lengths()
    similarity = EmbeddingSimilarity(embedder)

    first = similarity.scores("abc", ["abc", "a", ""])
    second = similarity.scores("ab", ["a", ""])

    assert 1.0 == pytest.approx(first[0])
    assert first[1] > first[2]
    assert second[0] > second[1]
    assert 3 + 1 == embedder.asked


def test_a_wrong_embedder_is_named() -> None:
    """Too few vectors, or vectors of several lengths, are refused."""

    class Few:
        def embed(self, texts: Sequence[str], /) -> list[list[float]]:
            return []

    class Ragged:
        def embed(self, texts: Sequence[str], /) -> list[list[float]]:
            return [[1.0] * (1 + len(text)) for text in texts]

    with pytest.raises(ValidationError, match="one vector to each"):
        EmbeddingSimilarity(Few()).scores("a", ["b"])
    with pytest.raises(ValidationError, match="one length"):
        EmbeddingSimilarity(Ragged()).scores("a", ["bb"])


def test_a_share_to_explore_is_a_share() -> None:
    """More than everything cannot be explored."""
    with pytest.raises(ValidationError, match="explore"):
        Adviser(None, explore=2.0)  # type: ignore[arg-type]  # refused before it is used
