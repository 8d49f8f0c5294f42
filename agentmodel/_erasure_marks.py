"""Marks in the table that say whose history was erased, so that no late write brings it back.

A record can be on its way while its user is erased: in a drainer's memory, in a direct write that waits for an answer,
in a publish that has read the warehouse already. The eraser writes the mark first and then deletes. Each of these
writers looks for marks after its write, and takes back what belongs to an erased history: either it sees the mark, or
its write was there before the mark, and the eraser deletes it.

A mark holds a digest of the user's id and not the id. It is kept for `_KEPT_DAYS` days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import Any

from agentmodel import keys
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Query, Table
from agentmodel.exceptions import Conflict

__all__ = ["KIND", "ErasureMark", "ErasureMarks", "delete_unless_newer", "erasing_key", "user_key"]

KIND = "Erased"
"""EntityType of the marks."""

_KEPT_DAYS = 90
_DAY = 86_400_000 << 16  # a day as a difference of versions, see `agentmodel._runtime.clock`
_MAX_OPEN = 2_000  # open sessions that a mark names
_ANY: Item = {"PK": {"S": keys.ERASED.build()}, "SK": {"S": keys.METADATA.build()}}  # exists while any mark does


def user_key(user_id: str) -> str:
    """Return the digest of a user's id that marks hold; SQL's MD5 gives the same."""
    return hashlib.md5(user_id.encode(), usedforsecurity=False).hexdigest()


def session_key(session_id: str) -> str:
    """Return the digest of a session's id that marks hold; Valkey's scripts can compute it too."""
    return hashlib.sha1(session_id.encode(), usedforsecurity=False).hexdigest()


def erasing_key(prefix: str, user: str) -> str:
    """Return the key in Valkey that exists while no result of a call of this user, named by `user_key`, is cached."""
    return f"{prefix}:erased:{user}"


@dataclass(frozen=True, slots=True)
class ErasureMark:
    """Whose history was erased, and until when.

    Attributes:
        user_key: The digest of the user's id.
        before: What has an older version than this was erased.
        open_sessions: Digests of the sessions that were open then; for a day, what they still record is erased too.
        learned_at: The version at which the warehouse was erased too; None until then. What was read from the
            warehouse earlier may hold erased history.
    """

    user_key: str
    before: int
    open_sessions: frozenset[str] = frozenset()
    learned_at: int | None = None

    @property
    def until(self) -> int:
        """Return the version until which open sessions are erased."""
        return self.before + _DAY

    def covers(self, session_id: str, version: int | None) -> bool:
        """Return whether a record of the user belongs to what was erased; one without a version does."""
        if version is None or version < self.before:
            return True
        return version < self.until and session_key(session_id) in self.open_sessions

    def covers_item(self, item: Item) -> bool:
        """Return whether a stored item of the user belongs to what was erased."""
        _, session_id = keys.owner_of(item["PK"]["S"])
        made = next((item[name] for name in ("SuggestDT", "AskedDT", "DecidedDT") if name in item), None)
        if made is not None and made.get("S", "") < self._began:
            return True  # an outcome or a decision that was written into it later gave it a newer version
        return self.covers(session_id or item["SK"]["S"], _version(item))

    @property
    def _began(self) -> str:
        return keys.format_time("before", datetime.fromtimestamp((self.before >> 16) / 1000, UTC))

    def covers_learned(self, read_at: int) -> bool:
        """Return whether what was read from the warehouse at this version may hold erased history."""
        return self.learned_at is None or read_at <= self.learned_at


class ErasureMarks:
    """The marks of one table.

    Args:
        table: The table.

    Attributes:
        any_found: Whether the last look found any mark.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.any_found = True

    def write(self, user_id: str, before: int, open_sessions: Iterable[str]) -> ErasureMark:
        """Write the mark of a user, before anything is deleted; return it as it is stored now."""
        sessions = sorted(session_key(session_id) for session_id in list(open_sessions)[-_MAX_OPEN:])
        expires = {"N": str(int(time()) + _KEPT_DAYS * 86_400)}
        kind = {"S": KIND}
        self._table.call("PutItem", TableName=self._table.name, Item={**_ANY, "EntityType": kind, "ExpiresAt": expires})
        try:
            answer = self._table.call(
                "UpdateItem", TableName=self._table.name, Key=_key(user_key(user_id)),
                UpdateExpression="SET EntityType = :kind, ErasedBefore = :before, ExpiresAt = :expires "
                + ("ADD OpenSessions :open " if sessions else "") + "REMOVE LearnedAt",
                ConditionExpression="attribute_not_exists(PK) OR ErasedBefore <= :before",
                ExpressionAttributeValues={
                    ":kind": kind, ":before": {"N": str(before)}, ":expires": expires,
                    **({":open": {"SS": sessions}} if sessions else {}),
                },
                ReturnValues="ALL_NEW",
            )  # fmt: skip
        except Conflict:  # another erasure of this user is under way, and began later
            return self.of_users([user_id])[user_id]
        return _mark(answer["Attributes"])

    def warehouse_erased(self, mark: ErasureMark, at: int) -> None:
        """Write into a mark that the warehouse is erased too, unless a later erasure has begun."""
        try:
            self._table.call(
                "UpdateItem", TableName=self._table.name, Key=_key(mark.user_key),
                UpdateExpression="SET LearnedAt = :at", ConditionExpression="ErasedBefore = :before",
                ExpressionAttributeValues={":at": {"N": str(at)}, ":before": {"N": str(mark.before)}},
            )  # fmt: skip
        except Conflict:
            return  # the later erasure writes it, once it has erased the warehouse

    def all(self) -> list[ErasureMark]:
        """Return every mark; one request where there are few."""
        found = self._table.query(Query(keys.ERASED.build()), consistent=True).items
        return [_mark(item) for item in found if "ErasedBefore" in item]

    def look(self) -> bool:
        """Return whether any mark exists; one read of a small item."""
        answer = self._table.call("GetItem", TableName=self._table.name, Key=_ANY, ConsistentRead=True)
        self.any_found = "Item" in answer
        return self.any_found

    def of_users(self, user_ids: Iterable[str]) -> dict[str, ErasureMark]:
        """Return the marks of those of the users that have one."""
        by_key = {user_key(user_id): user_id for user_id in user_ids}
        stored = self._table.get_items([_key(name) for name in by_key], consistent=True)
        return {by_key[item["SK"]["S"]]: _mark(item) for item in stored}

    def erased(self, items: Sequence[Item]) -> list[bool]:
        """Return, for each item, whether it belongs to a history that was erased; one read when there is no mark."""
        if not items or not self.look():
            return [False] * len(items)
        owners = [keys.owner_of(item["PK"]["S"])[0] for item in items]
        marks = self.of_users({owner for owner in owners if owner})
        return [owner in marks and marks[owner].covers_item(item) for owner, item in zip(owners, items, strict=True)]

    def take_back(self, items: Sequence[Item]) -> list[Item]:
        """Delete those of the items just written that belong to a history that was erased, and return them."""
        taken = [item for item, erased in zip(items, self.erased(items), strict=True) if erased]
        for item in taken:
            delete_unless_newer(self._table, item)
            copy = {"PK": {"S": keys.FENCE.build(item["PK"]["S"])}, "SK": item["SK"]}
            delete_unless_newer(self._table, copy)  # written where Valkey did not answer
        return taken


