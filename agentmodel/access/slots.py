"""Numbers that history items claim: a process its number in the session, a call its attempt.

A number belongs to one call for ever. The journal gives numbers out (`agentmodel.cache.journal.Slot`), or the table
does, by a conditional write.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from agentmodel import keys
from agentmodel.dynamo.entity import Entity, entity_of
from agentmodel.dynamo.models import ToolExecution, UserSessionProcess
from agentmodel.exceptions import CorruptItem, KeyFormatError

__all__ = ["Given", "Numbered", "numbered", "renumbered"]

N = TypeVar("N", bound=Entity)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A number an item claims.

    Attributes:
        family: What is counted: the processes of a session, or the attempts of one tool in one process.
        call_id: Who claims it.
        number: The number, from 1; that of a process is one more than in its id, since PRC000 is one.
    """

    family: str
    call_id: str
    number: int

    @staticmethod
    def of_item(item: Mapping[str, Any]) -> Iterator[Numbered]:
        """The number a stored item holds, if any."""
        kind = entity_of(item)
        if kind is None or not issubclass(kind, UserSessionProcess | ToolExecution):
            return
        try:
            found = numbered(kind.from_item(item))
        except CorruptItem:
            return  # it cannot be read, so it cannot be taken for a repetition; its key still refuses a second item
        if found is not None:
            yield found


class Given:
    """Numbers that this process knows to be given, for when the journal that keeps them does not answer.

    A number in the journal is not in the table yet: without this, what is written straight into the table in an outage
    could take it, and the journal would overwrite that later.

    Args:
        most: Partitions remembered; the one not used for longest is forgotten first.
    """

    def __init__(self, *, most: int = 1000) -> None:
        self._most = most
        self._calls: OrderedDict[str, dict[str, dict[int, str]]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, partition: str, number: Numbered) -> None:
        """A call has this number now."""
        with self._lock:
            self._calls.setdefault(partition, {}).setdefault(number.family, {})[number.number] = number.call_id
            self._calls.move_to_end(partition)
            if len(self._calls) > self._most:
                self._calls.popitem(last=False)

    def free(self, partition: str, wanted: Numbered) -> int:
        """The number a call has, else the first from the wanted one up that no other is known to have."""
        with self._lock:
            calls = self._calls.get(partition, {}).get(wanted.family, {})
            for number, call_id in calls.items():
                if call_id == wanted.call_id:
                    return number
            number = wanted.number
            while number in calls:
                number += 1
            return number


def renumbered(entity: N, number: int) -> N:
    """A copy of the entity that claims another number."""
    values = dict(entity.attribute_values)
    if isinstance(entity, ToolExecution):
        values["attempt"] = number
    else:
        values["process_id"] = keys.process_id(number - 1)  # a trace may begin at PRC000
    copy = type(entity)(**values)
    copy.extra = entity.extra
    return copy


def numbered(entity: Entity) -> Numbered | None:
    """The number an entity claims; None for one that is not numbered."""
    if isinstance(entity, ToolExecution):
        values = entity.attribute_values
        sort, attempt = entity.sk, values["attempt"]
        first = sort if attempt == 1 else ToolExecution.key_code["SK"]({**values, "attempt": 1})
        return Numbered(cast("str", first), values["call_id"] or sort, attempt)
    if isinstance(entity, UserSessionProcess):
        try:
            number = keys.parse_number(entity.process_id.removeprefix("PRC"))
        except KeyFormatError:
            return None  # an id of the caller's own making: not counted
        return Numbered("PRC", entity.call_id or entity.sk, number + 1)
    return None
