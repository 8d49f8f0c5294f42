"""The form of proposed arguments: a field for each, as the tool's schema describes it, and what is read from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentmodel.console._site import visible
from agentmodel.exceptions import ValidationError

__all__ = ["edited_arguments", "fields_of"]

_DEPTH = 3  # of objects whose members are fields; deeper ones are JSON
_INPUTS: Final = {"date": r"\d{4}-\d\d-\d\d", "time": r"\d\d:\d\d(:\d\d)?"}
"""Formats with an input of their own, and the values that it can show: it would drop others."""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip


def fields_of(
    arguments: Any, spec: Mapping[str, Any] | None, typed: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return a field of the form for each argument; members of objects are fields too.

    An argument that the schema has and that was not proposed is an empty field: left empty, it is not given.

    Args:
        arguments: The proposed arguments; JSON.
        spec: The tool's JSON Schema.
        typed: What was typed before, by name of the field.
    """
    typed = typed or {}
    if not isinstance(arguments, dict):
        return [_field("", json.dumps(arguments, ensure_ascii=False, indent=2), typed, {}, is_text=False)]
    return list(_fields(arguments, _schema(spec), typed, ()))


def edited_arguments(proposed: Any, form: Mapping[str, str], spec: Mapping[str, Any] | None = None) -> Any:
    """Return the arguments as the form has them: a text stays a text, everything else is JSON.

    >>> edited_arguments({"place": "X", "guests": 4}, {"arg.place": "Y", "arg.guests": "6"})
    {'place': 'Y', 'guests': 6}

    Raises:
        ValidationError: A field is not JSON, or not what the schema admits.
    """
    if not isinstance(proposed, dict):
        return _json("arguments", form["arg."], proposed) if "arg." in form else proposed
    return _edited(proposed, form, _schema(spec), ())


def _schema(spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schema of the arguments, which some write below ``parameters``."""
    spec = spec or {}
    found = spec if "properties" in spec else spec.get("parameters")
    return dict(found) if isinstance(found, Mapping) else {}


def _members(schema: Any) -> dict[str, Any]:
    """Return the schemas of an object's members."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return {name: each for name, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}


def _name(path: tuple[str, ...]) -> str:
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in path)


def _is_group(value: Any, path: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and bool(value) and len(path) < _DEPTH


def _fields(
    value: Mapping[str, Any], schema: Any, typed: Mapping[str, str], path: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    members = _members(schema)
    for name, one in value.items():
        here, about = (*path, name), members.get(name, {})
        if _is_group(one, here):
            yield from _fields(one, about, typed, here)
        else:
            yield _field(_name(here), _text(one), typed, about, is_text=isinstance(one, str))
    for name, about in members.items():
        if name not in value:
            text = about.get("type") == "string"
            yield _field(_name((*path, name)), "", typed, about, is_text=text, given=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _field(
    name: str, was: str, typed: Mapping[str, str], about: Mapping[str, Any], *, is_text: bool, given: bool = True
) -> dict[str, Any]:
    value, kind = typed.get(f"arg.{name}", was), about.get("type")
    enum = about.get("enum")
    choices = [_text(each) for each in enum] if isinstance(enum, list) else []
    if kind == "boolean" and not choices:
        choices = ["true", "false"]
    if choices:
        choices = list(dict.fromkeys([*([] if was else [""]), *choices, *([value] if value else [])]))
    pattern = _INPUTS.get(str(about.get("format")))
    fits = is_text and pattern is not None and all(not each or re.fullmatch(pattern, each) for each in (was, value))
    bounds = [f"{sign} {about[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in about]
    return {
        "name": name,
        "kind": "text" if is_text else "json",
        "input": about.get("format") if fits else "",
        "number": kind in ("integer", "number"),
        "given": given,
        "was": was,
        "value": value,
        "hidden": visible(was) if visible(was) != was else "",
        "choices": choices,
        "about": " ".join([str(about.get("description", "")), ", ".join(bounds)]).strip(),
        "rows": min(max(was.count("\n") + 1, len(was) // 60 + 1), 10),
    }


def _edited(value: Mapping[str, Any], form: Mapping[str, str], schema: Any, path: tuple[str, ...]) -> dict[str, Any]:
    members, found = _members(schema), dict[str, Any]()
    for name, was in value.items():
        here, about = (*path, name), members.get(name, {})
        if _is_group(was, here):
            found[name] = _edited(was, form, about, here)
        else:
            found[name] = _value(_name(here), was, form.get(f"arg.{_name(here)}"), about)
    for name, about in members.items():
        given = form.get(f"arg.{_name((*path, name))}", "")
        if name not in value and given:
            full = _name((*path, name))
            found[name] = _read(full, given, about, is_text=about.get("type") == "string")
    return found


def _value(name: str, was: Any, given: str | None, about: Mapping[str, Any]) -> Any:
    if given is None:
        return was
    is_text = isinstance(was, str)
    shown = was.replace("\r\n", "\n").replace("\r", "\n") if is_text else _text(was)  # a browser has one line end
    return was if given == shown else _read(name, given, about, is_text=is_text)


def _read(name: str, given: str, about: Mapping[str, Any], *, is_text: bool) -> Any:
    """Return what was typed: one of the schema's choices as it has it, a text, or JSON, if the schema admits it.

    A choice is offered without the quotes of JSON, so it is looked for by that text; as a text first where it is both.
    A text that was proposed where the schema admits none is mended by JSON.
    """
    enum = about.get("enum")
    choices = [each for each in enum if _text(each) == given] if isinstance(enum, list) else []
    if choices:
        return next((each for each in choices if isinstance(each, str) is is_text), choices[0])
    is_text = is_text and ("string" in _kinds(about) or not _kinds(about))
    return _checked(name, given if is_text else _json(name, given, None), about)


def _kinds(about: Mapping[str, Any]) -> list[Any]:
    """Return the types that a schema admits; none where it says nothing."""
    kinds = about.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []


def _checked(name: str, value: Any, about: Mapping[str, Any]) -> Any:
    """Return a value that was typed, if the schema admits it."""
    kinds = _kinds(about)
    admitted = tuple(each for kind in kinds for each in _TYPES.get(str(kind), (object,)))
    is_flag = isinstance(value, bool) and bool not in admitted and object not in admitted
    if admitted and (is_flag or not isinstance(value, admitted)):
        raise ValidationError(name, value, f"must be of the type {' or '.join(map(str, kinds))}")
    enum = about.get("enum")
    if isinstance(enum, list) and value not in enum:
        raise ValidationError(name, value, "must be one of " + ", ".join(_text(each) for each in enum))
    if isinstance(value, int | float) and not isinstance(value, bool):
        for key, sign in (("minimum", "at least"), ("maximum", "at most")):
            bound = about.get(key)
            if isinstance(bound, int | float) and (value < bound if key == "minimum" else value > bound):
                raise ValidationError(name, value, f"must be {sign} {bound}")
    return value


def _json(name: str, given: str, was: Any) -> Any:
    if given == json.dumps(was, ensure_ascii=False, indent=2):
        return was
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        raise ValidationError(name, given, 'must be JSON, such as 4, "text", ["a", "b"] or null') from None
