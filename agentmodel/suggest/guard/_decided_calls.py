"""Memory of the outcomes of a review rule, so that it is evaluated once for each call.

That a call needed no question must be known when the framework runs its step again: other calls of the step may have
been made by then, and a new question would have them made twice. That a call has a question is in the table; it is
remembered here for the time in which the table does not answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.exceptions import CacheUnavailable

if TYPE_CHECKING:
    from agentmodel.cache import Valkey

__all__ = ["DecidedCalls", "RuleOutcome"]

_log = logger(__name__)

RuleOutcome: TypeAlias = Literal["released", "asked", ""]
"""Outcome of the review rule for a call: it needs no question, it has one, or (empty) it was not evaluated yet."""

_OUTCOMES: dict[bytes, RuleOutcome] = {b"released": "released", b"asked": "asked"}
_REMEMBERED = 10_000  # calls kept in the memory of this process


class DecidedCalls:
    """Remembers the outcome of a review rule for each call, in this process and in Valkey.

    Args:
        valkey: Shares the outcomes between processes; None keeps them in this process.
        seconds: How long Valkey keeps them.
    """

    def __init__(self, valkey: Valkey | None, *, seconds: int) -> None:
        self._valkey = valkey
        self._seconds = seconds
        self._memory: OrderedDict[tuple[str, str], RuleOutcome] = OrderedDict()
        self._lock = ForkSafeLock()

    def remember(self, session: tuple[str, str], review_id: str, outcome: RuleOutcome) -> None:
        """Keep the outcome of the rule for a call.

        Args:
            session: User id and session id.
            review_id: Id that a question about the call has.
            outcome: The outcome.
        """
        key, field = self._key(session, review_id)
        with self._lock:
            self._memory[key, field] = outcome
            if len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)
        if self._valkey is not None:
            try:
                self._valkey.execute_many([("HSET", key, field, outcome), ("EXPIRE", key, self._seconds)])
            except CacheUnavailable as error:
                _log.warning(
                    "guard: Valkey did not store that call %s was %s, so only this process knows it: %s",
                    field,
                    outcome,
                    error,
                )

    def recall(self, session: tuple[str, str], review_id: str) -> RuleOutcome | None:
        """Return the outcome of the rule for a call; None if it cannot be read at present."""
        key, field = self._key(session, review_id)
        with self._lock:
            if (key, field) in self._memory:
                return self._memory[key, field]
        if self._valkey is None:
            return None
        try:
            stored = self._valkey.execute(("HGET", key, field))
        except CacheUnavailable:
            return None
        if stored is None:
            return ""
        return _OUTCOMES.get(stored)

    def reads(self, session: tuple[str, str], review_id: str) -> list[tuple[Any, ...]]:
        """Return the command by which `recall` reads Valkey, to be sent ahead of it; see `Valkey.prefetched`."""
        if self._valkey is None:
            return []
        return [("HGET", *self._key(session, review_id))]

    def _key(self, session: tuple[str, str], review_id: str) -> tuple[str, str]:
        prefix = "" if self._valkey is None else self._valkey.settings.valkey_prefix
        return f"{prefix}:guard:{keys.SESSION_ITEMS.build(*session)}", review_id[:16]
