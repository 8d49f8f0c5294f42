"""Find problems in the declarations, the live table and the stored items, and repair items: `agentmodel check`.

The declarations are checked against each other, the live table against the design, and items against their classes.
Every problem has a code, a location, a reason and a remedy. If an item can be repaired safely, its problem carries the
repair: the item as it should be, which is written only if the stored item has not changed since it was read. A repair
run can be stopped at any moment and started again.

    D1xx  declarations     D101 two entities could share a key · D102 a pattern's prefix matches another entity
                           D103 two entities mix in one index partition · D104 one stored name has two types
    T2xx  the live table   T201 keys · T202 index · T203 TTL · T204 billing · T205 point-in-time recovery
    I3xx  items            I301 unknown kind · I302 unreadable · I303 a key does not match its attributes
                           I304 an attribute stored in an older form · I305 an attempt is not written as #002
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from agentmodel import keys
from agentmodel._erasure_marks import KIND as ERASED
from agentmodel.access.patterns import PATTERNS, AccessPattern
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

__all__ = ["Problem", "Repair", "check_declarations", "check_items", "check_table", "repair", "summary"]

_FIX = "run `agentmodel check --fix`"

_ENTITIES: tuple[type[Entity], ...] = (
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
"""The entity classes that are checked."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A safe correction of one item.

    Attributes:
        before: The item as it is stored.
        after: The item as it should be. It has another key if the key was wrong.
    """

    before: Item
    after: Item


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference from the design.

    Attributes:
        code: The kind of problem; the module's docstring lists all codes.
        location: Which table, item, classes or pattern has the problem.
        reason: What is wrong.
        remedy: What to do about it.
        repair: The correction; None if there is no safe one.
    """

    code: str
    location: str
    reason: str
    remedy: str
    repair: Repair | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.code} {self.location}: {self.reason}; {self.remedy}"


# Declarations


def check_declarations(
    entities: Sequence[type[Entity]] = _ENTITIES, *, patterns: Sequence[AccessPattern] = PATTERNS
) -> list[Problem]:
    """Return the contradictions between classes and patterns. The package's own have none."""
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
            "add a fixed word to the key of one of them",
        )


def _mixed_index(one: type[Entity], other: type[Entity]) -> Iterator[Problem]:
    if not (_index(one) and _index(other)):
        return
    (ours, sorted_ours), (theirs, sorted_theirs) = _index(one), _index(other)
    if ours.format.overlaps(theirs.format) and sorted_ours.format.overlaps(sorted_theirs.format):
        yield Problem(
            "D103",
            f"{one.__name__} and {other.__name__}",
            f"they share an index partition, in which {sorted_ours.format!r} and {sorted_theirs.format!r} would mix",
            "begin one of the two index sort keys with a fixed word",
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
                "give one of them another stored name, because the warehouse reads each name as one type",
            )


def _stored_types(entity: type[Entity]) -> dict[str, str]:
    return {name: attribute.attr_type for name, attribute in known_attributes(entity).items()}


def _leaks(pattern: AccessPattern, entity: type[Entity]) -> Iterator[Problem]:
    partition, sort = (
        (entity.partition, entity.sort) if pattern.index is None else (entity.index_partition, entity.index_sort)
    )
    if partition is None or sort is None:
        return
    if pattern.partition.overlaps(partition.format) and sort.format.begins_with(pattern.prefix):
        yield Problem(
            "D102",
            f"pattern {pattern.name}",
            f"its prefix {pattern.prefix!r} also matches sort keys of {entity.__name__}: {sort.format!r}",
            "narrow the pattern's sort key, or add the entity to its `returns`",
        )


# The live table


def check_table(table: Table) -> list[Problem]:
    """Return the differences between the live table and the design.

    Raises:
        TableNotFound: The table does not exist.
    """
    location = f"table {table.name}"
    problems = [Problem(code, location, reason, remedy) for code, reason, remedy in table.differences()]
    live = table.describe()
    billing = live.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if billing != "PAY_PER_REQUEST":
        problems.append(
            Problem(
                "T204",
                location,
                f"its billing mode is {billing}, not PAY_PER_REQUEST",
                "switch it to on-demand billing, or watch for throttling",
            )
        )
    return problems + list(_recovery(table, location))


