"""Holdout: which plans are withheld, so that what plans change can be measured (`AgentModel.impact`)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

__all__ = ["ALL_GIVEN", "Assignment", "held_out"]

_HASHES = 2**64


class Assignment(NamedTuple):
    """Whether a plan is given or withheld, and by which rule.

    Attributes:
        withheld: Whether it is withheld.
        share: The share of plans that was withheld at random when it was made; None where chance did not decide.
        since: When a person let the domain have plans again; None where nobody had to.
    """

    withheld: bool
    share: float | None = None
    since: datetime | None = None


ALL_GIVEN = Assignment(withheld=False)
"""A plan that is given without a draw."""


def held_out(key: str, share: float) -> bool:
    """Return whether the session or suggestion with this key is held out: the same in every process and language.

    The first 8 bytes of the SHA-256 of ``agentmodel:key`` are compared with the share, so a larger share keeps those
    who were held out before.

    Args:
        key: Names the session or suggestion.
        share: The share that is held out, 0 to 1.

    >>> [held_out(f"USR001#SESS{n}", 0.3) for n in range(8)]
    [False, False, True, False, False, False, False, False]
    """
    digest = hashlib.sha256(f"agentmodel:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * _HASHES
