"""Agents by score: a sorted set to each domain, replaced at once.

Scores are held negated, so that ascending order is best score first and equal scores follow their ids. The first
member carries the run that published them; it is always there, so an empty ranking differs from an unknown one.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

from agentmodel.cache.client import Valkey
from agentmodel.cache.codec import version_text
from agentmodel.cache.keyspace import Keyspace
from agentmodel.cache.scripts import SWAP
from agentmodel.exceptions import ValidationError

__all__ = ["Leaderboard"]

_CHUNK = 500
_DRAFT_SECONDS = 60


class Leaderboard:
    """The ranking of each domain's agents.

    Args:
        valkey: The connection.
        prefix: First part of every key; from the settings by default.
    """

    def __init__(self, valkey: Valkey, *, prefix: str | None = None) -> None:
        self._valkey = valkey
        self._keys = Keyspace(prefix or valkey.settings.valkey_prefix, valkey.settings.shards)

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
        draft = f"{live}:{secrets.token_hex(8)}"
        members: list[object] = ["-inf", f"\0{version_text(run)}"]
        members += [part for agent, score in scores.items() for part in (repr(-float(score)), agent)]
        # filled in pieces, so that a large ranking does not hold the server; unpublished drafts vanish by themselves
        for start in range(0, len(members), 2 * _CHUNK):
            piece = members[start : start + 2 * _CHUNK]
            self._valkey.call([("ZADD", draft, *piece), ("EXPIRE", draft, _DRAFT_SECONDS)])
        return bool(self._valkey.one(SWAP.on([live, draft], version_text(run))))

    def top(self, domain_id: str, limit: int) -> list[tuple[str, float]] | None:
        """The best agents with their scores, best first; None when nothing was published.

        Raises:
            ValidationError: The limit is below 1.
            CacheUnavailable: Valkey does not answer.
        """
        if limit < 1:
            raise ValidationError("limit", limit, "give 1 or more")
        flat = self._valkey.one(("ZRANGE", self._keys.ranking(domain_id), 0, limit, "WITHSCORES"))
        if not flat:
            return None
        return [(flat[at].decode(), -float(flat[at + 1])) for at in range(2, len(flat), 2)]

    def drop(self, domain_id: str) -> None:
        """Forgets a domain's ranking; the next reader asks the table."""
        self._valkey.forget([self._keys.ranking(domain_id)])
