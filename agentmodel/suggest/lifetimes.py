"""Lifetimes by score: history whose sequence of tools scores high is kept longer, and shorter again when it falls.

History is recorded with the days of a low score. A publish moves the expiry of a session and of everything in it by
the difference, counted from when it was recorded, so repeating it changes nothing. The session's own item is written
last and says which days hold (``TTLDays``): a publish that is killed in between is done again from there.
Items without an expiry never get one here: what was stored to stay, stays.

DynamoDB has no cheaper way: each item that changes its expiry is one write. Only sessions that change between long and
short life are read and written, a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agentmodel import keys
from agentmodel.access.repository import Near
from agentmodel.config import Settings
from agentmodel.dynamo.models import UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.write import WORKERS
from agentmodel.exceptions import CacheUnavailable, Conflict
from agentmodel.ttl import EXPIRES_AT

if TYPE_CHECKING:
    from agentmodel.suggest.learnt import SessionScore
    from agentmodel.suggest.turns import Turn

__all__ = ["Lifetimes"]

T = TypeVar("T")
_CHUNK = 100


class _Move(NamedTuple):
    session: UserSession
    before: int
    wanted: int


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

    def apply(self, scores: Sequence[SessionScore], turn: Turn | None = None) -> tuple[int, int]:
        """Keep each session as long as its score says; how many were extended, and how many shortened.

        Args:
            scores: The sessions.
            turn: The turn of the run that knows them, if runs take turns.

        Raises:
            Overtaken: A newer run has begun; it moves what is left.
            TableUnavailable: The table does not answer; what was moved stays so, and doing it again does the rest.
        """
        extended = shortened = 0
        for chunk in _chunks(scores):
            stored = self._table.get_many([UserSession.at(each.user_id, each.session_id) for each in chunk])
            moves = [
                _Move(session, before, wanted)
                for session, each in zip(stored, chunk, strict=True)
                if session is not None and session.expires_at is not None
                if (before := session.kept_days or self._settings.ttl_days_low) != (wanted := self.days(each.score))
            ]
            if moves and turn is not None:
                turn.enter()
            for move, moved in zip(moves, self._all(moves, turn), strict=True):
                extended += moved and move.wanted > move.before
                shortened += moved and move.wanted < move.before
        return extended, shortened

    def _all(self, moves: Sequence[_Move], turn: Turn | None) -> list[bool]:
        if len(moves) < 2:
            return [self._move(move, turn) for move in moves]
        with ThreadPoolExecutor(min(WORKERS, len(moves)), thread_name_prefix="agentmodel-lifetimes") as pool:
            waiting = [pool.submit(self._move, move, turn) for move in moves]
            try:
                return [done.result() for done in waiting]
            except BaseException:  # those under way end; the others are not begun
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _move(self, move: _Move, turn: Turn | None) -> bool:
        if turn is not None:
            turn.check()
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
        """Update one item whose expiry is as it was read; False when it is gone, or somebody else moved it."""
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