def _recovery(table: Table, location: str) -> Iterator[Problem]:
    remedy = "enable point-in-time recovery: zero-ETL needs it, and it can undo a mistake"
    try:
        answer = table.call("DescribeContinuousBackups", TableName=table.name)
    except (Rejected, TableUnavailable) as error:
        yield Problem("T205", location, f"the state of point-in-time recovery cannot be read ({error})", remedy)
        return
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        yield Problem("T205", location, "point-in-time recovery is off", remedy)


# Items


def check_items(
    table: Table, *, start: Item | None = None, progress: Callable[[int, Item], None] | None = None
) -> Iterator[Problem]:
    """Yield the problems of the stored items, in the order of a scan.

    Args:
        table: The table.
        start: The key of the item to continue after, from an earlier call of ``progress``.
        progress: Called after each item with the number of items read and the key of the last one.
    """
    for number, item in enumerate(table.scan(start=start), start=1):
        yield from _of_item(item)
        if progress is not None:
            progress(number, {"PK": item["PK"], "SK": item["SK"]})


def _of_item(item: Item) -> Iterator[Problem]:
    location = f"item {item_name(item)}"
    kind = entity_of(item)
    if kind is None:
        found = item.get("EntityType", {}).get("S")
        if found in {"OUTAGE", ERASED, "Deleted", "PublishRun", "Lease", "Routing"}:
            return  # not entities: copies of 0.1.0 and marks, which expire, the newest publish, who works now, routing
        remedy = "agentmodel neither reads nor changes it; delete it if no other program needs it"
        yield Problem("I301", location, f"no class reads EntityType {found!r}", remedy)
        return
    try:
        wanted = kind.from_item(item).to_item()
    except CorruptItem as error:
        yield _unreadable(kind, item, location, error)
        return
    changed = {name for name in wanted if name in item and item[name] != wanted[name]}
    stale = {name for name in KEY_NAMES if name in wanted and item.get(name) != wanted[name]}
    if stale:
        shown = ", ".join(
            f"{name} is {item[name].get('S')!r} instead of {wanted[name]['S']!r}"
            if name in item
            else f"{name} is missing"
            for name in sorted(stale)
        )
        yield Problem("I303", location, shown, _FIX, Repair(item, item | _without_version(wanted)))
    elif any(set(item[name]) != set(wanted[name]) for name in changed):
        names = ", ".join(sorted(name for name in changed if set(item[name]) != set(wanted[name])))
        after = item | _without_version(wanted)
        yield Problem("I304", location, f"{names}: stored in an older form", _FIX, Repair(item, after))


def _without_version(wanted: Item) -> Item:
    return {name: value for name, value in wanted.items() if name != "Version"}


def _unreadable(kind: type[Entity], item: Item, location: str, error: CorruptItem) -> Problem:
    if kind is ToolExecution:
        sk = _padded_attempt(item["SK"]["S"])
        if sk is not None:
            after = item | {"SK": {"S": sk}}
            reason = f"the attempt in its sort key is not padded; the key should be {sk!r}"
            return Problem("I305", location, reason, f"{_FIX}, which moves it", Repair(item, after))
    remedy = "correct or delete it by hand; until then reads return it as unreadable"
    return Problem("I302", location, f"{error.attribute} {error.problem}", remedy)


def _padded_attempt(sk: str) -> str | None:
    """Return the correct sort key of an execution whose attempt is written without padding, such as ``#2``."""
    try:
        return keys.EXECUTION.build(*keys.parse_unpadded_attempt(sk))
    except KeyFormatError:
        return None


def repair(table: Table, problem: Problem) -> bool:
    """Repair a problem's item, unless the item was changed since it was read.

    Only the wrong attributes are written. An item with a wrong key is put under its new key and deleted under the old
    one, in one transaction; if something is stored under the new key already, nothing is changed.

    Returns:
        Whether the item was repaired.
    """
    if problem.repair is None:
        return False
    try:
        table.change_item(problem.repair.before, problem.repair.after)
    except Conflict:
        return False
    return True


def summary(problems: Iterable[Problem]) -> dict[str, int]:
    """Return the number of problems of each code."""
    return dict(sorted(Counter(problem.code for problem in problems).items()))
