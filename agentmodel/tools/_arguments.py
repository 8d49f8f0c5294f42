"""Arguments of a call of a function: bound by its signature, as JSON by name, and bound again after an edit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agentmodel._values.text import json_text

__all__ = ["BoundCall", "bind", "plain_arguments", "schema_of"]

_AS_THEY_ARE = (bool, type(None))
_BITS = 64  # of the longest number that has a text whatever the limits of the interpreter are
_OWN = ("self", "cls")  # the object of a method is not an argument


@dataclass(frozen=True, slots=True)
class BoundCall:
    """Arguments of a call, bound by a signature.

    Attributes:
        given: The arguments as given, with defaults.
        plain: The same as JSON, by name.
        exact: Whether the JSON has all of them, so that equal JSON means an equal call.
    """

    given: inspect.BoundArguments
    plain: dict[str, Any]
    exact: bool

    def edited(self, arguments: Any) -> inspect.BoundArguments:
        """Return the arguments after an edit; one that was not changed stays the same object.

        Args:
            arguments: The edited arguments as JSON, by name.

        Raises:
            TypeError: The signature does not take them.
        """
        signature = self.given.signature
        if not isinstance(arguments, Mapping):
            raise TypeError("the arguments must be given by name, in an object")
        unknown = sorted(set(arguments) - set(signature.parameters))
        if unknown:
            raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
        changed = inspect.BoundArguments(signature, dict(self.given.arguments))
        for name in list(changed.arguments):
            if name not in arguments and name in self.plain:
                del changed.arguments[name]
        for name, parameter in signature.parameters.items():
            if name in arguments and (name not in self.plain or arguments[name] != self.plain[name]):
                value = arguments[name]
                changed.arguments[name] = tuple(value) if parameter.kind is parameter.VAR_POSITIONAL else value
        changed.apply_defaults()
        missing = [name for name in signature.parameters if name not in changed.arguments]
        if missing:
            raise TypeError(f"missing a required argument: {missing[0]!r}")
        return changed


def bind(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundCall:
    """Bind the arguments of a call to a signature.

    >>> import inspect
    >>> def search(near: str, *, most: int = 3) -> None: ...
    >>> bind(inspect.signature(search), ("the park",), {}).plain
    {'near': 'the park', 'most': 3}

    Raises:
        TypeError: The signature does not take them.
    """
    given = signature.bind(*args, **kwargs)
    given.apply_defaults()
    plain = {}
    exact = True
    for at, (name, value) in enumerate(given.arguments.items()):
        if at == 0 and name in _OWN:
            exact = False  # the result may depend on the object
            continue
        plain[name], alike = _json(value)
        exact = exact and alike
    return BoundCall(given, plain, exact)


def plain_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that the signature does not take as JSON."""
    named = {name: _json(value)[0] for name, value in kwargs.items()}
    return {"args": [_json(value)[0] for value in args]} | named if args else named


def _json(value: Any) -> tuple[Any, bool]:
    """Return a value as JSON, and whether the JSON has all of it."""
    kind = type(value)
    if kind in _AS_THEY_ARE or (kind is str and value.isascii()) or (kind is int and value.bit_length() <= _BITS):
        return value, True
    try:
        plain = json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
        return plain, _same(value, plain)
    except Exception:  # noqa: BLE001  # not JSON; code of the value may raise anything
        return json.loads(json_text(value).encode(errors="replace")), False


def _same(value: Any, plain: Any) -> bool:
    """Return whether JSON has all of a value; a tuple counts as a list, a key that is not text is lost."""
    if isinstance(value, list | tuple):
        return len(value) == len(plain) and all(map(_same, value, plain))
    if isinstance(value, dict):
        return value.keys() == plain.keys() and all(_same(value[name], plain[name]) for name in plain)
    return bool(value == plain) and type(value) is type(plain)


class _Quiet(GenerateJsonSchema):
    def emit_warning(self, kind: Any, detail: str) -> None:
        """Warn of nothing: a default that is not JSON is left out."""


def schema_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the JSON schema of a function's arguments, or None if its types have none.

    >>> def search(near: str) -> None: ...
    >>> schema_of(search)["properties"]
    {'near': {'title': 'Near', 'type': 'string'}}
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", function))
        schema = adapter.json_schema(schema_generator=_Quiet)
    except Exception:  # noqa: BLE001  # types of the application's own, which may raise anything
        return None
    for name in _OWN:
        schema.get("properties", {}).pop(name, None)
        if name in schema.get("required", ()):
            schema["required"].remove(name)
    return schema
