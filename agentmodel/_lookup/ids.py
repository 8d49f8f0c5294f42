"""Take names, ids and unique beginnings of ids for what a person names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property, partial

from agentmodel._log import logger
from agentmodel.access.pagination import every
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Agent
from agentmodel.exceptions import NotFound, ValidationError, WarehouseUnavailable
from agentmodel.keys import id_of
from agentmodel.suggest.review import DEFAULT_QUEUE, answer_of

__all__ = ["Ids", "only_one"]

_log = logger(__name__)
_MOST = 1000  # of a page of the catalogue


class Ids:
    """Finds ids by what a person typed: a name, an id, or a beginning of an id that no other one has.

    Args:
        model: The installation.
    """

    def __init__(self, model: AgentModel) -> None:
        self._model = model

    def user(self, text: str, *, field: str) -> str:
        """Return the id of a user; a beginning of an id or name is looked for in the warehouse if no user has it."""
        user_id = id_of("USR", text, field=field)
        model = self._model
        if model.settings.warehouse_url is None or model.repository.user(user_id) is not None:
            return user_id
        if model.repository.sessions(user_id, 1).items:
            return user_id
        try:
            warehouse = model.warehouse
            from agentmodel.redshift.session_list import users_like

            found = users_like(warehouse, user_id, name=None if text.startswith("USR") else text)
        except WarehouseUnavailable as error:  # whether the command needs it, the command says
            _log.debug("ids.not_searched: %s is taken for a whole id: %s", user_id, error)
            return user_id
        return only_one(found, text, field=field) or user_id

    def domain(self, text: str | None, *, field: str = "--domain") -> str | None:
        """Return the id of a domain."""
        if text is None:
            return None
        domain_id = id_of("DMN", text, field=field)
        known = [each.domain_id for each in every(self._model.repository.domains, limit=_MOST)]
        if domain_id in known:
            return domain_id
        return only_one((each for each in known if each.startswith(domain_id)), text, field=field) or domain_id

    def agent(self, text: str | None, *, field: str = "--agent") -> str | None:
        """Return the id or the name of the agent that a text begins; one that fits none is returned as it is."""
        return self._catalogued(text, lambda: self._agents, "AGT", field)

    def tool(self, text: str | None, *, field: str = "--tool") -> str | None:
        """Return the id or the name of the tool that a text begins; one that fits none is returned as it is."""
        return self._catalogued(text, lambda: self._tools, "TL", field)

    def agent_id(self, text: str | None, *, field: str = "--agent") -> str | None:
        """Return the id of the agent that a text names or begins; one that fits none is returned as it is."""
        found = self.agent(text, field=field)
        ids = (agent_id for agent_id, name in self._agents if found in (agent_id, name))
        return found if found is None else only_one(ids, found, field=field) or found

    def review(self, text: str, *, decided: bool = False, field: str = "REVIEW") -> str:
        """Return the reference of the question that a text begins; a whole reference is returned as it is.

        A text with slashes is looked for in its session. Another one begins the last part of a reference, and is looked
        for in the default queue and, if there is a warehouse, in each queue that has landed there.

        Args:
            text: The reference, or the beginning of its last part, with or without user and session.
            decided: Whether a question that is not open any more is meant, too; without a session, from the warehouse.
            field: What the text is called in an error.

        Raises:
            NotFound: No question begins so.
            ValidationError: Several begin so.
        """
        if "/" in text:
            return self._review_of_session(text, decided=decided, field=field)
        queues, found = {DEFAULT_QUEUE}, set[str]()
        if self._model.settings.warehouse_url is not None:
            try:
                warehouse = self._model.warehouse
                from agentmodel.redshift.decisions import review_queues, reviews_like

                queues |= review_queues(warehouse)
                found |= {"/".join(each) for each in reviews_like(warehouse, text)} if decided else set()
            except WarehouseUnavailable as error:
                _log.debug("ids.not_searched: %s is looked for in queue %s only: %s", text, DEFAULT_QUEUE, error)
        reviews = self._model.reviews
        found = {each for each in found if self._is_kept(each)}  # the table may have deleted it since it landed
        for queue in sorted(queues):
            opened = every(partial(reviews.inbox, queue), limit=_MOST)
            found |= {reviews.reference(each) for each in opened if each.review_id.startswith(text)}
        one = only_one(found, text, field=field)
        if one is None:
            raise NotFound("question" if decided else "open question", text)
        return one

    def _review_of_session(self, text: str, *, decided: bool, field: str) -> str:
        user_id, _, rest = text.partition("/")
        session_id, _, beginning = rest.partition("/")
        if not beginning or self._is_kept(text):
            return text
        history, now = self._model.repository.session_history(user_id, session_id), datetime.now(UTC)
        asked = (each for each in history.reviews if each.source is None and each.review_id.startswith(beginning))
        meant = (self._model.reviews.reference(each) for each in asked if decided or answer_of(each, now) is None)
        return only_one(meant, text, field=field) or text

    def _is_kept(self, reference: str) -> bool:
        try:
            self._model.reviews.get(reference)
        except NotFound:
            return False
        return True

    def _catalogued(
        self, text: str | None, known: Callable[[], list[tuple[str, str]]], prefix: str, field: str
    ) -> str | None:
        if text is None:
            return None
        pairs = known()
        if any(text in pair for pair in pairs):
            return text
        if text.startswith(prefix):
            found = [each for each, _ in pairs if each.startswith(text)]
        else:
            found = [name for _, name in pairs if name.lower().startswith(text.lower())]
        return only_one(found, text, field=field) or text

    @cached_property
    def _agents(self) -> list[tuple[str, str]]:
        return [(agent.agent_id, agent.name) for agent in self._every_agent()]

    @cached_property
    def _tools(self) -> list[tuple[str, str]]:
        read = self._model.repository
        return [(tool.tool_id, tool.name) for agent_id, _ in self._agents for tool in read.agent_tools(agent_id)]

    def _every_agent(self) -> Iterator[Agent]:
        read = self._model.repository
        for domain in every(read.domains, limit=_MOST):
            yield from read.top_agents(domain.domain_id, limit=_MOST)


def only_one(found: Iterable[str], text: str, *, field: str) -> str | None:
    """Return the one id that was found; None where none was.

    Raises:
        ValidationError: There are several, or nothing was typed, with which every id begins.
    """
    if not text:
        raise ValidationError(field, text, "must be an id, or the beginning of one")
    several = sorted(set(found))
    if len(several) > 1:
        some = ", ".join(several[:5])
        raise ValidationError(field, text, f"must be the beginning of one only, and {some} begin so: add characters")
    return several[0] if several else None
