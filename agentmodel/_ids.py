"""Take names, ids and unique beginnings of ids for what a person names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from agentmodel._log import logger
from agentmodel.access.pagination import every
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Agent
from agentmodel.exceptions import ValidationError, WarehouseUnavailable
from agentmodel.keys import id_of

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
        raise ValidationError(field, text, f"must be the beginning of one only, and {some} begin so")
    return several[0] if several else None
