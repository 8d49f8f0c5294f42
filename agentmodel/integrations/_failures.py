"""Count and log what fails in an integration, so that the agent continues."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec

from agentmodel.integrations._tracking.tracker import Tracker

__all__ = ["FailuresCounted", "count_failures"]


P = ParamSpec("P")


class FailuresCounted:
    """Block that counts and logs an exception by a tracker, and does not raise it.

        with FailuresCounted(tracker, "plan"):
            ...

    Args:
        tracker: Counts it in its ``errors``.
        what: What failed, for the log.
    """

    def __init__(self, tracker: Tracker, what: str) -> None:
        self._tracker = tracker
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._tracker.failed(self._what, error)
        return True


def count_failures(method: Callable[P, None]) -> Callable[P, None]:
    """Make a callback count and log what fails in it; some frameworks would end the agent's run instead.

    Args:
        method: Method of an object with a ``tracker``.
    """

    @functools.wraps(method)
    def counted(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # as in the block above, without its three calls
            listener: Any = args[0]
            listener.tracker.failed(method.__name__, error)

    return counted
