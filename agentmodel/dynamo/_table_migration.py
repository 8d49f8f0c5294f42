"""Bring the items of a table that an earlier version wrote up to this one, and refuse a table of a newer version.

Most changes of a version need no migration: an attribute that is new is missing in older items, and an item of a class
with an older ``SchemaVer`` is upgraded whenever it is read. What is left is a list of steps (`_STEPS`), and to write
upgraded items back, so that their attributes can be updated one by one.

The number of the format stands in the item that names the newest publish, which no access pattern reads; nobody asks
for it in a request's path. A migration scans the table once. Every change is one conditional write: an item that
somebody writes meanwhile is read again. After each page the same item says how far the migration is, so one that was
stopped goes on from there, and one that is done scans nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from agentmodel import keys
from agentmodel._schema_change import SchemaChange
from agentmodel._values.categories import has_derived_form, is_derived
from agentmodel.dynamo._layout import ENTITY_TYPE, KINDS, PRIMARY_KEY, item_name
from agentmodel.dynamo.entity import Entity, Item
from agentmodel.exceptions import Conflict, CorruptItem, NewerData

__all__ = ["FORMAT", "FORMAT_KEY", "Progress", "TableMigration", "change_request", "check_format"]

FORMAT: Final = 2
"""The format of this version's table; that of 0.1.0, which stored no number, is 1. It only ever grows."""

FORMAT_KEY: Final[Item] = {"PK": {"S": keys.PUBLISH.build()}, "SK": {"S": keys.METADATA.build()}}
"""The key of the item that has the number."""

_NUMBER, _SCHEMAS, _TARGET, _REACHED = "FormatNo", "SchemaVers", "MigratingTo", "MigratedKey"  # of the mark
_ATTEMPTS = 20  # of a change, while others write the item

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is looked at, how many of it, and of how many."""


@dataclass(frozen=True)
class _Step:
    """What a version changed in stored items beside attributes that are new.

    Attributes:
        format: The format that it leads to.
        kinds: The ``EntityType`` of the items that it may change.
        text: What changes, before the number of items.
        change: Returns the item as it should be; None for one that is to be deleted. It keeps the primary key.
    """

    format: int
    kinds: tuple[str, ...]
    text: str
    change: Callable[[Item], Item | None]


def _untilded(item: Item) -> Item:
    category = item.get("Category", {}).get("S", "")
    if not is_derived(category) or has_derived_form(category):
        return item
    typed = category.lstrip("~ ")
    return _without(item, "Category") | ({"Category": {"S": typed}} if typed else {})


def _without_drainers(item: Item) -> Item | None:
    return None if item["SK"]["S"] == "DRAINERS" else item


_STEPS: Final = (
    _Step(
        2,
        ("UserSession", "Suggestion"),
        "typed categories that begin with ~, as only derived ones do now, lose it",
        _untilded,
    ),
    _Step(2, ("OUTAGE",), "marks of drainers of 0.1.0, which nobody reads any more, are deleted", _without_drainers),
)
_UPGRADED = "items in an older form of their class are written in the present one"


def check_format(item: Item) -> int | None:
    """Return the number of a table's format by the item that has it; None where it has none.

    Raises:
        NewerData: A newer version has changed the table.
    """
    number = int(item[_NUMBER]["N"]) if _NUMBER in item else None
    if number is not None and number > FORMAT:
        raise NewerData(
            f"the table has format {number}, which a newer agentmodel made; this version knows formats up to {FORMAT} "
            "and would damage it: upgrade agentmodel, or set AGENTMODEL_TABLE to another table"
        )
    return number


def change_request(table: str, before: Item, after: Item | None) -> tuple[str, dict[str, Any]]:
    """Return the operation and the request that change an item, unless it was changed since it was read.

    Only the attributes that differ are written. An item that gets another key is put under it and deleted under the old
    one, in one transaction, unless something is stored under the new key already.

    Args:
        table: Name of the table.
        before: The item as it was read.
        after: The item as it should be; None to delete it.
    """
    key = {name: before[name] for name in ("PK", "SK")}
    if after is None or key != {name: after[name] for name in key}:
        delete = {"TableName": table, "Key": key} | _unchanged({"Version": None, **before})
        if after is None:
            return "DeleteItem", delete
        put = {"TableName": table, "Item": after, "ConditionExpression": "attribute_not_exists(PK)"}
        return "TransactWriteItems", {"TransactItems": [{"Put": put}, {"Delete": delete}]}
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    condition = _unchanged({name: before.get(name) for name in dict.fromkeys([*names, "Version"])})
    sets = ", ".join(f"#a{i} = :a{i}" for i, name in enumerate(names) if name in after)
    removes = ", ".join(f"#a{i}" for i, name in enumerate(names) if name not in after)
    condition["ExpressionAttributeNames"] |= {f"#a{i}": name for i, name in enumerate(names)}
    values = condition.pop("ExpressionAttributeValues")
    values |= {f":a{i}": after[name] for i, name in enumerate(names) if name in after}
    if values:
        condition["ExpressionAttributeValues"] = values
    parts = (f"{word} {listed}" for word, listed in (("SET", sets), ("REMOVE", removes)) if listed)
    return "UpdateItem", {"TableName": table, "Key": key, "UpdateExpression": " ".join(parts), **condition}


def _unchanged(expected: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Return a condition that these attributes have the expected values; None means that there is no such attribute."""
    terms = [
        f"attribute_not_exists(#n{i})" if value is None else f"#n{i} = :n{i}"
        for i, value in enumerate(expected.values())
    ]
    return {
        "ConditionExpression": " AND ".join(terms),
        "ExpressionAttributeNames": {f"#n{i}": name for i, name in enumerate(expected)},
        "ExpressionAttributeValues": {f":n{i}": v for i, v in enumerate(expected.values()) if v is not None},
    }


