"""Pages of entities, and the opaque cursors that continue them.

A cursor belongs to one pattern with its arguments and continues inside the partition that it came from. A cursor of
another query, or one that was altered, raises `CursorError`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentmodel.dynamo.entity import Entity, Item, entity_of, item_name
from agentmodel.exceptions import CorruptItem, CursorError

__all__ = ["Page", "UnreadableItem"]

_E_co = TypeVar("_E_co", covariant=True)
_E = TypeVar("_E", bound=Entity)
_T = TypeVar("_T")

_DIGEST_BYTES = 12  # bytes of the digest at the beginning of a cursor


@dataclass(frozen=True, slots=True)
class UnreadableItem:
    """An item that could not be read as an entity. Reads return it beside the entities instead of raising an error.

    Attributes:
        item: The item as it is stored.
        reason: Why it could not be read: its kind is unknown here, or one of its attributes is damaged.

    >>> damaged = {"PK": {"S": "Domain"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Domain"}}
    >>> UnreadableItem(damaged, "DomainNM is missing").reason
    'DomainNM is missing'
    """

    item: Item
    reason: str


@dataclass(frozen=True, slots=True)
class Page(Generic[_E_co]):
    """Some entities of an access pattern, in its order. Iterate over the page, or take ``items``.

    Attributes:
        items: The entities.
        cursor: Pass it to the same method to continue after the last entity; None at the end.
        unreadable: Items between them that could not be read.
        complete: False if Valkey could not be asked for what is not in the table yet: entities may be missing, or older
            than what was recorded.

    >>> page = model.repository.sessions("USR001", limit=2)
    >>> len(page.items), page.cursor is not None
    (2, True)
    >>> rest = model.repository.sessions("USR001", limit=2, cursor=page.cursor)
    >>> [session.session_id for session in rest], rest.cursor
    (['SESS1'], None)
    """

    items: tuple[_E_co, ...]
    cursor: str | None = None
    unreadable: tuple[UnreadableItem, ...] = ()
    complete: bool = True

    def __iter__(self) -> Iterator[_E_co]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> _E_co:
        return self.items[index]


def every(read: Callable[..., Page[_T] | None], **options: Any) -> Iterator[_T]:
    """Yield what all pages of a read of the repository have; they end where it returns None.

    Args:
        read: Returns the page after ``cursor``.
        options: Its other arguments, such as ``limit``.
    """
    cursor = None
    while True:
        page = read(cursor=cursor, **options)
        if page is None:
            return
        yield from page
        cursor = page.cursor
        if cursor is None:
            return


def split_readable(items: Iterable[Item], *kinds: type[_E]) -> tuple[list[_E], list[UnreadableItem]]:
    """Return the items that are entities of the given classes, and those that cannot be read as one."""
    entities: list[_E] = []
    unreadable: list[UnreadableItem] = []
    for item in items:
        found = entity_of(item)
        if found is None or not issubclass(found, kinds):
            kind = item.get("EntityType", {}).get("S")
            reason = f"item {item_name(item)}: its EntityType {kind!r} is not expected here"
            unreadable.append(UnreadableItem(item, reason))
            continue
        try:
            entities.append(found.from_item(item))
        except CorruptItem as error:
            unreadable.append(UnreadableItem(item, str(error)))
    return entities, unreadable


def write_cursor(query: tuple[Any, ...], position: Any) -> str:
    """Return the cursor that continues ``query`` (pattern name and arguments) after ``position`` (JSON)."""
    text = json.dumps(position, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _base64(_digest(query, text) + text.encode())


def read_cursor(query: tuple[Any, ...], cursor: str) -> Any:
    """Return the position in a cursor that `write_cursor` made for the same query.

    Raises:
        CursorError: The text is not a cursor, was altered, or belongs to another query.
    """
    try:
        data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, text = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:].decode()
    except (ValueError, binascii.Error, AttributeError):
        raise CursorError(value=cursor) from None
    if digest != _digest(query, text) or cursor != _base64(data):  # base64 can spell the same bytes in several ways
        raise CursorError(value=cursor)
    return json.loads(text)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _digest(query: tuple[Any, ...], text: str) -> bytes:
    bound = json.dumps([list(query), text], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(bound.encode()).digest()[:_DIGEST_BYTES]
