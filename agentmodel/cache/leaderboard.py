"""Agents by score: a sorted set to each domain, replaced at once.

Scores are held negated, so that ascending order is best score first and equal scores follow their ids. The first
member carries the run that published them; it is always there, so an empty ranking differs from an unknown one.
The best of them lie beside the set as one string, replaced in the same step: reading a string costs half of reading
the members.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import version_text
from agentmodel.cache.keyspace import Keyspace
from agentmodel.cache.read import Counts
from agentmodel.cache.scripts import SWAP
from agentmodel.exceptions import ValidationError

__all__ = ["Leaderboard"]

_CHUNK = 500
_DRAFT_SECONDS = 60
_BEST = 25  # agents of the string beside the set


class Leaderboard:
    """The ranking of each domain's agents.

    Args:
        valkey: The connection.
        prefix: First part of every key; from the settings by default.

    Attributes:
        counts: Rankings that were there, and that were not.
    """

    def __init__(self, valkey: Valkey, *, prefix: str | None = None) -> None:
        self._valkey = valkey
        self._keys = Keyspace(prefix or valkey.settings.valkey_prefix, valkey.settings.shards)
        self.counts = Counts()

    def replace(self, domain_id: str, scores: Mapping[str, float], run: int) -> bool:
        """Puts a whole ranking in the place of the old one; readers see the old or the new, never half or none.

        Args:
            domain_id: The domain.
            scores: Agent → score.
            run: Grows with every analysis, such as its time.

        Returns:
            False when a newer run is there; then nothing changes.

        Raises:
            ValidationError: A score is not a finite number.
            CacheUnavailable: Valkey does not answer.
        """
        for agent, score in scores.items():
            if not math.isfinite(score):
                raise ValidationError(f"scores[{agent}]", score, "give a finite number")
        live = self._keys.ranking(domain_id)
        best = sorted(((agent, float(score)) for agent, score in scores.items()), key=lambda one: (-one[1], one[0]))
        head = json.dumps(best[:_BEST], ensure_ascii=False)
        draft = f"{live}:{secrets.token_hex(8)}"
        members: list[object] = ["-inf", f"\0{version_text(run)}"]
        members += [part for agent, score in scores.items() for part in (repr(-float(score)), agent)]
        # filled in pieces, so that a large ranking does not hold the server; unpublished drafts vanish by themselves
        for start in range(0, len(members), 2 * _CHUNK):
            piece = members[start : start + 2 * _CHUNK]
            self._valkey.call([("ZADD", draft, *piece), ("EXPIRE", draft, _DRAFT_SECONDS)])
        return bool(self._valkey.one(SWAP.on([live, draft, _head(live)], version_text(run), head)))

    def top(self, domain_id: str, limit: int) -> list[tuple[str, float]] | None:
        """The best agents with their scores, best first; None when nothing was published.

        Raises:
            ValidationError: The limit is below 1.
            CacheUnavailable: Valkey does not answer.
        """
        if limit < 1:
            raise ValidationError("limit", limit, "give 1 or more")
        live = self._keys.ranking(domain_id)
        if limit <= _BEST:
            head = self._valkey.one(("GET", _head(live)))
            self._count(there=head is not None)
            return None if head is None else [(agent, score) for agent, score in json.loads(head)[:limit]]
        flat = self._valkey.one(("ZRANGE", live, 0, limit, "WITHSCORES"))
        self._count(there=bool(flat))
        if not flat:
            return None
        return [(flat[at].decode(), -float(flat[at + 1])) for at in range(2, len(flat), 2)]

    def published(self, domain_id: str) -> tuple[int, dict[str, float] | None]:
        """The number of the run that published the ranking, and all of it; 0 and None when nothing was published.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        flat = self._valkey.one(("ZRANGE", self._keys.ranking(domain_id), 0, -1, "WITHSCORES"))
        if not flat:
            return 0, None
        scores = {flat[at].decode(): -float(flat[at + 1]) for at in range(2, len(flat), 2)}
        return int(flat[0].decode()[1:]), scores

    def _count(self, *, there: bool) -> None:
        self.counts.hits += there
        self.counts.misses += not there

    def drop(self, domain_id: str) -> None:
        """Forgets a domain's ranking; the next reader asks the table."""
        live = self._keys.ranking(domain_id)
        self._valkey.forget([live, _head(live)])


def _head(live: str) -> str:
    return f"{live}:head"