class TableMigration:
    """Shows and makes what brings a table up to this version.

    Args:
        call: Calls an operation of DynamoDB.
        table: Name of the table.
        change: Changes an item, as `Table.change_item` does.
        clock: Returns the version of a write.
    """

    def __init__(
        self,
        call: Callable[..., dict[str, Any]],
        table: str,
        *,
        change: Callable[[Item, Item | None], None],
        clock: Callable[[], int],
    ) -> None:
        self._call = call
        self._table = table
        self._change = change
        self._clock = clock

    def changes(self, progress: Progress) -> list[SchemaChange]:
        """Return what `migrate` would do.

        Raises:
            NewerData: A newer version has changed the table.
        """
        plan = _Plan.of(self._mark())
        pages = self._pages(plan, progress)
        return self._shown(Counter(what for page in pages for item in page for what in plan.needed(item)[1]))

    def migrate(self, progress: Progress) -> list[SchemaChange]:
        """Change the items, page by page, and store the number of the format.

        Raises:
            NewerData: A newer version has changed the table.
            Conflict: Others wrote an item again and again.
        """
        plan = _Plan.of(self._mark())
        done = Counter[str]()
        for page in self._pages(plan, progress, store=True):
            for item in page:
                done.update(self._migrate_item(item, plan))
        if plan.wanted != plan.stored:
            sets = ", ".join(f"{name} = :{name}" for name in plan.wanted)
            values = {f":{name}": value for name, value in plan.wanted.items()}
            self._store(f"SET {sets} REMOVE {_TARGET}, {_REACHED}", values)
        return self._shown(done)

    def forget_place(self, owner: str) -> int:
        """Remove the place where a migration was stopped if it names a user's item; see `Table.forget_place`."""
        place = self._mark().get(_REACHED)
        if place is None or keys.owner_of(place["M"]["PK"]["S"])[0] != owner:
            return 0
        try:
            self._call(
                "UpdateItem",
                TableName=self._table,
                Key=FORMAT_KEY,
                UpdateExpression=f"REMOVE {_TARGET}, {_REACHED}",
                ConditionExpression=f"{_REACHED} = :place",
                ExpressionAttributeValues={":place": place},
            )
        except Conflict:  # a migration that is under way is further now, and names another item
            return 0
        return 1

    def _mark(self) -> Item:
        answer = self._call("GetItem", TableName=self._table, Key=FORMAT_KEY, ConsistentRead=True)
        mark: Item = answer.get("Item", {})
        return mark

    def _store(self, update: str, values: Item) -> None:
        self._call(
            "UpdateItem",
            TableName=self._table,
            Key=FORMAT_KEY,
            UpdateExpression=update.replace("SET ", "SET EntityType = :kind, ", 1),
            ExpressionAttributeValues={**values, ":kind": {"S": "PublishRun"}},
        )

    def _pages(self, plan: _Plan, progress: Progress, *, store: bool = False) -> Iterator[list[Item]]:
        """Yield the items that may have to change, one list for each answer; store each time how far it got."""
        if not plan.kinds:
            return
        names = {f":k{number}": {"S": kind} for number, kind in enumerate(plan.kinds)}
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": f"EntityType IN ({', '.join(names)})",
            "ExpressionAttributeValues": names,
        }
        if plan.reached is not None:
            request["ExclusiveStartKey"] = plan.reached
        seen, of = 0, self._call("DescribeTable", TableName=self._table)["Table"].get("ItemCount", 0)
        while True:
            answer = self._call("Scan", **request)
            yield answer["Items"]
            seen += answer.get("ScannedCount", 0)
            progress("items", seen, max(seen, of))
            last = answer.get("LastEvaluatedKey")
            if last is None:
                return
            request["ExclusiveStartKey"] = last
            if store:
                self._store(
                    f"SET {_TARGET} = :target, {_REACHED} = :reached", {":target": plan.target, ":reached": {"M": last}}
                )

    def _migrate_item(self, item: Item, plan: _Plan) -> list[str]:
        """Change an item, and return what was changed; again where somebody else wrote it meanwhile."""
        for _ in range(_ATTEMPTS):
            after, done = plan.needed(item)
            if not done:
                return []
            if after is not None and "Version" in item:
                after = after | {"Version": {"N": str(self._clock())}}  # older copies on their way do not replace it
            try:
                self._change(item, after)
            except Conflict:
                key = {name: item[name] for name in PRIMARY_KEY}
                found = self._call("GetItem", TableName=self._table, Key=key, ConsistentRead=True).get("Item")
                if found is None:
                    return []
                item = found
            else:
                return done
        raise Conflict(f"item {item_name(item)} was changed by others {_ATTEMPTS} times in a row: migrate again")

    def _shown(self, found: Counter[str]) -> list[SchemaChange]:
        return [SchemaChange(self._table, f"{text}: {number}") for text, number in sorted(found.items())]


