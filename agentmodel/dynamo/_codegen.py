"""Generate the code of an entity class when the class is created: constructor, ``to_item``, ``from_item`` and keys.

A loop over the attributes would cost more than the work on them. So each class gets functions without loops, as
`dataclasses` and `attrs` generate them. Their source is registered with `linecache`, so tracebacks and debuggers show
it::

    import inspect
    print(inspect.getsource(Agent.to_item))

The functions read items of the usual form. Any other item (an older spelling, a null, a number stored as text) goes to
`agentmodel.dynamo._item_reader`, which knows every form and names what it cannot read.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentmodel.dynamo._attribute import CodeScope, Field, bind
from agentmodel.dynamo._item_reader import UNREADABLE, read_carefully, upgrade_item
from agentmodel.dynamo._layout import ENTITY_TYPE, KEY_NAMES, PRIMARY_KEY, SCHEMA, Key, Layout
from agentmodel.exceptions import ConfigurationError, ValidationError

__all__ = ["Code", "generate"]

_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Code:
    """The generated functions of a class.

    Attributes:
        init: The constructor.
        to_item: Returns the item of an entity.
        from_item: Returns the entity of an item; takes the class and the item.
        keys: By stored name, the functions that return a key for a mapping of attribute values.
        source: The source that they were compiled from.
    """

    init: Callable[..., None]
    to_item: Callable[[Any], dict[str, Any]]
    from_item: Callable[[Any, Mapping[str, Any]], Any]
    keys: Mapping[str, Callable[[Mapping[str, Any]], str | None]]
    source: str


def generate(layout: Layout) -> Code:
    """Generate the code of a class.

    Raises:
        ConfigurationError: The declarations contradict each other; the message names the attribute.
    """
    _check(layout)
    scope: CodeScope = {
        "_type": type, "_str": str, "_int": int, "_float": float, "_list": list, "_dict": dict, "_round": round,
        "_datetime": datetime, "_UTC": UTC, "_missing": _MISSING, "_raise_unknown": _raise_unknown,
        "_careful": read_carefully,
        "_new": object.__new__, "_unreadable": UNREADABLE,
    }  # fmt: skip
    blocks = [_init(layout, scope), _to_item(layout, scope), _from_item(layout, scope)]
    functions = {name: f"key_{name}" for name in layout.keys}
    blocks += [_key_function(functions[name], key, scope) for name, key in layout.keys.items()]
    source = "\n\n".join(blocks)
    filename = _unused_filename(layout.location)
    exec(compile(source, filename, "exec"), scope)  # noqa: S102  # generated from the class's own declarations
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return Code(
        scope["__init__"], scope["to_item"], scope["from_item"], {n: scope[f] for n, f in functions.items()}, source
    )


def _unused_filename(location: str) -> str:
    """Return a file name that no other source has; classes created in one function share their location."""
    filename, count = f"<code of {location}>", 1
    while filename in linecache.cache:
        count += 1
        filename = f"<code of {location}, {count}>"
    return filename


def _check(layout: Layout) -> None:
    always_written = {
        field.name
        for stored, key in layout.keys.items()
        for field in key.attributes
        if stored in PRIMARY_KEY or all(each.required for each in key.attributes)
    }
    stored_as: dict[str, str] = dict.fromkeys(
        (*KEY_NAMES, ENTITY_TYPE, SCHEMA), "a key, the kind or the schema version"
    )
    for name, field in layout.fields.items():
        if name.startswith("_"):  # as the names in generated code do
            raise ConfigurationError(f"{layout.name}.{name} must not begin with an underscore: rename the attribute")
        if not field.stored and name not in always_written:
            raise ConfigurationError(
                f"{layout.name}.{name} would be lost: it is stored only as a part of keys, and none of these is always "
                "written; give it a stored name of its own"
            )
        for stored in field.reads:
            if stored in stored_as:
                raise ConfigurationError(
                    f"{layout.name}.{name} cannot be stored as {stored}, because {stored_as[stored]} is: "
                    "give it another stored name"
                )
            stored_as[stored] = name
    for key in (layout.keys[name] for name in PRIMARY_KEY):
        for field in key.attributes:
            if not field.required:
                raise ConfigurationError(
                    f"{layout.name}.{field.name} must not have the default None: it is a part of the primary key"
                )


def _function(head: str, body: Iterable[str]) -> str:
    return "\n".join(_block(f"def {head}", body)) + "\n"


# The constructor


def _init(layout: Layout, scope: CodeScope) -> str:
    parameters: list[str] = []
    body: list[str] = [_blank_source(layout, scope)]
    for name, field in layout.fields.items():
        parameters.append(f"{name}={_default_source(field, body, scope)}")
        kept = [*field.check_source(scope), f"_values[{name!r}] = {name}"]
        body += kept if field.required else _block(f"if {name} is not None", kept)
    body.append("if _unknown:")
    body.append("    _raise_unknown(_self, _unknown)")
    body.append("_self.attribute_values = _values")
    for name in PRIMARY_KEY:  # so that a key that cannot be built raises here, not at the first write
        key = layout.keys[name]
        if not key.format.always_fits():
            short = key.format.short_source([field.name for field in key.attributes])
            body.append(_key_source(key, scope) if short is None else f"if not ({short}): {_key_source(key, scope)}")
    return _function(f"__init__(_self, *, {', '.join(parameters)}, **_unknown)", body)


def _blank_source(layout: Layout, scope: CodeScope) -> str:
    """Return a statement that makes values without any set: copying a dict takes less than filling one."""
    return f"_values = {bind(scope, 'blank', dict.fromkeys(layout.fields).copy)}()"


def _block(head: str, body: Iterable[str]) -> list[str]:
    return [f"{head}:", *(f"    {line}" for line in body)]


def _default_source(field: Field, body: list[str], scope: CodeScope) -> str:
    if field.default_value is None:
        return "None"
    if callable(field.default_value):
        body.append(f"if {field.name} is _missing: {field.name} = {bind(scope, 'default', field.default_value)}()")
        return "_missing"
    return bind(scope, "default", field.default_value)


def _raise_unknown(entity: object, unknown: Mapping[str, Any]) -> None:
    name, value = next(iter(unknown.items()))
    raise ValidationError(name, value, f"cannot be set because {type(entity).__name__} has no such attribute")


# Keys


def _key_source(key: Key, scope: CodeScope) -> str:
    """Return an expression for a key, made of variables that are named as its attributes."""
    return key.format.join_source([field.name for field in key.attributes], scope)


def _nullable(key: Key) -> list[str]:
    return [field.name for field in key.attributes if not field.required]


def _key_function(function: str, key: Key, scope: CodeScope) -> str:
    body = [f"{field.name} = _values.get({field.name!r})" for field in key.attributes]
    body += [f"if {field.name} is None: return None" for field in key.attributes]
    return _function(f"{function}(_values)", [*body, f"return {_key_source(key, scope)}"])


# Writing


def _to_item(layout: Layout, scope: CodeScope) -> str:
    needed = dict.fromkeys(field.name for key in layout.keys.values() for field in key.attributes)
    body = ["_own = _self.__dict__", "_values = _own['attribute_values']"]
    body += [f"{name} = _values[{name!r}]" for name in needed]
    whole, optional = [], []
    for stored, key in layout.keys.items():
        entry = f"{{'S': {_key_source(key, scope)}}}"
        nullable = _nullable(key)
        if nullable:
            present = " and ".join(f"{name} is not None" for name in nullable)
            optional.append(f"if {present}: _item[{stored!r}] = {entry}")
        else:
            whole.append(f"{stored!r}: {entry},")
    whole += [f"{ENTITY_TYPE!r}: {{'S': {layout.kinds[0]!r}}},", f"{SCHEMA!r}: {{'N': '{layout.schema}'}},"]
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
    body.append(f"if 'extra' in _own: {bind(scope, 'restore', _restore_unknown)}(_item, _own['extra'])")
    return _function("to_item(_self)", [*body, "return _item"])


def _restore_unknown(item: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Put back the attributes that the class does not know; a newer ``SchemaVer`` is not lowered."""
    for name, value in extra.items():
        if name not in item or name == SCHEMA:
            item[name] = value


