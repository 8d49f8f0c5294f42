"""Key formats: how ids, names, numbers, scores and times become the keys of the table, and back.

No other module joins or splits key text. The formats are a contract with six rules, each a property test in
``tests/property/test_keys.py``: only this module builds keys; two entities never share one; lexical order is the
intended order; no pattern's prefix matches another entity; ``parse(build(x)) == x``; nothing is overwritten.

>>> EXECUTION.build("PRC001", "AGT001", "TL001", 2)
'PRC001#AGT001#TL001#002'
>>> EXECUTION.parse("PRC001#AGT001#TL001")
('PRC001', 'AGT001', 'TL001', 1)
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import unicodedata
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NewType, Protocol, TypeVarTuple

from agentmodel.exceptions import KeyFormatError, ValidationError

__all__ = [
    "AGENT",
    "AGENT_SCORE",
    "DOMAIN",
    "DOMAINS",
    "EXECUTION",
    "FENCE",
    "MAPPING",
    "MAPPINGS",
    "METADATA",
    "PROCESS",
    "PUBLISH",
    "REVIEW",
    "REVIEW_DUE",
    "REVIEW_QUEUE",
    "SESSION",
    "SESSION_ITEMS",
    "TEXT",
    "TOOL",
    "TOOL_NAME",
    "USER",
    "Identifier",
    "KeyFormat",
    "KeyText",
    "check_id",
    "format_number",
    "format_score",
    "format_time",
    "id_of",
    "imported_session_id",
    "new_session_id",
    "parse_number",
    "parse_score",
    "parse_time",
    "plain_attempt",
    "process_id",
    "spread",
    "stable_id",
]

KeyText = NewType("KeyText", str)
"""The text of a whole key, as DynamoDB stores it; made by `KeyFormat.build` only."""

Ts = TypeVarTuple("Ts")

PK_BYTES = 2048  # DynamoDB's limit for a partition key, in UTF-8 bytes
SK_BYTES = 1024  # and for a sort key
MAX_TOKEN = 128  # characters of an id after its prefix
SCORE_LIMIT = 10**8  # scores have eight integer digits
SCORE_DIGITS = 6  # and six decimals

_SEPARATOR = "#"
_AFTER_SEPARATOR = chr(ord(_SEPARATOR) + 1)  # no id holds it, so it closes a range that starts after a separator
_MARKS = "-_.:@+=~"
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9\-_.:@+=~]{1,128}")
_NUMBER = re.compile(r"[0-9]{3}|[A-Z][1-9][0-9]*")
_SCORE = re.compile(r"[0-9]{8}\.[0-9]{6}")
_LEGACY_SCORE = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,6})?")
_TIME = re.compile(r"[0-9]{14,20}")


# Ids


def check_id(field: str, value: object, prefix: str) -> str:
    """The id itself, when it is one.

    An id is its prefix and a token of 1 to 128 letters (of any script), digits and ``-_.:@+=~``, in Unicode NFC.

    Args:
        field: What an error calls the value.
        value: The id to check.
        prefix: ``DMN``, ``AGT``, ``TL``, ``USR``, ``SESS`` or ``PRC``.

    Raises:
        ValidationError: It is not such an id; the message names the character or the rule.

    >>> check_id("agent_id", "AGT001", "AGT")
    'AGT001'
    """
    if not isinstance(value, str):
        raise ValidationError(field, value, f"an id is text such as {prefix}001")
    if not value.startswith(prefix):
        raise ValidationError(field, value, f"this id starts with {prefix}, such as {prefix}001")
    token = value[len(prefix) :]
    if _PLAIN_TOKEN.fullmatch(token):
        return value
    _refuse_token(field, value, prefix)
    return value


def _refuse_token(field: str, value: str, prefix: str) -> None:
    token = value[len(prefix) :]
    if not token:
        raise ValidationError(field, value, f"{prefix} is followed by 1 to {MAX_TOKEN} characters, such as {prefix}001")
    if len(token) > MAX_TOKEN:
        raise ValidationError(field, value, f"{prefix} is followed by at most {MAX_TOKEN} characters, not {len(token)}")
    for place, char in enumerate(token):
        category = unicodedata.category(char)
        letter = category[0] == "L" or category == "Nd" or (category[0] == "M" and place > 0)
        if not (letter or char in _MARKS):
            name = unicodedata.name(char, f"U+{ord(char):04X}")
            raise ValidationError(field, value, f"an id holds letters, digits and {_MARKS} only, not {char!r} ({name})")
    if not unicodedata.is_normalized("NFC", value):
        raise ValidationError(field, value, "an id is in Unicode NFC: pass unicodedata.normalize('NFC', …) of it")


def process_id(number: int) -> str:
    """The id of the ``number``-th process of a session.

    >>> process_id(2), process_id(1000)
    ('PRC002', 'PRCA1000')
    """
    return f"PRC{format_number(number)}"


def new_session_id(started: datetime, *, token: str | None = None) -> str:
    """A session id that sorts by its start; ``token`` keeps apart what starts together (random when not given).

    >>> new_session_id(datetime(2025, 6, 14, 14, 5, 30, tzinfo=UTC), token="k3v9")
    'SESS20250614140530000000-k3v9'
    """
    return check_id("session_id", f"SESS{format_time('started', started)}-{token or secrets.token_hex(5)}", "SESS")


def imported_session_id(started: datetime | None, *names: str) -> str:
    """The id of a session that comes from elsewhere, where it goes by ``names``: it sorts by its start.

    Without a start it sorts before every dated session: no time is invented for it.

    >>> imported_session_id(None, "retail", "0247")
    'SESS0-001197babf00'
    """
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    return check_id("session_id", f"SESS{'0' if started is None else format_time('started', started)}-{digest}", "SESS")


def id_of(prefix: str, name: str, *within: str) -> str:
    """The id that a name gives; an id stays as it is.

    >>> id_of("USR", "USR001"), id_of("USR", "ada"), id_of("AGT", "finder", "support")
    ('USR001', 'USRada', 'AGTsupport-finder~86eb13052ef8')

    Args:
        prefix: Of such ids.
        name: A name, or an id.
        within: Names that the name is unique in.
    """
    if name.startswith(prefix) and len(name) > len(prefix):
        try:
            return check_id("id", name, prefix)
        except ValidationError:
            pass  # a name that begins like an id
    return stable_id(prefix, *within, name)


def stable_id(prefix: str, *names: str) -> str:
    """An id for something that has names but no id: the same names always give the same id, others another.

    One name that is a fit token (and holds no ``~``) stands as it is. Anything else is shortened to its fit
    characters, and ``~`` and twelve hexadecimal digits of the SHA-256 of the names keep it apart.

    >>> stable_id("TL", "get_order_details")
    'TLget_order_details'
    >>> stable_id("AGT", "retail", "gpt-5/toolorchestra")
    'AGTretail-gpt-5-toolorchestra~118c1435e61d'
    """
    names = tuple(_normal("name", name) for name in names)
    if len(names) == 1 and _PLAIN_TOKEN.fullmatch(names[0]) and "~" not in names[0]:
        return prefix + names[0]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    fit = (char if _PLAIN_TOKEN.fullmatch(char) or char.isalpha() else "-" for char in "-".join(names))
    words = [word for word in "".join(fit).replace("~", "-").split("-") if word]
    slug = unicodedata.normalize("NFC", "-".join(words)[:80]).strip("-")
    return check_id("id", f"{prefix}{slug}~{digest}", prefix)


# Numbers, scores and times


def format_number(number: int, *, field: str = "number") -> str:
    """A count as text that sorts as the count: three digits, then a letter for the number of digits.

    >>> [format_number(n) for n in (1, 999, 1000, 10000)]
    ['001', '999', 'A1000', 'B10000']

    Raises:
        ValidationError: It is negative, or not a whole number.
    """
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 10**29:
        raise ValidationError(field, number, "a number in a key is a whole number from 0 up")
    digits = str(number)
    return f"{number:03d}" if len(digits) <= 3 else f"{chr(ord('A') + len(digits) - 4)}{digits}"


def parse_number(text: str) -> int:
    """The count that `format_number` made ``text`` of.

    >>> parse_number("A1000")
    1000
    """
    if _NUMBER.fullmatch(text):
        number = int(text.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        if format_number(number) == text:
            return number
    raise KeyFormatError("number", text, "three digits, or a letter for the number of digits and the digits")


def format_score(score: float, *, field: str = "score") -> str:
    """A score as text that sorts as the score: eight integer and six decimal digits, rounded to them.

    >>> format_score(60), format_score(0.5)
    ('00000060.000000', '00000000.500000')

    Raises:
        ValidationError: It is negative, 10⁸ or more, or not a number.
    """
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score < SCORE_LIMIT:
        raise ValidationError(field, score, f"a score is a number from 0 to below {SCORE_LIMIT}")
    text = f"{score + 0.0:015.6f}"
    if len(text) > 15:
        raise ValidationError(field, score, f"a score is a number from 0 to below {SCORE_LIMIT}")
    return text


def parse_score(text: str) -> float:
    """The score in ``text``; the sample's unpadded ``60`` is read too.

    >>> parse_score("00000060.000000"), parse_score("60")
    (60.0, 60.0)
    """
    if _SCORE.fullmatch(text) or _LEGACY_SCORE.fullmatch(text):
        return float(text)
    raise KeyFormatError("score", text, "eight digits, a point and six digits")


def format_time(field: str, moment: datetime) -> str:
    """A moment as 20 digits of UTC: ``YYYYMMDDHHMMSS`` and microseconds.

    >>> format_time("started", datetime(2025, 6, 14, 23, 5, 30, 250000, tzinfo=UTC))
    '20250614230530250000'

    Raises:
        ValidationError: It has no time zone.
    """
    if not isinstance(moment, datetime):
        raise ValidationError(field, moment, "a time is a datetime with a time zone")
    if moment.tzinfo is None:
        raise ValidationError(field, moment, "a time needs a time zone, such as datetime.now(timezone.utc)")
    try:
        utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError(field, moment, "a time lies between the years 1 and 9999 in UTC") from None
    return (
        f"{utc.year:04d}{utc.month:02d}{utc.day:02d}{utc.hour:02d}{utc.minute:02d}{utc.second:02d}{utc.microsecond:06d}"
    )


def parse_time(text: str, *, field: str = "time") -> datetime:
    """The moment in ``text``: 14 digits of UTC, and up to six of the fraction of a second.

    >>> parse_time("2025061414100223")
    datetime.datetime(2025, 6, 14, 14, 10, 2, 230000, tzinfo=datetime.timezone.utc)
    """
    rule = "14 to 20 digits, YYYYMMDDHHMMSS and a fraction, in UTC"
    if not _TIME.fullmatch(text):
        raise KeyFormatError(field, text, rule)
    try:
        if len(text) == 20 and text[8:10] < "24":  # as we write it: the short way
            return datetime.fromisoformat(f"{text[:8]}T{text[8:14]}.{text[14:]}Z")
        return datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]), int(text[12:14]),
            int(text[14:].ljust(6, "0")) if len(text) > 14 else 0, tzinfo=UTC,
        )  # fmt: skip
    except ValueError as error:
        raise KeyFormatError(field, text, f"{rule}: {error}") from None


def spread(owner: str, partitions: int) -> int:
    """Which of ``partitions`` index partitions the mappings of a user lie in; stable for ever.

    >>> spread("USR001", 1)
    0
    """
    return zlib.crc32(owner.encode()) % partitions


# Free text


def _normal(field: str, text: object) -> str:
    if not isinstance(text, str):
        raise ValidationError(field, text, "it is text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(field, text, f"text is Unicode without lone surrogates: {error.reason}") from None
    return unicodedata.normalize("NFC", text)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("#", "%23") if "%" in text or "#" in text else text


def _unescape(text: str) -> str:
    plain = text.replace("%23", "#").replace("%25", "%") if "%" in text else text
    if _escape(plain) != text:
        raise KeyFormatError("text", text, "free text in a key escapes # as %23 and % as %25, and nothing else")
    return plain


# Parts and formats


class Part(Protocol):
    """One value inside a key: how it is written and read."""

    field: str

    def build(self, value: Any, /) -> str | None:
        """The value's text; None leaves the part out (only the last part of a format may do so)."""

    def parse(self, text: str | None, /) -> Any:
        """The value of a text; None when the part was left out."""


