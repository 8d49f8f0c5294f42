"""Snapshot: the requests of all users in the memory of a process, in which those that are similar to one are found.

The nearest by their signatures are found first, and only these are compared by the `Similarity`. An
`EmbeddingSimilarity` has no use for letters: its vectors are kept as one matrix, and all of them are compared at once.
A snapshot never changes; what changed makes another one, so that threads need no lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from heapq import nlargest
from itertools import accumulate, chain, compress, repeat
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, Self

from agentmodel._log import logger
from agentmodel.suggest._request_rows import LoadedRow, mapping_of
from agentmodel.suggest._signatures import BYTES, letters_of, sign
from agentmodel.suggest.plan._similarity import EmbeddingSimilarity, Similarity, cosines, numpy

__all__ = ["KEPT", "PLAIN_REQUESTS", "Match", "Snapshot"]

KEPT = 500
"""Requests that are compared by the measure: the nearest by their signatures."""

PLAIN_REQUESTS = 20_000
"""Requests of all users that are compared without numpy; a scan of more would take too long."""

_log = logger(__name__)


class Match(NamedTuple):
    """A mapping that was found by one of its requests.

    Attributes:
        similarity: How similar the request is, 0 to 1.
        request: The request of the mapping.
        user_id: The user of the mapping.
        category: The category of the mapping.
        executions: How often the mapping was run.
        successes: How often that succeeded.
    """

    similarity: float
    request: str
    user_id: str
    category: str
    executions: int
    successes: int


class Snapshot:
    """The requests of all users at one time.

    Args:
        similarity: Measures how similar requests are.
    """

    def __init__(self, similarity: Similarity) -> None:
        self._threshold = similarity.threshold
        self._columns = _columns_for(similarity)
        self._names: list[str] = []
        self._counts = array("I")  # requests of each row
        self._runs = array("I")  # executions of each row
        self._successes = array("I")
        self._requests: list[str] = []

    def __len__(self) -> int:
        """Return the number of mappings."""
        return len(self._names)

    @property
    def contents(self) -> dict[str, tuple[list[str], int, int]]:
        """Return the requests, executions and successes of each row, by its name."""
        ends = (0, *self._ends)
        return {
            name: (self._requests[ends[row] : ends[row + 1]], self._runs[row], self._successes[row])
            for row, name in enumerate(self._names)
        }

    def changed(self, rows: Mapping[str, LoadedRow | None]) -> Self:
        """Return a snapshot with these rows in place of those of the same name, and without those that are None."""
        kept = [name not in rows for name in self._names]
        added = {name: row for name, row in rows.items() if row is not None and row.requests}
        if numpy() is None:
            added = self._within_bound(added, sum(compress(self._counts, kept)))
        new = object.__new__(type(self))
        new._threshold = self._threshold
        new_rows = list(added.values())
        requests_kept = list(chain.from_iterable(map(repeat, kept, self._counts)))
        new._names = [*compress(self._names, kept), *added]
        new._counts = array("I", [*compress(self._counts, kept), *(len(row.requests) for row in new_rows)])
        new._runs = array("I", [*compress(self._runs, kept), *(row.executions for row in new_rows)])
        new._successes = array("I", [*compress(self._successes, kept), *(row.successes for row in new_rows)])
        new._requests = [
            *compress(self._requests, requests_kept),
            *chain.from_iterable(row.requests for row in new_rows),
        ]
        new._columns = self._columns.changed(requests_kept, new_rows)
        return new

    def nearest(self, request: str) -> list[Match]:
        """Return the mappings of similar requests, in any order; a mapping may be there by several requests."""
        found = []
        for at, similarity in self._columns.nearest(request, self._requests):
            if similarity >= self._threshold:
                row = bisect_right(self._ends, at)
                whose = mapping_of(self._names[row])
                found.append(Match(similarity, self._requests[at], *whose, self._runs[row], self._successes[row]))
        return found

    @cached_property
    def _ends(self) -> array[int]:
        return array("I", accumulate(self._counts))

    @staticmethod
    def _within_bound(added: dict[str, LoadedRow], known: int) -> dict[str, LoadedRow]:
        sizes = accumulate((len(row.requests) for row in added.values()), initial=known)
        within = {name: added[name] for name, before in zip(added, sizes, strict=False) if before < PLAIN_REQUESTS}
        if len(within) < len(added):
            _log.warning(
                "similar.bounded: numpy 2 is not installed, so requests of %d mappings are not compared; install it: "
                "pip install 'agentmodel[similarity]'",
                len(added) - len(within),
            )
        return within


class _Columns(Protocol):
    """What is compared of all requests, in their order."""

    def changed(self, kept: Sequence[bool], added: Sequence[LoadedRow]) -> _Columns:
        """Return the columns of those that are kept, and of the requests of these rows after them."""
        ...

    def nearest(self, request: str, requests: Sequence[str]) -> Iterable[tuple[int, float]]:
        """Return the numbers of the nearest requests, and how similar each is."""
        ...


def _columns_for(similarity: Similarity) -> _Columns:
    if isinstance(similarity, EmbeddingSimilarity):
        return _Vectors(similarity, [])
    np = numpy()
    return _Numbers(similarity, []) if np is None else _Words(similarity, np.empty((BYTES // 8, 0), np.uint64))


class _Numbers:
    """Signatures as numbers of Python."""

    def __init__(self, similarity: Similarity, signatures: list[int]) -> None:
        self._similarity = similarity
        self._signatures = signatures

    def changed(self, kept: Sequence[bool], added: Sequence[LoadedRow]) -> _Columns:
        data = b"".join(row.signatures for row in added)
        new = [int.from_bytes(data[at : at + BYTES]) for at in range(0, len(data), BYTES)]
        return _Numbers(self._similarity, [*compress(self._signatures, kept), *new])

    def nearest(self, request: str, requests: Sequence[str]) -> Iterable[tuple[int, float]]:
        near = self._near(sign(letters_of(request)))
        return zip(near, self._similarity.scores(request, [requests[at] for at in near]), strict=True)

    def _near(self, signature: bytes) -> list[int]:
        own = int.from_bytes(signature)
        distances = [(own ^ other).bit_count() for other in self._signatures]
        return sorted(range(len(distances)), key=distances.__getitem__)[:KEPT]


class _Words(_Numbers):
    """Signatures in arrays of numpy: one for each of their words of 64 bits."""

    def __init__(self, similarity: Similarity, words: Any) -> None:
        super().__init__(similarity, [])
        self._words = words

    def changed(self, kept: Sequence[bool], added: Sequence[LoadedRow]) -> _Columns:
        np: Any = numpy()
        new = np.frombuffer(b"".join(row.signatures for row in added), np.uint64).reshape(-1, BYTES // 8).T
        words = np.concatenate([self._words[:, np.array(kept, bool)], new], axis=1)
        return _Words(self._similarity, np.ascontiguousarray(words))

    def _near(self, signature: bytes) -> list[int]:
        np: Any = numpy()
        own = np.frombuffer(signature, np.uint64)
        distances = np.zeros(self._words.shape[1], np.uint16)
        for word, column in zip(own, self._words, strict=True):
            distances += np.bitwise_count(column ^ word)
        # a counting cut is faster than a partition
        edge = np.searchsorted(np.bincount(distances, minlength=1).cumsum(), KEPT)
        near = np.flatnonzero(distances <= edge)
        found: list[int] = near[np.argsort(distances[near], kind="stable")][:KEPT].tolist()
        return found


class _Vectors:
    """Embeddings: the rows of a matrix, or a list of vectors without numpy."""

    def __init__(self, similarity: EmbeddingSimilarity, vectors: Sequence[Any]) -> None:
        self._similarity = similarity
        self._vectors = vectors

    def changed(self, kept: Sequence[bool], added: Sequence[LoadedRow]) -> _Columns:
        texts = [request for row in added for request in row.requests]
        vectors = [*compress(self._vectors, kept), *self._similarity.vectors(texts)]
        np = numpy()
        return _Vectors(self._similarity, vectors if np is None or not vectors else np.stack(vectors))

    def nearest(self, request: str, requests: Sequence[str]) -> Iterable[tuple[int, float]]:  # noqa: ARG002 - it compares no text
        (own,) = self._similarity.vectors([request])
        scores = cosines(own, self._vectors)
        return nlargest(KEPT, enumerate(scores), key=itemgetter(1))
