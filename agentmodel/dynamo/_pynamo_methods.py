"""PynamoDB's own methods of the entity classes, right on a table whose partitions several classes share.

Each read sees the items of its class only. A query has the range of the class's sort keys as its key condition, so
DynamoDB reads, and bills, these items and no others. Where another class has keys in the same range (processes and
their tool calls), and in scans, a filter on ``EntityType`` leaves the others out after they were read. A query's filter
names the other classes, so that a damaged item without a type, or with an unknown one, raises in every query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pynamodb.attributes import Attribute, UnicodeAttribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path, Value
from pynamodb.expressions.update import Action
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex
from pynamodb.models import BatchWrite, Model
from pynamodb.pagination import ResultIterator

from agentmodel._runtime.retry import Backoff
from agentmodel.dynamo._binding import bound_connection, bound_to, connection_of
from agentmodel.dynamo._item_limits import checked
from agentmodel.dynamo._item_reader import read_projected
from agentmodel.dynamo._key_conditions import partition_of, sort_range
from agentmodel.dynamo._layout import ENTITY_TYPE, KEY_NAMES, KINDS, PRIMARY_KEY, SCHEMA, ItemKey, Layout
from agentmodel.exceptions import BatchIncomplete, ValidationError

__all__ = ["EntityIndex", "PynamoMethods", "TableMeta"]

_E = TypeVar("_E", bound="PynamoMethods")

_INDEX = "GSI1"
_INDEX_KEYS = ("GSI1_PK", "GSI1_SK")
_GET_KEYS = 100  # DynamoDB's limit of keys in one BatchGetItem
_NOT_ASKED: Any = object()  # for a sort key, of PynamoDB's query and count
_GET_SECONDS = 30.0  # how long unprocessed keys are asked for again

StartKey = dict[str, dict[str, Any]]
"""The key that a query or scan continues after: ``last_evaluated_key`` of an earlier result."""

Wanted = Iterable[str | Attribute[Any]]
"""The attributes to read: ``Agent.name``, or its name in Python or in the table."""


class TableMeta(type):
    """The type of an entity class's ``Meta``, whose table name is that of the bound table."""

    @property
    def table_name(cls) -> str:
        """The name of the bound table."""
        name: str = connection_of("The class").table_name
        return name


class _BoundBatch(BatchWrite[_E]):
    """A batch that is written to the table that was bound when it began."""

    def __init__(self, model: type[_E], auto_commit: bool) -> None:
        super().__init__(model, auto_commit)
        self._connection = connection_of(model.__name__)

    def commit(self) -> None:
        with bound_to(self._connection):
            super().commit()


