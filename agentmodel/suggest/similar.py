"""Similar requests: how alike two texts are, by their letters, or by embeddings that the caller brings.

`TextSimilarity` compares letters, in any script: it finds the same request in other words or spellings of the same
language, not its translation. Who has a model that embeds texts hands it to `EmbeddingSimilarity`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Protocol

from agentmodel.exceptions import ValidationError

__all__ = ["Embedder", "EmbeddingSimilarity", "Similarity", "TextSimilarity"]

_HELD = 50_000  # embeddings that are remembered


class Embedder(Protocol):
    """Turns texts into vectors, such as a sentence-embedding model does."""

    def embed(self, texts: Sequence[str], /) -> Sequence[Sequence[float]]:
        """One vector to each text, all of one length."""
        ...


class Similarity(Protocol):
    """Says how alike texts are."""

    @property
    def threshold(self) -> float:
        """From which likeness, 0 to 1, two requests count as similar."""
        ...

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """The likeness of a text to each of the others, 0 to 1."""
        ...


class TextSimilarity:
    """Compares the letters of texts: their words in sorted order, or all letters without blanks, whichever is closer.

    Sorted words forgive another order; letters without blanks forgive spacing, which Korean writers choose freely.

    Args:
        threshold: From which likeness two requests count as similar.

    >>> known = ["잠실 종합운동장 주변 맛집 찾아 줘", "부산 가는 기차표 예매"]
    >>> [score >= 0.65 for score in TextSimilarity().scores("잠실종합운동장 근처 맛집 찾아줘", known)]
    [True, False]
    """

    def __init__(self, threshold: float = 0.65) -> None:
        if not 0 < threshold <= 1:
            raise ValidationError("threshold", threshold, "a number above 0 and at most 1")
        self.threshold = threshold

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """The likeness of a text to each of the others, 0 to 1."""
        from rapidfuzz import fuzz  # 45 ms to load, which recording does without

        words, letters = _plain(text)
        found = []
        for other in others:
            its_words, its_letters = _plain(other)
            found.append(max(fuzz.ratio(words, its_words), fuzz.ratio(letters, its_letters)) / 100)
        return found


class EmbeddingSimilarity:
    """Compares embeddings by their cosine; those of stored requests are remembered.

    Args:
        embedder: Makes the vectors.
        threshold: From which cosine two requests count as similar; that depends on the model.
    """

    def __init__(self, embedder: Embedder, *, threshold: float = 0.8) -> None:
        self._embedder = embedder
        self._known: dict[str, tuple[float, ...]] = {}
        self.threshold = threshold

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """The likeness of a text to each of the others, 0 to 1.

        Raises:
            ValidationError: The embedder gave another number of vectors than texts, or vectors of several lengths.
        """
        wanted = list(dict.fromkeys([text, *others]))
        held = {each: self._known[each] for each in wanted if each in self._known}
        missing = [each for each in wanted if each not in held]
        if missing:
            vectors = self._embedder.embed(missing)
            if len(vectors) != len(missing):
                raise ValidationError("embedder", len(vectors), f"it gives one vector to each of {len(missing)} texts")
            held.update({each: _unit(vector) for each, vector in zip(missing, vectors, strict=True)})
            if len(self._known) + len(missing) > _HELD:
                self._known.clear()
            self._known.update({each: held[each] for each in missing if each != text})
        mine = held[text]
        if any(len(held[each]) != len(mine) for each in others):
            raise ValidationError("embedder", "vectors of several lengths", "all of its vectors have one length")
        return [max(0.0, min(1.0, sum(a * b for a, b in zip(mine, held[each], strict=True)))) for each in others]


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(value * value for value in vector))
    return tuple(value / length for value in vector) if length else tuple(vector)


def _plain(text: str) -> tuple[str, str]:
    """The words of a text, sorted, and its letters without blanks; case, accents and spelling of Unicode aside."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    folded = unicodedata.normalize("NFC", bare).casefold()
    words = "".join(char if char.isalnum() else " " for char in folded).split()
    return " ".join(sorted(words)), "".join(words)
