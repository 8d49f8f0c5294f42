"""Categories of requests: those that an application types, and those that are derived from the request itself.

A request without a category joins the nearest founder, an earlier request of the same user and domain, where the two
are similar enough; else it founds a category. The name of a derived category is made from its founder alone, and begins
with `DERIVED`; a typed category that does so counts as none. Who stores the assignment never compares that request
again, so that it never moves.

Similarity is the cosine of weighted terms: words and pairs of words, and in scripts that set no or free blanks between
words, pairs of letters. A term that few founders have weighs more (tf-idf). A founder's weights are those of the moment
at which it founded its category.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Final

from agentmodel._values.text import FIRST_SYLLABLE, one_line, words_of

__all__ = [
    "DERIVED", "MAX_FOUNDERS", "Founders", "compared_text", "derived_name",
    "has_derived_form", "is_derived", "kept_text",
]  # fmt: skip

DERIVED: Final = "~"
"""The character that the name of a derived category begins with."""

THRESHOLD: Final = 0.3
"""The similarity from which on a request joins a founder; measured on real requests."""

MAX_FOUNDERS: Final = 500
"""The newest founders of a user and domain, with which a request is compared: more would only cost time."""

_CHARACTERS: Final = 500  # of a request that are kept and compared
_LABEL: Final = 48  # characters of the founder in the name
_DIGITS: Final = 3  # bytes of the hash in the name
_DERIVED_NAME: Final = re.compile(rf"{DERIVED}.* · [0-9a-f]{{{2 * _DIGITS}}}", re.DOTALL)


def is_derived(category: str) -> bool:
    """Return whether a category was derived from a request, and not typed."""
    return category.startswith(DERIVED)


def has_derived_form(category: str) -> bool:
    """Return whether a name is one that `derived_name` makes; a typed one with the same beginning is none."""
    return _DERIVED_NAME.fullmatch(category) is not None


def compared_text(request: str) -> str:
    """Return the part of a request that is compared, on one line."""
    return one_line(unicodedata.normalize("NFC", request), longest=_CHARACTERS)


def kept_text(request: str) -> str:
    """Return the part of a request that a publish keeps; others are compared with it by the same part of them."""
    return " ".join(request.split())[:_CHARACTERS]


def derived_name(founder: str) -> str:
    """Return the name of the category that a request founds: its beginning, and a hash of its letters.

    >>> derived_name("Find a café near the stadium!"), derived_name("강남역 근처 맛집 찾아줘")
    ('~Find a café near the stadium! · d81d71', '~강남역 근처 맛집 찾아줘 · f5bd52')
    """
    text = compared_text(founder)
    digest = hashlib.blake2b("".join(words_of(text)).encode(), digest_size=_DIGITS).hexdigest()
    return f"{DERIVED}{one_line(text, longest=_LABEL)} · {digest}"


class Founders:
    """The founders of one user's categories in one domain. All requests are as `compared_text` returns them.

    Args:
        founders: Categories with the requests that founded them, in the order in which they did.

    >>> known = Founders()
    >>> known.nearest("find a café near the stadium") is None
    True
    >>> known.found("find a café near the stadium")
    '~find a café near the stadium · d81d71'
    >>> known.nearest("please find me a café near the station")
    '~find a café near the stadium · d81d71'
    """

    def __init__(self, founders: Iterable[tuple[str, str]] = ()) -> None:
        self._founders: deque[tuple[str, dict[str, float]]] = deque(maxlen=MAX_FOUNDERS)
        self._having: Counter[str] = Counter()  # how many founders have a term
        self._count = 0
        for category, request in founders:
            self._add(category, request)

    def nearest(self, request: str) -> str | None:
        """Return the category of the most similar founder; None where none is similar enough."""
        weights = self._weights(request)
        best, category = 0.0, None
        for founder, others in self._founders:
            found = sum([weights[term] * others[term] for term in weights.keys() & others.keys()])
            if found > best:
                best, category = found, founder
        return category if best >= THRESHOLD else None

    def found(self, request: str) -> str:
        """Found a category, and return its name."""
        category = derived_name(request)
        self._add(category, request)
        return category

    def _add(self, category: str, request: str) -> None:
        weights = self._weights(request)
        self._founders.append((category, weights))
        self._having.update(weights.keys())
        self._count += 1

    def _weights(self, request: str) -> dict[str, float]:
        """Return the weight of each term, as a vector of length 1."""
        weights = {
            term: (1 + math.log(times)) * (1 + math.log((1 + self._count) / (1 + self._having[term])))
            for term, times in _terms(request).items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {term: weight / length for term, weight in weights.items()}


def _terms(request: str) -> Counter[str]:
    """Count the words and pairs of neighbouring words, or, from Hangul on, the pairs of letters."""
    terms: Counter[str] = Counter()
    words = words_of(request)
    for by_letters, some in groupby(words, key=lambda word: max(word) >= FIRST_SYLLABLE):
        if by_letters:
            letters = "".join(some)
            terms.update(map("".join, pairwise(letters)) if len(letters) > 1 else [letters])
        else:
            each = list(some)
            terms.update(each)
            terms.update(f"{one} {other}" for one, other in pairwise(each))
    return terms
