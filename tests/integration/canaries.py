"""Canaries: texts of one user that no other user may get, planted by what a class or a function takes."""

from __future__ import annotations

import base64
import html
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from agentmodel.dynamo.entity import Entity

MARK = "zQxCanaryqXz"
USER = f"{MARK}@example.com"
"""The name of the user who plants them, and the token of its id."""

TEXTS = {"_TextField", "_Json", "_KeyText"}
"""Kinds of attributes that take any text."""

NO_TEXTS = {
    "_Choice", "_Count", "_Epoch", "_Flag", "_IdentifierField", "_IndexKey", "_KeyCount", "_Moment", "_Number",
    "_ScoreField",
}  # fmt: skip
"""Kinds of attributes that take numbers, times, ids, or one word of a list; an index key follows other attributes."""

planted_by: set[str] = set()
"""Functions whose texts were all planted by `filled`."""


def canary(field: str) -> str:
    """A text that no other user may get, with all that a prompt could be broken by."""
    return f'{MARK}\n\n"{field}" sk-live-{MARK}'


def planted(kind: type[Entity], **given: Any) -> Any:
    """An entity with a canary in each attribute that takes a text and is not given."""
    texts: dict[str, Any] = {}
    for name, attribute in kind.get_attributes().items():
        what = type(attribute).__name__
        assert what in TEXTS | NO_TEXTS, f"{kind.__name__}.{name}: say whether {what} takes any text"
        if what in TEXTS:
            text = canary(f"{kind.__name__}.{name}")
            texts[name] = {text: text} if what == "_Json" else text
    return kind(**(texts | given))


def filled(function: Callable[..., Any], **given: Any) -> dict[str, Any]:
    """The arguments of a recording function: those given, and a canary for each text or value that is not."""
    name = function.__qualname__
    for argument, parameter in inspect.signature(function).parameters.items():
        if argument in given:
            continue
        kind = str(parameter.annotation)
        kind = kind.replace(" | Callable[[], str | None]", "")  # which is asked for the text
        assert kind in ("str", "str | None", "Any"), f"{name}({argument}: {kind}) is not planted: give it"
        text = canary(f"{name} {argument}")
        given[argument] = {text: text} if kind == "Any" else text
    planted_by.add(name)
    return given


def takes_texts(*classes: type) -> Iterator[str]:
    """The public functions of classes that take a text, or any value."""
    for kind in classes:
        for name in dir(kind):
            member = inspect.getattr_static(kind, name)
            function = getattr(member, "__func__", member)
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            kinds = {str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()}
            if kinds & {"str", "str | None", "Any"}:
                yield function.__qualname__


def encodings(mark: str = MARK) -> dict[str, str]:
    """The mark as it could stand in an answer; of base64 the middles of the forms at each of the three offsets."""
    found = {
        "raw": mark,
        "reversed": mark[::-1],
        "hex": mark.encode().hex(),
        "hex of UTF-16": mark.encode("utf-16-le").hex(),
        "percent": "".join(f"%{byte:02X}" for byte in mark.encode()),
        "JSON": "".join(f"\\u{ord(char):04x}" for char in mark),
        "quoted": quote(mark),
        "HTML": "".join(f"&#{ord(char)};" for char in mark),
        "escaped HTML": html.escape(mark),
        "UTF-16": "\0".join(mark),
        "bytes of UTF-16": "\\x00".join(mark),
        "UTF-16 as JSON": "\\u0000".join(mark),
        "code points": ", ".join(str(ord(char)) for char in mark),
    }
    for code in ("utf-8", "utf-16-le"):
        for offset in range(3):
            coded = base64.b64encode(b"x" * offset + mark.encode(code) + b"xxx").decode()
            found[f"base64 of {code} at {offset}"] = coded[4:-8]
    return found


def leaks(found: dict[str, Any]) -> list[str]:
    """Each place and encoding in which the mark stands; upper and lower case are the same."""
    texts = {place: _text(each).casefold() for place, each in found.items()}
    return [
        f"{place} ({name})"
        for place, text in texts.items()
        for name, code in encodings().items()
        if code.casefold() in text
    ]


def _text(found: Any) -> str:
    return "\n".join((json.dumps(found, ensure_ascii=False, default=repr), repr(found), str(found)))


def assert_no_canary(found: dict[str, Any]) -> None:
    """Fail with each place and encoding in which the mark stands."""
    assert [] == leaks(found)
