"""Reads of the warehouse, which gives a DuckDB file back to other processes where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.client import AgentModel

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["WarehouseReader"]


class WarehouseReader:
    """Gives the warehouse to pages.

    Args:
        model: Whose warehouse it is.
        release: Whether it is closed when no page reads it, so that another process can open a DuckDB file.
    """

    def __init__(self, model: AgentModel, *, release: bool) -> None:
        self._model, self._release = model, release
        self._lock = ForkSafeLock()
        self._reading = 0

    @property
    def is_set(self) -> bool:
        """Whether the installation has a warehouse."""
        return self._model.settings.warehouse_url is not None

    @contextmanager
    def opened(self) -> Iterator[Warehouse]:
        """Give the warehouse for the block; the last of several readers closes it.

        Raises:
            WarehouseUnavailable: The engine does not answer, or another process has the DuckDB file open.
        """
        with self._lock:
            warehouse = self._model.warehouse
            self._reading += 1
        try:
            yield warehouse
        finally:
            with self._lock:
                self._reading -= 1
                if self._release and not self._reading:
                    warehouse.close()
