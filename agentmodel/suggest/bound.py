"""Arguments of a call of a function: bound by its signature, as JSON names them, and back again after an edit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agentmodel.access.recorder import as_text, fitting

__all__ = ["Bound", "bind", "said", "schema_of", "unbound"]

_OWN = ("self", "cls")  # what a method is called on is no argument


@dataclass(frozen=True, slots=True)
class Bound:
    """Arguments as a signature takes them.

    Attributes:
        given: As they were given, with defaults.
        plain: The same as JSON, by name.
        exact: Whether JSON says all of them, so that two equal ones are the same call.
    """

    given: inspect.BoundArguments
    plain: dict[str, Any]
    exact: bool

    def edited(self, arguments: Any) -> inspect.BoundArguments:
        """These with others in their place; what is as it was shown stays the object it was.

        Raises:
            TypeError: The signature does not take them.
        """
        signature = self.given.signature
        if not isinstance(arguments, Mapping):
            raise TypeError("arguments are given by name")
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


def bind(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
    """Bind a call's arguments.

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
            exact = False  # it may hold what the answer depends on
            continue
        plain[name], alike = _json(value)
        exact = exact and alike
    return Bound(given, plain, exact)


def unbound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that no signature takes, as JSON."""
    named = {name: _json(value)[0] for name, value in kwargs.items()}
    return {"args": [_json(value)[0] for value in args]} | named if args else named


def said(value: Any) -> str | None:
    """A value as text that the stores take, whatever it is; see `as_text`.

    >>> said({"near": "the park"}), said(None)
    ('{"near": "the park"}', None)
    """
    try:
        return fitting(as_text(value))
    except Exception:  # noqa: BLE001  # an object's own words for itself, which may raise anything
        return f"<{type(value).__qualname__}>"


def _json(value: Any) -> tuple[Any, bool]:
    """A value as JSON has it, and whether that says all of it."""
    try:
        plain = json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
        return plain, _same(value, plain)
    except (TypeError, ValueError, RecursionError):
        return said(value), False


def _same(value: Any, plain: Any) -> bool:
    """Whether JSON says all of a value: a tuple is a list to it, names of other types than text are lost."""
    if isinstance(value, list | tuple):
        return len(value) == len(plain) and all(map(_same, value, plain))
    if isinstance(value, dict):
        return value.keys() == plain.keys() and all(_same(value[name], plain[name]) for name in plain)
    return bool(value == plain) and type(value) is type(plain)


class _Quiet(GenerateJsonSchema):
    def emit_warning(self, kind: Any, detail: str) -> None:
        """A default that is no JSON is left out; nobody need know."""


def schema_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    """The JSON schema of a function's arguments, or None where its types have none.

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
