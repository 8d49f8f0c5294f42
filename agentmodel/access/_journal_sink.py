"""Write the journal's entries into the table, beside whoever writes there without the journal."""

from __future__ import annotations

from collections.abc import Sequence

from agentmodel._erasure_marks import ErasureMarks, delete_unless_newer
from agentmodel.access._attempt_numbers import claimed_number
from agentmodel.access._numbered_writer import NumberedWriter, entity_or_none, same_call
from agentmodel.dynamo.entity import Item, item_name
from agentmodel.dynamo.table import Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import Rejected

__all__ = ["HistorySink"]


class HistorySink:
    """The table, as one drainer writes into it.

    Args:
        table: The table.
        writer: Writes into the table.
    """

    def __init__(self, table: Table, writer: Writer) -> None:
        self._table = table
        self._numbers = NumberedWriter(table)
        self._writer = writer
        self._marks = ErasureMarks(table)

    def put_many(self, items: Sequence[Item]) -> list[Item]:
        """Write items, and return those whose key another call has; see `NumberedWriter`."""
        return [item for item in items if not self._put(item)]

    def _put(self, item: Item) -> bool:
        stored = self._numbers.put(item, newer=True)
        if stored is None:
            return True
        if not same_call(stored, item):
            return False
        lost = self._numbers.overwritten(item)
        if lost is not None:
            self._numbers.renumber(lost)
        return True

    def erased(self, items: Sequence[Item], *, before: bool = False) -> list[bool]:
        """Return, for each item, whether it belongs to a history that was erased.

        Args:
            items: The items.
            before: Whether the items are not written yet. The table is not read then when the last look found no mark.
        """
        self._table.breaker.probe_now()  # who drains does not wait for the next probe
        if before and not self._marks.any_found:
            return [False] * len(items)
        return self._marks.erased(items)

    def take_back(self, item: Item) -> None:
        """Delete an item that was written although its history was erased meanwhile."""
        delete_unless_newer(self._table, item)

    def put_newer(self, item: Item, version: int) -> bool | None:
        """Write an item unless a newer version of it is stored; see `Writer.put_newer`."""
        return self._writer.put_newer(item, version)

    def put_elsewhere(self, item: Item) -> Item:
        """Write an item whose key another call has under the next free number, and return it as it is stored.

        A process whose id is no number is the application's own, and is written over an older version.

        Raises:
            Rejected: The item cannot be numbered.
        """
        entity = entity_or_none(item)
        if entity is None:
            raise Rejected(f"item {item_name(item)} cannot be read, and another call has its key")
        if claimed_number(entity) is None:
            self._writer.put_newer(item, entity.version or 0)
            return item
        return self._numbers.renumber(entity)[0].to_item()
