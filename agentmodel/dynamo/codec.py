"""The code of an entity class, written out when the class is made: constructor, ``to_item``, ``from_item``, keys.

A loop over attributes costs more than the work on them. So each class gets straight-line functions, as `dataclasses`
and `attrs` give them; the source is registered with `linecache`, so tracebacks and debuggers show it::

    import inspect
    print(inspect.getsource(Agent.to_item))

The functions know the usual form of an item. What is not of it (an older spelling, a null, a number stored as text)
goes to `read_carefully`, which knows every form and names what it cannot read.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from agentmodel.dynamo.attributes import Field, Scope, bind
from agentmodel.exceptions import ConfigurationError, CorruptItem, ValidationError
from agentmodel.keys import KeyFormat

if TYPE_CHECKING:
    from agentmodel.dynamo.entity import Entity

__all__ = ["ENTITY_TYPE", "KEY_NAMES", "SCHEMA", "Code", "Layout", "MadeOf", "generate", "item_name", "read_carefully"]

KEY_NAMES = ("PK", "SK", "GSI1_PK", "GSI1_SK")
ENTITY_TYPE = "EntityType"
SCHEMA = "SchemaVer"

UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What reading an item of another form may raise."""

_MISSING: Any = object()


class MadeOf(Protocol):
    """A key: its format and the attributes it is made of."""

    format: KeyFormat[Any]
    attributes: tuple[Field, ...]
    holds_unstored: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What the code of a class is generated from.

    Attributes:
        name: Name of the class, for messages.
        place: Where the class is, for the file name of the source.
        kind: Its ``EntityType``.
        schema: Its ``SchemaVer``.
        fields: Its attributes by name.
        keys: Its keys by stored name, those it has.
    """

    name: str
    place: str
    kind: str
    schema: int
    fields: Mapping[str, Field]
    keys: Mapping[str, MadeOf]


@dataclass(frozen=True, slots=True)
class Code:
    """The generated functions of a class.

    Attributes:
        init: The constructor.
        to_item: The item of an entity.
        from_item: The entity of an item, as a function of class and item.
        keys: By stored name, the key of a mapping of attribute values.
        source: What they were compiled from.
    """

    init: Callable[..., None]
    to_item: Callable[[Any], dict[str, Any]]
    from_item: Callable[[Any, Mapping[str, Any]], Any]
    keys: Mapping[str, Callable[[Mapping[str, Any]], str | None]]
    source: str


def generate(layout: Layout) -> Code:
    """The code of a class.

    Raises:
        ConfigurationError: The declarations do not fit together; the message names the attribute.
    """
    _check(layout)
    scope: Scope = {
        "_type": type, "_str": str, "_int": int, "_float": float, "_list": list, "_dict": dict, "_round": round,
        "_datetime": datetime, "_UTC": UTC, "_missing": _MISSING, "_refuse": _refuse, "_careful": read_carefully,
        "_new": object.__new__, "_unreadable": UNREADABLE,
    }  # fmt: skip
    blocks = [_init(layout, scope), _to_item(layout, scope), _from_item(layout, scope)]
    makers = {name: f"key_{name}" for name in layout.keys}
    blocks += [_key_maker(makers[name], made, scope) for name, made in layout.keys.items()]
    source = "\n\n".join(blocks)
    filename = _free_filename(layout.place)
    exec(compile(source, filename, "exec"), scope)  # noqa: S102  # made of the class's own declarations
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return Code(
        scope["__init__"], scope["to_item"], scope["from_item"], {n: scope[f] for n, f in makers.items()}, source
    )


def _free_filename(place: str) -> str:
    """A name no other source goes by: classes made in a function share their place."""
    filename, count = f"<code of {place}>", 1
    while filename in linecache.cache:
        count += 1
        filename = f"<code of {place}, {count}>"
    return filename


def _check(layout: Layout) -> None:
    safe = {
        field.name
        for stored, made in layout.keys.items()
        for field in made.attributes
        if stored in KEY_NAMES[:2] or all(each.required for each in made.attributes)
    }
    stored_as: dict[str, str] = dict.fromkeys((*KEY_NAMES, ENTITY_TYPE, SCHEMA), "a key or the kind")
    for name, field in layout.fields.items():
        if name.startswith("_"):  # the names of generated code do
            raise ConfigurationError(f"{layout.name}.{name}: an attribute's name does not begin with an underscore")
        if not field.stored and name not in safe:
            raise ConfigurationError(
                f"{layout.name}.{name} would be lost: it is stored as a part of a key only, and of none that is always "
                "written; store it under a name of its own"
            )
        for stored in field.reads:
            if stored in stored_as:
                raise ConfigurationError(f"{layout.name}.{name} is stored as {stored}, as is {stored_as[stored]}")
            stored_as[stored] = name
    for made in (layout.keys[name] for name in KEY_NAMES[:2]):
        for field in made.attributes:
            if not field.required:
                raise ConfigurationError(f"{layout.name}.{field.name} is a part of the primary key, so it is required")


def _function(head: str, body: Iterable[str]) -> str:
    return "\n    ".join([f"def {head}:", *body]) + "\n"


# The constructor


def _init(layout: Layout, scope: Scope) -> str:
    parameters: list[str] = []
    body: list[str] = []
    for name, field in layout.fields.items():
        parameters.append(f"{name}={_default_source(field, body, scope)}")
        body += field.check_source(scope)
    body.append("if _unknown:")
    body.append("    _refuse(_self, _unknown)")
    body += _values_source(layout)
    for name in ("PK", "SK"):  # a key that cannot be built is refused here, not at the first write
        made = layout.keys[name]
        if not made.format.always_fits():
            short = made.format.short_source([field.name for field in made.attributes])
            body.append(_key_source(made, scope) if short is None else f"if not ({short}): {_key_source(made, scope)}")
    return _function(f"__init__(_self, *, {', '.join(parameters)}, **_unknown)", body)


def _values_source(layout: Layout) -> list[str]:
    """Statements that give the entity its values; Python makes a display of up to 15 items at once."""
    names = list(layout.fields)
    display = ", ".join(f"{name!r}: {name}" for name in names[:15])
    rest = [f"_values[{name!r}] = {name}" for name in names[15:]]
    return [f"_self.attribute_values = _values = {{{display}}}", *rest]


def _default_source(field: Field, body: list[str], scope: Scope) -> str:
    if field.fallback is None:
        return "None"
    if callable(field.fallback):
        body.append(f"if {field.name} is _missing: {field.name} = {bind(scope, 'default', field.fallback)}()")
        return "_missing"
    return bind(scope, "default", field.fallback)


def _refuse(entity: object, unknown: Mapping[str, Any]) -> None:
    name, value = next(iter(unknown.items()))
    raise ValidationError(name, value, f"{type(entity).__name__} has no such attribute")


# Keys


def _key_source(made: MadeOf, scope: Scope) -> str:
    """Expression for a key, of variables named as its attributes."""
    return made.format.join_source([field.name for field in made.attributes], scope)


def _nullable(made: MadeOf) -> list[str]:
    return [field.name for field in made.attributes if not field.required]


def _key_maker(function: str, made: MadeOf, scope: Scope) -> str:
    body = [f"{field.name} = _values.get({field.name!r})" for field in made.attributes]
    body += [f"if {field.name} is None: return None" for field in made.attributes]
    return _function(f"{function}(_values)", [*body, f"return {_key_source(made, scope)}"])


# Writing


def _to_item(layout: Layout, scope: Scope) -> str:
    needed = dict.fromkeys(field.name for made in layout.keys.values() for field in made.attributes)
    body = ["_values = _self.attribute_values"]
    body += [f"{name} = _values[{name!r}]" for name in needed]
    whole, optional = [], []
    for stored, made in layout.keys.items():
        entry = f"{{'S': {_key_source(made, scope)}}}"
        nullable = _nullable(made)
        if nullable:
            present = " and ".join(f"{name} is not None" for name in nullable)
            optional.append(f"if {present}: _item[{stored!r}] = {entry}")
        else:
            whole.append(f"{stored!r}: {entry},")
    whole += [f"{ENTITY_TYPE!r}: {{'S': {layout.kind!r}}},", f"{SCHEMA!r}: {{'N': '{layout.schema}'}},"]
    for name, field in layout.fields.items():
        if not field.stored:
            continue
        if field.required:
            value = name if name in needed else f"_values[{name!r}]"
            whole.append(f"{field.stored!r}: {field.encode_source(value, scope)},")
        else:
            optional.append(f"_v = _values[{name!r}]")
            optional.append(f"if _v is not None: _item[{field.stored!r}] = {field.encode_source('_v', scope)}")
    body += ["_item = {", *(f"    {line}" for line in whole), "}", *optional]
    body.append(f"if 'extra' in _self.__dict__: {bind(scope, 'keep', _keep)}(_item, _self.extra)")
    return _function("to_item(_self)", [*body, "return _item"])


def _keep(item: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Put back what the class does not know; a newer ``SchemaVer`` is not lowered."""
    for name, value in extra.items():
        if name not in item or name == SCHEMA:
            item[name] = value


