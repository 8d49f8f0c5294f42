"""Rank the agents of each domain by score, in a sorted set that is replaced in one step.

Scores are stored negated, so that ascending order is best score first, and equal scores follow their ids. The first
member carries the number of the run that published the ranking. It is always there, so an empty ranking differs from
one that was never published. The best agents are stored as one string too, replaced in the same step: reading a string
costs half of reading the members.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

from agentmodel._log import logger
from agentmodel._values.names import takes_names
from agentmodel.cache._item_codec import Item, decode_many, encode_many, version_text
from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._lua import SWAP_RANKING
from agentmodel.cache._read_through import Counts
from agentmodel.cache._valkey import Valkey
from agentmodel.exceptions import ValidationError

__all__ = ["Leaderboard"]

_log = logger("agentmodel.cache")
_CHUNK = 500
_DRAFT_SECONDS = 60
_BEST = 25  # agents in the string of the best


class Leaderboard:
    """Store and read the ranking of each domain's agents.

    Args:
        valkey: The connection.
        prefix: The first part of every key; from the settings by default.

    Attributes:
        counts: How many reads found a ranking (``hits``) and how many found none (``misses``).

    >>> ranking = Leaderboard(model.valkey)
    >>> ranking.replace("DMN021", {"AGT001": 0.5, "AGT002": 2.0}, run=1)
    True
    >>> ranking.top("DMN021", 1)
    [('AGT002', 2.0)]
    >>> ranking.replace("DMN021", {"AGT001": 9.0}, run=0)  # an older run replaces nothing
    False
    >>> ranking.published("DMN021")
    (1, {'AGT002': 2.0, 'AGT001': 0.5})
    >>> ranking.drop("DMN021")
    >>> ranking.top("DMN021", 1) is None
    True
    """

    def __init__(self, valkey: Valkey, *, prefix: str | None = None) -> None:
        self._valkey = valkey
        self._keys = KeyNames(prefix or valkey.settings.valkey_prefix, valkey.settings.shards)
        self.counts = Counts()

    @takes_names
    def replace(self, domain_id: str, scores: Mapping[str, float], run: int) -> bool:
        """Replace a ranking; readers see the old one or the new one, never half of it or none.

        Args:
            domain_id: The domain.
            scores: Agent → score.
            run: The number of the run; it must grow with every run, such as its time.

        Returns:
            False when the ranking of a newer run is there; then nothing changes.

        Raises:
            ValidationError: A score is not a finite number.
            CacheUnavailable: Valkey does not answer.
        """
        for agent, score in scores.items():
            if not math.isfinite(score):
                raise ValidationError(f"scores[{agent}]", score, "must be a finite number")
        live = self._keys.ranking(domain_id)
        ranked = sorted(
            ((agent, float(score)) for agent, score in scores.items()), key=lambda pair: (-pair[1], pair[0])
        )
        best = encode_many(
            [{"agent": {"S": agent}, "score": {"N": repr(score)}} for agent, score in ranked[:_BEST]], run
        )
        draft = f"{live}:{secrets.token_hex(8)}"
        members: list[object] = ["-inf", f"\0{version_text(run)}"]
        members += [part for agent, score in scores.items() for part in (repr(-float(score)), agent)]
        # in chunks, so that a large ranking does not block the server; a draft that is not published expires
        for start in range(0, len(members), 2 * _CHUNK):
            chunk = members[start : start + 2 * _CHUNK]
            self._valkey.execute_many([("ZADD", draft, *chunk), ("EXPIRE", draft, _DRAFT_SECONDS)])
        swap = SWAP_RANKING.on([live, draft, _best_key(live)], version_text(run), best)
        return bool(self._valkey.execute(swap))

    @takes_names
    def top(self, domain_id: str, limit: int) -> list[tuple[str, float]] | None:
        """Return the best agents with their scores, best first; None when no ranking was published.

        Raises:
            ValidationError: ``limit`` is below 1.
            CacheUnavailable: Valkey does not answer.
        """
        if limit < 1:
            raise ValidationError("limit", limit, "must be 1 or more")
        live = self._keys.ranking(domain_id)
        if limit <= _BEST:
            best = self._valkey.execute(("GET", _best_key(live)))
            found = None if best is None else decode_many(best)
            if (best is None) == (found is None):
                self._count(found=best is not None)
                return None if found is None else [_ranked(each) for each in found[0][:limit]]
        _, scores = self._members(domain_id, limit)
        self._count(found=scores is not None)
        return None if scores is None else list(scores.items())

    @takes_names
    def published(self, domain_id: str) -> tuple[int, dict[str, float] | None]:
        """Return the run that published the ranking, and all scores by agent; 0 and None when none was published.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        return self._members(domain_id, -1)

    def _members(self, domain_id: str, last: int) -> tuple[int, dict[str, float] | None]:
        """Return the run and the scores; a ranking that cannot be read is dropped."""
        flat = self._valkey.execute(("ZRANGE", self._keys.ranking(domain_id), 0, last, "WITHSCORES"))
        if not flat:
            return 0, None
        try:
            scores = {flat[at].decode(): -float(flat[at + 1]) for at in range(2, len(flat), 2)}
            return int(flat[0].decode().removeprefix("\0")), scores
        except ValueError:
            _log.warning("cache.damaged: could not read the ranking of %s; deleted it", domain_id)
            self.drop(domain_id)
            return 0, None

    def _count(self, *, found: bool) -> None:
        self.counts.hits += found
        self.counts.misses += not found

    @takes_names
    def drop(self, domain_id: str) -> None:
        """Delete a domain's ranking; the next reader reads the table."""
        live = self._keys.ranking(domain_id)
        self._valkey.delete([live, _best_key(live)])


def _ranked(member: Item) -> tuple[str, float]:
    return member["agent"]["S"], float(member["score"]["N"])


def _best_key(live: str) -> str:
    return f"{live}:head"