class Identifier:
    """An id with its prefix."""

    def __init__(self, field: str, prefix: str) -> None:
        self.field = field
        self.prefix = prefix

    def build(self, value: Any, /) -> str:
        """The id itself, checked."""
        return check_id(self.field, value, self.prefix)

    def parse(self, text: str | None, /) -> str:
        """The id itself, checked."""
        return check_id(self.field, text, self.prefix)


class _Text:
    """Free text, NFC, percent-escaped for the separator and the percent sign."""

    def __init__(self, field: str) -> None:
        self.field = field

    def build(self, value: Any, /) -> str:
        text = _normal(self.field, value)
        if not text:
            raise ValidationError(self.field, value, "it is not empty: an index key cannot be")
        return _escape(text)

    def parse(self, text: str | None, /) -> str:
        if not text:
            raise KeyFormatError(self.field, text, "it is not empty")
        if _normal(self.field, text) != text:
            raise KeyFormatError(self.field, text, "free text in a key is in Unicode NFC")
        return _unescape(text)


class _Score:
    field = "score"

    def build(self, value: Any, /) -> str:
        return format_score(value)

    def parse(self, text: str | None, /) -> float:
        return parse_score(text or "")


class _Time:
    def __init__(self, field: str) -> None:
        self.field = field

    def build(self, value: Any, /) -> str:
        return format_time(self.field, value)

    def parse(self, text: str | None, /) -> datetime:
        if text is None or len(text) != 20:
            raise KeyFormatError(self.field, text, "a time in a key has 20 digits")
        return parse_time(text, field=self.field)