# Reading


def _from_item(layout: Layout, scope: Scope) -> str:
    known = frozenset((*KEY_NAMES, ENTITY_TYPE, SCHEMA, *(f.stored for f in layout.fields.values() if f.stored)))
    read: list[str] = []
    from_keys: set[str] = set()
    for stored, made in layout.keys.items():
        read += _read_key_source(stored, made, from_keys, scope)
    for name, field in layout.fields.items():
        if name not in from_keys:
            read += _read_source(field, scope)
    scope["_known"] = known
    body = [
        "_get = _item.get",
        f"if _get({SCHEMA!r}) != {{'N': '{layout.schema}'}}:",
        f"    return {bind(scope, 'upgraded', upgraded)}(_cls, _item)",
        "try:",
        *(f"    {line}" for line in read),
        "except _unreadable:",
        "    return _careful(_cls, _item)",
        "_self = _new(_cls)",
        *_values_source(layout),
        "if not _known.issuperset(_item):",
        "    _self.extra = {_n: _w for _n, _w in _item.items() if _n not in _known}",
        "return _self",
    ]
    return _function("from_item(_cls, _item)", body)


def _unstored(made: MadeOf, from_keys: set[str]) -> set[str]:
    """Names of the attributes that are read from this key: those that are stored nowhere else."""
    new = {field.name for field in made.attributes if not field.stored} - from_keys
    from_keys |= new
    return new


