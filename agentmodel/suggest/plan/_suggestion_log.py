"""Log of suggestions: what was suggested, from which candidates, whether it was followed, and how that went.

A suggestion is written when it is made. A session that follows the plan (``model.session(..., plan=plan)``) carries its
id. When that session ends, the outcome is written into the suggestion.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._ttl import expiry
from agentmodel._values.names import takes_names
from agentmodel._values.text import storable_text
from agentmodel.access.repository import Repository, SessionHistory
from agentmodel.config import Ranking, Settings
from agentmodel.dynamo.entity import Entity, Item
from agentmodel.dynamo.models import Review, Suggestion, UserSession
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import Conflict, CorruptItem, Unavailable
from agentmodel.suggest.plan._holdout import ALL_GIVEN, Assignment
from agentmodel.suggest.plan._plan import Plan

__all__ = ["EndedSession", "SuggestionLog", "new_suggestion_id"]

_E = TypeVar("_E", bound=Entity)
_log = logger(__name__)
_REQUEST_CHARACTERS = 2000  # of a request that are kept


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that followed a suggestion and has ended, or of which somebody said how it went.

    Attributes:
        user_id: The user.
        session_id: The session.
        suggestion_id: The suggestion; None where the session has to be looked up.
        reviewed: The outcome that a person corrected.
        recorded: The outcome that the application recorded.
    """

    user_id: str
    session_id: str
    suggestion_id: str | None
    reviewed: bool | None = None
    recorded: bool | None = None

    def succeeded(self, history: SessionHistory) -> bool | None:
        """Return the outcome: as reviewed, as reported, as recorded, else by the calls where all of them are known."""
        return history.outcome(reviewed=self.reviewed, recorded=self.recorded)


