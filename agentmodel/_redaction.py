"""Ask a redactor for every text that is kept: of an entity, of a JSON value, of a log line.

Every entity that is written passes `Redaction.entity` on its way into the journal or the table, so no entry point can
leave it out. A text that the redactor fails on is left out, never kept as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any, Literal

from agentmodel._log import logger
from agentmodel._values.secret_forms import MARK
from agentmodel._values.text import TEXT_BYTES, storable_text, type_name
from agentmodel.config import Settings
from agentmodel.exceptions import ValidationError
from agentmodel.privacy import Action, PatternRedactor, PresidioRedactor, Redactor, rules_of

__all__ = ["LEFT_OUT", "Redaction", "marked_texts", "redaction_of", "restored"]

LEFT_OUT = "[left_out]"
"""Stands for a text that the redactor failed on, or of which it left nothing."""

Fields = Literal["values", "schema", "none"]

_log = logger(__name__)

_CUT = re.compile(r"… (?:\[cut, \d+ bytes\]|\(\d+ characters\))")  # what follows a text that was cut
_UNFINISHED = re.compile(r"(?:[^\s\",;{}\[\]]*\d[^\s\",;{}\[\]]*\s+){0,8}[^\s\",;{}\[\]]{0,200}$")
_SCHEMA_VALUES = frozenset({"default", "examples", "example", "const", "enum"})  # members of a JSON schema
_BEFORE_CUT = 256  # characters that may be the beginning of a find
_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|-?\d[\d.eE+-]*|[{}\[\]:,]|true|false|null', re.DOTALL)


def redaction_of(settings: Settings, redact: bool | str | Redactor | None) -> Redaction:
    """Return the redaction of an installation.

    Args:
        settings: Say what to do where ``redact`` does not.
        redact: A redactor; ``True`` and ``"on"`` for the built-in one, ``"token"`` for it with tokens, ``False`` and
            ``"off"`` for none; None for what the settings say.

    Raises:
        ValidationError: It is none of these, or there are tokens to make and no key.
    """
    given = settings.redact if redact is None else redact
    if given in (False, "off"):
        return Redaction(None)
    if given in (True, "on"):
        return Redaction(PatternRedactor())
    if given == "token":
        if settings.redact_key is None:
            raise ValidationError(
                "redact", given, "must have a secret to make tokens with: set AGENTMODEL_REDACT_KEY, or pass "
                "PatternRedactor(action='token', key=…)"
            )  # fmt: skip
        return Redaction(PatternRedactor(action="token", key=settings.redact_key))
    if not callable(given) or iscoroutinefunction(given):
        raise ValidationError(
            "redact", given, "must be True, False, on, off, token, or a function of a text, not async"
        )
    return Redaction(given)


class Redaction:
    """Redacts texts by one redactor; without one it changes nothing.

    Args:
        redactor: Takes a plain text and returns it without what must not be kept; None keeps everything.
    """

    def __init__(self, redactor: Redactor | None) -> None:
        self._redactor = redactor
        self._patterns = redactor if type(redactor) is PatternRedactor else None  # a subclass may find more
        first = redactor.first if isinstance(redactor, PresidioRedactor) else redactor
        self._names = first if isinstance(first, PatternRedactor) else None  # what knows names of members of JSON
        self._warned = False

    @property
    def active(self) -> bool:
        """Whether there is a redactor."""
        return self._redactor is not None

    @property
    def rules(self) -> str | None:
        """A digest of what is redacted; None without a redactor."""
        return None if self._redactor is None else rules_of(self._redactor)

    def text(self, text: str, *, fields: Fields = "values") -> str:
        """Return a text redacted; one of JSON stays valid JSON of the same shape.

        Args:
            text: The text.
            fields: Which members of JSON are redacted by their names too: those with ``values``, those of a
                ``schema``, whose defaults and examples are values, or ``none``.
        """
        if self._redactor is None or not text:
            return text
        if text.lstrip()[:1] in ("{", "[", '"'):
            if self._has_no_find(text, fields=fields):
                return _without_unfinished(text)
            if _is_json(text):
                return self._json(text, fields=fields)
            if _CUT.search(text) is not None:
                text = self._json(text, fields=fields)
        return self._plain(_without_unfinished(text))

    def optional(self, text: str | None) -> str | None:
        """Return a text redacted, or None for None; what is no text becomes one."""
        return None if text is None else self.text(text if isinstance(text, str) else storable_text(text) or "")

    def value(self, value: Any, *, fields: Fields = "values") -> Any:
        """Return a value of JSON redacted: the same object where nothing was found."""
        if self._redactor is None or value is None:
            return value
        try:
            before = json.dumps(value, ensure_ascii=False)
        except Exception:  # noqa: BLE001  # code of the value may raise anything
            return value  # it is not JSON, so it cannot be stored: the attribute says so
        after = self.text(before, fields=fields)
        return value if after == before else json.loads(after)

    def entity(self, entity: Any) -> None:
        """Redact the texts of an entity, so that it is what is written of it; ids stay as they are."""
        if self._redactor is None:
            return
        values = entity.attribute_values
        for name, field in entity.layout.fields.items():
            value = values.get(name)
            if value is not None and field.redact != "none":
                values[name] = self.attribute(field, value)
        if entity.__dict__.get("extra"):
            entity.extra = {name: self.stored(value) for name, value in entity.extra.items()}

    def attribute(self, field: Any, value: Any) -> Any:
        """Return the value of one attribute of an entity redacted, as `dynamo.attributes` declares it."""
        if self._redactor is None or value is None or field.redact == "none":
            return value
        if field.redact == "plain":
            return self._walked(value)
        fields: Fields = "none" if field.redact == "text" else field.redact
        if isinstance(value, str) and not field.holds_json:
            redacted = self.text(value, fields=fields)
            if len(redacted) > len(value):
                redacted = storable_text(redacted, limit=max(TEXT_BYTES, len(value))) or LEFT_OUT
            return redacted if redacted.strip() or not value.strip() else LEFT_OUT
        return self.value(value, fields=fields)

    def stored(self, value: Mapping[str, Any], *, fields: Fields = "values") -> dict[str, Any]:
        """Return a value in the form of DynamoDB's API redacted, such as ``{"S": "…"}``."""
        ((kind, inner),) = value.items()
        if kind == "S":
            return {kind: self.text(inner, fields=fields)}
        if kind == "SS":
            return {kind: [*dict.fromkeys(map(self.text, inner))]}
        if kind == "L":
            return {kind: [self.stored(one) for one in inner]}
        if kind == "M":
            return {kind: {name: self.stored(one) for name, one in inner.items()}}
        return dict(value)

    def log_line(self, text: str) -> str:
        """Return a log line redacted; the warning about a redactor that fails has nothing of a text."""
        return text if text.startswith("redact.failed:") else self.text(text)

    def _plain(self, text: str) -> str:
        """Return what the redactor makes of a text."""
        try:
            redacted = self._redactor(text)  # type: ignore[misc]  # there is one
            if not isinstance(redacted, str):
                raise TypeError(f"it returned {type_name(redacted)}, not text")  # noqa: TRY301  # as if it had raised
            if redacted != text:
                redacted.encode()  # raises where no store takes it
        except Exception as error:  # noqa: BLE001  # a redactor of the application may raise anything
            if not self._warned:
                self._warned = True
                _log.warning(
                    "redact.failed: the redactor raised %s; the text was left out, and so is every further one that it "
                    "fails on: correct the redactor",
                    type_name(error),
                )
            return LEFT_OUT
        return redacted

    def _has_no_find(self, text: str, *, fields: Fields) -> bool:
        """Return whether nothing is found in a text that looks like JSON without reading it as such; True is sure."""
        if self._patterns is None or "\\" in text:
            return False
        named = self._patterns.may_have_field(text)
        return not (named and fields != "none") and self._patterns.redacted(text, named=named) == text

    def _json(self, text: str, *, fields: Fields) -> str:
        """Return a JSON text, or the beginning of one, with its strings, numbers and named members redacted."""
        named: Action = "keep"  # what becomes of the next value, and whether it is one
        is_value = fields == "values"
        around: list[tuple[Action, bool]] = []  # the same for the members of each object and list that is open
        parts, done = [], 0
        for found in _WORD.finditer(text):
            word = found[0]
            if word in "}]":
                if around:
                    around.pop()
            elif word in "{[":
                around.append((named, is_value))
            elif word == ",":
                named, is_value = around[-1] if around else ("keep", fields == "values")
            elif word != ":":
                is_name = word[0] == '"' and text[found.end() : found.end() + 64].lstrip()[:1] == ":"
                action = "keep" if is_name or not is_value else named
                parts += [text[done : found.start()], self._scalar(word, action, fields=fields)]
                done = found.end()
                if is_name and fields != "none":
                    name = _unquoted(word)
                    named = self._named(name) if named == "keep" else named
                    is_value = is_value or name in _SCHEMA_VALUES
        return "".join([*parts, text[done:]])

    def _named(self, name: str) -> Action:
        return "keep" if self._names is None else self._names.field(name)

    def _scalar(self, word: str, named: Action, *, fields: Fields) -> str:
        """Return a string, number, boolean or null of JSON redacted."""
        if word in ("true", "false", "null"):
            return word
        value = _unquoted(word) if word[0] == '"' else word
        if named != "keep" and self._names is not None:
            marked = self._names.mark(value, "redacted", named)
            return json.dumps(marked, ensure_ascii=False) if marked or not value else "null"
        redacted = self.text(value, fields=fields)
        return word if redacted == value else json.dumps(redacted, ensure_ascii=False)

    def _walked(self, value: Any) -> Any:
        """Return plain values of DynamoDB redacted."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self._walked(one) for name, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(map(self._walked, value))
        return value


def restored(edited: Any, *, shown: Any, original: Any) -> Any:
    """Return edited arguments, with the original value wherever the editor left what stands in its place.

    Args:
        edited: The arguments as a person edited them.
        shown: The redacted arguments that the person saw.
        original: The arguments of the call.

    >>> restored({"to": "[email]", "n": 2}, shown={"to": "[email]"}, original={"to": "mina@example.com"})
    {'to': 'mina@example.com', 'n': 2}
    """
    if edited == shown:
        return original
    if isinstance(edited, dict) and isinstance(shown, dict) and isinstance(original, dict):
        return {
            name: restored(value, shown=shown[name], original=original[name])
            if name in shown and name in original
            else value
            for name, value in edited.items()
        }
    if (
        isinstance(edited, list)
        and isinstance(shown, list)
        and isinstance(original, list)
        and len(shown) == len(original)
    ):
        if len(edited) == len(shown):
            return [
                restored(one, shown=mark, original=was) for one, mark, was in zip(edited, shown, original, strict=True)
            ]
        return [original[shown.index(one)] if one in shown else one for one in edited]
    return edited


def marked_texts(value: Any) -> set[str]:
    """Return the texts within a value of JSON that have a mark of a redaction."""
    if isinstance(value, str):
        return {value} if MARK.search(value) else set()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for one in inner for text in marked_texts(one)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _unquoted(token: str) -> str:
    """Return the text of a string of JSON, also of one that was cut."""
    try:
        return str(json.loads(token))
    except ValueError:
        return token.strip('"')


def _without_unfinished(text: str) -> str:
    """Leave out the last word before each cut, which may be the beginning of a find that is none any more."""
    if "… " not in text:
        return text
    parts, done = [], 0
    for found in _CUT.finditer(text):
        start = max(done, found.start() - _BEFORE_CUT)
        parts += [text[done:start], _UNFINISHED.sub("", text[start : found.start()]), found[0]]
        done = found.end()
    return "".join([*parts, text[done:]])
