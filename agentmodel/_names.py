"""Let functions take the name of a user, agent, tool or domain wherever they take its id."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from agentmodel.keys import id_of

__all__ = ["takes_names"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PREFIXES = {"user_id": "USR", "agent_id": "AGT", "tool_id": "TL", "domain_id": "DMN"}


def takes_names(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make ``user_id``, ``agent_id``, ``tool_id`` and ``domain_id`` of a function accept names; see `keys.id_of`.

    The function gets ids; None stays None.
    """
    places = [(place, name) for place, name in enumerate(inspect.signature(function).parameters) if name in _PREFIXES]

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = list(args)
        for place, name in places:
            if place < len(given):
                if given[place] is not None:
                    given[place] = id_of(_PREFIXES[name], given[place], field=name)
            elif kwargs.get(name) is not None:
                kwargs[name] = id_of(_PREFIXES[name], kwargs[name], field=name)
        return function(*given, **kwargs)  # type: ignore[arg-type]  # the same arguments, with ids for names

    return call
