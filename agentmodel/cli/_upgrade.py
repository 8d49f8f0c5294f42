"""Bring the folder of a local stack that an earlier version wrote up to this one, before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from agentmodel._schema_change import SchemaChange
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines, back_up

__all__ = ["upgrade"]


def upgrade(engines: Engines, directory: Path, *, own: Settings) -> tuple[Sequence[SchemaChange], Path | None]:
    """Upgrade what an earlier version stored in the folder of running engines, after a backup beside the folder.

    A table or warehouse elsewhere, which a setting names, is left as it is.

    Returns:
        What was changed, and the backup; None where nothing had to be.

    Raises:
        NewerData: A newer version wrote it; nothing was changed.
        ConfigurationError: A table of the warehouse cannot be brought up to this version.
    """
    only: Literal["table", "warehouse"] | None = None
    if own.endpoint is not None or own.warehouse_url is not None:
        if own.endpoint is not None and own.warehouse_url is not None:
            return (), None
        only = "warehouse" if own.warehouse_url is None else "table"
    with AgentModel.from_settings(engines.settings) as model:
        model.table.create()
        model.table.check_format()
        if not any(change.alters for change in model.migrate(only=only)):
            return (), None
    backup = back_up(directory, directory.resolve().with_name(_name_of(directory)))
    with AgentModel.from_settings(engines.settings) as model:
        model.drain()  # the journal's entries are of the earlier version too
        return model.migrate(apply=True, only=only), backup.path


def _name_of(directory: Path) -> str:
    return f"{directory.resolve().name}-before-upgrade-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz"
