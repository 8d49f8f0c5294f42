"""Open the model that a command works on, from the settings of the environment and the local stack of a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from agentmodel._values.urls import readers_url
from agentmodel.cache import Drained
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import find_stack
from agentmodel.exceptions import ConfigurationError, CorruptItem, TableUnavailable, ValidationError

__all__ = [
    "DEFAULT_STACK", "drain_progress", "open_model", "parse_as_of", "parse_since", "parse_span", "resolve_settings",
]  # fmt: skip

DEFAULT_STACK = Path(".agentmodel")
"""The folder of the local stack when --dir is not given."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_ADDRESSES = {"table", "region", "endpoint", "valkey_url", "warehouse_url"}
_KEYS = {"access_key_id", "secret_access_key"}


def resolve_settings(directory: Path, *, changes_warehouse: bool = False) -> Settings:
    """Return the settings of the environment; what it leaves unset is taken from the stack that runs in a folder.

    The stack's credentials belong to its own endpoint, so they are not used for an endpoint of the environment.

    Args:
        directory: Folder of the stack.
        changes_warehouse: Whether the command may change the warehouse. Otherwise a DuckDB file is read by its copy,
            where it has one, so that other processes can read and change it meanwhile.

    Raises:
        ConfigurationError: No stack runs there and the environment names no store; or a setting is not valid.
    """
    own = Settings.load()
    stack = find_stack(directory)
    if stack is None:
        if not own.model_fields_set & _ADDRESSES:
            raise ConfigurationError(
                f"no stack runs in {directory}, and no AGENTMODEL_… setting names a store: run `agentmodel up`, "
                "or set AGENTMODEL_REGION (or AGENTMODEL_ENDPOINT), AGENTMODEL_VALKEY_URL and AGENTMODEL_WAREHOUSE_URL"
            )
        return _reading(own, changes_warehouse=changes_warehouse)
    known = own.model_fields_set | (_KEYS if "endpoint" in own.model_fields_set else set())
    found: dict[str, Any] = {name: value for name, value in stack.items() if name not in known}
    return _reading(Settings.load(**found), changes_warehouse=changes_warehouse)


def _reading(settings: Settings, *, changes_warehouse: bool) -> Settings:
    url = settings.warehouse_url
    if changes_warehouse or url is None:
        return settings
    return settings.model_copy(update={"warehouse_url": readers_url(url)})


@contextmanager
def open_model(
    directory: Path, *, fails_without_valkey: bool = False, changes_warehouse: bool = False
) -> Iterator[AgentModel]:
    """Open the model that a command works on, and close it when the block ends.

    Args:
        directory: Folder of the stack.
        fails_without_valkey: The command fails when Valkey does not answer, so the warning about it is left out.
        changes_warehouse: See `resolve_settings`.

    Raises:
        ConfigurationError: See `resolve_settings`.
    """
    log = logging.getLogger("agentmodel.cache")
    if fails_without_valkey:
        log.addFilter(_no_outage_warning)
    try:
        with AgentModel.from_settings(resolve_settings(directory, changes_warehouse=changes_warehouse)) as model:
            yield model
    finally:
        log.removeFilter(_no_outage_warning)


def _no_outage_warning(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("valkey.down")


def parse_as_of(text: str | None) -> date | datetime:
    """Parse ``--as-of``: a day, or a time with its offset from UTC; return now when it was not given.

    Raises:
        ValidationError: It is neither.

    >>> parse_as_of("2025-06-14"), parse_as_of("2025-06-14T09:00:00+09:00")
    (datetime.date(2025, 6, 14), datetime.datetime(2025, 6, 14, 0, 0, tzinfo=datetime.timezone.utc))
    """
    if text is None:
        return datetime.now(UTC)
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    rule = "must be a day such as 2025-06-14, or a time with its offset such as 2025-06-14T09:00:00+09:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError("--as-of", text, rule) from None
    if moment.tzinfo is None:
        raise ValidationError("--as-of", text, f"{rule}; this time has no offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError("--as-of", text, rule) from None


def parse_span(text: str) -> timedelta | None:
    """Return a span of time such as 30m, 12h, 1d or 2w; None where the text is none.

    Raises:
        OverflowError: It is longer than time is counted.

    >>> parse_span("12h"), parse_span("noon")
    (datetime.timedelta(seconds=43200), None)
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()):
        return None
    return timedelta(**{_UNITS[unit]: int(number)})


def parse_since(text: str | None) -> datetime | None:
    """Return the time that ``--since`` names.

    Raises:
        ValidationError: It names none.
    """
    if text is None:
        return None
    try:
        if (span := parse_span(text)) is not None:
            return datetime.now(UTC) - span
    except OverflowError:
        raise ValidationError("--since", text, "must be a time after the year 1") from None
    try:
        day = parse_as_of(text)
    except ValidationError as error:
        rule = f"must be a span such as 30m, 12h, 1d or 2w; or it {error.rule}"
        raise ValidationError("--since", text, rule) from None
    return day if isinstance(day, datetime) else datetime(day.year, day.month, day.day, tzinfo=UTC)


def agent_names(model: AgentModel, agent_ids: Iterable[str | None]) -> dict[str, str]:
    """Return the names of agents by id, for people; one that cannot be read now has none, and is shown by its id."""
    names = {}
    for agent_id in dict.fromkeys(each for each in agent_ids if each):
        try:
            agent = model.repository.agent(agent_id)
        except (CorruptItem, TableUnavailable, ValidationError):  # what is shown of it does not need its name
            continue
        if agent is not None and agent.name:
            names[agent_id] = agent.name
    return names


def drain_progress(update: Callable[[str, int, int], None]) -> Callable[[Drained], None]:
    """Return the function to give to a drain, which passes its progress on to ``update``."""

    def progress(so_far: Drained) -> None:
        done = so_far.written + so_far.stale + so_far.dead
        update("drain", done, done + so_far.left)

    return progress
