"""Let functions take the name of a user, agent, tool or domain wherever they take its id."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from agentmodel.keys import id_of

__all__ = ["takes_names"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PREFIXES = {"user_id": "USR", "agent_id": "AGT", "tool_id": "TL", "domain_id": "DMN"}


def takes_names(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make ``user_id``, ``agent_id``, ``tool_id`` and ``domain_id`` of a function accept names; see `keys.id_of`.

    The function gets ids; None stays None where that is the default.
    """
    parameters = enumerate(inspect.signature(function).parameters.items())
    places = [(place, name, given.default) for place, (name, given) in parameters if name in _PREFIXES]

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = list(args)
        for place, name, default in places:
            values: Any = given if place < len(given) else kwargs
            at: Any = place if values is given else name
            if (values is given or name in kwargs) and values[at] is not default:
                values[at] = id_of(_PREFIXES[name], values[at], field=name)
        return function(*given, **kwargs)  # type: ignore[arg-type]  # the same arguments, with ids for names

    return call
