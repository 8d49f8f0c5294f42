"""Similarity of requests: by their letters, or by embeddings of a model that the application has.

`TextSimilarity` compares letters, in any script: it finds the same request in another order or spelling, but not its
translation. Applications that have an embedding model give it to `EmbeddingSimilarity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from operator import mul
from typing import Any, Protocol

from agentmodel._values.text import words_of
from agentmodel.exceptions import ValidationError

__all__ = ["Embedder", "EmbeddingSimilarity", "Similarity", "TextSimilarity", "cosines", "numpy"]

_MAX_CACHED = 50_000  # embeddings
_BATCH = 1_000  # texts that an embedder gets at once


class Embedder(Protocol):
    """Turns texts into vectors, such as a sentence-embedding model does."""

    def embed(self, texts: Sequence[str], /) -> Sequence[Sequence[float]]:
        """Return one vector for each text, all of the same length."""
        ...


class Similarity(Protocol):
    """Measures how similar texts are."""

    @property
    def threshold(self) -> float:
        """Return the similarity, 0 to 1, from which on two requests count as similar."""
        ...

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """Return the similarity of a text to each of the others, 0 to 1."""
        ...


class TextSimilarity:
    """Compares the letters of texts: their words in sorted order, or all letters without blanks, whichever is closer.

    Sorted words match in any order; letters without blanks match with any spacing, which Korean writers choose freely.

    Args:
        threshold: The similarity, above 0 and at most 1, from which on two requests count as similar.

    >>> known = ["잠실 종합운동장 주변 맛집 찾아 줘", "부산 가는 기차표 예매"]
    >>> [score >= 0.65 for score in TextSimilarity().scores("잠실종합운동장 근처 맛집 찾아줘", known)]
    [True, False]
    """

    def __init__(self, threshold: float = 0.65) -> None:
        if not 0 < threshold <= 1:
            raise ValidationError("threshold", threshold, "must be a number above 0 and at most 1")
        self.threshold = threshold

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """Return the similarity of a text to each of the others, 0 to 1."""
        from rapidfuzz import fuzz  # 45 ms to load, which recording does without

        words, letters = _plain(text)
        found = []
        for other in others:
            its_words, its_letters = _plain(other)
            found.append(max(fuzz.ratio(words, its_words), fuzz.ratio(letters, its_letters)) / 100)
        return found


class EmbeddingSimilarity:
    """Compares the embeddings of texts by their cosine; those of stored requests are cached.

    Args:
        embedder: Makes the vectors.
        threshold: The cosine from which on two requests count as similar; the right one depends on the model.

    >>> class Letters:  # stands for a sentence-embedding model
    ...     def embed(self, texts):
    ...         return [[text.count(letter) for letter in "abcdefghij"] for text in texts]
    >>> [round(score, 2) for score in EmbeddingSimilarity(Letters()).scores("a cafe", ["cafe a", "high"])]
    [1.0, 0.0]
    """

    def __init__(self, embedder: Embedder, *, threshold: float = 0.8) -> None:
        self._embedder = embedder
        self._cached: dict[str, Any] = {}
        self.threshold = threshold

    def scores(self, text: str, others: Sequence[str], /) -> list[float]:
        """Return the similarity of a text to each of the others, 0 to 1.

        Raises:
            ValidationError: The embedder returned another number of vectors than texts, or vectors of several lengths.
        """
        by_text = {each: self._cached[each] for each in others if each in self._cached}
        missing = [each for each in dict.fromkeys([text, *others]) if each not in by_text]
        by_text.update(zip(missing, self.vectors(missing), strict=True))
        if len(self._cached) + len(missing) > _MAX_CACHED:
            self._cached.clear()
        self._cached.update({each: by_text[each] for each in missing if each != text})
        return cosines(by_text[text], [by_text[each] for each in others])

    def vectors(self, texts: Sequence[str]) -> list[Any]:
        """Return the embeddings of texts, each of length 1: arrays of numpy, or tuples without it.

        Raises:
            ValidationError: The embedder returned another number of vectors than texts.
        """
        found: list[Any] = []
        for start in range(0, len(texts), _BATCH):
            asked = texts[start : start + _BATCH]
            vectors = self._embedder.embed(asked)
            if len(vectors) != len(asked):
                raise ValidationError(
                    "embedder", len(vectors), f"must return one vector for each of {len(asked)} texts"
                )
            found += map(_unit, vectors)
        return found


@cache
def numpy() -> Any | None:
    """Return numpy; None where it is not installed, or is older than 2.0 and cannot count bits."""
    try:
        import numpy as np  # an extra, and 100 ms to load
    except ImportError:
        return None
    return np if hasattr(np, "bitwise_count") else None


def cosines(vector: Any, others: Any) -> list[float]:
    """Return the cosine of a vector of length 1 to each of some others, which are a list or a matrix; 0 to 1.

    Raises:
        ValidationError: The vectors have several lengths.
    """
    lengths = {len(other) for other in others} if isinstance(others, list) else set(others.shape[1:])
    if lengths - {len(vector)}:
        raise ValidationError("embedder", "vectors of different lengths", "must return vectors of one length")
    np = numpy()
    if np is None or not len(others):
        return [max(0.0, min(1.0, sum(map(mul, vector, other)))) for other in others]
    found: list[float] = np.clip(np.asarray(others) @ vector, 0.0, 1.0).tolist()
    return found


def _unit(vector: Sequence[float]) -> Any:
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    unit = tuple(value / length for value in vector)
    np = numpy()
    return unit if np is None else np.array(unit, np.float32)


def _plain(text: str) -> tuple[str, str]:
    """Return the sorted words of a text, and its letters without blanks."""
    words = words_of(text)
    return " ".join(sorted(words)), "".join(words)
