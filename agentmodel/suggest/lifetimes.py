"""Lifetimes by score: history whose sequence of tools scores high is kept longer, and shorter again when it falls.

History is recorded with the days of a low score. A publish moves the expiry of a session and of everything in it by
the difference, counted from when it was recorded, so repeating it changes nothing. The session's own item is written
last and says which days hold (``TTLDays``): a publish that is killed in between is done again from there.
Items without an expiry never get one here: what was stored to stay, stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from agentmodel import keys
from agentmodel.access.repository import Near
from agentmodel.config import Settings
from agentmodel.dynamo.models import UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.exceptions import CacheUnavailable, Conflict
from agentmodel.suggest.learnt import SessionScore
from agentmodel.ttl import EXPIRES_AT

__all__ = ["Lifetimes"]

T = TypeVar("T")
_CHUNK = 100


class Lifetimes:
    """Moves the expiry of history.

    Args:
        settings: Days and threshold.
        table: The table.
        near: The cache, whose copies must not outlive what they are copies of; or None.
    """

    def __init__(self, settings: Settings, table: Table, *, near: Near | None = None) -> None:
        self._settings = settings
        self._table = table
        self._near = near

    def days(self, score: float) -> int:
        """How many days history of this score is kept."""
        high = score >= self._settings.ttl_score
        return self._settings.ttl_days_high if high else self._settings.ttl_days_low

    def apply(self, scores: Sequence[SessionScore]) -> tuple[int, int]:
        """Keep each session as long as its score says; how many were extended, and how many shortened.

        Raises:
            TableUnavailable: The table does not answer; what was moved stays so, and doing it again does the rest.
        """
        extended = shortened = 0
        for chunk in _chunks(scores):
            stored = self._table.get_many([UserSession.at(each.user_id, each.session_id) for each in chunk])
            for session, each in zip(stored, chunk, strict=True):
                if session is None or session.expires_at is None:
                    continue
                before, wanted = session.kept_days or self._settings.ttl_days_low, self.days(each.score)
                if wanted != before and self._move(session, session.expires_at, before=before, wanted=wanted):
                    extended += wanted > before
                    shortened += wanted < before
        return extended, shortened

    def _move(self, session: UserSession, expires_at: datetime, *, before: int, wanted: int) -> bool:
        until = int((expires_at + timedelta(days=wanted - before)).timestamp())
        partition = keys.SESSION_ITEMS.build(session.user_id, session.session_id)
        for item in self._table.query(Query(partition), consistent=True).items:
            if EXPIRES_AT in item and int(float(item[EXPIRES_AT]["N"])) != until:
                self._set(item, f"SET {EXPIRES_AT} = :until", {":until": {"N": str(until)}})
        moved = self._set(
            session.key.item(),
            f"SET {EXPIRES_AT} = :until, TTLDays = :days",
            {":until": {"N": str(until)}, ":days": {"N": str(wanted)}},
            old={":old": {"N": str(int(expires_at.timestamp()))}},
        )
        self._forget(session.user_id, [partition, session.pk])
        return moved

    def _set(
        self, item: dict[str, Any], expression: str, values: dict[str, Any], *, old: dict[str, Any] | None = None
    ) -> bool:
        """Update one item that is still there; False when it is gone, or was written since it was read."""
        condition = "attribute_exists(PK)" if old is None else f"{EXPIRES_AT} = :old"
        try:
            self._table.call(
                "UpdateItem",
                TableName=self._table.name,
                Key={"PK": item["PK"], "SK": item["SK"]},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=values | (old or {}),
            )
        except Conflict:
            return False
        return True

    def _forget(self, owner: str, partitions: Sequence[str]) -> None:
        if self._near is None:
            return
        for partition in partitions:
            try:
                self._near.recent.forget(owner, partition)
            except CacheUnavailable:
                return  # noted by the connection: the copies go before anything else is asked once Valkey is back


def _chunks(things: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
