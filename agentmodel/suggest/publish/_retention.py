"""Retention by score: history whose sequence of tools scores high is kept longer, and shorter again when it falls.

History is recorded with the retention of a low score. A publish moves the expiry of a session and of everything in it
by the difference, counted from when it was recorded, so repeating it changes nothing. The session's own item is written
last and says which retention holds (``TTLDays``), so a publish that is killed before is done again. Items without an
expiry never get one here: they were stored to stay.

DynamoDB has no cheaper way: each item whose expiry changes is one write. Only sessions whose retention changes are read
and written, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agentmodel import keys
from agentmodel._ttl import EXPIRES_AT
from agentmodel.access.repository import Caches
from agentmodel.config import Settings
from agentmodel.dynamo.models import UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.writer import WORKERS
from agentmodel.exceptions import CacheUnavailable, Conflict

if TYPE_CHECKING:
    from agentmodel.suggest.publish._fencing import PublishLease
    from agentmodel.suggest.publish._warehouse_queries import SessionScore

__all__ = ["Retention"]

T = TypeVar("T")
_CHUNK = 100


class _Move(NamedTuple):
    session: UserSession
    before: int
    wanted: int


class Retention:
    """Keeps history as long as its score says.

    Args:
        settings: The days for high and low scores, and the score between them.
        table: The table.
        caches: The cache, whose copies must not outlive the items; or None.
    """

    def __init__(self, settings: Settings, table: Table, *, caches: Caches | None = None) -> None:
        self._settings = settings
        self._table = table
        self._caches = caches

    def days(self, score: float) -> int:
        """Return how many days history of this score is kept."""
        high = score >= self._settings.ttl_score
        return self._settings.ttl_days_high if high else self._settings.ttl_days_low

    def apply(
        self,
        scores: Sequence[SessionScore],
        lease: PublishLease | None = None,
        further: Callable[[int], object] = bool,
    ) -> tuple[int, int]:
        """Move the expiry of each session to what its score says.

        Args:
            scores: The sessions.
            lease: The lease of the run that the scores are of; None where no other run can write.
            further: Called with how many sessions are done, before each hundred.

        Returns:
            How many sessions are kept longer than before, and how many shorter.

        Raises:
            Superseded: A newer run has begun; it moves the rest.
            TableUnavailable: The table does not answer; what was moved stays so, and doing it again does the rest.
        """
        extended = shortened = 0
        for number, chunk in enumerate(_chunks(scores)):
            further(number * _CHUNK)
            keys_of_chunk = [UserSession.at(each.user_id, each.session_id) for each in chunk]
            stored = self._table.get_many(keys_of_chunk, readable=True)
            moves = [
                _Move(session, before, wanted)
                for session, each in zip(stored, chunk, strict=True)
                if session is not None and session.expires_at is not None
                if (before := session.ttl_days or self._settings.ttl_days_low) != (wanted := self.days(each.score))
            ]
            if moves and lease is not None:
                lease.enter()
            for move, moved in zip(moves, self._move_all(moves, lease), strict=True):
                extended += moved and move.wanted > move.before
                shortened += moved and move.wanted < move.before
        return extended, shortened

    def _move_all(self, moves: Sequence[_Move], lease: PublishLease | None) -> list[bool]:
        if len(moves) < 2:
            return [self._move(move, lease) for move in moves]
        with ThreadPoolExecutor(min(WORKERS, len(moves)), thread_name_prefix="agentmodel-retention") as pool:
            pending = [pool.submit(self._move, move, lease) for move in moves]
            try:
                return [each.result() for each in pending]
            except BaseException:  # wait for those under way; do not begin the others
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _move(self, move: _Move, lease: PublishLease | None) -> bool:
        if lease is not None:
            lease.check()
        session = move.session
        if session.expires_at is None:
            return False
        until = int((session.expires_at + timedelta(days=move.wanted - move.before)).timestamp())
        partition = keys.SESSION_ITEMS.build(session.user_id, session.session_id)
        to = {":until": {"N": str(until)}}
        for item in self._table.query(Query(partition), consistent=True).items:
            if EXPIRES_AT in item and int(float(item[EXPIRES_AT]["N"])) != until:
                self._set(item, f"SET {EXPIRES_AT} = :until", to, old=item[EXPIRES_AT])
        moved = self._set(
            session.key.item(),
            f"SET {EXPIRES_AT} = :until, TTLDays = :days",
            to | {":days": {"N": str(move.wanted)}},
            old={"N": str(int(session.expires_at.timestamp()))},
        )
        self._forget(session.user_id, [partition, session.pk])
        return moved

    def _set(self, item: dict[str, Any], expression: str, values: dict[str, Any], *, old: dict[str, str]) -> bool:
        """Update one item whose expiry is as it was read; False where it was deleted, or its expiry was changed."""
        try:
            self._table.call(
                "UpdateItem",
                TableName=self._table.name,
                Key={"PK": item["PK"], "SK": item["SK"]},
                UpdateExpression=expression,
                ConditionExpression=f"{EXPIRES_AT} = :old",
                ExpressionAttributeValues={**values, ":old": old},
            )
        except Conflict:
            return False
        return True

    def _forget(self, owner: str, partitions: Sequence[str]) -> None:
        if self._caches is None:
            return
        for partition in partitions:
            try:
                self._caches.user_cache.invalidate(owner, partition)
            except CacheUnavailable:
                return  # the connection drops the copies before it answers anything else once Valkey is back


def _chunks(things: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