class PynamoMethods(Model):
    """PynamoDB's methods for a class of several that share a table; see `Entity`, which is what they are called on."""

    kinds: ClassVar[tuple[str, ...]]
    layout: ClassVar[Layout]
    upgrades: ClassVar[dict[int, Any]]
    key: Any
    to_item: Any

    # Reads

    @classmethod
    def get(
        cls,
        hash_key: str | ItemKey[Self],
        range_key: str | None = None,
        consistent_read: bool = False,
        attributes_to_get: Wanted | None = None,
    ) -> Self:
        """Return the entity under a key: ``Tool.get(Tool.at("AGT001", "TL001"))`` or ``User.get("mina")``.

        It costs one GetItem: half a read unit for each 4 KB of the item, one if ``consistent_read``.

        Args:
            hash_key: The whole key, made by ``at``, or the text of the partition key.
            range_key: The text of the sort key; not needed where the class has only one.
            consistent_read: Whether to see every write that has ended.
            attributes_to_get: The attributes to read. Using another one raises `ValidationError`.

        Raises:
            DoesNotExist: There is no such item; of each class its own, as ``Agent.DoesNotExist``.
            KeyFormatError: The key is not one of this class.
            ValidationError: The sort key is missing.
            CorruptItem: The stored item cannot be read as its class.
            ConfigurationError: No table is bound.
        """
        pk, sk = cls._serialize_keys(hash_key, range_key)
        names, read = cls._projection(attributes_to_get)
        answer = cls._get_connection().get_item(
            pk, range_key=sk, consistent_read=consistent_read, attributes_to_get=names
        )
        if not answer.get("Item"):
            raise cls.DoesNotExist(f"{cls.__name__} {pk} / {sk} does not exist")
        found: Self = read(answer["Item"])
        return found

    @classmethod
    def batch_get(  # type: ignore[override]  # each key has two parts here
        cls,
        items: Iterable[ItemKey[Self] | tuple[str, str]],
        consistent_read: bool | None = None,
        attributes_to_get: Wanted | None = None,
    ) -> Iterator[Self]:
        """Return the entities under many keys, in any order; keys without an item are left out.

        It costs as much as a `get` of each item, in requests of 100 keys. Keys that DynamoDB leaves unprocessed are
        asked for again, with growing pauses.

        Args:
            items: The keys, each made by ``at``, or as texts of partition key and sort key.
            consistent_read: Whether to see every write that has ended.
            attributes_to_get: The attributes to read. Using another one raises `ValidationError`.

        Raises:
            KeyFormatError: A key is not one of this class.
            ValidationError: A sort key is missing.
            BatchIncomplete: DynamoDB left keys unprocessed for half a minute.
        """
        if isinstance(items, ItemKey | str):
            raise ValidationError("items", items, "must be a list of keys: use get for one")
        texts = dict.fromkeys(
            cls._serialize_keys(*key)
            if isinstance(key, tuple | list) and len(key) > 1
            else cls._serialize_keys(key, None)
            for key in items
        )
        keys = [dict(zip(PRIMARY_KEY, each, strict=True)) for each in texts]
        return cls._batches(cls._get_connection(), keys, consistent_read, *cls._projection(attributes_to_get))

    @classmethod
    def _batches(
        cls, connection: Any, keys: list[Any], consistent: bool | None, names: Any, read: Any
    ) -> Iterator[Self]:
        for start in range(0, len(keys), _GET_KEYS):
            left = keys[start : start + _GET_KEYS]
            for attempt in Backoff(seconds=_GET_SECONDS):
                answer = connection.batch_get_item(left, consistent_read=consistent, attributes_to_get=names)
                yield from map(read, answer["Responses"].get(connection.table_name, ()))
                left = answer.get("UnprocessedKeys", {}).get(connection.table_name, {}).get("Keys", [])
                if not left:
                    break
                left = [{name: wire["S"] for name, wire in key.items()} for key in left]
                attempt.wait(BatchIncomplete(left, _GET_SECONDS))

    @classmethod
    def query(
        cls,
        hash_key: str | Condition,
        range_key_condition: Condition | None = None,
        filter_condition: Condition | None = None,
        consistent_read: bool = False,
        index_name: str | None = None,
        scan_index_forward: bool | None = None,
        limit: int | None = None,
        last_evaluated_key: StartKey | None = None,
        attributes_to_get: Wanted | None = None,
        page_size: int | None = None,
        rate_limit: float | None = None,
    ) -> ResultIterator[Self]:
        """Return the entities of a partition, in the order of the sort key.

        ``Tool.query(Tool.agent_id.eq("AGT001"), Tool.tool_id.startswith("TLfind"))`` makes the keys of attributes;
        ``Tool.query("AGT001", Tool.sk.startswith("TLfind"))`` takes them as texts.

        DynamoDB reads, and bills, the class's items in the range of sort keys, and no others. Only where another class
        has keys in that range (`UserSessionProcess` and `ToolExecution`, unless the process is given), its items are
        read and billed too, and left out. Items that have expired are returned until DynamoDB deletes them.

        Args:
            hash_key: Conditions ``attribute = value`` on the attributes of the partition key, joined by ``&``; or text.
            range_key_condition: Conditions on the attributes of the sort key, from the first one on, or on ``sk``.
            filter_condition: A condition on other attributes. What it leaves out is read and billed too.
            consistent_read: Whether to see every write that has ended; not for an index.
            index_name: ``"GSI1"``, or None for the table; ``Agent.gsi1.query`` is the same.
            scan_index_forward: False for descending order.
            limit: The most entities to return.
            last_evaluated_key: Where to continue: ``last_evaluated_key`` of an earlier result.
            attributes_to_get: The attributes to read. Using another one raises `ValidationError`.
            page_size: The most items that DynamoDB reads for one request; ``limit`` if it is not given.
            rate_limit: The most read units in a second.

        Raises:
            ValidationError: A condition cannot be used; the message says which and why.
            CorruptItem: A stored item cannot be read as its class; raised when it is reached.
        """
        cls._check_reading(index_name, consistent_read, limit=limit, page_size=page_size)
        pk, sort, own = cls._own(index_name, hash_key, range_key_condition, filter_condition)
        names, read = cls._projection(attributes_to_get)
        found = super().query(
            pk,
            sort,
            own,
            consistent_read,
            index_name,
            scan_index_forward,
            limit,
            last_evaluated_key,
            names,
            page_size,
            rate_limit,
        )
        found._map_fn = read  # noqa: SLF001  # PynamoDB's would read each item whole
        return found

    @classmethod
    def scan(
        cls,
        filter_condition: Condition | None = None,
        segment: int | None = None,
        total_segments: int | None = None,
        limit: int | None = None,
        last_evaluated_key: StartKey | None = None,
        page_size: int | None = None,
        consistent_read: bool | None = None,
        index_name: str | None = None,
        rate_limit: float | None = None,
        attributes_to_get: Wanted | None = None,
    ) -> ResultIterator[Self]:
        """Return all entities of the class, in no order.

        DynamoDB reads, and bills, the whole table with the items of all classes (of an index, all that are in it), and
        leaves the others out. Prefer a query, or `Repository`. Arguments are those of `query`.

        Args:
            filter_condition: A condition on attributes.
            segment: The number of this segment of a parallel scan, from 0.
            total_segments: How many segments there are.
            limit: The most entities to return.
            last_evaluated_key: Where to continue: ``last_evaluated_key`` of an earlier result.
            page_size: The most items that DynamoDB reads for one request; ``limit`` if it is not given.
            consistent_read: Whether to see every write that has ended; not for an index.
            index_name: ``"GSI1"``, or None for the table.
            rate_limit: The most read units in a second.
            attributes_to_get: The attributes to read. Using another one raises `ValidationError`.
        """
        cls._check_reading(index_name, bool(consistent_read), limit=limit, page_size=page_size)
        # copies that 0.1.0 made of a session's items have the types of the originals, and partitions of their own
        mine = cls._is_of_class() & Path("PK").startswith(cls.layout.keys["PK"].format.starts)
        names, read = cls._projection(attributes_to_get)
        found = super().scan(
            mine if filter_condition is None else mine & filter_condition,
            segment,
            total_segments,
            limit,
            last_evaluated_key,
            page_size,
            consistent_read,
            index_name,
            rate_limit,
            names,
        )
        found._map_fn = read  # noqa: SLF001  # as in `query`
        return found

    @classmethod
    def count(
        cls,
        hash_key: str | Condition | None = None,
        range_key_condition: Condition | None = None,
        filter_condition: Condition | None = None,
        consistent_read: bool = False,
        index_name: str | None = None,
        limit: int | None = None,
        rate_limit: float | None = None,
    ) -> int:
        """Return how many entities a query would return; without ``hash_key``, how many there are.

        It costs as much as the query, or as a `scan` of the whole table. Arguments are those of `query`; ``limit`` is
        the most items that DynamoDB reads for one request, as it is PynamoDB's.
        """
        if hash_key is None:
            if range_key_condition is not None:
                raise ValidationError(
                    "range_key_condition", str(range_key_condition), "cannot be used without hash_key"
                )
            found = cls.scan(
                filter_condition,
                page_size=limit,
                consistent_read=consistent_read,
                index_name=index_name,
                rate_limit=rate_limit,
                attributes_to_get=(),
            )
            return sum(page["Count"] for page in found.page_iter)
        cls._check_reading(index_name, consistent_read, page_size=limit)
        own = cls._own(index_name, hash_key, range_key_condition, filter_condition)
        return super().count(*own, consistent_read, index_name, limit, rate_limit)

    @classmethod
    def _check_reading(cls, index_name: str | None, consistent: bool, **numbers: int | None) -> None:
        """Raise if DynamoDB would not read in this way; not every local engine says so."""
        if index_name is not None and consistent:
            raise ValidationError(
                "consistent_read", consistent, "must be False, because DynamoDB has no consistent reads of an index"
            )
        cls._keys_of(index_name)
        for name, number in numbers.items():
            least = 0 if name == "limit" else 1
            if number is not None and (not isinstance(number, int) or number < least):
                raise ValidationError(name, number, f"must be a whole number from {least} up")

    @classmethod
    def _keys_of(cls, index_name: str | None) -> tuple[str, str]:
        """Return the stored names of the keys of the table or of an index."""
        if index_name is None:
            return PRIMARY_KEY
        if index_name != _INDEX:
            raise ValidationError("index_name", index_name, f"must be {_INDEX}, or None for the table")
        if _INDEX_KEYS[0] not in cls.layout.keys:
            raise ValidationError(
                "index_name", index_name, f"cannot be used because {cls.__name__} is in no index: query the table"
            )
        return _INDEX_KEYS

    @classmethod
    def _own(
        cls, index_name: str | None, hash_key: Any, sort: Condition | None, filtered: Condition | None
    ) -> tuple[str, Condition | None, Condition | None]:
        """Return partition, sort key condition and filter of a query that sees the class's items only."""
        names = cls._keys_of(index_name)
        partition, key = (cls.layout.keys[name] for name in names)
        wanted = sort_range(key, names[1], sort)
        others = {
            kind
            for other in set(KINDS.values())
            if names[0] in other.layout.keys
            and other.layout.keys[names[0]].format.overlaps(partition.format)
            and other.layout.keys[names[1]].format.lies_between(wanted.low, wanted.high)
            for kind in other.layout.kinds
        } - set(cls.layout.kinds)
        if others:  # leave out these and no more: an item without a type is damaged, and must raise when it is read
            foreign = ~Path(ENTITY_TYPE).is_in(*sorted(others))
            filtered = foreign if filtered is None else foreign & filtered
        return partition_of(partition, hash_key), wanted.condition(names[1]), filtered

    @classmethod
    def _is_of_class(cls) -> Condition:
        first, *others = cls.layout.kinds
        return Path(ENTITY_TYPE).is_in(first, *others) if others else Path(ENTITY_TYPE) == first

    @classmethod
    def _projection(cls, wanted: Wanted | None) -> tuple[list[str] | None, Any]:
        """Return the stored names to read, and the function that reads an item of them.

        Keys are always read, because the entity and ``last_evaluated_key`` need them. An older item is upgraded whole.
        """
        if wanted is None or cls.upgrades:
            return None, cls.from_raw_data
        fields = cls.layout.fields
        by_stored = {field.stored: field for field in fields.values() if field.stored}
        names, stored = set(), dict.fromkeys((*KEY_NAMES, ENTITY_TYPE, SCHEMA))
        for each in [wanted] if isinstance(wanted, str | Attribute) else wanted:
            name = each.attr_name if isinstance(each, Attribute) else each
            field = fields.get(name) or by_stored.get(name)
            stored |= dict.fromkeys([name] if field is None else field.reads)
            names.add("" if field is None else field.name)
        entity: Any = cls  # whose codec is generated
        return list(stored), partial(read_projected, entity, names)

    @classmethod
    def _serialize_keys(cls, hash_key: Any, range_key: Any = _NOT_ASKED) -> tuple[Any, Any]:
        """Check the keys of every method of PynamoDB's; a sort key that is the class's only one need not be given.

        PynamoDB's query and count ask for the partition key alone.
        """
        partition, sort = (cls.layout.keys[name] for name in PRIMARY_KEY)
        if isinstance(hash_key, ItemKey):
            hash_key, range_key = hash_key.pk, hash_key.sk
        if range_key is None and not sort.attributes:
            range_key = sort.build({})
        if range_key is None:
            parts = ", ".join(field.name for field in sort.attributes)
            raise ValidationError(
                "range_key",
                None,
                f"must be given, because it is made of {parts}: {cls.__name__}.at makes the whole key",
            )
        return partition.format.of_text(hash_key), None if range_key is _NOT_ASKED else sort.format.of_text(range_key)

    # Writes

    @classmethod
    def batch_write(cls, auto_commit: bool = True) -> BatchWrite[Self]:
        """Return a batch, whose writes are sent by 25 and at the end of its ``with`` block, even if that raised.

        Each item is billed as by ``save`` or ``delete``; there are no conditions.
        """
        return _BoundBatch(cls, auto_commit)

    def serialize(self, null_check: bool = True) -> dict[str, dict[str, Any]]:  # noqa: ARG002  # PynamoDB's
        """Return the item to write, redacted as by every other write."""
        connection = bound_connection()
        if connection is not None:
            connection.connection.redaction.entity(self)
        return checked(self.to_item())

    def update(
        self, actions: list[Action], condition: Condition | None = None, *, add_version_condition: bool = True
    ) -> Any:
        """Run PynamoDB's update, for attributes that are part of no key; `Writer.update` changes all attributes.

        It costs one write unit for each KB of the item. The entity then has the stored values.

        Raises:
            UpdateError: PynamoDB's: the condition is not met, or there is no such item; nothing was written.
            ValidationError: An action is on an attribute of a key.
        """
        self._prepare_changes(actions)
        return super().update(actions, _existing(condition), add_version_condition=add_version_condition)

    def get_update_kwargs_from_instance(
        self, actions: list[Action], condition: Condition | None = None, *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        """Return the update for a transaction of PynamoDB's, under the same rules."""
        self._prepare_changes(actions)
        return super().get_update_kwargs_from_instance(actions, _existing(condition), *arguments, **options)

    def _prepare_changes(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if not isinstance(action, Action):
                raise ValidationError(
                    "actions", action, "must be an action such as Tool.name.set('search'), made by set, remove or add"
                )
        self._forbid_key_changes(actions)
        for action in actions:
            self._redact_change(action)

    @classmethod
    def _forbid_key_changes(cls, actions: Sequence[Action]) -> None:
        """Raise if an update of PynamoDB's changes a part of a key: it would not write the key that is made of it."""
        key_parts = {f.attr_name: name for name, key in cls.layout.keys.items() for f in key.attributes}
        for action in actions:
            stored = str(getattr(action.values[0], "path", [""])[0])
            if stored in KEY_NAMES or stored in key_parts:
                what = f"{key_parts[stored]} is made of it" if stored in key_parts else "it is made of attributes"
                raise ValidationError(
                    stored, str(action), f"cannot be changed alone because {what}: use Writer.update, which writes both"
                )

    def _redact_change(self, action: Action) -> None:
        """Redact the values of one change of PynamoDB's, and check that DynamoDB takes them."""
        connection = bound_connection()
        stored = str(getattr(action.values[0], "path", [""])[0])
        field = next((field for field in self.layout.fields.values() if field.stored == stored), None)
        fields = "values" if field is None else "none" if field.redact in ("text", "plain") else field.redact
        if connection is None or (field is not None and field.redact == "none"):
            redaction = None
        else:
            redaction = connection.connection.redaction
        operands: list[Any] = list(action.values[1:])
        while operands:
            operand = operands.pop()
            if isinstance(operand, Value):
                if redaction is not None:
                    operand.values = (redaction.stored(operand.value, fields=fields),)
                checked(self.key.item() | {stored: operand.value})
            else:
                operands += [each for each in getattr(operand, "values", ()) if not isinstance(each, str)]

    # The table

    @classmethod
    def create_table(
        cls,
        wait: bool = False,  # noqa: ARG003  # PynamoDB's
        read_capacity_units: int | None = None,
        write_capacity_units: int | None = None,
        billing_mode: str | None = None,
        ignore_update_ttl_errors: bool = False,
    ) -> None:
        """Create the table of all classes, with index and TTL, unless it exists; `Table.create` does the same.

        Args:
            wait: Has no effect: the call waits until the table is active, because its TTL cannot be enabled before.
            read_capacity_units: With ``billing_mode="PROVISIONED"``, the table's read units a second.
            write_capacity_units: Likewise, its write units.
            billing_mode: ``PAY_PER_REQUEST`` unless given.
            ignore_update_ttl_errors: Whether to go on where the TTL cannot be enabled.
        """
        if not cls.exists():
            super().create_table(
                True, read_capacity_units, write_capacity_units, billing_mode, ignore_update_ttl_errors
            )

    @classmethod
    def _ttl_attribute(cls) -> Any:
        return cls.layout.fields["expires_at"]

    @classmethod
    def _get_connection(cls) -> Any:
        return connection_of(cls.__name__)


def _existing(condition: Condition | None) -> Condition:
    """Add the condition that the item exists: PynamoDB's update would write an item that has no type."""
    exists = Path("PK").exists()
    return exists if condition is None else exists & condition


class EntityIndex(GlobalSecondaryIndex[_E]):  # type: ignore[no-untyped-call]  # PynamoDB leaves __init_subclass__ untyped
    """The index of the table, as one entity class sees it: ``Agent.gsi1``."""

    class Meta:
        index_name = _INDEX
        projection = AllProjection()
        read_capacity_units = None
        write_capacity_units = None

    GSI1_PK = UnicodeAttribute(hash_key=True)
    GSI1_SK = UnicodeAttribute(range_key=True)

    if TYPE_CHECKING:  # at run time PynamoDB's methods call those of the class

        def query(
            self,
            hash_key: str | Condition,
            range_key_condition: Condition | None = None,
            filter_condition: Condition | None = None,
            consistent_read: bool = False,
            scan_index_forward: bool | None = None,
            limit: int | None = None,
            last_evaluated_key: StartKey | None = None,
            attributes_to_get: Wanted | None = None,
            page_size: int | None = None,
            rate_limit: float | None = None,
        ) -> ResultIterator[_E]: ...

        def scan(
            self,
            filter_condition: Condition | None = None,
            segment: int | None = None,
            total_segments: int | None = None,
            limit: int | None = None,
            last_evaluated_key: StartKey | None = None,
            page_size: int | None = None,
            consistent_read: bool | None = None,
            rate_limit: float | None = None,
            attributes_to_get: Wanted | None = None,
        ) -> ResultIterator[_E]: ...

        def count(
            self,
            hash_key: str | Condition,
            range_key_condition: Condition | None = None,
            filter_condition: Condition | None = None,
            consistent_read: bool = False,
            limit: int | None = None,
            rate_limit: float | None = None,
        ) -> int: ...
