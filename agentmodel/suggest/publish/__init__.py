"""Publish: write what the warehouse computed back into the table and the leaderboard."""

from __future__ import annotations

from agentmodel.suggest.publish._fencing import OutOfTime, scores_seen
from agentmodel.suggest.publish._publisher import Published, Publisher

__all__ = ["OutOfTime", "Published", "Publisher", "scores_seen"]
