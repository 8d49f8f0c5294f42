"""Suggestions as they were made: kept with what else there was to choose, and with what became of them.

A suggestion is written when it is made. A session that was begun with the plan (``model.session(..., plan=plan)``)
carries its id; when that session ends, the suggestion learns whether it was followed, and how it went.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentmodel import keys
from agentmodel.access.repository import Repository, SessionHistory
from agentmodel.config import Ranking, Settings
from agentmodel.dynamo.models import Suggestion, UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import Conflict, Unavailable
from agentmodel.suggest.plan import Plan
from agentmodel.traces import outcome
from agentmodel.ttl import expiry

__all__ = ["Ended", "Suggestions"]

_log = logging.getLogger(__name__)
_REQUEST = 2000  # characters of a request that are kept


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that came from a suggestion, at its end.

    Attributes:
        user_id: The user.
        session_id: The session.
        suggestion_id: The suggestion.
        succeeded: Its outcome as a person corrected or the recorder said it; None leaves it to its calls.
    """

    user_id: str
    session_id: str
    suggestion_id: str
    succeeded: bool | None


class Suggestions:
    """Keeps suggestions.

    Args:
        settings: Lifetime and ranking.
        table: The table.
        writer: Its writer.
        repository: Reads what a session did.
        now: Gives the present time.
        settle: Called before reading: has learnt what was noted when it returns.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        *,
        writer: Writer,
        repository: Repository,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._settle = settle
        self._settings = settings
        self._table = table
        self._writer = writer
        self._repository = repository
        self._now = now

    def keep(self, plan: Plan, *, candidates: Mapping[str, float], propensity: float) -> str | None:
        """Keep a suggestion; its id, or None where the table does not take it: a plan is given all the same.

        Args:
            plan: What is suggested.
            candidates: The agents there were to choose from, with the number that chose.
            propensity: How likely this choice was, from above 0 to 1.
        """
        at = self._now()
        ranking: Ranking = self._settings.ranking
        suggestion = Suggestion(
            user_id=plan.user_id,
            suggestion_id=f"{keys.format_time('suggested_at', at)}-{uuid.uuid4().hex[:8]}",
            suggested_at=at,
            source=plan.source,
            ranking=ranking,
            category=plan.category,
            request=None if plan.request is None else plan.request[:_REQUEST],
            domain_id=plan.domain_id,
            choice=plan.agent_id,
            propensity=propensity,
            candidates=dict(candidates),
            steps=[step.tool_id for step in plan.steps],
            expires_at=expiry(at, days=self._settings.ttl_days_high),
        )
        try:
            self._writer.put_new(suggestion)
        except Unavailable as error:
            _log.warning("a suggestion for %s was made but not kept: %s", plan.user_id, error)
            return None
        return suggestion.suggestion_id

    def of_user(self, user_id: str) -> list[Suggestion]:
        """What was suggested to a user, oldest first."""
        self._settle()
        query = Query(keys.SUGGESTIONS.build(user_id), prefix=keys.SUGGESTION.prefix())
        return [Suggestion.from_item(item) for item in self._table.query(query, consistent=True).items]

    def all(self) -> Iterator[Suggestion]:
        """Everything that was suggested, in no order; reads the whole table."""
        self._settle()
        for item in self._table.scan():
            if item.get("EntityType", {}).get("S") == Suggestion.kind:
                yield Suggestion.from_item(item)

    def observe(self, entities: Iterable[Any]) -> None:
        """Learn from what was recorded."""
        self.learn(self.noted(entities))

    @staticmethod
    def noted(entities: Iterable[Any]) -> list[Ended]:
        """The sessions among entities that came from a suggestion and have ended; sends nothing."""
        return [
            Ended(entity.user_id, entity.session_id, entity.suggestion_id, _outcome(entity))
            for entity in entities
            if isinstance(entity, UserSession) and entity.suggestion_id is not None and entity.ended_at is not None
        ]

    def learn(self, ended: Iterable[Ended]) -> None:
        """Note what became of the suggestions of sessions that ended; one that cannot be written is left as it is."""
        for one in ended:
            try:
                self._ended(one)
            except Unavailable as error:
                _log.warning("suggestion %s of %s does not know its end: %s", one.suggestion_id, one.user_id, error)

    def _ended(self, ended: Ended) -> None:
        suggestion = self._table.get(Suggestion.at(ended.user_id, ended.suggestion_id), consistent=True)
        if suggestion is None:
            return
        history = self._repository.session_history(ended.user_id, ended.session_id)
        suggestion.session_id = ended.session_id
        suggestion.taken = history.executions[0].agent_id if history.executions else None
        suggestion.followed = _followed(suggestion, history)
        suggestion.succeeded = _of_calls(history) if ended.succeeded is None else ended.succeeded
        try:
            self._writer.save(suggestion, existing=True)
        except Conflict:
            _log.warning("suggestion %s of %s was changed meanwhile: it stays so", ended.suggestion_id, ended.user_id)


def _outcome(session: UserSession) -> bool | None:
    return session.succeeded if session.corrected is None else session.corrected


def _of_calls(history: SessionHistory) -> bool | None:
    last = {
        (call.process_id, call.agent_id, call.tool_id): well
        for call in history.executions
        if (well := outcome(call.status, call.succeeded)) is not None
    }
    return all(last.values()) if last else None


def _followed(suggestion: Suggestion, history: SessionHistory) -> bool:
    """Whether the agent that was chosen did the work, calling at least the tools of the plan in their order."""
    used = [call.tool_id for call in history.executions if call.agent_id == suggestion.choice]
    return bool(used) and _in_order(suggestion.steps, used)


def _in_order(wanted: Sequence[str], used: Sequence[str]) -> bool:
    rest = iter(used)
    return all(any(tool == each for each in rest) for tool in wanted)
