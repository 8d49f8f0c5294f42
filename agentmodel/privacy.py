"""Redact secrets and personal data in texts, before they are kept anywhere.

A `Redactor` is any callable that takes a text and returns it without what must not be kept. `PatternRedactor` is the
built-in one. Pass it, or one of your own, as ``AgentModel(..., redact=…)``; ``redact=True`` and
``AGENTMODEL_REDACT=on`` use the built-in one as it is.

>>> PatternRedactor()("write to mina@example.com, card 4111 1111 1111 1111")
'write to [email], card [card]'
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from pydantic import SecretStr

from agentmodel._values.secret_forms import (
    API_KEY,
    BEARER,
    FIELD,
    HEADER,
    MARK,
    MEMBER,
    PASSWORD,
    PRIVATE_KEY,
    URL_PASSWORD,
    WORDS,
    ascii_spelling,
    emails,
    may_have_key,
    numbers,
    plain_name,
)
from agentmodel._version import installed_version
from agentmodel.exceptions import MissingExtraError, ValidationError

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine  # pyright: ignore[reportMissingImports]  # a large extra

__all__ = ["Action", "Kind", "PatternRedactor", "PresidioRedactor", "Redactor"]

Action = Literal["mask", "drop", "token", "keep"]
"""What becomes of a find. ``mask`` puts its kind in its place (``[email]``), ``drop`` nothing (``null`` in place of a
member of JSON), ``token`` its kind and a keyed token, which is the same for equal values (``[email:…]``); ``keep``
leaves it."""

Kind = Literal[
    "api_key", "private_key", "password", "card", "email", "phone", "iban", "resident_number", "business_number"
]
"""What `PatternRedactor` finds."""

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")  # a token without digits is no number of anybody
_SHORTEST_KEY = 16  # characters of a key for tokens


class Redactor(Protocol):
    """Takes a text, and returns it without what must not be kept.

    Called with plain texts: a JSON text is taken apart before, and each string and number in it is passed by itself.
    It is called by several threads at once. If it raises, the text is left out.

    One that is changed from time to time can have an attribute ``rules``, a text that is another one then: the next
    export writes everything anew.

    >>> def without_names(text: str) -> str:
    ...     return text.replace("Mina", "[name]")
    >>> from agentmodel import AgentModel
    >>> with AgentModel.local(redact=without_names) as own, own.session("USR001", "a café for Mina") as session:
    ...     pass
    >>> session.entity.request
    'a café for [name]'
    """

    def __call__(self, text: str, /) -> str:
        """Return the text without what must not be kept."""
        ...


class PatternRedactor:
    """Finds secrets and personal data by their forms and check digits.

    API keys and tokens of the usual forms, passwords in URLs and beside their name, private keys, card numbers, e-mail
    addresses, telephone numbers, IBANs, Korean resident registration numbers and business numbers.

    Args:
        action: What becomes of a find, unless ``kinds`` or ``fields`` say otherwise.
        kinds: What becomes of the finds of single kinds.
        fields: What becomes of the members of these names in JSON, such as ``{"home_address": "drop"}``. Case, ``-``
            and ``_`` in names make no difference. They add to the built-in names (``password``, ``api_key``,
            ``authorization``, ``db_password`` and the like); ``keep`` takes one out.
        key: Secret of at least 16 characters that makes the tokens. Programs with the same key make the same tokens.

    Raises:
        ValidationError: A kind or an action does not exist, or there are tokens to make and no key.

    >>> PatternRedactor(kinds={"email": "token"}, key="a secret of sixteen characters")("from mina@example.com")
    'from [email:mfmfipamgdgeapopnlnb]'
    """

    def __init__(
        self,
        *,
        action: Action = "mask",
        kinds: Mapping[Kind, Action] | None = None,
        fields: Mapping[str, Action] | None = None,
        key: SecretStr | str | None = None,
    ) -> None:
        self._actions: dict[str, Action] = dict.fromkeys(get_args(Kind), action)
        for kind, given in (kinds or {}).items():
            if kind not in self._actions:
                raise ValidationError("kinds", kind, "must be one of " + ", ".join(self._actions))
            self._actions[kind] = given
        self._fields: dict[str, Action] = {plain_name(name): given for name, given in (fields or {}).items()}
        self._field_action: Action = action
        for given in (action, *self._actions.values(), *self._fields.values()):
            if given not in get_args(Action):
                raise ValidationError("action", given, "must be one of " + ", ".join(get_args(Action)))
        secret = key.get_secret_value() if isinstance(key, SecretStr) else key
        makes_tokens = "token" in (action, *self._actions.values(), *self._fields.values())
        if makes_tokens and (secret is None or len(secret) < _SHORTEST_KEY):
            shown = None if secret is None else f"{len(secret)} characters"
            raise ValidationError("key", shown, f"must be a secret of at least {_SHORTEST_KEY} characters for tokens")
        self._key = (secret or "").encode()
        names = "|".join("[-_ .]*".join(map(re.escape, name)) for name in self._fields)
        self._own_names = re.compile(names) if names else None

    @property
    def rules(self) -> str:
        """What it finds and what becomes of it, as a text; another key for tokens gives another text."""
        token = self.mark("rules", "key", "token") if self._key else ""
        return json.dumps([self._actions, self._fields, self._field_action, token, installed_version()])

    def __call__(self, text: str, /) -> str:
        """Return the text with its finds replaced."""
        return self.redacted(text, named=self.may_have_field(text))

    def redacted(self, text: str, *, named: bool) -> str:
        """Return the text with its finds replaced; ``named`` is what `may_have_field` says of it.

        >>> PatternRedactor().redacted("call 010-1234-5678", named=False)
        'call [phone]'
        """
        if "@" in text or "＠" in text:
            if "://" in text:
                text = self._replaced(text, "password", URL_PASSWORD)
            text = self._without(text, emails(text))
        if "-----BEGIN" in text:
            text = self._replaced(text, "private_key", PRIVATE_KEY)
        if may_have_key(text):
            text = self._replaced(text, "api_key", API_KEY)
        if named:
            text = self._replaced(text, "api_key", BEARER)
            text = self._replaced(text, "password", PASSWORD)
            text = self._replaced(text, "password", HEADER)
            text = MEMBER.sub(self._member, text)
        return self._without(text, numbers(text))

    def may_have_field(self, text: str) -> bool:
        """Return whether a JSON text may have a member whose name says that it is secret; False is sure.

        >>> PatternRedactor().may_have_field('{"password": "x"}'), PatternRedactor().may_have_field('{"place": "park"}')
        (True, False)
        """
        lower = text.lower()
        return any([word in lower for word in WORDS]) or (  # noqa: C419  # a generator takes longer
            self._own_names is not None and self._own_names.search(lower) is not None
        )

    def field(self, name: str) -> Action:
        """Return what becomes of a member of this name in JSON; ``keep`` if its name says nothing.

        >>> PatternRedactor().field("api-key"), PatternRedactor(fields={"home_address": "drop"}).field("home_address")
        ('mask', 'drop')
        """
        plain = plain_name(name)
        if plain in self._fields:
            return self._fields[plain]
        if FIELD.search(plain) is not None:
            return self._field_action
        return "keep"

    def mark(self, value: str, kind: str, action: Action) -> str:
        """Return what stands in the place of a value.

        >>> PatternRedactor().mark("mina@example.com", "email", "mask")
        '[email]'
        """
        if action == "keep" or MARK.fullmatch(value):
            return value
        if action == "token":
            spelt = ascii_spelling(value)  # however it is written
            same = "".join(char for char in spelt if char.isalnum() or char == "@").lower()
            token = hmac.new(self._key, f"{kind}:{same}".encode(errors="replace"), hashlib.sha256).hexdigest()[:20]
            return f"[{kind}:{token.translate(_LETTERS)}]"
        return "" if action == "drop" else f"[{kind}]"

    def _replaced(self, text: str, kind: str, pattern: re.Pattern[str]) -> str:
        action = self._actions[kind]
        if action == "keep":
            return text
        return pattern.sub(lambda found: self._in_place(found, kind, action), text)

    def _member(self, found: re.Match[str]) -> str:
        """Return what looks like a member of JSON with its value replaced, if its name says that it is secret."""
        action = self.field(found[2])
        if "keep" in (action, self._actions["password"]):
            return found[0]
        return self._in_place(found, "password", action)

    def _in_place(self, found: re.Match[str], kind: str, action: Action) -> str:
        """Return a match with its last group, or else all of it, replaced."""
        group = found.lastindex or 0
        before = found[0][: found.start(group) - found.start()]
        return f"{before}{self.mark(found[group], kind, action)}{found[0][found.end(group) - found.start() :]}"

    def _without(self, text: str, finds: list[tuple[int, int, str]]) -> str:
        parts, done = [], 0
        for start, end, kind in finds:
            if self._actions[kind] != "keep":
                parts += [text[done:start], self.mark(text[start:end], kind, self._actions[kind])]
                done = end
        return "".join([*parts, text[done:]]) if done else text


class PresidioRedactor:
    """Finds what Microsoft Presidio finds, such as names of persons and places; needs the extra ``presidio``.

    Args:
        analyzer: The analyzer; by default Presidio's own, with the language model that it finds installed.
        language: Language of the texts.
        entities: Kinds of finds, such as ``PERSON``; None for all that the analyzer knows.
        score: The least certainty of a find, 0 to 1.
        first: Asked before Presidio, so that what has a form is found too; `PatternRedactor` unless given.

    Attributes:
        first: The same.

    Raises:
        MissingExtraError: Presidio is not installed; the message has the pip line.
    """

    def __init__(
        self,
        analyzer: AnalyzerEngine | None = None,
        *,
        language: str = "en",
        entities: list[str] | None = None,
        score: float = 0.5,
        first: Redactor | None = None,
    ) -> None:
        try:
            from presidio_analyzer import AnalyzerEngine  # pyright: ignore[reportMissingImports]  # a large extra
        except ModuleNotFoundError as error:
            raise MissingExtraError("presidio", "the redactor of Presidio", error.name) from error
        self._analyzer = analyzer if analyzer is not None else AnalyzerEngine(supported_languages=[language])
        self._options: dict[str, Any] = {"language": language, "entities": entities, "score_threshold": score}
        self.first: Redactor = first if first is not None else PatternRedactor()

    @property
    def rules(self) -> str:
        """What it finds, as a text, the analyzer's own rules aside."""
        return json.dumps([self._options, rules_of(self.first)])

    def __call__(self, text: str, /) -> str:
        """Return the text with its finds replaced by their kinds, such as ``[person]``."""
        text = self.first(text)
        taken = [mark.span() for mark in MARK.finditer(text)]
        chosen = []
        for found in sorted(self._analyzer.analyze(text, **self._options), key=lambda each: -each.score):
            if not any(start < found.end and found.start < end for start, end in taken):
                taken.append((found.start, found.end))
                chosen.append(found)
        for found in sorted(chosen, key=lambda each: -each.start):
            text = f"{text[: found.start]}[{found.entity_type.lower()}]{text[found.end :]}"
        return text


def rules_of(redactor: Redactor) -> str:
    """Return a digest of a redactor's rules: of its attribute ``rules``, if it has one, its name and its code.

    >>> rules_of(PatternRedactor()) == rules_of(PatternRedactor()) != rules_of(PatternRedactor(action="drop"))
    True
    """
    function: Any = getattr(redactor, "__func__", redactor)
    named: Any = function if hasattr(function, "__code__") else type(redactor)
    code = getattr(function, "__code__", None) or getattr(type(redactor).__call__, "__code__", None)
    rules = getattr(redactor, "rules", "")
    told = [
        rules if isinstance(rules, str) else "",
        named.__module__,
        named.__qualname__,
        [] if code is None else _told(code),
    ]
    return hashlib.sha256(repr(told).encode(errors="replace")).hexdigest()[:32]


def _told(code: CodeType) -> list[Any]:
    """Return what a function does, without where it stands."""
    constants = [_told(each) if isinstance(each, CodeType) else each for each in code.co_consts]
    # a set has another order in each process
    constants = [sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in constants]
    return [code.co_code, code.co_names, constants]