# Reading


def _from_item(layout: Layout, scope: CodeScope) -> str:
    known = frozenset((*KEY_NAMES, ENTITY_TYPE, SCHEMA, *(f.stored for f in layout.fields.values() if f.stored)))
    read: list[str] = []
    from_keys: set[str] = set()
    for stored, key in layout.keys.items():
        read += _read_key_source(stored, key, from_keys, scope)
    for name, field in layout.fields.items():
        if name not in from_keys:
            read += _read_source(field, scope)
    scope["_known"] = known
    body = [
        "try:",
        f"    _usual = _item[{SCHEMA!r}]['N'] == '{layout.schema}'",
        f"    _usual = _usual and _item[{ENTITY_TYPE!r}]['S'] == {layout.kinds[0]!r}",
        "except _unreadable:",
        "    _usual = False",
        "if not _usual:",
        f"    return {bind(scope, 'upgrade', upgrade_item)}(_cls, _item)",
        _blank_source(layout, scope),
        *_block("try", read),
        "except _unreadable:",
        "    return _careful(_cls, _item)",
        "_self = _new(_cls)",
        "_self.attribute_values = _values",
        "if not _known.issuperset(_item):",
        "    _self.extra = {_n: _w for _n, _w in _item.items() if _n not in _known}",
        "return _self",
    ]
    return _function("from_item(_cls, _item)", body)


def _read_key_source(stored: str, key: Key, from_keys: set[str], scope: CodeScope) -> list[str]:
    new = key.unstored - from_keys
    from_keys |= new
    if not new and stored not in PRIMARY_KEY:
        return []
    names = [field.name if field.name in new else f"_other{index}" for index, field in enumerate(key.attributes)]
    lines = [f"_k = _item[{stored!r}]['S']"]
    split = key.format.split_source("_k", names)
    if split is None:
        parse = bind(scope, "parse", key.format.parse)
        lines.append(f"{', '.join(names)}, = {parse}(_k)" if names else f"{parse}(_k)")
    else:
        lines += split
    for field, name in zip(key.attributes, names, strict=True):
        if split is not None and field.checked_ids is not None:
            checked, accept = bind(scope, "ids", field.checked_ids), bind(scope, "check", field.check_stored)
            lines.append(f"if {name} not in {checked}: {accept}({name})")
        if field.name in new:
            lines.append(f"_values[{name!r}] = {name}")
    return lines


def _read_source(field: Field, scope: CodeScope) -> list[str]:
    if not field.stored:
        return ["raise LookupError"]  # a part of a key that this class does not have: it has its default
    value = f"_values[{field.name!r}] = {field.decode_source(f'_item[{field.stored!r}]', scope)}"
    if field.required:
        return [value]
    older = [f"elif {other!r} in _item: raise LookupError" for other in field.reads[1:]]
    return [f"if {field.stored!r} in _item: {value}", *older]
