"""Pages of entities, and the opaque cursors that continue them.

A cursor is bound to its pattern and arguments, and it can only continue inside the partition it came from: a cursor
of another query, or an altered one, is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentmodel.dynamo.entity import Entity, Item, entity_of, item_name
from agentmodel.exceptions import CorruptItem, CursorError

__all__ = ["Aside", "Page", "read_cursor", "write_cursor"]

E_co = TypeVar("E_co", covariant=True)
E = TypeVar("E", bound=Entity)

_CHECK = 12  # bytes of the digest a cursor carries


@dataclass(frozen=True, slots=True)
class Aside:
    """An item of a partition that could not be read as an entity: kept and counted, neither fatal nor dropped.

    Attributes:
        item: The item as it is stored.
        reason: Why: its kind is not known, or what of it cannot be read.
    """

    item: Item
    reason: str


@dataclass(frozen=True, slots=True)
class Page(Generic[E_co]):
    """Some entities of an access pattern, in its order; iterate it, or take ``items``.

    Attributes:
        items: The entities.
        cursor: Continues after the last one; None at the end.
        aside: Items in between that could not be read.
    """

    items: tuple[E_co, ...]
    cursor: str | None = None
    aside: tuple[Aside, ...] = ()

    def __iter__(self) -> Iterator[E_co]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> E_co:
        return self.items[place]


def sorted_out(items: Iterable[Item], *kinds: type[E]) -> tuple[list[E], list[Aside]]:
    """Items as entities of the given classes, and those that are not one."""
    entities: list[E] = []
    aside: list[Aside] = []
    for item in items:
        found = entity_of(item)
        if found is None or not issubclass(found, kinds):
            kind = item.get("EntityType", {}).get("S")
            aside.append(Aside(item, f"item {item_name(item)}: its EntityType {kind!r} is not expected here"))
            continue
        try:
            entities.append(found.from_item(item))
        except CorruptItem as error:
            aside.append(Aside(item, str(error)))
    return entities, aside


def write_cursor(query: tuple[Any, ...], position: Any) -> str:
    """The cursor that continues ``query`` (pattern name and arguments) after ``position`` (JSON)."""
    text = json.dumps(position, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _encoded(_check(query, text) + text.encode())


def read_cursor(query: tuple[Any, ...], cursor: str) -> Any:
    """The position of a cursor that `write_cursor` made for the same query.

    Raises:
        CursorError: It is no cursor, was altered, or belongs to another query.
    """
    try:
        data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, text = data[:_CHECK], data[_CHECK:].decode()
    except (ValueError, binascii.Error, AttributeError):
        raise CursorError(value=cursor) from None
    if check != _check(query, text) or cursor != _encoded(data):  # base64 has spellings that mean the same
        raise CursorError(value=cursor)
    return json.loads(text)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _check(query: tuple[Any, ...], text: str) -> bytes:
    bound = json.dumps([list(query), text], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(bound.encode()).digest()[:_CHECK]
