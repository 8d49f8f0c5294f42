"""Checks of runs: does a run that ended look wrong, and which step of a failed run did it.

    check = model.run_checks.check("USR001", session_id)
    if check.suspect:
        print(check.note, check.chance)
    print(model.run_checks.wrong_step("USR001", session_id))

A run is compared with the earlier runs of its user and category, as of the last publish. A session without a typed
category is compared with the runs of the derived category that its request belongs to. Each session with a category or
a request is checked when it ends, in the background. `agentmodel.suggest._run_check` has the method.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._values.categories import Founders, compared_text, is_derived
from agentmodel._values.text import words_of
from agentmodel.access.pagination import every
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import ToolExecution, UserSession, UserToolMapping
from agentmodel.exceptions import AgentModelError, NotFound
from agentmodel.suggest._run_check import RunCheck, WriteHistory, WrongStep
from agentmodel.suggest.review._decision import canonical
from agentmodel.suggest.review._reviews import Reviews

__all__ = ["MadeCall", "RunChecks", "sorted_arguments", "write_history"]

_log = logger(__name__)
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_MADE = (None, "ok", "error", "edited")


class MadeCall(NamedTuple):
    """A call that was made, as it was recorded."""

    tool: str
    arguments: str
    succeeded: bool


@dataclass(frozen=True, slots=True)
class _Ended:
    user_id: str
    session_id: str


def sorted_arguments(stored: str | None) -> str:
    """Return stored arguments as JSON with sorted names; the text itself where it is no JSON."""
    try:
        return canonical(json.loads(stored or "null"))
    except (ValueError, RecursionError):
        return stored or ""


def write_history(repository: Repository, session: UserSession, *, opening: str | None = None) -> WriteHistory:
    """Return what the last publish knows of the writes of the runs of a session's user and category.

    Args:
        repository: Reads mappings.
        session: The session.
        opening: What its first process asked for, which counts where the session has no request.

    Raises:
        TableUnavailable: The table does not answer.
    """
    user_id, category = session.user_id, session.category
    mapping = None
    if user_id == ANONYMOUS:  # the anonymous user is many people
        return WriteHistory(whose=user_id)
    if category and not is_derived(category):
        mapping = repository.mapping(user_id, category)
    elif request := compared_text(session.request or opening or ""):
        mapping = _derived_mapping(repository, user_id, request)
    return WriteHistory.unpacked(None if mapping is None else mapping.writes, whose=user_id)


def _derived_mapping(repository: Repository, user_id: str, request: str) -> UserToolMapping | None:
    """Return the user's mapping of the derived category that a request belongs to, as a refresh will find it."""
    words = words_of(request)
    own = [each for each in every(partial(repository.user_mappings, user_id)) if is_derived(each.category)]
    known = [(each, compared_text(text)) for each in own for text in each.requests or ()]
    same = next((each for each, text in known if words_of(text) == words), None)
    if same is not None or not words:
        return same
    nearest = Founders((each.category, text) for each, text in known).nearest(request)
    return next((each for each in own if each.category == nearest), None)