def _read_key_source(stored: str, made: MadeOf, from_keys: set[str], scope: Scope) -> list[str]:
    new = _unstored(made, from_keys)
    if not new and stored not in KEY_NAMES[:2]:
        return []
    names = [field.name if field.name in new else f"_other{place}" for place, field in enumerate(made.attributes)]
    lines = [f"_k = _item[{stored!r}]['S']"]
    split = made.format.split_source("_k", names)
    if split is None:
        parse = bind(scope, "parse", made.format.parse)
        return [*lines, f"{', '.join(names)}, = {parse}(_k)" if names else f"{parse}(_k)"]
    for field, name in zip(made.attributes, names, strict=True):
        if field.known is not None:
            known, accept = bind(scope, "ids", field.known), bind(scope, "accept", field.accept)
            split.append(f"if {name} not in {known}: {accept}({name})")
    return lines + split


def _read_source(field: Field, scope: Scope) -> list[str]:
    name, value = field.name, field.decode_source("_w", scope) if field.stored else ""
    if not field.stored:
        return ["raise LookupError"]  # a part of a key this class does not have: only its default is left
    lines = [f"_w = _get({field.stored!r})"]
    others = [repr(other) for other in field.reads[1:]]
    if others:
        lines.append(f"if _w is None and ({' or '.join(f'{other} in _item' for other in others)}): raise LookupError")
    if field.required:
        return [*lines, f"{name} = {value}"]
    return [*lines, f"{name} = None if _w is None else {value}"]


