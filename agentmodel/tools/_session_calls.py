"""Tells the calls of a session apart: a call made again after it failed is another attempt, any other is a new call."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.access.recorder import ProcessRecorder
from agentmodel.suggest.plan import ToolRef
from agentmodel.suggest.review import canonical

__all__ = ["CallKey", "Claim", "FailedCall", "SessionCalls"]

CallKey: TypeAlias = tuple[str | None, ToolRef, str]
"""Process of the block that a call is made in, the tool, and the digest of the arguments."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that failed; made again, it is another attempt."""

    call_id: str
    process: ProcessRecorder
    attempts: int
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Identity of a call that is about to be made.

    Attributes:
        key: What is called, and where.
        call_id: Identity of the call in its session.
        earlier: The call, if it failed before.
    """

    key: CallKey
    call_id: str
    earlier: FailedCall | None = None


class SessionCalls:
    """Tells the calls of one session apart.

    Args:
        session: User id and session id.
        recorded: Returns the ids of the calls that the session has recorded before.
    """

    def __init__(self, session: tuple[str, str], recorded: Callable[[], set[str]]) -> None:
        self._session = session
        self._recorded = recorded
        self._used: set[str] | None = None  # ids of calls that people may be asked about
        self._failed: dict[CallKey, FailedCall] = {}
        self._taken: set[tuple[str, ToolRef]] = set()
        self._lock = ForkSafeLock()

    def claim(self, key: CallKey, *, repeatable: bool) -> Claim:
        """Claim the identity of a call.

        Args:
            key: What is called, and where.
            repeatable: Whether the id must be the same when a later process makes the same call, so that the question
                about it is found again: the ids of the first, second … call with the same arguments.
        """
        with self._lock:
            earlier = self._failed.pop(key, None)
            if earlier is not None:
                return Claim(key, earlier.call_id, earlier)
            if not repeatable:
                return Claim(key, uuid.uuid4().hex)
            if self._used is None:
                self._used = self._recorded()
            ids = (self._id(key, number) for number in itertools.count(1))
            claim = Claim(key, next(each for each in ids if each not in self._used))
            self._used.add(claim.call_id)
            return claim

    def release(self, claim: Claim) -> None:
        """Give an identity back: the call was neither made nor decided about, and the next one is the same call."""
        with self._lock:
            if claim.earlier is not None:
                self._failed[claim.key] = claim.earlier
            elif self._used is not None:
                self._used.discard(claim.call_id)

    def failed(self, claim: Claim, *, process: ProcessRecorder, attempts: int, number: int) -> None:
        """Note that a call failed: made again, it is another attempt."""
        with self._lock:
            self._failed[claim.key] = FailedCall(claim.call_id, process, attempts, number)

    def is_first(self, process_id: str, ref: ToolRef) -> bool:
        """Return whether this is the first call of a tool in a process."""
        with self._lock:
            first = (process_id, ref) not in self._taken
            self._taken.add((process_id, ref))
        return first

    def _id(self, key: CallKey, number: int) -> str:
        parts = [*self._session, *key[1], key[2], number]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]
