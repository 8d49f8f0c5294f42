"""`agentmodel check`: declarations against each other, the live table against the design, items against their classes.

Every problem has a code, a place, a reason and a mend. Items that can be mended safely carry the mend: the item as it
should be, written only while what is stored is what was looked at. Mending can be stopped at any moment and run again.

    D1xx  declarations     D101 two entities could share a key · D102 a pattern's prefix matches another entity
                           D103 parts of different types at one place of an index · D104 a stored name of two types
    T2xx  the live table   T201 keys · T202 index · T203 TTL · T204 billing · T205 point-in-time recovery
    I3xx  items            I301 unknown kind · I302 unreadable · I303 a key not as its attributes make it
                           I304 an attribute stored in an older form · I305 a retry whose attempt is not written as #002
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from agentmodel import keys
from agentmodel.access.patterns import PATTERNS, Pattern
from agentmodel.access.sink import OUTAGE
from agentmodel.dynamo.entity import KEY_NAMES, Entity, Item, Key, entity_of, item_name, known_attributes
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import Conflict, CorruptItem, KeyFormatError, Rejected, TableUnavailable

_NO_VERSION: dict[str, dict[str, Any] | None] = {"Version": None}

__all__ = ["ENTITIES", "Mend", "Problem", "check_declarations", "check_items", "check_table", "mend", "summary"]

ENTITIES: tuple[type[Entity], ...] = (
    Domain,
    Agent,
    Tool,
    User,
    UserSession,
    UserSessionProcess,
    ToolExecution,
    UserToolMapping,
    Review,
    Suggestion,
)


@dataclass(frozen=True, slots=True)
class Mend:
    """A safe correction of one item.

    Attributes:
        before: The item as it is stored.
        after: The item as it should be; under another key when the key was wrong.
    """

    before: Item
    after: Item


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the design has it.

    Attributes:
        code: What kind of problem; see the module.
        place: Where.
        reason: What is wrong.
        remedy: What to do about it.
        mend: The correction, where it is safe to make.
    """

    code: str
    place: str
    reason: str
    remedy: str
    mend: Mend | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The problem as one line."""
        return f"{self.code} {self.place}: {self.reason}; {self.remedy}"


# Declarations


def check_declarations(
    entities: Sequence[type[Entity]] = ENTITIES, *, patterns: Sequence[Pattern] = PATTERNS
) -> list[Problem]:
    """What is wrong with the classes and patterns among themselves; nothing, unless somebody added to them."""
    problems: list[Problem] = []
    for one, other in combinations(entities, 2):
        problems += _shared_keys(one, other)
        problems += _mixed_index(one, other)
        problems += _mixed_types(one, other)
    for pattern in patterns:
        problems += (p for entity in entities if entity not in pattern.returns for p in _leaks(pattern, entity))
    return problems


def _shared_keys(one: type[Entity], other: type[Entity]) -> Iterator[Problem]:
    if one.partition.format.overlaps(other.partition.format) and one.sort.format.overlaps(other.sort.format):
        yield Problem(
            "D101",
            f"{one.__name__} and {other.__name__}",
            f"an item of each could have the same key: {one.sort.format!r} and {other.sort.format!r}",
            "give one of them a fixed word that the other does not have",
        )


def _mixed_index(one: type[Entity], other: type[Entity]) -> Iterator[Problem]:
    if not (_index(one) and _index(other)):
        return
    (ours, sorted_ours), (theirs, sorted_theirs) = _index(one), _index(other)
    if ours.format.overlaps(theirs.format) and sorted_ours.format.overlaps(sorted_theirs.format):
        yield Problem(
            "D103",
            f"{one.__name__} and {other.__name__}",
            f"they share an index partition, where {sorted_ours.format!r} and {sorted_theirs.format!r} mix",
            "give one of the sort keys a fixed first word",
        )


def _index(entity: type[Entity]) -> tuple[Key, ...]:
    keyed = (entity.index_partition, entity.index_sort)
    return tuple(each for each in keyed if each is not None)


def _mixed_types(one: type[Entity], other: type[Entity]) -> Iterator[Problem]:
    ours, theirs = _stored_types(one), _stored_types(other)
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            yield Problem(
                "D104",
                f"{one.__name__} and {other.__name__}",
                f"{name} is stored as {ours[name]} by one and as {theirs[name]} by the other",
                "give one of them another stored name: the warehouse reads a name as one type",
            )


def _stored_types(entity: type[Entity]) -> dict[str, str]:
    return {name: attribute.attr_type for name, attribute in known_attributes(entity).items()}


def _leaks(pattern: Pattern, entity: type[Entity]) -> Iterator[Problem]:
    partition, sort = (
        (entity.partition, entity.sort) if pattern.index is None else (entity.index_partition, entity.index_sort)
    )
    if partition is None or sort is None:
        return
    if pattern.partition.overlaps(partition.format) and sort.format.begins_with(pattern.prefix):
        yield Problem(
            "D102",
            f"pattern {pattern.name}",
            f"sort keys of {entity.__name__} may begin with its prefix {pattern.prefix!r} too: {sort.format!r}",
            "narrow the pattern, or name the entity among what it returns",
        )


# The live table


def check_table(table: Table) -> list[Problem]:
    """What the live table lacks of the design.

    Raises:
        TableNotFound: There is no such table.
    """
    place = f"table {table.name}"
    problems = [Problem(code, place, reason, remedy) for code, reason, remedy in table.differences()]
    live = table.describe()
    billing = live.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if billing != "PAY_PER_REQUEST":
        problems.append(
            Problem("T204", place, f"it is billed {billing}", "switch it to on-demand, or watch for throttling")
        )
    return problems + list(_recovery(table, place))


def _recovery(table: Table, place: str) -> Iterator[Problem]:
    remedy = "switch point-in-time recovery on: zero-ETL needs it, and so does undoing a mistake"
    try:
        answer = table.call("DescribeContinuousBackups", TableName=table.name)
    except (Rejected, TableUnavailable) as error:
        yield Problem("T205", place, f"point-in-time recovery cannot be asked for here ({error})", remedy)
        return
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        yield Problem("T205", place, "point-in-time recovery is off", remedy)


# Items


def check_items(
    table: Table, *, start: Item | None = None, progress: Callable[[int, Item], None] | None = None
) -> Iterator[Problem]:
    """The items that need mending, in the order of a scan.

    Args:
        table: The table.
        start: Key of the item to continue after, from an earlier ``progress``.
        progress: Told how many items were looked at, and the key of the last one.
    """
    for number, item in enumerate(table.scan(start=start), start=1):
        yield from _of_item(item)
        if progress is not None:
            progress(number, {"PK": item["PK"], "SK": item["SK"]})


def _of_item(item: Item) -> Iterator[Problem]:
    place = f"item {item_name(item)}"
    kind = entity_of(item)
    if kind is None:
        found = item.get("EntityType", {}).get("S")
        if found in {OUTAGE, "PublishRun"}:
            return  # marks that are no entities: of an outage, which expires by itself, and of the newest publish
        remedy = "it is kept and left alone; remove it if nobody reads it"
        yield Problem("I301", place, f"no class reads EntityType {found!r}", remedy)
        return
    try:
        wanted = kind.from_item(item).to_item()
    except CorruptItem as error:
        yield _unreadable(kind, item, place, error)
        return
    changed = {name for name in wanted if name in item and item[name] != wanted[name]}
    stale = {name for name in KEY_NAMES if name in wanted and item.get(name) != wanted[name]}
    if stale:
        shown = ", ".join(
            f"{name} {item[name].get('S')!r}, not {wanted[name]['S']!r}" if name in item else f"{name} is missing"
            for name in sorted(stale)
        )
        yield Problem("I303", place, shown, "write it anew: `agentmodel check --fix`", Mend(item, item | _keep(wanted)))
    elif any(set(item[name]) != set(wanted[name]) for name in changed):
        names = ", ".join(sorted(name for name in changed if set(item[name]) != set(wanted[name])))
        remedy = "write it anew: `agentmodel check --fix`"
        yield Problem("I304", place, f"{names}: stored in an older form", remedy, Mend(item, item | _keep(wanted)))


def _keep(wanted: Item) -> Item:
    return {name: value for name, value in wanted.items() if name != "Version"}


def _unreadable(kind: type[Entity], item: Item, place: str, error: CorruptItem) -> Problem:
    if kind is ToolExecution:
        sk = _attempt_mended(item["SK"]["S"])
        if sk is not None:
            after = item | {"SK": {"S": sk}}
            return Problem("I305", place, f"its attempt is not written as in {sk!r}", "move it", Mend(item, after))
    remedy = "mend it by hand or delete it; until then it is kept aside"
    return Problem("I302", place, f"{error.attribute} {error.problem}", remedy)


def _attempt_mended(sk: str) -> str | None:
    """The sort key of an execution whose attempt is a plain number, as it should be."""
    try:
        return keys.EXECUTION.build(*keys.plain_attempt(sk))
    except KeyFormatError:
        return None


def mend(table: Table, problem: Problem) -> bool:
    """Make a problem's correction, unless what it corrects was changed since it was looked at; whether it was made.

    Only the attributes in question are written. A moved item is put under its new key and deleted under the old one
    in one transaction; when something is stored under the new key already, nothing is done.
    """
    if problem.mend is None:
        return False
    before, after = problem.mend.before, problem.mend.after
    try:
        if (before["PK"], before["SK"]) == (after["PK"], after["SK"]):
            _correct(table, before, after)
        else:
            _move(table, before, after)
    except Conflict:
        return False
    return True


def _correct(table: Table, before: Item, after: Item) -> None:
    changed = [name for name in after if before.get(name) != after[name]]
    guard = _guard({name: before.get(name) for name in [*changed, "Version"]})
    sets = ", ".join(f"#a{i} = :a{i}" for i in range(len(changed)))
    guard["ExpressionAttributeNames"] |= {f"#a{i}": name for i, name in enumerate(changed)}
    guard["ExpressionAttributeValues"] |= {f":a{i}": after[name] for i, name in enumerate(changed)}
    table.call("UpdateItem", TableName=table.name, Key=_key(before), UpdateExpression=f"SET {sets}", **guard)


def _move(table: Table, before: Item, after: Item) -> None:
    put = {"TableName": table.name, "Item": after, "ConditionExpression": "attribute_not_exists(PK)"}
    guard = _guard({**_NO_VERSION, **before})
    delete = {"TableName": table.name, "Key": _key(before)} | guard
    table.call("TransactWriteItems", TransactItems=[{"Put": put}, {"Delete": delete}])


def _key(item: Item) -> Item:
    return {"PK": item["PK"], "SK": item["SK"]}


def _guard(expected: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """A condition that these attributes are as expected; None: not there."""
    terms = [
        f"attribute_not_exists(#n{i})" if value is None else f"#n{i} = :n{i}"
        for i, value in enumerate(expected.values())
    ]
    return {
        "ConditionExpression": " AND ".join(terms),
        "ExpressionAttributeNames": {f"#n{i}": name for i, name in enumerate(expected)},
        "ExpressionAttributeValues": {f":n{i}": v for i, v in enumerate(expected.values()) if v is not None},
    }


def summary(problems: Iterable[Problem]) -> dict[str, int]:
    """How many problems of each code."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.code] = counts.get(problem.code, 0) + 1
    return dict(sorted(counts.items()))