def upgraded(entity: type[Entity], item: Mapping[str, Any]) -> Entity:
    """The entity of an item whose ``SchemaVer`` is not that of the class: an older one is upgraded step by step.

    An item without one has the first. One that is newer than the class is read as it is; what the class does not know
    is kept, its ``SchemaVer`` with it.

    Raises:
        CorruptItem: The ``SchemaVer`` is no number, or an upgrade changed the primary key.
    """
    try:
        version = int(item.get(SCHEMA, {"N": "1"})["N"])
    except UNREADABLE:
        raise CorruptItem(item_name(item), SCHEMA, "is not a whole number") from None
    if version > entity.schema:
        return read_carefully(entity, item)
    new = dict(item)
    for step in range(version, entity.schema):
        upgrade = entity.upgrades.get(step)
        new = new if upgrade is None else dict(upgrade(new))
    for name in KEY_NAMES[:2]:
        if new.get(name) != item.get(name):
            raise CorruptItem(item_name(item), name, "is changed by an upgrade: an upgrade keeps the primary key")
    new[SCHEMA] = {"N": str(entity.schema)}
    return entity.from_item(new)


def read_carefully(entity: type[Entity], item: Mapping[str, Any]) -> Entity:
    """The entity of an item of any form that can be read.

    Raises:
        CorruptItem: A key or attribute is missing or cannot be read; the message names the item and the attribute.
    """
    layout = entity.layout
    own: dict[str, Any] = {}
    rest = dict(item)
    from_keys: set[str] = set()
    for name in KEY_NAMES:
        stored, made = rest.pop(name, None), layout.keys.get(name)
        if made is None:
            continue
        new = _unstored(made, from_keys)
        if name in KEY_NAMES[:2] or (new and stored is not None):
            _read_key(item, name, made, new, own)
    for name, field in layout.fields.items():
        if name not in own:
            own[name] = _read_attribute(item, field, rest)
    rest.pop(ENTITY_TYPE, None)
    if rest.get(SCHEMA) == {"N": str(layout.schema)}:
        del rest[SCHEMA]
    self = object.__new__(entity)
    self.attribute_values = {name: own[name] for name in layout.fields}
    if rest:
        self.extra = rest
    return self


def item_name(item: Mapping[str, Any]) -> str:
    """An item's key for a message: ``AGT001 / METADATA``."""
    return " / ".join(str(item.get(name, {}).get("S", "?")) for name in KEY_NAMES[:2])


def _read_key(item: Mapping[str, Any], name: str, made: MadeOf, wanted: set[str], own: dict[str, Any]) -> None:
    try:
        values: Sequence[Any] = made.format.parse(item[name]["S"])
    except (KeyError, TypeError):
        raise CorruptItem(item_name(item), name, "is missing") from None
    except ValidationError as error:
        raise CorruptItem(item_name(item), name, str(error)) from None
    named = zip((field.name for field in made.attributes), values, strict=True)
    own.update((field, value) for field, value in named if field in wanted)


def _read_attribute(item: Mapping[str, Any], field: Field, rest: dict[str, Any]) -> Any:
    for stored in field.reads:
        wire = rest.pop(stored, None)
        if wire is None or "NULL" in wire:
            continue
        try:
            return field.deserialize(wire[field.attr_type] if field.attr_type in wire else wire["S"])
        except UNREADABLE as error:
            raise CorruptItem(item_name(item), stored, f"cannot be read: {error}") from None
    if field.required and field.fallback is None:
        raise CorruptItem(item_name(item), field.stored or field.name, "is missing, although it is required")
    return field.fallback() if callable(field.fallback) else field.fallback