class RunChecks:
    """Checks runs against earlier ones.

    Args:
        repository: Reads sessions, mappings and agents.
        recorder: Writes the mark of a session.
        reviews: Asks people.
        review: Whether a person is asked about a run that looks wrong.

    >>> from agentmodel.suggest.review import RunChecks
    >>> checks = RunChecks(model.repository, recorder=model.recorder, reviews=model.reviews)
    >>> checks.check("USR002", "SESS1").successes, checks.wrong_step("USR001", "SESS2").answer
    (3, 'error')
    """

    def __init__(
        self,
        repository: Repository,
        *,
        recorder: Recorder,
        reviews: Reviews,
        review: Literal["never", "suspect"] = "never",
    ) -> None:
        self._repository = repository
        self._recorder = recorder
        self._reviews = reviews
        self._review = review

    def check(self, user_id: str, session_id: str) -> RunCheck:
        """Compare a run with the earlier successes of its user and category.

        Args:
            user_id: The user, by id or name.
            session_id: The session.

        Returns:
            How it compares; its note says so where too few successes are known, and `RunCheck.chance` is None then.

        Raises:
            NotFound: The session does not exist.
            TableUnavailable: The table does not answer.

        >>> model.run_checks.check("USR002", "SESS1").suspect
        False
        """
        session, opening, calls = self._session(user_id, session_id)
        return self._check(session, opening, calls)

    def wrong_step(self, user_id: str, session_id: str) -> WrongStep:
        """Return which step of a failed run did it, as far as the record shows; ask it about a run that failed.

        Args:
            user_id: The user, by id or name.
            session_id: The session.

        Raises:
            NotFound: The session does not exist.
            TableUnavailable: The table does not answer.

        >>> model.run_checks.wrong_step("USR001", "SESS2")
        WrongStep(answer='error', tool='find_on_map', step=1)
        """
        session, opening, calls = self._session(user_id, session_id)
        history = write_history(self._repository, session, opening=opening)
        found = history.wrong_step([_made(call) for call in calls])
        if found.step is None:
            return found
        return replace(found, step=calls[found.step - 1].call_number or found.step)

    @staticmethod
    def ended_in(entities: Iterable[Any]) -> list[_Ended]:
        """Return the sessions among recorded entities that have ended and are not checked yet; asks no store."""
        return [
            _Ended(entity.user_id, entity.session_id)
            for entity in entities
            if isinstance(entity, UserSession)
            and entity.ended_at is not None
            and (entity.category or entity.request)
            and entity.chance is None
            and entity.user_id != ANONYMOUS
        ]

    def learn(self, ended: Iterable[_Ended]) -> None:
        """Mark sessions that ended with whether they look wrong and with their chance of success, and ask by the rule.

        One that cannot be read or written is left as it is, with a warning.

        Args:
            ended: The sessions, of `ended_in`.
        """
        for each in ended:
            try:
                self._mark(each)
            except AgentModelError as error:
                _log.warning("did not check how session %s of %s ended: %s", each.session_id, each.user_id, error)

    def _mark(self, ended: _Ended) -> None:
        if self._nothing_to_compare(ended):
            return
        session, opening, calls = self._session(ended.user_id, ended.session_id)
        check = self._check(session, opening, calls)
        if check.chance is None or session.chance is not None:
            return
        session.suspect, session.chance = check.suspect, round(check.chance, 6)
        self._recorder.record(session)
        if check.suspect and self._review == "suspect":
            self._reviews.ask(
                session.user_id,
                session.session_id,
                "Did this run do what the user wanted?",
                phase="post",
                agent_id=_agent_of(calls),
                reason=f"{check.note}; the chance that it succeeded is {check.chance:.0%}",
                call_id="run check",
            )

    def _nothing_to_compare(self, ended: _Ended) -> bool:
        """Return whether a session's category has no success yet; its calls need not be read then."""
        session = self._repository.session(ended.user_id, ended.session_id)
        if session is None or session.chance is not None:
            return True
        needs_opening = not session.request and (not session.category or is_derived(session.category))
        return not needs_opening and not write_history(self._repository, session).successes

    def _check(self, session: UserSession, opening: str | None, calls: Sequence[ToolExecution]) -> RunCheck:
        history = write_history(self._repository, session, opening=opening)
        agent_id = _agent_of(calls) if history.successes else None
        agent = None if agent_id is None else self._repository.agent(agent_id)
        counts = (0, 0) if agent is None else (agent.executions or 0, agent.successes or 0)
        return history.check([_made(call) for call in calls], agent=counts)

    def _session(self, user_id: str, session_id: str) -> tuple[UserSession, str | None, list[ToolExecution]]:
        """Return a session, what its first process asked for, and its calls."""
        user = keys.id_of("USR", user_id)
        session = self._repository.session(user, session_id)
        if session is None:
            raise NotFound("session", session_id)
        history = self._repository.session_history(user, session_id)
        made = [call for call in history.executions if call.status in _MADE]
        asked = sorted((each for each in history.processes if each.prompt), key=lambda each: each.process_id)
        opening = asked[0].prompt if asked else None
        return (
            session,
            opening,
            sorted(made, key=lambda call: (call.executed_at or _LONG_AGO, call.call_number or 0, call.attempt)),
        )


def _made(call: ToolExecution) -> MadeCall:
    return MadeCall(call.tool_name, sorted_arguments(call.values), call.succeeded)


def _agent_of(calls: Sequence[ToolExecution]) -> str | None:
    """Return the agent that made most calls."""
    return Counter(call.agent_id for call in calls).most_common(1)[0][0] if calls else None