def delete_unless_newer(table: Table, item: Item) -> bool:
    """Delete a stored item unless it has been written again since it was read; return whether this call deleted it."""
    version = item.get("Version")
    condition = "attribute_not_exists(#v)" if version is None else "attribute_not_exists(#v) OR #v <= :v"
    request: dict[str, Any] = {} if version is None else {"ExpressionAttributeValues": {":v": version}}
    try:
        answer = table.call(
            "DeleteItem", TableName=table.name, Key={"PK": item["PK"], "SK": item["SK"]}, ReturnValues="ALL_OLD",
            ConditionExpression=condition, ExpressionAttributeNames={"#v": "Version"}, **request,
        )  # fmt: skip
    except Conflict:
        return False
    return "Attributes" in answer  # another may have deleted it first


def _key(name: str) -> Item:
    return {"PK": _ANY["PK"], "SK": {"S": name}}


def _version(item: Mapping[str, Any]) -> int | None:
    version = item.get("Version", {}).get("N")
    return None if version is None else int(version)


def _mark(item: Item) -> ErasureMark:
    learned_at = item.get("LearnedAt", {}).get("N")
    return ErasureMark(
        item["SK"]["S"],
        int(item["ErasedBefore"]["N"]),
        frozenset(item.get("OpenSessions", {}).get("SS", ())),
        None if learned_at is None else int(learned_at),
    )