class SuggestionLog:
    """Keeps suggestions, and what became of them.

    Args:
        settings: Say how long suggestions are kept, and by which ranking they were made.
        table: The table.
        writer: Writes into the table.
        repository: Reads what a session did.
        now: Returns the present time.
        settle: Called before suggestions are read; when it returns, ended sessions are written into them.

    >>> plan = model.suggest("USR272", category="cafe search")
    >>> [suggestion.choice for suggestion in model.suggestions.of_user("USR272")]
    ['AGT002']
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

    def keep(
        self,
        plan: Plan,
        *,
        candidates: Mapping[str, float],
        propensity: float,
        assignment: Assignment = ALL_GIVEN,
    ) -> str | None:
        """Write a suggestion into the log.

        Args:
            plan: The whole plan, also where it is withheld; under its ``suggestion_id``, if it has one.
            candidates: The agents that were candidates, each with the number that they were ordered by.
            propensity: The probability of this choice, above 0 and at most 1.
            assignment: Whether the plan is given or withheld.

        Returns:
            The suggestion's id, or None where the table does not answer: a plan is useful without it.

        >>> plan = model.planner.suggest("USR274", category="cafe search").model_copy(update={"suggestion_id": None})
        >>> model.suggestions.keep(plan, candidates={"AGT002": 3.0, "AGT001": 0.3}, propensity=0.9) is not None
        True
        """
        at = self._now()
        ranking: Ranking = self._settings.ranking
        redact = self._table.redaction.text
        suggestion = Suggestion(
            user_id=plan.user_id,
            suggestion_id=plan.suggestion_id or new_suggestion_id(at),
            suggested_at=at,
            source=plan.source,
            ranking=ranking,
            category=plan.category,
            request=None if plan.request is None else storable_text(redact(plan.request)[:_REQUEST_CHARACTERS]),
            domain_id=plan.domain_id,
            choice=plan.agent_id,
            propensity=propensity,
            candidates=dict(candidates),
            steps=[step.tool_id for step in plan.steps],
            withheld=assignment.withheld,
            holdout=assignment.share,
            plans_since=assignment.since,
            expires_at=expiry(at, days=self._settings.ttl_days_high),
        )
        try:
            self._writer.put_new(suggestion)
        except Unavailable as error:
            _log.warning("a suggestion for %s was not written into the log: %s", plan.user_id, error)
            return None
        return suggestion.suggestion_id

    @takes_names
    def of_user(self, user_id: str) -> list[Suggestion]:
        """Return the suggestions for a user, oldest first."""
        self._settle()
        query = Query(keys.SUGGESTIONS.build(user_id), prefix=keys.SUGGESTION.prefix())
        return [Suggestion.from_item(item) for item in self._table.query(query, consistent=True).items]

    def all(self) -> Iterator[Suggestion]:
        """Yield the suggestions to all users, in no order, for operators; reads the whole table.

        >>> plan = model.suggest("USR273", category="cafe search")
        >>> "USR273" in {suggestion.user_id for suggestion in model.suggestions.all()}
        True
        """
        self._settle()
        for item in self._table.scan():
            if item.get("EntityType", {}).get("S") == Suggestion.kind:
                yield Suggestion.from_item(item)

    @staticmethod
    def ended_in(entities: Iterable[Any]) -> list[EndedSession]:
        """Return the sessions among recorded entities that may have a suggestion to write to; asks no store.

        They followed a suggestion and have ended, or somebody said how they went.
        """
        return [
            _ended(entity)
            if isinstance(entity, UserSession)
            else EndedSession(entity.user_id, entity.session_id, suggestion_id=None)
            for entity in entities
            if (isinstance(entity, UserSession) and entity.suggestion_id is not None and entity.ended_at is not None)
            or (isinstance(entity, Review) and entity.source is not None)
        ]

    def learn(self, ended: Iterable[EndedSession]) -> None:
        """Write into suggestions whether they were followed, and how that went.

        A suggestion that cannot be written is left as it is, with a warning, until `learn_drained`.

        Args:
            ended: The sessions; see `ended_in`.
        """
        for session in ended:
            try:
                self._write_outcome(session)
            except Unavailable as error:
                _log.warning(
                    "the outcome of suggestion %s for %s was not written; the drain of the session writes it: %s",
                    session.suggestion_id or f"of session {session.session_id}",
                    session.user_id,
                    error,
                )

    def was_withheld(self, session: UserSession) -> bool:
        """Return whether the plan of a session was withheld.

        Raises:
            TableUnavailable: The table does not answer.

        >>> model.suggestions.was_withheld(model.repository.session("USR001", "SESS1"))
        False
        """
        if session.suggestion_id is None:
            return False
        suggestion = self._table.get(Suggestion.at(session.user_id, session.suggestion_id))
        return suggestion is not None and suggestion.withheld is True

    def learn_drained(self, items: Iterable[Item]) -> list[Item]:
        """Write the outcomes that `learn` could not write, before their sessions leave the journal.

        Args:
            items: What a drain has written.

        Returns:
            The keys of the suggestions whose sessions have ended.

        Raises:
            Unavailable: A store does not answer: the drain keeps the sessions in the journal.
        """
        followed = _readable(UserSession, [item for item in items if UserSession.suggestion_id.attr_name in item])
        ended = {Suggestion.at(one.user_id, one.suggestion_id or ""): one for one in self.ended_in(followed)}
        for one in self.ended_in(_readable(Review, [item for item in items if Review.source.attr_name in item])):
            self._write_outcome(one)
        stored = self._table.get_items([key.item() for key in ended], consistent=True)
        for suggestion in _readable(Suggestion, stored):
            session = ended[suggestion.key]
            if not _has_outcome(suggestion, session):
                self._write_outcome(session)
        return [key.item() for key in ended]

    def _write_outcome(self, ended: EndedSession) -> None:
        if ended.suggestion_id is None:
            session = self._repository.session(ended.user_id, ended.session_id)
            if session is None or session.suggestion_id is None:
                return
            ended = _ended(session)
        suggestion = self._table.get(Suggestion.at(ended.user_id, ended.suggestion_id or ""), consistent=True)
        if suggestion is None:
            return
        history = self._repository.session_history(ended.user_id, ended.session_id)
        suggestion.session_id = ended.session_id
        suggestion.succeeded = ended.succeeded(history)
        if history.complete:  # otherwise calls may be missing, and what they say is left open
            suggestion.taken = history.executions[0].agent_id if history.executions else None
            suggestion.followed = _followed(suggestion, history)
        try:
            self._writer.save(suggestion, existing=True)
        except Conflict:
            _log.warning(
                "suggestion %s for %s was changed meanwhile and was not written", ended.suggestion_id, ended.user_id
            )


def new_suggestion_id(at: datetime) -> str:
    """Return an id for a suggestion; ids sort by time."""
    return f"{keys.format_time('suggested_at', at)}-{uuid.uuid4().hex[:8]}"


def _readable(kind: type[_E], items: Iterable[Item]) -> Iterator[_E]:
    for item in items:
        try:
            yield kind.from_item(item)
        except CorruptItem as error:  # the drain goes on
            _log.warning(
                "the outcome of a suggestion was not written, because its item is damaged; run `agentmodel check`: %s",
                error,
            )


def _has_outcome(suggestion: Suggestion, ended: EndedSession) -> bool:
    known = next((one for one in (ended.reviewed, ended.recorded) if one is not None), suggestion.succeeded)
    return (suggestion.session_id, suggestion.succeeded) == (ended.session_id, known) and (
        suggestion.followed is not None  # otherwise the calls could not be read
    )


def _ended(session: UserSession) -> EndedSession:
    return EndedSession(
        session.user_id, session.session_id, session.suggestion_id, session.corrected, session.succeeded
    )


def _followed(suggestion: Suggestion, history: SessionHistory) -> bool:
    """Return whether the suggested agent called at least the tools of the plan, in their order."""
    used = [call.tool_id for call in history.executions if call.agent_id == suggestion.choice]
    return bool(used) and _in_order(suggestion.steps, used)


def _in_order(wanted: Sequence[str], used: Sequence[str]) -> bool:
    rest = iter(used)
    return all(any(tool == each for each in rest) for tool in wanted)