@dataclass(frozen=True)
class _Plan:
    """What a table needs.

    Attributes:
        steps: The steps beyond its format.
        classes: Classes with a newer ``SchemaVer`` than the last migration knew, by ``EntityType``.
        stored: What the last migration stored.
        wanted: What this one stores in the end.
        reached: The key of the last item that a migration to here, which was stopped, has looked at.
    """

    steps: tuple[_Step, ...]
    classes: dict[str, type[Entity]]
    stored: Item
    wanted: Item
    reached: Item | None

    @classmethod
    def of(cls, mark: Item) -> _Plan:
        """Return the plan for a table, by the item that has its format."""
        number = check_format(mark) or 1
        known = {kind: int(schema["N"]) for kind, schema in mark.get(_SCHEMAS, {"M": {}})["M"].items()}
        classes = {kind: entity for kind, entity in KINDS.items() if entity.schema > known.get(kind, 1)}
        newest = known | {kind: entity.schema for kind, entity in classes.items()}
        wanted: Item = {
            _NUMBER: {"N": str(FORMAT)},
            _SCHEMAS: {"M": {kind: {"N": str(schema)} for kind, schema in sorted(newest.items())}},
        }
        reached = mark[_REACHED]["M"] if mark.get(_TARGET) == {"M": wanted} else None
        stored = {name: mark[name] for name in wanted if name in mark}
        return cls(tuple(step for step in _STEPS if step.format > number), classes, stored, wanted, reached)

    @property
    def target(self) -> dict[str, Any]:
        """Return what tells a stopped migration to here from one to another version."""
        return {"M": self.wanted}

    @property
    def kinds(self) -> list[str]:
        """Return the ``EntityType`` of the items to look at; none where the table is up to date."""
        return sorted({kind for step in self.steps for kind in step.kinds} | self.classes.keys())

    def needed(self, item: Item) -> tuple[Item | None, list[str]]:
        """Return an item as it should be, None for one that is to be deleted; and what differs."""
        after: Item | None = item
        done: list[str] = []
        for step in self.steps:
            if item[ENTITY_TYPE]["S"] in step.kinds and (changed := step.change(item)) != item:
                after, done = changed, [*done, step.text]
                if after is None:
                    return after, done
                item = after
        entity = self.classes.get(item[ENTITY_TYPE]["S"])
        if entity is not None:
            try:
                upgraded = entity.from_item(item).to_item()
            except CorruptItem:  # as it was before; `agentmodel check` names it
                return after, done
            if upgraded != item:
                after, done = upgraded, [*done, _UPGRADED]
        return after, done


def _without(item: Item, name: str) -> Item:
    return {each: value for each, value in item.items() if each != name}
