"""Read and change the numbers that history items claim: a process its number in the session, a call its attempt.

A number belongs to one call for ever. The journal assigns numbers (`agentmodel.cache.NumberClaim`), or a
conditional write to the table does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from agentmodel import keys
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.dynamo.entity import Entity, entity_of
from agentmodel.dynamo.models import ToolExecution, UserSessionProcess
from agentmodel.exceptions import CorruptItem, KeyFormatError

__all__ = ["PROCESSES", "AttemptNumbers", "ClaimedNumber", "claimed_number", "with_number"]

N = TypeVar("N", bound=Entity)

PROCESSES = "PRC"
"""The family of the processes of a session."""


@dataclass(frozen=True, slots=True)
class ClaimedNumber:
    """A number that an item claims.

    Attributes:
        family: What is counted: the processes of a session, or the attempts of one tool in one process.
        call_id: The call that claims the number.
        number: The number, from 1. For a process it is one more than the number in its id, because PRC000 exists.
    """

    family: str
    call_id: str
    number: int

    @staticmethod
    def of_item(item: Mapping[str, Any]) -> Iterator[ClaimedNumber]:
        """Yield the number that a stored item has, if it has one."""
        kind = entity_of(item)
        if kind is None or not issubclass(kind, UserSessionProcess | ToolExecution):
            return
        try:
            claimed = claimed_number(kind.from_item(item))
        except CorruptItem:
            return  # an unreadable item cannot count as a repeated call; its key still prevents a second item
        if claimed is not None:
            yield claimed


class AttemptNumbers:
    """Remembers which numbers are taken, for the time when the journal does not answer.

    A number that the journal assigned is not in the table until the journal is drained. In an outage, a write that goes
    straight into the table could take the same number, and the journal would overwrite that item later.

    Two writes that take the same number all the same are told apart when the journal is drained: one gets another.

    Args:
        max_families: Families that are remembered; the least recently used one is forgotten first.
        max_numbers: Numbers of a family that are remembered, the newest ones.
    """

    def __init__(self, *, max_families: int = 20_000, max_numbers: int = 10_000) -> None:
        self._max_families, self._max_numbers = max_families, max_numbers
        self._calls: OrderedDict[tuple[str, str], dict[int, str]] = OrderedDict()
        self._lock = ForkSafeLock()

    def remember(self, partition: str, number: ClaimedNumber) -> None:
        """Remember that a call has this number."""
        with self._lock:
            known = self._calls.setdefault((partition, number.family), {})
            known[number.number] = number.call_id
            if len(known) > self._max_numbers:
                del known[next(iter(known))]
            self._calls.move_to_end((partition, number.family))
            if len(self._calls) > self._max_families:
                self._calls.popitem(last=False)

    def of_family(self, partition: str, family: str) -> dict[int, str]:
        """Return the numbers of a family that are known to be taken, each with its call."""
        with self._lock:
            return dict(self._calls.get((partition, family), {}))


def with_number(entity: N, number: int) -> N:
    """Return a copy of the entity that claims another number."""
    values = dict(entity.attribute_values)
    if isinstance(entity, ToolExecution):
        values["attempt"] = number
    else:
        values["process_id"] = keys.process_id(number - 1)  # a trace may begin at PRC000
    copy = type(entity)(**values)
    copy.extra = entity.extra
    return copy


def claimed_number(entity: Entity) -> ClaimedNumber | None:
    """Return the number that an entity claims, or None when entities of its class have no number."""
    if isinstance(entity, ToolExecution):
        values = entity.attribute_values
        sort, attempt = entity.sk, values["attempt"]
        first = sort if attempt == 1 else ToolExecution.key_code["SK"]({**values, "attempt": 1})
        return ClaimedNumber(cast("str", first), values["call_id"] or sort, attempt)
    if isinstance(entity, UserSessionProcess):
        try:
            number = keys.parse_number(entity.process_id.removeprefix("PRC"))
        except KeyFormatError:
            return None  # the application chose this id itself, and it is not a number
        return ClaimedNumber(PROCESSES, entity.call_id or entity.sk, number + 1)
    return None
