"""Compare a request with those that each domain got before: the mean of the five most similar, by character trigrams.

A text is the set of the trigrams of its words, each as a number of 16 bits, so the index holds no words and works in
any script. Rare trigrams count more (tf-idf), and two texts are as similar as the cosine says. The method was chosen by
comparison (`benchmarks/routing.py` measures it): it tells known requests apart as well as any other, and is the best at
telling that a request is about something else.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import nlargest

from agentmodel._values.text import words_of

__all__ = ["LEAST_REQUESTS", "Calibration", "RequestIndex", "calibrated", "trigrams"]

LEAST_REQUESTS = 5
"""Different requests of a domain from which on its earlier requests say what fits it."""

_NEAREST = 5
_CHARACTERS = 500  # of a text that are compared
_COMMON_SHARE, _COMMON_TEXTS = 0.3, 10  # a trigram in more texts than both says little, and costs the most
_RELIABLE = 10  # scores that a quantile is taken of
_OWN_QUANTILE, _OTHERS_QUANTILE = 0.03, 0.98
_LEAST_THRESHOLD = 0.1  # requests that have nothing in common with each other reach no score at all
_MEASURED, _LEAST_MEASURED, _MOST_MEASURED = 500, 10, 50  # requests of all domains, and of one
_SHARPNESS = tuple(2 ** (step / 2) for step in range(13))  # 1 to 64
_LIKELIEST = 0.99


def trigrams(text: str) -> frozenset[int]:
    """Return the trigrams of the words of a text as numbers below 65,536; without case, accents and Unicode variants.

    >>> trigrams("Café  NEAR me") == trigrams("me near cafe")
    True
    >>> trigrams("?!")
    frozenset()
    """
    words = words_of(text[:_CHARACTERS])
    found = set(words)
    for word in words:
        padded = f" {word} "
        found.update(padded[at : at + 3] for at in range(len(padded) - 2))
    return frozenset(zlib.crc32(one.encode()) & 0xFFFF for one in found)


class RequestIndex:
    """Scores texts by how similar they are to the texts of each domain.

    Args:
        texts: The texts of each domain, as `trigrams` returns them.
    """

    def __init__(self, texts: Mapping[str, Sequence[AbstractSet[int]]]) -> None:
        self._spans: dict[str, tuple[int, int]] = {}
        every: list[AbstractSet[int]] = []
        for domain, own in texts.items():
            self._spans[domain] = (len(every), len(every) + len(own))
            every += own
        postings: dict[int, list[int]] = defaultdict(list)
        for number, text in enumerate(every):
            for gram in text:
                postings[gram].append(number)
        self._size = len(every)
        self._unseen = self._weight(0)
        self._weights = {gram: self._weight(len(found)) for gram, found in postings.items()}
        self._norms = [self._norm(text) for text in every]
        most = max(_COMMON_TEXTS, _COMMON_SHARE * self._size)
        self._postings = {gram: array("I", found) for gram, found in postings.items() if len(found) <= most}

    def scores(self, text: AbstractSet[int], *, without: int | None = None) -> dict[str, float]:
        """Return the score of each domain, 0 to 1: the mean similarity of its five most similar texts.

        Args:
            text: The text, as `trigrams` returns it.
            without: The number of a text in the index, counted over all domains, that does not count.
        """
        found = [0.0] * self._size
        for gram in text:
            weight = self._weights.get(gram, self._unseen) ** 2
            for number in self._postings.get(gram, ()):
                found[number] += weight
        norm = self._norm(text)
        found = [value / (norm * own) if value else 0.0 for value, own in zip(found, self._norms, strict=True)]
        if without is not None:
            found[without] = 0.0
        scores = {}
        for domain, (start, end) in self._spans.items():
            count = end - start - (without is not None and start <= without < end)
            scores[domain] = sum(nlargest(_NEAREST, found[start:end])) / max(1, min(_NEAREST, count))
        return scores

    def _weight(self, texts: int) -> float:
        return math.log((self._size + 1) / (texts + 1)) + 1

    def _norm(self, text: Iterable[int]) -> float:
        return math.sqrt(sum(self._weights.get(gram, self._unseen) ** 2 for gram in text)) or 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What scores mean, measured on the requests of the index, each left out in turn.

    Attributes:
        thresholds: The score from which on a request fits a domain.
        sharpness: By how much a difference in scores changes likelihoods.
    """

    thresholds: Mapping[str, float]
    sharpness: float

    def fitting(self, scores: Mapping[str, float]) -> list[str]:
        """Return the domains that a request with these scores fits, best first.

        >>> Calibration({"DMN001": 0.2, "DMN002": 0.2}, 8.0).fitting({"DMN001": 0.4, "DMN002": 0.1})
        ['DMN001']
        """
        fitting = (domain for domain, score in scores.items() if score >= self.thresholds[domain])
        return sorted(fitting, key=lambda domain: (-scores[domain], domain))

    def likelihoods(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Return how likely each domain is the right one, if one of them is; at most 0.99, in hundredths.

        >>> Calibration({}, 8.0).likelihoods({"DMN001": 0.4, "DMN002": 0.1})
        {'DMN001': 0.92, 'DMN002': 0.08}
        """
        top = max(scores.values(), default=0.0)
        odds = {domain: math.exp(self.sharpness * (score - top)) for domain, score in scores.items()}
        total = sum(odds.values())
        return {domain: min(_LIKELIEST, round(each / total, 2)) for domain, each in odds.items()}


def calibrated(
    requests: Mapping[str, Sequence[AbstractSet[int]]], descriptions: Mapping[str, Sequence[AbstractSet[int]]]
) -> Calibration:
    """Measure what scores mean, by leaving each request out of the index in turn.

    A request fits a domain from the score on that 97 % of the domain's own requests reach. Where nearly all requests of
    other domains stay lower still, half of the difference is given up, so that new ways to ask are recognised. A domain
    with few requests takes the lowest threshold of those with more; if none has more, what nearly all requests of the
    others do not reach. No threshold is below a least score, which hardly any request about other matters reaches.

    Args:
        requests: The requests of each domain.
        descriptions: What else is known of each domain: its name, description and tools. It has each domain.
    """
    texts = {domain: [*requests.get(domain, ()), *own] for domain, own in descriptions.items()}
    index = RequestIndex(texts)
    most = max(_LEAST_MEASURED, min(_MOST_MEASURED, _MEASURED // max(1, len(requests))))
    own: dict[str, list[float]] = {domain: [] for domain in requests}
    foreign: dict[str, list[float]] = {domain: [] for domain in requests}
    measured = []
    start = 0
    for domain, every in texts.items():
        for number, text in enumerate(requests.get(domain, ())[:most], start=start):
            scores = {each: score for each, score in index.scores(text, without=number).items() if each in requests}
            measured.append((domain, scores))
            for each, score in scores.items():
                (own if each == domain else foreign)[each].append(score)
        start += len(every)
    return Calibration(_thresholds(own, foreign), _sharpest(measured))


def _thresholds(own: Mapping[str, list[float]], foreign: Mapping[str, list[float]]) -> dict[str, float]:
    found = {}
    for domain, scores in own.items():
        if len(scores) >= _RELIABLE:
            reached = _quantile(scores, _OWN_QUANTILE)
            exceeded = _quantile(foreign[domain], _OTHERS_QUANTILE) if foreign[domain] else reached
            found[domain] = min(reached, (reached + exceeded) / 2)
    lowest = min(found.values(), default=0.0)
    for domain in own.keys() - found.keys():
        few = _quantile(foreign[domain], _OTHERS_QUANTILE) if foreign[domain] else min(own[domain])
        found[domain] = lowest or few
    return {domain: max(_LEAST_THRESHOLD, threshold) for domain, threshold in found.items()}


def _quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def _sharpest(measured: Sequence[tuple[str, Mapping[str, float]]]) -> float:
    """Return the sharpness that makes the right domains the likeliest (temperature scaling)."""

    def surprise(sharpness: float) -> float:
        return sum(
            math.log(sum(math.exp(sharpness * (score - scores[domain])) for score in scores.values()))
            for domain, scores in measured
        )

    return min(_SHARPNESS, key=surprise)
