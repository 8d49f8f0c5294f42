"""How commands reach the stations: the stack of this folder, settings of the environment winning over it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from agentmodel.cache.drain import Drained
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import find_stack
from agentmodel.exceptions import ConfigurationError, ValidationError

__all__ = ["STACK", "as_of_day", "draining", "opened", "resolved"]

STACK = Path(".agentmodel")
"""The folder of the stack when nobody says which."""

_ADDRESSES = {"table", "region", "endpoint", "valkey_url", "warehouse_url"}
_KEYS = {"access_key_id", "secret_access_key"}


def resolved(directory: Path) -> Settings:
    """The settings of the environment, and for what it leaves unset those of the stack running in a folder.

    The stack's credentials belong to its endpoint: they are not taken to an endpoint of the environment.

    Raises:
        ConfigurationError: No stack runs there and the environment names no store; or a setting is not accepted.
    """
    own = Settings.load()
    stack = find_stack(directory)
    if stack is None:
        if not own.model_fields_set & _ADDRESSES:
            raise ConfigurationError(
                f"no stack runs in {directory} and no AGENTMODEL_… setting names a store: run `agentmodel up`, "
                "or set AGENTMODEL_REGION (or AGENTMODEL_ENDPOINT), AGENTMODEL_VALKEY_URL and AGENTMODEL_WAREHOUSE_URL"
            )
        return own
    known = own.model_fields_set | (_KEYS if "endpoint" in own.model_fields_set else set())
    found: dict[str, Any] = {name: value for name, value in stack.items() if name not in known}
    return Settings.load(**found)


@contextmanager
def opened(directory: Path, *, ends_without_valkey: bool = False) -> Iterator[AgentModel]:
    """The installation that a command works on.

    Args:
        directory: Folder of the stack.
        ends_without_valkey: The command ends with an error when Valkey does not answer, so no warning says it too.

    Raises:
        ConfigurationError: See `resolved`.
    """
    log = logging.getLogger("agentmodel.cache")
    if ends_without_valkey:
        log.addFilter(_no_outage)
    try:
        with AgentModel.from_settings(resolved(directory)) as model:
            yield model
    finally:
        log.removeFilter(_no_outage)


def _no_outage(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("valkey.down")


def as_of_day(text: str | None) -> date | datetime:
    """What ``--as-of`` means: a day, or a time with its offset from UTC; now when it was not given.

    Raises:
        ValidationError: It is neither.

    >>> as_of_day("2025-06-14"), as_of_day("2025-06-14T09:00:00+09:00")
    (datetime.date(2025, 6, 14), datetime.datetime(2025, 6, 14, 0, 0, tzinfo=datetime.timezone.utc))
    """
    if text is None:
        return datetime.now(UTC)
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    rule = "give a day such as 2025-06-14, or a time with its offset such as 2025-06-14T09:00:00+09:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError("--as-of", text, rule) from None
    if moment.tzinfo is None:
        raise ValidationError("--as-of", text, f"the time has no zone: {rule}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError("--as-of", text, rule) from None


def draining(told: Callable[[str, int, int], None]) -> Callable[[Drained], None]:
    """Tells the progress of a drain."""

    def progress(so_far: Drained) -> None:
        done = so_far.written + so_far.stale + so_far.dead
        told("drain", done, done + so_far.left)

    return progress