class _Count:
    """A number that is left out while it is ``first`` (an only attempt, the one partition of the sample)."""

    def __init__(self, field: str, *, first: int) -> None:
        self.field = field
        self.first = first

    def build(self, value: Any, /) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < self.first:
            raise ValidationError(self.field, value, f"a whole number from {self.first} up")
        return None if value == self.first else format_number(value, field=self.field)

    def parse(self, text: str | None, /) -> int:
        if text is None:
            return self.first
        number = parse_number(text)
        if number <= self.first:
            raise KeyFormatError(self.field, text, f"written only when above {self.first}")
        return number


class KeyFormat(Generic[*Ts]):
    """The format of one key: fixed words and parts, joined by ``#``.

    Attributes:
        name: What errors call it.
        fields: Names of the parts, in order.
        limit: Most UTF-8 bytes DynamoDB takes.
        starts: What every key of the format begins with.
    """

    def __init__(self, name: str, *parts: str | Part, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._parts = parts
        self._values: tuple[Part, ...] = tuple(part for part in parts if not isinstance(part, str))
        self.fields = tuple(part.field for part in self._values)
        self.starts = KeyText(_shape(parts[0])[0])

    def __repr__(self) -> str:
        form = _SEPARATOR.join(part if isinstance(part, str) else f"<{part.field}>" for part in self._parts)
        return f"<KeyFormat {self.name}: {form}>"

    def build(self, *values: *Ts) -> KeyText:
        """The key of these values.

        Raises:
            ValidationError: A value is not of its part's form, or the key is longer than DynamoDB takes.
        """
        return self._join(values, len(self._parts))

    def _join(self, values: tuple[Any, ...], parts: int) -> KeyText:
        rest = iter(values)
        texts = [part if isinstance(part, str) else part.build(next(rest)) for part in self._parts[:parts]]
        return self._fitting(_SEPARATOR.join([text for text in texts if text is not None]))

    def parse(self, key: str) -> tuple[*Ts]:
        """The values a key was built of.

        Raises:
            KeyFormatError: The text is no key of this format; the message names the part and the rule.
        """
        if len(key) * 4 > self.limit and len(key.encode(errors="replace")) > self.limit:
            raise KeyFormatError(self.name, key, f"this key takes at most {self.limit} bytes of UTF-8")
        texts: list[str | None] = [*key.split(_SEPARATOR)]
        if len(texts) == len(self._parts) - 1 and isinstance(self._parts[-1], _Count):
            texts.append(None)
        if len(texts) != len(self._parts):
            raise KeyFormatError(self.name, key, f"its form is {self!r}")
        values: list[Any] = []
        for part, text in zip(self._parts, texts, strict=True):
            if not isinstance(part, str):
                values.append(self._parsed(key, part, text))
            elif part != text:
                raise KeyFormatError(self.name, key, f"its form is {self!r}")
        return tuple(values)

    def _parsed(self, key: str, part: Part, text: str | None) -> Any:
        try:
            return part.parse(text)
        except ValidationError as error:
            raise KeyFormatError(self.name, key, f"{part.field}: {error.rule}") from None

    # For generated code: the same, as Python source that works on values which were checked when they were set

    def join_source(self, names: Sequence[str], scope: dict[str, Any]) -> str:
        """Source of an expression for `build`, whose values are the variables ``names``.

        The values were accepted before: ids and scores are not checked again, free text and lengths are.

        Args:
            names: Variables that hold the values, in order.
            scope: Receives what the expression calls.

        >>> SESSION_ITEMS.join_source(["u", "s"], {})
        "f'{u}#{s}'"
        """
        rest = iter(names)
        text = ""
        for place, part in enumerate(self._parts):
            separator = _SEPARATOR if place else ""
            if isinstance(part, _Count):
                text += _source_of_count(part, next(rest), separator, scope)
            else:
                text += separator
                text += _source_of_word(part) if isinstance(part, str) else _source_of_part(part, next(rest), scope)
        if self._most_bytes() <= self.limit:
            return f"f'{text}'"
        fitted = f"{_named('fit', self._fitting, scope)}(f'{text}')"
        short = self.short_source(names)
        return fitted if short is None else f"f'{text}' if {short} else {fitted}"

    def short_source(self, names: Sequence[str]) -> str | None:
        """Source of a condition: the ids in the variables ``names`` are so short that their key fits.

        None when the key holds more than words, ids and a count.
        """
        if not all(isinstance(part, str | Identifier | _Count) for part in self._parts):
            return None
        ids = [name for name, part in zip(names, self._values, strict=True) if isinstance(part, Identifier)]
        rest = sum(len(part) + 1 if isinstance(part, str) else 32 for part in self._parts)  # separators, words, a count
        return f"{' + '.join(f'len({name})' for name in ids)} < {(self.limit - rest) // 4}"

    def split_source(self, text: str, names: Sequence[str]) -> list[str] | None:
        """Source of statements for `parse` of the variable ``text``, for keys of words, ids and a last number only.

        The ids are not checked. A text of another form raises ValueError, as does one with a number written out.

        >>> SESSION_ITEMS.split_source("pk", ["u", "s"])
        ["u, s, = pk.split('#')"]
        """
        if any(not isinstance(part, str | Identifier | _Count) for part in self._parts):
            return None
        rest = iter(names)
        lines, targets = [], []
        for place, part in enumerate(self._parts):
            if isinstance(part, _Count):
                lines.append(f"{next(rest)} = {part.first}")
            else:
                targets.append(f"_word{place}" if isinstance(part, str) else next(rest))
        lines.insert(0, f"{', '.join(targets)}, = {text}.split({_SEPARATOR!r})")
        for place, part in enumerate(self._parts):
            if isinstance(part, str):
                lines.append(f"if _word{place} != {part!r}: raise ValueError({self.name!r})")
        return lines

    def always_fits(self) -> bool:
        """Whether values that were checked one by one always make a key: none of them can be refused or too long."""
        plain = all(isinstance(part, str | Identifier | _Count | _Score) for part in self._parts)
        return plain and self._most_bytes() <= self.limit

    def _most_bytes(self) -> int:
        most = len(self._parts)
        for part in self._parts:
            if isinstance(part, str):
                most += len(part)
            elif isinstance(part, Identifier):
                most += len(part.prefix) + 4 * MAX_TOKEN
            elif isinstance(part, _Text):
                most += self.limit
            else:
                most += 30  # a number, score or time
        return most

    def _fitting(self, key: str) -> KeyText:
        if len(key) * 4 > self.limit and len(key.encode()) > self.limit:
            raise ValidationError(
                self.name, key, f"this key takes at most {self.limit} bytes of UTF-8, not {len(key.encode())}"
            )
        return KeyText(key)

    def prefix(self, *values: object, partial: str | None = None) -> KeyText:
        """What every key with these leading values starts with, for ``begins_with``.

        Args:
            values: Leading values; the prefix ends after the separator that follows them.
            partial: The beginning of the next value, where that is free text.

        Raises:
            ValidationError: The next part may be left out, so that a prefix would miss keys or match neighbours.

        >>> MAPPING.prefix(partial="cafe#")
        'UserPrcToolMapp#cafe%23'
        """
        taken = self._parts_taken(len(values))
        key = self._join(values, taken)
        if taken < len(self._parts) and isinstance(self._parts[taken], _Count):
            raise ValidationError(
                self.name, key, f"its {self.fields[-1]} may be left out: use within(), there is no prefix"
            )
        if taken < len(self._parts):
            key = KeyText(key + _SEPARATOR if key else key)
        return KeyText(key + _escape(_normal(self.name, partial))) if partial else key

    def within(self, *values: object) -> tuple[KeyText, KeyText]:
        """Bounds for BETWEEN that hold every key with these leading values, and no other.

        Raises:
            ValidationError: Nothing of the key is known that a range could hold to.

        >>> EXECUTION.within("PRC001")
        ('PRC001#', 'PRC001$')
        >>> EXECUTION.within("PRC001", "AGT001", "TL001")  # the first attempt has no number
        ('PRC001#AGT001#TL001', 'PRC001#AGT001#TL001$')
        """
        taken = self._parts_taken(len(values))
        key = self._join(values, taken)
        if taken == len(self._parts):
            return key, key
        if not key:
            raise ValidationError(self.name, values, "a range needs the first part of the key")
        low = key if isinstance(self._parts[taken], _Count) else KeyText(key + _SEPARATOR)
        return low, KeyText(key + _AFTER_SEPARATOR)

    def overlaps(self, other: KeyFormat[*tuple[Any, ...]]) -> bool:
        """Whether some text could be a key of both formats.

        >>> AGENT.overlaps(USER), TOOL_NAME.overlaps(AGENT_SCORE), TEXT.overlaps(REVIEW_DUE)
        (False, False, True)
        """
        return any(
            len(ours) == len(theirs) and all(_meet(a, b) for a, b in zip(ours, theirs, strict=True))
            for ours in self._shapes()
            for theirs in other._shapes()
        )

    def begins_with(self, prefix: str) -> bool:
        """Whether some key of this format could begin with ``prefix``.

        >>> EXECUTION.begins_with("PRC"), TOOL.begins_with("PRC")
        (True, False)
        """
        wanted = prefix.split(_SEPARATOR)
        for shape in self._shapes():
            if len(shape) >= len(wanted):
                whole = all(_meet(a, (text, False)) for a, text in zip(shape, wanted[:-1], strict=False))
                if whole and _may_begin(shape[len(wanted) - 1], wanted[-1]):
                    return True
        return False

    def _shapes(self) -> list[list[tuple[str, bool]]]:
        """What each part's text begins with, and whether more may follow; one list for each number of parts."""
        shape = [_shape(part) for part in self._parts]
        return [shape, shape[:-1]] if isinstance(self._parts[-1], _Count) else [shape]

    def _parts_taken(self, values: int) -> int:
        seen = 0
        for place, part in enumerate(self._parts):
            if not isinstance(part, str):
                if seen == values:
                    return place
                seen += 1
        return len(self._parts)


def plain_attempt(key: str) -> tuple[str, str, str, int]:
    """The parts of an execution key whose attempt is a plain number, as other writers may have it.

    >>> plain_attempt("PRC001#AGT001#TL001#2")
    ('PRC001', 'AGT001', 'TL001', 2)
    """
    head, _, attempt = key.rpartition(_SEPARATOR)
    if not re.fullmatch(r"[0-9]{1,9}", attempt) or int(attempt) < 1:
        raise KeyFormatError("execution key", key, "its attempt is a number from 1 up")
    process_id, agent_id, tool_id, _ = EXECUTION.parse(head)
    return process_id, agent_id, tool_id, int(attempt)


def _shape(part: str | Part) -> tuple[str, bool]:
    if isinstance(part, str):
        return part, False
    return (part.prefix, True) if isinstance(part, Identifier) else ("", True)


def _meet(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
    """Whether some text is of both shapes."""
    (a, a_open), (b, b_open) = one, other
    if a_open and b_open:
        return a.startswith(b) or b.startswith(a)
    return a == b if a_open == b_open else (a if b_open else b).startswith(b if b_open else a)


def _may_begin(shape: tuple[str, bool], prefix: str) -> bool:
    text, more = shape
    return text.startswith(prefix) or (more and prefix.startswith(text))


def _named(word: str, helper: Any, scope: dict[str, Any]) -> str:
    name = f"_{word}{len(scope)}"
    scope[name] = helper
    return name


def _source_of_word(word: str) -> str:
    return word.replace("\\", "\\\\").replace("'", "\\'").replace("{", "{{").replace("}", "}}")


def _source_of_part(part: Part, name: str, scope: dict[str, Any]) -> str:
    if isinstance(part, Identifier):
        return f"{{{name}}}"
    if isinstance(part, _Score):
        return f"{{{name}:015.6f}}"
    return f"{{{_named('part', part.build, scope)}({name})}}"


def _source_of_count(part: _Count, name: str, separator: str, scope: dict[str, Any]) -> str:
    helper = _named("part", lambda number: f"{separator}{part.build(number)}", scope)
    return f'{{"" if {name} == {part.first} else {helper}({name})}}'


DOMAIN: KeyFormat[str] = KeyFormat("domain key", Identifier("domain_id", "DMN"), limit=PK_BYTES)
AGENT: KeyFormat[str] = KeyFormat("agent key", Identifier("agent_id", "AGT"), limit=PK_BYTES)
USER: KeyFormat[str] = KeyFormat("user key", Identifier("user_id", "USR"), limit=PK_BYTES)
SESSION_ITEMS: KeyFormat[str, str] = KeyFormat(
    "key of a session's items", Identifier("user_id", "USR"), Identifier("session_id", "SESS"), limit=PK_BYTES
)
"""Partition of a session's processes, executions and reviews."""

SUGGESTIONS: KeyFormat[str] = KeyFormat(
    "key of a user's suggestions", Identifier("user_id", "USR"), "SUGGEST", limit=PK_BYTES
)
"""Partition of what was suggested to a user; apart from the user's own, which is read whole."""

FENCE: KeyFormat[str] = KeyFormat("key of a fence", "OUTAGE", _Text("partition"), limit=PK_BYTES)
"""Partition of the mark that numbers of a session were taken while Valkey could not be asked."""

PUBLISH: KeyFormat[()] = KeyFormat("key of the publish mark", "PUBLISH", limit=PK_BYTES)
"""Partition of the item that says which run published last."""

METADATA: KeyFormat[()] = KeyFormat("sort key of a main item", "METADATA", limit=SK_BYTES)
TOOL: KeyFormat[str] = KeyFormat("tool key", Identifier("tool_id", "TL"), limit=SK_BYTES)
SESSION: KeyFormat[str] = KeyFormat("session key", Identifier("session_id", "SESS"), limit=SK_BYTES)
PROCESS: KeyFormat[str] = KeyFormat("process key", Identifier("process_id", "PRC"), limit=SK_BYTES)
EXECUTION: KeyFormat[str, str, str, int] = KeyFormat(
    "execution key",
    Identifier("process_id", "PRC"),
    Identifier("agent_id", "AGT"),
    Identifier("tool_id", "TL"),
    _Count("attempt", first=1),
    limit=SK_BYTES,
)
MAPPING: KeyFormat[str] = KeyFormat("mapping key", "UserPrcToolMapp", _Text("category"), limit=SK_BYTES)
REVIEW: KeyFormat[str] = KeyFormat("review key", "REVIEW", _Text("review_id"), limit=SK_BYTES)
SUGGESTION: KeyFormat[str] = KeyFormat("suggestion key", "SUGGEST", _Text("suggestion_id"), limit=SK_BYTES)

DOMAINS: KeyFormat[()] = KeyFormat("index key of domains", "Domain", limit=PK_BYTES)
MAPPINGS: KeyFormat[int] = KeyFormat(
    "index key of mappings", "UserPrcToolMapp", _Count("partition", first=0), limit=PK_BYTES
)
REVIEW_QUEUE: KeyFormat[str] = KeyFormat("index key of a review queue", "Review", _Text("queue"), limit=PK_BYTES)
AGENT_SCORE: KeyFormat[float] = KeyFormat("index key of a score", "AGTSCORE", _Score(), limit=SK_BYTES)
TOOL_NAME: KeyFormat[str] = KeyFormat("index key of a tool name", "TL", _Text("name"), limit=SK_BYTES)
TEXT: KeyFormat[str] = KeyFormat("index key of a name", _Text("name"), limit=SK_BYTES)
REVIEW_DUE: KeyFormat[datetime] = KeyFormat("index key of a due time", _Time("due"), limit=SK_BYTES)
