"""The console: web pages on which people see what agents did, and decide what agents ask them."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError

try:
    from agentmodel.console._app import console
except ModuleNotFoundError as error:
    raise MissingExtraError("console", "the console", error.name) from error

__all__ = ["console"]
