"""Remember the newest sessions of all users in one sorted set, for lists of what the warehouse does not have yet.

A member is a user and a session, its score the time at which the session began. The set holds the newest
`MOST_SESSIONS` sessions of the last seven days, whoever recorded them; it is a help for lists, so a session that is
missing in it is still in the journal or the table, and in the list after the next refresh.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from agentmodel.cache._key_names import KeyNames
from agentmodel.cache._valkey import Valkey
from agentmodel.keys import check_id

__all__ = ["MOST_SESSIONS", "NewestSession", "NewestSessions"]

MOST_SESSIONS: Final = 10_000
"""Sessions that are remembered."""

_KEPT_SECONDS = 7 * 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class NewestSession(NamedTuple):
    """A session that was recorded lately.

    Attributes:
        user_id: Its user.
        session_id: The session.
        started_at: When it began, aware.

    >>> from datetime import UTC, datetime
    >>> NewestSession("USR001", "SESS1", datetime(2025, 6, 14, tzinfo=UTC)).started_at.year
    2025
    """

    user_id: str
    session_id: str
    started_at: datetime


class NewestSessions:
    """Add to the set of the newest sessions, and read it.

    Args:
        valkey: The connection.
        now: Returns epoch seconds.

    >>> newest = NewestSessions(model.valkey)
    >>> listed = newest.newest(limit=MOST_SESSIONS)
    >>> sorted(session.session_id for session in listed if session.user_id == "USR001")
    ['SESS1', 'SESS2', 'SESS3']
    """

    def __init__(self, valkey: Valkey, *, now: Callable[[], float] = time.time) -> None:
        self._valkey, self._now = valkey, now
        self._key = KeyNames(valkey.settings.valkey_prefix, valkey.settings.shards).newest()

    def add(self, sessions: Iterable[tuple[str, str, datetime]], *, erasing_key: Callable[[str], str]) -> None:
        """Add sessions; those that began more than seven days ago, or before an erasure of their user, are left out.

        Args:
            sessions: The user, the session and when it began, of each.
            erasing_key: Returns the key in Valkey that holds, while a user is erased and for a time after, the version
                from which on its records stay.

        Raises:
            CacheUnavailable: Valkey does not answer, or has no memory left.

        >>> from datetime import UTC, datetime
        >>> newest = NewestSessions(model.valkey)
        >>> newest.add([("USR245", "SESS1", datetime.now(UTC))], erasing_key=lambda user: f"none of {user}")
        >>> mine = [session for session in newest.newest(limit=MOST_SESSIONS) if session.user_id == "USR245"]
        >>> newest.remove(mine)
        >>> [session.session_id for session in mine]
        ['SESS1']
        """
        oldest = int((self._now() - _KEPT_SECONDS) * 1_000_000)
        new = [NewestSession(*each) for each in sessions]
        new = [each for each in new if _score(each.started_at) >= oldest]
        if not new:
            return
        users = list(dict.fromkeys(each.user_id for each in new))
        replies = self._valkey.execute_many(
            [
                ("ZADD", self._key, *(part for each in new for part in (_score(each.started_at), _member(each)))),
                ("ZREMRANGEBYSCORE", self._key, "-inf", f"({oldest}"),
                ("ZREMRANGEBYRANK", self._key, 0, -MOST_SESSIONS - 1),
                ("EXPIRE", self._key, _KEPT_SECONDS),
                *(("GET", erasing_key(user)) for user in users),  # last: an erasure sets it before it removes sessions
            ]
        )
        before = {user: _version(found) for user, found in zip(users, replies[4:], strict=True) if found is not None}
        self.remove(each for each in new if _score(each.started_at) // 1000 << 16 < before.get(each.user_id, 0))

    def newest(self, limit: int, *, until: datetime | None = None, skip: int = 0) -> list[NewestSession]:
        """Return sessions, newest first; what names no session is removed.

        Args:
            limit: The most sessions.
            until: Only sessions that began at this time or earlier.
            skip: How many of them to pass over.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        highest = "+inf" if until is None else _score(until)
        command = ("ZREVRANGEBYSCORE", self._key, highest, "-inf", "WITHSCORES", "LIMIT", skip, limit)
        while True:
            found = self._valkey.execute(command)
            read = {member: _session(member, score) for member, score in zip(found[::2], found[1::2], strict=True)}
            damaged = [member for member, session in read.items() if session is None]
            if not damaged:
                return [session for session in read.values() if session is not None]
            self._valkey.execute(("ZREM", self._key, *damaged))

    def remove(self, sessions: Iterable[NewestSession]) -> None:
        """Remove sessions, because the warehouse has them or they do not exist any more.

        Raises:
            CacheUnavailable: Valkey does not answer.
        """
        members = [_member(each) for each in sessions]
        if members:
            self._valkey.execute(("ZREM", self._key, *members))


def _session(member: bytes, score: bytes) -> NewestSession | None:
    """Return the session of an entry of the set; None if it is not what `NewestSessions.add` wrote."""
    try:
        user_id, _, session_id = member.decode().partition(" ")
        began = _EPOCH + int(float(score)) * _MICROSECOND
        return NewestSession(check_id("user", user_id, "USR"), check_id("session", session_id, "SESS"), began)
    except (ValueError, OverflowError):  # an error of an id or of UTF-8 is a ValueError too
        return None


def _version(found: bytes) -> float:
    """Return from which version on records of a user stay; of a damaged one, that none does."""
    try:
        return int(found)
    except ValueError:
        return math.inf


def _member(session: NewestSession) -> str:
    return f"{session.user_id} {session.session_id}"


def _score(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
